//! Objects in memory: the twin that passes the same suite as the durable ones.
//!
//! *Order*: one lock, so every call is atomic. *If it fails*: only for what no implementation takes. *What
//! may leak*: all of it, when the process ends.

use super::{Blob, Blobs, check_name};
use crate::domain::ids::Timestamp;
use crate::domain::outcome::{PortError, PortResult};
use futures_util::future::{BoxFuture, FutureExt, lazy};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

/// Objects in memory.
#[derive(Default)]
pub struct MemoryBlobs {
    objects: Mutex<BTreeMap<String, Arc<[u8]>>>,
    /// The number of each object that is there: the time of a clock that ticks with each of them.
    taken: Mutex<(i64, BTreeMap<String, i64>)>,
}

impl MemoryBlobs {
    /// No objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<[u8]>>> {
        self.objects.lock().expect("no panic while it is held")
    }

    fn object(&self, name: &str) -> PortResult<Arc<[u8]>> {
        check_name(name)?;
        self.objects().get(name).cloned().ok_or(PortError::Missing)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PortResult<()> {
        check_name(name)?;
        match self.objects().entry(name.to_owned()) {
            Entry::Occupied(_) => Err(PortError::Exists),
            Entry::Vacant(place) => {
                place.insert(bytes.into());
                let mut taken = self.taken.lock().expect("no panic while it is held");
                taken.0 += 1;
                let now = taken.0;
                taken.1.insert(name.to_owned(), now);
                Ok(())
            }
        }
    }
}

/// A position in an object of `len` bytes.
fn clamp(at: u64, len: usize) -> usize {
    usize::try_from(at).unwrap_or(len).min(len)
}

impl Blobs for MemoryBlobs {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        lazy(|_| self.put(name, bytes)).boxed()
    }

    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        let range = move |object: Arc<[u8]>| {
            let end = clamp(start.saturating_add(len), object.len());
            object[clamp(start, object.len())..end].to_vec()
        };
        lazy(move |_| self.object(name).map(range)).boxed()
    }

    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        let tail = move |object: Arc<[u8]>| {
            let start = object.len() - clamp(len, object.len());
            (object[start..].to_vec(), object.len() as u64)
        };
        lazy(move |_| self.object(name).map(tail)).boxed()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        lazy(move |_| {
            let objects = self.objects();
            let names = objects.range::<str, _>((start, Bound::Unbounded)).map(|(name, _)| name);
            Ok(names.take_while(|name| name.starts_with(prefix)).take(limit).cloned().collect())
        })
        .boxed()
    }

    fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        lazy(move |_| {
            self.object(name)?;
            let taken = self.taken.lock().expect("no panic while it is held");
            taken.1.get(name).map(|at| Timestamp(*at)).ok_or(PortError::Missing)
        })
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        lazy(move |_| {
            check_name(name)?;
            self.objects().remove(name);
            Ok(())
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[test]
    fn the_memory_blobs_keep_the_promises_of_the_port() {
        suite::all(&MemoryBlobs::new()).now_or_never().expect("memory answers at once");
    }
}
