//! Executes schedules: each worker takes the snapshots of the partitions that it owns, the same way as those
//! that somebody asks for.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the duty: what is due, run by run |
//! | `book.rs` | what is said about schedules: written, read, paused, asked to run |
//!
//! *Order*: the last runs of a schedule in a partition are read before the first one here; a run's row is
//!   written once all its snapshots are acknowledged.
//! *If it fails*: a snapshot that may come yet is tried a few times, then counts as failed. A run whose
//!   partition got another owner has no row, and that owner makes up for it.
//! *If cancelled*: the same.
//! *What may leak*: nothing; a run that has happened and left no row happens again, and changes nothing.
//!
//! COST: one task and one heap for all schedules. Where a schedule has run in several partitions here, the
//! ids of its aggregates are walked once for all of them.

mod book;

pub use book::{Book, BookParts, Change, RunTotal, View};

use crate::clock::Clock;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{LedgerId, PartitionNo, Timestamp};
use crate::domain::outcome::PortError;
use crate::domain::schedule::{Agenda, ON_TIME_MS, RunRow, ScheduleRow, Start, Target, Unread};
use crate::store::index::Index;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Between two looks at what is due and owned, at the most.
const TICK_MS: u64 = 100;
/// Between two looks at whether schedules have changed.
const POLL_MS: u64 = 1_000;
/// All schedules are read again after this, whether they seem to have changed or not.
const RELOAD_MS: u64 = 60_000;
/// Runs that are in work at the same time.
const RUNS_MAX: usize = 1_024;
/// Snapshots of one run that are taken at the same time.
const TAKES_MAX: usize = 256;
/// Questions about places and last runs that wait for an answer.
const ASKED_MAX: usize = 64;
/// Ids of one page of a selector.
const PAGE: usize = 1_000;
/// How often something is tried that may yet be done, and the pause before it is tried again, which doubles.
const TRIES: u32 = 5;
const PAUSE_MS: u64 = 200;
/// The longest pause before something is tried again that is tried until it is done.
const PAUSE_MS_MAX: u64 = 5_000;

/// What came of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Took {
    /// It was taken.
    Created,
    /// It was there.
    Exists,
    /// Its partition has another owner now.
    Elsewhere,
    /// It was not taken.
    Failed(Error),
}

/// A page of ids, and the id to go on from if there may be more.
pub type Page = (Vec<Arc<str>>, Option<Arc<str>>);

/// The partitions of one stream, as whoever executes schedules sees them.
pub trait Takes: Send + Sync {
    /// Partitions that are owned here.
    fn owned(&self) -> Vec<PartitionNo>;
    /// Whether a partition has more pressing work: its runs wait.
    fn is_held_back(&self, partition: PartitionNo) -> bool;
    /// Where an aggregate lives; none if nobody knows it.
    fn place<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<PartitionNo>>>;
    /// Up to `limit` ids that start with `prefix` and come after `after`, in order.
    fn ids<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>>;
    /// Makes the head of an aggregate durable as a snapshot.
    fn take<'a>(&'a self, partition: PartitionNo, id: &'a str) -> BoxFuture<'a, Took>;
}

/// What the duty of one stream has done since the process started.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Schedules of the stream.
    pub schedules: AtomicU64,
    /// Runs that started on time.
    pub on_time: AtomicU64,
    /// Runs that started late.
    pub late: AtomicU64,
    /// Snapshots that runs took.
    pub created: AtomicU64,
    /// Snapshots that were there.
    pub exists: AtomicU64,
    /// Snapshots that could not be taken.
    pub failed: AtomicU64,
}

/// Executes the schedules of one stream.
pub struct Duty {
    /// The stream's partitions.
    pub takes: Arc<dyn Takes>,
    /// Where schedules and runs are.
    pub index: Arc<dyn Index>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The aggregate type.
    pub kind: Arc<str>,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// Moves when this process has changed a schedule: [`Book::changes`].
    pub changes: Arc<AtomicU64>,
    /// What it has done.
    pub tallies: Arc<Tallies>,
}

/// The end of a run in one partition.
enum End {
    Ran(RunRow),
    Abandoned(Arc<str>, PartitionNo),
}

/// What was asked about.
enum Heard {
    /// All schedules, if they have changed, and the mark of the last change.
    Schedules(Option<LedgerId>, Option<Vec<ScheduleRow>>),
    /// They could not be read.
    Nothing,
    Placed(Arc<str>, Result<Option<PartitionNo>, ()>),
    Runs(Unread, Result<Vec<RunRow>, ()>),
}

/// When schedules were looked at.
#[derive(Default)]
struct Looked {
    is_looking: bool,
    at_ms: Option<u64>,
    whole_ms: Option<u64>,
    mark: Option<LedgerId>,
    changes: u64,
}

/// How many snapshots of a run had which outcome.
#[derive(Clone, Copy, Default)]
struct Sum {
    created: u64,
    exists: u64,
    failed: u64,
    is_elsewhere: bool,
}

impl Sum {
    fn add(&mut self, took: &Took) {
        match took {
            Took::Created => self.created += 1,
            Took::Exists => self.exists += 1,
            Took::Elsewhere => self.is_elsewhere = true,
            Took::Failed(_) => self.failed += 1,
        }
    }
}

