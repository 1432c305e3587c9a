//! `weir import`: another program's configuration as Weir's, on stdout, with a comment wherever the two differ.
//!
//! Invariant: what is printed passes `weir check --offline`; the result is read back before it is shown.

mod flagger;
mod page;

use std::io::Read;
use std::path::Path;

use super::arguments::ImportArguments;
use super::failure::{Exit, Failure};
use super::print;
use crate::config::{self, Environment};

/// `weir import flagger`.
pub(super) fn flagger(arguments: &ImportArguments) -> Result<(), Failure> {
    let stdin = arguments.file == Path::new("-");
    let name = if stdin { "stdin".to_owned() } else { arguments.file.display().to_string() };
    let documents = config::import_documents(&name, &read(&arguments.file)?).map_err(|wrong| invalid(&wrong))?;
    let yaml = flagger::convert(&documents)
        .map_err(|wrong| Failure::new(Exit::CONFIGURATION, format!("{name}:{}: {}", wrong.line, wrong.what)))?;
    verify(&yaml)?;
    print(&yaml)
}

/// The content of the file; `-` is stdin.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    if file != Path::new("-") {
        if matches!(file.try_exists(), Ok(false)) {
            let missing = Failure::new(Exit::CONFIGURATION, format!("{}: there is no such file", file.display()));
            return Err(missing.help("give the path of Flagger's YAML, or `-` for stdin"));
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

/// Reads what was made back, as `weir check --offline` does.
fn verify(yaml: &str) -> Result<(), Failure> {
    let unset = |_: &str| None::<String>;
    let environment: &dyn Environment = &unset;
    config::parse(Path::new("weir.yaml"), yaml.as_bytes(), environment).map(drop).map_err(|faults| {
        Failure::new(Exit::CONFIGURATION, format!("what this file says cannot be said to Weir: {faults}"))
            .help("change the values that are named, in the file that is imported")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_is_named_as_an_argument_of_this_command() {
        let missing = read(Path::new("/nonexistent/flagger.yaml")).unwrap_err();
        assert_eq!(missing.exit, Exit::CONFIGURATION);
        let said = missing.to_string();
        assert!(said.contains("/nonexistent/flagger.yaml: there is no such file"), "{said}");
        assert!(said.contains("`-` for stdin") && !said.contains("-c FILE"), "{said}");
    }
}
