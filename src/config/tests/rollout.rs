//! What a rollout in the file becomes.

use std::time::Duration;

use proptest::prelude::*;

use super::{parse, with};
use crate::config::section::alerts::{ALERTS_DEFAULT, PAGERDUTY_URL};
use crate::config::{Config, Service, schema};
use crate::model::Weight;
use crate::rollout::alerts::{Receiver, Secret, Transition};
use crate::rollout::plan::{
    Check, Compared, Errors, Failures, Gate, GateDefault, Hook, HookPoint, Measure, NoData, Plan, Provider, Rollback,
    RollbackCondition, Step,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn valid(yaml: &str) -> Config {
    parse(yaml).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// A service with two versions, of which v2 is released, and `more`.
fn shop(more: &str) -> Service {
    let versions = "{ v1: { endpoints: ['10.0.0.1:80'] }, v2: { endpoints: ['10.0.0.2:80'] } }";
    let config = valid(&with(&format!(
        "services: {{ shop: {{ versions: {versions}, release: v2, {more} }} }}\n\
         alerts: {{ oncall: {{ slack: {{ url: 'https://a/b' }} }} }}"
    )));
    config.services.get("shop").unwrap().clone()
}

fn plan(rollout: &str) -> Plan {
    shop(&format!("rollout: {rollout}")).rollout.unwrap()
}

fn weights(plan: &Plan) -> String {
    plan.steps.iter().map(|step| step.weight.to_string()).collect::<Vec<_>>().join(" ")
}

fn weight(text: &str) -> Weight {
    text.parse().unwrap()
}

#[test]
fn a_bare_number_where_fields_are_gets_the_field_that_it_is_meant_for() {
    for (rollout, help) in [
        ("{ steps: [10, 50] }", "write `{ weight: 10 }`"),
        ("{ checks: [{ name: success, success_rate: 99 }] }", "write `{ min: 99 }`"),
        ("{ checks: [{ name: errors, error_rate: 1 }] }", "write `{ max: 1 }`"),
    ] {
        let versions = "{ v1: { endpoints: ['10.0.0.1:80'] }, v2: { endpoints: ['10.0.0.2:80'] } }";
        let file = with(&format!("services: {{ a: {{ versions: {versions}, release: v2, rollout: {rollout} }} }}"));
        let said = parse(&file).unwrap_err().to_string();
        assert!(said.contains(help), "{said}");
    }
}

#[test]
fn a_release_is_the_whole_base_and_brings_a_careful_rollout() {
    let service = shop("");
    assert_eq!(service.release.as_deref(), Some("v2"));
    assert_eq!((service.split.weight("v1"), service.split.weight("v2")), (Weight::ZERO, Weight::FULL));
    assert_eq!(service.rollout, Some(plan("{}")));
}

#[test]
fn a_service_without_release_has_a_rollout_only_if_it_says_so() {
    let service = |more: &str| {
        let versions = "{ v1: { endpoints: ['10.0.0.1:80'] }, v2: { endpoints: ['10.0.0.2:80'] } }";
        let config =
            valid(&with(&format!("services: {{ a: {{ versions: {versions}, split: {{ v1: 100 }}, {more} }} }}")));
        config.services.get("a").unwrap().clone()
    };
    assert_eq!((service("").release, service("").rollout), (None, None));
    assert_eq!(service("rollout: {}").rollout, Some(plan("{}")));
}

/// A service of two versions with a cohort `eu` of this split, and `more`.
fn with_cohort(split: &str, more: &str) -> String {
    let versions = "{ v1: { endpoints: ['10.0.0.1:80'] }, v2: { endpoints: ['10.0.0.2:80'] } }";
    let cohorts = format!("[{{ name: eu, match: {{ headers: {{ x-eu: '1' }} }}, split: {split} }}]");
    with(&format!("services: {{ shop: {{ versions: {versions}, cohorts: {cohorts}, {more} }} }}"))
}

#[test]
fn a_rollout_of_a_cohort_leaves_the_services_own_split_as_it_is() {
    let text = with_cohort("{ v2: 100 }", "split: { v1: 60, v2: 40 }, stable: v1, rollout: { cohort: eu }");
    let config = valid(&text);
    let shop = config.services.get("shop").unwrap();
    let cohort = shop.rollout_cohort().unwrap().unwrap();
    assert_eq!((&**cohort, shop.split.weight("v1")), ("eu", weight("60")));
    assert_eq!(shop.split_of(Some(cohort)).unwrap().weight("v2"), Weight::FULL);
}

#[test]
fn a_rollout_of_a_cohort_needs_the_cohort_and_one_version_that_has_it() {
    for (split, more, found) in [
        ("{ v2: 100 }", "split: { v1: 100 }, rollout: { cohort: ue }", "no cohort is called `ue`"),
        ("{ v1: 90, v2: 10 }", "split: { v1: 100 }, rollout: { cohort: eu }", "whose split is between versions"),
        ("{ v2: 100 }", "release: v2, rollout: { cohort: eu }", "`release` beside a rollout of a cohort"),
    ] {
        let said = parse(&with_cohort(split, more)).unwrap_err().to_string();
        assert!(said.contains(found), "{said}");
    }
}

#[test]
fn a_rollout_that_says_nothing_is_careful() {
    let plan = plan("{}");
    assert_eq!(weights(&plan), "1 5 10 25 50 100");
    let holds: Vec<u64> = plan.steps.iter().map(|step| step.hold.as_secs()).collect();
    assert_eq!(holds, [60, 60, 60, 60, 60, 0]);
    assert_eq!((plan.interval, plan.window, plan.bake), (10 * SECOND, MINUTE, 10 * MINUTE));
    assert_eq!((plan.min_requests, plan.no_data, plan.max_hold), (100, NoData::Hold, 30 * MINUTE));
    assert_eq!(plan.failures, Failures { total: Some(5), consecutive: None });
    assert_eq!(plan.rollback, Rollback::Immediate);
    let errors = Errors::default();
    assert_eq!(
        plan.rollback_when,
        [
            RollbackCondition::ErrorRate { above: 1.0, sustained: 2 * MINUTE, errors },
            RollbackCondition::InARow { errors: 10 },
            RollbackCondition::Within { errors: 20, within: SECOND, share: 10.0 },
        ]
    );
    let measures: Vec<&Measure> = plan.checks.iter().map(|check| &check.measure).collect();
    let max = Duration::from_millis(500);
    let compare = Measure::Compare { metric: Compared::ErrorRate, margin: 0.5, confidence: 99.0, errors };
    assert_eq!(
        measures,
        [&Measure::SuccessRate { min: 99.0, errors }, &Measure::Duration { quantile: 0.99, max }, &compare]
    );
    assert_eq!((plan.significance, plan.warm_up), (Some(1.0), None));
    assert!(plan.hooks.is_empty() && plan.alerts.is_empty());
}

/// The defaults that the schema tells are those that the reader takes.
#[test]
fn the_documented_defaults_are_the_real_ones() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let fields = schema.pointer("/$defs/Rollout/properties").unwrap().as_object().unwrap();
    let written: serde_json::Map<String, serde_json::Value> =
        fields.iter().filter_map(|(name, field)| Some((name.clone(), field.get("default")?.clone()))).collect();
    assert!(written.len() >= 11, "{written:?}");
    // Every JSON text is YAML.
    assert_eq!(plan(&serde_json::Value::Object(written).to_string()), plan("{}"));

    let nested = [
        ("checks: [{ name: a, duration: { max: 1s", "Duration"),
        ("checks: [{ name: a, compare: { margin: 0.5", "Compare"),
        ("checks: [{ name: a, min: 1, prometheus: { url: 'http://a', query: b", "Prometheus"),
        ("checks: [{ name: a, webhook: { url: 'http://a'", "Webhook"),
        ("checks: [{ name: a, success_rate: { min: 99", "SuccessRate"),
        ("checks: [{ name: a, error_rate: { max: 1", "ErrorRate"),
    ];
    for (yaml, of) in nested {
        let fields = schema.pointer(&format!("/$defs/{of}/properties")).unwrap().as_object().unwrap();
        let defaults = fields.iter().filter_map(|(name, field)| Some(format!(", {name}: {}", field.get("default")?)));
        let defaults: String = defaults.filter(|field| !yaml.contains(&format!(" {}", &field[2..8]))).collect();
        assert!(!defaults.is_empty(), "{of}");
        assert_eq!(plan(&format!("{{ {yaml}{defaults} }} }}] }}")), plan(&format!("{{ {yaml} }} }}] }}")), "{of}");
    }
}

/// A rollout that says everything that it can.
fn full() -> Plan {
    plan(
        r#"{
          interval: 1s, window: 30s, bake: 0s, min_requests: 7, no_data: pass, max_hold: 5m, hold: 90s,
          steps: [
            { weight: 0.5 },
            { weight: 50, hold: 10m, gate: manual, gate_timeout: 4h, gate_default: approve },
            { weight: 50, gate: manual },
          ],
          checks: [
            { name: a, success_rate: { min: 99.5, count: [5xx, 4xx] }, dry_run: true, min_requests: 1, no_data: fail, window: 2m },
            { name: b, error_rate: { max: 0.1, count: [client_closed, 5xx] } },
            { name: c, duration: { quantile: 0.5, max: 250ms } },
            { name: d, requests: { min: 1.5, max: 100 } },
            { name: e, compare: { metric: { slower_than: 750ms }, margin: 2, confidence: 95 } },
            { name: f, prometheus: { url: "http://p:9090", query: " up ", timeout: 5s }, min: -0.5 },
            { name: g, webhook: { url: "https://w/x" }, max: 3 },
            { name: h, webhook: { url: "https://w/x", timeout: 1s } },
          ],
          failures: { consecutive: 3 },
          rollback_when: [{ error_rate: 2.5, for: 30s, count: [5xx, 4xx] }],
          rollback: { ramp: 10s },
          hooks: [{ when: demand_rollback, url: "https://h", timeout: 1m, retries: 2, secret_file: key }],
          alerts: [oncall],
        }"#,
    )
}

