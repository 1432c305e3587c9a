//! Small algorithms that several rooms need, once each.

pub(crate) mod binomial;
pub(crate) mod decimal;
pub(crate) mod fnv;
pub(crate) mod nearest;
pub(crate) mod random;
pub(crate) mod ring;
pub(crate) mod token_bucket;
