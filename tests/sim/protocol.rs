//! Seeds of the protocol: chaos with questions, then everything heals, settles, and every answer is compared.

use crate::archiving::archive_once;
use crate::collection::collect_once;
use crate::creation::create_one;
use crate::dropping;
use crate::executor::lock;
use crate::judge::Judge;
use crate::merging::compact_one;
use crate::plan::FaultPlan;
use crate::ports::producer::StreamSpec;
use crate::purging::{self, erase_one, purge_once};
use crate::questions::{Moments, ask_one, final_check};
use crate::rebuild;
use crate::refold;
use crate::retention::delete_some;
use crate::rng::Rng;
use crate::runner::{self, Case, Seeds};
use crate::schedules::{self, change_one};
use crate::subject::{Fleet, Running, Subject};
use crate::world::{Outcome, Parts, Setup, World};
use snapfold::codec::pack::Class;
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::row::PartitionKey;
use snapfold::upkeep::retention::History;
use snapfold::worker::Status;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Virtual milliseconds of chaos.
const CHAOS_MS: u64 = 12_000;
/// Virtual milliseconds between two questions.
const ASK_EVERY_MS: u64 = 40;
/// Virtual milliseconds between two snapshots that are asked for.
const CREATE_EVERY_MS: u64 = 130;
/// Virtual milliseconds between two compactions.
const COMPACT_EVERY_MS: u64 = 170;
/// Virtual milliseconds between two deletions that are asked for.
const DELETE_EVERY_MS: u64 = 210;
/// Virtual milliseconds between two garbage collections.
const COLLECT_EVERY_MS: u64 = 900;
/// Virtual milliseconds between two passes of the archive's mover.
const ARCHIVE_EVERY_MS: u64 = 700;
/// Virtual milliseconds between two purges.
const PURGE_EVERY_MS: u64 = 800;
/// Virtual milliseconds between two changes of schedules.
const CHANGE_EVERY_MS: u64 = 310;
/// Virtual milliseconds in which everything must settle, or at least have come further.
const SETTLE_MS: u64 = 60_000;
/// How often that is waited for. Where an aggregate takes more than the memory of its partition, each of its
/// events is folded, covered and evicted by itself (seed 1445, counted).
const SETTLE_ROUNDS: u32 = 4;

/// What may be damaged where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damageable {
    Nothing,
    /// Snapshots of both classes.
    Snapshots,
    /// Checkpoints, too. Then nothing is forgotten by the log: events whose only copy was a lost checkpoint
    /// would be gone, and a lineage that starts in the middle of a log has another history than the ledger's.
    All,
}

impl Damageable {
    fn drawn(seed: u64) -> Self {
        match Rng::new(seed ^ 0xda_3a9e).below(100) {
            0..65 => Self::Nothing,
            65..83 => Self::Snapshots,
            _ => Self::All,
        }
    }

    fn prefixes(self) -> Vec<String> {
        let prefix = |class: Class| format!("v1/{}/", class.name());
        match self {
            Self::Nothing => Vec::new(),
            Self::Snapshots => vec![prefix(Class::Full), prefix(Class::History)],
            Self::All => vec![prefix(Class::Full), prefix(Class::History), prefix(Class::Checkpoint)],
        }
    }

    fn tune(self, plan: &mut FaultPlan) {
        if self != Self::Nothing {
            // Twice as often as the plan would: an object that nobody reads again shows nothing.
            plan.damage_every_ms = if plan.damage_every_ms > 0 { plan.damage_every_ms / 2 } else { 1_000 };
        }
        if self == Self::All {
            plan.retention_every_ms = 0;
        }
    }
}

fn every(world: &Parts, ms: u64, deed: Arc<dyn Fn(&Parts) + Send + Sync>) {
    let (this, sim) = (world.clone(), world.sim.clone());
    sim.at(sim.now() + ms, move || {
        deed(&this);
        every(&this, ms, deed);
    });
}

/// The same, but not while everybody holds still.
fn every_but(still: &Arc<AtomicBool>, world: &Parts, ms: u64, deed: impl Fn(&Parts) + Send + Sync + 'static) {
    let still = Arc::clone(still);
    let deed = move |world: &Parts| {
        if !still.load(Ordering::Relaxed) {
            deed(world);
        }
    };
    every(world, ms, Arc::new(deed));
}

