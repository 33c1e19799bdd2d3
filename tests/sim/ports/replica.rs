//! One replica of the index: cells, and how two versions of a cell become one. A read of several replicas is
//! the same merge into an empty replica, so that there is one place where "which write wins" is said.
//!
//! Cells (DESIGN.md section 4, rule 5): snapshot rows are add-only facts, written at the time their pack was
//! minted and deleted at a later one (`domain::ledger`); a checkpoint row is written at the
//! time its pack was minted, its deletion one millisecond later, the later time wins, a deletion wins a tie;
//! of watermarks the largest wins. Nothing here knows a wall clock.

use snapfold::domain::chain::snapshot_id;
use snapfold::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Version};
use snapfold::domain::ledger::{DeletedRow, row_written_at};
use snapfold::domain::record::Bytes;
use snapfold::domain::row::{CheckpointRow, DeadLetter, PartitionKey, SnapshotRow, WatermarkRow};
use snapfold::store::index::From;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One write, as a replica gets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// A snapshot row.
    Snapshot(Arc<SnapshotRow>),
    /// The deletion of one, with its write time.
    Deleted(Arc<DeletedRow>, i64),
    /// A checkpoint row or its deletion, with its write time.
    Checkpoint {
        /// Which log.
        key: Arc<PartitionKey>,
        /// Which pack.
        pack: PackId,
        /// Write time.
        time: i64,
        /// The row; none for a deletion.
        row: Option<Arc<CheckpointRow>>,
    },
    /// A low watermark.
    Watermark(Arc<WatermarkRow>),
    /// A known aggregate.
    Aggregate(AggregateKey, PartitionNo),
    /// A dead letter.
    DeadLetter(Arc<DeadLetter>),
    /// A dictionary.
    Dictionary(Digest, Bytes),
}

/// What a read asks a replica for.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    /// Snapshot rows of an aggregate.
    Snapshots(AggregateKey, Lineage),
    /// Snapshot rows by their public id.
    SnapshotId([u8; 16]),
    /// Checkpoint rows and deletions of a partition.
    Checkpoints(PartitionKey),
    /// Low watermarks of a partition.
    Watermarks(PartitionKey),
    /// Aggregates of a type.
    Aggregates(Arc<str>),
    /// Dead letters of a partition.
    DeadLetters(PartitionKey),
    /// One dictionary.
    Dictionary(Digest),
}

type CheckpointCell = (i64, Option<Arc<CheckpointRow>>);
type SnapshotCells = BTreeMap<(Version, PackId), Arc<SnapshotRow>>;
type DeletedCells = BTreeMap<(Version, PackId), i64>;
type WatermarkCells = BTreeMap<(u128, i32), Arc<WatermarkRow>>;
type Known = BTreeSet<(Arc<str>, PartitionNo)>;

/// The cells of one replica, or of a merge. What a query is about is shared: a read takes it as it is, and
/// only a write that comes before the read has been answered copies it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Replica {
    snapshots: BTreeMap<(AggregateKey, Lineage), Arc<SnapshotCells>>,
    deleted: BTreeMap<(AggregateKey, Lineage), Arc<DeletedCells>>,
    checkpoints: BTreeMap<PartitionKey, Arc<BTreeMap<PackId, CheckpointCell>>>,
    watermarks: BTreeMap<PartitionKey, Arc<WatermarkCells>>,
    aggregates: BTreeMap<Arc<str>, Arc<Known>>,
    letters: BTreeMap<PartitionKey, Arc<BTreeMap<Offset, Arc<DeadLetter>>>>,
    dictionaries: BTreeMap<Digest, Bytes>,
}

fn public_id(row: &SnapshotRow) -> [u8; 16] {
    snapfold::domain::chain::snapshot_id(&row.key, row.lineage, row.version)
}

/// Whether two rows tell the same: how long one took to be written only its writer knows, and a rebuilt index
/// does not. Of two that differ the later one must count as a whole: servers mix cells of one write time.
fn is_same(a: &SnapshotRow, b: &SnapshotRow) -> bool {
    a == b || *a == SnapshotRow { creation_ms: a.creation_ms, ..b.clone() }
}

impl Replica {
    /// This with the dead letters of another.
    pub(crate) fn with_letters_of(self, other: &Self) -> Self {
        Self { letters: other.letters.clone(), ..self }
    }

