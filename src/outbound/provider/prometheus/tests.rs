//! Answers of a Prometheus server, good and bad. The real server is asked in `tests/it/provider.rs`.

use rustls::RootCertStore;

use super::*;
use crate::http_client::stub::{Reply, Stub, refusing};
use crate::outbound::provider;
use crate::rollout::plan::{Provider, QUERY_WORDS};

fn question(window: Duration) -> MetricQuery<'static> {
    MetricQuery { check: "orders", service: "shop", stable: "v1", canary: "v2", window }
}

async fn ask(url: &str, query: &str) -> Reading {
    let timeout = Duration::from_millis(500);
    let provider = Provider::Prometheus { url: url.into(), query: query.into(), timeout };
    let client = Client::trusting(RootCertStore::empty()).unwrap();
    provider::read(&client, &provider, &question(Duration::from_secs(60))).await
}

async fn answered(status: u16, body: &str) -> Reading {
    ask(&Stub::start([Reply::Answer(status, body.to_owned())]).await.url(""), "up").await
}

async fn result(kind: &str, result: &str) -> Reading {
    answered(200, &format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)).await
}

#[test]
fn placeholders() {
    let expand = |query: &str| expand(query, &question(Duration::from_secs(90)));
    assert_eq!(expand(r#"a{s="{{service}}",v="{{ canary }}"}[{{window}}]"#), r#"a{s="shop",v="v2"}[90s]"#);
    assert_eq!(expand("{{stable}}{{stable}}"), "v1v1");
    assert_eq!(expand("{{other}} {{{{canary}} {{canary"), "{{other}} {{v2 {{canary");
    assert_eq!(expand("ü{{}}"), "ü{{}}");
    assert_eq!(super::expand("{{window}}", &question(Duration::from_millis(1_500))), "1500ms");
    // What the configuration allows.
    assert!(QUERY_WORDS.iter().all(|word| !expand(&format!("{{{{{word}}}}}")).contains('{')));
}

#[tokio::test]
async fn the_query_is_sent_as_a_form() {
    let stub = Stub::start([Reply::Answer(200, String::new())]).await;
    ask(&stub.url("/prometheus/?x"), r#"a{v="{{canary}}"}&b + ü*1"#).await;
    let request = stub.only();
    assert!(request.head.starts_with("POST /prometheus/api/v1/query HTTP/1.1"), "{}", request.head);
    assert_eq!(request.field("content-type"), Some("application/x-www-form-urlencoded"));
    let expected = "query=a%7Bv%3D%22v2%22%7D%26b+%2B+%C3%BC*1&timeout=500ms";
    assert_eq!(String::from_utf8(request.body).unwrap(), expected);
}

#[tokio::test]
async fn one_number() {
    assert_eq!(result("scalar", r#"[1700000000.5,"0.25"]"#).await, Reading::Value(0.25));
    assert_eq!(result("vector", r#"[{"metric":{"a":"b"},"value":[1700000000,"1e3"]}]"#).await, Reading::Value(1000.0));
    assert_eq!(result("scalar", r#"[0,"-Inf"]"#).await, Reading::Value(f64::NEG_INFINITY));
    assert_eq!(result("vector", r#"[{"metric":{},"value":[0,"+Inf"]}]"#).await, Reading::Value(f64::INFINITY));
}

#[tokio::test]
async fn what_is_not_one_number_is_told_as_what_it_is() {
    assert_eq!(result("scalar", r#"[0,"NaN"]"#).await, Reading::NotANumber);
    assert_eq!(result("vector", "[]").await, Reading::Empty);
    let series = r#"{"metric":{},"value":[0,"1"]}"#;
    assert_eq!(result("vector", &format!("[{series},{series},{series}]")).await, Reading::Many(3));
    for (kind, value, why) in [
        ("matrix", "[]", "a range of values"),
        ("string", r#"[0,"x"]"#, "a text"),
        ("vector", r#"[{"metric":{},"histogram":[0,{}]}]"#, "a histogram"),
        ("scalar", r#"[0,"many"]"#, "none of its results"),
        ("scalar", "7", "none of its results"),
        ("tensor", "[]", "none of its results"),
    ] {
        let reading = result(kind, value).await;
        assert!(matches!(&reading, Reading::Failed(text) if text.contains(why)), "{kind}: {reading:?}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_told_in_its_words() {
    let error = r#"{"status":"error","errorType":"bad_data","error":"1:3: parse error:\nno such function"}"#;
    let told = "Prometheus refuses the query (bad_data): 1:3: parse error: no such function";
    assert_eq!(answered(400, error).await, Reading::Failed(told.to_owned()));
    let slow = r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
    assert_eq!(answered(503, slow).await, Reading::Timeout);
}

#[tokio::test]
async fn whatever_else_answers() {
    let success = r#"{"status":"success","data":{"resultType":"scalar","result":[0,"1"]}}"#;
    for (status, body, why) in [
        (200, "{", "answered 200"),
        (200, "<html>login</html>", "login"),
        (502, "Bad Gateway", "answered 502"),
        (500, success, "answered 500"),
    ] {
        let reading = answered(status, body).await;
        assert!(matches!(&reading, Reading::Failed(text) if text.contains(why)), "{status} {body}: {reading:?}");
    }
    let reading = answered(200, &"[".repeat(70_000)).await;
    assert!(matches!(&reading, Reading::Failed(text) if text.contains("64 KiB")), "{reading:?}");
}

#[tokio::test]
async fn slow_or_gone() {
    let hanging = Stub::start([Reply::Hang]).await;
    assert_eq!(ask(&hanging.url(""), "up").await, Reading::Timeout);
    assert!(matches!(ask(&refusing().await, "up").await, Reading::Failed(why) if why.contains("refused")));
}
