//! The checks on what Weir measured itself: each a rule, and the words for what it found.
//!
//! A sentence has three parts: what was seen of both versions, the limit, and after a colon what follows. What is done
//! about it is not the judge's to say.

use std::time::Duration;

use super::compare::{SequentialTest, TallyPair};
use super::input::{AnalysisInput, CheckInput};
use super::significance::{Excess, Significance, outlier};
use crate::rollout::evidence::{ClientTallies, Limit, Question, Sample, Samples, Tally};
use crate::rollout::format;
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
pub(super) fn rate(input: &CheckInput<'_>, rate: ErrorBound, errors: Errors) -> Verdict {
    let (limit, most) = match rate {
        ErrorBound::Errors { max } => (max, Limit::percent(max)),
        ErrorBound::Successes { min } => (min, Limit::percent(min).rest()),
    };
    let found = Finding::of(input, Question::Errors(errors), most);
    let (name, bound, value) = match rate {
        ErrorBound::Errors { .. } => ("errors", "limit", found.canary.percent()),
        ErrorBound::Successes { .. } => ("success", "at least", found.canary.percent().map(|errors| 100.0 - errors)),
    };
    let words = |sample: &Sample| match rate {
        ErrorBound::Errors { .. } => sample.errors_in_words(errors),
        ErrorBound::Successes { .. } => sample.successes_in_words(errors),
    };
    let seen = input.seen;
    let text = format!(
        "canary {} over {}, stable {}, {bound} {}: {}",
        words(&seen.canary),
        format::duration(seen.canary.covered),
        words(&seen.stable),
        format::percent(limit),
        found.conclusion(input, "too many errors"),
    );
    found.verdict(input.check, (name, text), value, limit)
}

/// The quantile of the durations is at most `max`: no more than the share that the quantile leaves is slower.
pub(super) fn duration(input: &CheckInput<'_>, quantile: f64, max: Duration) -> Verdict {
    let seen = input.seen;
    let found = Finding::of(input, Question::Slower(max), Limit::ratio(quantile).rest());
    let (name, limit) = (format::quantile(quantile), format::duration(max));
    let side = |sample: &Sample, slower: Tally, beyond: &str| {
        let at = sample.quantile(quantile).map(|at| format!("{name} {}, ", format::duration(at)));
        format!("{}{}{beyond}", at.unwrap_or_default(), slower.words())
    };
    let given_up = match seen.canary.abandoned().bad {
        0 => String::new(),
        count => format!(", {} given up by their clients among them", format::count(count)),
    };
    let beyond = format!(" slower than {limit}{}{given_up}", estimated(seen, max));
    let text = format!(
        "canary {} over {}, stable {}, limit {name} {limit}: {}",
        side(&seen.canary, found.canary, &beyond),
        format::duration(seen.canary.covered),
        side(&seen.stable, found.stable, ""),
        found.conclusion(input, "too slow"),
    );
    let value = seen.canary.quantile(quantile).map(|at| at.as_secs_f64());
    found.verdict(input.check, ("latency", text), value, max.as_secs_f64())
}

/// At most so many percent of the clients went away before the first byte of a response.
pub(super) fn abandoned(input: &CheckInput<'_>, max: f64) -> Verdict {
    let seen = input.seen;
    let found = Finding::of(input, Question::Abandoned, Limit::percent(max));
    let text = format!(
        "clients of the canary that went away before the first byte: {} over {}, stable {}, limit {}: {}",
        found.canary.words(),
        format::duration(seen.canary.covered),
        found.stable.words(),
        format::percent(max),
        found.conclusion(input, "too many"),
    );
    found.verdict(input.check, ("abandoned", text), found.canary.percent(), max)
}

