//! Huffman's code of HPACK strings (RFC 7541 §5.2, appendix B).

/// Appends what `source` means to `out`; none if it is no valid code.
pub(super) fn decode(source: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut source = source.iter();
    // The bits that are wanted are the upper ones of `window`.
    let (mut window, mut bits) = (0_u64, 0_u32);
    loop {
        while bits <= 56
            && let Some(byte) = source.next()
        {
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let Some((symbol, length)) = symbol(window, bits) else { break };
        out.push(symbol);
        window <<= length;
        bits -= length;
    }
    // What is left is padding: fewer than eight ones.
    (bits < 8 && !window & !(u64::MAX >> bits) == 0).then_some(())
}

/// The first symbol in so many upper bits of `window`, and the length of its code.
fn symbol(window: u64, bits: u32) -> Option<(u8, u32)> {
    let (symbol, length) = *SHORT.get(usize::try_from(window >> 56).ok()?)?;
    if length > 0 {
        return Some((symbol, length)).filter(|_| length <= bits);
    }
    (OCTET + 1..=bits.min(LONGEST)).find_map(|length| {
        let code = u32::try_from(window >> (64 - length)).ok()?;
        let level = LEVELS.get(usize::try_from(length).ok()?)?;
        let at = code.checked_sub(level.first).filter(|at| *at < level.count)?;
        let symbol = SYMBOLS.get(level.symbols + usize::try_from(at).ok()?)?;
        Some((*symbol, length))
    })
}

/// The longest code.
const LONGEST: u32 = 30;
/// The longest code that is looked up by itself, which that of nearly every letter is.
const OCTET: u32 = 8;

/// Codes of one length: the first one, how many, and where their symbols begin in [`SYMBOLS`].
#[derive(Clone, Copy)]
struct Level {
    first: u32,
    count: u32,
    symbols: usize,
}

const LEVELS: [Level; 31] = levels().0;
const SYMBOLS: [u8; 256] = levels().1;

/// The symbol whose code eight bits begin with, and the code's length: 0 if it is a longer one.
static SHORT: [(u8, u32); 256] = short();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
const fn short() -> [(u8, u32); 256] {
    let mut short = [(0, 0); 256];
    let mut length = 1;
    while length <= OCTET {
        let level = LEVELS[length as usize];
        let mut at = 0;
        while at < level.count {
            let mut bits = (level.first + at) << (OCTET - length);
            while bits < (level.first + at + 1) << (OCTET - length) {
                short[bits as usize] = (SYMBOLS[level.symbols + at as usize], length);
                bits += 1;
            }
            at += 1;
        }
        length += 1;
    }
    short
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
