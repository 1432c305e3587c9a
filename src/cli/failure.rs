//! Why a command did not do what it was asked for: text for a person, and an exit code for a script.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

/// The exit code of a command that failed. The codes are part of the contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit(u8);

impl Exit {
    /// Something failed that has no code of its own.
    pub(super) const FAILURE: Self = Self(1);
    /// The arguments are wrong.
    pub(super) const USAGE: Self = Self(2);
    /// The configuration is not valid.
    pub(super) const CONFIGURATION: Self = Self(3);
    /// The control API cannot be reached.
    pub(super) const UNREACHABLE: Self = Self(4);
    /// The rollout went back to the stable version.
    pub(super) const ROLLED_BACK: Self = Self(5);
    /// It did not happen in the time that was given.
    pub(super) const TIMED_OUT: Self = Self(6);
    /// Not possible in the state that Weir is in.
    pub(super) const REFUSED: Self = Self(7);
    /// It is in effect, and a restart may lose it.
    pub(super) const NOT_DURABLE: Self = Self(8);

    /// The code of a part that has its own; never 0.
    pub(super) const fn of(code: u8) -> Self {
        if code == 0 { Self::FAILURE } else { Self(code) }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What scripts see.
    pub(super) exit: Exit,
    /// What happened, and where.
    what: String,
    /// What to do about it.
    help: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), help: None }
    }

    /// Something of the system failed: a file, a port, a process.
    pub(super) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::FAILURE, format!("{what}: {error}"))
    }

    /// The same, with what to do about it.
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// `error:` stands out; what is after it is what people read.
const ERROR: Style = AnsiColor::Red.on_default().bold();
const HELP: Style = AnsiColor::Cyan.on_default().bold();

impl fmt::Display for Failure {
    /// The whole text, with colours, ending in a line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Diagnostics of a configuration say `error:` themselves, once each.
        let what = self.what.trim_end();
        match what.strip_prefix("error:") {
            Some(rest) => writeln!(f, "{ERROR}error:{ERROR:#}{rest}")?,
            None => writeln!(f, "{ERROR}error:{ERROR:#} {what}")?,
        }
        if let Some(help) = &self.help {
            writeln!(f, "  {HELP}help:{HELP:#} {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn a_failure_says_what_happened_and_what_to_do() {
        let failure = Failure::new(Exit::UNREACHABLE, "nobody answers").help("is Weir running?");
        assert_eq!(plain(&failure), "error: nobody answers\n  help: is Weir running?\n");
    }

    #[test]
    fn diagnostics_are_not_announced_twice() {
        let failure = Failure::new(Exit::CONFIGURATION, "error: unknown field\n --> weir.yaml:1:1\n\n1 error");
        assert_eq!(plain(&failure), "error: unknown field\n --> weir.yaml:1:1\n\n1 error\n");
    }

    #[test]
    fn a_failure_never_exits_with_success() {
        assert_eq!(Exit::of(0), Exit::FAILURE);
        assert_eq!(Exit::of(3), Exit::CONFIGURATION);
    }
}
