//! The path of events from bytes in memory to durable packs and rows: the real worker over the embedded
//! stores in a temporary folder, until the low watermark is the log's end. Then a reader that knows only the
//! folder is asked for versions at random, and a fold of the same events must agree. See docs/benchmarks.md.
//!
//! `cargo bench --bench ingest [-- EVENTS [PARTITIONS [HOT_PERCENT [AGGREGATES [STATES_MIB]]]]]`, a million
//! events in four partitions by default, half of them to one percent of 100,000 aggregates, with 200 MiB for
//! states. Where there are as many aggregates as events, each gets one. Making events takes no part in
//! processor times.

#[path = "fold/events.rs"]
mod events;
mod path;

use events::Events;
use path::{Folded, Path, count, usage};
use snapfold::domain::aggregate::Aggregate;
use snapfold::domain::event::Decode;
use snapfold::domain::ids::{AggregateKey, Version};
use snapfold::domain::spread::Spread;
use snapfold::reconstruct::{AsOf, Found};
use snapfold::telemetry::stopwatch::Stopwatch;
use std::collections::BTreeMap;

/// Questions at the end.
const QUESTIONS: usize = 1_000;
/// Events that are folded again at once.
const BATCH: u64 = 10_000;

fn main() {
    // `cargo bench` adds `--bench`.
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .map(|word| {
            word.parse().expect("arguments are numbers: EVENTS PARTITIONS HOT_PERCENT AGGREGATES STATES_MIB")
        })
        .collect();
    let given = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let (partitions, hot_percent) = (given(1, 4).max(1), given(2, 50));
    let aggregates = usize::try_from(given(3, 100_000)).expect("aggregates fit memory");
    let events = given(0, 1_000_000) / partitions;
    let parts = || -> Vec<Events> {
        let partitions = usize::try_from(partitions).expect("few partitions");
        let share = aggregates / partitions;
        let of = |at| {
            let part = Events::new(share, hot_percent).numbered_from(at * share);
            if share as u64 == events { part.in_turn() } else { part }
        };
        (0..partitions).map(of).collect()
    };
    println!(
        "{} events, {aggregates} aggregates, {partitions} partitions, {hot_percent} % of the events to 1 % \
         of the aggregates; load {}",
        events * partitions,
        usage::load()
    );
    path::runtime().block_on(async {
        let states = usize::try_from(given(4, (path::STATES_BYTES >> 20) as u64)).expect("it fits memory");
        let path = Path::new(parts(), events, None, states << 20);
        show(&path.fold(None).await, events * partitions);
        verify(&path, parts(), events).await;
    });
}

fn show(folded: &Folded, events: u64) {
    let row = |name: &str, value: String| println!("{name:<28} {value:>14}");
    let (all, cpu) = (events as f64, folded.usage.processor.as_secs_f64());
    row("events/s", format!("{:.0}", all / folded.seconds));
    row("events/s of processor time", format!("{:.0}", all / cpu));
    row("ns of processor per event", format!("{:.0}", cpu * 1e9 / all));
    row("peak MiB", folded.usage.peak_mib.to_string());
    let sum =
        |of: fn(&snapfold::worker::Status) -> u64| folded.statuses.iter().map(of).sum::<u64>().to_string();
    let held = folded.statuses.iter().map(|status| status.memory_bytes as f64).sum::<f64>();
    row("held at the end, MiB", format!("{:.0}", held / f64::from(1 << 20)));
    row("snapshots", sum(|status| status.counts.snapshots.iter().sum()));
    let creation = folded.statuses.iter().fold(Spread::default(), |all, one| all.with(&one.counts.creation));
    let percentile = |percent| match creation.percentile_ms(percent) {
        _ if creation.total() == 0 => "none".to_owned(),
        None => "longer".to_owned(),
        Some(ms) => ms.to_string(),
    };
    row("  trip to row, median ms <=", percentile(50));
    row("  trip to row, p99 ms <=", percentile(99));
    row("checkpoints of partitions", sum(|status| status.counts.checkpoints));
    row("loads", sum(|status| status.counts.loads));
    row("evictions", sum(|status| status.counts.evictions));
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let written = &folded.written;
    row("rows of snapshots", count(&written.snapshots).to_string());
    row("packs", count(&written.packs).to_string());
    row("snapshots, MiB raw", mib(count(&written.raw_bytes)));
    row("snapshots, MiB stored", mib(count(&written.stored_bytes)));
    row("packs, MiB", mib(count(&written.pack_bytes)));
    row("checkpoint packs, MiB", mib(count(&written.checkpoint_bytes)));
    row("abandoned", count(&written.abandoned).to_string());
    for (name, seconds) in folded.usage.threads.iter().filter(|(_, seconds)| *seconds > 0.0) {
        row(&format!("  threads `{name}`, s"), format!("{seconds:.2}"));
    }
}

