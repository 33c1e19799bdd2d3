//! The state machine of one Kafka partition: all that decides what is folded, what is durable and what may be
//! committed. `step` takes one input and appends effects; it does no I/O and knows no clock but its `now`
//! argument.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Partition`, `Input`, `Effect`, `step`, the invariants |
//! | `slot.rs` | all resident aggregates: parked while loading, or live |
//! | `live.rs` | one that is live: state, tail, what goes on with it |
//! | `tail.rs` | its events that nothing durable covers |
//! | `intake.rs` | records: skip, park, fold, dead letters, halt |
//! | `residency.rs` | loads, adoption, eviction, idle states as bytes |
//! | `rest.rs` | what need not be loaded: nothing of it can be at rest |
//! | `cuts.rs` | the versions at which snapshot records end, while they wait and fly |
//! | `trigger.rs` | when a snapshot is due, and what waits while the partition is held back |
//! | `pressure.rs` | whether it is: it falls behind, or memory is short |
//! | `costs.rs` | what it takes to reconstruct an aggregate |
//! | `flush.rs` | snapshots and checkpoints in flight |
//! | `manual.rs` | snapshots that somebody asks for |
//! | `items.rs` | what is handed over to be written |
//! | `sweep.rs` | making snapshots of what live checkpoints hold |
//! | `checkpoints.rs` | live checkpoints: what is pending, what is superseded, what can be retired |
//! | `entries.rs` | the compact table of one checkpoint's entries |
//! | `trail.rs` | the offsets of an aggregate's events since its newest row |
//! | `watermark.rs` | uncovered offsets, the low watermark, commits |
//!
//! Words: an event is *uncovered* until a snapshot or checkpoint with it is acknowledged; the low watermark
//! is the first uncovered offset. An aggregate's *tail* is its uncovered events, kept until they are covered.

mod checkpoints;
mod costs;
mod cuts;
mod entries;
mod flush;
mod form;
mod intake;
mod items;
mod live;
mod manual;
mod pressure;
mod residency;
mod rest;
mod slot;
mod sweep;
mod tail;
mod trail;
mod trigger;
mod watermark;

pub use checkpoints::{EntryRef, LiveCheckpoint};
pub use costs::Costs;
pub use cuts::{CUTS_MAX, Cut};
pub use entries::{BodyAt, Entries, Entry, Epochs, FrameAt, TableWriter, reach};
pub use form::Strategy;
pub use intake::Counts;
pub use items::{CheckpointItem, SnapshotItem};
pub use manual::Taken;
pub use pressure::BackOff;
pub use residency::{Listing, Load, Loaded, Pending, Residence, Resident};
pub use tail::Tail;
pub use trail::TRAIL_MAX;

use super::aggregate::{Rules, State};
use super::erasure::ErasedIds;
use super::event::Decoded;
use super::ids::{Offset, PackId, Timestamp, Version};
use super::poison::Poison;
use super::row::{PartitionKey, SnapshotRow, Trigger};
use manual::Waiter;
use slot::Slots;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use watermark::Watermark;

/// Loads that may wait for each that may be in flight before records wait too. Where loads are slower than
/// the log, all that was taken beyond this would only be folded later, and a partition that is revoked has
/// about a second to fold it.
const LOADS_WAITING_SHARE: usize = 4;
/// Uncovered events may take this part of the memory budget; at half of that a checkpoint is asked for.
const TAILS_SHARE: usize = 4;

/// The two clocks, as they stood when the input arrived.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall clock: only for what is stored.
    pub wall: Timestamp,
    /// Monotonic milliseconds: for every decision about age.
    pub monotonic_ms: u64,
}

/// Names one write in flight; unique within a `Partition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(pub u64);

/// Names one question; the shell keeps who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reply(pub u64);

