//! A checkpoint's pack: all partitions' fresh events, and of each partition the row and the table.
//!
//! Invariants: as of `encode`. Each event is decoded from what was compressed and compared before it is let
//! go of (rule 8), while both are still at hand. Where frames end up in the object is laid out after that.

use super::flush::CheckpointPart;
use super::packs::{Class, Packs};
use crate::codec::body::{is_increment, put_increment};
use crate::codec::compress::Compression;
use crate::codec::pack::{Block, BlockPack, BlockWriter, FramePlace, Mark, pack_name};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Offset, PackId, Timestamp};
use crate::domain::partition::{BodyAt, CheckpointItem, Entries, Entry, Epochs, FrameAt, TableWriter, reach};
use crate::domain::record::{RecordId, RecordKind, RecordMeta};
use crate::domain::row::{CheckpointRow, PartitionKey};
use std::sync::Arc;

/// A checkpoint's pack that is ready to be written.
pub struct EncodedCheckpoint {
    /// Its object's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The row of each part, in the order of the parts.
    pub(super) rows: Vec<CheckpointRow>,
    /// The type and the table of each part.
    pub(super) tables: Vec<(Arc<str>, Arc<Entries>)>,
}

/// One part on its way into the pack. Its blocks hold no other part's records: whoever reads on in a
/// partition needs all of a block.
struct Lane {
    partition: PartitionKey,
    kind: Arc<str>,
    items: Vec<CheckpointItem>,
    /// Items of the open block.
    open: Vec<usize>,
    table: TableWriter,
    epochs: Epochs,
    /// Its least and its greatest offset.
    reach: Option<(Offset, Offset)>,
}

impl Packs {
    /// Encodes a checkpoint.
    ///
    /// # Errors
    /// `Invalid` if an item cannot be stored, `Internal` if what was encoded does not read back.
    pub fn encode_checkpoint(
        &self,
        pack: PackId,
        now: Timestamp,
        mut parts: Vec<CheckpointPart>,
    ) -> Result<EncodedCheckpoint> {
        for part in &mut parts {
            // Of whoever is erased nothing has to be covered: the partition starts again without it, or has.
            // A part of nobody else stays what it is, for no row tells of nothing; it is let go of at once.
            let erased = self.erasures.ids(&part.kind);
            if part.items.iter().any(|item| !erased.contains(&item.id)) {
                part.items.retain(|item| !erased.contains(&item.id));
            }
        }
        let order = in_order(&parts);
        let mark =
            |part: &CheckpointPart| Some(Mark { kind: Arc::clone(&part.kind), row: part.mark.clone()? });
        let marks = parts.iter().filter_map(mark).collect();
        let mut lanes: Vec<Lane> = parts.into_iter().map(Lane::new).collect();
        // It lives for minutes, and its records are written once more when they become snapshots.
        let fast = Compression { level: 1, ..self.compression() };
        let header = self.header(Class::Checkpoint, pack, now);
        let mut writer = BlockWriter::new(header, fast, lanes.len(), order.len())?;
        writer.mark(marks);
        for place in order {
            let lane = &mut lanes[place.lane];
            let item = &lane.items[place.item];
            let put = |block: &mut Vec<u8>| put_increment(block, &item.events, item.mark.as_ref(), &item.id);
            let is_full = writer.add(place.lane, &lane.meta(item), put)?;
            lane.open.push(place.item);
            if is_full && let Some(block) = writer.close(place.lane)? {
                lane.take(&block)?;
            }
        }
        for (number, lane) in lanes.iter_mut().enumerate() {
            if let Some(block) = writer.close(number)? {
                lane.take(&block)?;
            }
        }
        let BlockPack { bytes, frames } = writer.finish()?;
        let (rows, tables) = lanes.into_iter().map(|lane| lane.finish(pack, &frames)).unzip();
        Ok(EncodedCheckpoint { name: pack_name(Class::Checkpoint, pack), bytes, rows, tables })
    }
}

/// An item, and what it is sorted by.
struct Place {
    /// Number of its type, in order.
    kind: usize,
    /// What its id says after all that the ids have in common.
    prefix: u64,
    id: Arc<str>,
    lane: usize,
    item: usize,
}

