//! What is said about schedules: written to the ledger first, read with their next and last runs.

use super::Result;
use crate::clock::Clock;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{LedgerId, PartitionNo, Timestamp};
use crate::domain::schedule::{RunRow, Schedule, ScheduleRow, Times, on_time_ratio};
use crate::store::blobs::Blobs;
use crate::store::index::Index;
use crate::store::ledger::Ledger;
use crate::store::unavailable;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Due times that are told ahead.
const NEXT_RUNS: usize = 5;
/// Runs that are told.
const LAST_RUNS: usize = 10;
/// Reads of runs at the same time.
const READS: usize = 32;

/// What the book needs.
pub struct BookParts {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Objects.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Topic and number of partitions of each aggregate type.
    pub topics: BTreeMap<Arc<str>, (Arc<str>, u32)>,
}

/// Schedules, as they are written and read.
pub struct Book {
    index: Arc<dyn Index>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    topics: BTreeMap<Arc<str>, (Arc<str>, u32)>,
    changes: Arc<AtomicU64>,
}

/// A run in all partitions together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTotal {
    /// When it was due.
    pub due: Timestamp,
    /// When it started in the first partition.
    pub started: Timestamp,
    /// When it ended in the last one.
    pub finished: Timestamp,
    /// Snapshots that it took.
    pub created: u64,
    /// Snapshots that were there already.
    pub exists: u64,
    /// Snapshots that it could not take.
    pub failed: u64,
}

/// A schedule and what there is to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its name.
    pub name: Arc<str>,
    /// What it says.
    pub says: Schedule,
    /// The next due times, the first one first; none of a schedule that is paused.
    pub next: Vec<Timestamp>,
    /// The last runs, the newest first.
    pub last: Vec<RunTotal>,
    /// The share of its runs that started on time.
    pub on_time: Option<f64>,
}

/// What is to become of a schedule that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Due times do not count any more.
    Pause,
    /// They count again, from now on.
    Resume,
    /// It runs now, once.
    RunNow,
    /// It is gone.
    Delete,
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "unknown-schedule", format!("no schedule has the name `{name}`"))
}

impl Book {
    /// The book of a process.
    #[must_use]
    pub fn new(parts: BookParts) -> Self {
        let BookParts { index, blobs, clock, topics } = parts;
        let ledger = Ledger { index: Arc::clone(&index), blobs, clock: Arc::clone(&clock) };
        Self { index, ledger, clock, topics, changes: Arc::default() }
    }

