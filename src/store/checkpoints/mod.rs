//! Checkpoints at rest, as readers meet them: what a pack holds of one aggregate, and whole tables for owners
//! and lists.
//!
//! A footer is read once: its entries become tables, one for each partition, and a summary, which says for
//! sure which aggregates the pack does not hold. Those used last are kept, and uncompressed blocks.
//!
//! COST: a question from rest goes through all live checkpoints, of which there may be hundreds with many
//! thousands of entries each. Their summaries fit memory where their tables do not, and send the question
//! to the few tables that matter.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | footers read: summaries, tables, where a body is |
//! | `kept.rs` | what is kept of them |
//! | `gather.rs` | blocks that a flush needs, fetched with few calls |

mod gather;
mod kept;

pub(super) use kept::Kept;

use super::packs::Packs;
use crate::codec::compress::Algorithm;
use crate::codec::pack::{Class, Footer, Locator, Stretch};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AggregateKey, Lineage, Offset, PackId, PartitionNo, Timestamp};
use crate::domain::partition::{
    BodyAt, Entries, Entry, EntryRef, Epochs, FrameAt, LiveCheckpoint, TableWriter, reach,
};
use crate::domain::record::{RecordId, RecordKind};
use crate::domain::row::{CheckpointRow, PartitionKey};
use kept::Table;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bits of a summary for each entry, and how many of them each sets: one in a hundred questions about an
/// aggregate that is not there goes to the footer for nothing.
const FILTER_BITS: usize = 10;
const FILTER_HASHES: u64 = 7;

/// A partition's share of a pack.
pub(super) type Part = (PartitionNo, Lineage);

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

/// What a footer was found to be when all of it was read.
struct Summary {
    /// How many entries each part has, none where they are not as they are written; or why the footer cannot
    /// be used.
    parts: Result<BTreeMap<Part, Option<usize>>>,
    filter: Box<[u64]>,
}

impl Summary {
    /// Fails unless the footer is one that was written with this row.
    fn check(&self, row: &CheckpointRow) -> Result<()> {
        let parts = self.parts.as_ref().map_err(Clone::clone)?;
        let entries = parts.get(&part_of(row)).copied().unwrap_or(Some(0));
        check_count(entries.ok_or_else(|| Error::corrupt(NOT_WRITTEN))?, row)
    }

    /// False only if the pack holds nothing of the aggregate.
    fn may_hold(&self, key: &AggregateKey) -> bool {
        filter_bits(self.filter.len(), &key.kind, &key.id).all(|(word, bit)| self.filter[word] & bit != 0)
    }

    fn heap_len(&self) -> usize {
        let parts = self.parts.as_ref().map_or(0, |parts| parts.len() * size_of::<(Part, Option<usize>)>());
        self.filter.len() * 8 + parts
    }
}

const NOT_WRITTEN: &str = "a checkpoint's footer is not one that was written";

/// A part of a footer while it is read: one type, and ids that increase.
struct Reading {
    kind: Arc<str>,
    table: TableWriter,
    epochs: Epochs,
    is_written: bool,
}

/// A footer's summary and the tables of its parts.
fn read_all(footer: &Footer) -> (Summary, BTreeMap<Part, Table>) {
    let mut filter = vec![0; (footer.len() * FILTER_BITS).div_ceil(64)];
    let mut readings: BTreeMap<Part, Reading> = BTreeMap::new();
    let all = each(footer, |at, (kind, id), stretch| {
        for (word, bit) in filter_bits(filter.len(), kind, id) {
            filter[word] |= bit;
        }
        let reading = readings.entry((stretch.partition, stretch.lineage)).or_insert_with(|| Reading {
            kind: kind.into(),
            table: TableWriter::default(),
            epochs: Epochs::new(),
            is_written: true,
        });
        reach(&mut reading.epochs, stretch.leader_epoch, stretch.last_offset);
        reading.is_written &= *reading.kind == *kind;
        reading.is_written &= reading.table.try_push(&entry_of(footer, at, id, &stretch)?);
        Ok(())
    });
    let (mut counts, mut tables) = (BTreeMap::new(), BTreeMap::new());
    for (part, Reading { kind, table, epochs, is_written }) in readings {
        let entries = Arc::new(table.finish().under(epochs));
        counts.insert(part, is_written.then_some(entries.len()));
        if is_written && all.is_ok() {
            tables.insert(part, Table { kind, entries });
        }
    }
    (Summary { parts: all.map(|()| counts), filter: filter.into() }, tables)
}

fn part_of(row: &CheckpointRow) -> Part {
    (row.key.partition, row.key.lineage)
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
        // Without a summary the footer has to be read, and then its table is there.
        if self.checkpoints.table(row.pack, part_of(row)).is_none()
            && let Some(summary) = self.checkpoints.summary(row.pack)
        {
            summary.check(row)?;
            if !summary.may_hold(key) {
                return Ok(None);
            }
        }
        let Table { kind, entries } = self.part(row).await?;
        let Some((_, entry)) = entries.find(&key.id).filter(|_| kind == key.kind) else { return Ok(None) };
        let effective_time = entry.effective_time;
        let entry = EntryRef::of(row.pack, row.object_bytes, &entry);
        Ok(Some((Held { entry, effective_time }, entries.epochs().clone())))
    }

    /// The table of one live checkpoint for one partition, from its footer.
    ///
    /// # Errors
    /// See `packs`.
    pub async fn table(&self, row: &CheckpointRow) -> Result<LiveCheckpoint> {
        let Table { entries, .. } = self.part(row).await?;
        Ok(LiveCheckpoint { pack: row.pack, object_bytes: row.object_bytes, entries, cut: None })
    }

    async fn part(&self, row: &CheckpointRow) -> Result<Table> {
        let part = part_of(row);
        if let Some(table) = self.checkpoints.table(row.pack, part) {
            check_count(table.entries.len(), row)?;
            return Ok(table);
        }
        let (summary, mut tables) = self.read(row.pack).await?;
        summary.check(row)?;
        let nothing = || Table { kind: "".into(), entries: Arc::default() };
        Ok(tables.remove(&part).unwrap_or_else(nothing))
    }

    /// Reads a footer, and keeps what was made of it.
    async fn read(&self, pack: PackId) -> Result<(Arc<Summary>, BTreeMap<Part, Table>)> {
        let (summary, tables) = read_all(&self.footer(pack).await?);
        let summary = Arc::new(summary);
        self.checkpoints.keep_summary(pack, &summary);
        for (part, table) in &tables {
            self.checkpoints.keep_table(pack, *part, table);
        }
        Ok((summary, tables))
    }

    /// Shares the table of a checkpoint that was just written, for as long as its partition holds it.
    pub(super) fn know_own(&self, pack: PackId, key: &PartitionKey, kind: Arc<str>, entries: &Arc<Entries>) {
        self.checkpoints.know_own(pack, (key.partition, key.lineage), kind, entries);
    }
}

#[cfg(test)]
mod tests;
