//! Floods of frames that bring nothing: each costs work and perhaps an answer, so an endpoint may send some now and then,
//! and as many more as useful traffic goes by.
//!
//! A bucket of tokens, which fills with time and with traffic. A flat number would do harm: servers that measure the way
//! by a PING for every few frames of an upload, or that give their window back byte by byte, are sound
//! (see grpc-go's bandwidth estimator), and a connection lives for days.

use tokio::time::Instant;

use crate::algorithm::token_bucket::TokenBucket;

/// Frames that bring nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nuisance {
    Ping,
    Settings,
    /// DATA without bytes, an end or padding.
    EmptyData,
    WindowUpdate,
    /// RST_STREAM and field sections of a stream that is over.
    Late,
    Continuation,
    Informational,
    /// PRIORITY, which means nothing any more, and types that nobody knows.
    Other,
}

/// What an endpoint may still send of them.
#[derive(Debug)]
pub(super) struct Tokens(TokenBucket);

/// So many at once: a second's worth of a server that pings with each frame, and 0.2 s of our time at most.
const BURST: u32 = 10_000;

/// So many a second come back.
const EACH_SECOND: u32 = 1_000;

/// SETTINGS cost an answer and a look at every stream.
const SETTINGS_COST: u32 = 10;

/// One for so many bytes that were sent: servers that give their window back in the smallest pieces known do it so.
const BYTES: usize = 256;

/// At least so many for a frame that was sent, two windows and a PING.
const EACH_FRAME: u32 = 4;

impl Tokens {
    pub(super) const fn new() -> Self {
        Self(TokenBucket::full())
    }

    /// One of them came; whether that is too many.
    pub(super) fn is_flood(&mut self, of: Nuisance) -> bool {
        let cost = if of == Nuisance::Settings { SETTINGS_COST } else { 1 };
        !self.0.take(cost, BURST)
    }

    /// A frame with so many bytes of a body was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.0.give(u32::try_from(bytes / BYTES).unwrap_or(BURST).max(EACH_FRAME));
    }

    /// A frame that brings something came.
    pub(super) fn useful(&mut self) {
        self.0.give(EACH_FRAME);
    }

    /// Time passed.
    pub(super) fn passed(&mut self, now: Instant) {
        self.0.refill(now.into_std(), EACH_SECOND);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_one_and_what_time_or_traffic_pays_for_is_none() {
        let mut tokens = Tokens::new();
        assert!(!(0..BURST).any(|_| tokens.is_flood(Nuisance::Ping)));
        assert!(tokens.is_flood(Nuisance::Ping));
        let start = Instant::now();
        tokens.passed(start);
        assert!(tokens.is_flood(Nuisance::EmptyData), "nothing has passed yet");
        tokens.passed(start + Duration::from_secs(2));
        assert!(!(0..2_000).any(|_| tokens.is_flood(Nuisance::Late)));
        assert!(tokens.is_flood(Nuisance::Late));
        // Gives back its window in pieces of 1 KiB, of the stream and of the connection, and measures the way.
        for _ in 0..100_000 {
            tokens.sent(16 * 1024);
            assert!(!(0..32).any(|_| tokens.is_flood(Nuisance::WindowUpdate)) && !tokens.is_flood(Nuisance::Ping));
        }
    }

    #[test]
    fn time_does_not_pay_ahead() {
        let mut tokens = Tokens::new();
        let start = Instant::now();
        tokens.passed(start);
        tokens.passed(start + Duration::from_secs(86_400));
        assert!((0..=BURST).any(|_| tokens.is_flood(Nuisance::Ping)));
    }
}
