//! Low watermarks as the simulator's own eyes see them: what was acknowledged, and what every read sees.

use super::index::Cluster;
use super::replica::Replica;
use crate::executor::lock;
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::row::PartitionKey;

impl Cluster {
    /// Largest acknowledged low watermark of a partition, over all lineages of the topic id: the smallest of
    /// those.
    pub(crate) fn acked_watermark(
        &self,
        topic: &str,
        partition: PartitionNo,
        topic_id: u128,
    ) -> Option<Offset> {
        let cluster = lock(&self.cluster);
        let of_partition = cluster
            .acked_marks
            .iter()
            .filter(|((key, id), _)| &*key.topic == topic && key.partition == partition && *id == topic_id);
        of_partition.map(|(_, offset)| *offset).min()
    }

    /// Largest acknowledged low watermark of one log.
    pub(crate) fn acked_mark(&self, log: &PartitionKey, topic_id: u128) -> Option<Offset> {
        lock(&self.cluster).acked_marks.get(&(log.clone(), topic_id)).copied()
    }

    /// How far one log was ever covered: a lost index takes nothing of that.
    pub(crate) fn covered(&self, log: &PartitionKey, topic_id: u128) -> Option<Offset> {
        lock(&self.cluster).covered.get(&(log.clone(), topic_id)).copied()
    }

    /// The low watermark of one log that every read sees, whether or not its writer heard of that.
    pub(crate) fn seen_mark(&self, log: &PartitionKey, topic_id: u128) -> Option<Offset> {
        let cluster = lock(&self.cluster);
        let newest = |replica: &Replica| {
            let rows = replica.marks(log).into_iter().filter(|row| row.topic_id == topic_id);
            rows.map(|row| row.low_watermark).max()
        };
        let mut marks: Vec<Option<Offset>> = cluster.replicas.iter().map(newest).collect();
        marks.sort();
        // Of any two replicas at least one has it.
        marks[1]
    }
}
