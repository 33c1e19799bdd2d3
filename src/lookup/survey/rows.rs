//! Rows against the footers of the packs that they point into, and which versions they cover.
//!
//! COST: rows are gathered, sorted by pack and looked at together, so that a footer is parsed once for a
//! batch.

use super::{PAGE, Survey, Tier, UNCOVERED_MAX};
use crate::codec::pack::{Class, Locator};
use crate::domain::chain::snapshot_id;
use crate::domain::coverage::Coverage;
use crate::domain::ids::{AggregateKey, PartitionNo};
use crate::domain::row::SnapshotRow;
use crate::lookup::Asked;
use crate::lookup::walk::let_others;
use crate::store::index::{From, RowWalk};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Rows of one aggregate fetched in one go.
const ROWS: usize = 256;
/// Rows that are looked at together.
const BATCH: usize = 20_000;
/// Rows after which others get their turn.
const ROWS_A_TURN: usize = 64;

/// A short digest of an id.
pub(super) fn short(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Survey<'_> {
    /// All rows of the aggregates that are asked about, and the live checkpoints.
    pub(super) async fn rows(&mut self) -> Asked<()> {
        let prefix = self.ask.prefix.clone();
        // The walk starts after an id, so the prefix itself is looked at alone.
        let mut after: Option<Arc<str>> = if prefix.is_empty() { None } else { Some(prefix.as_str().into()) };
        if let Some(id) = after.clone() {
            self.aggregate(&id).await?;
        }
        loop {
            let reader = self.lookup.reader();
            let page = reader.index.aggregates(&reader.rules.kind, after.as_deref(), PAGE).await;
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    self.broken(None, "list aggregates", &error)?;
                    break;
                }
            };
            let is_last = page.len() < PAGE;
            after = page.last().map(|(key, _)| Arc::clone(&key.id));
            let mut ids: Vec<Arc<str>> = page.into_iter().map(|(key, _)| key.id).collect();
            ids.dedup();
            let found = ids.len();
            ids.retain(|id| id.starts_with(&*prefix));
            self.progress.more(ids.len() as u64);
            for id in &ids {
                self.aggregate(id).await?;
            }
            self.progress.advance(ids.len() as u64);
            if is_last || ids.len() < found {
                break;
            }
        }
        self.check_batch().await?;
        self.listed.sort_unstable();
        self.checkpoints().await
    }

    /// One aggregate's rows.
    async fn aggregate(&mut self, id: &Arc<str>) -> Asked<()> {
        let (key, lineage) = (self.lookup.key(id), self.lookup.0.parts.lineage);
        let (mut coverage, mut has_rows) = (Coverage::default(), false);
        let mut walk = RowWalk::new(&*self.lookup.reader().index, &key, lineage, From::Newest, ROWS);
        loop {
            let mut rows = match walk.next().await {
                Ok(Some(rows)) => rows,
                Ok(None) => break,
                Err(error) => return self.broken(Some(id), "read snapshot rows", &error),
            };
            has_rows |= !rows.is_empty();
            rows.iter().for_each(|row| coverage.take(row));
            self.batch.append(&mut rows);
        }
        if has_rows {
            self.out.aggregates += 1;
            if self.ask.tier == Tier::Full {
                self.listed.push(short(id));
            }
        }
        if let Some(gap) = coverage.gaps().first() {
            self.out.uncovered += 1;
            if self.out.uncovered_ids.len() < UNCOVERED_MAX {
                self.out.uncovered_ids.push((Arc::clone(id), *gap));
            }
        }
        if self.batch.len() >= BATCH { self.check_batch().await } else { Ok(()) }
    }

    async fn check_batch(&mut self) -> Asked<()> {
        let mut rows = std::mem::take(&mut self.batch);
        rows.sort_by_key(|row| row.pack);
        self.out.rows += rows.len() as u64;
        for (nth, row) in rows.iter().enumerate() {
            if nth % ROWS_A_TURN == ROWS_A_TURN - 1 {
                let_others().await;
            }
            if self.ask.tier == Tier::Full {
                if let Ok(locator) = Locator::decode(&row.locator) {
                    self.packs.insert(locator.pack, locator.class);
                }
                self.named(row).await?;
            }
            let fault = self.footers.fault(&self.lookup.reader().packs, row).await?;
            if let Some(detail) = fault {
                let healed = self.heals(&row.key, row).await;
                self.found_healed(Some(&row.key.id), Some(row.version), "corrupt", detail, healed);
            }
        }
        Ok(())
    }

    /// Whether the row's snapshot is found by its public id.
    async fn named(&mut self, row: &SnapshotRow) -> Asked<()> {
        let id = snapshot_id(&row.key, row.lineage, row.version);
        match self.lookup.reader().index.snapshot_by_id(id).await {
            Ok(Some((key, lineage, version)))
                if (&key, lineage, version) == (&row.key, row.lineage, row.version) => {}
            Ok(_) => {
                let detail = "its snapshot is not found by its public id".to_owned();
                self.found_healed(Some(&row.key.id), Some(row.version), "corrupt", detail, true);
            }
            Err(error) => self.broken(Some(&row.key.id), "find a snapshot by its id", &error)?,
        }
        Ok(())
    }

    /// The live checkpoints of every partition.
    async fn checkpoints(&mut self) -> Asked<()> {
        for partition in 0..i32::try_from(self.lookup.partition_count().await?).unwrap_or(i32::MAX) {
            let log = self.lookup.log_of(PartitionNo(partition));
            let reader = self.lookup.reader();
            let readable = reader.index.watermarks(&log).await.map(drop);
            let listed = reader.index.checkpoints(&log).await;
            let (mut is_readable, doing) = (true, format!("read the checkpoints of partition {partition}"));
            for outcome in [readable, listed.as_ref().map(|_| ()).map_err(Clone::clone)] {
                if let Err(error) = outcome {
                    is_readable = false;
                    self.broken(None, &doing, &error)?;
                }
            }
            if !is_readable {
                continue;
            }
            let turn = self.lookup.admit().await?;
            let view = self.lookup.reader().view(&log).await?;
            drop(turn);
            if self.ask.tier == Tier::Full {
                let all = view.checkpoints.iter().map(|live| live.pack);
                self.packs.extend(all.map(|pack| (pack, Class::Checkpoint)));
            }
            let entries: usize = view.checkpoints.iter().map(|live| live.entries.len()).sum();
            self.out.rows += entries as u64;
            let healed = view.lost_below.is_none();
            for row in view.unreadable {
                let detail =
                    format!("the live checkpoint `{}` of partition {partition} cannot be read", row.pack);
                self.found_healed(None, None, "corrupt", detail, healed);
            }
        }
        Ok(())
    }

    /// An aggregate of this stream, by its id.
    pub(super) fn key_of(&self, id: &Arc<str>) -> AggregateKey {
        AggregateKey { kind: Arc::clone(&self.lookup.reader().rules.kind), id: Arc::clone(id) }
    }
}
