//! Whether an endpoint that says nothing lives: asked by a PING, rarely.
//!
//! The kernel notices a machine that vanished (keepalive and user timeout of the socket). A PING finds out what it cannot
//! see: a process that hangs, a balancer between that lost what is behind it. gRPC servers end the connection of a client
//! that pings too often (GOAWAY `ENHANCE_YOUR_CALM`, gRPC A8): without streams, or more than twice while they send nothing. So one
//! is sent only while a stream is open, and never a second before the endpoint has sent data or a head again.

use tokio::time::Instant;

use super::settings::{ANSWER, DEAD, QUIET};

/// What is known of it.
#[derive(Debug)]
pub(super) struct Liveness {
    /// Something came since the last look.
    heard: bool,
    /// Data or a head came since the last PING.
    may_ask: bool,
    /// Since when nothing has come.
    quiet: Option<Instant>,
    asked: Option<Instant>,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Fine,
    /// It is to be asked.
    Ask,
    /// It does not answer: no new requests.
    Faint,
    Dead,
}

impl Liveness {
    pub(super) const fn new() -> Self {
        Self { heard: false, may_ask: true, quiet: None, asked: None }
    }

    /// Something came from the endpoint.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// Data or a head came.
    pub(super) fn useful(&mut self) {
        self.may_ask = true;
    }

    /// Looks, about each second. `busy`: a stream is open.
    pub(super) fn look(&mut self, busy: bool, now: Instant) -> Pulse {
        if std::mem::take(&mut self.heard) || !busy {
            (self.quiet, self.asked) = (Some(now), None);
            return Pulse::Fine;
        }
        if let Some(asked) = self.asked {
            return match now.saturating_duration_since(asked) {
                long if long >= DEAD => Pulse::Dead,
                long if long >= ANSWER => Pulse::Faint,
                _ => Pulse::Fine,
            };
        }
        let quiet = *self.quiet.get_or_insert(now);
        if !self.may_ask || now.saturating_duration_since(quiet) < QUIET {
            return Pulse::Fine;
        }
        (self.asked, self.may_ask) = (Some(now), false);
        Pulse::Ask
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Looks each second of these; when something was to be done.
    fn looks(liveness: &mut Liveness, start: Instant, seconds: std::ops::Range<u64>) -> Vec<(u64, Pulse)> {
        let looked = seconds.map(|second| (second, liveness.look(true, start + Duration::from_secs(second))));
        looked.filter(|(_, pulse)| *pulse != Pulse::Fine).collect()
    }

    #[test]
    fn who_does_not_answer_gets_nothing_new_and_is_dead_in_the_end() {
        let mut liveness = Liveness::new();
        let pulses = looks(&mut liveness, Instant::now(), 0..100);
        assert_eq!(pulses[..2], [(20, Pulse::Ask), (30, Pulse::Faint)]);
        assert_eq!(pulses.iter().find(|(_, pulse)| *pulse == Pulse::Dead), Some(&(80, Pulse::Dead)));
        assert_eq!(pulses.iter().filter(|(_, pulse)| *pulse == Pulse::Ask).count(), 1);
    }

    #[test]
    fn one_that_answers_is_not_asked_again_before_it_has_sent_something() {
        let mut liveness = Liveness::new();
        let start = Instant::now();
        assert_eq!(looks(&mut liveness, start, 0..22), [(20, Pulse::Ask)]);
        liveness.heard();
        assert_eq!(looks(&mut liveness, start, 22..3_600), []);
        liveness.heard();
        liveness.useful();
        assert_eq!(looks(&mut liveness, start, 3_600..3_622), [(3_620, Pulse::Ask)]);
    }

    #[test]
    fn without_streams_nobody_is_asked() {
        let mut liveness = Liveness::new();
        let start = Instant::now();
        for second in 0..3_600 {
            assert_eq!(liveness.look(false, start + Duration::from_secs(second)), Pulse::Fine);
        }
        assert_eq!(looks(&mut liveness, start, 3_600..3_619), []);
    }
}
