//! A row of the table: a request, the ways it is sent, and all that is expected of it.

use serde_json::Value;

use crate::harness::client::{Ending, Response};
use crate::harness::fault::BlackHole;
use crate::harness::{Authority, Client, Fixture as _, Origin, Protocol, Request, Target, Tls, Weir, shop};
use crate::http1::lines;

/// How a request gets from its client to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// HTTP/1.1 on the express lane.
    Express,
    /// HTTP/1.1 on the general lane.
    General,
    /// HTTP/2 from the client, HTTP/1.1 to the endpoint.
    Http2Client,
    /// HTTP/1.1 from the client, HTTP/2 to the endpoint.
    Http2Endpoint,
    /// HTTP/2 on both sides.
    Http2,
}

pub(super) const WAYS: [Way; 5] = [Way::Express, Way::General, Way::Http2Client, Way::Http2Endpoint, Way::Http2];

/// Ways with HTTP/1.1 on both sides.
pub(super) const HTTP1: &[Way] = &[Way::Express, Way::General];
/// Ways with an HTTP/1.1 client.
pub(super) const HTTP1_CLIENT: &[Way] = &[Way::Express, Way::General, Way::Http2Endpoint];
/// Ways with an HTTP/2 client.
pub(super) const HTTP2_CLIENT: &[Way] = &[Way::Http2Client, Way::Http2];
/// Ways with an HTTP/1.1 endpoint.
pub(super) const HTTP1_ENDPOINT: &[Way] = &[Way::Express, Way::General, Way::Http2Client];
/// Ways with an HTTP/2 endpoint.
pub(super) const HTTP2_ENDPOINT: &[Way] = &[Way::Http2Endpoint, Way::Http2];

impl Way {
    /// What the client speaks.
    pub(super) fn protocol(self) -> Protocol {
        if HTTP2_CLIENT.contains(&self) { Protocol::Http2 } else { Protocol::Http1 }
    }
}

/// A request, and all that is to come of it.
pub(super) struct Row {
    name: &'static str,
    request: Request,
    ways: &'static [Way],
    status: Option<u16>,
    closes: Option<bool>,
    at_endpoint: Vec<Field>,
    at_client: Vec<Field>,
    counted: Vec<Count>,
    logged: Vec<(&'static str, Value)>,
}

/// What is expected of a header field: its values joined by `; `, or that there is none; with a `~`, what its value begins
/// and ends with. On some ways only, if it says so.
type Field = (&'static str, Option<String>, &'static [Way]);

/// By how much a metric rises, summed over all series with these labels.
type Count = (&'static str, &'static [(&'static str, &'static str)], f64);

impl Row {
    pub(super) fn new(name: &'static str, request: Request) -> Self {
        let (at_endpoint, at_client) = (Vec::new(), Vec::new());
        let (counted, logged) = (Vec::new(), Vec::new());
        Self { name, request, ways: &WAYS, status: Some(200), closes: None, at_endpoint, at_client, counted, logged }
    }

    /// On these ways only.
    pub(super) fn only(self, ways: &'static [Way]) -> Self {
        Self { ways, ..self }
    }

    /// The response has this status.
    pub(super) fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The response breaks off.
    pub(super) fn breaks(self) -> Self {
        Self { status: None, ..self }
    }

    /// The response announces the end of an HTTP/1.1 client's connection, which follows. One of HTTP/2 stays.
    pub(super) fn closes(self) -> Self {
        Self { closes: Some(true), ..self }
    }

    /// The client's connection stays.
    pub(super) fn stays(self) -> Self {
        Self { closes: Some(false), ..self }
    }

    /// The endpoint gets this field.
    pub(super) fn sends(self, name: &'static str, value: &str) -> Self {
        self.sends_on(&WAYS, name, value)
    }

    /// The endpoint gets this field on these ways.
    pub(super) fn sends_on(mut self, ways: &'static [Way], name: &'static str, value: &str) -> Self {
        self.at_endpoint.push((name, Some(value.to_owned()), ways));
        self
    }

    /// The endpoint gets no field of these names.
    pub(super) fn hides(self, names: &[&'static str]) -> Self {
        self.hides_on(&WAYS, names)
    }

    /// The endpoint gets no field of these names on these ways.
    pub(super) fn hides_on(mut self, ways: &'static [Way], names: &[&'static str]) -> Self {
        self.at_endpoint.extend(names.iter().map(|name| (*name, None, ways)));
        self
    }

    /// The client gets this field.
    pub(super) fn answers(mut self, name: &'static str, value: &str) -> Self {
        self.at_client.push((name, Some(value.to_owned()), &WAYS));
        self
    }

