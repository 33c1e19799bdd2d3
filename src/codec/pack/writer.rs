//! Making a pack: collect entries and compressed frames, then lay them out in footer order.
//!
//! Frames are written in the order of their first entry, whatever the order of adding, so neighbours in the
//! key space are neighbours in the object and most columns of the footer hold next to nothing.

use super::header::{Class, Header, TRAILER_LEN, Trailer};
use super::locator::{Locator, put_trail};
use super::section::{self, SectionWriter};
use super::{ENTRIES_MAX, NAME_LEN_MAX, column, identity, ids, kind_code, merkle};
use crate::codec::compress::{Encoded, Encoder};
use crate::codec::wire::{put_bytes, put_varint};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Digest, PackId, PartitionNo};
use crate::domain::record::{RecordId, RecordKind, RecordMeta};
use sha2::{Digest as _, Sha256};

/// Uncompressed bytes at which [`PackWriter::add_blocks`] starts a new block.
pub const BLOCK_LEN: usize = 16 << 10;

pub(super) const DELETED: i64 = 1;
pub(super) const QUARANTINED: i64 = 2;
pub(super) const TRAIL: i64 = 4;
pub(super) const CHAIN: i64 = 8;
pub(super) const STATE_DIGEST: i64 = 16;
// 32 is reserved for a base reference (zstd against the parent), 64 for segments.
pub(super) const FLAGS_KNOWN: i64 = DELETED | QUARANTINED | TRAIL | CHAIN | STATE_DIGEST;

/// Collects the entries of one pack.
pub struct PackWriter {
    header: Header,
    entries: Vec<Pending>,
    frames: Vec<Encoded>,
}

struct Pending {
    meta: RecordMeta,
    frame: usize,
    body_len: usize,
    crc: u32,
    leaf: Digest,
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
    /// SHA-256 of the object.
    pub sha256: Digest,
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
        check(&meta)?;
        let frame = encoder.encode(body)?;
        self.push(meta, body, self.frames.len());
        self.frames.push(frame);
        Ok(self.entries.len() - 1)
    }

    /// Adds many records, compressed together in one frame; their places follow each other in the given
    /// order.
    pub fn add_block(&mut self, records: Vec<(RecordMeta, Vec<u8>)>, encoder: &mut Encoder) -> Result<()> {
        self.add_in_blocks(records, usize::MAX, encoder)
    }

    /// Adds many records in blocks of about [`BLOCK_LEN`] bytes of neighbouring records. Their places follow
    /// each other in the given order.
    pub fn add_blocks(&mut self, records: Vec<(RecordMeta, Vec<u8>)>, encoder: &mut Encoder) -> Result<()> {
        self.add_in_blocks(records, BLOCK_LEN, encoder)
    }

    fn add_in_blocks(
        &mut self,
        records: Vec<(RecordMeta, Vec<u8>)>,
        block_len: usize,
        encoder: &mut Encoder,
    ) -> Result<()> {
        records.iter().try_for_each(|(meta, _)| check(meta))?;
        let mut sorted: Vec<usize> = (0..records.len()).collect();
        sorted.sort_by(|a, b| order(&records[*a].0).cmp(&order(&records[*b].0)));
        let mut frame_of = vec![0; records.len()];
        let mut frames = Vec::new();
        let mut block = Vec::new();
        for (nth, at) in sorted.iter().enumerate() {
            frame_of[*at] = self.frames.len() + frames.len();
            block.extend_from_slice(&records[*at].1);
            if block.len() >= block_len || nth + 1 == sorted.len() {
                frames.push(encoder.encode(&block)?);
                block.clear();
            }
        }
        for ((meta, body), frame) in records.into_iter().zip(frame_of) {
            self.push(meta, &body, frame);
        }
        self.frames.append(&mut frames);
        Ok(())
    }

    /// The entry of a body in this frame.
    fn push(&mut self, meta: RecordMeta, body: &[u8], frame: usize) {
        let identity = identity(&meta.id);
        let crc = merkle::keyed_crc(&identity, body);
        let leaf = merkle::leaf(&identity, body);
        self.entries.push(Pending { meta, frame, body_len: body.len(), crc, leaf });
    }

    /// The object. Fails with `Internal` if one record of one partition was added twice.
    pub fn finish(self) -> Result<FinishedPack> {
        let Self { mut header, entries, frames } = self;
        let order_of = |at: &usize| order(&entries[*at].meta);
        let mut sorted: Vec<usize> = (0..entries.len()).collect();
        sorted.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
        if let Some(pair) = sorted.windows(2).find(|pair| order_of(&pair[0]) == order_of(&pair[1])) {
            let detail =
                format!("version `{}` of one record twice in a pack", entries[pair[0]].meta.id.upto_version);
            return Err(Error::new(ErrorKind::Internal, "corrupt", detail));
        }
        let order = sorted;
        // New numbers of the frames: by first entry.
        let mut renumbered = vec![usize::MAX; frames.len()];
        let mut layout = Vec::with_capacity(frames.len());
        for at in &order {
            let frame = entries[*at].frame;
            if renumbered[frame] == usize::MAX {
                renumbered[frame] = layout.len();
                layout.push(&frames[frame]);
            }
        }
        for frame in &layout {
            header.algorithms |= 1 << frame.algorithm.code();
            if let Some(digest) = frame.dictionary.filter(|digest| !header.dictionaries.contains(digest)) {
                header.dictionaries.push(digest);
            }
        }
        let sorted: Vec<&Pending> = order.iter().map(|at| &entries[*at]).collect();
        let frame_of: Vec<usize> = sorted.iter().map(|entry| renumbered[entry.frame]).collect();
        let merkle_root = merkle::root(&sorted.iter().map(|entry| entry.leaf).collect::<Vec<_>>());
        let bytes = assemble(&header, &sorted, &frame_of, &layout, merkle_root)?;
        let sha256 = Digest(Sha256::digest(&bytes).into());
        let raw_len = entries.iter().map(|entry| entry.body_len as u64).sum();
        let (id, class) = (header.pack, header.class);
        let mut finished = locate(&header, &sorted, &frame_of, &layout);
        // From footer order back to the order of adding.
        let mut places = order;
        invert(&mut places);
        let entries = places.into_iter().map(|at| finished[at].take().expect("each place is asked for once"));
        Ok(FinishedPack { id, class, bytes, entries: entries.collect(), sha256, merkle_root, raw_len })
    }
}

