//! Frames from bytes, with every rule about a frame alone (RFC 9113 §6).

use std::ops::RangeInclusive;

use super::{ErrorCode, FrameError, FrameHead, LARGEST_WINDOW, flag, kind, setting};

/// A frame, without its head. What is not for us is read and ignored: priorities are deprecated (RFC 9113 §5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Data {
        data: &'a [u8],
        /// What else of the payload counts for windows (RFC 9113 §6.9.1): the padding and its length.
        padding: usize,
        end_stream: bool,
    },
    Headers {
        block: &'a [u8],
        end_stream: bool,
        end_headers: bool,
        /// The stream is said to depend on itself: PROTOCOL_ERROR of the stream, once the block is read (RFC 7540
        /// §5.3.1).
        depends_on_itself: bool,
    },
    Priority,
    Reset {
        code: ErrorCode,
    },
    Settings {
        ack: bool,
        entries: SettingsEntries<'a>,
    },
    Ping {
        ack: bool,
        payload: [u8; 8],
    },
    GoAway {
        last: u32,
        code: ErrorCode,
    },
    WindowUpdate {
        /// Not 0.
        increment: u32,
    },
    Continuation {
        block: &'a [u8],
        end_headers: bool,
    },
    /// Of a type that nobody knows, to be ignored (RFC 9113 §4.1).
    Unknown,
}

/// The identifiers and values of a SETTINGS frame, each value within its bounds (RFC 9113 §6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SettingsEntries<'a>(&'a [u8]);

/// The sizes of frames that a setting can allow (RFC 9113 §6.5.2).
const MAX_FRAMES: RangeInclusive<u32> = 1 << 14..=(1 << 24) - 1;

const PROTOCOL: FrameError = FrameError::Connection(ErrorCode::PROTOCOL_ERROR);
const SIZE: FrameError = FrameError::Connection(ErrorCode::FRAME_SIZE_ERROR);

impl<'a> Frame<'a> {
    /// Reads the payload of a frame, all of it.
    ///
    /// # Errors
    /// If the frame breaks a rule that no state of the connection makes right. PUSH_PROMISE always does: clients may not
    /// send it, and servers may not either to who does not enable it, which we never do (RFC 9113 §8.4).
    #[inline]
    pub(crate) fn parse(head: &FrameHead, payload: &'a [u8]) -> Result<Self, FrameError> {
        match head.kind {
            kind::DATA => data(head, payload),
            kind::HEADERS => headers(head, payload),
            kind::PRIORITY => priority(head, payload),
            kind::RST_STREAM => {
                on_stream(head)?;
                Ok(Self::Reset { code: ErrorCode(number(payload)?) })
            }
            kind::SETTINGS => settings(head, payload),
            kind::PUSH_PROMISE => Err(PROTOCOL),
            kind::PING => {
                on_connection(head)?;
                Ok(Self::Ping { ack: head.has(flag::ACK), payload: payload.try_into().map_err(|_| SIZE)? })
            }
            kind::GOAWAY => go_away(head, payload),
            kind::WINDOW_UPDATE => window_update(head, payload),
            kind::CONTINUATION => {
                on_stream(head)?;
                Ok(Self::Continuation { block: payload, end_headers: head.has(flag::END_HEADERS) })
            }
            _ => Ok(Self::Unknown),
        }
    }
}

impl SettingsEntries<'_> {
    /// The identifiers and values in their order; some may come twice, and then the last one counts.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, u32)> {
        let (entries, _) = self.0.as_chunks::<6>();
        entries.iter().map(|[a, b, value @ ..]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value)))
    }
}

/// §6.1.
#[inline]
fn data<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<Frame<'a>, FrameError> {
    on_stream(head)?;
    let data = unpadded(head, payload)?;
    Ok(Frame::Data { data, padding: payload.len() - data.len(), end_stream: head.has(flag::END_STREAM) })
}