/// When snapshots are taken, and how much a partition may hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `eventThreshold`: events since the last snapshot.
    pub events_max: u64,
    /// `timeThreshold` in milliseconds.
    pub age_ms_max: u64,
    /// `sizeThreshold`: event bytes since the last snapshot.
    pub bytes_max: u64,
    /// Event bytes that must have come since the last full snapshot, in thousandths of its stored size.
    pub write_amplification_permille: u64,
    /// How snapshots are stored.
    pub strategy: Strategy,
    /// Bytes that states, tails, parked events, tables of live checkpoints and ids that were let go may take.
    pub memory_bytes_max: usize,
    /// Bytes of uncovered events for which a checkpoint is wanted before its time.
    pub uncovered_bytes_max: usize,
    /// Loads in flight.
    pub loads_max: usize,
    /// Snapshots in flight.
    pub snapshots_max: usize,
    /// Stored bytes of live checkpoints beyond which what they hold becomes snapshots.
    pub live_bytes_max: u64,
    /// States held as trees.
    pub hot_max: usize,
    /// `adaptive.targetReconstruct` in microseconds.
    pub adaptive_us: Option<u64>,
    /// How far it may fall behind before only pressing snapshots are taken.
    pub back_off: BackOff,
}

/// Everything that enters.
#[derive(Debug)]
pub enum Input {
    /// Records of the partition, in offset order, following on those before.
    Records(Vec<Decoded>),
    /// A load has ended.
    Loaded(Load),
    /// Rows of a snapshot are acknowledged.
    SnapshotStored {
        /// Which one.
        flight: FlightId,
        /// Stored bytes of its newest full record, if it has one.
        full_bytes: Option<u64>,
        /// Stored bytes of its increments.
        increment_bytes: u64,
    },
    /// The log is not the one that was folded: stop.
    Halt(Poison),
    /// A snapshot was given up: nothing about it is certain.
    SnapshotAbandoned(FlightId),
    /// A snapshot was given up because what checkpoints hold of its events is damaged.
    SnapshotUnreadable(FlightId),
    /// A checkpoint's row of this partition is acknowledged.
    CheckpointStored(FlightId, LiveCheckpoint),
    /// A checkpoint was given up.
    CheckpointAbandoned(FlightId),
    /// Rows were written again at quorum.
    Adopted(FlightId),
    /// A dead letter is recorded.
    DeadLettered(Offset),
    /// The low watermark is in the index and committed, or that failed.
    Committed(Result<Offset, ()>),
    /// No record lies in `from..to`, and the log starts at `start`.
    Empty {
        /// The position that this was asked for.
        from: Offset,
        /// One past the last offset that was looked at.
        to: Offset,
        /// The log's start.
        start: Offset,
    },
    /// The log ends here now, as far as anybody has heard.
    LogEnd(Offset),
    /// Time has passed.
    Tick,
    /// Write a checkpoint of all that is dirty.
    TakeCheckpoint,
    /// Take a snapshot of one aggregate now, unless one of the version named, or of a later one, is durable;
    /// and why.
    SnapshotNow(Arc<str>, Option<Version>, Trigger, Reply),
    /// What is the head of this aggregate?
    Head(Arc<str>, Reply),
    /// Which aggregates are in memory?
    List(Listing, Reply),
    /// Fold what was taken, cover everything, commit, stop.
    Drain,
}

