//! How the file is written: text into a tree in which every value knows its place, and values out of it, with every fault
//! noted. Nothing here knows a section of the file.
//!
//! ```text
//! text ─ yaml ─► tree ─ environment ─► tree ─ read, fields, scalar ─► values
//!                                               section: one table per section, from which its reader and schema come
//! problem: a fault with its place ─► diagnostic: the same for a person, with the source line
//! ```

pub(crate) mod diagnostic;
pub(crate) mod environment;
pub(crate) mod fields;
pub(crate) mod map;
pub(crate) mod mark;
pub(crate) mod problem;
pub(crate) mod read;
pub(crate) mod scalar;
pub(crate) mod schema;
pub(crate) mod section;
pub(crate) mod tree;
pub(crate) mod url;
pub(crate) mod values;
pub(crate) mod yaml;
