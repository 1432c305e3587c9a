//! What becomes of spellings that servers read in different ways: of paths, and of header names.
//!
//! Both sections stand at the top of the file for all listeners, and at a listener for that one; that of headers at a route
//! too. There each field stands by itself: what a route leaves out is as at the listener, what that leaves out is as at
//! the top, and what that leaves out has its default. A route has no `paths`, since it is found by the path.

use schemars::JsonSchema;

use crate::config::syntax::read::{Read, Reader};
use crate::config::syntax::yaml::Node;

/// What becomes of paths that servers read in different ways. Routes match the form that is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Paths {
    /// `%2F`: `keep` it as a part of its segment (default), `refuse` it with 400, or `decode` it to a slash.
    pub encoded_slash: Option<EncodedSlash>,
    /// A backslash, encoded or not: `refuse` it with 400 (default), or `keep` it as a part of its segment.
    pub backslash: Option<Backslash>,
    /// Whether a run of slashes becomes one; default: false, `//a` is another path than `/a`.
    pub merge_slashes: Option<bool>,
    /// UTF-8 that is not percent-encoded: `refuse` it with 400 (default), `encode` it, or `keep` it.
    pub non_ascii: Option<NonAscii>,
}

/// What becomes of `%2F` in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum EncodedSlash {
    /// Answered with 400.
    Refuse,
    /// A part of its segment.
    Keep,
    /// A slash.
    Decode,
}

/// What becomes of a backslash in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Backslash {
    /// Answered with 400.
    Refuse,
    /// A part of its segment.
    Keep,
}

/// What becomes of UTF-8 in a target that is not percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum NonAscii {
    /// Answered with 400.
    Refuse,
    /// Percent-encoded.
    Encode,
    /// Forwarded as it came, matched as if it were encoded.
    Keep,
}

/// What becomes of headers whose names servers read in different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Headers {
    /// A name with `_`, which many applications read as `-`: `drop` the header (default), `refuse` the request with 400,
    /// or `allow` it. gRPC calls to HTTP/2 endpoints keep them always.
    pub underscore: Option<Underscore>,
}

/// What becomes of a header whose name has an underscore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Underscore {
    /// The request is answered with 400.
    Refuse,
    /// The header is not forwarded.
    Drop,
    /// The header is forwarded.
    Allow,
}

impl Paths {
    /// These, and where they say nothing, what `base` says.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self {
            encoded_slash: self.encoded_slash.or(base.encoded_slash),
            backslash: self.backslash.or(base.backslash),
            merge_slashes: self.merge_slashes.or(base.merge_slashes),
            non_ascii: self.non_ascii.or(base.non_ascii),
        }
    }
}

impl Headers {
    /// These, and where they say nothing, what `base` says.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self { underscore: self.underscore.or(base.underscore) }
    }
}

impl Read for Paths {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["encoded_slash", "backslash", "merge_slashes", "non_ascii"])?;
        let encoded_slash = fields.with("encoded_slash", |reader, node| {
            let words =
                [("refuse", EncodedSlash::Refuse), ("keep", EncodedSlash::Keep), ("decode", EncodedSlash::Decode)];
            reader.choose(node, &words)
        });
        let backslash = fields.with("backslash", |reader, node| {
            reader.choose(node, &[("refuse", Backslash::Refuse), ("keep", Backslash::Keep)])
        });
        let merge_slashes = fields.optional("merge_slashes");
        let non_ascii = fields.with("non_ascii", |reader, node| {
            let words = [("refuse", NonAscii::Refuse), ("encode", NonAscii::Encode), ("keep", NonAscii::Keep)];
            reader.choose(node, &words)
        });
        fields.done()?;
        Some(Self {
            encoded_slash: encoded_slash?,
            backslash: backslash?,
            merge_slashes: merge_slashes?,
            non_ascii: non_ascii?,
        })
    }
}

impl Read for Headers {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["underscore"])?;
        let underscore = fields.with("underscore", |reader, node| {
            let words = [("refuse", Underscore::Refuse), ("drop", Underscore::Drop), ("allow", Underscore::Allow)];
            reader.choose(node, &words)
        });
        fields.done()?;
        Some(Self { underscore: underscore? })
    }
}