/// Everything that leaves.
#[derive(Debug)]
pub enum Effect {
    /// Load an aggregate from rest. `pending` is what live checkpoints hold of it.
    Load {
        /// Which one.
        id: Arc<str>,
        /// Entries of live checkpoints that no snapshot supersedes, in version order.
        pending: Vec<EntryRef>,
        /// Its first event that will be folded, or the position: rows and pending entries cover all before.
        until: Offset,
    },
    /// Write a snapshot: packs, then rows; answer `SnapshotStored`, `SnapshotAbandoned` or
    /// `SnapshotUnreadable`.
    Snapshot(FlightId, Box<SnapshotItem>),
    /// Write a checkpoint: pack, then this partition's row; answer `CheckpointStored` or
    /// `CheckpointAbandoned`.
    Checkpoint(FlightId, Vec<CheckpointItem>),
    /// Write these rows again until acknowledged; answer `Adopted`.
    Adopt(FlightId, Vec<SnapshotRow>),
    /// Delete this checkpoint's row; nothing waits for it.
    Retire(PackId),
    /// Record an event that cannot be folded, until acknowledged; answer `DeadLettered`.
    DeadLetter(Box<Decoded>, Poison),
    /// Write the low watermark to the index, then commit it; answer `Committed`.
    Commit(Offset),
    /// The answer to `SnapshotNow`: what is durable as a snapshot now, or why nothing is.
    SnapshotTaken(Reply, Result<Taken, String>),
    /// The answer to `Head`, and the position it is true for.
    HeadIs(Reply, Residence, Offset),
    /// The answer to `List`, in id order, and the position it is true for.
    Listed(Reply, Vec<Resident>, Offset),
    /// A checkpoint is wanted before its time.
    WantCheckpoint,
    /// The partition has stopped before an event and will not go on by itself.
    Halted(Offset, Poison),
    /// All that was folded is covered and committed.
    Drained,
}

/// One partition.
#[derive(Debug)]
pub struct Partition {
    key: PartitionKey,
    rules: Rules,
    settings: Settings,
    /// Next offset to fold.
    position: Offset,
    /// No record is known between the position and this.
    reached: Offset,
    /// Where this assignment started.
    started_at: Offset,
    slots: Slots,
    watermark: Watermark,
    checkpoints: Vec<checkpoints::Live>,
    /// Checkpoints that cannot be read, and where what they held ends: its events are folded again.
    unreadable: Vec<(PackId, Offset)>,
    checkpoint_flight: Option<flush::CheckpointFlight>,
    snapshots_in_flight: usize,
    loads_in_flight: usize,
    loads_waiting: VecDeque<slot::SlotId>,
    trips_waiting: VecDeque<slot::SlotId>,
    hot: VecDeque<slot::SlotId>,
    /// Whose snapshot or adoption a flight is.
    flights: BTreeMap<FlightId, Arc<str>>,
    next_flight: u64,
    halted: Option<(Offset, Poison)>,
    draining: Draining,
    checkpoint_wanted: bool,
    sweep: sweep::Sweep,
    /// Most aggregates of the last checkpoint were in an older live one too.
    checkpoints_overlap: bool,
    pressure: pressure::Pressure,
    costs: Costs,
    form: form::Form,
    /// Whose snapshots wait until nothing presses.
    put_off: VecDeque<slot::SlotId>,
    counts: Counts,
    /// Aggregates that were erased.
    erased: ErasedIds,
    /// Of the first owner of its log: whose events may be at rest.
    let_go: Option<rest::LetGo>,
    /// Monotonic time and wall clock of the last input.
    now_ms: u64,
    wall: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    Asked,
    Done,
}

impl Partition {
    /// A partition whose folding starts at `start`, the greatest valid low watermark, with the live
    /// checkpoints that were listed *after* that low watermark was read.
    #[must_use]
    pub fn new(
        key: PartitionKey,
        rules: Rules,
        settings: Settings,
        start: Offset,
        checkpoints: Vec<LiveCheckpoint>,
    ) -> Self {
        let checkpoints =
            checkpoints.into_iter().map(|live| checkpoints::Live::foreign(live, start)).collect();
        Self {
            key,
            rules,
            form: form::Form::new(settings.strategy),
            settings,
            position: start,
            reached: start,
            started_at: start,
            slots: Slots::default(),
            watermark: Watermark::new(start),
            checkpoints,
            unreadable: Vec::new(),
            checkpoint_flight: None,
            snapshots_in_flight: 0,
            loads_in_flight: 0,
            loads_waiting: VecDeque::new(),
            trips_waiting: VecDeque::new(),
            hot: VecDeque::new(),
            flights: BTreeMap::new(),
            next_flight: 0,
            halted: None,
            draining: Draining::No,
            checkpoint_wanted: false,
            sweep: sweep::Sweep::default(),
            checkpoints_overlap: false,
            pressure: pressure::Pressure::default(),
            costs: Costs::default(),
            put_off: VecDeque::new(),
            counts: Counts::default(),
            erased: ErasedIds::default(),
            let_go: None,
            now_ms: 0,
            wall: Timestamp(0),
        }
    }

