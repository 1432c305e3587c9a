//! What Rollout resources become, and how they are refused.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::{self, Config, import_documents};
use crate::rollout::plan::{Measure, NoData, Plan, Provider, Rollback};

fn imported(yaml: &str) -> Result<(String, Config), String> {
    let documents = import_documents("rollout.yaml", yaml.as_bytes()).map_err(|faults| faults.to_string())?;
    let page = convert(&documents).map_err(|wrong| format!("{}: {}", wrong.line, wrong.what))?;
    let text = page.text().to_owned();
    let config = config::parse(Path::new("/etc/weir/weir.yaml"), text.as_bytes(), &|_: &str| None::<String>);
    Ok((text.clone(), config.unwrap_or_else(|faults| panic!("{faults}\n{text}"))))
}

/// A Rollout `shop` with this strategy, and more documents.
fn rollout(strategy: &str, more: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{ name: shop, namespace: prod }}\nspec:\n  \
         strategy: {strategy}\n{more}"
    )
}

/// An AnalysisTemplate `t` with these metrics.
fn template(metrics: &str) -> String {
    format!(
        "---\napiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {{ name: t, namespace: prod }}\nspec:\n  \
         args: [{{ name: app }}, {{ name: limit, value: '0.9' }}]\n  metrics: {metrics}\n"
    )
}

fn plan(yaml: &str) -> (String, Plan) {
    let (text, config) = imported(yaml).unwrap_or_else(|wrong| panic!("{wrong}"));
    let (_, service) = config.services.iter().next().unwrap();
    (text, service.rollout.clone().unwrap())
}

fn steps(plan: &Plan) -> Vec<(String, u64, bool)> {
    plan.steps.iter().map(|step| (step.weight.to_string(), step.hold.as_secs(), step.gate.is_some())).collect()
}

#[test]
fn weights_and_pauses_become_steps_holds_and_gates() {
    let (_, plan) = plan(&rollout(
        "{ canary: { scaleDownDelaySeconds: 90, steps: [{ setWeight: 10 }, { pause: {} }, { setWeight: 40 }, \
         { pause: { duration: 1m30s } }, { pause: { duration: 30 } }, { pause: {} }, { pause: { duration: 0.5h } }] } }",
        "",
    ));
    let expected = [("10", 0, true), ("40", 120, true), ("40", 1_800, false), ("100", 0, false)];
    assert_eq!(steps(&plan), expected.map(|(weight, hold, gate)| (weight.to_owned(), hold, gate)));
    assert_eq!((plan.bake, plan.rollback_when.len()), (Duration::from_secs(90), 0));
    assert_eq!((&plan.rollback, plan.no_data), (&Rollback::Immediate, NoData::Hold));
}

#[test]
fn an_analysis_becomes_checks_that_ask_prometheus() {
    let strategy = "{ canary: { analysis: { templates: [{ templateName: t }], args: [{ name: app, value: shop }], \
                    dryRun: [{ metricName: 'slow.*' }] }, steps: [{ setWeight: 50 }] } }";
    let metrics = "[{ name: ok, interval: 20s, failureLimit: 2, successCondition: 'result[0] >= {{args.limit}}', provider: \
                   { prometheus: { address: 'http://p:9090', query: 'up{a=\"{{ args.app }}\"}' } } }, \
                   { name: slow-p99, interval: 1m, failureCondition: 'result[0] > 2', provider: { prometheus: { address: \
                   'http://p:9090', query: slow } } }]";
    let (_, plan) = plan(&rollout(strategy, &template(metrics)));
    let measures: Vec<_> = plan.checks.iter().map(|check| (&*check.name, &check.measure, check.dry_run)).collect();
    let prometheus = |query: &str| Provider::Prometheus {
        url: "http://p:9090".into(),
        query: query.into(),
        timeout: Duration::from_secs(10),
    };
    let ok = Measure::External { provider: prometheus("up{a=\"shop\"}"), min: Some(0.9), max: None };
    let slow = Measure::External { provider: prometheus("slow"), min: None, max: Some(2.0) };
    assert_eq!(measures, [("ok", &ok, false), ("slow-p99", &slow, true)]);
    assert_eq!((plan.interval, plan.failures.total), (Duration::from_secs(20), Some(3)));
}

#[test]
fn an_argument_counts_from_the_rollout_then_from_the_template() {
    let strategy = "{ canary: { analysis: { templates: [{ templateName: t }], args: [{ name: app, valueFrom: { fieldRef: \
                    { fieldPath: metadata.name } } }, { name: limit, value: '0.5' }] }, steps: [{ setWeight: 50 }] } }";
    let metrics = "[{ name: ok, interval: 1m, successCondition: 'result[0] >= {{args.limit}}', provider: { prometheus: \
                   { address: 'http://p', query: 'a{b=\"{{args.app}}\"} * {{ args.secret }}' } } }]";
    let (text, plan_of) = plan(&rollout(strategy, &template(metrics)));
    assert!(plan_of.checks.is_empty(), "{text}");
    assert!(text.contains("nothing says what `{{ args.secret }}` is"), "{text}");
    assert!(text.contains(
        r#"# - { name: ok, prometheus: { url: "http://p", query: "a{b=\"shop\"} * {{ args.secret }}" }, min: 0.5 }"#
    ));
}

