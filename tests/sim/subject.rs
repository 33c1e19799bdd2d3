//! The subject of the simulation: real workers, wired to the world's ports as `run` wires them to real ones.

use crate::cache::TinyCache;
use crate::executor::{ProcessId, Sim, lock};
pub(crate) use crate::fleet::{Active, Fleet, Running, topic_id};
use crate::ledger::{self, Ledger, Map, Spec};
use crate::merging::compactor;
use crate::ports::payload::Shape;
use crate::ports::producer::VersionMode;
use crate::rng::Rng;
use crate::world::{Boot, Ports};
use futures_util::future::{BoxFuture, abortable, pending};
use snapfold::codec::compress::{Algorithm, Compression};
use snapfold::codec::dictionary::Privacy;
use snapfold::codec::event_json::JsonDecoder;
use snapfold::compute::Inline;
use snapfold::domain::aggregate::{OnPoison, Rules, Versions};
use snapfold::domain::event::{Decode, Decoded};
use snapfold::domain::ids::{Lineage, Offset};
use snapfold::domain::mapping::{Mapping, Place};
use snapfold::domain::partition::{BackOff, Settings, Strategy};
use snapfold::domain::record::RawRecord;
use snapfold::domain::value::Limits;
use snapfold::lookup::{self, Lookup, LookupSettings, NoCache, OldLineage, Partitioner};
use snapfold::reconstruct::{LiveHeads, Reconstructor};
use snapfold::store::SnapshotStore;
use snapfold::store::flush::FlushLimits;
use snapfold::store::packs::{CompressionPlan, Packs};
use snapfold::upkeep::retention::History;
use snapfold::worker::{Components, Spawn, Worker, WorkerSettings};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Longest state in a simulated stream.
const STATE_BYTES_MAX: usize = 1 << 20;

/// What one seed folds, and how.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) versions: VersionMode,
    pub(crate) shape: Shape,
    pub(crate) on_poison: OnPoison,
    pub(crate) strategy: Strategy,
    /// What deletions must leave.
    pub(crate) history: History,
    pub(crate) compression: CompressionPlan,
    settings: WorkerSettings,
    pub(crate) limits: FlushLimits,
    reads_max: usize,
    partitioner: Partitioner,
    caching: bool,
    pub(crate) schedules: bool,
    /// Aggregates are erased, and workers look who is.
    pub(crate) erases: bool,
    decoder: Arc<OnceDecoder>,
}

struct SimSpawn {
    sim: Sim,
    process: ProcessId,
}

/// Decodes each record once for all processes of a seed: readers meet the same records again and again, and
/// the same record gives the same event for ever.
#[derive(Debug)]
struct OnceDecoder {
    decoder: JsonDecoder,
    decoded: Mutex<BTreeMap<Offset, Vec<Decoded>>>,
}

impl Decode for OnceDecoder {
    fn decode(&self, record: RawRecord) -> Decoded {
        let mut decoded = lock(&self.decoded);
        let there = decoded.entry(record.offset).or_default();
        if let Some(known) = there.iter().find(|known| known.record == record) {
            return known.clone();
        }
        let made = self.decoder.decode(record);
        there.push(made.clone());
        made
    }
}

struct AbortOnDrop(futures_util::future::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Spawn for SimSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn Send + Sync> {
        let (task, handle) = abortable(task);
        self.sim.spawn(self.process, async move {
            // An abort is how a task's owner lets go of it.
            let _ = task.await;
        });
        Box::new(AbortOnDrop(handle))
    }
}

/// The places of the parts of an event.
fn places(versions: VersionMode) -> [(&'static str, Vec<&'static str>); 6] {
    let version = if versions == VersionMode::Given { vec!["/version"] } else { vec![] };
    [
        ("aggregateId", vec!["key", "/aggregateId"]),
        ("eventType", vec!["/type"]),
        ("version", version),
        ("eventId", vec!["/id"]),
        ("time", vec!["/timestamp"]),
        ("data", vec!["/data"]),
    ]
}

impl OnceDecoder {
    fn new(versions: VersionMode) -> Self {
        let [id, kind, version, event, time, data] = places(versions).map(|(_, places)| {
            let parse = |place: &str| Place::parse(place, "orders").expect("a place");
            places.into_iter().map(parse).collect::<Vec<Place>>()
        });
        let mapping = Mapping {
            aggregate_id: id,
            event_type: kind,
            version: (!version.is_empty()).then_some(version),
            version_base: 1,
            event_id: event,
            time,
            data: Some(data),
        };
        Self { decoder: JsonDecoder::new(mapping, Limits::default()), decoded: Mutex::default() }
    }
}

