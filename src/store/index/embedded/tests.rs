//! The embedded index keeps the promises of the port, across reopening and damage.

use super::super::suite;
use super::*;
use crate::store::index::MemoryIndex;
use futures_util::future::join_all;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

const CACHE_BYTES: u64 = 8 << 20;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn open(path: &Path) -> EmbeddedIndex {
    EmbeddedIndex::open(path, CACHE_BYTES).expect("the index opens")
}

fn row(id: &str, version: u64) -> SnapshotRow {
    let key = AggregateKey { kind: "order".into(), id: id.into() };
    suite::snapshot(&key, 1, version, PackId([1; 16]))
}

#[tokio::test]
async fn the_embedded_index_keeps_the_promises_of_the_port() {
    let folder = folder();
    suite::all(&open(folder.path())).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_every_reopening() {
    let (folder, twin) = (folder(), MemoryIndex::new());
    for round in 0..4 {
        let index = open(folder.path());
        for seed in 100..100 + round {
            suite::same_answers(&index, &twin, seed).await;
        }
        suite::write_at_random(&index, 100 + round, 200).await;
        suite::write_at_random(&twin, 100 + round, 200).await;
        if round == 1 {
            // Once from sorted files, else from the journal.
            index.rows.rows.rotate_memtable_and_wait().expect("rows become a file");
        }
    }
    let index = open(folder.path());
    for seed in 100..104 {
        suite::same_answers(&index, &twin, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_on_many_threads_are_all_acknowledged_and_kept() {
    let folder = folder();
    let index = Arc::new(open(folder.path()));
    let writers = (0..64).map(|writer| {
        let index = Arc::clone(&index);
        tokio::spawn(async move {
            for version in 1..=20 {
                index.put_snapshot(row(&format!("w{writer}"), version)).await.expect("it is written");
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|writer| writer.expect("no writer panics"));
    drop(index);
    let index = open(folder.path());
    for writer in 0..64 {
        let key = row(&format!("w{writer}"), 1).key;
        let read = index.snapshots(&key, Lineage(1), From::Newest, 99).await.expect("rows are read");
        assert_eq!(read.len(), 20);
    }
}

#[tokio::test]
async fn a_write_larger_than_the_queue_passes() {
    let folder = folder();
    let index = open(folder.path());
    let bytes: Bytes = vec![7; 20 << 20].into();
    let (large, small) =
        (index.put_dictionary(Digest([1; 32]), bytes.clone()), index.put_snapshot(row("a", 1)));
    assert_eq!(futures_util::future::join(large, small).await, (Ok(()), Ok(())));
    assert_eq!(index.dictionary(Digest([1; 32])).await, Ok(Some(bytes)));
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = folder();
    let first = open(folder.path());
    let refused = EmbeddedIndex::open(folder.path(), CACHE_BYTES).err().expect("it is in use");
    assert!(refused.detail.contains("another process uses it: stop that one"), "{refused}");
    drop(first);
    open(folder.path());
}

#[test]
fn a_folder_of_a_newer_version_is_refused() {
    let folder = folder();
    let index = open(folder.path());
    let newer = (keys::format().0, Some(b"snapfold index 2".to_vec()));
    index.rows.commit([newer].into()).expect("it is written");
    drop(index);
    let refused = EmbeddedIndex::open(folder.path(), CACHE_BYTES).err().expect("it is newer");
    assert!(refused.detail.contains("`snapfold index 2`"), "{refused}");
    assert!(refused.detail.contains("use the newer snapfold"), "{refused}");
}

#[test]
fn a_path_that_is_no_folder_is_refused() {
    let folder = folder();
    let path = folder.path().join("file");
    fs::write(&path, "x").expect("a file");
    let refused = EmbeddedIndex::open(&path.join("index"), CACHE_BYTES).err().expect("no folder");
    assert!(refused.detail.contains("open index `"), "{refused}");
}

/// Replaces what is stored under a key, behind the index's back.
fn corrupt(index: &EmbeddedIndex, key: Key, value: Vec<u8>) {
    index.rows.commit([(key.0, Some(value))].into()).expect("it is written");
}

fn is_told<T: std::fmt::Debug>(answer: PortResult<T>) {
    let error = answer.expect_err("damage is told");
    let PortError::Permanent(told) = &error else { panic!("{error}") };
    assert!(told.contains("damaged") && told.contains("rebuild the index from the packs"), "{told}");
}

#[tokio::test]
async fn a_damaged_row_is_told_and_never_absent() {
    let folder = folder();
    let index = open(folder.path());
    let log = PartitionKey { topic: "t".into(), partition: PartitionNo(0), lineage: Lineage(1) };
    let whole = row("a", 4);
    let id = snapshot_id(&whole.key, whole.lineage, whole.version);
    let mut flipped = whole.encode();
    flipped[9] ^= 4;
    for damage in [flipped, Vec::new(), row("b", 4).encode(), row("a", 5).encode()] {
        corrupt(&index, keys::snapshot(&whole), damage);
        for from in [From::Newest, From::Above(Version(0)), From::AtOrBelow(Version(9))] {
            is_told(index.snapshots(&whole.key, Lineage(1), from, 9).await);
        }
    }
    corrupt(
        &index,
        keys::snapshot_id(id),
        keys::snapshot_version(&row("b", 1).key, Lineage(1), Version(4)).0,
    );
    is_told(index.snapshot_by_id(id).await);
    // The right parts, but not as the key they were copied from.
    let mut named = keys::snapshot_version(&whole.key, whole.lineage, whole.version).0;
    named[0] ^= 1;
    corrupt(&index, keys::snapshot_id(id), named);
    is_told(index.snapshot_by_id(id).await);
    corrupt(&index, keys::aggregate(&whole.key, PartitionNo(1)), vec![0; 4]);
    is_told(index.aggregates("order", None, 9).await);
    let mark = WatermarkRow { key: log.clone(), topic_id: 1, leader_epoch: 1, low_watermark: Offset(1) };
    corrupt(&index, keys::watermark(&mark), vec![1; 30]);
    is_told(index.watermarks(&log).await);
    // A write that has to know what is there tells it too, and does not take the others down.
    let (marked, written) =
        futures_util::future::join(index.put_watermark(mark), index.put_snapshot(whole)).await;
    is_told(marked);
    assert_eq!(written, Ok(()));
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the index") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder of the index") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(drop).expect("copied") }
    }
}

/// Goal: whatever bit of a stored file flips, an answer is right, or an error, and nothing panics through.
/// Method: rows in sorted files, then single flips at random places of every file, each in a fresh copy.
#[tokio::test]
async fn a_flipped_bit_of_a_file_never_gives_a_wrong_row() {
    let whole = folder();
    let expected: Vec<SnapshotRow> = (1..=200).rev().map(|version| row("a", version)).collect();
    {
        let index = open(whole.path());
        join_all(expected.iter().map(|row| index.put_snapshot(row.clone()))).await;
        index.rows.rows.rotate_memtable_and_wait().expect("rows become a file");
    }
    let mut paths = Vec::new();
    files(whole.path(), &mut paths);
    let (mut dice, mut told, mut lost) = (suite::Dice::new(5), 0, 0);
    for path in paths.iter().filter(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0)) {
        let inner = path.strip_prefix(whole.path()).expect("inside");
        for _ in 0..6 {
            let damaged = folder();
            copy(whole.path(), damaged.path());
            let mut bytes = fs::read(path).expect("read");
            // Journals are preallocated: what counts is in front.
            let at = dice.below(bytes.len().min(64 << 10) as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
            fs::write(damaged.path().join(inner), bytes).expect("written");
            let Ok(index) = EmbeddedIndex::open(damaged.path(), CACHE_BYTES) else {
                told += 1;
                continue;
            };
            match index.snapshots(&expected[0].key, Lineage(1), From::Newest, 999).await {
                Err(_) => told += 1,
                Ok(rows) if rows == expected => {}
                Ok(rows) => {
                    assert!(
                        rows.iter().all(|row| expected.contains(row)),
                        "a wrong row: {}",
                        inner.display()
                    );
                    eprintln!("{}: byte {at}: {} of 200 rows", inner.display(), rows.len());
                    lost += 1;
                }
            }
        }
    }
    assert!(told > 0, "no damage was found at all");
    assert_eq!(lost, 0, "rows are missing without an error");
}

/// Goal: a full disk refuses writes that surely did not happen, and the index goes on once there is space.
/// Method: a disk that says what the test says.
#[tokio::test]
async fn without_space_nothing_is_written_and_with_space_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let told = Arc::clone(&free);
    let space = Box::new(move || Ok(told.load(Ordering::Relaxed)));
    let index = EmbeddedIndex::open_with(folder.path(), 1 << 20, space).unwrap();
    index.put_snapshot(row("a", 1)).await.expect("there is space");
    free.store(1 << 20, Ordering::Relaxed);
    for version in 2..4 {
        let refused = index.put_snapshot(row("a", version)).await.expect_err("there is no space");
        assert!(matches!(&refused, PortError::NotDone(why) if why.contains("1 MiB left")), "{refused}");
    }
    let versions = |rows: Vec<SnapshotRow>| rows.iter().map(|row| row.version.0).collect::<Vec<_>>();
    let (key, all) = (row("a", 1).key, 99);
    let there = index.snapshots(&key, row("a", 1).lineage, From::Newest, all).await.unwrap();
    assert_eq!(versions(there), [1], "what is there can be read");
    free.store(1 << 40, Ordering::Relaxed);
    index.put_snapshot(row("a", 2)).await.expect("there is space again");
    let there = index.snapshots(&key, row("a", 1).lineage, From::Newest, all).await.unwrap();
    assert_eq!(versions(there), [2, 1]);
}
