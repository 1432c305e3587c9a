//! What is valid in a service and hardly meant: limits that nothing can pass, or almost anything does, waits that are over
//! at once, braces that stay open, one endpoint in two versions that are compared. `weir check` warns of it.
//!
//! Invariant: what somebody may well have meant is not warned of. A bounded number is kept, and the others are counted.

use std::collections::HashMap;

use super::file::{Config, Lint, LintWarning};
use super::section::service::Service;
use super::syntax::diagnostic::Diagnostic;
use super::syntax::map::Map;
use super::syntax::mark::marked;
use super::syntax::problem::Place;
use super::syntax::tree::{Node, Value};
use crate::coop::in_pieces;
use crate::model::EndpointState;
use crate::rollout::plan::{Check, Measure, Plan, Provider, RollbackCondition};

/// How many warnings are kept.
const MAX_KEPT: usize = 100;
/// A limit below this percentage may be a fraction that was meant: 0.01 for 1 %.
const MIN_LIMIT: f64 = 0.05;
/// So few errors among `min_requests` at the limit: it is too low to be told by them.
const MIN_ERRORS: f64 = 0.05;

/// What is hardly meant in these services, in the order of the file.
pub(super) fn find(services: &Map<Service>, root: &Node<'_>, source: &str) -> Lint {
    let Some(Value::Map(nodes)) = root.field("services").map(|(_, node)| &node.value) else { return Lint::default() };
    let mut linter = Linter::default();
    for ((_, node), (name, service)) in in_pieces(nodes.iter().zip(services.iter())) {
        linter.path = format!("services.{name}");
        linter.endpoints(node, service);
        if let (Some(plan), Some((_, node))) = (&service.rollout, node.field("rollout")) {
            linter.path.push_str(".rollout");
            linter.rollout(node, plan);
        }
    }
    linter.found.sort_by_key(|found| found.place.line);
    let places = linter.found.iter().map(|found| (found.path.clone(), found.place)).collect();
    let marks = marked(places, source);
    let kept = linter.found.into_iter().zip(marks);
    let kept = kept.map(|(Found { message, help, .. }, mark)| LintWarning { mark, message, help });
    Lint { kept: kept.collect(), more: linter.more }
}

impl Config {
    /// What is hardly meant. `limit` warnings at most, and how many more there are.
    #[must_use]
    pub(crate) fn lint(&self, limit: usize) -> (Vec<Diagnostic>, usize) {
        let Lint { kept, more } = &self.origin.lint;
        let shown = kept.iter().take(limit);
        let shown = shown.map(|found| found.mark.diagnostic(&self.origin.file, &found.message, &found.help));
        (shown.collect(), kept.len().saturating_sub(limit) + more)
    }
}

struct Found {
    path: String,
    place: Place,
    message: String,
    help: String,
}

#[derive(Default)]
struct Linter {
    /// What is looked at.
    path: String,
    found: Vec<Found>,
    more: usize,
}

impl Linter {
    fn warn(&mut self, below: &str, node: &Node<'_>, message: String, help: &str) {
        if self.found.len() == MAX_KEPT {
            self.more += 1;
            return;
        }
        let path = format!("{}.{below}", self.path);
        self.found.push(Found { path, place: node.place, message, help: help.to_owned() });
    }

    /// Endpoints that two versions have and a rollout compares: what goes to the one may as well have gone to the other.
    fn endpoints(&mut self, node: &Node<'_>, service: &Service) {
        let Some(Value::Map(nodes)) = node.field("versions").map(|(_, node)| &node.value) else { return };
        if nodes.len() < 2 || service.rollout.is_none() {
            return;
        }
        // One address may be several servers: a gateway tells them apart by SNI or by protocol.
        let (mut ways, mut owners) = (Vec::new(), HashMap::new());
        for ((_, node), (name, version)) in nodes.iter().zip(service.versions.iter()) {
            let Some(Value::List(items)) = node.field("endpoints").map(|(_, node)| &node.value) else { continue };
            let way = (version.protocol.unwrap_or(service.protocol), version.tls.as_ref().or(service.tls.as_ref()));
            let way = ways.iter().position(|known| *known == way).unwrap_or_else(|| {
                ways.push(way);
                ways.len() - 1
            });
            let mut told = false;
            for (at, (item, endpoint)) in items.iter().zip(&version.endpoints).enumerate() {
                if version.state.stricter(endpoint.state) != EndpointState::Ready {
                    // It takes nothing here, such as one that goes from one version to another.
                    continue;
                }
                let owner = *owners.entry((&endpoint.address, way)).or_insert(name);
                if owner != name && !told {
                    // One for a version: two lists that are the same are one mistake.
                    told = true;
                    let written = item.field("address").map_or(item, |(_, address)| address);
                    let message = format!("{} is an endpoint of `{owner}` as well", written.shown());
                    let help = "what it answers counts for both versions, so comparing them tells nothing: was another address meant?";
                    self.warn(&format!("versions.{name}.endpoints[{at}]"), written, message, help);
                }
            }
        }
    }

