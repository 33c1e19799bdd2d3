//! A stored stretch of events of one aggregate: the increment of a row, or what a live checkpoint holds.

use crate::domain::ids::{Offset, Version};
use crate::domain::partition::EntryRef;
use crate::domain::row::{RecordKind, SnapshotRow};

/// A stored stretch of events of one aggregate.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) from: Version,
    pub(super) upto: Version,
    pub(super) first_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Row(SnapshotRow),
    Entry(EntryRef),
}

impl Piece {
    /// All increments and entries, those that start first come first.
    pub(super) fn all(rows: &[SnapshotRow], pending: &[EntryRef]) -> Vec<Self> {
        let rows = rows.iter().filter(|row| row.kind == RecordKind::Increment).map(|row| Self {
            from: row.from_version,
            upto: row.version,
            first_offset: row.first_offset,
            last_offset: row.last_offset,
            source: Source::Row(row.clone()),
        });
        let entries = pending.iter().map(|entry| Self {
            from: entry.from,
            upto: entry.upto,
            first_offset: entry.first_offset,
            last_offset: entry.last_offset,
            source: Source::Entry(entry.clone()),
        });
        let mut pieces: Vec<Self> = rows.chain(entries).collect();
        pieces.sort_by_key(|piece| (piece.from, std::cmp::Reverse(piece.upto)));
        pieces
    }
}
