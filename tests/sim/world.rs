//! One world: executor, ports, producer, workers, nemesis; and the phases of a seed: chaos, heal, settle,
//! ask, finish.
//!
//! *If it fails*: what must never happen goes to [`Sim::violation`], and [`World::finish`] tells. *What may
//!   leak*: the executor and the ports hold each other; dropping the world cuts that.

use crate::executor::{ProcessId, Sim, WORLD, lock};
use crate::nemesis;
use crate::plan::FaultPlan;
use crate::ports::blobs::Bucket;
use crate::ports::broker::Broker;
use crate::ports::clock::{SimClock, Skews};
use crate::ports::group::Coordinator;
use crate::ports::index::Cluster;
use crate::ports::log::SimLog;
use crate::ports::payload::{self, Payloads, Shape};
use crate::ports::producer::{Producer, StreamSpec, VersionMode};
use crate::ports::{Gate, Script};
use crate::rng::Rng;
use crate::stats::{Count, Stats};
use futures_util::future::BoxFuture;
use snapfold::clock::Clock;
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::kafka::{Group, Log};
use snapfold::store::blobs::{ArchivedBlobs, Blobs};
use snapfold::store::index::Index;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a world is made of, apart from its seed and its faults.
#[derive(Clone)]
pub(crate) struct Setup {
    /// Whether events carry versions.
    pub(crate) versions: VersionMode,
    /// Streams, each with a topic and a group of its own.
    pub(crate) streams: Vec<StreamSpec>,
    /// Workers that run at the same time.
    pub(crate) workers: usize,
    /// Blobs whose names start with one of these may be damaged where they lie.
    pub(crate) damageable: Vec<String>,
    /// What events say.
    pub(crate) payloads: Payloads,
    /// Prints every decision.
    pub(crate) verbose: bool,
}

impl Setup {
    /// Three workers, and one stream of 15 orders in 3 partitions.
    pub(crate) fn orders(versions: VersionMode) -> Self {
        let orders =
            StreamSpec { kind: "order", topic: "orders", partitions: 3, aggregates: 15, shape: Shape::Rules };
        Self {
            versions,
            streams: vec![orders],
            workers: 3,
            damageable: Vec::new(),
            payloads: Arc::new(payload::draw),
            verbose: false,
        }
    }
}

/// The ports of one stream, for one process.
#[derive(Clone)]
pub(crate) struct StreamPorts {
    /// Which.
    pub(crate) spec: StreamSpec,
    /// Its topic.
    pub(crate) log: Arc<dyn Log>,
    /// Its group; joined by the first call.
    pub(crate) group: Arc<dyn Group>,
}

/// All ports of one process.
#[derive(Clone)]
pub(crate) struct Ports {
    /// Who.
    pub(crate) process: ProcessId,
    /// The executor, for [`Sim::spawn`] under `process`.
    pub(crate) sim: Sim,
    /// Time and randomness.
    pub(crate) clock: Arc<dyn Clock>,
    /// Rows.
    pub(crate) index: Arc<dyn Index>,
    /// Objects, of the bucket and the archive.
    pub(crate) blobs: Arc<dyn Blobs>,
    /// The same, for whoever needs to tell them apart.
    pub(crate) archived: Arc<ArchivedBlobs>,
    /// Streams, in the order of the setup.
    pub(crate) streams: Vec<StreamPorts>,
}

/// Starts a worker: the future is its main task; when it ends, so does the process.
pub(crate) type Boot = Arc<dyn Fn(Ports) -> BoxFuture<'static, ()> + Send + Sync>;

struct Slot {
    process: Option<ProcessId>,
    lives: u32,
    restart_at: Option<u64>,
}

/// The shared parts of a world.
#[derive(Clone)]
pub(crate) struct Parts {
    /// The executor.
    pub(crate) sim: Sim,
    /// The gate of all calls.
    pub(crate) gate: Gate,
    /// The index.
    pub(crate) index: Cluster,
    /// The blob store.
    pub(crate) bucket: Bucket,
    /// The broker.
    pub(crate) broker: Broker,
    /// The groups, by topic.
    pub(crate) groups: BTreeMap<&'static str, Coordinator>,
    /// The producer.
    pub(crate) producer: Producer,
    /// Wall clocks.
    pub(crate) skews: Skews,
    /// Its setup.
    pub(crate) setup: Setup,
    slots: Arc<Mutex<Vec<Slot>>>,
    boot: Arc<Mutex<Option<Boot>>>,
    producing: Arc<AtomicBool>,
    healed: Arc<AtomicBool>,
    /// How many wait for an answer.
    asking: Arc<AtomicUsize>,
}

/// Somebody waits for an answer, until this is dropped.
pub(crate) struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One world; dropping it ends it.
pub(crate) struct World(Parts);

impl Deref for World {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.0.sim.clear();
    }
}

/// What became of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Counters.
    pub(crate) stats: Stats,
    /// Hash over all that happened.
    pub(crate) trace_hash: u64,
    /// What must never happen and did.
    pub(crate) violations: Vec<String>,
}

