//! What librdkafka says to the group's member while it is polled: written down, and acted on after the poll.

use super::failure::{log, log_error};
use super::queue::Key;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What librdkafka says while it is polled.
pub(super) enum Heard {
    /// These are ours once we answer.
    Assign(Vec<Key>),
    /// These are to be given up.
    Revoke(Vec<Key>, Loss),
    /// The answer to a commit, as a whole and for each partition.
    Committed(KafkaResult<()>, Vec<(Key, KafkaResult<()>)>),
}

/// Whose partitions are that we give up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// They are ours until we answer.
    AskedBack,
    /// They are another's already.
    Lost,
}

/// Writes down what librdkafka says; the thread acts on it after the poll.
#[derive(Default)]
pub(super) struct MemberContext {
    heard: Mutex<Vec<Heard>>,
    closing: AtomicBool,
}

impl MemberContext {
    fn hear(&self, what: Heard) {
        self.heard.lock().expect("no panic while what was heard is held").push(what);
    }

    /// From here on everything is given back at once.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// What was said since it was asked last.
    pub(super) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().expect("no panic while what was heard is held"))
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Acquire) {
            // Leaving: any answer gives everything back.
            let _ = consumer.incremental_unassign(&TopicPartitionList::new());
            return;
        }
        let keys = keys(list);
        self.hear(match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Heard::Assign(keys),
            _ if consumer.assignment_lost() => Heard::Revoke(keys, Loss::Lost),
            _ => Heard::Revoke(keys, Loss::AskedBack),
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, list: &TopicPartitionList) {
        let elements = list.elements();
        let each = elements
            .iter()
            .map(|element| ((Arc::from(element.topic()), element.partition()), element.error()));
        self.hear(Heard::Committed(result, each.collect()));
    }
}

fn keys(list: &TopicPartitionList) -> Vec<Key> {
    list.elements().iter().map(|element| (Arc::from(element.topic()), element.partition())).collect()
}
