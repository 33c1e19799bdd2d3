//! Two stores as one: the live one, which everybody writes to, and an archive, which one duty moves old packs
//! to. Whoever reads, lists or deletes sees the objects of both.
//!
//! *Order*: an object is in the archive before it leaves the live store, and it never goes back. So whoever
//!   looks into the live store first, and then into the archive, cannot miss it; the other way round both
//!   looks can miss it. The same holds for listing. Once an object was found in the archive the live store
//!   is not asked again.
//! *If it fails*: an error of either store is the answer; only "missing" leads from one to the other.
//! *What may leak*: an object in both stores, which is read from the live one. A pack that garbage collection
//!   deletes while it is being copied may come to life in the archive; it is listed there, and found again.
//!
//! - Writing goes to the live store alone: names are never used twice, so nobody writes one that is archived.
//!   A late try of a write whose object has moved puts the same bytes there again, and they move again.
//! - The time of an archived object is that of its copy: later than its own, so whoever waits for an age
//!   (garbage collection) waits longer, never shorter.

use super::{Blob, Blobs};
use crate::codec::pack::Class;
use crate::domain::ids::Timestamp;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::{PortError, PortResult};
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

/// What packs that may be archived are named by.
const FOLDERS: &[&str] = &["v1/full/", "v1/history/"];
/// Classes of packs that may be archived: checkpoints are read by every owner, and gone within minutes.
pub const ARCHIVED: [Class; 2] = [Class::Full, Class::History];
/// Names that are remembered, twice over: half a megabyte.
const REMEMBERED: usize = 4_096;

/// Names that were found in the archive: the older half goes when the newer one is full.
#[derive(Default)]
struct Remembered {
    newer: BTreeSet<Arc<str>>,
    older: BTreeSet<Arc<str>>,
}

impl Remembered {
    fn has(&self, name: &str) -> bool {
        self.newer.contains(name) || self.older.contains(name)
    }

    fn add(&mut self, name: &str) {
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(name.into());
    }

    fn forget(&mut self, name: &str) {
        self.newer.remove(name);
        self.older.remove(name);
    }
}

/// Where an object was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Live,
    Archive,
}

/// A live store and its archive.
pub struct ArchivedBlobs {
    live: Arc<dyn Blobs>,
    archive: Arc<dyn Blobs>,
    folders: &'static [&'static str],
    remembered: Mutex<Remembered>,
}

impl ArchivedBlobs {
    /// `live` and `archive` as one store; of names that are not packs' the archive is not asked.
    #[must_use]
    pub fn new(live: Arc<dyn Blobs>, archive: Arc<dyn Blobs>) -> Self {
        Self { live, archive, folders: FOLDERS, remembered: Mutex::default() }
    }

    /// What everybody writes to.
    #[must_use]
    pub fn live(&self) -> &Arc<dyn Blobs> {
        &self.live
    }

    /// What old packs are moved to.
    #[must_use]
    pub fn archive(&self) -> &Arc<dyn Blobs> {
        &self.archive
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().expect("no panic while it is held")
    }

    fn may_hold(&self, name: &str) -> bool {
        self.folders.iter().any(|folder| name.starts_with(folder)) && !mutant(Mutant::ArchivedForgotten)
    }

    /// Whether names with this prefix may be archived.
    fn may_list(&self, prefix: &str) -> bool {
        let may = |folder: &&str| prefix.starts_with(folder) || folder.starts_with(prefix);
        self.folders.iter().any(may) && !mutant(Mutant::ArchiveUnlisted)
    }

    /// Asks the store that has an object.
    async fn read<'a, T>(
        &'a self,
        name: &'a str,
        ask: impl Fn(&'a dyn Blobs) -> BoxFuture<'a, PortResult<T>>,
    ) -> PortResult<(T, Place)> {
        let may_hold = self.may_hold(name);
        if may_hold && (self.remembered().has(name) || mutant(Mutant::ArchiveReadFirst)) {
            match ask(&*self.archive).await {
                // It was deleted; or, by somebody else, brought back: all begins anew.
                Err(PortError::Missing) => self.remembered().forget(name),
                read => return Ok((read?, Place::Archive)),
            }
        }
        match ask(&*self.live).await {
            // INVARIANT: the archive is asked last. What was not in the live store a moment ago has been in
            // the archive since before that.
            Err(PortError::Missing) if may_hold && !mutant(Mutant::ArchiveReadFirst) => {}
            read => return Ok((read?, Place::Live)),
        }
        let read = ask(&*self.archive).await?;
        self.remembered().add(name);
        Ok((read, Place::Archive))
    }
}

