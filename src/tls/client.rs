//! Certificates of clients: which authorities are trusted, and whether a client must have one.
//!
//! rustls has a verifier with fixed authorities. The one here looks up the current ones at each handshake and
//! lets them do the work, so that replacing the file of authorities takes effect with the next connection.
//!
//! The names of the authorities are not sent as a hint to clients: rustls wants them borrowed from the
//! verifier, which a replaceable set cannot lend. A client that gets no hint offers the certificate it has
//! (RFC 8446 §4.2.4 makes the hint optional).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::certificate::chain;
use super::{CertificateProblem, Source, Unusable, provider};

/// Whether a client must have a certificate. One that it does show must be good in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Demand {
    /// No certificate, no connection.
    #[default]
    Required,
    /// A client without one is let in.
    Optional,
}

/// The client certificates that a listener asks for.
#[derive(Clone)]
pub(crate) struct ClientAuth {
    /// Whether a client must have one.
    pub(crate) demand: Demand,
    /// The authorities that are trusted, read at each handshake.
    pub(crate) roots: Source<ClientRoots>,
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth").field("demand", &self.demand).finish_non_exhaustive()
    }
}

/// The authorities whose client certificates are trusted.
#[derive(Debug)]
pub(crate) struct ClientRoots {
    /// None where nobody is trusted.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// What it was read from: a verifier cannot be compared.
    pem: Box<[u8]>,
}

impl PartialEq for ClientRoots {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for ClientRoots {}

impl ClientRoots {
    /// Reads the authorities from a PEM file's bytes.
    ///
    /// # Errors
    /// The [`CertificateProblem`] of the file: each certificate in it must be one that can be an authority.
    pub(crate) fn load(file: &Path, pem: &[u8]) -> Result<Self, Unusable> {
        let mut roots = RootCertStore::empty();
        for (at, der) in chain(pem).map_err(|problem| problem.of(file))?.into_iter().enumerate() {
            let bad = |error: Error| {
                CertificateProblem::BadCertificate { position: at + 1, reason: error.to_string() }.of(file)
            };
            roots.add(der).map_err(bad)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| CertificateProblem::BadCertificate { position: 1, reason: error.to_string() }.of(file))?;
        Ok(Self { verifier: Some(verifier), pem: pem.into() })
    }

    /// No authority at all: whoever shows a certificate is refused.
    #[must_use]
    pub(crate) fn nobody() -> Self {
        Self { verifier: None, pem: Box::default() }
    }
}

/// Verifies a client's certificate against the authorities that are current.
#[derive(Debug)]
pub(super) struct ClientVerifier(ClientAuth);

impl ClientVerifier {
    pub(super) const fn new(auth: ClientAuth) -> Self {
        Self(auth)
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.0.demand == Demand::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &(self.0.roots)().verifier {
            Some(verifier) => verifier.verify_client_cert(own, chain, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
