//! Directed scenarios of workers that stop while much is on its way, or of which a partition does not start.

use crate::ports::Fate;
use crate::ports::producer::{VersionMode, partition_of};
use crate::stage::{HERE, Stage};
use crate::subject::Subject;
use crate::world::Outcome;
use snapfold::domain::ids::{Offset, PartitionNo};

/// Aggregates of which the first batches have events.
const MANY: u64 = 120;
/// Aggregates that come last: more than may be loaded at once, and as many as may wait besides, so that
/// however they are divided into batches all are taken.
const NEW: u64 = 20;

/// Several batches of events of many aggregates are taken, a snapshot is in flight, and what the last batch
/// brought waits for loads, when the partition is drained: all that was taken is folded and covered.
pub(crate) fn drain_while_many_aggregates_load() -> Outcome {
    let stage = Stage::of(Subject::staged(VersionMode::Given));
    let worker = stage.worker("worker");
    stage.events(1..=2);
    stage.always(worker, "put_snapshot", Fate::Lost);
    stage.snapshot(worker);
    (0..MANY).for_each(|number| stage.append_to(&format!("b-{number}"), 1, "s1"));
    stage.world.idle(2_000);
    // For a while nothing is loaded, but what is in memory can be covered.
    stage.rule(worker, "snapshots", Fate::Lost, 200);
    stage.append(3, "s1");
    (0..NEW).for_each(|number| stage.append_to(&format!("c-{number}"), 1, "s1"));
    let end = Offset(2 + MANY as i64 + 1 + NEW as i64);
    if !stage.world.settle(1_000, &mut |_| stage.status(worker).position == end) {
        stage.world.sim.violation("the events were not taken".to_owned());
    }
    let before = stage.status(worker);
    let mut done = stage.drain(worker);
    stage.world.settle(20_000, &mut |_| !matches!(done.try_recv(), Ok(None)));
    let covered = stage.acked();
    let waited = before.counts.folded < MANY + NEW;
    if !waited || covered != Some(end) {
        let what = format!("drained at LW {covered:?} of {end}, asked when {before:?}");
        stage.world.sim.violation(what);
    }
    stage.ask_all()
}

/// One of two partitions cannot start, because the brokers say nothing of it: the other one is covered all
/// the same. When they do, both are.
pub(crate) fn partition_that_cannot_start() -> Outcome {
    let there = PartitionNo(1);
    let stage = Stage::with_partitions(Subject::staged(VersionMode::Given), 2);
    let of = |partition| {
        let ids = (0..).map(|number| format!("a-{number}"));
        ids.into_iter().find(|id| partition_of(id, 2) == partition).expect("there are many")
    };
    let (one, other) = (of(HERE), of(there));
    stage.silence("bounds", there);
    let worker = stage.worker("worker");
    (1..=3).for_each(|version| stage.append_to(&one, version, "s1"));
    stage.append_to(&other, 1, "s1");
    stage.world.idle(6_000);
    let positions = [HERE, there].map(|partition| stage.status_of(worker, partition).position);
    assert_eq!(positions, [Offset(3), Offset(0)], "one is folded, and the other is not");
    if stage.acked_of(HERE) != Some(Offset(3)) {
        let what = format!("what folds is covered up to {:?} of 3", stage.acked_of(HERE));
        stage.world.sim.violation(what);
    }
    stage.silence("bounds", PartitionNo(2));
    stage.append_to(&one, 4, "s1");
    stage.world.idle(3_000);
    let covered = [HERE, there].map(|partition| stage.acked_of(partition));
    if covered != [Some(Offset(4)), Some(Offset(1))] {
        stage.world.sim.violation(format!("both fold, and are covered up to {covered:?}"));
    }
    stage.ask_all()
}
