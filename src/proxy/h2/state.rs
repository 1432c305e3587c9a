//! What a connection's task and its streams share: the output, and for each stream what came and what may be sent.
//!
//! One task runs all of it, so the lock is never contended; it is there because a task may move. It is held for as long as
//! one stream is moved, never while something is waited for.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fields::PooledFields;
use super::output::{MAX_FRAME, Output};
use super::places::{PlaceSet, Woken};
use crate::model::Name;
use crate::proxy::codec::frame;
use crate::proxy::codec::hpack::Encoder;
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::upload;
use crate::proxy::unread::Holder;
use crate::proxy::worker::Worker;

/// What a client may send ahead on one stream. More than a body that is read whole before its endpoint hears of it.
pub(super) const STREAM_WINDOW: i64 = 128 * 1024;
const _: () = assert!(STREAM_WINDOW > upload::SMALL as i64);

/// What a client may send ahead on its connection. It is given back on receipt, so that streams whose endpoints do not
/// read take nothing away from the others.
pub(super) const CONNECTION_WINDOW: i64 = 1024 * 1024;

/// What is held of all bodies of one connection at most. Beyond it, what is given back waits until something is used.
pub(super) const MOST_HELD: i64 = 3 * 1024 * 1024;

/// What the windows of all streams at their HTTP/2 endpoints may grow by together. A client with a few streams gets what
/// one stream can use at most; one that reads none of a hundred answers to the end holds no more than this beside what
/// each began with.
const MOST_GROWN: u32 = 512 * 1024;

/// Who takes less than this at a time goes on waiting: a byte now and then makes no room for anything.
const SOME: usize = 4 * 1024;

/// What a stream holds while it waits, beside its body: its exchange, and what was read of the response with the head.
const STREAM_HELD: u64 = 16 * 1024;

/// What a connection's task and its streams share.
pub(super) struct Common {
    pub(super) worker: Arc<Worker>,
    pub(super) listener: Name,
    pub(super) peer: Option<IpAddr>,
    /// The peer as text.
    pub(super) peer_text: Box<str>,
    pub(super) tls: bool,
    /// The name that the client's TLS handshake asked for.
    pub(super) sni: Option<Box<str>>,
    pub(super) woken: Arc<Woken>,
    pub(super) state: Mutex<State>,
}

/// The part of it that changes.
pub(super) struct State {
    pub(super) output: Output,
    pub(super) places: Vec<Place>,
    /// The id of the stream at each place; 0 where is none.
    pub(super) ids: Vec<u32>,
    /// Streams that wait for room in the output, or for the connection's window.
    pub(super) blocked: PlaceSet,
    /// Bytes of bodies that nobody used yet.
    pub(super) held: i64,
    /// What the windows of all streams at their endpoints have grown by.
    grown: u32,
    /// When the first deadline of a stream may have come.
    pub(super) deadline: Option<Instant>,
    /// For a place that there is not.
    nowhere: Place,
}

/// One stream's share.
#[derive(Default)]
pub(super) struct Place {
    /// DATA that nobody used yet.
    pub(super) body: Buffer,
    /// The client ended its side.
    pub(super) received_end: bool,
    /// Trailers of the request.
    pub(super) trailers: Option<PooledFields>,
    /// How much of the body is missing, where its length was declared.
    pub(super) left: Option<u64>,
    /// What the client may still send.
    pub(super) credit: i64,
    /// What was used and not given back.
    pub(super) owed: i64,
    /// So many bytes of the body are used again, and their part of the windows was given back before.
    replayed: usize,
    /// What the window of its stream at an HTTP/2 endpoint has grown by.
    grown: u32,
    /// What may be sent to the client.
    pub(super) window: i64,
    /// When the stream is late with what it waits for.
    pub(super) deadline: Option<Instant>,
    /// The deadline has come.
    pub(super) late: bool,
    /// The final head was written.
    pub(super) answered: bool,
    /// Since when the client or the endpoint takes next to nothing of what is held for it.
    waits: Option<Instant>,
    /// What was taken since then.
    taken: usize,
    /// What is held for those who do not read is too much, and this one goes.
    cut: bool,
}

