//! How long ago the event at the low watermark was folded. Marks of (position, time) lie so far apart that an
//! age is right to a second or to a 64th, whichever is more; so no time has to be kept with every offset.

use crate::domain::ids::Offset;
use std::collections::VecDeque;

/// Between two marks, at least.
const MARK_MS: u64 = 1_000;
/// Marks within the age of the oldest one.
const MARKS_OF_AGE: u64 = 64;
/// Marks that are kept: enough for months in which the low watermark crawls.
const MARKS_MAX: usize = 1_024;

/// When which position was first seen.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<(Offset, u64)>);

impl Ages {
    /// Notes how far everything is, and answers the age of the oldest uncovered event in milliseconds, never
    /// more than it is; 0 if all is covered.
    pub(super) fn note(&mut self, low: Offset, position: Offset, now_ms: u64) -> u64 {
        while self.0.front().is_some_and(|(marked, _)| *marked <= low) {
            self.0.pop_front();
        }
        let age_ms = self.0.front().map_or(0, |(_, at)| now_ms.saturating_sub(*at));
        let spacing_ms = MARK_MS.max(age_ms / MARKS_OF_AGE);
        let is_new =
            self.0.back().is_none_or(|(marked, at)| *marked < position && now_ms >= *at + spacing_ms);
        if position > low && is_new && self.0.len() < MARKS_MAX {
            self.0.push_back((position, now_ms));
        }
        age_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_first_event_that_nothing_covers() {
        let mut ages = Ages::default();
        assert_eq!(ages.note(Offset(5), Offset(5), 1_000), 0);
        assert_eq!(ages.note(Offset(5), Offset(8), 2_000), 0, "folded just now");
        assert_eq!(ages.note(Offset(5), Offset(9), 7_000), 5_000);
        assert_eq!(ages.note(Offset(8), Offset(9), 8_000), 1_000, "offset 8 was folded at 7,000");
        assert_eq!(ages.note(Offset(9), Offset(9), 9_000), 0, "all is covered");
        assert_eq!(ages.note(Offset(9), Offset(10), 20_000), 0, "the time before counts for nothing");
    }

    #[test]
    fn a_watermark_that_crawls_ages_and_the_marks_stay_few() {
        let mut ages = Ages::default();
        let mut age = 0;
        for second in 0..10_000 {
            age = ages.note(Offset(second / 2), Offset(second + 1), 1_000 * u64::try_from(second).unwrap());
        }
        assert!((4_900_000..=5_100_000).contains(&age), "{age}");
        assert!(ages.0.len() <= MARKS_MAX);
    }
}
