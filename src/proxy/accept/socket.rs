//! Listening sockets: one for each worker, so that the kernel spreads connections and no worker wakes another.
//!
//! ```text
//! TCP   worker 0: socket ┐ same address (SO_REUSEPORT): the kernel hashes each connection to one of them
//!       worker 1: socket ┘
//! unix  worker 0, 1: the same socket; whoever comes first accepts
//! ```
//!
//! Invariant: an address that another process listens on is refused. `SO_REUSEPORT` alone would share it, and
//! half of the connections would go to a stranger; so the address is first bound without it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};

use crate::model::Address;
use crate::proxy::io::transport::Socket;

/// Connections the kernel may keep waiting for us, per socket.
const BACKLOG: i32 = 4096;

/// A client that vanished without a word is noticed after two minutes, also where nothing is sent to it.
const KEEPALIVE: socket2::TcpKeepalive = socket2::TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// A bound socket that no runtime knows yet.
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Which families a socket at an IPv6 address takes; whatever the system's default is (`net.ipv6.bindv6only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// Only IPv6.
    Own,
    /// IPv4 as well, where the address is `[::]`.
    Both,
}

/// Binds `workers` sockets at `address`.
pub(crate) fn bind(address: &Address, families: Families, workers: usize) -> io::Result<Vec<Bound>> {
    match address {
        Address::Inet(address) => Ok(bind_tcp(*address, families, workers)?.into_iter().map(Bound::Tcp).collect()),
        Address::Unix(path) => {
            let socket = listen_unix(path)?;
            (0..workers).map(|_| Ok(Bound::Unix(socket.try_clone()?))).collect()
        }
    }
}

fn bind_tcp(address: SocketAddr, families: Families, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if workers <= 1 {
        return Ok(vec![listen_tcp(address, families, false)?]);
    }
    // Alone first: shows whether anybody else listens there, and which port 0 becomes.
    let alone = listen_tcp(address, families, false)?;
    let address = alone.local_addr()?;
    drop(alone);
    (0..workers).map(|_| listen_tcp(address, families, true)).collect()
}

/// Binds one socket, which other sockets of this process may have to share.
pub(crate) fn listen_tcp(address: SocketAddr, families: Families, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(families == Families::Own || !address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Whoever is accepted inherits both. Without delay: messages are gathered before they are written.
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds a unix socket, taking away one that a process left behind.
pub(crate) fn listen_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
            Err(_) => fs::remove_file(path)?,
        }
    }
    let socket = std::os::unix::net::UnixListener::bind(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Bound {
    /// Where it is bound; none for a path.
    pub(crate) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }

    /// Gives the socket to the runtime that calls.
    pub(crate) fn listen(self) -> io::Result<AsyncFd<Queue>> {
        let queue = match self {
            Self::Tcp(socket) => Queue::Tcp(socket),
            Self::Unix(socket) => Queue::Unix(socket),
        };
        #[expect(deprecated, reason = "only for types whose descriptor may change; a queue keeps its own")]
        AsyncFd::with_interest(queue, Interest::READABLE)
    }
}

/// How connections are accepted: one system call says all of it.
const ACCEPTED: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket and the connections that wait on it; it does not block.
pub(crate) enum Queue {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Queue {
    /// Whether a connection waits, as the system has it now.
    pub(crate) fn has_waiting(&self) -> bool {
        let mut queue = [PollFd::new(self, PollFlags::IN)];
        poll(&mut queue, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// The next connection that waits, and its address if it has one.
    pub(crate) fn next(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = retry_on_intr(|| acceptfrom_with(listener, ACCEPTED))?;
                let stream = TcpStream::from_std(stream.into())?;
                // The kernel gives the address along; a socket that has none was closed by its client meanwhile.
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
                Ok((stream.into(), Some(peer.ip().to_canonical())))
            }
            Self::Unix(listener) => {
                let stream = retry_on_intr(|| accept_with(listener, ACCEPTED))?;
                Ok((UnixStream::from_std(stream.into())?.into(), None))
            }
        }
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::OFlags;
    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn an_accepted_connection_is_asked_whether_it_lives() {
        let queue = Queue::Tcp(listen_tcp(([127, 0, 0, 1], 0).into(), Families::Own, false).unwrap());
        let Queue::Tcp(listener) = &queue else { return };
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let asked = |stream| socket2::SockRef::from(stream).keepalive().unwrap();
        assert!(asked(&accepted) && !asked(&client));
        assert_eq!(socket2::SockRef::from(&accepted).tcp_keepalive_time().unwrap().as_secs(), 60);
    }

    #[tokio::test]
    async fn an_accepted_connection_does_not_block_nor_delay_and_is_for_no_other_program() {
        let flags = |number: RawFd| {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            OFlags::from_bits_retain(u32::from_str_radix(flags.trim(), 8).unwrap())
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listener");
        let unix = Queue::Unix(listen_unix(&path).unwrap());
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (accepted, peer) = unix.next().unwrap();
        assert!(peer.is_none() && flags(accepted.raw_fd()).contains(OFlags::NONBLOCK | OFlags::CLOEXEC));

        let tcp = listen_tcp(([127, 0, 0, 1], 0).into(), Families::Own, false).unwrap();
        let address = tcp.local_addr().unwrap();
        let _clients = [0, 1].map(|_| std::net::TcpStream::connect(address).unwrap());
        let accepted = accept_with(&tcp, ACCEPTED).unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap(), "it is inherited");
        let (accepted, peer) = Queue::Tcp(tcp).next().unwrap();
        assert_eq!(peer, Some(address.ip()));
        assert!(flags(accepted.raw_fd()).contains(OFlags::NONBLOCK | OFlags::CLOEXEC));
    }

    #[test]
    fn workers_share_an_address_that_nobody_else_may_take() {
        let sockets = bind_tcp(([127, 0, 0, 1], 0).into(), Families::Own, 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        for workers in [1, 2] {
            let refused = bind_tcp(address, Families::Own, workers).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{workers} workers");
        }
    }
}
