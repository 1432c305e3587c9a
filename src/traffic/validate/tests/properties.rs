//! What holds of all requests.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Head, both, matched};
use crate::traffic::HttpVersion;
use crate::traffic::validate::spelling::{Backslash, EncodedSlash, NonAscii, Paths};
use crate::traffic::validate::{Framing, Limits, refusal, validate};

fn any_version() -> impl Strategy<Value = HttpVersion> {
    select(vec![HttpVersion::Http10, HttpVersion::Http11, HttpVersion::Http2])
}

/// Bytes that mean something to validation more often than random ones do.
fn bytes(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![select(pieces).prop_map(|text| text.as_bytes().to_vec()), vec(any::<u8>(), 0..4)];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

const TARGETS: &[&str] = &[
    "/", "//", "..", ".", ";", "%", "%2e", "%2f", "%5c", "\\", "%c0", "%af", "é", "http://", "a", ":", "?", "*", "[",
    "]",
];
const VALUES: &[&str] =
    &["chunked", ",", "5", "0", "close", "upgrade", "host", "[::1]", ":80", "a.b", "100-continue", "/"];
const NAMES: &[&str] = &[
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Content_Length",
    "Connection",
    "Upgrade",
    "Expect",
    "TE",
    "X",
    "x_y",
];

fn any_paths() -> impl Strategy<Value = Paths> {
    (
        select(vec![EncodedSlash::Refuse, EncodedSlash::Keep, EncodedSlash::Decode]),
        select(vec![Backslash::Refuse, Backslash::Keep]),
        any::<bool>(),
        select(vec![NonAscii::Refuse, NonAscii::Encode, NonAscii::Keep]),
    )
        .prop_map(|(encoded_slash, backslash, merge_slashes, non_ascii)| Paths {
            encoded_slash,
            backslash,
            merge_slashes,
            non_ascii,
        })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    any_paths().prop_map(|paths| Limits { paths, ..Limits::default() })
}

/// A path of pieces that mean something.
fn odd_path() -> impl Strategy<Value = String> {
    "/(/|//|\\.|%2e|%2E|%41|%c3|%C3|%a9|%2f|%2F|%5c|%5C|\\\\|;|a|é|\\.\\.|%25|%7E|%3b|<|%3C|\\||\\^|\\{|\"|@|:|=){0,12}"
}

fn any_head() -> impl Strategy<Value = Head> {
    let name = prop_oneof![9 => select(NAMES).prop_map(|name| name.as_bytes().to_vec()), 1 => vec(any::<u8>(), 0..4)];
    let method = prop_oneof![select(vec!["GET", "OPTIONS", "POST"]).prop_map(str::to_owned), any::<String>()];
    let fields = vec((name, bytes(VALUES)), 0..5);
    (any_version(), method, bytes(TARGETS), proptest::option::of(bytes(VALUES)), fields)
        .prop_map(|(version, method, target, authority, headers)| Head { version, method, target, authority, headers })
}

/// A path in RFC 3986 normal form, without what validation refuses.
fn normal_path() -> impl Strategy<Value = Vec<String>> {
    vec("[a-z.~]{0,3}[a-z](%C3%A9)?", 1..5)
}

/// One of the spellings of `segments`, made by steps that RFC 3986 §6.2.2 undoes.
fn spell(segments: &[String], choices: &[u8]) -> String {
    let mut choices = choices.iter().copied().cycle();
    let mut choice = move || choices.next().unwrap_or(0);
    let mut out = String::new();
    for segment in segments {
        out.push_str(match choice() % 5 {
            0 => "/.",
            1 => "/x/..",
            2 => "/%2e",
            3 => "/y/%2E.",
            _ => "",
        });
        out.push('/');
        let mut triplet = 0;
        for byte in segment.bytes() {
            triplet = if byte == b'%' { 3_u8 } else { triplet.saturating_sub(1) };
            match choice() % 3 {
                0 if triplet == 0 => out.push_str(&format!("%{byte:02x}")),
                1 if triplet > 0 => out.push(char::from(byte.to_ascii_lowercase())),
                _ => out.push(char::from(byte)),
            }
        }
    }
    out
}

/// What the rules on paths say, one by one and each over the whole path: what is forwarded and what is matched.
fn naive_path(path: &str, paths: Paths) -> Option<(String, String)> {
    let replace = |text: &str, pattern: &str, with: &dyn Fn(&str) -> String| {
        let pattern = regex::Regex::new(pattern).unwrap();
        pattern.replace_all(text, |found: &regex::Captures<'_>| with(&found[0])).into_owned()
    };
    let has = |text: &str, pattern: &str| regex::Regex::new(pattern).unwrap().is_match(text);
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let mut text = path.to_owned();
    let refused = has(&text, "%([^0-9a-fA-F]|.[^0-9a-fA-F]|.?$)")
        || has(&text, "(?i)%(0.|1.|7f)")
        || has(&text, "(?i)%c[01]%[89ab]|%e0%[89]|%f0%8")
        || (paths.encoded_slash == EncodedSlash::Refuse && has(&text, "(?i)%2f"))
        || (paths.backslash == Backslash::Refuse && has(&text, r"(?i)%5c|\\"));
    if refused {
        return None;
    }
    if paths.non_ascii == NonAscii::Encode {
        text = replace(&text, r"[^\x00-\x7f]+", &encoded);
    }
    if paths.encoded_slash == EncodedSlash::Decode {
        text = replace(&text, "(?i)%2f", &|_| "/".to_owned());
    }
    text = replace(&text, "%..", &|triplet| {
        let byte = char::from(u8::from_str_radix(&triplet[1..], 16).unwrap());
        if byte.is_ascii_alphanumeric() || "-._~".contains(byte) { byte.to_string() } else { triplet.to_owned() }
    });
    let mut segments: Vec<&str> = vec![];
    let all: Vec<&str> = text.split('/').skip(1).collect();
    for (at, segment) in all.iter().enumerate() {
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    segments.pop();
                }
                if at + 1 == all.len() {
                    segments.push("");
                }
            }
            other => segments.push(other),
        }
    }
    let merged = |text: String| if paths.merge_slashes { replace(&text, "/+", &|_| "/".to_owned()) } else { text };
    let forwarded = merged(format!("/{}", segments.join("/")));
    if has(&forwarded, r"/\.\.?;") {
        return None;
    }
    let bare = replace(&forwarded, ";[^/]*", &|_| String::new());
    let upper = replace(&bare, "%..", &str::to_ascii_uppercase);
    Some((forwarded, merged(replace(&upper, "[^A-Za-z0-9._~!$&'()*+,=:@%/-]", &encoded))))
}

