//! What is to be sent to a client: the frames of all its streams, gathered for one write.
//!
//! Invariant: streams add nothing once [`FULL`] is reached, so what a client does not take stays bounded, however many
//! streams it has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;

use crate::proxy::codec::frame;
use crate::proxy::codec::hpack::Encoder;
use crate::proxy::io::buffer::Buffer;

/// No stream adds to what is gathered beyond this: three full frames. Larger writes cost the kernel more per byte.
pub(super) const FULL: usize = 48 * 1024;

/// The largest frame that is sent, whatever more the client would take: a stream does not hold up the others for longer.
pub(super) const MAX_FRAME: usize = 16 * 1024;

/// The largest window (RFC 9113 §6.9.1).
pub(super) const LARGEST_WINDOW: i64 = (1 << 31) - 1;

/// The frames on their way to a client.
pub(super) struct Output {
    pub(super) bytes: Buffer,
    pub(super) encoder: Encoder,
    block: Vec<u8>,
    /// What may be sent on all streams together.
    pub(super) window: i64,
    /// What may be sent on a new stream.
    pub(super) initial_window: i64,
}

impl Output {
    /// With the protocol's own settings: those of the client are not here yet.
    pub(super) fn new() -> Self {
        Self {
            bytes: Buffer::default(),
            encoder: Encoder::new(),
            block: Vec::new(),
            window: 65_535,
            initial_window: 65_535,
        }
    }

    /// Whether streams have to wait until the client takes something.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// Adds a header block; `write` writes its fields.
    pub(super) fn head(&mut self, stream: u32, ends: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        self.encoder.begin(&mut self.block);
        write(&mut self.encoder, &mut self.block);
        frame::header_frames(&mut self.bytes, stream, ends, &self.block, MAX_FRAME);
        self.block.clear();
        if self.block.capacity() > MAX_FRAME {
            self.block = Vec::new();
        }
    }

    /// Adds a DATA frame that the windows allow. The stream's own is the caller's to reckon.
    #[inline]
    pub(super) fn data(&mut self, stream: u32, ends: bool, payload: &[u8]) {
        frame::data(&mut self.bytes, stream, ends, payload);
        self.window -= payload.len() as i64;
    }

    /// Reads at most `most` bytes of a body of which `left` are missing straight into a DATA frame; how many. 0 at the end
    /// of the stream.
    pub(super) fn poll_fill_data(
        &mut self,
        cx: &mut Context<'_>,
        io: Pin<&mut impl AsyncRead>,
        stream: u32,
        most: usize,
        left: u64,
    ) -> Poll<io::Result<usize>> {
        let head = |n: usize| frame::data_head(n, n as u64 == left, stream);
        let read = self.bytes.poll_fill_behind(cx, io, most, head);
        if let Poll::Ready(Ok(n)) = read {
            self.window -= n as i64;
        }
        read
    }
}
