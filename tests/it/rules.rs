//! The rules for one request, row by row, over every lane: what reaches the endpoint, what the client gets, what is
//! tried again, what the access log and the metrics say.
//!
//! A row says what is so in every lane. Where the protocols differ it says in which: over HTTP/2 nothing names fields of
//! its connection, and an endpoint can say that it did not process a request.

use serde_json::Value;

use crate::harness::weir::Metrics;
use crate::harness::{H1, H2, Origin, Request, Target, Weir, shop};
use crate::http1::lines;

/// How a request gets from its client to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// HTTP/1.1 on the express lane.
    Express,
    /// HTTP/1.1 on the general lane.
    General,
    /// HTTP/2 from the client, HTTP/1.1 to the endpoint.
    Http2Client,
    /// HTTP/1.1 from the client, HTTP/2 to the endpoint.
    Http2Endpoint,
}

const WAYS: [Way; 4] = [Way::Express, Way::General, Way::Http2Client, Way::Http2Endpoint];

/// Ways with HTTP/1.1 on both sides.
const HTTP1: &[Way] = &[Way::Express, Way::General];

/// A request, and all that is to come of it.
struct Row {
    name: &'static str,
    request: Request,
    ways: &'static [Way],
    status: Option<u16>,
    at_endpoint: Vec<Field>,
    at_client: Vec<Field>,
    counted: Vec<(&'static str, &'static [(&'static str, &'static str)], f64)>,
    logged: Vec<(&'static str, Value)>,
}

/// What is expected of a header field: its values joined by `; `, or that there is none. On some ways only, if it says
/// so.
type Field = (&'static str, Option<String>, &'static [Way]);

impl Row {
    fn new(name: &'static str, request: Request) -> Self {
        let (at_endpoint, at_client) = (Vec::new(), Vec::new());
        let (counted, logged) = (Vec::new(), Vec::new());
        Self { name, request, ways: &WAYS, status: Some(200), at_endpoint, at_client, counted, logged }
    }

    /// Told on these ways only.
    fn only(self, ways: &'static [Way]) -> Self {
        Self { ways, ..self }
    }

    /// The response has this status.
    fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The response breaks off.
    fn breaks(self) -> Self {
        Self { status: None, ..self }
    }

    /// The endpoint gets this field.
    fn sends(self, name: &'static str, value: &str) -> Self {
        self.sends_on(&WAYS, name, value)
    }

    /// The endpoint gets this field on these ways.
    fn sends_on(mut self, ways: &'static [Way], name: &'static str, value: &str) -> Self {
        self.at_endpoint.push((name, Some(value.to_owned()), ways));
        self
    }

