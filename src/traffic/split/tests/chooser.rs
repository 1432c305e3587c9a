//! The override: who may name a version, and how.

use super::super::signature::tests::override_token;
use super::super::{KeySource, OverrideSource, Reason, SigningKeys};
use super::*;

fn options(from: Option<&[&str]>) -> SplitOptions {
    let from = from.map(|nets| nets.iter().map(|net| net.parse().unwrap()).collect());
    let overrides =
        OverrideSource { header: Some("x-version".into()), cookie: Some("version".into()), from, keys: None };
    SplitOptions { overrides: Some(overrides), ..SplitOptions::default() }
}

fn from(address: &str, head: Head) -> Client {
    Client(head, Some(address.parse().unwrap()))
}

#[test]
fn a_request_names_its_version_by_header_or_cookie_and_the_header_counts_first() {
    let chooser = chooser(&shares(&[10_000, 0, 0]), options(None), None);
    for (request, version, reason) in [
        (get().with("X-Version", "v2"), 1, Reason::Override),
        (get().with("cookie", "version=v3"), 2, Reason::Override),
        (get().with("cookie", "version=v3").with("x-version", "v2"), 1, Reason::Override),
        (get().with("cookie", "version=v3").with("x-version", "nonsense"), 2, Reason::Override),
        (get().with("x-version", "v4"), 0, Reason::Weight),
        (get().with("x-version", "V2"), 0, Reason::Weight),
        (get().with("x-version", ""), 0, Reason::Weight),
        (get().with("cookie", "version=v9"), 0, Reason::Weight),
        (get(), 0, Reason::Weight),
    ] {
        let choice = choose(&chooser, &request);
        assert_eq!((choice.version, choice.reason, choice.available), (version, reason, true), "{:?}", request.headers);
    }
}

#[test]
fn only_the_allowed_addresses_name_a_version() {
    let chooser = chooser(&shares(&[10_000, 0]), options(Some(&["127.0.0.0/8", "fd00::/8"])), None);
    let named = || get().with("x-version", "v2").with("cookie", "version=v2");
    for (address, version) in [("127.9.9.9", 1), ("fd12::1", 1), ("10.0.0.1", 0), ("::1", 0)] {
        assert_eq!(choose(&chooser, &from(address, named())).version, version, "{address}");
    }
    assert_eq!(choose(&chooser, &Client(named(), None)).version, 0, "a client without an address is not allowed");
}

#[test]
fn a_version_that_takes_no_requests_cannot_be_named() {
    let mut versions = shares(&[10_000, 0]);
    versions[1].available = false;
    let choice = choose(&chooser(&versions, options(None), None), &get().with("x-version", "v2"));
    assert_eq!((choice.version, choice.reason), (0, Reason::Weight));
}

#[test]
fn without_permission_nothing_is_named() {
    let chooser = chooser(&shares(&[10_000, 0]), SplitOptions::default(), None);
    assert_eq!(choose(&chooser, &get().with("x-version", "v2")).version, 0);
}

#[test]
fn requests_that_name_their_version_take_no_turn_of_the_others() {
    let (mixed, alone) = (chooser(&shares(&[6_000, 4_000]), options(None), None), splitter(&[6_000, 4_000], None));
    for _ in 0..500 {
        let _named = choose(&mixed, &get().with("x-version", "v2"));
        assert_eq!(choose(&mixed, &get()).version, alone.choose());
    }
}

#[test]
fn an_override_counts_before_affinity_and_leaves_the_clients_key() {
    let affinity = Some(KeySource::Cookie { name: "weir".into(), make: true, keys: None });
    let chooser =
        chooser(&shares(&[10_000, 0]), SplitOptions { affinity, salt: "shop".to_owned(), ..options(None) }, None);
    let choice = chooser.choose(&get().with("x-version", "v2"), || "k".to_owned(), || 0);
    assert_eq!((choice.version, choice.reason, choice.new_cookie.as_deref()), (1, Reason::Override, Some("k")));
    let choice = choose(&chooser, &get().with("x-version", "v2").with("cookie", "weir=k"));
    assert_eq!((choice.key, choice.new_cookie), (Some(super::super::affinity::hash("shop", b"k")), None));
}

#[test]
fn a_signed_name_counts_from_everywhere_until_it_expires() {
    let keys = SigningKeys::parse("0123456789abcdef").unwrap();
    let token = |version| override_token(&keys, "shop", version, 1_000);
    let source = OverrideSource {
        header: Some("x-version".into()),
        cookie: Some("version".into()),
        from: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        keys: Some(keys.clone()),
    };
    let options = SplitOptions { service: "shop".to_owned(), overrides: Some(source), ..SplitOptions::default() };
    let chooser = chooser(&shares(&[10_000, 0]), options, None);
    let signed = token("v2");
    for (address, request, now, version) in [
        ("203.0.113.7", get().with("x-version", &signed), 999, 1),
        ("203.0.113.7", get().with("cookie", format!("a=b; version={signed}")), 999, 1),
        ("203.0.113.7", get().with("x-version", &signed), 1_000, 0),
        ("203.0.113.7", get().with("x-version", token("v9")), 0, 0),
        ("203.0.113.7", get().with("x-version", "v2"), 0, 0),
        ("203.0.113.7", get().with("x-version", signed.replace("v2.", "v1.")), 0, 0),
        ("10.1.2.3", get().with("x-version", "v2"), 5_000, 1),
        ("10.1.2.3", get().with("x-version", &signed), 0, 1),
    ] {
        let choice = chooser.choose(&from(address, request), || panic!("no key is to be made"), || now);
        let reason = if version == 1 { Reason::Override } else { Reason::Weight };
        assert_eq!((choice.version, choice.reason), (version, reason), "{address} at {now}");
    }
}

#[test]
fn the_time_is_asked_for_only_where_something_is_signed() {
    let keys = Some(SigningKeys::parse("0123456789abcdef").unwrap());
    let source = OverrideSource { header: Some("x-version".into()), cookie: None, from: Some(Vec::new()), keys };
    let options = SplitOptions { overrides: Some(source), ..SplitOptions::default() };
    let chooser = chooser(&shares(&[10_000, 0]), options, None);
    assert_eq!(chooser.choose(&get(), String::new, || panic!("nothing is signed")).version, 0);
}
