//! RFC 9113 §3 and §4: the preface, the sizes of frames, and header blocks as the state of a connection.

use super::table::{Bed, Case, Step, Wanted};
use crate::harness::frame::{
    COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_SIZE, FRAME_SIZE_ERROR, HEADERS,
    INITIAL_WINDOW_SIZE, PREFACE, PROTOCOL_ERROR, SETTINGS, WHOLE, data, frame, frame_head, get, indexing, ping, post,
    preface, request, reset, settings,
};

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_3_a_connection_begins_with_the_preface() {
    let long = [&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], &settings(&[])].concat();
    Bed::start()
        .await
        .check(vec![
            Case::first("9113/3.4 the preface and empty SETTINGS", preface(), Wanted::Serves),
            Case::first(
                "9113/3.4 the preface byte by byte",
                vec![Step::Trickle([preface(), get(1, "/", &[])].concat())],
                Wanted::Status(1, 200),
            ),
            Case::first(
                "9113/3.4 a request before the server's SETTINGS have come",
                vec![preface(), get(1, "/", &[])],
                Wanted::Status(1, 200),
            ),
            Case::first(
                "9113/3.4 SETTINGS with a value in the preface",
                vec![PREFACE.to_vec(), settings(&[(INITIAL_WINDOW_SIZE, 100_000)]), get(1, "/", &[])],
                Wanted::Status(1, 200),
            ),
            Case::first("9113/3.4 another preface", long, Wanted::Ends),
            Case::first("9113/3.4 no preface at all", b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec(), Wanted::Ends),
            Case::first(
                "9113/3.4 PING instead of SETTINGS",
                vec![PREFACE.to_vec(), ping([0; 8])],
                Wanted::Goaway(PROTOCOL_ERROR),
            )
            // The engine takes any frame first.
            .general(Wanted::Pongs(vec![[0; 8]])),
            Case::first(
                "9113/3.4 HEADERS instead of SETTINGS",
                vec![PREFACE.to_vec(), get(1, "/", &[])],
                Wanted::Goaway(PROTOCOL_ERROR),
            )
            // The engine takes any frame first.
            .general(Wanted::Status(1, 200)),
            Case::first(
                "9113/3.4 an acknowledgement instead of SETTINGS",
                vec![PREFACE.to_vec(), frame(SETTINGS, 1, 0, &[])],
                Wanted::Any(vec![Wanted::Goaway(PROTOCOL_ERROR), Wanted::Ends]),
            )
            // The engine takes any frame first.
            .general(Wanted::Serves),
            Case::new("9113/3.4 the preface a second time", PREFACE.to_vec(), Wanted::Ends),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_4_frames_have_types_flags_and_sizes() {
    let full = |kind, stream| frame(kind, 0, stream, &[0; FRAME_SIZE + 1]);
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/4.1 a frame of an unknown type", frame(0x42, 0xff, 0, b"what"), Wanted::Serves),
            Case::new("9113/4.1 an unknown type on an idle stream", frame(0x42, 0xff, 5, b"what"), Wanted::Serves),
            Case::new("9113/4.1 an unknown type of 16 KiB", frame(0x42, 0, 0, &[0; FRAME_SIZE]), Wanted::Serves),
            Case::new(
                "9113/4.1 an unknown type on an open stream",
                vec![post(1, "/sink", &[]), frame(0x42, 1, 1, b"what"), data(1, END_STREAM, b"body")],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/4.1 flags of PING that mean nothing",
                frame(6, 0xfe, 0, b"12345678"),
                Wanted::Pongs(vec![*b"12345678"]),
            ),
            Case::new(
                "9113/4.1 the reserved bit of a connection's frame",
                frame(6, 0, 1 << 31, b"12345678"),
                Wanted::Pongs(vec![*b"12345678"]),
            ),
            Case::new(
                "9113/4.1 the reserved bit of a stream's frame",
                get(1 | 1 << 31, "/", &[]),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/4.1 flags of HEADERS that mean nothing",
                frame(HEADERS, WHOLE | 0xd2, 1, &request("GET", "/", &[])),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/4.2 DATA of 16 KiB",
                vec![post(1, "/sink", &[]), data(1, END_STREAM, &[b'a'; FRAME_SIZE])],
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/4.2 DATA above 16 KiB",
                vec![post(1, "/sink", &[]), full(DATA, 1)],
                Wanted::Any(vec![Wanted::Goaway(FRAME_SIZE_ERROR), Wanted::Reset(1, FRAME_SIZE_ERROR)]),
            ),
            Case::new("9113/4.2 HEADERS above 16 KiB", full(HEADERS, 1), Wanted::Goaway(FRAME_SIZE_ERROR)),
            Case::new("9113/4.2 SETTINGS above 16 KiB", full(SETTINGS, 0), Wanted::Goaway(FRAME_SIZE_ERROR)),
            Case::new("9113/4.2 an unknown type above 16 KiB", full(0x42, 0), Wanted::Goaway(FRAME_SIZE_ERROR)),
            Case::new(
                "9113/4.2 CONTINUATION above 16 KiB",
                vec![frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])), full(CONTINUATION, 1)],
                Wanted::Goaway(FRAME_SIZE_ERROR),
            ),
            Case::new(
                "9113/4.2 the head of a frame of 16 MiB, of which nothing follows",
                frame_head((1 << 24) - 1, SETTINGS, 0, 0).to_vec(),
                Wanted::Goaway(FRAME_SIZE_ERROR),
            ),
            Case::new(
                "9113/4.2 frames byte by byte",
                vec![Step::Trickle(
                    [post(1, "/sink", &[]), data(1, 0, b"a"), ping(*b"12345678"), data(1, END_STREAM, b"b")].concat(),
                )],
                Wanted::Status(1, 200),
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_4_3_header_blocks_are_the_connections_state() {
    let within = |other: Vec<u8>| {
        vec![frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])), other, frame(CONTINUATION, END_HEADERS, 1, &[])]
    };
    // A field that the next block names by its place, 62.
    let after = "9113/4.3 a block of a stream that was reset counts for the next";
    let lost = "9113/4.3 a block of trailers counts for the next";
    let nonce = |name: &str| [request("GET", "/", &[("x-nonce", name.as_bytes())]), vec![0x80 | 62]].concat();
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/4.3 an index that no table has",
                frame(HEADERS, WHOLE, 1, &[&request("GET", "/", &[])[..], &[0x80 | 70]].concat()),
                Wanted::Goaway(COMPRESSION_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/4.3 a block that ends in the middle of a field",
                frame(HEADERS, WHOLE, 1, &[&request("GET", "/", &[])[..], &[0, 5, b'a']].concat()),
                Wanted::Goaway(COMPRESSION_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/4.3 DATA inside a header block", within(data(1, 0, b"a")), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/4.3 PING inside a header block", within(ping([0; 8])), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/4.3 SETTINGS inside a header block", within(settings(&[])), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/4.3 an unknown type inside a header block",
                within(frame(0x42, 0, 1, &[])),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/4.3 another stream's HEADERS inside a header block",
                within(get(3, "/", &[])),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                after,
                vec![
                    frame(
                        HEADERS,
                        END_HEADERS,
                        1,
                        &[request("POST", "/hold", &[]), indexing(b"x-before", b"1")].concat(),
                    ),
                    reset(1, 8),
                    frame(HEADERS, WHOLE, 3, &nonce(after)),
                ],
                Wanted::Status(3, 200),
            )
            .reaches("x-before", Some("1")),
            Case::new(
                lost,
                vec![
                    Step::Send(post(1, "/sink", &[])),
                    Step::Send(frame(HEADERS, WHOLE, 1, &indexing(b"x-before", b"2"))),
                    Step::Send(frame(HEADERS, WHOLE, 3, &nonce(lost))),
                ],
                Wanted::Status(3, 200),
            )
            .reaches("x-before", Some("2")),
            Case::new(
                "9113/4.3 a faulty block of a closed stream is an error of the connection all the same",
                vec![Step::Send(get(1, "/", &[])), Step::End(1), Step::Send(frame(HEADERS, WHOLE, 1, &[0x80 | 70]))],
                Wanted::Any(vec![Wanted::Goaway(COMPRESSION_ERROR), Wanted::Goaway(5)]),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
        ])
        .await;
}
