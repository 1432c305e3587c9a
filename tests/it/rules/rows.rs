//! The rows: what is so in every lane. Where the protocols differ a row says on which ways it holds: over HTTP/2 nothing
//! names fields of its connection, and an endpoint can say that it did not process a request.

use serde_json::Value;

use super::table::{HTTP1, HTTP1_CLIENT, HTTP1_ENDPOINT, HTTP2_CLIENT, HTTP2_ENDPOINT, Row, Way};
use crate::harness::Request;
use crate::harness::client::grpc::encode;

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
pub(super) fn strangers() -> Vec<Row> {
    [fields(), spelling(), requests(), local_responses(), responses(), calls()].into_iter().flatten().collect()
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
        Row::new(
            "the endpoint is told its version and why, and not what a client says of that",
            Request::get("/headers").header("weir-version", "v9").header("weir-version-reason", "override"),
        )
        .sends("weir-version", "v1")
        .sends("weir-version-reason", "weight")
        .drops(&["weir-version"]),
        Row::new("Via is continued in one line, with the protocol that came in", boastful())
            .sends_on(HTTP1_CLIENT, "via", "1.0 fred, 1.1 other, 1.1 weir")
            .sends_on(HTTP2_CLIENT, "via", "1.0 fred, 1.1 other, 2.0 weir"),
        Row::new(
            "fields of the connection end here",
            Request::get("/headers").header("keep-alive", "5").header("te", "trailers").header("x-api-key", "kept"),
        )
        .only(HTTP1_CLIENT)
        .sends("x-api-key", "kept")
        .hides(&["keep-alive", "te", "connection", "upgrade"]),
        Row::new(
            "a field that Connection names ends here",
            Request::get("/headers").header("connection", "x-mine").header("x-mine", "1"),
        )
        .only(HTTP1_CLIENT)
        .hides(&["x-mine", "connection"]),
    ]
}

/// What becomes of header names with an underscore, where nobody chose.
fn spelling() -> Vec<Row> {
    let call = || Request::post("/headers", "").header("content-type", "application/grpc").header("te", "trailers");
    let named = || Request::get("/headers").header("api_key", "7").header("api-key", "8");
    vec![
        Row::new("a name with an underscore ends here", named()).hides(&["api_key"]).sends("api-key", "8"),
        Row::new("of a gRPC call to endpoints that speak its protocol it goes on", call().header("api_key", "7"))
            .sends_on(&[Way::Http2], "api_key", "7")
            .hides_on(&[Way::Express, Way::General, Way::Http2Client, Way::Http2Endpoint], &["api_key"]),
        Row::new("forwarding headers are taken out in either spelling", call().header("x_forwarded_for", "6.6.6.6"))
            .hides(&["x_forwarded_for"])
            .sends("x-forwarded-for", "127.0.0.1"),
        Row::new("a name that frames the message in that spelling is refused", named().header("content_length", "5"))
            .local(400, "field_name_underscore")
            .unmatched(&[("code", "400")])
            .closes(),
    ]
}

/// Header names with an underscore are allowed.
pub(super) fn underscores_allowed() -> Vec<Row> {
    let named = || Request::get("/headers").header("api_key", "7").header("api-key", "8");
    vec![
        Row::new("a name with an underscore goes on", named()).sends("api_key", "7").sends("api-key", "8"),
        Row::new("what is forwarded of the client goes on in neither spelling", named().header("x_real_ip", "6.6.6.6"))
            .hides(&["x_real_ip", "x-real-ip"]),
    ]
}

/// Header names with an underscore are refused.
pub(super) fn underscores_refused() -> Vec<Row> {
    let call = Request::post("/headers", "").header("content-type", "application/grpc").header("te", "trailers");
    vec![
        Row::new("a name with an underscore is refused", Request::get("/").header("api_key", "7"))
            .local(400, "field_name_underscore")
            .unmatched(&[("code", "400")])
            .closes(),
        Row::new("that of a gRPC call is not", call.header("api_key", "7")).only(&[Way::Http2]).sends("api_key", "7"),
    ]
}

