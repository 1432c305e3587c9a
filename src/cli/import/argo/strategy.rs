//! The rollout of one Rollout: by a canary's steps, or by a switch from blue to green.

use super::super::field::{Wrong, cite, flag, left, list, number, place, printed, text, whole_number};
use super::super::judged;
use super::super::page::{Page, quoted};
use super::analysis::{Comments, Found, Role, Templates, collect};
use super::metrics::{INTERVALS, Judgement, judge, longest};
use super::service::{Service, Strategy, bake, write_left};
use super::steps::Steps;
use crate::config::{ImportedValue, Period};

/// How long Argo keeps the pods of the version before, in seconds.
const SCALE_DOWN_DELAY: u32 = 30;

/// Writes the rollout.
pub(super) fn write<'f>(page: &mut Page<'f>, service: &Service<'f>, templates: &Templates<'f>) -> Result<(), Wrong> {
    page.line(2, "rollout:");
    match service.strategy {
        Strategy::Canary(canary) => write_canary(page, service, canary, templates),
        Strategy::BlueGreen(blue_green) => write_blue_green(page, service, blue_green, templates),
    }
}

/// Fields of a strategy that Weir has no equal for, with why.
const UNEQUAL: [(&str, &str); 14] = [
    ("canaryMetadata", "has no equal: Weir starts no pods"),
    ("stableMetadata", "has no equal: Weir starts no pods"),
    ("activeMetadata", "has no equal: Weir starts no pods"),
    ("previewMetadata", "has no equal: Weir starts no pods"),
    ("previewReplicaCount", "has no equal: Weir scales nothing"),
    ("maxUnavailable", "has no equal: Weir scales nothing"),
    ("maxSurge", "has no equal: Weir scales nothing"),
    ("minPodsPerReplicaSet", "has no equal: Weir scales nothing"),
    ("dynamicStableScale", "has no equal: Weir scales nothing"),
    ("scaleDownDelayRevisionLimit", "has no equal: Weir scales nothing"),
    ("abortScaleDownDelaySeconds", "has no equal: Weir scales nothing, so the canary stays where it is"),
    ("replicaProgressThreshold", "has no equal: a version with a ready endpoint can have traffic"),
    ("antiAffinity", "has no equal: Weir starts no pods"),
    ("pingPong", "has no equal: the versions take turns by themselves"),
];

fn write_canary<'f>(
    page: &mut Page<'f>,
    service: &Service<'f>,
    canary: &'f ImportedValue,
    templates: &Templates<'f>,
) -> Result<(), Wrong> {
    let mut found = Found::default();
    if let Some(background) = canary.get("analysis") {
        collect(background, Role::Background, &service.rollout, templates, &mut found)?;
    }
    let routing = canary.get("trafficRouting");
    let most = routing.map(|routing| number(routing, "maxTrafficWeight")).transpose()?.flatten();
    let most = most.map_or(100.0, |(most, _)| most);
    if most <= 0.0 {
        return Err(Wrong::at(canary, "`maxTrafficWeight` is 0"));
    }
    let steps = Steps::of(list(canary, "steps")?, most, &service.rollout, templates, &mut found)?;
    let header = steps.header;
    let judgement = judge(&found.metrics)?;
    found.name_unused_arguments();
    page.cite(canary);
    write_interval(page, &judgement);
    steps.write(page, canary.get("steps").unwrap_or(canary));
    page.cite(canary);
    // Without a traffic router the pods of the version before go as those of the canary come.
    let bake = bake(page, canary, if routing.is_some() { SCALE_DOWN_DELAY } else { 0 })?;
    page.line(3, &format!("bake: {}", Period::from_secs(bake.into())));
    write_judgement(page, judgement, &found.comments);
    write_left(page, canary, &UNEQUAL);
    if let Some(routing) = routing {
        write_routing(page, routing)?;
    }
    if let Some(header) = header {
        page.comment(2, "Argo lets every client choose so.");
        page.line(2, &format!("override: {{ header: {}, from: anyone }}", quoted(header)));
    }
    Ok(())
}

/// What the traffic router is told has no equal; its routes by headers are named after those of the steps.
fn write_routing<'f>(page: &mut Page<'f>, routing: &'f ImportedValue) -> Result<(), Wrong> {
    if let Some(managed) = routing.get("managedRoutes") {
        let names = list(routing, "managedRoutes")?.iter().map(|route| text(route, "name"));
        let names: Vec<String> = names.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().map(printed).collect();
        let what = "the steps with these names say what becomes of them";
        page.comment(3, &format!("{} are {}: {what}.", cite(managed), names.join(", ")));
    }
    if let (Some(value), Some(most)) = (routing.get("maxTrafficWeight"), text(routing, "maxTrafficWeight")?) {
        page.comment(
            3,
            &format!(
                "{} is {}, which `setWeight` is a part of; weights here are percentages.",
                place(value),
                printed(most)
            ),
        );
    }
    for (field, value) in routing.entries() {
        if !matches!(field.as_str(), "managedRoutes" | "maxTrafficWeight") && !value.is_null() {
            page.comment(3, &left(value, "has no equal: Weir carries the traffic itself"));
        }
    }
    Ok(())
}

