//! The weights that a rollout goes through: each written out, or counted from a few numbers.
//!
//! ```text
//! steps: [{ weight, hold, gate … }]          as written
//! step_weight: 20, max_weight: 50            20, 40, 50     clamped: never above the maximum
//! step_weights: [1, 2, 80], max_weight: 50   1, 2, 50
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{PathStep, Read, Reader};
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::Period;
use crate::model::Weight;
use crate::rollout::plan::{Gate, GateDefault, Step};

/// How many steps a rollout may have.
pub(crate) const MAX_STEPS: usize = 1_000;
/// The least `step_weight`, in basis points: with it there are no more than [`MAX_STEPS`].
const MIN_STEP: u16 = 10;
/// How long a gate may wait before its default.
const GATE_TIMEOUT: RangeInclusive<Period> = Period::SECOND..=Period::from_secs(30 * 86_400);
/// The weights of a rollout that names none, in percent.
pub(crate) const WEIGHTS: [u16; 6] = [1, 5, 10, 25, 50, 100];

pub(crate) fn default_weights() -> Vec<Weight> {
    WEIGHTS.iter().filter_map(|percent| Weight::from_basis_points(percent * 100)).collect()
}

/// What the file says of steps, in whichever form.
pub(crate) struct Given {
    /// The long form; empty: the short one.
    pub(crate) steps: Vec<StepFields>,
    pub(crate) step_weight: Option<Weight>,
    pub(crate) step_weights: Vec<Weight>,
    pub(crate) max_weight: Weight,
    /// Of each step that does not say it itself.
    pub(crate) hold: Option<Period>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            step_weight: None,
            step_weights: default_weights(),
            max_weight: Weight::FULL,
            hold: None,
        }
    }
}

/// The steps that a rollout with this `window` has.
pub(crate) fn steps(given: Given, window: Period) -> Vec<Step> {
    let hold = given.hold;
    if given.steps.is_empty() {
        let weights = short_form(given.step_weight, given.step_weights, given.max_weight);
        return weights
            .into_iter()
            .map(|weight| Step { weight, hold: held(weight, hold, window), gate: None })
            .collect();
    }
    given.steps.into_iter().map(|step| step.step(hold, window)).collect()
}

/// The weights up to the maximum, of which the last is the maximum itself if the weights reach it.
fn short_form(step: Option<Weight>, listed: Vec<Weight>, max: Weight) -> Vec<Weight> {
    let weights = step.map_or(listed, even);
    let below = weights.iter().take_while(|weight| **weight < max).copied();
    let reaches = weights.iter().any(|weight| *weight >= max);
    below.chain(reaches.then_some(max)).collect()
}

/// So much more with each step, up to everything.
fn even(step: Weight) -> Vec<Weight> {
    let full = Weight::FULL.basis_points();
    let even = (step.basis_points()..=full).step_by(usize::from(step.basis_points()));
    even.chain([full]).filter_map(Weight::from_basis_points).collect()
}

/// How long a step is held that does not say it: what the rollout says; else its window, so that the step is
/// judged by traffic of its own. At 100 % not at all: what follows is the bake.
fn held(weight: Weight, stated: Option<Period>, window: Period) -> Duration {
    if weight == Weight::FULL { Duration::ZERO } else { stated.unwrap_or(window).get() }
}

/// Notes forms of steps that exclude each other.
pub(crate) fn check_forms(fields: &mut Fields<'_, '_>) {
    for other in ["step_weight", "step_weights", "max_weight"] {
        if fields.get("steps").is_some() && fields.get(other).is_some() {
            fields.fault_at(other, |place| {
                Problem::new(place, format!("`steps` and `{other}` together"))
                    .help("`steps` names every weight by itself: keep it, or the short form without it")
            });
        }
    }
    if fields.get("step_weight").is_some() && fields.get("step_weights").is_some() {
        fields.fault_at("step_weights", |place| {
            Problem::new(place, "`step_weight` and `step_weights` together")
                .help("keep `step_weight` for even steps, or `step_weights` to name each")
        });
    }
}

pub(crate) fn read_step_weight<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Weight> {
    let weight = Weight::read(node, reader)?;
    if weight.basis_points() >= MIN_STEP { Some(weight) } else { reader.wrong(node, "0.1 to 100", None) }
}

