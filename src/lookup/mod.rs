//! Questions about aggregates: the owner's memory where it has the answer, rest and the log where it has not.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Lookup` and what it needs, `Streams` |
//! | `answer.rs` | what may be asked and what is answered |
//!
//! *If it fails*: an owner that does not answer, or answers from the past, costs time, never truth.

mod answer;

pub use crate::reconstruct::Provenance;
pub use answer::{
    Answer, Asked, Diff, Durable, EventView, Finding, Freshness, HeadView, ListItem, Refusal, Selector,
    SnapshotFilter, SnapshotMeta, Source, StoredBlob, Verified, VerifyMode, Which,
};

use crate::clock::Clock;
use crate::domain::ids::{Lineage, Offset, PartitionNo, Version};
use crate::domain::row::DeadLetter;
use crate::reconstruct::{LiveHeads, Reconstructor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that answers about one stream need.
#[derive(Clone)]
pub struct Components {
    /// Rest and the log.
    pub reader: Reconstructor,
    /// The owners.
    pub owners: Arc<dyn LiveHeads>,
    /// Time, for waiting.
    pub clock: Arc<dyn Clock>,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// The active lineage.
    pub lineage: Lineage,
}

/// Answers questions about aggregates of one stream.
#[derive(Clone)]
pub struct Lookup {
    parts: Arc<Components>,
}

/// The streams of a process, by aggregate type.
#[derive(Clone, Default)]
pub struct Streams {
    /// One `Lookup` for each type.
    pub by_type: BTreeMap<Arc<str>, Arc<Lookup>>,
}

impl Lookup {
    pub fn new(parts: Components) -> Self {
        Self { parts: Arc::new(parts) }
    }
    pub async fn state(&self, id: &str, selector: Selector, freshness: Freshness) -> Asked<Answer> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn head(&self, id: &str) -> Asked<HeadView> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn events(
        &self,
        id: &str,
        from: Version,
        to: Option<Version>,
        descending: bool,
        limit: usize,
    ) -> Asked<Vec<EventView>> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn snapshots(&self, id: &str, filter: SnapshotFilter) -> Asked<Vec<SnapshotMeta>> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn snapshot(&self, id: &str, which: Which) -> Asked<(SnapshotMeta, Answer)> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn blob(&self, id: &str, version: Version) -> Asked<StoredBlob> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn aggregates(&self, prefix: &str, after: Option<&str>, limit: usize) -> Asked<Vec<ListItem>> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn diff(&self, id: &str, from: Selector, to: Selector) -> Asked<Diff> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn verify(&self, id: &str, version: Option<Version>, mode: VerifyMode) -> Asked<Verified> {
        Err(Refusal::UnknownAggregate)
    }
    pub async fn dead_letters(
        &self,
        after: Option<(PartitionNo, Offset)>,
        limit: usize,
    ) -> Asked<Vec<DeadLetter>> {
        Err(Refusal::UnknownAggregate)
    }
}

impl Streams {
    pub async fn snapshot_by_id(&self, id: &str) -> Asked<(SnapshotMeta, Answer)> {
        Err(Refusal::UnknownAggregate)
    }
}
