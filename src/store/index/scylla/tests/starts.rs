//! What is wrong when a worker starts is told with what to do about it; migrations do what they say.

use super::super::migrate::LATEST;
use super::super::{Change, Mode, ScyllaIndex, migrate};
use super::cluster::{Keyspace, SHORT, shared};
use super::{key, row};
use crate::config::{Scylla, Secret, Tls};
use crate::domain::error::ErrorKind;
use crate::domain::ids::{Lineage, PartitionNo};
use crate::domain::outcome::PortError;
use crate::store::index::{From, Index};
use std::io::Write;

/// That opening fails, and how.
async fn refused(settings: &Scylla) -> (ErrorKind, String) {
    let error = ScyllaIndex::open_with(settings, SHORT).await.err().expect("it cannot be opened");
    (error.kind, error.detail)
}

fn says(told: &(ErrorKind, String), kind: ErrorKind, words: &[&str]) {
    assert_eq!(told.0, kind, "{}", told.1);
    for word in words {
        assert!(told.1.contains(word), "`{word}` is not in: {}", told.1);
    }
    assert!(!told.1.contains("hunter2"), "a password: {}", told.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_wrong_or_missing_or_has_no_rights_is_told() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("login").await;
    let settings = keyspace.settings.clone();
    let login = |user: &str, word: &str| Some((user.to_owned(), Secret::plain(word.to_owned())));
    let told = refused(&Scylla { login: login("cassandra", "hunter2"), ..settings.clone() }).await;
    says(&told, ErrorKind::Invalid, &["refused", "index.scylla.username"]);
    let told = refused(&Scylla { login: None, ..settings.clone() }).await;
    says(&told, ErrorKind::Invalid, &["asks for a user", "index.scylla.username"]);
    keyspace.cql("CREATE ROLE IF NOT EXISTS nobody WITH PASSWORD = 'hunter2' AND LOGIN = true").await;
    let nobody = Scylla { login: login("nobody", "hunter2"), ..settings };
    says(&refused(&nobody).await, ErrorKind::Invalid, &["grant", "SELECT and MODIFY"]);
    let other = Scylla { keyspace: "snapfold_test_login_2".into(), ..nobody };
    let told = migrate(&other, Mode::Apply).await.expect_err("it has no rights");
    says(&(told.kind, told.detail), ErrorKind::Invalid, &["snapfold_test_login_2", "grant"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_with_the_way_on() {
    let _server = shared().await;
    let keyspace = Keyspace::absent("missing").await;
    let settings = &keyspace.settings;
    let migrates = ["snapfold migrate", "snapfold_test_missing"];
    says(&refused(settings).await, ErrorKind::Invalid, &migrates);
    let elsewhere = Scylla { datacenter: "moon".into(), ..settings.clone() };
    says(&refused(&elsewhere).await, ErrorKind::Invalid, &["`moon`", "`datacenter1`"]);
    let nobody = Scylla { nodes: vec!["127.0.0.1:1".into()], ..settings.clone() };
    says(&refused(&nobody).await, ErrorKind::Unavailable, &["127.0.0.1:1", "index.scylla.nodes"]);
    let unnamed = Scylla { nodes: vec!["nowhere.invalid:9042".into()], ..settings.clone() };
    says(&refused(&unnamed).await, ErrorKind::Unavailable, &["nowhere.invalid:9042"]);
    migrate(settings, Mode::Apply).await.unwrap();
    let index = keyspace.open().await;
    for version in 1..=LATEST {
        keyspace.cql(&format!("DELETE FROM schema_versions WHERE version = {version}")).await;
    }
    let older = format!("older than version {LATEST}");
    says(&refused(settings).await, ErrorKind::Invalid, &[&older, "snapfold migrate"]);
    keyspace.cql("DROP TABLE snapshots").await;
    says(&refused(settings).await, ErrorKind::Invalid, &migrates);
    for told in [
        index.put_snapshot(row("a", 1)).await.expect_err("there is no table"),
        index.snapshots(&key("a"), Lineage(1), From::Newest, 1).await.expect_err("an error is not absence"),
    ] {
        assert!(matches!(&told, PortError::Permanent(what) if what.contains("snapfold migrate")), "{told}");
    }
    // Tables that are there stay as they are.
    index.put_aggregate(&key("kept"), PartitionNo(3)).await.unwrap();
    migrate(settings, Mode::Apply).await.unwrap();
    let index = keyspace.open().await;
    assert_eq!(index.aggregates("order", None, 9).await, Ok(vec![(key("kept"), PartitionNo(3))]));
    index.put_snapshot(row("a", 1)).await.expect("the table is back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_says_what_it_does_and_may_be_repeated_and_run_twice_at_a_time() {
    let _server = shared().await;
    let keyspace = Keyspace::absent("migrated").await;
    let settings = &keyspace.settings;
    let there = |changes: &[Change]| changes.iter().map(|change| change.was_there).collect::<Vec<_>>();
    let would = migrate(settings, Mode::DryRun).await.unwrap();
    assert!(there(&would).iter().all(|was_there| !was_there), "{would:?}");
    assert_eq!(migrate(settings, Mode::DryRun).await.as_ref(), Ok(&would), "a dry run changes nothing");
    let note = would[0].note.as_deref();
    assert_eq!(note, Some("1 replicas in data centre `datacenter1`"));
    let (one, two) =
        futures_util::future::join(migrate(settings, Mode::Apply), migrate(settings, Mode::Apply)).await;
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let again = migrate(settings, Mode::Apply).await.unwrap();
    assert_eq!(again[0].what, "keyspace `snapfold_test_migrated`");
    assert_eq!(again[1].what, "tables of `0001-index.cql`");
    keyspace.open().await.put_snapshot(row("a", 1)).await.unwrap();
    let again = migrate(settings, Mode::Apply).await.unwrap();
    assert!(there(&again).iter().all(|was_there| *was_there), "{again:?}");
    let three = Scylla { keyspace: "snapfold_test_three".into(), replication_factor: 3, ..settings.clone() };
    let note = migrate(&three, Mode::DryRun).await.unwrap()[0].note.clone().unwrap();
    assert!(note.contains("it has 1 of the 2 nodes"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_used_and_a_server_without_tls_are_told() {
    let _server = shared().await;
    let keyspace = Keyspace::absent("tls").await;
    let with = |ca: &str| Scylla { tls: Some(Tls { ca: Some(ca.into()) }), ..keyspace.settings.clone() };
    says(&refused(&with("no/such/file")).await, ErrorKind::Invalid, &["no/such/file", "index.scylla.tls.ca"]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"no certificate").unwrap();
    let path = file.path().display().to_string();
    says(
        &refused(&with(&path)).await,
        ErrorKind::Invalid,
        &["no certificate to trust", "index.scylla.tls.ca"],
    );
    let system = Scylla { tls: Some(Tls { ca: None }), ..keyspace.settings.clone() };
    let told = ScyllaIndex::open_with(&system, SHORT).await.err().expect("the server speaks no TLS");
    assert!(matches!(told.kind, ErrorKind::Unavailable | ErrorKind::Invalid), "{told}");
}