    /// The client gets no field of these names.
    pub(super) fn drops(mut self, names: &[&'static str]) -> Self {
        self.at_client.extend(names.iter().map(|name| (*name, None, &WAYS[..])));
        self
    }

    /// The metric grows by so much.
    pub(super) fn counts(
        mut self,
        metric: &'static str,
        labels: &'static [(&'static str, &'static str)],
        more: f64,
    ) -> Self {
        self.counted.push((metric, labels, more));
        self
    }

    /// The access log has this.
    pub(super) fn logs(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.logged.push((field, value.into()));
        self
    }

    /// A local response of this cause.
    pub(super) fn local(self, status: u16, cause: &'static str) -> Self {
        self.status(status)
            .answers("weir-error", cause)
            .answers("content-type", "text/plain; charset=utf-8")
            .answers("cache-control", "no-store")
            .drops(&["x-origin", "grpc-status"])
            .logs("status", status)
            .logs("cause", cause)
    }

    /// Its version is charged with it: it is decided for it, finished with the row's status and measured.
    pub(super) fn charged(self, labels: &'static [(&'static str, &'static str)]) -> Self {
        self.counts("weir_split_decisions_total", &[("version", "v1")], 1.0)
            .counts("weir_requests_total", &[("version", "v1")], 1.0)
            .counts("weir_requests_total", labels, 1.0)
            .counts("weir_request_duration_seconds_count", &[("version", "v1")], 1.0)
            .logs("version", "v1")
    }

    /// No version is charged with it, and it is counted all the same.
    pub(super) fn unmatched(self, labels: &'static [(&'static str, &'static str)]) -> Self {
        self.counts("weir_split_decisions_total", &[], 0.0)
            .counts("weir_requests_total", &[("version", "v1")], 0.0)
            .counts("weir_requests_total", labels, 1.0)
            .logs("version", Value::Null)
    }
}

/// What rows are sent to.
#[derive(Clone, Copy, Default)]
pub(super) struct Setup {
    /// Sections of the configuration.
    pub(super) top: &'static str,
    /// Keys of the service.
    pub(super) keys: &'static str,
    pub(super) endpoints: Endpoints,
    /// Clients speak TLS.
    pub(super) tls: bool,
    /// A command that runs before.
    pub(super) command: &'static [&'static str],
}

/// What the version's endpoints are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Endpoints {
    #[default]
    Origin,
    /// The origin, which speaks TLS as `v1.test`; an authority that signed its certificate is in `{dir}/ca.crt`.
    Tls,
    /// Two that refuse connections.
    Refusing,
    /// One that does not answer at all.
    Silent,
}

/// What was started for one way.
pub(super) struct Scene {
    pub(super) weir: Weir,
    pub(super) web: Target,
    pub(super) v1: Origin,
    _refusing: [Origin; 2],
    _hole: BlackHole,
}

impl Setup {
    /// Starts an origin and Weir before it. The one worker's pools are what all rows use.
    pub(super) async fn start(self, way: Way) -> Scene {
        let authority = Authority::new("the rules");
        let v1 = match self.endpoints {
            Endpoints::Tls => Origin::plan("v1").tls(&authority.server(&["v1.test"])).start().await,
            _ => Origin::start("v1").await,
        };
        let refusing = ["a", "b"].map(|name| Origin::plan(name).down());
        let hole = BlackHole::open();
        let list = match self.endpoints {
            Endpoints::Origin | Endpoints::Tls => format!("\"{}\"", v1.address()),
            Endpoints::Refusing => format!("\"{}\", \"{}\"", refusing[0].address(), refusing[1].address()),
            Endpoints::Silent => format!("\"{}\"", hole.address()),
        };
        let yaml = shop(&[(&v1, 100.0)]).changed(&format!("\"{}\"", v1.address()), &list);
        let plan = Weir::plan(&self.configuration(&yaml, way));
        authority.write(plan.dir(), "ca");
        authority.server(&["shop.test"]).write(plan.dir(), "shop");
        authority.server(&["other.test"]).write(plan.dir(), "other");
        let weir = plan.start().await;
        let mut web = Target::from(weir.address("web").await);
        if self.tls {
            web = web.tls(&Tls::trusting(&authority, "shop.test"));
        }
        if !self.command.is_empty() {
            let output = weir.cli(self.command).await;
            assert_eq!(output.status.code(), Some(0), "{output:?}");
        }
        Scene { weir, web, v1, _refusing: refusing, _hole: hole }
    }

