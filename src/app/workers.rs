//! The threads that carry traffic: each has a runtime of its own and everything it needs, and shares no queue
//! with the others.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::{StartError, system_error};
use crate::proxy::accept::listener::{self, Listener};
use crate::proxy::{Lanes, Proxy};
use crate::telemetry;

/// The running workers. They end when this is dropped.
pub(super) struct Workers {
    _running: watch::Sender<()>,
}

/// Prepares the data plane of `count` workers.
///
/// # Errors
/// If the system's certificate authorities cannot be read.
pub(super) fn prepare(proxy: &Proxy, count: usize) -> Result<Vec<Lanes>, StartError> {
    // The engine panics where the authorities cannot be read.
    let build = std::panic::AssertUnwindSafe(|| (0..count).map(|_| proxy.lanes()).collect());
    std::panic::catch_unwind(build).map_err(|_| {
        let help = "the system's certificate authorities cannot be read; see SSL_CERT_FILE and SSL_CERT_DIR";
        StartError::Unusable(vec![help.to_owned()])
    })
}

/// Starts the workers. `listeners` has each listener's sockets, one for each worker.
///
/// # Errors
/// If a thread cannot be started.
pub(super) fn start(workers: Vec<Lanes>, listeners: Vec<Vec<Listener>>) -> Result<Workers, StartError> {
    let running = watch::Sender::new(());
    let mut sockets: Vec<_> = listeners.into_iter().map(Vec::into_iter).collect();
    for (at, lanes) in workers.into_iter().enumerate() {
        let own: Vec<Listener> = sockets.iter_mut().filter_map(Iterator::next).collect();
        let runtime = runtime().map_err(system_error("cannot start a traffic thread"))?;
        let ended = running.subscribe();
        std::thread::Builder::new()
            .name(format!("weir-traffic-{at}"))
            .spawn(move || run(&runtime, lanes, own, ended))
            .map_err(system_error("cannot start a traffic thread"))?;
    }
    Ok(Workers { _running: running })
}

fn run(runtime: &tokio::runtime::Runtime, lanes: Lanes, listeners: Vec<Listener>, mut ended: watch::Receiver<()>) {
    telemetry::enlist_thread();
    runtime.block_on(async {
        let lanes = Arc::new(lanes);
        lanes.start();
        for listener in listeners {
            tokio::spawn(listener::serve(listener, Arc::clone(&lanes)));
        }
        // An error says that nobody holds the sender any more.
        while ended.changed().await.is_ok() {}
    });
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(8).enable_all().build()
}
