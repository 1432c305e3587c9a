//! DNS names of endpoints → addresses, looked up again as their TTLs say.
//!
//! | part | file |
//! |---|---|
//! | what is known of each name, and when it is due again | `table` |
//! | one lookup: search domains, both families, SRV | `lookup` |
//! | the resolver library, `resolv.conf` and `hosts` | `system` |
//!
//! A task of its own looks names up, for the owner decides every second and must not wait for a resolver. It notes the
//! answers in the table and wakes the owner only when addresses changed. For new names a start or a reload waits, up to
//! `dns.timeout`. The library neither caches nor searches here: TTLs are the table's, and a cache beneath it would
//! stretch them; search domains are walked once for both families, or A and AAAA could be of two hosts.
//!
//! Invariant: a lookup that brings no address takes none away.

mod lookup;
mod system;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::lookup::{Answer, NoAnswer, Question};
use self::system::{Questions, Source};
pub(crate) use self::table::NameState;
pub(super) use self::table::Resolved;
use self::table::{Change, Table, Wanted, WantedName};
use crate::algorithm::random::random;
use crate::config::{Config, EndpointAddress};
use crate::model::Name;
use crate::telemetry::{LookupResult, NameFact, Recorder};

/// Names looked up at the same time.
const MAX_LOOKUPS: usize = 32;

/// What is known of the names of endpoints; shared by who looks them up and who reads them.
pub(crate) struct Names {
    /// Locked by the task that looks names up, by the owner, and by whoever shows the status; by no request.
    table: Mutex<Table>,
    /// Something may be due.
    wake: Notify,
    /// Addresses changed.
    changed: Notify,
    /// A lookup ended.
    ended: watch::Sender<()>,
}

/// Looks names up for as long as it lives.
pub(super) struct Discovery {
    names: Arc<Names>,
    _task: JoinSet<()>,
}

impl Discovery {
    /// Begins, without any name. The task runs on the runtime of the caller.
    pub(super) fn start(recorder: Arc<Recorder>) -> Self {
        let names = Arc::new(Names {
            table: Mutex::default(),
            wake: Notify::new(),
            changed: Notify::new(),
            ended: watch::Sender::new(()),
        });
        let mut task = JoinSet::new();
        drop(task.spawn(look_up_names(Arc::clone(&names), recorder)));
        Self { names, _task: task }
    }

    /// What is known.
    pub(super) fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }

    /// The addresses of every name of `config`. New names are waited for, up to the configured timeout; who is late comes
    /// as a change.
    pub(super) async fn resolve(&self, config: &Config) -> Resolved {
        let wanted = wanted(config);
        let deadline = Instant::now() + config.dns.timeout.get();
        let mut ended = self.names.ended.subscribe();
        self.names.table().include(&wanted, &config.dns, Instant::now());
        self.names.wake.notify_one();
        while !self.names.table().all_were_tried() {
            if timeout_at(deadline, ended.changed()).await.is_err() {
                break;
            }
        }
        self.names.table().resolved(wanted.keys())
    }

    /// From now on only the names of `config` count, and what it says of looking them up.
    pub(super) fn keep(&self, config: &Config) {
        self.names.table().keep(&wanted(config), &config.dns, Instant::now());
        self.names.wake.notify_one();
    }

    /// Waits until addresses changed, those of names that are not wanted any more included.
    pub(super) async fn changed(&self) {
        self.names.changed.notified().await;
    }

    /// The addresses of every name of `config` now.
    pub(super) fn resolved(&self, config: &Config) -> Resolved {
        self.names.table().resolved(wanted(config).keys())
    }
}

impl Names {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names and what is known of them, in their order.
    pub(crate) fn list(&self) -> Vec<NameState> {
        self.table().list()
    }

    /// The names, for metrics.
    pub(super) fn facts(&self) -> Vec<NameFact> {
        let fact = |state: NameState| NameFact { name: Name::from(state.name), answered: state.answered };
        self.list().into_iter().map(fact).collect()
    }

