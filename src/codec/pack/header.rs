//! The two ends of a pack: header (what it is and who wrote it) and trailer (where the footer is and what it
//! hashes to), and the names of objects.

use super::FORMAT;
use crate::codec::compress::Algorithm;
use crate::codec::wire::{Cursor, from_hex, put_bytes, put_varint};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Digest, LedgerId, PackId, Timestamp};

const MAGIC: [u8; 8] = *b"SFPACK\0\x01";
const END_MAGIC: [u8; 8] = *b"SFEND\0\0\x01";

/// Length of the trailer, the last bytes of every pack.
pub const TRAILER_LEN: usize = 140;

/// Packs by lifetime; lifetimes are never mixed in one pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Full snapshots.
    Full,
    /// Events kept for ever.
    History,
    /// Fresh events, until a snapshot covers them.
    Checkpoint,
    /// Facts that are no fold results; reserved.
    Ledger,
}

impl Class {
    /// Every class, in the order of the codes, which start at 1.
    pub const ALL: [Self; 4] = [Self::Full, Self::History, Self::Checkpoint, Self::Ledger];

    /// The stored code.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The class with this stored code; unknown codes are corrupt.
    pub fn from_code(code: u8) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|class| class.code() == code);
        known.ok_or_else(|| Error::corrupt(format!("pack class `{code}` is unknown")))
    }

    /// The name in object names and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::History => "history",
            Self::Checkpoint => "checkpoint",
            Self::Ledger => "ledger",
        }
    }
}

/// What a pack is and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Lifetime of its records.
    pub class: Class,
    /// Its name.
    pub pack: PackId,
    /// The run of the worker that wrote it.
    pub session: [u8; 16],
    /// When it was written, by the writer's clock.
    pub created: Timestamp,
    /// Version of the writing program.
    pub writer: Box<str>,
    /// Dictionaries of its frames, in slot order. Filled by the writer.
    pub dictionaries: Vec<Digest>,
    /// Codecs of its frames, bit n for code n. Filled by the writer.
    pub algorithms: u8,
}

impl Header {
    /// A header for a new pack.
    #[must_use]
    pub fn new(class: Class, pack: PackId, session: [u8; 16], created: Timestamp, writer: &str) -> Self {
        Self { class, pack, session, created, writer: writer.into(), dictionaries: Vec::new(), algorithms: 0 }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[self.class.code(), self.algorithms]);
        // Header flags, none so far.
        out.extend_from_slice(&0_u16.to_le_bytes());
        out.extend_from_slice(&self.pack.0);
        out.extend_from_slice(&self.session);
        out.extend_from_slice(&self.created.0.to_le_bytes());
        put_bytes(&mut out, self.writer.as_bytes());
        put_varint(&mut out, self.dictionaries.len() as u64);
        self.dictionaries.iter().for_each(|digest| out.extend_from_slice(&digest.0));
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`, and its length.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize)> {
        Self::read(bytes).map_err(|error| error.context("read pack header"))
    }

    fn read(bytes: &[u8]) -> Result<(Self, usize)> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != MAGIC {
            return Err(Error::corrupt("this is not a pack"));
        }
        check_format(cursor.u16()?)?;
        let class = Class::from_code(cursor.u8()?)?;
        let algorithms = cursor.u8()?;
        check_flags(cursor.u16()?)?;
        let (pack, session) = (PackId(cursor.array()?), cursor.array()?);
        let created = Timestamp(cursor.u64()? as i64);
        let writer = cursor.text()?.into();
        let dictionaries =
            (0..cursor.count(32)?).map(|_| Ok(Digest(cursor.array()?))).collect::<Result<_>>()?;
        let end = bytes.len() - cursor.remaining();
        if crc32c::crc32c(&bytes[..end]) != cursor.u32()? {
            return Err(Error::corrupt("the header disagrees with its checksum"));
        }
        if u32::from(algorithms) >> Algorithm::ALL.len() != 0 {
            return Err(Error::corrupt(format!("codec set `{algorithms:#04x}` needs a newer reader")));
        }
        Ok((Self { class, pack, session, created, writer, dictionaries, algorithms }, end + 4))
    }
}

fn check_format(format: u16) -> Result<()> {
    match format {
        FORMAT => Ok(()),
        other => Err(Error::corrupt(format!("pack format `{other}` is not the known `{FORMAT}`"))),
    }
}

fn check_flags(flags: u16) -> Result<()> {
    match flags {
        0 => Ok(()),
        other => Err(Error::corrupt(format!("pack flags `{other:#06x}` need a newer reader"))),
    }
}

