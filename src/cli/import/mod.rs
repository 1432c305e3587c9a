//! `weir import`: another program's configuration as Weir's, on stdout, with a comment wherever the two differ.
//!
//! ```text
//! files ─► documents ─► resources ─► flagger/ or argo/ ─► page ─► read back by Weir ─► stdout
//! ```
//!
//! Invariant: what is printed passes `weir check --offline`; the result is read back before it is shown.
//! Invariant: what the imported files say is carried over or named in a comment, never dropped silently.

mod argo;
mod field;
mod flagger;
mod judged;
mod page;
mod resource;
mod site;
mod words;

use std::io::Read;
use std::path::Path;

use self::field::Wrong;
use self::page::Page;
use super::arguments::ImportArguments;
use super::failure::{Exit, Failure};
use super::print;
use crate::config::{self, Diagnostic, Environment, ImportedValue};

/// What an importer is: it makes a page of the documents of the files.
type Convert = for<'f> fn(&'f [ImportedValue]) -> Result<Page<'f>, Wrong>;

/// `weir import flagger`.
pub(super) fn flagger(arguments: &ImportArguments) -> Result<(), Failure> {
    run(arguments, flagger::convert)
}

/// `weir import argo`.
pub(super) fn argo(arguments: &ImportArguments) -> Result<(), Failure> {
    run(arguments, argo::convert)
}

fn run(arguments: &ImportArguments, convert: Convert) -> Result<(), Failure> {
    let mut documents = Vec::new();
    let mut left = config::MAX_FILE;
    for file in &arguments.files {
        let name = if is_stdin(file) { "stdin".to_owned() } else { file.display().to_string() };
        let content = read(file)?;
        // All of them together may be no more than one may.
        left = left.checked_sub(content.len() as u64).ok_or_else(too_much)?;
        documents.extend(config::import_documents(&name, &content).map_err(|wrong| invalid(&wrong))?);
    }
    let yaml = import(&documents, convert)?;
    print(&yaml)
}

/// The configuration that the documents become, which Weir takes.
fn import(documents: &[ImportedValue], convert: Convert) -> Result<String, Failure> {
    let page = convert(documents).map_err(|wrong| Failure::new(Exit::CONFIGURATION, said(&wrong)))?;
    verify(&page)?;
    Ok(page.text().to_owned())
}

fn said(wrong: &Wrong) -> String {
    let Wrong { file, line, what } = wrong;
    if file.is_empty() { what.clone() } else { format!("{file}:{line}: {what}") }
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn too_much() -> Failure {
    Failure::new(Exit::FAILURE, "the files together are more than a configuration file may have")
}

/// The content of the file; `-` is stdin.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    if !is_stdin(file) {
        if matches!(file.try_exists(), Ok(false)) {
            let missing = Failure::new(Exit::CONFIGURATION, format!("{}: there is no such file", file.display()));
            return Err(missing.help("give the paths of the YAML files, or `-` for stdin"));
        }
        return config::read_file(file).map_err(|wrong| invalid(&wrong));
    }
    let mut content = Vec::new();
    // One byte more than is allowed, so that the reader of the content sees that it is too much.
    let taken = std::io::stdin().take(config::MAX_FILE + 1).read_to_end(&mut content);
    taken.map_err(|error| Failure::new(Exit::FAILURE, format!("stdin: {error}")))?;
    if content.len() as u64 > config::MAX_FILE {
        return Err(Failure::new(Exit::FAILURE, "stdin: more than a configuration file may have"));
    }
    Ok(content)
}

fn invalid(diagnostics: &config::Diagnostics) -> Failure {
    Failure::new(Exit::CONFIGURATION, diagnostics.to_string())
}

/// Reads what was made back, as `weir check --offline` does. A fault is told with the line that it comes from.
fn verify(page: &Page<'_>) -> Result<(), Failure> {
    let unset = |_: &str| None::<String>;
    let environment: &dyn Environment = &unset;
    config::parse(Path::new("weir.yaml"), page.text().as_bytes(), environment).map(drop).map_err(|faults| {
        let told: Vec<String> = faults.iter().take(MAX_TOLD).map(|fault| told(fault, page)).collect();
        let rest = faults.total().saturating_sub(told.len());
        let more = if rest > 0 { format!("\nand {rest} more") } else { String::new() };
        Failure::new(Exit::CONFIGURATION, format!("{}{more}", told.join("\n")))
            .help("Weir cannot take these values as they are: change them in the file that is imported")
    })
}

/// How many faults are told.
const MAX_TOLD: usize = 20;

/// A fault of what was made, with the place of the imported file that it comes from.
fn told(fault: &Diagnostic, page: &Page<'_>) -> String {
    let origin = page.origin(fault.line);
    let place = origin.map(|value| format!("{}:{}: ", value.file(), value.line)).unwrap_or_default();
    let notes = [("found", &fault.found), ("expected", &fault.expected), ("help", &fault.help)];
    let notes = notes.iter().filter_map(|(word, note)| Some(format!("; {word}: {}", note.as_deref()?)));
    format!("{place}{} (as `{}` of Weir){}", fault.message, fault.path, notes.collect::<String>())
}

#[cfg(test)]
mod tests;
