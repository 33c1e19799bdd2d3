//! Directed scenarios: for mutants that random seeds meet too rarely. Each is clean without its mutant and
//! fails with it. What they are played on is in `stage`.

use crate::archiving::scenarios::{
    archive_that_refuses, archive_with_other_objects, index_that_is_lost_after_packs_have_moved,
    pack_that_moves_while_it_is_read, packs_that_are_spoilt_on_the_way, packs_that_have_moved,
};
use crate::collection::scenarios::{
    checkpoint_whose_retirement_is_a_rumour, index_that_is_lost_after_a_long_time,
    index_that_is_lost_before_it_is_rebuilt, live_checkpoint, row_that_an_owner_writes_again,
    rows_that_come_between_two_passes, rows_that_come_within_a_pass, young_packs,
};
use crate::creation::old_version_that_no_row_covers;
use crate::drains::{drain_while_many_aggregates_load, partition_that_cannot_start};
use crate::erasing::{
    checkpoint_on_its_way_at_an_erasure, owner_that_hears_of_an_erasure, owner_that_starts_after_an_erasure,
};
use crate::halts::{halt_while_another_loads, log_cut_below_a_loaded_state};
use crate::losses::{
    log_that_forgets_an_unread_event, log_that_passes_an_owner, lost_checkpoint_and_no_log,
    lost_checkpoint_before_it_is_covered, lost_checkpoint_that_is_folded_again, topic_that_is_created_again,
};
use crate::marks::{
    entries_of_histories_that_were_cut_off, entry_that_is_folded_again, mark_of_a_gap_that_was_cut_off,
    marked_entry_whose_pack_is_lost, marked_row_whose_record_is_lost,
};
use crate::merging::{late_segment, refused_segments, short_history};
use crate::ports::{Fate, broker::Draft, producer::VersionMode};
use crate::rebuild::full_record_of_a_dead_flush;
use crate::refold::{
    refold_of_what_is_in_a_checkpoint, refold_that_dies_before_its_rows, refold_that_finds_a_rumour,
};
use crate::retention::scenarios::{
    row_that_is_written_again, state_that_newer_events_need, state_whose_events_are_a_rumour,
};
use crate::schedules::{
    partition_that_comes_back_during_a_run, run_that_is_asked_for_once, run_that_is_written_late,
    run_that_nobody_was_there_for,
};
use crate::stage::{HERE, SEEING_RUMOURS, Stage, TOPIC};
use crate::{plan::FaultPlan, rng::Odds, subject::Subject, world::Outcome};
use snapfold::codec::pack::Locator;
use snapfold::domain::aggregate::OnPoison;
use snapfold::domain::ids::{Offset, Version};
use snapfold::domain::mutant::Mutant;
use snapfold::domain::partition::Strategy;
use snapfold::domain::row::SnapshotRow;

/// One scenario, for one mutant.
pub(crate) struct Scenario {
    /// What is staged.
    pub(crate) name: &'static str,
    /// Whom it catches.
    pub(crate) mutant: Mutant,
    /// Stages it.
    pub(crate) play: fn() -> Outcome,
}

macro_rules! scenarios {
    ($($mutant:ident by $play:ident,)*) => {
        const SCENARIOS: &[Scenario] =
            &[$(Scenario { name: stringify!($play), mutant: Mutant::$mutant, play: $play }),*];
    };
}

