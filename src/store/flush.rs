//! `SnapshotStore`: the only code that writes snapshots, and so the only code that knows the order of writes.
//!
//! *Order*: pack, then rows (the events' row before the state's, so that a state seen means that its events
//!   are kept),
//! then whoever waits for the acknowledgement may commit. A checkpoint's row is written only after its pack
//! is
//! acknowledged: a listed checkpoint without a pack would block every reader.
//! *If it fails*: a write that may have happened is repeated, byte for byte, until it is acknowledged. After
//!   the deadline
//! the whole flush is abandoned: nothing in it counts as written, whatever may have landed. Facts that landed
//! are true.
//! *If cancelled*: as if abandoned.
//! *What may leak*: packs without rows, rows nobody waited for.

use super::index::Index;
use super::packs::{Class, Encoded, NewEntry, Packs};
use crate::clock::Clock;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Offset, PackId, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::partition::{CheckpointItem, Entries, Entry, LiveCheckpoint, SnapshotItem};
use crate::domain::record::{IncrementBody, StoredEvent};
use crate::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow, WatermarkRow};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Bounds of a flush.
#[derive(Clone, Copy, Debug)]
pub struct FlushLimits {
    /// From minting the pack id to the last acknowledgement.
    pub deadline_ms: u64,
    /// Pause before a failed write is repeated.
    pub retry_ms: u64,
}

/// One aggregate's part of a flush.
#[derive(Debug)]
pub struct Flush {
    /// Which log.
    pub partition: PartitionKey,
    /// Aggregate type.
    pub kind: Arc<str>,
    /// What is to be written.
    pub item: SnapshotItem,
}

/// One partition's part of a checkpoint.
#[derive(Debug)]
pub struct CheckpointPart {
    /// Which log.
    pub partition: PartitionKey,
    /// Aggregate type.
    pub kind: Arc<str>,
    /// What is to be written.
    pub items: Vec<CheckpointItem>,
}

/// What is known of a flush part that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes of the full record, if there is one.
    pub full_bytes: Option<u64>,
}

/// Writes snapshots, checkpoints and low watermarks.
pub struct SnapshotStore {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Packs.
    pub packs: Arc<Packs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bounds.
    pub limits: FlushLimits,
}

impl SnapshotStore {
    /// Writes the snapshots of many aggregates as one pack per class, then their rows.
    ///
    /// # Errors
    /// One answer for each part, in order; an error means that nothing about that part is certain.
    pub async fn put_snapshots(&self, flushes: Vec<Flush>) -> Vec<Result<Stored>> {
        let started = self.clock.monotonic_ms();
        let mut outcomes: Vec<Result<Stored>> = Vec::with_capacity(flushes.len());
        let mut plan = FlushPlan::default();
        for (part, flush) in flushes.iter().enumerate() {
            let made = match self.events_of(flush).await {
                Ok(events) => plan.add(part, flush, events),
                Err(error) => Err(error),
            };
            outcomes.push(made.map(|()| Stored { full_bytes: None }));
        }
        let written = self.write_plan(plan, &flushes, started).await;
        match written {
            Ok(full_bytes) => {
                for (part, bytes) in full_bytes {
                    if let Ok(stored) = &mut outcomes[part] {
                        stored.full_bytes = Some(bytes);
                    }
                }
            }
            Err(error) => outcomes.iter_mut().for_each(|outcome| *outcome = Err(error.clone())),
        }
        outcomes
    }

    /// The events of an increment: those in live checkpoints, then the tail.
    async fn events_of(&self, flush: &Flush) -> Result<Vec<StoredEvent>> {
        let item = &flush.item;
        let mut events: Vec<StoredEvent> = Vec::new();
        if !item.increment {
            return Ok(events);
        }
        let key = AggregateKey { kind: Arc::clone(&flush.kind), id: Arc::clone(&item.id) };
        let mut next = item.row.next();
        for entry in &item.pending {
            if entry.upto < next {
                continue;
            }
            let body = self.packs.entry(&flush.partition, &key, entry).await?;
            for event in body.events {
                let ours = entry.ignore_from.is_none_or(|from| event.record.offset < from);
                if event.version == next && ours {
                    next = next.next();
                    events.push(event);
                }
            }
        }
        for event in &item.tail {
            if event.version == next {
                next = next.next();
                events.push(event.clone());
            }
        }
        if next != item.aggregate.version.next() && !mutant(Mutant::GapFolded) {
            let detail = format!("events reach version {} of {}", next.0 - 1, item.aggregate.version);
            return Err(Error::corrupt(detail).context("copy pending events"));
        }
        Ok(events)
    }

