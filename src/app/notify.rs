//! Tells systemd how the process is (`Type=notify`, sd_notify(3)): one datagram to `$NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends `state`, such as `READY=1`. Without a supervisor that listens nothing happens.
pub(super) fn notify(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let mut message = format!("{state}\n");
    if state == "RELOADING=1" {
        // systemd wants to know since when.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        message.push_str(&format!("MONOTONIC_USEC={micros}\n"));
    }
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "the supervisor could not be notified of `{state}`");
    }
}

/// How long a supervisor may leave its queue full. Who waits here takes signals.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);
