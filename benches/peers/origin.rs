//! The origin: a lean HTTP/1.1 server that keeps connections and counts what reaches it.
//!
//! `GET /` answers 128 bytes, `/1m` 1 MiB, `/1m/32k` and `/1m/256k` the same in pieces of that size, and any upload (by
//! length or in chunks) is read to its end and answered as `/` is. `/__counts`, asked on either port, answers
//! `requests connections forwarded-for` of that version. By prior knowledge it speaks HTTP/2 ([`origin_http2`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{Failure, origin_http2};

const MIB: usize = 1 << 20;
/// What one connection reads into; also more than any head.
const BUFFER: usize = 64 * 1024;

/// What reached one version.
#[derive(Default)]
struct Counts {
    requests: Cell<u64>,
    connections: Cell<u64>,
    forwarded: Cell<u64>,
    /// Upstream connections that are open stay in the kernel; what they read is kept here between requests.
    buffers: RefCell<Vec<Vec<u8>>>,
}

impl Counts {
    /// A call by HTTP/2, of which no field is read.
    fn call(&self) {
        self.requests.set(self.requests.get() + 1);
        self.forwarded.set(self.forwarded.get() + 1);
    }
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

fn answer(length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

/// Serves two versions until killed; says their ports in one line.
pub(crate) async fn serve() -> Result<(), Failure> {
    crate::process::die_with_parent();
    let answers = Rc::new(Answers { small: answer(128), large: answer(MIB) });
    let mut ports = Vec::new();
    let mut versions = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let listener = listen().map_err(|error| format!("origin: {error}"))?;
        ports.push(listener.local_addr().map_err(|error| format!("origin: {error}"))?.port().to_string());
        versions.spawn_local(accept(listener, Rc::clone(&answers)));
    }
    println!("{}", ports.join(" "));
    while versions.join_next().await.is_some() {}
    Ok(())
}

/// A listener with room for all that a contender connects at once; what does not fit is only connected a second later.
fn listen() -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(4096)
}

async fn accept(listener: TcpListener, answers: Rc<Answers>) {
    let counts = Rc::new(Counts::default());
    while let Ok((stream, _)) = listener.accept().await {
        let (counts, answers) = (Rc::clone(&counts), Rc::clone(&answers));
        tokio::task::spawn_local(async move {
            let mut buffer = counts.buffers.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER]);
            // A connection that ends is the proxy's business; what it lost, the client of the benchmark sees.
            let _ended = connection(stream, &counts, &answers, &mut buffer).await;
            counts.buffers.borrow_mut().push(buffer);
        });
    }
}

/// One connection to its end. `None` is an end, whoever made it.
async fn connection(mut stream: TcpStream, counts: &Counts, answers: &Answers, buffer: &mut [u8]) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut first = true;
    let mut filled = 0;
    loop {
        let head = loop {
            if let Some(head) = Head::parse(buffer.get(..filled)?)? {
                break head;
            }
            let read = stream.read(buffer.get_mut(filled..)?).await.ok().filter(|read| *read > 0)?;
            filled += read;
            if first && buffer.get(..filled)?.starts_with(origin_http2::PREFACE) {
                counts.connections.set(counts.connections.get() + 1);
                return origin_http2::connection(stream, buffer, filled, || counts.call()).await;
            }
        };
        if head.asks == Asks::Counts {
            let text = format!("{} {} {}", counts.requests.get(), counts.connections.get(), counts.forwarded.get());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            return stream.write_all(answer.as_bytes()).await.ok();
        }
        counts.connections.set(counts.connections.get() + u64::from(std::mem::take(&mut first)));
        buffer.copy_within(head.bytes..filled, 0);
        filled -= head.bytes;
        match head.body {
            Body::Length(length) => filled = skip(&mut stream, buffer, filled, length).await?,
            Body::Chunked => filled = skip_chunks(&mut stream, buffer, filled).await?,
        }
        counts.requests.set(counts.requests.get() + 1);
        counts.forwarded.set(counts.forwarded.get() + u64::from(head.forwarded));
        let answer = if let Asks::Large(_) = head.asks { &answers.large } else { &answers.small };
        let piece = if let Asks::Large(piece) = head.asks { piece } else { answer.len() };
        for piece in answer.chunks(piece) {
            stream.write_all(piece).await.ok()?;
        }
        if head.close {
            return Some(());
        }
    }
}

/// Reads `length` bytes away, those in the buffer first; returns what the buffer holds beyond them.
async fn skip(stream: &mut TcpStream, buffer: &mut [u8], filled: usize, length: u64) -> Option<usize> {
    let have = (filled as u64).min(length) as usize;
    buffer.copy_within(have..filled, 0);
    let mut left = length - have as u64;
    while left > 0 {
        let most = left.min(buffer.len() as u64) as usize;
        left -= stream.read(buffer.get_mut(..most)?).await.ok().filter(|read| *read > 0)? as u64;
    }
    Some(filled - have)
}

async fn skip_chunks(stream: &mut TcpStream, buffer: &mut [u8], mut filled: usize) -> Option<usize> {
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(buffer.get(..filled)?) else {
            let read = stream.read(buffer.get_mut(filled..)?).await.ok().filter(|read| *read > 0)?;
            filled += read;
            continue;
        };
        // The line, the data and the line end after it; no proxy here sends trailers.
        filled = skip(stream, buffer, filled, line as u64 + size + 2).await?;
        if size == 0 {
            return Some(filled);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Asks {
    Small,
    /// In pieces of so many bytes.
    Large(usize),
    Counts,
}

enum Body {
    Length(u64),
    Chunked,
}

/// What matters of a request's head.
struct Head {
    bytes: usize,
    asks: Asks,
    body: Body,
    forwarded: bool,
    close: bool,
}

impl Head {
    /// `None` for what is no request, `Some(None)` for one that is not there as a whole.
    fn parse(bytes: &[u8]) -> Option<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; 48];
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(length) = request.parse(bytes).ok()? else { return Some(None) };
        let asks = match request.path? {
            "/1m" => Asks::Large(usize::MAX),
            "/1m/32k" => Asks::Large(32 << 10),
            "/1m/256k" => Asks::Large(256 << 10),
            "/__counts" => Asks::Counts,
            _ => Asks::Small,
        };
        let mut head = Self { bytes: length, asks, body: Body::Length(0), forwarded: false, close: false };
        for field in request.headers.iter() {
            match field.name.len() {
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    head.close = field.value.eq_ignore_ascii_case(b"close");
                }
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    head.body = Body::Length(std::str::from_utf8(field.value).ok()?.parse().ok()?);
                }
                15 if field.name.eq_ignore_ascii_case("x-forwarded-for") => head.forwarded = true,
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => head.body = Body::Chunked,
                _ => {}
            }
        }
        Some(Some(head))
    }
}
