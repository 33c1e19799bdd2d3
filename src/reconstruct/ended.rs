//! A log that ends where a lineage did: at its low watermark, beyond which nobody covers anything any more,
//! or where its last live checkpoint ends. Whoever reads an old lineage reads through it, with the reducer of
//! then, and gets what that lineage had.
//!
//! INVARIANT: what lies at or beyond its end is not the lineage's, whatever the topic has there. Rows and
//! live checkpoints that reach beyond the low watermark are facts all the same: a worker that outlived the
//! cut-over wrote them, or the index was rebuilt, which may know an older one than was acknowledged.

use crate::domain::ids::{Lineage, Offset, PartitionNo};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::RawRecord;
use crate::domain::row::PartitionKey;
use crate::kafka::{Log, LogBounds};
use crate::store::index::Index;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What is left of the log that a lineage folded.
#[derive(Clone)]
pub enum LogOfOld {
    /// The topic is still the same one.
    Same(Arc<dyn Log>),
    /// It is another one by now: what was not stored is gone.
    Gone {
        /// Partitions that it had.
        partitions: u32,
    },
}

/// See the module.
#[derive(Clone)]
pub struct Ended {
    /// Where low watermarks are.
    pub index: Arc<dyn Index>,
    /// What is left of the log.
    pub log: LogOfOld,
    /// Topic.
    pub topic: Arc<str>,
    /// Kafka's id of the topic that the lineage folded.
    pub topic_id: u128,
    /// The lineage.
    pub lineage: Lineage,
}

impl Ended {
    /// Where the lineage ends, and the leader epoch of its low watermark; none where nothing of the partition
    /// was ever covered.
    async fn end(&self, partition: PartitionNo) -> PortResult<Option<(Offset, i32)>> {
        let key = PartitionKey { topic: Arc::clone(&self.topic), partition, lineage: self.lineage };
        let rows = self.index.watermarks(&key).await?;
        let ours = rows.into_iter().filter(|row| row.topic_id == self.topic_id);
        let Some((low, epoch)) = ours.map(|row| (row.low_watermark, row.leader_epoch)).max() else {
            return Ok(None);
        };
        let listed = self.index.checkpoints(&key).await?;
        let reached = listed.iter().map(|row| row.end_offset).filter(|_| self.has_ended()).max();
        Ok(Some((low.max(reached.unwrap_or_default()), epoch)))
    }
}

