//! What happened in a seed, and over all seeds: the figures that show whether a fault was ever tried.

use std::fmt;

macro_rules! counts {
    ($($name:ident $text:literal)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Count { $(#[doc = $text] $name),* }
        /// All of them, with their printed names.
        pub(crate) const COUNTS: &[(Count, &str)] = &[$((Count::$name, $text)),*];
    };
}

counts! {
    Step "steps"
    VirtualSecond "virtual seconds"
    Event "events"
    Duplicate "duplicate events"
    OutOfOrder "events out of order in time"
    Poison "poison records"
    Tombstone "tombstones"
    Conflict "version conflicts"
    MissingVersion "version gaps"
    OffsetGap "offset gaps"
    Kill "kills"
    Exit "workers that ended by themselves"
    Restart "restarts"
    Pause "pauses"
    Stall "stalls of one task"
    ClockSkew "skewed clocks"
    ClockJump "clock jumps"
    Join "joins"
    Leave "leaves"
    Assign "partitions assigned"
    Revoke "partitions revoked"
    Lose "partitions lost"
    SessionTimeout "session timeouts of the dead and the paused"
    Expelled "members expelled though they run"
    RevokeTimeout "members expelled in a revocation"
    LateNotice "late notices"
    Overlap "overlapping owners"
    ZombieCommit "commits by zombies"
    CommitRefused "commits of zombies refused"
    CommitWentBack "commits that went back"
    Slow "slow calls"
    Hung "calls that hung"
    IndexRefused "index calls refused"
    IndexUnheard "index calls done, unheard"
    IndexLost "index calls lost"
    IndexLate "index writes late"
    PartialWrite "index writes on some replicas only"
    ReplicaLate "late replica writes behind an ack"
    ReplicaLost "lost replica writes behind an ack"
    RumourRead "reads whose two replicas differed"
    ReadRepair "read repairs"
    BlobRefused "blob calls refused"
    BlobUnheard "blob calls done, unheard"
    BlobLost "blob calls lost"
    BlobLate "blob writes late"
    BlobExists "blobs that existed"
    BitFlip "bit flips in reads"
    TruncatedRead "reads cut short"
    DamageFlip "stored blobs flipped"
    DamageLoss "stored blobs lost"
    LogRefused "log calls refused"
    LogUnheard "log calls done, unheard"
    LogLost "log calls lost"
    LogLate "commits late"
    EpochBump "leader elections"
    Truncation "truncations"
    TruncatedRecord "records truncated"
    TruncatedBelowWatermark "truncations below a low watermark"
    Recreation "topics created again"
    Retention "retention moves"
    RetentionPastWatermark "retention moves past a low watermark"
    Flush "packs written"
    CheckpointWritten "checkpoints written"
    CheckpointRetired "checkpoints retired"
    SnapshotWritten "snapshots written"
    SnapshotDeleted "snapshots deleted"
    DeadLettered "dead letters"
    Load "loads"
    Eviction "evictions"
    Quarantine "quarantines"
    Adoption "provisional rows adopted"
    FormChange "changes of form by strategy auto"
    ChaosAnswer "answers compared, asked during chaos"
    FinalAnswer "answers compared, asked at the end"
    VersionCompared "of these, as of a version"
    TimeCompared "of these, as of a boundary time"
    AllCompared "runs that compared every version and boundary time"
    ScheduleAsked "runs of schedules asked for"
    ScheduleRun "runs of schedules"
    SnapshotAsked "snapshots asked for"
    DeletionAsked "deletions asked for"
    CollectionAsked "garbage collections asked for"
    PackCollected "packs collected"
    ErasureAsked "erasures asked for"
    ErasureComplete "erasures of which nothing was left"
    PackRewritten "packs written anew without the erased"
    RecordMoved "records of others that moved with them"
    ArchivingAsked "passes of the archive's mover asked for"
    PackCopied "copies of packs in the archive"
    PackArchived "packs moved to the archive"
    ArchivedAnswer "snapshots told to be archived"
    HeadSnapshotMade "of these, taken of a head"
    PastSnapshotMade "of these, written of an older version"
    Compaction "aggregates compacted"
    CompactionRefused "compactions that damage kept from merging"
    SegmentWritten "segments written"
    RowSuperseded "rows deleted for segments"
    Refold "refolds started"
    RefoldResumed "of these, tries that went on where another had died or failed"
    RefoldDone "of these, done and taken over"
    DropAsked "drops of old lineages tried"
    DropNoted "of these, noted"
    DropChecked "runs in the end of which nothing of a dropped lineage was left"
    OldVersionCompared "versions of old lineages compared"
    SurfaceAnswer "events, lists and snapshots compared"
    IndexRebuilt "indexes lost and rebuilt"
    LoneFull "full records of dead flushes left out"
    GoneAnswer "answers that said gone"
    ForgottenAnswer "of these, of versions that history no longer promises"
    DamageExcuse "answers that only stored damage excuses"
}

/// What a seed may suffer: each must have been tried in enough seeds.
pub(crate) const FAULTS: &[Count] = &[
    Count::Duplicate,
    Count::OutOfOrder,
    Count::Poison,
    Count::Tombstone,
    Count::Conflict,
    Count::MissingVersion,
    Count::OffsetGap,
    Count::Kill,
    Count::Pause,
    Count::Stall,
    Count::ClockSkew,
    Count::ClockJump,
    Count::SessionTimeout,
    Count::Expelled,
    Count::RevokeTimeout,
    Count::LateNotice,
    Count::Overlap,
    Count::ZombieCommit,
    Count::CommitRefused,
    Count::CommitWentBack,
    Count::Slow,
    Count::Hung,
    Count::IndexRefused,
    Count::IndexUnheard,
    Count::IndexLost,
    Count::IndexLate,
    Count::PartialWrite,
    Count::ReplicaLate,
    Count::ReplicaLost,
    Count::RumourRead,
    Count::ReadRepair,
    Count::BlobRefused,
    Count::BlobUnheard,
    Count::BlobLost,
    Count::BlobLate,
    Count::BlobExists,
    Count::BitFlip,
    Count::TruncatedRead,
    Count::DamageFlip,
    Count::DamageLoss,
    Count::IndexRebuilt,
    Count::LogRefused,
    Count::LogUnheard,
    Count::LogLost,
    Count::LogLate,
    Count::EpochBump,
    Count::Truncation,
    Count::TruncatedBelowWatermark,
    Count::Recreation,
    Count::Retention,
];

/// Counters of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    counts: [u64; COUNTS.len()],
}

impl Default for Stats {
    fn default() -> Self {
        Self { counts: [0; COUNTS.len()] }
    }
}

impl Stats {
    /// Counts `n` more of `what`.
    pub(crate) fn add(&mut self, what: Count, n: u64) {
        self.counts[what as usize] += n;
    }

    /// How often `what` happened.
    pub(crate) fn of(&self, what: Count) -> u64 {
        self.counts[what as usize]
    }
}

/// Runs from which on averages are compared with their floors.
const SEEDS_FOR_MEANS: u64 = 80;
/// Runs from which on shares are.
const SEEDS_FOR_SHARES: u64 = 200;
/// Every fault must have happened in this share of the seeds, in percent.
const SHARE_FLOOR: f64 = 10.0;
/// How often things must happen in a seed on average.
const MEAN_FLOORS: [(Count, f64); 5] = [
    (Count::Kill, 5.0),
    (Count::Flush, 50.0),
    (Count::ChaosAnswer, 100.0),
    (Count::FinalAnswer, 200.0),
    (Count::FormChange, 0.2),
];

/// Sums over seeds, and in how many seeds each thing happened at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Seeds counted.
    pub(crate) seeds: u64,
    /// Of those, runs that were made twice and left the same trace.
    pub(crate) twice: u64,
    sums: Stats,
    seeds_with: Stats,
}

