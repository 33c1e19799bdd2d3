//! Every metric in one table: name, kind, labels, help, buckets. `docs/METRICS.md` is made from it.
//!
//! What happens in a request is recorded when it happens. What a part of the process counts for itself is
//! observed at each scrape, as plain [`Sample`]s. A total whose origin starts again (a partition that moved
//! away and came back) goes on from where it was: totals never fall.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// `snapfold_<noun>_<unit>`, and `_total` for what only grows.
    pub name: &'static str,
    /// Whether it grows, moves or is distributed.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// A sentence for people.
    pub help: &'static str,
}

/// What a metric's value may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Total,
    /// It is what it is now.
    Now,
    /// Seconds, in the buckets of [`SECONDS`].
    Seconds,
}

/// Upper bounds of the buckets of every histogram, in seconds: from an answer out of memory to a long replay.
pub const SECONDS: &[f64] =
    &[0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal)*) => {
        $(
            #[doc = $help]
            pub static $id: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// The table.
        pub static METRICS: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    RETENTION_DELETED Total "snapfold_retention_deleted_rows_total" ["stream"] "Snapshot rows that retention deleted"
    RETENTION_BYTES Total "snapfold_retention_deleted_bytes_total" ["stream"] "Stored bytes of their records, which garbage collection frees later"
    RETENTION_REFUSED Total "snapfold_retention_refused_aggregates_total" ["stream"] "Aggregates kept whole by a hold or a record that cannot be read"
    GC_PASSES Total "snapfold_gc_passes_total" [] "Times that this worker looked for packs that nothing names"
    GC_PACKS Total "snapfold_gc_deleted_packs_total" [] "Packs that it deleted"
    GC_BYTES Total "snapfold_gc_freed_bytes_total" [] "Their bytes"
    GC_CONDEMNED Now "snapfold_gc_condemned_packs" [] "Packs that the last pass found unnamed, and that go with a later one"
    PURGE_PACKS Total "snapfold_purge_rewritten_packs_total" [] "Packs that were written anew without the records of erased aggregates"
    PURGE_RECORDS Total "snapfold_purge_moved_records_total" [] "Records of others that moved with them"
    PURGE_INCOMPLETE Now "snapfold_erasures_incomplete" [] "Erasures of which something is left, by the last pass of this worker"
    GC_ORPHANED Now "snapfold_gc_orphaned_packs" [] "Packs with versions that the index does not tell of, by the last pass: rows may be lost, see `rebuild-index`"
    ARCHIVE_PACKS Total "snapfold_archive_moved_packs_total" [] "Packs that this worker moved to the archive"
    ARCHIVE_BYTES Total "snapfold_archive_moved_bytes_total" [] "Their bytes"
    ARCHIVE_FAILED Total "snapfold_archive_failed_packs_total" [] "Packs that could not be moved because a store did not answer; a later pass tries again"
    ARCHIVE_REFUSED Now "snapfold_archive_refused_packs" [] "Packs that are not moved because they, or what has their names in the archive, are damaged, by the last pass"
    BUILD Now "snapfold_build_info" ["version"] "Always 1; the label is the version of the program"
    HTTP_REQUESTS Total "snapfold_http_requests_total" ["route" "method" "status"] "Requests answered, by template of the route"
    HTTP_REQUEST_SECONDS Seconds "snapfold_http_request_seconds" ["route"] "Time from a request's head to its answer"
    HTTP_PANICS Total "snapfold_http_panics_total" [] "Requests whose handler panicked: each is a mistake of the program"
    PARTITION_OWNED Now "snapfold_partition_owned" ["stream" "partition"] "1 while this worker owns the partition, 0 after it has gone"
    PARTITION_POSITION Now "snapfold_partition_position_offset" ["stream" "partition"] "Next offset to fold; the end of the log minus this is the lag"
    PARTITION_LOW_WATERMARK Now "snapfold_partition_low_watermark_offset" ["stream" "partition"] "First offset that neither a snapshot nor a checkpoint covers"
    PARTITION_LOG_END Now "snapfold_partition_log_end_offset" ["stream" "partition"] "One past the last record that may be read, as the brokers said last"
    PARTITION_LAG Now "snapfold_partition_lag_offsets" ["stream" "partition"] "Offsets from the position to the log's end, without those known to hold no record"
    PARTITION_UNCOVERED_OFFSETS Now "snapfold_partition_uncovered_offsets" ["stream" "partition"] "From the low watermark to the position: what a crash folds again"
    PARTITION_UNCOVERED_AGE Now "snapfold_partition_uncovered_age_seconds" ["stream" "partition"] "Seconds since the oldest uncovered event was folded"
    PARTITION_UNCOVERED_BYTES Now "snapfold_partition_uncovered_bytes" ["stream" "partition"] "Bytes of uncovered events; at a quarter of the memory folding waits"
    PARTITION_FLIGHTS Now "snapfold_partition_flights" ["stream" "partition"] "Snapshots and checkpoints that are being written"
    PARTITION_LOADS Now "snapfold_partition_loads" ["stream" "partition"] "Aggregates that are being loaded"
    PARTITION_RESIDENTS Now "snapfold_partition_resident_aggregates" ["stream" "partition"] "Aggregates in memory"
    PARTITION_MEMORY Now "snapfold_partition_memory_bytes" ["stream" "partition"] "Bytes that states, tails and tables of checkpoints take"
    PARTITION_LIVE_CHECKPOINTS Now "snapfold_partition_live_checkpoints" ["stream" "partition"] "Checkpoints that a reader has to consult"
    PARTITION_HALTED Now "snapfold_partition_halted" ["stream" "partition"] "1 while the partition stands still; `/readyz?verbose` says why"
    PARTITIONS_WAITING Now "snapfold_partitions_waiting_for_schema" ["stream"] "Partitions that stand before a record whose schema cannot be had yet"
    RECORDS Total "snapfold_consumed_records_total" ["stream"] "Records taken from the log"
    EVENTS_FOLDED Total "snapfold_folded_events_total" ["stream"] "Events that became a version"
    EVENTS_SKIPPED Total "snapfold_skipped_events_total" ["stream"] "Of the folded events, those that were poison and left the state as it was"
    EVENTS_REPLAYED Total "snapfold_replayed_events_total" ["stream"] "Events that a loaded state held already"
    EVENTS_DUPLICATE Total "snapfold_duplicate_events_total" ["stream"] "Events whose version or id was folded before"
    EVENTS_ERASED Total "snapfold_erased_events_total" ["stream"] "Events of erased aggregates that were passed by"
    EVENTS_CONFLICTING Total "snapfold_conflicting_events_total" ["stream"] "Duplicates with other bytes than the event that was folded"
    DEAD_LETTERS Total "snapfold_dead_letters_total" ["stream"] "Events recorded as dead letters"
    DEAD_LETTER_TOPIC Total "snapfold_dead_letter_topic_total" ["outcome"] "Dead letters for `deadLetters.topic`: `written`, or `refused` by the brokers"
    AGGREGATES_QUARANTINED Total "snapfold_quarantined_aggregates_total" ["stream"] "Aggregates that were quarantined"
    AGGREGATE_LOADS Total "snapfold_aggregate_loads_total" ["stream"] "Aggregates loaded from rest before their next event"
    AGGREGATE_EVICTIONS Total "snapfold_aggregate_evictions_total" ["stream"] "Aggregates removed from memory to keep within the limit"
    SNAPSHOTS Total "snapfold_stored_snapshots_total" ["stream" "trigger"] "Snapshots acknowledged"
    SNAPSHOT_CREATION Seconds "snapfold_snapshot_creation_seconds" ["stream"] "Time from the trip of a snapshot until its row is acknowledged"
    PARTITION_HELD_BACK Now "snapfold_partition_held_back" ["stream" "partition"] "1 while it falls behind or memory is short: only pressing snapshots are taken"
    PARTITION_LOAD_BASE Now "snapfold_partition_load_base_seconds" ["stream" "partition"] "Time to reconstruct without events since the full record, smoothed"
    PARTITION_EVENT_COST Now "snapfold_partition_event_cost_seconds" ["stream" "partition"] "Time that each event since then adds, smoothed"
    SNAPSHOTS_PUT_OFF Total "snapfold_put_off_snapshots_total" ["stream"] "Snapshots that were due while their partition was held back"
    FORM_CHANGES Total "snapfold_form_changes_total" ["stream"] "Times that strategy `auto` went from storing events to storing states alone, or back"
    SCHEDULES Now "snapfold_schedules" ["stream"] "Schedules of the stream"
    SCHEDULE_RUNS Total "snapfold_schedule_runs_total" ["stream" "outcome"] "Runs of schedules here: `on_time` within a second of due time and jitter, or `late`"
    SCHEDULE_SNAPSHOTS Total "snapfold_schedule_snapshots_total" ["stream" "outcome"] "Snapshots that runs of schedules wanted: `created`, `exists`, `failed`"
    SNAPSHOTS_ABANDONED Total "snapfold_abandoned_snapshots_total" ["stream"] "Snapshots given up; their events stay dirty"
    CHECKPOINTS Total "snapfold_stored_checkpoints_total" ["stream"] "Checkpoints acknowledged"
    CHECKPOINTS_ABANDONED Total "snapfold_abandoned_checkpoints_total" ["stream"] "Checkpoints given up; their events stay dirty"
    CHECKPOINTS_RETIRED Total "snapfold_retired_checkpoints_total" ["stream"] "Checkpoints superseded by snapshots"
    ADOPTIONS Total "snapfold_adopted_rows_total" ["stream"] "Provisional rows written again before the low watermark passed them"
    SNAPSHOT_RECORDS Total "snapfold_snapshot_records_total" ["kind"] "Records of acknowledged snapshots, by kind: full, increment, or segment (merged history)"
    SNAPSHOT_RAW_BYTES Total "snapfold_snapshot_raw_bytes_total" ["kind"] "Bytes of these records before compression"
    SNAPSHOT_STORED_BYTES Total "snapfold_snapshot_stored_bytes_total" ["kind"] "Bytes of these records in packs; 1 minus this by the raw bytes is what compression saves"
    CHECKPOINT_BYTES Total "snapfold_checkpoint_bytes_total" [] "Bytes of acknowledged checkpoint packs"
    COMPACTED Total "snapfold_compaction_aggregates_total" ["outcome"] "Aggregates that merging has `looked_at`, and that it had to leave (`failed`)"
    MERGED_EVENTS Total "snapfold_compaction_merged_events_total" [] "Events that background merging has folded again and written into segments"
    SUPERSEDED_ROWS Total "snapfold_compaction_deleted_rows_total" [] "Snapshot rows that background merging made redundant and deleted"
    CHECKED_RECORDS Total "snapfold_checked_records_total" ["stream" "outcome"] "Checked reads of records and footers: sound, or damaged (read again then)"
    VERIFIED_RECORDS Total "snapfold_verified_records_total" ["stream"] "Events and states that `verify` has checked"
    VERIFY_FINDINGS Total "snapfold_verify_findings_total" ["stream" "code"] "What `verify` found wrong"
    SCRUBBED_BYTES Total "snapfold_scrubbed_bytes_total" ["stream"] "Bytes of packs that were read in the background"
    SCRUBBED_ROWS Total "snapfold_scrubbed_rows_total" ["stream"] "Rows that were looked at in the background"
    SCRUB_BAD_RECORDS Total "snapfold_scrub_bad_records_total" ["stream"] "Records that were found damaged or missing in the background, without a sound copy"
    SCRUB_REPAIRED_RECORDS Total "snapfold_scrub_repaired_records_total" ["stream"] "Of these, written anew"
    SCRUB_AGE Now "snapfold_scrub_age_seconds" ["stream"] "Seconds since the last finished pass over what is stored began; since the start before the first"
    RECONSTRUCTION_SECONDS Seconds "snapfold_reconstruction_seconds" ["stream" "source"] "Time to find a state; source: memory, cache, rest (snapshots and events)"
    RECONSTRUCTION_EVENTS Total "snapfold_reconstruction_events_total" ["stream"] "Events that were folded for answers"
    STORE_CALLS Total "snapfold_store_calls_total" ["store" "operation" "outcome"] "Calls of index and blobs: not_done, unknown, permanent are failures"
    STORE_CALL_SECONDS Seconds "snapfold_store_call_seconds" ["store" "operation"] "Time that these calls took"
    STORE_WRITTEN_ROWS Total "snapfold_store_written_rows_total" ["operation"] "Rows that the index acknowledged: all kinds, repeats included"
    STORE_WRITTEN_BYTES Total "snapfold_store_written_bytes_total" [] "Bytes that the blob store acknowledged"
    STORE_READ_BYTES Total "snapfold_store_read_bytes_total" [] "Bytes that the blob store handed out"
    STORE_SILENCE Now "snapfold_store_silence_seconds" ["store"] "Seconds since it was first asked in vain, 0 if it answers; from 30 on it is not ready"
    BROKERS_SILENCE Now "snapfold_brokers_silence_seconds" [] "Seconds since a broker answered last; a few are usual, from 15 on `/readyz` says no"
    GROUP_ASSIGNED Total "snapfold_assigned_partitions_total" [] "Partitions that the consumer group gave to this worker"
    GROUP_LOST Total "snapfold_lost_partitions_total" [] "Partitions that were another worker's before this one had covered them: it was away for too long"
    GROUP_LATE Total "snapfold_late_released_partitions_total" [] "Partitions that were asked back and not let go of in time"
    STRAY_RECORDS Total "snapfold_stray_records_total" [] "Records on the common queue: always 0, or it is a mistake of the program"
    TASK_STUCK Now "snapfold_stuck_partitions" [] "Partitions whose task has not turned for 60 s: from 1 on `/livez` says no"
    READY Now "snapfold_ready" [] "1 while `/readyz` says yes"
    PROCESS_CPU Total "snapfold_process_cpu_milliseconds_total" [] "Processor time of the process"
    PROCESS_RESIDENT Now "snapfold_process_resident_bytes" [] "Memory of the process that is in use"
    PROCESS_OPEN_FILES Now "snapfold_process_open_files" [] "Open files and sockets"
    PROCESS_THREADS Now "snapfold_process_threads" [] "Threads"
    PUT_OBJECTS Total "snapfold_put_objects_total" [] "Objects that the blob store has acknowledged: packs and dictionaries, one PUT each"
    PUT_BYTES Total "snapfold_put_bytes_total" [] "Bytes of these objects"
    PUT_ROWS Total "snapfold_put_rows_total" [] "Rows that the index has acknowledged: snapshots, checkpoints, listings, low watermarks, dictionaries"
    OWNER_ANSWERS Total "snapfold_owner_answers_total" ["outcome"] "Questions to other workers about the partitions that they own: `answered`, `not_owner`, `silent`"
    CACHE_HITS Total "snapfold_cache_hits_total" [] "Questions for which the cache kept a state"
    CACHE_MISSES Total "snapfold_cache_misses_total" [] "Questions for which it kept none"
    CACHE_BYTES Now "snapfold_cache_bytes" [] "Bytes of kept states"
    DAMAGED_RECORDS Total "snapfold_damaged_records_total" ["stream"] "Stored records that could not be read and gave way to others"
    STALE_LISTS Total "snapfold_stale_checkpoint_lists_total" ["stream"] "Reads that started again because a listed checkpoint was gone"
}

/// The value of a metric at a scrape.
#[derive(Clone, Debug)]
pub struct Sample {
    metric: &'static Metric,
    labels: Vec<String>,
    value: Observed,
}

#[derive(Clone, Copy, Debug)]
enum Observed {
    /// What one origin has counted since it started.
    Total {
        origin: u64,
        total: u64,
    },
    /// The same of durations of about so many seconds.
    Durations {
        origin: u64,
        seconds: f64,
        total: u64,
    },
    Now(f64),
}

impl Sample {
    /// A value as it is now; values of labels in the order of the table.
    #[must_use]
    pub fn now(metric: &'static Metric, labels: &[&str], value: f64) -> Self {
        Self { metric, labels: owned(metric, labels), value: Observed::Now(value) }
    }

    /// How many durations one of several origins with these labels has counted since it started that took
    /// about so many seconds. Each step needs an origin of its own.
    #[must_use]
    pub fn durations(
        metric: &'static Metric,
        labels: &[&str],
        origin: u64,
        seconds: f64,
        total: u64,
    ) -> Self {
        Self { metric, labels: owned(metric, labels), value: Observed::Durations { origin, seconds, total } }
    }

    /// What one of several origins with these labels has counted since it started.
    #[must_use]
    pub fn total(metric: &'static Metric, labels: &[&str], origin: u64, total: u64) -> Self {
        Self { metric, labels: owned(metric, labels), value: Observed::Total { origin, total } }
    }

    fn named(&self) -> Vec<(&'static str, String)> {
        self.metric.labels.iter().copied().zip(self.labels.iter().cloned()).collect()
    }
}

fn owned(metric: &Metric, labels: &[&str]) -> Vec<String> {
    assert_eq!(metric.labels.len(), labels.len(), "`{}` has other labels", metric.name);
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// The recorder of the process and what it has observed so far.
pub struct Metrics {
    handle: PrometheusHandle,
    seen: Mutex<Seen>,
}

type Series = (&'static str, Vec<String>);

#[derive(Default)]
struct Seen {
    totals: BTreeMap<(Series, u64), u64>,
    gauges: BTreeSet<Series>,
}

impl Seen {
    /// By how much a total has grown since it was last seen; one that starts again grows from 0.
    fn more(&mut self, series: Series, origin: u64, total: u64) -> u64 {
        let last = self.totals.insert((series, origin), total).unwrap_or(0);
        if total < last { total } else { total - last }
    }
}

impl Metrics {
    /// A recorder that is not installed.
    #[must_use]
    pub fn build() -> (Self, PrometheusRecorder) {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Seconds) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), SECONDS)
                .expect("the buckets of the table are not empty");
        }
        let recorder = builder.build_recorder();
        let metrics = Self { handle: recorder.handle(), seen: Mutex::default() };
        metrics::with_local_recorder(&recorder, || {
            METRICS.iter().for_each(|metric| describe(metric));
            let labels = [("version", env!("CARGO_PKG_VERSION"))];
            metrics::gauge!(BUILD.name, &labels).set(1.0);
        });
        (metrics, recorder)
    }

    /// Makes it the recorder of the process.
    ///
    /// # Errors
    /// A sentence, if the process has one already.
    pub fn install() -> Result<Self, String> {
        let (metrics, recorder) = Self::build();
        metrics::set_global_recorder(recorder).map_err(|error| format!("install metrics: {error}"))?;
        Ok(metrics)
    }

    /// Takes samples over. A gauge that was among the last ones and is not among these becomes
    /// 0: its partition has gone.
    ///
    /// # Panics
    /// If another observation panicked.
    pub fn observe(&self, samples: impl IntoIterator<Item = Sample>) {
        let mut seen = self.seen.lock().expect("no panic while the samples are held");
        let mut gauges = BTreeSet::new();
        for sample in samples {
            let (labels, series) = (sample.named(), (sample.metric.name, sample.labels));
            match sample.value {
                Observed::Now(value) => {
                    metrics::gauge!(series.0, &labels).set(value);
                    gauges.insert(series);
                }
                Observed::Total { origin, total } => {
                    let more = seen.more(series.clone(), origin, total);
                    metrics::counter!(series.0, &labels).increment(more);
                }
                Observed::Durations { origin, seconds, total } => {
                    let more = usize::try_from(seen.more(series.clone(), origin, total));
                    metrics::histogram!(series.0, &labels).record_many(seconds, more.unwrap_or(usize::MAX));
                }
            }
        }
        for (name, labels) in seen.gauges.difference(&gauges) {
            let names =
                METRICS.iter().find(|metric| metric.name == *name).map_or(&[][..], |metric| metric.labels);
            let labels: Vec<(&str, String)> = names.iter().copied().zip(labels.iter().cloned()).collect();
            metrics::gauge!(*name, &labels).set(0.0);
        }
        seen.gauges = gauges;
    }

    /// The text of a scrape.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds what histograms have collected into their buckets. To be called every few seconds: without it
    /// they keep every single value until the next scrape.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe(metric: &'static Metric) {
    match metric.kind {
        Kind::Total => metrics::describe_counter!(metric.name, metric.help),
        Kind::Now => metrics::describe_gauge!(metric.name, metric.help),
        Kind::Seconds => metrics::describe_histogram!(metric.name, metrics::Unit::Seconds, metric.help),
    }
}

