//! Going away: nothing is lost, every close is announced, and the exit follows the last request.

use std::time::{Duration, Instant};

use crate::harness::Fixture as _;
use crate::harness::client::websocket;
use crate::harness::fault::BlackHole;
use crate::harness::{
    Client, Failure, H2, Load, Origin, Protocol, Request, Signal, Sse, Target, WebSocket, Weir, eventually,
    express_lane, over_both, shop,
};
use crate::http2::EVERY_STREAM;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing_and_announces_every_close() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let load = Load::at(weir.address("web").await).keep_alive(20).http2(2, 8).think(Duration::from_millis(50)).start();
    load.wait_more(500).await;
    weir.signal(Signal::Term);
    load.wait_more(200).await;
    let ledger = load.stop().await;
    ledger.assert_clean();
    assert!(weir.wait_exit().await.success());
    ledger.assert_executed_once(&[&v1]);
}

over_both!(readiness_falls_at_once_and_liveness_stays);

async fn readiness_falls_at_once_and_liveness_stays(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    assert_eq!((weir.probe("/readyz").await, weir.probe("/livez").await), (200, 200));
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    client.get("/").await.expect(200);
    weir.signal(Signal::Term);
    weir.until("draining", |status| status.state == "draining").await;
    assert_eq!((weir.probe("/readyz").await, weir.probe("/livez").await), (503, 200));
    let mut late = Client::connect(protocol, &web).await;
    // Still accepted, and told to go.
    late.told_to_go().await;
    client.told_to_go().await;
    assert!(weir.wait_exit().await.success());
}

over_both!(the_exit_follows_the_last_request);

async fn the_exit_follows_the_last_request(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("deadline: 5s", "deadline: 15s, delay: 100ms")).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    let (response, ended) = tokio::join!(client.get("/hold"), async {
        v1.wait_held(1).await;
        weir.signal(Signal::Term);
        weir.until("draining", |status| status.state == "draining").await;
        v1.release();
        Instant::now()
    });
    assert!(response.expect(200).announced_close);
    assert!(weir.wait_exit().await.success());
    // A second by the contract; the bound here is generous for a busy machine.
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
}

over_both!(streams_that_do_not_end_are_cut_at_the_deadline_and_counted);

async fn streams_that_do_not_end_are_cut_at_the_deadline_and_counted(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("deadline: 5s", "deadline: 2s")).await;
    let web = Target::from(weir.address("web").await);
    let mut socket = WebSocket::open_over(protocol.of_websockets(), &web, "/ws").await;
    socket.send("hello").await;
    assert_eq!(socket.text().await, "hello");
    let mut events = Sse::open_over(protocol, &web, "/sse").await;
    events.event().await;
    weir.signal(Signal::Term);
    assert!(weir.wait_exit().await.success());
    assert!(weir.stderr().contains("cut=2"), "{}", weir.stderr());
    assert_eq!(socket.next().await, websocket::Incoming::Cut);
    assert!(matches!(events.next().await, Err(Failure::Truncated { .. })));
}

/// In two steps (RFC 9113 §6.8): nothing is refused at first, then what was begun by then is finished.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http2_is_told_in_two_steps_and_finishes_all_its_streams() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("deadline: 5s", "deadline: 1m")).await;
    let h2 = H2::connect(weir.address("web").await).await;
    let held = Request::get("/hold");
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(h2.open(&held).await);
    }
    v1.wait_held(8).await;
    let mut socket = if express_lane() { Some(WebSocket::open_on(&h2, "/ws").await) } else { None };
    let mut events = Sse::open_on(&h2, "/sse").await;
    events.event().await;
    weir.signal(Signal::Term);
    let first = h2.wait_goaway().await;
    assert_eq!((first.last_stream, first.code), (EVERY_STREAM, 0));
    v1.release();
    for stream in &mut streams {
        assert_eq!(stream.head().await.status, 200);
        while stream.piece().await.unwrap().is_some() {}
    }
    v1.push("still here");
    assert_eq!(events.event().await, "still here");
    if let Some(mut socket) = socket.take() {
        assert_eq!(socket.text().await, "still here");
        socket.close().await;
    }
    v1.end_streams();
    assert_eq!(events.next().await.unwrap(), None);
    h2.ended().await;
    let last = h2.goaways().last().copied().expect("a GOAWAY");
    assert!(last.code == 0 && (1..100).contains(&last.last_stream), "{:?}", h2.goaways());
    assert!(weir.wait_exit().await.success());
    assert!(weir.stderr().contains("cut=0"), "{}", weir.stderr());
}

over_both!(a_request_that_waits_for_its_connection_is_answered_at_the_deadline);

async fn a_request_that_waits_for_its_connection_is_answered_at_the_deadline(protocol: Protocol) {
    let hole = BlackHole::open();
    let v1 = Origin::plan("v1").down();
    let yaml = shop(&[(&v1, 100.0)])
        .changed(&v1.address().to_string(), &hole.address().to_string())
        .changed("deadline: 5s", "deadline: 2s")
        .changed("    split:", "    timeouts: { connect: 1m }\n    split:");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let mut client = Client::connect(protocol, &web).await;
    let request = Request::post("/sink", "x");
    let (response, ()) = tokio::join!(client.try_send(&request), async {
        let in_flight = async || weir.metrics().await.value("weir_requests_in_flight", &[]) == 1.0;
        eventually("it is in flight", in_flight).await;
        weir.signal(Signal::Term);
    });
    assert!(weir.wait_exit().await.success());
    if express_lane() {
        let response = response.expect("an answer");
        assert_eq!((response.status, response.header("weir-error")), (503, "drain_deadline"));
    }
    assert!(weir.stderr().contains("cut=1"), "{}", weir.stderr());
}

over_both!(a_second_signal_ends_at_once);

async fn a_second_signal_ends_at_once(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("deadline: 5s", "deadline: 10m")).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    let held = Request::get("/hold");
    let _ = tokio::join!(client.try_send(&held), async {
        v1.wait_held(1).await;
        weir.signal(Signal::Term);
        weir.until("draining", |status| status.state == "draining").await;
        weir.signal(Signal::Term);
        weir.wait_exit().await
    });
}
