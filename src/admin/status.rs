//! The state of everything, put together from the snapshot, the status of control, and what was counted.
//!
//! Nothing here keeps anything: it reads what others own at one moment, so a service, its counts and its drains
//! may be a few microseconds apart.
//!
//! A version or endpoint that left the file is still shown while it drains, with the state `removed`: the work
//! on it is as real as before.

mod health;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::AdminState;
use super::wire::{
    Build, CohortStatus, ConfigStatus, DrainStatus, DrillStatus, EndpointStatus, ListenerStatus, NameStatus,
    RefusedCommand, ServiceStatus, ShiftStatus, Status, VersionStatus,
};
use crate::algorithm::nearest::nearest;
use crate::control::{self, DrainingEndpoint, NameState};
use crate::model::{EndpointState, Name, Split, SplitKey, Weight};
use crate::rollouts::Refusal;
use crate::snapshot::{Service, ServiceCohort, Snapshot, Version};
use crate::telemetry::{StreamKind, VersionSeries, WindowStats};

/// The stretch of time that rates, shares and quantiles are about.
const WINDOW: Duration = Duration::from_secs(60);

/// What the state of a version or an endpoint is called once it is no longer in the file.
const REMOVED: &str = "removed";

/// There is no such service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoService {
    pub(super) found: String,
    pub(super) nearest: Option<String>,
}

/// The state of all services, or of one.
///
/// # Errors
/// [`NoService`] when there is none of that name, not even one that only drains.
pub(super) fn of(admin: &AdminState, service: Option<&str>) -> Result<Status, NoService> {
    let snapshot = admin.current.load();
    let control = admin.control.status();
    let measure = |series: &VersionSeries| Measured::of(series);
    let services = services(&snapshot, &control, service, &measure, Instant::now());
    if let (true, Some(found)) = (services.is_empty(), service) {
        return Err(missing(&snapshot, found));
    }
    Ok(Status {
        state: admin.process.borrow().as_str().to_owned(),
        build: Build { version: env!("CARGO_PKG_VERSION").to_owned(), revision: REVISION.to_owned() },
        pid: std::process::id(),
        uptime_seconds: rounded(admin.started.elapsed().as_secs_f64(), 3),
        revision: snapshot.revision,
        config: ConfigStatus {
            path: control.path.display().to_string(),
            hash: snapshot.hash.clone(),
            current: control.errors.is_none(),
            errors: control.errors.clone(),
            faulty_certificates: control.faults.clone(),
        },
        listeners: admin
            .listeners
            .iter()
            .map(|bound| ListenerStatus {
                name: bound.name.to_string(),
                address: bound.address.clone(),
                connections: bound.series.connections(),
            })
            .collect(),
        telemetry: admin.telemetry_address.clone(),
        names: names(&admin.control.names(), service, SystemTime::now()),
        services,
    })
}

/// The names of all services, or of the one that is `wanted`.
fn names(all: &[NameState], wanted: Option<&str>, now: SystemTime) -> Vec<NameStatus> {
    let is_wanted = |state: &&NameState| wanted.is_none_or(|wanted| state.services.iter().any(|one| &**one == wanted));
    let status = |state: &NameState| NameStatus {
        name: state.name.clone(),
        services: state.services.iter().map(ToString::to_string).collect(),
        addresses: u64::try_from(state.addresses).unwrap_or(u64::MAX),
        age_seconds: state.answered.map(|at| rounded(now.duration_since(at).unwrap_or_default().as_secs_f64(), 1)),
        error: state.trouble.clone(),
    };
    all.iter().filter(is_wanted).map(status).collect()
}

