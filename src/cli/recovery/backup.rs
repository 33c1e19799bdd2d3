//! `backup` and `restore`.

use super::rebuild::rebuilt;
use super::{BackupArgs, BucketArgs, RestoreArgs, beside, told};
use crate::cli::failure::{Done, Exit, Failure};
use crate::cli::run::{fault, first_answer, runtime, start_logging};
use crate::cli::screen::Screen;
use crate::cli::source::load_config;
use crate::cli::stores::{self, Stores};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::store::blobs::s3::{Bounds, S3Blobs};
use crate::store::blobs::{Blobs, LocalBlobs};
use crate::store::rebuild::Settings;
use crate::upkeep::backup::{self, Mode, Progress, Report};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(in crate::cli) fn backup(args: &BackupArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(&args.source.config, &args.source.sets)?;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Write };
    runtime(&config)?.block_on(async {
        let from = stores::blobs(&config).await?;
        let to = place(&config, &args.target, &args.bucket).await?;
        let (progress, now) = (Progress::default(), SystemClock::start().now());
        let work = backup::backup(&*from, &*to, now, mode, &progress);
        let report = beside(work, || look(&progress)).await.map_err(fault)?;
        say(&report, mode, screen)?;
        let hint = "damaged objects are not in the backup: `snapfold verify --offline` tells what they hold";
        told(&report.problems, hint, screen)
    })
}

pub(in crate::cli) fn restore(args: &RestoreArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(&args.source.config, &args.source.sets)?;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Write };
    runtime(&config)?.block_on(async {
        let from = place(&config, &args.from, &args.bucket).await?;
        let stores = Stores::open(&config).await?;
        let streams = config.streams.iter();
        let streams: Vec<_> =
            streams.map(|stream| (Arc::clone(&stream.kind), Arc::clone(&stream.topic))).collect();
        backup::refuse_used_index(&*stores.index, (&*from, &*stores.blobs), &streams).await.map_err(fault)?;
        let progress = Progress::default();
        let work = backup::restore(&*from, &*stores.blobs, args.backup.as_deref(), mode, &progress);
        let report = beside(work, || look(&progress)).await.map_err(fault)?;
        say(&report, mode, screen)?;
        if !args.accept_losses {
            let hint = "nothing of the index was written: mend the backup, take another one with `--backup`, or say \
                        `--accept-losses`";
            told(&report.problems, hint, screen)?;
        }
        if mode == Mode::DryRun {
            return Ok(());
        }
        let settings = Settings { accept_losses: args.accept_losses, ..Settings::default() };
        rebuilt(&config, &stores, settings, screen).await
    })
}

/// Where a backup is or goes.
async fn place(config: &Config, place: &str, bucket: &BucketArgs) -> Done<Arc<dyn Blobs>> {
    let Some(rest) = place.strip_prefix("s3://") else {
        let canonical = |path: &str| std::fs::canonicalize(path).ok();
        let is_it = |blobs: &config::Blobs| match blobs {
            config::Blobs::Directory { path } => {
                canonical(path).is_some_and(|own| canonical(place) == Some(own))
            }
            config::Blobs::S3(_) => false,
        };
        if is_it(&config.blobs) || config.archive.as_ref().is_some_and(|archive| is_it(&archive.place)) {
            let hint = "give another folder, on another disk";
            return Err(Failure::usage("a backup in the blob store itself protects nothing", hint));
        }
        return Ok(Arc::new(LocalBlobs::open(Path::new(place)).map_err(fault)?));
    };
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let own = match &config.blobs {
        config::Blobs::S3(s3) => Some(s3),
        config::Blobs::Directory { .. } => None,
    };
    let prefix =
        if prefix.is_empty() || prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
    let settings = config::S3 {
        bucket: name.to_owned(),
        prefix,
        endpoint: bucket.endpoint.clone().or_else(|| own?.endpoint.clone()),
        region: bucket.region.clone().or_else(|| Some(own?.region.clone())).unwrap_or("us-east-1".to_owned()),
        is_path_style: bucket.path_style || own.is_some_and(|own| own.is_path_style),
        has_checksums: own.is_none_or(|own| own.has_checksums),
        keys: own.and_then(|own| own.keys.clone()),
        storage_class: None,
    };
    let archive = match config.archive.as_ref().map(|archive| &archive.place) {
        Some(config::Blobs::S3(s3)) => Some(config::S3 { storage_class: None, ..s3.clone() }),
        Some(config::Blobs::Directory { .. }) | None => None,
    };
    if own.is_some_and(|own| *own == settings) || archive.is_some_and(|archive| archive == settings) {
        let hint = "give another bucket, or another prefix";
        return Err(Failure::usage("a backup in the blob store itself protects nothing", hint));
    }
    let blobs = S3Blobs::open(&settings, Bounds::default()).await;
    let hint = "create the bucket, or check `--endpoint`, the keys of `blobs.s3` and their rights";
    first_answer("ask for the bucket of the backup", hint, || blobs.check())
        .await
        .map_err(|failure| Failure { exit: Exit::Unreachable, ..failure })?;
    Ok(Arc::new(blobs))
}

fn look(progress: &Progress) -> (u64, u64, String) {
    let (done, total) = (progress.done.load(Relaxed), progress.total.load(Relaxed));
    (done, total, format!("{done} of {total} objects"))
}

fn say(report: &Report, mode: Mode, screen: &mut Screen<'_>) -> Done {
    let done = if mode == Mode::Write { "copied" } else { "would be copied" };
    let (copied, bytes) = (report.copied, report.copied_bytes);
    screen
        .line(&format!("backup `{}`: {} objects, {} bytes", report.manifest, report.objects, report.bytes))?;
    screen.line(&format!("{done}: {copied} objects, {bytes} bytes"))
}
