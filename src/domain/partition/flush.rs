//! When snapshots are due, and the snapshots and checkpoints in flight.

use super::SnapshotItem;
use super::cuts::{
    CUT_BYTES_MAX, CUTS_AFTER_FAILURE, CUTS_ENOUGH, Cut, cut_at_head, is_full_due, is_whole_due,
};
use super::form::Landed;
use super::live::{Flight, Live};
use super::manual::{Taken, tell};
use super::slot::{Body, SlotId};
use super::{CheckpointItem, Draining, Effect, FlightId, LiveCheckpoint, Now, Partition};
use crate::domain::ids::{Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::Trigger;
use std::sync::Arc;

/// A checkpoint in flight.
#[derive(Debug)]
pub(super) struct CheckpointFlight {
    id: FlightId,
    started_ms: u64,
    /// By id, not by slot: a slot may have been covered by a snapshot, evicted and given away meanwhile.
    covers: Vec<(Arc<str>, Version, bool)>,
    /// The low watermark as it is once this alone is acknowledged.
    low: Offset,
}

impl Partition {
    /// A threshold is reached: the aggregate is cut here, and its snapshot taken as soon as it can be. Where
    /// there is no room for one more cut, the range grows until then.
    pub(super) fn cut(&mut self, slot: SlotId, trigger: Trigger, effects: &mut Vec<Effect>) {
        let bytes_max = self.cut_bytes_max();
        let (settings, form) = (&self.settings, &self.form);
        let live = self.slots.get_mut(slot).live_mut().expect("asked of a live aggregate");
        let full = trigger == Trigger::Adaptive || is_full_due(live, settings, form);
        if live.has_room_for_cut(full, bytes_max) {
            live.freeze(trigger, full, form.keeps_trails(), self.now_ms);
        } else {
            live.grown = true;
            live.busy.trip.get_or_insert(trigger);
        }
        self.try_snapshot(slot, effects);
    }

    fn cut_bytes_max(&self) -> usize {
        CUT_BYTES_MAX.min(self.settings.memory_bytes_max / 8)
    }

    pub(super) fn want_snapshot(&mut self, slot: SlotId, trigger: Trigger, effects: &mut Vec<Effect>) {
        let live = self.slots.get_mut(slot).live_mut().expect("asked of a live aggregate");
        live.busy.trip.get_or_insert(trigger);
        self.touch(slot);
        self.try_snapshot(slot, effects);
    }

    /// Queues the snapshot that a slot waits for, if it waits for one.
    pub(super) fn try_snapshot(&mut self, slot: SlotId, effects: &mut Vec<Effect>) {
        let live = self.slots.get_mut(slot).live_mut();
        if let Some(live) = live.filter(|live| live.busy.trip.is_some() || live.cuts_waiting() > 0)
            && !std::mem::replace(&mut live.busy.queued, true)
        {
            self.trips_waiting.push_back(slot);
        }
        self.start_waiting(effects);
    }

    /// Starts as many of the snapshots that wait as may be in flight.
    pub(super) fn start_waiting(&mut self, effects: &mut Vec<Effect>) {
        while self.snapshots_in_flight < self.settings.snapshots_max {
            let Some(slot) = self.trips_waiting.pop_front() else { return };
            self.start_snapshot(slot, effects);
        }
    }

    /// Starts the snapshot a slot waits for. Where it must wait for a flight or an adoption, their end tries
    /// again.
    fn start_snapshot(&mut self, slot: SlotId, effects: &mut Vec<Effect>) {
        let Some(live) = self.slots.live_or_gone(slot) else { return };
        if let Some(busy) = live.busy.get_mut() {
            busy.queued = false;
        }
        if live.busy.trip.is_none() && live.cuts_waiting() == 0 {
            return;
        }
        let unadopted = live.busy.adoption.is_some() && !mutant(Mutant::IncrementOnUnadoptedRow);
        if live.busy.flight.is_some() || unadopted {
            return;
        }
        self.tell_covered(slot, effects);
        let Some(live) = self.slots.live_or_gone(slot) else { return };
        if live.busy.trip.is_none() && live.cuts_waiting() == 0 {
            return self.touch(slot);
        }
        let version = live.aggregate.version;
        let nothing_new =
            live.row == version && !live.mark_uncovered && (live.has_row || version == Version(0));
        let unmarked_row = live.aggregate.quarantine.is_some() && !live.row_marked;
        if live.busy.unreadable || (live.busy.cuts.is_empty() && nothing_new && !unmarked_row) {
            live.busy.trip = None;
            let answer = match live.busy.unreadable {
                true => Err("the aggregate cannot be read".to_owned()),
                false => Ok(Taken::Durable { version, created: false }),
            };
            tell(std::mem::take(&mut live.busy.manual), &answer, effects);
            return self.touch(slot);
        }
        let bytes_max = self.cut_bytes_max();
        let live = self.slots.get_mut(slot).live_mut().expect("it was live above");
        if let Some(trigger) = live.busy.trip.take() {
            cut_at_head(live, trigger, (&self.settings, &self.form), bytes_max, self.now_ms);
        }
        self.take_off(slot, effects);
    }

    /// Hands over the cuts of a slot, as many as one flight carries.
    fn take_off(&mut self, slot: SlotId, effects: &mut Vec<Effect>) {
        let live = self.slots.get_mut(slot).live_mut().expect("it is about to fly");
        // SUBTLE: rows of one aggregate are written one after the other, and a flush that ran out of time was
        // maybe too large for it: the next one has few (seed 1006, given).
        let most = if live.busy.given_up { CUTS_AFTER_FAILURE } else { CUTS_ENOUGH };
        let cuts = live.busy.cuts.iter().take(most).map(|frozen| Arc::clone(&frozen.cut));
        let cuts: Vec<Arc<Cut>> = cuts.collect();
        let last = cuts.last().expect("it has a cut");
        let (version, with_mark) = (last.version(), last.aggregate.quarantine.is_some());
        // A cut without its state was made while events were stored: they are what is written of it.
        let events_alone = cuts.iter().any(|cut| !cut.full);
        let increment = (!self.form.is_full() || events_alone) && !is_whole_due(live);
        let tail = live.tail.upto(version);
        let (row, has_row) = (live.row, live.has_row);
        // Whoever asked for a snapshot waits for that of the last cut.
        let is_all = cuts.len() == live.busy.cuts.len();
        let waiters = if is_all { std::mem::take(&mut live.busy.manual) } else { Vec::new() };
        let id = Arc::clone(&self.slots.get(slot).id);
        let pending = self.pending_entries(&id, has_row.then_some(row));
        let flight = self.mint_flight();
        self.flights.insert(flight, Arc::clone(&id));
        self.snapshots_in_flight += 1;
        let live = self.slots.get_mut(slot).live_mut().expect("it was live above");
        let airborne = Flight { id: flight, version, with_mark, cuts: cuts.len(), waiters };
        live.busy.flight = Some(Box::new(airborne));
        if mutant(Mutant::RetiredBeforeAck) {
            self.supersede(&id, version, with_mark);
        }
        effects.push(Effect::Snapshot(
            flight,
            Box::new(SnapshotItem { id, row, pending, tail, increment, cuts, first_offset: None }),
        ));
        self.touch(slot);
    }

    pub(super) fn snapshot_stored(
        &mut self,
        flight: FlightId,
        full_bytes: Option<u64>,
        increment_bytes: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some((slot, id)) = self.touch_down(flight) else { return };
        let live = self.slots.get_mut(slot).live_mut().expect("what is in flight is not evicted");
        let stored = *live.busy.flight.take().expect("the flight of this slot");
        live.busy.given_up = false;
        assert_eq!(stored.id, flight, "one snapshot of an aggregate at a time");
        // Rule 3: only what the snapshot holds is covered; what was folded since stays dirty.
        let covered =
            if mutant(Mutant::CleanThoughNewerFolded) { live.aggregate.version } else { stored.version };
        live.tail.cover(covered, 0);
        let event_bytes = live.cut_event_bytes(stored.cuts);
        let cuts = live.land(stored.cuts, covered);
        for cut in &cuts {
            self.counts.snapshots[cut.trigger as usize] += 1;
            self.counts.creation.add(self.now_ms.saturating_sub(cut.tripped_ms));
            live.busy.whole &= !cut.full;
        }
        let fulls = cuts.iter().filter(|cut| cut.full).count() as u64;
        let snapshots = cuts.len() as u64;
        self.counts.form_changes += u64::from(self.form.stored(Landed {
            snapshots,
            fulls,
            event_bytes,
            increment_bytes,
            full_bytes,
        }));
        live.row = covered;
        live.has_row = true;
        live.entries = 0;
        live.row_marked = stored.with_mark;
        live.mark_uncovered &= !stored.with_mark;
        if let Some(bytes) = full_bytes {
            live.full_row_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
        tell(stored.waiters, &Ok(Taken::Durable { version: stored.version, created: true }), effects);
        self.supersede(&id, stored.version, stored.with_mark);
        if let Some(trigger) = self.due_now(slot) {
            self.cut(slot, trigger, effects);
        }
        self.touch(slot);
        self.try_snapshot(slot, effects);
        // COST: there is room for more now, and time passes until the next checkpoint; half of them at once,
        // so that neighbours by id fly together.
        if self.snapshots_in_flight * 2 < self.settings.snapshots_max {
            self.go_on_sweeping(effects);
        }
    }

    /// The flight of a snapshot has ended, whichever way; answers whose it was.
    fn touch_down(&mut self, flight: FlightId) -> Option<(SlotId, Arc<str>)> {
        let whose = self.slot_of(flight)?;
        self.snapshots_in_flight -= 1;
        // A checkpoint that found everything in flight was none: it may be asked for again.
        self.checkpoint_wanted &= self.checkpoint_flight.is_some();
        Some(whose)
    }

    /// Nothing is certain about it: its events are as uncovered as before, and its cuts wait again.
    pub(super) fn snapshot_abandoned(&mut self, flight: FlightId, effects: &mut Vec<Effect>) {
        let Some((slot, _)) = self.touch_down(flight) else { return };
        self.counts.snapshots_abandoned += 1;
        let live = self.slots.get_mut(slot).live_mut().expect("what is in flight is not evicted");
        let lost = *live.busy.flight.take().expect("the flight of this slot");
        live.busy.manual.extend(lost.waiters);
        live.busy.given_up = true;
        if live.busy.whole {
            // A full record alone, at the head: increments up to the cuts cannot be written.
            live.thaw_all();
        }
        self.touch(slot);
        self.try_snapshot(slot, effects);
    }

    /// The state is whole, its latest events are not: the snapshot is a full record without them. Versions
    /// between can be told as long as the log holds their events; to insist on them would hold the low
    /// watermark for ever.
    pub(super) fn snapshot_unreadable(&mut self, flight: FlightId, effects: &mut Vec<Effect>) {
        let slot = self.flights.get(&flight).and_then(|id| self.slots.find(id));
        if let Some(slot) = slot
            && let Some(live) = self.slots.get_mut(slot).live_mut()
        {
            live.busy.whole = true;
        }
        self.snapshot_abandoned(flight, effects);
    }

    /// Hands over everything that is dirty and not being snapshotted anyway. Always answers with one
    /// checkpoint effect, empty where there is nothing to write or one is in flight already.
    pub(super) fn take_checkpoint(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let flight = self.mint_flight();
        let mut items = Vec::new();
        let mut covers = Vec::new();
        let mut low = self.watermark.before_letters(self.position);
        if self.checkpoint_flight.is_none() {
            let draining = self.draining != Draining::No;
            let dirty: Vec<SlotId> = self.watermark.dirty().collect();
            for slot in dirty {
                let slot = self.slots.get(slot);
                let live =
                    slot.live().filter(|live| live.is_dirty() && (draining || live.busy.flight.is_none()));
                let Some(live) = live else {
                    low = slot.uncovered_since().map_or(low, |offset| low.min(offset));
                    continue;
                };
                low = live.uncovered_beside_tail().map_or(low, |offset| low.min(offset));
                let mark = live.aggregate.quarantine.as_deref().cloned().filter(|_| live.mark_uncovered);
                let mark = mark.filter(|_| !mutant(Mutant::MarkForgotten));
                covers.push((Arc::clone(&slot.id), live.aggregate.version, live.mark_uncovered));
                items.push(CheckpointItem {
                    id: Arc::clone(&slot.id),
                    from: live.durable(),
                    events: live.tail.clone(),
                    mark,
                    effective_time: live.aggregate.effective_time,
                });
            }
        }
        if mutant(Mutant::CommitBeforeCheckpointRow) {
            self.cover_unwritten(&covers, now.monotonic_ms);
        }
        if !items.is_empty() {
            self.checkpoint_flight =
                Some(CheckpointFlight { id: flight, started_ms: now.monotonic_ms, covers, low });
        }
        effects.push(Effect::Checkpoint(flight, items));
    }

    /// The low watermark as it is once the checkpoint that is in flight is durable, whatever becomes of
    /// snapshots beside it: whoever finds its pack and all that was acknowledged before may start there.
    #[must_use]
    pub fn low_after_checkpoint(&self) -> Option<Offset> {
        self.checkpoint_flight.as_ref().map(|flight| flight.low)
    }

    /// Counts events as covered that were just handed over: what only a mutant does.
    fn cover_unwritten(&mut self, covers: &[(Arc<str>, Version, bool)], since_ms: u64) {
        for (id, version, with_mark) in covers {
            let Some(slot) = self.slots.find(id) else { continue };
            let Some(live) = self.slots.get_mut(slot).live_mut() else { continue };
            live.tail.cover(*version, since_ms);
            live.mark_uncovered &= !with_mark;
            self.touch(slot);
        }
    }

    pub(super) fn checkpoint_stored(
        &mut self,
        flight: FlightId,
        checkpoint: LiveCheckpoint,
        effects: &mut Vec<Effect>,
    ) {
        let Some(stored) = self.checkpoint_flight.take_if(|stored| stored.id == flight) else { return };
        self.counts.checkpoints += 1;
        self.checkpoint_wanted = false;
        if mutant(Mutant::RetireOlderAfterOwn) {
            effects.extend(self.checkpoints.drain(..).map(|live| Effect::Retire(live.pack())));
        }
        self.checkpoints.push(super::checkpoints::Live::own(checkpoint));
        let (mut again, all) = (0, stored.covers.len());
        // COST: asked of all before anything is covered, so that the waits for memory overlap.
        let found: Vec<Option<SlotId>> = stored.covers.iter().map(|(id, ..)| self.slots.find(id)).collect();
        for ((id, version, with_mark), found) in stored.covers.into_iter().zip(found) {
            let Some(slot) = found else {
                // Evicted meanwhile, so an acknowledged snapshot covers it.
                self.supersede(&id, version, with_mark);
                continue;
            };
            let Some(live) = self.slots.get_mut(slot).live_mut() else {
                self.supersede(&id, version, with_mark);
                continue;
            };
            again += usize::from(live.entries > 0);
            live.entries = live.entries.saturating_add(1);
            let newest = live.aggregate.version;
            let covered = if mutant(Mutant::PendingThoughNewerFolded) { newest } else { version };
            live.tail.cover(covered.min(newest), stored.started_ms);
            live.mark_uncovered &= !with_mark;
            // INVARIANT(4): a snapshot acknowledged meanwhile supersedes; a row still being adopted does not.
            // COST: of older checkpoints it did so when it was acknowledged, and few rows come so far.
            let (row, row_marked) = (live.row, live.row_marked);
            if live.has_row && live.busy.adoption.is_none() && row >= version {
                let new = self.checkpoints.last_mut().expect("it was pushed above");
                new.supersede(super::slot::hash(&id), &id, row, row_marked);
            } else if live.has_row && mutant(Mutant::UnadoptedRowSupersedes) {
                self.supersede(&id, row, row_marked);
            }
            self.touch(slot);
        }
        self.checkpoints_overlap = again * 2 > all;
        self.go_on_sweeping(effects);
    }

    pub(super) fn checkpoint_abandoned(&mut self, flight: FlightId) {
        if self.checkpoint_flight.take_if(|lost| lost.id == flight).is_some() {
            self.counts.checkpoints_abandoned += 1;
            self.checkpoint_wanted = false;
        }
    }

    /// Trips whatever is older than `timeThreshold`: dirty aggregates by the first event of their tail,
    /// pending ones by the age of the checkpoint that holds them.
    pub(super) fn trip_by_age(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let age_max = self.settings.age_ms_max;
        let mut old = Vec::new();
        for slot in self.watermark.dirty() {
            let Some(live) = self.slots.get(slot).live() else { continue };
            if !live.is_dirty() {
                continue;
            }
            if now.monotonic_ms.saturating_sub(live.tail.since_ms()) < age_max {
                break;
            }
            if live.busy.trip.is_none() && live.busy.flight.is_none() {
                old.push(slot);
            }
        }
        for slot in old {
            self.want_snapshot(slot, Trigger::Age, effects);
        }
        self.go_on_sweeping(effects);
        self.start_waiting(effects);
        if self.draining == Draining::Asked && self.checkpoint_flight.is_none() {
            // Events that still wait for loads come with a later one; the time for all of them may end first.
            self.take_checkpoint(now, effects);
        }
    }

    pub(super) fn drain(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.draining == Draining::No {
            self.draining = Draining::Asked;
            if self.checkpoint_flight.is_none() {
                self.take_checkpoint(now, effects);
            }
        }
    }

    pub(super) fn finish_drain(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.draining != Draining::Asked || self.checkpoint_flight.is_some() {
            return;
        }
        // INVARIANT: an event that waits for a load was taken, so it is folded and covered like all others. A
        // partition that halts does not wait: what its log would add may never come.
        let is_parked = |slot: &SlotId| matches!(self.slots.get(*slot).body, Body::Loading(_));
        let waits = self.halted.is_none() && !mutant(Mutant::DrainLeavesParked);
        let parked = waits && self.watermark.dirty().any(|slot| is_parked(&slot));
        let is_dirty = |slot| self.slots.get(slot).live().is_some_and(Live::is_dirty);
        let dirty = self.watermark.dirty().any(is_dirty);
        if dirty && !parked {
            return self.take_checkpoint(now, effects);
        }
        let settled = self.watermark.letters_outstanding() == 0 && self.watermark.is_settled(self.position);
        if dirty || parked || !settled {
            return;
        }
        self.draining = Draining::Done;
        effects.push(Effect::Drained);
    }

    /// The slot a flight belongs to, and forgets the flight.
    pub(super) fn slot_of(&mut self, flight: FlightId) -> Option<(SlotId, Arc<str>)> {
        let id = self.flights.remove(&flight)?;
        Some((self.slots.find(&id)?, id))
    }
}
