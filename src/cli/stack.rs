//! The composition root of every worker process: configuration in, a running stack out. No decisions about
//! events are made here; this file only knows who needs whom.
//!
//! *Order*: stores, then Kafka, then the lineage of each stream, then workers, then the API. Stopping goes
//!   backwards: readiness off, workers cover what is dirty, the group is left, the API ends last.

use super::compaction;
use super::duties;
use super::failure::{Done, Exit, Failure};
use super::health::{Health, Watchdog};
use super::listen::{advertised, listen};
use super::old_lineages::{OldLineages, active_lineage};
use super::recovery;
use super::run::{RETRY_MS, fault, first_answer};
use super::samples;
use super::schemas::SchemaSource;
use super::settings::{compression, consumer_settings, keep, lookup_settings, session, worker_settings};
use super::stores::{Meters, Stores};
use super::takes::{self, Topics as PartitionsOf};
use super::upkeep;
use crate::clock::Clock;
use crate::compute::Threads;
use crate::config::{self, Config, Stream};
use crate::domain::ids::Lineage;
use crate::http::{self, App, Readiness};
use crate::kafka::{Consumer, DeadLetterTopic, DeadLetters, Producer, ProducerSettings, Topics};
use crate::lookup::owners::{self, Owners};
use crate::lookup::{self, Lookup, Streams};
use crate::reconstruct::Reconstructor;
use crate::store::SnapshotStore;
use crate::store::flush::{FlushLimits, Written};
use crate::store::packs::Packs;
use crate::telemetry::metrics::Metrics;
use crate::upkeep::compaction::{self as compaction_duty, Compactor};
use crate::upkeep::merging;
use crate::upkeep::retention::Keep;
use crate::upkeep::scrub::{Pace, Scrubbed};
use crate::worker::{Components, Handle, TokioSpawn, Worker, announce};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// From minting a pack id to the last acknowledgement (rule 1).
pub(super) const FLUSH_DEADLINE_MS: u64 = 600_000;
/// Dead letters that are on their way to their topic.
const DEAD_LETTERS_MAX: u32 = 1_000;
/// Their bytes; one alone may be larger.
const DEAD_LETTER_BYTES_MAX: u32 = 4 << 20;
/// Between two looks at the list of erasures.
const ERASURES_EVERY: Duration = Duration::from_secs(2);
/// What to do where brokers do not.
pub(super) const BROKERS: &str = "check `kafka.brokers` and that the brokers are up; a topic that is missing is made by \
                       `kafka-topics.sh --create --topic NAME`";

/// The text of the scrape.
type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// A running worker process.
pub(super) struct Stack {
    /// Who answers, by aggregate type.
    pub(super) streams: Arc<Streams>,
    /// Who folds, by aggregate type.
    pub(super) workers: BTreeMap<Arc<str>, Handle>,
    /// Whom to ask about partitions of others, by aggregate type.
    owners: BTreeMap<Arc<str>, Arc<Owners>>,
    /// What is kept, by aggregate type.
    keep: BTreeMap<Arc<str>, Keep>,
    /// Who merges history, by aggregate type.
    compactors: BTreeMap<Arc<str>, Arc<Compactor>>,
    /// What was merged in the background.
    merged: Arc<merging::Tallies>,
    /// What is said about schedules, and who executes them.
    schedules: takes::Schedules,
    /// What was written since the start.
    pub(super) written: Arc<Written>,
    /// Where the API listens.
    pub(super) address: SocketAddr,
    /// Where health and metrics are served beside the API, if that is another port.
    pub(super) admin: Option<SocketAddr>,
    /// May readiness say yes? `dev` says so once everything is fed.
    pub(super) open: Arc<AtomicBool>,
    consumer: Arc<Consumer>,
    meters: Meters,
    watchdog: Arc<Mutex<Watchdog>>,
    /// URL under which other workers reach this one.
    advertised: Option<Arc<str>>,
    /// How other workers are asked.
    peers: reqwest::Client,
    schemas: SchemaSource,
    /// Where dead letters go beside the index.
    dead_letters: Option<Arc<DeadLetterTopic>>,
    /// What was seen in the background, by aggregate type.
    scrubs: BTreeMap<Arc<str>, Arc<Scrubbed>>,
    /// How fast all of them read together.
    pace: Arc<Pace>,
    stop: watch::Sender<bool>,
    folding: JoinSet<()>,
    serving: JoinSet<()>,
}

