//! A Canary's analysis as a rollout: steps, and how many failed analysis runs are too many.

use super::super::field::{Wrong, bounded, duration, flag, left, list, place, whole_number};
use super::super::judged;
use super::super::page::Page;
use super::super::resource::Resource;
use super::calls::Calls;
use super::metrics::{self, judge, window};
use super::service::Service;
use crate::config::{ImportedValue, Period};

/// What Flagger takes for `interval` when it is not there.
const INTERVAL: Period = Period::from_secs(60);
/// Flagger raises shorter intervals to this; Weir takes no longer ones.
const INTERVALS: (Period, Period) = (Period::from_secs(10), Period::HOUR);
/// How many iterations or failed checks are believed.
const MOST: u32 = 10_000;
/// How long a step may be held.
const LONGEST_HOLD: u64 = 7 * 86_400;

/// Writes the rollout of one service.
pub(super) fn write<'f>(
    page: &mut Page<'f>,
    service: &Service<'f>,
    templates: &[Resource<'f>],
    calls: Calls<'f>,
) -> Result<(), Wrong> {
    page.cite(service.analysis.unwrap_or(service.spec));
    page.line(2, "rollout:");
    if flag(service.spec, "skipAnalysis")? == Some(true) {
        page.comment(3, "skipAnalysis: the canary gets all traffic at once, and nothing is judged.");
        page.line(3, "steps: [{ weight: 100 }]");
        page.line(3, "bake: 0s");
        page.line(3, "checks: []");
        page.line(3, "rollback_when: []");
        if let Some(analysis) = service.analysis {
            for field in ["interval", "threshold", "maxWeight", "stepWeight", "stepWeights", "iterations", "metrics"] {
                if let Some(value) = analysis.get(field) {
                    page.comment(3, &left(value, "has no effect with `skipAnalysis`"));
                }
            }
        }
        calls.write(page);
        return Ok(());
    }
    let what = || Wrong::at(service.spec, "this Canary has no `analysis`");
    let analysis = service.analysis.ok_or_else(what)?;
    let interval = write_interval(page, analysis)?;
    write_steps(page, analysis, interval)?;
    page.cite(analysis);
    page.comment(3, "Flagger promotes at once. DECIDE: with `bake: 10m` the old version stays warm and can come back.");
    page.line(3, "bake: 0s");
    page.comment(3, "Flagger judges any number of requests. DECIDE: below 100, one error fails a check for 99 %.");
    page.line(3, "min_requests: 1");
    page.comment(
        3,
        "Flagger counts a check without data as failed, which rolls back where nobody calls. Here it waits.",
    );
    page.line(3, "no_data: hold");
    page.comment(
        3,
        "Flagger compares the bare ratio with the limit. DECIDE: without this line a check fails only by more than chance.",
    );
    page.line(3, "significance: off");
    judged::write(page, judge(service, analysis, templates, interval)?);
    page.cite(analysis.get("threshold").unwrap_or(analysis));
    // Flagger's default, and what it makes of 0.
    let stated = whole_number(analysis, "threshold", MOST)?;
    if let (Some(0), Some(value)) = (stated, analysis.get("threshold")) {
        page.comment(3, &format!("{} is 0, which Flagger takes for 1.", place(value)));
    }
    let threshold = stated.unwrap_or(1).max(1);
    page.line(3, &format!("failures: {{ total: {threshold} }} # threshold"));
    page.comment(
        3,
        "Flagger goes back only after an analysis run. DECIDE: [{ errors: 10, in_a_row: true }] goes back at the tenth error.",
    );
    page.line(3, "rollback_when: []");
    page.line(3, "rollback: immediate");
    for (field, why) in UNEQUAL {
        if let Some(value) = analysis.get(field) {
            page.comment(3, &left(value, why));
        }
    }
    calls.write(page);
    Ok(())
}

/// Fields of the analysis that have no equal, with why.
const UNEQUAL: [(&str, &str); 6] = [
    ("mirror", "has no equal: Weir sends each request to one version"),
    ("mirrorWeight", "has no equal: Weir sends each request to one version"),
    ("stepWeightPromotion", "has no equal: the canary becomes the stable version where it is, with no weights to move"),
    ("primaryReadyThreshold", "has no equal: a version with a ready endpoint can have traffic"),
    ("canaryReadyThreshold", "has no equal: a version with a ready endpoint can have traffic"),
    ("canaryReplicas", "has no equal: Weir scales nothing"),
];

