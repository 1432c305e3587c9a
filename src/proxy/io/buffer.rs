//! Memory for bytes on their way: borrowed from the worker while there are any, so an idle connection holds none.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The least a buffer has: most heads fit, and with hundreds of requests in flight all of it stays in the cache.
const SMALL: usize = 4 * 1024 + ODD;
/// The most that is read ahead of a head or gathered before it is written.
pub(crate) const SIZE: usize = 16 * 1024 + ODD;
/// What is gathered before it is written; a chunk's framing fits into the rest of a buffer.
pub(crate) const GATHERED: usize = SIZE - 64;
/// What a buffer grows to for a long body: fewer system calls, and no more than one write takes well
/// ([`MAX_WRITE`](super::transport::MAX_WRITE)), the framing of TLS included.
pub(crate) const LARGE: usize = 62 * 1024;
/// No power of two: buffers whose beginnings are so far apart would share the same few lines of the cache.
const ODD: usize = 192;

/// Spare buffers of one size that a worker keeps.
struct Spare {
    size: usize,
    most: usize,
    memory: RefCell<Vec<Vec<u8>>>,
}

thread_local! {
    static SPARE: [Spare; 3] = const { [Spare::new(SMALL, 512), Spare::new(SIZE, 64), Spare::new(LARGE, 16)] };
}

impl Spare {
    const fn new(size: usize, most: usize) -> Self {
        Self { size, most, memory: RefCell::new(Vec::new()) }
    }
}

/// Bytes that arrived and were not consumed yet.
#[derive(Default)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
    /// What was consumed is kept for [`Self::rewind`].
    kept: bool,
}

impl Buffer {
    /// The bytes.
    pub(crate) fn data(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// All bytes since the last [`Self::clear`], consumed ones too.
    pub(crate) fn size(&self) -> usize {
        self.end
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether more can be read ahead.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.memory.len().max(SIZE)
    }

    /// The first `n` bytes are no longer wanted.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.is_empty() && !self.kept {
            self.clear();
        }
    }

    /// Whether what is consumed from now on can be had again by [`Self::rewind`].
    pub(crate) fn keep(&mut self, kept: bool) {
        self.kept = kept;
    }

    /// Whether what was consumed can be had again.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    /// What was consumed and kept is wanted again.
    pub(crate) fn rewind(&mut self) {
        self.start = 0;
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Gives the memory back if there are no bytes.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() && !self.kept && !self.memory.is_empty() {
            // What was consumed while it was kept is not there any more either.
            self.clear();
            give(std::mem::take(&mut self.memory));
        }
    }

    /// Appends bytes, growing where there is no room.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.end + bytes.len() > self.memory.len() {
            self.make_room(bytes.len());
        }
        let end = self.end + bytes.len();
        if let Some(room) = self.memory.get_mut(self.end..end) {
            room.copy_from_slice(bytes);
            self.end = end;
        }
    }

    /// Appends four pieces at once: most lines of a head are so many.
    #[inline]
    pub(crate) fn push_all(&mut self, pieces: [&[u8]; 4]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.end + length > self.memory.len() {
            self.make_room(length);
        }
        let Some(mut room) = self.memory.get_mut(self.end..self.end + length) else { return };
        for piece in pieces {
            let Some((here, rest)) = room.split_at_mut_checked(piece.len()) else { return };
            here.copy_from_slice(piece);
            room = rest;
        }
        self.end += length;
    }

    /// Appends a header field.
    #[inline]
    pub(crate) fn push_field(&mut self, name: &str, value: &[u8]) {
        self.push_all([name.as_bytes(), b": ", value, b"\r\n"]);
    }

    /// Has room for `more` bytes at the end afterwards.
    #[cold]
    fn make_room(&mut self, more: usize) {
        if self.start > 0 && !self.kept {
            self.compact();
        }
        self.grow(self.end + more);
    }

    /// Has at least `size` bytes of memory afterwards.
    #[inline]
    pub(crate) fn grow(&mut self, size: usize) {
        if size > self.memory.len() {
            self.change_memory(size);
        }
    }

    fn change_memory(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.memory, take(size));
        if old.is_empty() {
            return;
        }
        if let (Some(room), Some(bytes)) = (self.memory.get_mut(..self.end), old.get(..self.end)) {
            room.copy_from_slice(bytes);
        }
        give(old);
    }

    fn compact(&mut self) {
        self.memory.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Reads what is there; 0 at the end of the stream. There must be room.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, io: Pin<&mut impl AsyncRead>) -> Poll<io::Result<usize>> {
        if self.end == self.memory.len() {
            if self.start > 0 {
                self.compact();
            }
            self.grow(self.end + 1);
        }
        let mut room = ReadBuf::new(self.memory.get_mut(self.end..).unwrap_or_default());
        let read = io.poll_read(cx, &mut room);
        let n = room.filled().len();
        if read.is_pending() {
            self.rest();
        }
        ready!(read)?;
        self.end += n;
        Poll::Ready(Ok(n))
    }

    /// Reads at most `most` bytes behind a head of nine bytes, which `head` makes once it is known how many came; how many.
    /// 0 at the end of the stream, and then nothing is added.
    pub(crate) fn poll_fill_behind(
        &mut self,
        cx: &mut Context<'_>,
        io: Pin<&mut impl AsyncRead>,
        most: usize,
        head: impl FnOnce(usize) -> [u8; 9],
    ) -> Poll<io::Result<usize>> {
        let begin = 9 + self.end;
        if begin + most > self.memory.len() {
            self.make_room(9 + most);
        }
        let begin = 9 + self.end;
        let mut room = ReadBuf::new(self.memory.get_mut(begin..begin + most).unwrap_or_default());
        let read = io.poll_read(cx, &mut room);
        let n = room.filled().len();
        if read.is_pending() {
            self.rest();
        }
        ready!(read)?;
        if n > 0 {
            if let Some(place) = self.memory.get_mut(self.end..begin) {
                place.copy_from_slice(&head(n));
            }
            self.end = begin + n;
        }
        Poll::Ready(Ok(n))
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if !self.memory.is_empty() {
            give(std::mem::take(&mut self.memory));
        }
    }
}

