//! Refolds: a new reducer folds what is stored into a lineage of its own while workers go on, dies on the way
//! and goes on, and takes over. What it made is judged by all the questions that others ask afterwards, with
//! the ledger of the new reducer.

use crate::executor::lock;
use crate::judge::Judge;
#[cfg(not(feature = "runtime"))]
use crate::ports::Fate;
use crate::rng::Rng;
use crate::stats::Count;
use crate::subject::{Active, Fleet, Subject};
#[cfg(not(feature = "runtime"))]
use crate::world::Outcome;
use crate::world::{Parts, Ports};
use snapfold::domain::error::{Error, ErrorKind};
use snapfold::domain::ids::{Lineage, Offset, PartitionNo};
use snapfold::upkeep::refold::{Cuts, Refold};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Percent of the seeds that have refolds.
const SEEDS_PERCENT: u32 = 35;
/// Tries of one refold.
const TRIES: u32 = 12;
/// Between two looks at how it is going.
const LOOK_MS: u64 = 20;

type Told = Result<BTreeMap<PartitionNo, Offset>, Error>;

/// When a seed starts refolds, in virtual milliseconds of its chaos.
pub(crate) fn times(seed: u64, chaos_ms: u64) -> Vec<u64> {
    // A generator of its own: what a seed means otherwise stays as it was.
    let mut rng = Rng::new(seed ^ 0x0e_f01d);
    if !rng.percent(SEEDS_PERCENT) {
        return Vec::new();
    }
    (0..=rng.index(2)).map(|_| rng.between(chaos_ms / 6, chaos_ms - chaos_ms / 6)).collect()
}

/// One refold, from the lineage that is active into another.
#[derive(Clone)]
struct Plan {
    subject: Subject,
    fleet: Fleet,
    judge: Arc<Mutex<Judge>>,
    from: Active,
    into: Active,
}

/// Starts a refold, unless the log was cut and nobody has seen it yet.
pub(crate) fn start(world: &Parts, subject: &Subject, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let from = *lock(&fleet.active);
    if world.is_healed() || !lock(judge).follow(world, from) {
        return;
    }
    let into = Active { lineage: fleet.new_lineage(), ..from };
    world.sim.count(Count::Refold);
    let (subject, fleet, judge) = (subject.clone(), fleet.clone(), Arc::clone(judge));
    attempt(world, Plan { subject, fleet, judge, from, into }, 0);
}

fn attempt(world: &Parts, plan: Plan, number: u32) {
    let process = world.sim.process(&format!("refold-{number}"));
    let refold = refold(&plan.subject, &world.ports(process), (plan.from, plan.into.lineage), number > 0);
    if number + 1 < TRIES && world.sim.draw(|rng| rng.percent(60)) {
        let polls = world.sim.draw(|rng| rng.below(1_500));
        world.sim.kill_after(process, u32::try_from(polls).unwrap_or(0));
    }
    let partitions: Vec<PartitionNo> = (0..world.setup.streams[0].partitions).map(PartitionNo).collect();
    let told = spawn(&world.sim, process, refold, partitions);
    look(world.clone(), plan, number, process, told);
}

fn look(
    world: Parts,
    plan: Plan,
    number: u32,
    process: crate::executor::ProcessId,
    told: Arc<Mutex<Option<Told>>>,
) {
    let sim = world.sim.clone();
    sim.at(sim.now() + LOOK_MS, move || {
        let done = lock(&told).take();
        let is_wanted = !world.is_healed() && *lock(&plan.fleet.active) == plan.from;
        let failed = matches!(&done, Some(Err(error)) if error.kind == ErrorKind::Unavailable);
        let died = done.is_none() && !world.sim.is_alive(process);
        if !is_wanted {
            return world.sim.kill(process);
        }
        match done {
            Some(Ok(_)) => cut_over(&world, &plan),
            _ if (failed || died) && number + 1 < TRIES => {
                world.sim.count(Count::RefoldResumed);
                attempt(&world, plan, number + 1);
            }
            None if !died => look(world, plan, number, process, told),
            other => world.sim.tell(|| format!("the refold is given up: {other:?}")),
        }
    });
}

