use super::*;
use crate::proxy::codec::frame::flag::{END_HEADERS, END_STREAM};
use crate::proxy::codec::frame::kind::{CONTINUATION, HEADERS};
use crate::proxy::codec::hpack::Decoder;

const END: u8 = END_HEADERS | END_STREAM;
/// `GET /` for `http` and the host `a`, by the static table.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x01, 1, b'a'];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    bytes.extend(payload);
    bytes
}

/// Fields that are spelled out, whatever they are.
fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name.as_bytes(), value] {
            fluke_hpack::encoder::encode_integer_into(text.len(), 7, 0, &mut out).unwrap();
            out.extend_from_slice(text);
        }
    }
    out
}

const LIMIT: u32 = 32 * 1024;

/// Past the preface, with stream 1 open.
fn open() -> Heads {
    let mut heads = Heads::new(LIMIT);
    assert_eq!(heads.pass(&[0; PREFACE.len()]), None);
    assert_eq!(heads.pass(&frame(HEADERS, END_HEADERS, 1, &GET)), None);
    heads
}

/// The fields of the one block in `frames`, which was written anew.
fn fields(frames: &[u8]) -> Vec<(String, String)> {
    let (mut block, mut rest) = (Vec::new(), frames);
    while let Some(head) = FrameHead::read(rest) {
        let end = FrameHead::SIZE + head.length;
        block.extend_from_slice(&rest[FrameHead::SIZE..end]);
        rest = &rest[end..];
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut lines = FieldLines::new();
    lines.clear(usize::MAX);
    Decoder::new().decode(&block, &mut lines).unwrap();
    let pseudo = PSEUDO.iter().filter_map(|(which, name)| Some(((*name).to_owned(), text(lines.pseudo(*which)?))));
    pseudo.chain(lines.iter().map(|field| (field.name.to_owned(), text(field.value)))).collect()
}

/// What is read of pieces.
fn read(pieces: &[&[u8]]) -> Vec<u8> {
    let mut heads = Heads::new(LIMIT);
    pieces.iter().flat_map(|piece| heads.pass(piece).unwrap_or_else(|| piece.to_vec())).collect()
}

#[test]
fn sound_blocks_go_on_as_they_came_however_they_arrive() {
    let sent = [
        vec![0; PREFACE.len()],
        frame(HEADERS, END | 8, 1, &[2, 0x82, 0x86, 0x84, 0x41, 1, b'b', 0, 0]),
        frame(0, END_STREAM, 1, &[1, 2, 3]),
        frame(HEADERS, END_HEADERS, 3, &[0x82, 0x86, 0x84, 0xBE]),
    ]
    .concat();
    assert_eq!(Heads::new(LIMIT).pass(&sent), None);
    // Cut within payloads: heads come as a whole.
    for cut in [24 + 9 + 2, 24 + 9 + 5, 24 + 9 + 9 + 9 + 1, 24 + 9 + 9 + 9 + 3 + 9 + 1] {
        let (first, second) = sent.split_at(cut);
        assert_eq!(read(&[first, second]), sent, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = sent[24 + 9..24 + 9 + 9].chunks(1).collect();
    assert_eq!(read(&[&[&sent[..24 + 9]], &bytes[..], &[&sent[24 + 9 + 9..]]].concat()), sent);
}

#[test]
fn a_block_in_frames_is_one_frame_and_the_next_ones_are_the_same() {
    let sound = [&GET[..], &[0x40, 1, b'a', 1, b'b']].concat();
    let mut parts = frame(HEADERS, END_STREAM | 8 | 0x20, 3, &[1, 0, 0, 0, 0, 9, 0]);
    for byte in &sound {
        parts.extend(frame(CONTINUATION, 0, 3, &[*byte]));
    }
    parts.extend(frame(CONTINUATION, END_HEADERS, 3, &[]));
    let sent = [&frame(6, 0, 0, &[0; 8])[..], &parts, &frame(HEADERS, END, 5, &[&GET[..], &[0xBE]].concat())].concat();
    let out = open().pass(&sent).unwrap();
    let block = block(&[(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"a"), ("a", b"b")]);
    let wanted = [frame(6, 0, 0, &[0; 8]), frame(HEADERS, END, 3, &block), frame(HEADERS, END, 5, &block)].concat();
    assert_eq!(out, wanted);
}

#[test]
fn what_is_too_large_is_refused_and_the_next_ones_are_sound() {
    let limit = usize::try_from(LIMIT).unwrap();
    // Beyond the limit by its bytes, by entries that are named again and again, and by one field.
    let fields = [&GET[..], &block(&[("a", &b"b"[..]); 2000])].concat();
    let entry = [&GET[..], &[0x40, 1, b'a', 0x7F, 0xA1, 0x1E], &[b'b'; 4000], &[0xBE; 100]].concat();
    let field = [&GET[..], &block(&[("a", &[b'b'; 300_000])]), &[0x40, 1, b'a', 1, b'b']].concat();
    for (large, after) in [(fields, &[][..]), (entry, &[0xBE]), (field, &[0xBE])] {
        let mut heads = open();
        let mut out = Vec::new();
        for (at, piece) in large.chunks(DEFAULT_MAX_FRAME).enumerate() {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let last = if (at + 1) * DEFAULT_MAX_FRAME >= large.len() { END_HEADERS } else { 0 };
            let [_, a, b, c] = u32::try_from(piece.len()).unwrap().to_be_bytes();
            let sent = [&[a, b, c, kind, last, 0, 0, 0, 3], piece].concat();
            out.extend(heads.pass(&sent).unwrap());
        }
        assert!(out.len() <= limit);
        assert_eq!(self::fields(&out).last().unwrap().1, FIELDS_TOO_LARGE.cause);
        let after = heads.pass(&frame(HEADERS, END, 5, &[&GET[..], after].concat())).unwrap();
        assert_eq!(self::fields(&after)[..4], self::fields(&frame(HEADERS, END, 5, &block(&GOT)))[..]);
    }
}

const GOT: [(&str, &[u8]); 4] = [(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"a")];

#[test]
fn a_target_that_grows_beyond_the_limit_is_refused() {
    let path = [b"/".as_slice(), &[b'<'; 15_000]].concat();
    let sent = block(&[(":method", b"GET"), (":scheme", b"http"), (":authority", b"a"), (":path", &path)]);
    let (first, rest) = sent.split_at(10_000);
    let sent = [frame(HEADERS, END_STREAM, 3, first), frame(CONTINUATION, END_HEADERS, 3, rest)].concat();
    assert_eq!(fields(&open().pass(&sent).unwrap()).last().unwrap().1, TARGET_TOO_LONG.cause);
}

#[test]
fn what_stands_for_a_malformed_request_is_within_the_least_limit() {
    let long = |byte: u8, times: usize| vec![byte; times];
    for (method, path, authority) in [
        (long(b'A', 64), long(b'\xFF', 600), long(b'a', 250)),
        (long(b'A', 700), long(b'\xFF', 100), long(b'a', 10)),
        (long(b'A', 3), long(b'\xFF', 100), long(b'a', 700)),
    ] {
        let mut heads = Heads::new(1024);
        heads.pass(&[0; PREFACE.len()]);
        let head = [(":method", &*method), (":scheme", b"http"), (":path", &*path), (":authority", &*authority)];
        let refused = fields(&heads.pass(&frame(HEADERS, END, 1, &block(&head))).unwrap());
        assert_eq!(refused.last().unwrap().0, MALFORMED);
        assert!(refused.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() < 1024);
    }
}

#[test]
fn one_host_is_one_however_it_is_written() {
    let with = |host: &[u8]| [&GET[..], &block(&[("host", host)])].concat();
    assert_eq!(open().pass(&frame(HEADERS, END, 3, &with(b"a"))), None);
    assert_eq!(fields(&open().pass(&frame(HEADERS, END, 3, &with(b"A"))).unwrap())[4].1, "a");
    assert_eq!(fields(&open().pass(&frame(HEADERS, END, 3, &with(b"b"))).unwrap())[4].1, HOST_MISMATCH.cause);
}

#[test]
fn a_malformed_request_is_one_to_refuse_and_the_next_ones_are_sound() {
    let mut heads = open();
    let indexed = |name: &[u8], value: &[u8]| [&[0x40, 1][..], name, &[1], value].concat();
    let sound = [&GET[..], &indexed(b"a", b"1")].concat();
    assert_eq!(heads.pass(&frame(HEADERS, END, 3, &sound)), None);
    let bad = [&GET[..], &indexed(b"B", b"2"), &indexed(b"c", b"3")].concat();
    let other = heads.pass(&[frame(6, 0, 0, &[0; 8]), frame(HEADERS, END, 5, &bad)].concat()).unwrap();
    let (ping, other) = other.split_at(17);
    assert_eq!(ping, frame(6, 0, 0, &[0; 8]));
    assert_eq!(FrameHead::read(other).unwrap().flags, END);
    assert_eq!(fields(other).last().unwrap().1, FIELD_NAME_INVALID.cause);
    let after = heads.pass(&frame(HEADERS, END, 7, &[&GET[..], &[0xC0, 0xBE]].concat())).unwrap();
    assert_eq!(fields(&after)[4..], [("a".into(), "1".into()), ("c".into(), "3".into())]);
    assert_eq!(heads.pass(&frame(HEADERS, END, 9, &[0xFF])), Some(frame(HEADERS, END, 9, &[0x80])));
    assert_eq!(heads.pass(&frame(HEADERS, END, 11, &GET)), None);
}

#[test]
fn what_a_uri_must_encode_is_encoded() {
    let path = |path: &[u8]| block(&[(":method", b"GET"), (":scheme", b"http"), (":path", path), (":authority", b"a")]);
    let other = open().pass(&frame(HEADERS, END, 3, &path(b"/a<b>?q=\"c\""))).unwrap();
    assert_eq!(fields(&other)[2].1, "/a%3Cb%3E?q=%22c%22");
    for invalid in [&b"/\xFF"[..], b"/a#b", b"/a b", b"a", b"", b"/\x7F"] {
        let other = open().pass(&frame(HEADERS, END, 3, &path(invalid))).unwrap();
        assert_eq!(fields(&other).last().unwrap().1, TARGET_INVALID.cause, "{invalid:?}");
    }
}

#[test]
fn malformed_trailers_do_not_end_their_stream() {
    let mut indexed = open();
    assert_eq!(indexed.pass(&frame(HEADERS, END, 3, &[&GET[..], &[0x5C, 1, b'0']].concat())), None);
    assert_eq!(indexed.pass(&frame(HEADERS, END, 1, &[0xBE])), Some(frame(HEADERS, END_HEADERS, 1, &[])));
    assert_eq!(
        open().pass(&frame(HEADERS, END | 0x20, 1, &[0, 0, 0, 1, 9])),
        Some(frame(HEADERS, END_HEADERS, 1, &[]))
    );
    for malformed in [vec![0x84], block(&[("a", b"\0")]), block(&[("X", b"")]), block(&[("te", b"x")])] {
        let other = open().pass(&frame(HEADERS, END, 1, &malformed));
        assert_eq!(other, Some(frame(HEADERS, END_HEADERS, 1, &[])), "{malformed:?}");
    }
    assert_eq!(open().pass(&frame(HEADERS, END, 1, &block(&[("grpc-status", b"0")]))), None);
}

#[test]
fn what_the_engine_would_answer_itself_is_refused() {
    let method = |method: &[u8]| block(&[(":method", method), (":authority", b"a:1")]);
    let cause = |block: &[u8]| fields(&open().pass(&frame(HEADERS, END, 3, block)).unwrap()).pop().unwrap().1;
    assert_eq!(cause(&method(b"CONNECT")), METHOD_UNSUPPORTED.cause);
    assert_eq!(cause(&method(b"GET")), BAD_REQUEST.cause);
    assert_eq!(cause(&block(&[(":method", b"GET"), (":scheme", b""), (":path", b"/")])), BAD_REQUEST.cause);
}

#[test]
fn a_block_without_end_is_not_held() {
    for piece in [vec![0; 10_000], vec![0x82; 10_000], vec![]] {
        let mut heads = open();
        assert_eq!(heads.pass(&frame(HEADERS, END_STREAM, 3, &GET)), Some(Vec::new()));
        let ended =
            (0..1010).find_map(|_| heads.pass(&frame(CONTINUATION, 0, 3, &piece)).filter(|out| !out.is_empty()));
        assert_eq!(ended, Some(frame(HEADERS, END, 3, &[0x80])));
        assert_eq!(heads.pass(&frame(CONTINUATION, 0, 3, &piece)), None);
    }
}

#[test]
fn what_is_within_a_block_and_none_of_it_is_left_to_the_crate() {
    for within in [frame(0, 0, 3, b"a"), frame(CONTINUATION, 0, 5, b"a"), frame(HEADERS, END, 5, &GET)] {
        let mut heads = open();
        let out = heads.pass(&[frame(HEADERS, END_STREAM, 3, &GET), within.clone()].concat());
        assert_eq!(out, Some([frame(HEADERS, 0, 3, &[]), within].concat()));
        assert_eq!(heads.pass(&frame(6, 0, 0, &[0; 8])), None);
    }
    let padded = frame(HEADERS, END | 8, 3, &[9, 0x82]);
    assert_eq!(open().pass(&padded), None);
}
