//! The rules for one request, each once: every lane asks here, and no lane is known here.

pub(crate) mod admit;
pub(crate) mod attempts;
pub(crate) mod breaker;
pub(crate) mod context;
pub(crate) mod decision;
pub(crate) mod end;
pub(crate) mod failure;
pub(crate) mod fault;
pub(crate) mod flags;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod kind;
pub(crate) mod local_response;
pub(crate) mod mirror;
pub(crate) mod permit;
pub(crate) mod record;
pub(crate) mod rescue;
pub(crate) mod response;
pub(crate) mod token;
pub(crate) mod trailers;
pub(crate) mod upload;
