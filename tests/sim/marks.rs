//! Directed scenarios of quarantine marks: what keeps an aggregate standing still when the record that says
//! so is gone; and what its newest rows are.

use crate::executor::ProcessId;
use crate::ports::Fate;
use crate::stage::{HERE, SEEING_RUMOURS, Stage, TOPIC};
use crate::subject::Subject;
use crate::world::{Outcome, Ports};
use snapfold::domain::ids::{Offset, PackId, PartitionNo, Version};
use snapfold::domain::partition::Strategy;
use snapfold::domain::row::{RecordKind, SnapshotRow};
use snapfold::reconstruct::{AsOf, Found, Newest};

/// Runs one after the other, up to the first that fails.
fn all(plays: &[&dyn Fn() -> Outcome]) -> Outcome {
    let (last, others) = plays.split_last().expect("there is a play");
    let failed = others.iter().map(|play| play()).find(|outcome| !outcome.violations.is_empty());
    failed.unwrap_or_else(last)
}

/// Only a row tells of a quarantine, because its record is lost. A whole log tells where and why; without the
/// log, the row tells where.
pub(crate) fn marked_row_whose_record_is_lost() -> Outcome {
    all(&[&|| lost_mark_and_a_whole_log(0), &|| lost_mark_and_a_whole_log(2), &lost_mark_and_no_log])
}

/// The first events of `a`, then one that leaves a gap, all of it in snapshots.
fn quarantined(stage: &Stage, good: u64) -> ProcessId {
    let worker = stage.worker("first");
    if good > 0 {
        stage.events(1..=good);
        stage.snapshot(worker);
    }
    stage.events(9..=9);
    stage.snapshot(worker);
    stage.world.idle(1_000);
    worker
}

fn lost_mark_and_a_whole_log(good: u64) -> Outcome {
    let stage = Stage::new();
    let first = quarantined(&stage, good);
    stage.world.sim.kill(first);
    stage.lose("full");
    stage.lose("history");
    stands_still_at(&stage, good);
    stage.worker("next");
    stage.events(good + 1..=good + 2);
    stage.ask_all()
}

fn lost_mark_and_no_log() -> Outcome {
    let stage = Stage::of(Subject::spaced(1_000, Strategy::Full, 1 << 40));
    let first = quarantined(&stage, 2);
    stage.world.sim.kill(first);
    stage.forget();
    stage.lose_newest("full");
    stands_still_at(&stage, 2);
    stage.worker("next");
    stage.events(3..=4);
    stands_still_at(&stage, 2);
    stage.ask_all()
}

/// Only a checkpoint's entry tells of a quarantine, and its pack is lost after its owner has begun: what
/// comes next is not folded (seed 1761, counted).
pub(crate) fn marked_entry_whose_pack_is_lost() -> Outcome {
    all(&[
        &|| lost_entry_of_a_mark_alone(|_| {}),
        &|| lost_entry_of_a_mark_alone(Stage::forget),
        &lost_entry_of_events_and_a_mark,
    ])
}

fn lost_entry_of_a_mark_alone(meanwhile: fn(&Stage)) -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.events(1..=2);
    stage.events(9..=9);
    stage.world.sim.kill(first);
    meanwhile(&stage);
    goes_on_without_the_entry(stage)
}

/// The events of the entry are in a snapshot too, which was cut before the gap came and acknowledged after.
fn lost_entry_of_events_and_a_mark() -> Outcome {
    let stage = Stage::of(Subject::spaced(2, Strategy::Incremental { full_every: 1 }, 1 << 40));
    let first = stage.worker("first");
    stage.world.idle(1_000);
    stage.rule(first, "put_snapshot", Fate::Lost, 60);
    stage.append(1, "s1");
    stage.append(2, "s1");
    stage.append(9, "s1");
    stage.world.idle(500);
    drop(stage.drain(first));
    stage.world.idle(10_000);
    stage.world.sim.kill(first);
    goes_on_without_the_entry(stage)
}

