//! Follows the health of endpoints: one task, apart from requests and from changes of the configuration.
//!
//! ```text
//! a request's failure takes an endpoint out ─► changes ─► the chooser follows; the log says it
//! ejection over ─────────────────────────────► back
//! asked whether it accepts connections ──────► back
//! active checks ─────────────────────────────► out and back
//! ```
//!
//! It does nothing while nobody is out and nobody is checked, but compares success rates once a second where there are
//! endpoints enough.

mod check;
mod prober;
mod questions;
mod report;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep_until};

use self::prober::Prober;
use self::questions::Questions;
use self::report::Report;
use super::upstream::connector;
use super::upstream::destination::Destination;
use super::upstream::tls::TlsConnectors;
use crate::snapshot::live::{EndpointLive, Out};
use crate::snapshot::{Current, Snapshot};

/// How often those that are out are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often success rates may be compared; when they are, the service says.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);
/// Endpoints that are asked at once.
const MAX_QUESTIONS: usize = 64;

/// Follows the health of endpoints for ever.
pub(super) async fn follow(current: Current) {
    let changes = Arc::clone(&current.peek().health);
    let mut follower = Follower::new(current);
    let (mut look, mut compare) = (interval(LOOK_INTERVAL), interval(COMPARE_INTERVAL));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = follower.prober.next_due();
        tokio::select! {
            () = changes.wait() => {
                changes.take().iter().for_each(|endpoint| follower.changed(endpoint));
                follower.prober.follow(&follower.current.load(), Instant::now());
            }
            _ = look.tick(), if !follower.out.is_empty() => follower.look(Instant::now()),
            Some((endpoint, refusal)) = follower.questions.next() => {
                // Nobody knows what one that broke off would have found; it is asked again.
                if let Some(refusal) = refusal {
                    endpoint.asked(refusal, Instant::now());
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                follower.prober.begin(Instant::now());
            }
            Some((check, outcome)) = follower.prober.under_way.next() => follower.prober.finish(check, outcome),
            _ = compare.tick() => follower.compare(Instant::now()),
        }
    }
}

struct Follower {
    current: Current,
    tls: Arc<TlsConnectors>,
    /// Endpoints that are out; each once. One that left the file and drains may come back as it is.
    out: Vec<Weak<EndpointLive>>,
    /// Those of them that are asked whether they accept connections, and why they do not, if so.
    questions: Questions<Arc<EndpointLive>, Option<String>>,
    prober: Prober,
    report: Report,
}

impl Follower {
    fn new(current: Current) -> Self {
        let tls: Arc<TlsConnectors> = Arc::default();
        let mut prober = Prober::new(Arc::clone(&tls));
        prober.follow(&current.load(), Instant::now());
        Self { current, tls, out: Vec::new(), questions: Questions::default(), prober, report: Report::default() }
    }

    /// An endpoint went out or came back.
    fn changed(&mut self, endpoint: &Arc<EndpointLive>) {
        let snapshot = self.current.load();
        let version = &endpoint.health.of_version;
        if let Some(service) = snapshot.service(&version.service) {
            service.follow_health();
        }
        let is_out = endpoint.is_out();
        let known = self.out.iter().position(|known| std::ptr::eq(known.as_ptr(), &raw const **endpoint));
        match known {
            None if is_out => self.out.push(Arc::downgrade(endpoint)),
            Some(at) if !is_out => drop(self.out.swap_remove(at)),
            Some(_) => {}
            // Nobody was told that it was out: it was so for a moment, or until its first check.
            None => return,
        }
        if let Some(named) = find(&snapshot, endpoint) {
            self.report.changed(named.name, endpoint, Instant::now());
        }
    }

    /// Brings back whose time has come, and asks those that are to be asked.
    fn look(&mut self, now: Instant) {
        let snapshot = self.current.load();
        self.out.retain(|endpoint| endpoint.strong_count() > 0);
        let out: Vec<_> = self.out.iter().filter_map(Weak::upgrade).collect();
        for endpoint in out {
            let Some(named) = find(&snapshot, &endpoint) else { continue };
            if endpoint.state.is_out(Out::Ejected) {
                endpoint.readmit(false, now);
            }
            if endpoint.state.is_out(Out::Unreachable) {
                self.ask_if_due(&named, &endpoint, now);
            }
        }
    }

    fn ask_if_due(&mut self, named: &Named<'_>, endpoint: &Arc<EndpointLive>, now: Instant) {
        if !endpoint.health.of_version.watches_connects() {
            return endpoint.asked(None, now);
        }
        let is_due = endpoint.health.report().unreachable.is_some_and(|lost| lost.due <= now);
        let is_asked = self.questions.about().any(|asked| asked.id == endpoint.id);
        // Of one that is not wanted nobody needs to know.
        if !is_due || is_asked || !endpoint.is_ready() || self.questions.len() >= MAX_QUESTIONS {
            return;
        }
        let (to, tls) = (named.destination.clone(), Arc::clone(&self.tls));
        let question = async move { connector::probe(&to, &tls).await.err().map(|error| error.to_string()) };
        self.questions.ask(Arc::clone(endpoint), question);
    }

    fn compare(&self, now: Instant) {
        for service in &self.current.load().services {
            service.versions.iter().for_each(|version| version.health.compare_rates(now));
        }
        self.tls.sweep(now.into());
    }
}

/// An endpoint of a snapshot, as it is spoken to and of.
struct Named<'s> {
    name: &'s str,
    destination: Destination,
}

fn find<'s>(snapshot: &'s Snapshot, endpoint: &EndpointLive) -> Option<Named<'s>> {
    let of = &endpoint.health.of_version;
    let service = snapshot.service(&of.service)?;
    let version = service.versions.iter().find(|version| version.name == of.version)?;
    let found = version.endpoints.iter().find(|known| known.live.id == endpoint.id)?;
    Some(Named { name: &found.name, destination: Destination::of(found, &service.timeouts) })
}
