//! Checkpoints at rest, as readers meet them: what a pack holds of one aggregate, and whole tables for owners
//! and lists.
//!
//! Kept, each within bytes of its own, what was used last: footers, tables, and of every footer that was read
//! a summary, which says for sure which aggregates the pack does not hold.
//!
//! COST: a question from rest goes through all live checkpoints, of which there may be hundreds with many
//! thousands of entries each. Their summaries fit memory where their footers do not, and send the question
//! to the few footers that matter.

use super::packs::Packs;
use crate::codec::compress::Algorithm;
use crate::codec::pack::{Class, Footer, Locator, Stretch};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AggregateKey, Lineage, Offset, PackId, PartitionNo, Timestamp};
use crate::domain::partition::{BodyAt, Entries, Entry, EntryRef, Epochs, FrameAt, LiveCheckpoint, reach};
use crate::domain::record::{RecordId, RecordKind};
use crate::domain::row::{CheckpointRow, PartitionKey};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of footers that are kept.
const FOOTERS_BYTES_MAX: usize = 16 << 20;
/// Bytes of uncompressed blocks that are kept.
const BLOCKS_BYTES_MAX: usize = 8 << 20;
/// Bytes of tables that are kept.
const TABLES_BYTES_MAX: usize = 8 << 20;
/// Bytes of summaries that are kept: of some three million entries.
const SUMMARIES_BYTES_MAX: usize = 4 << 20;
/// Bits of a summary for each entry, and how many of them each sets: one in a hundred questions about an
/// aggregate that is not there goes to the footer for nothing.
const FILTER_BITS: usize = 10;
const FILTER_HASHES: u64 = 7;

/// A partition's share of a pack.
type Part = (PartitionNo, Lineage);

/// What a live checkpoint holds of one aggregate, as rest tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where, and which versions.
    pub entry: EntryRef,
    /// Effective time of the last of them.
    pub effective_time: Timestamp,
}

impl Held {
    /// From a checkpoint's table.
    #[must_use]
    pub fn of(checkpoint: &LiveCheckpoint, id: &str) -> Option<Self> {
        let (_, entry) = checkpoint.entries.find(id)?;
        let effective_time = entry.effective_time;
        Some(Self { entry: checkpoint.entry_ref(&entry, None), effective_time })
    }

    /// The same where the log was cut at `end` before the low watermark had come so far; none if nothing of
    /// it is left.
    #[must_use]
    pub fn cut_at(mut self, end: Offset) -> Option<Self> {
        let cut = self.entry.ignore_from.map_or(end, |cut| cut.min(end));
        self.entry.ignore_from = Some(cut);
        (self.entry.first_offset < cut).then_some(self)
    }

    /// Whether some of its events were cut off: then it does not reach up to the version it names.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.entry.ignore_from.is_some_and(|cut| self.entry.last_offset >= cut)
    }
}

/// All that is kept of checkpoint packs.
#[derive(Default)]
pub(super) struct Kept(Mutex<Shelves>);

struct Shelves {
    footers: Shelf<PackId, Footer>,
    /// By pack and where the block starts in it.
    blocks: Shelf<(PackId, u64), Vec<u8>>,
    summaries: Shelf<PackId, Summary>,
    tables: Shelf<(PackId, Part), Entries>,
}

impl Default for Shelves {
    fn default() -> Self {
        Self {
            footers: Shelf::new(FOOTERS_BYTES_MAX),
            blocks: Shelf::new(BLOCKS_BYTES_MAX),
            summaries: Shelf::new(SUMMARIES_BYTES_MAX),
            tables: Shelf::new(TABLES_BYTES_MAX),
        }
    }
}

impl Kept {
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().expect("no panic while it is held")
    }

    pub(super) fn footer(&self, pack: PackId) -> Option<Arc<Footer>> {
        self.shelves().footers.get(&pack)
    }

    pub(super) fn keep_footer(&self, pack: PackId, footer: &Arc<Footer>) {
        self.shelves().footers.keep(pack, footer, footer.heap_len() + size_of::<Footer>());
    }

    pub(super) fn block(&self, locator: &Locator) -> Option<Arc<Vec<u8>>> {
        self.shelves().blocks.get(&(locator.pack, locator.frame_offset))
    }

    pub(super) fn keep_block(&self, locator: &Locator, block: &Arc<Vec<u8>>) {
        self.shelves().blocks.keep((locator.pack, locator.frame_offset), block, block.len());
    }
}

