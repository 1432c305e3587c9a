//! One client's connection: a task that reads frames, polls the streams in which something happened, and writes what all
//! of them have to say at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::Instant;

use super::budget::Budget;
use super::closed::ClosedStreams;
use super::ended::{Ended, Fatal};
use super::fields::PooledFields;
use super::leaving::{GIVE_WAY, GOODBYE, Leaving};
use super::places::{PlaceSet, Woken};
use super::spare::{self, Running};
use super::state::{CONNECTION_WINDOW, Common, STREAM_WINDOW, State};
use crate::proxy::codec::frame::{self, ErrorCode, FrameOrder, setting};
use crate::proxy::codec::hpack::Decoder;
use crate::proxy::express::Exit;
use crate::proxy::io::buffer::{Buffer, LARGE};
use crate::proxy::io::timer::Timer;
use crate::proxy::io::transport::{Transport, linger};
use crate::proxy::request::end::BODY_DRAIN;
use crate::proxy::seats::Seat;
use crate::proxy::shared::{Phase, Shared};
use crate::snapshot::ClientLimits;
use crate::telemetry::H2Abuse;

/// What is read before streams have their turn.
const TURN: usize = 64 * 1024;

/// Places that an idle connection keeps.
const KEPT_PLACES: usize = 4;

/// A client's connection.
pub(super) struct Connection {
    pub(super) common: Arc<Common>,
    transport: Transport,
    pub(super) input: Buffer,
    pub(super) decoder: Decoder,
    pub(super) order: FrameOrder,
    /// A header block that is not complete.
    pub(super) open_block: Option<OpenBlock>,
    slots: Vec<Slot>,
    woken: Arc<Woken>,
    pub(super) due: PlaceSet,
    free: PlaceSet,
    /// Where the next turn begins.
    turn: usize,
    pub(super) open: usize,
    pub(super) max_streams: usize,
    /// The newest stream.
    pub(super) last: u32,
    pub(super) closed: ClosedStreams,
    /// What the client may still send on all streams.
    pub(super) credit: i64,
    pub(super) budget: Budget,
    pub(super) limits: ClientLimits,
    /// The preface came.
    pub(super) greeted: bool,
    /// The first SETTINGS came.
    pub(super) settled: bool,
    pub(super) leaving: Leaving,
    /// The client said that it opens no more streams.
    pub(super) client_leaves: bool,
    /// There may be frames that were not looked at.
    more: bool,
    fatal: Option<Fatal>,
    pub(super) seat: Arc<Seat>,
    /// When the process drained already, its next phase is what ends the connection.
    began_draining: bool,
    /// Since when no stream is open, or when the connection began.
    pub(super) since: Instant,
    /// Since when a frame is only in part here, while no stream is open.
    pub(super) partial: Option<Instant>,
    /// Since when the client takes nothing of what is written.
    pub(super) stuck: Option<Instant>,
    unflushed: bool,
    pub(super) timer: Timer,
    phases: watch::Receiver<Phase>,
    notices: watch::Receiver<u64>,
}

/// A header block that is not complete.
pub(super) struct OpenBlock {
    pub(super) id: u32,
    pub(super) ends: bool,
    pub(super) purpose: Purpose,
    pub(super) fields: PooledFields,
    /// CONTINUATION frames so far.
    pub(super) frames: usize,
}

/// What becomes of a header block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Request,
    /// Of the stream at this place.
    Trailers(usize),
    /// It is decoded for the table only.
    Nothing,
    /// Likewise, and its stream ends with this error.
    Error(ErrorCode),
}

/// The task's part of a place.
struct Slot {
    waker: Waker,
    running: Option<Running>,
}

impl Connection {
    pub(super) fn new(common: Arc<Common>, transport: Transport, bytes: &[u8], seat: &Arc<Seat>) -> Self {
        let shared = &common.worker.shared;
        let limits = shared.current.peek().client;
        let max_streams = usize::try_from(limits.h2_streams).unwrap_or(usize::MAX);
        let mut input = Buffer::default();
        if !bytes.is_empty() {
            input.push(bytes);
        }
        let mut free = PlaceSet::new(max_streams);
        (0..max_streams).for_each(|at| free.insert(at));
        Self {
            transport,
            input,
            decoder: Decoder::new(),
            order: FrameOrder::default(),
            open_block: None,
            slots: Vec::new(),
            woken: Arc::clone(&common.woken),
            due: PlaceSet::new(max_streams),
            free,
            turn: 0,
            open: 0,
            max_streams,
            last: 0,
            closed: ClosedStreams::default(),
            credit: CONNECTION_WINDOW,
            budget: Budget::new(),
            limits,
            greeted: false,
            settled: false,
            leaving: Leaving::default(),
            client_leaves: false,
            more: true,
            fatal: None,
            seat: Arc::clone(seat),
            began_draining: shared.is_draining(),
            since: Instant::now(),
            partial: None,
            stuck: None,
            unflushed: false,
            timer: Timer::default(),
            phases: shared.phases(),
            notices: shared.notifier.subscribe(),
            common,
        }
    }

