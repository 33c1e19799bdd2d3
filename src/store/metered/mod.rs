//! Meters in front of any index and any object store: calls by operation and outcome, their seconds, rows and
//! bytes, and whether the store answers at all.
//!
//! INVARIANT: every method of the ports is forwarded, the ones with a default too, and answers are handed on
//! as they came. *If cancelled*: the call is, and counts as neither answered nor failed.

use super::answers::{Answers, Silence};
use super::blobs::{Blob, Blobs};
use super::index::{From, Index};
use crate::clock::Clock;
use crate::domain::ids::{
    AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version,
};
use crate::domain::ledger::{DeletedRow, HoldRow};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::Bytes;
use crate::domain::row::{
    CheckpointRow, DeadLetter, NoteRow, OwnerRow, PartitionKey, SnapshotRow, WatermarkRow,
};
use crate::domain::schedule::{RunRow, ScheduleRow};
use crate::telemetry::metrics as table;
use crate::telemetry::stopwatch::Stopwatch;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Classes of outcomes, as labels.
fn class(outcome: Option<&PortError>) -> &'static str {
    match outcome {
        None => "ok",
        Some(PortError::NotDone(_)) => "not_done",
        Some(PortError::Unknown(_)) => "unknown",
        Some(PortError::Permanent(_)) => "permanent",
        Some(PortError::Missing) => "missing",
        Some(PortError::Exists) => "exists",
    }
}

struct Meter {
    store: &'static str,
    clock: Arc<dyn Clock>,
    answers: Answers,
}

/// One call under way; dropped before its end it was cancelled.
struct Call<'a> {
    meter: &'a Meter,
    has_ended: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.meter.answers.dropped();
        }
    }
}

impl Meter {
    fn new(store: &'static str, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, answers: Answers::default() }
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: BoxFuture<'a, PortResult<T>>,
    ) -> BoxFuture<'a, PortResult<T>> {
        Box::pin(async move {
            self.answers.asked(self.clock.monotonic_ms());
            let mut under_way = Call { meter: self, has_ended: false };
            let watch = Stopwatch::start();
            let outcome = call.await;
            let (seconds, failure) = (watch.ms() / 1_000.0, outcome.as_ref().err());
            under_way.has_ended = true;
            self.answers.ended(self.clock.monotonic_ms(), failure);
            let (store, outcome_class) = (self.store, class(failure));
            metrics::counter!(table::STORE_CALLS.name, "store" => store, "operation" => operation, "outcome" => outcome_class)
                .increment(1);
            metrics::histogram!(table::STORE_CALL_SECONDS.name, "store" => store, "operation" => operation)
                .record(seconds);
            outcome
        })
    }

    /// A call that writes so many rows, if it is acknowledged.
    fn write<'a>(
        &'a self,
        operation: &'static str,
        rows: usize,
        call: BoxFuture<'a, PortResult<()>>,
    ) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            self.call(operation, call).await?;
            metrics::counter!(table::STORE_WRITTEN_ROWS.name, "operation" => operation)
                .increment(rows as u64);
            Ok(())
        })
    }

    fn silence(&self) -> Option<Silence> {
        self.answers.silence(self.clock.monotonic_ms())
    }

    fn is_unheard_for(&self, ms: u64) -> bool {
        self.answers.is_unheard_for(self.clock.monotonic_ms(), ms)
    }
}

/// An index behind a meter.
pub struct MeteredIndex {
    inner: Arc<dyn Index>,
    meter: Meter,
}

impl MeteredIndex {
    /// A meter in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Index>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, meter: Meter::new("index", clock) }
    }

    /// Since when it does not answer, if so.
    #[must_use]
    pub fn silence(&self) -> Option<Silence> {
        self.meter.silence()
    }

    /// Asks it something small if nobody has heard from it for `ms`: whether it answers shows then.
    pub async fn ask_if_unheard(&self, key: &PartitionKey, ms: u64) {
        if self.meter.is_unheard_for(ms) {
            // Only that it answers is of interest, and the meter has heard that.
            let _ = self.watermarks(key).await;
        }
    }
}

