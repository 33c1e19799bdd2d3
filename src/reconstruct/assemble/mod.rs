//! One aggregate out of pieces: a base, increments and pending entries that join, and the log where they do
//! not.
//!
//! The rules by their names in DESIGN section 5.1: J1 a record that does not join is a gap, never folded. L1
//! events at or beyond the low watermark are left to the log. V1 events of the tail are counted only from a
//! base that holds everything below the low watermark; else the log is read from the base on, which counts
//! soundly as long as the log reaches back that far. V2 every row seen bounds the fold: a state at or past a
//! row's offset has at least its version.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Assembly`: base, pieces, what became of it |
//! | `ahead.rs` | pieces that are fetched while the base is, and while those before them are folded |
//! | `base.rs` | the state that everything starts from |
//! | `letters.rs` | events that were refused while what led up to them could not be read |
//! | `log.rs` | what the log adds |
//! | `trail.rs` | single events of the log, by the trail of the snapshot after them |

mod ahead;
mod base;
mod letters;
mod log;
mod trail;

use super::piece::{Piece, Source};
use super::{AsOf, Ask, FoldedEvent, Provenance, Reconstructor};
use crate::domain::aggregate::Aggregate;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decoded;
use crate::domain::ids::{AggregateKey, Offset, PackId, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{Epochs, TRAIL_MAX, reach};
use crate::domain::record::{IncrementBody, QuarantineMark};
use crate::domain::row::{PartitionKey, SnapshotRow};
use crate::reconstruct::step::Step;
use ahead::Ahead;
use std::collections::VecDeque;
use std::sync::Arc;

/// An aggregate being put together.
pub(in crate::reconstruct) struct Assembly<'a> {
    reader: &'a Reconstructor,
    partition: &'a PartitionKey,
    key: &'a AggregateKey,
    ask: Ask,
    /// Events at or beyond it are the log's.
    limit: Offset,
    /// Of the view: below it events may be missing that a checkpoint held.
    pub(in crate::reconstruct) lost_below: Option<Offset>,
    /// No row is below those that it is put together of.
    pub(in crate::reconstruct) is_to_first: bool,
    /// Of the view: the low watermark, after the leader epoch that it was written under.
    pub(in crate::reconstruct) told: (i32, Offset),
    aggregate: Aggregate,
    provenance: Provenance,
    /// The moment asked for is reached: the next event lies beyond it. Holds that event's effective time.
    stopped: Option<Timestamp>,
    /// Pieces that could not be read or did not join.
    unfolded: Vec<Piece>,
    /// Versions and offsets of the events folded last, [`TRAIL_MAX`] at most.
    trail: VecDeque<(Version, Offset)>,
    /// Events that were asked for.
    events: Vec<FoldedEvent>,
    /// The aggregate before the first of them.
    before_events: Option<Box<Aggregate>>,
    /// Events and records of the log that were looked at.
    work: u64,
    /// The work would exceed what was allowed, by at least so many events in all.
    too_much: Option<u64>,
    /// One past the last offset of the log, if it was read to its end.
    log_end: Option<Offset>,
    /// The offset that the log was last asked for and does not hold any more.
    lacks: Option<Offset>,
    /// The log tells of a quarantine, whose real mark only the rows of the head may know.
    log_marked: bool,
    /// Where entries tell of a quarantine that could not be read; the first of these offsets.
    unheard: Option<Offset>,
    /// Versions and offsets of the marks that entries tell of.
    marks: Vec<(Version, Offset)>,
    /// Of the events and marks that came from checkpoints, and of the low watermark, where the log was read
    /// from there.
    entries_reached: Epochs,
    /// What was read.
    steps: Vec<Step>,
    /// The segment that the base came from, and its events.
    held: Option<(PackId, Version, Arc<IncrementBody>)>,
}

/// How far a fold has come that may not have ended.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::reconstruct) struct Progress {
    /// The version up to which it was folded.
    pub(in crate::reconstruct) reached: Version,
    /// The offset that the log was last asked for and does not hold any more.
    pub(in crate::reconstruct) lacks: Option<Offset>,
}

/// What a trail that does not fit is undone to.
struct Saved {
    aggregate: Aggregate,
    provenance: Provenance,
    trail: VecDeque<(Version, Offset)>,
    events: usize,
    had_before_events: bool,
    log_marked: bool,
}

