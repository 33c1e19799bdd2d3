//! Live checkpoints of one partition: which of their entries no snapshot supersedes yet, and which
//! checkpoints are done.
//!
//! INVARIANT(4): an entry is superseded only by a row whose acknowledgement this worker has seen itself
//! (written or adopted by it); a row merely read may be a rumour. One whose events this worker has folded
//! again is superseded once the low watermark has passed all of them.
//!
//! INVARIANT(12): events that an unclean election took away before the low watermark had reached them were
//! promised to nobody. They are not used, and what a checkpoint says of them keeps nothing alive.

use super::slot::hash;
use super::{BodyAt, Effect, Entries, Entry, Partition, Pending, reach};
use crate::domain::ids::{Offset, PackId, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::text::Text;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One checkpoint, as its row and its footer tell, for one partition.
#[derive(Clone, Debug)]
pub struct LiveCheckpoint {
    /// Its pack.
    pub pack: PackId,
    /// Bytes of the whole object.
    pub object_bytes: u64,
    /// What it holds of this partition that is not cut off as a whole.
    pub entries: Arc<Entries>,
    /// Its events at or beyond this offset were cut off, and others may have their offsets and versions.
    pub cut: Option<Offset>,
}

impl LiveCheckpoint {
    /// The same where the log was cut at `end` before the low watermark had come so far.
    #[must_use]
    pub fn cut_at(self, end: Offset) -> Self {
        let cut = self.cut.map_or(end, |cut| cut.min(end));
        Self { entries: Arc::new(self.entries.starting_below(cut)), cut: Some(cut), ..self }
    }

    /// Whether an entry has events that were cut off: then it does not reach up to the version it names.
    #[must_use]
    pub fn cuts(&self, entry: &Entry) -> bool {
        self.cut.is_some_and(|cut| entry.last_offset >= cut)
    }

    /// What it holds of one aggregate, for a reader who leaves events from `ignore_from` on to the log.
    #[must_use]
    pub fn entry_ref(&self, entry: &Entry, ignore_from: Option<Offset>) -> EntryRef {
        let ignore_from = [ignore_from, self.cut].into_iter().flatten().min();
        EntryRef { ignore_from, ..EntryRef::of(self.pack, self.object_bytes, entry) }
    }
}

/// What a live checkpoint holds of one aggregate, as a reader needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRef {
    /// The pack.
    pub pack: PackId,
    /// Bytes of the whole object.
    pub object_bytes: u64,
    /// Versions `from + 1 ..= upto`.
    pub from: Version,
    /// Version of the last event.
    pub upto: Version,
    /// Offset of the first event.
    pub first_offset: Offset,
    /// Offset of the last event, or of the event behind the mark.
    pub last_offset: Offset,
    /// It carries a quarantine mark.
    pub marked: bool,
    /// Where its body is in the object.
    pub body: BodyAt,
    /// L1: events at or beyond this offset are ignored, the tail has them. None for checkpoints of our own.
    pub ignore_from: Option<Offset>,
}

impl EntryRef {
    /// An entry of a pack, with all of its events.
    #[must_use]
    pub fn of(pack: PackId, object_bytes: u64, entry: &Entry) -> Self {
        Self {
            pack,
            object_bytes,
            from: entry.from,
            upto: entry.upto,
            first_offset: entry.first_offset,
            last_offset: entry.last_offset,
            marked: entry.marked,
            body: entry.body,
            ignore_from: None,
        }
    }
}

/// A live checkpoint with what is superseded of it.
#[derive(Debug)]
pub(super) struct Live {
    checkpoint: LiveCheckpoint,
    /// Where the assignment started, for a checkpoint that another owner wrote.
    ignore_from: Option<Offset>,
    filter: Filter,
    superseded: Vec<bool>,
    left: usize,
    stored_bytes: u64,
    /// Entries of another owner of which nothing is needed but what was folded again (at first those wholly
    /// at or beyond the start): their last offsets, the lowest at the end.
    ahead: Vec<(Offset, usize)>,
    /// Entries with events that were cut off, and the version up to which the others reach, once loaded.
    reach: BTreeMap<usize, Version>,
    retired: bool,
}

impl Live {
    pub(super) fn own(checkpoint: LiveCheckpoint) -> Self {
        Self::new(checkpoint, None)
    }

    pub(super) fn foreign(checkpoint: LiveCheckpoint, start: Offset) -> Self {
        let ignore_from = if mutant(Mutant::UseCheckpointBeyondWatermark) { None } else { Some(start) };
        Self::new(checkpoint, ignore_from)
    }

    fn new(checkpoint: LiveCheckpoint, ignore_from: Option<Offset>) -> Self {
        // SUBTLE: entries beyond the start are not used (L1), but they count like all others. Their writer
        // may have moved the low watermark past them after we read it; until our own rows cover their events,
        // only they do.
        let all = checkpoint.entries.len();
        let (mut filter, mut superseded, mut ahead) = (Filter::of_size(all), vec![false; all], Vec::new());
        for (at, entry) in checkpoint.entries.iter().enumerate() {
            filter.add(hash(&entry.id));
            if ignore_from.is_some_and(|start| entry.first_offset >= start) {
                ahead.push((entry.last_offset, at));
                superseded[at] = mutant(Mutant::EntriesBeyondStartDropped);
            }
        }
        let left = superseded.iter().filter(|gone| !**gone).count();
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        let reach = BTreeMap::new();
        let stored_bytes = checkpoint.entries.stored_bytes();
        Self { checkpoint, ignore_from, filter, superseded, left, stored_bytes, ahead, reach, retired: false }
    }

