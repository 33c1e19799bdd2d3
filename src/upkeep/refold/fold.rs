//! One aggregate being refolded: events in, cuts out. Pure.
//!
//! INVARIANT: what is folded here is what a worker with the new reducer would have folded from the log: the
//! same events in the same order by the same fold, so the records are those that such a worker could write.

use crate::domain::aggregate::{Aggregate, Folded, Rules};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decoded;
use crate::domain::ids::{Digest, Offset, Version};
use crate::domain::partition::{Cut, SnapshotItem, Strategy};
use crate::domain::poison::Poison;
use crate::domain::record::StoredEvent;
use crate::domain::row::Trigger;
use std::sync::Arc;

/// Cuts of one flush, and bytes of its events and states.
const CUTS_MAX: usize = 64;
const BYTES_MAX: usize = 1 << 20;

/// Where the new lineage's records end.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    /// `eventThreshold`.
    pub events_max: u64,
    /// `sizeThreshold`.
    pub bytes_max: u64,
    /// `strategy` and `fullEvery`.
    pub strategy: Strategy,
}

/// What became of one event.
#[derive(Debug)]
pub(super) enum Met {
    /// It has a version.
    Folded,
    /// It is a dead letter of the new lineage, too or only now.
    Letter(Box<Decoded>, Poison),
    /// It repeats one that was folded.
    Repeated,
}

/// See the module.
pub(super) struct Folding<'a> {
    rules: &'a Rules,
    cuts: Cuts,
    id: Arc<str>,
    pub(super) aggregate: Aggregate,
    /// Version of the last cut that was handed over.
    row: Version,
    open: Vec<Arc<Cut>>,
    events: Vec<StoredEvent>,
    bytes: usize,
    /// Since the newest cut.
    since: Since,
    increments: u32,
    /// The mark is in a cut.
    is_marked: bool,
}

#[derive(Default)]
struct Since {
    events: u64,
    bytes: u64,
    trail: Vec<Offset>,
}

impl<'a> Folding<'a> {
    pub(super) fn new(rules: &'a Rules, cuts: Cuts, id: &Arc<str>) -> Self {
        Self {
            rules,
            cuts,
            id: Arc::clone(id),
            aggregate: Aggregate::genesis(&rules.kind, id),
            row: Version(0),
            open: Vec::new(),
            events: Vec::new(),
            bytes: 0,
            since: Since::default(),
            increments: 0,
            is_marked: false,
        }
    }

    /// Folds one more event of the log.
    ///
    /// # Errors
    /// `Conflict` if it is another aggregate's event by today's mapping, `Invalid` if the reducer says that
    /// its partition must stop.
    pub(super) fn fold(&mut self, decoded: Decoded) -> Result<Met> {
        if decoded.id().is_none_or(|id| *id != self.id) {
            let detail = "its events are not its own any more: the mapping is another one. A new mapping folds the \
                          topic, see `--new-lineage`";
            return Err(Error::new(ErrorKind::Conflict, "lineage-changed", detail));
        }
        self.cut_if_due();
        let skipped = match self.rules.fold(&mut self.aggregate, &decoded) {
            Folded::Applied => None,
            Folded::Skipped(poison) => Some(poison),
            Folded::Duplicate => return Ok(Met::Repeated),
            Folded::Quarantined(poison) | Folded::Refused(poison) => {
                return Ok(Met::Letter(Box::new(decoded), poison));
            }
            Folded::Halt(poison) => {
                let offset = decoded.record.offset;
                let detail = format!("the event at {offset} would halt its partition: {poison}");
                return Err(Error::new(ErrorKind::Invalid, "bad-body", detail));
            }
        };
        let bytes = decoded.record.bytes();
        self.bytes += bytes;
        self.since.events += 1;
        self.since.bytes += bytes as u64;
        self.since.trail.push(decoded.record.offset);
        let (version, is_skipped) = (self.aggregate.version, skipped.is_some());
        match skipped {
            None => {
                let record = decoded.record;
                self.events.push(StoredEvent { version, skipped: is_skipped, record });
                Ok(Met::Folded)
            }
            Some(poison) => {
                let record = decoded.record.clone();
                self.events.push(StoredEvent { version, skipped: is_skipped, record });
                Ok(Met::Letter(Box::new(decoded), poison))
            }
        }
    }

    /// A threshold is looked at when the next event comes, so that the last cut is at the last event.
    fn cut_if_due(&mut self) {
        let trigger = if self.since.events >= self.cuts.events_max {
            Trigger::Events
        } else if self.since.bytes >= self.cuts.bytes_max {
            Trigger::Bytes
        } else {
            return;
        };
        let is_full = match self.cuts.strategy {
            Strategy::Full => true,
            Strategy::Incremental { full_every } | Strategy::Auto { full_every, .. } => {
                self.increments + 1 >= full_every
            }
        };
        self.cut(trigger, is_full);
    }

    fn cut(&mut self, trigger: Trigger, is_full: bool) {
        let keeps_trail = self.cuts.strategy == Strategy::Full;
        let trail = std::mem::take(&mut self.since).trail;
        let cut = Cut::of(&self.aggregate, trigger, keeps_trail.then_some(trail), is_full, 0);
        self.bytes += cut.aggregate.state.bytes_bound();
        self.increments = if is_full { 0 } else { self.increments + 1 };
        self.is_marked |= self.aggregate.quarantine.is_some();
        self.open.push(Arc::new(cut));
    }

    /// A full record at the last event: somebody noted something on its snapshot.
    pub(super) fn cut_here(&mut self) {
        if self.since.events > 0 {
            self.cut(Trigger::Manual, true);
        }
    }

    /// What has to be written before more is folded.
    pub(super) fn full(&mut self) -> Option<SnapshotItem> {
        let is_full = self.open.len() >= CUTS_MAX || self.bytes >= BYTES_MAX;
        (is_full && !self.open.is_empty()).then(|| self.take())
    }

    /// The last of it; none where all was handed over.
    pub(super) fn finish(mut self) -> Option<SnapshotItem> {
        let marks = self.aggregate.quarantine.is_some() && !self.is_marked;
        if self.since.events > 0 || marks {
            self.cut(Trigger::Manual, true);
        }
        (!self.open.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> SnapshotItem {
        let cuts = std::mem::take(&mut self.open);
        let upto = cuts.last().map_or(self.row, |cut| cut.version());
        let later = self.events.partition_point(|event| event.version <= upto);
        let rest = self.events.split_off(later);
        let events = std::mem::replace(&mut self.events, rest);
        self.bytes = self.events.iter().map(|event| event.record.bytes()).sum();
        let row = std::mem::replace(&mut self.row, upto);
        let increment = self.cuts.strategy != Strategy::Full;
        let (id, first_offset) = (Arc::clone(&self.id), events.first().map(|event| event.record.offset));
        SnapshotItem { id, row, pending: Vec::new(), tail: events.into(), increment, cuts, first_offset }
    }

    /// The chain, as long as each event has the version that it had: then rows of the old lineage tell it
    /// too.
    pub(super) fn check_chain(&self, expected: Option<Digest>) -> Result<()> {
        match expected {
            Some(chain) if chain != self.aggregate.chain => {
                let detail = format!(
                    "the hash chain at version {} is another one: the mapping names other headers, or what is stored \
                     was changed. `snapfold snapshot verify` tells",
                    self.aggregate.version
                );
                Err(Error::new(ErrorKind::Conflict, "lineage-changed", detail))
            }
            _ => Ok(()),
        }
    }
}
