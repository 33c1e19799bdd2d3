//! What a scrape shows of the process beside its workers and its health: what was written, what questions
//! met, where the log ends, what the process uses.

use super::schemas::SchemaSource;
use crate::clock::{Clock, SystemClock};
use crate::config::Stream;
use crate::kafka::{Consumer, DeadLetterTopic};
use crate::lookup::{Cache, Streams};
use crate::store::flush::Written;
use crate::telemetry::metrics::{self as table, Sample};
use crate::telemetry::process;
use crate::upkeep::merging;
use crate::upkeep::schedules::Tallies;
use crate::upkeep::scrub::Scrubbed;
use crate::worker::Handle;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was written.
pub(super) fn of_written(written: &Written) -> Vec<Sample> {
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let mut samples = vec![
        Sample::total(&table::PUT_OBJECTS, &[], 0, count(&written.objects)),
        Sample::total(&table::PUT_BYTES, &[], 0, count(&written.object_bytes)),
        Sample::total(&table::PUT_ROWS, &[], 0, count(&written.rows)),
        Sample::total(&table::CHECKPOINT_BYTES, &[], 0, count(&written.checkpoint_bytes)),
    ];
    for (kind, sizes) in
        [("full", &written.full), ("increment", &written.increments), ("segment", &written.segments)]
    {
        samples.push(Sample::total(&table::SNAPSHOT_RECORDS, &[kind], 0, count(&sizes.records)));
        samples.push(Sample::total(&table::SNAPSHOT_RAW_BYTES, &[kind], 0, count(&sizes.raw_bytes)));
        samples.push(Sample::total(&table::SNAPSHOT_STORED_BYTES, &[kind], 0, count(&sizes.stored_bytes)));
    }
    samples
}

/// What was merged in the background.
pub(super) fn of_merged(merged: &merging::Tallies) -> Vec<Sample> {
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
    vec![
        Sample::total(&table::COMPACTED, &["looked_at"], 0, count(&merged.looked_at)),
        Sample::total(&table::COMPACTED, &["failed"], 0, count(&merged.failed)),
        Sample::total(&table::MERGED_EVENTS, &[], 0, count(&merged.events)),
        Sample::total(&table::SUPERSEDED_ROWS, &[], 0, count(&merged.deleted)),
    ]
}

/// Records behind the log's end at which nothing is merged any more.
const PRESSING_LAG: i64 = 10_000;

/// Whether so many records wait to be folded that nothing else should be done.
pub(super) fn pressed(
    consumer: &Arc<Consumer>,
    topic: &Arc<str>,
    worker: &Handle,
) -> Arc<dyn Fn() -> bool + Send + Sync> {
    let (consumer, topic, worker) = (Arc::clone(consumer), Arc::clone(topic), worker.clone());
    Arc::new(move || {
        let bounds = consumer.last_bounds(&topic);
        let statuses = worker.statuses.lock().expect("no panic while the map is held");
        let lags = statuses.iter().filter_map(|(partition, status)| {
            Some(bounds.get(partition)?.end.0.saturating_sub(status.reached.0))
        });
        lags.max().is_some_and(|lag| lag > PRESSING_LAG)
    })
}

/// What became of dead letters that go to a topic as well.
pub(super) fn of_dead_letters(topic: &DeadLetterTopic) -> Vec<Sample> {
    let outcomes = [("written", &topic.written), ("refused", &topic.refused)];
    let sample = |(outcome, count): (&str, &AtomicU64)| {
        Sample::total(&table::DEAD_LETTER_TOPIC, &[outcome], 0, count.load(Ordering::Relaxed))
    };
    outcomes.map(sample).into()
}

/// What was seen in the background of each stream.
pub(super) fn of_scrubs(scrubs: &BTreeMap<Arc<str>, Arc<Scrubbed>>) -> Vec<Sample> {
    let now_ms = SystemClock::start().now().0;
    let mut samples = Vec::new();
    for (kind, seen) in scrubs {
        let total =
            |metric, count: &AtomicU64| Sample::total(metric, &[kind], 0, count.load(Ordering::Relaxed));
        samples.push(total(&table::SCRUBBED_BYTES, &seen.bytes));
        samples.push(total(&table::SCRUBBED_ROWS, &seen.rows));
        samples.push(total(&table::SCRUB_BAD_RECORDS, &seen.damaged));
        samples.push(total(&table::SCRUB_REPAIRED_RECORDS, &seen.repaired));
        let age_ms = now_ms.saturating_sub(seen.verified_at_ms.load(Ordering::Relaxed)).max(0);
        samples.push(Sample::now(&table::SCRUB_AGE, &[kind], age_ms as f64 / 1_000.0));
    }
    samples
}

