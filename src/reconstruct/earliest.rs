//! From where on history can be had, where what was asked for is gone.
//!
//! SUBTLE: rows come in the order of the versions at which they end, and a segment answers from its base on,
//! which may lie below states that end before it does (seed 3446, counted). So a base is tried only once all
//! segments that may begin at or below it were read.

use super::{ROWS_PAGE, Reconstructor};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::record::SegmentBody;
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::store::index::From;
use crate::store::unavailable;
use std::collections::BTreeSet;

/// Rows looked at for the start of what can be had.
const ROWS_MAX: usize = 1_024;

/// What is to be had at the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The state at a version.
    State,
    /// The event of a version.
    Event,
}

/// The version at which a row has a state, not below this one; none of an increment.
fn base_of(row: &SnapshotRow, lowest: Version) -> Option<Version> {
    match row.kind {
        RecordKind::Increment => None,
        RecordKind::Full => Some(row.version),
        RecordKind::Segment if mutant(Mutant::EarliestInOrderOfEnds) => Some(row.version),
        RecordKind::Segment => Some(row.from_version.max(lowest)),
    }
}

impl Reconstructor {
    /// The earliest version above `version` that can be had although `version` is gone: of a state, or with
    /// `wanted` of an event.
    ///
    /// # Errors
    /// `Unavailable` if a port failed.
    pub async fn earliest(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
        version: Version,
        wanted: Wanted,
    ) -> Result<Option<Version>> {
        let bounds = self.log.bounds(partition.partition).await;
        let start = bounds.map_err(|error| unavailable("read the log's bounds", &error))?.start;
        let mut walk = self.walk(key, partition, From::Above(version), ROWS_PAGE);
        let (mut rows, mut tried): (Vec<SnapshotRow>, BTreeSet<usize>) = Default::default();
        while rows.len() < ROWS_MAX
            && let Some(page) = walk.read().await?
        {
            rows.extend(page);
            let is_all = walk.is_done() || rows.len() >= ROWS_MAX;
            let last = rows.last().filter(|_| !is_all).map_or(u64::MAX, |last| last.version.0);
            let settled = Version(last.saturating_sub(SegmentBody::EVENTS_MAX as u64));
            let bases = rows.iter().enumerate().filter(|(place, _)| !tried.contains(place));
            let bases =
                bases.filter_map(|(place, row)| Some((base_of(row, version.next())?, row.kind, place)));
            let mut bases: Vec<_> = bases.filter(|(at, ..)| is_all || *at <= settled).collect();
            bases.sort_unstable();
            for (at, _, place) in bases {
                if wanted == Wanted::Event && !leads_on(&rows, place, at, start, walk.is_done()) {
                    if is_all {
                        continue;
                    }
                    // What leads on from it may come yet.
                    break;
                }
                if self.is_readable(&rows[place]).await? {
                    return Ok(Some(if wanted == Wanted::Event { at.next() } else { at }));
                }
                tried.insert(place);
            }
        }
        Ok(None)
    }

    async fn is_readable(&self, row: &SnapshotRow) -> Result<bool> {
        let read = match row.kind {
            RecordKind::Segment => self.packs.segment(row).await.map(drop),
            RecordKind::Full | RecordKind::Increment => self.packs.full(row).await.map(drop),
        };
        match read {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the event after a state can be had: a row has it, or the log, or the state is the newest that
/// there is, and what follows on it is in a checkpoint or in the log, or is still to come.
fn leads_on(rows: &[SnapshotRow], place: usize, at: Version, start: Offset, are_all: bool) -> bool {
    let row = &rows[place];
    let goes_on = |other: &SnapshotRow| {
        other.kind != RecordKind::Full && other.from_version <= at && other.version > at
    };
    let is_newest = are_all && rows.iter().all(|other| other.version <= row.version);
    is_newest || row.last_offset.next() >= start || rows.iter().any(goes_on)
}
