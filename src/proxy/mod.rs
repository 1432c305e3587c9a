//! proxy.

pub mod proxy_protocol;
