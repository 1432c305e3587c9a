//! What the documents say is true: links lead somewhere, commands and exit codes exist, every configuration that is
//! shown is accepted, and the map of the source is the source.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use regex::Regex;

use crate::tidy::{LAYERS, Source, root, sources};

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let link = Regex::new(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)").unwrap();
    for document in documents() {
        let text = without_blocks(&fs::read_to_string(&document).unwrap());
        for found in link.captures_iter(&text) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = if target.is_empty() { document.clone() } else { document.with_file_name("").join(target) };
            assert!(path.exists(), "{}: `{target}` does not exist", document.display());
            if let Some(anchor) = found.get(2) {
                let headings = anchors(&fs::read_to_string(&path).unwrap());
                let wanted = anchor.as_str();
                assert!(headings.iter().any(|h| h == wanted), "{}: no heading #{wanted}", document.display());
            }
        }
    }
}

#[test]
fn the_commands_of_the_readme_exist() {
    let help = weir(&["--help"]);
    let mut commands = Vec::new();
    for line in blocks(&readme(), "text").iter().flat_map(|block| block.lines()) {
        if let Some(names) = line.strip_prefix("weir ").and_then(|rest| rest.split_whitespace().next()) {
            commands.extend(names.split('|').map(str::to_owned));
        }
    }
    assert!(commands.len() >= 10, "the README's list of commands was not found: {commands:?}");
    for command in commands {
        let listed = Regex::new(&format!(r"(?m)^\s*{}\b", regex::escape(&command))).unwrap();
        assert!(listed.is_match(&help), "`weir --help` does not list `{command}`:\n{help}");
    }
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_help() {
    let help = weir(&["--help"]);
    let row = Regex::new(r"(?m)^\| (\d) \|").unwrap();
    let codes: Vec<String> = row.captures_iter(&readme()).map(|found| found[1].to_owned()).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5", "6", "7"], "the README's table of exit codes");
    for code in codes {
        let named = Regex::new(&format!(r"(^|[^\d.]){code}([^\d.]|$)")).unwrap();
        assert!(named.is_match(&help), "`weir --help` does not name exit code {code}:\n{help}");
    }
}

#[test]
fn every_metric_is_in_the_readme() {
    let table = fs::read_to_string(root().join("src/telemetry/metric.rs")).unwrap();
    let readme = readme();
    let metric = Regex::new(r#" = \w+ "(weir_\w+)" \["#).unwrap();
    let names: Vec<&str> = metric.captures_iter(&table).map(|found| found.extract::<1>().1[0]).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "`{name}` is missing in the README");
    }
}

#[test]
fn every_configuration_in_the_documents_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for document in documents() {
        for block in blocks(&fs::read_to_string(&document).unwrap(), "yaml") {
            if !block.starts_with("version: 1") {
                continue;
            }
            let file = folder.path().join("weir.yaml");
            fs::write(&file, &block).unwrap();
            let result = Command::new(env!("CARGO_BIN_EXE_weir"))
                .args(["check", "--offline", "-c"])
                .arg(&file)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&result.stderr);
            assert!(result.status.success(), "{}: {said}\n{block}", document.display());
            checked += 1;
        }
    }
    assert!(checked >= 1, "the README's configuration was not found");
}

#[test]
fn the_documents_name_make_targets_that_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let target = Regex::new(r"`make (\w+)`").unwrap();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for found in target.captures_iter(&text) {
            let name = &found[1];
            let defined = makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
            assert!(defined, "{}: there is no `make {name}`", document.display());
        }
    }
}

/// The map in ARCHITECTURE.md is made of the first sentence of each folder's header. It is compared here, and written
/// when `WEIR_UPDATE_GOLDEN` is set.
#[test]
fn the_map_of_the_source_is_the_source() {
    let path = root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(MAP_BEGIN).unwrap();
    let (_, after) = rest.split_once(MAP_END).unwrap();
    let current = format!("{before}{MAP_BEGIN}\n```text\n{}```\n{MAP_END}{after}", map());
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        fs::write(&path, current).unwrap();
    } else {
        assert!(text == current, "the map is out of date: WEIR_UPDATE_GOLDEN=1 cargo test --test it docs::the_map");
    }
}

const MAP_BEGIN: &str = "<!-- map: written by tests/it/docs.rs -->";
const MAP_END: &str = "<!-- end of the map -->";

/// One line for each file at the top of `src/` and for each folder below it, with what its header says.
fn map() -> String {
    let sources = sources();
    let mut map = String::from("src/\n");
    let mut line = |path: &str, name: &str, source: &Source| {
        let indent = 2 * path.split('/').count();
        let width = 28 - indent.min(28);
        writeln!(map, "{}", format!("{:indent$}{name:width$} {}", "", first_sentence(source)).trim_end()).unwrap();
    };
    let named = |name: String| sources.iter().find(|source| source.name == name);
    for top in ["main", "lib"] {
        named(format!("src/{top}.rs")).into_iter().for_each(|source| line(top, &format!("{top}.rs"), source));
    }
    for module in LAYERS.iter().rev().flat_map(|row| row.iter()) {
        let below = format!("src/{module}/");
        let inside = sources.iter().filter_map(|source| source.name.strip_prefix("src/")?.rsplit_once('/'));
        let mut folders: BTreeSet<&str> = inside.map(|(folder, _)| folder).collect();
        folders.retain(|folder| format!("src/{folder}/").starts_with(&below));
        if let Some(source) = named(format!("src/{module}.rs")).filter(|_| folders.is_empty()) {
            line(module, &format!("{module}.rs"), source);
        }
        for folder in folders {
            let header = named(format!("src/{folder}/mod.rs")).or_else(|| named(format!("src/{folder}.rs")));
            let last = folder.rsplit('/').next().unwrap_or(folder);
            header.into_iter().for_each(|source| line(folder, &format!("{last}/"), source));
        }
    }
    map
}

/// The first sentence of a file's header, without its full stop.
fn first_sentence(source: &Source) -> String {
    let header: Vec<&str> =
        source.text.lines().map_while(|line| line.strip_prefix("//! ")).take_while(|line| !line.is_empty()).collect();
    let header = header.join(" ");
    header.split_once(". ").map_or(header.as_str(), |(first, _)| first).trim_end_matches(['.', ':']).to_owned()
}

fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    assert!(found.len() >= 5, "{found:?}");
    found
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = Regex::new(&format!("(?ms)^```{language}\n(.*?)^```$")).unwrap();
    fence.captures_iter(text).map(|block| block[1].to_owned()).collect()
}

fn without_blocks(text: &str) -> String {
    Regex::new("(?ms)^```.*?^```$").unwrap().replace_all(text, "").into_owned()
}

/// The anchors of a document's headings, as GitHub and GitLab make them.
fn anchors(text: &str) -> Vec<String> {
    let keep = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    let headings = without_blocks(text);
    let titles = headings.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    titles.map(|title| title.to_lowercase().chars().filter(keep).collect::<String>().replace(' ', "-")).collect()
}

/// What `weir` with these arguments prints.
fn weir(arguments: &[&str]) -> String {
    let result = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap();
    assert!(result.status.success(), "weir {arguments:?}: {}", String::from_utf8_lossy(&result.stderr));
    String::from_utf8(result.stdout).unwrap()
}
