//! A small world at rest, made by a real worker on the embedded index and objects in memory; and copies of
//! it with changed bytes and fresh caches, which are asked over the HTTP router.

use super::log::{Kept, KeptLog, TOPIC_ID};
use crate::kill::{Dice, event};
use crate::ledger::{Ledger, OnPoison, Record};
use crate::site::{ORDERS, orders_spec};
use axum::body::Body;
use axum::http::Request;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use futures_util::FutureExt;
use snapfold::clock::{Clock, SystemClock};
use snapfold::compute::Inline;
use snapfold::config::{self, Sources, Stream};
use snapfold::domain::ids::{Lineage, Offset, Timestamp};
use snapfold::domain::partition::{BackOff, Settings, Strategy};
use snapfold::domain::record::RawRecord;
use snapfold::http::{App, Readiness, router};
use snapfold::kafka::{Group, Log};
use snapfold::lookup::{self, Lookup, LookupSettings, NoCache, Progress, Streams, SurveyAsk, Surveyed, Tier};
use snapfold::reconstruct::Reconstructor;
use snapfold::store::SnapshotStore;
use snapfold::store::blobs::{Blobs, MemoryBlobs};
use snapfold::store::flush::{FlushLimits, Written};
use snapfold::store::index::embedded::KEYSPACE;
use snapfold::store::index::{EmbeddedIndex, Index};
use snapfold::store::packs::{CompressionPlan, Packs};
use snapfold::upkeep::schedules::{Book, BookParts};
use snapfold::worker::{Components, Handle, TokioSpawn, Worker, WorkerSettings};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

const PARTITIONS: usize = 2;
const AGGREGATES: u64 = 24;
const EVENTS: usize = 900;
/// Steps in which they are let out: each makes packs.
const STEPS: usize = 24;

/// After so many writes the engine is made anew: it keeps the former values, which makes reads slow.
const WRITES_MAX: u32 = 100;

/// Bytes by name or key; none where there is nothing any more.
pub(super) type Changed<K> = Vec<(K, Option<Vec<u8>>)>;

/// What is different in a copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) objects: Changed<String>,
    pub(super) rows: Changed<Vec<u8>>,
}

pub(super) struct World {
    pub(super) objects: BTreeMap<String, Vec<u8>>,
    pub(super) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) ledger: Ledger,
    engine: Mutex<Engine>,
    log: Arc<Kept>,
    stream: Stream,
}

/// The storage engine of the index, and the index in it.
struct Engine {
    index: Arc<EmbeddedIndex>,
    keyspace: Keyspace,
    database: Database,
    /// Rows that were written behind the index's back.
    writes: u32,
    /// Deleted last.
    _folder: tempfile::TempDir,
}

impl Engine {
    fn new<'a>(rows: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(folder.path()).worker_threads(1).open().unwrap();
        let keyspace = database.keyspace(KEYSPACE, KeyspaceCreateOptions::default).unwrap();
        for (key, value) in rows {
            keyspace.insert(key.clone(), value.clone()).unwrap();
        }
        let index = Arc::new(EmbeddedIndex::over(database.clone(), Box::new(|| Ok(u64::MAX))).unwrap());
        Self { index, keyspace, database, writes: 0, _folder: folder }
    }

    fn write<'a>(&mut self, rows: impl Iterator<Item = (&'a Vec<u8>, Option<&'a Vec<u8>>)>) {
        for (key, value) in rows {
            self.writes += 1;
            match value {
                Some(value) => self.keyspace.insert(key.clone(), value.clone()).unwrap(),
                None => self.keyspace.remove(key.clone()).unwrap(),
            }
        }
    }
}

/// A process that has just started on a copy.
pub(super) struct Copy {
    router: axum::Router,
    lookup: Arc<Lookup>,
}

/// An answer.
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

