//! Drains: endpoints and versions that go away while work is in flight on them.

use crate::harness::Fixture as _;
use crate::harness::client::websocket;
use crate::harness::{
    Client, Failure, H2, Origin, Protocol, Signal, Sse, Target, WebSocket, Weir, eventually, express_lane, grpc,
    over_both, shop,
};
use crate::http1::lines;

fn with_drain(yaml: &str, times: &str) -> String {
    yaml.changed("    split:", &format!("    drain: {times}\n    split:"))
}

over_both!(work_on_a_removed_version_finishes);

async fn work_on_a_removed_version_finishes(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 0.0), (&v2, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    let mut held = Client::connect(protocol, &web).await;
    let mut socket = WebSocket::open_over(protocol.of_websockets(), &web, "/ws").await;
    let mut events = Sse::open_over(protocol, &web, "/sse").await;
    events.event().await;
    let (response, ()) = tokio::join!(held.get("/hold"), async {
        v2.wait_held(1).await;
        weir.reconfigure(&shop(&[(&v1, 100.0)])).await;
        let status = weir.status().await;
        let gone = status.services[0].versions.iter().find(|version| version.name == "v2").unwrap();
        assert_eq!((gone.state.as_str(), gone.in_flight), ("removed", 3));
        Client::connect(protocol, &web).await.get("/").await.expect(200);
        v2.release();
    });
    response.expect(200);
    socket.send("still here").await;
    assert_eq!(socket.text().await, "still here");
    v2.push("and here");
    assert_eq!(events.event().await, "and here");
    socket.close().await;
    v2.end_streams();
    drop(events);
    weir.until("v2 is gone", |status| status.services[0].versions.len() == 1).await;
    eventually("its series are gone", async || {
        !weir.metrics().await.has("weir_requests_in_flight", &[("version", "v2")])
    })
    .await;
    assert_eq!(v2.connections(), 0, "no connection to it is kept");
    weir.stop().await;
}

over_both!(what_does_not_finish_is_cut_at_its_own_deadline_and_counted);

async fn what_does_not_finish_is_cut_at_its_own_deadline_and_counted(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let log = "access_log: { output: \"{dir}/access.log\" }\n";
    let before = with_drain(&shop(&[(&v1, 0.0), (&v2, 100.0)]), "{ requests: 300ms, streams: 1s }") + log;
    let weir = Weir::start(&before).await;
    let web = Target::from(weir.address("web").await);
    let mut held = Client::connect(protocol, &web).await;
    let mut socket = WebSocket::open_over(protocol.of_websockets(), &web, "/ws").await;
    let (response, ()) = tokio::join!(held.get("/hold"), async {
        v2.wait_held(1).await;
        let after = with_drain(&shop(&[(&v1, 100.0), (&v2, 0.0)]), "{ requests: 300ms, streams: 1s }") + log;
        weir.reconfigure(&after.changed("v2: { endpoints:", "v2: { state: drain, endpoints:")).await;
    });
    assert_eq!(response.expect(503).header("weir-error"), "drain_deadline");
    assert_eq!(socket.next().await, websocket::Incoming::Cut);
    let cut = |kind: &'static str| {
        let weir = &weir;
        async move { weir.metrics().await.value("weir_drain_cut_total", &[("version", "v2"), ("kind", kind)]) }
    };
    eventually("both are counted", async || {
        let counted = (cut("request").await, cut("websocket").await);
        if counted == (1.0, 1.0) { Ok(()) } else { Err(counted) }
    })
    .await;
    for line in lines(&weir, 2).await {
        assert_eq!(line["cause"], "drain_deadline", "{line}");
    }
    weir.signal(Signal::Term);
    assert!(weir.wait_exit().await.success());
    assert!(weir.stderr().contains("cut=0"), "the end itself cut nothing: {}", weir.stderr());
}

/// Calls are streams, over connections to the endpoint that all clients share.
#[tokio::test(flavor = "multi_thread")]
async fn calls_on_a_removed_version_finish_or_are_cut_at_the_deadline_of_streams() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let h2 = |yaml: &str| yaml.changed("    split:", "    protocol: h2\n    split:");
    let log = "access_log: { output: \"{dir}/access.log\" }\n";
    let all = with_drain(&h2(&shop(&[(&v1, 0.0), (&v2, 100.0)])), "{ requests: 300ms, streams: 1s }") + log;
    let weir = Weir::start(&all).await;
    let h2 = H2::connect(weir.address("web").await).await;
    let (mut ends, mut stays) = (grpc::open(&h2, "/grpc.Test/Bidi").await, grpc::open(&h2, "/grpc.Test/Bidi").await);
    for call in [&mut ends, &mut stays] {
        call.send(b"one").await;
        assert_eq!(call.next().await.unwrap().as_deref(), Some(&b"one"[..]));
    }
    let output = weir.cli(&["drain", "shop/v2"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    ends.send(b"two").await;
    let answer = ends.finish().await.unwrap();
    assert_eq!((answer.status, answer.messages.last().map(|message| &message[..])), (0, Some(&b"two"[..])));
    // The express lane says that the endpoint is not available; the engine breaks the call off.
    match stays.next().await {
        Ok(None) if express_lane() => assert_eq!(stays.finish().await.unwrap().status, 14),
        Err(Failure::Truncated { .. }) if !express_lane() => {}
        other => panic!("{other:?}"),
    }
    let cut = async || {
        let cut = weir.metrics().await.value("weir_drain_cut_total", &[("version", "v2"), ("kind", "grpc")]);
        if cut == 1.0 { Ok(()) } else { Err(cut) }
    };
    eventually("it is counted", cut).await;
    let causes: Vec<_> = lines(&weir, 2).await.into_iter().map(|line| line["cause"].clone()).collect();
    assert_eq!(causes, [serde_json::Value::Null, "drain_deadline".into()]);
    // Nothing of it was the connection's.
    assert!(h2.is_open() && h2.goaways().is_empty());
    weir.stop().await;
}

over_both!(drain_and_ready_by_command_close_idle_connections_and_bring_them_back);

async fn drain_and_ready_by_command_close_idle_connections_and_bring_them_back(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&shop(&[(&v1, 50.0), (&v2, 50.0)])).await;
    let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
    for _ in 0..10 {
        client.get("/").await.expect(200);
    }
    assert!(v2.connections() > 0);
    assert_eq!(weir.cli(&["drain", "shop/v2"]).await.status.code(), Some(0));
    eventually("idle connections are closed at once", async || v2.connections() == 0).await;
    let before = v2.requests();
    for _ in 0..10 {
        client.get("/").await.expect(200);
    }
    assert_eq!(v2.requests(), before, "no new requests");
    assert_eq!(weir.cli(&["ready", "shop/v2"]).await.status.code(), Some(0));
    for _ in 0..10 {
        client.get("/").await.expect(200);
    }
    assert_eq!(v2.requests(), before + 5);
    weir.stop().await;
}
