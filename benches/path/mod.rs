//! The whole way of an event, for benches: a log made while it is read, a real worker, and the embedded
//! stores in a temporary folder.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Path`: worker and stores put together, as `run` does |
//! | `log.rs` | the log: generated records, in the role of Kafka |
//! | `usage.rs` | processor time, memory and load, as Linux tells them |

mod log;
#[expect(dead_code, reason = "the bench of `dev` looks at a child, the others at themselves")]
pub(crate) mod usage;

use super::events::{self, Events};
use log::Generated;
use snapfold::clock::{Clock, SystemClock};
use snapfold::compute::Threads;
use snapfold::domain::ids::{Lineage, Offset, PartitionNo};
use snapfold::domain::partition::{BackOff, Settings, Strategy};
use snapfold::domain::row::{PartitionKey, Trigger};
use snapfold::kafka::Log;
use snapfold::reconstruct::Reconstructor;
use snapfold::store::SnapshotStore;
use snapfold::store::blobs::{Blobs, LocalBlobs};
use snapfold::store::flush::{FlushLimits, Written};
use snapfold::store::index::{EmbeddedIndex, Index};
use snapfold::store::packs::{CompressionPlan, Packs};
use snapfold::telemetry::stopwatch::Stopwatch;
use snapfold::worker::{Command, Components, Handle, Status, TokioSpawn, Worker, WorkerSettings};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use usage::Usage;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Kafka's id of the topic.
const TOPIC_ID: u128 = 7;
/// The only lineage.
const LINEAGE: Lineage = Lineage(1);
/// States, tails and tables of checkpoints, over all partitions: what `memory.limit: 384MiB` leaves for them
/// where there are no records in Kafka's client and no cache of states.
pub(crate) const STATES_BYTES: usize = 200 << 20;
/// Cache and buffers of the index.
const INDEX_BYTES: u64 = 24 << 20;
/// `checkpoint.flushBytes`, and bytes of a flush of snapshots.
const FLUSH_BYTES: usize = 8 << 20;
/// `checkpoint.maxLiveBytes`.
const LIVE_BYTES: u64 = 256 << 20;

/// A folder with stores, and a log that has been folded into them.
pub(crate) struct Path {
    folder: tempfile::TempDir,
    log: Arc<Generated>,
    states_bytes: usize,
}

/// What folding a log took, from bytes in memory to the low watermark at its end.
pub(crate) struct Folded {
    /// Wall-clock seconds.
    pub(crate) seconds: f64,
    /// Without the time in which events were made.
    pub(crate) usage: Usage,
    /// What each partition says at the end.
    pub(crate) statuses: Vec<Status>,
    /// What was written.
    pub(crate) written: Arc<Written>,
}

impl Path {
    /// A log of one partition for each of `parts`, with `events` in each, at most this many in a second.
    pub(crate) fn new(
        parts: Vec<Events>,
        events: u64,
        per_second_max: Option<u32>,
        states_bytes: usize,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let batch = Duration::from_secs(log::BATCH as u64);
        let pause = per_second_max.map_or(Duration::ZERO, |max| batch / max);
        Self { folder, log: Arc::new(Generated::new(parts, events, TOPIC_ID, pause)), states_bytes }
    }

    /// The key of a partition.
    pub(crate) fn partition(number: usize) -> PartitionKey {
        let number = i32::try_from(number).expect("a bench has few partitions");
        PartitionKey { topic: "orders".into(), partition: PartitionNo(number), lineage: LINEAGE }
    }

    /// Folds the whole log and stops the worker, as `run` would. Before that a snapshot of `aggregate` (of
    /// the first partition) is waited for, and with it all that were due.
    pub(crate) async fn fold(&self, aggregate: Option<&str>) -> Folded {
        let (reader, clock) = (self.reader().await, Arc::new(SystemClock::start()));
        let written = Arc::new(Written::default());
        let (worker, handle) = Worker::new(self.components(reader, clock, Arc::clone(&written)));
        let (before, begun) = (Usage::now(), Stopwatch::start());
        let all = handle.clone();
        let mut threads = Vec::new();
        let until_folded = Box::pin(async {
            while !self.is_folded(&all) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if let Some(id) = aggregate {
                let (sender, answer) = futures_channel::oneshot::channel();
                assert!(
                    all.send(PartitionNo(0), Command::Snapshot(id.into(), None, Trigger::Manual, sender)),
                    "it is assigned"
                );
                answer.await.expect("a partition answers").expect("good events become a snapshot");
            }
            threads = usage::threads();
        });
        worker.run(until_folded).await;
        let seconds = begun.ms() / 1_000.0;
        let mut usage = Usage::now().since(&before);
        usage.processor -= self.log.making();
        usage.threads = threads;
        let statuses: Vec<Status> =
            handle.statuses.lock().expect("no panic while the map is held").values().cloned().collect();
        for status in &statuses {
            assert_eq!(status.low_watermark, self.log.end(), "the whole log is covered");
            assert_eq!(status.counts.folded, self.log.events(), "every event became a version");
        }
        Folded { seconds, usage, statuses, written }
    }

