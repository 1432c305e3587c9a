//! What one connection knows: its streams, what waits to be written, and what the endpoint said.
//!
//! ```text
//! streams ─ open, send, read ─► State ◄─ frames ─ the connection's task ─► writes what waits, once for all
//! ```
//!
//! Invariants: DATA is taken only within the endpoint's windows, and while less than [`OUTPUT`] waits; ids rise; a stream
//! that is turned away was not processed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::failure::StreamFailure;
use super::flood::Tokens;
use super::liveness::Liveness;
use super::settings::{
    CONNECTION_WINDOW, DEFAULT_WINDOW, FRAME, HEADER_LIST, LAST_ID, OUTPUT, STREAM_WINDOW, STREAMS, UNSETTLED_STREAMS,
};
use super::sharing::Sharing;
use super::slot::{Local, Opening};
use super::streams::Streams;
use super::window::{ReceiveWindow, SendWindow};
use crate::proxy::codec::frame::{self, ErrorCode, FrameOrder, setting};
use crate::proxy::codec::hpack::{Decoder, Encoder, FieldLines};
use crate::proxy::io::buffer::Buffer;

/// What one connection knows.
pub(super) struct State {
    /// What waits to be written, and how much ever was.
    pub(super) out: Buffer,
    pub(super) written: u64,
    encoder: Encoder,
    /// The header block that is being made.
    block: Vec<u8>,
    pub(super) decoder: Decoder,
    pub(super) order: FrameOrder,
    /// A field section of which more is to come.
    pub(super) section: Option<Unfinished>,
    pub(super) streams: Streams,
    /// What may be sent on all streams together.
    pub(super) window: SendWindow,
    /// What the endpoint may send on all streams together.
    pub(super) receive: ReceiveWindow,
    /// The window of a new stream.
    pub(super) initial: u32,
    /// Streams that the endpoint takes at once.
    pub(super) most: usize,
    /// Its SETTINGS came.
    pub(super) settled: bool,
    next: u32,
    /// Streams that have a place, open or not.
    active: usize,
    /// All that ever had one, and how many it may have at most.
    pub(super) carried: u64,
    pub(super) allowance: u64,
    /// No new streams.
    over: bool,
    /// The last stream that a GOAWAY lets live.
    pub(super) last: Option<u32>,
    /// It is gone.
    ended: Option<StreamFailure>,
    /// Streams that wait for room on the connection, longest first.
    blocked: VecDeque<usize>,
    task: Option<Waker>,
    /// The task knows that there is something to do.
    told: bool,
    pub(super) tokens: Tokens,
    pub(super) liveness: Liveness,
    /// The endpoint is taken for dead.
    pub(super) dead: bool,
    pub(super) sharing: Arc<Sharing>,
}

/// A field section of which more is to come.
pub(super) struct Unfinished {
    pub(super) stream: u32,
    pub(super) end: bool,
    /// How long it is so far, as it came.
    pub(super) length: usize,
    pub(super) fields: Box<FieldLines>,
}

