//! The table of one checkpoint's entries of one partition, sorted by aggregate id: what its footer says, kept
//! small, because a worker holds the tables of all live checkpoints (a million entries are some 25 MB).
//!
//! COST: ids share their beginnings with the id before them (front coding, as in the footer), with a restart
//! every [`RESTART`] entries, and numbers are differences: a search looks at few restarts and then walks.

use crate::domain::ids::{Offset, Timestamp, Version};
use crate::domain::text::Text;
use std::collections::BTreeMap;

/// Entries from one restart to the next.
const RESTART: usize = 16;

/// What a checkpoint holds of one aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Aggregate id.
    pub id: Text,
    /// It holds the events of versions `from + 1 ..= upto`; the two are equal if it only carries a quarantine
    /// mark.
    pub from: Version,
    /// Version of its last event.
    pub upto: Version,
    /// Offset of its first event, or of the event behind the mark.
    pub first_offset: Offset,
    /// Offset of its last event or of the event behind the mark, whichever is later.
    pub last_offset: Offset,
    /// Effective time of `upto`.
    pub effective_time: Timestamp,
    /// It carries a quarantine mark.
    pub marked: bool,
    /// Where its body is.
    pub body: BodyAt,
}

/// Where a body is in the object of its pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyAt {
    /// The frame that it was compressed with.
    pub frame: FrameAt,
    /// Its first byte in the uncompressed frame.
    pub start: u32,
    /// Its bytes.
    pub len: u32,
    /// Checksum of record and body.
    pub crc: u32,
}

/// Where a frame is, and how it is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameAt {
    /// Its first byte in the object.
    pub offset: u64,
    /// Its bytes as stored.
    pub len: u32,
    /// Its bytes uncompressed.
    pub raw_len: u32,
    /// Code of its compression.
    pub algorithm: u8,
}

/// Leader epochs and the highest offset that was reached under each; few.
pub type Epochs = BTreeMap<i32, Offset>;

/// An offset was reached under this epoch; an unknown one (-1) says nothing.
pub fn reach(epochs: &mut Epochs, epoch: i32, offset: Offset) {
    if epoch >= 0 {
        let last = epochs.entry(epoch).or_default();
        *last = offset.max(*last);
    }
}

/// The entries of one checkpoint and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// One entry after the other, as [`TableWriter`] writes them.
    packed: Vec<u8>,
    restarts: Vec<Restart>,
    frames: Vec<FrameAt>,
    len: usize,
    /// What offsets and times are differences from.
    base: (Offset, Timestamp),
    epochs: Epochs,
}

/// Where an entry starts that can be read without those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Restart {
    at: u32,
    /// Number of the frame of the entry before, and where its body ends in it.
    frame: u32,
    end: u32,
}

const MARKED: u8 = 1;
const NEXT_FRAME: u8 = 2;

/// Makes a table of entries that come one after the other, sorted by id.
#[derive(Debug, Default)]
pub struct TableWriter {
    table: Entries,
    /// Id of the entry before, and where its body ends in its frame.
    id: Text,
    end: u32,
}

impl TableWriter {
    /// Adds an entry. False, and nothing is added, if its id does not follow on the one before.
    ///
    /// # Panics
    /// If the table would take more than 4 GiB.
    #[must_use]
    pub fn try_push(&mut self, entry: &Entry) -> bool {
        let table = &mut self.table;
        if table.len == 0 {
            table.base = (entry.first_offset, entry.effective_time);
        } else if *self.id >= *entry.id {
            return false;
        }
        let is_restart = table.len.is_multiple_of(RESTART);
        if is_restart {
            table.restarts.push(Restart {
                at: u32::try_from(table.packed.len()).expect("a table is smaller than 4 GiB"),
                frame: u32::try_from(table.frames.len()).expect("fewer frames than entries"),
                end: self.end,
            });
        }
        let (bytes, before) = (entry.id.as_bytes(), self.id.as_bytes());
        let shared = bytes.iter().zip(before).take_while(|(a, b)| a == b && !is_restart).count();
        let is_next_frame = table.frames.last() != Some(&entry.body.frame);
        if is_next_frame {
            table.frames.push(entry.body.frame);
            self.end = 0;
        }
        let out = &mut table.packed;
        varint(out, shared as u64);
        varint(out, (bytes.len() - shared) as u64);
        out.extend_from_slice(&bytes[shared..]);
        out.push((u8::from(entry.marked) * MARKED) | (u8::from(is_next_frame) * NEXT_FRAME));
        varint(out, entry.from.0);
        varint(out, entry.upto.0.wrapping_sub(entry.from.0));
        varint(out, zigzag(entry.first_offset.0.wrapping_sub(table.base.0.0)));
        varint(out, zigzag(entry.last_offset.0.wrapping_sub(entry.first_offset.0)));
        varint(out, zigzag(entry.effective_time.0.wrapping_sub(table.base.1.0)));
        varint(out, u64::from(entry.body.start.wrapping_sub(self.end)));
        varint(out, u64::from(entry.body.len));
        out.extend_from_slice(&entry.body.crc.to_le_bytes());
        self.end = entry.body.start.wrapping_add(entry.body.len);
        self.id.clear();
        self.id.push_str(&entry.id);
        table.len += 1;
        true
    }