    /// Packs, then rows. Answers the stored bytes of full records by part.
    async fn write_plan(
        &self,
        plan: FlushPlan,
        flushes: &[Flush],
        started: u64,
    ) -> Result<Vec<(usize, u64)>> {
        let now = self.clock.now();
        let mut rows: Vec<(RecordKind, SnapshotRow)> = Vec::new();
        let mut packs: Vec<Encoded> = Vec::new();
        let mut full_bytes = Vec::new();
        for (class, entries, parts) in [
            (Class::History, plan.increments, plan.increment_parts),
            (Class::Full, plan.fulls, plan.full_parts),
        ] {
            if entries.is_empty() {
                continue;
            }
            let kind = if class == Class::Full { RecordKind::Full } else { RecordKind::Increment };
            let encoded = self.packs.encode(class, self.mint(now), now, entries)?;
            for (place, part) in encoded.places.iter().zip(&parts) {
                if class == Class::Full {
                    full_bytes.push((*part, place.stored_bytes));
                }
                let row = encoded.row(place, now, flushes[*part].item.trigger);
                rows.push((kind, row));
            }
            packs.push(encoded);
        }
        for pack in &packs {
            self.until_acked(started, "write a pack", || self.put_pack(pack)).await?;
        }
        for flush in flushes {
            let key = AggregateKey { kind: Arc::clone(&flush.kind), id: Arc::clone(&flush.item.id) };
            let partition = flush.partition.partition;
            if flush.item.row == Version(0) {
                let put = || Box::pin(self.index.put_aggregate(&key, partition)) as BoxFuture<'_, _>;
                self.until_acked(started, "list an aggregate", put).await?;
            }
        }
        // Increments' rows before full ones: a full row that is seen means that its events' row is
        // acknowledged.
        rows.sort_by_key(|(kind, _)| *kind);
        if mutant(Mutant::FullRowBeforeIncrement) {
            rows.reverse();
        }
        for (_, row) in rows {
            let put = || {
                let put = self.index.put_snapshot(row.clone());
                Box::pin(async { timeout_is_success(put.await, Mutant::SnapshotTimeoutIsSuccess) })
                    as BoxFuture<'_, _>
            };
            self.until_acked(started, "write a snapshot row", put).await?;
            if mutant(Mutant::FirstRowAckIsEnough) {
                break;
            }
        }
        Ok(full_bytes)
    }

    /// Writes one checkpoint of many partitions: the pack, then one row per partition. Answers in the order
    /// of `parts`.
    ///
    /// # Errors
    /// The deadline passed, or a port refused for good: the checkpoint is abandoned as a whole.
    pub async fn put_checkpoint(&self, parts: Vec<CheckpointPart>) -> Result<Vec<LiveCheckpoint>> {
        let started = self.clock.monotonic_ms();
        let now = self.clock.now();
        let pack = self.mint(now);
        let mut entries = Vec::new();
        let mut rows = Vec::new();
        let mut tables = Vec::new();
        for part in parts {
            let (table, first, end) = table_of(&part.items);
            rows.push(CheckpointRow {
                key: part.partition.clone(),
                pack,
                first_offset: first,
                end_offset: end,
                entries: u32::try_from(table.len()).expect("a checkpoint has fewer than 2^32 entries"),
                object_bytes: 0,
            });
            tables.push(Arc::new(table));
            for item in part.items {
                entries.push(NewEntry::of_checkpoint(&part.partition, &part.kind, item));
            }
        }
        let encoded = self.packs.encode(Class::Checkpoint, pack, now, entries)?;
        let object_bytes = encoded.bytes.len() as u64;
        if mutant(Mutant::CheckpointRowBeforePack) {
            self.put_checkpoint_rows(&rows, object_bytes, started).await?;
        }
        self.until_acked(started, "write a checkpoint pack", || self.put_pack(&encoded)).await?;
        self.put_checkpoint_rows(&rows, object_bytes, started).await?;
        let live = |entries| LiveCheckpoint { pack, object_bytes, entries };
        Ok(tables.into_iter().map(live).collect())
    }

    async fn put_checkpoint_rows(
        &self,
        rows: &[CheckpointRow],
        object_bytes: u64,
        started: u64,
    ) -> Result<()> {
        for row in rows {
            let put = || {
                let put = self.index.put_checkpoint(CheckpointRow { object_bytes, ..row.clone() });
                Box::pin(async { timeout_is_success(put.await, Mutant::CheckpointTimeoutIsSuccess) })
                    as BoxFuture<'_, _>
            };
            self.until_acked(started, "write a checkpoint row", put).await?;
            if mutant(Mutant::FirstRowAckIsEnough) {
                break;
            }
        }
        Ok(())
    }

