//! The `Log` and the `Records` of one process and topic.
//!
//! *Order*: a record read was in the log at some moment between call and answer; with prefetch it may have
//!   been cut off since. Commits are not fenced by who owns the partition; one of an expelled member succeeds
//!   with the plan's odds.

use super::broker::Broker;
use super::group::{Coordinator, Standing};
use super::{Access, Gate, Op, Port};
use crate::executor::ProcessId;
use crate::stats::Count;
use futures_util::future::{BoxFuture, poll_fn};
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::{PortError, PortResult};
use snapfold::domain::record::RawRecord;
use snapfold::kafka::{Log, LogBounds, Records};
use std::collections::VecDeque;
use std::sync::Arc;

/// The `Log` port of one process.
#[derive(Clone)]
pub(crate) struct SimLog {
    /// The gate.
    pub(crate) gate: Gate,
    /// The broker.
    pub(crate) broker: Broker,
    /// The group of the topic, for what it thinks of who commits.
    pub(crate) group: Coordinator,
    /// Who calls.
    pub(crate) process: ProcessId,
    /// Topic.
    pub(crate) topic: Arc<str>,
}

impl SimLog {
    fn op(&self, what: &'static str, access: Access, partition: PartitionNo) -> Op<'_> {
        let partition = Some(partition);
        Op { process: self.process, port: Port::Log, what, access, target: &self.topic, partition }
    }

    fn page(&self, most: usize) -> usize {
        let page = self.gate.plan(|plan| plan.page).max(1);
        usize::try_from(self.gate.sim.draw(|rng| rng.between(1, page))).unwrap_or(1).min(most.max(1))
    }

    /// The records of a partition, as the group hands them out.
    pub(crate) fn records(&self, partition: PartitionNo, from: Offset) -> SimRecords {
        SimRecords { log: self.clone(), partition, position: from, ahead: VecDeque::new(), ahead_to: from }
    }

    /// Makes a call that only reads the broker.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        what: &'static str,
        partition: PartitionNo,
        f: impl FnOnce(&Broker, &str) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let (broker, topic) = (self.broker.clone(), self.topic.clone());
        self.gate.perform(&self.op(what, Access::Read, partition), move || f(&broker, &topic)).await
    }
}

impl Log for SimLog {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        Box::pin(async move {
            let (broker, topic) = (self.broker.clone(), self.topic.clone());
            let op = Op { partition: None, ..self.op("partition_count", Access::Read, PartitionNo(0)) };
            let count = move || {
                let found = broker.topics().into_iter().find(|(name, _)| *name == topic);
                let count = found.and_then(|(_, count)| u32::try_from(count).ok());
                count.ok_or_else(|| PortError::Permanent(format!("no topic `{topic}`")))
            };
            self.gate.perform(&op, count).await
        })
    }

    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        Box::pin(self.look("bounds", partition, move |broker, topic| broker.bounds(topic, partition)))
    }

    fn last_end(&self, partition: PartitionNo) -> Option<Offset> {
        self.broker.bounds(&self.topic, partition).ok().map(|bounds| bounds.end)
    }

    fn read(
        &self,
        partition: PartitionNo,
        from: Offset,
        to: Offset,
    ) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        Box::pin(async move {
            let max = self.page(usize::MAX);
            let fetch = move |broker: &Broker, topic: &str| broker.fetch(topic, partition, from, to, max);
            Ok(self.look("read", partition, fetch).await?.records)
        })
    }

    fn epoch_end(&self, partition: PartitionNo, leader_epoch: i32) -> BoxFuture<'_, PortResult<Offset>> {
        let end = move |broker: &Broker, topic: &str| broker.epoch_end(topic, partition, leader_epoch);
        Box::pin(self.look("epoch_end", partition, end))
    }

    fn committed(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        let committed = move |broker: &Broker, topic: &str| Ok(broker.committed(topic, partition));
        Box::pin(self.look("committed", partition, committed))
    }

    fn commit(&self, partition: PartitionNo, low_watermark: Offset) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            let this = self.clone();
            let commit = move || this.commit_now(partition, low_watermark);
            self.gate.perform(&self.op("commit", Access::Write, partition), commit).await
        })
    }
}

impl SimLog {
    fn commit_now(&self, partition: PartitionNo, low_watermark: Offset) -> PortResult<()> {
        if self.group.standing(self.process) == Standing::Expelled {
            let odds = self.gate.plan(|plan| plan.zombie_commit);
            if !self.gate.sim.draw(|rng| rng.hits(odds)) {
                self.gate.sim.count(Count::CommitRefused);
                return Err(PortError::NotDone("the group does not know this member".to_owned()));
            }
            self.gate.sim.count(Count::ZombieCommit);
        }
        self.broker.commit(&self.topic, partition, low_watermark);
        Ok(())
    }
}

/// The records of one partition from a position on.
pub(crate) struct SimRecords {
    log: SimLog,
    partition: PartitionNo,
    position: Offset,
    // Fetched ahead of what was asked for; a client's queue.
    ahead: VecDeque<RawRecord>,
    ahead_to: Offset,
}

impl SimRecords {
    async fn refill(&mut self, max: usize) -> PortResult<()> {
        loop {
            let prefetch = self.log.gate.plan(|plan| plan.prefetch);
            let page = self.log.page(if prefetch { 50 } else { max });
            let (from, partition) = (self.position, self.partition);
            let fetch = move |broker: &Broker, topic: &str| {
                if from > broker.bounds(topic, partition)?.end {
                    return Err(PortError::Missing);
                }
                broker.fetch(topic, partition, from, Offset(i64::MAX), page)
            };
            let fetched = self.log.look("next", partition, fetch).await?;
            if !fetched.records.is_empty() {
                self.ahead = fetched.records.into();
                self.ahead_to = fetched.next;
                return Ok(());
            }
            // Past markers, or at the end.
            self.position = fetched.next;
            let (broker, topic) = (&self.log.broker, &self.log.topic);
            poll_fn(|context| broker.poll_changed(topic, partition, fetched.changes, context)).await;
        }
    }
}

impl Records for SimRecords {
    fn next(&mut self, max: usize) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        Box::pin(async move {
            if self.ahead.is_empty() {
                self.refill(max).await?;
            }
            let count = self.ahead.len().min(max.max(1));
            let records: Vec<RawRecord> = self.ahead.drain(..count).collect();
            self.position = match records.last() {
                Some(last) if !self.ahead.is_empty() => last.offset.next(),
                _ => self.ahead_to,
            };
            Ok(records)
        })
    }
}
