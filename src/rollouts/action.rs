//! What a decision asks for outside of the process: calls, queries and alerts, as values.
//!
//! They are carried out beside the owner, after the decision is durable; see [`super::dispatch`].

use std::time::Duration;

use super::connect::ConnectQuestion;
use super::roles::Roles;
use crate::model::{Name, Weight};
use crate::outbound::alert::{Alert, Figure};
use crate::rollout::alerts::{Severity, Transition};
use crate::rollout::engine::{self, Phase};
use crate::rollout::plan::{Hook, HookPoint, Plan, Provider};
use crate::rollout::verdict::Verdict;

/// Something to be done outside of the process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Call a hook.
    HookCall(Box<HookCall>),
    /// Calls to hooks of this service that were made for a decision no longer matter.
    Cancel {
        /// The service.
        service: Name,
    },
    /// Query a provider.
    Query(Box<Query>),
    /// Connect to each endpoint of a canary.
    Connect(Box<ConnectQuestion>),
    /// Raise an alert at these receivers.
    Alert {
        /// Their names.
        receivers: Vec<Name>,
        /// The alert.
        alert: Box<Alert>,
    },
}

impl Action {
    /// The service that it is about.
    pub(super) fn service(&self) -> &str {
        match self {
            Self::HookCall(call) => &call.service,
            Self::Cancel { service } => service,
            Self::Query(query) => &query.service,
            Self::Connect(question) => &question.service,
            Self::Alert { alert, .. } => &alert.service,
        }
    }
}

/// What is said of a decision that is in effect and could not be written.
const UNWRITTEN: &str = "it is not stored yet, and lost with a restart until the disk takes it";

/// Says in alerts about `service` that what they are about could not be written.
pub(super) fn note_unwritten(actions: &mut [Action], service: &Name) {
    for action in actions {
        if let Action::Alert { alert, .. } = action
            && *alert.service == **service
            && alert.transition != Transition::StoreError
        {
            alert.sentence = format!("{}; {UNWRITTEN}", alert.sentence);
        }
    }
}

/// A hook to be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HookCall {
    pub(crate) service: Name,
    pub(crate) id: u64,
    pub(crate) hook: Hook,
    pub(crate) when: HookPoint,
    pub(crate) roles: Roles,
    pub(crate) phase: Phase,
    pub(crate) step: usize,
    pub(crate) weight: Weight,
}

/// A query to a provider.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) service: Name,
    pub(crate) check: Name,
    pub(crate) provider: Provider,
    pub(crate) roles: Roles,
    pub(crate) window: Duration,
}

/// What an alert is about besides itself.
pub(super) struct AlertContext<'a> {
    pub(super) service: &'a Name,
    pub(super) roles: &'a Roles,
    pub(super) plan: &'a Plan,
    /// The canary's.
    pub(super) weight: Weight,
    /// Unique over all alerts of the service.
    pub(super) number: u64,
    /// In milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
}

impl AlertContext<'_> {
    /// An alert of the engine, for the plan's receivers.
    pub(super) fn alert(&self, alert: &engine::Notification) -> Option<Action> {
        let figures = alert.evidence.iter().map(Figure::from).collect();
        self.raise(alert.transition, alert.severity, alert.sentence.clone(), figures)
    }

    /// A check that could not be measured.
    pub(super) fn provider_alert(&self, verdict: &Verdict) -> Option<Action> {
        let transition = Transition::ProviderError;
        self.raise(transition, Severity::of(transition), verdict.sentence.clone(), vec![Figure::from(verdict)])
    }

    fn raise(
        &self,
        transition: Transition,
        severity: Severity,
        sentence: String,
        figures: Vec<Figure>,
    ) -> Option<Action> {
        if self.plan.alerts.is_empty() {
            return None;
        }
        let (canary, weight) = (&self.roles.canary, self.weight);
        let alert = Alert {
            id: format!("weir-{}-{}-{}", self.service, self.at_ms, self.number),
            time: self.at_ms / 1_000,
            service: self.service.to_string(),
            stable: self.roles.stable.to_string(),
            canary: canary.to_string(),
            transition,
            severity,
            sentence,
            done: format!("{canary} has {weight} % of the traffic"),
            window_seconds: self.plan.window.as_secs_f64(),
            figures,
        };
        Some(Action::Alert { receivers: self.plan.alerts.clone(), alert: Box::new(alert) })
    }
}
