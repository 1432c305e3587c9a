//! What happened to an exchange in a turn of its connection, and how long it may wait for the next thing to happen.

use tokio::time::Instant;

use super::state::StreamHandle;
use crate::drain::{Ledger, Ticket};
use crate::proxy::express::broken::Broken;
use crate::proxy::express::context::ExpressContext;
use crate::proxy::request::end::{End, GRACE};
use crate::snapshot::{ClientLimits, Timeouts};

/// What happened in a turn, and what is waited for.
pub(super) struct Turn {
    /// The time, if it was read.
    pub(super) now: Option<Instant>,
    /// When something moved last.
    pub(super) active: Instant,
    pub(super) moved: bool,
    /// The client does not take what was written.
    pub(super) client_blocked: bool,
    /// The endpoint does not take what was written.
    pub(super) endpoint_blocked: bool,
}

impl Turn {
    /// The first one, now.
    pub(super) fn new(now: Instant) -> Self {
        Self { now: Some(now), active: now, moved: false, client_blocked: false, endpoint_blocked: false }
    }

    /// The time of this turn, read once.
    pub(super) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// The end of a turn.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.moved) {
            self.active = self.now();
        }
        self.now = None;
    }
}

/// How far an exchange is, as far as its deadlines depend on it.
#[derive(Clone, Copy)]
pub(super) struct Stage {
    /// The response's head was written.
    pub(super) answered: bool,
    /// All of the request was sent, or no more of it is taken.
    pub(super) sent: bool,
    /// One side of a tunnel has ended.
    pub(super) half_closed: bool,
}

/// Why an exchange must end now, if it must: the drain's deadline, or that nothing moved for too long.
pub(super) fn due(
    stream: &StreamHandle,
    context: &ExpressContext<'_>,
    ticket: &Ticket<&Ledger>,
    turn: &Turn,
    stage: Stage,
    (timeouts, limits): (&Timeouts, &ClientLimits),
) -> Option<Broken> {
    if context.is_cut() || ticket.is_due() {
        ticket.count_cut();
        return Some(Broken::Ended(End::Cut));
    }
    let waits = turn.client_blocked || turn.endpoint_blocked;
    if stream.is_cut_while(waits.then_some(turn.active)) {
        return Some(Broken::Ended(End::Unread));
    }
    let idle = timeouts.idle;
    let (limit, broken) = if turn.client_blocked {
        (limits.write_timeout, Broken::ClientSlow)
    } else if stage.answered {
        match (context.progress.kind.is_stream(), stage.half_closed) {
            (true, false) => return None,
            // It may be one that nobody reads any more.
            (true, true) => (idle, Broken::Ended(End::Left)),
            (false, _) => (idle, Broken::Ended(End::Idle)),
        }
    } else if stage.sent {
        (context.first_byte_limit(), Broken::Ended(End::FirstByte))
    } else if turn.endpoint_blocked {
        (idle, Broken::Ended(End::Idle))
    } else {
        (idle + GRACE, Broken::Ended(End::Upload))
    };
    let late = turn.active + limit;
    stream.is_late(context.deadline().map_or(late, |all| all.min(late))).then_some(broken)
}
