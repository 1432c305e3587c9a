//! One request and its response while they are under way: who may end them, and when.
//!
//! The engine drives an exchange; beside it, in the same task, [`Exchange::watch`] ends it when an endpoint is
//! silent for too long, when a drain's deadline passes, or when the process must go. First gently, by ending
//! the upstream connection so that the client still gets an answer that says why; after [`GRACE`], or at once
//! where a gentle end is not possible, by dropping the exchange.
//!
//! ```text
//! Idle ──attempt──► Connecting ──connected──► Waiting (first_byte) ──response head──► Body (idle) or Stream (no limit)
//!            └─► Gathering (idle) ─┘ a small body, before it is sent
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::handle::Handle;
use crate::drain::{Kind, Ticket};
use crate::proxy::request::end::{End, GRACE};
use crate::proxy::shared::Phase;
use crate::proxy::unread::Holder;
use crate::proxy::upstream::connection::Checkout;
use crate::snapshot::Timeouts;

tokio::task_local! {
    /// The exchange of the task: how the engine's context finds it.
    pub(crate) static EXCHANGE: Arc<Exchange>;
}

/// What one holds at most while nothing is taken: the engine's pieces or the stream's window, what is ready to be sent, and
/// the exchange itself.
const HELD: u64 = 256 * 1024;

/// What the two halves of an exchange share. Both run in one task, so its lock is never contended.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The client's connection.
    pub(crate) handle: Arc<Handle>,
    state: Mutex<State>,
    changed: Notify,
    ending: Notify,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    timeouts: Option<Timeouts>,
    active: Option<Instant>,
    /// When the request must be over, unless it is a stream by then.
    deadline: Option<Instant>,
    ticket: Option<Ticket>,
    checkout: Option<Checkout>,
    /// The endpoint has the whole request; its time to answer runs from then on.
    request_sent: bool,
    end: Option<(End, Instant)>,
    /// The request waits in the kernel; see [`Exchange::cork`].
    corked: bool,
    /// The lane ends the exchange itself when it hears of it; see [`Exchange::ending`].
    attended: bool,
    /// What the endpoint had sent before it got a request with a body.
    received: Option<u64>,
    /// One side ended its half of the connection.
    half_closed: bool,
    /// When the client was handed something last.
    handed: Option<Instant>,
    /// The client was handed the end of the answer.
    handed_all: bool,
    /// Something is being written to the client.
    writing: bool,
    /// Since when bytes of the request wait: for the rest of a small body, or for the endpoint to take them.
    request_waits: Option<Instant>,
    tunnel: Tunnel,
}

/// Who is at an end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Endpoint,
}

/// A tunnel's halves: which of them have ended, and how much is on its way through the engine to each side.
#[derive(Clone, Copy, Debug, Default)]
struct Tunnel {
    client_ended: bool,
    endpoint_ended: bool,
    to_client: usize,
    to_endpoint: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Idle,
    /// The request's body is read before it is sent.
    Gathering,
    /// A connection is being made; its own timeout applies.
    Connecting,
    Waiting,
    Body,
    Stream,
}

impl State {
    /// Whether something of the answer waits for the client.
    fn answer_waits(&self) -> bool {
        let over = self.handed_all && self.request_sent;
        over || self.writing || self.checkout.as_ref().is_some_and(Checkout::is_held_up)
    }
}

impl Holder for Exchange {
    fn waiting(&self, now: Instant, found: &mut dyn FnMut(usize, Duration, u64)) {
        if let Some(quiet) = self.unread_for(now) {
            found(0, quiet, HELD);
        }
    }

    fn cut(&self, _: usize, now: Instant) {
        self.end_unread(now);
        self.handle.abandon_blocked();
    }
}

