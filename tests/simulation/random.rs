//! The simulator's only source of chance.
//!
//! PURE: SplitMix64. One seed, one schedule.

use std::ops::RangeInclusive;

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x6c65_6173_6568_6f6c)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from `range`.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let span = u128::from(range.end() - range.start()) + 1;
        range.start() + u64::try_from((u128::from(self.next()) * span) >> 64).expect("below a u64 span")
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.within(0..=end as u64 - 1)).expect("below a usize")
    }

    /// True once in `1000 / per_mille` times.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.within(0..=999) < per_mille
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// From `range`, each order of magnitude as likely as the next: short is as interesting as long.
    pub fn magnitude(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        let (mut floor, mut steps) = (low.max(1), 0);
        while floor.saturating_mul(4) < high {
            floor *= 4;
            steps += 1;
        }
        let step = self.within(0..=steps);
        let from = low.max(1) << (2 * step);
        self.within(from.min(high)..=from.saturating_mul(4).min(high))
    }
}
