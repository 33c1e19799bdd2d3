//! Which directed scenario is for which mutant that random seeds meet too rarely. Each is clean without its
//! mutant and fails with it. They are where what they are about is; what they are played on is in `stage`.

use crate::archiving::scenarios::{
    archive_that_refuses, archive_with_other_objects, index_that_is_lost_after_packs_have_moved,
    pack_that_moves_while_it_is_read, packs_that_are_spoilt_on_the_way, packs_that_have_moved,
};
use crate::cache::scenarios::{kept_state_and_an_entry, kept_state_and_an_entry_of_a_lost_event};
use crate::collection::scenarios::{
    checkpoint_whose_retirement_is_a_rumour, index_that_is_lost_after_a_long_time,
    index_that_is_lost_before_it_is_rebuilt, live_checkpoint, row_that_an_owner_writes_again,
    rows_that_come_between_two_passes, rows_that_come_within_a_pass, snapshot_whose_row_is_a_rumour,
    young_packs,
};
use crate::creation::old_version_that_no_row_covers;
use crate::drains::{drain_while_many_aggregates_load, partition_that_cannot_start};
use crate::dropping::scenarios::{
    drop_of_the_active_lineage, drop_whose_fact_is_refused, index_that_is_rebuilt_after_a_drop,
    old_lineage_and_a_topic_that_goes_on, old_lineage_and_an_index_that_is_rebuilt,
    row_of_a_dropped_lineage_that_comes_late, two_lineages_and_one_cache,
};
use crate::erasing::{
    checkpoint_on_its_way_at_an_erasure, owner_that_hears_of_an_erasure, owner_that_starts_after_an_erasure,
    reader_that_has_not_heard_of_an_erasure,
};
use crate::halts::{
    entry_of_events_that_the_log_lost, halt_while_another_loads, log_cut_behind_a_first_owner,
    log_cut_below_a_loaded_state, log_cut_below_a_low_watermark, log_cut_below_a_promise_of_an_older_epoch,
    log_cut_below_a_promise_of_another, low_watermark_that_comes_after_a_cut,
};
use crate::losses::{
    log_that_forgets_an_unread_event, log_that_passes_an_owner, lost_checkpoint_and_no_log,
    lost_checkpoint_before_it_is_covered, lost_checkpoint_before_large_tables,
    lost_checkpoint_that_is_folded_again, topic_that_is_created_again,
};
use crate::marks::{
    entries_of_histories_that_were_cut_off, entry_that_is_folded_again, mark_of_a_gap_that_was_cut_off,
    marked_entry_whose_pack_is_lost, marked_row_whose_record_is_lost, state_beyond_a_mark,
};
use crate::merging::{
    gone_before_a_segment, late_segment, refused_segments, segment_behind_its_increments, short_history,
};
use crate::owners::{
    checkpoint_over_a_rumour, checkpoint_row_that_is_lost, dead_letter_that_is_refused,
    death_between_two_increments, death_between_two_rows, increment_on_a_rumour, list_behind_a_low_watermark,
    log_cut_behind_a_batch, log_cut_below_a_marker, lost_checkpoint, lost_packs_and_a_cut_log,
    lost_packs_and_a_whole_log, owner_from_the_past, pack_that_never_comes, poison_that_comes_twice,
    quarantine_that_only_a_checkpoint_tells, rumour_ahead_of_the_start, rumour_of_a_checkpoint,
    rumour_over_a_checkpoint, rumour_that_is_never_adopted, snapshot_row_that_is_lost,
    trail_that_leads_astray, two_events_of_one_version, version_that_a_tombstone_took,
    watermark_that_comes_late,
};
use crate::purging::scenarios::{
    packs_of_an_erased_aggregate, purge_that_dies_before_its_copies, row_of_events_that_are_cut_off,
    row_that_is_seen_once, state_that_is_thinned_while_it_is_moved,
};
use crate::rebuild::{full_record_of_a_dead_flush, rows_without_a_low_watermark};
use crate::refold::{
    refold_of_what_is_in_a_checkpoint, refold_of_what_nothing_covers, refold_that_dies_before_its_rows,
    refold_that_finds_a_rumour, refold_that_retention_overtakes,
};
use crate::retention::scenarios::{
    refold_of_what_was_deleted, row_that_goes_beside_a_read, row_that_is_written_again,
    state_that_newer_events_need, state_whose_events_are_a_rumour,
};
use crate::schedules::{
    answer_from_before_a_partition_was_lost, partition_that_comes_back_during_a_run,
    run_that_is_asked_for_once, run_that_is_written_late, run_that_nobody_was_there_for,
};
use crate::world::Outcome;
use snapfold::domain::mutant::Mutant;

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
    RestLeftToLog by list_behind_a_low_watermark,
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
    AboveReadFirst by row_that_goes_beside_a_read,
    EarliestInOrderOfEnds by gone_before_a_segment,
    TablesKeepRecordsOut by lost_checkpoint_before_large_tables,
    FoldedBeyondHalt by halt_while_another_loads,
    EntriesAheadKept by entry_that_is_folded_again,
    LaterIncrementFirst by death_between_two_increments,
    CutEntriesKept by entries_of_histories_that_were_cut_off,
    PastRowUncovered by old_version_that_no_row_covers,
    CutTailRead by log_cut_below_a_low_watermark,
    DoubtsUntold by entry_of_events_that_the_log_lost,
    StatesAheadUnchecked by log_cut_below_a_loaded_state,
    EntriesUntold by kept_state_and_an_entry,
    EntriesTakenForSure by kept_state_and_an_entry_of_a_lost_event,
    LatePromiseCounts by low_watermark_that_comes_after_a_cut,
    PromisesUnheard by log_cut_below_a_promise_of_another,
    OldPromisesUnheard by log_cut_below_a_promise_of_an_older_epoch,
    SecondLookShort by segment_behind_its_increments,
    FirstOwnerAssumed by log_cut_behind_a_first_owner,
    FirstWatermarkUnwritten by log_cut_behind_a_first_owner,
    RebuiltOwnerIsFirst by rows_without_a_low_watermark,
    RefoldWatermarkEarly by refold_that_dies_before_its_rows,
    RefoldStartForgotten by refold_of_what_nothing_covers,
    RefoldOvertaken by refold_that_retention_overtakes,
    RefoldForgetsCheckpoints by refold_of_what_is_in_a_checkpoint,
    RefoldRumourTrusted by refold_that_finds_a_rumour,
    RefusedEventsForgotten by state_beyond_a_mark,
    RefoldSkipsDeleted by refold_of_what_was_deleted,
    LineagesMixed by refold_of_what_is_in_a_checkpoint,
    RetentionStrandsIncrements by state_that_newer_events_need,
    SurvivorsNotConfirmed by state_whose_events_are_a_rumour,
    DeletedRowRewritten by row_that_is_written_again,
    GcOnePass by rows_that_come_within_a_pass,
    GcNotVerifiedAgain by rows_that_come_between_two_passes,
    GcYoungPacks by young_packs,
    GcIgnoresCheckpointRows by live_checkpoint,
    GcLeavesCheckpointRows by checkpoint_whose_retirement_is_a_rumour,
    GcLeavesSnapshotRows by snapshot_whose_row_is_a_rumour,
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
    LateReadCounts by answer_from_before_a_partition_was_lost,
    LateRunCounts by run_that_is_written_late,
    ErasedFoldedAgain by owner_that_starts_after_an_erasure,
    ErasureHeardLate by reader_that_has_not_heard_of_an_erasure,
    ErasedStaysInMemory by owner_that_hears_of_an_erasure,
    CheckpointOvertaken by checkpoint_on_its_way_at_an_erasure,
    PurgeDeletesFirst by purge_that_dies_before_its_copies,
    PurgeTakesProvisional by row_of_events_that_are_cut_off,
    PurgeBringsBack by state_that_is_thinned_while_it_is_moved,
    PurgeTrustsRumours by row_that_is_seen_once,
    PurgeEndsEarly by packs_of_an_erased_aggregate,
    CheckpointWaitsForAll by partition_that_cannot_start,
    DroppedBeforeNoted by drop_whose_fact_is_refused,
    DropsTheActive by drop_of_the_active_lineage,
    DroppedRowsKeepPacks by row_of_a_dropped_lineage_that_comes_late,
    RebuildRevivesDropped by index_that_is_rebuilt_after_a_drop,
    CacheMixesLineages by two_lineages_and_one_cache,
    OldLineageGoesOn by old_lineage_and_a_topic_that_goes_on,
    OldLineageEndsEarly by old_lineage_and_an_index_that_is_rebuilt,
}

/// The scenario of a mutant that seeds are too rare for.
pub(crate) fn scenario_of(mutant: Mutant) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.mutant == mutant)
}
