//! `archive`, and the duty of a worker that does the same: moving packs that are old enough to
//! `blobs.archive`.
//!
//! *If it fails*: it is told and tried again at the next turn; nothing else waits for it. *If cancelled*: the
//!   next pass goes on.

use super::args::{ConfigSource, Format};
use super::failure::{Done, Exit, Failure};
use super::print;
use super::run::{fault, runtime};
use super::screen::{Screen, printable};
use super::settings::{compression, session};
use super::source::load_config;
use super::stores::Stores;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::archive::Policy;
use crate::store::packs::Packs;
use crate::telemetry::metrics as table;
use crate::upkeep::archive::{ArchiveSettings, Archiver, Mode, Report};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};

/// Before the next pass where the last one left packs that could go.
const SOON: Duration = Duration::from_secs(60);

/// `archive`.
#[derive(Args, Clone, Debug)]
pub struct ArchiveArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only tell what would be moved
    #[arg(long)]
    pub dry_run: bool,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// Whoever moves packs, as the configuration wants it; none where there is no archive, or no type has
/// `archiveAfter`.
fn archiver(config: &Config, stores: &Stores, settings: ArchiveSettings) -> Option<Archiver> {
    let after = config
        .streams
        .iter()
        .filter_map(|stream| stream.retention.archive_after_ms.map(|ms| (Arc::clone(&stream.kind), ms)));
    let policy = Policy(after.collect());
    policy.earliest_ms()?;
    let archive = stores.archive.as_ref()?;
    // Compression matters only for what is written, and nothing is.
    let plan = config.streams.first().map(compression).unwrap_or_default();
    let live = Arc::clone(archive.live());
    let packs = Packs::new(Arc::clone(&stores.index), live, plan, session(&stores.clock));
    let clock = Arc::clone(&stores.clock) as Arc<dyn Clock>;
    Some(Archiver::new(Arc::clone(archive), packs, clock, policy, settings))
}

/// The duty of a worker, if the configuration has it.
pub(super) fn duty(config: &Config, stores: &Stores) -> Option<impl Future<Output = ()> + Send + use<>> {
    let every = Duration::from_millis(config.archive.as_ref()?.interval_ms);
    Some(repeat(archiver(config, stores, ArchiveSettings::default())?, every))
}

async fn repeat(archiver: Archiver, every: Duration) {
    let mut wait = every;
    loop {
        tokio::time::sleep(wait).await;
        wait = every;
        match archiver.pass(Mode::Move).await {
            Ok(None) => {}
            Ok(Some(report)) => {
                tell(&report);
                if report.has_more {
                    wait = every.min(SOON);
                }
            }
            Err(error) => warn!(%error, "archiving goes on at its next turn"),
        }
    }
}

fn tell(report: &Report) {
    let Report { moved, moved_bytes, refused, failed, .. } = *report;
    metrics::counter!(table::ARCHIVE_PACKS.name).increment(moved);
    metrics::counter!(table::ARCHIVE_BYTES.name).increment(moved_bytes);
    metrics::counter!(table::ARCHIVE_FAILED.name).increment(failed);
    metrics::gauge!(table::ARCHIVE_REFUSED.name).set(refused as f64);
    if moved > 0 {
        info!(packs = moved, bytes = moved_bytes, "packs archived");
    }
    if failed > 0 {
        warn!(packs = failed, "packs could not be archived: a store did not answer");
    }
    for problem in &report.problems {
        let hint = "`snapfold verify` tells what is damaged";
        error!(error = %problem, hint, "a pack is not archived");
    }
}

/// The `archive` command: all that is old enough, by hand.
pub(super) fn run(args: &ArchiveArgs, screen: &mut Screen<'_>) -> Done {
    let config = load_config(&args.source.config, &args.source.sets)?;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Move };
    let settings = ArchiveSettings { packs_max: u64::MAX, ..ArchiveSettings::default() };
    let report = runtime(&config)?.block_on(async {
        let stores = Stores::open(&config).await?;
        let Some(archiver) = archiver(&config, &stores, settings) else {
            let hint = "say `retention: { archiveAfter: 90d }` in a stream, and `blobs: { archive: … }`";
            return Err(Failure::new(Exit::Config, "no stream has its packs archived").hint(hint));
        };
        archiver.pass(mode).await.map_err(fault)
    })?;
    let Some(report) = report else {
        screen.say("another worker archives at this moment: nothing to do");
        return Ok(());
    };
    let members = [
        ("packs", report.packs),
        ("stay", report.stay),
        (if args.dry_run { "wouldMove" } else { "moved" }, report.moved),
        ("movedBytes", report.moved_bytes),
        ("refused", report.refused),
        ("failed", report.failed),
    ];
    print::figures(screen, args.output, &members)?;
    report.problems.iter().for_each(|problem| screen.say(&printable(&problem.to_string())));
    match (report.refused, report.failed) {
        (0, 0) => Ok(()),
        (0, failed) => {
            let what = format!("{failed} packs stay: a store did not answer");
            Err(Failure::new(Exit::Unreachable, what).hint("run it again once it does: it goes on"))
        }
        (refused, _) => {
            let what =
                format!("{refused} packs stay: they, or what has their names in the archive, are damaged");
            Err(Failure::new(Exit::Verification, what).hint("`snapfold verify` tells what is damaged"))
        }
    }
}
