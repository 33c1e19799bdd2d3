//! What must stay as it is while a topic is folded, and is not told by its records: whether it is compacted
//! (rule 12). Asked when a process starts, and again and again.

use super::failure::{Done, Exit, Failure};
use crate::domain::poison::Poison;
use crate::kafka::Topics;
use crate::worker::Handle;
use std::sync::Arc;

const COMPACTED: &str = "Kafka deletes older events of each key (`cleanup.policy` has `compact`)";

/// Refuses to start on a topic that is compacted.
///
/// # Errors
/// That it is. Brokers that do not tell are no error: not everybody may ask.
pub(super) async fn refuse(topics: &Topics, topic: &str) -> Done {
    match topics.is_compacted(topic).await {
        Ok(true) => {
            let hint = "set `cleanup.policy=delete` on the topic; see `log-compacted` in docs/ERRORS.md";
            Err(Failure::new(Exit::Config, format!("log-compacted: topic `{topic}`: {COMPACTED}")).hint(hint))
        }
        Ok(false) => Ok(()),
        Err(error) => {
            tracing::info!(%error, topic, "it is not known whether the topic is compacted");
            Ok(())
        }
    }
}

/// Looks after topics for ever; the partitions of one that is compacted stand still.
pub(super) async fn watch(topics: Topics, watched: Vec<(Arc<str>, Handle)>) {
    loop {
        tokio::time::sleep(topics.interval).await;
        for (topic, worker) in &watched {
            if topics.is_compacted(topic).await == Ok(true) {
                tracing::error!(topic = &**topic, "{COMPACTED}: its partitions stand still");
                worker.halt(&Poison::new("log-compacted", COMPACTED));
            }
        }
    }
}
