//! Erasing an aggregate, and what became of it.
//!
//! *Order*: what holds records of it is looked up, then the erasure is kept with that list; from then on this
//!   process answers nothing about it, and others follow as soon as they look. Then its rows are deleted, each
//!   named by the ledger first. Packs without rows are garbage.
//! *If it fails*: whether it counts is unknown; to ask again is harmless, and deletes what came late.
//! *If cancelled*: the same. *What may leak*: what was kept in caches, until their time is over.

use super::{Asked, Freshness, Lookup, Refusal, Selector};
use crate::codec::pack::{Class, Locator, pack_name};
use crate::domain::erasure::Erasure;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, Offset, Version};
use crate::domain::ledger::{DeletedRow, in_force};
use crate::domain::row::SnapshotRow;
use crate::store::index::From;
use crate::store::ledger::Ledger;
use crate::store::{lineages, unavailable};
use std::collections::BTreeSet;
use std::sync::Arc;

const PAGE: usize = 256;
/// Rows that one object of the ledger names.
const DELETED_AT_ONCE: usize = 10_000;

/// An erasure, and what is left of what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The fact.
    pub erasure: Arc<Erasure>,
    /// Rows of the index that still tell of the aggregate.
    pub rows_left: u64,
    /// Of the packs that held records of it, those that are still there.
    pub packs_left: BTreeSet<Box<str>>,
}

impl Lookup {
    /// Erases an aggregate; of one that was erased already the rows go that were written late, and its erasure
    /// is answered.
    ///
    /// # Errors
    /// `UnknownAggregate`; `legal-hold`; a fault, and then nothing is certain.
    pub async fn erase(&self, id: &str, reason: Box<str>, request: Option<Box<str>>) -> Asked<Arc<Erasure>> {
        let (key, erasures) = (self.key(id), &self.reader().packs.erasures);
        // Another worker may have erased it a moment ago.
        erasures.refresh().await?;
        if let Some(erasure) = erasures.of(&key) {
            self.delete_rows(&self.rows_of(&key).await?).await?;
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
        let rows = self.rows_of(&key).await?;
        let mut packs: BTreeSet<Box<str>> = rows.iter().flat_map(packs_of).collect();
        for held in self.reader().view_of(&self.log_of(partition), &key).await?.checkpoints {
            packs.insert(pack_name(Class::Checkpoint, held.entry.pack).into());
        }
        let clock = &self.0.parts.clock;
        let at = LedgerId::mint(clock.now(), clock.random());
        let (lineage, partition) = (self.0.parts.lineage, Some(partition));
        let erasure = Erasure { key, at, reason, request, lineage, partition, version, offset, packs };
        let key = erasure.key.clone();
        erasures.keep(erasure).await?;
        self.delete_rows(&rows).await?;
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
        let rows_left = self.rows_of(&key).await?.len() as u64;
        let packs_left = erasures.left(&erasure.packs).await?;
        Ok(Some(Erased { erasure, rows_left, packs_left }))
    }

    /// Fails if an aggregate was erased.
    ///
    /// # Errors
    /// `Gone` with the code `erased`.
    pub fn check_erased(&self, id: &str) -> Asked<()> {
        Ok(self.reader().packs.erasures.check(&self.key(id))?)
    }

    async fn delete_rows(&self, rows: &[SnapshotRow]) -> Asked<()> {
        let reader = self.reader();
        let ledger = Ledger {
            index: Arc::clone(&reader.index),
            blobs: Arc::clone(&reader.packs.blobs),
            clock: Arc::clone(&self.0.parts.clock),
        };
        for some in rows.chunks(DELETED_AT_ONCE) {
            for named in ledger.delete(some.iter().map(DeletedRow::of).collect(), "erasure").await? {
                for row in &named.rows {
                    ledger.delete_row(row, named.at).await?;
                }
            }
        }
        Ok(())
    }

    /// The rows that tell of an aggregate, of all lineages.
    async fn rows_of(&self, key: &AggregateKey) -> Asked<Vec<SnapshotRow>> {
        let (parts, reader) = (&self.0.parts, self.reader());
        let history = lineages::history(&*reader.packs.blobs, &parts.topic).await?;
        let mut all: BTreeSet<Lineage> = history.iter().map(|known| known.lineage).collect();
        all.insert(parts.lineage);
        let mut rows = Vec::new();
        for lineage in all {
            // A row of version 0 tells of a quarantine before the first event.
            let mut from = From::AtOrBelow(Version(0));
            loop {
                let page = reader.index.snapshots(key, lineage, from, PAGE).await;
                let page = page.map_err(|error| unavailable("read snapshot rows", &error))?;
                from = match (from, page.last().map(|row| row.version)) {
                    (From::Above(_), None) => break,
                    (From::Above(_), Some(last)) => From::Above(last),
                    _ => From::Above(Version(0)),
                };
                rows.extend(page);
            }
        }
        Ok(rows)
    }
}

/// Names of the packs that a row may mean: one, where it can be read.
fn packs_of(row: &SnapshotRow) -> Vec<Box<str>> {
    let class = Locator::decode(&row.locator).map(|locator| locator.class);
    let classes = class.map_or(vec![Class::Full, Class::History], |class| vec![class]);
    classes.into_iter().map(|class| pack_name(class, row.pack).into()).collect()
}
