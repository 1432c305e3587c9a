//! The published requests of Http11Probe, where the machine has them: every one that must be refused is.

use std::path::PathBuf;

use super::super::{Framing, Limits, validate};
use super::Head;
use crate::traffic::{HttpVersion, Refusal};

/// Where the corpora are: `WEIR_CORPORA`, or beside the checkout.
fn file() -> PathBuf {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpora"));
    std::env::var_os("WEIR_CORPORA").map_or_else(beside, PathBuf::from).join("http11probe.json")
}

/// What became of a case.
enum Outcome {
    /// The parser refused it, so it never reaches validation.
    Unparsed,
    Refused(Refusal),
    Valid(Framing),
}

fn run(raw: &[u8]) -> Outcome {
    let mut headers = vec![httparse::EMPTY_HEADER; 20_000];
    let mut parsed = httparse::Request::new(&mut headers);
    if !parsed.parse(raw).is_ok_and(|status| status.is_complete()) {
        return Outcome::Unparsed;
    }
    let version = if parsed.version == Some(0) { HttpVersion::Http10 } else { HttpVersion::Http11 };
    let mut head = Head::new(version, parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    for header in parsed.headers.iter() {
        head = head.with(header.name, header.value.trim_ascii());
    }
    match validate(&head, &Limits::default()) {
        Ok(valid) => Outcome::Valid(valid.framing),
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// Standard base64 with padding.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = vec![];
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|own| *own == byte)) {
        bits = (bits << 6) | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).unwrap());
        }
    }
    out
}

/// Cases whose fault is in the body, or that validation may leave to others: the chunk sizes and extensions, and
/// a body that never comes.
fn is_about_the_body(id: &str) -> bool {
    id.starts_with("SMUG-CHUNK")
        || id.starts_with("MAL-CHUNK")
        || id.starts_with("COMP-CHUNKED")
        || ["COMP-POST-CL-UNDERSEND", "MAL-POST-CL-HUGE-NO-BODY"].contains(&id)
}

#[test]
fn every_published_request_that_must_be_refused_is_refused() {
    let file = file();
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("not run: no corpus at {}", file.display());
        return;
    };
    let corpus: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (mut must, mut may, mut good, mut unparsed) = (0, 0, 0, 0);
    let mut wrong = vec![];
    for case in corpus["cases"].as_array().unwrap() {
        let (id, expected) = (case["id"].as_str().unwrap(), case["expected"].as_str().unwrap());
        let outcome = run(&base64(case["request_base64"].as_str().unwrap()));
        // `2xx`, `200`, `!101` and `426` let it pass in some way; without them it must not.
        let may_pass = ["2xx", "200", "!101"].iter().any(|pass| expected.contains(pass));
        match outcome {
            Outcome::Unparsed => unparsed += 1,
            Outcome::Refused(refusal) if !may_pass => {
                must += 1;
                let named = expected.contains(&refusal.status.to_string());
                let closed = refusal.close && expected.contains("close");
                if !named && !closed {
                    wrong.push(format!("{id}: {refusal:?}, expected {expected}"));
                }
            }
            Outcome::Refused(refusal) => {
                may += 1;
                if expected.starts_with("2xx") {
                    wrong.push(format!("{id}: {refusal:?}, expected {expected}"));
                }
            }
            Outcome::Valid(framing) if !may_pass && !is_about_the_body(id) => {
                wrong.push(format!("{id}: valid with {framing:?}, expected {expected}"));
            }
            Outcome::Valid(_) => good += 1,
        }
    }
    println!("must be refused and is: {must}; may be and is: {may}; passes: {good}; ended in the parser: {unparsed}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(must > 30, "the corpus is not what this test was written for");
}
