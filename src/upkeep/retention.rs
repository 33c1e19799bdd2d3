//! Deletes snapshots of one stream: as its `retention` says, or as somebody asks. What may go is planned in
//! `domain::retention`; this file reads what the plan needs, proves what it relies on, and acts.
//!
//! *Order*: the rows that what is promised will rest on are written again until acknowledged (a row that was
//!   merely read may be a dying owner's rumour, which is gone tomorrow), their records are read and found
//!   sound; then hold, pins and rows are read once more, and where a row is gone that is relied on nothing
//!   happens: somebody else deletes as well. Then the fact goes into the ledger, then the rows. Packs stay:
//!   garbage collection takes them once nothing names them.
//! *If it fails*: before the ledger nothing has happened; after it some rows are gone and the others go when
//!   it is asked again. Any part of a plan is a plan, so whatever is left keeps every promise.
//! *If cancelled*: the same.
//! *What may leak*: a fact in the ledger whose rows are still there: an index that is rebuilt leaves them
//! out. Who owns the partition does not matter: the newest rows, from which an owner goes on, are never
//! deleted, and a deletion is later than any repetition of the row's write (rule 4 adopts none back to life).

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Lineage, PartitionNo, Timestamp, Version};
use crate::domain::ledger::{DeletedRow, Deletion, HoldRow, in_force};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::retention::{Plan, Policy, Promise, Wanted, plan};
use crate::domain::row::{Notes, RecordKind, SnapshotRow};
use crate::store::index::{From, Index, RowWalk};
use crate::store::ledger::Ledger;
use crate::store::packs::Packs;
use crate::store::unavailable;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows fetched in one go.
const PAGE: usize = 256;
/// Records that are proved, and rows that are deleted, at the same time.
const AT_ONCE: usize = 16;

/// Deletes snapshots of one stream.
#[derive(Clone)]
pub struct Retention {
    /// Records, to prove what is relied on.
    pub packs: Arc<Packs>,
    /// The ledger, and with it rows, objects and time.
    pub ledger: Arc<Ledger>,
    /// The active lineage.
    pub lineage: Lineage,
}

/// What a stream keeps, as its configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// `history`.
    pub history: History,
    /// `retention.maxSnapshots`.
    pub snapshots_max: Option<u32>,
    /// `retention.retentionPeriod` in milliseconds.
    pub period_ms: Option<u64>,
}

/// `history`: which versions must stay answerable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// All.
    #[default]
    Forever,
    /// Those of the last milliseconds.
    Ms(u64),
    /// Snapshots only.
    Snapshots,
}

impl Keep {
    /// What is promised now.
    #[must_use]
    pub fn promise(self, now: Timestamp) -> Promise {
        match self.history {
            History::Forever => Promise::Forever,
            History::Ms(ms) => Promise::Since(before(now, ms)),
            History::Snapshots => Promise::Snapshots,
        }
    }

    /// What is not kept now.
    #[must_use]
    pub fn policy(self, now: Timestamp) -> Policy {
        let taken_since = self.period_ms.map(|ms| before(now, ms));
        Policy { snapshots_max: self.snapshots_max, taken_since }
    }
}

fn before(now: Timestamp, ms: u64) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)))
}

/// Why nothing was deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// The aggregate is held.
    Held(HoldRow),
    /// A record that the rest would rely on cannot be read.
    Unproved(Box<SnapshotRow>, Error),
    /// The snapshot of this version, which the rest would rely on, was deleted meanwhile.
    Changed(Version),
    /// A fault.
    Failed(Error),
}

impl std::convert::From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is planned for one aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Whose.
    pub key: AggregateKey,
    /// All rows that were read, by partition.
    pub rows: Vec<SnapshotRow>,
    /// What becomes of them.
    pub plan: Plan,
}

impl Retention {
    fn index(&self) -> &Arc<dyn Index> {
        &self.ledger.index
    }

