//! The figures that are kept, `benches/instructions.toml`: what a request cost when they were last accepted.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Above the kept figure by more than this, in percent, is a regression.
pub(crate) const TOLERANCE: f64 = 3.0;

/// The kept figures.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Where they were counted, as [`environment`] says it.
    pub(crate) environment: String,
    figures: Vec<(String, u64)>,
}

impl Kept {
    /// Reads the file; nothing is kept where there is none.
    pub(crate) fn read() -> Self {
        let mut kept = Self::default();
        for line in fs::read_to_string(path()).unwrap_or_default().lines() {
            let Some((name, value)) = line.split_once(" = ") else { continue };
            let name = name.trim_matches('"');
            if name == "environment" {
                kept.environment = value.trim_matches('"').to_owned();
            } else {
                let figure = value.replace('_', "").parse().expect("benches/instructions.toml: NAME = NUMBER");
                kept.figures.push((name.to_owned(), figure));
            }
        }
        kept
    }

    /// What this case cost.
    pub(crate) fn figure(&self, case: &str) -> Option<u64> {
        self.figures.iter().find(|(name, _)| name == case).map(|(_, figure)| *figure)
    }

    /// Writes the file anew with these figures.
    pub(crate) fn write(figures: &[(&str, u64)]) {
        let mut text = format!(
            "# Instructions per request, counted by callgrind; `cargo bench --bench instructions -- --update` writes it.\n\
             # A change that costs more than {TOLERANCE} % above it is refused by `make bench-instructions`.\n\
             environment = \"{}\"\n\n[instructions]\n",
            environment()
        );
        for (name, figure) in figures {
            writeln!(text, "\"{name}\" = {figure}").expect("a string takes all");
        }
        fs::write(path(), text).expect("benches/instructions.toml is written");
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml")
}

/// What moves the figures although no source has changed: processor family, compiler, libc, valgrind.
pub(crate) fn environment() -> String {
    let compiler = said(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()), "-V");
    let parts = [
        std::env::consts::ARCH.to_owned(),
        compiler,
        said("getconf", "GNU_LIBC_VERSION"),
        said("valgrind", "--version"),
    ];
    parts.join(", ")
}

fn said(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or_else(|_| format!("no {program}"), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
