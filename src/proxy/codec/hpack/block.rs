//! Whole header blocks (HPACK, RFC 7541): read with the dynamic table that they build up, written without any.

use std::collections::VecDeque;

use bytes::Bytes;

use super::huffman;

/// What the dynamic table holds at most, in the RFC's counting: what the engine's SETTINGS leave it at.
const TABLE: usize = 4096;
/// What a field costs beside its bytes (RFC 7541 §4.1).
pub(crate) const OVERHEAD: usize = 32;
/// Fields for which there is room from the beginning.
const USUAL: usize = 16;

/// A name and a value, whatever bytes they have.
pub(crate) type Field = (Bytes, Bytes);

/// The fields of a block, as far as they keep to a limit.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) fields: Vec<Field>,
    /// Of all fields, in the RFC's counting.
    size: usize,
    count: usize,
    limit: usize,
}

impl List {
    /// An empty one that keeps so many bytes (RFC 9113 §6.5.2).
    pub(crate) fn new(limit: usize) -> Self {
        Self { fields: Vec::with_capacity(USUAL), size: 0, count: 0, limit }
    }

    /// Whether the block had more than the h2 crate takes of this limit, which is less than all of it.
    pub(crate) fn is_over(&self) -> bool {
        self.size >= self.limit || self.count > FIELDS
    }

    /// How many bytes more would not be too many.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.size + 1)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes fields again that were written one by one; they are counted already.
    ///
    /// # Errors
    /// If these are none.
    pub(crate) fn take_back(&mut self, written: &[u8]) -> Result<(), Broken> {
        let mut list = Self::new(usize::MAX);
        Decoder::default().decode(written, &mut list)?;
        self.fields = list.fields;
        Ok(())
    }

    /// A small block can name one large entry again and again.
    fn push(&mut self, field: Field) {
        self.size += size(&field);
        self.count += 1;
        if !self.is_over() {
            self.fields.push(field);
        }
    }
}

/// A block that comes in parts: at most one field waits for its rest.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    rest: Vec<u8>,
    /// Bytes to come of a field that is too long to be kept, and whether its value is to follow them.
    skip: usize,
    value: bool,
}

impl Parts {
    /// Whether the block may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_empty() && self.skip == 0 && !self.value
    }
}

/// The longest integer (RFC 7541 §5.1), of those that are read.
const INTEGER: usize = 6;

/// Fields that a list keeps: more than any configuration allows, and less than the crate's map has room for.
const FIELDS: usize = 4096;

/// Longer fields than this, and than the list's limit, are not kept. By Huffman's code four bytes are one character at
/// least, so the longer string of such a field is larger than the table.
const SKIPPED: usize = 34 * 1024;

/// A block that cannot be read. The table is lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Reads the header blocks of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The newest first.
    entries: VecDeque<Field>,
    size: usize,
    max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, max: TABLE }
    }
}

