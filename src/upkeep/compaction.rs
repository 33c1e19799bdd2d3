//! Compaction of one aggregate after the other: what `domain::compaction` plans is read, folded again,
//! compared, written as segments, and only then what they stand in for may go.
//!
//! *Order*: a snapshot at or above all that is merged is acknowledged, as its owner says; segments and their
//!   rows; then, unless the aggregate is held, as for every deletion (`retention`) what the rest relies on is
//!   written again and read, hold, pins and rows are read once more, the fact goes into the ledger, and the
//!   redundant rows go.
//! *If it fails*: whatever was written is true, and what it stands in for is still there. The next time plans
//!   anew.
//! *If cancelled*: the same.
//! *What may leak*: segments whose rows nobody waited for.
//!
//! COST: one aggregate's rows and [`SEGMENT_BYTES_AT_ONCE`] of its events are held at a time. Each event is
//! decoded and folded once more, beside everything else.

use crate::domain::compaction::{self, Aim, Depth, Order, Plan};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Lineage, Offset, PackId, PartitionNo, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{SnapshotItem, Taken};
use crate::domain::retention;
use crate::domain::row::{Notes, PartitionKey, RecordKind, SnapshotRow, Trigger};
use crate::reconstruct::{LiveSnapshots, Reconstructor};
use crate::store::SnapshotStore;
use crate::store::flush::Flush;
use crate::store::index::{From, Index};
use crate::store::ledger::Ledger;
use crate::store::segments::NewSegment;
use crate::store::unavailable;
use crate::upkeep::retention::{Planned, Refused, Retention};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows fetched in one go.
const PAGE: usize = 256;
/// Rows of one aggregate that are looked at, the oldest first.
const ROWS_MAX: usize = 20_000;
/// Bytes of events, before compression, that are written as one pack.
const SEGMENT_BYTES_AT_ONCE: usize = 4 << 20;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What to do.
    pub aim: Aim,
    /// How far.
    pub depth: Depth,
    /// Events of a segment at the most.
    pub events_max: usize,
    /// Full records that stay, the newest first; at least one does.
    pub keep_full: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that were written.
    pub segments: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of their bodies before compression.
    pub raw_bytes: u64,
    /// Bytes of their records in packs.
    pub stored_bytes: u64,
    /// Rows that are redundant now.
    pub superseded: u64,
    /// Rows that were deleted.
    pub deleted: u64,
    /// Stored bytes of these rows.
    pub freed_bytes: u64,
}

/// A full record from which on everything can be had without what is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebased {
    /// Its version.
    pub version: Version,
    /// It was written for whoever asked, or would be; else it is there.
    pub created: bool,
    /// Rows whose records are read for it.
    pub reads: u64,
    /// Stored bytes of the rows that only versions before it need.
    pub freed_bytes: u64,
}

impl std::ops::AddAssign for Compacted {
    fn add_assign(&mut self, other: Self) {
        self.segments += other.segments;
        self.events += other.events;
        self.raw_bytes += other.raw_bytes;
        self.stored_bytes += other.stored_bytes;
        self.superseded += other.superseded;
        self.deleted += other.deleted;
        self.freed_bytes += other.freed_bytes;
    }
}

/// What compaction of one stream needs.
#[derive(Clone)]
pub struct Parts {
    /// Reads, and folds again.
    pub reader: Reconstructor,
    /// Writes.
    pub store: Arc<SnapshotStore>,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// The active lineage.
    pub lineage: Lineage,
    /// `history: forever`.
    pub events_stay: bool,
}

/// Compacts the aggregates of one stream.
#[derive(Clone)]
pub struct Compactor {
    parts: Parts,
}

impl Compactor {
    /// A compactor of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Where the rows are.
    pub(super) fn index(&self) -> Arc<dyn Index> {
        Arc::clone(&self.parts.reader.index)
    }

    /// The aggregate type.
    pub(super) fn kind(&self) -> Arc<str> {
        Arc::clone(&self.parts.reader.rules.kind)
    }

    /// What would be done.
    ///
    /// # Errors
    /// `Unavailable` if a port failed.
    pub async fn plan(&self, partition: PartitionNo, id: &str, wish: Wish) -> Result<Plan> {
        Ok(self.planned(partition, &self.key(id), wish).await?.1)
    }