/// Things that were made, as many as fit; the one that was not used for longest goes first.
struct Shelf<K, T> {
    things: BTreeMap<K, Thing<T>>,
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
        Self { things: BTreeMap::new(), bytes: 0, bytes_max, uses: 0 }
    }

    fn get(&mut self, key: &K) -> Option<Arc<T>> {
        let kept = self.things.get_mut(key)?;
        self.uses += 1;
        kept.used = self.uses;
        Some(Arc::clone(&kept.thing))
    }

    /// Keeps it, unless it alone is too large.
    fn keep(&mut self, key: K, thing: &Arc<T>, bytes: usize) {
        self.bytes -= self.things.remove(&key).map_or(0, |same| same.bytes);
        if bytes > self.bytes_max {
            return;
        }
        self.uses += 1;
        let kept = Thing { used: self.uses, bytes, thing: Arc::clone(thing) };
        self.bytes += bytes;
        self.things.insert(key, kept);
        while self.bytes > self.bytes_max {
            let oldest = self.things.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key);
            let Some(oldest) = oldest.and_then(|key| self.things.remove(&key)) else { return };
            self.bytes -= oldest.bytes;
        }
    }
}

/// What a footer was found to be when all of it was looked at once.
struct Summary {
    /// What is known of each part, or why the footer cannot be used.
    parts: Result<BTreeMap<Part, Share>>,
    filter: Box<[u64]>,
}

/// A part of a footer as a whole.
#[derive(Clone, Debug, Default)]
struct Share {
    /// How many entries it has; none where ids are not unique.
    entries: Option<usize>,
    epochs: Epochs,
}

impl Summary {
    fn of(footer: &Footer) -> Self {
        let mut filter = vec![0; (footer.len() * FILTER_BITS).div_ceil(64)];
        let mut parts: BTreeMap<Part, (usize, Option<Seen>, Epochs)> = BTreeMap::new();
        let all = each(footer, |_, (kind, id), stretch| {
            for (word, bit) in filter_bits(filter.len(), kind, id) {
                filter[word] |= bit;
            }
            let part = parts.entry((stretch.partition, stretch.lineage));
            let (entries, last, epochs) = part.or_insert((0, Some(Seen::default()), Epochs::new()));
            *entries += 1;
            reach(epochs, stretch.leader_epoch, stretch.last_offset);
            if last.as_mut().is_some_and(|last| !last.follows(kind, id)) {
                *last = None;
            }
            Ok(())
        });
        let share = |(part, (entries, last, epochs)): (_, (usize, Option<Seen>, Epochs))| {
            (part, Share { entries: last.map(|_| entries), epochs })
        };
        let parts = all.map(|()| parts.into_iter().map(share).collect());
        Self { parts, filter: filter.into() }
    }

    /// Fails unless the footer is one that was written with this row.
    fn check(&self, row: &CheckpointRow) -> Result<()> {
        let parts = self.parts.as_ref().map_err(Clone::clone)?;
        let share = parts.get(&(row.key.partition, row.key.lineage));
        let entries = share.map_or(Some(0), |share| share.entries);
        let entries = entries.ok_or_else(|| Error::corrupt(NOT_WRITTEN))?;
        check_count(entries, row)
    }

    /// Leader epochs of the entries that this row tells of.
    fn epochs(&self, row: &CheckpointRow) -> Epochs {
        let share =
            self.parts.as_ref().ok().and_then(|parts| parts.get(&(row.key.partition, row.key.lineage)));
        share.map(|share| share.epochs.clone()).unwrap_or_default()
    }

    /// False only if the pack holds nothing of the aggregate.
    fn may_hold(&self, key: &AggregateKey) -> bool {
        filter_bits(self.filter.len(), &key.kind, &key.id).all(|(word, bit)| self.filter[word] & bit != 0)
    }

