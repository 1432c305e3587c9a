//! A listener's side of the handshake: protocol versions, ALPN, resumption and client certificates.
//!
//! Early data (0-RTT) stays off: it can be replayed, and a proxy cannot know which requests bear that
//! (RFC 8446 §8). The client's order of cipher suites is followed, since every suite on offer is good and a
//! client without AES hardware knows that best.
//!
//! A resumed session does not show the client's certificate again, and rustls does not ask whether the
//! authority that vouched for it is still trusted, nor on which listener it was shown. So a listener that
//! asks for client certificates neither issues nor accepts sessions: a client that has lost its trust loses
//! it with its next connection, and a ticket of another listener opens nothing.

use std::sync::Arc;

use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig, SupportedProtocolVersion};

use super::client::ClientVerifier;
use super::{Certificates, ClientAuth, Resolver, Source, provider};

/// The oldest TLS version that a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

impl MinVersion {
    fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&TLS13, &TLS12],
            Self::Tls13 => vec![&TLS13],
        }
    }
}

/// What a listener offers by ALPN, best first. A client that offers only other protocols is refused (RFC 7301 §3.2).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a listener's TLS is like; the rest is not open to choice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The oldest version.
    pub(crate) min_version: MinVersion,
    /// Client certificates, if they are asked for.
    pub(crate) client_auth: Option<ClientAuth>,
}

/// What lets clients come back without a full handshake. One for the process, shared by its listeners.
///
/// Tickets are sealed with a random key that never leaves memory. It is replaced after 6 hours, with the first
/// handshake after that, and opens tickets for 6 hours more; so no ticket is accepted after 12 hours. Sessions
/// kept here are for the few TLS 1.2 clients without tickets.
#[derive(Clone, Debug)]
pub(crate) struct Resumption {
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    /// Draws the first ticket key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { tickets: Ticketer::new()?, sessions: ServerSessionMemoryCache::new(MAX_SESSIONS) })
    }
}

/// The TLS of a listener, with its certificates read from `certificates` at each handshake.
///
/// # Errors
/// The provider does not support the versions: not with the one this crate is built with.
pub(crate) fn server_config(
    options: &Options,
    certificates: Source<Certificates>,
    resumption: &Resumption,
) -> Result<Arc<ServerConfig>, Error> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&options.min_version.versions())?;
    let builder = match options.client_auth.clone() {
        Some(auth) => builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(auth))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(certificates)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.max_early_data_size = 0;
    if options.client_auth.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = Arc::clone(&resumption.tickets);
        config.session_storage = Arc::clone(&resumption.sessions);
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    }
    Ok(Arc::new(config))
}

/// Sessions of TLS 1.2 clients without tickets: at some hundred bytes each, well under 1 MiB.
const MAX_SESSIONS: usize = 1024;

/// A client that opens two connections at once needs two, since a ticket is meant to be used once.
const TICKETS_PER_HANDSHAKE: usize = 2;