/// The reducer of a lineage: where rules fold, every other lineage has others, so that states which mix are
/// wrong.
fn reducer_yaml(shape: Shape, lineage: Lineage) -> &'static str {
    match shape {
        Shape::Rules if lineage.0.is_multiple_of(2) => {
            r#"
init: { status: new, total: 0, items: {} }
on:
  ItemAdded:
    - upsert: { at: "items[.sku]", new: { price: .price, qty: 1 }, add: { qty: .qty } }
    - set: { last: .price }
  AddressChanged: [ { set: { address: . } } ]
  OrderCancelled: [ { set: { status: cancelled } }, { unset: [address] } ]
  OrderDeleted: [ { delete: true } ]
  "*": [ { add: { events: 1 } } ]
"#
        }
        Shape::Rules => {
            r#"
init: { status: new, total: 0, items: {} }
on:
  ItemAdded:
    - upsert: { at: "items[.sku]", new: { price: .price, qty: 0 }, add: { qty: .qty } }
    - add: { total: .price }
  AddressChanged: [ { set: { address: . } } ]
  OrderCancelled: [ { set: { status: cancelled } }, { unset: [address] } ]
  OrderDeleted: [ { delete: true } ]
  "*": [ { add: { eventCount: 1 } } ]
"#
        }
        Shape::Merge => "merge",
        Shape::Replace => "replace",
        Shape::Patch => "json-patch",
    }
}

impl Subject {
    /// What a seed draws.
    pub(crate) fn drawn(seed: u64, versions: VersionMode) -> Self {
        let mut rng = Rng::new(seed ^ 0x50b_1ec7);
        let full_every = u32::try_from(rng.between(2, 4)).unwrap_or(2);
        let strategy = match rng.below(5) {
            0 => Strategy::Full,
            2 => Strategy::Auto { full_every, every: 3 },
            1 => Strategy::Incremental { full_every: 1 },
            _ => Strategy::Incremental { full_every },
        };
        let checkpoint_ms = *rng.pick(&[100, 200, 400]);
        let memory = *rng.pick(&[4_000, 12_000, 1 << 20]);
        let partition = Settings {
            events_max: rng.between(3, 12),
            age_ms_max: *rng.pick(&[500, 1_500, 4_000]),
            bytes_max: rng.between(600, 6_000),
            write_amplification_permille: *rng.pick(&[0, 1_000]),
            strategy,
            memory_bytes_max: usize::try_from(memory).unwrap_or(4_000),
            // A generator of its own: what a seed means otherwise stays as it was.
            uncovered_bytes_max: *Rng::new(seed ^ 0xc0_4e4d).pick(&[1_500, 6_000, 1 << 20]),
            loads_max: rng.index(4) + 1,
            snapshots_max: rng.index(6) + 1,
            live_bytes_max: rng.between(5_000, 60_000),
            hot_max: rng.index(6),
            // Generators of their own: what a seed means otherwise stays as it was.
            adaptive_us: *Rng::new(seed ^ 0xada_9713).pick(&[None, None, Some(40), Some(1_010)]),
            back_off: BackOff { records_max: Rng::new(seed ^ 0xbac_0ff).between(0, 30), ms_max: 1_000 },
        };
        let algorithm = *rng.pick(&[Algorithm::None, Algorithm::None, Algorithm::Zstd, Algorithm::Lz4]);
        Self {
            versions,
            shape: *rng.pick(&[Shape::Rules, Shape::Rules, Shape::Merge, Shape::Replace, Shape::Patch]),
            on_poison: *rng.pick(&[OnPoison::Quarantine, OnPoison::Quarantine, OnPoison::Skip]),
            strategy,
            history: crate::promises::of_seed(seed, strategy.keeps_events()),
            compression: CompressionPlan {
                compression: Compression { algorithm, level: 1, threshold: 64 },
                // A generator of its own: what a seed means otherwise stays as it was.
                dictionary: *Rng::new(seed ^ 0x0d1c_7107).pick(&[
                    Some(Privacy::Strict),
                    Some(Privacy::Off),
                    Some(Privacy::Off),
                    None,
                ]),
                // Training takes longer than anything else here: twice in a worker's life must do.
                train_at: [12, 60, u64::MAX],
            },
            settings: WorkerSettings {
                partition,
                checkpoint_ms,
                linger_ms: *rng.pick(&[0, 10, 50]),
                linger_items: rng.index(8) + 1,
                // Of a few aggregates.
                flush_bytes_max: 4 << 10,
                flushes: rng.index(3) + 1,
                tick_ms: *rng.pick(&[20, 50]),
                records_max: *rng.pick(&[1, 5, 50]),
                retry_ms: 20,
                revoke_ms: *rng.pick(&[100, 300]),
                shutdown_ms: 300,
            },
            limits: FlushLimits { deadline_ms: *rng.pick(&[600, 1_500]), retry_ms: 20 },
            reads_max: rng.index(4) + 1,
            partitioner: *rng.pick(&[Partitioner::Unknown, Partitioner::Murmur2, Partitioner::Crc32]),
            caching: rng.percent(60),
            schedules: crate::schedules::of_seed(seed),
            erases: false,
            decoder: Arc::new(OnceDecoder::new(versions)),
        }
    }

