//! Endpoints that are DNS names: what is asked when, what failures keep, and what becomes of those that leave.

use std::time::Duration;

use crate::harness::Fixture as _;
use crate::harness::dns::{Kind, Mood};
use crate::harness::{Client, Dns, Load, Origin, Protocol, Request, Target, Weir, eventually, over_both, shop};
use weir::model::Address;

/// The configuration of [`shop`] with a name in the place of the origin's address.
fn named(origin: &Origin, name: &str, dns: &str) -> String {
    shop(&[(origin, 100.0)]).changed(&format!("\"{}\"", origin.address()), &format!("\"{name}\"")) + dns
}

fn port(origin: &Origin) -> u16 {
    let Address::Inet(address) = origin.address() else { panic!("it has no port") };
    address.port()
}

/// Waits until the version has as many endpoints, those that drain not counted.
async fn endpoints(weir: &Weir, count: usize) {
    let has = |status: &weir::admin::wire::Status| {
        let all = &status.services[0].versions[0].endpoints;
        all.iter().filter(|endpoint| endpoint.state == "ready").count() == count
    };
    weir.until(&format!("there are {count} endpoints"), has).await;
}

async fn served(web: &Target, path: &str) -> String {
    Client::connect(Protocol::Http1, web).await.get(path).await.expect(200).header("x-origin").to_owned()
}

over_both!(a_changed_set_drains_what_left_and_no_request_is_lost);

