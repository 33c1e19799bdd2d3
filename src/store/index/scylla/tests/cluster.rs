//! The one server that all of these tests share, keyspaces of their own, and settings.

use super::super::connect::{Timeouts, connect};
use super::super::{Mode, ScyllaIndex, migrate};
use crate::config::{Scylla, Secret};
use std::process::Command;
use std::time::Duration;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Who kills or freezes the server has it alone.
static SERVER: RwLock<()> = RwLock::const_new(());

pub(crate) async fn shared() -> RwLockReadGuard<'static, ()> {
    SERVER.read().await
}

pub(super) async fn alone() -> RwLockWriteGuard<'static, ()> {
    SERVER.write().await
}

/// `start`, `kill`, `freeze` or `thaw`.
pub(super) async fn server(verb: &'static str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/server");
    let run = move || Command::new(script).args([verb, "cassandra"]).output().expect("bash is installed");
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(super) async fn address() -> String {
    tokio::task::spawn_blocking(|| crate::testing::server("cassandra")).await.unwrap()
}

/// Short ones, so that tests of silence end soon.
pub(super) const SHORT: Timeouts = Timeouts {
    write: Duration::from_secs(2),
    read: Duration::from_secs(2),
    open: Duration::from_secs(20),
    ..Timeouts::USUAL
};

/// A keyspace of one test.
pub(crate) struct Keyspace {
    pub(crate) settings: Scylla,
}

impl Keyspace {
    /// Settings of a keyspace that is not there.
    pub(crate) async fn absent(name: &str) -> Self {
        let settings = Scylla {
            nodes: vec![address().await],
            keyspace: format!("snapfold_test_{name}"),
            datacenter: "datacenter1".into(),
            replication_factor: 1,
            login: Some(("cassandra".into(), Secret::plain("cassandra".into()))),
            tls: None,
        };
        let keyspace = Self { settings };
        keyspace.cql(&format!("DROP KEYSPACE IF EXISTS {}", keyspace.settings.keyspace)).await;
        keyspace
    }

    /// A keyspace with empty tables.
    pub(super) async fn fresh(name: &str) -> Self {
        let keyspace = Self::absent(name).await;
        migrate(&keyspace.settings, Mode::Apply).await.unwrap();
        keyspace
    }

    pub(super) async fn open(&self) -> ScyllaIndex {
        ScyllaIndex::open(&self.settings).await.unwrap()
    }

    /// Runs a statement by hand.
    pub(super) async fn cql(&self, statement: &str) {
        let (session, _) = connect(&self.settings, Timeouts::USUAL).await.unwrap();
        if !statement.contains("KEYSPACE") && !statement.contains("ROLE") {
            session.use_keyspace(&self.settings.keyspace, true).await.unwrap();
        }
        session.query_unpaged(statement, ()).await.unwrap();
    }
}
