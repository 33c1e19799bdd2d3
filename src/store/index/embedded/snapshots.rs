//! Snapshot rows of one aggregate: walked from a version, a time or an offset; and which were deleted, when.
//!
//! INVARIANT: rows are read in the order of their keys, newest first, whatever the walk starts from.

use super::keys::{self, Parts};
use super::{Rows, damaged, read_row};
use crate::domain::chain::snapshot_id;
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, Version};
use crate::domain::ledger::DeletedRow;
use crate::domain::outcome::PortResult;
use crate::domain::row::SnapshotRow;
use crate::store::index::From;

impl Rows {
    pub(super) fn snapshots(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> PortResult<Vec<SnapshotRow>> {
        let all = keys::snapshots(key, lineage);
        let is_start = |row: &SnapshotRow| match from {
            From::TimeAtOrBefore(time) => row.effective_time <= time,
            From::OffsetAtOrBelow(offset) => row.last_offset <= offset,
            _ => true,
        };
        let start = match from {
            From::Above(version) => return self.above(key, lineage, version, limit),
            From::AtOrBelow(version) => keys::snapshot_version(key, lineage, version),
            _ => all.clone(),
        };
        let mut found = Vec::new();
        for entry in self.range(&start, &all.after()) {
            if found.len() == limit {
                break;
            }
            let (stored, value) = entry?;
            let row = read_row(&stored, &value, keys::snapshot)?;
            if !found.is_empty() || is_start(&row) {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// Upwards by version, but the copies of one version stay in the order of their packs.
    fn above(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        version: Version,
        limit: usize,
    ) -> PortResult<Vec<SnapshotRow>> {
        let (start, end) = (keys::snapshots(key, lineage), keys::snapshot_version(key, lineage, version));
        let mut found: Vec<SnapshotRow> = Vec::new();
        // Where the copies of the version that is being read start.
        let mut copies = 0;
        for entry in self.range(&start, &end).rev() {
            let (stored, value) = entry?;
            let row = read_row(&stored, &value, keys::snapshot)?;
            if found.last().is_some_and(|last| last.version != row.version) {
                found[copies..].reverse();
                copies = found.len();
            }
            if copies >= limit {
                break;
            }
            found.push(row);
        }
        found[copies..].reverse();
        found.truncate(limit);
        Ok(found)
    }

    pub(super) fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> PortResult<Option<(AggregateKey, Lineage, Version)>> {
        let Some(value) = self.get(&keys::snapshot_id(id))? else { return Ok(None) };
        let named = Parts::of(&value).and_then(Parts::snapshot_version);
        // The id is a digest of what it names, so it is its own checksum; what it names has one form.
        let named = named.filter(|(key, lineage, version)| {
            snapshot_id(key, *lineage, *version) == id
                && keys::snapshot_version(key, *lineage, *version).0 == *value
        });
        named.map(Some).ok_or_else(|| damaged(&"a snapshot's public id names something else"))
    }

    /// The deletion of each row that was deleted, by the time of the deletion.
    pub(super) fn deletions(&self, key: &AggregateKey, lineage: Lineage) -> PortResult<Vec<LedgerId>> {
        let all = keys::deletions(key, lineage);
        let mut deletions = Vec::new();
        for entry in self.range(&all, &all.clone().after()) {
            let (stored, value) = entry?;
            deletions.push(named_deletion(&stored, &value)?);
        }
        deletions.sort_unstable();
        Ok(deletions)
    }

    /// The deletion of one row.
    pub(super) fn deletion(&self, row: &DeletedRow) -> PortResult<Option<LedgerId>> {
        let key = keys::deletion(&keys::named(row));
        let value = self.get(&key)?;
        value.map(|value| named_deletion(&key.0, &value)).transpose()
    }
}

fn named_deletion(key: &[u8], value: &[u8]) -> PortResult<LedgerId> {
    let deletion = value.split_first_chunk().filter(|(_, sum)| **sum == keys::sum(key, value));
    let (deletion, _) = deletion.ok_or_else(|| damaged(&"a deletion disagrees with its checksum"))?;
    Ok(LedgerId(*deletion))
}
