//! Reads header blocks (RFC 7541 §3).
//!
//! A block may come in parts (CONTINUATION frames). Of one under way nothing is held but the field that is not complete,
//! and of that no string that can neither be kept nor indexed: it is passed over.

use super::HpackError;
use super::field_lines::{FieldLines, LineFacts};
use super::huffman;
use super::name::{Flaw, NameKind};
use super::static_table::{KNOWN_FIELDS, known};
use super::table::{DynamicTable, TABLE};

/// Reads the header blocks of one direction of a connection. After an error it can read no more.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: DynamicTable,
    /// A field of the block came, so that the table's size cannot change before the next one.
    begun: bool,
    /// The beginning of a field whose rest is to come.
    rest: Vec<u8>,
    /// How long `rest` has to be before it is worth a look.
    wanted: usize,
    passing: Passing,
}

/// A string that is passed over.
#[derive(Clone, Copy, Debug, Default)]
struct Passing {
    /// Bytes of it to come.
    left: usize,
    /// It is a name, whose value follows.
    value: bool,
}

/// Why a field cannot be read.
enum Stop {
    /// The block ends within it.
    Short,
    Error(HpackError),
}

/// A string of a field that is not complete.
struct Outline {
    start: usize,
    length: usize,
    is_name: bool,
}

/// By Huffman's code four bytes are one character at least, so the text of a longer string is larger than the table.
const INDEXABLE: usize = 4 * TABLE;

impl Decoder {
    /// With an empty table of 4,096 bytes, the size without SETTINGS.
    pub(crate) fn new() -> Self {
        Self { table: DynamicTable::new(), begun: false, rest: Vec::new(), wanted: 0, passing: Passing::default() }
    }

    /// Reads a whole block.
    ///
    /// # Errors
    /// If it is none, or its list is too long to be endured; the connection is over then.
    pub(crate) fn decode(&mut self, block: &[u8], into: &mut FieldLines) -> Result<(), HpackError> {
        self.begun = false;
        let mut rest = block;
        self.fields(&mut rest, into).map_err(|stop| match stop {
            Stop::Short => HpackError::Invalid,
            Stop::Error(error) => error,
        })
    }

    /// Reads the next part of a block that ends with [`Self::finish`].
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub(crate) fn decode_part(&mut self, part: &[u8], into: &mut FieldLines) -> Result<(), HpackError> {
        if self.rest.is_empty() {
            let mut rest = part;
            self.part(&mut rest, into)?;
            self.rest.extend_from_slice(rest);
            return Ok(());
        }
        self.rest.extend_from_slice(part);
        if self.rest.len() < self.wanted {
            return Ok(());
        }
        let held = std::mem::take(&mut self.rest);
        let mut rest = held.as_slice();
        self.part(&mut rest, into)?;
        let read = held.len() - rest.len();
        self.rest = held;
        self.rest.drain(..read);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &DynamicTable {
        &self.table
    }

    /// Bytes that wait for more.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.rest.len()
    }

    /// Ends a block that came in parts.
    ///
    /// # Errors
    /// If its end is missing.
    pub(crate) fn finish(&mut self) -> Result<(), HpackError> {
        let whole = self.rest.is_empty() && self.passing.left == 0 && !self.passing.value;
        (self.begun, self.wanted, self.rest) = (false, 0, Vec::new());
        if whole { Ok(()) } else { Err(HpackError::Invalid) }
    }