/// Writes how often the judge decides, and tells it.
fn write_interval<'f>(page: &mut Page<'f>, analysis: &'f ImportedValue) -> Result<Period, Wrong> {
    let mut interval = INTERVAL;
    if let (Some(stated), Some(value)) = (duration(analysis, "interval")?, analysis.get("interval")) {
        page.cite(value);
        let (taken, changed) = bounded(value, stated, INTERVALS);
        if stated < INTERVALS.0 {
            let raised = format!("{} is {stated}, which Flagger raises to 10s", place(value));
            page.comment(3, &format!("{raised}; Weir takes 1s and more."));
        } else if let Some(comment) = changed {
            page.comment(3, &comment);
        }
        interval = taken;
    }
    page.line(3, &format!("interval: {interval}"));
    let window = window(interval);
    if window > metrics::INTERVAL {
        page.comment(3, "Flagger looks back on 1m unless a metric says more. Here all of the interval is judged.");
    }
    page.line(3, &format!("window: {window}"));
    Ok(interval)
}

/// The steps: weights in whole percents, held for one interval each.
fn write_steps<'f>(page: &mut Page<'f>, analysis: &'f ImportedValue, interval: Period) -> Result<(), Wrong> {
    let listed = listed_weights(analysis)?;
    let matches = analysis.get("match").filter(|value| value.items().is_some_and(|items| !items.is_empty()));
    let iterations = whole_number(analysis, "iterations", MOST)?.filter(|n| *n > 0);
    let step = whole_number(analysis, "stepWeight", 100)?.filter(|step| *step > 0);
    let stated = whole_number(analysis, "maxWeight", 100)?;
    if let Some(iterations) = iterations {
        without_effect(page, analysis, &["stepWeight", "stepWeights", "maxWeight"], "beside `iterations`");
        return write_iterations(page, analysis, (iterations, interval), matches);
    }
    let max = stated.filter(|max| *max > 0).unwrap_or(100);
    let (field, weights) = match (step, listed.is_empty()) {
        (_, false) => {
            without_effect(page, analysis, &["stepWeight", "maxWeight"], "beside `stepWeights`");
            ("stepWeights", listed)
        }
        (Some(step), true) => {
            if max % step != 0 {
                page.comment(3, &format!("Flagger would go past maxWeight {max}; Weir stops at it."));
            }
            let below = (1..).map(|n: u32| n * step).take_while(|weight| *weight < max);
            ("stepWeight", below.chain([max]).collect())
        }
        (None, true) => {
            return Err(Wrong::at(analysis, "the analysis has none of `stepWeight`, `stepWeights` and `iterations`"));
        }
    };
    if let Some(matches) = matches {
        page.comment(3, &format!("DECIDE: {}", left(matches, "without `iterations` was left out")));
    }
    page.cite(analysis.get(field).unwrap_or(analysis));
    page.line(3, "steps:");
    for weight in weights {
        page.line(4, &format!("- {{ weight: {weight}, hold: {interval} }}"));
    }
    Ok(())
}

fn without_effect<'f>(page: &mut Page<'f>, analysis: &'f ImportedValue, fields: &[&str], beside: &str) {
    for value in fields.iter().filter_map(|field| analysis.get(field)) {
        page.comment(3, &left(value, &format!("has no effect {beside}")));
    }
}

fn listed_weights(analysis: &ImportedValue) -> Result<Vec<u32>, Wrong> {
    let mut weights: Vec<u32> = Vec::new();
    for item in list(analysis, "stepWeights")? {
        let weight = item.text().and_then(|text| text.parse().ok()).filter(|weight| (1..=100).contains(weight));
        let weight: u32 = weight.ok_or_else(|| Wrong::at(item, "a weight of `stepWeights` is 1 to 100"))?;
        if let Some(before) = weights.last().filter(|before| weight < **before) {
            return Err(Wrong::at(
                item,
                format!("`stepWeights` falls from {before} to {weight}; Weir's steps only go up"),
            ));
        }
        weights.push(weight);
    }
    Ok(weights)
}

/// A/B testing and blue/green: so many analysis runs without a weight.
fn write_iterations<'f>(
    page: &mut Page<'f>,
    analysis: &'f ImportedValue,
    (iterations, interval): (u32, Period),
    matches: Option<&'f ImportedValue>,
) -> Result<(), Wrong> {
    if let Some(matches) = matches {
        page.comment(
            3,
            &format!("DECIDE: {}", left(matches, "(A/B) has no equal: Weir's canary takes a weight, here 1 %")),
        );
        page.comment(3, "To send those users to it, let what recognises them set a header, with");
        page.comment(
            3,
            "`override: { header: x-weir-version, from: [10.0.0.0/8] }` beside `release`, and its value `canary`.",
        );
    } else {
        page.comment(
            3,
            "DECIDE: blue/green judges a canary without traffic of users, by a load test. Weir needs some: 1 %.",
        );
    }
    let seconds = interval.get().as_secs().saturating_mul(iterations.into());
    if seconds > LONGEST_HOLD {
        page.comment(3, "Weir holds a step for 7d at most.");
    }
    page.cite(analysis.get("iterations").unwrap_or(analysis));
    page.line(3, "steps:");
    let hold = Period::from_secs(seconds.clamp(1, LONGEST_HOLD));
    page.line(4, &format!("- {{ weight: 1, hold: {hold} }} # {iterations} iterations of {interval}"));
    Ok(())
}
