//! An HTTP/2 connection's frames as they pass under the engine: what a client sends is tidied, what it gets is corrected.
//!
//! Frame heads are nine bytes with the payload's length (RFC 9113 §4.1), so following along costs a few instructions
//! a frame. It is done here because the h2 crate cannot be told: it knows no deadline for a header block that trickles
//! in; it ends a connection at its hundredth empty DATA frame, however long it lives, and counts small ones that
//! wait; and what the engine drops it resets with CANCEL, as if nobody wanted it.
//!
//! Invariant: what [`Inbound::pass`] lets through means the same as what arrived, the head of a frame is let through
//! as a whole, and no byte of a complete frame waits.

use tokio::time::Instant;

use crate::proxy::codec::frame::{DEFAULT_MAX_FRAME, ErrorCode, FrameHead, PREFACE, data_head, flag, kind};

/// Follows what a client sends from the connection's first byte.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Bytes of the preface still to come.
    preface: usize,
    /// The beginning of a frame's head whose rest has not arrived.
    held: [u8; FrameHead::SIZE],
    held_len: usize,
    /// Of the frame under way.
    payload: usize,
    /// A header block has begun and its END_HEADERS has not been seen.
    open_block: bool,
    /// The frame under way ends the block.
    ends_block: bool,
    /// The newest stream.
    newest: u32,
    empty: Bucket,
    control: Bucket,
}

/// A client sent more frames that ask for nothing than anyone needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flood;

/// A DATA frame to which the payload of the next one can be joined.
#[derive(Clone, Copy, Debug)]
struct Joint {
    at: usize,
    length: usize,
    stream: u32,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            preface: PREFACE.len(),
            held: [0; FrameHead::SIZE],
            held_len: 0,
            payload: 0,
            open_block: false,
            ends_block: false,
            newest: 0,
            empty: Bucket::full(EMPTY),
            control: Bucket::full(CONTROL),
        }
    }
}

impl Inbound {
    /// Bytes that were held back; they belong in front of the next ones.
    pub(crate) fn held(&self) -> &[u8] {
        self.held.get(..self.held_len).unwrap_or_default()
    }

    /// Whether a preface or header block is incomplete.
    pub(crate) fn in_head(&self) -> bool {
        self.preface > 0 || self.open_block
    }

    /// Takes the next bytes, those that were held back in front, and returns how many of them are left to be read.
    ///
    /// Empty DATA frames that end nothing are gone, DATA frames of one stream that arrived together are one.
    ///
    /// # Errors
    /// If the client floods; the connection is not worth its frames.
    pub(crate) fn pass(&mut self, bytes: &mut [u8], now: Instant) -> Result<usize, Flood> {
        self.held_len = 0;
        let (mut from, mut to) = (0, 0);
        let mut joint: Option<Joint> = None;
        while from < bytes.len() {
            let left = bytes.len() - from;
            let under_way = if self.preface > 0 { &mut self.preface } else { &mut self.payload };
            if *under_way > 0 {
                let n = left.min(*under_way);
                *under_way -= n;
                bytes.copy_within(from..from + n, to);
                (from, to) = (from + n, to + n);
                self.settle();
                continue;
            }
            let Some(head) = bytes.get(from..).and_then(FrameHead::read) else {
                for (slot, byte) in self.held.iter_mut().zip(bytes.iter().skip(from)) {
                    *slot = *byte;
                }
                self.held_len = left;
                break;
            };
            self.count(head, now)?;
            let whole = head.length <= left - FrameHead::SIZE;
            let nothing = self.is_nothing(head);
            if nothing && self.empty.take(now) {
                from += FrameHead::SIZE;
                continue;
            }
            self.payload = head.length;
            // Nothing beyond measure is left for the crate to end the connection for.
            let joined = joint.filter(|joint| whole && !nothing && joint.takes(head) && !self.open_block);
            if let Some(to_join) = joined {
                joint = to_join.join(head, bytes);
                from += FrameHead::SIZE;
            } else {
                joint = (whole && head.kind == kind::DATA && head.flags == 0).then_some(Joint {
                    at: to,
                    length: head.length,
                    stream: head.stream,
                });
                bytes.copy_within(from..from + FrameHead::SIZE, to);
                (from, to) = (from + FrameHead::SIZE, to + FrameHead::SIZE);
            }
            if matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
                self.open_block = true;
                self.ends_block = head.flags & flag::END_HEADERS != 0;
                self.newest = self.newest.max(head.stream);
            }
            self.settle();
        }
        Ok(to)
    }

    /// At the end of a frame: the block is complete if this frame ended it.
    fn settle(&mut self) {
        if self.payload == 0 && self.ends_block {
            self.open_block = false;
            self.ends_block = false;
        }
    }

    /// Whether a frame says nothing: DATA without data that ends no stream, on a stream that was opened.
    fn is_nothing(&self, head: FrameHead) -> bool {
        let plain = head.kind == kind::DATA && head.length == 0 && head.flags == 0;
        plain && !self.open_block && head.stream > 0 && head.stream <= self.newest
    }

    fn count(&mut self, head: FrameHead, now: Instant) -> Result<(), Flood> {
        match head.kind {
            // A request may bring some.
            kind::HEADERS => self.empty.give(),
            kind::DATA | kind::CONTINUATION | kind::WINDOW_UPDATE | kind::RST_STREAM => {}
            _ if self.control.take(now) => {}
            _ => return Err(Flood),
        }
        Ok(())
    }
}

