//! HTTP/2 in frames that were ready before: calls on a connection, one or some at a time, from a client, and at an origin.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::PATIENCE;
use super::origin::Origin;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const HEAD: usize = 9;
/// Room for a frame of the usual largest size, and another's beginning.
const ROOM: usize = 32 * 1024;
/// Windows that never end.
const WINDOW: [u8; 4] = [0x7f, 0xff, 0, 0];

/// What a client sends for a call: header blocks for HPACK's tables as they are at first and later, and a body.
pub(crate) struct Call {
    first: Vec<u8>,
    later: Vec<u8>,
    body: Vec<u8>,
}

impl Call {
    /// A request without body, as [`super::small`].
    pub(crate) fn get() -> Self {
        let path = [&[0x04, 9], &b"/checkout"[..]].concat();
        let host = [&[0x41, 16], &b"shop.example.com"[..]].concat();
        let first = [&[0x82, 0x86][..], &host, &path, &[0x7a, 8], b"lean/1.0", &[0x53, 3], b"*/*"].concat();
        let later = [&[0x82, 0x86, 0xc0][..], &path, &[0xbf, 0xbe]].concat();
        Self { first, later, body: Vec::new() }
    }

    /// A unary gRPC call with a message of 100 bytes, which comes back.
    pub(crate) fn grpc() -> Self {
        let path = [&[0x04, 14], &b"/shop.Cart/Get"[..]].concat();
        let host = [&[0x41, 16], &b"shop.example.com"[..]].concat();
        let kind = [&[0x5f, 16], &b"application/grpc"[..], &[0x40, 2], b"te", &[8], b"trailers"].concat();
        let first = [&[0x83, 0x86][..], &host, &path, &kind, &[0x7a, 8], b"lean/1.0"].concat();
        let later = [&[0x83, 0x86, 0xc1][..], &path, &[0xc0, 0xbf, 0xbe]].concat();
        Self { first, later, body: message() }
    }
}

/// A gRPC message of 100 bytes, with its prefix.
fn message() -> Vec<u8> {
    [&[0, 0, 0, 0, 100][..], &[b'm'; 100]].concat()
}

/// An HTTP/2 client on one connection, by prior knowledge.
pub(crate) struct Http2Client {
    frames: Frames,
    call: Call,
    at_once: u32,
    /// The next stream.
    stream: u32,
    out: Vec<u8>,
}

impl Http2Client {
    /// A connection to `address` for calls of one kind, so many at a time.
    pub(crate) fn connect(address: SocketAddr, call: Call, at_once: u32) -> Self {
        let mut stream = TcpStream::connect(address).expect("Weir accepts");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &beginning()].concat()).expect("the preface");
        Self { frames: Frames::new(stream), call, at_once, stream: 1, out: Vec::with_capacity(1024) }
    }

    /// Sends the calls in one write.
    pub(crate) fn send(&mut self) {
        let Self { frames, call, at_once, stream, out } = self;
        out.clear();
        let ends = if call.body.is_empty() { END_STREAM } else { 0 };
        for _ in 0..*at_once {
            let block = if *stream == 1 { &call.first } else { &call.later };
            push(out, HEADERS, END_HEADERS | ends, *stream, block);
            if !call.body.is_empty() {
                push(out, DATA, END_STREAM, *stream, &call.body);
            }
            *stream += 2;
        }
        frames.socket.write_all(out).expect("the calls are taken");
    }

    /// Reads their whole answers, which must be 200 each.
    pub(crate) fn receive(&mut self) {
        let (mut begun, mut ended) = (0, 0);
        while ended < self.at_once {
            let (kind, flags, stream, payload) = self.frames.next().expect("a frame");
            assert!(kind <= HEADERS || kind == CONTINUATION, "a frame of type {kind}: {payload:?}");
            assert!(stream + 2 * self.at_once >= self.stream && stream < self.stream, "an answer on stream {stream}");
            // The static table's `:status: 200`; the first block may begin with the size of the dynamic table.
            begun += u32::from(kind == HEADERS && payload.contains(&0x88));
            ended += u32::from(kind <= HEADERS && flags & END_STREAM != 0);
        }
        assert_eq!(begun, self.at_once, "each answer has one head with 200");
    }
}

impl Origin {
    /// Starts one that speaks HTTP/2 and answers each call with [`message`] and the status of gRPC. It calls `before` when
    /// it has a call, and answers afterwards.
    pub(crate) fn http2(before: impl Fn() + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let before = Arc::new(before);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let before = Arc::clone(&before);
                // A connection that ends is Weir's business.
                thread::spawn(move || serve(stream, &*before).ok());
            }
        });
        Self::at(address)
    }
}

fn serve(mut socket: TcpStream, before: &impl Fn()) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.read_exact(&mut [0; 24])?;
    socket.write_all(&beginning())?;
    let mut frames = Frames::new(socket);
    let mut out = Vec::with_capacity(1024);
    // `content-type: application/grpc` and `grpc-status: 0`, which no table holds.
    let head = [&[0x88, 0x0f, 16, 16], &b"application/grpc"[..]].concat();
    let trailers = [&[0, 11], &b"grpc-status"[..], &[1], b"0"].concat();
    let body = message();
    loop {
        let (kind, flags, stream, _) = frames.next()?;
        if kind <= HEADERS && flags & END_STREAM != 0 {
            before();
            out.clear();
            push(&mut out, HEADERS, END_HEADERS, stream, &head);
            push(&mut out, DATA, 0, stream, &body);
            push(&mut out, HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
            frames.socket.write_all(&out)?;
        }
    }
}

/// What each side says first: windows so large that nobody has to raise them.
fn beginning() -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, SETTINGS, 0, 0, &[&[0, 4], &WINDOW[..]].concat());
    push(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW);
    out
}

fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The frames of a connection that are about a stream; the others are answered here.
struct Frames {
    socket: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Frames {
    fn new(socket: TcpStream) -> Self {
        Self { socket, buffer: vec![0; ROOM].into_boxed_slice(), start: 0, end: 0 }
    }

    /// The type, the flags, the stream and the payload of the next one.
    fn next(&mut self) -> io::Result<(u8, u8, u32, &[u8])> {
        loop {
            let (kind, flags, stream, payload) = self.whole()?;
            match kind {
                SETTINGS | PING if flags & ACK == 0 => {
                    let mut answer = [0, 0, 0, kind, ACK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                    let length = if kind == PING { 8 } else { 0 };
                    answer[2] = u8::try_from(length).expect("a byte");
                    answer[HEAD..HEAD + length].copy_from_slice(&self.buffer[payload.start..payload.start + length]);
                    self.socket.write_all(&answer[..HEAD + length])?;
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Ok((kind, flags, stream, &self.buffer[payload])),
            }
        }
    }

    /// The next frame, and where its payload is.
    fn whole(&mut self) -> io::Result<(u8, u8, u32, std::ops::Range<usize>)> {
        loop {
            let have = &self.buffer[self.start..self.end];
            if let Some(&[a, b, c, kind, flags, s1, s2, s3, s4]) = have.first_chunk::<HEAD>() {
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                if have.len() >= HEAD + length {
                    let from = self.start + HEAD;
                    self.start = from + length;
                    return Ok((kind, flags, u32::from_be_bytes([s1, s2, s3, s4]), from..from + length));
                }
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.socket.read(&mut self.buffer[self.end..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.end += read,
            }
        }
    }
}
