//! What a client says: the frames of its connection in their order, each with the rules that depend on what came before
//! (RFC 9113 §5, §6).

use super::connection::{Connection, OpenBlock, Purpose};
use super::ended::Fatal;
use super::exchange::Opened;
use super::fields::PooledFields;
use super::output::{LARGEST_WINDOW, MAX_FRAME};
use super::spare;
use super::state::{CONNECTION_WINDOW, State, StreamHandle};
use crate::algorithm::decimal::decimal;
use crate::proxy::codec::frame::{
    self, DEFAULT_MAX_FRAME, ErrorCode, Frame, FrameError, FrameHead, PREFACE, SettingsEntries, setting,
};
use crate::proxy::codec::hpack::HpackError;
use crate::telemetry::H2Abuse;

/// Frames that are taken before streams have their turn: 64 KiB hold 7,000 empty ones.
const FRAMES: usize = 128;

/// CONTINUATION frames of one header block at most (CVE-2024-27316): 2 MiB in full frames, or a head in small pieces.
const MAX_CONTINUATIONS: usize = 128;

/// A header list beyond the limit is refused; one of this size ends the connection, whatever the limit (four times the
/// limit where that is more). What is beyond the limit is decoded and not kept.
const ENDURED_LIST: usize = 1024 * 1024;

impl Connection {
    /// Takes the frames that are here; whether there may be more of them.
    pub(super) fn take_frames(&mut self, state: &mut State) -> Result<bool, Fatal> {
        if !self.greeted && !self.take_preface(state)? {
            return Ok(false);
        }
        for _ in 0..FRAMES {
            if state.output.is_full() {
                return Ok(true);
            }
            let Some(head) = FrameHead::read(self.input.data()) else { return Ok(false) };
            head.check(DEFAULT_MAX_FRAME).map_err(code_of)?;
            let length = FrameHead::SIZE + head.length;
            if self.input.len() < length {
                return Ok(false);
            }
            // Taken out for the moment, so that the frame may be borrowed from it.
            let mut input = std::mem::take(&mut self.input);
            let payload = input.data().get(FrameHead::SIZE..length).unwrap_or_default();
            let taken = self.take_frame(state, &head, payload);
            input.consume(length);
            self.input = input;
            taken?;
        }
        Ok(true)
    }

    /// Whether the preface is here (RFC 9113 §3.4).
    fn take_preface(&mut self, state: &mut State) -> Result<bool, Fatal> {
        let here = self.input.data();
        let length = here.len().min(PREFACE.len());
        if here.get(..length) != PREFACE.get(..length) {
            return Err(ErrorCode::PROTOCOL_ERROR.into());
        }
        if length < PREFACE.len() {
            return Ok(false);
        }
        self.input.consume(length);
        self.greeted = true;
        self.greet(state);
        Ok(true)
    }

    fn take_frame(&mut self, state: &mut State, head: &FrameHead, payload: &[u8]) -> Result<(), Fatal> {
        // A connection begins with the client's settings.
        if !self.settled && (head.kind != frame::kind::SETTINGS || head.has(frame::flag::ACK)) {
            return Err(ErrorCode::PROTOCOL_ERROR.into());
        }
        self.order.take(head).map_err(code_of)?;
        let id = head.stream;
        let frame = match Frame::parse(head, payload) {
            Ok(frame) => frame,
            Err(FrameError::Connection(code)) => return Err(code.into()),
            Err(FrameError::Stream(code)) => return self.stream_error(state, id, code),
        };
        match frame {
            Frame::Data { data, padding, end_stream } => self.data(state, id, data, padding, end_stream),
            Frame::Headers { block, end_stream, end_headers, depends_on_itself } => {
                self.begin_block(state, id, end_stream, depends_on_itself)?;
                self.block(state, block, end_headers)
            }
            Frame::Continuation { block, end_headers } => {
                if let Some(open) = &mut self.open_block {
                    open.frames += 1;
                    if open.frames > MAX_CONTINUATIONS {
                        return Err(H2Abuse::Continuation.into());
                    }
                }
                self.block(state, block, end_headers)
            }
            Frame::Priority => Ok(self.budget.spend(H2Abuse::Priority)?),
            Frame::Reset { .. } => self.reset(state, id),
            Frame::Settings { ack: true, .. } => Ok(()),
            Frame::Settings { ack: false, entries } => self.settings(state, entries),
            Frame::Ping { ack, payload } => self.ping(state, ack, payload),
            Frame::GoAway { .. } => {
                self.client_leaves = true;
                Ok(())
            }
            Frame::WindowUpdate { increment } => self.window_update(state, id, increment),
            Frame::Unknown => Ok(self.budget.spend(H2Abuse::Stray)?),
        }
    }

