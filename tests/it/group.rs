//! Membership: assigning, starting at an offset, revoking, losing, leaving.

use crate::bench::*;
use snapfold::domain::error::ErrorKind;
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::PortError;
use snapfold::kafka::{Consumer, ConsumerSettings, GroupEvent, MockBroker, MockFailure, MockRequest};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_arrives_once_while_a_second_member_joins_and_the_first_leaves() {
    let broker = MockBroker::start(&[("t", 4)]).unwrap();
    let producer = producer(&broker);
    let book = Arc::new(Mutex::new(Book::default()));
    fill(&producer, "t", 4, 0, 1_000).await;
    let a = Reading::start("a", settings(&broker, &["t"]), &book);
    until("the first member reads", &book, |book| book.total() == 4_000).await;

    let b = Reading::start("b", settings(&broker, &["t"]), &book);
    let writing = async {
        for from in (1_000..2_000).step_by(50) {
            fill(&producer, "t", 4, from, from + 50).await;
        }
    };
    within("writing", LONG, writing).await;
    until("both members read", &book, |book| book.total() == 8_000).await;
    // The second member may have joined late: it must have its share by now or soon.
    let mut written = 2_000;
    let shared = async {
        while !book.lock().unwrap().read.contains_key("b") {
            fill(&producer, "t", 4, written, written + 1).await;
            written += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the second member reads", LONG, shared).await;

    a.close().await;
    fill(&producer, "t", 4, written, 2_500.max(written)).await;
    until("the second member reads all", &book, |book| book.total() == 4 * 2_500.max(written)).await;
    b.close().await;
    let book = book.lock().unwrap();
    assert_eq!(book.lost, 0);
    assert!(book.read["a"] >= 4_000 && book.read["b"] > 0, "{:?}", book.read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_starts_where_it_is_asked_to_also_again_earlier_with_a_full_queue() {
    let broker = MockBroker::start(&[("t", 1)]).unwrap();
    fill(&producer(&broker), "t", 1, 0, 5_000).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, _) = consumer.stream("t");
    assert_eq!(assigned(&*group).await, [PartitionNo(0)]);
    for from in [4_000, 100, 4_990, 0, 2_500] {
        let mut records = open(&*group, 0, from).await;
        check(0, from, &take(&mut *records, 10).await);
        // Long enough for librdkafka to fill the queue with what follows.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut records = open(&*group, 0, 3).await;
    check(0, 3, &take(&mut *records, 4_997).await);
    assert_eq!(consumer.strays(), 0);
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_is_not_in_the_log_is_missing_until_another_is_asked_for() {
    let broker = MockBroker::start(&[("t", 1)]).unwrap();
    fill(&producer(&broker), "t", 1, 0, 20).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, _) = consumer.stream("t");
    assigned(&*group).await;
    let mut records = open(&*group, 0, 999).await;
    for _ in 0..2 {
        let answer = within("an answer", LONG, records.next(10)).await;
        assert_eq!(answer, Err(PortError::Missing));
    }
    let mut records = open(&*group, 0, 5).await;
    check(0, 5, &take(&mut *records, 15).await);
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_woken_by_the_next_record_and_a_dropped_wait_loses_nothing() {
    let broker = MockBroker::start(&[("t", 1)]).unwrap();
    let producer = producer(&broker);
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, _) = consumer.stream("t");
    assigned(&*group).await;
    let mut records = open(&*group, 0, 0).await;
    let mut waits = Vec::new();
    for n in 0..20 {
        // Waits that are given up, while nothing is there and while something is about to be.
        for ms in [0, 1, 5] {
            let wait = tokio::time::timeout(Duration::from_millis(ms), records.next(10)).await;
            assert!(wait.is_err(), "nothing was written yet");
        }
        let next = records.next(10);
        let (batch, wait) = tokio::join!(
            async {
                let batch = within("a record", LONG, next).await.unwrap();
                (batch, Instant::now())
            },
            async {
                fill(&producer, "t", 1, n, n + 1).await;
                Instant::now()
            }
        );
        check(0, n, &batch.0);
        waits.push(batch.1.saturating_duration_since(wait));
    }
    waits.sort();
    // The guard that looks again every second would make it 500 ms.
    assert!(waits[10] < Duration::from_millis(250), "{waits:?}");
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_let_go_delays_a_rebalance_by_a_bound() {
    let broker = MockBroker::start(&[("t", 2)]).unwrap();
    fill(&producer(&broker), "t", 2, 0, 50).await;
    let slow = ConsumerSettings { revoke_ms: 4_000, ..settings(&broker, &["t"]) };
    let a = Consumer::start(slow).unwrap();
    let (group, _) = a.stream("t");
    assert_eq!(assigned(&*group).await.len(), 2);
    let mut all = [open(&*group, 0, 0).await, open(&*group, 1, 0).await];
    for records in &mut all {
        take(&mut **records, 50).await;
    }

    let b = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (other, log) = b.stream("t");
    let GroupEvent::Revoked(revoked) = within("a revocation", LONG, group.next()).await else {
        panic!("not asked back");
    };
    let asked = Instant::now();
    assert_eq!(revoked.len(), 1);
    assert_eq!(assigned(&*other).await, revoked);
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_secs(2), "given away before its time: {waited:?}");
    let revoked = revoked[0].0;
    check(revoked, 0, &take(&mut *open(&*other, revoked, 0).await, 50).await);
    let late = within("an answer", LONG, all[usize::try_from(revoked).unwrap()].next(1)).await;
    assert!(matches!(late, Err(PortError::NotDone(_))), "{late:?}");
    group.released(&[PartitionNo(revoked)]);
    assert!(log.commit(PartitionNo(1 - revoked), Offset(1)).await.is_err(), "not this member's");
    assert_eq!(a.strays() + b.strays(), 0);
    within("closing", LONG, a.close()).await;
    within("closing", LONG, b.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_expelled_hears_that_its_partitions_are_lost_and_gets_them_again() {
    let broker = MockBroker::start(&[("t", 2)]).unwrap();
    fill(&producer(&broker), "t", 2, 0, 50).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, _) = consumer.stream("t");
    assert_eq!(assigned(&*group).await.len(), 2);
    let mut records = open(&*group, 0, 0).await;
    check(0, 0, &take(&mut *records, 10).await);

    broker.fail(MockRequest::Heartbeat, &[MockFailure::UnknownMember]).unwrap();
    let GroupEvent::Lost(mut lost) = within("the loss", LONG, group.next()).await else {
        panic!("not lost");
    };
    lost.sort();
    assert_eq!(lost, [PartitionNo(0), PartitionNo(1)]);
    assert!(within("an answer", LONG, records.next(1)).await.is_err());
    assert_eq!(assigned(&*group).await.len(), 2);
    check(0, 10, &take(&mut *open(&*group, 0, 10).await, 40).await);
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_is_bounded_with_queues_open_and_with_brokers_gone() {
    for gone in [false, true] {
        let broker = MockBroker::start(&[("t", 2), ("u", 1)]).unwrap();
        fill(&producer(&broker), "t", 2, 0, 5_000).await;
        let consumer = Consumer::start(settings(&broker, &["t", "u"])).unwrap();
        let (group, log) = consumer.stream("t");
        assert_eq!(assigned(&*group).await.len(), 2);
        let mut full = open(&*group, 0, 0).await;
        take(&mut *full, 1).await;
        let mut waiting = open(&*group, 1, 5_000).await;
        let waiter = tokio::spawn(async move { waiting.next(1).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        if gone {
            broker.down().unwrap();
        }
        let begun = Instant::now();
        within("closing", Duration::from_secs(16), consumer.close()).await;
        if !gone {
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
        let answer = within("the waiter", LONG, waiter).await.unwrap();
        assert!(matches!(answer, Err(PortError::NotDone(_))), "{answer:?}");
        assert!(full.next(1).await.is_err());
        assert!(group.records(PartitionNo(0), Offset(0)).await.is_err());
        assert!(log.commit(PartitionNo(0), Offset(1)).await.is_err());
        within("closing again", LONG, consumer.close()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_one_process_do_not_mix() {
    let broker = MockBroker::start(&[("t", 2), ("u", 3)]).unwrap();
    fill(&producer(&broker), "t", 2, 0, 100).await;
    fill(&producer(&broker), "u", 3, 0, 200).await;
    let consumer = Consumer::start(settings(&broker, &["t", "u"])).unwrap();
    let (t, _) = consumer.stream("t");
    let (u, _) = consumer.stream("u");
    assert_eq!((assigned(&*t).await.len(), assigned(&*u).await.len()), (2, 3));
    check(1, 50, &take(&mut *open(&*t, 1, 50).await, 50).await);
    check(1, 50, &take(&mut *open(&*u, 1, 50).await, 150).await);
    let (id_t, id_u) = (consumer.topic_id("t").await.unwrap(), consumer.topic_id("u").await.unwrap());
    assert_ne!(id_t, id_u);
    assert!(consumer.topic_id("none").await.is_err());
    within("closing", LONG, consumer.close()).await;
}

#[test]
fn a_property_that_the_protocol_depends_on_stops_the_start() {
    let mut settings = ConsumerSettings::new("localhost:1", "g", &["t"]);
    settings.properties.insert("auto.offset.reset".into(), "latest".into());
    let Err(error) = Consumer::start(settings) else { panic!("started") };
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.detail.contains("auto.offset.reset"), "{error}");
    let mut settings = ConsumerSettings::new("localhost:1", "g", &["t"]);
    settings.properties.insert("no.such.property".into(), "1".into());
    let Err(error) = Consumer::start(settings) else { panic!("started") };
    assert!(error.detail.contains("no.such.property"), "{error}");
}