    /// The table.
    #[must_use]
    pub fn finish(self) -> Entries {
        self.finish_placed(|frame| frame)
    }

    /// The table, with each frame where `place` says: where frames are may be known last.
    #[must_use]
    pub fn finish_placed(self, place: impl Fn(FrameAt) -> FrameAt) -> Entries {
        let mut table = self.table;
        table.frames.iter_mut().for_each(|frame| *frame = place(*frame));
        table.packed.shrink_to_fit();
        table.restarts.shrink_to_fit();
        table.frames.shrink_to_fit();
        table
    }
}

/// Reads a table from a restart on.
struct Walk<'a> {
    table: &'a Entries,
    /// Number of the entry that comes next.
    at: usize,
    rest: &'a [u8],
    id: Vec<u8>,
    /// Frames that were met, and where the last body ends.
    frames: usize,
    end: u32,
}

impl<'a> Walk<'a> {
    /// Before the first entry of the `nth` restart.
    fn from_restart(table: &'a Entries, nth: usize) -> Self {
        let at = nth * RESTART;
        let Some(restart) = table.restarts.get(nth) else {
            return Self { table, at, rest: &[], id: Vec::new(), frames: 0, end: 0 };
        };
        let (rest, frames) = (&table.packed[restart.at as usize..], restart.frame as usize);
        Self { table, at, rest, id: Vec::new(), frames, end: restart.end }
    }

    /// Before the first entry with this id or a later one.
    fn from_id(table: &'a Entries, id: &[u8]) -> Self {
        // The last restart that may lie before it.
        let nth = table.restarts.partition_point(|restart| table.first_id(restart) <= id);
        let mut walk = Self::from_restart(table, nth.saturating_sub(1));
        while walk.at < table.len {
            let rest = walk.rest;
            walk.step_id();
            if *walk.id >= *id {
                // One step back: what the id shares with the one before is in `walk.id` as well.
                walk.rest = rest;
                break;
            }
            walk.step_numbers();
            walk.at += 1;
        }
        walk
    }

    fn step_id(&mut self) {
        let shared = read_len(&mut self.rest);
        let more = read_len(&mut self.rest);
        let (suffix, rest) = self.rest.split_at(more);
        self.id.truncate(shared);
        self.id.extend_from_slice(suffix);
        self.rest = rest;
    }

    fn step_numbers(&mut self) -> Entry {
        let rest = &mut self.rest;
        let (&flags, tail) = rest.split_first().expect("packed by `TableWriter`");
        *rest = tail;
        if flags & NEXT_FRAME != 0 {
            self.frames += 1;
            self.end = 0;
        }
        let from = read_varint(rest);
        let upto = from.wrapping_add(read_varint(rest));
        let first = self.table.base.0.0.wrapping_add(unzigzag(read_varint(rest)));
        let last = first.wrapping_add(unzigzag(read_varint(rest)));
        let time = self.table.base.1.0.wrapping_add(unzigzag(read_varint(rest)));
        let start = self.end.wrapping_add(read_varint(rest) as u32);
        let len = read_varint(rest) as u32;
        let (crc, tail) = rest.split_first_chunk().expect("packed by `TableWriter`");
        *rest = tail;
        self.end = start.wrapping_add(len);
        let frame = self.table.frames[self.frames - 1];
        Entry {
            id: Text::default(),
            from: Version(from),
            upto: Version(upto),
            first_offset: Offset(first),
            last_offset: Offset(last),
            effective_time: Timestamp(time),
            marked: flags & MARKED != 0,
            body: BodyAt { frame, start, len, crc: u32::from_le_bytes(*crc) },
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.at >= self.table.len {
            return None;
        }
        self.at += 1;
        self.step_id();
        let id = std::str::from_utf8(&self.id).expect("packed from a str");
        let id = Text::from(id);
        Some(Entry { id, ..self.step_numbers() })
    }
}

impl Entries {
    /// Packs entries that come sorted by id.
    ///
    /// # Panics
    /// If they are not sorted, or take more than 4 GiB.
    pub fn from_sorted(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut writer = TableWriter::default();
        for entry in entries {
            assert!(writer.try_push(&entry), "entries come sorted by id");
        }
        writer.finish()
    }

