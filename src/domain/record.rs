//! What a snapshot record says, before it is bytes: the events since the previous record (D) or the whole
//! state (F).
//!
//! Two workers that fold the same prefix make equal values here, and `codec` turns equal values into equal
//! bytes.

use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PartitionNo, Timestamp, Version};
use std::sync::Arc;

/// Bytes that a held event, a body under construction and a reader share.
pub type Bytes = Arc<[u8]>;

/// The two kinds of record that are written so far (segments and tombstones are reserved in the pack format).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// D: the events after `from_version`, up to and with `upto_version`.
    Incremental,
    /// F: the whole state at `upto_version`.
    Full,
}

/// Which record of which aggregate; in the order in which packs sort their entries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Whose record it is.
    pub key: AggregateKey,
    /// The fold it belongs to.
    pub lineage: Lineage,
    /// The last version it covers.
    pub upto_version: Version,
    /// Full or incremental.
    pub kind: RecordKind,
    /// The version it builds on, not covered itself: 0 for a full record and for the first events.
    pub from_version: Version,
}

/// What the index and the planner know about a record without reading its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMeta {
    /// Which record.
    pub id: RecordId,
    /// Kafka partition of its events.
    pub partition: PartitionNo,
    /// Offset of the first event it covers (for a full record: of the first event since the record before
    /// it).
    pub first_offset: Offset,
    /// Offset of the event at `upto_version`.
    pub last_offset: Offset,
    /// Leader epoch of that event, -1 if unknown.
    pub leader_epoch: i32,
    /// Effective time of `upto_version`.
    pub effective_time: Timestamp,
    /// Chain hash after `upto_version`, where it cannot be had from the body.
    pub chain: Option<Digest>,
    /// Digest of the canonical state; full records only.
    pub state_digest: Option<Digest>,
    /// The state is deleted at `upto_version`.
    pub is_deleted: bool,
    /// The aggregate is quarantined after `upto_version`.
    pub is_quarantined: bool,
    /// Offsets of the covered events, increasing, where targeted reads of the topic need them.
    pub trail: Option<Vec<Offset>>,
}

/// One Kafka record as it was read, and what the fold decided about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its version in its aggregate.
    pub version: Version,
    /// Where it lies in the partition.
    pub offset: Offset,
    /// Leader epoch under which it was read, -1 if unknown.
    pub leader_epoch: i32,
    /// The record's own timestamp.
    pub record_time: Timestamp,
    /// Poison under policy `skip`: it took its version, the state stayed.
    pub skipped: bool,
    /// Record key, `None` for null.
    pub key: Option<Bytes>,
    /// Record value, `None` for null.
    pub value: Option<Bytes>,
    /// Record headers in record order; names may repeat.
    pub headers: Vec<(Box<str>, Option<Bytes>)>,
}

/// Why an aggregate stays at its last good version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineMark {
    /// Stable code of the reason.
    pub code: Box<str>,
    /// The last good version.
    pub version: Version,
    /// Offset of the event that could not be folded.
    pub offset: Offset,
    /// Record time of that event.
    pub since: Timestamp,
}

/// Body of an incremental record. Versions are contiguous and offsets increase; there is at least one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncrementBody {
    /// The covered events in version order.
    pub events: Vec<StoredEvent>,
    /// Chain hash before the first event; `None` where the chain starts here or the previous record has it.
    pub base_chain: Option<Digest>,
    /// Set if the aggregate was quarantined after these events.
    pub quarantine: Option<QuarantineMark>,
}

/// Body of a full record: the state at a version and what folding on from it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullBody {
    /// The version of the state.
    pub version: Version,
    /// Offset of the event that made it.
    pub offset: Offset,
    /// Leader epoch of that event, -1 if unknown.
    pub leader_epoch: i32,
    /// Effective time of the version.
    pub effective_time: Timestamp,
    /// Time of the aggregate's first event.
    pub first_time: Timestamp,
    /// The aggregate is deleted at this version.
    pub deleted: bool,
    /// Chain hash after this version.
    pub chain: Digest,
    /// Type of the last event.
    pub last_event_type: Box<str>,
    /// Id of the last event, where events have ids.
    pub last_event_id: Option<Box<str>>,
    /// Hashes of the last event ids, newest last; only where versions are counted and events have ids.
    pub recent_event_ids: Vec<u64>,
    /// Set if the aggregate is quarantined at this version.
    pub quarantine: Option<QuarantineMark>,
    /// The state's JSON as folded; `None` if there is no state.
    pub state: Option<Box<[u8]>>,
}
