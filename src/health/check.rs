//! What the answers to active checks make of an endpoint.
//!
//! ```text
//! unchecked ── first answer ──► healthy ── unhealthy_after failures in a row ──► unhealthy
//!                         └───► unhealthy ── healthy_after passes in a row ────► healthy
//! ```
//!
//! As HAProxy's `fall` and `rise` and Envoy's thresholds; as Envoy's, the first answer decides alone.

/// How many answers in a row change an endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) unhealthy_after: u32,
    pub(crate) healthy_after: u32,
}

/// What checks found of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// None until the first answer.
    healthy: Option<bool>,
    /// Answers in a row that speak against it.
    against: u32,
}

impl Checked {
    /// Takes in an answer; whether the endpoint is healthy now.
    pub(crate) fn answered(&mut self, passed: bool, thresholds: Thresholds) -> bool {
        let Some(healthy) = self.healthy else {
            self.healthy = Some(passed);
            return passed;
        };
        if passed == healthy {
            self.against = 0;
            return healthy;
        }
        self.against = self.against.saturating_add(1);
        let limit = if healthy { thresholds.unhealthy_after } else { thresholds.healthy_after };
        if self.against >= limit {
            *self = Self { healthy: Some(passed), against: 0 };
        }
        self.healthy == Some(true)
    }

    /// Another question is asked from now on. What failed may have been the old one only: the first answer that passes
    /// brings the endpoint back.
    pub(crate) fn ask_anew(&mut self) {
        self.against = if self.healthy == Some(false) { u32::MAX } else { 0 };
    }

    /// Whether it was ever answered.
    pub(crate) fn is_answered(self) -> bool {
        self.healthy.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The naive model looks at all answers so far.
        #[test]
        fn health_is_that_of_the_last_run_long_enough(
            answers in prop::collection::vec(any::<bool>(), 1..60), unhealthy_after in 1_u32..5, healthy_after in 1_u32..5,
        ) {
            let thresholds = Thresholds { unhealthy_after, healthy_after };
            let mut checked = Checked::default();
            let mut expected = answers[0];
            for (at, passed) in answers.iter().enumerate() {
                let run = answers[..=at].iter().rev().take_while(|answer| *answer == passed).count();
                let limit = if *passed { healthy_after } else { unhealthy_after };
                if *passed != expected && run >= limit as usize {
                    expected = *passed;
                }
                prop_assert_eq!(checked.answered(*passed, thresholds), expected, "{:?}", &answers[..=at]);
                prop_assert!(checked.is_answered());
            }
        }
    }

    #[test]
    fn the_first_pass_of_another_question_brings_back_and_failures_take_out_as_ever() {
        let thresholds = Thresholds { unhealthy_after: 2, healthy_after: 3 };
        let after = |answers: &[bool]| {
            let mut checked = Checked::default();
            for passed in answers {
                checked.answered(*passed, thresholds);
            }
            checked.ask_anew();
            checked
        };
        assert!(after(&[false]).answered(true, thresholds));
        let mut failing = after(&[false]);
        assert!(!failing.answered(false, thresholds) && !failing.answered(true, thresholds), "only the first");
        let mut healthy = after(&[true, false]);
        assert!(healthy.answered(false, thresholds) && !healthy.answered(false, thresholds));
    }

    #[test]
    fn the_first_answer_decides_alone() {
        let thresholds = Thresholds { unhealthy_after: 3, healthy_after: 2 };
        for passed in [true, false] {
            let mut checked = Checked::default();
            assert!(!checked.is_answered());
            assert_eq!(checked.answered(passed, thresholds), passed);
        }
    }
}
