//! `Spread`: how many durations took at most so long, in a few steps. Enough for a percentile and for a
//! histogram, small enough to be copied with every status.

/// Upper bounds of the steps in milliseconds; what takes longer is counted behind the last.
pub const BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];

/// Durations by step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread([u64; BOUNDS_MS.len() + 1]);

impl Spread {
    /// Counts one duration.
    pub fn add(&mut self, ms: u64) {
        self.0[BOUNDS_MS.partition_point(|bound| *bound < ms)] += 1;
    }

    /// How many there are by step: at most each of [`BOUNDS_MS`], and longer.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.0
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The bound below which at least `percent` of all durations are; none if there are no durations, or if
    /// that many took longer than the last bound.
    #[must_use]
    pub fn percentile_ms(&self, percent: u64) -> Option<u64> {
        let wanted = (self.total() * percent).div_ceil(100);
        let mut seen = 0;
        let step = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        BOUNDS_MS.get(step.filter(|_| wanted > 0)?).copied()
    }

    /// The durations of both.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_below_the_bound_that_they_reach() {
        let mut spread = Spread::default();
        assert_eq!(spread.percentile_ms(99), None);
        [0, 1, 2, 3, 250, 251, 30_000].into_iter().for_each(|ms| spread.add(ms));
        assert_eq!(spread.counts(), [2, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0]);
        assert_eq!((spread.percentile_ms(50), spread.percentile_ms(80)), (Some(5), Some(500)));
        assert_eq!(spread.percentile_ms(100), Some(30_000));
        spread.add(30_001);
        assert_eq!((spread.percentile_ms(100), spread.total()), (None, 8));
        assert_eq!(spread.with(&spread).total(), 16);
    }
}