    /// Applies a write; says what is wrong if it changes a fact that must never change.
    pub(crate) fn apply(&mut self, cell: &Cell) -> Option<String> {
        match cell {
            Cell::Snapshot(row) => {
                let rows = self.snapshots.entry((row.key.clone(), row.lineage)).or_default();
                let at = (row.version, row.pack);
                let deleted = self.deleted.get(&(row.key.clone(), row.lineage));
                let is_deleted = |at: &i64| *at >= row_written_at(row);
                if deleted.and_then(|deleted| deleted.get(&at)).is_some_and(is_deleted) {
                    return None;
                }
                if let Some(kept) = rows.get(&at).filter(|kept| kept != &row) {
                    if !is_same(kept, row) || row_written_at(kept) == row_written_at(row) {
                        return Some(format!("a snapshot row changed: {kept:?} became {row:?}"));
                    }
                    if row_written_at(kept) > row_written_at(row) {
                        return None;
                    }
                }
                Arc::make_mut(rows).insert(at, row.clone());
                None
            }
            Cell::Deleted(row, time) => {
                let (of, at) = ((row.key.clone(), row.lineage), (row.version, row.pack));
                let cells = self.deleted.entry(of.clone()).or_default();
                if cells.get(&at).is_none_or(|kept| time > kept) {
                    Arc::make_mut(cells).insert(at, *time);
                }
                let is_older = |kept: &Arc<SnapshotRow>| *time >= row_written_at(kept);
                if let Some(rows) = self.snapshots.get_mut(&of)
                    && rows.get(&at).is_some_and(is_older)
                {
                    Arc::make_mut(rows).remove(&at);
                }
                None
            }
            Cell::Checkpoint { key, pack, time, row } => {
                self.apply_checkpoint(key, *pack, *time, row.as_ref())
            }
            Cell::Watermark(row) => {
                let cells = self.watermarks.entry(row.key.clone()).or_default();
                let at = (row.topic_id, row.leader_epoch);
                if cells.get(&at).is_none_or(|kept| row.low_watermark > kept.low_watermark) {
                    Arc::make_mut(cells).insert(at, row.clone());
                }
                None
            }
            Cell::Aggregate(key, partition) => {
                let known = self.aggregates.entry(key.kind.clone()).or_default();
                let place = (key.id.clone(), *partition);
                if !known.contains(&place) {
                    Arc::make_mut(known).insert(place);
                }
                None
            }
            Cell::DeadLetter(letter) => {
                let letters = self.letters.entry(letter.key.clone()).or_default();
                // After a truncation another record may have the offset; any total order will do, so that all
                // replicas agree: the later epoch, then the text.
                let rank = |l: &DeadLetter| (l.record.leader_epoch, l.code.clone(), l.detail.clone());
                if letters.get(&letter.offset).is_none_or(|kept| rank(letter) > rank(kept)) {
                    Arc::make_mut(letters).insert(letter.offset, letter.clone());
                }
                None
            }
            Cell::Dictionary(id, bytes) => {
                let kept = self.dictionaries.entry(*id).or_insert_with(|| bytes.clone());
                (kept != bytes).then(|| format!("dictionary {id} changed"))
            }
        }
    }

    fn apply_checkpoint(
        &mut self,
        key: &PartitionKey,
        pack: PackId,
        time: i64,
        row: Option<&Arc<CheckpointRow>>,
    ) -> Option<String> {
        let cells = self.checkpoints.entry(key.clone()).or_default();
        let is_newer = match (cells.get(&pack), row) {
            (Some((kept_time, Some(kept))), Some(row)) if *kept_time == time && kept != row => {
                return Some(format!("a checkpoint row changed: {kept:?} became {row:?}"));
            }
            (Some((kept_time, kept)), _) => {
                time > *kept_time || (time == *kept_time && row.is_none() && kept.is_some())
            }
            (None, _) => true,
        };
        if is_newer {
            Arc::make_mut(cells).insert(pack, (time, row.cloned()));
        }
        None
    }

