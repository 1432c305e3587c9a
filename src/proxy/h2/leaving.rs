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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::codec::frame::{Frame, FrameHead};

    /// What was written: the last ids of GOAWAY frames, and none for PINGs.
    fn frames(out: &mut Buffer) -> Vec<Option<u32>> {
        let mut found = Vec::new();
        while let Some(head) = FrameHead::read(out.data()) {
            let length = FrameHead::SIZE + head.length;
            let payload = out.data().get(FrameHead::SIZE..length).unwrap().to_vec();
            found.push(match Frame::parse(&head, &payload).unwrap() {
                Frame::GoAway { last, code: ErrorCode::NO_ERROR } => Some(last),
                Frame::Ping { ack: false, payload: PAYLOAD } => None,
                other => panic!("{other:?}"),
            });
            out.consume(length);
        }
        found
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_announced_before_it_is_said_which_stream_is_the_last() {
        let mut out = Buffer::default();
        let mut leaving = Leaving::default();
        assert!(!leaving.conclude(1, false, &mut out));
        leaving.announce(Instant::now() + GOODBYE, &mut out);
        leaving.announce(Instant::now() + GOODBYE, &mut out);
        assert_eq!(frames(&mut out), [Some(ANNOUNCED), None]);
        leaving.answered([0; 8]);
        assert!(!leaving.conclude(3, false, &mut out), "it was another PING");
        leaving.answered(PAYLOAD);
        assert!(leaving.conclude(5, false, &mut out) && leaving.conclude(7, false, &mut out));
        assert_eq!((frames(&mut out), leaving), (vec![Some(5)], Leaving::Last(5)), "said once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_answer_is_not_waited_for_for_ever() {
        let mut out = Buffer::default();
        let mut leaving = Leaving::default();
        leaving.announce(Instant::now() + GOODBYE, &mut out);
        tokio::time::advance(GOODBYE).await;
        assert!(leaving.conclude(1, false, &mut out));
        let mut leaving = Leaving::default();
        assert!(leaving.conclude(9, true, &mut out), "where nobody is served any more");
    }
}