/// The canary has at least `min` and at most `max` requests per second.
pub(super) fn requests(check: &Check, canary: &Sample, min: Option<f64>, max: Option<f64>) -> Verdict {
    let min_requests = check.min_requests.unwrap_or(0);
    let (count, covered) = (canary.requests(), format::duration(canary.covered));
    let seconds = canary.covered.as_secs_f64();
    let value = (seconds > 0.0).then(|| count as f64 / seconds);
    let (outcome, limit, after) = match value {
        None => (CheckOutcome::NoData, min.or(max), "no time has passed".to_owned()),
        Some(_) if count < min_requests => {
            (CheckOutcome::NoData, min.or(max), needed(min_requests - count, rate_of(canary)))
        }
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
/// together, and a canary does not become as good as stable by waiting. So it is conclusive, too.
pub(super) fn compare(
    input: &CheckInput<'_>,
    run: &AnalysisInput<'_>,
    parameters: &CompareParameters,
    test: &mut SequentialTest,
) -> Verdict {
    let question = Question::compared(parameters.metric, parameters.errors);
    let block = run.evidence.block();
    let canary = compared(question, &block.canary);
    // What other services suffer as well says nothing about the canary, where no stable version shows that it suffers too.
    if run.shared_failure.is_none() || !run.canary_has_all {
        let pair = TallyPair { canary, stable: question.tally(&block.stable) };
        let all = run.evidence.all().canary;
        let groups = ClientTallies::of(&all, compared(question, &all).bad);
        test.observe(pair, block.canary.covered, &run.baseline.past(question), (groups, run.canary_has_all));
    }
    let TallyPair { canary, stable } = test.judged();
    let (p, limit) = (test.p(), (100.0 - parameters.confidence) / 100.0);
    let worse = p <= limit;
    let min_requests = input.min_requests;
    let missing = |tally: Tally| min_requests.saturating_sub(tally.requests);
    let (outcome, after) = match (missing(canary), missing(stable), one_endpoint(input, question)) {
        (0, 0, _) if worse => (CheckOutcome::Fail, "worse".to_owned()),
        (0, 0, Some(endpoint)) => (CheckOutcome::Suspect, endpoint),
        (0, 0, None) if test.p_now() <= SUSPECT => {
            (CheckOutcome::Suspect, "perhaps worse: more requests will tell".to_owned())
        }
        // What was compared before says nothing of these.
        (0, 0, None) if test.uncompared() >= min_requests.max(1) => {
            let count = format::requests(test.uncompared());
            (CheckOutcome::NoData, format!("nothing of stable to compare the last {count} with"))
        }
        (0, 0, None) => (CheckOutcome::Pass, "not shown to be worse".to_owned()),
        (0, of_stable, _) => (CheckOutcome::NoData, format!("{} of stable", needed(of_stable, None))),
        (of_canary, ..) => (CheckOutcome::NoData, needed(of_canary, rate_of(&input.seen.canary))),
    };
    let what = match parameters.metric {
        Compared::ErrorRate => "errors".to_owned(),
        Compared::Slower(limit) => format!("slower than {}{}", format::duration(limit), estimated(input.seen, limit)),
    };
    let text = format!(
        "{what}, canary {} since the start, stable {}{}, margin {} points, p {}, limit {}: {after}",
        canary.words(),
        stable.words(),
        test.baseline_in_words(),
        format::number(parameters.margin),
        format::chance(p),
        format::number(limit),
    );
    Verdict {
        outcome,
        conclusive: outcome == CheckOutcome::Fail,
        value: canary.percent().zip(stable.percent()).map(|(canary, stable)| canary - stable),
        limit: Some(parameters.margin),
        samples: canary.requests,
        sentence: sentence(input.check, "compare", &text),
        ..verdict(input.check)
    }
}

/// What is compared of a sample of the canary: without the endpoint that has errors of its own.
fn compared(question: Question, canary: &Sample) -> Tally {
    let tally = question.tally(canary);
    match (question, outlier(&canary.endpoints)) {
        (Question::Errors(_), Some(endpoint)) => tally.without(endpoint.tally),
        _ => tally,
    }
}

/// As little chance as this is no proof, and reason enough not to give the canary more.
const SUSPECT: f64 = 0.2;

/// The endpoint that has the canary's errors, in words, if it is one of several.
fn one_endpoint(input: &CheckInput<'_>, question: Question) -> Option<String> {
    let Question::Errors(_) = question else { return None };
    outlier(&input.seen.canary.endpoints).map(|endpoint| blamed(&endpoint.name, endpoint.tally))
}

fn blamed(endpoint: &str, tally: Tally) -> String {
    format!("one endpoint, {endpoint}, has {}: not the version", tally.words())
}

/// What is known of a check before anything was measured.
pub(super) fn verdict(check: &Check) -> Verdict {
    Verdict { check: check.name.clone(), dry_run: check.dry_run, ..Verdict::default() }
}

/// `errors: …`; where the check is not called after what it is about, `its name (errors): …`.
pub(super) fn sentence(check: &Check, about: &str, text: &str) -> String {
    if *check.name == *about { format!("{about}: {text}") } else { format!("{} ({about}): {text}", check.name) }
}

/// What was found of a share of requests, compared with a limit.
struct Finding {
    outcome: CheckOutcome,
    canary: Tally,
    stable: Tally,
    /// Stable is above the limit too, or other services fail alike.
    stable_fails_too: bool,
    /// It is suspect because it may be chance.
    unsure: bool,
    /// What is said of it: how sure it is, or whose fault.
    why: String,
}

impl Finding {
    fn of(input: &CheckInput<'_>, question: Question, limit: Limit) -> Self {
        let (canary, stable) = (question.tally(&input.seen.canary), question.tally(&input.seen.stable));
        let outcome = CheckOutcome::Pass;
        let mut found = Self { outcome, canary, stable, stable_fails_too: false, unsure: false, why: String::new() };
        if canary.requests < input.min_requests || canary.requests == 0 {
            found.outcome = CheckOutcome::NoData;
            return found;
        }
        let significance = input.significance(question);
        match significance.excess(canary, limit) {
            Excess::None => {}
            Excess::Unsure => {
                found.outcome = CheckOutcome::Suspect;
                found.unsure = true;
                found.why = significance_in_words(significance, canary, limit);
            }
            Excess::Sure => {
                let endpoints: &[_] = match question {
                    Question::Errors(_) => &input.seen.canary.endpoints,
                    Question::Slower(_) | Question::Abandoned => &[],
                };
                if let Some(endpoint) = significance.one_endpoint(canary, limit, endpoints) {
                    found.outcome = CheckOutcome::Suspect;
                    found.why = blamed(&endpoint.name, endpoint.tally);
                } else {
                    found.outcome = CheckOutcome::Fail;
                    // Where it counts what others suffer, stable has no traffic: what it last had was before that.
                    found.stable_fails_too = (stable.requests >= input.min_requests
                        && stable.above(limit)
                        && significance.as_bad(canary, stable))
                        || input.shared_failure.is_some();
                    found.why = significance_in_words(significance, canary, limit);
                }
            }
        }
        found
    }

    /// What follows.
    fn conclusion(&self, input: &CheckInput<'_>, fault: &str) -> String {
        match self.outcome {
            CheckOutcome::Fail if self.stable_fails_too => match input.shared_failure {
                Some(shared) => format!("{fault}, and {shared}"),
                None => format!("{fault}, and stable as well"),
            },
            CheckOutcome::Fail => format!("{fault}{}", self.why),
            CheckOutcome::Suspect if self.unsure => format!("{fault}, and that may be chance{}", self.why),
            CheckOutcome::Suspect => self.why.clone(),
            CheckOutcome::NoData => {
                needed(input.min_requests.saturating_sub(self.canary.requests).max(1), rate_of(&input.seen.canary))
            }
            CheckOutcome::Pass | CheckOutcome::Error | CheckOutcome::WarmingUp => "ok".to_owned(),
        }
    }

    fn verdict(&self, check: &Check, (about, text): (&str, String), value: Option<f64>, limit: f64) -> Verdict {
        Verdict {
            outcome: self.outcome,
            value,
            limit: Some(limit),
            samples: self.canary.requests,
            stable_fails_too: self.stable_fails_too,
            sentence: sentence(check, about, &text),
            ..verdict(check)
        }
    }
}

/// ` (p 0.004; errors come in clusters: as 410 requests)`.
fn significance_in_words(significance: Significance, tally: Tally, limit: Limit) -> String {
    let Some(_) = significance.level else { return String::new() };
    let counted = tally.requests as f64 / significance.design_effect;
    let clusters = if significance.design_effect < CLUSTERED {
        String::new()
    } else {
        format!("; they come in clusters, so these say as much as {}", format::number(counted.round()))
    };
    format!(" (p {}{clusters})", format::chance(significance.chance(tally, limit)))
}

/// Less is not worth a word.
const CLUSTERED: f64 = 1.1;

/// The canary's requests a second.
pub(super) fn rate_of(sample: &Sample) -> Option<f64> {
    let seconds = sample.covered.as_secs_f64();
    (seconds > 0.0 && sample.requests() > 0).then(|| sample.requests() as f64 / seconds)
}

/// `80 more requests needed`, and where the rate of requests is known, how long that takes.
pub(super) fn needed(missing: u64, rate: Option<f64>) -> String {
    let plural = if missing == 1 { "" } else { "s" };
    let takes = rate.and_then(|rate| Duration::try_from_secs_f64(missing as f64 / rate).ok());
    let takes = takes.map_or_else(String::new, |takes| format!(", about {} at this rate", format::duration(takes)));
    format!("{} more request{plural} needed{takes}", format::count(missing))
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
