//! Why Weir does not run.

use std::fmt;
use std::io;

use crate::config::Diagnostics;

/// Why Weir does not run.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is not valid.
    Invalid(Diagnostics),
    /// What the configuration names cannot be used.
    Unusable(Vec<String>),
    /// The system refused something.
    System {
        /// What failed.
        what: String,
        /// What the system said.
        error: io::Error,
    },
}

impl StartError {
    /// The exit code of the process.
    #[must_use]
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) | Self::Unusable(_) => 3,
            Self::System { .. } => 1,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(diagnostics) => diagnostics.fmt(f),
            Self::Unusable(lines) => write!(f, "the configuration cannot be used:\n{}", lines.join("\n")),
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

/// Says of an error of the system what failed.
pub(super) fn system_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |error| StartError::System { what, error }
}
