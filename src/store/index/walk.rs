//! A walk over the snapshot rows of one aggregate, page by page, every version whole.
//!
//! *Why*: a page of the index may end inside a version, and an id may occur in several partitions, which are
//! different aggregates. Whoever reads rows in pages has both in mind here, once.
//! *If it fails*: the walk stands where it stood, and the next call asks for the same page again.

use super::{From, Index};
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, Lineage, PartitionNo, Version};
use crate::domain::outcome::PortResult;
use crate::domain::row::{PartitionKey, SnapshotRow};
use crate::store::unavailable;

/// How many times longer a page is that must hold more copies of one version than the one before could, or
/// that may grow.
const LONGER: usize = 4;

/// See the module. Rows that come or go meanwhile may be met or not.
pub struct RowWalk<'a> {
    index: &'a dyn Index,
    key: &'a AggregateKey,
    lineage: Lineage,
    /// Of this partition only.
    partition: Option<PartitionNo>,
    page: usize,
    /// Pages grow to this.
    page_max: usize,
    /// Where the next page starts; none after the last.
    next: Option<From>,
}

impl<'a> RowWalk<'a> {
    /// A walk from a start on, in its direction, over all rows of an id in one lineage. `page` rows are asked
    /// for at once.
    pub fn new(
        index: &'a dyn Index,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        page: usize,
    ) -> Self {
        let page = page.max(1);
        Self { index, key, lineage, partition: None, page, page_max: page, next: Some(from) }
    }

    /// A walk over the rows of one aggregate: those of the id in this partition.
    pub fn within(
        index: &'a dyn Index,
        key: &'a AggregateKey,
        partition: &PartitionKey,
        from: From,
        page: usize,
    ) -> Self {
        let all = Self::new(index, key, partition.lineage, from, page);
        Self { partition: Some(partition.partition), ..all }
    }

    /// The same, where the first rows are mostly enough: after them pages grow.
    #[must_use]
    pub fn growing_to(self, page_max: usize) -> Self {
        Self { page_max, ..self }
    }

    /// The next rows in the order of the walk: those of one version are together and all there. None after
    /// the last; a page in which only another partition has rows is empty.
    ///
    /// # Errors
    /// Of the index.
    pub async fn next(&mut self) -> PortResult<Option<Vec<SnapshotRow>>> {
        let Some(from) = self.next else { return Ok(None) };
        let mut limit = self.page;
        loop {
            let mut rows = self.index.snapshots(self.key, self.lineage, from, limit).await?;
            let ends = rows.first().zip(rows.last()).map(|(first, last)| (first.version, last.version));
            self.next = match ends.filter(|_| rows.len() >= limit) {
                None => None,
                // It says nothing of where the version ends.
                Some((first, last)) if first == last => {
                    limit = limit.saturating_mul(LONGER);
                    continue;
                }
                Some((_, last)) => {
                    // The version may go on: it comes whole with the next page.
                    rows.retain(|row| row.version != last);
                    Some(if is_upwards(from) {
                        From::Above(Version(last.0 - 1))
                    } else {
                        From::AtOrBelow(last)
                    })
                }
            };
            rows.retain(|row| self.partition.is_none_or(|partition| row.partition == partition));
            self.page = self.page.saturating_mul(LONGER).min(self.page_max);
            return Ok(Some(rows));
        }
    }

    /// Whether the rows that came last were the last ones.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// The same, for whoever answers a question with them.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn read(&mut self) -> Result<Option<Vec<SnapshotRow>>> {
        self.next().await.map_err(|error| unavailable("read snapshot rows", &error))
    }

    /// All rows that are left.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn rest(&mut self) -> Result<Vec<SnapshotRow>> {
        let mut all = Vec::new();
        while let Some(mut rows) = self.read().await? {
            all.append(&mut rows);
        }
        Ok(all)
    }
}