/// What became of an assembly.
pub(in crate::reconstruct) struct Assembled {
    pub(in crate::reconstruct) aggregate: Aggregate,
    pub(in crate::reconstruct) provenance: Provenance,
    pub(in crate::reconstruct) events: Vec<FoldedEvent>,
    /// The aggregate before the first of them, where there is one.
    pub(in crate::reconstruct) before_events: Option<Box<Aggregate>>,
    /// Effective time of the first event beyond the moment asked for, where one was met.
    pub(in crate::reconstruct) stopped: Option<Timestamp>,
    pub(in crate::reconstruct) too_much: Option<u64>,
    pub(in crate::reconstruct) log_end: Option<Offset>,
    /// The aggregate stands still at or after the moment; the mark is the head's to tell.
    pub(in crate::reconstruct) marked_later: bool,
    /// Of the events and marks that came from checkpoints.
    pub(in crate::reconstruct) entries_reached: Epochs,
    /// Nothing was damaged or left out.
    pub(in crate::reconstruct) is_whole: bool,
    /// What was read, in order.
    pub(in crate::reconstruct) steps: Vec<Step>,
}

impl<'a> Assembly<'a> {
    pub(in crate::reconstruct) fn new(
        reader: &'a Reconstructor,
        partition: &'a PartitionKey,
        key: &'a AggregateKey,
        ask: Ask,
        limit: Offset,
    ) -> Self {
        let aggregate = Aggregate::genesis(&key.kind, &key.id);
        let provenance = Provenance::default();
        Self {
            reader,
            partition,
            key,
            ask,
            limit,
            lost_below: None,
            is_to_first: true,
            told: (-1, Offset(0)),
            aggregate,
            provenance,
            stopped: None,
            unfolded: Vec::new(),
            trail: VecDeque::new(),
            events: Vec::new(),
            before_events: None,
            work: 0,
            too_much: None,
            log_end: None,
            lacks: None,
            log_marked: false,
            unheard: None,
            marks: Vec::new(),
            entries_reached: Epochs::new(),
            steps: Vec::new(),
            held: None,
        }
    }

    /// Offsets of all versions after `row`, if they were folded here and are not too many.
    pub(in crate::reconstruct) fn trail_after(&self, row: Version) -> Option<Vec<Offset>> {
        let after = self.trail.iter().filter(|(version, _)| *version > row);
        let offsets: Vec<Offset> = after.map(|(_, offset)| *offset).collect();
        (row.0 + offsets.len() as u64 == self.aggregate.version.0).then_some(offsets)
    }

    /// How far it has come.
    pub(in crate::reconstruct) fn progress(&self) -> Progress {
        Progress { reached: self.aggregate.version, lacks: self.lacks }
    }

    fn folded(&mut self, offset: Offset) {
        if self.trail.len() == TRAIL_MAX {
            self.trail.pop_front();
        }
        self.trail.push_back((self.aggregate.version, offset));
        self.provenance.events += 1;
    }

    pub(in crate::reconstruct) fn finish(mut self) -> Assembled {
        // Of a moment before the head: the mark belongs to a later one, and may be that of an event behind
        // the real one. Until here it kept later events from being folded.
        let marked_later = self.log_marked && self.ask.as_of != AsOf::Head;
        if marked_later && self.aggregate.version > Version(0) {
            self.aggregate.quarantine = None;
        }
        Assembled {
            is_whole: self.provenance.damaged == 0 && self.unfolded.is_empty(),
            aggregate: self.aggregate,
            provenance: self.provenance,
            events: self.events,
            before_events: self.before_events,
            stopped: self.stopped,
            too_much: self.too_much,
            log_end: self.log_end,
            marked_later,
            entries_reached: self.entries_reached,
            steps: self.steps,
        }
    }

