//! The log. Here: the `Log` port that everything else sees of Kafka.

use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::record::RawRecord;
use crate::store::outcome::PortResult;
use futures_util::future::BoxFuture;

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// First offset still there.
    pub start: Offset,
    /// One past the last offset that may be read.
    pub end: Offset,
    /// Current leader epoch.
    pub leader_epoch: i32,
    /// Kafka's id of the topic.
    pub topic_id: u128,
}

/// Reads of one topic and the group's committed offsets. Implementations: librdkafka; the simulator's.
pub trait Log: Send + Sync {
    /// Bounds of a partition now.
    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>>;
    /// Records from `from` on, in offset order, at least one unless `from` is at or past `to` or the end; `Missing` if
    /// `from` lies before the log's start. A record at or past `to` is not returned.
    fn read(
        &self,
        partition: PartitionNo,
        from: Offset,
        to: Offset,
    ) -> BoxFuture<'_, PortResult<Vec<RawRecord>>>;
    /// One past the last offset that was written under `leader_epoch` or below (Kafka's OffsetForLeaderEpoch): less
    /// than a position reached under that epoch means that the log was truncated.
    fn epoch_end(&self, partition: PartitionNo, leader_epoch: i32) -> BoxFuture<'_, PortResult<Offset>>;
    /// The group's committed offset.
    fn committed(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>>;
    /// Commits the low watermark for the group.
    fn commit(&self, partition: PartitionNo, low_watermark: Offset) -> BoxFuture<'_, PortResult<()>>;
}