    /// The configuration for a way; `yaml` is that of [`shop`].
    pub(super) fn configuration(&self, yaml: &str, way: Way) -> String {
        let Self { top, keys, .. } = self;
        let protocol = if HTTP2_ENDPOINT.contains(&way) { "protocol: h2\n    " } else { "" };
        let express = way == Way::Express;
        let log = "access_log: { output: \"{dir}/access.log\" }";
        let sections = format!("{top}runtime: {{ threads: 1, express_lane: {express} }}\n{log}\nshutdown:");
        let yaml = yaml
            .changed("path: /", "host: shop.test")
            .changed("    split:", &format!("    {protocol}{keys}split:"))
            .changed("shutdown:", &sections);
        if !self.tls {
            return yaml;
        }
        let certificates =
            ["shop", "other"].map(|n| format!("{{ cert: \"{{dir}}/{n}.crt\", key: \"{{dir}}/{n}.key\" }}"));
        yaml.changed_first(
            "address: \"127.0.0.1:0\" }",
            &format!("address: \"127.0.0.1:0\", tls: {{ certificates: [ {} ] }} }}", certificates.join(", ")),
        )
    }

    /// Sends all rows on each of their ways, in their order.
    pub(super) async fn check(self, rows: fn() -> Vec<Row>) {
        self.check_on(&WAYS, rows).await;
    }

    /// The same on these ways.
    pub(super) async fn check_on(self, ways: &[Way], rows: fn() -> Vec<Row>) {
        for way in ways.iter().copied() {
            let rows: Vec<Row> = rows().into_iter().filter(|row| row.ways.contains(&way)).collect();
            let scene = self.start(way).await;
            for (at, row) in rows.iter().enumerate() {
                row.check(way, &scene, at + 1).await;
            }
            scene.weir.stop().await;
        }
    }
}

impl Row {
    /// Sends the request, which will be in this line of the access log, and looks what came of it.
    async fn check(&self, way: Way, Scene { weir, web, .. }: &Scene, line: usize) {
        let case = format!("{way:?}: {}", self.name);
        let before = weir.metrics().await;
        let mut client = Client::connect(way.protocol(), web).await;
        let response = client.try_send(&self.request).await;
        let line = lines(weir, line).await.pop().unwrap();
        let after = weir.metrics().await;
        match (self.status, response) {
            (None, response) => assert!(response.is_err(), "{case}: {response:?}"),
            (Some(status), response) => {
                let response = response.unwrap_or_else(|failure| panic!("{case}: {failure}"));
                assert_eq!(response.status, status, "{case}: {response:?}");
                self.check_response(&case, way, &response);
                if let Some(closes) = self.closes {
                    check_connection(&case, client, closes, &response).await;
                }
            }
        }
        for (metric, labels, more) in &self.counted {
            let grown = after.value(metric, labels) - before.value(metric, labels);
            assert!((grown - more).abs() < f64::EPSILON, "{case}: {metric} {labels:?} grew by {grown}");
        }
        for (field, value) in &self.logged {
            assert_eq!(&line[*field], value, "{case}: {field} in {line}");
        }
        if way != Way::Express {
            assert_eq!(line["lane"], "general", "{case}: {line}");
        }
    }

    fn check_response(&self, case: &str, way: Way, response: &Response) {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let received = response.headers.0.iter().map(|(name, value)| (name.to_lowercase(), text(value)));
        compare(case, &self.at_client, way, &received.collect::<Vec<_>>());
        if !self.at_endpoint.is_empty() {
            let seen: Value = response.json();
            let mut sent: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
            sent.iter_mut().for_each(|(name, _)| *name = name.to_lowercase());
            compare(case, &self.at_endpoint, way, &sent);
        }
    }
}

/// What became of the client's connection. It ends in good order, so that no response is taken from the client.
async fn check_connection(case: &str, client: Client, closes: bool, response: &Response) {
    match client {
        Client::Http1(mut h1) if closes => {
            assert!(response.announced_close, "{case}: the end is announced: {response:?}");
            assert_eq!(h1.ended().await, Ending::Eof, "{case}");
        }
        Client::Http1(mut h1) => {
            assert!(!response.announced_close, "{case}: the connection stays: {response:?}");
            assert!(h1.is_open().await, "{case}: the connection stays");
        }
        Client::Http2(h2) => assert!(!h2.announced_close() && h2.is_open(), "{case}: the connection stays"),
    }
}

fn compare(case: &str, expected: &[Field], way: Way, found: &[(String, String)]) {
    for (name, value, _) in expected.iter().filter(|(_, _, ways)| ways.contains(&way)) {
        let values: Vec<&str> =
            found.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
        let values = (!values.is_empty()).then(|| values.join("; "));
        match value.as_deref().and_then(|value| value.split_once('~')) {
            Some((begin, end)) => {
                let fits = values.is_some_and(|all| all.starts_with(begin) && all.ends_with(end));
                assert!(fits, "{case}: {name} in {found:?}");
            }
            None => assert_eq!(values, *value, "{case}: {name} in {found:?}"),
        }
    }
}
