//! A parsed footer: everything known about a pack's entries, in columns.
//!
//! Footers are cached by the dozen with up to 100,000 entries each, so nothing here is an object per entry:
//! numbers take the bytes they need (about 25 an entry), ids stay front-coded, and an entry is put together
//! when asked for.

use super::column::{self, Column};
use super::facts::{self, EntryFacts, Mark};
use super::header::{Header, Trailer};
use super::ids::Ids;
use super::locator::{Locator, read_trail};
use super::order::{OrderColumns, read_ids};
use super::rows::{CHAIN, DELETED, FLAGS_KNOWN, QUARANTINED, STATE_DIGEST, TRAIL};
use super::section::{self, Sections};
use super::{ENTRIES_MAX, NAME_LEN_MAX, kind_from_code};
use crate::codec::compress::{Algorithm, RAW_LEN_MAX};
use crate::codec::wire::Cursor;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PartitionNo, Timestamp, Version};
use crate::domain::record::{RecordId, RecordKind, RecordMeta};
use sha2::{Digest as _, Sha256};
use std::ops::Range;
use std::sync::Arc;

/// The entries of one pack, in footer order.
#[derive(Clone, Debug)]
pub struct Footer {
    header: Header,
    header_len: usize,
    types: Vec<(Arc<str>, Range<usize>)>,
    ids: Ids,
    len: usize,
    entries: EntryColumns,
    frames: FrameColumns,
    chains: Sparse,
    state_digests: Sparse,
    /// Place of the trail of the entry of this rank among those that have one.
    trail_rank: Column,
    trail_starts: Column,
    trails: Box<[u8]>,
    facts: section::Kept,
    marks: section::Kept,
}

#[derive(Clone, Debug)]
struct EntryColumns {
    lineage: Column,
    upto_version: Column,
    kind: Column,
    version_span: Column,
    partition: Column,
    first_offset: Column,
    offset_span: Column,
    leader_epoch: Column,
    effective_time: Column,
    flags: Column,
    frame: Column,
    body_start: Column,
    body_len: Column,
    crc: Column,
}

#[derive(Clone, Debug)]
struct FrameColumns {
    offset: Column,
    stored_len: Column,
    raw_len: Column,
    algorithm: Column,
    dictionary: Column,
}

/// Digests of some of the entries: the rank of each entry among those, and the digests.
#[derive(Clone, Debug)]
struct Sparse {
    rank: Column,
    digests: Box<[u8]>,
}

/// What an entry holds of whom, without the id and whatever takes memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Whose partition.
    pub partition: PartitionNo,
    /// Folded under which lineage.
    pub lineage: Lineage,
    /// What it is.
    pub kind: RecordKind,
    /// Version that it goes on from.
    pub from: Version,
    /// Version of the last event.
    pub upto: Version,
    /// Offset of the first event.
    pub first_offset: Offset,
    /// Offset of the last event.
    pub last_offset: Offset,
    /// Leader epoch of that event, -1 if unknown.
    pub leader_epoch: i32,
    /// Effective time of `upto`.
    pub effective_time: Timestamp,
    /// Bytes of the body.
    pub body_len: u32,
    /// It carries a quarantine mark.
    pub is_quarantined: bool,
}

impl Footer {
    /// The footer whose bytes these are. Fails if anything disagrees with the trailer or with itself.
    pub fn parse(bytes: &[u8], trailer: &Trailer) -> Result<Self> {
        if bytes.len() as u64 != trailer.footer_len || Sha256::digest(bytes)[..] != trailer.footer_sha256.0 {
            return Err(Error::corrupt("the footer disagrees with its digest"));
        }
        read(bytes, trailer).map_err(|error| error.context("read pack footer"))
    }

