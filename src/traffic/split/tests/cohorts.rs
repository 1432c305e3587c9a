//! Cohorts: who is in which, exact shares in each of them, and what they have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::cohort::{Cohort, CohortCondition};
use super::super::{BreakerFlag, KeySource, OverrideSource, Reason};
use super::*;
use crate::traffic::route::{HeaderTest, ValueTest};

fn test(test: &HeaderTest) -> ValueTest {
    ValueTest::compile(test).unwrap()
}

/// Those who say that they are of this group.
fn group(group: &str, weights: &[u16]) -> Cohort {
    let condition = CohortCondition {
        headers: vec![("x-group".into(), test(&HeaderTest::Exact(group.to_owned())))],
        ..CohortCondition::default()
    };
    Cohort { name: group.into(), condition, weights: weights.iter().map(|bp| weight(*bp)).collect() }
}

fn of(base: &[u16], cohorts: Vec<Cohort>, options: SplitOptions, previous: Option<&Chooser>) -> Chooser {
    Chooser::compile(&shares(base), cohorts, options, previous, &mut Schedules::default())
}

fn member(name: &str) -> Head {
    get().with("x-group", name)
}

#[test]
fn the_first_cohort_that_fits_counts_and_everybody_else_goes_by_the_split() {
    let mut everybody = group("any", &[10_000, 0, 0]);
    everybody.condition.headers = vec![("x-group".into(), test(&HeaderTest::Present))];
    let cohorts = vec![group("internal", &[0, 10_000, 0]), everybody, group("late", &[0, 10_000, 0])];
    let chooser = of(&[0, 0, 10_000], cohorts, SplitOptions::default(), None);
    for (request, version, cohort) in [
        (member("internal"), 1, Some(0)),
        (member("late"), 0, Some(1)),
        (member("Internal"), 0, Some(1)),
        (get(), 2, None),
    ] {
        let choice = choose(&chooser, &request);
        assert_eq!((choice.version, choice.cohort, choice.reason), (version, cohort, Reason::Weight));
    }
}

#[test]
fn who_is_in_a_cohort_meets_all_that_it_asks() {
    let condition = CohortCondition {
        headers: vec![
            ("x-region".into(), test(&HeaderTest::Prefix("eu-".to_owned()))),
            ("x-bot".into(), test(&HeaderTest::Absent)),
        ],
        cookies: vec![
            ("plan".into(), test(&HeaderTest::Regex("gold|silver".to_owned()))),
            ("optout".into(), test(&HeaderTest::Absent)),
        ],
        from: Some(vec!["10.0.0.0/8".parse().unwrap()]),
    };
    let cohort = Cohort { name: "eu".into(), condition, weights: vec![weight(0), weight(10_000)] };
    let chooser = of(&[10_000, 0], vec![cohort], SplitOptions::default(), None);
    let member = || get().with("x-region", "eu-west").with("cookie", "a=b; plan=gold");
    for (request, address, is_in) in [
        (member(), Some("10.1.2.3"), true),
        (member(), Some("::ffff:10.1.2.3"), false),
        (member(), Some("192.0.2.1"), false),
        (member(), None, false),
        (member().with("x-bot", "1"), Some("10.1.2.3"), false),
        (get().with("x-region", "us-east").with("cookie", "plan=gold"), Some("10.1.2.3"), false),
        (get().with("x-region", "eu-west").with("cookie", "plan=golden"), Some("10.1.2.3"), false),
        (get().with("x-region", "eu-west").with("cookie", "plan=silver; optout=1"), Some("10.1.2.3"), false),
        (get().with("x-region", "eu-west"), Some("10.1.2.3"), false),
    ] {
        let request = Client(request, address.map(|address| address.parse().unwrap()));
        assert_eq!(choose(&chooser, &request).cohort, is_in.then_some(0), "{:?} {address:?}", request.0.headers);
    }
}

