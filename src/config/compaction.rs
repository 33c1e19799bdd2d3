//! `compaction`: merging in the background.

use super::reader::Section;

/// `compaction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// `interval`; none while it is off.
    pub interval_ms: Option<u64>,
    /// `keepSnapshots`.
    pub keep_snapshots: usize,
}

pub(super) fn read(it: Section<'_>) -> Compaction {
    Compaction {
        interval_ms: Some(it.ms("interval")).filter(|_| it.flag("enabled")),
        keep_snapshots: usize::try_from(it.whole("keepSnapshots")).unwrap_or(usize::MAX),
    }
}
