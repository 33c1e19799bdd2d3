//! Which aggregates are in memory: loads, adoption of provisional rows, eviction.

use super::live::{Adoption, Live, Noted};
use super::slot::{Body, Loading, Slot, SlotId};
use super::trail::Trail;
use super::{Effect, EntryRef, Epochs, FlightId, Now, Partition, Reply, TAILS_SHARE, manual};
use crate::domain::aggregate::{Aggregate, State};
use crate::domain::event::Decoded;
use crate::domain::ids::{Offset, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::poison::Poison;
use crate::domain::record::QuarantineMark;
use crate::domain::row::{RecordKind, SnapshotRow, Trigger};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The end of a load.
#[derive(Debug)]
pub struct Load {
    /// Whose.
    pub id: Arc<str>,
    /// What rest holds of it, or why nothing that is there can be read (never for an error that may pass).
    pub result: Result<Box<Loaded>, Poison>,
    /// Microseconds that it took, if somebody measured that.
    pub took_us: Option<u64>,
}

/// What rest holds of an aggregate.
#[derive(Debug)]
pub struct Loaded {
    /// It, folded as far as rows and pending entries reach; at genesis if there are none.
    pub aggregate: Aggregate,
    /// Rows seen, newest first: all from the newest down to the newest readable full one (or the first), and
    /// all above the oldest version that a pending entry starts from.
    pub rows: Vec<SnapshotRow>,
    /// Offsets of its events since the newest row; none if there are more than
    /// [`TRAIL_MAX`](super::TRAIL_MAX).
    pub trail: Option<Vec<Offset>>,
}

/// What a partition's memory says of one aggregate.
#[derive(Debug)]
pub enum Residence {
    /// It, as of the position.
    Here(Box<Aggregate>),
    /// It is being loaded, cannot be read, or was loaded from beyond the position.
    Unsure,
    /// Nothing: all of its events below the position are in snapshots and live checkpoints, acknowledged.
    /// With what live checkpoints hold of it, where that can be told without reading them.
    Absent(Option<Pending>),
}

/// What live checkpoints hold of an aggregate that no snapshot does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The newest version; 0 if they hold nothing.
    pub upto: Version,
    /// How far these checkpoints come, by leader epoch: as long as the log has all that, it has this.
    pub epochs: Epochs,
}

/// Which aggregates of a partition's memory are wanted.
#[derive(Clone, Debug)]
pub struct Listing {
    /// What their ids start with.
    pub prefix: Arc<str>,
    /// Only ids after this one.
    pub after: Option<Arc<str>>,
    /// At most so many.
    pub limit: usize,
}

/// One aggregate in memory, as lists tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Its id.
    pub id: Arc<str>,
    /// Its version.
    pub version: Version,
    /// Effective time of that version.
    pub effective_time: Timestamp,
    /// It is deleted.
    pub deleted: bool,
}

impl Partition {
    /// Asks for the load of a slot that waits for one, if loads are not all taken.
    pub(super) fn ask_load(&mut self, slot: SlotId, effects: &mut Vec<Effect>) {
        let Body::Loading(loading) = &mut self.slots.get_mut(slot).body else { return };
        if loading.asked {
            return;
        }
        loading.asked = true;
        if self.loads_in_flight >= self.settings.loads_max {
            self.loads_waiting.push_back(slot);
        } else {
            self.start_load(slot, effects);
        }
    }

    fn start_load(&mut self, slot: SlotId, effects: &mut Vec<Effect>) {
        let id = Arc::clone(&self.slots.get(slot).id);
        let parked = match &self.slots.get(slot).body {
            Body::Loading(loading) => loading.parked.front().map(|decoded| decoded.record.offset),
            Body::Live(_) => None,
        };
        let until = parked.unwrap_or(self.position);
        let pending = self.pending_entries(&id, None);
        self.loads_in_flight += 1;
        self.counts.loads += 1;
        effects.push(Effect::Load { id, pending, until });
    }

    pub(super) fn take_load(&mut self, load: Load, now: Now, effects: &mut Vec<Effect>) {
        self.loads_in_flight -= 1;
        if let Some(waiting) = self.loads_waiting.pop_front() {
            self.start_load(waiting, effects);
        }
        let Some(slot) = self.slots.find(&load.id) else { return };
        let Some(loading) = self.slots.get_mut(slot).take_loading() else { return };
        if load.result.is_err() && loading.parked.is_empty() {
            return self.leave_unread(slot, loading, effects);
        }
        let first =
            loading.parked.front().map(|decoded| (decoded.record.offset, decoded.record.leader_epoch));
        let (first, epoch) = first.unwrap_or((self.position, -1));
        if let (Ok(loaded), Some(took_us)) = (&load.result, load.took_us) {
            let fulls = loaded.rows.iter().filter(|row| row.kind == RecordKind::Full);
            let full = fulls.map(|row| row.version).max().unwrap_or_default();
            self.costs.learn(took_us, loaded.aggregate.version.0.saturating_sub(full.0));
        }
        let live = match load.result {
            Ok(loaded) => self.bring_to_life(&load.id, *loaded, first, effects),
            Err(poison) => self.unreadable(&load.id, (first, epoch), poison, now),
        };
        self.live_on(slot, live, loading, now, effects);
        // COST: as many loads as there may be take a few milliseconds, a tick a hundred.
        if self.loads_in_flight * 2 < self.settings.loads_max {
            self.go_on_sweeping(effects);
        }
    }