/// What entries are sorted by: one record may be there once for each partition that has its aggregate's id.
fn order(meta: &RecordMeta) -> (&RecordId, PartitionNo) {
    (&meta.id, meta.partition)
}

fn invert(permutation: &mut Vec<usize>) {
    let mut inverse = vec![0; permutation.len()];
    permutation.iter().enumerate().for_each(|(at, to)| inverse[*to] = at);
    *permutation = inverse;
}

fn check(meta: &RecordMeta) -> Result<()> {
    let RecordMeta { id, .. } = meta;
    let is_name = |name: &str| (1..=NAME_LEN_MAX).contains(&name.len());
    let is_range = match id.kind {
        // An increment without events only carries a quarantine mark.
        RecordKind::Increment if !meta.is_quarantined => id.from_version < id.upto_version,
        RecordKind::Increment | RecordKind::Full => id.from_version <= id.upto_version,
    };
    let is_trail = meta.trail.as_ref().is_none_or(|trail| trail.is_sorted_by(|a, b| a < b));
    if is_name(&id.key.kind) && is_name(&id.key.id) && is_range && is_trail {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "bad-body", "a record's names, versions or trail cannot be stored"))
}

fn assemble(
    header: &Header,
    sorted: &[&Pending],
    frame_of: &[usize],
    layout: &[&Encoded],
    merkle_root: Digest,
) -> Result<Vec<u8>> {
    let mut bytes = header.encode();
    let frames_start = bytes.len();
    layout.iter().for_each(|frame| bytes.extend_from_slice(&frame.bytes));
    let frames_sha256 = Digest(Sha256::digest(&bytes[frames_start..]).into());
    let footer = footer(header, sorted, frame_of, layout)?;
    let count = |len: usize| {
        let count = u32::try_from(len).ok().filter(|_| len <= ENTRIES_MAX);
        count.ok_or_else(|| Error::new(ErrorKind::Invalid, "bad-body", "a pack has too many entries"))
    };
    let trailer = Trailer {
        footer_offset: bytes.len() as u64,
        footer_len: footer.len() as u64,
        entries: count(sorted.len())?,
        frames: count(layout.len())?,
        frames_sha256,
        footer_sha256: Digest(Sha256::digest(&footer).into()),
        merkle_root,
    };
    bytes.extend_from_slice(&footer);
    bytes.extend_from_slice(&trailer.encode());
    debug_assert_eq!(bytes.len() as u64, trailer.footer_offset + trailer.footer_len + TRAILER_LEN as u64);
    Ok(bytes)
}

