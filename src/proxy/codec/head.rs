//! An HTTP/1 request's head while it arrives: whether it is complete, and when it is refused before it is.
//!
//! What arrives in pieces is not parsed again with each piece, which would cost the square of a head's size: its end
//! is looked for from where the last look stopped, and what cannot become a request is found when the first bytes and
//! when the request line are there. Every lane looks here.
//!
//! Invariant: a head that is not complete has at most [`Limits::header_bytes`] of fields and a request line within its
//! limits; whoever holds more has been told to refuse it.

use std::mem::MaybeUninit;

use memchr::memchr;

use crate::traffic::Refusal;
use crate::traffic::validate::Limits;
use crate::traffic::validate::refusal::{FIELDS_TOO_LARGE, METHOD_TOO_LONG, TARGET_TOO_LONG};

/// What arrived is no request, or not framed as one.
pub(crate) const BAD_REQUEST: Refusal =
    Refusal { status: 400, cause: "bad_request", text: "the request is not valid HTTP", close: true };

/// How far the search for a head's end is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    /// No end begins before here.
    searched: usize,
    /// Where the request line ended, once it is there.
    line: Option<usize>,
    /// Its beginning was parsed and is well.
    begun: bool,
}

/// What the bytes that arrived are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// So many bytes of empty lines, to be dropped: old clients send one after a body (RFC 9112 §2.2).
    Blank(usize),
    /// The beginning of a head.
    Part,
    /// A complete head of so many bytes, not parsed yet.
    Complete(usize),
    /// Nothing that can become a request.
    Refused(Refusal),
}

impl Arrival {
    /// A search whose first bytes were parsed already and are the beginning of a request.
    pub(crate) fn begun() -> Self {
        Self { begun: true, ..Self::default() }
    }

    /// Looks at `bytes`, of which those of the last look are the beginning.
    pub(crate) fn look(&mut self, bytes: &[u8], limits: &Limits) -> Look {
        if self.line.is_none() && matches!(bytes, [b'\n', ..] | [b'\r', b'\n', ..]) {
            *self = Self::default();
            return Look::Blank(empty_lines(bytes));
        }
        let had_line = self.line.is_some();
        if let Some(end) = self.search(bytes) {
            return Look::Complete(end);
        }
        if let Some(refusal) = self.excess(bytes, limits) {
            return Look::Refused(refusal);
        }
        let news = !self.begun || (self.line.is_some() && !had_line);
        if news && !bytes.is_empty() {
            self.begun = true;
            if !may_begin(bytes) {
                return Look::Refused(BAD_REQUEST);
            }
        }
        Look::Part
    }

    /// Where the head ends: after the first empty line.
    fn search(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let rest = bytes.get(self.searched..)?;
            let Some(found) = memchr(b'\n', rest) else {
                self.searched = bytes.len();
                return None;
            };
            let next = self.searched + found + 1;
            self.line.get_or_insert(next);
            match bytes.get(next..)? {
                [b'\n', ..] => return Some(next + 1),
                [b'\r', b'\n', ..] => return Some(next + 2),
                // What follows is not there yet: from this line end again.
                [] | [b'\r'] => {
                    self.searched = next - 1;
                    return None;
                }
                _ => self.searched = next,
            }
        }
    }

    /// Why a head that is not complete is too large already.
    fn excess(&self, bytes: &[u8], limits: &Limits) -> Option<Refusal> {
        match self.line {
            // One more for the first byte of the line that ends it.
            Some(line) => (bytes.len() - line > limits.header_bytes + 1).then_some(FIELDS_TOO_LARGE),
            None => {
                let method = memchr(b' ', bytes).unwrap_or(bytes.len());
                if method > limits.method_bytes {
                    return Some(METHOD_TOO_LONG);
                }
                (bytes.len() > method + limits.target_bytes + VERSION_BYTES).then_some(TARGET_TOO_LONG)
            }
        }
    }
}

/// What a request line has beside method and target: `SP target SP HTTP/1.1 CR`.
const VERSION_BYTES: usize = 11;