    /// The same beside listed checkpoints that cannot be read, each with the end of its offsets; `start` lies
    /// at or before the first of what they held. They are retired once that is folded and covered again.
    #[must_use]
    pub fn beside_unreadable(mut self, unreadable: Vec<(PackId, Offset)>) -> Self {
        self.unreadable = unreadable;
        self
    }

    /// Takes one input; what is to be done about it is appended to `effects`.
    pub fn step(&mut self, input: Input, now: Now, effects: &mut Vec<Effect>) {
        (self.now_ms, self.wall) = (now.monotonic_ms, now.wall);
        match input {
            Input::Records(records) => self.take_records(records, now, effects),
            Input::Loaded(load) => self.take_load(load, now, effects),
            Input::SnapshotStored { flight, full_bytes, increment_bytes } => {
                self.snapshot_stored(flight, full_bytes, increment_bytes, effects);
            }
            Input::Halt(poison) => self.halt_from_outside(poison),
            Input::SnapshotAbandoned(flight) => self.snapshot_abandoned(flight, effects),
            Input::SnapshotUnreadable(flight) => self.snapshot_unreadable(flight, effects),
            Input::CheckpointStored(flight, live) => self.checkpoint_stored(flight, live, effects),
            Input::CheckpointAbandoned(flight) => self.checkpoint_abandoned(flight),
            Input::Adopted(flight) => self.adopted(flight, effects),
            Input::DeadLettered(offset) => self.watermark.letter_recorded(offset),
            Input::Committed(result) => self.watermark.commit_ended(result),
            Input::Empty { from, to, start } => self.pass_empty(from, to, start),
            Input::LogEnd(end) => self.note_log_end(end, effects),
            Input::Tick => self.trip_by_age(now, effects),
            Input::TakeCheckpoint => self.take_checkpoint(now, effects),
            Input::SnapshotNow(id, upto, trigger, reply) => {
                self.snapshot_now(&id, Waiter { reply, upto, trigger }, effects);
            }
            Input::Head(id, reply) => self.tell_head(&id, reply, effects),
            Input::List(listing, reply) => {
                effects.push(Effect::Listed(reply, self.list(&listing), self.position))
            }
            Input::Drain => self.drain(now, effects),
        }
        self.cool_down();
        self.retire_superseded(effects);
        self.retire_unreadable(effects);
        self.keep_within_memory(effects);
        self.keep_covered(effects);
        self.watermark.commit(self.position, effects);
        self.finish_drain(now, effects);
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
    }

    /// How far the log is known to be folded: the position, or beyond it what holds no record (markers of
    /// transactions, deleted records).
    #[must_use]
    pub fn reached(&self) -> Offset {
        self.reached.max(self.position)
    }

