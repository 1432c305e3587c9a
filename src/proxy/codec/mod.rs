//! HTTP as bytes: heads, bodies and header blocks, read and written without knowing who serves them.

pub(crate) mod body;
mod chunk;
pub(crate) mod date;
pub(crate) mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod h2;
pub(crate) mod head;
pub(crate) mod hpack;
pub(crate) mod reframing;
pub(crate) mod response;
pub(crate) mod target;
