//! The fields of one message, as the lines that HTTP/1 would have.
//!
//! HTTP/1 endpoints get the lines as they are, and the dynamic table holds them so, which makes one copy of each field.
//! What makes a message malformed (RFC 9113 §8.2, §8.3) is noted while the fields come; whoever reads a message knows
//! which pseudo-header fields it must have.
//!
//! Invariant: what is kept is within the limit; pseudo-header fields are in no line of [`FieldLines::iter`].

use super::name::{Flaw, NameKind, Pseudo};
use super::static_table::known;

/// The fields of one message.
#[derive(Debug, Default)]
pub(crate) struct FieldLines {
    /// All lines, pseudo-header fields too.
    pub(super) text: Vec<u8>,
    /// The names that are in no static table, one after the other.
    names: String,
    fields: Vec<Extent>,
    /// Where the values are; at 0 is none.
    pseudo: [(u32, u32); PSEUDO],
    has_pseudo: bool,
    flaw: Option<Flaw>,
    size: usize,
    limit: usize,
    endured: usize,
}

/// A regular field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLine<'a> {
    /// As HTTP/1 would write it, with its end.
    pub(crate) line: &'a [u8],
    /// Empty if it is no UTF-8, which is a [`Flaw`].
    pub(crate) name: &'a str,
    pub(crate) value: &'a [u8],
    /// The sender wants no compression to remember it, on any hop (RFC 7541 §7.1.3).
    pub(crate) never_indexed: bool,
}

/// Where a regular field is.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u32,
    end: u32,
    name: u32,
    /// Where in the static table its name is, or 0.
    known: u8,
    /// Where in [`FieldLines::names`] the name is, if not there.
    named: u32,
    never_indexed: bool,
}

/// What is known of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineFacts {
    /// How long the name is.
    pub(super) name: usize,
    pub(super) kind: NameKind,
    pub(super) flaw: Option<Flaw>,
    /// Where in the static table the name is, or 0.
    pub(super) known: u8,
    pub(super) never_indexed: bool,
}

/// What a field costs beside its bytes (RFC 7541 §4.1, RFC 9113 §6.5.2).
pub(crate) const OVERHEAD: usize = 32;
/// What a line has beside the name and the value.
pub(super) const PUNCTUATION: usize = 4;
/// How many pseudo-header fields there are.
const PSEUDO: usize = 6;
/// A list this many times too long is no mistake of its sender (the h2 crate's measure too).
const ENDURED: usize = 4;
/// The largest limit, so that places fit into 32 bits.
const LARGEST: usize = 1 << 30;

impl FieldLines {
    /// None, and room for none.
    pub(crate) const fn new() -> Self {
        Self {
            text: Vec::new(),
            names: String::new(),
            fields: Vec::new(),
            pseudo: [(0, 0); PSEUDO],
            has_pseudo: false,
            flaw: None,
            size: 0,
            limit: 0,
            endured: 0,
        }
    }

    /// Forgets all fields; of the next ones as many are kept as `limit` allows, each counted as its name, its value and
    /// 32 bytes (RFC 9113 §6.5.2). A list four times as long is an error.
    pub(crate) fn clear(&mut self, limit: usize) {
        self.clear_for(limit, limit.saturating_mul(ENDURED));
    }

    /// As [`Self::clear`], with the size from which on a list is an error.
    pub(crate) fn clear_for(&mut self, limit: usize, endured: usize) {
        self.text.clear();
        self.names.clear();
        self.fields.clear();
        self.pseudo = [(0, 0); PSEUDO];
        (self.has_pseudo, self.flaw, self.size) = (false, None, 0);
        (self.limit, self.endured) = (limit.min(LARGEST), endured);
    }

    /// The value of a pseudo-header field.
    #[inline]
    pub(crate) fn pseudo(&self, which: Pseudo) -> Option<&[u8]> {
        match *self.pseudo.get(which as usize)? {
            (0, _) => None,
            (start, end) => self.text.get(start as usize..end as usize),
        }
    }

    /// Whether there is any pseudo-header field: trailers have none (RFC 9113 §8.1).
    pub(crate) fn has_pseudo(&self) -> bool {
        self.has_pseudo
    }

