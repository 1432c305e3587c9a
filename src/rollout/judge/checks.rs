//! The checks on what Weir measured itself: each a rule, and the words for what it found.
//!
//! A sentence has three parts: what was seen of both versions, the limit, and after a colon what follows. What is done
//! about it is not the judge's to say.

use std::time::Duration;

use super::compare::{SequentialTest, TallyPair};
use super::format;
use super::sample::{Limit, Sample, Samples, Tally};
use crate::rollout::plan::{Check, Compared, Errors};
use crate::rollout::verdict::{CheckOutcome, Verdict};

/// The parameters of [`compare`].
pub(super) struct CompareParameters {
    pub(super) metric: Compared,
    pub(super) errors: Errors,
    /// In percentage points.
    pub(super) margin: f64,
    /// In percent.
    pub(super) confidence: f64,
}

/// From which side the errors among the responses are seen.
#[derive(Clone, Copy)]
pub(super) enum ErrorBound {
    /// At most so many percent are errors.
    Errors { max: f64 },
    /// At least so many percent are none.
    Successes { min: f64 },
}

/// So many of the responses are errors, or are none.
pub(super) fn rate(check: &Check, seen: &Samples, rate: ErrorBound, errors: Errors, min_requests: u64) -> Verdict {
    let (canary, stable) = (seen.canary.errors(errors), seen.stable.errors(errors));
    let (limit, most) = match rate {
        ErrorBound::Errors { max } => (max, Limit::percent(max)),
        ErrorBound::Successes { min } => (min, Limit::percent(min).rest()),
    };
    let (outcome, stable_fails_too) = judged(canary, stable, most, min_requests);
    let after = conclusion(outcome, stable_fails_too, "too many errors", min_requests.saturating_sub(canary.requests));
    let (name, bound, value) = match rate {
        ErrorBound::Errors { .. } => ("errors", "limit", canary.percent()),
        ErrorBound::Successes { .. } => ("success", "at least", canary.percent().map(|errors| 100.0 - errors)),
    };
    let words = |sample: &Sample| match rate {
        ErrorBound::Errors { .. } => sample.errors_in_words(errors),
        ErrorBound::Successes { .. } => sample.successes_in_words(errors),
    };
    let found = format!(
        "canary {} over {}, stable {}, {bound} {}: {after}",
        words(&seen.canary),
        format::duration(seen.canary.covered),
        words(&seen.stable),
        format::percent(limit),
    );
    Verdict {
        outcome,
        value,
        limit: Some(limit),
        samples: canary.requests,
        stable_fails_too,
        sentence: sentence(check, name, &found),
        ..verdict(check)
    }
}

/// The quantile of the durations is at most `max`: no more than the share that the quantile leaves is slower.
pub(super) fn duration(check: &Check, seen: &Samples, quantile: f64, max: Duration, min_requests: u64) -> Verdict {
    let (canary, stable) = (seen.canary.slower(max), seen.stable.slower(max));
    let (outcome, stable_fails_too) = judged(canary, stable, Limit::ratio(quantile).rest(), min_requests);
    let after = conclusion(outcome, stable_fails_too, "too slow", min_requests.saturating_sub(canary.requests));
    let (name, limit) = (format::quantile(quantile), format::duration(max));
    let side = |sample: &Sample, slower: Tally, beyond: &str| {
        let at = sample.quantile(quantile).map(|at| format!("{name} {}, ", format::duration(at)));
        format!("{}{}{beyond}", at.unwrap_or_default(), slower.words())
    };
    Verdict {
        outcome,
        value: seen.canary.quantile(quantile).map(|at| at.as_secs_f64()),
        limit: Some(max.as_secs_f64()),
        samples: canary.requests,
        stable_fails_too,
        sentence: sentence(
            check,
            "latency",
            &format!(
                "canary {} over {}, stable {}, limit {name} {limit}: {after}",
                side(&seen.canary, canary, &format!(" slower than {limit}{}", estimated(seen, max))),
                format::duration(seen.canary.covered),
                side(&seen.stable, stable, ""),
            ),
        ),
        ..verdict(check)
    }
}

/// The canary has at least `min` and at most `max` requests per second.
pub(super) fn requests(check: &Check, canary: &Sample, min: Option<f64>, max: Option<f64>) -> Verdict {
    let min_requests = check.min_requests.unwrap_or(0);
    let (count, covered) = (canary.requests(), format::duration(canary.covered));
    let seconds = canary.covered.as_secs_f64();
    let value = (seconds > 0.0).then(|| count as f64 / seconds);
    let (outcome, limit, after) = match value {
        None => (CheckOutcome::NoData, min.or(max), "no time has passed".to_owned()),
        Some(_) if count < min_requests => (CheckOutcome::NoData, min.or(max), needed(min_requests - count)),
        Some(value) => between(value, min, max, ["too few", "too many"]),
    };
    let rate = value.map_or_else(String::new, |value| format!("{value:.2} requests/s, "));
    let text = format!(
        "canary {rate}{} over {covered}, {}: {after}",
        format::requests(count),
        bounds(min, max, " requests/s")
    );
    Verdict { outcome, value, limit, samples: count, sentence: sentence(check, "requests", &text), ..verdict(check) }
}

