//! What anyone may ask of rest and log: a state, the events of a range of versions, and the newest version
//! that is at rest.
//!
//! *Order*: that of the module. What a reader brings along as a base (a state that was settled when it was
//! reconstructed) replaces older snapshots and nothing else: rows and entries are read all the same.

use super::assemble::{Assembled, Assembly, Progress};
use super::piece::Piece;
use super::step::Step;
use super::{AsOf, FEW_ROWS, FIRST_ROWS, Found, ROWS_PAGE, Reconstructor, View, epochs_of};
use crate::codec::pack::Locator;
use crate::domain::aggregate::Aggregate;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decoded;
use crate::domain::ids::{AggregateKey, Offset, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{EntryRef, Pending};
use crate::domain::record::SegmentBody;
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::store::checkpoints::Held;
use crate::store::index::From;
use crate::store::unavailable;
use futures_util::future::{Either, join, select, try_join};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a read starts again because the log's start followed a low watermark that moved meanwhile, or
/// rows went one by one while it read them (seed 8812, counted: five of them within 15 ms).
const MOVED_RETRIES: usize = 8;
/// Rows above a moment among which the piece that leads up to it is looked for.
const ROWS_UP_MAX: usize = 1_024;

/// How far rows above a moment are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Until one leads up to it.
    First,
    /// Among all that may lead up to it, whatever others say.
    Again,
}

/// One question to rest and log.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which moment.
    pub as_of: AsOf,
    /// A settled state at or below the moment (and below `events_from`), to go on from.
    pub base: Option<Arc<Aggregate>>,
    /// Hand out the events from this version up to the moment.
    pub events_from: Option<Version>,
    /// Events and records of the log that may be read for it.
    pub work_max: Option<u64>,
    /// Tell the newest version at rest as well, out of the same view.
    pub with_newest: bool,
}

/// Rows that a question is answered from.
struct Rows {
    rows: Vec<SnapshotRow>,
    /// None is below them.
    is_to_first: bool,
}

/// One event, as the fold met it.
#[derive(Clone, Debug)]
pub struct FoldedEvent {
    /// The version it took.
    pub version: Version,
    /// It was poison and left the state as it was.
    pub skipped: bool,
    /// The record, its digest, and the event in it.
    pub event: Decoded,
    /// Effective time of the version.
    pub effective_time: Timestamp,
}

/// What a question got.
#[derive(Clone, Debug)]
pub struct Read {
    /// The answer.
    pub found: Found,
    /// Events that were asked for.
    pub events: Vec<FoldedEvent>,
    /// The aggregate before the first of them, its state as bytes; none where no event was met.
    pub before_events: Option<Box<Aggregate>>,
    /// One past the last offset of the log, where all of it is in the answer, which is the head then.
    pub log_end: Option<Offset>,
    /// The aggregate stands still at or after the moment: the head tells where and why.
    pub marked_later: bool,
    /// The newest version at rest, where it was asked for and could be read.
    pub newest: Option<Newest>,
    /// The state will be the same for ever: all of it lies below the low watermark, nothing was damaged.
    pub is_settled: bool,
    /// What was read, in order.
    pub steps: Vec<Step>,
}

/// The newest version that rest knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Of a snapshot; none without rows.
    pub row: Option<Version>,
    /// Of a live checkpoint's entry.
    pub entry: Option<Version>,
    /// No checkpoint that has an entry has lost events: it is as sure as a row.
    pub is_entry_sure: bool,
    /// Something at that version tells of a quarantine.
    pub marked: bool,
    /// False if a live checkpoint cannot be read, which may know of more.
    pub is_whole: bool,
    /// Effective time of the newest version.
    pub effective_time: Timestamp,
    /// Whether it is deleted; none where only the events would tell.
    pub deleted: Option<bool>,
}

impl Ask {
    /// The plain question for a state.
    #[must_use]
    pub fn of(as_of: AsOf) -> Self {
        Self { as_of, base: None, events_from: None, work_max: None, with_newest: false }
    }

    /// Rows that are asked for first.
    pub(super) fn first_page(&self) -> usize {
        match (self.as_of, self.events_from) {
            (AsOf::Version(_), None) => FIRST_ROWS,
            _ => ROWS_PAGE,
        }
    }
}

