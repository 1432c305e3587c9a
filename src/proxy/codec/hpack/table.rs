//! The dynamic table of a decoder (RFC 7541 §2.3.2), with each field as the line that HTTP/1 would have.

use std::collections::VecDeque;

use super::field_lines::{LineFacts, OVERHEAD, PUNCTUATION};
use super::name::{Flaw, NameKind};

/// The size of a table, if no SETTINGS say otherwise (RFC 9113 §6.5.2); ours never do.
pub(super) const TABLE: usize = 4096;

/// What was indexed.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// The newest first.
    entries: VecDeque<Entry>,
    /// The lines, the newest last; before them some that are in the table no more.
    lines: Vec<u8>,
    /// Which byte of all that ever were written the first of `lines` is.
    base: u32,
    size: usize,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Which byte of all that ever were written its line begins with.
    at: u32,
    length: u16,
    name: u16,
    kind: NameKind,
    flaw: Option<Flaw>,
    known: u8,
}

impl DynamicTable {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), lines: Vec::new(), base: 0, size: 0, max: TABLE }
    }

    /// The line of an entry, the newest being 0, and what is known of it.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<(&[u8], LineFacts)> {
        let entry = self.entries.get(at)?;
        let start = entry.at.wrapping_sub(self.base) as usize;
        let line = self.lines.get(start..start + usize::from(entry.length))?;
        let facts = LineFacts {
            name: usize::from(entry.name),
            kind: entry.kind,
            flaw: entry.flaw,
            known: entry.known,
            never_indexed: false,
        };
        Some((line, facts))
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// Changes how much it may hold.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
    }

    /// Forgets everything: what was too large for the table emptied it (RFC 7541 §4.4).
    pub(super) fn clear(&mut self) {
        self.evict(0);
    }

    fn evict(&mut self, max: usize) {
        while self.size > max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= size(usize::from(oldest.length));
        }
    }

    pub(super) fn insert(&mut self, line: &[u8], facts: LineFacts) {
        let size = size(line.len());
        self.evict(self.max.saturating_sub(size));
        let (Ok(length), Ok(name)) = (u16::try_from(line.len()), u16::try_from(facts.name)) else { return };
        if size > self.max {
            return;
        }
        self.compact();
        let at = self.base.wrapping_add(u32::try_from(self.lines.len()).unwrap_or_default());
        self.lines.extend_from_slice(line);
        self.entries.push_front(Entry { at, length, name, kind: facts.kind, flaw: facts.flaw, known: facts.known });
        self.size += size;
    }

    /// Drops what is in the table no more, once that is as much as what is: then each byte moves once at most.
    fn compact(&mut self) {
        let gone = self.entries.back().map_or(self.lines.len(), |oldest| oldest.at.wrapping_sub(self.base) as usize);
        if gone < self.lines.len() - gone || gone == 0 {
            return;
        }
        self.lines.copy_within(gone.., 0);
        self.lines.truncate(self.lines.len() - gone);
        self.base = self.base.wrapping_add(u32::try_from(gone).unwrap_or_default());
    }
}

/// What a line counts (RFC 7541 §4.1).
fn size(line: usize) -> usize {
    line - PUNCTUATION + OVERHEAD
}
