//! Whole header blocks (HPACK, RFC 7541): read with the dynamic table that they build up, written without any.

use std::collections::VecDeque;

use bytes::Bytes;

use super::huffman;

/// What the dynamic table holds at most, in the RFC's counting: what the engine's SETTINGS leave it at.
const TABLE: usize = 4096;
/// What a field costs beside its bytes (RFC 7541 §4.1).
pub(in crate::proxy) const OVERHEAD: usize = 32;
/// Fields for which there is room from the beginning.
const USUAL: usize = 16;

/// A name and a value, whatever bytes they have.
pub(in crate::proxy) type Field = (Bytes, Bytes);

/// The fields of a block, as far as they keep to a limit.
#[derive(Debug)]
pub(in crate::proxy) struct List {
    pub(in crate::proxy) fields: Vec<Field>,
    /// Of all fields, in the RFC's counting.
    size: usize,
    count: usize,
    limit: usize,
}

impl List {
    /// An empty one that keeps so many bytes (RFC 9113 §6.5.2).
    pub(in crate::proxy) fn new(limit: usize) -> Self {
        Self { fields: Vec::with_capacity(USUAL), size: 0, count: 0, limit }
    }

    /// Whether the block had more than the h2 crate takes of this limit, which is less than all of it.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.size >= self.limit || self.count > FIELDS
    }

    /// How many bytes more would not be too many.
    pub(in crate::proxy) fn room(&self) -> usize {
        self.limit.saturating_sub(self.size + 1)
    }

    pub(in crate::proxy) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes fields again that were written one by one; they are counted already.
    ///
    /// # Errors
    /// If these are none.
    pub(in crate::proxy) fn take_back(&mut self, written: &[u8]) -> Result<(), Broken> {
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
pub(in crate::proxy) struct Parts {
    rest: Vec<u8>,
    /// Bytes to come of a field that is too long to be kept, and whether its value is to follow them.
    skip: usize,
    value: bool,
}

impl Parts {
    /// Whether the block may end here.
    pub(in crate::proxy) fn is_whole(&self) -> bool {
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
pub(in crate::proxy) struct Broken;

/// Reads the header blocks of one direction of a connection.
#[derive(Debug)]
pub(in crate::proxy) struct Decoder {
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
    pub(in crate::proxy) fn decode(&mut self, mut block: &[u8], list: &mut List) -> Result<(), Broken> {
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
    pub(in crate::proxy) fn decode_part(
        &mut self,
        part: &[u8],
        parts: &mut Parts,
        list: &mut List,
    ) -> Result<(), Broken> {
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
                let Some(length) = super::integer(&mut rest, 7) else { break };
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
    let index = super::integer(&mut rest, bits)?;
    if matches!(bits, 5 | 7) {
        return Some((block.len() - rest.len(), true));
    }
    if index == 0 {
        let length = super::integer(&mut rest, 7)?;
        let Some((_, after)) = rest.split_at_checked(length) else {
            return Some((block.len() - rest.len() + length, false));
        };
        rest = after;
    }
    let name = block.len() - rest.len();
    match super::integer(&mut rest, 7) {
        Some(length) => Some((block.len() - rest.len() + length, true)),
        None => Some((name, false)),
    }
}

fn size((name, value): &Field) -> usize {
    name.len() + value.len() + OVERHEAD
}

fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    super::integer(block, bits).ok_or(Broken)
}

fn string(block: &mut &[u8]) -> Result<Bytes, Broken> {
    match super::string(block).ok_or(Broken)? {
        super::Text::Huffman(code) => {
            let mut text = Vec::with_capacity(code.len() * 2);
            huffman::decode(code, &mut text).ok_or(Broken)?;
            Ok(text.into())
        }
        super::Text::Plain(text) => Ok(Bytes::copy_from_slice(text)),
    }
}

/// Writes a field as a literal without indexing, so that it needs no table and leaves none behind.
pub(in crate::proxy) fn write(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
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
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, Broken> {
        let mut list = List::new(usize::MAX);
        decoder.decode(block, &mut list).map(|()| list.fields)
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        decoded(decoder, block).unwrap().iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// RFC 7541 appendix C.3 and C.4: three requests, plain and by Huffman's code.
    #[test]
    fn the_rfcs_requests_are_read() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let host = pair(":authority", "www.example.com");
        let wanted = [
            vec![pair(":method", "GET"), pair(":scheme", "http"), pair(":path", "/"), host.clone()],
            vec![
                pair(":method", "GET"),
                pair(":scheme", "http"),
                pair(":path", "/"),
                host.clone(),
                pair("cache-control", "no-cache"),
            ],
            vec![
                pair(":method", "GET"),
                pair(":scheme", "https"),
                pair(":path", "/index.html"),
                host,
                pair("custom-key", "custom-value"),
            ],
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::default();
            for (block, wanted) in blocks.iter().zip(&wanted) {
                assert_eq!(&read(&mut decoder, &hex(block)), wanted);
            }
            assert_eq!((decoder.entries.len(), decoder.size), (3, 164));
        }
    }

    /// RFC 7541 appendix C.5, whose table has 256 bytes: entries leave it.
    #[test]
    fn entries_leave_a_full_table() {
        let mut decoder = Decoder::default();
        decoded(&mut decoder, &hex("3fe101")).unwrap();
        let first = "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
                     3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d";
        decoded(&mut decoder, &hex(first)).unwrap();
        assert_eq!((decoder.entries.len(), decoder.size), (4, 222));
        let second = read(&mut decoder, &hex("4803 3330 37c1 c0bf"));
        assert_eq!(second[0], (":status".to_owned(), "307".to_owned()));
        assert_eq!(second[3], ("location".to_owned(), "https://www.example.com".to_owned()));
        assert_eq!((decoder.entries.len(), decoder.size), (4, 222), "302 has left");
    }

    #[test]
    fn what_is_no_block_is_broken() {
        for block in [
            &[0x80][..],
            &[0xBE],
            &[0x82, 0x20],
            &[0x3F, 0xE2, 0x1F],
            &[0x00, 3, b'a'],
            &[0x00, 0x81, 0x00, 0],
            &[0xFF, 0x80, 0x80, 0x80, 0x80, 0x80],
        ] {
            assert_eq!(decoded(&mut Decoder::default(), block), Err(Broken), "{block:x?}");
        }
        assert!(decoded(&mut Decoder::default(), &[0x3F, 0xE1, 0x1F, 0x82]).is_ok(), "4096 is allowed");
    }

    #[test]
    fn what_is_above_the_limit_is_read_and_not_kept() {
        let bomb = [&[0x40, 1, b'a', 0x7F, 0xA1, 0x1E][..], &[b'b'; 4000], &[0xBE; 100]].concat();
        let (mut decoder, mut list) = (Decoder::default(), List::new(10_000));
        decoder.decode(&bomb, &mut list).unwrap();
        assert_eq!((list.fields.len(), list.is_over(), list.room()), (2, true, 0));
        assert_eq!(read(&mut decoder, &[0xBE])[0].1.len(), 4000, "the table is kept");
    }

    #[test]
    fn a_field_that_is_too_long_is_passed_over() {
        let long = [&[0x40, 1, b'a', 0x7F, 0xF1, 0xFD, 0x07][..], &[b'b'; 130_928], &[0x82]].concat();
        let (mut decoder, mut list, mut parts) = (Decoder::default(), List::new(1000), Parts::default());
        decoded(&mut decoder, &[0x40, 1, b'c', 1, b'd']).unwrap();
        for part in long.chunks(10_000) {
            assert!(!parts.is_whole() || list.size == 0);
            decoder.decode_part(part, &mut parts, &mut list).unwrap();
            assert!(parts.rest.len() <= SKIPPED);
        }
        assert!(parts.is_whole() && list.is_over() && list.fields.is_empty());
        assert_eq!(decoded(&mut decoder, &[0xBE]), Err(Broken), "the table is empty");
        let name = [&[0x40, 0x7F, 0xF1, 0xFD, 0x07][..], &[b'a'; 130_928], &[2, b'b', b'c', 0x82]].concat();
        for size in [7, 130_930, 130_933, 130_934, 130_935, name.len()] {
            let (mut decoder, mut list, mut parts) = (Decoder::default(), List::new(1000), Parts::default());
            for part in name.chunks(size) {
                decoder.decode_part(part, &mut parts, &mut list).unwrap();
                assert!(parts.rest.len() <= SKIPPED);
            }
            assert!(parts.is_whole() && list.is_over(), "in parts of {size}");
        }
        let endless = [&[0x40][..], &[0xFF; 100_000]].concat();
        let (mut list, mut parts) = (List::new(1000), Parts::default());
        assert_eq!(Decoder::default().decode_part(&endless, &mut parts, &mut list), Err(Broken));
    }

    proptest! {
        /// Whatever a sender indexes, a block that names it reads as one that spells it out.
        #[test]
        fn indexed_or_not_it_is_the_same(
            fields in vec((vec(any::<u8>(), 1..40), vec(any::<u8>(), 0..200), any::<bool>(), any::<bool>()), 0..60),
        ) {
            let (mut table, mut size_now) = (VecDeque::<(Vec<u8>, Vec<u8>)>::new(), 0);
            let mut decoder = Decoder::default();
            for (name, value, indexed, again) in fields {
                let mut block = Vec::new();
                write(&name, &value, &mut block);
                if indexed {
                    block[0] = 0x40;
                    size_now += name.len() + value.len() + OVERHEAD;
                    table.push_front((name.clone(), value.clone()));
                    while size_now > TABLE {
                        let (name, value) = table.pop_back().unwrap();
                        size_now -= name.len() + value.len() + OVERHEAD;
                    }
                }
                let mut wanted = vec![(Bytes::from(name), Bytes::from(value))];
                if again && table.len() < 60 && let Some((name, value)) = table.back() {
                    block.push(0x80 | u8::try_from(61 + table.len()).unwrap());
                    wanted.push((name.clone().into(), value.clone().into()));
                }
                prop_assert_eq!(decoded(&mut decoder, &block), Ok(wanted));
            }
        }

        #[test]
        fn no_bytes_are_too_odd(block in vec(any::<u8>(), 0..300)) {
            let _ = decoded(&mut Decoder::default(), &block);
        }

        /// However a block is cut, it reads as the whole.
        #[test]
        fn in_parts_it_is_the_same(block in vec(0_u8..0x60, 0..120), cuts in vec(0..120_usize, 0..4)) {
            let (mut whole, mut list) = (Decoder::default(), List::new(500));
            let read = whole.decode(&block, &mut list);
            let (mut decoder, mut parted, mut parts) = (Decoder::default(), List::new(500), Parts::default());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(block.len())).chain([0, block.len()]).collect();
            cuts.sort_unstable();
            let read_parts = cuts
                .windows(2)
                .try_for_each(|cut| decoder.decode_part(&block[cut[0]..cut[1]], &mut parts, &mut parted))
                .and_then(|()| if parts.is_whole() { Ok(()) } else { Err(Broken) });
            prop_assert_eq!(read, read_parts);
            if read.is_ok() {
                prop_assert_eq!((list.fields, list.size), (parted.fields, parted.size));
                prop_assert_eq!((whole.entries, whole.size, whole.max), (decoder.entries, decoder.size, decoder.max));
            }
        }
    }
}
