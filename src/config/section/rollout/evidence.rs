//! How sure the judge has to be, and from when on it judges.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::checks::MAX_MIN_REQUESTS;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::schema;
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::{self, Period};
use crate::rollout::plan::WarmUp;

/// The chance that is left to chance, in percent. More is a coin that is thrown.
const SIGNIFICANCE: RangeInclusive<f64> = 0.01..=10.0;
const TIME: RangeInclusive<Period> = Period::SECOND..=Period::HOUR;

/// Of a rollout that says nothing.
pub(crate) const DEFAULT_SIGNIFICANCE: Significance = Significance(Some(1.0));

/// How likely chance may be, in percent; none where it is not asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Significance(pub(crate) Option<f64>);

impl Read for Significance {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a percentage from 0.01 to 10, or `off`";
        match reader.text(node, EXPECTED)? {
            "off" => Some(Self(None)),
            _ => match f64::read(node, reader)? {
                percent if SIGNIFICANCE.contains(&percent) => Some(Self(Some(percent))),
                _ => reader.wrong(node, EXPECTED, None),
            },
        }
    }
}

impl JsonSchema for Significance {
    fn schema_name() -> Cow<'static, str> {
        "Significance".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ways = [
            schema::described::<SignificancePercent>(generator, "The chance at most, in percent."),
            schema::described::<OffWord>(generator, "Anything above the limit is enough."),
        ];
        schema::any_of("How likely chance alone may be where a check fails.", &ways)
    }
}

values::schema_only!(
    SignificancePercent,
    schemars::json_schema!({ "type": "number", "minimum": SIGNIFICANCE.start(), "maximum": SIGNIFICANCE.end() })
);
values::schema_only!(OffWord, schema::words("The word `off`.", &[("off", "Anything above the limit is enough.")]));

section! {
    /// So many requests.
    #[derive(Clone)]
    struct WarmUpRequests {
        /// Requests of the canary, 1 to 100000000.
        requests: u32 = required_within(1..=MAX_MIN_REQUESTS),
    }
}

impl Read for WarmUp {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        const EXPECTED: &str = "a time from `1s` to `1h`, or `{ requests: 500 }`";
        if node.has_fields() {
            return WarmUpRequests::read(node, reader).map(|warm_up| Self::Requests(warm_up.requests.into()));
        }
        match Period::read(node, reader)? {
            time if TIME.contains(&time) => Some(Self::Time(time.get())),
            _ => reader.wrong(node, EXPECTED, None),
        }
    }
}

/// Notes a warm-up that no rollout outlasts.
pub(super) fn check_warm_up(fields: &mut Fields<'_, '_>, warm_up: Option<WarmUp>, max_hold: Option<Period>) {
    let (Some(WarmUp::Time(time)), Some(max_hold)) = (warm_up, max_hold) else { return };
    if time > max_hold.get() {
        let message =
            format!("the warm-up is longer than `max_hold`, which is {max_hold}: the rollout would pause in it");
        fields.fault_at("warmup", |place| {
            Problem::new(place, message)
                .expected(format!("{} to {max_hold}", TIME.start()))
                .help("write a longer `max_hold` too")
        });
    }
}

impl JsonSchema for WarmUp {
    fn schema_name() -> Cow<'static, str> {
        "WarmUp".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ways = [
            schema::described::<Period>(generator, "Serve for so long."),
            schema::described::<WarmUpRequests>(generator, "Serve so many requests."),
        ];
        schema::any_of("What the canary does before it is judged.", &ways)
    }
}
