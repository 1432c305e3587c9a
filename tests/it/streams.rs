//! Long-lived exchanges: WebSocket, server-sent events, gRPC.

use crate::harness::Fixture as _;
use crate::harness::{
    H1, H2, Origin, Protocol, Request, Sse, Target, WebSocket, Weir, eventually, grpc, over_both, shop,
};
use crate::http1::lines;

over_both!(websockets_pass_and_are_counted);

async fn websockets_pass_and_are_counted(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let log = "access_log: { output: \"{dir}/access.log\" }\nshutdown:";
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("shutdown:", log)).await;
    let mut socket =
        WebSocket::open_over(protocol.of_websockets(), &Target::from(weir.address("web").await), "/ws").await;
    for text in ["one", "two"] {
        socket.send(text).await;
        assert_eq!(socket.text().await, text);
    }
    let open = [("kind", "websocket")];
    assert_eq!(weir.metrics().await.value("weir_streams_open", &open), 1.0);
    socket.close().await;
    eventually("the stream is no longer counted", async || {
        weir.metrics().await.value("weir_streams_open", &open) == 0.0
    })
    .await;
    // What opens it is 101 over HTTP/1.1, and 200 over HTTP/2 (RFC 8441 §5).
    let code = if protocol.of_websockets() == Protocol::Http2 { "200" } else { "101" };
    assert_eq!(weir.metrics().await.value("weir_requests_total", &[("code", code)]), 1.0);
    let line = lines(&weir, 1).await.pop().unwrap();
    let told = (line["status"].to_string(), line["stream"].as_str(), line["cause"].as_str());
    assert_eq!(told, (code.to_owned(), Some("websocket"), None), "{line}");
    // Two frames of three letters and the close; those of the client have masks.
    assert!(line["bytes_in"].as_u64() >= Some(24) && line["bytes_out"].as_u64() >= Some(12), "{line}");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_they_are_sent() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    let h2 = H2::connect(&web).await;
    let mut over_h1 = Sse::open(&web, "/sse").await;
    let mut over_h2 = Sse::open_on(&h2, "/sse").await;
    over_h1.event().await;
    over_h2.event().await;
    for text in ["first", "second"] {
        v1.push(text);
        assert_eq!(over_h1.event().await, text);
        assert_eq!(over_h2.event().await, text);
    }
    assert_eq!(weir.metrics().await.value("weir_streams_open", &[("kind", "sse")]), 2.0);
    v1.end_streams();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_with_trailers_and_status() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("    split:", "    protocol: h2\n    split:");
    let weir = Weir::start(&yaml).await;
    let h2 = H2::connect(&Target::from(weir.address("web").await)).await;
    let answer = grpc::unary(&h2, "/grpc.Test/Unary", b"hello").await.unwrap();
    assert_eq!((answer.status, &answer.messages[..]), (0, &[bytes::Bytes::from("hello")][..]));
    assert_eq!(grpc::unary(&h2, "/grpc.Test/Fail", b"x").await.unwrap().status, 7);
    let mut call = grpc::open(&h2, "/grpc.Test/Bidi").await;
    for text in ["a", "b", "c"] {
        call.send(text.as_bytes()).await;
        assert_eq!(call.next().await.unwrap().unwrap(), text.as_bytes());
    }
    assert_eq!(weir.metrics().await.value("weir_streams_open", &[("kind", "grpc")]), 1.0);
    assert_eq!(call.finish().await.unwrap().status, 0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_not_allowed_is_an_ordinary_request() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let mut h1 = H1::connect(&Target::from(weir.address("web").await)).await;
    let request = Request::get("/headers").header("connection", "upgrade").header("upgrade", "foo");
    let seen = h1.send(&request).await.expect(200);
    let seen = seen.text();
    assert!(!seen.contains("foo"), "{seen}");
    weir.stop().await;
}
