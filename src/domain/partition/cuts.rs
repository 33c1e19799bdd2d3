//! Cuts: the versions at which an aggregate's snapshot records end.
//!
//! A trip of `eventThreshold` or `sizeThreshold` freezes a *cut* at once, whether its snapshot can be taken
//! or must wait for one in flight, for an adoption or for its turn. One flight carries many of them, so an
//! increment spans no more events than were promised, unless cuts have no room (`grown`).
//!
//! INVARIANT: cuts are in version order and no two have one version; those in flight come first. Thresholds
//! count from the newest of them (`Baseline`). What is dropped gives its range back: the next cut spans it.

use super::Settings;
use super::form::Form;
use super::live::Live;
use crate::domain::aggregate::{Aggregate, RecentIds, State};
use crate::domain::ids::{Offset, Version};
use crate::domain::row::Trigger;
use std::sync::Arc;

/// Cuts of one aggregate at which records wait for an acknowledgement.
///
/// COST: where folding is faster than flushes, a range that grew instead would stay in the history for good,
/// and each version in it would be folded from far away.
pub(super) const CUTS_ENOUGH: usize = 64;
/// Cuts of a flight that follows on one that was given up.
pub(super) const CUTS_AFTER_FAILURE: usize = 4;
/// Cuts of one aggregate, with those of the records that were taken by then; beyond them the last range
/// grows.
pub const CUTS_MAX: usize = 2 * CUTS_ENOUGH;
/// Bytes that the cuts of one aggregate may take; a share of the partition's memory where that is less.
pub(super) const CUT_BYTES_MAX: usize = 1 << 20;
/// A full record is taken before its turn where so many times its bytes of events came since the last.
const CHEAP_FULL: u64 = 32;
/// Bytes that a cut takes beside its state: the struct, its text, its place in the queue.
const CUT_BYTES: usize = 480;

/// One version of an aggregate at which a record ends.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Why.
    pub trigger: Trigger,
    /// The aggregate at this version, its state as bytes; without its state where no full record is due.
    pub aggregate: Aggregate,
    /// It was deleted at this version, whether or not its state is here.
    pub deleted: bool,
    /// Offsets of the events since the cut or row before, for a full record whose events stay in the topic.
    pub trail: Option<Vec<Offset>>,
    /// Write the state as a full record.
    pub full: bool,
    /// Monotonic time at which it was made.
    pub tripped_ms: u64,
}

/// What thresholds count from: the newest cut, or the newest row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Baseline {
    pub(super) version: Version,
    /// `Live::folded_bytes` of then.
    pub(super) bytes: u64,
    /// `Live::folded_bytes` at the newest full record, and increments since.
    pub(super) full_at_bytes: u64,
    pub(super) increments: u16,
    /// Events between the newest full record and this; beyond 65,535 as many as that.
    pub(super) since_full: u16,
    /// Bytes of the state.
    pub(super) state_bytes: u32,
}

impl Baseline {
    /// An aggregate of which nothing is cut yet.
    pub(super) fn of(aggregate: &Aggregate) -> Self {
        Self { state_bytes: state_bytes(aggregate), ..Self::default() }
    }
}

/// Bytes of a state; no limit lets one have more than are counted.
fn state_bytes(aggregate: &Aggregate) -> u32 {
    u32::try_from(aggregate.state.bytes_bound()).unwrap_or(u32::MAX)
}

/// A cut that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) cut: Arc<Cut>,
    /// What thresholds counted from before it.
    before: Baseline,
    bytes: usize,
}

impl Cut {
    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.aggregate.version
    }

    /// A cut of this aggregate as it is now.
    #[must_use]
    pub fn of(
        aggregate: &Aggregate,
        trigger: Trigger,
        trail: Option<Vec<Offset>>,
        full: bool,
        tripped_ms: u64,
    ) -> Self {
        let deleted = aggregate.is_deleted();
        let aggregate = if full { aggregate.cooled_copy() } else { aggregate.facts() };
        Self { trigger, aggregate, deleted, trail, full, tripped_ms }
    }

    fn heap_bytes(&self) -> usize {
        let trail = self.trail.as_ref().map_or(0, |trail| trail.len() * size_of::<Offset>());
        CUT_BYTES + self.aggregate.heap_bytes() + trail
    }
}

impl Live {
    /// Event bytes folded since the newest cut or row.
    pub(super) fn bytes_since(&self) -> u64 {
        self.folded_bytes - self.since.bytes
    }

    /// Cuts that are not in flight.
    pub(super) fn cuts_waiting(&self) -> usize {
        self.busy.cuts.len() - self.cuts_in_flight()
    }

    fn cuts_in_flight(&self) -> usize {
        self.busy.flight.as_ref().map_or(0, |flight| flight.cuts)
    }

    /// Whether one more cut, with or without its state, keeps within the bounds.
    pub(super) fn has_room_for_cut(&self, full: bool, bytes_max: usize) -> bool {
        let state = if full { self.aggregate.state.bytes_bound() } else { 0 };
        self.busy.cuts.len() < CUTS_MAX && self.busy.cut_bytes + CUT_BYTES + state <= bytes_max
    }