/// §6.2.
#[inline]
fn headers<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<Frame<'a>, FrameError> {
    on_stream(head)?;
    let mut block = unpadded(head, payload)?;
    let mut depends_on_itself = false;
    if head.has(flag::PRIORITY) {
        // Padding that takes the place of the priority is too long (RFC 9113 §6.2).
        let short = if head.has(flag::PADDED) && payload.len() > 5 { PROTOCOL } else { SIZE };
        let (priority, rest) = block.split_first_chunk::<5>().ok_or(short)?;
        depends_on_itself = depends_on(priority) == head.stream;
        block = rest;
    }
    Ok(Frame::Headers {
        block,
        end_stream: head.has(flag::END_STREAM),
        end_headers: head.has(flag::END_HEADERS),
        depends_on_itself,
    })
}

/// §6.3.
fn priority<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<Frame<'a>, FrameError> {
    on_stream(head)?;
    let priority: &[u8; 5] = payload.try_into().map_err(|_| FrameError::Stream(ErrorCode::FRAME_SIZE_ERROR))?;
    if depends_on(priority) == head.stream {
        return Err(FrameError::Stream(ErrorCode::PROTOCOL_ERROR));
    }
    Ok(Frame::Priority)
}

/// §6.5.
fn settings<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<Frame<'a>, FrameError> {
    on_connection(head)?;
    let (ack, entries) = (head.has(flag::ACK), SettingsEntries(payload));
    if !payload.len().is_multiple_of(6) || (ack && !payload.is_empty()) {
        return Err(SIZE);
    }
    for (identifier, value) in entries.iter() {
        match identifier {
            setting::ENABLE_PUSH | setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(PROTOCOL),
            setting::INITIAL_WINDOW_SIZE if value > LARGEST_WINDOW => {
                return Err(FrameError::Connection(ErrorCode::FLOW_CONTROL_ERROR));
            }
            setting::MAX_FRAME_SIZE if !MAX_FRAMES.contains(&value) => {
                return Err(PROTOCOL);
            }
            _ => {}
        }
    }
    Ok(Frame::Settings { ack, entries })
}

/// §6.8.
fn go_away<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<Frame<'a>, FrameError> {
    on_connection(head)?;
    let (last, rest) = payload.split_first_chunk().ok_or(SIZE)?;
    let code = rest.first_chunk().ok_or(SIZE)?;
    Ok(Frame::GoAway { last: u32::from_be_bytes(*last) & LARGEST_WINDOW, code: ErrorCode(u32::from_be_bytes(*code)) })
}

/// §6.9.
fn window_update<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<Frame<'a>, FrameError> {
    match number(payload)? & LARGEST_WINDOW {
        0 if head.stream == 0 => Err(PROTOCOL),
        0 => Err(FrameError::Stream(ErrorCode::PROTOCOL_ERROR)),
        increment => Ok(Frame::WindowUpdate { increment }),
    }
}

#[inline]
fn on_stream(head: &FrameHead) -> Result<(), FrameError> {
    if head.stream == 0 { Err(PROTOCOL) } else { Ok(()) }
}

fn on_connection(head: &FrameHead) -> Result<(), FrameError> {
    if head.stream == 0 { Ok(()) } else { Err(PROTOCOL) }
}

/// A payload that is one number.
fn number(payload: &[u8]) -> Result<u32, FrameError> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| SIZE)
}

/// The payload of DATA or HEADERS without padding.
#[inline]
fn unpadded<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<&'a [u8], FrameError> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(SIZE)?;
    let length = rest.len().checked_sub(usize::from(padding)).ok_or(PROTOCOL)?;
    Ok(rest.get(..length).unwrap_or_default())
}

/// The stream that priority fields say another one depends on.
fn depends_on([a, b, c, d, _]: &[u8; 5]) -> u32 {
    u32::from_be_bytes([*a, *b, *c, *d]) & LARGEST_WINDOW
}
