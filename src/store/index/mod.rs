//! The `Index` port: rows that say which facts exist and where their bytes are.
//!
//! *Order*: single-row writes, no transactions, no "latest" pointer. *If it fails*: see `outcome`; every
//! write is idempotent. Reads are quorum reads: what a write was acknowledged for, every later read sees; a
//! write that was not acknowledged may be seen by one read and not by the next. An error is never told as
//! "absent".
//!
//! | file | owns |
//! |---|---|
//! | `embedded` | one folder of one process (feature `runtime`) |
//! | [`memory`] | the twin for tests and for stacks that may forget |
//! | `scylla` | ScyllaDB or Apache Cassandra (feature `runtime`) |
//! | `suite` | what every implementation promises, as tests |
//! | `walk` | all rows of an aggregate, page by page |

#[cfg(feature = "runtime")]
pub mod embedded;
pub mod memory;
#[cfg(feature = "runtime")]
pub mod scylla;
#[cfg(test)]
pub(crate) mod suite;
mod walk;

#[cfg(feature = "runtime")]
pub use embedded::EmbeddedIndex;
pub use memory::MemoryIndex;
#[cfg(feature = "runtime")]
pub use scylla::ScyllaIndex;
pub use walk::RowWalk;

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
use futures_util::future::BoxFuture;

/// Where a walk over the snapshot rows of one aggregate starts, and in which direction it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Downwards from the newest row.
    Newest,
    /// Downwards from the rows of this version or below.
    AtOrBelow(Version),
    /// Downwards from the newest row whose effective time is at or before this.
    TimeAtOrBefore(Timestamp),
    /// Downwards from the newest row whose last offset is at or before this.
    OffsetAtOrBelow(Offset),
    /// Upwards from the first row above this version.
    Above(Version),
}

/// Rows of the index. Implementations: memory, embedded, ScyllaDB; the simulator's replicas.
pub trait Index: Send + Sync {
    /// Writes one snapshot row.
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>>;
    /// How many snapshot rows of one aggregate [`Index::put_snapshots`] writes as one unit.
    fn rows_at_once(&self) -> usize {
        1
    }
    /// Writes snapshot rows of one aggregate so that none is seen before all ahead of it in the list are
    /// acknowledged.
    fn put_snapshots(&self, rows: Vec<SnapshotRow>) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            for row in rows {
                self.put_snapshot(row).await?;
            }
            Ok(())
        })
    }
    /// Up to `limit` snapshot rows of an aggregate; rows of one version come together (ordered by pack).
    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>>;
    /// The snapshot whose public id this is (`domain::chain::snapshot_id`): every row that was written is
    /// found by it.
    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>>;
    /// Deletes one snapshot row, whether it is there or not, for good: a repetition of its write, however
    /// late, does not bring it back (`domain::ledger::deleted_at`). `deletion` names the fact in the ledger.
    /// An index in which nothing is ever deleted refuses.
    fn delete_snapshot<'a>(
        &'a self,
        _row: &'a DeletedRow,
        _deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(std::future::ready(Err(PortError::Permanent("this index deletes nothing".to_owned()))))
    }
    /// Writes one checkpoint row; its write time derives from its pack id.
    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>>;
    /// Deletes one checkpoint row, whether it is there or not; the deletion's write time is the row's plus
    /// one.
    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>>;
    /// The live checkpoints of one partition, oldest pack first.
    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>>;
    /// Writes a low watermark; of several values the largest wins.
    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>>;
    /// The low watermarks of one partition of a lineage: one for each leader epoch under which one was
    /// written.
    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>>;
    /// Writes who folds a partition; of several the last one written counts. An index that only one process
    /// can use keeps none.
    fn put_owner(&self, _row: OwnerRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Who said last that it folds a partition; nothing depends on its being right.
    fn owner<'a>(&'a self, _key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Option<OwnerRow>>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    /// Notes that an aggregate exists, for listing and for finding its partition; repeating it is harmless.
    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>>;
    /// Up to `limit` known aggregates of a type with ids after `after`, in id order.
    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>>;
    /// Writes a note on a snapshot; repeating it is harmless. An index that nobody notes anything in keeps
    /// none.
    fn put_note(&self, _row: NoteRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(std::future::ready(Err(PortError::Permanent("this index keeps no notes".to_owned()))))
    }
    /// The notes on an aggregate's snapshots of these versions, by version, then by name.
    fn notes<'a>(
        &'a self,
        _key: &'a AggregateKey,
        _lineage: Lineage,
        _versions: (Version, Version),
    ) -> BoxFuture<'a, PortResult<Vec<NoteRow>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Writes that an aggregate is held, or no longer; repeating it is harmless. An index that nobody holds
    /// anything in keeps none.
    fn put_hold(&self, _row: HoldRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(std::future::ready(Err(PortError::Permanent("this index keeps no holds".to_owned()))))
    }
    /// The holds of an aggregate, by name.
    fn holds<'a>(&'a self, _key: &'a AggregateKey) -> BoxFuture<'a, PortResult<Vec<HoldRow>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// The deletion that each deleted snapshot row of an aggregate went with, by its name in the ledger. One
    /// that was deleted twice went with either. An index that nobody asks keeps none.
    fn deletions<'a>(
        &'a self,
        _key: &'a AggregateKey,
        _lineage: Lineage,
    ) -> BoxFuture<'a, PortResult<Vec<LedgerId>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// The deletion that one snapshot row went with; of several any. None tells nothing: older versions of
    /// snapfold kept none, and rows of this table are lost as others are.
    fn deletion<'a>(&'a self, _row: &'a DeletedRow) -> BoxFuture<'a, PortResult<Option<LedgerId>>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    /// Writes a schedule; of several rows of one name that with the larger `at` counts. An index of which
    /// nobody wants schedules keeps none.
    fn put_schedule(&self, _row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(std::future::ready(Err(PortError::Permanent("this index keeps no schedules".to_owned()))))
    }
    /// A schedule by its name, one that was deleted too.
    fn schedule<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, PortResult<Option<ScheduleRow>>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    /// All schedules by name, those that were deleted too.
    fn schedules(&self) -> BoxFuture<'_, PortResult<Vec<ScheduleRow>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Another value than before whenever a schedule was written: cheap to ask.
    fn schedules_changed(&self) -> BoxFuture<'_, PortResult<Option<LedgerId>>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    /// Writes a run of a schedule into its place; of several the one of the highest rank counts.
    fn put_run(&self, _row: RunRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(std::future::ready(Err(PortError::Permanent("this index keeps no runs".to_owned()))))
    }
    /// The kept runs of a schedule in one partition, by number.
    fn runs<'a>(
        &'a self,
        _name: &'a str,
        _topic: &'a str,
        _partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<Vec<RunRow>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Records a dead letter; repeating it is harmless. The same without its record replaces it.
    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>>;
    /// Up to `limit` dead letters of one partition from an offset on.
    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>>;
    /// Writes a dictionary under the SHA-256 of its bytes; repeating it is harmless.
    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>>;
    /// The bytes of a dictionary as they are there (the caller verifies them); none if there is none.
    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>>;
}