/// A stream, as its exchange has it.
pub(super) struct StreamHandle {
    pub(super) common: Arc<Common>,
    pub(super) at: usize,
    pub(super) id: u32,
}

/// What a header block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadKind {
    Informational,
    Final,
    Trailers,
}

impl HeadKind {
    /// That of a head with this status.
    pub(super) fn of(status: u16) -> Self {
        if status < 200 { Self::Informational } else { Self::Final }
    }
}

/// A stream and the output, locked.
pub(super) struct LockedStream<'a> {
    state: MutexGuard<'a, State>,
    at: usize,
    pub(super) id: u32,
}

impl Common {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// For a connection of up to so many streams.
    pub(super) fn new(places: usize) -> Self {
        Self {
            output: Output::new(),
            places: Vec::new(),
            ids: Vec::new(),
            blocked: PlaceSet::new(places),
            held: 0,
            grown: 0,
            deadline: None,
            nowhere: Place::default(),
        }
    }

    /// The place of a stream that is open.
    #[inline]
    pub(super) fn place_of(&self, id: u32) -> Option<usize> {
        self.ids.iter().position(|known| *known == id)
    }

    pub(super) fn place(&mut self, at: usize) -> &mut Place {
        self.places.get_mut(at).unwrap_or(&mut self.nowhere)
    }

    /// Opens a place for a stream.
    pub(super) fn open(&mut self, at: usize, id: u32, left: Option<u64>, ends: bool) {
        while self.places.len() <= at {
            self.places.push(Place::default());
            self.ids.push(0);
        }
        let window = self.output.initial_window;
        if let Some(place) = self.places.get_mut(at) {
            place.begin(window, left, ends);
        }
        if let Some(known) = self.ids.get_mut(at) {
            *known = id;
        }
    }

    /// Gives back what was used of a stream's window, once it is worth a frame.
    #[inline]
    pub(super) fn give_back(&mut self, at: usize, id: u32) {
        let place = self.places.get_mut(at).unwrap_or(&mut self.nowhere);
        if place.owed >= STREAM_WINDOW / 2 && !place.received_end {
            let owed = std::mem::take(&mut place.owed);
            place.credit += owed;
            frame::window_update(&mut self.output.bytes, id, u32::try_from(owed).unwrap_or_default());
        }
    }

    /// Closes a place.
    pub(super) fn close(&mut self, at: usize) {
        let place = self.places.get_mut(at).unwrap_or(&mut self.nowhere);
        self.held -= place.body.len().saturating_sub(place.replayed) as i64;
        self.grown -= std::mem::take(&mut place.grown);
        place.end();
        if let Some(id) = self.ids.get_mut(at) {
            *id = 0;
        }
        self.blocked.remove(at);
    }
}

impl Place {
    fn begin(&mut self, window: i64, left: Option<u64>, ends: bool) {
        self.received_end = ends;
        self.left = left;
        (self.credit, self.owed, self.window) = (STREAM_WINDOW, 0, window);
        (self.deadline, self.late, self.answered) = (None, false, false);
        (self.waits, self.taken, self.cut) = (None, 0, false);
    }

    fn end(&mut self) {
        self.body.keep(false);
        self.body.clear();
        self.replayed = 0;
        self.body.rest();
        self.trailers = None;
        (self.deadline, self.late, self.waits) = (None, false, None);
    }

    /// Prepares to send the body again, if all of it that came is still here.
    pub(super) fn replay(&mut self) -> bool {
        let before = self.body.len();
        let whole = self.body.is_kept() || self.body.size() == before;
        if whole {
            self.body.rewind();
            self.replayed += self.body.len() - before;
        }
        whole
    }

    /// Whether all of the body is here and used.
    pub(super) fn is_spent(&self) -> bool {
        self.received_end && self.body.is_empty()
    }
}

