//! Records that move into another pack as they are: the same frames, checksums and dictionaries, and rows
//! that differ only in where the bytes lie.
//!
//! *Order*: the pack, read back whole before it is written; then rows, those of one aggregate by version, one
//!   after the other: as for segments. Nothing that they stand for may go before all are acknowledged.
//! *If it fails*: as for a flush: given up as a whole, and whatever landed is true.
//! *If cancelled*: as if it was given up.
//! *What may leak*: a pack without rows, rows nobody waited for: second copies.
//!
//! INVARIANT: the new pack's id is minted at the time of the old one's. Of two rows that tell of one version
//! the one with the later pack is read first; a copy comes where its original came. Whoever asks how old
//! records are, by their pack (the archive does), hears what it heard before. Garbage collection goes by the
//! store's own time of an object as well, and so never takes a new pack for an old one.

use super::encode::Encoded;
use super::flush::{SnapshotStore, together};
use super::packs::Class;
use crate::codec::compress::{Compression, Encoded as Frame, Encoder};
use crate::codec::dictionary::Dictionary;
use crate::codec::pack::{FinishedPack, Footer, Frames, Header, Locator, PackWriter, pack_name, verify_pack};
use crate::compute::computed;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, PackId};
use crate::domain::row::SnapshotRow;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// A pack that is in memory, sound as far as what is copied goes.
pub struct Source {
    /// Its class.
    pub class: Class,
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// Its footer.
    pub footer: Box<Footer>,
}

impl SnapshotStore {
    /// Copies records of a pack, named by their places in its footer, with their rows, into a new pack, and
    /// writes its rows, which are answered in the same order.
    ///
    /// # Errors
    /// The deadline passed, or a port refused for good: nothing about any of them is certain. `Corrupt` if
    /// one cannot be read: nothing was written.
    pub async fn put_copies(
        &self,
        source: Source,
        rows: Vec<(usize, SnapshotRow)>,
    ) -> Result<Vec<SnapshotRow>> {
        let started = self.clock.monotonic_ms();
        let of = source.footer.header();
        let pack = PackId::mint(of.pack.minted_at(), self.clock.random());
        // What was created when stays as it was, also for whoever makes rows of this pack.
        let header = self.packs.header(source.class, pack, of.created);
        let known = self.packs.known(&source.footer).await?;
        let fast = Compression { level: 1, ..self.packs.compression() };
        let encode = move || -> Result<(FinishedPack, Vec<SnapshotRow>)> {
            let finished = copy(&source, header, &known, fast, &rows)?;
            let moved = rows.into_iter().zip(&finished.entries).map(|((_, row), entry)| {
                let inline = Locator::decode(&row.locator).ok().and_then(|locator| locator.inline);
                let locator = Locator { inline, ..entry.locator.clone() };
                SnapshotRow { pack, stored_bytes: entry.stored_len, locator: locator.encode(), ..row }
            });
            let moved = moved.collect();
            Ok((finished, moved))
        };
        let (finished, moved) = computed(&*self.compute, encode).await?;
        let name = pack_name(finished.class, pack);
        let encoded = Encoded { pack, name, bytes: finished.bytes, places: Vec::new() };
        self.until_acked(started, "write a pack of copies", || self.put_pack(&encoded)).await?;
        let mut by_key: BTreeMap<&AggregateKey, Vec<SnapshotRow>> = BTreeMap::new();
        moved.iter().for_each(|row| by_key.entry(&row.key).or_default().push(row.clone()));
        by_key.values_mut().for_each(|rows| rows.sort_by_key(|row| row.version));
        together(by_key.into_values().map(|rows| self.snapshot_rows(rows, started)).collect()).await?;
        self.written.rows.fetch_add(moved.len() as u64, Ordering::Relaxed);
        Ok(moved)
    }
}

