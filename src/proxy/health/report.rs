//! What the log says of changes: once for each, and no more lines than somebody reads.

use std::time::Instant;

use crate::algorithm::token_bucket::TokenBucket;
use crate::snapshot::live::{EndpointLive, Out};

/// Lines at once.
const BURST: u32 = 20;
/// Lines a second, in the long run.
const PER_SECOND: u32 = 1;

/// Writes changes of health to the log.
#[derive(Debug)]
pub(super) struct Report {
    bucket: TokenBucket,
    /// Changes that were not written.
    left_out: u64,
}

impl Default for Report {
    fn default() -> Self {
        Self { bucket: TokenBucket::full(), left_out: 0 }
    }
}

impl Report {
    /// An endpoint went out or came back.
    pub(super) fn changed(&mut self, name: &str, endpoint: &EndpointLive, now: Instant) {
        self.bucket.refill(now, PER_SECOND);
        if !self.bucket.take(1, BURST) {
            self.left_out += 1;
            return;
        }
        if self.left_out > 0 {
            tracing::warn!(changes = self.left_out, "changes of endpoints' health that are not in this log");
            self.left_out = 0;
        }
        let of = &endpoint.health.of_version;
        let (service, version) = (&*of.service, &*of.version);
        let report = endpoint.health.report();
        let why = report.why.as_deref().unwrap_or_default();
        if endpoint.state.is_out(Out::Unreachable) {
            tracing::warn!(
                service,
                version,
                endpoint = name,
                why,
                "an endpoint cannot be reached; it is out until it accepts connections"
            );
        } else if endpoint.state.is_out(Out::Unhealthy) {
            tracing::warn!(
                service,
                version,
                endpoint = name,
                why,
                "an endpoint fails its checks; it is out until it passes them"
            );
        } else if endpoint.state.is_out(Out::Ejected) {
            let seconds = report.ejected.map_or(0, |ejected| (ejected.until - ejected.since).as_secs());
            tracing::warn!(service, version, endpoint = name, why, seconds, "an endpoint is ejected for a time");
        } else {
            tracing::info!(service, version, endpoint = name, "an endpoint is back");
        }
    }
}
