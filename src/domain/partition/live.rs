//! An aggregate in memory: its state, its tail, and what goes on with it.
//!
//! COST: a worker holds as many aggregates as its memory has room for, and most of them are idle most of the
//! time. What an idle one does not need lies in boxes that it does not have.

use super::FlightId;
use super::cuts::{Baseline, CUTS_ENOUGH, Frozen};
use super::manual::Waiter;
use super::tail::Tail;
use super::trail::Trail;
use crate::domain::aggregate::Aggregate;
use crate::domain::event::Decoded;
use crate::domain::ids::{Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::record::StoredEvent;
use crate::domain::row::Trigger;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

/// An aggregate in memory.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) aggregate: Aggregate,
    /// Events that nothing durable covers; the last one has the aggregate's version.
    pub(super) tail: Tail,
    pub(super) busy: Doings,
    /// Newest snapshot row: where the next increment starts.
    pub(super) row: Version,
    /// What thresholds count from.
    pub(super) since: Baseline,
    /// Event bytes folded, from some start on.
    pub(super) folded_bytes: u64,
    /// Stored bytes of the newest full row.
    pub(super) full_row_bytes: u32,
    /// Entries that live checkpoints hold of it beyond that row; one of a checkpoint that was in flight when
    /// the row was acknowledged may be missing.
    pub(super) entries: u16,
    /// A snapshot row exists (also one of version 0, which only carries a quarantine mark).
    pub(super) has_row: bool,
    /// That row tells of the quarantine.
    pub(super) row_marked: bool,
    /// The quarantine mark is not covered yet.
    pub(super) mark_uncovered: bool,
    /// The range since the newest cut or row may be longer than `eventThreshold`: it was loaded so, or cuts
    /// have no room.
    pub(super) grown: bool,
    /// An event found the state as a tree since `Partition::cool_down` last looked.
    pub(super) used_while_hot: bool,
    pub(super) noted: Noted,
    /// How often the eviction hand passes it before it goes.
    pub(super) chances: u8,
}

/// What the sums over all slots count of it; kept by `Partition::touch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) may_go: bool,
    pub(super) has_cuts_waiting: bool,
    pub(super) has_enough_cuts: bool,
    pub(super) is_in_flight: bool,
}

/// A part of an aggregate's books that is empty most of the time.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// Rows that are provisional: seen, but not known to be acknowledged; being written again.
    pub(super) adoption: Option<Box<Adoption>>,
    pub(super) flight: Option<Box<Flight>>,
    /// Cuts that are not acknowledged; those in flight come first.
    pub(super) cuts: VecDeque<Frozen>,
    pub(super) cut_bytes: usize,
    /// Offsets of the events since the newest cut or row; absent with strategy `incremental`.
    pub(super) trail: Trail,
    /// Who waits for a snapshot that is not in flight.
    pub(super) manual: Vec<Waiter>,
    /// A snapshot is due for this reason as soon as it can be taken.
    pub(super) trip: Option<Trigger>,
    /// Waits in the partition's queue of snapshots.
    pub(super) queued: bool,
    /// Nothing that rest holds of it can be read; it only carries its mark.
    pub(super) unreadable: bool,
    /// The next snapshot is a full record alone: the events since the last row cannot all be read back.
    pub(super) whole: bool,
    /// The last flight was given up: what its end waits for may never come, so nobody waits for it.
    pub(super) given_up: bool,
    /// Events that could not be folded because the partition halts before the first of them.
    pub(super) stuck: VecDeque<Decoded>,
    pub(super) stuck_bytes: usize,
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
    pub(super) waiters: Vec<Waiter>,
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

/// What goes on with an aggregate: most of the time nothing, and that takes no room. To write to it makes
/// room, [`Doings::settle`] takes it back.
#[derive(Debug, Default)]
pub(super) struct Doings(Option<Box<Busy>>);

/// What [`Doings`] reads as while there are none.
const NOTHING: &Busy = &Busy {
    adoption: None,
    flight: None,
    cuts: VecDeque::new(),
    cut_bytes: 0,
    trail: Trail::NONE,
    manual: Vec::new(),
    trip: None,
    queued: false,
    unreadable: false,
    whole: false,
    given_up: false,
    stuck: VecDeque::new(),
    stuck_bytes: 0,
};

impl Deref for Doings {
    type Target = Busy;

    fn deref(&self) -> &Busy {
        self.0.as_deref().unwrap_or(NOTHING)
    }
}

