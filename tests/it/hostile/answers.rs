//! Endpoints that answer oddly: one table of answers, and what each client gets, whichever lane carries it and however
//! the endpoint is reached. Whatever an endpoint sends, the next request gets its own answer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::harness::client::Response;
use crate::harness::socket::server_config;
use crate::harness::wire::Fields;
use crate::harness::{Authority, Failure, H1, H2, Request, Target, Weir, express_lane};

/// What an endpoint does after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Stay,
    Close,
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// This status and body.
    Whole(u16, &'static str),
    /// 502, with this cause.
    Refused(&'static str),
    /// 200, then so many bytes of a body that does not end.
    Cut(usize),
}

/// Whether the endpoint's connection may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    May,
    MustNot,
}

use After::{Close, Stay};
use Got::{Cut, Refused, Whole};
use Keep::{May, MustNot};

const ABC: Got = Whole(200, "abc");
const BAD: Got = Refused("protocol");

/// An answer as the endpoint writes it, what it does then, what the client gets, and whether the connection is kept.
const ROWS: &[(&str, After, Got, Keep)] = &[
    // Regular.
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\n\r\nabc", Close, ABC, MustNot),
    // The end comes too early.
    ("", Close, Refused("reset"), MustNot),
    ("HTTP/1.1 200 OK\r\nConte", Close, Refused("reset"), MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", Close, Cut(3), MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", Close, Cut(3), MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Close, Cut(3), MustNot),
    // No HTTP.
    ("\0\u{1}garbage\r\n\r\n", Close, BAD, MustNot),
    ("SSH-2.0-x\r\n", Stay, BAD, MustNot),
    ("HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 99999 X\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 000 X\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 20 X\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 O\u{1}K\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nX A: a\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nfoo\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    // Lengths.
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: 03\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: 000000000000000000000003\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: 03, 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3,3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 03\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: \t 3 \t\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length:\r\n 3\r\n \r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 03, 5\r\n\r\nabcde", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3,\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3, 5\r\n\r\nabcde", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\nabc", Stay, BAD, MustNot),
    // Codings.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Stay,
        ABC,
        MustNot,
    ),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Stay, ABC, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Stay,
        BAD,
        MustNot,
    ),
    // Chunks.
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3  \r\nabc\r\n0 \r\n\r\n", Stay, ABC, May),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000003\r\nabc\r\n0000\r\n\r\n",
        Stay,
        ABC,
        May,
    ),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n", Stay, BAD, MustNot),
    // Forgiven.
    ("HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    ("\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, MustNot),
    ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, MustNot),
    // What concerns the connection, or is not the endpoint's to say.
    (
        "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nX-Secret: 1\r\nweir-error: no_endpoint\r\nContent-Length: 3\r\n\r\nabc",
        Stay,
        ABC,
        May,
    ),
    ("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    (
        "HTTP/1.1 200 OK\r\nConnection: a, X-Secret\r\nConnection: b, upgrade\r\nX-Secret: 1\r\nContent-Length: 3\r\n\r\nabc",
        Stay,
        ABC,
        May,
    ),
    ("HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nTE: x\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    ("HTTP/1.1 200 OK\r\nte: trailers\r\nContent-Length: 3\r\n\r\nabc", Stay, ABC, May),
    (
        "HTTP/1.1 103 E\r\nTE: x\r\nKeep-Alive: 5\r\n\r\nHTTP/1.1 200 OK\r\nUPGRADE: h2c\r\nKeep-Alive: timeout=5\r\nPROXY-Connection: x\r\nTE: x\r\nTe: trailers\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Stay,
        ABC,
        May,
    ),
    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\nevil", Stay, BAD, MustNot),
    // Without a body.
    ("HTTP/1.1 204 No Content\r\n\r\n", Stay, Whole(204, ""), May),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Stay, Whole(204, ""), May),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", Stay, Whole(204, ""), MustNot),
    ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Stay, Whole(204, ""), MustNot),
    ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", Stay, Whole(304, ""), May),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", Stay, Whole(304, ""), MustNot),
    // Informational.
    (
        "HTTP/1.1 103 E\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nweir-error: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        Stay,
        ABC,
        May,
    ),
    // More than the answer.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Stay,
        ABC,
        MustNot,
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcH", Stay, ABC, MustNot),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Stay,
        ABC,
        MustNot,
    ),
];

