//! Certificates with their keys: checked when they are loaded, chosen by the name that a client asks for.
//!
//! Everything that can be wrong with a pair is found when it is read, because a pair that is refused there leaves the
//! old one in use, while one that is found wrong in a handshake is an outage. One that is only out of its time can be
//! served, and its clients say what they think of it.
//!
//! The common name is not read: no client has accepted it for a decade (RFC 9110 §4.3.4).
//!
//! Invariant: a name is kept in lower case and without the final dot.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureScheme};
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, Validity, X509Certificate};

use super::{CertificateProblem, MAX_PEM_BYTES, Source, Unusable, provider};

/// The two files of a certificate: names for messages, and bytes.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    /// Where the certificate came from.
    pub(crate) cert_file: &'a Path,
    /// PEM: the server's certificate, then its chain.
    pub(crate) cert: &'a [u8],
    /// Where the private key came from.
    pub(crate) key_file: &'a Path,
    /// PEM: the private key.
    pub(crate) key: &'a [u8],
}

impl fmt::Debug for Pair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

/// One certificate that can be served.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    file: PathBuf,
    names: Vec<Box<str>>,
    validity: Validity,
    key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Checks a pair as of `now`.
    ///
    /// # Errors
    /// The first [`CertificateProblem`] of the pair, with the file that has it.
    pub(crate) fn load(pair: &Pair<'_>, now: SystemTime) -> Result<Self, Unusable> {
        let certificate = Self::read(pair)?;
        match certificate.out_of_time(now) {
            None => Ok(certificate),
            Some(why) => Err(why),
        }
    }

    /// Checks all of a pair but whether its time has come, or is over.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn read(pair: &Pair<'_>) -> Result<Self, Unusable> {
        let chain = chain(pair.cert).map_err(|problem| problem.of(pair.cert_file))?;
        let CertificateFacts { names, validity } = facts(&chain).map_err(|problem| problem.of(pair.cert_file))?;
        let key = private_key(pair.key).map_err(|problem| problem.of(pair.key_file))?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| CertificateProblem::BadKey { reason: error.to_string() }.of(pair.key_file))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(CertificateProblem::Mismatch { cert_file: pair.cert_file.to_owned() }.of(pair.key_file));
            }
            Err(error) => {
                return Err(
                    CertificateProblem::BadCertificate { position: 1, reason: error.to_string() }.of(pair.cert_file)
                );
            }
        }
        Ok(Self { file: pair.cert_file.to_owned(), names, validity, key: Arc::new(key) })
    }

    /// What is wrong with it if its time has not come at `now`, or is over.
    #[must_use]
    pub(crate) fn out_of_time(&self, now: SystemTime) -> Option<Unusable> {
        let Validity { not_before, not_after } = &self.validity;
        let problem = if now < system_time(not_before) {
            CertificateProblem::NotYetValid { at: not_before.to_string() }
        } else if now > system_time(not_after) {
            CertificateProblem::Expired { at: not_after.to_string() }
        } else {
            return None;
        };
        Some(problem.of(&self.file))
    }

    /// The DNS names that it is for, wildcards included. None for one that is only for IP addresses.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// What rustls serves.
    #[must_use]
    pub(crate) const fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Whether it names `name`, exactly or by a wildcard.
    fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|own| **own == *name || own.strip_prefix("*.").is_some_and(|own| Some(own) == parent))
    }

    fn can_sign(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }
}

/// The certificates of a listener, in the file's order. The first is the default.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    all: Vec<Certificate>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows the first label: `*.example.com` is under `example.com`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
}

