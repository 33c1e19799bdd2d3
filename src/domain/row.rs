//! Rows of the index, as plain facts. Rows are add-only: a row never changes its meaning, two rows that
//! differ only in their pack are copies of one fact. Everything a row says about *where* its bytes are is one
//! opaque locator. What may change later (a label, a pin, a hold) is no fact about a snapshot and has its own
//! place, the ledger.

use super::ids::{AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
pub use super::record::RecordKind;
use std::sync::Arc;

/// Why a snapshot was taken; stored with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// `eventThreshold`.
    Events,
    /// `timeThreshold`.
    Age,
    /// `sizeThreshold`.
    Bytes,
    /// Asked for by a caller.
    Manual,
    /// Asked for by a schedule.
    Schedule,
    /// Memory pressure.
    Memory,
    /// The low watermark or the live checkpoints lagged too far behind.
    Debt,
    /// The predicted time to reconstruct exceeded its target.
    Adaptive,
}

/// Which log a fact is about: rows of different lineages never mix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: PartitionNo,
    /// Lineage of (topic id, fingerprint).
    pub lineage: Lineage,
}

/// One snapshot (`snapshots`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Whose.
    pub key: AggregateKey,
    /// Of which lineage.
    pub lineage: Lineage,
    /// Version of the state, or of the last event of an increment or a segment.
    pub version: Version,
    /// The pack that holds it; part of the row's key.
    pub pack: PackId,
    /// How it is stored.
    pub kind: RecordKind,
    /// An increment holds the events of versions `from_version + 1 ..= version`, a segment the state of
    /// `from_version` as well; for a full snapshot, the snapshot it was folded from (0 for none).
    pub from_version: Version,
    /// Kafka partition of its events.
    pub partition: PartitionNo,
    /// Offset of the first event it covers.
    pub first_offset: Offset,
    /// Offset of the event of `version`; where the aggregate is quarantined, of the event behind the mark.
    pub last_offset: Offset,
    /// Leader epoch of the event at `last_offset`, -1 if unknown.
    pub leader_epoch: i32,
    /// Effective time of `version`.
    pub effective_time: Timestamp,
    /// When it was taken, by its writer's clock.
    pub created_at: Timestamp,
    /// Milliseconds from the hand-over to the store until its pack was acknowledged.
    pub creation_ms: u32,
    /// Why it was taken.
    pub trigger: Trigger,
    /// Type of the event of `version`; empty before the first event.
    pub event_type: Box<str>,
    /// Link of the hash chain at `version`.
    pub chain: Digest,
    /// Bytes of the record's body before compression.
    pub raw_bytes: u64,
    /// Bytes in the pack.
    pub stored_bytes: u64,
    /// SHA-256 of the canonical state at `version`; full snapshots and segments only.
    pub state_digest: Option<Digest>,
    /// Bytes of the canonical state; there whenever `state_digest` is.
    pub state_bytes: Option<u64>,
    /// The state is deleted at this version.
    pub deleted: bool,
    /// The aggregate is quarantined at this version.
    pub quarantined: bool,
    /// Where the bytes are (`codec::pack::Locator`).
    pub locator: Vec<u8>,
}

/// One live checkpoint of one partition (`checkpoints`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Which log.
    pub key: PartitionKey,
    /// The pack; its minting time orders a partition's checkpoints.
    pub pack: PackId,
    /// Lowest offset among its events of this partition.
    pub first_offset: Offset,
    /// One past the highest offset among its events of this partition.
    pub end_offset: Offset,
    /// Entries of this partition.
    pub entries: u32,
    /// Bytes of the whole object, so that its footer is read without asking for its length.
    pub object_bytes: u64,
}

/// The low watermark of one partition (`partitions`), monotone: the largest wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkRow {
    /// Which log.
    pub key: PartitionKey,
    /// Kafka's id of the topic: a re-created topic has another one.
    pub topic_id: u128,
    /// Leader epoch under which LW was reached, -1 if unknown.
    pub leader_epoch: i32,
    /// First offset that neither a snapshot nor a checkpoint covers.
    pub low_watermark: Offset,
}

impl WatermarkRow {
    /// Kafka's id of no topic. A low watermark with it says nothing about how far any log was covered, only
    /// that it has rows: a rebuild of the index writes it where nothing tells more (docs/adr/0027).
    pub const NO_TOPIC: u128 = 0;
}

/// Who folds a partition, by its own account (`partitions`): a hint for whom to ask, the last writer wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRow {
    /// Which log.
    pub key: PartitionKey,
    /// URL under which other workers reach it.
    pub address: Arc<str>,
    /// Next offset to fold when this was written.
    pub position: Offset,
    /// When it was written, by its writer's clock.
    pub heartbeat: Timestamp,
}