impl Duty {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut agenda = Agenda::new(&self.kind);
        let mut looked = Looked::default();
        let mut runs: FuturesUnordered<BoxFuture<'_, Vec<End>>> = FuturesUnordered::new();
        let mut asked: FuturesUnordered<BoxFuture<'_, Heard>> = FuturesUnordered::new();
        loop {
            agenda.own(&self.takes.owned());
            self.look(&mut looked, &mut asked);
            self.ask(&mut agenda, &mut asked);
            let now = self.clock.now();
            let held_back = |partition| self.takes.is_held_back(partition);
            let starts = agenda.due(now, &held_back, RUNS_MAX.saturating_sub(runs.len()));
            for run in grouped(starts) {
                runs.push(self.execute(run).boxed());
            }
            let next_ms = agenda.next_at().map_or(TICK_MS, |at| {
                u64::try_from(at.0.saturating_sub(self.clock.now().0)).unwrap_or(0).clamp(1, TICK_MS)
            });
            let mut tick = self.clock.sleep(next_ms).fuse();
            futures_util::select_biased! {
                ends = runs.select_next_some() => {
                    let now = self.clock.now();
                    for end in ends {
                        match end {
                            End::Ran(row) => agenda.ended(&row, now),
                            End::Abandoned(name, partition) => agenda.abandoned(&name, partition, now),
                        }
                    }
                }
                heard = asked.select_next_some() => self.hear(heard, &mut agenda, &mut looked),
                () = tick => {}
            }
        }
    }

    /// Asks for the schedules where it is time.
    fn look<'a>(&'a self, looked: &mut Looked, asked: &mut FuturesUnordered<BoxFuture<'a, Heard>>) {
        let (now_ms, changes) = (self.clock.monotonic_ms(), self.changes.load(Ordering::Acquire));
        let is_over = |since: Option<u64>, ms| since.is_none_or(|since| now_ms.saturating_sub(since) >= ms);
        let is_changed = changes != looked.changes;
        if looked.is_looking || !(is_changed || is_over(looked.at_ms, POLL_MS)) {
            return;
        }
        let is_whole = is_changed || is_over(looked.whole_ms, RELOAD_MS);
        (looked.is_looking, looked.at_ms, looked.changes) = (true, Some(now_ms), changes);
        let before = looked.mark;
        asked.push(Box::pin(async move {
            // The mark first: what changes between the two is read again.
            let Ok(mark) = self.index.schedules_changed().await else { return Heard::Nothing };
            if !is_whole && mark == before {
                return Heard::Schedules(mark, None);
            }
            match self.index.schedules().await {
                Ok(rows) => Heard::Schedules(mark, Some(rows)),
                Err(_) => Heard::Nothing,
            }
        }));
    }

    /// Asks where aggregates live, and for the last runs of what is new here.
    fn ask<'a>(&'a self, agenda: &mut Agenda, asked: &mut FuturesUnordered<BoxFuture<'a, Heard>>) {
        for (name, id) in agenda.to_place(ASKED_MAX.saturating_sub(asked.len())) {
            asked.push(Box::pin(async move {
                let place = match self.takes.place(&id).await {
                    // One that was erased lives nowhere, for good: its runs fail, once for each due time.
                    Err(Error { kind: ErrorKind::Gone, .. }) => Ok(None),
                    place => place,
                };
                if place.is_err() {
                    self.clock.sleep(PAUSE_MS).await;
                }
                Heard::Placed(name, place.map_err(drop))
            }));
        }
        for unread in agenda.to_read(ASKED_MAX.saturating_sub(asked.len())) {
            asked.push(Box::pin(async move {
                let runs = self.index.runs(&unread.name, &self.topic, unread.partition).await;
                if runs.is_err() {
                    self.clock.sleep(PAUSE_MS).await;
                }
                Heard::Runs(unread, runs.map_err(drop))
            }));
        }
    }

    fn hear(&self, heard: Heard, agenda: &mut Agenda, looked: &mut Looked) {
        let now = self.clock.now();
        match heard {
            Heard::Schedules(mark, rows) => {
                looked.is_looking = false;
                if let Some(rows) = rows {
                    (looked.mark, looked.whole_ms) = (mark, looked.at_ms);
                    agenda.take(rows, now);
                    self.tallies.schedules.store(agenda.len() as u64, Ordering::Relaxed);
                }
            }
            Heard::Nothing => looked.is_looking = false,
            Heard::Placed(name, place) => agenda.placed(&name, place),
            Heard::Runs(unread, runs) => agenda.read(&unread, runs.as_deref().map_err(|_| ()), now),
        }
    }

    /// One run: of one due time, in one partition or in several.
    async fn execute(&self, starts: Vec<Start>) -> Vec<End> {
        let started = self.clock.now();
        let mut sums: BTreeMap<PartitionNo, Sum> =
            starts.iter().map(|start| (start.partition, Sum::default())).collect();
        for start in &starts {
            let is_on_time = started.0 <= start.planned.0.saturating_add(ON_TIME_MS);
            let tally = if is_on_time { &self.tallies.on_time } else { &self.tallies.late };
            tally.fetch_add(1, Ordering::Relaxed);
        }
        let walked = match starts.first().map(|start| (&start.target, start.partition)) {
            Some((Target::Aggregate(key), partition)) => {
                let took = self.take(partition, &key.id).await;
                sums.entry(partition).or_default().add(&took);
                Ok(())
            }
            Some((Target::Selector { prefix, .. }, _)) => self.walk(prefix, &mut sums).await,
            None => Ok(()),
        };
        let mut ends = Vec::with_capacity(starts.len());
        for start in starts {
            let sum = sums.get(&start.partition).copied().unwrap_or_default();
            ends.push(match walked.is_err() || sum.is_elsewhere {
                true => End::Abandoned(start.name, start.partition),
                false => End::Ran(self.note(&start, started, sum).await),
            });
        }
        ends
    }

    /// Takes a snapshot of each aggregate of a selector that lives in one of these partitions.
    async fn walk(&self, prefix: &str, sums: &mut BTreeMap<PartitionNo, Sum>) -> Result<()> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let (ids, last) = self.page(prefix, after.as_deref(), sums).await?;
            let here = &*sums;
            let take = |id: Arc<str>| async move {
                let place = match self.tried(|| self.takes.place(&id)).await {
                    Ok(place) => place?,
                    // Erased since its page was read: it is nobody's to take any more.
                    Err(Error { kind: ErrorKind::Gone, .. }) => return None,
                    // Whose it is cannot be said, so it failed where somebody looks.
                    Err(error) => return Some((*here.first_key_value()?.0, Took::Failed(error))),
                };
                if !here.contains_key(&place) {
                    return None;
                }
                Some((place, self.take(place, &id).await))
            };
            let taken = iter(ids).map(take).buffer_unordered(TAKES_MAX);
            let taken: Vec<Option<(PartitionNo, Took)>> = taken.collect().await;
            for (partition, took) in taken.into_iter().flatten() {
                sums.entry(partition).or_default().add(&took);
            }
            let Some(last) = last else { return Ok(()) };
            after = Some(last);
        }
    }

    /// One page of a walk, however long it takes to come: whoever gave up would start at the first page
    /// again, and under load never see the last one. An error where no partition of the walk is owned any
    /// more.
    async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        sums: &BTreeMap<PartitionNo, Sum>,
    ) -> Result<Page> {
        let mut pause_ms = PAUSE_MS;
        loop {
            match self.takes.ids(prefix, after, PAGE).await {
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    if !self.takes.owned().iter().any(|partition| sums.contains_key(partition)) {
                        return Err(error);
                    }
                    self.clock.sleep(pause_ms).await;
                    pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
                }
                answer => return answer,
            }
        }
    }

    async fn take(&self, partition: PartitionNo, id: &str) -> Took {
        let mut pause_ms = PAUSE_MS;
        for _ in 1..TRIES {
            match self.takes.take(partition, id).await {
                Took::Failed(error) if error.kind == ErrorKind::Unavailable => {
                    self.clock.sleep(pause_ms).await;
                    pause_ms *= 2;
                }
                took => return took,
            }
        }
        self.takes.take(partition, id).await
    }

    async fn tried<'a, T>(&self, ask: impl Fn() -> BoxFuture<'a, Result<T>>) -> Result<T> {
        let mut pause_ms = PAUSE_MS;
        for _ in 1..TRIES {
            match ask().await {
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    self.clock.sleep(pause_ms).await;
                    pause_ms *= 2;
                }
                answer => return answer,
            }
        }
        ask().await
    }

    /// Writes the row of a run that has ended.
    async fn note(&self, start: &Start, started: Timestamp, sum: Sum) -> RunRow {
        let is_on_time = started.0 <= start.planned.0.saturating_add(ON_TIME_MS);
        let row = RunRow {
            schedule: Arc::clone(&start.name),
            topic: Arc::clone(&self.topic),
            partition: start.partition,
            number: start.number,
            on_time: start.on_time + u64::from(is_on_time),
            due: start.due,
            started,
            finished: self.clock.now(),
            created: sum.created,
            exists: sum.exists,
            failed: sum.failed,
        };
        self.tallies.created.fetch_add(sum.created, Ordering::Relaxed);
        self.tallies.exists.fetch_add(sum.exists, Ordering::Relaxed);
        self.tallies.failed.fetch_add(sum.failed, Ordering::Relaxed);
        let mut pause_ms = PAUSE_MS;
        // Without its row the next owner makes up for a run that has been.
        while !matches!(self.index.put_run(row.clone()).await, Ok(()) | Err(PortError::Permanent(_))) {
            self.clock.sleep(pause_ms).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
        }
        row
    }
}

/// Runs of one due time of a selector are walked together.
fn grouped(starts: Vec<Start>) -> Vec<Vec<Start>> {
    let mut groups: BTreeMap<(Arc<str>, Timestamp), Vec<Start>> = BTreeMap::new();
    for start in starts {
        groups.entry((Arc::clone(&start.name), start.due)).or_default().push(start);
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests;
