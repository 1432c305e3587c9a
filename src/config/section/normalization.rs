//! What becomes of spellings that servers read in different ways: of paths, and of header names.
//!
//! Both sections stand at the top of the file for all listeners, and at a listener for that one; that of headers at a route
//! too. There each field stands by itself: what a route leaves out is as at the listener, what that leaves out is as at
//! the top, and what that leaves out has its default. A route has no `paths`, since it is found by the path.

use crate::config::syntax::section::{section, words};

section! {
    /// What becomes of paths that servers read in different ways. Routes match the form that is forwarded.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Paths {
        /// `%2F`: `keep` it as a part of its segment (default), `refuse` it with 400, or `decode` it to a slash.
        pub(crate) encoded_slash: Option<EncodedSlash> = optional(),
        /// A backslash, encoded or not: `refuse` it with 400 (default), or `keep` it as a part of its segment.
        pub(crate) backslash: Option<Backslash> = optional(),
        /// Whether a run of slashes becomes one; default: false, `//a` is another path than `/a`.
        pub(crate) merge_slashes: Option<bool> = optional(),
        /// UTF-8 that is not percent-encoded: `refuse` it with 400 (default), `encode` it, or `keep` it.
        pub(crate) non_ascii: Option<NonAscii> = optional(),
    }
}

words! {
    /// What becomes of `%2F` in a path.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum EncodedSlash {
        /// Answered with 400.
        Refuse = "refuse",
        /// A part of its segment.
        Keep = "keep",
        /// A slash.
        Decode = "decode",
    }
}

words! {
    /// What becomes of a backslash in a path.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Backslash {
        /// Answered with 400.
        Refuse = "refuse",
        /// A part of its segment.
        Keep = "keep",
    }
}

words! {
    /// What becomes of UTF-8 in a target that is not percent-encoded.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum NonAscii {
        /// Answered with 400.
        Refuse = "refuse",
        /// Percent-encoded.
        Encode = "encode",
        /// Forwarded as it came, matched as if it were encoded.
        Keep = "keep",
    }
}

section! {
    /// What becomes of headers whose names servers read in different ways.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Headers {
        /// A name with `_`, which many applications read as `-`: `drop` the header (default), `refuse` the request with 400,
        /// or `allow` it. gRPC calls to HTTP/2 endpoints keep them always.
        pub(crate) underscore: Option<Underscore> = optional(),
    }
}

words! {
    /// What becomes of a header whose name has an underscore.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Underscore {
        /// The request is answered with 400.
        Refuse = "refuse",
        /// The header is not forwarded.
        Drop = "drop",
        /// The header is forwarded.
        Allow = "allow",
    }
}

impl Paths {
    /// These, and where they say nothing, what `base` says.
    #[must_use]
    pub(crate) fn over(self, base: Self) -> Self {
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
    pub(crate) fn over(self, base: Self) -> Self {
        Self { underscore: self.underscore.or(base.underscore) }
    }
}
