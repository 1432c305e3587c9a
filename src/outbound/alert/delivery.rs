//! Who carries alerts to their receivers: a queue for each, and a loop that empties it.
//!
//! [`Alerts`] is the side that raises them and never waits. [`Courier`] is the side that delivers; a try that fails is
//! repeated after 1 s, 2 s, 4 s, … up to a minute, [`TRIES`] times in all, which is about eight hours.
//!
//! Nothing is kept here over a restart: what waits can be had as values ([`Alerts::pending`]) and given back
//! ([`Alerts::restore`]). When the receivers change, the same two lead to a new pair.

use std::fmt;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::queue::{Pending, Queue};
use super::send::{Sent, send};
use super::{Alert, Receiver};
use crate::model::Name;
use crate::outbound::backoff::Backoff;
use crate::outbound::client::Client;

/// Between tries.
const PACE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };
/// Tries for one alert.
const TRIES: u32 = 640;

/// What became of an alert at one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which receiver.
    pub receiver: Name,
    /// The alert's id.
    pub alert: String,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The receiver has it.
    Delivered,
    /// A try failed; another follows.
    Delayed {
        /// Why.
        why: String,
        /// Tries that failed so far.
        tries: u32,
    },
    /// The receiver will not get it.
    Dropped(Loss),
}

/// Why an alert does not reach a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Too many newer ones wait.
    Overflow,
    /// The receiver does not want it: its answer.
    Refused(String),
    /// Tried too often; why the last try failed.
    GivenUp(String),
    /// No receiver has this name (any more).
    NoReceiver,
}

/// Hears what becomes of alerts. It is called where they are raised and delivered, so it must not wait.
pub type OnReport = Arc<dyn Fn(Report) + Send + Sync>;

/// Where alerts are raised. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    lanes: Arc<[Lane]>,
    report: OnReport,
}

/// What delivers. Dropping it ends the delivery and loses nothing that [`Alerts::pending`] gives.
#[derive(Debug)]
#[must_use = "without it nothing is delivered"]
pub struct Courier(Alerts);

struct Lane {
    receiver: Receiver,
    queue: Mutex<Queue>,
    /// Something new waits.
    arrived: Notify,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lanes.iter().map(|lane| &lane.receiver.name)).finish()
    }
}

impl Alerts {
    /// Queues for these receivers, all empty.
    pub fn new(receivers: impl IntoIterator<Item = Receiver>, report: OnReport) -> (Self, Courier) {
        let lane = |receiver| Lane { receiver, queue: Mutex::default(), arrived: Notify::new() };
        let alerts = Self { lanes: receivers.into_iter().map(lane).collect(), report };
        (alerts.clone(), Courier(alerts))
    }

    /// Tells those of `receivers` that want to know. It never waits; what a queue has no room for pushes out that
    /// queue's oldest alert. An alert that still waits is not queued a second time.
    pub fn raise(&self, receivers: &[Name], alert: &Alert) {
        for name in receivers {
            match self.lanes.iter().find(|lane| lane.receiver.name == *name) {
                Some(lane) if lane.receiver.wants(alert.transition) => self.push(lane, alert.clone(), 0),
                Some(_) => {}
                None => self.report(Arc::clone(name), &alert.id, Fate::Dropped(Loss::NoReceiver)),
            }
        }
    }

    /// Everything that is still to be delivered, to be stored. Take it after raising and after each report.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let mut all = Vec::new();
        for lane in self.lanes.iter() {
            all.extend(lane.queue().waiting().map(|(alert, tries)| Pending {
                receiver: lane.receiver.name.to_string(),
                tries: *tries,
                alert: alert.clone(),
            }));
        }
        all
    }

    /// Queues what [`Alerts::pending`] gave, here or before a restart. To be called before anything is raised, so
    /// that the order stays.
    pub fn restore(&self, pending: impl IntoIterator<Item = Pending>) {
        for Pending { receiver, tries, alert } in pending {
            match self.lanes.iter().find(|lane| *lane.receiver.name == *receiver) {
                Some(lane) => self.push(lane, alert, tries),
                None => self.report(receiver.into(), &alert.id, Fate::Dropped(Loss::NoReceiver)),
            }
        }
    }

    fn push(&self, lane: &Lane, alert: Alert, tries: u32) {
        let pushed_out = lane.queue().push(alert, tries);
        lane.arrived.notify_one();
        if let Some(oldest) = pushed_out {
            self.report(Arc::clone(&lane.receiver.name), &oldest.id, Fate::Dropped(Loss::Overflow));
        }
    }

    fn report(&self, receiver: Name, alert: &str, fate: Fate) {
        (self.report)(Report { receiver, alert: alert.to_owned(), fate });
    }
}

impl Courier {
    /// Delivers until `shutdown` is over. A delivery that is then under way is given up and is pending still.
    pub async fn run(self, client: Client, shutdown: impl Future<Output = ()>) {
        self.run_over(&client, shutdown).await;
    }

    async fn run_over(self, way: &impl Way, shutdown: impl Future<Output = ()>) {
        let deliver = async {
            join_all(self.0.lanes.iter().map(|lane| self.0.empty(lane, way))).await;
            // Only without receivers: a lane is never done.
            pending::<()>().await;
        };
        tokio::select! {
            () = shutdown => {}
            () = deliver => {}
        }
    }
}

/// How an alert gets to a receiver.
trait Way {
    /// One try.
    async fn send(&self, receiver: &Receiver, alert: &Alert) -> Sent;
}

impl Way for Client {
    async fn send(&self, receiver: &Receiver, alert: &Alert) -> Sent {
        send(self, receiver, alert).await
    }
}

impl Alerts {
    /// Delivers what waits in a lane and what comes, for ever.
    async fn empty(&self, lane: &Lane, way: &impl Way) {
        loop {
            let next = lane.queue().next();
            let Some(alert) = next else {
                lane.arrived.notified().await;
                continue;
            };
            let sent = way.send(&lane.receiver, &alert).await;
            let (fate, wait) = lane.settle(sent);
            self.report(Arc::clone(&lane.receiver.name), &alert.id, fate);
            if let Some(wait) = wait {
                sleep(wait).await;
            }
        }
    }
}

impl Lane {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the alert that was sent, and how long to wait before the next one.
    fn settle(&self, sent: Sent) -> (Fate, Option<Duration>) {
        let mut queue = self.queue();
        let fate = match sent {
            Sent::Delivered => Fate::Delivered,
            Sent::Refused(why) => Fate::Dropped(Loss::Refused(why)),
            Sent::Again(why) => match queue.failed() {
                tries if tries < TRIES => return (Fate::Delayed { why, tries }, Some(PACE.delay(tries))),
                _ => Fate::Dropped(Loss::GivenUp(why)),
            },
        };
        queue.settle();
        (fate, None)
    }
}

#[cfg(test)]
mod tests;