/// Memory of at least `size` bytes.
fn take(size: usize) -> Vec<u8> {
    let spare = SPARE.try_with(|spares| {
        let spare = spares.iter().find(|spare| spare.size >= size)?;
        Some(spare.memory.borrow_mut().pop().unwrap_or_else(|| vec![0; spare.size]))
    });
    spare.ok().flatten().unwrap_or_else(|| vec![0; size.next_power_of_two()])
}

fn give(memory: Vec<u8>) {
    // At the end of a thread there is nobody to give it to.
    let _ = SPARE.try_with(|spares| {
        if let Some(spare) = spares.iter().find(|spare| spare.size == memory.len()) {
            let mut kept = spare.memory.borrow_mut();
            if kept.len() < spare.most {
                kept.push(memory);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_given_back_is_not_looked_for() {
        let mut buffer = Buffer::default();
        buffer.keep(true);
        buffer.push(b"consumed");
        buffer.consume(8);
        buffer.keep(false);
        buffer.rest();
        buffer.push(b"next");
        assert_eq!(buffer.data(), b"next");
    }

    fn fill(buffer: &mut Buffer, mut bytes: &[u8]) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match buffer.poll_fill(&mut cx, Pin::new(&mut bytes)) {
            Poll::Ready(Ok(n)) => n,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_moves_to_the_front_when_the_end_is_reached() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, &[7; SIZE]), SMALL);
        buffer.consume(SMALL - 2);
        assert_eq!(fill(&mut buffer, &[8; 3]), 3);
        assert_eq!(buffer.data(), [7, 7, 8, 8, 8]);
    }

    #[test]
    fn what_is_read_ahead_is_bounded() {
        let mut buffer = Buffer::default();
        let mut read = 0;
        while buffer.has_room() {
            read += fill(&mut buffer, &[7; 1024]);
        }
        assert!((SIZE..SIZE + LARGE).contains(&read), "{read}");
    }

    #[test]
    fn pushing_grows_and_rewinding_brings_back_what_was_consumed() {
        let mut buffer = Buffer::default();
        buffer.keep(true);
        buffer.push(&[1; SIZE]);
        buffer.push(&[2; 10]);
        buffer.consume(SIZE + 10);
        assert!(buffer.is_empty());
        buffer.rewind();
        assert_eq!((buffer.len(), buffer.data().last()), (SIZE + 10, Some(&2)));
    }

    #[test]
    fn a_reader_that_lags_behind_does_not_make_it_grow() {
        let mut buffer = Buffer::default();
        buffer.push(&[0; 100]);
        for _ in 0..10_000 {
            buffer.push(&[1; 100]);
            buffer.consume(100);
        }
        assert_eq!((buffer.len(), buffer.memory.len()), (100, SMALL));
    }

    #[test]
    fn memory_is_used_again() {
        let mut buffer = Buffer::default();
        buffer.push(b"a");
        let place = buffer.memory.as_ptr();
        buffer.consume(1);
        buffer.rest();
        assert!(buffer.memory.is_empty());
        let mut other = Buffer::default();
        other.push(b"b");
        assert_eq!(other.memory.as_ptr(), place);
    }
}
