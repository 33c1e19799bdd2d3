//! What every index promises, as tests that each implementation runs: promises by hand in [`all`], and the
//! same random writes into the subject and into the memory twin in [`agrees_with_the_twin`].
//!
//! Keys are prefixed per promise, so that a subject may keep rows of earlier runs of other promises.

mod deletions;
mod examples;
mod notes;
mod owners;
mod schedules;

use super::memory::MemoryIndex;
use super::{From, Index};
use crate::domain::chain::snapshot_id;
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::record::{Bytes, RawRecord};
use crate::domain::row::{
    CheckpointRow, DeadLetter, PartitionKey, RecordKind, SnapshotRow, Trigger, WatermarkRow,
};
pub(crate) use examples::{erasure, increment};
use futures_util::future::join_all;
pub(crate) use owners::the_last_who_says_that_it_owns_a_partition_is_told;

/// Every promise of the port that can be checked without closing the index.
pub(crate) async fn all(index: &dyn Index) {
    walks_go_down_from_where_they_are_told(index).await;
    copies_of_one_version_come_together_and_limits_cut_anywhere(index).await;
    extreme_keys_and_numbers_come_back(index).await;
    rows_of_other_aggregates_and_lineages_stay_out(index).await;
    snapshots_are_found_by_their_public_id(index).await;
    repeated_writes_change_nothing(index).await;
    a_deleted_checkpoint_stays_deleted_and_others_stay(index).await;
    watermarks_only_grow_for_each_topic_id_and_leader_epoch(index).await;
    aggregates_are_listed_in_byte_order_page_by_page(index).await;
    dead_letters_are_paged_and_of_two_the_later_epoch_is_kept(index).await;
    dictionaries_come_back_under_their_digest(index).await;
    notes::come_back_by_version_and_name(index).await;
    deletions::stay_whatever_is_repeated(index).await;
    deletions::are_counted_by_row(index).await;
    deletions::holds_come_back_by_name(index).await;
    deletions::a_rebuilt_row_and_the_one_of_its_flush_never_mix(index).await;
    schedules::come_back_and_of_two_the_later_counts(index).await;
    schedules::runs_take_the_places_of_older_ones(index).await;
    a_call_that_is_never_polled_does_nothing(index).await;
    concurrent_writes_all_count(index).await;
    for seed in 1..=6 {
        agrees_with_the_twin(index, seed).await;
    }
}

fn key(kind: &str, id: &str) -> AggregateKey {
    AggregateKey { kind: kind.into(), id: id.into() }
}

fn pack(n: u8) -> PackId {
    PackId::mint(Timestamp(1_700_000_000_000 + i64::from(n)), [n; 10])
}

fn log(topic: &str, partition: i32, lineage: u32) -> PartitionKey {
    PartitionKey { topic: topic.into(), partition: PartitionNo(partition), lineage: Lineage(lineage) }
}

/// A row whose offset and effective time follow from its version: offset = 10 times, time = 100 times.
pub(crate) fn snapshot(key: &AggregateKey, lineage: u32, version: u64, pack: PackId) -> SnapshotRow {
    let small = i64::try_from(version).unwrap_or(i64::MAX / 1_000);
    SnapshotRow {
        key: key.clone(),
        lineage: Lineage(lineage),
        version: Version(version),
        pack,
        kind: if version.is_multiple_of(2) { RecordKind::Full } else { RecordKind::Increment },
        from_version: Version(version / 2),
        partition: PartitionNo(3),
        first_offset: Offset(small),
        last_offset: Offset(small * 10),
        leader_epoch: -1,
        effective_time: Timestamp(small * 100),
        created_at: Timestamp(1_700_000_000_000),
        creation_ms: 12,
        trigger: Trigger::Events,
        event_type: "Changed".into(),
        chain: Digest([3; 32]),
        raw_bytes: version,
        stored_bytes: version / 3,
        state_digest: version.is_multiple_of(2).then_some(Digest([7; 32])),
        state_bytes: version.is_multiple_of(2).then_some(version),
        deleted: version.is_multiple_of(5),
        quarantined: version.is_multiple_of(7),
        locator: vec![version as u8; 40],
    }
}

fn checkpoint(key: &PartitionKey, pack: PackId, entries: u32) -> CheckpointRow {
    let (first_offset, end_offset) = (Offset(i64::from(entries)), Offset(i64::from(entries) + 9));
    CheckpointRow { key: key.clone(), pack, first_offset, end_offset, entries, object_bytes: 1 << 40 }
}