fn is_upwards(from: From) -> bool {
    matches!(from, From::Above(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Offset, PackId, Timestamp};
    use crate::store::index::MemoryIndex;
    use crate::store::index::suite::snapshot;
    use futures_util::FutureExt;

    const LINEAGE: u32 = 3;

    fn key() -> AggregateKey {
        AggregateKey { kind: "order".into(), id: "a".into() }
    }

    /// An index with rows of these versions, partitions and packs.
    fn index(rows: &[(u64, i32, u8)]) -> MemoryIndex {
        let index = MemoryIndex::new();
        for (version, partition, pack) in rows.iter().copied() {
            let row = snapshot(&key(), LINEAGE, version, PackId([pack; 16]));
            let row = SnapshotRow { partition: PartitionNo(partition), ..row };
            index.put_snapshot(row).now_or_never().expect("at once").unwrap();
        }
        index
    }

    fn met(index: &MemoryIndex, partition: Option<i32>, from: From, page: usize) -> Vec<(u64, u8)> {
        let key = key();
        let partition = partition.map(PartitionNo);
        let mut walk = RowWalk { partition, ..RowWalk::new(index, &key, Lineage(LINEAGE), from, page) };
        let rows = walk.rest().now_or_never().expect("at once").unwrap();
        assert!(walk.is_done());
        rows.iter().map(|row| (row.version.0, row.pack.0[0])).collect()
    }

    #[test]
    fn every_row_is_met_once_whatever_a_page_holds() {
        let rows = [(0, 1, 1), (3, 1, 1), (3, 1, 2), (3, 1, 3), (4, 1, 4), (9, 1, 5), (9, 1, 6)];
        let index = index(&rows);
        let all = usize::MAX;
        let (up, down) = (From::Above(Version(0)), From::Newest);
        assert_eq!(met(&index, None, up, all), [(3, 1), (3, 2), (3, 3), (4, 4), (9, 5), (9, 6)]);
        let starts = [
            (up, 6),
            (From::Above(Version(3)), 3),
            (down, 7),
            (From::AtOrBelow(Version(8)), 5),
            (From::AtOrBelow(Version(0)), 1),
            (From::TimeAtOrBefore(Timestamp(i64::MAX)), 7),
            (From::OffsetAtOrBelow(Offset(i64::MAX)), 7),
        ];
        for (from, count) in starts {
            let whole = met(&index, None, from, all);
            assert_eq!(whole.len(), count, "{from:?}");
            for page in 1..9 {
                assert_eq!(met(&index, None, from, page), whole, "{from:?}, {page} at once");
            }
        }
    }

    #[test]
    fn rows_of_the_id_in_another_partition_are_stepped_over() {
        let index = index(&[(1, 1, 1), (2, 2, 2), (3, 2, 3), (4, 2, 4), (5, 1, 5), (6, 2, 6)]);
        for page in 1..8 {
            assert_eq!(met(&index, Some(1), From::Newest, page), [(5, 5), (1, 1)], "{page} at once");
            assert_eq!(met(&index, Some(1), From::Above(Version(1)), page), [(5, 5)], "{page} at once");
            assert_eq!(met(&index, Some(3), From::Newest, page), [], "{page} at once");
        }
    }

    #[test]
    fn versions_come_whole() {
        let index = index(&[(1, 1, 1), (2, 1, 2), (2, 1, 3), (2, 1, 4), (2, 1, 5), (3, 1, 6)]);
        for (from, page) in [(From::Newest, 3), (From::Above(Version(0)), 2), (From::Newest, 1)] {
            let key = key();
            let mut walk = RowWalk::new(&index, &key, Lineage(LINEAGE), from, page);
            while let Some(rows) = walk.next().now_or_never().expect("at once").unwrap() {
                let twos = rows.iter().filter(|row| row.version == Version(2)).count();
                assert!(twos == 0 || twos == 4, "{from:?}, {page} at once: {twos}");
            }
        }
    }
}
