//! Erasing an aggregate, and what became of it.
//!
//! *Order*: what holds records of it is looked up, then the erasure is kept with that list; from then on this
//!   process answers nothing about it, and others follow as soon as they look. Then its rows are deleted,
//!   each named by the ledger first, and its dead letters lose their records. Packs without rows are garbage.
//! *If it fails*: whether it counts is unknown; to ask again is harmless, and deletes what came late.
//! *If cancelled*: the same. *What may leak*: what was kept in caches, until their time is over.

use super::{Asked, Freshness, Lookup, Refusal, Selector};
use crate::codec::pack::{Class, Locator, pack_name};
use crate::domain::erasure::{ErasedIds, Erasure, Purged};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, Digest, LedgerId, Offset, PartitionNo, Timestamp, Version};
use crate::domain::ledger::in_force;
use crate::domain::row::{PartitionKey, SnapshotRow};
use crate::store::ledger::Ledger;
use crate::store::{erased, purges, unavailable};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An erasure, and what is left of what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The fact.
    pub erasure: Arc<Erasure>,
    /// Rows of the index that still tell of the aggregate.
    pub rows_left: u64,
    /// Dead letters of it whose records are still there.
    pub letters_left: u64,
    /// Of the packs that held records of it, those that are still there.
    pub packs_left: BTreeSet<Box<str>>,
    /// What the purge did about it, and found, by when.
    pub purged: Vec<(LedgerId, Purged)>,
}

impl Erased {
    /// Since when no row, no dead letter and no object has told of it, if that is so.
    #[must_use]
    pub fn complete_since(&self) -> Option<Timestamp> {
        let tells = |(_, fact): &&(LedgerId, Purged)| !matches!(fact, Purged::Rewritten { .. });
        let last = self.purged.iter().rfind(tells)?;
        let is_left = self.rows_left > 0 || self.letters_left > 0 || !self.packs_left.is_empty();
        let is_complete = matches!(last.1, Purged::Complete { .. }) && !is_left;
        is_complete.then(|| last.0.minted_at())
    }

    /// Dictionaries that may hold strings of it, as far as it is known: once it is complete.
    #[must_use]
    pub fn dictionaries(&self) -> &[Digest] {
        let told = self.purged.iter().rev().find_map(|(_, fact)| match fact {
            Purged::Complete { dictionaries } => Some(&**dictionaries),
            Purged::Rewritten { .. } | Purged::Found { .. } => None,
        });
        told.unwrap_or_default()
    }
}

impl Lookup {
    /// Erases an aggregate; of one that was erased already the rows go that were written late, and its
    /// erasure is answered.
    ///
    /// # Errors
    /// `UnknownAggregate`; `legal-hold`; a fault, and then nothing is certain.
    pub async fn erase(&self, id: &str, reason: Box<str>, request: Option<Box<str>>) -> Asked<Arc<Erasure>> {
        let (key, erasures) = (self.key(id), &self.reader().packs.erasures);
        // Another worker may have erased it a moment ago.
        erasures.refresh().await?;
        if let Some(erasure) = erasures.of(&key) {
            self.take_away(&key, &self.logs().await?).await?;
            return Ok(erasure);
        }
        let holds = self.reader().index.holds(&key).await;
        let holds = holds.map_err(|error| unavailable("read the holds of an aggregate", &error))?;
        if in_force(&holds).is_some() {
            let detail = "the aggregate is held, and what is held is not erased";
            return Err(Error::new(ErrorKind::Conflict, "legal-hold", detail).into());
        }
        let Some(partition) = self.locate(&key).await? else { return Err(Refusal::UnknownAggregate) };
        // One that cannot be read any more can be erased all the same.
        let head = self.state(id, Selector::Head, Freshness::default()).await.ok();
        let (version, offset) =
            head.map_or((Version(0), Offset(-1)), |head| (head.aggregate.version, head.aggregate.offset));
        let logs = self.logs().await?;
        let packs = self.packs_with(&key, &logs).await?;
        let clock = &self.0.parts.clock;
        let at = LedgerId::mint(clock.now(), clock.random());
        let (lineage, partition) = (self.0.parts.lineage, Some(partition));
        let erasure = Erasure { key, at, reason, request, lineage, partition, version, offset, packs };
        let key = erasure.key.clone();
        erasures.keep(erasure).await?;
        self.take_away(&key, &logs).await?;
        erasures.of(&key).ok_or(Refusal::UnknownAggregate)
    }

