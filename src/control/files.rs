//! Reads the files that a configuration names: certificates, keys, authorities, and what signs for clients.
//!
//! A certificate that cannot be used stops nothing else: the one loaded before stays, and without one before the rest
//! is served and this one is not; one that is out of its time is served all the same. Each is said loudly. Only where
//! no listener could serve anything a start is refused. A listener whose authorities cannot be read lets nobody in.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::error::X509Error;

use crate::config::{self, Config};
use crate::model::Name;
use crate::snapshot::{ClientPair, ListenerTls, UpstreamTls};
use crate::tls::{Certificate, Certificates, ClientRoots, MAX_PEM_BYTES, Pair, Unusable};
use crate::traffic::split::{NotKeys, SigningKeys};

/// What the named files hold.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) certificates: HashMap<Name, ListenerTls>,
    pub(super) upstream_tls: Vec<(config::UpstreamTls, UpstreamTls)>,
    pub(super) signing_keys: HashMap<PathBuf, SigningKeys>,
    /// What cannot be used, or is out of its time, and what is done instead; one line each.
    pub(super) certificate_faults: Vec<String>,
}

/// Files of certificates, keys or authorities that cannot be used and leave nothing to serve with, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct NoCertificates(pub(super) Vec<String>);

/// Reads all files that `config` names.
///
/// # Errors
/// What cannot be used and leaves nothing to serve with.
pub(super) fn load(
    config: &Config,
    before: Option<&HashMap<Name, ListenerTls>>,
    now: SystemTime,
) -> Result<Loaded, NoCertificates> {
    let mut loaded = Loaded::default();
    let mut wrong = Vec::new();
    for listener in &config.listeners {
        let Some(tls) = &listener.tls else { continue };
        let old = before.and_then(|before| before.get(&listener.name));
        let (fresh, faults) = listener_tls(tls, old, now);
        loaded.certificate_faults.extend(faults.into_iter().map(|line| format!("listener {}: {line}", listener.name)));
        loaded.certificates.insert(listener.name.clone(), fresh);
    }
    let serves = |tls: Option<&ListenerTls>| tls.is_none_or(|tls| !tls.certificates.is_empty());
    if before.is_none() && !config.listeners.iter().any(|listener| serves(loaded.certificates.get(&listener.name))) {
        wrong.clone_from(&loaded.certificate_faults);
    }
    for tls in upstream_tls(config) {
        if loaded.upstream_tls.iter().any(|(known, _)| known == tls) {
            continue;
        }
        match read_upstream(tls) {
            Ok(read) => loaded.upstream_tls.push((tls.clone(), read)),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    for (_, file) in config.services.iter().flat_map(|(_, service)| service.signing_key_files()) {
        if loaded.signing_keys.contains_key(file) {
            continue;
        }
        match read_signing_keys(file) {
            Ok(keys) => drop(loaded.signing_keys.insert(file.clone(), keys)),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(loaded) } else { Err(NoCertificates(wrong)) }
}

/// The files whose change is a reason to reload: the configuration and the certificates it names.
pub(super) fn watched(config: &Config) -> Vec<PathBuf> {
    let mut paths = vec![config.file().to_owned()];
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        paths.extend(tls.certificates.iter().flat_map(|pair| [pair.cert.clone(), pair.key.clone()]));
        paths.extend(tls.client.iter().map(|client| client.ca.clone()));
    }
    for tls in upstream_tls(config) {
        paths.extend([&tls.ca, &tls.cert, &tls.key].into_iter().flatten().cloned());
    }
    let keys = config.services.iter().flat_map(|(_, service)| service.signing_key_files());
    paths.extend(keys.map(|(_, file)| file.clone()));
    paths.sort();
    paths.dedup();
    paths
}

fn upstream_tls(config: &Config) -> impl Iterator<Item = &config::UpstreamTls> {
    config.services.iter().flat_map(|(_, service)| {
        service.tls.iter().chain(service.versions.iter().filter_map(|(_, version)| version.tls.as_ref()))
    })
}

/// What a listener serves with, given what it had before, and what is wrong with its files.
fn listener_tls(tls: &config::Tls, before: Option<&ListenerTls>, now: SystemTime) -> (ListenerTls, Vec<String>) {
    let (mut all, mut faults) = (Vec::with_capacity(tls.certificates.len()), Vec::new());
    for files in &tls.certificates {
        let old = before.and_then(|before| before.certificates.of_file(&files.cert));
        let (certificate, fault) = newest(files, old, now);
        all.extend(certificate);
        faults.extend(fault);
    }
    let mut client_roots = None;
    if let Some(client) = &tls.client {
        match roots(&client.ca) {
            Ok(fresh) => client_roots = Some(Arc::new(fresh)),
            Err(why) => {
                client_roots = before.and_then(|before| before.client_roots.clone());
                let instead = if client_roots.is_some() { STAYS } else { "no client is let in" };
                faults.push(format!("{why}; {instead}"));
                if client_roots.is_none() {
                    all.clear();
                }
            }
        }
    }
    (ListenerTls { certificates: Arc::new(Certificates::new(all)), client_roots }, faults)
}

const STAYS: &str = "the one loaded before stays";

/// The certificate of these files, or else `old`, and what is wrong with them.
fn newest(
    files: &config::Certificate,
    old: Option<&Certificate>,
    now: SystemTime,
) -> (Option<Certificate>, Option<String>) {
    match read_pair(files) {
        Ok(fresh) => match fresh.out_of_time(now) {
            None => (Some(fresh), None),
            Some(why) => match old.filter(|old| old.out_of_time(now).is_none()) {
                Some(old) => (Some(old.clone()), Some(format!("{why}; {STAYS}"))),
                None => (Some(fresh), Some(format!("{why}; it is served all the same"))),
            },
        },
        Err(why) => match old {
            Some(old) => (Some(old.clone()), Some(format!("{why}; {STAYS}"))),
            None => (None, Some(format!("{why}; it is not served"))),
        },
    }
}

/// Why a file that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{}: {error}", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    #[error("{}: larger than {MAX_PEM_BYTES} bytes, which no certificate is", .0.display())]
    TooLarge(PathBuf),
    #[error("{}: no private key in it: {error}", .path.display())]
    NoKey { path: PathBuf, error: pem::Error },
    #[error("{}: not a PEM file of certificates: {error}", .path.display())]
    NoPem { path: PathBuf, error: pem::Error },
    #[error("{}: no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    #[error("{}: a certificate in it cannot be read: {error}", .path.display())]
    Malformed { path: PathBuf, error: x509_parser::nom::Err<X509Error> },
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("{}: {why}", .path.display())]
    NoSigningKeys { path: PathBuf, why: NotKeys },
}

