//! An index in memory: the twin that passes the same suite as the durable ones, and the model of what they do.
//!
//! *Order*: one lock, so every call is atomic. *If it fails*: never. *What may leak*: all of it, when the process
//! ends. A deletion stays known for ever, so that a late repetition of the write it deleted stays deleted.

use super::{From, Index};
use crate::domain::chain::snapshot_id;
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Version};
use crate::domain::outcome::PortResult;
use crate::domain::record::Bytes;
use crate::domain::row::{CheckpointRow, DeadLetter, PartitionKey, SnapshotRow, WatermarkRow};
use futures_util::future::{BoxFuture, FutureExt, ready};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

/// Newest version first, copies of one version by pack.
type Newest = BTreeMap<(Reverse<Version>, PackId), SnapshotRow>;

#[derive(Default)]
struct Tables {
    snapshots: BTreeMap<(AggregateKey, Lineage), Newest>,
    snapshot_ids: BTreeMap<[u8; 16], (AggregateKey, Lineage, Version)>,
    /// None for a checkpoint that was deleted.
    checkpoints: BTreeMap<PartitionKey, BTreeMap<PackId, Option<CheckpointRow>>>,
    watermarks: BTreeMap<PartitionKey, BTreeMap<(u128, i32), WatermarkRow>>,
    aggregates: BTreeMap<Arc<str>, BTreeSet<(Arc<str>, PartitionNo)>>,
    dead_letters: BTreeMap<PartitionKey, BTreeMap<Offset, DeadLetter>>,
    dictionaries: BTreeMap<Digest, Bytes>,
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

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("no panic while it is held")
    }
}

/// An answer that is there already.
fn answer<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, PortResult<T>> {
    ready(Ok(answer)).boxed()
}

/// Of two dead letters of one offset (after a truncation another record may have it) every index keeps the same.
pub(super) fn outranks(new: &DeadLetter, kept: &DeadLetter) -> bool {
    fn rank(letter: &DeadLetter) -> (i32, &str, &str) {
        (letter.record.leader_epoch, &letter.code, &letter.detail)
    }
    rank(new) > rank(kept)
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

impl Index for MemoryIndex {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        let mut tables = self.tables();
        let id = snapshot_id(&row.key, row.lineage, row.version);
        tables.snapshot_ids.insert(id, (row.key.clone(), row.lineage, row.version));
        let rows = tables.snapshots.entry((row.key.clone(), row.lineage)).or_default();
        rows.entry((Reverse(row.version), row.pack)).or_insert(row);
        answer(())
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        let tables = self.tables();
        let rows = tables.snapshots.get(&(key.clone(), lineage));
        answer(rows.map_or_else(Vec::new, |rows| walk(rows, from, limit)))
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        answer(self.tables().snapshot_ids.get(&id).cloned())
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        let mut tables = self.tables();
        let rows = tables.checkpoints.entry(row.key.clone()).or_default();
        rows.entry(row.pack).or_insert(Some(row));
        answer(())
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        self.tables().checkpoints.entry(key.clone()).or_default().insert(pack, None);
        answer(())
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        let tables = self.tables();
        answer(
            tables.checkpoints.get(key).into_iter().flat_map(BTreeMap::values).flatten().cloned().collect(),
        )
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        let mut tables = self.tables();
        let rows = tables.watermarks.entry(row.key.clone()).or_default();
        let kept = rows.entry((row.topic_id, row.leader_epoch)).or_insert_with(|| row.clone());
        if row.low_watermark > kept.low_watermark {
            *kept = row;
        }
        answer(())
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        let tables = self.tables();
        answer(tables.watermarks.get(key).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        let mut tables = self.tables();
        tables.aggregates.entry(key.kind.clone()).or_default().insert((key.id.clone(), partition));
        answer(())
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        let tables = self.tables();
        let Some((kind, known)) = tables.aggregates.get_key_value(kind) else { return answer(Vec::new()) };
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded((id.into(), PartitionNo(i32::MAX))));
        let listed = known.range((start, Bound::Unbounded)).take(limit);
        let listed = listed.map(|(id, at)| (AggregateKey { kind: kind.clone(), id: id.clone() }, *at));
        answer(listed.collect())
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        let mut tables = self.tables();
        let letters = tables.dead_letters.entry(letter.key.clone()).or_default();
        let kept = letters.entry(letter.offset).or_insert_with(|| letter.clone());
        if outranks(&letter, kept) {
            *kept = letter;
        }
        answer(())
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        let tables = self.tables();
        let Some(letters) = tables.dead_letters.get(key) else { return answer(Vec::new()) };
        answer(letters.range(from..).take(limit).map(|(_, letter)| letter.clone()).collect())
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        self.tables().dictionaries.entry(id).or_insert(bytes);
        answer(())
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        answer(self.tables().dictionaries.get(&id).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[test]
    fn the_memory_index_keeps_the_promises_of_the_port() {
        suite::all(&MemoryIndex::new()).now_or_never().expect("memory answers at once");
    }
}