    /// Base and pieces.
    pub(in crate::reconstruct) async fn run(
        &mut self,
        rows: &[SnapshotRow],
        mut pieces: Vec<Piece>,
    ) -> Result<()> {
        let likely = self.likely_base(rows);
        let mut ahead = Ahead::new(self, &pieces, likely);
        let mut more = ahead.beside(self.choose_base(rows)).await?;
        let is_likely = self.aggregate.version == likely.1 && self.provenance.damaged == 0;
        let is_as_thought = is_likely && more.is_empty();
        pieces.append(&mut more);
        self.hold_events(&mut pieces);
        if !is_as_thought {
            pieces.sort_by_key(|piece| (piece.from, std::cmp::Reverse(piece.upto)));
            ahead = Ahead::new(self, &pieces, (None, self.aggregate.version));
        }
        for (nth, piece) in pieces.iter().enumerate() {
            if self.is_done() {
                return Ok(());
            }
            if self.is_beyond_limit(piece) {
                continue;
            }
            self.marks.extend(piece.marked_entry());
            if piece.upto > piece.from && piece.upto <= self.aggregate.version {
                self.hear_mark(piece).await?;
                continue;
            }
            if piece.from > self.aggregate.version && !mutant(Mutant::GapFolded) {
                self.by_trails(rows).await?;
                self.by_letters(rows, piece.first_offset).await?;
                if self.is_done() {
                    return Ok(());
                }
            }
            if piece.from > self.aggregate.version && !mutant(Mutant::GapFolded) {
                // J1: nothing that is readable leads up to it.
                self.unfolded.push(piece.clone());
                self.bridge(piece.first_offset).await?;
                if piece.from > self.aggregate.version {
                    continue;
                }
            }
            let at = self.aggregate.version;
            match ahead.read(nth, piece).await {
                Ok(body) => self.fold_body(body, piece).await?,
                Err(error) if is_damage(&error) => {
                    self.damaged(&error)?;
                    self.miss_mark(piece);
                    self.unfolded.push(piece.clone());
                }
                Err(error) => return Err(error),
            }
            let step = piece.step(at);
            self.steps.push(Step {
                upto: self.aggregate.version,
                failed: self.aggregate.version == at && piece.upto > at,
                ..step
            });
        }
        if self.is_done() || !self.has_hole() {
            return Ok(());
        }
        self.by_trails(rows).await?;
        let last = self.unfolded.iter().map(|piece| piece.last_offset).max().unwrap_or_default();
        self.bridge(last.next()).await
    }

    /// A piece that was left out holds events below the limit that nothing else brought.
    fn has_hole(&self) -> bool {
        let missing = |piece: &Piece| piece.upto > self.aggregate.version && piece.first_offset < self.limit;
        self.unfolded.iter().any(missing)
    }

    /// For an owner: everything below the limit must be there; the rest comes with the partition's records.
    pub(in crate::reconstruct) async fn reach_limit(&mut self, rows: &[SnapshotRow]) -> Result<()> {
        if self.unbased(rows) {
            self.scan(self.aggregate.offset.next().max(Offset(0)), self.limit).await?;
        } else {
            self.by_letters(rows, self.limit).await?;
            self.seek_mark(rows).await?;
        }
        let below: Vec<SnapshotRow> =
            rows.iter().filter(|row| row.last_offset < self.limit).cloned().collect();
        self.check_against(&below)
    }

    fn is_at_or_before(&self, row: &SnapshotRow) -> bool {
        if self.ask.events_from.is_some_and(|from| row.version >= from) {
            return false;
        }
        match self.ask.as_of {
            AsOf::Head => true,
            AsOf::Version(version) => row.version <= version,
            AsOf::Time(time) => row.effective_time <= time,
            AsOf::Offset(offset) => row.last_offset <= offset,
        }
    }

    /// L1: an entry whose events all lie at or beyond the limit.
    fn is_beyond_limit(&self, piece: &Piece) -> bool {
        match &piece.source {
            Source::Entry(entry) => entry.ignore_from.is_some_and(|from| entry.first_offset >= from),
            Source::Row(_) => false,
        }
    }

    async fn read(&self, piece: &Piece) -> Result<IncrementBody> {
        piece.read(self.reader, self.partition, self.key).await
    }

    /// Whether a piece will be folded onto a version, as far as that can be told before those in front of it
    /// are.
    fn will_need(&self, piece: &Piece, at: Version) -> bool {
        let is_after = match self.ask.as_of {
            AsOf::Version(wanted) => piece.from >= wanted,
            AsOf::Offset(wanted) => piece.first_offset > wanted,
            AsOf::Head | AsOf::Time(_) => false,
        };
        piece.upto > at && !is_after && !self.is_beyond_limit(piece)
    }