/// One question, and what a fold of the events says.
struct Question {
    partition: usize,
    id: String,
    version: Version,
    expected: Option<Aggregate>,
}

/// Asks for versions at random; every answer must be what the same events fold to.
async fn verify(path: &Path, parts: Vec<Events>, events: u64) {
    let mut questions = Vec::new();
    let each = QUESTIONS.div_ceil(parts.len());
    for (partition, part) in parts.into_iter().enumerate() {
        questions.extend(fold_again(partition, part, events, each));
    }
    let reader = path.reader().await;
    let mut taken = Vec::new();
    for question in &questions {
        let key = AggregateKey { kind: "order".into(), id: question.id.as_str().into() };
        let partition = Path::partition(question.partition);
        let begun = Stopwatch::start();
        let answer = reader.state(&partition, &key, AsOf::Version(question.version)).await;
        taken.push(begun.ms());
        let expected = question.expected.as_ref().expect("the fold has passed every version asked for");
        match answer {
            Ok(Found::State(aggregate, _)) => assert_eq!(facts(&aggregate), facts(expected), "{key:?}"),
            other => unreachable!("{key:?} at {}: {other:?}", question.version),
        }
    }
    taken.sort_by(f64::total_cmp);
    let (median, slow) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    println!("{} versions at random are what a fold says: {median:.3} ms, p99 {slow:.3} ms", taken.len());
}

fn facts(aggregate: &Aggregate) -> (Version, String, Option<String>) {
    let json = aggregate.state.to_json().map(|json| String::from_utf8_lossy(&json).into_owned());
    (aggregate.version, aggregate.chain.to_string(), json)
}

/// Chooses questions once it is known how many events each aggregate has, then folds the events again.
fn fold_again(partition: usize, events: Events, all: u64, count: usize) -> Vec<Question> {
    let heads: Vec<(String, u64)> = {
        let mut events = events.clone();
        in_batches(all, |count| drop(events.batch(count)));
        events.heads().filter(|(_, head)| *head > 0).collect()
    };
    let (decoder, rules) = (events::decoder(), events::rules());
    let mut wanted: BTreeMap<String, (Aggregate, Question)> = BTreeMap::new();
    let stride = (heads.len() / count.min(heads.len())).max(1);
    for (at, (id, head)) in heads.into_iter().enumerate().step_by(stride).take(count) {
        let version = Version(1 + (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % head);
        let question = Question { partition, id: id.clone(), version, expected: None };
        wanted.insert(id.clone(), (Aggregate::genesis("order", &id), question));
    }
    let mut events = events;
    in_batches(all, |count| {
        for record in events.batch(count) {
            let key = std::str::from_utf8(record.key.as_deref().unwrap_or_default()).expect("ids are text");
            let Some((aggregate, question)) = wanted.get_mut(key) else { continue };
            rules.fold(aggregate, &decoder.decode(record));
            if aggregate.version == question.version {
                question.expected.get_or_insert_with(|| aggregate.clone());
            }
        }
    });
    wanted.into_values().map(|(_, question)| question).collect()
}

fn in_batches(all: u64, mut take: impl FnMut(usize)) {
    let mut left = all;
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        take(usize::try_from(count).expect("it is at most a batch"));
    }
}
