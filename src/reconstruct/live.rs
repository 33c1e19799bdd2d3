//! What a reader may ask of whoever owns a partition: the port through which lookups see workers.

use crate::domain::aggregate::Aggregate;
use crate::domain::ids::{Offset, PartitionNo};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// An owner's answer about a head. O1: it is true as of `position`; whoever asks has read the low watermark
/// before and
/// refuses an answer from below it.
#[derive(Debug)]
pub struct HeadAnswer {
    /// The aggregate, if it is in memory.
    pub aggregate: Option<Box<Aggregate>>,
    /// Next offset to fold.
    pub position: Offset,
}

/// The owners of partitions, wherever they run.
pub trait LiveHeads: Send + Sync {
    /// The head of an aggregate from its owner's memory; none if nobody who could be reached owns the
    /// partition.
    fn head(&self, partition: PartitionNo, id: Arc<str>) -> BoxFuture<'_, Option<HeadAnswer>>;
}
