use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::proxy::request::failure::{LOCAL, PROTOCOL, RESET, TIMEOUT};
use crate::snapshot::retry::RetryConditions;
use crate::snapshot::retry::tests::default_policy;

/// How an attempt may end.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    ConnectFailed(Failure),
    Broke {
        failure: Failure,
        reused: bool,
        begun: bool,
        kept: bool,
    },
    TurnedAway {
        kept: bool,
    },
    /// With a status that the service names.
    Answered {
        kept: bool,
    },
}

/// A version in a test: which endpoints are ready, and for how many retries its budget has room.
struct Scene {
    policy: RetryPolicy,
    ready: Vec<bool>,
    room: Cell<u32>,
}

impl Alternatives for Scene {
    fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    fn has_ready(&self, tried: &Tried) -> bool {
        self.ready.iter().enumerate().any(|(at, ready)| *ready && !tried.contains(at))
    }

    fn admits_retry(&self) -> bool {
        let room = self.room.get();
        self.room.set(room.saturating_sub(1));
        room > 0
    }
}

impl Scene {
    /// As a balancer picks: the first that is ready and was not tried; if nothing was tried, any.
    fn choose(&self, attempts: &mut Attempts) -> usize {
        let open = |at: &usize| self.ready[*at] && !attempts.tried.contains(*at);
        let at = (0..self.ready.len()).find(open).unwrap_or(0);
        attempts.endpoint = Some(at);
        (attempts.reused, attempts.begun) = (false, false);
        at
    }

    fn end(&self, attempts: &mut Attempts, outcome: Outcome) -> RetryVerdict {
        match outcome {
            Outcome::ConnectFailed(failure) => attempts.after_connect_failure(failure, self),
            Outcome::Broke { failure, reused, begun, kept } => {
                attempts.connected(reused && !attempts.is_fresh(), attempts.began);
                if begun {
                    attempts.answer_began();
                }
                attempts.after_break(failure, self, || kept)
            }
            Outcome::TurnedAway { kept } => attempts.after_refusal(self, || kept),
            Outcome::Answered { kept } => attempts.after_status(self, || kept),
        }
    }
}

/// The table of the file's header, on all that came before: a slow and plain model.
#[derive(Default)]
struct Model {
    tries: u16,
    unprocessed: u8,
    fresh: bool,
    in_budget: bool,
    room: u32,
    /// Which endpoints failed since all were tried last.
    failed: Vec<usize>,
    /// Whether an endpoint was ready then that was not tried.
    untried: bool,
}

impl Model {
    fn budgeted(&mut self, reason: RetryReason, may: bool) -> RetryVerdict {
        if !may {
            return RetryVerdict::GiveUp;
        }
        if !self.in_budget && self.room == 0 {
            return RetryVerdict::OverBudget;
        }
        self.room -= u32::from(!self.in_budget);
        self.in_budget = true;
        self.tries += 1;
        RetryVerdict::Retry(Some(reason))
    }

    fn expects(&mut self, scene: &Scene, idempotent: bool, at: usize, outcome: Outcome) -> RetryVerdict {
        if !self.failed.contains(&at) {
            self.failed.push(at);
        }
        let ready: Vec<usize> = (0..scene.ready.len()).filter(|at| scene.ready[*at]).collect();
        let untried = ready.iter().any(|at| !self.failed.contains(at));
        self.untried = untried;
        let may_again = !ready.is_empty();
        let tries_left = self.tries + 1 < u16::from(scene.policy.attempts);
        let verdict = match outcome {
            Outcome::ConnectFailed(failure) => {
                let again = scene.policy.on.connect && tries_left && if failure.passes() { may_again } else { untried };
                self.tries += u16::from(again);
                if again {
                    RetryVerdict::Retry(failure.kind.map(|_| RetryReason::Connect))
                } else {
                    RetryVerdict::GiveUp
                }
            }
            Outcome::Broke { kept, .. } if !idempotent || !kept => RetryVerdict::GiveUp,
            Outcome::Broke { failure, reused, begun, .. } if failure == RESET && reused && !begun && !self.fresh => {
                self.fresh = true;
                RetryVerdict::Retry(Some(RetryReason::Reused))
            }
            Outcome::Broke { failure, .. } => match failure {
                RESET if scene.policy.on.reset => self.budgeted(RetryReason::Reset, tries_left && may_again),
                PROTOCOL if scene.policy.on.reset => self.budgeted(RetryReason::Protocol, tries_left && untried),
                TIMEOUT if scene.policy.on.timeout && scene.policy.per_try.is_some() => {
                    self.budgeted(RetryReason::Timeout, tries_left && may_again)
                }
                _ => RetryVerdict::GiveUp,
            },
            Outcome::Answered { kept } => {
                let may = idempotent && kept && tries_left && may_again;
                self.budgeted(RetryReason::Status, may)
            }
            Outcome::TurnedAway { kept } if kept && self.unprocessed < 3 => {
                self.unprocessed += 1;
                self.fresh = true;
                RetryVerdict::Retry(Some(RetryReason::Unprocessed))
            }
            Outcome::TurnedAway { .. } => RetryVerdict::GiveUp,
        };
        if !untried {
            // All were tried: the others first, if there are any.
            let others = ready.iter().any(|other| *other != at);
            self.failed = if others { vec![at] } else { Vec::new() };
        }
        verdict
    }
}