#[test]
fn everything_that_a_rollout_can_say_is_read() {
    let plan = full();
    let gate = |timeout, default| Some(Gate { timeout, default });
    let four_hours = Some(240 * MINUTE);
    assert_eq!(
        plan.steps,
        [
            Step { weight: weight("0.5"), hold: 90 * SECOND, gate: None },
            Step { weight: weight("50"), hold: 10 * MINUTE, gate: gate(four_hours, GateDefault::Approve) },
            Step { weight: weight("50"), hold: 90 * SECOND, gate: gate(None, GateDefault::Abort) },
        ]
    );
    let check = |name: &str, measure| Check {
        name: name.into(),
        measure,
        dry_run: false,
        min_requests: None,
        no_data: None,
        window: None,
    };
    let with_4xx = Errors { client_errors: true, client_closed: false };
    let with_closed = Errors { client_errors: false, client_closed: true };
    let webhook = |timeout| Provider::Webhook { url: "https://w/x".into(), timeout };
    let prometheus = Provider::Prometheus { url: "http://p:9090".into(), query: "up".into(), timeout: 5 * SECOND };
    let slower = Compared::Slower(Duration::from_millis(750));
    assert_eq!(
        plan.checks,
        [
            Check {
                dry_run: true,
                min_requests: Some(1),
                no_data: Some(NoData::Fail),
                window: Some(2 * MINUTE),
                ..check("a", Measure::SuccessRate { min: 99.5, errors: with_4xx })
            },
            check("b", Measure::ErrorRate { max: 0.1, errors: with_closed }),
            check("c", Measure::Duration { quantile: 0.5, max: Duration::from_millis(250) }),
            check("d", Measure::Requests { min: Some(1.5), max: Some(100.0) }),
            check("e", Measure::Compare { metric: slower, margin: 2.0, confidence: 95.0, errors: Errors::default() }),
            check("f", Measure::External { provider: prometheus, min: Some(-0.5), max: None }),
            check("g", Measure::External { provider: webhook(10 * SECOND), min: None, max: Some(3.0) }),
            check("h", Measure::External { provider: webhook(SECOND), min: None, max: None }),
        ]
    );
    assert_eq!(plan.failures, Failures { total: None, consecutive: Some(3) });
    assert_eq!(
        plan.rollback_when,
        [RollbackCondition::ErrorRate { above: 2.5, sustained: 30 * SECOND, errors: with_4xx }]
    );
    assert_eq!(plan.rollback, Rollback::Ramp(10 * SECOND));
    let secret_file = Some(std::path::Path::new("/etc/weir/key").into());
    let hook =
        Hook { when: HookPoint::DemandRollback, url: "https://h".into(), timeout: MINUTE, retries: 2, secret_file };
    assert_eq!(plan.hooks, [hook]);
    assert_eq!(plan.alerts, ["oncall".into()]);
    assert_eq!((plan.interval, plan.window, plan.bake), (SECOND, 30 * SECOND, Duration::ZERO));
    assert_eq!((plan.min_requests, plan.no_data, plan.max_hold), (7, NoData::Pass, 5 * MINUTE));
}