    fn rollout(&mut self, node: &Node<'_>, plan: &Plan) {
        let written = |field: &str| node.field(field).map(|(_, value)| value);
        if let (true, Some(at)) = (plan.max_hold < plan.interval, written("max_hold").or(written("interval"))) {
            let [hold, interval] = [plan.max_hold, plan.interval].map(humantime::format_duration);
            let field = if written("max_hold").is_some() { "max_hold" } else { "interval" };
            let message = format!("`max_hold` is {hold}, and the judge looks every {interval} (`interval`)");
            self.warn(field, at, message, "a rollout that has to wait once is paused: write a longer `max_hold`");
        }
        if let Some(Value::List(items)) = written("checks").map(|node| &node.value) {
            self.unjudged(node, plan);
            for (at, (item, check)) in items.iter().zip(&plan.checks).enumerate() {
                self.check(&format!("checks[{at}]"), item, check, plan);
            }
        }
        if let Some(Value::List(items)) = written("rollback_when").map(|node| &node.value) {
            for (at, (item, condition)) in items.iter().zip(&plan.rollback_when).enumerate() {
                if let (RollbackCondition::ErrorRate { above, .. }, Some((_, value))) =
                    (condition, item.field("error_rate"))
                    && *above >= 100.0
                {
                    let message = "no share of errors is above 100 %: this never sends anything back".to_owned();
                    self.warn(&format!("rollback_when[{at}].error_rate"), value, message, "write a lower percentage");
                }
            }
        }
    }

    /// Steps that time alone takes. Gates and hooks are others who judge, and a `bake` is warned of by itself.
    fn unjudged(&mut self, node: &Node<'_>, plan: &Plan) {
        let gates = plan.steps.iter().any(|step| step.gate.is_some());
        let bakes = node.field("bake").is_some() && !plan.bake.is_zero();
        let Some((_, checks)) = node.field("checks") else { return };
        if !plan.checks.is_empty() || gates || bakes || !plan.hooks.is_empty() {
            return;
        }
        let back = match plan.rollback_when.is_empty() {
            true => "nothing goes back by itself",
            false => "only `rollback_when` goes back",
        };
        let message = format!("no checks: each step is taken when its hold is over, and {back}");
        self.warn("checks", checks, message, "remove `checks: []`, and those of `rollout: {}` judge; or add a `gate`");
    }

    fn check(&mut self, below: &str, node: &Node<'_>, check: &Check, plan: &Plan) {
        let at = |kind: &str, field: &str| Some(&node.field(kind)?.1.field(field)?.1);
        let (kind, field, never, percent) = match &check.measure {
            Measure::SuccessRate { min, .. } => ("success_rate", "min", *min <= 0.0, None),
            Measure::ErrorRate { max, .. } => ("error_rate", "max", *max >= 100.0, Some(*max)),
            Measure::Abandoned { max } => ("abandoned", "max", *max >= 100.0, Some(*max)),
            Measure::Compare { margin, .. } => ("compare", "margin", *margin >= 100.0, None),
            Measure::External { provider: Provider::Prometheus { query, .. }, .. } => {
                if let (true, Some(value)) = (leaves_braces_open(query), at("prometheus", "query")) {
                    let message = "`{{` is not closed, so nothing is put in its place".to_owned();
                    let help = "close it, such as `{{canary}}`; what is sent to Prometheus has the braces in it";
                    self.warn(&format!("{below}.prometheus.query"), value, message, help);
                }
                return;
            }
            Measure::Duration { .. } | Measure::Requests { .. } | Measure::External { .. } => return,
        };
        let Some(value) = at(kind, field) else { return };
        let below = format!("{below}.{kind}.{field}");
        if never && !check.dry_run {
            let message = format!("check `{}` passes whatever happens: no canary is worse than this", check.name);
            self.warn(&below, value, message, "write a limit that a bad canary does not keep, or `dry_run: true`");
        }
        let requests = check.min_requests.unwrap_or(plan.min_requests);
        if let Some(percent) = percent.filter(|percent| is_below_notice(*percent, requests)) {
            let (max, meant, one_of) = (percent, (percent * 1e8).round() / 1e6, (100.0 / percent).round());
            let message =
                format!("{max} is a percentage, and {requests} requests are too few to tell {max} % from 0 %");
            let help = format!(
                "write `{field}: {meant}` for {meant} %; for one request in {one_of}, a `min_requests` of about that many"
            );
            self.warn(&below, value, message, &help);
        }
    }
}

