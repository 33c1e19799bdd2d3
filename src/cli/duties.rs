//! Background duties of a worker process, and the `gc` command. Each duty is a loop: wait, do, tell.
//!
//! *If it fails*: it is told and tried again at the next turn; nothing else waits for it.

use super::archive;
use super::args::{ConfigSource, Format};
use super::failure::Done;
use super::print;
use super::purge;
use super::run::{fault, runtime};
use super::screen::Screen;
use super::settings::{compression, keep, session};
use super::source::load_config;
use super::stores::Stores;
use crate::clock::Clock;
use crate::config::{Config, History, Stream};
use crate::lookup::Streams;
use crate::store::packs::Packs;
use crate::telemetry::metrics::{self as table, Metrics};
use crate::upkeep::gc::{Collector, GcSettings, Mode, Report};
use crate::upkeep::purge::Purge;
use crate::upkeep::retention::Retention;
use crate::upkeep::thinning::Thinning;
use crate::worker::Handle;
use clap::Args;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// Between two times at which histograms are folded into their buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// `gc`.
#[derive(Args, Clone, Debug)]
pub struct GcArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only tell what would go; looks at every record, and so tells how many are dead
    #[arg(long)]
    pub dry_run: bool,
    /// Delete what nothing names even where that is more than a fifth of all packs
    #[arg(long, conflicts_with = "dry_run")]
    pub force: bool,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// Starts what the configuration asks for.
pub(super) fn start(
    config: &Config,
    stores: &Stores,
    streams: &Streams,
    workers: &BTreeMap<Arc<str>, Handle>,
    tasks: &mut JoinSet<()>,
) {
    for stream in &config.streams {
        let parts = streams.by_type.get(&stream.kind).zip(workers.get(&stream.kind));
        let Some((lookup, handle)) = parts else { continue };
        let (ledger, packs, lineage) = lookup.upkeep();
        let thinning = Thinning {
            retention: Retention { packs, ledger: Arc::new(ledger), lineage },
            keep: keep(stream),
            kind: Arc::clone(&stream.kind),
            per_second: stream.retention.per_second,
        };
        let is_wanted = stream.retention.snapshots_max.is_some() || stream.retention.period_ms.is_some();
        if is_wanted {
            tasks.spawn(thin(thinning, handle.clone(), Duration::from_millis(stream.retention.interval_ms)));
        }
    }
    if let Some(archiving) = archive::duty(config, stores) {
        tasks.spawn(archiving);
    }
    if config.gc.enabled {
        let every = Duration::from_millis(config.gc.interval_ms);
        tasks.spawn(collect(collector(config, stores), purge::of(config, stores), every));
    }
}

/// Folds histograms into their buckets, now and then.
pub(super) async fn fold_histograms(metrics: Arc<Metrics>) {
    loop {
        tokio::time::sleep(METRICS_UPKEEP).await;
        metrics.upkeep();
    }
}

async fn thin(thinning: Thinning, own: Handle, every: Duration) {
    let stream = thinning.kind.to_string();
    loop {
        tokio::time::sleep(every).await;
        match thinning.sweep(&own).await {
            Ok(swept) => {
                metrics::counter!(table::RETENTION_DELETED.name, "stream" => stream.clone())
                    .increment(swept.rows);
                metrics::counter!(table::RETENTION_BYTES.name, "stream" => stream.clone())
                    .increment(swept.bytes);
                metrics::counter!(table::RETENTION_REFUSED.name, "stream" => stream.clone())
                    .increment(swept.held + swept.unproved);
                if swept.unproved > 0 {
                    let aggregates = swept.unproved;
                    let hint = "`POST …/verify` names the damaged records";
                    warn!(stream, aggregates, hint, "snapshots stay that others would have to stand in for");
                }
                if swept.rows > 0 {
                    let (rows, bytes) = (swept.rows, swept.bytes);
                    info!(stream, rows, bytes, "snapshots deleted by retention");
                }
            }
            Err(error) => warn!(stream, %error, "retention goes on at its next turn"),
        }
    }
}

