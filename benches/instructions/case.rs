//! The cases: what is configured, who asks, and how a request's cost is taken from counts.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::callgrind::Weir;
use crate::lean::{self, Call, Origin};
use crate::load::{self, Connection};
use crate::settled::Turn;

/// Requests of a phase. Phases of 500 agree to a few per mille; the median of [`PHASES`] is taken.
const PHASE: u64 = 500;
const PHASES: usize = 3;
/// Requests before the first phase: connections, pools, and code that runs once.
const WARM_UP: u64 = 200;

/// One thing that is measured.
pub(crate) struct Case {
    /// Its name in the table and the file.
    pub(crate) name: &'static str,
    /// Worker threads of Weir.
    pub(crate) threads: usize,
    /// Routes in the configuration; the last one is asked for.
    pub(crate) routes: usize,
    /// Endpoints of each version.
    pub(crate) endpoints: usize,
    /// What the service has besides its versions and its split.
    pub(crate) service: &'static str,
    /// Client connections.
    pub(crate) connections: usize,
    /// Requests that each has in flight at a time. With more than one nobody waits for Weir to sleep: it takes what is
    /// there at once, as it does under load.
    pub(crate) streams: u32,
    /// Who asks for what.
    pub(crate) client: Client,
    /// Whether it is counted for every change, or only by `make bench-instructions`.
    pub(crate) always: bool,
}

/// What the clients speak and ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// HTTP/1 with this request.
    Plain(fn() -> Vec<u8>),
    /// HTTP/1 over TLS with this request.
    Tls(fn() -> Vec<u8>),
    /// HTTP/2 with prior knowledge, the small request.
    Http2,
    /// The same, a unary gRPC call to an endpoint that speaks HTTP/2.
    Grpc,
}

/// What a request costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Instructions, the median of the phases.
    pub(crate) instructions: u64,
    /// Half the distance between the lowest and the highest phase, in percent of the median.
    pub(crate) spread: f64,
    /// Calls of the allocator.
    pub(crate) allocations: f64,
    /// The share of the busiest worker in the instructions, 0 to 1.
    pub(crate) busiest: f64,
    /// What other threads did meanwhile, in relation to the workers' instructions: by the clock, not by requests.
    pub(crate) others: f64,
}

impl Case {
    /// The common case, to be changed where a case is different.
    pub(crate) const fn new(name: &'static str, client: Client) -> Self {
        Self {
            name,
            threads: 1,
            routes: 1,
            endpoints: 1,
            service: "",
            connections: 1,
            streams: 1,
            client,
            always: true,
        }
    }

    /// Runs it.
    pub(crate) fn run(&self) -> Cost {
        let folder = tempfile::tempdir().expect("a directory");
        let turn = Arc::new(Turn::new(self.streams == 1));
        let origin = |_| {
            let turn = Arc::clone(&turn);
            let before = move || turn.settle();
            if matches!(self.client, Client::Grpc) { Origin::http2(before) } else { Origin::start(before) }
        };
        let origins: Vec<Origin> = (0..2 * self.endpoints).map(origin).collect();
        let authority = authority(folder.path());
        let admin = folder.path().join("admin.sock");
        fs::write(folder.path().join("weir.yaml"), self.config(&origins, &admin))
            .expect("the configuration is written");
        let mut weir = Weir::start(folder.path());
        turn.of(weir.id());
        let (web, secure) = (lean::listener(&admin, "web"), lean::listener(&admin, "websecure"));
        let mut clients: Vec<_> = (0..self.connections).map(|_| self.connect(web, secure, &authority)).collect();
        ask(&turn, &mut clients, self.streams, WARM_UP);
        weir.count(self.threads);
        let mut phases: Vec<_> = (0..PHASES)
            .map(|_| {
                let asked = ask(&turn, &mut clients, self.streams, PHASE);
                (weir.count(self.threads), asked)
            })
            .collect();
        phases.sort_by_key(|(count, _)| count.instructions);
        let each = |at: usize| phases[at].0.instructions as f64 / phases[at].1 as f64;
        let (count, asked) = phases[PHASES / 2];
        Cost {
            instructions: count.instructions / asked,
            spread: (each(PHASES - 1) - each(0)) / 2.0 / each(PHASES / 2) * 100.0,
            allocations: count.allocations as f64 / asked as f64,
            busiest: count.busiest as f64 / count.instructions as f64,
            others: count.others as f64 / count.instructions as f64,
        }
    }

    fn connect(&self, web: SocketAddr, secure: SocketAddr, authority: &rcgen::Certificate) -> Box<dyn Connection> {
        match self.client {
            Client::Plain(request) => load::plain(web, request()),
            Client::Tls(request) => load::tls(secure, request(), authority),
            Client::Http2 => load::http2(web, Call::get(), self.streams),
            Client::Grpc => load::http2(web, Call::grpc(), self.streams),
        }
    }

    fn config(&self, origins: &[Origin], admin: &Path) -> String {
        let addresses = |version: &[Origin]| {
            let all: Vec<String> = version.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
            all.join(", ")
        };
        let (v1, v2) = origins.split_at(self.endpoints);
        let protocol = if matches!(self.client, Client::Grpc) { "h2" } else { "http1" };
        let mut text = format!(
            "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
  - {{ name: websecure, address: \"127.0.0.1:0\", tls: {{ cert: tls.crt, key: tls.key }} }}
admin: {{ address: \"unix:{}\" }}
runtime: {{ threads: {} }}
limits: {{ header_timeout: 10m, keepalive: 10m }}
services:
  shop:
    timeouts: {{ connect: 1m, first_byte: 10m, idle: 10m }}
    pool: {{ idle_timeout: 10m }}
    protocol: {protocol}
    versions: {{ v1: {{ endpoints: [{}] }}, v2: {{ endpoints: [{}] }} }}
    split: {{ v1: 90, v2: 10 }}
{}routes:
",
            admin.display(),
            self.threads,
            addresses(v1),
            addresses(v2),
            self.service
        );
        for other in 1..self.routes {
            let line = "  - { match: { host: shop.example.com, path: /other";
            writeln!(text, "{line}/{other} }}, service: shop }}").expect("a string takes all");
        }
        text.push_str("  - { match: { host: shop.example.com, path: / }, service: shop }\n");
        text
    }
}

/// Asks at least `times` times, in rounds of `streams` requests on each connection; how many that were.
fn ask(turn: &Turn, clients: &mut [Box<dyn Connection>], streams: u32, times: u64) -> u64 {
    let mut asked = 0;
    while asked < times {
        turn.round(|| clients.iter_mut().for_each(|client| client.send()));
        clients.iter_mut().for_each(|client| client.receive());
        asked += clients.len() as u64 * u64::from(streams);
    }
    turn.settle();
    asked
}

/// Makes an authority, and writes the certificate and the key of the listener.
fn authority(folder: &Path) -> rcgen::Certificate {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["shop.example.com".to_owned()]).expect("a name");
    let server = server.signed_by(&key, &authority).expect("a certificate");
    fs::write(folder.join("tls.crt"), server.pem()).expect("the certificate is written");
    fs::write(folder.join("tls.key"), key.serialize_pem()).expect("the key is written");
    authority.as_ref().clone()
}
