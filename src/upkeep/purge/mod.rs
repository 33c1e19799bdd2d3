//! The purge: packs that hold records of erased aggregates are written anew without them, and of each erasure
//! it is told when nothing is left (`v1/purges/`, see `store::purges`).
//!
//! *Order*: lease; the list of erasures; then pack by pack, of all classes, by their footers: who is in it.
//!   Packs of snapshots are rewritten (see [`rewrite`]); those of checkpoints go by themselves, once what
//!   they hold is covered. Then of each erasure rows and dead letters that came late go, and last it is told
//!   that it is complete: no row, no dead letter and no object of the live store or its archive tells of it.
//! *If it fails*: the pack stays, and is looked at in the next pass; an erasure of which anything could not
//!   be looked at is not complete. *If cancelled*: the same. *What may leak*: second copies of records.
//!
//! An erasure is complete only once it is older than whatever was being written when it was asked for may
//! take (`settle_ms`): who writes reads the list every two seconds, and gives up a flush after ten minutes.
//! Somebody who was paused for longer may still bring an object; it is found by a later pass, which says so,
//! and then the erasure is not complete any more.
//!
//! Old packs go by garbage collection once no row names them. Two purges at a time would copy the same twice;
//! the lease keeps that rare.
//!
//! COST: while nobody was erased, one listing. Else each footer is read once after each new erasure, and
//! those of new packs after that: packs in which nothing was found are remembered.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the pass: who is in which pack, what is complete |
//! | [`rewrite`] | one pack |

mod rewrite;

use crate::clock::Clock;
use crate::codec::pack::{Class, Footer, erasure_name, named_pack};
use crate::codec::wire::from_hex;
use crate::domain::erasure::{Erasure, Purged};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, LedgerId, Lineage, PackId, Timestamp};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::PartitionKey;
use crate::store::ledger::Ledger;
use crate::store::purges::Standing;
use crate::store::{SnapshotStore, erased, lineages, purges, unavailable};
use crate::upkeep::lease::{self, Duty, Lease};
use crate::upkeep::settled::{Settled, repeated};
use rewrite::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// One purge at a time, by the store's clock.
const DUTY: Duty = Duty { folder: "purge", name: "the purge" };
/// Names that are listed in one go.
const PAGE: usize = 1_000;
/// Packs of which it is remembered that nothing of the erased is in them: three megabytes.
const CLEAN_MAX: usize = 65_536;
/// Packs that are told by name, for each lineage that they wait for.
const TOLD_MAX: usize = 20;

/// Delays of the purge.
#[derive(Clone, Copy, Debug)]
pub struct PurgeSettings {
    /// A purge that was not heard of for so long is gone.
    pub lease_ms: u64,
    /// Between two packs.
    pub pause_ms: u64,
    /// An erasure that the store took less than so long ago is not complete: longer than a flush may take.
    pub settle_ms: u64,
}

impl Default for PurgeSettings {
    fn default() -> Self {
        Self { lease_ms: 600_000, pause_ms: 5, settle_ms: 15 * 60_000 }
    }
}

/// Whether a pass writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Purge,
    /// It tells which packs hold records of erased aggregates, and needs no lease.
    DryRun,
}

/// Rewrites packs of one pair of stores.
pub struct Purge {
    store: Arc<SnapshotStore>,
    /// The topic of each aggregate type: packs that hold others wait.
    topics: BTreeMap<Arc<str>, Arc<str>>,
    /// Types whose dictionaries may hold what one aggregate alone says.
    traced: BTreeSet<Arc<str>>,
    settings: PurgeSettings,
    clean: Mutex<Clean>,
}