    /// A piece whose events are folded already may still tell of a quarantine after them.
    async fn hear_mark(&mut self, piece: &Piece) -> Result<()> {
        let marked = match &piece.source {
            Source::Row(row) => row.quarantined,
            Source::Entry(entry) => entry.marked,
        };
        if marked && piece.upto == self.aggregate.version && self.aggregate.quarantine.is_none() {
            match self.read(piece).await {
                Ok(body) => self.fold_body(body, piece).await?,
                Err(error) if is_damage(&error) => {
                    self.damaged(&error)?;
                    self.miss_mark(piece);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A piece that cannot be read: its mark must not be lost with it (V2). Of a row's, the row tells.
    fn miss_mark(&mut self, piece: &Piece) {
        if let Some((_, offset)) = piece.marked_entry().filter(|_| !mutant(Mutant::MarkedEntryDoesNotBound)) {
            self.unheard = Some(self.unheard.map_or(offset, |first| first.min(offset)));
        }
    }

    async fn fold_body(&mut self, body: IncrementBody, piece: &Piece) -> Result<()> {
        let ignore_from = match &piece.source {
            Source::Entry(entry) => entry.ignore_from,
            Source::Row(_) => None,
        };
        self.reader.prepare(&body.events).await?;
        for event in body.events {
            if event.version <= self.aggregate.version {
                continue;
            }
            if ignore_from.is_some_and(|from| event.record.offset >= from) {
                return Ok(());
            }
            if matches!(piece.source, Source::Entry(_)) {
                reach(&mut self.entries_reached, event.record.leader_epoch, event.record.offset);
            }
            let decoded = self.reader.decoder.decode(event.record);
            let time = decoded.time();
            if self.would_pass(event.version, time, decoded.record.offset) {
                return Ok(());
            }
            self.keep_before_events();
            let refolded =
                self.reader.rules.refold(&mut self.aggregate, event.version, event.skipped, &decoded);
            refolded.map_err(|error| error.context("fold an increment"))?;
            self.folded(decoded.record.offset);
            self.hand_out(event.skipped, decoded);
            if self.is_too_much(0) {
                return Ok(());
            }
        }
        let beyond =
            body.quarantine.as_ref().zip(ignore_from).is_some_and(|(mark, from)| mark.offset >= from);
        if !beyond {
            let is_entry = matches!(piece.source, Source::Entry(_));
            if let Some((epoch, offset)) = self.take_mark(body.quarantine)
                && is_entry
                && !mutant(Mutant::MarkEpochUnchecked)
            {
                reach(&mut self.entries_reached, epoch, offset);
            }
        }
        Ok(())
    }

    /// Keeps the aggregate before the next event, if that is the first that was asked for.
    pub(super) fn keep_before_events(&mut self) {
        let is_first = self.ask.events_from.is_some_and(|from| self.aggregate.version.next() == from);
        if is_first && self.before_events.is_none() {
            self.before_events = Some(Box::new(self.aggregate.cooled_copy()));
        }
    }

    /// Keeps the event just folded, if it was asked for.
    fn hand_out(&mut self, skipped: bool, event: Decoded) {
        let version = self.aggregate.version;
        if self.ask.events_from.is_some_and(|from| version >= from) {
            let effective_time = self.aggregate.effective_time;
            self.events.push(FoldedEvent { version, skipped, event, effective_time });
        }
    }

    /// Counts one event or record; true if the question may not cost so much. `ahead` are known to follow.
    fn is_too_much(&mut self, ahead: u64) -> bool {
        self.work += 1;
        if self.ask.work_max.is_some_and(|max| self.work > max) {
            let wanted = match self.ask.as_of {
                AsOf::Version(version) => version.0.saturating_sub(self.aggregate.version.0),
                AsOf::Head | AsOf::Time(_) | AsOf::Offset(_) => 0,
            };
            self.too_much = Some(self.work.saturating_add(wanted.max(ahead)));
        }
        self.too_much.is_some()
    }

    /// Stands still from a mark on, if it lies ahead; answers the epoch and offset of one that was taken.
    fn take_mark(&mut self, mark: Option<QuarantineMark>) -> Option<(i32, Offset)> {
        let is_ahead = |mark: &QuarantineMark| {
            mark.offset > self.aggregate.offset
                && self.stopped.is_none()
                && self.aggregate.quarantine.is_none()
        };
        let mark = mark.filter(is_ahead)?;
        let place = (mark.leader_epoch, mark.offset);
        self.aggregate.quarantine = Some(Box::new(mark));
        Some(place)
    }

    /// True if folding this event would pass the moment asked for; the assembly is done then.
    fn would_pass(&mut self, version: Version, time: Timestamp, offset: Offset) -> bool {
        let effective = self.aggregate.effective_time.max(time);
        let passes = match self.ask.as_of {
            AsOf::Head => false,
            AsOf::Version(wanted) => version > wanted,
            AsOf::Time(wanted) => effective > wanted,
            AsOf::Offset(wanted) => offset > wanted,
        };
        if passes {
            self.stopped = Some(effective);
        }
        passes
    }

    /// The moment asked for is reached.
    fn is_done(&self) -> bool {
        let is_reached = match self.ask.as_of {
            AsOf::Version(wanted) => self.aggregate.version >= wanted,
            // What follows on an event has a larger offset.
            AsOf::Offset(wanted) => self.aggregate.offset >= wanted,
            AsOf::Head | AsOf::Time(_) => false,
        };
        is_reached || self.stopped.is_some() || self.too_much.is_some()
    }

    fn damaged(&mut self, error: &Error) -> Result<()> {
        self.provenance.damaged += 1;
        if mutant(Mutant::DanglingRowGivesUp) {
            return Err(error.clone());
        }
        Ok(())
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound)
}