async fn a_changed_set_drains_what_left_and_no_request_is_lost(protocol: Protocol) {
    let old = Origin::start("v1").await;
    let new = Origin::plan("new").beside(&old, 2).start().await;
    let dns = Dns::start().await;
    dns.addresses("shop.test.", &["127.0.0.1"], 0);
    let weir = Weir::start(&named(&old, &format!("shop.test.:{}", port(&old)), &dns.section(""))).await;
    let web = Target::from(weir.address("web").await);
    let mut held = Client::connect(protocol, &web).await;
    let load = Load::at(&web).clients(protocol, 4).think(Duration::from_millis(3)).start();
    let (response, ()) = tokio::join!(held.get("/hold"), async {
        old.wait_held(1).await;
        dns.addresses("shop.test.", &["127.0.0.2"], 0);
        let status = weir
            .until("the old one drains", |status| {
                status.services[0].versions[0].endpoints.iter().any(|endpoint| endpoint.state == "removed")
            })
            .await;
        let removed = &status.services[0].versions[0].endpoints[1];
        assert_eq!((&*removed.state, removed.in_flight >= 1), ("removed", true));
        let before = new.requests();
        eventually("the new one serves", async || new.requests() > before).await;
        old.release();
    });
    response.expect(200);
    weir.until("the old one is gone", |status| status.services[0].versions[0].endpoints.len() == 1).await;
    load.stop().await.assert_clean();
    assert_eq!(old.connections(), 0, "no connection to it is kept");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_resolver_does_the_last_good_addresses_stay() {
    let v1 = Origin::start("v1").await;
    let dns = Dns::start().await;
    dns.addresses("shop.test.", &["127.0.0.1"], 0);
    let name = format!("shop.test.:{}", port(&v1));
    let weir = Weir::start(&named(&v1, &name, &dns.section(", max_ttl: 1s, timeout: 200ms"))).await;
    let web = Target::from(weir.address("web").await);
    endpoints(&weir, 1).await;
    let revision = weir.status().await.revision;
    let troubles: [(&str, &dyn Fn()); 4] = [
        ("failed", &|| dns.mood(Mood::Fails)),
        ("timeout", &|| dns.mood(Mood::Silent)),
        ("no_name", &|| {
            dns.mood(Mood::Well);
            dns.remove("shop.test.");
        }),
        ("empty", &|| dns.addresses("shop.test.", &[], 0)),
    ];
    for (result, begin) in troubles {
        begin();
        eventually("a lookup failed so, twice", async || {
            let count = weir.metrics().await.value("weir_dns_lookups_total", &[("result", result)]);
            if count >= 2.0 { Ok(()) } else { Err((result, count)) }
        })
        .await;
        let status = weir.status().await;
        assert_eq!((status.names[0].addresses, status.names[0].error.is_some()), (1, true), "{result}");
        Client::connect(Protocol::Http1, &web).await.get("/").await.expect(200);
    }
    dns.addresses("shop.test.", &["127.0.0.1"], 0);
    let status = weir.until("it is found again", |status| status.names[0].error.is_none()).await;
    assert_eq!(status.revision, revision, "an unchanged set compiles nothing");
    let log = weir.stderr();
    assert_eq!(log.matches("cannot be looked up").count(), 4, "each trouble is said once: {log}");
    assert_eq!(log.matches("can be looked up again").count(), 1, "{log}");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_asked_for_again_when_its_ttl_is_over_and_not_before() {
    let v1 = Origin::start("v1").await;
    let dns = Dns::start().await;
    dns.addresses("two.test.", &["127.0.0.1"], 2);
    dns.addresses("day.test.", &["127.0.0.1"], 86_400);
    dns.addresses("now.test.", &["127.0.0.1"], 0);
    let names = ["two", "day", "now"].map(|name| format!("{name}.test.:{}", port(&v1)));
    let weir = Weir::start(&named(&v1, &names.join("\", \""), &dns.section(", max_ttl: 3s"))).await;
    let gaps = async |name: &str, enough: usize| {
        let times = || -> Vec<_> {
            let asked = dns.asked(name);
            asked.iter().filter(|asked| asked.kind == Kind::A).map(|asked| asked.at).collect()
        };
        eventually("it is asked for often enough", async || times().len() > enough).await;
        times().windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<Duration>>()
    };
    for (name, least, enough) in [("now.test.", 100, 10), ("two.test.", 2_000, 2), ("day.test.", 3_000, 1)] {
        for gap in gaps(name, enough).await {
            // The machine may be late; it is never early.
            assert!(gap >= Duration::from_millis(least), "{name}: {gap:?}");
        }
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_asked_for_over_tcp() {
    let v1 = Origin::start("v1").await;
    let dns = Dns::start().await;
    dns.mood(Mood::Truncates);
    dns.addresses("shop.test.", &["127.0.0.1"], 30);
    let weir = Weir::start(&named(&v1, &format!("shop.test.:{}", port(&v1)), &dns.section(""))).await;
    endpoints(&weir, 1).await;
    let asked = dns.asked("shop.test.");
    assert!(asked.iter().any(|asked| asked.tcp && asked.kind == Kind::A), "{asked:?}");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_records_say_hosts_and_ports_and_the_lowest_priority_serves() {
    let (a, b, spare) = (Origin::start("v1").await, Origin::start("b").await, Origin::start("spare").await);
    let dns = Dns::start().await;
    for host in ["one.test.", "two.test."] {
        dns.addresses(host, &["127.0.0.1"], 0);
    }
    let name = "_http._tcp.shop.test.";
    let (one, two) = ((10, 0, port(&a), "one.test."), (10, 0, port(&b), "two.test."));
    let third = (20, 0, port(&spare), "one.test.");
    dns.services(name, &[one, two, third], 0);
    let weir = Weir::start(&named(&a, &format!("srv:{name}"), &dns.section(""))).await;
    let web = Target::from(weir.address("web").await);
    endpoints(&weir, 2).await;
    Load::at(&web).request(Request::get("/")).keep_alive(2).count(40).run().await.assert_clean();
    assert!(a.requests() > 0 && b.requests() > 0 && spare.requests() == 0);
    dns.services(name, &[third], 0);
    weir.until("the preferred ones are gone", |status| {
        let endpoints = &status.services[0].versions[0].endpoints;
        endpoints.len() == 1 && endpoints[0].state == "ready"
    })
    .await;
    assert_eq!(served(&web, "/").await, "spare");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_never_resolved_does_not_hold_the_start_up_and_serves_once_it_does() {
    let v1 = Origin::start("v1").await;
    let dns = Dns::start().await;
    dns.mood(Mood::Silent);
    let name = format!("shop.test.:{}", port(&v1));
    let keys = dns.section(", max_ttl: 1s, timeout: 300ms");
    let weir = Weir::start(&named(&v1, &name, &keys)).await;
    let web = Target::from(weir.address("web").await);
    let response = Client::connect(Protocol::Http1, &web).await.get("/").await.expect(503);
    assert_eq!(response.header("weir-error"), "no_endpoint");
    weir.until("the trouble is told", |status| {
        let name = &status.names[0];
        name.addresses == 0 && name.age_seconds.is_none() && name.error.is_some()
    })
    .await;
    let shown = String::from_utf8(weir.cli(&["status"]).await.stdout).unwrap();
    assert!(shown.contains(&format!("name {name}: no address yet: no DNS server answered in time")), "{shown}");
    assert_eq!(weir.metrics().await.value("weir_dns_last_answer_timestamp_seconds", &[("name", &name)]), 0.0);
    dns.mood(Mood::Well);
    dns.addresses("shop.test.", &["127.0.0.1"], 0);
    endpoints(&weir, 1).await;
    Client::connect(Protocol::Http1, &web).await.get("/").await.expect(200);
    assert!(weir.metrics().await.value("weir_dns_last_answer_timestamp_seconds", &[("name", &name)]) > 1e9);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_new_names_and_other_settings_into_effect() {
    let v1 = Origin::start("v1").await;
    let (dns, other) = (Dns::start().await, Dns::start().await);
    dns.addresses("old.test.", &["127.0.0.1"], 86_400);
    other.addresses("old.test.", &["127.0.0.1", "127.0.0.3"], 86_400);
    other.addresses("new.test.", &["127.0.0.4"], 86_400);
    let name = |host: &str| format!("{host}.test.:{}", port(&v1));
    let weir = Weir::start(&named(&v1, &name("old"), &dns.section(""))).await;
    endpoints(&weir, 1).await;
    weir.reconfigure(&named(&v1, &[name("old"), name("new")].join("\", \""), &other.section(""))).await;
    endpoints(&weir, 3).await;
    assert!(dns.asked("new.test.").is_empty());
    weir.reconfigure(&named(&v1, &name("new"), &other.section(", family: ipv4"))).await;
    endpoints(&weir, 1).await;
    assert_eq!(weir.status().await.names.len(), 1, "names that are gone are forgotten");
    weir.stop().await;
}
