//! Where a message's body ends (RFC 9112 §6 and §7.1), without copying it.
//!
//! Chunks are read strictly: hexadecimal digits, well-formed extensions that go no further, CRLF. What is sent on is
//! framed anew, so nothing of the sender's framing reaches anybody else. Trailers are read one by one, and whoever sends
//! the body on says which of them go along; a line that is no field never does.
//! Of an endpoint a size may be padded, as old servers write it and everybody reads it: a response cannot smuggle a
//! request past anybody.

use std::fmt::Write;

use memchr::memchr;

use crate::proxy::io::buffer::{Buffer, GATHERED};

use crate::traffic::validate::{Framing, is_token};

/// The most a chunk's size line may take, extension included.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// The most the trailers may take.
const MAX_TRAILERS: usize = 16 * 1024;

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

/// How a body is sent on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reframing {
    /// As it is, by length.
    Plain,
    /// In chunks, with the trailers whose names pass.
    Chunked(fn(&str) -> bool),
}

/// The framing is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is not valid HTTP")]
pub(crate) struct Malformed;

/// Who sends a message, which says how strictly its chunks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Somebody who may want two parsers to disagree.
    Client,
    /// A server of our own side, which may be old.
    Endpoint,
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

/// The line at the front, without its end; none if it is not complete.
fn line(input: &[u8], most: usize) -> Result<Option<&[u8]>, Malformed> {
    match memchr(b'\n', input) {
        None if input.len() > most => Err(Malformed),
        None => Ok(None),
        Some(end) if end > most + 1 => Err(Malformed),
        Some(end) => match input.get(..end).unwrap_or_default() {
            // A carriage return anywhere else is read as a line end by some.
            [line @ .., b'\r'] if memchr(b'\r', line).is_none() => Ok(Some(line)),
            _ => Err(Malformed),
        },
    }
}

/// The field in a line; none if it is no field, or goes on the one before (RFC 9112 §5).
fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
    let valid = is_token(name) && value.iter().all(|&byte| is_text(byte));
    valid.then_some((str::from_utf8(name).ok()?, value))
}

/// The size in a chunk's size line.
fn size(line: &[u8], sender: Sender) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at_checked(digits).ok_or(Malformed)?;
    let (number, well_ended) = match sender {
        Sender::Client => (number, rest.is_empty() || are_extensions(rest)),
        Sender::Endpoint => (unpadded(number), is_padding(rest)),
    };
    if digits == 0 || number.len() > 15 || !well_ended {
        return Err(Malformed);
    }
    let text = str::from_utf8(number).map_err(|_| Malformed)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed)
}

/// A number without the zeros before it.
fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&digit| digit == b'0').count();
    // The last one may be all of it.
    number.get(zeros.min(number.len().saturating_sub(1))..).unwrap_or_default()
}

/// Whether nothing follows a size but blanks and an extension in one line.
fn is_padding(rest: &[u8]) -> bool {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match rest.get(blanks..).unwrap_or_default() {
        [] => true,
        [b';', extension @ ..] => extension.iter().all(|byte| *byte >= b' ' || *byte == b'\t'),
        _ => false,
    }
}

/// Whether `text` is a list of chunk extensions, each `;name` or `;name=value` (RFC 9112 §7.1.1). Parsers disagree
/// about where a line ends that is none, so a lax reader is a way to smuggle.
fn are_extensions(mut text: &[u8]) -> bool {
    while let Some(rest) = text.trim_ascii_start().strip_prefix(b";") {
        let Some(rest) = after_token(rest.trim_ascii_start()) else { return false };
        text = rest;
        if let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") {
            let value = value.trim_ascii_start();
            let Some(rest) = after_quoted(value).or_else(|| after_token(value)) else { return false };
            text = rest;
        }
    }
    text.is_empty()
}

/// What follows the token at the front; none if there is no token.
fn after_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|&&byte| is_token(&[byte])).count();
    if length > 0 { text.get(length..) } else { None }
}

/// What follows the quoted string at the front; none if there is no such string.
fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] if is_text(*byte) => rest,
            [byte, rest @ ..] if *byte != b'\\' && is_text(*byte) => rest,
            _ => return None,
        };
    }
}

