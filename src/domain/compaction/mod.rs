//! Which rows of an aggregate are merged into which segments, and which rows are redundant then: the plan of
//! compaction. What is planned is read, folded again and compared before anything is written
//! (`reconstruct::merge`), and nothing goes before what replaces it is acknowledged (`upkeep::compaction`).
//!
//! Invariants:
//! - nothing above the newest full record is touched, and neither is that: a new owner starts from there;
//! - a version that could be rebuilt from rows can be rebuilt from the rows that stay and the segments;
//! - a row that tells of a quarantine is neither merged nor redundant, and neither is a pinned one;
//! - planning again after the segments are there plans none of them again.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Plan`: what becomes of an aggregate's rows |
//! | `cover.rs` | stretches of versions whose events rows hold without a gap |
//! | `packing.rs` | how a stretch is divided into segments |

mod cover;
mod packing;

use super::ids::Version;
use super::mutant::{Mutant, mutant};
use super::row::{RecordKind, SnapshotRow};
use cover::{Cover, Span, stretches};
use packing::pack;
use std::collections::BTreeSet;

pub use packing::EVENT_BYTES_MAX;

/// What compaction is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Merge increments and segments into segments, and let go of what they stand in for.
    Merge,
    /// Let go of full records that what is stored makes redundant; nothing is written.
    Thin,
}

/// How far merging goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only segments that will not grow any more: history is written once.
    Full,
    /// Also what may be merged again with what comes after it.
    All,
}

/// What is wanted of a plan.
#[derive(Clone, Debug)]
pub struct Order {
    /// What to do.
    pub aim: Aim,
    /// How far.
    pub depth: Depth,
    /// Events of a segment, 256 at the most.
    pub events_max: usize,
    /// Full records that stay, the newest first; at least one does.
    pub keep_full: usize,
    /// All events that are stored stay (`history: forever`), so states that they lead to may go. Else whoever
    /// deletes what is not promised any more may rely on a state at the same time, and delete the events
    /// below it: then states are left to retention.
    pub events_stay: bool,
    /// Versions that somebody pinned or named.
    pub pinned: BTreeSet<Version>,
}

/// One segment that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedSegment {
    /// Version of its base, 0 for none.
    pub from: Version,
    /// Its last version.
    pub upto: Version,
}

/// What is to become of the rows of one aggregate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be written, by version.
    pub segments: Vec<PlannedSegment>,
    /// Redundant once the segments are acknowledged, by version.
    pub superseded: Vec<SnapshotRow>,
    /// Rows whose records must be read for it.
    pub reads: u64,
}

impl Plan {
    /// Stored bytes of what is redundant.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        self.superseded.iter().map(|row| row.stored_bytes).sum()
    }

    /// There is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.superseded.is_empty()
    }
}

/// Plans the compaction of one aggregate, whose rows these are, all of one partition and lineage.
#[must_use]
pub fn plan(rows: &[SnapshotRow], order: &Order) -> Plan {
    // INVARIANT: owners start from it, and count on from what follows it.
    let top = rows.iter().filter(|row| is_whole(row, RecordKind::Full)).map(|row| row.version).max();
    let Some(top) = top.filter(|top| *top > Version(0)) else { return Plan::default() };
    let below: Vec<&SnapshotRow> = rows.iter().filter(|row| row.version <= top).collect();
    let spans = spans_of(&below);
    let mut segments = Vec::new();
    if order.aim == Aim::Merge {
        for stretch in stretches(&spans) {
            let Some(known) = known_from(&stretch, &below) else { continue };
            segments.extend(pack(&stretch, order).into_iter().filter(|planned| planned.from >= known));
        }
    }
    let in_place = spans.iter().filter(|span| span.is_segment).map(|span| (span.from, span.upto));
    let merged = Cover::of(in_place.chain(segments.iter().map(|planned| (planned.from, planned.upto))));
    let mut superseded = redundant_events(&below, &segments, &merged);
    let gone: Vec<&SnapshotRow> = superseded.clone();
    superseded.extend(redundant_fulls(&below, &gone, (&segments, &merged), top, order));
    superseded.sort_by_key(|row| (row.version, row.kind, row.pack));
    let is_read = |row: &&&SnapshotRow| {
        row.kind != RecordKind::Full
            && segments.iter().any(|planned| row.version > planned.from && row.from_version < planned.upto)
    };
    let reads = below.iter().filter(is_read).count() as u64;
    Plan { superseded: superseded.into_iter().cloned().collect(), reads, segments }
}

/// A row of this kind that tells of no quarantine.
fn is_whole(row: &SnapshotRow, kind: RecordKind) -> bool {
    row.kind == kind && !row.quarantined
}

