//! Randomness of one seed: xoshiro256** (Blackman and Vigna, public domain), seeded by splitmix64.
//!
//! INVARIANT: nothing in the simulator is random except through this, so that a seed names one run.

/// A chance in 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Odds(pub(crate) u32);

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut mixed = seed;
        let state = std::array::from_fn(|_| {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `n` (0 for an `n` of 0): multiply and shift, whose bias is far below what a seed can
    /// show.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(n);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// An index into something of `len` items; `len` is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        assert!(len > 0, "an index into nothing");
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True with these odds.
    pub(crate) fn hits(&mut self, odds: Odds) -> bool {
        odds.0 > 0 && self.below(10_000) < u64::from(odds.0)
    }

    /// True in `percent` of the draws.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.hits(Odds(percent * 100))
    }

    /// One of `items`, which are not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = self.index(items.len());
        &items[at]
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for the state 1, 2, 3, 4, as the reference code prints them.
    #[test]
    fn the_generator_is_xoshiro256_star_star() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..4).map(|_| rng.bits()).collect();
        assert_eq!(first, [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn draws_stay_in_their_bounds_and_odds_are_met() {
        let mut rng = Rng::new(7);
        let mut hits = 0;
        let mut seen = [false; 6];
        for _ in 0..10_000 {
            let drawn = rng.between(5, 10);
            assert!((5..=10).contains(&drawn));
            seen[usize::try_from(drawn - 5).expect("at most 5")] = true;
            hits += u32::from(rng.hits(Odds(2_500)));
            assert!(!rng.hits(Odds(0)) && rng.hits(Odds(10_000)));
        }
        assert!(seen.iter().all(|s| *s));
        assert!((2_300..2_700).contains(&hits), "{hits} of 10,000 at odds of 2,500");
        let mut shuffled = [1, 2, 3, 4, 5, 6, 7, 8];
        rng.shuffle(&mut shuffled);
        assert_ne!(shuffled, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
