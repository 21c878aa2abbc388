//! Random numbers from a seed: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
//! generators", 2014).
//!
//! Purpose: entropy for a board without a hardware generator, seeded with what differs from device
//! to device and from boot to boot; and simulations that can be run again.
//!
//! What it does not do: no cryptography.

use crate::board::Entropy;

/// The generator.
#[derive(Debug, Clone)]
pub struct SplitMix(u64);

impl SplitMix {
    /// Starts from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        SplitMix(seed)
    }

    /// Evenly from `0..end`, near enough.
    pub fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.random_u32()) * u64::from(end)) >> 32) as u32
    }
}

impl Entropy for SplitMix {
    fn random_u32(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        // The first outputs of SplitMix64 for seed 0: 0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4.
        let mut random = SplitMix::new(0);
        assert_eq!([random.random_u32(), random.random_u32()], [0xe220_a839, 0x6e78_9e6a]);
    }
}
