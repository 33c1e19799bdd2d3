//! Group commit: snapshots of all partitions that trip within the linger become one flush; all partitions'
//! checkpoints become one pack.
//!
//! INVARIANT: what a flush writes takes `flush_bytes_max` at the most, or is one aggregate's: while it is
//! encoded all of it is in memory.
//!
//! *If cancelled*: what was in a flush is abandoned; the partitions' tasks are gone with the worker, or find
//!   their answer channel closed, which means the same.

use super::{Command, Components, Handle};
use crate::domain::error::Result;
use crate::domain::ids::PartitionNo;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::LiveCheckpoint;
use crate::store::flush::{CheckpointPart, Flush, Stored};
use futures_channel::{mpsc, oneshot};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;

/// One snapshot to be written, and who waits for it: no answer means abandoned.
pub(super) type SnapshotRequest = (Flush, oneshot::Sender<Result<Stored>>);

/// What a partition hands over for a checkpoint, and where it waits for the end of it.
#[derive(Debug)]
pub struct CheckpointOffer {
    pub(super) part: CheckpointPart,
    pub(super) done: oneshot::Sender<LiveCheckpoint>,
}

/// What partitions ask of the flusher.
pub(super) enum Request {
    Snapshot(Box<SnapshotRequest>),
    /// A checkpoint before its time.
    Checkpoint,
}

/// Runs flushes and checkpoints.
pub(super) struct Flusher {
    components: Components,
    handle: Handle,
    sender: mpsc::UnboundedSender<Request>,
    receiver: Option<mpsc::UnboundedReceiver<Request>>,
}

impl Flusher {
    pub(super) fn new(components: &Components, handle: &Handle) -> Self {
        let (sender, receiver) = mpsc::unbounded();
        Self { components: components.clone(), handle: handle.clone(), sender, receiver: Some(receiver) }
    }

    /// Where partitions send their requests. How many snapshots wait is bounded by the partitions'
    /// `snapshots_max`.
    pub(super) fn requests(&self) -> mpsc::UnboundedSender<Request> {
        self.sender.clone()
    }

    /// Starts the task; it ends when the handle is dropped.
    pub(super) fn start(&mut self) -> Box<dyn Send + Sync> {
        let receiver = self.receiver.take().expect("a flusher is started once");
        self.components.spawn.spawn(Box::pin(run(self.components.clone(), self.handle.clone(), receiver)))
    }
}

/// Snapshots that wait for a flush, oldest first.
#[derive(Default)]
struct Waiting {
    requests: VecDeque<(usize, SnapshotRequest)>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, request: SnapshotRequest) {
        let bytes = request.0.item.bytes();
        self.bytes += bytes;
        self.requests.push_back((bytes, request));
    }

    /// The oldest ones, as many as fit.
    fn take(&mut self, bytes_max: usize) -> Vec<SnapshotRequest> {
        let (mut batch, mut taken) = (Vec::new(), 0);
        while let Some((bytes, _)) = self.requests.front() {
            if !batch.is_empty() && taken + bytes > bytes_max {
                break;
            }
            taken += bytes;
            batch.extend(self.requests.pop_front().map(|(_, request)| request));
        }
        self.bytes -= taken;
        batch
    }
}

