//! librdkafka properties that a configuration may not set, because the protocol depends on them. (What a
//! client sets by itself is the business of `kafka`.)

use super::Secret;
use super::problems::names_a_secret;
use super::reader::{ELSEWHERE, Section};
use std::collections::BTreeMap;

/// Property, and why it is not the user's to set.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is `kafka.brokers`"),
    ("metadata.broker.list", "it is `kafka.brokers`"),
    ("group.id", "it is `kafka.group`"),
    ("client.id", "it names the worker"),
    ("queued.min.messages", "it follows from `memory.limit`"),
    ("queued.max.messages.kbytes", "it follows from `memory.limit`"),
    ("enable.auto.commit", "only the low watermark is committed, and only by the worker"),
    ("enable.auto.offset.store", "only the low watermark is committed, and only by the worker"),
    ("auto.offset.reset", "a position that is not in the log is a finding, never a jump"),
    ("isolation.level", "events of aborted transactions never happened"),
    ("group.protocol", "the consumer group protocol is `classic`"),
    ("partition.assignment.strategy", "a rebalance moves only what has to move"),
    ("enable.partition.eof", "the end of the log is known from its bounds"),
    ("allow.auto.create.topics", "a misspelt name must be an error, not a topic"),
];

/// Reads `kafka.properties`.
pub(super) fn read(kafka: Section<'_>) -> BTreeMap<String, Secret> {
    let properties = kafka.map("properties");
    for name in properties.keys() {
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused == name) {
            kafka.member_problem(
                "properties",
                name,
                format!("`{name}` may not be set"),
                format!("remove it: {why}"),
            );
        }
        if names_a_secret(name) && kafka.member_is_plain("properties", name) {
            kafka.warn("properties", format!("`{name}` stands in the file: {ELSEWHERE}"));
        }
    }
    properties
}
