//! Dispatches actions beside the owner: bounded tasks that call, query and alert, and report how each completed.
//!
//! ```text
//! owner ── actions ─► Dispatcher ─┬─► hook, provider: a task each ───┐
//!   ▲                             └─► alerts: queues, one worker ────┤
//!   └──────────────── Completion ◄──────────────────────────────────┘
//! ```
//!
//! Invariant: the owner waits for nothing here. What is beyond the bounds completes at once, as a failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::{Action, ConnectQuestion, HookCall, Query, connect};
use crate::config::Config;
use crate::http_client::Client;
use crate::model::Name;
use crate::outbound::alert::{Alerts, DeliveryStatus, Pending, Receiver, Report};
use crate::outbound::hook::{self, HookResponse, Payload};
use crate::outbound::provider::{self, MetricQuery};
use crate::rollout::plan::HookPoint;
use crate::rollout::reading::Reading;

/// Calls and queries under way at once, over all services.
const MAX_CALLS: usize = 64;
/// Completions that wait for the owner. Tasks wait for a place, and there are at most [`MAX_CALLS`].
const MAX_COMPLETIONS: usize = 64;

/// How an action completed.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A hook answered, or the call failed.
    Hook {
        /// The service.
        service: Name,
        /// The call.
        id: u64,
        /// Whether it accepted.
        accepted: bool,
        /// What it said.
        text: String,
    },
    /// A canary's endpoints were connected to.
    Connect {
        /// Which.
        question: Box<ConnectQuestion>,
        /// Why not all accept, if not.
        why: Option<String>,
    },
    /// A provider was queried.
    Provider {
        /// What.
        query: Box<Query>,
        /// What was read.
        reading: Reading,
    },
}

impl Completion {
    /// The service that it is about.
    pub(crate) fn service(&self) -> &Name {
        match self {
            Self::Hook { service, .. } => service,
            Self::Connect { question, .. } => &question.service,
            Self::Provider { query, .. } => &query.service,
        }
    }
}

/// What is dispatched, and with what.
pub(crate) struct Dispatcher {
    /// None: TLS or the system's certificate authorities could not be set up (it was logged); every call then fails.
    client: Option<Client>,
    completions: mpsc::Sender<Completion>,
    slots: Arc<Semaphore>,
    calls: BTreeMap<Name, Vec<AbortHandle>>,
    /// Connects to canaries' endpoints, one question for each service.
    connects: BTreeMap<Name, AbortHandle>,
    receivers: Vec<Receiver>,
    alerts: Alerts,
    delivery: Option<AbortHandle>,
    /// What is still to be delivered changed.
    pending_changed: Arc<Notify>,
}

