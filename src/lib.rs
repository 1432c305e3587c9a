//! Weir carries a service's traffic and shifts it between versions of that service.
//!
//! Everything happens on one of two lines:
//!
//! ```text
//! 1 the traffic line   client ─ listener ─ validate ─ route ─ split ─ balance ─ forward ─ record ─ client
//!                                  ▲ load once                                       │ counters
//!                               Current ◄──────────── publish ──────────┐            ▼
//! 2 the control line   file·SIGHUP (watch) ─┐                           │         Recorder
//!                      people (admin)       ├─ Proposal ─► control ─ compile
//! ```
//!
//! Line 1 is thousands of tasks and never waits for line 2. Line 2 is one task with one closed enum.
//!
//! The modules are layers; arrows go only down, and `tests/it/tidy/layers.rs` holds them to it:
//!
//! ```text
//! cli                                              the command line
//! app                                              composition root, signals, shutdown
//! admin                                            control API, /metrics, /livez, /readyz
//! proxy                                            the data plane; the only folder that knows pingora
//! control                                          the one owner of what requests read
//! rollouts                                         the controller: one rollout per service, driven by the engine
//! snapshot                                         the compiled configuration, replaced whole
//! config   traffic   tls   telemetry   store   outbound    leaves; strangers to each other
//! rollout    health                                rollouts and health of endpoints as pure logic
//! model    drain    coop   algorithm   http_client    words; work in pieces; what several rooms need once
//! ```

#![forbid(unsafe_code)]

pub mod admin;
mod algorithm;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
mod coop;
pub mod drain;
mod health;
pub mod http_client;
pub mod model;
pub mod outbound;
mod proxy;
pub mod rollout;
mod rollouts;
pub mod snapshot;
pub mod store;
pub mod telemetry;
mod tls;
pub mod traffic;

/// What `fuzz/` runs: each takes any bytes, and panics if the code breaks a promise.
#[cfg(fuzzing)]
pub mod fuzz {
    use crate::proxy::fuzz;

    /// HTTP/2 frames one after the other.
    pub fn frames(bytes: &[u8]) {
        fuzz::frames(bytes);
    }

    /// A header block, after a byte that says where it is cut.
    pub fn hpack(bytes: &[u8]) {
        fuzz::hpack(bytes);
    }

    /// A string in Huffman's code.
    pub fn huffman(bytes: &[u8]) {
        fuzz::huffman(bytes);
    }
}
