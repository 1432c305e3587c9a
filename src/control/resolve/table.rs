//! What is known of each name, and when it is looked up again.
//!
//! An answer holds for its TTL, within `dns.min_ttl` and `dns.max_ttl`. After a failure a name is asked for after
//! `min_ttl`, and then after twice as long each time, up to `max_ttl`: Envoy's `dns_failure_refresh_rate`. Up to a tenth is
//! added at random, so that names that came at once do not come at once for ever.
//!
//! Pure: time and chance are arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::lookup::{Answer, NoAnswer, Question};
use crate::config::Dns;
use crate::model::{Name, ResolvedAddress};

/// The addresses behind DNS names, by the endpoint as the file spells it.
pub(in crate::control) type Resolved = HashMap<String, Vec<ResolvedAddress>>;

/// The names that a file has, by the endpoint as it spells it.
pub(super) type Wanted = BTreeMap<String, WantedName>;

/// A name that a file has.
#[derive(Clone, Debug)]
pub(super) struct WantedName {
    /// What is to be looked up.
    pub(super) question: Question,
    /// The services that need it, each once.
    pub(super) services: Vec<Name>,
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Table {
    settings: Dns,
    names: HashMap<String, Entry>,
    /// Those that are not being looked up, by when they are due.
    due: BTreeSet<(Instant, String)>,
    /// How many were never looked up.
    untried: usize,
}

/// One name.
#[derive(Debug)]
struct Entry {
    question: Question,
    services: Vec<Name>,
    /// The last good ones.
    addresses: Vec<ResolvedAddress>,
    /// When they were last confirmed.
    answered: Option<SystemTime>,
    /// Why the last lookup brought nothing, if it did not.
    trouble: Option<NoAnswer>,
    /// Failures since the last answer.
    failures: u32,
    /// A lookup has ended.
    tried: bool,
    /// None while it is being looked up.
    due: Option<Instant>,
}

/// What is known of a name, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameState {
    /// The endpoint as the file spells it.
    pub(crate) name: String,
    /// The services that need it.
    pub(crate) services: Vec<Name>,
    /// How many addresses are in use.
    pub(crate) addresses: usize,
    /// When they were last confirmed.
    pub(crate) answered: Option<SystemTime>,
    /// Why the last lookup brought nothing, if it did not.
    pub(crate) trouble: Option<String>,
}

/// What a lookup changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The addresses.
    Addresses,
    /// It cannot be looked up any more, or for another reason than before; so many addresses stay.
    Lost {
        /// Why.
        why: NoAnswer,
        /// How many addresses stay.
        kept: usize,
    },
    /// It could not be looked up and now can.
    Recovered {
        /// Whether it brought other addresses.
        addresses_changed: bool,
    },
}

impl Table {
    /// Adds the names that are new, to be looked up now.
    pub(super) fn include(&mut self, wanted: &Wanted, settings: &Dns, now: Instant) {
        self.set(settings, now);
        for (name, wanted) in wanted {
            if let Some(entry) = self.names.get_mut(name) {
                entry.services.clone_from(&wanted.services);
                continue;
            }
            self.names.insert(name.clone(), Entry::new(wanted.clone(), now));
            self.due.insert((now, name.clone()));
            self.untried += 1;
        }
    }

    /// Forgets all other names.
    pub(super) fn keep(&mut self, wanted: &Wanted, settings: &Dns, now: Instant) {
        self.include(wanted, settings, now);
        self.names.retain(|name, _| wanted.contains_key(name));
        self.due.retain(|(_, name)| wanted.contains_key(name));
        self.untried = self.names.values().filter(|entry| !entry.tried).count();
    }

    /// Other servers may answer otherwise: with other settings every name is asked for anew.
    fn set(&mut self, settings: &Dns, now: Instant) {
        if self.settings == *settings {
            return;
        }
        self.settings.clone_from(settings);
        self.due.clear();
        for (name, entry) in self.names.iter_mut().filter(|(_, entry)| entry.due.is_some()) {
            entry.due = Some(now);
            self.due.insert((now, name.clone()));
        }
    }

    /// Takes names that are due, `room` at most: they are being looked up from now on.
    pub(super) fn take_due(&mut self, now: Instant, room: usize) -> (Vec<(String, Question)>, Dns) {
        let mut taken = Vec::new();
        while taken.len() < room
            && let Some((due, _)) = self.due.first()
            && *due <= now
            && let Some((_, name)) = self.due.pop_first()
        {
            if let Some(entry) = self.names.get_mut(&name) {
                entry.due = None;
                taken.push((name, entry.question.clone()));
            }
        }
        (taken, self.settings.clone())
    }

