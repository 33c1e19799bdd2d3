//! The async shell of one partition: inputs in, effects out, no decisions.
//!
//! *Order*: completions before commands before records, so that memory cannot grow while acknowledgements
//!   wait.
//! *If it fails*: a read or write that fails is repeated until it is done or the partition is given up.
//! *If cancelled*: everything in memory is gone; the next owner folds it again from the low watermark.

mod ages;
mod ahead;
mod effects;
mod elections;
mod landing;

use self::ages::Ages;
use self::ahead::Ahead;
use super::assignment::{Refusal, Start, start_when_possible, verify};
use super::flusher::{CheckpointOffer, Request};
use super::{Components, Handle};
use crate::domain::erasure::ErasedIds;
use crate::domain::event::Decoded;
use crate::domain::ids::{Offset, PartitionNo, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{Costs, Counts, Epochs, Input, Listing, Now, Partition, Reply, Taken};
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use crate::domain::row::Trigger;
use crate::kafka::{LogBounds, Records};
use crate::reconstruct::{HeadAnswer, ListAnswer};
use futures_channel::{mpsc, oneshot};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long no record comes before the end of the log is looked at.
const LOOK_MS: u64 = 1_000;
/// Between two looks at whether the log is still the same, while no record comes.
const VERIFY_MS: u64 = 5_000;

/// What may be asked of a partition's task.
#[derive(Debug)]
pub enum Command {
    /// Hand over what is dirty for a checkpoint; no offer if there is nothing.
    Checkpoint(oneshot::Sender<Option<CheckpointOffer>>),
    /// The head of an aggregate, if it is in memory.
    Head(Arc<str>, oneshot::Sender<HeadAnswer>),
    /// The aggregates in memory, in id order.
    List(Listing, oneshot::Sender<ListAnswer>),
    /// Take a snapshot now, unless one of the version named, or of a later one, is durable; and why.
    Snapshot(Arc<str>, Option<Version>, Trigger, oneshot::Sender<Result<Taken, String>>),
    /// These aggregates are erased. Where one of them is in memory, all that is in memory is forgotten and
    /// the partition starts again from the low watermark, as for another owner.
    Heed(ErasedIds),
    /// The topic must not be folded on: stand still.
    Halt(Poison),
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
    /// The position, or beyond it what is known to hold no record.
    pub reached: Offset,
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
    /// Bytes of events that nothing durable covers.
    pub uncovered_bytes: usize,
    /// Milliseconds since the event at the low watermark was folded, 0 if all is covered.
    pub uncovered_age_ms: u64,
    /// Snapshots and checkpoints that are being written.
    pub flights: usize,
    /// Aggregates that are being loaded.
    pub loads: usize,
    /// How often its task has turned: one whose number stays is stuck.
    pub turns: u64,
    /// Only pressing snapshots are taken; others wait.
    pub is_held_back: bool,
    /// What it takes to reconstruct an aggregate.
    pub costs: Costs,
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
    snapshots: BTreeMap<Reply, oneshot::Sender<Result<Taken, String>>>,
    checkpoint: Option<oneshot::Sender<Option<CheckpointOffer>>>,
    drained: Vec<oneshot::Sender<()>>,
    next_reply: u64,
    leader_epoch: i32,
    ahead: Ahead,
    replay_until: Offset,
    /// Milliseconds of ticks since a record came.
    idle_ms: u64,
    /// The end of the log is being read.
    is_looking: bool,
    ages: Ages,
    turns: u64,
    /// Somebody asked it to drain.
    is_revoked: bool,
    /// It is to start again.
    is_restarting: bool,
    /// Somebody asked it to stand still: so it does when it has started again.
    stands_for: Option<Poison>,
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
    let (mut kept, mut stands_for) = (kept, None);
    loop {
        let (mut partition, bounds) = match start_when_possible(&components, number).await {
            Start::Fold(partition, bounds) => (*partition, bounds),
            Start::Refuse(refusal) => return stand_still(number, refusal, commands, &handle).await,
        };
        if let Some(kept) = kept.take() {
            partition.keep_memory(kept);
        }
        let mut task = Task::new(components.clone(), partition, bounds, requests.clone(), handle.clone());
        match stands_for.take() {
            Some(poison) => task.obey(Command::Halt(poison)),
            None => task.publish(),
        }
        let ending = task.fold_until_the_end(number, &mut commands).await;
        if ending == Ending::Passed && !task.is_revoked && task.land(&mut commands).await {
            stands_for = task.stands_for;
            continue;
        }
        let kept = mutant(Mutant::MemoryKeptOnRevoke).then_some(task.partition);
        let _ = ended.unbounded_send((number, kept));
        return;
    }
}

/// Why a partition is not folded on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It is covered, or nobody wants it any more.
    Done,
    /// The log has forgotten the next record. Where another owner has covered it, what is in memory here is
    /// out of date, and folding starts again at that owner's low watermark. Where nobody has, what was folded
    /// is covered first, and the start says what is lost. The same where it is to start again.
    Passed,
}

