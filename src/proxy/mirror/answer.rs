//! What is known of the response to a copy, and how two of them differ.

use std::hash::{DefaultHasher, Hasher as _};

use crate::telemetry::MirrorComparison;

/// The response to a copy. Of what is compared only hashes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: u64,
    /// None if not all of the body was read.
    body: Option<u64>,
}

/// A response that is being read.
pub(super) struct AnswerReader {
    status: u16,
    headers: u64,
    body: DefaultHasher,
}

impl AnswerReader {
    /// Of a response whose head with these fields is here; those of the names in `compared` are.
    pub(super) fn of<'f, I: Iterator<Item = (&'f str, &'f [u8])>>(
        status: u16,
        compared: &[Box<str>],
        fields: impl Fn() -> I,
    ) -> Self {
        let mut headers = DefaultHasher::new();
        for name in compared {
            for (_, value) in fields().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
                headers.write(value);
                headers.write_u8(b'\n');
            }
            headers.write_u8(0);
        }
        Self { status, headers: headers.finish(), body: DefaultHasher::new() }
    }

    /// A piece of the body.
    pub(super) fn body(&mut self, piece: &[u8]) {
        self.body.write(piece);
    }

    /// The end of what is read; `whole`: it is the end of the body too.
    pub(super) fn ended(self, whole: bool) -> Answer {
        Answer { status: self.status, headers: self.headers, body: whole.then(|| self.body.finish()) }
    }
}

/// How the responses to one copy differ.
pub(super) fn compare(one: Option<Answer>, other: Option<Answer>) -> MirrorComparison {
    let (Some(one), Some(other)) = (one, other) else { return MirrorComparison::Unknown };
    if one.status != other.status {
        return MirrorComparison::Status;
    }
    if one.headers != other.headers {
        return MirrorComparison::Headers;
    }
    match (one.body, other.body) {
        (Some(one), Some(other)) if one == other => MirrorComparison::Same,
        (Some(_), Some(_)) => MirrorComparison::Body,
        _ => MirrorComparison::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, pieces: &[&str], whole: bool) -> Answer {
        let compared = ["content-type".into()];
        let fields = [("date", &b"now"[..]), ("Content-Type", kind.as_bytes())];
        let mut reader = AnswerReader::of(status, &compared, || fields.into_iter());
        pieces.iter().for_each(|piece| reader.body(piece.as_bytes()));
        reader.ended(whole)
    }

    #[test]
    fn what_differs_first_counts() {
        let one = answer(200, "text/html", &["a", "bc"], true);
        for (other, difference) in [
            (answer(200, "text/html", &["ab", "c"], true), MirrorComparison::Same),
            (answer(500, "text/plain", &["x"], true), MirrorComparison::Status),
            (answer(200, "text/plain", &["x"], true), MirrorComparison::Headers),
            (answer(200, "text/html", &["abd"], true), MirrorComparison::Body),
            (answer(200, "text/html", &["abc"], false), MirrorComparison::Unknown),
        ] {
            assert_eq!(compare(Some(one), Some(other)), difference);
            assert_eq!(compare(Some(other), Some(one)), difference);
        }
        assert_eq!(compare(Some(one), None), MirrorComparison::Unknown);
    }
}
