//! Turns effects into I/O: one task per partition, one that writes checkpoints, one that commits snapshots in
//! groups.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Worker`: membership in the group, the tasks, shutdown |
//! | `assignment.rs` | where an assigned partition starts, and why it may not |
//! | `partition_task/` | the loop: inputs in, effects out |
//! | `presence.rs` | who folds a partition, as the index is told |
//! | `spawn.rs` | tasks on a tokio runtime |
//! | `flusher.rs` | group commit of snapshots; checkpoints of all partitions together |

mod assignment;
mod flusher;
mod partition_task;
#[cfg(feature = "runtime")]
mod presence;
#[cfg(feature = "runtime")]
mod spawn;

pub use assignment::Refusal;
pub use partition_task::{Command, Status};
#[cfg(feature = "runtime")]
pub use presence::announce;
#[cfg(feature = "runtime")]
pub use spawn::TokioSpawn;

use crate::clock::Clock;
use crate::domain::aggregate::Rules;
use crate::domain::erasure::ErasedIds;
use crate::domain::event::Decode;
use crate::domain::ids::{Lineage, PartitionNo, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{Listing, Partition, Settings, Taken};
use crate::domain::poison::Poison;
use crate::domain::row::Trigger;
use crate::kafka::{DeadLetters, Group, GroupEvent, Log};
use crate::reconstruct::{HeadAnswer, ListAnswer, LiveHeads, LiveSnapshots, Reconstructor};
use crate::store::SnapshotStore;
use crate::store::flush::{Flush, Stored};
use futures_channel::mpsc;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Runs a future beside the others; dropping the handle ends it.
pub trait Spawn: Send + Sync {
    /// Starts `task`.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn Send + Sync>;
}

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Of each partition.
    pub partition: Settings,
    /// Milliseconds between checkpoints.
    pub checkpoint_ms: u64,
    /// Milliseconds that a flush waits for more snapshots.
    pub linger_ms: u64,
    /// Snapshots that end the wait.
    pub linger_items: usize,
    /// `flush.maxBytes`: bytes of events and states of one flush.
    pub flush_bytes_max: usize,
    /// Flushes at the same time.
    pub flushes: usize,
    /// Milliseconds between ticks.
    pub tick_ms: u64,
    /// Records taken at once.
    pub records_max: usize,
    /// Milliseconds before a failed read is repeated.
    pub retry_ms: u64,
    /// Milliseconds that a revoked partition may take to cover what is dirty.
    pub revoke_ms: u64,
    /// The same for all partitions when the worker stops.
    pub shutdown_ms: u64,
}

/// Everything a worker of one stream needs.
#[derive(Clone)]
pub struct Components {
    /// Membership in the group.
    pub group: Arc<dyn Group>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where dead letters go beside the index, if anywhere.
    pub dead_letters: Option<Arc<dyn DeadLetters>>,
    /// Writes.
    pub store: Arc<SnapshotStore>,
    /// Reads.
    pub reader: Reconstructor,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tasks of partitions.
    pub folding: Arc<dyn Spawn>,
    /// All other tasks.
    pub spawn: Arc<dyn Spawn>,
    /// The stream's decoder.
    pub decoder: Arc<dyn Decode>,
    /// The stream's fold.
    pub rules: Rules,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// Kafka's id of the topic that `lineage` belongs to.
    pub topic_id: u128,
    /// The active lineage of (topic id, fingerprint).
    pub lineage: Lineage,
    /// Partitions of the topic when it was activated; those that were added since are not folded.
    pub partitions: u32,
    /// How it works.
    pub settings: WorkerSettings,
}

/// What others may ask of a running worker.
#[derive(Clone, Default)]
pub struct Handle {
    tasks: Arc<Mutex<BTreeMap<PartitionNo, mpsc::UnboundedSender<Command>>>>,
    /// What each partition says of itself.
    pub statuses: Arc<Mutex<BTreeMap<PartitionNo, Status>>>,
    flusher: Arc<Mutex<Option<mpsc::UnboundedSender<flusher::Request>>>>,
    has_joined: Arc<AtomicBool>,
}

