//! Where clients connect: address, TLS, PROXY protocol and the cap on connections.

use std::path::PathBuf;

use schemars::JsonSchema;

use super::normalization::{Headers, Paths};
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Fields, Read, Reader};
use crate::config::syntax::values::{self, Cidr};
use crate::config::syntax::yaml::Node;
use crate::model::{Address, Name};

/// One address that accepts client connections: HTTP/1.x and HTTP/2 on the same port.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// Its name: a metric label, unique among listeners.
    #[schemars(with = "values::Name")]
    pub name: Name,
    /// Where it listens: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`. `[::]` takes IPv4 too, unless something
    /// else of the file has an IPv4 address at that port. Port 0 lets the system choose.
    #[schemars(with = "values::Address")]
    pub address: Address,
    /// TLS towards clients; without it the listener speaks plain HTTP.
    #[schemars(with = "Option<shape::Tls>")]
    pub tls: Option<Tls>,
    /// Takes the client's address from a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections open at the same time, 1 to 1000000. Where all are taken, whoever has been idle longest gives way; more
    /// wait in the kernel's queue.
    #[schemars(default = "default_max_connections", range(min = 1, max = 1_000_000))]
    pub max_connections: u32,
    /// Connections that one client's address may have at the same time, 1 to 1000000; of IPv6, one /64. The address is
    /// that of a trusted PROXY protocol header where there is one. Default: no bound, for many may share one address.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_address: Option<u32>,
    /// What becomes of paths here; what is left out is as in the file's own `paths`.
    #[schemars(default)]
    pub paths: Paths,
    /// What becomes of headers here; what is left out is as in the file's own `headers`.
    #[schemars(default)]
    pub headers: Headers,
}

/// Enough for a busy edge, small enough that idle connections cannot exhaust a small machine's memory.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 10_000;

const fn default_max_connections() -> u32 {
    DEFAULT_MAX_CONNECTIONS
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates, chosen by SNI; the first is used when none fits. Never empty.
    pub certificates: Vec<Certificate>,
    /// Whether and how clients show a certificate of their own.
    pub client: Option<ClientCertificates>,
    /// The oldest version of TLS that is accepted.
    pub min_version: TlsVersion,
}

/// A certificate chain and its key, both PEM files, reloaded when they change.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Certificate {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Certificates that clients show (mTLS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The PEM file of the authorities that sign them.
    pub ca: PathBuf,
    /// Whether a client must have one.
    pub auth: ClientAuth,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ClientAuth {
    /// A client without a valid certificate is refused.
    #[default]
    Required,
    /// A client may come without one; one that it shows must be valid.
    Optional,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// The PROXY protocol in front of a listener.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The proxies that may send the header. From any other address it is not read.
    #[schemars(length(min = 1))]
    pub from: Vec<Cidr>,
    /// Whether a connection from those addresses must begin with the header.
    #[schemars(default = "default_required")]
    pub required: bool,
}

const fn default_required() -> bool {
    true
}

impl Read for Listener {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let known = &[
            "name",
            "address",
            "tls",
            "proxy_protocol",
            "max_connections",
            "max_connections_per_address",
            "paths",
            "headers",
        ];
        let mut fields = reader.fields(node, known)?;
        let name = fields.required("name");
        let address = fields.required("address");
        let tls = fields.optional("tls");
        let proxy_protocol = fields.optional("proxy_protocol");
        let max_connections = fields.bounded("max_connections", DEFAULT_MAX_CONNECTIONS, 1..=1_000_000);
        let per_address = fields.within("max_connections_per_address", 1..=1_000_000);
        let paths = fields.or("paths", Paths::default());
        let headers = fields.or("headers", Headers::default());
        fields.done()?;
        Some(Self {
            name: name?,
            address: address?,
            tls: tls?,
            proxy_protocol: proxy_protocol?,
            max_connections: max_connections?,
            max_connections_per_address: per_address?,
            paths: paths?,
            headers: headers?,
        })
    }
}

