//! Request targets that a URI cannot hold as they came.

use std::fmt::Write as _;

use http::uri::PathAndQuery;

/// The target with what a URI cannot hold percent-encoded; none if one can hold it as it is.
pub(crate) fn encode(target: &str) -> Option<String> {
    if PathAndQuery::try_from(target).is_ok() {
        return None;
    }
    let mut out = String::with_capacity(target.len() + 16);
    let mut query = false;
    for char in target.chars() {
        query |= char == '?';
        // `"` may be in a path and not in a query.
        let fits = !char.is_ascii()
            || PathAndQuery::try_from(if query { format!("/?{char}") } else { format!("/{char}") }).is_ok();
        if fits {
            out.push(char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{:02X}", u32::from(char));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_uri_can_hold_stays_as_it_came() {
        for target in ["/", "/a?b={c}|d^e", "/\"{}", "*"] {
            assert_eq!(encode(target), None, "{target}");
        }
    }

    #[test]
    fn what_a_uri_must_encode_is_encoded() {
        assert_eq!(encode("/a<b>`?f={\"a\":1}<\"").as_deref(), Some("/a%3Cb%3E%60?f={%22a%22:1}%3C%22"));
    }
}