fn read_pair(files: &config::Certificate) -> Result<Certificate, FileError> {
    let (cert, key) = (read(&files.cert)?, read(&files.key)?);
    let pair = Pair { cert_file: &files.cert, cert: &cert, key_file: &files.key, key: &key };
    Ok(Certificate::read(&pair)?)
}

fn roots(file: &Path) -> Result<ClientRoots, FileError> {
    let pem = read(file)?;
    Ok(ClientRoots::load(file, &pem)?)
}

fn read_upstream(tls: &config::UpstreamTls) -> Result<UpstreamTls, FileError> {
    let ca = tls.ca.as_deref().map(read_chain).transpose()?;
    let client = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let pem = read(key)?;
            let parsed =
                PrivateKeyDer::from_pem_slice(&pem).map_err(|error| FileError::NoKey { path: key.clone(), error })?;
            Some(ClientPair { chain: read_chain(cert)?, key: parsed.secret_der().to_vec() })
        }
        _ => None,
    };
    Ok(UpstreamTls { sni: tls.sni.as_deref().map(Into::into), verify: tls.verify, ca, client })
}

fn read_signing_keys(path: &Path) -> Result<SigningKeys, FileError> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    SigningKeys::parse(&text).map_err(|why| FileError::NoSigningKeys { path: path.to_owned(), why })
}

