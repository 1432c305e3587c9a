//! Who sits on a listener's connections: silent clients have a head's time, each address its share, and at the cap whoever
//! has been idle longest gives way.

use crate::harness::Fixture as _;
use crate::harness::{
    Authority, Client, H1, H2, Origin, Protocol, Request, Target, Tls, Weir, eventually, over_both, shop,
};

/// The configuration with these settings of its listener, and these of the file.
fn with(origin: &Origin, listener: &str, file: &str) -> String {
    let yaml = shop(&[(origin, 100.0)]);
    yaml.changed(
        "address: \"127.0.0.1:0\" }\ntelemetry",
        &format!("address: \"127.0.0.1:0\", {listener} }}\ntelemetry"),
    )
    .changed("shutdown:", &format!("{file}\nshutdown:"))
}

async fn refused(weir: &Weir, reason: &str, times: f64) {
    let value = async || {
        let value = weir.metrics().await.value("weir_client_connections_refused_total", &[("reason", reason)]);
        if value == times { Ok(()) } else { Err(value) }
    };
    eventually(&format!("{times} are counted as {reason}"), value).await;
}

/// `keepalive` is a minute: who is closed here was not closed for that.
const SHORT: &str = "limits: { header_timeout: 500ms, keepalive: 1m }";

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_has_the_time_of_a_head_and_not_that_between_requests() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with(&v1, "max_connections: 100", SHORT)).await;
    let web = Target::from(weir.address("web").await);
    let mut served = H1::connect(&web).await;
    served.get("/").await.expect(200);
    let h2 = H2::connect(&web).await;
    h2.get("/").await.expect(200);
    let unused = H2::connect(&web).await;
    let mut silent = Vec::new();
    for bytes in ["", "P", "PRI * HTTP/2.0\r\n", "G", "GET / HTTP/1.1\r\nhost: shop.test\r\n"] {
        let mut client = H1::connect(&web).await;
        client.write_raw(bytes).await;
        silent.push(client);
    }
    for client in &mut silent {
        client.ended().await;
    }
    refused(&weir, "header_timeout", 5.0).await;
    assert!(served.is_open().await && h2.is_open() && unused.is_open(), "between requests others have a minute");
    served.get("/").await.expect(200);
    h2.get("/").await.expect(200);
    unused.get("/").await.expect(200);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_first_head_counts_from_the_beginning() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with(&v1, "max_connections: 100", "limits: { header_timeout: 1s }")).await;
    let mut client = H1::connect(&Target::from(weir.address("web").await)).await;
    // A byte each 300 ms: by its first byte alone the head would never be late.
    let mut sent = 0;
    while client.is_open().await {
        client.write_raw(if sent == 0 { "G" } else { "x" }).await;
        sent += 1;
        assert!(sent < 100, "it may go on for ever");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    refused(&weir, "header_timeout", 1.0).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_handshake_and_a_proxy_header_it_is_the_same() {
    let v1 = Origin::start("v1").await;
    let authority = Authority::new("weir test");
    let tls = "tls: { cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\" }, proxy_protocol: { from: [127.0.0.0/8] }";
    let plan = Weir::plan(&with(&v1, tls, SHORT));
    authority.server(&["shop.test"]).write(plan.dir(), "tls");
    let weir = plan.start().await;
    let web = Target::from(weir.address("web").await).preamble("PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n");
    let web = web.tls(&Tls::trusting(&authority, "shop.test"));
    let mut served = H1::connect(&web).await;
    served.get("/").await.expect(200);
    let mut silent = H1::connect(&web).await;
    silent.ended().await;
    refused(&weir, "header_timeout", 1.0).await;
    served.get("/").await.expect(200);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_seats_are_taken_who_has_been_idle_longest_gives_way() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with(&v1, "max_connections: 4", "runtime: { threads: 2 }")).await;
    let web = Target::from(weir.address("web").await);
    let mut busy = H1::connect(&web).await;
    let head = busy.open(&Request::get("/sse")).await;
    assert_eq!(head.status, 200);
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut client = H1::connect(&web).await;
        client.get("/").await.expect(200);
        kept.push(client);
    }
    // The first asks again, so the second has been idle longest, then the third.
    kept[0].get("/").await.expect(200);
    let mut newcomers = Vec::new();
    for (at, gone) in [1, 2, 0].into_iter().enumerate() {
        let mut newcomer = H1::connect(&web).await;
        newcomer.get("/").await.expect(200);
        kept[gone].ended().await;
        for stays in [2, 0].iter().skip(at) {
            assert!(kept[*stays].is_open().await, "{stays} is not the next, {gone} was");
        }
        newcomers.push(newcomer);
        refused(&weir, "limit", (at + 1) as f64).await;
    }
    assert!(busy.is_open().await, "who is busy stays");
    v1.end_streams();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_asked_gives_way_too_and_a_flood_of_those_keeps_nobody_out() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with(&v1, "max_connections: 20", "")).await;
    let web = Target::from(weir.address("web").await);
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(H1::connect(&web).await);
    }
    for _ in 0..5 {
        H1::connect(&web).await.get("/").await.expect(200);
    }
    weir.until("no more are open than may be", |status| status.listeners[0].connections <= 20).await;
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_that_gives_way_is_told_and_one_with_a_stream_does_not() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with(&v1, "max_connections: 3", "")).await;
    let web = Target::from(weir.address("web").await);
    let busy = H2::connect(&web).await;
    let mut stream = busy.open(&Request::get("/sse")).await;
    assert_eq!(stream.head().await.status, 200);
    let idle = H2::connect(&web).await;
    idle.get("/").await.expect(200);
    let unused = H2::connect(&web).await;
    let mut newcomers = Vec::new();
    for gives_way in [idle, unused] {
        let mut newcomer = H1::connect(&web).await;
        newcomer.get("/").await.expect(200);
        gives_way.ended().await;
        let goaways = gives_way.goaways();
        assert!(!goaways.is_empty() && goaways.iter().all(|goaway| goaway.code == 0), "{goaways:?}");
        newcomers.push(newcomer);
    }
    assert!(busy.is_open());
    v1.end_streams();
    while stream.piece().await.unwrap().is_some() {}
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_the_seat_of_the_first_that_is_no_longer_busy() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with(&v1, "max_connections: 1", "")).await;
    let web = Target::from(weir.address("web").await);
    let mut busy = H1::connect(&web).await;
    assert_eq!(busy.open(&Request::get("/sse")).await.status, 200);
    let mut waits = H1::connect(&web).await;
    let asked = async { waits.get("/").await.expect(200) };
    let over = async {
        assert!(busy.is_open().await, "who is busy stays");
        v1.end_streams();
        while busy.piece().await.unwrap().is_some() {}
        busy.ended().await;
    };
    tokio::join!(asked, over);
    weir.stop().await;
}

