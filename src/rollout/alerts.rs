//! Who can be notified of a rollout, and of what: shared by the file and the delivery of alerts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// A channel of Slack, or of what takes the same messages.
    Slack {
        /// The incoming webhook's address, which is a secret by itself.
        url: Secret,
    },
    /// PagerDuty, Events API version 2.
    PagerDuty {
        /// The integration's key.
        routing_key: Secret,
        /// Where events are sent; PagerDuty itself if the file says nothing.
        url: Arc<str>,
    },
    /// Anything that takes CloudEvents.
    Webhook {
        /// Where to.
        url: Secret,
        /// The key of the HMAC that signs each event; none: it is not signed.
        secret: Option<Secret>,
    },
}

/// A text that nobody but its receiver may see.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The text itself, which came from a variable or stands in the file.
    Text(Arc<str>),
    /// A file that holds it; white space around it does not count.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}

/// What happened to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transition {
    /// It began.
    Started,
    /// The canary's weight rose.
    Step,
    /// It waits for an operator or a hook.
    Waiting,
    /// It goes on after it had waited or paused.
    Resumed,
    /// It stands still until an operator decides.
    Paused,
    /// The canary has everything; the old version is kept warm.
    Baking,
    /// The analysis sent all traffic back to stable.
    RolledBack,
    /// An operator sent all traffic back to stable.
    Aborted,
    /// Another rollout took its place before it was over.
    Superseded,
    /// The canary is the stable version now.
    Succeeded,
    /// A check could not be measured.
    ProviderError,
    /// Decisions cannot be written down, so none is taken.
    StoreError,
}

impl Transition {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Started,
        Self::Step,
        Self::Waiting,
        Self::Resumed,
        Self::Paused,
        Self::Baking,
        Self::RolledBack,
        Self::Aborted,
        Self::Superseded,
        Self::Succeeded,
        Self::ProviderError,
        Self::StoreError,
    ];

    /// Whether nobody has to act on the canary any more, so that an incident about it is over.
    #[must_use]
    pub(crate) const fn ends_incident(self) -> bool {
        matches!(self, Self::Succeeded | Self::Superseded)
    }

    /// The word in the configuration and in alerts.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Step => "step",
            Self::Waiting => "waiting",
            Self::Resumed => "resumed",
            Self::Paused => "paused",
            Self::Baking => "baking",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::Succeeded => "succeeded",
            Self::ProviderError => "provider_error",
            Self::StoreError => "store_error",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// For the record.
    Info,
    /// To be looked at.
    Warning,
    /// Something went wrong, and Weir did what there was to do.
    Error,
    /// Somebody must act.
    Critical,
}

impl Severity {
    /// How bad a transition is, unless whoever raises the alert knows better.
    #[must_use]
    pub(crate) const fn of(transition: Transition) -> Self {
        match transition {
            Transition::Started
            | Transition::Step
            | Transition::Waiting
            | Transition::Resumed
            | Transition::Baking
            | Transition::Superseded
            | Transition::Succeeded => Self::Info,
            Transition::Aborted | Transition::ProviderError => Self::Warning,
            Transition::Paused | Transition::RolledBack => Self::Error,
            Transition::StoreError => Self::Critical,
        }
    }

    /// The word in alerts; PagerDuty has the same ones.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}