    fn data(&mut self, state: &mut State, id: u32, data: &[u8], padding: usize, ends: bool) -> Result<(), Fatal> {
        let size = (data.len() + padding) as i64;
        if size > self.credit {
            return Err(ErrorCode::FLOW_CONTROL_ERROR.into());
        }
        self.credit -= size;
        match data.len() {
            0 if !ends => self.budget.spend(H2Abuse::EmptyData)?,
            n if n < super::budget::SMALL && !ends => self.budget.spend(H2Abuse::SmallData)?,
            _ => {}
        }
        let Some(at) = state.place_of(id) else { return self.gone(id) };
        let place = state.place(at);
        if place.received_end {
            return self.stream_error(state, id, ErrorCode::STREAM_CLOSED);
        }
        if size > place.credit {
            return self.stream_error(state, id, ErrorCode::FLOW_CONTROL_ERROR);
        }
        place.credit -= size;
        place.owed += padding as i64;
        let length = data.len() as u64;
        let left = place.left.map(|left| left.checked_sub(length));
        let (over, short) = (left == Some(None), ends && left.is_some_and(|left| left != Some(0)));
        if over || short {
            return self.stream_error(state, id, ErrorCode::PROTOCOL_ERROR);
        }
        place.left = left.flatten();
        place.body.push(data);
        place.received_end = ends;
        state.held += data.len() as i64;
        if padding > 0 {
            state.give_back(at, id);
        }
        self.due.insert(at);
        Ok(())
    }

    /// A header block begins.
    fn begin_block(&mut self, state: &mut State, id: u32, ends: bool, refused: bool) -> Result<(), Fatal> {
        let purpose = match state.place_of(id) {
            Some(at) if state.place(at).received_end => Purpose::Error(ErrorCode::STREAM_CLOSED),
            // Trailers are the end (RFC 9113 §8.1).
            Some(_) if !ends || refused => Purpose::Error(ErrorCode::PROTOCOL_ERROR),
            Some(at) => Purpose::Trailers(at),
            None if id.is_multiple_of(2) => return Err(ErrorCode::PROTOCOL_ERROR.into()),
            None if id <= self.last => {
                self.gone(id)?;
                Purpose::Nothing
            }
            // Not processed, and the client was told so.
            None if self.is_over_for(id) => Purpose::Nothing,
            None => {
                self.last = id;
                if refused { Purpose::Error(ErrorCode::PROTOCOL_ERROR) } else { Purpose::Request }
            }
        };
        let limit = usize::try_from(self.limits.header_bytes).unwrap_or(usize::MAX);
        self.open_block =
            Some(OpenBlock { id, ends, purpose, fields: PooledFields::take(limit, ENDURED_LIST), frames: 0 });
        Ok(())
    }

