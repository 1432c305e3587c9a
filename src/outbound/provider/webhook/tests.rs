//! What an application may answer, and what is made of it.

use rustls::RootCertStore;

use super::*;
use crate::http_client::stub::{Reply, Stub, refusing};
use crate::outbound::provider;
use crate::rollout::plan::Provider;

async fn ask(url: &str) -> Reading {
    let provider = Provider::Webhook { url: url.into(), timeout: Duration::from_millis(500) };
    let window = Duration::from_millis(1_500);
    let question = MetricQuery { check: "orders", service: "shop", stable: "v1", canary: "v2", window };
    provider::read(&Client::trusting(RootCertStore::empty()).unwrap(), &provider, &question).await
}

async fn answered(status: u16, body: &str) -> Reading {
    ask(&Stub::start([Reply::Answer(status, body.to_owned())]).await.url("/")).await
}

#[tokio::test]
async fn the_application_is_told_what_is_asked() {
    let stub = Stub::start([Reply::Answer(200, r#"{"value":1}"#.to_owned())]).await;
    assert_eq!(ask(&stub.url("/orders")).await, Reading::Value(1.0));
    let expected = json!({
        "check": "orders", "service": "shop", "stable": "v1", "canary": "v2", "window_seconds": 1.5
    });
    assert_eq!(stub.only().json(), expected);
}

#[tokio::test]
async fn values_and_verdicts() {
    let verdict = |pass, text: &str| Reading::Verdict { pass, text: text.to_owned() };
    assert_eq!(answered(200, r#"{"value": -0.5, "unit": "EUR"}"#).await, Reading::Value(-0.5));
    assert_eq!(answered(200, r#"{"verdict": "pass"}"#).await, verdict(true, ""));
    assert_eq!(
        answered(201, r#"{"verdict": "fail", "text": " carts are lost "}"#).await,
        verdict(false, "carts are lost")
    );
    assert_eq!(answered(200, r#"{"value": null}"#).await, Reading::Empty);
    assert_eq!(answered(204, "").await, Reading::Empty);
    let long = json!({ "verdict": "fail", "text": "x".repeat(5_000) }).to_string();
    assert!(
        matches!(answered(200, &long).await, Reading::Verdict { text, .. } if text.chars().count() == MAX_TEXT_CHARS)
    );
}

#[tokio::test]
async fn what_is_no_answer_says_why() {
    for (status, body, why) in [
        (200, "{}", "neither"),
        (200, r#"{"value": 1, "verdict": "pass"}"#, "both"),
        (200, r#"{"value": "1"}"#, "no number"),
        (200, r#"{"verdict": "maybe"}"#, "as agreed"),
        (200, "<html>", "as agreed"),
        (200, "", "as agreed"),
        (404, r#"{"value": 1}"#, "answered 404"),
        (500, "out of order", "answered 500: out of order"),
    ] {
        let reading = answered(status, body).await;
        assert!(matches!(&reading, Reading::Failed(text) if text.contains(why)), "{status} {body}: {reading:?}");
    }
    let reading = answered(200, &format!(r#"{{"value": 1}}{}"#, " ".repeat(70_000))).await;
    assert!(matches!(&reading, Reading::Failed(text) if text.contains("64 KiB")), "{reading:?}");
}

#[tokio::test]
async fn slow_or_gone() {
    let hanging = Stub::start([Reply::Hang]).await;
    assert_eq!(ask(&hanging.url("/")).await, Reading::Timeout);
    assert!(matches!(ask(&refusing().await).await, Reading::Failed(why) if why.contains("refused")));
    assert!(matches!(ask("localhost").await, Reading::Failed(_)));
}
