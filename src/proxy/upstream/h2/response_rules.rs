//! The header blocks of an HTTP/2 endpoint: a malformed answer is an error of its stream (see
//! [`h2_blocks`](crate::proxy::codec::h2::blocks)).
//!
//! In the place of a malformed block goes an empty one. As a head it has no status, and as trailers (RFC 9113 §8.1) it does
//! not end the stream: the crate answers both as it should the original, by an error of the stream. A block without a
//! status is one of the two, and the crate knows which.

use std::collections::BTreeSet;

use crate::proxy::codec::h2::blocks::{Instead, Opening, Rules};
use crate::proxy::codec::h2::requests;
use crate::proxy::codec::hpack::block::{Field, List};

/// The rules of answers.
#[derive(Debug, Default)]
pub(crate) struct ResponseRules {
    /// Streams whose final head has passed: a status after it is wrong, and the crate drops it in silence.
    answered: BTreeSet<u32>,
}

/// Streams that are remembered as answered. More than are open at once; those that Weir reset are never told to end, and
/// the oldest are forgotten for them.
const ANSWERED: usize = 256;

impl ResponseRules {
    /// A stream ended.
    pub(crate) fn ended(&mut self, stream: u32) {
        self.answered.remove(&stream);
    }

    /// A stream has its final head.
    fn answered(&mut self, stream: u32) {
        if self.answered.insert(stream) && self.answered.len() > ANSWERED {
            self.answered.pop_first();
        }
    }
}

impl Rules for ResponseRules {
    fn judge(&mut self, block: Opening, list: &mut List) -> Option<Instead> {
        let has_status = list.fields.first().is_some_and(|(name, _)| name == ":status");
        let head = has_status && !self.answered.contains(&block.stream);
        let status = if head { head_status(&list.fields) } else { rest_status(&list.fields) };
        if block.ends {
            self.ended(block.stream);
        } else if status.is_some_and(|status| status >= 200) {
            self.answered(block.stream);
        }
        let sound = status.is_some() && !list.is_over();
        (!sound).then(|| Instead { fields: Vec::new(), ends: block.ends && head })
    }
}

/// The status of a head; none if it is malformed (RFC 9113 §8.3.2).
fn head_status(fields: &[Field]) -> Option<u16> {
    let ((name, value), rest) = fields.split_first()?;
    let is_status = name == ":status" && value.len() == 3 && value.iter().all(u8::is_ascii_digit);
    let status = str::from_utf8(value).ok().filter(|_| is_status)?.parse().ok().filter(|status| *status >= 100)?;
    rest.iter().all(|(name, value)| requests::wrong(name, value).is_none()).then_some(status)
}

/// Something where trailers are right.
fn rest_status(fields: &[Field]) -> Option<u16> {
    requests::malformed_trailers(fields).is_none().then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fields: &[(&'static str, &'static str)]) -> List {
        let mut list = List::new(1000);
        let bytes = |text: &'static str| text.as_bytes().into();
        list.fields.extend(fields.iter().map(|(name, value)| (bytes(name), bytes(value))));
        list
    }

    #[test]
    fn malformed_heads_and_trailers_are_errors_of_their_stream() {
        const OK: (&str, &str) = (":status", "200");
        let mut answers = ResponseRules::default();
        let mut judged = |stream, ends, fields: &[(&'static str, &'static str)]| {
            answers.judge(Opening { stream, ends, itself: false }, &mut list(fields)).map(|instead| instead.ends)
        };
        assert_eq!(judged(1, false, &[(":status", "103"), ("handle", "a")]), None);
        assert_eq!(judged(1, false, &[OK, ("a", "b")]), None);
        assert_eq!(judged(1, true, &[("grpc-status", "0")]), None);
        assert_eq!(judged(3, true, &[]), None, "the crate knows that it is no head");
        assert_eq!(judged(3, true, &[("a", "b"), OK]), Some(false));
        for malformed in [
            &[OK, OK][..],
            &[OK, (":path", "/")],
            &[(":status", "20")],
            &[(":status", "099")],
            &[(":status", "1000")],
            &[(":status", "abc")],
            &[OK, ("X", "")],
            &[OK, ("a", "\0")],
            &[OK, ("connection", "close")],
        ] {
            assert_eq!(judged(3, true, malformed), Some(true), "{malformed:?}");
            assert_eq!(judged(3, false, malformed), Some(false), "{malformed:?}");
        }
        // However many streams were reset meanwhile.
        assert_eq!(judged(9, false, &[OK]), None);
        for stream in (11..2011).step_by(2) {
            assert_eq!(judged(stream, false, &[OK]), None);
        }
        assert_eq!(judged(9, true, &[("grpc-status", "0")]), None);
        for malformed in [OK, ("content-length", "1"), ("X", ""), ("a", "\r")] {
            assert_eq!(judged(2013, false, &[OK]), None);
            assert_eq!(judged(2013, true, &[malformed]), Some(false), "{malformed:?}");
        }
    }
}
