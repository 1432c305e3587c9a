//! Sticky clients: who was given the canary stays there while it takes requests, and nobody can say so who was not.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::{BreakerFlag, KeySource, Reason, SigningKeys};
use super::*;

const CANARY: usize = 1;

fn options(remembers: bool, sticky: Option<usize>) -> SplitOptions {
    let keys = Some(SigningKeys::parse("0123456789abcdef").unwrap());
    SplitOptions {
        service: "shop".to_owned(),
        salt: "shop".to_owned(),
        affinity: Some(KeySource::Cookie { name: "weir".into(), make: true, keys }),
        remembers,
        sticky,
        ..SplitOptions::default()
    }
}

fn at(weights: &[u16]) -> Chooser {
    chooser(&shares(weights), options(true, Some(CANARY)), None)
}

/// A client that was given the canary.
fn of_canary() -> Head {
    let choice = at(&[0, 10_000]).choose(&get(), || "k".to_owned(), || 0);
    get().with("cookie", format!("a=b; weir={}", choice.new_cookie.unwrap()))
}

#[test]
fn who_was_given_the_canary_stays_at_weight_0() {
    let choice = choose(&at(&[10_000, 0]), &of_canary());
    assert_eq!((choice.version, choice.reason, choice.new_cookie), (CANARY, Reason::Affinity, None));
    let other = at(&[10_000, 0]).choose(&get(), || "k".to_owned(), || 0);
    assert_eq!(other.version, 0, "the same key, and no such cookie");
}

#[test]
fn who_was_given_stable_goes_to_the_canary_with_its_weight_and_is_told() {
    let stable = at(&[10_000, 0]).choose(&get(), || "k".to_owned(), || 0);
    let client = get().with("cookie", format!("weir={}", stable.new_cookie.unwrap()));
    let moved = choose(&at(&[0, 10_000]), &client);
    assert_eq!(moved.version, CANARY);
    let client = get().with("cookie", format!("weir={}", moved.new_cookie.unwrap()));
    assert_eq!(choose(&at(&[10_000, 0]), &client).version, CANARY);
}

#[test]
fn a_canary_that_takes_no_requests_is_forgotten() {
    let chooser = at(&[10_000, 0]);
    chooser.set_available(|version| version != CANARY);
    let choice = choose(&chooser, &of_canary());
    assert_eq!(choice.version, 0);
    let client = get().with("cookie", format!("weir={}", choice.new_cookie.unwrap()));
    chooser.set_available(|_| true);
    let back = choose(&chooser, &client);
    assert_eq!((back.version, back.new_cookie), (0, None), "it does not move a second time");
}

#[test]
fn a_version_that_is_gone_or_whose_rollout_is_over_is_forgotten() {
    for (weights, sticky) in [(&[10_000_u16][..], None), (&[10_000, 0], None), (&[0, 0, 10_000], Some(2))] {
        let chooser = chooser(&shares(weights), options(true, sticky), None);
        let choice = choose(&chooser, &of_canary());
        assert_eq!(choice.version, if weights.len() == 3 { 2 } else { 0 }, "{weights:?}");
        assert!(choice.new_cookie.is_some(), "{weights:?}: the cookie is replaced");
    }
}

#[test]
fn nobody_stays_on_a_version_whose_breaker_tripped() {
    let mut versions = shares(&[5_000, 5_000]);
    let tripped = Arc::new(AtomicBool::new(true));
    versions[CANARY].breaker = Some(BreakerFlag { tripped, stable: name(0) });
    let choice = choose(&chooser(&versions, options(true, Some(CANARY)), None), &of_canary());
    assert_eq!((choice.version, choice.reason), (0, Reason::Failover));
}

#[test]
fn a_cookie_that_weir_did_not_sign_is_replaced_and_names_nothing() {
    for forged in ["weir=k.v2", "weir=k", "weir=k.v2.0000", &format!("weir=k.v2.{}", "0".repeat(64))] {
        let choice = at(&[10_000, 0]).choose(&get().with("cookie", forged), || "fresh".to_owned(), || 0);
        assert_eq!(choice.version, 0, "{forged}");
        assert!(choice.new_cookie.is_some_and(|cookie| cookie.starts_with("fresh.v1.")), "{forged}");
    }
}

#[test]
fn where_clients_are_not_sticky_the_cookie_says_only_the_key() {
    let monotone = |weights: &[u16]| chooser(&shares(weights), options(false, None), None);
    let made = monotone(&[10_000, 0]).choose(&get(), || "k".to_owned(), || 0).new_cookie.unwrap();
    assert_eq!((made.starts_with("k."), made.matches('.').count()), (true, 1), "{made}");
    assert_eq!(choose(&monotone(&[10_000, 0]), &of_canary()).version, 0, "what it was given does not count");
    let client = get().with("cookie", format!("weir={made}"));
    assert_eq!(choose(&monotone(&[0, 10_000]), &client).version, CANARY);
    assert!(choose(&at(&[0, 10_000]), &client).new_cookie.is_some(), "and is remembered once clients are sticky");
}

#[test]
fn a_request_that_names_its_version_says_nothing_of_where_its_client_belongs() {
    let overrides =
        super::super::OverrideSource { header: Some("x-version".into()), cookie: None, from: None, keys: None };
    let options = SplitOptions { overrides: Some(overrides), ..options(true, Some(CANARY)) };
    let chooser = chooser(&shares(&[10_000, 0]), options, None);
    let choice = chooser.choose(&get().with("x-version", "v2"), || "k".to_owned(), || 0);
    assert_eq!((choice.version, choice.reason, choice.new_cookie), (CANARY, Reason::Override, None));
}

proptest! {
    #[test]
    fn sticky_clients_are_where_a_naive_model_has_them(
        steps in proptest::collection::vec((0..=10_000_u16, any::<bool>()), 1..12),
        key in "[0-9a-f]{8}",
    ) {
        // The model: given the canary and it takes requests → there; else by the bucket; else what is left.
        let bucket = super::super::affinity::hash("shop", key.as_bytes()) % 10_000;
        let mut given = None;
        let mut head = get();
        for (canary, up) in steps {
            let chooser = at(&[10_000 - canary, canary]);
            chooser.set_available(|version| version != CANARY || up);
            let choice = chooser.choose(&head, || key.clone(), || 0);
            let due = if given == Some(CANARY) || bucket < u64::from(canary) { CANARY } else { 0 };
            // With nothing but the canary to go to, and that away, nobody is there.
            let expected = if up || due == 0 { due } else if canary == 10_000 { CANARY } else { 0 };
            prop_assert_eq!(choice.version, expected);
            prop_assert_eq!(choice.available, up || expected == 0);
            if let Some(cookie) = choice.new_cookie {
                head = get().with("cookie", format!("weir={cookie}"));
            }
            if choice.available {
                given = Some(choice.version);
            }
        }
    }
}
