//! Huffman's code of HPACK strings (RFC 7541 §5.2, appendix B), twelve bits and up to two symbols at a time.

/// Appends what `source` means to `out`; none if it is no valid code.
pub(crate) fn decode(source: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    // The shortest codes have five bits.
    out.resize(start + source.len() * 8 / 5 + WRITTEN, 0);
    let length = decode_into(source, out.get_mut(start..)?);
    out.truncate(start + length.unwrap_or(0));
    length.map(|_| ())
}

/// Writes what `source` means to the beginning of `room`, and returns how much that is.
fn decode_into(source: &[u8], room: &mut [u8]) -> Option<usize> {
    let (mut bits, mut length) = (Bits::new(source), 0);
    while bits.held >= AT_ONCE * LOOKED_UP {
        // Without a branch for each: where there is a longer code, nothing more comes.
        let (mut symbols, mut written, mut used) = (0, 0, 0);
        for _ in 0..AT_ONCE {
            let found = bits.look_up()?;
            symbols |= u64::from(found.symbols()) << written;
            written += found.written();
            used = found.bits();
            bits.drop(used);
        }
        *room.get_mut(length..)?.first_chunk_mut()? = symbols.to_le_bytes();
        length += written as usize / 8;
        bits.fill();
        if used == 0 {
            length += bits.long_code(room.get_mut(length)?)?;
            bits.fill();
        }
    }
    loop {
        let found = bits.look_up()?;
        let [first, second] = found.symbols().to_le_bytes();
        let place = room.get_mut(length..)?.first_chunk_mut()?;
        if found.bits() == 0 && bits.held > LOOKED_UP {
            let [place, _] = place;
            length += bits.long_code(place)?;
        } else if found.first() == 0 || found.first() > bits.held {
            // Padding is fewer than eight ones.
            return (bits.held < 8 && bits.window == 0).then_some(length);
        } else if found.bits() > bits.held {
            *place = [first, 0];
            length += 1;
            bits.drop(found.first());
        } else {
            *place = [first, second];
            length += found.written() as usize / 8;
            bits.drop(found.bits());
        }
    }
}

/// Every byte by its code, and ones up to the end of the last byte. Only tests write this code.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut held, mut bits) = (Vec::new(), 0_u64, 0);
    for byte in text {
        let length = *LENGTHS.get(usize::from(*byte))?;
        let level = LEVELS.get(usize::from(length))?;
        let at = SYMBOLS.get(level.symbols..)?.iter().position(|symbol| symbol == byte)?;
        held = (held << length) | (u64::from(level.first) + u64::try_from(at).ok()?);
        bits += u32::from(length);
        while bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xFF).ok()?);
        }
    }
    if bits > 0 {
        out.push(u8::try_from((held << (8 - bits) | 0xFF >> bits) & 0xFF).ok()?);
    }
    Some(out)
}

/// Bits that are read from the first one on.
struct Bits<'a> {
    rest: &'a [u8],
    /// The last bytes of all, inverted.
    last: u64,
    /// The next bits, from the highest one down, each inverted: what is missing at the end reads as ones then, which
    /// padding is (RFC 7541 §5.2).
    window: u64,
    /// How many bits of the window count.
    held: u32,
}

impl<'a> Bits<'a> {
    fn new(source: &'a [u8]) -> Self {
        let last = match source.last_chunk() {
            Some(last) => u64::from_be_bytes(*last),
            None => source.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
        };
        let mut bits = Self { rest: source, last: !last, window: 0, held: 0 };
        bits.fill();
        bits
    }

    /// Holds at least 56 bits afterwards, or all that there are.
    #[inline]
    fn fill(&mut self) {
        let mut taken = (63 - self.held) / 8;
        let next = match self.rest.first_chunk() {
            Some(next) => !u64::from_be_bytes(*next),
            None => {
                let left = u32::try_from(self.rest.len()).unwrap_or_default();
                taken = taken.min(left);
                self.last.checked_shl(u64::BITS - left * 8).unwrap_or(0)
            }
        };
        // Bits that do not count yet come again, and are the same.
        self.window |= next >> self.held;
        self.held += taken * 8;
        self.rest = self.rest.get(taken as usize..).unwrap_or_default();
    }

