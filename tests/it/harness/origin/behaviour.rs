//! What an origin does, by path.
//!
//! | path | what it does |
//! |---|---|
//! | `/`, and every path not named here | 200 with a small body: the origin's name; or as its [`Mood`](super::Mood) is |
//! | `/status/NNN` | this status |
//! | `/bytes/N`, `/chunked/N` | N bytes of [`pattern`], with and without a length |
//! | `/drip/N/MS` | N chunks, one every MS milliseconds |
//! | `/sink` | reads the body; answers JSON `{"length", "checksum", "trailers"}` |
//! | `/echo` | sends the body back as it comes, with its trailers and content type |
//! | `/headers` | JSON `{"method", "target", "authority", "version", "headers": [[name, value], …]}` |
//! | `/delay/MS` | answers after MS milliseconds |
//! | `/hold` | answers when the story calls `release()` |
//! | `/sse` | event stream: the origin's name, then what the story pushes, until `end_streams()` |
//! | `/ws` | WebSocket: echo and what the story pushes, until `end_streams()` or the client's close |
//! | `/early-hints` | 103, then 200 |
//! | `/trailers` | 200 with a body and the trailer `x-trailer: after` |
//! | `/continue` | always sends 100, then like `/sink` |
//! | `/refuse-body` | 413 without reading the body, then the end |
//! | `/reset-before`, `/reset-mid` | reset before the head, in the middle of the body |
//! | `/refused-stream` | HTTP/2: `REFUSED_STREAM`; HTTP/1: like `/reset-before` |
//! | `/close-before`, `/close-mid` | orderly end before the head, in the middle of the body |
//! | `/no-answer` | never answers, until the client goes |
//! | `/close-after` | answers with keep-alive, then closes the idle connection; HTTP/2: GOAWAY |
//! | `/stale` | answers; throws the next request of the connection away with it (HTTP/1) |
//! | `/garbage`, `/two-lengths`, `/unsolicited-101`, `/bad-chunk` | what no server should send (HTTP/1) |
//! | `/odd-head` | a head that is forgiven: a space after a name, a value in two lines (HTTP/1) |
//! | `/informs/N/MS` | N times 102, one every MS milliseconds, then 200 |
//! | `/grpc.Test/Unary`, `/Bidi`, `/Fail` | echo, streaming echo, trailers-only status 7 |
//! | `/grpc.health.v1.Health/Check` | serving, or not as its mood is; it knows `shop.Prices` and itself |

use std::io;
use std::time::Duration;

use ::h2::Reason;
use bytes::Bytes;
use serde_json::json;

use super::exchange::{End, Exchange, Length};
use super::{Counted, Event, Shared, grpc, websocket};
use crate::harness::wire::{Checksum, Fields, PATTERN_PIECE, pattern};

