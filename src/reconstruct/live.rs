//! What may be asked of whoever owns a partition: the ports through which lookups see workers.

use crate::domain::error::Result;
use crate::domain::ids::{Offset, PartitionNo, Version};
use crate::domain::partition::{Listing, Residence, Resident, Taken};
use crate::domain::row::Trigger;
use crate::store::flush::{Flush, Stored};
use futures_util::future::{BoxFuture, ready};
use std::sync::Arc;

/// An owner's answer about a head. O1: it is true as of `position`; whoever asks reads the low watermark as
/// well and refuses an answer from below it.
#[derive(Debug)]
pub struct HeadAnswer {
    /// What is in memory.
    pub residence: Residence,
    /// Next offset to fold.
    pub position: Offset,
}

/// An owner's answer about what is in its memory, in id order; as true as a `HeadAnswer`.
#[derive(Debug)]
pub struct ListAnswer {
    /// What is in memory.
    pub residents: Vec<Resident>,
    /// Next offset to fold.
    pub position: Offset,
}

/// The owners of partitions, wherever they run.
pub trait LiveHeads: Send + Sync {
    /// The head of an aggregate from its owner's memory; none if nobody who could be reached owns the
    /// partition.
    fn head(&self, partition: PartitionNo, id: Arc<str>) -> BoxFuture<'_, Option<HeadAnswer>>;
    /// Aggregates in the owner's memory, in id order; none if nobody who could be reached owns the partition.
    fn list(&self, partition: PartitionNo, listing: Listing) -> BoxFuture<'_, Option<ListAnswer>>;
}

/// Owners for whoever must do without: rest and log have to tell everything.
#[derive(Clone, Copy, Debug)]
pub struct NoOwners;

impl LiveHeads for NoOwners {
    fn head(&self, _: PartitionNo, _: Arc<str>) -> BoxFuture<'_, Option<HeadAnswer>> {
        Box::pin(ready(None))
    }

    fn list(&self, _: PartitionNo, _: Listing) -> BoxFuture<'_, Option<ListAnswer>> {
        Box::pin(ready(None))
    }
}

/// The partitions of this process, as those who want snapshots see them: the owner of a partition alone
/// writes its snapshots.
pub trait LiveSnapshots: Send + Sync {
    /// Whether this process folds a partition.
    fn owns(&self, partition: PartitionNo) -> bool;
    /// Whether it folds any.
    fn owns_any(&self) -> bool;
    /// Makes the head durable as a snapshot, unless a snapshot of `upto` or a later version is; `trigger` is
    /// stored with it. None if this process does not fold the partition (any more).
    fn take(
        &self,
        partition: PartitionNo,
        id: Arc<str>,
        upto: Option<Version>,
        trigger: Trigger,
    ) -> BoxFuture<'_, Option<std::result::Result<Taken, String>>>;
    /// Writes a snapshot beside the partition's machine, together with those of the machine; none if the
    /// worker has stopped.
    fn write(&self, flush: Flush) -> BoxFuture<'_, Option<Result<Stored>>>;
}
