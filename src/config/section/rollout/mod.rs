//! How a service is rolled out, as the file says it.
//!
//! ```text
//! release: v2      the version that should serve
//! rollout:         ─► Plan ─┬─ steps       which weights, how long, behind which gate      steps.rs
//!                           ├─ checks      what each analysis run measures, and its limit  checks.rs
//!                           ├─ evidence    how sure, and from when on                      evidence.rs
//!                           ├─ windows     how far back, at least one interval             windows.rs
//!                           ├─ way back    what sends the traffic back, and how            rollback.rs
//!                           └─ hooks       who is called                                   hooks.rs
//! ```
//!
//! Every field has a default, so `rollout: {}` is a careful rollout, and `release` without `rollout` is the same:
//! a change of `release` never moves all traffic unjudged.
//!
//! Invariant: a [`Plan`](crate::rollout::plan::Plan) that was read is valid: steps are not empty and do not fall,
//! names are unique, every number is in its range, and the limits of its checks fit into a histogram as edges.

mod checks;
mod evidence;
mod hooks;
mod plan;
mod rollback;
mod steps;
mod windows;

pub(crate) use self::checks::duration_limits;
pub(crate) use self::plan::default_plan;
