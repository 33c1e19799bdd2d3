//! The offsets of an aggregate's events since its newest cut, or snapshot row: what a full snapshot's row
//! keeps, so that the events before it can be read from the topic one by one.
//!
//! INVARIANT: while it is whole, a trail has exactly one offset for each version after that. One that has
//! grown too long, or whose start is not known, is absent; the next cut makes it whole again.

use crate::domain::ids::Offset;
use std::collections::VecDeque;

/// Offsets that a trail may have: some 3 KiB in a row.
pub const TRAIL_MAX: usize = 1_024;

/// Offsets of the versions after the newest cut or row, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail(Option<VecDeque<Offset>>);

impl Trail {
    /// None.
    pub(super) const NONE: Self = Self(None);

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

    /// Ends it at a cut and starts the next one there, if one is wanted. Answers its offsets if it was whole.
    pub(super) fn cut_off(&mut self, wanted: bool) -> Option<Vec<Offset>> {
        let next = wanted.then(VecDeque::new);
        std::mem::replace(&mut self.0, next).map(Vec::from)
    }

    /// The cut before it is dropped: it goes on from where that one began.
    pub(super) fn rejoin(&mut self, before: Option<&[Offset]>) {
        let offsets = before.zip(self.0.as_ref());
        let joined = offsets.map(|(before, after)| before.iter().chain(after).copied().collect());
        *self = Self::new(joined);
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

    fn offsets(range: std::ops::Range<i64>) -> Vec<Offset> {
        range.map(Offset).collect()
    }

    #[test]
    fn a_trail_starts_again_at_a_cut_and_goes_on_where_the_cut_is_dropped() {
        let mut trail = Trail::new(Some(offsets(1..4)));
        assert_eq!(trail.cut_off(true), Some(offsets(1..4)));
        trail.push(Offset(7));
        trail.rejoin(Some(&offsets(1..4)));
        assert_eq!(trail.cut_off(false), Some([offsets(1..4), vec![Offset(7)]].concat()));
        trail.push(Offset(9));
        assert_eq!(trail.cut_off(true), None, "none was wanted");
    }

    #[test]
    fn a_trail_that_grew_too_long_is_whole_again_after_the_next_cut() {
        let max = i64::try_from(TRAIL_MAX).unwrap();
        let mut trail = Trail::new(Some(offsets(0..max)));
        assert_eq!(trail.len(), Some(TRAIL_MAX));
        trail.push(Offset(max));
        assert_eq!(trail.cut_off(true), None);
        trail.push(Offset(max + 1));
        trail.rejoin(None);
        assert_eq!(trail.len(), None, "its start is not known");
        assert_eq!(trail.cut_off(true), None);
        trail.push(Offset(max + 5));
        trail.rejoin(Some(&offsets(0..max)));
        assert_eq!(trail.len(), None, "both together are too long");
    }

    #[test]
    fn offsets_that_do_not_increase_are_no_trail() {
        let mut trail = Trail::new(Some(offsets(0..3)));
        trail.push(Offset(2));
        assert_eq!(trail.cut_off(true), None);
    }
}