    fn is_folded(&self, handle: &Handle) -> bool {
        let statuses = handle.statuses.lock().expect("no panic while the map is held");
        for status in statuses.values() {
            assert_eq!(status.halted, None, "good events halt no partition");
        }
        let at_end = |status: &Status| status.position == self.log.end();
        statuses.len() == self.log.partitions() && statuses.values().all(at_end)
    }

    /// A reader that knows nothing but what is in the folder.
    pub(crate) async fn reader(&self) -> Reconstructor {
        let index: Arc<dyn Index> = Arc::new(self.index().await);
        let blobs: Arc<dyn Blobs> =
            Arc::new(LocalBlobs::open(&self.folder.path().join("blobs")).expect("the folder is ours"));
        Reconstructor {
            packs: Arc::new(Packs::new(Arc::clone(&index), blobs, CompressionPlan::default(), [7; 16])),
            index,
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            decoder: Arc::new(events::decoder()),
            rules: events::rules(),
            topic_id: TOPIC_ID,
            health: Arc::default(),
        }
    }

    /// Opens the index. Tasks of a worker that has stopped may take a moment to let go of it.
    async fn index(&self) -> EmbeddedIndex {
        let mut tries = 0;
        loop {
            match EmbeddedIndex::open(&self.folder.path().join("index"), INDEX_BYTES) {
                Ok(index) => return index,
                Err(error) => assert!(tries < 1_000, "{error}"),
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn components(
        &self,
        reader: Reconstructor,
        clock: Arc<SystemClock>,
        written: Arc<Written>,
    ) -> Components {
        let store = SnapshotStore {
            index: Arc::clone(&reader.index),
            packs: Arc::clone(&reader.packs),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            compute: Arc::new(Threads::start().expect("threads can be started")),
            limits: FlushLimits { deadline_ms: 600_000, retry_ms: 200 },
            written,
        };
        Components {
            dead_letters: None,
            group: Arc::clone(&self.log) as Arc<dyn snapfold::kafka::Group>,
            log: Arc::clone(&reader.log),
            store: Arc::new(store),
            decoder: Arc::clone(&reader.decoder),
            rules: reader.rules.clone(),
            reader,
            clock,
            folding: Arc::new(TokioSpawn::apart("fold").expect("threads can be started")),
            spawn: Arc::new(TokioSpawn::new(tokio::runtime::Handle::current())),
            topic: "orders".into(),
            topic_id: TOPIC_ID,
            lineage: LINEAGE,
            partitions: u32::MAX,
            settings: settings(self.log.partitions(), self.states_bytes),
        }
    }
}

/// The defaults of the configuration, as `run` shares them out among four partitions.
fn settings(partitions: usize, states_bytes: usize) -> WorkerSettings {
    WorkerSettings {
        partition: Settings {
            events_max: 100,
            age_ms_max: 600_000,
            bytes_max: 64 << 10,
            write_amplification_permille: 1_000,
            strategy: Strategy::Incremental { full_every: 8 },
            memory_bytes_max: states_bytes / partitions,
            uncovered_bytes_max: FLUSH_BYTES / partitions,
            loads_max: 32,
            snapshots_max: 512,
            live_bytes_max: LIVE_BYTES / partitions as u64,
            hot_max: 1_024,
            adaptive_us: None,
            back_off: BackOff { records_max: u64::MAX, ms_max: u64::MAX },
        },
        checkpoint_ms: 10_000,
        linger_ms: 25,
        linger_items: 1_024,
        flush_bytes_max: FLUSH_BYTES,
        flushes: 4,
        tick_ms: 100,
        records_max: log::BATCH,
        retry_ms: 200,
        revoke_ms: 1_000,
        shutdown_ms: 60_000,
    }
}

/// The runtime of a bench: threads are named, so that their processor time can be told apart.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("runtime")
        .max_blocking_threads(snapfold::compute::FILE_THREADS_MAX)
        .enable_all()
        .build()
        .expect("threads can be started")
}

/// A number of `Written`.
pub(crate) fn count(value: &AtomicU64) -> u64 {
    value.load(std::sync::atomic::Ordering::Relaxed)
}

/// The end of a log as an offset.
fn offset(events: u64) -> Offset {
    Offset(i64::try_from(events).expect("a bench has fewer than 2^63 events"))
}
