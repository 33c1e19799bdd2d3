//! What a partition wants done: its effects, each as a future whose end is an input again.
//!
//! *If it fails*: a read or write is repeated until it is done, or the partition hears that it was given up.

use super::Task;
use crate::domain::error::ErrorKind;
use crate::domain::event::Decoded;
use crate::domain::ids::{AggregateKey, Offset};
use crate::domain::outcome::PortError;
use crate::domain::partition::{CheckpointItem, Effect, EntryRef, FlightId, Input, Load, SnapshotItem};
use crate::domain::poison::Poison;
use crate::domain::row::{DeadLetter, WatermarkRow};
use crate::reconstruct::{HeadAnswer, ListAnswer};
use crate::store::flush::{CheckpointPart, Flush, Stored};
use crate::worker::flusher::{CheckpointOffer, Request, kind, write_checkpoint};
use futures_channel::oneshot;
use std::sync::Arc;

/// How long a load takes, where there is a clock that tells so little time apart: the simulator has none.
#[cfg(feature = "runtime")]
struct Measure(crate::telemetry::stopwatch::Stopwatch);

#[cfg(feature = "runtime")]
impl Measure {
    fn start() -> Self {
        Self(crate::telemetry::stopwatch::Stopwatch::start())
    }

    fn us(self) -> Option<u64> {
        // No load takes centuries, and none less than nothing.
        Some((self.0.ms() * 1_000.0) as u64)
    }
}

#[cfg(not(feature = "runtime"))]
struct Measure;

#[cfg(not(feature = "runtime"))]
impl Measure {
    fn start() -> Self {
        Self
    }

    fn us(self) -> Option<u64> {
        None
    }
}