    /// Starts an aggregate whose first event has come and of which nothing is at rest; false if rest has to
    /// be asked.
    pub(super) fn begin(&mut self, slot: SlotId, now: Now, effects: &mut Vec<Effect>) -> bool {
        let Slot { id, body: Body::Loading(loading), .. } = self.slots.get(slot) else { return false };
        let Some(first) = loading.parked.front().filter(|_| !loading.asked) else { return false };
        let (id, first) = (Arc::clone(id), first.record.offset);
        let Some(nothing) = self.nothing_at_rest(&id) else { return false };
        let Some(loading) = self.slots.get_mut(slot).take_loading() else { return false };
        let live = self.bring_to_life(&id, nothing, first, effects);
        self.live_on(slot, live, loading, now, effects);
        true
    }

    /// Folds what waited for an aggregate, and answers who waited.
    fn live_on(&mut self, slot: SlotId, live: Live, loading: Loading, now: Now, effects: &mut Vec<Effect>) {
        if matches!(live.aggregate.state, State::Hot(..)) {
            self.hot.push_back(slot);
        }
        self.slots.get_mut(slot).body = Body::Live(live);
        self.fold_parked(slot, loading.parked, now, effects);
        if self.slots.get(slot).live().is_some() {
            for waiter in loading.waiters {
                self.want_manual(slot, waiter, effects);
            }
            let entries = self.slots.get(slot).live().map_or(0, |live| usize::from(live.entries));
            let scattered = entries >= super::sweep::LIVE_MAX && self.draining == super::Draining::No;
            let scattered = scattered.then_some(Trigger::Debt);
            if let Some(trigger) = loading.trip.or(scattered) {
                self.want_snapshot(slot, trigger, effects);
            }
        }
        self.touch(slot);
    }

    fn bring_to_life(&mut self, id: &str, loaded: Loaded, first: Offset, effects: &mut Vec<Effect>) -> Live {
        let Loaded { aggregate, mut rows, trail } = loaded;
        // A row ahead of what could be folded is damaged, or follows on one that we do not see. Nothing may
        // rest on it: its events are folded again, and covered again.
        rows.retain(|row| row.version <= aggregate.version);
        self.note_reach(id, aggregate.version);
        let newest = rows.iter().map(|row| row.version).max();
        let adoption = self.adopt_provisional(id, &rows, first, effects);
        let row = newest.unwrap_or_default();
        let full = rows.iter().filter(|row| row.kind == RecordKind::Full).max_by_key(|row| row.version);
        let full_row = full.map_or(Version(0), |row| row.version);
        let since_full =
            rows.iter().filter(|row| row.kind == RecordKind::Increment && row.version > full_row);
        let mut live = Live::new(aggregate);
        live.row = row;
        if self.form.keeps_trails() {
            let versions = live.aggregate.version.0.saturating_sub(row.0);
            live.busy.trail = Trail::new(trail.filter(|offsets| offsets.len() as u64 == versions));
        }
        live.has_row = newest.is_some();
        live.row_marked = rows.iter().any(|row| row.quarantined);
        live.since.version = row;
        live.since.since_full = u16::try_from(row.0.saturating_sub(full_row.0)).unwrap_or(u16::MAX);
        live.since.increments = u16::try_from(since_full.clone().count()).unwrap_or(u16::MAX);
        live.since.bytes = since_full.map(|row| row.raw_bytes).sum();
        let (entries, bytes) = self.pending_beyond(id, row);
        live.entries = u16::try_from(entries).unwrap_or(u16::MAX);
        live.folded_bytes = live.since.bytes + bytes;
        live.full_row_bytes = full.map_or(0, |row| u32::try_from(row.stored_bytes).unwrap_or(u32::MAX));
        // The states between are not there, so the first cut spans all that is pending.
        live.grown = live.aggregate.version > row;
        if let Some(adoption) = adoption {
            live.busy.adoption = Some(adoption);
        }
        live
    }

