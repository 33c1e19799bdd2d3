//! One pack written anew without the records of the erased.
//!
//! *Order*: rows that name its records; whether all of these are settled, or the pack waits; the whole pack.
//!   Then the rows are written again, so that they are acknowledged, and read again: what is gone was
//!   deleted, not missed. Then the copies, and their rows until acknowledged ([`crate::store::copies`]); then
//!   the old rows are read once more. Of one that is gone the copy goes, too: whoever deletes reads once more
//!   than this writes, or this reads once more than whoever deletes. Last the old rows go, by the ledger.
//! *If it fails*, or *is cancelled*: rows name the old record, the copy, or both; any of these is whole. The
//!   next pass finds the copy, and does not make another.
//! *What may leak*: a pack of copies without rows.
//!
//! Why a copy is harmless: it is the same fact under another pack (as what a scrub writes anew is), there
//! before the old row goes. Notes are of versions, not of packs: pins, labels and holds stay. Whoever has the
//! old row in memory relies on what is acknowledged in the copy's; writing the old one again loses against
//! its deletion. Records that are not settled are left alone: a row beyond the low watermark may be of events
//! that the log has lost since, and writing it again would make that rumour last.

use super::{Pass, Purge, held_by};
use crate::codec::pack::{Class, Footer, Locator, pack_name};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{PackId, PartitionNo};
use crate::domain::ledger::DeletedRow;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::record::RecordId;
use crate::domain::row::{PartitionKey, SnapshotRow};
use crate::store::copies::Source;
use crate::store::index::From;
use crate::store::unavailable;
use crate::upkeep::settled::repeated;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Copies of a version that are looked at in one go.
const COPIES: usize = 16;
/// Rows that are read, or written, at the same time.
const AT_ONCE: usize = 16;
/// What the ledger says of rows whose records have moved, and of copies of what was deleted meanwhile.
const MOVED: &str = "purge";

/// What became of a pack.
pub(super) enum Outcome {
    /// Its records of others are in this one now.
    Rewritten {
        /// Its name.
        to: Box<str>,
        /// How many they are.
        records: u64,
    },
    /// No row names any of them.
    Garbage,
    /// Not all of them may be moved yet: one of this log, or of a type that is not known here.
    Waits(Option<PartitionKey>),
}

/// What a look at a pack's rows finds.
enum Looked {
    /// Those that are to move.
    Named(Vec<Named>),
    /// See [`Outcome::Waits`].
    Waits(Option<PartitionKey>),
}

/// A record that a row names.
struct Named {
    /// Its place in the footer.
    at: usize,
    row: SnapshotRow,
    /// The same record in another pack.
    twins: Vec<SnapshotRow>,
}

impl Purge {
    pub(super) async fn rewrite(
        &self,
        class: Class,
        pack: PackId,
        footer: Footer,
        pass: &mut Pass,
    ) -> Result<Outcome> {
        let named = match self.named(pack, &footer, pass).await? {
            Looked::Named(named) => named,
            Looked::Waits(of) => return Ok(Outcome::Waits(of)),
        };
        if named.is_empty() {
            return Ok(Outcome::Garbage);
        }
        let (examined, bytes) = self.store.packs.whole(class, pack).await?;
        if examined.is_missing {
            return Ok(Outcome::Garbage);
        }
        let (mut moving, mut standing) = (Vec::new(), Vec::new());
        for Named { at, row, twins } in named {
            match self.standing(twins).await? {
                Some(twin) => standing.push((row, twin)),
                // It is read as it lies in memory; what is damaged elsewhere in the pack is not copied.
                None => moving.push((at, row)),
            }
        }
        if !mutant(Mutant::PurgeTrustsRumours) {
            self.confirm(moving.iter().map(|(_, row)| row).chain(standing.iter().map(|(_, twin)| twin)))
                .await?;
        }
        let there = self.there(moving.iter().map(|(_, row)| row)).await?;
        let is_there = |row: &SnapshotRow| there.contains(&DeletedRow::of(row));
        moving.retain(|(_, row)| is_there(row) || mutant(Mutant::PurgeBringsBack));
        let old: Vec<SnapshotRow> = moving.iter().map(|(_, row)| row.clone()).collect();
        if mutant(Mutant::PurgeDeletesFirst) {
            self.delete(old.clone()).await?;
        }
        let records = moving.len() as u64;
        let mut to = None;
        if !moving.is_empty() {
            let source = Source { class, bytes, footer: Box::new(footer) };
            let copies = self.store.put_copies(source, moving).await?;
            to = copies.first().map(|copy| pack_name(class, copy.pack));
            self.take_back(&old, copies).await?;
        }
        // The twin must be there after it was written again: somebody else deletes as well.
        let twins = self.there(standing.iter().map(|(_, twin)| twin)).await?;
        let doubled = standing.into_iter().filter(|(_, twin)| twins.contains(&DeletedRow::of(twin)));
        let doubled: Vec<(SnapshotRow, SnapshotRow)> = doubled.collect();
        let before = doubled.first().map(|(_, twin)| pack_name(class, twin.pack));
        self.delete(old.into_iter().chain(doubled.into_iter().map(|(row, _)| row)).collect()).await?;
        match to.or(before) {
            Some(to) => Ok(Outcome::Rewritten { to: to.into(), records }),
            None => Ok(Outcome::Garbage),
        }
    }

