//! How we speak HTTP/2 with endpoints: windows, sizes and budgets.

use ::h2::client::Builder;

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS)
        .max_concurrent_streams(1)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAMES)
        .max_local_error_reset_streams(None);
    builder
}

/// Streams at once on one connection, as most servers allow.
pub(super) const STREAMS: usize = 100;

/// What an endpoint may send ahead on one stream: what Weir holds of an answer whose client does not read. 256 KiB
/// fill 1 Gbit/s over 2 ms, and keep a hundred such clients at 25 MiB.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What an endpoint may send ahead on a connection: all streams' windows together, so that clients who do not read
/// never keep others waiting.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;

/// The largest frame. Larger ones than the least allowed cost fewer turns for large bodies.
pub(super) const FRAME: u32 = 64 * 1024;

/// The largest header block, fields with 32 bytes each on top (RFC 9113 §6.5.2): twice the largest head that is passed on.
pub(super) const HEADER_LIST: u32 = 128 * 1024;

/// What the `h2` crate may hold of frames that are small, in missing bytes (256 less the frame's): beyond it the crate
/// ends the connection under all its streams. Every stream is emptied as frames come, whether its client reads or not
/// (see `relay`), and the reader gives way every 64 KiB, so that some 7,000 frames, 1.8 MiB, are the most that wait.
const SMALL_FRAMES: usize = 64 * 1024 * 1024;