fn stream() -> Stream {
    let text = format!(
        "{ORDERS}\nkafka: {{ brokers: \"127.0.0.1:9\", group: it }}\nindex: {{ embedded: {{ path: x }} }}\n\
         blobs: {{ directory: {{ path: x }} }}\n"
    );
    let sources = Sources { file: Some(("flips".to_owned(), text)), env: Vec::new(), sets: Vec::new() };
    let loaded = config::load(&sources, &|_| Err("there are no secrets".to_owned()));
    loaded.map_err(|problems| problems.to_string()).unwrap().streams.remove(0)
}

/// Records of each partition, and what they amount to. Two aggregates meet an event that cannot be read.
fn story() -> (Vec<Vec<RawRecord>>, Ledger) {
    let (mut dice, mut ledger) = (Dice(5), Ledger::new(orders_spec(OnPoison::Quarantine)));
    let mut parts = vec![Vec::new(); PARTITIONS];
    for nth in 0..EVENTS {
        let aggregate = dice.below(AGGREGATES).min(dice.below(2 * AGGREGATES));
        let partition = usize::try_from(aggregate).unwrap() % PARTITIONS;
        let is_poison = nth >= EVENTS / 2 && matches!(aggregate, 3 | 4);
        let value = if is_poison { "{\"type\":".to_owned() } else { event(&mut dice, nth, "") };
        let (key, value) = (format!("o/{aggregate}").into_bytes(), value.into_bytes());
        let offset = parts[partition].len() as i64;
        ledger.push(Record {
            partition: i32::try_from(partition).unwrap(),
            offset,
            record_time_ms: 5,
            key: Some(key.clone()),
            value: Some(value.clone()),
            headers: Vec::new(),
        });
        parts[partition].push(RawRecord {
            offset: Offset(offset),
            leader_epoch: 0,
            record_time: Timestamp(5),
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        });
    }
    (parts, ledger)
}

fn settings(strategy: Strategy) -> WorkerSettings {
    WorkerSettings {
        partition: Settings {
            events_max: 5,
            age_ms_max: 600_000,
            bytes_max: 1 << 20,
            write_amplification_permille: 0,
            strategy,
            memory_bytes_max: 64 << 20,
            uncovered_bytes_max: 1 << 20,
            loads_max: 32,
            snapshots_max: 256,
            live_bytes_max: 64 << 20,
            hot_max: 1_024,
            adaptive_us: None,
            back_off: BackOff { records_max: u64::MAX, ms_max: u64::MAX },
        },
        checkpoint_ms: 200,
        linger_ms: 5,
        linger_items: 256,
        flush_bytes_max: 8 << 20,
        flushes: 4,
        tick_ms: 20,
        records_max: 1_000,
        retry_ms: 50,
        revoke_ms: 1_000,
        shutdown_ms: 20_000,
    }
}

impl World {
    /// Folds the story and stops, as `run` would.
    pub(super) fn new(strategy: Strategy) -> Self {
        let (parts, ledger) = story();
        let (objects, rows) = Default::default();
        let (log, stream) = (Arc::new(Kept::new(parts)), stream());
        let engine = Mutex::new(Engine::new(&BTreeMap::new()));
        let mut world = Self { objects, rows, ledger, engine, log, stream };
        let blobs = Arc::new(MemoryBlobs::new());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let folding = world.fold(Arc::clone(&blobs) as Arc<dyn Blobs>, strategy);
        let written = runtime.unwrap().block_on(folding);
        for name in blobs.list("", None, usize::MAX).now_or_never().unwrap().unwrap() {
            let bytes = blobs.get_range(&name, 0, u64::MAX).now_or_never().unwrap().unwrap();
            world.objects.insert(name, bytes);
        }
        for entry in world.engine.lock().unwrap().keyspace.iter() {
            let (key, value) = entry.into_inner().unwrap();
            world.rows.insert(key.to_vec(), value.to_vec());
        }
        // What the scrape shows. No object of this world is ever deleted.
        let count = |value: &AtomicU64| usize::try_from(value.load(Ordering::Relaxed)).unwrap();
        assert_eq!(count(&written.objects), world.objects.len());
        assert_eq!(
            count(&written.object_bytes),
            world.objects.values().map(|bytes| bytes.len()).sum::<usize>()
        );
        assert!(
            count(&written.rows) > count(&written.snapshots),
            "listings and checkpoints have rows as well"
        );
        world
    }

