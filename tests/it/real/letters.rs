//! Dead letters that go to a topic as well: the record as it came, with what is wrong with it. What the
//! brokers do not take is in the index alone, and stops nobody.

use super::Topic;
use crate::process::LONG;
use crate::site::{ORDERS, Sending, Site, settled};
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Instant;

/// Reads `count` records of a topic's only partition, from its start.
fn records(topic: &str, count: usize) -> Vec<OwnedMessage> {
    let brokers = crate::servers::kafka().0;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "nobody")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let (started, mut found) = (Instant::now(), Vec::new());
    while found.len() < count {
        assert!(started.elapsed() < LONG, "{} of {count} records", found.len());
        if let Some(message) = consumer.poll(std::time::Duration::from_millis(200)) {
            found.push(message.unwrap().detach());
        }
    }
    found
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    found.value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Text that no compression makes shorter than the limit of the topic.
fn noise(len: usize) -> String {
    let mut seed = 7_u64;
    let next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((seed >> 33) % 26).unwrap())
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Goal: what `deadLetters.topic` names gets each dead letter with its reason, and a letter that it does not
/// take costs nobody anything. Method: a topic for letters of 2 kB, and one poisonous event that is larger.
#[test]
fn dead_letters_go_to_their_topic_as_well() {
    let (topic, letters) = (Topic::new(1, &[]), Topic::new(1, &[("max.message.bytes", "2000")]));
    let more = format!("deadLetters: {{ topic: {} }}\ncheckpoint: {{ interval: 300ms }}", letters.name);
    let site = Site::on_kafka(&topic.named(ORDERS), &more, &topic.name);
    let one = |key: &str, value: String| Sending {
        partition: 0,
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.into_bytes()),
        time_ms: 1_000,
    };
    let good = r#"{"type":"ItemAdded","at":5000,"data":{"sku":"a","qty":1,"price":2.50}}"#.to_owned();
    site.send(&[
        one("first", good.clone()),
        one("bad", "{\"type\":".to_owned()),
        one("large", format!("{{\"type\":\"{}", noise(20_000))),
        one("worse", "[".to_owned()),
        one("first", good),
    ]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 5, true);
    assert_eq!(api.figure("snapfold_dead_letter_topic_total{outcome=\"written\"}"), 2.0);
    assert_eq!(api.figure("snapfold_dead_letter_topic_total{outcome=\"refused\"}"), 1.0);
    let listed = api.get("/v1/dead-letters?type=order").unwrap().json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "{listed}");
    let found = records(&letters.name, 2);
    let shown: Vec<_> = found
        .iter()
        .map(|message| {
            let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            (key, header(message, "snapfold-offset"), header(message, "snapfold-code"))
        })
        .collect();
    let (code, offset) = (Some("bad-json".to_owned()), |offset: &str| Some(offset.to_owned()));
    assert_eq!(
        shown,
        [("bad".to_owned(), offset("1"), code.clone()), ("worse".to_owned(), offset("3"), code)]
    );
    assert_eq!(found[0].payload(), Some(b"{\"type\":".as_slice()));
    assert_eq!(header(&found[0], "snapfold-topic").as_ref(), Some(&topic.name));
    worker.stop();
}

/// Goal: a topic for dead letters that is not there is told at the start, not at the first letter.
#[test]
fn a_missing_topic_for_dead_letters_is_told_at_the_start() {
    let topic = Topic::new(1, &[]);
    let more = format!("deadLetters: {{ topic: {}-dead }}", topic.name);
    let site = Site::on_kafka(&topic.named(ORDERS), &more, &topic.name);
    let ended = site.worker().end();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.err.contains("deadLetters.topic"), "{ended:?}");
}
