//! What a footer says of entries, collected one by one in footer order, and the layout of a pack around it.
//!
//! COST: an entry is a number in each column, its id's tail and its leaf in the Merkle tree; nothing else of
//! it is kept.

use super::facts::{self, EntryFacts, Mark};
use super::header::{Header, TRAILER_LEN, Trailer};
use super::locator::put_trail;
use super::section::{self, SectionWriter};
use super::{ENTRIES_MAX, column, ids, kind_code, merkle};
use crate::codec::compress::Encoded;
use crate::codec::wire::{put_bytes, put_varint};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::Digest;
use crate::domain::record::{RecordKind, RecordMeta};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

pub(super) const DELETED: i64 = 1;
pub(super) const QUARANTINED: i64 = 2;
pub(super) const TRAIL: i64 = 4;
pub(super) const CHAIN: i64 = 8;
pub(super) const STATE_DIGEST: i64 = 16;
// 32 is reserved for a base reference (zstd against the parent), 64 was for segments, which need no flag.
pub(super) const FLAGS_KNOWN: i64 = DELETED | QUARANTINED | TRAIL | CHAIN | STATE_DIGEST;

/// The columns of entries, in the order in which a footer has them.
const COLUMNS: [u8; 13] = [
    section::LINEAGE,
    section::UPTO_VERSION,
    section::KIND,
    section::VERSION_SPAN,
    section::PARTITION,
    section::FIRST_OFFSET,
    section::OFFSET_SPAN,
    section::LEADER_EPOCH,
    section::EFFECTIVE_TIME,
    section::FLAGS,
    section::BODY_LEN,
    section::CRC,
    section::FRAME,
];

/// One entry's body.
#[derive(Clone, Copy)]
pub(super) struct Body {
    /// Its bytes.
    pub(super) len: usize,
    pub(super) crc: u32,
    pub(super) leaf: Digest,
}

impl Body {
    /// Of these bytes, as the body of the record with this identity.
    pub(super) fn new(identity: &[u8], bytes: &[u8]) -> Self {
        let crc = merkle::keyed_crc(identity, bytes);
        Self { len: bytes.len(), crc, leaf: merkle::leaf(identity, bytes) }
    }
}

/// What comes after type and id in the order of entries: lineage, version, kind, base and partition.
type Order = (u32, u64, u8, u64, i32);

fn order(meta: &RecordMeta) -> Order {
    let id = &meta.id;
    (id.lineage.0, id.upto_version.0, kind_code(id.kind), id.from_version.0, meta.partition.0)
}

/// The rows of a footer.
#[derive(Default)]
pub(super) struct Rows {
    types: Vec<(Arc<str>, u64)>,
    ids: ids::Writer,
    last: Order,
    columns: [Vec<i64>; COLUMNS.len()],
    chains: Vec<u8>,
    digests: Vec<u8>,
    trails: Vec<u8>,
    facts: facts::Columns,
    marks: Vec<Mark>,
    tree: merkle::Tree,
}

impl Rows {
    /// No rows, and room for this many.
    pub(super) fn with_capacity(entries: usize) -> Self {
        let columns = std::array::from_fn(|_| Vec::with_capacity(entries));
        Self { columns, ..Self::default() }
    }

    /// Adds the entry that comes next in footer order; its body is in the frame with this number.
    ///
    /// Fails with `Internal` if it does not come after the one before.
    pub(super) fn push(
        &mut self,
        meta: &RecordMeta,
        facts: Option<&EntryFacts>,
        frame: usize,
        body: &Body,
    ) -> Result<()> {
        let (key, order) = (&meta.id.key, order(meta));
        match self.types.last_mut() {
            Some((kind, entries)) if *kind == key.kind => {
                if (self.ids.last(), self.last) >= (&*key.id, order) {
                    let detail = format!(
                        "version `{}` of one record twice in a pack, or before another one",
                        meta.id.upto_version
                    );
                    return Err(Error::new(ErrorKind::Internal, "corrupt", detail));
                }
                *entries += 1;
            }
            Some((kind, _)) if *kind > key.kind => {
                return Err(Error::new(ErrorKind::Internal, "corrupt", "types of a pack out of order"));
            }
            _ => self.types.push((Arc::clone(&key.kind), 1)),
        }
        self.last = order;
        self.ids.push(&key.id);
        let row = [
            i64::from(meta.id.lineage.0),
            meta.id.upto_version.0 as i64,
            i64::from(kind_code(meta.id.kind)),
            version_span(meta),
            i64::from(meta.partition.0),
            meta.first_offset.0,
            meta.last_offset.0.wrapping_sub(meta.first_offset.0),
            i64::from(meta.leader_epoch),
            meta.effective_time.0,
            flags(meta),
            body.len as i64,
            i64::from(body.crc),
            frame as i64,
        ];
        self.columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        meta.chain.iter().for_each(|digest| self.chains.extend_from_slice(&digest.0));
        meta.state_digest.iter().for_each(|digest| self.digests.extend_from_slice(&digest.0));
        meta.trail.iter().for_each(|trail| put_trail(&mut self.trails, trail));
        self.facts.push(facts);
        self.tree.push(body.leaf);
        Ok(())
    }