/// A worker starts, the newest checkpoint is lost, and `a` is loaded for its next events.
fn goes_on_without_the_entry(stage: Stage) -> Outcome {
    let next = stage.worker("next");
    stage.world.idle(2_000);
    stage.lose_newest("checkpoint");
    stage.events(3..=4);
    let head = stage.head_of(next);
    if !is_marked_at(head.as_ref(), 2) {
        let what = format!("`a` stands still at version 2, but its owner has {head:?}");
        stage.world.sim.violation(what);
    }
    stage.ask_all()
}

/// The log is cut between an aggregate's last event and the gap that quarantined it, and goes on: a mark of a
/// history that is no more, in a checkpoint's entry and in a snapshot's row. The low watermark was not
/// written, or it alone would tell.
pub(crate) fn mark_of_a_gap_that_was_cut_off() -> Outcome {
    all(&[&mark_of_a_checkpoint_that_was_cut_off, &mark_of_a_row_that_was_cut_off])
}

fn mark_of_a_checkpoint_that_was_cut_off() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_watermark", Fate::Stuck);
    stage.events(1..=2);
    stage.events(9..=9);
    cut_off_and_gone_on(stage, worker)
}

fn mark_of_a_row_that_was_cut_off() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("first");
    stage.always(worker, "put_watermark", Fate::Stuck);
    for events in [1..=2, 9..=9] {
        stage.events(events);
        stage.snapshot(worker);
    }
    stage.world.idle(1_000);
    cut_off_and_gone_on(stage, worker)
}

fn cut_off_and_gone_on(stage: Stage, worker: ProcessId) -> Outcome {
    stage.world.sim.kill(worker);
    stage.world.broker.truncate(TOPIC, HERE, Offset(2));
    stage.events(3..=4);
    stage.not_below(4, stage.head().as_ref());
    stage.world.finish()
}

/// A checkpoint is written and the low watermark is not, so the next owner folds its events again. Once they
/// are covered nothing of the checkpoint is needed, whether or not a row ever comes to its versions.
pub(crate) fn entry_that_is_folded_again() -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.always(first, "put_watermark", Fate::Stuck);
    stage.events(1..=3);
    stage.world.sim.kill(first);
    let ahead = stage.listed();
    stage.worker("next");
    stage.world.idle(2_000);
    let listed = stage.listed();
    if ahead.is_empty() || ahead.iter().any(|pack| listed.contains(pack)) || stage.acked() != Some(Offset(3))
    {
        stage.world.sim.violation(format!("{ahead:?} were folded again, {listed:?} are listed"));
    }
    stage.ask_all()
}

/// A checkpoint is written, the low watermark is not, and the log is cut off below the checkpoint's end. It
/// outlives the owner that covers its offsets again, because the deletion of its row is lost: the next one
/// starts beyond it, and so do readers.
pub(crate) fn entries_of_histories_that_were_cut_off() -> Outcome {
    all(&[&|| entry_that_outlived_its_coverage(0), &|| entry_that_outlived_its_coverage(1)])
}

/// The log is cut off after the first `good` of three events; what comes instead quarantines `a`.
fn entry_that_outlived_its_coverage(good: u64) -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.always(first, "put_watermark", Fate::Stuck);
    stage.events(1..=3);
    stage.world.sim.kill(first);
    let cut_off = stage.listed();
    stage.world.broker.truncate(TOPIC, HERE, Offset(good.cast_signed()));
    stage.events(5..=8);
    let second = stage.worker("second");
    stage.always(second, "delete_checkpoint", Fate::Lost);
    stage.world.idle(2_000);
    stage.snapshot(second);
    stage.world.sim.kill(second);
    stands_still_at(&stage, good);
    let third = stage.worker("third");
    stage.world.idle(2_000);
    stage.events(9..=9);
    stage.snapshot(third);
    stage.world.idle(2_000);
    let listed = stage.listed();
    let is_done = !cut_off.is_empty() && !cut_off.iter().any(|pack| listed.contains(pack));
    if !is_done || stage.status(third).halted.is_some() {
        let what = format!("{cut_off:?} were cut off, {listed:?} are listed, {:?}", stage.status(third));
        stage.world.sim.violation(what);
    }
    stage.ask_all()
}

