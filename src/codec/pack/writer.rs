//! Making a pack of records that come in any order: collect entries and compressed frames, then lay them out
//! in footer order.
//!
//! Frames are written in the order of their first entry, whatever the order of adding, so neighbours in the
//! key space are neighbours in the object and most columns of the footer hold next to nothing.

use super::facts::EntryFacts;
use super::header::{Class, Header};
use super::locator::Locator;
use super::rows::{Body, Rows, lay_out};
use super::{NAME_LEN_MAX, identity};
use crate::codec::compress::{Encoded, Encoder};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Digest, PackId, PartitionNo};
use crate::domain::record::{RecordId, RecordKind, RecordMeta};

/// Collects the entries of one pack.
pub struct PackWriter {
    header: Header,
    entries: Vec<Pending>,
    frames: Vec<Encoded>,
}

struct Pending {
    meta: RecordMeta,
    facts: Option<EntryFacts>,
    frame: usize,
    body: Body,
}

/// A pack ready to be stored.
#[derive(Clone, Debug)]
pub struct FinishedPack {
    /// Its name.
    pub id: PackId,
    /// Its class.
    pub class: Class,
    /// The whole object.
    pub bytes: Vec<u8>,
    /// Entries in the order in which they were added.
    pub entries: Vec<FinishedEntry>,
    /// Merkle root over its entries.
    pub merkle_root: Digest,
    /// Bytes of all bodies before compression.
    pub raw_len: u64,
}

/// One entry of a finished pack.
#[derive(Clone, Debug)]
pub struct FinishedEntry {
    /// What it was added with.
    pub meta: RecordMeta,
    /// How to read it.
    pub locator: Locator,
    /// Stored bytes that are this entry's: its frame, or its share of the block by raw length.
    pub stored_len: u64,
}

impl PackWriter {
    /// An empty pack.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self { header, entries: Vec::new(), frames: Vec::new() }
    }

    /// Number of entries so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Stored bytes of the frames so far.
    #[must_use]
    pub fn frames_len(&self) -> u64 {
        self.frames.iter().map(|frame| frame.bytes.len() as u64).sum()
    }

    /// Adds one record in a frame of its own and returns its place in [`FinishedPack::entries`].
    ///
    /// Fails with `Invalid` if the record cannot be stored in a pack (name or body too long).
    pub fn add(&mut self, meta: RecordMeta, body: &[u8], encoder: &mut Encoder) -> Result<usize> {
        self.add_frame(meta, body, encoder.encode(body)?)
    }

    /// The same with a frame that this body was encoded to.
    pub fn add_frame(&mut self, meta: RecordMeta, body: &[u8], frame: Encoded) -> Result<usize> {
        check(&meta)?;
        self.push(meta, body);
        self.frames.push(frame);
        Ok(self.entries.len() - 1)
    }

    /// Says of the entry with this place what its index row will say.
    pub fn note(&mut self, place: usize, facts: EntryFacts) {
        self.entries[place].facts = Some(facts);
    }

    /// Adds many records, compressed together in one frame; their places follow each other in the given
    /// order.
    pub fn add_block(&mut self, records: Vec<(RecordMeta, Vec<u8>)>, encoder: &mut Encoder) -> Result<()> {
        records.iter().try_for_each(|(meta, _)| check(meta))?;
        if records.is_empty() {
            return Ok(());
        }
        let mut sorted: Vec<&(RecordMeta, Vec<u8>)> = records.iter().collect();
        sorted.sort_by(|a, b| order(&a.0).cmp(&order(&b.0)));
        let block: Vec<u8> = sorted.into_iter().flat_map(|(_, body)| body.iter().copied()).collect();
        let frame = encoder.encode(&block)?;
        records.into_iter().for_each(|(meta, body)| self.push(meta, &body));
        self.frames.push(frame);
        Ok(())
    }

    /// The entry of a body in the frame that comes next.
    fn push(&mut self, meta: RecordMeta, body: &[u8]) {
        let body = Body::new(&identity(&meta.id), body);
        self.entries.push(Pending { meta, facts: None, frame: self.frames.len(), body });
    }

    /// The object. Fails with `Internal` if one record of one partition was added twice.
    pub fn finish(self) -> Result<FinishedPack> {
        let Self { mut header, entries, frames } = self;
        let mut sorted: Vec<usize> = (0..entries.len()).collect();
        sorted.sort_by(|a, b| order(&entries[*a].meta).cmp(&order(&entries[*b].meta)));
        // New numbers of the frames: by first entry.
        let mut renumbered = vec![usize::MAX; frames.len()];
        let mut layout = Vec::with_capacity(frames.len());
        let mut rows = Rows::with_capacity(entries.len());
        for at in &sorted {
            let Pending { meta, facts, frame, body } = &entries[*at];
            if renumbered[*frame] == usize::MAX {
                renumbered[*frame] = layout.len();
                layout.push(&frames[*frame]);
            }
            rows.push(meta, facts.as_ref(), renumbered[*frame], body)?;
        }
        let laid = lay_out(&mut header, &layout, &rows)?;
        // Bodies of a frame stand in it in footer order.
        let mut starts = vec![0; layout.len()];
        let mut body_starts = vec![0; entries.len()];
        for at in sorted {
            let entry = &entries[at];
            let start = &mut starts[renumbered[entry.frame]];
            body_starts[at] = *start;
            *start += entry.body.len as u32;
        }
        let raw_len = entries.iter().map(|entry| entry.body.len as u64).sum();
        let entries = entries.into_iter().zip(body_starts).map(|(entry, body_start)| {
            let at = renumbered[entry.frame];
            finished(&header, entry, body_start, layout[at], laid.offsets[at])
        });
        Ok(FinishedPack {
            id: header.pack,
            class: header.class,
            entries: entries.collect(),
            bytes: laid.bytes,
            merkle_root: laid.merkle_root,
            raw_len,
        })
    }
}