/// Something noted on a snapshot that is no fact about it (`notes`): what is given replaces what was noted
/// before. Each is kept; it is also the object of its name in the ledger, which is written first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteRow {
    /// On a snapshot of which aggregate.
    pub key: AggregateKey,
    /// Of which lineage.
    pub lineage: Lineage,
    /// Of which version.
    pub version: Version,
    /// Its name; of several notes the later counts.
    pub at: LedgerId,
    /// What people call the snapshot; empty takes the name away.
    pub label: Option<Box<str>>,
    /// Whether it must be kept.
    pub pinned: Option<bool>,
    /// Why it was taken.
    pub reason: Option<Box<str>>,
}

/// What is noted on one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What people call it.
    pub label: Option<Box<str>>,
    /// It must be kept.
    pub pinned: bool,
    /// Why it was taken.
    pub reason: Option<Box<str>>,
}

impl Notes {
    /// Takes one more note; notes come in the order of their names.
    pub fn take(&mut self, row: &NoteRow) {
        if let Some(label) = &row.label {
            self.label = Some(label.clone()).filter(|label| !label.is_empty());
        }
        if let Some(pinned) = row.pinned {
            self.pinned = pinned;
        }
        if let Some(reason) = &row.reason {
            self.reason = Some(reason.clone()).filter(|reason| !reason.is_empty());
        }
    }
}

/// An event that could not be folded, as it is kept (`dead_letters`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which log.
    pub key: PartitionKey,
    /// Its offset: with `key` its identity, so that recording it twice is harmless.
    pub offset: Offset,
    /// Its aggregate, where that much could be read.
    pub aggregate: Option<AggregateKey>,
    /// What was wrong, from the closed list of codes.
    pub code: Box<str>,
    /// A sentence for people, without the payload.
    pub detail: String,
    /// The record itself.
    pub record: super::record::RawRecord,
}

/// Bytes of a record that a row may hold: CQL servers refuse 16 MiB and more.
const LETTER_BYTES_MAX: usize = 8 << 20;
/// What is kept of the key and of the value of a larger one.
const LETTER_START_BYTES: usize = 64 << 10;
/// How the detail of a larger one ends.
const CUT: &str = "only where its key and its value begin is kept here";

impl DeadLetter {
    /// With as much of its record as a row may hold. The whole of a larger one is in the log, at the offset.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        // A header takes a few bytes besides those of its name and its value, and there may be millions.
        let taken = |record: &super::record::RawRecord| record.bytes() + 8 * record.headers.len();
        let bytes = self.record.bytes();
        if taken(&self.record) <= LETTER_BYTES_MAX {
            return self;
        }
        for part in [&mut self.record.key, &mut self.record.value] {
            if let Some(start) = part.as_deref().and_then(|part| part.get(..LETTER_START_BYTES)) {
                *part = Some(start.into());
            }
        }
        if taken(&self.record) > LETTER_BYTES_MAX {
            self.record.headers.clear();
        }
        self.detail = format!("{}; the record has {bytes} bytes, {CUT}", self.detail);
        self
    }

    /// The same without what its record held: it is told that there was one, and where.
    #[must_use]
    pub fn blank(self) -> Self {
        let super::record::RawRecord { offset, leader_epoch, .. } = self.record;
        let record = super::record::RawRecord { offset, leader_epoch, ..super::record::RawRecord::default() };
        Self { record, ..self }
    }

    /// Whether its record holds nothing: then nobody's data is in it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let record = &self.record;
        record.key.is_none() && record.value.is_none() && record.headers.is_empty()
    }

    /// Whether [`Self::bounded`] left out a part of its record.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.detail.ends_with(CUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::{Bytes, RawRecord};

    fn letter(value: usize, headers: usize) -> DeadLetter {
        let bytes = |len: usize| -> Bytes { vec![b'x'; len].into() };
        let record = RawRecord {
            key: Some(bytes(100)),
            value: Some(bytes(value)),
            headers: vec![("h".into(), Some(bytes(headers)))],
            ..RawRecord::default()
        };
        let key = PartitionKey { topic: "t".into(), partition: PartitionNo(0), lineage: Lineage(1) };
        let detail = "too long".to_owned();
        DeadLetter { key, offset: Offset(3), aggregate: None, code: "bad-json".into(), detail, record }
    }

    #[test]
    fn a_letter_keeps_what_a_row_may_hold_and_says_what_it_leaves_out() {
        let small = letter(LETTER_BYTES_MAX - 119, 10);
        assert_eq!(small.clone().bounded(), small);
        let large = letter(100_000_000, 10).bounded();
        assert_eq!(large.record.value.as_ref().map(|value| value.len()), Some(LETTER_START_BYTES));
        assert_eq!(
            (large.record.key.as_ref().map(|key| key.len()), large.record.headers.len()),
            (Some(100), 1)
        );
        assert_eq!(large.clone().bounded(), large, "once is enough");
        assert!(large.is_cut() && !small.is_cut());
        assert!(large.detail.starts_with("too long; the record has 100000111 bytes"), "{}", large.detail);
        assert!(letter(5, LETTER_BYTES_MAX).bounded().record.bytes() < 1_000);
    }
}