    fn heap_len(&self) -> usize {
        let parts = self.parts.as_ref().map_or(0, |parts| parts.len() * size_of::<(Part, Share)>());
        self.filter.len() * 8 + parts
    }
}

const NOT_WRITTEN: &str = "a checkpoint's footer is not one that was written";

/// The aggregate that was seen last of a part, which has one type: so ids that increase are unique.
#[derive(Default)]
struct Seen {
    kind: String,
    id: String,
}

impl Seen {
    fn follows(&mut self, kind: &str, id: &str) -> bool {
        let is_first = self.id.is_empty();
        let follows = is_first || (self.kind == kind && *self.id < *id);
        if is_first {
            self.kind.push_str(kind);
        }
        self.id.clear();
        self.id.push_str(id);
        follows
    }
}

/// Words and bits of a filter for one aggregate: a Bloom filter with double hashing.
fn filter_bits(words: usize, kind: &str, id: &str) -> impl Iterator<Item = (usize, u64)> {
    let first = crc32c::crc32c_append(crc32c::crc32c(kind.as_bytes()), id.as_bytes());
    // SUBTLE: a CRC of more bytes is a linear function of the one before, so the second is mixed instead.
    let mixed = u64::from(first).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (start, step) = (mixed >> 32, mixed & 0xffff_ffff | 1);
    let bits = (words * 64) as u64;
    (0..FILTER_HASHES).filter(move |_| bits > 0).map(move |n| {
        let at = (start + n * step) % bits;
        ((at / 64) as usize, 1 << (at % 64))
    })
}

/// All entries of a footer, by type and id. Fails if one of them needs a newer reader.
fn each(footer: &Footer, mut visit: impl FnMut(usize, (&str, &str), Stretch) -> Result<()>) -> Result<()> {
    let mut all = Ok(());
    for kind in footer.kinds() {
        footer.each_from(kind, "", |at, id| {
            let visited = footer.stretch(at).and_then(|stretch| visit(at, (kind, id), stretch));
            all = visited;
            all.is_ok()
        });
        all.clone()?;
    }
    all
}

fn check_count(entries: usize, row: &CheckpointRow) -> Result<()> {
    if entries == row.entries as usize {
        return Ok(());
    }
    Err(Error::corrupt("a checkpoint's footer and its row disagree about its entries"))
}

/// The entries of one part, by id.
fn table_of(footer: &Footer, part: Part) -> Result<Entries> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut epochs = Epochs::new();
    each(footer, |at, (_, id), stretch| {
        if (stretch.partition, stretch.lineage) == part {
            reach(&mut epochs, stretch.leader_epoch, stretch.last_offset);
            entries.push(entry_of(footer, at, id, &stretch)?);
        }
        Ok(())
    })?;
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    if entries.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return Err(Error::corrupt(NOT_WRITTEN));
    }
    Ok(Entries::from_sorted(entries).under(epochs))
}

/// Entry `at` of a footer as a table has it.
fn entry_of(footer: &Footer, at: usize, id: &str, stretch: &Stretch) -> Result<Entry> {
    let locator = footer.locator(at)?;
    if stretch.kind != RecordKind::Increment || locator.dictionary.is_some() {
        return Err(Error::corrupt("a checkpoint's entry needs a newer reader"));
    }
    Ok(Entry {
        id: id.into(),
        from: stretch.from,
        upto: stretch.upto,
        first_offset: stretch.first_offset,
        last_offset: stretch.last_offset,
        effective_time: stretch.effective_time,
        marked: stretch.is_quarantined,
        body: body_at(&locator),
    })
}

/// Where a checkpoint's entry has its body.
pub(super) fn body_at(locator: &Locator) -> BodyAt {
    let frame = FrameAt {
        offset: locator.frame_offset,
        len: locator.frame_len,
        raw_len: locator.frame_raw_len,
        algorithm: locator.algorithm.code(),
    };
    BodyAt { frame, start: locator.body_start, len: locator.body_len, crc: locator.crc }
}

