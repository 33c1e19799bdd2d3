//! The sweep over live checkpoints: where they hold too much or too old events, their entries become
//! snapshots, in the order of ids.
//!
//! COST: all live checkpoints are swept together. A body lies in a block with those of its neighbours by id,
//! so each block is read once in a sweep, and each snapshot takes all that checkpoints hold of its aggregate.
//! To take the oldest checkpoint alone would read the blocks of all others for the few ids that are left in
//! it, again for each checkpoint (docs/adr/0011).
//!
//! SUBTLE: an aggregate that can be read neither here nor from the log keeps its entries, and so their
//! checkpoints, for ever. A sweep passes it once like all others: if such aggregates came first every time, a
//! few of them would take all loads, the tables of later checkpoints would fill the memory, and no record
//! would be taken any more (seed 514, counted).

use super::checkpoints::Live;
use super::{Draining, Effect, Now, Partition};
use crate::domain::row::Trigger;
use crate::domain::text::Text;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Live checkpoints beyond which their entries become snapshots, where they overlap.
pub(super) const LIVE_MAX: usize = 32;
/// Their tables may take this part of the memory budget before that happens: where they overlap, a sweep makes
/// one of many entries; where they do not, it only makes a row of each, and nothing is won but memory.
const OVERLAPPING_SHARE: usize = 6;
const TABLES_SHARE: usize = 2;
/// Pause between two sweeps: what the last one asked for is on its way.
const PAUSE_MS: u64 = 1_000;
/// Ids that are looked up at once.
const STEP: usize = 128;

/// How far both sweeps have come.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    old: Sweep,
    debt: Sweep,
}

/// How far a sweep has come.
#[derive(Debug, Default)]
struct Sweep {
    /// The last id that it took.
    after: Option<Arc<str>>,
    paused_until_ms: u64,
}

impl Partition {
    /// Sweeps checkpoints that are older than `timeThreshold`.
    pub(super) fn sweep_old(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let age_max = i64::try_from(self.settings.age_ms_max).unwrap_or(i64::MAX);
        let minted_before = now.wall.0.saturating_sub(age_max);
        let mut sweep = std::mem::take(&mut self.sweeps.old);
        self.go_on(&mut sweep, |live| live.pack().minted_at().0 <= minted_before, Trigger::Age, effects);
        self.sweeps.old = sweep;
    }

    /// Sweeps all live checkpoints if there are too many that overlap, or if they or their tables take too
    /// many bytes.
    pub(super) fn sweep_debt(&mut self, effects: &mut Vec<Effect>) {
        let scattered = self.checkpoints_overlap && self.checkpoints.len() > LIVE_MAX;
        let stored = || self.checkpoints.iter().map(Live::stored_bytes).sum::<u64>();
        let tables = || self.checkpoints.iter().map(Live::heap_bytes).sum::<usize>();
        let share = if self.checkpoints_overlap { OVERLAPPING_SHARE } else { TABLES_SHARE };
        let trigger = if scattered || stored() > self.settings.live_bytes_max {
            Trigger::Debt
        } else if tables() > self.settings.memory_bytes_max / share {
            Trigger::Memory
        } else {
            return;
        };
        let mut sweep = std::mem::take(&mut self.sweeps.debt);
        self.go_on(&mut sweep, |_| true, trigger, effects);
        self.sweeps.debt = sweep;
    }

    /// Trips the aggregates that these checkpoints hold something of, from where the sweep stands on, as many
    /// as loads and snapshots have room for.
    fn go_on(
        &mut self,
        sweep: &mut Sweep,
        is_wanted: impl Fn(&Live) -> bool,
        trigger: Trigger,
        effects: &mut Vec<Effect>,
    ) {
        while self.now_ms >= sweep.paused_until_ms && self.draining == Draining::No {
            if !self.has_room() || !self.checkpoints.iter().any(&is_wanted) {
                return;
            }
            let next = self.next_ids(sweep.after.as_deref(), &is_wanted);
            if next.is_empty() {
                *sweep = Sweep { after: None, paused_until_ms: self.now_ms + PAUSE_MS };
                return;
            }
            for id in next {
                if !self.has_room() {
                    return;
                }
                sweep.after = Some(Arc::clone(&id));
                self.trip(&id, trigger, effects);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.loads_in_flight < self.settings.loads_max
            && self.snapshots_in_flight < self.settings.snapshots_max
    }

    /// The next ids in order, each once.
    fn next_ids(&self, after: Option<&str>, is_wanted: impl Fn(&Live) -> bool) -> Vec<Arc<str>> {
        let wanted = self.checkpoints.iter().filter(|live| is_wanted(live));
        let mut tables: Vec<_> = wanted.map(|live| live.left_after(after)).collect();
        let firsts = tables.iter_mut().enumerate().filter_map(|(at, ids)| Some(Reverse((ids.next()?, at))));
        let mut heap: BinaryHeap<Reverse<(Text, usize)>> = firsts.collect();
        let mut next: Vec<Arc<str>> = Vec::new();
        while let Some(Reverse((id, at))) = heap.pop() {
            if next.last().is_none_or(|last| **last != *id) {
                if next.len() == STEP {
                    break;
                }
                next.push(Arc::from(&*id));
            }
            heap.extend(tables[at].next().map(|id| Reverse((id, at))));
        }
        next
    }
}
