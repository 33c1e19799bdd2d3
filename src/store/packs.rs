//! Records in packs: reading one record or one footer, verified. What goes in is `encode`'s.
//!
//! *If it fails*: `Unavailable` if the store did not answer, `NotFound` if the object is not there, `Corrupt`
//!   if its bytes
//! disagree with their checksums even when read again. The caller falls back; nothing here guesses.
//! *If cancelled*: nothing is lost, reads have no effects.

use super::blobs::{Blob, Blobs};
use super::dictionaries::Dictionaries;
use super::index::Index;
use super::unavailable;
use crate::codec::body::{decode_full, decode_increment};
use crate::codec::compress::Compression;
use crate::codec::dictionary::Dictionary;
use crate::codec::pack::{Footer, Locator, OpenTail, open_tail, pack_name, read_entry};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Lineage, Offset, PackId, PartitionNo};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::PortError;
use crate::domain::partition::{Entries, Entry, EntryRef, LiveCheckpoint};
use crate::domain::record::{FullBody, IncrementBody, RecordId, RecordKind};
use crate::domain::row::{CheckpointRow, PartitionKey, SnapshotRow};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub use super::dictionaries::CompressionPlan;
pub use crate::codec::pack::Class;

/// Bytes of an object's end that mostly hold its footer.
const TAIL_BYTES: u64 = 64 << 10;
/// How often a read whose bytes are damaged is repeated: the damage may be on the way.
const READS: usize = 3;
/// Footers of checkpoints that are kept parsed.
const FOOTERS_MAX: usize = 128;
/// Bytes of tables that are kept.
const TABLES_BYTES_MAX: usize = 16 << 20;

/// Reads and encodes packs.
pub struct Packs {
    /// Objects.
    pub blobs: Arc<dyn Blobs>,
    pub(super) session: [u8; 16],
    pub(super) dictionaries: Dictionaries,
    footers: Mutex<BTreeMap<PackId, Arc<Footer>>>,
    tables: Mutex<Tables>,
}

/// Tables of checkpoints, as made from their footers.
///
/// COST: every question from rest looks into the tables of all live checkpoints. To make one anew takes about
/// a microsecond for each of its entries, of which there may be many thousands.
#[derive(Default)]
struct Tables {
    tables: BTreeMap<(PackId, PartitionNo, Lineage), Arc<Entries>>,
    bytes: usize,
}

impl Tables {
    fn keep(&mut self, of: (PackId, PartitionNo, Lineage), table: &Arc<Entries>) {
        self.bytes += table.heap_bytes();
        if let Some(same) = self.tables.insert(of, Arc::clone(table)) {
            self.bytes -= same.heap_bytes();
        }
        while self.bytes > TABLES_BYTES_MAX {
            // Packs are named by time: the oldest is the likeliest to be retired.
            let Some((_, oldest)) = self.tables.pop_first() else { return };
            self.bytes -= oldest.heap_bytes();
        }
    }
}

impl Packs {
    /// Packs over an object store, their dictionaries also in an index. `session` names the writer in every
    /// pack.
    #[must_use]
    pub fn new(
        index: Arc<dyn Index>,
        blobs: Arc<dyn Blobs>,
        plan: CompressionPlan,
        session: [u8; 16],
    ) -> Self {
        let dictionaries = Dictionaries::new(index, Arc::clone(&blobs), plan);
        Self { blobs, session, dictionaries, footers: Mutex::default(), tables: Mutex::default() }
    }

    pub(super) fn compression(&self) -> Compression {
        self.dictionaries.plan().compression
    }

    /// The full record of a row.
    ///
    /// # Errors
    /// See the module.
    pub async fn full(&self, row: &SnapshotRow) -> Result<FullBody> {
        let body = self.record(row, decode_full).await?;
        let same = body.version == row.version && row.kind == RecordKind::Full;
        if same { Ok(body) } else { Err(Error::corrupt("a full record of another version")) }
    }

    /// The increment of a row.
    ///
    /// # Errors
    /// See the module.
    pub async fn increment(&self, row: &SnapshotRow) -> Result<IncrementBody> {
        let id = Arc::clone(&row.key.id);
        self.record(row, move |bytes| decode_increment(bytes, &id)).await
    }

    async fn record<T>(&self, row: &SnapshotRow, decode: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
        let locator = Locator::decode(&row.locator)?;
        if locator.pack != row.pack {
            return Err(Error::corrupt("a row's locator names another pack"));
        }
        let id = RecordId {
            key: row.key.clone(),
            lineage: row.lineage,
            upto_version: row.version,
            kind: row.kind,
            from_version: row.from_version,
        };
        self.located(&id, &locator, decode).await
    }

    /// One record by its locator; damaged bytes are read again before they count as damaged.
    async fn located<T>(
        &self,
        id: &RecordId,
        locator: &Locator,
        decode: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let name = pack_name(locator.class, locator.pack);
        let range = locator.range();
        let dictionary = match locator.dictionary {
            Some(id) => Some(self.dictionaries.get(id).await?),
            None => None,
        };
        let mut last = Error::corrupt("no read");
        for _ in 0..READS {
            let frame = self.blobs.get_range(&name, range.start, range.end - range.start).await;
            let frame = frame.map_err(|error| read_error(&name, &error))?;
            match checked_entry(id, locator, &frame, dictionary.as_ref()).and_then(|body| decode(&body)) {
                Ok(decoded) => return Ok(decoded),
                Err(error) => last = error,
            }
        }
        Err(last.context(&format!("read `{name}` {}..{}", range.start, range.end)))
    }

