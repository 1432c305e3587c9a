//! Bodies in every kind of pieces, empty ones too: what arrives is one body with one end, and the next request on the
//! same connection is whole.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::raw;
use super::recorder::Recorder;
use crate::harness::Fixture as _;
use crate::harness::{H1, Target, Weir, within};

/// How a stream of pieces ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With its last piece.
    Flag,
    /// With an empty DATA frame.
    Empty,
    /// With trailers.
    Trailers,
}

/// Sizes of DATA frames.
const PIECES: [&[usize]; 12] = [
    &[],
    &[0],
    &[0, 0],
    &[3],
    &[0, 3],
    &[3, 0],
    &[3, 0, 3],
    &[1, 0, 0, 1],
    &[0, 1, 0],
    &[16_000, 0, 16_000],
    &[16_000, 16_000, 16_000, 16_000, 0, 10],
    &[16_000, 16_000, 16_000, 16_000, 16_000, 0, 1],
];

async fn connect_h2(web: &Target) -> h2::client::SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(raw::connect(web).await).await.unwrap();
    // It ends with the story.
    tokio::spawn(connection);
    send
}

fn piece(size: usize) -> Bytes {
    Bytes::from(vec![b'x'; size])
}

/// Sends a request in these pieces, with a moment between them or without; the answer's body.
async fn send(
    client: &h2::client::SendRequest<Bytes>,
    target: &str,
    (pieces, end): (&[usize], End),
    pause: Duration,
    length: bool,
) -> String {
    let mut head = http::Request::builder().method("POST").uri(format!("http://shop.test{target}"));
    if length {
        head = head.header("content-length", pieces.iter().sum::<usize>());
    }
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut stream) = client.send_request(head.body(()).unwrap(), false).unwrap();
    for (at, size) in pieces.iter().enumerate() {
        tokio::time::sleep(pause).await;
        stream.send_data(piece(*size), end == End::Flag && at + 1 == pieces.len()).ok();
    }
    tokio::time::sleep(pause).await;
    // A body whose length was declared may be answered before its end is here.
    match end {
        End::Flag if pieces.is_empty() => stream.send_data(Bytes::new(), true).ok(),
        End::Flag => None,
        End::Empty => stream.send_data(Bytes::new(), true).ok(),
        End::Trailers => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-after", "1".parse().unwrap());
            stream.send_trailers(trailers).ok()
        }
    };
    let response = response.await.unwrap_or_else(|error| panic!("{target}: {error}"));
    assert_eq!(response.status(), 200, "{target}");
    let mut body = response.into_body();
    let mut read = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        read.extend_from_slice(&piece);
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_body_in_pieces_ends_once_at_an_http1_endpoint() {
    let recorder = Recorder::start().await;
    let weir = Weir::start(&recorder.shop()).await;
    let web = Target::from(weir.address("web").await);
    for (at, pieces) in PIECES.into_iter().enumerate() {
        let client = connect_h2(&web).await;
        for end in [End::Flag, End::Empty, End::Trailers] {
            for (pause, length) in [(0, false), (3, false), (0, true), (3, true)] {
                let case = format!("/{at}/{end:?}/{pause}/{length}");
                let told = send(&client, &case, (pieces, end), Duration::from_millis(pause), length).await;
                assert_eq!(told, case, "an answer that is not its own");
                let seen = recorder.request(&case);
                assert_eq!(
                    seen.body,
                    piece(pieces.iter().sum()),
                    "{case}: {:?}",
                    seen.framed.escape_ascii().to_string()
                );
                // The next one would be read into a second end of the body.
                let next = format!("{case}/next");
                assert_eq!(send(&client, &next, (&[], End::Flag), Duration::ZERO, true).await, next);
            }
        }
    }
    assert_eq!(recorder.faults(), Vec::<String>::new());
    let (connections, requests) = (recorder.connections(), recorder.requests().len());
    assert!(connections * 2 < requests, "kept connections are used again: {connections} for {requests} requests");
    weir.stop().await;
}

