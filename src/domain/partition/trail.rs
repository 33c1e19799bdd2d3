//! The offsets of an aggregate's events since its newest snapshot row: what a full snapshot's row keeps, so
//! that the events before it can be read from the topic one by one.
//!
//! INVARIANT: while it is whole, a trail has exactly one offset for each version after the row. One that has
//! grown too long, or whose start is not known, is absent; the next row makes it whole again.

use crate::domain::ids::{Offset, Version};
use crate::domain::record::StoredEvent;
use std::collections::VecDeque;

/// Offsets that a trail may have: some 3 KiB in a row.
pub const TRAIL_MAX: usize = 1_024;

/// Offsets of the versions after `row`, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail(Option<VecDeque<Offset>>);

impl Trail {
    /// A trail of these offsets.
    pub(super) fn new(offsets: Option<Vec<Offset>>) -> Self {
        Self(offsets.filter(|offsets| offsets.len() <= TRAIL_MAX).map(VecDeque::from))
    }

    /// An event was folded.
    pub(super) fn push(&mut self, offset: Offset) {
        match &mut self.0 {
            Some(offsets)
                if offsets.len() < TRAIL_MAX && offsets.back().is_none_or(|last| *last < offset) =>
            {
                offsets.push_back(offset);
            }
            _ => self.0 = None,
        }
    }

    /// The newest row has moved from one version to another, the state being at `head`; `tail` are the events
    /// that nothing durable covers.
    pub(super) fn row_moved(
        &mut self,
        from: Version,
        to: Version,
        head: Version,
        tail: &VecDeque<StoredEvent>,
    ) {
        let covered = usize::try_from(to.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        let is_at_hand = tail.front().map_or(to == head, |event| event.version == to.next());
        match &mut self.0 {
            Some(offsets) => drop(offsets.drain(..covered.min(offsets.len()))),
            None if is_at_hand => {
                *self = Self::new(Some(tail.iter().map(|event| event.record.offset).collect()));
            }
            None => {}
        }
    }

    /// All offsets, if it is whole.
    pub(super) fn whole(&self) -> Option<Vec<Offset>> {
        self.0.as_ref().map(|offsets| offsets.iter().copied().collect())
    }

    /// Offsets held.
    pub(super) fn len(&self) -> Option<usize> {
        self.0.as_ref().map(VecDeque::len)
    }

    /// Bytes of memory beside the struct itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |offsets| offsets.capacity() * size_of::<Offset>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::RawRecord;

    fn offsets(range: std::ops::Range<i64>) -> Vec<Offset> {
        range.map(Offset).collect()
    }

    fn tail(versions: std::ops::Range<u64>) -> VecDeque<StoredEvent> {
        let event = |version: u64| StoredEvent {
            version: Version(version),
            skipped: false,
            record: RawRecord { offset: Offset(version as i64 * 10), ..RawRecord::default() },
        };
        versions.map(event).collect()
    }

    #[test]
    fn a_trail_follows_its_row() {
        let mut trail = Trail::new(Some(offsets(1..4)));
        trail.push(Offset(7));
        trail.row_moved(Version(0), Version(3), Version(4), &VecDeque::new());
        assert_eq!(trail.whole(), Some(vec![Offset(7)]));
    }

    #[test]
    fn a_trail_that_grew_too_long_is_whole_again_after_the_next_row() {
        let max = i64::try_from(TRAIL_MAX).unwrap();
        let mut trail = Trail::new(Some(offsets(0..max)));
        assert_eq!(trail.len(), Some(TRAIL_MAX));
        trail.push(Offset(max));
        assert_eq!(trail.whole(), None);
        // Some of what was folded since the row is in a checkpoint: not at hand.
        trail.row_moved(Version(0), Version(5), Version(9), &tail(8..10));
        assert_eq!(trail.whole(), None);
        trail.row_moved(Version(5), Version(7), Version(9), &tail(8..10));
        assert_eq!(trail.whole(), Some(vec![Offset(80), Offset(90)]));
    }

    #[test]
    fn offsets_that_do_not_increase_are_no_trail() {
        let mut trail = Trail::new(Some(offsets(0..3)));
        trail.push(Offset(2));
        assert_eq!(trail.whole(), None);
    }
}