impl DerefMut for Doings {
    fn deref_mut(&mut self) -> &mut Busy {
        self.0.get_or_insert_default()
    }
}

impl Doings {
    /// What there is, to change it where there may be nothing.
    pub(super) fn get_mut(&mut self) -> Option<&mut Busy> {
        self.0.as_deref_mut()
    }

    fn settle(&mut self) {
        if self.0.as_deref().is_some_and(Busy::is_nothing) {
            self.0 = None;
        }
    }

    fn heap_bytes(&self) -> usize {
        let bytes =
            |busy: &Busy| size_of::<Busy>() + busy.stuck_bytes + busy.trail.heap_bytes() + busy.cut_bytes;
        self.0.as_deref().map_or(0, bytes)
    }
}

impl Busy {
    /// A snapshot of it is wanted or written, or its rows are.
    fn is_at_work(&self) -> bool {
        self.adoption.is_some()
            || self.flight.is_some()
            || self.trip.is_some()
            || !self.manual.is_empty()
            || !self.cuts.is_empty()
    }

    fn is_nothing(&self) -> bool {
        let flags = self.queued || self.unreadable || self.whole;
        !(self.is_at_work() || flags) && self.stuck.is_empty() && self.trail.len().is_none()
    }
}

impl Live {
    /// An aggregate of which rest holds nothing.
    pub(super) fn new(aggregate: Aggregate) -> Self {
        Self {
            tail: Tail::NONE,
            busy: Doings::default(),
            row: Version(0),
            since: Baseline::of(&aggregate),
            folded_bytes: 0,
            full_row_bytes: 0,
            entries: 0,
            has_row: false,
            row_marked: false,
            mark_uncovered: false,
            grown: false,
            used_while_hot: false,
            noted: Noted::default(),
            chances: 1,
            aggregate,
        }
    }

    /// Its provisional rows, if it has any.
    pub(super) fn adoption_mut(&mut self) -> Option<&mut Adoption> {
        self.busy.get_mut()?.adoption.as_deref_mut()
    }

    /// Version up to which events are covered by snapshots or checkpoints.
    pub(super) fn durable(&self) -> Version {
        self.tail.first().map_or(self.aggregate.version, |first| Version(first.version.0 - 1))
    }

    pub(super) fn uncovered_since(&self) -> Option<Offset> {
        let tail = self.tail.first().map(|event| event.record.offset);
        let mark = self.aggregate.quarantine.as_ref().filter(|_| self.mark_uncovered).map(|mark| mark.offset);
        [tail, mark, self.uncovered_beside_tail()].into_iter().flatten().min()
    }

    /// First offset of what a checkpoint of all there is to write would leave uncovered.
    pub(super) fn uncovered_beside_tail(&self) -> Option<Offset> {
        let hold = self.busy.adoption.as_ref().and_then(|adoption| adoption.hold);
        let hold = hold.filter(|_| !mutant(Mutant::AdoptionHoldIgnored));
        let stuck = self.busy.stuck.front().map(|decoded| decoded.record.offset);
        [hold, stuck].into_iter().flatten().min()
    }

    /// Whether nothing is going on with it, and nothing about it is uncovered.
    fn may_evict(&self, is_uncovered: bool) -> bool {
        !self.busy.is_at_work() && (!is_uncovered || mutant(Mutant::DirtyEvicted))
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.tail.is_empty() || self.mark_uncovered
    }

    /// Gives back room that is not needed, and tells what is to be noted.
    pub(super) fn settle(&mut self, is_uncovered: bool) -> Noted {
        if !self.mark_uncovered {
            self.tail.settle();
        }
        self.busy.settle();
        self.to_note(is_uncovered)
    }

    /// What is true of it now.
    pub(super) fn to_note(&self, is_uncovered: bool) -> Noted {
        Noted {
            may_go: self.may_evict(is_uncovered),
            has_cuts_waiting: self.cuts_waiting() > 0,
            has_enough_cuts: self.busy.cuts.len() >= CUTS_ENOUGH && !self.busy.given_up,
            is_in_flight: self.busy.flight.is_some(),
        }
    }

    /// Bytes it takes beside the struct itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.aggregate.heap_bytes() + self.tail.bytes() + self.busy.heap_bytes()
    }

    pub(super) fn push_tail(&mut self, event: StoredEvent, now_ms: u64) {
        self.folded_bytes += event.record.bytes() as u64;
        if let Some(busy) = self.busy.get_mut() {
            busy.trail.push(event.record.offset);
        }
        self.tail.push(event, now_ms);
    }
}