impl Log for Ended {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        match &self.log {
            LogOfOld::Same(log) => log.partition_count(),
            LogOfOld::Gone { partitions } => Box::pin(std::future::ready(Ok(*partitions))),
        }
    }

    fn has_ended(&self) -> bool {
        !mutant(Mutant::OldLineageEndsEarly) && !mutant(Mutant::OldLineageGoesOn)
    }

    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        Box::pin(async move {
            // The log first: a low watermark that moves on meanwhile is one that the log has reached.
            let there = match &self.log {
                LogOfOld::Same(log) => Some(log.bounds(partition).await?),
                LogOfOld::Gone { .. } => None,
            };
            let end = self.end(partition).await?;
            Ok(match (there, end) {
                (Some(there), _) if mutant(Mutant::OldLineageGoesOn) => there,
                (Some(there), Some((end, _))) => LogBounds { start: there.start.min(end), end, ..there },
                (Some(there), None) => LogBounds { end: there.start, ..there },
                (None, end) => {
                    let (end, leader_epoch) = end.unwrap_or((Offset(0), -1));
                    LogBounds { start: end, end, leader_epoch, topic_id: self.topic_id }
                }
            })
        })
    }

    fn read(
        &self,
        partition: PartitionNo,
        from: Offset,
        until: Offset,
    ) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        match &self.log {
            LogOfOld::Same(log) => log.read(partition, from, until),
            LogOfOld::Gone { .. } => Box::pin(std::future::ready(Err(PortError::Missing))),
        }
    }

    fn epoch_end(&self, partition: PartitionNo, leader_epoch: i32) -> BoxFuture<'_, PortResult<Offset>> {
        match &self.log {
            LogOfOld::Same(log) => log.epoch_end(partition, leader_epoch),
            // Nothing that was cut before can come back.
            LogOfOld::Gone { .. } => Box::pin(std::future::ready(Ok(Offset(i64::MAX)))),
        }
    }

    fn committed(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn commit(&self, _: PartitionNo, _: Offset) -> BoxFuture<'_, PortResult<()>> {
        let refused = PortError::Permanent("an old lineage commits nothing".to_owned());
        Box::pin(std::future::ready(Err(refused)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::PackId;
    use crate::domain::row::{CheckpointRow, WatermarkRow};
    use crate::reconstruct::RestOnly;
    use crate::store::index::MemoryIndex;
    use futures_util::FutureExt;
    use std::future::Future;

    const HERE: PartitionNo = PartitionNo(3);

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory answers at once")
    }

    /// Low watermarks under topic ids; of another lineage there is a later one.
    fn ended(log: LogOfOld, marks: &[(u128, i32, i64)]) -> Ended {
        let index = Arc::new(MemoryIndex::new());
        for (lineage, marks) in [(1, marks), (2, &[(7, 9, 900)][..])] {
            for (topic_id, leader_epoch, low_watermark) in marks.iter().copied() {
                let key = PartitionKey { topic: "orders".into(), partition: HERE, lineage: Lineage(lineage) };
                let low_watermark = Offset(low_watermark);
                let row = WatermarkRow { key, topic_id, leader_epoch, low_watermark };
                now(index.put_watermark(row)).unwrap();
            }
        }
        Ended { index, log, topic: "orders".into(), topic_id: 7, lineage: Lineage(1) }
    }

    #[test]
    fn a_log_ends_at_the_low_watermark_of_its_lineage_and_topic_id() {
        let same = || LogOfOld::Same(Arc::new(RestOnly { topic_id: 7, partitions: 4 }));
        let marks = [(7, 2, 40), (7, 4, 50), (8, 5, 800)];
        let bounds = |log: &Ended| now(log.bounds(HERE)).unwrap();
        let log = ended(same(), &marks);
        assert_eq!((bounds(&log).start, bounds(&log).end), (Offset(50), Offset(50)), "it has forgotten all");
        assert_eq!(now(log.partition_count()), Ok(4));
        let key = PartitionKey { topic: "orders".into(), partition: HERE, lineage: Lineage(1) };
        let row = |pack, end_offset| CheckpointRow {
            key: key.clone(),
            pack: PackId([pack; 16]),
            first_offset: Offset(45),
            end_offset: Offset(end_offset),
            entries: 1,
            object_bytes: 1,
        };
        for (pack, end_offset, end) in [(1, 49, 50), (2, 60, 60)] {
            now(log.index.put_checkpoint(row(pack, end_offset))).unwrap();
            assert_eq!(bounds(&log).end, Offset(end), "or where what its checkpoints hold does");
        }
        let log = ended(same(), &[]);
        assert_eq!(bounds(&log).start, bounds(&log).end, "nothing was covered");
    }

    #[test]
    fn of_a_topic_that_is_another_one_by_now_nothing_is_read() {
        let log = ended(LogOfOld::Gone { partitions: 4 }, &[(7, 2, 40), (7, 4, 50), (8, 5, 800)]);
        let bounds = now(log.bounds(HERE)).unwrap();
        assert_eq!((bounds.start, bounds.end), (Offset(50), Offset(50)));
        assert_eq!((bounds.leader_epoch, bounds.topic_id), (4, 7), "whoever compares ids finds its own");
        assert_eq!(now(log.read(HERE, Offset(1), Offset(2))), Err(PortError::Missing));
        assert_eq!(now(log.epoch_end(HERE, 2)), Ok(Offset(i64::MAX)), "nothing of it was cut");
        assert_eq!(now(log.partition_count()), Ok(4));
        assert!(now(log.commit(HERE, Offset(1))).is_err());
    }
}
