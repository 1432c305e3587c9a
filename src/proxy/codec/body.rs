//! Where a message's body ends (RFC 9112 §6 and §7.1), without copying it.
//!
//! Nothing of the framing is data: whoever reads drops it, and whoever sends the body on frames it anew
//! ([`super::reframing`]). Trailers are read one by one, and a line that is no field is none of them.

use super::chunk::{MAX_SIZE_LINE, MAX_TRAILERS, field, line, size};
use crate::traffic::validate::Framing;

pub(crate) use super::chunk::{Malformed, Sender};

/// A body that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// All of it was read, or there is none.
    Done,
    /// So many bytes are missing.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// The end of the stream ends it.
    UntilClose,
}

/// What of a chunked body comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// A size line.
    Size,
    /// So many bytes of data.
    Data(u64),
    /// The line end after data.
    End,
    /// Trailers, of which so many bytes were read.
    Trailers(usize),
}

/// What is at the front of the bytes that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes of framing, to be dropped.
    pub(crate) framing: usize,
    /// Bytes of the body after them. 0 means: more must arrive, unless the body is done.
    pub(crate) data: usize,
}

/// What comes behind the last chunk of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trailing<'a> {
    /// There are no more chunks.
    Begin,
    /// A field, by name and value.
    Field(&'a str, &'a [u8]),
    /// The end of the message.
    End,
}

