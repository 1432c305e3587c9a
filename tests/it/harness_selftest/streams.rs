//! Long-lived exchanges: server-sent events, WebSocket, gRPC.

use crate::harness::client::websocket::Incoming;
use crate::harness::{Failure, H1, H2, Origin, Request, Sse, WebSocket, grpc};

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
    let h2 = H2::connect(origin.address()).await;
    let mut streams = [Sse::open(origin.address(), "/sse").await, Sse::open_on(&h2, "/sse").await];
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
    let socket = WebSocket::open(origin.address(), "/ws").await;
    origin.wait_streams(3).await;
    drop((streams, socket));
    origin.wait_streams(0).await;
}

#[tokio::test]
async fn a_websocket_echoes_pushes_and_closes_from_either_side() {
    let origin = Origin::start("v1").await;
    let mut socket = WebSocket::open(origin.address(), "/ws").await;
    assert_eq!(socket.origin(), "v1");
    socket.send("hello").await;
    assert_eq!(socket.text().await, "hello");
    socket.send_binary(vec![0, 255]).await;
    assert_eq!(socket.next().await, Incoming::Binary(vec![0, 255]));
    origin.push("from the server");
    assert_eq!(socket.text().await, "from the server");
    socket.close().await;
    origin.wait_streams(0).await;

    let mut socket = WebSocket::open_with(origin.address(), &WebSocket::request("/ws").header("x-a", "b")).await;
    origin.end_streams();
    assert!(matches!(socket.next().await, Incoming::Close(_)));
    origin.wait_streams(0).await;

    let mut socket = WebSocket::open(origin.address(), "/ws").await;
    origin.kill().await;
    assert_eq!(socket.next().await, Incoming::Cut);
}

#[tokio::test]
async fn a_websocket_answers_a_close_that_crosses_what_the_story_pushes() {
    let origin = Origin::start("v1").await;
    for _ in 0..20 {
        let socket = WebSocket::open(origin.address(), "/ws").await;
        for _ in 0..500 {
            origin.push("more");
        }
        socket.close().await;
        origin.wait_streams(0).await;
    }
}

#[tokio::test]
async fn what_is_no_websocket_handshake_is_told_so() {
    let origin = Origin::start("v1").await;
    assert_eq!(H1::connect(origin.address()).await.get("/ws").await.status, 426);
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
