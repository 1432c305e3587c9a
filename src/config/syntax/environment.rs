//! `${NAME}` and `${NAME:-default}` in the file's values.
//!
//! Substitution happens in the parsed tree, inside one scalar at a time, never in the text of the file. So a
//! variable cannot add fields, end a string or open a comment, whatever it holds, and every line and column
//! stays that of the file. Names of fields are not substituted. `$$` is a dollar sign, and a dollar sign that
//! is not followed by `{` or `$` stands for itself, which regular expressions need.
//!
//! Invariant: a substituted text is not looked at again; a variable cannot name another one.
//! Invariant: the text that a variable holds appears in no diagnostic.

use std::borrow::Cow;

use super::diagnostic::quoted;
use super::problem::Problem;
use super::tree::{Node, Value};
use crate::coop::in_pieces;

/// Where variables are looked up: the process's environment, or a test's.
pub trait Environment {
    /// What the variable holds, if it is set.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The environment of this process. A variable that is not UTF-8 counts as unset.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl<F: Fn(&str) -> Option<String>> Environment for F {
    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// How much text may be made where there are dollar signs: a short file could name a large variable many times, and
/// repeat a long text with one in it by aliases.
const MAX_SUBSTITUTED: usize = 16 << 20;

/// Replaces the variables in every value below `root`. A value with a fault becomes [`Value::Broken`], and
/// whoever reads it reports the fault.
pub(crate) fn substitute(root: &mut Node<'_>, environment: &dyn Environment) {
    walk(root, environment, &mut MAX_SUBSTITUTED.clone());
}

/// Recursion is bounded by the depth of the tree.
fn walk(node: &mut Node<'_>, environment: &dyn Environment, left: &mut usize) {
    match &mut node.value {
        Value::List(items) => in_pieces(items).for_each(|item| walk(item, environment, left)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| walk(value, environment, left)),
        Value::Text(text) if memchr::memchr(b'$', text.text.as_bytes()).is_some() => {
            match expand(&text.text, environment, left) {
                Ok(new) => text.written = Some(std::mem::replace(&mut text.text, Cow::Owned(new))),
                Err(wrong) => {
                    let problem = Problem::new(node.place, wrong.to_string()).help(wrong.help()).found(node.shown());
                    node.value = Value::Broken(Box::new(problem));
                }
            }
        }
        Value::Text(_) | Value::Null | Value::Broken(_) => {}
    }
}

/// Why a text's variables cannot be replaced.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unexpandable {
    #[error("`${{` is not closed")]
    NotClosed,
    #[error("the variables of this file hold more than {MAX_SUBSTITUTED} bytes")]
    TooLarge,
    #[error("{0} is not the name of a variable")]
    NotAName(String),
    #[error("the variable {} is not set", quoted(.0))]
    NotSet(String),
}

impl Unexpandable {
    /// What to do about it.
    fn help(&self) -> String {
        match self {
            Self::NotClosed => "close it with `}`, or write `$${` where a dollar sign and a brace are meant".to_owned(),
            Self::TooLarge => "put large texts into files of their own".to_owned(),
            Self::NotAName(_) => "write `${NAME}` or `${NAME:-default}`; for a literal `${` write `$${`".to_owned(),
            Self::NotSet(name) => {
                format!("set {name} in Weir's environment, or give a default: `${{{name}:-default}}`")
            }
        }
    }
}

/// `text` with its variables replaced, or what is wrong and what to do.
fn expand(text: &str, environment: &dyn Environment, left: &mut usize) -> Result<String, Unexpandable> {
    spend(text.len(), left)?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let (inside, tail) = tail.split_once('}').ok_or(Unexpandable::NotClosed)?;
            let value = look_up(inside, environment)?;
            spend(value.len(), left)?;
            out.push_str(&value);
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Takes bytes off those that may still be made.
fn spend(bytes: usize, left: &mut usize) -> Result<(), Unexpandable> {
    *left = left.checked_sub(bytes).ok_or(Unexpandable::TooLarge)?;
    Ok(())
}

/// What stands for `${inside}`.
fn look_up<'a>(inside: &'a str, environment: &dyn Environment) -> Result<Cow<'a, str>, Unexpandable> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let first_fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first_fits || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Unexpandable::NotAName(quoted(name)));
    }
    match (environment.variable(name), default) {
        (Some(value), None) => Ok(Cow::Owned(value)),
        (Some(value), Some(_)) if !value.is_empty() => Ok(Cow::Owned(value)),
        (_, Some(default)) => Ok(Cow::Borrowed(default)),
        (None, None) => Err(Unexpandable::NotSet(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Unexpandable> {
        let environment = |name: &str| match name {
            "HOST" => Some("shop".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}: {a: b} # $$".to_owned()),
            _ => None,
        };
        expand(text, &environment, &mut 1_000)
    }

    #[test]
    fn variables_defaults_and_escapes_are_expanded_once() {
        for (text, expected) in [
            ("http-${HOST}.local", "http-shop.local"),
            ("${NONE:-a:b}", "a:b"),
            ("${EMPTY:-x}|${EMPTY}", "x|"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("^/a$", "^/a$"),
            ("$HOST", "$HOST"),
            ("${NESTED}", "${HOST}: {a: b} # $$"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_refused() {
        for text in ["${NONE}", "${HOST", "${}", "${1A}", "${A B}", "${HOST-x}"] {
            assert!(expanded(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_variables_add_is_bounded() {
        let environment = |_: &str| Some("x".repeat(400));
        assert!(expand("${A}${A}", &environment, &mut 1_000).is_ok());
        assert!(expand("${A}${A}${A}", &environment, &mut 1_000).is_err());
    }
}