/// The head is this version, and says that it stands still.
fn stands_still_at(stage: &Stage, version: u64) {
    let head = stage.head();
    if !is_marked_at(head.as_ref(), version) {
        let what = format!("`a` stands still at version {version}, but its head is {head:?}");
        stage.world.sim.violation(what);
    }
}

fn is_marked_at(head: Option<&Found>, version: u64) -> bool {
    matches!(head, Some(Found::State(head, _))
        if head.version == Version(version) && head.quarantine.is_some())
}

/// An owner that can read nothing of `a` marks it and refuses its events. What the owner before it wrote is
/// seen only then, and lies beyond the mark: what was refused after that must not be missing from the state.
pub(crate) fn state_beyond_a_mark() -> Outcome {
    let stage = Stage::of(Subject::spaced(1_000, Strategy::Full, 1 << 40));
    let former = stage.worker("former");
    stage.events(1..=2);
    stage.snapshot(former);
    stage.world.idle(2_000);
    stage.forget();
    stage.lose("full");
    stage.always(former, "put_checkpoint", Fate::Refused);
    stage.always(former, "put_snapshot", Fate::Rumour);
    stage.events(3..=3);
    stage.snapshot(former);
    stage.world.sim.kill(former);
    stage.deaf_to_rumours();
    let blind = stage.worker("blind");
    stage.events(4..=4);
    stage.world.idle(2_000);
    stage.world.sim.kill(blind);
    stage.world.index.spare(SEEING_RUMOURS);
    stage.forget();
    stage.worker("next");
    stage.events(5..=5);
    let head = stage.head();
    if !matches!(&head, Some(Found::State(at, _)) if at.version == Version(5) && at.quarantine.is_none()) {
        stage.world.sim.violation(format!("version 5 has all events, and the head is {head:?}"));
    }
    stage.world.finish()
}

fn newest(stage: &Stage) -> Newest {
    let ((subject, active), partition, key) = (stage.subject(), stage.partition(), stage.key());
    let newest = stage.world.ask(1_000, move |ports| async move {
        subject.reader(&ports, active).newest(&partition, &key).await
    });
    newest.expect("it is answered").expect("nothing fails")
}

/// Goal: what the index says of the newest version is all that its rows say. Method: a state, and after it a
/// row of the same version that tells of a quarantine.
#[test]
fn a_mark_in_a_later_row_of_the_newest_version_is_told() {
    let stage = Stage::new();
    let first = quarantined(&stage, 2);
    stage.world.sim.kill(first);
    let rows = stage.rows();
    let of_newest: Vec<bool> =
        rows.iter().filter(|row| row.version == Version(2)).map(|row| row.quarantined).collect();
    assert_eq!((of_newest.first(), of_newest.last()), (Some(&false), Some(&true)), "{rows:?}");
    assert!(newest(&stage).marked);
}

/// Goal: one id in two partitions is two aggregates. Method: pages full of rows that the other one has, below
/// and above those of this one.
#[test]
fn rows_of_the_same_id_in_another_partition_are_not_its_own() {
    let stage = Stage::new();
    let worker = stage.worker("owner");
    stage.events(1..=3);
    stage.snapshot(worker);
    stage.world.sim.kill(worker);
    let rows = stage.rows();
    let full = rows.iter().find(|row| row.kind == RecordKind::Full).expect("it was written");
    for version in (1..=2).chain(4..=80) {
        let pack = PackId::mint(full.pack.minted_at(), [version as u8; 10]);
        let (version, partition) = (Version(version), PartitionNo(HERE.0 + 1));
        let row =
            SnapshotRow { version, from_version: Version(version.0 - 1), pack, partition, ..full.clone() };
        let put = |ports: Ports| async move { ports.index.put_snapshot(row).await };
        stage.world.ask(1_000, put).expect("it is answered").expect("nothing fails");
    }
    let newest = newest(&stage);
    assert_eq!((newest.row, newest.version()), (Some(Version(3)), Version(3)));
    for version in 1..=3 {
        let found = stage.at(AsOf::Version(Version(version)));
        let is_it = matches!(&found, Some(Found::State(at, _)) if at.version == Version(version));
        assert!(is_it, "{found:?}");
    }
    assert!(matches!(stage.head(), Some(Found::State(head, _)) if head.version == Version(3)));
}
