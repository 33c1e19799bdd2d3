//! Directed scenarios of owners that come after one another: what the one before wrote, lost or left to one
//! replica, and what becomes of it.

use crate::ports::{Fate, broker::Draft, producer::VersionMode};
use crate::stage::{HERE, SEEING_RUMOURS, Stage, TOPIC};
use crate::{plan::FaultPlan, rng::Odds, subject::Subject, world::Outcome};
use snapfold::codec::pack::Locator;
use snapfold::domain::aggregate::OnPoison;
use snapfold::domain::ids::{Offset, Version};
use snapfold::domain::partition::Strategy;
use snapfold::domain::row::SnapshotRow;

/// A dying owner's snapshot row reaches one replica, below LW and over a checkpoint. The next owner sees it,
/// and later nobody does.
pub(crate) fn rumour_over_a_checkpoint() -> Outcome {
    let stage = Stage::new();
    let dying = stage.worker("dying");
    stage.events(1..=3);
    stage.always(dying, "put_snapshot", Fate::Rumour);
    stage.snapshot(dying);
    stage.world.sim.kill(dying);
    stage.world.index.spare(SEEING_RUMOURS);
    stage.worker("next");
    stage.events(4..=4);
    stage.forget();
    stage.ask_all()
}

/// The same where no checkpoint was written: the row lies beyond the next owner's start.
pub(crate) fn rumour_ahead_of_the_start() -> Outcome {
    let stage = Stage::new();
    stage_rumour_ahead(&stage);
    stage.worker("next");
    stage.world.idle(2_000);
    stage.forget();
    stage.ask_all()
}

/// The same, and the adoption does not end: LW must not pass what only the rumour covers.
pub(crate) fn rumour_that_is_never_adopted() -> Outcome {
    let stage = Stage::new();
    stage_rumour_ahead(&stage);
    let next = stage.worker("next");
    stage.always(next, "put_snapshot", Fate::Stuck);
    stage.world.idle(2_000);
    stage.forget();
    stage.ask_all()
}

/// A dying owner's snapshot beyond the low watermark is on one replica, which reads see from now on.
pub(crate) fn stage_rumour_ahead(stage: &Stage) {
    let dying = stage.worker("dying");
    stage.always(dying, "put_checkpoint", Fate::Lost);
    stage.always(dying, "put_snapshot", Fate::Rumour);
    stage.events(1..=3);
    stage.snapshot(dying);
    stage.world.sim.kill(dying);
    stage.world.index.spare(SEEING_RUMOURS);
}

/// An increment that starts from a rumour would supersede the checkpoint below it.
pub(crate) fn increment_on_a_rumour() -> Outcome {
    let stage = Stage::new();
    let dying = stage.worker("dying");
    stage.events(1..=3);
    stage.always(dying, "put_snapshot", Fate::Rumour);
    stage.snapshot(dying);
    stage.world.sim.kill(dying);
    stage.world.index.spare(SEEING_RUMOURS);
    let next = stage.worker("next");
    // The adoption; what is written after it is acknowledged.
    stage.rule(next, "put_snapshot", Fate::Stuck, 1);
    stage.events(4..=4);
    stage.snapshot(next);
    stage.forget();
    stage.ask_all()
}

/// A dying owner's checkpoint row reaches one replica, and LW not the index.
pub(crate) fn rumour_of_a_checkpoint() -> Outcome {
    let stage = Stage::new();
    let dying = stage.worker("dying");
    stage.always(dying, "put_checkpoint", Fate::Rumour);
    stage.events(1..=3);
    stage.world.sim.kill(dying);
    stage.world.index.spare(SEEING_RUMOURS);
    stage.worker("next");
    stage.world.idle(2_000);
    stage.forget();
    stage.ask_all()
}

/// A dying owner's checkpoint is acknowledged; its LW comes only after the next owner has started below it.
pub(crate) fn watermark_that_comes_late() -> Outcome {
    let stage = Stage::new();
    let dying = stage.worker("dying");
    stage.always(dying, "put_watermark", Fate::Stuck);
    stage.events(1..=3);
    stage.world.sim.kill(dying);
    let next = stage.worker("next");
    stage.always(next, "put_checkpoint", Fate::Lost);
    stage.world.idle(2_000);
    stage.watermark(3);
    stage.ask_all()
}

