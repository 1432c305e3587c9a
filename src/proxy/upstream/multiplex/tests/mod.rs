//! A connection frame by frame ([`rules`]), and whole on loopback sockets, with the `h2` crate as the endpoint or one that
//! is scripted ([`sockets`]).

mod peer;
mod rules;
mod sockets;
