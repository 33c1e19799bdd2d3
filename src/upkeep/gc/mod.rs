//! Garbage collection: deletes packs that nothing names (DESIGN rule 7).
//!
//! A pack is *garbage* if it is old enough, no row at quorum names any of its records, and none of them lies
//! where an owner may still write a row again; a checkpoint's pack, if no partition of its footer lists it.
//! Found so, it is *condemned*; found so again, a pass and some distance later, it is *doomed*: it goes.
//!
//! Why no pause, of whoever it may be, makes that wrong:
//! - whoever writes a pack writes its rows within the deadline of its flush, measured from before the pack
//!   was there, and does not count on a row that was acknowledged later. Age and distance are longer;
//! - an owner that writes a row again (rule 4) relies on it only if it lies at or beyond the low watermark,
//!   or overlaps a live checkpoint. Neither ever becomes true of a record of which it is not: the low
//!   watermark only grows, and new checkpoints begin at it. So a record below it, without such a checkpoint,
//!   that no row names will never be relied on, and until then its pack stays;
//! - a checkpoint's row is deleted, and that is acknowledged, for every partition of its footer, seen or not,
//!   before its pack goes (G1), and a late write of the row is older than that (T1); so are the rows of the
//!   records of any other pack, by the deletion they went with, or as garbage. Those of the erased went
//!   before, and later ones are looked for by every pass;
//! - readers that planned before fall back (rule 6), or begin anew (L2).
//!
//! *Order*: lease, list of the condemned, then pack by pack: footer, rows; last the new list. *If it fails*:
//!   the pack stays, and so it does if it cannot be read or names what is not known here. What was found
//!   until then is kept, and what was not reached stays condemned since when it was. *If cancelled*: the next
//!   pass begins anew once the lease is over. *What may leak*: nothing but time.
//! A pack that no row names although its versions are told by no other row is *orphaned*: perhaps the index
//! has lost them, and the pack is what it is rebuilt from. It stays for `orphan_ms` from the pass that found
//! it so first, however old it is: the day on which rows were lost is what counts. Where more packs are
//! doomed than a share of them, none goes unless somebody says so ([`Mode::Forced`]): rows that went all at
//! once may be lost as well. Packs of checkpoints come and go, and are not counted, and neither is a pack of
//! which a fact says of each record that it is to go: its lineage was dropped, its aggregate erased, or its
//! row deleted by the ledger, so that no index will ever name it again.
//! What is of a lineage that was dropped is garbage whatever rows say, however late they came: they go before
//! their pack does, by its footer. Two collectors at a time
//! would do the same twice; the lease keeps that rare.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the pass: who goes, who stays |
//! | [`judge`] | what a pack is found to be |
//! | [`late`] | what was written of erased aggregates after all |
//! | [`condemned`] | what was found unnamed before, as objects |

mod condemned;
mod judge;
mod late;

use crate::clock::Clock;
use crate::codec::pack::{Class, named_pack};
use crate::domain::error::Result;
use crate::domain::ids::{LedgerId, PackId, Timestamp};
use crate::domain::ledger::DeletedRow;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::row::PartitionKey;
use crate::store::index::Index;
use crate::store::lineages::{self, Dropped};
use crate::store::packs::Packs;
use crate::store::unavailable;
use crate::upkeep::lease::{self, Duty, Lease};
use crate::upkeep::settled::{Settled, repeated};
use condemned::{Condemned, Why};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One collector at a time, by the store's clock.
const DUTY: Duty = Duty { folder: "gc", name: "garbage collection" };
/// Names that are listed in one go.
const PAGE: usize = 1_000;
/// Rows of a pack that are deleted at a time.
const DELETIONS_AT_ONCE: usize = 16;
/// The share of all packs that goes without being asked for, as one of so many, and how many always do.
const SHARE: u64 = 5;
const DOOMED_MAX: u64 = 100;
/// A turn is skipped if the last pass is younger than so many quarters of the interval: clocks differ, and a
/// pass takes time.
const QUARTERS: u64 = 3;

/// Delays of the collector.
#[derive(Clone, Copy, Debug)]
pub struct GcSettings {
    /// A pack that the store took less than so long ago stays.
    pub age_ms_min: u64,
    /// Between finding a pack unnamed and finding it so again.
    pub distance_ms: u64,
    /// A collector that was not heard of for so long is gone.
    pub lease_ms: u64,
    /// Between two packs: what a pass costs the stores at the most.
    pub pause_ms: u64,
    /// A pack with versions that no row tells of stays so long from when it was first found so.
    pub orphan_ms: u64,
}

impl Default for GcSettings {
    fn default() -> Self {
        let orphan_ms = 30 * 24 * 3_600_000;
        Self { age_ms_min: 24 * 3_600_000, distance_ms: 3_600_000, lease_ms: 600_000, pause_ms: 5, orphan_ms }
    }
}

