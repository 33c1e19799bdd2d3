//! The state that everything starts from: a full record's, a segment's base, or one that was kept from an
//! earlier answer.
//!
//! A segment brings the events after its base in the same read, so of two records the one that leads nearer
//! to the moment *by itself* costs less: folding is far cheaper than one more read.

use super::{Assembly, Piece, Source, is_damage};
use crate::domain::aggregate::Aggregate;
use crate::domain::error::Result;
use crate::domain::ids::Version;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::record::{FullBody, IncrementBody, SegmentBody};
use crate::domain::row::{RecordKind, SnapshotRow};
use crate::reconstruct::AsOf;
use crate::reconstruct::step::Step;
use std::sync::Arc;

/// How near to the moment a record leads by itself.
#[derive(Clone, Copy)]
struct Reach {
    upto: Version,
    /// It is known that its state is not beyond the moment; else only its reading tells.
    is_sure: bool,
}

impl Assembly<'_> {
    /// Starts from the record that leads nearest to the moment and can be read. Answers the pieces of older
    /// rows that had to be fetched on the way.
    pub(super) async fn choose_base(&mut self, rows: &[SnapshotRow]) -> Result<Vec<Piece>> {
        let mut fetched: Vec<SnapshotRow> = Vec::new();
        let kept = self.ask.base.take();
        // COST: rows are large and many, and this looks at all of them for every read.
        let mut older: Option<Vec<SnapshotRow>> = None;
        loop {
            let candidates = older.as_deref().unwrap_or(rows);
            let mut failed = false;
            for row in self.bases(candidates) {
                if let Some(kept) = kept.as_deref().filter(|kept| replaces(kept, row)) {
                    self.start_from(kept);
                    return Ok(Piece::all(&fetched, &[]));
                }
                match self.start_at(row).await {
                    Ok(true) => return Ok(Piece::all(&fetched, &[])),
                    Ok(false) => {}
                    Err(error) if is_damage(&error) => {
                        self.damaged(&error)?;
                        self.steps.push(Step::of_base(row, true));
                        failed = true;
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(kept) = &kept {
                self.start_from(kept);
                return Ok(Piece::all(&fetched, &[]));
            }
            let lowest = candidates.iter().map(|row| row.version).min();
            let Some(lowest) = lowest.filter(|_| failed) else { return Ok(Piece::all(&fetched, &[])) };
            let below = self.reader.rows_below(self.key, self.partition, lowest).await?;
            fetched.extend(below.iter().cloned());
            if below.is_empty() {
                return Ok(Piece::all(&fetched, &[]));
            }
            older = Some(below);
        }
    }

    /// What the base will be if it can be read: the row that it comes from, unless it is a kept state, and
    /// its version.
    pub(super) fn likely_base<'r>(&self, rows: &'r [SnapshotRow]) -> (Option<&'r SnapshotRow>, Version) {
        let kept = self.ask.base.as_deref();
        let is_better = |row: &&SnapshotRow| !kept.is_some_and(|kept| replaces(kept, row));
        let row = self.bases(rows).into_iter().next().filter(is_better);
        let version = row.map(state_version).or(kept.map(|kept| kept.version));
        (row, version.unwrap_or_default())
    }

    /// The rows whose records bring a state that may be at or before the moment, the best first.
    fn bases<'r>(&self, rows: &'r [SnapshotRow]) -> Vec<&'r SnapshotRow> {
        let with_reach = |row: &'r SnapshotRow| Some((self.reach(row)?, row));
        let mut bases: Vec<(Reach, &SnapshotRow)> = rows.iter().filter_map(with_reach).collect();
        // Of segments that may start before the moment, one may: the first.
        let is_unsure =
            |(reach, row): &(Reach, &SnapshotRow)| !reach.is_sure && row.kind == RecordKind::Segment;
        let first = bases.iter().filter(|base| is_unsure(base)).map(|(_, row)| row.version).min();
        bases.retain(|base| !is_unsure(base) || Some(base.1.version) == first);
        bases.sort_by_key(|(reach, row)| {
            let is_full = row.kind == RecordKind::Full;
            std::cmp::Reverse((reach.upto, row.quarantined, is_full, row.from_version, row.pack))
        });
        bases.into_iter().map(|(_, row)| row).collect()
    }

    /// How near to the moment a row's record leads by itself; none if it brings no state that could be used.
    fn reach(&self, row: &SnapshotRow) -> Option<Reach> {
        let upto = match row.kind {
            RecordKind::Increment => return None,
            RecordKind::Full if self.is_at_or_before(row) => row.version,
            RecordKind::Full if self.may_be_before_its_mark(row) => {
                return Some(Reach { upto: row.version, is_sure: false });
            }
            RecordKind::Full => return None,
            RecordKind::Segment if self.ask.events_from.is_some_and(|from| row.from_version >= from) => {
                return None;
            }
            RecordKind::Segment => match self.ask.as_of {
                AsOf::Head => row.version,
                AsOf::Version(wanted) if row.from_version <= wanted => row.version.min(wanted),
                AsOf::Version(_) => return None,
                AsOf::Time(wanted) if row.effective_time <= wanted => row.version,
                AsOf::Offset(wanted) if row.last_offset <= wanted => row.version,
                AsOf::Offset(wanted) if row.first_offset <= wanted => row.from_version.next(),
                AsOf::Time(_) | AsOf::Offset(_) => {
                    return Some(Reach { upto: row.from_version, is_sure: false });
                }
            },
        };
        Some(Reach { upto, is_sure: true })
    }

    /// Where a row tells of a quarantine its last offset is that of the event behind the mark, and the state
    /// may be older.
    fn may_be_before_its_mark(&self, row: &SnapshotRow) -> bool {
        let is_within = |wanted| row.quarantined && row.first_offset <= wanted;
        self.ask.events_from.is_none() && matches!(self.ask.as_of, AsOf::Offset(wanted) if is_within(wanted))
    }

    /// Starts from the state of a row's record; false if that lies beyond the moment.
    async fn start_at(&mut self, row: &SnapshotRow) -> Result<bool> {
        if row.kind == RecordKind::Segment {
            let SegmentBody { base, events } = self.reader.packs.segment(row).await?;
            if let Some(base) = base {
                if self.is_beyond(&base) && !mutant(Mutant::SegmentBaseUnchecked) {
                    return Ok(false);
                }
                self.aggregate = Aggregate::from_body(base);
            }
            let events = Arc::new(IncrementBody { events, quarantine: None });
            self.held = Some((row.pack, row.version, events));
        } else {
            let state = self.reader.packs.full(row).await?;
            if self.is_beyond(&state) {
                return Ok(false);
            }
            self.aggregate = Aggregate::from_body(state);
        }
        self.provenance.base = self.aggregate.version;
        self.steps.push(Step::of_base(row, false));
        Ok(true)
    }

    fn is_beyond(&self, state: &FullBody) -> bool {
        match self.ask.as_of {
            AsOf::Head => false,
            AsOf::Version(wanted) => state.version > wanted,
            AsOf::Time(wanted) => state.effective_time > wanted,
            AsOf::Offset(wanted) => state.offset > wanted,
        }
    }

    /// The events that came with the base are not read again.
    pub(super) fn hold_events(&mut self, pieces: &mut [Piece]) {
        let Some((pack, version, events)) = self.held.take() else { return };
        let is_it = |piece: &&mut Piece| match &piece.source {
            Source::Row(row) => (row.pack, row.version) == (pack, version),
            _ => false,
        };
        if let Some(piece) = pieces.iter_mut().find(is_it) {
            piece.held = Some(events);
        }
    }

    fn start_from(&mut self, kept: &Aggregate) {
        self.aggregate = kept.clone();
        self.provenance.cached = kept.version;
        self.steps.push(Step::cached(kept));
    }
}

/// Whether a kept state leads as near to the moment. Of several at one version, one that tells of a
/// quarantine knows more.
fn replaces(kept: &Aggregate, row: &SnapshotRow) -> bool {
    (kept.version, false) >= (state_version(row), row.quarantined)
}

/// The version of the state that a row's record starts with.
fn state_version(row: &SnapshotRow) -> Version {
    if row.kind == RecordKind::Segment { row.from_version } else { row.version }
}