/// The source revision that was built, where the build was told.
const REVISION: &str = match option_env!("WEIR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

fn missing(snapshot: &Snapshot, found: &str) -> NoService {
    let names = snapshot.services.iter().map(|service| &*service.name);
    let nearest = nearest(found, names);
    NoService { found: found.to_owned(), nearest: nearest.map(str::to_owned) }
}

/// What was counted of a version.
#[derive(Clone, Debug, Default)]
struct Measured {
    requests_total: u64,
    in_flight: u64,
    streams: BTreeMap<String, u64>,
    window: Option<WindowStats>,
}

impl Measured {
    fn of(series: &VersionSeries) -> Self {
        let open = StreamKind::ALL.iter().map(|kind| (kind.as_str().to_owned(), series.streams_open(*kind)));
        Self {
            requests_total: series.requests_total(),
            in_flight: series.in_flight(),
            streams: open.filter(|(_, open)| *open > 0).collect(),
            window: Some(series.window(WINDOW, std::time::Instant::now())),
        }
    }

    fn requests(&self) -> u64 {
        self.window.as_ref().map_or(0, WindowStats::requests)
    }
}

type MeasureVersion<'m> = &'m dyn Fn(&VersionSeries) -> Measured;

/// Departures by service and version; a version's are in the order in which they began.
type Leaving<'b> = HashMap<(&'b str, &'b str), Vec<&'b DrainingEndpoint>>;

/// The services that are `wanted` (all if none is named): those of the snapshot, then those that only drain.
fn services(
    snapshot: &Snapshot,
    control: &control::Status,
    wanted: Option<&str>,
    measure: MeasureVersion<'_>,
    now: Instant,
) -> Vec<ServiceStatus> {
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted == name);
    let mut leaving = Leaving::new();
    let mut gone: Vec<&str> = Vec::new();
    for draining in control.drains.iter().filter(|draining| is_wanted(&draining.service)) {
        leaving.entry((&*draining.service, &*draining.version)).or_default().push(draining);
        if snapshot.service(&draining.service).is_none() && !gone.contains(&&*draining.service) {
            gone.push(&draining.service);
        }
    }
    let present = snapshot.services.iter().filter(|service| is_wanted(&service.name));
    let mut shown: Vec<ServiceStatus> = present
        .map(|service| {
            let versions = versions(&service.name, Some(service), &leaving, measure, now);
            let shift = shift_of(control, service, None);
            let rollout = control.rollouts.get(&service.name);
            let behind = rollout.and_then(|rollout| rollout.behind.clone());
            let refused_command = rollout.and_then(|rollout| rollout.refusal.as_ref()).map(refused_command);
            let cohorts = cohorts(control, service);
            ServiceStatus { name: service.name.to_string(), shift, behind, refused_command, versions, cohorts }
        })
        .collect();
    shown.extend(gone.into_iter().map(|name| {
        let versions = versions(name, None, &leaving, measure, now);
        ServiceStatus {
            name: name.to_owned(),
            shift: None,
            behind: None,
            refused_command: None,
            versions,
            cohorts: Vec::new(),
        }
    }));
    shown
}

fn shift_of(control: &control::Status, service: &Service, cohort: Option<&Name>) -> Option<ShiftStatus> {
    let key = SplitKey { service: service.name.clone(), cohort: cohort.cloned() };
    control.shifts.get(&key).map(shift)
}

fn cohorts(control: &control::Status, service: &Service) -> Vec<CohortStatus> {
    let by_version = |cohort: &ServiceCohort| {
        let names = service.versions.iter().map(|version| version.name.to_string());
        let weights = cohort.weights.iter().map(|weight| percentage(*weight));
        let requests = cohort.series.iter().map(|series| series.decisions());
        CohortStatus {
            name: cohort.name.to_string(),
            weights: names.clone().zip(weights).collect(),
            shift: shift_of(control, service, Some(&cohort.name)),
            requests: names.zip(requests).collect(),
        }
    };
    service.cohorts.iter().map(by_version).collect()
}

fn shift(shift: &control::Shift) -> ShiftStatus {
    ShiftStatus {
        weights: percentages(&shift.split),
        author: shift.by.author.clone(),
        reason: shift.by.reason.clone(),
        at: shift.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        base: percentages(&shift.base),
    }
}

fn percentages(split: &Split) -> BTreeMap<String, f64> {
    split.iter().map(|(name, weight)| (name.to_string(), percentage(weight))).collect()
}

fn percentage(weight: Weight) -> f64 {
    f64::from(weight.basis_points()) / 100.0
}

fn departures<'l>(leaving: &'l Leaving<'l>, service: &'l str, version: &'l str) -> &'l [&'l DrainingEndpoint] {
    leaving.get(&(service, version)).map_or(&[][..], Vec::as_slice)
}

/// The versions of one service: those in the file, then those that left it and still drain.
fn versions(
    service: &str,
    compiled: Option<&Arc<Service>>,
    leaving: &Leaving<'_>,
    measure: MeasureVersion<'_>,
    now: Instant,
) -> Vec<VersionStatus> {
    let present = compiled.map_or(&[][..], |service| &service.versions);
    let effective = compiled.map_or_else(Vec::new, |service| service.chooser.effective());
    let mut shown: Vec<(VersionStatus, u64)> = present
        .iter()
        .zip(effective)
        .map(|version| {
            in_file(version, departures(leaving, service, &version.0.name), &measure(&version.0.series), now)
        })
        .collect();
    let mut gone: Vec<&str> = leaving.keys().filter(|(of, _)| *of == service).map(|(_, version)| *version).collect();
    gone.retain(|version| present.iter().all(|known| &*known.name != *version));
    gone.sort_unstable();
    for version in gone {
        if let Some(first) = departures(leaving, service, version).first() {
            shown.push(out_of_file(version, departures(leaving, service, version), &measure(&first.series), now));
        }
    }
    let all: u64 = shown.iter().map(|(_, requests)| requests).sum();
    shown.into_iter().map(|(status, requests)| VersionStatus { observed: share(requests, all), ..status }).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share for people; 2⁵³ requests in a minute do not happen")]
fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| rounded(part as f64 * 100.0 / all as f64, 2))
}

