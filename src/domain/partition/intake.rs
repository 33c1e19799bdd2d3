//! Records: what is skipped, parked, folded, recorded as a dead letter, or stops the partition.

use super::live::Live;
use super::slot::{Body, Slot, SlotId};
use super::{Effect, Now, Partition};
use crate::domain::aggregate::{Folded, State};
use crate::domain::erasure::ErasedIds;
use crate::domain::event::Decoded;
use crate::domain::ids::Offset;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::poison::Poison;
use crate::domain::record::StoredEvent;
use crate::domain::spread::Spread;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a partition has done since it was assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records taken.
    pub records: u64,
    /// Events that became a version.
    pub folded: u64,
    /// Of those, events that were skipped as poison.
    pub skipped: u64,
    /// Events that a loaded state held already.
    pub replayed: u64,
    /// Events whose version or id was folded before.
    pub duplicates: u64,
    /// Duplicates with other bytes than the event that was folded.
    pub conflicts: u64,
    /// Events recorded as dead letters.
    pub dead_letters: u64,
    /// Aggregates that were quarantined.
    pub quarantined: u64,
    /// Loads asked for.
    pub loads: u64,
    /// Aggregates evicted.
    pub evictions: u64,
    /// Snapshots acknowledged, by trigger in the order of its variants.
    pub snapshots: [u64; 8],
    /// Milliseconds from the trip of each of them until it was acknowledged.
    pub creation: Spread,
    /// Snapshots that were put off because something else pressed.
    pub put_off: u64,
    /// Times that strategy `auto` went from storing events to storing states alone, or back.
    pub form_changes: u64,
    /// Snapshots given up.
    pub snapshots_abandoned: u64,
    /// Checkpoints acknowledged.
    pub checkpoints: u64,
    /// Checkpoints given up.
    pub checkpoints_abandoned: u64,
    /// Checkpoints whose row was deleted.
    pub checkpoints_retired: u64,
    /// Provisional rows written again.
    pub adoptions: u64,
    /// Events of erased aggregates that were passed by.
    pub erased: u64,
}

impl Partition {
    /// The same without these aggregates: their events are passed by, and nothing that live checkpoints hold
    /// of them is needed any more.
    #[must_use]
    pub fn without(mut self, erased: ErasedIds) -> Self {
        for id in erased.iter() {
            self.checkpoints.iter_mut().for_each(|live| live.erase(id));
        }
        self.erased = erased;
        self
    }

    /// Goes on without these aggregates as well. False, and nothing changes, if one of those that are new is
    /// in memory: then it has to start again without them.
    #[must_use]
    pub fn heed(&mut self, erased: ErasedIds) -> bool {
        let new: Vec<&Arc<str>> = erased.difference(&self.erased).collect();
        let is_resident = new.iter().any(|id| self.slots.find(id).is_some());
        if is_resident && !mutant(Mutant::ErasedStaysInMemory) {
            return false;
        }
        for id in new {
            self.checkpoints.iter_mut().for_each(|live| live.erase(id));
        }
        self.erased = erased;
        true
    }

