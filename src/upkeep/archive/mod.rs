//! Moving packs to the archive: `domain::archive` says which, by the types in their footers and their age.
//!
//! *Order*: lease; then pack by pack: footer, the whole pack, its copy, the copy read back, and only then the
//!   pack leaves the live store. A pack of which any byte is not what was written stays, so that damage on
//!   the way never becomes the only copy; so does one whose name in the archive holds anything else.
//! *If it fails*: the pack stays where it is, perhaps with a copy beside it, and the next pass goes on from
//!   there: a copy that is there already is compared like one's own. *If cancelled*: the same.
//! *What may leak*: two copies of a pack, until the next pass.
//!
//! Why two movers, or a mover beside garbage collection, are harmless: whoever deletes from the live store
//! has seen the same bytes in the archive before. A pack that is garbage may be deleted from both stores
//! between a mover's reading and its writing; then it comes to life in the archive, where garbage collection
//! finds it as it finds any pack. The lease spares work, no more.
//!
//! COST: of each pack that is old enough the footer is read, once in the life of a process if it has to stay;
//! of one that goes all bytes are read twice and written once.

use crate::clock::Clock;
use crate::codec::pack::{Class, named_pack};
use crate::domain::archive::{Policy, is_older};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{PackId, Timestamp};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::PortError;
use crate::store::blobs::archived::{ARCHIVED, ArchivedBlobs};
use crate::store::blobs::pair;
use crate::store::packs::Packs;
use crate::store::unavailable;
use crate::upkeep::lease::{self, Duty, Lease};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// One mover at a time, by the live store's clock.
const DUTY: Duty = Duty { folder: "archive", name: "archiving" };
/// Names that are listed in one go.
const PAGE: usize = 1_000;
/// How often a copy is read back until it is what was written: it may be damaged on the way.
const READS: usize = 3;
/// Packs in a row that could not be moved for want of an answer, after which a pass gives up.
const FAILED_MAX: u64 = 16;
/// Packs of which it is remembered from which age on they go: three megabytes.
const KNOWN_MAX: usize = 65_536;

/// Delays of the mover.
#[derive(Clone, Copy, Debug)]
pub struct ArchiveSettings {
    /// Packs that one pass moves at the most.
    pub packs_max: u64,
    /// Between two packs.
    pub pause_ms: u64,
    /// A mover that was not heard of for so long is gone.
    pub lease_ms: u64,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self { packs_max: 10_000, pause_ms: 5, lease_ms: 600_000 }
    }
}

/// Whether a pass moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Move,
    /// It tells what it would move, however many they are, and needs no lease.
    DryRun,
}

/// Moves packs from a live store to its archive.
pub struct Archiver {
    stores: Arc<ArchivedBlobs>,
    /// Of the live store alone.
    packs: Packs,
    clock: Arc<dyn Clock>,
    policy: Policy,
    settings: ArchiveSettings,
    /// From which age on packs go that are too young for what they hold; none for those that stay.
    known: Mutex<BTreeMap<PackId, Option<u64>>>,
}

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packs of the live store that were looked at, of all ages.
    pub packs: u64,
    /// Packs that are too young for all or some of what they hold, or hold what is never archived.
    pub stay: u64,
    /// Packs that went, or in a dry run would go.
    pub moved: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Packs that stay because they are damaged, or because their name in the archive holds other bytes.
    pub refused: u64,
    /// What is wrong with the first of these.
    pub problems: Vec<Error>,
    /// Packs that stay until a store answers.
    pub failed: u64,
    /// Whether there may be more that could go.
    pub has_more: bool,
}

/// Problems that are told.
const PROBLEMS_MAX: usize = 20;

impl Archiver {
    /// A mover between these stores. `packs` reads the live store alone.
    #[must_use]
    pub fn new(
        stores: Arc<ArchivedBlobs>,
        packs: Packs,
        clock: Arc<dyn Clock>,
        policy: Policy,
        settings: ArchiveSettings,
    ) -> Self {
        Self { stores, packs, clock, policy, settings, known: Mutex::default() }
    }

    /// One pass over the packs of the live store; none if another mover is at work.
    ///
    /// # Errors
    /// `Unavailable`: a store did not even answer which packs there are.
    pub async fn pass(&self, mode: Mode) -> Result<Option<Report>> {
        let (live, clock) = (&**self.stores.live(), &*self.clock);
        if mode == Mode::Move {
            pair::tie(live, &**self.stores.archive(), clock).await?;
        }
        let mut lease = match mode {
            Mode::Move => match Lease::take(DUTY, live, clock, self.settings.lease_ms).await? {
                Some(lease) => Some(lease),
                None => return Ok(None),
            },
            Mode::DryRun => None,
        };
        let now = match &lease {
            Some(lease) => lease.taken_at(),
            None => lease::store_now(DUTY, live, clock).await?,
        };
        let mut report = Report::default();
        let mut ended = Ok(());
        for class in ARCHIVED {
            ended = self.class(class, mode, now, &mut lease, &mut report).await;
            if ended.is_err() || report.has_more {
                break;
            }
        }
        if let Some(lease) = lease {
            lease.end(live).await;
        }
        ended.map(|()| Some(report))
    }

