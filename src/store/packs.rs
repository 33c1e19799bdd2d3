//! Records in packs: reading one record or one footer, verified. What goes in is `encode`'s.
//!
//! *If it fails*: `Unavailable` if the store did not answer, `NotFound` if the object is not there, `Corrupt`
//!   if its bytes
//! disagree with their checksums even when read again. The caller falls back; nothing here guesses.
//! *If cancelled*: nothing is lost, reads have no effects.

use super::blobs::{Blob, Blobs};
use super::checkpoints::{Kept, locate};
use super::dictionaries::Dictionaries;
use super::erasures::Erasures;
use super::index::Index;
use super::inspect::record_of;
use super::unavailable;
use crate::codec::body::{decode_full, decode_increment, decode_segment};
use crate::codec::compress::Compression;
use crate::codec::dictionary::Dictionary;
use crate::codec::pack::{
    Footer, Inclusion, Locator, OpenTail, body_in, open_tail, pack_name, prove, read_frame, verify_pack,
};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, PackId, PartitionNo};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::outcome::PortError;
use crate::domain::partition::EntryRef;
use crate::domain::record::{Bytes, FullBody, IncrementBody, RecordId, RecordKind, SegmentBody};
use crate::domain::row::{PartitionKey, SnapshotRow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use super::dictionaries::CompressionPlan;
pub use crate::codec::pack::Class;

/// Bytes of an object's end that mostly hold its footer.
const TAIL_BYTES: u64 = 64 << 10;
/// How often a read whose bytes are damaged is repeated: the damage may be on the way.
const READS: usize = 3;

/// Reads of records and footers by what their checks came to, read by metrics.
#[derive(Debug, Default)]
pub struct Checks {
    /// Sound.
    pub sound: AtomicU64,
    /// Damaged, or what was encoded here did not decode to itself.
    pub damaged: AtomicU64,
}

impl Checks {
    fn note<T>(&self, read: &Result<T>) {
        match read {
            Ok(_) => self.sound.fetch_add(1, Ordering::Relaxed),
            Err(error) if error.kind == ErrorKind::Corrupt => self.damaged.fetch_add(1, Ordering::Relaxed),
            Err(_) => 0,
        };
    }
}

/// What reading every byte of a pack found.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// Bytes of the object.
    pub bytes: u64,
    /// Bytes of all readable bodies before compression.
    pub raw_bytes: u64,
    /// The dictionaries that its records need.
    pub dictionaries: Vec<Digest>,
    /// Its footer, if that can be read.
    pub footer: Option<Box<Footer>>,
    /// There is no such object.
    pub is_missing: bool,
    /// Everything that is wrong; empty for a sound pack.
    pub faults: Vec<String>,
}

/// Reads and encodes packs.
pub struct Packs {
    /// Objects.
    pub blobs: Arc<dyn Blobs>,
    pub(super) session: [u8; 16],
    pub(super) dictionaries: Dictionaries,
    pub(super) checkpoints: Kept,
    /// What checks came to.
    pub checks: Checks,
    /// Whose records are not to be read any more.
    pub erasures: Erasures,
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
        let erasures = Erasures::new(Arc::clone(&blobs));
        let (checkpoints, checks) = (Kept::default(), Checks::default());
        Self { blobs, session, dictionaries, checkpoints, checks, erasures }
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

    /// The segment of a row.
    ///
    /// # Errors
    /// See the module.
    pub async fn segment(&self, row: &SnapshotRow) -> Result<SegmentBody> {
        let id = Arc::clone(&row.key.id);
        let body = self.record(row, move |bytes| decode_segment(bytes, &id)).await?;
        let last = body.events.last().map(|event| event.version);
        if row.kind == RecordKind::Segment && body.from() == row.from_version && last == Some(row.version) {
            Ok(body)
        } else {
            Err(Error::corrupt("a segment of other versions"))
        }
    }

    /// The events of a row that holds events: an increment's or a segment's.
    ///
    /// # Errors
    /// See the module.
    pub async fn events(&self, row: &SnapshotRow) -> Result<IncrementBody> {
        match row.kind {
            RecordKind::Segment => {
                Ok(IncrementBody { events: self.segment(row).await?.events, quarantine: None })
            }
            RecordKind::Increment | RecordKind::Full => self.increment(row).await,
        }
    }

    /// The frame of a row's record as it is stored, in which the record was found sound.
    ///
    /// # Errors
    /// See the module.
    pub async fn frame(&self, row: &SnapshotRow) -> Result<(Locator, Blob)> {
        let locator = locator_of(row)?;
        let frame = self.located(row, &locator, |frame, _| Ok(frame.to_vec())).await?;
        Ok((locator, frame))
    }

    async fn record<T>(&self, row: &SnapshotRow, decode: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
        self.located(row, &locator_of(row)?, |_, body| decode(body)).await
    }

