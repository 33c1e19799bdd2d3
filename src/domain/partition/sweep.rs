//! The sweep over live checkpoints: where they hold too much or too old events, their entries become
//! snapshots, in the order of ids.
//!
//! COST: all live checkpoints are swept together. A body lies in a block with those of its neighbours by id,
//! so each block is read once in a round, and each snapshot takes all that checkpoints hold of its aggregate.
//! To take the oldest checkpoint alone would read the blocks of all others for the few ids that are left in
//! it, again for each checkpoint (docs/adr/0011). Where checkpoints do not overlap, that is no reason, and
//! every second round takes the older half of them: a table is let go of only as a whole.
//!
//! SUBTLE: an aggregate that can be read neither here nor from the log keeps its entries, and so their
//! checkpoints, for ever. A round passes it once like all others: if such aggregates came first every time, a
//! few of them would take all loads, the tables of later checkpoints would fill the memory, and no record
//! would be taken any more (seed 514, counted).

use super::checkpoints::Live;
use super::{Effect, Partition};
use crate::domain::ids::Timestamp;
use crate::domain::row::Trigger;
use crate::domain::text::Text;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

/// Live checkpoints beyond which their entries become snapshots, where they overlap.
pub(super) const LIVE_MAX: usize = 32;
/// Their tables may take so many parts of 48 of the memory budget before that happens. Where they overlap, a
/// sweep makes one of many entries; where they do not, it only makes a row of each, and wins nothing but
/// memory, of which aggregates with hardly an event need little.
const OVERLAPPING_PARTS: usize = 8;
const TABLES_PARTS: usize = 42;
/// Pause between two rounds: what the last one asked for is on its way.
const PAUSE_MS: u64 = 1_000;
/// The same after rounds that led to nothing, each of which doubles it.
const PAUSE_MS_MAX: u64 = 8_000;
/// Ids that are looked up at once.
const STEP: usize = 128;

/// How far the sweep has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Ids that come next.
    next: VecDeque<Arc<str>>,
    /// The last id that was looked up.
    after: Option<Arc<str>>,
    rounds: u64,
    paused_until_ms: u64,
    pause_ms: u64,
    /// Checkpoints that were retired when this round began.
    retired_before: u64,
}

/// Which checkpoints are swept: those minted at this time or before.
struct Wanted(Timestamp);

impl Wanted {
    fn has(&self, live: &Live) -> bool {
        live.pack().minted_at() <= self.0
    }
}

impl Partition {
    /// Goes on with the sweep where it is wanted: trips the aggregates that come next, as many as loads and
    /// snapshots have room for.
    pub(super) fn go_on_sweeping(&mut self, effects: &mut Vec<Effect>) {
        if self.now_ms < self.sweep.paused_until_ms || !self.has_room() {
            return;
        }
        let Some((wanted, trigger)) = self.swept() else { return };
        while self.has_room() {
            let Some(id) = self.sweep.next.pop_front() else {
                if self.look_up(&wanted) {
                    continue;
                }
                return self.end_round();
            };
            // What was asked for meanwhile, or is on its way, is not asked for again.
            let slot = self.slots.find(&id).and_then(|slot| self.slots.get(slot).live());
            let flies = slot.is_some_and(|live| live.busy.flight.is_some());
            if !flies && self.pending_from(&id).is_some() {
                self.trip(&id, trigger, effects);
            }
        }
    }

    /// Which checkpoints are swept, and why: there are too many that overlap, or they or their tables take
    /// too many bytes; else those that are older than `timeThreshold`.
    fn swept(&self) -> Option<(Wanted, Trigger)> {
        let all = &self.checkpoints;
        let scattered = self.checkpoints_overlap && all.len() > LIVE_MAX;
        let stored = || all.iter().map(Live::stored_bytes).sum::<u64>();
        let tables = || all.iter().map(Live::heap_bytes).sum::<usize>();
        let parts = if self.checkpoints_overlap { OVERLAPPING_PARTS } else { TABLES_PARTS };
        let trigger = if scattered || stored() > self.settings.live_bytes_max {
            Trigger::Debt
        } else if tables() > self.settings.memory_bytes_max / 48 * parts {
            Trigger::Memory
        } else {
            let age_max = i64::try_from(self.settings.age_ms_max).unwrap_or(i64::MAX);
            let wanted = Wanted(Timestamp(self.wall.0.saturating_sub(age_max)));
            return all.iter().any(|live| wanted.has(live)).then_some((wanted, Trigger::Age));
        };
        if self.checkpoints_overlap || !self.sweep.rounds.is_multiple_of(2) {
            return Some((Wanted(Timestamp(i64::MAX)), trigger));
        }
        let mut minted: Vec<Timestamp> = all.iter().map(|live| live.pack().minted_at()).collect();
        let half = minted.len().saturating_sub(1) / 2;
        Some((Wanted(*minted.select_nth_unstable(half).1), trigger))
    }

    fn has_room(&self) -> bool {
        self.draining == super::Draining::No
            && self.loads_in_flight < self.settings.loads_max
            && self.flights.len() < self.settings.snapshots_max
    }

    fn end_round(&mut self) {
        let (retired, rounds) = (self.counts.checkpoints_retired, self.sweep.rounds + 1);
        let in_vain = retired == self.sweep.retired_before;
        let pause_ms =
            if in_vain { (2 * self.sweep.pause_ms).clamp(PAUSE_MS, PAUSE_MS_MAX) } else { PAUSE_MS };
        let paused_until_ms = self.now_ms + pause_ms;
        self.sweep = Sweep { rounds, paused_until_ms, pause_ms, retired_before: retired, ..Sweep::default() };
    }

    /// Looks up the next ids in order, each once. False at the end of the round.
    fn look_up(&mut self, wanted: &Wanted) -> bool {
        let after = self.sweep.after.as_deref();
        let swept = self.checkpoints.iter().filter(|live| wanted.has(live));
        let mut tables: Vec<_> = swept.map(|live| live.left_after(after)).collect();
        let firsts = tables.iter_mut().enumerate().filter_map(|(at, ids)| Some(Reverse((ids.next()?, at))));
        let mut heap: BinaryHeap<Reverse<(Text, usize)>> = firsts.collect();
        let mut next: VecDeque<Arc<str>> = VecDeque::new();
        while let Some(Reverse((id, at))) = heap.pop() {
            if next.back().is_none_or(|last| **last != *id) {
                if next.len() == STEP {
                    break;
                }
                next.push_back(Arc::from(&*id));
            }
            heap.extend(tables[at].next().map(|id| Reverse((id, at))));
        }
        drop(tables);
        if let Some(last) = next.back() {
            self.sweep.after = Some(Arc::clone(last));
        }
        self.sweep.next = next;
        !self.sweep.next.is_empty()
    }
}
