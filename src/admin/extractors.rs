//! What handlers of the control API share: names in paths, who asks and why, and the answer of a change.

use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;

use super::AdminState;
use super::wire::{Changed, Problem};
use crate::control::{Ack, Attribution, Control, ProposalResult};
use crate::model::Process;

/// Where to propose a change, while the process takes any.
pub(super) fn control(admin: &AdminState) -> Result<&Control, Problem> {
    match *admin.process.borrow() {
        Process::Starting | Process::Ready => Ok(&admin.control),
        Process::Draining => Err(Problem::stopping(Process::Draining)),
    }
}

pub(super) fn changed(outcome: ProposalResult) -> Result<Json<Changed>, Problem> {
    let Ack { revision, changes, warnings, durable } = outcome?;
    Ok(Json(Changed { revision, hash: None, changes, warnings, durable }))
}

pub(super) fn named<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    path.map(|Path(names)| names).map_err(|error| bad(&error.body_text()))
}

pub(super) fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

pub(super) fn unprocessable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// The longest author and reason, in characters: both are kept and shown.
const MAX_AUTHOR_CHARS: usize = 200;
const MAX_REASON_CHARS: usize = 1_000;

pub(super) fn by(author: Option<String>, reason: Option<String>) -> Result<Attribution, Problem> {
    let author = author.filter(|author| !author.trim().is_empty()).unwrap_or_else(|| "unknown".to_owned());
    let reason = reason.unwrap_or_default();
    for (what, text, limit) in [("author", &author, MAX_AUTHOR_CHARS), ("reason", &reason, MAX_REASON_CHARS)] {
        if text.chars().count() > limit || text.chars().any(char::is_control) {
            let detail = format!("`{what}` is one line of at most {limit} characters");
            return Err(unprocessable(detail));
        }
    }
    Ok(Attribution { author, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_and_a_reason_are_short_lines() {
        assert_eq!(by(None, None).unwrap(), Attribution { author: "unknown".to_owned(), reason: String::new() });
        assert_eq!(by(Some("alice".to_owned()), Some("too slow".to_owned())).unwrap().reason, "too slow");
        assert_eq!(by(Some("a\x1b[2J".to_owned()), None).unwrap_err().status, 422);
        assert_eq!(by(None, Some("x".repeat(MAX_REASON_CHARS + 1))).unwrap_err().status, 422);
    }
}
