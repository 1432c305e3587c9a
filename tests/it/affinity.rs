//! Affinity and overrides, as clients see them.

use crate::harness::Fixture as _;
use crate::harness::{Client, Origin, Protocol, Request, Rewrite, Target, Weir, over_both, shop};

fn with(yaml: &str, keys: &str) -> String {
    yaml.changed("    split:", &format!("    {keys}\n    split:"))
}

const USERS: usize = 60;

fn of(user: usize) -> Request {
    Request::get("/").header("x-user", format!("user-{user}"))
}

/// The version of each user.
async fn versions(protocol: Protocol, web: &Target) -> Vec<String> {
    let mut client = Client::connect(protocol, web).await;
    let mut versions = Vec::new();
    for user in 0..USERS {
        versions.push(client.send(&of(user)).await.expect(200).origin().to_owned());
    }
    versions
}

async fn web(weir: &Weir) -> Target {
    Target::from(weir.address("web").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_its_version_over_both_protocols_and_a_restart() {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let yaml = with(&shop(&[(&v1, 50.0), (&v2, 50.0)]), "affinity: { header: x-user }");
    let weir = Weir::start(&yaml).await;
    let first = versions(Protocol::Http1, &web(&weir).await).await;
    assert!(first.contains(&"v1".to_owned()) && first.contains(&"v2".to_owned()), "{first:?}");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        assert_eq!(versions(protocol, &web(&weir).await).await, first, "{protocol:?}");
    }
    weir.stop().await;
    let again = Weir::start(&yaml).await;
    assert_eq!(versions(Protocol::Http2, &web(&again).await).await, first, "another process decides alike");
    again.stop().await;
}

over_both!(the_first_answer_sets_the_cookie_and_later_requests_keep_the_version);

async fn the_first_answer_sets_the_cookie_and_later_requests_keep_the_version(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&with(&shop(&[(&v1, 50.0), (&v2, 50.0)]), "affinity: { cookie: weir-shop, ttl: 1h }")).await;
    let mut client = Client::connect(protocol, &web(&weir).await).await;
    for _ in 0..10 {
        let first = client.get("/").await.expect(200);
        let cookie = first.header("set-cookie").to_owned();
        assert!(cookie.starts_with("weir-shop=") && cookie.contains("Max-Age=3600"), "{cookie:?}");
        let key = cookie.split(';').next().unwrap();
        for _ in 0..5 {
            let next = client.send(&Request::get("/").header("cookie", key)).await.expect(200);
            assert_eq!((next.origin(), next.header("set-cookie")), (first.origin(), ""));
        }
    }
    weir.stop().await;
}

over_both!(a_cookie_that_the_application_sets_is_not_set_by_weir);

async fn a_cookie_that_the_application_sets_is_not_set_by_weir(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&with(&shop(&[(&v1, 50.0), (&v2, 50.0)]), "affinity: { cookie: session }")).await;
    let mut client = Client::connect(protocol, &web(&weir).await).await;
    assert_eq!(client.get("/").await.expect(200).header("set-cookie"), "");
    weir.stop().await;
}

over_both!(an_override_counts_only_from_the_allowed_addresses);

async fn an_override_counts_only_from_the_allowed_addresses(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let plain = shop(&[(&v1, 100.0), (&v2, 0.0)]);
    let from = |net: &str| with(&plain, &format!("override: {{ header: x-version, from: [{net}] }}"));
    let weir = Weir::start(&from("127.0.0.0/8")).await;
    let mut client = Client::connect(protocol, &web(&weir).await).await;
    let named = Request::get("/").header("x-version", "v2");
    assert_eq!(client.send(&named).await.expect(200).origin(), "v2");
    assert_eq!(client.get("/").await.expect(200).origin(), "v1");
    weir.reconfigure(&from("10.0.0.0/8")).await;
    assert_eq!(client.send(&named).await.expect(200).origin(), "v1");
    weir.stop().await;
}

over_both!(clients_of_a_drained_version_fail_over_and_come_back);

async fn clients_of_a_drained_version_fail_over_and_come_back(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&with(&shop(&[(&v1, 50.0), (&v2, 50.0)]), "affinity: { header: x-user }")).await;
    let web = web(&weir).await;
    let before = versions(protocol, &web).await;
    assert_eq!(weir.cli(&["drain", "shop/v2"]).await.status.code(), Some(0));
    assert_eq!(versions(protocol, &web).await, vec!["v1"; USERS]);
    assert_eq!(weir.cli(&["ready", "shop/v2"]).await.status.code(), Some(0));
    assert_eq!(versions(protocol, &web).await, before);
    weir.stop().await;
}

over_both!(more_weight_moves_clients_one_way_only);

async fn more_weight_moves_clients_one_way_only(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let at = |canary: f64| with(&shop(&[(&v1, 100.0 - canary), (&v2, canary)]), "affinity: { header: x-user }");
    let weir = Weir::start(&at(10.0)).await;
    let web = web(&weir).await;
    let mut before = versions(protocol, &web).await;
    for canary in [20.0, 50.0, 100.0] {
        weir.rewrite(Rewrite::Rename, &at(canary));
        weir.reload_and_wait().await;
        let after = versions(protocol, &web).await;
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == "v2"), "{canary}");
        before = after;
    }
    assert_eq!(before, vec!["v2"; USERS]);
    weir.stop().await;
}

const SECRET: &str = "a-secret-that-nobody-guesses";