    /// Compacts one aggregate; none if this process does not fold its partition.
    ///
    /// # Errors
    /// `Corrupt` where a row disagrees with the fold, or what is planned cannot be folded: nothing of that
    /// stretch was written. `Unavailable` if a port failed.
    pub async fn compact(
        &self,
        own: &dyn LiveSnapshots,
        partition: PartitionNo,
        id: &str,
        wish: Wish,
    ) -> Result<Option<Compacted>> {
        if !own.owns(partition) {
            return Ok(None);
        }
        let key = self.key(id);
        let (rows, plan) = self.planned(partition, &key, wish).await?;
        let mut done = Compacted { superseded: plan.superseded.len() as u64, ..Compacted::default() };
        let touched = plan.segments.iter().map(|planned| planned.upto);
        let touched = touched.chain(plan.superseded.iter().map(|row| row.version)).max();
        let Some(touched) = touched else { return Ok(Some(done)) };
        if !is_durable(own, partition, &key, touched).await? {
            return Ok(None);
        }
        let stays = |row: &&SnapshotRow| !plan.superseded.contains(row);
        let mut staying: Vec<SnapshotRow> = rows.iter().filter(stays).cloned().collect();
        if mutant(Mutant::SupersededBeforeAcked) {
            self.retire(&key, &plan, (staying.clone(), wish.aim), &mut done).await?;
        }
        staying.extend(self.write(partition, &key, (&rows, &plan), &mut done).await?);
        if !mutant(Mutant::SupersededBeforeAcked) {
            self.retire(&key, &plan, (staying, wish.aim), &mut done).await?;
        }
        Ok(Some(done))
    }

    /// Where a full record of a version, or of the newest snapshot, would be written so that everything from
    /// there on can be had without what is before it; none where there is no such snapshot.
    ///
    /// # Errors
    /// `Unavailable` if a port failed.
    pub async fn rebase_plan(
        &self,
        partition: PartitionNo,
        id: &str,
        version: Option<Version>,
    ) -> Result<Option<Rebased>> {
        let rows = self.rows(partition, &self.key(id)).await?;
        Ok(rebased(&rows, version))
    }

    /// Writes that record unless it is there; none as for `compact`, or where there is no such snapshot.
    ///
    /// # Errors
    /// As for `compact`.
    pub async fn rebase(
        &self,
        own: &dyn LiveSnapshots,
        partition: PartitionNo,
        id: &str,
        version: Option<Version>,
    ) -> Result<Option<Rebased>> {
        let key = self.key(id);
        let rows = self.rows(partition, &key).await?;
        let Some(rebased) = rebased(&rows, version).filter(|_| own.owns(partition)) else { return Ok(None) };
        if !rebased.created {
            return Ok(Some(rebased));
        }
        if !is_durable(own, partition, &key, rebased.version).await? {
            return Ok(None);
        }
        let log = self.log(partition);
        let mut aggregate = self.parts.reader.state_in(&log, &key, &rows, rebased.version).await?;
        // A later version is durable, or the mark stands in the row of this one.
        aggregate.quarantine = None;
        let before = rows.iter().filter(|row| row.version < rebased.version).max_by_key(|row| row.version);
        let (from, first) =
            before.map_or((Version(0), Offset(0)), |row| (row.version, row.last_offset.next()));
        let (first, now_ms) = (first.min(aggregate.offset), self.parts.store.clock.monotonic_ms());
        let item = SnapshotItem::past(Arc::clone(&key.id), from, first, &aggregate, now_ms);
        match own.write(Flush { partition: log, kind: key.kind, item }).await {
            Some(Ok(_)) => Ok(Some(rebased)),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    fn key(&self, id: &str) -> AggregateKey {
        AggregateKey { kind: Arc::clone(&self.parts.reader.rules.kind), id: id.into() }
    }

    fn log(&self, partition: PartitionNo) -> PartitionKey {
        PartitionKey { topic: Arc::clone(&self.parts.topic), partition, lineage: self.parts.lineage }
    }

    async fn planned(
        &self,
        partition: PartitionNo,
        key: &AggregateKey,
        wish: Wish,
    ) -> Result<(Vec<SnapshotRow>, Plan)> {
        let rows = self.rows(partition, key).await?;
        let pinned = self.pinned(key, &rows).await?;
        let Wish { aim, depth, events_max, keep_full } = wish;
        let events_stay = self.parts.events_stay;
        let plan = compaction::plan(&rows, &Order { aim, depth, events_max, keep_full, events_stay, pinned });
        Ok((rows, plan))
    }

    /// The rows of an aggregate, the oldest first.
    async fn rows(&self, partition: PartitionNo, key: &AggregateKey) -> Result<Vec<SnapshotRow>> {
        let (index, lineage) = (&self.parts.reader.index, self.parts.lineage);
        let mut rows: BTreeMap<(Version, PackId), SnapshotRow> = BTreeMap::new();
        let mut above = Version(0);
        while rows.len() < ROWS_MAX {
            let page = index.snapshots(key, lineage, From::Above(above), PAGE).await;
            let page = page.map_err(|error| unavailable("read snapshot rows", &error))?;
            let is_last = page.len() < PAGE;
            let Some(last) = page.last().map(|row| row.version) else { break };
            // A page may end inside a version, which then comes whole with the next one.
            let is_whole = page.first().is_some_and(|row| row.version == last);
            above = if is_whole { last } else { Version(last.0 - 1) };
            // An id may occur in several partitions: those are different aggregates.
            let ours = page.into_iter().filter(|row| row.partition == partition);
            rows.extend(ours.map(|row| ((row.version, row.pack), row)));
            if is_last {
                break;
            }
        }
        Ok(rows.into_values().collect())
    }

    /// Versions that somebody pinned or named.
    async fn pinned(&self, key: &AggregateKey, rows: &[SnapshotRow]) -> Result<BTreeSet<Version>> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(BTreeSet::new()) };
        let within = (first.version, last.version);
        let noted = self.parts.reader.index.notes(key, self.parts.lineage, within).await;
        let noted = noted.map_err(|error| unavailable("read the notes on snapshots", &error))?;
        let mut notes: BTreeMap<Version, Notes> = BTreeMap::new();
        noted.iter().for_each(|row| notes.entry(row.version).or_default().take(row));
        let is_kept = |notes: &Notes| notes.pinned || notes.label.is_some();
        Ok(notes.into_iter().filter(|(_, notes)| is_kept(notes)).map(|(version, _)| version).collect())
    }

