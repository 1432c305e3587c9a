//! One stream of a connection as its frames tell it: what came and waits, and the rules of an answer (RFC 9113 §8.1).
//!
//! ```text
//! Head ── 1xx ─┐    DATA ─┐
//!   ▲──────────┘─► Body ◄─┘─► Ended (END_STREAM: on the head, on DATA, or on trailers)
//! ```
//!
//! Invariants: what waits is bounded by the stream's window and [`WAITING_INFORMATIONAL`]; what came before a failure is
//! told before it.

use std::collections::VecDeque;
use std::task::Waker;

use super::failure::StreamFailure;
use super::settings::{STREAM_WINDOW, WAITING_INFORMATIONAL};
use super::spare;
use super::window::{Overrun, ReceiveWindow, SendWindow};
use crate::algorithm::decimal::decimal;
use crate::proxy::codec::frame::ErrorCode;
use crate::proxy::codec::hpack::{FieldLines, Pseudo};
use crate::proxy::io::buffer::Buffer;

/// A stream.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) id: u32,
    /// Where its head begins in all that the connection writes.
    pub(super) begins: u64,
    pub(super) local: Local,
    progress: Progress,
    /// Field sections that wait.
    sections: VecDeque<(Section, Box<FieldLines>)>,
    /// Bytes of the body that wait.
    data: Buffer,
    /// Bytes of the body that are still to come, where its length is known.
    left: Option<u64>,
    /// The request is a HEAD.
    head: bool,
    failure: Option<StreamFailure>,
    pub(super) window: SendWindow,
    receive: ReceiveWindow,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// It waits for room on the connection.
    pub(super) queued: bool,
}

/// What of the request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Local {
    #[default]
    Open,
    Ended,
    /// The endpoint wants no more of it.
    Refused,
}

/// What came of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Head,
    Body,
    Ended,
}

/// What a field section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Informational,
    Head { end: bool },
    Trailers,
}

/// What of a request matters to its stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Nothing comes after the head.
    pub(crate) ends: bool,
    /// It is a HEAD: its answer has no body, whatever length it says.
    pub(crate) head: bool,
}

/// An event, with the fields if it is a section.
pub(super) type Told = (Event, Option<Box<FieldLines>>);

/// What an endpoint sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A 1xx.
    Informational,
    /// The final head; with `end` nothing comes after it.
    Head { end: bool },
    /// Bytes of the body wait.
    Data,
    /// The end, with trailers.
    Trailers,
    /// The end.
    End,
}

impl Slot {
    /// Makes it a new stream's.
    pub(super) fn begin(&mut self, id: u32, begins: u64, window: u32, head: bool) {
        (self.id, self.begins, self.head) = (id, begins, head);
        (self.local, self.progress, self.failure, self.left) = (Local::Open, Progress::Head, None, None);
        (self.window, self.receive) = (SendWindow::new(window), ReceiveWindow::forgiving(STREAM_WINDOW));
        self.queued = false;
    }

    /// Lets go of all that waits.
    pub(super) fn clear(&mut self) {
        for (_, fields) in self.sections.drain(..) {
            spare::keep_fields(fields);
        }
        self.data.clear();
        self.data.rest();
        (self.reader, self.writer) = (None, None);
    }

    /// Whether the answer is here as a whole.
    pub(super) fn is_answered(&self) -> bool {
        self.progress == Progress::Ended
    }

    /// Whether both sides have ended, so that nobody needs to be told of its end.
    pub(super) fn is_over(&self) -> bool {
        self.failure.is_some() || (self.is_answered() && self.local != Local::Open)
    }

    /// Whether the endpoint, after its whole answer, wants no more of the request.
    pub(super) fn wants_no_more(&self) -> bool {
        self.is_answered() && self.local == Local::Refused
    }

    pub(super) fn failure(&self) -> Option<StreamFailure> {
        self.failure
    }

    /// Whether the final head came.
    pub(super) fn has_head(&self) -> bool {
        self.progress != Progress::Head
    }

    /// It failed; what came before stays. Whoever waits is woken.
    pub(super) fn fail(&mut self, failure: StreamFailure) {
        if self.is_answered() {
            // Whole is whole.
            if self.local == Local::Open {
                self.local = Local::Refused;
            }
        } else {
            self.failure.get_or_insert(failure);
        }
        self.wake_reader();
        self.wake_writer();
    }

    /// A field section came. Whether it was an informational one.
    ///
    /// # Errors
    /// If there must be none like it here: with what the stream is reset.
    pub(super) fn section(&mut self, fields: Box<FieldLines>, end: bool) -> Result<bool, ErrorCode> {
        let section = match self.judge(&fields, end) {
            Ok(section) => section,
            Err(code) => {
                spare::keep_fields(fields);
                return Err(code);
            }
        };
        let informational = section == Section::Informational;
        if informational && self.sections.len() >= WAITING_INFORMATIONAL {
            spare::keep_fields(fields);
        } else {
            self.sections.push_back((section, fields));
            self.wake_reader();
        }
        Ok(informational)
    }

    fn judge(&mut self, fields: &FieldLines, end: bool) -> Result<Section, ErrorCode> {
        let foreign = [Pseudo::Method, Pseudo::Scheme, Pseudo::Authority, Pseudo::Path, Pseudo::Protocol];
        if fields.flaw().is_some() || fields.overflows() || foreign.iter().any(|one| fields.pseudo(*one).is_some()) {
            return Err(ErrorCode::PROTOCOL_ERROR);
        }
        match self.progress {
            Progress::Head => self.judge_head(fields, end),
            Progress::Body if end && is_trailers(fields) && self.is_complete() => {
                self.progress = Progress::Ended;
                Ok(Section::Trailers)
            }
            Progress::Body => Err(ErrorCode::PROTOCOL_ERROR),
            Progress::Ended => Err(ErrorCode::STREAM_CLOSED),
        }
    }

