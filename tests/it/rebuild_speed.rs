//! How fast an index is rebuilt, and whether the rows are those that were written: 100,000 records in packs
//! of a folder, into the embedded index.
//!
//! The figure: `cargo test --release --test it rebuild_speed -- --nocapture`.

use snapfold::clock::{Clock, SystemClock};
use snapfold::compute::Inline;
use snapfold::domain::aggregate::{Aggregate, State};
use snapfold::domain::chain::{event_digest, genesis, link};
use snapfold::domain::ids::{AggregateKey, Lineage, Offset, PartitionNo, Timestamp, Version};
use snapfold::domain::partition::{Cut, SnapshotItem};
use snapfold::domain::record::{RawRecord, StoredEvent};
use snapfold::domain::row::{PartitionKey, SnapshotRow, Trigger};
use snapfold::store::SnapshotStore;
use snapfold::store::blobs::{Blobs, LocalBlobs};
use snapfold::store::flush::{Flush, FlushLimits};
use snapfold::store::index::{EmbeddedIndex, From, Index, MemoryIndex};
use snapfold::store::packs::{CompressionPlan, Packs};
use snapfold::store::rebuild::{Rebuild, Settings};
use std::sync::Arc;
use std::time::Instant;

const FLUSHES: i64 = 50;
/// Aggregates in one flush, with an increment and a full record each.
const AGGREGATES: i64 = 1_000;

fn key(n: i64) -> AggregateKey {
    AggregateKey { kind: "order".into(), id: format!("order-{n:07}").into() }
}

fn flush(n: i64) -> Flush {
    let key = key(n);
    let event = StoredEvent {
        version: Version(1),
        skipped: false,
        record: RawRecord {
            offset: Offset(n),
            record_time: Timestamp(1_700_000_000_000 + n),
            key: Some(key.id.as_bytes().into()),
            value: Some(
                format!(r#"{{"type":"Placed","total":{n}.50,"note":"as agreed"}}"#).as_bytes().into(),
            ),
            ..RawRecord::default()
        },
    };
    let mut aggregate = Aggregate::genesis(&key.kind, &key.id);
    (aggregate.version, aggregate.offset) = (Version(1), Offset(n));
    aggregate.effective_time = event.record.record_time;
    aggregate.chain = link(genesis(&key.kind, &key.id), Version(1), event_digest(&event.record, &[]));
    aggregate.last_event_type = if n % 2 == 0 { "Placed".into() } else { "Changed".into() };
    aggregate.state = State::Idle(format!(r#"{{"total":{n}.50,"status":"placed"}}"#).as_bytes().into());
    Flush {
        partition: PartitionKey { topic: "orders".into(), partition: PartitionNo(0), lineage: Lineage(1) },
        kind: Arc::clone(&key.kind),
        item: SnapshotItem {
            id: key.id,
            row: Version(0),
            pending: Vec::new(),
            tail: vec![event].into(),
            increment: true,
            cuts: vec![Arc::new(Cut::of(&aggregate, Trigger::Bytes, None, true, 0))],
            first_offset: None,
        },
    }
}

async fn rows(index: &dyn Index, n: i64) -> Vec<SnapshotRow> {
    let rows = index.snapshots(&key(n), Lineage(1), From::Newest, 10).await.unwrap();
    // How long it took is in no pack.
    rows.into_iter().map(|row| SnapshotRow { creation_ms: 0, ..row }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_back_as_they_were_and_fast() {
    let folder = tempfile::tempdir().unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&folder.path().join("blobs")).unwrap());
    let (before, clock) = (Arc::new(MemoryIndex::new()), Arc::new(SystemClock::start()));
    let packs = |index: Arc<dyn Index>| {
        Arc::new(Packs::new(index, Arc::clone(&blobs), CompressionPlan::default(), [1; 16]))
    };
    let store = SnapshotStore {
        index: Arc::clone(&before) as Arc<dyn Index>,
        packs: packs(Arc::clone(&before) as Arc<dyn Index>),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        compute: Arc::new(Inline),
        limits: FlushLimits { deadline_ms: 600_000, retry_ms: 100 },
        written: Arc::default(),
    };
    for flushed in 0..FLUSHES {
        let flushes = (0..AGGREGATES).map(|n| flush(flushed * AGGREGATES + n)).collect();
        assert!(store.put_snapshots(flushes).await.iter().all(Result::is_ok));
    }
    let index: Arc<dyn Index> =
        Arc::new(EmbeddedIndex::open(&folder.path().join("index"), 64 << 20).unwrap());
    let rebuild = Rebuild {
        packs: packs(Arc::clone(&index)),
        index: Arc::clone(&index),
        clock,
        topics: [("order".into(), "orders".into())].into(),
        settings: Settings::default(),
        progress: Arc::default(),
    };
    let started = Instant::now();
    let report = rebuild.run().await.unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let all = 2 * (FLUSHES * AGGREGATES) as u64;
    println!("rebuilt {} rows in {seconds:.2} s: {:.0} rows/s", report.rows, report.rows as f64 / seconds);
    assert_eq!((report.rows, report.aggregates, report.problems.len()), (all, all / 2, 0), "{report:?}");
    for n in (0..FLUSHES * AGGREGATES).step_by(97) {
        let (was, is) = (rows(&*before, n).await, rows(&*index, n).await);
        assert_eq!((was.len(), &is), (2, &was));
    }
    let again = rebuild.run().await.unwrap();
    assert_eq!((again.rows, again.there), (0, all));
}
