//! The purge of a process: after each of its garbage collections, and with `gc`.
//!
//! *If it fails*: it is told and tried again at the next turn; nothing else waits for it.

use super::run::RETRY_MS;
use super::settings::{compression, session};
use super::stack::FLUSH_DEADLINE_MS;
use super::stores::Stores;
use crate::clock::Clock;
use crate::compute::{Compute, Inline, Threads};
use crate::config::{Config, Dictionaries, Stream};
use crate::store::SnapshotStore;
use crate::store::flush::FlushLimits;
use crate::store::packs::Packs;
use crate::telemetry::metrics as table;
use crate::upkeep::purge::{Purge, PurgeSettings};
use std::sync::Arc;
use tracing::{info, warn};

pub(super) use crate::upkeep::purge::{Mode, Report};

/// Who rewrites packs of these stores.
pub(super) fn of(config: &Config, stores: &Stores) -> Purge {
    let clock = Arc::clone(&stores.clock) as Arc<dyn Clock>;
    let plan = config.streams.first().map(compression).unwrap_or_default();
    let packs =
        Packs::new(Arc::clone(&stores.index), Arc::clone(&stores.blobs), plan, session(&stores.clock));
    // A pack takes some hundred milliseconds to copy and to read back. Without threads others wait for that.
    let compute: Arc<dyn Compute> = match Threads::start() {
        Ok(threads) => Arc::new(threads),
        Err(_) => Arc::new(Inline),
    };
    let store = SnapshotStore {
        index: Arc::clone(&stores.index),
        packs: Arc::new(packs),
        clock,
        compute,
        limits: FlushLimits { deadline_ms: FLUSH_DEADLINE_MS, retry_ms: RETRY_MS },
        written: Arc::default(),
    };
    let topic = |stream: &Stream| (Arc::clone(&stream.kind), Arc::clone(&stream.topic));
    let traced = config.streams.iter().filter(|stream| stream.dictionary == Dictionaries::Off);
    let traced = traced.map(|stream| Arc::clone(&stream.kind)).collect();
    let settings = PurgeSettings { settle_ms: config.gc.age_ms_min, ..PurgeSettings::default() };
    Purge::new(Arc::new(store), config.streams.iter().map(topic).collect(), traced, settings)
}

/// One pass, and what it came to.
pub(super) async fn turn(purge: &Purge) {
    match purge.pass(Mode::Purge).await {
        Ok(None) => {}
        Ok(Some(report)) => {
            metrics::counter!(table::PURGE_PACKS.name).increment(report.rewritten);
            metrics::counter!(table::PURGE_RECORDS.name).increment(report.moved);
            metrics::gauge!(table::PURGE_INCOMPLETE.name).set(report.incomplete as f64);
            let Report { holding, rewritten, moved, waiting, damaged, completed, incomplete, .. } = report;
            if holding + completed + incomplete > 0 {
                info!(holding, rewritten, moved, waiting, completed, incomplete, "erased records purged");
            }
            if damaged > 0 {
                let hint = "`verify --all --tier full` names them, and the scrub writes them anew";
                warn!(damaged, hint, "packs that cannot be read keep erasures from being complete");
            }
        }
        Err(error) => warn!(%error, "the purge goes on at its next turn"),
    }
}

/// The figures of a pass, for `gc`.
pub(super) fn figures(report: &Report) -> [(&'static str, u64); 6] {
    [
        ("erasures", report.erasures),
        ("erasuresIncomplete", report.incomplete),
        ("packsOfErased", report.holding),
        ("rewritten", report.rewritten),
        ("movedRecords", report.moved),
        ("damaged", report.damaged),
    ]
}