fn failures() -> impl Strategy<Value = Failure> {
    prop::sample::select(vec![RESET, TIMEOUT, PROTOCOL, LOCAL])
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        failures().prop_map(Outcome::ConnectFailed),
        (failures(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.9))
            .prop_map(|(failure, reused, begun, kept)| Outcome::Broke { failure, reused, begun, kept }),
        prop::bool::weighted(0.9).prop_map(|kept| Outcome::TurnedAway { kept }),
        prop::bool::weighted(0.9).prop_map(|kept| Outcome::Answered { kept }),
    ]
}

fn policies() -> impl Strategy<Value = RetryPolicy> {
    let conditions = (any::<bool>(), any::<bool>(), any::<bool>());
    (1_u8..=5, conditions, any::<bool>()).prop_map(|(attempts, (connect, reset, timeout), per_try)| RetryPolicy {
        attempts,
        on: RetryConditions { connect, reset, timeout, ..RetryConditions::default() },
        per_try: per_try.then_some(Duration::from_secs(1)),
        ..default_policy()
    })
}

proptest! {
    #[test]
    fn attempts_follow_the_table_and_end(
        all in prop::collection::vec(outcomes(), 1..60),
        policy in policies(),
        ready in prop::collection::vec(prop::bool::weighted(0.8), 1..5),
        room in 0_u32..4,
        idempotent in any::<bool>(),
    ) {
        let scene = Scene { policy, ready, room: Cell::new(room) };
        let mut attempts = Attempts::new(if idempotent { "PUT" } else { "POST" }, Instant::now(), None);
        let mut model = Model { room, ..Model::default() };
        let (mut made, mut counted, mut fresh) = (0, 0, false);
        for outcome in all {
            made += 1;
            let untried = scene.has_ready(&attempts.tried);
            let at = scene.choose(&mut attempts);
            prop_assert!(!untried || !model.failed.contains(&at), "an endpoint twice while another is ready");
            let verdict = scene.end(&mut attempts, outcome);
            prop_assert_eq!(verdict, model.expects(&scene, idempotent, at, outcome), "attempt {}: {:?}", made, outcome);
            prop_assert!(attempts.is_fresh() || !fresh, "once the pool is not to be used it stays so");
            fresh = attempts.is_fresh();
            counted += u32::from(matches!(verdict, RetryVerdict::Retry(_)));
            prop_assert_eq!(attempts.retries(), counted);
            prop_assert_eq!(attempts.in_budget, model.in_budget);
            let pause = attempts.take_pause().unwrap_or_default();
            prop_assert!(pause <= scene.policy.backoff * 10);
            prop_assert!(pause.is_zero() || !model.untried, "another endpoint is not waited for");
            if !matches!(verdict, RetryVerdict::Retry(_)) {
                break;
            }
        }
        prop_assert!(made <= MAX_ATTEMPTS);
        prop_assert!(made <= usize::from(scene.policy.attempts) + 4);
    }
}

fn scene(endpoints: usize) -> Scene {
    Scene { policy: default_policy(), ready: vec![true; endpoints], room: Cell::new(9) }
}

