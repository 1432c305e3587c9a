//! The layers of the crate: arrows between top-level modules go only down.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;

use super::source::{Source, root, sources};

/// The layers, top first. An arrow goes from a module to one in a lower row; modules of one row are strangers.
pub(crate) const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["admin"],
    &["proxy"],
    &["control"],
    &["rollouts"],
    &["snapshot"],
    &["config", "traffic", "tls", "telemetry", "store", "outbound"],
    &["rollout", "health"],
    &["model", "drain", "coop", "algorithm", "http_client"],
];

/// Arrows that go down and are refused all the same: `(from, to, why)`.
const NEVER: &[(&str, &str, &str)] = &[
    ("proxy", "control", "the data plane reads `Current` and writes atomics; it proposes nothing"),
    ("proxy", "config", "what the file says is compiled into the snapshot; requests read only that"),
    ("snapshot", "store", "durable facts reach a snapshot as arguments of `compile`"),
];

#[test]
fn arrows_between_modules_go_only_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(from) = source.module() else { continue };
        for to in imports(&source.code) {
            if let Some(why) = refused(&from, &to) {
                wrong.push(format!("{}: `crate::{to}`: {why}", source.name));
            }
        }
        if source.climbs_out() {
            wrong.push(format!("{}: `super::` leaves the module: say `crate::`", source.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn of_the_admin_api_the_command_line_knows_only_its_json() {
    let inside = Regex::new(r"crate::admin::(\w+)|crate::admin::\{").unwrap();
    for source in sources().iter().filter(|source| source.module().as_deref() == Some("cli")) {
        for found in inside.captures_iter(&source.code) {
            let name = found.get(1).map(|name| name.as_str());
            assert_eq!(name, Some("wire"), "{}: the command line talks to the API, not to its insides", source.name);
        }
    }
}

#[test]
fn the_program_knows_only_the_command_line() {
    let main = sources().iter().find(|source| source.name == "src/main.rs").unwrap();
    for found in Regex::new(r"\bweir::(\w+)").unwrap().captures_iter(&main.code) {
        assert_eq!(&found[1], "cli", "src/main.rs runs what the command line asks for and nothing else");
    }
}

#[test]
fn every_module_has_a_layer_and_the_drawings_show_them() {
    let known: BTreeSet<String> = LAYERS.iter().flat_map(|row| row.iter().map(|name| (*name).to_owned())).collect();
    let found: BTreeSet<String> = sources().iter().filter_map(Source::module).collect();
    assert_eq!(found, known, "src/ and the layers of tests/it/tidy/layers.rs differ");

    for file in ["src/lib.rs", "ARCHITECTURE.md"] {
        assert_eq!(drawn(&fs::read_to_string(root().join(file)).unwrap()), LAYERS, "the layers that {file} draws");
    }
}

#[test]
fn the_crate_root_re_exports_nothing() {
    let library = sources().iter().find(|source| source.name == "src/lib.rs").unwrap();
    assert!(!library.code.contains("pub use"), "a re-export in src/lib.rs hides an arrow from these tests");
}

fn refused(from: &str, to: &str) -> Option<&'static str> {
    let never = || NEVER.iter().find(|(a, b, _)| (*a, *b) == (from, to)).map(|(_, _, why)| *why);
    why_not(LAYERS, from, to).or_else(never)
}

/// Why an arrow is refused in these rows, top first; none if it goes down.
pub(super) fn why_not(rows: &[&[&str]], from: &str, to: &str) -> Option<&'static str> {
    let row = |module: &str| rows.iter().position(|row| row.contains(&module));
    match (row(from), row(to)) {
        _ if from == to => None,
        (_, None) => Some("no such module in the layers"),
        (Some(high), Some(low)) if high < low => None,
        (Some(one), Some(other)) if one == other => Some("modules of one row do not know each other"),
        _ => Some("arrows go only down"),
    }
}

/// The top-level modules that `code` names by `crate::x` or `crate::{x, y::z}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found: BTreeSet<String> =
        Regex::new(r"\bcrate::(\w+)").unwrap().captures_iter(code).map(|name| name[1].to_owned()).collect();
    for group in Regex::new(r"\bcrate::\{").unwrap().find_iter(code) {
        let (mut depth, mut name) = (0_usize, String::new());
        for letter in code[group.end()..].chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => drop(found.insert(std::mem::take(&mut name))),
                _ if depth == 0 => name.push(letter),
                _ => {}
            }
        }
        found.insert(name);
    }
    let head = |path: String| path.trim().split([':', ' ']).next().unwrap_or_default().to_owned();
    found.into_iter().map(head).filter(|name| !name.is_empty()).collect()
}

/// The rows of the layers as a text draws them: from the line of `cli` on, lines that begin with modules, with at
/// least two blanks after each name.
fn drawn(text: &str) -> Vec<Vec<&str>> {
    let known = |word: &&str| LAYERS.iter().any(|row| row.contains(word));
    text.lines()
        .map(|line| line.trim_start_matches("//!").trim())
        .map(|line| line.split("  ").map(str::trim).filter(|name| !name.is_empty()).take_while(known).collect())
        .skip_while(|row: &Vec<&str>| *row != ["cli"])
        .take_while(|row| !row.is_empty())
        .collect()
}

mod itself {
    use super::*;

    #[test]
    fn arrows_that_are_refused() {
        assert!(refused("traffic", "config").is_some(), "one row");
        assert!(refused("model", "traffic").is_some(), "up");
        assert!(refused("proxy", "control").is_some(), "down, and still refused");
        assert!(refused("proxy", "nowhere").is_some(), "unknown");
        assert!(refused("snapshot", "traffic").is_none(), "down");
        assert!(refused("admin", "admin").is_none(), "itself");
    }

    #[test]
    fn imports_are_found_in_every_spelling() {
        let code = "use crate::model::Name; use crate::{drain::{self, Kind}, tls}; fn f() { crate::store::open() }";
        let names: Vec<_> = imports(code).into_iter().collect();
        assert_eq!(names, ["drain", "model", "store", "tls"]);
    }
}