impl Joint {
    fn takes(self, next: FrameHead) -> bool {
        let plain = next.kind == kind::DATA && next.flags & !flag::END_STREAM == 0;
        plain && next.stream == self.stream && self.length + next.length <= DEFAULT_MAX_FRAME
    }

    /// Makes the frame as long as both; returns what a third one may be joined to.
    fn join(self, next: FrameHead, bytes: &mut [u8]) -> Option<Self> {
        let length = self.length + next.length;
        let head = data_head(length, next.has(flag::END_STREAM), self.stream);
        for (slot, byte) in bytes.iter_mut().skip(self.at).zip(head) {
            *slot = byte;
        }
        (next.flags == 0).then_some(Self { length, ..self })
    }
}

/// Frames that may come at once, and how many more each second.
#[derive(Debug)]
pub(crate) struct Bucket {
    left: f64,
    rate: Rate,
    at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    at_once: f64,
    a_second: f64,
}

/// Empty DATA frames. Clients send one where a body ends late; each request brings two more.
const EMPTY: Rate = Rate { at_once: 1_000.0, a_second: 100.0 };

/// PING, SETTINGS, PRIORITY and unknown frames. gRPC measures its path with a PING for each round trip, and a fast
/// path has thousands of them in a second; answering so many costs a hundredth of a processor.
const CONTROL: Rate = Rate { at_once: 100_000.0, a_second: 10_000.0 };

/// Streams that we reset because of what the client did there. Each costs what a request does, and may still cost the
/// endpoint one; a connection that carries many clients has few.
pub(crate) const FAULTS: Rate = Rate { at_once: 10_000.0, a_second: 1_000.0 };

impl Bucket {
    pub(crate) fn full(rate: Rate) -> Self {
        Self { left: rate.at_once, rate, at: None }
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = self.at.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.left = (self.left + since * self.rate.a_second).min(self.rate.at_once);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    fn give(&mut self) {
        self.left += 2.0;
    }
}

/// Follows what a client gets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outbound {
    head: [u8; FrameHead::SIZE],
    head_len: usize,
    payload: usize,
    kind: u8,
    /// Bytes of a body were written since somebody asked.
    moved: bool,
    /// Streams that were reset since somebody asked, because of what the client did there.
    faults: u32,
}

/// What a client reads as "I did not want it any more" (RFC 9113 §7), which no server of ours can say.
const CANCEL: u8 = last_byte(ErrorCode::CANCEL);
/// What it reads as a failure of the server.
pub(crate) const INTERNAL_ERROR: u8 = last_byte(ErrorCode::INTERNAL_ERROR);
/// What a server says of a stream of which it wants no more (RFC 9113 §8.1).
const NO_ERROR: u8 = last_byte(ErrorCode::NO_ERROR);

const fn last_byte(code: ErrorCode) -> u8 {
    let [_, _, _, last] = code.0.to_be_bytes();
    last
}

impl Outbound {
    /// Where in `bytes` the last byte of a reset's code says CANCEL.
    pub(crate) fn cancel(&self, bytes: &[u8]) -> Option<usize> {
        let mut ahead = *self;
        ahead.follow(bytes, true)
    }

