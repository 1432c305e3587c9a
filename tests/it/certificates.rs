//! TLS towards clients: which certificate, which protocol, and a rotation that nobody notices.

use std::time::Duration;

use crate::harness::certs::Validity;
use crate::harness::{Authority, H1, H2, Load, Origin, Target, Tls, Weir, eventually, shop};

/// A configuration whose listener has this TLS.
fn with_tls(yaml: &str, tls: &str) -> String {
    yaml.replace(
        "address: \"127.0.0.1:0\" }\ntelemetry",
        &format!("address: \"127.0.0.1:0\", tls: {tls} }}\ntelemetry"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_rotate_under_load_and_bad_ones_are_refused() {
    let v1 = Origin::start("v1").await;
    let authority = Authority::new("weir test");
    let first = authority.server(&["shop.test"]);
    let plan = Weir::plan(&with_tls(&shop(&[(&v1, 100.0)]), "{ cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\" }"));
    first.write(plan.dir(), "tls");
    let weir = plan.start().await;
    let tls = Tls::trusting(&authority, "shop.test");
    let web = Target::from(weir.address("web").await).tls(&tls);
    let load =
        Load::at(web.clone()).keep_alive(2).new_connections(2).http2(1, 2).think(Duration::from_millis(10)).start();
    load.wait_more(50).await;
    let mut current = first;
    for _ in 0..5 {
        let next = authority.server(&["shop.test"]);
        next.write(weir.dir(), "tls");
        eventually("the new certificate is served", async || H1::connect(&web).await.tls().is(&next)).await;
        current = next;
        load.wait_more(20).await;
    }
    let bad = [
        (authority.server(&["shop.test"]).cert, authority.server(&["shop.test"]).key),
        (current.cert[..current.cert.len() / 2].to_owned(), current.key.clone()),
        {
            let expired = authority.server_valid(&["shop.test"], Validity::Expired);
            (expired.cert, expired.key)
        },
    ];
    for (cert, key) in bad {
        std::fs::write(weir.dir().join("tls.crt"), cert).unwrap();
        std::fs::write(weir.dir().join("tls.key"), key).unwrap();
        weir.until("the bad pair is refused", |status| !status.config.current).await;
        assert!(H1::connect(&web).await.tls().is(&current), "the old one stays");
        current.write(weir.dir(), "tls");
        weir.until("the good pair is back", |status| status.config.current).await;
    }
    let ledger = load.stop().await;
    ledger.assert_clean();
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_asked_for_picks_the_certificate() {
    let v1 = Origin::start("v1").await;
    let authority = Authority::new("weir test");
    let (one, two) = (authority.server(&["one.test"]), authority.server(&["two.test", "*.two.test"]));
    let tls = "{ certificates: [ { cert: \"{dir}/one.crt\", key: \"{dir}/one.key\" }, \
               { cert: \"{dir}/two.crt\", key: \"{dir}/two.key\" } ] }";
    let plan = Weir::plan(&with_tls(&shop(&[(&v1, 100.0)]), tls));
    one.write(plan.dir(), "one");
    two.write(plan.dir(), "two");
    let weir = plan.start().await;
    let web = Target::from(weir.address("web").await);
    for (name, expected) in [("one.test", &one), ("two.test", &two), ("a.two.test", &two)] {
        let mut h1 = H1::connect(&web.clone().tls(&Tls::trusting(&authority, name))).await;
        assert!(h1.tls().is(expected), "{name}");
        h1.get("/").await.expect(200);
    }
    let h2 = H2::connect(&web.clone().tls(&Tls::trusting(&authority, "one.test"))).await;
    h2.get("/").await.expect(200);
    for tls in [Tls::trusting(&authority, "one.test").only_tls12(), Tls::trusting(&authority, "one.test").only_tls13()]
    {
        H1::connect(&web.clone().tls(&tls)).await.get("/").await.expect(200);
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_wanted_certificate_are_refused() {
    let v1 = Origin::start("v1").await;
    let (authority, clients) = (Authority::new("weir test"), Authority::new("clients"));
    let tls = "{ cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\", client_ca: \"{dir}/clients.crt\" }";
    let plan = Weir::plan(&with_tls(&shop(&[(&v1, 100.0)]), tls));
    authority.server(&["shop.test"]).write(plan.dir(), "tls");
    clients.write(plan.dir(), "clients");
    let weir = plan.start().await;
    let web = Target::from(weir.address("web").await);
    let plain = Tls::trusting(&authority, "shop.test");
    let known = plain.clone().identity(&clients.client("app"));
    let stranger = plain.clone().identity(&Authority::new("strangers").client("app"));
    H1::connect(&web.clone().tls(&known)).await.get("/").await.expect(200);
    for tls in [plain, stranger] {
        let refused = match H1::try_connect(&web.clone().tls(&tls)).await {
            Err(_) => true,
            Ok(mut h1) => h1.try_send(&crate::harness::Request::get("/")).await.is_err(),
        };
        assert!(refused);
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_verified() {
    let authority = Authority::new("upstream");
    let identity = authority.server(&["v1.test"]);
    let v1 = Origin::plan("v1").tls(&identity).start().await;
    let yaml = |tls: &str| shop(&[(&v1, 100.0)]).replace("    split:", &format!("    tls: {tls}\n    split:"));
    for (tls, protocol, status) in [
        ("{ ca: \"{dir}/ca.crt\", sni: v1.test }", "http1", 200),
        ("{ ca: \"{dir}/ca.crt\", sni: v1.test }", "h2", 200),
        ("{ ca: \"{dir}/ca.crt\", sni: other.test }", "http1", 502),
        ("{ sni: v1.test }", "http1", 502),
        ("{ sni: v1.test, verify: false }", "http1", 200),
    ] {
        let plan = Weir::plan(&yaml(tls).replace("    split:", &format!("    protocol: {protocol}\n    split:")));
        authority.write(plan.dir(), "ca");
        let weir = plan.start().await;
        let response = H1::connect(&Target::from(weir.address("web").await)).await.get("/").await;
        assert_eq!(response.status, status, "{tls} {protocol}: {response:?}");
        if status == 502 {
            assert_eq!(response.header("weir-error"), "tls", "{tls}");
        }
        weir.stop().await;
    }
}
