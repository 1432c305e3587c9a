//! HTTP as bytes: heads, bodies and header blocks, read and written without knowing who serves them.

pub(crate) mod body;
pub(crate) mod date;
#[allow(dead_code, unused_imports, reason = "the lanes of HTTP/2 are being built on it")]
pub(crate) mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod h2;
pub(crate) mod head;
#[allow(dead_code, unused_imports, reason = "the lanes of HTTP/2 are being built on it")]
pub(crate) mod hpack;
pub(crate) mod response;
pub(crate) mod target;
