//! `doctor`: whether a process with this configuration will find what it needs, and whether what it
//! promises can be kept. It joins no group, folds nothing and leaves nothing behind.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the command, the machine's memory |
//! | `topics.rs` | topics: rights, retention, compaction, time stamps, partitions |
//! | `stores.rs` | index, blob store, registry: whether they may be written, read and deleted in; clocks |
//! | `coverage.rs` | which versions could not be rebuilt if the topic were gone |

mod coverage;
mod stores;
mod topics;

use super::args::ConfigSource;
use super::audit_args::DoctorArgs;
use super::checks::{self, Check};
use super::failure::{Done, Exit};
use super::run::runtime;
use super::screen::Screen;
use super::settings::consumer_settings;
use super::source::load_config;
use crate::config::{Config, show_bytes};
use crate::domain::ids::Lineage;
use crate::store::blobs::Blobs;
use crate::store::lineages::{self, Activation};
use std::net::{Ipv4Addr, SocketAddr};
use stores::Opened;

pub(super) fn run(args: &DoctorArgs, screen: &mut Screen<'_>) -> Done {
    let ConfigSource { config, sets } = &args.source;
    let config = load_config(config, sets)?;
    let checks = runtime(&config)?.block_on(all(&config));
    checks::print(&checks, args.output, Exit::Verification, screen)
}

async fn all(config: &Config) -> Vec<Check> {
    let mut checks = configuration(config);
    let Opened { index, blobs, checks: of_stores } = Box::pin(stores::open(config)).await;
    checks.extend(of_stores);
    checks.extend(stores::registry(config).await);
    let settings = consumer_settings(config, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    for stream in &config.streams {
        let active = match &blobs {
            Some(blobs) => active(&**blobs, &stream.topic).await,
            None => Ok(None),
        };
        checks.extend(topics::all(&settings, config, stream, active.as_ref()).await);
        if let (Some(index), Ok(active)) = (&index, &active) {
            let lineage = active.as_ref().map(|active| active.lineage);
            checks.push(coverage::of(&**index, stream, lineage.unwrap_or(Lineage(1))).await);
        }
    }
    checks
}

/// The activation that counts of a topic; none where nobody has folded it yet.
async fn active(blobs: &dyn Blobs, topic: &str) -> Result<Option<Activation>, String> {
    let history = lineages::history(blobs, topic).await;
    history.map(|mut all| all.pop()).map_err(|error| error.detail)
}

fn configuration(config: &Config) -> Vec<Check> {
    let mut checks = vec![Check::ok("config", format!("{} streams, no errors", config.streams.len()))];
    checks.extend(
        config.warnings().iter().map(|warning| Check::warn("config", warning, "see `snapfold config check`")),
    );
    checks.push(memory(config, machine_bytes()));
    checks
}

/// What all that the configuration allows takes, against what there is.
fn memory(config: &Config, machine: Option<u64>) -> Check {
    let limit = config.memory_bytes_max;
    let sum = format!("{} = {}", config.budget.sum(), show_bytes(limit));
    match machine {
        Some(machine) if limit > machine => Check::fail(
            "memory",
            format!("`memory.limit` is {}, the machine or container has {}", show_bytes(limit), mib(machine)),
            "lower `memory.limit`, or give it more memory: it would be killed",
        ),
        Some(machine) if limit > machine / 10 * 9 => Check::warn(
            "memory",
            format!("`memory.limit` is {} of {}", show_bytes(limit), mib(machine)),
            "leave a tenth to the system",
        ),
        _ => Check::ok("memory", sum),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Bytes that this process may use: of its container, else of the machine.
fn machine_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let container = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let machine = machine.map(|kib| kib << 10);
    [container, machine].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::super::checks::Came;
    use super::super::source::load_text;
    use super::*;

    #[test]
    fn more_memory_than_there_is_is_a_failure() {
        let text = "index: { embedded: { path: i } }\nblobs: { directory: { path: b } }\nmemory: { limit: 1GiB }\n\
            streams: [ { type: a, topic: a, map: { aggregateId: key, eventType: /t }, reducer: merge } ]\n";
        let config = load_text("f.yaml", text, &[]).unwrap();
        let came = |machine| memory(&config, machine).came;
        assert_eq!(came(Some(1 << 29)), Came::Fail);
        assert_eq!(came(Some((1 << 30) + (1 << 20))), Came::Warn);
        assert_eq!((came(Some(1 << 31)), came(None)), (Came::Ok, Came::Ok));
        assert!(memory(&config, None).found.contains("states"));
        assert!(machine_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
