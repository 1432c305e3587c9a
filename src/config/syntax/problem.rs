//! Faults while they are being collected: with a place instead of a source line.
//!
//! Most files have none, so the source is cut into lines only when there is something to show.

use super::diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS, Snippet};

/// A part of a line of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: u32,
    /// In characters, from 1.
    pub(crate) column: u32,
    /// In characters; may reach beyond the line.
    pub(crate) width: u32,
}

impl Place {
    /// Where a file begins.
    pub(crate) const START: Self = Self { line: 1, column: 1, width: 1 };
}

/// A line or a column in the form in which places keep it.
pub(crate) fn counted(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A fault with its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problem {
    place: Place,
    path: String,
    message: String,
    found: Option<String>,
    expected: Option<String>,
    nearest: Option<String>,
    help: Option<String>,
}

impl Problem {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), ..Self::default() }
    }

    /// As the only fault of `source`.
    pub(crate) fn alone(self, file: &str, source: &str) -> Diagnostics {
        let mut problems = Problems::default();
        problems.push(self);
        problems.finish(file, source).unwrap_or_else(|| Diagnostics::unexplained(file))
    }

    pub(crate) fn path(mut self, path: String) -> Self {
        self.path = path;
        self
    }

    /// Whether the message contains `text`.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.message.contains(text)
    }

    pub(crate) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The name that was probably meant.
    pub(crate) fn nearest(mut self, name: Option<&str>) -> Self {
        self.nearest = name.map(str::to_owned);
        self
    }
}

/// Faults in the order they were found, bounded.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.list.len() < MAX_DIAGNOSTICS {
            self.list.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// The faults with the lines of `source` they are in; `None` when there is none.
    pub(crate) fn finish(self, file: &str, source: &str) -> Option<Diagnostics> {
        if self.list.is_empty() {
            return None;
        }
        let lines: Vec<&str> = source.lines().collect();
        let list = self.list.into_iter().map(|problem| {
            let line = (problem.place.line as usize).checked_sub(1).and_then(|at| lines.get(at));
            Diagnostic {
                file: file.to_owned(),
                line: problem.place.line,
                column: problem.place.column,
                path: problem.path,
                message: problem.message,
                found: problem.found,
                expected: problem.expected,
                nearest: problem.nearest,
                help: problem.help,
                snippet: line.map(|line| Snippet::of(line, problem.place.column, problem.place.width)),
            }
        });
        Diagnostics::of(list.collect(), self.more)
    }
}
