//! `migrate`: what the stores need before the first worker starts. It may be repeated at any time, and says what
//! it did; `run` only looks whether it was done.

use super::args::MigrateArgs;
use super::failure::{Done, Exit, Failure};
use super::run::{fault, runtime, start_logging};
use super::screen::Screen;
use super::source::load_config;
use crate::config::{Blobs, Index};
use crate::store::index::scylla::{self, Change, Mode};

pub(super) fn run(args: &MigrateArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
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
    match &config.blobs {
        Blobs::Directory { path } => screen.line(&nothing("blobs", path)),
        Blobs::S3 { .. } => {
            let hint = "use `blobs: { directory: { path: … } }`";
            Err(Failure::new(Exit::Config, "`blobs.s3` is not available in this version").hint(hint))
        }
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
