//! Where clients come in: bound sockets, connections up to a cap, the PROXY protocol, TLS, and which lane serves a
//! connection.

pub mod listener;
pub mod proxy_protocol;
mod socket;
