//! How `memory.limit` is shared out. Everything that the process allocates has a part; states get
//! what is left.

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

/// Which parts the user has sized; the others are made to fit.
#[derive(Clone, Copy)]
pub(super) struct Sized {
    pub(super) cache: bool,
    pub(super) flush: bool,
    pub(super) checkpoint: bool,
}

impl Config {
    /// Shares the limit out, and notes it if the parts do not fit.
    pub(super) fn share_memory(&mut self, sized: Sized, root: Section<'_>) {
        let limit = self.memory_bytes_max;
        let fit = |bytes: &mut u64, is_sized: bool, share: u64| {
            if !is_sized {
                *bytes = (*bytes).min(share).max(1);
            }
        };
        if let Some(cache) = &mut self.cache {
            fit(&mut cache.bytes_max, sized.cache, limit / 8);
        }
        fit(&mut self.flush_bytes_max, sized.flush, limit / 32);
        fit(&mut self.checkpoint.flush_bytes, sized.checkpoint, limit / 16);
        let embedded = matches!(self.index, super::Index::Embedded { .. });
        // A pack exists as entries and as bytes, and compression works beside it.
        let writers = self.flushes as u64 + 1;
        let mut budget = Budget {
            base: BASE,
            kafka_queues: (limit / 8).clamp(8 << 20, 128 << 20),
            flushes: writers
                .saturating_mul(self.flush_bytes_max)
                .saturating_add(self.checkpoint.flush_bytes.saturating_mul(2)),
            index: if embedded { (limit / 16).clamp(16 << 20, 64 << 20) } else { 8 << 20 },
            cache: self.cache.map_or(0, |cache| cache.bytes_max),
            states: 0,
        };
        let parts = budget.parts().iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        budget.states = limit.saturating_sub(parts);
        self.budget = budget;
        if budget.states < STATES_MIN {
            let least = Budget { states: STATES_MIN, ..budget };
            let needed = parts.saturating_add(STATES_MIN);
            let message = format!("`memory.limit` is too small: {} = {}", least.sum(), rounded(needed));
            let hint = "raise it, or lower `cache.maxBytes`, `flush.maxBytes`, `checkpoint.flushBytes` or \
                        `parallelism.flushes`";
            root.section("memory", |it| it.problem("limit", message, hint));
        }
    }
}

impl Budget {
    fn parts(&self) -> [(&'static str, u64); 6] {
        [
            ("process", self.base),
            ("Kafka queues", self.kafka_queues),
            ("flushes", self.flushes),
            ("index", self.index),
            ("cache", self.cache),
            ("states", self.states),
        ]
    }

    /// `process 40MiB + Kafka queues 128MiB + …`
    #[must_use]
    pub fn sum(&self) -> String {
        let part = |(name, bytes): &(&str, u64)| format!("{name} {}", rounded(*bytes));
        self.parts().iter().map(part).collect::<Vec<_>>().join(" + ")
    }
}

/// Rounded up to whole MiB, so that a limit that is raised to a sum suffices.
fn rounded(bytes: u64) -> String {
    show_bytes(bytes.div_ceil(1 << 20).saturating_mul(1 << 20))
}