/// What stands in `docs/METRICS.md` behind the generated part is written by hand, from this line on.
pub const BY_HAND: &str = "\n## The rules and what shows them\n";

/// The table as Markdown, as it is kept in `docs/METRICS.md` before [`BY_HAND`].
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Metrics\n\nServed at `/metrics` in the Prometheus text format. This table is generated from the one in\n\
        `src/telemetry/metrics.rs`. Totals are those of one process; `route` is the template of a route,\n\
        never a path.\n\n\
        | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Total => "counter",
            Kind::Now => "gauge",
            Kind::Seconds => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        out += &format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join(", "), metric.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_the_repository_is_the_one_that_the_table_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
        let kept = || std::fs::read_to_string(path).expect("docs/METRICS.md is part of the repository");
        if std::env::var_os("SNAPFOLD_BLESS").is_some() {
            let text = kept();
            let by_hand = text.find(BY_HAND).map_or("", |at| &text[at..]);
            std::fs::write(path, reference() + by_hand).expect("the reference can be written");
        }
        let text = kept();
        let (table, _) = text.split_once(BY_HAND).expect("the part that is written by hand is there");
        assert!(table == reference(), "write it anew: SNAPFOLD_BLESS=1 cargo test --lib telemetry::metrics");
    }

    #[test]
    fn every_rule_has_a_row_and_every_metric_in_it_exists() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
        let text = std::fs::read_to_string(path).expect("docs/METRICS.md is part of the repository");
        let (_, by_hand) = text.split_once(BY_HAND).expect("the part that is written by hand is there");
        let rows: Vec<&str> = by_hand.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        for (number, row) in (1..).zip(&rows) {
            assert!(row.starts_with(&format!("| {number} |")), "row {number}: {row}");
            let shows = row.split('|').nth(3).expect("a row has three columns").trim();
            assert!(shows.contains("`snapfold_") || shows.starts_with("none:"), "row {number}: {shows}");
        }
        assert_eq!(rows.len(), 14, "one row for each rule of the design");
        for named in by_hand.split('`').filter(|word| word.starts_with("snapfold_")) {
            let name = named.split('{').next().unwrap_or(named);
            let metric = METRICS.iter().find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("`{name}` is no metric"));
            let labels = named.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            for label in labels.split(',').filter_map(|label| label.split_once('=')) {
                assert!(metric.labels.contains(&label.0), "`{named}`: it has no label `{}`", label.0);
            }
        }
    }

    #[test]
    fn names_say_their_kind_and_are_there_once() {
        for (at, metric) in METRICS.iter().enumerate() {
            assert!(metric.name.starts_with("snapfold_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Total, "{}", metric.name);
            let is_seconds = metric.name.ends_with("_seconds");
            assert!(is_seconds || metric.kind != Kind::Seconds, "{}", metric.name);
            assert!(!is_seconds || metric.kind != Kind::Total, "{}", metric.name);
            assert!(METRICS[at + 1..].iter().all(|other| other.name != metric.name), "{}", metric.name);
        }
    }

    fn observed(rounds: Vec<Vec<Sample>>) -> String {
        let (metrics, recorder) = Metrics::build();
        metrics::with_local_recorder(&recorder, || {
            rounds.into_iter().for_each(|round| metrics.observe(round))
        });
        metrics.render()
    }

    #[test]
    fn totals_go_on_where_an_origin_starts_again_and_gauges_of_the_gone_are_zero() {
        let records = |origin, total| Sample::total(&RECORDS, &["order"], origin, total);
        let text = observed(vec![
            vec![records(0, 10), records(1, 5), Sample::now(&PARTITION_OWNED, &["order", "0"], 1.0)],
            vec![records(0, 12), records(1, 2), Sample::now(&PARTITION_OWNED, &["order", "1"], 1.0)],
        ]);
        for line in [
            "snapfold_consumed_records_total{stream=\"order\"} 19",
            "snapfold_partition_owned{stream=\"order\",partition=\"0\"} 0",
            "snapfold_partition_owned{stream=\"order\",partition=\"1\"} 1",
            "# HELP snapfold_consumed_records_total Records taken from the log",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[test]
    fn histograms_have_the_buckets_of_the_table() {
        let (metrics, recorder) = Metrics::build();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!(HTTP_REQUEST_SECONDS.name, "route" => "/v1/x").record(0.004);
        });
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            "snapfold_http_request_seconds_bucket{route=\"/v1/x\",le=\"0.0025\"} 0",
            "snapfold_http_request_seconds_bucket{route=\"/v1/x\",le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
