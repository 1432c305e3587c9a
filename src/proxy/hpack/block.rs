//! Whole header blocks (HPACK, RFC 7541): read with the dynamic table that they build up, written without any.

use std::collections::VecDeque;

use bytes::Bytes;

use super::huffman;

/// What the dynamic table holds at most, in the RFC's counting: what the engine's SETTINGS leave it at.
const TABLE: usize = 4096;
/// What a field costs beside its bytes (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// Larger lists are not read: a small block can name one large entry again and again.
const LIST: usize = 256 * 1024;

/// Fields for which there is room from the beginning.
const USUAL: usize = 16;

/// A name and a value, whatever bytes they have.
pub(in crate::proxy) type Field = (Bytes, Bytes);

/// A block that cannot be read, or that is beyond measure. The table is lost with it.
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
    /// The fields of a block.
    ///
    /// # Errors
    /// If it is none; no later block can be read then.
    pub(in crate::proxy) fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, Broken> {
        let mut fields = Vec::with_capacity(USUAL);
        let mut list = 0;
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
                    if max > TABLE || !fields.is_empty() {
                        return Err(Broken);
                    }
                    self.max = max;
                    self.evict(max);
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            list += size(&field);
            if list > LIST {
                return Err(Broken);
            }
            fields.push(field);
        }
        Ok(fields)
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

fn size((name, value): &Field) -> usize {
    name.len() + value.len() + OVERHEAD
}

fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    super::integer(block, bits).ok_or(Broken)
}

fn string(block: &mut &[u8]) -> Result<Bytes, Broken> {
    match super::string(block).ok_or(Broken)? {
        super::Name::Huffman(code) => {
            let mut text = Vec::with_capacity(code.len() * 2);
            huffman::decode(code, &mut text).ok_or(Broken)?;
            Ok(text.into())
        }
        super::Name::Plain(text) => Ok(Bytes::copy_from_slice(text)),
        super::Name::Index(_) => Err(Broken),
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

    fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        decoder.decode(block).unwrap().iter().map(|(name, value)| (text(name), text(value))).collect()
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
        decoder.decode(&hex("3fe101")).unwrap();
        let first = "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
                     3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d";
        decoder.decode(&hex(first)).unwrap();
        assert_eq!((decoder.entries.len(), decoder.size), (4, 222));
        let second = read(&mut decoder, &hex("4803 3330 37c1 c0bf"));
        assert_eq!(second[0], (":status".to_owned(), "307".to_owned()));
        assert_eq!(second[3], ("location".to_owned(), "https://www.example.com".to_owned()));
        assert_eq!((decoder.entries.len(), decoder.size), (4, 222), "302 has left");
    }

    #[test]
    fn what_is_no_block_is_broken() {
        let bomb = [&[0x40, 1, b'a', 0x7F, 0xA1, 0x1E][..], &[b'b'; 4000], &[0xBE; 100]].concat();
        for block in [
            &[0x80][..],
            &[0xBE],
            &[0x82, 0x20],
            &[0x3F, 0xE2, 0x1F],
            &[0x00, 3, b'a'],
            &[0x00, 0x81, 0x00, 0],
            &[0xFF, 0x80, 0x80, 0x80, 0x80, 0x80],
            &bomb,
        ] {
            assert_eq!(Decoder::default().decode(block), Err(Broken), "{:x?}", &block[..block.len().min(8)]);
        }
        assert!(Decoder::default().decode(&[0x3F, 0xE1, 0x1F, 0x82]).is_ok(), "4096 is allowed");
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
                prop_assert_eq!(decoder.decode(&block), Ok(wanted));
            }
        }

        #[test]
        fn no_bytes_are_too_odd(block in vec(any::<u8>(), 0..300)) {
            let _ = Decoder::default().decode(&block);
        }
    }
}