impl Parts {
    /// The ports of a process.
    pub(crate) fn ports(&self, process: ProcessId) -> Ports {
        let clock = SimClock { sim: self.sim.clone(), process, skews: self.skews.clone() };
        let stream = |spec: &StreamSpec| {
            let group = self.groups.get(spec.topic)?;
            let log = SimLog {
                gate: self.gate.clone(),
                broker: self.broker.clone(),
                group: group.clone(),
                process,
                topic: spec.topic.into(),
            };
            let group = Arc::new(group.port(log.clone()));
            Some(StreamPorts { spec: spec.clone(), log: Arc::new(log), group })
        };
        let (live, archive) = (self.bucket.port(process), self.bucket.archive_port(process));
        let archived = Arc::new(ArchivedBlobs::new(Arc::new(live), Arc::new(archive)));
        Ports {
            process,
            sim: self.sim.clone(),
            clock: Arc::new(clock),
            index: Arc::new(self.index.port(process)),
            blobs: Arc::clone(&archived) as Arc<dyn Blobs>,
            archived,
            streams: self.setup.streams.iter().filter_map(stream).collect(),
        }
    }

    /// Processes of the workers that live now, frozen ones too.
    pub(crate) fn workers(&self) -> Vec<ProcessId> {
        let slots = lock(&self.slots);
        slots.iter().filter_map(|slot| slot.process).filter(|process| self.sim.is_alive(*process)).collect()
    }

    /// Somebody asks something.
    pub(crate) fn asks(&self) -> Waits {
        self.asking.fetch_add(1, Ordering::Relaxed);
        Waits(Arc::clone(&self.asking))
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_anyone_asking(&self) -> bool {
        self.asking.load(Ordering::Relaxed) > 0
    }

    /// True once the world has been healed.
    pub(crate) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// Lowest offset that retention must leave there: the smaller of what is committed and what the index has
    /// acknowledged; the log's start where either is missing.
    pub(crate) fn protected(&self, topic: &str, partition: PartitionNo) -> Offset {
        let Ok(bounds) = self.broker.bounds(topic, partition) else { return Offset(0) };
        let committed = self.broker.committed(topic, partition);
        let acked = self.index.acked_watermark(topic, partition, bounds.topic_id);
        committed.zip(acked).map_or(bounds.start, |(committed, acked)| committed.min(acked).min(bounds.end))
    }

    fn start(&self, slot: usize) {
        let Some(boot) = lock(&self.boot).clone() else { return };
        let lives = {
            let mut slots = lock(&self.slots);
            slots[slot].lives += 1;
            slots[slot].restart_at = None;
            slots[slot].lives
        };
        let process = self.sim.process(&format!("worker-{slot}.{lives}"));
        lock(&self.slots)[slot].process = Some(process);
        if lives > 1 {
            self.sim.count(Count::Restart);
        }
        let skew = self.gate.plan(|plan| plan.skew_ms);
        if skew > 0 {
            let drawn = self.sim.draw(|rng| rng.below(2 * skew + 1));
            self.skews.set(process, i64::try_from(drawn).unwrap_or(0) - i64::try_from(skew).unwrap_or(0));
            self.sim.count(Count::ClockSkew);
        }
        let main = boot(self.ports(process));
        let sim = self.sim.clone();
        self.sim.spawn(process, async move {
            main.await;
            sim.count(Count::Exit);
            sim.kill(process);
        });
    }

    /// Starts dead workers again, and looks again later.
    fn supervise(&self) {
        let now = self.sim.now();
        let count = lock(&self.slots).len();
        for slot in 0..count {
            let (process, due) = {
                let slots = lock(&self.slots);
                (slots[slot].process, slots[slot].restart_at)
            };
            if process.is_some_and(|process| self.sim.is_alive(process)) {
                continue;
            }
            match due {
                Some(due) if due <= now => self.start(slot),
                Some(_) => {}
                None => {
                    let most = self.gate.plan(|plan| plan.restart_ms).max(1);
                    let due = now + self.sim.draw(|rng| rng.between(1, most));
                    lock(&self.slots)[slot].restart_at = Some(due);
                }
            }
        }
        let this = self.clone();
        self.sim.at(now + 20, move || this.supervise());
    }

    fn produce(&self) {
        let this = self.clone();
        let every = self.gate.plan(|plan| plan.event_every_ms).max(1);
        let (wait, burst) = self.sim.draw(|rng| {
            let wait = if rng.percent(5) { rng.between(0, 20 * every) } else { rng.between(1, every) };
            (wait, if rng.percent(10) { rng.between(2, 10) } else { 1 })
        });
        self.sim.at(self.sim.now() + wait, move || {
            if this.producing.load(Ordering::Relaxed) {
                (0..burst).for_each(|_| this.producer.produce());
                this.produce();
            }
        });
    }
}

impl World {
    /// The world of a seed, with the faults that the seed draws.
    pub(crate) fn new(seed: u64, setup: Setup) -> Self {
        Self::tuned(seed, setup, |_| {})
    }

