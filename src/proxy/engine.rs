//! pingora's proxy with our connector to HTTP/1 endpoints, made outside of its server.
//!
//! The crate makes a proxy with another connector than its own only inside a listening service, and hands it out only
//! to a handler of connections in a protocol of one's own. So the service gets one connection, from here, and is
//! dropped with the runtime that it ran on; the proxy stays.

use std::future;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Fds, ListenFds};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use super::general::General;
use super::metered::Connector;

/// The engine of the general lane.
pub(crate) type Engine = HttpProxy<General, Connector>;

/// Makes an engine.
///
/// # Errors
/// The system's, if there is no loopback address to listen on for a moment.
///
/// # Panics
/// If the system's certificate authorities cannot be read: the engine does.
pub(crate) fn build(general: General, conf: ServerConf) -> io::Result<Arc<Engine>> {
    let (hand, handed) = oneshot::channel();
    let hand = Mutex::new(Some(hand));
    let mut options = HttpServerOptions::default();
    options.force_custom = true;
    let service = ProxyServiceBuilder::new(&Arc::new(conf), general)
        .custom(
            Connector,
            Arc::new(move |engine, _stream, _shutdown| {
                // Whoever else connects in that moment only makes it come sooner.
                if let Some(hand) = hand.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    let _ = hand.send(engine);
                }
                Box::pin(future::ready(None))
            }),
        )
        .server_options(options)
        .build();
    // A runtime of its own, and so a thread of its own: the caller may be on another one.
    let made = std::thread::scope(|scope| scope.spawn(move || hand_out(service, handed)).join());
    made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Lets the service serve one connection.
fn hand_out(mut service: Service<Engine>, handed: oneshot::Receiver<Arc<Engine>>) -> io::Result<Arc<Engine>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let mut sockets = Fds::new();
        sockets.add(address.to_string(), socket.into_raw_fd());
        let sockets: ListenFds = Arc::new(sockets.into());
        service.add_tcp(&address.to_string());
        let (_serving, shutdown) = watch::channel(false);
        tokio::spawn(async move { service.start_service(Some(sockets), shutdown, 1).await });
        let _knock = TcpStream::connect(address).await?;
        match tokio::time::timeout(HANDED, handed).await {
            Ok(Ok(engine)) => Ok(engine),
            _ => Err(io::Error::other("the engine was not handed out by its service")),
        }
    })
}

/// It takes a millisecond.
const HANDED: Duration = Duration::from_secs(10);
