//! The suites of the ports through the meters; what calls leave in the metrics; silence and its end.

use super::*;
use crate::clock::SystemClock;
use crate::domain::ids::Timestamp;
use crate::store::blobs::{MemoryBlobs, suite as blobs_suite};
use crate::store::faulty::{Faults, FaultyBlobs};
use crate::store::index::{MemoryIndex, suite};
use crate::telemetry::metrics::Metrics;
use futures_util::FutureExt;
use std::sync::atomic::{AtomicU64, Ordering};

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

/// A clock that stands where it is put.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn monotonic_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn sleep(&self, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
    fn random(&self) -> [u8; 10] {
        [0; 10]
    }
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::start())
}

/// An index that takes several rows at once and knows owners, as the memory twin does not.
#[test]
fn the_index_keeps_the_promises_of_the_port_and_what_has_a_default_is_forwarded() {
    now(suite::all(&MeteredIndex::new(Arc::new(MemoryIndex::new()), system())));
    let inner = Arc::new(MemoryIndex::new());
    let index = MeteredIndex::new(inner.clone(), system());
    assert_eq!(index.rows_at_once(), inner.rows_at_once());
    let key = PartitionKey { topic: "orders".into(), partition: PartitionNo(3), lineage: Lineage(1) };
    let row = OwnerRow {
        key: key.clone(),
        address: "http://a".into(),
        position: Offset(1),
        heartbeat: Timestamp(0),
    };
    now(index.put_owner(row)).unwrap();
    assert_eq!(now(index.owner(&key)), now(inner.owner(&key)));
}

#[test]
fn the_blob_store_keeps_the_promises_of_the_port() {
    now(blobs_suite::all(&MeteredBlobs::new(Arc::new(MemoryBlobs::new()), system())));
}

#[test]
fn calls_count_by_operation_and_outcome_with_their_rows_and_bytes() {
    let (measured, recorder) = Metrics::build();
    metrics::with_local_recorder(&recorder, || {
        let blobs = MeteredBlobs::new(Arc::new(MemoryBlobs::new()), system());
        now(blobs.put_new("a/b", b"12345")).unwrap();
        assert_eq!(now(blobs.put_new("a/b", b"12345")), Err(PortError::Exists));
        assert_eq!(now(blobs.get_range("a/c", 0, 2)), Err(PortError::Missing));
        now(blobs.get_range("a/b", 0, 2)).unwrap();
        now(blobs.get_tail("a/b", 3)).unwrap();
        let refused = Faults { refused: 1_000, ..Faults::none() };
        let down =
            MeteredBlobs::new(Arc::new(FaultyBlobs::new(Arc::new(MemoryBlobs::new()), refused, 1)), system());
        assert!(now(down.delete("a/b")).is_err());
        let index = MeteredIndex::new(Arc::new(MemoryIndex::new()), system());
        let key = AggregateKey { kind: "order".into(), id: "a".into() };
        let rows = (1..=3).map(|version| suite::snapshot(&key, 1, version, PackId([1; 16]))).collect();
        now(index.put_snapshots(rows)).unwrap();
    });
    let text = measured.render();
    for line in [
        "snapfold_store_calls_total{store=\"blobs\",operation=\"put_new\",outcome=\"ok\"} 1",
        "snapfold_store_calls_total{store=\"blobs\",operation=\"put_new\",outcome=\"exists\"} 1",
        "snapfold_store_calls_total{store=\"blobs\",operation=\"get_range\",outcome=\"missing\"} 1",
        "snapfold_store_calls_total{store=\"blobs\",operation=\"delete\",outcome=\"not_done\"} 1",
        "snapfold_store_call_seconds_count{store=\"blobs\",operation=\"put_new\"} 2",
        "snapfold_store_written_bytes_total 5",
        "snapfold_store_read_bytes_total 5",
        "snapfold_store_written_rows_total{operation=\"put_snapshots\"} 3",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[test]
fn a_store_that_fails_is_silent_until_it_answers_which_is_asked_for_when_nobody_else_does() {
    let clock = Arc::new(Hand::default());
    let at = |ms| clock.0.store(ms, Ordering::Relaxed);
    // Of two thousand fates of this seed both kinds occur soon.
    let half = Faults { refused: 500, ..Faults::none() };
    let faulty = FaultyBlobs::new(Arc::new(MemoryBlobs::new()), half, 7);
    let blobs = MeteredBlobs::new(Arc::new(faulty), clock.clone());
    at(1_000);
    while now(blobs.list("", None, 1)).is_ok() {}
    at(31_000);
    let silence = blobs.silence().expect("the last call failed");
    assert_eq!((silence.ms, silence.failures), (30_000, 1));
    assert!(silence.why.contains("refused"), "{silence:?}");
    for _ in 0..64 {
        now(blobs.ask_if_unheard(10_000));
    }
    assert_eq!(blobs.silence(), None, "it was asked until it answered");
    drop(blobs.list("", None, 1));
    assert_eq!(blobs.silence(), None, "a call that was never started is none");
}
