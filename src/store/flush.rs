//! `SnapshotStore`: the only code that writes snapshots, and so the only code that knows the order of writes.
//!
//! *Order*: a dictionary, to blob store and index, before any pack that lists it; packs; then the listing
//! rows of new aggregates; then increments' rows, of one aggregate one after the other, so that a row seen
//! means that all it follows on are acknowledged; then full rows, so that a state seen means that its events
//! are kept; then whoever waits for the acknowledgement may commit. Writes of one kind go out together, the
//! next kind waits for all of them. A checkpoint's row is written only after its pack is acknowledged: a
//! listed checkpoint without a pack would block every reader.
//! *If it fails*: a write that may have happened is repeated, byte for byte, until it is acknowledged. After
//!   the deadline the whole flush is abandoned: nothing in it counts as written, whatever may have landed.
//!   Facts that landed are true.
//! *If cancelled*: as if abandoned.
//! *What may leak*: packs without rows, rows nobody waited for.

use super::dictionaries::Use;
use super::encode::Encoded;
pub use super::flush_plan::Stored;
use super::flush_plan::{FlushPlan, Part, PlannedPack, in_order};
use super::index::Index;
use super::packs::Packs;
use crate::clock::Clock;
use crate::codec::dictionary::Training;
use crate::codec::pack::dictionary_name;
use crate::compute::{Compute, computed};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{PackId, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::partition::{CheckpointItem, Entries, LiveCheckpoint, SnapshotItem};
use crate::domain::record::StoredEvent;
use crate::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow, WatermarkRow};
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes of one flush that are on their way at the same time: enough for an adapter to make one commit of
/// many, few enough not to flood an index.
const WRITES_AT_ONCE: usize = 256;
/// Aggregates of a flush whose pending events are read at the same time.
const READS_AT_ONCE: usize = 16;

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
    /// The low watermark that holds once this is durable, for whoever rebuilds the index; none if unknown.
    pub mark: Option<WatermarkRow>,
}

/// Writes snapshots, checkpoints and low watermarks.
pub struct SnapshotStore {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Packs.
    pub packs: Arc<Packs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where packs are encoded and dictionaries trained.
    pub compute: Arc<dyn Compute>,
    /// Bounds.
    pub limits: FlushLimits,
    /// What was written.
    pub written: Arc<Written>,
}

/// What was written and acknowledged since the process started, read by metrics and by `dev`.
#[derive(Debug, Default)]
pub struct Written {
    /// Snapshots: one row each.
    pub snapshots: AtomicU64,
    /// Bytes of their bodies before compression.
    pub raw_bytes: AtomicU64,
    /// Bytes of their records in packs.
    pub stored_bytes: AtomicU64,
    /// Packs of snapshots.
    pub packs: AtomicU64,
    /// Bytes of these packs, footers included.
    pub pack_bytes: AtomicU64,
    /// Checkpoint packs.
    pub checkpoints: AtomicU64,
    /// Bytes of checkpoint packs.
    pub checkpoint_bytes: AtomicU64,
    /// Flushes and checkpoints given up.
    pub abandoned: AtomicU64,
    /// Objects of any kind, dictionaries among them: one acknowledged PUT each.
    pub objects: AtomicU64,
    /// Bytes of these objects.
    pub object_bytes: AtomicU64,
    /// Acknowledged rows of any kind but dead letters and owners.
    pub rows: AtomicU64,
    /// Of the snapshots' records, the full ones.
    pub full: Sizes,
    /// Of the snapshots' records, the increments.
    pub increments: Sizes,
    /// Segments, which are no snapshots of their own but stand in the place of some.
    pub segments: Sizes,
}

/// Records of one kind.
#[derive(Debug, Default)]
pub struct Sizes {
    /// How many.
    pub records: AtomicU64,
    /// Their bytes before compression.
    pub raw_bytes: AtomicU64,
    /// Their bytes in packs.
    pub stored_bytes: AtomicU64,
}

impl Written {
    fn sizes(&self, kind: RecordKind) -> &Sizes {
        match kind {
            RecordKind::Full => &self.full,
            RecordKind::Increment => &self.increments,
            RecordKind::Segment => &self.segments,
        }
    }
}

