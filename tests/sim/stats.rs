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
}

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

/// Sums over seeds, and in how many seeds each thing happened at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Seeds counted.
    pub(crate) seeds: u64,
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
            let per_seed = sum as f64 / self.seeds.max(1) as f64;
            writeln!(f, "{name:<46} {sum:>12} {per_seed:>10.2} {:>9.1}", self.share(*what))?;
        }
        Ok(())
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
}
