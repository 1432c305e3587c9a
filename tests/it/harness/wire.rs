//! HTTP/1 framing read from raw bytes, for both sides: heads, bodies by length, by chunks or until the end, trailers.
//!
//! Written by hand because stories must see what libraries hide: the case of a field name, the order of fields,
//! bytes after the message, an end in the middle of a body.

use std::io;
use std::sync::LazyLock;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Header or trailer fields as they arrived: order, case and duplicates kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, Vec<u8>)>);

impl Fields {
    /// The first value of `name`, whatever its case, as text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.bytes(name).map(|value| std::str::from_utf8(value).unwrap())
    }

    /// The first value of `name` as bytes.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }

    /// All values of `name`, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let own = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
    }

    /// Adds a field at the end.
    pub(crate) fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.push((name.to_owned(), value.as_ref().to_vec()));
    }

    /// Whether a comma-separated list field has this element.
    pub(crate) fn lists(&self, name: &str, element: &str) -> bool {
        self.all(name).iter().flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(element))
    }

    /// As HTTP/1 bytes, without the empty line.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    /// As the map that the h2 crate takes.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let name = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.0.iter().map(|(own, value)| (name(own), http::HeaderValue::from_bytes(value).unwrap())).collect()
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        Self(map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect())
    }
}

impl From<&[httparse::Header<'_>]> for Fields {
    fn from(fields: &[httparse::Header<'_>]) -> Self {
        Self(fields.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect())
    }
}

/// A request's head.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    /// As the client wrote it.
    pub(crate) method: String,
    /// The request target; of HTTP/2 the `:path`.
    pub(crate) target: String,
    /// Of HTTP/2, the `:authority`.
    pub(crate) authority: Option<String>,
    /// The HTTP version.
    pub(crate) version: http::Version,
    /// The header.
    pub(crate) headers: Fields,
}

/// A response's head.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHead {
    /// The status code.
    pub(crate) status: u16,
    /// The HTTP version.
    pub(crate) version: http::Version,
    /// The header.
    pub(crate) headers: Fields,
}

/// What is left of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks; this many bytes are left of the present one, none before a chunk's size line.
    Chunks(Option<u64>),
    /// Everything until the end of the connection.
    UntilEof,
    /// Nothing; these were the trailers.
    Done(Fields),
}

impl Body {
    /// How the body of a request with this header is framed.
    pub(crate) fn of_request(head: &RequestHead) -> Self {
        Self::framed(&head.headers).unwrap_or(Self::Done(Fields::default()))
    }

    /// How the body of this response to a request with this method is framed.
    pub(crate) fn of_response(method: &str, head: &ResponseHead) -> Self {
        let none = method == "HEAD" || head.status < 200 || matches!(head.status, 204 | 304);
        let tunnel = head.status == 101 || method == "CONNECT" && head.status < 300;
        match Self::framed(&head.headers) {
            _ if none && !tunnel => Self::Done(Fields::default()),
            Some(body) if !tunnel => body,
            _ => Self::UntilEof,
        }
    }

    fn framed(headers: &Fields) -> Option<Self> {
        if headers.lists("transfer-encoding", "chunked") {
            return Some(Self::Chunks(None));
        }
        headers.get("content-length").map(|length| Self::Length(length.parse().expect("a length is a number")))
    }
}

/// Bytes that arrived and were not used yet.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    pub(crate) buffer: BytesMut,
}

