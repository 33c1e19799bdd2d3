//! What the tests of the Kafka adapters share: mock brokers with records, and members that keep a book.

use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::PortResult;
use snapfold::domain::record::RawRecord;
use snapfold::kafka::{
    Consumer, ConsumerSettings, Group, GroupEvent, MockBroker, Outgoing, Producer, ProducerSettings, Records,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Longer than anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The future's result, or a panic that names what did not come.
pub(crate) async fn within<T>(what: &str, time: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(time, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {time:?}"))
}

/// Settings for a mock broker; a group that notices changes sooner than in earnest.
pub(crate) fn settings(broker: &MockBroker, topics: &[&str]) -> ConsumerSettings {
    let mut settings = ConsumerSettings::new(broker.bootstrap(), "g", topics);
    for (name, value) in [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")] {
        settings.properties.insert(name.into(), value.into());
    }
    settings
}

/// The value of the n-th record of a partition.
pub(crate) fn value(partition: i32, n: i64) -> Vec<u8> {
    format!("{{\"partition\":{partition},\"n\":{n}}}").into_bytes()
}

/// A producer.
pub(crate) fn producer(broker: &MockBroker) -> Producer {
    Producer::start(&ProducerSettings::new(broker.bootstrap())).unwrap()
}

/// Writes the records `from..to` of each partition, and waits until they are written.
pub(crate) async fn fill(producer: &Producer, topic: &str, partitions: i32, from: i64, to: i64) {
    let mut deliveries = Vec::new();
    for n in from..to {
        for partition in 0..partitions {
            let (key, value) = (format!("k{n}"), value(partition, n));
            let out = Outgoing {
                topic,
                partition: Some(PartitionNo(partition)),
                key: Some(key.as_bytes()),
                value: Some(&value),
                ..Outgoing::default()
            };
            deliveries.push((partition, n, producer.send(out).await.unwrap()));
        }
    }
    for (partition, n, delivery) in deliveries {
        let place = within("a delivery", LONG, delivery).await.unwrap();
        assert_eq!(place, (PartitionNo(partition), Offset(n)), "a fresh topic, one producer, in order");
    }
}

/// The next assignment that is not empty.
pub(crate) async fn assigned(group: &dyn Group) -> Vec<PartitionNo> {
    match within("an assignment", LONG, group.next()).await {
        GroupEvent::Assigned(partitions) => partitions,
        other => panic!("{other:?} instead of an assignment"),
    }
}

/// Opens a partition, again and again while a rebalance is under way.
pub(crate) async fn open(group: &dyn Group, partition: i32, from: i64) -> Box<dyn Records> {
    let opening = async {
        loop {
            if let Ok(records) = group.records(PartitionNo(partition), Offset(from)).await {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("opening a partition", LONG, opening).await
}

/// Takes records until there are `count`.
pub(crate) async fn take(records: &mut dyn Records, count: usize) -> Vec<RawRecord> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let more = within("records", LONG, records.next(count - taken.len())).await.unwrap();
        assert!(!more.is_empty(), "an answer has records");
        taken.extend(more);
    }
    taken
}

/// Records that must be the ones written by [`fill`], from `from` on without a gap.
pub(crate) fn check(partition: i32, from: i64, records: &[RawRecord]) {
    for (n, record) in (from..).zip(records) {
        assert_eq!(record.offset, Offset(n), "partition {partition}");
        assert_eq!(record.value.as_deref(), Some(&value(partition, n)[..]));
        assert_eq!(record.key.as_deref(), Some(format!("k{n}").as_bytes()));
    }
}

/// Where each partition is, and who read how many records: what workers keep in the index.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) positions: BTreeMap<i32, i64>,
    pub(crate) read: BTreeMap<&'static str, u64>,
    pub(crate) lost: u64,
}

impl Book {
    pub(crate) fn total(&self) -> i64 {
        self.positions.values().sum()
    }
}

/// A member that reads its partitions from the book's positions on, and lets go when it is asked to.
pub(crate) struct Reading {
    pub(crate) consumer: Arc<Consumer>,
    task: JoinHandle<()>,
}

impl Reading {
    pub(crate) fn start(name: &'static str, settings: ConsumerSettings, book: &Arc<Mutex<Book>>) -> Self {
        let topic = Arc::clone(&settings.topics[0]);
        let consumer = Arc::new(Consumer::start(settings).unwrap());
        let (group, _) = consumer.stream(&topic);
        let book = Arc::clone(book);
        let task = tokio::spawn(async move {
            let mut tasks: BTreeMap<PartitionNo, JoinHandle<()>> = BTreeMap::new();
            loop {
                match group.next().await {
                    GroupEvent::Assigned(partitions) => {
                        for partition in partitions {
                            let one = read_one(name, Arc::clone(&group), partition.0, Arc::clone(&book));
                            tasks.insert(partition, tokio::spawn(one));
                        }
                    }
                    GroupEvent::Revoked(partitions) => {
                        for partition in &partitions {
                            stop(tasks.remove(partition)).await;
                        }
                        group.released(&partitions);
                    }
                    GroupEvent::Lost(partitions) => {
                        for partition in &partitions {
                            stop(tasks.remove(partition)).await;
                        }
                        book.lock().unwrap().lost += 1;
                    }
                }
            }
        });
        Self { consumer, task }
    }

    /// Leaves the group.
    pub(crate) async fn close(self) {
        self.task.abort();
        within("closing", LONG, self.consumer.close()).await;
        assert_eq!(self.consumer.strays(), 0, "a queue was not split");
    }
}

async fn stop(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        task.abort();
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
}

async fn read_one(name: &'static str, group: Arc<dyn Group>, partition: i32, book: Arc<Mutex<Book>>) {
    loop {
        let from = *book.lock().unwrap().positions.entry(partition).or_insert(0);
        let mut records = open(&*group, partition, from).await;
        loop {
            let batch: PortResult<Vec<RawRecord>> = records.next(100).await;
            let Ok(batch) = batch else { break };
            let mut book = book.lock().unwrap();
            let position = book.positions[&partition];
            check(partition, position, &batch);
            let count = i64::try_from(batch.len()).unwrap();
            book.positions.insert(partition, position + count);
            *book.read.entry(name).or_default() += batch.len() as u64;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the book says so.
pub(crate) async fn until(what: &str, book: &Mutex<Book>, done: impl Fn(&Book) -> bool) {
    within(what, LONG, async {
        while !done(&book.lock().unwrap()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
