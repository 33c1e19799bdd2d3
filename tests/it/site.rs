//! A broker that outlives workers: the test holds it, `run` children come and go on one folder.

use crate::ledger::{OnPoison, Spec, Versions};
use crate::process::{Api, LONG, Program, command, until};
use crate::truth::{places, reducer};
use snapfold::domain::ids::{PartitionNo, Timestamp};
use snapfold::kafka::{MockBroker, Outgoing, Producer, ProducerSettings};
use std::path::{Path, PathBuf};

/// Counted versions, the id in the key, rules, deletions; every part of a record in use.
pub(crate) const ORDERS: &str = r#"
streams:
  - type: order
    topic: orders
    format: json
    map: { aggregateId: key, eventType: ["header:type", /type], eventId: /id, time: /at, data: /data }
    reducer:
      init: { status: new, total: 0, items: {} }
      on:
        ItemAdded:
          - upsert: { at: "items[.sku]", new: { price: .price, qty: 0 }, add: { qty: .qty } }
          - add: { total: ".qty * .price" }
        Shipped: [ { set: { status: shipped, note: .note } } ]
        Deleted: [ { delete: true } ]
        "*": [ { add: { eventCount: 1 } } ]
    snapshot: { eventThreshold: 5, fullEvery: 4, timeThreshold: 10s }
"#;

/// [`ORDERS`] for the ledger.
pub(crate) fn orders_spec(on_poison: OnPoison) -> Spec {
    let mut spec = crate::truth::bundled_spec("order", ORDERS);
    spec.map.aggregate_id = places(&["key"]);
    spec.map.event_type = places(&["header:type", "/type"]);
    spec.map.time = places(&["/at"]);
    spec.map.version = Vec::new();
    spec.versions = Versions::Counted;
    spec.reducer_yaml = reducer(ORDERS);
    spec.on_poison = on_poison;
    spec
}

/// A record to write.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) time_ms: i64,
}

pub(crate) struct Site {
    runtime: tokio::runtime::Runtime,
    producer: Producer,
    producing: ProducerSettings,
    /// Ends when it is dropped, after the producer.
    broker: Option<MockBroker>,
    group: String,
    folder: tempfile::TempDir,
    topic: String,
}

/// Where rows and packs are kept.
enum Stores {
    Embedded,
    Cluster { node: String, endpoint: String },
}

impl Stores {
    /// `path` names a file of the site.
    fn configuration(&self, path: &dyn Fn(&str) -> String) -> String {
        match self {
            Self::Embedded => format!(
                "index: {{ embedded: {{ path: \"{}\" }} }}\nblobs: {{ directory: {{ path: \"{}\" }} }}",
                path("index"),
                path("blobs")
            ),
            Self::Cluster { node, endpoint } => {
                let secrets = [("password", "cassandra"), ("access", "snapfold"), ("secret", "secretsecret")];
                secrets.iter().for_each(|(name, text)| std::fs::write(path(name), text).unwrap());
                let name = crate::servers::unique("it");
                let bucket = name.replace('_', "-");
                format!(
                    "index: {{ scylla: {{ nodes: [\"{node}\"], keyspace: {name}, replicationFactor: 1, username: cassandra, \
                     password: {{ fromFile: \"{}\" }} }} }}\n\
                     blobs: {{ s3: {{ bucket: {bucket}, endpoint: \"{endpoint}\", pathStyle: true, \
                     accessKey: {{ fromFile: \"{}\" }}, secretKey: {{ fromFile: \"{}\" }} }} }}",
                    path("password"),
                    path("access"),
                    path("secret")
                )
            }
        }
    }
}

impl Site {
    /// `streams` is the configuration without brokers and stores; `more` is added to it.
    pub(crate) fn new(streams: &str, more: &str, topic: &str, partitions: i32) -> Self {
        Self::mocked(streams, more, (topic, partitions), &[])
    }

    /// The same, where workers have these properties of Kafka.
    pub(crate) fn mocked(
        streams: &str,
        more: &str,
        (topic, partitions): (&str, i32),
        properties: &[(&str, &str)],
    ) -> Self {
        let broker = MockBroker::start(&[(topic, partitions)]).unwrap();
        let brokers = broker.bootstrap().to_owned();
        Self::on(
            Some(broker),
            &brokers,
            (&brokers, properties),
            &format!("{streams}\n{more}"),
            topic,
            Stores::Embedded,
        )
    }

    /// The same on the real broker, which has the topic already.
    pub(crate) fn on_kafka(streams: &str, more: &str, topic: &str) -> Self {
        let (plain, _) = crate::servers::kafka();
        Self::on(None, &plain, (&plain, &[]), &format!("{streams}\n{more}"), topic, Stores::Embedded)
    }

    /// The same, where workers use the broker's secure address with these properties.
    pub(crate) fn secured(streams: &str, topic: &str, properties: &[(&str, &str)]) -> Self {
        let (plain, secure) = crate::servers::kafka();
        Self::on(None, &plain, (&secure, properties), streams, topic, Stores::Embedded)
    }

    /// The same on the plain address.
    pub(crate) fn tuned(streams: &str, topic: &str, properties: &[(&str, &str)]) -> Self {
        let (plain, _) = crate::servers::kafka();
        let streams = format!("{streams}\ncheckpoint: {{ interval: 300ms }}");
        Self::on(None, &plain, (&plain, properties), &streams, topic, Stores::Embedded)
    }

