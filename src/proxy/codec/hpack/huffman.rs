//! Huffman's code of HPACK strings (RFC 7541 §5.2, appendix B), twelve bits and up to two symbols at a time.

/// Appends what `source` means to `out`; none if it is no valid code.
pub(super) fn decode(source: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    // The shortest codes have five bits, and a pair is written as a whole.
    out.resize(start + source.len() * 8 / 5 + 2, 0);
    let length = decode_into(source, out.get_mut(start..)?);
    out.truncate(start + length.unwrap_or(0));
    length.map(|_| ())
}

/// Writes what `source` means to the beginning of `room`, and returns how much that is.
fn decode_into(source: &[u8], room: &mut [u8]) -> Option<usize> {
    let mut bits = Bits { rest: source, window: 0, held: 0 };
    let mut length = 0;
    loop {
        bits.fill();
        while bits.held >= LOOKED_UP {
            let pair = bits.pair()?;
            if pair.bits == 0 {
                break;
            }
            *room.get_mut(length..)?.first_chunk_mut()? = pair.symbols;
            length += if pair.bits == pair.first { 1 } else { 2 };
            bits.drop(u32::from(pair.bits));
        }
        if bits.held >= LOOKED_UP {
            if bits.held < LONGEST && !bits.rest.is_empty() {
                continue;
            }
            let (symbol, code) = bits.long_code()?;
            *room.get_mut(length)? = symbol;
            length += 1;
            bits.drop(code);
        } else if bits.rest.is_empty() {
            break;
        }
    }
    // The last codes, in the place of what is missing ones.
    loop {
        let held = bits.held;
        let padded = Bits { rest: &[], window: bits.window | u64::MAX.checked_shr(held).unwrap_or(0), held };
        let pair = padded.pair()?;
        if pair.bits == 0 || u32::from(pair.first) > held {
            // Padding is fewer than eight ones.
            return (held < 8 && padded.window == u64::MAX).then_some(length);
        }
        *room.get_mut(length)? = *pair.symbols.first()?;
        length += 1;
        bits.drop(u32::from(pair.first));
    }
}

/// Bits that are read from the first one on.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next ones, from the highest bit down.
    window: u64,
    /// How many of the window are there.
    held: u32,
}

impl Bits<'_> {
    /// Holds at least 56 bits afterwards, or all that there are.
    #[inline]
    fn fill(&mut self) {
        if let Some(next) = self.rest.first_chunk() {
            self.window |= u64::from_be_bytes(*next) >> self.held;
            let taken = (63 - self.held) / 8;
            self.rest = self.rest.get(taken as usize..).unwrap_or_default();
            self.held += taken * 8;
            return;
        }
        while self.held <= 56
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(*byte) << (56 - self.held);
            self.held += 8;
            self.rest = rest;
        }
    }

    #[inline]
    fn drop(&mut self, bits: u32) {
        self.window <<= bits;
        self.held -= bits;
    }

    /// What the next twelve bits are.
    #[inline]
    fn pair(&self) -> Option<Pair> {
        PAIRS.get((self.window >> (u64::BITS - LOOKED_UP)) as usize).copied()
    }

    /// The next symbol, whose code is longer than those that are looked up, and the length of its code.
    fn long_code(&self) -> Option<(u8, u32)> {
        (LOOKED_UP + 1..=self.held.min(LONGEST)).find_map(|length| {
            let code = u32::try_from(self.window >> (u64::BITS - length)).ok()?;
            let level = LEVELS.get(length as usize)?;
            let at = code.checked_sub(level.first).filter(|at| *at < level.count)?;
            Some((*SYMBOLS.get(level.symbols + at as usize)?, length))
        })
    }
}

/// The longest code.
const LONGEST: u32 = 30;
/// Bits that are looked up at once: two codes of nearly all letters.
const LOOKED_UP: u32 = 12;

/// What twelve bits begin with: two symbols, or one and the beginning of the next, or the beginning of a longer code.
#[derive(Clone, Copy)]
struct Pair {
    symbols: [u8; 2],
    /// The length of the first code.
    first: u8,
    /// The length of both codes, or of the one; 0 if there is none.
    bits: u8,
}

/// Codes of one length: the first one, how many, and where their symbols begin in [`SYMBOLS`].
#[derive(Clone, Copy)]
struct Level {
    first: u32,
    count: u32,
    symbols: usize,
}

