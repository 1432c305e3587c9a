//! Delivery of alerts to their receivers: a queue for each, and a worker that empties it.
//!
//! [`Alerts`] is the side that raises them and never waits. [`DeliveryWorker`] is the side that delivers; an attempt
//! that fails is repeated after 1 s, 2 s, 4 s, … up to a minute, [`MAX_ATTEMPTS`] times in all, which is about eight
//! hours.
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
use crate::http_client::Client;
use crate::model::Name;
use crate::outbound::backoff::Backoff;

/// Between attempts.
const BACKOFF: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) };
/// Attempts for one alert.
const MAX_ATTEMPTS: u32 = 640;

/// What became of an alert at one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Which receiver.
    pub(crate) receiver: Name,
    /// The alert's id.
    pub(crate) alert: String,
    /// What became of it.
    pub(crate) status: DeliveryStatus,
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryStatus {
    /// The receiver has it.
    Delivered,
    /// An attempt failed; another follows.
    Delayed {
        /// Why.
        why: String,
        /// Tries that failed so far.
        attempts: u32,
    },
    /// The receiver will not get it.
    Dropped(DropReason),
}

/// Why an alert does not reach a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// Too many newer ones wait.
    Overflow,
    /// The receiver does not want it: its answer.
    Refused(String),
    /// Attempted too often; why the last attempt failed.
    GivenUp(String),
    /// No receiver has this name (any more).
    NoReceiver,
}

/// Is called with what becomes of alerts. It is called where they are raised and delivered, so it must not wait.
pub(crate) type OnReport = Arc<dyn Fn(Report) + Send + Sync>;

/// Where alerts are raised. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Alerts {
    queues: Arc<[ReceiverQueue]>,
    report: OnReport,
}

/// What delivers. Dropping it ends the delivery and loses nothing that [`Alerts::pending`] gives.
#[derive(Debug)]
#[must_use = "without it nothing is delivered"]
pub(crate) struct DeliveryWorker(Alerts);

struct ReceiverQueue {
    receiver: Receiver,
    queue: Mutex<Queue>,
    /// Something new waits.
    arrived: Notify,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.queues.iter().map(|queue| &queue.receiver.name)).finish()
    }
}

impl Alerts {
    /// Queues for these receivers, all empty.
    pub(crate) fn new(receivers: impl IntoIterator<Item = Receiver>, report: OnReport) -> (Self, DeliveryWorker) {
        let queue = |receiver| ReceiverQueue { receiver, queue: Mutex::default(), arrived: Notify::new() };
        let alerts = Self { queues: receivers.into_iter().map(queue).collect(), report };
        (alerts.clone(), DeliveryWorker(alerts))
    }

    /// Tells those of `receivers` that want to know. It never waits; what a queue has no room for pushes out that
    /// queue's oldest alert. An alert that still waits is not queued a second time.
    pub(crate) fn raise(&self, receivers: &[Name], alert: &Alert) {
        for name in receivers {
            match self.queues.iter().find(|queue| queue.receiver.name == *name) {
                Some(queue) if queue.receiver.wants(alert.transition) => self.push(queue, alert.clone(), 0),
                Some(_) => {}
                None => self.report(Arc::clone(name), &alert.id, DeliveryStatus::Dropped(DropReason::NoReceiver)),
            }
        }
    }

    /// Everything that is still to be delivered, to be stored. Take it after raising and after each report.
    #[must_use]
    pub(crate) fn pending(&self) -> Vec<Pending> {
        let mut all = Vec::new();
        for queue in self.queues.iter() {
            all.extend(queue.lock().waiting().map(|(alert, attempts)| Pending {
                receiver: queue.receiver.name.to_string(),
                attempts: *attempts,
                alert: alert.clone(),
            }));
        }
        all
    }

    /// Queues what [`Alerts::pending`] gave, here or before a restart. To be called before anything is raised, so
    /// that the order stays.
    pub(crate) fn restore(&self, pending: impl IntoIterator<Item = Pending>) {
        for Pending { receiver, attempts, alert } in pending {
            match self.queues.iter().find(|queue| *queue.receiver.name == *receiver) {
                Some(queue) => self.push(queue, alert, attempts),
                None => self.report(receiver.into(), &alert.id, DeliveryStatus::Dropped(DropReason::NoReceiver)),
            }
        }
    }

    fn push(&self, queue: &ReceiverQueue, alert: Alert, attempts: u32) {
        let pushed_out = queue.lock().push(alert, attempts);
        queue.arrived.notify_one();
        if let Some(oldest) = pushed_out {
            self.report(Arc::clone(&queue.receiver.name), &oldest.id, DeliveryStatus::Dropped(DropReason::Overflow));
        }
    }

    fn report(&self, receiver: Name, alert: &str, status: DeliveryStatus) {
        (self.report)(Report { receiver, alert: alert.to_owned(), status });
    }
}

impl DeliveryWorker {
    /// Delivers until `shutdown` is over. A delivery that is then under way is dropped and is pending still.
    pub(crate) async fn run(self, client: Client, shutdown: impl Future<Output = ()>) {
        self.run_with(&client, shutdown).await;
    }

    async fn run_with(self, transport: &impl Transport, shutdown: impl Future<Output = ()>) {
        let deliver = async {
            join_all(self.0.queues.iter().map(|queue| self.0.run_queue(queue, transport))).await;
            // Only without receivers: a queue is never done.
            pending::<()>().await;
        };
        tokio::select! {
            () = shutdown => {}
            () = deliver => {}
        }
    }
}

/// How an alert gets to a receiver.
trait Transport {
    /// One attempt.
    async fn send(&self, receiver: &Receiver, alert: &Alert) -> Sent;
}

impl Transport for Client {
    async fn send(&self, receiver: &Receiver, alert: &Alert) -> Sent {
        send(self, receiver, alert).await
    }
}

impl Alerts {
    /// Delivers what waits in a queue and what comes, for ever.
    async fn run_queue(&self, queue: &ReceiverQueue, transport: &impl Transport) {
        loop {
            let next = queue.lock().next();
            let Some(alert) = next else {
                queue.arrived.notified().await;
                continue;
            };
            let sent = transport.send(&queue.receiver, &alert).await;
            let (status, wait) = queue.settle(sent);
            self.report(Arc::clone(&queue.receiver.name), &alert.id, status);
            if let Some(wait) = wait {
                sleep(wait).await;
            }
        }
    }
}

impl ReceiverQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the alert that was sent, and how long to wait before the next one.
    fn settle(&self, sent: Sent) -> (DeliveryStatus, Option<Duration>) {
        let mut queue = self.lock();
        let status = match sent {
            Sent::Delivered => DeliveryStatus::Delivered,
            Sent::Refused(why) => DeliveryStatus::Dropped(DropReason::Refused(why)),
            Sent::Retry(why) => match queue.failed() {
                attempts if attempts < MAX_ATTEMPTS => {
                    return (DeliveryStatus::Delayed { why, attempts }, Some(BACKOFF.delay(attempts)));
                }
                _ => DeliveryStatus::Dropped(DropReason::GivenUp(why)),
            },
        };
        queue.settle();
        (status, None)
    }
}

#[cfg(test)]
mod tests;