scenarios! {
    SupersededBeforeAcked by refused_segments,
    SupersededUnmerged by short_history,
    SegmentBaseUnchecked by late_segment,
    AnySeenRowSupersedes by rumour_over_a_checkpoint,
    SnapshotRowNotAdopted by rumour_ahead_of_the_start,
    AdoptionHoldIgnored by rumour_that_is_never_adopted,
    NoReplaySkip by rumour_that_is_never_adopted,
    IncrementOnUnadoptedRow by increment_on_a_rumour,
    UnadoptedRowSupersedes by checkpoint_over_a_rumour,
    UseCheckpointBeyondWatermark by rumour_of_a_checkpoint,
    EntriesBeyondStartDropped by watermark_that_comes_late,
    CommitPastDeadLetter by dead_letter_that_is_refused,
    ConflictsUnnoticed by two_events_of_one_version,
    DanglingRowGivesUp by lost_packs_and_a_whole_log,
    MissingPackIgnored by lost_checkpoint,
    RowsSeenDoNotBound by lost_packs_and_a_cut_log,
    StaleOwnerBelieved by owner_from_the_past,
    MarkForgotten by quarantine_that_only_a_checkpoint_tells,
    RepeatsNotRefused by version_that_a_tombstone_took,
    PoisonForgetsEventId by poison_that_comes_twice,
    SnapshotTimeoutIsSuccess by snapshot_row_that_is_lost,
    CheckpointTimeoutIsSuccess by checkpoint_row_that_is_lost,
    CheckpointRowBeforePack by pack_that_never_comes,
    FullRowBeforeIncrement by death_between_two_rows,
    MarkEpochUnchecked by mark_of_a_gap_that_was_cut_off,
    BatchNotVerified by log_cut_behind_a_batch,
    TopicIdIgnored by topic_that_is_created_again,
    PassedPositionKept by log_that_passes_an_owner,
    ReadOnAfterElection by log_cut_below_a_marker,
    UnreadTakenForEmpty by log_that_forgets_an_unread_event,
    TrailUnproved by trail_that_leads_astray,
    MarkedRowDoesNotBound by marked_row_whose_record_is_lost,
    MarkedEntryDoesNotBound by marked_entry_whose_pack_is_lost,
    DrainLeavesParked by drain_while_many_aggregates_load,
    LostCheckpointForgotten by lost_checkpoint_and_no_log,
    UnreadableNeverRetired by lost_checkpoint_that_is_folded_again,
    UnreadableRetiredEarly by lost_checkpoint_before_it_is_covered,
    FoldedBeyondHalt by halt_while_another_loads,
    EntriesAheadKept by entry_that_is_folded_again,
    LaterIncrementFirst by death_between_two_increments,
    CutEntriesKept by entries_of_histories_that_were_cut_off,
    PastRowUncovered by old_version_that_no_row_covers,
    StatesAheadUnchecked by log_cut_below_a_loaded_state,
    RefoldWatermarkEarly by refold_that_dies_before_its_rows,
    RefoldForgetsCheckpoints by refold_of_what_is_in_a_checkpoint,
    RefoldRumourTrusted by refold_that_finds_a_rumour,
    LineagesMixed by refold_of_what_is_in_a_checkpoint,
    RetentionStrandsIncrements by state_that_newer_events_need,
    SurvivorsNotConfirmed by state_whose_events_are_a_rumour,
    DeletedRowRewritten by row_that_is_written_again,
    GcOnePass by rows_that_come_within_a_pass,
    GcNotVerifiedAgain by rows_that_come_between_two_passes,
    GcYoungPacks by young_packs,
    GcIgnoresCheckpointRows by live_checkpoint,
    GcLeavesCheckpointRows by checkpoint_whose_retirement_is_a_rumour,
    GcTakesProvisional by row_that_an_owner_writes_again,
    GcOrphansByAge by index_that_is_lost_after_a_long_time,
    GcTrustsLostIndex by index_that_is_lost_before_it_is_rebuilt,
    ArchiveDeletesFirst by archive_that_refuses,
    ArchiveTrustsExists by archive_with_other_objects,
    ArchiveUnproved by packs_that_are_spoilt_on_the_way,
    ArchivedForgotten by packs_that_have_moved,
    ArchiveReadFirst by pack_that_moves_while_it_is_read,
    ArchiveUnlisted by index_that_is_lost_after_packs_have_moved,
    RebuildTakesLoneFulls by full_record_of_a_dead_flush,
    CatchUpForgotten by run_that_nobody_was_there_for,
    RunsTwice by run_that_is_asked_for_once,
    ReadBesideRun by partition_that_comes_back_during_a_run,
    LateRunCounts by run_that_is_written_late,
    ErasedFoldedAgain by owner_that_starts_after_an_erasure,
    ErasedStaysInMemory by owner_that_hears_of_an_erasure,
    CheckpointOvertaken by checkpoint_on_its_way_at_an_erasure,
    CheckpointWaitsForAll by partition_that_cannot_start,
}