    /// A subject of which nothing happens by itself but checkpoints, every 100 ms: for directed scenarios.
    pub(crate) fn staged(versions: VersionMode) -> Self {
        let strategy = Strategy::Incremental { full_every: 2 };
        let partition = Settings {
            events_max: u64::MAX,
            age_ms_max: 1 << 40,
            bytes_max: 1 << 40,
            write_amplification_permille: 0,
            strategy,
            memory_bytes_max: 1 << 20,
            uncovered_bytes_max: 1 << 20,
            loads_max: 4,
            snapshots_max: 4,
            live_bytes_max: u64::MAX,
            hot_max: 4,
            adaptive_us: None,
            back_off: BackOff { records_max: u64::MAX, ms_max: u64::MAX },
        };
        Self {
            versions,
            shape: Shape::Rules,
            on_poison: OnPoison::Quarantine,
            strategy,
            history: History::Forever,
            compression: CompressionPlan {
                compression: Compression { algorithm: Algorithm::None, level: 1, threshold: 64 },
                dictionary: None,
                ..CompressionPlan::default()
            },
            settings: WorkerSettings {
                partition,
                checkpoint_ms: 100,
                linger_ms: 0,
                linger_items: 1,
                flush_bytes_max: usize::MAX,
                flushes: 1,
                tick_ms: 20,
                records_max: 50,
                retry_ms: 20,
                revoke_ms: 100,
                shutdown_ms: 300,
            },
            limits: FlushLimits { deadline_ms: 1 << 40, retry_ms: 20 },
            reads_max: 4,
            partitioner: Partitioner::Unknown,
            caching: false,
            schedules: false,
            erases: false,
            decoder: Arc::new(OnceDecoder::new(versions)),
        }
    }

    /// The same with this much memory for a partition, in bytes.
    pub(crate) fn remembering(mut self, bytes: usize) -> Self {
        self.settings.partition.memory_bytes_max = bytes;
        self
    }

    /// The same, and what is snapshotted within a moment goes into one pack.
    pub(crate) fn writing_together(mut self) -> Self {
        (self.settings.linger_ms, self.settings.linger_items) = (200, 8);
        self
    }

    /// The same, and records come one by one.
    pub(crate) fn reading_one_by_one(mut self) -> Self {
        self.settings.records_max = 1;
        self
    }

    /// The same with an `eventThreshold` and a strategy, and flushes that are given up after so long.
    pub(crate) fn spaced(events_max: u64, strategy: Strategy, deadline_ms: u64) -> Self {
        let mut subject = Self::staged(VersionMode::Given).storing(strategy);
        subject.settings.partition.events_max = events_max;
        subject.settings.partition.write_amplification_permille = 1_000;
        subject.settings.partition.memory_bytes_max = 16 << 20;
        subject.settings.partition.uncovered_bytes_max = 16 << 20;
        subject.limits.deadline_ms = deadline_ms;
        subject
    }

    /// The same with another strategy.
    pub(crate) fn storing(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self.settings.partition.strategy = strategy;
        self
    }

    /// The same, and whoever asks keeps states.
    #[cfg(not(feature = "runtime"))]
    pub(crate) fn with_cache(mut self) -> Self {
        self.caching = true;
        self
    }

    /// What an old lineage was folded with.
    pub(crate) fn old(&self, ports: &Ports, of: Active) -> OldLineage {
        let spec = &ports.streams[0].spec;
        OldLineage {
            lineage: of.lineage,
            topic_id: of.topic_id,
            partitions: u32::try_from(spec.partitions).unwrap_or(1),
            rules: self.rules(spec.kind, of.lineage),
            decoder: Arc::clone(&self.decoder) as Arc<dyn Decode>,
        }
    }

    fn rules(&self, kind: &str, lineage: Lineage) -> Rules {
        let yaml = snapfold::codec::yaml::parse(reducer_yaml(self.shape, lineage));
        let yaml = yaml.expect("the reducer is YAML");
        Rules {
            kind: kind.into(),
            reducer: snapfold::domain::reducer::parse(&yaml).expect("the reducer is one"),
            versions: match self.versions {
                VersionMode::Given => Versions::Given,
                VersionMode::Counted => Versions::CountedOnce,
            },
            on_poison: self.on_poison,
            state_bytes_max: STATE_BYTES_MAX,
            limits: Limits::default(),
        }
    }