/// A dying owner's checkpoint is acknowledged, its LW is not: as after a rebuild of the index, which finds
/// checkpoints and an older LW. Whoever lists aggregates then finds what the checkpoint holds.
pub(crate) fn list_behind_a_low_watermark() -> Outcome {
    let stage = Stage::new();
    let dying = stage.worker("dying");
    stage.always(dying, "put_watermark", Fate::Stuck);
    stage.events(1..=3);
    stage.until("its checkpoint is listed", || !stage.listed().is_empty());
    stage.world.sim.kill(dying);
    stage.watermark(2);
    let listed = stage.aggregates();
    if listed != [(stage.key().id, Version(3))] {
        stage.world.sim.violation(format!("a checkpoint has version 3 of `a`, listed was {listed:?}"));
    }
    stage.worker("next");
    stage.ask_all()
}

/// No dead letter can be written: LW stays before the poison.
pub(crate) fn dead_letter_that_is_refused() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_dead_letter", Fate::Refused);
    stage.events(1..=2);
    let at = stage.poison();
    stage.world.idle(1_500);
    let acked = stage.world.index.acked_watermark(TOPIC, HERE, stage.active().topic_id);
    let letters = stage.world.index.union().letters(&stage.partition(), at, 1);
    if letters.is_empty() && acked.is_some_and(|acked| acked > at) {
        stage.world.sim.violation(format!("LW {acked:?} has passed poison at {at} that nobody recorded"));
    }
    // In the end it is recorded.
    stage.world.script(None);
    stage.world.idle(1_000);
    stage.ask_all()
}

/// A version comes again with other bytes while the first is in memory: that is a finding.
pub(crate) fn two_events_of_one_version() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_checkpoint", Fate::Lost);
    stage.events(1..=2);
    stage.append(2, "s2");
    stage.world.idle(1_000);
    let letters = stage.world.index.union().letters(&stage.partition(), Offset(0), 10);
    if !letters.iter().any(|letter| &*letter.code == "conflict") {
        stage.world.sim.violation("a conflict of versions was not reported".to_owned());
    }
    stage.ask_all()
}

/// All snapshots are lost, the log is not: every question has its answer.
pub(crate) fn lost_packs_and_a_whole_log() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.events(1..=2);
    stage.snapshot(worker);
    stage.events(3..=4);
    stage.snapshot(worker);
    stage.lose("full");
    stage.lose("history");
    stage.ask_all()
}

/// A live checkpoint is lost: what it held is not answered for.
pub(crate) fn lost_checkpoint() -> Outcome {
    let stage = Stage::new();
    stage.worker("worker");
    stage.events(1..=3);
    stage.lose("checkpoint");
    stage.not_below(3, stage.head().as_ref());
    stage.world.finish()
}

/// Snapshots are lost and the log was cut: the rows still tell how far the head had come, also where the log
/// told no leader epochs.
pub(crate) fn lost_packs_and_a_cut_log() -> Outcome {
    let stage = Stage::new();
    stage.world.broker.tell_no_epochs(TOPIC, HERE);
    let worker = stage.worker("worker");
    stage.events(1..=5);
    stage.events(9..=9);
    stage.snapshot(worker);
    stage.world.idle(1_000);
    stage.world.sim.kill(worker);
    stage.lose("full");
    stage.lose("history");
    stage.world.broker.truncate(TOPIC, HERE, Offset(3));
    stage.not_below(5, stage.head().as_ref());
    stage.world.finish()
}

/// An owner that hears nothing any more answers from memory, while another has moved LW on.
pub(crate) fn owner_from_the_past() -> Outcome {
    let stage = Stage::new();
    let owner = stage.worker("owner");
    stage.events(1..=3);
    stage.always(owner, "next", Fate::Lost);
    stage.always(owner, "bounds", Fate::Lost);
    stage.events(4..=5);
    stage.watermark(5);
    stage.not_below(5, stage.head_of(owner).as_ref());
    stage.world.finish()
}

