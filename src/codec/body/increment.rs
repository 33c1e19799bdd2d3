//! The body of an incremental record, by columns: all numbers first, then all names and keys, then all
//! values.
//!
//! Columns that say nothing take no byte: keys equal to the aggregate's id, absent headers, one leader epoch
//! for all, nothing skipped. Times are counted in the largest unit that loses nothing, since many logs hold
//! whole days or seconds. Values stand together at the end, where one dictionary serves all of them.

use super::{BODY_FORMAT, check_format, epoch, flags, put_quarantine, quarantine};
use crate::codec::wire::{Cursor, optional_len, put_optional, put_varint, put_zigzag};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Offset, Timestamp, Version};
use crate::domain::record::{IncrementBody, QuarantineMark, RawRecord, StoredEvent};
use std::sync::Arc;

/// Room for the numbers of an event, and for all that a body says once: mostly enough.
const NUMBERS_LEN: usize = 16;
const MARK_LEN: usize = 64;

const QUARANTINED: u8 = 2;
const SKIPPED: u8 = 4;
const KEYS: u8 = 8;
const HEADERS: u8 = 16;
const EPOCHS: u8 = 32;
const SECONDS: u8 = 64;
const DAYS: u8 = 128;

/// Milliseconds per unit of time, by flag; both flags together are not written.
const UNITS: [(u8, i64); 3] = [(DAYS, 86_400_000), (SECONDS, 1_000), (0, 1)];

/// The bytes of an incremental record's body. `aggregate_id` is left out of the keys.
///
/// Fails with `Invalid` if there is neither an event nor a mark, versions are not contiguous, or offsets do
/// not increase.
pub fn encode_increment(body: &IncrementBody, aggregate_id: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    put_increment(&mut out, &body.events, body.quarantine.as_ref(), aggregate_id)?;
    Ok(out)
}

/// Appends what [`encode_increment`] makes of these events and this mark, and fails like it.
pub fn put_increment(
    out: &mut Vec<u8>,
    events: &[StoredEvent],
    mark: Option<&QuarantineMark>,
    aggregate_id: &str,
) -> Result<()> {
    check(events, mark).map_err(|detail| Error::new(ErrorKind::Invalid, "bad-body", detail))?;
    let (unit_flag, unit) = time_unit(events);
    let set = flags_of(events, mark, aggregate_id) | unit_flag;
    let values: usize = events.iter().map(|event| event.record.bytes() + NUMBERS_LEN).sum();
    out.reserve(values + MARK_LEN);
    out.extend_from_slice(&[BODY_FORMAT, set]);
    put_varint(out, events.len() as u64);
    if let Some(first) = events.first() {
        put_varint(out, first.version.0);
        put_zigzag(out, first.record.offset.0);
    }
    // Differences of increasing offsets are at least 1 and fit 64 bits.
    let gaps = events
        .windows(2)
        .map(|pair| pair[1].record.offset.0.wrapping_sub(pair[0].record.offset.0) as u64 - 1);
    gaps.for_each(|gap| put_varint(out, gap));
    put_deltas(out, events.iter().map(|event| event.record.record_time.0 / unit));
    let epochs = if set & EPOCHS != 0 { events } else { &events[..events.len().min(1)] };
    put_deltas(out, epochs.iter().map(|event| i64::from(event.record.leader_epoch)));
    if set & SKIPPED != 0 {
        put_bitmap(out, events.iter().map(|event| event.skipped));
    }
    events.iter().for_each(|event| put_varint(out, optional_len(event.record.value.as_deref())));
    if let Some(mark) = mark {
        put_quarantine(out, mark);
    }
    if set & KEYS != 0 {
        events.iter().for_each(|event| put_key(out, event.record.key.as_deref(), aggregate_id));
    }
    if set & HEADERS != 0 {
        put_headers(out, events);
    }
    events.iter().for_each(|event| out.extend_from_slice(event.record.value.as_deref().unwrap_or_default()));
    Ok(())
}

/// What must hold for a body; `Err` says what does not.
fn check(events: &[StoredEvent], mark: Option<&QuarantineMark>) -> Result<(), String> {
    if events.is_empty() && mark.is_none() {
        return Err("an increment that says nothing".into());
    }
    for pair in events.windows(2) {
        if pair[0].version.0.checked_add(1) != Some(pair[1].version.0) {
            return Err(format!("version `{}` follows version `{}`", pair[1].version, pair[0].version));
        }
        if pair[1].record.offset <= pair[0].record.offset {
            return Err(format!(
                "offset `{}` follows offset `{}`",
                pair[1].record.offset, pair[0].record.offset
            ));
        }
    }
    Ok(())
}