over_both!(an_address_has_its_share_of_connections_and_no_more);

async fn an_address_has_its_share_of_connections_and_no_more(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let settings = "proxy_protocol: { from: [127.0.0.0/8] }, max_connections_per_address: 2";
    let weir = Weir::start(&with(&v1, settings, "")).await;
    let web = Target::from(weir.address("web").await);
    let from = |client: &str| {
        let family = if client.contains(':') { "TCP6" } else { "TCP4" };
        let server = if client.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
        web.clone().preamble(format!("PROXY {family} {client} {server} 4711 80\r\n"))
    };
    let mut held = Vec::new();
    for client in ["192.0.2.7", "192.0.2.7", "192.0.2.8", "2001:db8:1::1", "2001:db8:1::ffff:2", "2001:db8:1:1::1"] {
        let mut client = Client::connect(protocol, &from(client)).await;
        client.get("/").await.expect(200);
        held.push(client);
    }
    for client in ["192.0.2.7", "2001:db8:1:0:9::1"] {
        Client::connect(protocol, &from(client)).await.ended().await;
    }
    refused(&weir, "address_limit", 2.0).await;
    assert!(held[0].is_open().await);
    drop(held.remove(0));
    let again = async || Client::connect(protocol, &from("192.0.2.7")).await.try_send(&Request::get("/")).await.is_ok();
    eventually("what it gave back it may have again", again).await;
    weir.stop().await;
}