    /// One record by its locator, shown as frame and body; damaged bytes are read again before they count as
    /// damaged.
    async fn located<T>(
        &self,
        row: &SnapshotRow,
        locator: &Locator,
        show: impl Fn(&[u8], &[u8]) -> Result<T>,
    ) -> Result<T> {
        let id = record_of(row);
        let dictionary = match locator.dictionary {
            Some(id) => Some(self.dictionaries.get(id).await?),
            None => None,
        };
        let read = |frame: &[u8]| {
            let raw = checked_frame(locator, frame, dictionary.as_ref())?;
            show(frame, checked_body(&raw, &id, locator)?)
        };
        self.until_sound(locator, read).await
    }

    /// What is wrong with a copy of a dictionary while another copy is sound, so that no reader meets it.
    ///
    /// # Errors
    /// `Unavailable` if a store did not answer.
    pub async fn hidden_fault(&self, dictionary: Digest) -> Result<Option<String>> {
        self.dictionaries.hidden_fault(dictionary).await
    }

    /// The bytes of a dictionary's object, whatever the index has.
    ///
    /// # Errors
    /// `Unavailable` if the store did not answer, `Corrupt` if it has other bytes.
    pub(super) async fn dictionary_object(&self, dictionary: Digest) -> Result<Bytes> {
        self.dictionaries.object(dictionary).await
    }

    /// What is wrong with a pack, of which every byte is read: also those that no answer needs.
    ///
    /// # Errors
    /// `Unavailable` if a store did not answer.
    pub async fn faults(&self, class: Class, pack: PackId) -> Result<Vec<String>> {
        Ok(self.examine(class, pack).await?.faults)
    }

    /// Reads every byte of a pack, and what they decode to.
    ///
    /// # Errors
    /// `Unavailable` if a store did not answer.
    pub async fn examine(&self, class: Class, pack: PackId) -> Result<Examined> {
        Ok(self.whole(class, pack).await?.0)
    }

    /// The same, and the bytes themselves, which are those of the pack if no fault was found.
    ///
    /// # Errors
    /// `Unavailable` if a store did not answer.
    pub async fn whole(&self, class: Class, pack: PackId) -> Result<(Examined, Blob)> {
        let name = pack_name(class, pack);
        let (mut examined, mut bytes) = (Examined::default(), Blob::new());
        for _ in 0..READS {
            (examined, bytes) = match self.blobs.get_tail(&name, u64::MAX).await {
                Ok((bytes, _)) => (self.examined(pack, &bytes).await?, bytes),
                Err(PortError::Missing) => {
                    let faults = vec!["it is missing".to_owned()];
                    (Examined { is_missing: true, faults, ..examined }, Blob::new())
                }
                Err(error) => return Err(read_error(&name, &error)),
            };
            if examined.faults.is_empty() || mutant(Mutant::ArchiveUnproved) {
                break;
            }
        }
        examined.faults.iter_mut().for_each(|fault| *fault = format!("pack `{name}`: {fault}"));
        Ok((examined, bytes))
    }

    /// A record of a pack, and that it is in there: the whole pack is read for it.
    ///
    /// # Errors
    /// See the module; `NotFound` also where the pack does not hold the record.
    pub async fn inclusion(
        &self,
        class: Class,
        pack: PackId,
        id: &RecordId,
        partition: PartitionNo,
    ) -> Result<Inclusion> {
        let name = pack_name(class, pack);
        let mut last = Error::corrupt("no read");
        for _ in 0..READS {
            let (bytes, _) =
                self.blobs.get_tail(&name, u64::MAX).await.map_err(|error| read_error(&name, &error))?;
            let proven = match open_tail(pack, &bytes, bytes.len() as u64) {
                Ok(OpenTail::Ready(opened)) => {
                    let known = self.known(&opened.1).await?;
                    prove(pack, &bytes, (id, partition), |id| known.get(id).cloned())
                }
                Ok(OpenTail::Need(_)) => Err(Error::corrupt("its footer is longer than it")),
                Err(error) => Err(error),
            };
            self.checks.note(&proven);
            match proven {
                Err(error) if error.kind == ErrorKind::Corrupt => last = error,
                proven => return proven,
            }
        }
        Err(last.context(&format!("read `{name}`")))
    }

    /// The dictionaries that a pack lists, as far as they can be had.
    pub(super) async fn known(&self, footer: &Footer) -> Result<BTreeMap<Digest, Dictionary>> {
        let mut known = BTreeMap::new();
        for id in &footer.header().dictionaries {
            match self.dictionaries.get(*id).await {
                Ok(dictionary) => drop(known.insert(*id, dictionary)),
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                // Its records' faults tell of it.
                Err(_) => {}
            }
        }
        Ok(known)
    }