fn watermark(key: &PartitionKey, topic_id: u128, leader_epoch: i32, offset: i64) -> WatermarkRow {
    WatermarkRow { key: key.clone(), topic_id, leader_epoch, low_watermark: Offset(offset) }
}

fn letter(key: &PartitionKey, offset: i64, leader_epoch: i32, detail: &str) -> DeadLetter {
    let value: Option<Bytes> = (offset % 2 == 0).then(|| detail.as_bytes().into());
    DeadLetter {
        key: key.clone(),
        offset: Offset(offset),
        aggregate: (offset % 3 == 0).then(|| AggregateKey { kind: "order".into(), id: detail.into() }),
        code: "bad-body".into(),
        detail: detail.to_owned(),
        record: RawRecord {
            offset: Offset(offset),
            leader_epoch,
            record_time: Timestamp(-offset),
            key: None,
            value: value.clone(),
            headers: vec![("h".into(), value), ("h".into(), None)],
        },
    }
}

async fn put_all(index: &dyn Index, rows: &[SnapshotRow]) {
    for row in rows {
        index.put_snapshot(row.clone()).await.expect("a snapshot row is written");
    }
}

/// Version and pack of the rows of a walk.
async fn walked(index: &dyn Index, key: &AggregateKey, from: From, limit: usize) -> Vec<(u64, PackId)> {
    let rows = index.snapshots(key, Lineage(1), from, limit).await.expect("snapshot rows are read");
    rows.iter().map(|row| (row.version.0, row.pack)).collect()
}

async fn versions(index: &dyn Index, key: &AggregateKey, from: From, limit: usize) -> Vec<u64> {
    walked(index, key, from, limit).await.into_iter().map(|(version, _)| version).collect()
}

async fn walks_go_down_from_where_they_are_told(index: &dyn Index) {
    let key = key("walk", "a");
    let mut rows: Vec<SnapshotRow> = [5, 1, 3, 9, 7].map(|n| snapshot(&key, 1, n, pack(1))).into();
    // Before 1970, as real logs have it.
    rows.push(SnapshotRow { effective_time: Timestamp(-70_000), ..snapshot(&key, 1, 0, pack(1)) });
    put_all(index, &rows).await;
    for (from, expected) in [
        (From::Newest, vec![9, 7, 5, 3, 1, 0]),
        (From::AtOrBelow(Version(7)), vec![7, 5, 3, 1, 0]),
        (From::AtOrBelow(Version(6)), vec![5, 3, 1, 0]),
        (From::AtOrBelow(Version(u64::MAX)), vec![9, 7, 5, 3, 1, 0]),
        (From::AtOrBelow(Version(0)), vec![0]),
        (From::TimeAtOrBefore(Timestamp(700)), vec![7, 5, 3, 1, 0]),
        (From::TimeAtOrBefore(Timestamp(699)), vec![5, 3, 1, 0]),
        (From::TimeAtOrBefore(Timestamp(-1)), vec![0]),
        (From::TimeAtOrBefore(Timestamp(-70_000)), vec![0]),
        (From::TimeAtOrBefore(Timestamp(-70_001)), vec![]),
        (From::TimeAtOrBefore(Timestamp(i64::MAX)), vec![9, 7, 5, 3, 1, 0]),
        (From::TimeAtOrBefore(Timestamp(i64::MIN)), vec![]),
        (From::OffsetAtOrBelow(Offset(50)), vec![5, 3, 1, 0]),
        (From::OffsetAtOrBelow(Offset(49)), vec![3, 1, 0]),
        (From::OffsetAtOrBelow(Offset(-1)), vec![]),
        (From::Above(Version(0)), vec![1, 3, 5, 7, 9]),
        (From::Above(Version(4)), vec![5, 7, 9]),
        (From::Above(Version(9)), vec![]),
        (From::Above(Version(u64::MAX)), vec![]),
    ] {
        assert_eq!(versions(index, &key, from, 100).await, expected, "{from:?}");
        for limit in 0..=expected.len() {
            assert_eq!(versions(index, &key, from, limit).await, expected[..limit], "{from:?}, {limit} rows");
        }
        assert_eq!(versions(index, &key, from, usize::MAX).await, expected, "{from:?} without a limit");
    }
}