/// Answers to `HEAD`, and the length that the client is told.
const HEADS: &[(&str, &str)] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "3"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n", "3"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 03\r\n\r\n", "3"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
    ("HTTP/1.1 200 OK\r\n\r\n", ""),
];

/// The endpoint: a request for `/odd/N` gets row N, one for `/head/N` an answer to `HEAD`, every other one its own path and the number of its connection.
#[derive(Default)]
struct Odd {
    connections: AtomicUsize,
    /// The connection that a row was last asked on.
    last: AtomicUsize,
}

impl Odd {
    async fn serve(self: Arc<Self>, mut socket: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let number = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let mut read = Vec::new();
        loop {
            let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
                if socket.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
                continue;
            };
            let head = String::from_utf8_lossy(&read.drain(..end + 4).collect::<Vec<u8>>()).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            if let Some(row) = path.strip_prefix("/odd/") {
                self.last.store(number, Ordering::SeqCst);
                let (answer, after, ..) = ROWS[row.parse::<usize>().unwrap()];
                socket.write_all(answer.as_bytes()).await?;
                socket.flush().await?;
                if after == Close {
                    return socket.shutdown().await;
                }
            } else if let Some(row) = path.strip_prefix("/head/") {
                socket.write_all(HEADS[row.parse::<usize>().unwrap()].0.as_bytes()).await?;
                socket.flush().await?;
            } else {
                let body = format!("{path} {number}");
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await?;
                socket.flush().await?;
            }
        }
    }

    /// Listens on TCP, with TLS if there is a configuration; the address.
    async fn tcp(self: Arc<Self>, tls: Option<Arc<ServerConfig>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (odd, tls) = (Arc::clone(&self), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => odd.serve(socket).await,
                        Some(config) => odd.serve(TlsAcceptor::from(config).accept(socket).await?).await,
                    }
                });
            }
        });
        address
    }

    fn unix(self: Arc<Self>, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&self).serve(socket));
            }
        });
    }
}

/// How a client asks.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// Over the express lane, if it is open.
    Plain,
    /// So that the general lane carries it.
    Nominating,
    Http2,
}

impl Client {
    async fn ask(self, web: &Target, host: &str, path: &str) -> Result<Response, Failure> {
        let method = if path.starts_with("/head/") { "HEAD" } else { "GET" };
        let request = Request::new(method, path).host(host);
        match self {
            Self::Plain => H1::connect(web).await.try_send(&request).await,
            Self::Nominating => {
                H1::connect(web).await.try_send(&request.header("connection", "keep-alive, x-hop")).await
            }
            Self::Http2 => H2::connect(web).await.try_send(&request).await,
        }
    }
}

/// Whether a head has one framing and nothing that is not the client's to see.
fn is_canonical(status: u16, fields: &Fields, http2: bool) -> bool {
    let framings = fields.all("content-length").len() + fields.all("transfer-encoding").len();
    let one = match status {
        204 => framings == 0,
        304 => fields.get("transfer-encoding").is_none() && framings <= 1,
        _ if http2 => fields.get("transfer-encoding").is_none() && framings <= 1,
        _ => framings == 1,
    };
    let private = ["x-secret", "upgrade", "keep-alive", "proxy-connection", "te"];
    let private = private.iter().any(|name| fields.get(name).is_some());
    one && !private && !(http2 && fields.get("connection").is_some())
}

