//! Bodies of records as bytes, before compression: deterministic, so equal facts give equal bytes.
//!
//! Invariants: one value has one encoding, and whatever decodes encodes back to the same bytes; a body ends
//! where its last field ends; the aggregate's id is not repeated (the reader knows whose record it asked
//! for). The layout is in `docs/FORMAT.md`.

mod full;
mod increment;
mod segment;

pub use full::{decode_full, encode_full, put_full};
pub use increment::{check_increment, decode_increment, encode_increment, is_increment, put_increment};
pub use segment::{check_segment, decode_segment, encode_segment, put_segment};

use crate::codec::wire::{Cursor, put_bytes, put_varint, put_zigzag};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Offset, Timestamp, Version};
use crate::domain::record::QuarantineMark;

/// First byte of every body.
const BODY_FORMAT: u8 = 1;

fn check_format(cursor: &mut Cursor<'_>) -> Result<()> {
    match cursor.u8()? {
        BODY_FORMAT => Ok(()),
        other => Err(Error::corrupt(format!("body format `{other}` is unknown"))),
    }
}

/// The flag byte, refusing bits that this version does not know.
fn flags(cursor: &mut Cursor<'_>, known: u8) -> Result<u8> {
    let flags = cursor.u8()?;
    if flags & !known != 0 {
        return Err(Error::corrupt(format!("body flags `{flags:#04x}` need a newer reader")));
    }
    Ok(flags)
}

/// A leader epoch from a number that claims to be one.
fn epoch(value: i64) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::corrupt(format!("leader epoch `{value}` is out of range")))
}

fn put_quarantine(out: &mut Vec<u8>, mark: &QuarantineMark) {
    put_bytes(out, mark.code.as_bytes());
    put_varint(out, mark.version.0);
    put_zigzag(out, mark.offset.0);
    put_zigzag(out, i64::from(mark.leader_epoch));
    put_zigzag(out, mark.since.0);
}

fn quarantine(cursor: &mut Cursor<'_>) -> Result<QuarantineMark> {
    Ok(QuarantineMark {
        code: cursor.text()?.into(),
        version: Version(cursor.varint()?),
        offset: Offset(cursor.zigzag()?),
        leader_epoch: epoch(cursor.zigzag()?)?,
        since: Timestamp(cursor.zigzag()?),
    })
}

#[cfg(test)]
mod tests;