/// The fixed end of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the footer starts; frames end there.
    pub footer_offset: u64,
    /// Bytes of the footer.
    pub footer_len: u64,
    /// Number of entries.
    pub entries: u32,
    /// Number of frames.
    pub frames: u32,
    /// SHA-256 of all frames as stored.
    pub frames_sha256: Digest,
    /// SHA-256 of the footer.
    pub footer_sha256: Digest,
    /// Merkle root over all entries.
    pub merkle_root: Digest,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = Vec::with_capacity(TRAILER_LEN);
        out.extend_from_slice(&self.footer_offset.to_le_bytes());
        out.extend_from_slice(&self.footer_len.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.frames.to_le_bytes());
        out.extend_from_slice(&self.frames_sha256.0);
        out.extend_from_slice(&self.footer_sha256.0);
        out.extend_from_slice(&self.merkle_root.0);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        // Trailer flags, none so far, and reserved space.
        out.extend_from_slice(&[0; 6]);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&END_MAGIC);
        out.try_into().expect("the fields add up to the trailer's length")
    }

    /// The trailer of an object of `object_len` bytes that ends with `bytes`.
    pub(super) fn parse(bytes: &[u8; TRAILER_LEN], object_len: u64) -> Result<Self> {
        Self::read(bytes, object_len).map_err(|error| error.context("read pack trailer"))
    }

    fn read(bytes: &[u8; TRAILER_LEN], object_len: u64) -> Result<Self> {
        let mut cursor = Cursor::new(bytes);
        let trailer = Self {
            footer_offset: cursor.u64()?,
            footer_len: cursor.u64()?,
            entries: cursor.u32()?,
            frames: cursor.u32()?,
            frames_sha256: Digest(cursor.array()?),
            footer_sha256: Digest(cursor.array()?),
            merkle_root: Digest(cursor.array()?),
        };
        let (format, flags, reserved) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        let end = TRAILER_LEN - cursor.remaining();
        if cursor.u32()? != crc32c::crc32c(&bytes[..end]) || cursor.rest() != END_MAGIC {
            return Err(Error::corrupt("the object does not end like a pack"));
        }
        check_format(format)?;
        check_flags(flags)?;
        let end = trailer.footer_offset.checked_add(trailer.footer_len);
        let is_tiled = end.and_then(|end| end.checked_add(TRAILER_LEN as u64)) == Some(object_len);
        if !is_tiled || reserved != 0 {
            return Err(Error::corrupt(format!("the footer does not fit an object of `{object_len}` bytes")));
        }
        Ok(trailer)
    }
}

/// `v1/<class>/<yyyymm>/<2 hex of the random part>/<pack id>.sfp`: by month for people and lifecycle rules,
/// then spread so that no prefix is hot.
#[must_use]
pub fn pack_name(class: Class, pack: PackId) -> String {
    let (year, month) = year_and_month(pack.minted_at());
    format!("v1/{}/{year:04}{month:02}/{:02x}/{pack}.sfp", class.name(), pack.0[15])
}

/// The pack whose object has this name: the inverse of [`pack_name`].
#[must_use]
pub fn named_pack(name: &str) -> Option<(Class, PackId)> {
    let (folder, file) = (name.split('/').nth(1)?, name.rsplit('/').next()?);
    let class = Class::ALL.into_iter().find(|class| class.name() == folder)?;
    let pack = PackId(from_hex(file.strip_suffix(".sfp")?)?);
    (pack_name(class, pack) == name).then_some((class, pack))
}

/// `v1/dict/<sha256>`.
#[must_use]
pub fn dictionary_name(id: Digest) -> String {
    format!("v1/dict/{id}")
}

/// `v1/ledger/<id>`.
#[must_use]
pub fn ledger_name(id: LedgerId) -> String {
    format!("v1/ledger/{id}")
}

/// `v1/erasures/<id>`.
#[must_use]
pub fn erasure_name(id: LedgerId) -> String {
    format!("v1/erasures/{id}")
}

/// `v1/purges/<id of the erasure>/<id>.<what>`.
#[must_use]
pub fn purge_name(erasure: LedgerId, at: LedgerId, what: &str) -> String {
    format!("v1/purges/{erasure}/{at}.{what}")
}

/// Year and month in UTC, by the usual calendar arithmetic on years that start in March.
fn year_and_month(time: Timestamp) -> (i64, i64) {
    let days = time.0.div_euclid(86_400_000) + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_class_month_and_spread() {
        let mut random = [0xee; 10];
        random[9] = 0x0a;
        let pack = PackId::mint(Timestamp(1_709_164_800_000), random);
        let name = "v1/history/202402/0a/018df22928007eeeaeeeeeeeeeeeee0a.sfp";
        assert_eq!(pack_name(Class::History, pack), name);
        assert_eq!(dictionary_name(Digest([0xab; 32])), format!("v1/dict/{}", "ab".repeat(32)));
    }

    /// Method: walk the calendar day by day from 1970 and compare.
    #[test]
    fn months_are_those_of_the_calendar() {
        let mut day = 0;
        for year in 1970..2201 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let lens = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, len) in (1..).zip(lens) {
                assert_eq!(year_and_month(Timestamp(day * 86_400_000)), (year, month));
                day += len;
                assert_eq!(year_and_month(Timestamp(day * 86_400_000 - 1)), (year, month));
            }
        }
    }

    #[test]
    fn packs_are_known_by_the_names_of_their_objects() {
        let old = PackId([0x01, 0x8d, 0xf2, 0x29, 0x28, 0, 0x7e, 0xee, 0xae, 1, 2, 3, 4, 5, 6, 7]);
        for pack in [old, PackId::mint(Timestamp(1_700_000_000_000), [9; 10])] {
            for class in [Class::Full, Class::History, Class::Checkpoint] {
                let name = pack_name(class, pack);
                assert_eq!(named_pack(&name), Some((class, pack)), "{name}");
                assert_eq!(named_pack(&name.replace("v1/", "v2/")), None);
                assert_eq!(named_pack(&format!("{name}x")), None);
                assert_eq!(named_pack(&name[..name.len() - 4]), None);
            }
        }
        for other in [
            "v1/dict/00",
            "v1/ledger/x",
            "",
            "v1/full/202402/0a/zz.sfp",
            "v1/history/x.sfp",
            "v1/history/202311/00/zz.sfp",
            "v1/history/",
        ] {
            assert_eq!(named_pack(other), None, "{other}");
        }
    }
}