proptest! {
    #[test]
    fn shares_are_exact_in_each_cohort_whoever_comes_between(
        weights in proptest::collection::vec(weights_of(2..=3), 3),
        after in proptest::collection::vec(weights_of(2..=3), 3),
        requests in proptest::collection::vec(0..3_usize, 0..400),
    ) {
        let wide = |weights: &Vec<u16>| {
            let mut weights = weights.clone();
            weights.resize(3, 0);
            weights
        };
        let (weights, after): (Vec<_>, Vec<_>) = (weights.iter().map(wide).collect(), after.iter().map(wide).collect());
        let requests_of = [get(), member("a"), member("b")];
        let mut models = [Deficit::nothing(3), Deficit::nothing(3), Deficit::nothing(3)];
        let first = of(&weights[0], vec![group("a", &weights[1]), group("b", &weights[2])], SplitOptions::default(), None);
        // A cohort is found again by its name, wherever it stands.
        let reordered = vec![group("b", &after[2]), group("a", &after[1])];
        let second = of(&after[0], reordered, SplitOptions::default(), Some(&first));
        for (chooser, weights) in [(&first, &weights), (&second, &after)] {
            for who in &requests {
                let choice = choose(chooser, &requests_of[*who]);
                models[*who].request(&weights[*who], choice.version);
                prop_assert!(weights[*who][choice.version] > 0);
            }
            // Each as exact as a split alone: below one request, and below two across a change of three.
            for model in &models {
                prop_assert!(model.worst() < 2 * REQUEST, "{model:?}");
            }
        }
    }

    #[test]
    fn a_client_has_its_version_by_its_cohorts_weights_and_its_key(weights in weights_of(2..=4), user in 0..500_usize) {
        let options = SplitOptions {
            salt: "shop".to_owned(),
            affinity: Some(KeySource::Header("x-user".into())),
            ..SplitOptions::default()
        };
        let mut base = vec![0; weights.len()];
        base[0] = 10_000;
        let alone = chooser(&shares(&weights), options.clone(), None);
        let within = of(&base, vec![group("a", &weights)], options, None);
        let user = |head: Head| head.with("x-user", format!("user-{user}"));
        let (expected, choice) = (choose(&alone, &user(get())), choose(&within, &user(member("a"))));
        prop_assert_eq!((choice.version, choice.key, choice.reason), (expected.version, expected.key, Reason::Affinity));
        prop_assert_eq!(choose(&within, &user(get())).version, 0);
    }
}

#[test]
fn two_versions_are_split_to_the_request_in_each_cohort() {
    let chooser = of(&[9_900, 100], vec![group("eu", &[9_000, 1_000])], SplitOptions::default(), None);
    let mut counts = [[0; 2]; 2];
    for at in 0..2_000 {
        let of_cohort = at % 2;
        let request = if of_cohort == 1 { member("eu") } else { get() };
        counts[of_cohort][choose(&chooser, &request).version] += 1;
    }
    assert_eq!(counts, [[990, 10], [900, 100]]);
}

#[test]
fn where_a_version_goes_a_cohorts_share_goes_to_its_others_and_comes_back() {
    let chooser = of(
        &[10_000, 0, 0],
        vec![group("a", &[0, 5_000, 5_000]), group("b", &[0, 0, 10_000])],
        SplitOptions::default(),
        None,
    );
    chooser.set_available(|version| version != 2);
    for _ in 0..10 {
        let choice = choose(&chooser, &member("a"));
        assert_eq!((choice.version, choice.available, choice.cohort), (1, true, Some(0)));
        let choice = choose(&chooser, &member("b"));
        assert_eq!((choice.version, choice.reason, choice.available), (0, Reason::Failover, true), "where others go");
        assert_eq!(choice.cohort, Some(1));
        assert_eq!(choose(&chooser, &get()).version, 0);
    }
    chooser.set_available(|_| false);
    assert!(!choose(&chooser, &member("b")).available);
    chooser.set_available(|_| true);
    assert_eq!(choose(&chooser, &member("b")).version, 2);
    let counts: usize = (0..100).filter(|_| choose(&chooser, &member("a")).version == 2).count();
    assert_eq!(counts, 50);
}

#[test]
fn a_breaker_takes_its_version_out_of_every_cohort() {
    let mut versions = shares(&[10_000, 0]);
    let tripped = Arc::new(AtomicBool::new(true));
    versions[1].breaker = Some(BreakerFlag { tripped: Arc::clone(&tripped), stable: name(0) });
    let cohorts = vec![group("internal", &[0, 10_000])];
    let chooser = Chooser::compile(&versions, cohorts, SplitOptions::default(), None, &mut Schedules::default());
    let choice = choose(&chooser, &member("internal"));
    assert_eq!((choice.version, choice.reason), (0, Reason::Failover), "all of it goes to the stable version");
    tripped.store(false, Ordering::Release);
    assert_eq!(choose(&chooser, &member("internal")).version, 1);
}

#[test]
fn who_names_a_version_is_of_no_cohort() {
    let overrides = OverrideSource { header: Some("x-version".into()), cookie: None, from: None, keys: None };
    let options = SplitOptions { overrides: Some(overrides), ..SplitOptions::default() };
    let chooser = of(&[10_000, 0], vec![group("internal", &[10_000, 0])], options, None);
    let choice = choose(&chooser, &member("internal").with("x-version", "v2"));
    assert_eq!((choice.version, choice.reason, choice.cohort), (1, Reason::Override, None));
}
