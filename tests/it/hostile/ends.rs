//! Bodies of every size around what is held of one, in every rhythm and with every end: an endpoint gets the body once
//! and its end once, at the first attempt or at the second, and nothing that has come is waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::raw;
use super::recorder::Recorder;
use crate::harness::{H1, Target, Weir, within};

/// How a client frames its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// HTTP/2 without a length.
    H2,
    /// HTTP/2 with one.
    H2Length,
    /// HTTP/1.1 in chunks.
    Chunked,
    /// HTTP/1.1 with a length.
    Length,
}

/// When its bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rhythm {
    /// All at once.
    Together,
    /// In small pieces, each by itself.
    Pieces,
    /// With a pause in the middle that is waited for.
    Pause,
    /// With one that is not.
    LongPause,
    /// The end alone comes after a pause.
    LateEnd,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With its last bytes.
    Data,
    /// With an empty DATA frame, or the last chunk by itself.
    Empty,
    Trailers,
}

const SIZES: [usize; 11] = [0, 1, 49_152, 49_153, 65_535, 65_536, 65_537, 69_246, 81_920, 90_000, 200_000];
const KINDS: [Kind; 4] = [Kind::H2, Kind::H2Length, Kind::Chunked, Kind::Length];
const RHYTHMS: [Rhythm; 5] = [Rhythm::Together, Rhythm::Pieces, Rhythm::Pause, Rhythm::LongPause, Rhythm::LateEnd];
const ENDS: [End; 3] = [End::Data, End::Empty, End::Trailers];
/// The services: endpoints of either protocol, and those whose first attempts are refused.
const WAYS: [&str; 4] = ["h1", "h1-again", "h2", "h2-again"];

/// No byte of a body is where another could be.
fn body(size: usize) -> Bytes {
    (0..size).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[derive(Clone, Copy, Debug)]
struct Case {
    way: &'static str,
    kind: Kind,
    rhythm: Rhythm,
    end: End,
    size: usize,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for way in WAYS {
            for kind in KINDS {
                for rhythm in RHYTHMS {
                    for end in ENDS {
                        all.extend(SIZES.map(|size| Self { way, kind, rhythm, end, size }));
                    }
                }
            }
        }
        all.retain(|case| case.is_wanted());
        all
    }

    fn is_wanted(self) -> bool {
        if self.way.ends_with("again") && matches!(self.rhythm, Rhythm::LongPause | Rhythm::LateEnd) {
            // The first attempt is over by then.
            return false;
        }
        match (self.kind, self.end) {
            (Kind::Length, End::Empty | End::Trailers) => false,
            // What is over has no late end.
            (_, End::Data) => self.rhythm != Rhythm::LateEnd,
            _ => true,
        }
    }

    fn target(self) -> String {
        format!("/{}/{:?}/{:?}/{:?}/{}", self.way, self.kind, self.rhythm, self.end, self.size)
    }

    /// The pieces, each with the pause before it.
    fn pieces(self) -> Vec<(Duration, Bytes)> {
        let body = body(self.size);
        let halves = |pause| {
            let middle = self.size.min(if self.size > 60_000 { 60_000 } else { self.size / 2 });
            vec![(Duration::ZERO, body.slice(..middle)), (Duration::from_millis(pause), body.slice(middle..))]
        };
        let pieces = match self.rhythm {
            Rhythm::Together | Rhythm::LateEnd => vec![(Duration::ZERO, body)],
            Rhythm::Pieces => (0..self.size)
                .step_by(10_007)
                .map(|at| (Duration::from_millis(2), body.slice(at..self.size.min(at + 10_007))))
                .collect(),
            Rhythm::Pause => halves(300),
            Rhythm::LongPause => halves(1_300),
        };
        pieces.into_iter().filter(|(_, piece)| !piece.is_empty()).collect()
    }

    /// How long the end waits.
    fn late(self) -> Duration {
        Duration::from_millis(if self.rhythm == Rhythm::LateEnd { 300 } else { 0 })
    }

    async fn over_h2(self, web: &Target) -> (u16, String) {
        let (client, connection) = h2::client::handshake(raw::connect(web).await).await.unwrap();
        // It ends with the story.
        tokio::spawn(connection);
        let mut head = http::Request::builder().method("POST").uri(format!("http://shop.test{}", self.target()));
        if self.kind == Kind::H2Length {
            head = head.header("content-length", self.size);
        }
        let mut client = client.ready().await.unwrap();
        let (response, mut stream) = client.send_request(head.body(()).unwrap(), false).unwrap();
        let pieces = self.pieces();
        let last = pieces.len().saturating_sub(1);
        for (at, (pause, piece)) in pieces.iter().enumerate() {
            tokio::time::sleep(*pause).await;
            stream.send_data(piece.clone(), self.end == End::Data && at == last).unwrap();
        }
        tokio::time::sleep(self.late()).await;
        // A body whose length was declared may be answered before its end is here.
        match self.end {
            End::Data if pieces.is_empty() => stream.send_data(Bytes::new(), true).ok(),
            End::Data => None,
            End::Empty => stream.send_data(Bytes::new(), true).ok(),
            End::Trailers => {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-after", "1".parse().unwrap());
                stream.send_trailers(trailers).ok()
            }
        };
        let response = response.await.unwrap();
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(piece) = body.data().await {
            read.extend_from_slice(&piece.unwrap());
        }
        (status, String::from_utf8(read).unwrap())
    }

    async fn over_h1(self, web: &Target) -> (u16, String) {
        let mut client = H1::connect(web).await;
        let framing = match self.kind {
            Kind::Chunked => "transfer-encoding: chunked".to_owned(),
            _ => format!("content-length: {}", self.size),
        };
        client.write_raw(format!("POST {} HTTP/1.1\r\nhost: shop.test\r\n{framing}\r\n\r\n", self.target())).await;
        let end = match (self.kind, self.end) {
            (Kind::Chunked, End::Trailers) => "0\r\nx-after: 1\r\n\r\n",
            (Kind::Chunked, _) => "0\r\n\r\n",
            _ => "",
        };
        let mut written = Vec::new();
        for (pause, piece) in self.pieces() {
            client.write_raw(std::mem::take(&mut written)).await;
            tokio::time::sleep(pause).await;
            written = match self.kind {
                Kind::Chunked => [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat(),
                _ => piece.to_vec(),
            };
        }
        if self.end == End::Empty || self.rhythm == Rhythm::LateEnd {
            client.write_raw(std::mem::take(&mut written)).await;
            tokio::time::sleep(self.late().max(Duration::from_millis(2))).await;
        }
        written.extend_from_slice(end.as_bytes());
        client.write_raw(written).await;
        let response = client.read_response("POST").await.unwrap();
        (response.status, response.text().to_owned())
    }

    async fn run(self, web: &Target) {
        let target = self.target();
        let over_h2 = matches!(self.kind, Kind::H2 | Kind::H2Length);
        let answer = async { if over_h2 { self.over_h2(web).await } else { self.over_h1(web).await } };
        assert_eq!(within(&target, answer).await, (200, target));
    }
}

/// An HTTP/2 endpoint that answers with the target when it has the body for it and its end.
async fn h2_endpoint() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // It ends with the connection.
            tokio::spawn(serve_h2(socket));
        }
    });
    (address, accepting)
}

