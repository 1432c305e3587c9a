//! The header blocks of one direction of an HTTP/2 connection, before the h2 crate reads them: a malformed one costs its
//! stream only.
//!
//! A malformed message is an error of its stream (RFC 9113 §8.1.1). The h2 crate makes typed fields of a block while it
//! follows HPACK's table, loses the table at the first name, value, method or status that is none, and so has to end the
//! connection with all that is in flight on it. It does so too for a block in many frames, and for one that is far too
//! large. So each block is read here first, and [`Rules`] say what is to become of it:
//!
//! * a sound one that came in one frame goes on byte by byte as it came;
//! * from the first other one on, all are written anew without HPACK's tables, because the crate's is no longer the
//!   sender's.
//!
//! A block that cannot be read at all ends the connection, as RFC 7541 wants; that is left to the crate.
//!
//! Invariant: no byte of a header block is handed on before its end. Of one under way its fields are held up to the
//! limit of a header list, and the field that is not complete.

use super::frames::{CONTINUATION, END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, Head, LARGEST};
use crate::proxy::codec::hpack::block::{self, Decoder, Field, List, Parts};

/// What is right in the blocks of a direction.
pub(crate) trait Rules {
    /// Looks at a block; none if it is to go on as it is.
    fn judge(&mut self, block: Opening, list: &mut List) -> Option<Instead>;
}

/// What the first frame of a block says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) stream: u32,
    /// Nothing follows on the stream.
    pub(crate) ends: bool,
    /// The stream is said to depend on itself.
    pub(crate) itself: bool,
}

/// What goes on in the place of a block.
#[derive(Debug)]
pub(crate) struct Instead {
    pub(crate) fields: Vec<Field>,
    pub(crate) ends: bool,
}

/// Follows the blocks of a direction from its first one.
#[derive(Debug)]
pub(crate) struct Blocks<R> {
    pub(crate) rules: R,
    decoder: Decoder,
    /// How large a list of fields may be.
    list: usize,
    /// How large a frame may be.
    frame: usize,
    /// The crate's table is not the sender's any more.
    rewrites: bool,
    /// The decoder's table is not the sender's any more: all goes on as it comes.
    lost: bool,
    open: Option<Open>,
}

/// A block of several frames.
#[derive(Debug)]
struct Open {
    opening: Opening,
    parts: Parts,
    list: List,
    /// The list's fields so far, as literals.
    plain: Vec<u8>,
    frames: usize,
    bytes: usize,
}

/// What is to be done with a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It goes on.
    Pass,
    /// It is to be given to [`Blocks::frame`], once it is here as a whole.
    Whole,
    /// It goes on after these bytes, and so does all that follows.
    After(Vec<u8>),
}

/// Frames of one block. More than a list of a mebibyte needs; each costs a turn, and a flood of them nothing else.
const FRAMES: usize = 1000;

/// Bytes of one block, in parts of its list's limit: what is passed over costs a turn too.
const PASSED_OVER: usize = 16;

impl<R: Rules> Blocks<R> {
    /// Blocks with lists up to `list` bytes (RFC 9113 §6.5.2) in frames up to `frame` bytes.
    pub(crate) fn new(rules: R, list: usize, frame: usize) -> Self {
        Self { rules, decoder: Decoder::default(), list, frame, rewrites: false, lost: false, open: None }
    }

    /// Whether all goes on from here, so that frames need not be followed.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Looks at the head of the next frame.
    pub(crate) fn next(&mut self, head: Head) -> Next {
        if self.lost {
            return Next::Pass;
        }
        let fits = head.length <= self.frame;
        match &self.open {
            Some(open) if fits && head.kind == CONTINUATION && head.stream == open.opening.stream => Next::Whole,
            // What comes within a block and is none of it ends the connection (RFC 9113 §6.10).
            Some(open) => {
                let begun = frame(HEADERS, 0, open.opening.stream, &[]);
                self.lose();
                Next::After(begun)
            }
            None if head.kind != HEADERS => Next::Pass,
            None if fits => Next::Whole,
            None => {
                self.lose();
                Next::Pass
            }
        }
    }

    /// Takes a frame of a block with its head; what goes on instead of it, if not it.
    pub(crate) fn frame(&mut self, head: Head, whole: &[u8]) -> Option<Vec<u8>> {
        let payload = whole.get(FRAME_HEAD..).unwrap_or_default();
        let last = head.flags & END_HEADERS != 0;
        match self.open.take() {
            Some(open) => Some(self.part(open, payload, last)),
            None => self.first(head, payload, last),
        }
    }

    /// Takes the first frame of a block.
    fn first(&mut self, head: Head, payload: &[u8], last: bool) -> Option<Vec<u8>> {
        let Some((fragment, opening)) = fragment(head, payload) else {
            // The crate finds it too.
            self.lose();
            return None;
        };
        let mut list = List::new(self.list);
        if !last {
            let open = Open { opening, parts: Parts::default(), list, plain: Vec::new(), frames: 0, bytes: 0 };
            return Some(self.part(open, fragment, false));
        }
        if self.decoder.decode(fragment, &mut list).is_err() {
            return Some(self.broken(opening));
        }
        let instead = self.rules.judge(opening, &mut list);
        self.rewrites |= instead.is_some();
        self.rewrites.then(|| self.write(opening, instead, list))
    }