    /// What a live checkpoint holds of one aggregate.
    ///
    /// # Errors
    /// See the module.
    pub async fn entry(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
        entry: &EntryRef,
    ) -> Result<IncrementBody> {
        let footer = self.footer(entry.pack).await?;
        for at in footer.find(&key.kind, &key.id) {
            let meta = footer.meta(at)?;
            let wanted = (partition.partition, partition.lineage, entry.from, entry.upto);
            if (meta.partition, meta.id.lineage, meta.id.from_version, meta.id.upto_version) == wanted {
                let id = Arc::clone(&key.id);
                let decode = move |bytes: &[u8]| decode_increment(bytes, &id);
                return self.located(&meta.id, &footer.locator(at)?, decode).await;
            }
        }
        Err(Error::corrupt("a checkpoint does not hold the entry that its table names"))
    }

    /// The table of one live checkpoint for one partition, from its footer.
    ///
    /// # Errors
    /// See the module.
    pub async fn checkpoint(&self, row: &CheckpointRow) -> Result<LiveCheckpoint> {
        let entries = self.table(row.pack, row.key.partition, row.key.lineage).await?;
        if entries.len() != row.entries as usize {
            return Err(Error::corrupt("a checkpoint's footer and its row disagree about its entries"));
        }
        Ok(LiveCheckpoint { pack: row.pack, object_bytes: row.object_bytes, entries, cut: None })
    }

    /// One partition's table in a checkpoint pack, from what is kept or made from the footer.
    async fn table(&self, pack: PackId, partition: PartitionNo, lineage: Lineage) -> Result<Arc<Entries>> {
        let of = (pack, partition, lineage);
        if let Some(table) = self.tables.lock().expect("no panic while it is held").tables.get(&of) {
            return Ok(Arc::clone(table));
        }
        let table =
            Arc::new(self.footer(pack).await.and_then(|footer| table_of(&footer, partition, lineage))?);
        self.tables.lock().expect("no panic while it is held").keep(of, &table);
        Ok(table)
    }

    /// The footer of a checkpoint pack, from the cache or from its end.
    async fn footer(&self, pack: PackId) -> Result<Arc<Footer>> {
        if let Some(footer) = self.footers.lock().expect("no panic while it is held").get(&pack) {
            return Ok(Arc::clone(footer));
        }
        let name = pack_name(Class::Checkpoint, pack);
        let mut last = Error::corrupt("no read");
        for _ in 0..READS {
            match self.read_footer(&name, pack).await {
                Ok(footer) => {
                    let footer = Arc::new(footer);
                    let mut footers = self.footers.lock().expect("no panic while it is held");
                    if footers.len() >= FOOTERS_MAX {
                        // Packs are named by time: the oldest is the likeliest to be retired.
                        footers.pop_first();
                    }
                    footers.insert(pack, Arc::clone(&footer));
                    return Ok(footer);
                }
                Err(error) if error.kind == ErrorKind::Corrupt => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last.context(&format!("read the footer of `{name}`")))
    }

    async fn read_footer(&self, name: &str, pack: PackId) -> Result<Footer> {
        let mut bytes = TAIL_BYTES;
        loop {
            let (tail, len) =
                self.blobs.get_tail(name, bytes).await.map_err(|error| read_error(name, &error))?;
            match open_tail(pack, &tail, len)? {
                OpenTail::Ready(opened) => return Ok(opened.1),
                OpenTail::Need(need) if need > bytes && need <= len => bytes = need,
                OpenTail::Need(_) => return Err(Error::corrupt("a footer is longer than its object")),
            }
        }
    }
}

/// The entries of one partition and lineage, by id.
fn table_of(footer: &Footer, partition: PartitionNo, lineage: Lineage) -> Result<Entries> {
    let mut metas = Vec::new();
    for at in 0..footer.len() {
        let meta = footer.meta(at)?;
        if meta.partition == partition && meta.id.lineage == lineage {
            metas.push((meta, footer.locator(at)?.body_len));
        }
    }
    metas.sort_by(|(a, _), (b, _)| a.id.key.id.cmp(&b.id.key.id));
    let unique = metas.windows(2).all(|pair| pair[0].0.id.key.id != pair[1].0.id.key.id);
    if !unique || metas.iter().any(|(meta, _)| meta.id.upto_version < meta.id.from_version) {
        return Err(Error::corrupt("a checkpoint's footer is not one that was written"));
    }
    let mut epochs: BTreeMap<i32, Offset> = BTreeMap::new();
    for (meta, _) in &metas {
        let last = epochs.entry(meta.leader_epoch).or_insert(meta.last_offset);
        *last = meta.last_offset.max(*last);
    }
    let entries = metas.iter().map(|(meta, bytes)| Entry {
        id: &meta.id.key.id,
        from: meta.id.from_version,
        upto: meta.id.upto_version,
        first_offset: meta.first_offset,
        last_offset: meta.last_offset,
        effective_time: meta.effective_time,
        raw_bytes: u64::from(*bytes),
        marked: meta.is_quarantined,
    });
    Ok(Entries::from_sorted(entries).under(epochs.into_iter().collect()))
}

fn checked_entry(
    id: &RecordId,
    locator: &Locator,
    frame: &[u8],
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>> {
    if mutant(Mutant::ChecksumIgnored) {
        let raw_len = locator.frame_raw_len as usize;
        let raw: Blob = crate::codec::compress::decode(locator.algorithm, frame, raw_len, dictionary)?;
        let start = locator.body_start as usize;
        return Ok(raw.into_iter().skip(start).take(locator.body_len as usize).collect());
    }
    read_entry(id, locator, frame, dictionary)
}

fn read_error(name: &str, error: &PortError) -> Error {
    match error {
        PortError::Missing => Error::new(ErrorKind::NotFound, "corrupt", format!("`{name}` is missing")),
        other => unavailable(&format!("read `{name}`"), other),
    }
}
