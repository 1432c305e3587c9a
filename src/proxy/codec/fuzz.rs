//! What holds for any bytes, however hostile: the targets of `fuzz/`, which the tests run too.
//!
//! Each function takes one input and panics if something that is promised does not hold. `cargo fuzz` looks for such an
//! input as long as it is let; the suite takes the kept ones, and a bounded number of changed ones.

use super::frame::{self, Frame, FrameHead, FrameOrder};
use super::hpack::{self, Decoder, Encoder, FieldLines, Pseudo};
use crate::proxy::io::buffer::Buffer;

/// What of a list is kept.
const LIMIT: usize = 2_000;

/// Reads frames one after the other. What is read and written again is the same.
pub(crate) fn frames(mut bytes: &[u8]) {
    let mut order = FrameOrder::default();
    while let Some(head) = FrameHead::read(bytes) {
        let Some((payload, rest)) = bytes.get(FrameHead::SIZE..).and_then(|rest| rest.split_at_checked(head.length))
        else {
            return;
        };
        bytes = rest;
        if head.check(frame::DEFAULT_MAX_FRAME).is_err() || order.take(&head).is_err() {
            return;
        }
        let Ok(read) = Frame::parse(&head, payload) else { continue };
        let mut out = Buffer::default();
        match read {
            Frame::Data { data, padding, end_stream } => {
                assert_eq!(data.len() + padding, payload.len());
                frame::data(&mut out, head.stream, end_stream, data);
                let written = frame_of(&out);
                assert_eq!(written, Some(Frame::Data { data, padding: 0, end_stream }));
            }
            Frame::Headers { block, end_stream, end_headers: true, .. } => {
                frame::header_frames(&mut out, head.stream, end_stream, block, frame::DEFAULT_MAX_FRAME);
                let same = Frame::Headers { block, end_stream, end_headers: true, depends_on_itself: false };
                assert_eq!(frame_of(&out), Some(same));
            }
            Frame::Settings { ack: false, entries } => {
                let entries: Vec<(u16, u32)> = entries.iter().collect();
                frame::settings(&mut out, &entries);
                assert_eq!(frame_of(&out), Some(read));
            }
            Frame::Reset { code } => {
                frame::reset(&mut out, head.stream, code);
                assert_eq!(frame_of(&out), Some(read));
            }
            Frame::Ping { ack, payload } => {
                frame::ping(&mut out, ack, &payload);
                assert_eq!(frame_of(&out), Some(read));
            }
            Frame::GoAway { last, code } => {
                frame::go_away(&mut out, last, code);
                assert_eq!(frame_of(&out), Some(read));
            }
            Frame::WindowUpdate { increment } => {
                assert_ne!(increment, 0);
                frame::window_update(&mut out, head.stream, increment);
                assert_eq!(frame_of(&out), Some(read));
            }
            _ => {}
        }
    }
}

/// The one frame that was written.
fn frame_of(out: &Buffer) -> Option<Frame<'_>> {
    let head = FrameHead::read(out.data())?;
    let payload = out.data().get(FrameHead::SIZE..)?;
    assert_eq!(head.length, payload.len());
    Frame::parse(&head, payload).ok()
}