/// Whether a pass deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Collect,
    /// It does, however many they are.
    Forced,
    /// It tells what it would do, needs no lease and looks at every record.
    DryRun,
}

/// Finds and deletes garbage in one blob store.
pub struct Collector {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Packs.
    pub packs: Arc<Packs>,
    /// Time of this process, for ids and pauses only.
    pub clock: Arc<dyn Clock>,
    /// The topic of each aggregate type: packs that hold others stay.
    pub topics: BTreeMap<Arc<str>, Arc<str>>,
    /// Types of which not every version is kept for ever.
    pub thinned: BTreeSet<Arc<str>>,
    /// Delays.
    pub settings: GcSettings,
}

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packs that were looked at, of all ages.
    pub packs: u64,
    /// Packs that rows name, or that are too young.
    pub live: u64,
    /// Packs that were found unnamed, and wait for the next pass.
    pub condemned: u64,
    /// Packs that went, or in a dry run would go.
    pub deleted: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Packs that no row names although nothing else holds their versions: the index may have lost rows.
    pub orphaned: u64,
    /// Packs that would have gone, but are too many to go without being asked for.
    pub withheld: u64,
    /// Packs that cannot be judged, and stay.
    pub unknown: u64,
    /// Rows and dead letters of erased aggregates that were written late, and went, or in a dry run would go.
    pub late: u64,
    /// Records of packs that are old enough, and those of them that no row names; every one of them only in
    /// a dry run.
    pub records: u64,
    /// Of these, dead ones.
    pub dead_records: u64,
    /// Bytes of their bodies, before compression.
    pub dead_bytes: u64,
}

/// What has to go before a pack may.
#[derive(Default)]
struct Doomed {
    /// The partitions that may list a checkpoint's pack.
    listing: Vec<PartitionKey>,
    /// Rows of dropped lineages that may name its records, each with the drop it goes by.
    rows: Vec<(DeletedRow, LedgerId)>,
    /// Rows that would name its records, and were not there.
    unnamed: Vec<DeletedRow>,
    /// A fact says of each of its records that it goes: somebody meant it.
    by_facts: bool,
}

/// What a pack is found to be.
enum Verdict {
    Live,
    Unknown,
    /// The same as garbage, but of a version of it no row tells at all.
    Orphaned(Doomed),
    /// None of its records is named by a row that counts.
    Garbage(Doomed),
}

/// One pass.
struct Pass<'a> {
    of: &'a Collector,
    mode: Mode,
    /// By the store's clock.
    now: Timestamp,
    lease: Option<Lease>,
    settled: Settled,
    /// By topic.
    dropped: BTreeMap<Arc<str>, Dropped>,
    before: Condemned,
    after: Condemned,
    /// More packs are doomed than may go without being asked for.
    withholds: bool,
    report: Report,
}

impl Collector {
    /// One pass over all packs, unless there was one within most of `every_ms`; none as for [`Self::pass`].
    ///
    /// # Errors
    /// As for [`Self::pass`].
    pub async fn turn(&self, every_ms: u64) -> Result<Option<Report>> {
        let blobs = &*self.packs.blobs;
        if let Some(last) = condemned::written_at(blobs).await? {
            let now = lease::store_now(DUTY, blobs, &*self.clock).await?;
            let passed = u64::try_from(now.0.saturating_sub(last.0)).unwrap_or(0);
            if passed < every_ms / 4 * QUARTERS {
                return Ok(None);
            }
        }
        self.pass(Mode::Collect).await
    }

    /// One pass over all packs; none if another collector is at work.
    ///
    /// # Errors
    /// A store that did not answer: what was not reached stays.
    pub async fn pass(&self, mode: Mode) -> Result<Option<Report>> {
        let blobs = &*self.packs.blobs;
        let lease = match mode {
            Mode::Collect | Mode::Forced => {
                match Lease::take(DUTY, blobs, &*self.clock, self.settings.lease_ms).await? {
                    Some(lease) => Some(lease),
                    None => return Ok(None),
                }
            }
            Mode::DryRun => None,
        };
        let now = match &lease {
            Some(lease) => lease.taken_at(),
            None => lease::store_now(DUTY, blobs, &*self.clock).await?,
        };
        let (before, after, report) = (Condemned::default(), Condemned::default(), Report::default());
        let (settled, dropped, withholds) = (Settled::default(), BTreeMap::new(), false);
        let mut pass =
            Pass { of: self, mode, now, lease, settled, dropped, before, after, withholds, report };
        let ended = pass.all().await;
        let Some(lease) = pass.lease.take() else { return ended.map(|_| Some(pass.report)) };
        // Of a lease that was lost nothing is written: what this pass found, whoever has it finds as well.
        let written = match &ended {
            Ok(End::Whole) => pass.after.write(blobs, &*self.clock).await,
            Ok(End::LeaseLost) => return Ok(Some(pass.report)),
            Err(_) if pass.report.packs == 0 => Ok(()),
            Err(_) => pass.after.over(pass.before).write(blobs, &*self.clock).await,
        };
        lease.end(blobs).await;
        ended.and(written)?;
        Ok(Some(pass.report))
    }

