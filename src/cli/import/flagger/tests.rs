//! What Canary resources become, and how they are refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::config::{self, Config, Period, import_documents};
use crate::model::Weight;
use crate::model::fixture::Fixture as _;
use crate::rollout::plan::{Errors, Failures, HookPoint, Measure, NoData, Plan, Provider, Rollback};

const MINUTE: Duration = Duration::from_secs(60);

fn imported(yaml: &str) -> Result<(String, Config), String> {
    let documents = import_documents("canary.yaml", yaml.as_bytes()).map_err(|faults| faults.to_string())?;
    let page = convert(&documents).map_err(|wrong| format!("{}: {}", wrong.line, wrong.what))?;
    let text = page.text().to_owned();
    let config = config::parse(Path::new("/etc/weir/weir.yaml"), text.as_bytes(), &|_: &str| None::<String>);
    Ok((text.clone(), config.unwrap_or_else(|faults| panic!("{faults}\n{text}"))))
}

fn plan(yaml: &str) -> (String, Plan) {
    let (text, config) = imported(yaml).unwrap_or_else(|wrong| panic!("{wrong}"));
    let (_, service) = config.services.iter().next().unwrap();
    (text, service.rollout.clone().unwrap())
}

/// A Canary `shop` on port 8080 with this analysis, and more below `spec`.
fn canary(analysis: &str, more: &str) -> String {
    format!(
        "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {{ name: shop, namespace: prod }}\nspec:\n  \
         targetRef: {{ kind: Deployment, name: shop }}\n  service: {{ port: 8080 }}\n  analysis: {{ {analysis} }}\n{more}"
    )
}

fn steps(plan: &Plan) -> Vec<(String, u64)> {
    plan.steps.iter().map(|step| (step.weight.to_string(), step.hold.as_secs())).collect()
}

/// What the guide says of its Canary.
fn is_the_rollout_of_the_guide(plan: &Plan) {
    let expected: Vec<(String, u64)> = [10, 20, 30, 40, 50].map(|weight| (weight.to_string(), 60)).into();
    assert_eq!((plan.interval, steps(plan)), (MINUTE, expected));
    let measures: Vec<&Measure> = plan.checks.iter().map(|check| &check.measure).collect();
    let max = Duration::from_millis(500);
    let success = Measure::SuccessRate { min: 99.0, errors: Errors::default() };
    assert_eq!(measures, [&success, &Measure::Duration { quantile: 0.99, max }]);
    assert!(plan.checks.iter().all(|check| !check.dry_run && check.window.is_none()) && plan.window == MINUTE);
    assert_eq!(plan.significance, None);
    assert_eq!(plan.failures, Failures { total: Some(5), consecutive: None });
    assert_eq!((&plan.rollback, plan.rollback_when.len()), (&Rollback::Immediate, 0));
}

const GUIDE: &str = "interval: 1m, threshold: 5, maxWeight: 50, stepWeight: 10, metrics: [\
    { name: request-success-rate, thresholdRange: { min: 99 } }, { name: request-duration, thresholdRange: { max: 500 } }]";

#[test]
fn a_canary_by_weight_runs_as_flagger_would() {
    let (text, config) = imported(&canary(GUIDE, "")).unwrap();
    let service = config.services.get("shop").unwrap();
    is_the_rollout_of_the_guide(service.rollout.as_ref().unwrap());
    assert_eq!(service.rollout.as_ref().unwrap().no_data, NoData::Hold);
    assert_eq!((service.release.as_deref(), service.split.weight("primary")), (Some("primary"), Weight::FULL));
    let endpoint = |version: &str| service.versions.get(version).unwrap().endpoints[0].address.to_string();
    assert_eq!(
        (endpoint("primary"), endpoint("canary")),
        ("shop-primary.prod:8080".into(), "shop-canary.prod:8080".into())
    );
    assert_eq!(config.listeners[0].address.to_string(), "0.0.0.0:8080");
    assert!(text.contains("# DECIDE: the addresses."), "{text}");
}