    /// Serves the connection to its end; `began` is since when its first bytes are waited for.
    pub(super) async fn serve(&mut self, began: Option<Instant>) -> Exit {
        self.since = began.unwrap_or(self.since);
        // What came so far began no request.
        self.seat.idle(self.since);
        let mut settles = true;
        let exit = poll_fn(|cx| {
            if std::mem::take(&mut settles) {
                self.woken.settle(cx.waker());
            }
            self.poll(cx)
        })
        .await;
        if self.fatal.is_some() || self.leaving != Leaving::Serving {
            // What the client still sends is read, so that it sees the GOAWAY.
            linger(&mut self.transport, BODY_DRAIN).await;
        }
        exit
    }

    /// Says how we speak.
    pub(super) fn greet(&mut self, state: &mut State) {
        let window = |size: i64| u32::try_from(size).unwrap_or_default();
        let entries = [
            (setting::MAX_CONCURRENT_STREAMS, self.limits.h2_streams),
            (setting::INITIAL_WINDOW_SIZE, window(STREAM_WINDOW)),
            (setting::MAX_HEADER_LIST_SIZE, self.limits.header_bytes),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ];
        let out = &mut state.output.bytes;
        frame::settings(out, &entries);
        frame::window_update(out, 0, window(CONNECTION_WINDOW - 65_535));
    }