/// How many partitions there are.
#[derive(Clone, Copy, Debug)]
struct Partitions {
    /// Of the stream's topic.
    own: u32,
    /// Of all topics, at least one.
    all: u32,
}

/// What may differ from the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// Starts a new lineage where the fold has changed.
    pub(super) new_lineage: bool,
    /// Folds partitions that were added.
    pub(super) more_partitions: bool,
    /// The broker is this process's own, which compacts nothing and does not know the question.
    pub(super) own_broker: bool,
}

impl Stack {
    /// Starts everything and returns once the API listens; workers join their group meanwhile.
    pub(super) async fn start(config: &Config, options: Options) -> Done<Self> {
        let metrics = Metrics::install().map_err(|why| Failure::new(Exit::Failure, why))?;
        let listener = listen(&config.http.listen, "http.listen").await?;
        let address = listener.local_addr()?;
        // One address, one port for both; but port 0 is another one each time.
        let is_one = config.http.admin == config.http.listen && !config.http.listen.ends_with(":0");
        let admin = match is_one {
            true => None,
            false => Some(listen(&config.http.admin, "http.admin").await?),
        };
        let stores = Stores::open(config).await?;
        let topics = Topics::new(&consumer_settings(config, address)).map_err(fault)?;
        let consumer = Arc::new(Consumer::start(consumer_settings(config, address)).map_err(fault)?);
        let schemas = SchemaSource::open(config, &stores)?;
        let (metrics, (stop, _)) = (Arc::new(metrics), watch::channel(false));
        let mut stack = Self {
            streams: Arc::default(),
            workers: BTreeMap::new(),
            owners: BTreeMap::new(),
            schedules: takes::Schedules::none(&stores),
            keep: config.streams.iter().map(|stream| (Arc::clone(&stream.kind), keep(stream))).collect(),
            compactors: BTreeMap::new(),
            merged: Arc::default(),
            written: Arc::default(),
            address,
            admin: admin.as_ref().map(TcpListener::local_addr).transpose()?,
            open: Arc::new(AtomicBool::new(true)),
            meters: stores.meters.clone(),
            watchdog: Arc::default(),
            consumer,
            advertised: advertised(config, address),
            peers: owners::client().map_err(|why| Failure::new(Exit::Failure, why))?,
            schemas,
            dead_letters: dead_letter_topic(config, address)?,
            scrubs: BTreeMap::new(),
            pace: Arc::default(),
            stop,
            folding: JoinSet::new(),
            serving: JoinSet::new(),
        };
        stack.start_streams(config, &stores, topics, options).await?;
        duties::start(config, &stores, &stack.streams, &stack.workers, &mut stack.serving);
        let health = Arc::new(stack.health());
        if let Some(first) = config.streams.first() {
            let (health, topic) = (Arc::clone(&health), Arc::clone(&first.topic));
            stack.serving.spawn(async move { health.watch(topic).await });
        }
        stack.serving.spawn(duties::fold_histograms(Arc::clone(&metrics)));
        let source = {
            let (streams, cache, names) =
                (Arc::clone(&stack.streams), Arc::clone(&stores.cache), samples::names(&config.streams));
            let (written, health) = (Arc::clone(&stack.written), Arc::clone(&health));
            let (dead_letters, scrubs) = (stack.dead_letters.clone(), stack.scrubs.clone());
            let tallies = stack.schedules.tallies.clone();
            let merged = Arc::clone(&stack.merged);
            http::metrics::source(metrics, stack.workers.clone(), move || {
                let mut all = health.samples();
                all.extend(samples::of_log(&names, &health.workers, &health.consumer));
                all.extend(samples::of_written(&written));
                all.extend(samples::of_schedules(&tallies));
                all.extend(samples::of_scrubs(&scrubs));
                all.extend(samples::of_merged(&merged));
                all.extend(samples::of_questions(&streams, &*cache, &health.schemas));
                all.extend(dead_letters.as_deref().map(samples::of_dead_letters).unwrap_or_default());
                all.extend(samples::of_process());
                all
            })
        };
        stack.serve(listener, admin, (config, &stores), health, source);
        Ok(stack)
    }