impl Decoder {
    /// Reads a whole block, or whole fields of one, to the end of `list`.
    ///
    /// # Errors
    /// If it is none; no later block can be read then.
    pub(crate) fn decode(&mut self, mut block: &[u8], list: &mut List) -> Result<(), Broken> {
        while let Some(first) = block.first() {
            let field = match first {
                0x80.. => self.find(integer(&mut block, 7)?)?,
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.insert(field.clone());
                    field
                }
                0x20.. => {
                    let max = integer(&mut block, 5)?;
                    if max > TABLE || list.size > 0 {
                        return Err(Broken);
                    }
                    self.max = max;
                    self.evict(max);
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            list.push(field);
        }
        Ok(())
    }

    /// Reads the next part of a block.
    ///
    /// # Errors
    /// If it is none; no later block can be read then.
    pub(crate) fn decode_part(&mut self, part: &[u8], parts: &mut Parts, list: &mut List) -> Result<(), Broken> {
        let mut rest = std::mem::take(&mut parts.rest);
        rest.extend_from_slice(part);
        let (mut at, longest) = (0, list.limit.max(SKIPPED));
        loop {
            let next = rest.get(at..).unwrap_or_default();
            let skipped = parts.skip.min(next.len());
            if skipped > 0 {
                parts.skip -= skipped;
                at += skipped;
                continue;
            }
            if parts.value {
                let mut rest = next;
                let Some(length) = crate::proxy::codec::hpack::integer(&mut rest, 7) else { break };
                (parts.value, parts.skip) = (false, next.len() - rest.len() + length);
                continue;
            }
            match extent(next) {
                Some((length, true)) if length <= next.len() => {
                    self.decode(next.get(..length).unwrap_or_default(), list)?;
                    at += length;
                }
                Some((length, whole)) if length > longest => {
                    // The table holds nothing so large, and is empty after it (RFC 7541 §4.4).
                    if next.first().is_some_and(|first| first & 0xC0 == 0x40) {
                        self.evict(0);
                    }
                    list.size += length.max(list.limit + 1);
                    (parts.value, parts.skip) = (!whole, length);
                }
                _ => break,
            }
        }
        rest.drain(..at);
        // No integer is so long.
        if rest.len() > longest + INTEGER {
            return Err(Broken);
        }
        parts.rest = rest;
        Ok(())
    }

    fn literal(&self, block: &mut &[u8], bits: u32) -> Result<Field, Broken> {
        let name = match integer(block, bits)? {
            0 => string(block)?,
            index => self.find(index)?.0,
        };
        Ok((name, string(block)?))
    }

    fn find(&self, index: usize) -> Result<Field, Broken> {
        let at = index.checked_sub(1).ok_or(Broken)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes())));
        }
        self.entries.get(at - STATIC.len()).cloned().ok_or(Broken)
    }

    fn insert(&mut self, field: Field) {
        let size = size(&field);
        self.evict(self.max.saturating_sub(size));
        if size <= self.max {
            self.size += size;
            self.entries.push_front(field);
        }
    }

    fn evict(&mut self, max: usize) {
        while self.size > max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= size(&oldest);
        }
    }
}

/// How long the field at the front is, though the block may end before, or what of it is before its value; whether it is
/// all. None if that cannot be told yet.
fn extent(block: &[u8]) -> Option<(usize, bool)> {
    let mut rest = block;
    let bits = match block.first()? {
        0x80.. => 7,
        0x40.. => 6,
        0x20.. => 5,
        _ => 4,
    };
    let index = crate::proxy::codec::hpack::integer(&mut rest, bits)?;
    if matches!(bits, 5 | 7) {
        return Some((block.len() - rest.len(), true));
    }
    if index == 0 {
        let length = crate::proxy::codec::hpack::integer(&mut rest, 7)?;
        let Some((_, after)) = rest.split_at_checked(length) else {
            return Some((block.len() - rest.len() + length, false));
        };
        rest = after;
    }
    let name = block.len() - rest.len();
    match crate::proxy::codec::hpack::integer(&mut rest, 7) {
        Some(length) => Some((block.len() - rest.len() + length, true)),
        None => Some((name, false)),
    }
}

fn size((name, value): &Field) -> usize {
    name.len() + value.len() + OVERHEAD
}

fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    crate::proxy::codec::hpack::integer(block, bits).ok_or(Broken)
}

fn string(block: &mut &[u8]) -> Result<Bytes, Broken> {
    match crate::proxy::codec::hpack::string(block).ok_or(Broken)? {
        crate::proxy::codec::hpack::Text::Huffman(code) => {
            let mut text = Vec::with_capacity(code.len() * 2);
            huffman::decode(code, &mut text).ok_or(Broken)?;
            Ok(text.into())
        }
        crate::proxy::codec::hpack::Text::Plain(text) => Ok(Bytes::copy_from_slice(text)),
    }
}

/// Writes a field as a literal without indexing, so that it needs no table and leaves none behind.
pub(crate) fn write(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 0x7F {
            out.push(low(rest));
        } else {
            out.push(0x7F);
            rest -= 0x7F;
            while rest >= 0x80 {
                out.push(low(rest & 0x7F) | 0x80);
                rest >>= 7;
            }
            out.push(low(rest));
        }
        out.extend_from_slice(text);
    }
}

/// A number of seven bits as a byte.
fn low(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// RFC 7541 appendix A.
#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests;