fn flags_of(events: &[StoredEvent], mark: Option<&QuarantineMark>, aggregate_id: &str) -> u8 {
    let is_own_key = |event: &StoredEvent| event.record.key.as_deref() == Some(aggregate_id.as_bytes());
    let flag = |flag, set: bool| if set { flag } else { 0 };
    flag(QUARANTINED, mark.is_some())
        | flag(SKIPPED, events.iter().any(|event| event.skipped))
        | flag(KEYS, !events.iter().all(is_own_key))
        | flag(HEADERS, events.iter().any(|event| !event.record.headers.is_empty()))
        | flag(EPOCHS, events.iter().any(|event| event.record.leader_epoch != events[0].record.leader_epoch))
}

fn time_unit(events: &[StoredEvent]) -> (u8, i64) {
    let fits = |unit: i64| events.iter().all(|event| event.record.record_time.0 % unit == 0);
    UNITS.into_iter().find(|(_, unit)| fits(*unit)).expect("every time is a whole number of milliseconds")
}

fn put_deltas(out: &mut Vec<u8>, values: impl Iterator<Item = i64>) {
    values.fold(0_i64, |previous, value| {
        put_zigzag(out, value.wrapping_sub(previous));
        value
    });
}

fn put_bitmap(out: &mut Vec<u8>, bits: impl ExactSizeIterator<Item = bool>) {
    let start = out.len();
    out.resize(start + bits.len().div_ceil(8), 0);
    for (at, _) in bits.enumerate().filter(|(_, bit)| *bit) {
        out[start + at / 8] |= 1 << (at % 8);
    }
}

/// 0: the aggregate's id; else one more than an optional length, and the bytes.
fn put_key(out: &mut Vec<u8>, key: Option<&[u8]>, aggregate_id: &str) {
    if key == Some(aggregate_id.as_bytes()) {
        return put_varint(out, 0);
    }
    put_varint(out, optional_len(key) + 1);
    out.extend_from_slice(key.unwrap_or_default());
}

fn put_headers(out: &mut Vec<u8>, events: &[StoredEvent]) {
    for event in events {
        put_varint(out, event.record.headers.len() as u64);
        for (name, value) in &event.record.headers {
            crate::codec::wire::put_bytes(out, name.as_bytes());
            put_optional(out, value.as_deref());
        }
    }
}

/// The body that [`encode_increment`] wrote for this aggregate; anything else is corrupt.
pub fn decode_increment(bytes: &[u8], aggregate_id: &str) -> Result<IncrementBody> {
    let read = || {
        let (read, mut events) = (read(bytes, aggregate_id)?, Vec::new());
        let own: Arc<[u8]> = aggregate_id.as_bytes().into();
        events.extend(read.events.iter().map(|event| event.stored(&own)));
        read.check(&events, aggregate_id)?;
        Ok(IncrementBody { events, quarantine: read.mark })
    };
    read().map_err(|error: Error| error.context("read incremental body"))
}

/// True if [`decode_increment`] makes of these bytes exactly these events and this mark; fails like it.
pub fn is_increment(
    bytes: &[u8],
    events: &[StoredEvent],
    mark: Option<&QuarantineMark>,
    aggregate_id: &str,
) -> Result<bool> {
    let read = || {
        let read = read(bytes, aggregate_id)?;
        let is_same = read.mark.as_ref() == mark
            && read.events.len() == events.len()
            && read.events.iter().zip(events).all(|(read, event)| read.is(event, aggregate_id));
        if is_same {
            read.check(events, aggregate_id)?;
        }
        Ok(is_same)
    };
    read().map_err(|error: Error| error.context("read incremental body"))
}

/// A body as it is read, its bytes where they are.
struct Read<'a> {
    set: u8,
    events: Vec<ReadEvent<'a>>,
    mark: Option<QuarantineMark>,
}

#[derive(Clone, Default)]
struct ReadEvent<'a> {
    version: Version,
    skipped: bool,
    offset: Offset,
    leader_epoch: i32,
    record_time: Timestamp,
    key: Key<'a>,
    value: Option<&'a [u8]>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

#[derive(Clone, Copy, Default)]
enum Key<'a> {
    /// The aggregate's id.
    #[default]
    Own,
    Other(Option<&'a [u8]>),
}

impl ReadEvent<'_> {
    fn stored(&self, own: &Arc<[u8]>) -> StoredEvent {
        let headers = self.headers.iter().map(|(name, value)| ((*name).into(), value.map(Arc::from)));
        let record = RawRecord {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            record_time: self.record_time,
            key: match self.key {
                Key::Own => Some(Arc::clone(own)),
                Key::Other(key) => key.map(Arc::from),
            },
            value: self.value.map(Arc::from),
            headers: headers.collect(),
        };
        StoredEvent { version: self.version, skipped: self.skipped, record }
    }

    /// True if [`Self::stored`] gives this event.
    fn is(&self, event: &StoredEvent, aggregate_id: &str) -> bool {
        let StoredEvent { version, skipped, record } = event;
        let RawRecord { offset, leader_epoch, record_time, key, value, headers } = record;
        let own_or_other = match self.key {
            Key::Own => Some(aggregate_id.as_bytes()),
            Key::Other(key) => key,
        };
        let headers = headers.iter().map(|(name, value)| (&**name, value.as_deref()));
        (self.version, self.skipped) == (*version, *skipped)
            && (self.offset, self.leader_epoch, self.record_time) == (*offset, *leader_epoch, *record_time)
            && own_or_other == key.as_deref()
            && self.value == value.as_deref()
            && self.headers.iter().copied().eq(headers)
    }
}

