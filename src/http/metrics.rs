//! `/metrics`, and what workers say of themselves as samples of the metrics of `telemetry`.

use super::Shared;
use super::problem::Problem;
use super::query::Query;
use crate::domain::partition::Counts;
use crate::domain::spread::BOUNDS_MS;
use crate::telemetry::metrics::{self as table, Metric, Metrics, Sample};
use crate::worker::{Handle, Status};
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Triggers in the order of their variants, as `Counts::snapshots` has them.
pub(super) const TRIGGERS: [&str; 8] =
    ["events", "age", "bytes", "manual", "schedule", "memory", "debt", "adaptive"];

pub(super) async fn scrape(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, format)], (shared.app.metrics)()).into_response())
}

/// What the scrape shows: everything that was measured, the workers as they are now, and what `others` adds.
pub fn source(
    metrics: Arc<Metrics>,
    workers: BTreeMap<Arc<str>, Handle>,
    others: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(move || {
        let mut samples = others();
        for (stream, worker) in &workers {
            samples.extend(of_worker(stream, worker));
        }
        metrics.observe(samples);
        metrics.render()
    })
}

/// What a worker says of itself.
#[must_use]
pub fn of_worker(stream: &str, worker: &Handle) -> Vec<Sample> {
    let statuses = worker.statuses.lock().expect("no panic while the map is held");
    statuses.iter().flat_map(|(number, status)| of_partition(stream, number.0, status)).collect()
}

fn of_partition(stream: &str, partition: i32, status: &Status) -> Vec<Sample> {
    let number = partition.to_string();
    let stands_still = status.halted.is_some() || status.refused.is_some();
    let now = |metric: &'static Metric, value: f64| Sample::now(metric, &[stream, &number], value);
    let mut samples = vec![
        now(&table::PARTITION_OWNED, 1.0),
        now(&table::PARTITION_POSITION, status.position.0 as f64),
        now(&table::PARTITION_LOW_WATERMARK, status.low_watermark.0 as f64),
        now(&table::PARTITION_UNCOVERED_OFFSETS, (status.position.0 - status.low_watermark.0) as f64),
        now(&table::PARTITION_UNCOVERED_AGE, status.uncovered_age_ms as f64 / 1_000.0),
        now(&table::PARTITION_UNCOVERED_BYTES, status.uncovered_bytes as f64),
        now(&table::PARTITION_FLIGHTS, status.flights as f64),
        now(&table::PARTITION_LOADS, status.loads as f64),
        now(&table::PARTITION_RESIDENTS, status.residents as f64),
        now(&table::PARTITION_MEMORY, status.memory_bytes as f64),
        now(&table::PARTITION_LIVE_CHECKPOINTS, status.live_checkpoints as f64),
        now(&table::PARTITION_HELD_BACK, f64::from(u8::from(status.is_held_back))),
        now(&table::PARTITION_LOAD_BASE, status.costs.base_us as f64 / 1e6),
        now(&table::PARTITION_EVENT_COST, status.costs.event_ns as f64 / 1e9),
        now(&table::PARTITION_HALTED, f64::from(u8::from(stands_still))),
    ];
    // Only the stream is a label of totals, so that their number does not grow with that of partitions.
    let origin = u64::from(partition.unsigned_abs());
    for (metric, total) in totals(&status.counts) {
        samples.push(Sample::total(metric, &[stream], origin, total));
    }
    for (trigger, total) in TRIGGERS.into_iter().zip(status.counts.snapshots) {
        samples.push(Sample::total(&table::SNAPSHOTS, &[stream, trigger], origin, total));
    }
    // A histogram's steps are origins of their own; there are far fewer of them than of anything else.
    for (step, count) in (0u64..).zip(status.counts.creation.counts()) {
        let bound = BOUNDS_MS.get(usize::try_from(step).unwrap_or(usize::MAX)).copied();
        let seconds = bound.unwrap_or(2 * BOUNDS_MS[BOUNDS_MS.len() - 1]) as f64 / 1_000.0;
        let origin = origin << 8 | step;
        samples.push(Sample::durations(&table::SNAPSHOT_CREATION, &[stream], origin, seconds, *count));
    }
    samples
}

