//! What sends a rollout's traffic back to the stable version, and how it goes.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::checks::{ErrorClass, only_server_errors, read_errors};
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Items, PathStep, Read, Reader};
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::{self, Period};
use crate::config::syntax::{scalar, schema};
use crate::rollout::breaker::MAX_WITHIN;
use crate::rollout::plan::{Errors, Failures, Rollback, RollbackCondition};

/// How many failed analysis runs a rollout may bear.
const ANALYSIS_RUNS: RangeInclusive<u32> = 1..=10_000;
/// How many errors a trip wire may wait for.
const ERRORS: RangeInclusive<u32> = 1..=10_000;
const WITHIN: RangeInclusive<Period> = Period::from_millis(100)..=Period::from_secs(60);
/// How much of the requests a burst of errors is at least, in percent.
const SHARE: f64 = 10.0;
const RAMP: RangeInclusive<Period> = Period::SECOND..=Period::from_secs(600);

/// Of a rollout that says nothing: five in all.
pub(crate) const fn default_failures() -> Failures {
    Failures { total: Some(5), consecutive: None }
}

/// Of a rollout that says nothing: more than 1 % for two minutes, ten errors in a row, twenty in a second.
pub(crate) fn default_conditions() -> Vec<RollbackCondition> {
    vec![
        RollbackCondition::ErrorRate { above: 1.0, sustained: Duration::from_secs(120), errors: Errors::default() },
        RollbackCondition::InARow { errors: 10 },
        RollbackCondition::Within { errors: 20, within: Duration::from_secs(1), share: SHARE },
    ]
}

section! {
    /// How many failed analysis runs are too many: what is set holds. At least one is set.
    impl Failures as "Failures" {
        /// In all, 1 to 10000; default: no limit.
        total: Option<u32> = within(ANALYSIS_RUNS),
        /// One after another, 1 to 10000; default: no limit.
        consecutive: Option<u32> = within(ANALYSIS_RUNS),
    }
    rules(fields) {
        if fields.get("total").is_none() && fields.get("consecutive").is_none() {
            fields.fault_here("no number of failures is too many", "add `total: 5`, `consecutive: 3` or both");
        }
    }
    => Failures { total, consecutive }
}

/// What is written holds, and nothing else: `{ consecutive: 3 }` has no limit in all.
pub(crate) fn read_failures<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Failures> {
    Failures::read(node, reader)
}

section! {
    /// What sends all traffic back: `{ error_rate, for }`, `{ errors, in_a_row: true }` or `{ errors, within }`.
    impl RollbackCondition as "Condition" {
        /// The canary's error rate is above this, in percent.
        error_rate: Option<f64> = within(0.0..=100.0),
        /// With `error_rate`: all this time, `1s` to `1h`.
        sustained as "for": Option<Period> = within(Period::SECOND..=Period::HOUR),
        /// With `error_rate`: what counts as an error; `5xx` always does.
        count: Errors as Vec<ErrorClass> = with_or(Errors::default(), only_server_errors(), read_errors),
        /// So many errors, 1 to 10000; with `within`, 1 to 1024. The request that sees it sends the traffic back.
        errors: Option<u32> = within(ERRORS),
        /// With `errors`: `true`, one after another.
        in_a_row: Option<bool> = with(scalar::only_true),
        /// With `errors`: in this time, `100ms` to `1m`.
        within: Option<Period> = within(WITHIN),
        /// With `within`: at least this percentage of the requests that finish meanwhile, so that a few errors among
        /// thousands are no burst; default: 10.
        share: Option<f64> = within(0.0..=100.0),
    }
    rules(fields) {
        check_condition(&mut fields);
    }
    => match (error_rate, sustained, errors, within, in_a_row) {
        (Some(above), Some(sustained), ..) => {
            RollbackCondition::ErrorRate { above, sustained: sustained.get(), errors: count }
        }
        (_, _, Some(errors), Some(within), _) => {
            RollbackCondition::Within { errors, within: within.get(), share: share.unwrap_or(SHARE) }
        }
        (_, _, Some(errors), None, Some(_)) => RollbackCondition::InARow { errors },
        // What is missing was noted.
        _ => return None,
    }
}