async fn run(components: Components, handle: Handle, mut requests: mpsc::UnboundedReceiver<Request>) {
    let settings = components.settings.clone();
    let mut waiting = Waiting::default();
    let mut flushes: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut checkpoint = futures_util::future::Fuse::terminated();
    let mut due = components.clock.sleep(settings.checkpoint_ms).fuse();
    let mut linger = futures_util::future::Fuse::terminated();
    let mut linger_over = false;
    let mut checkpoint_again = false;
    loop {
        let is_full =
            waiting.requests.len() >= settings.linger_items || waiting.bytes >= settings.flush_bytes_max;
        if !waiting.requests.is_empty() && flushes.len() < settings.flushes && (linger_over || is_full) {
            let batch = waiting.take(settings.flush_bytes_max);
            flushes.push(Box::pin(flush(components.clone(), batch)));
            // What is left has waited long enough.
            linger_over = !waiting.requests.is_empty();
            linger = futures_util::future::Fuse::terminated();
            continue;
        }
        futures_util::select_biased! {
            () = flushes.select_next_some() => {}
            () = checkpoint => {
                let pause = if std::mem::take(&mut checkpoint_again) { 0 } else { settings.checkpoint_ms };
                due = components.clock.sleep(pause).fuse();
            }
            () = linger => linger_over = true,
            () = due => checkpoint = take_checkpoint(components.clone(), handle.clone()).boxed().fuse(),
            request = requests.next() => match request {
                Some(Request::Snapshot(request)) => {
                    if waiting.requests.is_empty() {
                        linger = components.clock.sleep(settings.linger_ms).fuse();
                        linger_over = false;
                    }
                    waiting.push(*request);
                }
                Some(Request::Checkpoint) => {
                    if futures_util::future::FusedFuture::is_terminated(&checkpoint) {
                        due = futures_util::future::Fuse::terminated();
                        checkpoint = take_checkpoint(components.clone(), handle.clone()).boxed().fuse();
                    } else {
                        // What asks now may have been asked already, and have more by now.
                        checkpoint_again = true;
                    }
                }
                None => return,
            },
        }
    }
}

async fn flush(components: Components, batch: Vec<SnapshotRequest>) {
    let (flushes, waiters): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let outcomes = components.store.put_snapshots(flushes).await;
    for (outcome, waiter) in outcomes.into_iter().zip(waiters) {
        // A partition that was revoked meanwhile does not wait any more; what was written is true all the
        // same.
        let _ = waiter.send(outcome);
    }
}

/// How long who does not answer is waited for where others did.
const PATIENCE_MS: u64 = 2_000;

/// Asks every partition that has started what it has, and writes all of it as one checkpoint. One that
/// starts again does not answer meanwhile: it is left out once others have waited for it, or have come since,
/// or it would hold up the low watermarks of all. Its offer, should it come, is abandoned like one that was
/// not written.
async fn take_checkpoint(components: Components, handle: Handle) {
    let waits_for_all = mutant(Mutant::CheckpointWaitsForAll);
    let partitions = if waits_for_all { handle.partitions().into_iter().collect() } else { handle.started() };
    let ask = |partition: &PartitionNo| {
        let (sender, answer) = oneshot::channel();
        let asked = handle.send(*partition, Command::Checkpoint(sender));
        async move { if asked { answer.await.ok().flatten() } else { None } }
    };
    let mut asked: FuturesUnordered<_> = partitions.iter().map(ask).collect();
    let mut patience = components.clock.sleep(PATIENCE_MS).fuse();
    let (mut offers, mut is_any_heard, mut is_late): (Vec<CheckpointOffer>, _, _) =
        (Vec::new(), false, false);
    loop {
        let is_enough = || is_any_heard || !handle.started().is_subset(&partitions);
        if asked.is_empty() || is_late && !waits_for_all && is_enough() {
            break;
        }
        futures_util::select_biased! {
            offer = asked.select_next_some() => {
                is_any_heard = true;
                offers.extend(offer);
            }
            () = patience => {
                is_late = true;
                patience = components.clock.sleep(PATIENCE_MS).fuse();
            }
        }
    }
    write_checkpoint(&components, offers).await;
}

/// Writes offers as one checkpoint. An offer that gets no answer was abandoned.
pub(super) async fn write_checkpoint(components: &Components, offers: Vec<CheckpointOffer>) {
    if offers.is_empty() {
        return;
    }
    let (parts, waiters): (Vec<_>, Vec<_>) = offers.into_iter().map(|offer| (offer.part, offer.done)).unzip();
    if let Ok(written) = components.store.put_checkpoint(parts).await {
        for (live, waiter) in written.into_iter().zip(waiters) {
            let _ = waiter.send(live);
        }
    }
}

/// The aggregate type of a worker's stream, for what it writes.
pub(super) fn kind(components: &Components) -> Arc<str> {
    Arc::clone(&components.rules.kind)
}
