//! The stories: the real binary on real sockets, with real clients and real origins.
//!
//! One binary for all of them, so they share one build; each story owns everything it touches and they run in
//! parallel. Their vocabulary (`Origin`, `Weir`, `H1`, `H2`, `Load`, `Ledger`, `eventually`) is in [`harness`].

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on says so by ending; its helpers are outside of #[test] functions"
)]

mod harness;
mod harness_selftest;

mod access_log;
mod affinity;
mod balance;
mod certificates;
mod cohorts;
mod concurrency;
mod discovery;
mod docs;
mod drain;
mod flags;
mod forward;
mod frames;
mod h2_endpoint;
mod health;
mod health_check;
mod hostile;
mod http1;
mod http2;
mod import;
mod lanes;
mod large;
mod listener;
mod log;
mod mirror;
mod one_of_three;
mod operate;
mod packaging;
mod provider;
mod reload;
mod retry;
mod rolling;
mod rollout;
mod rules;
mod seats;
mod shutdown;
mod signals;
mod split;
mod streams;
mod tidy;