/// Activates the new lineage, unless what was folded is no longer the truth. Some workers are stopped at
/// once, some go on with the old lineage for a while.
fn cut_over(world: &Parts, plan: &Plan) {
    if !lock(&plan.judge).follow(world, plan.from) {
        return;
    }
    world.sim.count(Count::RefoldDone);
    world.sim.tell(|| format!("cut over to {:?}", plan.into));
    *lock(&plan.fleet.active) = plan.into;
    crate::dropping::perhaps(world, &plan.fleet, plan.from, plan.into);
    let (world, old) = (world.clone(), world.workers());
    for process in old {
        let wait = world.sim.draw(|rng| if rng.percent(50) { 0 } else { rng.between(1, 800) });
        let this = world.clone();
        world.sim.at(world.sim.now() + wait, move || this.sim.kill(process));
    }
}

/// As the command line does it, in one group; what came of it, once it has ended.
fn spawn(
    sim: &crate::executor::Sim,
    process: crate::executor::ProcessId,
    refold: Refold,
    partitions: Vec<PartitionNo>,
) -> Arc<Mutex<Option<Told>>> {
    let told: Arc<Mutex<Option<Told>>> = Arc::default();
    let slot = Arc::clone(&told);
    sim.spawn(process, async move {
        let mut done = refold.partitions(&partitions).await;
        if done.is_ok()
            && let Err(error) = refold.catch_up(&partitions).await
        {
            done = Err(error);
        }
        *lock(&slot) = Some(done);
    });
    told
}

/// A refold over a process's ports.
fn refold(subject: &Subject, ports: &Ports, (from, into): (Active, Lineage), resumes: bool) -> Refold {
    let components = subject.components(ports, Active { lineage: into, ..from });
    Refold {
        reader: components.reader,
        store: components.store,
        topic: components.topic,
        from: from.lineage,
        into,
        cuts: Cuts {
            events_max: components.settings.partition.events_max,
            bytes_max: components.settings.partition.bytes_max,
            strategy: subject.strategy,
        },
        resumes,
        progress: Arc::default(),
    }
}

