//! The rules for one request, row by row, over every lane: what reaches the endpoint, what the client gets, what is
//! tried again, what the access log and the metrics say.
//!
//! A row says what is so in every lane. Where the protocols differ it says in which: over HTTP/2 nothing names fields of
//! its connection, and an endpoint can say that it did not process a request.

use serde_json::Value;

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
    counted: Vec<Count>,
    logged: Vec<(&'static str, Value)>,
}

/// What is expected of a header field: its values joined by `; `, or that there is none; after a `~`, the beginning of
/// its value. On some ways only, if it says so.
type Field = (&'static str, Option<String>, &'static [Way]);

/// By how much a metric rises, summed over all series with these labels.
type Count = (&'static str, &'static [(&'static str, &'static str)], f64);

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
    [fields(), requests(), responses()].into_iter().flatten().collect()
}

/// What becomes of header fields.
fn fields() -> Vec<Row> {
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
    ]
}

/// What becomes of requests: chosen, refused, counted.
fn requests() -> Vec<Row> {
    vec![
        Row::new("no body is declared where none is expected", Request::get("/headers")).hides(&[
            "content-length",
            "transfer-encoding",
            "expect",
        ]),
        Row::new("a path in another spelling goes on in normal form", Request::get("/a/./b/../../headers"))
            .logs("path", "/a/./b/../../headers"),
        Row::new("the log says what was chosen", Request::get("/headers?a=b").header("user-agent", "x"))
            .logs("status", 200)
            .logs("route", "shop.test/")
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
    ]
}

