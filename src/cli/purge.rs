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
use crate::store::lineages::Standing;
use crate::store::packs::Packs;
use crate::telemetry::metrics as table;
use crate::upkeep::purge::{Purge, PurgeSettings, Waiting};
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
            let obstacles = obstacles(&report, false);
            let Report { holding, rewritten, moved, waiting, damaged, completed, incomplete, .. } = report;
            if holding + completed + incomplete > 0 {
                info!(holding, rewritten, moved, waiting, completed, incomplete, "erased records purged");
            }
            for obstacle in obstacles {
                warn!("{obstacle}");
            }
            if damaged > 0 {
                let hint = "`verify --all --tier full` names them, and the scrub writes them anew";
                warn!(damaged, hint, "packs that cannot be read keep erasures from being complete");
            }
        }
        Err(error) => warn!(%error, "the purge goes on at its next turn"),
    }
}

/// What erasures wait for that does not come by itself, a sentence each; the active lineage's packs only if
/// `all` is asked for: a worker that folds it lets go of them within minutes.
pub(super) fn obstacles(report: &Report, all: bool) -> Vec<String> {
    let is_told = |waiting: &Waiting| all || waiting.standing != Some(Standing::Active);
    let waits = report.waits.iter().filter(|(_, waiting)| is_told(waiting));
    let waits = waits.map(|((topic, lineage), waiting)| {
        let (number, count) = (lineage.0, waiting.count);
        let (standing, way) = match waiting.standing {
            Some(Standing::Active) => ("active", "a worker that folds it lets go of them".to_owned()),
            Some(Standing::Prepared) => {
                let way = format!("finish its refold, or `snapfold lineages drop {number} --abandon`");
                ("prepared", way)
            }
            Some(Standing::Old) => {
                let way = "nobody folds it any more, so they stay until it is dropped";
                ("old", format!("{way}: `snapfold lineages drop {number}`"))
            }
            Some(Standing::Dropped(_)) => ("dropped", "garbage collection takes them".to_owned()),
            None => ("unknown", "no log of lineages tells of it".to_owned()),
        };
        let more = if count > waiting.packs.len() as u64 { ", …" } else { "" };
        let packs = waiting.packs.join(", ");
        let of = format!("lineage {number} ({standing}) of `{topic}`");
        format!("packs of the erased wait for {of}: {count}; {way}: {packs}{more}")
    });
    let foreign = report.foreign.iter().map(|kind| {
        format!("erasures of `{kind}` need a worker whose configuration has that type: this one cannot tell")
    });
    waits.chain(foreign).collect()
}

/// The figures of a pass, for `gc`.
pub(super) fn figures(report: &Report) -> [(&'static str, u64); 7] {
    [
        ("erasures", report.erasures),
        ("erasuresIncomplete", report.incomplete),
        ("packsOfErased", report.holding),
        ("waiting", report.waiting),
        ("rewritten", report.rewritten),
        ("movedRecords", report.moved),
        ("damaged", report.damaged),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Lineage;

    #[test]
    fn what_does_not_come_by_itself_is_said_with_the_way_out() {
        let mut report = Report::default();
        let of = |lineage| (Arc::from("orders"), Lineage(lineage));
        let waiting = |standing, count| Waiting { standing: Some(standing), count, packs: vec!["p".into()] };
        report.waits.insert(of(1), waiting(Standing::Old, 2));
        report.waits.insert(of(2), waiting(Standing::Active, 1));
        report.foreign.insert("invoice".into());
        let told = obstacles(&report, false);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("lineage 1 (old)") && told[0].contains("`snapfold lineages drop 1`: p, …"));
        assert!(told[1].contains("`invoice`"), "{told:?}");
        let all = obstacles(&report, true);
        assert!(
            all.len() == 3 && all[1].contains("lineage 2 (active)") && all[1].ends_with(": p"),
            "{all:?}"
        );
    }
}
