//! Load and ledger: that they count what happened, and that they complain when they should.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use crate::harness::ledger::{Audit, Outcome};
use crate::harness::{Ledger, Load, Origin, Request, eventually};

fn complains(of: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(of)).expect_err("it does not complain");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[tokio::test]
async fn all_shapes_of_load_are_counted_to_the_request() {
    let origin = Origin::start("v1").await;
    let load = Load::at(origin.address()).keep_alive(3).new_connections(2).http2(2, 3).count(600);
    let ledger = load.run().await;
    ledger.assert_clean();
    ledger.assert_executed_once(&[&origin]);
    let counts = ledger.counts();
    assert_eq!((counts.sent, counts.outcome(Outcome::Ok), counts.version("v1")), (600, 600, 600));
    assert_eq!(counts.statuses[&200], 600);
    assert_eq!((origin.requests(), origin.accepted() as u64), (600, counts.connections));
}

#[tokio::test]
async fn a_load_runs_until_it_is_stopped_and_ends_nothing_in_the_middle() {
    let origin = Origin::start("v1").await;
    let request = Request::get("/drip/2/1").header("x-a", "b");
    let load = Load::at(origin.address()).request(request).keep_alive(2).think(Duration::from_millis(2)).start();
    load.wait_more(10).await;
    assert!(load.ledger().counts().sent >= 10);
    let ledger = load.stop().await;
    ledger.assert_clean();
    assert_eq!(ledger.settled(), ledger.counts().sent);
}

#[tokio::test]
async fn a_server_that_dies_under_load_leaves_no_request_without_an_outcome() {
    let origin = Origin::start("v1").await;
    let load = Load::at(origin.address()).request(Request::get("/delay/1")).keep_alive(2).http2(1, 2).start();
    load.wait_more(20).await;
    origin.kill().await;
    let refused = async || load.ledger().counts().outcome(Outcome::Refused) > 0;
    eventually("new connections are refused", refused).await;
    origin.restart().await;
    load.wait_more(20).await;
    let ledger = load.stop().await;
    assert_eq!(ledger.settled(), ledger.counts().sent);
    assert!(complains(|| ledger.assert_clean()).contains("Refused"));
    assert_eq!(ledger.audit(&[&origin]).twice, Vec::<String>::new());
}

#[tokio::test]
async fn announced_and_unannounced_ends_are_told_apart() {
    let origin = Origin::start("v1").await;
    let load = Load::at(origin.address()).request(Request::get("/close-after")).keep_alive(1).count(3);
    let ledger = load.think(Duration::from_millis(20)).run().await;
    assert!(ledger.counts().unannounced_closes > 0, "{}", ledger.counts());
    assert!(complains(|| ledger.assert_clean()).contains("unannounced"));

    let load = Load::at(origin.address()).request(Request::get("/").http10()).keep_alive(1).count(3);
    let ledger = load.run().await;
    ledger.assert_clean();
    assert_eq!(ledger.counts().announced_closes, 3);
    let load = Load::at(origin.address()).request(Request::get("/close-after")).http2(1, 1).count(3);
    let ledger = load.think(Duration::from_millis(20)).run().await;
    ledger.assert_clean();
    assert!(ledger.counts().announced_closes > 0, "{}", ledger.counts());
}

#[tokio::test]
async fn every_failure_is_in_the_ledger_with_its_kind() {
    let origin = Origin::start("v1").await;
    let down = Origin::plan("v2").down();
    for (path, outcome) in [
        ("/status/503", Outcome::ServerError),
        ("/reset-before", Outcome::ResetBeforeByte),
        ("/close-before", Outcome::EofBeforeByte),
        ("/close-mid", Outcome::Truncated),
        ("/garbage", Outcome::Garbage),
    ] {
        let load = Load::at(origin.address()).request(Request::get(path)).new_connections(1).keep_alive(1);
        let ledger = load.count(4).run().await;
        assert_eq!(ledger.counts().outcome(outcome), 4, "{path}\n{}", ledger.counts());
        assert!(complains(|| ledger.assert_answered()).contains("example"), "{path}");
        assert_eq!(ledger.audit(&[&origin]).executed_but_failed.len(), 4);
    }
    let refused_stream = Load::at(origin.address()).request(Request::get("/refused-stream")).http2(1, 1).count(2);
    assert_eq!(refused_stream.run().await.counts().outcome(Outcome::Unprocessed), 2);
    let ledger = Load::at(down.address()).keep_alive(1).new_connections(1).http2(1, 1).count(9).run().await;
    assert_eq!(ledger.counts().outcome(Outcome::Refused), 9, "{}", ledger.counts());
    assert_eq!(ledger.audit(&[&origin, &down]), Audit::default());
}

#[tokio::test]
async fn an_answer_to_another_request_and_a_second_execution_are_found() {
    let origin = Origin::start("v1").await;
    let ledger = Ledger::new();
    let mut h1 = crate::harness::H1::connect(origin.address()).await;
    let (first, second) = (ledger.send(3).unwrap(), ledger.send(3).unwrap());
    let (request, twice) = (Request::get("/").nonce(&first.nonce()), Request::get("/").nonce(&second.nonce()));
    second.settle(&h1.try_send(&request).await);
    first.settle(&h1.try_send(&request).await);
    assert_eq!(ledger.counts().outcome(Outcome::WrongNonce), 1);
    assert_eq!(ledger.audit(&[&origin]).twice.len(), 1);
    let never = ledger.send(3).unwrap();
    assert!(ledger.send(3).is_none());
    let mut answer = h1.try_send(&twice).await;
    if let Ok(response) = &mut answer {
        response.headers.0.retain(|(name, _)| name != "x-nonce");
        response.headers.push("x-nonce", never.nonce());
    }
    never.settle(&answer);
    assert_eq!(ledger.audit(&[&origin]).never.len(), 1);
    assert!(complains(|| ledger.assert_executed_once(&[&origin])).contains("journals"));
}
