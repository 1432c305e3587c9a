//! The recorder's counters of a version as the judge takes them.

use std::sync::Arc;
use std::time::Duration;

use crate::rollout::evidence::{EndpointTally, Sample, Tally};
use crate::telemetry::{Class, RetryReason, UpstreamError, VersionSeries};

/// One version's counters, and the edges of its histograms.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    series: Arc<VersionSeries>,
    edges: Arc<[Duration]>,
}

impl Counters {
    pub(super) fn of(series: Arc<VersionSeries>) -> Self {
        let edges = series.edges().durations().collect();
        Self { series, edges }
    }

    /// The version's totals now, with what its endpoints did, where that is counted.
    pub(super) fn totals(&self, endpoints: Vec<EndpointTally>) -> Sample {
        let Self { series, edges } = self;
        let totals = series.totals();
        let groups = series.client_groups().unwrap_or_default();
        let class = |class: Class| totals.by_class.get(class.index()).copied().unwrap_or_default();
        Sample {
            covered: Duration::ZERO,
            successes: class(Class::Informational) + class(Class::Success) + class(Class::Redirection),
            client_errors: class(Class::ClientError),
            server_errors: class(Class::ServerError),
            grpc_failures: series.grpc_failures(),
            client_closed: class(Class::ClientClosed),
            own: UpstreamError::ALL.iter().map(|kind| (kind.as_str(), answered_for(series, *kind))).collect(),
            abandoned: series.abandoned_by_bucket(),
            edges: Arc::clone(edges),
            endpoints,
            clients: groups.into_iter().map(|(requests, bad)| Tally { requests, bad }).collect(),
            buckets: totals.buckets,
        }
    }
}

/// Failed attempts of a kind that Weir had to answer for.
fn answered_for(series: &VersionSeries, kind: UpstreamError) -> u64 {
    // An attempt that was repeated was not answered by Weir.
    let repeated = match kind {
        UpstreamError::Connect => series.retries(RetryReason::Connect),
        UpstreamError::Reset => series.retries(RetryReason::Reused) + series.retries(RetryReason::Reset),
        UpstreamError::Protocol => series.retries(RetryReason::Protocol),
        UpstreamError::Timeout => series.retries(RetryReason::Timeout),
        // Nobody waited for it: no attempt failed.
        UpstreamError::Unsolicited => return 0,
        UpstreamError::Tls | UpstreamError::NoEndpoint | UpstreamError::Overflow => 0,
    };
    series.upstream_errors(kind).saturating_sub(repeated)
}