/// What becomes of gRPC calls.
fn calls() -> Vec<Row> {
    let call =
        |path| Request::post(path, encode(b"x")).header("content-type", "application/grpc").header("te", "trailers");
    vec![
        Row::new("a call whose status blames the server is a failure", call("/grpc.Test/None"))
            .answers("grpc-status", "12")
            .charged(&[("version", "v1"), ("code", "200")])
            .counts("weir_grpc_failures_total", &[("version", "v1")], 1.0)
            .logs("status", 200)
            .logs("stream", "grpc")
            .logs("cause", Value::Null),
        Row::new("one whose status blames the client is none", call("/grpc.Test/Fail"))
            .answers("grpc-status", "7")
            .counts("weir_grpc_failures_total", &[], 0.0)
            .logs("stream", "grpc"),
        Row::new("a local response to a call is one of HTTP", call("/").host("other.test"))
            .local(404, "no_route")
            .counts("weir_grpc_failures_total", &[], 0.0)
            .logs("stream", Value::Null),
        Row::new("that to a call that failed is no failure of gRPC", call("/reset-before"))
            .only(HTTP1_ENDPOINT)
            .local(502, "reset")
            .charged(&[("version", "v1"), ("code", "502")])
            .counts("weir_grpc_failures_total", &[], 0.0)
            .logs("stream", Value::Null),
    ]
}

/// When a local response ends the client's connection: when Weir cannot tell, or does not want to know, where the request
/// ends.
fn local_responses() -> Vec<Row> {
    let no_route = |request: Request| request.host("other.test");
    let gone = |row: Row| row.local(404, "no_route").unmatched(&[("code", "404")]);
    vec![
        gone(Row::new("a request without a body keeps its connection", no_route(Request::get("/")))).stays(),
        gone(Row::new("an empty body is none", no_route(Request::post("/", "")))).stays(),
        gone(Row::new("a body that nobody reads ends the connection", no_route(Request::post("/", "x")))).closes(),
        gone(Row::new("so does one that does not say its length", no_route(Request::post("/", "x").chunked())))
            .closes(),
        gone(Row::new("whoever wants to close does", no_route(Request::get("/").header("connection", "close"))))
            .only(HTTP1_CLIENT)
            .closes(),
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
            .local(400, "path_ambiguous")
            .unmatched(&[("code", "400")])
            .stays(),
        Row::new("a refusal of HEAD has no body", Request::new("HEAD", "/..;/x")).status(400).logs("bytes_out", 0),
        Row::new("what no route matches is refused", Request::get("/").host("other.test"))
            .local(404, "no_route")
            .unmatched(&[("code", "404")])
            .logs("route", Value::Null)
            .stays(),
        Row::new("a body beyond the limit is refused", Request::post("/sink", "x".repeat(2_000)))
            .local(413, "body_too_large")
            .charged(&[("version", "v1"), ("code", "413")])
            .counts("weir_upstream_errors_total", &[], 0.0)
            .closes(),
        Row::new("so is one that does not say its length", Request::post("/sink", "x".repeat(2_000)).chunked())
            .local(413, "body_too_large")
            .charged(&[("version", "v1"), ("code", "413")])
            .counts("weir_upstream_errors_total", &[], 0.0)
            .closes(),
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
            .local(502, "reset")
            .charged(&[("version", "v1"), ("code", "502")])
            .counts("weir_upstream_errors_total", &[("kind", "reset")], 1.0)
            .counts("weir_upstream_retries_total", &[], 0.0)
            .logs("retries", 0)
            .closes()
            .only(HTTP1_ENDPOINT),
        Row::new("a response that breaks off is counted and not tried again", Request::get("/close-mid"))
            .breaks()
            .counts("weir_upstream_retries_total", &[], 0.0)
            .logs("status", 200)
            .logs("retries", 0)
            .only(HTTP1_ENDPOINT),
        Row::new(
            "a stream that was not processed is tried again, up to three times",
            Request::post("/refused-stream", "x"),
        )
        .only(HTTP2_ENDPOINT)
        .local(503, "unprocessed")
        // Nobody knows how the endpoint would have answered: the version is not judged by it.
        .counts("weir_requests_total", &[("version", "v1"), ("code", "503")], 1.0)
        .counts("weir_request_duration_seconds_count", &[("version", "v1")], 0.0)
        .logs("version", "v1")
        .closes()
        .counts("weir_upstream_retries_total", &[("reason", "unprocessed")], 3.0)
        .counts("weir_upstream_errors_total", &[], 0.0)
        .logs("retries", 3),
        Row::new("garbage is no response", Request::get("/garbage"))
            .only(HTTP1_ENDPOINT)
            .local(502, "protocol")
            .charged(&[("version", "v1"), ("code", "502")])
            .closes()
            .counts("weir_upstream_errors_total", &[("kind", "protocol")], 1.0),
        Row::new("an odd head is forgiven", Request::get("/odd-head"))
            .only(HTTP1)
            .answers("server", "IIS")
            .answers("x-lines", "1   2"),
    ]
}