fn footer(header: &Header, sorted: &[&Pending], frame_of: &[usize], layout: &[&Encoded]) -> Result<Vec<u8>> {
    let mut sections = SectionWriter::new(header.class)?;
    sections.put(section::HEADER, &header.encode())?;
    let mut types = Vec::new();
    for group in sorted.chunk_by(|a, b| a.meta.id.key.kind == b.meta.id.key.kind) {
        put_bytes(&mut types, group[0].meta.id.key.kind.as_bytes());
        put_varint(&mut types, group.len() as u64);
    }
    sections.put(section::TYPES, &types)?;
    sections.put(section::IDS, &ids::encode(sorted.iter().map(|entry| &*entry.meta.id.key.id)))?;
    entry_columns(&mut sections, sorted, frame_of)?;
    let mut frame_column = |id, value: &dyn Fn(&Encoded) -> i64| {
        sections.put(id, &column::encode(&layout.iter().map(|frame| value(frame)).collect::<Vec<_>>()))
    };
    frame_column(section::FRAME_LEN, &|frame| frame.bytes.len() as i64)?;
    frame_column(section::FRAME_ALGORITHM, &|frame| i64::from(frame.algorithm.code()))?;
    let slot = |digest| header.dictionaries.iter().position(|known| *known == digest);
    frame_column(section::FRAME_DICTIONARY, &|frame| {
        frame.dictionary.and_then(slot).map_or(0, |slot| slot as i64 + 1)
    })?;
    let (mut chains, mut digests, mut trails) = (Vec::new(), Vec::new(), Vec::new());
    for Pending { meta, .. } in sorted {
        meta.chain.iter().for_each(|digest| chains.extend_from_slice(&digest.0));
        meta.state_digest.iter().for_each(|digest| digests.extend_from_slice(&digest.0));
        meta.trail.iter().for_each(|trail| put_trail(&mut trails, trail));
    }
    for (id, bytes) in
        [(section::CHAINS, chains), (section::STATE_DIGESTS, digests), (section::TRAILS, trails)]
    {
        if !bytes.is_empty() {
            sections.put(id, &bytes)?;
        }
    }
    Ok(sections.bytes)
}

fn entry_columns(sections: &mut SectionWriter, sorted: &[&Pending], frame_of: &[usize]) -> Result<()> {
    let mut entry_column = |id, value: &dyn Fn(&Pending) -> i64| {
        sections.put(id, &column::encode(&sorted.iter().map(|entry| value(entry)).collect::<Vec<_>>()))
    };
    entry_column(section::LINEAGE, &|entry| i64::from(entry.meta.id.lineage.0))?;
    entry_column(section::UPTO_VERSION, &|entry| entry.meta.id.upto_version.0 as i64)?;
    entry_column(section::KIND, &|entry| i64::from(kind_code(entry.meta.id.kind)))?;
    entry_column(section::VERSION_SPAN, &|entry| version_span(&entry.meta))?;
    entry_column(section::PARTITION, &|entry| i64::from(entry.meta.partition.0))?;
    entry_column(section::FIRST_OFFSET, &|entry| entry.meta.first_offset.0)?;
    entry_column(section::OFFSET_SPAN, &|entry| {
        entry.meta.last_offset.0.wrapping_sub(entry.meta.first_offset.0)
    })?;
    entry_column(section::LEADER_EPOCH, &|entry| i64::from(entry.meta.leader_epoch))?;
    entry_column(section::EFFECTIVE_TIME, &|entry| entry.meta.effective_time.0)?;
    entry_column(section::FLAGS, &|entry| flags(&entry.meta))?;
    entry_column(section::BODY_LEN, &|entry| entry.body_len as i64)?;
    entry_column(section::CRC, &|entry| i64::from(entry.crc))?;
    let frames: Vec<i64> = frame_of.iter().map(|frame| *frame as i64).collect();
    sections.put(section::FRAME, &column::encode(&frames))
}

/// How `from_version` is stored: as a distance for D, as itself (mostly 0) for F.
fn version_span(meta: &RecordMeta) -> i64 {
    match meta.id.kind {
        RecordKind::Increment => meta.id.upto_version.0.wrapping_sub(meta.id.from_version.0) as i64,
        RecordKind::Full => meta.id.from_version.0 as i64,
    }
}

fn flags(meta: &RecordMeta) -> i64 {
    let flag = |flag, set: bool| if set { flag } else { 0 };
    flag(DELETED, meta.is_deleted)
        | flag(QUARANTINED, meta.is_quarantined)
        | flag(TRAIL, meta.trail.is_some())
        | flag(CHAIN, meta.chain.is_some())
        | flag(STATE_DIGEST, meta.state_digest.is_some())
}

/// The finished entries in footer order.
fn locate(
    header: &Header,
    sorted: &[&Pending],
    frame_of: &[usize],
    layout: &[&Encoded],
) -> Vec<Option<FinishedEntry>> {
    let mut offset = header.encode().len() as u64;
    let mut offsets = Vec::with_capacity(layout.len());
    for frame in layout {
        offsets.push(offset);
        offset += frame.bytes.len() as u64;
    }
    let mut starts = vec![0; layout.len()];
    let finish = |(entry, at): (&&Pending, &usize)| {
        let (frame, body_start) = (layout[*at], starts[*at]);
        starts[*at] += entry.body_len as u32;
        let share = frame.bytes.len() as u64 * entry.body_len as u64 / frame.raw_len.max(1) as u64;
        let locator = Locator {
            pack: header.pack,
            class: header.class,
            frame_offset: offsets[*at],
            frame_len: frame.bytes.len() as u32,
            frame_raw_len: frame.raw_len as u32,
            algorithm: frame.algorithm,
            dictionary: frame.dictionary,
            body_start,
            body_len: entry.body_len as u32,
            crc: entry.crc,
            trail: entry.meta.trail.clone(),
            inline: None,
        };
        Some(FinishedEntry { meta: entry.meta.clone(), locator, stored_len: share })
    };
    sorted.iter().zip(frame_of).map(finish).collect()
}
