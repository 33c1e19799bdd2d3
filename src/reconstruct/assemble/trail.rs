//! Versions between full snapshots whose events only the topic has: read one by one, by the trail of the
//! snapshot that follows. Without it the whole partition would have to be read from the snapshot before on.
//!
//! *If it fails*: whatever does not fit (a record that is no longer there, one of somebody else, a version
//!   that does not follow, another chain at the end) undoes all that the trail brought, and the log is read
//!   as if there had been none.

use super::{Assembly, Saved};
use crate::codec::pack::Locator;
use crate::domain::error::Result;
use crate::domain::ids::Offset;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::PortError;
use crate::domain::record::RawRecord;
use crate::domain::row::{RecordKind, SnapshotRow};
use crate::reconstruct::step::{Step, StepKind};
use crate::store::unavailable;

/// Foreign records that are read rather than asked past: about what one more round trip costs.
const GAP_MAX: i64 = 500;

impl Assembly<'_> {
    /// Folds on as far as trails lead.
    pub(super) async fn by_trails(&mut self, rows: &[SnapshotRow]) -> Result<()> {
        let is_ahead =
            |row: &&SnapshotRow| row.kind == RecordKind::Full && row.version > self.aggregate.version;
        let mut ahead: Vec<&SnapshotRow> = rows.iter().filter(is_ahead).collect();
        ahead.sort_by_key(|row| row.version);
        let before = self.aggregate.version;
        for row in ahead {
            if self.is_done() || self.aggregate.quarantine.is_some() {
                break;
            }
            let Some(trail) = self.trail_to(row) else { continue };
            let (saved, at) = (self.save(), self.aggregate.version);
            let records = self.provenance.log_events;
            let fits = self.follow(&trail, row).await?;
            let step = Step {
                upto: if fits { self.aggregate.version } else { at },
                offsets: trail.first().zip(trail.last()).map(|(first, last)| (*first, last.next())),
                records: self.provenance.log_events - records,
                failed: !fits,
                ..Step::new(StepKind::Trail, at)
            };
            self.steps.push(step);
            if !fits {
                self.undo(saved);
                break;
            }
        }
        if self.aggregate.version > before {
            // Rule 12: what was read is of the topic that the rows are about, also where the moment lies
            // within a trail, whose end would prove it.
            let bounds = self.reader.log.bounds(self.partition.partition).await;
            let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
            self.reader.check_topic(bounds.topic_id)?;
        }
        Ok(())
    }

    /// The offsets that lead from the aggregate to a row, where its trail reaches back so far.
    fn trail_to(&self, row: &SnapshotRow) -> Option<Vec<Offset>> {
        let trail = Locator::decode(&row.locator).ok()?.trail?;
        let start = row.version.0.checked_sub(trail.len() as u64)?;
        let known = usize::try_from(self.aggregate.version.0.checked_sub(start)?).ok()?;
        let rest = trail.get(known..)?;
        (row.version > self.aggregate.version && rest.first()? > &self.aggregate.offset)
            .then(|| rest.to_vec())
    }

    /// Folds the events of a trail up to the moment; false if anything does not fit.
    async fn follow(&mut self, trail: &[Offset], row: &SnapshotRow) -> Result<bool> {
        let mut wanted = trail;
        while let Some(first) = wanted.first() {
            let near = wanted.windows(2).take_while(|pair| pair[1].0 - pair[0].0 <= GAP_MAX).count();
            let (group, rest) = wanted.split_at(near + 1);
            let end = group.last().unwrap_or(first).next();
            if !self.follow_group(group, end).await? {
                return Ok(false);
            }
            if self.is_done() {
                return Ok(true);
            }
            wanted = rest;
        }
        let is_same = self.aggregate.version == row.version && self.aggregate.chain == row.chain;
        Ok(is_same || mutant(Mutant::TrailUnproved))
    }

    /// The same for offsets that are read in one go.
    async fn follow_group(&mut self, group: &[Offset], end: Offset) -> Result<bool> {
        let mut wanted = group.iter().copied().peekable();
        while let Some(next) = wanted.peek().copied() {
            let records = match self.reader.log.read(self.partition.partition, next, end).await {
                Ok(records) => records,
                Err(PortError::Missing) => return Ok(false),
                Err(error) => return Err(unavailable("read the log", &error)),
            };
            if records.is_empty() {
                return Ok(false);
            }
            for record in records {
                if self.is_too_much(0) {
                    return Ok(true);
                }
                match wanted.peek() {
                    Some(offset) if record.offset < *offset => {}
                    Some(offset) if record.offset == *offset => {
                        wanted.next();
                        if !self.follow_one(record)? {
                            return Ok(false);
                        }
                        if self.is_done() {
                            return Ok(true);
                        }
                    }
                    Some(_) => return Ok(false),
                    None => break,
                }
            }
        }
        Ok(true)
    }

    /// Folds the event of a trail; false if it is not the aggregate's next one.
    fn follow_one(&mut self, record: RawRecord) -> Result<bool> {
        let next = self.aggregate.version.next();
        self.fold_record(record)?;
        Ok(self.stopped.is_some() || self.aggregate.version == next || mutant(Mutant::TrailUnproved))
    }

    fn save(&self) -> Saved {
        Saved {
            aggregate: self.aggregate.cooled_copy(),
            provenance: self.provenance,
            trail: self.trail.clone(),
            events: self.events.len(),
            had_before_events: self.before_events.is_some(),
            log_marked: self.log_marked,
        }
    }

    fn undo(&mut self, saved: Saved) {
        self.aggregate = saved.aggregate;
        self.provenance = saved.provenance;
        self.trail = saved.trail;
        self.events.truncate(saved.events);
        if !saved.had_before_events {
            self.before_events = None;
        }
        self.log_marked = saved.log_marked;
        self.stopped = None;
    }
}