    /// Notes how a lookup ended.
    fn note(&self, name: &str, outcome: Result<Answer, NoAnswer>, recorder: &Recorder) {
        recorder.lookups().ended(outcome.as_ref().map_or_else(|none| none.result, |_| LookupResult::Answered));
        let change = self.table().note(name, outcome, (Instant::now(), SystemTime::now()), random());
        match change {
            Change::None => {}
            Change::Addresses => self.changed.notify_one(),
            Change::Lost { why, kept: 0 } => {
                tracing::warn!(name, "the name has no address yet: {why}; it is looked up again until it has one");
            }
            Change::Lost { why, kept } => {
                tracing::warn!(name, "the name cannot be looked up: {why}; its {kept} last addresses stay in use");
            }
            Change::Recovered { addresses_changed } => {
                tracing::info!(name, "the name can be looked up again");
                if addresses_changed {
                    self.changed.notify_one();
                }
            }
        }
        self.ended.send_replace(());
    }
}

/// Looks names up when they are due, a bounded number at once.
async fn look_up_names(names: Arc<Names>, recorder: Arc<Recorder>) {
    let mut source = Source::default();
    let mut lookups = JoinSet::new();
    let mut running: HashMap<Id, String> = HashMap::new();
    loop {
        let (due, settings) = names.table().take_due(Instant::now(), MAX_LOOKUPS.saturating_sub(lookups.len()));
        if !due.is_empty() {
            let resolver = source.resolver(&settings).await;
            for (name, question) in due {
                let (resolver, family) = (Arc::clone(&resolver), settings.family);
                let deadline = Instant::now() + settings.timeout.get();
                let task = lookups.spawn(async move {
                    lookup::look_up(&Questions { resolver: &resolver, deadline }, &question, family).await
                });
                running.insert(task.id(), name);
            }
        }
        let (next, has_room) = (names.table().next_due(), lookups.len() < MAX_LOOKUPS);
        tokio::select! {
            Some(ended) = lookups.join_next_with_id() => {
                let (id, outcome) = match ended {
                    Ok((id, outcome)) => (id, outcome),
                    // A fault of the library's, of which it says more in the log.
                    Err(error) => (error.id(), Err(NoAnswer::failed("the lookup broke off"))),
                };
                if let Some(name) = running.remove(&id) {
                    names.note(&name, outcome, &recorder);
                }
            }
            () = at(next), if has_room => {}
            () = names.wake.notified() => {}
        }
    }
}

/// Waits for a moment, or for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The names of `config`.
fn wanted(config: &Config) -> Wanted {
    let mut wanted = Wanted::new();
    for (service, file) in config.services.iter() {
        for endpoint in file.versions.iter().flat_map(|(_, version)| &version.endpoints) {
            let question = match &endpoint.address {
                EndpointAddress::Dns { host, port } => Question::Addresses { host: host.clone(), port: *port },
                EndpointAddress::Srv(name) => Question::Services(name.clone()),
                EndpointAddress::Inet(_) | EndpointAddress::Unix(_) => continue,
            };
            let name = wanted.entry(endpoint.address.to_string());
            let WantedName { services, .. } = name.or_insert(WantedName { question, services: Vec::new() });
            if services.last() != Some(service) {
                services.push(service.clone());
            }
        }
    }
    wanted
}

/// What differs between the addresses of names, in lines for an operator: so many at most, and how many more there are.
pub(super) fn differences(before: &Resolved, now: &Resolved) -> Vec<String> {
    let mut changed: Vec<_> = now.iter().filter(|(name, addresses)| before.get(*name) != Some(addresses)).collect();
    changed.sort_unstable();
    let more = changed.len().saturating_sub(MAX_LINES);
    changed.truncate(MAX_LINES);
    let mut lines: Vec<String> = changed
        .into_iter()
        .map(|(name, now)| {
            let old = before.get(name).map(Vec::as_slice).unwrap_or_default();
            let came = now.iter().filter(|address| !old.contains(address)).count();
            let left = old.iter().filter(|address| !now.contains(address)).count();
            format!("addresses of {name}: {} now, {came} came and {left} left", now.len())
        })
        .collect();
    if more > 0 {
        lines.push(format!("and the addresses of {more} more names"));
    }
    lines
}

/// Lines about addresses at once.
const MAX_LINES: usize = 20;

#[cfg(test)]
mod tests;
