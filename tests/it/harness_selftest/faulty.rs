//! An endpoint that fails in every way there is, seen by a client without a proxy between.

use std::time::{Duration, Instant};

use crate::harness::client::Failure;
use crate::harness::{Fault, FaultyOrigin, H1, Request, Target, eventually};

async fn failure(origin: &FaultyOrigin) -> Failure {
    H1::connect(&Target::from(origin.address())).await.try_send(&Request::get("/")).await.expect_err("it fails")
}

#[tokio::test]
async fn each_fault_is_what_it_says_and_can_be_taken_back() {
    let origin = FaultyOrigin::start("a").await;
    let target = Target::from(origin.address());
    origin.set(Fault::ResetBefore).await;
    assert!(matches!(failure(&origin).await, Failure::ResetBeforeByte(_)));
    origin.set(Fault::ResetMidHead).await;
    let mid = failure(&origin).await;
    assert!(matches!(mid, Failure::Truncated { head: None, .. }), "{mid:?}");
    origin.set(Fault::ResetMidBody).await;
    assert!(matches!(failure(&origin).await, Failure::Truncated { head: Some(_), .. }));
    origin.set(Fault::Garbage).await;
    assert!(matches!(failure(&origin).await, Failure::Garbage(_)));
    for fault in [Fault::SlowFirstByte(Duration::from_millis(50)), Fault::SlowBody(Duration::from_millis(50))] {
        origin.set(fault).await;
        let began = Instant::now();
        H1::connect(&target).await.get("/").await.expect(200);
        assert!(began.elapsed() >= Duration::from_millis(50), "{fault:?}");
    }
    origin.set(Fault::RetryAfter(503)).await;
    assert_eq!(H1::connect(&target).await.get("/").await.expect(503).header("retry-after"), "1");
    origin.set(Fault::Status(502)).await;
    H1::connect(&target).await.get("/").await.expect(502);
    origin.set(Fault::EverySecond(503)).await;
    let mut h1 = H1::connect(&target).await;
    let two = [h1.get("/").await.status, h1.get("/").await.status];
    assert!(two == [200, 503] || two == [503, 200], "{two:?}");
    origin.set(Fault::Refuse).await;
    assert!(std::net::TcpStream::connect(origin.address().to_string()).is_err());
    for fault in [Fault::HalfOpen, Fault::BlackHole] {
        origin.set(fault).await;
        let quiet = async {
            let mut h1 = H1::connect(&target).await;
            h1.try_send(&Request::get("/")).await.ok();
        };
        assert!(tokio::time::timeout(Duration::from_millis(100), quiet).await.is_err(), "{fault:?} says nothing");
    }
    origin.set(Fault::None).await;
    let request = Request::post("/", "order").nonce("n-1");
    assert_eq!(H1::connect(&target).await.send(&request).await.expect(200).body, "a");
    let last = origin.arrived().pop().unwrap();
    assert_eq!(origin.requests(), origin.arrived().len());
    assert_eq!((last.method.as_str(), last.nonce.as_deref(), &*last.body), ("POST", Some("n-1"), &b"order"[..]));
}

#[tokio::test]
async fn a_flapping_endpoint_is_there_by_turns() {
    let origin = FaultyOrigin::failing("a", Fault::Flapping(Duration::from_millis(20))).await;
    let address = origin.address().to_string();
    for wanted in [true, false, true, false] {
        eventually(&format!("it takes connections: {wanted}"), async || {
            std::net::TcpStream::connect(&address).is_ok() == wanted
        })
        .await;
    }
}
