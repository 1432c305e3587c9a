//! Http11Probe's published requests against the real binary.
//!
//! The corpus is no part of the project: `WEIR_CORPORA` names its directory, `../shared/corpora` is looked at without
//! it, and where there is none the story says so and passes.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::raw::{self, Answers};
use crate::harness::{H1, Origin, Target, Weir, shop};

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

/// Cases that no layer of Weir's own sees: the engine's parser takes chunk extensions off and frames the body anew, so
/// no byte of them reaches an origin.
const EATEN_BY_THE_ENGINE: [&str; 2] = ["SMUG-CHUNK-BARE-SEMICOLON", "SMUG-CHUNK-EXT-CTRL"];

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
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
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
        "Http11Probe: {passed} of {scored} pass; served what must be refused: {served:?}; desynced: {desynced:?}"
    );
    served.retain(|id| !EATEN_BY_THE_ENGINE.contains(id) && !ANSWERED_BEFORE_THE_END.contains(id));
    assert_eq!(served, Vec::<&str>::new(), "served though it must be refused");
    assert_eq!(desynced, Vec::<&str>::new(), "the origin saw more requests than were answered");
    H1::connect(&web).await.get("/").await.expect(200);
    weir.stop().await;
}