impl Totals {
    /// Adds one seed.
    pub(crate) fn add(&mut self, seed: &Stats) {
        self.seeds += 1;
        for (what, _) in COUNTS {
            self.sums.add(*what, seed.of(*what));
            self.seeds_with.add(*what, u64::from(seed.of(*what) > 0));
        }
    }

    /// Sum over the seeds.
    pub(crate) fn sum(&self, what: Count) -> u64 {
        self.sums.of(what)
    }

    /// Mean over the seeds.
    pub(crate) fn mean(&self, what: Count) -> f64 {
        self.sum(what) as f64 / self.seeds.max(1) as f64
    }

    /// What was tried too rarely for the verdict "clean" to mean much; averages are asked for from
    /// [`SEEDS_FOR_MEANS`] runs on, shares from [`SEEDS_FOR_SHARES`].
    pub(crate) fn below_floors(&self) -> Vec<String> {
        let mut short = Vec::new();
        if self.seeds >= SEEDS_FOR_MEANS {
            let low = MEAN_FLOORS.iter().filter(|(what, floor)| self.mean(*what) < *floor);
            short.extend(low.map(|(what, floor)| {
                format!("{what:?}: {:.1} per seed, the floor is {floor}", self.mean(*what))
            }));
            if self.twice * 20 < self.seeds {
                short.push(format!("{} of {} runs were made twice", self.twice, self.seeds));
            }
        }
        if self.seeds >= SEEDS_FOR_SHARES {
            let rare = FAULTS.iter().filter(|what| self.share(**what) < SHARE_FLOOR);
            short.extend(rare.map(|what| format!("{what:?}: in {:.1} % of the seeds", self.share(*what))));
        }
        short
    }

