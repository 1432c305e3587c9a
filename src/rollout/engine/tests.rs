//! Tests of the engine: each rule by itself, every sequence against naive invariants, and a policy replayed by hand.

mod rig;

mod alerts;
mod both_bad;
mod checks;
mod flagger;
mod forward;
mod going_back;
mod hooks;
mod model;
mod operators;
mod releases;
mod stored;
mod table;
