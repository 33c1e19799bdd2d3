//! Every setting of librdkafka that differs from its default, with its reason, and what a user may not
//! override because the protocol depends on it.

use crate::domain::error::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a process reads its topics.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// `host:port,host:port`.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// Passed to librdkafka as they are, secrets among them: never logged.
    pub properties: BTreeMap<String, String>,
    /// All topics of the process.
    pub topics: Vec<Arc<str>>,
    /// How brokers and their logs name this process.
    pub client_id: String,
    /// What may wait in queues for being folded, over all partitions, librdkafka's own bookkeeping included.
    pub queue_bytes_max: u64,
    /// Partitions that share `queue_bytes_max`. librdkafka takes the share of one when the client is made, so
    /// it is as if this many were assigned.
    pub partitions_max: u32,
    /// Milliseconds that workers take to cover what is dirty when a partition is asked back. The rebalance
    /// goes on after one second more, whatever they do.
    pub revoke_ms: u64,
    /// Milliseconds between two looks at the bounds of all assigned partitions.
    pub bounds_ms: u64,
    /// Clients that read stretches of the topics, each with a thread of its own.
    pub readers: usize,
}

impl ConsumerSettings {
    /// Settings with all defaults.
    #[must_use]
    pub fn new(brokers: &str, group: &str, topics: &[&str]) -> Self {
        Self {
            brokers: brokers.to_owned(),
            group: group.to_owned(),
            properties: BTreeMap::new(),
            topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
            client_id: "snapfold".to_owned(),
            queue_bytes_max: 256 << 20,
            partitions_max: 64,
            revoke_ms: 1_000,
            bounds_ms: 1_000,
            readers: 2,
        }
    }
}

/// Who may decide a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The protocol, or another setting of ours: an override is an error.
    Us,
    /// A property of the user wins.
    User,
}
use Owner::{Us, User};