impl Newest {
    /// The newest version; 0 where nothing is known.
    #[must_use]
    pub fn version(&self) -> Version {
        self.row.max(self.entry).unwrap_or_default()
    }
}

impl Reconstructor {
    /// The aggregate as of a moment, read by anyone.
    ///
    /// # Errors
    /// See `read`.
    pub async fn state(&self, partition: &PartitionKey, key: &AggregateKey, as_of: AsOf) -> Result<Found> {
        Ok(self.read(partition, key, &Ask::of(as_of)).await?.found)
    }

    /// The aggregate as of a moment, and what else was asked for.
    ///
    /// # Errors
    /// As for `load`; `Unavailable` also where rows and log disagree at this moment.
    pub async fn read(&self, partition: &PartitionKey, key: &AggregateKey, ask: &Ask) -> Result<Read> {
        let early_rows = match mutant(Mutant::SnapshotsBeforeList) {
            true => Some(self.rows_for(key, partition, ask, Look::First).await?),
            false => None,
        };
        let mut view = self.view_of(partition, key).await?;
        let mut at = Progress::default();
        let reading = async {
            let rows = match early_rows {
                Some(rows) => rows,
                None => self.rows_for(key, partition, ask, Look::First).await?,
            };
            let answer = self.read_in(&view, partition, key, ask, &rows, &mut at).await;
            Ok((rows, answer))
        };
        let newest = async {
            match ask.with_newest {
                true => self.newest_in(&view, partition, key).await.ok(),
                false => None,
            }
        };
        let (read, mut newest) = join(reading, newest).await;
        let (mut rows, mut answer) = read?;
        let mut tries = 0;
        loop {
            let error = match answer {
                Err(error) if matches!(error.kind, ErrorKind::Gone | ErrorKind::Corrupt) => error,
                answer => return answer.map(|read| Read { newest, ..read }),
            };
            // Rows that were read page by page may have made way for segments meanwhile, or one that no
            // replica had acknowledged is seen now: the next look might miss it again, so this one counts.
            let now = self.rows_for(key, partition, ask, Look::Again).await?;
            // The log's start may have followed a low watermark that has moved on since the view was read;
            // what is missing below the view's is not brought back by that.
            let may_be_covered = error.kind == ErrorKind::Corrupt
                || at.lacks.is_none_or(|lacks| lacks >= view.low_watermark.min(view.told));
            let is_more = may_help(&error, ask.as_of, at.reached, &rows.rows, &now.rows);
            let may_end_otherwise =
                is_more || (may_be_covered && self.has_moved(view.told, partition).await?);
            if !may_end_otherwise {
                return Err(error);
            }
            tries += 1;
            if tries == MOVED_RETRIES {
                return Err(Error::new(ErrorKind::Unavailable, "not-caught-up", error.detail));
            }
            if is_more {
                rows = now;
            } else {
                view = self.view_of(partition, key).await?;
                rows = self.rows_for(key, partition, ask, Look::Again).await?;
                // It is of the view before.
                newest = None;
            }
            at = Progress::default();
            answer = self.read_in(&view, partition, key, ask, &rows, &mut at).await;
        }
    }

    async fn has_moved(&self, low_watermark: Offset, partition: &PartitionKey) -> Result<bool> {
        let rows = self.watermarks(partition).await?;
        Ok(rows.iter().any(|row| row.topic_id == self.topic_id && row.low_watermark > low_watermark))
    }

