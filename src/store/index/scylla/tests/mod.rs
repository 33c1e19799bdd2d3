//! The index against a real Apache Cassandra, which `tests/servers/server` starts.
//!
//! | file | owns |
//! |---|---|
//! | `cluster` | the server, keyspaces, settings |
//! | `tests/proxy/cql.rs` | frames between driver and server, and what may happen to them |
//! | `matrix` | every statement with every error of the protocol |
//! | `outages` | a server that is killed or stands still |
//! | `starts` | configurations and schemas that are wrong, migrations |
//! | `speed` | figures for docs/benchmarks.md, run by name only |

pub(crate) mod cluster;
mod matrix;
mod outages;
#[path = "../../../../../tests/proxy/cql.rs"]
#[expect(dead_code, reason = "statements are held by `tests/it`")]
mod proxy;
mod speed;
mod starts;

use super::super::memory::MemoryIndex;
use super::super::suite::{self, Dice};
use super::*;
use crate::domain::ids::Timestamp;
use cluster::{Keyspace, shared};
use futures_util::future::join_all;

#[tokio::test(flavor = "multi_thread")]
async fn the_index_keeps_the_promises_of_the_port() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("suite").await;
    let index = keyspace.open().await;
    suite::all(&index).await;
    suite::the_last_who_says_that_it_owns_a_partition_is_told(&index).await;
}

fn key(id: &str) -> AggregateKey {
    AggregateKey { kind: "order".into(), id: id.into() }
}

fn row(id: &str, version: u64) -> SnapshotRow {
    suite::snapshot(&key(id), 1, version, PackId([7; 16]))
}

fn orders() -> PartitionKey {
    PartitionKey { topic: "orders".into(), partition: PartitionNo(1), lineage: Lineage(1) }
}

fn checkpoint(pack: PackId) -> CheckpointRow {
    let (first_offset, end_offset) = (Offset(3), Offset(9));
    CheckpointRow { key: orders(), pack, first_offset, end_offset, entries: 5, object_bytes: 77 }
}

fn mark(offset: i64) -> WatermarkRow {
    WatermarkRow { key: orders(), topic_id: 5, leader_epoch: 2, low_watermark: Offset(offset) }
}

