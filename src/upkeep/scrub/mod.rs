//! Scrubbing: each owner reads every byte of the packs that its aggregates' rows point into, slowly, again
//! and again, and writes anew what is damaged.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the walk, its pace, what was seen |
//! | `repair.rs` | one record written anew from what is left |
//!
//! *Order*: a record is written anew only once a snapshot at or above its version is acknowledged by its
//!   owner (the next owner's increments start after the newest row that it sees). The damaged row stays: a
//!   row is a fact, and readers pass over it as they did before.
//! *If it fails*: a store that does not answer ends the pass; the next one starts again. A record that
//!   cannot be derived is counted, and tried again in every pass.
//! *If cancelled*: as if it failed.
//! *What may leak*: a second copy of a record.
//!
//! COST: a pack is read once in a pass, by each worker that owns aggregates in it, at a bounded pace;
//! between two passes nothing is read. How far a pass is dies with the process: it starts anew.

mod repair;

use crate::clock::Clock;
use crate::codec::pack::{Class, Locator};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{Lineage, PackId, PartitionNo, Version};
use crate::domain::row::{RecordKind, SnapshotRow};
use crate::reconstruct::{LiveSnapshots, Reconstructor};
use crate::store::SnapshotStore;
use crate::store::index::From;
use crate::store::inspect::Footers;
use crate::store::unavailable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Aggregates listed in one go.
const PAGE: usize = 256;
/// Rows of one aggregate fetched in one go.
const ROWS: usize = 256;
/// Rows that are looked at together: packs are read once for them.
const BATCH: usize = 4_096;
/// Pause after a pass that could not be finished.
const AGAIN_MS: u64 = 60_000;
/// What a row costs the pace beside its pack.
const ROW_BYTES: u64 = 512;
/// Shortest sleep.
const SLEEP_MS_MIN: u64 = 20;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// Milliseconds between the starts of two passes.
    pub interval_ms: u64,
    /// Bytes that may be read in a second.
    pub bytes_per_second: u64,
}

/// What was seen since the process started, read by metrics.
#[derive(Debug)]
pub struct Scrubbed {
    /// Bytes of packs that were read.
    pub bytes: AtomicU64,
    /// Rows that were looked at.
    pub rows: AtomicU64,
    /// Records found damaged, or missing, without a sound copy.
    pub damaged: AtomicU64,
    /// Of these, written anew.
    pub repaired: AtomicU64,
    /// When the last pass that was finished began, by the wall clock; before the first, when the process
    /// started.
    pub verified_at_ms: AtomicI64,
    /// Passes finished.
    pub passes: AtomicU64,
}

impl Scrubbed {
    /// Nothing seen by now.
    #[must_use]
    pub fn at(now_ms: i64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
            verified_at_ms: AtomicI64::new(now_ms),
            passes: AtomicU64::new(0),
        }
    }
}

/// Scrubs the aggregates of one stream whose partitions this process owns.
pub struct Scrub {
    /// Rest and the log.
    pub reader: Reconstructor,
    /// The partitions of this process.
    pub own: Arc<dyn LiveSnapshots>,
    /// Where segments are written.
    pub store: Arc<SnapshotStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// The active lineage.
    pub lineage: Lineage,
    /// How fast.
    pub settings: ScrubSettings,
    /// What was seen.
    pub seen: Arc<Scrubbed>,
}

/// One pass.
struct Pass {
    footers: Footers,
    /// Packs read in this pass, and whether they are whole.
    packs: BTreeMap<PackId, bool>,
    /// When the bytes read by now may have been read.
    paid_until_ms: u64,
}

/// Rows of one record: they differ in the pack alone.
type Fact = (Arc<str>, PartitionNo, Version, RecordKind, Version);

fn fact(row: &SnapshotRow) -> Fact {
    (Arc::clone(&row.key.id), row.partition, row.version, row.kind, row.from_version)
}

impl Scrub {
    /// Scrubs for ever. Nothing ends it but being dropped.
    pub async fn run(self) {
        loop {
            let (started, wall) = (self.clock.monotonic_ms(), self.clock.now());
            let pause = match self.pass().await {
                Ok(()) => {
                    self.seen.verified_at_ms.store(wall.0, Ordering::Relaxed);
                    self.seen.passes.fetch_add(1, Ordering::Relaxed);
                    self.settings.interval_ms
                }
                Err(_) => AGAIN_MS.min(self.settings.interval_ms),
            };
            let took = self.clock.monotonic_ms().saturating_sub(started);
            self.clock.sleep(pause.saturating_sub(took).max(SLEEP_MS_MIN)).await;
        }
    }

