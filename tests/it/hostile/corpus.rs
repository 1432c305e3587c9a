//! Http11Probe's published requests against the real binary.
//!
//! The corpus is no part of the project: `WEIR_CORPORA` names its directory, `../shared/corpora` is looked at without
//! it, and where there is none the story says so and passes.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::flood;
use super::raw::{self, Answers};
use crate::harness::Fixture as _;
use crate::harness::{H1, Origin, Target, Weir, eventually, shop};

#[derive(Deserialize)]
struct Corpus {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    scored: bool,
    expected: String,
    request_base64: String,
}

/// Requests without an end, which this origin answers before it waits for one.
const ANSWERED_BEFORE_THE_END: [&str; 3] =
    ["COMP-POST-CL-UNDERSEND", "COMP-CHUNKED-NO-FINAL", "MAL-POST-CL-HUGE-NO-BODY"];

fn corpus() -> Option<Corpus> {
    let directory = std::env::var_os("WEIR_CORPORA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"), PathBuf::from);
    let file = directory.join("http11probe.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        eprintln!("skipped: no corpus at {}", file.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).expect("a base64 digit");
        bits = bits << 6 | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}

/// Whether nothing but a refusal is right.
fn must_refuse(expected: &str) -> bool {
    !expected.contains('2') && !expected.starts_with('!')
}

/// Whether the first answer is one of those that the suite names.
fn passes(expected: &str, answers: &Answers) -> bool {
    let first = answers.statuses.first().copied();
    let any = |words: &str| {
        words.split(|c: char| !(c.is_ascii_alphanumeric() || c == '!')).any(|word| match word {
            "2xx" => first.is_some_and(|status| (200..300).contains(&status)),
            "close" => first.is_none() && answers.closed,
            "timeout" => first.is_none(),
            "!101" => first != Some(101),
            _ => word.parse().is_ok_and(|status: u16| first == Some(status)),
        })
    };
    any(expected.split("(pass)").next().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_must_be_refused_is_served() {
    let Some(corpus) = corpus() else { return };
    for express in [true, false] {
        served_by(&corpus, express).await;
    }
}

async fn served_by(corpus: &Corpus, express: bool) {
    let v1 = Origin::start("v1").await;
    let lane = format!("runtime: {{ express_lane: {express} }}\nshutdown:");
    let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("shutdown:", &lane)).await;
    let web = Target::from(weir.address("web").await);
    let (mut scored, mut passed) = (0, 0);
    let (mut served, mut desynced) = (Vec::new(), Vec::new());
    for case in &corpus.cases {
        let bytes = decode(&case.request_base64);
        let before = v1.requests();
        let mut answers = raw::exchange(&web, &bytes, Duration::from_millis(400)).await;
        let mut seen = v1.requests() - before;
        if seen > answers.statuses.len() {
            // On a busy machine an answer may only be late: once more, with all the time it could need.
            let before = v1.requests();
            answers = raw::exchange(&web, &bytes, Duration::from_secs(5)).await;
            seen = v1.requests() - before;
        }
        let accepted = answers.statuses.first().is_some_and(|status| *status < 400);
        if seen > answers.statuses.len() {
            desynced.push(&*case.id);
        }
        if must_refuse(&case.expected) && accepted {
            served.push(&*case.id);
        }
        let pass = passes(&case.expected, &answers);
        if case.scored {
            scored += 1;
            passed += u32::from(pass);
        }
        if !pass {
            eprintln!("{}: {:?} closed {}, wanted {}", case.id, answers.statuses, answers.closed, case.expected);
        }
    }
    eprintln!(
        "Http11Probe, express lane {express}: {passed} of {scored} pass; served what must be refused: {served:?}; \
         desynced: {desynced:?}"
    );
    served.retain(|id| !ANSWERED_BEFORE_THE_END.contains(id));
    assert_eq!(served, Vec::<&str>::new(), "served though it must be refused");
    assert_eq!(desynced, Vec::<&str>::new(), "the origin saw more requests than were answered");
    H1::connect(&web).await.get("/").await.expect(200);
    weir.stop().await;
}

/// What an HTTP/1 request is over HTTP/2, as far as it can be said there: all but line ends, chunks and versions.
fn over_http2(request: &[u8]) -> Option<Vec<u8>> {
    let end = memmem(request, b"\r\n\r\n")?;
    let (head, body) = (request.get(..end)?, request.get(end + 4..)?);
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let words: Vec<&[u8]> = lines.next()?.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.0" | b"HTTP/1.1"] = *words else { return None };
    let mut block = Vec::new();
    for (name, value) in [(&b":method"[..], method), (b":scheme", b"http"), (b":path", target)] {
        literal(&mut block, name, value);
    }
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        if line.starts_with(b" ") {
            return None;
        }
        literal(&mut block, &line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii_start());
    }
    let mut pieces = block.chunks(16_000).peekable();
    let mut bytes = flood::preface();
    let mut kind = flood::HEADERS;
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { flood::END_HEADERS } else { 0 };
        bytes.extend(flood::frame(kind, flags, 1, piece));
        kind = 9;
    }
    bytes.extend(flood::frame(0, flood::END_STREAM, 1, body));
    Some(bytes)
}

fn memmem(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// A field as HPACK's literal without indexing (RFC 7541 §6.2.2).
pub(super) fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.extend(crate::harness::frame::literal(name, value));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_must_be_refused_is_served_over_http2() {
    let Some(corpus) = corpus() else { return };
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    let (mut tried, mut served) = (0, Vec::new());
    for case in &corpus.cases {
        let Some(bytes) = over_http2(&decode(&case.request_base64)) else { continue };
        let before = v1.requests();
        raw::exchange(&web, &bytes, Duration::from_millis(150)).await;
        if case.id == "COMP-BASELINE" {
            eventually("a sound request is served", async || v1.requests() > before).await;
        }
        if must_refuse(&case.expected) {
            tried += 1;
            if v1.requests() > before {
                served.push(&*case.id);
            }
        }
    }
    eprintln!("{tried} cases over HTTP/2; served what must be refused: {served:?}");
    served.retain(|id| !ANSWERED_BEFORE_THE_END.contains(id));
    assert_eq!(served, Vec::<&str>::new(), "served though it must be refused");
    assert!(tried >= 40, "only {tried} cases");
    H1::connect(&web).await.get("/").await.expect(200);
    weir.stop().await;
}