    /// What the pack is.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the header, where the frames start.
    pub(super) fn header_len(&self) -> usize {
        self.header_len
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The pack has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the footer holds, about.
    #[must_use]
    pub fn heap_len(&self) -> usize {
        let EntryColumns { lineage, upto_version, kind, version_span, partition, first_offset, .. } =
            &self.entries;
        let EntryColumns { offset_span, leader_epoch, effective_time, flags, .. } = &self.entries;
        let EntryColumns { frame, body_start, body_len, crc, .. } = &self.entries;
        let FrameColumns { offset, stored_len, raw_len, algorithm, dictionary } = &self.frames;
        let columns = [
            lineage,
            upto_version,
            kind,
            version_span,
            partition,
            first_offset,
            offset_span,
            leader_epoch,
            effective_time,
            flags,
            frame,
            body_start,
            body_len,
            crc,
            offset,
            stored_len,
            raw_len,
            algorithm,
            dictionary,
            &self.chains.rank,
            &self.state_digests.rank,
            &self.trail_rank,
            &self.trail_starts,
        ];
        let digests = self.chains.digests.len() + self.state_digests.digests.len() + self.trails.len();
        let digests = digests + self.facts.heap_len() + self.marks.heap_len();
        columns.into_iter().map(Column::heap_len).sum::<usize>() + self.ids.heap_len() + digests
    }

    /// The entries of an aggregate, in order of lineage, then version.
    #[must_use]
    pub fn find(&self, kind: &str, id: &str) -> Range<usize> {
        let at = self.types.binary_search_by(|(name, _)| (**name).cmp(kind));
        let range = at.map(|at| self.types[at].1.clone()).unwrap_or_default();
        // Every id was read at parsing, so the walk cannot fail.
        self.ids.find(range, id).unwrap_or_default()
    }

    /// Shows the ids of an aggregate type's entries from `id` on, in order, until `visit` says no.
    pub fn each_from(&self, kind: &str, id: &str, visit: impl FnMut(usize, &str) -> bool) {
        let at = self.types.binary_search_by(|(name, _)| (**name).cmp(kind));
        let range = at.map(|at| self.types[at].1.clone()).unwrap_or_default();
        self.ids.each_from(range, id, visit);
    }

    /// The aggregate types, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<str>> {
        self.types.iter().map(|(name, _)| name)
    }

    /// What entry `at` is. Fails if there is none, or if its kind or flags need a newer reader.
    pub fn meta(&self, at: usize) -> Result<RecordMeta> {
        let stretch = self.stretch(at)?;
        let entries = &self.entries;
        let flags = entries.flags.get(at);
        let trail = if flags & TRAIL != 0 { Some(self.trail(at)?) } else { None };
        Ok(RecordMeta {
            id: self.id(at)?,
            partition: stretch.partition,
            first_offset: stretch.first_offset,
            last_offset: stretch.last_offset,
            leader_epoch: entries.leader_epoch.get(at) as i32,
            effective_time: stretch.effective_time,
            chain: (flags & CHAIN != 0).then(|| self.chains.get(at)),
            state_digest: (flags & STATE_DIGEST != 0).then(|| self.state_digests.get(at)),
            is_deleted: flags & DELETED != 0,
            is_quarantined: stretch.is_quarantined,
            trail,
        })
    }

    /// What the index rows of the entries say beyond the rest of the footer, in footer order; none of any in
    /// packs of older writers.
    ///
    /// # Errors
    /// `Corrupt` if the section cannot be read.
    pub fn facts(&self) -> Result<Vec<Option<EntryFacts>>> {
        facts::decode(&self.facts.read(section::FACTS)?, self.len)
    }

    /// The low watermarks that hold once this checkpoint is durable; none in packs of older writers.
    ///
    /// # Errors
    /// `Corrupt` if the section cannot be read.
    pub fn marks(&self) -> Result<Vec<Mark>> {
        facts::decode_marks(&self.marks.read(section::MARKS)?)
    }

