//! Keys of the embedded index: bytes whose order is the order of the rows.
//!
//! The logical order is that of the CQL tables: lineage and version descending (so that the newest row of an
//! aggregate is the first of its prefix), everything else ascending. Texts are escaped, not length-prefixed,
//! so that they sort by their own bytes: a NUL becomes `00 FF`, the end is `00 01` (the idea is
//! FoundationDB's tuple layer). Signed numbers have their sign bit flipped, descending ones all bits.
//!
//! Invariant: no key of one text is a prefix of the key of another, whatever bytes the texts hold.

use crate::domain::ids::{
    AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version,
};
use crate::domain::ledger::{DeletedRow, HoldRow};
use crate::domain::row::{DeadLetter, NoteRow, PartitionKey, SnapshotRow, WatermarkRow};
use crate::domain::schedule::RunRow;

/// A key, or the prefix of keys, under construction.
#[derive(Clone, Debug)]
pub(super) struct Key(pub(super) Vec<u8>);

/// First byte of every key. The numbers are stored: they never change their meaning.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Table {
    Format = 0,
    Snapshots = 1,
    SnapshotIds = 2,
    Checkpoints = 3,
    Retired = 4,
    Watermarks = 5,
    Aggregates = 6,
    DeadLetters = 7,
    Dictionaries = 8,
    Notes = 9,
    Deleted = 16,
    DeletedByTime = 17,
    Holds = 18,
    Schedules = 20,
    SchedulesChanged = 21,
    Runs = 22,
    Deletions = 24,
}

impl Key {
    fn of(table: Table) -> Self {
        Self(vec![table as u8])
    }

    fn text(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xff);
            }
        }
        self.raw(&[0, 1])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn i32(self, number: i32) -> Self {
        self.raw(&(number ^ i32::MIN).to_be_bytes())
    }

    fn i64(self, number: i64) -> Self {
        self.raw(&(number ^ i64::MIN).to_be_bytes())
    }

    fn newest_lineage(self, lineage: Lineage) -> Self {
        self.raw(&(!lineage.0).to_be_bytes())
    }

    fn newest_version(self, version: Version) -> Self {
        self.raw(&(!version.0).to_be_bytes())
    }

    fn log(self, key: &PartitionKey) -> Self {
        self.text(&key.topic).i32(key.partition.0).newest_lineage(key.lineage)
    }

    /// The first key after all that start with this one. Only for prefixes that do not end in `FF` bytes
    /// throughout, and a table's number never does.
    pub(super) fn after(mut self) -> Self {
        while let Some(last) = self.0.last_mut() {
            if *last < 0xff {
                *last += 1;
                break;
            }
            self.0.pop();
        }
        self
    }
}

pub(super) fn format() -> Key {
    Key::of(Table::Format)
}

/// All snapshot rows of an aggregate in a lineage.
pub(super) fn snapshots(key: &AggregateKey, lineage: Lineage) -> Key {
    Key::of(Table::Snapshots).text(&key.kind).text(&key.id).newest_lineage(lineage)
}

/// All copies of one version, and the start of those below it.
pub(super) fn snapshot_version(key: &AggregateKey, lineage: Lineage, version: Version) -> Key {
    snapshots(key, lineage).newest_version(version)
}

pub(super) fn snapshot(row: &SnapshotRow) -> Key {
    snapshot_version(&row.key, row.lineage, row.version).raw(&row.pack.0)
}

/// The row that a deletion names.
pub(super) fn named(row: &DeletedRow) -> Key {
    snapshot_version(&row.key, row.lineage, row.version).raw(&row.pack.0)
}

/// Says that the snapshot row with a key was deleted.
pub(super) fn deleted(row: &Key) -> Key {
    Key::of(Table::Deleted).raw(&row.0)
}

/// All deletions by the time of their deletion.
pub(super) fn deleted_by_time() -> Key {
    Key::of(Table::DeletedByTime)
}

/// Where those after a time begin.
pub(super) fn deleted_until(time: Timestamp) -> Key {
    deleted_by_time().raw(&u64::try_from(time.0).unwrap_or(0).to_be_bytes()[2..])
}

