//! The frames of an endpoint, one after the other: what each does to the connection and its streams.
//!
//! Invariant: whatever comes, field sections are decoded in their order and bytes are counted, for streams that are over
//! too: both tables and the connection's window stay those of the endpoint.

use super::failure::StreamFailure;
use super::flood::Nuisance;
use super::settings::{HEADER_BLOCK, HEADER_LIST};
use super::spare;
use super::state::{State, Unfinished};
use crate::proxy::codec::frame::{self, ErrorCode, Frame, FrameError, FrameHead, setting};
use crate::proxy::codec::hpack::HpackError;

/// The last stream of a GOAWAY that only announces the end, 2³¹−1 (RFC 9113 §6.8).
const ANNOUNCED: u32 = u32::MAX >> 1;

impl State {
    /// A whole frame came.
    ///
    /// # Errors
    /// If the connection must end (RFC 9113 §5.4.1).
    pub(super) fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ErrorCode> {
        if let Err(FrameError::Connection(code) | FrameError::Stream(code)) = self.order.take(head) {
            return Err(code);
        }
        let frame = match Frame::parse(head, payload) {
            Ok(frame) => frame,
            Err(FrameError::Connection(code)) => return Err(code),
            Err(FrameError::Stream(code)) => return self.stream_error(head.stream, code),
        };
        // SETTINGS come first (RFC 9113 §3.4).
        if !self.settled && !matches!(frame, Frame::Settings { ack: false, .. }) {
            return Err(ErrorCode::PROTOCOL_ERROR);
        }
        let stream = head.stream;
        match frame {
            Frame::Data { data, padding, end_stream } => self.data(stream, data, padding, end_stream),
            // What streams depend on means nothing any more.
            Frame::Headers { block, end_stream, end_headers, depends_on_itself: _ } => {
                self.section_begins(stream, block, end_stream, end_headers)
            }
            Frame::Continuation { block, end_headers } => self.section_goes_on(block, end_headers),
            Frame::Reset { code } => self.reset_came(stream, code),
            Frame::Settings { ack: true, .. } => Ok(()),
            Frame::Settings { ack: false, entries } => self.settings(entries.iter()),
            Frame::Ping { ack: true, .. } => Ok(()),
            Frame::Ping { ack: false, payload } => {
                frame::ping(&mut self.out, true, &payload);
                self.nuisance(Nuisance::Ping)
            }
            Frame::GoAway { last, .. } => {
                self.going_away(last);
                Ok(())
            }
            Frame::WindowUpdate { increment } => self.window_update(stream, increment),
            Frame::Priority | Frame::Unknown => self.nuisance(Nuisance::Other),
        }
    }

    fn nuisance(&mut self, what: Nuisance) -> Result<(), ErrorCode> {
        if self.tokens.is_flood(what) {
            tracing::debug!(?what, "an endpoint floods its connection");
            return Err(ErrorCode::ENHANCE_YOUR_CALM);
        }
        Ok(())
    }

    fn useful(&mut self) {
        self.tokens.useful();
        self.liveness.useful();
    }

    /// Whether a stream was ever opened: by us, and with an odd id. Anything on another is an error of the connection
    /// (RFC 9113 §5.1).
    fn check_opened(&self, stream: u32) -> Result<(), ErrorCode> {
        if stream % 2 == 1 && stream < self.next_id() { Ok(()) } else { Err(ErrorCode::PROTOCOL_ERROR) }
    }