fn in_file(
    (version, effective): (&Version, Weight),
    leaving: &[&DrainingEndpoint],
    measured: &Measured,
    now: Instant,
) -> (VersionStatus, u64) {
    let drain_of = |id: u64| leaving.iter().find(|draining| draining.live.id == id).copied();
    let mut endpoints: Vec<EndpointStatus> = version
        .endpoints
        .iter()
        .map(|endpoint| EndpointStatus {
            name: endpoint.name.to_string(),
            state: endpoint.state().as_str().to_owned(),
            in_flight: endpoint.live.ledger.in_flight(),
            streams: endpoint.live.ledger.streams(),
            drain: drain_of(endpoint.live.id).map(|draining| drain(draining, now)),
            health: health::of(&endpoint.live, now.into_std()),
        })
        .collect();
    endpoints.extend(leaving.iter().filter(|draining| draining.removed).map(|draining| removed(draining, now)));
    let drains = || endpoints.iter().filter_map(|endpoint| endpoint.drain.as_ref());
    let state = version.state.get();
    let drain = if state == EndpointState::Ready { None } else { summary(drains()) };
    let shares = (percentage(version.configured), percentage(effective));
    let status = version_status(&version.name, state.as_str(), shares, measured, (drain, endpoints));
    let ready = version.endpoints.iter().filter(|endpoint| endpoint.live.is_available()).count();
    let drill = drill(version, now.into_std());
    (VersionStatus { drill, ready, min_ready: version.min_ready, ..status }, measured.requests())
}

/// The command that was refused last.
pub(super) fn refused_command(refusal: &Refusal) -> RefusedCommand {
    let Refusal { refused, author, reason, at_ms } = refusal;
    RefusedCommand {
        verb: refused.verb.as_str().to_owned(),
        author: author.clone(),
        reason: reason.clone(),
        why: refused.to_string(),
        at_ms: *at_ms,
    }
}

/// The drill that goes on in a version.
pub(super) fn drill(version: &Version, now: std::time::Instant) -> Option<DrillStatus> {
    let faults = version.faults.as_ref()?;
    let left = faults.until().checked_duration_since(now).filter(|left| !left.is_zero())?;
    Some(DrillStatus {
        errors: percentage(faults.errors()),
        delay_ms: u64::try_from(faults.delay().as_millis()).unwrap_or(u64::MAX),
        left_seconds: rounded(left.as_secs_f64(), 1),
    })
}

fn out_of_file(name: &str, leaving: &[&DrainingEndpoint], measured: &Measured, now: Instant) -> (VersionStatus, u64) {
    let endpoints: Vec<EndpointStatus> = leaving.iter().map(|draining| removed(draining, now)).collect();
    let drain = summary(endpoints.iter().filter_map(|endpoint| endpoint.drain.as_ref()));
    (version_status(name, REMOVED, (0.0, 0.0), measured, (drain, endpoints)), measured.requests())
}

fn version_status(
    name: &str,
    state: &str,
    (configured, effective): (f64, f64),
    measured: &Measured,
    (drain, endpoints): (Option<DrainStatus>, Vec<EndpointStatus>),
) -> VersionStatus {
    let window = measured.window.as_ref();
    let quantile = |q| window.and_then(|window| window.quantile(q)).map(|d| rounded(d.as_secs_f64() * 1_000.0, 3));
    VersionStatus {
        name: name.to_owned(),
        state: state.to_owned(),
        configured,
        effective,
        observed: None,
        requests_total: measured.requests_total,
        requests_per_second: window.map_or(0.0, |window| rounded(window.requests_per_second(), 2)),
        error_rate: window.and_then(WindowStats::error_ratio).map(|ratio| rounded(ratio * 100.0, 3)),
        p50_ms: quantile(0.5),
        p95_ms: quantile(0.95),
        p99_ms: quantile(0.99),
        in_flight: measured.in_flight,
        streams: measured.streams.clone(),
        drain,
        drill: None,
        ready: 0,
        min_ready: 0,
        endpoints,
    }
}

fn removed(draining: &DrainingEndpoint, now: Instant) -> EndpointStatus {
    EndpointStatus {
        name: draining.endpoint.to_string(),
        state: REMOVED.to_owned(),
        in_flight: draining.live.ledger.in_flight(),
        streams: draining.live.ledger.streams(),
        drain: Some(drain(draining, now)),
        health: health::of(&draining.live, now.into_std()),
    }
}

fn drain(draining: &DrainingEndpoint, now: Instant) -> DrainStatus {
    let (requests, streams) = draining.left(now);
    DrainStatus {
        seconds: rounded(now.saturating_duration_since(draining.since).as_secs_f64(), 1),
        empty: draining.live.ledger.in_flight() == 0,
        requests_cut_in_seconds: rounded(requests.as_secs_f64(), 1),
        streams_cut_in_seconds: rounded(streams.as_secs_f64(), 1),
        cut: draining.live.ledger.cut_count(),
    }
}

/// Several drains as one: since the first began, until the last one ends.
fn summary<'d>(drains: impl Iterator<Item = &'d DrainStatus>) -> Option<DrainStatus> {
    drains.cloned().reduce(|a, b| DrainStatus {
        seconds: a.seconds.max(b.seconds),
        empty: a.empty && b.empty,
        requests_cut_in_seconds: a.requests_cut_in_seconds.max(b.requests_cut_in_seconds),
        streams_cut_in_seconds: a.streams_cut_in_seconds.max(b.streams_cut_in_seconds),
        cut: a.cut + b.cut,
    })
}

/// To so many digits after the point: JSON for people has no use for sixteen.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