/// What the framing rules say, read off RFC 9112 §6 one by one.
fn naive_framing(version: HttpVersion, lengths: &[&str], codings: &[&str]) -> Option<Framing> {
    let http2 = version == HttpVersion::Http2;
    if codings.len() > 1 || lengths.len() > 1 || (!codings.is_empty() && !lengths.is_empty()) {
        return None;
    }
    if let Some(coding) = codings.first() {
        let fits = version == HttpVersion::Http11 && coding.to_lowercase() == "chunked";
        return fits.then_some(Framing::Chunked);
    }
    match lengths.first() {
        None if http2 => Some(Framing::Frames { length: None }),
        None => Some(Framing::None),
        Some(text) => {
            let length = text.parse::<u64>().ok().filter(|length| length.to_string() == **text)?;
            Some(if http2 { Framing::Frames { length: Some(length) } } else { Framing::Length(length) })
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_validation_panic_and_what_is_valid_is_well_formed(head in any_head(), limits in any_limits()) {
        match validate(&head, &limits) {
            Err(refused) => prop_assert!(refusal::ALL.contains(&refused)),
            Ok(valid) => {
                prop_assert!(valid.target == "*" || valid.target.starts_with('/'));
                prop_assert!(valid.path.starts_with('/') && valid.path.is_ascii());
                prop_assert!(!valid.path.contains([';', '\\']));
                prop_assert!(!limits.paths.merge_slashes || !valid.path.contains("//"));
                prop_assert!(!valid.path.split('/').any(|segment| segment == "." || segment == ".."));
                prop_assert!(limits.paths.non_ascii == NonAscii::Keep || valid.target.is_ascii());
                prop_assert_eq!(valid.target_changed, valid.target.as_bytes() != head.target.as_slice());
                prop_assert!(valid.host.is_empty() == (head.version == HttpVersion::Http10 && valid.authority.is_empty()));
            }
        }
    }

    #[test]
    fn what_was_forwarded_is_valid_again_and_unchanged(head in any_head(), limits in any_limits()) {
        if let Ok(valid) = validate(&head, &limits) {
            let again = Head { target: valid.target.clone().into_owned().into_bytes(), ..head.clone() };
            let second = validate(&again, &limits);
            prop_assert!(second.is_ok(), "{:?}", second);
            let second = second.unwrap();
            prop_assert!(!second.target_changed);
            prop_assert_eq!(second.path, valid.path);
        }
    }

    #[test]
    fn normalising_twice_is_normalising_once(path in odd_path(), paths in any_paths()) {
        if let Ok((forwarded, matched)) = both(&path, paths) {
            prop_assert_eq!(both(&forwarded, paths), Ok((forwarded.clone(), matched.clone())));
            // What is matched is what an endpoint sees of it that drops parameters, but for the spelling of triplets.
            if let Ok((_, again)) = both(&matched, paths) {
                prop_assert_eq!(again, matched);
            }
        }
    }

    #[test]
    fn a_path_is_what_a_naive_reading_of_the_rules_makes_of_it(path in odd_path(), paths in any_paths()) {
        prop_assert_eq!(both(&path, paths).ok(), naive_path(&path, paths));
    }

    #[test]
    fn all_spellings_of_one_normal_form_are_matched_as_one_path(
        segments in normal_path(), one in vec(any::<u8>(), 1..40), other in vec(any::<u8>(), 1..40), paths in any_paths(),
    ) {
        let expected = format!("/{}", segments.join("/"));
        prop_assert_eq!(matched(&spell(&segments, &one), paths), Ok(expected.clone()));
        prop_assert_eq!(matched(&spell(&segments, &other), paths), Ok(expected.clone()));
        // Raw or in triplets, a character beyond ASCII is one.
        let raw = spell(&segments, &one).replace("%C3%A9", "é");
        prop_assert_eq!(matched(&raw, paths), Ok(expected));
    }

    #[test]
    fn framing_agrees_with_a_naive_reading_of_the_rules(
        version in any_version(),
        lengths in vec(select(vec!["0", "5", "05", "+5", "5,5", "", "18446744073709551615", "18446744073709551616"]), 0..3),
        codings in vec(select(vec!["chunked", "Chunked", "gzip, chunked", "chunked, chunked", "xchunked", "", "identity"]), 0..3),
    ) {
        let mut head = Head { version, method: "POST".to_owned(), ..Head::get("/") };
        for coding in &codings {
            head = head.with("Transfer-Encoding", coding);
        }
        for length in &lengths {
            head = head.with("Content-Length", length);
        }
        let found = validate(&head, &Limits::default());
        prop_assert_eq!(found.as_ref().ok().map(|valid| valid.framing), naive_framing(version, &lengths, &codings));
        if let Err(refused) = found {
            prop_assert!(refused.close, "a doubtful framing must close: {refused:?}");
        }
    }
}
