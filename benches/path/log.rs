//! A log whose records are made on threads of their own while they are read. It keeps nothing: what the low
//! watermark has passed is gone, as with the shortest retention there can be.

use super::events::Events;
use super::{offset, usage};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::{PortError, PortResult};
use snapfold::domain::record::RawRecord;
use snapfold::kafka::{Group, GroupEvent, Log, LogBounds, Records};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Records that are made and taken at once.
pub(super) const BATCH: usize = 1_000;
/// Batches that are made ahead.
const AHEAD: usize = 4;

/// The log, in the role of Kafka.
pub(super) struct Generated {
    parts: Vec<Part>,
    events: u64,
    topic_id: u128,
    is_assigned: AtomicBool,
    /// Waited after each batch is made.
    pause: Duration,
    making: Arc<AtomicU64>,
}

struct Part {
    /// Taken by the first reader.
    events: Mutex<Option<Events>>,
    committed: AtomicI64,
}

/// Batches as they are made.
struct Stream(mpsc::Receiver<Vec<RawRecord>>);

impl Generated {
    pub(super) fn new(parts: Vec<Events>, events: u64, topic_id: u128, pause: Duration) -> Self {
        let part = |events| Part { events: Mutex::new(Some(events)), committed: AtomicI64::new(0) };
        let (is_assigned, making) = (AtomicBool::new(false), Arc::default());
        Self { parts: parts.into_iter().map(part).collect(), events, topic_id, is_assigned, pause, making }
    }

    pub(super) fn partitions(&self) -> usize {
        self.parts.len()
    }

    /// Events of each partition.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The end of each partition.
    pub(super) fn end(&self) -> Offset {
        offset(self.events)
    }

    /// Processor time in which events were made.
    pub(super) fn making(&self) -> Duration {
        Duration::from_nanos(self.making.load(Ordering::Relaxed))
    }

    fn part(&self, partition: PartitionNo) -> &Part {
        &self.parts[usize::try_from(partition.0).expect("partitions count from 0")]
    }

    /// Makes all events of a partition on a thread of its own.
    fn start(&self, mut events: Events) -> Stream {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (mut left, making, pause) = (self.events, Arc::clone(&self.making), self.pause);
        let make = move || {
            let mut told = Duration::ZERO;
            while left > 0 {
                let count = left.min(BATCH as u64);
                left -= count;
                let batch = events.batch(usize::try_from(count).expect("it is at most a batch"));
                let spent = usage::this_thread();
                let nanos = u64::try_from((spent - told).as_nanos()).expect("a batch takes less than years");
                making.fetch_add(nanos, Ordering::Relaxed);
                told = spent;
                std::thread::park_timeout(pause);
                if sender.blocking_send(batch).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("generator".to_owned()).spawn(make).expect("a thread can start");
        Stream(receiver)
    }
}

impl Records for Stream {
    fn next(&mut self, max: usize) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        assert!(max >= BATCH, "a batch is taken whole");
        async {
            match self.0.recv().await {
                Some(batch) => Ok(batch),
                None => pending().await,
            }
        }
        .boxed()
    }
}

impl Group for Generated {
    fn next(&self) -> BoxFuture<'_, GroupEvent> {
        if self.is_assigned.swap(true, Ordering::Relaxed) {
            return pending().boxed();
        }
        let all = 0..i32::try_from(self.parts.len()).expect("a bench has few partitions");
        ready(GroupEvent::Assigned(all.map(PartitionNo).collect())).boxed()
    }

    fn released(&self, _: &[PartitionNo]) {}

    fn records(&self, partition: PartitionNo, from: Offset) -> BoxFuture<'_, PortResult<Box<dyn Records>>> {
        assert_eq!(from, Offset(0), "the log is read once, from its start");
        let events = self.part(partition).events.lock().expect("no panic while it is held").take();
        let stream: Box<dyn Records> = Box::new(self.start(events.expect("the log is read once")));
        ready(Ok(stream)).boxed()
    }
}

impl Log for Generated {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        ready(Ok(u32::try_from(self.parts.len()).expect("a bench has few partitions"))).boxed()
    }

    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        let start = Offset(self.part(partition).committed.load(Ordering::Relaxed));
        ready(Ok(LogBounds { start, end: self.end(), leader_epoch: 0, topic_id: self.topic_id })).boxed()
    }

    fn read(&self, _: PartitionNo, from: Offset, to: Offset) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        let nothing_left = from >= to.min(self.end());
        ready(if nothing_left { Ok(Vec::new()) } else { Err(PortError::Missing) }).boxed()
    }

    fn epoch_end(&self, _: PartitionNo, _: i32) -> BoxFuture<'_, PortResult<Offset>> {
        ready(Ok(self.end())).boxed()
    }

    fn committed(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        ready(Ok(Some(Offset(self.part(partition).committed.load(Ordering::Relaxed))))).boxed()
    }

    fn commit(&self, partition: PartitionNo, low_watermark: Offset) -> BoxFuture<'_, PortResult<()>> {
        self.part(partition).committed.store(low_watermark.0, Ordering::Relaxed);
        ready(Ok(())).boxed()
    }
}
