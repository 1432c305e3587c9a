//! Spellings that servers read in different ways: what is chosen for them holds on every way to an endpoint.

use serde_json::Value;

use super::ways::{WAYS, Way, all, yaml};
use crate::harness::{Origin, Request, Target, Weir, express_lane};

/// Two services, of which one is at `/admin`, with these sections.
fn two(shop: &Origin, admin: &Origin, sections: &str) -> String {
    let version = |origin: &Origin| format!("{{ versions: {{ v1: {{ endpoints: [\"{}\"] }} }} }}", origin.address());
    let lane = if express_lane() { "" } else { "runtime: { express_lane: false }" };
    format!(
        "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
  - {{ name: other, address: \"127.0.0.1:0\", paths: {{ encoded_slash: decode }}, headers: {{ underscore: refuse }} }}
admin: {{ address: \"{{admin}}\" }}
state: {{ directory: \"{{dir}}/state\" }}
shutdown: {{ deadline: 5s }}
{lane}
{sections}
services:
  shop: {}
  admin: {}
routes:
  - {{ match: {{ path: / }}, service: shop }}
  - {{ match: {{ path: /admin }}, service: admin }}
  - {{ match: {{ path: /headers }}, service: shop, headers: {{ underscore: allow }} }}
",
        version(shop),
        version(admin)
    )
}

/// Who answered, and the target that it got last; or the cause of a refusal.
async fn asked(way: Way, web: &Target, target: &str, origins: [&Origin; 2]) -> (String, String) {
    let response = way.send(web, Request::get(target)).await;
    let by = response.origin().to_owned();
    match origins.iter().find(|origin| origin.name() == by) {
        Some(origin) => (by, origin.journal().last().unwrap().target.clone()),
        None => (response.status.to_string(), response.header("weir-error").to_owned()),
    }
}

const AMBIGUOUS: (&str, &str) = ("400", "path_ambiguous");

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forwarded_is_what_was_matched_whatever_is_chosen_for_paths() {
    let (shop, admin) = (Origin::start("shop").await, Origin::start("admin").await);
    let weir = Weir::start(&two(&shop, &admin, "")).await;
    let web = Target::from(weir.address("web").await);
    let other = Target::from(weir.address("other").await);
    for (sections, listener, target, found) in [
        ("", &web, "/api/queues/%2F/orders", ("shop", "/api/queues/%2F/orders")),
        ("", &web, "/@types%2fnode", ("shop", "/@types%2fnode")),
        ("", &web, "/bucket//key", ("shop", "/bucket//key")),
        ("", &web, "/unsafe/https://cdn.test/a.png?x=//%2f", ("shop", "/unsafe/https://cdn.test/a.png?x=//%2f")),
        ("", &web, "/admin/x", ("admin", "/admin/x")),
        ("", &web, "/x/%2e%2E/admin", ("admin", "/admin")),
        ("", &web, "/%61dmin//x", ("admin", "/admin//x")),
        ("", &web, "//admin", ("shop", "//admin")),
        ("", &web, "/x%2F..%2Fadmin", ("shop", "/x%2F..%2Fadmin")),
        ("", &web, "/x/..%2fadmin", ("shop", "/x/..%2fadmin")),
        ("", &web, "/admin/..%2fx", ("admin", "/admin/..%2fx")),
        ("", &web, "/admin;x/y", ("admin", "/admin;x/y")),
        ("", &web, "/x%5cadmin", AMBIGUOUS),
        ("", &web, "/x\\admin", AMBIGUOUS),
        ("", &web, "/x%00", AMBIGUOUS),
        ("", &web, "/x%c0%af", AMBIGUOUS),
        ("", &other, "/x%2F..%2Fadmin", ("admin", "/admin")),
        ("", &other, "/x%2f%2Fy", ("shop", "/x//y")),
        ("paths: { encoded_slash: refuse }", &web, "/x%2fy", AMBIGUOUS),
        ("paths: { encoded_slash: refuse }", &other, "/x%2fy", ("shop", "/x/y")),
        ("paths: { merge_slashes: true }", &web, "//admin", ("admin", "/admin")),
        ("paths: { merge_slashes: true }", &other, "/%2F/%2fadmin//x?//", ("admin", "/admin/x?//")),
        ("paths: { backslash: keep }", &web, "/x\\y%5cz", ("shop", "/x\\y%5cz")),
    ] {
        if !sections.is_empty() {
            weir.reconfigure(&two(&shop, &admin, sections)).await;
        }
        for way in WAYS {
            let (by, got) = asked(way, listener, target, [&shop, &admin]).await;
            assert_eq!((&*by, &*got), found, "{way:?} {target} {sections}");
        }
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_beyond_ascii_are_refused_encoded_or_kept() {
    for http2 in [false, true] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, http2, "")).await;
        let web = Target::from(weir.address("web").await);
        for (choice, found) in [
            ("", ("400", "target_invalid")),
            ("paths: { non_ascii: encode }", ("v1", "/caf%C3%A9?q=%E2%82%AC")),
            ("paths: { non_ascii: keep }", ("v1", "/café?q=€")),
        ] {
            weir.reconfigure(&yaml(&v1, http2, choice)).await;
            for way in WAYS {
                if http2 && way == Way::Upgrade {
                    continue;
                }
                let (by, got) = asked(way, &web, "/café?q=€", [&v1, &v1]).await;
                assert_eq!((&*by, &*got), found, "{way:?} {choice}, an endpoint of HTTP/2: {http2}");
            }
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_with_an_underscore_are_dropped_refused_or_allowed() {
    for http2 in [false, true] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, http2, "")).await;
        let web = Target::from(weir.address("web").await);
        for (choice, found) in [
            ("", Some(vec![])),
            ("headers: { underscore: drop }", Some(vec![])),
            ("headers: { underscore: allow }", Some(vec!["7"])),
            ("headers: { underscore: refuse }", None),
        ] {
            weir.reconfigure(&yaml(&v1, http2, choice)).await;
            for way in WAYS {
                if http2 && way == Way::Upgrade {
                    continue;
                }
                let request = Request::get("/headers").header("api_key", "7").header("api-key", "8");
                let Some(found) = &found else {
                    let response = way.send(&web, request).await.expect(400);
                    assert_eq!(response.header("weir-error"), "field_name_underscore", "{way:?} {choice}");
                    continue;
                };
                let seen = way.seen(&web, request).await;
                assert_eq!(all(&seen, "api_key"), *found, "{way:?} {choice}");
                assert_eq!(all(&seen, "api-key"), ["8"], "{way:?} {choice}");
            }
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_says_more_than_its_listener_and_that_more_than_the_file() {
    let (shop, admin) = (Origin::start("shop").await, Origin::start("admin").await);
    let weir = Weir::start(&two(&shop, &admin, "headers: { underscore: drop }")).await;
    let web = Target::from(weir.address("web").await);
    let other = Target::from(weir.address("other").await);
    for way in WAYS {
        let seen = async |listener: &Target, target: &str| {
            let response = way.send(listener, Request::get(target).header("api_key", "7")).await;
            let got = shop.journal().last().is_some_and(|entry| entry.headers.get("api_key").is_some());
            (response.status, got)
        };
        assert_eq!(seen(&web, "/").await, (200, false), "{way:?}: the file drops it");
        assert_eq!(seen(&web, "/headers").await, (200, true), "{way:?}: the route allows it");
        assert_eq!(seen(&other, "/").await.0, 400, "{way:?}: the listener refuses it");
        assert_eq!(seen(&other, "/headers").await, (200, true), "{way:?}: the route allows it there too");
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_keep_their_metadata_and_nothing_else_passes_for_one() {
    let call = || Request::post("/headers", "").header("content-type", "application/grpc").header("te", "trailers");
    for http2 in [false, true] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, http2, "")).await;
        let web = Target::from(weir.address("web").await);
        for choice in ["drop", "refuse", "allow"] {
            weir.reconfigure(&yaml(&v1, http2, &format!("headers: {{ underscore: {choice} }}"))).await;
            for way in [Way::Http11, Way::Http2] {
                let response = way.send(&web, call().header("user_id", "7").header("x_forwarded_for", "6.6.6.6")).await;
                let is_call = way == Way::Http2 && http2;
                if choice == "refuse" && !is_call {
                    assert_eq!(response.expect(400).header("weir-error"), "field_name_underscore");
                    continue;
                }
                let seen: Value = response.expect(200).json();
                let kept = seen["headers"].to_string().contains("user_id");
                assert_eq!(kept, is_call || choice == "allow", "{way:?} {choice}, an endpoint of HTTP/2: {http2}");
                assert!(!seen.to_string().contains("6.6.6.6"), "{way:?} {choice}: {seen}");
            }
            // Framing is none of a call's metadata.
            let response = Way::Http2.send(&web, call().header("content_length", "5")).await;
            assert_eq!(response.expect(400).header("weir-error"), "field_name_underscore", "{choice}");
        }
        weir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_expectation_of_an_http_1_0_client_is_ignored() {
    for http2 in [false, true] {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&yaml(&v1, http2, "")).await;
        let web = Target::from(weir.address("web").await);
        for value in ["100-continue", "100-CONTINUE", "something-else"] {
            // Its body goes with it: nobody would tell it to go on.
            let request = Request::post("/headers", "hello").header("expect", value);
            let response = Way::Http10.send(&web, request).await.expect(200);
            assert!(response.interim.is_empty(), "{response:?}");
            assert!(!response.text().to_lowercase().contains("expect"), "{}", response.text());
        }
        weir.stop().await;
    }
}
