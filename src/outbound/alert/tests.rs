//! What receivers are told, and by whom: each kind on the wire, with its secret from a file.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use serde_json::json;
use tempfile::TempDir;

use super::send::{Sent, send};
use super::*;
use crate::http_client::Client;
use crate::http_client::stub::{Received, Reply, Stub, refusing};
use crate::rollout::alerts::Secret;
use crate::rollout::verdict::CheckOutcome;

/// A rollback with one figure.
pub(super) fn alert(id: &str, transition: Transition) -> Alert {
    let verdict = Verdict {
        check: "errors".into(),
        outcome: CheckOutcome::Fail,
        dry_run: false,
        value: Some(1.71),
        limit: Some(1.0),
        samples: 820,
        stable_fails_too: false,
        conclusive: false,
        sentence: "errors: canary 14 of 820 (1.71 %) over 60 s, limit 1 % → roll back".to_owned(),
    };
    Alert {
        id: id.to_owned(),
        time: 1_700_000_000,
        service: "shop".to_owned(),
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
        transition,
        severity: Severity::of(transition),
        sentence: "errors <5 % & rising".to_owned(),
        done: "v1 100 %, v2 0 %".to_owned(),
        window_seconds: 60.0,
        figures: vec![Figure::from(&verdict)],
    }
}

pub(super) fn receiver(name: &str, kind: Kind, on: &[Transition]) -> Receiver {
    Receiver { name: name.into(), kind, on: on.to_vec() }
}

fn text(text: impl Into<Arc<str>>) -> Secret {
    Secret::Text(text.into())
}

fn secret(directory: &TempDir, text: &str) -> Secret {
    let path: PathBuf = directory.path().join("secret");
    std::fs::write(&path, text).unwrap();
    Secret::File(path)
}

async fn tell(kind: Kind, alert: &Alert) -> Sent {
    let client = Client::trusting(RootCertStore::empty()).unwrap();
    send(&client, &receiver("oncall", kind, &[alert.transition]), alert).await
}

async fn told(kind: impl FnOnce(&Stub) -> Kind, alert: &Alert) -> Received {
    let stub = Stub::start([Reply::Answer(202, "ok".to_owned())]).await;
    assert_eq!(tell(kind(&stub), alert).await, Sent::Delivered);
    stub.only()
}

fn figures() -> serde_json::Value {
    json!([{
        "check": "errors", "verdict": "fail", "value": 1.71, "limit": 1.0, "samples": 820,
        "sentence": "errors: canary 14 of 820 (1.71 %) over 60 s, limit 1 % → roll back",
    }])
}

#[tokio::test]
async fn pagerduty_gets_an_incident_and_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let routing_key = secret(&directory, "R0UT1NG\n");
    let kind = |stub: &Stub| Kind::PagerDuty { routing_key, url: stub.url("/v2/enqueue").into() };
    let request = told(kind.clone(), &alert("shop-7", Transition::RolledBack)).await;
    assert!(request.head.starts_with("POST /v2/enqueue "), "{}", request.head);
    let expected = json!({
        "routing_key": "R0UT1NG", "event_action": "trigger", "dedup_key": "weir/shop/v2", "client": "Weir",
        "payload": {
            "summary": "shop/v2: rolled back. errors <5 % & rising", "source": "shop", "severity": "error",
            "timestamp": "2023-11-14T22:13:20Z", "component": "v2", "class": "rolled_back",
            "custom_details": {
                "id": "shop-7", "stable": "v1", "done": "v1 100 %, v2 0 %", "window_seconds": 60.0, "figures": figures()
            },
        },
    });
    assert_eq!(request.json(), expected);

    let request = told(kind, &alert("shop-8", Transition::Succeeded)).await.json();
    assert_eq!((&request["event_action"], &request["dedup_key"]), (&json!("resolve"), &json!("weir/shop/v2")));
}

