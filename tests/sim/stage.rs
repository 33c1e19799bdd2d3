//! The stage of directed scenarios: one partition, one aggregate `a`, workers that do nothing by themselves
//! but checkpoints, and fates that are written down call by call. What only one replica has (a rumour) is on
//! the last replica, so that reads which spare replica 0 see it and reads which spare replica 2 do not.

use crate::executor::{ProcessId, lock};
use crate::judge::Judge;
use crate::plan::FaultPlan;
use crate::ports::blobs::Damage;
use crate::ports::broker::{Draft, Note};
use crate::ports::producer::{StreamSpec, VersionMode, partition_of};
use crate::ports::{Fate, Op};
use crate::questions::{Moments, final_check};
use crate::subject::{Active, Fleet, Subject};
use crate::surface::found;
use crate::world::{Outcome, Ports, Setup, World};
use futures_channel::oneshot;
use snapfold::domain::ids::{AggregateKey, Offset, PackId, PartitionNo, Version};
use snapfold::domain::row::{PartitionKey, Trigger, WatermarkRow};
use snapfold::lookup::{Answer, Asked, EventView, Freshness, Lookup, Selector};
use snapfold::reconstruct::NoOwners;
use snapfold::reconstruct::{AsOf, Found};
#[cfg(not(feature = "runtime"))]
use snapfold::upkeep::compaction::Compactor;
use snapfold::worker::{Command, Handle, Status};
#[cfg(not(feature = "runtime"))]
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The topic.
pub(crate) const TOPIC: &str = "orders";
/// Its only partition.
pub(crate) const HERE: PartitionNo = PartitionNo(0);
/// The replica that all reads leave out so that they see rumours.
pub(crate) const SEEING_RUMOURS: usize = 0;
/// The same, so that they do not.
pub(crate) const DEAF_TO_RUMOURS: usize = 2;

