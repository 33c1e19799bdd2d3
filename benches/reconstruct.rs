//! How fast any version of one aggregate is answered, against folding its own events from version 1, already
//! in memory: which is what one would do without snapshots, and flatters it. Histories of several lengths,
//! written by the real path. See docs/benchmarks.md.
//!
//! `cargo bench --bench reconstruct [-- EVENTS…]`, by default 1,000, 10,000, 100,000 and 1,000,000.

#[path = "fold/events.rs"]
#[expect(dead_code, reason = "other benches use other events")]
mod events;
#[expect(dead_code, reason = "this bench does not tell what the writing took")]
mod path;

use events::Events;
use path::{Path, usage};
use snapfold::domain::aggregate::{Aggregate, Folded};
use snapfold::domain::event::Decode;
use snapfold::domain::ids::{AggregateKey, Version};
use snapfold::reconstruct::{AsOf, Found};
use snapfold::telemetry::stopwatch::Stopwatch;
use std::collections::BTreeMap;

/// The only one.
const AGGREGATE: &str = "order-00000000";
/// Events of it that are folded in a second. A history that is folded faster than its snapshots are written
/// gets fewer of them.
const PER_SECOND_MAX: u32 = 20_000;
/// Versions asked for in each history.
const QUESTIONS: u64 = 500;
/// Events that are made at once, outside of the measured time.
const BATCH: u64 = 1_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let mut lengths: Vec<u64> =
        words.iter().map(|word| word.parse().expect("arguments are numbers of events")).collect();
    if lengths.is_empty() {
        lengths = vec![1_000, 10_000, 100_000, 1_000_000];
    }
    println!("one aggregate, {QUESTIONS} versions at random, milliseconds; load {}", usage::load());
    println!(
        "{:>9} {:>10} {:>10} {:>14} {:>11} {:>11} {:>8}",
        "events", "median", "p99", "events folded", "fold median", "fold p99", "ratio"
    );
    for length in lengths {
        path::runtime().block_on(measure(length));
    }
}

/// What folding from version 1 takes up to a version, and the chain there.
struct Peer {
    ms: f64,
    chain: String,
}

async fn measure(length: u64) {
    let history = Events::new(1, 0);
    let path = Path::new(vec![history.clone()], length, Some(PER_SECOND_MAX), path::STATES_BYTES);
    path.fold(Some(AGGREGATE)).await;
    let reader = path.reader().await;
    let (partition, key) = (Path::partition(0), AggregateKey { kind: "order".into(), id: AGGREGATE.into() });
    let (mut taken, mut folded) = (Vec::new(), Vec::new());
    let peers = fold(history, length, versions(length));
    for (version, peer) in &peers {
        let begun = Stopwatch::start();
        let answer = reader.state(&partition, &key, AsOf::Version(*version)).await;
        taken.push(begun.ms());
        let Ok(Found::State(aggregate, provenance)) = answer else {
            unreachable!("version {version}: {answer:?}")
        };
        assert_eq!(aggregate.chain.to_string(), peer.chain, "version {version}");
        folded.push(provenance.events as f64);
    }
    let mut folds: Vec<f64> = peers.values().map(|peer| peer.ms).collect();
    let (median, slow) = quantiles(&mut taken);
    let (naive, naive_slow) = quantiles(&mut folds);
    let (events, _) = quantiles(&mut folded);
    println!(
        "{length:>9} {median:>10.3} {slow:>10.3} {events:>14.0} {naive:>11.3} {naive_slow:>11.3} {:>8.1}",
        naive / median
    );
}

/// Versions to ask for, spread over the history without a pattern.
fn versions(length: u64) -> Vec<Version> {
    let at = |n: u64| Version(1 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % length);
    let mut versions: Vec<Version> = (1..=QUESTIONS).map(at).collect();
    versions.sort();
    versions.dedup();
    versions
}

/// Decodes and folds the history once; the time to each version is all that was spent up to there.
fn fold(mut events: Events, length: u64, versions: Vec<Version>) -> BTreeMap<Version, Peer> {
    let (decoder, rules) = (events::decoder(), events::rules());
    let mut aggregate = Aggregate::genesis("order", AGGREGATE);
    let (mut peers, mut spent, mut left) = (BTreeMap::new(), 0.0, length);
    let mut wanted = versions.into_iter().peekable();
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        let batch = events.batch(usize::try_from(count).expect("it is at most a batch"));
        let begun = Stopwatch::start();
        for record in batch {
            assert_eq!(
                rules.fold(&mut aggregate, &decoder.decode(record)),
                Folded::Applied,
                "events are good"
            );
            if let Some(version) = wanted.next_if_eq(&aggregate.version) {
                let chain = aggregate.chain.to_string();
                peers.insert(version, Peer { ms: spent + begun.ms(), chain });
            }
        }
        spent += begun.ms();
    }
    peers
}

/// Median and 99th percentile.
fn quantiles(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() * 99 / 100])
}
