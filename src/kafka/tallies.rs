//! What a member of the group counts of itself, for the scrape.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened to this member, in partitions and records.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Partitions that the group gave to it.
    pub assigned: AtomicU64,
    /// Partitions that were another's before they could be given up.
    pub lost: AtomicU64,
    /// Partitions that were not let go of in time.
    pub late: AtomicU64,
    /// Records that came on the common queue: always 0, or a partition's queue was not split.
    pub strays: AtomicU64,
}

/// Adds to a tally.
pub(super) fn count(tally: &AtomicU64, more: usize) {
    tally.fetch_add(more as u64, Ordering::Relaxed);
}
