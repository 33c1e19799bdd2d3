//! The async shell of one partition: inputs in, effects out, no decisions.
//!
//! *Order*: completions before commands before records, so that memory cannot grow while acknowledgements
//!   wait.
//! *If it fails*: a read or write that fails is repeated until it is done or the partition is given up.
//! *If cancelled*: everything in memory is gone; the next owner folds it again from the low watermark.

use super::assignment::{Refusal, Start, start_when_possible, verify};
use super::flusher::{CheckpointOffer, Request, kind, write_checkpoint};
use super::{Components, Handle};
use crate::domain::error::ErrorKind;
use crate::domain::event::Decoded;
use crate::domain::ids::{AggregateKey, Offset, PartitionNo, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::PortError;
use crate::domain::partition::{
    CheckpointItem, Counts, Effect, EntryRef, FlightId, Input, Listing, Load, Now, Partition, Reply,
    SnapshotItem,
};
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use crate::domain::row::{DeadLetter, WatermarkRow};
use crate::kafka::Records;
use crate::reconstruct::{HeadAnswer, ListAnswer};
use crate::store::flush::{CheckpointPart, Flush};
use futures_channel::{mpsc, oneshot};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What may be asked of a partition's task.
#[derive(Debug)]
pub enum Command {
    /// Hand over what is dirty for a checkpoint; no offer if there is nothing.
    Checkpoint(oneshot::Sender<Option<CheckpointOffer>>),
    /// The head of an aggregate, if it is in memory.
    Head(Arc<str>, oneshot::Sender<HeadAnswer>),
    /// The aggregates in memory, in id order.
    List(Listing, oneshot::Sender<ListAnswer>),
    /// Take a snapshot now; answers the version that is durable as one.
    Snapshot(Arc<str>, oneshot::Sender<Result<Version, String>>),
    /// Cover what is dirty, commit, stop.
    Drain(oneshot::Sender<()>),
}

/// What a partition says of itself.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Next offset to fold.
    pub position: Offset,
    /// First uncovered offset.
    pub low_watermark: Offset,
    /// Where the log ended when the partition was assigned: until then it only catches up.
    pub replay_until: Offset,
    /// What has happened.
    pub counts: Counts,
    /// Aggregates in memory.
    pub residents: usize,
    /// Bytes in memory.
    pub memory_bytes: usize,
    /// Live checkpoints.
    pub live_checkpoints: usize,
    /// Why it stands still.
    pub halted: Option<(Offset, Poison)>,
    /// Why it was never started.
    pub refused: Option<Refusal>,
}

struct Task {
    components: Components,
    partition: Partition,
    io: FuturesUnordered<BoxFuture<'static, Option<Input>>>,
    requests: mpsc::UnboundedSender<Request>,
    handle: Handle,
    heads: BTreeMap<Reply, oneshot::Sender<HeadAnswer>>,
    lists: BTreeMap<Reply, oneshot::Sender<ListAnswer>>,
    snapshots: BTreeMap<Reply, oneshot::Sender<Result<Version, String>>>,
    checkpoint: Option<oneshot::Sender<Option<CheckpointOffer>>>,
    drained: Vec<oneshot::Sender<()>>,
    next_reply: u64,
    leader_epoch: i32,
    replay_until: Offset,
    done: bool,
}

/// Runs one assigned partition until it is drained or dropped.
pub(super) async fn run(
    components: Components,
    number: PartitionNo,
    mut commands: mpsc::UnboundedReceiver<Command>,
    requests: mpsc::UnboundedSender<Request>,
    handle: Handle,
    ended: mpsc::UnboundedSender<(PartitionNo, Option<Partition>)>,
    kept: Option<Partition>,
) {
    let (mut partition, bounds) = match start_when_possible(&components, number).await {
        Start::Fold(partition, bounds) => (*partition, bounds),
        Start::Refuse(refusal) => return stand_still(number, refusal, commands, &handle).await,
    };
    if let Some(kept) = kept {
        partition.keep_memory(kept);
    }
    let mut task = Task {
        components,
        partition,
        io: FuturesUnordered::new(),
        requests,
        handle,
        heads: BTreeMap::new(),
        lists: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        checkpoint: None,
        drained: Vec::new(),
        next_reply: 0,
        leader_epoch: bounds.leader_epoch,
        replay_until: bounds.end,
        done: false,
    };
    task.publish();
    while !task.done {
        let Some(records) = task.open_records(number, &mut commands).await else { break };
        task.fold_while_readable(records, &mut commands).await;
    }
    let kept = mutant(Mutant::MemoryKeptOnRevoke).then_some(task.partition);
    let _ = ended.unbounded_send((number, kept));
}

