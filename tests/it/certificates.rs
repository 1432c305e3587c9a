//! TLS towards clients: which certificate, which protocol, and a rotation that nobody notices.

use std::time::Duration;

use crate::harness::Fixture as _;
use crate::harness::certs::Validity;
use crate::harness::{
    Authority, Client, H1, H2, Load, Origin, Protocol, Request, Target, Tls, Weir, eventually, over_both, run_weir,
    shop,
};

/// A configuration whose listener has this TLS.
pub(crate) fn with_tls(yaml: &str, tls: &str) -> String {
    yaml.changed(
        "address: \"127.0.0.1:0\" }\ntelemetry",
        &format!("address: \"127.0.0.1:0\", tls: {tls} }}\ntelemetry"),
    )
}

over_both!(certificates_rotate_under_load_and_bad_ones_are_refused);

async fn certificates_rotate_under_load_and_bad_ones_are_refused(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let authority = Authority::new("weir test");
    let first = authority.server(&["shop.test"]);
    let plan = Weir::plan(&with_tls(&shop(&[(&v1, 100.0)]), "{ cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\" }"));
    first.write(plan.dir(), "tls");
    let weir = plan.start().await;
    let tls = Tls::trusting(&authority, "shop.test");
    let web = Target::from(weir.address("web").await).tls(&tls);
    let load = Load::at(web.clone()).clients(protocol, 4).new_connections(2).think(Duration::from_millis(10)).start();
    load.wait_more(50).await;
    let mut current = first;
    for _ in 0..5 {
        let next = authority.server(&["shop.test"]);
        next.write(weir.dir(), "tls");
        eventually("the new certificate is served", async || Client::connect(protocol, &web).await.tls().is(&next))
            .await;
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
        weir.until("the bad pair is refused", |status| !status.config.faulty_certificates.is_empty()).await;
        assert!(Client::connect(protocol, &web).await.tls().is(&current), "the old one stays");
        current.write(weir.dir(), "tls");
        weir.until("the good pair is back", |status| status.config.faulty_certificates.is_empty()).await;
    }
    let metrics = weir.metrics().await;
    assert!(metrics.value("weir_certificate_reloads_total", &[("result", "success")]) >= 5.0);
    assert!(metrics.value("weir_certificate_reloads_total", &[("result", "failure")]) >= 3.0);
    assert_eq!(metrics.value("weir_certificates_faulty", &[]), 0.0);
    let told =
        weir.stderr().lines().filter(|line| line.contains("ERROR") && line.contains("loaded before stays")).count();
    assert!(told >= 3, "{}", weir.stderr());
    let ledger = load.stop().await;
    ledger.assert_clean();
    weir.stop().await;
}

over_both!(a_certificate_that_cannot_be_used_stops_nothing_else);

