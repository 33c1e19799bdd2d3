//! How fast the index is on this machine, as docs/benchmarks.md tells it.

use super::cluster::{Keyspace, shared};
use super::*;
use futures_util::stream::{self, StreamExt};
use std::time::Duration;
use tokio::time::Instant;

const ROWS: u64 = 20_000;
const IN_FLIGHT: usize = 64;
const READS: u64 = 5_000;

fn told(what: &str, mut times: Vec<Duration>, took: Duration, rows: u64) {
    times.sort();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1_000].as_secs_f64() * 1e3;
    let rate = rows as f64 / took.as_secs_f64();
    eprintln!("{what}: {rate:.0} rows/s; a call takes {:.2} ms, p99 {:.2} ms", at(500), at(990));
}

async fn timed<T>(calls: impl Iterator<Item = T>, at_once: usize) -> (Vec<Duration>, Duration)
where
    T: Future<Output = ()>,
{
    let started = Instant::now();
    let one = |call: T| async move {
        let started = Instant::now();
        call.await;
        started.elapsed()
    };
    let times = stream::iter(calls).map(one).buffer_unordered(at_once).collect().await;
    (times, started.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --lib scylla::tests::speed -- --ignored --nocapture"]
async fn rows_written_and_read() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("speed").await;
    let index = &keyspace.open().await;
    let id = |nth: u64| format!("o-{}", nth % 5_000);
    for round in 0..2 {
        let writes = (0..ROWS).map(|nth| async move {
            index.put_snapshot(row(&id(nth), round * ROWS + nth)).await.unwrap();
        });
        let (times, took) = timed(writes, IN_FLIGHT).await;
        told("put_snapshot, 64 in flight", times, took, ROWS);
    }
    let chains = (0..ROWS / 16).map(|nth| async move {
        let rows = (0..16).map(|version| row(&format!("chain-{nth}"), version)).collect();
        index.put_snapshots(rows).await.unwrap();
    });
    let (times, took) = timed(chains, IN_FLIGHT).await;
    told("put_snapshots of 16 rows, 64 in flight", times, took, ROWS);
    for at_once in [1, 16] {
        let reads = (0..READS).map(|nth| async move {
            let read = index.snapshots(&key(&id(nth * 7)), Lineage(1), From::Newest, 1).await;
            assert_eq!(read.unwrap().len(), 1);
        });
        let (times, took) = timed(reads, at_once).await;
        told(&format!("snapshots(Newest, 1), {at_once} in flight"), times, took, READS);
    }
}
