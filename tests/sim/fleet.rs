//! The workers of a run, and what an operator does who watches them.

use crate::executor::{ProcessId, lock};
use crate::stats::Count;
use crate::world::Parts;
use snapfold::domain::ids::{Lineage, PartitionNo};
use snapfold::domain::partition::Counts;
use snapfold::lookup::Lookup;
use snapfold::upkeep::compaction::Compactor;
use snapfold::worker::{Handle, Status};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// The operator's book: which lineage is active for which incarnation of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) lineage: Lineage,
    pub(crate) topic_id: u128,
}

/// One started worker: its process, the lineage it works for, and how to ask it.
pub(crate) type Running = (ProcessId, Active, Handle, Lookup);

/// The workers that were started, and how to ask them.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) active: Arc<Mutex<Active>>,
    pub(crate) workers: Arc<Mutex<Vec<Running>>>,
    pub(crate) compactors: Arc<Mutex<BTreeMap<ProcessId, Compactor>>>,
    told: Arc<Mutex<BTreeMap<(ProcessId, PartitionNo), Counts>>>,
    /// Lineages that a refold took over from, and whether it was noted that they are dropped.
    pub(crate) old: Arc<Mutex<BTreeMap<Lineage, (Active, bool)>>>,
    /// The newest lineage that has a number.
    lineages: Arc<AtomicU32>,
}

impl Fleet {
    /// No worker yet; lineage 1 of the topic as it is.
    pub(crate) fn new(world: &Parts) -> Self {
        let active = Active { lineage: Lineage(1), topic_id: topic_id(world) };
        Self {
            active: Arc::new(Mutex::new(active)),
            workers: Arc::default(),
            compactors: Arc::default(),
            told: Arc::default(),
            old: Arc::default(),
            lineages: Arc::new(AtomicU32::new(1)),
        }
    }

    /// A lineage that nobody has used.
    pub(crate) fn new_lineage(&self) -> Lineage {
        Lineage(self.lineages.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Adds what the partitions have counted since this was asked last. Their counts start anew with every
    /// assignment and vanish with their worker, so this is asked often, and before the dead are forgotten.
    pub(crate) fn gather(&self, world: &Parts) {
        let mut told = lock(&self.told);
        for (process, _, handle, _) in lock(&self.workers).iter() {
            let statuses = handle.statuses.lock().expect("no panic while it is held");
            for (partition, status) in statuses.iter() {
                let before = told.insert((*process, *partition), status.counts.clone()).unwrap_or_default();
                let (now, before) = (figures(&status.counts), figures(&before));
                for ((what, now), (_, before)) in now.into_iter().zip(before) {
                    world.sim.count_more(what, if now < before { now } else { now - before });
                }
            }
        }
    }

    /// One random worker that is alive, of whatever lineage.
    pub(crate) fn any_alive(&self, world: &Parts) -> Option<ProcessId> {
        self.gather(world);
        let mut workers: Vec<ProcessId> = lock(&self.workers).iter().map(|(process, ..)| *process).collect();
        workers.retain(|process| world.sim.is_alive(*process));
        (!workers.is_empty()).then(|| workers[world.sim.draw(|rng| rng.index(workers.len()))])
    }

    /// What an operator does who reads the status: where a partition stands still because its log is another
    /// one, a new lineage is started and all workers with it.
    pub(crate) fn operate(&self, world: &Parts) {
        self.gather(world);
        let active = *lock(&self.active);
        let lives = world.workers();
        lock(&self.workers).retain(|(process, ..)| lives.contains(process));
        let stuck = lock(&self.workers).iter().any(|(_, of, handle, _)| {
            let statuses = handle.statuses.lock().expect("no panic while it is held");
            let still = |status: &Status| status.refused.is_some() || status.halted.is_some();
            *of == active && statuses.values().any(still)
        });
        if stuck {
            world.sim.tell(|| {
                let workers = lock(&self.workers);
                let say = |handle: &Handle| {
                    let statuses = handle.statuses.lock().expect("no panic while it is held");
                    let why = |(at, status): (&PartitionNo, &Status)| {
                        format!("{at}: {:?} {:?}", status.halted, status.refused)
                    };
                    statuses.iter().map(why).collect::<Vec<_>>()
                };
                format!(
                    "a new lineage: {:?}",
                    workers.iter().map(|(.., handle, _)| say(handle)).collect::<Vec<_>>()
                )
            });
            let lineage = self.new_lineage();
            *lock(&self.active) = Active { lineage, topic_id: topic_id(world) };
            lives.into_iter().for_each(|process| world.sim.kill(process));
        }
    }
}

fn figures(counts: &Counts) -> [(Count, u64); 5] {
    [
        (Count::Load, counts.loads),
        (Count::Eviction, counts.evictions),
        (Count::Quarantine, counts.quarantined),
        (Count::Adoption, counts.adoptions),
        (Count::FormChange, counts.form_changes),
    ]
}

/// Kafka's id of the topic as it is.
pub(crate) fn topic_id(world: &Parts) -> u128 {
    let spec = &world.setup.streams[0];
    world.broker.bounds(spec.topic, PartitionNo(0)).map_or(0, |bounds| bounds.topic_id)
}
