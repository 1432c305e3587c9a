//! RFC 8441: WebSocket over a stream of HTTP/2, by extended CONNECT.

use super::table::{Bed, Case, Step, Wanted};
use crate::harness::frame::{
    CANCEL, ENABLE_CONNECT_PROTOCOL, END_HEADERS, END_STREAM, Fields, HEADERS, block, data, frame, get, reset,
};
use crate::harness::{Frames, express_lane};

type One<'a> = (&'a str, &'a [u8]);
const CONNECT: One<'_> = (":method", b"CONNECT");
const WEBSOCKET: One<'_> = (":protocol", b"websocket");
const SCHEME: One<'_> = (":scheme", b"http");
const HOST: One<'_> = (":authority", b"shop.test");
const PATH: One<'_> = (":path", b"/ws");
const VERSION: One<'_> = ("sec-websocket-version", b"13");

fn head(stream: u32, fields: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(fields))
}

fn open(stream: u32) -> Vec<u8> {
    head(stream, &[CONNECT, WEBSOCKET, SCHEME, HOST, PATH, VERSION])
}

/// A frame of a WebSocket client with a text (RFC 6455 §5.2), masked with zeros.
fn text(words: &str) -> Vec<u8> {
    masked(1, words.as_bytes())
}

fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[0x80 | kind, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// The same of a server, which does not mask.
fn unmasked(words: &str) -> Vec<u8> {
    [&[0x81, u8::try_from(words.len()).unwrap()], words.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_8441_requests_for_a_websocket() {
    let bad = |name, fields: Fields<'_>| Case::malformed(name, head(1, fields));
    Bed::start()
        .await
        .check(vec![
            bad("8441/4 :protocol without CONNECT", &[(":method", b"GET"), WEBSOCKET, SCHEME, HOST, PATH]),
            bad("8441/4 no :scheme", &[CONNECT, WEBSOCKET, HOST, PATH, VERSION]),
            bad("8441/4 no :path", &[CONNECT, WEBSOCKET, SCHEME, HOST, VERSION]),
            bad("8441/4 no :authority", &[CONNECT, WEBSOCKET, SCHEME, PATH, VERSION]),
            bad("8441/4 :protocol twice", &[CONNECT, WEBSOCKET, WEBSOCKET, SCHEME, HOST, PATH, VERSION]),
            Case::new(
                "8441/4 an empty :protocol",
                head(1, &[CONNECT, (":protocol", b""), SCHEME, HOST, PATH]),
                Wanted::Any(vec![Wanted::Status(1, 501), Wanted::Status(1, 400)]),
            ),
            Case::new(
                "8441/4 a protocol that nobody knows",
                head(1, &[CONNECT, (":protocol", b"connect-udp"), SCHEME, HOST, PATH]),
                Wanted::Any(vec![Wanted::Status(1, 501), Wanted::Status(1, 400)]),
            ),
            bad(
                "8441/5 connection and upgrade are not for HTTP/2",
                &[
                    CONNECT,
                    WEBSOCKET,
                    SCHEME,
                    HOST,
                    PATH,
                    VERSION,
                    ("upgrade", b"websocket"),
                    ("connection", b"upgrade"),
                ],
            ),
            Case::new(
                "8441/5 a WebSocket, its messages and its end",
                vec![
                    Step::Send(open(1)),
                    Step::Head(1),
                    Step::Send(data(1, 0, &text("hello"))),
                    Step::Body(1, unmasked("hello").len()),
                    Step::Send(data(1, 0, &masked(8, &1000_u16.to_be_bytes()))),
                    Step::Send(data(1, END_STREAM, &[])),
                    Step::End(1),
                ],
                Wanted::Status(1, 200),
            )
            .express_only(),
            Case::new(
                "8441/5 a WebSocket that its client resets ends at the origin",
                vec![Step::Send(open(1)), Step::Head(1), Step::Send(reset(1, CANCEL))],
                Wanted::Serves,
            )
            .express_only(),
            Case::new(
                "8441/5 an answer that is no WebSocket passes as it is",
                vec![Step::Send(head(1, &[CONNECT, WEBSOCKET, SCHEME, HOST, (":path", b"/status/403"), VERSION]))],
                Wanted::Status(1, 403),
            )
            .express_only(),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_8441_3_websockets_are_offered_where_they_are_served() {
    let bed = Bed::start().await;
    let mut frames = Frames::connect(&bed.clear).await;
    let offered = frames.seen().setting(ENABLE_CONNECT_PROTOCOL) == Some(1);
    frames.send(&open(1)).await;
    frames.until("an answer", |seen| seen.on(1).status().is_some() || seen.on(1).over()).await.unwrap();
    let served = frames.seen().on(1).status() == Some(200);
    assert_eq!(offered, served);
    drop(frames);
    bed.weir.stop().await;
}

/// Messages of several WebSockets on one connection, and requests between them.
#[tokio::test(flavor = "multi_thread")]
async fn rfc_8441_5_websockets_and_requests_share_a_connection() {
    let bed = Bed::start().await;
    if !express_lane() {
        eprintln!("skipped on the general lane: WebSocket over HTTP/2");
        return;
    }
    let mut frames = Frames::connect(&bed.clear).await;
    for stream in [1, 3, 5] {
        frames.send(&open(stream)).await;
        frames.until("it opens", |seen| seen.on(stream).status() == Some(200)).await.unwrap();
    }
    assert_eq!(bed.origin.streams(), 3);
    for round in 0..20 {
        for stream in [1, 3, 5] {
            frames.send(&data(stream, 0, &text(&format!("{stream} {round:03}")))).await;
        }
        let id = 101 + 2 * round;
        frames.send(&get(id, "/", &[])).await;
        frames.until("a request between them", |seen| seen.on(id).ended).await.unwrap();
    }
    for stream in [1, 3, 5] {
        let wanted: Vec<u8> = (0..20).flat_map(|round| unmasked(&format!("{stream} {round:03}"))).collect();
        frames.until("all messages come back", |seen| seen.on(stream).body.len() >= wanted.len()).await.unwrap();
        assert_eq!(frames.seen().on(stream).body, wanted);
    }
    drop(frames);
    crate::harness::eventually("all of them end", async || bed.origin.streams() == 0).await;
    bed.weir.stop().await;
}