/// On a stage: refolds until it is done or dies, by calls that have the fates given, and takes over if it is.
#[cfg(not(feature = "runtime"))]
pub(crate) fn on_stage(
    stage: &crate::stage::Stage,
    into: Lineage,
    resumes: bool,
    fates: &[(&'static str, Fate, usize)],
) -> bool {
    Running::start(stage, into, resumes, fates).end(stage)
}

/// A refold on a stage.
#[cfg(not(feature = "runtime"))]
struct Running {
    process: crate::executor::ProcessId,
    told: Arc<Mutex<Option<Told>>>,
}

#[cfg(not(feature = "runtime"))]
impl Running {
    fn start(
        stage: &crate::stage::Stage,
        into: Lineage,
        resumes: bool,
        fates: &[(&'static str, Fate, usize)],
    ) -> Self {
        let (subject, active) = stage.subject();
        let ports = stage.world.process("refold");
        for (what, fate, times) in fates {
            stage.rule(ports.process, what, *fate, *times);
        }
        let process = ports.process;
        let refold = refold(&subject, &ports, (active, into), resumes);
        let told = spawn(&stage.world.sim, process, refold, vec![crate::stage::HERE]);
        Self { process, told }
    }

    /// Gives it time; whether it has done all.
    fn end(self, stage: &crate::stage::Stage) -> bool {
        stage.world.idle(5_000);
        stage.world.sim.kill(self.process);
        matches!(lock(&self.told).take(), Some(Ok(_)))
    }
}

/// A row of the new lineage never comes, and the process dies. Whatever it left, the next try must not take
/// the partition for done.
#[cfg(not(feature = "runtime"))]
pub(crate) fn refold_that_dies_before_its_rows() -> Outcome {
    let stage = crate::stage::Stage::new();
    let old = stage.worker("old");
    stage.events(1..=5);
    stage.snapshot(old);
    let never = [("put_snapshot", Fate::Refused, usize::MAX)];
    assert!(!on_stage(&stage, Lineage(2), false, &never), "no row came");
    let done = on_stage(&stage, Lineage(2), true, &[]);
    stage.world.sim.kill(old);
    stage.take_over(Lineage(2), done);
    stage.worker("new");
    stage.events(6..=6);
    stage.forget();
    stage.ask_all()
}

/// Events that only a checkpoint holds.
#[cfg(not(feature = "runtime"))]
pub(crate) fn refold_of_what_is_in_a_checkpoint() -> Outcome {
    let stage = crate::stage::Stage::new();
    let old = stage.worker("old");
    stage.events(1..=3);
    stage.snapshot(old);
    stage.events(4..=6);
    stage.world.sim.kill(old);
    let done = on_stage(&stage, Lineage(2), false, &[]);
    stage.take_over(Lineage(2), done);
    stage.worker("new");
    stage.events(7..=7);
    stage.forget();
    stage.ask_all()
}

/// Nobody has folded a partition when it is refolded. Then somebody covers all of it, and the log forgets
/// what it may, before the new lineage is there.
#[cfg(not(feature = "runtime"))]
pub(crate) fn refold_of_what_nothing_covers() -> Outcome {
    let subject = crate::subject::Subject::staged(crate::ports::producer::VersionMode::Given);
    let stage = crate::stage::Stage::untouched(subject, 1);
    stage.events(1..=3);
    assert_eq!(stage.acked(), None, "nothing is covered");
    let done = on_stage(&stage, Lineage(2), false, &[]);
    let old = stage.worker("old");
    stage.events(4..=6);
    stage.forget();
    stage.world.sim.kill(old);
    stage.take_over(Lineage(2), done);
    stage.worker("new");
    stage.events(7..=7);
    stage.ask_all()
}

/// While a refold runs, the old lineage covers more, and the log forgets that.
#[cfg(not(feature = "runtime"))]
pub(crate) fn refold_that_retention_overtakes() -> Outcome {
    let stage = crate::stage::Stage::new();
    let old = stage.worker("old");
    stage.events(1..=3);
    stage.snapshot(old);
    let stuck = [("put_watermark", Fate::Refused, usize::MAX)];
    let refold = Running::start(&stage, Lineage(2), false, &stuck);
    stage.events(4..=6);
    stage.snapshot(old);
    let covered = stage.acked();
    stage.forget();
    stage.world.sim.kill(old);
    stage.world.script(None);
    let done = refold.end(&stage);
    assert_eq!(covered, Some(snapfold::domain::ids::Offset(6)), "the old lineage covers it all");
    stage.take_over(Lineage(2), done);
    stage.worker("new");
    stage.events(7..=7);
    stage.ask_all()
}

/// The rows of a try that dies reach one replica. The next try sees them, and later nobody does.
#[cfg(not(feature = "runtime"))]
pub(crate) fn refold_that_finds_a_rumour() -> Outcome {
    let stage = crate::stage::Stage::new();
    let old = stage.worker("old");
    stage.events(1..=5);
    stage.snapshot(old);
    stage.world.sim.kill(old);
    let rumour = [("put_snapshot", Fate::Rumour, usize::MAX)];
    assert!(!on_stage(&stage, Lineage(2), false, &rumour), "nothing was acknowledged");
    stage.world.index.spare(crate::stage::SEEING_RUMOURS);
    let done = on_stage(&stage, Lineage(2), true, &[]);
    stage.take_over(Lineage(2), done);
    stage.forget();
    stage.ask_all()
}

/// Goal: a reducer that takes what the old one refused gets the events that were dead letters, in their
/// places. Method: an event that only the second reducer can fold, then events behind the mark.
#[cfg(not(feature = "runtime"))]
#[test]
fn dead_letters_become_events_where_the_new_reducer_takes_them() {
    let stage = crate::stage::Stage::new();
    let old = stage.worker("old");
    stage.events(1..=2);
    stage.append_raw("a", 3, r#"{"sku":"s1","qty":1,"price":"dear"}"#);
    stage.events(4..=6);
    stage.snapshot(old);
    stage.world.sim.kill(old);
    let done = on_stage(&stage, Lineage(2), false, &[]);
    assert!(done, "all is stored");
    stage.take_over(Lineage(2), done);
    let head = stage.head();
    let version = match &head {
        Some(snapfold::reconstruct::Found::State(aggregate, _)) => aggregate.version.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(version, 6, "all of them have versions now");
    stage.forget();
    let outcome = stage.ask_all();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
}
