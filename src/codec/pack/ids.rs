//! Front-coded ids: each says how many bytes it shares with the one before it. Every 16th stands in full, so
//! that a lookup is a binary search over those and a walk over at most 16 ids, in the bytes as they were
//! stored.
//!
//! Item: `varint shared | varint suffix length | suffix`; `shared` is 0 at restart points.

use super::NAME_LEN_MAX;
use crate::codec::wire::{Cursor, put_bytes, put_varint};
use crate::domain::error::{Error, Result};
use std::cmp::Ordering;
use std::ops::Range;

const RESTART: usize = 16;

/// Writes ids one after the other.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    len: usize,
    last: String,
}

impl Writer {
    /// Adds an id.
    pub(super) fn push(&mut self, id: &str) {
        let is_same = |(a, b): &(u8, u8)| a == b;
        let shared = match self.len % RESTART {
            0 => 0,
            _ => self.last.bytes().zip(id.bytes()).take_while(is_same).count(),
        };
        put_varint(&mut self.bytes, shared as u64);
        put_bytes(&mut self.bytes, &id.as_bytes()[shared..]);
        self.last.clear();
        self.last.push_str(id);
        self.len += 1;
    }

    /// The id that was added last.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The ids of a footer. All of them were read once, so a later walk cannot fail.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    bytes: Box<[u8]>,
    restarts: Box<[u32]>,
    len: usize,
}

/// One step of a walk: the id of entry `at` stands in `id`.
struct Walk<'a> {
    cursor: Cursor<'a>,
    id: Vec<u8>,
}

impl Walk<'_> {
    fn step(&mut self) -> Result<()> {
        let shared = self.cursor.varint()?;
        let suffix = self.cursor.bytes()?;
        let shared = usize::try_from(shared).ok().filter(|shared| *shared <= self.id.len());
        let shared = shared.ok_or_else(|| Error::corrupt("an id shares more than there is"))?;
        if shared + suffix.len() > NAME_LEN_MAX {
            return Err(Error::corrupt("an id is longer than 1 KiB"));
        }
        self.id.truncate(shared);
        self.id.extend_from_slice(suffix);
        Ok(())
    }
}

impl Ids {
    /// Reads `len` ids and shows each to `visit`, in order.
    pub(super) fn parse(
        bytes: Vec<u8>,
        len: usize,
        mut visit: impl FnMut(usize, &str) -> Result<()>,
    ) -> Result<Self> {
        if len > bytes.len() / 2 || u32::try_from(bytes.len()).is_err() {
            return Err(Error::corrupt(format!("`{len}` ids in `{}` bytes", bytes.len())));
        }
        let mut restarts = Vec::with_capacity(len.div_ceil(RESTART));
        let mut walk = Walk { cursor: Cursor::new(&bytes), id: Vec::new() };
        for at in 0..len {
            if at % RESTART == 0 {
                restarts.push((bytes.len() - walk.cursor.remaining()) as u32);
                walk.id.clear();
            }
            walk.step()?;
            let id = std::str::from_utf8(&walk.id).map_err(|_| Error::corrupt("an id is not UTF-8"))?;
            visit(at, id)?;
        }
        walk.cursor.finish()?;
        Ok(Self { bytes: bytes.into(), restarts: restarts.into(), len })
    }

    /// The id of entry `at`, which must be below the number of ids.
    pub(super) fn get(&self, at: usize) -> Result<String> {
        let mut id = Vec::new();
        self.walk(at - at % RESTART, |walked, bytes| {
            id = bytes.to_vec();
            walked < at
        })?;
        String::from_utf8(id).map_err(|_| Error::corrupt("an id is not UTF-8"))
    }