/// The Canary of the guide that this project starts from, where the machine has it.
#[test]
fn the_canary_of_the_guide_runs_as_the_guide_says() {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpora"));
    let file = std::env::var_os("WEIR_CORPORA").map_or_else(beside, PathBuf::from).join("flagger-canary.yaml");
    let Ok(yaml) = std::fs::read_to_string(&file) else {
        eprintln!("skipped: {} is not there; WEIR_CORPORA names its directory", file.display());
        return;
    };
    is_the_rollout_of_the_guide(&plan(&yaml).1);
}

#[test]
fn flaggers_defaults_are_kept() {
    let (_, plan) = plan(&canary("stepWeight: 40", ""));
    let expected = [("40", 60), ("80", 60), ("100", 60)].map(|(weight, hold)| (weight.to_owned(), hold));
    assert_eq!((plan.interval, steps(&plan)), (MINUTE, expected.into()));
    assert_eq!(plan.failures.total, Some(1));
    assert!(plan.checks.is_empty());
}

#[test]
fn listed_weights_and_iterations_become_steps() {
    let (_, listed) = plan(&canary("interval: 30s, stepWeights: [1, 2, 10, 80], maxWeight: 50", ""));
    assert_eq!(steps(&listed), [("1", 30), ("2", 30), ("10", 30), ("80", 30)].map(|(w, h)| (w.to_owned(), h)));
    let (text, overshoot) = plan(&canary("stepWeight: 20, maxWeight: 50", ""));
    assert_eq!(steps(&overshoot).last().unwrap().0, "50");
    assert!(text.contains("Flagger would go past maxWeight 50"), "{text}");
    let (text, users) = plan(&canary("iterations: 10, match: [{ headers: { x-canary: { exact: insider } } }]", ""));
    assert_eq!(steps(&users), [("1".to_owned(), 600)]);
    assert!(text.contains("(A/B) has no equal"), "{text}");
    let (text, _) = plan(&canary("iterations: 10", ""));
    assert!(text.contains("blue/green"), "{text}");
}

#[test]
fn skipping_the_analysis_moves_everything_at_once() {
    let (_, plan) = plan(&canary(GUIDE, "  skipAnalysis: true\n"));
    assert_eq!(steps(&plan), [("100".to_owned(), 0)]);
    assert!(plan.checks.is_empty() && plan.rollback_when.is_empty() && plan.bake.is_zero());
}

#[test]
fn a_metric_by_template_asks_prometheus_if_the_template_is_there() {
    let analysis = "stepWeight: 10, metrics: [{ name: 404 share, templateRef: { name: not-found }, thresholdRange: { max: 5 }, interval: 2m }]";
    let template = "---\napiVersion: flagger.app/v1beta1\nkind: MetricTemplate\nmetadata: { name: not-found, namespace: prod }\n\
                    spec:\n  provider: { type: prometheus, address: 'http://prometheus.istio:9090' }\n  query: |\n    \
                    sum(rate(r{ns=\"{{ namespace }}\",d=\"{{ target }}\"}[{{ interval }}]))\n";
    let (_, plan_with) = plan(&format!("{}{template}", canary(analysis, "")));
    let [check] = plan_with.checks.as_slice() else { panic!("{plan_with:?}") };
    assert_eq!((&*check.name, check.window), ("404-share", Some(2 * MINUTE)));
    let Measure::External { provider: Provider::Prometheus { url, query, .. }, min: None, max: Some(5.0) } =
        &check.measure
    else {
        panic!("{check:?}")
    };
    assert_eq!(&**url, "http://prometheus.istio:9090");
    assert_eq!(&**query, "sum(rate(r{ns=\"prod\",d=\"shop\"}[{{window}}]))");
    let (text, without) = plan(&canary(analysis, ""));
    assert!(without.checks.is_empty() && text.contains("the MetricTemplate not-found is not in these files"), "{text}");
}

