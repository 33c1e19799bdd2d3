//! Erasures: that an aggregate was erased is a fact that outlives everything that was stored of it.

use super::ids::{AggregateKey, LedgerId, Lineage, Offset, PartitionNo, Version};
use std::collections::BTreeSet;
use std::sync::Arc;

/// That an aggregate was erased. Its later events are not folded either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Whose.
    pub key: AggregateKey,
    /// Its name, which tells when.
    pub at: LedgerId,
    /// Why.
    pub reason: Box<str>,
    /// What whoever asked calls the request.
    pub request: Option<Box<str>>,
    /// The lineage that was active.
    pub lineage: Lineage,
    /// Where its events are in the topic, which is not ours to erase.
    pub partition: Option<PartitionNo>,
    /// Its head then; 0 where that could not be told.
    pub version: Version,
    /// Offset of the event of that version; -1 where that could not be told.
    pub offset: Offset,
    /// Names of the objects that held records of it then.
    pub packs: BTreeSet<Box<str>>,
}

/// Ids of one type that are erased: shared, never changed.
pub type ErasedIds = Arc<BTreeSet<Arc<str>>>;