    /// A part of a header block.
    fn block(&mut self, state: &mut State, part: &[u8], last: bool) -> Result<(), Fatal> {
        let Some(mut open) = self.open_block.take() else { return Ok(()) };
        let decoded = if last && open.frames == 0 {
            self.decoder.decode(part, &mut open.fields)
        } else {
            let decoded = self.decoder.decode_part(part, &mut open.fields);
            if last { decoded.and_then(|()| self.decoder.finish()) } else { decoded }
        };
        decoded.map_err(|error| match error {
            HpackError::Invalid => ErrorCode::COMPRESSION_ERROR.into(),
            HpackError::TooLarge => Fatal::from(H2Abuse::HeaderList),
        })?;
        if !last {
            self.open_block = Some(open);
            return Ok(());
        }
        let OpenBlock { id, ends, purpose, fields, .. } = open;
        match purpose {
            Purpose::Nothing => Ok(()),
            Purpose::Error(code) => self.stream_error(state, id, code),
            Purpose::Request => self.request(state, id, fields, ends),
            // Its exchange may have ended while the block was incomplete, and then the place is free or another stream's.
            Purpose::Trailers(at) if state.ids.get(at) == Some(&id) => self.trailers(state, at, id, fields),
            Purpose::Trailers(_) => Ok(self.budget.spend(H2Abuse::Stray)?),
        }
    }

    /// A request begins.
    fn request(&mut self, state: &mut State, id: u32, fields: PooledFields, ends: bool) -> Result<(), Fatal> {
        if self.open >= self.max_streams || !self.begins() {
            return self.stream_error(state, id, ErrorCode::REFUSED_STREAM);
        }
        let Some(at) = self.free_place() else {
            return self.stream_error(state, id, ErrorCode::REFUSED_STREAM);
        };
        // What has no body has nothing to count.
        let declared = || fields.iter().find(|field| field.name == "content-length").map(|field| field.value);
        let left = if ends { None } else { declared().and_then(decimal) };
        state.open(at, id, left, ends);
        self.open += 1;
        let stream = StreamHandle { common: std::sync::Arc::clone(&self.common), at, id };
        self.start(at, spare::begin(Opened { stream, fields, ends }));
        self.due.insert(at);
        Ok(())
    }

    fn trailers(&mut self, state: &mut State, at: usize, id: u32, fields: PooledFields) -> Result<(), Fatal> {
        let place = state.place(at);
        let short = place.left.is_some_and(|left| left > 0);
        let framed = fields.iter().any(|field| field.name == "content-length");
        if short || framed || fields.flaw().is_some() || fields.has_pseudo() || fields.overflows() {
            return self.stream_error(state, id, ErrorCode::PROTOCOL_ERROR);
        }
        place.received_end = true;
        place.trailers = (fields.len() > 0).then_some(fields);
        self.due.insert(at);
        Ok(())
    }

    /// The client ended a stream.
    fn reset(&mut self, state: &mut State, id: u32) -> Result<(), Fatal> {
        match state.place_of(id) {
            Some(at) => {
                // Who has seen the answer may have enough of it.
                if !state.place(at).answered {
                    self.budget.spend(H2Abuse::Reset)?;
                }
                self.close_place(state, at);
                self.closed.push(id, false);
                Ok(())
            }
            None if self.is_idle(id) => Err(ErrorCode::PROTOCOL_ERROR.into()),
            None => Ok(self.budget.spend(H2Abuse::Stray)?),
        }
    }

    /// A stream ends with an error of ours.
    pub(super) fn stream_error(&mut self, state: &mut State, id: u32, code: ErrorCode) -> Result<(), Fatal> {
        if id > self.last && !id.is_multiple_of(2) && code != ErrorCode::REFUSED_STREAM {
            self.last = id;
        }
        self.budget.spend(H2Abuse::StreamError)?;
        if let Some(at) = state.place_of(id) {
            self.close_place(state, at);
        }
        frame::reset(&mut state.output.bytes, id, code);
        self.closed.push(id, true);
        Ok(())
    }

    /// Whether no request was begun on this stream yet, so that only HEADERS and PRIORITY may come on it.
    fn is_idle(&self, id: u32) -> bool {
        id > self.last && !self.is_over_for(id)
    }