    /// Looks once at everything that is owned.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn pass(&self) -> Result<()> {
        let mut pass = Pass {
            footers: Footers::default(),
            packs: BTreeMap::new(),
            paid_until_ms: self.clock.monotonic_ms(),
        };
        let (mut after, mut batch): (Option<Arc<str>>, Vec<SnapshotRow>) = (None, Vec::new());
        loop {
            let kind = &self.reader.rules.kind;
            let page = self.reader.index.aggregates(kind, after.as_deref(), PAGE).await;
            let page = page.map_err(|error| unavailable("list aggregates", &error))?;
            after = page.last().map(|(key, _)| Arc::clone(&key.id)).filter(|_| page.len() == PAGE);
            for (key, _) in page.iter().filter(|(_, partition)| self.own.owns(*partition)) {
                self.rows_of(key, &mut batch).await?;
                if batch.len() >= BATCH {
                    self.look(&mut pass, std::mem::take(&mut batch)).await?;
                }
            }
            if after.is_none() {
                return self.look(&mut pass, batch).await;
            }
        }
    }

    async fn rows_of(
        &self,
        key: &crate::domain::ids::AggregateKey,
        batch: &mut Vec<SnapshotRow>,
    ) -> Result<()> {
        let mut from = Some(From::Newest);
        while let Some(at) = from.take() {
            let rows = self.reader.index.snapshots(key, self.lineage, at, ROWS).await;
            let mut rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
            if let (true, Some(first), Some(last)) = (rows.len() == ROWS, rows.first(), rows.last()) {
                // The page may end inside a version, which is then read whole with the next page.
                let (whole, last) = (first.version == last.version, last.version);
                rows.retain(|row| whole || row.version != last);
                let next = if whole { last.0.checked_sub(1).map(Version) } else { Some(last) };
                from = next.map(From::AtOrBelow);
            }
            batch.append(&mut rows);
        }
        Ok(())
    }

    /// Looks at rows, and at the packs that they point into; repairs what is only in damaged ones.
    async fn look(&self, pass: &mut Pass, mut rows: Vec<SnapshotRow>) -> Result<()> {
        rows.sort_by_key(|row| row.pack);
        let mut bad: BTreeMap<Fact, SnapshotRow> = BTreeMap::new();
        let mut good: Vec<Fact> = Vec::new();
        for row in rows {
            self.seen.rows.fetch_add(1, Ordering::Relaxed);
            match self.is_sound(pass, &row).await? {
                true => good.push(fact(&row)),
                false => drop(bad.insert(fact(&row), row)),
            }
        }
        good.iter().for_each(|fact| drop(bad.remove(fact)));
        for row in bad.into_values() {
            if !self.is_there(&row).await? {
                continue;
            }
            self.seen.damaged.fetch_add(1, Ordering::Relaxed);
            if self.own.owns(row.partition) && self.repair(&row).await? {
                self.seen.repaired.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Whether a row is still there: it was read a while ago, and what retention or erasure took away
    /// since must not come back.
    async fn is_there(&self, row: &SnapshotRow) -> Result<bool> {
        if self.reader.packs.erasures.of(&row.key).is_some() {
            return Ok(false);
        }
        let rows =
            self.reader.index.snapshots(&row.key, self.lineage, From::AtOrBelow(row.version), ROWS).await;
        let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
        Ok(rows.iter().any(|there| (there.version, there.pack) == (row.version, row.pack)))
    }

    /// Whether a row's record is whole, and so is the pack that holds it: without its footer the index
    /// could not be made again.
    async fn is_sound(&self, pass: &mut Pass, row: &SnapshotRow) -> Result<bool> {
        let Ok(locator) = Locator::decode(&row.locator) else { return Ok(false) };
        let is_whole = match pass.packs.get(&locator.pack) {
            Some(is_whole) => *is_whole,
            None => {
                let is_whole = self.read(pass, locator.class, locator.pack).await?;
                pass.packs.insert(locator.pack, is_whole);
                is_whole
            }
        };
        self.pay(pass, ROW_BYTES).await;
        Ok(is_whole && pass.footers.fault(&self.reader.packs, row).await?.is_none())
    }

    async fn read(&self, pass: &mut Pass, class: Class, pack: PackId) -> Result<bool> {
        let examined = self.reader.packs.examine(class, pack).await?;
        self.seen.bytes.fetch_add(examined.bytes, Ordering::Relaxed);
        self.pay(pass, examined.bytes).await;
        Ok(examined.faults.is_empty())
    }

    /// Waits until so many bytes may have been read.
    async fn pay(&self, pass: &mut Pass, bytes: u64) {
        let now = self.clock.monotonic_ms();
        let cost = bytes.saturating_mul(1_000) / self.settings.bytes_per_second.max(1);
        // Time in which nothing was read is not saved up.
        pass.paid_until_ms = pass.paid_until_ms.max(now.saturating_sub(1_000)) + cost;
        let ahead = pass.paid_until_ms.saturating_sub(now);
        if ahead >= SLEEP_MS_MIN {
            self.clock.sleep(ahead).await;
        }
    }
}

/// A fault that repairing again in a later pass may not have.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Conflict)
}