impl SnapshotStore {
    /// Writes the snapshots of many aggregates as one pack per class, then their rows. (More packs where an
    /// id that occurs in two partitions has the same version in both.)
    ///
    /// # Errors
    /// One answer for each part, in order; an error means that nothing about that part is certain.
    pub async fn put_snapshots(&self, flushes: Vec<Flush>) -> Vec<Result<Stored>> {
        let started = self.clock.monotonic_ms();
        let now = self.clock.now();
        let mut events = Vec::with_capacity(flushes.len());
        while let Some(rest) = flushes.get(events.len()..).filter(|rest| !rest.is_empty()) {
            let next = &rest[..self.packs.gather(rest).await];
            let reads = next.iter().map(|flush| -> BoxFuture<'_, _> { Box::pin(self.events_of(flush)) });
            let reads: Vec<_> = reads.collect();
            events.extend(stream::iter(reads).buffered(READS_AT_ONCE).collect::<Vec<_>>().await);
        }
        let (packs, clock) = (Arc::clone(&self.packs), Arc::clone(&self.clock));
        let encode = move || {
            let encoded = encode_flush(&packs, &*clock, now, &flushes, events);
            (flushes, encoded)
        };
        let (flushes, (mut outcomes, encoded, trainings)) = computed(&*self.compute, encode).await;
        self.train(trainings);
        // Beside each other: what was learnt serves the flushes after this one, which must not wait for it.
        let written = async { self.write_encoded(encoded?, &flushes, now, started).await };
        let (written, ()) = future::join(written, self.put_dictionaries()).await;
        match written {
            Ok(records) => {
                for (part, kind, bytes) in records {
                    if let Ok(stored) = &mut outcomes[part] {
                        stored.take(kind, bytes);
                    }
                }
            }
            Err(error) => {
                self.written.abandoned.fetch_add(1, Ordering::Relaxed);
                outcomes.iter_mut().for_each(|outcome| *outcome = Err(error.clone()));
            }
        }
        for (flush, outcome) in flushes.iter().zip(&mut outcomes) {
            if let Err(error) = self.packs.erasures.check(&flush.key()) {
                *outcome = Err(error);
            }
        }
        outcomes
    }

    /// Trains beside everything else; nobody waits for the end of it.
    ///
    /// COST: `Training::run` takes up to a second of one core, three times in a worker's life for each
    /// (type, record kind), and once more each time that records have come to compress 10 % worse.
    fn train(&self, trainings: Vec<(Use, Training)>) {
        for (of, training) in trainings {
            let packs = Arc::clone(&self.packs);
            let train = move || {
                // A training that fails leaves things as they are: a dictionary is never needed.
                packs.dictionaries.trained(&of, training.run().ok().flatten());
            };
            drop(self.compute.start(Box::new(train)));
        }
    }

    /// Writes candidates to the blob store and the index, once: what is not acknowledged in both waits for
    /// the next flush.
    async fn put_dictionaries(&self) {
        let dictionaries = &self.packs.dictionaries;
        for (of, candidate) in dictionaries.candidates() {
            let name = dictionary_name(candidate.id());
            // As with packs the object comes first: a row that is lost with its index comes back from there.
            let written = match self.put_object(&name, candidate.bytes(), false).await {
                Ok(()) => self.index.put_dictionary(candidate.id(), candidate.bytes().into()).await,
                failed => failed,
            };
            match written {
                Ok(()) => {
                    self.written.rows.fetch_add(1, Ordering::Relaxed);
                    dictionaries.activate(&of, candidate);
                }
                Err(PortError::Permanent(_)) => dictionaries.give_up(&of, &candidate),
                Err(_) => {}
            }
        }
    }

    /// The events up to the last cut that are to be written: those in live checkpoints, then the tail; none
    /// where no increment is written.
    async fn events_of(&self, flush: &Flush) -> Result<Vec<StoredEvent>> {
        let item = &flush.item;
        if !item.increment {
            return Ok(Vec::new());
        }
        let key = flush.key();
        let mut next = item.row.next();
        let last = item.last().version();
        let mut events: Vec<StoredEvent> = Vec::new();
        for entry in &item.pending {
            if entry.upto < next {
                continue;
            }
            let body = self.packs.entry(&flush.partition, &key, entry).await?;
            for event in body.events {
                let ours = entry.ignore_from.is_none_or(|from| event.record.offset < from);
                if event.version == next && event.version <= last && ours {
                    next = next.next();
                    events.push(event);
                }
            }
        }
        for event in &item.tail {
            if event.version == next && event.version <= last {
                next = next.next();
                events.push(event.clone());
            }
        }
        if next != last.next() && !mutant(Mutant::GapFolded) {
            let detail = format!("events reach version {} of {last}", next.0 - 1);
            return Err(Error::corrupt(detail).context("copy pending events"));
        }
        Ok(events)
    }

    /// Packs, then rows. Answers the stored bytes of full records by part.
    async fn write_encoded(
        &self,
        packs: Vec<(Encoded, Vec<Part>)>,
        flushes: &[Flush],
        now: Timestamp,
        started: u64,
    ) -> Result<Vec<(usize, RecordKind, u64)>> {
        let writes = packs.iter().map(|(pack, _)| -> BoxFuture<'_, _> {
            Box::pin(self.until_acked(started, "write a pack", || self.put_pack(pack)))
        });
        together(writes.collect()).await?;
        let took = self.clock.monotonic_ms().saturating_sub(started);
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        let mut records = Vec::new();
        let mut rows: Vec<(usize, SnapshotRow)> = Vec::new();
        for (pack, parts) in &packs {
            for (place, Part { of, cut }) in pack.places.iter().zip(parts) {
                let row = pack.row(place, &flushes[*of].item.cuts[*cut], now, took);
                records.push((*of, row.kind, place.stored_bytes));
                rows.push((*of, row));
            }
        }
        // Whoever was erased since the flush was planned gets no row; a pack without rows is garbage.
        let is_erased = |of: usize| self.packs.erasures.of(&flushes[of].key()).is_some();
        rows.retain(|(of, _)| !is_erased(*of));
        // Before the first row: whoever sees a row will not list its aggregate again.
        let listings = self.listings(flushes, started);
        let listed = listings.len() as u64;
        together(listings).await?;
        if mutant(Mutant::FirstRowAckIsEnough) {
            rows.sort_by_key(|(_, row)| row.kind);
            rows.truncate(1);
        }
        // Increments' rows before full ones: a full row that is seen means that its events' row is
        // acknowledged.
        let totals = (
            rows.iter().map(|(_, row)| row.raw_bytes).sum::<u64>(),
            rows.iter().map(|(_, row)| row.stored_bytes).sum::<u64>(),
            rows.len() as u64,
        );
        let sizes: Vec<_> = rows.iter().map(|(_, row)| (row.kind, row.raw_bytes, row.stored_bytes)).collect();
        for rows in in_order(rows) {
            together(rows.into_iter().map(|rows| self.snapshot_rows(rows, started)).collect()).await?;
        }
        for (kind, raw, stored) in sizes {
            let sizes = self.written.sizes(kind);
            sizes.records.fetch_add(1, Ordering::Relaxed);
            sizes.raw_bytes.fetch_add(raw, Ordering::Relaxed);
            sizes.stored_bytes.fetch_add(stored, Ordering::Relaxed);
        }
        self.written.raw_bytes.fetch_add(totals.0, Ordering::Relaxed);
        self.written.stored_bytes.fetch_add(totals.1, Ordering::Relaxed);
        self.written.snapshots.fetch_add(totals.2, Ordering::Relaxed);
        self.written.rows.fetch_add(listed + totals.2, Ordering::Relaxed);
        self.written.packs.fetch_add(packs.len() as u64, Ordering::Relaxed);
        let pack_bytes = packs.iter().map(|(pack, _)| pack.bytes.len() as u64).sum();
        self.written.pack_bytes.fetch_add(pack_bytes, Ordering::Relaxed);
        Ok(records)
    }

