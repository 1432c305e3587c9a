//! RFC 9113 §6: every type of frame with wrong lengths, ids, flags and values.

use super::table::{Bed, Case, Step, Wanted};
use crate::harness::frame::{
    ACK, CANCEL, CONTINUATION, DATA, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, GOAWAY, HEADER_TABLE_SIZE, HEADERS, INITIAL_WINDOW_SIZE, LARGEST, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, PADDED, PING, PRIORITIZED, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WHOLE, WINDOW_UPDATE, data, frame, get, goaway, ping, post, request, reset, settings, window_update,
};

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_1_data() {
    let sent = |flags: u8, payload: &[u8]| vec![post(1, "/sink", &[]), frame(DATA, flags, 1, payload)];
    let padded = END_STREAM | PADDED;
    // Padding is no part of what content-length counts.
    let length = |payload: &[u8]| vec![post(1, "/sink", &[("content-length", b"3")]), frame(DATA, padded, 1, payload)];
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/6.1 DATA on stream 0", data(0, END_STREAM, b"a"), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.1 padding", length(&[&[5], &b"abc"[..], &[0; 5]].concat()), Wanted::Status(1, 200)),
            Case::new("9113/6.1 padding of length 0", length(b"\0abc"), Wanted::Status(1, 200)),
            Case::new(
                "9113/6.1 nothing but padding",
                sent(padded, &[&[255][..], &[0; 255]].concat()),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.1 padding as long as the frame",
                sent(padded, &[3, 0, 0]),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.1 padding longer than the frame",
                sent(padded, &[200, b'a']),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.1 no room for the length of the padding",
                sent(padded, &[]),
                Wanted::Any(vec![Wanted::Goaway(FRAME_SIZE_ERROR), Wanted::Goaway(PROTOCOL_ERROR)]),
            ),
            Case::new(
                "9113/6.1 padding that is not zero",
                sent(padded, &[2, b'a', 1, 1]),
                Wanted::Any(vec![Wanted::Status(1, 200), Wanted::Goaway(PROTOCOL_ERROR)]),
            ),
            Case::new("9113/6.1 flags that mean nothing", sent(END_STREAM | 0xf6, b"a"), Wanted::Status(1, 200)),
            Case::new("9113/6.1 an empty frame that ends the stream", sent(END_STREAM, &[]), Wanted::Status(1, 200)),
            Case::new(
                "9113/6.1 empty frames between others",
                vec![
                    post(1, "/sink", &[]),
                    data(1, 0, b""),
                    data(1, 0, b"a"),
                    data(1, 0, b""),
                    data(1, END_STREAM, b"b"),
                ],
                Wanted::Status(1, 200),
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_2_headers() {
    let block = request("GET", "/", &[]);
    let sent = |flags: u8, payload: &[&[u8]]| frame(HEADERS, WHOLE | flags, 1, &payload.concat());
    let both = PADDED | PRIORITIZED;
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/6.2 padding", sent(PADDED, &[&[4], &block, &[0; 4]]), Wanted::Status(1, 200)),
            Case::new(
                "9113/6.2 padding and a priority",
                sent(both, &[&[4, 0, 0, 0, 0, 1], &block, &[0; 4]]),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.2 padding longer than the frame",
                sent(PADDED, &[&[255], &block]),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.2 padding that leaves no room for the priority",
                sent(both, &[&[4, 0, 0, 0, 0, 1]]),
                Wanted::Any(vec![Wanted::Goaway(PROTOCOL_ERROR), Wanted::Goaway(FRAME_SIZE_ERROR)]),
            ),
            Case::new(
                "9113/6.2 no room for the length of the padding",
                sent(PADDED, &[]),
                Wanted::Any(vec![Wanted::Goaway(FRAME_SIZE_ERROR), Wanted::Goaway(PROTOCOL_ERROR)]),
            ),
            Case::malformed("9113/6.2 an empty block", sent(0, &[])),
            Case::new("9113/6.2 HEADERS on stream 0", frame(HEADERS, WHOLE, 0, &block), Wanted::Goaway(PROTOCOL_ERROR)),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_4_rst_stream() {
    let sent = |payload: &[u8]| vec![post(1, "/hold", &[]), frame(RST_STREAM, 0, 1, payload)];
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/6.4 RST_STREAM on stream 0", reset(0, CANCEL), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.4 RST_STREAM of 3 bytes", sent(&[0; 3]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.4 RST_STREAM of 5 bytes", sent(&[0; 5]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.4 a code that nobody knows (§7)", sent(&[0xff; 4]), Wanted::Serves),
            Case::new(
                "9113/6.4 a request that is reset ends at the origin",
                vec![Step::Send(get(1, "/hold", &[])), Step::Held(1), Step::Send(reset(1, CANCEL)), Step::Held(0)],
                Wanted::Serves,
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_5_settings() {
    let sent = |flags: u8, stream: u32, payload: &[u8]| frame(SETTINGS, flags, stream, payload);
    let one = |name: u16, value: u32| settings(&[(name, value)]);
    let taken = |frames: Vec<u8>| vec![Step::Send(frames), Step::Acknowledged(2)];
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/6.5 SETTINGS on a stream", sent(0, 1, &[]), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.5 SETTINGS of 5 bytes", sent(0, 0, &[0; 5]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.5 SETTINGS of 1 byte", sent(0, 0, &[0]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.5 an acknowledgement with a value",
                sent(ACK, 0, &[0; 6]),
                Wanted::Goaway(FRAME_SIZE_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.5 an acknowledgement that nobody waits for",
                sent(ACK, 0, &[]),
                Wanted::Any(vec![Wanted::Serves, Wanted::Goaway(PROTOCOL_ERROR)]),
            ),
            Case::new("9113/6.5.2 HEADER_TABLE_SIZE of 4 GiB", taken(one(HEADER_TABLE_SIZE, u32::MAX)), Wanted::Serves),
            Case::new("9113/6.5.2 ENABLE_PUSH of 0", taken(one(ENABLE_PUSH, 0)), Wanted::Serves),
            Case::new("9113/6.5.2 ENABLE_PUSH of 2", one(ENABLE_PUSH, 2), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.5.2 MAX_CONCURRENT_STREAMS of 0", taken(one(MAX_CONCURRENT_STREAMS, 0)), Wanted::Serves),
            Case::new(
                "9113/6.5.2 INITIAL_WINDOW_SIZE at its bound",
                taken(one(INITIAL_WINDOW_SIZE, LARGEST)),
                Wanted::Serves,
            ),
            Case::new(
                "9113/6.5.2 INITIAL_WINDOW_SIZE above its bound",
                one(INITIAL_WINDOW_SIZE, 1 << 31),
                Wanted::Goaway(FLOW_CONTROL_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.5.2 MAX_FRAME_SIZE below its bounds",
                one(MAX_FRAME_SIZE, 16_383),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.5.2 MAX_FRAME_SIZE above its bounds",
                one(MAX_FRAME_SIZE, 1 << 24),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.5.2 MAX_FRAME_SIZE at its bound",
                [taken(one(MAX_FRAME_SIZE, (1 << 24) - 1)), vec![Step::Send(get(1, "/bytes/60000", &[]))]].concat(),
                Wanted::Body(1, 200, 60_000),
            ),
            Case::new("9113/6.5.2 MAX_HEADER_LIST_SIZE of 1", taken(one(MAX_HEADER_LIST_SIZE, 1)), Wanted::Serves),
            Case::new("9113/6.5.2 a setting that nobody knows", taken(one(0xabcd, u32::MAX)), Wanted::Serves),
            Case::new(
                "9113/6.5.2 ENABLE_CONNECT_PROTOCOL of 2 (RFC 8441 §3)",
                one(ENABLE_CONNECT_PROTOCOL, 2),
                Wanted::Any(vec![Wanted::Goaway(PROTOCOL_ERROR), Wanted::Serves]),
            ),
            Case::new(
                "9113/6.5.3 each is acknowledged",
                vec![Step::Send(settings(&[]).repeat(5)), Step::Acknowledged(6)],
                Wanted::Serves,
            ),
            Case::new(
                "9113/6.5.3 values are taken in their order",
                vec![
                    Step::Send(settings(&[(INITIAL_WINDOW_SIZE, 7), (INITIAL_WINDOW_SIZE, 3)])),
                    Step::Send(get(1, "/bytes/10", &[])),
                    Step::Body(1, 3),
                    Step::Send(window_update(1, 7)),
                ],
                Wanted::Body(1, 200, 10),
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_6_to_6_8_push_ping_and_goaway() {
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/6.6 PUSH_PROMISE of a client",
                vec![
                    post(1, "/sink", &[]),
                    frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &request("GET", "/", &[])[..]].concat()),
                ],
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new("9113/6.7 PING", ping(*b"weir\0\xff\x7f\x80"), Wanted::Pongs(vec![*b"weir\0\xff\x7f\x80"])),
            Case::new(
                "9113/6.7 PINGs are answered in their order",
                vec![ping(*b"00000001"), ping(*b"00000002"), ping(*b"00000003")],
                Wanted::Pongs(vec![*b"00000001", *b"00000002", *b"00000003"]),
            ),
            Case::new(
                "9113/6.7 an answer that nobody waits for",
                vec![frame(PING, ACK, 0, &[0; 8]), ping(*b"afterits")],
                Wanted::Pongs(vec![*b"afterits"]),
            ),
            Case::new("9113/6.7 PING on a stream", frame(PING, 0, 1, &[0; 8]), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.7 PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.7 PING of 9 bytes", frame(PING, 0, 0, &[0; 9]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.7 an empty PING", frame(PING, 0, 0, &[]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.7 PING within an upload",
                vec![
                    Step::Send([post(1, "/sink", &[]), data(1, 0, b"a"), ping(*b"12345678")].concat()),
                    Step::Send(data(1, END_STREAM, b"b")),
                ],
                Wanted::Status(1, 200),
            ),
            Case::new("9113/6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/6.8 GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, &[0; 7]), Wanted::Goaway(FRAME_SIZE_ERROR))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.8 a client that goes gets what it asked for",
                vec![get(1, "/delay/200", &[]), goaway(0, 0)],
                Wanted::Status(1, 200),
            )
            .last(),
            Case::new(
                "9113/6.8 a client that goes with a code and words",
                vec![get(1, "/delay/200", &[]), frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0bwords for people")],
                Wanted::Any(vec![Wanted::Status(1, 200), Wanted::Ends]),
            )
            .last(),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_9_window_update() {
    let open = |update: Vec<u8>| vec![post(1, "/sink", &[]), update];
    let either = |code| Wanted::Any(vec![Wanted::Reset(1, code), Wanted::Goaway(code)]);
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/6.9 an increment of 0 for the connection",
                window_update(0, 0),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new("9113/6.9 an increment of 0 for a stream", open(window_update(1, 0)), either(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.9 WINDOW_UPDATE of 3 bytes",
                frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
                Wanted::Goaway(FRAME_SIZE_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.9 WINDOW_UPDATE of 5 bytes for a stream",
                open(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 0, 1])),
                Wanted::Goaway(FRAME_SIZE_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.9 the reserved bit",
                vec![open(window_update(1, 1 << 31 | 5)).concat(), data(1, END_STREAM, b"a")],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.9.1 a window of the connection above its bound",
                vec![window_update(0, LARGEST), window_update(0, LARGEST)],
                Wanted::Goaway(FLOW_CONTROL_ERROR),
            ),
            Case::new(
                "9113/6.9.1 a window of a stream above its bound",
                vec![get(1, "/delay/200", &[]), window_update(1, LARGEST), window_update(1, LARGEST)],
                either(FLOW_CONTROL_ERROR),
            ),
            Case::new(
                "9113/6.9.2 a window of a stream that SETTINGS raise above its bound",
                vec![
                    get(1, "/delay/200", &[]),
                    window_update(1, LARGEST - 65_535),
                    settings(&[(INITIAL_WINDOW_SIZE, 65_536)]),
                ],
                Wanted::Goaway(FLOW_CONTROL_ERROR),
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_10_continuation() {
    let block = request("GET", "/", &[]);
    let (first, rest) = block.split_at(block.len() / 2);
    let head = |part: &[u8]| frame(HEADERS, END_STREAM, 1, part);
    let more = |flags, stream, part: &[u8]| frame(CONTINUATION, flags, stream, part);
    let bytewise = |at: usize, part: &[u8]| more(if at + 1 == block.len() { END_HEADERS } else { 0 }, 1, part);
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/6.10 a block in two frames",
                vec![head(first), more(END_HEADERS, 1, rest)],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.10 a block byte by byte",
                [head(&[]), block.chunks(1).enumerate().flat_map(|(at, part)| bytewise(at, part)).collect()].concat(),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.10 all of it after empty HEADERS",
                vec![head(&[]), more(END_HEADERS, 1, &block)],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.10 empty frames within and after it",
                vec![head(first), more(0, 1, &[]), more(0, 1, rest), more(END_HEADERS, 1, &[])],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.10 flags that mean nothing",
                vec![head(first), more(END_HEADERS | 0xfa, 1, rest)],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.10 END_STREAM is that of HEADERS",
                vec![
                    frame(HEADERS, 0, 1, &request("POST", "/sink", &[])),
                    more(END_HEADERS | END_STREAM, 1, &[]),
                    data(1, END_STREAM, b"a"),
                ],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/6.10 CONTINUATION on stream 0",
                vec![head(first), more(END_HEADERS, 0, rest)],
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.10 CONTINUATION on another stream",
                vec![head(first), more(END_HEADERS, 3, rest)],
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.10 CONTINUATION after END_HEADERS",
                vec![post(1, "/sink", &[]), more(END_HEADERS, 1, &[])],
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.10 CONTINUATION after DATA",
                vec![post(1, "/sink", &[]), data(1, 0, b"a"), more(END_HEADERS, 1, &[])],
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/6.10 HEADERS of the same stream within it",
                vec![head(first), head(rest)],
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
        ])
        .await;
}
