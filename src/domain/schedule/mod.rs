//! Schedules: which snapshots are taken at which times. Pure: what is due at a time is a function of the
//! rows.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | what a schedule says, its rows, the rows of its runs |
//! | `cron.rs` | due times: cron expressions in time zones |
//! | `agenda.rs` | which runs are due in which partitions, each once, and once for all that were missed |
//!
//! INVARIANT: times of schedules are wall-clock times of whoever executes them. A run is a snapshot on demand
//! with another trigger: to run twice, or late, changes no state.

mod agenda;
mod cron;

pub use agenda::{Agenda, Start, Unread};
pub use cron::{Part, Times, Unreadable};

use super::ids::{AggregateKey, LedgerId, PartitionNo, Timestamp};
use super::mutant::{Mutant, mutant};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// How long after its due time and jitter a run may start and still be on time.
pub const ON_TIME_MS: i64 = 1_000;
/// Runs of one schedule in one partition that are kept.
pub const RUNS_KEPT: u64 = 16;
/// The longest jitter: a day.
pub const JITTER_MS_MAX: u64 = 86_400_000;

/// Of what snapshots are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Of one aggregate.
    Aggregate(AggregateKey),
    /// Of all aggregates of a type whose ids start with a text.
    Selector {
        /// The type.
        kind: Arc<str>,
        /// What ids start with.
        prefix: Arc<str>,
    },
}

impl Target {
    /// The aggregate type.
    #[must_use]
    pub fn kind(&self) -> &Arc<str> {
        match self {
            Self::Aggregate(key) => &key.kind,
            Self::Selector { kind, .. } => kind,
        }
    }
}

/// What a schedule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Of what.
    pub target: Target,
    /// Five fields of a cron expression.
    pub cron: Box<str>,
    /// The IANA name of the time zone in which it is read.
    pub timezone: Box<str>,
    /// Due times count; a schedule that is paused runs only where somebody asks for it.
    pub enabled: bool,
    /// Each run starts up to so many milliseconds after its due time, always the same for one due time, in
    /// all partitions.
    pub jitter_ms: u64,
}

/// A schedule as it is kept (`schedules`): of two rows of one name the one with the larger `at` counts. It is
/// also the object of that name in the ledger, which is written first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its name.
    pub name: Arc<str>,
    /// The name of its object in the ledger.
    pub at: LedgerId,
    /// Due times after this count.
    pub since: Timestamp,
    /// Somebody asked for a run at this time: a due time like all others.
    pub run_at: Option<Timestamp>,
    /// What it says; none once it is deleted.
    pub plan: Option<Schedule>,
}

/// One run of a schedule in one partition (`schedule_runs`): the row takes the place of the one
/// [`RUNS_KEPT`] runs before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Of which schedule.
    pub schedule: Arc<str>,
    /// In which topic.
    pub topic: Arc<str>,
    /// In which partition.
    pub partition: PartitionNo,
    /// Its number in the partition, from 1 on.
    pub number: u64,
    /// How many of the runs up to this one started on time.
    pub on_time: u64,
    /// When it was due.
    pub due: Timestamp,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Snapshots that it took.
    pub created: u64,
    /// Snapshots that were there already.
    pub exists: u64,
    /// Snapshots that it could not take.
    pub failed: u64,
}

impl RunRow {
    /// Which of the kept runs it is.
    #[must_use]
    pub fn place(&self) -> u8 {
        u8::try_from(self.number % RUNS_KEPT).expect("few runs are kept")
    }

    /// What the runs of one place are ordered by: the one that was due later counts, whoever writes last. A
    /// former owner counts on from what it knew, and may take long to write.
    #[must_use]
    pub fn rank(&self) -> (Timestamp, u64) {
        (self.due, self.number)
    }

    /// Whether it takes the place of the run that is kept there.
    #[must_use]
    pub fn outranks(&self, kept: &Self) -> bool {
        self.rank() > kept.rank() || mutant(Mutant::LateRunCounts)
    }
}

/// How long after its due time a run starts: spread evenly up to `jitter_ms`, the same whoever computes it.
/// It is the same in all partitions: those of one worker are walked together.
#[must_use]
pub fn jitter(name: &str, due: Timestamp, jitter_ms: u64) -> u64 {
    if jitter_ms == 0 {
        return 0;
    }
    let mut hash = Sha256::new();
    hash.update(b"snapfold.jitter.v1");
    hash.update(due.0.to_be_bytes());
    hash.update(name.as_bytes());
    let first: [u8; 8] = *hash.finalize().first_chunk().expect("a digest has 32 bytes");
    u64::from_be_bytes(first) % jitter_ms.min(JITTER_MS_MAX).saturating_add(1)
}

/// The share of all runs that started on time; none before the first. From the newest run of each partition.
#[must_use]
pub fn on_time_ratio<'a>(newest: impl IntoIterator<Item = &'a RunRow>) -> Option<f64> {
    let (on_time, all) = newest
        .into_iter()
        .fold((0, 0), |(on_time, all), run| (on_time + run.on_time.min(run.number), all + run.number));
    (all > 0).then(|| on_time as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_bounded_spread_and_the_same_for_one_due_time() {
        let of = |name, due| jitter(name, Timestamp(due), 999);
        assert_eq!(of("nightly", 60_000), of("nightly", 60_000));
        let drawn: Vec<u64> = (0..1_000).map(|minute| of("nightly", minute * 60_000)).collect();
        assert!(drawn.iter().all(|ms| *ms <= 999));
        assert!(drawn.iter().any(|ms| *ms < 20) && drawn.iter().any(|ms| *ms > 979), "both ends are met");
        let mean = drawn.iter().sum::<u64>() / 1_000;
        assert!((450..=550).contains(&mean), "{mean}");
        assert_ne!(of("nightly", 60_000), of("daily", 60_000), "schedules do not start together");
        assert_eq!(jitter("nightly", Timestamp(1), 0), 0);
    }

    #[test]
    fn the_ratio_counts_all_runs_of_all_partitions() {
        let run = |number, on_time| RunRow {
            schedule: "s".into(),
            topic: "t".into(),
            partition: PartitionNo(0),
            number,
            on_time,
            due: Timestamp(0),
            started: Timestamp(0),
            finished: Timestamp(0),
            created: 0,
            exists: 0,
            failed: 0,
        };
        assert_eq!(on_time_ratio([]), None);
        assert_eq!(on_time_ratio([&run(4, 4)]), Some(1.0));
        assert_eq!(on_time_ratio([&run(4, 3), &run(4, 1)]), Some(0.5));
    }
}
