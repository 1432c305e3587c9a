//! How the file is written: text into a tree in which every value knows its place, and values out of it, with every fault
//! noted. Nothing here knows a section of the file.

pub(crate) mod diagnostic;
pub(crate) mod environment;
pub(crate) mod map;
pub(crate) mod problem;
pub(crate) mod read;
pub(crate) mod scalar;
pub(crate) mod url;
pub(crate) mod values;
pub(crate) mod yaml;
