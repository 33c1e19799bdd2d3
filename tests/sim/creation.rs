//! Snapshots that somebody asks for: of random aggregates at random versions, from whichever worker may own
//! them, while everything else goes on. What was written is judged by all the questions that others ask.

use crate::executor::lock;
use crate::judge::Judge;
use crate::questions::able;
use crate::stats::Count;
use crate::subject::Fleet;
use crate::world::Parts;
use snapfold::domain::ids::Version;
use snapfold::lookup::{Asked, Made, Refusal};
use std::sync::{Arc, Mutex};

/// Asks one random live worker for a snapshot of a version of a random aggregate, or of its head.
pub(crate) fn create_one(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let Some(workers) = able(world, fleet, judge) else { return };
    let (id, partition, head) = {
        let judge = lock(judge);
        let places = judge.places();
        if places.is_empty() {
            return;
        }
        let at = world.sim.draw(|rng| rng.index(places.len()));
        let (id, partition) = places.iter().nth(at).expect("it is among them");
        (id.clone(), *partition, judge.facts(id).len() as u64)
    };
    // Beyond the head too, and often far below it.
    let version = world.sim.draw(|rng| rng.percent(80).then(|| Version(rng.between(1, head.max(1) + 1))));
    let (process, _, handle, lookup) = workers[world.sim.draw(|rng| rng.index(workers.len()))].clone();
    world.sim.count(Count::SnapshotAsked);
    let (world_too, fleet, judge) = (world.clone(), fleet.clone(), Arc::clone(judge));
    let active = *lock(&fleet.active);
    world.sim.spawn(process, async move {
        let made = lookup.create(&handle, partition, &id, version).await;
        let mut judge = lock(&judge);
        if *lock(&fleet.active) != active || !judge.follow(&world_too, active) {
            return;
        }
        if let Err(violation) = judged(&judge, &world_too, (&id, version), &made) {
            world_too.sim.violation(format!("a snapshot that was asked for is wrong: {violation}"));
        }
    });
}

/// What is told of a snapshot is true: it is of the version that was asked for, and there is such a version.
fn judged(
    judge: &Judge,
    world: &Parts,
    (id, version): (&str, Option<Version>),
    made: &Asked<Option<Made>>,
) -> Result<(), String> {
    match made {
        Ok(Some(made)) => {
            if version.is_some_and(|version| version != made.version) {
                return Err(format!("{id}: version {version:?} was asked for, {} was made", made.version));
            }
            if made.created {
                let head = judge.facts(id).len() as u64;
                let is_past = made.version.0 < head;
                world.sim.count(if is_past { Count::PastSnapshotMade } else { Count::HeadSnapshotMade });
            }
            Ok(())
        }
        Err(Refusal::VersionBeyondHead { head }) if version.is_some_and(|version| version <= *head) => {
            Err(format!("{id}: version {version:?} is beyond the head {head}"))
        }
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Asks one worker on a stage for a snapshot of a version of `a`, and gives it time.
#[cfg(not(feature = "runtime"))]
pub(crate) fn create(stage: &crate::stage::Stage, worker: crate::executor::ProcessId, version: u64) {
    let (handle, lookup) = stage.asked_of(worker);
    stage.world.sim.spawn(worker, async move {
        // Whatever it is told: what it wrote is judged.
        let _ = lookup.create(&handle, crate::stage::HERE, "a", Some(Version(version))).await;
    });
    stage.world.idle(1_500);
}

/// A snapshot of version 2 is asked for while only a checkpoint holds versions 1 to 4. The next owner's
/// increments start after the newest row it sees, and the log forgets what is covered.
#[cfg(not(feature = "runtime"))]
pub(crate) fn old_version_that_no_row_covers() -> crate::world::Outcome {
    let stage = crate::stage::Stage::new();
    let first = stage.worker("first");
    stage.events(1..=4);
    create(&stage, first, 2);
    stage.world.sim.kill(first);
    let next = stage.worker("next");
    stage.events(5..=5);
    stage.snapshot(next);
    stage.world.idle(1_500);
    stage.forget();
    stage.ask_all()
}

/// Goal: full records that were asked for in the middle of an increment hide nothing. Method: one of nearly
/// each version of an increment, then every question, and verification.
#[cfg(not(feature = "runtime"))]
#[test]
fn many_snapshots_inside_one_increment_hide_nothing() {
    let stage = crate::stage::Stage::new();
    let worker = stage.worker("owner");
    stage.events(1..=80);
    stage.snapshot(worker);
    // Rows are written in pages of 32: more of them than that lie between a version and its increment.
    (2..=80).step_by(2).for_each(|version| create(&stage, worker, version));
    let made = stage.full_rows();
    assert!(made >= 40, "{made} full rows");
    stage.forget();
    let outcome = stage.ask_all();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
}