/// Whether `requests` can hardly show such a percentage, and it may be a fraction that was meant.
fn is_below_notice(percent: f64, requests: u64) -> bool {
    percent > 0.0 && percent < MIN_LIMIT && percent / 100.0 * (requests as f64) < MIN_ERRORS
}

/// Whether a `{{` has no `}}` before the next one: what is between them is no word, so it is sent as it is.
fn leaves_braces_open(query: &str) -> bool {
    query.split("{{").skip(1).any(|behind| !behind.contains("}}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::parse;

    /// The warnings of a service with these versions and this rollout: line, path and message.
    fn told(versions: &str, rollout: &str) -> Vec<String> {
        warned(&format!("versions: {versions}\n    release: v1\n    rollout:\n      {rollout}"))
    }

    /// The warnings of a service with these fields.
    fn warned(service: &str) -> Vec<String> {
        let yaml =
            format!("version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n  a:\n    {service}\n");
        let config = parse(Path::new("w"), yaml.as_bytes(), &|_: &str| None::<String>);
        let (found, more) = config.unwrap_or_else(|wrong| panic!("{wrong}\n{yaml}")).lint(100);
        assert_eq!(more, 0);
        found.into_iter().map(|it| format!("{}: {}: {}", it.line, it.path, it.message)).collect()
    }

    const VERSIONS: &str = "{ v1: { endpoints: ['127.0.0.1:1'] }, v2: { endpoints: ['127.0.0.1:2'] } }";

    fn of(rollout: &str) -> Vec<String> {
        told(VERSIONS, rollout)
    }

    #[test]
    fn limits_that_decide_nothing_are_warned_of() {
        let passes = "passes whatever happens: no canary is worse than this";
        for (check, field) in [
            ("success_rate: { min: 0 }", "success_rate.min"),
            ("error_rate: { max: 100 }", "error_rate.max"),
            ("abandoned: { max: 100 }", "abandoned.max"),
            ("compare: { metric: error_rate, margin: 100 }", "compare.margin"),
        ] {
            let expected = format!("8: services.a.rollout.checks[0].{field}: check `c` {passes}");
            assert_eq!(of(&format!("checks: [{{ name: c, {check} }}]")), [expected]);
            assert_eq!(of(&format!("checks: [{{ name: c, {check}, dry_run: true }}]")), Vec::<String>::new());
        }
        let [found] = &of("rollback_when: [{ error_rate: 100, for: 1m }]")[..] else { panic!() };
        assert!(found.starts_with("8: services.a.rollout.rollback_when[0].error_rate: no share"), "{found}");
    }

    #[test]
    fn a_fraction_is_warned_of_where_the_requests_could_not_tell_it() {
        let fine = Vec::<String>::new();
        let rate = |max: &str, more: &str| of(&format!("checks: [{{ name: c, error_rate: {{ max: {max} }}{more} }}]"));
        let said = "is a percentage, and 100 requests are too few to tell";
        for max in ["0.001", "0.01", "0.04"] {
            let expected = format!("8: services.a.rollout.checks[0].error_rate.max: {max} {said} {max} % from 0 %");
            assert_eq!(rate(max, ""), [expected]);
        }
        for max in ["0", "0.05", "0.1", "0.5", "1", "5"] {
            assert_eq!(rate(max, ""), fine, "{max}");
        }
        assert_eq!(rate("0.01", ", min_requests: 1000"), fine, "somebody means it");
    }

    #[test]
    fn waits_and_steps_that_nothing_holds_are_warned_of() {
        let held = "`max_hold` is 5s, and the judge looks every 10s (`interval`)";
        assert_eq!(of("max_hold: 5s"), [format!("8: services.a.rollout.max_hold: {held}")]);
        assert_eq!(of("max_hold: 10s"), Vec::<String>::new());
        let unjudged = "8: services.a.rollout.checks: no checks: each step is taken when its hold is over, and ";
        assert_eq!(of("checks: []"), [format!("{unjudged}only `rollback_when` goes back")]);
        assert_eq!(of("{ checks: [], rollback_when: [] }"), [format!("{unjudged}nothing goes back by itself")]);
        for fine in [
            "{}",
            "{ checks: [], bake: 5m }",
            "{ checks: [], steps: [{ weight: 5, gate: manual }] }",
            "{ checks: [], hooks: [{ when: before_step, url: 'http://a' }] }",
        ] {
            assert_eq!(of(fine), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn open_braces_in_a_query_are_warned_of() {
        let query = |text: &str| {
            of(&format!("checks: [{{ name: c, prometheus: {{ url: 'http://p', query: '{text}' }}, max: 1 }}]"))
        };
        let open =
            "8: services.a.rollout.checks[0].prometheus.query: `{{` is not closed, so nothing is put in its place";
        for text in [
            r#"up{v="{{canary"}"#,
            r#"up{v="{{canary}}"} / up{v="{{stable}"}"#,
            r#"up{v="{{canary"} / up{v="{{stable}}"}"#,
            r#"up{v="{{{{canary}}"}"#,
        ] {
            assert_eq!(query(text), [open], "{text}");
        }
        for text in [r#"up{v="{{canary}}"}"#, r#"up{v="{{canary}}"} / up{v="{{ stable }}"}"#, "sum(up{a=\"}}\"})"] {
            assert_eq!(query(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_in_two_versions_is_warned_of_once_a_version() {
        let two = "{ v1: { endpoints: ['127.0.0.1:1', '127.0.0.1:2'] }, v2: { endpoints: ['127.0.0.1:3', { address: \
                   '127.0.0.1:2' }, '127.0.0.1:1'] } }";
        let expected = "5: services.a.versions.v2.endpoints[1]: `127.0.0.1:2` is an endpoint of `v1` as well";
        assert_eq!(told(two, "{}"), [expected]);
    }

    #[test]
    fn an_endpoint_that_can_be_told_apart_is_not_warned_of() {
        let shared = "5: services.a.versions.v2.endpoints[0]: `127.0.0.1:1` is an endpoint of `v1` as well";
        for (v1, v2, warned) in [
            ("", "", true),
            ("tls: { sni: v1.shop }", "tls: { sni: v2.shop }", false),
            ("tls: { sni: shop }", "tls: { sni: shop }", true),
            ("", "tls: { sni: shop }", false),
            ("", "protocol: h2", false),
            ("protocol: http1", "", true),
            ("state: maint", "", false),
            ("", "state: drain", false),
        ] {
            let of = |more: &str| format!("{{ endpoints: ['127.0.0.1:1'], {more} }}");
            let versions = format!("{{ v1: {}, v2: {} }}", of(v1), of(v2));
            let expected: &[&str] = if warned { &[shared] } else { &[] };
            assert_eq!(told(&versions, "{}"), expected, "{versions}");
        }
        let moved = "{ v1: { endpoints: [{ address: '127.0.0.1:1', state: maint }, '127.0.0.1:2'] }, v2: { endpoints: \
                     ['127.0.0.1:1'] } }";
        assert_eq!(told(moved, "{}"), Vec::<String>::new(), "it went from the one to the other");
    }

    #[test]
    fn nothing_compares_the_versions_of_a_split() {
        let same = "{ v1: { endpoints: ['127.0.0.1:1'] }, v2: { endpoints: ['127.0.0.1:1'] } }";
        let told = |more: &str| warned(&format!("versions: {same}\n    {more}")).len();
        assert_eq!(told("split: { v1: 90, v2: 10 }"), 0);
        assert_eq!(told("release: v2"), 1, "the default plan compares them");
    }

    #[test]
    fn a_bounded_number_is_kept() {
        let services: String = (0..150)
            .map(|at| format!("  s{at}: {{ versions: {VERSIONS}, release: v1, rollout: {{ max_hold: 5s }} }}\n"))
            .collect();
        let yaml = format!("version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices:\n{services}");
        let config = parse(Path::new("w"), yaml.as_bytes(), &|_: &str| None::<String>).unwrap();
        let (found, more) = config.lint(20);
        assert_eq!((found.len(), more), (20, 130));
    }
}
