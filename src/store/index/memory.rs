//! An index in memory: the twin that passes the same suite as the durable ones, and the model of what they
//! do.
//!
//! *Order*: one lock, so every call is atomic. *If it fails*: never. *What may leak*: all of it, when the
//! process ends. A deletion stays known for ever, so that a late repetition of the write it deleted stays
//! deleted.

use super::{From, Index};
use crate::domain::chain::snapshot_id;
use crate::domain::ids::{AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Version};
use crate::domain::ledger::{DeletedRow, HoldRow};
use crate::domain::outcome::PortResult;
use crate::domain::record::Bytes;
use crate::domain::row::{
    CheckpointRow, DeadLetter, NoteRow, OwnerRow, PartitionKey, SnapshotRow, WatermarkRow,
};
use crate::domain::schedule::{RunRow, ScheduleRow};
use futures_util::future::{BoxFuture, FutureExt, lazy};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

/// Newest version first, copies of one version by pack.
type Newest = BTreeMap<(Reverse<Version>, PackId), SnapshotRow>;

/// Schedule, topic and partition.
type RunsOf = (Arc<str>, Arc<str>, PartitionNo);

#[derive(Default)]
struct Tables {
    snapshots: BTreeMap<(AggregateKey, Lineage), Newest>,
    deleted: BTreeMap<DeletedRow, LedgerId>,
    snapshot_ids: BTreeMap<[u8; 16], (AggregateKey, Lineage, Version)>,
    /// None for a checkpoint that was deleted.
    checkpoints: BTreeMap<PartitionKey, BTreeMap<PackId, Option<CheckpointRow>>>,
    watermarks: BTreeMap<PartitionKey, BTreeMap<(u128, i32), WatermarkRow>>,
    owners: BTreeMap<PartitionKey, OwnerRow>,
    aggregates: BTreeMap<Arc<str>, BTreeSet<(Arc<str>, PartitionNo)>>,
    dead_letters: BTreeMap<PartitionKey, BTreeMap<Offset, DeadLetter>>,
    dictionaries: BTreeMap<Digest, Bytes>,
    notes: BTreeMap<(AggregateKey, Lineage), BTreeMap<(Version, LedgerId), NoteRow>>,
    holds: BTreeMap<AggregateKey, BTreeMap<LedgerId, HoldRow>>,
    schedules: BTreeMap<Arc<str>, ScheduleRow>,
    schedules_changed: Option<LedgerId>,
    runs: BTreeMap<RunsOf, BTreeMap<u8, RunRow>>,
}

/// An index in memory.
#[derive(Default)]
pub struct MemoryIndex {
    tables: Mutex<Tables>,
}

impl MemoryIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One call: nothing happens before it is polled, and then all of it.
    fn call<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&mut Tables) -> T + Send + 'a,
    ) -> BoxFuture<'a, PortResult<T>> {
        lazy(move |_| Ok(call(&mut self.tables.lock().expect("no panic while it is held")))).boxed()
    }
}

/// Of two dead letters of one offset (after a truncation another record may have it) every index keeps the
/// same.
pub(super) fn outranks(new: &DeadLetter, kept: &DeadLetter) -> bool {
    fn rank(letter: &DeadLetter) -> (i32, &str, &str) {
        (letter.record.leader_epoch, &letter.code, &letter.detail)
    }
    // One whose aggregate was erased is written again without its record, which then stays away.
    rank(new) > rank(kept) || rank(new) == rank(kept) && new.is_blank()
}

fn walk(rows: &Newest, from: From, limit: usize) -> Vec<SnapshotRow> {
    if let From::Above(version) = from {
        let newer = rows.range(..(Reverse(version), PackId::default())).map(|(_, row)| row);
        // Upwards by version, but the copies of one version stay in the order of their packs.
        let mut above: Vec<&SnapshotRow> = newer.collect();
        above.sort_by_key(|row| (row.version, row.pack));
        return above.into_iter().take(limit).cloned().collect();
    }
    let is_start = |row: &SnapshotRow| match from {
        From::Newest | From::Above(_) => true,
        From::AtOrBelow(version) => row.version <= version,
        From::TimeAtOrBefore(time) => row.effective_time <= time,
        From::OffsetAtOrBelow(offset) => row.last_offset <= offset,
    };
    rows.values().skip_while(|row| !is_start(row)).take(limit).cloned().collect()
}