    /// The erasure of an aggregate and what is left of it; none if it was not erased.
    ///
    /// # Errors
    /// A fault.
    pub async fn erased(&self, id: &str) -> Asked<Option<Erased>> {
        let (key, erasures) = (self.key(id), &self.reader().packs.erasures);
        erasures.refresh().await?;
        let Some(erasure) = erasures.of(&key) else { return Ok(None) };
        let (logs, index) = (self.logs().await?, &*self.reader().index);
        let rows_left = erased::rows_of(index, &logs, &key).await?.len() as u64;
        let letters_left = erased::letters_of(index, &logs, |of| *of == key).await?.len() as u64;
        let packs_left = erasures.left(&erasure.packs).await?;
        let purged = purges::of(&*self.reader().packs.blobs, erasure.at).await?;
        Ok(Some(Erased { erasure, rows_left, letters_left, packs_left, purged }))
    }

    /// Fails if an aggregate was erased.
    ///
    /// # Errors
    /// `Gone` with the code `erased`.
    pub fn check_erased(&self, id: &str) -> Asked<()> {
        Ok(self.reader().packs.erasures.check(&self.key(id))?)
    }

    /// The ids that are erased, as far as this process has heard.
    #[must_use]
    pub fn erased_ids(&self) -> ErasedIds {
        self.reader().packs.erasures.ids(&self.reader().rules.kind)
    }

    /// Takes away what the index tells of an aggregate that is on the list.
    async fn take_away(&self, key: &AggregateKey, logs: &BTreeSet<PartitionKey>) -> Asked<()> {
        let reader = self.reader();
        let ledger = Ledger {
            index: Arc::clone(&reader.index),
            blobs: Arc::clone(&reader.packs.blobs),
            clock: Arc::clone(&self.0.parts.clock),
        };
        erased::delete_rows(&ledger, &erased::rows_of(&*reader.index, logs, key).await?).await?;
        let letters = erased::letters_of(&*reader.index, logs, |of| of == key).await?;
        Ok(erased::blank(&*reader.index, letters).await?)
    }

    /// The logs in which there may be something of an aggregate: of all lineages.
    async fn logs(&self) -> Asked<BTreeSet<PartitionKey>> {
        let mut logs = erased::logs_of(&*self.reader().packs.blobs, &self.0.parts.topic).await?;
        let count = i32::try_from(self.partition_count().await?).unwrap_or(i32::MAX);
        logs.extend((0..count).map(|number| self.log_of(PartitionNo(number))));
        Ok(logs)
    }

    /// The packs that are known to hold records of it: rows or live checkpoints name them.
    async fn packs_with(
        &self,
        key: &AggregateKey,
        logs: &BTreeSet<PartitionKey>,
    ) -> Asked<BTreeSet<Box<str>>> {
        let rows = erased::rows_of(&*self.reader().index, logs, key).await?;
        let mut packs: BTreeSet<Box<str>> = rows.iter().flat_map(packs_of).collect();
        for log in logs {
            for held in self.reader().view_of(log, key).await?.checkpoints {
                packs.insert(pack_name(Class::Checkpoint, held.entry.pack).into());
            }
        }
        Ok(packs)
    }
}

/// Names of the packs that a row may mean: one, where it can be read.
fn packs_of(row: &SnapshotRow) -> Vec<Box<str>> {
    let class = Locator::decode(&row.locator).map(|locator| locator.class);
    let classes = class.map_or(vec![Class::Full, Class::History], |class| vec![class]);
    classes.into_iter().map(|class| pack_name(class, row.pack).into()).collect()
}