impl Dispatcher {
    /// A dispatcher for the receivers of `config`, with alerts that were still to be delivered; and where completions
    /// arrive. To be called on the runtime that the actions run on.
    pub(crate) fn new(config: &Config, pending: Vec<Pending>) -> (Self, mpsc::Receiver<Completion>) {
        let client = Client::system().inspect_err(|error| {
            tracing::error!(%error, "hooks, providers and receivers of alerts cannot be called");
        });
        let (completions, taken) = mpsc::channel(MAX_COMPLETIONS);
        let pending_changed = Arc::new(Notify::new());
        let mut outside = Self {
            client: client.ok(),
            completions,
            slots: Arc::new(Semaphore::new(MAX_CALLS)),
            calls: BTreeMap::new(),
            connects: BTreeMap::new(),
            receivers: Vec::new(),
            alerts: Alerts::new([], reporter(&pending_changed)).0,
            delivery: None,
            pending_changed,
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
        if let Some(delivery) = self.delivery.take() {
            delivery.abort();
        }
        let (alerts, delivery) = Alerts::new(receivers.iter().cloned(), reporter(&self.pending_changed));
        alerts.restore(pending);
        (self.alerts, self.receivers) = (alerts, receivers);
        if let Some(client) = self.client.clone().filter(|_| !self.receivers.is_empty()) {
            self.delivery = Some(tokio::spawn(delivery.run(client, std::future::pending())).abort_handle());
        }
    }

    /// Notified when what is still to be delivered changed.
    pub(crate) fn pending_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.pending_changed)
    }

    /// What is still to be delivered.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        self.alerts.pending()
    }

    /// Dispatches actions, in order.
    pub(crate) fn run(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::HookCall(call) => self.call(*call),
                Action::Query(query) => self.query(query),
                Action::Connect(question) => self.connect(question),
                Action::Cancel { service } => {
                    self.calls.remove(&service).into_iter().flatten().for_each(|call| call.abort());
                }
                Action::Alert { receivers, alert } => {
                    self.alerts.raise(&receivers, &alert);
                    self.pending_changed.notify_one();
                }
            }
        }
    }

    fn call(&mut self, call: HookCall) {
        let (service, when) = (call.service.clone(), call.when);
        let (id, client, slots) = (call.id, self.client.clone(), Arc::clone(&self.slots).try_acquire_owned());
        let completions = self.completions.clone();
        let task = tokio::spawn(async move {
            let (accepted, text) = match (&client, &slots) {
                (Some(client), Ok(_)) => answer(client, &call).await,
                (None, _) => (false, "it could not be called: no TLS".to_owned()),
                (_, Err(_)) => (false, format!("it was not called: {MAX_CALLS} other calls are under way")),
            };
            // Nobody receives it only while Weir stops.
            drop(completions.send(Completion::Hook { service: call.service, id, accepted, text }).await);
        });
        // What is called after the end is no matter of the rollout that follows.
        if when == HookPoint::After {
            return;
        }
        let calls = self.calls.entry(service).or_default();
        calls.retain(|call| !call.is_finished());
        calls.push(task.abort_handle());
    }

    /// Asks whether a canary's endpoints accept connections. A question that was asked before about the same service does not
    /// matter any more.
    fn connect(&mut self, question: Box<ConnectQuestion>) {
        self.connects.retain(|_, asking| !asking.is_finished());
        let completions = self.completions.clone();
        let service = question.service.clone();
        let task = tokio::spawn(async move {
            let why = connect::refusal(&question.addresses, question.timeout).await;
            drop(completions.send(Completion::Connect { question, why }).await);
        });
        if let Some(before) = self.connects.insert(service, task.abort_handle()) {
            before.abort();
        }
    }

    fn query(&self, query: Box<Query>) {
        let (client, slots) = (self.client.clone(), Arc::clone(&self.slots).try_acquire_owned());
        let completions = self.completions.clone();
        tokio::spawn(async move {
            let reading = match (&client, &slots) {
                (Some(client), Ok(_)) => {
                    let (stable, canary) = (&query.roles.stable, &query.roles.canary);
                    let (check, service, window) = (&query.check, &query.service, query.window);
                    let question = MetricQuery { check, service, stable, canary, window };
                    provider::read(client, &query.provider, &question).await
                }
                (None, _) => Reading::Failed("no TLS".to_owned()),
                (_, Err(_)) => Reading::Failed(format!("it was not asked: {MAX_CALLS} other calls are under way")),
            };
            drop(completions.send(Completion::Provider { query, reading }).await);
        });
    }
}

async fn answer(client: &Client, call: &HookCall) -> (bool, String) {
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
        HookResponse::Accepted => (true, "accepted".to_owned()),
        HookResponse::Refused { status, text } => (false, format!("refused with {status}: {text}")),
        HookResponse::Failed { why } => (false, why),
    }
}

fn receivers(config: &Config) -> Vec<Receiver> {
    let alerts = config.alerts.iter();
    alerts
        .map(|(name, alert)| Receiver { name: name.clone(), kind: alert.receiver.clone(), on: alert.on.clone() })
        .collect()
}

/// What the alerts among `actions` leave to be delivered, by the receivers of `config`.
pub(super) fn pending<'a>(config: &Config, actions: impl Iterator<Item = &'a Action>) -> Vec<Pending> {
    let receivers = receivers(config);
    let mut pending = Vec::new();
    for action in actions {
        let Action::Alert { receivers: named, alert } = action else { continue };
        let wanting = receivers.iter().filter(|one| named.contains(&one.name) && one.wants(alert.transition));
        pending.extend(wanting.map(|receiver| Pending {
            receiver: receiver.name.to_string(),
            attempts: 0,
            alert: (**alert).clone(),
        }));
    }
    pending
}

fn reporter(pending_changed: &Arc<Notify>) -> crate::outbound::alert::OnReport {
    let pending_changed = Arc::clone(pending_changed);
    Arc::new(move |Report { receiver, alert, status }| {
        match &status {
            DeliveryStatus::Delivered => tracing::info!(%receiver, %alert, "alert delivered"),
            DeliveryStatus::Delayed { why, attempts: 1 } => tracing::warn!(%receiver, %alert, "alert delayed: {why}"),
            DeliveryStatus::Delayed { .. } => {}
            DeliveryStatus::Dropped(reason) => tracing::error!(%receiver, %alert, loss = ?reason, "alert dropped"),
        }
        pending_changed.notify_one();
    })
}
