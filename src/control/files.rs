//! Reads the files that a configuration names: certificates, keys and authorities.
//!
//! A certificate that cannot be used does not stop a reload that is needed for something else: the one loaded
//! before stays, and the reload says so. Without one before, the configuration cannot be used.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{self, Config};
use crate::model::Name;
use crate::snapshot::{ClientPair, ListenerTls, UpstreamTls};
use crate::tls::{Certificates, ClientRoots, MAX_PEM_BYTES, Pair};

/// What the named files hold.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) certificates: HashMap<Name, ListenerTls>,
    pub(super) upstream_tls: Vec<(config::UpstreamTls, UpstreamTls)>,
    /// What could not be used while something loaded before stays in effect.
    pub(super) kept: Vec<String>,
}

/// Reads all files that `config` names.
///
/// # Errors
/// What cannot be used and has nothing before it, one line each.
pub(super) fn load(
    config: &Config,
    before: Option<&HashMap<Name, ListenerTls>>,
    now: SystemTime,
) -> Result<Loaded, Vec<String>> {
    let mut loaded = Loaded::default();
    let mut wrong = Vec::new();
    for listener in &config.listeners {
        let Some(tls) = &listener.tls else { continue };
        match listener_tls(tls, now) {
            Ok(fresh) => drop(loaded.certificates.insert(listener.name.clone(), fresh)),
            Err(why) => match before.and_then(|before| before.get(&listener.name)) {
                Some(old) => {
                    loaded.certificates.insert(listener.name.clone(), old.clone());
                    let kept =
                        |line: String| format!("listener {}: {line}; the one loaded before stays", listener.name);
                    loaded.kept.extend(why.into_iter().map(kept));
                }
                None => wrong.extend(why.into_iter().map(|line| format!("listener {}: {line}", listener.name))),
            },
        }
    }
    for tls in upstream_tls(config) {
        if loaded.upstream_tls.iter().any(|(known, _)| known == tls) {
            continue;
        }
        match read_upstream(tls) {
            Ok(read) => loaded.upstream_tls.push((tls.clone(), read)),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(loaded) } else { Err(wrong) }
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
    paths.sort();
    paths.dedup();
    paths
}

fn upstream_tls(config: &Config) -> impl Iterator<Item = &config::UpstreamTls> {
    config.services.iter().flat_map(|(_, service)| {
        service.tls.iter().chain(service.versions.iter().filter_map(|(_, version)| version.tls.as_ref()))
    })
}

fn listener_tls(tls: &config::Tls, now: SystemTime) -> Result<ListenerTls, Vec<String>> {
    let one = |why: String| vec![why];
    let mut bytes = Vec::with_capacity(tls.certificates.len());
    for pair in &tls.certificates {
        bytes.push((read(&pair.cert).map_err(one)?, read(&pair.key).map_err(one)?));
    }
    let pairs: Vec<Pair<'_>> = tls
        .certificates
        .iter()
        .zip(&bytes)
        .map(|(files, (cert, key))| Pair { cert_file: &files.cert, cert, key_file: &files.key, key })
        .collect();
    let certificates = Certificates::load(&pairs, now)
        .map_err(|unusable| unusable.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let client_roots = match &tls.client {
        None => None,
        Some(client) => {
            let pem = read(&client.ca).map_err(one)?;
            Some(Arc::new(ClientRoots::load(&client.ca, &pem).map_err(|unusable| one(unusable.to_string()))?))
        }
    };
    Ok(ListenerTls { certificates: Arc::new(certificates), client_roots })
}

fn read_upstream(tls: &config::UpstreamTls) -> Result<UpstreamTls, String> {
    let ca = tls.ca.as_deref().map(read_chain).transpose()?;
    let client = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let pem = read(key)?;
            let parsed = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|error| format!("{}: no private key in it: {error}", key.display()))?;
            Some(ClientPair { chain: read_chain(cert)?, key: parsed.secret_der().to_vec() })
        }
        _ => None,
    };
    Ok(UpstreamTls { sni: tls.sni.as_deref().map(Into::into), verify: tls.verify, ca, client })
}

fn read_chain(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let pem = read(path)?;
    let chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&pem)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: not a PEM file of certificates: {error}", path.display()))?;
    if chain.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    for der in &chain {
        // The engine would panic on what does not parse.
        x509_parser::parse_x509_certificate(der)
            .map_err(|error| format!("{}: a certificate in it cannot be read: {error}", path.display()))?;
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(wrong)?;
    if !file.metadata().map_err(wrong)?.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_PEM_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() > MAX_PEM_BYTES {
        return Err(format!("{}: larger than {MAX_PEM_BYTES} bytes, which no certificate is", path.display()));
    }
    Ok(bytes)
}