#[test]
fn blue_green_switches_and_keeps_the_old_version() {
    let (_, at_once) = plan(&rollout("{ blueGreen: { activeService: shop } }", ""));
    assert_eq!(steps(&at_once), [("100".to_owned(), 0, false)]);
    assert_eq!(at_once.bake, Duration::from_secs(30));
    let (text, by_hand) = plan(&rollout(
        "{ blueGreen: { activeService: shop, previewService: next, autoPromotionEnabled: false, scaleDownDelaySeconds: 600 } }",
        "",
    ));
    assert_eq!(steps(&by_hand), [("1".to_owned(), 0, true), ("100".to_owned(), 0, false)]);
    assert_eq!(by_hand.bake, Duration::from_secs(600));
    assert!(text.contains("[\"shop.prod:80\"]") && text.contains("[\"next.prod:80\"]"), "{text}");
}

#[test]
fn a_header_whose_value_is_canary_is_an_override() {
    let strategy = "{ canary: { steps: [{ setHeaderRoute: { name: a, match: [{ headerName: x-v, headerValue: { exact: canary } }] } }, \
                    { setWeight: 50 }] } }";
    let (_, config) = imported(&rollout(strategy, "")).unwrap();
    let overrides = config.services.get("shop").unwrap().overrides.as_ref().unwrap();
    assert_eq!(overrides.header.as_ref().map(http::HeaderName::as_str), Some("x-v"));
    let (text, config) = imported(&rollout(&strategy.replace("exact: canary", "exact: beta"), "")).unwrap();
    assert!(config.services.get("shop").unwrap().overrides.is_none());
    assert!(text.contains("`x-v: beta`"), "{text}");
}

#[test]
fn what_cannot_be_imported_is_refused_with_its_line() {
    let used = "{ canary: { analysis: { templates: [{ templateName: t }] } } }";
    for (yaml, expected) in [
        ("kind: Deployment\n".to_owned(), "1: there is no Rollout"),
        ("kind: Rollout\napiVersion: v1\n".to_owned(), "1: a Rollout of \"v1\"; only argoproj.io/v1alpha1 is known"),
        (rollout("{}", ""), "5: the `strategy` of this Rollout is neither"),
        (rollout("{ canary: { steps: [{ setWeight: 120 }] } }", ""), "5: `setWeight` is 120"),
        (
            rollout("{ canary: { steps: [{ setWeight: 10 }, { pause: { duration: x } }] } }", ""),
            "5: `duration` is \"x\"",
        ),
        (rollout("{ canary: { trafficRouting: { maxTrafficWeight: 0 } } }", ""), "5: `maxTrafficWeight` is 0"),
        (rollout(used, &template("[{ name: a }]")), "12: metric \"a\" has no `provider`"),
        (
            rollout(used, &template("[{ name: a, count: '{{args.x}}', provider: { job: {} } }]")),
            "12: nothing says what",
        ),
        (
            rollout(used, &template("[{ name: a, interval: soon, provider: { job: {} } }]")),
            "12: `interval` is \"soon\"",
        ),
        (rollout(used, &template("[]").replace("metrics: []", "templates: [{ templateName: t }]")), "name each other"),
    ] {
        let wrong = imported(&yaml).unwrap_err();
        assert!(wrong.contains(expected), "{yaml}\n{wrong}");
    }
}

#[test]
fn a_hostile_text_adds_no_lines_and_no_variables() {
    let strategy = "{ canary: { \"x\\nroutes: []\": 1, analysis: { templates: [{ templateName: t }] }, steps: [{ setWeight: 50 }, \
                    { \"evil\\nb: c\": 1 }] } }";
    let metrics = "[{ name: \"a\\nb: c\", successCondition: \"result > 1\", provider: { prometheus: { address: 'http://a', \
                   query: \"${HOME}\\nb: c\" } } }, { name: b, provider: { \"evil\\nb: c\": {} } }]";
    let (text, plan) = plan(&rollout(strategy, &template(metrics)));
    let Measure::External { provider: Provider::Prometheus { query, .. }, .. } = &plan.checks[0].measure else {
        panic!()
    };
    assert_eq!(&**query, "${HOME}\nb: c");
    assert!(!text.lines().any(|line| line.starts_with("routes: []") || line.starts_with("b: c")), "{text}");
}
