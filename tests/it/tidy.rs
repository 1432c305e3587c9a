//! The shape of the source, held by tests: layers, circles, sizes and what must not be there.
//!
//! Inside one crate the compiler accepts any import, so cycles grow unseen. These tests read the sources as text, without
//! comments, strings and test modules: [`layers`] compares what each top-level module names with the one table that
//! states the rule, [`data_plane`] does so inside `proxy`, [`circles`] looks for files that import each other, and this file
//! holds the rest.

use std::fs;

use regex::Regex;

mod circles;
mod data_plane;
mod layers;
mod source;

pub(crate) use self::layers::LAYERS;
use self::source::CUT;
pub(crate) use self::source::{Source, files, root, sources};

/// Lines of a source file without its tests. A file that needs more has two subjects.
const LINES_CAP: usize = 520;

#[test]
fn what_decides_reads_no_clock() {
    let clock = Regex::new(r"\b(Instant|SystemTime)::now\b").unwrap();
    for source in sources().iter().filter(|s| matches!(s.module().as_deref(), Some("traffic" | "model" | "drain"))) {
        assert!(!clock.is_match(&source.code), "{} reads a clock: take `now` as an argument", source.name);
    }
}

#[test]
fn nothing_is_unsafe() {
    let word = Regex::new(r"\bunsafe\b").unwrap();
    for source in sources() {
        assert!(!word.is_match(&source.code), "{} has unsafe code", source.name);
    }
}

#[test]
fn a_file_has_one_subject_and_says_which() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} does not begin with its `//!` header", source.name);
        let lines = source.code.lines().filter(|line| *line != CUT).count();
        assert!(lines <= LINES_CAP, "{} has {lines} lines, the cap is {LINES_CAP}: split it by subject", source.name);
    }
}

#[test]
fn nothing_is_left_for_later_without_saying_where() {
    let later = Regex::new(concat!(r"\b(TO", "DO|FIX", "ME|XX", r"X)\b")).unwrap();
    for folder in ["src", "tests", "benches", "conf", ".ci"] {
        for path in files(&root().join(folder)) {
            // Files that are not text (certificates, archives) have no remarks.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for (at, line) in text.lines().enumerate() {
                assert!(!later.is_match(line), "{}:{}: {line}", path.display(), at + 1);
            }
        }
    }
}
