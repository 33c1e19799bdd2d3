//! The body of a full record: a compact head, then the state's bytes as folded up to the end.

use super::{BODY_FORMAT, check_format, flags, put_quarantine, quarantine};
use crate::codec::wire::{Cursor, put_bytes, put_varint, put_zigzag};
use crate::domain::error::Result;
use crate::domain::ids::{Digest, Offset, Timestamp, Version};
use crate::domain::record::FullBody;

const DELETED: u8 = 1;
const EVENT_ID: u8 = 2;
const QUARANTINED: u8 = 4;
const STATE: u8 = 8;
const KNOWN: u8 = DELETED | EVENT_ID | QUARANTINED | STATE;

/// The bytes of a full record's body.
#[must_use]
pub fn encode_full(body: &FullBody) -> Vec<u8> {
    let mut out = Vec::new();
    put_full(&mut out, body);
    out
}

/// Appends what [`encode_full`] gives.
pub fn put_full(out: &mut Vec<u8>, body: &FullBody) {
    let mut set = 0;
    set |= if body.deleted { DELETED } else { 0 };
    set |= if body.last_event_id.is_some() { EVENT_ID } else { 0 };
    set |= if body.quarantine.is_some() { QUARANTINED } else { 0 };
    set |= if body.state.is_some() { STATE } else { 0 };
    out.extend_from_slice(&[BODY_FORMAT, set]);
    put_varint(out, body.version.0);
    put_zigzag(out, body.offset.0);
    put_zigzag(out, i64::from(body.leader_epoch));
    put_zigzag(out, body.effective_time.0);
    put_zigzag(out, body.effective_time.0.wrapping_sub(body.first_time.0));
    out.extend_from_slice(&body.chain.0);
    put_bytes(out, body.last_event_type.as_bytes());
    if let Some(id) = &body.last_event_id {
        put_bytes(out, id.as_bytes());
    }
    put_varint(out, body.recent_event_ids.len() as u64);
    body.recent_event_ids.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    if let Some(mark) = &body.quarantine {
        put_quarantine(out, mark);
    }
    out.extend_from_slice(body.state.as_deref().unwrap_or_default());
}

/// The body that [`encode_full`] wrote; anything else is corrupt.
pub fn decode_full(bytes: &[u8]) -> Result<FullBody> {
    read(bytes).map_err(|error| error.context("read full body"))
}

fn read(bytes: &[u8]) -> Result<FullBody> {
    let mut cursor = Cursor::new(bytes);
    check_format(&mut cursor)?;
    let set = flags(&mut cursor, KNOWN)?;
    let version = Version(cursor.varint()?);
    let offset = Offset(cursor.zigzag()?);
    let leader_epoch = super::epoch(cursor.zigzag()?)?;
    let effective_time = Timestamp(cursor.zigzag()?);
    let first_time = Timestamp(effective_time.0.wrapping_sub(cursor.zigzag()?));
    let chain = Digest(cursor.array()?);
    let last_event_type = cursor.text()?.into();
    let last_event_id = if set & EVENT_ID != 0 { Some(cursor.text()?.into()) } else { None };
    let hashes = cursor.count(8)?;
    let recent_event_ids = (0..hashes).map(|_| cursor.u64()).collect::<Result<_>>()?;
    let quarantine = if set & QUARANTINED != 0 { Some(quarantine(&mut cursor)?) } else { None };
    let state = (set & STATE != 0).then(|| cursor.rest().into());
    cursor.finish()?;
    Ok(FullBody {
        version,
        offset,
        leader_epoch,
        effective_time,
        first_time,
        deleted: set & DELETED != 0,
        chain,
        last_event_type,
        last_event_id,
        recent_event_ids,
        quarantine,
        state,
    })
}