    /// Next offset to fold.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.position
    }

    /// First offset that neither a snapshot nor a checkpoint covers.
    #[must_use]
    pub fn low_watermark(&self) -> Offset {
        self.watermark.low(self.position)
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Which log this is.
    #[must_use]
    pub fn key(&self) -> &PartitionKey {
        &self.key
    }

    /// False while records must wait: the memory budget is spent, or the share of it that uncovered events
    /// may take; too many loads wait; an aggregate has as many cuts as may wait; or the partition is halted
    /// or draining.
    ///
    /// SUBTLE: where writing falls behind, uncovered events would fill the memory and drive out clean
    /// aggregates, which then have to be loaded again: that takes more time than is won by going on. In the
    /// same way, without a bound on loads a burst of new ids would fill the memory with events that wait, and
    /// drive out aggregates, which then have to be loaded again for the next of their events: ever more
    /// loads.
    #[must_use]
    pub fn wants_records(&self) -> bool {
        let max = self.settings.memory_bytes_max;
        self.halted.is_none()
            && self.draining == Draining::No
            && self.loads_waiting.len() <= LOADS_WAITING_SHARE * self.settings.loads_max
            && !self.slots.have_enough_cuts()
            && self.slots.tail_bytes() <= max / TAILS_SHARE
            && (self.memory_bytes() <= max || self.may_tables_fill_memory())
    }

    /// Where this assignment started.
    #[must_use]
    pub fn started_at(&self) -> Offset {
        self.started_at
    }

    /// Stops for a reason that lies outside the events: the log is not what was folded.
    pub fn halt_from_outside(&mut self, poison: Poison) {
        self.halted = Some((self.position, poison));
    }

    /// What it takes to reconstruct an aggregate, as far as it was measured.
    #[must_use]
    pub fn costs(&self) -> Costs {
        self.costs
    }

    /// Why and where the partition stands still.
    #[must_use]
    pub fn halted(&self) -> Option<&(Offset, Poison)> {
        self.halted.as_ref()
    }

    /// Bytes held: states, tails, parked events, tables of live checkpoints, ids that were let go.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.slots.bytes()
            + self.checkpoints.iter().map(checkpoints::Live::heap_bytes).sum::<usize>()
            + self.let_go.as_ref().map_or(0, rest::LetGo::heap_bytes)
    }

    /// Bytes of events that nothing durable covers.
    #[must_use]
    pub fn uncovered_bytes(&self) -> usize {
        self.slots.tail_bytes()
    }

    /// Snapshots and checkpoints that are being written.
    #[must_use]
    pub fn flights(&self) -> usize {
        self.snapshots_in_flight + usize::from(self.checkpoint_flight.is_some())
    }

    /// Aggregates that are being loaded.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.loads_in_flight
    }

    /// Aggregates in memory.
    #[must_use]
    pub fn residents(&self) -> usize {
        self.slots.len()
    }

    /// Packs of the checkpoints that are still live.
    pub fn live_checkpoints(&self) -> impl Iterator<Item = PackId> + '_ {
        self.checkpoints.iter().map(|live| live.pack())
    }

    fn mint_flight(&mut self) -> FlightId {
        self.next_flight += 1;
        FlightId(self.next_flight)
    }

    /// Checks what must hold between any two steps.
    ///
    /// # Panics
    /// If it does not: a bug, which a restart can survive and a wrong commit could not.
    pub fn assert_invariants(&self) {
        let low = self.low_watermark();
        // Where states are stored alone, write amplification may hold the count back.
        let spaced = self.settings.strategy.keeps_events();
        let events_max = spaced.then_some(self.settings.events_max);
        assert!(self.watermark.committed() <= low, "committed {} > LW {low}", self.watermark.committed());
        assert!(low <= self.position, "LW {low} > position {}", self.position);
        assert!(self.started_at <= low, "LW {low} below the start {}", self.started_at);
        let is_tree = |slot: &slot::Slot| {
            slot.live().is_some_and(|live| matches!(live.aggregate.state, State::Hot(..)))
        };
        let trees = self.slots.iter().filter(|(_, slot)| is_tree(slot)).count();
        assert!(trees <= self.hot.len(), "{trees} trees, {} of them known", self.hot.len());
        for (id, slot) in self.slots.iter() {
            let uncovered = slot.uncovered_since();
            assert_eq!(
                self.watermark.is_listed(id, uncovered),
                uncovered.is_some(),
                "dirty list and tail disagree"
            );
            slot.assert_invariants(low, events_max);
        }
    }
}
