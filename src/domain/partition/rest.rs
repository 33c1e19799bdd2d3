//! What rest can hold of an aggregate that is not in memory, where this owner is the first one: only what it
//! let go itself. An aggregate that it never had begins at its first event, and no load looks for it.
//!
//! INVARIANT: a first owner is one that found no low watermark of its log, none of its checkpoints, and the
//! log whole, and had the low watermark of its start acknowledged before it wrote anything else. So no owner
//! before it has written anything, and whoever comes after is not the first (docs/adr/0027).

use super::checkpoints::Filter;
use super::slot::hash;
use super::{Loaded, Partition};
use crate::domain::aggregate::Aggregate;
use crate::domain::mutant::{Mutant, mutant};

/// Filters may take this part of the memory budget. Beyond that everything is loaded, as by any other owner.
const SHARE: usize = 16;
/// Ids in the first filter; each further one takes twice as many.
const FIRST_IDS: usize = 1_024;

/// Ids of aggregates that a first owner let go, and a few more.
#[derive(Debug, Default)]
pub(super) struct LetGo {
    filters: Vec<Filter>,
    /// Ids that the last filter still takes.
    room: usize,
}

impl LetGo {
    fn add(&mut self, id: &str) {
        // One that comes and goes takes room once.
        if self.may_have(id) {
            return;
        }
        if self.room == 0 {
            self.room = FIRST_IDS << self.filters.len();
            self.filters.push(Filter::of_size(self.room));
        }
        self.room -= 1;
        if let Some(newest) = self.filters.last_mut() {
            newest.add(hash(id));
        }
    }

    fn may_have(&self, id: &str) -> bool {
        let hash = hash(id);
        self.filters.iter().any(|filter| filter.may_have(hash))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.filters.iter().map(Filter::heap_bytes).sum()
    }
}

impl Partition {
    /// The same for the first owner of its log.
    #[must_use]
    pub fn as_first_owner(mut self) -> Self {
        self.let_go = Some(LetGo::default());
        self
    }

    /// An aggregate leaves memory.
    pub(super) fn lets_go(&mut self, id: &str) {
        if let Some(let_go) = self.let_go.as_mut().filter(|_| !mutant(Mutant::LetGoForgotten)) {
            let_go.add(id);
            if let_go.heap_bytes() > self.settings.memory_bytes_max / SHARE {
                self.let_go = None;
            }
        }
    }

    /// What rest holds of an aggregate that was in memory never: nothing. None if it has to be asked.
    pub(super) fn nothing_at_rest(&self, id: &str) -> Option<Loaded> {
        let is_new = !self.let_go.as_ref()?.may_have(id);
        is_new.then(|| {
            let aggregate = Aggregate::genesis(&self.rules.kind, id);
            Loaded { aggregate, rows: Vec::new(), trail: Some(Vec::new()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_is_known_and_little_else() {
        let (mut let_go, id) = (LetGo::default(), |n: u32| format!("order-{n:08}"));
        assert!(!let_go.may_have(&id(0)));
        (0..20_000).for_each(|n| let_go.add(&id(n)));
        assert!((0..20_000).all(|n| let_go.may_have(&id(n))));
        let in_vain = (20_000..120_000).filter(|n| let_go.may_have(&id(*n))).count();
        assert!(in_vain < 15_000, "{in_vain} of 100,000");
        (0..20_000).for_each(|n| let_go.add(&id(n)));
        assert!(let_go.heap_bytes() < 40_000, "{}", let_go.heap_bytes());
    }
}