    /// An error of a stream only: it is reset.
    fn stream_error(&mut self, stream: u32, code: ErrorCode) -> Result<(), ErrorCode> {
        self.check_opened(stream)?;
        if let Some((at, _)) = self.streams.find(stream) {
            self.reset(at, code, StreamFailure::Protocol);
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, data: &[u8], padding: usize, end: bool) -> Result<(), ErrorCode> {
        self.check_opened(stream)?;
        let length = data.len() + padding;
        self.receive.receive(length).map_err(|_| ErrorCode::FLOW_CONTROL_ERROR)?;
        let back = self.receive.used(length);
        self.give_back(0, back);
        if data.is_empty() && !end {
            self.nuisance(Nuisance::EmptyData)?;
        }
        match self.streams.find(stream) {
            Some((at, slot)) if slot.failure().is_none() => match slot.data(data, padding, end) {
                Ok(back) => {
                    self.give_back(stream, back);
                    if end || !data.is_empty() {
                        self.useful();
                    }
                }
                Err(code) => self.reset(at, code, StreamFailure::Protocol),
            },
            // What was on its way when the stream was reset: as much as its window let be.
            _ => {}
        }
        Ok(())
    }

    fn section_begins(&mut self, stream: u32, block: &[u8], end: bool, whole: bool) -> Result<(), ErrorCode> {
        self.check_opened(stream)?;
        let mut fields = spare::fields();
        fields.clear(HEADER_LIST as usize);
        let mut section = Unfinished { stream, end, length: 0, fields };
        self.section_part(&mut section, block)?;
        if whole { self.section_ends(section) } else { self.wait_for_more(section) }
    }

    fn section_goes_on(&mut self, block: &[u8], whole: bool) -> Result<(), ErrorCode> {
        self.nuisance(Nuisance::Continuation)?;
        let mut section = self.section.take().ok_or(ErrorCode::PROTOCOL_ERROR)?;
        self.section_part(&mut section, block)?;
        if whole { self.section_ends(section) } else { self.wait_for_more(section) }
    }

    fn wait_for_more(&mut self, section: Unfinished) -> Result<(), ErrorCode> {
        self.section = Some(section);
        Ok(())
    }

    fn section_part(&mut self, section: &mut Unfinished, block: &[u8]) -> Result<(), ErrorCode> {
        section.length += block.len();
        if section.length > HEADER_BLOCK {
            return Err(ErrorCode::ENHANCE_YOUR_CALM);
        }
        self.decoder.decode_part(block, &mut section.fields).map_err(compression)
    }

    fn section_ends(&mut self, section: Unfinished) -> Result<(), ErrorCode> {
        self.decoder.finish().map_err(compression)?;
        let Unfinished { stream, end, fields, .. } = section;
        match self.streams.find(stream) {
            Some((at, slot)) if slot.failure().is_none() => match slot.section(fields, end) {
                Ok(true) => self.nuisance(Nuisance::Informational),
                Ok(false) => {
                    self.useful();
                    Ok(())
                }
                Err(code) => {
                    self.reset(at, code, StreamFailure::Protocol);
                    Ok(())
                }
            },
            _ => {
                spare::keep_fields(fields);
                self.nuisance(Nuisance::Late)
            }
        }
    }

    fn reset_came(&mut self, stream: u32, code: ErrorCode) -> Result<(), ErrorCode> {
        self.check_opened(stream)?;
        let Some((_, slot)) = self.streams.find(stream) else { return self.nuisance(Nuisance::Late) };
        let refused = code == ErrorCode::REFUSED_STREAM && !slot.has_head();
        slot.fail(if refused { StreamFailure::Unprocessed } else { StreamFailure::Reset(code) });
        Ok(())
    }

    fn settings(&mut self, entries: impl Iterator<Item = (u16, u32)>) -> Result<(), ErrorCode> {
        for (key, value) in entries {
            match key {
                setting::HEADER_TABLE_SIZE => self.set_table(value),
                setting::MAX_CONCURRENT_STREAMS => self.most = usize::try_from(value).unwrap_or(usize::MAX),
                setting::INITIAL_WINDOW_SIZE => self.set_initial_window(value)?,
                _ => {}
            }
        }
        frame::settings_ack(&mut self.out);
        self.settled = true;
        // How many may join may be another number now.
        self.sharing.changed();
        self.nuisance(Nuisance::Settings)
    }

    /// The window of new streams, and of those there are by as much (RFC 9113 §6.9.2).
    fn set_initial_window(&mut self, size: u32) -> Result<(), ErrorCode> {
        let by = i64::from(size) - i64::from(self.initial);
        self.initial = size;
        let mut fits = true;
        self.streams.each(|slot| {
            fits &= slot.window.change(by).is_ok();
            if by > 0 {
                slot.wake_writer();
            }
        });
        if fits { Ok(()) } else { Err(ErrorCode::FLOW_CONTROL_ERROR) }
    }

    /// Streams above `last` were not and will not be processed (RFC 9113 §6.8).
    fn going_away(&mut self, last: u32) {
        let last = self.last.map_or(last, |before| before.min(last));
        self.last = Some(last);
        // The highest announces a close and ends nothing yet.
        if last < ANNOUNCED {
            self.sharing.learn(u64::from(last.div_ceil(2)));
        }
        self.retire();
        self.streams.each(|slot| {
            if slot.id > last && !slot.has_head() {
                slot.fail(StreamFailure::Unprocessed);
            }
        });
    }

    fn window_update(&mut self, stream: u32, increment: u32) -> Result<(), ErrorCode> {
        self.nuisance(Nuisance::WindowUpdate)?;
        let by = i64::from(increment);
        if stream == 0 {
            return self.window.change(by).map_err(|_| ErrorCode::FLOW_CONTROL_ERROR);
        }
        self.check_opened(stream)?;
        let Some((at, slot)) = self.streams.find(stream) else { return Ok(()) };
        if slot.window.change(by).is_ok() {
            slot.wake_writer();
        } else {
            self.reset(at, ErrorCode::FLOW_CONTROL_ERROR, StreamFailure::Protocol);
        }
        Ok(())
    }
}

fn compression(error: HpackError) -> ErrorCode {
    match error {
        HpackError::Invalid => ErrorCode::COMPRESSION_ERROR,
        HpackError::TooLarge => ErrorCode::ENHANCE_YOUR_CALM,
    }
}