async fn copies_of_one_version_come_together_and_limits_cut_anywhere(index: &dyn Index) {
    let key = key("copies", "a");
    let rows = [(4, 9), (4, 2), (2, 5), (4, 5), (3, 1), (2, 6)];
    put_all(index, &rows.map(|(version, n)| snapshot(&key, 1, version, pack(n)))).await;
    let down = [(4, 2), (4, 5), (4, 9), (3, 1), (2, 5), (2, 6)].map(|(version, n)| (version, pack(n)));
    let up = [(3, 1), (4, 2), (4, 5), (4, 9)].map(|(version, n)| (version, pack(n)));
    for limit in 0..=6 {
        assert_eq!(walked(index, &key, From::Newest, limit).await, down[..limit]);
        let up = &up[..limit.min(4)];
        assert_eq!(walked(index, &key, From::Above(Version(2)), limit).await, up);
    }
    assert_eq!(walked(index, &key, From::OffsetAtOrBelow(Offset(40)), 2).await, down[..2]);
}

/// Ids that an encoding may confuse: separators, NUL, prefixes of each other, long, and every plane of
/// Unicode.
pub(crate) fn ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "a",
        "a/",
        "a/b",
        "a\0",
        "a\0b",
        "a\0\0",
        "a\u{1}",
        "\0",
        "a\u{ff}",
        "ä",
        "\u{ffff}",
        "\u{10ffff}",
        "😀",
        "..",
        "A",
        "~",
        "a b",
        "%00",
    ]
    .map(str::to_owned)
    .into();
    ids.push("x".repeat(1_024));
    ids.push("\0".repeat(1_024));
    ids.push("😀".repeat(256));
    ids.sort();
    ids
}

async fn extreme_keys_and_numbers_come_back(index: &dyn Index) {
    for id in ids() {
        let key = key("extreme", &id);
        let mut rows = [0, 1, u64::from(u32::MAX), u64::MAX - 1, u64::MAX]
            .map(|version| snapshot(&key, u32::MAX, version, PackId([0xff; 16])));
        rows[1].locator = Vec::new();
        rows[2].pack = PackId([0; 16]);
        rows[3].partition = PartitionNo(i32::MAX);
        rows[3].leader_epoch = i32::MAX;
        rows[4].raw_bytes = u64::MAX;
        rows[4].last_offset = Offset(i64::MAX);
        rows[4].effective_time = Timestamp(i64::MIN);
        put_all(index, &rows).await;
        let read = index.snapshots(&key, Lineage(u32::MAX), From::Newest, 9).await.unwrap();
        rows.reverse();
        assert_eq!(read, rows, "{id:?}");
        assert_eq!(index.snapshots(&key, Lineage(0), From::Newest, 9).await, Ok(vec![]));
    }
}

async fn rows_of_other_aggregates_and_lineages_stay_out(index: &dyn Index) {
    for (kind, id) in [("k", "ab"), ("ka", "b"), ("k\0a", "b"), ("k", "a\0b"), ("k", "abc")] {
        for lineage in 0..3 {
            put_all(index, &[snapshot(&key(kind, id), lineage, 4, pack(1))]).await;
        }
    }
    for from in [From::Newest, From::Above(Version(0)), From::TimeAtOrBefore(Timestamp(i64::MAX))] {
        let read = index.snapshots(&key("k", "ab"), Lineage(1), from, 9).await.unwrap();
        assert_eq!(read, [snapshot(&key("k", "ab"), 1, 4, pack(1))], "{from:?}");
    }
    assert_eq!(index.snapshots(&key("k", "a"), Lineage(1), From::Newest, 9).await, Ok(vec![]));
}

async fn snapshots_are_found_by_their_public_id(index: &dyn Index) {
    for id in ids() {
        let key = key("public", &id);
        let (lineage, version) = (Lineage(2), Version(u64::MAX));
        let public = snapshot_id(&key, lineage, version);
        assert_eq!(index.snapshot_by_id(public).await, Ok(None));
        put_all(index, &[snapshot(&key, 2, u64::MAX, pack(1)), snapshot(&key, 2, u64::MAX, pack(2))]).await;
        assert_eq!(index.snapshot_by_id(public).await, Ok(Some((key, lineage, version))));
    }
}

