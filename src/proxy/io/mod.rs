//! Bytes on their way: sockets, plain or under TLS, and the memory between them.

pub(crate) mod buffer;
pub(crate) mod tcp_info;
pub(crate) mod timer;
pub(crate) mod transport;
pub(crate) mod wakers;