    /// Freezes the aggregate as it is.
    pub(super) fn freeze(&mut self, trigger: Trigger, full: bool, with_trail: bool, now_ms: u64) {
        let before = self.since;
        let trail = self.busy.trail.cut_off(with_trail);
        let cut = Arc::new(Cut::of(&self.aggregate, trigger, trail, full, now_ms));
        let bytes = cut.heap_bytes();
        self.busy.cut_bytes += bytes;
        self.busy.cuts.push_back(Frozen { cut, before, bytes });
        self.grown = false;
        let state_bytes = state_bytes(&self.aggregate);
        let events = u16::try_from(self.aggregate.version.0 - self.since.version.0).unwrap_or(u16::MAX);
        self.since.since_full = if full { 0 } else { self.since.since_full.saturating_add(events) };
        self.since.version = self.aggregate.version;
        self.since.bytes = self.folded_bytes;
        self.since.state_bytes = state_bytes;
        if full {
            self.since.increments = 0;
            self.since.full_at_bytes = self.folded_bytes;
            if self.full_row_bytes == 0 {
                // Until its stored size is known, what it will be at the most holds the next one back.
                self.full_row_bytes = state_bytes;
            }
        } else {
            self.since.increments = self.since.increments.saturating_add(1);
        }
    }

    /// Drops the newest cut, which is not in flight: the next one spans its range too.
    pub(super) fn thaw(&mut self) -> Option<Trigger> {
        if self.cuts_waiting() == 0 {
            return None;
        }
        let frozen = self.busy.cuts.pop_back()?;
        self.busy.cut_bytes -= frozen.bytes;
        self.since = frozen.before;
        self.busy.trail.rejoin(frozen.cut.trail.as_deref());
        self.grown = true;
        Some(frozen.cut.trigger)
    }

    /// Bytes of the events of the first cuts, so many.
    pub(super) fn cut_event_bytes(&self, cuts: usize) -> u64 {
        let at = |cut: usize| self.busy.cuts.get(cut).map_or(self.since.bytes, |frozen| frozen.before.bytes);
        at(cuts).saturating_sub(at(0))
    }

    /// The first cuts are acknowledged, and with them all up to `covered`.
    pub(super) fn land(&mut self, flown: usize, covered: Version) -> Vec<Arc<Cut>> {
        let mut landed = Vec::with_capacity(flown);
        while self
            .busy
            .cuts
            .front()
            .is_some_and(|first| landed.len() < flown || first.cut.version() <= covered)
        {
            let frozen = self.busy.cuts.pop_front().expect("the front was there");
            self.busy.cut_bytes -= frozen.bytes;
            landed.push(frozen.cut);
        }
        landed
    }

    /// Drops all cuts that are not in flight; a snapshot is due for the reason of the first.
    pub(super) fn thaw_all(&mut self) {
        while let Some(trigger) = self.thaw() {
            self.busy.trip = Some(trigger);
        }
    }
}

impl Aggregate {
    /// A copy of all but the state.
    fn facts(&self) -> Self {
        Self {
            state: State::Absent,
            last_event_type: self.last_event_type.clone(),
            last_event_id: self.last_event_id.clone(),
            recent_event_ids: RecentIds::default(),
            quarantine: self.quarantine.clone(),
            ..*self
        }
    }
}

/// Whether the next cut has a full record.
///
/// COST: a version is folded from the full record before it, half the distance of two at the mean. Where
/// states are small beside their events, full records come with every cut, for a few bytes.
pub(super) fn is_full_due(live: &Live, settings: &Settings, form: &Form) -> bool {
    if form.is_full() {
        return true;
    }
    let full_row_bytes = u64::from(live.full_row_bytes);
    let earned = settings.write_amplification_permille * full_row_bytes;
    let since_full = live.folded_bytes - live.since.full_at_bytes;
    let bytes = match full_row_bytes {
        0 => live.aggregate.state.bytes_bound() as u64,
        known => known,
    };
    let is_cheap = bytes > 0 && since_full >= CHEAP_FULL * bytes;
    let due = u32::from(live.since.increments) + 1 >= form.full_every() || is_cheap;
    due && since_full * 1000 >= earned && live.aggregate.version > Version(0)
}

/// Whether the next flight is a full record alone.
pub(super) fn is_whole_due(live: &Live) -> bool {
    live.busy.whole && live.aggregate.version > Version(0)
}

/// Cuts an aggregate of which nothing is in flight at its head, unless it is cut there with its mark. Where
/// cuts have no room, the last one moves here.
pub(super) fn cut_at_head(
    live: &mut Live,
    trigger: Trigger,
    (settings, form): (&Settings, &Form),
    bytes_max: usize,
    now_ms: u64,
) {
    let is_whole_due = is_whole_due(live);
    // Whoever asks for a snapshot gets the state itself.
    let is_asked = !live.busy.manual.is_empty() && live.aggregate.version > Version(0);
    let may_be_full = is_asked || is_full_due(live, settings, form);
    let is_here = |cut: &Cut| cut.version() == live.aggregate.version;
    let marked = live.aggregate.quarantine.is_some();
    match live.busy.cuts.back().map(|frozen| &frozen.cut) {
        _ if is_whole_due => while live.thaw().is_some() {},
        Some(cut)
            if is_here(cut) && cut.aggregate.quarantine.is_some() == marked && (cut.full || !is_asked) =>
        {
            return;
        }
        Some(cut) if is_here(cut) => drop(live.thaw()),
        Some(_) if !live.has_room_for_cut(may_be_full, bytes_max) => drop(live.thaw()),
        Some(_) | None => {}
    }
    let full = is_whole_due || is_asked || is_full_due(live, settings, form);
    live.freeze(trigger, full, form.keeps_trails(), now_ms);
}