    /// Everything real: Kafka, Cassandra and SeaweedFS, with a keyspace and a bucket of its own. Several
    /// workers may run at once.
    pub(crate) fn cluster(streams: &str, more: &str, topic: &str) -> Self {
        Self::cluster_of(&crate::servers::start, streams, more, topic)
    }

    /// The same on the servers that `start` starts.
    pub(crate) fn cluster_of(start: &dyn Fn(&str) -> String, streams: &str, more: &str, topic: &str) -> Self {
        let (plain, _) = crate::servers::addresses(&start("kafka"));
        let streams = format!("{streams}\n{more}");
        let stores = Stores::Cluster { node: start("cassandra"), endpoint: start("seaweedfs") };
        let site = Self::on(None, &plain, (&plain, &[]), &streams, topic, stores);
        let config = site.folder.path().join("config.yaml").display().to_string();
        let ended = Program::start(&["migrate", "--config", &config]).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        site
    }

    /// Events are written to `brokers`; workers use the other address, with more properties.
    fn on(
        broker: Option<MockBroker>,
        brokers: &str,
        (workers, properties): (&str, &[(&str, &str)]),
        streams: &str,
        topic: &str,
        stores: Stores,
    ) -> Self {
        let mut producing = ProducerSettings::new(brokers);
        // Topics come, go and grow while it lives.
        producing.properties.insert("topic.metadata.refresh.interval.ms".into(), "1000".into());
        let producer = Producer::start(&producing).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (stores, group) = (stores.configuration(&path), crate::servers::unique("it"));
        let quick = [("session.timeout.ms", "2000"), ("heartbeat.interval.ms", "200")];
        let properties = quick.iter().chain(properties);
        let properties: String =
            properties.map(|(name, value)| format!("    {name}: \"{value}\"\n")).collect();
        let config = format!(
            "{streams}\nkafka:\n  brokers: \"{workers}\"\n  group: {group}\n  properties:\n{properties}\
             {stores}\nhttp: {{ listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}\n"
        );
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (runtime, topic) = (runtime.unwrap(), topic.to_owned());
        Self { runtime, producer, producing, broker, folder, topic, group }
    }

    /// The mock cluster.
    pub(crate) fn broker(&self) -> &MockBroker {
        self.broker.as_ref().unwrap()
    }

    /// The group of its workers.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// A worker on the site's folder; the one before must be gone.
    pub(crate) fn worker(&self) -> Program {
        self.worker_with(&[])
    }

    /// A worker that does not hear of Ctrl-C, although this process does.
    pub(crate) fn worker_apart(&self) -> Program {
        let mut command = command(&["run", "--config", &self.config().display().to_string()]);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Program::spawn(command)
    }

    /// The configuration of its workers.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// The same, with more arguments.
    pub(crate) fn worker_with(&self, more: &[&str]) -> Program {
        let config = self.config().display().to_string();
        Program::start(&[&["run", "--config", &config], more].concat())
    }

    /// Writes records in order, and waits until they are written; where.
    pub(crate) fn send(&self, records: &[Sending]) -> Vec<(i32, i64)> {
        self.send_by(&self.producer, records)
    }

    /// The same by a client that has just started: one that lived while brokers answered with errors may have
    /// had some of them, and take the brokers for older ones from then on.
    pub(crate) fn send_by_a_new_client(&self, records: &[Sending]) -> Vec<(i32, i64)> {
        self.send_by(&Producer::start(&self.producing).unwrap(), records)
    }

    fn send_by(&self, producer: &Producer, records: &[Sending]) -> Vec<(i32, i64)> {
        let writing = async {
            let mut deliveries = Vec::new();
            for record in records {
                let outgoing = Outgoing {
                    topic: &self.topic,
                    partition: Some(PartitionNo(record.partition)),
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &[],
                    timestamp: Some(Timestamp(record.time_ms)),
                };
                deliveries.push(producer.send(outgoing).await.unwrap());
            }
            let mut places = Vec::new();
            for delivery in deliveries {
                let (partition, offset) = delivery.await.unwrap();
                places.push((partition.0, offset.0));
            }
            places
        };
        self.runtime.block_on(async { tokio::time::timeout(LONG, writing).await }).expect("written in time")
    }

    /// All files of packs.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.folder.path().join("blobs"), &mut files);
        files.retain(|file| file.to_string_lossy().ends_with(".sfp"));
        files
    }

    /// All files of the blob store.
    pub(crate) fn blobs(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.folder.path().join("blobs"), &mut files);
        files
    }
}

pub(crate) fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// Waits until so many records are folded, and, if asked, covered by snapshots and checkpoints.
pub(crate) fn settled(api: &Api, records: u64, is_covered: bool) {
    all_settled(std::slice::from_ref(api), records, is_covered);
}

/// The same for workers that share the partitions.
pub(crate) fn all_settled(apis: &[Api], records: u64, is_covered: bool) {
    until("everything folded", || {
        let (mut position, mut low_watermark) = (0, 0);
        for api in apis {
            let Ok(reply) = api.get("/readyz?verbose=true") else { return false };
            let body = reply.json();
            let Some(partitions) = body["partitions"].as_array() else { return false };
            let sum = |name: &str| partitions.iter().map(|one| one[name].as_u64().unwrap_or(0)).sum::<u64>();
            position += sum("position");
            low_watermark += sum("lowWatermark");
        }
        position == records && (!is_covered || low_watermark == records)
    });
}
