//! What must stay as it is while a topic is folded, and is not told by its records: whether it is compacted
//! (rule 12). Asked when a process starts, and again and again.

use super::failure::{Done, Exit, Failure};
use crate::domain::outcome::PortError;
use crate::domain::poison::Poison;
use crate::kafka::Topics;
use crate::worker::Handle;
use std::sync::Arc;
use std::time::Duration;

const COMPACTED: &str = "Kafka deletes older events of each key (`cleanup.policy` has `compact`)";

/// How long a start waits for being told: brokers that do not know the question never answer it, and
/// [`watch`] asks again at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Refuses to start on a topic that is compacted.
///
/// # Errors
/// That it is. Brokers that do not tell, or not within a second, are no error: not everybody may ask.
pub(super) async fn refuse(topics: &Topics, topic: &str) -> Done {
    let asked = tokio::time::timeout(PATIENCE, topics.is_compacted(topic)).await;
    let late = |_| Err(PortError::NotDone("the brokers do not answer in time".to_owned()));
    match asked.unwrap_or_else(late) {
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
        for (topic, worker) in &watched {
            if topics.is_compacted(topic).await == Ok(true) {
                tracing::error!(topic = &**topic, "{COMPACTED}: its partitions stand still");
                worker.halt(&Poison::new("log-compacted", COMPACTED));
            }
        }
        tokio::time::sleep(topics.interval).await;
    }
}