    /// The numbers of entry `at`. Fails like `meta`.
    pub fn stretch(&self, at: usize) -> Result<Stretch> {
        self.check(at)?;
        let entries = &self.entries;
        let flags = entries.flags.get(at);
        if flags & !FLAGS_KNOWN != 0 {
            return Err(Error::corrupt(format!("entry flags `{flags:#06x}` need a newer reader")));
        }
        let (kind, from, upto) = self.versions(at)?;
        let first_offset = entries.first_offset.get(at);
        Ok(Stretch {
            partition: PartitionNo(entries.partition.get(at) as i32),
            lineage: Lineage(entries.lineage.get(at) as u32),
            kind,
            from,
            upto,
            first_offset: Offset(first_offset),
            last_offset: Offset(first_offset.wrapping_add(entries.offset_span.get(at))),
            leader_epoch: entries.leader_epoch.get(at) as i32,
            effective_time: Timestamp(entries.effective_time.get(at)),
            body_len: entries.body_len.get(at) as u32,
            is_quarantined: flags & QUARANTINED != 0,
        })
    }

    fn versions(&self, at: usize) -> Result<(RecordKind, Version, Version)> {
        let kind = kind_from_code(self.entries.kind.get(at) as u8)?;
        let upto = self.entries.upto_version.get(at) as u64;
        let span = self.entries.version_span.get(at) as u64;
        let from = if kind == RecordKind::Increment { upto.wrapping_sub(span) } else { span };
        Ok((kind, Version(from), Version(upto)))
    }

    /// Which record entry `at` is. Fails if there is none, or if its kind needs a newer reader.
    pub fn id(&self, at: usize) -> Result<RecordId> {
        self.check(at)?;
        let (kind, from_version, upto_version) = self.versions(at)?;
        let group = self.types.partition_point(|(_, range)| range.end <= at);
        Ok(RecordId {
            key: AggregateKey { kind: Arc::clone(&self.types[group].0), id: self.ids.get(at)?.into() },
            lineage: Lineage(self.entries.lineage.get(at) as u32),
            upto_version,
            kind,
            from_version,
        })
    }

    /// How to read entry `at`. Fails if there is none.
    pub fn locator(&self, at: usize) -> Result<Locator> {
        self.check(at)?;
        let (entries, frames) = (&self.entries, &self.frames);
        let frame = self.frame(at);
        let slot = frames.dictionary.get(frame) as usize;
        let trail = if entries.flags.get(at) & TRAIL != 0 { Some(self.trail(at)?) } else { None };
        Ok(Locator {
            pack: self.header.pack,
            class: self.header.class,
            frame_offset: frames.offset.get(frame) as u64,
            frame_len: frames.stored_len.get(frame) as u32,
            frame_raw_len: frames.raw_len.get(frame) as u32,
            algorithm: Algorithm::from_code(frames.algorithm.get(frame) as u8)?,
            dictionary: slot.checked_sub(1).map(|slot| self.header.dictionaries[slot]),
            body_start: entries.body_start.get(at) as u32,
            body_len: entries.body_len.get(at) as u32,
            crc: entries.crc.get(at) as u32,
            trail,
            inline: None,
        })
    }

    /// Number of the frame of entry `at`, which must be one.
    pub(super) fn frame(&self, at: usize) -> usize {
        self.entries.frame.get(at) as usize
    }

    fn check(&self, at: usize) -> Result<()> {
        if at < self.len {
            return Ok(());
        }
        Err(Error::corrupt(format!("entry `{at}` of a pack with `{}` entries", self.len)))
    }

    fn trail(&self, at: usize) -> Result<Vec<Offset>> {
        let start = self.trail_starts.get(self.trail_rank.get(at) as usize) as usize;
        read_trail(&mut Cursor::new(&self.trails[start..]))
    }
}

impl Sparse {
    /// Digests of the entries that have `flag`. Fails unless there is exactly one for each.
    fn parse(digests: Vec<u8>, flags: &[i64], flag: i64) -> Result<Self> {
        let (rank, count) = ranks(flags, flag);
        if digests.len() != count * 32 {
            return Err(Error::corrupt(format!(
                "`{}` bytes of digests for `{count}` entries",
                digests.len()
            )));
        }
        Ok(Self { rank, digests: digests.into() })
    }

