//! The health of endpoints as pure logic: what takes an endpoint out, for how long, and what brings it back.
//!
//! | rule | file |
//! |---|---|
//! | an endpoint that answers with errors, or worse than the others of its version, is ejected for a time | [`outlier`] |
//! | an endpoint that accepts no connections is out until it does | [`reach`] |
//! | an endpoint that fails its checks is out until it passes them | [`check`], [`grpc`] |
//! | when it is checked | [`schedule`] |
//! | what a version without enough healthy endpoints does | `panic` |
//!
//! Time is an argument, and nothing here is shared: who keeps the state is `snapshot::live`, who asks endpoints is
//! `proxy::health`.

pub(crate) mod check;
pub(crate) mod grpc;
pub(crate) mod outlier;
pub(crate) mod panic;
pub(crate) mod reach;
pub(crate) mod schedule;
