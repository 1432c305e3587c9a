//! Small algorithms of the literature that several rooms need, once each.

pub(crate) mod fnv;
pub(crate) mod nearest;
pub(crate) mod random;