#[test]
fn a_window_is_no_shorter_than_the_interval() {
    let spans = |yaml: &str| {
        let plan = plan(yaml);
        (plan.interval.as_secs(), plan.window.as_secs(), plan.steps[0].hold.as_secs())
    };
    assert_eq!(spans("{ interval: 5m }"), (300, 300, 300));
    assert_eq!(spans("{ interval: 30s }"), (30, 60, 60));
    assert_eq!(spans("{ interval: 30s, window: 30s }"), (30, 30, 30));
}

#[test]
fn the_short_form_is_clamped_and_never_overshoots() {
    for (rollout, expected) in [
        ("{ step_weight: 10, max_weight: 50 }", "10 20 30 40 50"),
        ("{ step_weight: 20, max_weight: 50 }", "20 40 50"),
        ("{ step_weight: 30 }", "30 60 90 100"),
        ("{ step_weight: 100 }", "100"),
        ("{ step_weight: 80, max_weight: 50 }", "50"),
        ("{ step_weights: [1, 2, 10, 80], max_weight: 50 }", "1 2 10 50"),
        ("{ step_weights: [1, 2, 10] }", "1 2 10"),
        ("{ step_weights: [0.01, 33.33, 33.33] }", "0.01 33.33 33.33"),
        ("{ max_weight: 30 }", "1 5 10 25 30"),
    ] {
        assert_eq!(weights(&plan(rollout)), expected, "{rollout}");
    }
}

