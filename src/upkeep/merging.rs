//! The background duty of compaction: the owner of partitions walks their aggregates and merges history that
//! will not be merged again, one aggregate after the other.
//!
//! *Order*: that of `compaction`, for each.
//! *If it fails*: the aggregate is left as it is and counted; the next walk tries again.
//! *If cancelled*: the same.
//! *What may leak*: as for `compaction`.
//!
//! COST: a share of one core and of the stores' time: after each aggregate it rests as long as that took,
//! times [`REST`], and it does nothing while events wait to be folded.

use super::compaction::{Compacted, Compactor, Wish};
use crate::clock::Clock;
use crate::domain::compaction::{Aim, Depth};
use crate::domain::ids::{AggregateKey, PartitionNo};
use crate::domain::record::SegmentBody;
use crate::reconstruct::LiveSnapshots;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Aggregates listed in one go.
const PAGE: usize = 256;
/// Milliseconds before a walk that was kept from going on looks again.
const PRESSED_MS: u64 = 1_000;
/// How much longer it rests than it works.
const REST: u64 = 3;

/// When history is merged by itself.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Milliseconds between the end of a walk and the next one.
    pub interval_ms: u64,
    /// Full records that stay, the newest first.
    pub keep_full: usize,
}

/// What the duty has done since the process started, read by metrics.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Aggregates that were looked at.
    pub looked_at: AtomicU64,
    /// Segments that were written.
    pub segments: AtomicU64,
    /// Events in them.
    pub events: AtomicU64,
    /// Rows that were deleted for them.
    pub deleted: AtomicU64,
    /// Aggregates that could not be compacted.
    pub failed: AtomicU64,
}

/// The duty of one process for one stream.
pub struct Duty {
    /// Compacts.
    pub compactor: Compactor,
    /// The partitions of this process.
    pub own: Arc<dyn LiveSnapshots>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When.
    pub settings: Settings,
    /// Events wait to be folded: nothing else counts then.
    pub is_pressed: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What was done.
    pub tallies: Arc<Tallies>,
}

impl Duty {
    /// Walks for ever.
    pub async fn run(self) {
        loop {
            self.clock.sleep(self.settings.interval_ms).await;
            self.walk().await;
        }
    }

    /// Looks at each aggregate of the partitions of this process once. A page that cannot be listed ends the
    /// walk.
    pub async fn walk(&self) {
        let index = self.compactor.index();
        let kind = self.compactor.kind();
        let mut after: Option<Arc<str>> = None;
        loop {
            let Ok(page) = index.aggregates(&kind, after.as_deref(), PAGE).await else { return };
            let is_last = page.len() < PAGE;
            after = page.last().map(|(key, _)| Arc::clone(&key.id));
            for (key, partition) in page {
                if self.own.owns(partition) {
                    self.look_at(&key, partition).await;
                }
            }
            if is_last {
                return;
            }
        }
    }

    async fn look_at(&self, key: &AggregateKey, partition: PartitionNo) {
        while (self.is_pressed)() {
            self.clock.sleep(PRESSED_MS).await;
        }
        let wish = Wish {
            aim: Aim::Merge,
            depth: Depth::Full,
            events_max: SegmentBody::EVENTS_MAX,
            keep_full: self.settings.keep_full,
        };
        let started = self.clock.monotonic_ms();
        let outcome = self.compactor.compact(&*self.own, partition, &key.id, wish).await;
        #[cfg(feature = "runtime")]
        if let Err(error) = &outcome {
            tracing::warn!(%error, code = error.code, id = ?key.id, partition = partition.0, "history is not merged");
        }
        self.count(outcome.map(Option::unwrap_or_default));
        let took = self.clock.monotonic_ms().saturating_sub(started);
        self.clock.sleep(took.saturating_mul(REST).max(1)).await;
    }

    fn count(&self, outcome: crate::domain::error::Result<Compacted>) {
        let add = |tally: &AtomicU64, n: u64| {
            tally.fetch_add(n, Ordering::Relaxed);
        };
        add(&self.tallies.looked_at, 1);
        match outcome {
            Ok(done) => {
                add(&self.tallies.segments, done.segments);
                add(&self.tallies.events, done.events);
                add(&self.tallies.deleted, done.deleted);
            }
            Err(_) => add(&self.tallies.failed, 1),
        }
    }
}
