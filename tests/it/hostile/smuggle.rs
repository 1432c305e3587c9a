//! Requests that two parsers could take for different ones.

use super::raw::{QUIET, exchange};
use crate::harness::Fixture as _;
use crate::harness::{H1, Origin, Request, Target, Weir, shop};

async fn start() -> (Origin, Weir, Target) {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    (v1, weir, web)
}

/// Header lines of which each makes a POST's end uncertain.
const AMBIGUOUS: [&str; 24] = [
    "content-length: 4\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ncontent-length: 4",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    "transfer-encoding: identity, chunked, chunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding: identity",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunkedx",
    "transfer-encoding : chunked",
    "transfer_encoding: chunked",
    "transfer-encoding:\x0bchunked",
    "transfer-encoding: chunked;q=1",
    "transfer-encoding:",
    "x: y\r\n transfer-encoding: chunked",
    "content-length: 4\r\ncontent-length: 4",
    "content-length: 4\r\ncontent-length: 5",
    "content-length: 4, 4",
    "content-length: +4",
    "content-length: -4",
    "content-length: 0x4",
    "content-length: 04",
    "content-length: 4 4",
    "content-length: 99999999999999999999",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_uncertain_end_is_refused_and_the_connection_closed() {
    let (v1, weir, web) = start().await;
    for lines in AMBIGUOUS {
        let attack = format!(
            "POST /attack HTTP/1.1\r\nhost: shop.test\r\n{lines}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n"
        );
        let answers = exchange(&web, attack.as_bytes(), QUIET).await;
        assert!(answers.closed, "{lines:?}: the connection lives: {}", answers.text);
        assert!(matches!(*answers.statuses, [400 | 501]), "{lines:?}: {}", answers.text);
        assert_eq!(v1.requests(), 0, "{lines:?}: the origin saw {:?}", v1.journal());
    }
    let answers =
        exchange(&web, b"POST / HTTP/1.0\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", QUIET)
            .await;
    assert!(answers.closed && answers.statuses == [400], "HTTP/1.0 has no chunks: {}", answers.text);
    assert_eq!(v1.requests(), 0);
    H1::connect(&web).await.get("/").await.expect(200);
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_chunks_end_the_connection_and_smuggle_nothing() {
    let (v1, weir, web) = start().await;
    for body in [
        "4\nabcd\r\n0\r\n\r\n",
        "4\r\nabcdX0\r\n\r\n",
        "-1\r\n\r\n",
        "0x4\r\nabcd\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "4;\r\nabcd\r\n0\r\n\r\n",
        "4;a\nabcd\r\n0\r\n\r\n",
        "\r\n4\r\nabcd\r\n0\r\n\r\n",
        "4\r\nabcd\r\n\r\n0\r\n\r\n",
        "4;a=\x01\r\nabcd\r\n0\r\n\r\n",
    ] {
        let attack = format!(
            "POST /sink HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n"
        );
        let answers = exchange(&web, attack.as_bytes(), QUIET).await;
        assert!(answers.closed && answers.statuses.iter().all(|status| *status >= 400), "{body:?}: {}", answers.text);
    }
    assert!(v1.journal().iter().all(|entry| entry.target != "/smuggled"), "{:?}", v1.journal());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_upgrade_that_is_not_made_is_not_tunnelled() {
    let (v1, weir, web) = start().await;
    for token in ["foo", "h2c", "TLS/1.0", "websocket, foo", "websocket"] {
        let before = v1.requests();
        let attack = format!(
            "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: {token}\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n"
        );
        let answers = exchange(&web, attack.as_bytes(), QUIET).await;
        let seen = v1.requests() - before;
        assert!(seen <= answers.statuses.len() && seen >= 1, "{token}: {seen} seen, {:?}", answers.statuses);
        assert!(answers.statuses.iter().all(|status| *status == 200), "{token}: {}", answers.text);
    }
    for entry in v1.journal().iter().filter(|entry| entry.target == "/smuggled") {
        assert!(entry.headers.get("via").is_some(), "it was validated like any request: {entry:?}");
    }
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_nominate_what_must_reach_the_origin() {
    let (v1, weir, web) = start().await;
    for name in [
        "x-forwarded-for",
        "X-Forwarded-Proto",
        "host",
        "authorization",
        "x-request-id",
        "via",
        "cookie",
        "content-length",
    ] {
        let mut h1 = H1::connect(&web).await;
        let request = Request::get("/headers").header("connection", format!("close, {name}"));
        h1.send(&request).await.expect(400);
    }
    assert_eq!(v1.requests(), 0);
    let mut h1 = H1::connect(&web).await;
    let request =
        Request::get("/headers").header("connection", "x-secret").header("x-secret", "hop").header("keep-alive", "5");
    let seen = h1.send(&request).await.expect(200);
    assert!(!seen.text().contains("x-secret") && !seen.text().contains("keep-alive"), "{}", seen.text());
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_provenance_is_replaced_however_it_is_spelt() {
    let (v1, weir, web) = start().await;
    let forged = [
        "X-Forwarded-For: 6.6.6.6",
        "x-forwarded-for: 6.6.6.6, 127.0.0.1",
        "X-FORWARDED-FOR: 6.6.6.6\r\nx-forwarded-for: 6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "Forwarded: for=6.6.6.6;host=6.6.6.6",
        "X-Forwarded-Host: 6.6.6.6",
        "X-Forwarded-Proto: 6.6.6.6",
    ];
    for lines in forged {
        let request = format!("GET /headers HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{lines}\r\n\r\n");
        let answers = exchange(&web, request.as_bytes(), QUIET).await;
        assert_eq!(answers.statuses, [200], "{lines:?}");
        assert!(!answers.text.contains("6.6.6.6") && answers.text.contains("127.0.0.1"), "{lines:?}: {}", answers.text);
    }
    let spelt = b"GET /headers HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n";
    let answers = exchange(&web, spelt, QUIET).await;
    assert_eq!(answers.statuses, [200], "{}", answers.text);
    assert!(!answers.text.contains("6.6.6.6"), "{}", answers.text);
    weir.reconfigure(
        &shop(&[(&v1, 100.0)]).changed_first("\nservices:", "\nheaders: { underscore: refuse }\nservices:"),
    )
    .await;
    let answers = exchange(&web, spelt, QUIET).await;
    assert_eq!(answers.statuses, [400], "{}", answers.text);
    weir.stop().await;
}