/// Rows that hold for a trusted proxy, whose request the service gives another host and a cookie.
pub(super) fn trusted() -> Vec<Row> {
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
            HTTP1_ENDPOINT,
            "host",
            "inner.test",
        ),
        Row::new("who may not be a request id gets another", Request::get("/headers").header("x-request-id", "é"))
            .logs("status", 200),
    ]
}

/// Two endpoints that refuse connections.
pub(super) fn unreachable() -> Vec<Row> {
    let failed = |row: Row| {
        row.local(502, "connect")
            .charged(&[("version", "v1"), ("code", "502")])
            .closes()
            .counts("weir_upstream_errors_total", &[("kind", "connect")], 3.0)
            .counts("weir_upstream_retries_total", &[("reason", "connect")], 2.0)
            .logs("retries", 2)
    };
    vec![
        failed(Row::new("the other endpoint is tried, and one again, for nothing was sent", Request::post("/", "x"))),
        failed(Row::new("so it is without a body", Request::get("/"))),
    ]
}

/// An endpoint that does not answer at all.
pub(super) fn silent() -> Vec<Row> {
    vec![
        Row::new("a connection that is not accepted in time is tried again, and a timeout", Request::post("/", "x"))
            .local(504, "connect_timeout")
            .charged(&[("version", "v1"), ("code", "504")])
            .counts("weir_upstream_errors_total", &[("kind", "connect")], 3.0)
            .counts("weir_upstream_retries_total", &[("reason", "connect")], 2.0)
            .logs("retries", 2)
            .closes(),
    ]
}

/// An endpoint whose certificate is for another name.
pub(super) fn untrusted() -> Vec<Row> {
    vec![
        Row::new("an endpoint whose certificate is not trusted gets nothing", Request::get("/"))
            .local(502, "tls")
            .charged(&[("version", "v1"), ("code", "502")])
            .counts("weir_upstream_errors_total", &[("kind", "tls")], 1.0)
            .counts("weir_upstream_retries_total", &[], 0.0)
            .closes(),
    ]
}

/// TLS on both sides, and a service that gives its clients a cookie.
pub(super) fn over_tls() -> Vec<Row> {
    vec![
        Row::new("the endpoint hears that the client spoke TLS", Request::get("/headers"))
            .sends("x-forwarded-proto", "https")
            .sends("x-forwarded-host", "shop.test")
            .answers("set-cookie", "weir-shop=~; Secure"),
        Row::new("the connection goes on", Request::post("/sink", "x".repeat(1_000))).logs("bytes_in", 1_000).stays(),
        Row::new("a host with another certificate is asked for in vain", Request::get("/").host("other.test"))
            .local(421, "misdirected")
            .unmatched(&[("code", "421")])
            .stays(),
        Row::new("a response that breaks off does so for the client", Request::get("/close-mid"))
            .only(HTTP1_ENDPOINT)
            .breaks()
            .counts("weir_upstream_errors_total", &[("kind", "reset")], 1.0),
        Row::new("a body beyond the limit is refused", Request::post("/sink", "x".repeat(2_000)))
            .local(413, "body_too_large")
            .closes(),
    ]
}

/// An endpoint that falls silent, and a service that does not wait long.
pub(super) fn late() -> Vec<Row> {
    let late = |row: Row| {
        row.charged(&[("version", "v1"), ("code", "504")])
            .counts("weir_upstream_errors_total", &[("kind", "timeout")], 1.0)
            .counts("weir_upstream_retries_total", &[], 0.0)
            .local(504, "timeout")
            .logs("retries", 0)
            .closes()
    };
    vec![
        late(Row::new("no head in time is a timeout", Request::get("/no-answer"))),
        late(Row::new("so it is after a body", Request::post("/no-answer", "x"))),
        Row::new("a response that pauses too long breaks off", Request::get("/drip/3/30000"))
            .breaks()
            .charged(&[("version", "v1"), ("code", "200")])
            .counts("weir_upstream_errors_total", &[("kind", "timeout")], 1.0)
            .logs("status", 200)
            .logs("cause", "timeout"),
    ]
}

