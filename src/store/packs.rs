//! Records in packs: what goes in, and reading one record or one footer back, verified.
//!
//! *If it fails*: `Unavailable` if the store did not answer, `NotFound` if the object is not there, `Corrupt`
//!   if its bytes
//! disagree with their checksums even when read again. The caller falls back; nothing here guesses.
//! *If cancelled*: nothing is lost, reads have no effects.

use super::blobs::{Blob, Blobs};
use super::flush::Flush;
use super::unavailable;
use crate::codec::body::{decode_full, decode_increment, encode_full, encode_increment};
use crate::codec::compress::{Compression, Encoder};
use crate::codec::dictionary::Dictionary;
use crate::codec::pack::{Footer, Header, Locator, OpenTail, PackWriter, open_tail, pack_name, read_entry};
use crate::domain::aggregate::Aggregate;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, Offset, PackId, PartitionNo, Timestamp};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::PortError;
use crate::domain::partition::{CheckpointItem, Entries, Entry, EntryRef, LiveCheckpoint};
use crate::domain::record::{FullBody, IncrementBody, RecordId, RecordKind, RecordMeta};
use crate::domain::row::{CheckpointRow, PartitionKey, SnapshotRow, Trigger};
use crate::domain::value::{Limits, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub use crate::codec::pack::Class;

/// Bytes of an object's end that mostly hold its footer.
const TAIL_BYTES: u64 = 64 << 10;
/// How often a read whose bytes are damaged is repeated: the damage may be on the way.
const READS: usize = 3;
/// Footers of checkpoints that are kept parsed.
const FOOTERS_MAX: usize = 128;

/// One record on its way into a pack.
#[derive(Debug)]
pub struct NewEntry {
    /// What the footer and the row say of it.
    pub meta: RecordMeta,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Increment(IncrementBody),
    Full(Box<FullBody>),
}

/// A pack that is ready to be written.
pub struct Encoded {
    /// Its id.
    pub pack: PackId,
    /// Its object's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where each entry is, in the order in which they were given.
    pub places: Vec<Place>,
}

/// One entry of a pack that is ready to be written.
#[derive(Debug)]
pub struct Place {
    meta: RecordMeta,
    locator: Locator,
    raw_bytes: u64,
    /// Bytes in the pack.
    pub stored_bytes: u64,
}

/// Reads and encodes packs.
pub struct Packs {
    /// Objects.
    pub blobs: Arc<dyn Blobs>,
    compression: Compression,
    session: [u8; 16],
    footers: Mutex<BTreeMap<PackId, Arc<Footer>>>,
}

impl NewEntry {
    /// An increment with these events.
    #[must_use]
    pub fn increment(flush: &Flush, first_offset: Offset, body: IncrementBody) -> Self {
        let meta = meta_of(flush, RecordKind::Increment, first_offset);
        Self { meta, body: Body::Increment(body) }
    }

    /// A full record.
    ///
    /// # Errors
    /// If the state is not the JSON it was folded to: a bug, found before it is stored.
    pub fn full(flush: &Flush, first_offset: Offset) -> Result<Self> {
        let mut meta = meta_of(flush, RecordKind::Full, first_offset);
        let body = flush.item.aggregate.to_body();
        meta.state_digest = body.state.as_deref().map(state_digest).transpose()?;
        Ok(Self { meta, body: Body::Full(Box::new(body)) })
    }

    /// A checkpoint's entry.
    #[must_use]
    pub fn of_checkpoint(partition: &PartitionKey, kind: &Arc<str>, item: CheckpointItem) -> Self {
        let entry = item.entry();
        let meta = RecordMeta {
            id: RecordId {
                key: AggregateKey { kind: Arc::clone(kind), id: Arc::clone(&item.id) },
                lineage: partition.lineage,
                upto_version: entry.upto,
                kind: RecordKind::Increment,
                from_version: entry.from,
            },
            partition: partition.partition,
            first_offset: entry.first_offset,
            last_offset: entry.last_offset,
            leader_epoch: item.events.last().map_or(-1, |event| event.record.leader_epoch),
            effective_time: entry.effective_time,
            chain: None,
            state_digest: None,
            is_deleted: false,
            is_quarantined: entry.marked,
            trail: None,
        };
        Self { meta, body: Body::Increment(IncrementBody { events: item.events, quarantine: item.mark }) }
    }
}

fn meta_of(flush: &Flush, kind: RecordKind, first_offset: Offset) -> RecordMeta {
    let (partition, item) = (&flush.partition, &flush.item);
    let aggregate: &Aggregate = &item.aggregate;
    let mark = aggregate.quarantine.as_ref().map(|mark| mark.offset);
    RecordMeta {
        id: RecordId {
            key: AggregateKey { kind: Arc::clone(&flush.kind), id: Arc::clone(&item.id) },
            lineage: partition.lineage,
            upto_version: aggregate.version,
            kind,
            from_version: item.row,
        },
        partition: partition.partition,
        first_offset,
        last_offset: mark.unwrap_or_default().max(aggregate.offset),
        leader_epoch: aggregate.leader_epoch,
        effective_time: aggregate.effective_time,
        chain: None,
        state_digest: None,
        is_deleted: aggregate.is_deleted(),
        is_quarantined: aggregate.quarantine.is_some(),
        trail: None,
    }
}

fn state_digest(state: &[u8]) -> Result<Digest> {
    let limits = Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    let value = Value::parse(state, &limits);
    let value =
        value.map_err(|error| Error::new(ErrorKind::Internal, "corrupt", format!("own state: {error}")))?;
    Ok(value.digest())
}

impl Encoded {
    /// The index row of one entry.
    #[must_use]
    pub fn row(&self, place: &Place, created_at: Timestamp, trigger: Trigger) -> SnapshotRow {
        let meta = &place.meta;
        SnapshotRow {
            key: meta.id.key.clone(),
            lineage: meta.id.lineage,
            version: meta.id.upto_version,
            pack: self.pack,
            kind: meta.id.kind,
            from_version: meta.id.from_version,
            partition: meta.partition,
            first_offset: meta.first_offset,
            last_offset: meta.last_offset,
            leader_epoch: meta.leader_epoch,
            effective_time: meta.effective_time,
            created_at,
            trigger,
            raw_bytes: place.raw_bytes,
            stored_bytes: place.stored_bytes,
            state_digest: meta.state_digest,
            deleted: meta.is_deleted,
            quarantined: meta.is_quarantined,
            locator: place.locator.encode(),
        }
    }
}

impl Packs {
    /// Packs over an object store. `session` names the writer in every pack.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>, compression: Compression, session: [u8; 16]) -> Self {
        Self { blobs, compression, session, footers: Mutex::default() }
    }

    /// Encodes a pack. What was written is read back and compared before anything may rely on it (rule 8).
    ///
    /// # Errors
    /// `Invalid` if an entry cannot be stored, `Internal` if what was encoded does not read back.
    pub fn encode(
        &self,
        class: Class,
        pack: PackId,
        created: Timestamp,
        entries: Vec<NewEntry>,
    ) -> Result<Encoded> {
        let header =
            Header::new(class, pack, self.session, created, concat!("snapfold ", env!("CARGO_PKG_VERSION")));
        let mut writer = PackWriter::new(header);
        let mut encoder = Encoder::new(self.compression, None)?;
        let mut bodies = Vec::with_capacity(entries.len());
        for entry in &entries {
            bodies.push(match &entry.body {
                Body::Increment(body) => encode_increment(body, &entry.meta.id.key.id)?,
                Body::Full(body) => encode_full(body),
            });
        }
        let raw: Vec<u64> = bodies.iter().map(|body| body.len() as u64).collect();
        let records = entries.iter().map(|entry| entry.meta.clone()).zip(bodies);
        if class == Class::Checkpoint {
            writer.add_blocks(records.collect(), &mut encoder)?;
        } else {
            for (meta, body) in records {
                writer.add(meta, &body, &mut encoder)?;
            }
        }
        let finished = writer.finish()?;
        let mut places = Vec::with_capacity(entries.len());
        // By order, not by record: an id that occurs in two partitions may have equal versions in both.
        for ((done, raw_bytes), entry) in finished.entries.into_iter().zip(raw).zip(&entries) {
            let id = &entry.meta.id;
            if done.meta != entry.meta {
                return Err(internal("an entry is not where its pack says"));
            }
            let range = done.locator.range();
            let frame = finished.bytes.get(range.start as usize..range.end as usize);
            let frame = frame.ok_or_else(|| internal("a frame lies outside its own pack"))?;
            let back = read_entry(id, &done.locator, frame, None)?;
            let equal = match &entry.body {
                Body::Increment(body) => decode_increment(&back, &id.key.id)? == *body,
                Body::Full(body) => decode_full(&back)? == **body,
            };
            if !equal {
                return Err(internal("what was encoded does not read back"));
            }
            places.push(Place {
                meta: done.meta,
                locator: done.locator,
                raw_bytes,
                stored_bytes: done.stored_len,
            });
        }
        Ok(Encoded { pack, name: pack_name(class, pack), bytes: finished.bytes, places })
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
        let mut last = Error::corrupt("no read");
        for _ in 0..READS {
            let frame = self.blobs.get_range(&name, range.start, range.end - range.start).await;
            let frame = frame.map_err(|error| read_error(&name, &error))?;
            match checked_entry(id, locator, &frame, None).and_then(|body| decode(&body)) {
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
        let footer = self.footer(row.pack).await?;
        let entries = table_of(&footer, row.key.partition, row.key.lineage)?;
        if entries.len() != row.entries as usize {
            return Err(Error::corrupt("a checkpoint's footer and its row disagree about its entries"));
        }
        Ok(LiveCheckpoint { pack: row.pack, object_bytes: row.object_bytes, entries: Arc::new(entries) })
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
fn table_of(
    footer: &Footer,
    partition: PartitionNo,
    lineage: crate::domain::ids::Lineage,
) -> Result<Entries> {
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
    Ok(Entries::from_sorted(metas.iter().map(|(meta, bytes)| Entry {
        id: &meta.id.key.id,
        from: meta.id.from_version,
        upto: meta.id.upto_version,
        first_offset: meta.first_offset,
        last_offset: meta.last_offset,
        effective_time: meta.effective_time,
        raw_bytes: u64::from(*bytes),
        marked: meta.is_quarantined,
    })))
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

fn internal(detail: &str) -> Error {
    Error::new(ErrorKind::Internal, "corrupt", detail)
}