    /// A book over stores in memory.
    #[cfg(all(test, feature = "runtime"))]
    pub(crate) fn of_nothing(clock: Arc<dyn Clock>) -> Self {
        let index = Arc::new(crate::store::index::MemoryIndex::new());
        let blobs = Arc::new(crate::store::blobs::MemoryBlobs::new());
        Self::new(BookParts { index, blobs, clock, topics: BTreeMap::new() })
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A number that moves when a schedule was changed here.
    #[must_use]
    pub fn changes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.changes)
    }

    /// Writes a schedule; whether it is new, and how it is now. What is the same already is not written.
    ///
    /// # Errors
    /// A fault: whether it counts is unknown, and to write the same again is harmless.
    pub async fn put(&self, name: &str, says: Schedule) -> Result<(View, bool)> {
        let mut is_new = true;
        let row = self.ledger.schedule(name, |before, now| {
            let plan = before.and_then(|row| row.plan.as_ref().map(|plan| (row, plan)));
            is_new = plan.is_none();
            let (since, run_at) = match plan {
                Some((_, plan)) if *plan == says => return Ok(None),
                // Due times count on where the same ones count.
                Some((row, plan)) if has_same_times(plan, &says) => (row.since, row.run_at),
                Some((row, _)) => (now, row.run_at),
                None => (now, None),
            };
            let at = LedgerId::default();
            Ok(Some(ScheduleRow { name: name.into(), at, since, run_at, plan: Some(says) }))
        });
        let row = row.await?;
        self.changes.fetch_add(1, Ordering::Release);
        let row = row.ok_or_else(|| unknown(name))?;
        let view = self.view(&row).await?.ok_or_else(|| unknown(name))?;
        Ok((view, is_new))
    }

    /// Changes a schedule that is there; how it is now, or was where it is deleted.
    ///
    /// # Errors
    /// `NotFound`, or a fault as for [`Book::put`].
    pub async fn change(&self, name: &str, change: Change) -> Result<View> {
        let before = self.get(name).await?;
        // A run is due after all that have been, whatever clocks say.
        let last = before.last.first().map_or(Timestamp(i64::MIN), |run| Timestamp(run.due.0 + 1));
        let row = self.ledger.schedule(name, |row, now| {
            let Some(ScheduleRow { plan: Some(plan), .. }) = row else { return Err(unknown(name)) };
            let mut changed = row.cloned().ok_or_else(|| unknown(name))?;
            match (change, &mut changed.plan) {
                (Change::Delete, plan) => *plan = None,
                (Change::RunNow, _) => changed.run_at = Some(now.max(last)),
                (Change::Pause | Change::Resume, Some(says)) => {
                    let enabled = change == Change::Resume;
                    if plan.enabled == enabled {
                        return Ok(None);
                    }
                    says.enabled = enabled;
                    if enabled {
                        changed.since = now;
                    }
                }
                (Change::Pause | Change::Resume, None) => return Ok(None),
            }
            Ok(Some(changed))
        });
        let row = row.await?.ok_or_else(|| unknown(name))?;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(self.view(&row).await?.unwrap_or(before))
    }

    /// One schedule.
    ///
    /// # Errors
    /// `NotFound`, or a fault.
    pub async fn get(&self, name: &str) -> Result<View> {
        let row = self.index.schedule(name).await;
        let row = row.map_err(|error| unavailable("read a schedule", &error))?;
        let view = match row {
            Some(row) => self.view(&row).await?,
            None => None,
        };
        view.ok_or_else(|| unknown(name))
    }

    /// Up to `limit` schedules with names after `after`, by name.
    ///
    /// # Errors
    /// A fault.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<View>> {
        let rows = self.index.schedules().await;
        let rows = rows.map_err(|error| unavailable("read schedules", &error))?;
        let wanted = rows.into_iter().filter(|row| row.plan.is_some());
        let wanted = wanted.filter(|row| after.is_none_or(|after| &*row.name > after)).take(limit);
        let views = iter(wanted).map(|row| async move { self.view(&row).await }).buffered(READS);
        let views: Vec<Option<View>> = views.try_collect().await?;
        Ok(views.into_iter().flatten().collect())
    }

    async fn view(&self, row: &ScheduleRow) -> Result<Option<View>> {
        let Some(says) = row.plan.clone() else { return Ok(None) };
        let runs = self.runs(&row.name, &says).await?;
        let on_time = on_time_ratio(runs.iter().filter_map(|of_partition| of_partition.last()));
        let mut next = Vec::new();
        if says.enabled
            && let Ok(times) = Times::parse(&says.cron, &says.timezone)
        {
            let mut moment = self.clock.now().max(row.since);
            while next.len() < NEXT_RUNS
                && let Some(due) = times.next_after(moment)
            {
                next.push(due);
                moment = due;
            }
        }
        let mut last = totals(runs.into_iter().flatten());
        last.truncate(LAST_RUNS);
        Ok(Some(View { name: Arc::clone(&row.name), says, next, last, on_time }))
    }

    /// The kept runs, partition by partition.
    async fn runs(&self, name: &str, says: &Schedule) -> Result<Vec<Vec<RunRow>>> {
        let Some((topic, count)) = self.topics.get(says.target.kind()) else { return Ok(Vec::new()) };
        let partitions = (0..i32::try_from(*count).unwrap_or(i32::MAX)).map(PartitionNo);
        let runs = iter(partitions).map(|partition| self.index.runs(name, topic, partition)).buffered(READS);
        let runs = runs.try_collect().await;
        runs.map_err(|error| unavailable("read the runs of a schedule", &error))
    }
}

/// Whether due times of one are due times of the other, of the same aggregates.
fn has_same_times(before: &Schedule, after: &Schedule) -> bool {
    before.target == after.target
        && before.cron == after.cron
        && before.timezone == after.timezone
        && (before.enabled || !after.enabled)
}

/// Runs of one due time together, the newest first.
fn totals(runs: impl Iterator<Item = RunRow>) -> Vec<RunTotal> {
    let mut totals: BTreeMap<Timestamp, RunTotal> = BTreeMap::new();
    for run in runs {
        let RunRow { due, started, finished, created, exists, failed, .. } = run;
        let total = totals.entry(due).or_insert(RunTotal {
            due,
            started,
            finished,
            created: 0,
            exists: 0,
            failed: 0,
        });
        total.started = total.started.min(started);
        total.finished = total.finished.max(finished);
        total.created += created;
        total.exists += exists;
        total.failed += failed;
    }
    totals.into_values().rev().collect()
}