    /// The endpoint gets no field of these names.
    fn hides(mut self, names: &[&'static str]) -> Self {
        self.at_endpoint.extend(names.iter().map(|name| (*name, None, &WAYS[..])));
        self
    }

    /// The client gets this field.
    fn answers(mut self, name: &'static str, value: &str) -> Self {
        self.at_client.push((name, Some(value.to_owned()), &WAYS));
        self
    }

    /// The client gets no field of these names.
    fn drops(mut self, names: &[&'static str]) -> Self {
        self.at_client.extend(names.iter().map(|name| (*name, None, &WAYS[..])));
        self
    }

    /// The metric grows by so much.
    fn counts(mut self, metric: &'static str, labels: &'static [(&'static str, &'static str)], more: f64) -> Self {
        self.counted.push((metric, labels, more));
        self
    }

    /// The access log has this.
    fn logs(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.logged.push((field, value.into()));
        self
    }
}

const FOREIGN: [&str; 12] = [
    "forwarded",
    "x-real-ip",
    "x-forwarded-port",
    "x-forwarded-user",
    "x-forwarded-prefix",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "client-cert",
    "proxy-authorization",
    "te",
    "keep-alive",
];

/// A request that says all of what clients may say about themselves.
fn boastful() -> Request {
    let request = Request::get("/headers")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "gopher")
        .header("x-forwarded-host", "evil.test")
        .header("x-request-id", "mine")
        .header("x-api-key", "kept")
        .header("via", "1.0 fred")
        .header("via", "1.1 other");
    // The rest is of no use in HTTP/2, or is left out where the protocol forbids it.
    FOREIGN
        .iter()
        .filter(|name| !["te", "keep-alive"].contains(name))
        .fold(request, |request, name| request.header(name, "6"))
}

/// Rows that hold for whom nobody trusts.
fn strangers() -> Vec<Row> {
    vec![
        Row::new("what a stranger says about itself is replaced", boastful())
            .sends("x-forwarded-for", "127.0.0.1")
            .sends("x-forwarded-proto", "http")
            .sends("x-forwarded-host", "shop.test")
            .sends("x-api-key", "kept")
            .hides(&FOREIGN),
        Row::new("Via is continued in one line, with the protocol that came in", boastful())
            .sends_on(&[Way::Express, Way::General, Way::Http2Endpoint], "via", "1.0 fred, 1.1 other, 1.1 weir")
            .sends_on(&[Way::Http2Client], "via", "1.0 fred, 1.1 other, 2.0 weir"),
        Row::new(
            "fields of the connection end here",
            Request::get("/headers").header("keep-alive", "5").header("te", "trailers").header("x-api-key", "kept"),
        )
        .only(&[Way::Express, Way::General, Way::Http2Endpoint])
        .sends("x-api-key", "kept")
        .hides(&["keep-alive", "te", "connection", "upgrade"]),
        Row::new(
            "a field that Connection names ends here",
            Request::get("/headers").header("connection", "x-mine").header("x-mine", "1"),
        )
        .only(&[Way::Express, Way::General, Way::Http2Endpoint])
        .hides(&["x-mine", "connection"]),
        Row::new("no body is declared where none is expected", Request::get("/headers")).hides(&[
            "content-length",
            "transfer-encoding",
            "expect",
        ]),
        Row::new("a path in another spelling goes on in normal form", Request::get("/a/./b/../../headers"))
            .logs("path", "/a/./b/../../headers"),
        Row::new("the log says what was chosen", Request::get("/headers?a=b").header("user-agent", "x"))
            .logs("status", 200)
            .logs("route", "shop")
            .logs("service", "shop")
            .logs("version", "v1")
            .logs("why", "weight")
            .logs("host", "shop.test")
            .logs("method", "GET")
            .logs("retries", 0),
        Row::new("an ambiguous path is refused", Request::get("/..;/x"))
            .status(400)
            .answers("content-type", "text/plain; charset=utf-8")
            .answers("cache-control", "no-store")
            .drops(&["x-origin"])
            .logs("status", 400)
            .logs("version", Value::Null),
        Row::new("a refusal of HEAD has no body", Request::new("HEAD", "/..;/x")).status(400).logs("bytes_out", 0),
        Row::new("what no route matches is refused", Request::get("/").host("other.test"))
            .status(404)
            .answers("weir-error", "no_route")
            .logs("cause", "no_route")
            .logs("route", Value::Null),
        Row::new("a body beyond the limit is refused", Request::post("/sink", "x".repeat(2_000)))
            .status(413)
            .answers("weir-error", "body_too_large")
            .logs("cause", "body_too_large")
            .logs("version", "v1"),
        Row::new("so is one that does not say its length", Request::post("/sink", "x".repeat(2_000)).chunked())
            .status(413)
            .answers("weir-error", "body_too_large"),
        Row::new("a body within the limit counts", Request::post("/sink", "x".repeat(1_000)))
            .logs("bytes_in", 1_000)
            .logs("status", 200),
        Row::new("a 204 has no length", Request::get("/status/204"))
            .status(204)
            .drops(&["content-length", "transfer-encoding"]),
        Row::new("a status of the endpoint is its own", Request::get("/status/503"))
            .status(503)
            .drops(&["weir-error"])
            .counts("weir_upstream_errors_total", &[], 0.0)
            .logs("cause", Value::Null),
        Row::new("an endpoint that hangs up is to blame", Request::post("/reset-before", "x"))
            .status(502)
            .answers("weir-error", "reset")
            .counts("weir_upstream_errors_total", &[("kind", "reset")], 1.0)
            .counts("weir_upstream_retries_total", &[], 0.0)
            .logs("cause", "reset")
            .logs("retries", 0)
            .only(&[Way::Express, Way::General, Way::Http2Client]),
        Row::new("a response that breaks off is counted and not tried again", Request::get("/close-mid"))
            .breaks()
            .counts("weir_upstream_retries_total", &[], 0.0)
            .logs("status", 200)
            .logs("retries", 0)
            .only(&[Way::Express, Way::General, Way::Http2Client]),
        Row::new(
            "a stream that was not processed is tried again, up to three times",
            Request::post("/refused-stream", "x"),
        )
        .only(&[Way::Http2Endpoint])
        .status(503)
        .answers("weir-error", "unprocessed")
        .counts("weir_upstream_retries_total", &[("reason", "unprocessed")], 3.0)
        .counts("weir_upstream_errors_total", &[], 0.0)
        .logs("retries", 3),
        Row::new("garbage is no response", Request::get("/garbage"))
            .only(&[Way::Express, Way::General, Way::Http2Client])
            .status(502)
            .answers("weir-error", "protocol")
            .counts("weir_upstream_errors_total", &[("kind", "protocol")], 1.0),
        Row::new("an odd head is forgiven", Request::get("/odd-head"))
            .only(HTTP1)
            .answers("server", "IIS")
            .answers("x-lines", "1   2"),
    ]
}

/// Rows that hold for a trusted proxy, whose request the service gives another host and a cookie.
fn trusted() -> Vec<Row> {
    vec![
        Row::new("a trusted proxy is believed", boastful())
            .sends("x-forwarded-for", "6.6.6.6, 127.0.0.1")
            .sends("x-forwarded-proto", "gopher")
            .sends("x-forwarded-host", "evil.test")
            .sends("x-request-id", "mine")
            .sends("x-forwarded-port", "6")
            .sends("forwarded", "6")
            .hides(&["proxy-authorization"])
            .logs("client", "6.6.6.6")
            .logs("request_id", "mine"),
        Row::new("the service has a host of its own", Request::get("/headers")).sends_on(
            &[Way::Express, Way::General, Way::Http2Client],
            "host",
            "inner.test",
        ),
        Row::new("who may not be a request id gets another", Request::get("/headers").header("x-request-id", "é"))
            .logs("status", 200),
    ]
}

/// The configuration of a way; `top` are sections, `keys` of the service.
fn configuration(origin: &Origin, way: Way, top: &str, keys: &str) -> String {
    let protocol = if way == Way::Http2Endpoint { "protocol: h2\n    " } else { "" };
    let express = way == Way::Express;
    let log = "access_log: { output: \"{dir}/access.log\" }";
    let sections = format!("{top}runtime: {{ express_lane: {express} }}\n{log}\nshutdown:");
    shop(&[(origin, 100.0)])
        .replace("path: /", "host: shop.test")
        .replace("    split:", &format!("    {protocol}{keys}split:"))
        .replace("shutdown:", &sections)
}

/// Tells all rows on each of their ways.
async fn tell(top: &str, keys: &str, rows: fn() -> Vec<Row>) {
    for way in WAYS {
        let v1 = Origin::start("v1").await;
        let weir = Weir::start(&configuration(&v1, way, top, keys)).await;
        let web = Target::from(weir.address("web").await);
        for (told, row) in rows().into_iter().filter(|row| row.ways.contains(&way)).enumerate() {
            let told_of = format!("{way:?}: {}", row.name);
            let before = weir.metrics().await;
            let response = match way {
                Way::Http2Client => H2::connect(&web).await.try_send(&row.request).await,
                _ => H1::connect(&web).await.try_send(&row.request).await,
            };
            let line = lines(&weir, told + 1).await.pop().unwrap();
            let after = weir.metrics().await;
            let Some(status) = row.status else {
                assert!(response.is_err(), "{told_of}: {response:?}");
                check(&told_of, &row, &before, &after, &line);
                continue;
            };
            let response = response.unwrap_or_else(|failure| panic!("{told_of}: {failure}"));
            assert_eq!(response.status, status, "{told_of}: {response:?}");
            let received: Vec<(String, String)> = response
                .headers
                .0
                .iter()
                .map(|(name, value)| (name.to_lowercase(), String::from_utf8_lossy(value).into()))
                .collect();
            compare(&told_of, &row.at_client, way, &received);
            if !row.at_endpoint.is_empty() {
                let seen: Value = response.json();
                let mut sent: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
                sent.iter_mut().for_each(|(name, _)| *name = name.to_lowercase());
                compare(&told_of, &row.at_endpoint, way, &sent);
            }
            check(&told_of, &row, &before, &after, &line);
            if way != Way::Express {
                assert_eq!(line["lane"], "general", "{told_of}: {line}");
            }
        }
        weir.stop().await;
    }
}

fn compare(told_of: &str, expected: &[Field], way: Way, found: &[(String, String)]) {
    for (name, value, _) in expected.iter().filter(|(_, _, ways)| ways.contains(&way)) {
        let values: Vec<&str> =
            found.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
        let values = (!values.is_empty()).then(|| values.join("; "));
        assert_eq!(values, *value, "{told_of}: {name} in {found:?}");
    }
}

fn check(told_of: &str, row: &Row, before: &Metrics, after: &Metrics, line: &Value) {
    for (metric, labels, more) in &row.counted {
        let grown = after.value(metric, labels) - before.value(metric, labels);
        assert!((grown - more).abs() < f64::EPSILON, "{told_of}: {metric} {labels:?} grew by {grown}");
    }
    for (field, value) in &row.logged {
        assert_eq!(&line[*field], value, "{told_of}: {field} in {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_strangers_are_the_same_on_every_lane() {
    tell("limits: { body_bytes: 1500 }\n", "", strangers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_trusted_proxies_are_the_same_on_every_lane() {
    tell("trusted_proxies: [127.0.0.0/8]\n", "host: inner.test\n    ", trusted).await;
}
