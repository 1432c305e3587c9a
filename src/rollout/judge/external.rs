//! Checks on what others measured: a PromQL query, a webhook.
//!
//! An answer without a number (no series, NaN from a division by nothing) is no data, as a window without requests
//! is. A source that cannot be asked, or whose answer has no one meaning, is an error: it says nothing about the
//! canary.

use super::checks::{between, bounds, needed, sentence, verdict};
use crate::rollout::format;
use crate::rollout::plan::{Check, Provider};
use crate::rollout::reading::Reading;
use crate::rollout::verdict::{CheckOutcome, Verdict};

/// The name of a kind of provider.
const fn provider_name(provider: &Provider) -> &'static str {
    match provider {
        Provider::Prometheus { .. } => "prometheus",
        Provider::Webhook { .. } => "webhook",
    }
}

/// The verdict of an external check, `requests` of the canary having come in its window.
pub(super) fn judge(
    check: &Check,
    provider: &Provider,
    external: Option<Reading>,
    min: Option<f64>,
    max: Option<f64>,
    requests: u64,
) -> Verdict {
    let min_requests = check.min_requests.unwrap_or(0);
    let value = match external {
        Some(Reading::Value(value)) if value.is_finite() => Some(value),
        _ => None,
    };
    let limits = bounds(min, max, "");
    let mut limit = min.or(max);
    let (outcome, text) = match external {
        _ if requests < min_requests => (
            CheckOutcome::NoData,
            format!("canary {}: {}", format::requests(requests), needed(min_requests - requests, None)),
        ),
        None => (CheckOutcome::NoData, "no answer yet".to_owned()),
        Some(Reading::Value(value)) if value.is_nan() => not_a_number(),
        Some(Reading::Value(value)) if value.is_infinite() => {
            (CheckOutcome::Error, format!("{value} is no number to compare, {limits}"))
        }
        Some(Reading::Value(value)) => {
            let (outcome, about, after) = between(value, min, max, ["too low", "too high"]);
            limit = about;
            (outcome, format!("{}, {limits}: {after}", format::number(value)))
        }
        Some(Reading::Verdict { pass: good, text: reason }) => {
            let (outcome, word) = if good { (CheckOutcome::Pass, "ok") } else { (CheckOutcome::Fail, "refused") };
            let reason = format::line(&reason);
            (outcome, if reason.is_empty() { word.to_owned() } else { format!("{word}: {reason}") })
        }
        Some(Reading::Empty) => {
            (CheckOutcome::NoData, "the query has no result, probably for want of traffic".to_owned())
        }
        Some(Reading::Many(_)) => {
            (CheckOutcome::Error, "the query has more than one series: aggregate it to one, with sum() say".to_owned())
        }
        Some(Reading::NotANumber) => not_a_number(),
        Some(Reading::Timeout) => (CheckOutcome::Error, "no answer in time".to_owned()),
        Some(Reading::Failed(reason)) => (CheckOutcome::Error, format!("no answer: {}", format::line(&reason))),
    };
    let sentence = sentence(check, provider_name(provider), &text);
    Verdict { outcome, value, limit, samples: requests, sentence, ..verdict(check) }
}

fn not_a_number() -> (CheckOutcome, String) {
    (CheckOutcome::NoData, "the result is not a number, probably for want of traffic".to_owned())
}