/// Notes what does not go together, and what is missing.
fn check_condition(fields: &mut Fields<'_, '_>) {
    let Some(kind) = fields.one_of(&["error_rate", "errors"], "the condition") else { return };
    let (own, others): (&[&'static str], &[&'static str]) = match kind {
        "errors" => (&["in_a_row", "within"], &["for", "count"]),
        _ => (&["for"], &["in_a_row", "within", "share"]),
    };
    for other in others {
        if fields.get(other).is_none() {
            continue;
        }
        fields.fault_at(other, |place| {
            let help =
                "write `{ error_rate: 1, for: 2m }`, `{ errors: 10, in_a_row: true }` or `{ errors: 20, within: 1s }`";
            Problem::new(place, format!("`{other}` does not go with `{kind}`")).help(help)
        });
    }
    fields.one_of(own, "how long or how often");
}

/// Conditions, of which the data path keeps at most one trip wire of each kind.
pub(crate) fn read_conditions<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<RollbackCondition>> {
    let items = reader.items(node, "a list", |reader, item| RollbackCondition::read(item, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    let fits = check_trip_wires(reader, &items);
    if fits { items.all() } else { None }
}

/// Notes trip wires that cannot be kept: one that counts too many errors, and a second one of a kind.
fn check_trip_wires<'n>(reader: &mut Reader<'n>, items: &Items<'n, RollbackCondition>) -> bool {
    let (mut fits, mut in_a_row, mut within) = (true, false, false);
    for (at, node, condition) in &items.good {
        let (field, again) = match condition {
            RollbackCondition::ErrorRate { .. } => continue,
            RollbackCondition::InARow { .. } => ("in_a_row", std::mem::replace(&mut in_a_row, true)),
            RollbackCondition::Within { .. } => ("within", std::mem::replace(&mut within, true)),
        };
        let place = |field: &str| node.field(field).map_or(node.place, |(_, value)| value.place);
        let problem = match condition {
            _ if again => Problem::new(place(field), format!("a second condition with `{field}`"))
                .help(format!("a rollout has one `{{ errors, {field} }}`: keep the stricter one")),
            RollbackCondition::Within { errors, .. } if *errors > MAX_WITHIN => {
                Problem::new(place("errors"), "more errors than a trip wire keeps the times of")
                    .found(errors.to_string())
                    .expected(format!("1 to {MAX_WITHIN}"))
                    .help("write fewer errors in a shorter time, or `{ error_rate: 1, for: 2m }`")
            }
            _ => continue,
        };
        fits = false;
        reader.below(PathStep::Item(*at), node.place, |reader| reader.note(problem));
    }
    fits
}

section! {
    /// Evenly over a time.
    #[derive(Clone)]
    struct Ramp {
        /// How long: `1s` to `10m`.
        ramp: Period = required_within(RAMP),
    }
}

pub(crate) fn read_rollback<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Rollback> {
    const EXPECTED: &str = "`immediate`, or `{ ramp: 10s }`";
    if node.has_fields() {
        return Ramp::read(node, reader).map(|ramp| Rollback::Ramp(ramp.ramp.get()));
    }
    match reader.text(node, EXPECTED)? {
        "immediate" => Some(Rollback::Immediate),
        _ => reader.wrong(node, EXPECTED, None),
    }
}

impl JsonSchema for Rollback {
    fn schema_name() -> Cow<'static, str> {
        "Rollback".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ways = [
            schema::described::<ImmediateWord>(generator, "At once."),
            schema::described::<Ramp>(generator, "Evenly over a time."),
        ];
        schema::any_of("How traffic goes back to the stable version.", &ways)
    }
}

values::schema_only!(ImmediateWord, schema::words("The word `immediate`.", &[("immediate", "At once.")]));
