//! Whether a request's body is read whole before an HTTP/1.1 endpoint hears of the request, or sent as it comes.
//!
//! An endpoint that answers before it has the whole request may take the rest of it for the next request, and the answer
//! to that would be another client's. Of what was sent as it came, nobody can tell for sure what was answered: an answer
//! that comes with the last bytes may have been under way for half a round trip. So:
//!
//! | body | is sent | its connection |
//! |---|---|---|
//! | at most [`SMALL`], declared or complete within [`PAUSE`] | when all of it is here | pooled, as any |
//! | larger, not complete within [`PAUSE`], or after `Expect` | as it comes | its own, kept only on the express lane, and rarely |
//!
//! HTTP/2 keeps requests apart by itself: towards such endpoints every body is sent as it comes.
//!
//! Invariant: no more than [`SMALL`] of a body, and one read, is held before it is sent.

use std::time::Duration;

use super::failure::BODY_TOO_LARGE;
use crate::proxy::codec::body::{Body, Malformed, Piece};
use crate::traffic::Refusal;

/// The largest body that is read whole, in bytes: what forms, calls and uploads of small things need, and what the
/// engine can send again.
pub(crate) const SMALL: usize = 64 * 1024;

/// How long a body of unknown length is waited for, from its head on. Whoever wants to talk while it is answered, or
/// sends something every now and then, is heard after that.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// The most that is held of a chunked body with its framing: chunks of a byte are six.
const FRAMED: usize = 2 * SMALL;

/// What leaves in one flight: less than the ten segments that a new connection may send at once (RFC 6928).
const FLIGHT: u64 = 8 * 1024;

/// How a body goes to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// When all of it is here.
    Whole,
    /// As it comes, on a connection of its own.
    Streamed,
}

/// What must hold at the first byte of an answer, so that its connection may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing: all of the request arrived at once.
    None,
    /// The endpoint acknowledged all of the request.
    Acknowledged,
    /// The answer came later than one that was given to a part of the request.
    Late,
}

impl Proof {
    /// For a body that is sent whole.
    pub(crate) fn of_whole(body: Body) -> Self {
        match body {
            Body::Done => Self::None,
            Body::Length(length) if length <= FLIGHT => Self::None,
            _ => Self::Acknowledged,
        }
    }
}

/// The largest request body that is passed on, in bytes; none for any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimit(pub(crate) Option<u64>);

impl BodyLimit {
    /// Looks at a body of so many bytes, declared or counted so far.
    ///
    /// # Errors
    /// The refusal if it is too large.
    #[inline]
    pub(crate) fn check(self, bytes: u64) -> Result<(), Refusal> {
        if self.0.is_some_and(|most| bytes > most) { Err(BODY_TOO_LARGE) } else { Ok(()) }
    }
}

/// Whether a body may be waited for, as far as its length is declared.
pub(crate) fn is_small(length: Option<u64>) -> bool {
    length.is_none_or(|length| length <= SMALL as u64)
}

/// How much of a body arrived, which stays where it was read.
pub(crate) struct Scan {
    body: Body,
    at: usize,
    data: usize,
}

impl Scan {
    /// Of a body of which nothing was looked at.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, at: 0, data: 0 }
    }

    /// Looks at `input`, which holds all that arrived of the body; how it is to be sent, if that is certain.
    pub(crate) fn look(&mut self, input: &[u8]) -> Result<Option<Manner>, Malformed> {
        loop {
            let Piece { framing, data } = self.body.next(input.get(self.at..).unwrap_or_default())?;
            self.at += framing + data;
            self.data += data;
            self.body.took(data);
            if data == 0 {
                break;
            }
        }
        Ok(match self.body {
            _ if self.data > SMALL || self.at > FRAMED => Some(Manner::Streamed),
            Body::Done => Some(Manner::Whole),
            _ => None,
        })
    }

    /// Bytes of the body so far.
    pub(crate) fn data(&self) -> u64 {
        self.data as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::codec::body::Chunk;

    fn looked(body: Body, parts: &[&[u8]]) -> Result<Option<Manner>, Malformed> {
        let mut scan = Scan::new(body);
        let mut input = Vec::new();
        let mut last = None;
        for part in parts {
            input.extend_from_slice(part);
            last = scan.look(&input)?;
        }
        Ok(last)
    }

    #[test]
    fn a_body_is_whole_when_its_end_is_here() {
        let chunked = Body::Chunked(Chunk::Size);
        assert_eq!(looked(Body::of_length(3), &[b"ab"]), Ok(None));
        assert_eq!(looked(Body::of_length(3), &[b"ab", b"cGET"]), Ok(Some(Manner::Whole)));
        for parts in [&[b"3\r\nabc\r\n0\r\n".as_slice()][..], &[b"3\r\na", b"bc\r\n0\r\nx: y\r\n"]] {
            assert_eq!(looked(chunked, parts), Ok(None));
            assert_eq!(looked(chunked, &[parts, &[b"\r\nGET /"]].concat()), Ok(Some(Manner::Whole)));
        }
        assert_eq!(looked(chunked, &[b"3\r\nabcd\r\n"]), Err(Malformed));
    }

    #[test]
    fn a_body_is_not_waited_for_beyond_the_bound() {
        let chunks = |size: usize, count: usize| {
            let chunk = [format!("{size:x}\r\n").into_bytes(), vec![b'x'; size], b"\r\n".to_vec()].concat();
            chunk.repeat(count)
        };
        let chunked = Body::Chunked(Chunk::Size);
        let whole = |chunks: &[u8]| looked(chunked, &[&[chunks, b"0\r\n\r\n"].concat()]).unwrap();
        assert_eq!(whole(&chunks(1024, 64)), Some(Manner::Whole));
        assert_eq!(looked(chunked, &[&chunks(1024, 65)]), Ok(Some(Manner::Streamed)));
        assert_eq!(whole(&chunks(1, 20_000)), Some(Manner::Whole));
        assert_eq!(looked(chunked, &[&chunks(1, 30_000)]), Ok(Some(Manner::Streamed)), "framing counts too");
        assert!(is_small(None) && is_small(Some(65_536)) && !is_small(Some(65_537)));
    }
}