impl Certificates {
    /// The set of these certificates; the first is the default.
    #[must_use]
    pub(crate) fn new(all: Vec<Certificate>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (position, certificate) in all.iter().enumerate() {
            for name in certificate.names() {
                let (index, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, name),
                };
                index.entry(key.into()).or_default().push(position);
            }
        }
        Self { all, exact, wildcard }
    }

    /// All of them, in the file's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.all.iter()
    }

    /// Whether there is none: every handshake fails.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The one that came from this file.
    #[must_use]
    pub(crate) fn of_file(&self, file: &Path) -> Option<&Certificate> {
        self.all.iter().find(|certificate| certificate.file == file)
    }

    /// Whether a request for `host` may come over a connection that was made for `sni`: what its client was shown is
    /// good for both, or no certificate is for that host in particular (RFC 9110 §7.4).
    #[must_use]
    pub(crate) fn serve_alike(&self, sni: &str, host: &str) -> bool {
        let (sni, host) = (canonical(sni), canonical(host));
        let Some(own) = self.named(&host) else { return true };
        let shown = self.named(&sni).unwrap_or(&[0]);
        let mut shown = shown.iter().filter_map(|at| Some((at, self.all.get(*at)?)));
        shown.any(|(at, certificate)| own.contains(at) || certificate.covers(&host))
    }

    /// The certificates for this very name, which is in its canonical form.
    fn named(&self, name: &str) -> Option<&[usize]> {
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        self.exact.get(name).or_else(|| self.wildcard.get(parent()?)).map(Vec::as_slice)
    }

    /// The certificate for a client that asks for `sni` and can verify `schemes`.
    ///
    /// An exact name goes before a wildcard, which stands for one label, and that before the default. Among
    /// several for one name (RSA beside ECDSA) it is the first that the client can verify. `None` only when
    /// there is no certificate at all.
    #[must_use]
    pub(crate) fn find(&self, sni: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Certificate> {
        let named = sni.and_then(|name| self.named(&canonical(name)));
        let mut candidates = named.into_iter().flatten().filter_map(|position| self.all.get(*position));
        let first = candidates.clone().next();
        candidates.find(|certificate| certificate.can_sign(schemes)).or(first).or_else(|| self.all.first())
    }
}

/// Answers rustls with the certificate for a handshake, from the set that is current when it begins.
pub(crate) struct Resolver(Source<Certificates>);

impl Resolver {
    /// A resolver that reads the set from `certificates` at each handshake.
    #[must_use]
    pub(crate) fn new(certificates: Source<Certificates>) -> Self {
        Self(certificates)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = (self.0)();
        let found = certificates.find(hello.server_name(), hello.signature_schemes())?;
        Some(Arc::clone(found.key()))
    }
}

/// All certificates of a PEM file, at least one.
pub(super) fn chain(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    if file.len() > MAX_PEM_BYTES {
        return Err(CertificateProblem::TooLarge { bytes: file.len() });
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(file).collect::<Result<_, pem::Error>>()?;
    if chain.is_empty() { Err(CertificateProblem::NoCertificate) } else { Ok(chain) }
}

fn private_key(file: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateProblem> {
    if file.len() > MAX_PEM_BYTES {
        return Err(CertificateProblem::TooLarge { bytes: file.len() });
    }
    if ENCRYPTED.iter().any(|mark| memchr::memmem::find(file, mark).is_some()) {
        return Err(CertificateProblem::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(file).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateProblem::NoKey,
        other => other.into(),
    })
}

/// What is read from the server's own certificate.
struct CertificateFacts {
    names: Vec<Box<str>>,
    validity: Validity,
}

/// Reads the first certificate of the chain, having looked at all of them.
///
/// Only the first one's time matters: a chain may carry an expired cross-signed authority on purpose, for old
/// clients.
fn facts(chain: &[CertificateDer<'static>]) -> Result<CertificateFacts, CertificateProblem> {
    let mut own = None;
    for (at, der) in chain.iter().enumerate() {
        let bad = |reason: String| CertificateProblem::BadCertificate { position: at + 1, reason };
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| bad(error.to_string()))?;
        if at == 0 {
            own = Some((names(&parsed).map_err(|error| bad(error.to_string()))?, parsed.validity().clone()));
        }
    }
    let (names, validity) = own.ok_or(CertificateProblem::NoCertificate)?;
    Ok(CertificateFacts { names, validity })
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<Box<str>>, X509Error> {
    let Some(extension) = certificate.subject_alternative_name()? else {
        return Ok(Vec::new());
    };
    let dns = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(canonical(name).into()),
        _ => None,
    });
    Ok(dns.collect())
}

/// The form in which names are compared; borrows when the name already has it.
fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn system_time(time: &ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moment.unwrap_or(UNIX_EPOCH)
}

/// How PKCS #8 and the older form of OpenSSL say that a key needs a passphrase.
const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