    /// The records of others that rows name. What is of dropped lineages goes as what is of the erased does:
    /// no row of it counts, and garbage collection deletes those that it finds.
    async fn named(&self, pack: PackId, footer: &Footer, pass: &mut Pass) -> Result<Looked> {
        let mut others: Vec<(usize, RecordId, PartitionNo)> = Vec::new();
        for at in 0..footer.len() {
            let (id, stretch) = (footer.id(at)?, footer.stretch(at)?);
            let is_dropped = pass.is_dropped(self.topics.get(&id.key.kind), id.lineage);
            if self.store.packs.erasures.of(&id.key).is_none() && !is_dropped {
                others.push((at, id, stretch.partition));
            }
        }
        let reads = others
            .iter()
            .map(|(_, id, partition)| -> BoxFuture<'_, _> { Box::pin(self.rows_of(id, *partition)) });
        let reads: Vec<_> = reads.collect();
        let rows: Vec<Vec<SnapshotRow>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let mut named = Vec::new();
        for ((at, id, partition), rows) in others.into_iter().zip(rows) {
            let Some(row) = rows.iter().find(|row| row.pack == pack).cloned() else { continue };
            let Some(topic) = self.topics.get(&id.key.kind) else { return Ok(Looked::Waits(None)) };
            let key = PartitionKey { topic: Arc::clone(topic), partition, lineage: id.lineage };
            let (ports, offsets) =
                ((&*self.store.index, &*self.store.clock), (row.first_offset, row.last_offset));
            if !mutant(Mutant::PurgeTakesProvisional) && !pass.settled.holds(ports, &key, offsets).await? {
                return Ok(Looked::Waits(Some(key)));
            }
            let twins = rows.into_iter().filter(|twin| is_twin(&row, twin)).collect();
            named.push(Named { at, row, twins });
        }
        Ok(Looked::Named(named))
    }

    /// All rows of the records that have this identity, whatever their packs.
    async fn rows_of(&self, id: &RecordId, partition: PartitionNo) -> Result<Vec<SnapshotRow>> {
        let (index, clock, version) = (&self.store.index, &*self.store.clock, id.upto_version);
        let mut limit = COPIES;
        loop {
            let from = From::AtOrBelow(version);
            let rows = repeated(clock, || index.snapshots(&id.key, id.lineage, from, limit)).await;
            let mut rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
            let may_go_on = rows.len() == limit && rows.iter().all(|row| row.version == version);
            if !may_go_on {
                let is_it = |row: &SnapshotRow| {
                    let (kind, from_version) = (row.kind, row.from_version);
                    let of = (row.version, kind, from_version, row.partition);
                    of == (version, id.kind, id.from_version, partition)
                };
                rows.retain(is_it);
                return Ok(rows);
            }
            limit *= 4;
        }
    }

    /// The first of these that lies where nothing of the erased does, and reads back.
    async fn standing(&self, twins: Vec<SnapshotRow>) -> Result<Option<SnapshotRow>> {
        let (packs, erasures) = (&self.store.packs, self.store.packs.erasures.all());
        for twin in twins {
            let Ok(locator) = Locator::decode(&twin.locator) else { continue };
            let stands = match packs.footer_of(locator.class, twin.pack).await {
                Ok((footer, _)) if held_by(&footer, &erasures).is_empty() => {
                    packs.frame(&twin).await.map(|_| true)
                }
                Ok(_) => Ok(false),
                Err(error) => Err(error),
            };
            match stands {
                Ok(true) => return Ok(Some(twin)),
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                Ok(false) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Writes rows again until they are acknowledged, those of one aggregate in the order of versions.
    async fn confirm(&self, rows: impl Iterator<Item = &SnapshotRow>) -> Result<()> {
        let mut by_key: BTreeMap<_, Vec<SnapshotRow>> = BTreeMap::new();
        rows.for_each(|row| by_key.entry(row.key.clone()).or_default().push(row.clone()));
        let at_once = self.store.index.rows_at_once();
        let writes = by_key.into_values().map(|mut rows| -> BoxFuture<'_, Result<()>> {
            rows.sort_by_key(|row| row.version);
            Box::pin(async move {
                let ledger = self.ledger();
                for rows in rows.chunks(at_once) {
                    ledger.confirm(rows).await?;
                }
                Ok(())
            })
        });
        let writes: Vec<_> = writes.collect();
        stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Those of these rows that are there, of aggregates that are not erased by now.
    async fn there(&self, rows: impl Iterator<Item = &SnapshotRow>) -> Result<BTreeSet<DeletedRow>> {
        let erasures = &self.store.packs.erasures;
        erasures.refresh().await?;
        let reads = rows.map(|row| -> BoxFuture<'_, Result<Option<DeletedRow>>> {
            let id = RecordId {
                key: row.key.clone(),
                lineage: row.lineage,
                upto_version: row.version,
                kind: row.kind,
                from_version: row.from_version,
            };
            Box::pin(async move {
                let rows = self.rows_of(&id, row.partition).await?;
                let is_there = rows.iter().any(|other| other.pack == row.pack);
                Ok((is_there && erasures.of(&row.key).is_none()).then(|| DeletedRow::of(row)))
            })
        });
        let reads: Vec<_> = reads.collect();
        let there: Vec<Option<DeletedRow>> =
            stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(there.into_iter().flatten().collect())
    }

    /// Deletes the copies of what was deleted while it was copied.
    async fn take_back(&self, old: &[SnapshotRow], copies: Vec<SnapshotRow>) -> Result<()> {
        if mutant(Mutant::PurgeBringsBack) || mutant(Mutant::PurgeDeletesFirst) {
            return Ok(());
        }
        let there = self.there(old.iter()).await?;
        let gone = old.iter().map(|row| !there.contains(&DeletedRow::of(row)));
        let back = copies.into_iter().zip(gone).filter(|(_, is_gone)| *is_gone).map(|(copy, _)| copy);
        self.delete(back.collect()).await
    }

    async fn delete(&self, rows: Vec<SnapshotRow>) -> Result<()> {
        let ledger = self.ledger();
        for named in ledger.delete(rows.iter().map(DeletedRow::of).collect(), MOVED).await? {
            let deletes = named
                .rows
                .iter()
                .map(|row| -> BoxFuture<'_, Result<()>> { Box::pin(ledger.delete_row(row, named.at)) });
            let deletes: Vec<_> = deletes.collect();
            stream::iter(deletes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        Ok(())
    }
}

/// Whether a row tells the same as another, of another pack.
fn is_twin(row: &SnapshotRow, other: &SnapshotRow) -> bool {
    let facts = |row: &SnapshotRow| {
        let place = (row.first_offset, row.last_offset, row.leader_epoch, row.quarantined);
        (row.chain, row.state_digest, row.deleted, place)
    };
    row.pack != other.pack && facts(row) == facts(other)
}