/// A partition that may not be folded: it says why, and can be revoked like any other.
async fn stand_still(
    number: PartitionNo,
    refusal: Refusal,
    mut commands: mpsc::UnboundedReceiver<Command>,
    handle: &Handle,
) {
    let status = Status { refused: Some(refusal), ..Status::default() };
    handle.publish(number, status);
    while let Some(command) = commands.next().await {
        if let Command::Drain(done) = command {
            let _ = done.send(());
            return;
        }
    }
}

impl Task {
    fn new(
        components: Components,
        partition: Partition,
        bounds: LogBounds,
        requests: mpsc::UnboundedSender<Request>,
        handle: Handle,
    ) -> Self {
        Self {
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
            ahead: Ahead::default(),
            replay_until: bounds.end,
            idle_ms: 0,
            is_looking: false,
            ages: Ages::default(),
            turns: 0,
            is_revoked: false,
            is_restarting: false,
            stands_for: None,
            done: false,
        }
    }

    async fn fold_until_the_end(
        &mut self,
        number: PartitionNo,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) -> Ending {
        while !self.done {
            let Some(mut records) = self.open_records(number, commands).await else { break };
            self.fold_while_readable(&mut records, commands).await;
            if !self.done && self.is_passed(number).await {
                if !self.is_covered_by_another().await {
                    // A partition that drains wants no records.
                    self.step(Input::Drain);
                    self.fold_while_readable(&mut records, commands).await;
                }
                return Ending::Passed;
            }
        }
        if self.is_restarting { Ending::Passed } else { Ending::Done }
    }

    /// Whether somebody's low watermark is beyond the position; false also if the index does not say.
    async fn is_covered_by_another(&mut self) -> bool {
        let (key, position) = (self.partition.key().clone(), self.partition.position());
        let rows = self.components.store.index.watermarks(&key).await.unwrap_or_default();
        let topic_id = self.components.topic_id;
        rows.iter().any(|row| row.topic_id == topic_id && row.low_watermark > position)
    }

    /// Whether the log starts beyond the position.
    async fn is_passed(&mut self, number: PartitionNo) -> bool {
        let position = self.partition.position();
        let passed = |bounds: LogBounds| bounds.start > position;
        !mutant(Mutant::PassedPositionKept) && self.components.log.bounds(number).await.is_ok_and(passed)
    }