/// A setting, its value, who decides it, why it is so.
type Row = (&'static str, &'static str, Owner, &'static str);

/// For every client.
const ALL: &[Row] = &[
    ("allow.auto.create.topics", "false", Us, "a misspelt name must be an error, not a topic"),
    ("enable.metrics.push", "false", User, "telemetry costs a lock per poll and nobody asked for it"),
    ("socket.keepalive.enable", "true", User, "NAT gateways forget silent connections"),
    (
        "topic.metadata.refresh.interval.ms",
        "60000",
        User,
        "new leaders and partitions are seen within a minute",
    ),
    ("log.connection.close", "false", User, "brokers close idle connections all the time"),
];

/// For every client that reads.
const READING: &[Row] = &[
    ("enable.auto.commit", "false", Us, "only the low watermark is committed, and only by the worker"),
    ("enable.auto.offset.store", "false", Us, "the same"),
    ("auto.offset.reset", "error", Us, "a position that is not in the log is a finding, never a jump"),
    ("isolation.level", "read_committed", Us, "events of aborted transactions never happened"),
    (
        "receive.message.max.bytes",
        "300000000",
        User,
        "a broker sends one record whatever its size: 100 MB, the default, would stop its partition for good",
    ),
    ("check.crcs", "true", User, "what is kept for audits is checked; crc32c is cheap"),
    ("statistics.interval.ms", "0", User, "the bounds are asked for anyway, nobody reads the rest"),
];

/// For the member of the group.
const MEMBER: &[Row] = &[
    ("group.protocol", "classic", Us, "KIP-848 members stall and lose commits in librdkafka 2.12"),
    ("partition.assignment.strategy", "cooperative-sticky", Us, "a rebalance moves only what has to move"),
    ("enable.partition.eof", "false", Us, "the end is known from the bounds"),
    ("session.timeout.ms", "30000", User, "a crash is noticed within it; a broker's restart is tolerated"),
    ("heartbeat.interval.ms", "3000", User, "a tenth of it"),
    ("max.poll.interval.ms", "120000", User, "also the longest that one member can delay a rebalance"),
    ("fetch.min.bytes", "1", User, "low latency"),
    ("fetch.wait.max.ms", "100", User, "a newly opened partition waits for the fetch that is under way"),
    ("fetch.message.max.bytes", "1048576", User, "fairness between partitions of one broker"),
    ("fetch.max.bytes", "16777216", User, "one kept message pins its whole response in memory"),
    ("fetch.queue.backoff.ms", "20", User, "a full queue is looked at again soon; 1000 makes a saw-tooth"),
    ("fetch.error.backoff.ms", "200", User, "as above, after errors"),
];

/// For readers of stretches: they fetch little, at once, and stop.
const READER: &[Row] = &[
    ("enable.partition.eof", "true", Us, "tells that a stretch is over where the log ends in markers"),
    ("fetch.min.bytes", "1", Us, "answers at once"),
    ("fetch.wait.max.ms", "5", Us, "a fetch at the end of the log must not hold up the next read"),
    ("fetch.queue.backoff.ms", "0", Us, "no pause between small fetches"),
    ("queued.min.messages", "1", Us, "nothing is read ahead of what was asked for"),
    ("fetch.message.max.bytes", "65536", Us, "the broker sends whole batches, so small is enough"),
    ("fetch.error.backoff.ms", "100", Us, "a read has its own deadline"),
];

/// For producers.
const PRODUCER: &[Row] = &[
    ("enable.idempotence", "true", Us, "no duplicates and no disorder by retries"),
    ("partitioner", "murmur2_random", Us, "as Java clients: one key, one partition, whoever writes"),
    ("compression.type", "lz4", User, "cheap, and the mock broker holds more"),
    ("linger.ms", "20", User, "batches"),
    ("delivery.timeout.ms", "60000", User, "a report comes within it, good or bad"),
    ("queue.buffering.max.messages", "1000000", Us, "`Producer` has bounds of its own, below these"),
    ("queue.buffering.max.kbytes", "1048576", Us, "the same"),
];

/// Set from fields of the settings.
const FROM_FIELDS: &[(&str, &str)] = &[
    ("bootstrap.servers", "brokers"),
    ("metadata.broker.list", "brokers"),
    ("group.id", "group"),
    ("client.id", "client id"),
    ("queued.min.messages", "queue bytes"),
    ("queued.max.messages.kbytes", "queue bytes"),
];

/// Bytes that a message in a queue costs librdkafka besides its key and value, measured.
const QUEUED_MESSAGE_BYTES: u64 = 400;

fn build(tables: &[&[Row]], properties: &BTreeMap<String, String>) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Info);
    let rows = || tables.iter().flat_map(|table| table.iter());
    for (name, value, ..) in rows() {
        config.set(*name, *value);
    }
    for (name, value) in properties {
        let taken = FROM_FIELDS.iter().find(|(taken, _)| taken == name);
        if let Some((_, field)) = taken {
            return Err(refused(name, &format!("it is set by the {field} of the configuration")));
        }
        match rows().find(|(row, ..)| row == name) {
            Some((_, ours, Us, why)) if value != ours => {
                return Err(refused(name, &format!("it must be `{ours}`: {why}")));
            }
            _ => config.set(name, value),
        };
    }
    Ok(config)
}

fn refused(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, "bad-body", format!("Kafka property `{name}` may not be set: {why}"))
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::Invalid, "bad-body", detail)
}