fn totals(counts: &Counts) -> [(&'static Metric, u64); 18] {
    [
        (&table::RECORDS, counts.records),
        (&table::EVENTS_FOLDED, counts.folded),
        (&table::EVENTS_SKIPPED, counts.skipped),
        (&table::EVENTS_REPLAYED, counts.replayed),
        (&table::EVENTS_DUPLICATE, counts.duplicates),
        (&table::EVENTS_ERASED, counts.erased),
        (&table::EVENTS_CONFLICTING, counts.conflicts),
        (&table::DEAD_LETTERS, counts.dead_letters),
        (&table::AGGREGATES_QUARANTINED, counts.quarantined),
        (&table::AGGREGATE_LOADS, counts.loads),
        (&table::AGGREGATE_EVICTIONS, counts.evictions),
        (&table::SNAPSHOTS_PUT_OFF, counts.put_off),
        (&table::FORM_CHANGES, counts.form_changes),
        (&table::SNAPSHOTS_ABANDONED, counts.snapshots_abandoned),
        (&table::CHECKPOINTS, counts.checkpoints),
        (&table::CHECKPOINTS_ABANDONED, counts.checkpoints_abandoned),
        (&table::CHECKPOINTS_RETIRED, counts.checkpoints_retired),
        (&table::ADOPTIONS, counts.adoptions),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Offset, PartitionNo};
    use crate::domain::partition::Costs;

    #[test]
    fn a_partition_shows_its_gauges_and_adds_to_the_totals_of_its_stream() {
        let worker = Handle::default();
        let mut counts = Counts {
            records: 7,
            put_off: 5,
            form_changes: 3,
            snapshots: [1, 2, 0, 0, 0, 0, 0, 0],
            ..Counts::default()
        };
        [3, 40, 40].into_iter().for_each(|ms| counts.creation.add(ms));
        let low = Offset(40);
        let status = Status {
            position: Offset(42),
            low_watermark: low,
            uncovered_age_ms: 2_500,
            flights: 3,
            is_held_back: true,
            costs: Costs { base_us: 1_500, event_ns: 7_000 },
            counts,
            ..Status::default()
        };
        worker.statuses.lock().unwrap().insert(PartitionNo(4), status.clone());
        worker.statuses.lock().unwrap().insert(PartitionNo(5), status);
        let (measured, recorder) = Metrics::build();
        let source = source(Arc::new(measured), BTreeMap::from([("order".into(), worker)]), Vec::new);
        let text = metrics::with_local_recorder(&recorder, || source());
        for line in [
            "snapfold_partition_position_offset{stream=\"order\",partition=\"4\"} 42",
            "snapfold_partition_uncovered_offsets{stream=\"order\",partition=\"4\"} 2",
            "snapfold_partition_uncovered_age_seconds{stream=\"order\",partition=\"4\"} 2.5",
            "snapfold_partition_flights{stream=\"order\",partition=\"5\"} 3",
            "snapfold_partition_held_back{stream=\"order\",partition=\"5\"} 1",
            "snapfold_partition_load_base_seconds{stream=\"order\",partition=\"4\"} 0.0015",
            "snapfold_partition_event_cost_seconds{stream=\"order\",partition=\"4\"} 0.000007",
            "snapfold_put_off_snapshots_total{stream=\"order\"} 10",
            "snapfold_form_changes_total{stream=\"order\"} 6",
            "snapfold_consumed_records_total{stream=\"order\"} 14",
            "snapfold_stored_snapshots_total{stream=\"order\",trigger=\"age\"} 4",
            "snapfold_snapshot_creation_seconds_bucket{stream=\"order\",le=\"0.005\"} 2",
            "snapfold_snapshot_creation_seconds_bucket{stream=\"order\",le=\"0.05\"} 6",
            "snapfold_snapshot_creation_seconds_count{stream=\"order\"} 6",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
