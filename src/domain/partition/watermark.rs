//! The low watermark: the first offset that nothing durable covers. Only this type can say what may be
//! committed.
//!
//! INVARIANT(1): `committed <= low <= position`, and `low` never goes back.

use super::Effect;
use super::slot::SlotId;
use crate::domain::ids::Offset;
use crate::domain::mutant::{Mutant, mutant};
use std::collections::{BTreeMap, BTreeSet};

/// Uncovered offsets of one partition and what was committed of it.
#[derive(Debug)]
pub(super) struct Watermark {
    /// First uncovered offset of every aggregate that has one. Offsets are unique: each is one event of one
    /// aggregate.
    uncovered: BTreeMap<Offset, SlotId>,
    /// Events that count as processed only once their dead letter is recorded.
    letters: BTreeSet<Offset>,
    committed: Offset,
    in_flight: Option<Offset>,
}

impl Watermark {
    pub(super) fn new(start: Offset) -> Self {
        Self { uncovered: BTreeMap::new(), letters: BTreeSet::new(), committed: start, in_flight: None }
    }

    /// Replaces what `slot` has listed.
    pub(super) fn relist(&mut self, slot: SlotId, before: Option<Offset>, after: Option<Offset>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            let was = self.uncovered.remove(&before);
            assert_eq!(was, Some(slot), "offset {before} was listed for another aggregate");
        }
        if let Some(after) = after {
            let was = self.uncovered.insert(after, slot);
            assert!(was.is_none(), "offset {after} is listed for two aggregates");
        }
    }

    pub(super) fn is_listed(&self, slot: SlotId, offset: Option<Offset>) -> bool {
        offset.is_some_and(|offset| self.uncovered.get(&offset) == Some(&slot))
    }

    /// Dirty aggregates, the longest uncovered first.
    pub(super) fn dirty(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.uncovered.values().copied()
    }

    pub(super) fn hold_for_letter(&mut self, offset: Offset) {
        self.letters.insert(offset);
    }

    pub(super) fn letter_recorded(&mut self, offset: Offset) {
        self.letters.remove(&offset);
    }

    pub(super) fn letters_outstanding(&self) -> usize {
        self.letters.len()
    }

    /// The first event whose dead letter is not recorded, or the position.
    pub(super) fn before_letters(&self, position: Offset) -> Offset {
        self.letters.first().map_or(position, |letter| position.min(*letter))
    }

    pub(super) fn low(&self, position: Offset) -> Offset {
        if mutant(Mutant::CommitPosition) {
            return position;
        }
        let first = if mutant(Mutant::WatermarkFromLastDirty) {
            self.uncovered.last_key_value()
        } else {
            self.uncovered.first_key_value()
        };
        let dirty = first.map_or(position, |(offset, _)| *offset);
        let letter = match self.letters.first() {
            Some(offset) if !mutant(Mutant::CommitPastDeadLetter) => *offset,
            _ => position,
        };
        dirty.min(letter)
    }

    pub(super) fn committed(&self) -> Offset {
        self.committed
    }

    /// Asks for a commit if the low watermark has moved; one at a time, the next one supersedes.
    pub(super) fn commit(&mut self, position: Offset, effects: &mut Vec<Effect>) {
        let low = self.low(position);
        if self.in_flight.is_none() && low > self.committed {
            self.in_flight = Some(low);
            effects.push(Effect::Commit(low));
        }
    }

    pub(super) fn commit_ended(&mut self, result: Result<Offset, ()>) {
        let asked = self.in_flight.take();
        if let Ok(offset) = result {
            assert_eq!(asked, Some(offset), "a commit ended that was not in flight");
            self.committed = self.committed.max(offset);
        }
    }

    pub(super) fn is_settled(&self, position: Offset) -> bool {
        self.in_flight.is_none() && self.committed == self.low(position)
    }
}
