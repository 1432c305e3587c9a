//! Connections to endpoints: how they are made, kept for the next request, and closed.

pub(crate) mod connection;
pub(crate) mod door;
pub(crate) mod h2;
pub(crate) mod pool;
pub(crate) mod reach;
