//! What a client may do that costs more than it is worth: each kind has a bucket of tokens that fills with time.
//!
//! A flat count would end a sound connection that lives for long enough, so what is spent comes back. The bursts are far
//! beyond what sound clients do at once, the rates are what one connection may cost: about 1 % of a processor.

use tokio::time::Instant;

use crate::algorithm::token_bucket::TokenBucket;
use crate::telemetry::H2Abuse;

/// What a kind of frame costs: so many at once, and so many a second.
struct Rate {
    burst: u32,
    per_second: u32,
}

/// The rate of a kind.
const fn rate(kind: H2Abuse) -> Rate {
    match kind {
        // Before there is an answer. Each ends a request that was begun, and an HTTP/1 connection to its endpoint with it (CVE-2023-44487). A client
        // that cancels all its 100 streams at once may do so ten times. nghttp2 allows 1,000 and 33 a second.
        H2Abuse::Reset => Rate { burst: 1_000, per_second: 100 },
        // Errors of streams that the client brings about, which end requests as resets do (CVE-2025-8671).
        H2Abuse::StreamError => Rate { burst: 2_000, per_second: 200 },
        // Each wants an answer. gRPC clients send one in ten seconds, and one with each window for its estimates.
        H2Abuse::Ping => Rate { burst: 200, per_second: 50 },
        // Each wants an answer and may change all windows. Clients send one or two in all.
        H2Abuse::Settings => Rate { burst: 50, per_second: 2 },
        // Firefox sends six at the beginning, and one with each request (RFC 7540 §5.3).
        H2Abuse::Priority => Rate { burst: 1_000, per_second: 500 },
        // Allowed, and of no use but for the last one. Some clients flush each message with one.
        H2Abuse::EmptyData => Rate { burst: 2_000, per_second: 200 },
        // Messages of some bytes are what streams are for, and a client may have saved up many: one costs as much as a
        // field of a head.
        H2Abuse::SmallData => Rate { burst: 100_000, per_second: 20_000 },
        // One for some KiB that were sent, and on streams that are gone.
        H2Abuse::WindowUpdate => Rate { burst: 20_000, per_second: 10_000 },
        // Frames of kinds that nobody knows, and on streams that are gone (RFC 9113 §5.5).
        H2Abuse::Stray => Rate { burst: 1_000, per_second: 200 },
        // Not counted by time: a bound on each header block.
        H2Abuse::Continuation | H2Abuse::HeaderList => Rate { burst: 0, per_second: 0 },
    }
}

/// Kinds that have a bucket.
const KINDS: usize = 9;

/// DATA below this is small, in bytes.
pub(super) const SMALL: usize = 64;

/// How much a connection has spent.
#[derive(Debug)]
pub(super) struct Budget {
    buckets: [TokenBucket; KINDS],
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { buckets: [TokenBucket::full(); KINDS] }
    }

    /// Spends one token. The clock is read only where half of them are gone.
    ///
    /// # Errors
    /// The kind, if there is none left.
    #[inline]
    pub(super) fn spend(&mut self, kind: H2Abuse) -> Result<(), H2Abuse> {
        let Some(bucket) = self.buckets.get_mut(kind as usize) else { return Err(kind) };
        let Rate { burst, per_second } = rate(kind);
        if bucket.take(1, burst / 2) {
            return Ok(());
        }
        bucket.refill(Instant::now().into_std(), per_second);
        if bucket.take(1, burst) { Ok(()) } else { Err(kind) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALL: [H2Abuse; KINDS] = [
        H2Abuse::Reset,
        H2Abuse::StreamError,
        H2Abuse::Ping,
        H2Abuse::Settings,
        H2Abuse::Priority,
        H2Abuse::EmptyData,
        H2Abuse::SmallData,
        H2Abuse::WindowUpdate,
        H2Abuse::Stray,
    ];

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_and_a_steady_client_never_does() {
        for kind in ALL {
            let Rate { burst, per_second } = rate(kind);
            let mut budget = Budget::new();
            let endured = (0..).take_while(|_| budget.spend(kind).is_ok()).count();
            assert_eq!(endured, burst as usize, "{kind:?}");
            let mut budget = Budget::new();
            // Twenty seconds at half the rate.
            for _ in 0..u64::from(per_second) * 10 {
                tokio::time::advance(Duration::from_micros(2_000_000 / u64::from(per_second))).await;
                assert_eq!(budget.spend(kind), Ok(()), "{kind:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_comes_back() {
        let mut budget = Budget::new();
        while budget.spend(H2Abuse::Ping).is_ok() {}
        tokio::time::advance(Duration::from_secs(1)).await;
        let again = (0..).take_while(|_| budget.spend(H2Abuse::Ping).is_ok()).count();
        assert_eq!(again, 50);
    }
}