/// An entry whose body starts there in this frame.
fn finished(
    header: &Header,
    entry: Pending,
    body_start: u32,
    frame: &Encoded,
    frame_offset: u64,
) -> FinishedEntry {
    let Pending { meta, body, .. } = entry;
    let share = frame.bytes.len() as u64 * body.len as u64 / frame.raw_len.max(1) as u64;
    let locator = Locator {
        pack: header.pack,
        class: header.class,
        frame_offset,
        frame_len: frame.bytes.len() as u32,
        frame_raw_len: frame.raw_len as u32,
        algorithm: frame.algorithm,
        dictionary: frame.dictionary,
        body_start,
        body_len: body.len as u32,
        crc: body.crc,
        trail: meta.trail.clone(),
        inline: None,
    };
    FinishedEntry { meta, locator, stored_len: share }
}

/// What entries are sorted by: one record may be there once for each partition that has its aggregate's id.
fn order(meta: &RecordMeta) -> (&RecordId, PartitionNo) {
    (&meta.id, meta.partition)
}

/// Fails with `Invalid` if a pack cannot hold this.
pub(super) fn check(meta: &RecordMeta) -> Result<()> {
    let RecordMeta { id, .. } = meta;
    let is_name = |name: &str| (1..=NAME_LEN_MAX).contains(&name.len());
    let is_range = match id.kind {
        // An increment without events only carries a quarantine mark.
        RecordKind::Increment if !meta.is_quarantined => id.from_version < id.upto_version,
        RecordKind::Increment | RecordKind::Full => id.from_version <= id.upto_version,
        // The mark is the head's, which is never merged.
        RecordKind::Segment => id.from_version < id.upto_version && !meta.is_quarantined,
    };
    let is_trail = meta.trail.as_ref().is_none_or(|trail| trail.is_sorted_by(|a, b| a < b));
    if is_name(&id.key.kind) && is_name(&id.key.id) && is_range && is_trail {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "bad-body", "a record's names, versions or trail cannot be stored"))
}