/// Reads a header block as a whole and in parts: the first byte says how long these are. What is read and is well formed
/// means the same once it was written and read again, also when it is indexed.
pub(crate) fn hpack(bytes: &[u8]) {
    let Some((size, block)) = bytes.split_first() else { return };
    // What is longer may be passed over in parts, and is looked at as a whole.
    let block = block.get(..frame::DEFAULT_MAX_FRAME).unwrap_or(block);
    let (mut decoder, mut lines) = (Decoder::new(), FieldLines::new());
    lines.clear(LIMIT);
    let read = decoder.decode(block, &mut lines);
    let (mut decoder, mut parted) = (Decoder::new(), FieldLines::new());
    parted.clear(LIMIT);
    let parts = block.chunks(usize::from(*size) + 1).try_for_each(|part| decoder.decode_part(part, &mut parted));
    let parts = parts.and_then(|()| decoder.finish());
    // A list that is too long and no block is one of both.
    assert_eq!(parts.is_ok(), read.is_ok());
    if read.is_err() {
        return;
    }
    let kept: usize = lines.iter().map(|field| field.line.len() - 4 + 32).sum();
    assert!(kept <= LIMIT, "{kept}");
    assert_eq!((lines.size(), lines.flaw(), lines.status()), (parted.size(), parted.flaw(), parted.status()));
    assert!(lines.iter().eq(parted.iter()));
    if lines.flaw().is_some() || lines.overflows() {
        return;
    }
    let (mut encoder, mut decoder, mut again) = (Encoder::new(), Decoder::new(), FieldLines::new());
    for _ in 0..3 {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        let pseudo = |which| lines.pseudo(which);
        if let (Some(Ok(method)), Some(Ok(scheme)), Some(path)) = (
            pseudo(Pseudo::Method).map(str::from_utf8),
            pseudo(Pseudo::Scheme).map(str::from_utf8),
            pseudo(Pseudo::Path),
        ) {
            encoder.request(method, scheme, pseudo(Pseudo::Authority).unwrap_or_default(), path, &mut out);
        }
        for field in lines.iter() {
            encoder.field(field.name.as_bytes(), field.value, &mut out);
        }
        again.clear(2 * LIMIT);
        assert_eq!(decoder.decode(&out, &mut again), Ok(()));
        assert!(lines.iter().map(|field| field.line).eq(again.iter().map(|field| field.line)));
        assert_eq!(again.flaw(), None);
        if again.has_pseudo() {
            assert_eq!(again.pseudo(Pseudo::Path), lines.pseudo(Pseudo::Path));
        }
    }
}

/// Reads a string. It has one code, so that what is read and written again is the same.
pub(crate) fn huffman(bytes: &[u8]) {
    let mut text = b"before".to_vec();
    match hpack::huffman_decode(bytes, &mut text) {
        Some(()) => assert_eq!(hpack::huffman_encode(text.get(6..).unwrap_or_default()).as_deref(), Some(bytes)),
        None => assert_eq!(text, b"before"),
    }
    let coded = hpack::huffman_encode(bytes).unwrap_or_default();
    let mut text = Vec::new();
    assert_eq!(hpack::huffman_decode(&coded, &mut text), Some(()));
    assert_eq!(text, bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::algorithm::random::SplitMix64;

    /// Inputs that are tried for each target.
    const TRIES: usize = 20_000;
    /// The longest one.
    const LONGEST: usize = 4_096;

    /// The kept inputs, changed ones, and bytes of chance.
    fn try_all(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut corpus: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        corpus.sort();
        let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!corpus.is_empty());
        corpus.iter().for_each(|input| run(input));
        let mut random = SplitMix64(13);
        for _ in 0..TRIES {
            let mut input = one_of(&corpus, &mut random).clone();
            for _ in 0..=below(4, &mut random) {
                change(&mut input, one_of(&corpus, &mut random), &mut random);
            }
            input.truncate(LONGEST);
            run(&input);
        }
    }

    fn below(bound: usize, random: &mut SplitMix64) -> usize {
        usize::try_from(random.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn one_of<'c>(corpus: &'c [Vec<u8>], random: &mut SplitMix64) -> &'c Vec<u8> {
        &corpus[below(corpus.len(), random)]
    }

    /// One of the changes that fuzzers make.
    fn change(input: &mut Vec<u8>, other: &[u8], random: &mut SplitMix64) {
        let (at, byte) = (below(input.len() + 1, random), random.next().to_le_bytes()[0]);
        match below(6, random) {
            0 => input.insert(at, byte),
            1 => input.truncate(at),
            2 => drop(input.splice(at..at, other.iter().copied())),
            3 => input.extend((0..below(40, random)).map(|_| random.next().to_le_bytes()[0])),
            4 if at < input.len() => input[at] = byte,
            _ if at < input.len() => input[at] ^= 1 << (byte % 8),
            _ => {}
        }
    }

    #[test]
    fn frames_of_any_bytes() {
        try_all("frames", frames);
    }

    #[test]
    fn header_blocks_of_any_bytes() {
        try_all("hpack", hpack);
    }

    #[test]
    fn strings_of_any_bytes() {
        try_all("huffman", huffman);
    }
}
