//! What a pack is found to be, by its footer, low watermarks, checkpoints and rows (see the module above).
//!
//! *Order*: footer; then of each record where it lies before who names it. *If it fails*: a read is repeated
//!   for some seconds; then the pack stays. *If cancelled*: nothing has happened. *What may leak*: nothing.

use super::{Doomed, Mode, Pass, Verdict};
use crate::codec::pack::{Class, Footer};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{LedgerId, Lineage, Offset, PackId, PartitionNo, Version};
use crate::domain::ledger::DeletedRow;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::record::RecordId;
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::store::index::From;
use crate::store::unavailable;
use crate::upkeep::settled::{RETRY_MS, TRIES};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Copies of a version that are looked at in one go.
const COPIES: usize = 16;
/// Entries of a checkpoint's pack that are looked for elsewhere before it goes.
const ENTRIES_LOOKED_AT: usize = 8;

impl Pass<'_> {
    pub(super) async fn judge(&mut self, class: Class, pack: PackId) -> Result<Verdict> {
        let footer = match self.footer(class, pack).await {
            Ok((footer, _)) => footer,
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
            // Damage is for people to judge, and what is gone already needs nothing.
            Err(_) => return Ok(Verdict::Unknown),
        };
        match class {
            Class::Checkpoint => self.judge_checkpoint(pack, &footer).await,
            _ => self.judge_records(pack, &footer).await,
        }
    }

    async fn footer(&self, class: Class, pack: PackId) -> Result<(Footer, u64)> {
        for _ in 1..TRIES {
            match self.of.packs.footer_of(class, pack).await {
                Err(error) if error.kind == ErrorKind::Unavailable => self.of.clock.sleep(RETRY_MS).await,
                answered => return answered,
            }
        }
        self.of.packs.footer_of(class, pack).await
    }

    async fn judge_records(&mut self, pack: PackId, footer: &Footer) -> Result<Verdict> {
        let (mut is_live, mut is_orphaned, len) = (false, false, footer.len());
        let (mut doomed, mut unnamed) = (Doomed::default(), Vec::new());
        let may_be_lost = self.of.settings.orphan_ms > 0;
        // Of a pack that is alive most records are: from anywhere, one read tells.
        let start = usize::from(pack.0[15]) % len.max(1);
        for at in (start..len).chain(0..start) {
            let (Ok(id), Ok(stretch)) = (footer.id(at), footer.stretch(at)) else {
                return Ok(Verdict::Unknown);
            };
            let Some(key) = self.partition(&id, stretch.partition) else { return Ok(Verdict::Unknown) };
            self.report.records += 1;
            if let Some(drop) = self.drop_of(&key) {
                self.report.dead_records += 1;
                self.report.dead_bytes += u64::from(stretch.body_len);
                let (version, lineage) = (id.upto_version, id.lineage);
                doomed.rows.push((DeletedRow { key: id.key, lineage, version, pack }, drop));
                continue;
            }
            // Nobody relies on anything of the erased any more, whatever partition it is of.
            let is_erased = self.of.packs.erasures.of(&id.key).is_some();
            let offsets = (stretch.first_offset, stretch.last_offset);
            if !is_erased && (!self.is_settled(&key, offsets).await? || self.is_named(&id, pack).await?) {
                is_live = true;
                if self.mode != Mode::DryRun {
                    break;
                }
            } else {
                self.report.dead_records += 1;
                self.report.dead_bytes += u64::from(stretch.body_len);
                is_orphaned |= may_be_lost && !is_orphaned && !self.is_told(&id).await?;
                if !is_erased {
                    let (version, lineage) = (id.upto_version, id.lineage);
                    unnamed.push(DeletedRow { key: id.key, lineage, version, pack });
                }
            }
        }
        doomed.by_facts = !is_live && self.are_deleted(&unnamed).await?;
        doomed.unnamed = unnamed;
        Ok(match (is_live, is_orphaned) {
            (true, _) => Verdict::Live,
            (false, true) => Verdict::Orphaned(doomed),
            (false, false) => Verdict::Garbage(doomed),
        })
    }

    async fn judge_checkpoint(&mut self, pack: PackId, footer: &Footer) -> Result<Verdict> {
        let mut listing: BTreeSet<PartitionKey> = BTreeSet::new();
        for at in 0..footer.len() {
            let (Ok(id), Ok(stretch)) = (footer.id(at), footer.stretch(at)) else {
                return Ok(Verdict::Unknown);
            };
            let Some(key) = self.partition(&id, stretch.partition) else { return Ok(Verdict::Unknown) };
            listing.insert(key);
        }
        for key in listing.iter().filter(|key| self.drop_of(key).is_none()) {
            let listed = self.of.repeat(|| self.of.index.checkpoints(key)).await;
            let listed = listed.map_err(|error| unavailable("list checkpoints", &error))?;
            if listed.iter().any(|row| row.pack == pack) && !mutant(Mutant::GcIgnoresCheckpointRows) {
                return Ok(Verdict::Live);
            }
        }
        let by_facts = listing.iter().all(|key| self.drop_of(key).is_some());
        let doomed = Doomed { listing: listing.into_iter().collect(), by_facts, ..Doomed::default() };
        // COST: an index that has lost its rows has lost most of them, so a few entries tell.
        let step = footer.len().div_ceil(ENTRIES_LOOKED_AT).max(1);
        if self.of.settings.orphan_ms > 0 && !by_facts {
            for at in (0..footer.len()).step_by(step) {
                if let Ok(id) = footer.id(at)
                    && !self.is_told(&id).await?
                {
                    return Ok(Verdict::Orphaned(doomed));
                }
            }
        }
        Ok(Verdict::Garbage(doomed))
    }

    /// Whether the index tells of the last version of a record without it: then whoever took the record's row
    /// away meant it. Where it does not, rows may be lost, and packs are what an index is rebuilt from.
    async fn is_told(&self, id: &RecordId) -> Result<bool> {
        if mutant(Mutant::GcTrustsLostIndex) || self.of.packs.erasures.of(&id.key).is_some() {
            return Ok(true);
        }
        let version = id.upto_version;
        let above = From::Above(Version(version.0.saturating_sub(1)));
        let read = || self.of.index.snapshots(&id.key, id.lineage, above, COPIES);
        let rows = self.of.repeat(read).await;
        let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
        let is_thinned = self.of.thinned.contains(&id.key.kind);
        let tells = |row: &SnapshotRow| {
            row.version == version
                || row.version > version
                    && (is_thinned || row.kind != RecordKind::Full && row.from_version < version)
        };
        Ok(rows.iter().any(tells))
    }

    /// Whether the ledger deleted each of these rows, as the index remembers it. That a row is missing may be
    /// a loss; that its deletion is there cannot be one, and what was deleted stays so: a rebuilt index would
    /// not have the row either.
    async fn are_deleted(&self, rows: &[DeletedRow]) -> Result<bool> {
        for row in rows {
            let deletion = self.of.repeat(|| self.of.index.deletion(row)).await;
            let deletion = deletion.map_err(|error| unavailable("ask for a row's deletion", &error))?;
            if deletion.is_none_or(LedgerId::is_of_garbage) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The drop of a lineage, if it was dropped.
    fn drop_of(&self, key: &PartitionKey) -> Option<LedgerId> {
        let dropped = self.dropped.get(&key.topic)?.at(key.lineage);
        dropped.filter(|_| !mutant(Mutant::DroppedRowsKeepPacks))
    }

    fn partition(&self, id: &RecordId, partition: PartitionNo) -> Option<PartitionKey> {
        let topic = Arc::clone(self.of.topics.get(&id.key.kind)?);
        let lineage: Lineage = id.lineage;
        Some(PartitionKey { topic, partition, lineage })
    }

    /// Whether no owner will ever rely on a row of these offsets that it does not see acknowledged now.
    async fn is_settled(&mut self, key: &PartitionKey, (first, last): (Offset, Offset)) -> Result<bool> {
        if mutant(Mutant::GcTakesProvisional) {
            return Ok(true);
        }
        self.settled.holds((&*self.of.index, &*self.of.clock), key, (first, last)).await
    }

    /// Whether a row names this record in this pack.
    async fn is_named(&self, id: &RecordId, pack: PackId) -> Result<bool> {
        let (mut limit, version): (usize, Version) = (COPIES, id.upto_version);
        loop {
            let from = From::AtOrBelow(version);
            let rows = self.of.repeat(|| self.of.index.snapshots(&id.key, id.lineage, from, limit)).await;
            let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
            if rows.iter().any(|row| row.version == version && row.pack == pack) {
                return Ok(true);
            }
            // The copies of a version come together; more of them than fit are rare, and asked for again.
            let may_go_on = rows.len() == limit && rows.iter().all(|row| row.version == version);
            if !may_go_on {
                return Ok(false);
            }
            limit *= 4;
        }
    }
}
