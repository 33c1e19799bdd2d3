//! Keyspace and tables: `schemas/*.cql`, one file for each version, compiled into the program.
//!
//! *Order*: the keyspace, then the files in the order of their versions, each followed by the row that says
//! it was applied. Two migrations at a time do the same; where a cluster refuses two changes of the schema at
//! once, one of them fails and is repeated.
//! *If it fails*, in whatever place: repeat it; every statement of a file is one that may be repeated.

use super::connect::{self, Timeouts, fault, nodes_nearby};
use super::outcome::{self, Doing};
use crate::config;
use crate::domain::error::{Error, Result};
use crate::domain::outcome::{PortError, PortResult};
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::unprepared::Statement;
use scylla::value::CqlTimestamp;
use std::time::Duration;

/// One file of `schemas/`.
struct Schema {
    version: i32,
    file: &'static str,
    text: &'static str,
}

const SCHEMAS: &[Schema] = &[
    Schema { version: 1, file: "0001-index.cql", text: include_str!("../../../../schemas/0001-index.cql") },
    Schema { version: 2, file: "0002-notes.cql", text: include_str!("../../../../schemas/0002-notes.cql") },
    Schema {
        version: 3,
        file: "0003-schedules.cql",
        text: include_str!("../../../../schemas/0003-schedules.cql"),
    },
    Schema { version: 4, file: "0004-holds.cql", text: include_str!("../../../../schemas/0004-holds.cql") },
    Schema {
        version: LATEST,
        file: "0005-deletions.cql",
        text: include_str!("../../../../schemas/0005-deletions.cql"),
    },
];

/// How often a keyspace is tried again, and after how long.
const USE_TRIES: u32 = 20;
const USE_AGAIN: Duration = Duration::from_millis(100);

/// The version that this program needs.
pub(super) const LATEST: i32 = 5;

/// Whether a migration changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Apply,
    /// It only says what it would do.
    DryRun,
}

/// One thing that a migration looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is, as in "keyspace `snapfold`".
    pub what: String,
    /// True if it was there already.
    pub was_there: bool,
    /// What else there is to say.
    pub note: Option<String>,
}

/// Creates keyspace and tables where they are missing.
///
/// # Errors
/// `Invalid` for what the configuration or the user's rights have to change, else `Unavailable`.
pub async fn migrate(settings: &config::Scylla, mode: Mode) -> Result<Vec<Change>> {
    let (session, _) = connect::connect(settings, Timeouts::USUAL).await?;
    let mut changes = Vec::new();
    let keyspace = &settings.keyspace;
    let doing = |what: &str| format!("migrate keyspace `{keyspace}`: {what}");
    let failed = |error, what: &str| -> Error { fault(error).context(&doing(what)) };
    let has_keyspace = has_keyspace(&session, keyspace).await;
    let has_keyspace = has_keyspace.map_err(|error| failed(error, "look for it"))?;
    if !has_keyspace && mode == Mode::Apply {
        let create = create_keyspace(settings);
        run(&session, create.into()).await.map_err(|error| failed(error, "create it"))?;
    }
    changes.push(Change {
        what: format!("keyspace `{keyspace}`"),
        was_there: has_keyspace,
        note: if has_keyspace { None } else { Some(replication(&session, settings)) },
    });
    let versions = match has_keyspace
        && has_versions(&session, keyspace).await.map_err(|error| failed(error, "look"))?
    {
        true => applied(&session, keyspace).await.map_err(|error| failed(error, "read its version"))?,
        false => Vec::new(),
    };
    if mode == Mode::Apply {
        use_keyspace(&session, keyspace).await.map_err(|error| failed(error, "use it"))?;
    }
    for schema in SCHEMAS {
        let was_there = versions.contains(&schema.version);
        if !was_there && mode == Mode::Apply {
            apply(&session, schema).await.map_err(|error| failed(error, schema.file))?;
        }
        changes.push(Change { what: format!("tables of `{}`", schema.file), was_there, note: None });
    }
    Ok(changes)
}

