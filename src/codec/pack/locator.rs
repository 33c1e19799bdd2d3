//! All that reading one entry needs, as one opaque blob for an index row: no footer, no header.
//!
//! Whose record it is stands in the row's other cells and goes into the checksum of the body, so a locator in
//! the wrong row fails. The blob has its own CRC32C, so that a flipped bit in a row is a damaged row, not a
//! wild read.

use super::header::Class;
use crate::codec::compress::{Algorithm, RAW_LEN_MAX};
use crate::codec::wire::{Cursor, put_bytes, put_varint, put_zigzag};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Digest, Offset, PackId};
use std::ops::Range;

const FORMAT: u8 = 1;

const BLOCK: u8 = 1;
const DICTIONARY: u8 = 2;
const TRAIL: u8 = 4;
const INLINE: u8 = 8;
// 16 is reserved for a base reference (zstd against the parent), 32 was for segments, which need no flag.
const KNOWN: u8 = BLOCK | DICTIONARY | TRAIL | INLINE;

/// Where one entry's bytes are and how to read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// The pack.
    pub pack: PackId,
    /// Its class, which is part of the object's name.
    pub class: Class,
    /// First byte of the frame in the object.
    pub frame_offset: u64,
    /// Bytes of the frame as stored.
    pub frame_len: u32,
    /// Bytes of the frame uncompressed.
    pub frame_raw_len: u32,
    /// How the frame is compressed.
    pub algorithm: Algorithm,
    /// The dictionary it needs.
    pub dictionary: Option<Digest>,
    /// First byte of the body in the uncompressed frame.
    pub body_start: u32,
    /// Bytes of the body.
    pub body_len: u32,
    /// CRC32C over the record's identity and its body.
    pub crc: u32,
    /// Offsets of the covered events, increasing.
    pub trail: Option<Vec<Offset>>,
    /// The frame's stored bytes, where the row carries them so that no read of the object is needed.
    pub inline: Option<Box<[u8]>>,
}

impl Locator {
    /// The bytes of the frame in the object, for a range read.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.frame_offset..self.frame_offset.saturating_add(u64::from(self.frame_len))
    }

    /// The blob.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let is_block = self.body_start != 0 || self.body_len != self.frame_raw_len;
        let flag = |flag, set: bool| if set { flag } else { 0 };
        let set = flag(BLOCK, is_block)
            | flag(DICTIONARY, self.dictionary.is_some())
            | flag(TRAIL, self.trail.is_some())
            | flag(INLINE, self.inline.is_some());
        let mut out = vec![FORMAT, set, self.class.code(), self.algorithm.code()];
        out.extend_from_slice(&self.pack.0);
        out.extend_from_slice(&self.crc.to_le_bytes());
        put_varint(&mut out, self.frame_offset);
        put_varint(&mut out, u64::from(self.frame_len));
        put_varint(&mut out, u64::from(self.frame_raw_len));
        if is_block {
            put_varint(&mut out, u64::from(self.body_start));
            put_varint(&mut out, u64::from(self.body_len));
        }
        if let Some(digest) = &self.dictionary {
            out.extend_from_slice(&digest.0);
        }
        if let Some(trail) = &self.trail {
            put_trail(&mut out, trail);
        }
        if let Some(inline) = &self.inline {
            put_bytes(&mut out, inline);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The locator in a blob; any damage is an error.
    pub fn decode(blob: &[u8]) -> Result<Self> {
        Self::read(blob).map_err(|error| error.context("read locator"))
    }

    fn read(blob: &[u8]) -> Result<Self> {
        let crc_at = blob.len().checked_sub(4).ok_or_else(|| Error::corrupt("it is cut short"))?;
        let (bytes, crc) = blob.split_at(crc_at);
        if crc32c::crc32c(bytes).to_le_bytes() != crc {
            return Err(Error::corrupt("it disagrees with its checksum"));
        }
        let mut cursor = Cursor::new(bytes);
        let (format, set) = (cursor.u8()?, cursor.u8()?);
        if format != FORMAT || set & !KNOWN != 0 {
            return Err(Error::corrupt(format!(
                "format `{format}` with flags `{set:#04x}` needs a newer reader"
            )));
        }
        let (class, algorithm) = (Class::from_code(cursor.u8()?)?, Algorithm::from_code(cursor.u8()?)?);
        let (pack, crc) = (PackId(cursor.array()?), cursor.u32()?);
        let frame_offset = cursor.varint()?;
        let (frame_len, frame_raw_len) = (length(&mut cursor)?, length(&mut cursor)?);
        let (body_start, body_len) = match set & BLOCK {
            0 => (0, frame_raw_len),
            _ => (length(&mut cursor)?, length(&mut cursor)?),
        };
        let dictionary = if set & DICTIONARY != 0 { Some(Digest(cursor.array()?)) } else { None };
        let trail = if set & TRAIL != 0 { Some(read_trail(&mut cursor)?) } else { None };
        let inline = if set & INLINE != 0 { Some(cursor.bytes()?.into()) } else { None };
        cursor.finish()?;
        let locator = Self {
            pack,
            class,
            frame_offset,
            frame_len,
            frame_raw_len,
            algorithm,
            dictionary,
            body_start,
            body_len,
            crc,
            trail,
            inline,
        };
        locator.check()?;
        Ok(locator)
    }

    fn check(&self) -> Result<()> {
        let body_end = u64::from(self.body_start) + u64::from(self.body_len);
        let is_inside = body_end <= u64::from(self.frame_raw_len);
        let is_addressable = self.frame_offset.checked_add(u64::from(self.frame_len)).is_some();
        let is_whole = self.inline.as_ref().is_none_or(|inline| inline.len() == self.frame_len as usize);
        if is_inside && is_addressable && is_whole {
            Ok(())
        } else {
            Err(Error::corrupt("its ranges do not fit"))
        }
    }
}

fn length(cursor: &mut Cursor<'_>) -> Result<u32> {
    let len = cursor.varint()?;
    match u32::try_from(len) {
        Ok(short) if len <= RAW_LEN_MAX as u64 => Ok(short),
        _ => Err(Error::corrupt(format!("length `{len}` is over the limit"))),
    }
}

/// Count, first offset, then differences less one. Offsets increase.
pub(super) fn put_trail(out: &mut Vec<u8>, trail: &[Offset]) {
    put_varint(out, trail.len() as u64);
    if let [first, ..] = trail {
        put_zigzag(out, first.0);
    }
    for pair in trail.windows(2) {
        put_varint(out, (pair[1].0.wrapping_sub(pair[0].0) as u64).wrapping_sub(1));
    }
}

pub(super) fn read_trail(cursor: &mut Cursor<'_>) -> Result<Vec<Offset>> {
    let count = cursor.count(1)?;
    let mut trail = Vec::with_capacity(count);
    for at in 0..count {
        let offset = match trail.last() {
            None => Some(cursor.zigzag()?),
            Some(Offset(last)) => {
                cursor.varint()?.checked_add(1).and_then(|gap| last.checked_add_unsigned(gap))
            }
        };
        let offset =
            offset.ok_or_else(|| Error::corrupt(format!("offset `{at}` of a trail is out of range")))?;
        trail.push(Offset(offset));
    }
    Ok(trail)
}