/// The scenario of a mutant that seeds are too rare for.
pub(crate) fn scenario_of(mutant: Mutant) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.mutant == mutant)
}

/// A dying owner's snapshot row reaches one replica, below LW and over a checkpoint. The next owner sees it,
/// and later nobody does.
fn rumour_over_a_checkpoint() -> Outcome {
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
fn rumour_ahead_of_the_start() -> Outcome {
    let stage = Stage::new();
    stage_rumour_ahead(&stage);
    stage.worker("next");
    stage.world.idle(2_000);
    stage.forget();
    stage.ask_all()
}

/// The same, and the adoption does not end: LW must not pass what only the rumour covers.
fn rumour_that_is_never_adopted() -> Outcome {
    let stage = Stage::new();
    stage_rumour_ahead(&stage);
    let next = stage.worker("next");
    stage.always(next, "put_snapshot", Fate::Stuck);
    stage.world.idle(2_000);
    stage.forget();
    stage.ask_all()
}

fn stage_rumour_ahead(stage: &Stage) {
    let dying = stage.worker("dying");
    stage.always(dying, "put_checkpoint", Fate::Lost);
    stage.always(dying, "put_snapshot", Fate::Rumour);
    stage.events(1..=3);
    stage.snapshot(dying);
    stage.world.sim.kill(dying);
    stage.world.index.spare(SEEING_RUMOURS);
}

/// An increment that starts from a rumour would supersede the checkpoint below it.
fn increment_on_a_rumour() -> Outcome {
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
fn rumour_of_a_checkpoint() -> Outcome {
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
fn watermark_that_comes_late() -> Outcome {
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

/// No dead letter can be written: LW stays before the poison.
fn dead_letter_that_is_refused() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_dead_letter", Fate::Refused);
    stage.events(1..=2);
    let poison = stage.world.broker.draft("nobody", "{not json");
    let poison = Draft { aggregate: None, ..poison };
    let at = stage.world.broker.append(TOPIC, HERE, poison).expect("the topic is there");
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
fn two_events_of_one_version() -> Outcome {
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
fn lost_packs_and_a_whole_log() -> Outcome {
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
fn lost_checkpoint() -> Outcome {
    let stage = Stage::new();
    stage.worker("worker");
    stage.events(1..=3);
    stage.lose("checkpoint");
    stage.not_below(3, stage.head().as_ref());
    stage.world.finish()
}

/// Snapshots are lost and the log was cut: the rows still tell how far the head had come, also where the log
/// told no leader epochs.
fn lost_packs_and_a_cut_log() -> Outcome {
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
fn owner_from_the_past() -> Outcome {
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
fn checkpoint_over_a_rumour() -> Outcome {
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
fn quarantine_that_only_a_checkpoint_tells() -> Outcome {
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
fn version_that_a_tombstone_took() -> Outcome {
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
fn poison_that_comes_twice() -> Outcome {
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
fn snapshot_row_that_is_lost() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.events(1..=3);
    stage.always(worker, "put_snapshot", Fate::Lost);
    stage.snapshot(worker);
    stage.forget();
    stage.ask_all()
}

/// The same for a checkpoint's row: LW stays.
fn checkpoint_row_that_is_lost() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_checkpoint", Fate::Lost);
    stage.events(1..=3);
    stage.forget();
    stage.ask_all()
}

/// A worker dies before a checkpoint's pack is there: no row names it.
fn pack_that_never_comes() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker("worker");
    stage.always(worker, "put_new", Fate::Stuck);
    stage.events(1..=3);
    stage.world.sim.kill(worker);
    stage.ask_all()
}

/// A worker dies after the first of a flush's two rows: the increment's, or its events would go with the
/// checkpoint that the full row supersedes.
fn death_between_two_rows() -> Outcome {
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
fn death_between_two_increments() -> Outcome {
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
fn log_cut_behind_a_batch() -> Outcome {
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
fn log_cut_below_a_marker() -> Outcome {
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
fn trail_that_leads_astray() -> Outcome {
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