#[test]
fn the_only_endpoint_is_tried_again_after_a_pause_and_another_at_once() {
    let pauses = |endpoints: usize, outcome: Outcome| -> Vec<bool> {
        let scene = Scene {
            policy: RetryPolicy { attempts: 5, backoff: Duration::from_secs(1), ..default_policy() },
            ..scene(endpoints)
        };
        let mut attempts = Attempts::new("GET", Instant::now(), None);
        let mut pauses = Vec::new();
        loop {
            scene.choose(&mut attempts);
            if !matches!(scene.end(&mut attempts, outcome), RetryVerdict::Retry(_)) {
                return pauses;
            }
            // One of a million is no pause at all.
            pauses.push(attempts.take_pause().is_some());
        }
    };
    let reset = Outcome::Broke { failure: RESET, reused: false, begun: false, kept: true };
    assert_eq!(pauses(1, reset), [true; 4]);
    assert_eq!(pauses(3, reset), [false, false, true, false]);
    assert_eq!(pauses(1, Outcome::TurnedAway { kept: true }), [false; 3]);
    let garbage = Outcome::Broke { failure: PROTOCOL, reused: false, begun: true, kept: true };
    assert_eq!(pauses(1, garbage), [false; 0], "it would say the same again");
    assert_eq!(pauses(2, garbage), [false]);
}

#[test]
fn an_endpoint_that_drains_meanwhile_is_not_tried_again() {
    let mut one = scene(1);
    let mut attempts = Attempts::new("GET", Instant::now(), None);
    one.choose(&mut attempts);
    one.ready = vec![false];
    let reset = Outcome::Broke { failure: RESET, reused: false, begun: false, kept: true };
    assert_eq!(one.end(&mut attempts, reset), RetryVerdict::GiveUp);
}

#[test]
fn nothing_is_tried_again_once_the_client_has_something_of_the_response() {
    let scene = scene(3);
    let mut attempts = Attempts::new("GET", Instant::now(), None);
    attempts.connected(true, attempts.began);
    attempts.informed();
    assert_eq!(attempts.after_break(RESET, &scene, || panic!("it is not to be asked for")), RetryVerdict::GiveUp);
    assert_eq!(attempts.after_refusal(&scene, || true), RetryVerdict::GiveUp);
}

#[test]
fn nothing_is_tried_again_after_the_deadline_and_no_pause_reaches_beyond_it() {
    let policy = RetryPolicy { backoff: Duration::from_secs(9), attempts: 5, ..default_policy() };
    let scene = Scene { policy, ..scene(1) };
    let began = Instant::now();
    let reset = Outcome::Broke { failure: RESET, reused: false, begun: false, kept: true };
    for outcome in [reset, Outcome::TurnedAway { kept: true }, Outcome::Answered { kept: true }] {
        let mut attempts = Attempts::new("GET", began, Some(Duration::from_millis(100)));
        scene.choose(&mut attempts);
        attempts.began = began + Duration::from_millis(99);
        assert!(matches!(scene.end(&mut attempts, outcome), RetryVerdict::Retry(_)), "{outcome:?}");
        assert!(attempts.take_pause().unwrap_or_default() <= Duration::from_millis(1), "{outcome:?}");
        scene.choose(&mut attempts);
        attempts.began = began + Duration::from_millis(100);
        assert_eq!(scene.end(&mut attempts, outcome), RetryVerdict::GiveUp, "{outcome:?}");
    }
}

#[test]
fn an_answer_that_goes_to_its_client_leaves_the_attempt_as_it_was() {
    let scene = Scene { room: Cell::new(0), ..scene(3) };
    let mut attempts = Attempts::new("GET", Instant::now(), None);
    let at = scene.choose(&mut attempts);
    assert_eq!(attempts.after_status(&scene, || true), RetryVerdict::OverBudget);
    assert!(attempts.tried.is_empty() && attempts.endpoint() == Some(at) && attempts.retries() == 0);
}

#[test]
fn only_methods_that_mean_the_same_twice_are_idempotent() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        assert!(is_idempotent(method), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "BREW", ""] {
        assert!(!is_idempotent(method), "{method}");
    }
}
