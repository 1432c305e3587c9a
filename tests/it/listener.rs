//! The way in: PROXY headers, unix sockets, the cap on connections, and clients that take their time.

use crate::harness::Fixture as _;
use crate::harness::{Client, H1, Origin, Protocol, Request, Target, Weir, eventually, over_both, shop};

/// A configuration whose listener has these settings besides.
fn with(yaml: &str, settings: &str) -> String {
    yaml.changed(
        "address: \"127.0.0.1:0\" }\ntelemetry",
        &format!("address: \"127.0.0.1:0\", {settings} }}\ntelemetry"),
    )
}

over_both!(a_proxy_header_is_believed_from_trusted_addresses_only);

async fn a_proxy_header_is_believed_from_trusted_addresses_only(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let v1_header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n".to_vec();
    let mut v2_header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2_header.extend([192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80]);
    let weir = Weir::start(&with(&shop(&[(&v1, 100.0)]), "proxy_protocol: { from: [127.0.0.0/8] }")).await;
    let web = Target::from(weir.address("web").await);
    for header in [v1_header.clone(), v2_header] {
        let response = Client::connect(protocol, &web.clone().preamble(header)).await.get("/headers").await.expect(200);
        assert!(response.text().contains("192.0.2.7"), "{}", response.text());
    }
    // Where no connection came to be, it was refused just the same.
    let without = match Client::try_connect(protocol, &web).await {
        Ok(mut client) => client.try_send(&Request::get("/")).await,
        Err(failure) => Err(failure),
    };
    assert!(without.is_err(), "the header is required: {without:?}");
    eventually("the refusal is counted", async || {
        weir.metrics().await.value("weir_client_connections_refused_total", &[("reason", "proxy_protocol")]) == 1.0
    })
    .await;
    weir.stop().await;
    let weir = Weir::start(&with(&shop(&[(&v1, 100.0)]), "proxy_protocol: { from: [10.0.0.0/8] }")).await;
    let web = Target::from(weir.address("web").await);
    Client::connect(protocol, &web).await.get("/").await.expect(200);
    let mut h1 = H1::connect(&web.preamble(v1_header)).await;
    h1.write_raw("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert_eq!(h1.read_response("GET").await.unwrap().status, 400, "a stranger's header is no request");
    weir.stop().await;
}

over_both!(a_unix_socket_listens_too);

async fn a_unix_socket_listens_too(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed_first("address: \"127.0.0.1:0\"", "address: \"unix:{dir}/web.sock\"");
    let weir = Weir::start(&yaml).await;
    Client::connect(protocol, &Target::from(weir.address("web").await)).await.get("/").await.expect(200);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_is_cut_and_counted_in_both_protocols() {
    let v1 = Origin::start("v1").await;
    let yaml = shop(&[(&v1, 100.0)]).changed("shutdown:", "limits: { header_timeout: 300ms }\nshutdown:");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = "\0\0\0\x04\0\0\0\0\0";
    let open_block = format!("{preface}{settings}\0\0\x01\x01\0\0\0\0\x01\u{2}");
    let mut clients = Vec::new();
    for bytes in ["GET / HTTP/1.1\r\nhost: sh", "PRI * HT", &open_block] {
        let mut client = H1::connect(&web).await;
        client.write_raw(bytes).await;
        clients.push(client);
    }
    eventually("all are counted", async || {
        weir.metrics().await.value("weir_client_connections_refused_total", &[("reason", "header_timeout")]) == 3.0
    })
    .await;
    let mut short = H1::connect(&web).await;
    short.write_raw("GET / HTTP/1.0\r\n\r\n").await;
    short.read_response("GET").await.unwrap().expect(200);
    weir.stop().await;
}

over_both!(above_the_cap_connections_wait);

async fn above_the_cap_connections_wait(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&with(&shop(&[(&v1, 100.0)]), "max_connections: 1")).await;
    let web = Target::from(weir.address("web").await);
    let mut first = Client::connect(protocol, &web).await;
    first.get("/").await.expect(200);
    let mut second = Client::connect(protocol, &web).await;
    let (response, ()) = tokio::join!(second.get("/"), async {
        weir.until("one is open", |status| status.listeners[0].connections == 1).await;
        drop(first);
    });
    response.expect(200);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ipv6_wildcard_takes_ipv4_too_unless_another_listener_has_it() {
    let v1 = Origin::start("v1").await;
    let one = shop(&[(&v1, 100.0)]).changed_first("127.0.0.1:0", "[::]:0");
    let weir = Weir::start(&(one + "trusted_proxies: [127.0.0.0/8]\naccess_log: { output: stdout }\n")).await;
    let port = port(&weir, "web").await;
    for host in ["127.0.0.1", "[::1]"] {
        H1::connect(format!("{host}:{port}").as_str()).await.get(&format!("/{host}")).await.expect(200);
    }
    weir.stop().await;
    // IPv4 clients are IPv4 clients, for the log and for lists of networks.
    assert!(weir.stdout().contains(r#""client":"127.0.0.1""#), "{}", weir.stdout());
    // Both written out, as nginx users do; the port is taken from the system and used at once.
    let both = shop(&[(&v1, 100.0)]).changed_first(
        "  - { name: web, address: \"127.0.0.1:0\" }",
        &format!("  - {{ name: six, address: \"[::]:{port}\" }}\n  - {{ name: four, address: \"0.0.0.0:{port}\" }}"),
    );
    let weir = Weir::start(&both).await;
    for host in ["127.0.0.1", "[::1]"] {
        H1::connect(format!("{host}:{port}").as_str()).await.get("/").await.expect(200);
    }
    for listener in ["six", "four"] {
        let accepted = weir.metrics().await.value("weir_client_connections_accepted_total", &[("listener", listener)]);
        assert_eq!(accepted, 1.0, "{listener}");
    }
    weir.stop().await;
}

async fn port(weir: &Weir, listener: &str) -> u16 {
    match weir.address(listener).await {
        weir::model::Address::Inet(address) => address.port(),
        weir::model::Address::Unix(path) => panic!("{} is no port", path.display()),
    }
}
