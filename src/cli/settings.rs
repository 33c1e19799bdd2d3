//! What a configuration means for the parts that `run` builds: plain values, no decisions about events.

use super::run::RETRY_MS;
use crate::clock::{Clock, SystemClock};
use crate::codec::dictionary::Privacy;
use crate::config::{self, Config, Dictionaries, Stream};
use crate::domain::partition::{BackOff, Settings};
use crate::kafka::ConsumerSettings;
use crate::lookup::{self, LookupSettings};
use crate::store::packs::CompressionPlan;
use crate::upkeep::retention::{History, Keep};
use crate::worker::WorkerSettings;
use std::net::SocketAddr;

/// Time that a revoked partition may take to cover what is dirty.
const REVOKE_MS: u64 = 1_000;
/// The same, when the process stops.
const SHUTDOWN_MS: u64 = 20_000;

pub(super) fn consumer_settings(config: &Config, address: SocketAddr) -> ConsumerSettings {
    let topics: Vec<&str> = config.streams.iter().map(|stream| &*stream.topic).collect();
    let properties = &config.kafka.properties;
    ConsumerSettings {
        properties: properties
            .iter()
            .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
            .collect(),
        client_id: format!("snapfold@{address}"),
        queue_bytes_max: config.budget.kafka_queues,
        revoke_ms: REVOKE_MS,
        ..ConsumerSettings::new(&config.kafka.brokers, &config.kafka.group, &topics)
    }
}

pub(super) fn partitioner(stream: &Stream) -> lookup::Partitioner {
    match stream.partitioner {
        config::Partitioner::Murmur2 => lookup::Partitioner::Murmur2,
        config::Partitioner::Crc32 => lookup::Partitioner::Crc32,
        config::Partitioner::None => lookup::Partitioner::Unknown,
    }
}

/// How questions about a stream are answered. Packs of a type without `archiveAfter` may be archived as well,
/// by what the file said before.
pub(super) fn lookup_settings(config: &Config, stream: &Stream) -> LookupSettings {
    let after_ms = config.archive.as_ref().map(|_| stream.retention.archive_after_ms.unwrap_or(0));
    LookupSettings {
        partitioner: partitioner(stream),
        archived_after_ms: after_ms,
        ..LookupSettings::default()
    }
}

pub(super) fn compression(stream: &Stream) -> CompressionPlan {
    let dictionary = match stream.dictionary {
        Dictionaries::Strict => Some(Privacy::Strict),
        Dictionaries::Off => Some(Privacy::Off),
        Dictionaries::None => None,
    };
    CompressionPlan { compression: stream.compression, dictionary, ..CompressionPlan::default() }
}

/// What a stream keeps.
pub(super) fn keep(stream: &Stream) -> Keep {
    let history = match stream.history {
        config::History::Forever => History::Forever,
        config::History::Ms(ms) => History::Ms(ms),
        config::History::Snapshots => History::Snapshots,
    };
    let config::Retention { snapshots_max, period_ms, .. } = stream.retention;
    Keep { history, snapshots_max, period_ms }
}

/// Names the writer in its packs.
pub(super) fn session(clock: &SystemClock) -> [u8; 16] {
    let mut session = [0; 16];
    session[..10].copy_from_slice(&clock.random());
    session[10..].copy_from_slice(&clock.random()[..6]);
    session
}

/// Snapshots in flight: of all partitions, and of one at the least and at the most.
const SNAPSHOTS: usize = 2_048;
const SNAPSHOTS_MIN: usize = 64;
const SNAPSHOTS_MAX: usize = 512;

/// How far a partition falls behind before snapshots that nobody presses for wait.
const BACK_OFF: BackOff = BackOff { records_max: 10_000, ms_max: 10_000 };

pub(super) fn worker_settings(config: &Config, stream: &Stream, partitions: u32) -> WorkerSettings {
    let share = |bytes: u64| usize::try_from(bytes / u64::from(partitions)).unwrap_or(usize::MAX);
    let count = usize::try_from(partitions).unwrap_or(usize::MAX);
    let snapshots_max = (SNAPSHOTS / count).clamp(SNAPSHOTS_MIN, SNAPSHOTS_MAX);
    WorkerSettings {
        partition: Settings {
            events_max: stream.events_max,
            age_ms_max: stream.age_ms_max,
            bytes_max: stream.bytes_max,
            write_amplification_permille: stream.write_amplification_permille,
            strategy: stream.strategy,
            memory_bytes_max: share(config.budget.states).max(1 << 20),
            uncovered_bytes_max: share(config.checkpoint.flush_bytes).max(64 << 10),
            loads_max: 32,
            snapshots_max,
            live_bytes_max: config.checkpoint.live_bytes_max / u64::from(partitions),
            hot_max: 1_024,
            adaptive_us: stream.adaptive_us,
            back_off: BACK_OFF,
        },
        checkpoint_ms: config.checkpoint.interval_ms,
        linger_ms: config.linger_ms,
        // No more can wait, so a batch that is full is not held back.
        linger_items: snapshots_max.saturating_mul(count).min(1_024),
        flush_bytes_max: usize::try_from(config.flush_bytes_max).unwrap_or(usize::MAX),
        flushes: config.flushes,
        tick_ms: 100,
        records_max: 1_000,
        retry_ms: RETRY_MS,
        revoke_ms: REVOKE_MS,
        shutdown_ms: SHUTDOWN_MS,
    }
}
