use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::model::Weight;
use crate::snapshot::Mirror;
use crate::snapshot::live::EndpointRegistry;
use crate::telemetry::{Recorder, RecorderOptions};

fn copy(head: &str, body: &str, strip: &[&str]) -> MirroredRequest {
    let options = RecorderOptions { threads: 1, version: "", revision: "", started: Instant::now() };
    let series = Recorder::new(options).mirror(&"shop".into(), &"v2".into());
    let live = EndpointRegistry::default().mirror(&"shop".into(), &"v2".into(), series);
    let permit = live.try_enter(1).unwrap();
    let mirror = Mirror {
        service: "shop".into(),
        to: "v2".into(),
        to_at: 1,
        from: None,
        share: Weight::FULL,
        methods: Vec::new(),
        strip: strip.iter().map(|name| (*name).into()).collect(),
        max_body: 100,
        compare: None,
        max_in_flight: 1,
        timeout: Duration::from_secs(1),
        live,
    };
    let (head, body) = (head.replace('\n', "\r\n").into_bytes(), body.into());
    let (mirror, from, route) = (Arc::new(mirror), "v1".into(), "web".into());
    MirroredRequest { mirror, from, route, compares: false, head, body, _permit: permit }
}

fn written(copy: &MirroredRequest) -> Option<String> {
    let mut room = vec![httparse::EMPTY_HEADER; CopiedHead::most_fields(&copy.head)];
    let head = CopiedHead::of(copy, &copy.mirror.to, &mut room)?;
    Some(String::from_utf8(head.http1(&copy.body)).unwrap().replace("\r\n", "\n"))
}

#[test]
fn what_concerns_the_connection_and_credentials_end_and_the_version_is_the_mirrors() {
    let head = "PUT /a?b HTTP/1.1\nHost: shop.test\nAuthorization: x\nconnection: upgrade\nTransfer-Encoding: chunked\n\
        X-Kept: 1\nX-Kept: 2\nweir-version: v1\nweir-version-reason: weight\nvia: 1.1 weir\n\n";
    let copied = copy(head, "abc", &["authorization", "cookie"]);
    assert_eq!(
        written(&copied).unwrap(),
        "PUT /a?b HTTP/1.1\nhost: shop.test\nX-Kept: 1\nX-Kept: 2\nvia: 1.1 weir\nweir-version: v2\n\
         weir-version-reason: mirror\nweir-mirror: v1\ncontent-length: 3\n\nabc"
    );
    let untold = copy("GET / HTTP/1.1\nhost: a\nauthorization: x\ncontent-length: 0\n\n", "", &[]);
    assert_eq!(written(&untold).unwrap(), "GET / HTTP/1.1\nhost: a\nauthorization: x\nweir-mirror: v1\n\n");
    let empty = copy("POST / HTTP/1.1\nhost: a\n\n", "", &[]);
    assert_eq!(written(&empty).unwrap(), "POST / HTTP/1.1\nhost: a\nweir-mirror: v1\ncontent-length: 0\n\n");
}

#[test]
fn what_is_no_head_is_not_sent() {
    for head in ["", "GET / HTTP/1.1\nhost: a\n", "GET / HTTP/1.1\n\n", "GET\n\n"] {
        assert!(written(&copy(head, "", &[])).is_none(), "{head:?}");
    }
}