    /// The cells that a query is about, deletions among them.
    pub(crate) fn collect(&self, query: &Query) -> Vec<Cell> {
        match query {
            Query::Snapshots(key, lineage) => {
                let rows =
                    self.snapshots.get(&(key.clone(), *lineage)).into_iter().flat_map(|rows| rows.iter());
                let rows = rows.map(|(_, row)| Cell::Snapshot(row.clone()));
                let deleted = self.deleted.get(&(key.clone(), *lineage)).into_iter();
                let deleted = deleted.flat_map(|cells| cells.iter()).map(|((version, pack), time)| {
                    let (key, lineage, version, pack) = (key.clone(), *lineage, *version, *pack);
                    Cell::Deleted(Arc::new(DeletedRow { key, lineage, version, pack }), *time)
                });
                deleted.chain(rows).collect()
            }
            Query::SnapshotId(id) => {
                let rows = self.all_snapshots().filter(|row| public_id(row) == *id);
                rows.map(|row| Cell::Snapshot(Arc::new(row.clone()))).collect()
            }
            Query::Checkpoints(key) => {
                let shared = Arc::new(key.clone());
                let cells = self.checkpoints.get(key).into_iter().flat_map(|cells| cells.iter());
                let cell = |(pack, (time, row)): (&PackId, &CheckpointCell)| Cell::Checkpoint {
                    key: shared.clone(),
                    pack: *pack,
                    time: *time,
                    row: row.clone(),
                };
                cells.map(cell).collect()
            }
            Query::Watermarks(key) => {
                let rows = self.watermarks.get(key).into_iter().flat_map(|rows| rows.iter());
                rows.map(|(_, row)| Cell::Watermark(row.clone())).collect()
            }
            Query::Aggregates(kind) => {
                let known = self.aggregates.get(kind).into_iter().flat_map(|known| known.iter());
                known
                    .map(|(id, partition)| {
                        Cell::Aggregate(AggregateKey { kind: kind.clone(), id: id.clone() }, *partition)
                    })
                    .collect()
            }
            Query::DeadLetters(key) => {
                let letters = self.letters.get(key).into_iter().flat_map(|letters| letters.iter());
                letters.map(|(_, letter)| Cell::DeadLetter(letter.clone())).collect()
            }
            Query::Dictionary(id) => {
                let bytes = self.dictionaries.get(id).into_iter();
                bytes.map(|bytes| Cell::Dictionary(*id, bytes.clone())).collect()
            }
        }
    }

    /// A replica of those cells alone.
    pub(crate) fn only(&self, query: &Query) -> Self {
        fn one<K: Ord + Clone, V: Clone>(from: &BTreeMap<K, V>, key: &K) -> BTreeMap<K, V> {
            from.get_key_value(key).map(|(key, cells)| (key.clone(), cells.clone())).into_iter().collect()
        }
        let mut only = Self::default();
        match query {
            Query::Snapshots(key, lineage) => {
                only.snapshots = one(&self.snapshots, &(key.clone(), *lineage));
                only.deleted = one(&self.deleted, &(key.clone(), *lineage));
            }
            Query::SnapshotId(id) => {
                let named = |rows: &&Arc<SnapshotCells>| rows.values().any(|row| public_id(row) == *id);
                let found = self.snapshots.iter().find(|(_, rows)| named(rows));
                only.snapshots = found.map(|(key, _)| one(&self.snapshots, key)).unwrap_or_default();
            }
            Query::Checkpoints(key) => only.checkpoints = one(&self.checkpoints, key),
            Query::Watermarks(key) => only.watermarks = one(&self.watermarks, key),
            Query::Aggregates(kind) => only.aggregates = one(&self.aggregates, kind),
            Query::DeadLetters(key) => only.letters = one(&self.letters, key),
            Query::Dictionary(id) => only.dictionaries = one(&self.dictionaries, id),
        }
        only
    }

