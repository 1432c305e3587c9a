//! The steps of a canary as steps of a rollout.
//!
//! ```text
//! setWeight 20, pause 10m      { weight: 20, hold: 10m }
//! setWeight 20, pause          { weight: 20, hold: 0s, gate: manual }
//! … pause, pause 5m            { weight: 20, hold: 0s, gate: manual }, { weight: 20, hold: 5m }
//! ```

use std::time::Duration;

use super::super::field::{Wrong, cite, go_duration, left, list, number, place, printed, text};
use super::super::page::{Page, quoted};
use super::super::resource::Resource;
use super::analysis::{Found, Role, Templates, collect};
use super::metrics::longest;
use crate::config::{ImportedValue, Period};

/// How long Weir holds a step at most.
const LONGEST_HOLD: Period = Period::WEEK;

/// The steps as they are written.
#[derive(Default)]
pub(super) struct Steps<'f> {
    page: Page<'f>,
    /// The step that is not written yet.
    open: Option<Step<'f>>,
    /// Something is written.
    some: bool,
    /// How the canary is chosen by a header whose value is its name.
    pub(super) header: Option<&'f str>,
    /// What comes before the first weight.
    pub(super) before: Vec<String>,
}

/// A weight.
struct Step<'f> {
    from: &'f ImportedValue,
    /// In percent.
    weight: f64,
    hold: Duration,
    gate: bool,
}

impl<'f> Steps<'f> {
    /// The steps with these weights, of which `of` is everything.
    pub(super) fn of(
        steps: &'f [ImportedValue],
        of: f64,
        rollout: &Resource<'f>,
        templates: &Templates<'f>,
        found: &mut Found<'f>,
    ) -> Result<Self, Wrong> {
        let mut written = Self::default();
        for step in steps {
            for (kind, value) in step.entries() {
                match kind.as_str() {
                    "setWeight" => written.set_weight(step, of)?,
                    "pause" => written.pause(value)?,
                    "analysis" => written.analyse(value, rollout, templates, found)?,
                    "setHeaderRoute" => written.header_route(value)?,
                    kind => written.other(kind, value),
                }
            }
        }
        Ok(written)
    }

    /// Writes `steps`, with the promotion at their end. `node` is where it is said that there are any.
    pub(super) fn write(mut self, page: &mut Page<'f>, node: &'f ImportedValue) {
        self.before.iter().for_each(|comment| page.comment(3, comment));
        let last = self.open.as_ref().map(|step| step.weight);
        self.close();
        page.cite(node);
        if !self.some {
            page.comment(3, "DECIDE: there are no weights: the canary gets all traffic at once.");
        }
        page.line(3, "steps:");
        page.append(self.page);
        if last.is_none_or(|last| last < 100.0) {
            page.line(4, "- { weight: 100 } # Argo promotes after the last step");
        }
    }

