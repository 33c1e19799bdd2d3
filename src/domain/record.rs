//! What is kept of an event and of a state: the facts that packs hold, independent of their bytes (`codec`
//! owns those).

use super::ids::{AggregateKey, Digest, Lineage, Offset, PartitionNo, Timestamp, Version};
use std::sync::Arc;

/// Bytes that several owners share without copying.
pub type Bytes = Arc<[u8]>;

/// Headers of a Kafka record, in their order; names may repeat.
pub type Headers = Vec<(Box<str>, Option<Bytes>)>;

/// One Kafka record as it came, before decoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Leader epoch of the batch it came in, -1 where the broker told none.
    pub leader_epoch: i32,
    /// The record's own timestamp.
    pub record_time: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

impl RawRecord {
    /// Bytes of key, value and headers: what `sizeThreshold` counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let headers = self.headers.iter().map(|(name, value)| name.len() + len(value));
        len(&self.key) + len(&self.value) + headers.sum::<usize>()
    }
}

/// An event as it is stored: the raw record plus what the fold decided about it. Decoding the record again
/// gives the event again, so a new reducer can fold stored history without the topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredEvent {
    /// The version it took.
    pub version: Version,
    /// True where the event was poison and the stream's policy let it take its version without changing the
    /// state.
    pub skipped: bool,
    /// The record.
    pub record: RawRecord,
}

/// Why an aggregate stands still at its last good version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineMark {
    /// What was wrong with the event, from the closed list of codes.
    pub code: Box<str>,
    /// The aggregate's last good version.
    pub version: Version,
    /// Offset of the event that could not be folded.
    pub offset: Offset,
    /// Leader epoch of that event, -1 if unknown: tells whether the log still holds it.
    pub leader_epoch: i32,
    /// Record time of that event (not a clock's: two workers must write equal bytes).
    pub since: Timestamp,
}

/// Body of an increment: the events of one aggregate over a range of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncrementBody {
    /// Contiguous versions, increasing offsets. Empty only where a quarantine mark is all there is to tell.
    pub events: Vec<StoredEvent>,
    /// Set if the aggregate was quarantined after the last of `events`.
    pub quarantine: Option<QuarantineMark>,
}

/// Body of a full snapshot: all that the fold needs to go on from here, and all that an answer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullBody {
    /// Version of the state.
    pub version: Version,
    /// Offset of the event of that version.
    pub offset: Offset,
    /// Leader epoch of that event.
    pub leader_epoch: i32,
    /// Maximum of the times of events 1 to `version`.
    pub effective_time: Timestamp,
    /// Effective time of version 1.
    pub first_time: Timestamp,
    /// The event of this version deleted the aggregate.
    pub deleted: bool,
    /// Link of the hash chain at this version.
    pub chain: Digest,
    /// Type of the last event.
    pub last_event_type: Box<str>,
    /// Id of the last event.
    pub last_event_id: Option<Box<str>>,
    /// Hashes of the ids of the last 1,000 events, oldest first; empty unless versions are counted and ids
    /// mapped.
    pub recent_event_ids: Vec<u64>,
    /// Set if the aggregate is quarantined at this version.
    pub quarantine: Option<QuarantineMark>,
    /// The state as JSON text with member order as folded; none for a deleted aggregate, and before the first
    /// event.
    pub state: Option<Box<[u8]>>,
}

/// Body of a segment: merged history, a state and the events after it, so that it answers for every version
/// from its base to its last event by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentBody {
    /// The state before the first of the events; none where that is the aggregate's first event.
    pub base: Option<FullBody>,
    /// 1 to [`SegmentBody::EVENTS_MAX`] events with contiguous versions and increasing offsets.
    pub events: Vec<StoredEvent>,
}

impl SegmentBody {
    /// Most events of a segment.
    pub const EVENTS_MAX: usize = 256;

    /// Version of its base, 0 where there is none.
    #[must_use]
    pub fn from(&self) -> Version {
        self.base.as_ref().map_or(Version(0), |base| base.version)
    }
}

/// How a snapshot is stored, in the order in which packs sort the records of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// D: the events since the previous snapshot.
    Increment,
    /// F: the state.
    Full,
    /// S: merged history, a state and the events after it.
    Segment,
}

/// Which record of which aggregate, in the order in which packs sort their entries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Whose record it is.
    pub key: AggregateKey,
    /// The lineage it belongs to.
    pub lineage: Lineage,
    /// The last version it covers.
    pub upto_version: Version,
    /// How it is stored.
    pub kind: RecordKind,
    /// The version it follows on; of a segment, that of its base; for a full record, the snapshot it was
    /// folded from.
    pub from_version: Version,
}

/// What the index and the planner know of a record without reading its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMeta {
    /// Which record.
    pub id: RecordId,
    /// Kafka partition of its events.
    pub partition: PartitionNo,
    /// Offset of the first event it covers (of a full record: of the first event since the record before it).
    pub first_offset: Offset,
    /// Offset of the last event it speaks of: that of `upto_version`, or of the event behind its quarantine
    /// mark.
    pub last_offset: Offset,
    /// Leader epoch of that event or mark, -1 if unknown.
    pub leader_epoch: i32,
    /// Effective time of `upto_version`.
    pub effective_time: Timestamp,
    /// Chain hash after `upto_version`, where it cannot be had from the body.
    pub chain: Option<Digest>,
    /// Digest of the canonical state; full records and segments only.
    pub state_digest: Option<Digest>,
    /// The aggregate is deleted at `upto_version`.
    pub is_deleted: bool,
    /// The aggregate is quarantined after `upto_version`.
    pub is_quarantined: bool,
    /// Offsets of the covered events, increasing, where targeted reads of the topic need them.
    pub trail: Option<Vec<Offset>>,
}
