//! Protocol mutants: one-line wrong versions of single rules, which the simulator must catch
//! (`tests/sim/mutants.rs`). They are run-time switches in the bare build only (the simulator's build); with
//! `runtime` every question is the constant `false`.

macro_rules! mutants {
    ($($(#[$says:meta])* $name:ident,)*) => {
        /// One wrong version of one rule; the doc comment says what is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Mutant { $($(#[$says])* $name,)* }

        impl Mutant {
            /// All of them: a mutant that is not in this list cannot exist.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

mutants! {
    /// The position is committed instead of the low watermark.
    CommitPosition,
    /// The low watermark is the last uncovered offset instead of the first.
    WatermarkFromLastDirty,
    /// The low watermark passes an event whose dead letter is not recorded.
    CommitPastDeadLetter,
    /// Events that wait for a load do not hold the low watermark.
    ParkedNotHeld,
    /// A snapshot's acknowledgement covers events that were folded after it was taken.
    CleanThoughNewerFolded,
    /// A checkpoint's acknowledgement covers events that were folded after it was taken.
    PendingThoughNewerFolded,
    /// An aggregate with uncovered events may be evicted.
    DirtyEvicted,
    /// A load does not read the live checkpoints.
    PendingForgottenOnLoad,
    /// A load reads only the newest of several pending entries.
    OnlyNewestPendingUsed,
    /// A new owner uses a checkpoint's events beyond its start without adopting the checkpoint (L1).
    UseCheckpointBeyondWatermark,
    /// The first owner of a log takes an aggregate that it let go for one that it never had.
    LetGoForgotten,
    /// Whoever starts at the log's beginning counts as its first owner.
    FirstOwnerAssumed,
    /// The first owner of a log folds before the low watermark of its start is acknowledged.
    FirstWatermarkUnwritten,
    /// A row at or beyond the next offset to fold is relied on as it was seen (rule 4, A1).
    SnapshotRowNotAdopted,
    /// A row that was merely read supersedes checkpoint entries (A1).
    AnySeenRowSupersedes,
    /// A provisional row supersedes checkpoint entries when a later checkpoint is acknowledged.
    UnadoptedRowSupersedes,
    /// Events that a provisional row covers do not hold the low watermark.
    AdoptionHoldIgnored,
    /// An increment may start from a row that is not acknowledged yet.
    IncrementOnUnadoptedRow,
    /// Every older checkpoint is retired when an own one is acknowledged.
    RetireOlderAfterOwn,
    /// Entries count as superseded when the snapshot is handed over, not when its rows are acknowledged.
    RetiredBeforeAck,
    /// Checkpoints and increments do not carry the quarantine mark.
    MarkForgotten,
    /// A quarantined aggregate skips versions and event ids that were folded before, without a dead letter.
    RepeatsNotRefused,
    /// A version or event id that was folded before is folded again.
    DuplicatesFolded,
    /// Events that the loaded state holds already are folded again (rule 4).
    NoReplaySkip,
    /// Replay skips the first event after the loaded state, too.
    SkipOffByOne,
    /// Equal versions with other bytes are taken for plain duplicates.
    ConflictsUnnoticed,
    /// A record that does not join is folded all the same (J1, rule 9).
    GapFolded,
    /// Rows whose predecessors were deleted do not tell a reader that something lies before them.
    DeletedNotMissed,
    /// What a checkpoint says of versions is believed although the log has lost events of it.
    DoubtsUntold,
    /// A reader reads snapshot rows before the list of checkpoints.
    SnapshotsBeforeList,
    /// A reader reads the low watermark after the list of checkpoints.
    WatermarkAfterList,
    /// A reader uses a cached list of checkpoints with a fresh low watermark.
    CachedListFreshWatermark,
    /// A reader does not look into checkpoints.
    ReaderIgnoresPending,
    /// A list, which reads no log, leaves what checkpoints hold beyond the low watermark to the log.
    RestLeftToLog,
    /// A reader counts tail events from a base older than a row it has seen (V1).
    TailFromOldBase,
    /// A reader does not check its fold against the rows it has seen (V2).
    RowsSeenDoNotBound,
    /// A quarantine that only a row tells of, whose record cannot be read, is forgotten (V2).
    MarkedRowDoesNotBound,
    /// The same where only a checkpoint's entry tells of it.
    MarkedEntryDoesNotBound,
    /// A reader gives up where the newest record cannot be read (rule 6).
    DanglingRowGivesUp,
    /// A listed checkpoint whose pack is missing is skipped (L2).
    MissingPackIgnored,
    /// An owner's answer from below the low watermark is taken (O1).
    StaleOwnerBelieved,
    /// An owner that holds nothing of an aggregate does not tell what live checkpoints hold of it.
    EntriesUntold,
    /// What an owner tells of live checkpoints counts although the log may have lost it since.
    EntriesTakenForSure,
    /// Records are not checked against their checksums.
    ChecksumIgnored,
    /// A snapshot row whose write timed out counts as written (rule 1).
    SnapshotTimeoutIsSuccess,
    /// A checkpoint row whose write timed out counts as written (rule 1).
    CheckpointTimeoutIsSuccess,
    /// A flush ends with the acknowledgement of its first row.
    FirstRowAckIsEnough,
    /// A checkpoint's row is written before its pack is acknowledged.
    CheckpointRowBeforePack,
    /// Events count as covered when the checkpoint is handed over, not when its row is acknowledged.
    CommitBeforeCheckpointRow,
    /// A new owner starts at the group's committed offset alone, whatever topic it belongs to.
    WatermarkRowIgnored,
    /// A low watermark of another incarnation of the topic is believed (rule 12).
    TopicIdIgnored,
    /// Where the log has forgotten events of an unreadable checkpoint, reads do as if it had none (rule 6).
    LostCheckpointForgotten,
    /// An unreadable checkpoint is retired before all that it held is covered again.
    UnreadableRetiredEarly,
    /// An unreadable checkpoint is never retired.
    UnreadableNeverRetired,
    /// A position beyond the end of its leader epoch is believed (rule 12).
    TruncationUnchecked,
    /// Events that waited for a load are folded beyond the one that halts their partition (rule 9).
    FoldedBeyondHalt,
    /// A drain ends although events that were taken still wait for loads.
    DrainLeavesParked,
    /// A quarantine mark is believed though the log was cut below the event behind it (rule 12).
    MarkEpochUnchecked,
    /// States of a revoked partition are used when it comes back.
    MemoryKeptOnRevoke,
    /// Entries wholly beyond an assignment's start count as superseded, because its owner folds them again.
    EntriesBeyondStartDropped,
    /// The same entries stay live when all their offsets are covered again, whatever the log holds there now.
    EntriesAheadKept,
    /// Entries of events that were cut off before the low watermark came so far are read like all others.
    CutEntriesKept,
    /// A low watermark that was written behind an unclean election counts as promised before it.
    LatePromiseCounts,
    /// An owner does not look after an election what others have promised.
    PromisesUnheard,
    /// An owner looks only for promises under leader epochs that it has known itself.
    OldPromisesUnheard,
    /// A reader reads on from a low watermark that the log was cut below (rule 12).
    CutTailRead,
    /// Poison that takes a version does not enter the window of event ids.
    PoisonForgetsEventId,
    /// A full row is written before the increment that ends at it.
    FullRowBeforeIncrement,
    /// Of the increments of one flush, a later one's row is written before an earlier one's.
    LaterIncrementFirst,
    /// A batch is folded though the log was cut after it was read (rule 12).
    BatchNotVerified,
    /// After an election, records are read on from where reading had come, not from the position (rule 12).
    ReadOnAfterElection,
    /// An owner whose position the log has passed waits for records that are gone.
    PassedPositionKept,
    /// Offsets that the log has forgotten are passed although nobody has looked whether they held records.
    UnreadTakenForEmpty,
    /// Events are folded by a trail, whosever they are and whatever they lead to.
    TrailUnproved,
    /// A refold writes the new lineage's low watermark before its rows are acknowledged.
    RefoldWatermarkEarly,
    /// A refold takes the events of rows for all events below the low watermark.
    RefoldForgetsCheckpoints,
    /// What was refused because of a mark is left out of a state that others have brought beyond it.
    RefusedEventsForgotten,
    /// A refold takes what lies below a record that nothing leads up to for events that never were.
    RefoldSkipsDeleted,
    /// A refold relies on rows of an earlier try that it has merely seen (rule 4).
    RefoldRumourTrusted,
    /// A refold writes its records into the old lineage.
    LineagesMixed,
    /// A snapshot of an older version is written though no acknowledged row holds its events.
    PastRowUncovered,
    /// After an election only the position is looked for in the log, not what was loaded from beyond it.
    StatesAheadUnchecked,
    /// An index is rebuilt without the checkpoints that are still needed.
    RebuildForgetsCheckpoints,
    /// An index is rebuilt with full records whose increments were never written.
    RebuildTakesLoneFulls,
    /// Rebuilt rows, and those that their flushes wrote, have one write time.
    RebuiltRowsMix,
    /// A rebuilt low watermark is the end of what the newest checkpoint holds, whatever else was on its way.
    RebuildWatermarkIsReach,
    /// Where no pack tells a low watermark, a rebuilt index does not say that its rows have an owner.
    RebuiltOwnerIsFirst,
    /// A segment's base is used although it lies beyond the moment that is asked for.
    SegmentBaseUnchecked,
    /// Increments go although no segment holds their events.
    SupersededUnmerged,
    /// What segments replace goes before their rows are acknowledged.
    SupersededBeforeAcked,
    /// Retention takes a full record that newer increments need and nothing else leads up to.
    RetentionStrandsIncrements,
    /// A deletion is written at a time before the row's, so that the row lives on or comes back.
    DeletedRowRewritten,
    /// What a deletion relies on is not written again first: it may be a dying owner's rumour.
    SurvivorsNotConfirmed,
    /// Packs are collected however young they are, before their rows are written.
    GcYoungPacks,
    /// A pack goes in the pass that finds it unreferenced, although its flush may go on.
    GcOnePass,
    /// What no row names goes although the index may have lost rows.
    GcTrustsLostIndex,
    /// How long a pack is orphaned is told by its age, not by when its rows were found missing.
    GcOrphansByAge,
    /// References are not looked up again right before a pack is deleted.
    GcNotVerifiedAgain,
    /// A checkpoint's pack is deleted although a checkpoint row names it (G1, rule 7).
    GcIgnoresCheckpointRows,
    /// The deletion of a checkpoint's row is not written before its pack is deleted (G1).
    GcLeavesCheckpointRows,
    /// The rows of a pack that nobody reads are not deleted before it is (G1).
    GcLeavesSnapshotRows,
    /// A pack is collected whose rows an owner may be writing again (rule 4).
    GcTakesProvisional,
    /// A pack is deleted from the live store before its copy in the archive is acknowledged.
    ArchiveDeletesFirst,
    /// What has a pack's name in the archive is taken for its copy.
    ArchiveTrustsExists,
    /// What was read of a pack is archived although it may have been damaged on the way.
    ArchiveUnproved,
    /// Packs are looked for in the live store only.
    ArchivedForgotten,
    /// Packs are looked for in the archive before they are in the live store.
    ArchiveReadFirst,
    /// Only packs of the live store are listed.
    ArchiveUnlisted,
    /// Due times of schedules that fell into a time without an owner are not made up for.
    CatchUpForgotten,
    /// The end of a schedule's run is not noted, so its due time runs again.
    RunsTwice,
    /// An owner starts without having looked who is erased.
    ErasedFoldedAgain,
    /// What is in memory of an aggregate stays there when it is erased.
    ErasedStaysInMemory,
    /// A partition starts again without the erased while a checkpoint with events of them is on its way.
    CheckpointOvertaken,
    /// What is to be moved out of a pack loses its rows before those of the copies are acknowledged.
    PurgeDeletesFirst,
    /// A record is moved though its row may still be adopted, or taken back by a log that was cut (rule 4).
    PurgeTakesProvisional,
    /// What was deleted while it was being copied stays as the copy.
    PurgeBringsBack,
    /// A row that was merely read is moved, and missed by the next read.
    PurgeTrustsRumours,
    /// An erasure is complete although a pack of it is left.
    PurgeEndsEarly,
    /// Where a new lineage starts is not written down of a partition of which nothing is covered.
    RefoldStartForgotten,
    /// What the log forgets while a refold runs is not fetched from the old lineage.
    RefoldOvertaken,
    /// Rows above a version count as they were before those at or below it were read.
    AboveReadFirst,
    /// The second look at rows above a moment ends where the first did.
    SecondLookShort,
    /// The earliest version that is left is told by where rows end, not by where they begin.
    EarliestInOrderOfEnds,
    /// No record is taken as long as tables of live checkpoints are more than the memory there is.
    TablesKeepRecordsOut,
    /// A checkpoint is not written before every partition has said what it has.
    CheckpointWaitsForAll,
    /// The last runs of a partition that comes back are read while a run of it from before is not over.
    ReadBesideRun,
    /// What was read of a partition's last runs before it was lost counts when it has come back.
    LateReadCounts,
    /// Rows of a dropped lineage go before it is noted that it is.
    DroppedBeforeNoted,
    /// Whoever is erased is read from the log before this process has heard of it.
    ErasureHeardLate,
    /// The active lineage may be dropped.
    DropsTheActive,
    /// A row of a dropped lineage that comes late keeps its pack.
    DroppedRowsKeepPacks,
    /// An index that is rebuilt has the rows of lineages that were dropped.
    RebuildRevivesDropped,
    /// States that were kept count for every lineage.
    CacheMixesLineages,
    /// An old lineage goes on in the topic beyond its low watermark.
    OldLineageGoesOn,
    /// An old lineage ends at its low watermark, whatever its live checkpoints hold beyond.
    OldLineageEndsEarly,
    /// Of two runs in one place the one that is written last counts.
    LateRunCounts,
}

#[cfg(not(feature = "runtime"))]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! { static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) }; }

    /// True if this mutant is switched on in this thread.
    pub(crate) fn mutant(which: Mutant) -> bool {
        ACTIVE.get() == Some(which)
    }

    /// Switches this thread to one mutant, or to the real protocol.
    pub fn activate(which: Option<Mutant>) {
        ACTIVE.set(which);
    }
}

#[cfg(feature = "runtime")]
mod switch {
    /// Always false: production has no mutants.
    #[inline(always)]
    pub(crate) const fn mutant(_: super::Mutant) -> bool {
        false
    }
}

#[cfg(not(feature = "runtime"))]
pub use switch::activate;
pub(crate) use switch::mutant;