    /// Reads, folds, compares and writes what is planned, part by part.
    async fn write(
        &self,
        partition: PartitionNo,
        key: &AggregateKey,
        (rows, plan): (&[SnapshotRow], &Plan),
        done: &mut Compacted,
    ) -> Result<Vec<SnapshotRow>> {
        let log = self.log(partition);
        let (mut start, mut written) = (None, Vec::new());
        let (mut ready, mut bytes) = (Vec::new(), 0);
        for (nth, planned) in plan.segments.iter().enumerate() {
            let merged = self.parts.reader.merge(&log, key, rows, start.take(), *planned).await?;
            start = Some(merged.end.clone());
            done.events += merged.body.events.len() as u64;
            bytes += merged.body.events.iter().map(|event| event.record.bytes()).sum::<usize>();
            let trigger = trigger_of(rows, planned.upto);
            let (partition, key) = (log.clone(), key.clone());
            ready.push(NewSegment { partition, key, body: merged.body, end: merged.end, trigger });
            if bytes >= SEGMENT_BYTES_AT_ONCE || nth + 1 == plan.segments.len() {
                bytes = 0;
                let rows = self.parts.store.put_segments(std::mem::take(&mut ready)).await?;
                done.segments += rows.len() as u64;
                done.raw_bytes += rows.iter().map(|row| row.raw_bytes).sum::<u64>();
                done.stored_bytes += rows.iter().map(|row| row.stored_bytes).sum::<u64>();
                written.extend(rows);
            }
        }
        Ok(written)
    }

    fn retention(&self) -> Retention {
        let Parts { reader, store, lineage, .. } = &self.parts;
        let ledger = Ledger {
            index: Arc::clone(&reader.index),
            blobs: Arc::clone(&reader.packs.blobs),
            clock: Arc::clone(&store.clock),
        };
        Retention { packs: Arc::clone(&reader.packs), ledger: Arc::new(ledger), lineage: *lineage }
    }

    /// Deletes what is redundant. What the rest relies on is written again and read first: a row that was
    /// only read may be a dying owner's rumour. Of an aggregate that is held nothing goes.
    async fn retire(
        &self,
        key: &AggregateKey,
        plan: &Plan,
        (mut relied, aim): (Vec<SnapshotRow>, Aim),
        done: &mut Compacted,
    ) -> Result<()> {
        let retention = self.retention();
        // COST: of what is held nothing goes, so nothing has to be read for it.
        if plan.superseded.is_empty() || retention.hold(key).await?.is_some() {
            return Ok(());
        }
        let pinned = retention.pinned(key).await?;
        let goes = |row: &&SnapshotRow| !pinned.contains(&row.version);
        let go: Vec<SnapshotRow> = plan.superseded.iter().filter(goes).cloned().collect();
        relied.retain(|row| is_relied(row, &go, aim));
        let go = retention::Plan { go, kept: Vec::new(), relied };
        let planned = Planned { key: key.clone(), rows: Vec::new(), plan: go };
        let rows = match retention.ready(&planned).await {
            Ok(rows) => rows,
            // Somebody else deletes here, or it is held since a moment ago: the next time plans anew.
            Err(Refused::Held(_) | Refused::Changed(_)) => return Ok(()),
            Err(Refused::Unproved(row, error)) => {
                let what = format!("read the record of version {} that the rest would rely on", row.version);
                return Err(error.context(&what));
            }
            Err(Refused::Failed(error)) => return Err(error),
        };
        let is_deleted =
            |row: &&SnapshotRow| rows.iter().any(|gone| (gone.version, gone.pack) == (row.version, row.pack));
        done.freed_bytes = plan.superseded.iter().filter(is_deleted).map(|row| row.stored_bytes).sum();
        done.deleted = rows.len() as u64;
        retention.commit(rows, "merged").await
    }
}

