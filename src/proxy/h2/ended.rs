//! How an exchange ends for its stream, and why a connection must end.

use crate::proxy::codec::frame::ErrorCode;
use crate::telemetry::H2Abuse;

/// How an exchange ended; its response was written as far as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The response was written to its end.
    Answered,
    /// The stream ends with this error.
    Reset(ErrorCode),
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fatal {
    pub(super) code: ErrorCode,
    /// What the client did too much of.
    pub(super) abuse: Option<H2Abuse>,
}

impl From<ErrorCode> for Fatal {
    fn from(code: ErrorCode) -> Self {
        Self { code, abuse: None }
    }
}

impl From<H2Abuse> for Fatal {
    fn from(abuse: H2Abuse) -> Self {
        Self { code: ErrorCode::ENHANCE_YOUR_CALM, abuse: Some(abuse) }
    }
}