/// Answers one request.
pub(super) async fn answer(exchange: &mut Exchange<'_>, shared: &Shared) -> io::Result<End> {
    let path = path(&exchange.head().target);
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let none = Fields::default();
    match *segments.as_slice() {
        ["status", status] => {
            let status = status.parse().expect("/status/NNN");
            exchange.respond(status, &none, format!("{status}\n")).await
        }
        ["bytes", length] => stream(exchange, length.parse().expect("/bytes/N"), Framing::Length).await,
        ["chunked", length] => stream(exchange, length.parse().expect("/chunked/N"), Framing::Open).await,
        ["drip", count, pause] => {
            drip(exchange, count.parse().expect("/drip/N/MS"), millis(pause).expect("/drip/N/MS")).await
        }
        ["sink"] => sink(exchange).await,
        ["continue"] => {
            exchange.inform(100, &none).await?;
            if let Exchange::H1(h1) = exchange {
                h1.continued();
            }
            sink(exchange).await
        }
        ["echo"] => echo(exchange).await,
        ["headers"] => {
            let body = describe(exchange);
            exchange.respond(200, &content_type("application/json"), body).await
        }
        ["trailers"] => {
            exchange.start(200, &none, Length::Open).await?;
            exchange.write(Bytes::from_static(b"before\n")).await?;
            let mut trailers = Fields::default();
            trailers.push("x-trailer", "after");
            exchange.end(&trailers).await?;
            Ok(End::Done)
        }
        ["delay", pause] => {
            let pause = millis(pause).expect("/delay/MS");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = exchange.gone() => return Ok(End::Leave),
            }
            exchange.respond(200, &none, small(shared)).await
        }
        ["hold"] => hold(exchange, shared).await,
        ["sse"] => events(exchange, shared).await,
        ["ws"] => websocket::answer(exchange, shared).await,
        ["early-hints"] => {
            let mut hints = Fields::default();
            hints.push("link", "</style.css>; rel=preload");
            exchange.inform(103, &hints).await?;
            exchange.respond(200, &none, small(shared)).await
        }
        ["informs", count, pause] => {
            let count = count.parse().expect("/informs/N/MS");
            informs(exchange, shared, count, millis(pause).expect("/informs/N/MS")).await
        }
        ["refuse-body"] => {
            let mut fields = Fields::default();
            fields.push("connection", "close");
            let fields = if matches!(exchange, Exchange::H1(_)) { &fields } else { &none };
            exchange.respond(413, fields, "too large\n").await?;
            // HTTP/2 tells the client to stop sending by RST_STREAM(NO_ERROR), as RFC 9113 §8.1 has it; the h2 crate
            // does that for a stream that is answered and given up.
            Ok(End::Leave)
        }
        ["close-after"] => exchange.respond(200, &none, small(shared)).await.map(|_| End::CloseAfter),
        ["stale"] => exchange.respond(200, &none, small(shared)).await.map(|_| End::Stale),
        ["grpc.Test" | "grpc.health.v1.Health", method] => grpc::answer(exchange, shared, method).await,
        [name] if BROKEN.contains(&name) => broken(exchange, name).await,
        _ => ordinary(exchange, shared).await,
    }
}

/// Promises an answer again and again before there is one.
async fn informs(exchange: &mut Exchange<'_>, shared: &Shared, count: u32, pause: Duration) -> io::Result<End> {
    let none = Fields::default();
    for _ in 0..count {
        exchange.inform(102, &none).await?;
        tokio::time::sleep(pause).await;
    }
    exchange.respond(200, &none, small(shared)).await
}

/// As the story's mood is.
async fn ordinary(exchange: &mut Exchange<'_>, shared: &Shared) -> io::Result<End> {
    let (fails, slow) = shared.mood.lock().unwrap().turn();
    tokio::time::sleep(slow).await;
    let status = if fails { 500 } else { 200 };
    exchange.respond(status, &content_type("text/plain"), small(shared)).await
}

/// Names of [`broken`].
const BROKEN: [&str; 11] = [
    "reset-before",
    "reset-mid",
    "refused-stream",
    "close-before",
    "close-mid",
    "no-answer",
    "garbage",
    "two-lengths",
    "unsolicited-101",
    "bad-chunk",
    "odd-head",
];

/// What does not end as HTTP has it.
async fn broken(exchange: &mut Exchange<'_>, name: &str) -> io::Result<End> {
    match name {
        "reset-before" => return Ok(End::Reset(Reason::INTERNAL_ERROR)),
        "refused-stream" => return Ok(End::Reset(Reason::REFUSED_STREAM)),
        "close-before" => return Ok(End::Close),
        "no-answer" => {
            exchange.gone().await;
            return Ok(End::Leave);
        }
        "reset-mid" | "close-mid" => {
            exchange.start(200, &Fields::default(), Length::Known(100_000)).await?;
            exchange.write(pattern(0, 1_000)).await?;
            if matches!(exchange, Exchange::H2(_)) {
                // The frames must be on their way before the stream's end overtakes them.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return Ok(if name == "reset-mid" { End::Reset(Reason::INTERNAL_ERROR) } else { End::Close });
        }
        _ => {}
    }
    let Exchange::H1(h1) = exchange else {
        return exchange.respond(501, &Fields::default(), "HTTP/2 cannot say this\n").await;
    };
    let raw: &[u8] = match name {
        "garbage" => b"\x16\x03\x01 this is not HTTP at all\r\n\r\n",
        "bad-chunk" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "odd-head" => b"HTTP/1.1 200 OK\r\nserver : IIS\r\nx-lines: 1\r\n 2\r\ncontent-length: 2\r\n\r\nok",
        "two-lengths" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        _ => b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    };
    h1.raw(raw).await?;
    Ok(End::Close)
}

#[derive(Clone, Copy)]
enum Framing {
    Length,
    Open,
}

async fn stream(exchange: &mut Exchange<'_>, length: u64, framing: Framing) -> io::Result<End> {
    let known = match framing {
        Framing::Length => Length::Known(length),
        Framing::Open => Length::Open,
    };
    exchange.start(200, &content_type("application/octet-stream"), known).await?;
    let mut sent = 0;
    while sent < length {
        let piece = usize::try_from(length - sent).unwrap_or(usize::MAX).min(PATTERN_PIECE);
        exchange.write(pattern(sent, piece)).await?;
        sent += piece as u64;
    }
    exchange.end(&Fields::default()).await?;
    Ok(End::Done)
}

async fn drip(exchange: &mut Exchange<'_>, count: u32, pause: Duration) -> io::Result<End> {
    exchange.start(200, &content_type("text/plain"), Length::Open).await?;
    for at in 0..count {
        exchange.write(format!("{at}\n").into()).await?;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = exchange.gone() => return Ok(End::Leave),
        }
    }
    exchange.end(&Fields::default()).await?;
    Ok(End::Done)
}

