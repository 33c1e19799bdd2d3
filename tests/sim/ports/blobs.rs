//! The `Blobs` of the world: one bucket and its archive, immutable objects, writes that land late, reads that
//! lie, and damage.
//!
//! Damage to what is stored is kept in a list: whoever judges an answer must know which history was taken
//! away.

use super::{Access, Gate, Op, Port};
use crate::executor::{ProcessId, lock};
use crate::stats::Count;
use futures_util::future::BoxFuture;
use snapfold::domain::ids::Timestamp;
use snapfold::domain::outcome::{PortError, PortResult};
use snapfold::store::blobs::{Blob, Blobs};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Reads in a row that the wire may spoil: one less than a reader tries.
const SPOILT_MAX: u32 = 2;

/// How a stored object was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// One bit flipped, for good.
    Flip,
    /// Gone.
    Loss,
}

#[derive(Default)]
struct Objects {
    stored: BTreeMap<String, Arc<[u8]>>,
    // When each was taken, by the store's clock, which nothing disturbs.
    taken: BTreeMap<String, u64>,
    damaged: Vec<(String, Damage)>,
    // How many reads in a row of one object the wire has spoilt for one process.
    spoilt: BTreeMap<(ProcessId, String), u32>,
}

/// The bucket of the world, and its archive; clones share them.
#[derive(Clone)]
pub(crate) struct Bucket {
    gate: Gate,
    objects: Arc<Mutex<Objects>>,
    archive: Arc<Mutex<Objects>>,
}

impl Bucket {
    /// An empty bucket.
    pub(crate) fn new(gate: Gate) -> Self {
        Self { gate, objects: Arc::default(), archive: Arc::default() }
    }

    /// The port of the bucket alone, for one process.
    pub(crate) fn port(&self, process: ProcessId) -> SimBlobs {
        SimBlobs { bucket: self.clone(), objects: Arc::clone(&self.objects), process, is_archive: false }
    }

    /// The port of the archive alone.
    pub(crate) fn archive_port(&self, process: ProcessId) -> SimBlobs {
        SimBlobs { bucket: self.clone(), objects: Arc::clone(&self.archive), process, is_archive: true }
    }

    /// All objects with their bytes, as whoever sees both as one reads them: for invariants.
    pub(crate) fn objects(&self) -> BTreeMap<String, Arc<[u8]>> {
        let mut all = self.archived();
        all.extend(lock(&self.objects).stored.clone());
        all
    }

    /// Those of the archive.
    pub(crate) fn archived(&self) -> BTreeMap<String, Arc<[u8]>> {
        lock(&self.archive).stored.clone()
    }

    /// True if anything was damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        !self.damaged().is_empty()
    }

    /// What was damaged, and how.
    pub(crate) fn damaged(&self) -> Vec<(String, Damage)> {
        let mut damaged = lock(&self.objects).damaged.clone();
        damaged.extend(lock(&self.archive).damaged.clone());
        damaged
    }

    /// Damages a random object whose name starts with `prefix`, in the archive where none is in the bucket;
    /// its name, if there is one.
    pub(crate) fn damage(&self, prefix: &str, damage: Damage) -> Option<String> {
        let is_archived = !lock(&self.objects).stored.keys().any(|name| name.starts_with(prefix));
        let mut objects = lock(if is_archived { &self.archive } else { &self.objects });
        let names: Vec<String> =
            objects.stored.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        if names.is_empty() {
            return None;
        }
        let name = self.gate.sim.draw(|rng| rng.pick(&names).clone());
        let stored = objects.stored.remove(&name)?;
        let count = match damage {
            Damage::Flip => {
                let mut bytes = stored.to_vec();
                self.flip(&mut bytes);
                objects.stored.insert(name.clone(), bytes.into());
                Count::DamageFlip
            }
            Damage::Loss => Count::DamageLoss,
        };
        objects.damaged.push((name.clone(), damage));
        self.gate.sim.count(count);
        self.gate.sim.note("damage", objects.damaged.len() as u64, damage as u64);
        Some(name)
    }

    fn may_spoil(&self, objects: &Mutex<Objects>, process: ProcessId, name: &str) -> bool {
        let mut objects = lock(objects);
        let spoilt = objects.spoilt.entry((process, name.to_owned())).or_default();
        *spoilt += 1;
        if *spoilt > SPOILT_MAX {
            *spoilt = 0;
        }
        *spoilt > 0
    }

    fn flip(&self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let (at, bit) = self.gate.sim.draw(|rng| (rng.index(bytes.len()), rng.below(8)));
            bytes[at] ^= 1 << bit;
        }
    }

    /// What the wire does to bytes that were read. Never more than [`SPOILT_MAX`] times in a row to one
    /// reader of one object: what never comes through is damage at rest, which the seed must know of.
    fn wire(&self, objects: &Mutex<Objects>, process: ProcessId, name: &str, bytes: &mut Vec<u8>) {
        let (flip, cut) = self.gate.plan(|plan| (plan.bit_flip, plan.truncated_read));
        let (flips, cuts) = self.gate.sim.draw(|rng| (rng.hits(flip), rng.hits(cut)));
        if (flips || cuts) && !self.may_spoil(objects, process, name) {
            return;
        }
        if !(flips || cuts) {
            lock(objects).spoilt.remove(&(process, name.to_owned()));
        }
        if flips && !bytes.is_empty() {
            self.gate.sim.count(Count::BitFlip);
            self.flip(bytes);
        }
        if cuts && !bytes.is_empty() {
            self.gate.sim.count(Count::TruncatedRead);
            let kept = self.gate.sim.draw(|rng| rng.index(bytes.len()));
            bytes.truncate(kept);
        }
    }
}