/// Goal: the largest low watermark wins, in whatever order and however often they are written, by whomever.
/// Method: two sessions write the same marks, shuffled, many at a time, each twice.
#[tokio::test(flavor = "multi_thread")]
async fn of_low_watermarks_in_any_order_the_largest_stays() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("marks").await;
    let writers = [keyspace.open().await, keyspace.open().await];
    let mut dice = Dice::new(3);
    for round in 0..10_i64 {
        let mut offsets: Vec<i64> = (round * 40..=round * 40 + 50).flat_map(|offset| [offset; 2]).collect();
        for nth in (1..offsets.len()).rev() {
            offsets.swap(nth, dice.below(nth as u64 + 1) as usize);
        }
        let writes =
            offsets.iter().enumerate().map(|(nth, offset)| writers[nth % 2].put_watermark(mark(*offset)));
        for written in join_all(writes).await {
            written.unwrap();
        }
        assert_eq!(writers[0].watermarks(&orders()).await, Ok(vec![mark(round * 40 + 50)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_writes_of_a_checkpoint_stay_dead_and_newer_ones_live() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("late").await;
    let (owner, dying) = (keyspace.open().await, keyspace.open().await);
    let pack = |n: u8| PackId::mint(Timestamp(1_700_000_000_000 + i64::from(n)), [n; 10]);
    for n in 0..30 {
        dying.put_checkpoint(checkpoint(pack(n))).await.unwrap();
    }
    for n in 0..29 {
        let (deleted, again) = futures_util::future::join(
            owner.delete_checkpoint(&orders(), pack(n)),
            dying.put_checkpoint(checkpoint(pack(n))),
        )
        .await;
        deleted.unwrap();
        again.unwrap();
        dying.put_checkpoint(checkpoint(pack(n))).await.unwrap();
    }
    assert_eq!(owner.checkpoints(&orders()).await, Ok(vec![checkpoint(pack(29))]));
}

/// Goal: walks from a time or an offset find their start however many rows are above it.
/// Method: the twin's answers, for sparse versions, from every edge.
#[tokio::test(flavor = "multi_thread")]
async fn walks_into_a_long_history_start_where_the_twin_starts() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("walks").await;
    let (index, twin) = (keyspace.open().await, MemoryIndex::new());
    let rows: Vec<SnapshotRow> = (0..250).map(|n| row("long", n * n + 7)).collect();
    for row in &rows {
        twin.put_snapshot(row.clone()).await.unwrap();
    }
    for written in join_all(rows.chunks(64).map(|rows| index.put_snapshots(rows.to_vec()))).await {
        written.unwrap();
    }
    let (key, lineage) = (key("long"), Lineage(1));
    let edges = rows.iter().step_by(9).map(|row| (row.effective_time.0, row.last_offset.0));
    for (time, offset) in edges.chain([(0, 0), (i64::MAX, i64::MAX)]) {
        for from in [
            From::TimeAtOrBefore(Timestamp(time)),
            From::TimeAtOrBefore(Timestamp(time - 1)),
            From::OffsetAtOrBelow(Offset(offset)),
            From::OffsetAtOrBelow(Offset(offset - 1)),
            From::Above(Version((offset / 10).max(0) as u64)),
        ] {
            for limit in [1, 20] {
                let found = index.snapshots(&key, lineage, from, limit).await;
                assert_eq!(found, twin.snapshots(&key, lineage, from, limit).await, "{from:?}, {limit}");
            }
        }
    }
}

/// Goal: a listing is in id order and whole, whatever the page, when slots hold more than one read brings.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_is_whole_and_in_order() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("listing").await;
    let index = &keyspace.open().await;
    let ids: Vec<String> = (0..3_000).map(|n| format!("o-{n:05}")).collect();
    for ids in ids.chunks(250) {
        let listed = ids.iter().map(|id| async move {
            index.put_aggregate(&key(id), PartitionNo(0)).await.unwrap();
        });
        join_all(listed).await;
    }
    for page in [37, 1_000, usize::MAX] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let listed = index.aggregates("order", after.as_deref(), page).await.unwrap();
            let Some((last, _)) = listed.last() else { break };
            after = Some(last.id.to_string());
            read.extend(listed.into_iter().map(|(key, _)| key.id.to_string()));
        }
        assert!(read == ids, "in pages of {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_read_across_buckets_and_beyond_the_memory_of_buckets() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("letters").await;
    let index = keyspace.open().await;
    let letter = |offset: i64| {
        let record = crate::domain::record::RawRecord {
            offset: Offset(offset),
            leader_epoch: 1,
            record_time: Timestamp(0),
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let (code, detail) = ("bad-body".into(), "ä".repeat(2_000));
        DeadLetter { key: orders(), offset: Offset(offset), aggregate: None, code, detail, record }
    };
    let offsets: Vec<i64> = (0..60).map(|n| n * 3_000 - 9_000).chain([i64::MAX]).collect();
    for offset in &offsets {
        index.put_dead_letter(letter(*offset)).await.unwrap();
    }
    let all: Vec<DeadLetter> = offsets.iter().map(|offset| letter(*offset)).collect();
    for (from, skipped) in [(i64::MIN, 0), (-9_000, 0), (-8_999, 1), (0, 3), (90_001, 34), (i64::MAX, 60)] {
        for limit in [1, 7, 100] {
            let expected: Vec<_> = all[skipped..].iter().take(limit).cloned().collect();
            assert_eq!(
                index.dead_letters(&orders(), Offset(from), limit).await,
                Ok(expected),
                "{from} {limit}"
            );
        }
    }
}

fn is_told<T: std::fmt::Debug>(answer: PortResult<T>) {
    assert!(matches!(&answer, Err(PortError::Permanent(what)) if what.contains("damaged")), "{answer:?}");
}

/// Goal: whatever column of a row is not what was written, nobody reads it as a row.
/// Method: real rows, then single columns changed or removed by hand.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_are_told_and_the_others_are_read() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("damage").await;
    let index = keyspace.open().await;
    let whole = row("whole", 4);
    for row in [row("a", 2), row("b", 2), row("c", 2), whole.clone()] {
        index.put_snapshot(row).await.unwrap();
    }
    let of = |id: &str| format!("WHERE aggregate_type = 'order' AND aggregate_id = '{id}' AND lineage = 1");
    let pack = "0x07070707070707070707070707070707";
    let at = |id| format!("{} AND version = 2 AND pack = {pack}", of(id));
    // Rows carry the time their pack was minted at, far ahead for this one: a change needs a later one.
    let later = format!("USING TIMESTAMP {}", written_at(PackId([7; 16])) + 1);
    keyspace.cql(&format!("UPDATE snapshots {later} SET stored_bytes = 5 {}", at("a"))).await;
    keyspace.cql(&format!("DELETE state_digest FROM snapshots {later} {}", at("b"))).await;
    keyspace.cql(&format!("DELETE last_offset FROM snapshots {later} {}", at("c"))).await;
    for id in ["a", "b", "c"] {
        is_told(index.snapshots(&key(id), Lineage(1), From::Newest, 9).await);
        is_told(index.snapshots(&key(id), Lineage(1), From::Above(Version(0)), 9).await);
        is_told(index.snapshots(&key(id), Lineage(1), From::OffsetAtOrBelow(Offset(90)), 1).await);
    }
    let read = index.snapshots(&whole.key, Lineage(1), From::Newest, 9).await;
    assert_eq!(read, Ok(vec![whole]));

    let id = snapshot_id(&key("a"), Lineage(1), Version(2));
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    keyspace.cql(&format!("UPDATE snapshot_ids {later} SET version = 3 WHERE id = 0x{hex}")).await;
    is_told(index.snapshot_by_id(id).await);

    let log = "WHERE topic = 'orders' AND partition_no = 1 AND lineage = 1";
    index.put_checkpoint(checkpoint(PackId([7; 16]))).await.unwrap();
    keyspace.cql(&format!("UPDATE checkpoints SET end_offset = 8 {log} AND pack = {pack}")).await;
    // So a change without one loses.
    assert_eq!(index.checkpoints(&orders()).await, Ok(vec![checkpoint(PackId([7; 16]))]));
    keyspace.cql(&format!("UPDATE checkpoints {later} SET end_offset = 8 {log} AND pack = {pack}")).await;
    is_told(index.checkpoints(&orders()).await);

    index.put_watermark(mark(40)).await.unwrap();
    let topic_id = format!("0x{:032x}", 5);
    let set = format!("SET low_watermark = 41 {log} AND topic_id = {topic_id} AND leader_epoch = 2");
    keyspace.cql(&format!("UPDATE partitions {set}")).await;
    is_told(index.watermarks(&orders()).await);

    index.put_aggregate(&key("a"), PartitionNo(0)).await.unwrap();
    let slot = crc32c::crc32c(b"a") % 128;
    let at = format!(
        "WHERE aggregate_type = 'order' AND slot = {slot} AND aggregate_id = 'a' AND partition_no = 0"
    );
    keyspace.cql(&format!("UPDATE aggregates SET crc = 1 {at}")).await;
    is_told(index.aggregates("order", None, 9).await);
}
