//! The real servers: `tests/servers/server` installs, starts, kills and freezes them; topics come and go by
//! Kafka's admin protocol. Every test has topics, groups, keyspaces and buckets of its own.

use crate::process::LONG;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// One verb of the script, which must succeed; what it prints.
fn script(args: &[&str], folder: Option<&Path>) -> String {
    let mut command = Command::new(crate::truth::repository("tests/servers/server"));
    if let Some(folder) = folder {
        command.env("SNAPFOLD_SERVERS", folder);
    }
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Starts a server unless it runs; its address.
pub(crate) fn start(name: &str) -> String {
    script(&["start", name], None)
}

/// Servers that no other test uses: they may be killed.
pub(crate) struct Own {
    folder: tempfile::TempDir,
}

impl Own {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn start(&self, name: &str) -> String {
        script(&["start", name], Some(self.folder.path()))
    }

    /// SIGKILL.
    pub(crate) fn kill(&self, name: &str) {
        script(&["kill", name], Some(self.folder.path()));
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        script(&["stop"], Some(self.folder.path()));
    }
}

/// The plain and the secure address of the broker.
pub(crate) fn kafka() -> (String, String) {
    addresses(&start("kafka"))
}

/// The two of what the script prints.
pub(crate) fn addresses(address: &str) -> (String, String) {
    let (plain, secure) = address.split_once(' ').expect("two addresses");
    (plain.to_owned(), secure.to_owned())
}

/// A name that nothing else has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}_{:x}_{}_{}", since >> 16, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The broker's administrator.
pub(crate) struct Admin {
    config: ClientConfig,
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Admin {
    pub(crate) fn new(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        let client = config.create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { config, client, runtime }
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

    /// Changes one setting of a topic.
    pub(crate) fn set(&self, topic: &str, name: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let made = self.runtime.block_on(self.client.alter_configs(&[change], &Self::options())).unwrap();
        made.into_iter().for_each(|one| assert!(one.is_ok(), "{one:?}"));
    }

    /// Gives a topic so many partitions in all.
    pub(crate) fn widen(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let made = self.runtime.block_on(self.client.create_partitions(&[new], &Self::options())).unwrap();
        made.into_iter().for_each(|one| assert!(one.is_ok(), "{one:?}"));
    }

    /// What a group has committed for a partition.
    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        use rdkafka::consumer::{BaseConsumer, Consumer as _};
        let mut config = self.config.clone();
        let asker: BaseConsumer = config.set("group.id", group).create().unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition(topic, partition);
        let found = asker.committed_offsets(list, LONG).unwrap();
        match found.find_partition(topic, partition).unwrap().offset() {
            rdkafka::Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Deletes the records of a partition before an offset.
    pub(crate) fn trim(&self, topic: &str, partition: i32, before: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(before)).unwrap();
        self.runtime.block_on(self.client.delete_records(&list, &Self::options())).unwrap();
    }
}
