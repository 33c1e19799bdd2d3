//! What one core takes per event on the way from a record to what is to be stored, stage by stage, with a
//! peer (`serde_json` and a naive fold) in the same run. See docs/benchmarks.md.
//!
//! `cargo bench --no-default-features --bench fold [-- EVENTS [STAGE…]]`, two million events by default.
//! Records are made in batches outside of the measured time; each stage runs in a process of its own.

mod avro;
#[expect(dead_code, reason = "other benches use other events")]
mod events;
mod peer;
mod shell;

use events::Events;
use shell::Shell;
use snapfold::codec::compress::Compression;
use snapfold::codec::event_json::JsonDecoder;
use snapfold::domain::aggregate::{Aggregate, Folded, Rules};
use snapfold::domain::chain;
use snapfold::domain::event::{Decode, Decoded};
use snapfold::domain::record::RawRecord;
use snapfold::domain::reducer::EventView;
use snapfold::domain::value::{Limits, Value};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const AGGREGATES: usize = 100_000;
const BATCH: usize = 2_000;
/// Marks a process that runs one stage and prints two numbers.
const ALONE: &str = "alone";

/// Takes batches of records.
type Stage = Box<dyn FnMut(Vec<RawRecord>)>;
/// Makes a stage and its events.
type Make = fn(usize) -> (Events, Stage);

const STAGES: &[(&str, Make)] = &[
    ("peer: serde_json, naive fold", |_| (skewed(50), peer::stage())),
    ("JSON", |_| (skewed(50), json())),
    ("digest of the record", |_| (skewed(50), digest())),
    ("decode (JSON, mapping, digest)", |_| (skewed(50), decode())),
    ("Avro", |_| avro::plan()),
    ("Avro by apache-avro", |_| avro::peer()),
    ("decode (Avro, mapping, digest)", |_| avro::decode()),
    ("decode, reducer", |_| (skewed(50), reduce())),
    ("decode, fold (reducer, chain)", |_| (skewed(50), fold())),
    ("decode, step", |_| (skewed(50), step(1 << 30, None))),
    ("decode, step, packs", |_| (skewed(50), step(1 << 30, Some(Compression::default())))),
    ("step, evenly spread", |_| (skewed(0), step(1 << 30, None))),
    ("step, 90 % to 1 %", |_| (skewed(90), step(1 << 30, None))),
    ("step, new aggregates, 200 MiB", |events| (Events::new(events, 0).in_turn(), step(200 << 20, None))),
];

fn skewed(hot_percent: u64) -> Events {
    Events::new(AGGREGATES, hot_percent)
}

fn main() {
    // `cargo bench` adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let events = words.first().map_or(2_000_000, |word| word.parse().expect("the first word is a number"));
    if let [_, alone, name] = &words[..]
        && alone == ALONE
    {
        return run_alone(name, events);
    }
    let is_wanted = |name: &str| words.len() < 2 || words[1..].iter().any(|word| name == word);
    println!("{events} events, {AGGREGATES} aggregates, half of the events to 1 % of them; CPU time");
    println!("{:<32} {:>9} {:>12} {:>9} {:>9}", "stage", "ns/event", "events/s", "x peer", "peak MiB");
    let mut peer = None;
    for (name, _) in STAGES.iter().filter(|(name, _)| is_wanted(name)) {
        let (nanos, peak) = run_apart(name, events);
        let (rate, ratio) = (1e9 / nanos, *peer.get_or_insert(nanos) / nanos);
        println!("{name:<32} {nanos:>9.0} {rate:>12.0} {ratio:>9.2} {peak:>9}");
    }
}

/// Runs one stage in a process of its own, because memory that one stage frees hides what the next one takes.
fn run_apart(name: &str, events: usize) -> (f64, u64) {
    let program = std::env::current_exe().expect("this program is a file");
    let output = std::process::Command::new(program).args([&events.to_string(), ALONE, name]).output();
    let output = output.expect("this program can start itself");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (nanos, peak) = text.trim().split_once(' ').expect("a stage prints two numbers");
    (nanos.parse().expect("nanoseconds"), peak.parse().expect("MiB"))
}

/// Prints nanoseconds per event and the peak of the process in MiB.
fn run_alone(name: &str, events: usize) {
    let (_, make) = STAGES.iter().find(|(known, _)| *known == name).expect("stages are named by `STAGES`");
    let (mut source, mut stage) = make(events);
    let mut taken = Duration::ZERO;
    for _ in 0..events.div_ceil(BATCH) {
        let records = source.batch(BATCH);
        let started = cpu_time();
        stage(records);
        taken += cpu_time() - started;
    }
    println!("{} {}", taken.as_secs_f64() * 1e9 / events as f64, peak_mib());
}

/// CPU time of this thread: others work on the same machine.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("CPU time is not negative")
}

/// What Linux says; 0 elsewhere.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).map_or(0, |kib: u64| kib / 1024)
}

fn json() -> Stage {
    let limits = Limits::default();
    Box::new(move |records| {
        for record in &records {
            let value = Value::parse(record.value.as_deref().unwrap_or_default(), &limits);
            black_box(value.expect("events are JSON"));
        }
    })
}

fn digest() -> Stage {
    Box::new(|records| {
        for record in &records {
            black_box(chain::event_digest(record, &[]));
        }
    })
}

fn decoded(decoder: &JsonDecoder, records: Vec<RawRecord>) -> Vec<Decoded> {
    records.into_iter().map(|record| decoder.decode(record)).collect()
}

fn decode() -> Stage {
    let decoder = events::decoder();
    Box::new(move |records| drop(black_box(decoded(&decoder, records))))
}

/// The reducer over trees, as if all states were hot.
fn reduce() -> Stage {
    let (decoder, rules) = (events::decoder(), events::rules());
    let mut states: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    Box::new(move |records| {
        for decoded in decoded(&decoder, records) {
            let event = decoded.content.as_ref().expect("events are good");
            let view = EventView {
                event_type: &event.event_type,
                event_id: event.event_id.as_deref(),
                version: event.version.unwrap_or_default(),
                time: event.time,
                key: None,
                headers: &[],
                data: &event.data,
            };
            let state = states.entry(Arc::clone(&event.id)).or_insert_with(|| rules.reducer.initial());
            rules.reducer.apply(state, &view).expect("events are good");
        }
    })
}

/// The whole fold, states as trees.
fn fold() -> Stage {
    let (decoder, rules): (_, Rules) = (events::decoder(), events::rules());
    let mut aggregates: BTreeMap<Arc<str>, Aggregate> = BTreeMap::new();
    Box::new(move |records| {
        for decoded in decoded(&decoder, records) {
            let id = decoded.id().expect("events are good");
            let genesis = || Aggregate::genesis("order", id);
            let aggregate = aggregates.entry(Arc::clone(id)).or_insert_with(genesis);
            assert_eq!(rules.fold(aggregate, &decoded), Folded::Applied, "events are good");
        }
    })
}

/// The state machine with `memory_bytes_max`, all that it asks for answered at once.
fn step(memory_bytes_max: usize, compression: Option<Compression>) -> Stage {
    let decoder = events::decoder();
    let mut shell = Shell::new(memory_bytes_max, compression);
    let mut taken = 0;
    Box::new(move |records| {
        taken += records.len() as u64;
        shell.take(decoded(&decoder, records));
        assert_eq!(shell.partition().counts().folded, taken, "nothing is left out");
    })
}
