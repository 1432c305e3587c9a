//! Where clients connect: address, TLS, PROXY protocol and the cap on connections.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::normalization::{Headers, Paths};
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::{self, Cidr};
use crate::model::{Address, Name};

section! {
    /// One address that accepts client connections: HTTP/1.x and HTTP/2 on the same port.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Listener {
        /// Its name: a metric label, unique among listeners.
        pub(crate) name: Name as values::Name = required(),
        /// Where it listens: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`. `[::]` takes IPv4 too, unless something
        /// else of the file has an IPv4 address at that port. Port 0 lets the system choose.
        pub(crate) address: Address = required(),
        /// TLS towards clients; without it the listener speaks plain HTTP.
        pub(crate) tls: Option<Tls> = optional(),
        /// Takes the client's address from a PROXY protocol header, version 1 or 2.
        pub(crate) proxy_protocol: Option<ProxyProtocol> = optional(),
        /// Connections open at the same time, 1 to 1000000. Where all are taken, whoever has been idle longest gives way; more
        /// wait in the kernel's queue.
        pub(crate) max_connections: u32 = bounded(DEFAULT_MAX_CONNECTIONS, 1..=1_000_000),
        /// Connections that one client's address may have at the same time, 1 to 1000000; of IPv6, one /64. The address is
        /// that of a trusted PROXY protocol header where there is one. Default: no bound, for many may share one address.
        pub(crate) max_connections_per_address: Option<u32> = within(1..=1_000_000),
        /// What becomes of paths here; what is left out is as in the file's own `paths`.
        pub(crate) paths: Paths = section(),
        /// What becomes of headers here; what is left out is as in the file's own `headers`.
        pub(crate) headers: Headers = section(),
    }
}

/// Enough for a busy edge, small enough that idle connections cannot exhaust a small machine's memory.
pub(crate) const DEFAULT_MAX_CONNECTIONS: u32 = 10_000;

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The certificates, chosen by SNI; the first is used when none fits. Never empty.
    pub(crate) certificates: Vec<Certificate>,
    /// Whether and how clients show a certificate of their own.
    pub(crate) client: Option<ClientCertificates>,
    /// The oldest version of TLS that is accepted.
    pub(crate) min_version: TlsVersion,
}

/// Certificates that clients show (mTLS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificates {
    /// The PEM file of the authorities that sign them.
    pub(crate) ca: PathBuf,
    /// Whether a client must have one.
    pub(crate) auth: ClientAuth,
}

/// How many certificates a listener may have.
const MAX_CERTIFICATES: usize = 10_000;

section! {
    /// TLS towards clients. Either `cert` and `key`, or `certificates`, or both.
    impl Tls as "Tls" {
        /// The certificate chain of the only or the default certificate, a PEM file.
        cert: Option<PathBuf> = optional(),
        /// The private key of `cert`, a PEM file.
        key: Option<PathBuf> = optional(),
        /// Several certificates, chosen by SNI.
        certificates: Vec<Certificate> = list(1..=MAX_CERTIFICATES, Reader::list::<Certificate>),
        /// The authorities that sign clients' certificates, a PEM file; turns mTLS on.
        client_ca: Option<PathBuf> = optional(),
        /// Whether a client must show a certificate; `required` when `client_ca` is set.
        client_auth: Option<ClientAuth> = optional(),
        /// The oldest version of TLS that is accepted; default `1.2`.
        min_version: TlsVersion = or(TlsVersion::V1_2),
    }
    rules(fields) {
        check_tls(&mut fields);
    }
    => Tls {
        certificates: cert.zip(key).map(|(cert, key)| Certificate { cert, key }).into_iter().chain(certificates).collect(),
        client: client_ca.map(|ca| ClientCertificates { ca, auth: client_auth.unwrap_or_default() }),
        min_version,
    }
}

fn check_tls(fields: &mut Fields<'_, '_>) {
    if fields.get("client_auth").is_some() && fields.get("client_ca").is_none() {
        fields.fault_at("client_auth", |place| {
            Problem::new(place, "`client_auth` without `client_ca`")
                .help("name the authorities that sign clients' certificates: `client_ca: clients.pem`")
        });
    }
    fields.check_pair();
    if !["cert", "key", "certificates"].iter().any(|name| fields.get(name).is_some()) {
        fields.fault_here("TLS needs a certificate", "add `cert: …` and `key: …`, or `certificates: […]`");
    }
}

section! {
    /// A certificate chain and its key, both PEM files, reloaded when they change.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Certificate {
        /// The certificate chain, leaf first.
        pub(crate) cert: PathBuf = required(),
        /// The private key.
        pub(crate) key: PathBuf = required(),
    }
}

words! {
    /// Whether a client must show a certificate.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum ClientAuth {
        /// A client without a valid certificate is refused.
        #[default]
        Required = "required",
        /// A client may come without one; one that it shows must be valid.
        Optional = "optional",
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl Read for TlsVersion {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.choose(node, &[("1.2", Self::V1_2), ("1.3", Self::V1_3)])
    }
}

impl Serialize for TlsVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

/// Without quotes, a version is a number to YAML.
impl JsonSchema for TlsVersion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TlsVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["1.2", "1.3", 1.2, 1.3] })
    }
}

/// How many networks a list of trusted or allowed addresses may have; it is walked for each connection.
pub(crate) const MAX_NETWORKS: usize = 1_024;

section! {
    /// The PROXY protocol in front of a listener.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct ProxyProtocol {
        /// The proxies that may send the header. From any other address it is not read.
        pub(crate) from: Vec<Cidr> = required_list(1..=MAX_NETWORKS, Reader::list::<Cidr>),
        /// Whether a connection from those addresses must begin with the header.
        pub(crate) required: bool = or(true),
    }
}