/// A partition that may not be folded: it says why, and can be revoked like any other.
async fn stand_still(
    number: PartitionNo,
    refusal: Refusal,
    mut commands: mpsc::UnboundedReceiver<Command>,
    handle: &Handle,
) {
    let status = Status { refused: Some(refusal), ..Status::default() };
    handle.statuses.lock().expect("no panic while the map is held").insert(number, status);
    while let Some(command) = commands.next().await {
        if let Command::Drain(done) = command {
            let _ = done.send(());
            return;
        }
    }
}

impl Task {
    /// Opens the partition's records at the position, again and again until that works.
    async fn open_records(
        &mut self,
        number: PartitionNo,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) -> Option<Box<dyn Records>> {
        loop {
            let position = self.partition.position();
            match self.components.group.records(number, position).await {
                Ok(records) => return Some(records),
                Err(_) => {
                    let pause = self.components.clock.sleep(self.components.settings.retry_ms);
                    match futures_util::future::select(pause, commands.next()).await {
                        Either::Left(_) => {}
                        Either::Right((Some(Command::Drain(done)), _)) => {
                            let _ = done.send(());
                            return None;
                        }
                        Either::Right((None, _)) => return None,
                        Either::Right((Some(command), _)) => self.obey(command),
                    }
                }
            }
        }
    }

    async fn fold_while_readable(
        &mut self,
        mut records: Box<dyn Records>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) {
        let clock = Arc::clone(&self.components.clock);
        let mut tick = clock.sleep(self.components.settings.tick_ms).fuse();
        let max = self.components.settings.records_max;
        while !self.done {
            let mut next = match self.partition.wants_records() {
                true => records.next(max),
                false => Box::pin(futures_util::future::pending()),
            }
            .fuse();
            futures_util::select_biased! {
                input = self.io.select_next_some() => {
                    drop(next);
                    if let Some(input) = input { self.step(input); }
                }
                command = commands.next() => {
                    drop(next);
                    match command {
                        Some(command) => self.obey(command),
                        None => self.done = true,
                    }
                }
                () = tick => {
                    drop(next);
                    tick = clock.sleep(self.components.settings.tick_ms).fuse();
                    self.step(Input::Tick);
                }
                batch = next => {
                    drop(next);
                    match batch {
                        Ok(batch) => if !self.take(batch).await { return },
                        Err(_) => {
                            // The log may have been cut or created again below us.
                            self.verify().await;
                            return clock.sleep(self.components.settings.retry_ms).await;
                        }
                    }
                }
            }
        }
    }

    /// Feeds records, once it is certain that they come from the log that was folded and follow on it; false
    /// if they have to be read again for that.
    async fn take(&mut self, batch: Vec<RawRecord>) -> bool {
        let Some(last) = batch.last() else { return true };
        let (end, epoch) = (last.offset.next(), last.leader_epoch);
        if !self.verify().await {
            return false;
        }
        // The batch may have been cut off after it was read, which a log without leader epochs has not told
        // yet: then it is read again, and nothing was folded of it.
        let number = self.partition.key().partition;
        let still_there = mutant(Mutant::BatchNotVerified)
            || matches!(verify(&self.components, number, end, epoch).await, Ok(Ok(_)));
        if !still_there {
            return false;
        }
        let decoder = &self.components.decoder;
        let decoded: Vec<Decoded> = batch.into_iter().map(|record| decoder.decode(record)).collect();
        self.step(Input::Records(decoded));
        true
    }