    /// As one view of the partition has it; `at` is how far that came.
    async fn read_in(
        &self,
        view: &View<Held>,
        partition: &PartitionKey,
        key: &AggregateKey,
        ask: &Ask,
        Rows { rows, is_to_first }: &Rows,
        at: &mut Progress,
    ) -> Result<Read> {
        let pending = if mutant(Mutant::ReaderIgnoresPending) { Vec::new() } else { pending_of(view) };
        let pieces = Piece::all(rows, &pending);
        let mut assembly = Assembly::new(self, partition, key, ask.clone(), view.low_watermark);
        assembly.is_to_first = *is_to_first;
        assembly.lost_below = view.lost_below;
        assembly.told = (view.told_under, view.told);
        let running = async {
            assembly.run(rows, pieces).await?;
            assembly.tail(rows).await
        };
        let epochs = epochs_of(rows);
        // Of a log that was cut nothing else matters.
        let run = match select(pin!(self.check_epochs(partition, &epochs)), pin!(running)).await {
            Either::Left((checked, running)) => {
                checked?;
                running.await
            }
            Either::Right((run, checking)) => {
                checking.await?;
                run
            }
        };
        *at = assembly.progress();
        run?;
        let assembled = assembly.finish();
        self.check_epochs(partition, &assembled.entries_reached).await?;
        self.health.damaged_records.fetch_add(assembled.provenance.damaged, Ordering::Relaxed);
        told(assembled, ask.as_of, view.low_watermark.min(view.told))
    }

    /// The rows that can matter: down to a base, and upwards as far as pieces are needed.
    async fn rows_for(
        &self,
        key: &AggregateKey,
        partition: &PartitionKey,
        ask: &Ask,
        look: Look,
    ) -> Result<Rows> {
        let from = match (ask.as_of, ask.events_from) {
            (_, Some(from)) => From::AtOrBelow(Version(from.0.saturating_sub(1))),
            (AsOf::Head, None) => From::Newest,
            (AsOf::Version(version), None) => From::AtOrBelow(version),
            (AsOf::Time(time), None) => From::TimeAtOrBefore(time),
            (AsOf::Offset(offset), None) => From::OffsetAtOrBelow(offset),
        };
        let down = self.rows_down(key, partition, (from, ask.first_page()), None);
        let (mut rows, is_to_first) = match from {
            From::Newest => down.await?,
            // What lies above a version can be looked for before it is known what lies below.
            From::AtOrBelow(version) => {
                let up = self.rows_up(key, partition, (ask, look), version);
                let ((mut rows, is_to_first), mut up) = try_join(down, up).await?;
                // SUBTLE: a row goes because of a newer one. Where nothing was above yet, and nothing was
                // below any more, the first was read before the second (seed 903, counted).
                let is_it = |row: &SnapshotRow| row.version == version && row.kind != RecordKind::Increment;
                let is_enough = version == Version(0) || rows.iter().any(is_it);
                if up.is_empty() && !is_enough && !mutant(Mutant::AboveReadFirst) {
                    up = self.rows_up(key, partition, (ask, look), version).await?;
                }
                rows.extend(up);
                (rows, is_to_first)
            }
            _ => {
                let (mut rows, is_to_first) = down.await?;
                let known = rows.iter().map(|row| row.version).max().unwrap_or_default();
                rows.extend(self.rows_up(key, partition, (ask, look), known).await?);
                (rows, is_to_first)
            }
        };
        rows.sort_by_key(|row| std::cmp::Reverse((row.version, row.pack)));
        Ok(Rows { rows, is_to_first })
    }

    /// The rows above a version, up to a page that holds the piece that leads up to a moment (full records
    /// that somebody asked for may lie before it); for events all up to the moment.
    async fn rows_up(
        &self,
        key: &AggregateKey,
        partition: &PartitionKey,
        (ask, look): (&Ask, Look),
        known: Version,
    ) -> Result<Vec<SnapshotRow>> {
        let wanted = if let AsOf::Version(version) = ask.as_of { Some(version) } else { None };
        let is_beyond = |row: &&SnapshotRow| wanted.is_none_or(|wanted| row.version >= wanted);
        // Events are wanted up to a version, or all of them.
        let may_stop = ask.events_from.is_none() || wanted.is_some();
        let (mut rows, mut beyond) = (Vec::new(), 0);
        // SUBTLE: a compaction that died half way leaves its segment behind the increments it is of that are
        // left, and a page that ends before it hides it. Where they do not lead up to the moment, the second
        // look goes as far as a segment reaches.
        let far = Version(known.0.saturating_add(SegmentBody::EVENTS_MAX as u64));
        let mut walk = self.walk(key, partition, From::Above(known), ask.first_page()).growing_to(ROWS_PAGE);
        while let Some(mut page) = walk.read().await? {
            beyond += page.iter().filter(is_beyond).count();
            let is_led = page.iter().filter(is_beyond).any(leads_up);
            rows.append(&mut page);
            let is_short = look == Look::First || mutant(Mutant::SecondLookShort);
            let is_far = is_short || rows.last().is_some_and(|row| row.version >= far);
            if may_stop && (is_led && is_far || beyond >= ROWS_UP_MAX) {
                break;
            }
        }
        Ok(rows)
    }

