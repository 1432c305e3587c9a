//! What sends a rollout's traffic back to the stable version, and how it goes.

use std::time::Duration;

use super::{HOUR, SECOND, has_fields, one_of};
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::values::Period;
use crate::config::syntax::yaml::Node;
use crate::rollout::plan::{Errors, Failures, Rollback, RollbackCondition};

/// How many failed looks a rollout may bear.
const LOOKS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// How many conditions a rollout may have; the data path looks at its trip wires after each request.
const MAX_CONDITIONS: usize = 16;
/// How many errors a trip wire may wait for.
const ERRORS: std::ops::RangeInclusive<u32> = 1..=10_000;
const WITHIN: std::ops::RangeInclusive<Period> = Period::from_millis(100)..=Period::from_secs(60);
const RAMP: std::ops::RangeInclusive<Period> = SECOND..=Period::from_secs(600);

/// Of a rollout that says nothing: five in all.
pub(crate) const fn default_failures() -> Failures {
    Failures { total: Some(5), consecutive: None }
}

/// Of a rollout that says nothing: more than 1 % for two minutes, ten errors in a row, twenty in a second.
pub(crate) fn default_conditions() -> Vec<RollbackCondition> {
    vec![
        RollbackCondition::ErrorRate { above: 1.0, sustained: Duration::from_secs(120), errors: Errors::default() },
        RollbackCondition::InARow { errors: 10 },
        RollbackCondition::Within { errors: 20, within: Duration::from_secs(1) },
    ]
}

/// What is written holds, and nothing else: `{ consecutive: 3 }` has no limit in all.
pub(crate) fn read_failures<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Failures> {
    let mut fields = reader.fields(node, &["total", "consecutive"])?;
    let total = fields.within("total", LOOKS);
    let consecutive = fields.within("consecutive", LOOKS);
    if fields.get("total").is_none() && fields.get("consecutive").is_none() {
        fields.fault_here("no number of failures is too many", "add `total: 5`, `consecutive: 3` or both");
    }
    fields.done()?;
    Some(Failures { total: total?, consecutive: consecutive? })
}

pub(crate) fn read_conditions<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<RollbackCondition>> {
    reader.list(node, 0..=MAX_CONDITIONS)
}

impl Read for RollbackCondition {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["error_rate", "for", "count", "errors", "in_a_row", "within"])?;
        let rate = fields.within("error_rate", 0.0..=100.0);
        let sustained = fields.within("for", SECOND..=HOUR);
        let count = fields.or("count", Errors::default());
        let errors = fields.within("errors", ERRORS);
        let in_a_row = fields.with("in_a_row", |reader, node| reader.choose(node, &[("true", true)]));
        let within = fields.within("within", WITHIN);
        let kind = one_of(&mut fields, &["error_rate", "errors"], "the condition")?;
        let (own, others): (&[&'static str], &[&'static str]) = match kind {
            "errors" => (&["in_a_row", "within"], &["for", "count"]),
            _ => (&["for"], &["in_a_row", "within"]),
        };
        for other in others {
            if fields.get(other).is_none() {
                continue;
            }
            fields.fault_at(other, |place| {
                let help = "write `{ error_rate: 1, for: 2m }`, `{ errors: 10, in_a_row: true }` or `{ errors: 20, within: 1s }`";
                Problem::new(place, format!("`{other}` does not go with `{kind}`")).help(help)
            });
        }
        one_of(&mut fields, own, "how long or how often")?;
        fields.done()?;
        let (rate, sustained, errors, within) = (rate?, sustained?, errors?, within?);
        in_a_row?;
        match (rate, sustained, errors, within) {
            (Some(above), Some(sustained), ..) => {
                Some(Self::ErrorRate { above, sustained: sustained.get(), errors: count? })
            }
            (_, _, Some(errors), Some(within)) => Some(Self::Within { errors, within: within.get() }),
            (_, _, Some(errors), None) => Some(Self::InARow { errors }),
            // `one_of` noted that something is missing.
            _ => None,
        }
    }
}

pub(crate) fn read_rollback<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Rollback> {
    const EXPECTED: &str = "`immediate`, or `{ ramp: 10s }`";
    if !has_fields(node) {
        return match reader.text(node, EXPECTED)? {
            "immediate" => Some(Rollback::Immediate),
            _ => reader.wrong(node, EXPECTED, None),
        };
    }
    let mut fields = reader.fields(node, &["ramp"])?;
    let ramp = fields.required_within("ramp", RAMP);
    fields.done()?;
    ramp.map(|ramp| Rollback::Ramp(ramp.get()))
}