impl Handle {
    fn tasks(&self) -> std::sync::MutexGuard<'_, BTreeMap<PartitionNo, mpsc::UnboundedSender<Command>>> {
        self.tasks.lock().expect("no panic while the map is held")
    }

    /// Sends a command to a partition's task; false if this worker does not own it.
    #[must_use]
    pub fn send(&self, partition: PartitionNo, command: Command) -> bool {
        self.tasks().get(&partition).is_some_and(|task| task.unbounded_send(command).is_ok())
    }

    /// Asks for a checkpoint before its time; one that is being written is followed by another.
    pub fn checkpoint_soon(&self) {
        let flusher = self.flusher.lock().expect("no panic while it is held");
        if let Some(flusher) = &*flusher {
            // A worker that has stopped has covered everything.
            let _ = flusher.unbounded_send(flusher::Request::Checkpoint);
        }
    }

    /// Notes what a partition says of itself, unless it was given up meanwhile: its task may be in the middle
    /// of a step then, and what it says last would stay for ever.
    fn publish(&self, partition: PartitionNo, status: Status) {
        let mut statuses = self.statuses.lock().expect("no panic while the map is held");
        if self.tasks().contains_key(&partition) {
            statuses.insert(partition, status);
        }
    }

    /// Tells all partitions who is erased; repeating it is harmless.
    pub fn heed(&self, erased: &ErasedIds) {
        for task in self.tasks().values() {
            // A task that has ended has nothing in memory.
            let _ = task.unbounded_send(Command::Heed(Arc::clone(erased)));
        }
    }

    /// Partitions that have started here, once at least.
    pub(crate) fn started(&self) -> BTreeSet<PartitionNo> {
        self.statuses.lock().expect("no panic while the map is held").keys().copied().collect()
    }

    /// Partitions that are folded here: not those that were never started, or stand still.
    ///
    /// # Panics
    /// If another thread panicked while it held the statuses.
    #[must_use]
    pub fn folding(&self) -> Vec<PartitionNo> {
        let statuses = self.statuses.lock().expect("no panic while the map is held");
        let folds = statuses.iter().filter(|(_, status)| status.refused.is_none() && status.halted.is_none());
        folds.map(|(partition, _)| *partition).collect()
    }

    /// Whether a partition takes pressing snapshots only.
    ///
    /// # Panics
    /// As `folding`.
    #[must_use]
    pub fn is_held_back(&self, partition: PartitionNo) -> bool {
        let statuses = self.statuses.lock().expect("no panic while the map is held");
        statuses.get(&partition).is_some_and(|status| status.is_held_back)
    }

    /// Makes all partitions stand still.
    pub fn halt(&self, poison: &Poison) {
        for task in self.tasks().values() {
            // A task that has ended folds nothing.
            let _ = task.unbounded_send(Command::Halt(poison.clone()));
        }
    }

    /// True once the group has told of an assignment, even an empty one.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.has_joined.load(Ordering::Relaxed)
    }

    /// Partitions of this worker.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionNo> {
        self.tasks().keys().copied().collect()
    }
}

impl LiveHeads for Handle {
    fn head(&self, partition: PartitionNo, id: Arc<str>) -> BoxFuture<'_, Option<HeadAnswer>> {
        let (sender, answer) = futures_channel::oneshot::channel();
        let asked = self.send(partition, Command::Head(id, sender));
        Box::pin(async move { if asked { answer.await.ok() } else { None } })
    }

    fn list(&self, partition: PartitionNo, listing: Listing) -> BoxFuture<'_, Option<ListAnswer>> {
        let (sender, answer) = futures_channel::oneshot::channel();
        let asked = self.send(partition, Command::List(listing, sender));
        Box::pin(async move { if asked { answer.await.ok() } else { None } })
    }
}

impl LiveSnapshots for Handle {
    fn owns(&self, partition: PartitionNo) -> bool {
        self.tasks().contains_key(&partition)
    }

    fn owns_any(&self) -> bool {
        !self.tasks().is_empty()
    }

    fn take(
        &self,
        partition: PartitionNo,
        id: Arc<str>,
        upto: Option<Version>,
        trigger: Trigger,
    ) -> BoxFuture<'_, Option<Result<Taken, String>>> {
        let (sender, answer) = futures_channel::oneshot::channel();
        let asked = self.send(partition, Command::Snapshot(id, upto, trigger, sender));
        Box::pin(async move { if asked { answer.await.ok() } else { None } })
    }

    fn write(&self, flush: Flush) -> BoxFuture<'_, Option<crate::domain::error::Result<Stored>>> {
        let (sender, answer) = futures_channel::oneshot::channel();
        let request = flusher::Request::Snapshot(Box::new((flush, sender)));
        let asked = match &*self.flusher.lock().expect("no panic while it is held") {
            Some(flusher) => flusher.unbounded_send(request).is_ok(),
            None => false,
        };
        Box::pin(async move { if asked { answer.await.ok() } else { None } })
    }
}

/// A worker of one stream.
pub struct Worker {
    components: Components,
    handle: Handle,
    flusher: flusher::Flusher,
    /// The task of each partition and its number: a partition may come back while its former task is being
    /// let go of.
    tasks: BTreeMap<PartitionNo, (u64, Box<dyn Send + Sync>)>,
    tasks_started: u64,
    ended: mpsc::UnboundedReceiver<(PartitionNo, Option<Partition>)>,
    ended_sender: mpsc::UnboundedSender<(PartitionNo, Option<Partition>)>,
    /// Only the mutant uses it.
    kept: BTreeMap<PartitionNo, Partition>,
}

