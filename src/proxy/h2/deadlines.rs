//! The deadlines of a connection and of its streams: one timer for all of them.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::leaving::{GOODBYE, Leaving};
use super::state::{Common, State};
use crate::proxy::express::Exit;

/// What is due at a moment.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// The preface did not come.
    Greeting,
    /// A frame is only in part here.
    Head,
    /// The client takes nothing.
    Stuck,
    /// No request came for long.
    Idle,
    /// The client does not answer the announced end.
    Goodbye,
    /// A stream is late.
    Stream,
    /// No stream was open for a while.
    Rest,
}

/// How long a connection without streams keeps the memory that only streams need: the next ones are often near.
const REST: Duration = Duration::from_secs(1);

impl Connection {
    /// Looks which deadlines have come, and waits for the next one. How the connection ends, if it does.
    pub(super) fn poll_deadlines(&mut self, cx: &mut Context<'_>, common: &Common) -> Option<Exit> {
        loop {
            let mut state = common.lock();
            let (at, kind) = self.next_deadline(&state)?;
            if self.timer.poll(cx, at).is_pending() {
                return None;
            }
            match kind {
                Deadline::Greeting => return Some(Exit::SlowHead),
                Deadline::Head => {
                    drop(state);
                    self.abandon(common);
                    return Some(Exit::SlowHead);
                }
                Deadline::Stuck => {
                    drop(state);
                    self.abandon(common);
                    return Some(Exit::Over);
                }
                Deadline::Idle => {
                    self.limits = self.common.worker.shared.current.peek().client;
                    if self.since + self.limits.keepalive <= Instant::now() {
                        self.leaving.announce(Instant::now() + GOODBYE, &mut state.output.bytes);
                        // Another turn writes it.
                        cx.waker().wake_by_ref();
                        return None;
                    }
                }
                Deadline::Goodbye => {
                    cx.waker().wake_by_ref();
                    return None;
                }
                Deadline::Rest => self.rest(&mut state),
                Deadline::Stream => {
                    self.wake_late(&mut state);
                    if !self.due.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    /// The next moment at which something has to happen.
    fn next_deadline(&self, state: &State) -> Option<(Instant, Deadline)> {
        let limits = &self.limits;
        let greeting = (!self.greeted).then(|| (self.since + limits.head_timeout, Deadline::Greeting));
        let head = self.partial.map(|since| (since + limits.head_timeout, Deadline::Head));
        let stuck = self.stuck.map(|since| (since + limits.write_timeout, Deadline::Stuck));
        let stays = self.greeted && self.open == 0 && self.leaving == Leaving::Serving;
        let idle = stays.then(|| (self.since + limits.keepalive, Deadline::Idle));
        let goodbye = self.leaving.deadline().map(|at| (at, Deadline::Goodbye));
        let stream = state.deadline.map(|at| (at, Deadline::Stream));
        let rest = self.may_rest().then(|| (self.since + REST, Deadline::Rest));
        [greeting, head, stuck, idle, goodbye, stream, rest].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Has the streams look up whose deadlines have come.
    fn wake_late(&mut self, state: &mut State) {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for at in 0..state.places.len() {
            let place = state.place(at);
            match place.deadline {
                Some(deadline) if deadline <= now => {
                    place.late = true;
                    self.wake_open(state, at);
                }
                Some(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                None => {}
            }
        }
        state.deadline = next;
    }
}
