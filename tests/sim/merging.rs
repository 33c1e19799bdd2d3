//! History that is merged while everything else goes on: of random aggregates, by whichever worker may own
//! them. What becomes of it is judged by all the questions that others ask.

use crate::executor::lock;
use crate::judge::Judge;
use crate::questions::able;
use crate::stats::Count;
use crate::subject::Fleet;
use crate::world::Parts as World;
use snapfold::domain::compaction::{Aim, Depth};
use snapfold::domain::error::ErrorKind;
use snapfold::upkeep::compaction::{Compactor, Parts, Wish};
use snapfold::upkeep::retention::History;
use snapfold::worker::Components;
use std::sync::{Arc, Mutex};
#[cfg(not(feature = "runtime"))]
use {
    crate::executor::ProcessId,
    crate::ports::Fate,
    crate::stage::{HERE, Stage},
    crate::subject::Subject,
    crate::world::{Outcome, Ports},
    snapfold::domain::ids::{LedgerId, Timestamp, Version},
    snapfold::domain::ledger::DeletedRow,
    snapfold::domain::partition::Strategy,
    snapfold::domain::row::{RecordKind, SnapshotRow},
    snapfold::lookup::{Refusal, Selector},
};

/// Who merges for a worker of these parts.
pub(crate) fn compactor(components: &Components, history: History) -> Compactor {
    Compactor::new(Parts {
        reader: components.reader.clone(),
        store: Arc::clone(&components.store),
        topic: Arc::clone(&components.topic),
        lineage: components.lineage,
        events_stay: history == History::Forever,
    })
}

/// Asks one random live worker to compact a random aggregate.
pub(crate) fn compact_one(world: &World, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let Some(workers) = able(world, fleet, judge) else { return };
    let (id, partition) = {
        let judge = lock(judge);
        let places = judge.places();
        if places.is_empty() {
            return;
        }
        let at = world.sim.draw(|rng| rng.index(places.len()));
        let (id, partition) = places.iter().nth(at).expect("it is among them");
        (id.clone(), *partition)
    };
    let wish = world.sim.draw(|rng| Wish {
        aim: if rng.percent(80) { Aim::Merge } else { Aim::Thin },
        events_max: rng.index(30) + 2,
        depth: if rng.percent(85) { Depth::All } else { Depth::Full },
        keep_full: rng.index(3),
    });
    let (process, _, handle, _) = workers[world.sim.draw(|rng| rng.index(workers.len()))].clone();
    let Some(compactor) = lock(&fleet.compactors).get(&process).cloned() else { return };
    let world_too = world.clone();
    world.sim.spawn(process, async move {
        match compactor.compact(&handle, partition, &id, wish).await {
            Ok(Some(done)) => {
                world_too.sim.count(Count::Compaction);
                world_too.sim.count_more(Count::SegmentWritten, done.segments);
                world_too.sim.count_more(Count::RowSuperseded, done.deleted);
            }
            Ok(None) => {}
            // What is damaged stays as it is; everything else was not answered.
            Err(error) if error.code == "state-mismatch" => {
                world_too.sim.violation(format!("{id}: what is stored disagrees with the fold: {error}"));
            }
            Err(error) if error.kind == ErrorKind::Corrupt => {
                world_too.sim.count(Count::CompactionRefused);
            }
            Err(_) => {}
        }
    });
}

/// Asks a worker on a stage to merge all of `a` into segments of so many events.
#[cfg(not(feature = "runtime"))]
pub(crate) fn ask_to_compact(stage: &Stage, worker: ProcessId, events_max: usize) {
    ask_to_do(stage, worker, Wish { aim: Aim::Merge, depth: Depth::All, events_max, keep_full: 1 });
}

#[cfg(not(feature = "runtime"))]
fn ask_to_do(stage: &Stage, worker: ProcessId, wish: Wish) {
    let (handle, _) = stage.asked_of(worker);
    let compactor = stage.compactor_of(worker);
    stage.world.sim.spawn(worker, async move {
        // Whatever comes of it: what it wrote, and what it took away, is judged.
        let _ = compactor.compact(&handle, HERE, "a", wish).await;
    });
}

/// The same, and time for it.
#[cfg(not(feature = "runtime"))]
fn compact(stage: &Stage, worker: ProcessId, events_max: usize) {
    ask_to_compact(stage, worker, events_max);
    stage.world.idle(1_500);
}

/// Versions 1 to 24 of `a` as increments of four events and full records.
#[cfg(not(feature = "runtime"))]
pub(crate) fn increments() -> (Stage, ProcessId) {
    let subject = Subject::spaced(4, Strategy::Incremental { full_every: 2 }, 1 << 40);
    let stage = Stage::of(subject);
    let worker = stage.worker("owner");
    stage.world.idle(1_000);
    stage.events(1..=24);
    stage.snapshot(worker);
    stage.world.idle(2_000);
    (stage, worker)
}

/// Segments whose rows are never acknowledged, and a log that has forgotten what is covered.
#[cfg(not(feature = "runtime"))]
pub(crate) fn refused_segments() -> Outcome {
    let (stage, worker) = increments();
    stage.rule(worker, "put_snapshot", Fate::Refused, 1_000);
    compact(&stage, worker, 6);
    stage.world.sim.kill(worker);
    stage.worker("next");
    stage.world.idle(1_500);
    stage.forget();
    stage.ask_all()
}

