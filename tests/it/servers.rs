//! The real servers: `tests/servers/server` installs, starts, kills and freezes them; topics come and go by
//! Kafka's admin protocol. Every test has topics, groups, keyspaces and buckets of its own.

use crate::process::LONG;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// One verb of the script, which must succeed; what it prints.
fn script(args: &[&str]) -> String {
    let output = Command::new(crate::truth::repository("tests/servers/server")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Starts a server unless it runs; its address.
pub(crate) fn start(name: &str) -> String {
    script(&["start", name])
}

/// SIGKILL.
pub(crate) fn kill(name: &str) {
    script(&["kill", name]);
}

/// A name that nothing else has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}_{:x}_{}_{}", since >> 16, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The broker's administrator.
pub(crate) struct Admin {
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Admin {
    pub(crate) fn new(brokers: &str) -> Self {
        let client = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client, runtime }
    }

    fn options() -> AdminOptions {
        AdminOptions::new().operation_timeout(Some(LONG)).request_timeout(Some(LONG))
    }

    /// Makes a topic, with settings of its own.
    pub(crate) fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let made = self.runtime.block_on(self.client.create_topics(&[new], &Self::options())).unwrap();
        made.into_iter().for_each(|one| assert!(one.is_ok(), "{one:?}"));
    }

    pub(crate) fn delete(&self, topic: &str) {
        let gone = self.runtime.block_on(self.client.delete_topics(&[topic], &Self::options())).unwrap();
        gone.into_iter().for_each(|one| assert!(one.is_ok(), "{one:?}"));
    }

    /// Gives a topic so many partitions in all.
    pub(crate) fn widen(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let made = self.runtime.block_on(self.client.create_partitions(&[new], &Self::options())).unwrap();
        made.into_iter().for_each(|one| assert!(one.is_ok(), "{one:?}"));
    }

    /// Deletes the records of a partition before an offset.
    pub(crate) fn trim(&self, topic: &str, partition: i32, before: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(before)).unwrap();
        self.runtime.block_on(self.client.delete_records(&list, &Self::options())).unwrap();
    }
}
