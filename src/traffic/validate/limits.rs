//! How much of a request is too much, and how it is read.

use super::spelling::{Paths, Underscore};

/// How much of a request is too much, and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest method, in bytes.
    pub(crate) method_bytes: usize,
    /// The longest request target, in bytes.
    pub(crate) target_bytes: usize,
    /// The most header fields.
    pub(crate) fields: usize,
    /// The largest header, in bytes: names, values and four bytes a field.
    pub(crate) header_bytes: usize,
    /// The largest body whose length is declared, in bytes; `None` for any. Bodies of undeclared length are
    /// the forwarder's to count.
    pub(crate) body_bytes: Option<u64>,
    /// What becomes of odd spellings in the path.
    pub(crate) paths: Paths,
    /// What becomes of header names with an underscore. Validation only sees whether there are any: a route may say
    /// something of its own.
    pub(crate) underscore: Underscore,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            method_bytes: 32,
            target_bytes: 8 * 1024,
            fields: 100,
            header_bytes: 32 * 1024,
            body_bytes: None,
            paths: Paths::default(),
            underscore: Underscore::default(),
        }
    }
}