    /// Writes provisional rows again until they are acknowledged: however long it takes, because until then
    /// nothing may
    /// rely on them.
    pub async fn adopt(&self, rows: Vec<SnapshotRow>) {
        for row in rows {
            while self.index.put_snapshot(row.clone()).await.is_err() {
                self.clock.sleep(self.limits.retry_ms).await;
            }
        }
    }

    /// Deletes the row of a checkpoint that nothing needs any more: once, best effort; a row that stays is
    /// harmless.
    pub async fn retire(&self, partition: &PartitionKey, pack: PackId) {
        // The row that stays is counted by the live checkpoints of the next owner.
        let _ = self.index.delete_checkpoint(partition, pack).await;
    }

    /// Writes a low watermark to the index.
    ///
    /// # Errors
    /// `Unavailable`: nothing is certain about it.
    pub async fn put_watermark(&self, row: WatermarkRow) -> Result<()> {
        let put = self.index.put_watermark(row).await;
        put.map_err(|error| crate::store::unavailable("write the low watermark", &error))
    }

    fn put_pack<'a>(&'a self, pack: &'a Encoded) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            match self.packs.blobs.put_new(&pack.name, &pack.bytes).await {
                // Our own earlier try, or it is not ours: only equal bytes count.
                Err(PortError::Exists) => {
                    let there =
                        self.packs.blobs.get_range(&pack.name, 0, pack.bytes.len() as u64 + 1).await?;
                    if there == pack.bytes {
                        Ok(())
                    } else {
                        Err(PortError::Permanent(format!("`{}` holds other bytes", pack.name)))
                    }
                }
                other => other,
            }
        })
    }

    fn mint(&self, now: Timestamp) -> PackId {
        PackId::mint(now, self.clock.random())
    }

    /// Repeats one write until it is acknowledged or the flush has run out of time.
    async fn until_acked<'a>(
        &'a self,
        started: u64,
        doing: &str,
        mut write: impl FnMut() -> BoxFuture<'a, PortResult<()>>,
    ) -> Result<()> {
        loop {
            let outcome = write().await;
            let late = self.clock.monotonic_ms().saturating_sub(started) > self.limits.deadline_ms;
            match outcome {
                // An acknowledgement after the deadline does not count: the grace of garbage collection may
                // be over.
                Ok(()) if !late => return Ok(()),
                Err(PortError::Permanent(what)) => {
                    return Err(Error::new(ErrorKind::Unavailable, "dependency-down", what).context(doing));
                }
                _ if late => {
                    let detail = "the flush ran out of time and is abandoned";
                    return Err(Error::new(ErrorKind::Unavailable, "dependency-down", detail).context(doing));
                }
                _ => self.clock.sleep(self.limits.retry_ms).await,
            }
        }
    }
}

fn timeout_is_success(outcome: PortResult<()>, which: Mutant) -> PortResult<()> {
    match outcome {
        Err(PortError::Unknown(_)) if mutant(which) => Ok(()),
        other => other,
    }
}

/// What one flush writes, by class.
#[derive(Default)]
struct FlushPlan {
    increments: Vec<NewEntry>,
    increment_parts: Vec<usize>,
    fulls: Vec<NewEntry>,
    full_parts: Vec<usize>,
}

impl FlushPlan {
    fn add(&mut self, part: usize, flush: &Flush, events: Vec<StoredEvent>) -> Result<()> {
        let item = &flush.item;
        // Pending events come before the tail; an owner ignores what lies beyond its start, so the least
        // offset counts.
        let pending = item.pending.iter().map(|entry| entry.first_offset);
        let tail = item.tail.first().map(|event| event.record.offset);
        let first = match events.first() {
            Some(event) => event.record.offset,
            None => pending.chain(tail).min().unwrap_or(item.aggregate.offset),
        };
        if item.increment {
            let body = IncrementBody { events, quarantine: item.aggregate.quarantine.clone() };
            self.increments.push(NewEntry::increment(flush, first, body));
            self.increment_parts.push(part);
        }
        if item.full {
            self.fulls.push(NewEntry::full(flush, first)?);
            self.full_parts.push(part);
        }
        Ok(())
    }
}

/// The table of a checkpoint's entries of one partition, and the offsets they span.
fn table_of(items: &[CheckpointItem]) -> (Entries, Offset, Offset) {
    let mut sorted: Vec<&CheckpointItem> = items.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let entries: Vec<Entry<'_>> = sorted.into_iter().map(CheckpointItem::entry).collect();
    let first = entries.iter().map(|entry| entry.first_offset).min().unwrap_or_default();
    let last = entries.iter().map(|entry| entry.last_offset).max().unwrap_or_default();
    (Entries::from_sorted(entries), first, last.next())
}