/// What becomes of what endpoints answer.
fn responses() -> Vec<Row> {
    vec![
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

/// Two endpoints that refuse connections.
fn unreachable() -> Vec<Row> {
    let failed = |row: Row| {
        row.status(502)
            .answers("weir-error", "connect")
            .counts("weir_upstream_errors_total", &[("kind", "connect")], 2.0)
            .counts("weir_upstream_retries_total", &[("reason", "connect")], 1.0)
            .logs("cause", "connect")
            .logs("retries", 1)
    };
    vec![
        failed(Row::new("another endpoint is tried once, for nothing was sent", Request::post("/", "x"))),
        failed(Row::new("so it is without a body", Request::get("/"))),
    ]
}

/// A version that takes no requests.
fn in_maintenance() -> Vec<Row> {
    vec![
        Row::new("no endpoint is ready", Request::get("/"))
            .status(503)
            .answers("weir-error", "no_endpoint")
            .answers("content-type", "text/plain; charset=utf-8")
            .answers("cache-control", "no-store")
            .counts("weir_upstream_errors_total", &[("kind", "no_endpoint")], 1.0)
            .counts("weir_upstream_retries_total", &[], 0.0)
            .logs("cause", "no_endpoint")
            .logs("version", "v1")
            .logs("endpoint", Value::Null)
            .logs("retries", 0),
    ]
}

/// A version whose requests fail on purpose.
fn faulty() -> Vec<Row> {
    vec![
        Row::new("an error is injected before an endpoint is asked", Request::get("/"))
            .status(500)
            .answers("weir-error", "drill")
            .drops(&["x-origin"])
            .counts("weir_drill_faults_total", &[("kind", "error")], 1.0)
            .logs("cause", "drill")
            .logs("endpoint", Value::Null),
    ]
}

/// A service that gives its clients a cookie.
fn affine() -> Vec<Row> {
    vec![
        Row::new("a client without a key gets one", Request::get("/"))
            .answers("set-cookie", "~weir-shop=")
            .logs("why", "affinity"),
        Row::new("whoever has a key keeps it", Request::get("/").header("cookie", "weir-shop=0123456789abcdef"))
            .drops(&["set-cookie"])
            .logs("why", "affinity"),
    ]
}

/// What rows are told with.
#[derive(Clone, Copy, Default)]
struct Setup {
    /// Sections of the configuration.
    top: &'static str,
    /// Keys of the service.
    keys: &'static str,
    /// Endpoints that refuse connections, instead of the origin.
    dead: usize,
    /// A command that runs before.
    command: &'static [&'static str],
}

impl Setup {
    /// The configuration of a way to these endpoints.
    fn configuration(&self, origin: &Origin, dead: &[Origin], way: Way) -> String {
        let Self { top, keys, .. } = self;
        let protocol = if way == Way::Http2Endpoint { "protocol: h2\n    " } else { "" };
        let express = way == Way::Express;
        let log = "access_log: { output: \"{dir}/access.log\" }";
        let sections = format!("{top}runtime: {{ express_lane: {express} }}\n{log}\nshutdown:");
        let yaml = shop(&[(origin, 100.0)])
            .replace("path: /", "host: shop.test")
            .replace("    split:", &format!("    {protocol}{keys}split:"))
            .replace("shutdown:", &sections);
        if dead.is_empty() {
            return yaml;
        }
        let list: Vec<String> = dead.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
        yaml.replace(&format!("\"{}\"", origin.address()), &list.join(", "))
    }

    /// Tells all rows on each of their ways.
    async fn tell(self, rows: fn() -> Vec<Row>) {
        for way in WAYS {
            let v1 = Origin::start("v1").await;
            let dead: Vec<Origin> = (0..self.dead).map(|_| Origin::plan("dead").down()).collect();
            let weir = Weir::start(&self.configuration(&v1, &dead, way)).await;
            let web = Target::from(weir.address("web").await);
            if !self.command.is_empty() {
                let output = weir.cli(self.command).await;
                assert_eq!(output.status.code(), Some(0), "{output:?}");
            }
            for (at, row) in rows().into_iter().filter(|row| row.ways.contains(&way)).enumerate() {
                row.tell(way, &weir, &web, at + 1).await;
            }
            weir.stop().await;
        }
    }
}

impl Row {
    /// Sends the request, which will be in this line of the access log, and looks what came of it.
    async fn tell(&self, way: Way, weir: &Weir, web: &Target, line: usize) {
        let story = format!("{way:?}: {}", self.name);
        let before = weir.metrics().await;
        let response = match way {
            Way::Http2Client => H2::connect(web).await.try_send(&self.request).await,
            _ => H1::connect(web).await.try_send(&self.request).await,
        };
        let line = lines(weir, line).await.pop().unwrap();
        let after = weir.metrics().await;
        match (self.status, response) {
            (None, response) => assert!(response.is_err(), "{story}: {response:?}"),
            (Some(status), response) => {
                let response = response.unwrap_or_else(|failure| panic!("{story}: {failure}"));
                assert_eq!(response.status, status, "{story}: {response:?}");
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let received = response.headers.0.iter().map(|(name, value)| (name.to_lowercase(), text(value)));
                compare(&story, &self.at_client, way, &received.collect::<Vec<_>>());
                if !self.at_endpoint.is_empty() {
                    let seen: Value = response.json();
                    let mut sent: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
                    sent.iter_mut().for_each(|(name, _)| *name = name.to_lowercase());
                    compare(&story, &self.at_endpoint, way, &sent);
                }
            }
        }
        for (metric, labels, more) in &self.counted {
            let grown = after.value(metric, labels) - before.value(metric, labels);
            assert!((grown - more).abs() < f64::EPSILON, "{story}: {metric} {labels:?} grew by {grown}");
        }
        for (field, value) in &self.logged {
            assert_eq!(&line[*field], value, "{story}: {field} in {line}");
        }
        if way != Way::Express {
            assert_eq!(line["lane"], "general", "{story}: {line}");
        }
    }
}

fn compare(story: &str, expected: &[Field], way: Way, found: &[(String, String)]) {
    for (name, value, _) in expected.iter().filter(|(_, _, ways)| ways.contains(&way)) {
        let values: Vec<&str> =
            found.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
        let values = (!values.is_empty()).then(|| values.join("; "));
        match value.as_deref().and_then(|value| value.strip_prefix('~')) {
            Some(begin) => assert!(values.is_some_and(|all| all.starts_with(begin)), "{story}: {name} in {found:?}"),
            None => assert_eq!(values, *value, "{story}: {name} in {found:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_strangers_are_the_same_on_every_lane() {
    Setup { keys: "max_body: 1KiB\n    ", ..Setup::default() }.tell(strangers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_trusted_proxies_are_the_same_on_every_lane() {
    let top = "trusted_proxies: [127.0.0.0/8]\n";
    Setup { top, keys: "host: inner.test\n    ", ..Setup::default() }.tell(trusted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_endpoints_that_refuse_are_the_same_on_every_lane() {
    Setup { dead: 2, ..Setup::default() }.tell(unreachable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_versions_without_an_endpoint_are_the_same_on_every_lane() {
    Setup { command: &["maint", "shop/v1"], ..Setup::default() }.tell(in_maintenance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_injected_faults_are_the_same_on_every_lane() {
    let command = &["drill", "shop", "--version", "v1", "--errors", "100%", "--for", "1m"];
    Setup { command, ..Setup::default() }.tell(faulty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_for_affinity_are_the_same_on_every_lane() {
    Setup { keys: "affinity: { cookie: weir-shop, ttl: 1h }\n    ", ..Setup::default() }.tell(affine).await;
}
