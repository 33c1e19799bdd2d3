//! Segments on their way into packs and rows: what `SnapshotStore` writes for compaction.
//!
//! *Order*: a pack for each partition; then rows, those of one aggregate by version, one after the other: a
//!   row that is seen means that all segments before it are acknowledged. Nothing that they stand for may go
//!   before the last row is acknowledged.
//! *If it fails*: as for a flush: given up as a whole, and whatever landed is true.
//! *If cancelled*: as if it was given up.
//! *What may leak*: packs without rows, rows nobody waited for.

use super::encode::{Encoded, NewEntry};
use super::flush::{SnapshotStore, together};
use super::packs::Class;
use crate::compute::computed;
use crate::domain::aggregate::Aggregate;
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, Digest, PackId, PartitionNo};
use crate::domain::record::{RecordId, RecordKind, RecordMeta, SegmentBody};
use crate::domain::row::{PartitionKey, SnapshotRow, Trigger};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One segment that is to be written.
#[derive(Debug)]
pub struct NewSegment {
    /// Which log.
    pub partition: PartitionKey,
    /// Whose.
    pub key: AggregateKey,
    /// What it holds.
    pub body: SegmentBody,
    /// The aggregate after the last of its events.
    pub end: Aggregate,
    /// Why the snapshot at its end was taken.
    pub trigger: Trigger,
}

impl NewSegment {
    /// What footer and row say of it.
    pub(super) fn meta(&self, state_digest: Option<Digest>) -> RecordMeta {
        let end = &self.end;
        let first = self.body.events.first().map_or(end.offset, |event| event.record.offset);
        RecordMeta {
            id: RecordId {
                key: self.key.clone(),
                lineage: self.partition.lineage,
                upto_version: end.version,
                kind: RecordKind::Segment,
                from_version: self.body.from(),
            },
            partition: self.partition.partition,
            first_offset: first,
            last_offset: end.offset,
            leader_epoch: end.leader_epoch,
            effective_time: end.effective_time,
            chain: Some(end.chain),
            state_digest,
            is_deleted: end.is_deleted(),
            is_quarantined: false,
            trail: None,
        }
    }
}

/// A pack, and how the segments in it end.
type EncodedSegments = (Encoded, Vec<(Aggregate, Trigger)>);

impl SnapshotStore {
    /// Writes segments, as one pack for each partition, then their rows, which are answered.
    ///
    /// # Errors
    /// The deadline passed, or a port refused for good: nothing about any of them is certain. `Invalid` or
    /// `Internal` if one cannot be stored: nothing was written.
    pub async fn put_segments(&self, segments: Vec<NewSegment>) -> Result<Vec<SnapshotRow>> {
        let written = self.write_segments(segments).await;
        if written.is_err() {
            self.written.abandoned.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    async fn write_segments(&self, segments: Vec<NewSegment>) -> Result<Vec<SnapshotRow>> {
        let started = self.clock.monotonic_ms();
        let now = self.clock.now();
        // An id that occurs in two partitions may have the same version in both, and a row's key has no
        // partition.
        let mut parts: BTreeMap<PartitionNo, Vec<NewSegment>> = BTreeMap::new();
        // Of an aggregate that was erased meanwhile nothing is written, and what this stood for goes anyway.
        let is_kept = |segment: &NewSegment| self.packs.erasures.of(&segment.key).is_none();
        for segment in segments.into_iter().filter(is_kept) {
            parts.entry(segment.partition.partition).or_default().push(segment);
        }
        let (packs, clock) = (Arc::clone(&self.packs), Arc::clone(&self.clock));
        let encode = move || -> Result<Vec<EncodedSegments>> {
            let encoded = parts.into_values().map(|part| {
                let ends = part.iter().map(|segment| (segment.end.cooled_copy(), segment.trigger)).collect();
                let entries = part.into_iter().map(NewEntry::segment).collect::<Result<Vec<_>>>()?;
                let pack = PackId::mint(now, clock.random());
                Ok((packs.encode(Class::History, pack, now, entries)?, ends))
            });
            encoded.collect()
        };
        let encoded = computed(&*self.compute, encode).await?;
        let writes = encoded.iter().map(|(pack, _)| -> BoxFuture<'_, _> {
            Box::pin(self.until_acked(started, "write a pack of segments", || self.put_pack(pack)))
        });
        together(writes.collect()).await?;
        let took = self.clock.monotonic_ms().saturating_sub(started);
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        let mut rows: BTreeMap<(PartitionNo, AggregateKey), Vec<SnapshotRow>> = BTreeMap::new();
        for (pack, ends) in &encoded {
            for (place, (end, trigger)) in pack.places.iter().zip(ends) {
                let row = pack.row_of(place, (end, *trigger), now, took);
                rows.entry((row.partition, row.key.clone())).or_default().push(row);
            }
        }
        rows.values_mut().for_each(|rows| rows.sort_by_key(|row| row.version));
        let writes = rows.values().map(|rows| self.snapshot_rows(rows.clone(), started));
        together(writes.collect()).await?;
        let rows: Vec<SnapshotRow> = rows.into_values().flatten().collect();
        self.count_segments(&encoded, &rows);
        Ok(rows)
    }

    fn count_segments(&self, encoded: &[EncodedSegments], rows: &[SnapshotRow]) {
        let (written, segments) = (&self.written, &self.written.segments);
        segments.records.fetch_add(rows.len() as u64, Ordering::Relaxed);
        segments.raw_bytes.fetch_add(rows.iter().map(|row| row.raw_bytes).sum(), Ordering::Relaxed);
        segments.stored_bytes.fetch_add(rows.iter().map(|row| row.stored_bytes).sum(), Ordering::Relaxed);
        written.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        written.packs.fetch_add(encoded.len() as u64, Ordering::Relaxed);
        let bytes = encoded.iter().map(|(pack, _)| pack.bytes.len() as u64).sum();
        written.pack_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