impl StreamHandle {
    pub(super) fn lock(&self) -> LockedStream<'_> {
        LockedStream { state: self.common.lock(), at: self.at, id: self.id }
    }

    /// Whether the exchange must end because of what is held for it, which waits since then; none: nothing does.
    pub(super) fn is_cut_while(&self, waits: Option<Instant>) -> bool {
        let mut state = self.common.lock();
        let place = state.place(self.at);
        if place.waits.is_none() || waits.is_none() || place.taken >= SOME {
            (place.waits, place.taken) = (waits, 0);
        }
        place.cut
    }

    /// Whether a deadline has come. The connection's one timer wakes the stream when it comes.
    pub(super) fn is_late(&self, at: Instant) -> bool {
        let mut state = self.common.lock();
        let place = state.place(self.at);
        if place.late && place.deadline.is_some_and(|deadline| at <= deadline) {
            return true;
        }
        place.late = false;
        place.deadline = Some(at);
        state.deadline = Some(state.deadline.map_or(at, |first| first.min(at)));
        false
    }
}

impl Holder for Common {
    fn waiting(&self, now: Instant, found: &mut dyn FnMut(usize, Duration, u64)) {
        let state = self.lock();
        for (at, place) in state.places.iter().enumerate() {
            if let Some(since) = place.waits {
                let held = STREAM_HELD + u64::from(place.grown) + place.body.len() as u64;
                found(at, now.saturating_duration_since(since), held);
            }
        }
    }

    fn cut(&self, number: usize, _: Instant) {
        let mut state = self.lock();
        if let Some(place) = state.places.get_mut(number).filter(|place| place.waits.is_some()) {
            place.cut = true;
            drop(state);
            self.woken.wake(number);
        }
    }
}

impl LockedStream<'_> {
    pub(super) fn place(&mut self) -> &mut Place {
        self.state.place(self.at)
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.state.output
    }

    /// How many bytes of a body may be sent now. If none, the stream is polled when some may.
    pub(super) fn room(&mut self) -> Option<usize> {
        let window = self.place().window;
        if window <= 0 {
            return None;
        }
        let state = &mut *self.state;
        if state.output.window <= 0 || state.output.is_full() {
            state.blocked.insert(self.at);
            return None;
        }
        let allowed = usize::try_from(window.min(state.output.window)).unwrap_or(usize::MAX);
        Some(allowed.min(MAX_FRAME))
    }

    /// Whether a header block may be sent now. If not, the stream is polled when it may.
    pub(super) fn has_room(&mut self) -> bool {
        let full = self.state.output.is_full();
        if full {
            self.state.blocked.insert(self.at);
        }
        !full
    }

    /// So many bytes of the body were used: what they took of the windows is given back, once it is worth a frame.
    pub(super) fn used(&mut self, n: usize) {
        let state = &mut *self.state;
        let place = state.places.get_mut(self.at).unwrap_or(&mut state.nowhere);
        let again = n.min(place.replayed);
        place.replayed -= again;
        let fresh = (n - again) as i64;
        place.taken += n;
        state.held -= fresh;
        place.owed += fresh;
        state.give_back(self.at, self.id);
    }

    /// By how much the window of its stream at an HTTP/2 endpoint may have grown in all.
    pub(super) fn growth(&mut self) -> u32 {
        let left = MOST_GROWN.saturating_sub(self.state.grown);
        self.place().grown + left
    }

    /// By how much the window of its stream at an HTTP/2 endpoint has grown.
    pub(super) fn has_grown(&mut self, grown: u32) {
        let before = std::mem::replace(&mut self.place().grown, grown);
        self.state.grown = self.state.grown - before + grown;
    }

    /// Adds a header block that [`Self::has_room`] allowed; `write` writes its fields.
    pub(super) fn head(&mut self, kind: HeadKind, ends: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let id = self.id;
        self.place().answered |= kind == HeadKind::Final;
        self.output().head(id, ends, write);
    }

    /// Adds a DATA frame that [`Self::room`] allowed.
    pub(super) fn send(&mut self, ends: bool, payload: &[u8]) {
        let id = self.id;
        self.output().data(id, ends, payload);
        self.sent(payload.len());
    }

    /// So many bytes of a body were added.
    pub(super) fn sent(&mut self, n: usize) {
        let place = self.place();
        place.window -= n as i64;
        place.taken += n;
    }
}
