//! Deletions of any length survive the loss of the index.

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::codec::pack::ledger_name;
use crate::domain::ids::{PartitionNo, Timestamp};
use crate::domain::row::SnapshotRow;
use crate::store::blobs::{Blobs, MemoryBlobs};
use crate::store::index::{From, Index, MemoryIndex, suite};
use crate::store::packs::{CompressionPlan, Packs};
use crate::store::rebuild::Settings;
use std::sync::Arc;

const ROWS: u64 = 60_000;

fn row(version: u64) -> SnapshotRow {
    let key = AggregateKey { kind: "order".into(), id: "a".into() };
    suite::snapshot(&key, 1, version, PackId([1; 16]))
}

/// Rebuilds from one object of the ledger, longer than 1 MiB, and then writes what it deleted again.
async fn left(index: MemoryIndex, deleted_at: Timestamp) -> Vec<u64> {
    let (index, blobs, clock) =
        (Arc::new(index), Arc::new(MemoryBlobs::new()), Arc::new(SystemClock::start()));
    let at = LedgerId::mint(deleted_at, [1; 10]);
    let rows = (1..=ROWS).map(|version| DeletedRow::of(&row(version))).collect();
    let bytes = Deletion { at, reason: "retention".into(), rows }.encode();
    assert!(bytes.len() > 1 << 20, "{}", bytes.len());
    blobs.put_new(&ledger_name(at), &bytes).await.unwrap();
    let packs = Packs::new(index.clone(), blobs, CompressionPlan::default(), [0; 16]);
    let (packs, settings) = (Arc::new(packs), Settings::default());
    let (topics, progress) = ([("order".into(), "orders".into())].into(), Arc::default());
    let rebuild = Rebuild { index: index.clone(), packs, clock, topics, settings, progress };
    let rebuilt = rebuild.run().await.unwrap();
    assert_eq!((rebuilt.problems, rebuilt.deleted), (Vec::new(), ROWS));
    index.put_snapshots(vec![row(1), row(ROWS)]).await.unwrap();
    let rows = index.snapshots(&row(1).key, Lineage(1), From::Newest, 9).await.unwrap();
    rows.iter().map(|row| row.version.0).collect()
}

#[tokio::test]
async fn a_long_deletion_counts_and_an_empty_index_is_spared_what_is_long_over() {
    let (now, long_ago) = (SystemClock::start().now(), Timestamp(1_700_000_000_000));
    assert_eq!(left(MemoryIndex::new(), now).await, Vec::<u64>::new(), "a write of it may be on its way");
    assert_eq!(left(MemoryIndex::new(), long_ago).await, [ROWS, 1], "nothing was deleted");
    let used = MemoryIndex::new();
    used.put_aggregate(&row(1).key, PartitionNo(0)).await.unwrap();
    assert_eq!(left(used, long_ago).await, Vec::<u64>::new());
}