fn read_chain(path: &Path) -> Result<Vec<Vec<u8>>, FileError> {
    let pem = read(path)?;
    let chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&pem)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| FileError::NoPem { path: path.to_owned(), error })?;
    if chain.is_empty() {
        return Err(FileError::NoCertificate(path.to_owned()));
    }
    for der in &chain {
        // The engine would panic on what does not parse.
        x509_parser::parse_x509_certificate(der)
            .map_err(|error| FileError::Malformed { path: path.to_owned(), error })?;
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let bytes = read_regular(path).map_err(|error| FileError::Unreadable { path: path.to_owned(), error })?;
    let bytes = bytes.ok_or_else(|| FileError::NotRegular(path.to_owned()))?;
    if bytes.len() > MAX_PEM_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// What a file holds, up to a byte more than may be; none: it is not a regular file.
fn read_regular(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_PEM_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::config::ProcessEnvironment;

    /// What is loaded from these pairs of a TLS listener, beside a plain one or alone: how many certificates, and what
    /// is wrong.
    fn loaded(pairs: &[&str], plain: bool) -> Result<(usize, Vec<String>), Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        fs::write(directory.path().join("good.crt"), made.cert.pem()).unwrap();
        fs::write(directory.path().join("good.key"), made.signing_key.serialize_pem()).unwrap();
        let pairs: Vec<String> = pairs.iter().map(|name| format!("{{ cert: {name}.crt, key: {name}.key }}")).collect();
        let plain = if plain { "{ name: plain, address: 127.0.0.1:1 }, " } else { "" };
        let tls = format!("{{ certificates: [{}] }}", pairs.join(", "));
        let yaml = format!("version: 1\nlisteners: [{plain}{{ name: web, address: 127.0.0.1:0, tls: {tls} }}]\n");
        let file = directory.path().join("weir.yaml");
        fs::write(&file, yaml).unwrap();
        let config = config::load(&file, &ProcessEnvironment).unwrap();
        let loaded = load(&config, None, SystemTime::now()).map_err(|error| error.0)?;
        Ok((loaded.certificates["web"].certificates.iter().count(), loaded.certificate_faults))
    }

    #[test]
    fn all_bad_pairs_are_reported_and_the_rest_is_served() {
        let (served, faults) = loaded(&["none", "good", "gone"], false).unwrap();
        assert_eq!((served, faults.len()), (1, 2), "{faults:?}");
        let (served, faults) = loaded(&["none"], true).unwrap();
        assert_eq!((served, faults.len()), (0, 1), "a plain listener is left: {faults:?}");
        assert_eq!(loaded(&["none", "gone"], false).unwrap_err().len(), 2, "nothing is left to serve");
    }

    #[test]
    fn a_pair_out_of_its_time_is_served_unless_there_is_a_better_one() {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let files = config::Certificate { cert: directory.path().join("crt"), key: directory.path().join("key") };
        fs::write(&files.cert, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let (good, fault) = newest(&files, None, SystemTime::now());
        let good = good.unwrap();
        assert_eq!(fault, None);
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(250_000_000_000); // in the year 9892
        let (served, fault) = newest(&files, Some(&good), late);
        assert!(served.is_some() && fault.unwrap().ends_with("it is served all the same"), "the old one is no better");
        fs::write(&files.key, "torn").unwrap();
        let (served, fault) = newest(&files, Some(&good), late);
        assert!(served.is_some() && fault.unwrap().ends_with(STAYS));
        let (served, fault) = newest(&files, None, late);
        assert!(served.is_none() && fault.unwrap().ends_with("it is not served"));
    }
}
