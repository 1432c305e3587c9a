//! Writes header blocks (RFC 7541 §6).
//!
//! A value is indexed when it comes a second time under its name: most of what repeats does so at once, and what never
//! does pushes nothing out of the table. What changes with each message is never indexed, nor what is secret (§7.1.3).
//! Of the table only what can be named again is held: the last value of each of some names, and the sizes.
//!
//! Strings are written as they are: Huffman's code would save a tenth of a head and cost more than the rest of it.

use std::collections::VecDeque;

use super::field_lines::OVERHEAD;
use super::static_table::KNOWN_FIELDS;
use super::table::TABLE;

/// Writes the header blocks of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// By a hash of the name, where in `recent` it is, counted from 1.
    places: [u8; PLACES],
    recent: Vec<Recent>,
    /// Of the entries of the table, the newest first.
    sizes: VecDeque<u16>,
    /// How many entries there ever were.
    inserted: u64,
    size: usize,
    max: usize,
    /// The least size since the last block, if the peer is to be told of a new one.
    resized: Option<usize>,
}

/// What came last under a name.
#[derive(Debug, Default)]
struct Recent {
    /// The name, as it was given.
    name: Vec<u8>,
    value: Vec<u8>,
    /// Where in the static table the name is, or 0.
    known: u8,
    policy: Policy,
    /// The number of the name's entry, counted from 1; 0 if it has none.
    entry: u64,
    /// The entry has this value.
    is_indexed: bool,
}

/// How a name's fields are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Policy {
    /// Indexed when a value comes again.
    #[default]
    Indexed,
    /// Never indexed: values hardly ever come again, or are old soon.
    Literal,
    /// Never indexed on any hop.
    Secret,
}

/// Places for names, and so the most that are remembered. Two names of a place drive each other out, and are not indexed.
const PLACES: usize = 64;
/// The longest name and value that are remembered: long ones hardly ever repeat.
const REMEMBERED: usize = 128;

/// An indexed field, and the three ways to write one that is not (RFC 7541 §6): the pattern and the bits of its index.
const INDEXED: (u8, u32) = (0x80, 7);
const INDEXING: (u8, u32) = (0x40, 6);
const RESIZE: (u8, u32) = (0x20, 5);
const NEVER: (u8, u32) = (0x10, 4);
const PLAIN: (u8, u32) = (0, 4);

impl Encoder {
    /// With an empty table of 4,096 bytes, the size without SETTINGS.
    pub(crate) fn new() -> Self {
        Self {
            places: [0; PLACES],
            recent: Vec::new(),
            sizes: VecDeque::new(),
            inserted: 0,
            size: 0,
            max: TABLE,
            resized: None,
        }
    }

    /// Obeys the peer's SETTINGS_HEADER_TABLE_SIZE; more than the default is not used.
    pub(crate) fn set_table(&mut self, max: usize) {
        let max = max.min(TABLE);
        if max != self.max {
            self.resized = Some(self.resized.unwrap_or(max).min(max));
            self.max = max;
            self.evict(max);
        }
    }

    /// Begins a block: tells of a new size of the table, first of the least one if it changed more than once (RFC 7541
    /// §4.2).
    #[inline]
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(least) = self.resized.take() {
            if least < self.max {
                number(least, RESIZE, out);
            }
            number(self.max, RESIZE, out);
        }
    }

    /// Writes the pseudo-header field of a response.
    pub(crate) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |number: u16| b'0' + low(usize::from(number % 10));
                out.extend_from_slice(&[8, 3, digit(status / 100), digit(status / 10), digit(status)]);
                return;
            }
        };
        out.push(0x80 | index);
    }

    /// Writes the pseudo-header fields of a request.
    pub(crate) fn request(&mut self, method: &str, scheme: &str, authority: &[u8], path: &[u8], out: &mut Vec<u8>) {
        match method {
            "GET" => out.push(0x82),
            "POST" => out.push(0x83),
            _ => literal(PLAIN, 2, b":method", method.as_bytes(), out),
        }
        match scheme {
            "http" => out.push(0x86),
            "https" => out.push(0x87),
            _ => literal(PLAIN, 6, b":scheme", scheme.as_bytes(), out),
        }
        self.field(b":authority", authority, out);
        if path == b"/" { out.push(0x84) } else { self.field(b":path", path, out) }
    }

    /// Writes a field. Its name may have upper-case letters, which are written as lower-case ones (RFC 9113 §8.2.1).
    #[inline]
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let place = place(name);
        let at = usize::from(self.places.get(place).copied().unwrap_or_default());
        let Some(recent) = self.recent.get_mut(at.wrapping_sub(1)).filter(|recent| recent.name == name) else {
            return self.new_name(place, name, value, out);
        };
        let oldest = self.inserted - self.sizes.len() as u64;
        let entry =
            recent.entry.checked_sub(oldest + 1).map(|_| KNOWN_FIELDS + 1 + index(self.inserted - recent.entry));
        match (recent.policy, entry) {
            (Policy::Secret, _) => return literal(NEVER, recent.known.into(), name, value, out),
            (Policy::Literal, _) => return literal(PLAIN, recent.known.into(), name, value, out),
            (Policy::Indexed, Some(entry)) if recent.is_indexed && recent.value == value => {
                return number(entry, INDEXED, out);
            }
            (Policy::Indexed, _) => {}
        }
        // The name of an entry that has another value.
        let known = match (recent.known, entry) {
            (0, Some(entry)) => entry,
            (known, _) => usize::from(known),
        };
        if recent.value == value {
            let size = name.len() + value.len() + OVERHEAD;
            if size <= self.max {
                (recent.entry, recent.is_indexed) = (self.inserted + 1, true);
                literal(INDEXING, known, name, value, out);
                return self.insert(size);
            }
        } else {
            recent.remember(value);
        }
        literal(PLAIN, known, name, value, out);
    }

    /// Writes a field that no hop is to index (RFC 7541 §7.1.3).
    pub(crate) fn secret(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        literal(NEVER, known(name).0.into(), name, value, out);
    }

    /// Writes a field whose name is not remembered, and remembers it.
    fn new_name(&mut self, place: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let (known, policy) = known(name);
        literal(if policy == Policy::Secret { NEVER } else { PLAIN }, known.into(), name, value, out);
        if name.len() > REMEMBERED {
            return;
        }
        let Some(at) = self.places.get_mut(place) else { return };
        if *at == 0 {
            self.recent.push(Recent::default());
            *at = low(self.recent.len());
        }
        if let Some(recent) = self.recent.get_mut(usize::from(*at) - 1) {
            recent.name.clear();
            recent.name.extend_from_slice(name);
            (recent.known, recent.policy, recent.entry) = (known, policy, 0);
            recent.remember(value);
        }
    }

    fn insert(&mut self, size: usize) {
        self.evict(self.max - size);
        self.sizes.push_front(u16::try_from(size).unwrap_or(u16::MAX));
        self.inserted += 1;
        self.size += size;
    }

    fn evict(&mut self, max: usize) {
        while self.size > max
            && let Some(size) = self.sizes.pop_back()
        {
            self.size -= usize::from(size);
        }
    }
}

