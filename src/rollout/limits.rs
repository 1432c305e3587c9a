//! A check's value beside its limit, as people read them: with the unit, and on which side of the limit the value is.

use std::time::Duration;

use super::format;
use super::plan::Measure;
use super::verdict::{CheckOutcome, Verdict};

/// `0.5 % ≤ 1 %`, `p99 312 ms ≤ 500 ms`, `2.1 % > 1 %`; `limit ≤ 1 %` where there is no value. Empty where there is neither.
///
/// The limits are those that `verdict` was found with, as far as it has them.
pub(crate) fn text(measure: &Measure, verdict: &Verdict) -> String {
    let (min, max) = limits(measure, verdict);
    let unit = Unit::of(measure);
    let before = match measure {
        Measure::Duration { quantile, .. } => format::quantile(*quantile) + " ",
        _ => String::new(),
    };
    if let (Measure::Duration { .. }, Some(max)) = (measure, max)
        && matches!(verdict.outcome, CheckOutcome::Fail | CheckOutcome::Suspect)
        && verdict.value.is_none_or(|value| value <= max)
    {
        // Requests whose clients gave up count as slow, and have no duration that the quantile could show.
        return format!("{before}> {}", unit.limit(max));
    }
    let Some(value) = verdict.value else {
        let least = min.map(|min| format!("≥ {}", unit.limit(min)));
        let most = max.map(|max| format!("≤ {}", unit.limit(max)));
        let bounds = least.into_iter().chain(most).collect::<Vec<_>>().join(" and ");
        return if bounds.is_empty() { bounds } else { format!("{before}limit {bounds}") };
    };
    let apart = [min, max].into_iter().flatten().collect::<Vec<_>>();
    let shown = format!("{before}{}", unit.value(value, &apart));
    match (min, max) {
        (Some(min), _) if value < min => format!("{shown} < {}", unit.limit(min)),
        (_, Some(max)) if value > max => format!("{shown} > {}", unit.limit(max)),
        (Some(min), Some(max)) => format!("{} ≤ {shown} ≤ {}", unit.limit(min), unit.limit(max)),
        (Some(min), None) => format!("{shown} ≥ {}", unit.limit(min)),
        (None, Some(max)) => format!("{shown} ≤ {}", unit.limit(max)),
        (None, None) => shown,
    }
}

/// At least, and at most.
fn limits(measure: &Measure, verdict: &Verdict) -> (Option<f64>, Option<f64>) {
    match measure {
        Measure::SuccessRate { min, .. } => (verdict.limit.or(Some(*min)), None),
        Measure::ErrorRate { max, .. } | Measure::Abandoned { max } => (None, verdict.limit.or(Some(*max))),
        Measure::Duration { max, .. } => (None, verdict.limit.or(Some(max.as_secs_f64()))),
        Measure::Compare { margin, .. } => (None, verdict.limit.or(Some(*margin))),
        Measure::Requests { min, max } | Measure::External { min, max, .. } => (*min, *max),
    }
}

/// What a number is of.
#[derive(Clone, Copy)]
enum Unit {
    Percent,
    Seconds,
    RequestsPerSecond,
    /// Percentage points.
    Points,
    /// Whatever the provider measures.
    Unknown,
}

impl Unit {
    const fn of(measure: &Measure) -> Self {
        match measure {
            Measure::SuccessRate { .. } | Measure::ErrorRate { .. } | Measure::Abandoned { .. } => Self::Percent,
            Measure::Duration { .. } => Self::Seconds,
            Measure::Requests { .. } => Self::RequestsPerSecond,
            Measure::Compare { .. } => Self::Points,
            Measure::External { .. } => Self::Unknown,
        }
    }

    /// A value, exact enough to be told from the limits `apart`.
    fn value(self, value: f64, apart: &[f64]) -> String {
        if let Self::Seconds = self {
            return seconds(value);
        }
        let rounded = [1e2, 1e4, 1e6].map(|scale| (value * scale).round() / scale);
        let told = |rounded: &f64| {
            apart.iter().all(|limit| (rounded < limit, rounded > limit) == (value < *limit, value > *limit))
        };
        let shown = format::number(rounded.into_iter().find(told).unwrap_or(value));
        match self {
            Self::Percent => shown + " %",
            Self::RequestsPerSecond => shown + " requests/s",
            Self::Points => {
                if value > 0.0 {
                    format!("+{shown} points")
                } else {
                    shown + " points"
                }
            }
            Self::Seconds | Self::Unknown => shown,
        }
    }

    fn limit(self, limit: f64) -> String {
        match self {
            Self::Percent => format::percent(limit),
            Self::Seconds => seconds(limit),
            Self::RequestsPerSecond | Self::Points | Self::Unknown => format::number(limit),
        }
    }
}

fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| format::number(seconds), format::duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::plan::{Compared, Errors};

    fn found(measure: &Measure, value: Option<f64>) -> String {
        text(measure, &Verdict { value, ..Verdict::default() })
    }

    #[test]
    fn a_value_stands_on_its_side_of_the_limit_with_its_unit() {
        let errors = Errors::default();
        let rate = Measure::ErrorRate { max: 1.0, errors };
        let slow = Measure::Duration { quantile: 0.99, max: Duration::from_millis(500) };
        let compare = Measure::Compare { metric: Compared::ErrorRate, margin: 0.5, confidence: 99.0, errors };
        let busy = |min, max| Measure::Requests { min, max };
        for (measure, value, shown) in [
            (rate.clone(), 0.5, "0.5 % ≤ 1 %"),
            (rate.clone(), 2.123, "2.12 % > 1 %"),
            (rate.clone(), 1.003, "1.003 % > 1 %"),
            (Measure::SuccessRate { min: 99.0, errors }, 99.8, "99.8 % ≥ 99 %"),
            (Measure::SuccessRate { min: 99.0, errors }, 90.0, "90 % < 99 %"),
            (slow.clone(), 0.312, "p99 312 ms ≤ 500 ms"),
            (Measure::Abandoned { max: 2.0 }, 2.0, "2 % ≤ 2 %"),
            (busy(Some(10.0), None), 13.7, "13.7 requests/s ≥ 10"),
            (busy(Some(10.0), Some(20.0)), 13.7, "10 ≤ 13.7 requests/s ≤ 20"),
            (busy(Some(10.0), Some(20.0)), 30.0, "30 requests/s > 20"),
            (compare.clone(), 0.3, "+0.3 points ≤ 0.5"),
            (compare, -0.1, "-0.1 points ≤ 0.5"),
        ] {
            assert_eq!(found(&measure, Some(value)), shown);
        }
        assert_eq!(found(&rate, None), "limit ≤ 1 %");
        assert_eq!(found(&slow, None), "p99 limit ≤ 500 ms");
        assert_eq!(found(&busy(Some(1.0), Some(2.0)), None), "limit ≥ 1 and ≤ 2");
        for (value, outcome, shown) in [
            (Some(0.312), CheckOutcome::Fail, "p99 > 500 ms"),
            (None, CheckOutcome::Suspect, "p99 > 500 ms"),
            (Some(0.6), CheckOutcome::Fail, "p99 600 ms > 500 ms"),
            (Some(0.312), CheckOutcome::NoData, "p99 312 ms ≤ 500 ms"),
        ] {
            assert_eq!(text(&slow, &Verdict { value, outcome, ..Verdict::default() }), shown, "{outcome:?}");
        }
        let older = Verdict { value: Some(0.7), limit: Some(0.5), ..Verdict::default() };
        assert_eq!(text(&rate, &older), "0.7 % > 0.5 %", "the limit that it was found with");
    }
}
