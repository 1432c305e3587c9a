//! Carries errands out beside the owner: bounded tasks that call, ask and tell, and bring back what came of it.
//!
//! ```text
//! owner ── errands ─► Outside ─┬─► hook, provider: a task each ──┐
//!   ▲                          └─► alerts: queues, one courier ──┤
//!   └───────────────── News ◄───────────────────────────────────┘
//! ```
//!
//! Invariant: the owner waits for nothing here. What there is no room for is answered at once, as a failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::{Ask, Call, Errand};
use crate::config::Config;
use crate::model::Name;
use crate::outbound::Client;
use crate::outbound::alert::{Alerts, Fate, Pending, Receiver, Report};
use crate::outbound::hook::{self, Answer, Payload};
use crate::outbound::provider::{self, Question};
use crate::rollout::reading::Reading;

/// Calls and questions under way at once, over all services.
const ROOM: usize = 64;
/// What came back and was not taken in yet. Tasks wait for a place, and there are at most [`ROOM`].
const NEWS: usize = 64;

/// What came of an errand.
#[derive(Debug)]
pub(crate) enum News {
    /// A hook answered, or was given up.
    Answered {
        /// The service.
        service: Name,
        /// The call.
        id: u64,
        /// Whether it accepted.
        accepted: bool,
        /// What it said.
        text: String,
    },
    /// A provider was asked.
    Read {
        /// What.
        ask: Box<Ask>,
        /// What was read.
        reading: Reading,
    },
}

/// The way out, and what is under way.
pub(crate) struct Outside {
    /// None: the build has no TLS, and nothing can be called.
    client: Option<Client>,
    news: mpsc::Sender<News>,
    room: Arc<Semaphore>,
    calls: BTreeMap<Name, Vec<AbortHandle>>,
    receivers: Vec<Receiver>,
    alerts: Alerts,
    courier: Option<AbortHandle>,
    /// What is still to be delivered changed.
    moved: Arc<Notify>,
}

impl Outside {
    /// A way out for the receivers of `config`, with alerts that were still to be delivered; and where news come in.
    /// To be called on the runtime that the errands run on.
    pub(crate) fn new(config: &Config, pending: Vec<Pending>) -> (Self, mpsc::Receiver<News>) {
        let client = Client::system().inspect_err(|error| {
            tracing::error!(%error, "hooks, providers and receivers of alerts cannot be called");
        });
        let (news, taken) = mpsc::channel(NEWS);
        let moved = Arc::new(Notify::new());
        let mut outside = Self {
            client: client.ok(),
            news,
            room: Arc::new(Semaphore::new(ROOM)),
            calls: BTreeMap::new(),
            receivers: Vec::new(),
            alerts: Alerts::new([], reporter(&moved)).0,
            courier: None,
            moved,
        };
        outside.deliver_to(receivers(config), pending);
        (outside, taken)
    }

    /// Takes in the receivers of another file.
    pub(crate) fn take_in(&mut self, config: &Config) {
        let receivers = receivers(config);
        if receivers != self.receivers {
            let pending = self.alerts.pending();
            self.deliver_to(receivers, pending);
        }
    }

    fn deliver_to(&mut self, receivers: Vec<Receiver>, pending: Vec<Pending>) {
        if let Some(courier) = self.courier.take() {
            courier.abort();
        }
        let (alerts, courier) = Alerts::new(receivers.iter().cloned(), reporter(&self.moved));
        alerts.restore(pending);
        (self.alerts, self.receivers) = (alerts, receivers);
        if let Some(client) = self.client.clone().filter(|_| !self.receivers.is_empty()) {
            self.courier = Some(tokio::spawn(courier.run(client, std::future::pending())).abort_handle());
        }
    }

    /// Told when what is still to be delivered changed.
    pub(crate) fn moved(&self) -> Arc<Notify> {
        Arc::clone(&self.moved)
    }

