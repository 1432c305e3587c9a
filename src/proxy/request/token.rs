//! Random tokens: request ids and affinity keys.

use crate::algorithm::random::random;

/// A random token of 128 bits in hexadecimal: a request id or an affinity key.
pub(crate) fn random_token() -> String {
    String::from_utf8_lossy(&token()).into_owned()
}

/// Like [`random_token`], without memory of its own.
pub(crate) fn token() -> [u8; 32] {
    let bits = (u128::from(random()) << 64) | u128::from(random());
    std::array::from_fn(|at| {
        let digit = (bits >> (124 - 4 * at)) & 0xF;
        b"0123456789abcdef".get(usize::try_from(digit).unwrap_or_default()).copied().unwrap_or(b'0')
    })
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
}
