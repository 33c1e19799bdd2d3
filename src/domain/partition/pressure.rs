//! Whether a partition has more pressing work than snapshots for the sake of reading: it falls further behind
//! the log, or memory is short and nothing can be evicted.
//!
//! SUBTLE: to be far behind is no reason. A partition that starts at the log's beginning is behind for hours
//! and comes nearer all the time; what counts is that the distance grows. It is over once the distance falls,
//! or is small.

use crate::domain::ids::Offset;
use std::collections::VecDeque;

/// How long the distance is looked at to say that it grows or falls.
const WINDOW_MS: u64 = 5_000;
/// Between two looks that are remembered.
const MARK_MS: u64 = 500;
/// Ends of the log that are remembered, to tell how long ago the log ended at the position.
const ENDS_MAX: usize = 512;
/// How long memory counts as short after it was.
const MEMORY_MS: u64 = 1_000;

/// How far a partition may fall behind before it is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// Records between the position and the log's end.
    pub records_max: u64,
    /// Milliseconds since the log ended at the position.
    pub ms_max: u64,
}

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// Monotonic time and distance, oldest first, within the window and one before it.
    marks: VecDeque<(u64, u64)>,
    /// The log's ends beyond the position and when each was first heard of.
    ends: VecDeque<(Offset, u64)>,
    falls_behind: bool,
    memory_until_ms: u64,
}

impl Pressure {
    pub(super) fn is_on(&self, now_ms: u64) -> bool {
        self.falls_behind || now_ms < self.memory_until_ms
    }

    /// Memory is over its limit, and nothing is clean.
    pub(super) fn memory_is_short(&mut self, now_ms: u64) {
        self.memory_until_ms = now_ms + MEMORY_MS;
    }

    /// The log ends at `end`, and is folded up to `reached`.
    pub(super) fn note(&mut self, end: Offset, reached: Offset, limits: BackOff, now_ms: u64) {
        let behind = u64::try_from(end.0 - reached.0).unwrap_or(0);
        while self.ends.front().is_some_and(|(known, _)| *known <= reached) {
            self.ends.pop_front();
        }
        if end > reached && self.ends.back().is_none_or(|(known, _)| *known < end) {
            // A log that ends elsewhere all the time is known roughly.
            if self.ends.len() == ENDS_MAX {
                let mut nth = 0;
                self.ends.retain(|_| {
                    nth += 1;
                    nth % 2 == 1
                });
            }
            self.ends.push_back((end, now_ms));
        }
        let behind_ms = self.ends.front().map_or(0, |(_, at)| now_ms.saturating_sub(*at));
        if self.marks.back().is_none_or(|(at, _)| now_ms >= *at + MARK_MS) {
            self.marks.push_back((now_ms, behind));
        }
        while self.marks.get(1).is_some_and(|(at, _)| now_ms.saturating_sub(*at) >= WINDOW_MS) {
            self.marks.pop_front();
        }
        let before = self.marks.front().filter(|(at, _)| now_ms.saturating_sub(*at) >= WINDOW_MS);
        let is_far = |part: u64| behind > limits.records_max / part || behind_ms > limits.ms_max / part;
        self.falls_behind = match (self.falls_behind, before) {
            (false, Some((_, before))) => is_far(1) && behind > *before,
            (false, None) => false,
            (true, before) => is_far(2) && before.is_none_or(|(_, before)| behind >= *before),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BackOff = BackOff { records_max: 1_000, ms_max: 10_000 };

    /// The distance second by second, and whether the partition is held back after each.
    fn told(distances: impl IntoIterator<Item = i64>) -> Vec<bool> {
        let mut pressure = Pressure::default();
        let mut reached = 0;
        let told = distances.into_iter().zip(0..).map(|(distance, second)| {
            reached += 10_000;
            pressure.note(Offset(reached + distance), Offset(reached), LIMITS, second * 1_000);
            pressure.is_on(second * 1_000)
        });
        told.collect()
    }

    #[test]
    fn only_a_distance_that_is_large_and_grows_holds_back() {
        assert!(told((0..30).map(|second| second * 300)).contains(&true));
        assert!(!told(std::iter::repeat_n(50_000, 30)).contains(&true), "far, but no further");
        assert!(!told((0..30).map(|second| 500_000 - second * 1_000)).contains(&true), "it comes nearer");
        assert!(!told((0..30).map(|second| second * 10)).contains(&true), "it is near");
    }

    #[test]
    fn it_is_over_once_the_distance_falls_or_is_small() {
        let up = (0..15).map(|second| second * 1_000);
        let held = told(up.clone().chain((0..10).map(|second| 14_000 - second * 1_500)));
        assert_eq!((held[14], held[24]), (true, false), "{held:?}");
        let held = told(up.clone().chain([100]));
        assert_eq!((held[14], held[15]), (true, false), "caught up");
        let held = told(up.chain(std::iter::repeat_n(14_000, 10)));
        assert!(held[24], "as far behind as before: it waits on");
    }

    #[test]
    fn a_log_that_is_slow_but_not_folded_at_all_counts_by_time() {
        let mut pressure = Pressure::default();
        for second in 0..=20 {
            pressure.note(Offset(i64::try_from(second).unwrap()), Offset(0), LIMITS, second * 1_000);
            assert_eq!(pressure.is_on(second * 1_000), second > 11, "{second}");
        }
    }

    #[test]
    fn short_memory_holds_back_for_a_second() {
        let mut pressure = Pressure::default();
        pressure.memory_is_short(5_000);
        assert!(pressure.is_on(5_999) && !pressure.is_on(6_000));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pressure = Pressure::default();
        for at in 0..100_000 {
            pressure.note(Offset(i64::try_from(at).unwrap() + 1), Offset(0), LIMITS, at * 100);
        }
        assert!(pressure.ends.len() <= ENDS_MAX && pressure.marks.len() <= 12);
    }
}
