//! The body of a segment: the state that its events follow on, as the body of a full record, then the events,
//! as the body of an increment. Both are whole bodies of their kinds, so whoever reads those reads segments.
//!
//! Invariants: the events follow on the base by version and by offset; neither tells of a quarantine, which
//! is the head's; there is no base where the events start with the aggregate's first.

use super::{BODY_FORMAT, check_format, decode_full, decode_increment, flags, put_full, put_increment};
use crate::codec::wire::{Cursor, put_varint};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::Version;
use crate::domain::record::SegmentBody;

const BASE: u8 = 1;

/// The bytes of a segment's body. `aggregate_id` is left out of the keys.
///
/// Fails with `Invalid` if events and base do not join, or there are none or too many.
pub fn encode_segment(body: &SegmentBody, aggregate_id: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    put_segment(&mut out, body, aggregate_id)?;
    Ok(out)
}

/// Appends what [`encode_segment`] gives, and fails like it.
pub fn put_segment(out: &mut Vec<u8>, body: &SegmentBody, aggregate_id: &str) -> Result<()> {
    check_segment(body)?;
    let set = if body.base.is_some() { BASE } else { 0 };
    out.extend_from_slice(&[BODY_FORMAT, set]);
    if let Some(base) = &body.base {
        let mut full = Vec::new();
        put_full(&mut full, base);
        put_varint(out, full.len() as u64);
        out.extend_from_slice(&full);
    }
    put_increment(out, &body.events, None, aggregate_id)
}

/// Fails as [`encode_segment`] does.
pub fn check_segment(body: &SegmentBody) -> Result<()> {
    check(body).map_err(|detail| Error::new(ErrorKind::Invalid, "bad-body", detail))
}

/// What must hold for a body beside what must for its events; `Err` says what does not.
fn check(body: &SegmentBody) -> Result<(), String> {
    let Some(first) = body.events.first() else { return Err("a segment without events".into()) };
    if body.events.len() > SegmentBody::EVENTS_MAX {
        return Err(format!("a segment of {} events", body.events.len()));
    }
    let base = body.base.as_ref();
    if base.is_some_and(|base| base.version == Version(0) || base.quarantine.is_some()) {
        return Err("the base of a segment is no version, or is quarantined".into());
    }
    let version = base.map_or(Version(0), |base| base.version);
    if version.0.checked_add(1) != Some(first.version.0) {
        return Err(format!("version `{}` follows the base `{version}`", first.version));
    }
    match base {
        Some(base) if base.offset >= first.record.offset => {
            Err(format!("offset `{}` follows the base at offset `{}`", first.record.offset, base.offset))
        }
        _ => Ok(()),
    }
}

/// The body that [`encode_segment`] wrote for this aggregate; anything else is corrupt.
pub fn decode_segment(bytes: &[u8], aggregate_id: &str) -> Result<SegmentBody> {
    read(bytes, aggregate_id).map_err(|error| error.context("read segment body"))
}

fn read(bytes: &[u8], aggregate_id: &str) -> Result<SegmentBody> {
    let mut cursor = Cursor::new(bytes);
    check_format(&mut cursor)?;
    let base = match flags(&mut cursor, BASE)? {
        0 => None,
        _ => Some(decode_full(cursor.bytes()?)?),
    };
    let events = cursor.rest();
    // The third number of an increment: nothing is made of it before it is known to be few.
    let mut ahead = Cursor::new(events);
    ahead.take(2)?;
    let count = ahead.varint()?;
    if count > SegmentBody::EVENTS_MAX as u64 {
        return Err(Error::corrupt(format!("a segment of `{count}` events")));
    }
    let increment = decode_increment(events, aggregate_id)?;
    if increment.quarantine.is_some() {
        return Err(Error::corrupt("a segment tells of a quarantine"));
    }
    let body = SegmentBody { base, events: increment.events };
    check(&body).map_err(Error::corrupt)?;
    Ok(body)
}