impl Body {
    /// A body of this length.
    pub(crate) fn of_length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// The body of an HTTP/1 request.
    pub(crate) fn of(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::of_length(length),
            Framing::Chunked => Self::Chunked(Chunk::Size),
            Framing::None | Framing::Frames { .. } => Self::Done,
        }
    }

    pub(crate) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// [`Self::next_with`], for whoever wants no trailers.
    #[inline]
    pub(crate) fn next_of(&mut self, sender: Sender, input: &[u8]) -> Result<Piece, Malformed> {
        self.next_with(sender, input, |_| {})
    }

    /// [`Self::next_of`] a client's message.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        self.next_of(Sender::Client, input)
    }

    /// Looks at `input`. The caller drops the framing, uses up to `data` bytes and says so by [`Self::took`]. What comes
    /// behind the last chunk is shown to `trailing`, once.
    #[inline]
    pub(crate) fn next_with(
        &mut self,
        sender: Sender,
        input: &[u8],
        mut trailing: impl FnMut(Trailing<'_>),
    ) -> Result<Piece, Malformed> {
        let mut framing = 0;
        loop {
            let rest = input.get(framing..).unwrap_or_default();
            let Self::Chunked(chunk) = self else { break };
            match chunk {
                Chunk::Data(_) => break,
                Chunk::Size => {
                    let Some(line) = line(rest, MAX_SIZE_LINE)? else { break };
                    framing += line.len() + 2;
                    *chunk = match size(line, sender)? {
                        0 => {
                            trailing(Trailing::Begin);
                            Chunk::Trailers(0)
                        }
                        size => Chunk::Data(size),
                    };
                }
                Chunk::End => {
                    match rest {
                        [b'\r', b'\n', ..] => {}
                        [] | [b'\r'] => break,
                        _ => return Err(Malformed),
                    }
                    framing += 2;
                    *chunk = Chunk::Size;
                }
                Chunk::Trailers(read) => {
                    let Some(line) = line(rest, MAX_TRAILERS.saturating_sub(*read))? else { break };
                    framing += line.len() + 2;
                    *read += line.len() + 2;
                    if line.is_empty() {
                        trailing(Trailing::End);
                        *self = Self::Done;
                    } else if let Some((name, value)) = field(line) {
                        trailing(Trailing::Field(name, value));
                    }
                }
            }
        }
        let there = input.len() - framing;
        let data = match self {
            Self::Length(left) | Self::Chunked(Chunk::Data(left)) => {
                usize::try_from(*left).unwrap_or(usize::MAX).min(there)
            }
            Self::UntilClose => there,
            Self::Done | Self::Chunked(_) => 0,
        };
        Ok(Piece { framing, data })
    }

    /// `n` bytes of data were used.
    pub(crate) fn took(&mut self, n: usize) {
        let n = n as u64;
        match self {
            Self::Length(left) => *self = Self::of_length(left.saturating_sub(n)),
            Self::Chunked(chunk) => {
                if let Chunk::Data(left) = chunk {
                    *chunk = if *left <= n { Chunk::End } else { Chunk::Data(*left - n) };
                }
            }
            Self::Done | Self::UntilClose => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads `input` in pieces that end at `cuts`; what was data, and how many bytes were left.
    fn read(mut body: Body, input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let mut data = Vec::new();
        let mut buffer: Vec<u8> = Vec::new();
        let mut at = 0;
        for end in cuts.iter().copied().chain([input.len()]) {
            let end = end.clamp(at, input.len());
            buffer.extend(&input[at..end]);
            at = end;
            while !body.is_done() {
                let piece = body.next(&buffer)?;
                buffer.drain(..piece.framing);
                if piece.data == 0 {
                    break;
                }
                data.extend(buffer.drain(..piece.data));
                body.took(piece.data);
            }
        }
        Ok((data, buffer.len() + input.len() - at, body.is_done()))
    }

    const CHUNKED: Body = Body::Chunked(Chunk::Size);

    #[test]
    fn what_follows_a_body_is_not_its_own() {
        assert_eq!(read(Body::of_length(3), b"abcdef", &[]), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(read(CHUNKED, b"3\r\nabc\r\n0\r\n\r\nGET", &[]), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(read(CHUNKED, b"0\r\nx: y\r\n\r\nGET", &[]), Ok((vec![], 3, true)));
        assert_eq!(read(Body::UntilClose, b"abc", &[]), Ok((b"abc".to_vec(), 0, false)));
    }

    #[test]
    fn ambiguous_chunks_are_refused() {
        for bad in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3 \r\nabc\r\n",
            " 3\r\nabc\r\n",
            "+3\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            "-1\r\n",
            "\r\n",
            "g\r\n",
            "3;\rx\r\nabc\r\n",
            "3;a\nabc\r\n",
            "1000000000000000\r\n",
            "3;\r\nabc\r\n",
            "3; \r\nabc\r\n",
            "3;;a\r\nabc\r\n",
            "3;a;\r\nabc\r\n",
            "3;=b\r\nabc\r\n",
            "3;a=\r\nabc\r\n",
            "3;a b\r\nabc\r\n",
            "3;a=\"b\r\nabc\r\n",
            "3;a=\"\x01\"\r\nabc\r\n",
            "3;a=\x7f\r\nabc\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "0\r\nx: y\n\r\n",
        ] {
            assert_eq!(read(CHUNKED, bad.as_bytes(), &[]), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn extensions_are_read_and_dropped() {
        for extensions in [";a", ";a=b", " ; a = b", ";a=\"x;\\\"y z\"", ";a;b=1;c=\"\"", "\t;\ta"] {
            let wire = format!("3{extensions}\r\nabc\r\n0{extensions}\r\n\r\n");
            assert_eq!(read(CHUNKED, wire.as_bytes(), &[]), Ok((b"abc".to_vec(), 0, true)), "{extensions:?}");
        }
    }

    #[test]
    fn lines_without_end_are_refused() {
        let long = [b"3;".as_slice(), &[b'x'; MAX_SIZE_LINE]].concat();
        assert_eq!(read(CHUNKED, &long, &[]), Err(Malformed));
        let trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(MAX_TRAILERS)].concat();
        assert_eq!(read(CHUNKED, &trailers, &[]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn chunks_are_read_alike_however_they_arrive(
            chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{1,3}(=[a-z]{1,3})?)?"), 0..6),
            trailers in prop::collection::vec("[a-z]{1,5}: [a-z]{0,5}", 0..3),
            rest in prop::collection::vec(any::<u8>(), 0..10),
            cuts in prop::collection::vec(0_usize..200, 0..12),
        ) {
            let mut wire = Vec::new();
            for (data, extension) in &chunks {
                wire.extend(format!("{:x}{extension}\r\n", data.len()).bytes());
                wire.extend(data);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n");
            trailers.iter().for_each(|line| wire.extend(format!("{line}\r\n").bytes()));
            wire.extend(b"\r\n");
            wire.extend(&rest);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let data: Vec<u8> = chunks.into_iter().flat_map(|(data, _)| data).collect();
            prop_assert_eq!(read(CHUNKED, &wire, &cuts), Ok((data, rest.len(), true)));
        }

        #[test]
        fn nothing_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(CHUNKED, &bytes, &[3, 7, 50]);
        }
    }
}