/// The stretches of events that rows hold.
fn spans_of(rows: &[&SnapshotRow]) -> Vec<Span> {
    let holds = |row: &&&SnapshotRow| {
        let is_marked = row.quarantined || row.version <= row.from_version;
        row.kind != RecordKind::Full && !is_marked
    };
    let span = |row: &&SnapshotRow| {
        // A segment's record has a state as well, about as large as the one at its end.
        let base = row.state_bytes.filter(|_| row.from_version > Version(0)).unwrap_or(0);
        Span {
            from: row.from_version,
            upto: row.version,
            bytes: row.raw_bytes.saturating_sub(base),
            is_segment: row.kind == RecordKind::Segment,
        }
    };
    rows.iter().filter(holds).map(span).collect()
}

/// The first version of a stretch whose state can be had: where it starts with the first event or a segment,
/// or the first full record in it. Whatever comes after it can be folded.
fn known_from(stretch: &[Span], rows: &[&SnapshotRow]) -> Option<Version> {
    let (first, last) = (stretch.first()?, stretch.last()?);
    if first.from == Version(0) || first.is_segment {
        return Some(first.from);
    }
    let fulls = rows.iter().filter(|row| is_whole(row, RecordKind::Full)).map(|row| row.version);
    fulls.filter(|version| (first.from..last.upto).contains(version)).min()
}

/// Increments and segments whose events segments hold that are or will be there.
fn redundant_events<'r>(
    rows: &[&'r SnapshotRow],
    segments: &[PlannedSegment],
    merged: &Cover,
) -> Vec<&'r SnapshotRow> {
    // A segment goes only where a larger one takes its place.
    let there = rows.iter().filter(|row| is_whole(row, RecordKind::Segment));
    let there = there.map(|row| PlannedSegment { from: row.from_version, upto: row.version });
    let all: Vec<PlannedSegment> = segments.iter().copied().chain(there).collect();
    let is_inside = |row: &SnapshotRow| {
        let (from, upto) = (row.from_version, row.version);
        let is_larger = |other: &&PlannedSegment| (other.from, other.upto) != (from, upto);
        all.iter().filter(is_larger).any(|other| other.from <= from && upto <= other.upto)
    };
    let is_redundant = |row: &&&SnapshotRow| match row.kind {
        RecordKind::Full => false,
        _ if row.quarantined || row.version <= row.from_version => false,
        RecordKind::Increment if mutant(Mutant::SupersededUnmerged) => true,
        RecordKind::Increment => merged.holds(row.from_version, row.version),
        RecordKind::Segment => is_inside(row),
    };
    rows.iter().filter(is_redundant).copied().collect()
}

/// Full records whose versions something else answers for that stays.
fn redundant_fulls<'r>(
    rows: &[&'r SnapshotRow],
    gone: &[&SnapshotRow],
    (segments, merged): (&[PlannedSegment], &Cover),
    top: Version,
    order: &Order,
) -> Vec<&'r SnapshotRow> {
    let mut fulls: Vec<&SnapshotRow> =
        rows.iter().copied().filter(|row| row.kind == RecordKind::Full).collect();
    fulls.sort_by_key(|row| row.version);
    let mut kept: Vec<Version> = fulls.iter().rev().map(|row| row.version).collect();
    kept.dedup();
    kept.truncate(order.keep_full.max(1));
    let lowest_kept = kept.last().copied().unwrap_or(top);
    let stays = |row: &SnapshotRow| {
        row.version >= lowest_kept || row.quarantined || order.pinned.contains(&row.version)
    };
    let is_gone =
        |row: &SnapshotRow| gone.iter().any(|other| (other.version, other.pack) == (row.version, row.pack));
    let events = rows.iter().filter(|row| !is_gone(row)).copied().collect::<Vec<_>>();
    let spans = spans_of(&events).into_iter().map(|span| (span.from, span.upto));
    let events = Cover::of(spans.chain(segments.iter().map(|planned| (planned.from, planned.upto))));
    // With the events from the first on, everything below can be folded; else from a full record that stays,
    // or a segment.
    let mut reached = events.end_from(Version(0));
    let mut redundant = Vec::new();
    for row in fulls {
        let answers = merged.answers(row.version)
            || (order.aim == Aim::Thin && reached.is_some_and(|end| row.version <= end));
        if order.events_stay && answers && !stays(row) {
            redundant.push(row);
        } else {
            reached = reached.max(Some(events.end_from(row.version).unwrap_or(row.version)));
        }
    }
    redundant
}

#[cfg(test)]
mod tests;
