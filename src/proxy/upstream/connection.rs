//! Open connections to endpoints: whether they may be used again, and how they are ended.
//!
//! Each connection has a [`ConnectionHandle`] with its own duplicate of the socket. A drain shuts idle sockets down
//! through it (the pool sees the end of the stream and forgets them), a deadline ends the connection under a request, and
//! a connection that must not be used again says so at the moment somebody takes it from the pool.
//!
//! Invariant: a connection whose response began before its request was fully written is never used again; the
//! endpoint could take the rest of that request for the start of the next one. See
//! [`upload`](crate::proxy::request::upload).

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::destination::Destination;
use crate::proxy::io::tcp_info::TcpInfo;
use crate::proxy::io::transport::Transport;
use crate::snapshot::live::{EndpointLive, Limiter, Permit, UpstreamConnection};

/// A connection that a request uses.
pub(crate) struct PooledConnection {
    pub(crate) transport: Transport,
    pub(crate) checkout: Checkout,
}

/// An open upstream connection, told apart from its stream so that others can end it.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    socket: OwnedFd,
    live: Arc<EndpointLive>,
    max_idle: usize,
    /// Whether several requests may be on it at once, as over HTTP/2.
    shared: bool,
    /// Whether TLS is spoken on it.
    tls: bool,
    /// Whether the request on it is not its first. Not kept for shared ones: their pool knows.
    reused: AtomicBool,
    /// Checkouts of it now. Over HTTP/1 its stream has one and the request another, which may last a little longer.
    busy: AtomicUsize,
    /// Not to be used again once it is free.
    closing: AtomicBool,
    /// Whether it counts among the endpoint's idle connections.
    counted_idle: AtomicBool,
    /// Bytes that were read since the client took some.
    ahead: AtomicUsize,
    /// Its permit, where connections of its version are limited, until it closes.
    permit: Mutex<Option<Permit>>,
    /// Those who wait for one.
    limiter: Option<Arc<Limiter>>,
}

impl ConnectionHandle {
    /// The handle of a new connection, through which whoever drains the endpoint can end it.
    pub(super) fn open(socket: OwnedFd, to: &Destination, permit: Option<Permit>) -> Arc<Self> {
        let handle = Arc::new(Self {
            socket,
            live: Arc::clone(&to.live),
            max_idle: to.upstream.max_idle,
            shared: to.upstream.http2,
            tls: to.upstream.tls.is_some(),
            reused: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            counted_idle: AtomicBool::new(false),
            ahead: AtomicUsize::new(0),
            permit: Mutex::new(permit),
            limiter: to.upstream.connections.as_ref().map(|limit| Arc::clone(&limit.limiter)),
        });
        let weak: Weak<dyn UpstreamConnection> = Arc::<Self>::downgrade(&handle);
        to.live.opened(weak);
        handle
    }

    /// Bytes that were read since the client took some.
    pub(crate) fn ahead(&self) -> usize {
        self.ahead.load(Ordering::Relaxed)
    }

    /// The engine read bytes of an answer.
    pub(crate) fn read(&self, bytes: usize) {
        self.ahead.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Something came on it while no request was.
    pub(crate) fn unsolicited(&self) {
        self.live.unsolicited();
    }

    /// Whether the endpoint has sent something that was not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        rustix::net::recv(&self.socket, &mut byte, flags).is_ok_and(|(_, read)| read > 0)
    }