    #[inline]
    fn drop(&mut self, bits: u32) {
        self.window <<= bits;
        self.held -= bits;
    }

    /// What the next twelve bits are.
    #[inline]
    fn look_up(&self) -> Option<Found> {
        FOUND.get((self.window >> (u64::BITS - LOOKED_UP)) as usize).copied()
    }

    /// Takes the next symbol, whose code is longer than those that are looked up; how many symbols that is.
    #[cold]
    fn long_code(&mut self, room: &mut u8) -> Option<usize> {
        let (symbol, length) = (LOOKED_UP + 1..=self.held.min(LONGEST)).find_map(|length| {
            let code = u32::try_from(!self.window >> (u64::BITS - length)).ok()?;
            let level = LEVELS.get(length as usize)?;
            let at = code.checked_sub(level.first).filter(|at| *at < level.count)?;
            Some((*SYMBOLS.get(level.symbols + at as usize)?, length))
        })?;
        *room = symbol;
        self.drop(length);
        Some(1)
    }
}

/// The longest code.
const LONGEST: u32 = 30;
/// Bits that are looked up together: two codes of nearly all letters.
const LOOKED_UP: u32 = 12;
/// How often that is done without a look at what is left: a refilled window has bits enough.
const AT_ONCE: u32 = 4;
/// Bytes that are written at once: two for each look.
const WRITTEN: usize = 8;

/// What twelve bits begin with: two symbols, or one and the beginning of the next, or the beginning of a longer code. In
/// four bytes from the lowest: the symbols, the length of the first code and whether there are two symbols, the length
/// of all codes. Lengths are 0 if there is no symbol.
#[derive(Clone, Copy)]
struct Found(u32);

impl Found {
    const fn new(symbols: [u8; 2], first: u32, bits: u32) -> Self {
        let count = if bits == 0 { 0 } else { (bits > first) as u32 + 1 };
        Self(symbols[0] as u32 | (symbols[1] as u32) << 8 | (count * 8) << 16 | first << 21 | bits << 26)
    }

    /// The symbols, the first one in the lower byte; 0 where there is none.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower bytes are wanted")]
    fn symbols(self) -> u16 {
        self.0 as u16
    }

    /// How many bits the symbols have: 0, 8 or 16.
    #[inline]
    fn written(self) -> u32 {
        self.0 >> 16 & 0x1F
    }

    /// The length of the first code.
    #[inline]
    fn first(self) -> u32 {
        self.0 >> 21 & 0x1F
    }

    /// The length of all codes.
    #[inline]
    fn bits(self) -> u32 {
        self.0 >> 26
    }
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

/// By twelve inverted bits.
static FOUND: [Found; 1 << LOOKED_UP] = found();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
const fn found() -> [Found; 1 << LOOKED_UP] {
    let mut found = [Found(0); 1 << LOOKED_UP];
    let mut at = 0;
    while at < 1 << LOOKED_UP {
        let bits = !at & ((1 << LOOKED_UP) - 1);
        let (first, length) = single(bits, LOOKED_UP);
        let left = LOOKED_UP - length;
        let (second, more) = if length > 0 { single(bits & ((1 << left) - 1), left) } else { (0, 0) };
        found[at as usize] = Found::new([first, second], length, length + more);
        at += 1;
    }
    found
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

    #[test]
    fn the_rfcs_strings_are_read() {
        let www = [0xF1, 0xE3, 0xC2, 0xE5, 0xF2, 0x3A, 0x6B, 0xA0, 0xAB, 0x90, 0xF4, 0xFF];
        assert_eq!(decoded(&www).as_deref(), Some(&b"www.example.com"[..]));
        assert_eq!(encode(b"www.example.com").as_deref(), Some(&www[..]));
        assert_eq!(decoded(&[0xA8, 0xEB, 0x10, 0x64, 0x9C, 0xBF]).as_deref(), Some(&b"no-cache"[..]));
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn every_byte_has_its_code() {
        let all: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
        assert_eq!(decoded(&encode(&all).unwrap()), Some(all.clone()));
        for byte in all {
            assert_eq!(decoded(&encode(&[byte]).unwrap()), Some(vec![byte]));
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
