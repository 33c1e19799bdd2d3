//! Scrubbing: each owner reads every byte of the packs that its aggregates' rows point into, slowly, again
//! and again, and writes anew what is damaged.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the walk, its pace, what was seen |
//! | `repair.rs` | records written anew from what is left |
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
use crate::store::index::{From, RowWalk};
use crate::store::inspect::Footers;
use crate::store::unavailable;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Aggregates listed in one go.
const PAGE: usize = 256;
/// Rows of one aggregate fetched in one go.
const ROWS: usize = 256;
/// Rows that are looked at together: packs are read once for them.
const BATCH: usize = 4_096;
/// Records that are written anew together: what they hold is in memory meanwhile.
const REPAIRS: usize = 16;
/// Pause after a pass that could not be finished.
const AGAIN_MS: u64 = 60_000;
/// Between two looks at whether there is anything to scrub.
const WAIT_MS: u64 = 1_000;
/// What a row costs the pace beside its pack.
const ROW_BYTES: u64 = 512;
/// Shortest sleep.
const SLEEP_MS_MIN: u64 = 20;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// Milliseconds between the starts of two passes.
    pub interval_ms: u64,
    /// Bytes that all streams of the process may read in a second.
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

/// The pace of a process: its streams share it.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the bytes read by now may have been read, by the monotonic clock.
    paid_until_ms: Mutex<u64>,
}

impl Pace {
    /// How long whoever has read `bytes` waits, at so many in a second.
    fn pay(&self, now_ms: u64, bytes: u64, bytes_per_second: u64) -> u64 {
        let cost = bytes.saturating_mul(1_000) / bytes_per_second.max(1);
        let mut paid_until_ms = self.paid_until_ms.lock().expect("no panic while it is held");
        // Time in which nothing was read is not saved up.
        *paid_until_ms = (*paid_until_ms).max(now_ms.saturating_sub(1_000)) + cost;
        paid_until_ms.saturating_sub(now_ms)
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
    /// What all streams of the process read together.
    pub pace: Arc<Pace>,
    /// What was seen.
    pub seen: Arc<Scrubbed>,
}

/// One pass.
struct Pass {
    footers: Footers,
    /// Packs read in this pass, and whether they are whole.
    packs: BTreeMap<PackId, bool>,
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
            if !self.own.owns_any() {
                // The group has assigned nothing yet, or nothing any more: what is looked at now is nothing,
                // and whoever owns partitions later has not been looked at.
                self.seen.verified_at_ms.store(wall.0, Ordering::Relaxed);
                self.clock.sleep(WAIT_MS.min(self.settings.interval_ms)).await;
                continue;
            }
            let pause = match self.pass().await {
                Ok(()) => {
                    self.seen.verified_at_ms.store(wall.0, Ordering::Relaxed);
                    self.seen.passes.fetch_add(1, Ordering::Relaxed);
                    self.settings.interval_ms
                }
                Err(error) => {
                    #[cfg(feature = "runtime")]
                    tracing::warn!(%error, code = error.code, topic = &*self.topic, "a scrub was not finished");
                    #[cfg(not(feature = "runtime"))]
                    drop(error);
                    AGAIN_MS.min(self.settings.interval_ms)
                }
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
        let mut pass = Pass { footers: Footers::default(), packs: BTreeMap::new() };
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
        let mut walk = RowWalk::new(&*self.reader.index, key, self.lineage, From::Newest, ROWS);
        batch.append(&mut walk.rest().await?);
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
        for rows in together(bad.into_values().collect()) {
            let mut there = Vec::with_capacity(rows.len());
            for row in rows {
                if self.is_there(&row).await? {
                    self.seen.damaged.fetch_add(1, Ordering::Relaxed);
                    there.push(row);
                }
            }
            there.retain(|row| self.own.owns(row.partition));
            let repaired = self.repair(&there).await?;
            self.seen.repaired.fetch_add(repaired, Ordering::Relaxed);
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
                let is_whole = self.read(locator.class, locator.pack).await?;
                pass.packs.insert(locator.pack, is_whole);
                is_whole
            }
        };
        self.pay(ROW_BYTES).await;
        Ok(is_whole && pass.footers.fault(&self.reader.packs, row).await?.is_none())
    }

    async fn read(&self, class: Class, pack: PackId) -> Result<bool> {
        let examined = self.reader.packs.examine(class, pack).await?;
        self.seen.bytes.fetch_add(examined.bytes, Ordering::Relaxed);
        self.pay(examined.bytes).await;
        Ok(examined.faults.is_empty())
    }

    /// Waits until so many bytes may have been read.
    async fn pay(&self, bytes: u64) {
        let ahead = self.pace.pay(self.clock.monotonic_ms(), bytes, self.settings.bytes_per_second);
        if ahead >= SLEEP_MS_MIN {
            self.clock.sleep(ahead).await;
        }
    }
}

/// Rows whose records are written anew together: of one id and version only one, since rows in one pack
/// differ in nothing else.
fn together(rows: Vec<SnapshotRow>) -> Vec<Vec<SnapshotRow>> {
    let mut parts: Vec<Vec<SnapshotRow>> = Vec::new();
    for row in rows {
        let has_room = |part: &&mut Vec<SnapshotRow>| {
            let is_same = |other: &SnapshotRow| (&other.key, other.version) == (&row.key, row.version);
            part.len() < REPAIRS && !part.iter().any(is_same)
        };
        match parts.last_mut().filter(has_room) {
            Some(part) => part.push(row),
            None => parts.push(vec![row]),
        }
    }
    parts
}

/// A fault that repairing again in a later pass may not have.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Conflict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AggregateKey;
    use crate::store::index::suite::snapshot;

    #[test]
    fn streams_share_one_pace_and_idle_time_is_not_saved_up() {
        let pace = Pace::default();
        assert_eq!(pace.pay(10_000, 1_000, 1_000), 0, "a second is ahead");
        assert_eq!(pace.pay(10_000, 3_000, 1_000), 3_000, "another stream's");
        assert_eq!(pace.pay(12_000, 1_000, 1_000), 2_000, "the first one's again");
        assert_eq!(pace.pay(90_000, 2_000, 1_000), 1_000, "a minute of nothing is no minute ahead");
    }

    #[test]
    fn records_are_written_together_but_never_two_of_one_version() {
        let key = |id: &str| AggregateKey { kind: "order".into(), id: id.into() };
        let row = |id, version, n| snapshot(&key(id), 1, version, PackId([n; 16]));
        let mut rows = vec![row("a", 1, 1), row("a", 3, 1), row("b", 3, 1), row("b", 3, 2), row("b", 5, 2)];
        let lengths = |rows: Vec<SnapshotRow>| together(rows).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(rows.clone()), [3, 2]);
        assert_eq!(together(rows.clone()).concat(), rows, "all of them, in order");
        rows = (0..40).map(|version| row("a", version, 1)).collect();
        assert_eq!(lengths(rows), [16, 16, 8]);
    }
}