/// Packs that hold nothing of those who were erased then.
#[derive(Default)]
struct Clean {
    erasures: usize,
    packs: BTreeSet<PackId>,
}

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Erasures there are.
    pub erasures: u64,
    /// Packs that hold records of erased aggregates, of all classes.
    pub holding: u64,
    /// Of these, packs that were written anew without them.
    pub rewritten: u64,
    /// Records of others that moved with them.
    pub moved: u64,
    /// Of these, packs of which no row names a record of anybody: garbage.
    pub garbage: u64,
    /// Of these, packs that wait: checkpoints, and those with records that may not be moved yet.
    pub waiting: u64,
    /// Packs whose footers, or whose records of others, cannot be read.
    pub damaged: u64,
    /// Packs that stay until a store answers.
    pub failed: u64,
    /// Rows and dead letters of erased aggregates that were written late, and went.
    pub late: u64,
    /// Erasures of which this pass found that nothing is left.
    pub completed: u64,
    /// Erasures of which something is left.
    pub incomplete: u64,
    /// The lineages that packs wait for, by topic.
    pub waits: BTreeMap<(Arc<str>, Lineage), Waiting>,
    /// Types of erasures, or of records in packs of theirs, that this configuration does not have: whether
    /// such an erasure is complete others tell.
    pub foreign: BTreeSet<Arc<str>>,
}

/// Packs that wait for a lineage: for its low watermark to pass what they hold, or its checkpoints to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// What that lineage is; none if the topic's log of lineages does not tell of it.
    pub standing: Option<lineages::Standing>,
    /// How many they are.
    pub count: u64,
    /// The first of them, by name.
    pub packs: Vec<Box<str>>,
}

/// One pass.
struct Pass {
    mode: Mode,
    /// By the store's clock.
    now: Timestamp,
    lease: Option<Lease>,
    settled: Settled,
    /// Of whom something was found, and in which pack last.
    found: BTreeMap<AggregateKey, Box<str>>,
    /// Where they were found, beside where they are known to have been.
    logs: BTreeSet<PartitionKey>,
    /// How erasures stand.
    standing: BTreeMap<LedgerId, Standing>,
    /// What the lineages of each topic are.
    lineages: BTreeMap<(Arc<str>, Lineage), lineages::Standing>,
    report: Report,
}

impl Pass {
    /// Whether a lineage of a topic was dropped.
    fn is_dropped(&self, topic: Option<&Arc<str>>, lineage: Lineage) -> bool {
        let standing = topic.and_then(|topic| self.lineages.get(&(Arc::clone(topic), lineage)));
        matches!(standing, Some(lineages::Standing::Dropped(_)))
    }

    /// Notes that a pack waits for a lineage.
    fn waits_for(&mut self, topic: &Arc<str>, lineage: Lineage, name: &str) {
        let of = (Arc::clone(topic), lineage);
        let standing = self.lineages.get(&of).copied();
        let waiting = self.report.waits.entry(of).or_default();
        (waiting.standing, waiting.count) = (standing, waiting.count + 1);
        if waiting.packs.len() < TOLD_MAX {
            waiting.packs.push(name.into());
        }
    }
}

