//! `migrate`: what the stores need before the first worker starts. It may be repeated at any time, and says
//! what it did; `run` only looks whether it was done.

use super::args::MigrateArgs;
use super::failure::{Done, Exit, Failure};
use super::run::{fault, runtime};
use super::screen::Screen;
use super::source::load_config;
use crate::config::{Blobs, Index};
use crate::domain::outcome::{PortError, PortResult};
use crate::store::blobs::s3::{Bounds, S3Blobs};
use crate::store::index::scylla::{self, Change, Mode};

pub(super) fn run(args: &MigrateArgs, screen: &mut Screen<'_>) -> Done {
    let config = load_config(&args.source.config, &args.source.sets)?;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    match &config.index {
        Index::Embedded { path } => screen.line(&nothing("index", path))?,
        Index::Scylla(settings) => {
            let changes = runtime(&config)?.block_on(scylla::migrate(settings, mode)).map_err(fault)?;
            for change in changes {
                screen.line(&told(&change, mode))?;
            }
        }
    }
    let archive = config.archive.as_ref().map(|archive| ("blobs.archive", &archive.place));
    for (section, place) in [("blobs", &config.blobs)].into_iter().chain(archive) {
        match place {
            Blobs::Directory { path } => screen.line(&nothing(section, path))?,
            Blobs::S3(s3) => {
                let bucket = runtime(&config)?.block_on(async {
                    let blobs = S3Blobs::open(s3, Bounds::default()).await;
                    bucket(&blobs, mode).await
                });
                let done = bucket.map_err(|error| {
                    let hint =
                        format!("check `{section}.s3`, its keys and their rights, and that the store is up");
                    Failure::new(Exit::Unreachable, error.to_string()).hint(hint)
                })?;
                screen.line(&format!("{section}: bucket `{}`: {done}", s3.bucket))?;
            }
        }
    }
    Ok(())
}

/// Creates the bucket, unless it is there and may be used.
async fn bucket(blobs: &S3Blobs, mode: Mode) -> PortResult<&'static str> {
    match (blobs.check().await, mode) {
        (Ok(()), _) => Ok("there already"),
        (Err(_), Mode::Apply) => {
            blobs.create_bucket().await?;
            blobs.check().await?;
            Ok("created")
        }
        (Err(PortError::Permanent(_)), Mode::DryRun) => Ok("missing or not ours; would be created"),
        (Err(error), Mode::DryRun) => Err(error),
    }
}

fn nothing(store: &str, path: &str) -> String {
    format!("{store}: the folder `{path}`, which `run` creates: nothing to do")
}

fn told(change: &Change, mode: Mode) -> String {
    let done = match (change.was_there, mode) {
        (true, _) => "there already",
        (false, Mode::Apply) => "created",
        (false, Mode::DryRun) => "missing; would be created",
    };
    let note = change.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
    format!("index: {}: {done}{note}", change.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;
    use crate::cli::stores;
    use crate::store::index::scylla::tests::cluster::{Keyspace, shared};
    use std::path::{Path, PathBuf};

    const STREAM: &str = "streams: [ { type: order, topic: orders, map: { aggregateId: key, eventType: /type }, reducer: merge } ]";

    fn printed(config: &Path, dry_run: bool) -> (String, Done) {
        let source = super::super::args::ConfigSource { config: config.to_owned(), sets: Vec::new() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, is_coloured: false };
        let done = run(&MigrateArgs { source, dry_run }, &mut screen);
        (String::from_utf8(out).unwrap(), done)
    }

    fn written(folder: &Path, stores: &str) -> PathBuf {
        let file = folder.join("snapfold.yaml");
        std::fs::write(&file, format!("{stores}\n{STREAM}\n")).unwrap();
        file
    }

    #[test]
    fn there_is_nothing_to_do_for_folders() {
        let folder = tempfile::tempdir().unwrap();
        let stores = "index: { embedded: { path: no/index } }\n\
                      blobs: { directory: { path: no/blobs }, archive: { directory: { path: no/archive } } }";
        let (told, done) = printed(&written(folder.path(), stores), false);
        assert_eq!(done, Ok(()));
        assert_eq!(
            told,
            "index: the folder `no/index`, which `run` creates: nothing to do\n\
             blobs: the folder `no/blobs`, which `run` creates: nothing to do\n\
             blobs.archive: the folder `no/archive`, which `run` creates: nothing to do\n"
        );
    }

    /// Goal: `run` refuses an index that was not migrated and names the way on; `migrate` says what it does.
    #[test]
    fn an_index_is_opened_after_its_migration_and_not_before() {
        let waiting = tokio::runtime::Runtime::new().unwrap();
        let (_server, keyspace) = waiting.block_on(async { (shared().await, Keyspace::absent("cli").await) });
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "cassandra\n").unwrap();
        let (node, password) = (&keyspace.settings.nodes[0], password.display());
        let index = format!(
            "index: {{ scylla: {{ nodes: [\"{node}\"], keyspace: snapfold_test_cli, replicationFactor: 1, \
             username: cassandra, password: {{ fromFile: \"{password}\" }} }} }}"
        );
        let file = written(folder.path(), &format!("{index}\nblobs: {{ directory: {{ path: no/blobs }} }}"));
        let blobs = "blobs: the folder `no/blobs`, which `run` creates: nothing to do\n";
        let config = load_config(&file, &[]).unwrap();
        let open = || waiting.block_on(stores::index(&config)).map(drop);
        let lines = |keyspace: &str, tables: &str| {
            let note =
                if keyspace == "there already" { "" } else { " (1 replicas in data centre `datacenter1`)" };
            format!(
                "index: keyspace `snapfold_test_cli`: {keyspace}{note}\n\
                 index: tables of `0001-index.cql`: {tables}\n\
                 index: tables of `0002-notes.cql`: {tables}\n\
                 index: tables of `0003-schedules.cql`: {tables}\n\
                 index: tables of `0004-holds.cql`: {tables}\n\
                 index: tables of `0005-deletions.cql`: {tables}\n{blobs}"
            )
        };
        let refusal = open().expect_err("there is no keyspace");
        assert_eq!(refusal.exit, Exit::Config);
        assert!(refusal.message.contains("run `snapfold migrate`"), "{}", refusal.message);
        let would = "missing; would be created";
        assert_eq!(printed(&file, true), (lines(would, would), Ok(())));
        assert!(open().is_err(), "a dry run creates nothing");
        assert_eq!(printed(&file, false), (lines("created", "created"), Ok(())));
        assert_eq!(open(), Ok(()));
        assert_eq!(printed(&file, false), (lines("there already", "there already"), Ok(())));
    }
}