    async fn fold(&self, blobs: Arc<dyn Blobs>, strategy: Strategy) -> Arc<Written> {
        let index = Arc::clone(&self.engine.lock().unwrap().index) as Arc<dyn Index>;
        let plan = CompressionPlan { train_at: [30, 60, u64::MAX], ..CompressionPlan::default() };
        let packs = Packs::new(Arc::clone(&index), blobs, plan, [7; 16]);
        let log = KeptLog { kept: Arc::clone(&self.log), is_forgotten: false };
        let (reader, clock) = (self.reader(index, packs, log.clone()), Arc::new(SystemClock::start()));
        let written = Arc::new(Written::default());
        let store = SnapshotStore {
            index: Arc::clone(&reader.index),
            packs: Arc::clone(&reader.packs),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            compute: Arc::new(Inline),
            limits: FlushLimits { deadline_ms: 600_000, retry_ms: 50 },
            written: Arc::clone(&written),
        };
        let (worker, handle) = Worker::new(Components {
            dead_letters: None,
            group: Arc::new(log.clone()) as Arc<dyn Group>,
            log: Arc::new(log) as Arc<dyn Log>,
            store: Arc::new(store),
            decoder: self.stream.decoder(None),
            rules: self.stream.rules(),
            reader,
            clock,
            folding: Arc::new(TokioSpawn::new(tokio::runtime::Handle::current())),
            spawn: Arc::new(TokioSpawn::new(tokio::runtime::Handle::current())),
            topic: Arc::clone(&self.stream.topic),
            topic_id: TOPIC_ID,
            lineage: Lineage(1),
            partitions: u32::MAX,
            settings: settings(strategy),
        });
        let longest = self.log.parts.iter().map(Vec::len).max().unwrap();
        let feed = async {
            for step in 1..=STEPS {
                self.log.let_out((longest * step).div_ceil(STEPS));
                while !self.is_folded(&handle) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        worker.run(Box::pin(feed)).await;
        written
    }

    fn is_folded(&self, handle: &Handle) -> bool {
        let statuses = handle.statuses.lock().unwrap();
        let mut at_end = statuses.iter().map(|(partition, at)| at.position == self.log.end(*partition));
        statuses.len() == PARTITIONS && at_end.all(|at_end| at_end)
    }

    fn reader(&self, index: Arc<dyn Index>, packs: Packs, log: KeptLog) -> Reconstructor {
        Reconstructor {
            index,
            packs: Arc::new(packs),
            log: Arc::new(log),
            decoder: self.stream.decoder(None),
            rules: self.stream.rules(),
            topic_id: TOPIC_ID,
            health: Arc::default(),
        }
    }

    /// Shows a process that has just started on a copy with this change; none if it refuses to start.
    pub(super) fn changed<T>(
        &self,
        change: &Change,
        is_log_forgotten: bool,
        ask: impl FnOnce(&Copy) -> T,
    ) -> Option<T> {
        let blobs = MemoryBlobs::new();
        let find = |name: &str| change.objects.iter().find(|(changed, _)| changed == name);
        let names = self.objects.keys().chain(change.objects.iter().map(|(name, _)| name));
        for name in names {
            let bytes = find(name).map_or_else(|| self.objects.get(name), |(_, bytes)| bytes.as_ref());
            if let Some(bytes) = bytes {
                // A name of both lists is put twice, with the same bytes.
                let _ = blobs.put_new(name, bytes).now_or_never().unwrap();
            }
        }
        if self.engine.lock().unwrap().writes > WRITES_MAX {
            *self.engine.lock().unwrap() = Engine::new(&self.rows);
        }
        self.engine.lock().unwrap().write(change.rows.iter().map(|(key, value)| (key, value.as_ref())));
        let index = self.index(!change.rows.is_empty());
        let log = KeptLog { kept: Arc::clone(&self.log), is_forgotten: is_log_forgotten };
        let told = index.map(|index| ask(&self.copy(index, Arc::new(blobs), log)));
        self.engine.lock().unwrap().write(change.rows.iter().map(|(key, _)| (key, self.rows.get(key))));
        told
    }

    /// The index; where rows have changed as a process finds it that starts now.
    fn index(&self, has_changed: bool) -> Option<Arc<EmbeddedIndex>> {
        let engine = self.engine.lock().unwrap();
        if !has_changed {
            return Some(Arc::clone(&engine.index));
        }
        EmbeddedIndex::over(engine.database.clone(), Box::new(|| Ok(u64::MAX))).ok().map(Arc::new)
    }

    fn copy(&self, index: Arc<dyn Index>, blobs: Arc<dyn Blobs>, log: KeptLog) -> Copy {
        let book = Book::new(BookParts {
            index: Arc::clone(&index),
            blobs: Arc::clone(&blobs),
            clock: Arc::new(SystemClock::start()),
            topics: BTreeMap::new(),
        });
        let packs = Packs::new(Arc::clone(&index), blobs, CompressionPlan::default(), [8; 16]);
        let lookup = Arc::new(Lookup::new(lookup::Components {
            reader: self.reader(index, packs, log),
            owners: Arc::new(Handle::default()),
            clock: Arc::new(SystemClock::start()),
            cache: Arc::new(NoCache),
            topic: Arc::clone(&self.stream.topic),
            lineage: Lineage(1),
            settings: LookupSettings::default(),
        }));
        let kind = || Arc::clone(&self.stream.kind);
        let app = App {
            streams: Arc::new(Streams { by_type: BTreeMap::from([(kind(), Arc::clone(&lookup))]) }),
            lineages: Arc::new(lookup::OnlyActive),
            topics: BTreeMap::from([(kind(), Arc::clone(&self.stream.topic))]),
            workers: BTreeMap::new(),
            owners: BTreeMap::new(),
            keep: BTreeMap::new(),
            compactors: BTreeMap::new(),
            schedules: Arc::new(book),
            metrics: Arc::new(String::new),
            readiness: Arc::new(|| Readiness { ready: true, reasons: Vec::new() }),
            liveness: Arc::new(|| Readiness { ready: true, reasons: Vec::new() }),
            stopping: tokio::sync::watch::channel(false).1,
        };
        Copy { router: router(app), lookup }
    }
}

/// Nobody looks.
struct Unwatched;

impl Progress for Unwatched {
    fn advance(&self, _done: u64) {}
    fn more(&self, _known: u64) {}
}

impl Copy {
    /// Verifies everything; how many problems there are. A survey that cannot go on has one.
    pub(super) fn survey(&self, tier: Tier) -> u64 {
        let ask = SurveyAsk { tier, prefix: String::new(), one_in: 1 };
        let mut out = Surveyed::default();
        let surveyed = async {
            self.lookup.survey(&ask, &Unwatched, &mut out).await?;
            if tier == Tier::Full { self.lookup.survey_rest(&Unwatched, &mut out).await } else { Ok(()) }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(surveyed);
        out.problems + u64::from(done.is_err())
    }

    /// Damaged records that were met so far, as the metric counts them.
    pub(super) fn damage(&self) -> u64 {
        self.lookup.damage().0
    }

    /// Everything is in memory, so an answer is there at once. A path may start with its method.
    pub(super) fn ask(&self, path: &str) -> Told {
        let (method, path) = path.split_once(' ').unwrap_or(("GET", path));
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let asked = async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (status, body) = (response.status().as_u16(), response.into_body());
            Told { status, body: axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec() }
        };
        asked.now_or_never().expect("nothing waits")
    }
}
