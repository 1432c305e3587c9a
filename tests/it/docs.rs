//! What the documents say is true: links lead somewhere, commands and exit codes exist, every configuration that is
//! shown is accepted, the pages of the reference have what the program has, and the map of the source is the source.

mod reference;

use std::collections::{BTreeMap, BTreeSet};
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
fn the_list_of_commands_is_that_of_the_help() {
    let help = weir(&["--help"]);
    let mut commands = Vec::new();
    for line in blocks(&page("commands"), "text").iter().flat_map(|block| block.lines()) {
        if let Some(names) = line.strip_prefix("weir ").and_then(|rest| rest.split_whitespace().next()) {
            commands.extend(names.split('|').map(str::to_owned));
        }
    }
    assert!(commands.len() >= 10, "the list of commands was not found: {commands:?}");
    for command in commands {
        let listed = Regex::new(&format!(r"(?m)^\s*{}\b", regex::escape(&command))).unwrap();
        assert!(listed.is_match(&help), "`weir --help` does not list `{command}`:\n{help}");
    }
}

/// Each command has a heading in docs/commands.md, with all of its options below it, by name or as one of the common
/// options, and no others.
#[test]
fn every_command_and_option_is_documented_and_exists() {
    let page = page("commands");
    let named = Regex::new(r"`(--[a-z-]+)").unwrap();
    let (before, _) = page.split_once("## Serving").unwrap();
    let common: BTreeSet<String> = named.captures_iter(before).map(|found| found[1].to_owned()).collect();
    let mut sections = BTreeMap::new();
    for part in page.split("\n### ").skip(1) {
        let (heading, text) = part.split_once('\n').unwrap();
        let text = text.split("\n## ").next().unwrap();
        let documented: BTreeSet<String> = named.captures_iter(text).map(|found| found[1].to_owned()).collect();
        sections.insert(heading.trim_matches('`').to_owned(), documented);
    }
    let commands = commands(&[]);
    let known: BTreeSet<&String> = commands.keys().collect();
    assert_eq!(known, sections.keys().collect::<BTreeSet<_>>(), "commands, and headings of docs/commands.md");
    for (command, options) in &commands {
        let documented = sections.get(command).unwrap();
        let missing: Vec<_> = options.difference(documented).filter(|option| !common.contains(*option)).collect();
        assert!(missing.is_empty(), "`{command}` lacks {missing:?} in docs/commands.md");
        let unknown: Vec<_> = documented.difference(options).collect();
        assert!(unknown.is_empty(), "`{command}` has no {unknown:?}");
    }
    let existing: BTreeSet<&String> = commands.values().flatten().collect();
    let extra = [String::from("--help"), String::from("--version")];
    let unknown: Vec<_> =
        common.iter().filter(|option| !existing.contains(option) && !extra.contains(option)).collect();
    assert!(unknown.is_empty(), "no command has {unknown:?}");
}

/// The commands that do something, each with its options but `--help`.
fn commands(above: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let help = weir(&[above, &["--help"]].concat());
    let listed = Regex::new(r"(?m)^  ([a-z]+)  ").unwrap();
    let option = Regex::new(r"(?m)^ {2,6}(?:-[a-zA-Z], )? *(--[a-z-]+)").unwrap();
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        let options = option.captures_iter(&help).map(|found| found[1].to_owned());
        let options = options.filter(|option| option != "--help").collect();
        return BTreeMap::from([(format!("weir {}", above.join(" ")), options)]);
    };
    let list = list.split("\n\n").next().unwrap();
    listed.captures_iter(list).flat_map(|found| commands(&[above, &[found.extract::<1>().1[0]]].concat())).collect()
}

#[test]
fn the_documented_exit_codes_are_those_of_the_help() {
    let help = weir(&["--help"]);
    let row = Regex::new(r"(?m)^\| (\d) \|").unwrap();
    let codes: Vec<String> = row.captures_iter(&page("commands")).map(|found| found[1].to_owned()).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5", "6", "7", "8"], "the table of exit codes");
    for code in codes {
        let named = Regex::new(&format!(r"(^|[^\d.]){code}([^\d.]|$)")).unwrap();
        assert!(named.is_match(&help), "`weir --help` does not name exit code {code}:\n{help}");
    }
}

