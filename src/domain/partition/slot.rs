//! One resident aggregate: waiting for its load, or live; and all of them.

use super::live::{Live, Noted};
use super::manual::Waiter;
use crate::domain::event::Decoded;
use crate::domain::ids::Offset;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::Trigger;
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::mem::replace;
use std::sync::Arc;

/// Index of a slot; reused after eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId(pub(super) u32);

/// Bytes counted for a slot beside its contents: itself; its place in the list of slots, an eighth of which
/// may be spare, and in the table, which is seven eighths full at the most and as full as seven sixteenths at
/// the least; the counts before its id.
const SLOT_BYTES: usize =
    size_of::<Slot>() + size_of::<Option<Box<Slot>>>() * 9 / 8 + (size_of::<Place>() + 1) * 2 + 16;
/// Bytes that a parked event takes beside its record and its tree: itself, and small texts.
const PARKED_BYTES: usize = size_of::<Decoded>() + 128;

/// What a partition holds of one aggregate.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: Arc<str>,
    pub(super) body: Body,
    /// What this slot has listed as uncovered, kept equal to `uncovered_since()` by `Partition::touch`;
    /// [`UNLISTED`] for nothing.
    listed: Offset,
    /// Bytes counted for it, and of these bytes of uncovered events; both kept by `Partition::touch`.
    counted_bytes: u32,
    counted_tail: u32,
}

/// No event has this offset.
const UNLISTED: Offset = Offset(i64::MIN);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are live, and a box for each takes room and time")]
pub(super) enum Body {
    Loading(Box<Loading>),
    Live(Live),
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
    pub(super) waiters: Vec<Waiter>,
}

impl Slot {
    const CHANCES_MAX: u8 = 4;

    /// It was used.
    ///
    /// COST: to load an aggregate again takes a read for each entry that live checkpoints hold of it, so the
    /// more there are, the longer it stays.
    pub(super) fn used(&mut self) {
        let Body::Live(live) = &mut self.body else { return };
        live.chances = u8::try_from(live.entries / 4 + 1).unwrap_or(u8::MAX).min(Self::CHANCES_MAX);
    }

    /// What is listed as uncovered of it.
    pub(super) fn listed(&self) -> Option<Offset> {
        Some(self.listed).filter(|listed| *listed != UNLISTED)
    }

    /// Lists this instead; answers what was listed.
    pub(super) fn list(&mut self, uncovered: Option<Offset>) -> Option<Offset> {
        let before = self.listed();
        self.listed = uncovered.unwrap_or(UNLISTED);
        before
    }

    /// Bytes of uncovered events that no snapshot in flight will cover.
    fn on_ground(&self, noted: Noted) -> usize {
        if noted.is_in_flight { 0 } else { self.counted_tail as usize }
    }

    fn noted(&self) -> Noted {
        self.live().map_or(Noted::default(), |live| live.noted)
    }

    pub(super) fn may_go(&self) -> bool {
        self.noted().may_go
    }

    pub(super) fn has_cuts_waiting(&self) -> bool {
        self.noted().has_cuts_waiting
    }

    /// First offset of this aggregate that nothing durable covers.
    pub(super) fn uncovered_since(&self) -> Option<Offset> {
        match &self.body {
            Body::Loading(_) if mutant(Mutant::ParkedNotHeld) => None,
            Body::Loading(loading) => loading.parked.front().map(|decoded| decoded.record.offset),
            Body::Live(live) => live.uncovered_since(),
        }
    }

    fn bytes(&self) -> usize {
        let body = match &self.body {
            Body::Loading(loading) => size_of::<Loading>() + loading.parked_bytes,
            Body::Live(live) => live.heap_bytes(),
        };
        SLOT_BYTES + self.id.len() + body
    }

