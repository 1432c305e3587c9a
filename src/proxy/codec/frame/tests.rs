//! Each rule of RFC 9113 §6 about a frame alone, and that what is written is read.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::proxy::io::buffer::Buffer;

const PROTOCOL: FrameError = FrameError::Connection(ErrorCode::PROTOCOL_ERROR);
const SIZE: FrameError = FrameError::Connection(ErrorCode::FRAME_SIZE_ERROR);

fn head(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> FrameHead {
    FrameHead { length: payload.len(), kind, flags, stream }
}

fn parse(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    Frame::parse(&head(kind, flags, stream, payload), payload)
}

/// Frames one after the other: heads and payloads.
fn frames(mut bytes: &[u8]) -> Vec<(FrameHead, &[u8])> {
    let mut frames = Vec::new();
    while let Some(head) = FrameHead::read(bytes) {
        let (payload, rest) = bytes[FrameHead::SIZE..].split_at(head.length);
        frames.push((head, payload));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    frames
}

#[test]
fn a_head_is_nine_bytes_without_the_reserved_bit() {
    let bytes = [0x01, 0x02, 0x03, kind::HEADERS, flag::END_STREAM, 0x80, 0, 1, 0];
    let read = FrameHead::read(&bytes).unwrap();
    assert_eq!(read, FrameHead { length: 0x0001_0203, kind: kind::HEADERS, flags: flag::END_STREAM, stream: 256 });
    assert_eq!(read.bytes(), [1, 2, 3, 1, 1, 0, 0, 1, 0]);
    assert_eq!(FrameHead::read(&bytes[..8]), None);
    assert!(read.has(flag::END_STREAM) && !read.has(flag::PADDED));
    assert_eq!(read.check(0x0001_0203), Ok(()));
    assert_eq!(read.check(0x0001_0202), Err(SIZE));
}

#[test]
fn data_and_its_padding() {
    let data = |data, padding, end_stream| Ok(Frame::Data { data, padding, end_stream });
    assert_eq!(parse(kind::DATA, 0, 1, b"ab"), data(b"ab", 0, false));
    assert_eq!(parse(kind::DATA, flag::END_STREAM, 1, b""), data(b"", 0, true));
    assert_eq!(parse(kind::DATA, flag::PADDED, 1, &[2, b'a', 0, 0]), data(b"a", 3, false));
    assert_eq!(parse(kind::DATA, flag::PADDED, 1, &[2, 0, 0]), data(b"", 3, false));
    assert_eq!(parse(kind::DATA, flag::PADDED, 1, &[0]), data(b"", 1, false));
    assert_eq!(parse(kind::DATA, flag::PADDED, 1, &[3, 0, 0]), Err(PROTOCOL), "§6.1");
    assert_eq!(parse(kind::DATA, flag::PADDED, 1, &[]), Err(SIZE), "§4.2");
    assert_eq!(parse(kind::DATA, 0, 0, b"a"), Err(PROTOCOL), "§6.1");
}

#[test]
fn headers_with_padding_and_priority() {
    let headers = |block, end_stream, end_headers, depends_on_itself| {
        Ok(Frame::Headers { block, end_stream, end_headers, depends_on_itself })
    };
    let both = flag::PADDED | flag::PRIORITY;
    assert_eq!(parse(kind::HEADERS, flag::END_STREAM, 1, b"a"), headers(b"a", true, false, false));
    assert_eq!(parse(kind::HEADERS, flag::END_HEADERS, 1, b""), headers(b"", false, true, false));
    assert_eq!(parse(kind::HEADERS, both, 16, &[1, 0x80, 0, 0, 16, 9, 7, 0]), headers(&[7], false, false, true));
    assert_eq!(parse(kind::HEADERS, flag::PRIORITY, 16, &[0, 0, 0, 15, 9]), headers(b"", false, false, false));
    assert_eq!(parse(kind::HEADERS, flag::PADDED, 1, &[1]), Err(PROTOCOL), "§6.2");
    assert_eq!(parse(kind::HEADERS, flag::PADDED, 1, &[]), Err(SIZE), "§4.2");
    assert_eq!(parse(kind::HEADERS, flag::PRIORITY, 1, &[0; 4]), Err(SIZE), "§4.2");
    assert_eq!(parse(kind::HEADERS, both, 1, &[1, 0, 0, 0, 0, 0]), Err(PROTOCOL), "§6.2");
    assert_eq!(parse(kind::HEADERS, both, 1, &[0, 0, 0, 0, 0]), Err(SIZE), "§4.2");
    assert_eq!(parse(kind::HEADERS, 0, 0, b"a"), Err(PROTOCOL), "§6.2");
}

#[test]
fn settings_and_their_values() {
    let settings = |entries: &[(u16, u32)]| {
        let mut out = Buffer::default();
        settings(&mut out, entries);
        let (head, payload) = frames(out.data())[0];
        Frame::parse(&head, payload).map(|frame| match frame {
            Frame::Settings { ack: false, entries } => entries.iter().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
    };
    let sound = [
        (setting::HEADER_TABLE_SIZE, u32::MAX),
        (setting::ENABLE_PUSH, 1),
        (setting::MAX_CONCURRENT_STREAMS, 0),
        (setting::INITIAL_WINDOW_SIZE, LARGEST_WINDOW),
        (setting::MAX_FRAME_SIZE, 16_384),
        (setting::MAX_FRAME_SIZE, 16_777_215),
        (setting::MAX_HEADER_LIST_SIZE, 0),
        (setting::ENABLE_CONNECT_PROTOCOL, 1),
        (0xFFFF, 7),
    ];
    assert_eq!(settings(&sound), Ok(sound.to_vec()));
    let flow = FrameError::Connection(ErrorCode::FLOW_CONTROL_ERROR);
    for (entry, wanted) in [
        ((setting::ENABLE_PUSH, 2), PROTOCOL),
        ((setting::INITIAL_WINDOW_SIZE, LARGEST_WINDOW + 1), flow),
        ((setting::MAX_FRAME_SIZE, 16_383), PROTOCOL),
        ((setting::MAX_FRAME_SIZE, 16_777_216), PROTOCOL),
        ((setting::ENABLE_CONNECT_PROTOCOL, 2), PROTOCOL),
    ] {
        assert_eq!(settings(&[(1, 1), entry]), Err(wanted), "§6.5.2 {entry:?}");
    }
    assert_eq!(parse(kind::SETTINGS, 0, 0, &[0; 5]), Err(SIZE), "§6.5");
    assert_eq!(parse(kind::SETTINGS, 0, 0, &[0; 7]), Err(SIZE), "§6.5");
    assert_eq!(parse(kind::SETTINGS, flag::ACK, 0, &[0; 6]), Err(SIZE), "§6.5");
    assert_eq!(parse(kind::SETTINGS, 0, 1, &[0; 6]), Err(PROTOCOL), "§6.5");
    assert!(matches!(parse(kind::SETTINGS, flag::ACK, 0, &[]), Ok(Frame::Settings { ack: true, .. })));
}

#[test]
fn frames_of_one_size() {
    let stream_size = FrameError::Stream(ErrorCode::FRAME_SIZE_ERROR);
    let stream_protocol = FrameError::Stream(ErrorCode::PROTOCOL_ERROR);
    for length in [0, 3, 4, 5, 7, 8, 9] {
        let payload = vec![1; length];
        let wrong = |kind, stream| parse(kind, 0, stream, &payload).err();
        assert_eq!(wrong(kind::PRIORITY, 3), (length != 5).then_some(stream_size), "§6.3 {length}");
        assert_eq!(wrong(kind::RST_STREAM, 3), (length != 4).then_some(SIZE), "§6.4 {length}");
        assert_eq!(wrong(kind::PING, 0), (length != 8).then_some(SIZE), "§6.7 {length}");
        assert_eq!(wrong(kind::GOAWAY, 0), (length < 8).then_some(SIZE), "§6.8 {length}");
        assert_eq!(wrong(kind::WINDOW_UPDATE, 0), (length != 4).then_some(SIZE), "§6.9 {length}");
    }
    assert_eq!(parse(kind::PRIORITY, 0, 0, &[0; 5]), Err(PROTOCOL), "§6.3");
    assert_eq!(parse(kind::PRIORITY, 0, 3, &[0x80, 0, 0, 3, 0]), Err(stream_protocol), "RFC 7540 §5.3.1");
    assert_eq!(parse(kind::RST_STREAM, 0, 0, &[0; 4]), Err(PROTOCOL), "§6.4");
    assert_eq!(parse(kind::PING, 0, 1, &[0; 8]), Err(PROTOCOL), "§6.7");
    assert_eq!(parse(kind::GOAWAY, 0, 1, &[0; 8]), Err(PROTOCOL), "§6.8");
    assert_eq!(parse(kind::WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 0]), Err(PROTOCOL), "§6.9");
    assert_eq!(parse(kind::WINDOW_UPDATE, 0, 1, &[0; 4]), Err(stream_protocol), "§6.9");
    assert_eq!(parse(kind::WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 1]), Ok(Frame::WindowUpdate { increment: 1 }));
    assert_eq!(parse(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 4]), Err(PROTOCOL), "§8.4");
    assert_eq!(parse(kind::CONTINUATION, 0, 0, &[]), Err(PROTOCOL), "§6.10");
    assert_eq!(parse(0xA, 0xFF, 0, b"abc"), Ok(Frame::Unknown), "§4.1");
}

#[test]
fn nothing_comes_within_a_header_block() {
    let take = |order: &mut FrameOrder, kind, flags, stream| order.take(&head(kind, flags, stream, &[]));
    for (kind, flags, stream, wanted) in [
        (kind::CONTINUATION, 0, 1, Ok(())),
        (kind::CONTINUATION, flag::END_HEADERS, 1, Ok(())),
        (kind::CONTINUATION, 0, 3, Err(PROTOCOL)),
        (kind::HEADERS, flag::END_HEADERS, 1, Err(PROTOCOL)),
        (kind::HEADERS, 0, 3, Err(PROTOCOL)),
        (kind::DATA, 0, 1, Err(PROTOCOL)),
        (kind::PING, 0, 0, Err(PROTOCOL)),
        (0xA, 0, 1, Err(PROTOCOL)),
    ] {
        let mut order = FrameOrder::default();
        assert_eq!(take(&mut order, kind::DATA, 0, 1), Ok(()));
        assert_eq!(take(&mut order, kind::HEADERS, 0, 1), Ok(()));
        assert!(order.in_block());
        assert_eq!(take(&mut order, kind, flags, stream), wanted, "§6.10 {kind} {flags} {stream}");
        if wanted.is_ok() {
            let ended = flags == flag::END_HEADERS;
            assert_eq!(order.in_block(), !ended);
            assert_eq!(take(&mut order, kind::DATA, 0, 1).is_ok(), ended);
        }
    }
    let mut order = FrameOrder::default();
    assert_eq!(take(&mut order, kind::CONTINUATION, flag::END_HEADERS, 1), Err(PROTOCOL), "§6.10");
    assert_eq!(take(&mut order, kind::HEADERS, flag::END_HEADERS, 1), Ok(()));
    assert!(!order.in_block());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        (stream, number, end) in (1..=LARGEST_WINDOW, 1..=LARGEST_WINDOW, any::<bool>()),
        payload in vec(any::<u8>(), 0..2_000),
        ping_payload in any::<[u8; 8]>(),
        max_frame in 1..3_000_usize,
    ) {
        let mut out = Buffer::default();
        data(&mut out, stream, end, &payload);
        reset(&mut out, stream, ErrorCode(number));
        window_update(&mut out, stream, number);
        ping(&mut out, end, &ping_payload);
        go_away(&mut out, stream, ErrorCode(number));
        settings_ack(&mut out);
        header_frames(&mut out, stream, end, &payload, max_frame);
        let all = frames(out.data());
        let (first, block) = all.split_at(6);
        let read: Vec<Frame<'_>> = first.iter().map(|(head, payload)| Frame::parse(head, payload).unwrap()).collect();
        prop_assert_eq!(read[0], Frame::Data { data: &payload, padding: 0, end_stream: end });
        prop_assert_eq!(read[1], Frame::Reset { code: ErrorCode(number) });
        prop_assert_eq!(read[2], Frame::WindowUpdate { increment: number });
        prop_assert_eq!(read[3], Frame::Ping { ack: end, payload: ping_payload });
        prop_assert_eq!(read[4], Frame::GoAway { last: stream, code: ErrorCode(number) });
        let acknowledged = matches!(read[5], Frame::Settings { ack: true, .. });
        prop_assert!(acknowledged);
        prop_assert_eq!(first.iter().map(|(head, _)| head.stream).collect::<Vec<_>>(), [stream, stream, stream, 0, 0, 0]);
        // The block is whole, in order, and ends with its last frame.
        let (mut order, mut gathered) = (FrameOrder::default(), Vec::new());
        for (at, (head, payload)) in block.iter().enumerate() {
            prop_assert_eq!(order.take(head), Ok(()));
            prop_assert!(payload.len() <= max_frame);
            prop_assert_eq!(order.in_block(), at + 1 < block.len());
            match Frame::parse(head, payload).unwrap() {
                Frame::Headers { block, end_stream, .. } => {
                    prop_assert_eq!((at, end_stream), (0, end));
                    gathered.extend_from_slice(block);
                }
                Frame::Continuation { block, .. } => gathered.extend_from_slice(block),
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(gathered, payload);
    }

    #[test]
    fn no_bytes_are_too_odd(kind in 0_u8..12, flags in any::<u8>(), stream in 0_u32..4, payload in vec(any::<u8>(), 0..40)) {
        let read = parse(kind, flags, stream, &payload);
        if let Ok(Frame::Data { data, padding, .. }) = read {
            prop_assert_eq!(data.len() + padding, payload.len());
        }
    }
}