    /// Share of seeds, in percent, in which it happened at least once.
    pub(crate) fn share(&self, what: Count) -> f64 {
        100.0 * self.seeds_with.of(what) as f64 / self.seeds.max(1) as f64
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<46} {:>12} {:>10} {:>9}",
            format!("{} seeds", self.seeds),
            "total",
            "per seed",
            "seeds %"
        )?;
        for (what, name) in COUNTS {
            let sum = self.sum(*what);
            writeln!(f, "{name:<46} {sum:>12} {:>10.2} {:>9.1}", self.mean(*what), self.share(*what))?;
        }
        writeln!(f, "{:<46} {:>12}", "runs made twice with the same trace", self.twice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_sum_and_tell_the_share_of_seeds() {
        let (mut one, two, mut totals) = (Stats::default(), Stats::default(), Totals::default());
        one.add(Count::Kill, 3);
        totals.add(&one);
        totals.add(&two);
        assert_eq!((totals.seeds, totals.sum(Count::Kill)), (2, 3));
        assert!((totals.share(Count::Kill) - 50.0).abs() < 1e-9);
        assert!(totals.to_string().contains("kills"), "{totals}");
    }

    #[test]
    fn what_is_tried_too_rarely_is_named() {
        let mut rich = Stats::default();
        COUNTS.iter().for_each(|(what, _)| rich.add(*what, 3_000));
        let mut totals = Totals::default();
        (0..SEEDS_FOR_SHARES - 20).for_each(|_| totals.add(&Stats::default()));
        (0..20).for_each(|_| totals.add(&rich));
        totals.twice = 10;
        assert_eq!(totals.below_floors(), Vec::<String>::new());
        totals.add(&Stats::default());
        let below = totals.below_floors();
        assert_eq!(below.len(), FAULTS.len() + 1, "{below:?}");
        assert!(below[0].contains("made twice") && below[1].contains("Duplicate"), "{below:?}");
        (0..SEEDS_FOR_SHARES * 99).for_each(|_| totals.add(&Stats::default()));
        assert!(totals.below_floors()[0].contains("Kill"), "{:?}", totals.below_floors());
    }
}