/// Whether a quoted string may have this byte: anything but control bytes.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// Moves one piece of a body from `input` to `out`, framed anew; how many bytes of it.
pub(crate) fn gather(
    body: &mut Body,
    sender: Sender,
    input: &mut Buffer,
    out: &mut Buffer,
    reframing: Reframing,
) -> Result<usize, Malformed> {
    let chunked = matches!(reframing, Reframing::Chunked(_));
    // Chunks end as they ended; what had another end gets one below.
    let ends = chunked && !matches!(body, Body::Chunked(_));
    let data = skip_framing(body, sender, input, out, reframing)?;
    let data = data.min(GATHERED.saturating_sub(out.len()));
    if data > 0 {
        if chunked {
            // Writing to a buffer cannot fail.
            let _ = write!(out, "{data:x}\r\n");
        }
        out.push(input.data().get(..data).unwrap_or_default());
        input.consume(data);
        body.took(data);
        if chunked {
            out.push(b"\r\n");
        }
        // The end of a chunk, which may be the last, is often there too.
        if matches!(body, Body::Chunked(Chunk::End)) {
            skip_framing(body, sender, input, out, reframing)?;
        }
    }
    if ends && body.is_done() {
        out.push(b"0\r\n\r\n");
    }
    Ok(data)
}

/// Takes the framing from the front of `input`, and writes to `out` what comes behind the last chunk; how much data is
/// at the front then.
fn skip_framing(
    body: &mut Body,
    sender: Sender,
    input: &mut Buffer,
    out: &mut Buffer,
    reframing: Reframing,
) -> Result<usize, Malformed> {
    let Piece { framing, data } = body.next_with(sender, input.data(), |trailing| match (reframing, trailing) {
        (Reframing::Plain, _) => {}
        (Reframing::Chunked(_), Trailing::Begin) => out.push(b"0\r\n"),
        (Reframing::Chunked(passes), Trailing::Field(name, value)) => {
            if passes(name) {
                out.push_field(name, value);
            }
        }
        (Reframing::Chunked(_), Trailing::End) => out.push(b"\r\n"),
    })?;
    input.consume(framing);
    Ok(data)
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

    /// What a chunked body becomes that arrives in pieces of `size` bytes.
    fn gathered(wire: &str, size: usize, reframing: Reframing) -> Result<String, Malformed> {
        let (mut body, mut input, mut out) = (CHUNKED, Buffer::default(), Buffer::default());
        for piece in wire.as_bytes().chunks(size) {
            input.push(piece);
            while !body.is_done() && gather(&mut body, Sender::Client, &mut input, &mut out, reframing)? > 0 {}
        }
        assert!(body.is_done() && input.is_empty());
        Ok(String::from_utf8(out.data().to_vec()).unwrap())
    }

    #[test]
    fn trailers_that_pass_go_on_in_canonical_form_however_they_arrive() {
        let wire = "3;x\r\nabc\r\n0;last\r\nA:1\r\nsecret: 2\r\nbad name: 3\r\nno field\r\nE: \x01\r\n\
            b:  4 \t\r\n folded\r\n: 5\r\nc:\r\nD: \u{e9}\r\n\r\n";
        let passes: fn(&str) -> bool = |name| name != "secret";
        for size in 1..wire.len() {
            let text = gathered(wire, size, Reframing::Chunked(passes)).unwrap();
            let (data, end) = text.split_once("0\r\n").unwrap();
            assert_eq!(end, "A: 1\r\nb: 4\r\nc: \r\nD: \u{e9}\r\n\r\n", "{size}");
            assert_eq!(data.bytes().filter(|byte| (b'a'..=b'c').contains(byte)).collect::<Vec<_>>(), b"abc", "{size}");
            let none = gathered(wire, size, Reframing::Chunked(|_| false)).unwrap();
            assert!(none.ends_with("\r\n0\r\n\r\n"), "{none:?}");
            assert_eq!(gathered(wire, size, Reframing::Plain).unwrap(), "abc");
        }
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
    fn an_endpoints_size_may_be_padded_and_a_clients_may_not() {
        for (line, of_endpoint) in [
            ("3 ", Some(3)),
            ("3 \t ", Some(3)),
            ("003", Some(3)),
            ("00000000000000000000000000000003", Some(3)),
            ("0000000000000000000", Some(0)),
            ("3  ;a=\"b\"", Some(3)),
            (" 3", None),
            ("3 x", None),
            ("3 3", None),
            ("", None),
            ("fffffffffffffffff", None),
        ] {
            assert_eq!(size(line.as_bytes(), Sender::Endpoint).ok(), of_endpoint, "{line:?}");
            let plain = line.len() < 16 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let of_client = of_endpoint.filter(|_| plain || line.contains(';'));
            assert_eq!(size(line.as_bytes(), Sender::Client).ok(), of_client, "{line:?}");
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
