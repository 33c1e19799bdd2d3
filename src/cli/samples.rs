//! What a scrape shows of the process beside its workers and its health: what was written, what questions
//! met, where the log ends, what the process uses.

use super::schemas::SchemaSource;
use crate::config::Stream;
use crate::kafka::Consumer;
use crate::lookup::{Cache, Streams};
use crate::store::flush::Written;
use crate::telemetry::metrics::{self as table, Sample};
use crate::telemetry::process;
use crate::upkeep::schedules::Tallies;
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
    for (kind, sizes) in [("full", &written.full), ("increment", &written.increments)] {
        samples.push(Sample::total(&table::SNAPSHOT_RECORDS, &[kind], 0, count(&sizes.records)));
        samples.push(Sample::total(&table::SNAPSHOT_RAW_BYTES, &[kind], 0, count(&sizes.raw_bytes)));
        samples.push(Sample::total(&table::SNAPSHOT_STORED_BYTES, &[kind], 0, count(&sizes.stored_bytes)));
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