    /// An empty ledger of a lineage of the same stream.
    pub(crate) fn ledger(&self, kind: &str, lineage: Lineage) -> Ledger {
        let [aggregate_id, event_type, version, event_id, time, data] =
            places(self.versions).map(|(_, places)| places.into_iter().map(str::to_owned).collect());
        Ledger::new(Spec {
            kind: kind.to_owned(),
            map: Map { aggregate_id, event_type, version, event_id, time, data },
            versions: match self.versions {
                VersionMode::Given => ledger::Versions::Given { base: 1 },
                VersionMode::Counted => ledger::Versions::Counted,
            },
            reducer_yaml: reducer_yaml(self.shape, lineage).to_owned(),
            on_poison: match self.on_poison {
                OnPoison::Skip => ledger::OnPoison::Skip,
                OnPoison::Quarantine => ledger::OnPoison::Quarantine,
                OnPoison::Halt => ledger::OnPoison::Halt,
            },
            max_event_bytes: Limits::default().max_bytes,
            max_state_bytes: STATE_BYTES_MAX,
            max_depth: Limits::default().max_depth,
        })
    }

    /// A reader over a process's ports.
    pub(crate) fn reader(&self, ports: &Ports, active: Active) -> Reconstructor {
        let stream = &ports.streams[0];
        let packs = Packs::new(Arc::clone(&ports.index), Arc::clone(&ports.blobs), self.compression, [0; 16]);
        Reconstructor {
            index: Arc::clone(&ports.index),
            packs: Arc::new(packs),
            log: Arc::clone(&stream.log),
            decoder: Arc::clone(&self.decoder) as Arc<dyn Decode>,
            rules: self.rules(stream.spec.kind, active.lineage),
            topic_id: active.topic_id,
            health: Arc::default(),
        }
    }

    /// Questions over a process's ports.
    pub(crate) fn lookup(
        &self,
        ports: &Ports,
        active: Active,
        reader: Reconstructor,
        owners: Arc<dyn LiveHeads>,
    ) -> Lookup {
        let settings = LookupSettings {
            reads_max: self.reads_max,
            partitioner: self.partitioner,
            archived_after_ms: Some(0),
            ..Default::default()
        };
        self.lookup_with(ports, active, reader, owners, settings)
    }

    /// The same within other bounds.
    pub(crate) fn lookup_with(
        &self,
        ports: &Ports,
        active: Active,
        reader: Reconstructor,
        owners: Arc<dyn LiveHeads>,
        settings: LookupSettings,
    ) -> Lookup {
        Lookup::new(lookup::Components {
            reader,
            owners,
            clock: Arc::clone(&ports.clock),
            cache: if self.caching { Arc::new(TinyCache::default()) } else { Arc::new(NoCache) },
            topic: ports.streams[0].spec.topic.into(),
            lineage: active.lineage,
            settings,
        })
    }

    /// All that a worker is made of, over a process's ports.
    pub(crate) fn components(&self, ports: &Ports, active: Active) -> Components {
        let stream = &ports.streams[0];
        let reader = self.reader(ports, active);
        let store = SnapshotStore {
            index: Arc::clone(&ports.index),
            packs: Arc::clone(&reader.packs),
            clock: Arc::clone(&ports.clock),
            compute: Arc::new(Inline),
            limits: self.limits,
            written: Arc::default(),
        };
        Components {
            dead_letters: None,
            group: Arc::clone(&stream.group),
            log: Arc::clone(&stream.log),
            store: Arc::new(store),
            clock: Arc::clone(&ports.clock),
            folding: Arc::new(SimSpawn { sim: ports.sim.clone(), process: ports.process }),
            spawn: Arc::new(SimSpawn { sim: ports.sim.clone(), process: ports.process }),
            decoder: Arc::clone(&reader.decoder) as Arc<dyn Decode>,
            rules: reader.rules.clone(),
            topic: stream.spec.topic.into(),
            topic_id: active.topic_id,
            lineage: active.lineage,
            partitions: u32::MAX,
            settings: self.settings.clone(),
            reader,
        }
    }

    /// How the world starts one worker.
    pub(crate) fn boot(&self, fleet: &Fleet) -> Boot {
        let (subject, fleet) = (self.clone(), fleet.clone());
        Arc::new(move |ports: Ports| {
            let active = *lock(&fleet.active);
            let components = subject.components(&ports, active);
            let reader = components.reader.clone();
            let packs = Arc::clone(&reader.packs);
            let compactor = compactor(&components, subject.history);
            lock(&fleet.compactors).insert(ports.process, compactor);
            let (worker, handle) = Worker::new(components);
            let lookup = subject.lookup(&ports, active, reader, Arc::new(handle.clone()));
            if subject.erases {
                crate::purging::heed(&ports, &handle, &packs);
            }
            if subject.schedules {
                crate::schedules::start(&ports, &handle, &lookup);
            }
            lock(&fleet.workers).push((ports.process, active, handle, lookup));
            Box::pin(worker.run(Box::pin(pending())))
        })
    }
}
