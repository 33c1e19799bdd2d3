//! Garbage collection: deletes packs that nothing names (DESIGN rule 7).
//!
//! A pack is *garbage* if it is old enough, no row at quorum names any of its records, and none of them lies
//! where an owner may still write a row again; a checkpoint's pack, if no partition of its footer lists it.
//! Found so, it is *condemned*; found so again, a pass and some distance later, it is *doomed*: it goes.
//!
//! Why no pause, of whoever it may be, makes that wrong:
//! - whoever writes a pack writes its rows within the deadline of its flush, measured from before the pack was
//!   there, and does not count on a row that was acknowledged later. Age and distance are longer;
//! - an owner that writes a row again (rule 4) relies on it only if it lies at or beyond the low watermark, or
//!   overlaps a live checkpoint. Neither ever becomes true of a record of which it is not: the low watermark
//!   only grows, and new checkpoints begin at it. So a record below it, without such a checkpoint, that no row
//!   names will never be relied on, and until then its pack stays;
//! - a checkpoint's row is deleted, and that is acknowledged, for every partition of its footer, seen or not,
//!   before its pack goes (G1), and a late write of the row is older than that (T1);
//! - readers that planned before fall back (rule 6), or begin anew (L2).
//!
//! *Order*: lease, list of the condemned, then pack by pack: footer, rows; last the new list. *If it fails*:
//!   the pack stays, and so it does if it cannot be read or names what is not known here. *If cancelled*: the
//!   next pass begins anew. *What may leak*: nothing but time.
//! A pack that no row names although its versions are told by no other row is *orphaned*: perhaps the index
//! has lost them, and the pack is what it is rebuilt from. It stays for `orphan_ms`.
//! Two collectors at a time would do the same twice; the lease keeps that rare.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the pass: who goes, who stays |
//! | [`lease`] | one collector at a time, by the store's clock |
//! | [`condemned`] | what was found unnamed before, as objects |

mod condemned;
mod lease;

use crate::clock::Clock;
use crate::codec::pack::{Class, Footer, pack_name};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::RecordId;
use crate::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow};
use crate::store::index::{From, Index};
use crate::store::packs::Packs;
use crate::store::unavailable;
use condemned::Condemned;
use futures_util::future::BoxFuture;
use lease::Lease;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names that are listed in one go.
const PAGE: usize = 1_000;
/// Copies of a version that are looked at in one go.
const COPIES: usize = 16;
/// Entries of a checkpoint's pack that are looked for elsewhere before it goes.
const ENTRIES_LOOKED_AT: usize = 8;
/// Before a deletion that may have happened is repeated, and how often it is.
const RETRY_MS: u64 = 200;
const TRIES: usize = 20;

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
    /// A pack with versions that nothing else holds stays so long, whatever names it.
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
    /// Packs that cannot be judged, and stay.
    pub unknown: u64,
    /// Records of packs that are old enough, and those of them that no row names; every one of them only in
    /// a dry run.
    pub records: u64,
    /// Of these, dead ones.
    pub dead_records: u64,
    /// Bytes of their bodies, before compression.
    pub dead_bytes: u64,
}

/// What a pack is found to be.
enum Verdict {
    Live,
    Unknown,
    /// No row names it, and of a version of it no row tells at all.
    Orphaned,
    /// None of its records is named; of a checkpoint's pack the partitions that may list it.
    Garbage(Vec<PartitionKey>),
}

/// What was read of a partition in this pass.
struct Seen {
    low_watermark: Offset,
    checkpoints: Vec<CheckpointRow>,
}

/// One pass.
struct Pass<'a> {
    of: &'a Collector,
    mode: Mode,
    /// By the store's clock.
    now: Timestamp,
    lease: Option<Lease>,
    seen: BTreeMap<PartitionKey, Seen>,
    before: Condemned,
    after: Condemned,
    report: Report,
}

impl Collector {
    /// One pass over all packs; none if another collector is at work.
    ///
    /// # Errors
    /// A store that did not answer: what was not reached stays.
    pub async fn pass(&self, mode: Mode) -> Result<Option<Report>> {
        let blobs = &*self.packs.blobs;
        let lease = match mode {
            Mode::Collect => match Lease::take(blobs, &*self.clock, self.settings.lease_ms).await? {
                Some(lease) => Some(lease),
                None => return Ok(None),
            },
            Mode::DryRun => None,
        };
        let now = match &lease {
            Some(lease) => lease.taken_at(),
            None => lease::store_now(blobs, &*self.clock).await?,
        };
        self.packs.erasures.refresh().await?;
        let before = Condemned::read(blobs).await?;
        let after = Condemned::default();
        let report = Report::default();
        let mut pass = Pass { of: self, mode, now, lease, seen: BTreeMap::new(), before, after, report };
        for class in [Class::Full, Class::History, Class::Checkpoint] {
            if !pass.class(class).await? {
                // Somebody else is at work: what this pass condemned, that one finds as well.
                return Ok(Some(pass.report));
            }
        }
        if let Some(lease) = pass.lease {
            pass.after.write(blobs, &*self.clock).await?;
            lease.end(blobs).await;
        }
        Ok(Some(pass.report))
    }
}