impl Recent {
    /// Remembers a value that may come again.
    fn remember(&mut self, value: &[u8]) {
        self.is_indexed = false;
        self.value.clear();
        if self.policy == Policy::Indexed && value.len() <= REMEMBERED {
            self.value.extend_from_slice(value);
        }
    }
}

/// Where a name is remembered.
#[inline]
fn place(name: &[u8]) -> usize {
    let byte = |at: usize| usize::from(name.get(at).copied().unwrap_or_default());
    let hash = name.len() + byte(0) * 5 + byte(name.len() / 2) * 3 + byte(name.len().wrapping_sub(1));
    hash % PLACES
}

/// A difference of entries' numbers.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Where in the static table a name is, or 0, as far as proxied messages have it; and how its fields are written.
fn known(name: &[u8]) -> (u8, Policy) {
    let is = |lower: &str| name.eq_ignore_ascii_case(lower.as_bytes());
    let index = match name.len() {
        3 if is("age") => return (21, Policy::Literal),
        3 if is("via") => 60,
        4 if is("date") => return (33, Policy::Literal),
        4 if is("etag") => return (34, Policy::Literal),
        4 if is("host") => 38,
        4 if is("link") => 45,
        4 if is("vary") => 59,
        5 if is(":path") => 4,
        5 if is("allow") => 22,
        5 if is("range") => return (50, Policy::Literal),
        6 if is("accept") => 19,
        6 if is("cookie") => return (32, Policy::Secret),
        6 if is("server") => 54,
        7 if is("expires") => return (36, Policy::Literal),
        7 if is("referer") => 51,
        8 if is("location") => return (46, Policy::Literal),
        10 if is(":authority") => 1,
        10 if is("set-cookie") => return (55, Policy::Literal),
        10 if is("user-agent") => 58,
        11 if is("retry-after") => 53,
        12 if is("content-type") => 31,
        13 if is("accept-ranges") => 18,
        13 if is("authorization") => return (23, Policy::Secret),
        13 if is("cache-control") => 24,
        13 if is("content-range") => return (30, Policy::Literal),
        13 if is("if-none-match") => return (41, Policy::Literal),
        13 if is("last-modified") => return (44, Policy::Literal),
        14 if is("content-length") => return (28, Policy::Literal),
        15 if is("accept-encoding") => 16,
        15 if is("accept-language") => 17,
        16 if is("content-encoding") => 26,
        16 if is("content-language") => 27,
        16 if is("content-location") => 29,
        16 if is("www-authenticate") => 61,
        17 if is("if-modified-since") => return (40, Policy::Literal),
        19 if is("content-disposition") => 25,
        19 if is("proxy-authorization") => return (49, Policy::Secret),
        25 if is("strict-transport-security") => 56,
        27 if is("access-control-allow-origin") => 20,
        _ => 0,
    };
    (index, Policy::Indexed)
}

/// Writes a field that is spelled out, its name by an index if it has one.
#[inline]
fn literal(pattern: (u8, u32), index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    number(index, pattern, out);
    if index == 0 {
        number(name.len(), (0, 7), out);
        let start = out.len();
        out.extend_from_slice(name);
        if let Some(name) = out.get_mut(start..) {
            name.make_ascii_lowercase();
        }
    }
    number(value.len(), (0, 7), out);
    out.extend_from_slice(value);
}

/// Writes an integer that begins in so many bits behind a pattern (RFC 7541 §5.1).
#[inline]
fn number(number: usize, (pattern, bits): (u8, u32), out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if number < most {
        out.push(pattern | low(number));
        return;
    }
    out.push(pattern | low(most));
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(low(rest & 0x7F) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

/// Writes a field so that it needs no table and leaves none behind.
pub(crate) fn write_plain(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    literal(PLAIN, 0, name, value, out);
}

/// A small number as a byte.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "no number that comes here has more bits")]
fn low(number: usize) -> u8 {
    number as u8
}