    async fn examined(&self, pack: PackId, bytes: &[u8]) -> Result<Examined> {
        let with = |faults| Examined { bytes: bytes.len() as u64, faults, ..Examined::default() };
        let footer = match open_tail(pack, bytes, bytes.len() as u64) {
            Ok(OpenTail::Ready(opened)) => opened.1,
            Ok(OpenTail::Need(_)) => return Ok(with(vec!["its footer is longer than it".to_owned()])),
            Err(error) => return Ok(with(vec![error.detail])),
        };
        let known = self.known(&footer).await?;
        let dictionaries = footer.header().dictionaries.clone();
        let examined = match verify_pack(pack, bytes, |id| known.get(id).cloned()) {
            Ok(report) => {
                let faults = report.faults.into_iter().map(|fault| fault.error.detail).collect();
                Examined { raw_bytes: report.raw_len, ..with(faults) }
            }
            Err(error) => with(vec![error.detail]),
        };
        Ok(Examined { dictionaries, footer: Some(Box::new(footer)), ..examined })
    }

    /// Fetches a frame until what is made of it is not damaged.
    async fn until_sound<T>(&self, locator: &Locator, read: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
        let name = pack_name(locator.class, locator.pack);
        let range = locator.range();
        let mut last = Error::corrupt("no read");
        for _ in 0..READS {
            let frame = self.blobs.get_range(&name, range.start, range.end - range.start).await;
            let frame = frame.map_err(|error| read_error(&name, &error))?;
            let read = read(&frame);
            self.checks.note(&read);
            match read {
                Ok(read) => return Ok(read),
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
        let (id, locator) = locate(partition, key, entry)?;
        let read = |block: &[u8]| decode_increment(checked_body(block, &id, &locator)?, &key.id);
        // SUBTLE: a block is kept when one of its bodies was found sound; each other one is checked when it
        // is read, and read again from the store where it is not.
        if let Some(Ok(body)) = self.checkpoints.block(&locator).map(|block| read(&block)) {
            return Ok(body);
        }
        let keep = |frame: &[u8]| {
            let block = Arc::new(checked_frame(&locator, frame, None)?);
            let body = read(&block)?;
            self.checkpoints.keep_block(&locator, &block);
            Ok(body)
        };
        self.until_sound(&locator, keep).await
    }

    /// The footer of a checkpoint pack, from its end.
    pub(super) async fn footer(&self, pack: PackId) -> Result<Footer> {
        Ok(self.footer_of(Class::Checkpoint, pack).await?.0)
    }

    /// The footer of a pack, from its end, and the bytes of the whole object.
    ///
    /// # Errors
    /// See the module.
    pub async fn footer_of(&self, class: Class, pack: PackId) -> Result<(Footer, u64)> {
        let name = pack_name(class, pack);
        let mut last = Error::corrupt("no read");
        for _ in 0..READS {
            let read = self.read_footer(&name, pack).await;
            self.checks.note(&read);
            match read {
                Ok(footer) => return Ok(footer),
                Err(error) if error.kind == ErrorKind::Corrupt => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last.context(&format!("read the footer of `{name}`")))
    }

    async fn read_footer(&self, name: &str, pack: PackId) -> Result<(Footer, u64)> {
        let mut bytes = TAIL_BYTES;
        loop {
            let (tail, len) =
                self.blobs.get_tail(name, bytes).await.map_err(|error| read_error(name, &error))?;
            match open_tail(pack, &tail, len)? {
                OpenTail::Ready(opened) => return Ok((opened.1, len)),
                OpenTail::Need(need) if need > bytes && need <= len => bytes = need,
                OpenTail::Need(_) => return Err(Error::corrupt("a footer is longer than its object")),
            }
        }
    }
}

fn locator_of(row: &SnapshotRow) -> Result<Locator> {
    let locator = Locator::decode(&row.locator)?;
    if locator.pack != row.pack {
        return Err(Error::corrupt("a row's locator names another pack"));
    }
    Ok(locator)
}

pub(super) fn checked_frame(
    locator: &Locator,
    frame: &[u8],
    dictionary: Option<&Dictionary>,
) -> Result<Blob> {
    if mutant(Mutant::ChecksumIgnored) {
        let raw_len = locator.frame_raw_len as usize;
        return crate::codec::compress::decode(locator.algorithm, frame, raw_len, dictionary);
    }
    read_frame(locator, frame, dictionary)
}

fn checked_body<'a>(raw: &'a [u8], id: &RecordId, locator: &Locator) -> Result<&'a [u8]> {
    if mutant(Mutant::ChecksumIgnored) {
        let rest = raw.get(locator.body_start as usize..).unwrap_or_default();
        return Ok(rest.get(..locator.body_len as usize).unwrap_or(rest));
    }
    body_in(raw, id, locator)
}

fn read_error(name: &str, error: &PortError) -> Error {
    match error {
        PortError::Missing => Error::new(ErrorKind::NotFound, "corrupt", format!("`{name}` is missing")),
        other => unavailable(&format!("read `{name}`"), other),
    }
}
