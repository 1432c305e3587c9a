//! Long-lived exchanges: server-sent events, WebSocket, gRPC.

use crate::harness::client::websocket::Incoming;
use crate::harness::{Client, Failure, H2, Origin, Protocol, Request, Sse, WebSocket, grpc, over_both};

#[tokio::test]
async fn events_arrive_one_by_one_over_both_protocols() {
    let origin = Origin::start("v1").await;
    let h2 = H2::connect(origin.address()).await;
    let mut streams = [Sse::open(origin.address(), "/sse").await, Sse::open_on(&h2, "/sse").await];
    for stream in &mut streams {
        assert_eq!(stream.origin(), "v1");
        assert_eq!(stream.event().await, "v1");
    }
    origin.wait_streams(2).await;
    for text in ["first", "second"] {
        origin.push(text);
        for stream in &mut streams {
            assert_eq!(stream.event().await, text);
        }
    }
    origin.end_streams();
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap(), None);
    }
    origin.wait_streams(0).await;
}

#[tokio::test]
async fn an_event_stream_that_is_cut_is_no_end_in_good_order() {
    let origin = Origin::start("v1").await;
    let mut streams = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        streams.push(Sse::open_over(protocol, origin.address(), "/sse").await);
    }
    for stream in &mut streams {
        stream.event().await;
    }
    origin.kill().await;
    for stream in &mut streams {
        assert!(matches!(stream.next().await, Err(Failure::Truncated { .. })));
    }
}

#[tokio::test]
async fn the_origin_notices_when_a_stream_loses_its_client() {
    let origin = Origin::start("v1").await;
    let h2 = H2::connect(origin.address()).await;
    let streams = (Sse::open(origin.address(), "/sse").await, Sse::open_on(&h2, "/sse").await);
    let sockets = (WebSocket::open(origin.address(), "/ws").await, WebSocket::open_on(&h2, "/ws").await);
    origin.wait_streams(4).await;
    drop((streams, sockets));
    origin.wait_streams(0).await;
}

over_both!(a_websocket_echoes_pushes_and_closes_from_either_side);

async fn a_websocket_echoes_pushes_and_closes_from_either_side(protocol: Protocol) {
    let origin = Origin::start("v1").await;
    let mut socket = WebSocket::open_over(protocol, origin.address(), "/ws").await;
    assert_eq!(socket.origin(), "v1");
    socket.send("hello").await;
    assert_eq!(socket.text().await, "hello");
    socket.send_binary(vec![0, 255]).await;
    assert_eq!(socket.next().await, Incoming::Binary(vec![0, 255]));
    origin.push("from the server");
    assert_eq!(socket.text().await, "from the server");
    socket.close().await;
    origin.wait_streams(0).await;

    let mut socket = WebSocket::open_over(protocol, origin.address(), "/ws").await;
    origin.end_streams();
    assert!(matches!(socket.next().await, Incoming::Close(_)));
    origin.wait_streams(0).await;

    let mut socket = WebSocket::open_over(protocol, origin.address(), "/ws").await;
    origin.kill().await;
    assert_eq!(socket.next().await, Incoming::Cut);
}

over_both!(a_websocket_answers_a_close_that_crosses_what_the_story_pushes);

async fn a_websocket_answers_a_close_that_crosses_what_the_story_pushes(protocol: Protocol) {
    let origin = Origin::start("v1").await;
    for _ in 0..20 {
        let socket = WebSocket::open_over(protocol, origin.address(), "/ws").await;
        for _ in 0..500 {
            origin.push("more");
        }
        socket.close().await;
        origin.wait_streams(0).await;
    }
}

over_both!(what_is_no_websocket_handshake_is_told_so);

async fn what_is_no_websocket_handshake_is_told_so(protocol: Protocol) {
    let origin = Origin::start("v1").await;
    assert_eq!(Client::connect(protocol, origin.address()).await.get("/ws").await.status, 426);
}

#[tokio::test]
async fn grpc_calls_carry_messages_and_status() {
    let origin = Origin::start("v1").await;
    let h2 = H2::connect(origin.address()).await;
    let answer = grpc::unary(&h2, "/grpc.Test/Unary", b"ping").await.unwrap();
    assert_eq!((answer.status, answer.messages.len(), &*answer.messages[0]), (0, 1, &b"ping"[..]));
    assert_eq!(answer.trailers.get("grpc-status"), Some("0"));
    let answer = grpc::unary(&h2, "/grpc.Test/Fail", b"ping").await.unwrap();
    assert_eq!((answer.status, answer.message.as_str()), (7, "not yours to see"));
    assert!(answer.trailers.0.is_empty(), "the status is in the head: {:?}", answer.head);
    assert_eq!(grpc::unary(&h2, "/grpc.Test/Other", b"ping").await.unwrap().status, 12);

    let mut call = grpc::open(&h2, "/grpc.Test/Bidi").await;
    for message in ["one", "two"] {
        call.send(message.as_bytes()).await;
        assert_eq!(call.next().await.unwrap().as_deref(), Some(message.as_bytes()));
    }
    origin.wait_streams(1).await;
    call.send(b"three").await;
    let answer = call.finish().await.unwrap();
    assert_eq!((answer.status, answer.messages.len()), (0, 1));
    origin.wait_streams(0).await;

    let call = grpc::open(&h2, "/grpc.Test/Bidi").await;
    origin.wait_streams(1).await;
    drop(call);
    origin.wait_streams(0).await;
    assert_eq!(h2.send(&Request::get("/")).await.status, 200);
}