    /// INVARIANT(4, A1): a row at or beyond the next offset to fold, or one that overlaps a live checkpoint's
    /// entry, may exist on one replica only. It is written again at quorum before anything relies on it.
    fn adopt_provisional(
        &mut self,
        id: &str,
        rows: &[SnapshotRow],
        first: Offset,
        effects: &mut Vec<Effect>,
    ) -> Option<Box<Adoption>> {
        let pending_from = self.pending_from(id);
        let provisional = |row: &&SnapshotRow| {
            let ahead = row.last_offset >= first && !mutant(Mutant::SnapshotRowNotAdopted);
            let overlaps = pending_from.is_some_and(|from| row.version > from);
            ahead || overlaps || (row.quarantined && pending_from.is_some())
        };
        let rows: Vec<SnapshotRow> = rows.iter().filter(provisional).cloned().collect();
        let version = rows.iter().map(|row| row.version).max()?;
        if mutant(Mutant::AnySeenRowSupersedes) {
            self.supersede(id, version, rows.iter().any(|row| row.quarantined));
            return None;
        }
        let flight = self.mint_flight();
        self.flights.insert(flight, Arc::from(id));
        let with_mark = rows.iter().any(|row| row.quarantined);
        effects.push(Effect::Adopt(flight, rows));
        Some(Box::new(Adoption { flight, version, with_mark, hold: None }))
    }

    /// The rows are acknowledged: this worker has seen it itself.
    pub(super) fn adopted(&mut self, flight: FlightId, effects: &mut Vec<Effect>) {
        let Some((slot, id)) = self.slot_of(flight) else { return };
        let live = self.slots.get_mut(slot).live_mut().expect("what is being adopted is not evicted");
        let adoption = live.busy.adoption.take().expect("one adoption at a time, and this is it");
        assert_eq!(adoption.flight, flight, "one adoption at a time");
        self.counts.adoptions += 1;
        self.supersede(&id, adoption.version, adoption.with_mark);
        self.touch(slot);
        self.try_snapshot(slot, effects);
    }

    /// Nothing can be read of an aggregate that no event waits for: so nothing needs to be decided yet. What
    /// checkpoints hold of it stays live.
    fn leave_unread(&mut self, slot: SlotId, loading: Loading, effects: &mut Vec<Effect>) {
        manual::tell(loading.waiters, &Err("the aggregate cannot be read".to_owned()), effects);
        let listed = self.slots.get(slot).listed();
        self.watermark.relist(slot, listed, None);
        self.slots.remove(slot);
    }

    /// Nothing that is there of this aggregate can be read: it stands still, marked, and its events become
    /// dead letters.
    /// The mark is kept like any quarantine, or a later owner would count versions on from a hole.
    fn unreadable(&mut self, id: &str, first: (Offset, i32), poison: Poison, now: Now) -> Live {
        self.counts.quarantined += 1;
        let mut aggregate = Aggregate::genesis(&self.rules.kind, id);
        aggregate.quarantine = Some(Box::new(QuarantineMark {
            code: poison.code.into(),
            version: Version(0),
            offset: first.0,
            leader_epoch: first.1,
            since: Timestamp(0),
        }));
        let mut live = Live::new(aggregate);
        live.busy.unreadable = true;
        // Once is enough: no snapshot will ever supersede the entry that carries it.
        let told = |entry: &EntryRef| entry.ignore_from.is_none_or(|from| entry.last_offset < from);
        let marks = self.pending_entries(id, None);
        live.mark_uncovered = !marks.iter().any(|entry| entry.marked && told(entry));
        live.tail.start(now.monotonic_ms);
        live
    }

    /// Events of a live aggregate wait where they are, for good: the partition halts before the first of
    /// them, and the watermark cannot pass it.
    pub(super) fn stand_still(&mut self, slot: SlotId, stuck: VecDeque<Decoded>) {
        let Body::Live(live) = &mut self.slots.get_mut(slot).body else { return };
        live.busy.stuck_bytes = stuck.iter().map(super::slot::parked_bytes).sum();
        live.busy.stuck = stuck;
        self.touch(slot);
    }

    pub(super) fn tell_head(&mut self, id: &str, reply: Reply, effects: &mut Vec<Effect>) {
        // Beyond the event that halts the partition, not all that was taken is folded.
        let position = self.halted.as_ref().map_or(self.position, |(first, _)| self.position.min(*first));
        let residence = match self.slots.find(id).map(|slot| self.slots.get(slot).live()) {
            None => Residence::Absent(self.told_pending(id)),
            // A state ahead of the position is a true fact too, but not what "head as of this position"
            // means. Before its first event it is not there: to say "version 0" would be to say that it is.
            Some(Some(live))
                if !live.busy.unreadable
                    && live.aggregate.offset < position
                    && (live.aggregate.version > Version(0) || live.aggregate.quarantine.is_some()) =>
            {
                Residence::Here(Box::new(live.aggregate.clone()))
            }
            Some(_) => Residence::Unsure,
        };
        effects.push(Effect::HeadIs(reply, residence, position));
    }

