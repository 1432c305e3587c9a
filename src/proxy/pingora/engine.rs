//! The engine of one worker, and what it needs beside the worker's own state.

use std::sync::Arc;

use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};

use tokio::sync::watch;

use super::hooks::General;
use crate::proxy::request::attempts::MAX_ATTEMPTS;
use crate::proxy::worker::Worker;

/// The engine of one worker.
pub(crate) struct Engine {
    pub(crate) worker: Arc<Worker>,
    pub(crate) proxy: Arc<HttpProxy<General>>,
    /// What the engine is told of the shutdown of HTTP/1 connections: nothing, the hooks know it.
    pub(crate) shutdown: watch::Sender<bool>,
}

impl Engine {
    /// An engine for `worker`.
    ///
    /// # Panics
    /// Where there is no `/dev/null`.
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        // The engine's own connector speaks no TLS with endpoints: it needs no certificate authorities. Without a file of
        // them it would read the system's, once for each worker.
        let ca_file = Some("/dev/null".to_owned());
        let conf = ServerConf { threads: 1, max_retries: MAX_ATTEMPTS, ca_file, ..ServerConf::default() };
        let general = General { shared: Arc::clone(&worker.shared), pools: Arc::clone(&worker.pools) };
        let proxy = http_proxy(&Arc::new(conf), general);
        Self { worker, proxy: Arc::new(proxy), shutdown: watch::Sender::new(false) }
    }
}
