//! The frames of an HTTP/2 endpoint on their way to the `h2` crate: what the crate hides is noted, what it cannot stand
//! is taken out.
//!
//! * The last stream that a GOAWAY lets live and the first SETTINGS are noted: the crate tells neither.
//! * An empty DATA frame that ends nothing has no effect (RFC 9113 §6.1), but the crate ends a connection at its 101st,
//!   and with it the streams of all clients; it goes no further.
//! * A malformed header block is an error of its stream (see [`response_rules`](super::response_rules)), and so is a WINDOW_UPDATE by nothing
//!   (RFC 9113 §6.9): the crate ends the connection for them.
//! * After [`TURN`] bytes the reader gives way, so that streams take what came before more comes: what the crate holds
//!   of small frames stays small, whatever an endpoint sends and whoever does not read it.
//!
//! Invariant: what is handed on is a sequence of whole frames, in order and, but for those, unchanged.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::response_rules::ResponseRules;
use super::settings::{FRAME, HEADER_LIST};
use super::state::ConnectionState;
use crate::proxy::codec::h2::blocks::{Blocks, Next};
use crate::proxy::codec::h2::frames::{FRAME_HEAD, Head};

/// A connection to an endpoint, as the `h2` crate reads and writes it.
pub(crate) struct FrameFilter<S> {
    stream: S,
    state: Arc<ConnectionState>,
    /// Read and not handed on.
    raw: BytesMut,
    /// So many of the next bytes were looked at and pass.
    pass: usize,
    /// Read since the reader last gave way.
    turn: usize,
    ended: bool,
    blocks: Blocks<ResponseRules>,
    /// Goes on before what was read.
    ready: Bytes,
}

/// So much is read at once at most; a frame head that is cut in two waits here.
const READ: usize = 16 * 1024;

/// After so many bytes those who wait for them come first: 4,000 of the smallest DATA frames.
const TURN: usize = 64 * 1024;

const DATA: u8 = 0x0;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

/// RFC 9113 §7.
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

impl<S> FrameFilter<S> {
    pub(crate) fn new(stream: S, state: Arc<ConnectionState>) -> Self {
        let blocks = Blocks::new(ResponseRules::default(), HEADER_LIST as usize, FRAME as usize);
        Self { stream, state, raw: BytesMut::new(), pass: 0, turn: 0, ended: false, blocks, ready: Bytes::new() }
    }

    /// Looks at the next frame's head; whether more bytes are needed for it.
    fn look(&mut self) -> bool {
        let Some(head) = self.raw.first_chunk().map(Head::read) else { return true };
        let Head { length, kind, flags, stream } = head;
        match self.blocks.next(head) {
            Next::Pass => {}
            Next::After(begun) => {
                self.ready = begun.into();
                return false;
            }
            Next::Whole => {
                let Some(frame) = self.raw.get(..FRAME_HEAD + length) else { return true };
                if let Some(instead) = self.blocks.frame(head, frame) {
                    self.raw.advance(FRAME_HEAD + length);
                    self.ready = instead.into();
                    return false;
                }
            }
        }
        match kind {
            DATA if length == 0 && flags & (END_STREAM | PADDED) == 0 => {
                self.raw.advance(FRAME_HEAD);
                return false;
            }
            GOAWAY if length >= 8 => {
                let Some(last) = self.raw.get(FRAME_HEAD..).and_then(<[u8]>::first_chunk::<4>) else { return true };
                self.state.going_away(u32::from_be_bytes(*last) & 0x7FFF_FFFF);
            }
            SETTINGS if flags & ACK == 0 => self.state.settled(),
            WINDOW_UPDATE if length == 4 && stream > 0 => {
                let Some(frame) = self.raw.first_chunk_mut::<{ FRAME_HEAD + 4 }>() else { return true };
                let [_, _, _, kind, _, _, _, _, _, by @ ..] = frame;
                if u32::from_be_bytes(*by) & 0x7FFF_FFFF == 0 {
                    (*kind, *by) = (RST_STREAM, PROTOCOL_ERROR);
                    self.blocks.rules.ended(stream);
                }
            }
            DATA if flags & END_STREAM != 0 => self.blocks.rules.ended(stream),
            RST_STREAM => self.blocks.rules.ended(stream),
            _ => {}
        }
        self.pass = FRAME_HEAD + length;
        false
    }