#[tokio::test]
async fn a_webhook_gets_a_signed_cloudevent() {
    let directory = tempfile::tempdir().unwrap();
    let key = Some(secret(&directory, "s3cret"));
    let kind = |stub: &Stub| Kind::Webhook { url: text(stub.url("/events")), secret: key };
    let request = told(kind, &alert("shop-7", Transition::RolledBack)).await;
    assert_eq!(request.field("content-type"), Some("application/cloudevents+json"));
    assert!(request.is_signed_with("s3cret"), "{}", request.head);
    let expected = json!({
        "specversion": "1.0", "id": "shop-7", "source": "/weir/services/shop", "type": "weir.rollout.rolled_back",
        "subject": "shop/v2", "time": "2023-11-14T22:13:20Z", "datacontenttype": "application/json",
        "data": {
            "service": "shop", "stable": "v1", "canary": "v2", "transition": "rolled_back", "severity": "error",
            "sentence": "errors <5 % & rising", "done": "v1 100 %, v2 0 %", "window_seconds": 60.0,
            "figures": figures(),
        },
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn slack_gets_a_message_that_mentions_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let kind = |stub: &Stub| Kind::Slack { url: secret(&directory, &stub.url("/services/T0/B0/x")) };
    let request = told(kind, &alert("shop-7", Transition::RolledBack)).await;
    assert!(request.head.starts_with("POST /services/T0/B0/x "), "{}", request.head);
    let message = request.json();
    assert_eq!(message["text"], "shop/v2: rolled back");
    let blocks = &message["attachments"][0]["blocks"];
    assert_eq!(blocks[0]["text"]["text"], "errors &lt;5 % &amp; rising");
    let figure = "• *errors* `fail` errors: canary 14 of 820 (1.71 %) over 60 s, limit 1 % → roll back";
    assert_eq!(blocks[1]["text"]["text"], figure);
    assert_eq!(blocks[2]["text"]["text"], "v1 100 %, v2 0 %");
    assert_eq!(blocks[3]["elements"][0]["text"], "2023-11-14T22:13:20Z · stable is v1 · shop-7");
}

#[test]
fn long_texts_stay_below_the_limits_of_receivers() {
    let mut long = alert("shop-7", Transition::RolledBack);
    long.sentence = "&".repeat(9_000);
    long.done = String::new();
    long.figures = vec![long.figures[0].clone(); 500];
    let message = slack::message(&long);
    let blocks = message["attachments"][0]["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 3, "an empty section would be refused");
    for block in &blocks[..2] {
        let length = block["text"]["text"].as_str().unwrap().chars().count();
        assert!(length <= 3_000, "{length}");
    }
    let summary = pagerduty::event(&long, "")["payload"]["summary"].as_str().unwrap().chars().count();
    assert_eq!(summary, 1_024);
}

#[tokio::test]
async fn what_receivers_answer_and_what_follows() {
    for (status, again) in
        [(400, false), (403, false), (404, false), (410, false), (408, true), (429, true), (500, true)]
    {
        let stub = Stub::start([Reply::Answer(status, "because".to_owned())]).await;
        let url = text(stub.url("/secret/path"));
        let why = format!("{} answered {status}: because", stub.url(""));
        let sent = tell(Kind::Webhook { url, secret: None }, &alert("a", Transition::Paused)).await;
        assert_eq!(sent, if again { Sent::Retry(why) } else { Sent::Refused(why) });
    }
    let gone = Kind::Webhook { url: text(refusing().await), secret: None };
    assert!(matches!(tell(gone, &alert("a", Transition::Paused)).await, Sent::Retry(_)));
}

#[tokio::test]
async fn a_secret_that_is_missing_or_wrong_may_be_mended() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Secret::File(directory.path().join("none"));
    let wrong = secret(&directory, "hooks.example/services/s3cret");
    for kind in [
        Kind::Slack { url: missing.clone() },
        Kind::Slack { url: wrong },
        Kind::PagerDuty { routing_key: missing.clone(), url: "http://127.0.0.1:1/".into() },
        Kind::Webhook { url: text("http://127.0.0.1:1/"), secret: Some(missing) },
    ] {
        let sent = tell(kind.clone(), &alert("a", Transition::Paused)).await;
        assert!(matches!(&sent, Sent::Retry(why) if !why.contains("s3cret")), "{kind:?}: {sent:?}");
    }
}

#[test]
fn the_words_of_transitions() {
    for transition in Transition::ALL {
        assert_eq!(json!(transition), transition.as_str(), "stored and configured alike");
    }
}

#[test]
fn a_receiver_is_told_what_it_asked_for() {
    let webhook = Kind::Webhook { url: text("http://a"), secret: None };
    let pagerduty = Kind::PagerDuty { routing_key: Secret::File("key".into()), url: "http://a".into() };
    let wanted = |kind: &Kind, on: &[Transition]| -> Vec<_> {
        Transition::ALL.into_iter().filter(|it| receiver("a", kind.clone(), on).wants(*it)).collect()
    };
    assert_eq!(wanted(&webhook, &[Transition::Paused]), [Transition::Paused]);
    assert_eq!(
        wanted(&pagerduty, &[Transition::Paused]),
        [Transition::Paused, Transition::Superseded, Transition::Succeeded]
    );
    assert!(wanted(&pagerduty, &[]).is_empty(), "nothing begun, nothing to end");
}

#[test]
fn an_alert_survives_its_storage() {
    let verdict = Verdict {
        check: "ratio".into(),
        outcome: CheckOutcome::Fail,
        dry_run: false,
        value: Some(f64::INFINITY),
        limit: None,
        samples: 0,
        stable_fails_too: false,
        conclusive: false,
        sentence: String::new(),
    };
    let mut alert = alert("shop-7", Transition::StoreError);
    alert.figures.push(Figure::from(&verdict));
    let pending = Pending { receiver: "oncall".to_owned(), attempts: 3, alert };
    let stored = serde_json::to_vec(&pending).unwrap();
    assert_eq!(serde_json::from_slice::<Pending>(&stored).unwrap(), pending);
}
