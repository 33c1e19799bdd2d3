//! How long ago the event at the low watermark was folded. Marks of (position, time), one a second at the
//! most, so that no time has to be kept with every offset.

use crate::domain::ids::Offset;
use std::collections::VecDeque;

/// Between two marks.
const MARK_MS: u64 = 1_000;
/// Marks that are kept; beyond it every other one goes, and an age is less exact.
const MARKS_MAX: usize = 256;

/// When which position was first seen.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<(Offset, u64)>);

impl Ages {
    /// Notes how far everything is, and answers the age of the oldest uncovered event in milliseconds: at most
    /// a second less than it is, while all marks are kept; 0 if all is covered.
    pub(super) fn note(&mut self, low: Offset, position: Offset, now_ms: u64) -> u64 {
        while self.0.front().is_some_and(|(marked, _)| *marked <= low) {
            self.0.pop_front();
        }
        let is_new = self.0.back().is_none_or(|(marked, at)| *marked < position && now_ms >= *at + MARK_MS);
        if position > low && is_new {
            self.0.push_back((position, now_ms));
            if self.0.len() > MARKS_MAX {
                // The oldest stays: its age is the one that is asked for.
                let mut at = 0;
                self.0.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
            }
        }
        self.0.front().map_or(0, |(_, at)| now_ms.saturating_sub(*at))
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
