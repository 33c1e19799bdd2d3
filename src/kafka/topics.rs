//! What a topic is set to do with its records.
//!
//! *If it fails*: brokers may not let everybody ask; then nothing is known, and that is said.

use super::failure::{Effect, outcome};
use super::settings;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::outcome::{PortError, PortResult};
use crate::kafka::ConsumerSettings;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks brokers about topics.
pub struct Topics {
    client: AdminClient<DefaultClientContext>,
    /// Between two looks: as often as librdkafka looks for leaders and partitions.
    pub interval: Duration,
}

impl Topics {
    /// A client for asking, with the settings of the consumer.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn new(settings: &ConsumerSettings) -> Result<Self> {
        let config = settings::admin(settings)?;
        let interval = config.get("topic.metadata.refresh.interval.ms").and_then(|ms| ms.parse().ok());
        let client = config.create().map_err(|error: KafkaError| {
            Error::new(ErrorKind::Invalid, "bad-body", format!("create a Kafka client: {error}"))
        })?;
        Ok(Self { client, interval: Duration::from_millis(interval.unwrap_or(60_000)) })
    }

    /// Whether older records of a key are deleted (`cleanup.policy`).
    ///
    /// # Errors
    /// That nobody answered, or that brokers do not tell.
    pub async fn is_compacted(&self, topic: &str) -> PortResult<bool> {
        let settings = self.settings(topic).await?;
        let policy = settings.get("cleanup.policy");
        Ok(policy.is_some_and(|policy| policy.split(',').any(|one| one.trim() == "compact")))
    }

    /// Everything that the topic is set to, by name.
    ///
    /// # Errors
    /// That nobody answered, or that brokers do not tell.
    pub async fn settings(&self, topic: &str) -> PortResult<BTreeMap<String, String>> {
        let doing = format!("ask for the settings of topic `{topic}`");
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let asked = self.client.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
        let answers = asked.map_err(|error| outcome(&doing, &error, Effect::None))?;
        let Some(Ok(found)) = answers.into_iter().next() else {
            return Err(PortError::NotDone(format!("{doing}: the broker does not tell")));
        };
        let entries = found.entries.into_iter();
        Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }
}