/// The record of an entry, and where it is.
pub(super) fn locate(
    partition: &PartitionKey,
    key: &AggregateKey,
    entry: &EntryRef,
) -> Result<(RecordId, Locator)> {
    let id = RecordId {
        key: key.clone(),
        lineage: partition.lineage,
        upto_version: entry.upto,
        kind: RecordKind::Increment,
        from_version: entry.from,
    };
    let BodyAt { frame, start, len, crc } = entry.body;
    let locator = Locator {
        pack: entry.pack,
        class: Class::Checkpoint,
        frame_offset: frame.offset,
        frame_len: frame.len,
        frame_raw_len: frame.raw_len,
        algorithm: Algorithm::from_code(frame.algorithm)?,
        dictionary: None,
        body_start: start,
        body_len: len,
        crc,
        trail: None,
        inline: None,
    };
    Ok((id, locator))
}

impl Packs {
    /// What a live checkpoint holds of one aggregate, with the leader epochs of all that it holds of the
    /// partition.
    ///
    /// # Errors
    /// As for `table`.
    pub async fn held(&self, row: &CheckpointRow, key: &AggregateKey) -> Result<Option<(Held, Epochs)>> {
        let summary = self.summary(row.pack).await?;
        summary.check(row)?;
        if !summary.may_hold(key) {
            return Ok(None);
        }
        let footer = self.footer(row.pack).await?;
        for at in footer.find(&key.kind, &key.id) {
            let stretch = footer.stretch(at)?;
            if (stretch.partition, stretch.lineage) == (row.key.partition, row.key.lineage) {
                let entry = entry_of(&footer, at, &key.id, &stretch)?;
                let entry = EntryRef::of(row.pack, row.object_bytes, &entry);
                let held = Held { entry, effective_time: stretch.effective_time };
                return Ok(Some((held, summary.epochs(row))));
            }
        }
        Ok(None)
    }

    /// The table of one live checkpoint for one partition, from its footer.
    ///
    /// # Errors
    /// See `packs`.
    pub async fn table(&self, row: &CheckpointRow) -> Result<LiveCheckpoint> {
        let part = (row.key.partition, row.key.lineage);
        let kept = self.checkpoints.shelves().tables.get(&(row.pack, part));
        let entries = match kept {
            Some(entries) => entries,
            None => {
                let table = Arc::new(table_of(&*self.footer(row.pack).await?, part)?);
                self.checkpoints.shelves().tables.keep((row.pack, part), &table, table.heap_bytes());
                table
            }
        };
        check_count(entries.len(), row)?;
        Ok(LiveCheckpoint { pack: row.pack, object_bytes: row.object_bytes, entries, cut: None })
    }

