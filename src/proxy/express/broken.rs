//! Why an exchange did not come to its regular end.

use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::request::end::End;
use crate::proxy::request::failure::{Failure, PROTOCOL};
use crate::traffic::Refusal;

/// Why an exchange did not come to its regular end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The client went away.
    ClientGone,
    /// The client took nothing for `write_timeout`.
    ClientSlow,
    /// The request's body is not what it may be.
    Client(Refusal),
    /// The endpoint is to blame.
    Endpoint(Failure),
    /// It was ended from outside.
    Ended(End),
}

/// The request's body is not framed as it may be.
pub(crate) const BAD_BODY: Broken = Broken::Client(BAD_REQUEST);

/// The endpoint's response is not HTTP.
pub(crate) const BAD_ANSWER: Broken = Broken::Endpoint(PROTOCOL);
