//! The YAML that is written: lines, quotes and comments.
//!
//! Invariant: a text from the imported file reaches the page only through [`quoted`], so it cannot add lines.

/// Lines of YAML.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// One line, indented by so many levels.
    pub(super) fn line(&mut self, level: usize, text: &str) {
        self.0.extend(std::iter::repeat_n("  ", level));
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A comment, indented, wrapped at 110 columns.
    pub(super) fn comment(&mut self, level: usize, text: &str) {
        let width = 110_usize.saturating_sub(level * 2);
        let mut line = String::from("#");
        for word in text.split(' ') {
            if line.chars().count() + word.chars().count() > width {
                self.line(level, &line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(level, &line);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A text as a double-quoted scalar of one line. Weir replaces `${…}` in values; here it is meant as it stands.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("$$", "$$$$").replace("${", "$${")).to_string()
}

/// The valid name that is nearest to `text`: what a name cannot hold becomes `-`.
pub(super) fn name(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = text.chars().take(50).map(fits).collect();
    let name = name.trim_matches('-');
    if name.chars().any(|c| c.is_ascii_alphanumeric()) { name.to_owned() } else { "unnamed".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_long_comment_is_wrapped() {
        let mut page = Page::default();
        page.comment(1, &["word"; 40].join(" "));
        assert!(page.finish().lines().all(|line| line.len() <= 112 && line.starts_with("  # word")));
    }
}