    /// Listing rows of aggregates that no row tells of yet.
    fn listings<'a>(&'a self, flushes: &'a [Flush], started: u64) -> Vec<BoxFuture<'a, Result<()>>> {
        let is_new = |flush: &&Flush| flush.item.row == Version(0);
        let is_kept = |flush: &&Flush| self.packs.erasures.of(&flush.key()).is_none();
        let new = flushes.iter().filter(is_new).filter(is_kept);
        let listing = |flush: &'a Flush| -> BoxFuture<'a, _> {
            let key = flush.key();
            let partition = flush.partition.partition;
            let put = move || -> BoxFuture<'a, _> {
                let key = key.clone();
                Box::pin(async move { self.index.put_aggregate(&key, partition).await })
            };
            Box::pin(self.until_acked(started, "list an aggregate", put))
        };
        new.map(listing).collect()
    }

    /// Writes rows of one aggregate in their order, as many at once as the index can: what is acknowledged is
    /// not repeated.
    pub(super) fn snapshot_rows(&self, rows: Vec<SnapshotRow>, started: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            for rows in rows.chunks(self.index.rows_at_once()) {
                let put = || -> BoxFuture<'_, _> {
                    let put = self.index.put_snapshots(rows.to_vec());
                    Box::pin(async { timeout_is_success(put.await, Mutant::SnapshotTimeoutIsSuccess) })
                };
                self.until_acked(started, "write snapshot rows", put).await?;
            }
            Ok(())
        })
    }

    /// Writes one checkpoint of many partitions: the pack, then one row per partition. Answers in the order
    /// of `parts`.
    ///
    /// # Errors
    /// The deadline passed, or a port refused for good: the checkpoint is abandoned as a whole.
    pub async fn put_checkpoint(&self, parts: Vec<CheckpointPart>) -> Result<Vec<LiveCheckpoint>> {
        let started = self.clock.monotonic_ms();
        let now = self.clock.now();
        let (packs, pack) = (Arc::clone(&self.packs), PackId::mint(now, self.clock.random()));
        let encode = move || packs.encode_checkpoint(pack, now, parts);
        let encoded = computed(&*self.compute, encode).await?;
        let (rows, object_bytes) = (&encoded.rows, encoded.bytes.len() as u64);
        if mutant(Mutant::CheckpointRowBeforePack) {
            self.put_checkpoint_rows(rows, object_bytes, started).await?;
        }
        let put = || self.put_object(&encoded.name, &encoded.bytes, true);
        self.until_acked(started, "write a checkpoint pack", put).await?;
        self.put_checkpoint_rows(rows, object_bytes, started).await?;
        self.written.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.written.checkpoint_bytes.fetch_add(object_bytes, Ordering::Relaxed);
        let live = |((kind, entries), row): ((Arc<str>, Arc<Entries>), &CheckpointRow)| {
            self.packs.know_own(pack, &row.key, kind, &entries);
            LiveCheckpoint { pack, object_bytes, entries, cut: None }
        };
        Ok(encoded.tables.into_iter().zip(rows).map(live).collect())
    }

    async fn put_checkpoint_rows(
        &self,
        rows: &[CheckpointRow],
        object_bytes: u64,
        started: u64,
    ) -> Result<()> {
        let acked = if mutant(Mutant::FirstRowAckIsEnough) { rows.len().min(1) } else { rows.len() };
        let writes = rows[..acked].iter().map(|row| -> BoxFuture<'_, _> {
            let put = move || -> BoxFuture<'_, _> {
                let put = self.index.put_checkpoint(CheckpointRow { object_bytes, ..row.clone() });
                Box::pin(async { timeout_is_success(put.await, Mutant::CheckpointTimeoutIsSuccess) })
            };
            Box::pin(self.until_acked(started, "write a checkpoint row", put))
        });
        together(writes.collect()).await?;
        self.written.rows.fetch_add(acked as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Writes provisional rows again until they are acknowledged: however long it takes, because until then
    /// nothing may rely on them.
    pub async fn adopt(&self, rows: Vec<SnapshotRow>) {
        let write = |row: SnapshotRow| async move {
            while self.index.put_snapshot(row.clone()).await.is_err() {
                self.clock.sleep(self.limits.retry_ms).await;
            }
            self.written.rows.fetch_add(1, Ordering::Relaxed);
        };
        stream::iter(rows).for_each_concurrent(WRITES_AT_ONCE, write).await;
    }

    /// Deletes the row of a checkpoint that nothing needs any more, until acknowledged: a row that stays
    /// costs every reader of the partition a look into its pack.
    ///
    /// *If cancelled*: the row may stay; it is harmless, and one of the next owner's live checkpoints.
    pub async fn retire(&self, partition: &PartitionKey, pack: PackId) {
        while self.index.delete_checkpoint(partition, pack).await.is_err() {
            self.clock.sleep(self.limits.retry_ms).await;
        }
    }

    /// Writes a low watermark to the index.
    ///
    /// # Errors
    /// `Unavailable`: nothing is certain about it.
    pub async fn put_watermark(&self, row: WatermarkRow) -> Result<()> {
        let put = self.index.put_watermark(row).await;
        put.map_err(|error| crate::store::unavailable("write the low watermark", &error))?;
        self.written.rows.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn put_pack<'a>(&'a self, pack: &'a Encoded) -> BoxFuture<'a, PortResult<()>> {
        self.put_object(&pack.name, &pack.bytes, true)
    }

    /// Writes an object. One that is there is an earlier try of `ours`, or another flush's.
    fn put_object<'a>(&'a self, name: &'a str, bytes: &'a [u8], ours: bool) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            match self.packs.blobs.put_new(name, bytes).await {
                Err(PortError::Exists) => {
                    let there = self.packs.blobs.get_range(name, 0, bytes.len() as u64 + 1).await?;
                    if there != bytes {
                        return Err(PortError::Permanent(format!("`{name}` holds other bytes")));
                    }
                    if !ours {
                        return Ok(());
                    }
                }
                other => other?,
            }
            self.written.objects.fetch_add(1, Ordering::Relaxed);
            self.written.object_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Repeats one write until it is acknowledged or the flush has run out of time.
    pub(super) async fn until_acked<'a>(
        &'a self,
        started: u64,
        doing: &'static str,
        mut write: impl FnMut() -> BoxFuture<'a, PortResult<()>> + Send + 'a,
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

/// What became of the parts of a flush, its packs, and the trainings that have become due.
type EncodedFlush = (Vec<Result<Stored>>, Result<Vec<(Encoded, Vec<Part>)>>, Vec<(Use, Training)>);

fn encode_flush(
    packs: &Packs,
    clock: &dyn Clock,
    now: Timestamp,
    flushes: &[Flush],
    events: Vec<Result<Vec<StoredEvent>>>,
) -> EncodedFlush {
    for kind in flushes.iter().map(|flush| &flush.kind).collect::<BTreeSet<_>>() {
        packs.dictionaries.heed(kind, &packs.erasures.ids(kind));
    }
    let mut plan = FlushPlan::default();
    let outcome = |(part, (flush, events)): (usize, (&Flush, Result<Vec<StoredEvent>>))| {
        packs.erasures.check(&flush.key())?;
        plan.add(part, flush, events?).map(|()| Stored::default())
    };
    let outcomes = flushes.iter().zip(events).enumerate().map(outcome).collect();
    let encoded = plan.packs.into_iter().map(|PlannedPack { class, entries, parts }| {
        Ok((packs.encode(class, PackId::mint(now, clock.random()), now, entries)?, parts))
    });
    (outcomes, encoded.collect(), packs.dictionaries.due())
}

/// Runs writes at the same time, [`WRITES_AT_ONCE`] at most; the first that is given up gives up all of them.
pub(super) async fn together(writes: Vec<BoxFuture<'_, Result<()>>>) -> Result<()> {
    stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect().await
}

fn timeout_is_success(outcome: PortResult<()>, which: Mutant) -> PortResult<()> {
    match outcome {
        Err(PortError::Unknown(_)) if mutant(which) => Ok(()),
        other => other,
    }
}
