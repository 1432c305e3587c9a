//! HTTP/2 under the `h2` crate: frames and header blocks are read first, so that what is malformed costs its stream only.

pub(crate) mod blocks;
pub(crate) mod frames;
pub(crate) mod requests;