    /// What waits for it while it is not live; nothing waits there any more.
    pub(super) fn take_loading(&mut self) -> Option<Loading> {
        match &mut self.body {
            Body::Loading(loading) => Some(std::mem::take(&mut **loading)),
            Body::Live(_) => None,
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
        let Body::Live(live) = &self.body else { return };
        let to_note = live.to_note(self.uncovered_since().is_some());
        assert_eq!(live.noted, to_note, "who may be evicted, waits or flies is not noted");
        assert!(live.row <= live.durable(), "the newest row is covered by definition");
        if let Some(offsets) = live.busy.trail.len() {
            let events = live.aggregate.version.0 - live.since.version.0;
            assert_eq!(offsets as u64, events, "one offset for each version");
        }
        let open = live.aggregate.version.0 - live.since.version.0;
        let spaced = live.grown || events_max.is_none_or(|most| open < most);
        assert!(spaced, "{open} events since the last cut");
        let versions = live.busy.cuts.iter().map(|frozen| frozen.cut.version());
        assert!(versions.is_sorted_by(|a, b| a < b), "cuts follow on each other");
        let mut expected = live.durable();
        for event in &live.tail {
            expected = expected.next();
            assert_eq!(event.version, expected, "versions of a tail follow on each other");
            assert!(event.record.offset >= low, "LW has passed an uncovered event");
        }
        assert_eq!(expected, live.aggregate.version, "the tail ends at the state");
    }
}

/// Bytes that a parked event takes.
pub(super) fn parked_bytes(decoded: &Decoded) -> usize {
    let tree = decoded.content.as_ref().map_or(0, |event| event.data.heap_bytes());
    decoded.record.bytes() + tree + PARKED_BYTES
}

/// A sum that is kept short. One aggregate never takes more than it can tell, or all that is said of it is
/// too little by the same.
fn short(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The hash that ids are found by.
pub(super) fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// Half the hash of an id, and where its slot is.
type Place = (u32, SlotId);

/// The hash that the table goes by, from the half that it keeps.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// All resident aggregates.
///
/// COST: an id is looked up for every event, so they are found by hash: a search touches one group of the
/// table, one slot and its id. The table is only ever asked for one id, never walked, so its order decides
/// nothing. The hash is keyless SipHash: equal halves of hashes cost a comparison, and many of them take more
/// tries than they are worth.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Option<Box<Slot>>>,
    free: Vec<SlotId>,
    by_hash: HashTable<Place>,
    hand: usize,
    bytes: usize,
    tail_bytes: usize,
    on_ground_bytes: usize,
    /// How many may be evicted, how many have cuts that wait, and how many have enough of them.
    evictable: usize,
    with_cuts_waiting: usize,
    with_enough_cuts: usize,
}

impl Slots {
    pub(super) fn find(&self, id: &str) -> Option<SlotId> {
        let half = half(hash(id));
        let is_it = |(other, slot): &Place| *other == half && *self.get(*slot).id == *id;
        self.by_hash.find(spread(half), is_it).map(|(_, slot)| *slot)
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
        self.slots.get_mut(slot.0 as usize)?.as_deref_mut()?.live_mut()
    }

    pub(super) fn get(&self, slot: SlotId) -> &Slot {
        self.slots[slot.0 as usize].as_deref().expect("a slot id is used only while its slot is there")
    }

    pub(super) fn get_mut(&mut self, slot: SlotId) -> &mut Slot {
        self.slots[slot.0 as usize].as_deref_mut().expect("a slot id is used only while its slot is there")
    }

    pub(super) fn insert(&mut self, id: &Arc<str>) -> SlotId {
        let body = Body::Loading(Box::default());
        let id = Arc::clone(id);
        let place = half(hash(&id));
        let mut slot = Box::new(Slot { id, body, listed: UNLISTED, counted_bytes: 0, counted_tail: 0 });
        slot.counted_bytes = short(slot.bytes());
        self.bytes += slot.counted_bytes as usize;
        let at = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() == self.slots.capacity() {
                self.slots.reserve_exact(self.slots.len() / 8 + 16);
            }
            self.slots.push(None);
            SlotId(u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 residents"))
        });
        self.slots[at.0 as usize] = Some(slot);
        self.by_hash.insert_unique(spread(place), (place, at), |(place, _)| spread(*place));
        at
    }

    pub(super) fn remove(&mut self, slot: SlotId) {
        let gone = self.slots[slot.0 as usize].take().expect("a slot is removed once");
        let noted = gone.noted();
        self.bytes -= gone.counted_bytes as usize;
        self.tail_bytes -= gone.counted_tail as usize;
        self.on_ground_bytes -= gone.on_ground(noted);
        self.evictable -= usize::from(noted.may_go);
        self.with_cuts_waiting -= usize::from(noted.has_cuts_waiting);
        self.with_enough_cuts -= usize::from(noted.has_enough_cuts);
        let place = spread(half(hash(&gone.id)));
        let found = self.by_hash.find_entry(place, |(_, other)| *other == slot);
        found.expect("every resident is in the table").remove();
        self.free.push(slot);
    }