    /// All streams, and who looks after their topics.
    async fn start_streams(
        &mut self,
        config: &Config,
        stores: &Stores,
        topics: Topics,
        options: Options,
    ) -> Done {
        let mut counts = Vec::with_capacity(config.streams.len());
        for stream in &config.streams {
            let (_, log) = self.consumer.stream(&stream.topic);
            let doing = format!("ask for the partitions of topic `{}`", stream.topic);
            counts.push(first_answer(&doing, BROKERS, || log.partition_count()).await?);
            if !options.own_broker {
                compaction::refuse(&topics, &stream.topic).await?;
            }
        }
        if let Some(topic) = &config.dead_letter_topic {
            let doing = format!("ask for the id of topic `{topic}` (`deadLetters.topic`)");
            first_answer(&doing, BROKERS, || self.consumer.topic_id(topic).boxed()).await?;
        }
        let all = counts.iter().sum::<u32>().max(1);
        let named = config.streams.iter().map(|stream| (Arc::clone(&stream.kind), Arc::clone(&stream.topic)));
        let topics_of: PartitionsOf =
            named.zip(&counts).map(|((kind, topic), own)| (kind, (topic, *own))).collect();
        let mut by_type = BTreeMap::new();
        for (stream, own) in config.streams.iter().zip(counts) {
            let lookup = self.start_stream(config, stream, stores, Partitions { own, all }, options).await?;
            by_type.insert(Arc::clone(&stream.kind), Arc::new(lookup));
        }
        self.streams = Arc::new(Streams { by_type });
        self.schedules =
            takes::Schedules::start(&mut self.serving, stores, topics_of, (&self.streams, &self.workers));
        let watched = config.streams.iter().map(|stream| Arc::clone(&stream.topic));
        let watched = watched.zip(config.streams.iter().map(|stream| self.workers[&stream.kind].clone()));
        if !options.own_broker {
            self.serving.spawn(compaction::watch(topics, watched.collect()));
        }
        Ok(())
    }

    /// One stream: its lineage, its worker, and who answers for it.
    async fn start_stream(
        &mut self,
        config: &Config,
        stream: &Stream,
        stores: &Stores,
        partitions: Partitions,
        options: Options,
    ) -> Done<Lookup> {
        let decoder = self.schemas.decoder(stream);
        let clock = Arc::clone(&stores.clock) as Arc<dyn Clock>;
        let ports = self.consumer.stream(&stream.topic);
        let (group, log) = self.schemas.prepared(stream, &decoder, clock, ports);
        let doing = format!("ask for the id of topic `{}`", stream.topic);
        let topic_id =
            first_answer(&doing, BROKERS, || self.consumer.topic_id(&stream.topic).boxed()).await?;
        let lineage = active_lineage(stream, stores, topic_id, partitions.own, options).await?;
        let packs = Packs::new(
            Arc::clone(&stores.index),
            Arc::clone(&stores.blobs),
            compression(stream),
            session(&stores.clock),
        );
        recovery::refuse_lost_index(stream, &packs, stores, (lineage, partitions.own)).await?;
        let reader = Reconstructor {
            index: Arc::clone(&stores.index),
            packs: Arc::new(packs),
            log: Arc::clone(&log),
            decoder: Arc::clone(&decoder),
            rules: stream.rules(),
            topic_id,
            health: Arc::default(),
        };
        reader.packs.erasures.refresh().await.map_err(fault)?;
        let (store, folding) = self.store(stores, &reader)?;
        let store = Arc::new(store);
        let compactor = Compactor::new(compaction_duty::Parts {
            reader: reader.clone(),
            store: Arc::clone(&store),
            topic: Arc::clone(&stream.topic),
            lineage,
            events_stay: matches!(stream.history, config::History::Forever),
        });
        let (worker, handle) = Worker::new(Components {
            group,
            log,
            dead_letters: self.dead_letters.clone().map(|topic| topic as Arc<dyn DeadLetters>),
            store: Arc::clone(&store),
            reader: reader.clone(),
            clock: Arc::clone(&stores.clock) as Arc<dyn Clock>,
            folding: Arc::new(folding),
            spawn: Arc::new(TokioSpawn::new(tokio::runtime::Handle::current())),
            decoder,
            rules: stream.rules(),
            topic: Arc::clone(&stream.topic),
            topic_id,
            lineage,
            partitions: partitions.own,
            settings: worker_settings(config, stream, partitions.all),
        });
        self.fold(worker);
        self.workers.insert(Arc::clone(&stream.kind), handle.clone());
        self.merge_history(config, stream, stores, (compactor, &handle));
        self.scrub(config, stream, (&reader, store), (lineage, handle.clone()));
        self.serving.spawn(heed_erasures(reader.clone(), handle.clone()));
        let owners = self.owners(stream, stores, lineage, handle);
        Ok(Lookup::new(lookup::Components {
            reader,
            owners,
            clock: Arc::clone(&stores.clock) as Arc<dyn Clock>,
            cache: Arc::clone(&stores.cache),
            topic: Arc::clone(&stream.topic),
            lineage,
            settings: lookup_settings(config, stream),
        }))
    }