    fn get(&self, at: usize) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.digests[self.rank.get(at) as usize * 32..][..32]);
        Digest(digest)
    }
}

/// Per entry, how many entries before it have `flag`; and how many have it at all. No memory where none or
/// all do.
fn ranks(flags: &[i64], flag: i64) -> (Column, usize) {
    let mut count = 0;
    let rank = |set: &i64| {
        let rank = count;
        count += i64::from(set & flag != 0);
        rank
    };
    let ranks: Vec<i64> = flags.iter().map(rank).collect();
    (Column::new(if count == 0 { &[] } else { &ranks }), count as usize)
}

fn read(bytes: &[u8], trailer: &Trailer) -> Result<Footer> {
    let sections = Sections::parse(bytes)?;
    let header_bytes = sections.get(section::HEADER)?;
    let (header, header_len) = Header::parse(&header_bytes)?;
    let len = trailer.entries as usize;
    if len > ENTRIES_MAX {
        return Err(Error::corrupt(format!("`{len}` entries, over the limit of `{ENTRIES_MAX}`")));
    }
    let types = read_types(&sections.get(section::TYPES)?, len)?;
    let id_bytes = sections.get(section::IDS)?;
    // An id takes at least two bytes, which bounds every column before it is allocated.
    if header_len != header_bytes.len() || len > id_bytes.len() / 2 || trailer.frames as usize > len {
        return Err(Error::corrupt(format!("`{len}` entries in `{}` bytes of ids", id_bytes.len())));
    }
    let rows = |id| -> Result<Vec<i64>> { column::decode(&sections.get(id)?, len) };
    let order = OrderColumns {
        lineage: rows(section::LINEAGE)?,
        upto: rows(section::UPTO_VERSION)?,
        kind: rows(section::KIND)?,
        span: rows(section::VERSION_SPAN)?,
        partition: rows(section::PARTITION)?,
    };
    let ids = read_ids(id_bytes, &types, &order)?;
    let (frame, body_len) = (rows(section::FRAME)?, rows(section::BODY_LEN)?);
    let (frames, body_start) = read_frames(&sections, trailer, &header, header_len, &frame, &body_len)?;
    let flags = rows(section::FLAGS)?;
    let trails = sections.get(section::TRAILS)?;
    let (trail_rank, count) = ranks(&flags, TRAIL);
    let trail_starts = read_trails(&trails, count)?;
    let column = |id| -> Result<Column> { Ok(Column::new(&rows(id)?)) };
    let within = |id, range: Range<i64>| -> Result<Column> {
        let values = rows(id)?;
        match values.iter().find(|value| !range.contains(value)) {
            None => Ok(Column::new(&values)),
            Some(value) => Err(Error::corrupt(format!("`{value}` in section `{id}`"))),
        }
    };
    let int = i64::from(i32::MIN)..i64::from(i32::MAX) + 1;
    Ok(Footer {
        chains: Sparse::parse(sections.get(section::CHAINS)?, &flags, CHAIN)?,
        state_digests: Sparse::parse(sections.get(section::STATE_DIGESTS)?, &flags, STATE_DIGEST)?,
        trail_rank,
        trail_starts,
        trails: trails.into(),
        facts: sections.kept(section::FACTS),
        marks: sections.kept(section::MARKS),
        header,
        header_len,
        types,
        ids,
        len,
        entries: EntryColumns {
            lineage: Column::new(&order.lineage),
            upto_version: Column::new(&order.upto),
            kind: Column::new(&order.kind),
            version_span: Column::new(&order.span),
            partition: Column::new(&order.partition),
            first_offset: column(section::FIRST_OFFSET)?,
            offset_span: column(section::OFFSET_SPAN)?,
            leader_epoch: within(section::LEADER_EPOCH, int)?,
            effective_time: column(section::EFFECTIVE_TIME)?,
            flags: Column::new(&flags),
            frame: Column::new(&frame),
            body_start: Column::new(&body_start),
            body_len: Column::new(&body_len),
            crc: within(section::CRC, 0..i64::from(u32::MAX) + 1)?,
        },
        frames,
    })
}