async fn sink(exchange: &mut Exchange<'_>) -> io::Result<End> {
    let (mut length, mut sum) = (0, Checksum::new());
    while let Some(piece) = exchange.read().await? {
        length += piece.len();
        sum.add(&piece);
    }
    let trailers = pairs(&exchange.trailers());
    let body = json!({ "length": length, "checksum": sum.to_string(), "trailers": trailers });
    exchange.respond(200, &content_type("application/json"), body.to_string()).await
}

async fn echo(exchange: &mut Exchange<'_>) -> io::Result<End> {
    let kind = exchange.head().headers.get("content-type").unwrap_or("application/octet-stream").to_owned();
    let first = exchange.read().await?;
    exchange.start(200, &content_type(&kind), Length::Open).await?;
    let mut next = first;
    while let Some(piece) = next {
        exchange.write(piece).await?;
        next = exchange.read().await?;
    }
    let trailers = exchange.trailers();
    exchange.end(&trailers).await?;
    Ok(End::Done)
}

async fn hold(exchange: &mut Exchange<'_>, shared: &Shared) -> io::Result<End> {
    let (release, released) = tokio::sync::oneshot::channel();
    shared.held.lock().unwrap().push_back(release);
    tokio::select! {
        outcome = released => outcome.map_err(io::Error::other)?,
        () = exchange.gone() => return Ok(End::Leave),
    }
    exchange.respond(200, &Fields::default(), small(shared)).await
}

async fn events(exchange: &mut Exchange<'_>, shared: &Shared) -> io::Result<End> {
    let mut events = shared.events.subscribe();
    let _open = Counted::new(&shared.streams);
    let mut head = content_type("text/event-stream");
    head.push("cache-control", "no-cache");
    exchange.start(200, &head, Length::Open).await?;
    let mut next = shared.name.clone();
    loop {
        exchange.write(format!("data: {next}\n\n").into()).await?;
        next = tokio::select! {
            event = events.recv() => match event.map_err(io::Error::other)? {
                Event::Push(text) => text,
                Event::End => break,
            },
            () = exchange.gone() => return Ok(End::Leave),
        };
    }
    exchange.end(&Fields::default()).await?;
    Ok(End::Done)
}

/// The received head as JSON.
fn describe(exchange: &Exchange<'_>) -> String {
    let head = exchange.head();
    json!({
        "method": head.method,
        "target": head.target,
        "authority": head.authority,
        "version": format!("{:?}", head.version),
        "headers": pairs(&head.headers),
    })
    .to_string()
}

fn pairs(fields: &Fields) -> Vec<(String, String)> {
    fields.0.iter().map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned())).collect()
}

fn content_type(kind: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push("content-type", kind);
    fields
}

fn small(shared: &Shared) -> String {
    format!("{}\n", shared.name)
}

fn millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

/// The path of a request target in origin or absolute form, without its query.
fn path(target: &str) -> String {
    let after_scheme = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    after_scheme.split('?').next().unwrap_or_default().to_owned()
}