    /// Applies every cell of `other`.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (key, lineage) in other.snapshots.keys().chain(other.deleted.keys()) {
            self.absorb_query(other, &Query::Snapshots(key.clone(), *lineage));
        }
        for key in other.checkpoints.keys() {
            self.absorb_query(other, &Query::Checkpoints(key.clone()));
        }
        for key in other.watermarks.keys() {
            self.absorb_query(other, &Query::Watermarks(key.clone()));
        }
        for kind in other.aggregates.keys() {
            self.absorb_query(other, &Query::Aggregates(kind.clone()));
        }
        for key in other.letters.keys() {
            self.absorb_query(other, &Query::DeadLetters(key.clone()));
        }
        for id in other.dictionaries.keys() {
            self.absorb_query(other, &Query::Dictionary(*id));
        }
    }

    fn absorb_query(&mut self, other: &Self, query: &Query) {
        for cell in other.collect(query) {
            self.apply(&cell);
        }
    }

    /// Snapshot rows of an aggregate, as the port's `snapshots` answers.
    pub(crate) fn walk(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> Vec<SnapshotRow> {
        let Some(rows) = self.snapshots.get(&(key.clone(), lineage)) else { return Vec::new() };
        if let From::Above(version) = from {
            let above = rows.values().filter(|row| row.version > version);
            return above.take(limit).map(|row| (**row).clone()).collect();
        }
        let starts = |row: &SnapshotRow| match from {
            From::Newest | From::Above(_) => true,
            From::AtOrBelow(version) => row.version <= version,
            From::TimeAtOrBefore(time) => row.effective_time <= time,
            From::OffsetAtOrBelow(offset) => row.last_offset <= offset,
        };
        let mut down: Vec<&Arc<SnapshotRow>> = rows.values().collect();
        down.sort_by_key(|row| (std::cmp::Reverse(row.version), row.pack));
        down.into_iter().skip_while(|row| !starts(row)).take(limit).map(|row| (**row).clone()).collect()
    }

    /// The snapshot with a public id, as the port's `snapshot_by_id` answers.
    pub(crate) fn named(&self, id: [u8; 16]) -> Option<(AggregateKey, Lineage, Version)> {
        let named = self.all_snapshots().find(|row| snapshot_id(&row.key, row.lineage, row.version) == id);
        named.map(|row| (row.key.clone(), row.lineage, row.version))
    }

    /// Live checkpoints of a partition, oldest pack first.
    pub(crate) fn live(&self, key: &PartitionKey) -> Vec<CheckpointRow> {
        let cells = self.checkpoints.get(key).into_iter().flat_map(|cells| cells.iter());
        cells.filter_map(|(_, (_, row))| row.as_ref().map(|row| (**row).clone())).collect()
    }

    /// Low watermarks of a partition.
    pub(crate) fn marks(&self, key: &PartitionKey) -> Vec<WatermarkRow> {
        self.watermarks
            .get(key)
            .into_iter()
            .flat_map(|rows| rows.values())
            .map(|row| (**row).clone())
            .collect()
    }

    /// Aggregates of a type in id order.
    pub(crate) fn known(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(AggregateKey, PartitionNo)> {
        let Some((kind, known)) = self.aggregates.get_key_value(kind) else { return Vec::new() };
        let later = known.iter().filter(|(id, _)| after.is_none_or(|after| &**id > after));
        later.take(limit).map(|(id, p)| (AggregateKey { kind: kind.clone(), id: id.clone() }, *p)).collect()
    }

    /// Dead letters of a partition from an offset on.
    pub(crate) fn letters(&self, key: &PartitionKey, from: Offset, limit: usize) -> Vec<DeadLetter> {
        let Some(letters) = self.letters.get(key) else { return Vec::new() };
        letters.range(from..).take(limit).map(|(_, letter)| (**letter).clone()).collect()
    }

    /// A dictionary's bytes.
    pub(crate) fn dictionary(&self, id: Digest) -> Option<Bytes> {
        self.dictionaries.get(&id).cloned()
    }

    /// All snapshot rows.
    pub(crate) fn all_snapshots(&self) -> impl Iterator<Item = &SnapshotRow> {
        self.snapshots.values().flat_map(|rows| rows.values()).map(|row| &**row)
    }

    /// All live checkpoint rows.
    pub(crate) fn all_checkpoints(&self) -> impl Iterator<Item = &CheckpointRow> {
        self.checkpoints.values().flat_map(|cells| cells.values()).filter_map(|(_, row)| row.as_deref())
    }

    /// All low watermarks.
    pub(crate) fn all_watermarks(&self) -> impl Iterator<Item = &WatermarkRow> {
        self.watermarks.values().flat_map(|cells| cells.values()).map(|row| &**row)
    }

    /// True if it knows that a row was deleted.
    pub(crate) fn is_deleted(&self, row: &SnapshotRow) -> bool {
        let cells = self.deleted.get(&(row.key.clone(), row.lineage));
        cells.is_some_and(|cells| cells.contains_key(&(row.version, row.pack)))
    }

    /// True if it has a snapshot row that tells the same.
    pub(crate) fn has(&self, row: &SnapshotRow) -> bool {
        let rows = self.snapshots.get(&(row.key.clone(), row.lineage));
        rows.and_then(|rows| rows.get(&(row.version, row.pack))).is_some_and(|kept| is_same(kept, row))
    }

    /// True if it holds this very cell, or one that has superseded it.
    pub(crate) fn holds(&self, cell: &Cell) -> bool {
        let mut with = self.clone();
        with.apply(cell).is_none() && with == *self
    }
}