    /// A frame on a stream that is not open.
    fn gone(&mut self, id: u32) -> Result<(), Fatal> {
        if self.is_idle(id) {
            return Err(ErrorCode::PROTOCOL_ERROR.into());
        }
        // What crossed the last GOAWAY is not processed, and no error (RFC 9113 §6.8).
        if self.is_over_for(id) {
            return Ok(self.budget.spend(H2Abuse::Stray)?);
        }
        // The client ended it itself, or passed it over. What crossed our end of it is no error (RFC 9113 §5.1, §5.1.1).
        if self.closed.excludes(id) {
            return Err(ErrorCode::STREAM_CLOSED.into());
        }
        Ok(self.budget.spend(H2Abuse::Stray)?)
    }

    fn settings(&mut self, state: &mut State, entries: SettingsEntries<'_>) -> Result<(), Fatal> {
        self.budget.spend(H2Abuse::Settings)?;
        self.settled = true;
        for (identifier, value) in entries.iter() {
            match identifier {
                setting::HEADER_TABLE_SIZE => {
                    state.output.encoder.set_table(usize::try_from(value).unwrap_or(usize::MAX));
                }
                setting::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - state.output.initial_window;
                    state.output.initial_window = i64::from(value);
                    // May make windows negative (RFC 9113 §6.9.2).
                    for at in 0..state.places.len() {
                        if state.ids.get(at).is_none_or(|id| *id == 0) {
                            continue;
                        }
                        let place = state.place(at);
                        place.window += change;
                        if place.window > LARGEST_WINDOW {
                            return Err(ErrorCode::FLOW_CONTROL_ERROR.into());
                        }
                        if change > 0 {
                            self.wake_open(state, at);
                        }
                    }
                }
                // Frames are never larger than the least that this allows, and nothing is pushed.
                _ => {}
            }
        }
        const _: () = assert!(MAX_FRAME <= DEFAULT_MAX_FRAME);
        frame::settings_ack(&mut state.output.bytes);
        Ok(())
    }

    fn ping(&mut self, state: &mut State, ack: bool, payload: [u8; 8]) -> Result<(), Fatal> {
        if ack {
            self.leaving.answered(payload);
            return Ok(());
        }
        self.budget.spend(H2Abuse::Ping)?;
        frame::ping(&mut state.output.bytes, true, &payload);
        Ok(())
    }

    fn window_update(&mut self, state: &mut State, id: u32, increment: u32) -> Result<(), Fatal> {
        self.budget.spend(H2Abuse::WindowUpdate)?;
        if id == 0 {
            state.output.window += i64::from(increment);
            if state.output.window > LARGEST_WINDOW {
                return Err(ErrorCode::FLOW_CONTROL_ERROR.into());
            }
            return Ok(());
        }
        match state.place_of(id) {
            Some(at) => {
                let place = state.place(at);
                place.window += i64::from(increment);
                if place.window > LARGEST_WINDOW {
                    return self.stream_error(state, id, ErrorCode::FLOW_CONTROL_ERROR);
                }
                self.due.insert(at);
                Ok(())
            }
            None if self.is_idle(id) => Err(ErrorCode::PROTOCOL_ERROR.into()),
            None => Ok(()),
        }
    }

    /// Gives back what the client used of the connection's window, once it is worth a frame.
    pub(super) fn release(&mut self, state: &mut State) {
        let target = CONNECTION_WINDOW.min(super::state::MOST_HELD - state.held);
        let more = target - self.credit;
        if more >= CONNECTION_WINDOW / 2 {
            self.credit = target;
            frame::window_update(&mut state.output.bytes, 0, u32::try_from(more).unwrap_or_default());
        }
    }
}

/// The code of an error of the connection; one of a stream is none here.
fn code_of(error: FrameError) -> Fatal {
    match error {
        FrameError::Connection(code) | FrameError::Stream(code) => code.into(),
    }
}
