//! One resident aggregate: waiting for its load, or live with its tail.

use super::cuts::{Baseline, Frozen};
use super::trail::Trail;
use super::{FlightId, Reply};
use crate::domain::aggregate::Aggregate;
use crate::domain::event::Decoded;
use crate::domain::ids::{Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::record::StoredEvent;
use crate::domain::row::Trigger;
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::mem::replace;
use std::sync::Arc;

/// Index of a slot; reused after eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId(pub(super) u32);

/// Bytes counted for a slot beside its contents. It takes some 770 (`Live` alone has 488), which the budget's
/// other parts have room for. COST: with all of them counted 100,000 aggregates of 700 bytes do not fit
/// 160 MiB, and one that was let go of takes a read for each checkpoint that holds some of it.
const SLOT_BYTES: usize = 320;
/// Bytes that an event takes beside its record.
const EVENT_BYTES: usize = 160;

/// What a partition holds of one aggregate.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: Arc<str>,
    pub(super) body: Body,
    /// What this slot has listed as uncovered, kept equal to `uncovered_since()` by `Partition::touch`.
    pub(super) listed: Option<Offset>,
    /// Bytes counted for it, kept by `Partition::touch`.
    pub(super) counted_bytes: usize,
    /// Of these, bytes of uncovered events, and of those that no snapshot in flight will cover.
    pub(super) counted_tail: usize,
    pub(super) counted_on_ground: usize,
    /// Whether it may be evicted, and whether it has cuts that wait; both kept by `Partition::touch`.
    pub(super) may_go: bool,
    pub(super) has_cuts_waiting: bool,
    /// How often the eviction hand passes it before it goes.
    pub(super) chances: u8,
}

#[derive(Debug)]
pub(super) enum Body {
    Loading(Loading),
    Live(Box<Live>),
}

/// An aggregate that is being read from rest. Its events wait; other aggregates go on.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// INVARIANT(5): a parked event is uncovered from the moment it is parked; if it counted only once
    /// folded, a crash between park and load would commit past it.
    pub(super) parked: VecDeque<Decoded>,
    pub(super) parked_bytes: usize,
    /// Asked of the shell already (else it waits for its turn).
    pub(super) asked: bool,
    /// A snapshot is due as soon as it is there.
    pub(super) trip: Option<Trigger>,
    /// Who asked for a snapshot.
    pub(super) replies: Vec<Reply>,
}

/// A snapshot of this aggregate in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: FlightId,
    /// Covers events up to this version.
    pub(super) version: Version,
    /// Covers the quarantine mark too.
    pub(super) with_mark: bool,
    /// How many of the aggregate's cuts it carries: the first ones.
    pub(super) cuts: usize,
    pub(super) replies: Vec<Reply>,
}

/// An aggregate in memory.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) aggregate: Aggregate,
    /// Events that nothing durable covers, in version order; the last one has the aggregate's version unless
    /// the state came from a row ahead of the position.
    pub(super) tail: VecDeque<StoredEvent>,
    pub(super) tail_bytes: usize,
    /// Monotonic time at which the first event of the tail was folded, or later never: an upper bound of its
    /// age.
    pub(super) tail_since_ms: u64,
    /// The quarantine mark is not covered yet.
    pub(super) mark_uncovered: bool,
    /// Version up to which events are covered by snapshots or checkpoints.
    pub(super) durable: Version,
    /// Newest snapshot row: where the next increment starts.
    pub(super) row: Version,
    /// A snapshot row exists (also one of version 0, which only carries a quarantine mark).
    pub(super) has_row: bool,
    /// That row tells of the quarantine.
    pub(super) row_marked: bool,
    /// Entries that live checkpoints hold of it beyond that row; one of a checkpoint that was in flight when
    /// the row was acknowledged may be missing.
    pub(super) entries: u32,
    /// Offsets of the events since the newest cut or row; absent unless the strategy is `full`.
    pub(super) trail: Trail,
    /// Cuts that are not acknowledged; those in flight come first.
    pub(super) cuts: VecDeque<Frozen>,
    pub(super) cut_bytes: usize,
    /// What thresholds count from.
    pub(super) since: Baseline,
    /// The range since then may be longer than `eventThreshold`: it was loaded so, or cuts have no room.
    pub(super) grown: bool,
    /// Event bytes folded, from some start on.
    pub(super) folded_bytes: u64,
    /// Stored bytes of the newest full row.
    pub(super) full_row_bytes: u64,
    /// Rows that are provisional: seen, but not known to be acknowledged; being written again.
    pub(super) adoption: Option<Box<Adoption>>,
    pub(super) flight: Option<Box<Flight>>,
    /// Asked for while another snapshot was in flight.
    pub(super) manual: Vec<Reply>,
    /// A snapshot is due for this reason as soon as it can be taken.
    pub(super) trip: Option<Trigger>,
    /// Waits in the partition's queue of snapshots.
    pub(super) queued: bool,
    /// Nothing that rest holds of it can be read; it only carries its mark.
    pub(super) unreadable: bool,
    /// The next snapshot is a full record alone: the events since the last row cannot all be read back.
    pub(super) whole: bool,
    /// Events that could not be folded because the partition halts before the first of them.
    pub(super) stuck: VecDeque<Decoded>,
    pub(super) stuck_bytes: usize,
    /// An event found the state as a tree since `Partition::cool_down` last looked.
    pub(super) used_while_hot: bool,
}

