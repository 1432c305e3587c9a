//! Frames into the buffer of what is to be sent.

use super::{ErrorCode, FrameHead, LARGEST_WINDOW, flag, kind};
use crate::proxy::io::buffer::Buffer;

/// The head of a DATA frame whose payload is written elsewhere.
#[inline]
pub(crate) fn data_head(length: usize, end_stream: bool, stream: u32) -> [u8; FrameHead::SIZE] {
    let flags = if end_stream { flag::END_STREAM } else { 0 };
    FrameHead { length, kind: kind::DATA, flags, stream }.bytes()
}

/// Writes a DATA frame; `payload` is no longer than the peer's frames may be.
#[inline]
pub(crate) fn data(out: &mut Buffer, stream: u32, end_stream: bool, payload: &[u8]) {
    out.push_all([&data_head(payload.len(), end_stream, stream), payload, &[], &[]]);
}

/// Writes a header block in as many frames as it takes, each with a payload up to `max_frame`.
pub(crate) fn header_frames(out: &mut Buffer, stream: u32, end_stream: bool, block: &[u8], max_frame: usize) {
    let mut flags = if end_stream { flag::END_STREAM } else { 0 };
    let (mut kind, mut rest) = (kind::HEADERS, block);
    loop {
        let (piece, after) = rest.split_at_checked(max_frame).unwrap_or((rest, &[]));
        if after.is_empty() {
            flags |= flag::END_HEADERS;
        }
        frame(out, kind, flags, stream, piece);
        if after.is_empty() {
            return;
        }
        (kind, flags, rest) = (kind::CONTINUATION, 0, after);
    }
}

/// Writes RST_STREAM.
pub(crate) fn reset(out: &mut Buffer, stream: u32, code: ErrorCode) {
    frame(out, kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
}

/// Writes WINDOW_UPDATE; the increment is not 0.
#[inline]
pub(crate) fn window_update(out: &mut Buffer, stream: u32, increment: u32) {
    frame(out, kind::WINDOW_UPDATE, 0, stream, &increment.min(LARGEST_WINDOW).to_be_bytes());
}

/// Writes PING.
pub(crate) fn ping(out: &mut Buffer, ack: bool, payload: &[u8; 8]) {
    frame(out, kind::PING, if ack { flag::ACK } else { 0 }, 0, payload);
}

/// Writes GOAWAY: streams above `last` were not and will not be looked at.
pub(crate) fn go_away(out: &mut Buffer, last: u32, code: ErrorCode) {
    let [a, b, c, d] = last.to_be_bytes();
    let [e, f, g, h] = code.0.to_be_bytes();
    frame(out, kind::GOAWAY, 0, 0, &[a, b, c, d, e, f, g, h]);
}

/// Writes SETTINGS.
pub(crate) fn settings(out: &mut Buffer, entries: &[(u16, u32)]) {
    let head = FrameHead { length: entries.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 };
    out.push(&head.bytes());
    for (identifier, value) in entries {
        out.push_all([&identifier.to_be_bytes(), &value.to_be_bytes(), &[], &[]]);
    }
}

/// Writes the answer to SETTINGS.
pub(crate) fn settings_ack(out: &mut Buffer) {
    frame(out, kind::SETTINGS, flag::ACK, 0, &[]);
}

#[inline]
fn frame(out: &mut Buffer, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let head = FrameHead { length: payload.len(), kind, flags, stream };
    out.push_all([&head.bytes(), payload, &[], &[]]);
}