/// Goes into the keyspace. One that another migration creates at this moment is listed before a server lets
/// anyone in.
async fn use_keyspace(session: &Session, keyspace: &str) -> PortResult<()> {
    let mut tries = 0;
    loop {
        match session.use_keyspace(keyspace.to_owned(), true).await {
            Ok(()) => return Ok(()),
            Err(_) if tries < USE_TRIES => tries += 1,
            Err(error) => return Err(PortError::NotDone(format!("the index: {error}"))),
        }
        tokio::time::sleep(USE_AGAIN).await;
    }
}

/// What to know about a keyspace that is created.
fn replication(session: &Session, settings: &config::Scylla) -> String {
    let (copies, datacenter) = (settings.replication_factor, &settings.datacenter);
    let nodes = nodes_nearby(session, datacenter) as u64;
    let quorum = copies / 2 + 1;
    let said = format!("{copies} replicas in data centre `{datacenter}`");
    if nodes < quorum {
        return format!("{said}; it has {nodes} of the {quorum} nodes that reads and writes need: add nodes");
    }
    said
}

/// Names are checked where the configuration is read; the data centre's is quoted.
fn create_keyspace(settings: &config::Scylla) -> String {
    let datacenter = settings.datacenter.replace('\'', "''");
    format!(
        "CREATE KEYSPACE IF NOT EXISTS \"{}\" WITH replication = \
         {{'class': 'NetworkTopologyStrategy', '{datacenter}': {}}}",
        settings.keyspace, settings.replication_factor
    )
}

/// The statements of a file: comments stand on lines of their own.
fn statements(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let statements = text.split(";\n").map(|statement| statement.trim().trim_end_matches(';').to_owned());
    statements.filter(|statement| !statement.is_empty()).collect()
}

async fn apply(session: &Session, schema: &Schema) -> PortResult<()> {
    for statement in statements(schema.text) {
        run(session, statement.as_str().into()).await?;
    }
    let row = "INSERT INTO schema_versions (version, file, applied_at) VALUES (?, ?, toTimestamp(now()))";
    let done = session.query_unpaged(row, (schema.version, schema.file)).await;
    done.map(drop).map_err(|error| failed(&error))
}

/// Runs a change of the schema; the driver waits until all nodes agree on it.
async fn run(session: &Session, statement: Statement) -> PortResult<()> {
    session.query_unpaged(statement, ()).await.map(drop).map_err(|error| failed(&error))
}

fn failed(error: &ExecutionError) -> PortError {
    outcome::failed(Doing::Writing, error)
}

async fn has_keyspace(session: &Session, keyspace: &str) -> PortResult<bool> {
    let query = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    has_row(session, query, &[keyspace]).await
}

async fn has_versions(session: &Session, keyspace: &str) -> PortResult<bool> {
    let query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    has_row(session, query, &[keyspace, "schema_versions"]).await
}

async fn has_row(session: &Session, query: &str, values: &[&str]) -> PortResult<bool> {
    let page = session.query_unpaged(query, values).await.map_err(|error| failed(&error))?;
    let page = page.into_rows_result().map_err(|error| super::unreadable(&error))?;
    Ok(page.rows_num() > 0)
}

async fn applied(session: &Session, keyspace: &str) -> PortResult<Vec<i32>> {
    let query = format!("SELECT version, applied_at FROM \"{keyspace}\".schema_versions");
    let page = session.query_unpaged(query, ()).await.map_err(|error| failed(&error))?;
    let page = page.into_rows_result().map_err(|error| super::unreadable(&error))?;
    let versions = super::typed::<(i32, CqlTimestamp)>(&page)?;
    versions.map(|row| row.map(|(version, _)| version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_statements_and_every_one_may_be_repeated() {
        for schema in SCHEMAS {
            let statements = statements(schema.text);
            assert_eq!(statements.len(), schema.text.matches("\nCREATE ").count());
            for statement in &statements {
                assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS "), "{statement}");
                assert!(!statement.contains(';') && !statement.contains("--"), "{statement}");
            }
        }
        let versions: Vec<i32> = SCHEMAS.iter().map(|schema| schema.version).collect();
        assert!(versions.is_sorted_by(|a, b| a < b) && versions.last() == Some(&LATEST));
    }

    #[test]
    fn every_file_of_the_folder_is_applied() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");
        let files =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = files.filter(|file| file.ends_with(".cql")).collect();
        files.sort();
        assert_eq!(files, SCHEMAS.iter().map(|schema| schema.file).collect::<Vec<_>>());
    }
}