/// The canary's share of bad requests is not above stable's by more than a margin. The value and the limit are
/// differences in percentage points.
///
/// Evidence that was once enough stays enough for the rollout: the test's confidence is about all of its observations
/// together, and a canary does not become as good as stable by waiting.
pub(super) fn compare(
    check: &Check,
    totals: &Samples,
    parameters: &CompareParameters,
    test: &mut SequentialTest,
    min_requests: u64,
) -> Verdict {
    let of = |sample: &Sample| match parameters.metric {
        Compared::ErrorRate => sample.errors(parameters.errors),
        Compared::Slower(limit) => sample.slower(limit),
    };
    test.observe(TallyPair { canary: of(&totals.canary), stable: of(&totals.stable) });
    let TallyPair { canary, stable } = test.judged();
    let (p, limit) = (test.p(), (100.0 - parameters.confidence) / 100.0);
    let worse = p <= limit;
    let missing = |tally: Tally| min_requests.saturating_sub(tally.requests);
    let (outcome, after) = match (missing(canary), missing(stable)) {
        (0, 0) if worse => (CheckOutcome::Fail, "worse".to_owned()),
        (0, 0) => (CheckOutcome::Pass, "not shown to be worse".to_owned()),
        (0, of_stable) => (CheckOutcome::NoData, format!("{} of stable", needed(of_stable))),
        (of_canary, _) => (CheckOutcome::NoData, needed(of_canary)),
    };
    let what = match parameters.metric {
        Compared::ErrorRate => "errors".to_owned(),
        Compared::Slower(limit) => format!("slower than {}{}", format::duration(limit), estimated(totals, limit)),
    };
    Verdict {
        outcome,
        value: canary.percent().zip(stable.percent()).map(|(canary, stable)| canary - stable),
        limit: Some(parameters.margin),
        samples: canary.requests,
        sentence: sentence(
            check,
            "compare",
            &format!(
                "{what}, canary {} since the start, stable {}, margin {} points, p {}, limit {}: {after}",
                canary.words(),
                stable.words(),
                format::number(parameters.margin),
                format::chance(p),
                format::number(limit),
            ),
        ),
        ..verdict(check)
    }
}

/// What is known of a check before anything was measured.
pub(super) fn verdict(check: &Check) -> Verdict {
    Verdict { check: check.name.clone(), dry_run: check.dry_run, ..Verdict::default() }
}

/// `errors: …`; where the check is not called after what it is about, `its name (errors): …`.
pub(super) fn sentence(check: &Check, about: &str, text: &str) -> String {
    if *check.name == *about { format!("{about}: {text}") } else { format!("{} ({about}): {text}", check.name) }
}

/// Whether the canary's share of bad requests is above the limit, and if so, whether stable's is too.
fn judged(canary: Tally, stable: Tally, limit: Limit, min_requests: u64) -> (CheckOutcome, bool) {
    if canary.requests < min_requests || canary.requests == 0 {
        (CheckOutcome::NoData, false)
    } else if canary.above(limit) {
        (CheckOutcome::Fail, stable.requests >= min_requests && stable.above(limit))
    } else {
        (CheckOutcome::Pass, false)
    }
}

/// What follows from an outcome.
fn conclusion(outcome: CheckOutcome, stable_fails_too: bool, fault: &str, missing: u64) -> String {
    match outcome {
        CheckOutcome::Fail if stable_fails_too => format!("{fault}, and stable as well"),
        CheckOutcome::Fail => fault.to_owned(),
        CheckOutcome::NoData => needed(missing.max(1)),
        CheckOutcome::Pass | CheckOutcome::Error => "ok".to_owned(),
    }
}

/// `80 more requests needed`.
pub(super) fn needed(missing: u64) -> String {
    let plural = if missing == 1 { "" } else { "s" };
    format!("{} more request{plural} needed", format::count(missing))
}

/// Whether a value lies between two limits, each included; which limit it is about, and what follows.
pub(super) fn between(
    value: f64,
    min: Option<f64>,
    max: Option<f64>,
    [below, above]: [&str; 2],
) -> (CheckOutcome, Option<f64>, String) {
    match (min, max) {
        (Some(min), _) if value < min => (CheckOutcome::Fail, Some(min), below.to_owned()),
        (_, Some(max)) if value > max => (CheckOutcome::Fail, Some(max), above.to_owned()),
        _ => (CheckOutcome::Pass, min.or(max), "ok".to_owned()),
    }
}

/// `at least 20 and at most 30 requests/s`.
pub(super) fn bounds(min: Option<f64>, max: Option<f64>, unit: &str) -> String {
    match (min.map(format::number), max.map(format::number)) {
        (Some(min), Some(max)) => format!("at least {min} and at most {max}{unit}"),
        (Some(min), None) => format!("at least {min}{unit}"),
        (None, Some(max)) => format!("at most {max}{unit}"),
        (None, None) => "no limit".to_owned(),
    }
}

/// Said where the counts are not exact at `limit`: it is newer than the histograms, which a restart makes anew.
fn estimated(seen: &Samples, limit: Duration) -> &'static str {
    let exact = seen.canary.is_exact(limit) && seen.stable.is_exact(limit);
    if exact { "" } else { " (estimated; exact after a restart, because the limit is new)" }
}