async fn a_certificate_that_cannot_be_used_stops_nothing_else(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let authority = Authority::new("weir test");
    let pair = |name: &str| format!("{{ cert: \"{{dir}}/{name}.crt\", key: \"{{dir}}/{name}.key\" }}");
    let pairs: Vec<String> = ["missing", "good", "expired", "torn", "mismatch"].iter().map(|name| pair(name)).collect();
    let plain = "  - { name: web, address: \"127.0.0.1:0\" }\n";
    let yaml = shop(&[(&v1, 100.0)]).changed(
        plain,
        &format!(
            "{plain}  - {{ name: several, address: \"127.0.0.1:0\", tls: {{ certificates: [{}] }} }}\n\
             \x20 - {{ name: none, address: \"127.0.0.1:0\", tls: {} }}\n",
            pairs.join(", "),
            pair("missing")
        ),
    );
    let plan = Weir::plan(&yaml);
    let good = authority.server(&["good.test"]);
    let expired = authority.server_valid(&["expired.test"], Validity::Expired);
    let mut torn = authority.server(&["torn.test"]);
    torn.cert.truncate(torn.cert.len() / 2);
    let mut mismatch = authority.server(&["mismatch.test"]);
    mismatch.key = authority.server(&["mismatch.test"]).key;
    for (name, identity) in [("good", &good), ("expired", &expired), ("torn", &torn), ("mismatch", &mismatch)] {
        identity.write(plan.dir(), name);
    }
    let weir = plan.start().await;
    Client::connect(protocol, &Target::from(weir.address("web").await)).await.get("/").await.expect(200);
    let (several, none) = (Target::from(weir.address("several").await), Target::from(weir.address("none").await));
    let asks = |target: &Target, name: &str| target.clone().tls(&Tls::trusting(&authority, name));
    let mut client = Client::connect(protocol, &asks(&several, "good.test")).await;
    assert!(client.tls().is(&good));
    client.get("/").await.expect(200);
    // It is shown, as others do; what it is worth the client decides.
    let refused = format!("{:?}", Client::try_connect(protocol, &asks(&several, "expired.test")).await.err());
    assert!(refused.contains("Expired"), "{refused}");
    assert!(Client::try_connect(protocol, &asks(&none, "missing.test")).await.is_err());
    let status = weir.status().await;
    // The file is in effect in all it says, and is not called refused.
    assert_eq!((status.config.current, &status.config.errors), (true, &None));
    let said = String::from_utf8(weir.cli(&["status"]).await.stdout).unwrap();
    assert!(said.contains("\nfaulty certificates; all else is served:\n") && !said.contains("refused"), "{said}");
    let faulty = &status.config.faulty_certificates;
    for (file, instead) in [
        ("missing.crt", "not served"),
        ("expired.crt", "served all the same"),
        ("torn.crt", "not served"),
        ("mismatch.key", "not served"),
    ] {
        let told = |line: &str| line.contains(file) && line.contains(instead);
        assert!(faulty.iter().any(|line| told(line)), "{file}: {faulty:?}");
        assert!(weir.stderr().lines().any(|line| line.contains("ERROR") && told(line)), "{file}: {}", weir.stderr());
    }
    assert_eq!(weir.metrics().await.value("weir_certificates_faulty", &[]), 5.0);
    // The check is stricter than the start.
    let check = run_weir(&["check", "-c", weir.config().to_str().unwrap()]).await;
    assert_eq!(check.status.code(), Some(3));
    // What is written later is served without a restart.
    let late = authority.server(&["missing.test"]);
    late.write(weir.dir(), "missing");
    eventually("the certificate is served", async || {
        Client::try_connect(protocol, &asks(&none, "missing.test")).await.map(drop)
    })
    .await;
    assert!(Client::connect(protocol, &asks(&several, "missing.test")).await.tls().is(&late));
    assert_eq!(weir.metrics().await.value("weir_certificates_faulty", &[]), 3.0);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_could_serve_nothing_is_refused() {
    let v1 = Origin::start("v1").await;
    let yaml = with_tls(&shop(&[(&v1, 100.0)]), "{ cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\" }");
    let weir = Weir::plan(&yaml).spawn();
    assert_eq!(weir.wait_exit().await.code(), Some(3));
    assert!(weir.stderr().contains("tls.crt"), "{}", weir.stderr());
}

over_both!(a_listener_whose_authorities_cannot_be_read_lets_nobody_in);

async fn a_listener_whose_authorities_cannot_be_read_lets_nobody_in(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    let (authority, clients) = (Authority::new("weir test"), Authority::new("clients"));
    let plain = "  - { name: web, address: \"127.0.0.1:0\" }\n";
    for demand in ["required", "optional"] {
        let tls = "{ cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\", client_ca: \"{dir}/clients.crt\"";
        let listener =
            format!("  - {{ name: mtls, address: \"127.0.0.1:0\", tls: {tls}, client_auth: {demand} }} }}\n");
        let plan = Weir::plan(&shop(&[(&v1, 100.0)]).changed(plain, &format!("{plain}{listener}")));
        authority.server(&["shop.test"]).write(plan.dir(), "tls");
        let weir = plan.start().await;
        Client::connect(protocol, &Target::from(weir.address("web").await)).await.get("/").await.expect(200);
        let mtls = Target::from(weir.address("mtls").await);
        let nameless = Tls::trusting(&authority, "shop.test");
        let known = nameless.clone().identity(&clients.client("app"));
        for tls in [&nameless, &known] {
            assert!(Client::try_connect(protocol, &mtls.clone().tls(tls)).await.is_err(), "{demand}");
        }
        clients.write(weir.dir(), "clients");
        eventually("a known client is let in", async || {
            Client::try_connect(protocol, &mtls.clone().tls(&known)).await?.try_send(&Request::get("/")).await
        })
        .await
        .expect(200);
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_made_for_one_name_carries_no_request_for_another_with_its_own_certificate() {
    let v1 = Origin::start("v1").await;
    let authority = Authority::new("weir test");
    let (one, two) = (authority.server(&["one.test"]), authority.server(&["two.test", "*.two.test"]));
    let tls = "{ certificates: [ { cert: \"{dir}/one.crt\", key: \"{dir}/one.key\" }, \
               { cert: \"{dir}/two.crt\", key: \"{dir}/two.key\" } ] }";
    let cases = [
        ("one.test", "one.test", 200),
        ("one.test", "ONE.test:8443", 200),
        ("one.test", "two.test", 421),
        ("two.test", "one.test", 421),
        ("two.test", "a.two.test", 200),
        // No certificate is for it in particular.
        ("two.test", "shop.test", 200),
    ];
    for express in [true, false] {
        let yaml = with_tls(&shop(&[(&v1, 100.0)]), tls);
        let yaml = yaml.changed("state:", &format!("runtime: {{ express_lane: {express} }}\nstate:"));
        let plan = Weir::plan(&yaml);
        one.write(plan.dir(), "one");
        two.write(plan.dir(), "two");
        let weir = plan.start().await;
        let web = Target::from(weir.address("web").await);
        for (sni, host, status) in cases {
            let target = web.clone().tls(&Tls::trusting(&authority, sni));
            let (mut h1, h2) = (H1::connect(&target).await, H2::connect(&target).await);
            let request = Request::get("/").host(host);
            for response in [h1.send(&request).await, h2.send(&request).await] {
                assert_eq!(response.status, status, "{sni} {host} express={express}: {response:?}");
                assert_eq!(response.header("weir-error"), if status == 421 { "misdirected" } else { "" });
            }
            // The connection stays good for its own name.
            let own = Request::get("/").host(sni);
            h1.send(&own).await.expect(200);
            h2.send(&own).await.expect(200);
        }
        weir.stop().await;
    }
}

over_both!(the_name_asked_for_picks_the_certificate);

async fn the_name_asked_for_picks_the_certificate(protocol: Protocol) {
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
        let mut client = Client::connect(protocol, &web.clone().tls(&Tls::trusting(&authority, name))).await;
        assert!(client.tls().is(expected), "{name}");
        client.get("/").await.expect(200);
    }
    for tls in [Tls::trusting(&authority, "one.test").only_tls12(), Tls::trusting(&authority, "one.test").only_tls13()]
    {
        Client::connect(protocol, &web.clone().tls(&tls)).await.get("/").await.expect(200);
    }
    weir.stop().await;
}

over_both!(clients_without_a_wanted_certificate_are_refused);

async fn clients_without_a_wanted_certificate_are_refused(protocol: Protocol) {
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
    Client::connect(protocol, &web.clone().tls(&known)).await.get("/").await.expect(200);
    for tls in [plain, stranger] {
        let refused = match Client::try_connect(protocol, &web.clone().tls(&tls)).await {
            Err(_) => true,
            Ok(mut client) => client.try_send(&Request::get("/")).await.is_err(),
        };
        assert!(refused);
    }
    weir.stop().await;
}

over_both!(endpoints_are_verified);

async fn endpoints_are_verified(protocol: Protocol) {
    let authority = Authority::new("upstream");
    let identity = authority.server(&["v1.test"]);
    let v1 = Origin::plan("v1").tls(&identity).start().await;
    let yaml = |tls: &str| shop(&[(&v1, 100.0)]).changed("    split:", &format!("    tls: {tls}\n    split:"));
    for (tls, speaks, status) in [
        ("{ ca: \"{dir}/ca.crt\", sni: v1.test }", "http1", 200),
        ("{ ca: \"{dir}/ca.crt\", sni: v1.test }", "h2", 200),
        ("{ ca: \"{dir}/ca.crt\", sni: other.test }", "http1", 502),
        ("{ sni: v1.test }", "http1", 502),
        ("{ sni: v1.test, verify: false }", "http1", 200),
    ] {
        let plan = Weir::plan(&yaml(tls).changed("    split:", &format!("    protocol: {speaks}\n    split:")));
        authority.write(plan.dir(), "ca");
        let weir = plan.start().await;
        let response = Client::connect(protocol, &Target::from(weir.address("web").await)).await.get("/").await;
        assert_eq!(response.status, status, "{tls} {speaks}: {response:?}");
        if status == 502 {
            assert_eq!(response.header("weir-error"), "tls", "{tls}");
        }
        weir.stop().await;
    }
}