/// A new owner's checkpoint is acknowledged while the rumour it started from is still being adopted: the
/// checkpoint below the rumour stays.
pub(crate) fn checkpoint_over_a_rumour() -> Outcome {
    let stage = Stage::new();
    let dying = stage.worker("dying");
    stage.events(1..=3);
    stage.always(dying, "put_snapshot", Fate::Rumour);
    stage.snapshot(dying);
    stage.world.sim.kill(dying);
    stage.world.index.spare(SEEING_RUMOURS);
    let next = stage.worker("next");
    stage.always(next, "put_snapshot", Fate::Stuck);
    stage.events(4..=4);
    stage.forget();
    stage.ask_all()
}

/// A gap quarantines `a`, which only a checkpoint tells the next owner. Events and mark come in one entry: an
/// entry without either is one that the codec refuses.
pub(crate) fn quarantine_that_only_a_checkpoint_tells() -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.append(1, "s1");
    stage.append(2, "s1");
    stage.events(5..=5);
    stage.world.sim.kill(first);
    stage.forget();
    stage.worker("next");
    stage.events(3..=3);
    stage.ask_all()
}

/// A tombstone takes the version that its producer gives to the next event, and a gap quarantines `a` between
/// the two: that event is no repetition, it waits among the dead letters like all after the gap.
pub(crate) fn version_that_a_tombstone_took() -> Outcome {
    let stage = Stage::new();
    stage.worker("worker");
    stage.events(1..=2);
    let tombstone = Draft { value: None, ..stage.world.broker.draft("a", "") };
    stage.world.broker.append(TOPIC, HERE, tombstone).expect("the topic is there");
    stage.events(9..=9);
    stage.events(3..=4);
    stage.ask_all()
}

/// Poison takes a version where it is skipped; the same record again is a duplicate.
pub(crate) fn poison_that_comes_twice() -> Outcome {
    let mut subject = Subject::staged(VersionMode::Counted);
    subject.on_poison = OnPoison::Skip;
    let stage = Stage::of(subject);
    stage.worker("worker");
    stage.events(1..=2);
    let poison = r#"{"id":"e-p","type":"Noted","aggregateId":"a","timestamp":"yesterday","data":{}}"#;
    for _ in 0..2 {
        let poison = stage.world.broker.draft("a", poison);
        stage.world.broker.append(TOPIC, HERE, poison).expect("the topic is there");
    }
    stage.events(3..=3);
    stage.ask_all()
}

/// A snapshot's rows are never written, and nobody says so: the checkpoint below stays.
pub(crate) fn snapshot_row_that_is_lost() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.events(1..=3);
    stage.always(worker, "put_snapshot", Fate::Lost);
    stage.snapshot(worker);
    stage.forget();
    stage.ask_all()
}

/// The same for a checkpoint's row: LW stays.
pub(crate) fn checkpoint_row_that_is_lost() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_checkpoint", Fate::Lost);
    stage.events(1..=3);
    stage.forget();
    stage.ask_all()
}

/// A worker dies before a checkpoint's pack is there: no row names it.
pub(crate) fn pack_that_never_comes() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_new", Fate::Stuck);
    stage.events(1..=3);
    stage.world.sim.kill(worker);
    stage.ask_all()
}

/// A worker dies after the first of a flush's two rows: the increment's, or its events would go with the
/// checkpoint that the full row supersedes.
pub(crate) fn death_between_two_rows() -> Outcome {
    let stage = Stage::new();
    let dying = stage.worker("dying");
    stage.events(1..=2);
    stage.snapshot(dying);
    stage.events(3..=4);
    stage.rule(dying, "put_snapshot", Fate::Answered, 1);
    stage.always(dying, "put_snapshot", Fate::Stuck);
    stage.snapshot(dying);
    stage.world.sim.kill(dying);
    stage.worker("next");
    stage.events(5..=5);
    stage.forget();
    stage.ask_all()
}