/// What `openssl dgst -sha256 -hmac SECRET` makes a signature of.
fn signed_name(service: &str, version: &str, expires: u64) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, format!("override/{service}/{version}/{expires}").as_bytes());
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{version}.{expires}.{digits}")
}

/// A Weir that has a secret in its directory.
async fn with_secret(yaml: &str) -> Weir {
    let plan = Weir::plan(yaml);
    std::fs::write(plan.dir().join("secret"), format!("{SECRET}\n")).unwrap();
    plan.start().await
}

over_both!(a_signed_name_of_a_version_counts_from_everywhere);

async fn a_signed_name_of_a_version_counts_from_everywhere(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let keys = "override: { header: x-version, cookie: version, secret_file: \"{dir}/secret\" }";
    let weir = with_secret(&with(&shop(&[(&v1, 100.0), (&v2, 0.0)]), keys)).await;
    let mut client = Client::connect(protocol, &web(&weir).await).await;
    let (good, far) = (signed_name("shop", "v2", u64::MAX), 4_102_444_800);
    for (name, value, version) in [
        ("x-version", good.clone(), "v2"),
        ("x-version", signed_name("shop", "v2", far), "v2"),
        ("cookie", format!("version={good}"), "v2"),
        ("x-version", "v2".to_owned(), "v1"),
        ("x-version", signed_name("shop", "v2", 1_000_000_000), "v1"),
        ("x-version", signed_name("cart", "v2", far), "v1"),
        ("x-version", signed_name("shop", "v7", far), "v1"),
        ("x-version", good.replace("v2.", "v1."), "v1"),
    ] {
        let answer = client.send(&Request::get("/headers").header(name, value.clone())).await.expect(200);
        assert_eq!(answer.origin(), version, "{name}: {value}");
        assert!(!answer.text().contains(&value), "it ends at Weir: {}", answer.text());
    }
    weir.stop().await;
}

over_both!(a_key_that_is_replaced_counts_without_a_restart);

async fn a_key_that_is_replaced_counts_without_a_restart(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let keys = "override: { header: x-version, secret_file: \"{dir}/secret\" }";
    let weir = with_secret(&with(&shop(&[(&v1, 100.0), (&v2, 0.0)]), keys)).await;
    let mut client = Client::connect(protocol, &web(&weir).await).await;
    let named = Request::get("/").header("x-version", signed_name("shop", "v2", u64::MAX));
    assert_eq!(client.send(&named).await.expect(200).origin(), "v2");
    std::fs::write(weir.dir().join("secret"), "another-secret-altogether\n").unwrap();
    weir.reload_and_wait().await;
    assert_eq!(client.send(&named).await.expect(200).origin(), "v1");
    weir.stop().await;
}

over_both!(sticky_clients_stay_on_the_canary_until_it_ends);

async fn sticky_clients_stay_on_the_canary_until_it_ends(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let keys = "affinity: { cookie: weir-shop, ttl: 1h, mode: sticky, secret_file: \"{dir}/secret\" }";
    let at = |canary: f64| with(&shop(&[(&v1, 100.0 - canary), (&v2, canary)]), keys);
    let weir = with_secret(&at(100.0)).await;
    let mut client = Client::connect(protocol, &web(&weir).await).await;
    let first = client.get("/").await.expect(200);
    let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(first.origin(), "v2");
    weir.reconfigure(&at(0.0)).await;
    let known = Request::get("/").header("cookie", cookie.clone());
    let still = client.send(&known).await.expect(200);
    assert_eq!((still.origin(), still.header("set-cookie")), ("v2", ""), "at weight 0");
    assert_eq!(client.get("/").await.expect(200).origin(), "v1", "a new client is not");
    let forged = Request::get("/").header("cookie", cookie.replace(".v2.", ".v2.0"));
    assert_eq!(client.send(&forged).await.expect(200).origin(), "v1");
    assert_eq!(weir.cli(&["maint", "shop/v2"]).await.status.code(), Some(0));
    let moved = client.send(&known).await.expect(200);
    assert_eq!(moved.origin(), "v1");
    let cookie = moved.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(weir.cli(&["ready", "shop/v2"]).await.status.code(), Some(0));
    let known = Request::get("/").header("cookie", cookie);
    assert_eq!(client.send(&known).await.expect(200).origin(), "v1", "it moves once");
    weir.stop().await;
}

over_both!(a_claim_of_a_token_keeps_its_client_on_its_version);

async fn a_claim_of_a_token_keeps_its_client_on_its_version(protocol: Protocol) {
    let (v1, v2) = (Origin::start("v1").await, Origin::start("v2").await);
    let weir = Weir::start(&with(&shop(&[(&v1, 50.0), (&v2, 50.0)]), "affinity: { jwt: { claim: sub } }")).await;
    let mut client = Client::connect(protocol, &web(&weir).await).await;
    // {"sub":"alice"}, issued twice: with other heads and signatures.
    for token in ["eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.", "e30.eyJzdWIiOiJhbGljZSJ9.c2ln"] {
        for _ in 0..5 {
            let request = Request::get("/").header("authorization", format!("Bearer {token}"));
            assert_eq!(client.send(&request).await.expect(200).origin(), "v1", "alice's bucket is 9,996");
        }
    }
    for odd in ["Bearer", "Bearer a.b.c", "Bearer ...."] {
        client.send(&Request::get("/").header("authorization", odd)).await.expect(200);
    }
    weir.stop().await;
}