    /// The status of a response, if it is a number of three digits.
    pub(crate) fn status(&self) -> Option<u16> {
        let [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = self.pseudo(Pseudo::Status)? else {
            return None;
        };
        let digit = |byte: &u8| u16::from(byte - b'0');
        Some(digit(hundreds) * 100 + digit(tens) * 10 + digit(ones))
    }

    /// The regular fields in their order.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = FieldLine<'_>> {
        self.fields.iter().map(|field| {
            let line = self.text.get(field.start as usize..field.end as usize).unwrap_or_default();
            let (name, value) = line.split_at_checked(field.name as usize).unwrap_or_default();
            let name = match known(usize::from(field.known)) {
                Some(known) => known.name,
                None => {
                    let named = field.named as usize;
                    self.names.get(named..named + name.len()).unwrap_or_default()
                }
            };
            let value = value.get(2..value.len().saturating_sub(2)).unwrap_or_default();
            FieldLine { line, name, value, never_indexed: field.never_indexed }
        })
    }

    /// How many regular fields there are.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The first thing that makes the message malformed.
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Whether the list is longer than the limit. What was beyond was read for the table and is not here.
    pub(crate) fn overflows(&self) -> bool {
        self.size > self.limit
    }

    /// The size of all fields, also of those beyond the limit (RFC 9113 §6.5.2).
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether the list is too long to go on with the connection.
    #[inline]
    pub(super) fn is_unendurable(&self) -> bool {
        self.size > self.endured
    }

    /// The longest string that can be kept.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Adds a whole line.
    #[inline]
    pub(super) fn push(&mut self, line: &[u8], facts: LineFacts) {
        let start = self.text.len();
        // A small block can name one large entry again and again.
        if self.size + line.len() <= self.limit {
            self.text.extend_from_slice(line);
            self.close(start, facts);
        } else {
            self.size += line.len() - PUNCTUATION + OVERHEAD;
        }
    }

    /// Ends the line that begins at `start` and is all of the text from there.
    // For each field of each message; the compiler would make it a call.
    #[inline(always)]
    pub(super) fn close(&mut self, start: usize, facts: LineFacts) {
        let end = self.text.len();
        self.size += end - start - PUNCTUATION + OVERHEAD;
        if self.size > self.limit {
            self.text.truncate(start);
            return;
        }
        let flaw = match facts.kind {
            NameKind::Pseudo(which) => self.close_pseudo(which, start + facts.name + 2, end - 2).or(facts.flaw),
            NameKind::Unknown => {
                self.has_pseudo = true;
                facts.flaw
            }
            _ => {
                let named = if facts.known == 0 { self.push_name(start, facts.name) } else { 0 };
                self.fields.push(Extent {
                    start: place(start),
                    end: place(end),
                    name: place(facts.name),
                    known: facts.known,
                    named,
                    never_indexed: facts.never_indexed,
                });
                facts.flaw
            }
        };
        if flaw.is_some() && self.flaw.is_none() {
            self.flaw = flaw;
        }
    }

    /// Keeps a name as text: it is read more often than it comes. Returns where it is; nowhere if it is no text.
    #[inline(never)]
    fn push_name(&mut self, start: usize, length: usize) -> u32 {
        let name = self.text.get(start..start + length).unwrap_or_default();
        let Ok(name) = str::from_utf8(name) else { return u32::MAX };
        let named = self.names.len();
        self.names.push_str(name);
        place(named)
    }

    #[inline]
    fn close_pseudo(&mut self, which: Pseudo, start: usize, end: usize) -> Option<Flaw> {
        self.has_pseudo = true;
        let found = self.pseudo.get_mut(which as usize)?;
        if found.0 > 0 {
            return Some(Flaw::RepeatedPseudo);
        }
        *found = (place(start), place(end));
        if self.fields.is_empty() { None } else { Some(Flaw::LatePseudo) }
    }

    /// Counts a field that is too long to be looked at.
    pub(super) fn pass_over(&mut self, length: usize) {
        self.size = (self.size + length + OVERHEAD).max(self.limit + 1);
    }
}

/// A place in the text; the limit is far below.
#[inline]
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