/// The pack and when it was minted, by the name of its object.
fn pack_of(class: Class, name: &str) -> Option<PackId> {
    let id = name.rsplit('/').next()?.strip_suffix(".sfp")?;
    let bytes: Vec<u8> = (0..id.len() / 2)
        .map(|at| id.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<_>>()?;
    let pack = PackId(bytes.try_into().ok()?);
    (pack_name(class, pack) == name).then_some(pack)
}

impl Pass<'_> {
    /// All packs of a class; false if the lease was lost meanwhile.
    async fn class(&mut self, class: Class) -> Result<bool> {
        let prefix = format!("v1/{}/", class.name());
        let mut after: Option<String> = None;
        loop {
            let names = self.of.packs.blobs.list(&prefix, after.as_deref(), PAGE).await;
            let names = names.map_err(|error| unavailable("list packs", &error))?;
            let Some(last) = names.last() else { return Ok(true) };
            after = Some(last.clone());
            for name in names {
                let Some(pack) = pack_of(class, &name) else { continue };
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

    /// Whether rows of a pack that nothing tells of may be lost: of an old one somebody would have noticed.
    fn may_be_lost(&self, pack: PackId) -> bool {
        let orphan_ms = self.of.settings.orphan_ms;
        orphan_ms > 0 && self.is_younger(pack.minted_at(), orphan_ms)
    }

    async fn pack(&mut self, class: Class, pack: PackId, name: String) -> Result<()> {
        let condemned = self.before.at(&name);
        let is_due = condemned.is_some_and(|at| {
            let passed = u64::try_from(self.now.0.saturating_sub(at.0)).unwrap_or(0);
            passed >= self.of.settings.distance_ms
        });
        let verdict = match (condemned, mutant(Mutant::GcNotVerifiedAgain)) {
            (Some(_), true) => Verdict::Garbage(Vec::new()),
            _ => self.judge(class, pack).await?,
        };
        match verdict {
            Verdict::Live => self.report.live += 1,
            Verdict::Unknown => self.report.unknown += 1,
            Verdict::Orphaned => self.report.orphaned += 1,
            Verdict::Garbage(listing) if is_due || mutant(Mutant::GcOnePass) => {
                self.delete(pack, &name, listing).await?;
            }
            Verdict::Garbage(_) => {
                // Its name tells the writer's clock; the store's must agree that it is old.
                let taken = self.of.packs.blobs.modified(&name).await;
                let taken = taken.map_err(|error| unavailable("ask for a pack's age", &error))?;
                if self.is_young(taken) {
                    self.report.live += 1;
                    return Ok(());
                }
                self.report.condemned += 1;
                self.after.add(name, condemned.unwrap_or(self.now));
            }
        }
        Ok(())
    }

    async fn judge(&mut self, class: Class, pack: PackId) -> Result<Verdict> {
        let footer = match self.of.packs.footer_of(class, pack).await {
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

    async fn judge_records(&mut self, pack: PackId, footer: &Footer) -> Result<Verdict> {
        let (mut is_live, mut is_orphaned, len) = (false, false, footer.len());
        let may_be_lost = self.may_be_lost(pack);
        // Of a pack that is alive most records are: from anywhere, one read tells.
        let start = usize::from(pack.0[15]) % len.max(1);
        for at in (start..len).chain(0..start) {
            let (Ok(id), Ok(stretch)) = (footer.id(at), footer.stretch(at)) else {
                return Ok(Verdict::Unknown);
            };
            let Some(key) = self.partition(&id, stretch.partition) else { return Ok(Verdict::Unknown) };
            self.report.records += 1;
            let settled = self.is_settled(&key, (stretch.first_offset, stretch.last_offset)).await?;
            if !settled || self.is_named(&id, pack).await? {
                is_live = true;
                if self.mode == Mode::Collect {
                    break;
                }
            } else {
                self.report.dead_records += 1;
                self.report.dead_bytes += u64::from(stretch.body_len);
                is_orphaned |= may_be_lost && !is_orphaned && !self.is_told(&id).await?;
            }
        }
        Ok(match (is_live, is_orphaned) {
            (true, _) => Verdict::Live,
            (false, true) => Verdict::Orphaned,
            (false, false) => Verdict::Garbage(Vec::new()),
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
        for key in &listing {
            let listed = self.of.index.checkpoints(key).await;
            let listed = listed.map_err(|error| unavailable("list checkpoints", &error))?;
            if listed.iter().any(|row| row.pack == pack) && !mutant(Mutant::GcIgnoresCheckpointRows) {
                return Ok(Verdict::Live);
            }
        }
        // COST: an index that has lost its rows has lost most of them, so a few entries tell.
        let step = footer.len().div_ceil(ENTRIES_LOOKED_AT).max(1);
        if self.may_be_lost(pack) {
            for at in (0..footer.len()).step_by(step) {
                if let Ok(id) = footer.id(at)
                    && !self.is_told(&id).await?
                {
                    return Ok(Verdict::Orphaned);
                }
            }
        }
        Ok(Verdict::Garbage(listing.into_iter().collect()))
    }

    /// Whether the index tells of the last version of a record without it: then whoever took the record's row
    /// away meant it. Where it does not, rows may be lost, and packs are what an index is rebuilt from.
    async fn is_told(&self, id: &RecordId) -> Result<bool> {
        if mutant(Mutant::GcTrustsLostIndex) || self.of.packs.erasures.of(&id.key).is_some() {
            return Ok(true);
        }
        let version = id.upto_version;
        let above = From::Above(Version(version.0.saturating_sub(1)));
        let rows = self.of.index.snapshots(&id.key, id.lineage, above, COPIES).await;
        let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
        let is_thinned = self.of.thinned.contains(&id.key.kind);
        let tells = |row: &SnapshotRow| {
            row.version == version
                || row.version > version
                    && (is_thinned || row.kind != RecordKind::Full && row.from_version < version)
        };
        Ok(rows.iter().any(tells))
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
        let seen = match self.seen.entry(key.clone()) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(place) => {
                let marks = self.of.index.watermarks(key).await;
                let marks = marks.map_err(|error| unavailable("read the low watermark", &error))?;
                let low_watermark = marks.iter().map(|row| row.low_watermark).max().unwrap_or(Offset(0));
                let checkpoints = self.of.index.checkpoints(key).await;
                let checkpoints = checkpoints.map_err(|error| unavailable("list checkpoints", &error))?;
                place.insert(Seen { low_watermark, checkpoints })
            }
        };
        let overlaps = |row: &CheckpointRow| row.first_offset <= last && row.end_offset > first;
        Ok(last < seen.low_watermark && !seen.checkpoints.iter().any(overlaps))
    }

    /// Whether a row names this record in this pack.
    async fn is_named(&self, id: &RecordId, pack: PackId) -> Result<bool> {
        let (mut limit, version): (usize, Version) = (COPIES, id.upto_version);
        loop {
            let rows = self.of.index.snapshots(&id.key, id.lineage, From::AtOrBelow(version), limit).await;
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

    async fn delete(&mut self, pack: PackId, name: &str, listing: Vec<PartitionKey>) -> Result<()> {
        let blobs = &self.of.packs.blobs;
        let bytes = match blobs.get_tail(name, 0).await {
            Ok((_, bytes)) => bytes,
            Err(PortError::Missing) => return Ok(()),
            Err(error) => return Err(unavailable("ask for a pack's length", &error)),
        };
        if self.mode == Mode::Collect {
            // G1: what one replica still has of the row, or gets later, must not lead anyone to the pack.
            for key in listing.iter().filter(|_| !mutant(Mutant::GcLeavesCheckpointRows)) {
                self.repeat("delete a checkpoint row", || self.of.index.delete_checkpoint(key, pack)).await?;
            }
            self.repeat("delete a pack", || blobs.delete(name)).await?;
        }
        self.report.deleted += 1;
        self.report.freed_bytes += bytes;
        Ok(())
    }

    async fn repeat<'a>(
        &'a self,
        doing: &str,
        mut write: impl FnMut() -> BoxFuture<'a, PortResult<()>> + Send,
    ) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            match write().await {
                Ok(()) => return Ok(()),
                Err(error) if tries == TRIES => return Err(unavailable(doing, &error)),
                Err(_) => self.of.clock.sleep(RETRY_MS).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_known_by_their_names_and_nothing_else_is() {
        let pack = PackId::mint(Timestamp(1_700_000_000_000), [9; 10]);
        let name = pack_name(Class::History, pack);
        assert_eq!(pack_of(Class::History, &name), Some(pack));
        assert_eq!(pack_of(Class::Full, &name), None, "of another class");
        for other in
            ["v1/history/x.sfp", "v1/history/202311/00/zz.sfp", "v1/history/", &name[..name.len() - 4]]
        {
            assert_eq!(pack_of(Class::History, other), None, "{other}");
        }
    }
}
