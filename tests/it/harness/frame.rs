//! HTTP/2 as bytes: frames (RFC 9113 §4.1) and header blocks (RFC 7541), well made or not.

/// Types of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 0x20;
/// A header block in one frame that ends its stream too.
pub(crate) const WHOLE: u8 = END_HEADERS | END_STREAM;

/// Names of settings (RFC 9113 §6.5.2, RFC 8441 §3).
pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Error codes (RFC 9113 §7).
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;

/// The largest window, and the largest stream id.
pub(crate) const LARGEST: u32 = (1 << 31) - 1;
/// What a frame may hold unless a setting says more.
pub(crate) const FRAME_SIZE: usize = 16_384;
/// The window that everything begins with.
pub(crate) const WINDOW: u32 = 65_535;

/// What a client says first (RFC 9113 §3.4), SETTINGS not included.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&frame_head(payload.len(), kind, flags, stream)[..], payload].concat()
}

/// The first nine bytes of a frame.
pub(crate) fn frame_head(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; 9] {
    let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
    let [s1, s2, s3, s4] = stream.to_be_bytes();
    [a, b, c, kind, flags, s1, s2, s3, s4]
}

/// The preface and empty SETTINGS.
pub(crate) fn preface() -> Vec<u8> {
    [PREFACE, &settings(&[])].concat()
}

pub(crate) fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let entry = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &entries.iter().flat_map(entry).collect::<Vec<u8>>())
}

pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, &payload)
}

pub(crate) fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// An integer with a prefix of so many bits, below these high bits (RFC 7541 §5.1).
pub(crate) fn integer(high: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![high | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![high | u8::try_from(most).unwrap()];
    let mut left = value - most;
    while left >= 128 {
        bytes.push(u8::try_from(left % 128).unwrap() | 128);
        left /= 128;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes
}

/// A string as it is (RFC 7541 §5.2).
pub(crate) fn plain(text: &[u8]) -> Vec<u8> {
    [&integer(0, 7, text.len())[..], text].concat()
}

/// A field that no table holds (RFC 7541 §6.2.2).
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0], &plain(name)[..], &plain(value)].concat()
}

/// A field that the receiver is to index (RFC 7541 §6.2.1).
pub(crate) fn indexing(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x40], &plain(name)[..], &plain(value)].concat()
}

/// A field that the tables have (RFC 7541 §6.1).
pub(crate) fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// Says how large the dynamic table may be from now on (RFC 7541 §6.3).
pub(crate) fn table_size(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

/// Names and values, one after the other.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a [u8])];

/// Fields that no table holds.
pub(crate) fn block(fields: Fields<'_>) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value)).collect()
}

/// The header block of a request for `shop.test`.
pub(crate) fn request(method: &str, path: &str, more: Fields<'_>) -> Vec<u8> {
    let head: Fields<'_> = &[
        (":method", method.as_bytes()),
        (":scheme", b"http"),
        (":authority", b"shop.test"),
        (":path", path.as_bytes()),
    ];
    block(&[head, more].concat())
}

/// A request without a body.
pub(crate) fn get(stream: u32, path: &str, more: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &request("GET", path, more))
}

/// The head of a request whose body follows.
pub(crate) fn post(stream: u32, path: &str, more: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", path, more))
}

/// One representation in a header block (RFC 7541 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Representation<'a> {
    Indexed(usize),
    Literal { indexing: bool, never: bool, name: usize, value: &'a [u8] },
    Size(usize),
}

/// What a well-made header block consists of.
pub(crate) fn representations(mut block: &[u8]) -> Vec<Representation<'_>> {
    let mut found = Vec::new();
    while let Some(&first) = block.first() {
        found.push(if first & 0x80 != 0 {
            Representation::Indexed(take_integer(&mut block, 7))
        } else if first & 0xe0 == 0x20 {
            Representation::Size(take_integer(&mut block, 5))
        } else {
            let indexing = first & 0x40 != 0;
            let name = take_integer(&mut block, if indexing { 6 } else { 4 });
            if name == 0 {
                take_string(&mut block);
            }
            Representation::Literal { indexing, never: first & 0xf0 == 0x10, name, value: take_string(&mut block) }
        });
    }
    found
}

fn take_integer(block: &mut &[u8], prefix: u32) -> usize {
    let most = (1 << prefix) - 1;
    let mut next = || {
        let (first, rest) = block.split_first().expect("a whole integer");
        *block = rest;
        usize::from(*first)
    };
    let mut value = next() & most;
    if value < most {
        return value;
    }
    for shift in (0..28).step_by(7) {
        let byte = next();
        value += (byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    value
}

/// A string as it is written, which may be by Huffman's code.
fn take_string<'a>(block: &mut &'a [u8]) -> &'a [u8] {
    let length = take_integer(block, 7);
    let (text, rest) = block.split_at(length);
    *block = rest;
    text
}

/// The status that a header block says, if it does.
pub(crate) fn status(block: &[u8]) -> Option<u16> {
    representations(block).into_iter().find_map(|found| match found {
        Representation::Indexed(index @ 8..=14) => Some([200, 204, 206, 304, 400, 404, 500][index - 8]),
        Representation::Literal { name: 8..=14, value, .. } => Some(digits(value)),
        _ => None,
    })
}

/// Three digits, plain or by Huffman's code (RFC 7541 appendix B): 0 to 2 have five bits, the others six.
fn digits(text: &[u8]) -> u16 {
    if let Some(plain) = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
        return plain;
    }
    let bits = text.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = 8 * u32::try_from(text.len()).unwrap();
    let mut number = 0;
    for _ in 0..3 {
        let take = |count: u32| bits >> (left - count) & ((1 << count) - 1);
        let (digit, count) = if take(5) < 3 { (take(5), 5) } else { (take(6) - 0x19 + 3, 6) };
        left -= count;
        number = number * 10 + digit;
    }
    u16::try_from(number).unwrap()
}
