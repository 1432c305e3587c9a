//! Random tokens: request ids and affinity keys.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A random token of 128 bits in hexadecimal: a request id or an affinity key.
pub(crate) fn random_token() -> String {
    String::from_utf8_lossy(&token()).into_owned()
}

/// Like [`random_token`], without memory of its own.
pub(crate) fn token() -> [u8; 32] {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id()));
    }
    // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). Unique, not secret.
    let next = || {
        STATE.with(|state| {
            let seed = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            state.set(seed);
            let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        })
    };
    let bits = (u128::from(next()) << 64) | u128::from(next());
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