/// The items in the order in which a footer has them.
///
/// COST: mostly the prefixes differ, so that few of the ids are looked at.
fn in_order(parts: &[CheckpointPart]) -> Vec<Place> {
    let mut kinds: Vec<&Arc<str>> = parts.iter().map(|part| &part.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let ids = || parts.iter().flat_map(|part| part.items.iter().map(|item| &item.id));
    let Some(one) = ids().next() else { return Vec::new() };
    let shared = ids().fold(one.len(), |shared, id| {
        one.bytes().zip(id.bytes()).take(shared).take_while(|(a, b)| a == b).count()
    });
    let mut places = Vec::with_capacity(ids().count());
    for (lane, part) in parts.iter().enumerate() {
        let kind = kinds.partition_point(|kind| **kind < part.kind);
        let place = |(item, of): (usize, &CheckpointItem)| {
            let mut prefix = [0; 8];
            prefix.iter_mut().zip(of.id.bytes().skip(shared)).for_each(|(to, byte)| *to = byte);
            Place { kind, prefix: u64::from_be_bytes(prefix), id: Arc::clone(&of.id), lane, item }
        };
        places.extend(part.items.iter().enumerate().map(place));
    }
    // An id that occurs in two partitions has a record for each.
    let record = |place: &Place| {
        let part = &parts[place.lane];
        let (lineage, entry) = (part.partition.lineage, part.items[place.item].entry());
        (lineage, entry.upto, entry.from, part.partition.partition)
    };
    places.sort_unstable_by(|a, b| {
        let by_prefix = (a.kind, a.prefix).cmp(&(b.kind, b.prefix));
        by_prefix.then_with(|| a.id.cmp(&b.id)).then_with(|| record(a).cmp(&record(b)))
    });
    places
}

impl Lane {
    fn new(part: CheckpointPart) -> Self {
        Self {
            partition: part.partition,
            kind: part.kind,
            items: part.items,
            open: Vec::new(),
            table: TableWriter::default(),
            epochs: Epochs::new(),
            reach: None,
        }
    }

    /// What the footer says of an item.
    fn meta(&self, item: &CheckpointItem) -> RecordMeta {
        let entry = item.entry();
        RecordMeta {
            id: RecordId {
                key: AggregateKey { kind: Arc::clone(&self.kind), id: Arc::clone(&item.id) },
                lineage: self.partition.lineage,
                upto_version: entry.upto,
                kind: RecordKind::Increment,
                from_version: entry.from,
            },
            partition: self.partition.partition,
            first_offset: entry.first_offset,
            last_offset: entry.last_offset,
            leader_epoch: leader_epoch(item),
            effective_time: entry.effective_time,
            chain: None,
            state_digest: None,
            is_deleted: false,
            is_quarantined: entry.marked,
            trail: None,
        }
    }

    /// Takes the open block's items into the table, and lets go of their events: all of them read back.
    fn take(&mut self, block: &Block<'_>) -> Result<()> {
        for (at, body) in std::mem::take(&mut self.open).into_iter().zip(block.bodies) {
            let item = &mut self.items[at];
            let raw = &block.raw[body.start as usize..][..body.len as usize];
            if !is_increment(raw, &item.events, item.mark.as_ref(), &item.id)? {
                return Err(internal("what was encoded does not read back"));
            }
            // Where the frame will be is not known yet: its number stands for it.
            let frame = FrameAt { offset: block.frame as u64, ..FrameAt::default() };
            let body = BodyAt { frame, start: body.start, len: body.len, crc: body.crc };
            let entry = Entry { body, ..item.entry() };
            if !self.table.try_push(&entry) {
                return Err(internal("an aggregate is twice in a checkpoint"));
            }
            reach(&mut self.epochs, leader_epoch(item), entry.last_offset);
            let (first, last) = self.reach.unwrap_or((entry.first_offset, entry.last_offset));
            self.reach = Some((first.min(entry.first_offset), last.max(entry.last_offset)));
            drop(std::mem::take(&mut item.events));
        }
        Ok(())
    }

    fn finish(self, pack: PackId, frames: &[FramePlace]) -> (CheckpointRow, (Arc<str>, Arc<Entries>)) {
        let (first, last) = self.reach.unwrap_or_default();
        let row = CheckpointRow {
            key: self.partition,
            pack,
            first_offset: first,
            end_offset: last.next(),
            entries: u32::try_from(self.items.len()).expect("a checkpoint has fewer than 2^32 entries"),
            object_bytes: 0,
        };
        let place = |number: FrameAt| {
            let frame = &frames[number.offset as usize];
            FrameAt {
                offset: frame.offset,
                len: frame.len,
                raw_len: frame.raw_len,
                algorithm: frame.algorithm.code(),
            }
        };
        let table = self.table.finish_placed(place).under(self.epochs);
        (row, (self.kind, Arc::new(table)))
    }
}

/// Leader epoch of what an item ends with.
fn leader_epoch(item: &CheckpointItem) -> i32 {
    let marked = item.mark.as_ref().map(|mark| mark.leader_epoch);
    let last = item.events.last().map(|event| event.record.leader_epoch);
    marked.or(last).unwrap_or(-1)
}

fn internal(detail: &str) -> Error {
    Error::new(ErrorKind::Internal, "corrupt", detail)
}