    /// When the next name is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Whether every name has been looked up once, whatever that brought.
    pub(super) const fn all_were_tried(&self) -> bool {
        self.untried == 0
    }

    /// The addresses of these names.
    pub(super) fn resolved<'a>(&self, names: impl Iterator<Item = &'a String>) -> Resolved {
        let addresses = |name| self.names.get(name).map(|entry| entry.addresses.clone()).unwrap_or_default();
        names.map(|name| (name.clone(), addresses(name))).collect()
    }

    /// What is known of each name, in their order.
    pub(super) fn list(&self) -> Vec<NameState> {
        let mut list: Vec<NameState> = self.names.iter().map(|(name, entry)| entry.state(name)).collect();
        list.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Notes how a lookup of a name ended, if that is still wanted.
    pub(super) fn note(
        &mut self,
        name: &str,
        outcome: Result<Answer, NoAnswer>,
        (now, wall): (Instant, SystemTime),
        random: u64,
    ) -> Change {
        let Some(entry) = self.names.get_mut(name) else { return Change::None };
        // It may have been forgotten and wanted again in the meantime.
        if let Some(due) = entry.due {
            self.due.remove(&(due, name.to_owned()));
        }
        if !std::mem::replace(&mut entry.tried, true) {
            self.untried = self.untried.saturating_sub(1);
        }
        let (wait, change) = match outcome {
            Ok(answer) => (self.settings.after_answer(answer.ttl), entry.take(answer, wall)),
            Err(why) => {
                let wait = self.settings.after_failure(entry.failures);
                entry.failures = entry.failures.saturating_add(1);
                (wait, entry.lose(why))
            }
        };
        let due = now + wait + wait / TENTHS * u32::try_from(random % JITTER_STEPS).unwrap_or_default();
        entry.due = Some(due);
        self.due.insert((due, name.to_owned()));
        change
    }
}

/// The jitter is 0 to 100 thousandths of the wait.
const JITTER_STEPS: u64 = 101;
const TENTHS: u32 = 1_000;

impl Entry {
    fn new(wanted: WantedName, due: Instant) -> Self {
        Self {
            question: wanted.question,
            services: wanted.services,
            addresses: Vec::new(),
            answered: None,
            trouble: None,
            failures: 0,
            tried: false,
            due: Some(due),
        }
    }

    /// Takes an answer in. What could not be asked for stays as it was.
    fn take(&mut self, answer: Answer, wall: SystemTime) -> Change {
        let mut addresses = answer.addresses;
        addresses.extend(self.addresses.iter().filter(|known| answer.missing.has(known.address)));
        addresses.sort_unstable();
        // Of two weights of one address the lighter stands, as in an answer.
        addresses.dedup_by_key(|one| one.address);
        let recovered = self.trouble.take().is_some();
        let changed = addresses != self.addresses;
        (self.addresses, self.answered, self.failures) = (addresses, Some(wall), 0);
        match (recovered, changed) {
            (true, addresses_changed) => Change::Recovered { addresses_changed },
            (false, true) => Change::Addresses,
            (false, false) => Change::None,
        }
    }

    fn lose(&mut self, why: NoAnswer) -> Change {
        let known = self.trouble.as_ref().is_some_and(|before| before.result == why.result);
        self.trouble = Some(why.clone());
        if known { Change::None } else { Change::Lost { why, kept: self.addresses.len() } }
    }

    fn state(&self, name: &str) -> NameState {
        NameState {
            name: name.to_owned(),
            services: self.services.clone(),
            addresses: self.addresses.len(),
            answered: self.answered,
            trouble: self.trouble.as_ref().map(ToString::to_string),
        }
    }
}

impl Dns {
    /// How long an answer of this TTL holds.
    fn after_answer(&self, ttl: Duration) -> Duration {
        ttl.clamp(self.min_ttl.get(), self.max_ttl.get())
    }

    /// How long to wait after so many failures before this one.
    fn after_failure(&self, failures: u32) -> Duration {
        let doubled = 2_u32.checked_pow(failures).and_then(|factor| self.min_ttl.get().checked_mul(factor));
        doubled.unwrap_or(Duration::MAX).min(self.max_ttl.get())
    }
}

#[cfg(test)]
mod tests;
