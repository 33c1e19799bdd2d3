//! Topics: that of the events, which is filled once and then only read, and the changelogs of a peer.
//!
//! Partition p holds the aggregates p * A/P to (p + 1) * A/P, so a thread of its own can fill it, with the
//! events that `benches/ingest` has in it.

use super::events::Events;
use super::{fail, numbered};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Of the events, to one percent of the aggregates; as in `benches/ingest`.
const HOT_PERCENT: u64 = 50;
/// How long a broker may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(60);
/// Events that are made at once.
const BATCH: u64 = 1_000;

/// Counts records that the broker did not take.
#[derive(Clone, Default)]
struct Refused(Arc<AtomicU64>);

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, _)) = result {
            eprintln!("a record is lost: {error}");
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Makes a topic that never forgets, and fills it with `events` of `aggregates`. One that is there already
/// must hold as many.
pub(super) fn fill(brokers: &str, name: &str, events: u64, aggregates: usize, partitions: usize) {
    let is_new = create(brokers, name, partitions);
    if is_new {
        let share = aggregates / partitions;
        let each = events / partitions as u64;
        let make = |at: usize| {
            let events = Events::new(share, HOT_PERCENT).numbered_from(at * share);
            let (brokers, name) = (brokers.to_owned(), name.to_owned());
            std::thread::spawn(move || {
                produce(&brokers, &name, i32::try_from(at).expect("few partitions"), events, each);
            })
        };
        let threads: Vec<_> = (0..partitions).map(make).collect();
        for thread in threads {
            thread.join().expect("a partition is filled");
        }
    }
    let held: i64 = bounds(&consumer(brokers, "peers-fill"), name).iter().map(|(_, end)| end).sum();
    let wanted = events / partitions as u64 * partitions as u64;
    assert_eq!(u64::try_from(held), Ok(wanted), "`{name}` holds other events: delete it and try again");
    println!("{held}");
}

/// Answers whether it did not exist.
pub(super) fn create(brokers: &str, name: &str, partitions: usize) -> bool {
    let partitions = i32::try_from(partitions).expect("few partitions");
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
        // Its records are as old or new as their events are said to be.
        .set("retention.ms", "-1")
        .set("message.timestamp.after.max.ms", "9223372036854775807");
    let answers = block_on(admin(brokers).create_topics([&topic], &AdminOptions::new()));
    match answers.expect("the broker answers").remove(0) {
        Ok(_) => true,
        Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => false,
        Err((_, why)) => fail(&format!("make topic `{name}`: {why}")),
    }
}

pub(super) fn produce(brokers: &str, name: &str, partition: i32, mut events: Events, count: u64) {
    let refused = Refused::default();
    let producer: BaseProducer<Refused> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "50")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "100000")
        .create_with_context(refused.clone())
        .expect("a producer can be made");
    let mut left = count;
    while left > 0 {
        let now = left.min(BATCH);
        left -= now;
        for record in events.batch(usize::try_from(now).expect("it is at most a batch")) {
            let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
            let mut next = BaseRecord::to(name)
                .partition(partition)
                .timestamp(record.record_time.0)
                .key(&key[..])
                .payload(&value[..]);
            while let Err((error, back)) = producer.send(next) {
                let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                assert!(is_full, "write to `{name}`: {error}");
                producer.poll(Duration::from_millis(10));
                next = back;
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(600)).expect("the broker takes all records");
    assert_eq!(refused.0.load(Ordering::Relaxed), 0, "the broker takes all records");
}

/// Takes every record of a topic and prints how many, and the bytes of their keys and values.
pub(super) fn take_all(brokers: &str, name: &str) {
    let (mut records, mut bytes) = (0_u64, 0_u64);
    each_record(brokers, name, |message| {
        records += 1;
        bytes += message.key_len() as u64 + message.payload_len() as u64;
    });
    println!("{records} {bytes}");
}

/// Prints the newest value of every `step`-th aggregate.
pub(super) fn newest(brokers: &str, name: &str, step: usize) {
    let mut newest: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    each_record(brokers, name, |message| {
        let key = message.key().unwrap_or_default();
        if numbered(key).is_none_or(|number| number % step != 0) {
            return;
        }
        match message.payload() {
            Some(value) => newest.insert(key.to_vec(), value.to_vec()),
            None => newest.remove(key),
        };
    });
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (key, value) in newest {
        let line = [&key[..], b"\t", &value, b"\n"].concat();
        out.write_all(&line).expect("somebody reads");
    }
    out.flush().expect("somebody reads");
}

/// Records between the ends of the partitions and what a group has committed.
pub(super) fn lag(brokers: &str, name: &str, group: &str) -> i64 {
    let consumer = consumer(brokers, group);
    let bounds = bounds(&consumer, name);
    let mut partitions = TopicPartitionList::new();
    for partition in (0..).take(bounds.len()) {
        partitions.add_partition(name, partition);
    }
    let committed = consumer.committed_offsets(partitions, ANSWER).expect("the coordinator answers");
    let mut lag = 0;
    for ((_, end), partition) in bounds.iter().zip(committed.elements()) {
        lag += match partition.offset() {
            Offset::Offset(at) => end - at,
            _ => *end,
        };
    }
    lag
}

/// Has the broker forget all records of a topic.
pub(super) fn forget(brokers: &str, name: &str) {
    let mut ends = TopicPartitionList::new();
    for (partition, (_, end)) in (0..).zip(bounds(&consumer(brokers, "peers-forget"), name)) {
        ends.add_partition_offset(name, partition, Offset::Offset(end)).expect("it is an offset");
    }
    let deleted = block_on(admin(brokers).delete_records(&ends, &AdminOptions::new()));
    for partition in deleted.expect("the broker answers").elements() {
        partition.error().expect("the broker forgets");
    }
}

pub(super) fn delete(brokers: &str, names: &[&str]) {
    let answers = block_on(admin(brokers).delete_topics(names, &AdminOptions::new()));
    for answer in answers.expect("the broker answers") {
        if let Err((name, why)) = answer {
            eprintln!("delete `{name}`: {why}");
        }
    }
}

/// Shows every record of a topic to `take`, up to the ends that it has at the start.
fn each_record(brokers: &str, name: &str, mut take: impl FnMut(&rdkafka::message::BorrowedMessage<'_>)) {
    let consumer = consumer(brokers, "peers-raw");
    let mut open = 0;
    let mut partitions = TopicPartitionList::new();
    for (partition, (start, end)) in (0..).zip(bounds(&consumer, name)) {
        if start < end {
            open += 1;
            let at = partitions.add_partition_offset(name, partition, Offset::Beginning);
            at.expect("it is a beginning");
        }
    }
    consumer.assign(&partitions).expect("partitions can be assigned");
    while open > 0 {
        match consumer.poll(ANSWER) {
            Some(Ok(message)) => take(&message),
            // Told by the client at the end: where markers of transactions are last, no record is.
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => fail(&format!("read `{name}`: {error}")),
            None => fail(&format!("read `{name}`: nothing came for {} s", ANSWER.as_secs())),
        }
    }
}

pub(super) fn consumer(brokers: &str, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // Nothing is waited for: all records are there.
        .set("fetch.wait.max.ms", "5")
        .set("auto.offset.reset", "error")
        .create()
        .expect("a consumer can be made")
}

/// First and next offset of each partition.
pub(super) fn bounds(consumer: &BaseConsumer, name: &str) -> Vec<(i64, i64)> {
    let metadata = consumer.fetch_metadata(Some(name), ANSWER).expect("the broker answers");
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if partitions == 0 {
        fail(&format!("there is no topic `{name}`"));
    }
    let count = i32::try_from(partitions).expect("few partitions");
    let of = |partition| consumer.fetch_watermarks(name, partition, ANSWER);
    (0..count).map(of).collect::<KafkaResult<_>>().expect("the broker answers")
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client can be made")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}
