//! Why an exchange did not come to its regular end.

use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::request::end::End;
use crate::proxy::request::failure::{Failure, PROTOCOL, TIMEOUT};
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
    /// The endpoint's answer is thrown away, and the request is tried again.
    AskedAgain,
}

impl Broken {
    /// What the endpoint is to blame for, and a request may be tried again after.
    pub(crate) fn failure(self) -> Option<Failure> {
        match self {
            Self::Endpoint(failure) => Some(failure),
            Self::Ended(End::FirstByte) => Some(TIMEOUT),
            Self::ClientGone | Self::ClientSlow | Self::Client(_) | Self::Ended(_) | Self::AskedAgain => None,
        }
    }
}

/// The request's body is not framed as it may be.
pub(crate) const BAD_BODY: Broken = Broken::Client(BAD_REQUEST);

/// The endpoint's response is not HTTP.
pub(crate) const BAD_ANSWER: Broken = Broken::Endpoint(PROTOCOL);
