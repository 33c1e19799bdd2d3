//! What may be asked and what is answered: plain types, without a word about where answers come from.

use crate::codec::compress::Algorithm;
use crate::domain::aggregate::Aggregate;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::event::Decoded;
use crate::domain::ids::{Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::row::{Notes, SnapshotRow};
use crate::domain::value::Value;
use crate::reconstruct::{Provenance, Step};
use std::ops::Range;
use std::sync::Arc;

/// Which moment of an aggregate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The newest version.
    Head,
    /// This version.
    Version(Version),
    /// The last version with an effective time at or before this.
    Time(Timestamp),
    /// The last version whose event lies at or before this offset of the aggregate's partition.
    Offset(PartitionNo, Offset),
}

/// What an answer must at least know of, and how long to wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The head must be this version or later.
    pub min_version: Option<Version>,
    /// Everything up to and with this offset must be folded.
    pub min_offset: Option<(PartitionNo, Offset)>,
    /// Milliseconds until the question is given up.
    pub wait_ms: u64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No partition knows it.
    UnknownAggregate,
    /// The version asked for does not exist yet.
    VersionBeyondHead {
        /// The newest version.
        head: Version,
    },
    /// The aggregate did not exist yet at the time or offset asked for.
    BeforeFirstEvent {
        /// Effective time of version 1.
        first_time: Timestamp,
    },
    /// No snapshot is stored at that version, or none at all.
    NoSnapshot,
    /// What the version was folded from is gone.
    HistoryGone {
        /// The earliest later version that can be had.
        earliest: Option<Version>,
    },
    /// What the question demands has not been folded yet.
    NotCaughtUp {
        /// The newest version known.
        head: Option<Version>,
        /// The next offset to fold.
        position: Option<(PartitionNo, Offset)>,
    },
    /// The offset belongs to another partition.
    WrongPartition {
        /// Where the aggregate lives.
        partition: PartitionNo,
    },
    /// More events would have to be read than one question may.
    TooMuchWork {
        /// How many, at least.
        events: u64,
        /// How many may be.
        max: u64,
    },
    /// A fault.
    Failed(Error),
}

/// What a question gets.
pub type Asked<T> = Result<T, Refusal>;

/// Which source an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The owner's memory.
    Memory,
    /// A state that was reconstructed for an earlier question.
    Cache,
    /// Snapshots and events, from rest and from the log.
    Rest,
}

/// An aggregate at one version.
#[derive(Clone, Debug)]
pub struct Answer {
    /// It. Version 0 only for an aggregate that was quarantined before its first version.
    pub aggregate: Aggregate,
    /// The newest version; none where damaged records may hold a newer one than can be read.
    pub head_version: Option<Version>,
    /// Where it lives.
    pub partition: PartitionNo,
    /// Under which lineage it was folded.
    pub lineage: Lineage,
    /// Where the answer came from.
    pub source: Source,
    /// What it was folded from; nothing for answers from memory.
    pub provenance: Provenance,
    /// What was read for it, in order.
    pub steps: Vec<Step>,
}

/// What keeps the head of an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// A snapshot.
    Snapshot,
    /// A checkpoint.
    Checkpoint,
    /// Only the log.
    Log,
}

/// The head and what is stored of the aggregate.
#[derive(Clone, Debug)]
pub struct HeadView {
    /// The head.
    pub answer: Answer,
    /// Snapshots stored; copies count once.
    pub snapshots: u64,
    /// Version of the newest of them.
    pub latest_snapshot: Option<Version>,
    /// What keeps the head.
    pub durable: Durable,
}

/// One event of an aggregate.
#[derive(Clone, Debug)]
pub struct EventView {
    /// The version it took.
    pub version: Version,
    /// It was poison and left the state as it was.
    pub skipped: bool,
    /// The record, its digest, and the event in it.
    pub event: Decoded,
    /// Effective time of the version.
    pub effective_time: Timestamp,
    /// Its partition.
    pub partition: PartitionNo,
}

/// Which snapshots of an aggregate, in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// From this version on.
    pub from_version: Option<Version>,
    /// Up to and with this version.
    pub to_version: Option<Version>,
    /// From this effective time on.
    pub from_time: Option<Timestamp>,
    /// Up to and with this effective time.
    pub to_time: Option<Timestamp>,
    /// Only what comes after this version in the order asked for.
    pub after: Option<Version>,
    /// The newest first.
    pub descending: bool,
    /// At most so many.
    pub limit: usize,
}

/// One stored snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotMeta {
    /// Its row: a full one where there is one, the newest copy of several.
    pub row: SnapshotRow,
    /// Its public id.
    pub id: String,
    /// The snapshot it was folded from, 0 for none.
    pub created_from: Version,
    /// What is noted on it.
    pub notes: Notes,
    /// Its pack is in the archive.
    pub archived: bool,
}

/// One snapshot of an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Latest,
    /// The one of this version.
    Version(Version),
}

/// The stored bytes of one snapshot's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// The frame as it is stored; a record of a block shares it with others.
    pub frame: Vec<u8>,
    /// How it is compressed.
    pub algorithm: Algorithm,
    /// The dictionary it needs.
    pub dictionary: Option<Digest>,
    /// Bytes of the frame before compression.
    pub raw_len: u64,
    /// The pack it is in.
    pub pack: PackId,
    /// The name of the pack's object.
    pub object: String,
    /// Where in the object.
    pub range: Range<u64>,
    /// Where in the uncompressed frame the record is.
    pub body: Range<u64>,
}

/// One aggregate of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// Its id.
    pub id: Arc<str>,
    /// Its newest version that is in its owner's memory or at rest.
    pub version: Version,
    /// Effective time of that version.
    pub timestamp: Timestamp,
    /// It is deleted at that version; none where only events would tell that cannot be read.
    pub deleted: Option<bool>,
}

/// Two moments of an aggregate and their states; a deleted one counts as null.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The first.
    pub from: Answer,
    /// The second.
    pub to: Answer,
    /// The state at the first.
    pub before: Value,
    /// The state at the second.
    pub after: Value,
}

/// How thoroughly history is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyMode {
    /// Every stored record against its checksums, the chain and the fold.
    Checksum,
    /// The same, and every byte of the packs that hold them, whether or not an answer needs it.
    Pack,
    /// The same as `Checksum`, and against the topic as far back as it reaches.
    Replay,
}

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Nothing is wrong.
    pub ok: bool,
    /// Records and events that were checked.
    pub checked: u64,
    /// What is wrong, by version.
    pub problems: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing, from the closed list of codes.
    pub code: &'static str,
    /// At which version.
    pub version: Version,
    /// A sentence for people, without the payload.
    pub detail: String,
    /// Reads answer for this version all the same, from other records or the log.
    pub healed: bool,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match (error.kind, error.code) {
            (ErrorKind::Unavailable, "not-caught-up") => Self::NotCaughtUp { head: None, position: None },
            // An erasure is no gap in what is kept: whoever asks must be told which of the two it is.
            (ErrorKind::Gone, code) if code != "erased" => Self::HistoryGone { earliest: None },
            _ => Self::Failed(error),
        }
    }
}
