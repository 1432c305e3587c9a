//! Texts of others, made fit to be shown: bounded, and without what a terminal or a log would obey.

/// What is shown of a foreign answer, in characters.
const MAX_EXCERPT_CHARS: usize = 200;

/// The first `most` characters, with `…` as the last one if there are more.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The beginning of a foreign answer on one line.
pub(super) fn excerpt(body: &[u8]) -> String {
    // Cut before it is looked at: an answer may have 64 KiB, and a character has at most four bytes.
    let begin = body.get(..MAX_EXCERPT_CHARS * 4 + 4).unwrap_or(body);
    let text = String::from_utf8_lossy(begin).replace(char::is_control, " ");
    clip(text.trim(), MAX_EXCERPT_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_characters() {
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(clip("äöüß", 3), "äö…");
        assert_eq!(clip("", 3), "");
    }

    #[test]
    fn an_excerpt_is_one_bounded_line() {
        assert_eq!(excerpt(b" no\x1b[2J\r\nway \xff"), "no [2J  way \u{fffd}");
        assert_eq!(excerpt("ü".repeat(ANSWER).as_bytes()).chars().count(), MAX_EXCERPT_CHARS);
    }

    const ANSWER: usize = 60_000;
}