const LEVELS: [Level; 31] = levels().0;
const SYMBOLS: [u8; 256] = levels().1;

static PAIRS: [Pair; 1 << LOOKED_UP] = pairs();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler; lengths are small"
)]
const fn pairs() -> [Pair; 1 << LOOKED_UP] {
    let mut pairs = [Pair { symbols: [0; 2], first: 0, bits: 0 }; 1 << LOOKED_UP];
    let mut bits = 0;
    while bits < 1 << LOOKED_UP {
        let (first, length) = single(bits, LOOKED_UP);
        let left = LOOKED_UP - length;
        let (second, more) = if length > 0 { single(bits & ((1 << left) - 1), left) } else { (0, 0) };
        pairs[bits as usize] = Pair { symbols: [first, second], first: length as u8, bits: (length + more) as u8 };
        bits += 1;
    }
    pairs
}

/// The first symbol in so many bits and the length of its code; 0 if it is a longer one.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
const fn single(bits: u32, available: u32) -> (u8, u32) {
    let mut length = 1;
    while length <= available {
        let level = LEVELS[length as usize];
        let code = bits >> (available - length);
        if code >= level.first && code - level.first < level.count {
            return (SYMBOLS[level.symbols + (code - level.first) as usize], length);
        }
        length += 1;
    }
    (0, 0)
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
const fn levels() -> ([Level; 31], [u8; 256]) {
    let mut levels = [Level { first: 0, count: 0, symbols: 0 }; 31];
    let mut symbols = [0; 256];
    let (mut code, mut at, mut length) = (0_u32, 0_usize, 1_u8);
    while length <= 30 {
        code <<= 1;
        let level = &mut levels[length as usize];
        level.first = code;
        level.symbols = at;
        let mut byte = 0_u8;
        loop {
            if LENGTHS[byte as usize] == length {
                symbols[at] = byte;
                at += 1;
                code += 1;
                level.count += 1;
            }
            if byte == u8::MAX {
                break;
            }
            byte += 1;
        }
        length += 1;
    }
    (levels, symbols)
}

/// The length of each byte's code. Codes are canonical: of one length they count up in the order of the bytes.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(source: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(source, &mut out).map(|()| out)
    }

    /// Every byte by its code, and ones up to the end of the last byte.
    fn encoded(text: &[u8]) -> Vec<u8> {
        let (mut out, mut held, mut bits) = (Vec::new(), 0_u64, 0);
        for byte in text {
            let length = u32::from(LENGTHS[usize::from(*byte)]);
            let level = LEVELS[usize::try_from(length).unwrap()];
            let at = SYMBOLS[level.symbols..].iter().position(|symbol| symbol == byte).unwrap();
            held = held << length | u64::from(level.first + u32::try_from(at).unwrap());
            bits += length;
            while bits >= 8 {
                bits -= 8;
                out.push(u8::try_from(held >> bits & 0xFF).unwrap());
            }
        }
        if bits > 0 {
            out.push(u8::try_from((held << (8 - bits) | 0xFF >> bits) & 0xFF).unwrap());
        }
        out
    }

    #[test]
    fn the_rfcs_strings_are_read() {
        let www = [0xF1, 0xE3, 0xC2, 0xE5, 0xF2, 0x3A, 0x6B, 0xA0, 0xAB, 0x90, 0xF4, 0xFF];
        assert_eq!(decoded(&www).as_deref(), Some(&b"www.example.com"[..]));
        assert_eq!(encoded(b"www.example.com"), www);
        assert_eq!(decoded(&[0xA8, 0xEB, 0x10, 0x64, 0x9C, 0xBF]).as_deref(), Some(&b"no-cache"[..]));
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn every_byte_has_its_code() {
        let all: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
        assert_eq!(decoded(&encoded(&all)), Some(all.clone()));
        for byte in all {
            assert_eq!(decoded(&encoded(&[byte])), Some(vec![byte]));
        }
    }

    #[test]
    fn wrong_padding_and_the_end_of_string_are_refused() {
        // `0` has five bits; then zeros, a whole byte of ones, and EOS.
        for wrong in [&[0x00_u8][..], &[0x07, 0xFF], &[0xFF], &[0xFF; 4], &[0xFF, 0xFF, 0xFF, 0xFC]] {
            let read = decoded(wrong);
            assert!(read.is_none(), "{wrong:x?}: {read:?}");
        }
    }
}