    /// The newest version that rows and live checkpoints know of, whatever the low watermark: each is a fact.
    ///
    /// # Errors
    /// `Unavailable` if a port failed.
    pub async fn newest(&self, partition: &PartitionKey, key: &AggregateKey) -> Result<Newest> {
        let view = self.view_of(partition, key).await?;
        self.newest_in(&view, partition, key).await
    }

    /// The same with a view that was read before.
    ///
    /// # Errors
    /// `Unavailable` if a port failed.
    pub async fn newest_in(
        &self,
        view: &View<Held>,
        partition: &PartitionKey,
        key: &AggregateKey,
    ) -> Result<Newest> {
        let rows = self.newest_rows(key, partition).await?;
        self.check_epochs(partition, &epochs_of(&rows)).await?;
        let row = rows.first();
        let is_sure = |held: &Held| !view.doubted.contains(&held.entry.pack);
        let mut newest = Newest {
            row: row.map(|row| row.version),
            entry: None,
            is_entry_sure: view.checkpoints.iter().all(is_sure),
            marked: rows.iter().any(|row| row.quarantined),
            is_whole: view.is_whole(),
            effective_time: row.map_or(Timestamp(i64::MIN), |row| row.effective_time),
            deleted: row.map(|row| row.deleted),
        };
        for held in &view.checkpoints {
            // Of an entry with events that were cut off at least the first is left; how many, only they tell.
            let (entry, is_cut) = (&held.entry, held.is_cut());
            let upto = if is_cut { entry.from.next() } else { entry.upto };
            // Events after a mark may have been refused, whatever has a later version.
            newest.marked |= entry.marked && !is_cut;
            if upto > newest.version() {
                (newest.effective_time, newest.deleted) = (held.effective_time, None);
            }
            newest.entry = newest.entry.max(Some(upto));
        }
        Ok(newest)
    }

    /// The newest version that rows know of, or the owner by live checkpoints; 0 where nothing is known. None
    /// where only reading tells.
    ///
    /// # Errors
    /// `Unavailable` if a port failed; `lineage-changed` if the log has lost what rows are of.
    pub async fn newest_beside(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
        pending: &Pending,
    ) -> Result<Option<Version>> {
        let (rows, bounds) =
            join(self.newest_rows(key, partition), self.log.bounds(partition.partition)).await;
        let (rows, bounds) = (rows?, bounds.map_err(|error| unavailable("read the log's bounds", &error))?);
        self.check_topic(bounds.topic_id)?;
        self.check_epochs(partition, &epochs_of(&rows)).await?;
        if rows.iter().any(|row| row.quarantined) {
            return Ok(None);
        }
        let row = rows.first().map(|row| row.version).unwrap_or_default();
        if pending.upto > row && !mutant(Mutant::EntriesTakenForSure) {
            match self.check_epochs(partition, &pending.epochs).await {
                Err(error) if error.kind == ErrorKind::Conflict => return Ok(None),
                checked => checked?,
            }
        }
        Ok(Some(row.max(pending.upto)))
    }

    /// The rows of the newest version; of several one may tell of a quarantine.
    async fn newest_rows(&self, key: &AggregateKey, partition: &PartitionKey) -> Result<Vec<SnapshotRow>> {
        let mut walk = self.walk(key, partition, From::Newest, FEW_ROWS);
        while let Some(mut rows) = walk.read().await? {
            if let Some(newest) = rows.first().map(|row| row.version) {
                rows.retain(|row| row.version == newest);
                return Ok(rows);
            }
        }
        Ok(Vec::new())
    }