fn is_quiet(world: &World, fleet: &Fleet) -> bool {
    let active = *lock(&fleet.active);
    let spec = &world.setup.streams[0];
    let workers = lock(&fleet.workers);
    (0..spec.partitions).map(PartitionNo).all(|partition| {
        let Ok(bounds) = world.broker.bounds(spec.topic, partition) else { return false };
        let owner = world.groups[spec.topic].owner(partition);
        let worker = workers.iter().find(|(process, of, ..)| Some(*process) == owner && *of == active);
        let Some((_, _, handle, _)) = worker else { return false };
        let statuses = handle.statuses.lock().expect("no panic while it is held");
        // Offsets at the end may hold no record.
        let covered = |offset: Offset| {
            let rest = world.broker.fetch(spec.topic, partition, offset, bounds.end, 1);
            rest.is_ok_and(|fetched| fetched.records.is_empty())
        };
        // While readers see the watermark come, their answers may be "not caught up" (seed 1068, given).
        let log = PartitionKey { topic: spec.topic.into(), partition, lineage: active.lineage };
        // Its writer may have started anew meanwhile, and then finds it there (seed 588, counted).
        let told = world.index.seen_mark(&log, active.topic_id);
        statuses.get(&partition).is_some_and(|status| {
            covered(status.position)
                && covered(status.low_watermark)
                && told.is_some_and(covered)
                && status.halted.is_none()
        })
    })
}

/// How far each partition has been covered by the workers of the active lineage.
fn progress(fleet: &Fleet) -> BTreeMap<PartitionNo, Offset> {
    let active = *lock(&fleet.active);
    let mut low = BTreeMap::new();
    for (_, _, handle, _) in lock(&fleet.workers).iter().filter(|(_, of, ..)| *of == active) {
        let statuses = handle.statuses.lock().expect("no panic while it is held");
        for (partition, status) in statuses.iter() {
            let furthest = low.entry(*partition).or_insert(status.low_watermark);
            *furthest = status.low_watermark.max(*furthest);
        }
    }
    low
}

/// What the workers say of their partitions, for people.
fn told(fleet: &Fleet) -> Vec<String> {
    let brief = |(partition, status): (&PartitionNo, &Status)| {
        let halted = (&status.halted, &status.refused);
        let counts = &status.counts;
        format!(
            "{partition}: position {} LW {} {halted:?} residents {} memory {} live {} loads {} abandoned {}+{} checkpoints {} letters {}",
            status.position,
            status.low_watermark,
            status.residents,
            status.memory_bytes,
            status.live_checkpoints,
            counts.loads,
            counts.snapshots_abandoned,
            counts.checkpoints_abandoned,
            counts.checkpoints,
            counts.dead_letters
        )
    };
    let workers = lock(&fleet.workers);
    let say = |(process, of, handle, _): &Running| {
        let statuses = handle.statuses.lock().expect("no panic while it is held");
        format!("{process:?} {of:?} {:?}", statuses.iter().map(brief).collect::<Vec<_>>())
    };
    workers.iter().map(say).collect()
}

/// Asks, makes and deletes all the time, from now on, but not while what is answered is true.
fn busy(
    seed: u64,
    world: &Parts,
    (subject, fleet): (&Subject, &Fleet),
    judge: &Arc<Mutex<Judge>>,
) -> Arc<AtomicBool> {
    let still: Arc<AtomicBool> = Arc::default();
    let (asker, asked) = (fleet.clone(), Arc::clone(judge));
    every_but(&still, world, ASK_EVERY_MS, move |world| ask_one(world, &asker, &asked));
    let (asker, asked) = (fleet.clone(), Arc::clone(judge));
    every_but(&still, world, CREATE_EVERY_MS, move |world| create_one(world, &asker, &asked));
    let (asker, asked) = (fleet.clone(), Arc::clone(judge));
    every_but(&still, world, COMPACT_EVERY_MS, move |world| compact_one(world, &asker, &asked));
    let (subject_too, deleter, asked) = (subject.clone(), fleet.clone(), Arc::clone(judge));
    every_but(&still, world, DELETE_EVERY_MS, move |world| {
        delete_some(world, &subject_too, &deleter, &asked)
    });
    let (subject_too, collecting) = (subject.clone(), fleet.clone());
    every_but(&still, world, COLLECT_EVERY_MS, move |world| collect_once(world, &subject_too, &collecting));
    let (subject_too, moving) = (subject.clone(), fleet.clone());
    every_but(&still, world, ARCHIVE_EVERY_MS, move |world| archive_once(world, &subject_too, &moving));
    if subject.erases {
        let (subject_too, purging) = (subject.clone(), fleet.clone());
        every_but(&still, world, PURGE_EVERY_MS, move |world| purge_once(world, &subject_too, &purging));
        for time in purging::times(seed, CHAOS_MS) {
            let (this, asker, asked) = (world.clone(), fleet.clone(), Arc::clone(judge));
            world.sim.at(time, move || erase_one(&this, &asker, &asked));
        }
    }
    if subject.schedules {
        let rng = Mutex::new(Rng::new(seed ^ 0x5c4e_d01e));
        let (asker, asked) = (fleet.clone(), Arc::clone(judge));
        let change = move |world: &Parts| {
            if !world.is_healed() {
                change_one(world, &asker, &asked, &rng);
            }
        };
        every_but(&still, world, CHANGE_EVERY_MS, change);
    }
    still
}