    /// Hands on what may pass.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        while buf.remaining() > 0 && !(self.ready.is_empty() && self.raw.is_empty()) {
            if !self.ready.is_empty() {
                let n = self.ready.len().min(buf.remaining());
                buf.put_slice(&self.ready.split_to(n));
                continue;
            }
            if self.pass == 0 && self.look() {
                return;
            }
            let n = self.pass.min(self.raw.len()).min(buf.remaining());
            buf.put_slice(self.raw.get(..n).unwrap_or_default());
            self.raw.advance(n);
            self.pass -= n;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameFilter<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        loop {
            this.hand_on(buf);
            // A frame that was cut off by the end is none.
            if buf.filled().len() > before || this.ended {
                return Poll::Ready(Ok(()));
            }
            if this.turn >= TURN {
                this.turn = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.raw.reserve(READ);
            let mut stream = (&mut this.stream).take(READ as u64);
            match pin!(stream.read_buf(&mut this.raw)).poll(cx) {
                Poll::Ready(Ok(0)) => this.ended = true,
                Poll::Ready(Ok(n)) => this.turn += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.turn = 0;
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameFilter<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::codec::h2::frames::HEADERS;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[length[1], length[2], length[3], kind, flags, 0, 0, 0, 1], payload].concat()
    }

    async fn filtered(pieces: &[&[u8]]) -> (Vec<u8>, Arc<ConnectionState>) {
        let mut line = pieces_of(pieces);
        let state = Arc::new(ConnectionState::default());
        let mut filter = FrameFilter::new(&mut line, Arc::clone(&state));
        let mut out = Vec::new();
        filter.read_to_end(&mut out).await.unwrap();
        (out, state)
    }

    /// Gives each piece at one read.
    fn pieces_of(pieces: &[&[u8]]) -> impl AsyncRead + Unpin + use<> {
        struct Pieces(Vec<Vec<u8>>);
        impl AsyncRead for Pieces {
            fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                if let Some(piece) = self.0.pop() {
                    buf.put_slice(&piece);
                }
                Poll::Ready(Ok(()))
            }
        }
        Pieces(pieces.iter().rev().map(|piece| piece.to_vec()).collect())
    }

    #[tokio::test]
    async fn only_empty_frames_that_end_nothing_are_taken_out() {
        let kept = [
            frame(SETTINGS, 0, &[]),
            frame(DATA, 0, b"abc"),
            frame(DATA, PADDED, &[0]),
            frame(0xB, 0, &[]),
            frame(DATA, END_STREAM, &[]),
        ];
        let empty = frame(DATA, 0, &[]);
        let all = [&empty[..], &kept[0], &empty, &kept[1], &kept[2], &empty, &empty, &kept[3], &kept[4]].concat();
        for cut in 1..all.len() {
            let (out, state) = filtered(&[&all[..cut], &all[cut..]]).await;
            assert_eq!(out, kept.concat(), "cut at {cut}");
            assert!(state.is_settled());
        }
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(filtered(&bytes).await.0, kept.concat());
    }

    #[tokio::test]
    async fn the_lowest_last_stream_of_all_goaways_counts() {
        let goaway = |last: u32| frame(GOAWAY, 0, &[&last.to_be_bytes()[..], &[0; 4]].concat());
        let (_, state) = filtered(&[&frame(DATA, 0, b"a")]).await;
        assert!(!state.is_over() && !state.excludes(u32::MAX >> 1));
        let (out, state) = filtered(&[&goaway(0x7FFF_FFFF), &goaway(9)]).await;
        assert_eq!(out.len(), 2 * 17);
        assert!(state.is_over() && state.excludes(11) && !state.excludes(9));
    }

    #[tokio::test]
    async fn a_malformed_block_and_an_empty_update_are_errors_of_their_stream() {
        let end = END_STREAM | 0x4;
        let (head, data) = (frame(HEADERS, 0x4, &[0x88]), frame(DATA, 0, b"a"));
        let upper = [0x88, 0x40, 1, b'x', 1, b'y', 0, 1, b'X', 0];
        let all = [
            frame(HEADERS, end, &upper),
            head.clone(),
            frame(WINDOW_UPDATE, 0, &[0; 4]),
            // Written anew from here on, by the table as it is.
            frame(HEADERS, 0x4, &[0x88, 0x0F, 0x2F, 1, b'z']),
            data.clone(),
            frame(HEADERS, end, &[0xBE]),
        ]
        .concat();
        let status = [&[0, 7][..], b":status", &[3], b"200"].concat();
        let kept = [
            frame(HEADERS, end, &[]),
            frame(HEADERS, 0x4, &status),
            frame(RST_STREAM, 0, &PROTOCOL_ERROR),
            frame(HEADERS, 0x4, &[&status[..], &[0, 1, b'x', 1, b'z']].concat()),
            data.clone(),
            frame(HEADERS, end, &[0, 1, b'x', 1, b'y']),
        ]
        .concat();
        assert_eq!(filtered(&[&head, &data]).await.0, [head, data].concat(), "sound");
        let (out, _) = filtered(&[&all]).await;
        assert_eq!(out, kept);
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(filtered(&bytes).await.0, out, "however it arrives");
    }

    #[tokio::test]
    async fn a_flood_of_small_frames_gives_way() {
        let flood = frame(DATA, 0, b"a").repeat(READ / 10);
        let pieces: Vec<&[u8]> = std::iter::repeat_n(&flood[..], 8).collect();
        let mut filter = FrameFilter::new(pieces_of(&pieces), Arc::new(ConnectionState::default()));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut read, mut room) = (0, vec![0; READ]);
        loop {
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut filter).poll_read(&mut cx, &mut buf) {
                Poll::Ready(read_some) => read_some.unwrap(),
                Poll::Pending => break,
            }
            read += buf.filled().len();
        }
        assert!((TURN - 10..TURN + READ).contains(&read), "{read}");
    }
}
