//! What breaks, and what the clients call it.

use std::time::Duration;

use crate::harness::client::{Ending, Failure};
use crate::harness::fault::BlackHole;
use crate::harness::origin::Progress;
use crate::harness::{H1, H2, Origin, Request, Target, eventually};

async fn h1_failure(origin: &Origin, path: &str) -> Failure {
    let result = H1::connect(origin.address()).await.try_send(&Request::get(path)).await;
    result.err().unwrap_or_else(|| panic!("{path} does not fail"))
}

async fn h2_failure(origin: &Origin, path: &str) -> Failure {
    let result = H2::connect(origin.address()).await.try_send(&Request::get(path)).await;
    result.err().unwrap_or_else(|| panic!("{path} does not fail"))
}

#[tokio::test]
async fn each_breakage_of_http1_has_its_name() {
    let origin = Origin::start("v1").await;
    let is = async |path: &str, expected: fn(&Failure) -> bool| {
        let failure = h1_failure(&origin, path).await;
        assert!(expected(&failure), "{path}: {failure:?}");
    };
    is("/reset-before", |failure| matches!(failure, Failure::ResetBeforeByte(_))).await;
    is("/refused-stream", |failure| matches!(failure, Failure::ResetBeforeByte(_))).await;
    is("/close-before", |failure| matches!(failure, Failure::EofBeforeByte)).await;
    is("/reset-mid", |failure| matches!(failure, Failure::Truncated { head: Some(_), received: 1_000, .. })).await;
    is("/close-mid", |failure| matches!(failure, Failure::Truncated { head: Some(_), received: 1_000, .. })).await;
    is("/garbage", |failure| matches!(failure, Failure::Garbage(_))).await;

    let mut h1 = H1::connect(origin.address()).await;
    let two = h1.open(&Request::get("/two-lengths")).await;
    assert_eq!(two.headers.all("content-length"), ["5", "6"]);
    let mut h1 = H1::connect(origin.address()).await;
    assert_eq!(h1.get("/unsolicited-101").await.status, 101);
    assert_eq!(h1.ended().await, Ending::Eof);
}

#[tokio::test]
async fn each_breakage_of_http2_has_its_name() {
    let origin = Origin::start("v1").await;
    let is = async |path: &str, expected: fn(&Failure) -> bool| {
        let failure = h2_failure(&origin, path).await;
        assert!(expected(&failure), "{path}: {failure:?}");
    };
    is("/reset-before", |failure| matches!(failure, Failure::ResetBeforeByte(_))).await;
    is("/refused-stream", |failure| matches!(failure, Failure::Unprocessed(_))).await;
    is("/close-before", |failure| matches!(failure, Failure::EofBeforeByte | Failure::ResetBeforeByte(_))).await;
    is("/reset-mid", |failure| matches!(failure, Failure::Truncated { head: Some(_), received: 1_000, .. })).await;
    is("/close-mid", |failure| matches!(failure, Failure::Truncated { head: Some(_), received: 1_000, .. })).await;
    assert_eq!(H2::connect(origin.address()).await.get("/garbage").await.status, 501);
}

#[tokio::test]
async fn one_reset_stream_leaves_its_neighbours_alone() {
    let origin = Origin::start("v1").await;
    let h2 = H2::connect(origin.address()).await;
    let (reset, good) = (Request::get("/reset-before"), Request::get("/bytes/100000"));
    let (reset, good) = tokio::join!(h2.try_send(&reset), h2.try_send(&good));
    assert!(reset.is_err());
    assert_eq!(good.unwrap().body.len(), 100_000);
    assert!(h2.is_open() && h2.goaways().is_empty());
}

#[tokio::test]
async fn a_connection_closed_while_idle_shows_before_the_next_request() {
    let origin = Origin::start("v1").await;
    let mut h1 = H1::connect(origin.address()).await;
    assert!(!h1.get("/close-after").await.announced_close);
    assert_eq!(h1.ended().await, Ending::Eof);
    let h2 = H2::connect(origin.address()).await;
    h2.get("/close-after").await;
    let goaway = h2.wait_goaway().await;
    assert_eq!(goaway.code, 0);
    assert!(goaway.last_stream > 0);
}

#[tokio::test]
async fn a_request_on_a_stale_connection_is_thrown_away_unexecuted() {
    let origin = Origin::start("v1").await;
    let mut h1 = H1::connect(origin.address()).await;
    h1.get("/stale").await;
    let failure = h1.try_send(&Request::get("/").nonce("lost")).await.unwrap_err();
    assert!(matches!(failure, Failure::EofBeforeByte), "{failure:?}");
    assert_eq!(origin.executions("lost"), 0);
    assert_eq!(origin.entry("lost").unwrap().progress, Progress::Dropped);
}

#[tokio::test]
async fn a_request_without_answer_ends_when_its_client_goes() {
    let origin = Origin::start("v1").await;
    for h2 in [false, true] {
        let address = Target::from(origin.address());
        let waiting = tokio::spawn(async move {
            let request = Request::get("/no-answer");
            match h2 {
                false => H1::connect(address).await.try_send(&request).await,
                true => H2::connect(address).await.try_send(&request).await,
            }
        });
        eventually("the request is there", async || origin.connections() == 1).await;
        waiting.abort();
        eventually("the origin noticed", async || origin.connections() == 0).await;
    }
}

#[tokio::test]
async fn a_black_hole_does_not_even_refuse() {
    let hole = BlackHole::open();
    let attempt = H1::try_connect(hole.address());
    assert!(tokio::time::timeout(Duration::from_millis(100), attempt).await.is_err());
}
