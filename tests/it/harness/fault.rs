//! Addresses where the network itself is at fault.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use weir::model::Address;

/// An address that answers no connection attempt at all, as behind a firewall that drops packets.
///
/// A listener whose accept queue is full and which nobody empties: the kernel drops further SYNs.
pub(crate) struct BlackHole {
    listener: Socket,
    _fillers: Fillers,
}

/// Connections that keep the queue of a listener full.
pub(crate) struct Fillers(#[expect(dead_code, reason = "they are there")] Vec<Socket>);

impl BlackHole {
    /// Opens one on 127.0.0.1.
    pub(crate) fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        Self { _fillers: Fillers::of(&listener), listener }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> Address {
        Address::Inet(self.listener.local_addr().unwrap().as_socket().unwrap())
    }
}

impl Fillers {
    /// Fills the queue of this listener, which has a length of 0.
    pub(crate) fn of(listener: &Socket) -> Self {
        let address = listener.local_addr().unwrap();
        let fillers = (0..FILLERS).map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            // In progress is all that a filler ever is.
            filler.connect(&address).ok();
            filler
        });
        Self(fillers.collect())
    }
}

/// A queue of length 0 takes one connection; more of them stay half open and are harmless.
const FILLERS: usize = 4;
