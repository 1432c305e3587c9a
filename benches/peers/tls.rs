//! A certificate made on the spot (ECDSA P-256), and a client that speaks TLS 1.3 and never resumes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::{Failure, HOST};

/// The files that contenders read, and the certificate that clients trust.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants it.
    pub(crate) bundle: PathBuf,
    der: CertificateDer<'static>,
}

impl Identity {
    /// Makes one and writes its files.
    pub(crate) fn make(folder: &Path) -> Result<Self, Failure> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).map_err(|error| error.to_string())?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, Failure>(path)
        };
        Ok(Self {
            certificate: write("shop.crt", &certificate)?,
            key: write("shop.key", &key)?,
            bundle: write("shop.pem", &format!("{certificate}{key}"))?,
            der: made.cert.der().clone(),
        })
    }

    /// A client that trusts exactly this certificate.
    pub(crate) fn connector(&self, protocol: &[u8]) -> Result<TlsConnector, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
