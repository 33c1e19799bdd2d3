//! Long histories in a topic: made, asked about over HTTP, and, as the peer, read from the topic and folded.

use super::answers::Server;
use super::events::{self, Events};
use super::{fail, topic};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use snapfold::domain::aggregate::{Aggregate, Folded, State};
use snapfold::domain::event::Decode;
use snapfold::domain::ids::{Offset as At, Timestamp};
use snapfold::domain::record::RawRecord;
use snapfold::domain::value::{Limits, Value};
use snapfold::telemetry::stopwatch::Stopwatch;

/// Number of the first aggregate of the many.
const MANY: usize = 1_000;

/// Makes a topic in which each of `lengths` is a partition with one aggregate of so many events; the last
/// partition has `aggregates` of `each` events, in turn.
pub(super) fn fill(brokers: &str, name: &str, lengths: &[u64], aggregates: usize, each: u64) {
    if !topic::create(brokers, name, lengths.len() + 1) {
        fail(&format!("topic `{name}` is there already"));
    }
    for (at, length) in lengths.iter().enumerate() {
        let partition = i32::try_from(at).expect("few partitions");
        topic::produce(brokers, name, partition, Events::new(1, 0).numbered_from(at), *length);
    }
    let many = Events::new(aggregates, 0).numbered_from(MANY).in_turn();
    let partition = i32::try_from(lengths.len()).expect("few partitions");
    topic::produce(brokers, name, partition, many, aggregates as u64 * each);
}

/// Asks for versions of an aggregate, each twice. Prints lines `VERSION MS AGAIN_MS DIGEST`.
pub(super) fn ask(url: &str, id: &str, versions: &[u64]) {
    let server = Server::new(url);
    // Connects.
    let _ = server.state("order-nobody", "");
    for version in versions {
        let selector = format!("?version={version}");
        let [(ms, body), (again, _)] = [(), ()].map(|()| {
            let begun = Stopwatch::start();
            let body = server.state(id, &selector);
            (begun.ms(), body)
        });
        let body = body.unwrap_or_else(|| fail(&format!("{id} has no version {version}")));
        let answer = Value::parse(body.as_bytes(), &Limits::default()).expect("an answer is JSON");
        let state = answer.get("state").expect("an answer has a state");
        println!("{version} {ms:.3} {again:.3} {}", state.digest());
    }
}

/// What one does without snapshots: reads a partition that holds nothing but one aggregate, and folds up to
/// the version. Each version anew, over a connection that is there. Prints lines `VERSION MS DIGEST`.
pub(super) fn replay(brokers: &str, name: &str, partition: i32, versions: &[u64]) {
    let consumer = topic::consumer(brokers, "peers-replay");
    let (decoder, rules) = (events::decoder(), events::rules());
    // Connects. An offset that is known takes no further question.
    let bounds = topic::bounds(&consumer, name);
    let (start, _) = bounds[usize::try_from(partition).expect("partitions count from 0")];
    for version in versions {
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(name, partition, Offset::Offset(start)).expect("it is an offset");
        let mut aggregate = Aggregate::genesis("order", "order");
        let begun = Stopwatch::start();
        consumer.assign(&from).expect("a partition can be assigned");
        while aggregate.version.0 < *version {
            let message = match consumer.poll(topic::ANSWER) {
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(_))) => fail(&format!("version {version} is not there")),
                other => fail(&format!("read `{name}`: {:?}", other.map(|one| one.map(drop)))),
            };
            let record = RawRecord {
                offset: At(message.offset()),
                leader_epoch: 0,
                record_time: Timestamp(message.timestamp().to_millis().unwrap_or(0)),
                key: message.key().map(Into::into),
                value: message.payload().map(Into::into),
                headers: Vec::new(),
            };
            let folded = rules.fold(&mut aggregate, &decoder.decode(record));
            assert_eq!(folded, Folded::Applied, "events are good");
        }
        let ms = begun.ms();
        let State::Hot(state) = &aggregate.state else { fail(&format!("version {version} has no state")) };
        println!("{version} {ms:.3} {}", state.value().digest());
        consumer.unassign().expect("a partition can be given up");
    }
}