    /// Deletes a row of a pack that is about to go: by the deletion it went with, or as garbage.
    async fn delete_row(&self, row: &DeletedRow) -> Result<()> {
        let known = self.repeat(|| self.index.deletion(row)).await;
        let known = known.map_err(|error| unavailable("ask for a row's deletion", &error))?;
        let deletion = known.unwrap_or_else(|| LedgerId::of_garbage(row.pack));
        let deleted = self.repeat(|| self.index.delete_snapshot(row, deletion)).await;
        deleted.map_err(|error| unavailable("delete a row of a pack", &error))
    }

    /// Repeats a call until it is answered, or cannot be.
    async fn repeat<'b, T>(&self, call: impl Fn() -> BoxFuture<'b, PortResult<T>> + Send) -> PortResult<T> {
        repeated(&*self.clock, call).await
    }
}

/// How a pass ended.
enum End {
    /// All packs were looked at.
    Whole,
    /// Somebody else is at work.
    LeaseLost,
}

impl Pass<'_> {
    async fn all(&mut self) -> Result<End> {
        self.of.packs.erasures.refresh().await?;
        // First, so that packs are judged without it.
        self.report.late = self.of.take_late(self.mode).await?;
        for topic in self.of.topics.values() {
            let history = lineages::history(&*self.of.packs.blobs, topic).await?;
            self.dropped.insert(Arc::clone(topic), Dropped::of(&history));
        }
        self.before = Condemned::read(&*self.of.packs.blobs).await?;
        self.withholds = self.mode != Mode::Forced && self.are_too_many().await?;
        for class in [Class::Full, Class::History, Class::Checkpoint] {
            if !self.class(class).await? {
                return Ok(End::LeaseLost);
            }
        }
        Ok(End::Whole)
    }

    /// Whether more packs are doomed, if they are found unnamed again, than may go without being asked for.
    /// Those that go by facts are found so again before they go, and are not counted.
    async fn are_too_many(&self) -> Result<bool> {
        let is_doomed = |name: &str, at| self.is_due(at) && !name.starts_with(&prefix(Class::Checkpoint));
        let doomed = self.before.count(is_doomed);
        if doomed <= DOOMED_MAX {
            return Ok(false);
        }
        let mut packs = 0;
        for class in [Class::Full, Class::History] {
            let mut after: Option<String> = None;
            loop {
                let names = self.page(&prefix(class), after.as_deref()).await?;
                packs += names.len() as u64;
                after = names.into_iter().next_back();
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(doomed > packs / SHARE)
    }

    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>> {
        let names = self.of.repeat(|| self.of.packs.blobs.list(prefix, after, PAGE)).await;
        names.map_err(|error| unavailable("list packs", &error))
    }

    /// All packs of a class; false if the lease was lost meanwhile.
    async fn class(&mut self, class: Class) -> Result<bool> {
        let prefix = prefix(class);
        let mut after: Option<String> = None;
        loop {
            let names = self.page(&prefix, after.as_deref()).await?;
            let Some(last) = names.last() else { return Ok(true) };
            after = Some(last.clone());
            for name in names {
                let Some((_, pack)) = named_pack(&name) else { continue };
                self.report.packs += 1;
                if self.is_young(pack.minted_at()) {
                    self.report.live += 1;
                    continue;
                }
                if !self.may_go_on().await? {
                    return Ok(false);
                }
                self.pack(class, pack, name).await?;
                self.of.clock.sleep(self.of.settings.pause_ms).await;
            }
        }
    }

    async fn may_go_on(&mut self) -> Result<bool> {
        let clock = &*self.of.clock;
        match &mut self.lease {
            Some(lease) if !lease.holds(clock) => lease.renew(&*self.of.packs.blobs, clock).await,
            _ => Ok(true),
        }
    }

    fn is_young(&self, since: Timestamp) -> bool {
        self.is_younger(since, self.of.settings.age_ms_min) && !mutant(Mutant::GcYoungPacks)
    }

    fn is_younger(&self, since: Timestamp, ms: u64) -> bool {
        let age = self.now.0.saturating_sub(since.0);
        u64::try_from(age).map_or(true, |age| age < ms)
    }

    fn is_due(&self, condemned: Timestamp) -> bool {
        !self.is_younger(condemned, self.of.settings.distance_ms)
    }

    async fn pack(&mut self, class: Class, pack: PackId, name: String) -> Result<()> {
        let condemned = self.before.at(&name);
        let orphaned = self.before.orphaned_at(&name);
        let is_due = condemned.is_some_and(|at| self.is_due(at));
        let verdict = match (condemned, mutant(Mutant::GcNotVerifiedAgain)) {
            (Some(_), true) => Verdict::Garbage(Doomed::default()),
            _ => self.judge(class, pack).await?,
        };
        self.before.forget(&name);
        let doomed = match verdict {
            Verdict::Live => {
                self.report.live += 1;
                return Ok(());
            }
            Verdict::Unknown => {
                self.report.unknown += 1;
                return Ok(());
            }
            Verdict::Orphaned(doomed) => {
                let since = match mutant(Mutant::GcOrphansByAge) {
                    true => pack.minted_at(),
                    false => orphaned.unwrap_or(self.now),
                };
                self.after.add_orphan(name.clone(), since);
                if self.is_younger(since, self.of.settings.orphan_ms) {
                    self.report.orphaned += 1;
                    return Ok(());
                }
                doomed
            }
            Verdict::Garbage(doomed) => doomed,
        };
        if is_due && self.withholds && class != Class::Checkpoint && !doomed.by_facts {
            self.report.withheld += 1;
            self.after.add(name, condemned.unwrap_or(self.now), Why::NoRows);
            return Ok(());
        }
        let why = if doomed.by_facts { Why::Facts } else { Why::NoRows };
        if is_due || mutant(Mutant::GcOnePass) {
            let deleted = self.delete(pack, &name, &doomed).await;
            if let (Err(_), Some(since)) = (&deleted, condemned) {
                // Nothing was found that speaks for it.
                self.after.add(name, since, why);
            }
            return deleted;
        }
        self.condemn(name, condemned, why).await
    }

    async fn condemn(&mut self, name: String, before: Option<Timestamp>, why: Why) -> Result<()> {
        // Its name tells the writer's clock; the store's must agree that it is old.
        let of = self.of;
        let taken = of.repeat(|| of.packs.blobs.modified(&name)).await;
        let taken = taken.map_err(|error| unavailable("ask for a pack's age", &error))?;
        if self.is_young(taken) {
            self.report.live += 1;
            return Ok(());
        }
        self.report.condemned += 1;
        self.after.add(name, before.unwrap_or(self.now), why);
        Ok(())
    }

    async fn delete(&mut self, pack: PackId, name: &str, doomed: &Doomed) -> Result<()> {
        let (of, blobs) = (self.of, &self.of.packs.blobs);
        let bytes = match of.repeat(|| blobs.get_tail(name, 0)).await {
            Ok((_, bytes)) => bytes,
            Err(PortError::Missing) => return Ok(()),
            Err(error) => return Err(unavailable("ask for a pack's length", &error)),
        };
        if self.mode != Mode::DryRun {
            self.delete_rows(pack, doomed).await?;
            let deleted = of.repeat(|| blobs.delete(name)).await;
            deleted.map_err(|error| unavailable("delete a pack", &error))?;
        }
        self.report.deleted += 1;
        self.report.freed_bytes += bytes;
        Ok(())
    }

    /// G1: what one replica still has of a row, or gets later, must not lead anyone to the pack.
    async fn delete_rows(&self, pack: PackId, doomed: &Doomed) -> Result<()> {
        let of = self.of;
        for key in doomed.listing.iter().filter(|_| !mutant(Mutant::GcLeavesCheckpointRows)) {
            let deleted = of.repeat(|| of.index.delete_checkpoint(key, pack)).await;
            deleted.map_err(|error| unavailable("delete a checkpoint row", &error))?;
        }
        // A late row of a dropped lineage is found by its pack, and by nothing else.
        for (row, drop) in &doomed.rows {
            let deleted = of.repeat(|| of.index.delete_snapshot(row, *drop)).await;
            deleted.map_err(|error| unavailable("delete a row of a dropped lineage", &error))?;
        }
        // The two others are about delays alone: rows that lose to these deletions hide what they do.
        let leaves = [Mutant::GcLeavesSnapshotRows, Mutant::GcOnePass, Mutant::GcYoungPacks];
        if leaves.into_iter().any(mutant) {
            return Ok(());
        }
        // Of a write or a deletion that was never acknowledged a quorum need not tell (seed 766, counted).
        let deletions = doomed.unnamed.iter().map(|row| -> BoxFuture<'_, _> { Box::pin(of.delete_row(row)) });
        let deletions: Vec<_> = deletions.collect();
        stream::iter(deletions).buffer_unordered(DELETIONS_AT_ONCE).try_collect().await
    }
}

fn prefix(class: Class) -> String {
    format!("v1/{}/", class.name())
}

#[cfg(test)]
mod tests;