impl Index for MeteredIndex {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_snapshot", 1, self.inner.put_snapshot(row))
    }

    fn rows_at_once(&self) -> usize {
        self.inner.rows_at_once()
    }

    fn put_snapshots(&self, rows: Vec<SnapshotRow>) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_snapshots", rows.len(), self.inner.put_snapshots(rows))
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        self.meter.call("snapshots", self.inner.snapshots(key, lineage, from, limit))
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        self.meter.call("snapshot_by_id", self.inner.snapshot_by_id(id))
    }

    fn delete_snapshot<'a>(
        &'a self,
        row: &'a DeletedRow,
        deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.meter.call("delete_snapshot", self.inner.delete_snapshot(row, deletion))
    }

    fn put_hold(&self, row: HoldRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_hold", 1, self.inner.put_hold(row))
    }

    fn holds<'a>(&'a self, key: &'a AggregateKey) -> BoxFuture<'a, PortResult<Vec<HoldRow>>> {
        self.meter.call("holds", self.inner.holds(key))
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_checkpoint", 1, self.inner.put_checkpoint(row))
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        self.meter.call("delete_checkpoint", self.inner.delete_checkpoint(key, pack))
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        self.meter.call("checkpoints", self.inner.checkpoints(key))
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_watermark", 1, self.inner.put_watermark(row))
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        self.meter.call("watermarks", self.inner.watermarks(key))
    }

    fn put_owner(&self, row: OwnerRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_owner", 1, self.inner.put_owner(row))
    }

    fn owner<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Option<OwnerRow>>> {
        self.meter.call("owner", self.inner.owner(key))
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.meter.write("put_aggregate", 1, self.inner.put_aggregate(key, partition))
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        self.meter.call("aggregates", self.inner.aggregates(kind, after, limit))
    }

    fn put_note(&self, row: NoteRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_note", 1, self.inner.put_note(row))
    }

    fn notes<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        versions: (Version, Version),
    ) -> BoxFuture<'a, PortResult<Vec<NoteRow>>> {
        self.meter.call("notes", self.inner.notes(key, lineage, versions))
    }

    fn deletions<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
    ) -> BoxFuture<'a, PortResult<Vec<LedgerId>>> {
        self.meter.call("deletions", self.inner.deletions(key, lineage))
    }

    fn deletion<'a>(&'a self, row: &'a DeletedRow) -> BoxFuture<'a, PortResult<Option<LedgerId>>> {
        self.meter.call("deletion", self.inner.deletion(row))
    }

    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_schedule", 1, self.inner.put_schedule(row))
    }

    fn schedule<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Option<ScheduleRow>>> {
        self.meter.call("schedule", self.inner.schedule(name))
    }

    fn schedules(&self) -> BoxFuture<'_, PortResult<Vec<ScheduleRow>>> {
        self.meter.call("schedules", self.inner.schedules())
    }

    fn schedules_changed(&self) -> BoxFuture<'_, PortResult<Option<LedgerId>>> {
        self.meter.call("schedules_changed", self.inner.schedules_changed())
    }

    fn put_run(&self, row: RunRow) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_run", 1, self.inner.put_run(row))
    }

    fn runs<'a>(
        &'a self,
        name: &'a str,
        topic: &'a str,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<Vec<RunRow>>> {
        self.meter.call("runs", self.inner.runs(name, topic, partition))
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_dead_letter", 1, self.inner.put_dead_letter(letter))
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        self.meter.call("dead_letters", self.inner.dead_letters(key, from, limit))
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        self.meter.write("put_dictionary", 1, self.inner.put_dictionary(id, bytes))
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        self.meter.call("dictionary", self.inner.dictionary(id))
    }
}

/// An object store behind a meter.
pub struct MeteredBlobs {
    inner: Arc<dyn Blobs>,
    meter: Meter,
}

impl MeteredBlobs {
    /// A meter in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Blobs>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, meter: Meter::new("blobs", clock) }
    }

    /// Since when it does not answer, if so.
    #[must_use]
    pub fn silence(&self) -> Option<Silence> {
        self.meter.silence()
    }

    /// Asks it something small if nobody has heard from it for `ms`: whether it answers shows then.
    pub async fn ask_if_unheard(&self, ms: u64) {
        if self.meter.is_unheard_for(ms) {
            // Only that it answers is of interest, and the meter has heard that. An archive that does not is
            // no reason to do nothing, so it is not asked: no pack has such a name.
            let _ = self.list("v1/lineages/", None, 1).await;
        }
    }
}

impl Blobs for MeteredBlobs {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            self.meter.call("put_new", self.inner.put_new(name, bytes)).await?;
            metrics::counter!(table::STORE_WRITTEN_BYTES.name).increment(bytes.len() as u64);
            Ok(())
        })
    }

    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        Box::pin(async move {
            let bytes = self.meter.call("get_range", self.inner.get_range(name, start, len)).await?;
            metrics::counter!(table::STORE_READ_BYTES.name).increment(bytes.len() as u64);
            Ok(bytes)
        })
    }

    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        Box::pin(async move {
            let (bytes, whole) = self.meter.call("get_tail", self.inner.get_tail(name, len)).await?;
            metrics::counter!(table::STORE_READ_BYTES.name).increment(bytes.len() as u64);
            Ok((bytes, whole))
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        self.meter.call("list", self.inner.list(prefix, after, limit))
    }

    fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        self.meter.call("modified", self.inner.modified(name))
    }

    fn is_archived<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<bool>> {
        self.meter.call("is_archived", self.inner.is_archived(name))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        self.meter.call("delete", self.inner.delete(name))
    }
}

#[cfg(test)]
mod tests;
