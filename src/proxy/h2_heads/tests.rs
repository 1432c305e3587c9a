use super::*;

const END: u8 = END_HEADERS | END_STREAM;
/// `GET /` for `http` and the host `a`, by the static table.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x01, 1, b'a'];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    bytes.extend(payload);
    bytes
}

fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| block::write(name.as_bytes(), value, &mut out));
    out
}

/// Past the preface, with stream 1 open.
fn open() -> Heads {
    let mut heads = Heads::default();
    assert_eq!(heads.pass(&[0; PREFACE_BYTES]), None);
    assert_eq!(heads.pass(&frame(HEADERS, END_HEADERS, 1, &GET)), None);
    heads
}

/// The fields of the one block in `frames`.
fn fields(frames: &[u8]) -> Vec<(String, String)> {
    let head = Head::read(frames.first_chunk().unwrap());
    let (fragment, _) = fragment(head, frames).unwrap();
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let fields = Decoder::default().decode(&fragment).unwrap();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn sound_blocks_go_on_as_they_came_however_they_arrive() {
    let sent = [
        vec![0; PREFACE_BYTES],
        frame(HEADERS, END_STREAM | PADDED, 1, &[2, 0x82, 0x86, 0, 0]),
        frame(CONTINUATION, END_HEADERS, 1, &[0x84, 0x41, 1, b'b']),
        frame(0, END_STREAM, 1, &[1, 2, 3]),
        frame(HEADERS, END_HEADERS, 3, &[0x82, 0x86, 0x84, 0xBE]),
    ]
    .concat();
    let mut heads = Heads::default();
    assert_eq!(heads.pass(&sent), None);
    // Cut within payloads: heads come as a whole.
    for cut in [24 + 9 + 2, 24 + 9 + 5, 24 + 9 + 5 + 9, 24 + 9 + 5 + 9 + 3, 24 + 9 + 5 + 9 + 4 + 9 + 1] {
        let mut heads = Heads::default();
        let (first, second) = sent.split_at(cut);
        let mut read = heads.pass(first).unwrap_or_else(|| first.to_vec());
        read.extend(heads.pass(second).unwrap_or_else(|| second.to_vec()));
        assert_eq!(read, sent, "cut at {cut}");
        assert!(!heads.lost && !heads.rewrites && heads.held.is_empty());
    }
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
    assert_eq!(Head::read(other.first_chunk().unwrap()).flags, END);
    assert_eq!(fields(other).last().unwrap().1, FIELD_NAME_INVALID.cause);
    let after = heads.pass(&frame(HEADERS, END, 7, &[&GET[..], &[0xC0, 0xBE]].concat())).unwrap();
    assert_eq!(fields(&after)[4..], [("a".into(), "1".into()), ("c".into(), "3".into())]);
    assert_eq!(heads.pass(&frame(HEADERS, END, 9, &[0x80])), Some(frame(HEADERS, END, 9, &[0x80])));
    assert!(heads.lost);
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
    for malformed in [vec![0x84], block(&[("a", b"\0")]), block(&[("X", b"")]), block(&[("te", b"x")])] {
        let other = open().pass(&frame(HEADERS, END, 1, &malformed));
        assert_eq!(other, Some(frame(HEADERS, END_HEADERS, 1, &[])), "{malformed:?}");
    }
    assert_eq!(open().pass(&frame(HEADERS, END, 1, &block(&[("grpc-status", b"0")]))), None);
}

#[test]
fn a_block_without_end_is_not_held() {
    let mut heads = open();
    let mut passed = heads.pass(&frame(HEADERS, END_STREAM, 3, &GET)).unwrap().len();
    for _ in 0..20 {
        let piece = frame(CONTINUATION, 0, 3, &[0; 10_000]);
        passed += heads.pass(&piece).map_or(piece.len(), |other| other.len());
        assert!(heads.held.len() <= BLOCK + 10_009);
    }
    assert!(heads.lost && heads.held.is_empty());
    assert_eq!(passed, 9 + GET.len() + 20 * 10_009);
}

#[test]
fn a_large_block_has_several_frames() {
    let whole = frames(5, END_STREAM, &[7; LARGEST * 2 + 1]);
    let head = Head::read(whole.first_chunk().unwrap());
    assert_eq!((head.flags, head.length), (END_STREAM, LARGEST));
    assert_eq!(*fragment(head, &whole).unwrap().0, [7; LARGEST * 2 + 1]);
}
