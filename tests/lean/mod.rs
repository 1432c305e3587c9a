//! Clients and origins that cost little and allocate nothing once they run, so that what is counted around them —
//! allocations (`tests/alloc`), instructions (`benches/instructions`) — is Weir's.
//!
//! ```text
//! Client (one connection, lockstep) ──► Weir ──► Origin (one thread per connection)
//! ```
//!
//! Blocking sockets and fixed buffers; one message at a time on each connection, and the next only when the last
//! one ended exactly where its framing says.

mod client;
mod http2;
mod message;
mod origin;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use self::client::Client;
pub(crate) use self::http2::{Call, Http2Client};
pub(crate) use self::origin::Origin;

/// How long one read may take. Under callgrind everything is fifty times slower, and the machine may have other work.
const PATIENCE: Duration = Duration::from_secs(600);

/// A request without body; the answer has 128 bytes and a length.
pub(crate) fn small() -> Vec<u8> {
    b"GET /checkout HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: lean/1.0\r\nAccept: */*\r\n\r\n".to_vec()
}

/// An upload of 4 KiB with its length; the answer is that of [`small`].
pub(crate) fn post() -> Vec<u8> {
    let mut request = b"POST /checkout HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: lean/1.0\r\n\
        Content-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\n"
        .to_vec();
    request.resize(request.len() + 4096, b'u');
    request
}

/// A request without body; the answer comes in chunks, 3 of 512 bytes.
pub(crate) fn chunked() -> Vec<u8> {
    b"GET /chunked HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: lean/1.0\r\nAccept: */*\r\n\r\n".to_vec()
}

/// Where the listener `name` of the Weir behind this admin socket is bound, once it is.
pub(crate) fn listener(admin: &Path, name: &str) -> SocketAddr {
    let began = Instant::now();
    loop {
        match status(admin) {
            Ok(status) => {
                let found = status.listeners.iter().find(|listener| listener.name == name);
                return found.expect("the listener is configured").address.parse().expect("IP:PORT");
            }
            Err(error) => assert!(began.elapsed() < PATIENCE, "no status at {}: {error}", admin.display()),
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What the Weir behind this admin socket says of itself.
pub(crate) fn status(admin: &Path) -> std::io::Result<weir::admin::wire::Status> {
    let mut stream = UnixStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|at| at == b"\r\n\r\n").map_or(0, |end| end + 4);
    Ok(serde_json::from_slice(&answer[body..])?)
}
