//! The table of metrics: what is exposed, of which kind, with which labels.
//!
//! The exposition can only write what is in here, and a test compares the documentation with it. The
//! `process_*` metrics come from the `prometheus` crate and are not in the table.
//!
//! Invariants: base units; a counter ends in `_total`; label values come from the configuration or from a
//! closed set, never from a client.

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its kind.
    pub(crate) kind: MetricKind,
    /// The names of its labels, in the order in which they are written.
    pub(crate) labels: &'static [&'static str],
    /// One sentence for the person who meets it on a dashboard.
    pub(crate) help: &'static str,
}

/// What a metric's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket, with a count and a sum.
    Histogram,
}

/// Defines the metrics as constants and lists them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(super) const $constant: Metric =
            Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help };)+

        /// All metrics but `process_*`, in the order in which they are exposed.
        #[cfg(test)]
        pub(crate) const METRICS: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    REQUESTS = Counter "weir_requests_total" ["service", "version", "route", "code"]
        "Finished requests by the status their client got; client_closed if it went away before that.";
    REQUEST_DURATION = Histogram "weir_request_duration_seconds" ["service", "version"]
        "Duration of requests as their client saw it; for upgraded connections and event streams the time to the first byte.";
    UPSTREAM_DURATION = Histogram "weir_upstream_duration_seconds" ["service", "version"]
        "Time from sending a request to an endpoint to the first byte of its response.";
    FLAG_REQUESTS = Counter "weir_flag_requests_total" ["flag", "value", "code"]
        "Finished requests by the value that a flag had for them and the status their client got.";
    FLAG_DURATION = Histogram "weir_flag_request_duration_seconds" ["flag", "value"]
        "Duration of requests by the value that a flag had for them.";
    IN_FLIGHT = Gauge "weir_requests_in_flight" ["service", "version"]
        "Requests in flight, streams included.";
    STREAMS = Gauge "weir_streams_open" ["service", "version", "kind"]
        "Open streams by kind.";
    UPSTREAM_ERRORS = Counter "weir_upstream_errors_total" ["service", "version", "kind"]
        "Failed attempts to get a response from an endpoint, those that were repeated included.";
    UPSTREAM_RETRIES = Counter "weir_upstream_retries_total" ["service", "version", "reason"]
        "Attempts that were repeated, by the reason for it.";
    RETRY_OVERFLOW = Counter "weir_upstream_retry_overflow_total" ["service", "version"]
        "Retries that were not made because the budget of retries under way had no room for them.";
    RESCUED = Counter "weir_rescued_requests_total" ["service", "version"]
        "Requests that failed on this version, the canary of a rollout, and that stable then answered without an error.";
    MIRROR_REQUESTS = Counter "weir_mirror_requests_total" ["service", "version", "outcome"]
        "Copies of requests for the version that is the service's mirror, by what became of them.";
    MIRROR_COMPARED = Counter "weir_mirror_compared_total" ["service", "version", "route", "result"]
        "Copies whose responses from both versions were compared, by how they differ.";
    UPSTREAM_CONNECTS = Counter "weir_upstream_connects_total" ["service", "version"]
        "Connections made to endpoints for requests; the others of weir_requests_total went over one that was there.";
    SPLIT_WEIGHT = Gauge "weir_split_weight_ratio" ["service", "version", "kind"]
        "Share of the service's traffic, 0 to 1: as configured, and as in effect with what takes no traffic left out.";
    SPLIT_DECISIONS = Counter "weir_split_decisions_total" ["service", "version", "reason"]
        "Requests given to the version, by the reason for it.";
    COHORT_DECISIONS = Counter "weir_cohort_decisions_total" ["service", "cohort", "version"]
        "Requests of the cohort given to the version, by the cohort's own split.";
    ENDPOINT_UP = Gauge "weir_endpoint_up" ["service", "version", "endpoint"]
        "1 if the endpoint takes requests: it is ready, and nothing is known against its health; else 0.";
    ENDPOINT_STATE = Gauge "weir_endpoint_state" ["service", "version", "endpoint", "state"]
        "1 for the state the endpoint is in, 0 for the others.";
    ENDPOINT_CONNECTS = Counter "weir_endpoint_connects_total" ["service", "version", "endpoint"]
        "Connections made to the endpoint.";
    ENDPOINT_FAILURES = Counter "weir_endpoint_failures_total" ["service", "version", "endpoint", "cause"]
        "What failed on the endpoint: connects, and attempts of requests, by cause.";
    ENDPOINT_EJECTIONS = Counter "weir_endpoint_ejections_total" ["service", "version", "endpoint", "reason"]
        "How often the endpoint was taken out for its health, by the reason for it.";
    ENDPOINT_CHECKS = Counter "weir_endpoint_checks_total" ["service", "version", "endpoint", "result"]
        "Active health checks of the endpoint, by how they ended.";
    VERSION_PANIC = Gauge "weir_version_panic" ["service", "version"]
        "1 while the health of the version's endpoints is ignored because too few are available, else 0.";
    LIMIT_USED = Gauge "weir_limit_used" ["service", "version", "limit"]
        "What is in use of a limit of the version: requests in flight, or connections to its endpoints.";
    LIMIT_WAITING = Gauge "weir_limit_waiting" ["service", "version", "limit"]
        "Requests that wait because a limit of the version is reached.";
    DRAIN_CUT = Counter "weir_drain_cut_total" ["service", "version", "kind"]
        "Requests and streams that were cut because their drain's deadline came.";
    GRPC_FAILURES = Counter "weir_grpc_failures_total" ["service", "version"]
        "Finished gRPC calls whose status blames the server: unknown, deadline, unimplemented, internal, unavailable, data loss.";
    INJECTED_FAULTS = Counter "weir_drill_faults_total" ["service", "version", "kind"]
        "Faults that drills put into the version's responses on purpose.";
    ROLLOUT_PHASE = Gauge "weir_rollout_phase" ["service", "phase"]
        "1 for the phase the service's rollout is in, 0 for the others.";
    ROLLOUT_STEP = Gauge "weir_rollout_step" ["service"]
        "Steps that the service's rollout has taken.";
    ROLLOUT_CHECKS = Counter "weir_rollout_checks_total" ["service", "check", "verdict"]
        "Verdicts of the rollout's checks, by what they found.";
    ROLLOUT_TRANSITIONS = Counter "weir_rollout_transitions_total" ["service", "to", "reason"]
        "Phases that the service's rollout entered, by who or what decided.";
    DNS_LOOKUPS = Counter "weir_dns_lookups_total" ["result"]
        "Lookups of the DNS names of endpoints, by how they ended.";
    DNS_LAST_ANSWER = Gauge "weir_dns_last_answer_timestamp_seconds" ["name"]
        "When the name was last looked up with success, in seconds since the Unix epoch; 0 before the first time.";
    LANE_REQUESTS = Counter "weir_lane_requests_total" ["lane"]
        "Requests by the lane that carried them: express for HTTP/1.1 and HTTP/2, general for all else.";
    CONFIG_RELOADS = Counter "weir_config_reloads_total" ["result"]
        "Reloads of the configuration since the start.";
    CONFIG_LAST_SUCCESSFUL = Gauge "weir_config_last_reload_successful" []
        "1 if the newest configuration that was read is in effect, 0 if it was refused.";
    CONFIG_LAST_SUCCESS = Gauge "weir_config_last_reload_success_timestamp_seconds" []
        "When a configuration last took effect, in seconds since the Unix epoch.";
    CONFIG_INFO = Gauge "weir_config_info" ["hash"]
        "1, with the hash of the configuration in effect.";
    CERTIFICATE_RELOADS = Counter "weir_certificate_reloads_total" ["result"]
        "Listeners whose certificates were replaced, and files that could not be used when they were read again.";
    CERTIFICATES_FAULTY = Gauge "weir_certificates_faulty" []
        "Certificates and authorities of listeners that cannot be used or are out of their time.";
    CONNECTIONS = Gauge "weir_client_connections" ["listener"]
        "Open client connections.";
    CONNECTIONS_ACCEPTED = Counter "weir_client_connections_accepted_total" ["listener"]
        "Client connections accepted.";
    CONNECTIONS_REFUSED = Counter "weir_client_connections_refused_total" ["listener", "reason"]
        "Client connections closed before they carried a request, by the reason for it.";
    UNREAD_BYTES = Gauge "weir_unread_bytes" []
        "What requests hold at most whose clients or endpoints do not read.";
    UNREAD_CUT = Counter "weir_unread_cut_total" []
        "Requests cut because more than limits.unread_bytes was held for clients and endpoints that do not read.";
    H2_ABUSE = Counter "weir_client_abuse_total" ["kind"]
        "HTTP/2 connections of clients ended because of what the client did, by what that was.";
    ACCESS_LOG_DROPPED = Counter "weir_access_log_dropped_total" []
        "Access log lines that were not written because the log could not keep up or failed.";
    LOG_DROPPED = Counter "weir_log_dropped_total" []
        "Messages of the log that were not written because standard error was not read in time or failed.";
    BUILD_INFO = Gauge "weir_build_info" ["version", "revision"]
        "1, with what was built.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_unit_and_counters_end_in_total() {
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("weir_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
            assert_eq!(
                name.contains("duration") || name.contains("timestamp"),
                name.ends_with("_seconds"),
                "{name}: times are in seconds"
            );
            for unit in ["_ms", "_milliseconds", "_micros", "_percent", "_count", "_sum", "_bucket"] {
                assert!(!name.ends_with(unit), "{name}");
            }
            assert!(metric.help.ends_with('.') && metric.help.len() < 140, "{name}");
            assert!(!metric.labels.contains(&"le") && !metric.labels.contains(&"quantile"), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }

    /// The names that dashboards and alerts out there rely on.
    #[test]
    fn names_and_labels_are_those_of_the_contract() {
        const CONTRACT: &str = "\
            weir_requests_total{service,version,route,code} weir_request_duration_seconds{service,version} \
            weir_upstream_duration_seconds{service,version} weir_requests_in_flight{service,version} \
            weir_streams_open{service,version,kind} weir_upstream_errors_total{service,version,kind} \
            weir_upstream_retries_total{service,version,reason} weir_split_weight_ratio{service,version,kind} \
            weir_split_decisions_total{service,version,reason} weir_endpoint_up{service,version,endpoint} \
            weir_endpoint_state{service,version,endpoint,state} weir_drain_cut_total{service,version,kind} \
            weir_config_reloads_total{result} weir_config_last_reload_successful \
            weir_config_last_reload_success_timestamp_seconds weir_config_info{hash} \
            weir_rollout_phase{service,phase} weir_rollout_step{service} weir_rollout_checks_total{service,check,verdict} \
            weir_rollout_transitions_total{service,to,reason} \
            weir_client_connections{listener} weir_build_info{version,revision}";
        let ours: Vec<String> = METRICS
            .iter()
            .map(|metric| match metric.labels {
                [] => metric.name.to_owned(),
                labels => format!("{}{{{}}}", metric.name, labels.join(",")),
            })
            .collect();
        for metric in CONTRACT.split_whitespace() {
            assert!(ours.iter().any(|our| our == metric), "{metric} is missing");
        }
        assert_eq!(METRICS.len(), CONTRACT.split_whitespace().count() + 29, "29 that the contract does not list");
    }
}