fn read_types(bytes: &[u8], len: usize) -> Result<Vec<(Arc<str>, Range<usize>)>> {
    let mut cursor = Cursor::new(bytes);
    let mut types: Vec<(Arc<str>, Range<usize>)> = Vec::new();
    let mut start = 0;
    while cursor.remaining() > 0 {
        let name = cursor.text()?;
        let count = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        let is_after = types.last().is_none_or(|(last, _)| **last < *name);
        let is_counted = count > 0 && count <= len - start;
        if !is_after || !is_counted || !(1..=NAME_LEN_MAX).contains(&name.len()) {
            return Err(Error::corrupt("the table of types is out of order"));
        }
        types.push((name.into(), start..start + count));
        start += count;
    }
    if start == len {
        Ok(types)
    } else {
        Err(Error::corrupt(format!("types for `{start}` of `{len}` entries")))
    }
}

/// Where frames lie, and where in its frame each body starts. Frames tile the space up to the footer, bodies
/// their frame.
fn read_frames(
    sections: &Sections<'_>,
    trailer: &Trailer,
    header: &Header,
    header_len: usize,
    frame_of: &[i64],
    body_len: &[i64],
) -> Result<(FrameColumns, Vec<i64>)> {
    let count = trailer.frames as usize;
    let mut raw_len = vec![0; count];
    let mut body_start = Vec::with_capacity(frame_of.len());
    for (frame, len) in frame_of.iter().zip(body_len) {
        let raw = usize::try_from(*frame).ok().and_then(|frame| raw_len.get_mut(frame));
        let raw = raw.ok_or_else(|| Error::corrupt(format!("frame `{frame}` of `{count}`")))?;
        body_start.push(*raw);
        if !(0..=RAW_LEN_MAX as i64 - *raw).contains(len) {
            return Err(Error::corrupt(format!("a body of `{len}` bytes is over the limit")));
        }
        *raw += len;
    }
    let rows = |id| column::decode(&sections.get(id)?, count);
    let stored_len = rows(section::FRAME_LEN)?;
    let (algorithm, dictionary) = (rows(section::FRAME_ALGORITHM)?, rows(section::FRAME_DICTIONARY)?);
    let mut end = header_len as i64;
    let mut offset = Vec::with_capacity(count);
    for at in 0..count {
        offset.push(end);
        let is_algorithm = u8::try_from(algorithm[at]).is_ok_and(|code| Algorithm::from_code(code).is_ok());
        let is_slot = (0..=header.dictionaries.len() as i64).contains(&dictionary[at]);
        if !is_algorithm || !is_slot || !(0..=RAW_LEN_MAX as i64).contains(&stored_len[at]) {
            return Err(Error::corrupt(format!("frame `{at}` has an unknown codec or dictionary")));
        }
        end += stored_len[at];
    }
    if end as u64 != trailer.footer_offset {
        return Err(Error::corrupt("frames do not fill the space before the footer"));
    }
    let columns = FrameColumns {
        offset: Column::new(&offset),
        stored_len: Column::new(&stored_len),
        raw_len: Column::new(&raw_len),
        algorithm: Column::new(&algorithm),
        dictionary: Column::new(&dictionary),
    };
    Ok((columns, body_start))
}

fn read_trails(bytes: &[u8], count: usize) -> Result<Column> {
    let mut cursor = Cursor::new(bytes);
    let mut starts = Vec::new();
    for _ in 0..count {
        starts.push((bytes.len() - cursor.remaining()) as i64);
        read_trail(&mut cursor)?;
    }
    cursor.finish()?;
    Ok(Column::new(&starts))
}