fn collector(config: &Config, stores: &Stores) -> Collector {
    let clock = Arc::clone(&stores.clock) as Arc<dyn Clock>;
    // Compression matters only for what is written, and nothing is.
    let plan = config.streams.first().map(compression).unwrap_or_default();
    let packs =
        Packs::new(Arc::clone(&stores.index), Arc::clone(&stores.blobs), plan, session(&stores.clock));
    let topic = |stream: &Stream| (Arc::clone(&stream.kind), Arc::clone(&stream.topic));
    let thinned = config.streams.iter().filter(|stream| stream.history != History::Forever);
    let settings = GcSettings {
        age_ms_min: config.gc.age_ms_min,
        distance_ms: config.gc.distance_ms,
        orphan_ms: config.gc.orphan_ms,
        ..GcSettings::default()
    };
    Collector {
        index: Arc::clone(&stores.index),
        packs: Arc::new(packs),
        clock,
        topics: config.streams.iter().map(topic).collect(),
        thinned: thinned.map(|stream| Arc::clone(&stream.kind)).collect(),
        settings,
    }
}

async fn collect(collector: Collector, purge: Purge, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let collected = collector.turn(u64::try_from(every.as_millis()).unwrap_or(u64::MAX)).await;
        // Whoever has the turn purges as well: what was collected is gone by then.
        if !matches!(collected, Ok(None)) {
            purge::turn(&purge).await;
        }
        match collected {
            Ok(None) => {}
            Ok(Some(report)) => {
                metrics::counter!(table::GC_PASSES.name).increment(1);
                metrics::counter!(table::GC_PACKS.name).increment(report.deleted);
                metrics::counter!(table::GC_BYTES.name).increment(report.freed_bytes);
                metrics::gauge!(table::GC_CONDEMNED.name).set(report.condemned as f64);
                let Report { packs, deleted, condemned, freed_bytes, unknown, orphaned, withheld, .. } =
                    report;
                info!(packs, deleted, condemned, freed_bytes, unknown, orphaned, "garbage collected");
                metrics::gauge!(table::GC_ORPHANED.name).set(orphaned as f64);
                if withheld > 0 {
                    let hint =
                        "if that many are to go, `snapfold gc --force` does it; else see `rebuild-index`";
                    error!(withheld, packs, hint, "too many packs lost their last row: none was deleted");
                }
                if orphaned > 0 {
                    warn!(
                        orphaned,
                        "the index does not tell of versions that packs hold: see `rebuild-index`"
                    );
                }
            }
            Err(error) => warn!(%error, "garbage collection goes on at its next turn"),
        }
    }
}

/// The `gc` command: one pass, by hand.
pub(super) fn gc(args: &GcArgs, screen: &mut Screen<'_>) -> Done {
    let config = load_config(&args.source.config, &args.source.sets)?;
    let mode = match (args.dry_run, args.force) {
        (true, _) => Mode::DryRun,
        (false, true) => Mode::Forced,
        (false, false) => Mode::Collect,
    };
    let (report, purged) = runtime(&config)?.block_on(async {
        let stores = Stores::open(&config).await?;
        let report = collector(&config, &stores).pass(mode).await.map_err(fault)?;
        let purging = if args.dry_run { purge::Mode::DryRun } else { purge::Mode::Purge };
        Done::Ok((report, purge::of(&config, &stores).pass(purging).await.map_err(fault)?))
    })?;
    let Some(report) = report else {
        screen.say("another worker collects at this moment: nothing to do");
        return Ok(());
    };
    if report.withheld > 0 {
        screen.say(
            "more than a fifth of all packs would go, so none did: the index may have lost rows (see \
             `rebuild-index`); if they are meant to go, `--force` does it",
        );
    }
    for obstacle in purged.iter().flat_map(|purged| purge::obstacles(purged, true)) {
        screen.say(&obstacle);
    }
    told(&report, purged.as_ref(), args, screen)
}

fn told(report: &Report, purged: Option<&purge::Report>, args: &GcArgs, screen: &mut Screen<'_>) -> Done {
    let mut members = vec![
        ("packs", report.packs),
        ("live", report.live),
        ("condemned", report.condemned),
        ("orphaned", report.orphaned),
        (if args.dry_run { "wouldDelete" } else { "deleted" }, report.deleted),
        ("freedBytes", report.freed_bytes),
        ("withheld", report.withheld),
        ("unknown", report.unknown),
        ("late", report.late),
        ("records", report.records),
        ("deadRecords", report.dead_records),
        ("deadBytes", report.dead_bytes),
    ];
    // None while another purge is at work.
    members.extend(purged.into_iter().flat_map(purge::figures));
    print::figures(screen, args.output, &members)
}
