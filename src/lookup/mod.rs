//! Questions about aggregates: the owner's memory where it has the answer, rest and the log where it has not.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Lookup` and what it needs, `Streams` |
//! | `answer.rs` | what may be asked and what is answered |
//! | `state.rs` | states, heads, freshness: which source answers |
//! | `locate.rs` | the partition in which an aggregate lives |
//! | `basis.rs` | how much of the log an answer is based on, and the same question within it |
//! | `lineages.rs` | the same about lineages that are not active |
//! | `history.rs` | events, blame, the history of a field, the difference between two moments |
//! | `walk.rs` | each event of a stretch with the states around it |
//! | `create.rs` | snapshots on demand |
//! | `erase.rs` | erasing an aggregate, and what became of it |
//! | `snapshots.rs` | stored snapshots: metadata, states, raw blobs, public ids |
//! | `stats.rs` | how much is stored: by day, by stream, by class of packs |
//! | `lists.rs` | aggregates of a type, dead letters |
//! | `verify.rs` | stored records against checksums, chain, fold and topic |
//! | `proof.rs` | what an auditor needs to check one version |
//! | `survey/` | the same for all aggregates of the stream, in tiers |
//! | `owners/` | the owners of partitions, in this process and in others |
//! | `cache.rs` | the port behind which settled states are kept, and what a flight is |
//! | `kept.rs` | the cache of the full build |
//! | `gate.rs` | how many reads run at once |
//!
//! *Order*: O1, an owner's answer from below the low watermark that is read for the same question is refused
//! (docs/adr/0029).
//! *If it fails*: an owner that does not answer, or answers from the past, costs time, never truth.
//! *If cancelled*: nothing is lost; a reconstruction that others wait for goes on.

mod answer;
mod basis;
mod cache;
mod create;
mod erase;
mod gate;
mod history;
#[cfg(feature = "runtime")]
mod kept;
mod lineages;
mod lists;
mod locate;
#[cfg(feature = "runtime")]
pub mod owners;
mod proof;
mod snapshots;
mod state;
mod stats;
mod survey;
mod verify;
mod walk;

pub use crate::reconstruct::{Provenance, Step, StepKind};
pub use answer::{
    Answer, Asked, Diff, Durable, EventView, Finding, Freshness, HeadView, ListItem, Refusal, Selector,
    SnapshotFilter, SnapshotMeta, Source, StoredBlob, Verified, VerifyMode, Which,
};
pub use basis::{BadBasis, Basis};
pub use cache::{Cache, CacheKey, CacheStats, NoCache};
pub use create::Made;
pub use erase::Erased;
pub use history::{Blame, Changed, FieldChange, FieldHistory, Over, Writer};
#[cfg(feature = "runtime")]
pub use kept::KeptStates;
pub use lineages::{LineageView, Lineages, OldLineage, OnlyActive, Standing};
pub use locate::Partitioner;
pub use proof::{Link, Proof, ProvenRecord};
pub use snapshots::{snapshot_id_bytes, snapshot_id_text};
pub use stats::{AggregateStats, DayStats, KnownPacks, PackTotal, Sizes, Survey, still_counting};
pub use survey::{Progress, SurveyAsk, SurveyFinding, Surveyed, Tier};

use crate::clock::Clock;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, Lineage, PartitionNo};
use crate::domain::row::PartitionKey;
use crate::reconstruct::{LiveHeads, Reconstructor};
use cache::Flights;
use gate::{Gate, Turn};
use locate::Memo;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Older versions that are written as snapshots at the same time.
const PAST_MAX: usize = 16;

/// How much questions may cost.
#[derive(Clone, Copy, Debug)]
pub struct LookupSettings {
    /// Events and records of the log that one question may read.
    pub events_max: u64,
    /// Questions that read at the same time; others wait.
    pub reads_max: usize,
    /// Questions that may wait; more are refused as overload.
    pub waiting_max: usize,
    /// Milliseconds between two looks while a question waits for freshness.
    pub poll_ms: u64,
    /// Aggregates whose partition is remembered.
    pub places_max: usize,
    /// Where the topic's producers put an id.
    pub partitioner: Partitioner,
    /// Packs that are older than this may be archived, and are looked for there when somebody asks for a
    /// snapshot's metadata; none where there is no archive.
    pub archived_after_ms: Option<u64>,
}

