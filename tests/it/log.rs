//! The log: bounds, reads of a stretch, commits, ends of leader epochs; the producer and dead letters.

use crate::bench::*;
use snapfold::domain::ids::{Lineage, Offset, PartitionNo, Timestamp};
use snapfold::domain::outcome::PortError;
use snapfold::domain::record::RawRecord;
use snapfold::domain::row::{DeadLetter, PartitionKey};
use snapfold::kafka::{
    Consumer, ConsumerSettings, DeadLetterTopic, DeadLetters, Log, MockBroker, MockRequest, Outgoing,
    Producer, ProducerSettings,
};
use std::sync::Arc;
use std::time::Duration;

const P0: PartitionNo = PartitionNo(0);

async fn read(log: &dyn Log, from: i64, to: i64) -> Result<Vec<RawRecord>, PortError> {
    within("a read", LONG, log.read(P0, Offset(from), Offset(to))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stretch_is_read_as_asked_for_without_being_assigned() {
    let broker = MockBroker::start(&[("t", 1)]).unwrap();
    let producer = producer(&broker);
    fill(&producer, "t", 1, 0, 3_000).await;
    // A member holds the partition; the reader belongs to another process and still reads.
    let member = Consumer::start(settings(&broker, &["t"])).unwrap();
    assigned(&*member.stream("t").0).await;
    let other = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (_, log) = other.stream("t");
    assert_eq!(log.partition_count().await, Ok(1));
    for (from, to) in [(100, 110), (2_999, 3_000), (0, 1), (500, 501), (2_990, 4_000)] {
        let records = read(&*log, from, to).await.unwrap();
        check(0, from, &records);
        assert_eq!(records.len(), usize::try_from(to.min(3_000) - from).unwrap(), "{from}..{to}");
    }
    for (from, to) in [(3_000, 4_000), (3_500, 4_000), (10, 10), (10, 5)] {
        assert_eq!(read(&*log, from, to).await, Ok(vec![]), "{from}..{to}");
    }
    // A scan comes in pages, whatever their size.
    let mut next = 0;
    while next < 3_000 {
        let page = read(&*log, next, 3_000).await.unwrap();
        check(0, next, &page);
        next += i64::try_from(page.len()).unwrap();
        assert!(!page.is_empty());
    }
    fill(&producer, "t", 1, 3_000, 3_001).await;
    assert_eq!(read(&*log, 3_000, 3_005).await.unwrap().len(), 1);
    within("closing", LONG, member.close()).await;
    within("closing", LONG, other.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_missing() {
    let broker = MockBroker::start(&[("t", 1)]).unwrap();
    let producer = producer(&broker);
    // The mock broker keeps 5 MiB. Noise, so that compression does not help.
    let mut noise = vec![0_u8; 100 << 10];
    let mut state = 1_u64;
    for n in 0..80_i64 {
        noise.iter_mut().for_each(|byte| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        });
        let out = Outgoing { topic: "t", partition: Some(P0), value: Some(&noise), ..Outgoing::default() };
        let place = producer.send(out).await.unwrap().await.unwrap();
        assert_eq!(place.1, Offset(n));
    }
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, log) = consumer.stream("t");
    let bounds = log.bounds(P0).await.unwrap();
    assert!(bounds.start > Offset(0) && bounds.end == Offset(80), "{bounds:?}");
    assert_eq!(read(&*log, 0, 80).await, Err(PortError::Missing));
    assert_eq!(read(&*log, bounds.start.0, 80).await.unwrap()[0].offset, bounds.start);
    assigned(&*group).await;
    let mut records = open(&*group, 0, 0).await;
    assert_eq!(within("an answer", LONG, records.next(1)).await, Err(PortError::Missing));
    let mut records = open(&*group, 0, bounds.start.0).await;
    let batch = within("records", LONG, records.next(1_000)).await.unwrap();
    assert_eq!(batch[0].offset, bounds.start);
    assert!(batch.len() < 20, "a batch is bounded by bytes too, this one has {}", batch.len());
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_of_assigned_partitions_follow_records_at_once_and_the_broker_soon() {
    let broker = MockBroker::start(&[("t", 2)]).unwrap();
    let producer = producer(&broker);
    fill(&producer, "t", 2, 0, 10).await;
    let slow = ConsumerSettings { bounds_ms: 3_600_000, ..settings(&broker, &["t"]) };
    let consumer = Consumer::start(slow).unwrap();
    let (group, log) = consumer.stream("t");
    assigned(&*group).await;
    let before = log.bounds(P0).await.unwrap();
    assert_eq!((before.start, before.end), (Offset(0), Offset(10)));
    assert_eq!(before.topic_id, consumer.topic_id("t").await.unwrap());
    let mut records = open(&*group, 0, 0).await;
    take(&mut *records, 10).await;
    fill(&producer, "t", 2, 10, 15).await;
    // Nobody asks the broker within the hour: what was handed out must count all the same.
    take(&mut *records, 5).await;
    assert_eq!(log.bounds(P0).await.unwrap().end, Offset(15));
    // It is asked twice per batch.
    broker.count_requests().unwrap();
    let _ = broker.requests().unwrap();
    for _ in 0..1_000 {
        log.bounds(P0).await.unwrap();
    }
    let asked = broker.requests().unwrap();
    let (_, asked) = asked.iter().find(|(kind, _)| *kind == MockRequest::ListOffsets).unwrap();
    assert!(*asked < 10, "the broker was asked {asked} times");
    within("closing", LONG, consumer.close()).await;

    let quick = ConsumerSettings { bounds_ms: 50, ..settings(&broker, &["t"]) };
    let consumer = Consumer::start(quick).unwrap();
    let (group, log) = consumer.stream("t");
    assigned(&*group).await;
    assert_eq!(log.bounds(P0).await.unwrap().end, Offset(15));
    fill(&producer, "t", 2, 15, 16).await;
    let followed = async {
        while log.bounds(P0).await.unwrap().end != Offset(16) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the new end, without reading", LONG, followed).await;
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_acknowledged_and_found_by_the_next_member() {
    let broker = MockBroker::start(&[("t", 4)]).unwrap();
    fill(&producer(&broker), "t", 4, 0, 100).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, log) = consumer.stream("t");
    assert_eq!(assigned(&*group).await.len(), 4);
    assert_eq!(log.committed(P0).await, Ok(None));
    // Many at once, also for one partition: the last one counts.
    let commits = (0..4).flat_map(|partition| [(partition, 10), (partition, 20 + i64::from(partition))]);
    let commits = commits.map(|(partition, offset)| log.commit(PartitionNo(partition), Offset(offset)));
    let results = within("the commits", LONG, futures_util::future::join_all(commits)).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    within("closing", LONG, consumer.close()).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (_, log) = consumer.stream("t");
    for partition in 0..4 {
        let committed = log.committed(PartitionNo(partition)).await;
        assert_eq!(committed, Ok(Some(Offset(20 + i64::from(partition)))));
    }
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_ends_where_the_next_leader_began() {
    let broker = MockBroker::cluster(2, &[("t", 1)]).unwrap();
    broker.lead("t", 0, Some(1)).unwrap();
    let producer = producer(&broker);
    fill(&producer, "t", 1, 0, 10).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, log) = consumer.stream("t");
    assigned(&*group).await;
    let mut records = open(&*group, 0, 0).await;
    let first = take(&mut *records, 10).await[9].leader_epoch;
    assert!(first >= 0);
    assert_eq!(log.epoch_end(P0, first).await, Ok(Offset(10)), "the current epoch ends with the log");

    broker.lead("t", 0, Some(2)).unwrap();
    fill(&producer, "t", 1, 10, 15).await;
    let second = take(&mut *records, 5).await[4].leader_epoch;
    assert!(second > first, "{second} {first}");
    assert!(log.bounds(P0).await.unwrap().leader_epoch >= second);
    assert_eq!(within("the end", LONG, log.epoch_end(P0, first)).await, Ok(Offset(10)));
    assert_eq!(within("the end", LONG, log.epoch_end(P0, second)).await, Ok(Offset(15)));
    assert_eq!(within("the end", LONG, log.epoch_end(P0, -1)).await, Ok(Offset(15)));
    // And a reader that was used so still reads.
    check(0, 8, &read(&*log, 8, 12).await.unwrap());
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_to_the_partition_that_java_clients_choose() {
    let broker = MockBroker::start(&[("t", 16)]).unwrap();
    let producer = producer(&broker);
    // murmur2("21") = -973932308 and murmur2("foobar") = -790332482, as in Kafka's own tests.
    for (key, partition) in [("21", 12), ("foobar", 14)] {
        let out = Outgoing { topic: "t", key: Some(key.as_bytes()), ..Outgoing::default() };
        let place = producer.send(out).await.unwrap().await.unwrap();
        assert_eq!(place.0, PartitionNo(partition), "{key}");
    }
    let nowhere = Outgoing { topic: "t", partition: Some(PartitionNo(16)), ..Outgoing::default() };
    let refused = match producer.send(nowhere).await {
        Ok(delivery) => delivery.await.map(drop),
        Err(error) => Err(error),
    };
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_bounded_and_a_record_that_cannot_be_written_is_reported() {
    let broker = MockBroker::start(&[("t", 1)]).unwrap();
    broker.down().unwrap();
    let mut settings = ProducerSettings { records_max: 5, ..ProducerSettings::new(broker.bootstrap()) };
    settings.properties.insert("delivery.timeout.ms".into(), "3000".into());
    let producer = Producer::start(&settings).unwrap();
    let out = Outgoing { topic: "t", partition: Some(P0), value: Some(b"x"), ..Outgoing::default() };
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(producer.send(out).await.unwrap());
    }
    let sixth = tokio::time::timeout(Duration::from_millis(300), producer.send(out)).await;
    assert!(sixth.is_err(), "no room for a sixth");
    for delivery in deliveries {
        let report = within("the report", LONG, delivery).await;
        assert!(matches!(report, Err(PortError::Unknown(_) | PortError::NotDone(_))), "{report:?}");
    }
    assert!(within("room", LONG, producer.send(out)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_the_record_with_the_reason() {
    let broker = MockBroker::start(&[("t", 1), ("dead", 1)]).unwrap();
    let record = RawRecord {
        offset: Offset(42),
        record_time: Timestamp(1_700_000_000_123),
        key: Some(b"k".as_slice().into()),
        value: Some(b"not json".as_slice().into()),
        headers: vec![("h".into(), Some(b"1".as_slice().into())), ("h".into(), None)],
        ..RawRecord::default()
    };
    let key = PartitionKey { topic: "t".into(), partition: PartitionNo(3), lineage: Lineage(2) };
    let letter = DeadLetter {
        key,
        offset: Offset(42),
        aggregate: None,
        code: "bad-json".into(),
        detail: "a value was expected".into(),
        record: record.clone(),
    };
    let topic = DeadLetterTopic::new(producer(&broker), "dead");
    topic.put(&letter).await.unwrap();
    let null = DeadLetter { record: RawRecord::default(), ..letter };
    topic.put(&null).await.unwrap();

    let consumer = Consumer::start(settings(&broker, &["dead"])).unwrap();
    let found = read(&*consumer.stream("dead").1, 0, 2).await.unwrap();
    assert_eq!((&found[0].key, &found[0].value), (&record.key, &record.value));
    assert_eq!(found[0].record_time, record.record_time);
    assert_eq!(found[0].headers[..2], record.headers[..]);
    let header = |name: &str| {
        let header = found[0].headers.iter().find(|(other, _)| &**other == name);
        String::from_utf8(header.unwrap().1.as_ref().unwrap().to_vec()).unwrap()
    };
    assert_eq!((header("snapfold-topic"), header("snapfold-partition")), ("t".into(), "3".into()));
    assert_eq!((header("snapfold-offset"), header("snapfold-code")), ("42".into(), "bad-json".into()));
    assert_eq!((&found[1].key, &found[1].value), (&None::<Arc<[u8]>>, &None), "both null stay so");
    within("closing", LONG, consumer.close()).await;
}
