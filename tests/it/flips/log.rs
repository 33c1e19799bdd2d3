//! A log in memory, in the role of Kafka: records are let out step by step, and can all be forgotten.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::{PortError, PortResult};
use snapfold::domain::record::RawRecord;
use snapfold::kafka::{Group, GroupEvent, Log, LogBounds, Records};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Kafka's id of the topic.
pub(super) const TOPIC_ID: u128 = 7;

/// All partitions of one topic.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) parts: Vec<Vec<RawRecord>>,
    /// Records of each partition that are there so far.
    let_out: AtomicUsize,
    is_assigned: AtomicBool,
}

/// The log as it is read: with everything that was let out, or with nothing any more.
#[derive(Clone)]
pub(super) struct KeptLog {
    pub(super) kept: Arc<Kept>,
    pub(super) is_forgotten: bool,
}

struct Stream {
    log: KeptLog,
    partition: PartitionNo,
    next: Offset,
}

impl Kept {
    pub(super) fn new(parts: Vec<Vec<RawRecord>>) -> Self {
        Self { parts, ..Self::default() }
    }

    /// Lets out the first records of each partition.
    pub(super) fn let_out(&self, records: usize) {
        self.let_out.store(records, Ordering::Relaxed);
    }

    fn part(&self, partition: PartitionNo) -> &[RawRecord] {
        let part = &self.parts[usize::try_from(partition.0).unwrap()];
        &part[..part.len().min(self.let_out.load(Ordering::Relaxed))]
    }

    pub(super) fn end(&self, partition: PartitionNo) -> Offset {
        Offset(self.part(partition).len() as i64)
    }
}

impl KeptLog {
    fn start(&self, partition: PartitionNo) -> Offset {
        if self.is_forgotten { self.kept.end(partition) } else { Offset(0) }
    }

    fn records(&self, partition: PartitionNo, from: Offset, to: Offset) -> PortResult<Vec<RawRecord>> {
        let end = to.min(self.kept.end(partition));
        match from {
            from if from >= end => Ok(Vec::new()),
            from if from < self.start(partition) => Err(PortError::Missing),
            from => Ok(self.kept.part(partition)[from.0 as usize..end.0 as usize].to_vec()),
        }
    }
}

impl Records for Stream {
    fn next(&mut self, max: usize) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        async move {
            loop {
                let to = Offset(self.next.0 + max as i64);
                let records = self.log.records(self.partition, self.next, to)?;
                if let Some(last) = records.last() {
                    self.next = last.offset.next();
                    return Ok(records);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        .boxed()
    }
}

impl Group for KeptLog {
    fn next(&self) -> BoxFuture<'_, GroupEvent> {
        if self.kept.is_assigned.swap(true, Ordering::Relaxed) {
            return pending().boxed();
        }
        let all = 0..i32::try_from(self.kept.parts.len()).unwrap();
        ready(GroupEvent::Assigned(all.map(PartitionNo).collect())).boxed()
    }

    fn released(&self, _: &[PartitionNo]) {}

    fn records(&self, partition: PartitionNo, from: Offset) -> BoxFuture<'_, PortResult<Box<dyn Records>>> {
        let stream: Box<dyn Records> = Box::new(Stream { log: self.clone(), partition, next: from });
        ready(Ok(stream)).boxed()
    }
}

impl Log for KeptLog {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        ready(Ok(u32::try_from(self.kept.parts.len()).unwrap())).boxed()
    }

    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        let (start, end) = (self.start(partition), self.kept.end(partition));
        ready(Ok(LogBounds { start, end, leader_epoch: 0, topic_id: TOPIC_ID })).boxed()
    }

    fn read(
        &self,
        partition: PartitionNo,
        from: Offset,
        to: Offset,
    ) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        ready(KeptLog::records(self, partition, from, to)).boxed()
    }

    fn epoch_end(&self, partition: PartitionNo, _: i32) -> BoxFuture<'_, PortResult<Offset>> {
        ready(Ok(self.kept.end(partition))).boxed()
    }

    fn committed(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        ready(Ok(None)).boxed()
    }

    fn commit(&self, _: PartitionNo, _: Offset) -> BoxFuture<'_, PortResult<()>> {
        ready(Ok(())).boxed()
    }
}