/// A weight above 0.
pub(crate) fn read_weight<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Weight> {
    let weight = Weight::read(node, reader)?;
    if weight > Weight::ZERO { Some(weight) } else { reader.wrong(node, "0.01 to 100", None) }
}

pub(crate) fn read_weights<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<Weight>> {
    let items = reader.items(node, "a list of weights, such as `[1, 10, 50]`", read_weight)?;
    reader.count(items.total, &bounds, node.place)?;
    let weights = items.good.iter().map(|(at, node, weight)| (*at, *node, *weight));
    rising(reader, weights)?;
    items.all()
}

/// Whether weights do not fall.
fn rising<'n>(reader: &mut Reader<'n>, weights: impl Iterator<Item = (usize, &'n Node<'n>, Weight)>) -> Option<()> {
    let mut highest: Option<Weight> = None;
    let mut rises = true;
    for (at, node, weight) in weights {
        if let Some(before) = highest.filter(|before| weight < *before) {
            rises = false;
            let value = node.field("weight").map_or(node.place, |(_, value)| value.place);
            reader.below(PathStep::Item(at), node.place, |reader| {
                let problem = Problem::new(value, format!("the weight falls from {before} to {weight}"));
                reader.note(
                    problem
                        .expected(format!("{before} or more"))
                        .help("steps only go up; going back is what `rollback` does"),
                );
            });
        }
        highest = highest.max(Some(weight));
    }
    rises.then_some(())
}

pub(crate) fn read_steps<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
) -> Option<Vec<StepFields>> {
    const EXPECTED: &str = "a list of steps, such as `[{ weight: 10, hold: 5m }, { weight: 100 }]`";
    let items = reader.items(node, EXPECTED, |reader, node| StepFields::read(node, reader))?;
    reader.count(items.total, &bounds, node.place)?;
    rising(reader, items.good.iter().map(|(at, node, step)| (*at, *node, step.weight)))?;
    items.all()
}

section! {
    /// One weight of a rollout.
    #[derive(Clone)]
    pub(crate) struct StepFields as "RolloutStep" {
        /// The canary's weight, above 0.
        weight: Weight = required_with(read_weight),
        /// How long it is held, at least: `0s` to `7d`. Default: the rollout's `hold`.
        hold: Option<Period> = within(Period::ZERO..=Period::WEEK),
        /// `manual`: a person must approve what comes after this step.
        gate: Option<GateKeeper> = optional(),
        /// How long the gate waits: `1s` to `30d`. Default: for ever.
        gate_timeout: Option<Period> = within(GATE_TIMEOUT),
        /// What happens when nobody answered in time.
        gate_default: GateDefault = with_or(GateDefault::Abort, "abort", read_gate_default),
    }
    rules(fields) {
        check_gate(&mut fields);
    }
}

impl StepFields {
    fn step(self, stated: Option<Period>, window: Period) -> Step {
        let hold = self.hold.map_or_else(|| held(self.weight, stated, window), Period::get);
        let (timeout, default) = (self.gate_timeout.map(Period::get), self.gate_default);
        Step { weight: self.weight, hold, gate: self.gate.map(|GateKeeper::Manual| Gate { timeout, default }) }
    }
}

fn check_gate(fields: &mut Fields<'_, '_>) {
    for of_gate in ["gate_timeout", "gate_default"] {
        if fields.get(of_gate).is_some() && fields.get("gate").is_none() {
            fields.fault_at(of_gate, |place| {
                Problem::new(place, format!("`{of_gate}` without `gate`")).help("add `gate: manual`, or remove it")
            });
        }
    }
    if fields.get("gate_default").is_some() && fields.get("gate_timeout").is_none() && fields.get("gate").is_some() {
        fields.fault_at("gate_default", |place| {
            Problem::new(place, "`gate_default` without `gate_timeout`")
                .help("without a timeout the gate waits for ever: add `gate_timeout: 4h`, or remove `gate_default`")
        });
    }
}

words! {
    /// Who opens a gate.
    #[derive(Clone, Copy)]
    pub(crate) enum GateKeeper as "Gate" {
        /// A person.
        Manual = "manual",
    }
}

words! {
    /// What a gate that nobody answers does.
    impl GateDefault as "GateDefault" {
        /// The rollout is aborted.
        Abort = "abort",
        /// The rollout goes on.
        Approve = "approve",
        /// The rollout pauses.
        Pause = "pause",
    }
}

fn read_gate_default<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<GateDefault> {
    GateDefault::read(node, reader)
}
