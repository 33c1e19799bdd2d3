//! Requests of every kind fail: nothing hangs, and no record is lost or comes twice.

use crate::bench::*;
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::PortError;
use snapfold::kafka::{Consumer, MockBroker, MockFailure, MockRequest};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_keep_coming_in_order_whatever_request_fails() {
    let broker = MockBroker::start(&[("t", 2)]).unwrap();
    let producer = producer(&broker);
    let book = Arc::new(Mutex::new(Book::default()));
    let member = Reading::start("a", settings(&broker, &["t"]), &book);
    fill(&producer, "t", 2, 0, 100).await;
    until("the first records", &book, |book| book.total() == 200).await;
    let mut written = 100;
    use MockFailure::{Disconnect, NotCoordinator, NotLeader, TimedOut, Unknown};
    for request in MockRequest::ALL {
        let failures = match request {
            MockRequest::Fetch | MockRequest::Produce | MockRequest::ListOffsets => {
                [NotLeader, Disconnect, TimedOut]
            }
            MockRequest::OffsetForLeaderEpoch | MockRequest::ApiVersions | MockRequest::InitProducerId => {
                [Disconnect, TimedOut, Unknown]
            }
            _ => [NotCoordinator, Disconnect, TimedOut],
        };
        broker.fail(request, &failures).unwrap();
        fill(&producer, "t", 2, written, written + 100).await;
        written += 100;
        let wanted = 2 * written;
        until(&format!("records while {request:?} fails"), &book, |book| book.total() == wanted).await;
    }
    member.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_is_answered_within_its_bound_whatever_request_fails() {
    let broker = MockBroker::cluster(2, &[("t", 1)]).unwrap();
    let producer = producer(&broker);
    fill(&producer, "t", 1, 0, 100).await;
    broker.lead("t", 0, Some(2)).unwrap();
    fill(&producer, "t", 1, 100, 110).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, log) = consumer.stream("t");
    assigned(&*group).await;
    let p = PartitionNo(0);
    for request in MockRequest::ALL {
        if matches!(request, MockRequest::Produce) {
            continue;
        }
        broker.fail(request, &[MockFailure::Disconnect, MockFailure::TimedOut]).unwrap();
        let bound = Duration::from_secs(40);
        let commit = within("a commit", bound, log.commit(p, Offset(7))).await;
        assert!(
            !matches!(commit, Err(PortError::Permanent(_) | PortError::Missing)),
            "{request:?} {commit:?}"
        );
        let read = within("a read", bound, log.read(p, Offset(95), Offset(105))).await;
        match read {
            Ok(records) => check(0, 95, &records),
            Err(error) => assert!(matches!(error, PortError::NotDone(_)), "{request:?} {error:?}"),
        }
        let bounds = within("bounds", bound, log.bounds(p)).await;
        assert!(matches!(bounds, Ok(_) | Err(PortError::NotDone(_))), "{request:?} {bounds:?}");
        let end = within("an epoch's end", bound, log.epoch_end(p, 0)).await;
        assert!(matches!(end, Ok(_) | Err(PortError::NotDone(_))), "{request:?} {end:?}");
        let committed = within("a committed offset", bound, log.committed(p)).await;
        assert!(matches!(committed, Ok(_) | Err(PortError::NotDone(_))), "{request:?} {committed:?}");
        let count = within("a partition count", bound, log.partition_count()).await;
        assert!(matches!(count, Ok(1) | Err(PortError::NotDone(_))), "{request:?} {count:?}");
        broker.heal(request).unwrap();
    }
    // All is well again, without anybody doing anything.
    let well = async {
        while log.commit(p, Offset(9)).await.is_err() || log.committed(p).await != Ok(Some(Offset(9))) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within("an acknowledged commit", LONG, well).await;
    check(0, 95, &log.read(p, Offset(95), Offset(105)).await.unwrap());
    within("closing", LONG, consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_gone_for_a_while_cost_time_only() {
    let broker = MockBroker::start(&[("t", 2)]).unwrap();
    let producer = producer(&broker);
    let book = Arc::new(Mutex::new(Book::default()));
    let member = Reading::start("a", settings(&broker, &["t"]), &book);
    fill(&producer, "t", 2, 0, 100).await;
    until("the first records", &book, |book| book.total() == 200).await;
    broker.down().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_, log) = member.consumer.stream("t");
    let read = within(
        "a read without brokers",
        Duration::from_secs(30),
        log.read(PartitionNo(0), Offset(0), Offset(5)),
    );
    assert!(matches!(read.await, Err(PortError::NotDone(_))));
    broker.up().unwrap();
    fill(&producer, "t", 2, 100, 200).await;
    until("records after it", &book, |book| book.total() == 400).await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_is_told_as_such() {
    let broker = MockBroker::start(&[("t", 1)]).unwrap();
    fill(&producer(&broker), "t", 1, 0, 10).await;
    let consumer = Consumer::start(settings(&broker, &["t"])).unwrap();
    let (group, _) = consumer.stream("t");
    assigned(&*group).await;
    broker.fail(MockRequest::Fetch, &[MockFailure::TopicDenied]).unwrap();
    let mut records = open(&*group, 0, 0).await;
    let answer = within("an answer", LONG, records.next(10)).await;
    let Err(PortError::Permanent(text)) = answer else { panic!("{answer:?}") };
    assert!(text.contains("grant"), "{text}");
    check(0, 0, &take(&mut *open(&*group, 0, 0).await, 10).await);
    within("closing", LONG, consumer.close()).await;
}
