//! The files of `src/` as text, and what of them is code: no comments, no contents of literals, no test modules.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use regex::Regex;

/// One file of `src/` that is part of the program.
pub(crate) struct Source {
    /// Its path from the repository's root.
    pub(crate) name: String,
    /// What it says.
    pub(crate) text: String,
    /// The same without comments, contents of strings, and test modules; the lines of the latter are [`CUT`].
    pub(super) code: String,
}

impl Source {
    /// The top-level module it belongs to; none for `lib.rs` and `main.rs`.
    pub(super) fn module(&self) -> Option<String> {
        let first = self.name.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
        (!matches!(first, "lib" | "main")).then(|| first.to_owned())
    }

    /// Whether a chain of `super::` reaches the crate's root. (A module inside the file may use one more.)
    pub(super) fn climbs_out(&self) -> bool {
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

/// What a line of a test module is replaced with.
pub(super) const CUT: &str = "\u{0}";

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

mod itself {
    use super::*;

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let text = concat!(
            "// crate::a\nlet s = \"crate::b \\\" // x\"; /* crate::c /* */ crate::d */ let r = r#\"crate::e\"#;\n",
            "let c = ['\\'', '\"']; fn f<'a>() {} crate::f;\n#[cfg(test)]\nmod tests {\n    crate::g;\n}\ncrate::h;\n"
        );
        let code = without_tests(&without_comments(text));
        let names: Vec<_> =
            Regex::new(r"crate::(\w)").unwrap().captures_iter(&code).map(|name| name[1].to_owned()).collect();
        assert_eq!(names, ["f", "h"]);
    }
}