/// Provisional rows of one aggregate.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) flight: FlightId,
    /// The version that the rows cover up to.
    pub(super) version: Version,
    /// They tell of a quarantine.
    pub(super) with_mark: bool,
    /// First event that was skipped because such a row covers it: the watermark may not pass it yet.
    pub(super) hold: Option<Offset>,
}

impl Slot {
    const CHANCES_MAX: u8 = 4;

    /// It was used.
    ///
    /// COST: to load an aggregate again takes a read for each entry that live checkpoints hold of it, so the
    /// more there are, the longer it stays.
    pub(super) fn used(&mut self) {
        let entries = self.live().map_or(0, |live| live.entries);
        self.chances = u8::try_from(entries / 4 + 1).unwrap_or(u8::MAX).min(Self::CHANCES_MAX);
    }

    /// First offset of this aggregate that nothing durable covers.
    pub(super) fn uncovered_since(&self) -> Option<Offset> {
        match &self.body {
            Body::Loading(_) if mutant(Mutant::ParkedNotHeld) => None,
            Body::Loading(loading) => loading.parked.front().map(|decoded| decoded.record.offset),
            Body::Live(live) => live.uncovered_since(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        SLOT_BYTES
            + self.id.len()
            + match &self.body {
                Body::Loading(loading) => loading.parked_bytes,
                Body::Live(live) => {
                    live.aggregate.heap_bytes()
                        + live.tail_bytes
                        + live.stuck_bytes
                        + live.trail.heap_bytes()
                        + live.cut_bytes
                }
            }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.body {
            Body::Live(live) => Some(live),
            Body::Loading(_) => None,
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        match &self.body {
            Body::Live(live) => Some(live),
            Body::Loading(_) => None,
        }
    }

    pub(super) fn assert_invariants(&self, low: Offset, events_max: Option<u64>) {
        assert_eq!(self.may_go, self.live().is_some_and(Live::may_evict), "who may be evicted is not noted");
        let has_cuts = self.live().is_some_and(|live| live.cuts_waiting() > 0);
        assert_eq!(self.has_cuts_waiting, has_cuts, "cuts that wait are not noted");
        let Body::Live(live) = &self.body else { return };
        assert!(live.durable <= live.aggregate.version, "covered beyond what was folded");
        assert!(live.row <= live.durable, "the newest row is covered by definition");
        if let Some(offsets) = live.trail.len() {
            let events = live.aggregate.version.0 - live.since.version.0;
            assert_eq!(offsets as u64, events, "one offset for each version");
        }
        let open = live.aggregate.version.0 - live.since.version.0;
        let spaced = live.grown || events_max.is_none_or(|most| open < most);
        assert!(spaced, "{open} events since the last cut");
        let versions = live.cuts.iter().map(|frozen| frozen.cut.version());
        assert!(versions.is_sorted_by(|a, b| a < b), "cuts follow on each other");
        if let Some(first) = live.tail.front() {
            assert_eq!(first.version, live.durable.next(), "the tail starts where coverage ends");
            assert!(first.record.offset >= low, "LW has passed an uncovered event");
            let last = live.tail.back().map_or(first, |last| last);
            assert_eq!(last.version, live.aggregate.version, "the tail ends at the state");
        }
    }
}

impl Live {
    /// An aggregate of which rest holds nothing.
    pub(super) fn new(aggregate: Aggregate) -> Self {
        Self {
            durable: aggregate.version,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_since_ms: 0,
            mark_uncovered: false,
            row: Version(0),
            has_row: false,
            row_marked: false,
            entries: 0,
            trail: Trail::default(),
            cuts: VecDeque::new(),
            cut_bytes: 0,
            since: Baseline { state_bytes: aggregate.state.bytes_bound() as u64, ..Baseline::default() },
            grown: false,
            folded_bytes: 0,
            full_row_bytes: 0,
            adoption: None,
            flight: None,
            manual: Vec::new(),
            trip: None,
            queued: false,
            unreadable: false,
            whole: false,
            stuck: VecDeque::new(),
            stuck_bytes: 0,
            used_while_hot: false,
            aggregate,
        }
    }

    pub(super) fn uncovered_since(&self) -> Option<Offset> {
        let tail = self.tail.front().map(|event| event.record.offset);
        let hold = self.adoption.as_ref().and_then(|adoption| adoption.hold);
        let hold = hold.filter(|_| !mutant(Mutant::AdoptionHoldIgnored));
        let mark = self.aggregate.quarantine.as_ref().filter(|_| self.mark_uncovered).map(|mark| mark.offset);
        let stuck = self.stuck.front().map(|decoded| decoded.record.offset);
        [tail, hold, mark, stuck].into_iter().flatten().min()
    }

    /// Nothing about it is uncovered, and nothing is going on with it.
    pub(super) fn may_evict(&self) -> bool {
        let busy = self.adoption.is_some()
            || self.flight.is_some()
            || self.trip.is_some()
            || !self.manual.is_empty();
        let busy = busy || !self.cuts.is_empty();
        if mutant(Mutant::DirtyEvicted) {
            return !busy;
        }
        !busy && self.uncovered_since().is_none()
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.tail.is_empty() || self.mark_uncovered
    }

    pub(super) fn push_tail(&mut self, event: StoredEvent, now_ms: u64) {
        let bytes = event.record.bytes();
        if self.tail.is_empty() {
            self.tail_since_ms = now_ms;
            self.tail.reserve_exact(1);
        }
        self.tail_bytes += bytes + EVENT_BYTES;
        self.folded_bytes += bytes as u64;
        self.trail.push(event.record.offset);
        self.tail.push_back(event);
    }

    /// Events up to `version` are covered. Rule 3: what was folded since stays in the tail.
    pub(super) fn cover(&mut self, version: Version, covered_since_ms: u64) {
        while self.tail.front().is_some_and(|event| event.version <= version) {
            let event = self.tail.pop_front().expect("the front was there");
            self.tail_bytes -= event.record.bytes() + EVENT_BYTES;
        }
        if self.tail.is_empty() {
            // Most aggregates are clean most of the time: they must not keep room for events.
            self.tail = VecDeque::new();
        }
        self.tail_since_ms = self.tail_since_ms.max(covered_since_ms);
        self.durable = self.durable.max(version);
    }
}

/// Bytes that a parked event takes.
pub(super) fn parked_bytes(decoded: &Decoded) -> usize {
    let tree = decoded.content.as_ref().map_or(0, |event| event.data.heap_bytes());
    decoded.record.bytes() + tree + EVENT_BYTES
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// All resident aggregates.
///
/// COST: an id is looked up for every event, so they are found by hash: a search touches one group of the
/// table and one id. The table is only ever asked for one id, never walked, so its order decides nothing. The
/// hash is keyless SipHash: nobody can make the many equal hashes that an attack would need.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<SlotId>,
    /// (hash of the id, slot) of every resident.
    by_hash: HashTable<(u64, SlotId)>,
    hand: usize,
    bytes: usize,
    tail_bytes: usize,
    on_ground_bytes: usize,
    /// How many may be evicted, and how many have cuts that wait.
    evictable: usize,
    with_cuts_waiting: usize,
}

impl Slots {
    pub(super) fn find(&self, id: &str) -> Option<SlotId> {
        let hash = hash(id);
        let is_it = |(other, slot): &(u64, SlotId)| *other == hash && *self.get(*slot).id == *id;
        self.by_hash.find(hash, is_it).map(|(_, slot)| *slot)
    }

    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of these, bytes of uncovered events.
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Bytes of uncovered events that a checkpoint would take: those of aggregates without a snapshot in
    /// flight.
    pub(super) fn on_ground_bytes(&self) -> usize {
        self.on_ground_bytes
    }

    /// The live aggregate in a slot that may have been evicted or given away since it was noted.
    pub(super) fn live_or_gone(&mut self, slot: SlotId) -> Option<&mut Live> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()?.live_mut()
    }

    pub(super) fn get(&self, slot: SlotId) -> &Slot {
        self.slots[slot.0 as usize].as_ref().expect("a slot id is used only while its slot is there")
    }

    pub(super) fn get_mut(&mut self, slot: SlotId) -> &mut Slot {
        self.slots[slot.0 as usize].as_mut().expect("a slot id is used only while its slot is there")
    }

    pub(super) fn insert(&mut self, id: &Arc<str>) -> SlotId {
        let body = Body::Loading(Loading::default());
        let mut slot = Slot {
            id: Arc::clone(id),
            body,
            listed: None,
            counted_bytes: 0,
            counted_tail: 0,
            counted_on_ground: 0,
            may_go: false,
            has_cuts_waiting: false,
            chances: 1,
        };
        slot.counted_bytes = slot.bytes();
        self.bytes += slot.counted_bytes;
        let at = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() == self.slots.capacity() {
                self.slots.reserve_exact(self.slots.len() / 8 + 16);
            }
            self.slots.push(None);
            SlotId(u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 residents"))
        });
        self.slots[at.0 as usize] = Some(slot);
        let hash = hash(id);
        self.by_hash.insert_unique(hash, (hash, at), |(hash, _)| *hash);
        at
    }

    pub(super) fn remove(&mut self, slot: SlotId) {
        let gone = self.slots[slot.0 as usize].take().expect("a slot is removed once");
        self.bytes -= gone.counted_bytes;
        self.tail_bytes -= gone.counted_tail;
        self.on_ground_bytes -= gone.counted_on_ground;
        self.evictable -= usize::from(gone.may_go);
        self.with_cuts_waiting -= usize::from(gone.has_cuts_waiting);
        let found = self.by_hash.find_entry(hash(&gone.id), |(_, other)| *other == slot);
        found.expect("every resident is in the table").remove();
        self.free.push(slot);
    }

    pub(super) fn recount(&mut self, slot: SlotId) {
        let slot =
            self.slots[slot.0 as usize].as_mut().expect("a slot id is used only while its slot is there");
        let (bytes, tail) = (slot.bytes(), slot.live().map_or(0, |live| live.tail_bytes));
        let may_go = slot.live().is_some_and(Live::may_evict);
        let has_cuts = slot.live().is_some_and(|live| live.cuts_waiting() > 0);
        let move_sum = |sum: &mut usize, counted: usize, now: usize| *sum = *sum - counted + now;
        move_sum(&mut self.bytes, replace(&mut slot.counted_bytes, bytes), bytes);
        move_sum(&mut self.tail_bytes, replace(&mut slot.counted_tail, tail), tail);
        let is_in_flight = slot.live().is_some_and(|live| live.flight.is_some());
        let on_ground = if is_in_flight { 0 } else { tail };
        move_sum(&mut self.on_ground_bytes, replace(&mut slot.counted_on_ground, on_ground), on_ground);
        move_sum(&mut self.evictable, replace(&mut slot.may_go, may_go).into(), may_go.into());
        let counted = replace(&mut slot.has_cuts_waiting, has_cuts);
        move_sum(&mut self.with_cuts_waiting, counted.into(), has_cuts.into());
    }

    /// Whether any aggregate has cuts that wait.
    pub(super) fn have_cuts_waiting(&self) -> bool {
        self.with_cuts_waiting > 0
    }

    pub(super) fn into_slots(self) -> impl Iterator<Item = Slot> {
        self.slots.into_iter().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        (0u32..).zip(&self.slots).filter_map(|(at, slot)| Some((SlotId(at), slot.as_ref()?)))
    }

    /// The next slot under the eviction hand that may go, giving each as many chances as it has (generalised
    /// CLOCK).
    ///
    /// COST: asked after every step while memory is short, and then there is often none. So their number is
    /// known, and the hand reads what `recount` noted, not the aggregates.
    pub(super) fn victim(&mut self) -> Option<SlotId> {
        if self.evictable == 0 {
            return None;
        }
        for _ in 0..self.slots.len() * (usize::from(Slot::CHANCES_MAX) + 1) {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(slot) = self.slots[self.hand].as_mut().filter(|slot| slot.may_go) else { continue };
            if let Some(left) = slot.chances.checked_sub(1) {
                slot.chances = left;
            } else {
                return Some(SlotId(u32::try_from(self.hand).expect("fewer than 2^32 residents")));
            }
        }
        None
    }
}
