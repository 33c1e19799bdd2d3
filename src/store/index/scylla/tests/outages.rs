//! A server that is killed, comes back, or stands still, in the middle of writes and reads.

use super::super::ScyllaIndex;
use super::cluster::{Keyspace, SHORT, alone, server};
use super::{key, row};
use crate::domain::ids::{Lineage, Version};
use crate::domain::outcome::PortError;
use crate::store::index::{From, Index};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// No call takes longer, whatever happens to the server.
const NO_HANG: Duration = Duration::from_secs(15);
/// A server that comes back is used again after this at the latest.
const BACK: Duration = Duration::from_secs(60);
/// Apache Cassandra with a periodic commit log may lose what it acknowledged in its last tenth of a second.
const SYNCED: Duration = Duration::from_secs(2);

async fn write(index: &ScyllaIndex, version: u64) -> Result<(), PortError> {
    timeout(NO_HANG, index.put_snapshot(row("outage", version))).await.expect("no write hangs")
}

async fn read(index: &ScyllaIndex, version: u64) -> Result<usize, PortError> {
    let from = From::AtOrBelow(Version(version));
    let key = key("outage");
    let read = timeout(NO_HANG, index.snapshots(&key, Lineage(1), from, 1_000)).await;
    read.expect("no read hangs").map(|rows| rows.len())
}

/// Repeats a write until it is acknowledged.
async fn until_written(index: &ScyllaIndex, version: u64) {
    let started = Instant::now();
    while let Err(error) = write(index, version).await {
        assert!(!matches!(error, PortError::Permanent(_) | PortError::Missing), "{error}");
        assert!(started.elapsed() < BACK, "{error}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_told_and_used_again_when_it_is_back() {
    let _server = alone().await;
    let keyspace = Keyspace::fresh("killed").await;
    let index = ScyllaIndex::open_with(&keyspace.settings, SHORT).await.unwrap();
    for version in 1..=20 {
        write(&index, version).await.unwrap();
    }
    sleep(SYNCED).await;
    let hammered = async {
        let mut failed = 0;
        for version in 21..=60 {
            match write(&index, version).await {
                Ok(()) => {}
                Err(PortError::Unknown(_) | PortError::NotDone(_)) => failed += 1,
                Err(other) => panic!("{other}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
        failed
    };
    let (failed, ()) = futures_util::future::join(hammered, async {
        sleep(Duration::from_millis(200)).await;
        server("kill").await;
    })
    .await;
    assert!(failed > 0, "the server was killed in the middle");
    assert!(matches!(write(&index, 61).await, Err(PortError::NotDone(_))), "nobody to ask");
    assert!(matches!(read(&index, 61).await, Err(PortError::NotDone(_))), "an error is never absent");
    server("start").await;
    for version in 21..=61 {
        until_written(&index, version).await;
    }
    assert_eq!(read(&index, 61).await, Ok(61));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_makes_writes_unknown_and_nothing_hangs() {
    let _server = alone().await;
    let keyspace = Keyspace::fresh("frozen").await;
    let index = ScyllaIndex::open_with(&keyspace.settings, SHORT).await.unwrap();
    write(&index, 1).await.unwrap();
    server("freeze").await;
    let (written, seen) = futures_util::future::join(write(&index, 2), read(&index, 9)).await;
    let opened = timeout(2 * NO_HANG, ScyllaIndex::open_with(&keyspace.settings, SHORT)).await;
    server("thaw").await;
    assert!(matches!(written, Err(PortError::Unknown(_))), "{written:?}");
    assert!(matches!(seen, Err(PortError::NotDone(_))), "{seen:?}");
    let opened = opened.expect("no start hangs").err().expect("nobody answers");
    assert_eq!(opened.kind, crate::domain::error::ErrorKind::Unavailable, "{opened}");
    until_written(&index, 2).await;
    until_written(&index, 3).await;
    assert_eq!(read(&index, 9).await, Ok(3));
}