    fn shared(&self) -> &Shared {
        &self.common.worker.shared
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Exit> {
        let common = Arc::clone(&self.common);
        loop {
            self.notice(&common);
            if self.fatal.is_none() && self.poll_receive(cx, &common).is_err() {
                self.abandon(&common);
                return Poll::Ready(Exit::Over);
            }
            self.poll_streams(&common);
            let mut state = common.lock();
            if self.fatal.is_some() {
                self.close_all(&mut state);
            }
            self.release(&mut state);
            let leaves = self.leaves(&mut state);
            if self.poll_write(cx, &mut state).is_err() {
                drop(state);
                self.abandon(&common);
                return Poll::Ready(Exit::Over);
            }
            if (self.fatal.is_some() || leaves) && state.output.bytes.is_empty() && !self.unflushed {
                return Poll::Ready(Exit::Over);
            }
            if !state.output.is_full() && state.output.window > 0 {
                self.due.take_all(&mut state.blocked);
            }
            let again = self.more && !state.output.is_full() && self.fatal.is_none();
            drop(state);
            if again || !self.due.is_empty() || self.woken.any() {
                continue;
            }
            match self.poll_deadlines(cx, &common) {
                Some(exit) => return Poll::Ready(exit),
                None if self.due.is_empty() => return Poll::Pending,
                None => {}
            }
        }
    }

    /// Has all streams look up when drains or the shutdown go on.
    fn notice(&mut self, common: &Common) {
        let changed = |changed: Result<bool, watch::error::RecvError>| changed.unwrap_or(false);
        if changed(self.phases.has_changed()) || changed(self.notices.has_changed()) {
            self.phases.mark_unchanged();
            self.notices.mark_unchanged();
            let state = common.lock();
            (0..state.places.len()).for_each(|at| self.wake_open(&state, at));
        }
    }

    /// Polls the stream at this place, if there is one.
    pub(super) fn wake_open(&mut self, state: &State, at: usize) {
        if state.ids.get(at).is_some_and(|id| *id > 0) {
            self.due.insert(at);
        }
    }

    /// Reads what the client says; nothing new while it does not take what it was told. An error if it is gone.
    fn poll_receive(&mut self, cx: &mut Context<'_>, common: &Common) -> Result<(), ()> {
        let mut state = common.lock();
        let mut read = 0;
        loop {
            match self.take_frames(&mut state) {
                Ok(more) => self.more = more,
                Err(fatal) => {
                    self.fail(fatal, &mut state);
                    return Ok(());
                }
            }
            if self.more || read >= TURN {
                self.more = true;
                return Ok(());
            }
            match self.input.poll_fill(cx, Pin::new(&mut self.transport)) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    read += n;
                    if n >= MUCH {
                        self.input.grow(LARGE);
                    }
                }
                Poll::Ready(_) => return Err(()),
                Poll::Pending => {
                    let partial = self.open == 0 && (!self.input.is_empty() || self.open_block.is_some());
                    self.partial = if partial { self.partial.or_else(|| Some(Instant::now())) } else { None };
                    return Ok(());
                }
            }
        }
    }

    /// The connection ends because of what the client did.
    fn fail(&mut self, fatal: Fatal, state: &mut State) {
        // Of the streams that end in this very turn others may be too many as well.
        if self.fatal.is_some() {
            return;
        }
        if let Some(abuse) = fatal.abuse {
            self.shared().recorder.h2_abuse().ended(abuse);
            tracing::debug!(kind = abuse.as_str(), peer = %self.common.peer_text, "ended an HTTP/2 connection");
        }
        frame::go_away(&mut state.output.bytes, self.last, fatal.code);
        self.fatal = Some(fatal);
    }

    fn poll_streams(&mut self, common: &Common) {
        self.due.take_woken(&self.woken);
        while let Some(at) = self.due.pop(self.turn) {
            self.turn = at + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            let Some(running) = &mut slot.running else { continue };
            if let Poll::Ready(ended) = running.as_mut().poll(&mut Context::from_waker(&slot.waker)) {
                if let Some(running) = slot.running.take() {
                    spare::over(running);
                }
                self.finish(at, ended, &mut common.lock());
            }
        }
    }

    /// A stream's exchange is over.
    fn finish(&mut self, at: usize, ended: Ended, state: &mut State) {
        let id = state.ids.get(at).copied().unwrap_or_default();
        let received_end = state.place(at).received_end;
        let code = match ended {
            Ended::Reset(code) => Some(code),
            // It need not send what nobody reads any more (RFC 9113 §8.1).
            Ended::Answered => (!received_end).then_some(ErrorCode::NO_ERROR),
        };
        if let Some(code) = code {
            frame::reset(&mut state.output.bytes, id, code);
        }
        self.closed.push(id, code.is_some());
        self.close_place(state, at);
        if code == Some(ErrorCode::PROTOCOL_ERROR)
            && let Err(abuse) = self.budget.spend(H2Abuse::StreamError)
        {
            self.fail(abuse.into(), state);
        }
    }

    /// Frees a place; an exchange that is still under way is left by its client.
    pub(super) fn close_place(&mut self, state: &mut State, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.running = None;
        }
        state.close(at);
        self.free.insert(at);
        self.due.remove(at);
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.since = Instant::now();
            self.seat.idle(self.since);
        }
    }

    fn close_all(&mut self, state: &mut State) {
        for at in 0..state.places.len() {
            if state.ids.get(at).is_some_and(|id| *id > 0) {
                self.close_place(state, at);
            }
        }
    }

    /// The connection is gone: so is what its streams wait for.
    pub(super) fn abandon(&mut self, common: &Common) {
        self.close_all(&mut common.lock());
    }

    /// A request is to begin. False if the connection has given way in this very moment.
    pub(super) fn begins(&mut self) -> bool {
        self.open > 0 || self.seat.busy()
    }

    /// Whether streams above the last one are not served, of which this is one.
    pub(super) fn is_over_for(&self, id: u32) -> bool {
        matches!(self.leaving, Leaving::Last(last) if id > last)
    }

    /// A place for a new stream.
    pub(super) fn free_place(&mut self) -> Option<usize> {
        self.free.pop(0)
    }

    /// Begins the exchange of a stream at its place.
    pub(super) fn start(&mut self, at: usize, running: Running) {
        while self.slots.len() <= at {
            let waker = self.woken.waker(self.slots.len());
            self.slots.push(Slot { waker, running: None });
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.running = Some(running);
        }
    }

    /// Goes on with the end of the connection, if it is to end; whether it is over.
    fn leaves(&mut self, state: &mut State) -> bool {
        let evicted = self.seat.is_evicted();
        let shared = &self.common.worker.shared;
        let drains = if self.began_draining { shared.is_in(Phase::Refusing) } else { shared.is_draining() };
        let idle = self.open == 0;
        let wanted = drains || evicted || (self.client_leaves && idle);
        if self.leaving == Leaving::Serving && !wanted {
            return false;
        }
        let out = &mut state.output.bytes;
        self.leaving.announce(Instant::now() + if evicted { GIVE_WAY } else { GOODBYE }, out);
        let closing = idle && (self.client_leaves || self.common.worker.shared.is_in(Phase::Closing));
        self.leaving.conclude(self.last, closing, out) && idle
    }

    /// Writes what all streams have to say. An error if the client is gone.
    fn poll_write(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<(), ()> {
        let out = &mut state.output.bytes;
        while !out.is_empty() {
            match Pin::new(&mut self.transport).poll_write(cx, out.data()) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    out.consume(n);
                    (self.unflushed, self.stuck) = (true, None);
                }
                Poll::Ready(_) => return Err(()),
                Poll::Pending => {
                    self.stuck.get_or_insert_with(Instant::now);
                    return Ok(());
                }
            }
        }
        out.rest();
        if self.unflushed {
            match Pin::new(&mut self.transport).poll_flush(cx) {
                Poll::Ready(Ok(())) => (self.unflushed, self.stuck) = (false, None),
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => _ = self.stuck.get_or_insert_with(Instant::now),
            }
        }
        Ok(())
    }

    /// Whether it has memory that only streams need.
    pub(super) fn may_rest(&self) -> bool {
        self.open == 0 && self.slots.len() > KEPT_PLACES
    }

    /// Gives back the memory that only streams need.
    pub(super) fn rest(&mut self, state: &mut State) {
        state.places.truncate(KEPT_PLACES);
        state.ids.truncate(KEPT_PLACES);
        self.slots.truncate(KEPT_PLACES);
        if state.places.capacity() > 2 * KEPT_PLACES {
            state.places.shrink_to_fit();
            state.ids.shrink_to_fit();
            self.slots.shrink_to_fit();
        }
    }
}

/// So much at one read says that more is to come: a body.
const MUCH: usize = 4 * 1024;
