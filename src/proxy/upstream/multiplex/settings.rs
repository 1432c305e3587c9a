//! How we speak HTTP/2 with endpoints: windows, sizes and bounds, each with its reason.

use std::time::Duration;

use crate::proxy::codec::frame::DEFAULT_MAX_FRAME;

/// Streams at once on one connection, as most servers allow; fewer where the endpoint says so.
pub(super) const STREAMS: usize = 100;

/// Streams at once until the endpoint has said how many it takes: one that takes fewer must not turn a burst away.
pub(super) const UNSETTLED_STREAMS: usize = 1;

/// What an endpoint may send ahead on a new stream: all that Weir holds of an answer whose client does not read. A
/// hundred such clients cost 1.6 MB; the window of one who reads grows.
pub(super) const STREAM_WINDOW: u32 = 16 * 1024;

/// What the window of a stream grows to while its client keeps up: 256 KiB fill 1 Gbit/s over 2 ms.
pub(super) const LARGEST_WINDOW: u32 = 256 * 1024;

/// What an endpoint may send ahead on a connection. It is given back as bytes arrive, since what waits is bounded by the
/// streams' windows: so clients who do not read never keep others waiting.
pub(super) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The window of streams and connections before SETTINGS or WINDOW_UPDATE say otherwise (RFC 9113 §6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// The largest frame, both ways: the least that may be set (RFC 9113 §6.5.2), so nothing needs to be negotiated.
pub(super) const FRAME: usize = DEFAULT_MAX_FRAME;

/// The largest field section, fields with 32 bytes each on top (RFC 9113 §6.5.2): twice the largest head that is passed on.
pub(super) const HEADER_LIST: u32 = 128 * 1024;

/// The largest field section as it comes, by HPACK: sound ones are shorter than what they stand for.
pub(super) const HEADER_BLOCK: usize = 2 * HEADER_LIST as usize;

/// Bodies are taken while less than this waits to be written: one system call for much, and as much as the kernel holds.
pub(super) const OUTPUT: usize = 64 * 1024;

/// Nothing is read while more than this waits to be written: an endpoint that asks and does not read gets no more
/// answers. Bodies alone never come to it, so one that reads late does not stop its own answers.
pub(super) const OUTPUT_STOP: usize = 256 * 1024;

/// Bytes read in one turn of a connection; then streams take what came before more comes.
pub(super) const TURN_BYTES: usize = 128 * 1024;

/// Frames in one turn: 64 KiB hold 7,000 empty ones.
pub(super) const TURN_FRAMES: usize = 1_000;

/// Informational heads that wait for one client; those beyond are dropped, as any may be (RFC 9110 §15.2).
pub(super) const WAITING_INFORMATIONAL: usize = 8;

/// An endpoint that says nothing for so long while it should is asked whether it lives.
pub(super) const QUIET: Duration = Duration::from_secs(20);

/// One that does not answer that for so long gets no new requests.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// One that does not answer for so long is dead. Not sooner: a process that is busy with one request for half a minute
/// may say nothing meanwhile, and answers in the end.
pub(super) const DEAD: Duration = Duration::from_secs(60);

/// Stream ids end at 2³¹−1 (RFC 9113 §5.1.1): a connection takes no new requests from here on, and those that have a place
/// on it still have ids.
pub(super) const LAST_ID: u32 = 0x7FFF_0000;

/// How long the end of a connection may take: GOAWAY, the end of TLS.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);
