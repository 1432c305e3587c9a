//! Tests of the configuration as a whole: the examples, the schema, the golden diagnostics, and what must hold
//! for any input.

mod examples;
mod golden;
mod model;
mod robust;
mod rollout;

use std::path::{Path, PathBuf};

use super::{Config, Diagnostics};

/// A place in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether golden files are to be written instead of compared.
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1")
}

/// Compares `actual` with the file `path`, or writes it there.
fn golden(path: &str, actual: &str) -> Result<(), String> {
    let file = repository(path);
    if updating() {
        std::fs::write(&file, actual).map_err(|error| format!("{path}: {error}"))?;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!("{path} differs; UPDATE_GOLDEN=1 writes it. Expected:\n{expected}\nActual:\n{actual}"))
}

fn no_variables(_: &str) -> Option<String> {
    None
}

/// The configuration that `yaml` states, read as `/etc/weir/weir.yaml` without any variable set.
fn parse(yaml: &str) -> Result<Config, Diagnostics> {
    super::parse(Path::new("/etc/weir/weir.yaml"), yaml.as_bytes(), &no_variables)
}

/// A valid file with `body` in place of its services and routes.
fn with(body: &str) -> String {
    format!("version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:8080 }}]\n{body}\n")
}
