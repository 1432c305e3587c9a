//! What the express lane's two protocols share: a request's way from its version to its record, over a connection of our
//! own to its endpoint.

pub(crate) mod acquire;
pub(crate) mod broken;
pub(crate) mod context;
pub(crate) mod response;
pub(crate) mod upload;
