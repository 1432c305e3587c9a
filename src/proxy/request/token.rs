//! Random tokens: request ids and affinity keys.

use crate::algorithm::random::random;

/// A random token of 128 bits in hexadecimal: a request id or an affinity key.
pub(crate) fn random_token() -> String {
    String::from_utf8_lossy(&token()).into_owned()
}

/// Like [`random_token`], without memory of its own.
pub(crate) fn token() -> [u8; 32] {
    let mut token = [0; 32];
    let (digits, _) = token.as_chunks_mut();
    let bits = [random(), random()].into_iter().flat_map(|bits| [bits >> 32, bits & 0xFFFF_FFFF]);
    digits.iter_mut().zip(bits).for_each(|(digits, bits)| *digits = hexadecimal(bits));
    token
}

/// The digits of a number of 32 bits, all eight at once.
fn hexadecimal(bits: u64) -> [u8; 8] {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    // Half a word, a quarter, an eighth: one digit in each byte in the end.
    let spread = (bits | (bits << 16)) & 0x0000_FFFF_0000_FFFF;
    let spread = (spread | (spread << 8)) & 0x00FF_00FF_00FF_00FF;
    let digits = (spread | (spread << 4)) & (EACH * 0x0F);
    // 10 and more carry into the fifth bit with 6; letters are so much further than digits.
    let letters = ((digits + EACH * 6) >> 4) & EACH;
    (digits + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// A key for the handshake of WebSocket: 16 random bytes in Base64 (RFC 6455 §4.1).
pub(crate) fn websocket_key() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = (u128::from(random()) << 64) | u128::from(random());
    let mut key = String::with_capacity(24);
    // 21 digits of six bits, and two bits that are the high ones of the last.
    for at in 0..22 {
        let digit = if at < 21 { bits & 0x3F } else { (bits & 0x3) << 4 };
        bits >>= 6;
        let digit = usize::try_from(digit).unwrap_or_default();
        key.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'A')));
    }
    key.push_str("==");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tokens_differ() {
        let tokens: std::collections::HashSet<String> = (0..1_000).map(|_| random_token()).collect();
        assert_eq!(tokens.len(), 1_000);
        assert!(tokens.iter().all(|token| token.len() == 32));
    }

    proptest::proptest! {
        #[test]
        fn digits_are_those_of_the_standard_library(bits: u32) {
            let digits = format!("{bits:08x}");
            proptest::prop_assert_eq!(&hexadecimal(bits.into())[..], digits.as_bytes());
        }
    }
}
