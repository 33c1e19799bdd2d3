//! A process that is killed at any moment loses nothing that it acknowledged, and leaves no half object.
//!
//! Method: this test starts itself again as a child that writes rows and objects and prints what was
//! acknowledged; the parent kills it after some milliseconds and looks at what is there. Many rounds, on the
//! same folder, so that every round also opens what a killed process left.
#![cfg(feature = "runtime")]

use futures_util::future::join_all;
use snapfold::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use snapfold::domain::row::{RecordKind, SnapshotRow, Trigger};
use snapfold::store::blobs::{Blobs, LocalBlobs};
use snapfold::store::index::{EmbeddedIndex, From, Index};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDER: &str = "SNAPFOLD_KILL_TEST_FOLDER";
const ROUND: &str = "SNAPFOLD_KILL_TEST_ROUND";
const ROUNDS: u64 = 12;
/// Rows in flight at once.
const ROWS: u64 = 50;
const OBJECT_BYTES: usize = 300_000;

fn key(round: u64) -> AggregateKey {
    AggregateKey { kind: "order".into(), id: format!("round-{round}").into() }
}

fn row(round: u64, version: u64) -> SnapshotRow {
    SnapshotRow {
        key: key(round),
        lineage: Lineage(1),
        version: Version(version),
        pack: PackId([7; 16]),
        kind: RecordKind::Increment,
        from_version: Version(version - 1),
        partition: PartitionNo(0),
        first_offset: Offset(0),
        last_offset: Offset(0),
        leader_epoch: -1,
        effective_time: Timestamp(0),
        created_at: Timestamp(0),
        creation_ms: 0,
        trigger: Trigger::Events,
        event_type: "Changed".into(),
        chain: Digest([3; 32]),
        raw_bytes: version,
        stored_bytes: version,
        state_digest: None,
        state_bytes: None,
        deleted: false,
        quarantined: false,
        locator: vec![version as u8; 40],
    }
}

fn object(round: u64, number: u64) -> (String, Vec<u8>) {
    (format!("round-{round:02}/{number:06}"), vec![(round * 31 + number) as u8; OBJECT_BYTES])
}

/// Writes until it is killed. A line is printed after what it names was acknowledged.
async fn child(folder: &Path, round: u64) {
    let index = EmbeddedIndex::open(&folder.join("index"), 4 << 20).expect("the index opens");
    let blobs = LocalBlobs::open(&folder.join("objects")).expect("the objects open");
    let mut out = std::io::stdout();
    writeln!(out, "open").expect("the parent listens");
    for batch in 0_u64.. {
        let versions = batch * ROWS + 1..=(batch + 1) * ROWS;
        let rows = join_all(versions.map(|version| index.put_snapshot(row(round, version)))).await;
        rows.into_iter().for_each(|written| written.expect("a row is written"));
        let (name, bytes) = object(round, batch);
        blobs.put_new(&name, &bytes).await.expect("an object is written");
        writeln!(out, "acknowledged {}", batch + 1).expect("the parent listens");
        out.flush().expect("the parent listens");
    }
}

/// Starts a child, kills it after `ms` milliseconds of work; how many batches it acknowledged.
fn killed(folder: &Path, round: u64, ms: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "what_a_killed_process_acknowledged_is_there", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut lines = out.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("open")), "the child does not open its stores");
    let killer = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(ms));
        child.kill().expect("the child is killed");
        child.wait().expect("the child is gone");
    });
    let acknowledged = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).last();
    killer.join().expect("the killer does not panic");
    acknowledged.unwrap_or(0)
}

async fn check(folder: &Path, acknowledged: &[u64]) {
    let index = EmbeddedIndex::open(&folder.join("index"), 4 << 20).expect("the index opens again");
    let blobs = LocalBlobs::open(&folder.join("objects")).expect("the objects open again");
    for (round, batches) in (0..).zip(acknowledged) {
        let read = index.snapshots(&key(round), Lineage(1), From::Above(Version(0)), usize::MAX).await;
        let read = read.expect("rows are read");
        assert!(read.len() as u64 >= batches * ROWS, "round {round}: {} of {batches} batches", read.len());
        for (version, read) in (1..).zip(&read).take((batches * ROWS) as usize) {
            assert_eq!(*read, row(round, version));
        }
        let names = blobs.list(&format!("round-{round:02}/"), None, usize::MAX).await.expect("names");
        assert!(names.len() as u64 >= *batches, "round {round}: {} of {batches} objects", names.len());
        for (number, name) in (0..).zip(names) {
            let expected = object(round, number);
            assert_eq!(name, expected.0);
            let bytes = blobs.get_range(&name, 0, u64::MAX).await.expect("an object");
            assert!(bytes == expected.1, "`{name}` is half or another");
        }
    }
}

#[test]
fn what_a_killed_process_acknowledged_is_there() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let (Some(folder), Ok(round)) = (std::env::var_os(FOLDER), std::env::var(ROUND)) {
        runtime.block_on(child(Path::new(&folder), round.parse().expect("a number")));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        acknowledged.push(killed(folder.path(), round, 20 + round * round * 5));
        runtime.block_on(check(folder.path(), &acknowledged));
    }
    assert!(acknowledged.iter().sum::<u64>() > 10, "hardly anything was written: {acknowledged:?}");
}