/// The same deletion; its value is the key of [`deleted`].
pub(super) fn deleted_at(deletion: LedgerId, row: &Key) -> Key {
    deleted_by_time().raw(&deletion.0).raw(&row.0)
}

/// The deletions of an aggregate's snapshot rows, which are kept for ever.
pub(super) fn deletions(key: &AggregateKey, lineage: Lineage) -> Key {
    Key::of(Table::Deletions).raw(&snapshots(key, lineage).0[1..])
}

/// Where it is kept which deletion the snapshot row with a key went with.
pub(super) fn deletion(row: &Key) -> Key {
    Key::of(Table::Deletions).raw(&row.0[1..])
}

/// Which deletion the snapshot row with a key went with: where that is kept, and how.
pub(super) fn gone_with(row: &Key, deletion: LedgerId) -> (Key, Vec<u8>) {
    let key = self::deletion(row);
    let mut value = deletion.0.to_vec();
    value.extend(sum(&key.0, &value));
    (key, value)
}

/// The checksum of a value of [`gone_with`], which ends with it.
pub(super) fn sum(key: &[u8], value: &[u8]) -> [u8; 4] {
    let deletion = &value[..value.len().min(LedgerId::default().0.len())];
    crc32c::crc32c_append(crc32c::crc32c(key), deletion).to_le_bytes()
}

/// All holds of an aggregate.
pub(super) fn holds(key: &AggregateKey) -> Key {
    Key::of(Table::Holds).text(&key.kind).text(&key.id)
}

pub(super) fn hold(row: &HoldRow) -> Key {
    holds(&row.key).raw(&row.at.0)
}

pub(super) fn snapshot_id(id: [u8; 16]) -> Key {
    Key::of(Table::SnapshotIds).raw(&id)
}

pub(super) fn checkpoints(key: &PartitionKey) -> Key {
    Key::of(Table::Checkpoints).log(key)
}

pub(super) fn checkpoint(key: &PartitionKey, pack: PackId) -> Key {
    checkpoints(key).raw(&pack.0)
}

/// Deleted checkpoints of a partition, oldest pack first.
pub(super) fn retired_all(key: &PartitionKey) -> Key {
    Key::of(Table::Retired).log(key)
}

pub(super) fn retired(key: &PartitionKey, pack: PackId) -> Key {
    retired_all(key).raw(&pack.0)
}

pub(super) fn watermarks(key: &PartitionKey) -> Key {
    Key::of(Table::Watermarks).log(key)
}

pub(super) fn watermark(row: &WatermarkRow) -> Key {
    watermarks(&row.key).raw(&row.topic_id.to_be_bytes()).i32(row.leader_epoch)
}

/// All aggregates of a type.
pub(super) fn aggregates(kind: &str) -> Key {
    Key::of(Table::Aggregates).text(kind)
}

/// An aggregate in whatever partition.
pub(super) fn aggregate_id(kind: &str, id: &str) -> Key {
    aggregates(kind).text(id)
}

pub(super) fn aggregate(key: &AggregateKey, partition: PartitionNo) -> Key {
    aggregate_id(&key.kind, &key.id).i32(partition.0)
}

pub(super) fn dead_letters(key: &PartitionKey) -> Key {
    Key::of(Table::DeadLetters).log(key)
}

pub(super) fn dead_letters_from(key: &PartitionKey, from: Offset) -> Key {
    dead_letters(key).i64(from.0)
}

pub(super) fn dead_letter(letter: &DeadLetter) -> Key {
    dead_letters_from(&letter.key, letter.offset)
}

pub(super) fn dictionary(id: Digest) -> Key {
    Key::of(Table::Dictionaries).raw(&id.0)
}

/// Notes on the snapshot of one version, and the start of those on later ones.
pub(super) fn notes(key: &AggregateKey, lineage: Lineage, version: Version) -> Key {
    Key::of(Table::Notes).text(&key.kind).text(&key.id).newest_lineage(lineage).raw(&version.0.to_be_bytes())
}

