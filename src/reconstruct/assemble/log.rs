//! What the log adds to an assembly: the events that only it holds, and those whose records cannot be read.

use super::Assembly;
use crate::domain::aggregate::{Aggregate, Folded};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Offset, Timestamp};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::PortError;
use crate::domain::partition::reach;
use crate::domain::record::{QuarantineMark, RawRecord};
use crate::domain::row::SnapshotRow;
use crate::reconstruct::AsOf;
use crate::reconstruct::step::{Step, StepKind};
use crate::store::unavailable;

impl Assembly<'_> {
    /// Reads the log from the aggregate's last event up to `to` or the limit, in place of records that cannot
    /// be read. What the log has forgotten stays a hole: whoever needs it finds out.
    pub(super) async fn bridge(&mut self, to: Offset) -> Result<()> {
        let from = self.aggregate.offset.next().max(Offset(0));
        match self.scan(from, to.min(self.limit)).await {
            Err(error) if error.kind == ErrorKind::Gone => Ok(()),
            other => other,
        }
    }

    /// The events that only the log holds.
    pub(in crate::reconstruct) async fn tail(&mut self, rows: &[SnapshotRow]) -> Result<()> {
        self.by_trails(rows).await?;
        if !self.is_done() {
            let unbased = self.unbased(rows);
            let cut_short = !unbased && self.may_be_cut_short();
            if !unbased && !cut_short {
                self.by_letters(rows, self.limit).await?;
            }
            if !unbased {
                self.seek_mark(rows).await?;
            }
            let is_behind = unbased || cut_short;
            let from = if is_behind { self.aggregate.offset.next().max(Offset(0)) } else { self.limit };
            let bounds = self.reader.log.bounds(self.partition.partition).await;
            let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
            // Where a log has ended it is not read on, whatever the topic has.
            let end = if self.reader.log.has_ended() { self.limit } else { bounds.end };
            let scanned = self.scan(from, end).await;
            scanned.map_err(|error| match error.kind {
                ErrorKind::Gone if cut_short => {
                    let detail = "a live checkpoint cannot be read, which may hold more of the aggregate";
                    Error::corrupt(format!("{detail}: {}", error.detail))
                }
                _ => error,
            })?;
            let after = self.reader.log.bounds(self.partition.partition).await;
            let after = after.map_err(|error| unavailable("read the log's bounds", &error))?;
            self.reader.check_topic(after.topic_id)?;
            // Rule 12: under a later leader there may be other events below the watermark than those that
            // were folded, and this scan has passed them by.
            let (under, told) = self.told;
            if after.leader_epoch > under && told > Offset(0) && !mutant(Mutant::CutTailRead) {
                reach(&mut self.entries_reached, under, Offset(told.0 - 1));
            }
            if !self.is_done() {
                self.log_end = Some(end);
            }
        }
        self.check_against(rows)
    }

    /// An unreadable checkpoint may hold events after the last one known. What leads on by versions has
    /// proved that none is missing before it, and after a quarantine none counts.
    fn may_be_cut_short(&self) -> bool {
        let at = &self.aggregate;
        at.quarantine.is_none() && self.lost_below.is_some_and(|end| at.offset.next() < end)
    }

    /// V1: is there a row or a hole below the limit that the aggregate does not hold?
    pub(super) fn unbased(&self, rows: &[SnapshotRow]) -> bool {
        if mutant(Mutant::TailFromOldBase) {
            return false;
        }
        let missing =
            |row: &SnapshotRow| row.first_offset < self.limit && row.version > self.aggregate.version;
        self.has_hole() || rows.iter().any(missing) || self.is_led_up_to_by_nothing(rows)
    }

    /// What led from the aggregate to the rows above it was deleted, and nobody knows where in the log its
    /// events were: they may be below the limit.
    fn is_led_up_to_by_nothing(&self, rows: &[SnapshotRow]) -> bool {
        let above = rows.iter().filter(|row| row.version > self.aggregate.version);
        let lowest = above.map(|row| row.from_version).min();
        lowest.is_some_and(|from| from > self.aggregate.version) && !mutant(Mutant::DeletedNotMissed)
    }

    /// A row of the moment, below the limit, or a checkpoint's entry tells of a quarantine that nothing
    /// readable holds. The log is read for it; where that has forgotten the event behind the mark, row or
    /// entry must do, which know where but not why. To go on without it would be to fold what is to be
    /// refused.
    pub(super) async fn seek_mark(&mut self, rows: &[SnapshotRow]) -> Result<()> {
        let lacks = |at: &Aggregate, offset: Offset| offset > at.offset && at.quarantine.is_none();
        let of_moment =
            |row: &&SnapshotRow| row.quarantined && row.last_offset < self.limit && self.is_at_or_before(row);
        let of_rows = rows.iter().filter(of_moment).map(|row| (row.last_offset, row.leader_epoch));
        let of_rows = of_rows.filter(|_| !mutant(Mutant::MarkedRowDoesNotBound));
        // An entry's table does not tell epochs.
        let mut told = of_rows.chain(self.unheard.map(|offset| (offset, -1)));
        let lacking = told.find(|(offset, _)| lacks(&self.aggregate, *offset));
        let Some((offset, leader_epoch)) = lacking.filter(|_| !self.is_done()) else { return Ok(()) };
        self.bridge(offset.next()).await?;
        if !self.is_done() && lacks(&self.aggregate, offset) {
            self.stand_still_at(offset, leader_epoch);
        }
        Ok(())
    }

    /// Of the event there is known that it was, and where.
    pub(super) fn stand_still_at(&mut self, offset: Offset, leader_epoch: i32) {
        self.aggregate.quarantine = Some(Box::new(QuarantineMark {
            code: "unreadable".into(),
            version: self.aggregate.version,
            offset,
            leader_epoch,
            since: Timestamp(0),
        }));
    }

    /// V2.
    pub(super) fn check_against(&self, rows: &[SnapshotRow]) -> Result<()> {
        if mutant(Mutant::RowsSeenDoNotBound) {
            return Ok(());
        }
        let at = &self.aggregate;
        let short = |row: &&SnapshotRow| {
            let passed = at.offset >= row.last_offset && at.version < row.version;
            let ended = self.stopped.is_none() && at.version < row.version && !self.is_done();
            passed || (ended && at.quarantine.is_none())
        };
        match rows.iter().find(short) {
            None => Ok(()),
            Some(row) => Err(Error::new(
                ErrorKind::Unavailable,
                "not-caught-up",
                format!("version {} was seen, the fold reached {} only", row.version, at.version),
            )),
        }
    }

    /// Folds the aggregate's events of a stretch of the log.
    pub(super) async fn scan(&mut self, from: Offset, to: Offset) -> Result<()> {
        let mut step = Step::new(StepKind::Log, self.aggregate.version);
        let scanned = self.scan_counted(from, to, &mut step.records).await;
        if from < to {
            step = Step { upto: self.aggregate.version, offsets: Some((from, to)), ..step };
            self.steps.push(Step { failed: scanned.is_err(), ..step });
        }
        scanned
    }

    async fn scan_counted(&mut self, from: Offset, to: Offset, records_read: &mut u64) -> Result<()> {
        let mut next = from;
        while next < to && !self.is_done() {
            let records = match self.reader.log.read(self.partition.partition, next, to).await {
                Ok(records) => records,
                Err(PortError::Missing) => {
                    self.lacks = Some(next);
                    let (version, damaged) = (self.aggregate.version, self.provenance.damaged);
                    let detail = format!(
                        "the log no longer holds offset {next}, from where version {version} must be folded on ({} records do not join, {damaged} are damaged)",
                        self.unfolded.len()
                    );
                    return Err(Error::new(ErrorKind::Gone, "history-gone", detail));
                }
                Err(error) => return Err(unavailable("read the log", &error)),
            };
            let Some(last) = records.last() else { return Ok(()) };
            next = last.offset.next();
            *records_read += records.len() as u64;
            for record in records {
                let ahead = u64::try_from(to.0.saturating_sub(record.offset.0)).unwrap_or(0);
                if self.is_too_much(ahead) {
                    return Ok(());
                }
                self.fold_record(record)?;
                if self.is_done() {
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn fold_record(&mut self, record: RawRecord) -> Result<()> {
        if record.offset <= self.aggregate.offset && !mutant(Mutant::NoReplaySkip) {
            return Ok(());
        }
        let decoded = self.reader.decoder.decode(record);
        if decoded.id() != Some(&self.key.id) {
            return Ok(());
        }
        let time = decoded.time();
        // A version that is reached ends the scan at once; only times and offsets can be passed.
        let may_pass = matches!(self.ask.as_of, AsOf::Time(_) | AsOf::Offset(_));
        let before = may_pass.then(|| self.aggregate.clone());
        self.keep_before_events();
        let folded = self.reader.rules.fold(&mut self.aggregate, &decoded);
        match &folded {
            Folded::Applied | Folded::Skipped(_) => {
                if let Some(before) = before {
                    let version = self.aggregate.version;
                    let after = std::mem::replace(&mut self.aggregate, before);
                    if self.would_pass(version, time, decoded.record.offset) {
                        return Ok(());
                    }
                    self.aggregate = after;
                }
                self.folded(decoded.record.offset);
                self.provenance.log_events += 1;
                self.hand_out(matches!(folded, Folded::Skipped(_)), decoded);
                Ok(())
            }
            Folded::Quarantined(_) => {
                self.log_marked = true;
                Ok(())
            }
            Folded::Duplicate | Folded::Refused(_) => Ok(()),
            Folded::Halt(poison) => Err(Error::new(
                ErrorKind::Unavailable,
                "not-caught-up",
                format!("the partition halts: {poison}"),
            )),
        }
    }
}
