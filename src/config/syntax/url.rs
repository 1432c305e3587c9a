//! Where Weir calls out to, and the secrets that it shows there.
//!
//! A secret is a file that is read when it is used, so that it can be replaced without a reload, or a text, which
//! a file should only hold as `${VARIABLE}`.
//!
//! Invariant: a [`Secret`] that is printed for debugging does not show its text.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;

use super::fields::Fields;
use super::problem::Problem;
use super::read::{Read, Reader};
use super::tree::Node;
use super::values::NotAValue;
use crate::rollout::alerts::Secret;

/// The longest address that is called.
const MAX_URL: usize = 2_048;

/// An `http://` or `https://` address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl(Arc<str>);

impl HttpUrl {
    /// The address as it was written.
    pub(crate) fn get(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for HttpUrl {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        const EXPECTED: &str = "an address to call: `http://host/path` or `https://host/path`, 2048 bytes at most";
        let wrong = |help| NotAValue { expected: EXPECTED, help };
        if !text.contains("://") {
            return Err(wrong(Some("begin with `http://` or `https://`")));
        }
        let uri: http::Uri = text.parse().map_err(|_| wrong(None))?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        if web && host && text.len() <= MAX_URL { Ok(Self(text.into())) } else { Err(wrong(None)) }
    }
}

impl Read for HttpUrl {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        reader.parse(node)
    }
}

impl JsonSchema for HttpUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Url".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        super::schema::text("^https?://.+", "An address to call.", &["https://hooks.example.com/weir"])
    }
}

/// Notes when a secret stands in two fields, in `text` itself and in the file that `file` names, or, if it is `required`, in
/// none.
pub(crate) fn check_secret(fields: &mut Fields<'_, '_>, (text, file): (&str, &str), required: bool) {
    match (fields.get(text).is_some(), fields.get(file).is_some()) {
        (true, true) => {
            fields.fault_at(file, |place| {
                Problem::new(place, format!("`{text}` and `{file}` together")).help("keep one of them")
            });
        }
        (false, false) if required => {
            let message = format!("neither `{file}` nor `{text}`");
            fields
                .fault_here(&message, &format!("add `{file}: FILE` with the secret in it, or `{text}: ${{VARIABLE}}`"));
        }
        _ => {}
    }
}

/// The secret that stands in one of two fields.
pub(crate) fn secret(text: Option<Arc<str>>, file: Option<PathBuf>) -> Option<Secret> {
    file.map(Secret::File).or(text.map(Secret::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_call_has_a_scheme_and_a_host() {
        for good in ["http://a", "https://hooks.example.com/x?y=1", "http://127.0.0.1:9090", "http://[::1]:9090/"] {
            assert_eq!(good.parse::<HttpUrl>().map(|url| url.get().to_string()), Ok(good.to_owned()));
        }
        for wrong in ["", "a", "hooks.example.com/x", "ftp://a", "http://", "https:///x", "http://a b", "http://a\n"] {
            assert!(wrong.parse::<HttpUrl>().is_err(), "{wrong}");
        }
        assert!(format!("http://a/{}", "x".repeat(MAX_URL)).parse::<HttpUrl>().is_err());
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::Text("hunter2".into())), "Text(…)");
    }
}
