//! The weights that a rollout goes through: each written out, or counted from a few numbers.
//!
//! ```text
//! steps: [{ weight, hold, gate … }]          as written
//! step_weight: 20, max_weight: 50            20, 40, 50     clamped: never above the maximum
//! step_weights: [1, 2, 80], max_weight: 50   1, 2, 50
//! ```

use std::time::Duration;

use super::{SECOND, WEEK};
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Fields, Read, Reader, Step as At};
use crate::config::syntax::values::Period;
use crate::config::syntax::yaml::Node;
use crate::model::Weight;
use crate::rollout::plan::{Gate, GateDefault, Step};

/// How many steps a rollout may have.
const MAX_STEPS: usize = 1_000;
/// The least `step_weight`, in basis points: with it there are no more than [`MAX_STEPS`].
const MIN_STEP: u16 = 10;
/// How long a gate may wait before its default.
const GATE_TIMEOUT: std::ops::RangeInclusive<Period> = SECOND..=Period::from_secs(30 * 86_400);
/// The weights of a rollout that names none, in basis points.
const WEIGHTS: [u16; 6] = [100, 500, 1_000, 2_500, 5_000, 10_000];

/// The short form of steps.
pub(crate) struct Shape {
    weights: Vec<Weight>,
    max: Weight,
    /// Of each step, if stated.
    hold: Option<Duration>,
}

impl Default for Shape {
    fn default() -> Self {
        let weights = WEIGHTS.iter().copied().filter_map(Weight::from_basis_points).collect();
        Self { weights, max: Weight::FULL, hold: None }
    }
}

impl Shape {
    /// The steps: the weights up to the maximum, of which the last is the maximum itself if the weights reach it.
    pub(crate) fn steps(&self, window: Period) -> Vec<Step> {
        let below = self.weights.iter().take_while(|weight| **weight < self.max).copied();
        let reaches = self.weights.iter().any(|weight| *weight >= self.max);
        let weights = below.chain(reaches.then_some(self.max));
        weights.map(|weight| Step { weight, hold: hold(weight, self.hold, window), gate: None }).collect()
    }
}

/// How long a step is held that does not say it: what the rollout says; else its window, so that the step is
/// judged by traffic of its own. At 100 % not at all: what follows is the bake.
fn hold(weight: Weight, stated: Option<Duration>, window: Period) -> Duration {
    if weight == Weight::FULL { Duration::ZERO } else { stated.unwrap_or_else(|| window.get()) }
}

/// The steps of a rollout, in whichever form they are written.
pub(crate) fn read(fields: &mut Fields<'_, '_>, window: Period) -> Option<Vec<Step>> {
    let general = fields.within("hold", Period::from_secs(0)..=WEEK);
    let stated = general.flatten().map(Period::get);
    let steps = fields.with("steps", |reader, node| read_list(reader, node, stated, window));
    let short = read_short(fields, stated);
    for other in ["step_weight", "step_weights", "max_weight"] {
        if fields.get("steps").is_some() && fields.get(other).is_some() {
            fields.fault_at(other, |place| {
                Problem::new(place, format!("`steps` and `{other}` together"))
                    .help("`steps` names every weight by itself: keep it, or the short form without it")
            });
        }
    }
    general?;
    Some(match steps? {
        Some(steps) => steps,
        None => short?.steps(window),
    })
}

/// The short form; with nothing written, the default.
fn read_short(fields: &mut Fields<'_, '_>, hold: Option<Duration>) -> Option<Shape> {
    let max = fields.with("max_weight", read_weight);
    let step = fields.with("step_weight", |reader, node| {
        let weight = Weight::read(node, reader)?;
        if weight.basis_points() >= MIN_STEP { Some(weight) } else { reader.wrong(node, "0.1 to 100", None) }
    });
    let listed = fields.with("step_weights", read_weights);
    if fields.get("step_weight").is_some() && fields.get("step_weights").is_some() {
        fields.fault_at("step_weights", |place| {
            Problem::new(place, "`step_weight` and `step_weights` together")
                .help("keep `step_weight` for even steps, or `step_weights` to name each")
        });
    }
    let max = max?.unwrap_or(Weight::FULL);
    let weights = match (step?, listed?) {
        (_, Some(listed)) => listed,
        (Some(step), None) => {
            let whole = Weight::FULL.basis_points();
            let step_by = usize::from(step.basis_points());
            let even = (step.basis_points()..=whole).step_by(step_by);
            even.chain([whole]).filter_map(Weight::from_basis_points).collect()
        }
        (None, None) => Shape::default().weights,
    };
    Some(Shape { weights, max, hold })
}

/// A weight above 0.
fn read_weight<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Weight> {
    let weight = Weight::read(node, reader)?;
    if weight > Weight::ZERO { Some(weight) } else { reader.wrong(node, "0.01 to 100", None) }
}

fn read_weights<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Weight>> {
    let items = reader.items(node, "a list of weights, such as `[1, 10, 50]`", read_weight)?;
    reader.count(items.total, &(1..=MAX_STEPS), node.place)?;
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
            reader.below(At::Item(at), node.place, |reader| {
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

fn read_list<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    stated: Option<Duration>,
    window: Period,
) -> Option<Vec<Step>> {
    const EXPECTED: &str = "a list of steps, such as `[{ weight: 10, hold: 5m }, { weight: 100 }]`";
    let items = reader.items(node, EXPECTED, |reader, node| read_step(reader, node, stated, window))?;
    reader.count(items.total, &(1..=MAX_STEPS), node.place)?;
    rising(reader, items.good.iter().map(|(at, node, step)| (*at, *node, step.weight)))?;
    items.all()
}

fn read_step<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    stated: Option<Duration>,
    window: Period,
) -> Option<Step> {
    let mut fields = reader.fields(node, &["weight", "hold", "gate", "gate_timeout", "gate_default"])?;
    let weight = fields.required_with("weight", read_weight);
    let own = fields.within("hold", Period::from_secs(0)..=WEEK);
    let gate = fields.with("gate", |reader, node| reader.choose(node, &[("manual", ())]));
    let timeout = fields.within("gate_timeout", GATE_TIMEOUT);
    let words = &[("abort", GateDefault::Abort), ("approve", GateDefault::Approve), ("pause", GateDefault::Pause)];
    let default = fields.with("gate_default", |reader, node| reader.choose(node, words));
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
    fields.done()?;
    let (weight, timeout, default) = (weight?, timeout?.map(Period::get), default?.unwrap_or_default());
    let hold = own?.map_or_else(|| hold(weight, stated, window), Period::get);
    Some(Step { weight, hold, gate: gate?.map(|()| Gate { timeout, default }) })
}
