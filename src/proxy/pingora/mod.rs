//! The general lane: pingora's engine carries HTTP/1.0 and whatever the express lane does not, or everything where that is off.

mod admission;
mod attempt;
pub(crate) mod canonical;
pub(crate) mod connection;
pub(crate) mod connector;
pub(crate) mod context;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod exchange;
mod h2_message;
pub(crate) mod h2_relay;
pub(crate) mod handle;
pub(crate) mod hooks;
pub(crate) mod inbound;
pub(crate) mod intake;
pub(crate) mod message;
pub(crate) mod serve;
mod upload;
