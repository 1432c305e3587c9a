//! One client connection that sends a request and reads its answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use super::message::Inbox;

/// An HTTP/1 client on one connection.
pub(crate) struct Client<S> {
    stream: S,
    inbox: Inbox,
}

impl Client<TcpStream> {
    /// A plaintext connection to `address`.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("Weir accepts");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    /// A client over this stream.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, inbox: Inbox::new() }
    }

    /// Sends a whole request.
    pub(crate) fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).and_then(|()| self.stream.flush()).expect("the request is taken");
    }

    /// Reads the whole answer, which must be a 200.
    pub(crate) fn receive(&mut self) {
        let answer = self.inbox.next(&mut self.stream).expect("an answer").expect("an answer before the end");
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    }
}
