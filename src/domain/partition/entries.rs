//! The table of one checkpoint's entries of one partition, sorted by aggregate id: what its footer says, kept
//! small, because a worker holds the tables of all live checkpoints (a million entries are some 30 MB).

use crate::domain::ids::{Offset, Timestamp, Version};
use std::collections::BTreeMap;

/// What a checkpoint holds of one aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Aggregate id.
    pub id: &'a str,
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
    /// Bytes of its body before compression.
    pub raw_bytes: u64,
    /// It carries a quarantine mark.
    pub marked: bool,
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
    /// Per entry: id length, id, then the numbers as varints.
    packed: Vec<u8>,
    starts: Vec<u32>,
    epochs: Epochs,
}

impl Entries {
    /// Packs entries that come sorted by id.
    ///
    /// # Panics
    /// If they are not sorted, or take more than 4 GiB.
    pub fn from_sorted<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut table = Self::default();
        let mut previous: Option<String> = None;
        for entry in entries {
            assert!(
                previous.as_deref().is_none_or(|previous| previous < entry.id),
                "entries come sorted by id"
            );
            previous = Some(entry.id.to_owned());
            table.starts.push(u32::try_from(table.packed.len()).expect("a table is smaller than 4 GiB"));
            table.push(&entry);
        }
        table.packed.shrink_to_fit();
        table.starts.shrink_to_fit();
        table
    }

    /// The same with the leader epochs of the entries' last events, each with the highest of their offsets.
    #[must_use]
    pub fn under(mut self, epochs: Epochs) -> Self {
        self.epochs = epochs;
        self
    }

    /// What `under` was told; nothing for a checkpoint of our own, which needs none.
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

    fn push(&mut self, entry: &Entry<'_>) {
        varint(&mut self.packed, entry.id.len() as u64);
        self.packed.extend_from_slice(entry.id.as_bytes());
        varint(&mut self.packed, entry.from.0);
        varint(&mut self.packed, (entry.upto.0 - entry.from.0) << 1 | u64::from(entry.marked));
        varint(&mut self.packed, zigzag(entry.first_offset.0));
        varint(&mut self.packed, zigzag(entry.last_offset.0 - entry.first_offset.0));
        varint(&mut self.packed, zigzag(entry.effective_time.0));
        varint(&mut self.packed, entry.raw_bytes);
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes the table takes in memory.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.packed.capacity() + self.starts.capacity() * 4
    }

    /// The entry at `index`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> Entry<'_> {
        let mut rest = &self.packed[self.starts[index] as usize..];
        let len = usize::try_from(read_varint(&mut rest)).expect("an id fits memory");
        let (id, mut rest) = rest.split_at(len);
        let from = read_varint(&mut rest);
        let upto = read_varint(&mut rest);
        let first = unzigzag(read_varint(&mut rest));
        let last = first + unzigzag(read_varint(&mut rest));
        Entry {
            id: std::str::from_utf8(id).expect("packed from a str"),
            from: Version(from),
            upto: Version(from + (upto >> 1)),
            first_offset: Offset(first),
            last_offset: Offset(last),
            effective_time: Timestamp(unzigzag(read_varint(&mut rest))),
            raw_bytes: read_varint(&mut rest),
            marked: upto & 1 == 1,
        }
    }

    fn id(&self, index: usize) -> &[u8] {
        let mut rest = &self.packed[self.starts[index] as usize..];
        let len = usize::try_from(read_varint(&mut rest)).expect("an id fits memory");
        &rest[..len]
    }

    /// Index of the entry of this aggregate: ids are unique within a checkpoint.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.starts.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.id(middle).cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Entries from this id on, by id.
    pub fn from_id<'a>(&'a self, id: &str) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (mut low, mut high) = (0, self.starts.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.id(middle) < id.as_bytes() { low = middle + 1 } else { high = middle }
        }
        (low..self.len()).map(|index| self.get(index))
    }

    /// All entries, by id.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
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
        let (&byte, tail) = rest.split_first().expect("packed by `push`");
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
        let entry = |n: usize| Entry {
            id: &ids[n],
            from: Version(n as u64 * 7),
            upto: Version(n as u64 * 7 + n as u64 % 3),
            first_offset: Offset(n as i64 * 1_000_003),
            last_offset: Offset(n as i64 * 1_000_003 + 5),
            effective_time: Timestamp(-62_135_596_800_000 + n as i64),
            raw_bytes: n as u64 * n as u64,
            marked: n.is_multiple_of(5),
        };
        let table = Entries::from_sorted((0..ids.len()).map(entry));
        assert_eq!(table.len(), 500);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(table.get(n), entry(n));
            assert_eq!(table.find(id), Some(n));
        }
        assert_eq!(table.find("id-"), None);
        let from = |id: &str| table.from_id(id).map(|entry| entry.id.to_owned()).next();
        assert_eq!(from(""), Some("id-0000".to_owned()));
        assert_eq!(from("id-0300"), Some("id-0300".to_owned()));
        assert_eq!(from("id-0300a"), Some("id-0301".to_owned()));
        assert_eq!(from("id-0500"), None);
        assert_eq!(table.find("id-0500"), None);
        assert!(table.heap_bytes() < 500 * 48, "{} bytes", table.heap_bytes());
    }
}
