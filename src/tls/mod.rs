//! TLS towards clients: which certificate, which protocol, which clients.
//!
//! ```text
//! PEM bytes ─ Certificate::read ───┐                       ┌ Resolver        (by SNI)
//!                                 ├─ Source (the snapshot) ┤
//! PEM bytes ─ ClientRoots::load ──┘                       └ ClientVerifier  (mTLS)
//! ```
//!
//! A listener builds its [`server_config`] once and keeps it. What may change while it runs, the certificates
//! and the authorities of its clients, is read from a [`Source`] at each handshake. So replacing them is the
//! same one store that publishes a snapshot, and a handshake sees either the old set or the new one.
//! Building a new `ServerConfig` at each reload would do as well, but would throw away the keys of the
//! session tickets, and every client would pay a full handshake.
//!
//! Files are read elsewhere: everything here takes bytes and the time, so that it can be checked before
//! anything changes and tested without a disk.
//!
//! Invariant: a [`Certificates`] that exists has only pairs that parse and belong together.
//!
//! Invariant: *ring* is the one provider and is passed explicitly; the process default is neither set nor read.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

mod certificate;
mod client;
mod problem;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use certificate::{Certificate, Certificates, Pair, Resolver};
pub(crate) use client::{ClientAuth, ClientRoots, Demand};
pub(crate) use problem::{CertificateProblem, Unusable};
pub(crate) use server::{MinVersion, Options, Resumption, server_config};

/// Where the current value of something replaceable is read, once for each handshake.
///
/// In the proxy it looks into the current snapshot; `Arc::new(move || swap.load_full())` does for a lone
/// `ArcSwap`.
pub(crate) type Source<T> = Arc<dyn Fn() -> Arc<T> + Send + Sync>;

/// The cryptography of this process: *ring*, with the protocol suites that rustls recommends.
#[must_use]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The largest PEM file that is looked at. A bundle of all public authorities has a fifth of it.
pub(crate) const MAX_PEM_BYTES: usize = 1024 * 1024;
