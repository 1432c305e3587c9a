//! An HTTP/1.1 client over plaintext or TLS that reads every byte of an answer and believes no framing but
//! Content-Length, the only one that the origin uses.

use std::rc::Rc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Target;
use crate::{Failure, HOST};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Connects, with TLS where the target has it.
pub(crate) async fn connect(target: &Target) -> Result<Box<dyn Stream>, Failure> {
    let stream = TcpStream::connect(target.address).await.map_err(|error| format!("connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let Some(tls) = &target.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(HOST).map_err(|error| error.to_string())?;
    let stream = tls.connect(name, stream).await.map_err(|error| format!("handshake: {error}"))?;
    Ok(Box::new(stream))
}

pub(crate) struct Client {
    target: Rc<Target>,
    connection: Option<Connection>,
}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn new(target: Rc<Target>) -> Self {
        Self { target, connection: None }
    }

    pub(crate) async fn exchange(&mut self) -> Result<(), Failure> {
        let mut connection = match self.connection.take() {
            Some(kept) => kept,
            None => Connection { stream: connect(&self.target).await?, buffer: vec![0; self.target.buffer] },
        };
        connection.send(&self.target.request).await?;
        connection.answer().await?;
        if self.target.fresh {
            connection.end().await
        } else {
            self.connection = Some(connection);
            Ok(())
        }
    }
}

impl Connection {
    async fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request).await.map_err(|error| format!("send: {error}"))?;
        self.stream.flush().await.map_err(|error| format!("send: {error}"))
    }

    async fn read(&mut self, from: usize) -> Result<usize, Failure> {
        let free = self.buffer.get_mut(from..).filter(|free| !free.is_empty()).ok_or("the head is too large")?;
        match self.stream.read(free).await {
            Ok(0) => Err("the connection ended before the answer".to_owned()),
            Ok(read) => Ok(read),
            Err(error) => Err(format!("receive: {error}")),
        }
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        let mut filled = 0;
        let whole = loop {
            filled += self.read(filled).await?;
            if let Some(whole) = whole(self.buffer.get(..filled).unwrap_or_default())? {
                break whole;
            }
        };
        let mut left = whole.checked_sub(filled).ok_or("more bytes than Content-Length says")?;
        while left > 0 {
            left = left.checked_sub(self.read(0).await?).ok_or("more bytes than Content-Length says")?;
        }
        Ok(())
    }

    /// The other side closes after `Connection: close`; so the port in TIME_WAIT is its, not ours.
    async fn end(mut self) -> Result<(), Failure> {
        match self.stream.read(&mut self.buffer).await {
            // Without close_notify is an end, too: the answer is complete by its length.
            Ok(0) | Err(_) => Ok(()),
            Ok(_more) => Err("bytes after the answer".to_owned()),
        }
    }
}

/// The bytes of head and body together, once the head is there.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(bytes).map_err(|error| format!("answer: {error}"))? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    if response.code != Some(200) {
        return Err(format!("status {}", response.code.unwrap_or(0)));
    }
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    length.map(|length| Some(head + length)).ok_or_else(|| "an answer without Content-Length".to_owned())
}
