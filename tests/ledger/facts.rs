//! The plain types that go into the ledger and come out of it.

use super::Map;

/// How versions come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// `map.version` is set; `base` is `versionBase`.
    Given {
        base: i64,
    },
    Counted,
}

/// `onPoison`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnPoison {
    Skip,
    Quarantine,
    Halt,
}

/// One stream, as its user describes it.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The aggregate type.
    pub(crate) kind: String,
    pub(crate) map: Map,
    pub(crate) versions: Versions,
    pub(crate) reducer_yaml: String,
    pub(crate) on_poison: OnPoison,
    pub(crate) max_event_bytes: usize,
    pub(crate) max_state_bytes: usize,
    pub(crate) max_depth: usize,
}

/// One Kafka record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) record_time_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Applied(u64),
    /// Poison that took this version.
    Skipped(u64),
    Duplicate,
    /// A version that is there with other bytes; the first stays.
    Conflict,
    /// The aggregate stops here; the record is a dead letter.
    Quarantined {
        code: &'static str,
    },
    DeadLetter {
        code: &'static str,
    },
    /// The partition stands before this record or an earlier one.
    Halt,
}

/// One version of an aggregate.
#[derive(Clone, Debug)]
pub(crate) struct VersionFact {
    pub(crate) version: u64,
    pub(crate) record: Record,
    /// The event's own time, before the running maximum.
    pub(crate) time_ms: i64,
    pub(crate) effective_time_ms: i64,
    pub(crate) event_type: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) skipped: bool,
    pub(crate) deleted: bool,
    pub(crate) event_digest: [u8; 32],
    pub(crate) chain: [u8; 32],
    pub(super) state: Kept,
}

/// The text of a state; long texts compressed, because some histories are gigabytes.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Text(String),
    Packed(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quarantine {
    pub(crate) code: &'static str,
    /// The last good version; 0 if there is none.
    pub(crate) version: u64,
    /// Of the record that could not be folded.
    pub(crate) offset: i64,
    pub(crate) since_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) aggregate_id: Option<String>,
    pub(crate) code: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Selector {
    Head,
    Version(u64),
    At(i64),
    Offset(i32, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) version: u64,
    pub(crate) head_version: u64,
    pub(crate) deleted: bool,
    pub(crate) effective_time_ms: i64,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Members and numbers as folded, RFC 8785 escapes, no white space; `null` if deleted.
    pub(crate) state_text: String,
    /// Lower-case hex.
    pub(crate) state_digest: String,
    pub(crate) chain: String,
    pub(crate) last_event_type: Option<String>,
    pub(crate) last_event_id: Option<String>,
    pub(crate) skipped: bool,
    pub(crate) quarantined: Option<Quarantine>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    State(Box<Answer>),
    Unknown,
    /// Known, but quarantined before its first version.
    NoGoodVersion(Quarantine),
    /// Version 0.
    BadSelector,
    BeyondHead {
        head: u64,
    },
    BeforeFirst {
        first_time_ms: i64,
    },
    WrongPartition,
}

impl VersionFact {
    pub(crate) fn state_text(&self) -> String {
        match &self.state {
            Kept::Text(text) => text.clone(),
            Kept::Packed(bytes) => {
                let text = zstd::decode_all(&bytes[..]).expect("the ledger packed it");
                String::from_utf8(text).expect("the ledger packed text")
            }
        }
    }
}

impl Kept {
    pub(super) fn new(text: String) -> Self {
        if text.len() < 8192 {
            return Self::Text(text);
        }
        Self::Packed(zstd::encode_all(text.as_bytes(), 1).expect("memory takes every byte"))
    }
}