/// A compaction dies when it has deleted the first three of many increments, and the log has forgotten them.
/// The segment has them, behind all increments that are left.
#[cfg(not(feature = "runtime"))]
pub(crate) fn segment_behind_its_increments() -> Outcome {
    let stage = Stage::of(Subject::spaced(1, Strategy::Incremental { full_every: 100 }, 1 << 40));
    let worker = stage.worker("owner");
    stage.world.idle(1_000);
    (1..=40).for_each(|version| stage.events(version..=version));
    stage.rule(worker, "delete_snapshot", Fate::Answered, 3);
    stage.always(worker, "delete_snapshot", Fate::Lost);
    compact(&stage, worker, 256);
    stage.world.sim.kill(worker);
    stage.worker("next");
    stage.world.idle(1_500);
    stage.forget();
    stage.ask_all()
}

/// A compaction that finds nothing that is worth merging yet.
#[cfg(not(feature = "runtime"))]
pub(crate) fn short_history() -> Outcome {
    let (stage, worker) = increments();
    ask_to_do(&stage, worker, Wish { aim: Aim::Merge, depth: Depth::Full, events_max: 256, keep_full: 1 });
    stage.world.idle(1_500);
    stage.forget();
    stage.ask_all()
}

/// Of the segments of a history the first is lost, and only full records are left before the second.
#[cfg(not(feature = "runtime"))]
pub(crate) fn late_segment() -> Outcome {
    let (stage, worker) = increments();
    compact(&stage, worker, 12);
    let rows: Vec<SnapshotRow> = stage.world.index.union().all_snapshots().cloned().collect();
    let is_first = |row: &&SnapshotRow| row.kind == RecordKind::Segment && row.from_version == Version(0);
    let first = DeletedRow::of(rows.iter().find(is_first).expect("it was written"));
    let deletion = LedgerId::mint(Timestamp(1), [1; 10]);
    let delete = |ports: Ports| async move { ports.index.delete_snapshot(&first, deletion).await };
    stage.world.ask(1_000, delete).expect("it is answered").expect("nothing fails");
    // The log still has all of it.
    stage.ask_all()
}

/// All below a segment is deleted, of which a state is left that ends before it does.
#[cfg(not(feature = "runtime"))]
pub(crate) fn gone_before_a_segment() -> Outcome {
    let (stage, worker) = increments();
    ask_to_do(&stage, worker, Wish { aim: Aim::Merge, depth: Depth::All, events_max: 12, keep_full: 9 });
    stage.world.idle(1_500);
    stage.world.sim.kill(worker);
    let rows: Vec<SnapshotRow> = stage.world.index.union().all_snapshots().cloned().collect();
    let begins = |row: &SnapshotRow| row.kind == RecordKind::Segment && row.from_version == Version(12);
    let inside = |row: &SnapshotRow| row.kind == RecordKind::Full && (13..24).contains(&row.version.0);
    assert!(rows.iter().any(begins) && rows.iter().any(inside), "{rows:?}");
    for below in rows.iter().filter(|row| row.version <= Version(12)).map(DeletedRow::of) {
        let deletion = LedgerId::mint(Timestamp(1), [1; 10]);
        let delete = move |ports: Ports| async move { ports.index.delete_snapshot(&below, deletion).await };
        stage.world.ask(1_000, delete).expect("it is answered").expect("nothing fails");
    }
    stage.forget();
    let (state, events) = stage.asked("a", Selector::Version(Version(3)), 24);
    let expected = Err(Refusal::HistoryGone { earliest: Some(Version(12)) });
    if state.map(|_| ()) != expected {
        stage.world.sim.violation("the state of version 12 is left, and not told".to_owned());
    }
    let expected = Err(Refusal::HistoryGone { earliest: Some(Version(13)) });
    if events.map(|_| ()) != expected {
        stage.world.sim.violation("the event of version 13 is left, and not told".to_owned());
    }
    stage.world.finish()
}

/// Goal: merged history answers as before, whatever its segments' size, also from another worker, when the
/// log has forgotten it. Method: every question after each of several compactions.
#[cfg(not(feature = "runtime"))]
#[test]
fn what_is_merged_answers_as_before() {
    for events_max in [2, 5, 6, 12, 256] {
        let (stage, worker) = increments();
        compact(&stage, worker, events_max);
        let segments = |stage: &Stage| {
            let index = stage.world.index.union();
            index.all_snapshots().filter(|row| row.kind == RecordKind::Segment).count()
        };
        assert!(segments(&stage) > 0, "{events_max}");
        compact(&stage, worker, 256);
        assert_eq!(segments(&stage), 1, "{events_max}: merged again");
        stage.world.sim.kill(worker);
        stage.worker("next");
        stage.world.idle(1_500);
        stage.forget();
        let outcome = stage.ask_all();
        assert!(outcome.violations.is_empty(), "{events_max}: {:?}", outcome.violations);
    }
}
