//! `rebuild-index`: the rows of an index that was lost, from the objects of the blob store.

use super::{RebuildIndexArgs, beside, told};
use crate::cli::failure::{Done, Exit, Failure};
use crate::cli::run::{fault, runtime, start_logging};
use crate::cli::screen::Screen;
use crate::cli::settings::session;
use crate::cli::source::load_config;
use crate::cli::stores::Stores;
use crate::clock::Clock;
use crate::config::{Config, Stream};
use crate::domain::ids::{Lineage, PartitionNo};
use crate::domain::row::PartitionKey;
use crate::store::packs::{CompressionPlan, Packs};
use crate::store::rebuild::{self, Progress, Rebuild, Rebuilt, Settings};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const HINT: &str = "no low watermark was written, so no worker starts on this index: restore the objects named above \
                    and run it again, or say `--accept-losses` to go on without what they held";

pub(in crate::cli) fn rebuild_index(args: &RebuildIndexArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(&args.source.config, &args.source.sets)?;
    let settings = Settings {
        writes: args.concurrency as usize,
        dry_run: args.dry_run,
        accept_losses: args.accept_losses,
        ..Settings::default()
    };
    runtime(&config)?.block_on(async {
        let stores = Stores::open(&config).await?;
        rebuilt(&config, &stores, settings, screen).await
    })
}

/// Rebuilds the index of opened stores, and says what came of it.
pub(super) async fn rebuilt(
    config: &Config,
    stores: &Stores,
    settings: Settings,
    screen: &mut Screen<'_>,
) -> Done {
    let progress = Arc::new(Progress::default());
    let (index, blobs) = (Arc::clone(&stores.index), Arc::clone(&stores.blobs));
    let packs = Packs::new(Arc::clone(&index), blobs, CompressionPlan::default(), session(&stores.clock));
    let streams = config.streams.iter();
    let rebuild = Rebuild {
        index,
        packs: Arc::new(packs),
        clock: Arc::clone(&stores.clock) as Arc<dyn Clock>,
        topics: streams.map(|stream| (Arc::clone(&stream.kind), Arc::clone(&stream.topic))).collect(),
        settings,
        progress: Arc::clone(&progress),
    };
    let started = stores.clock.monotonic_ms();
    let done = beside(rebuild.run(), || look(&progress)).await.map_err(fault)?;
    let took = stores.clock.monotonic_ms().saturating_sub(started).max(1);
    say(&done, settings.dry_run, took, screen)?;
    let hint = if settings.accept_losses { "what they held is lost" } else { HINT };
    told(&done.problems, hint, screen)
}

/// How far a rebuild is.
pub(super) fn look(progress: &Progress) -> (u64, u64, String) {
    let (packs, footers) = (progress.packs.load(Relaxed), progress.footers.load(Relaxed));
    match progress.records.load(Relaxed) {
        0 => (footers, packs, format!("{footers} of {packs} footers")),
        records => {
            let done = progress.done.load(Relaxed);
            (done, records, format!("{done} of at most {records} records"))
        }
    }
}

fn say(done: &Rebuilt, is_dry: bool, took_ms: u64, screen: &mut Screen<'_>) -> Done {
    let written = if is_dry { "would be written" } else { "written" };
    let [full, history, checkpoint] = done.packs;
    screen.line(&format!("packs: {full} full, {history} history, {checkpoint} checkpoint"))?;
    let a_second = done.rows * 1_000 / took_ms;
    screen.line(&format!(
        "snapshots: {} rows {written} ({a_second} a second), {} there already, of {} aggregates",
        done.rows, done.there, done.aggregates
    ))?;
    if done.deleted > 0 {
        screen.line(&format!("left out: {} rows that were deleted", done.deleted))?;
    }
    if done.erased > 0 {
        screen.line(&format!("left out: {} erased aggregates", done.erased))?;
    }
    if done.lone > 0 {
        screen
            .line(&format!("left out: {} full records of flushes that were never acknowledged", done.lone))?;
    }
    let (live, superseded) = (done.checkpoints, done.superseded);
    screen.line(&format!("checkpoints: {live} rows {written}, {superseded} superseded by snapshots"))?;
    let (notes, holds, dictionaries) = (done.notes, done.holds, done.dictionaries);
    screen.line(&format!("notes: {notes}, holds: {holds}, dictionaries: {dictionaries}"))?;
    if done.schedules > 0 {
        screen.line(&format!("changes of schedules: {}", done.schedules))?;
    }
    screen.line(&format!("low watermarks: {} {written}", done.watermarks))?;
    screen.say("dead letters are in no pack: those of the index that was lost are gone");
    Ok(())
}

/// Refuses an index that was lost, or whose rebuilding has not ended: aggregates that it does not know would
/// be folded as if they were new.
pub(in crate::cli) async fn refuse_lost_index(
    stream: &Stream,
    packs: &Packs,
    stores: &Stores,
    (lineage, partitions): (Lineage, u32),
) -> Done {
    let topic = &stream.topic;
    let logs = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).map(|number| PartitionKey {
        topic: Arc::clone(topic),
        partition: PartitionNo(number),
        lineage,
    });
    let lost = rebuild::is_lost(&*stores.index, packs, &stream.kind, logs.collect()).await;
    match lost.map_err(fault)? {
        false => Ok(()),
        true => {
            let what = format!(
                "the index knows nothing of topic `{topic}`, but packs hold checkpoints of it: it was lost, or its \
                 rebuilding has not ended"
            );
            Err(Failure::new(Exit::Conflict, what)
                .hint("run `snapfold rebuild-index --config FILE`, then start again"))
        }
    }
}