/// The rows of docs/metrics.md are the table of the source: name, kind and labels.
#[test]
fn every_metric_is_documented_with_its_kind_and_labels() {
    let table = fs::read_to_string(root().join("src/telemetry/metric.rs")).unwrap();
    let metric = Regex::new(r#" = (\w+) "(weir_\w+)" \[(.*?)\]"#).unwrap();
    let source: BTreeSet<String> = metric
        .captures_iter(&table)
        .map(|found| format!("{} {} [{}]", &found[2], found[1].to_lowercase(), found[3].replace('"', "")))
        .collect();
    assert!(source.len() > 30, "{source:?}");
    let row = Regex::new(r"(?m)^\| `(\w+)` \| (\w+) \| ([^|]*) \|").unwrap();
    let documented: BTreeSet<String> = row
        .captures_iter(&page("metrics"))
        .map(|found| format!("{} {} [{}]", &found[1], &found[2], if &found[3] == "–" { "" } else { &found[3] }))
        .collect();
    assert_eq!(source, documented, "src/telemetry/metric.rs, and docs/metrics.md");
}

/// The table of the access log in docs/configuration.md has the fields of a line in their order, and says of none that
/// it is left out which never is.
#[test]
fn every_field_of_the_access_log_is_documented() {
    let text = fs::read_to_string(root().join("src/telemetry/access_log/line.rs")).unwrap();
    let (_, rest) = text.split_once("\npub(crate) struct Line<'a> {\n").unwrap();
    let (line, _) = rest.split_once("\n}\n").unwrap();
    let field = Regex::new(r"(?m)(?:^ +#\[serde\((.*)\)\]\n)?^ +pub\(crate\) (\w+): ").unwrap();
    let renamed = Regex::new(r#"rename = "(\w+)""#).unwrap();
    let mut source = Vec::new();
    for found in field.captures_iter(line) {
        let attributes = found.get(1).map_or("", |attributes| attributes.as_str());
        let name = renamed.captures(attributes).map_or(&found[2], |renamed| renamed.extract::<1>().1[0]);
        source.push((name.to_owned(), attributes.contains("skip_serializing_if")));
    }
    let page = page("configuration");
    let (_, rest) = page.split_once("\n## Access log\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let row = Regex::new(r"(?m)^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$").unwrap();
    let rows: Vec<(String, bool)> =
        row.captures_iter(section).map(|found| (found[1].to_owned(), &found[2] != "never")).collect();
    let names = |fields: &[(String, bool)]| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&source), names(&rows), "src/telemetry/access_log/line.rs, and docs/configuration.md");
    for ((name, may_be_absent), (_, is_left_out)) in source.iter().zip(&rows) {
        assert!(*may_be_absent || !is_left_out, "`{name}` is in every line");
    }
}

/// The headings of docs/api.md are the routes of the control API and of the telemetry listener, each with its method.
#[test]
fn every_route_of_the_api_is_documented_and_exists() {
    let route = Regex::new(r#"\.route\("([^"]+)", ([^\n]+)"#).unwrap();
    let method = Regex::new(r"\b(get|put|post|delete|patch)\(").unwrap();
    let mut served = BTreeSet::new();
    for source in sources().iter().filter(|source| source.name.starts_with("src/admin/")) {
        let text = source.text.split("#[cfg(test)]").next().unwrap();
        for found in route.captures_iter(text).filter(|_| !source.name.ends_with("tests.rs")) {
            let methods = method.captures_iter(&found[2]).map(|method| method[1].to_uppercase());
            served.extend(methods.map(|method| format!("{method} {}", &found[1])));
        }
    }
    assert!(served.len() >= 15, "{served:?}");
    let heading = Regex::new(r"(?m)^### `([A-Z]+ /[^`]*)`$").unwrap();
    let documented: BTreeSet<String> = heading.captures_iter(&page("api")).map(|found| found[1].to_owned()).collect();
    assert_eq!(served, documented, "the routers of src/admin, and docs/api.md");
}

/// The reference in docs/configuration.md is made of the schema: every section, every field with its type and default.
#[test]
fn the_reference_of_the_configuration_is_the_schema() {
    let current = |text: &str| {
        let (before, rest) = text.split_once(REFERENCE_BEGIN).unwrap();
        let (_, after) = rest.split_once(REFERENCE_END).unwrap();
        format!("{before}{REFERENCE_BEGIN}\n{}\n{REFERENCE_END}{after}", reference::of(&schema()))
    };
    compare_or_write("docs/configuration.md", current);
}

const REFERENCE_BEGIN: &str = "<!-- reference: written by tests/it/docs.rs -->";
const REFERENCE_END: &str = "<!-- end of the reference -->";

fn schema() -> serde_json::Value {
    serde_json::from_str(&weir(&["schema"])).unwrap()
}

/// Compares a document with what it should be, or writes that when `WEIR_UPDATE_GOLDEN` is set.
fn compare_or_write(name: &str, current: impl Fn(&str) -> String) {
    let path = root().join(name);
    let text = fs::read_to_string(&path).unwrap();
    let current = current(&text);
    if std::env::var_os("WEIR_UPDATE_GOLDEN").is_some() {
        fs::write(&path, current).unwrap();
    } else {
        assert!(text == current, "{name} is out of date: WEIR_UPDATE_GOLDEN=1 cargo test --test it docs::");
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
    assert!(checked >= 3, "the configurations of README and docs were not found");
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
    compare_or_write("ARCHITECTURE.md", |text| {
        let (before, rest) = text.split_once(MAP_BEGIN).unwrap();
        let (_, after) = rest.split_once(MAP_END).unwrap();
        format!("{before}{MAP_BEGIN}\n```text\n{}```\n{MAP_END}{after}", map())
    });
}

/// Whoever wants to change something is sent to files and folders that are there.
#[test]
fn the_table_of_changes_names_places_that_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, table) = text.split_once("\n## I want to change …\n").unwrap();
    let place = Regex::new(r"`([a-z0-9_./]+)(?:\{([a-z0-9_,]+)\})?`").unwrap();
    let named: Vec<String> = place
        .captures_iter(table)
        .flat_map(|found| {
            let ends = found.get(2).map_or("", |ends| ends.as_str()).split(',');
            ends.map(|end| format!("{}{end}", &found[1])).collect::<Vec<_>>()
        })
        .collect();
    assert!(named.len() > 40, "{named:?}");
    for place in named {
        let at = |base: &str, end: &str| root().join(base).join(format!("{place}{end}"));
        let exists = [at("src", ""), at("src", ".rs"), at("", "")].iter().any(|path| path.exists());
        assert!(exists, "there is no {place}");
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

/// A page of the reference.
fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name).with_extension("md")).unwrap()
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let result = command.args(arguments).env_remove("WEIR_ADMIN").output().unwrap();
    assert!(result.status.success(), "weir {arguments:?}: {}", String::from_utf8_lossy(&result.stderr));
    String::from_utf8(result.stdout).unwrap()
}
