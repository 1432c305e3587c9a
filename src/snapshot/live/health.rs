//! What happened on one endpoint, across snapshots: counts for those who decide by them, and for people.
//!
//! Invariant: a request that succeeds takes no lock here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::check_record::{CheckRecord, LastCheck};
use super::version_health::{Member, VersionHealth};
use crate::health::outlier::{Ejection, Ejections, Tally};
use crate::health::reach::{Lost, Reach};
use crate::telemetry::{CheckResult, EjectionReason, EndpointFailure};

/// What happened on one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointHealth<E> {
    /// What its version makes of it.
    pub(crate) of_version: Arc<VersionHealth<E>>,
    /// Errors since the last success.
    pub(super) errors_in_row: AtomicU32,
    /// Failed connects since the last that was made.
    pub(super) connects_failed: AtomicU32,
    /// When the last connection was made, as [`VersionHealth::millis`]; 0 for never.
    pub(super) connected_at: AtomicU64,
    /// Answers and errors of this interval, where success rates are compared.
    pub(super) answers: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) connects: AtomicU64,
    failures: [AtomicU64; EndpointFailure::ALL.len()],
    pub(super) ejections: [AtomicU64; EjectionReason::ALL.len()],
    pub(super) checks: [AtomicU64; CheckResult::ALL.len()],
    /// No snapshot had it before.
    pub(super) is_new: AtomicBool,
    /// It waits to be looked at.
    pub(super) is_queued: AtomicBool,
    /// Locked where something changes, where something failed, and for operators; by no request that succeeds.
    detail: Mutex<Detail>,
}

/// What is known of an endpoint beside what takes it out.
#[derive(Debug, Default)]
pub(super) struct Detail {
    pub(super) ejections: Ejections,
    pub(super) reach: Reach,
    /// Why it was taken out last.
    pub(super) why: Option<String>,
    last_failure: Option<LastFailure>,
    /// What active checks found.
    pub(super) checks: CheckRecord,
}

/// The last thing that failed on an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct LastFailure {
    pub(crate) cause: EndpointFailure,
    /// What is known beside the cause.
    pub(crate) detail: Option<String>,
    pub(crate) at: Instant,
}

/// The health of an endpoint at one moment, for people.
#[derive(Clone, Debug)]
pub(crate) struct HealthReport {
    /// Since when and until when it is ejected.
    pub(crate) ejected: Option<Ejection>,
    /// Since when it accepts no connections, and when it is asked again.
    pub(crate) unreachable: Option<Lost>,
    /// Since when it is out for its checks.
    pub(crate) unhealthy: Option<Instant>,
    /// Why it is out.
    pub(crate) why: Option<String>,
    pub(crate) last_failure: Option<LastFailure>,
    pub(crate) last_check: Option<LastCheck>,
}

impl<E: Member> EndpointHealth<E> {
    pub(super) fn new(of_version: Arc<VersionHealth<E>>) -> Self {
        Self {
            of_version,
            errors_in_row: AtomicU32::new(0),
            connects_failed: AtomicU32::new(0),
            connected_at: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            failures: Default::default(),
            ejections: Default::default(),
            checks: Default::default(),
            is_new: AtomicBool::new(true),
            is_queued: AtomicBool::new(false),
            detail: Mutex::default(),
        }
    }

    pub(super) fn detail(&self) -> MutexGuard<'_, Detail> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that were made to it.
    pub(crate) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// What failed on it, by cause.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (EndpointFailure, u64)> {
        EndpointFailure::ALL.iter().zip(&self.failures).map(|(cause, count)| (*cause, count.load(Ordering::Relaxed)))
    }

    /// How often it was taken out, by reason.
    pub(crate) fn ejections(&self) -> impl Iterator<Item = (EjectionReason, u64)> {
        EjectionReason::ALL.iter().zip(&self.ejections).map(|(why, count)| (*why, count.load(Ordering::Relaxed)))
    }

    /// Checks of it, by how they ended.
    pub(crate) fn checks(&self) -> impl Iterator<Item = (CheckResult, u64)> {
        CheckResult::ALL.iter().zip(&self.checks).map(|(result, count)| (*result, count.load(Ordering::Relaxed)))
    }

    /// Why a checked endpoint is not healthy by its checks, if so: what follows its name.
    pub(crate) fn unwell(&self) -> Option<String> {
        self.detail().checks.unwell()
    }

    /// What is known of it.
    pub(crate) fn report(&self) -> HealthReport {
        let detail = self.detail();
        let (ejected, unreachable) = (detail.ejections.current(), detail.reach.lost());
        let unhealthy = detail.checks.out_since;
        let why = match (unreachable, unhealthy, ejected) {
            (Some(_), _, _) | (None, None, Some(_)) => detail.why.clone(),
            (None, Some(_), _) => detail.checks.why(),
            (None, None, None) => None,
        };
        let (last_failure, last_check) = (detail.last_failure.clone(), detail.checks.last());
        HealthReport { ejected, unreachable, unhealthy, why, last_failure, last_check }
    }

    /// The answers and errors since this was asked last.
    pub(super) fn take_tally(&self) -> Tally {
        let errors = self.errors.swap(0, Ordering::Relaxed);
        Tally { requests: self.answers.swap(0, Ordering::Relaxed).max(errors), errors }
    }

    /// The errors in a row begin anew.
    pub(super) fn forgive(&self) {
        self.errors_in_row.store(0, Ordering::Relaxed);
        self.connects_failed.store(0, Ordering::Relaxed);
    }

    /// Counts one thing that failed.
    pub(super) fn note(&self, cause: EndpointFailure, detail: Option<String>) {
        if let Some(count) = self.failures.get(cause.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // Where many fail at once, any of them will do.
        if let Ok(mut kept) = self.detail.try_lock() {
            kept.last_failure = Some(LastFailure { cause, detail, at: Instant::now() });
        }
    }

    /// Counts an error; whether it is one too many.
    pub(super) fn is_too_many(&self) -> bool {
        let in_row = self.errors_in_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if self.of_version.compares_rates() {
            self.answers.fetch_add(1, Ordering::Relaxed);
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.of_version.is_too_many_errors(in_row)
    }
}

/// The counts by cause that are not zero.
pub(crate) fn counted<E: Member>(health: &EndpointHealth<E>) -> BTreeMap<String, u64> {
    let counts = health.failures().filter(|(_, count)| *count > 0);
    counts.map(|(cause, count)| (cause.as_str().to_owned(), count)).collect()
}
