//! The rules for one request, each once: every lane asks here, and no lane is known here.

pub(crate) mod admit;
pub(crate) mod breaker;
pub(crate) mod failure;
pub(crate) mod fault;
pub(crate) mod headers;
pub(crate) mod record;
pub(crate) mod upload;
