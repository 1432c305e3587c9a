//! How a request may end from outside, and how long what ends it takes: the same for every lane.

use std::time::Duration;

/// Why an exchange was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The endpoint sent no first byte in time.
    FirstByte,
    /// Neither side sent anything for too long.
    Idle,
    /// The client stopped in the middle of its request.
    Upload,
    /// The client had ended its half of the connection, and the stream was silent for too long.
    Left,
    /// The drain's deadline, or the process's.
    Cut,
    /// The client did not read the answer or the endpoint the request, and what is held for such ones was too much.
    Unread,
}

/// How long a gentle end may take before the exchange is dropped.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// An unread request body is read for at most this long.
pub(crate) const BODY_DRAIN: Duration = Duration::from_secs(1);

/// How long a response of our own may take to be taken.
pub(crate) const LOCAL_RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a client that has ended its half of the connection is looked at: nothing wakes us when it goes.
pub(crate) const HALF_CLOSED_CHECK: Duration = Duration::from_secs(1);
