//! config.

pub mod watch;