    /// The aggregate as rest alone has it, without the events that only the log holds. Of what checkpoints
    /// hold all counts, wherever the low watermark is: an index that was rebuilt may know an older one than
    /// was acknowledged.
    ///
    /// # Errors
    /// As for `load`.
    pub async fn at_rest(
        &self,
        view: &View<Held>,
        partition: &PartitionKey,
        key: &AggregateKey,
    ) -> Result<Aggregate> {
        let pending = match mutant(Mutant::RestLeftToLog) {
            true => pending_of(view),
            false => view.checkpoints.iter().map(|held| held.entry.clone()).collect(),
        };
        Ok(self.load(partition, key, &pending, view.low_watermark).await?.aggregate)
    }
}

/// Whether a second look may find what the first, which could fold up to `reached`, did not. What is gone is
/// not brought back by rows that go too (of a deletion they do one by one), nor by those that lie beyond:
/// only by one that leads on, or that brings a later state. Of damage the record may be gone with its row.
fn may_help(
    error: &Error,
    as_of: AsOf,
    reached: Version,
    before: &[SnapshotRow],
    now: &[SnapshotRow],
) -> bool {
    if error.kind != ErrorKind::Gone {
        return now != before;
    }
    let is_beyond = |row: &SnapshotRow| match as_of {
        AsOf::Head => false,
        AsOf::Version(wanted) => row.version > wanted,
        AsOf::Time(wanted) => row.effective_time > wanted,
        // Of a marked one the last offset is that of the event behind its mark.
        AsOf::Offset(wanted) => row.last_offset > wanted && !row.quarantined,
    };
    let brings_state = |row: &SnapshotRow| match (row.kind, as_of) {
        (RecordKind::Increment, _) => false,
        (RecordKind::Full, _) => !is_beyond(row),
        (RecordKind::Segment, AsOf::Version(wanted)) => row.from_version <= wanted,
        // Where its base is only reading tells, unless something below it is beyond the moment.
        (RecordKind::Segment, _) => {
            let below = |other: &&SnapshotRow| other.version <= row.from_version;
            !before.iter().chain(now).filter(below).any(is_beyond)
        }
    };
    let leads_on = |row: &SnapshotRow| row.from_version <= reached && leads_up(row);
    let may_help = |row: &SnapshotRow| row.version > reached && (leads_on(row) || brings_state(row));
    now.iter().any(|row| !before.contains(row) && may_help(row))
}

/// Whether a row brings the events before it: an increment, a segment, or a full one with a trail.
fn leads_up(row: &SnapshotRow) -> bool {
    let has_trail = || Locator::decode(&row.locator).is_ok_and(|locator| locator.trail.is_some());
    row.kind != RecordKind::Full || has_trail()
}

/// What the asker hears. An aggregate of which records were seen is not unknown, even if none can be read.
fn told(assembled: Assembled, as_of: AsOf, low_watermark: Offset) -> Result<Read> {
    let Assembled { aggregate, provenance, stopped, too_much, log_end, is_whole, .. } = assembled;
    let is_settled = is_whole
        && aggregate.version > Version(0)
        && aggregate.offset < low_watermark
        && aggregate.quarantine.is_none();
    let found = match (too_much, as_of, aggregate.version) {
        (Some(events), ..) => Found::TooMuch(events),
        (None, AsOf::Version(version), head) if head > Version(0) && head < version => {
            Found::BeyondHead(head)
        }
        (None, _, Version(0)) => match stopped {
            Some(first) => Found::BeforeFirst(first),
            None if aggregate.quarantine.is_some() => Found::State(Box::new(aggregate), provenance),
            None if !is_whole => {
                let detail = "its records cannot be read, and the log does not have its first event";
                return Err(Error::new(ErrorKind::Gone, "history-gone", detail));
            }
            None => Found::Unknown,
        },
        (None, ..) => Found::State(Box::new(aggregate), provenance),
    };
    let Assembled { events, before_events, marked_later, steps, .. } = assembled;
    Ok(Read { found, events, before_events, log_end, marked_later, newest: None, is_settled, steps })
}

/// What live checkpoints hold of an aggregate, for a reader with this view.
fn pending_of(view: &View<Held>) -> Vec<EntryRef> {
    let below = view.checkpoints.iter().filter(|held| held.entry.first_offset < view.low_watermark);
    let until = |held: &Held| [held.entry.ignore_from, Some(view.low_watermark)].into_iter().flatten().min();
    below.map(|held| EntryRef { ignore_from: until(held), ..held.entry.clone() }).collect()
}