impl Purge {
    /// Who rewrites packs of the stores behind `store`.
    #[must_use]
    pub fn new(
        store: Arc<SnapshotStore>,
        topics: BTreeMap<Arc<str>, Arc<str>>,
        traced: BTreeSet<Arc<str>>,
        settings: PurgeSettings,
    ) -> Self {
        Self { store, topics, traced, settings, clean: Mutex::default() }
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            index: Arc::clone(&self.store.index),
            blobs: Arc::clone(&self.store.packs.blobs),
            clock: Arc::clone(&self.store.clock),
        }
    }

    fn clock(&self) -> &dyn Clock {
        &*self.store.clock
    }

    /// One pass over all packs; none if another purge is at work.
    ///
    /// # Errors
    /// A store that did not answer: what was not reached stays.
    pub async fn pass(&self, mode: Mode) -> Result<Option<Report>> {
        let (packs, clock) = (&self.store.packs, self.clock());
        packs.erasures.refresh().await?;
        let erasures = packs.erasures.all();
        if erasures.is_empty() {
            return Ok(Some(Report::default()));
        }
        let blobs = &*packs.blobs;
        let lease = match mode {
            Mode::Purge => match Lease::take(DUTY, blobs, clock, self.settings.lease_ms).await? {
                Some(lease) => Some(lease),
                None => return Ok(None),
            },
            Mode::DryRun => None,
        };
        let now = match &lease {
            Some(lease) => lease.taken_at(),
            None => lease::store_now(DUTY, blobs, clock).await?,
        };
        let standing = purges::standing(blobs).await?;
        let report = Report { erasures: erasures.len() as u64, ..Report::default() };
        let (settled, found, logs) = (Settled::default(), BTreeMap::new(), BTreeSet::new());
        let lineages = BTreeMap::new();
        let mut pass = Pass { mode, now, lease, settled, found, logs, standing, lineages, report };
        let ended = self.all(&mut pass, &erasures).await;
        if let Some(lease) = pass.lease.take() {
            lease.end(blobs).await;
        }
        ended.map(|()| Some(pass.report))
    }

    async fn all(&self, pass: &mut Pass, erasures: &[Arc<Erasure>]) -> Result<()> {
        {
            let mut clean = self.clean.lock().expect("no panic while it is held");
            if clean.erasures != erasures.len() || clean.packs.len() > CLEAN_MAX {
                *clean = Clean { erasures: erasures.len(), packs: BTreeSet::new() };
            }
        }
        for topic in self.topics.values() {
            let known = lineages::known(&lineages::history(&*self.store.packs.blobs, topic).await?);
            let of = known.iter().map(|known| ((Arc::clone(topic), known.lineage), known.standing));
            pass.lineages.extend(of);
        }
        for class in [Class::Full, Class::History, Class::Checkpoint] {
            if !self.class(class, pass, erasures).await? {
                pass.report.incomplete = erasures.len() as u64;
                return Ok(());
            }
        }
        self.close(pass, erasures).await
    }

    /// All packs of a class; false if the lease was lost meanwhile.
    async fn class(&self, class: Class, pass: &mut Pass, erasures: &[Arc<Erasure>]) -> Result<bool> {
        let (prefix, clock, blobs) =
            (format!("v1/{}/", class.name()), self.clock(), &*self.store.packs.blobs);
        let mut after: Option<String> = None;
        loop {
            let names = repeated(clock, || blobs.list(&prefix, after.as_deref(), PAGE)).await;
            let names = names.map_err(|error| unavailable("list packs", &error))?;
            let Some(last) = names.last() else { return Ok(true) };
            after = Some(last.clone());
            for name in names {
                let Some((_, pack)) = named_pack(&name) else { continue };
                if self.clean.lock().expect("no panic while it is held").packs.contains(&pack) {
                    continue;
                }
                if let Some(lease) = &mut pass.lease
                    && !lease.holds(clock)
                    && !lease.renew(blobs, clock).await?
                {
                    return Ok(false);
                }
                self.pack(class, pack, &name, pass, erasures).await?;
                clock.sleep(self.settings.pause_ms).await;
            }
        }
    }

    async fn pack(
        &self,
        class: Class,
        pack: PackId,
        name: &str,
        pass: &mut Pass,
        erasures: &[Arc<Erasure>],
    ) -> Result<()> {
        let footer = match self.store.packs.footer_of(class, pack).await {
            Ok((footer, _)) => footer,
            // Whoever deletes packs was here.
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind == ErrorKind::Unavailable => {
                pass.report.failed += 1;
                return Ok(());
            }
            Err(_) => {
                pass.report.damaged += 1;
                return Ok(());
            }
        };
        let held = held_by(&footer, erasures);
        if held.is_empty() {
            self.clean.lock().expect("no panic while it is held").packs.insert(pack);
            return Ok(());
        }
        pass.report.holding += 1;
        for erasure in &held {
            pass.found.insert(erasure.key.clone(), name.into());
            for at in footer.find(&erasure.key.kind, &erasure.key.id) {
                let Some(topic) = self.topics.get(&erasure.key.kind) else { continue };
                let Ok(stretch) = footer.stretch(at) else { continue };
                let (topic, partition, lineage) = (Arc::clone(topic), stretch.partition, stretch.lineage);
                pass.logs.insert(PartitionKey { topic, partition, lineage });
            }
        }
        if class == Class::Checkpoint {
            pass.report.waiting += 1;
            return self.checkpoint(pack, name, &footer, pass).await;
        }
        if pass.mode == Mode::DryRun {
            pass.report.waiting += 1;
            return Ok(());
        }
        match self.rewrite(class, pack, footer, pass).await {
            Ok(Outcome::Rewritten { to, records }) => {
                pass.report.rewritten += 1;
                pass.report.moved += records;
                for erasure in held {
                    let (from, to) = (name.into(), to.clone());
                    self.tell(pass, erasure.at, &Purged::Rewritten { from, to, records }).await?;
                }
            }
            Ok(Outcome::Garbage) => pass.report.garbage += 1,
            Ok(Outcome::Waits(of)) => {
                pass.report.waiting += 1;
                if let Some(of) = of {
                    pass.waits_for(&of.topic, of.lineage, name);
                }
            }
            Err(error) if error.kind == ErrorKind::Unavailable => pass.report.failed += 1,
            // Of what others have in it something cannot be read: `verify` tells what.
            Err(_) => pass.report.damaged += 1,
        }
        Ok(())
    }

    /// Notes for whom the pack of a checkpoint waits: who lists it.
    async fn checkpoint(&self, pack: PackId, name: &str, footer: &Footer, pass: &mut Pass) -> Result<()> {
        let mut logs: BTreeSet<PartitionKey> = BTreeSet::new();
        for at in 0..footer.len() {
            let (Ok(id), Ok(stretch)) = (footer.id(at), footer.stretch(at)) else { continue };
            match self.topics.get(&id.key.kind) {
                Some(topic) if !pass.is_dropped(Some(topic), id.lineage) => {
                    let (topic, partition, lineage) = (Arc::clone(topic), stretch.partition, id.lineage);
                    logs.insert(PartitionKey { topic, partition, lineage });
                }
                Some(_) => {}
                None => drop(pass.report.foreign.insert(id.key.kind)),
            }
        }
        let mut waits: BTreeSet<(Arc<str>, Lineage)> = BTreeSet::new();
        for log in logs {
            let ports = (&*self.store.index, &*self.store.clock);
            if pass.settled.lists(ports, &log, pack).await? {
                waits.insert((log.topic, log.lineage));
            }
        }
        waits.iter().for_each(|(topic, lineage)| pass.waits_for(topic, *lineage, name));
        Ok(())
    }

    /// Keeps a fact, named later than all that are known of its erasure.
    async fn tell(&self, pass: &mut Pass, erasure: LedgerId, fact: &Purged) -> Result<()> {
        let clock = self.clock();
        let last = pass.standing.get(&erasure).map(|standing| standing.last);
        let after = last.map_or(Timestamp(0), |last| Timestamp(last.minted_at().0 + 1));
        let at = LedgerId::mint(clock.now().max(after), clock.random());
        purges::keep(&*self.store.packs.blobs, erasure, at, fact).await?;
        let complete = match fact {
            Purged::Complete { .. } => Some(at),
            Purged::Found { .. } => None,
            Purged::Rewritten { .. } => pass.standing.get(&erasure).and_then(|standing| standing.complete),
        };
        pass.standing.insert(erasure, Standing { last: at, complete });
        Ok(())
    }

    /// Takes away what the index has of the erased, and tells of whom nothing is left.
    async fn close(&self, pass: &mut Pass, erasures: &[Arc<Erasure>]) -> Result<()> {
        let looked_at_all = pass.report.damaged == 0 && pass.report.failed == 0;
        let logs = self.logs(pass, erasures).await?;
        let (index, ledger) = (&*self.store.index, self.ledger());
        let keys: BTreeSet<&AggregateKey> = erasures.iter().map(|erasure| &erasure.key).collect();
        let letters = erased::letters_of(index, &logs, |key| keys.contains(key)).await?;
        let lettered: BTreeSet<AggregateKey> =
            letters.iter().filter_map(|letter| letter.aggregate.clone()).collect();
        pass.report.late += letters.len() as u64;
        if pass.mode == Mode::Purge {
            erased::blank(index, letters).await?;
        }
        for erasure in erasures {
            let rows = erased::rows_of(index, &logs, &erasure.key).await?;
            pass.report.late += rows.len() as u64;
            if pass.mode == Mode::Purge {
                erased::delete_rows(&ledger, &rows).await?;
            }
            let was_complete =
                pass.standing.get(&erasure.at).is_some_and(|standing| standing.complete.is_some());
            let found = pass.found.get(&erasure.key).filter(|_| !mutant(Mutant::PurgeEndsEarly)).cloned();
            let is_left = found.is_some() || !rows.is_empty() || lettered.contains(&erasure.key);
            if pass.mode == Mode::DryRun {
                pass.report.incomplete += u64::from(is_left || !was_complete);
                continue;
            }
            if let Some(pack) = found.filter(|_| was_complete) {
                self.tell(pass, erasure.at, &Purged::Found { pack }).await?;
            }
            // Where its rows and dead letters would be, this configuration does not know.
            let is_ours = self.topics.contains_key(&erasure.key.kind);
            if !is_ours && !was_complete {
                pass.report.foreign.insert(Arc::clone(&erasure.key.kind));
            }
            let may_end = !is_left && !was_complete && looked_at_all && is_ours;
            if may_end && self.is_settled(pass, erasure).await? {
                let dictionaries = self.dictionaries(&erasure.key.kind).await?;
                self.tell(pass, erasure.at, &Purged::Complete { dictionaries }).await?;
                pass.report.completed += 1;
                continue;
            }
            pass.report.incomplete += u64::from(is_left || !was_complete);
        }
        Ok(())
    }

    /// The logs in which there may be rows of the erased.
    async fn logs(&self, pass: &Pass, erasures: &[Arc<Erasure>]) -> Result<BTreeSet<PartitionKey>> {
        let mut logs = pass.logs.clone();
        for topic in self.topics.values().collect::<BTreeSet<_>>() {
            logs.extend(erased::logs_of(&*self.store.packs.blobs, topic).await?);
        }
        let of = |erasure: &Arc<Erasure>| {
            let topic = Arc::clone(self.topics.get(&erasure.key.kind)?);
            Some(PartitionKey { topic, partition: erasure.partition?, lineage: erasure.lineage })
        };
        logs.extend(erasures.iter().filter_map(of));
        Ok(logs)
    }

    /// Whether all that was being written when it was asked for has ended, by the store's clock.
    async fn is_settled(&self, pass: &Pass, erasure: &Erasure) -> Result<bool> {
        let (name, blobs) = (erasure_name(erasure.at), &*self.store.packs.blobs);
        let taken = repeated(self.clock(), || blobs.modified(&name)).await;
        let taken = taken.map_err(|error| unavailable("ask for an erasure's age", &error))?;
        let age = u64::try_from(pass.now.0.saturating_sub(taken.0)).unwrap_or(0);
        Ok(age >= self.settings.settle_ms)
    }

    /// The dictionaries that may hold what one aggregate of this type alone said.
    async fn dictionaries(&self, kind: &str) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while self.traced.contains(kind) {
            let blobs = &*self.store.packs.blobs;
            let names = repeated(self.clock(), || blobs.list("v1/dict/", after.as_deref(), PAGE)).await;
            let names = names.map_err(|error| unavailable("list dictionaries", &error))?;
            let Some(last) = names.last() else { break };
            after = Some(last.clone());
            found.extend(names.iter().filter_map(|name| from_hex(name.rsplit('/').next()?)).map(Digest));
        }
        Ok(found)
    }
}

/// Those of whom a pack holds records.
fn held_by(footer: &Footer, erasures: &[Arc<Erasure>]) -> Vec<Arc<Erasure>> {
    let holds = |erasure: &&Arc<Erasure>| !footer.find(&erasure.key.kind, &erasure.key.id).is_empty();
    erasures.iter().filter(holds).cloned().collect()
}

#[cfg(test)]
mod tests;
