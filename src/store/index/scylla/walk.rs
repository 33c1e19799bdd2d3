//! Walks over the snapshot rows of one aggregate: one CQL partition, the newest row first.
//!
//! Times and offsets are no part of the key, but they grow with the version. So a walk from a time or an
//! offset looks at the newest rows first, which is where most questions go, and then halves what is left.
//!
//! COST: one read for most walks; one more for each halving, some twenty for a million versions.

use super::columns::SnapshotColumns;
use super::{ScyllaIndex, typed, varint};
use crate::domain::ids::{AggregateKey, Lineage, Version};
use crate::domain::outcome::PortResult;
use crate::domain::row::SnapshotRow;
use crate::store::index::From;
use std::ops::ControlFlow;

/// Rows that are looked at before halving begins.
const LOOK_FIRST: usize = 16;
/// Copies of one version that are expected at most, when pages of a walk upwards are sized.
const COPIES: usize = 8;
const PAGE_ROWS_MAX: usize = 1_000;

impl ScyllaIndex {
    pub(super) async fn walk(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> PortResult<Vec<SnapshotRow>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        match from {
            From::Newest => self.down(key, lineage, Version(u64::MAX), limit).await,
            From::AtOrBelow(version) => self.down(key, lineage, version, limit).await,
            From::Above(version) => self.up(key, lineage, version, limit).await,
            From::TimeAtOrBefore(time) => {
                let is_start = |row: &SnapshotRow| row.effective_time <= time;
                self.search(key, lineage, &is_start, limit).await
            }
            From::OffsetAtOrBelow(offset) => {
                let is_start = |row: &SnapshotRow| row.last_offset <= offset;
                self.search(key, lineage, &is_start, limit).await
            }
        }
    }

    async fn down(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        version: Version,
        limit: usize,
    ) -> PortResult<Vec<SnapshotRow>> {
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let values = (&*key.kind, &*key.id, i64::from(lineage.0), varint(version.0), most);
        let mut found = Vec::new();
        self.pages(&self.statements.snapshots_down, values, |page| {
            for columns in typed::<SnapshotColumns<'_>>(page)? {
                found.push(columns?.row()?);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(found)
    }

    /// Upwards by version, but the copies of one version stay in the order of their packs.
    async fn up(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        version: Version,
        limit: usize,
    ) -> PortResult<Vec<SnapshotRow>> {
        let values = (&*key.kind, &*key.id, i64::from(lineage.0), varint(version.0));
        let mut statement = self.statements.snapshots_up.clone();
        let page_rows = limit.saturating_add(COPIES).min(PAGE_ROWS_MAX);
        statement.set_page_size(i32::try_from(page_rows).expect("a page has few rows"));
        let mut found: Vec<SnapshotRow> = Vec::new();
        // Where the copies of the version that is being read start.
        let mut copies = 0;
        self.pages(&statement, values, |page| {
            for columns in typed::<SnapshotColumns<'_>>(page)? {
                let row = columns?.row()?;
                if found.last().is_some_and(|last| last.version != row.version) {
                    found[copies..].reverse();
                    copies = found.len();
                }
                if copies >= limit {
                    return Ok(ControlFlow::Break(()));
                }
                found.push(row);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        found[copies..].reverse();
        found.truncate(limit);
        Ok(found)
    }

    /// Downwards from the newest row that `is_start` says yes to: it says so to every row below as well.
    async fn search(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        is_start: &(dyn Fn(&SnapshotRow) -> bool + Sync),
        limit: usize,
    ) -> PortResult<Vec<SnapshotRow>> {
        let look = limit.max(LOOK_FIRST);
        let newest = self.down(key, lineage, Version(u64::MAX), look).await?;
        let (is_all, last) = (newest.len() < look, newest.last().map(|row| row.version));
        let mut rows: Vec<_> = newest.into_iter().skip_while(|row| !is_start(row)).collect();
        if is_all || rows.len() >= limit {
            rows.truncate(limit);
            return Ok(rows);
        }
        let start = match (rows.first(), last) {
            (Some(start), _) => Some(start.version),
            (None, Some(last)) => self.halve(key, lineage, is_start, last).await?,
            (None, None) => None,
        };
        let Some(start) = start else { return Ok(Vec::new()) };
        // Copies of the first version that are no start come before those that are.
        let more = limit.saturating_add(COPIES);
        let rows = self.down(key, lineage, start, more).await?;
        let mut rows: Vec<_> = rows.into_iter().skip_while(|row| !is_start(row)).collect();
        rows.truncate(limit);
        Ok(rows)
    }

    /// The newest version at or below `high` whose row is a start.
    async fn halve(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
        is_start: &(dyn Fn(&SnapshotRow) -> bool + Sync),
        high: Version,
    ) -> PortResult<Option<Version>> {
        let (mut low, mut high, mut start) = (0, high.0, None);
        while low <= high {
            let middle = low + (high - low) / 2;
            let rows = self.down(key, lineage, Version(middle), 1).await?;
            match rows.first() {
                Some(row) if !is_start(row) => match row.version.0.checked_sub(1) {
                    Some(below) => high = below,
                    None => break,
                },
                found => {
                    // Above `middle` there may be a newer one.
                    start = found.map(|row| row.version).or(start);
                    match middle.checked_add(1) {
                        Some(above) => low = above,
                        None => break,
                    }
                }
            }
        }
        Ok(start)
    }
}