/// Whose calls of a method have which fate, and how many of them.
type Rule = (ProcessId, &'static str, Fate, usize);

/// What is done once, before the first call of which something is true.
type Deed = (Box<dyn FnMut(&Op<'_>) -> bool + Send>, Box<dyn FnOnce(&Op<'_>) + Send>);

/// One stage; see the module.
pub(crate) struct Stage {
    /// The world.
    pub(crate) world: World,
    subject: Subject,
    fleet: Fleet,
    judge: Arc<Mutex<Judge>>,
    rules: Arc<Mutex<Vec<Rule>>>,
    once: Arc<Mutex<Option<Deed>>>,
    unheard: Arc<Mutex<Option<(&'static str, PartitionNo)>>>,
    made: AtomicU64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::of(Subject::staged(VersionMode::Given))
    }

    pub(crate) fn of(subject: Subject) -> Self {
        Self::with_partitions(subject, 1)
    }

    /// The same with partitions beside the one that scenarios are about. Somebody owned them before, so
    /// whoever owns them next asks rest about aggregates.
    pub(crate) fn with_partitions(subject: Subject, partitions: i32) -> Self {
        let stage = Self::untouched(subject, partitions);
        (0..partitions).for_each(|partition| stage.watermark_of(PartitionNo(partition), 0));
        stage
    }

    /// The same where nobody has owned anything.
    pub(crate) fn untouched(subject: Subject, partitions: i32) -> Self {
        let mut setup = Setup::orders(subject.versions);
        setup.streams =
            vec![StreamSpec { partitions, aggregates: 1, shape: subject.shape, ..setup.streams[0].clone() }];
        let plan = FaultPlan { read_repair: false, ..FaultPlan::calm() };
        let world = World::planned(1, setup, plan);
        let fleet = Fleet::new(&world);
        let active = *lock(&fleet.active);
        let judge = Arc::new(Mutex::new(Judge::new(&subject, &world, active)));
        let rules: Arc<Mutex<Vec<Rule>>> = Arc::default();
        let once: Arc<Mutex<Option<Deed>>> = Arc::default();
        let unheard: Arc<Mutex<Option<(&'static str, PartitionNo)>>> = Arc::default();
        let (book, deed, silent) = (Arc::clone(&rules), Arc::clone(&once), Arc::clone(&unheard));
        world.script(Some(Box::new(move |op| {
            if lock(&silent).is_some_and(|(what, of)| op.what == what && op.partition == Some(of)) {
                return Some(Fate::Lost);
            }
            if let Some((_, deed)) = lock(&deed).take_if(|(is_it, _)| is_it(op)) {
                deed(op);
            }
            let mut rules = lock(&book);
            let rule = rules
                .iter_mut()
                .find(|(who, what, _, left)| (*who, *what) == (op.process, op.what) && *left > 0)?;
            rule.3 -= 1;
            Some(rule.2)
        })));
        Self { world, subject, fleet, judge, rules, once, unheard, made: AtomicU64::new(0) }
    }

    /// Bytes that a partition may take in workers that start from now on.
    pub(crate) fn remember_at_most(&mut self, bytes: usize) {
        self.subject = self.subject.clone().remembering(bytes);
    }

    /// Starts a worker; it owns the partition once nobody else does.
    pub(crate) fn worker(&self, name: &str) -> ProcessId {
        let ports = self.world.process(name);
        let process = ports.process;
        self.world.sim.spawn(process, (self.subject.boot(&self.fleet))(ports));
        process
    }

    /// From now on, `times` calls of `what` by a worker have this fate.
    pub(crate) fn rule(&self, worker: ProcessId, what: &'static str, fate: Fate, times: usize) {
        lock(&self.rules).push((worker, what, fate, times));
    }

    /// Does something right before the next call of `what`.
    pub(crate) fn before(&self, what: &'static str, deed: impl FnOnce() + Send + 'static) {
        *lock(&self.once) = Some((Box::new(move |op| op.what == what), Box::new(|_| deed())));
    }

    /// The same, right before the first call of which something is true.
    #[cfg(not(feature = "runtime"))]
    pub(crate) fn before_the(
        &self,
        is_it: impl FnMut(&Op<'_>) -> bool + Send + 'static,
        deed: impl FnOnce(&Op<'_>) + Send + 'static,
    ) {
        *lock(&self.once) = Some((Box::new(is_it), Box::new(deed)));
    }

    /// Whoever reads the end of one history pack for the second time sleeps for a while before it hears of
    /// it: a collector, which first reads the footer, and then is about to delete it. From then on no call
    /// has a fate that was written down.
    #[cfg(not(feature = "runtime"))]
    pub(crate) fn sleep_before_deletion(&self, ms: u64) {
        let mut read: BTreeSet<(ProcessId, String)> = BTreeSet::new();
        let is_it = move |op: &Op<'_>| {
            let is_end = op.what == "get_tail" && op.target.starts_with("v1/history/");
            is_end && !read.insert((op.process, op.target.to_owned()))
        };
        let (sim, rules) = (self.world.sim.clone(), Arc::clone(&self.rules));
        let deed = move |op: &Op<'_>| {
            sim.pause(op.process, sim.now() + ms);
            // The script that calls this holds them right after it.
            lock(&rules).clear();
        };
        *lock(&self.once) = Some((Box::new(is_it), Box::new(deed)));
    }

    /// From now on no call has a fate that was written down.
    #[cfg(not(feature = "runtime"))]
    pub(crate) fn lift(&self) {
        lock(&self.rules).clear();
    }

    /// The same for all calls.
    pub(crate) fn always(&self, worker: ProcessId, what: &'static str, fate: Fate) {
        self.rule(worker, what, fate, usize::MAX);
    }

    /// From now on no call of `what` about a partition is heard, whoever makes it.
    pub(crate) fn silence(&self, what: &'static str, of: PartitionNo) {
        *lock(&self.unheard) = Some((what, of));
    }

    pub(crate) fn append(&self, version: u64, sku: &str) {
        self.append_to("a", version, sku);
    }

    /// The next event of any aggregate.
    pub(crate) fn append_to(&self, id: &str, version: u64, sku: &str) {
        self.append_at(id, version, sku, 20);
    }

    /// The same, effective at this second of the staged minute.
    pub(crate) fn append_at(&self, id: &str, version: u64, sku: &str, second: u64) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let value = format!(
            r#"{{"id":"e-{number}","type":"ItemAdded","aggregateId":"{id}","version":{version},
                "timestamp":"2023-11-14T22:13:{second}Z","data":{{"sku":"{sku}","qty":1,"price":1}}}}"#
        );
        let draft = self.world.broker.draft(id, &value);
        let draft = Draft { note: Note::Event, version: Some(version), ..draft };
        let partition = partition_of(id, self.world.setup.streams[0].partitions);
        self.world.broker.append(TOPIC, partition, draft).expect("the topic is there");
    }

    /// A record that nobody can read, of no aggregate; where it is.
    pub(crate) fn poison(&self) -> Offset {
        let poison = self.world.broker.draft("nobody", "{not json");
        let poison = Draft { aggregate: None, ..poison };
        self.world.broker.append(TOPIC, HERE, poison).expect("the topic is there")
    }

    /// Events of `a` with these versions, and time to fold them and to write a checkpoint.
    pub(crate) fn events(&self, versions: std::ops::RangeInclusive<u64>) {
        versions.for_each(|version| self.append(version, "s1"));
        self.world.idle(1_500);
    }

    /// The next event of `a`, with this data.
    pub(crate) fn append_raw(&self, id: &str, version: u64, data: &str) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let value = format!(
            r#"{{"id":"e-{number}","type":"ItemAdded","aggregateId":"{id}","version":{version},
                "timestamp":"2023-11-14T22:13:20Z","data":{data}}}"#
        );
        let draft = self.world.broker.draft(id, &value);
        let draft = Draft { note: Note::Event, version: Some(version), ..draft };
        self.world.broker.append(TOPIC, HERE, draft).expect("the topic is there");
    }

    /// What is folded, and where.
    pub(crate) fn subject(&self) -> (Subject, Active) {
        (self.subject.clone(), self.active())
    }

    /// From now on nothing is asked of an aggregate.
    pub(crate) fn forget_about(&self, id: &str) {
        lock(&self.judge).erase(id);
    }

    /// Another lineage is active from now on, if it is done.
    pub(crate) fn take_over(&self, lineage: snapfold::domain::ids::Lineage, done: bool) {
        if done {
            lock(&self.fleet.active).lineage = lineage;
        } else {
            self.world.sim.violation("the refold did not end".to_owned());
        }
    }

    /// Asks a worker for a snapshot of `a`, and gives it time.
    pub(crate) fn snapshot(&self, worker: ProcessId) {
        self.snapshot_of(worker, "a");
    }

    /// The same of any aggregate.
    pub(crate) fn snapshot_of(&self, worker: ProcessId, id: &str) {
        let (sender, _) = oneshot::channel();
        self.command(worker, Command::Snapshot(id.into(), None, Trigger::Manual, sender));
        self.world.idle(500);
    }

    /// Lets a worker cover all it has by a checkpoint and let go of the partition; hears of the end.
    pub(crate) fn drain(&self, worker: ProcessId) -> oneshot::Receiver<()> {
        let (sender, done) = oneshot::channel();
        self.command(worker, Command::Drain(sender));
        done
    }

    /// What a worker says of the partition.
    pub(crate) fn status(&self, worker: ProcessId) -> Status {
        self.status_of(worker, HERE)
    }

    /// What a worker says of one.
    pub(crate) fn status_of(&self, worker: ProcessId, partition: PartitionNo) -> Status {
        let workers = lock(&self.fleet.workers);
        let (_, _, handle, _) = workers.iter().find(|(process, ..)| *process == worker).expect("it runs");
        let statuses = handle.statuses.lock().expect("no panic while it is held");
        statuses.get(&partition).cloned().unwrap_or_default()
    }

    /// Lets time pass, moment by moment, until something is so: what a scenario needs before it goes on is
    /// waited for, not hoped for, or it stages something else as soon as a worker takes a call more.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if is_so() {
                return;
            }
            self.world.idle(1);
        }
        self.world.sim.violation(format!("not staged: {what}"));
    }

    /// The low watermark that was acknowledged.
    pub(crate) fn acked(&self) -> Option<Offset> {
        self.acked_of(HERE)
    }

    /// The same of any partition.
    pub(crate) fn acked_of(&self, partition: PartitionNo) -> Option<Offset> {
        self.world.index.acked_watermark(TOPIC, partition, self.active().topic_id)
    }

    fn command(&self, worker: ProcessId, command: Command) {
        let workers = lock(&self.fleet.workers);
        let (_, _, handle, _) = workers.iter().find(|(process, ..)| *process == worker).expect("it runs");
        assert!(handle.send(HERE, command), "it owns the partition");
    }

    /// Lets retention take all that it may take.
    pub(crate) fn forget(&self) {
        self.world.broker.retain(TOPIC, HERE, self.world.protected(TOPIC, HERE));
    }

    pub(crate) fn lose(&self, class: &str) {
        while self.world.bucket.damage(&format!("v1/{class}/"), Damage::Loss).is_some() {}
    }

    /// Packs of the checkpoints that are listed.
    pub(crate) fn listed(&self) -> Vec<PackId> {
        let key = self.partition();
        let list = |ports: Ports| async move { ports.index.checkpoints(&key).await };
        let listed = self.world.ask(1_000, list).expect("it is answered").expect("nothing fails");
        listed.iter().map(|row| row.pack).collect()
    }

    /// A state as a process that owns nothing answers for it, and the events up to `to`.
    pub(crate) fn asked(
        &self,
        id: &str,
        selector: Selector,
        to: u64,
    ) -> (Asked<Answer>, Asked<Vec<EventView>>) {
        let (subject, active, id) = (self.subject.clone(), self.active(), id.to_owned());
        let asked = self.world.ask(600_000, move |ports| async move {
            let reader = subject.reader(&ports, active);
            let lookup = subject.lookup(&ports, active, reader, Arc::new(NoOwners));
            let answer = lookup.state(&id, selector, Freshness::default()).await;
            (answer, lookup.events(&id, Version(1), Some(Version(to)), false, 100).await)
        });
        asked.expect("it is answered")
    }

    /// The aggregates as a process that owns nothing lists them.
    pub(crate) fn aggregates(&self) -> Vec<(Arc<str>, Version)> {
        let (subject, active) = (self.subject.clone(), self.active());
        let asked = self.world.ask(600_000, move |ports| async move {
            let reader = subject.reader(&ports, active);
            let lookup = subject.lookup(&ports, active, reader, Arc::new(NoOwners));
            lookup.aggregates("", None, 100).await
        });
        let items = asked.expect("it is answered").expect("nothing fails");
        items.into_iter().map(|item| (item.id, item.version)).collect()
    }

    /// Loses the object of a class that was written last.
    pub(crate) fn lose_newest(&self, class: &str) {
        let prefix = format!("v1/{class}/");
        let written = self.world.bucket.objects().into_keys().filter(|name| name.starts_with(&prefix));
        // The last part of a name is the pack's id, which starts with the time.
        let newest = written.max_by_key(|name| name.rsplit('/').next().map(str::to_owned));
        let newest = newest.expect("an object of this class was written");
        self.world.bucket.damage(&newest, Damage::Loss);
    }

    pub(crate) fn active(&self) -> Active {
        *lock(&self.fleet.active)
    }

    pub(crate) fn partition(&self) -> PartitionKey {
        PartitionKey { topic: TOPIC.into(), partition: HERE, lineage: self.active().lineage }
    }

    pub(crate) fn key(&self) -> AggregateKey {
        AggregateKey { kind: self.world.setup.streams[0].kind.into(), id: "a".into() }
    }

    /// A write of a low watermark by somebody who is not on the stage (any more).
    pub(crate) fn watermark(&self, low_watermark: i64) {
        self.watermark_of(HERE, low_watermark);
    }

    fn watermark_of(&self, partition: PartitionNo, low_watermark: i64) {
        let row = WatermarkRow {
            key: PartitionKey { partition, ..self.partition() },
            topic_id: self.active().topic_id,
            leader_epoch: 0,
            low_watermark: Offset(low_watermark),
        };
        let put = |ports: Ports| async move { ports.index.put_watermark(row).await };
        self.world.ask(1_000, put).expect("it is answered").expect("nothing fails");
    }

    /// The head of `a` from rest, where an error counts as no answer.
    pub(crate) fn head(&self) -> Option<Found> {
        self.at(AsOf::Head)
    }

    /// The same as of any moment.
    pub(crate) fn at(&self, as_of: AsOf) -> Option<Found> {
        let (subject, active) = (self.subject.clone(), self.active());
        let (partition, key) = (self.partition(), self.key());
        let asked = self.world.ask(600_000, move |ports| async move {
            subject.reader(&ports, active).state(&partition, &key, as_of).await.ok()
        });
        asked.expect("it is answered")
    }

    /// A head that was durable must not be replaced by an older one; no answer is fine.
    pub(crate) fn not_below(&self, version: u64, found: Option<&Found>) {
        let below = match found {
            None => false,
            Some(Found::State(aggregate, _)) => aggregate.version < Version(version),
            Some(_) => true,
        };
        if below {
            self.world.sim.violation(format!("the head was {version} and is {found:?}"));
        }
    }

    /// From now on reads see no rumour.
    pub(crate) fn deaf_to_rumours(&self) {
        self.world.index.spare(DEAF_TO_RUMOURS);
    }

    /// The end: every question about `a`, by reads that see no rumour.
    pub(crate) fn ask_all(self) -> Outcome {
        self.world.index.spare(DEAF_TO_RUMOURS);
        final_check(&self.world, &self.subject, &self.fleet, &self.judge, Moments::All);
        self.world.finish()
    }

    /// A worker, and its questions.
    pub(crate) fn asked_of(&self, worker: ProcessId) -> (Handle, Lookup) {
        let workers = lock(&self.fleet.workers);
        let (_, _, handle, lookup) =
            workers.iter().find(|(process, ..)| *process == worker).expect("it runs");
        (handle.clone(), lookup.clone())
    }

    /// Who merges the history that a worker owns.
    #[cfg(not(feature = "runtime"))]
    pub(crate) fn compactor_of(&self, worker: ProcessId) -> Compactor {
        lock(&self.fleet.compactors).get(&worker).cloned().expect("it runs")
    }

    /// Full rows of `a`.
    pub(crate) fn full_rows(&self) -> usize {
        self.world.index.acked_fulls(&self.key(), self.active().lineage).len()
    }

    /// The head of `a` as a worker answers it, where an error counts as no answer.
    pub(crate) fn head_of(&self, worker: ProcessId) -> Option<Found> {
        let lookup: Lookup = {
            let workers = lock(&self.fleet.workers);
            workers.iter().find(|(process, ..)| *process == worker).expect("it runs").3.clone()
        };
        let answer: Arc<Mutex<Option<Found>>> = Arc::default();
        let slot = Arc::clone(&answer);
        self.world.sim.spawn(worker, async move {
            let outcome = lookup.state("a", Selector::Head, Freshness::default()).await;
            *lock(&slot) = found(&outcome).ok();
        });
        self.world.idle(1_000);
        lock(&answer).take()
    }
}
