//! One line of the access log: what is known of a finished request, and how it is written.
//!
//! A line waits to be written, so its size has a bound that the types keep: text that a client chose is a
//! [`LogText`], which is cut when it is made. Nothing secret is in a line: no headers, no query string (it
//! carries tokens often enough), no user information of an absolute target.
//!
//! Invariants: a line is one JSON object without a line break in it, whatever a client sends; no control
//! character reaches a terminal.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::model::Name;
use crate::telemetry::label::{DecisionReason, Outcome, StreamKind};

/// Longest path that is logged, in bytes.
const MAX_PATH: usize = 1024;
/// Longest host that is logged, in bytes; a DNS name has at most 253, a port 6.
const MAX_HOST: usize = 260;
/// Longest other text that is logged, in bytes.
const MAX_WORD: usize = 128;

/// Bounded text of unknown origin, fit for a log: valid UTF-8 without control characters.
///
/// Bytes that are no UTF-8 and control characters beyond ASCII become `U+FFFD` (JSON escapes those of ASCII
/// itself); what is too long ends with `…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct LogText(Box<str>);

impl LogText {
    /// A short word: a request id, a method.
    #[must_use]
    pub(crate) fn word(bytes: &[u8]) -> Self {
        Self::cut(bytes, MAX_WORD)
    }

    /// A host, with or without a port.
    #[must_use]
    pub(crate) fn host(bytes: &[u8]) -> Self {
        Self::cut(bytes, MAX_HOST)
    }

    /// The path of a request target, at most 1 KiB of it: without query and fragment, and of an absolute
    /// target without scheme and authority.
    #[must_use]
    pub(crate) fn path(target: &[u8]) -> Self {
        let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
        let target = target.get(..end).unwrap_or_default();
        let path = if target.first().is_some_and(|byte| *byte != b'/') {
            let authority = target.windows(3).position(|three| three == b"://").map(|at| at + 3);
            authority.map(|at| {
                let rest = target.get(at..).unwrap_or_default();
                rest.iter().position(|byte| *byte == b'/').and_then(|slash| rest.get(slash..)).unwrap_or(b"/")
            })
        } else {
            None
        };
        Self::cut(path.unwrap_or(target), MAX_PATH)
    }

    fn cut(bytes: &[u8], max: usize) -> Self {
        // Most text is short and printable ASCII: nothing is to be replaced, and one allocation is enough.
        if bytes.len() <= max
            && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return Self(text.into());
        }
        let (kept, is_cut) = bytes.get(..max).map_or((bytes, false), |kept| (kept, bytes.len() > max));
        // A character that the cut went through must not look like invalid bytes.
        let kept = match std::str::from_utf8(kept) {
            Err(error) if is_cut && error.error_len().is_none() => kept.get(..error.valid_up_to()).unwrap_or(kept),
            _ => kept,
        };
        let harmful =
            |c: char| c == '\u{7f}' || (c.is_control() && !c.is_ascii()) || matches!(c, '\u{2028}' | '\u{2029}');
        let mut text = String::from_utf8_lossy(kept).replace(harmful, "\u{fffd}");
        if is_cut {
            text.push('…');
        }
        Self(text.into())
    }
}