impl Tables {
    fn put_snapshot(&mut self, row: SnapshotRow) {
        let id = snapshot_id(&row.key, row.lineage, row.version);
        self.snapshot_ids.insert(id, (row.key.clone(), row.lineage, row.version));
        if self.deleted.contains_key(&DeletedRow::of(&row)) {
            return;
        }
        let rows = self.snapshots.entry((row.key.clone(), row.lineage)).or_default();
        rows.entry((Reverse(row.version), row.pack)).or_insert(row);
    }

    fn delete_snapshot(&mut self, row: &DeletedRow, deletion: LedgerId) {
        if let Some(rows) = self.snapshots.get_mut(&(row.key.clone(), row.lineage)) {
            rows.remove(&(Reverse(row.version), row.pack));
        }
        self.deleted.insert(row.clone(), deletion);
    }

    fn put_watermark(&mut self, row: WatermarkRow) {
        let rows = self.watermarks.entry(row.key.clone()).or_default();
        let kept = rows.entry((row.topic_id, row.leader_epoch)).or_insert_with(|| row.clone());
        if row.low_watermark > kept.low_watermark {
            *kept = row;
        }
    }

    fn put_schedule(&mut self, row: ScheduleRow) {
        self.schedules_changed = Some(row.at);
        let kept = self.schedules.entry(Arc::clone(&row.name)).or_insert_with(|| row.clone());
        if row.at > kept.at {
            *kept = row;
        }
    }

    fn put_run(&mut self, row: RunRow) {
        let key = (Arc::clone(&row.schedule), Arc::clone(&row.topic), row.partition);
        let kept = self.runs.entry(key).or_default().entry(row.place()).or_insert_with(|| row.clone());
        if row.outranks(kept) {
            *kept = row;
        }
    }

    fn runs(&self, name: &str, topic: &str, partition: PartitionNo) -> Vec<RunRow> {
        let kept = self.runs.get(&(name.into(), topic.into(), partition)).into_iter();
        let mut runs: Vec<RunRow> = kept.flat_map(BTreeMap::values).cloned().collect();
        runs.sort_by_key(|run| run.number);
        runs
    }

    fn put_dead_letter(&mut self, letter: DeadLetter) {
        let letters = self.dead_letters.entry(letter.key.clone()).or_default();
        let kept = letters.entry(letter.offset).or_insert_with(|| letter.clone());
        if outranks(&letter, kept) {
            *kept = letter;
        }
    }

    fn aggregates(&self, kind: &str, after: Option<&str>, limit: usize) -> Vec<(AggregateKey, PartitionNo)> {
        let Some((kind, known)) = self.aggregates.get_key_value(kind) else { return Vec::new() };
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded((id.into(), PartitionNo(i32::MAX))));
        let listed = known.range((start, Bound::Unbounded)).take(limit);
        listed.map(|(id, at)| (AggregateKey { kind: kind.clone(), id: id.clone() }, *at)).collect()
    }

    fn dead_letters(&self, key: &PartitionKey, from: Offset, limit: usize) -> Vec<DeadLetter> {
        let Some(letters) = self.dead_letters.get(key) else { return Vec::new() };
        letters.range(from..).take(limit).map(|(_, letter)| letter.clone()).collect()
    }
}

