//! How `memory.limit` is shared out. Everything that the process allocates has a part; states get what is left.

use super::reader::Section;
use super::{Config, show_bytes};

/// Parts of `memory.limit` in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Code, stacks, buffers of the runtime, connections.
    pub base: u64,
    /// Records that Kafka's client has fetched and nobody has taken yet.
    pub kafka_queues: u64,
    /// Packs while they are encoded and written.
    pub flushes: u64,
    /// The embedded index's own cache and write buffers.
    pub index: u64,
    /// Reconstructed states.
    pub cache: u64,
    /// States, uncovered events and tables of live checkpoints, over all partitions.
    pub states: u64,
}

/// What a process takes that does nothing.
const BASE: u64 = 40 << 20;
/// Least that is left for states.
const STATES_MIN: u64 = 32 << 20;

impl Config {
    /// Shares the limit out, and notes it if the parts do not fit. A cache that nobody sized is made to fit.
    pub(super) fn share_memory(&mut self, is_cache_sized: bool, root: Section<'_>) {
        let limit = self.memory_bytes_max;
        if let Some(cache) = self.cache.as_mut().filter(|_| !is_cache_sized) {
            cache.bytes_max = cache.bytes_max.min(limit / 8);
        }
        let embedded = matches!(self.index, super::Index::Embedded { .. });
        // A pack exists as entries and as bytes, and compression works beside it.
        let writers = self.flushes as u64 + 1;
        let mut budget = Budget {
            base: BASE,
            kafka_queues: (limit / 8).clamp(8 << 20, 128 << 20),
            flushes: writers * self.flush_bytes_max.min(limit / 32)
                + self.checkpoint.flush_bytes.min(limit / 16) * 2,
            index: if embedded { (limit / 16).clamp(16 << 20, 64 << 20) } else { 8 << 20 },
            cache: self.cache.map_or(0, |cache| cache.bytes_max),
            states: 0,
        };
        let parts = budget.base + budget.kafka_queues + budget.flushes + budget.index + budget.cache;
        budget.states = limit.saturating_sub(parts);
        self.budget = budget;
        if budget.states < STATES_MIN {
            let part = |name: &str, bytes: u64| format!("{name} {}", show_bytes(bytes >> 10 << 10));
            let sum = [
                part("process", budget.base),
                part("Kafka queues", budget.kafka_queues),
                part("flushes", budget.flushes),
                part("index", budget.index),
                part("cache", budget.cache),
                part("states at least", STATES_MIN),
            ];
            let message = format!(
                "`memory.limit` is too small: {} = {}",
                sum.join(" + "),
                show_bytes((parts + STATES_MIN) >> 10 << 10)
            );
            root.section("memory", |it| {
                it.problem(
                    "limit",
                    message,
                    "raise it, or lower `cache.maxBytes`, `flush.maxBytes` or `parallelism.flushes`",
                )
            });
        }
    }
}
