//! What hooks may answer, and what is made of it.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use serde_json::json;

use super::*;
use crate::http_client::stub::{Reply, Stub, refusing};

/// Too short to be noticed: the tests wait for it.
const QUICK: Backoff = Backoff { initial: Duration::from_millis(5), max: Duration::from_millis(20) };

async fn ask(url: &str, retries: u32, secret_file: Option<&Path>) -> HookResponse {
    let hook = Hook {
        when: HookPoint::BeforeStep,
        url: url.into(),
        timeout: Duration::from_millis(300),
        retries,
        secret_file: secret_file.map(Arc::from),
    };
    let metadata = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
    let payload = Payload {
        service: "shop",
        stable: "v1",
        canary: "v2",
        phase: "progressing",
        when: hook.when,
        step: 2,
        weight: "33.33".parse().unwrap(),
        id: "shop-7/before_step/2",
        metadata: &metadata,
    };
    call_with(QUICK, &Client::trusting(RootCertStore::empty()).unwrap(), &hook, &payload).await
}

fn answer(status: u16, body: &str) -> Reply {
    Reply::Answer(status, body.to_owned())
}

fn refused(status: u16, text: &str) -> HookResponse {
    HookResponse::Refused { status, text: text.to_owned() }
}

#[tokio::test]
async fn a_hook_is_told_where_the_rollout_stands() {
    let stub = Stub::start([answer(204, "")]).await;
    assert_eq!(ask(&stub.url("/hook"), 0, None).await, HookResponse::Accepted);
    let request = stub.only();
    assert_eq!(request.field("weir-signature"), None);
    let expected = json!({
        "service": "shop", "stable": "v1", "canary": "v2", "phase": "progressing", "when": "before_step", "step": 2,
        "weight": 33.33, "id": "shop-7/before_step/2", "metadata": { "team": "shop" }
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn a_call_is_signed_with_the_key_that_the_file_has_now() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let stub = Stub::start([answer(200, "")]).await;
    for key in ["first", "second"] {
        std::fs::write(&file, format!("{key}\n")).unwrap();
        assert_eq!(ask(&stub.url("/"), 0, Some(&file)).await, HookResponse::Accepted);
    }
    let [first, second] = stub.received().try_into().unwrap();
    assert!(first.is_signed_with("first") && second.is_signed_with("second"), "{first:?} {second:?}");
    assert!(!first.is_signed_with("second"));

    std::fs::remove_file(&file).unwrap();
    assert!(
        matches!(ask(&stub.url("/"), 1, Some(&file)).await, HookResponse::Failed { why } if why.contains("secret file"))
    );
    assert_eq!(stub.received().len(), 2, "a call that cannot be signed is not made");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for status in [408, 425, 429, 500, 503] {
        let stub = Stub::start([answer(status, ""), answer(200, "")]).await;
        assert_eq!(ask(&stub.url("/"), 1, None).await, HookResponse::Accepted, "after {status}");
        let [first, second] = stub.received().try_into().unwrap();
        assert_eq!(first.body, second.body, "a repetition has the same id");
    }
    let stub = Stub::start([Reply::Close, answer(202, "")]).await;
    assert_eq!(ask(&stub.url("/"), 1, None).await, HookResponse::Accepted);
}

#[tokio::test]
async fn retries_are_counted() {
    let stub = Stub::start([answer(500, "still\nbroken")]).await;
    assert_eq!(ask(&stub.url("/"), 2, None).await, refused(500, "still broken"));
    assert_eq!(stub.received().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    for status in [304, 400, 403, 404, 409] {
        let stub = Stub::start([answer(status, if status == 304 { "" } else { "not yet" })]).await;
        assert_eq!(ask(&stub.url("/"), 3, None).await, refused(status, if status == 304 { "" } else { "not yet" }));
        assert_eq!(stub.received().len(), 1);
    }
}

#[tokio::test]
async fn a_yes_may_be_long() {
    let stub = Stub::start([answer(200, &"y".repeat(1 << 20))]).await;
    assert_eq!(ask(&stub.url("/"), 0, None).await, HookResponse::Accepted);
}

#[tokio::test]
async fn no_answer_is_a_failure() {
    let hanging = Stub::start([Reply::Hang]).await;
    assert!(matches!(ask(&hanging.url("/"), 1, None).await, HookResponse::Failed { why } if why.contains("300ms")));
    assert_eq!(hanging.received().len(), 2);
    assert!(matches!(ask(&refusing().await, 0, None).await, HookResponse::Failed { why } if why.contains("refused")));
    assert!(matches!(ask("gopher://a", 9, None).await, HookResponse::Failed { why } if why.contains("http://")));
}