async fn repeated_writes_change_nothing(index: &dyn Index) {
    let (key, log) = (key("again", "a"), log("again", 1, 1));
    for _ in 0..3 {
        put_all(index, &[snapshot(&key, 1, 1, pack(1))]).await;
        index.put_checkpoint(checkpoint(&log, pack(1), 1)).await.unwrap();
        index.put_watermark(watermark(&log, 1, 1, 1)).await.unwrap();
        index.put_aggregate(&key, PartitionNo(1)).await.unwrap();
        index.put_dead_letter(letter(&log, 1, 1, "d")).await.unwrap();
    }
    let read = index.snapshots(&key, Lineage(1), From::Newest, 9).await;
    assert_eq!(read, Ok(vec![snapshot(&key, 1, 1, pack(1))]));
    assert_eq!(index.checkpoints(&log).await, Ok(vec![checkpoint(&log, pack(1), 1)]));
    assert_eq!(index.watermarks(&log).await, Ok(vec![watermark(&log, 1, 1, 1)]));
    assert_eq!(index.aggregates("again", None, 9).await, Ok(vec![(key, PartitionNo(1))]));
    assert_eq!(index.dead_letters(&log, Offset(0), 9).await, Ok(vec![letter(&log, 1, 1, "d")]));
}

async fn a_deleted_checkpoint_stays_deleted_and_others_stay(index: &dyn Index) {
    let here = log("deleted", 1, 1);
    let others = [log("deleted", 2, 1), log("deleted", 1, 2), log("deleted2", 1, 1), log("deleted", -1, 1)];
    for n in [3, 1, 2] {
        index.put_checkpoint(checkpoint(&here, pack(n), n.into())).await.unwrap();
        for other in &others {
            index.put_checkpoint(checkpoint(other, pack(n), n.into())).await.unwrap();
        }
    }
    // The deletion is newer than every write of this row, also than a repetition that arrives later.
    index.delete_checkpoint(&here, pack(2)).await.unwrap();
    index.put_checkpoint(checkpoint(&here, pack(2), 2)).await.unwrap();
    // A deletion that overtakes the write.
    index.delete_checkpoint(&here, pack(4)).await.unwrap();
    index.put_checkpoint(checkpoint(&here, pack(4), 4)).await.unwrap();
    // Deleting what never was, and twice.
    index.delete_checkpoint(&here, pack(9)).await.unwrap();
    index.delete_checkpoint(&here, pack(2)).await.unwrap();
    // The row of a newer pack is newer than every deletion so far.
    index.put_checkpoint(checkpoint(&here, pack(5), 5)).await.unwrap();
    let expected = [1, 3, 5].map(|n| checkpoint(&here, pack(n), n.into()));
    assert_eq!(index.checkpoints(&here).await, Ok(expected.into()));
    for other in &others {
        let all = [1, 2, 3].map(|n| checkpoint(other, pack(n), n.into()));
        assert_eq!(index.checkpoints(other).await, Ok(all.into()));
    }
    assert_eq!(index.checkpoints(&log("deleted", 7, 1)).await, Ok(vec![]));
}

async fn watermarks_only_grow_for_each_topic_id_and_leader_epoch(index: &dyn Index) {
    let here = log("marks", 1, 1);
    for (topic_id, epoch, offset) in [
        (7, 1, 10),
        (7, 1, 5),
        (7, 2, 3),
        (7, 1, 12),
        (7, 1, 11),
        (u128::MAX, -1, i64::MAX),
        (u128::MAX, -1, 0),
        (7, -1, 0),
    ] {
        index.put_watermark(watermark(&here, topic_id, epoch, offset)).await.unwrap();
    }
    index.put_watermark(watermark(&log("marks", 1, 2), 7, 1, 99)).await.unwrap();
    index.put_watermark(watermark(&log("marks", 2, 1), 7, 1, 98)).await.unwrap();
    let mut read = index.watermarks(&here).await.unwrap();
    read.sort_by_key(|row| (row.topic_id, row.leader_epoch));
    let expected = [(7, -1, 0), (7, 1, 12), (7, 2, 3), (u128::MAX, -1, i64::MAX)];
    assert_eq!(read, expected.map(|(topic_id, epoch, offset)| watermark(&here, topic_id, epoch, offset)));
}

