//! Where a part of the file stands that may have to be shown once its tree is gone.

use std::path::Path;

use super::diagnostic::{Diagnostic, Snippet};
use super::problem::Place;

/// Where a part of the file stands that may be named once its tree is gone.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    path: String,
    place: Place,
    snippet: Snippet,
}

/// These fields, in the order of their lines, each with its line.
pub(crate) fn marked(mut places: Vec<(String, Place)>, source: &str) -> Vec<Mark> {
    places.sort_by_key(|(_, place)| place.line);
    let mut lines = (1..).zip(source.lines()).peekable();
    let snippets = places.into_iter().map(|(path, place)| {
        while lines.next_if(|(number, _)| *number < place.line).is_some() {}
        let text = lines.peek().map_or("", |(_, text)| *text);
        Mark { path, place, snippet: Snippet::of(text, place.column, place.width) }
    });
    snippets.collect()
}

impl Mark {
    /// Whether this marks the field `path`.
    pub(crate) fn is_of(&self, path: &str) -> bool {
        self.path == path
    }

    /// What is wrong here.
    pub(crate) fn diagnostic(&self, file: &Path, message: &str, help: &str) -> Diagnostic {
        Diagnostic {
            line: self.place.line,
            column: self.place.column,
            path: self.path.clone(),
            snippet: Some(self.snippet.clone()),
            ..Diagnostic::of_file(&file.display().to_string(), message, help)
        }
    }
}