impl Inbound {
    /// Reads once; 0 is the end of the connection.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) async fn fill(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        io.read_buf(&mut self.buffer).await
    }

    /// Reads more or fails with [`io::ErrorKind::UnexpectedEof`].
    async fn more(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        match self.fill(io).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads a request's head; none if the connection ended before its first byte.
    ///
    /// # Errors
    /// The socket's, `UnexpectedEof` in the middle of a head, `InvalidData` for what is not one.
    pub(crate) async fn request(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<RequestHead>> {
        loop {
            let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut request = httparse::Request::new(&mut fields);
            if let httparse::Status::Complete(length) = request.parse(&self.buffer).map_err(invalid)? {
                let head = RequestHead {
                    method: request.method.unwrap_or_default().to_owned(),
                    target: request.path.unwrap_or_default().to_owned(),
                    authority: None,
                    version: version(request.version),
                    headers: Fields::from(&*request.headers),
                };
                self.buffer.advance(length);
                return Ok(Some(head));
            }
            let empty = self.buffer.is_empty();
            if self.fill(io).await? == 0 {
                return if empty { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads a response's head, interim ones too; none if the connection ended before its first byte.
    ///
    /// # Errors
    /// Like [`Self::request`].
    pub(crate) async fn response(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<ResponseHead>> {
        loop {
            let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut response = httparse::Response::new(&mut fields);
            if let httparse::Status::Complete(length) = response.parse(&self.buffer).map_err(invalid)? {
                let head = ResponseHead {
                    status: response.code.unwrap_or_default(),
                    version: version(response.version),
                    headers: Fields::from(&*response.headers),
                };
                self.buffer.advance(length);
                return Ok(Some(head));
            }
            let empty = self.buffer.is_empty();
            if self.fill(io).await? == 0 {
                return if empty { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next piece of a body; none at its end, with the trailers left in [`Body::Done`].
    ///
    /// # Errors
    /// The socket's, `UnexpectedEof` before the end that the framing promised, `InvalidData` for bad chunks.
    pub(crate) async fn body(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        body: &mut Body,
    ) -> io::Result<Option<Bytes>> {
        loop {
            match body {
                Body::Done(_) => return Ok(None),
                Body::Length(0) => *body = Body::Done(Fields::default()),
                Body::Chunks(Some(0)) => {
                    while self.buffer.len() < 2 {
                        self.more(io).await?;
                    }
                    if self.buffer.split_to(2)[..] != *b"\r\n" {
                        return Err(invalid("a chunk does not end where its size says"));
                    }
                    *body = Body::Chunks(None);
                }
                Body::Chunks(None) => *body = self.chunk_size(io).await?,
                Body::Length(left) | Body::Chunks(Some(left)) => {
                    if self.buffer.is_empty() {
                        self.more(io).await?;
                    }
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
                    *left -= take as u64;
                    return Ok(Some(self.buffer.split_to(take).freeze()));
                }
                Body::UntilEof => {
                    if self.buffer.is_empty() && self.fill(io).await? == 0 {
                        *body = Body::Done(Fields::default());
                    } else {
                        return Ok(Some(self.buffer.split().freeze()));
                    }
                }
            }
        }
    }

    /// Reads a chunk's size line, and after the last chunk the trailers.
    async fn chunk_size(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<Body> {
        let (line, size) = loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete(found)) => break found,
                Ok(httparse::Status::Partial) => self.more(io).await?,
                Err(_) => return Err(invalid("not a chunk size")),
            }
        };
        if size > 0 {
            self.buffer.advance(line);
            return Ok(Body::Chunks(Some(size)));
        }
        loop {
            let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
            let rest = &self.buffer[line..];
            if let httparse::Status::Complete((length, fields)) =
                httparse::parse_headers(rest, &mut fields).map_err(invalid)?
            {
                let trailers = Fields::from(fields);
                self.buffer.advance(line + length);
                return Ok(Body::Done(trailers));
            }
            self.more(io).await?;
        }
    }
}

/// A checksum of a body: FNV-1a, 64 bits. Not for safety, only to tell bodies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checksum(u64);

impl Checksum {
    /// Of nothing yet.
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Of the earlier bytes and these.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut sum = Self::new();
        sum.add(bytes);
        sum
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The bytes from `from` on of the endless body that `/bytes/N` and `/chunked/N` serve.
///
/// It repeats after a prime number of bytes, so that a piece that is lost, doubled or moved by any buffer's size shows.
pub(crate) fn pattern(from: u64, length: usize) -> Bytes {
    const PERIOD: usize = 65_521;
    static TWICE: LazyLock<Bytes> = LazyLock::new(|| {
        let mix = |at: usize| (at % PERIOD).wrapping_mul(2_654_435_761).to_be_bytes()[5];
        (0..PERIOD * 2).map(mix).collect::<Vec<u8>>().into()
    });
    let start = usize::try_from(from % PERIOD as u64).unwrap();
    assert!(length <= PATTERN_PIECE, "a piece of the pattern is at most {PATTERN_PIECE} bytes long");
    TWICE.slice(start..start + length)
}

/// The longest piece that [`pattern`] gives.
pub(crate) const PATTERN_PIECE: usize = 32 * 1024;

fn version(minor: Option<u8>) -> http::Version {
    if minor == Some(0) { http::Version::HTTP_10 } else { http::Version::HTTP_11 }
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// More fields than any story sends through.
const MAX_FIELDS: usize = 1024;