    /// Takes bytes that were written.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        self.follow(bytes, false);
    }

    /// Whether bytes of a body were written since this was asked last.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// How many streams were reset since this was asked last, because of what the client did there.
    pub(crate) fn take_faults(&mut self) -> u32 {
        std::mem::take(&mut self.faults)
    }

    fn follow(&mut self, bytes: &[u8], find: bool) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            if self.payload > 0 {
                // The code is four bytes, and every known one fits into the last.
                let last = at + self.payload - 1;
                if self.kind == kind::RST_STREAM {
                    match bytes.get(last) {
                        Some(&CANCEL) if find => return Some(last),
                        None | Some(&(CANCEL | INTERNAL_ERROR | NO_ERROR)) => {}
                        Some(_) => self.faults += 1,
                    }
                }
                let n = left.min(self.payload);
                self.payload -= n;
                self.moved |= self.kind == kind::DATA;
                at += n;
                continue;
            }
            for (slot, byte) in self.head.iter_mut().skip(self.head_len).zip(bytes.iter().skip(at)) {
                *slot = *byte;
            }
            let n = left.min(FrameHead::SIZE - self.head_len);
            self.head_len += n;
            at += n;
            if self.head_len == FrameHead::SIZE {
                self.head_len = 0;
                if let Some(head) = FrameHead::read(&self.head) {
                    (self.payload, self.kind) = (head.length, head.kind);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::codec::frame::flag::{END_HEADERS, END_STREAM};
    use crate::proxy::codec::frame::kind::{CONTINUATION, DATA, HEADERS, RST_STREAM};

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
        bytes.extend(payload);
        bytes
    }

    /// A connection whose preface is past and on which stream 1 is open.
    fn open() -> Inbound {
        let mut inbound = Inbound::default();
        let mut bytes = [vec![0; PREFACE.len()], frame(HEADERS, END_HEADERS, 1, &[0x82])].concat();
        assert_eq!(passed(&mut inbound, &mut bytes), bytes);
        inbound
    }

    /// What is read of `bytes`, which arrive at once.
    fn passed(inbound: &mut Inbound, bytes: &mut [u8]) -> Vec<u8> {
        let mut all = [inbound.held(), bytes].concat();
        let kept = inbound.pass(&mut all, Instant::now()).unwrap();
        all.truncate(kept);
        all
    }

    #[test]
    fn a_header_block_is_open_until_end_headers() {
        let mut inbound = Inbound::default();
        let mut feed = |bytes: &[u8]| {
            passed(&mut inbound, &mut bytes.to_vec());
            inbound.in_head()
        };
        assert!(feed(&[0; 23]), "the preface is incomplete");
        assert!(!feed(&[0; 1]));
        assert!(!feed(&frame(0x4, 0, 0, &[0; 18])), "SETTINGS is no head");
        assert!(feed(&frame(HEADERS, 0, 1, &[0; 30])), "no END_HEADERS yet");
        assert!(feed(&frame(CONTINUATION, 0, 1, &[0; 5])));
        assert!(!feed(&frame(CONTINUATION, END_HEADERS, 1, &[])));
        assert!(!feed(&frame(DATA, 0, 1, &[0; 1_000])), "DATA is no head");
    }

    #[test]
    fn whatever_the_pieces_nothing_is_lost() {
        let sent = [
            vec![0; PREFACE.len()],
            frame(HEADERS, END_HEADERS, 1, &[7; 12]),
            frame(DATA, 0, 1, &[1, 2, 3]),
            frame(0x6, 0, 0, &[9; 8]),
            frame(DATA, END_STREAM, 1, &[4]),
        ]
        .concat();
        for piece in 1..sent.len() {
            let mut inbound = Inbound::default();
            let read: Vec<u8> =
                sent.chunks(piece).flat_map(|piece| passed(&mut inbound, &mut piece.to_vec())).collect();
            assert_eq!(read, sent, "in pieces of {piece}");
        }
    }

    #[test]
    fn data_that_arrives_together_is_one_frame() {
        let mut sent = [
            frame(DATA, 0, 1, b"ab"),
            frame(DATA, 0, 1, b""),
            frame(DATA, 0, 1, b"c"),
            frame(DATA, END_STREAM, 1, b""),
        ]
        .concat();
        assert_eq!(passed(&mut open(), &mut sent), frame(DATA, END_STREAM, 1, b"abc"));
        let other = [frame(DATA, 0, 1, b"a"), frame(DATA, 0, 3, b"b"), frame(DATA, 0x8, 3, &[0])].concat();
        assert_eq!(passed(&mut open(), &mut other.clone()), other, "other streams and padding stay");
        let mut half = [frame(DATA, 0, 1, b"a"), frame(DATA, 0, 1, b"bcd")].concat();
        half.truncate(half.len() - 1);
        assert_eq!(passed(&mut open(), &mut half.clone()), half, "what is incomplete does not hold up what is not");
        let large = [frame(DATA, 0, 1, &[0; DEFAULT_MAX_FRAME]), frame(DATA, 0, 1, b"b")].concat();
        assert_eq!(passed(&mut open(), &mut large.clone()), large);
    }

    #[test]
    fn empty_data_is_nothing_within_reason() {
        let mut inbound = open();
        for _ in 0..1_000 {
            assert_eq!(passed(&mut inbound, &mut frame(DATA, 0, 1, b"")), b"");
        }
        let empty = frame(DATA, 0, 1, b"");
        let rest: usize = (0..1_000).map(|_| passed(&mut inbound, &mut empty.clone()).len()).sum();
        assert!(rest > 500 * empty.len(), "the crate's bound is left to work");
        let idle = frame(DATA, 0, 5, b"");
        assert_eq!(passed(&mut open(), &mut idle.clone()), idle, "a stream that was not opened is an error");
    }

    #[test]
    fn a_flood_of_pings_ends() {
        let mut inbound = open();
        let mut pings = frame(0x6, 0, 0, &[0; 8]).repeat(200_000);
        assert_eq!(inbound.pass(&mut pings, Instant::now()), Err(Flood));
    }

    #[test]
    fn a_reset_that_says_cancel_is_found_wherever_it_is_cut() {
        let sent =
            [frame(DATA, 0, 1, &[8; 20]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(0x6, 1, 0, &[8; 8])].concat();
        let at = 9 + 20 + 9 + 3;
        for cut in 0..sent.len() {
            let mut outbound = Outbound::default();
            let (first, second) = sent.split_at(cut);
            let found = outbound.cancel(first);
            outbound.wrote(first);
            let found = found.or_else(|| outbound.cancel(second).map(|at| at + cut));
            assert_eq!(found, Some(at), "cut at {cut}");
        }
        let other = frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]);
        assert_eq!(Outbound::default().cancel(&other), None);
    }
}
