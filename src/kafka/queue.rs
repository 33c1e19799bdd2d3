//! The queue of one assigned partition.
//!
//! *Order*: librdkafka's own queue of the partition, split from the common one before the partition is
//!   assigned; records are copied out when they are asked for, so what is not taken waits there and fetching
//!   stops when that queue is full: back-pressure without pausing anything.
//! *If it fails*: a position that is not in the log, and a fatal error, stay until the partition is opened
//!   again; other errors are told once.
//! *If cancelled*: records are taken in the same poll that hands them out.
//! *What may leak*: nothing; whoever holds a `Records`, the queue is dropped when the partition is given up.

use super::bounds::Bounds;
use super::failure::{Effect, now, outcome};
use super::ffi;
use crate::domain::ids::{Offset, Timestamp};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::RawRecord;
use crate::kafka::Records;
use futures_util::future::{BoxFuture, poll_fn};
use futures_util::task::AtomicWaker;
use rdkafka::Message as _;
use rdkafka::consumer::ConsumerContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};
use tracing::error;

/// Topic and partition.
pub(super) type Key = (Arc<str>, i32);

/// Bytes of keys, values and headers that one batch may hold; its last record may exceed it.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// A pause after which records may be those of another topic of the same name: to delete and create one takes
/// the client a new look at the metadata, which it does not take within this. Nothing else tells of it, and a
/// record does not say which topic it is of. So the brokers are asked which one there is now.
const PAUSE: Duration = Duration::from_millis(50);

/// A record, copied from librdkafka's memory. One that is kept would pin the whole response it came in.
///
/// COST: one allocation each for key, value and header; measured in `tests/it/speed.rs`.
pub(super) fn copied(message: &BorrowedMessage<'_>) -> RawRecord {
    RawRecord {
        offset: Offset(message.offset()),
        leader_epoch: ffi::leader_epoch(message),
        // -1 is Kafka's "no timestamp".
        record_time: Timestamp(message.timestamp().to_millis().unwrap_or(-1)),
        key: message.key().map(Arc::from),
        value: message.payload().map(Arc::from),
        headers: ffi::headers(message),
    }
}

struct State<C: ConsumerContext + 'static> {
    queue: Option<PartitionQueue<C>>,
    failed: Option<PortError>,
    next: Offset,
    /// When records were handed out last.
    handed_out_at: Instant,
}

/// The queue of one assigned partition, from one opening to the next.
pub(super) struct Slot<C: ConsumerContext + 'static> {
    key: Key,
    state: Mutex<State<C>>,
    waker: Arc<AtomicWaker>,
    bounds: Arc<Bounds>,
}

impl<C: ConsumerContext + 'static> Slot<C> {
    /// A slot over a queue that was just split.
    pub(super) fn new(key: Key, mut queue: PartitionQueue<C>, from: Offset, bounds: Arc<Bounds>) -> Self {
        let waker = Arc::new(AtomicWaker::new());
        let called = Arc::clone(&waker);
        queue.set_nonempty_callback(move || called.wake());
        let state = Mutex::new(State { queue: Some(queue), failed: None, next: from, handed_out_at: now() });
        Self { key, state, waker, bounds }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().expect("no panic while a queue is held")
    }

    /// Drops the queue; whoever waits for it hears that the partition is gone.
    pub(super) fn close(&self) {
        let queue = self.state().queue.take();
        drop(queue);
        self.waker.wake();
    }

    /// Lets whoever waits look again: a guard against a wake-up that librdkafka forgot.
    pub(super) fn nudge(&self) {
        self.waker.wake();
    }

    /// What is in the queue now; `None` if nothing is.
    fn take(&self, max: usize) -> Option<PortResult<Vec<RawRecord>>> {
        let mut state = self.state();
        let state = &mut *state;
        let (topic, partition) = (&self.key.0, self.key.1);
        let Some(queue) = &state.queue else {
            return Some(Err(PortError::NotDone(format!("`{topic}`/{partition} is no longer assigned"))));
        };
        if let Some(failed) = &state.failed {
            let failed = failed.clone();
            if !lasting(&failed) {
                state.failed = None;
            }
            return Some(Err(failed));
        }
        let (mut records, mut bytes): (Vec<RawRecord>, _) = (Vec::new(), 0);
        while records.len() < max.max(1) && bytes < BATCH_BYTES_MAX {
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) if message.offset() < state.next.0 => {
                    // librdkafka promises that this does not happen; folding one twice would be worse.
                    error!(topic = &**topic, partition, offset = message.offset(), "record out of order");
                }
                Some(Ok(message)) => {
                    let record = copied(&message);
                    state.next = record.offset.next();
                    bytes += record.bytes();
                    records.push(record);
                }
                Some(Err(error)) => {
                    state.failed = Some(failure(&self.key, &error));
                    break;
                }
            }
        }
        if let Some(last) = records.last() {
            if now().duration_since(state.handed_out_at) >= PAUSE {
                self.bounds.doubt();
            }
            state.handed_out_at = now();
            self.bounds.handed_out(last.offset.next(), last.leader_epoch);
            return Some(Ok(records));
        }
        let failed = state.failed.clone()?;
        if !lasting(&failed) {
            state.failed = None;
        }
        Some(Err(failed))
    }
}

/// Whether opening the partition again is the only way on.
fn lasting(error: &PortError) -> bool {
    matches!(error, PortError::Missing | PortError::Permanent(_))
}

fn failure((topic, partition): &Key, error: &KafkaError) -> PortError {
    let doing = format!("read `{topic}`/{partition}");
    match error {
        KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => PortError::Missing,
        KafkaError::MessageConsumptionFatal(code) => {
            PortError::Permanent(format!("{doing}: {code}: the client cannot go on, restart the process"))
        }
        other => outcome(&doing, other, Effect::None),
    }
}

/// The records of a slot.
pub(super) struct QueueRecords<C: ConsumerContext + 'static>(pub(super) Arc<Slot<C>>);

impl<C: ConsumerContext + 'static> Records for QueueRecords<C> {
    fn next(&mut self, max: usize) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        Box::pin(poll_fn(move |context| {
            // Registered first: what arrives after the look below wakes.
            self.0.waker.register(context.waker());
            self.0.take(max).map_or(Poll::Pending, Poll::Ready)
        }))
    }
}