    /// Where `id` stands within `range`, in which ids are sorted.
    pub(super) fn find(&self, range: Range<usize>, id: &str) -> Result<Range<usize>> {
        let start = self.restart_before(&range, id);
        let mut found = range.end..range.end;
        self.walk(start, |at, walked| {
            if at >= range.end {
                return false;
            }
            match walked.cmp(id.as_bytes()) {
                _ if at < range.start => true,
                Ordering::Less => true,
                Ordering::Equal => {
                    found = found.start.min(at)..at + 1;
                    true
                }
                Ordering::Greater => false,
            }
        })?;
        Ok(found)
    }

    /// Shows the ids of `range`, in which ids are sorted, from `id` on until `visit` says no.
    pub(super) fn each_from(
        &self,
        range: Range<usize>,
        id: &str,
        mut visit: impl FnMut(usize, &str) -> bool,
    ) {
        let start = self.restart_before(&range, id);
        let walked = self.walk(start, |at, walked| {
            let is_before = at < range.start || walked < id.as_bytes();
            at < range.end && (is_before || visit(at, std::str::from_utf8(walked).unwrap_or_default()))
        });
        walked.expect("every id was read at parsing");
    }

    /// The entry with the last restart below the id, or with that of the block in which the range starts.
    fn restart_before(&self, range: &Range<usize>, id: &str) -> usize {
        let first = range.start.div_ceil(RESTART);
        let last = range.end.div_ceil(RESTART).max(first);
        let blocks = &self.restarts[first..last];
        let before = blocks.partition_point(|restart| self.restart_id(*restart) < id.as_bytes());
        (first + before).saturating_sub(1) * RESTART
    }

    fn restart_id(&self, restart: u32) -> &[u8] {
        let mut cursor = Cursor::new(&self.bytes[restart as usize..]);
        let id = cursor.varint().and_then(|_| cursor.bytes());
        id.unwrap_or_default()
    }

    /// Shows ids from a restart point on until `visit` says no.
    fn walk(&self, start: usize, mut visit: impl FnMut(usize, &[u8]) -> bool) -> Result<()> {
        let Some(restart) = self.restarts.get(start / RESTART) else { return Ok(()) };
        let mut walk = Walk { cursor: Cursor::new(&self.bytes[*restart as usize..]), id: Vec::new() };
        for at in start..self.len {
            walk.step()?;
            if !visit(at, &walk.id) {
                break;
            }
        }
        Ok(())
    }

    /// Bytes of memory beside the struct itself.
    pub(super) fn heap_len(&self) -> usize {
        self.bytes.len() + self.restarts.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<u8> {
        let mut writer = Writer::default();
        ids.for_each(|id| writer.push(id));
        writer.bytes
    }

    proptest! {
        #[test]
        fn find_and_get_equal_a_naive_scan(
            mut ids in prop::collection::vec("[ab]{1,5}", 1..120),
            wanted in "[ab]{1,5}",
            (a, b) in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            ids.sort();
            let bytes = encode(ids.iter().map(String::as_str));
            let parsed = Ids::parse(bytes, ids.len(), |_, _| Ok(())).unwrap();
            for (at, id) in ids.iter().enumerate() {
                prop_assert_eq!(&parsed.get(at).unwrap(), id);
            }
            let (a, b) = (a.index(ids.len() + 1), b.index(ids.len() + 1));
            let range = a.min(b)..a.max(b);
            let naive: Vec<usize> = range.clone().filter(|at| ids[*at] == wanted).collect();
            let from: Vec<usize> = range.clone().filter(|at| ids[*at] >= wanted).collect();
            let mut each = Vec::new();
            parsed.each_from(range.clone(), &wanted, |at, id| {
                assert_eq!(id, ids[at]);
                each.push(at);
                true
            });
            prop_assert_eq!(each, from);
            prop_assert_eq!(parsed.find(range, &wanted).unwrap().collect::<Vec<_>>(), naive);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), len in 0..40_usize) {
            if let Ok(ids) = Ids::parse(bytes, len, |_, _| Ok(())) {
                ids.find(0..len, "a").unwrap();
            }
        }
    }
}
