//! A topic of dead letters: records that could not be folded, as they came, with headers that say why.
//!
//! *Order*: letters with the same key keep theirs.
//! *If it fails*: the caller repeats; a letter may then be there twice, with the same source offset. One that
//!   the brokers refuse for good (too large for the topic, no right to write) is counted and told: the index
//!   has it in any case, and a partition must not stop for a copy.

use super::DeadLetters;
use super::producer::{Outgoing, Producer, headers};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::row::DeadLetter;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes dead letters to a topic.
pub struct DeadLetterTopic {
    producer: Producer,
    topic: Arc<str>,
    /// Letters that are in the topic.
    pub written: AtomicU64,
    /// Letters that the brokers do not take.
    pub refused: AtomicU64,
}

impl DeadLetterTopic {
    /// Dead letters go to `topic`, which must exist.
    #[must_use]
    pub fn new(producer: Producer, topic: &str) -> Self {
        let (written, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { producer, topic: topic.into(), written, refused }
    }

    /// Key, value, headers and timestamp are those of the record.
    async fn write(&self, letter: &DeadLetter) -> PortResult<()> {
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

impl DeadLetters for DeadLetterTopic {
    fn put<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            match self.write(letter).await {
                Ok(()) => self.written.fetch_add(1, Ordering::Relaxed),
                Err(PortError::Permanent(why)) => {
                    let (topic, offset) = (&*self.topic, letter.offset.0);
                    tracing::warn!(topic, offset, why, "a dead letter is in the index alone");
                    self.refused.fetch_add(1, Ordering::Relaxed)
                }
                Err(error) => return Err(error),
            };
            Ok(())
        })
    }
}
