//! What is kept of checkpoint packs, each kind of thing within bytes of its own: what was not used for
//! longest goes first. Tables that a partition of this process holds anyway are shared and take none.

use super::{Part, Summary};
use crate::codec::pack::Locator;
use crate::domain::ids::PackId;
use crate::domain::partition::Entries;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Bytes of tables that are kept: of a million entries.
const TABLES_BYTES_MAX: usize = 24 << 20;
/// Bytes of summaries that are kept: of some six million entries.
const SUMMARIES_BYTES_MAX: usize = 8 << 20;
/// Bytes of uncompressed blocks that are kept.
const BLOCKS_BYTES_MAX: usize = 8 << 20;

/// All that is kept of checkpoint packs.
#[derive(Default)]
pub(in crate::store) struct Kept(Mutex<Shelves>);

struct Shelves {
    summaries: Shelf<PackId, Summary>,
    tables: Shelf<(PackId, Part), Table>,
    /// Of checkpoints that this process wrote, as long as their partitions hold them.
    own: BTreeMap<(PackId, Part), (Arc<str>, Weak<Entries>)>,
    /// By pack and where the block starts in it.
    blocks: Shelf<(PackId, u64), Vec<u8>>,
}

/// The entries of one part of a pack, and their aggregates' type.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) kind: Arc<str>,
    pub(super) entries: Arc<Entries>,
}

impl Default for Shelves {
    fn default() -> Self {
        Self {
            summaries: Shelf::new(SUMMARIES_BYTES_MAX),
            tables: Shelf::new(TABLES_BYTES_MAX),
            own: BTreeMap::new(),
            blocks: Shelf::new(BLOCKS_BYTES_MAX),
        }
    }
}

impl Kept {
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().expect("no panic while it is held")
    }

    pub(super) fn summary(&self, pack: PackId) -> Option<Arc<Summary>> {
        self.shelves().summaries.get(&pack)
    }

    pub(super) fn keep_summary(&self, pack: PackId, summary: &Arc<Summary>) {
        let bytes = summary.heap_len() + size_of::<Summary>();
        self.shelves().summaries.keep(pack, summary, bytes);
    }

    pub(super) fn table(&self, pack: PackId, part: Part) -> Option<Table> {
        let mut shelves = self.shelves();
        let own = shelves.own.get(&(pack, part));
        let own = own.and_then(|(kind, entries)| Some((Arc::clone(kind), entries.upgrade()?)));
        match own {
            Some((kind, entries)) => Some(Table { kind, entries }),
            None => shelves.tables.get(&(pack, part)).map(|table| Table::clone(&table)),
        }
    }

    pub(super) fn keep_table(&self, pack: PackId, part: Part, table: &Table) {
        let bytes = table.entries.heap_bytes() + size_of::<Entries>();
        self.shelves().tables.keep((pack, part), &Arc::new(table.clone()), bytes);
    }

    /// Remembers a table that somebody else holds.
    pub(super) fn know_own(&self, pack: PackId, part: Part, kind: Arc<str>, entries: &Arc<Entries>) {
        let mut shelves = self.shelves();
        shelves.own.retain(|_, (_, entries)| entries.strong_count() > 0);
        shelves.own.insert((pack, part), (kind, Arc::downgrade(entries)));
    }

    pub(in crate::store) fn block(&self, locator: &Locator) -> Option<Arc<Vec<u8>>> {
        self.shelves().blocks.get(&(locator.pack, locator.frame_offset))
    }

    pub(in crate::store) fn keep_block(&self, locator: &Locator, block: &Arc<Vec<u8>>) {
        self.shelves().blocks.keep((locator.pack, locator.frame_offset), block, block.len());
    }
}

/// Things that were made, as many as fit; the one that was not used for longest goes first.
struct Shelf<K, T> {
    things: BTreeMap<K, Thing<T>>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, K>,
    bytes: usize,
    bytes_max: usize,
    uses: u64,
}

struct Thing<T> {
    used: u64,
    bytes: usize,
    thing: Arc<T>,
}

impl<K: Ord + Copy, T> Shelf<K, T> {
    fn new(bytes_max: usize) -> Self {
        Self { things: BTreeMap::new(), by_use: BTreeMap::new(), bytes: 0, bytes_max, uses: 0 }
    }

    fn get(&mut self, key: &K) -> Option<Arc<T>> {
        let kept = self.things.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(&std::mem::replace(&mut kept.used, self.uses));
        self.by_use.insert(self.uses, *key);
        Some(Arc::clone(&kept.thing))
    }

    /// Keeps it, unless it alone is too large.
    fn keep(&mut self, key: K, thing: &Arc<T>, bytes: usize) {
        self.let_go(&key);
        if bytes > self.bytes_max {
            return;
        }
        self.uses += 1;
        let kept = Thing { used: self.uses, bytes, thing: Arc::clone(thing) };
        self.bytes += bytes;
        self.things.insert(key, kept);
        self.by_use.insert(self.uses, key);
        while self.bytes > self.bytes_max {
            let Some((_, &oldest)) = self.by_use.first_key_value() else { return };
            self.let_go(&oldest);
        }
    }

    fn let_go(&mut self, key: &K) {
        let Some(gone) = self.things.remove(key) else { return };
        self.by_use.remove(&gone.used);
        self.bytes -= gone.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_lets_go_of_what_was_not_used_for_longest() {
        let mut shelf = Shelf::new(10);
        shelf.keep(1, &Arc::new("one"), 4);
        shelf.keep(2, &Arc::new("two"), 4);
        assert!(shelf.get(&1).is_some());
        shelf.keep(3, &Arc::new("three"), 4);
        assert_eq!((shelf.get(&1).is_some(), shelf.get(&2), shelf.bytes), (true, None, 8));
        shelf.keep(3, &Arc::new("smaller"), 1);
        assert_eq!(shelf.bytes, 5);
        shelf.keep(4, &Arc::new("too large"), 11);
        assert_eq!((shelf.get(&4), shelf.get(&1).is_some(), shelf.bytes), (None, true, 5));
    }
}
