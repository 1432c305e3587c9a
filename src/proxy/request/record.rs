//! The last stage of a request: counters, in-flight, access log. One place for all of them.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::attempts::Attempts;
use super::breaker;
use super::context::{Assignment, Logged, RequestProgress};
use super::decision::decision;
use super::failure::Failure;
use crate::drain::Kind;
use crate::proxy::shared::Shared;
use crate::snapshot::Version;
use crate::snapshot::live::EndpointLive;
use crate::telemetry::access_log::Line;
use crate::telemetry::{Class, CutKind, Lane, Outcome, RouteSeries, StreamKind};
use crate::traffic::split::Reason;

/// A request that is over, as every lane reports it.
pub(crate) struct Finished<'a> {
    pub(crate) lane: Lane,
    /// Where it went, and what was tried there; none if it was refused before that was decided.
    pub(crate) assigned: Option<(Assignment<'a>, &'a Attempts)>,
    pub(crate) progress: &'a RequestProgress,
    /// From its head to its end.
    pub(crate) duration: Duration,
    /// What the access log says beside; none if there is none.
    pub(crate) logged: Option<&'a Logged>,
}

/// Records a request that is over.
pub(crate) fn record(shared: &Shared, finished: &Finished<'_>) {
    let &Finished { progress, duration, .. } = finished;
    let (outcome, cut) = (progress.outcome(), progress.is_cut());
    if cut {
        shared.cut.fetch_add(1, Ordering::Relaxed);
    }
    match &finished.assigned {
        Some((assignment, attempts)) => {
            attempts.over(assignment.version);
            // Of a stream without end only the time to its first byte says something about the version.
            let long = matches!(progress.kind, Kind::Sse | Kind::WebSocket | Kind::Upgrade);
            let seen = if long { progress.answered_after.unwrap_or(duration) } else { duration };
            count(assignment, attempts.endpoint(), progress, seen);
            let failed = matches!(outcome.class(), Class::ServerError) || outcome == Outcome::ClientClosed;
            if let Some(from) = rescued_from(*assignment, attempts).filter(|_| !failed) {
                from.series.rescued();
            }
            for (service, flag, value) in assignment.flags.iter() {
                if let Some((series, version)) = flag.series.get(value).zip(service.versions.get(value)) {
                    Seen::of(assignment, progress, seen).count(series, version, None);
                }
            }
        }
        None => shared.recorder.unmatched().finish(outcome, duration),
    }
    if shared.access_log.enabled()
        && let Some(logged) = finished.logged
    {
        shared.access_log.log(&line(finished, logged, outcome));
    }
    shared.recorder.lanes().left(finished.lane);
}

/// Counts a request for its version, by how it ended there after so long; `endpoint`: the index of the one that had it last.
pub(crate) fn count(assignment: &Assignment<'_>, endpoint: Option<usize>, progress: &RequestProgress, seen: Duration) {
    let &Assignment { route, version, version_at, .. } = assignment;
    if let Some(series) = route.series.get(version_at) {
        let endpoint = endpoint.and_then(|at| version.endpoints.get(at));
        Seen::of(assignment, progress, seen).count(series, version, endpoint.map(|endpoint| &*endpoint.live));
        if progress.is_cut() {
            series.version().cut(stream(progress.kind).map_or(CutKind::Request, CutKind::from));
        }
    }
}

/// What a finished request says about a version of its service, or about a value of a flag.
struct Seen<'a> {
    progress: &'a RequestProgress,
    outcome: Outcome,
    /// As its client saw it; of a stream the time to its first byte.
    duration: Duration,
    /// The affinity key of its client.
    client: Option<u64>,
    /// Whether it says something about the version at all.
    is_evidence: bool,
}

impl<'a> Seen<'a> {
    fn of(assignment: &Assignment<'_>, progress: &'a RequestProgress, duration: Duration) -> Self {
        // A tester who asks for a version by its name is no user of it, and may well try what fails.
        let asked_for = assignment.reason == Reason::Override;
        Self {
            progress,
            outcome: progress.outcome(),
            duration,
            // Who is elsewhere than its key says (failover) is there for once.
            client: assignment.key.filter(|_| assignment.reason == Reason::Affinity),
            is_evidence: !(assignment.route.probe || asked_for || progress.cause.is_some_and(Failure::is_nobodys)),
        }
    }

    /// Counts it in `series`, and on the breaker of `version`, which `endpoint` is of.
    fn count(&self, series: &RouteSeries, version: &Version, endpoint: Option<&EndpointLive>) {
        let &Self { progress, outcome, duration, client, is_evidence } = self;
        if !is_evidence {
            series.count(outcome);
            return;
        }
        series.finish(outcome, duration);
        if progress.grpc_failed && outcome.class() != Class::ServerError {
            series.version().grpc_failed();
        }
        if outcome == Outcome::ClientClosed && progress.answered_after.is_none() {
            series.version().abandoned(duration);
        }
        if let Some(client) = client.filter(|_| outcome != Outcome::ClientClosed) {
            let failed = progress.grpc_failed || outcome.class() == Class::ServerError;
            series.version().of_client(client, failed);
        }
        if let Some(breaker) = version.breaker.as_deref() {
            breaker::observe(breaker, progress, series.version(), endpoint);
        }
    }
}

/// The version on which a request failed before the one that it has.
fn rescued_from<'a>(assignment: Assignment<'a>, attempts: &Attempts) -> Option<&'a Version> {
    assignment.service.versions.get(attempts.rescued_from()?)
}

/// The request's line in the access log.
fn line<'a>(finished: &Finished<'a>, logged: &'a Logged, outcome: Outcome) -> Line<'a> {
    let &Finished { lane, progress, duration, .. } = finished;
    let (assignment, attempts) = finished.assigned.unzip();
    let endpoint =
        attempts.and_then(Attempts::endpoint).zip(assignment).and_then(|(at, to)| to.version.endpoints.get(at));
    Line {
        time: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
        request_id: Some(&logged.request_id),
        client: logged.client,
        listener: Some(&logged.listener),
        protocol: logged.protocol,
        method: &logged.method,
        host: &logged.host,
        path: &logged.path,
        route: assignment.map(|to| &to.route.name),
        service: assignment.map(|to| &to.service.name),
        version: assignment.map(|to| &to.version.name),
        why: assignment.map(|to| decision(to.reason)),
        cohort: assignment.and_then(|to| to.cohort),
        endpoint: endpoint.map(|endpoint| &endpoint.name),
        lane: lane.as_str(),
        status: outcome,
        cause: progress.cause,
        stream: stream(progress.kind),
        bytes_in: progress.bytes_in,
        bytes_out: progress.bytes_out,
        duration,
        first_byte: progress.answered_after,
        upstream: attempts.and_then(Attempts::first_byte),
        connect: attempts.and_then(Attempts::connect),
        retries: attempts.map_or(0, Attempts::retries),
        rescued_from: assignment.zip(attempts).and_then(|(to, attempts)| Some(&*rescued_from(to, attempts)?.name)),
    }
}

pub(crate) fn stream(kind: Kind) -> Option<StreamKind> {
    match kind {
        Kind::Request => None,
        Kind::WebSocket => Some(StreamKind::WebSocket),
        Kind::Sse => Some(StreamKind::Sse),
        Kind::Grpc => Some(StreamKind::Grpc),
        Kind::Upgrade => Some(StreamKind::Upgrade),
    }
}