#[test]
fn a_window_covers_the_interval_and_a_fraction_is_no_percentage() {
    let metrics = "interval: 2m, stepWeight: 10, metrics: [\
        { name: request-success-rate, thresholdRange: { min: 0.99 } },\
        { name: request-duration, interval: 30s, thresholdRange: { max: 500 } }]";
    let (text, plan) = plan(&canary(metrics, ""));
    assert_eq!((plan.interval, plan.window), (2 * MINUTE, 2 * MINUTE));
    assert_eq!(
        plan.checks.iter().map(|check| (&*check.name, check.window)).collect::<Vec<_>>(),
        [("request-duration", None)]
    );
    let text = text.replace("\n        # ", " ");
    assert!(text.contains("is 0.99, which is nearly no percentage"), "{text}");
    assert!(text.contains("is 30s, which judges only the end of each `interval`"), "{text}");
}

#[test]
fn webhooks_and_alerts_become_hooks_and_receivers() {
    let yaml = canary(
        "stepWeight: 10, webhooks: [{ name: a, type: confirm-rollout, url: 'http://a/' }, { type: pre-rollout, url: 'http://b/', \
         timeout: 30s, retries: 3, metadata: { k: v } }, { url: 'http://c/' }, { type: confirm-traffic-increase, url: 'http://d/' }, \
         { type: confirm-promotion, url: 'http://e/' }, { type: post-rollout, url: 'http://f/' }, { type: rollback, url: 'http://g/' }, \
         { name: ev, type: event, url: 'http://h/' }], alerts: [{ name: on-call, severity: error, providerRef: { name: slack } }]",
        "",
    );
    let (text, config) = imported(&yaml).unwrap();
    let plan = config.services.get("shop").unwrap().rollout.clone().unwrap();
    let hooks: Vec<(HookPoint, &str)> = plan.hooks.iter().map(|hook| (hook.when, &*hook.url)).collect();
    assert_eq!(
        hooks,
        [
            (HookPoint::BeforeStart, "http://a/"),
            (HookPoint::BeforeStart, "http://b/"),
            (HookPoint::During, "http://c/"),
            (HookPoint::BeforeStep, "http://d/"),
            (HookPoint::BeforePromote, "http://e/"),
            (HookPoint::After, "http://f/"),
            (HookPoint::DemandRollback, "http://g/"),
        ]
    );
    let second = &plan.hooks[1];
    assert_eq!((second.timeout, second.retries, plan.hooks[0].timeout.as_secs()), (MINUTE / 2, 3, 10));
    let names: Vec<&str> = config.alerts.names().map(|name| &**name).collect();
    assert_eq!(names, ["shop-ev", "shop-on-call"]);
    assert_eq!(plan.alerts, ["shop-ev".into(), "shop-on-call".into()]);
    assert!(text.contains("`spec.analysis.webhooks[1].metadata` (canary.yaml:7) is not sent"), "{text}");
}

#[test]
fn the_service_becomes_routes_timeouts_and_affinity() {
    let yaml = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: { name: x }\nspec:\n  targetRef: { name: app }\n  \
        service:\n    port: 80\n    targetPort: 9898\n    hosts: [a.example.com, '*.b.example.com']\n    timeout: 15s\n    \
        retries: { attempts: 3 }\n    match:\n      - { uri: { prefix: /api }, method: { exact: GET } }\n      \
        - { uri: { regex: '/v[0-9]+' }, headers: { X-User: { prefix: t }, x-beta: { exact: '1' } }, port: 80 }\n  \
        analysis: { stepWeight: 5, mirror: true, sessionAffinity: { cookieName: flagger, maxAge: 3600 } }\n";
    let (text, config) = imported(yaml).unwrap();
    let service = config.services.get("app").unwrap();
    assert_eq!(service.versions.get("canary").unwrap().endpoints[0].address.to_string(), "app-canary:80");
    assert_eq!(service.timeouts.first_byte.to_string(), "15s");
    let affinity = service.affinity.as_ref().unwrap();
    let config::AffinityKey::Cookie { name, made: Some(made) } = &affinity.key else { panic!("{affinity:?}") };
    assert_eq!((name.as_str(), made.ttl), ("flagger", Period::from_secs(3_600)));
    let [api, user] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!((api.matches.hosts.len(), api.matches.methods.as_slice()), (2, ["GET".to_owned()].as_slice()));
    assert_eq!(api.matches.path, Some(config::PathMatch::Prefix("/api".to_owned())));
    assert_eq!(user.matches.headers.len(), 2);
    for left in ["spec.service.retries", "spec.service.match[1].port", "spec.analysis.mirror"] {
        assert!(text.contains(left), "{left}\n{text}");
    }
}