impl Blobs for ArchivedBlobs {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        self.live.put_new(name, bytes)
    }

    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        Box::pin(async move { Ok(self.read(name, |blobs| blobs.get_range(name, start, len)).await?.0) })
    }

    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        Box::pin(async move { Ok(self.read(name, |blobs| blobs.get_tail(name, len)).await?.0) })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        if !self.may_list(prefix) {
            return self.live.list(prefix, after, limit);
        }
        Box::pin(async move {
            // One after the other, not at once: see the module.
            let mut names = self.live.list(prefix, after, limit).await?;
            let archived = self.archive.list(prefix, after, limit).await?;
            names.extend(archived.into_iter().filter(|name| self.may_hold(name)));
            names.sort_unstable();
            names.dedup();
            names.truncate(limit);
            Ok(names)
        })
    }

    fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        Box::pin(async move { Ok(self.read(name, |blobs| blobs.modified(name)).await?.0) })
    }

    fn is_archived<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<bool>> {
        Box::pin(async move {
            if !self.may_hold(name) || self.remembered().has(name) {
                return Ok(self.may_hold(name));
            }
            match self.read(name, |blobs| blobs.get_tail(name, 0)).await {
                Ok((_, place)) => Ok(place == Place::Archive),
                Err(PortError::Missing) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            self.live.delete(name).await?;
            if self.may_hold(name) {
                self.archive.delete(name).await?;
                self.remembered().forget(name);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryBlobs, suite};
    use super::*;
    use futures_util::FutureExt;

    /// Every object moves as far as its name says, right after it was written: not at all, half, or wholly.
    struct Moving {
        both: ArchivedBlobs,
        stage: fn(&str) -> usize,
    }

    fn two() -> ArchivedBlobs {
        let (live, archive) = (Arc::new(MemoryBlobs::new()), Arc::new(MemoryBlobs::new()));
        ArchivedBlobs::new(live, archive)
    }

    impl Blobs for Moving {
        fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
            Box::pin(async move {
                // Only tests write a name that is archived.
                if self.both.archive.get_tail(name, 0).await.is_ok() {
                    return Err(PortError::Exists);
                }
                self.both.put_new(name, bytes).await?;
                let stage = (self.stage)(name);
                if stage > 0 {
                    self.both.archive.put_new(name, bytes).await?;
                }
                if stage > 1 {
                    self.both.live.delete(name).await?;
                }
                Ok(())
            })
        }
        fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
            self.both.get_range(name, start, len)
        }
        fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
            self.both.get_tail(name, len)
        }
        fn list<'a>(
            &'a self,
            prefix: &'a str,
            after: Option<&'a str>,
            limit: usize,
        ) -> BoxFuture<'a, PortResult<Vec<String>>> {
            self.both.list(prefix, after, limit)
        }
        fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
            self.both.modified(name)
        }
        fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
            self.both.delete(name)
        }
    }

    fn now<T>(asked: BoxFuture<'_, T>) -> T {
        asked.now_or_never().expect("memory answers at once")
    }

    #[test]
    fn two_stores_keep_the_promises_of_one_however_far_objects_have_moved() {
        let stages: [fn(&str) -> usize; 4] = [
            |_| 0,
            // The times of two stores are those of two clocks.
            |name| if name.starts_with("time/") { 0 } else { 1 },
            |name| if name.starts_with("time/") { 0 } else { 2 },
            |name| {
                if name.starts_with("time/") { 0 } else { name.bytes().map(usize::from).sum::<usize>() % 3 }
            },
        ];
        for stage in stages {
            let both = ArchivedBlobs { folders: &[""], ..two() };
            suite::all(&Moving { both, stage }).now_or_never().expect("memory answers at once");
        }
    }

    #[test]
    fn an_object_is_found_wherever_it_is_and_only_packs_are_looked_for_in_the_archive() {
        let (both, pack) = (two(), "v1/full/202401/0a/a.sfp");
        now(both.put_new(pack, b"pack")).unwrap();
        assert_eq!(now(both.is_archived(pack)), Ok(false));
        now(both.archive.put_new(pack, b"pack")).unwrap();
        assert_eq!(now(both.is_archived(pack)), Ok(false), "the live store has it still");
        now(both.live.delete(pack)).unwrap();
        assert_eq!(now(both.get_tail(pack, 2)), Ok((b"ck".to_vec(), 4)));
        assert_eq!(now(both.is_archived(pack)), Ok(true));
        now(both.archive.put_new("v1/dict/a", b"strange")).unwrap();
        assert_eq!(now(both.get_tail("v1/dict/a", 9)), Err(PortError::Missing));
        assert_eq!(now(both.list("v1/", None, 9)), Ok(vec![pack.to_owned()]));
        now(both.archive.delete(pack)).unwrap();
        assert_eq!(now(both.get_range(pack, 0, 9)), Err(PortError::Missing), "what was remembered is gone");
        assert_eq!(now(both.is_archived(pack)), Ok(false));
    }

    #[test]
    fn names_that_are_remembered_are_bounded() {
        let mut remembered = Remembered::default();
        (0..3 * REMEMBERED).for_each(|nth| remembered.add(&format!("{nth}")));
        let held = remembered.newer.len() + remembered.older.len();
        assert!(held <= 2 * REMEMBERED && remembered.has(&format!("{}", 3 * REMEMBERED - 1)), "{held}");
        assert!(!remembered.has("0"));
    }
}
