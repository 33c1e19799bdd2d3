//! What was read for an answer: its plan as it was carried out, for whoever wants to know what it cost.

use crate::domain::aggregate::Aggregate;
use crate::domain::ids::{Offset, PackId, Version};
use crate::domain::row::{RecordKind, SnapshotRow};

/// What kind of read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A state that was kept from an earlier answer.
    Cache,
    /// A full record.
    Snapshot,
    /// An increment's record.
    Increment,
    /// A segment: its state, its events, or both in one read.
    Segment,
    /// An entry of a live checkpoint.
    Checkpoint,
    /// A stretch of the partition's log.
    Log,
    /// Single events of the log, by the trail of the snapshot after them.
    Trail,
}

/// One read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What kind.
    pub kind: StepKind,
    /// Version of the aggregate before it.
    pub from: Version,
    /// Version of the aggregate after it.
    pub upto: Version,
    /// The pack that was read; none for cache and log.
    pub pack: Option<PackId>,
    /// Stored bytes of the record; none where only its reading would tell.
    pub bytes: Option<u64>,
    /// Offsets that were read: the first, and one past the last.
    pub offsets: Option<(Offset, Offset)>,
    /// Records that were read, whosever events they hold.
    pub records: u64,
    /// It could not be read, or did not join, and gave way to others.
    pub failed: bool,
}

impl Step {
    /// A read that has not moved the aggregate yet.
    pub(super) fn new(kind: StepKind, at: Version) -> Self {
        Self { kind, from: at, upto: at, pack: None, bytes: None, offsets: None, records: 0, failed: false }
    }

    /// The read of a base.
    pub(super) fn of_base(row: &SnapshotRow, failed: bool) -> Self {
        let (kind, version) = match row.kind {
            RecordKind::Segment => (StepKind::Segment, row.from_version),
            RecordKind::Full | RecordKind::Increment => (StepKind::Snapshot, row.version),
        };
        let upto = if failed { Version(0) } else { version };
        let bytes = Some(row.stored_bytes);
        Self { upto, pack: Some(row.pack), bytes, records: 1, failed, ..Self::new(kind, Version(0)) }
    }

    /// The use of a kept state.
    #[must_use]
    pub fn cached(kept: &Aggregate) -> Self {
        Self { upto: kept.version, ..Self::new(StepKind::Cache, Version(0)) }
    }
}
