//! A receiver for tests: answers in the order of a script, and remembers what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// What the stub does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers with this status and body.
    Answer(u16, String),
    /// Sends these bytes.
    Raw(String),
    /// Reads the request and says nothing.
    Hang,
    /// Begins an answer and does not end it.
    HangInBody,
    /// Reads the request and goes away.
    Close,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Request line and fields, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether the signature is that of the body, made within a minute, under `key`.
    pub(crate) fn is_signed_with(&self, key: &str) -> bool {
        let Some((time, tag)) = self.field("weir-signature").and_then(|field| field.split_once(',')) else {
            return false;
        };
        let (time, tag) = (time.strip_prefix("t=").unwrap(), tag.strip_prefix("v1=").unwrap());
        let tag: Vec<u8> =
            (0..tag.len()).step_by(2).map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap()).collect();
        let signed = [time.as_bytes(), b".", &self.body].concat();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        let age = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - time.parse::<u64>().unwrap();
        age < 60 && ring::hmac::verify(&key, &signed, &tag).is_ok()
    }
}

/// A receiver on loopback. It ends when it is dropped.
pub(crate) struct Stub {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    task: AbortHandle,
}

impl Stub {
    /// Plays the script, a reply for each connection; the last one is repeated.
    pub(crate) async fn start(script: impl Into<Vec<Reply>>) -> Self {
        Self::serve(script.into(), None).await
    }

    /// The same over TLS.
    pub(crate) async fn start_tls(reply: Reply, acceptor: TlsAcceptor) -> Self {
        Self::serve(vec![reply], Some(acceptor)).await
    }

    async fn serve(script: Vec<Reply>, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let seen = Arc::clone(&received);
        let task = tokio::spawn(async move {
            for turn in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                let reply = script[turn.min(script.len() - 1)].clone();
                let (seen, acceptor) = (Arc::clone(&seen), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => play(socket, reply, &seen).await,
                        // A client that does not trust the certificate goes away; the client's error says so.
                        Some(acceptor) => match acceptor.accept(socket).await {
                            Ok(socket) => play(socket, reply, &seen).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { address, received, task: task.abort_handle() }
    }

    /// `http://…` with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The only request.
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port on loopback at which nobody listens.
pub(crate) async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

async fn play(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    reply: Reply,
    seen: &Mutex<Vec<Received>>,
) -> Option<()> {
    let request = read(&mut socket).await?;
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let text = match reply {
        Reply::Answer(status, body) => {
            format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        }
        Reply::Raw(text) => text,
        Reply::Hang => return std::future::pending().await,
        Reply::HangInBody => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_owned(),
        Reply::Close => return None,
    };
    // The client may have what it wanted and be gone.
    socket.write_all(text.as_bytes()).await.ok()?;
    socket.flush().await.ok()?;
    // Until the client closes: what it does not read must not turn into a reset.
    let _ = socket.read(&mut [0; 1]).await;
    Some(())
}

async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let request = Received { head, body: bytes[end + 4..].to_vec() };
        let length: usize = request.field("content-length").map_or(0, |length| length.parse().unwrap());
        if request.body.len() >= length {
            return Some(request);
        }
    }
}
