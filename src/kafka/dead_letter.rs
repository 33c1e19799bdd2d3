//! A topic of dead letters: records that could not be folded, as they came, with headers that say why.
//!
//! *Order*: per source partition, if the topic has as many partitions; else by key.
//! *If it fails*: the caller repeats; a letter may then be there twice, with the same source offset.

use super::producer::{Outgoing, Producer, headers};
use crate::domain::outcome::PortResult;
use crate::domain::row::DeadLetter;
use std::sync::Arc;

/// Writes dead letters to a topic.
pub struct DeadLetterTopic {
    producer: Producer,
    topic: Arc<str>,
}

impl DeadLetterTopic {
    /// Dead letters go to `topic`, which must exist.
    #[must_use]
    pub fn new(producer: Producer, topic: &str) -> Self {
        Self { producer, topic: topic.into() }
    }

    /// Writes one, and waits until it is written. Key, value, headers and timestamp are those of the record.
    pub async fn put(&self, letter: &DeadLetter) -> PortResult<()> {
        let (source, record) = (&letter.key, &letter.record);
        let mut all = record.headers.clone();
        all.extend(headers([
            ("snapfold-topic", source.topic.to_string()),
            ("snapfold-partition", source.partition.to_string()),
            ("snapfold-offset", letter.offset.to_string()),
            ("snapfold-lineage", source.lineage.to_string()),
            ("snapfold-code", letter.code.to_string()),
            ("snapfold-detail", letter.detail.to_string()),
        ]));
        let out = Outgoing {
            topic: &self.topic,
            partition: None,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &all,
            timestamp: Some(record.record_time),
        };
        self.producer.send(out).await?.await.map(drop)
    }
}