/// What we say first.
const SETTINGS: [(u16, u32); 3] = [
    (setting::ENABLE_PUSH, 0),
    (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
    (setting::MAX_HEADER_LIST_SIZE, HEADER_LIST),
];

impl State {
    /// A new connection's, with our preface to be written.
    pub(super) fn new(sharing: Arc<Sharing>) -> Self {
        let mut out = Buffer::default();
        out.push(frame::PREFACE);
        frame::settings(&mut out, &SETTINGS);
        frame::window_update(&mut out, 0, CONNECTION_WINDOW - DEFAULT_WINDOW);
        Self {
            out,
            written: 0,
            encoder: Encoder::new(),
            block: Vec::new(),
            decoder: Decoder::new(),
            order: FrameOrder::default(),
            section: None,
            streams: Streams::default(),
            window: SendWindow::new(DEFAULT_WINDOW),
            receive: ReceiveWindow::new(CONNECTION_WINDOW),
            initial: DEFAULT_WINDOW,
            most: STREAMS,
            settled: false,
            next: 1,
            active: 0,
            carried: 0,
            allowance: sharing.allowance(),
            over: false,
            last: None,
            ended: None,
            blocked: VecDeque::new(),
            task: None,
            told: true,
            tokens: Tokens::new(),
            liveness: Liveness::new(),
            dead: false,
            sharing,
        }
    }

    /// A place for a stream, if there is room.
    pub(super) fn reserve(&mut self) -> bool {
        let most = if self.settled { self.most.min(STREAMS) } else { UNSETTLED_STREAMS };
        if self.over || self.active >= most {
            return false;
        }
        self.active += 1;
        self.carried += 1;
        if self.carried >= self.allowance || self.next >= LAST_ID {
            self.retire();
        }
        true
    }

    /// A place is free again.
    pub(super) fn leave(&mut self) {
        self.active -= 1;
        if !self.over {
            self.sharing.changed();
        } else if self.active == 0 {
            self.tell();
        }
    }

    /// Whether nothing moves on it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.ended.is_some()
    }

    /// The id of the next stream that is opened.
    pub(super) fn next_id(&self) -> u32 {
        self.next
    }

    /// The endpoint's SETTINGS_HEADER_TABLE_SIZE.
    pub(super) fn set_table(&mut self, size: u32) {
        self.encoder.set_table(usize::try_from(size).unwrap_or(usize::MAX));
    }

    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// No new streams; those there are end in their own time.
    pub(super) fn retire(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.sharing.changed();
            self.tell();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Opens a stream; `write` writes its header block. Its place among the streams.
    ///
    /// # Errors
    /// If the connection is gone.
    pub(super) fn open(
        &mut self,
        Opening { ends, head }: Opening,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<usize, StreamFailure> {
        if self.ended.is_some() || self.last.is_some_and(|last| self.next > last) {
            return Err(StreamFailure::Unprocessed);
        }
        let id = self.next;
        self.next += 2;
        let begins = self.written + self.out.len() as u64;
        let at = self.streams.insert(id, begins, self.initial, head);
        if let Some(slot) = self.streams.at(at)
            && ends
        {
            slot.local = Local::Ended;
        }
        self.head(id, ends, write);
        Ok(at)
    }

    fn head(&mut self, id: u32, ends: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        self.block.clear();
        self.encoder.begin(&mut self.block);
        write(&mut self.encoder, &mut self.block);
        frame::header_frames(&mut self.out, id, ends, &self.block, FRAME);
        if self.block.capacity() > FRAME {
            self.block = Vec::new();
        }
        self.tell();
    }

    /// Takes as much of a body as may be sent now; how much it was. None: the stream waits, and is woken by `waker`.
    ///
    /// # Errors
    /// The stream's end.
    pub(super) fn send(
        &mut self,
        at: usize,
        waker: &Waker,
        bytes: &[u8],
        end: bool,
    ) -> Poll<Result<usize, StreamFailure>> {
        let mut sent = 0;
        loop {
            let left = bytes.get(sent..).unwrap_or_default();
            let Some(slot) = self.streams.at(at) else { return Poll::Ready(Err(StreamFailure::Broken)) };
            if let Some(failure) = slot.failure() {
                return Poll::Ready(Err(failure));
            }
            if slot.local != Local::Open {
                return Poll::Ready(Ok(bytes.len()));
            }
            let room = self.window.room().min(OUTPUT.saturating_sub(self.out.len()));
            let length = left.len().min(slot.window.room()).min(room).min(FRAME);
            let last = end && length == left.len();
            // An end alone needs no window, and adds nine bytes.
            if length == 0 && !last {
                return self.wait_to_send(at, waker, left.is_empty() && !end, sent);
            }
            slot.window.take(length);
            if last {
                slot.local = Local::Ended;
            }
            let id = slot.id;
            self.window.take(length);
            frame::data(&mut self.out, id, last, left.get(..length).unwrap_or_default());
            self.tokens.sent(length);
            self.tell();
            sent += length;
            if last {
                return Poll::Ready(Ok(sent));
            }
        }
    }

    /// What was sent is told; if nothing was, the stream waits for room.
    fn wait_to_send(
        &mut self,
        at: usize,
        waker: &Waker,
        empty: bool,
        sent: usize,
    ) -> Poll<Result<usize, StreamFailure>> {
        if sent > 0 || empty {
            return Poll::Ready(Ok(sent));
        }
        if let Some(slot) = self.streams.at(at) {
            slot.wait_to_write(waker);
            // One that waits for its own window is woken by that.
            if slot.window.room() > 0 && !std::mem::replace(&mut slot.queued, true) {
                self.blocked.push_back(at);
            }
        }
        Poll::Pending
    }

    /// Ends the request with trailers.
    ///
    /// # Errors
    /// The stream's end.
    pub(super) fn trailers(
        &mut self,
        at: usize,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), StreamFailure> {
        let slot = self.streams.at(at).ok_or(StreamFailure::Broken)?;
        if let Some(failure) = slot.failure() {
            return Err(failure);
        }
        if slot.local == Local::Open {
            slot.local = Local::Ended;
            let id = slot.id;
            self.head(id, true, write);
        }
        Ok(())
    }

    /// Wakes streams that wait for room, if there is some.
    pub(super) fn wake_blocked(&mut self) {
        if self.window.room() == 0 || self.out.len() >= OUTPUT {
            return;
        }
        while let Some(at) = self.blocked.pop_front() {
            if let Some(slot) = self.streams.at(at) {
                slot.queued = false;
                slot.wake_writer();
            }
        }
    }

    /// `take` uses some of what waits of an answer, and says how many bytes and how large the window may become. How many
    /// were used, and how large it is now.
    pub(super) fn read(&mut self, at: usize, take: impl FnOnce(&[u8]) -> (usize, u32)) -> (usize, u32) {
        let Some(slot) = self.streams.at(at) else { return (0, 0) };
        let (used, back) = slot.read(take);
        let (id, window) = (slot.id, slot.receive_window());
        self.give_back(id, back);
        (used, window)
    }

    /// So much of what arrived is to be given back.
    pub(super) fn give_back(&mut self, stream: u32, bytes: Option<u32>) {
        if let Some(bytes) = bytes {
            frame::window_update(&mut self.out, stream, bytes);
            self.tell();
        }
    }

    /// Ends a stream that is open, with this code.
    pub(super) fn reset(&mut self, at: usize, code: ErrorCode, failure: StreamFailure) {
        let Some(slot) = self.streams.at(at) else { return };
        let (id, over) = (slot.id, slot.is_over());
        slot.local = Local::Refused;
        slot.fail(failure);
        if !over && self.ended.is_none() {
            frame::reset(&mut self.out, id, code);
            self.tell();
        }
    }

    /// A stream is carried no further.
    pub(super) fn close(&mut self, at: usize) {
        self.reset(at, ErrorCode::CANCEL, StreamFailure::Broken);
        if self.streams.at(at).is_some_and(|slot| slot.queued) {
            self.blocked.retain(|queued| *queued != at);
        }
        self.streams.remove(at);
    }

    /// The connection is gone: its streams hear why.
    pub(super) fn end(&mut self, failure: StreamFailure) {
        if self.carried >= self.allowance && self.last.is_none() {
            self.sharing.unlearn(self.carried);
        }
        self.retire();
        self.ended = Some(failure);
        // What never left provably was not processed. But one that never spoke HTTP/2 is to blame, whatever it did.
        let written = if self.settled { self.written } else { u64::MAX };
        self.streams.each(|slot| {
            slot.fail(if slot.begins >= written { StreamFailure::Unprocessed } else { failure });
        });
        self.blocked.clear();
    }

    /// The task of the connection is to look up.
    pub(super) fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true)
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }

    /// The task looks up: until [`Self::turn_ends`], it needs not be told.
    pub(super) fn turn_begins(&mut self, task: &Waker) {
        self.told = true;
        match &mut self.task {
            Some(kept) => kept.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }

    pub(super) fn turn_ends(&mut self) {
        self.told = false;
    }
}