impl Index for MemoryIndex {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| tables.put_snapshot(row))
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        self.call(move |tables| {
            let rows = tables.snapshots.get(&(key.clone(), lineage));
            rows.map_or_else(Vec::new, |rows| walk(rows, from, limit))
        })
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        self.call(move |tables| tables.snapshot_ids.get(&id).cloned())
    }

    fn delete_snapshot<'a>(
        &'a self,
        row: &'a DeletedRow,
        deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.call(move |tables| tables.delete_snapshot(row, deletion))
    }

    fn deletions<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
    ) -> BoxFuture<'a, PortResult<Vec<LedgerId>>> {
        self.call(move |tables| {
            let of = tables.deleted.iter().filter(|(row, _)| row.key == *key && row.lineage == lineage);
            let mut deletions: Vec<LedgerId> = of.map(|(_, deletion)| *deletion).collect();
            deletions.sort_unstable();
            deletions
        })
    }

    fn deletion<'a>(&'a self, row: &'a DeletedRow) -> BoxFuture<'a, PortResult<Option<LedgerId>>> {
        self.call(move |tables| tables.deleted.get(row).copied())
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| {
            let rows = tables.checkpoints.entry(row.key.clone()).or_default();
            rows.entry(row.pack).or_insert(Some(row));
        })
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        self.call(move |tables| {
            tables.checkpoints.entry(key.clone()).or_default().insert(pack, None);
        })
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        self.call(|tables| {
            let rows = tables.checkpoints.get(key).into_iter();
            rows.flat_map(BTreeMap::values).flatten().cloned().collect()
        })
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| tables.put_watermark(row))
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        self.call(|tables| {
            tables.watermarks.get(key).into_iter().flat_map(BTreeMap::values).cloned().collect()
        })
    }

    fn put_owner(&self, row: OwnerRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(move |tables| {
            tables.owners.insert(row.key.clone(), row);
        })
    }

    fn owner<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Option<OwnerRow>>> {
        self.call(move |tables| tables.owners.get(key).cloned())
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.call(move |tables| {
            let known = tables.aggregates.entry(key.kind.clone()).or_default();
            known.insert((key.id.clone(), partition));
        })
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        self.call(move |tables| tables.aggregates(kind, after, limit))
    }

    fn put_note(&self, row: NoteRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| {
            let notes = tables.notes.entry((row.key.clone(), row.lineage)).or_default();
            notes.entry((row.version, row.at)).or_insert(row);
        })
    }

    fn notes<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        versions: (Version, Version),
    ) -> BoxFuture<'a, PortResult<Vec<NoteRow>>> {
        self.call(move |tables| {
            let notes = tables.notes.get(&(key.clone(), lineage)).filter(|_| versions.0 <= versions.1);
            let Some(notes) = notes else { return Vec::new() };
            let within = (versions.0, LedgerId([0; 16]))..=(versions.1, LedgerId([0xff; 16]));
            notes.range(within).map(|(_, row)| row.clone()).collect()
        })
    }

    fn put_hold(&self, row: HoldRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| {
            let holds = tables.holds.entry(row.key.clone()).or_default();
            holds.entry(row.at).or_insert(row);
        })
    }

    fn holds<'a>(&'a self, key: &'a AggregateKey) -> BoxFuture<'a, PortResult<Vec<HoldRow>>> {
        self.call(|tables| tables.holds.get(key).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }

    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| tables.put_schedule(row))
    }

    fn schedule<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Option<ScheduleRow>>> {
        self.call(move |tables| tables.schedules.get(name).cloned())
    }

    fn schedules(&self) -> BoxFuture<'_, PortResult<Vec<ScheduleRow>>> {
        self.call(|tables| tables.schedules.values().cloned().collect())
    }

    fn schedules_changed(&self) -> BoxFuture<'_, PortResult<Option<LedgerId>>> {
        self.call(|tables| tables.schedules_changed)
    }

    fn put_run(&self, row: RunRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| tables.put_run(row))
    }

    fn runs<'a>(
        &'a self,
        name: &'a str,
        topic: &'a str,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<Vec<RunRow>>> {
        self.call(move |tables| tables.runs(name, topic, partition))
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        self.call(|tables| tables.put_dead_letter(letter))
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        self.call(move |tables| tables.dead_letters(key, from, limit))
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        self.call(move |tables| {
            tables.dictionaries.entry(id).or_insert(bytes);
        })
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        self.call(move |tables| tables.dictionaries.get(&id).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[test]
    fn the_memory_index_keeps_the_promises_of_the_port() {
        let index = MemoryIndex::new();
        suite::all(&index).now_or_never().expect("memory answers at once");
        let owners = suite::the_last_who_says_that_it_owns_a_partition_is_told(&index);
        owners.now_or_never().expect("memory answers at once");
    }
}
