//! Certificates made on the spot: an authority and what it signs, as PEM in memory or files.
//!
//! None is committed: a committed one expires, and its private key looks like a leak.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The certificate, PEM.
    pub(crate) cert: String,
    /// Its private key, PEM (PKCS#8).
    pub(crate) key: String,
}

/// Where an [`Identity`] was written.
#[derive(Clone, Debug)]
pub(crate) struct IdentityFiles {
    /// The certificate's file.
    pub(crate) cert: PathBuf,
    /// The key's file.
    pub(crate) key: PathBuf,
}

/// When a certificate is valid, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Since long and for long.
    Now,
    /// Not any more.
    Expired,
    /// Not yet.
    Future,
}

impl Authority {
    /// A new authority with this common name.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The authority's own certificate, PEM: what trusts it reads this.
    pub(crate) fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// Writes [`Self::pem`] to `dir/name.crt`.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(format!("{name}.crt"));
        std::fs::write(&path, self.pem()).unwrap();
        path
    }

    /// A valid server certificate for these DNS names or IP addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Identity {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, Validity::Now)
    }

    /// A server certificate that is valid when `validity` says.
    pub(crate) fn server_valid(&self, names: &[&str], validity: Validity) -> Identity {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, validity)
    }

    /// A valid client certificate.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth, Validity::Now)
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose, validity: Validity) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names.join(" "));
        params.extended_key_usages = vec![usage];
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
            Validity::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Validity::Future => (date_time_ymd(2089, 1, 1), date_time_ymd(2090, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        Identity { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

impl Identity {
    /// Writes `dir/name.crt` and `dir/name.key`, in place: a rotation is a second call with the same name.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> IdentityFiles {
        let files = IdentityFiles { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&files.key, &self.key).unwrap();
        std::fs::write(&files.cert, &self.cert).unwrap();
        files
    }
}
