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
