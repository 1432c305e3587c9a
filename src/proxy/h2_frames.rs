//! Tells from an HTTP/2 client's bytes whether a preface or a header block is on its way.
//!
//! The engine reads frames without any deadline for a header block that trickles in (a slow-headers attack
//! moved to HTTP/2). Frame heads are nine bytes with the payload's length (RFC 9113 §4.1), so following
//! along costs a few instructions a frame and no copy.

/// Follows a client's bytes from the connection's first one.
#[derive(Debug)]
pub(crate) struct HeadTracker {
    /// Bytes of the preface still to come.
    preface: usize,
    head: [u8; FRAME_HEAD],
    head_len: usize,
    payload: usize,
    /// A header block has begun and its END_HEADERS has not been seen.
    open_block: bool,
    /// The frame whose payload is being skipped ends the block.
    ends_block: bool,
}

const FRAME_HEAD: usize = 9;
const PREFACE_BYTES: usize = 24;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

impl Default for HeadTracker {
    fn default() -> Self {
        Self {
            preface: PREFACE_BYTES,
            head: [0; FRAME_HEAD],
            head_len: 0,
            payload: 0,
            open_block: false,
            ends_block: false,
        }
    }
}

impl HeadTracker {
    /// Takes the next bytes; returns whether a preface or header block is incomplete after them.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let taken = if self.preface > 0 {
                let n = self.preface.min(bytes.len());
                self.preface -= n;
                n
            } else if self.payload > 0 {
                let n = self.payload.min(bytes.len());
                self.payload -= n;
                self.settle();
                n
            } else {
                self.feed_head(bytes)
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        self.preface > 0 || self.open_block
    }

    fn feed_head(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for (slot, byte) in self.head.iter_mut().skip(self.head_len).zip(bytes) {
            *slot = *byte;
            taken += 1;
        }
        self.head_len += taken;
        if self.head_len == FRAME_HEAD {
            self.head_len = 0;
            let [a, b, c, kind, flags, ..] = self.head;
            self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if matches!(kind, HEADERS | CONTINUATION) {
                self.open_block = true;
                self.ends_block = flags & END_HEADERS != 0;
            }
            self.settle();
        }
        taken
    }

    /// At the end of a frame: the block is complete if this frame ended it.
    fn settle(&mut self) {
        if self.payload == 0 && self.ends_block {
            self.open_block = false;
            self.ends_block = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(FRAME_HEAD + payload, 0xAA);
        bytes
    }

    #[test]
    fn a_header_block_is_open_until_end_headers() {
        let mut tracker = HeadTracker::default();
        assert!(tracker.feed(&[0; 23]), "the preface is incomplete");
        assert!(!tracker.feed(&[0; 1]));
        assert!(!tracker.feed(&frame(0x4, 0, 18)), "SETTINGS is no head");
        assert!(tracker.feed(&frame(HEADERS, 0, 30)), "no END_HEADERS yet");
        assert!(tracker.feed(&frame(CONTINUATION, 0, 5)));
        assert!(!tracker.feed(&frame(CONTINUATION, END_HEADERS, 0)));
        assert!(!tracker.feed(&frame(0x0, 0, 1_000)), "DATA is no head");
    }

    #[test]
    fn bytes_may_arrive_one_at_a_time() {
        let mut tracker = HeadTracker::default();
        let mut bytes = vec![0; 24];
        bytes.extend(frame(HEADERS, END_HEADERS, 12));
        let states: Vec<bool> = bytes.iter().map(|byte| tracker.feed(&[*byte])).collect();
        assert_eq!(states.iter().filter(|open| **open).count(), 23 + 12, "{states:?}");
        assert_eq!(states.last(), Some(&false));
    }
}
