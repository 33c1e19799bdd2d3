//! What happens to a log: it is folded and committed, transactions are aborted and left open, records are
//! deleted, topics are created again and get more partitions.

use super::Topic;
use crate::kill::story;
use crate::ledger::{Ledger, OnPoison, Record, Selector};
use crate::process::{Api, LONG, until};
use crate::site::{ORDERS, Sending, Site, orders_spec, settled};
use crate::truth::{Question, ask_settled, questions};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _};

#[test]
fn a_real_broker_serves_events_as_the_mock_does_and_gets_the_low_watermark() {
    let topic = Topic::new(4, &[]);
    let site = Site::on_kafka(&topic.named(ORDERS), "checkpoint: { interval: 500ms }", &topic.name);
    let (sendings, ledger) = story(21, 4_000, 4, 0);
    site.send(&sendings);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 4_000, true);
    let ids: Vec<&str> = ledger.aggregates().collect();
    ask_settled(&api.url, "order", questions(&ledger, &ids, 3)).must_be_right("while it runs");
    worker.stop();
    let committed = |partition| topic.admin.committed(site.group(), &topic.name, partition).unwrap_or(0);
    assert_eq!((0..4).map(committed).sum::<i64>(), 4_000);
    let mut again = site.worker();
    let api = again.ready();
    ask_settled(&api.url, "order", questions(&ledger, &ids, 2)).must_be_right("after a restart");
    again.stop();
}

/// A transactional producer on one partition, and the offsets of what it wrote.
struct Transactions {
    producer: BaseProducer,
    topic: String,
}

impl Transactions {
    fn start(topic: &Topic) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", crate::servers::kafka().0)
            .set("transactional.id", crate::servers::unique("it"))
            .create()
            .unwrap();
        producer.init_transactions(LONG).unwrap();
        Self { producer, topic: topic.name.clone() }
    }

    fn write(&self, key: &str, note: &str) {
        let value = format!(r#"{{"type":"Shipped","id":"{key}-{note}","at":1,"data":{{"note":"{note}"}}}}"#);
        let record = BaseRecord::to(&self.topic).partition(0).timestamp(5).key(key).payload(&value);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.flush(LONG).unwrap();
    }
}

/// The records that a reader of committed ones sees.
fn visible(topic: &Topic, count: usize) -> Vec<Record> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", crate::servers::kafka().0)
        .set("group.id", crate::servers::unique("it"))
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&topic.name, 0, rdkafka::Offset::Beginning).unwrap();
    reader.assign(&list).unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        let message = reader.poll(LONG).expect("a record in time").unwrap();
        records.push(Record {
            partition: 0,
            offset: message.offset(),
            record_time_ms: 5,
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: Vec::new(),
        });
    }
    records
}

fn note_of(api: &Api, id: &str) -> Option<String> {
    let reply = api.get(&format!("/v1/aggregates/order/{id}/state")).unwrap();
    (reply.status == 200).then(|| reply.json()["state"]["note"].as_str().unwrap_or("").to_owned())
}

#[test]
fn aborted_transactions_never_happened_and_open_ones_have_not_happened_yet() {
    let topic = Topic::new(1, &[]);
    let site = Site::on_kafka(&topic.named(ORDERS), "checkpoint: { interval: 300ms }", &topic.name);
    let (one, other) = (Transactions::start(&topic), Transactions::start(&topic));
    one.producer.begin_transaction().unwrap();
    one.write("a", "kept");
    one.write("b", "kept");
    one.producer.commit_transaction(LONG).unwrap();
    one.producer.begin_transaction().unwrap();
    one.write("a", "aborted");
    one.write("c", "aborted");
    one.producer.abort_transaction(LONG).unwrap();

    // The log ends in markers: it is all folded all the same.
    let mut worker = site.worker();
    let api = worker.ready();
    assert_eq!(note_of(&api, "a").as_deref(), Some("kept"));
    assert_eq!(note_of(&api, "c"), None);

    // What is behind an open transaction waits with it, although it is committed.
    other.producer.begin_transaction().unwrap();
    other.write("d", "open");
    one.producer.begin_transaction().unwrap();
    one.write("e", "behind");
    one.producer.commit_transaction(LONG).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!((note_of(&api, "d"), note_of(&api, "e")), (None, None));
    other.producer.commit_transaction(LONG).unwrap();
    until("both", || note_of(&api, "d").is_some() && note_of(&api, "e").is_some());

    let mut ledger = Ledger::new(orders_spec(OnPoison::Quarantine));
    visible(&topic, 4).into_iter().for_each(|record| {
        ledger.push(record);
    });
    let all = ["a", "b", "d", "e"];
    ask_settled(&api.url, "order", questions(&ledger, &all, 9)).must_be_right("while it runs");
    worker.stop();
    let mut again = site.worker();
    let api = again.ready();
    ask_settled(&api.url, "order", questions(&ledger, &all, 9)).must_be_right("after a restart");
    let unknown = Question::of(&ledger, "c", Selector::Head);
    ask_settled(&api.url, "order", std::iter::once(unknown)).must_be_right("what was aborted");
    again.stop();
}

/// Why it is not ready, once it says `code`.
fn stands_still(api: &Api, code: &str) -> String {
    let mut said = String::new();
    until(code, || {
        let Ok(reply) = api.get("/readyz?verbose=true") else { return false };
        said = reply.body;
        reply.status == 503 && said.contains(code)
    });
    said
}

