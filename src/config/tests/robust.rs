//! What must hold for any input: an answer, never a panic.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{no_variables, parse, repository, with};
use crate::config::{Snippet, load, parse as parse_bytes, read_file};

fn examples() -> Vec<String> {
    let names = ["quickstart", "edge", "sidecar", "canary", "rollout"];
    names.map(|name| std::fs::read_to_string(repository(&format!("conf/{name}.yaml"))).unwrap()).into()
}

/// Loads and shows whatever comes out.
fn exercise(content: &[u8]) {
    let set = |name: &str| (!name.is_empty()).then(|| format!("{name}\n: [{{"));
    match parse_bytes("weir.yaml".as_ref(), content, &set) {
        Ok(config) => assert_eq!(config.hash().len(), 16),
        Err(diagnostics) => {
            assert!(diagnostics.total() > 0);
            let text = diagnostics.to_string();
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
            assert_eq!(diagnostics.to_json().len(), diagnostics.iter().len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer(content in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise(&content);
    }

    #[test]
    fn any_text_of_yaml_characters_gets_an_answer(content in "[-:{}\\[\\],&*!|>'\"%@#$?~ \n\ta-c0-9é\u{202e}]{0,200}") {
        exercise(content.as_bytes());
    }

    #[test]
    fn a_damaged_example_gets_an_answer(
        which in 0..5_usize,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..8),
    ) {
        let mut content = examples()[which].clone().into_bytes();
        for (at, edit, byte) in edits {
            if content.is_empty() {
                break;
            }
            let at = at.index(content.len());
            match edit {
                0 => content[at] = byte,
                1 => drop(content.remove(at)),
                2 => content.insert(at, b"{}[]:,&*-\"'$\n #"[usize::from(byte) % 15]),
                _ => content.truncate(at + 1),
            }
        }
        exercise(&content);
    }

    #[test]
    fn the_mark_of_a_snippet_is_inside_its_text(line in "\\PC{0,300}", column in 0..400_u32, width in any::<u32>()) {
        let snippet = Snippet::of(&line, column, width);
        let length = u32::try_from(snippet.text.chars().count()).unwrap();
        prop_assert!(length <= 120 && snippet.width >= 1);
        prop_assert!(snippet.start + snippet.width <= length.max(snippet.start + 1));
    }
}

#[test]
fn aliases_cannot_make_a_small_file_large() {
    let mut bomb = String::from("version: 1\nlisteners:\n  - &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(bomb, "  - &a{level} [{items}]").unwrap();
    }
    let diagnostics = parse(&bomb).unwrap_err();
    assert!(diagnostics.to_string().contains("aliases included"), "{diagnostics}");
}

#[test]
fn nesting_is_bounded() {
    for bomb in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "a:\n".repeat(3)] {
        assert!(parse(&bomb).is_err());
    }
    let mut deep = String::from("a0: &a0 [x]\n");
    for level in 1..40 {
        writeln!(deep, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    assert!(parse(&deep).unwrap_err().to_string().contains("deeper than"));
}

#[test]
fn an_alias_repeats_a_value() {
    let config = parse(&with(
        "services:\n  a: { versions: { v1: { endpoints: &e ['10.0.0.1:80'] }, v2: { endpoints: *e } }, split: { v1: 50, v2: 50 } }",
    ));
    let config = config.unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    let versions = &config.services.get("a").unwrap().versions;
    assert_eq!(versions.get("v1").unwrap().endpoints, versions.get("v2").unwrap().endpoints);
}

#[test]
fn a_variable_cannot_add_structure() {
    let hostile = |_: &str| Some("10.0.0.1:80\"]}, v2: {endpoints: [\"10.0.0.2:80".to_owned());
    let yaml = with("services: { a: { versions: { v1: { endpoints: [\"${E}\"] } } } }");
    let diagnostics = parse_bytes("weir.yaml".as_ref(), yaml.as_bytes(), &hostile).unwrap_err();
    let text = diagnostics.to_string();
    assert!(text.contains("found: `${E}`, after substitution") && !text.contains("10.0.0.2"), "{text}");
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
    let yaml = "\u{feff}version: 1\r\nlisteners:\r\n  - { name: web, address: nowhere }\r\n";
    let diagnostics = parse(yaml).unwrap_err();
    let [fault] = diagnostics.iter().as_slice() else { panic!("{diagnostics}") };
    assert_eq!((fault.line, fault.column), (3, 27));
    assert_eq!(fault.snippet.as_ref().map(|snippet| &*snippet.text), Some("  - { name: web, address: nowhere }"));
}

#[test]
fn a_place_in_a_file_with_thousands_of_faults_is_still_bounded() {
    let mut body = String::from("routes:\n");
    for _ in 0..5_000 {
        body.push_str("  - { service: nowhere }\n");
    }
    let diagnostics = parse(&with(&body)).unwrap_err();
    assert_eq!(diagnostics.iter().len(), crate::config::syntax::diagnostic::MAX_DIAGNOSTICS);
    assert!(diagnostics.total() >= 5_000, "{}", diagnostics.total());
    assert!(diagnostics.to_string().contains("more are not shown"));
}

#[test]
fn what_is_not_a_regular_file_is_refused_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for (path, expected) in [
        (pipe.as_path(), "a pipe, a socket or a device"),
        (directory.path(), "a directory"),
        ("/dev/zero".as_ref(), "a pipe, a socket or a device"),
        ("/nonexistent/weir.yaml".as_ref(), "cannot be read"),
    ] {
        let text = load(path, &no_variables).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.yaml");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(crate::config::MAX_FILE + 1).unwrap();
    assert!(read_file(&path).unwrap_err().to_string().contains("larger than 64 MiB"));
}
