//! `{{ words }}` in texts of the imported files.

/// How many unknown words of one text are named.
const MAX_UNKNOWN: usize = 16;

/// A text with its words replaced.
pub(super) struct Filled {
    pub(super) text: String,
    /// What stands between the braces of the words that nothing is known of, each once.
    pub(super) unknown: Vec<String>,
}

/// `text` with each `{{ word }}` replaced by what `known` has for it; other words stay as they are.
pub(super) fn fill(text: &str, known: impl Fn(&str) -> Option<String>) -> Filled {
    let mut filled = Filled { text: String::with_capacity(text.len()), unknown: Vec::new() };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.text.push_str(before);
        let Some((inside, after)) = after.split_once("}}") else {
            filled.text.push_str("{{");
            rest = after;
            continue;
        };
        // `{{-` and `-}}` are Go's way to drop the blanks around.
        let word = inside.strip_prefix('-').unwrap_or(inside);
        let word = word.strip_suffix('-').unwrap_or(word).trim();
        match known(word) {
            Some(value) => filled.text.push_str(&value),
            None => {
                filled.text.push_str(&format!("{{{{{inside}}}}}"));
                if filled.unknown.len() < MAX_UNKNOWN && !filled.unknown.iter().any(|earlier| earlier == word) {
                    filled.unknown.push(word.to_owned());
                }
            }
        }
        rest = after;
    }
    filled.text.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_replaced_and_others_named() {
        let known = |word: &str| (word == "target").then(|| "shop".to_owned());
        let filled = fill("a{{target}} {{ target }} {{- target -}} {{ x.y }} {{x.y}} {{ open", known);
        assert_eq!(filled.text, "ashop shop shop {{ x.y }} {{x.y}} {{ open");
        assert_eq!(filled.unknown, ["x.y"]);
    }
}
