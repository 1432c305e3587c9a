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

use crate::proxy::codec::frame::{DEFAULT_MAX_FRAME, Frame, FrameHead, flag, header_frames, kind};
use crate::proxy::codec::hpack::{Decoder, FieldLines, Pseudo, write_plain};
use crate::proxy::io::buffer::Buffer;

/// What is right in the blocks of a direction.
pub(crate) trait Rules {
    /// Looks at a block; none if it is to go on as it is.
    fn judge(&mut self, block: Opening, lines: &FieldLines) -> Option<Instead>;
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
    pub(crate) block: Vec<u8>,
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
    lines: FieldLines,
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
        Self { rules, decoder: Decoder::new(), list, frame, rewrites: false, lost: false, open: None }
    }

    /// Whether all goes on from here, so that frames need not be followed.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Looks at the head of the next frame.
    pub(crate) fn next(&mut self, head: FrameHead) -> Next {
        if self.lost {
            return Next::Pass;
        }
        let fits = head.length <= self.frame;
        match &self.open {
            Some(open) if fits && head.kind == kind::CONTINUATION && head.stream == open.opening.stream => Next::Whole,
            // What comes within a block and is none of it ends the connection (RFC 9113 §6.10).
            Some(open) => {
                let begun = FrameHead { length: 0, kind: kind::HEADERS, flags: 0, stream: open.opening.stream };
                self.lose();
                Next::After(begun.bytes().to_vec())
            }
            None if head.kind != kind::HEADERS => Next::Pass,
            None if fits => Next::Whole,
            None => {
                self.lose();
                Next::Pass
            }
        }
    }

    /// Takes a frame of a block with its head; what goes on instead of it, if not it.
    pub(crate) fn frame(&mut self, head: FrameHead, whole: &[u8]) -> Option<Vec<u8>> {
        let payload = whole.get(FrameHead::SIZE..).unwrap_or_default();
        match self.open.take() {
            Some(open) => Some(self.part(open, payload, head.has(flag::END_HEADERS))),
            None => self.first(head, payload),
        }
    }

    /// Takes the first frame of a block.
    fn first(&mut self, head: FrameHead, payload: &[u8]) -> Option<Vec<u8>> {
        let Ok(Frame::Headers { block, end_stream, end_headers, depends_on_itself }) = Frame::parse(&head, payload)
        else {
            // The crate finds it too.
            self.lose();
            return None;
        };
        let opening = Opening { stream: head.stream, ends: end_stream, itself: depends_on_itself };
        let mut lines = FieldLines::new();
        // What is too long is passed over as far as `flood` allows.
        lines.clear_for(self.list, usize::MAX);
        if !end_headers {
            return Some(self.part(Open { opening, lines, frames: 0, bytes: 0 }, block, false));
        }
        if self.decoder.decode(block, &mut lines).is_err() {
            return Some(self.broken(opening));
        }
        let instead = self.rules.judge(opening, &lines);
        self.rewrites |= instead.is_some();
        self.rewrites.then(|| self.write(opening, instead, &lines))
    }

    /// Takes the next part of a block in several frames; what goes on instead of it.
    fn part(&mut self, mut open: Open, part: &[u8], last: bool) -> Vec<u8> {
        open.frames += 1;
        open.bytes += part.len();
        let flood = open.frames > FRAMES || open.bytes > PASSED_OVER * self.list.max(DEFAULT_MAX_FRAME);
        let mut read = self.decoder.decode_part(part, &mut open.lines);
        if last {
            read = read.and_then(|()| self.decoder.finish());
        }
        if flood || read.is_err() {
            return self.broken(open.opening);
        }
        if !last {
            self.open = Some(open);
            return Vec::new();
        }
        self.rewrites = true;
        let instead = self.rules.judge(open.opening, &open.lines);
        self.write(open.opening, instead, &open.lines)
    }

    /// The frames of a block that is written anew.
    fn write(&self, opening: Opening, instead: Option<Instead>, lines: &FieldLines) -> Vec<u8> {
        let Instead { block, ends } = instead.unwrap_or_else(|| Instead { block: plain(lines), ends: opening.ends });
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

/// A request's pseudo-header fields, in the order in which they are written.
pub(crate) const PSEUDO: [(Pseudo, &str); 4] = [
    (Pseudo::Method, ":method"),
    (Pseudo::Scheme, ":scheme"),
    (Pseudo::Path, ":path"),
    (Pseudo::Authority, ":authority"),
];

/// The fields without HPACK's tables.
fn plain(lines: &FieldLines) -> Vec<u8> {
    let mut block = Vec::with_capacity(lines.size());
    for (which, name) in PSEUDO {
        if let Some(value) = lines.pseudo(which) {
            write_plain(name.as_bytes(), value, &mut block);
        }
    }
    for field in lines.iter() {
        write_plain(field.name.as_bytes(), field.value, &mut block);
    }
    block
}

/// A block in as few frames as can be.
fn frames(stream: u32, ends: bool, block: &[u8], longest: usize) -> Vec<u8> {
    let mut out = Buffer::default();
    header_frames(&mut out, stream, ends, block, longest);
    out.data().to_vec()
}
