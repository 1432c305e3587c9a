//! The shape of the source, held by a test: layers, sizes and what must not be there.
//!
//! Inside one crate the compiler accepts any import, so cycles between modules grow unseen. These tests read
//! the sources as text, without comments, strings and test modules, and compare what each top-level module names
//! with [`LAYERS`], the one place where the rule is stated; `src/lib.rs` and ARCHITECTURE.md draw the same table
//! and are compared with it.
//!
//! Limit: re-exports would hide an arrow, so the crate root has none.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use regex::Regex;

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
    &["rollout"],
    &["model", "drain", "coop", "algorithm", "http_client"],
];

/// Arrows that go down and are refused all the same: `(from, to, why)`.
const NEVER: &[(&str, &str, &str)] = &[
    ("proxy", "control", "the data plane reads `Current` and writes atomics; it proposes nothing"),
    ("proxy", "config", "what the file says is compiled into the snapshot; requests read only that"),
    ("snapshot", "store", "durable facts reach a snapshot as arguments of `compile`"),
];

/// Lines of a source file without its tests. A file that needs more has two subjects.
const LINES_CAP: usize = 520;

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
    assert_eq!(found, known, "src/ and the layers of tests/it/tidy.rs differ");

    for file in ["src/lib.rs", "ARCHITECTURE.md"] {
        assert_eq!(drawn(&fs::read_to_string(root().join(file)).unwrap()), LAYERS, "the layers that {file} draws");
    }
}

#[test]
fn the_crate_root_re_exports_nothing() {
    let library = sources().iter().find(|source| source.name == "src/lib.rs").unwrap();
    assert!(!library.code.contains("pub use"), "a re-export in src/lib.rs hides an arrow from these tests");
}

#[test]
fn only_the_proxy_names_the_engine() {
    let engine = Regex::new(r"\bpingora\w*").unwrap();
    for source in sources().iter().filter(|source| source.module().as_deref() != Some("proxy")) {
        assert!(!engine.is_match(&source.code), "{} names pingora; only src/proxy may", source.name);
    }
}

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

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let text = concat!(
            "// crate::a\nlet s = \"crate::b \\\" // x\"; /* crate::c /* */ crate::d */ let r = r#\"crate::e\"#;\n",
            "let c = ['\\'', '\"']; fn f<'a>() {} crate::f;\n#[cfg(test)]\nmod tests {\n    crate::g;\n}\ncrate::h;\n"
        );
        let names: Vec<_> = imports(&without_tests(&without_comments(text))).into_iter().collect();
        assert_eq!(names, ["f", "h"]);
    }
}

/// One file of `src/` that is part of the program.
pub(crate) struct Source {
    /// Its path from the repository's root.
    pub(crate) name: String,
    /// What it says.
    pub(crate) text: String,
    /// The same without comments, contents of strings, and test modules; the lines of the latter are [`CUT`].
    code: String,
}

impl Source {
    /// The top-level module it belongs to; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<String> {
        let first = self.name.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
        (!matches!(first, "lib" | "main")).then(|| first.to_owned())
    }

    /// Whether a chain of `super::` reaches the crate's root. (A module inside the file may use one more.)
    fn climbs_out(&self) -> bool {
        let path = self.name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let nested = Regex::new(r"\bmod \w+ \{").unwrap().is_match(&self.code);
        let depth = path.split('/').count() + usize::from(nested);
        self.module().is_some() && self.code.contains(&"super::".repeat(depth))
    }
}

/// All files of `src/` without those that hold only tests; read once.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> Vec<Source> {
    let test_file = Regex::new(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([\w: ]+\))? )?mod (\w+);").unwrap();
    let mut sources = Vec::new();
    let mut tests = Vec::new();
    for path in files(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let code = without_comments(&text);
        let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") => path.with_file_name(""),
            _ => path.with_extension(""),
        };
        tests.extend(test_file.captures_iter(&code).map(|found| folder.join(&found[1])));
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        sources.push((path, Source { name, text, code: without_tests(&code) }));
    }
    sources.retain(|(path, _)| !tests.iter().any(|test| path.starts_with(test) || path.with_extension("") == *test));
    assert!(sources.len() > 10, "the sources are not where this test looks for them");
    sources.into_iter().map(|(_, source)| source).collect()
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder`, in order; none if there is no such folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn refused(from: &str, to: &str) -> Option<String> {
    let row = |module: &str| LAYERS.iter().position(|row| row.contains(&module));
    if from == to {
        return None;
    }
    match (row(from), row(to)) {
        (_, None) => Some("no such module in the layers".to_owned()),
        (Some(high), Some(low)) if high < low => {
            NEVER.iter().find(|(a, b, _)| (*a, *b) == (from, to)).map(|(_, _, why)| (*why).to_owned())
        }
        (Some(one), Some(other)) if one == other => Some("modules of one row do not know each other".to_owned()),
        _ => Some("arrows go only down".to_owned()),
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

/// What a line of a test module is replaced with.
const CUT: &str = "\u{0}";

/// `code` with the contents of `#[cfg(test)] mod … { … }` cut out.
fn without_tests(code: &str) -> String {
    let head = Regex::new(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([\w: ]+\))? )?mod \w+ \{").unwrap();
    let mut left = code.to_owned();
    while let Some(found) = head.find(&left).map(|found| found.range()) {
        let cut = found.start..block_end(&left, found.end);
        let lines = left[cut.clone()].lines().count();
        left.replace_range(cut, &[CUT].repeat(lines).join("\n"));
    }
    left
}

/// Where the block whose brace opened just before `from` ends.
fn block_end(code: &str, from: usize) -> usize {
    let mut depth = 1_usize;
    for (at, letter) in code[from..].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return from + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// `text` with comments and the contents of literals blanked, line breaks kept.
fn without_comments(text: &str) -> String {
    let token =
        Regex::new(r#"(?s)//[^\n]*|/\*|b?r(?<hashes>#*)"|b?"(?:[^"\\]|\\.)*"|b?'(?:\\.[^']*|[^'\\])'"#).unwrap();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = token.captures_at(text, at) {
        let whole = found.get(0).map(|all| all.range()).unwrap();
        let end = match &text[whole.clone()] {
            "/*" => whole.end + block_comment(&text[whole.end..]),
            _ => match found.name("hashes") {
                Some(hashes) => raw_end(text, whole.clone(), hashes.as_str()),
                None => whole.end,
            },
        };
        code.push_str(&text[at..whole.start]);
        code.extend(text[whole.start..end].chars().filter(|letter| *letter == '\n'));
        at = end;
    }
    code.push_str(&text[at..]);
    code
}

/// Bytes until a block comment, nested ones included, is closed.
fn block_comment(text: &str) -> usize {
    let mut depth = 1_usize;
    for mark in Regex::new(r"/\*|\*/").unwrap().find_iter(text) {
        depth = if mark.as_str() == "/*" { depth + 1 } else { depth - 1 };
        if depth == 0 {
            return mark.end();
        }
    }
    text.len()
}

/// Where the raw string that `opening` begins is closed.
fn raw_end(text: &str, opening: Range<usize>, hashes: &str) -> usize {
    let closing = format!("\"{hashes}");
    text[opening.end..].find(&closing).map_or(text.len(), |at| opening.end + at + closing.len())
}