/// What is known of a finished request, borrowed: it is written before the request is gone. What is `None` is left
/// out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line<'a> {
    /// When the request began; RFC 3339 in UTC with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: SystemTime,
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<&'a LogText>,
    /// The client's address, as the connection or a trusted proxy states it; none on a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<IpAddr>,
    /// The listener that accepted the connection.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub(crate) listener: Option<&'a Name>,
    /// The protocol that the client speaks: `HTTP/1.1`, `HTTP/2` …
    pub(crate) protocol: &'static str,
    /// The method.
    pub(crate) method: &'a LogText,
    /// The host that was asked for.
    pub(crate) host: &'a LogText,
    /// The path, without the query.
    pub(crate) path: &'a LogText,
    /// The route that matched.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub(crate) route: Option<&'a Name>,
    /// The route's service.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub(crate) service: Option<&'a Name>,
    /// The version that was chosen.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub(crate) version: Option<&'a Name>,
    /// Why that version.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reason")]
    pub(crate) why: Option<DecisionReason>,
    /// The cohort whose split chose it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub(crate) cohort: Option<&'a Name>,
    /// The endpoint that answered, or that was tried last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub(crate) endpoint: Option<&'a Name>,
    /// The lane of the data plane that carried the request.
    pub(crate) lane: &'static str,
    /// The status, or `client_closed`.
    #[serde(serialize_with = "outcome")]
    pub(crate) status: Outcome,
    /// Why Weir itself answered: the value of the `weir-error` header. Or why it ended the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<&'static str>,
    /// What kind of stream it was, if it was one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "kind")]
    pub(crate) stream: Option<StreamKind>,
    /// Bytes of the request's body.
    pub(crate) bytes_in: u64,
    /// Bytes of the response's body, also of an answer of Weir's own.
    pub(crate) bytes_out: u64,
    /// From the first byte of the request to the last of the response, streams included.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub(crate) duration: Duration,
    /// From the first byte of the request to the first byte of the response, as the client saw it.
    #[serde(rename = "first_byte_ms", skip_serializing_if = "Option::is_none", serialize_with = "some_millis")]
    pub(crate) first_byte: Option<Duration>,
    /// From sending the request to the endpoint to the first byte of its response.
    #[serde(rename = "upstream_ms", skip_serializing_if = "Option::is_none", serialize_with = "some_millis")]
    pub(crate) upstream: Option<Duration>,
    /// What making a connection to the endpoint took; none if one was reused.
    #[serde(rename = "connect_ms", skip_serializing_if = "Option::is_none", serialize_with = "some_millis")]
    pub(crate) connect: Option<Duration>,
    /// Attempts beyond the first.
    pub(crate) retries: u32,
    /// The canary on which the request failed before its version answered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rescued_from: Option<&'a str>,
}

impl Line<'_> {
    /// Appends the line to `out`, with its line break.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if let Err(error) = serde_json::to_writer(&mut *out, self) {
            // Writing to memory does not fail and no field refuses to be serialized.
            tracing::warn!(%error, "left a line out of the access log");
            out.truncate(start);
            return;
        }
        out.push(b'\n');
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(24);
    // A clock before 1970 or after 9999 is broken; the line is worth more than its time.
    if write!(text, "{}", humantime::format_rfc3339_millis((*time).max(SystemTime::UNIX_EPOCH))).is_err() {
        "9999-12-31T23:59:59.999Z".clone_into(&mut text);
    }
    serializer.serialize_str(&text)
}

fn outcome<S: Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    match outcome {
        Outcome::Status(status) => serializer.serialize_u16(*status),
        Outcome::ClientClosed => serializer.serialize_str("client_closed"),
    }
}

fn name<S: Serializer>(name: &Option<&Name>, serializer: S) -> Result<S::Ok, S::Error> {
    name.map(|name| &**name).serialize(serializer)
}

fn reason<S: Serializer>(reason: &Option<DecisionReason>, serializer: S) -> Result<S::Ok, S::Error> {
    reason.map(DecisionReason::as_str).serialize(serializer)
}

fn kind<S: Serializer>(kind: &Option<StreamKind>, serializer: S) -> Result<S::Ok, S::Error> {
    kind.map(StreamKind::as_str).serialize(serializer)
}

