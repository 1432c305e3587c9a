//! How a connection ends in good order: GOAWAY in two steps (RFC 9113 §6.8), so that a request that crosses the first one
//! is served.
//!
//! ```text
//! serving ─► announced: GOAWAY 2³¹−1 and a PING ─► last: GOAWAY with the last id ─► all streams over: closed
//!                                        └ the PING's answer, or a while
//! ```

use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::codec::frame::{self, ErrorCode};
use crate::proxy::io::buffer::Buffer;

/// The id with which a GOAWAY only announces the end.
const ANNOUNCED: u32 = (1 << 31) - 1;

/// What the PING behind it says.
const PAYLOAD: [u8; 8] = *b"weir-bye";

/// How long a client may take to answer that PING.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// How long one that gives way to another may take: somebody waits for its place.
pub(super) const GIVE_WAY: Duration = Duration::from_millis(250);

/// How far the end of a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leaving {
    #[default]
    Serving,
    /// The end is announced, and there is a limit to how long its answer is waited for.
    Announced { until: Instant, answered: bool },
    /// No stream above this one is served.
    Last(u32),
}

impl Leaving {
    /// The client answered a PING.
    pub(super) fn answered(&mut self, payload: [u8; 8]) {
        if let (Self::Announced { answered, .. }, PAYLOAD) = (self, payload) {
            *answered = true;
        }
    }

    /// Announces the end.
    pub(super) fn announce(&mut self, until: Instant, out: &mut Buffer) {
        match self {
            Self::Serving => {
                frame::go_away(out, ANNOUNCED, ErrorCode::NO_ERROR);
                frame::ping(out, false, &PAYLOAD);
                *self = Self::Announced { until, answered: false };
            }
            Self::Announced { until: limit, .. } => *limit = until.min(*limit),
            Self::Last(_) => {}
        }
    }

    /// Says which stream is the last, if it is time; `now`: without waiting for the client. Whether it is said.
    pub(super) fn conclude(&mut self, last: u32, now: bool, out: &mut Buffer) -> bool {
        let due = match *self {
            Self::Serving => now,
            Self::Announced { until, answered } => now || answered || Instant::now() >= until,
            Self::Last(_) => return true,
        };
        if due {
            frame::go_away(out, last, ErrorCode::NO_ERROR);
            *self = Self::Last(last);
        }
        due
    }

    /// Until when the client's answer is waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Announced { until, .. } => Some(*until),
            _ => None,
        }
    }
}