    pub(super) fn list(&self, listing: &Listing) -> Vec<Resident> {
        let after = listing.after.as_deref();
        // COST: folding needs no order, so ids have none in memory; a list looks at all of them.
        let mut first: BTreeMap<&str, &Aggregate> = BTreeMap::new();
        for (_, slot) in self.slots.iter() {
            let Some(live) = slot.live().filter(|live| !live.busy.unreadable) else { continue };
            let is_wanted = slot.id.starts_with(&*listing.prefix)
                && after.is_none_or(|after| &*slot.id > after)
                && live.aggregate.version > Version(0);
            let is_early = first.len() < listing.limit
                || first.last_key_value().is_some_and(|(last, _)| &*slot.id < *last);
            if is_wanted && is_early {
                first.insert(&slot.id, &live.aggregate);
                if first.len() > listing.limit {
                    first.pop_last();
                }
            }
        }
        let resident = |(id, aggregate): (&str, &Aggregate)| Resident {
            id: id.into(),
            version: aggregate.version,
            effective_time: aggregate.effective_time,
            deleted: aggregate.is_deleted(),
        };
        first.into_iter().map(resident).collect()
    }

    /// Trips an aggregate whether it is in memory or not.
    pub(super) fn trip(&mut self, id: &Arc<str>, trigger: Trigger, effects: &mut Vec<Effect>) {
        let slot = self.slots.find(id).unwrap_or_else(|| self.slots.insert(id));
        if let Body::Loading(loading) = &mut self.slots.get_mut(slot).body {
            loading.trip.get_or_insert(trigger);
            self.ask_load(slot, effects);
        } else {
            self.want_snapshot(slot, trigger, effects);
        }
    }

    /// Asks for a checkpoint once too much is uncovered, unless one is being written.
    pub(super) fn keep_covered(&mut self, effects: &mut Vec<Effect>) {
        let half = self.settings.memory_bytes_max / (2 * TAILS_SHARE);
        let too_much = self.slots.on_ground_bytes() > self.settings.uncovered_bytes_max.min(half);
        if too_much && self.checkpoint_flight.is_none() {
            self.want_checkpoint(effects);
        }
    }

    fn want_checkpoint(&mut self, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.checkpoint_wanted, true) {
            effects.push(Effect::WantCheckpoint);
        }
    }

    /// Evicts clean aggregates while over budget. If none is clean, cuts that are not in flight go, which
    /// costs only spacing; then a checkpoint is asked for.
    pub(super) fn keep_within_memory(&mut self, effects: &mut Vec<Effect>) {
        while self.memory_bytes() > self.settings.memory_bytes_max {
            let Some(victim) = self.slots.victim() else {
                self.pressure.memory_is_short(self.now_ms);
                self.drop_cuts();
                if self.memory_bytes() > self.settings.memory_bytes_max {
                    self.want_checkpoint(effects);
                }
                return;
            };
            self.counts.evictions += 1;
            let listed = self.slots.get(victim).listed();
            self.watermark.relist(victim, listed, None);
            let id = Arc::clone(&self.slots.get(victim).id);
            self.lets_go(&id);
            self.slots.remove(victim);
        }
    }

    fn drop_cuts(&mut self) {
        if !self.slots.have_cuts_waiting() {
            return;
        }
        let cut: Vec<SlotId> =
            self.slots.iter().filter(|(_, slot)| slot.has_cuts_waiting()).map(|(slot, _)| slot).collect();
        for slot in cut {
            if self.memory_bytes() <= self.settings.memory_bytes_max {
                return;
            }
            if let Some(live) = self.slots.get_mut(slot).live_mut() {
                live.thaw_all();
            }
            self.touch(slot);
        }
    }

    /// Takes over the clean states that a former assignment left in memory: what only a mutant does, because
    /// others may have owned the partition in between.
    pub(crate) fn keep_memory(&mut self, former: Self) {
        for slot in former.slots.into_slots() {
            if slot.may_go()
                && let Body::Live(live) = slot.body
            {
                let kept = self.slots.insert(&slot.id);
                self.slots.get_mut(kept).body = Body::Live(Live { noted: Noted::default(), ..live });
                self.touch(kept);
            }
        }
    }

    /// Brings the books of a slot up to date after any change to it.
    pub(super) fn touch(&mut self, slot: SlotId) {
        let entry = self.slots.get_mut(slot);
        let after = entry.uncovered_since();
        let before = entry.list(after);
        self.watermark.relist(slot, before, after);
        self.slots.recount(slot);
    }
}