    /// Opens the partition's records at the position, again and again until that works.
    async fn open_records(
        &mut self,
        number: PartitionNo,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) -> Option<Box<dyn Records>> {
        loop {
            self.turn();
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
        records: &mut Box<dyn Records>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) {
        let clock = Arc::clone(&self.components.clock);
        let mut tick = clock.sleep(self.components.settings.tick_ms).fuse();
        let max = self.components.settings.records_max;
        while !self.done {
            self.turn();
            let mut next = match self.partition.wants_records() {
                true => records.next(max),
                false => Box::pin(futures_util::future::pending()),
            }
            .fuse();
            futures_util::select_biased! {
                input = self.io.select_next_some() => {
                    drop(next);
                    if let Some(input) = input {
                        self.is_looking &= !matches!(input, Input::Empty { .. });
                        self.complete(input).await;
                    }
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
                    if let Some(end) = self.components.log.last_end(self.partition.key().partition) {
                        self.step(Input::LogEnd(end));
                    }
                    self.step(Input::Tick);
                    if !self.idle().await { return }
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

    /// Takes a completion in. An election may have come since a load looked whether the log still has what it
    /// found, and records of the new epoch may wait for it.
    async fn complete(&mut self, input: Input) {
        let number = self.partition.key().partition;
        let reached = Ahead::of(&input, self.partition.low_watermark());
        for (epoch, last) in reached.range(..self.leader_epoch) {
            if mutant(Mutant::StatesAheadUnchecked) {
                break;
            }
            match self.components.log.epoch_end(number, *epoch).await {
                Ok(end) if end > *last => {}
                Ok(end) => {
                    let refusal = Refusal::Truncated { position: last.next(), end };
                    return self.step(Input::Halt(refusal.poison()));
                }
                Err(_) => {
                    let pause = self.components.clock.sleep(self.components.settings.retry_ms);
                    self.io.push(Box::pin(pause.map(|()| Some(input))));
                    return;
                }
            }
        }
        self.ahead.note(&reached);
        self.step(input);
    }

    /// What is to be done while no records come; false if they have to be read from the position again.
    async fn idle(&mut self) -> bool {
        let (before, now) = (self.idle_ms, self.idle_ms + self.components.settings.tick_ms);
        self.idle_ms = now;
        let passes = |ms: u64| before / ms < now / ms;
        if passes(LOOK_MS) && !self.is_looking && self.partition.wants_records() {
            self.look_at_the_end();
        }
        // A client may wait for ever for records of a topic that is gone.
        !passes(VERIFY_MS) || self.partition.halted().is_some() || self.verify().await
    }

    /// Finds out whether what lies between the position and the end of the log holds records at all.
    fn look_at_the_end(&mut self) {
        self.is_looking = true;
        let (log, number) = (Arc::clone(&self.components.log), self.partition.key().partition);
        let (from, reached) = (self.partition.position(), self.partition.reached());
        self.io.push(Box::pin(async move {
            let nothing = Input::Empty { from, to: reached, start: from };
            let Ok(LogBounds { start, end, .. }) = log.bounds(number).await else { return Some(nothing) };
            if start > from {
                // What is gone was looked at before, or it is missing.
                let to = if mutant(Mutant::UnreadTakenForEmpty) { start } else { reached };
                return Some(Input::Empty { from, to, start });
            }
            let is_empty =
                end > reached && log.read(number, from, end).await.is_ok_and(|read| read.is_empty());
            Some(if is_empty { Input::Empty { from, to: end, start } } else { nothing })
        }));
    }

    /// Feeds records, once it is certain that they come from the log that was folded and follow on it; false
    /// if they have to be read again for that.
    async fn take(&mut self, batch: Vec<RawRecord>) -> bool {
        let Some(last) = batch.last() else { return true };
        self.idle_ms = 0;
        let (end, epoch) = (last.offset.next(), last.leader_epoch);
        if !self.verify().await {
            return false;
        }
        // The batch may have been cut off after it was read, which a log without leader epochs has not told
        // yet: then it is read again, and nothing was folded of it.
        let number = self.partition.key().partition;
        let still_there = mutant(Mutant::BatchNotVerified)
            || matches!(verify(&self.components, number, end, epoch, &Epochs::new()).await, Ok(Ok(_)));
        if !still_there {
            return false;
        }
        let decoder = &self.components.decoder;
        let decoded: Vec<Decoded> = batch.into_iter().map(|record| decoder.decode(record)).collect();
        self.step(Input::Records(decoded));
        true
    }

    fn obey(&mut self, command: Command) {
        self.next_reply += 1;
        let reply = Reply(self.next_reply);
        match command {
            // Nobody waits for it any more: the partition was starting meanwhile.
            Command::Checkpoint(sender) if sender.is_canceled() => {}
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
            Command::Snapshot(id, upto, trigger, sender) => {
                self.snapshots.insert(reply, sender);
                self.step(Input::SnapshotNow(id, upto, trigger, reply));
            }
            Command::Heed(erased) => {
                let goes_on = self.partition.heed(erased);
                self.is_restarting |= !goes_on;
                self.done |= !goes_on;
            }
            Command::Halt(poison) => {
                self.stands_for = Some(poison.clone());
                self.step(Input::Halt(poison));
            }
            Command::Drain(sender) => {
                self.is_revoked = true;
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

    /// The loop goes on.
    fn turn(&mut self) {
        self.turns += 1;
        let mut statuses = self.handle.statuses.lock().expect("no panic while the map is held");
        if let Some(status) = statuses.get_mut(&self.partition.key().partition) {
            status.turns = self.turns;
        }
    }

    fn publish(&mut self) {
        let (partition, now_ms) = (&self.partition, self.components.clock.monotonic_ms());
        let uncovered_age_ms = self.ages.note(partition.low_watermark(), partition.position(), now_ms);
        let status = Status {
            position: partition.position(),
            reached: partition.reached(),
            replay_until: self.replay_until,
            low_watermark: partition.low_watermark(),
            counts: partition.counts().clone(),
            residents: partition.residents(),
            memory_bytes: partition.memory_bytes(),
            live_checkpoints: partition.live_checkpoints().count(),
            uncovered_bytes: partition.uncovered_bytes(),
            uncovered_age_ms,
            flights: partition.flights(),
            loads: partition.loads(),
            turns: self.turns,
            is_held_back: partition.is_held_back(),
            costs: partition.costs(),
            halted: partition.halted().cloned(),
            refused: None,
        };
        self.handle.publish(partition.key().partition, status);
    }
}