fn write_blue_green<'f>(
    page: &mut Page<'f>,
    service: &Service<'f>,
    blue_green: &'f ImportedValue,
    templates: &Templates<'f>,
) -> Result<(), Wrong> {
    let mut found = Found::default();
    let before = analyse(blue_green.get("prePromotionAnalysis"), service, templates, &mut found)?;
    let after = analyse(blue_green.get("postPromotionAnalysis"), service, templates, &mut found)?;
    let judgement = judge(&found.metrics)?;
    found.name_unused_arguments();
    page.cite(blue_green);
    write_interval(page, &judgement);
    write_switch(page, blue_green, before)?;
    let own = if blue_green.get("scaleDownDelaySeconds").is_some() { 0 } else { SCALE_DOWN_DELAY };
    let mut bake = Period::from_secs(bake(page, blue_green, own)?.into());
    if let Some((analysis, longest)) = after {
        let lasts = if longest > Period::ZERO { format!(", which takes {longest}") } else { String::new() };
        page.comment(3, &format!("{} judges during `bake`{lasts}.", cite(analysis)));
        bake = bake.max(longest).min(Period::WEEK);
    }
    page.line(3, &format!("bake: {bake}"));
    write_judgement(page, judgement, &found.comments);
    write_left(page, blue_green, &UNEQUAL);
    Ok(())
}

/// Adds the metrics of an analysis that is run once, and tells how long it takes.
fn analyse<'f>(
    analysis: Option<&'f ImportedValue>,
    service: &Service<'f>,
    templates: &Templates<'f>,
    found: &mut Found<'f>,
) -> Result<Option<(&'f ImportedValue, Period)>, Wrong> {
    let Some(analysis) = analysis else { return Ok(None) };
    let before = found.metrics.len();
    collect(analysis, Role::Once, &service.rollout, templates, found)?;
    let longest = longest(found.metrics.get(before..).unwrap_or_default())?;
    Ok(Some((analysis, longest)))
}

/// The steps of a switch. What is judged or approved before it needs some traffic with Weir.
fn write_switch<'f>(
    page: &mut Page<'f>,
    blue_green: &'f ImportedValue,
    before: Option<(&'f ImportedValue, Period)>,
) -> Result<(), Wrong> {
    let automatic = flag(blue_green, "autoPromotionEnabled")?.unwrap_or(true);
    let seconds = whole_number(blue_green, "autoPromotionSeconds", 7 * 86_400)?.unwrap_or(0);
    let seconds = match blue_green.get("autoPromotionSeconds") {
        Some(value) if !automatic => {
            page.comment(3, &left(value, "has no effect with `autoPromotionEnabled: false`"));
            0
        }
        _ => seconds,
    };
    let mut hold = Period::from_secs(seconds.into());
    if let Some((analysis, longest)) = before {
        page.comment(3, &format!("{} judges before the switch.", cite(analysis)));
        hold = hold.max(longest).min(Period::WEEK);
    }
    if automatic && hold == Period::ZERO && before.is_none() {
        page.cite(blue_green);
        page.line(3, "steps: [{ weight: 100 }]");
        return Ok(());
    }
    page.comment(
        3,
        "DECIDE: Argo shows the preview no traffic of users before the switch. Weir needs some to judge by, and a step \
         for a person to approve: 1 %.",
    );
    let gate = if automatic { "" } else { ", gate: manual" };
    page.line(3, "steps:");
    page.line(4, &format!("- {{ weight: 1, hold: {hold}{gate} }}"));
    page.line(4, "- { weight: 100 }");
    Ok(())
}

fn write_interval(page: &mut Page<'_>, judgement: &Judgement<'_>) {
    match judgement.interval {
        Some(interval) => {
            page.comment(3, "The shortest `interval` of the metrics.");
            page.line(3, &format!("interval: {}", interval.clamp(INTERVALS.0, INTERVALS.1)));
        }
        None => page.line(3, "interval: 10s # no metric states one"),
    }
}

fn write_judgement<'f>(page: &mut Page<'f>, judgement: Judgement<'f>, comments: &Comments) {
    comments.list().iter().for_each(|comment| page.comment(3, comment));
    page.comment(3, "Argo counts no requests. DECIDE: below 100, one error is much.");
    page.line(3, "min_requests: 1");
    page.comment(
        3,
        "Argo fails where a query has no result often enough. Here it waits, unless a check says otherwise.",
    );
    page.line(3, "no_data: hold");
    let some = judged::write(page, judgement.checks);
    if some {
        let total = judgement.failures.unwrap_or(1);
        page.line(3, &format!("failures: {{ total: {total} }} # one more than failureLimit"));
    }
    page.comment(
        3,
        "Argo goes back only after a measurement. DECIDE: [{ errors: 10, in_a_row: true }] goes back at the tenth error.",
    );
    page.line(3, "rollback_when: []");
    page.line(3, "rollback: immediate");
}