/// Sends once the producer knows the partition.
fn sent(site: &Site, records: &[Sending]) {
    until("the partition takes records", || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| site.send(records))).is_ok()
    });
}

fn shipped(key: &str, note: &str) -> Sending {
    let value = format!(r#"{{"type":"Shipped","id":"{key}-{note}","at":1,"data":{{"note":"{note}"}}}}"#);
    Sending { partition: 0, key: Some(key.into()), value: Some(value.into_bytes()), time_ms: 5 }
}

#[test]
fn records_deleted_below_the_low_watermark_are_not_missed_and_above_it_are_told() {
    let topic = Topic::new(1, &[]);
    let site = Site::on_kafka(&topic.named(ORDERS), "checkpoint: { interval: 300ms }", &topic.name);
    site.send(&[shipped("a", "1"), shipped("a", "2"), shipped("b", "1")]);
    let mut worker = site.worker();
    settled(&worker.ready(), 3, true);
    topic.admin.trim(&topic.name, 0, 3);
    site.send(&[shipped("a", "3")]);
    settled(&worker.ready(), 4, true);
    worker.stop();

    let mut worker = site.worker();
    let api = worker.ready();
    let first = api.get("/v1/aggregates/order/a/state?version=1").unwrap();
    assert_eq!((first.status, first.json()["state"]["note"].as_str()), (200, Some("1")), "{first:?}");
    worker.stop();

    // Nobody folds while these come and go.
    site.send(&[shipped("a", "4"), shipped("a", "5"), shipped("b", "2")]);
    topic.admin.trim(&topic.name, 0, 6);
    let mut worker = site.worker();
    let api = Api::new(&worker.url());
    let said = stands_still(&api, "retention-passed");
    assert!(said.contains("events from 4 on are needed, the log starts at 6"), "{said}");
    // What is known is still answered; what the newest version is, nobody knows.
    let third = api.get("/v1/aggregates/order/a/state?version=3").unwrap();
    assert_eq!((third.status, third.json()["state"]["note"].as_str()), (200, Some("3")), "{third:?}");
    assert_eq!(note_of(&api, "a"), None);
    worker.stop();
}

#[test]
fn a_topic_that_is_created_again_stops_its_folding() {
    let topic = Topic::new(1, &[]);
    let site = Site::on_kafka(&topic.named(ORDERS), "checkpoint: { interval: 300ms }", &topic.name);
    site.send(&[shipped("a", "1"), shipped("a", "2")]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 2, true);
    topic.admin.delete(&topic.name);
    topic.admin.create(&topic.name, 1, &[]);
    sent(&site, &[shipped("a", "new"), shipped("a", "new2"), shipped("a", "new3")]);
    stands_still(&api, "topic-recreated");
    assert_eq!(note_of(&api, "a").as_deref(), Some("2"));
    worker.stop();
}

#[test]
fn partitions_that_are_added_are_not_folded_until_somebody_says_that_nothing_has_moved() {
    let topic = Topic::new(1, &[]);
    let properties = [("topic.metadata.refresh.interval.ms", "1000")];
    let site = Site::tuned(&topic.named(ORDERS), &topic.name, &properties);
    site.send(&[shipped("a", "1")]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 1, true);
    topic.admin.widen(&topic.name, 2);
    let said = stands_still(&api, "partitions-changed");
    assert!(said.contains("the topic had 1 partitions"), "{said}");
    assert_eq!(note_of(&api, "a").as_deref(), Some("1"));
    worker.stop();

    let ended = site.worker().end();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.err.contains("has 2 partitions, lineage 1 folds 1"), "{ended:?}");
    let mut worker = site.worker_with(&["--accept-partitions"]);
    let api = worker.ready();
    sent(&site, &[Sending { partition: 1, ..shipped("b", "1") }]);
    settled(&api, 2, true);
    assert_eq!(note_of(&api, "b").as_deref(), Some("1"));
    worker.stop();
    // Accepted once is accepted.
    let mut worker = site.worker();
    worker.ready();
    worker.stop();
}

#[test]
fn a_compacted_topic_is_refused_also_when_it_becomes_one() {
    let topic = Topic::new(1, &[("cleanup.policy", "compact,delete")]);
    let ended = Site::on_kafka(&topic.named(ORDERS), "", &topic.name).worker().end();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.err.contains("log-compacted") && ended.err.contains("cleanup.policy=delete"), "{ended:?}");

    let topic = Topic::new(1, &[]);
    let properties = [("topic.metadata.refresh.interval.ms", "1000")];
    let site = Site::tuned(&topic.named(ORDERS), &topic.name, &properties);
    site.send(&[shipped("a", "1")]);
    let mut worker = site.worker();
    let api = worker.ready();
    topic.admin.set(&topic.name, "cleanup.policy", "compact");
    stands_still(&api, "log-compacted");
    assert_eq!(note_of(&api, "a").as_deref(), Some("1"));
    worker.stop();
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let streams = ORDERS.replace("topic: orders", "topic: never_made");
    let ended = Site::on_kafka(&streams, "", "never_made").worker().end();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.err.contains("`never_made`"), "{ended:?}");
}
