//! A look at a topic, once, by a client that joins no group: what a process with these settings will find
//! there.
//!
//! *If it fails*: every question has a deadline. *What may leak*: nothing; nothing is written or committed.

use super::bounds;
use super::failure::{Effect, now, outcome};
use super::reader::{Client, TIMEOUT, client};
use crate::domain::error::Result;
use crate::domain::ids::Offset;
use crate::domain::outcome::PortResult;
use crate::kafka::ConsumerSettings;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset as Position, TopicPartitionList};

/// What was found.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How many partitions there are.
    pub partitions: u32,
    /// Kafka's id of the topic.
    pub topic_id: u128,
    /// Where each begins and ends.
    pub bounds: Vec<(Offset, Offset)>,
    /// Whether a record could be read; none where there are no records.
    pub read: PortResult<Option<()>>,
    /// Partitions for which the group has committed an offset.
    pub committed: PortResult<usize>,
}

/// Looks at a topic.
///
/// # Errors
/// Settings that librdkafka refuses; brokers that do not answer, or know no such topic.
pub fn look(settings: &ConsumerSettings, topic: &str) -> Result<PortResult<Seen>> {
    let client = client(settings)?;
    Ok(seen(&client, topic))
}

fn seen(client: &Client, topic: &str) -> PortResult<Seen> {
    let doing = format!("ask for topic `{topic}`");
    let failed = |error: &KafkaError| outcome(&doing, error, Effect::None);
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT).map_err(|error| failed(&error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let ids: Vec<i32> = match found {
        Some(found) => match found.error() {
            Some(code) => return Err(failed(&KafkaError::MetadataFetch(code.into()))),
            None => found.partitions().iter().map(|partition| partition.id()).collect(),
        },
        None => Vec::new(),
    };
    let topic_id = bounds::topic_id(client, topic, TIMEOUT).map_err(|error| failed(&error))?;
    let mut bounds = Vec::with_capacity(ids.len());
    for id in &ids {
        let (start, end) = client.fetch_watermarks(topic, *id, TIMEOUT).map_err(|error| failed(&error))?;
        bounds.push((Offset(start), Offset(end)));
    }
    let filled = ids.iter().zip(&bounds).find(|(_, (start, end))| start < end);
    let read = match filled {
        None => Ok(None),
        Some((id, (start, _))) => read(client, topic, *id, *start),
    };
    let committed = committed(client, topic, &ids);
    Ok(Seen { partitions: u32::try_from(ids.len()).unwrap_or(u32::MAX), topic_id, bounds, read, committed })
}

fn read(client: &Client, topic: &str, partition: i32, from: Offset) -> PortResult<Option<()>> {
    let doing = format!("read topic `{topic}`");
    let mut list = TopicPartitionList::with_capacity(1);
    let assigned = list
        .add_partition_offset(topic, partition, Position::Offset(from.0))
        .and_then(|()| client.assign(&list));
    assigned.map_err(|error| outcome(&doing, &error, Effect::None))?;
    let deadline = now() + TIMEOUT;
    let mut last = None;
    while now() < deadline {
        match client.poll(std::time::Duration::from_millis(100)) {
            Some(Ok(message)) if message.topic() == topic => return Ok(Some(())),
            // Only markers of transactions are there.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(error)) => {
                let failed = outcome(&doing, &error, Effect::None);
                if matches!(failed, crate::domain::outcome::PortError::Permanent(_)) {
                    return Err(failed);
                }
                last = Some(failed);
            }
            Some(Ok(_)) | None => {}
        }
    }
    let late = crate::domain::outcome::PortError::NotDone(format!("{doing}: no record came in time"));
    Err(last.unwrap_or(late))
}

fn committed(client: &Client, topic: &str, ids: &[i32]) -> PortResult<usize> {
    let doing = "ask for the group's committed offsets";
    let mut list = TopicPartitionList::with_capacity(ids.len());
    for id in ids {
        list.add_partition(topic, *id);
    }
    let told =
        client.committed_offsets(list, TIMEOUT).map_err(|error| outcome(doing, &error, Effect::None))?;
    let elements = told.elements();
    for element in &elements {
        element.error().map_err(|error| outcome(doing, &error, Effect::None))?;
    }
    Ok(elements.iter().filter(|element| matches!(element.offset(), Position::Offset(_))).count())
}