impl Exchange {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { handle, state: Mutex::default(), changed: Notify::new(), ending: Notify::new() }
    }

    /// An exchange that no lane started; it is never ended from outside.
    pub(crate) fn orphan() -> Self {
        Self::new(Handle::new(None, false, "".into(), crate::proxy::seats::Seat::alone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint was picked: its work is in flight from now on.
    pub(crate) fn attempt(&self, ticket: Ticket, timeouts: Timeouts, has_body: bool, now: Instant) {
        let mut state = self.state();
        state.progress = Progress::Connecting;
        state.timeouts = Some(timeouts);
        state.active = Some(now);
        state.checkout = None;
        state.ticket = Some(ticket);
        state.request_sent = !has_body;
        state.corked = false;
        (state.handed, state.handed_all, state.writing) = (None, false, false);
        state.request_waits = None;
        state.attended = false;
    }

    /// The request must be over by then, if at some time; a stream may go on.
    pub(crate) fn ends_by(&self, deadline: Option<Instant>) {
        self.state().deadline = deadline;
    }

    /// The request is tried again, though its attempt was ended.
    pub(crate) fn resume(&self) {
        self.state().end = None;
        self.changed.notify_one();
    }

    /// From now on the lane waits for [`Exchange::ending`] in this attempt.
    pub(crate) fn attend(&self) {
        self.state().attended = true;
    }

    /// Returns when the exchange was ended from outside and the client can still be told.
    pub(crate) async fn ending(&self) {
        while self.ended().is_none() {
            self.ending.notified().await;
        }
    }

    /// The request's body is read before it is sent, or that is over.
    pub(crate) fn gathering(&self, begins: bool, now: Instant) {
        let mut state = self.state();
        state.progress = if begins { Progress::Gathering } else { Progress::Connecting };
        state.active = Some(now);
        state.request_waits = begins.then_some(now);
        drop(state);
        self.changed.notify_one();
    }

    /// The engine has a connection to the endpoint. `settled`: whatever arrives on it from now on is an answer, and not
    /// the end of a TLS handshake.
    pub(crate) fn connected(&self, checkout: Option<Checkout>, settled: bool, now: Instant) {
        let mut state = self.state();
        let bodied = settled && !state.request_sent;
        state.received = checkout.as_ref().filter(|_| bodied).and_then(Checkout::received);
        state.checkout = checkout;
        state.progress = Progress::Waiting;
        state.active = Some(now);
        drop(state);
        self.changed.notify_one();
    }

    /// The endpoint sent an informational answer: what comes before the request is complete is early from here on.
    pub(crate) fn informed(&self) {
        let mut state = self.state();
        if state.received.is_some() {
            state.received = state.checkout.as_ref().and_then(Checkout::received);
        }
    }

    /// Bytes of a body moved.
    pub(crate) fn moved(&self, now: Instant) {
        self.state().active = Some(now);
    }

    /// A piece of the answer goes to the client, who has taken those before it; whether it is the last.
    pub(crate) fn answering(&self, bytes: usize, ends: bool, now: Instant) {
        let mut state = self.state();
        state.active = Some(now);
        state.handed = Some(now);
        state.handed_all = ends;
        state.tunnel.to_client = state.tunnel.to_client.saturating_sub(bytes);
        if let Some(checkout) = &state.checkout {
            checkout.taken();
        }
    }

    /// The lane writes to the client, or has written.
    pub(crate) fn writing(&self, writing: bool) {
        self.state().writing = writing;
    }

    /// Since when bytes of the request wait for the endpoint to take them; none if they do not.
    pub(crate) fn request_waits(&self, since: Option<Instant>) {
        self.state().request_waits = since;
    }

    /// For how long the client has taken nothing of what waits for it, or the endpoint; none if nothing is known to wait.
    fn unread_for(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        if state.end.is_some() {
            return None;
        }
        let answering = matches!(state.progress, Progress::Body | Progress::Stream);
        let answer = state.handed.filter(|_| answering && state.answer_waits());
        let since = answer.into_iter().chain(state.request_waits).min()?;
        Some(now.saturating_duration_since(since))
    }

    /// Ends the exchange at once, because of what it holds for one who does not read.
    fn end_unread(&self, now: Instant) {
        let mut state = self.state();
        // No grace: what is held is to be free now.
        state.end.get_or_insert((End::Unread, now.checked_sub(GRACE).unwrap_or(now)));
        drop(state);
        self.changed.notify_one();
    }

    /// The last byte of the request's body was handed on.
    pub(crate) fn request_sent(&self, now: Instant) {
        let mut state = self.state();
        state.active = Some(now);
        state.request_sent = true;
        drop(state);
        self.changed.notify_one();
    }

    /// The response head arrived; `kind` says what the response is.
    pub(crate) fn responded(&self, kind: Kind, now: Instant) {
        let mut state = self.state();
        state.active = Some(now);
        state.progress = if kind.is_stream() { Progress::Stream } else { Progress::Body };
        state.handed = Some(now);
        if let Some(ticket) = &mut state.ticket {
            ticket.becomes(kind);
        }
        drop(state);
        // The timer may be set for a longer time than the one that applies now.
        self.changed.notify_one();
    }

    /// Keeps the request on this side until [`Exchange::request_sent`]. The engine ends a tunnel at once when it
    /// reads the answer to an upgrade before it has taken note that the request has no body; so the endpoint must
    /// not have the request sooner.
    pub(crate) fn cork(&self) {
        let mut state = self.state();
        if let Some(checkout) = &state.checkout {
            state.corked = checkout.cork(true);
            state.request_sent = !state.corked;
        }
    }

    /// The client ended its half of the connection. It gets its answer; but a stream that is silent may be one that
    /// nobody reads any more, so the limit on silence holds for it too.
    pub(crate) fn half_closed(&self) {
        self.state().half_closed = true;
        self.changed.notify_one();
    }

    /// The engine took bytes into a tunnel, on their way to this side.
    pub(crate) fn entered(&self, to: Side, bytes: usize) {
        let mut state = self.state();
        match to {
            Side::Client => state.tunnel.to_client += bytes,
            Side::Endpoint => state.tunnel.to_endpoint += bytes,
        }
    }

    /// Bytes of a tunnel came out of the engine, to the endpoint.
    pub(crate) fn left(&self, bytes: usize) {
        let mut state = self.state();
        state.tunnel.to_endpoint = state.tunnel.to_endpoint.saturating_sub(bytes);
    }

    /// This side of a tunnel sends no more; whether the tunnel [is over](Self::is_over) for it.
    pub(crate) fn ended_half(&self, side: Side) -> bool {
        let mut state = self.state();
        match side {
            Side::Client => state.tunnel.client_ended = true,
            Side::Endpoint => state.tunnel.endpoint_ended = true,
        }
        state.half_closed = true;
        drop(state);
        self.changed.notify_one();
        self.is_over(side)
    }

    /// Whether both sides of a tunnel have ended, so that the engine may see this one's end. It drops what is on its way
    /// to the client when it sees the client's, and hands on what came before the endpoint's.
    pub(crate) fn is_over(&self, side: Side) -> bool {
        let Tunnel { client_ended, endpoint_ended, to_client, .. } = self.state().tunnel;
        client_ended && endpoint_ended && (side == Side::Endpoint || to_client == 0)
    }

    /// Whether this side may be told that no more comes: the other one ended, and nothing of it is on its way.
    pub(crate) fn may_end(&self, side: Side) -> bool {
        let tunnel = self.state().tunnel;
        match side {
            Side::Client => tunnel.endpoint_ended && tunnel.to_client == 0,
            Side::Endpoint => tunnel.client_ended && tunnel.to_endpoint == 0,
        }
    }

    /// The connection in use must not be reused.
    pub(crate) fn mark_unusable(&self) {
        if let Some(checkout) = &self.state().checkout {
            checkout.mark_unusable();
        }
    }

    /// Whether all of the request was handed on, and the endpoint acknowledged it.
    pub(crate) fn is_acknowledged(&self) -> bool {
        let state = self.state();
        state.request_sent && state.checkout.as_ref().is_none_or(Checkout::is_acknowledged)
    }

    /// Whether the endpoint sent something before it had the whole request.
    pub(crate) fn answered_early(&self) -> bool {
        let state = self.state();
        let Some(checkout) = &state.checkout else { return false };
        // The engine may have read the beginning of an answer and wait for the rest.
        let came = |before| checkout.received().is_some_and(|now| now > before);
        checkout.has_unread() || state.received.is_some_and(came)
    }

    /// The attempt is over: its endpoint has one less in flight, its connection is free.
    pub(crate) fn over(&self) {
        let mut state = self.state();
        let ended = (state.checkout.take(), state.ticket.take());
        state.progress = Progress::Idle;
        drop(state);
        drop(ended);
    }

    /// Why the exchange was ended from outside, if it was.
    pub(crate) fn ended(&self) -> Option<End> {
        self.state().end.map(|(end, _)| end)
    }

    /// When to look next.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        if let Some((_, at)) = state.end {
            return Some(at + GRACE);
        }
        let (timeouts, active) = (state.timeouts?, state.active?);
        let quiet = match state.progress {
            Progress::Waiting if state.request_sent => active + timeouts.first_byte,
            Progress::Waiting | Progress::Gathering => active + timeouts.idle + GRACE,
            Progress::Body => active + timeouts.idle,
            Progress::Stream if state.half_closed => return Some(active + timeouts.idle),
            Progress::Idle | Progress::Connecting | Progress::Stream => return None,
        };
        Some(state.deadline.map_or(quiet, |deadline| deadline.min(quiet)))
    }

    /// Lets a corked request go once its end was handed on. The engine's half of the exchange was polled before.
    fn uncork(&self) {
        let mut state = self.state();
        if state.corked && state.request_sent {
            state.corked = false;
            if let Some(checkout) = &state.checkout {
                checkout.cork(false);
            }
        }
    }

    /// Ends the exchange if it is due; whether it must be dropped now.
    fn is_due(&self, now: Instant, all: bool) -> bool {
        let mut state = self.state();
        if let Some((_, at)) = state.end {
            return now >= at + GRACE;
        }
        let Some(ticket) = &state.ticket else { return all };
        let end = if all || ticket.is_due() {
            ticket.count_cut();
            End::Cut
        } else {
            let (Some(timeouts), Some(active)) = (state.timeouts, state.active) else { return false };
            let silent = now.saturating_duration_since(active);
            let late = state.deadline.is_some_and(|deadline| now >= deadline);
            match state.progress {
                Progress::Waiting if state.request_sent && (late || silent >= timeouts.first_byte) => End::FirstByte,
                // A client that pauses its upload is not the endpoint's silence. An endpoint that does not read is
                // found by the timeout of writing to it, which comes first.
                Progress::Waiting if !state.request_sent && (late || silent >= timeouts.idle + GRACE) => End::Upload,
                Progress::Gathering if late || silent >= timeouts.idle + GRACE => End::Upload,
                Progress::Body if late || silent >= timeouts.idle => End::Idle,
                Progress::Stream if state.half_closed && silent >= timeouts.idle => End::Left,
                _ => return false,
            }
        };
        state.end = Some((end, now));
        // Before the response head the client can still be told; after it, dropping is the honest signal.
        let notified = state.attended || state.checkout.as_ref().is_some_and(Checkout::end);
        let gentle = state.progress == Progress::Gathering || (state.progress == Progress::Waiting && notified);
        drop(state);
        self.ending.notify_one();
        !gentle
    }

    /// Returns when the exchange must be dropped. `notifier` wakes when drains pass deadlines, `phases`
    /// tells when everything must end.
    pub(crate) async fn watch(&self, mut notifier: watch::Receiver<u64>, mut phases: watch::Receiver<Phase>) {
        let mut everything = false;
        loop {
            let deadline = self.deadline();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                Ok(()) = notifier.changed() => {}
                // Also true for an exchange that began after the word was given.
                Ok(_) = phases.wait_for(|phase| *phase == Phase::ForceClosing), if !everything => everything = true,
                () = timer => {}
            }
            self.uncork();
            if self.is_due(Instant::now(), everything) {
                return;
            }
        }
    }
}
