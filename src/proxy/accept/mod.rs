//! Where clients come in: bound sockets, connections up to a cap, the PROXY protocol, TLS, and which lane serves a
//! connection.

pub(crate) mod listener;
pub(crate) mod proxy_protocol;
mod socket;