/// The new pack, which was read back.
fn copy(
    Source { bytes, footer, .. }: &Source,
    header: Header,
    known: &BTreeMap<Digest, Dictionary>,
    compression: Compression,
    rows: &[(usize, SnapshotRow)],
) -> Result<FinishedPack> {
    let (facts, pack) = (footer.facts()?, header.pack);
    let (mut writer, mut frames) = (PackWriter::new(header), Frames::new(bytes));
    for (at, _) in rows {
        let (meta, locator) = (footer.meta(*at)?, footer.locator(*at)?);
        let dictionary = locator.dictionary.and_then(|id| known.get(&id));
        let body = frames.body(&meta.id, &locator, dictionary)?;
        let frame = match (locator.body_start, locator.body_len == locator.frame_raw_len) {
            (0, true) => {
                let range = locator.range();
                let stored = bytes.get(range.start as usize..range.end as usize).unwrap_or_default();
                let (algorithm, dictionary) = (locator.algorithm, locator.dictionary);
                Frame { algorithm, dictionary, raw_len: body.len(), bytes: stored.to_vec() }
            }
            // Others share its frame, perhaps the one that goes.
            _ => Encoder::new(compression, None)?.encode(body)?,
        };
        let place = writer.add_frame(meta, body, frame)?;
        if let Some(facts) = &facts[*at] {
            writer.note(place, facts.clone());
        }
    }
    let finished = writer.finish()?;
    let report = verify_pack(pack, &finished.bytes, |id| known.get(id).cloned())?;
    match report.faults.into_iter().next() {
        None => Ok(finished),
        Some(fault) => {
            Err(Error::new(ErrorKind::Internal, "corrupt", fault.error.detail).context("copy records"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Still;
    use crate::compute::Inline;
    use crate::domain::ids::{Lineage, Timestamp, Version};
    use crate::domain::record::RecordMeta;
    use crate::store::blobs::{Blobs as _, MemoryBlobs};
    use crate::store::flush::FlushLimits;
    use crate::store::index::suite::{increment, snapshot};
    use crate::store::index::{From, Index as _, MemoryIndex};
    use crate::store::packs::{CompressionPlan, Packs};
    use futures_util::FutureExt;
    use std::future::Future;
    use std::sync::Arc;

    const TIME: Timestamp = Timestamp(1_600_000_000_000);

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory answers at once")
    }

    fn key(id: &str) -> AggregateKey {
        AggregateKey { kind: "order".into(), id: id.into() }
    }

    fn meta(id: &str) -> RecordMeta {
        RecordMeta { effective_time: TIME, ..increment(id, 0, 3) }
    }

    fn body(id: &str) -> Vec<u8> {
        format!("what {id} says, {id}, ").repeat(20).into_bytes()
    }

    /// `a` and `gone` share a frame, `b` has one of its own.
    fn source() -> FinishedPack {
        let header = Header::new(Class::History, PackId::mint(TIME, [9; 10]), [1; 16], TIME, "a test");
        let mut writer = PackWriter::new(header);
        let mut encoder = Encoder::new(Compression::default(), None).unwrap();
        writer.add_block(["a", "gone"].map(|id| (meta(id), body(id))).into(), &mut encoder).unwrap();
        writer.add(meta("b"), &body("b"), &mut encoder).unwrap();
        writer.finish().unwrap()
    }

    fn footer(pack: PackId, bytes: &[u8]) -> Box<Footer> {
        match crate::codec::pack::open_tail(pack, bytes, bytes.len() as u64).unwrap() {
            crate::codec::pack::OpenTail::Ready(opened) => Box::new(opened.1),
            crate::codec::pack::OpenTail::Need(_) => panic!("all of it is there"),
        }
    }

    fn store(blobs: &Arc<MemoryBlobs>, index: &Arc<MemoryIndex>) -> SnapshotStore {
        let packs = Packs::new(index.clone(), blobs.clone(), CompressionPlan::default(), [2; 16]);
        SnapshotStore {
            index: index.clone(),
            packs: Arc::new(packs),
            clock: Arc::new(Still),
            compute: Arc::new(Inline),
            limits: FlushLimits { deadline_ms: 1, retry_ms: 1 },
            written: Arc::default(),
        }
    }

    fn rows(pack: &FinishedPack) -> Vec<(usize, SnapshotRow)> {
        let footer = footer(pack.id, &pack.bytes);
        let row = |id: &str| {
            let at = footer.find("order", id).start;
            let (locator, like) = (footer.locator(at).unwrap(), snapshot(&key(id), 1, 3, pack.id));
            let from_version = Version(0);
            (at, SnapshotRow { from_version, locator: locator.encode(), ..like })
        };
        ["b", "a"].map(row).into()
    }

    #[test]
    fn records_move_as_they_are_and_nothing_of_those_that_stay_goes_with_them() {
        let (blobs, index) = (Arc::new(MemoryBlobs::new()), Arc::new(MemoryIndex::new()));
        let (store, old) = (store(&blobs, &index), source());
        let (source_footer, rows) = (footer(old.id, &old.bytes), rows(&old));
        let source =
            Source { class: Class::History, bytes: old.bytes.clone(), footer: source_footer.clone() };
        let copies = now(store.put_copies(source, rows.clone())).unwrap();
        let pack = copies[0].pack;
        assert!(pack != old.id && pack.minted_at() == TIME, "as old as it was");
        let (bytes, _) = now(blobs.get_tail(&pack_name(Class::History, pack), u64::MAX)).unwrap();
        let new = footer(pack, &bytes);
        assert_eq!((new.len(), new.header().created), (2, TIME));
        assert!(verify_pack(pack, &bytes, |_| None).unwrap().is_sound());
        for (copy, (at, row)) in copies.iter().zip(&rows) {
            assert_eq!(now(index.snapshots(&row.key, Lineage(1), From::Newest, 9)), Ok(vec![copy.clone()]));
            let like =
                |row: &SnapshotRow| SnapshotRow { pack, locator: Vec::new(), stored_bytes: 0, ..row.clone() };
            assert_eq!(like(copy), like(row));
            let (locator, frame) = now(store.packs.frame(copy)).unwrap();
            let was = source_footer.locator(*at).unwrap();
            assert_eq!((locator.crc, locator.body_len), (was.crc, was.body_len));
            let range = was.range();
            let stored = &old.bytes[range.start as usize..range.end as usize];
            // The frame that was shared held another's body as well.
            assert_eq!(frame == stored, &*row.key.id == "b", "{}", row.key.id);
            let raw = crate::codec::pack::read_frame(&locator, &frame, None).unwrap();
            assert_eq!(raw, body(&row.key.id));
        }
    }

    #[test]
    fn what_is_damaged_is_not_copied() {
        let (blobs, index) = (Arc::new(MemoryBlobs::new()), Arc::new(MemoryIndex::new()));
        let (store, old) = (store(&blobs, &index), source());
        let (footer, rows) = (footer(old.id, &old.bytes), rows(&old));
        let mut bytes = old.bytes.clone();
        let frame = footer.locator(rows[0].0).unwrap().range().start as usize;
        bytes[frame + 9] ^= 4;
        let source = Source { class: Class::History, bytes, footer };
        let copied = now(store.put_copies(source, rows));
        assert!(copied.is_err_and(|error| error.kind == ErrorKind::Corrupt));
        assert_eq!(now(blobs.list("v1/", None, 9)), Ok(Vec::new()));
    }
}
