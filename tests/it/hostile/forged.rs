//! What clients claim about where they come from, over every way to an endpoint.

use serde_json::Value;

use super::ways::{WAYS, Way, all, yaml};
use crate::harness::{H1, H2, Origin, Request, Target, Weir};

/// Names under which some endpoint takes what a proxy says of the client.
const CLAIMS: [&str; 26] = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Scheme",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-FORWARDED-anything",
    "X-Forwarded",
    "Forwarded",
    "Forwarded-For",
    "X-Real-IP",
    "X-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Client-Cert",
    "X-Request-Id",
];

const TRUSTED: &str = "trusted_proxies: [127.0.0.0/8]";

/// A request with every claim, and a trace of two lines.
fn claiming(way: Way) -> Request {
    let claim = |request: Request, name: &&str| {
        let name = if way == Way::Http2 { name.to_ascii_lowercase() } else { (*name).to_owned() };
        request.header(&name, "6.6.6.6")
    };
    let request = CLAIMS.iter().fold(Request::get("/headers"), claim);
    request.header("via", "1.0 fred").header("via", "1.1 p.example (x)").header("x-api-key", "6")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_stranger_claims_reaches_an_endpoint_on_any_way() {
    for http2 in [false, true] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, http2, "")).await;
        let web = Target::from(weir.address("web").await);
        for way in WAYS {
            if http2 && way == Way::Upgrade {
                continue;
            }
            let seen = way.seen(&web, claiming(way)).await;
            let claims: Vec<_> = seen.iter().filter(|(_, value)| value.contains("6.6.6.6")).collect();
            assert!(claims.is_empty(), "{way:?}: {claims:?}");
            assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"], "{way:?}");
            assert_eq!(all(&seen, "x-forwarded-proto"), ["http"], "{way:?}");
            assert_eq!(all(&seen, "x-forwarded-host"), ["shop.test"], "{way:?}");
            assert_eq!(all(&seen, "x-request-id").len(), 1, "{way:?}");
            let forwarded = seen.iter().filter(|(name, _)| name.starts_with("x-forwarded"));
            assert_eq!(forwarded.count(), 3, "{way:?}: {seen:?}");
            // The trace is no claim: who is in it stays in it (RFC 9110 §7.6.3).
            let trace = format!("1.0 fred, 1.1 p.example (x), {}", way.via());
            assert_eq!(all(&seen, "via"), [trace], "{way:?}");
            assert_eq!(all(&seen, "x-api-key"), ["6"], "{way:?}");
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trusted_proxy_says_is_passed_on_or_continued_on_every_way() {
    for http2 in [false, true] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, http2, TRUSTED)).await;
        let web = Target::from(weir.address("web").await);
        for way in WAYS {
            if http2 && way == Way::Upgrade {
                continue;
            }
            let seen = way.seen(&web, claiming(way)).await;
            for name in CLAIMS {
                let expected = if name == "X-Forwarded-For" { "6.6.6.6, 127.0.0.1" } else { "6.6.6.6" };
                assert_eq!(all(&seen, &name.to_ascii_lowercase()), [expected], "{way:?}: {name}");
            }
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_claim_comes_in_by_trailers() {
    for http2 in [false, true] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, http2, "")).await;
        let web = Target::from(weir.address("web").await);
        let upload = || {
            let claim = |request: Request, name: &&str| request.trailer(&name.to_ascii_lowercase(), "6.6.6.6");
            CLAIMS.iter().fold(Request::post("/sink", "abc"), claim)
        };
        let seen = H1::connect(&web).await.send(&upload()).await.expect(200);
        assert!(!seen.text().contains("6.6.6.6"), "HTTP/1: {}", seen.text());
        let seen = H2::connect(&web).await.send(&upload()).await.expect(200);
        assert!(!seen.text().contains("6.6.6.6"), "HTTP/2: {}", seen.text());
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_with_underscores_is_the_same_claim() {
    let spelt = |sign: &str| {
        let claim =
            |request: Request, name: &&str| request.header(&name.to_ascii_lowercase().replace('-', sign), "6.6.6.6");
        CLAIMS.iter().filter(|name| name.contains('-')).fold(Request::get("/headers"), claim).header("api_key", "7")
    };
    for sections in ["", "headers: { underscore: allow }"] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, false, sections)).await;
        let web = Target::from(weir.address("web").await);
        for way in WAYS {
            let seen = way.seen(&web, spelt("_")).await;
            let claims: Vec<_> = seen.iter().filter(|(_, value)| value.contains("6.6.6.6")).collect();
            assert!(claims.is_empty(), "{way:?} {sections}: {claims:?}");
            assert_eq!(all(&seen, "api_key").is_empty(), sections.is_empty(), "{way:?} {sections}");
            assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"], "{way:?}");
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_that_a_trusted_proxy_names_may_have_a_port() {
    let v1 = Origin::start("v1").await;
    let sections = format!("{TRUSTED}\naccess_log: {{ output: \"{{dir}}/access.log\" }}");
    let weir = Weir::start(&yaml(&v1, false, &sections)).await;
    let web = Target::from(weir.address("web").await);
    for (said, client) in [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.8:443", "203.0.113.8"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::2]", "2001:db8::2"),
        ("2001:db8::3", "2001:db8::3"),
        ("unknown", "127.0.0.1"),
    ] {
        for way in WAYS {
            let request = Request::get("/headers").header("x-forwarded-for", said).header("x-request-id", client);
            let seen = way.seen(&web, request).await;
            assert_eq!(all(&seen, "x-forwarded-for"), [format!("{said}, 127.0.0.1")], "{way:?}");
        }
    }
    assert!(weir.stop().await.success());
    let log = std::fs::read_to_string(weir.dir().join("access.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6 * WAYS.len(), "{log}");
    for line in lines {
        assert_eq!(line["client"], line["request_id"], "{line}");
    }
}