    /// The same, after `tune` has changed the plan.
    pub(crate) fn tuned(seed: u64, setup: Setup, tune: impl FnOnce(&mut FaultPlan)) -> Self {
        let mut plan = FaultPlan::drawn(&mut Rng::new(seed ^ 0x5e_ed0f_fa17));
        tune(&mut plan);
        Self::planned(seed, setup, plan)
    }

    /// A world with exactly these faults.
    pub(crate) fn planned(seed: u64, setup: Setup, plan: FaultPlan) -> Self {
        let sim = Sim::new(seed, setup.verbose);
        sim.set_stall(plan.stall);
        let gate = Gate::new(sim.clone(), plan);
        let broker = Broker::new(gate.clone());
        let mut groups = BTreeMap::new();
        for spec in &setup.streams {
            broker.create(&spec.topic.into(), spec.partitions);
            groups.insert(spec.topic, Coordinator::new(gate.clone(), spec.partitions));
        }
        let producer = Producer::new(
            gate.clone(),
            broker.clone(),
            &setup.streams,
            setup.versions,
            setup.payloads.clone(),
        );
        Self(Parts {
            index: Cluster::new(gate.clone()),
            bucket: Bucket::new(gate.clone()),
            sim,
            gate,
            broker,
            groups,
            producer,
            skews: Skews::default(),
            setup,
            slots: Arc::default(),
            boot: Arc::default(),
            producing: Arc::default(),
            healed: Arc::default(),
            asking: Arc::default(),
        })
    }

    /// Starts the setup's workers, and from now on starts again those that die.
    pub(crate) fn start_workers(&self, boot: Boot) {
        *lock(&self.boot) = Some(boot);
        for slot in 0..self.setup.workers {
            lock(&self.slots).push(Slot { process: None, lives: 0, restart_at: None });
            self.0.start(slot);
        }
        self.0.supervise();
    }

    /// Starts the producer.
    pub(crate) fn start_producer(&self) {
        if !self.producing.swap(true, Ordering::Relaxed) {
            self.0.produce();
        }
    }

    /// Stops it.
    pub(crate) fn stop_producer(&self) {
        self.producing.store(false, Ordering::Relaxed);
    }

    /// Decides the fate of chosen calls, for directed scenarios.
    pub(crate) fn script(&self, script: Option<Script>) {
        self.gate.set_script(script);
    }

    /// Producer and faults for `ms`; `check` is called after every step, and the first thing it says ends the
    /// phase.
    pub(crate) fn chaos(&self, ms: u64, check: &mut dyn FnMut(&World) -> Result<(), String>) {
        self.start_producer();
        nemesis::start(&self.0);
        self.run(ms, check);
    }

    /// Runs for `ms` as things are.
    pub(crate) fn run(&self, ms: u64, check: &mut dyn FnMut(&World) -> Result<(), String>) {
        let deadline = self.sim.now() + ms;
        while self.sim.step_until(deadline) {
            if let Err(violation) = check(self) {
                return self.sim.violation(violation);
            }
        }
    }

    /// Runs for `ms` without a check.
    pub(crate) fn idle(&self, ms: u64) {
        self.run(ms, &mut |_| Ok(()));
    }

    /// Ends all faults: nothing fails, is late or dies from now on, and what was frozen goes on. What is on
    /// its way (late writes, late notices) still arrives.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        let healed = self.gate.plan(FaultPlan::healed);
        self.gate.set_plan(healed);
        self.gate.set_script(None);
        self.sim.resume_all();
        self.sim.note("heal", 0, 0);
    }

    /// Runs until `quiet`, asked every 20 ms, at most for `ms`; whether it got quiet.
    pub(crate) fn settle(&self, ms: u64, quiet: &mut dyn FnMut(&World) -> bool) -> bool {
        let deadline = self.sim.now() + ms;
        loop {
            if quiet(self) {
                return true;
            }
            if self.sim.now() >= deadline {
                return false;
            }
            self.idle(20);
        }
    }

    /// Runs a question with ports that never fail, as a process of its own, and the world with it; `None` if
    /// it is not answered within `ms`.
    pub(crate) fn ask<T, F>(&self, ms: u64, question: impl FnOnce(Ports) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let process = self.sim.process("checker");
        self.gate.trust(process);
        let answer = Arc::new(Mutex::new(None));
        let (asked, slot) = (question(self.ports(process)), answer.clone());
        self.sim.spawn(process, async move {
            let answered = asked.await;
            *lock(&slot) = Some(answered);
        });
        let deadline = self.sim.now() + ms;
        while lock(&answer).is_none() && self.sim.step_until(deadline) {}
        self.sim.kill(process);
        lock(&answer).take()
    }

    /// Ends the world and tells what became of it.
    pub(crate) fn finish(self) -> Outcome {
        let stats = self.sim.stats();
        Outcome { stats, trace_hash: self.sim.trace_hash(), violations: self.sim.violations() }
    }
}

/// A process outside of the slots, for tests that drive the ports by hand.
impl World {
    /// A process with its ports; nothing restarts it.
    pub(crate) fn process(&self, name: &str) -> Ports {
        let process = self.sim.process(name);
        assert!(process != WORLD);
        self.ports(process)
    }
}