    /// All below this offset that was folded again is covered by what this worker has seen acknowledged. What
    /// an entry says of it is not needed any more, and need not be true: the log may have been cut since.
    fn pass(&mut self, low: Offset) {
        while self.ahead.last().is_some_and(|(last, _)| *last < low) {
            let (_, at) = self.ahead.pop().expect("the last was there");
            self.left -= usize::from(!std::mem::replace(&mut self.superseded[at], true));
        }
    }

    /// What it holds of an aggregate is not needed any more, whatever becomes of the rest.
    pub(super) fn erase(&mut self, id: &str) {
        let Some((index, _)) = self.entry(hash(id), id) else { return };
        if !std::mem::replace(&mut self.superseded[index], true) {
            self.left -= 1;
        }
    }

    pub(super) fn pack(&self) -> PackId {
        self.checkpoint.pack
    }

    /// Bytes that its pack holds of this partition.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.checkpoint.entries.heap_bytes()
            + self.filter.heap_bytes()
            + self.superseded.capacity()
            + self.ahead.capacity() * size_of::<(Offset, usize)>()
            + size_of::<Self>()
    }

    /// Ids of unsuperseded entries after this one, in their order.
    pub(super) fn left_after(&self, id: Option<&str>) -> impl Iterator<Item = Text> {
        let entries = self.checkpoint.entries.places_from(id.unwrap_or_default());
        let left = entries.filter(|(at, _)| !self.superseded[*at]).map(|(_, entry)| entry.id);
        left.skip_while(move |left| Some(&**left) == id)
    }

    /// Its entry of an id with this hash, superseded or not.
    fn entry(&self, hash: u64, id: &str) -> Option<(usize, Entry)> {
        if self.filter.may_have(hash) { self.checkpoint.entries.find(id) } else { None }
    }

    fn find(&self, hash: u64, id: &str) -> Option<Entry> {
        let (index, entry) = self.entry(hash, id)?;
        (!self.superseded[index]).then_some(entry)
    }

    pub(super) fn supersede(&mut self, hash: u64, id: &str, version: Version, with_mark: bool) {
        let Some((index, entry)) = self.entry(hash, id) else { return };
        if self.checkpoint.cuts(&entry) {
            // What is left of it is in that row; the rest counts until it is covered again.
            if self.reach.get(&index).is_some_and(|reach| *reach <= version) {
                let at = self.ahead.partition_point(|(last, _)| *last > entry.last_offset);
                self.ahead.insert(at, (entry.last_offset, index));
                self.reach.remove(&index);
            }
            return;
        }
        if !self.superseded[index] && entry.upto <= version && (with_mark || !entry.marked) {
            self.superseded[index] = true;
            self.left -= 1;
        }
    }
}

/// Which ids were added, and a few more (a Bloom filter with all bits of an id in one word).
///
/// COST: all live checkpoints are asked at each load, flight and acknowledgement of an aggregate, and most of
/// them know nothing of it. That takes one look at a word instead of a search; few searches are in vain.
#[derive(Debug)]
pub(super) struct Filter(Vec<u64>);

impl Filter {
    /// Eight bits for each id.
    pub(super) fn of_size(ids: usize) -> Self {
        Self(vec![0; ids / 8 + 1])
    }

    /// The word of an id with this hash, and its four bits in it.
    fn place(&self, hash: u64) -> (usize, u64) {
        let word = ((hash >> 32) as usize * self.0.len()) >> 32;
        let bits = (0..4).fold(0, |bits, nth| bits | 1 << (hash >> (6 * nth) & 63));
        (word, bits)
    }

    pub(super) fn add(&mut self, hash: u64) {
        let (word, bits) = self.place(hash);
        self.0[word] |= bits;
    }

    pub(super) fn may_have(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        self.0[word] & bits == bits
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}

impl Partition {
    /// An aggregate was loaded with all that live checkpoints hold of it: where events were cut off behind
    /// that, no later version tells how far their entries reach.
    pub(super) fn note_reach(&mut self, id: &str, version: Version) {
        for live in self.checkpoints.iter_mut().filter(|live| live.checkpoint.cut.is_some()) {
            let Some((index, entry)) = live.checkpoint.entries.find(id) else { continue };
            if live.checkpoint.cuts(&entry) {
                live.reach.insert(index, version);
            }
        }
    }

