//! The scenarios of which every contender has its turn: what is asked for, over which protocol, on how many connections.

use crate::Failure;
use crate::configs::Shape;
use crate::contender::{Contender, Kind, Stage};
use crate::tool::{Calls, Tool};

/// All of them, in the order of a run; those that `alone` and `run` measure otherwise too.
pub(crate) const ALL: [&str; 23] = [
    "h1",
    "h1-tls",
    "h1-512",
    "h2c",
    "h2c-1x1",
    "h2-tls",
    "grpc",
    "new-conn",
    "handshake",
    "get-1m",
    "get-1m-32k",
    "get-1m-256k",
    "get-1m-tls",
    "get-1m-h2c",
    "get-1m-h2",
    "put-1m",
    "put-1m-h2c",
    "put-1m-h2",
    "idle",
    "idle-h2",
    "access-log",
    "routes",
    "reloads",
];

/// Whether the client's connections are under TLS.
pub(crate) fn tls(name: &str) -> bool {
    name == "handshake" || name.ends_with("-tls") || name.ends_with("-h2")
}

/// Whether the client speaks HTTP/2.
pub(crate) fn http2(name: &str) -> bool {
    name == "grpc" || name.split('-').any(|part| part.starts_with("h2"))
}

/// What the contender's file has for it.
pub(crate) fn shape(name: &str) -> Shape {
    Shape { http2: name == "grpc", ..Shape::default() }
}

/// Whether a contender takes part.
pub(crate) fn has(name: &str, kind: Kind) -> bool {
    match kind {
        // It knows no TLS, and no request within a connection.
        Kind::Relay => !tls(name) && !http2(name),
        // By prior knowledge it speaks HTTP/2 on ports that speak nothing else, and to no endpoint.
        Kind::Nginx => !http2(name) || tls(name),
        Kind::Envoy => name != "grpc",
        Kind::Weir | Kind::WeirGeneral | Kind::Haproxy => true,
    }
}

/// The path of a download.
pub(crate) fn path(name: &str) -> &'static str {
    match name {
        "get-1m-32k" => "/1m/32k",
        "get-1m-256k" => "/1m/256k",
        _ if name.starts_with("get-1m") => "/1m",
        _ if name.starts_with("put-1m") => "/sink",
        "grpc" => "/shop.Cart/Get",
        _ => "/",
    }
}

/// Whether a client of ours measures the latency too.
pub(crate) fn has_latency(name: &str) -> bool {
    !http2(name) || matches!(name, "h2c" | "h2-tls")
}

/// The load program of a scenario; none where our own clients are the load.
pub(crate) fn tool(stage: &Stage, name: &str, one: &Contender, seconds: u64) -> Result<Option<Tool>, Failure> {
    let (cpu, tls) = (stage.options.load_cpu, tls(name));
    let address = if tls { one.tls } else { one.plain };
    let wrk = |connections| Tool::wrk(cpu, address, tls, connections, seconds).map(Some);
    match name {
        "h1" | "h1-tls" => return wrk(64),
        "h1-512" => return wrk(512),
        _ if !http2(name) => return Ok(None),
        _ => {}
    }
    let (connections, streams) = match name {
        "h2c" => (8, 16),
        "h2c-1x1" => (1, 1),
        "h2-tls" | "grpc" => (8, 8),
        _ => (8, 2),
    };
    let body = match name {
        "grpc" => Some(stage.file("message", 105)?),
        _ if name.starts_with("put-1m") => Some(stage.file("upload", 1 << 20)?),
        _ => None,
    };
    let calls = Calls { connections, streams, path: path(name), body: body.as_deref(), grpc: name == "grpc" };
    Tool::h2load(cpu, address, tls, &calls, seconds).map(Some)
}

impl Stage {
    /// A file that h2load sends: a gRPC message of so many bytes with its prefix, as far as anybody looks.
    fn file(&self, name: &str, bytes: usize) -> Result<std::path::PathBuf, Failure> {
        let path = self.folder.join(name);
        let mut content = vec![0, 0, 0, 0, 100];
        content.resize(bytes, b'm');
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}