#[test]
fn the_limits_of_durations_are_told_once_each() {
    let service = shop(
        "rollout: { checks: [{ name: a, duration: { max: 700ms } }, { name: b, duration: { max: 120ms } }, \
         { name: c, compare: { metric: { slower_than: 700ms } } }, { name: d, success_rate: { min: 99 } }] }",
    );
    assert_eq!(service.duration_limits(), [Duration::from_millis(120), Duration::from_millis(700)]);
    let checks: Vec<String> =
        (0..14).map(|at| format!("{{ name: c{at}, duration: {{ max: {}ms }} }}", at + 1)).collect();
    let yaml = format!(
        "services: {{ a: {{ versions: {{ v: {{ endpoints: ['10.0.0.1:80'] }} }}, rollout: {{ checks: [{}] }} }} }}",
        checks.join(", ")
    );
    let text = parse(&with(&yaml)).unwrap_err().to_string();
    assert!(text.contains("too many different durations") && text.contains("13 at most"), "{text}");
}

#[test]
fn receivers_are_read_in_every_form_and_their_secrets_are_not_shown() {
    let config = valid(&with(
        "alerts:\n\
         \x20 a: { slack: { url: 'https://hooks.example.com/hunter2' } }\n\
         \x20 b: { pagerduty: { routing_key_file: key }, on: [rolled_back, paused, paused, provider_error] }\n\
         \x20 c: { webhook: { url_file: url, secret: hunter2 }, on: [step] }\n\
         \x20 d: { pagerduty: { routing_key: R0, url: 'https://events.eu.pagerduty.com/v2/enqueue' } }",
    ));
    let alert = |name: &str| config.alerts.get(name).unwrap();
    let text = |text: &str| Secret::Text(text.into());
    let file = |name: &str| Secret::File(format!("/etc/weir/{name}").into());
    assert_eq!(alert("a").receiver, Receiver::Slack { url: text("https://hooks.example.com/hunter2") });
    assert_eq!(alert("a").on, ALERTS_DEFAULT);
    assert_eq!(alert("b").receiver, Receiver::PagerDuty { routing_key: file("key"), url: PAGERDUTY_URL.into() });
    assert_eq!(alert("b").on, [Transition::Paused, Transition::RolledBack, Transition::ProviderError]);
    assert_eq!(alert("c").receiver, Receiver::Webhook { url: file("url"), secret: Some(text("hunter2")) });
    let europe = "https://events.eu.pagerduty.com/v2/enqueue".into();
    assert_eq!(alert("d").receiver, Receiver::PagerDuty { routing_key: text("R0"), url: europe });
    assert!(!format!("{:?}", config.alerts).contains("hunter2"));
}

proptest! {
    #[test]
    fn steps_of_any_short_form_rise_to_the_maximum_and_end_there(step in 10..=10_000_u16, max in 1..=10_000_u16) {
        let points = |points| Weight::from_basis_points(points).unwrap_or_default();
        let plan = plan(&format!("{{ step_weight: {}, max_weight: {} }}", points(step), points(max)));
        let found: Vec<u32> = plan.steps.iter().map(|step| step.weight.basis_points().into()).collect();
        let naive: Vec<u32> = (1..).map(|n| (n * u32::from(step)).min(u32::from(max)))
            .scan(false, |done, weight| if *done { None } else { *done = weight == u32::from(max); Some(weight) }).collect();
        prop_assert_eq!(found, naive);
    }
}