/// Whether the versions of what goes will rest on a row that stays: merged, on segments that hold some of
/// them; thinned out, on anything, since full records may be folded from all that is before and after them.
fn is_relied(row: &SnapshotRow, go: &[SnapshotRow], aim: Aim) -> bool {
    let holds = |gone: &SnapshotRow| {
        let from = if gone.kind == RecordKind::Full { gone.version } else { gone.from_version };
        row.from_version <= gone.version && from <= row.version
    };
    match aim {
        Aim::Thin => !go.is_empty(),
        Aim::Merge => row.kind == RecordKind::Segment && go.iter().any(holds),
    }
}

/// What a full record of a version, or of the newest snapshot, comes to. One that tells of a quarantine is
/// the head's, and stays it.
fn rebased(rows: &[SnapshotRow], version: Option<Version>) -> Option<Rebased> {
    let newest = rows.iter().filter(|row| !row.quarantined).map(|row| row.version).max()?;
    let version = version.unwrap_or(newest);
    if version == Version(0) || version > newest {
        return None;
    }
    let is_there = rows.iter().any(|row| row.kind == RecordKind::Full && row.version == version);
    let base = rows.iter().filter(|row| row.kind == RecordKind::Full && row.version <= version);
    let base = base.map(|row| row.version).max().unwrap_or_default();
    let leads =
        |row: &&SnapshotRow| row.kind != RecordKind::Full && row.version > base && row.from_version < version;
    let reads = rows.iter().filter(leads).count() as u64 + u64::from(base > Version(0));
    let before = rows.iter().filter(|row| row.version < version);
    Some(Rebased {
        version,
        created: !is_there,
        reads: if is_there { 0 } else { reads },
        freed_bytes: before.map(|row| row.stored_bytes).sum(),
    })
}

/// A snapshot of this version or of a later one is acknowledged, as its owner says; false if this process is
/// not the owner any more.
async fn is_durable(
    own: &dyn LiveSnapshots,
    partition: PartitionNo,
    key: &AggregateKey,
    version: Version,
) -> Result<bool> {
    match own.take(partition, Arc::clone(&key.id), Some(version), Trigger::Manual).await {
        None => Ok(false),
        Some(Ok(Taken::Durable { version: durable, .. })) if durable >= version => Ok(true),
        Some(Ok(_)) => {
            let detail = "its owner knows no snapshot of what is to be merged; try again";
            Err(Error::new(ErrorKind::Unavailable, "not-caught-up", detail))
        }
        Some(Err(detail)) => Err(Error::corrupt(detail)),
    }
}

/// Why the snapshot of a version was taken; of a version in the middle of a row, that row.
fn trigger_of(rows: &[SnapshotRow], version: Version) -> Trigger {
    let events = rows.iter().filter(|row| row.kind != RecordKind::Full && row.version >= version);
    events.min_by_key(|row| row.version).map_or(Trigger::Events, |row| row.trigger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upkeep::retention::tests::full;

    fn row(kind: RecordKind, from: u64, upto: u64) -> SnapshotRow {
        SnapshotRow { kind, from_version: Version(from), ..full(upto) }
    }

    #[test]
    fn thinning_relies_on_all_that_stays_and_merging_on_segments_that_cover_what_goes() {
        let gone = [full(10), row(RecordKind::Increment, 5, 10)];
        for stays in [row(RecordKind::Increment, 10, 20), full(30), row(RecordKind::Segment, 0, 12)] {
            assert!(is_relied(&stays, &gone, Aim::Thin), "{stays:?}");
            assert!(!is_relied(&stays, &[], Aim::Thin), "nothing goes");
        }
        assert!(is_relied(&row(RecordKind::Segment, 0, 12), &gone, Aim::Merge));
        assert!(is_relied(&row(RecordKind::Segment, 4, 6), &gone, Aim::Merge), "a part of it");
        assert!(!is_relied(&row(RecordKind::Segment, 12, 20), &gone, Aim::Merge), "above");
        assert!(!is_relied(&full(30), &gone, Aim::Merge));
    }
}