    async fn summary(&self, pack: PackId) -> Result<Arc<Summary>> {
        let kept = self.checkpoints.shelves().summaries.get(&pack);
        if let Some(summary) = kept {
            return Ok(summary);
        }
        let summary = Arc::new(Summary::of(&*self.footer(pack).await?));
        let bytes = summary.heap_len() + size_of::<Summary>();
        self.checkpoints.shelves().summaries.keep(pack, &summary, bytes);
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pack::Class;
    use crate::domain::error::ErrorKind;
    use crate::domain::ids::Version;
    use crate::domain::partition::CheckpointItem;
    use crate::domain::record::{RawRecord, StoredEvent};
    use crate::domain::row::PartitionKey;
    use crate::store::blobs::{Blobs, MemoryBlobs};
    use crate::store::encode::NewEntry;
    use crate::store::index::MemoryIndex;
    use crate::store::packs::CompressionPlan;
    use futures_util::FutureExt;

    fn log(partition: i32) -> PartitionKey {
        PartitionKey { topic: "orders".into(), partition: PartitionNo(partition), lineage: Lineage(1) }
    }

    fn item(n: i64) -> CheckpointItem {
        let record = RawRecord { offset: Offset(n), value: Some(b"{}"[..].into()), ..RawRecord::default() };
        CheckpointItem {
            id: format!("o-{n:04}").as_str().into(),
            from: Version(n as u64),
            events: vec![StoredEvent { version: Version(n as u64 + 1), skipped: false, record }],
            mark: None,
            effective_time: Timestamp(n * 7),
        }
    }

    /// Goal: what a probe of the footer says is what the table says, whatever is kept. Method: one pack of
    /// two partitions that share ids; every id is asked for, some that are not there, and rows that lie.
    #[test]
    fn a_probe_answers_as_the_table_does() {
        let blobs = Arc::new(MemoryBlobs::new());
        let packs = || {
            let blobs = Arc::clone(&blobs) as Arc<dyn Blobs>;
            Packs::new(Arc::new(MemoryIndex::new()), blobs, CompressionPlan::default(), [7; 16])
        };
        let (pack, kind) = (PackId([3; 16]), Arc::<str>::from("order"));
        let sizes = [(0, 500), (1, 40)];
        let entries =
            sizes.into_iter().flat_map(|(partition, count)| (0..count).map(move |n| (partition, n)));
        let entries = entries.map(|(partition, n)| NewEntry::of_checkpoint(&log(partition), &kind, item(n)));
        let entries: Vec<NewEntry> = entries.collect::<Result<_>>().unwrap();
        let encoded = packs().encode(Class::Checkpoint, pack, Timestamp(0), entries).unwrap();
        blobs.put_new(&encoded.name, &encoded.bytes).now_or_never().unwrap().unwrap();
        let row = |partition, entries| CheckpointRow {
            key: log(partition),
            pack,
            first_offset: Offset(0),
            end_offset: Offset(500),
            entries,
            object_bytes: 9,
        };
        for (partition, count) in sizes {
            let (row, packs) = (row(partition, count as u32), packs());
            let held = |n: i64| {
                let key = AggregateKey { kind: Arc::clone(&kind), id: item(n).id };
                let held = packs.held(&row, &key).now_or_never().unwrap().unwrap();
                held.map(|(held, epochs)| {
                    assert_eq!(epochs, Epochs::from([(0, Offset(count - 1))]));
                    held
                })
            };
            let probed: Vec<Option<Held>> = (0..600).map(held).collect();
            let table = packs.table(&row).now_or_never().unwrap().unwrap();
            let told: Vec<Option<Held>> = (0..600).map(|n| Held::of(&table, &item(n).id)).collect();
            assert_eq!(probed, told);
            assert_eq!(probed.iter().flatten().count(), count as usize);
        }
        let key = AggregateKey { kind: Arc::clone(&kind), id: item(1).id };
        let packs = packs();
        for lie in [row(0, 499), row(1, 41), row(2, 1)] {
            let held = packs.held(&lie, &key).now_or_never().unwrap();
            let table = packs.table(&lie).now_or_never().unwrap();
            assert_eq!(held.unwrap_err(), table.unwrap_err());
        }
        let gone = CheckpointRow { pack: PackId([4; 16]), ..row(0, 500) };
        let held = packs.held(&gone, &key).now_or_never().unwrap();
        assert_eq!(held.unwrap_err().kind, ErrorKind::NotFound);
    }

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

    #[test]
    fn a_filter_finds_all_that_is_there_and_little_else() {
        let count = 5_000;
        let mut filter = vec![0; (count * FILTER_BITS).div_ceil(64)];
        let id = |n: usize| format!("order-{n:08}");
        for n in 0..count {
            for (word, bit) in filter_bits(filter.len(), "order", &id(n)) {
                filter[word] |= bit;
            }
        }
        let summary = Summary { parts: Ok(BTreeMap::new()), filter: filter.into() };
        let may_hold =
            |n: usize| summary.may_hold(&AggregateKey { kind: "order".into(), id: id(n).as_str().into() });
        assert!((0..count).all(may_hold));
        let wrong = (count..10 * count).filter(|n| may_hold(*n)).count();
        assert!(wrong < count * 9 / 50, "{wrong} of {}", 9 * count);
        assert_eq!(filter_bits(0, "order", "x").count(), 0);
    }

    #[test]
    fn ids_of_a_part_that_do_not_increase_are_noticed() {
        let mut seen = Seen::default();
        assert!(seen.follows("order", "a"));
        assert!(seen.follows("order", "b"));
        assert!(!seen.follows("order", "b"));
        assert!(!seen.follows("other", "c"));
    }
}
