//! The cookies of a request (RFC 6265 §5.4): found by name, and taken out of it.
//!
//! HTTP/2 may send them in several fields; HTTP/1 sends one. Of several cookies of a name the first counts, as servers
//! read them.

use std::borrow::Cow;

use super::Request;

/// Gives the value of the cookie `name` to `visit`, if the request has that cookie.
pub(crate) fn find<T>(request: &impl Request, name: &str, visit: impl Fn(&[u8]) -> T) -> Option<T> {
    let mut found = None;
    request.for_each_header(&mut |field, value| {
        if found.is_none() && field.eq_ignore_ascii_case(b"cookie") {
            found = pairs(value).find(|pair| is_named(pair, name)).map(|pair| visit(value_of(pair)));
        }
    });
    found
}

/// The value of a `Cookie` field without the cookies of this name; none if there are no others.
pub(crate) fn without<'v>(field: &'v [u8], name: &str) -> Option<Cow<'v, [u8]>> {
    if !pairs(field).any(|pair| is_named(pair, name)) {
        return Some(Cow::Borrowed(field));
    }
    let others: Vec<&[u8]> = pairs(field).filter(|pair| !pair.is_empty() && !is_named(pair, name)).collect();
    (!others.is_empty()).then(|| Cow::Owned(others.join(&b"; "[..])))
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn is_named(pair: &[u8], name: &str) -> bool {
    pair.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
}

/// What stands behind the name, without quotes around it.
fn value_of(pair: &[u8]) -> &[u8] {
    let value = pair.splitn(2, |byte| *byte == b'=').nth(1).unwrap_or_default();
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cookie_is_taken_out_and_the_others_stay() {
        for (field, left) in [
            ("version=v2", None),
            ("version", None),
            (" version=v2 ; ", None),
            ("a=b; version=v2; c=d", Some("a=b; c=d")),
            ("version=v2; a=b; version=v1", Some("a=b")),
            ("versions=v2; xversion=v2; Version=v2", Some("versions=v2; xversion=v2; Version=v2")),
            ("a=version=v2", Some("a=version=v2")),
            ("", Some("")),
        ] {
            let without = without(field.as_bytes(), "version");
            assert_eq!(without.as_deref(), left.map(str::as_bytes), "{field}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_has_no_such_cookie_and_all_others(field in "([ab]?=?[a-c]?;? ?){0,8}") {
            let all: Vec<&str> = field.split(';').map(str::trim).filter(|pair| !pair.is_empty()).collect();
            let kept: Vec<&str> = all.iter().copied().filter(|pair| pair.split('=').next() != Some("a")).collect();
            let without = without(field.as_bytes(), "a");
            if kept.len() == all.len() {
                prop_assert_eq!(without.as_deref(), Some(field.as_bytes()));
            } else {
                let expected = (!kept.is_empty()).then(|| kept.join("; ").into_bytes());
                prop_assert_eq!(without.map(Cow::into_owned), expected);
            }
        }
    }
}