fn some_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// Milliseconds with three decimals: whole microseconds.
fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e3)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a line borrows, for as long as the test runs.
    fn kept<T>(value: impl Into<T>) -> &'static T {
        Box::leak(Box::new(value.into()))
    }

    /// A line with as little as a line can have.
    pub(in crate::telemetry) fn plain(path: &str) -> Line<'static> {
        Line {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_793_422_801_007),
            request_id: None,
            client: None,
            listener: None,
            protocol: "HTTP/1.1",
            method: kept(LogText::word(b"GET")),
            host: kept(LogText::host(b"shop.example.com")),
            path: kept(LogText::path(path.as_bytes())),
            route: None,
            service: None,
            version: None,
            why: None,
            cohort: None,
            endpoint: None,
            lane: "general",
            status: Outcome::Status(404),
            cause: Some("no_route"),
            stream: None,
            bytes_in: 0,
            bytes_out: 10,
            duration: Duration::from_micros(1_234),
            first_byte: None,
            upstream: None,
            connect: None,
            retries: 0,
            rescued_from: None,
        }
    }

    fn written(line: &Line<'_>) -> String {
        let mut out = Vec::new();
        line.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_refused_request_has_the_fields_that_it_has() {
        assert_eq!(
            written(&plain("/a?token=secret")),
            concat!(
                r#"{"time":"2026-10-31T05:00:01.007Z","protocol":"HTTP/1.1","method":"GET","host":"shop.example.com","#,
                r#""path":"/a","lane":"general","status":404,"cause":"no_route","bytes_in":0,"bytes_out":10,"#,
                r#""duration_ms":1.234,"retries":0}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_carried_request_has_them_all() {
        let line = Line {
            request_id: Some(kept(LogText::word(b"0123"))),
            client: Some("2001:db8::1".parse().unwrap()),
            listener: Some(kept("web")),
            route: Some(kept("checkout")),
            service: Some(kept("shop")),
            version: Some(kept("v2")),
            why: Some(DecisionReason::Affinity),
            cohort: None,
            endpoint: Some(kept("10.0.2.10:8080")),
            status: Outcome::ClientClosed,
            cause: None,
            stream: Some(StreamKind::Sse),
            first_byte: Some(Duration::from_millis(3)),
            upstream: Some(Duration::from_millis(2)),
            connect: Some(Duration::from_millis(1)),
            retries: 1,
            rescued_from: None,
            ..plain("/")
        };
        let json: serde_json::Value = serde_json::from_str(&written(&line)).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 23, "{json}");
        assert_eq!(
            (&json["why"], &json["status"], &json["stream"]),
            (&"affinity".into(), &"client_closed".into(), &"sse".into())
        );
        assert_eq!(
            (&json["connect_ms"], &json["upstream_ms"], &json["first_byte_ms"]),
            (&1.0.into(), &2.0.into(), &3.0.into())
        );
    }

    #[test]
    fn a_path_has_no_query_and_no_user_information() {
        for (target, path) in [
            ("/a/b?c=d", "/a/b"),
            ("/a#b?c", "/a"),
            ("/a://b/c", "/a://b/c"),
            ("http://user:pass@host/a?b", "/a"),
            ("http://user:pass@host", "/"),
            ("http://user:pass@host?a", "/"),
            ("*", "*"),
            ("", ""),
            ("?", ""),
        ] {
            assert_eq!(&*LogText::path(target.as_bytes()).0, path, "{target}");
        }
    }

    #[test]
    fn what_is_long_is_cut_at_a_character() {
        let cut = LogText::path(format!("/{}", "é".repeat(2_000)).as_bytes());
        assert!(cut.0.ends_with("é…") && cut.0.len() <= MAX_PATH + '…'.len_utf8());
        assert_eq!(*LogText::word(&[b'a'; MAX_WORD]).0, *"a".repeat(MAX_WORD));
        assert_eq!(*LogText::word(&[b'a'; MAX_WORD + 1]).0, *("a".repeat(MAX_WORD) + "…"));
    }

    #[test]
    fn a_broken_clock_costs_no_line() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let after = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(written(&Line { time: before, ..plain("/") }).contains("1970-01-01T00:00:00.000Z"));
        assert!(written(&Line { time: after, ..plain("/") }).contains("9999-12-31"));
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_one_line_of_bounded_json(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
            let (word, host, path) = (LogText::word(&bytes), LogText::host(&bytes), LogText::path(&bytes));
            let line = Line { request_id: Some(&word), method: &word, host: &host, path: &path, ..plain("/") };
            let text = written(&line);
            prop_assert!(text.ends_with('\n') && text.lines().count() == 1);
            prop_assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text:?}");
            // An escaped control character has six bytes.
            prop_assert!(text.len() < 6 * (MAX_PATH + MAX_HOST + 2 * MAX_WORD) + 1_000);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(json["host"].as_str(), Some(&*line.host.0));
        }

        #[test]
        fn text_that_is_harmless_is_kept(text in "[a-zA-Z0-9/._~ é€-]{0,128}") {
            prop_assume!(text.len() <= MAX_WORD);
            let word = LogText::word(text.as_bytes());
            prop_assert_eq!(&*word.0, &*text);
        }
    }
}