    fn shut(&self) {
        // The peer may have closed it first; there is nobody to tell.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// It is closed, although a pool may hold it for a while yet.
    fn drop_permit(&self) {
        if self.limiter.is_some() {
            drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Whether it must not be used again.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Notes whether the request on it is not its first.
    pub(crate) fn set_reused(&self, reused: bool) {
        self.reused.store(reused, Ordering::Relaxed);
    }

    /// Not to be used again: it closes with its last request.
    pub(crate) fn retire(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Whether nobody uses it and the endpoint has closed it.
    pub(crate) fn is_closed_idle(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        self.busy.load(Ordering::SeqCst) == 0
            && rustix::net::recv(&self.socket, &mut byte, flags).is_ok_and(|(_, read)| read == 0)
    }

    /// Takes a connection for a request.
    pub(crate) fn check_out(self: &Arc<Self>) -> Checkout {
        self.enter().1
    }

    /// Takes a connection that was used before for another request. `None` if it must not be used again.
    pub(crate) fn check_out_again(self: &Arc<Self>) -> Option<Checkout> {
        let (others, checkout) = self.enter();
        // Of a shared connection only the first request decides; others on it would be ended with it.
        let refusable = others == 0 || !self.shared;
        if refusable && self.is_closing() { None } else { Some(checkout) }
    }

    /// Another user; how many others there are.
    fn enter(self: &Arc<Self>) -> (usize, Checkout) {
        let others = self.busy.fetch_add(1, Ordering::SeqCst);
        if self.counted_idle.swap(false, Ordering::AcqRel) {
            self.live.idle.fetch_sub(1, Ordering::Relaxed);
        }
        (others, Checkout(Arc::clone(self)))
    }
}

impl UpstreamConnection for ConnectionHandle {
    fn close_idle(&self) {
        self.closing.store(true, Ordering::SeqCst);
        if self.busy.load(Ordering::SeqCst) == 0 {
            self.shut();
            self.drop_permit();
        }
    }

    fn give_way(&self) -> bool {
        // One that closes already is no help.
        if self.busy.load(Ordering::SeqCst) > 0 || self.closing.swap(true, Ordering::SeqCst) {
            return false;
        }
        let idle = self.busy.load(Ordering::SeqCst) == 0;
        if idle {
            self.shut();
            self.drop_permit();
        }
        idle
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        if *self.counted_idle.get_mut() {
            self.live.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A request's use of an upstream connection.
#[derive(Debug)]
#[must_use = "the connection is busy only while its checkout lives"]
pub(crate) struct Checkout(Arc<ConnectionHandle>);

impl Checkout {
    /// Whether the request is not the connection's first.
    pub(crate) fn is_reused(&self) -> bool {
        self.0.reused.load(Ordering::Relaxed)
    }

    /// Whether TLS is spoken on the connection.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.tls
    }

    /// The request is over; the connection may be used for another unless the handle says that it is closing.
    pub(crate) fn release(self) -> Arc<ConnectionHandle> {
        Arc::clone(&self.0)
    }

    /// The connection that it holds.
    pub(crate) fn handle(&self) -> Arc<ConnectionHandle> {
        Arc::clone(&self.0)
    }

    /// The endpoint may take the rest of this request for the next one: the connection must not be reused.
    /// HTTP/2 frames keep requests apart, so a shared connection stays as it is.
    pub(crate) fn mark_unusable(&self) {
        if !self.0.shared {
            self.0.closing.store(true, Ordering::SeqCst);
        }
    }

    /// Whether bytes of an answer over HTTP/1 wait behind what the client takes.
    pub(crate) fn is_held_up(&self) -> bool {
        self.0.ahead() > 0
    }

    /// The client takes what was read so far.
    pub(crate) fn taken(&self) {
        self.0.ahead.store(0, Ordering::Relaxed);
    }

    /// Holds what is written back in the kernel, or lets it go; whether it is held. Unix sockets hold nothing.
    pub(crate) fn cork(&self, hold: bool) -> bool {
        rustix::net::sockopt::set_tcp_cork(&self.0.socket, hold).is_ok() && hold
    }

    /// Whether the endpoint has sent something that was not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        self.0.has_unread()
    }

    /// How many bytes the endpoint sent since the connection was made, read or not; none where the kernel does not tell.
    pub(crate) fn received(&self) -> Option<u64> {
        // Frames keep requests apart on a shared connection: nobody needs to know.
        let told = !self.0.shared;
        told.then(|| TcpInfo::of(&self.0.socket).ok()).flatten().map(|info| info.bytes_received())
    }

    /// Whether the endpoint acknowledged all that was written to it. What was written to a unix socket is there.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.0.shared || TcpInfo::of(&self.0.socket).map_or(true, |info| info.is_acknowledged())
    }

    /// Whether an answer whose first byte is here now can only be one to the whole request; not where nobody knows.
    pub(crate) fn is_answered_late(&self) -> bool {
        self.0.shared || TcpInfo::of(&self.0.socket).is_ok_and(|info| info.is_answered_late())
    }

    /// Ends the connection now if this request is the only one on it; whether it did.
    pub(crate) fn end(&self) -> bool {
        self.0.closing.store(true, Ordering::SeqCst);
        let alone = !self.0.shared || self.0.busy.load(Ordering::SeqCst) <= 1;
        if alone {
            self.0.shut();
        }
        alone
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let handle = &self.0;
        if handle.busy.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        // What closes now is no idle connection any more.
        if !handle.is_closing()
            && !handle.counted_idle.swap(true, Ordering::AcqRel)
            && handle.live.idle.fetch_add(1, Ordering::Relaxed) >= handle.max_idle
        {
            handle.closing.store(true, Ordering::SeqCst);
        }
        // Who waits for a new connection may not know of this one: its endpoint is another's, or its worker.
        let is_wanted = handle.limiter.as_ref().is_some_and(|limiter| limiter.waiting() > 0);
        if is_wanted || handle.closing.load(Ordering::SeqCst) || !handle.live.is_accepting() {
            handle.close_idle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EndpointState;
    use crate::snapshot::live::EndpointRegistry;

    fn handle(shared: bool) -> Arc<ConnectionHandle> {
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let mut registry = EndpointRegistry::default();
        let version = registry.version(&"shop".into(), &"v1".into());
        let live = registry.endpoint(&version, &address, EndpointState::Ready);
        Arc::new(ConnectionHandle {
            socket: socket.into(),
            live,
            max_idle: 8,
            shared,
            tls: false,
            reused: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            counted_idle: AtomicBool::new(false),
            ahead: AtomicUsize::new(0),
            permit: Mutex::default(),
            limiter: None,
        })
    }

    #[test]
    fn an_unusable_connection_is_refused_even_while_its_last_request_still_ends() {
        let handle = handle(false);
        let first = handle.check_out();
        first.mark_unusable();
        assert!(handle.check_out_again().is_none(), "the engine pooled it before the first request was over");
        drop(first);
        assert!(handle.check_out_again().is_none());
    }

    #[test]
    fn an_early_answer_does_not_cost_a_shared_connection() {
        let handle = handle(true);
        let first = handle.check_out();
        first.mark_unusable();
        let second = handle.check_out_again().unwrap();
        assert!(!second.end(), "another stream is on it");
        drop(first);
        assert!(second.end());
    }
}
