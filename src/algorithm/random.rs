//! SplitMix64 (Steele, Lea and Flood: Fast splittable pseudorandom number generators, 2014): fast, well spread, not secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A sequence of numbers that its seed decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The next number of this thread's own sequence, which is seeded once.
pub(crate) fn random() -> u64 {
    thread_local! {
        static SEQUENCE: Cell<SplitMix64> =
            Cell::new(SplitMix64(RandomState::new().hash_one(std::thread::current().id())));
    }
    SEQUENCE.with(|sequence| {
        let mut own = sequence.get();
        let number = own.next();
        sequence.set(own);
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_reference() {
        // From the reference implementation, seeded with 1234567.
        let mut sequence = SplitMix64(1_234_567);
        assert_eq!(
            [(); 3].map(|()| sequence.next()),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_thread_has_a_sequence_of_its_own() {
        assert_ne!(random(), random());
        assert_ne!(random(), std::thread::spawn(random).join().unwrap());
    }
}