impl Default for LookupSettings {
    fn default() -> Self {
        Self {
            events_max: 1_000_000,
            reads_max: 16,
            waiting_max: 1_024,
            poll_ms: 20,
            places_max: 10_000,
            partitioner: Partitioner::Unknown,
            archived_after_ms: None,
        }
    }
}

/// Everything that answers about one stream need.
#[derive(Clone)]
pub struct Components {
    /// Rest and the log.
    pub reader: Reconstructor,
    /// The owners.
    pub owners: Arc<dyn LiveHeads>,
    /// Time, for waiting.
    pub clock: Arc<dyn Clock>,
    /// Settled states of earlier answers.
    pub cache: Arc<dyn Cache>,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// The active lineage.
    pub lineage: Lineage,
    /// Bounds.
    pub settings: LookupSettings,
}

struct Shared {
    parts: Components,
    memo: Memo,
    flights: Flights,
    gate: Gate,
    /// States of older versions that are written as snapshots: each is held whole until it is.
    past: Gate,
}

/// Answers questions about aggregates of one stream.
#[derive(Clone)]
pub struct Lookup(Arc<Shared>);

/// The streams of a process, by aggregate type.
#[derive(Clone, Default)]
pub struct Streams {
    /// One `Lookup` for each type.
    pub by_type: BTreeMap<Arc<str>, Arc<Lookup>>,
}

impl Lookup {
    /// Questions about one stream; clones share cache, memo and gate.
    #[must_use]
    pub fn new(parts: Components) -> Self {
        let gate = Gate::new(parts.settings.reads_max, parts.settings.waiting_max);
        let past = Gate::new(PAST_MAX, usize::MAX);
        let memo = Memo::new(parts.settings.places_max);
        Self(Arc::new(Shared { parts, memo, flights: Flights::default(), gate, past }))
    }

    /// What the cache has done so far.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.0.parts.cache.stats()
    }

    /// Damaged records met and reads begun anew, by questions and by the worker alike.
    #[must_use]
    pub fn damage(&self) -> (u64, u64) {
        let health = &self.reader().health;
        (health.damaged_records.load(Ordering::Relaxed), health.stale_lists.load(Ordering::Relaxed))
    }

    /// Reads of stored records that were found sound, and damaged.
    #[must_use]
    pub fn checks(&self) -> (u64, u64) {
        let checks = &self.reader().packs.checks;
        (checks.sound.load(Ordering::Relaxed), checks.damaged.load(Ordering::Relaxed))
    }

    fn reader(&self) -> &Reconstructor {
        &self.0.parts.reader
    }

    /// The aggregate with an id.
    #[must_use]
    pub fn key_of(&self, id: &str) -> AggregateKey {
        self.key(id)
    }

    fn key(&self, id: &str) -> AggregateKey {
        AggregateKey { kind: Arc::clone(&self.reader().rules.kind), id: id.into() }
    }

    /// The log of one partition of the stream, in its active lineage.
    #[must_use]
    pub fn log_of(&self, partition: PartitionNo) -> PartitionKey {
        let parts = &self.0.parts;
        PartitionKey { topic: Arc::clone(&parts.topic), partition, lineage: parts.lineage }
    }

    /// Waits for a turn to read, which is over when it is dropped.
    ///
    /// # Errors
    /// Overloaded if too many wait already.
    pub(crate) async fn admit(&self) -> Asked<Turn> {
        let turn = self.0.gate.turn().await;
        turn.ok_or_else(|| {
            let detail = "too many questions wait already";
            Refusal::Failed(Error::new(ErrorKind::Unavailable, "overloaded", detail))
        })
    }

    fn too_much(&self, events: u64) -> Refusal {
        Refusal::TooMuchWork { events, max: self.0.parts.settings.events_max }
    }
}