    /// Halts the partition if the log is no longer the one that was folded; false if the log did not say, or
    /// if what is read next may lie beyond the position.
    ///
    /// SUBTLE: reading comes further than the position where offsets hold no record. A log that was cut in
    /// between is the one that was folded, and goes on with events at offsets that were read past. So after
    /// an election records are read from the position again.
    async fn verify(&mut self) -> bool {
        let (number, position) = (self.partition.key().partition, self.partition.position());
        match verify(&self.components, number, position, self.leader_epoch).await {
            Ok(Ok(epoch)) => {
                let before = std::mem::replace(&mut self.leader_epoch, epoch);
                epoch <= before || mutant(Mutant::ReadOnAfterElection)
            }
            Ok(Err(refusal)) => {
                self.partition.halt_from_outside(refusal.poison());
                self.publish();
                false
            }
            Err(_) => false,
        }
    }

    fn obey(&mut self, command: Command) {
        self.next_reply += 1;
        let reply = Reply(self.next_reply);
        match command {
            Command::Checkpoint(sender) => {
                self.checkpoint = Some(sender);
                self.step(Input::TakeCheckpoint);
            }
            Command::Head(id, sender) => {
                self.heads.insert(reply, sender);
                self.step(Input::Head(id, reply));
            }
            Command::List(listing, sender) => {
                self.lists.insert(reply, sender);
                self.step(Input::List(listing, reply));
            }
            Command::Snapshot(id, sender) => {
                self.snapshots.insert(reply, sender);
                self.step(Input::SnapshotNow(id, reply));
            }
            Command::Drain(sender) => {
                self.drained.push(sender);
                self.step(Input::Drain);
            }
        }
    }

    fn step(&mut self, input: Input) {
        let clock = &self.components.clock;
        let now = Now { wall: clock.now(), monotonic_ms: clock.monotonic_ms() };
        let mut effects = Vec::new();
        self.partition.step(input, now, &mut effects);
        for effect in effects {
            self.perform(effect);
        }
        self.publish();
    }

    fn perform(&mut self, effect: Effect) {
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
                match components.reader.load(&partition, &key, &pending, until).await {
                    Ok(loaded) => return Some(Input::Loaded(Load { id, result: Ok(Box::new(loaded)) })),
                    Err(error) if matches!(error.kind, ErrorKind::Gone | ErrorKind::Corrupt) => {
                        let poison = Poison::new("unreadable", error.detail);
                        return Some(Input::Loaded(Load { id, result: Err(poison) }));
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
                    return Some(Input::SnapshotStored { flight, full_bytes: stored.full_bytes });
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
        let part =
            CheckpointPart { partition: self.partition.key().clone(), kind: kind(&self.components), items };
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
        };
        let components = self.components.clone();
        self.io.push(Box::pin(async move {
            let offset = letter.offset;
            while components.store.index.put_dead_letter(letter.clone()).await.is_err() {
                components.clock.sleep(components.settings.retry_ms).await;
            }
            Some(Input::DeadLettered(offset))
        }));
    }

    /// The index first, then the group: whoever finds a committed offset finds the same or more in the index.
    fn commit(&mut self, low_watermark: Offset) {
        let components = self.components.clone();
        let row = WatermarkRow {
            key: self.partition.key().clone(),
            topic_id: components.topic_id,
            leader_epoch: self.leader_epoch,
            low_watermark,
        };
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

    fn publish(&self) {
        let partition = &self.partition;
        let status = Status {
            position: partition.position(),
            replay_until: self.replay_until,
            low_watermark: partition.low_watermark(),
            counts: partition.counts().clone(),
            residents: partition.residents(),
            memory_bytes: partition.memory_bytes(),
            live_checkpoints: partition.live_checkpoints().count(),
            halted: partition.halted().cloned(),
            refused: None,
        };
        let mut statuses = self.handle.statuses.lock().expect("no panic while the map is held");
        statuses.insert(partition.key().partition, status);
    }
}
