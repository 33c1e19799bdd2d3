//! One part of a footer: an id, how it is compressed, its lengths, its bytes and a CRC32C over all of that.
//!
//! Section ids from [`OPTIONAL`] on may be ignored by a reader that does not know them; below it they may
//! not.

use super::header::Class;
use crate::codec::compress::{Algorithm, Compression, Encoder, decode};
use crate::codec::wire::{Cursor, put_varint};
use crate::domain::error::{Error, Result};
use std::collections::BTreeMap;

/// The first id that older readers may skip.
const OPTIONAL: u8 = 0x80;
/// Sections below this many bytes are stored plain: they would gain a byte or two.
const SHORT: usize = 128;
/// The highest id this version knows.
const KNOWN_MAX: u8 = TRAILS;

pub(super) const HEADER: u8 = 1;
pub(super) const TYPES: u8 = 2;
pub(super) const IDS: u8 = 3;
pub(super) const LINEAGE: u8 = 4;
pub(super) const UPTO_VERSION: u8 = 5;
pub(super) const KIND: u8 = 6;
pub(super) const VERSION_SPAN: u8 = 7;
pub(super) const PARTITION: u8 = 8;
pub(super) const FIRST_OFFSET: u8 = 9;
pub(super) const OFFSET_SPAN: u8 = 10;
pub(super) const LEADER_EPOCH: u8 = 11;
pub(super) const EFFECTIVE_TIME: u8 = 12;
pub(super) const FLAGS: u8 = 13;
pub(super) const FRAME: u8 = 14;
pub(super) const BODY_LEN: u8 = 15;
pub(super) const CRC: u8 = 16;
pub(super) const FRAME_LEN: u8 = 17;
pub(super) const FRAME_ALGORITHM: u8 = 18;
pub(super) const FRAME_DICTIONARY: u8 = 19;
pub(super) const CHAINS: u8 = 20;
pub(super) const STATE_DIGESTS: u8 = 21;
pub(super) const TRAILS: u8 = 22;
/// What entries' rows say beyond the rest of the footer; older readers skip it.
pub(super) const FACTS: u8 = OPTIONAL;
/// Low watermarks that hold once a checkpoint is durable; older readers skip it.
pub(super) const MARKS: u8 = OPTIONAL + 1;

/// Appends sections; each is compressed on its own where that helps.
pub(super) struct SectionWriter {
    encoder: Encoder,
    pub(super) bytes: Vec<u8>,
}

impl SectionWriter {
    /// Sections of a pack of this class. A checkpoint lives for minutes, and is made every few seconds.
    pub(super) fn new(class: Class) -> Result<Self> {
        let level = if class == Class::Checkpoint { 1 } else { 9 };
        let compression = Compression { algorithm: Algorithm::Zstd, level, threshold: SHORT };
        Ok(Self { encoder: Encoder::new(compression, None)?, bytes: Vec::new() })
    }

    pub(super) fn put(&mut self, id: u8, raw: &[u8]) -> Result<()> {
        let encoded = self.encoder.encode(raw)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[id, encoded.algorithm.code()]);
        put_varint(&mut self.bytes, raw.len() as u64);
        put_varint(&mut self.bytes, encoded.bytes.len() as u64);
        self.bytes.extend_from_slice(&encoded.bytes);
        let crc = crc32c::crc32c(&self.bytes[start..]);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(())
    }
}

/// The sections of a footer, checked but not yet decompressed.
pub(super) struct Sections<'a>(BTreeMap<u8, (Algorithm, usize, &'a [u8])>);

impl<'a> Sections<'a> {
    pub(super) fn parse(footer: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(footer);
        let mut sections = BTreeMap::new();
        while cursor.remaining() > 0 {
            let start = footer.len() - cursor.remaining();
            let (id, code) = (cursor.u8()?, cursor.u8()?);
            let raw_len = cursor.varint()?;
            let stored = cursor.bytes()?;
            let end = footer.len() - cursor.remaining();
            if crc32c::crc32c(&footer[start..end]) != cursor.u32()? {
                return Err(Error::corrupt(format!("footer section `{id}` disagrees with its checksum")));
            }
            if id > MARKS {
                continue;
            }
            if (KNOWN_MAX + 1..OPTIONAL).contains(&id) {
                return Err(Error::corrupt(format!("footer section `{id}` needs a newer reader")));
            }
            let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
            if sections.insert(id, (Algorithm::from_code(code)?, raw_len, stored)).is_some() {
                return Err(Error::corrupt(format!("footer section `{id}` is there twice")));
            }
        }
        Ok(Self(sections))
    }

    /// The uncompressed bytes of section `id`; nothing where the footer has none.
    pub(super) fn get(&self, id: u8) -> Result<Vec<u8>> {
        self.kept(id).read(id)
    }

    /// Section `id` as it is stored, for later.
    pub(super) fn kept(&self, id: u8) -> Kept {
        self.0.get(&id).map_or_else(Kept::default, |(algorithm, raw_len, stored)| Kept {
            section: Some((*algorithm, *raw_len)),
            stored: (*stored).into(),
        })
    }
}

/// A section that is read when somebody asks for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    section: Option<(Algorithm, usize)>,
    stored: Box<[u8]>,
}

impl Kept {
    /// Its uncompressed bytes; nothing where the footer has none.
    pub(super) fn read(&self, id: u8) -> Result<Vec<u8>> {
        let Some((algorithm, raw_len)) = self.section else { return Ok(Vec::new()) };
        decode(algorithm, &self.stored, raw_len, None)
            .map_err(|error| error.context(&format!("read section `{id}`")))
    }

    /// Bytes of memory beside the struct itself.
    pub(super) fn heap_len(&self) -> usize {
        self.stored.len()
    }
}