impl Read<'_> {
    /// What must hold of the events that were read, beside that they could be.
    fn check(&self, events: &[StoredEvent], aggregate_id: &str) -> Result<()> {
        check(events, self.mark.as_ref()).map_err(Error::corrupt)?;
        // One value, one encoding: a flag that says nothing, or a coarser unit left unused, is not ours.
        let (unit_flag, _) = time_unit(events);
        if self.set != flags_of(events, self.mark.as_ref(), aggregate_id) | unit_flag {
            return Err(Error::corrupt(format!("body flags `{:#04x}` do not fit the content", self.set)));
        }
        Ok(())
    }
}

fn read<'a>(bytes: &'a [u8], aggregate_id: &str) -> Result<Read<'a>> {
    let mut cursor = Cursor::new(bytes);
    check_format(&mut cursor)?;
    let set = flags(&mut cursor, u8::MAX)?;
    let (mut events, value_lens) = read_numbers(&mut cursor, set)?;
    let mark = if set & QUARANTINED != 0 { Some(quarantine(&mut cursor)?) } else { None };
    if set & KEYS != 0 {
        events.iter_mut().try_for_each(|event| read_key(&mut cursor, event, aggregate_id))?;
    }
    if set & HEADERS != 0 {
        events.iter_mut().try_for_each(|event| read_headers(&mut cursor, event))?;
    }
    for (event, len) in events.iter_mut().zip(value_lens) {
        event.value = cursor.optional_of(len)?;
    }
    cursor.finish()?;
    Ok(Read { set, events, mark })
}

/// The columns of numbers; events come back without key, headers and value, with the lengths of the values.
fn read_numbers<'a>(cursor: &mut Cursor<'a>, set: u8) -> Result<(Vec<ReadEvent<'a>>, Vec<u64>)> {
    // An event takes at least three bytes: offset, time and length of value.
    let count = cursor.count(3)?;
    if count == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let first = Version(cursor.varint()?);
    if first.0.checked_add(count as u64).is_none() {
        return Err(Error::corrupt(format!("`{count}` events from version `{first}`")));
    }
    let mut events = vec![ReadEvent::default(); count];
    let mut offset = cursor.zigzag()?;
    for (at, event) in events.iter_mut().enumerate() {
        if at > 0 {
            offset = offset.wrapping_add(cursor.varint()?.wrapping_add(1) as i64);
        }
        event.offset = Offset(offset);
        event.version = Version(first.0 + at as u64);
    }
    let unit = UNITS.iter().find(|(flag, _)| set & (SECONDS | DAYS) == *flag);
    let (_, unit) = unit.ok_or_else(|| Error::corrupt("two units of time"))?;
    let mut time = 0_i64;
    for event in &mut events {
        time = time.wrapping_add(cursor.zigzag()?);
        let millis = time.checked_mul(*unit).ok_or_else(|| Error::corrupt("a time is out of range"))?;
        event.record_time = Timestamp(millis);
    }
    let mut last = 0_i64;
    for (at, event) in events.iter_mut().enumerate() {
        if at == 0 || set & EPOCHS != 0 {
            last = last.wrapping_add(cursor.zigzag()?);
        }
        event.leader_epoch = epoch(last)?;
    }
    if set & SKIPPED != 0 {
        let bitmap = cursor.take(count.div_ceil(8) as u64)?;
        events
            .iter_mut()
            .enumerate()
            .for_each(|(at, event)| event.skipped = bitmap[at / 8] >> (at % 8) & 1 == 1);
        let is_padded = !count.is_multiple_of(8) && bitmap[count / 8] >> (count % 8) != 0;
        if is_padded {
            return Err(Error::corrupt("a bitmap has bits beyond its events"));
        }
    }
    let value_lens = (0..count).map(|_| cursor.varint()).collect::<Result<_>>()?;
    Ok((events, value_lens))
}

fn read_key<'a>(cursor: &mut Cursor<'a>, event: &mut ReadEvent<'a>, aggregate_id: &str) -> Result<()> {
    if let Some(len) = cursor.varint()?.checked_sub(1) {
        let key = cursor.optional_of(len)?;
        if key == Some(aggregate_id.as_bytes()) {
            return Err(Error::corrupt("a key repeats the aggregate's id"));
        }
        event.key = Key::Other(key);
    }
    Ok(())
}

fn read_headers<'a>(cursor: &mut Cursor<'a>, event: &mut ReadEvent<'a>) -> Result<()> {
    // A header takes at least two bytes. Grown as they are read, since a header is larger in memory than
    // that.
    for _ in 0..cursor.count(2)? {
        let name = cursor.text()?;
        event.headers.push((name, cursor.optional()?));
    }
    Ok(())
}