/// A worker dies after the first row of a flush's two increments, whose events its last checkpoint holds
/// too. A later row without the earlier one would supersede that checkpoint for the next owner.
pub(crate) fn death_between_two_increments() -> Outcome {
    let strategy = Strategy::Incremental { full_every: 100 };
    let stage = Stage::of(Subject::spaced(2, strategy, 1 << 40));
    let dying = stage.worker("dying");
    stage.world.idle(1_000);
    // The first flight lasts until the events of two more cuts are folded, the next until the checkpoint.
    stage.rule(dying, "put_snapshot", Fate::Lost, 20);
    stage.rule(dying, "put_snapshot", Fate::Answered, 1);
    stage.rule(dying, "put_snapshot", Fate::Lost, 80);
    stage.rule(dying, "put_snapshot", Fate::Answered, 1);
    stage.always(dying, "put_snapshot", Fate::Stuck);
    stage.events(1..=6);
    drop(stage.drain(dying));
    stage.world.idle(10_000);
    stage.world.sim.kill(dying);
    stage.worker("next");
    stage.events(7..=8);
    stage.world.idle(1_000);
    stage.forget();
    stage.ask_all()
}

/// The log is cut after a batch was read, and goes on with other events. It tells no leader epochs, so only
/// its end shows that in time.
pub(crate) fn log_cut_behind_a_batch() -> Outcome {
    let stage = Stage::new();
    stage.world.broker.tell_no_epochs(TOPIC, HERE);
    stage.worker("worker");
    stage.events(1..=3);
    let broker = stage.world.broker.clone();
    let cut = move || {
        broker.truncate(TOPIC, HERE, Offset(3));
        broker.tell_no_epochs(TOPIC, HERE);
    };
    stage.before("bounds", cut);
    stage.events(4..=5);
    stage.append(4, "s2");
    stage.append(5, "s2");
    stage.world.idle(1_500);
    stage.ask_all()
}

/// The log ends with an offset that holds no record, and a worker waits beyond it. It is cut there, and goes
/// on with an event at that offset. The position is not beyond the cut, only what is read next is (seed 1177,
/// given).
pub(crate) fn log_cut_below_a_marker() -> Outcome {
    let stage = Stage::new();
    let calm = stage.world.gate.plan(FaultPlan::clone);
    stage.worker("worker");
    stage.world.gate.set_plan(FaultPlan { offset_gap: Odds(10_000), ..calm.clone() });
    stage.events(1..=1);
    stage.world.gate.set_plan(calm);
    stage.world.broker.truncate(TOPIC, HERE, Offset(1));
    stage.events(2..=4);
    stage.ask_all()
}

/// The trail of a full snapshot names a record of somebody else: it is not followed, and the versions before
/// the snapshot come from the whole log.
pub(crate) fn trail_that_leads_astray() -> Outcome {
    let mut subject = Subject::spaced(10, Strategy::Full, 1 << 40);
    // Where versions are given, one that is left out is noticed.
    subject.versions = VersionMode::Counted;
    let stage = Stage::of(subject);
    let worker = stage.worker("worker");
    stage.world.idle(1_000);
    for version in 1..=25 {
        stage.append_to("b", version, "s1");
        stage.append(version, "s1");
    }
    stage.world.idle(3_000);
    stage.world.sim.kill(worker);
    let index = stage.world.index.union();
    let is_second = |row: &&SnapshotRow| &*row.key.id == "a" && row.version == Version(20);
    let row = index.all_snapshots().find(is_second).expect("the second snapshot").clone();
    let mut locator = Locator::decode(&row.locator).expect("it is whole");
    let trail = locator.trail.as_mut().expect("full snapshots have one");
    assert_eq!(trail.len(), 10);
    trail[4] = Offset(trail[4].0 - 1);
    // A row is a fact and does not change: this is another copy, in a pack that is lost like the others.
    let mut pack = row.pack;
    pack.0[15] = 0xff;
    assert!(pack > row.pack, "of two copies the later one is looked at first");
    locator.pack = pack;
    let row = SnapshotRow { pack, locator: locator.encode(), ..row };
    let put = stage.world.ask(1_000, move |ports| async move { ports.index.put_snapshot(row).await });
    assert_eq!(put, Some(Ok(())));
    stage.lose("full");
    stage.ask_all()
}