async fn aggregates_are_listed_in_byte_order_page_by_page(index: &dyn Index) {
    let ids = ids();
    for id in ids.iter().rev() {
        index.put_aggregate(&key("listed", id), PartitionNo(5)).await.unwrap();
        index.put_aggregate(&key("liste", id), PartitionNo(6)).await.unwrap();
    }
    for page in [1, 2, 5, 100] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let listed = index.aggregates("listed", after.as_deref(), page).await.unwrap();
            assert!(listed.len() <= page);
            let Some((last, _)) = listed.last() else { break };
            after = Some(last.id.to_string());
            read.extend(listed.into_iter().map(|(key, at)| (key.kind.to_string(), key.id.to_string(), at.0)));
        }
        let expected: Vec<_> = ids.iter().map(|id| ("listed".to_owned(), id.clone(), 5)).collect();
        assert_eq!(read, expected, "in pages of {page}");
    }
    assert_eq!(index.aggregates("listed", Some("a"), 1).await.unwrap()[0].0.id.as_ref(), "a\0");
    assert_eq!(index.aggregates("listed", Some("aa"), 1).await.unwrap()[0].0.id.as_ref(), "a\u{ff}");
    assert_eq!(index.aggregates("listed", None, 0).await, Ok(vec![]));
    // One id in two partitions is two aggregates.
    for partition in [9, -1] {
        index.put_aggregate(&key("twice", "a"), PartitionNo(partition)).await.unwrap();
    }
    let twice = [-1, 9].map(|partition| (key("twice", "a"), PartitionNo(partition)));
    assert_eq!(index.aggregates("twice", None, 9).await, Ok(twice.into()));
    assert_eq!(index.aggregates("twice", Some("a"), 9).await, Ok(vec![]));
}

async fn dead_letters_are_paged_and_of_two_the_later_epoch_is_kept(index: &dyn Index) {
    let here = log("letters", 1, 1);
    for offset in [40, 0, 20, 10, 30] {
        index.put_dead_letter(letter(&here, offset, 1, "first")).await.unwrap();
        index.put_dead_letter(letter(&log("letters", 2, 1), offset, 1, "elsewhere")).await.unwrap();
    }
    index.put_dead_letter(letter(&here, 20, 2, "after a truncation")).await.unwrap();
    index.put_dead_letter(letter(&here, 20, 1, "late")).await.unwrap();
    index.put_dead_letter(letter(&here, 30, 1, "a")).await.unwrap();
    let expected = [
        letter(&here, 0, 1, "first"),
        letter(&here, 10, 1, "first"),
        letter(&here, 20, 2, "after a truncation"),
        letter(&here, 30, 1, "first"),
        letter(&here, 40, 1, "first"),
    ];
    for (from, skipped) in [(i64::MIN, 0), (0, 0), (1, 1), (20, 2), (40, 4), (41, 5), (i64::MAX, 5)] {
        for limit in [0, 1, 2, 100] {
            let read = index.dead_letters(&here, Offset(from), limit).await.unwrap();
            let rest = &expected[skipped..];
            assert_eq!(read, rest[..limit.min(rest.len())], "{limit} from {from}");
        }
    }
}

async fn dictionaries_come_back_under_their_digest(index: &dyn Index) {
    for (n, len) in [(1, 0), (2, 1), (3, 110 << 10)] {
        let bytes: Bytes = vec![n; len].into();
        assert_eq!(index.dictionary(Digest([n; 32])).await, Ok(None));
        for _ in 0..2 {
            index.put_dictionary(Digest([n; 32]), bytes.clone()).await.unwrap();
            assert_eq!(index.dictionary(Digest([n; 32])).await, Ok(Some(bytes.clone())));
        }
    }
}

async fn a_call_that_is_never_polled_does_nothing(index: &dyn Index) {
    let (key, log) = (key("unpolled", "a"), log("unpolled", 1, 1));
    drop(index.put_snapshot(snapshot(&key, 1, 1, pack(1))));
    drop(index.put_checkpoint(checkpoint(&log, pack(1), 1)));
    drop(index.put_watermark(watermark(&log, 1, 1, 1)));
    drop(index.put_aggregate(&key, PartitionNo(1)));
    drop(index.put_dead_letter(letter(&log, 1, 1, "d")));
    assert_eq!(index.snapshots(&key, Lineage(1), From::Newest, 9).await, Ok(vec![]));
    assert_eq!(index.checkpoints(&log).await, Ok(vec![]));
    assert_eq!(index.watermarks(&log).await, Ok(vec![]));
    assert_eq!(index.aggregates("unpolled", None, 9).await, Ok(vec![]));
    assert_eq!(index.dead_letters(&log, Offset(0), 9).await, Ok(vec![]));
}

