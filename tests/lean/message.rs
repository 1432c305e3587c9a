//! One HTTP/1 message in a fixed buffer: read until it is whole, and never past its end.

use std::io::{self, Read};

/// Room for the largest message: 4 KiB of body and a head.
const ROOM: usize = 16 * 1024;

/// Reads messages, one at a time.
pub(crate) struct Inbox {
    buffer: Box<[u8]>,
}

impl Inbox {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; ROOM].into_boxed_slice() }
    }

    /// The next message, head and body, or `None` where the stream ended before it.
    ///
    /// # Errors
    /// What the stream said, or that it ended or went on where the message did not.
    pub(crate) fn next(&mut self, from: &mut impl Read) -> io::Result<Option<&[u8]>> {
        let mut filled = 0;
        loop {
            let read = match from.read(&mut self.buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) => return Err(error),
            };
            filled += read;
            match length(&self.buffer[..filled]) {
                Some(length) if length == filled => return Ok(Some(&self.buffer[..filled])),
                Some(length) if length < filled => return Err(io::Error::other("bytes after the end of a message")),
                _ => {}
            }
        }
    }
}

/// How long the message at the beginning of `bytes` is, head and body; `None` while that is unknown.
fn length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|at| at == b"\r\n\r\n")? + 4;
    if field(&bytes[..head], b"transfer-encoding").is_some() {
        // The bodies here have no such bytes of their own.
        return bytes.ends_with(b"\r\n0\r\n\r\n").then_some(bytes.len());
    }
    let body = field(&bytes[..head], b"content-length").map_or(0, |digits| {
        std::str::from_utf8(digits).ok().and_then(|digits| digits.trim().parse().ok()).expect("a length")
    });
    Some(head + body)
}

fn field<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name).then(|| &line[colon + 1..])
    })
}
