//! A blocking origin: reads a request, writes bytes that were ready before.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::message::Inbox;

/// An origin that answers until the process ends.
pub(crate) struct Origin {
    address: SocketAddr,
}

/// What it answers.
struct Answers {
    small: Vec<u8>,
    chunked: Vec<u8>,
}

impl Origin {
    /// Starts one on a free port. It calls `before` when it has a request, and answers afterwards.
    pub(crate) fn start(before: impl Fn() + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new((Answers::new(), before));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared.0, &shared.1));
            }
        });
        Self { address }
    }

    /// One that listens there.
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Answers {
    fn new() -> Self {
        let body = "o".repeat(128);
        let chunk = "c".repeat(512);
        let chunks = format!("200\r\n{chunk}\r\n").repeat(3);
        let head = "HTTP/1.1 200 OK\r\nserver: lean\r\ncontent-type: text/plain\r\n";
        Self {
            small: format!("{head}content-length: 128\r\n\r\n{body}").into_bytes(),
            chunked: format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").into_bytes(),
        }
    }
}

/// Serves one connection until the other side closes it, in whatever way.
fn serve(mut stream: TcpStream, answers: &Answers, before: &impl Fn()) {
    let mut inbox = Inbox::new();
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(Some(request)) = inbox.next(&mut stream) {
        let answer = if request.starts_with(b"GET /chunked ") { &answers.chunked } else { &answers.small };
        before();
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}