    /// What is still to be delivered.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        self.alerts.pending()
    }

    /// Carries errands out, in order.
    pub(crate) fn run(&mut self, errands: Vec<Errand>) {
        for errand in errands {
            match errand {
                Errand::Call(call) => self.call(*call),
                Errand::Ask(ask) => self.ask(ask),
                Errand::Cancel { service } => {
                    self.calls.remove(&service).into_iter().flatten().for_each(|call| call.abort());
                }
                Errand::Tell { receivers, alert } => {
                    self.alerts.raise(&receivers, &alert);
                    self.moved.notify_one();
                }
            }
        }
    }

    fn call(&mut self, call: Call) {
        let service = call.service.clone();
        let (id, client, room) = (call.id, self.client.clone(), Arc::clone(&self.room).try_acquire_owned());
        let news = self.news.clone();
        let task = tokio::spawn(async move {
            let (accepted, text) = match (&client, &room) {
                (Some(client), Ok(_)) => answer(client, &call).await,
                (None, _) => (false, "it could not be called: no TLS".to_owned()),
                (_, Err(_)) => (false, format!("it was not called: {ROOM} other calls are under way")),
            };
            // Nobody listens only while Weir stops.
            drop(news.send(News::Answered { service: call.service, id, accepted, text }).await);
        });
        let calls = self.calls.entry(service).or_default();
        calls.retain(|call| !call.is_finished());
        calls.push(task.abort_handle());
    }

    fn ask(&self, ask: Box<Ask>) {
        let (client, room) = (self.client.clone(), Arc::clone(&self.room).try_acquire_owned());
        let news = self.news.clone();
        tokio::spawn(async move {
            let reading = match (&client, &room) {
                (Some(client), Ok(_)) => {
                    let (stable, canary) = (&ask.roles.stable, &ask.roles.canary);
                    let (check, service, window) = (&ask.check, &ask.service, ask.window);
                    let question = Question { check, service, stable, canary, window };
                    provider::read(client, &ask.provider, &question).await
                }
                (None, _) => Reading::Failed("no TLS".to_owned()),
                (_, Err(_)) => Reading::Failed(format!("it was not asked: {ROOM} other calls are under way")),
            };
            drop(news.send(News::Read { ask, reading }).await);
        });
    }
}

async fn answer(client: &Client, call: &Call) -> (bool, String) {
    let id = format!("{}-{}", call.service, call.id);
    let payload = Payload {
        service: &call.service,
        stable: &call.roles.stable,
        canary: &call.roles.canary,
        phase: call.phase.as_str(),
        when: call.when,
        step: call.step,
        weight: call.weight,
        id: &id,
        metadata: &BTreeMap::new(),
    };
    match hook::call(client, &call.hook, &payload).await {
        Answer::Accepted => (true, "accepted".to_owned()),
        Answer::Refused { status, text } => (false, format!("refused with {status}: {text}")),
        Answer::Failed { why } => (false, why),
    }
}

fn receivers(config: &Config) -> Vec<Receiver> {
    let receiver = |(name, alert): (&Name, &crate::config::Alert)| Receiver {
        name: name.clone(),
        kind: alert.receiver.clone(),
        on: alert.on.clone(),
    };
    config.alerts.iter().map(receiver).collect()
}

fn reporter(moved: &Arc<Notify>) -> crate::outbound::alert::OnReport {
    let moved = Arc::clone(moved);
    Arc::new(move |Report { receiver, alert, fate }| {
        match &fate {
            Fate::Delivered => tracing::info!(%receiver, %alert, "alert delivered"),
            Fate::Delayed { why, tries: 1 } => tracing::warn!(%receiver, %alert, "alert delayed: {why}"),
            Fate::Delayed { .. } => {}
            Fate::Dropped(loss) => tracing::error!(%receiver, %alert, ?loss, "alert dropped"),
        }
        moved.notify_one();
    })
}