/// Endpoints that drop an idle connection when the next request comes, one request after the other.
pub(super) fn stale() -> Vec<Row> {
    vec![
        Row::new("a connection is pooled that will be dropped", Request::get("/stale")),
        Row::new("the next request is tried again on a new one", Request::get("/"))
            .charged(&[("version", "v1"), ("code", "200")])
            .counts("weir_upstream_retries_total", &[("reason", "reused")], 1.0)
            .counts("weir_upstream_errors_total", &[("kind", "reset")], 1.0)
            .logs("retries", 1)
            .stays(),
        Row::new("the retry's connection is pooled, and will be dropped too", Request::get("/stale")),
        Row::new("a request that may have an effect is not tried again", Request::post("/", "x"))
            .local(502, "reset")
            .charged(&[("version", "v1"), ("code", "502")])
            .counts("weir_upstream_retries_total", &[], 0.0)
            .counts("weir_upstream_errors_total", &[("kind", "reset")], 1.0)
            .logs("retries", 0)
            .closes(),
    ]
}

/// A version that takes no requests.
pub(super) fn in_maintenance() -> Vec<Row> {
    let refused = |row: Row| {
        row.local(503, "no_endpoint")
            .charged(&[("version", "v1"), ("code", "503")])
            .counts("weir_upstream_errors_total", &[("kind", "no_endpoint")], 1.0)
            .counts("weir_upstream_retries_total", &[], 0.0)
            .logs("endpoint", Value::Null)
            .logs("retries", 0)
    };
    vec![
        refused(Row::new("no endpoint is ready", Request::get("/"))).stays(),
        refused(Row::new("a body that nobody reads ends the connection", Request::post("/", "x"))).closes(),
        refused(Row::new("so does one that does not say its length", Request::post("/", "x").chunked())).closes(),
        refused(Row::new("whoever wants to close does", Request::get("/").header("connection", "close")))
            .only(HTTP1_CLIENT)
            .closes(),
    ]
}

/// A version whose requests fail on purpose.
pub(super) fn faulty() -> Vec<Row> {
    let failed = |row: Row| {
        row.local(500, "drill")
            .charged(&[("version", "v1"), ("code", "500")])
            .counts("weir_drill_faults_total", &[("kind", "error")], 1.0)
            .counts("weir_upstream_errors_total", &[], 0.0)
            .logs("endpoint", Value::Null)
    };
    vec![
        failed(Row::new("an error is injected before an endpoint is asked", Request::get("/"))).stays(),
        failed(Row::new("a body that nobody reads ends the connection", Request::post("/", "x"))).closes(),
    ]
}

/// A service that gives its clients a cookie.
pub(super) fn affine() -> Vec<Row> {
    vec![
        Row::new("a client without a key gets one", Request::get("/"))
            .answers("set-cookie", "weir-shop=~")
            .logs("why", "affinity"),
        Row::new("the endpoint is told of the affinity", Request::get("/headers"))
            .sends("weir-version-reason", "affinity"),
        Row::new("whoever has a key keeps it", Request::get("/").header("cookie", "weir-shop=0123456789abcdef"))
            .drops(&["set-cookie"])
            .logs("why", "affinity"),
    ]
}

/// A service whose requests may name their version, and which tells its clients and not its endpoints.
pub(super) fn overridden() -> Vec<Row> {
    let cookie = |value: &str| Request::get("/headers").header("cookie", value);
    vec![
        Row::new("a header that names the version goes no further", Request::get("/headers").header("X-Version", "v1"))
            .hides(&["x-version", "weir-version", "weir-version-reason"])
            .answers("weir-version", "v1")
            .logs("why", "override"),
        Row::new("one that names none goes no further either", Request::get("/headers").header("x-version", "v7"))
            .hides(&["x-version"])
            .logs("why", "weight"),
        Row::new("a cookie that names the version is taken out of the others", cookie("a=b; version=v1; c=d"))
            .sends("cookie", "a=b; c=d")
            .logs("why", "override"),
        Row::new("alone it takes its field with it", cookie("version=v1")).hides(&["cookie"]).logs("why", "override"),
        Row::new("other cookies go on as they came", cookie("a=b;  c=d")).sends("cookie", "a=b;  c=d"),
    ]
}