/// The tables of another kind of client do not apply to this one, but what they protect stays protected.
fn without_foreign(properties: &BTreeMap<String, String>, foreign: &[Row]) -> BTreeMap<String, String> {
    let own = |name: &String| !foreign.iter().any(|(row, ..)| row == name);
    properties.iter().filter(|(name, _)| own(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The configuration of the group's member.
pub(super) fn member(settings: &ConsumerSettings) -> Result<ClientConfig> {
    if settings.topics.is_empty() {
        return Err(invalid("no topic to read: configure at least one stream".to_owned()));
    }
    if settings.group.is_empty() || settings.brokers.is_empty() {
        return Err(invalid("brokers and group of Kafka must be set".to_owned()));
    }
    let mut config = build(&[ALL, READING, MEMBER], &settings.properties)?;
    // Half for keys and values, half for the bookkeeping; fetching stops at whichever is used up first.
    let half = settings.queue_bytes_max / u64::from(settings.partitions_max.max(1)) / 2;
    let messages = (half / QUEUED_MESSAGE_BYTES).clamp(100, 100_000);
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group)
        .set("client.id", &settings.client_id)
        .set("queued.max.messages.kbytes", (half >> 10).clamp(64, 1 << 20).to_string())
        .set("queued.min.messages", messages.to_string());
    Ok(config)
}

/// The configuration of a client that reads stretches. It names the group because librdkafka assigns only to
/// clients with one, and because it asks for the group's committed offsets. It never joins.
pub(super) fn reader(settings: &ConsumerSettings) -> Result<ClientConfig> {
    let properties = without_foreign(&settings.properties, MEMBER);
    let properties = without_foreign(&properties, READER);
    let mut config = build(&[ALL, READING, READER], &properties)?;
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group)
        .set("client.id", format!("{}-reader", settings.client_id));
    Ok(config)
}

/// The configuration of a client that asks about topics.
pub(super) fn admin(settings: &ConsumerSettings) -> Result<ClientConfig> {
    let properties = [MEMBER, READER, READING]
        .into_iter()
        .fold(settings.properties.clone(), |rest, foreign| without_foreign(&rest, foreign));
    let mut config = build(&[ALL], &properties)?;
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("client.id", format!("{}-admin", settings.client_id));
    Ok(config)
}

/// The configuration of a producer.
pub(super) fn producer(
    brokers: &str,
    client_id: &str,
    properties: &BTreeMap<String, String>,
) -> Result<ClientConfig> {
    let mut config = build(&[ALL, PRODUCER], properties)?;
    config.set("bootstrap.servers", brokers).set("client.id", client_id);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> ConsumerSettings {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ConsumerSettings { properties, ..ConsumerSettings::new("localhost:9092", "g", &["t"]) }
    }

    #[test]
    fn a_property_wins_unless_the_protocol_depends_on_it() {
        let member = member(&settings(&[("session.timeout.ms", "45000"), ("client.rack", "a")])).unwrap();
        assert_eq!(member.get("session.timeout.ms"), Some("45000"));
        assert_eq!(member.get("client.rack"), Some("a"));
        assert_eq!(member.get("auto.offset.reset"), Some("error"));
    }

    #[test]
    fn a_property_that_the_protocol_depends_on_is_refused_with_the_reason() {
        for (name, value, why) in [
            ("auto.offset.reset", "earliest", "never a jump"),
            ("isolation.level", "read_uncommitted", "aborted"),
            ("group.id", "x", "group of the configuration"),
            ("queued.min.messages", "1", "queue bytes"),
            ("enable.auto.commit", "true", "low watermark"),
        ] {
            let error = member(&settings(&[(name, value)])).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(error.detail.contains(name) && error.detail.contains(why), "{error}");
        }
        assert!(
            member(&settings(&[("enable.auto.commit", "false")])).is_ok(),
            "the same value is no override"
        );
    }

    #[test]
    fn the_queues_of_all_partitions_fit_into_the_budget() {
        let settings = ConsumerSettings { queue_bytes_max: 64 << 20, partitions_max: 16, ..settings(&[]) };
        let config = member(&settings).unwrap();
        let number = |name: &str| config.get(name).unwrap().parse::<u64>().unwrap();
        let one = number("queued.max.messages.kbytes") * 1024
            + number("queued.min.messages") * QUEUED_MESSAGE_BYTES;
        assert!(one * 16 <= 64 << 20, "{one}");
        assert!(one * 16 > 60 << 20, "{one}");
    }

    #[test]
    fn a_reader_keeps_its_own_fetch_settings_and_takes_the_security_ones() {
        let settings = settings(&[("fetch.wait.max.ms", "500"), ("security.protocol", "plaintext")]);
        let reader = reader(&settings).unwrap();
        assert_eq!(reader.get("fetch.wait.max.ms"), Some("5"));
        assert_eq!(reader.get("security.protocol"), Some("plaintext"));
    }

    #[test]
    fn librdkafka_knows_every_setting() {
        let settings = settings(&[]);
        for config in [
            member(&settings).unwrap(),
            reader(&settings).unwrap(),
            producer("localhost:9092", "p", &BTreeMap::new()).unwrap(),
        ] {
            config.create_native_config().unwrap();
        }
    }
}