fn check(row: usize, client: Client, outcome: Result<Response, Failure>) {
    let (answer, _, got, _) = ROWS[row];
    let told = |seen: &dyn std::fmt::Debug| format!("{client:?}, {answer:?}: {seen:?}");
    let http2 = matches!(client, Client::Http2);
    match (got, outcome) {
        (Whole(status, body), Ok(response)) => {
            assert_eq!((response.status, response.text()), (status, body), "{}", told(&response));
            assert!(http2 || response.version == http::Version::HTTP_11, "{}", told(&response));
            assert!(is_canonical(status, &response.headers, http2), "{}", told(&response));
            assert_eq!(response.header("weir-error"), "", "{}", told(&response));
            if status == 200 && response.headers.get("content-length").is_some() {
                assert_eq!(response.header("content-length"), body.len().to_string(), "{}", told(&response));
            }
            for head in &response.interim {
                assert!(head.headers.all("content-length").is_empty(), "{}", told(head));
                for name in ["weir-error", "te", "keep-alive"] {
                    assert!(head.headers.all(name).is_empty(), "{}", told(head));
                }
            }
        }
        (Refused(cause), Ok(response)) => {
            assert_eq!((response.status, response.header("weir-error")), (502, cause), "{}", told(&response));
        }
        (Cut(bytes), Err(Failure::Truncated { head: Some(head), received, .. })) => {
            assert_eq!((head.status, received), (200, bytes), "{}", told(&head));
        }
        (_, outcome) => panic!("{}", told(&outcome)),
    }
}

async fn tell(kind: &str) {
    let odd = Arc::new(Odd::default());
    let authority = Authority::new("upstream");
    let plan = Weir::plan("");
    authority.write(plan.dir(), "ca");
    let (address, tls) = match kind {
        "unix" => {
            Arc::clone(&odd).unix(&plan.dir().join("odd.sock"));
            ("unix:{dir}/odd.sock".to_owned(), "")
        }
        "tls" => {
            let config = server_config(&authority.server(&["odd.test"]), None);
            (Arc::clone(&odd).tcp(Some(config)).await, "tls: { ca: \"{dir}/ca.crt\", sni: odd.test }")
        }
        _ => (Arc::clone(&odd).tcp(None).await, ""),
    };
    let template = format!(
        "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
telemetry: {{ address: \"127.0.0.1:0\" }}
admin: {{ address: \"{{admin}}\" }}
state: {{ directory: \"{{dir}}/state\" }}
runtime: {{ threads: 1 }}
services:
  shop:
    versions: {{ v1: {{ endpoints: [\"{address}\"] }} }}
    {tls}
routes:
  - {{ service: shop }}
"
    );
    let weir = plan.template(&template).start().await;
    let web = Target::from(weir.address("web").await);
    let clients = if express_lane() {
        &[Client::Plain, Client::Nominating, Client::Http2][..]
    } else {
        &[Client::Plain, Client::Http2]
    };
    for (row, (answer, .., keep)) in ROWS.iter().enumerate() {
        for &client in clients {
            check(row, client, client.ask(&web, "shop.test", &format!("/odd/{row}")).await);
            let path = format!("/me/{row}");
            let own = client.ask(&web, "shop.test", &path).await.unwrap().expect(200);
            let (echoed, number) = own.text().split_once(' ').unwrap();
            assert_eq!(echoed, path, "{client:?} got the answer of another after {answer:?}");
            let again = number.parse() == Ok(odd.last.load(Ordering::SeqCst));
            assert!(*keep == May || !again, "{client:?}: the connection was used again after {answer:?}");
        }
    }
    for (row, (answer, length)) in HEADS.iter().enumerate() {
        for &client in clients {
            let response = client.ask(&web, "shop.test", &format!("/head/{row}")).await.unwrap().expect(200);
            assert_eq!((response.header("content-length"), response.text()), (*length, ""), "{client:?}: {answer:?}");
            client.ask(&web, "shop.test", "/me").await.unwrap().expect(200);
        }
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_read_alike_on_all_lanes() {
    tell("tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_read_alike_on_all_lanes_over_tls() {
    tell("tls").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_read_alike_on_all_lanes_over_unix_sockets() {
    tell("unix").await;
}
