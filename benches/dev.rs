//! How fast `snapfold dev` takes a file of events: through the mock broker, the worker and the embedded
//! stores, until everything is folded and covered. The figure includes the start and the end of the process.
//! See docs/benchmarks.md.
//!
//! `cargo bench --bench dev [-- EVENTS [ARGUMENTS OF dev…]]`, half a million events by default.

#[path = "fold/events.rs"]
#[expect(dead_code, reason = "other benches use other events")]
mod events;
#[path = "path/usage.rs"]
#[expect(dead_code, reason = "other benches look at themselves, this one at its child")]
mod usage;

use events::Events;
use snapfold::telemetry::stopwatch::Stopwatch;
use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;

const AGGREGATES: usize = 100_000;
const CONFIG: &str = "
streams:
  - type: order
    topic: orders
    map:
      aggregateId: /aggregate
      eventType: /type
      version: /version
      eventId: /id
      time: /timestamp
      data: /data
    reducer:
";

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let events = words.next().map_or(500_000, |word| word.parse().expect("the first word is a number"));
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (config, input) = (folder.path().join("orders.yaml"), folder.path().join("orders.ndjson"));
    std::fs::write(&config, configuration()).expect("the folder is ours");
    let bytes = write_events(&input, events).expect("the folder is ours");
    println!("{events} events, {} MiB of NDJSON; load {}", bytes >> 20, usage::load());
    let begun = Stopwatch::start();
    let status = Command::new(env!("CARGO_BIN_EXE_snapfold"))
        .args(["dev", "--exit", "--port", "0", "--config"])
        .arg(&config)
        .arg("--events")
        .arg(&input)
        .args(words)
        .status()
        .expect("the program can start");
    let seconds = begun.ms() / 1_000.0;
    assert!(status.success(), "dev ended with {status}");
    let processor = usage::children();
    println!("{:.1} s, {:.0} events/s", seconds, events as f64 / seconds);
    println!("{processor:.1} s of processor, {:.0} ns per event", processor * 1e9 / events as f64);
}

fn configuration() -> String {
    let mut text = CONFIG.to_owned();
    for line in events::REDUCER.trim().lines() {
        writeln!(text, "      {line}").expect("a String takes all that is written");
    }
    text
}

/// Values with the aggregate's id in them, one a line.
fn write_events(path: &Path, count: usize) -> std::io::Result<u64> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let mut events = Events::new(AGGREGATES, 50);
    for _ in 0..count {
        for record in events.batch(1) {
            let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
            write!(file, r#"{{"aggregate":"{}","#, String::from_utf8_lossy(&key))?;
            file.write_all(value.strip_prefix(b"{").unwrap_or(&value))?;
            file.write_all(b"\n")?;
        }
    }
    file.flush()?;
    Ok(std::fs::metadata(path)?.len())
}
