//! How the end of a request's body is known.

/// How the end of a request's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1: there is no body.
    None,
    /// HTTP/1: this many bytes.
    Length(u64),
    /// HTTP/1: chunks until the empty one.
    Chunked,
    /// HTTP/2: frames until the end of the stream.
    Frames {
        /// The `content-length`, if the client states one.
        length: Option<u64>,
    },
}

impl Framing {
    /// Whether a body may follow.
    #[must_use]
    pub fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0) | Self::Frames { length: Some(0) })
    }
}