    /// What would go of an aggregate, and why the rest stays.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn plan(&self, key: &AggregateKey, wanted: Wanted, promise: Promise) -> Result<Planned> {
        let rows = self.rows(key).await?;
        let pinned = self.pinned(key).await?;
        // An id that occurs in two partitions is two aggregates.
        let mut by_partition: BTreeMap<PartitionNo, Vec<SnapshotRow>> = BTreeMap::new();
        for row in &rows {
            by_partition.entry(row.partition).or_default().push(row.clone());
        }
        let mut all = Plan::default();
        for rows in by_partition.values() {
            let Plan { go, kept, relied } = plan(rows, &pinned, wanted, promise);
            all.go.extend(go);
            all.kept.extend(kept);
            all.relied.extend(relied);
        }
        all.kept.sort_unstable();
        Ok(Planned { key: key.clone(), rows, plan: all })
    }

    /// The hold that is in force on an aggregate.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn hold(&self, key: &AggregateKey) -> Result<Option<HoldRow>> {
        let holds = self.index().holds(key).await;
        let holds = holds.map_err(|error| unavailable("read the holds of an aggregate", &error))?;
        Ok(in_force(&holds).cloned())
    }

    /// Holds an aggregate, or lets go of it.
    ///
    /// # Errors
    /// `Unavailable`: whether it counts is unknown.
    pub async fn set_hold(
        &self,
        key: &AggregateKey,
        held: bool,
        reason: Option<Box<str>>,
    ) -> Result<HoldRow> {
        self.ledger.hold(key, held, reason).await
    }

    /// The time of the clock that deletions are named by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.ledger.clock.now()
    }

    /// Does what was planned; nothing where nothing goes.
    ///
    /// # Errors
    /// What was refused, or a fault: then some of it may have happened, and asking again goes on.
    pub async fn act(&self, planned: &Planned, reason: &str) -> std::result::Result<(), Refused> {
        let rows = self.ready(planned).await?;
        Ok(self.commit(rows, reason).await?)
    }

    /// Sees to it that what was planned may happen, and says which rows go.
    ///
    /// # Errors
    /// What was refused, or a fault.
    pub async fn ready(&self, planned: &Planned) -> std::result::Result<Vec<DeletedRow>, Refused> {
        let plan = &planned.plan;
        if plan.go.is_empty() {
            return Ok(Vec::new());
        }
        self.confirm(&plan.relied).await?;
        self.prove(&plan.relied).await?;
        self.recheck(planned).await
    }

    /// Which rows of a plan still go, by what holds, pins and rows say now. The last thing before the fact:
    /// whoever held or pinned something since then was too late by this much.
    ///
    /// # Errors
    /// What was refused, or a fault.
    pub async fn recheck(&self, planned: &Planned) -> std::result::Result<Vec<DeletedRow>, Refused> {
        let Planned { key, plan, .. } = planned;
        if let Some(hold) = self.hold(key).await? {
            return Err(Refused::Held(hold));
        }
        let pinned = self.pinned(key).await?;
        let rows = self.rows(key).await?;
        let there: BTreeSet<_> = rows.iter().map(|row| (row.version, row.pack)).collect();
        let is_there = |row: &SnapshotRow| there.contains(&(row.version, row.pack));
        if let Some(gone) = plan.relied.iter().find(|row| !is_there(row)) {
            return Err(Refused::Changed(gone.version));
        }
        let goes = |row: &&SnapshotRow| is_there(row) && !pinned.contains(&row.version);
        Ok(plan.go.iter().filter(goes).map(DeletedRow::of).collect())
    }

    /// Deletes rows that are ready to go: the fact, then the rows.
    ///
    /// # Errors
    /// `Unavailable`: some of them may be gone.
    pub async fn commit(&self, rows: Vec<DeletedRow>, reason: &str) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for deletion in self.ledger.delete(rows, reason).await? {
            self.delete_rows(&deletion).await?;
        }
        Ok(())
    }

    async fn delete_rows(&self, deletion: &Deletion) -> Result<()> {
        let deletes = deletion.rows.iter().map(|row| self.ledger.delete_row(row, deletion.at));
        let deletes: Vec<_> = deletes.collect();
        stream::iter(deletes).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Writes rows again until they are acknowledged: increments first, older ones first, as a flush does.
    async fn confirm(&self, rows: &[SnapshotRow]) -> Result<()> {
        if mutant(Mutant::SurvivorsNotConfirmed) {
            return Ok(());
        }
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| (row.kind, row.version, row.pack));
        for rows in rows.chunks(self.index().rows_at_once().min(PAGE)) {
            self.ledger.confirm(rows).await?;
        }
        Ok(())
    }

    /// Reads records and finds them sound: of copies of one record, in as many packs, one.
    async fn prove(&self, rows: &[SnapshotRow]) -> std::result::Result<(), Refused> {
        let mut copies: BTreeMap<_, Vec<&SnapshotRow>> = BTreeMap::new();
        for row in rows {
            let of = (row.partition, row.kind, row.from_version, row.version);
            copies.entry(of).or_default().push(row);
        }
        let proofs: Vec<_> = copies.into_values().map(|copies| self.prove_one(copies)).collect();
        stream::iter(proofs).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// A copy that is damaged stays beside the one that it was written anew as.
    async fn prove_one(&self, mut copies: Vec<&SnapshotRow>) -> std::result::Result<(), Refused> {
        let mut damaged = Ok(());
        copies.sort_by_key(|row| row.pack);
        // The newest first: that is the one that was written anew.
        for row in copies.into_iter().rev() {
            let read = match row.kind {
                RecordKind::Full => self.packs.full(row).await.map(drop),
                RecordKind::Increment => self.packs.increment(row).await.map(drop),
                RecordKind::Segment => self.packs.segment(row).await.map(drop),
            };
            match read {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(Refused::Failed(error)),
                Err(error) => damaged = Err(Refused::Unproved(Box::new(row.clone()), error)),
            }
        }
        damaged
    }

    /// Versions that somebody pinned.
    pub(super) async fn pinned(&self, key: &AggregateKey) -> Result<BTreeSet<Version>> {
        let all = (Version(0), Version(u64::MAX));
        let noted = self.index().notes(key, self.lineage, all).await;
        let noted = noted.map_err(|error| unavailable("read the notes on snapshots", &error))?;
        let mut notes: BTreeMap<Version, Notes> = BTreeMap::new();
        noted.iter().for_each(|row| notes.entry(row.version).or_default().take(row));
        Ok(notes.into_iter().filter(|(_, notes)| notes.pinned).map(|(version, _)| version).collect())
    }

    /// All rows of an aggregate in the active lineage.
    async fn rows(&self, key: &AggregateKey) -> Result<Vec<SnapshotRow>> {
        let mut walk = RowWalk::new(&**self.index(), key, self.lineage, From::Newest, PAGE);
        walk.rest().await
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::Still;
    use crate::domain::ids::{Digest, LedgerId, Offset, PackId};
    use crate::domain::row::{NoteRow, Trigger};
    use crate::store::blobs::MemoryBlobs;
    use crate::store::index::MemoryIndex;
    use crate::store::packs::CompressionPlan;
    use futures_util::FutureExt;

    fn key() -> AggregateKey {
        AggregateKey { kind: "order".into(), id: "a".into() }
    }

    pub(in crate::upkeep) fn full(version: u64) -> SnapshotRow {
        SnapshotRow {
            key: key(),
            lineage: Lineage(1),
            version: Version(version),
            pack: PackId([1; 16]),
            kind: RecordKind::Full,
            from_version: Version(0),
            partition: PartitionNo(0),
            first_offset: Offset(0),
            last_offset: Offset(version as i64),
            leader_epoch: 0,
            effective_time: Timestamp(0),
            created_at: Timestamp(0),
            creation_ms: 0,
            trigger: Trigger::Events,
            event_type: "Placed".into(),
            chain: Digest([0; 32]),
            raw_bytes: 100,
            stored_bytes: 25,
            state_digest: None,
            state_bytes: None,
            deleted: false,
            quarantined: false,
            locator: Vec::new(),
        }
    }

    /// Versions 1 to 3, of which 1 and 2 are to go because of 3.
    fn planned() -> (Retention, Arc<MemoryIndex>, Planned) {
        let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
        let rows: Vec<SnapshotRow> = (1..=3).map(full).collect();
        index.put_snapshots(rows.clone()).now_or_never().expect("memory answers at once").unwrap();
        let packs = Packs::new(index.clone(), blobs.clone(), CompressionPlan::default(), [1; 16]);
        let ledger = Ledger { index: index.clone(), blobs, clock: Arc::new(Still) };
        let retention = Retention { packs: Arc::new(packs), ledger: Arc::new(ledger), lineage: Lineage(1) };
        let plan = Plan { go: rows[..2].to_vec(), relied: rows[2..].to_vec(), ..Plan::default() };
        (retention, index, Planned { key: key(), rows, plan })
    }

    fn goes(retention: &Retention, planned: &Planned) -> std::result::Result<Vec<Version>, Refused> {
        let rows = retention.recheck(planned).now_or_never().expect("memory answers at once")?;
        Ok(rows.iter().map(|row| row.version).collect())
    }

    fn delete(index: &MemoryIndex, version: u64) {
        let at = LedgerId::mint(Timestamp(1_700_000_000_000), [1; 10]);
        let gone = DeletedRow::of(&full(version));
        let gone = index.delete_snapshot(&gone, at);
        gone.now_or_never().expect("memory answers at once").unwrap();
    }

    #[test]
    fn what_is_pinned_after_it_was_planned_stays_and_what_is_gone_is_not_deleted_again() {
        let (retention, index, planned) = planned();
        assert_eq!(goes(&retention, &planned), Ok(vec![Version(1), Version(2)]));
        let at = LedgerId::mint(Timestamp(1_700_000_000_000), [1; 10]);
        let (version, pinned) = (Version(2), Some(true));
        let note =
            NoteRow { key: key(), lineage: Lineage(1), version, at, label: None, pinned, reason: None };
        index.put_note(note).now_or_never().expect("memory answers at once").unwrap();
        assert_eq!(goes(&retention, &planned), Ok(vec![Version(1)]));
        delete(&index, 1);
        assert_eq!(goes(&retention, &planned), Ok(Vec::new()));
    }

    #[test]
    fn nothing_goes_once_somebody_has_deleted_what_the_rest_relies_on() {
        let (retention, index, planned) = planned();
        delete(&index, 3);
        assert_eq!(goes(&retention, &planned), Err(Refused::Changed(Version(3))));
    }
}
