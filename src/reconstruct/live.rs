//! What a reader may ask of whoever owns a partition: the port through which lookups see workers.

use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::partition::{Listing, Residence, Resident};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// An owner's answer about a head. O1: it is true as of `position`; whoever asks has read the low watermark
/// before and refuses an answer from below it.
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
