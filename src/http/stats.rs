//! `GET …/stats`, `/v1/stats`, `/v1/stats/storage`: what is stored.
//!
//! COST: what is told of all streams is counted in the background, at most once a minute and so that counting
//! takes a tenth of the time at the most; whoever asks meanwhile gets what was counted last.

use super::json::{self, Object};
use super::metrics::TRIGGERS;
use super::path::Path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer};
use crate::codec::pack::Class;
use crate::domain::ids::Timestamp;
use crate::domain::moment;
use crate::lookup::{KnownPacks, PackTotal, Sizes, Survey, still_counting};
use crate::telemetry::stopwatch::Stopwatch;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt, Shared as SharedFuture};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long somebody waits for the first count.
const WAIT: Duration = Duration::from_secs(25);
/// How long a count stands, at the least, and how many times as long as it took.
const KEPT_MS: f64 = 60_000.0;
const KEPT_TIMES: f64 = 10.0;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// All streams, counted.
struct Counted {
    at: Timestamp,
    streams: BTreeMap<Arc<str>, Survey>,
    packs: BTreeMap<Class, PackTotal>,
    since: Stopwatch,
    took_ms: f64,
}

type Count = SharedFuture<BoxFuture<'static, Result<Arc<Counted>, Problem>>>;

#[derive(Default)]
struct Kept {
    last: Option<Arc<Counted>>,
    running: Option<Count>,
    known: KnownPacks,
}

/// What was counted last, and what is being counted.
#[derive(Default)]
pub(super) struct Counts(Mutex<Kept>);

impl Counts {
    fn state(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().expect("no panic while it is held")
    }

    async fn get(shared: &Shared) -> Result<Arc<Counted>, Problem> {
        let running = {
            let mut state = shared.counts.state();
            let is_good = |last: &&Arc<Counted>| last.since.ms() < KEPT_MS.max(KEPT_TIMES * last.took_ms);
            if let Some(last) = state.last.as_ref().filter(is_good) {
                return Ok(Arc::clone(last));
            }
            let of = Arc::clone(shared);
            let running = state.running.get_or_insert_with(|| {
                let counting = async move { count(of).await }.boxed().shared();
                // Whoever asked may go away; what was begun is ended.
                tokio::spawn(counting.clone().map(drop));
                counting
            });
            let running = running.clone();
            match &state.last {
                Some(last) => return Ok(Arc::clone(last)),
                None => running,
            }
        };
        let waited = tokio::time::timeout(WAIT, running).await;
        waited.unwrap_or_else(|_| Err(Problem::from(still_counting())))
    }
}

async fn count(shared: Shared) -> Result<Arc<Counted>, Problem> {
    let counted = count_all(&shared).await.map(Arc::new);
    let mut state = shared.counts.state();
    state.running = None;
    if let Ok(counted) = &counted {
        state.last = Some(Arc::clone(counted));
    }
    counted
}

async fn count_all(shared: &Shared) -> Result<Counted, Problem> {
    let begun = Stopwatch::start();
    let mut streams = BTreeMap::new();
    for (kind, lookup) in &shared.app.streams.by_type {
        streams.insert(Arc::clone(kind), lookup.counted().await?);
    }
    // All streams of a process share their packs.
    let mut known = std::mem::take(&mut shared.counts.state().known);
    let packs = match shared.app.streams.by_type.values().next() {
        Some(lookup) => lookup.packs(&mut known).await?,
        None => BTreeMap::new(),
    };
    shared.counts.state().known = known;
    let at = shared.app.schedules.now();
    Ok(Counted { at, streams, packs, since: Stopwatch::start(), took_ms: begun.ms() })
}

pub(super) async fn aggregate(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["from", "to"])?;
    let (from, to) = (query.time("from")?, query.time("to")?);
    let target = path.target(&shared)?;
    let stats = target.lookup.day_stats(&target.id, from, to).await?;
    Ok(answer(json::object(|body| {
        body.text("aggregateType", &target.kind).text("aggregateId", &target.id);
        body.number("snapshots", stats.snapshots);
        body.number("bytes", stats.bytes).number("rawBytes", stats.raw_bytes);
        body.objects("days", &stats.days, |body, (day, of)| {
            let date = moment::format(Timestamp(day.saturating_mul(DAY_MS)));
            body.text("date", date.split('T').next().unwrap_or_default());
            body.number("snapshotsCreated", of.created).number("snapshotsDeleted", of.deleted);
            body.number("totalSizeBytes", of.bytes);
            let mean = (of.created > 0).then(|| of.creation_ms as f64 / of.created as f64);
            body.number_or_null("avgCreationTimeMs", mean);
            body.object("byTrigger", |body| {
                for (trigger, count) in TRIGGERS.iter().zip(of.by_trigger).filter(|(_, count)| *count > 0) {
                    body.number(trigger, count);
                }
            });
        });
    })))
}

pub(super) async fn all(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let counted = Counts::get(&shared).await?;
    let mut sum = Survey::default();
    for survey in counted.streams.values() {
        sum.aggregates += survey.aggregates;
        sum.events += survey.events;
        sum.snapshots += survey.snapshots;
        sum.quarantined += survey.quarantined;
        sum.dead_letters += survey.dead_letters;
    }
    Ok(answer(json::object(|body| {
        write(body, &sum);
        body.objects("streams", &counted.streams, |body, (kind, survey)| {
            body.text("type", kind).text("topic", &super::path::topic(&shared, kind));
            write(body, survey);
        });
        body.time("asOf", counted.at);
    })))
}

fn write(body: &mut Object<'_>, survey: &Survey) {
    body.number("aggregates", survey.aggregates).number("events", survey.events);
    body.number("snapshots", survey.snapshots).number("quarantined", survey.quarantined);
    body.number("deadLetters", survey.dead_letters);
}

pub(super) async fn storage(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let counted = Counts::get(&shared).await?;
    let sum = |of: fn(&Survey) -> Sizes| {
        counted
            .streams
            .values()
            .map(of)
            .fold(Sizes::default(), |sum, of| Sizes { stored: sum.stored + of.stored, raw: sum.raw + of.raw })
    };
    let (full, history) = (sum(|survey| survey.full), sum(|survey| survey.increments));
    let live: u64 = counted.streams.values().map(|survey| survey.live_checkpoint_bytes).sum();
    let (stored, raw) = (full.stored + history.stored, full.raw + history.raw);
    Ok(answer(json::object(|body| {
        body.object("byClass", |body| {
            for (name, class, live, raw) in [
                ("full", Class::Full, full.stored, Some(full.raw)),
                ("history", Class::History, history.stored, Some(history.raw)),
                ("checkpoint", Class::Checkpoint, live, None),
            ] {
                let total = counted.packs.get(&class).copied().unwrap_or_default();
                body.object(name, |body| {
                    body.number("packs", total.packs).number("bytes", total.bytes);
                    body.number("liveBytes", live).number_or_null("rawBytes", raw);
                });
            }
        });
        body.number_or_null("savedRatio", saved(stored, raw));
        body.time("asOf", counted.at);
    })))
}

/// The share of bytes that compression saves.
fn saved(stored: u64, raw: u64) -> Option<f64> {
    (raw > 0).then(|| 1.0 - stored as f64 / raw as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_a_share_of_what_there_was() {
        assert_eq!(saved(0, 0), None);
        assert_eq!(saved(25, 100), Some(0.75));
    }
}