    async fn class(
        &self,
        class: Class,
        mode: Mode,
        now: Timestamp,
        lease: &mut Option<Lease>,
        report: &mut Report,
    ) -> Result<()> {
        let (prefix, live) = (format!("v1/{}/", class.name()), self.stores.live());
        let mut after: Option<String> = None;
        let mut failed = 0;
        loop {
            let names = live.list(&prefix, after.as_deref(), PAGE).await;
            let names = names.map_err(|error| unavailable("list packs", &error))?;
            let Some(last) = names.last() else { return Ok(()) };
            after = Some(last.clone());
            for name in names {
                let Some((_, pack)) = named_pack(&name) else { continue };
                report.packs += 1;
                if self.is_young(pack, now) {
                    report.stay += 1;
                    continue;
                }
                if let Some(held) = lease
                    && !held.holds(&*self.clock)
                    && !held.renew(&**live, &*self.clock).await?
                {
                    report.has_more = true;
                    return Ok(());
                }
                let outcome = self.pack(class, pack, &name, mode, now).await;
                let is_silent = matches!(&outcome, Err(error) if error.kind == ErrorKind::Unavailable);
                failed = if is_silent { failed + 1 } else { 0 };
                match outcome {
                    Ok(Outcome::Stays) => report.stay += 1,
                    Ok(Outcome::Gone) => {}
                    Ok(Outcome::Moved(bytes)) => {
                        report.moved += 1;
                        report.moved_bytes += bytes;
                    }
                    Err(error) if error.kind == ErrorKind::Unavailable => report.failed += 1,
                    Err(error) => {
                        report.refused += 1;
                        if report.problems.len() < PROBLEMS_MAX {
                            report.problems.push(error);
                        }
                    }
                }
                let is_full = mode == Mode::Move && report.moved >= self.settings.packs_max;
                if is_full || failed >= FAILED_MAX {
                    report.has_more = true;
                    return Ok(());
                }
                self.clock.sleep(self.settings.pause_ms).await;
            }
        }
    }

    /// Whether a pack is too young, as far as that is known without reading it.
    fn is_young(&self, pack: PackId, now: Timestamp) -> bool {
        let known = self.known.lock().expect("no panic while it is held").get(&pack).copied();
        let goes_after = known.unwrap_or_else(|| self.policy.earliest_ms());
        !goes_after.is_some_and(|ms| is_older(pack.minted_at(), now, ms))
    }

    fn know(&self, pack: PackId, goes_after: Option<u64>) {
        let mut known = self.known.lock().expect("no panic while it is held");
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(pack, goes_after);
    }

    async fn pack(
        &self,
        class: Class,
        pack: PackId,
        name: &str,
        mode: Mode,
        now: Timestamp,
    ) -> Result<Outcome> {
        let (footer, bytes) = match self.packs.footer_of(class, pack).await {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Outcome::Gone),
            read => read?,
        };
        let mut kinds = BTreeSet::new();
        for at in 0..footer.len() {
            kinds.insert(footer.id(at)?.key.kind);
        }
        let goes_after = self.policy.goes_after(kinds.iter().map(|kind| &**kind));
        if !goes_after.is_some_and(|ms| is_older(pack.minted_at(), now, ms)) {
            self.know(pack, goes_after);
            return Ok(Outcome::Stays);
        }
        match mode {
            Mode::Move => self.carry(class, pack, name).await,
            Mode::DryRun => Ok(Outcome::Moved(bytes)),
        }
    }

    async fn carry(&self, class: Class, pack: PackId, name: &str) -> Result<Outcome> {
        let (live, archive) = (self.stores.live(), self.stores.archive());
        let (examined, bytes) = self.packs.whole(class, pack).await?;
        if examined.is_missing {
            return Ok(Outcome::Gone);
        }
        if let Some(fault) = examined.faults.first().filter(|_| !mutant(Mutant::ArchiveUnproved)) {
            return Err(Error::corrupt(fault.clone()));
        }
        let delete = async || {
            let deleted = live.delete(name).await;
            deleted.map_err(|error| unavailable(&format!("delete `{name}`"), &error))
        };
        if mutant(Mutant::ArchiveDeletesFirst) {
            delete().await?;
        }
        match archive.put_new(name, &bytes).await {
            Ok(()) => {}
            Err(PortError::Exists) if mutant(Mutant::ArchiveTrustsExists) => {
                delete().await?;
                return Ok(Outcome::Moved(bytes.len() as u64));
            }
            // Another try's, or another mover's: it is compared like what was written here.
            Err(PortError::Exists) => {}
            Err(error) => return Err(unavailable(&format!("write `{name}` to the archive"), &error)),
        }
        self.compare(name, &bytes).await?;
        delete().await?;
        Ok(Outcome::Moved(bytes.len() as u64))
    }

    /// Reads a copy back, and finds it to be these bytes.
    async fn compare(&self, name: &str, bytes: &[u8]) -> Result<()> {
        for _ in 0..READS {
            match self.stores.archive().get_tail(name, u64::MAX).await {
                Ok((copy, _)) if copy == bytes => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(unavailable(&format!("read `{name}` in the archive"), &error)),
            }
        }
        Err(Error::corrupt(format!("the archive has other bytes under `{name}`: the pack stays")))
    }
}

/// What became of a pack.
enum Outcome {
    Stays,
    /// Somebody else moved or deleted it.
    Gone,
    Moved(u64),
}

#[cfg(test)]
mod tests;