    pub(super) fn take_records(&mut self, records: Vec<Decoded>, now: Now, effects: &mut Vec<Effect>) {
        // COST: asked of all before anything is folded, so that the waits for memory overlap.
        let find = |decoded: &Decoded| decoded.id().and_then(|id| self.slots.find(id));
        let found: Vec<Option<SlotId>> = records.iter().map(find).collect();
        for (decoded, found) in records.into_iter().zip(found) {
            if self.halted.is_some() {
                return;
            }
            let offset = decoded.record.offset;
            if offset < self.position {
                continue;
            }
            self.counts.records += 1;
            let Some(id) = decoded.id() else {
                let poison = decoded.content.as_ref().err().map(|undecoded| undecoded.poison.clone());
                let poison = poison.expect("an event has an id, so what has none is poison");
                // Rule 9, whatever the policy: there is no aggregate that could go wrong without it.
                self.position = offset.next();
                self.dead_letter(decoded, poison, effects);
                continue;
            };
            if self.erased.contains(id) {
                self.counts.erased += 1;
                self.position = offset.next();
                continue;
            }
            // One that was not there may be by now.
            let found = found.or_else(|| self.slots.find(id));
            let slot = found.unwrap_or_else(|| self.slots.insert(id));
            self.slots.get_mut(slot).used();
            let taken = match &mut self.slots.get_mut(slot).body {
                Body::Loading(loading) => {
                    loading.parked_bytes += super::slot::parked_bytes(&decoded);
                    loading.parked.push_back(decoded);
                    Ok(())
                }
                Body::Live(_) => self.fold_into(slot, decoded, now, effects).map_err(|(_, poison)| poison),
            };
            match taken {
                Ok(()) => self.position = offset.next(),
                Err(poison) => self.halt(offset, poison, effects),
            }
            self.touch(slot);
            if !self.begin(slot, now, effects) {
                self.ask_load(slot, effects);
            }
        }
    }

    /// Passes offsets that hold no record, as far as the log has forgotten them: what is below its start will
    /// never hold one, so it need not be covered. Above it a log that was cut may go on at such an offset
    /// with an event of its own, so the position stays.
    pub(super) fn pass_empty(&mut self, from: Offset, to: Offset, start: Offset) {
        if self.position == from && self.halted.is_none() {
            self.reached = to;
            self.position = self.position.max(start.min(to));
        }
    }

    /// Folds the events that waited for a load.
    pub(super) fn fold_parked(
        &mut self,
        slot: SlotId,
        mut parked: VecDeque<Decoded>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        while let Some(decoded) = parked.pop_front() {
            let offset = decoded.record.offset;
            if self.is_beyond_halt(offset) {
                parked.push_front(decoded);
                return self.stand_still(slot, parked);
            }
            if let Err((decoded, poison)) = self.fold_into(slot, decoded, now, effects) {
                parked.push_front(*decoded);
                self.stand_still(slot, parked);
                return self.halt(offset, poison, effects);
            }
        }
    }

    /// Folds one event into a live aggregate; an error gives it back: the partition must stop before it.
    fn fold_into(
        &mut self,
        slot: SlotId,
        decoded: Decoded,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), (Box<Decoded>, Poison)> {
        let live = self.slots.get_mut(slot).live_mut().expect("only live aggregates fold");
        let offset = decoded.record.offset;
        let covered = if mutant(Mutant::SkipOffByOne) {
            offset <= live.aggregate.offset.next()
        } else {
            offset <= live.aggregate.offset
        };
        if covered && !mutant(Mutant::NoReplaySkip) {
            // Rule 4: the loaded state holds this event already. While its row is provisional the event is
            // uncovered.
            if let Some(adoption) = live.adoption_mut() {
                let hold = adoption.hold.get_or_insert(offset);
                *hold = offset.min(*hold);
            }
            self.counts.replayed += 1;
            return Ok(());
        }
        let was_hot = matches!(live.aggregate.state, State::Hot(..));
        let folded = self.rules.fold(&mut live.aggregate, &decoded);
        live.used_while_hot |= was_hot;
        if !was_hot && matches!(live.aggregate.state, State::Hot(..)) {
            self.hot.push_back(slot);
        }
        match folded {
            Folded::Applied => self.applied(slot, decoded, false, now, effects),
            Folded::Skipped(poison) => {
                self.counts.skipped += 1;
                self.applied(slot, decoded.clone(), true, now, effects);
                self.dead_letter(decoded, poison, effects);
            }
            Folded::Duplicate => {
                self.counts.duplicates += 1;
                if conflicts(live, &decoded) {
                    self.counts.conflicts += 1;
                    let detail = "an event of the same version with other bytes was folded before";
                    self.dead_letter(decoded, Poison::new("conflict", detail), effects);
                }
            }
            Folded::Quarantined(poison) => {
                live.mark_uncovered = true;
                live.tail.start(now.monotonic_ms);
                self.counts.quarantined += 1;
                self.dead_letter(decoded, poison, effects);
            }
            Folded::Refused(poison) => {
                // The mark may come from a provisional row: then what it stands for is uncovered as well.
                if let Some(adoption) = live.adoption_mut().filter(|adoption| adoption.with_mark) {
                    let hold = adoption.hold.get_or_insert(offset);
                    *hold = offset.min(*hold);
                }
                self.dead_letter(decoded, poison, effects);
            }
            Folded::Halt(poison) => return Err((Box::new(decoded), poison)),
        }
        Ok(())
    }