impl Worker {
    /// A worker that is not running yet, and the handle to ask it things.
    #[must_use]
    pub fn new(components: Components) -> (Self, Handle) {
        let handle = Handle::default();
        let (ended_sender, ended) = mpsc::unbounded();
        let flusher = flusher::Flusher::new(&components, &handle);
        *handle.flusher.lock().expect("no panic while it is held") = Some(flusher.requests());
        let worker = Self {
            components,
            handle: handle.clone(),
            flusher,
            tasks: BTreeMap::new(),
            tasks_started: 0,
            ended,
            ended_sender,
            kept: BTreeMap::new(),
        };
        (worker, handle)
    }

    /// Runs until `shutdown` completes, then covers what is dirty and lets go of everything.
    pub async fn run(mut self, shutdown: BoxFuture<'_, ()>) {
        let flusher = self.flusher.start();
        let mut shutdown = shutdown.fuse();
        let mut releases: FuturesUnordered<BoxFuture<'static, Vec<(PartitionNo, u64)>>> =
            FuturesUnordered::new();
        loop {
            let group = Arc::clone(&self.components.group);
            let mut next = group.next().fuse();
            futures_util::select_biased! {
                () = shutdown => break,
                released = releases.select_next_some() => {
                    self.let_go(&released);
                    let partitions: Vec<_> = released.iter().map(|(partition, _)| *partition).collect();
                    self.components.group.released(&partitions);
                }
                (partition, kept) = self.ended.select_next_some() => self.task_ended(partition, kept),
                event = next => match event {
                    GroupEvent::Assigned(partitions) => {
                        partitions.into_iter().for_each(|at| self.assign(at));
                        self.handle.has_joined.store(true, Ordering::Relaxed);
                    }
                    GroupEvent::Revoked(partitions) => {
                        releases.push(self.revoke(partitions, self.components.settings.revoke_ms));
                    }
                    GroupEvent::Lost(partitions) => self.forget(&partitions),
                },
            }
        }
        let all = self.handle.partitions();
        self.revoke(all, self.components.settings.shutdown_ms).await;
        drop(flusher);
    }

    fn assign(&mut self, partition: PartitionNo) {
        let (sender, commands) = mpsc::unbounded();
        self.handle.tasks().insert(partition, sender);
        let kept = self.kept.remove(&partition).filter(|_| mutant(Mutant::MemoryKeptOnRevoke));
        let task = partition_task::run(
            self.components.clone(),
            partition,
            commands,
            self.flusher.requests(),
            self.handle.clone(),
            self.ended_sender.clone(),
            kept,
        );
        self.tasks_started += 1;
        self.tasks.insert(partition, (self.tasks_started, self.components.folding.spawn(Box::pin(task))));
    }

    /// Asks the partitions to cover what is dirty, and waits for it at most `wait_ms`.
    fn revoke(
        &mut self,
        partitions: Vec<PartitionNo>,
        wait_ms: u64,
    ) -> BoxFuture<'static, Vec<(PartitionNo, u64)>> {
        let mut drained = Vec::new();
        for partition in &partitions {
            let (done, wait) = futures_channel::oneshot::channel();
            if self.handle.send(*partition, Command::Drain(done)) {
                drained.push(wait);
            }
        }
        let number = |partition| self.tasks.get(&partition).map_or(0, |(number, _)| *number);
        let partitions: Vec<_> =
            partitions.into_iter().map(|partition| (partition, number(partition))).collect();
        let deadline = self.components.clock.sleep(wait_ms);
        Box::pin(async move {
            futures_util::future::select(futures_util::future::join_all(drained), deadline).await;
            partitions
        })
    }

    /// Ends the tasks that were asked to drain, unless the partition has come back meanwhile.
    fn let_go(&mut self, released: &[(PartitionNo, u64)]) {
        let same = |(partition, number): &&(PartitionNo, u64)| {
            self.tasks.get(partition).is_some_and(|(running, _)| running == number)
        };
        let gone: Vec<PartitionNo> = released.iter().filter(same).map(|(partition, _)| *partition).collect();
        self.forget(&gone);
    }

    fn forget(&mut self, partitions: &[PartitionNo]) {
        for partition in partitions {
            self.handle.tasks().remove(partition);
            self.handle.statuses.lock().expect("no panic while the map is held").remove(partition);
            self.tasks.remove(partition);
        }
    }

    fn task_ended(&mut self, partition: PartitionNo, kept: Option<Partition>) {
        if let Some(kept) = kept {
            self.kept.insert(partition, kept);
        }
    }
}
