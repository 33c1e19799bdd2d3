//! A stored stretch of events of one aggregate: the increment or segment of a row, or what a live checkpoint
//! holds.

use super::Reconstructor;
use super::step::{Step, StepKind};
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, Offset, Version};
use crate::domain::partition::EntryRef;
use crate::domain::record::IncrementBody;
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use std::sync::Arc;

/// A stored stretch of events of one aggregate.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) from: Version,
    pub(super) upto: Version,
    pub(super) first_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) source: Source,
    /// Its events, where they were read together with the base.
    pub(super) held: Option<Arc<IncrementBody>>,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Row(SnapshotRow),
    Entry(EntryRef),
}

impl Piece {
    /// The read of it, for an aggregate at this version.
    pub(super) fn step(&self, at: Version) -> Step {
        let (kind, pack, bytes) = match &self.source {
            Source::Row(row) if row.kind == RecordKind::Segment => {
                // What is held was read, and counted, with the base.
                let bytes = if self.held.is_some() { 0 } else { row.stored_bytes };
                (StepKind::Segment, row.pack, Some(bytes))
            }
            Source::Row(row) => (StepKind::Increment, row.pack, Some(row.stored_bytes)),
            Source::Entry(entry) => (StepKind::Checkpoint, entry.pack, None),
        };
        let offsets = Some((self.first_offset, self.last_offset.next()));
        Step {
            pack: Some(pack),
            bytes,
            offsets,
            records: u64::from(self.held.is_none()),
            ..Step::new(kind, at)
        }
    }

    /// Version and offset of a mark that an entry tells of, unless that is the log's to tell.
    pub(super) fn marked_entry(&self) -> Option<(Version, Offset)> {
        let Source::Entry(entry) = &self.source else { return None };
        let is_left_to_log = entry.ignore_from.is_some_and(|from| entry.last_offset >= from);
        (entry.marked && !is_left_to_log).then_some((entry.upto, entry.last_offset))
    }

    /// The events it holds.
    pub(super) async fn read(
        &self,
        reader: &Reconstructor,
        partition: &PartitionKey,
        key: &AggregateKey,
    ) -> Result<IncrementBody> {
        if let Some(held) = &self.held {
            return Ok(IncrementBody::clone(held));
        }
        match &self.source {
            Source::Row(row) => reader.packs.events(row).await,
            Source::Entry(entry) => reader.packs.entry(partition, key, entry).await,
        }
    }

    /// All increments, segments and entries, those that start first come first.
    pub(super) fn all(rows: &[SnapshotRow], pending: &[EntryRef]) -> Vec<Self> {
        let rows = rows.iter().filter(|row| row.kind != RecordKind::Full).map(|row| Self {
            from: row.from_version,
            upto: row.version,
            first_offset: row.first_offset,
            last_offset: row.last_offset,
            source: Source::Row(row.clone()),
            held: None,
        });
        let entries = pending.iter().map(|entry| Self {
            from: entry.from,
            upto: entry.upto,
            first_offset: entry.first_offset,
            last_offset: entry.last_offset,
            source: Source::Entry(entry.clone()),
            held: None,
        });
        let mut pieces: Vec<Self> = rows.chain(entries).collect();
        pieces.sort_by_key(|piece| (piece.from, std::cmp::Reverse(piece.upto)));
        pieces
    }
}
