//! The files of tests/data/import, as people write them for Flagger and Argo Rollouts: what each becomes, and that nothing
//! that they say is dropped silently.

use std::path::{Path, PathBuf};

use super::*;
use crate::config::import_documents;

/// The importers, with the directories of their files.
const IMPORTERS: [(&str, Convert); 2] = [("flagger", flagger::convert), ("argo", argo::convert)];

fn directory(importer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(importer)
}

/// Whether golden files are to be written instead of compared.
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1")
}

/// The files that an importer is tried with: each with its name and its documents.
fn inputs(importer: &str) -> Vec<(String, Vec<ImportedValue>)> {
    let names = std::fs::read_dir(directory(importer)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".yaml") && !name.ends_with(".weir.yaml"));
    names.sort();
    let documents = |name: &str| {
        let content = std::fs::read(directory(importer).join(name)).unwrap();
        import_documents(name, &content).unwrap_or_else(|faults| panic!("{faults}"))
    };
    names.into_iter().map(|name| (name.clone(), documents(&name))).collect()
}

#[test]
fn each_file_becomes_what_is_written_beside_it() {
    let mut differs = Vec::new();
    let mut files = 0;
    for (importer, convert) in IMPORTERS {
        for (name, documents) in inputs(importer) {
            files += 1;
            let (end, actual) = match import(&documents, convert) {
                Ok(yaml) => (".weir.yaml", yaml),
                Err(failure) => (".refused.txt", plain(&failure)),
            };
            let golden = directory(importer).join(name.replace(".yaml", end));
            if updating() {
                std::fs::write(&golden, &actual).unwrap();
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            if expected != actual {
                differs.push(format!("{}: UPDATE_GOLDEN=1 writes it. Actual:\n{actual}", golden.display()));
            }
        }
    }
    assert!(differs.is_empty(), "{}", differs.join("\n"));
    assert!(files >= 40, "{files}");
    assert!(!updating() || std::env::var_os("CI").is_none(), "golden files are not written by the checks");
}

/// What a person reads, without its colours.
fn plain(failure: &Failure) -> String {
    let colour = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    format!("{}\n", colour.replace_all(&failure.to_string(), "").trim_end())
}

/// A single value of a file, with the values that it stands in, from the document on.
struct Leaf<'f> {
    way: Vec<&'f ImportedValue>,
    text: &'f str,
}

impl Leaf<'_> {
    /// Whether a comment of the page names it, or something that it stands in.
    fn is_named(&self, comments: &str) -> bool {
        let named = |value: &&ImportedValue| {
            let place = format!("({}:{})", value.file(), value.line);
            let path = value.path();
            let whole = comments
                .split("Left out: ")
                .skip(1)
                .any(|rest| rest.find(&place).is_some_and(|at| rest.find('(') == Some(at)));
            (!path.is_empty() && comments.contains(&format!("`{path}` {place}"))) || (self.is_resource(value) && whole)
        };
        self.way.iter().any(named)
    }

    fn is_resource(&self, value: &ImportedValue) -> bool {
        value.path().is_empty() || value.path().starts_with("items[") && !value.path().contains('.')
    }
}

fn leaves<'f>(value: &'f ImportedValue, way: &[&'f ImportedValue], found: &mut Vec<Leaf<'f>>) {
    let way = [way, &[value]].concat();
    if let Some(text) = value.text() {
        found.push(Leaf { way, text });
        return;
    }
    value.items().unwrap_or_default().iter().for_each(|item| leaves(item, &way, found));
    value.entries().iter().for_each(|(_, value)| leaves(value, &way, found));
}

/// Another value of the same kind, which is as valid: with its last digit changed, where it has one.
fn another(text: &str) -> String {
    match text {
        "true" => return "false".to_owned(),
        "false" => return "true".to_owned(),
        "100" => return "99".to_owned(),
        _ => {}
    }
    let Some(at) = text.rfind(|c: char| c.is_ascii_digit()) else { return format!("{text}x") };
    let digit = if text[at..].starts_with('9') { '8' } else { (text.as_bytes()[at] + 1) as char };
    format!("{}{digit}{}", &text[..at], &text[at + 1..])
}

/// What a page says, without its line breaks in comments.
fn comments(page: &str) -> String {
    let lines = page.lines().filter_map(|line| line.trim_start().strip_prefix("# "));
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_value_changes_the_result_or_is_named_in_it() {
    let mut silent = Vec::new();
    for (importer, convert) in IMPORTERS {
        for (name, documents) in inputs(importer) {
            let copy = |alter: &mut dyn FnMut(&ImportedValue, &str) -> Option<String>| -> Vec<ImportedValue> {
                documents.iter().map(|document| document.altered(alter)).collect()
            };
            let untouched = copy(&mut |_, _| None);
            let Ok(page) = convert(&untouched) else { continue };
            let comments = comments(page.text());
            let mut found = Vec::new();
            documents.iter().for_each(|document| leaves(document, &[], &mut found));
            for (position, leaf) in found.iter().enumerate() {
                let mut at = 0;
                let changed = copy(&mut |_, text| {
                    at += 1;
                    (at - 1 == position).then(|| another(text))
                });
                // A declaration of an argument, which says nothing that its use does not.
                let path = leaf.way.last().unwrap().path();
                if path.starts_with("spec.args[") && path.ends_with(".name") {
                    continue;
                }
                let same = convert(&changed).is_ok_and(|other| other.text() == page.text());
                if same && !leaf.is_named(&comments) {
                    let value = leaf.way.last().unwrap();
                    silent.push(format!("{importer}/{name}:{}: {} is {:?}", value.line, value.path(), leaf.text));
                }
            }
        }
    }
    assert!(silent.is_empty(), "dropped silently:\n{}", silent.join("\n"));
}

#[test]
fn a_file_that_is_missing_is_named_as_an_argument_of_this_command() {
    let missing = read(Path::new("/nonexistent/flagger.yaml")).unwrap_err();
    assert_eq!(missing.exit, Exit::CONFIGURATION);
    let said = missing.to_string();
    assert!(said.contains("/nonexistent/flagger.yaml: there is no such file"), "{said}");
    assert!(said.contains("`-` for stdin") && !said.contains("-c FILE"), "{said}");
}

#[test]
fn what_weir_does_not_take_is_told_with_the_line_that_it_comes_from() {
    let yaml = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: { name: shop }\nspec:\n  service:\n    port: 80\n    \
                hosts:\n      - 'a b'\n  analysis:\n    stepWeight: 10\n    webhooks:\n      - url: gopher://a\n";
    let documents = import_documents("canary.yaml", yaml.as_bytes()).unwrap();
    let said = import(&documents, flagger::convert).unwrap_err().to_string();
    for expected in ["canary.yaml:8: wrong value for `host", "canary.yaml:12: wrong value for `url`"] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}