    /// Says which low watermarks hold once the pack is durable.
    pub(super) fn mark(&mut self, marks: Vec<Mark>) {
        self.marks = marks;
    }

    fn len(&self) -> usize {
        self.columns[0].len()
    }

    fn footer(&self, header: &Header, frames: &[&Encoded]) -> Result<Vec<u8>> {
        let mut sections = SectionWriter::new(header.class)?;
        sections.put(section::HEADER, &header.encode())?;
        let mut types = Vec::new();
        for (kind, entries) in &self.types {
            put_bytes(&mut types, kind.as_bytes());
            put_varint(&mut types, *entries);
        }
        sections.put(section::TYPES, &types)?;
        sections.put(section::IDS, self.ids.bytes())?;
        for (id, values) in COLUMNS.into_iter().zip(&self.columns) {
            sections.put(id, &column::encode(values))?;
        }
        let mut frame_column = |id, value: &dyn Fn(&Encoded) -> i64| {
            sections.put(id, &column::encode(&frames.iter().map(|frame| value(frame)).collect::<Vec<_>>()))
        };
        frame_column(section::FRAME_LEN, &|frame| frame.bytes.len() as i64)?;
        frame_column(section::FRAME_ALGORITHM, &|frame| i64::from(frame.algorithm.code()))?;
        let slot = |digest| header.dictionaries.iter().position(|known| *known == digest);
        frame_column(section::FRAME_DICTIONARY, &|frame| {
            frame.dictionary.and_then(slot).map_or(0, |slot| slot as i64 + 1)
        })?;
        let digests = [
            (section::CHAINS, &self.chains),
            (section::STATE_DIGESTS, &self.digests),
            (section::TRAILS, &self.trails),
        ];
        for (id, bytes) in digests {
            if !bytes.is_empty() {
                sections.put(id, bytes)?;
            }
        }
        if let Some(facts) = self.facts.encode() {
            sections.put(section::FACTS, &facts)?;
        }
        if !self.marks.is_empty() {
            sections.put(section::MARKS, &facts::encode_marks(&self.marks))?;
        }
        Ok(sections.bytes)
    }
}

/// How `from_version` is stored: as a distance for D, as itself for F (mostly 0) and for S (so that readers
/// of before there were segments find the entries in order).
fn version_span(meta: &RecordMeta) -> i64 {
    match meta.id.kind {
        RecordKind::Increment => meta.id.upto_version.0.wrapping_sub(meta.id.from_version.0) as i64,
        RecordKind::Full | RecordKind::Segment => meta.id.from_version.0 as i64,
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

/// A pack that is laid out.
pub(super) struct Laid {
    /// The whole object.
    pub(super) bytes: Vec<u8>,
    /// Where each frame starts in it.
    pub(super) offsets: Vec<u64>,
    pub(super) merkle_root: Digest,
}

/// The object: header, frames in the order of their numbers, footer, trailer. What the header says of frames
/// is filled in.
pub(super) fn lay_out(header: &mut Header, frames: &[&Encoded], rows: &Rows) -> Result<Laid> {
    for frame in frames {
        header.algorithms |= 1 << frame.algorithm.code();
        if let Some(digest) = frame.dictionary.filter(|digest| !header.dictionaries.contains(digest)) {
            header.dictionaries.push(digest);
        }
    }
    let footer = rows.footer(header, frames)?;
    let mut bytes = header.encode();
    let frames_start = bytes.len();
    let frames_len: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    bytes.reserve_exact(frames_len + footer.len() + TRAILER_LEN);
    let mut offsets = Vec::with_capacity(frames.len());
    for frame in frames {
        offsets.push(bytes.len() as u64);
        bytes.extend_from_slice(&frame.bytes);
    }
    let count = |len: usize| {
        let count = u32::try_from(len).ok().filter(|_| len <= ENTRIES_MAX);
        count.ok_or_else(|| Error::new(ErrorKind::Invalid, "bad-body", "a pack has too many entries"))
    };
    let merkle_root = rows.tree.root();
    let trailer = Trailer {
        footer_offset: bytes.len() as u64,
        footer_len: footer.len() as u64,
        entries: count(rows.len())?,
        frames: count(frames.len())?,
        frames_sha256: Digest(Sha256::digest(&bytes[frames_start..]).into()),
        footer_sha256: Digest(Sha256::digest(&footer).into()),
        merkle_root,
    };
    bytes.extend_from_slice(&footer);
    bytes.extend_from_slice(&trailer.encode());
    debug_assert_eq!(bytes.len() as u64, trailer.footer_offset + trailer.footer_len + TRAILER_LEN as u64);
    Ok(Laid { bytes, offsets, merkle_root })
}