    fn applied(
        &mut self,
        slot: SlotId,
        decoded: Decoded,
        skipped: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Slot { id, body: Body::Live(live), .. } = self.slots.get_mut(slot) else {
            unreachable!("it has just folded")
        };
        let (version, mut record) = (live.aggregate.version, decoded.record);
        if record.key.as_deref() == Some(id.as_bytes()) {
            // The same bytes once more for each event would be a large part of a small one.
            record.key = Some(Arc::clone(id).into());
        }
        live.push_tail(StoredEvent { version, skipped, record }, now.monotonic_ms);
        self.counts.folded += 1;
        if let Some(trigger) = self.due_now(slot) {
            self.cut(slot, trigger, effects);
        }
    }

    fn dead_letter(&mut self, decoded: Decoded, poison: Poison, effects: &mut Vec<Effect>) {
        self.counts.dead_letters += 1;
        self.watermark.hold_for_letter(decoded.record.offset);
        effects.push(Effect::DeadLetter(Box::new(decoded), poison));
    }

    /// What was taken before another aggregate's load met the poison must not be folded after that.
    fn is_beyond_halt(&self, offset: Offset) -> bool {
        let halted = self.halted.as_ref().filter(|_| !mutant(Mutant::FoldedBeyondHalt));
        halted.is_some_and(|(first, _)| offset > *first)
    }

    /// Aggregates that waited for a load may halt one after the other: what counts is the first in the log.
    fn halt(&mut self, offset: Offset, poison: Poison, effects: &mut Vec<Effect>) {
        if self.halted.as_ref().is_some_and(|(first, _)| *first <= offset) {
            return;
        }
        effects.push(Effect::Halted(offset, poison.clone()));
        self.halted = Some((offset, poison));
    }

    /// Keeps the number of states that are held as trees small: a tree takes many times its bytes.
    ///
    /// COST: to cool and heat a state is to write and read it, the dearest part of folding a small event. So
    /// a tree that was used again gets a second chance, or many cold aggregates would drive out the few hot
    /// ones.
    pub(super) fn cool_down(&mut self) {
        while self.hot.len() > self.settings.hot_max {
            let Some(slot) = self.hot.pop_front() else { return };
            let Some(live) = self.slots.live_or_gone(slot) else { continue };
            if std::mem::take(&mut live.used_while_hot) {
                self.hot.push_back(slot);
            } else {
                live.aggregate.state.cool();
                self.slots.recount(slot);
            }
        }
    }
}

/// A duplicate version whose record differs from the one in the tail: a finding. It changes nothing about the
/// fold, because what is still in memory differs from worker to worker.
fn conflicts(live: &Live, decoded: &Decoded) -> bool {
    let Ok(event) = &decoded.content else { return false };
    let Some(version) = event.version else { return false };
    if mutant(Mutant::ConflictsUnnoticed) {
        return false;
    }
    let same = |stored: &&StoredEvent| stored.version == version;
    live.tail.iter().find(same).is_some_and(|stored| {
        (&stored.record.key, &stored.record.value) != (&decoded.record.key, &decoded.record.value)
            || stored.record.bytes() != decoded.record.bytes()
    })
}
