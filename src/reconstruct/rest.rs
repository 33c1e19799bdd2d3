//! A log without brokers: it holds nothing and forgets everything, so that whoever reads through it gets what
//! rest has, and an error where that is not enough.
//!
//! INVARIANT: it cannot tell that a topic was cut. Only who reports may use it, never who writes.

use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::RawRecord;
use crate::kafka::{Log, LogBounds};
use futures_util::future::{BoxFuture, ready};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct RestOnly {
    /// Kafka's id of the topic, as its active lineage has it.
    pub topic_id: u128,
    /// Partitions of the topic, as its active lineage has them.
    pub partitions: u32,
}

/// Beyond every event: the log has forgotten all of them.
const START: Offset = Offset(i64::MAX);

impl Log for RestOnly {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        Box::pin(ready(Ok(self.partitions)))
    }

    fn bounds(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        let bounds = LogBounds { start: START, end: START, leader_epoch: -1, topic_id: self.topic_id };
        Box::pin(ready(Ok(bounds)))
    }

    fn read(&self, _: PartitionNo, _: Offset, _: Offset) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        Box::pin(ready(Err(PortError::Missing)))
    }

    fn epoch_end(&self, _: PartitionNo, _: i32) -> BoxFuture<'_, PortResult<Offset>> {
        Box::pin(ready(Ok(START)))
    }

    fn committed(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        Box::pin(ready(Ok(None)))
    }

    fn commit(&self, _: PartitionNo, _: Offset) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(ready(Err(PortError::Permanent("there is no log to commit to".to_owned()))))
    }
}
