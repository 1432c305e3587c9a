//! A body is sent on in a framing of our own, so nothing of the sender's reaches anybody else. Whoever sends it says which
//! trailers go along.

use std::fmt::Write;

use super::body::{Body, Chunk, Malformed, Piece, Sender, Trailing};
use crate::proxy::io::buffer::{Buffer, GATHERED};

/// How a body is sent on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reframing {
    /// As it is, by length.
    Plain,
    /// In chunks, with the trailers whose names pass.
    Chunked(fn(&str) -> bool),
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
    use super::*;

    /// What a chunked body becomes that arrives in pieces of `size` bytes.
    fn gathered(wire: &str, size: usize, reframing: Reframing) -> Result<String, Malformed> {
        let (mut body, mut input, mut out) = (Body::Chunked(Chunk::Size), Buffer::default(), Buffer::default());
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
}