    /// What live checkpoints hold of an aggregate beyond `row`, in version order.
    pub(super) fn pending_entries(&self, id: &str, row: Option<Version>) -> Vec<EntryRef> {
        if mutant(Mutant::PendingForgottenOnLoad) {
            return Vec::new();
        }
        let mut pending: Vec<EntryRef> = Vec::new();
        let hash = hash(id);
        for live in &self.checkpoints {
            let Some(entry) = live.find(hash, id) else { continue };
            if row.is_some_and(|row| entry.upto <= row && !entry.marked) {
                continue;
            }
            pending.push(live.checkpoint.entry_ref(&entry, live.ignore_from));
        }
        pending.sort_by_key(|entry| (entry.from, entry.upto, entry.pack));
        if mutant(Mutant::OnlyNewestPendingUsed) && pending.len() > 1 {
            pending.drain(..pending.len() - 1);
        }
        pending
    }

    /// The oldest version from which on live checkpoints hold events of this aggregate.
    pub(super) fn pending_from(&self, id: &str) -> Option<Version> {
        let hash = hash(id);
        self.checkpoints.iter().filter_map(|live| live.find(hash, id)).map(|entry| entry.from).min()
    }

    /// What live checkpoints hold of this aggregate; none where one of them must be read for that, because
    /// of a mark or of a cut.
    pub(super) fn told_pending(&self, id: &str) -> Option<Pending> {
        let (hash, mut pending) = (hash(id), Pending::default());
        if mutant(Mutant::EntriesUntold) {
            return Some(pending);
        }
        if !self.unreadable.is_empty() {
            return None;
        }
        for live in &self.checkpoints {
            let Some(entry) = live.find(hash, id) else { continue };
            if entry.marked || live.checkpoint.cuts(&entry) {
                return None;
            }
            pending.upto = pending.upto.max(entry.upto);
            for (epoch, last) in live.checkpoint.entries.epochs() {
                reach(&mut pending.epochs, *epoch, *last);
            }
        }
        Some(pending)
    }

    /// Entries of this aggregate in live checkpoints beyond `row`, and their bytes.
    pub(super) fn pending_beyond(&self, id: &str, row: Version) -> (u32, u64) {
        let hash = hash(id);
        let entries = self.checkpoints.iter().filter_map(|live| live.find(hash, id));
        let beyond = entries.filter(|entry| entry.upto > row);
        beyond.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + u64::from(entry.body.len)))
    }

    /// Acknowledged rows of this aggregate reach up to `version`.
    pub(super) fn supersede(&mut self, id: &str, version: Version, with_mark: bool) {
        let hash = hash(id);
        for live in &mut self.checkpoints {
            live.supersede(hash, id, version, with_mark);
        }
    }

    /// Whether live checkpoints hold what is needed only until it was folded again.
    pub(super) fn is_anything_ahead(&self) -> bool {
        self.checkpoints.iter().any(|live| !live.ahead.is_empty())
    }

    /// Whether records are taken although tables of live checkpoints fill the memory. Waiting would not end
    /// as long as these hold what is to be folded again, as after a checkpoint that is lost: they are let go
    /// of once the log was read up to it (seed 836, given).
    pub(super) fn may_tables_fill_memory(&self) -> bool {
        let is_little_else = self.slots.bytes() <= self.settings.memory_bytes_max / 4;
        is_little_else && self.is_anything_ahead() && !mutant(Mutant::TablesKeepRecordsOut)
    }

    /// Lets go of checkpoints whose entries are all superseded.
    pub(super) fn retire_superseded(&mut self, effects: &mut Vec<Effect>) {
        if self.is_anything_ahead() && !mutant(Mutant::EntriesAheadKept) {
            let low = self.low_watermark();
            self.checkpoints.iter_mut().for_each(|live| live.pass(low));
        }
        let counts = &mut self.counts;
        self.checkpoints.retain_mut(|live| {
            if live.left > 0 {
                return true;
            }
            if !std::mem::replace(&mut live.retired, true) {
                counts.checkpoints_retired += 1;
                effects.push(Effect::Retire(live.checkpoint.pack));
            }
            false
        });
    }

    /// Lets go of unreadable checkpoints below the low watermark: all they held lies at or beyond the start,
    /// so it was folded again, and this worker has seen the acknowledgement of what covers it now.
    pub(super) fn retire_unreadable(&mut self, effects: &mut Vec<Effect>) {
        if self.unreadable.is_empty() || mutant(Mutant::UnreadableNeverRetired) {
            return;
        }
        let low = self.low_watermark();
        let counts = &mut self.counts;
        self.unreadable.retain(|(pack, end)| {
            let is_covered = *end <= low || mutant(Mutant::UnreadableRetiredEarly);
            if is_covered {
                counts.checkpoints_retired += 1;
                effects.push(Effect::Retire(*pack));
            }
            !is_covered
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_knows_all_that_was_added_and_little_else() {
        let mut filter = Filter::of_size(10_000);
        let id = |n: u32| hash(&format!("order-{n:08}"));
        (0..10_000).for_each(|n| filter.add(id(n)));
        assert!((0..10_000).all(|n| filter.may_have(id(n))));
        let in_vain = (10_000..110_000).filter(|n| filter.may_have(id(*n))).count();
        assert!(in_vain < 5_000, "{in_vain} of 100,000");
        assert!(!Filter::of_size(0).may_have(id(0)));
    }
}