/// The `Blobs` port of one process.
pub(crate) struct SimBlobs {
    bucket: Bucket,
    objects: Arc<Mutex<Objects>>,
    process: ProcessId,
    is_archive: bool,
}

impl SimBlobs {
    /// Calls of the archive have names of their own, for scripts.
    fn op<'a>(&self, what: &'static str, access: Access, target: &'a str) -> Op<'a> {
        let what = match (self.is_archive, what) {
            (true, "put_new") => "archive.put_new",
            (true, "get_range") => "archive.get_range",
            (true, "get_tail") => "archive.get_tail",
            (true, "delete") => "archive.delete",
            _ => what,
        };
        Op { process: self.process, port: Port::Blobs, what, access, target, partition: None }
    }

    async fn bytes(&self, what: &'static str, name: &str) -> PortResult<Arc<[u8]>> {
        let (objects, owned) = (self.objects.clone(), name.to_owned());
        let found = move || lock(&objects).stored.get(&owned).cloned().ok_or(PortError::Missing);
        self.bucket.gate.perform(&self.op(what, Access::Read, name), found).await
    }
}

fn clamp(n: u64, len: usize) -> usize {
    usize::try_from(n).unwrap_or(len).min(len)
}

impl Blobs for SimBlobs {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            let (bucket, owned, bytes) = (self.bucket.clone(), name.to_owned(), Arc::<[u8]>::from(bytes));
            let (objects, is_archive) = (self.objects.clone(), self.is_archive);
            let put = move || {
                let mut objects = lock(&objects);
                if objects.stored.contains_key(&owned) {
                    bucket.gate.sim.count(Count::BlobExists);
                    return Err(PortError::Exists);
                }
                bucket.gate.sim.note("stored", bytes.len() as u64, 0);
                bucket.gate.sim.count(if is_archive { Count::PackCopied } else { Count::Flush });
                objects.taken.insert(owned.clone(), bucket.gate.sim.now());
                objects.stored.insert(owned, bytes);
                Ok(())
            };
            self.bucket.gate.perform(&self.op("put_new", Access::Write, name), put).await
        })
    }

    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        Box::pin(async move {
            let all = self.bytes("get_range", name).await?;
            let from = clamp(start, all.len());
            let to = clamp(start.saturating_add(len), all.len());
            let mut bytes = all[from..to].to_vec();
            self.bucket.wire(&self.objects, self.process, name, &mut bytes);
            Ok(bytes)
        })
    }

    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        Box::pin(async move {
            let all = self.bytes("get_tail", name).await?;
            let mut bytes = all[all.len() - clamp(len, all.len())..].to_vec();
            self.bucket.wire(&self.objects, self.process, name, &mut bytes);
            Ok((bytes, all.len() as u64))
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        Box::pin(async move {
            let (objects, prefix_owned) = (self.objects.clone(), prefix.to_owned());
            let after = after.map(str::to_owned);
            let list = move || {
                let objects = lock(&objects);
                let names = objects.stored.keys().filter(|name| name.starts_with(&prefix_owned));
                let later = names.filter(|name| after.as_ref().is_none_or(|after| *name > after));
                Ok(later.take(limit).cloned().collect())
            };
            self.bucket.gate.perform(&self.op("list", Access::Read, prefix), list).await
        })
    }

    fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        Box::pin(async move {
            let (objects, owned) = (self.objects.clone(), name.to_owned());
            let asked = move || {
                let objects = lock(&objects);
                let taken = objects.taken.get(&owned).filter(|_| objects.stored.contains_key(&owned));
                let wall = |taken: &u64| super::clock::wall(*taken);
                taken.map(wall).ok_or(PortError::Missing)
            };
            self.bucket.gate.perform(&self.op("modified", Access::Read, name), asked).await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            let (objects, owned) = (self.objects.clone(), name.to_owned());
            let delete = move || {
                lock(&objects).stored.remove(&owned);
                Ok(())
            };
            self.bucket.gate.perform(&self.op("delete", Access::Write, name), delete).await
        })
    }
}