    fn close(&mut self) {
        let Some(Step { from, weight, hold, gate }) = self.open.take() else { return };
        let gate = if gate { ", gate: manual" } else { "" };
        let whole = Period::from_millis(u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
        let hold = whole.min(LONGEST_HOLD);
        self.page.cite(from);
        if hold < whole {
            self.page.comment(4, &format!("It is {whole}; Weir holds a step for 7d at most."));
        }
        self.page.line(4, &format!("- {{ weight: {weight}, hold: {hold}{gate} }}"));
        self.some = true;
    }

    /// Says something of the step that comes next.
    fn comment(&mut self, text: String) {
        match self.open {
            Some(_) => self.page.comment(4, &text),
            None => self.before.push(text),
        }
    }

    fn set_weight(&mut self, step: &'f ImportedValue, of: f64) -> Result<(), Wrong> {
        let Some((weight, value)) = number(step, "setWeight")? else { return Ok(()) };
        // Weights have two decimals.
        let percent = (weight / of * 1e4).round() / 1e2;
        if !(0.0..=100.0).contains(&percent) {
            return Err(Wrong::at(value, format!("`setWeight` is {weight}; 0 to {of} is expected")));
        }
        let before = self.open.as_ref().map_or(0.0, |open| open.weight);
        if percent <= 0.0 || percent < before {
            let why = if percent <= 0.0 { "gives the canary nothing" } else { "falls; Weir's steps only go up" };
            self.comment(format!("DECIDE: {} is {weight}: it {why}, and was left out.", place(value)));
            return Ok(());
        }
        self.close();
        self.open = Some(Step { from: value, weight: percent, hold: Duration::ZERO, gate: false });
        Ok(())
    }

    fn pause(&mut self, value: &'f ImportedValue) -> Result<(), Wrong> {
        let hold = match (value.entries().is_empty(), value.get("duration")) {
            (_, Some(stated)) => Some(pause_length(stated)?),
            (_, None) => None,
        };
        let Some(open) = &mut self.open else {
            let how = match hold {
                Some(hold) => format!("{} is {hold} before the first weight", cite(value)),
                None => format!("{} waits for a person before the first weight", cite(value)),
            };
            self.before.push(format!("DECIDE: {how}: Weir waits there for a hook `before_start`."));
            return Ok(());
        };
        // A gate comes after its step's hold: what is held after it is a step of its own.
        if open.gate {
            let (from, weight) = (open.from, open.weight);
            self.close();
            self.open = Some(Step { from, weight, hold: Duration::ZERO, gate: false });
        }
        if let Some(open) = &mut self.open {
            match hold {
                Some(hold) => open.hold = open.hold.saturating_add(hold.get()),
                None => open.gate = true,
            }
        }
        Ok(())
    }

    fn analyse(
        &mut self,
        value: &'f ImportedValue,
        rollout: &Resource<'f>,
        templates: &Templates<'f>,
        found: &mut Found<'f>,
    ) -> Result<(), Wrong> {
        let before = found.metrics.len();
        collect(value, Role::Once, rollout, templates, found)?;
        let longest = longest(found.metrics.get(before..).unwrap_or_default())?;
        let lasts = if longest > Period::ZERO { format!(", which takes {longest}") } else { String::new() };
        self.comment(format!("{} measures at this step{lasts}; the checks below judge all the time.", cite(value)));
        if let Some(open) = &mut self.open {
            if !open.gate {
                open.hold = open.hold.saturating_add(longest.get());
            } else if longest > Period::ZERO {
                let (from, weight) = (open.from, open.weight);
                self.close();
                self.open = Some(Step { from, weight, hold: longest.get(), gate: false });
            }
        }
        Ok(())
    }

    /// A route by a header. Weir's `override` takes the version's name as the header's value.
    fn header_route(&mut self, value: &'f ImportedValue) -> Result<(), Wrong> {
        let name = text(value, "name")?.map_or_else(|| "?".to_owned(), printed);
        let conditions = list(value, "match")?;
        if conditions.is_empty() {
            self.comment(format!("{} takes the header route {name} away; `override` stays.", cite(value)));
        }
        for condition in conditions {
            let header = text(condition, "headerName")?;
            let exact = condition.get("headerValue").map(|value| text(value, "exact")).transpose()?.flatten();
            match (header, exact) {
                (Some(header), Some("canary")) if self.header.is_none() => {
                    self.header = Some(header);
                    self.comment(format!("{} ({name}) is `override`, all the time.", cite(condition)));
                }
                (Some(header), Some(exact)) => {
                    let what = format!("{} ({name}) sends requests with `{}: {}`", cite(condition), header, exact);
                    let how = format!("`override: {{ header: {}, from: anyone }}`", quoted(header));
                    self.comment(format!("DECIDE: {what} to the canary. With {how} it is the value `canary`."));
                }
                _ => {
                    let what = left(condition, &format!("({name}) has no equal: `override` takes a version's name"));
                    self.comment(format!("DECIDE: {what}"));
                }
            }
        }
        Ok(())
    }

    fn other(&mut self, kind: &str, value: &'f ImportedValue) {
        let text = match kind {
            "setCanaryScale" | "replicaProgressThreshold" => left(value, "has no equal: Weir scales nothing"),
            "setMirrorRoute" => {
                format!("DECIDE: {}", left(value, "has no equal: Weir sends each request to one version"))
            }
            "experiment" => format!("DECIDE: {}", left(value, "has no equal: Weir starts no versions of its own")),
            "plugin" => format!("DECIDE: {}", left(value, "has no equal; a hook `before_step` can stand for it")),
            _ => format!("DECIDE: {}", left(value, "is no step that is known here")),
        };
        self.comment(text);
    }
}

/// How long a pause is: a length of time, or a number of seconds.
fn pause_length(value: &ImportedValue) -> Result<Period, Wrong> {
    let written = value.text().unwrap_or_default();
    let seconds = written.parse().ok().map(Period::from_secs);
    let wrong = || Wrong::at(value, format!("`duration` is {}; expected a time such as 30s or 5m", quoted(written)));
    seconds.or_else(|| go_duration(written)).ok_or_else(wrong)
}
