//! The YAML that is written: lines, quotes and comments, and from which values of the imported files they come.
//!
//! Invariant: a text from the imported file reaches the page only through [`quoted`], so it cannot add lines, or as a
//! comment, where [`Page::comment`] takes its control characters out.

use std::collections::HashMap;

use crate::config::ImportedValue;

/// Lines of YAML.
#[derive(Default)]
pub(super) struct Page<'f> {
    text: String,
    /// How many lines there are.
    lines: usize,
    /// From which line on (from 0) they come from which value.
    origins: Vec<(usize, &'f ImportedValue)>,
}

impl<'f> Page<'f> {
    /// What follows comes from this value.
    pub(super) fn cite(&mut self, value: &'f ImportedValue) {
        self.origins.push((self.lines, value));
    }

    /// One line, indented by so many levels.
    pub(super) fn line(&mut self, level: usize, text: &str) {
        self.text.extend(std::iter::repeat_n("  ", level));
        self.text.push_str(text);
        self.text.push('\n');
        self.lines += 1;
    }

    /// A comment, indented, wrapped at 110 columns.
    pub(super) fn comment(&mut self, level: usize, text: &str) {
        let width = 110_usize.saturating_sub(level * 2);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut line = String::from("#");
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if line.len() > 1 && line.chars().count() + word.chars().count() > width {
                self.line(level, &line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(level, &line);
    }

    /// Puts another page below.
    pub(super) fn append(&mut self, other: Self) {
        let before = self.lines;
        self.origins.extend(other.origins.into_iter().map(|(line, value)| (before + line, value)));
        self.text.push_str(&other.text);
        self.lines += other.lines;
    }

    /// The value from which a line, counted from 1, comes.
    pub(super) fn origin(&self, line: u32) -> Option<&'f ImportedValue> {
        let line = (line as usize).saturating_sub(1);
        let after = self.origins.partition_point(|(first, _)| *first <= line);
        self.origins.get(after.checked_sub(1)?).map(|(_, value)| *value)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A text as a double-quoted scalar of one line. Weir replaces `${…}` in values; here it is meant as it stands.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("$$", "$$$$").replace("${", "$${")).to_string()
}

/// The longest name that Weir takes.
const LONGEST_NAME: usize = 63;
/// What is left of one that may get something behind it.
pub(super) const LONGEST_BASE: usize = 56;

/// The valid name that is nearest to `text`: what a name cannot hold becomes `-`.
pub(super) fn name(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = text.chars().take(LONGEST_NAME).map(fits).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

/// `wanted`, or its beginning with a number behind it, as it is not `taken` yet.
pub(super) fn free_name(wanted: &str, taken: &mut HashMap<String, u32>) -> String {
    let base: String = wanted.chars().take(LONGEST_BASE).collect();
    let mut free = if wanted.len() > LONGEST_NAME { base.clone() } else { wanted.to_owned() };
    while taken.contains_key(&free) {
        let number = taken.entry(base.clone()).or_insert(1);
        *number += 1;
        free = format!("{base}-{number}");
    }
    taken.insert(free.clone(), 1);
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::import_documents;

    #[test]
    fn a_text_stays_on_its_line_and_is_not_substituted() {
        assert_eq!(quoted("a\nb: \"c\""), r#""a\nb: \"c\"""#);
        assert_eq!(quoted("${A} $$ $B"), r#""$${A} $$$$ $B""#);
    }

    #[test]
    fn a_name_holds_what_names_may_hold() {
        assert_eq!(name("error rate %"), "error-rate");
        assert_eq!(name("404s"), "404s");
        assert_eq!(name("%%"), "unnamed");
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let mut taken = HashMap::new();
        let names = ["a", "a", "a-2", "a"].map(|name| free_name(name, &mut taken));
        assert_eq!(names, ["a", "a-2", "a-2-2", "a-3"]);
        let long = ["b".repeat(63), "b".repeat(63), "b".repeat(80)].map(|name| free_name(&name, &mut taken));
        let base = "b".repeat(56);
        assert_eq!(long, ["b".repeat(63), format!("{base}-2"), format!("{base}-3")]);
    }

    #[test]
    fn a_long_comment_is_wrapped_and_has_no_lines_of_its_own() {
        let mut page = Page::default();
        page.comment(1, &["word"; 40].join(" "));
        page.comment(1, "word\nword: 1");
        assert!(page.text().lines().all(|line| line.len() <= 112 && line.starts_with("  # word")));
    }

    #[test]
    fn a_line_knows_the_value_that_it_comes_from() {
        let documents = import_documents("x", b"a: 1\nb: 2\n").unwrap();
        let (mut page, mut below) = (Page::default(), Page::default());
        page.line(0, "nobody's");
        page.cite(documents[0].get("a").unwrap());
        page.line(0, "one");
        below.cite(documents[0].get("b").unwrap());
        below.line(0, "two");
        below.line(0, "two");
        page.append(below);
        let lines = [1, 2, 3, 4].map(|line| page.origin(line).map(|value| value.line));
        assert_eq!(lines, [None, Some(1), Some(2), Some(2)]);
    }
}
