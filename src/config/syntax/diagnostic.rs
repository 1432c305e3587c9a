//! What is wrong with a configuration file, for the person who has to mend it.
//!
//! A diagnostic holds everything in separate fields, so that the command line can draw it with the source
//! line and the admin API can return it as JSON, and neither has to parse the other's text.
//!
//! Invariant: a text that came from the environment is never part of a diagnostic; values are shown as the
//! file writes them. (Numbers that were accepted may be: two limits are compared by showing one of them.)
//! Invariant: rendered text holds no control characters of the file; a file cannot drive a terminal.

use std::fmt;

use serde::Serialize;

/// One fault: what happened, where, what was found, what is allowed, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub(crate) file: String,
    /// The line, from 1; 0 when the fault is not at a place in the text (the file cannot be read).
    pub(crate) line: u32,
    /// The column in characters, from 1; 0 as for `line`.
    pub(crate) column: u32,
    /// The field, such as `services.shop.split.v3` or `routes[2].match.host`; empty for the whole file.
    pub(crate) path: String,
    /// What is wrong, in one line.
    pub(crate) message: String,
    /// What was found, as the file writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<String>,
    /// What is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<String>,
    /// The nearest valid name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nearest: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
    /// The source line, or the part of it around the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snippet: Option<Snippet>,
}

/// A piece of a source line with the marked part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Snippet {
    /// The text, without control characters, 120 characters at most.
    pub(crate) text: String,
    /// Where the marked part begins, in characters from 0.
    pub(crate) start: u32,
    /// How many characters are marked, at least 1.
    pub(crate) width: u32,
}

/// The most of a line that is shown; a minified file has one line of a megabyte.
const MAX_SNIPPET: usize = 120;
/// How much of a cropped line is shown before the marked part.
const SNIPPET_LEAD: usize = 40;

impl Snippet {
    /// The part of `line` around `width` characters from `column` (from 1).
    pub(crate) fn of(line: &str, column: u32, width: u32) -> Self {
        let start = column.saturating_sub(1) as usize;
        let (skip, crop) = if line.chars().nth(MAX_SNIPPET).is_none() {
            (0, MAX_SNIPPET)
        } else {
            (start.saturating_sub(SNIPPET_LEAD), MAX_SNIPPET - 2)
        };
        let mut text: String = if skip > 0 { "…".into() } else { String::new() };
        text.extend(line.chars().skip(skip).take(crop).map(printable));
        if line.chars().nth(skip + crop).is_some() {
            text.push('…');
        }
        let length = text.chars().count();
        let start = (start - skip + usize::from(skip > 0)).min(length);
        let width = (width as usize).clamp(1, length.saturating_sub(start).max(1));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { text, start: number(start), width: number(width) }
    }
}

/// `c`, or what stands for it where it would not be seen or would drive the terminal: controls, and the
/// characters that turn the direction of text.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c => c,
    }
}

/// The longest value that is quoted in a message.
const MAX_QUOTED: usize = 80;

/// A name of the file as part of a field's path: printable and not too long.
pub(crate) fn printable_name(name: &str) -> String {
    name.chars().take(MAX_QUOTED).map(printable).collect()
}

/// `text` between backticks, printable and not too long.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    out.extend(text.chars().take(MAX_QUOTED).map(printable));
    if text.chars().nth(MAX_QUOTED).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

impl Diagnostic {
    /// As text, for what is no fault but should be known.
    #[must_use]
    pub(crate) fn to_warning(&self) -> String {
        self.to_string().replacen("error:", "warning:", 1)
    }

    /// A fault of the file as a whole.
    pub(crate) fn of_file(file: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { file: file.to_owned(), message: message.into(), help: Some(help.into()), ..Self::default() }
    }
}

impl fmt::Display for Diagnostic {
    /// The fault as several lines of text, with its source line and a mark below it, without a line feed at
    /// the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let margin = self.line.max(1).ilog10() as usize + 1;
        let file: String = self.file.chars().map(printable).collect();
        writeln!(f, "error: {}", self.message)?;
        write!(f, "{:margin$}--> {file}", "")?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if let Some(snippet) = &self.snippet {
            let (start, width) = (snippet.start as usize, snippet.width as usize);
            write!(f, "\n{:margin$} |\n{} | {}", "", self.line, snippet.text.trim_end())?;
            write!(f, "\n{:margin$} | {:start$}{:^<width$}", "", "", "")?;
        }
        let nearest = self.nearest.as_deref().map(|name| format!("did you mean {}?", quoted(name)));
        let path = (!self.path.is_empty()).then(|| self.path.clone());
        let notes = [("field", &path), ("found", &self.found), ("expected", &self.expected), ("help", &nearest)];
        for (word, note) in notes.into_iter().chain([("help", &self.help)]) {
            if let Some(note) = note {
                write!(f, "\n{:margin$} = {word}: {note}", "")?;
            }
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// How many more there are than were kept.
    more: usize,
}

/// How many faults are kept. More than a person reads; a wrong tool can make one on every line of 64 MiB.
pub(crate) const MAX_DIAGNOSTICS: usize = 1_000;

impl Diagnostics {
    /// These faults, which are sorted; `None` when there is none.
    pub(crate) fn of(mut list: Vec<Diagnostic>, more: usize) -> Option<Self> {
        list.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        (!list.is_empty()).then_some(Self { list, more })
    }

    /// The one fault.
    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self { list: vec![diagnostic], more: 0 }
    }

    /// Cannot happen: reading gives a value or notes a fault. Refusing the file is the safe answer all the same.
    pub(crate) fn unexplained(file: &str) -> Self {
        Self::one(Diagnostic::of_file(
            file,
            "the file is refused, and Weir does not know why",
            "this is a fault of Weir: please report it with the file",
        ))
    }

    /// The faults, in the order of their lines; [`MAX_DIAGNOSTICS`] at most.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many faults there are, those included that were not kept.
    #[must_use]
    pub(crate) const fn total(&self) -> usize {
        self.list.len() + self.more
    }

    /// The faults as JSON values, for the admin API and `weir check -o json`.
    #[must_use]
    pub(crate) fn to_json(&self) -> Vec<serde_json::Value> {
        self.list.iter().filter_map(|diagnostic| serde_json::to_value(diagnostic).ok()).collect()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    /// Every fault as text, and their number, without a line feed at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.list {
            write!(f, "{diagnostic}\n\n")?;
        }
        if self.more > 0 {
            write!(f, "{} more are not shown\n\n", self.more)?;
        }
        match self.total() {
            1 => write!(f, "1 error"),
            total => write!(f, "{total} errors"),
        }
    }
}