/// One seed.
pub(crate) fn play(case: Case) -> Outcome {
    let mut subject = Subject::drawn(case.seed, case.versions);
    let mut setup = Setup::orders(case.versions);
    let damage = Damageable::drawn(case.seed);
    let losses = if damage == Damageable::Nothing { rebuild::moments(case.seed) } else { Vec::new() };
    // What is damaged cannot be purged; and what schedules took is counted by what is still there.
    subject.erases = purging::of_seed(case.seed) && damage == Damageable::Nothing && !subject.schedules;
    setup.damageable = damage.prefixes();
    setup.verbose = case.verbose;
    setup.streams = vec![StreamSpec { shape: subject.shape, ..setup.streams[0].clone() }];
    // A lineage that starts in the middle of a log has another history than the ledger's, so logs that are
    // cut or made again keep their start.
    let world = World::tuned(case.seed, setup, |plan| {
        // Nothing is gone that the log has.
        if subject.history != History::Forever && plan.retention_every_ms == 0 {
            plan.retention_every_ms = 1_000;
        }
        // The log must reach back to a low watermark that went back with the index.
        if plan.truncation_every_ms > 0 || plan.recreation_every_ms > 0 || !losses.is_empty() {
            plan.retention_every_ms = 0;
        }
        damage.tune(plan);
    });
    let fleet = Fleet::new(&world);
    let active = *lock(&fleet.active);
    let judge = Arc::new(Mutex::new(Judge::new(&subject, &world, active)));
    world.start_workers(subject.boot(&fleet));
    let operator = fleet.clone();
    every(&world, 300, Arc::new(move |world| operator.operate(world)));
    rebuild::schedule(&world, &losses);
    let still = busy(case.seed, &world, (&subject, &fleet), &judge);
    for time in refold::times(case.seed, CHAOS_MS) {
        let (world_too, subject, fleet, judge) =
            (world.clone(), subject.clone(), fleet.clone(), Arc::clone(&judge));
        world.sim.at(time, move || refold::start(&world_too, &subject, &fleet, &judge));
    }
    let violated =
        |world: &World| if world.sim.violations().is_empty() { Ok(()) } else { Err("stop".to_owned()) };
    world.chaos(CHAOS_MS, &mut |world| violated(world));
    if world.sim.violations().is_empty() {
        world.heal();
        world.idle(2_000);
        world.stop_producer();
        let settled = (0..SETTLE_ROUNDS).any(|_| {
            let before = progress(&fleet);
            world.settle(SETTLE_MS, &mut |world| is_quiet(world, &fleet)) || progress(&fleet) == before
        });
        if !settled || !is_quiet(&world, &fleet) {
            world.sim.violation(format!("it does not settle: {:?}", told(&fleet)));
        }
    }
    if world.sim.violations().is_empty() && subject.schedules && damage == Damageable::Nothing {
        // Whoever asks all the time keeps a worker that reads one at a time from walking its ids (seed 29).
        still.store(true, Ordering::Relaxed);
        schedules::check(&world);
        still.store(false, Ordering::Relaxed);
    }
    if world.sim.violations().is_empty() && subject.erases {
        still.store(true, Ordering::Relaxed);
        purging::finish(&world, &subject);
        still.store(false, Ordering::Relaxed);
    }
    if world.sim.violations().is_empty() {
        let undead = world.index.undead();
        if !undead.is_empty() {
            world.sim.violation(format!("what was deleted is back: {undead:?}"));
        }
        final_check(&world, &subject, &fleet, &judge, Moments::of_seed(case.seed));
    }
    if world.sim.violations().is_empty() {
        // Whoever makes packs all the time never lets garbage be all that is left of a lineage.
        still.store(true, Ordering::Relaxed);
        dropping::check(&world, &subject, &fleet);
    }
    world.finish()
}

/// Goal: whatever fails, no answer is wrong and everything settles. Method: random seeds in both version
/// modes.
#[test]
fn no_answer_is_ever_wrong() {
    runner::run(Seeds::from_env(40), play).expect_clean("no_answer_is_ever_wrong");
}