#[test]
fn several_canaries_and_lists_are_imported_together_and_the_rest_is_named() {
    let other = canary(GUIDE, "").changed("shop", "cart").changed("8080", "9000");
    let deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: { name: shop }\n";
    let (text, config) = imported(&format!("{}---\n{other}{deployment}", canary(GUIDE, ""))).unwrap();
    assert_eq!(config.services.names().map(|name| name.to_string()).collect::<Vec<_>>(), ["cart", "shop"]);
    assert_eq!((config.listeners.len(), config.routes.len()), (2, 2));
    assert!(text.contains("# Left out: Deployment shop (canary.yaml:17)."), "{text}");
    let indented: String = canary(GUIDE, "").lines().map(|line| format!("    {line}\n")).collect();
    let (_, config) = imported(&format!("kind: List\nitems:\n  -\n{indented}")).unwrap();
    assert_eq!(config.services.len(), 1);
}

#[test]
fn what_cannot_be_imported_is_refused_with_its_line() {
    for (yaml, expected) in [
        ("", "1: there is no Canary"),
        ("kind: Deployment\n", "1: there is no Canary"),
        ("a: 1\n", "1: this is no Kubernetes resource"),
        ("apiVersion: flagger.app/v1alpha3\nkind: Canary\n", "1: a Canary of \"flagger.app/v1alpha3\""),
        ("apiVersion: flagger.app/v1beta1\nkind: Canary\n", "1: this Canary has no `spec`"),
        ("a: [\n", "not valid YAML"),
        (&canary("threshold: 5", ""), "7: the analysis has none of"),
        (&canary("stepWeight: ten", ""), "7: `stepWeight` is \"ten\", which is no number"),
        (&canary("stepWeight: 110", ""), "7: `stepWeight` is 110; a whole number from 0 to 100"),
        (&canary("stepWeights: [10, 5]", ""), "7: `stepWeights` falls from 10 to 5"),
        (&canary("stepWeight: 5, interval: 60", ""), "7: `interval` is \"60\"; expected a time"),
        (&canary("stepWeight: 5, metrics: [{ name: request-duration }]", ""), "has no `thresholdRange.max`"),
        (&canary("stepWeight: 5, metrics: [{ name: own }]", ""), "none of Flagger's own"),
        (&canary("stepWeight: 5, metrics: { a: 1 }", ""), "7: `metrics` is not a list"),
        (&canary("stepWeight: 5, webhooks: [{ url: 'http://a', type: confirm }]", ""), "a webhook of type \"confirm\""),
        (&format!("{}---\n{}", canary(GUIDE, ""), canary(GUIDE, "")), "a second Canary leads to a service named"),
    ] {
        let wrong = imported(yaml).unwrap_err();
        assert!(wrong.contains(expected), "{yaml}\n{wrong}");
    }
}

#[test]
fn a_hostile_text_adds_no_lines_and_no_variables() {
    let yaml = canary("stepWeight: 5, webhooks: [{ url: 'http://a/${HOME}' }]", "  \"x\\ny\": 1\n")
        .changed("name: shop, namespace", "name: \"a\\nb: c\", namespace")
        .changed("port: 8080", "port: 8080, \"evil\\nroutes: []\": 1");
    let (text, plan) = plan(&yaml);
    assert_eq!(&*plan.hooks[0].url, "http://a/${HOME}");
    assert!(!text.lines().any(|line| line.starts_with("routes: []") || line.starts_with("b: c")), "{text}");
}