pub(super) fn note(row: &NoteRow) -> Key {
    notes(&row.key, row.lineage, row.version).raw(&row.at.0)
}

/// All schedules.
pub(super) fn schedules() -> Key {
    Key::of(Table::Schedules)
}

pub(super) fn schedule(name: &str) -> Key {
    schedules().text(name)
}

pub(super) fn schedules_changed() -> Key {
    Key::of(Table::SchedulesChanged)
}

/// The kept runs of a schedule in a partition.
pub(super) fn runs(name: &str, topic: &str, partition: PartitionNo) -> Key {
    Key::of(Table::Runs).text(name).text(topic).i32(partition.0)
}

pub(super) fn run(row: &RunRow) -> Key {
    runs(&row.schedule, &row.topic, row.partition).raw(&[row.place()])
}

/// The parts of a stored key; every method says none for bytes that no key has.
pub(super) struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// The parts behind the table's number.
    pub(super) fn of(key: &'a [u8]) -> Option<Self> {
        key.get(1..).map(Self)
    }

    fn text(&mut self) -> Option<String> {
        let mut text = Vec::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            if *byte == 0 {
                let (escape, rest) = self.0.split_first()?;
                self.0 = rest;
                match escape {
                    1 => return String::from_utf8(text).ok(),
                    0xff => {}
                    _ => return None,
                }
            }
            text.push(*byte);
        }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn done<T>(&self, parts: T) -> Option<T> {
        self.0.is_empty().then_some(parts)
    }

    /// Reads a key of [`aggregate`].
    pub(super) fn aggregate(mut self) -> Option<(AggregateKey, PartitionNo)> {
        let key = AggregateKey { kind: self.text()?.into(), id: self.text()?.into() };
        let partition = PartitionNo(i32::from_be_bytes(self.array()?) ^ i32::MIN);
        self.done((key, partition))
    }

    /// Reads a key of [`snapshot_version`].
    pub(super) fn snapshot_version(mut self) -> Option<(AggregateKey, Lineage, Version)> {
        let key = AggregateKey { kind: self.text()?.into(), id: self.text()?.into() };
        let lineage = Lineage(!u32::from_be_bytes(self.array()?));
        let version = Version(!u64::from_be_bytes(self.array()?));
        self.done((key, lineage, version))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::suite::ids;
    use super::*;

    fn aggregate_of(id: &str, partition: i32) -> (AggregateKey, PartitionNo) {
        (AggregateKey { kind: "k\0".into(), id: id.into() }, PartitionNo(partition))
    }

    #[test]
    fn keys_sort_as_their_rows_and_read_back() {
        let mut rows = Vec::new();
        for id in ids() {
            rows.extend([i32::MIN, -1, 0, i32::MAX].map(|partition| aggregate_of(&id, partition)));
        }
        rows.sort();
        let keys: Vec<Vec<u8>> = rows.iter().map(|(key, at)| aggregate(key, *at).0).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        for (row, key) in rows.iter().zip(&keys) {
            assert_eq!(Parts::of(key).unwrap().aggregate().as_ref(), Some(row));
            assert_eq!(Parts::of(&key[..key.len() - 1]).unwrap().aggregate(), None);
        }
    }

    #[test]
    fn newer_lineages_and_versions_come_first_and_read_back() {
        let key = aggregate_of("a\0b", 0).0;
        let numbers = [(9, u64::MAX), (9, 3), (9, 0), (0, u64::MAX), (0, 0)];
        let keys =
            numbers.map(|(lineage, version)| snapshot_version(&key, Lineage(lineage), Version(version)).0);
        assert!(keys.is_sorted_by(|a, b| a < b));
        for ((lineage, version), stored) in numbers.into_iter().zip(&keys) {
            let read = Parts::of(stored).unwrap().snapshot_version();
            assert_eq!(read, Some((key.clone(), Lineage(lineage), Version(version))));
        }
    }

    #[test]
    fn the_key_after_a_prefix_is_after_all_its_keys() {
        assert_eq!(Key(vec![1, 2]).after().0, [1, 3]);
        assert_eq!(Key(vec![1, 0xff, 0xff]).after().0, [2]);
    }
}