    /// Reads as much of `bytes` as can be; what is left is to come again with what follows it.
    fn part(&mut self, bytes: &mut &[u8], into: &mut FieldLines) -> Result<(), HpackError> {
        self.wanted = 0;
        loop {
            if !self.pass(bytes, into)? {
                return Ok(());
            }
            match self.fields(bytes, into) {
                Ok(()) => return Ok(()),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Short) => {}
            }
            let longest = into.limit().max(INDEXABLE);
            let Some(string) = outline(bytes, longest) else { return Ok(()) };
            if string.length <= longest {
                self.wanted = string.start + string.length;
                return Ok(());
            }
            // It is an indexed field's: the table holds nothing so large, and is empty after it (RFC 7541 §4.4).
            if bytes.first().is_some_and(|first| first & 0xC0 == 0x40) {
                self.table.clear();
            }
            self.begun = true;
            *bytes = bytes.get(string.start..).unwrap_or_default();
            self.passing = Passing { left: string.length, value: string.is_name };
            into.pass_over(string.length);
            if into.is_unendurable() {
                return Err(HpackError::TooLarge);
            }
        }
    }

    /// Passes over what is to be passed over; whether that is done.
    fn pass(&mut self, bytes: &mut &[u8], into: &mut FieldLines) -> Result<bool, HpackError> {
        loop {
            let passed = self.passing.left.min(bytes.len());
            self.passing.left -= passed;
            *bytes = bytes.get(passed..).unwrap_or_default();
            if self.passing.left > 0 || !self.passing.value {
                return Ok(self.passing.left == 0);
            }
            let mut rest = *bytes;
            let length = match integer(&mut rest, 7) {
                Ok(length) => length,
                Err(Stop::Short) => return Ok(false),
                Err(Stop::Error(error)) => return Err(error),
            };
            *bytes = rest;
            self.passing = Passing { left: length, value: false };
            into.pass_over(length);
        }
    }

    /// Reads fields to the end of the block, or to the one that is not complete.
    fn fields(&mut self, block: &mut &[u8], into: &mut FieldLines) -> Result<(), Stop> {
        while let Some(&first) = block.first() {
            if first >= 0x80 {
                let mut rest = *block;
                let index = integer(&mut rest, 7)?;
                let (line, facts) = self.find(index)?;
                into.push(line, facts);
                *block = rest;
            } else if first & 0xE0 == 0x20 {
                self.resize(block)?;
                continue;
            } else {
                let (mut rest, start) = (*block, into.text.len());
                if let Err(stop) = self.literal(first, &mut rest, into) {
                    into.text.truncate(start);
                    return Err(stop);
                }
                *block = rest;
            }
            self.begun = true;
            if into.is_unendurable() {
                return Err(Stop::Error(HpackError::TooLarge));
            }
        }
        Ok(())
    }

    /// Takes a new size of the table (RFC 7541 §6.3), at the beginning of a block only (§4.2).
    fn resize(&mut self, block: &mut &[u8]) -> Result<(), Stop> {
        let mut rest = *block;
        let max = integer(&mut rest, 5)?;
        if self.begun || max > TABLE {
            return Err(Stop::Error(HpackError::Invalid));
        }
        self.table.resize(max);
        *block = rest;
        Ok(())
    }

    /// Reads a field that is spelled out (RFC 7541 §6.2).
    fn literal(&mut self, first: u8, block: &mut &[u8], into: &mut FieldLines) -> Result<(), Stop> {
        let is_indexed = first & 0x40 != 0;
        let index = integer(block, if is_indexed { 6 } else { 4 })?;
        let start = into.text.len();
        let mut facts = if index == 0 {
            string(block, &mut into.text)?;
            let name = into.text.get(start..).unwrap_or_default();
            let (kind, name) = (NameKind::of(name), name.len());
            into.text.extend_from_slice(b": ");
            LineFacts { name, kind, flaw: None, known: 0, never_indexed: false }
        } else {
            let (line, facts) = self.find(index)?;
            into.text.extend_from_slice(line.get(..facts.name + 2).unwrap_or_default());
            facts
        };
        let value = into.text.len();
        string(block, &mut into.text)?;
        facts.flaw = facts.kind.flaw(into.text.get(value..).unwrap_or_default());
        facts.never_indexed = first & 0xF0 == 0x10;
        into.text.extend_from_slice(b"\r\n");
        if is_indexed {
            self.table.insert(into.text.get(start..).unwrap_or_default(), facts);
        }
        into.close(start, facts);
        Ok(())
    }

    /// The line with an index (RFC 7541 §2.3.3).
    #[inline]
    fn find(&self, index: usize) -> Result<(&[u8], LineFacts), Stop> {
        if let Some(known) = known(index) {
            let facts = LineFacts {
                name: known.name.len(),
                kind: known.kind,
                // No value of this table is wrong.
                flaw: (known.kind == NameKind::Connection).then_some(Flaw::ConnectionSpecific),
                known: u8::try_from(index).unwrap_or_default(),
                never_indexed: false,
            };
            return Ok((known.line.as_bytes(), facts));
        }
        let entry = index.checked_sub(KNOWN_FIELDS + 1).and_then(|at| self.table.get(at));
        entry.ok_or(Stop::Error(HpackError::Invalid))
    }
}

/// The first string that is longer than `longest` or not all there, of the field that the block begins with; none if the
/// block ends before it.
fn outline(block: &[u8], longest: usize) -> Option<Outline> {
    let mut rest = block;
    let bits = match block.first()? {
        0x40..0x80 => 6,
        0x00..0x20 => 4,
        _ => return None,
    };
    let mut is_name = integer(&mut rest, bits).ok()? == 0;
    loop {
        let length = integer(&mut rest, 7).ok()?;
        match rest.split_at_checked(length) {
            Some((_, after)) if is_name && length <= longest => rest = after,
            _ => return Some(Outline { start: block.len() - rest.len(), length, is_name }),
        }
        is_name = false;
    }
}

/// Reads an integer that begins in so many bits (RFC 7541 §5.1).
#[inline]
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Stop> {
    let (&first, rest) = block.split_first().ok_or(Stop::Short)?;
    let most = (1 << bits) - 1;
    let value = usize::from(first) & most;
    *block = rest;
    if value == most { long_integer(block, most) } else { Ok(value) }
}

fn long_integer(block: &mut &[u8], mut value: usize) -> Result<usize, Stop> {
    // Four more bytes hold every length that a block can have.
    for shift in [0, 7, 14, 21] {
        let (&next, rest) = block.split_first().ok_or(Stop::Short)?;
        *block = rest;
        value += usize::from(next & 0x7F) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Stop::Error(HpackError::Invalid))
}

/// Reads a string (RFC 7541 §5.2) to the end of `out`.
#[inline]
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
    let is_huffman = block.first().ok_or(Stop::Short)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (string, rest) = block.split_at_checked(length).ok_or(Stop::Short)?;
    *block = rest;
    if is_huffman {
        return huffman::decode(string, out).ok_or(Stop::Error(HpackError::Invalid));
    }
    out.extend_from_slice(string);
    Ok(())
}