/// What was done for schedules.
pub(super) fn of_schedules(tallies: &BTreeMap<Arc<str>, Arc<Tallies>>) -> Vec<Sample> {
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let mut samples = Vec::new();
    for (stream, tally) in tallies {
        samples.push(Sample::now(&table::SCHEDULES, &[stream], count(&tally.schedules) as f64));
        for (outcome, value) in [("on_time", &tally.on_time), ("late", &tally.late)] {
            samples.push(Sample::total(&table::SCHEDULE_RUNS, &[stream, outcome], 0, count(value)));
        }
        for (outcome, value) in
            [("created", &tally.created), ("exists", &tally.exists), ("failed", &tally.failed)]
        {
            samples.push(Sample::total(&table::SCHEDULE_SNAPSHOTS, &[stream, outcome], 0, count(value)));
        }
    }
    samples
}

/// What questions met at rest, and what the cache of all streams has done.
pub(super) fn of_questions(streams: &Streams, cache: &dyn Cache, schemas: &SchemaSource) -> Vec<Sample> {
    let cached = cache.stats();
    let mut samples = vec![
        Sample::total(&table::CACHE_HITS, &[], 0, cached.hits),
        Sample::total(&table::CACHE_MISSES, &[], 0, cached.misses),
        Sample::now(&table::CACHE_BYTES, &[], cached.bytes as f64),
    ];
    for (kind, lookup) in &streams.by_type {
        let ((damaged, stale), (sound, unsound)) = (lookup.damage(), lookup.checks());
        samples.push(Sample::total(&table::DAMAGED_RECORDS, &[kind], 0, damaged));
        samples.push(Sample::now(&table::PARTITIONS_WAITING, &[kind], schemas.waiting(kind) as f64));
        samples.push(Sample::total(&table::STALE_LISTS, &[kind], 0, stale));
        samples.push(Sample::total(&table::CHECKED_RECORDS, &[kind, "sound"], 0, sound));
        samples.push(Sample::total(&table::CHECKED_RECORDS, &[kind, "damaged"], 0, unsound));
    }
    samples
}

/// How far the workers are behind the log, by what the consumer has heard of it.
pub(super) fn of_log(
    streams: &[(Arc<str>, Arc<str>)],
    workers: &BTreeMap<Arc<str>, Handle>,
    consumer: &Consumer,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (kind, topic) in streams {
        let bounds = consumer.last_bounds(topic);
        let statuses = workers[kind].statuses.lock().expect("no panic while the map is held");
        for (partition, status) in statuses.iter().filter(|(_, status)| status.refused.is_none()) {
            let Some(bounds) = bounds.get(partition) else { continue };
            let number = partition.0.to_string();
            let lag = (bounds.end.0 - status.reached.0).max(0);
            samples.push(Sample::now(&table::PARTITION_LOG_END, &[kind, &number], bounds.end.0 as f64));
            samples.push(Sample::now(&table::PARTITION_LAG, &[kind, &number], lag as f64));
        }
    }
    samples
}

/// Types and topics of streams.
pub(super) fn names(streams: &[Stream]) -> Vec<(Arc<str>, Arc<str>)> {
    streams.iter().map(|stream| (Arc::clone(&stream.kind), Arc::clone(&stream.topic))).collect()
}

/// What the process uses; nothing where the system does not tell.
pub(super) fn of_process() -> Vec<Sample> {
    let Some(usage) = process::usage() else { return Vec::new() };
    vec![
        Sample::total(&table::PROCESS_CPU, &[], 0, usage.cpu_ms),
        Sample::now(&table::PROCESS_RESIDENT, &[], usage.resident_bytes as f64),
        Sample::now(&table::PROCESS_OPEN_FILES, &[], usage.open_files as f64),
        Sample::now(&table::PROCESS_THREADS, &[], usage.threads as f64),
    ]
}
