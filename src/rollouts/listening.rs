//! Whether a canary's endpoints accept connections, which is asked before it gets weight: a version that does not listen
//! yet waits, instead of costing users errors and being given up.
//!
//! All endpoints that can take traffic must accept, because all of them get their share of it. They are asked beside the
//! owner: at once when something begins, each second after a refusal, and now and then while there is no weight. Where the
//! version has active checks, all must be healthy by them as well: one that was not checked yet waits.
//!
//! Invariant: an answer counts only for the endpoints that would be asked now.

use std::time::Duration;

use super::action::Action;
use super::connect::{ConnectQuestion, ListenCheck};
use super::service::ServiceRollout;
use super::view::View;
use crate::model::Weight;
use crate::rollout::engine::{Listening, Phase, RolloutState};

/// How long after a question the next one is asked. Timers are not exact, and the owner's tick is a second.
const ASK_AGAIN: Duration = Duration::from_millis(900);
/// How long an endpoint that accepted is taken to do so still: a hook may keep the canary from its first step for hours.
const STILL: Duration = Duration::from_secs(10);
/// How long after its time an answer is given up as lost.
const GRACE: Duration = Duration::from_secs(10);

impl ServiceRollout {
    /// What the engine may know of whether the canary of `state` listens.
    pub(super) fn listening(&self, state: &RolloutState, view: &View<'_>) -> Listening {
        let Some(question) = self.question(state, view) else { return Listening::Accepts };
        match &self.listen.answered {
            Some((answered, why)) if *answered == question => {
                let why = why.clone().or_else(|| view.unwell(&question.service, &question.version));
                why.map_or(Listening::Accepts, Listening::Refuses)
            }
            _ => Listening::Unknown,
        }
    }

    /// The question that is to be asked now, if there is one.
    pub(super) fn ask_whether_listening(&mut self, view: &View<'_>) -> Option<Action> {
        let Some(question) = self.question(&self.record.state, view) else {
            self.listen = ListenCheck::default();
            return None;
        };
        let accepted = matches!(&self.listen.answered, Some((answered, None)) if *answered == question);
        let recently = self.listen.asked.as_ref().is_some_and(|(asked, at, open)| {
            let pause = match (*open, accepted) {
                (true, _) => question.timeout.saturating_add(GRACE),
                (false, true) => STILL,
                (false, false) => ASK_AGAIN,
            };
            *asked == question && view.now.saturating_sub(*at) < pause
        });
        if recently {
            return None;
        }
        self.listen.asked = Some((question.clone(), view.now, true));
        Some(Action::Connect(Box::new(question)))
    }

    /// The endpoints answered: why not, if they do not accept. Whether that is news.
    pub(super) fn connected(&mut self, question: ConnectQuestion, why: Option<String>, view: &View<'_>) -> bool {
        if self.question(&self.record.state, view).as_ref() != Some(&question) {
            return false;
        }
        let before = self.listening(&self.record.state, view);
        if let Some((asked, _, open)) = &mut self.listen.asked
            && *asked == question
        {
            *open = false;
        }
        self.listen.answered = Some((question, why));
        before != self.listening(&self.record.state, view)
    }

    /// What there is to ask about the canary of `state`: only one without weight is asked.
    fn question(&self, state: &RolloutState, view: &View<'_>) -> Option<ConnectQuestion> {
        let begins = state.is_under_way() && state.phase() != Phase::RollingBack && state.weight == Weight::ZERO;
        let version = state.canary.as_ref().filter(|_| begins)?.version.clone();
        let timeout = view.config.services.get(&self.service)?.timeouts.connect.get();
        let addresses = view.ready(&self.service, &version);
        (!addresses.is_empty()).then(|| ConnectQuestion { service: self.service.clone(), version, addresses, timeout })
    }
}