async fn concurrent_writes_all_count(index: &dyn Index) {
    let key = key("concurrent", "a");
    let log = log("concurrent", 1, 1);
    let (key, log) = (&key, &log);
    let writes = (1..=300_u64).map(|version| async move {
        index.put_snapshot(snapshot(key, 1, version, pack(1))).await.unwrap();
        // What a write was acknowledged for, every later read sees.
        let seen = index.snapshots(key, Lineage(1), From::AtOrBelow(Version(version)), 1).await.unwrap();
        assert_eq!(seen[0].version.0, version);
        index.put_watermark(watermark(log, 1, 1, (version * 7_919 % 301) as i64)).await.unwrap();
    });
    join_all(writes).await;
    let down: Vec<u64> = (1..=300).rev().collect();
    assert_eq!(versions(index, key, From::Newest, 1_000).await, down);
    assert_eq!(index.watermarks(log).await, Ok(vec![watermark(log, 1, 1, 300)]));
}

/// Random numbers that a failing seed repeats (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

const RANDOM_IDS: [&str; 4] = ["a", "a\0", "a/b", "ä"];

/// Random writes, from a small world so that they meet.
pub(crate) async fn write_at_random(index: &dyn Index, seed: u64, writes: usize) {
    let mut dice = Dice::new(seed);
    let world = format!("random-{seed}");
    for _ in 0..writes {
        let key = key(&world, RANDOM_IDS[dice.below(4) as usize]);
        let log = log(&world, dice.below(2) as i32, dice.below(2) as u32);
        let number = dice.below(12);
        let pack = pack(dice.below(4) as u8);
        let written = match dice.below(8) {
            0..3 => index.put_snapshot(snapshot(&key, dice.below(2) as u32, number, pack)).await,
            3 => index.put_checkpoint(checkpoint(&log, pack, pack.0[15].into())).await,
            4 => index.delete_checkpoint(&log, pack).await,
            5 => {
                let (topic_id, epoch) = (dice.below(2).into(), dice.below(3) as i32 - 1);
                index.put_watermark(watermark(&log, topic_id, epoch, number as i64)).await
            }
            6 => index.put_aggregate(&key, PartitionNo(dice.below(2) as i32)).await,
            _ => {
                let (epoch, detail) = (dice.below(3) as i32, ["x", "y"][dice.below(2) as usize]);
                index.put_dead_letter(letter(&log, number as i64, epoch, detail)).await
            }
        };
        written.expect("a random row is written");
    }
}

/// Every answer about the random world is the twin's.
pub(crate) async fn same_answers(index: &dyn Index, twin: &MemoryIndex, seed: u64) {
    let world = format!("random-{seed}");
    for id in RANDOM_IDS {
        let key = key(&world, id);
        for lineage in [0, 1].map(Lineage) {
            for number in 0..13_u64 {
                for from in [
                    From::Newest,
                    From::AtOrBelow(Version(number)),
                    From::TimeAtOrBefore(Timestamp(number as i64 * 100 - 50)),
                    From::OffsetAtOrBelow(Offset(number as i64 * 10)),
                    From::Above(Version(number)),
                ] {
                    let limit = (number % 5) as usize * 3;
                    let (a, b) = (
                        index.snapshots(&key, lineage, from, limit),
                        twin.snapshots(&key, lineage, from, limit),
                    );
                    assert_eq!(a.await, b.await, "seed {seed}, {key} {lineage} {from:?} {limit}");
                }
                let public = snapshot_id(&key, lineage, Version(number));
                assert_eq!(index.snapshot_by_id(public).await, twin.snapshot_by_id(public).await);
            }
        }
    }
    for (partition, lineage) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let log = log(&world, partition, lineage);
        assert_eq!(index.checkpoints(&log).await, twin.checkpoints(&log).await, "seed {seed}");
        let mut marks = index.watermarks(&log).await.unwrap();
        marks.sort_by_key(|row| (row.topic_id, row.leader_epoch));
        assert_eq!(Ok(marks), twin.watermarks(&log).await, "seed {seed}");
        for from in [Offset(i64::MIN), Offset(4)] {
            let (a, b) = (index.dead_letters(&log, from, 5), twin.dead_letters(&log, from, 5));
            assert_eq!(a.await, b.await, "seed {seed}");
        }
    }
    for after in [None, Some("a"), Some("a\0"), Some("zz")] {
        let (a, b) = (index.aggregates(&world, after, 3), twin.aggregates(&world, after, 3));
        assert_eq!(a.await, b.await, "seed {seed}");
    }
}

async fn agrees_with_the_twin(index: &dyn Index, seed: u64) {
    let twin = MemoryIndex::new();
    write_at_random(index, seed, 250).await;
    write_at_random(&twin, seed, 250).await;
    same_answers(index, &twin, seed).await;
}
