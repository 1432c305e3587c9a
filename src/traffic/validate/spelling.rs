//! What becomes of spellings that servers read in different ways, where it is for the operator to say.
//!
//! Validation cannot know what an endpoint makes of `%2F`, `//` or `x_user`; who runs both does. Whatever is chosen, the
//! form that is matched is the form that is forwarded, so no choice lets a request past the route that its path names.
//! It can only let it past what the *endpoint* makes of that path.

/// What becomes of odd spellings in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    /// `%2F`.
    pub(crate) encoded_slash: EncodedSlash,
    /// `\` and `%5C`.
    pub(crate) backslash: Backslash,
    /// Whether a run of slashes becomes one.
    pub(crate) merge_slashes: bool,
    /// Bytes beyond ASCII, in the query too.
    pub(crate) non_ascii: NonAscii,
}

/// What becomes of `%2F` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EncodedSlash {
    /// It is answered with 400.
    Refuse,
    /// It stays, as a part of its segment.
    #[default]
    Keep,
    /// It becomes a slash, before dot segments are resolved.
    Decode,
}

/// What becomes of a backslash in a path, encoded or not. Some servers take it for a slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Backslash {
    /// It is answered with 400.
    #[default]
    Refuse,
    /// It stays, as a part of its segment.
    Keep,
}

/// What becomes of UTF-8 beyond ASCII in a target, where RFC 3986 wants it percent-encoded. Other bytes are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NonAscii {
    /// It is answered with 400.
    #[default]
    Refuse,
    /// It is percent-encoded.
    Encode,
    /// It is forwarded as it came, and matched as if it were encoded.
    Keep,
}

/// What becomes of a header whose name has an underscore. Many endpoints (CGI, WSGI, Rack, PHP) read it as a hyphen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Underscore {
    /// The request is answered with 400.
    Refuse,
    /// The header is not forwarded.
    #[default]
    Drop,
    /// It is forwarded.
    Allow,
}