    /// Takes the next part of a block in several frames; what goes on instead of it.
    fn part(&mut self, mut open: Open, part: &[u8], last: bool) -> Vec<u8> {
        open.frames += 1;
        open.bytes += part.len();
        let flood = open.frames > FRAMES || open.bytes > PASSED_OVER * self.list.max(LARGEST);
        let read = self.decoder.decode_part(part, &mut open.parts, &mut open.list);
        if flood || read.is_err() || (last && !open.parts.is_whole()) {
            return self.broken(open.opening);
        }
        // Small fields take less room so.
        for (name, value) in open.list.fields.drain(..) {
            block::write(&name, &value, &mut open.plain);
        }
        if !last {
            self.open = Some(open);
            return Vec::new();
        }
        self.rewrites = true;
        let Open { opening, mut list, plain, .. } = open;
        if list.take_back(&plain).is_err() {
            return self.broken(opening);
        }
        let instead = self.rules.judge(opening, &mut list);
        self.write(opening, instead, list)
    }

    /// The frames of a block that is written anew.
    fn write(&self, opening: Opening, instead: Option<Instead>, list: List) -> Vec<u8> {
        let Instead { fields, ends } = instead.unwrap_or(Instead { fields: list.fields, ends: opening.ends });
        let size = fields.iter().map(|(name, value)| name.len() + value.len() + block::OVERHEAD).sum();
        let mut block = Vec::with_capacity(size);
        for (name, value) in &fields {
            block::write(name, value, &mut block);
        }
        frames(opening.stream, ends, &block, self.frame)
    }

    fn lose(&mut self) {
        self.lost = true;
        self.open = None;
    }

    /// A block for which the crate ends the connection, as it would for the one that came.
    fn broken(&mut self, opening: Opening) -> Vec<u8> {
        self.lose();
        // No field has the index 0.
        frames(opening.stream, opening.ends, &[0x80], self.frame)
    }
}

const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What of a HEADERS frame's payload is its header block (RFC 9113 §6.2); none if it is no such payload.
fn fragment(head: Head, mut payload: &[u8]) -> Option<(&[u8], Opening)> {
    let mut opening = Opening { stream: head.stream, ends: head.flags & END_STREAM != 0, itself: false };
    if head.flags & PADDED != 0 {
        let (padding, rest) = payload.split_first()?;
        payload = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
    }
    if head.flags & PRIORITY != 0 {
        let (on, rest) = payload.split_first_chunk::<4>()?;
        opening.itself = u32::from_be_bytes(*on) & !(1 << 31) == head.stream;
        payload = rest.get(1..)?;
    }
    Some((payload, opening))
}

/// A block in as few frames as can be.
fn frames(stream: u32, ends: bool, block: &[u8], longest: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + FRAME_HEAD);
    let (mut kind, mut flags, mut rest) = (HEADERS, if ends { END_STREAM } else { 0 }, block);
    loop {
        let (piece, after) = rest.split_at_checked(longest).unwrap_or((rest, &[]));
        let last = if after.is_empty() { END_HEADERS } else { 0 };
        out.extend(frame(kind, flags | last, stream, piece));
        if after.is_empty() {
            return out;
        }
        (kind, flags, rest) = (CONTINUATION, 0, after);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut out = Vec::with_capacity(FRAME_HEAD + payload.len());
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_has_several_frames() {
        let whole = frames(5, true, &[7; LARGEST * 2 + 1], LARGEST);
        let head = Head::read(whole.first_chunk().unwrap());
        assert_eq!((head.flags, head.length), (END_STREAM, LARGEST));
        let last = whole.len() - FRAME_HEAD - 1;
        assert_eq!(whole[last..][..FRAME_HEAD], [0, 0, 1, CONTINUATION, END_HEADERS, 0, 0, 0, 5]);
        assert_eq!(whole.len(), 3 * FRAME_HEAD + LARGEST * 2 + 1);
    }

    #[test]
    fn padding_and_priority_are_no_fields() {
        let head = |flags| Head { length: 0, kind: HEADERS, flags, stream: 16 };
        let block = |flags, payload| fragment(head(flags), payload).map(|(block, opening)| (block, opening.itself));
        let payload = &[2, 0, 0, 0, 16, 99, 0x88, 0, 0];
        assert_eq!(block(PADDED | PRIORITY, payload), Some((&[0x88][..], true)));
        assert_eq!(block(0, payload), Some((&payload[..], false)));
        assert_eq!(block(PADDED, &[9]), None);
        assert_eq!(block(PRIORITY, &[0; 4]), None);
        assert_eq!(block(PADDED | PRIORITY, &[]), None);
    }
}
