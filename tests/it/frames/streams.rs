//! RFC 9113 §5: states of streams, their ids, how many there may be, and priorities.

use super::table::{Bed, Case, Step, Wanted};
use crate::harness::frame::{
    CANCEL, CONTINUATION, END_HEADERS, END_STREAM, FRAME_SIZE_ERROR, HEADERS, LARGEST, PRIORITIZED, PRIORITY,
    PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED, WHOLE, data, frame, get, post, request, reset, window_update,
};

/// An error of the stream, or of the whole connection.
fn either(stream: u32, code: u32) -> Wanted {
    Wanted::Any(vec![Wanted::Reset(stream, code), Wanted::Goaway(code)])
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_5_1_frames_fit_the_state_of_their_stream() {
    let ended = |frame: Vec<u8>| vec![Step::Send(get(1, "/", &[])), Step::End(1), Step::Send(frame)];
    let reset_first = |frame: Vec<u8>| vec![post(1, "/hold", &[]), reset(1, CANCEL), frame];
    let half_closed = |frame: Vec<u8>| vec![get(1, "/delay/200", &[]), frame];
    let second = || frame(HEADERS, WHOLE, 1, &request("GET", "/", &[]));
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/5.1 DATA on an idle stream", data(1, END_STREAM, b"a"), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/5.1 RST_STREAM on an idle stream", reset(1, CANCEL), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/5.1 WINDOW_UPDATE on an idle stream",
                window_update(1, 100),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/5.1 CONTINUATION on an idle stream",
                frame(CONTINUATION, END_HEADERS, 1, &[]),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new("9113/5.1 PRIORITY on an idle stream", priority(9, 0), Wanted::Serves),
            Case::new(
                "9113/5.1 DATA on a stream that the client ended",
                half_closed(data(1, END_STREAM, b"a")),
                either(1, STREAM_CLOSED),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/5.1 HEADERS on a stream that the client ended",
                half_closed(second()),
                either(1, STREAM_CLOSED),
            )
            // The engine's code says less.
            .general(Wanted::Reset(1, PROTOCOL_ERROR)),
            Case::new(
                "9113/5.1 CONTINUATION on a stream that the client ended",
                half_closed(frame(CONTINUATION, END_HEADERS, 1, &[])),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/5.1 WINDOW_UPDATE on a stream that the client ended",
                half_closed(window_update(1, 100)),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/5.1 PRIORITY on a stream that the client ended",
                half_closed(priority(1, 0)),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/5.1 DATA on a stream that the client reset",
                reset_first(data(1, END_STREAM, b"a")),
                either(1, STREAM_CLOSED),
            ),
            Case::new(
                "9113/5.1 HEADERS on a stream that the client reset",
                reset_first(second()),
                either(1, STREAM_CLOSED),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/5.1 RST_STREAM twice",
                reset_first(reset(1, CANCEL)),
                Wanted::Any(vec![Wanted::Serves, either(1, STREAM_CLOSED)]),
            ),
            Case::new(
                "9113/5.1 PRIORITY on a stream that the client reset",
                reset_first(priority(1, 0)),
                Wanted::Serves,
            ),
            Case::new(
                "9113/5.1 DATA on a stream that both ended",
                ended(data(1, END_STREAM, b"a")),
                either(1, STREAM_CLOSED),
            ),
            Case::new("9113/5.1 HEADERS on a stream that both ended", ended(second()), either(1, STREAM_CLOSED))
                // The engine's code says less.
                .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/5.1 CONTINUATION on a stream that both ended",
                ended(frame(CONTINUATION, END_HEADERS, 1, &[])),
                Wanted::Goaway(PROTOCOL_ERROR),
            ),
            Case::new("9113/5.1 WINDOW_UPDATE on a stream that both ended", ended(window_update(1, 9)), Wanted::Serves),
            Case::new("9113/5.1 RST_STREAM on a stream that both ended", ended(reset(1, CANCEL)), Wanted::Serves),
            Case::new("9113/5.1 PRIORITY on a stream that both ended", ended(priority(1, 0)), Wanted::Serves),
            Case::new(
                "9113/5.1 DATA on its way to a stream that the server reset",
                vec![post(1, "/sink", &[]), window_update(1, 0), data(1, 0, b"a"), data(1, END_STREAM, b"b")],
                either(1, PROTOCOL_ERROR),
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_5_1_1_ids_are_odd_and_rise() {
    Bed::start()
        .await
        .check(vec![
            Case::new("9113/5.1.1 an even id", get(2, "/", &[]), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new("9113/5.1.1 HEADERS on stream 0", get(0, "/", &[]), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/5.1.1 an id below one before",
                vec![get(5, "/", &[]), get(3, "/", &[])],
                Wanted::Any(vec![Wanted::Goaway(PROTOCOL_ERROR), Wanted::Goaway(STREAM_CLOSED)]),
            ),
            Case::new(
                "9113/5.1.1 DATA on a stream that was passed over",
                vec![get(5, "/", &[]), data(3, END_STREAM, b"a")],
                Wanted::Any(vec![Wanted::Goaway(PROTOCOL_ERROR), either(3, STREAM_CLOSED)]),
            ),
            Case::new("9113/5.1.1 an id far above", get(1_001, "/", &[]), Wanted::Status(1_001, 200)),
            Case::new("9113/5.1.1 the last id", get(LARGEST, "/", &[]), Wanted::Status(LARGEST, 200)).last(),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_5_1_2_no_more_streams_than_are_allowed() {
    // `h2_streams` is 100 if the file says nothing.
    let hundred = || (0..100).flat_map(|at| get(2 * at + 1, "/hold", &[])).collect::<Vec<u8>>();
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/5.1.2 a stream more than allowed",
                vec![
                    Step::Send(hundred()),
                    Step::Held(100),
                    Step::Send(get(201, "/", &[])),
                    Step::End(201),
                    Step::Release,
                    Step::End(199),
                    Step::Held(0),
                ],
                Wanted::Any(vec![Wanted::Reset(201, REFUSED_STREAM), Wanted::Reset(201, PROTOCOL_ERROR)]),
            ),
            Case::new(
                "9113/5.1.2 one that ended makes place",
                vec![
                    Step::Send(hundred()),
                    Step::Held(100),
                    Step::Send(reset(1, CANCEL)),
                    Step::Held(99),
                    Step::Send(get(201, "/", &[])),
                    Step::End(201),
                    Step::Release,
                    Step::Held(0),
                ],
                Wanted::Status(201, 200),
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_5_3_priorities_are_read_and_ignored() {
    let block = request("GET", "/", &[]);
    let prioritized = |on: u32| [&on.to_be_bytes()[..], &[16], &block].concat();
    let flags = WHOLE | PRIORITIZED;
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/5.3 HEADERS with a priority",
                frame(HEADERS, flags, 1, &prioritized(0)),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/5.3 HEADERS that depend on a stream that is not there, alone",
                frame(HEADERS, flags, 1, &prioritized(1 << 31 | 77)),
                Wanted::Status(1, 200),
            ),
            Case::new(
                "9113/5.3 HEADERS that depend on themselves (RFC 7540 §5.3.1)",
                frame(HEADERS, flags, 1, &prioritized(1)),
                either(1, PROTOCOL_ERROR),
            )
            // It is one of the malformed requests that are answered.
            .general(Wanted::Status(1, 400)),
            Case::new(
                "9113/5.3 HEADERS too short for their priority",
                frame(HEADERS, flags, 1, &[0, 0, 0, 0]),
                Wanted::Goaway(FRAME_SIZE_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/5.3 PRIORITY that depends on itself (RFC 7540 §5.3.1)",
                vec![post(1, "/sink", &[]), priority(1, 1)],
                either(1, PROTOCOL_ERROR),
            ),
            Case::new(
                "9113/5.3 PRIORITY in a row",
                (1..50).flat_map(|at| priority(2 * at + 1, 0)).collect::<Vec<_>>(),
                Wanted::Serves,
            ),
            Case::new(
                "9113/5.3 PRIORITY_UPDATE (RFC 9218 §7.1)",
                frame(0x10, 0, 0, b"\x00\x00\x00\x01u=1"),
                Wanted::Serves,
            ),
            Case::new(
                "9113/5.3 the field priority (RFC 9218 §5)",
                get(1, "/", &[("priority", b"u=1, i")]),
                Wanted::Status(1, 200),
            ),
            Case::new("9113/6.3 PRIORITY on stream 0", priority(0, 1), Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.3 PRIORITY of 4 bytes",
                vec![post(1, "/sink", &[]), frame(PRIORITY, 0, 1, &[0, 0, 0, 0])],
                either(1, FRAME_SIZE_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
            Case::new(
                "9113/6.3 PRIORITY of 6 bytes",
                vec![post(1, "/sink", &[]), frame(PRIORITY, 0, 1, &[0; 6])],
                either(1, FRAME_SIZE_ERROR),
            )
            // The engine's code says less.
            .general(Wanted::Goaway(PROTOCOL_ERROR)),
        ])
        .await;
}

fn priority(stream: u32, on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[16]].concat())
}