/// Chunks as one piece, in pieces, and byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn an_http1_body_in_chunks_ends_once() {
    let recorder = Recorder::start().await;
    let weir = Weir::start(&recorder.shop()).await;
    let web = Target::from(weir.address("web").await);
    for (at, (chunks, body)) in [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3\r\nabc\r\n0\r\nx-after: 1\r\n\r\n", "abc"),
        ("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc"),
    ]
    .into_iter()
    .enumerate()
    {
        for step in [1, 2, 3, 5, 8, 100] {
            let case = format!("/{at}/{step}");
            let mut client = H1::connect(&web).await;
            client
                .write_raw(format!("POST {case} HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n"))
                .await;
            for part in chunks.as_bytes().chunks(step) {
                // Small enough that each is read by itself.
                tokio::time::sleep(Duration::from_millis(1)).await;
                client.write_raw(part).await;
            }
            let response = client.read_response("POST").await.unwrap();
            assert_eq!(response.text(), case);
            assert_eq!(recorder.request(&case).body, body.as_bytes(), "{case}");
            assert_eq!(client.get(&format!("{case}/next")).await.text(), format!("{case}/next"));
        }
    }
    assert_eq!(recorder.faults(), Vec::<String>::new());
    weir.stop().await;
}

/// An HTTP/2 endpoint that answers in these pieces; `/SHAPE/END`.
async fn h2_endpoint() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer_h2(socket));
        }
    });
    (address, accepting)
}

async fn answer_h2(socket: TcpStream) -> Option<()> {
    let mut connection = h2::server::handshake(socket).await.ok()?;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let parts: Vec<&str> = request.uri().path().trim_start_matches('/').split('/').collect();
            let pieces = PIECES[parts[0].parse::<usize>().unwrap()];
            let mut head = http::Response::builder().status(200);
            if parts[2] == "true" {
                head = head.header("content-length", pieces.iter().sum::<usize>());
            }
            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
            for (at, size) in pieces.iter().enumerate() {
                tokio::time::sleep(Duration::from_millis(2)).await;
                stream.send_data(piece(*size), parts[1] == "Flag" && at + 1 == pieces.len()).ok()?;
            }
            match parts[1] {
                "Flag" if !pieces.is_empty() => {}
                "Trailers" => {
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("x-after", "1".parse().unwrap());
                    stream.send_trailers(trailers).ok()?;
                }
                _ => stream.send_data(Bytes::new(), true).ok()?,
            }
            Some(())
        });
    }
    None
}

/// The other direction: the client's connection is kept too, so a second end would be read as the next answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_http2_endpoints_answer_in_pieces_ends_once_at_the_client() {
    let (address, accepting) = h2_endpoint().await;
    let yaml = Recorder::start().await.shop();
    let (before, after) = yaml.split_once("endpoints: [\"").unwrap();
    let yaml = format!("{before}endpoints: [\"{address}{}", &after[after.find('"').unwrap()..]);
    let yaml = yaml.changed("    versions:", "    protocol: h2\n    versions:");
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let mut kept = H1::connect(&web).await;
    for (at, pieces) in PIECES.into_iter().enumerate().take(9) {
        for end in [End::Flag, End::Empty, End::Trailers] {
            let case = format!("/{at}/{end:?}/{}", at % 2 == 0);
            let whole = piece(pieces.iter().sum());
            assert_eq!(kept.get(&case).await.body, whole, "{case}");
            assert_eq!(raw_body(&web, &case, whole.len()).await, whole, "{case}");
        }
    }
    accepting.abort();
    weir.stop().await;
}

/// The body of an answer, read to the connection's end: nothing may follow it.
async fn raw_body(web: &Target, target: &str, length: usize) -> Vec<u8> {
    let mut socket = raw::connect(web).await;
    socket
        .write_all(format!("GET {target} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut read = Vec::new();
    within("the connection ends", socket.read_to_end(&mut read)).await.unwrap();
    let end = read.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let mut rest = &read[end..];
    if !head.contains("transfer-encoding: chunked") {
        return rest.to_vec();
    }
    let mut body = Vec::with_capacity(length);
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        assert_eq!(&rest[line + 2 + size..line + 4 + size], b"\r\n", "{target}");
        rest = &rest[line + 4 + size..];
        if size == 0 {
            assert!(rest.is_empty(), "{target}: {:?} after the end", rest.escape_ascii().to_string());
            return body;
        }
    }
}
