//! Erasures: that an aggregate was erased is a fact that outlives everything that was stored of it.

use super::ids::{AggregateKey, Digest, LedgerId, Lineage, Offset, PartitionNo, Version};
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

/// What the purge found, or did, about one erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purged {
    /// A pack was written anew without its records.
    Rewritten {
        /// Name of the pack that held records of it.
        from: Box<str>,
        /// Name of the pack that holds those of others now.
        to: Box<str>,
        /// How many those are.
        records: u64,
    },
    /// No row, no dead letter and no object is left that tells of it.
    Complete {
        /// Dictionaries that were trained without privacy, and may hold strings of it.
        dictionaries: Vec<Digest>,
    },
    /// A pack with records of it was found although none had been left.
    Found {
        /// Its name.
        pack: Box<str>,
    },
}
