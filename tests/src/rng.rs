//! Random numbers from a seed that is printed, so that a failed run can be repeated.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose moments.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From `TEST_SEED` if it is set, else from the wall clock's nanoseconds; prints which.
    ///
    /// # Panics
    /// `TEST_SEED` is no number.
    #[must_use]
    pub fn from_environment(name: &str) -> Self {
        let seed = match std::env::var("TEST_SEED") {
            Ok(text) => text.parse().expect("TEST_SEED is a decimal number"),
            Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), name),
        };
        eprintln!("{name}: TEST_SEED={seed} repeats it");
        Self(seed)
    }

    /// From a given seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next_u64() % (high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(0, 99) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_within_their_bounds() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for _ in 0..1000 {
            let n = a.between(3, 9);
            assert!((3..=9).contains(&n));
            assert_eq!(n, b.between(3, 9));
        }
    }
}
