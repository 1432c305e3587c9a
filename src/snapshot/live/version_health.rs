//! What the endpoints of one version have in common where health is concerned: the policy, and who else takes requests.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::health_changes::HealthChanges;
use super::state::{Out, StateCell};
use crate::health::outlier::{OutlierPolicy, Pool, Tally};
use crate::model::{EndpointState, Name};

/// The endpoints of one version, found again by identity.
#[derive(Debug)]
pub(crate) struct VersionHealth<E> {
    /// Its service.
    pub(crate) service: Name,
    /// Its name.
    pub(crate) version: Name,
    changes: Arc<HealthChanges<E>>,
    /// Times are counted from here.
    epoch: Instant,
    /// What the policy says, for requests that fail.
    consecutive_errors: AtomicU32,
    connect_failures: AtomicU32,
    /// Success rates are compared: there are endpoints enough.
    compares_rates: AtomicBool,
    /// Locked where an endpoint may be taken out and by whoever follows health.
    members: Mutex<Members<E>>,
}

/// The endpoints and the policy for them.
#[derive(Debug)]
pub(super) struct Members<E> {
    policy: Option<OutlierPolicy>,
    endpoints: Vec<Weak<E>>,
    /// When success rates were compared last.
    compared: Instant,
}

/// One endpoint of a version, as the version sees it.
pub(crate) trait Member {
    /// What is wanted of it, and what stands against it.
    fn state(&self) -> &StateCell;
    /// What happened on it since this was asked last.
    fn take_tally(&self) -> Tally;
}

impl<E: Member> VersionHealth<E> {
    pub(super) fn new(service: Name, version: Name, changes: Arc<HealthChanges<E>>, now: Instant) -> Self {
        Self {
            service,
            version,
            changes,
            epoch: now,
            consecutive_errors: AtomicU32::new(0),
            connect_failures: AtomicU32::new(0),
            compares_rates: AtomicBool::new(false),
            members: Mutex::new(Members { policy: None, endpoints: Vec::new(), compared: now }),
        }
    }

    /// The version has these endpoints now, and this policy.
    pub(crate) fn set<'a>(&self, policy: &OutlierPolicy, endpoints: impl Iterator<Item = &'a Arc<E>>)
    where
        E: 'a,
    {
        let mut members = self.members();
        members.endpoints.clear();
        members.endpoints.extend(endpoints.map(Arc::downgrade));
        let enough = policy.success_rate.is_some_and(|rate| members.endpoints.len() >= rate.min_endpoints);
        self.compares_rates.store(enough, Ordering::Relaxed);
        self.consecutive_errors.store(policy.consecutive_errors, Ordering::Relaxed);
        self.connect_failures.store(policy.connect_failures, Ordering::Relaxed);
        members.policy = Some(policy.clone());
    }

    /// Its endpoints, as far as somebody holds them.
    pub(super) fn endpoints(&self) -> Vec<Arc<E>> {
        self.members().endpoints.iter().filter_map(Weak::upgrade).collect()
    }

    fn members(&self) -> MutexGuard<'_, Members<E>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoints, for one who may take one of them out.
    pub(super) fn lock(&self) -> MutexGuard<'_, Members<E>> {
        self.members()
    }

    /// A moment as a number that is never 0.
    pub(super) fn millis(&self, moment: Instant) -> u64 {
        let millis = moment.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(super) fn changes(&self) -> &HealthChanges<E> {
        &self.changes
    }

    #[inline]
    pub(super) fn compares_rates(&self) -> bool {
        self.compares_rates.load(Ordering::Relaxed)
    }

    pub(super) fn is_too_many_errors(&self, in_row: u32) -> bool {
        reaches(in_row, self.consecutive_errors.load(Ordering::Relaxed))
    }

    pub(super) fn is_too_many_connects(&self, in_row: u32) -> bool {
        reaches(in_row, self.connect_failures.load(Ordering::Relaxed))
    }

    /// Whether endpoints are taken out that accept no connections.
    pub(crate) fn watches_connects(&self) -> bool {
        self.connect_failures.load(Ordering::Relaxed) > 0
    }
}

/// Whether `count` is a limit that is set.
fn reaches(count: u32, limit: u32) -> bool {
    limit > 0 && count >= limit
}

impl<E: Member> Members<E> {
    /// Whether one more of them may be ejected.
    pub(super) fn has_room(&self) -> bool {
        let ready = |member: &Arc<E>| member.state().get() == EndpointState::Ready;
        let mut pool = Pool::default();
        let mut available: usize = 0;
        for member in self.endpoints.iter().filter_map(Weak::upgrade).filter(ready) {
            pool.ready += 1;
            pool.ejected += usize::from(member.state().is_out(Out::Ejected));
            available += usize::from(member.state().is_available());
        }
        // The one that is to be ejected is available itself.
        pool.others = available.saturating_sub(1);
        self.policy.as_ref().is_some_and(|policy| policy.has_room(pool))
    }

    /// Whether one of them takes requests.
    pub(super) fn serves(&self) -> bool {
        self.endpoints.iter().filter_map(Weak::upgrade).any(|member| member.state().is_available())
    }

    /// The endpoints whose success rate is too low, if it is time to compare, and why.
    pub(super) fn outliers(&mut self, now: Instant) -> Vec<(Arc<E>, String)> {
        let Some(policy) = &self.policy else { return Vec::new() };
        let Some(rate) = policy.success_rate else { return Vec::new() };
        if now.saturating_duration_since(self.compared) < policy.interval {
            return Vec::new();
        }
        self.compared = now;
        let members: Vec<Arc<E>> = self.endpoints.iter().filter_map(Weak::upgrade).collect();
        let tallies: Vec<Tally> = members.iter().map(|member| member.take_tally()).collect();
        let found = rate.outliers(&tallies).into_iter();
        let pairs = found.filter_map(|at| members.get(at).cloned().zip(tallies.get(at)));
        let why = |Tally { requests, errors }: &Tally| {
            format!("{errors} of {requests} requests failed, far more than on the others of the version")
        };
        pairs.map(|(member, tally)| (member, why(tally))).collect()
    }

    pub(super) fn policy(&self) -> &OutlierPolicy {
        self.policy.as_ref().unwrap_or(&OutlierPolicy::NEVER)
    }
}
