//! Ports that hand on only what can be decoded: records wait here until their schemas are there, so that
//! neither the partition machine nor the protocol knows of schemas.
//!
//! *Order*: records stay in offset order; what comes before the first that has to wait is handed on.
//! *If it fails*: a schema that cannot be had is asked for again and again. The partition stands before the
//!   record meanwhile, its commands and checkpoints go on; [`Parked`] and the log say what it waits for. A
//!   read of a stretch fails as not done.
//! *If cancelled*: records that came are kept, and fetching goes on by itself.

use super::{Group, GroupEvent, Log, LogBounds, Records};
use crate::clock::Clock;
use crate::domain::event::Decode;
use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::PortResult;
use crate::domain::record::RawRecord;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

/// Between two questions for what cannot be had; whoever fetches knows when it is worth asking others.
const PAUSE_MS: u64 = 100;

type Key = (Arc<str>, PartitionNo);

/// Partitions that stand before a record which cannot be decoded yet, and why.
#[derive(Debug, Default)]
pub struct Parked(Mutex<BTreeMap<Key, (Offset, String)>>);

impl Parked {
    fn partitions(&self) -> MutexGuard<'_, BTreeMap<Key, (Offset, String)>> {
        self.0.lock().expect("no panic while the map is held")
    }

    /// Aggregate type, partition, the offset it stands before, and why.
    #[must_use]
    pub fn list(&self) -> Vec<(Arc<str>, PartitionNo, Offset, String)> {
        let partitions = self.partitions();
        let each = partitions
            .iter()
            .map(|((kind, partition), (offset, why))| (Arc::clone(kind), *partition, *offset, why.clone()));
        each.collect()
    }
}

/// What one stream's records wait by.
#[derive(Clone)]
pub struct Gate {
    /// Aggregate type.
    pub kind: Arc<str>,
    /// The stream's decoder, which knows what it lacks.
    pub decoder: Arc<dyn Decode>,
    /// For pauses.
    pub clock: Arc<dyn Clock>,
    /// Where to say what waits.
    pub parked: Arc<Parked>,
}

impl Gate {
    /// How many of these records, from the first on, can be decoded now.
    fn ready<'r>(&self, records: impl Iterator<Item = &'r RawRecord>) -> usize {
        records.take_while(|record| self.decoder.prepare(&mut std::iter::once(*record)).is_none()).count()
    }

    async fn fetch(&self, records: impl Iterator<Item = &RawRecord> + Send) -> PortResult<()> {
        let preparing = {
            let mut records = records;
            self.decoder.prepare(&mut records)
        };
        match preparing {
            Some(preparing) => preparing.await,
            None => Ok(()),
        }
    }
}

/// A membership whose records can be decoded.
pub struct PreparedGroup {
    /// The membership.
    pub group: Arc<dyn Group>,
    /// What its records wait by.
    pub gate: Gate,
}

impl Group for PreparedGroup {
    fn next(&self) -> BoxFuture<'_, GroupEvent> {
        self.group.next()
    }

    fn released(&self, partitions: &[PartitionNo]) {
        self.group.released(partitions);
    }

    fn records(&self, partition: PartitionNo, from: Offset) -> BoxFuture<'_, PortResult<Box<dyn Records>>> {
        Box::pin(async move {
            let records = self.group.records(partition, from).await?;
            let key = (Arc::clone(&self.gate.kind), partition);
            let mark = Mark { parked: Arc::clone(&self.gate.parked), key, at: None };
            let waiting = VecDeque::new();
            let prepared = PreparedRecords { records, gate: self.gate.clone(), waiting, mark };
            Ok(Box::new(prepared) as Box<dyn Records>)
        })
    }
}

struct PreparedRecords {
    records: Box<dyn Records>,
    gate: Gate,
    /// Came already, not handed on.
    waiting: VecDeque<RawRecord>,
    mark: Mark,
}

impl Records for PreparedRecords {
    fn next(&mut self, max: usize) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        Box::pin(async move {
            loop {
                if self.waiting.is_empty() {
                    self.waiting = self.records.next(max).await?.into();
                }
                let ready = self.gate.ready(self.waiting.iter().take(max));
                if ready > 0 || self.waiting.is_empty() {
                    self.mark.lift();
                    return Ok(self.waiting.drain(..ready).collect());
                }
                if let Err(error) = self.gate.fetch(self.waiting.iter()).await
                    && self.gate.ready(self.waiting.iter().take(1)) == 0
                {
                    self.mark.park(self.waiting[0].offset, error.to_string());
                    self.gate.clock.sleep(PAUSE_MS).await;
                }
            }
        })
    }
}

/// Says that a partition waits, until it goes on or is given up.
struct Mark {
    parked: Arc<Parked>,
    key: Key,
    at: Option<Offset>,
}

impl Mark {
    fn park(&mut self, offset: Offset, why: String) {
        if self.at.replace(offset) != Some(offset) {
            let (stream, partition) = (&*self.key.0, self.key.1.0);
            tracing::warn!(stream, partition, offset = offset.0, why, "partition waits for a schema");
        }
        self.parked.partitions().insert(self.key.clone(), (offset, why));
    }

    fn lift(&mut self) {
        if let Some(offset) = self.at.take() {
            self.parked.partitions().remove(&self.key);
            let (stream, partition) = (&*self.key.0, self.key.1.0);
            tracing::info!(stream, partition, offset = offset.0, "partition goes on: its schema is there");
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if self.at.is_some() {
            self.parked.partitions().remove(&self.key);
        }
    }
}

/// A log of which only that is read which can be decoded.
pub struct PreparedLog {
    /// The log.
    pub log: Arc<dyn Log>,
    /// What its records wait by.
    pub gate: Gate,
}

impl Log for PreparedLog {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        self.log.partition_count()
    }

    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        self.log.bounds(partition)
    }

    fn last_end(&self, partition: PartitionNo) -> Option<Offset> {
        self.log.last_end(partition)
    }

    fn read(
        &self,
        partition: PartitionNo,
        from: Offset,
        to: Offset,
    ) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        Box::pin(async move {
            let mut records = self.log.read(partition, from, to).await?;
            let fetched = self.gate.fetch(records.iter()).await;
            let ready = self.gate.ready(records.iter());
            match fetched {
                Err(error) if ready == 0 && !records.is_empty() => return Err(error),
                _ => records.truncate(ready),
            }
            Ok(records)
        })
    }

    fn epoch_end(&self, partition: PartitionNo, leader_epoch: i32) -> BoxFuture<'_, PortResult<Offset>> {
        self.log.epoch_end(partition, leader_epoch)
    }

    fn committed(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        self.log.committed(partition)
    }

    fn commit(&self, partition: PartitionNo, low_watermark: Offset) -> BoxFuture<'_, PortResult<()>> {
        self.log.commit(partition, low_watermark)
    }
}

#[cfg(test)]
mod tests;