impl Task {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Load { id, pending, until } => self.load(id, pending, until),
            Effect::Snapshot(flight, item) => self.snapshot(flight, *item),
            Effect::Checkpoint(flight, items) => self.offer_checkpoint(flight, items),
            Effect::Adopt(flight, rows) => {
                let store = Arc::clone(&self.components.store);
                self.io.push(Box::pin(async move {
                    store.adopt(rows).await;
                    Some(Input::Adopted(flight))
                }));
            }
            Effect::Retire(pack) => {
                let (store, key) = (Arc::clone(&self.components.store), self.partition.key().clone());
                self.io.push(Box::pin(async move {
                    store.retire(&key, pack).await;
                    None
                }));
            }
            Effect::DeadLetter(decoded, poison) => self.dead_letter(*decoded, poison),
            Effect::Commit(low_watermark) => self.commit(low_watermark),
            Effect::SnapshotTaken(reply, result) => {
                if let Some(sender) = self.snapshots.remove(&reply) {
                    let _ = sender.send(result);
                }
            }
            Effect::HeadIs(reply, residence, position) => {
                if let Some(sender) = self.heads.remove(&reply) {
                    let _ = sender.send(HeadAnswer { residence, position });
                }
            }
            Effect::Listed(reply, residents, position) => {
                if let Some(sender) = self.lists.remove(&reply) {
                    let _ = sender.send(ListAnswer { residents, position });
                }
            }
            Effect::WantCheckpoint => {
                let _ = self.requests.unbounded_send(Request::Checkpoint);
            }
            // `publish` tells of it: readiness, the log and the admin port read the status.
            Effect::Halted(..) => {}
            Effect::Drained => {
                self.done = true;
                for sender in self.drained.drain(..) {
                    let _ = sender.send(());
                }
            }
        }
    }

    fn load(&mut self, id: Arc<str>, pending: Vec<EntryRef>, until: Offset) {
        let components = self.components.clone();
        let partition = self.partition.key().clone();
        self.io.push(Box::pin(async move {
            let key = AggregateKey { kind: kind(&components), id: Arc::clone(&id) };
            loop {
                let stopwatch = Measure::start();
                match components.reader.load(&partition, &key, &pending, until).await {
                    Ok(loaded) => {
                        let took_us = stopwatch.us();
                        return Some(Input::Loaded(Load { id, result: Ok(Box::new(loaded)), took_us }));
                    }
                    Err(error) if matches!(error.kind, ErrorKind::Gone | ErrorKind::Corrupt) => {
                        let poison = Poison::new("unreadable", error.detail);
                        return Some(Input::Loaded(Load { id, result: Err(poison), took_us: None }));
                    }
                    Err(error) if error.kind == ErrorKind::Conflict => {
                        return Some(Input::Halt(Poison::new("log-truncated", error.detail)));
                    }
                    Err(_) => components.clock.sleep(components.settings.retry_ms).await,
                }
            }
        }));
    }

    fn snapshot(&mut self, flight: FlightId, item: SnapshotItem) {
        let flush = Flush { partition: self.partition.key().clone(), kind: kind(&self.components), item };
        let (sender, answer) = oneshot::channel();
        let _ = self.requests.unbounded_send(Request::Snapshot(Box::new((flush, sender))));
        let clock = Arc::clone(&self.components.clock);
        let pause = self.components.settings.retry_ms;
        self.io.push(Box::pin(async move {
            let lost = match answer.await {
                Ok(Ok(stored)) => {
                    let Stored { full_bytes, increment_bytes } = stored;
                    return Some(Input::SnapshotStored { flight, full_bytes, increment_bytes });
                }
                Ok(Err(error)) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    Input::SnapshotUnreadable(flight)
                }
                Ok(Err(_)) | Err(_) => Input::SnapshotAbandoned(flight),
            };
            // What failed at once must not be tried again at once.
            clock.sleep(pause).await;
            Some(lost)
        }));
    }

    fn offer_checkpoint(&mut self, flight: FlightId, items: Vec<CheckpointItem>) {
        let asked = self.checkpoint.take();
        if items.is_empty() {
            if let Some(asked) = asked {
                let _ = asked.send(None);
            }
            return;
        }
        let (done, wait) = oneshot::channel();
        let mark = self.partition.low_after_checkpoint().map(|low| self.watermark_row(low));
        let (partition, kind) = (self.partition.key().clone(), kind(&self.components));
        let part = CheckpointPart { partition, kind, items, mark };
        let offer = CheckpointOffer { part, done };
        match asked {
            Some(asked) => drop(asked.send(Some(offer))),
            // Nobody asked: the partition drains and does not wait for the others.
            None => {
                let components = self.components.clone();
                self.io.push(Box::pin(async move {
                    write_checkpoint(&components, vec![offer]).await;
                    None
                }));
            }
        }
        let clock = Arc::clone(&self.components.clock);
        let pause = self.components.settings.retry_ms;
        self.io.push(Box::pin(async move {
            match wait.await {
                Ok(live) => Some(Input::CheckpointStored(flight, live)),
                Err(_) => {
                    // What failed at once must not be tried again at once.
                    clock.sleep(pause).await;
                    Some(Input::CheckpointAbandoned(flight))
                }
            }
        }));
    }

    fn dead_letter(&mut self, decoded: Decoded, poison: Poison) {
        let letter = DeadLetter {
            key: self.partition.key().clone(),
            offset: decoded.record.offset,
            aggregate: decoded
                .id()
                .map(|id| AggregateKey { kind: kind(&self.components), id: Arc::clone(id) }),
            code: poison.code.into(),
            detail: poison.detail,
            record: decoded.record,
        }
        .bounded();
        let components = self.components.clone();
        self.io.push(Box::pin(async move {
            let offset = letter.offset;
            if let Some(topic) = &components.dead_letters {
                while topic.put(&letter).await.is_err() {
                    components.clock.sleep(components.settings.retry_ms).await;
                }
            }
            while components.store.index.put_dead_letter(letter.clone()).await.is_err() {
                components.clock.sleep(components.settings.retry_ms).await;
            }
            Some(Input::DeadLettered(offset))
        }));
    }

    fn watermark_row(&self, low_watermark: Offset) -> WatermarkRow {
        WatermarkRow {
            key: self.partition.key().clone(),
            topic_id: self.components.topic_id,
            leader_epoch: self.leader_epoch,
            low_watermark,
        }
    }

    /// The index first, then the group: whoever finds a committed offset finds the same or more in the index.
    fn commit(&mut self, low_watermark: Offset) {
        let components = self.components.clone();
        let row = self.watermark_row(low_watermark);
        self.io.push(Box::pin(async move {
            let number = row.key.partition;
            if components.store.put_watermark(row).await.is_err() {
                components.clock.sleep(components.settings.retry_ms).await;
                return Some(Input::Committed(Err(())));
            }
            // The group's offset is for other tools; ours is safe in the index already.
            if let Err(PortError::Permanent(_)) = components.log.commit(number, low_watermark).await {
                components.clock.sleep(components.settings.retry_ms).await;
            }
            Some(Input::Committed(Ok(low_watermark)))
        }));
    }
}