    pub(super) fn recount(&mut self, slot: SlotId) {
        let slot = self.slots[slot.0 as usize].as_deref_mut();
        let slot = slot.expect("a slot id is used only while its slot is there");
        let (was, on_ground) = (slot.noted(), slot.on_ground(slot.noted()));
        let is_uncovered = slot.listed != UNLISTED;
        let now = match &mut slot.body {
            Body::Loading(_) => was,
            Body::Live(live) => {
                live.noted = live.settle(is_uncovered);
                live.noted
            }
        };
        let (bytes, tail) = (short(slot.bytes()), short(slot.live().map_or(0, |live| live.tail.bytes())));
        let move_sum = |sum: &mut usize, counted: usize, now: usize| *sum = *sum - counted + now;
        move_sum(&mut self.bytes, replace(&mut slot.counted_bytes, bytes) as usize, bytes as usize);
        move_sum(&mut self.tail_bytes, replace(&mut slot.counted_tail, tail) as usize, tail as usize);
        move_sum(&mut self.on_ground_bytes, on_ground, slot.on_ground(now));
        move_sum(&mut self.evictable, was.may_go.into(), now.may_go.into());
        move_sum(&mut self.with_cuts_waiting, was.has_cuts_waiting.into(), now.has_cuts_waiting.into());
        move_sum(&mut self.with_enough_cuts, was.has_enough_cuts.into(), now.has_enough_cuts.into());
    }

    /// Whether any aggregate has so many cuts that records wait.
    pub(super) fn have_enough_cuts(&self) -> bool {
        self.with_enough_cuts > 0
    }

    /// Whether any aggregate has cuts that wait.
    pub(super) fn have_cuts_waiting(&self) -> bool {
        self.with_cuts_waiting > 0
    }

    pub(super) fn into_slots(self) -> impl Iterator<Item = Slot> {
        self.slots.into_iter().flatten().map(|slot| *slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        (0u32..).zip(&self.slots).filter_map(|(at, slot)| Some((SlotId(at), slot.as_deref()?)))
    }

    /// The next slot under the eviction hand that may go, giving each as many chances as it has (generalised
    /// CLOCK).
    ///
    /// COST: asked after every step while memory is short, and then there is often none. So their number is
    /// known, and the hand reads only what `recount` noted.
    pub(super) fn victim(&mut self) -> Option<SlotId> {
        if self.evictable == 0 {
            return None;
        }
        for _ in 0..self.slots.len() * (usize::from(Slot::CHANCES_MAX) + 1) {
            self.hand = (self.hand + 1) % self.slots.len();
            let live = self.slots[self.hand].as_deref_mut().and_then(Slot::live_mut);
            let Some(live) = live.filter(|live| live.noted.may_go) else { continue };
            if let Some(left) = live.chances.checked_sub(1) {
                live.chances = left;
            } else {
                return Some(SlotId(u32::try_from(self.hand).expect("fewer than 2^32 residents")));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::aggregate::Aggregate;

    /// Goal: what is counted of an idle aggregate is what it takes. Method: allocators have classes of sizes,
    /// four to each doubling, so a struct that grows past one takes far more than its size says.
    #[test]
    fn an_idle_aggregate_takes_three_hundred_bytes_beside_state_and_id() {
        const { assert!(size_of::<Slot>() <= 256, "a slot has outgrown its class") };
        const { assert!(SLOT_BYTES <= 300 + 16, "with the counts of its id") };
        let mut slots = Slots::default();
        let slot = slots.insert(&"an-id".into());
        slots.get_mut(slot).body = Body::Live(Live::new(Aggregate::genesis("order", "an-id")));
        slots.recount(slot);
        let beside = slots.get(slot).live().expect("it lives").aggregate.heap_bytes();
        assert_eq!(slots.bytes(), SLOT_BYTES + "an-id".len() + beside);
    }
}