/// How many bytes of empty lines are at the front.
fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] = rest {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Whether `bytes`, which are no complete head, can become one.
fn may_begin(bytes: &[u8]) -> bool {
    // More fields than there is room for here are counted when the head is complete.
    let mut room = [const { MaybeUninit::uninit() }; 16];
    let parsed = httparse::Request::new(&mut []).parse_with_uninit_headers(bytes, &mut room);
    matches!(parsed, Ok(_) | Err(httparse::Error::TooManyHeaders))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits { method_bytes: 8, target_bytes: 64, fields: 10, header_bytes: 1024, ..Limits::default() }
    }

    /// What `bytes` come to when they arrive in pieces of `step`, and after how many of them.
    fn arrive(bytes: &[u8], step: usize) -> (Look, usize) {
        let mut arrival = Arrival::default();
        let mut there = 0;
        loop {
            there = (there + step).min(bytes.len());
            match arrival.look(&bytes[..there], &limits()) {
                Look::Part if there < bytes.len() => {}
                look => return (look, there),
            }
        }
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line() {
        for head in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\nhost: a\n\n", "GET / HTTP/1.0\r\n\r\n"] {
            let wire = format!("{head}GET /next HTTP/1.1\r\n\r\n");
            for step in 1..wire.len() {
                assert_eq!(arrive(wire.as_bytes(), step).0, Look::Complete(head.len()), "{head:?} by {step}");
            }
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_dropped() {
        let mut arrival = Arrival::default();
        assert_eq!(arrival.look(b"\r\n\n\r\nGET", &limits()), Look::Blank(5));
        assert_eq!(arrival.look(b"GET", &limits()), Look::Part);
        let mut arrival = Arrival::default();
        assert_eq!(arrival.look(b"\r", &limits()), Look::Part);
        assert_eq!(arrival.look(b"\r\n", &limits()), Look::Blank(2));
    }

    #[test]
    fn what_cannot_become_a_request_is_refused_at_once() {
        for (bytes, refusal) in [
            (&b"\x16\x03\x01\x02\x00"[..], BAD_REQUEST),
            (b"GET /\r\n", BAD_REQUEST),
            (b"GET / HTTP/9.9\r\nhost", BAD_REQUEST),
            (b"GET  HTTP/1.1\r\nhost", BAD_REQUEST),
            (b"LONGMETHOD", METHOD_TOO_LONG),
        ] {
            assert_eq!(arrive(bytes, 1).0, Look::Refused(refusal), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_is_refused_at_its_limit_and_not_when_it_is_complete() {
        let target = [b"GET /".as_slice(), &[b'a'; 4096]].concat();
        let (look, read) = arrive(&target, 1);
        assert_eq!((look, read), (Look::Refused(TARGET_TOO_LONG), 3 + limits().target_bytes + VERSION_BYTES + 1));
        let line = b"GET / HTTP/1.1\r\n".as_slice();
        for fields in [[b'a'; 4096].to_vec(), b"a: b\r\n".repeat(4096)] {
            let (look, read) = arrive(&[line, &fields].concat(), 1);
            assert_eq!((look, read), (Look::Refused(FIELDS_TOO_LARGE), line.len() + limits().header_bytes + 2));
        }
    }

    proptest! {
        #[test]
        fn the_end_is_where_the_parser_sees_it(
            fields in prop::collection::vec("[a-z]{1,5}: ?[ a-z]{0,8}", 0..6),
            crlf in any::<bool>(),
            step in 1_usize..40,
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let mut wire = format!("GET / HTTP/1.1{end}");
            fields.iter().for_each(|field| { wire.push_str(field); wire.push_str(end); });
            wire.push_str(end);
            let mut room = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::Request::new(&mut room).parse(wire.as_bytes());
            prop_assert_eq!(parsed, Ok(httparse::Status::Complete(wire.len())));
            prop_assert_eq!(arrive(wire.as_bytes(), step).0, Look::Complete(wire.len()));
        }

        #[test]
        fn nothing_makes_the_search_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            if !bytes.is_empty() {
                let _ = arrive(&bytes, step);
            }
        }
    }
}
