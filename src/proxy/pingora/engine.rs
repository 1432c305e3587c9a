//! The engine of one worker, and what it needs beside the worker's own state.

use std::sync::Arc;

use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};

use tokio::sync::watch;

use super::hooks::General;
use super::unread::Unread;
use crate::proxy::request::attempts::MAX_ATTEMPTS;
use crate::proxy::worker::Worker;

/// The engine of one worker.
pub(crate) struct Engine {
    pub(crate) worker: Arc<Worker>,
    pub(crate) proxy: Arc<HttpProxy<General>>,
    pub(crate) unread: Arc<Unread>,
    /// What the engine is told of the shutdown of HTTP/1 connections: nothing, the hooks know it.
    pub(crate) shutdown: watch::Sender<bool>,
}

impl Engine {
    /// An engine for `worker`.
    ///
    /// # Panics
    /// If the system's certificate authorities cannot be read: the engine does.
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        let conf = ServerConf { threads: 1, max_retries: MAX_ATTEMPTS, ..ServerConf::default() };
        let proxy = http_proxy(&Arc::new(conf), General { shared: Arc::clone(&worker.shared) });
        Self { worker, proxy: Arc::new(proxy), unread: Arc::default(), shutdown: watch::Sender::new(false) }
    }

    /// Starts what it does beside connections. To be called on the worker's runtime.
    pub(crate) fn start(&self) {
        tokio::spawn(Arc::clone(&self.unread).run(Arc::clone(&self.worker.shared)));
    }
}
