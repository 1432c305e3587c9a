//! Windows and the interval: what each analysis run looks back on reaches at least to the one before it.
//!
//! With a shorter window the requests between two runs would never be judged.

use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::PathStep;
use crate::config::syntax::tree::Value;
use crate::config::syntax::values::Period;
use crate::rollout::plan::Check;

/// Notes windows, of the rollout and of its checks, that are written and shorter than the interval.
pub(super) fn check(fields: &mut Fields<'_, '_>, interval: Period, window: Option<Period>, checks: &[Check]) {
    let by_default = if fields.get("interval").is_some() { "" } else { ", by default" };
    let shorter = |found: Period, place| {
        Problem::new(place, format!("the window is shorter than the interval, which is {interval}{by_default}"))
            .found(found.to_string())
            .expected(format!("{interval} to {}", Period::HOUR))
            .help(format!(
                "requests between two windows would never be judged: write `window: {interval}`, or `interval: {found}`"
            ))
    };
    if let Some(window) = window.filter(|window| *window < interval) {
        fields.fault_at("window", |place| shorter(window, place));
    }
    let Some((key, node)) = fields.get("checks") else { return };
    let Value::List(items) = &node.value else { return };
    for (at, (item, check)) in items.iter().zip(checks).enumerate() {
        let Some((field, value)) = item.field("window") else { continue };
        let Some(window) = check.window.filter(|window| *window < interval.get()) else { continue };
        let way = [
            (PathStep::Field(&key.text), key.place),
            (PathStep::Item(at), item.place),
            (PathStep::Field(&field.text), field.place),
        ];
        fields.note_below(&way, shorter(Period::from_millis(millis(window)), value.place));
    }
}

/// A window as the file writes it; it is an hour at most.
fn millis(window: std::time::Duration) -> u64 {
    u64::try_from(window.as_millis()).unwrap_or(u64::MAX)
}