async fn serve_h2(socket: TcpStream) -> Option<()> {
    let mut connection = h2::server::handshake(socket).await.ok()?;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let target = request.uri().path().to_owned();
            let mut stream = request.into_body();
            let mut read = Vec::new();
            while let Some(piece) = stream.data().await {
                let piece = piece.ok()?;
                stream.flow_control().release_capacity(piece.len()).ok()?;
                read.extend_from_slice(&piece);
            }
            let size = target.rsplit('/').next().and_then(|size| size.parse().ok());
            let told =
                if size.is_some_and(|size| read == body(size)) { target } else { format!("{} bytes", read.len()) };
            respond.send_response(http::Response::new(()), false).ok()?.send_data(told.into(), true).ok()
        });
    }
    None
}

/// What `recorder` and an HTTP/2 endpoint at `h2` serve, each also behind an endpoint that refuses every connection.
fn configuration(recorder: &Recorder, h2: SocketAddr) -> String {
    let shop = recorder.shop();
    let (top, rest) = shop.split_once("services:\n").unwrap();
    let own = rest.split('"').nth(1).unwrap();
    let mut services = String::new();
    let mut routes = String::new();
    for way in WAYS {
        let protocol = if way.starts_with("h2") { "protocol: h2, " } else { "" };
        let endpoint = if way.starts_with("h2") { h2.to_string() } else { own.to_owned() };
        let refused = if way.ends_with("again") { "\"127.0.0.1:1\", " } else { "" };
        // The one that refuses is to be tried again and again.
        let health = "outlier_detection: { consecutive_errors: 0, connect_failures: 0 }";
        services += &format!(
            "  {way}: {{ {protocol}{health}, versions: {{ v1: {{ endpoints: [{refused}\"{endpoint}\"] }} }} }}\n"
        );
        routes += &format!("  - {{ name: {way}, match: {{ path: /{way} }}, service: {way} }}\n");
    }
    format!("{top}services:\n{services}routes:\n{routes}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_any_size_arrives_once_and_ends_once() {
    let recorder = Recorder::start().await;
    let (address, accepting) = h2_endpoint().await;
    let weir = Weir::start(&configuration(&recorder, address)).await;
    let web = Target::from(weir.address("web").await);
    let room = Arc::new(Semaphore::new(100));
    let mut running = JoinSet::new();
    for case in Case::all() {
        let (room, web) = (Arc::clone(&room), web.clone());
        running.spawn(async move {
            let _place = room.acquire().await.unwrap();
            case.run(&web).await;
            case
        });
    }
    let (mut seen, mut wrong) = (0, Vec::new());
    while let Some(ran) = running.join_next().await {
        match ran {
            Ok(case) if case.way.starts_with("h1") => {
                seen += 1;
                assert!(recorder.request(&case.target()).body == body(case.size), "{case:?}");
            }
            Ok(_) => seen += 1,
            Err(failed) => wrong.push(failed.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), wrong.len() + seen, wrong.join("\n"));
    assert_eq!(recorder.faults(), Vec::<String>::new());
    assert!(weir.metrics().await.value("weir_upstream_retries_total", &[("reason", "connect")]) > 100.0);
    accepting.abort();
    weir.stop().await;
}