/// How many certificates a listener may have.
const MAX_CERTIFICATES: usize = 10_000;

impl Read for Tls {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let known = &["cert", "key", "certificates", "client_ca", "client_auth", "min_version"];
        let mut fields = reader.fields(node, known)?;
        let cert: Option<Option<PathBuf>> = fields.optional("cert");
        let key: Option<Option<PathBuf>> = fields.optional("key");
        let pair = pair(&mut fields, cert, key);
        let several = fields.with("certificates", |reader, node| reader.list(node, 1..=MAX_CERTIFICATES));
        let client_ca = fields.optional("client_ca");
        let auth = fields.with("client_auth", |reader, node| {
            reader.choose(node, &[("required", ClientAuth::Required), ("optional", ClientAuth::Optional)])
        });
        let min_version = fields.with("min_version", |reader, node| {
            reader.choose(node, &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)])
        });
        if client_ca == Some(None) && auth.flatten().is_some() {
            fields.fault_at("client_auth", |place| {
                Problem::new(place, "`client_auth` without `client_ca`")
                    .help("name the authorities that sign clients' certificates: `client_ca: clients.pem`")
            });
            return None;
        }
        let certificates: Vec<Certificate> = pair?.into_iter().chain(several?.unwrap_or_default()).collect();
        if certificates.is_empty() {
            fields.fault_here("TLS needs a certificate", "add `cert: …` and `key: …`, or `certificates: […]`");
            return None;
        }
        fields.done()?;
        let auth = auth?.unwrap_or_default();
        let client = client_ca?.map(|ca| ClientCertificates { ca, auth });
        Some(Self { certificates, client, min_version: min_version?.unwrap_or_default() })
    }
}

/// The certificate that `cert` and `key` make, if they are there. Outside `None`: a fault was noted.
fn pair(
    fields: &mut Fields<'_, '_>,
    cert: Option<Option<PathBuf>>,
    key: Option<Option<PathBuf>>,
) -> Option<Option<Certificate>> {
    let (present, missing) = match (cert?, key?) {
        (Some(cert), Some(key)) => return Some(Some(Certificate { cert, key })),
        (None, None) => return Some(None),
        (Some(_), None) => ("cert", "key"),
        (None, Some(_)) => ("key", "cert"),
    };
    fields.half_pair(present, missing);
    None
}

impl Read for Certificate {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["cert", "key"])?;
        let cert = fields.required("cert");
        let key = fields.required("key");
        fields.done()?;
        Some(Self { cert: cert?, key: key? })
    }
}

/// How many networks a list of trusted or allowed addresses may have; it is walked for each connection.
pub(crate) const MAX_NETWORKS: usize = 1_024;

impl Read for ProxyProtocol {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["from", "required"])?;
        let from = fields.required_with("from", |reader, node| reader.list(node, 1..=MAX_NETWORKS));
        let required = fields.or("required", default_required());
        fields.done()?;
        Some(Self { from: from?, required: required? })
    }
}

/// What the file says where the type says it in another shape.
mod shape {
    use super::{Certificate, ClientAuth, JsonSchema, PathBuf};

    /// TLS towards clients. Either `cert` and `key`, or `certificates`, or both.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(crate) struct Tls {
        /// The certificate chain of the only or the default certificate, a PEM file.
        cert: Option<PathBuf>,
        /// The private key of `cert`, a PEM file.
        key: Option<PathBuf>,
        /// Several certificates, chosen by SNI.
        certificates: Option<Vec<Certificate>>,
        /// The authorities that sign clients' certificates, a PEM file; turns mTLS on.
        client_ca: Option<PathBuf>,
        /// Whether a client must show a certificate; `required` when `client_ca` is set.
        client_auth: Option<ClientAuth>,
        /// The oldest version of TLS that is accepted; default `1.2`.
        #[schemars(default, extend("default" = "1.2", "enum" = ["1.2", "1.3", 1.2, 1.3]), with = "serde_json::Value")]
        min_version: Option<()>,
    }
}
