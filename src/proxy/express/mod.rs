//! What the express lane's two protocols share: a request's way from its version to its record, over a connection of our
//! own to its endpoint.

pub(crate) mod acquire;
pub(crate) mod broken;
pub(crate) mod context;
pub(crate) mod response;
pub(crate) mod tunnel;
pub(crate) mod upload;

/// Why a connection leaves the express lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is over.
    Over,
    /// It is over because a head took too long.
    SlowHead,
    /// What came is not for this lane.
    Other,
}