    /// The same with the leader epochs of the entries' last events, each with the highest of their offsets.
    #[must_use]
    pub fn under(mut self, epochs: Epochs) -> Self {
        self.epochs = epochs;
        self
    }

    /// What `under` was told.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The entries that have an event below this offset.
    #[must_use]
    pub fn starting_below(&self, offset: Offset) -> Self {
        let below = self.iter().filter(|entry| entry.first_offset < offset);
        Self::from_sorted(below).under(self.epochs.clone())
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes the table takes in memory.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.packed.capacity()
            + self.restarts.capacity() * size_of::<Restart>()
            + self.frames.capacity() * size_of::<FrameAt>()
    }

    /// Bytes of the frames that its bodies were compressed with.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.len)).sum()
    }

    fn first_id(&self, restart: &Restart) -> &[u8] {
        let mut rest = &self.packed[restart.at as usize..];
        let shared = read_len(&mut rest);
        debug_assert_eq!(shared, 0, "nothing comes before a restart");
        let len = read_len(&mut rest);
        &rest[..len]
    }

    /// The entry of this aggregate and its index: ids are unique within a checkpoint.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(usize, Entry)> {
        let mut walk = Walk::from_id(self, id.as_bytes());
        let index = walk.at;
        (index < self.len && walk.id == id.as_bytes()).then(|| {
            walk.step_id();
            (index, Entry { id: Text::from(id), ..walk.step_numbers() })
        })
    }

    /// Entries from this id on, by id.
    pub fn from_id<'a>(&'a self, id: &str) -> impl Iterator<Item = Entry> + use<'a> {
        Walk::from_id(self, id.as_bytes())
    }

    /// The same, each with its index.
    pub fn places_from<'a>(&'a self, id: &str) -> impl Iterator<Item = (usize, Entry)> + use<'a> {
        let walk = Walk::from_id(self, id.as_bytes());
        (walk.at..).zip(walk)
    }

    /// All entries, by id.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        Walk::from_restart(self, 0)
    }
}

fn read_len(rest: &mut &[u8]) -> usize {
    usize::try_from(read_varint(rest)).expect("a length in memory fits memory")
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().expect("packed by `TableWriter`");
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_packed_and_are_found_by_id() {
        let ids: Vec<String> = (0..500).map(|n| format!("id-{n:04}")).collect();
        // Bodies lie one behind the other in frames of seven, but for a gap here and there.
        let body = |n: usize| {
            let frame = FrameAt { offset: (n / 7) as u64 * 999, len: 999, raw_len: 4_096, algorithm: 1 };
            let start = (n % 7 * 100 + n % 11 / 10 * 3) as u32;
            BodyAt { frame, start, len: 100 - n as u32 % 3, crc: (n as u32).wrapping_mul(0x9e37_79b9) }
        };
        let entry = |n: usize| Entry {
            id: ids[n].as_str().into(),
            from: Version(n as u64 * 7),
            upto: Version(n as u64 * 7 + n as u64 % 3),
            first_offset: Offset(n as i64 * 1_000_003),
            last_offset: Offset(n as i64 * 1_000_003 + 5),
            effective_time: Timestamp(-62_135_596_800_000 + n as i64),
            marked: n.is_multiple_of(5),
            body: body(n),
        };
        let table = Entries::from_sorted((0..ids.len()).map(entry));
        assert_eq!(table.len(), 500);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(table.find(id), Some((n, entry(n))));
            assert!(table.from_id(id).eq((n..ids.len()).map(entry)), "from {n}");
            assert_eq!(table.places_from(id).next(), Some((n, entry(n))));
        }
        assert_eq!(table.find("id-"), None);
        assert!(table.iter().eq((0..ids.len()).map(entry)));
        let from = |id: &str| table.from_id(id).map(|entry| entry.id).next();
        assert_eq!(from(""), Some("id-0000".into()));
        assert_eq!(from("id-0300"), Some("id-0300".into()));
        assert_eq!(from("id-0300a"), Some("id-0301".into()));
        assert_eq!(from("id-0500"), None);
        assert_eq!(table.find("id-0500"), None);
        assert!(table.heap_bytes() < 500 * 32, "{} bytes", table.heap_bytes());
        let odd = |entry: &Entry| entry.first_offset < Offset(250 * 1_000_003) && entry.from.0 % 2 == 1;
        let some = Entries::from_sorted(table.iter().filter(odd));
        assert!(some.iter().eq((0..250).map(entry).filter(odd)));
        assert!(Entries::default().from_id("a").next().is_none() && Entries::default().find("").is_none());
    }
}