    fn judge_head(&mut self, fields: &FieldLines, end: bool) -> Result<Section, ErrorCode> {
        let status = fields.status().ok_or(ErrorCode::PROTOCOL_ERROR)?;
        match status {
            // HTTP/2 switches no protocols (RFC 9113 §8.6).
            ..100 | 101 => return Err(ErrorCode::PROTOCOL_ERROR),
            100..200 if end => return Err(ErrorCode::PROTOCOL_ERROR),
            100..200 => return Ok(Section::Informational),
            _ => {}
        }
        self.left = content_length(fields)?;
        if self.head || matches!(status, 204 | 304) {
            // It may say how long the body would be.
            self.left = Some(0);
        }
        if end && !self.is_complete() {
            return Err(ErrorCode::PROTOCOL_ERROR);
        }
        self.progress = if end { Progress::Ended } else { Progress::Body };
        Ok(Section::Head { end })
    }

    fn is_complete(&self) -> bool {
        self.left.is_none_or(|left| left == 0)
    }

    /// Bytes of the body came; `padding`: what counts for the window and is nothing. What of it is to be given back at once.
    ///
    /// # Errors
    /// If there must be none here, or not so many: with what the stream is reset.
    pub(super) fn data(&mut self, bytes: &[u8], padding: usize, end: bool) -> Result<Option<u32>, ErrorCode> {
        let length = bytes.len();
        self.receive.receive(length + padding).map_err(|Overrun| ErrorCode::FLOW_CONTROL_ERROR)?;
        match self.progress {
            Progress::Head => return Err(ErrorCode::PROTOCOL_ERROR),
            Progress::Body => {}
            Progress::Ended => return Err(ErrorCode::STREAM_CLOSED),
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(length as u64).ok_or(ErrorCode::PROTOCOL_ERROR)?;
        }
        if end && !self.is_complete() {
            return Err(ErrorCode::PROTOCOL_ERROR);
        }
        self.data.push(bytes);
        if end {
            self.progress = Progress::Ended;
        }
        if end || length > 0 {
            self.wake_reader();
        }
        let back = if padding > 0 { self.receive.used(padding) } else { None };
        Ok(back.filter(|_| !end))
    }

    /// What came next, with the fields if it is a section; none if nothing did.
    pub(super) fn next(&mut self) -> Option<Result<Told, StreamFailure>> {
        let due = |(section, _): &(Section, _)| *section != Section::Trailers || self.data.is_empty();
        if self.sections.front().is_some_and(due)
            && let Some((section, fields)) = self.sections.pop_front()
        {
            return Some(Ok((section.event(), Some(fields))));
        }
        if !self.data.is_empty() {
            return Some(Ok((Event::Data, None)));
        }
        match self.failure {
            Some(failure) => Some(Err(failure)),
            None => self.is_answered().then_some(Ok((Event::End, None))),
        }
    }

    /// Whether nothing but the end is left, without trailers, and it is here.
    pub(super) fn ends(&self) -> bool {
        self.is_answered() && self.data.is_empty() && self.sections.is_empty()
    }

    /// How many bytes of the body wait.
    pub(super) fn buffered(&self) -> usize {
        self.data.len()
    }

    /// `take` uses some of what waits; how many bytes it did, and what is to be given back to the endpoint. It says, too,
    /// how large the window may become.
    pub(super) fn read(&mut self, take: impl FnOnce(&[u8]) -> (usize, u32)) -> (usize, Option<u32>) {
        let (used, largest) = take(self.data.data());
        let used = used.min(self.data.len());
        self.data.consume(used);
        let back = if self.data.is_empty() {
            self.data.rest();
            self.receive.used_up(used, largest)
        } else {
            self.receive.used(used)
        };
        // Nothing comes any more on a stream that has ended.
        (used, back.filter(|_| self.progress == Progress::Body && self.failure.is_none()))
    }

    /// What the endpoint may send ahead.
    pub(super) fn receive_window(&self) -> u32 {
        self.receive.size()
    }

    pub(super) fn wait_to_read(&mut self, waker: &Waker) {
        keep(&mut self.reader, waker);
    }

    pub(super) fn wait_to_write(&mut self, waker: &Waker) {
        keep(&mut self.writer, waker);
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl Section {
    fn event(self) -> Event {
        match self {
            Self::Informational => Event::Informational,
            Self::Head { end } => Event::Head { end },
            Self::Trailers => Event::Trailers,
        }
    }
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(kept) => kept.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}

/// The length that a head announces. Several fields that are alike are one (RFC 9110 §8.6); a list in one field is left to
/// HTTP/1, where proxies make such.
fn content_length(fields: &FieldLines) -> Result<Option<u64>, ErrorCode> {
    let mut length = None;
    for field in fields.iter().filter(|field| field.name == "content-length") {
        let this = decimal(field.value).ok_or(ErrorCode::PROTOCOL_ERROR)?;
        if length.replace(this).is_some_and(|before| before != this) {
            return Err(ErrorCode::PROTOCOL_ERROR);
        }
    }
    Ok(length)
}

/// Whether a section may be trailers: no pseudo-field (RFC 9113 §8.1), nothing that frames the body (RFC 9110 §6.5.1).
fn is_trailers(fields: &FieldLines) -> bool {
    fields.pseudo(Pseudo::Status).is_none() && !fields.iter().any(|field| FRAMING.contains(&field.name))
}

const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "host"];
