//! Questions about a lineage that is not the active one: the same answers, folded as it was folded then, and
//! only as far as it reached.
//!
//! INVARIANT: lineages never mix. Each has a [`Lookup`] of its own, with its own rules; what is kept of
//! answers is kept by lineage.

use super::{Asked, Components, Lookup, Refusal};
use crate::domain::aggregate::Rules;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::event::Decode;
use crate::domain::ids::{Digest, Lineage, Offset, PartitionNo, Timestamp};
use crate::reconstruct::{Ended, LogOfOld, NoOwners, Reconstructor};
pub use crate::store::lineages::Standing;
use futures_util::future::{BoxFuture, ready};
use std::sync::Arc;

/// A lineage, as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct LineageView {
    /// Its number.
    pub lineage: Lineage,
    /// Kafka's id of the topic.
    pub topic_id: u128,
    /// What its records were folded with.
    pub fingerprint: Digest,
    /// What it is now.
    pub standing: Standing,
    /// When it was activated last, by the store's clock.
    pub activated_at: Option<Timestamp>,
    /// Whether questions about it can be answered.
    pub readable: bool,
    /// Where it ends, by partition.
    pub low_watermarks: Vec<(PartitionNo, Offset)>,
}

/// The lineages of the streams of a process.
pub trait Lineages: Send + Sync {
    /// All that a stream has and had, by number.
    fn all<'a>(&'a self, kind: &'a str) -> BoxFuture<'a, Asked<Vec<LineageView>>>;
    /// Questions about one of them: refused where there is none, where it was dropped, or where nobody knows
    /// how it folded.
    fn lookup<'a>(&'a self, kind: &'a str, lineage: Lineage) -> BoxFuture<'a, Asked<Arc<Lookup>>>;
}

/// For whoever has the active lineage alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnlyActive;

impl Lineages for OnlyActive {
    fn all<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Asked<Vec<LineageView>>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn lookup<'a>(&'a self, _: &'a str, lineage: Lineage) -> BoxFuture<'a, Asked<Arc<Lookup>>> {
        let detail = format!("lineage {lineage} is not the active one");
        Box::pin(ready(Err(Refusal::Failed(Error::new(ErrorKind::Invalid, "bad-selector", detail)))))
    }
}

/// What an old lineage was folded with, and from.
#[derive(Clone)]
pub struct OldLineage {
    /// Its number.
    pub lineage: Lineage,
    /// Kafka's id of the topic of then.
    pub topic_id: u128,
    /// Partitions of the topic of then.
    pub partitions: u32,
    /// The reducer of then.
    pub rules: Rules,
    /// The mapping of then.
    pub decoder: Arc<dyn Decode>,
}

impl Lookup {
    /// The lineage that it answers for.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        self.0.parts.lineage
    }

    /// Questions about an old lineage of the same stream, within the same bounds. What this one keeps of
    /// answers, and has heard of erasures, it keeps and hears as well.
    #[must_use]
    pub fn of_old(&self, old: OldLineage) -> Self {
        let (parts, reader) = (&self.0.parts, self.reader());
        let log = match old.topic_id == reader.topic_id {
            true => LogOfOld::Same(Arc::clone(&reader.log)),
            false => LogOfOld::Gone { partitions: old.partitions },
        };
        let ended = Ended {
            index: Arc::clone(&reader.index),
            log,
            topic: Arc::clone(&parts.topic),
            topic_id: old.topic_id,
            lineage: old.lineage,
        };
        let reader = Reconstructor {
            log: Arc::new(ended),
            decoder: old.decoder,
            rules: old.rules,
            topic_id: old.topic_id,
            health: Arc::default(),
            ..reader.clone()
        };
        let owners = Arc::new(NoOwners);
        Self::new(Components { reader, owners, lineage: old.lineage, ..parts.clone() })
    }
}