    /// Runs a worker until the stack stops.
    fn fold(&mut self, worker: Worker) {
        let mut stop = self.stop.subscribe();
        self.folding.spawn(async move {
            let stopped = async move {
                // An error means that the stack is gone: the same.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            worker.run(Box::pin(stopped)).await;
        });
    }

    /// Reads what is stored of a stream in the background.
    fn scrub(
        &mut self,
        config: &Config,
        stream: &Stream,
        (reader, store): (&Reconstructor, Arc<SnapshotStore>),
        own: (Lineage, Handle),
    ) {
        let (scrubbing, seen) = upkeep::scrub(config, stream, reader, store, own, &self.pace);
        self.serving.spawn(scrubbing);
        self.scrubs.insert(Arc::clone(&stream.kind), seen);
    }

    /// Merges the history of a stream where it is asked to, and by itself where it is configured.
    fn merge_history(
        &mut self,
        config: &Config,
        stream: &Stream,
        stores: &Stores,
        (compactor, handle): (Compactor, &Handle),
    ) {
        if let Some(interval_ms) = config.compaction.interval_ms {
            let duty = merging::Duty {
                compactor: compactor.clone(),
                own: Arc::new(handle.clone()),
                clock: Arc::clone(&stores.clock) as Arc<dyn Clock>,
                settings: merging::Settings { interval_ms, keep_full: config.compaction.keep_snapshots },
                is_pressed: samples::pressed(&self.consumer, &stream.topic, handle),
                tallies: Arc::clone(&self.merged),
            };
            self.serving.spawn(duty.run());
        }
        self.compactors.insert(Arc::clone(&stream.kind), Arc::new(compactor));
    }

    /// What a worker writes with, and where it folds.
    fn store(&self, stores: &Stores, reader: &Reconstructor) -> Done<(SnapshotStore, TokioSpawn)> {
        let no_threads = |error| {
            Failure::new(Exit::Failure, format!("start threads: {error}")).hint("check the limits of threads")
        };
        let threads = Threads::start().map_err(no_threads)?;
        let folding = TokioSpawn::apart("fold").map_err(no_threads)?;
        let limits = FlushLimits { deadline_ms: FLUSH_DEADLINE_MS, retry_ms: RETRY_MS };
        Ok((stores.snapshots(&reader.packs, threads, limits, &self.written), folding))
    }

    /// Who answers for the newest states of a stream: this process, and whoever says so in the index. Others
    /// hear of this one where it has an address.
    fn owners(&mut self, stream: &Stream, stores: &Stores, lineage: Lineage, handle: Handle) -> Arc<Owners> {
        let (topic, index) = (Arc::clone(&stream.topic), Arc::clone(&stores.index));
        let clock = Arc::clone(&stores.clock) as Arc<dyn Clock>;
        if let Some(address) = self.advertised.clone() {
            let told = (Arc::clone(&topic), lineage);
            self.serving.spawn(announce(
                handle.clone(),
                Arc::clone(&index),
                Arc::clone(&clock),
                told,
                address,
            ));
        }
        let parts = owners::Parts {
            own: Arc::new(handle),
            index,
            clock,
            kind: Arc::clone(&stream.kind),
            topic,
            lineage,
            address: self.advertised.clone(),
        };
        let owners = Arc::new(Owners::new(parts, self.peers.clone()));
        self.owners.insert(Arc::clone(&stream.kind), Arc::clone(&owners));
        owners
    }

    fn serve(
        &mut self,
        listener: TcpListener,
        admin: Option<TcpListener>,
        (config, stores): (&Config, &Stores),
        health: Arc<Health>,
        metrics: Scrape,
    ) {
        let alive = Arc::clone(&health);
        let topics = samples::names(&config.streams);
        let lineages = OldLineages::new(stores, self.schemas.clone(), &self.streams, topics.clone());
        let lineages = Arc::new(lineages);
        self.serving.spawn(Arc::clone(&lineages).heed());
        let app = App {
            streams: Arc::clone(&self.streams),
            lineages,
            topics: topics.into_iter().collect(),
            workers: self.workers.clone(),
            owners: self.owners.clone(),
            schedules: Arc::clone(&self.schedules.book),
            keep: self.keep.clone(),
            compactors: self.compactors.clone(),
            metrics,
            readiness: Arc::new(move || health.ready()),
            liveness: Arc::new(move || alive.live()),
            stopping: self.stop.subscribe(),
        };
        let (all, health_only) = http::routers(app);
        let served = [Some((listener, all)), admin.map(|admin| (admin, health_only))];
        for (listener, router) in served.into_iter().flatten() {
            let mut stop = self.stop.subscribe();
            self.serving.spawn(async move {
                let stopped = async move {
                    let _ = stop.wait_for(|stop| *stop).await;
                };
                if let Err(error) = http::serve(listener, router, stopped).await {
                    tracing::error!(%error, "the API ended");
                }
            });
        }
    }

    /// What is known of the health of all that runs by now.
    fn health(&self) -> Health {
        Health {
            workers: self.workers.clone(),
            consumer: Arc::clone(&self.consumer),
            meters: self.meters.clone(),
            schemas: self.schemas.clone(),
            open: Arc::clone(&self.open),
            watchdog: Arc::clone(&self.watchdog),
        }
    }

    /// True once every partition has folded what the log held when it was assigned, and more came since.
    pub(super) fn readiness(&self) -> Readiness {
        self.health().ready()
    }

    /// Covers what is dirty, leaves the group, ends the API.
    pub(super) async fn stop(mut self) {
        self.open.store(false, Ordering::Relaxed);
        // Nobody listening means that all have ended by themselves.
        let _ = self.stop.send(true);
        while self.folding.join_next().await.is_some() {}
        self.consumer.close().await;
        self.serving.shutdown().await;
    }
}

/// The topic that gets dead letters as well, if one is configured.
fn dead_letter_topic(config: &Config, address: SocketAddr) -> Done<Option<Arc<DeadLetterTopic>>> {
    let Some(topic) = &config.dead_letter_topic else { return Ok(None) };
    let mut properties = consumer_settings(config, address).properties;
    // A letter that is too large must not take others with it.
    properties.insert("batch.num.messages".to_owned(), "1".to_owned());
    let settings = ProducerSettings {
        client_id: format!("snapfold-dead-letters@{address}"),
        properties,
        records_max: DEAD_LETTERS_MAX,
        bytes_max: DEAD_LETTER_BYTES_MAX,
        ..ProducerSettings::new(&config.kafka.brokers)
    };
    let producer = Producer::start(&settings).map_err(fault)?;
    Ok(Some(Arc::new(DeadLetterTopic::new(producer, topic))))
}

/// Looks whether an aggregate was erased, by whomever, and has the worker forget it.
async fn heed_erasures(reader: Reconstructor, handle: Handle) {
    let (erasures, mut heeded) = (&reader.packs.erasures, 0);
    loop {
        if let Err(error) = erasures.refresh().await {
            tracing::warn!(%error, "read the list of erasures");
        }
        // Nothing is ever taken off the list, so its length tells whether there is more on it.
        let erased = erasures.ids(&reader.rules.kind);
        if erased.len() > heeded {
            heeded = erased.len();
            handle.heed(&erased);
        }
        tokio::time::sleep(ERASURES_EVERY).await;
    }
}
