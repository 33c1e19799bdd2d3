//! Rows of the index as bytes: one canonical form, for indexes that keep rows as bytes and for ledger
//! objects.
//!
//! Invariants: one row has one encoding, and whatever decodes encodes back to the same bytes; every flipped
//! bit and every cut is found (CRC32C over all of it); a form or flag of a later version is refused by name.
//! The layout with test vectors is in `docs/FORMAT.md`.

mod ledger;
mod schedule;

use crate::codec::pack::{kind_code, kind_from_code};
use crate::codec::wire::{Cursor, put_bytes, put_optional, put_varint, put_zigzag};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{
    AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version,
};
use crate::domain::record::RawRecord;
use crate::domain::row::{
    CheckpointRow, DeadLetter, NoteRow, PartitionKey, SnapshotRow, Trigger, WatermarkRow,
};
use std::sync::Arc;

const FORMAT: u8 = 1;

const DELETED: u8 = 1;
const QUARANTINED: u8 = 2;
const STATE: u8 = 4;

/// Triggers in the order of their stored codes, which never change.
const TRIGGERS: [Trigger; 8] = [
    Trigger::Events,
    Trigger::Age,
    Trigger::Bytes,
    Trigger::Manual,
    Trigger::Schedule,
    Trigger::Memory,
    Trigger::Debt,
    Trigger::Adaptive,
];

/// The stored code of a trigger.
pub(crate) fn trigger_code(trigger: Trigger) -> u8 {
    let code = TRIGGERS.iter().position(|known| *known == trigger);
    code.expect("every trigger is listed") as u8
}

/// The trigger with this stored code.
pub(crate) fn trigger_from_code(code: u8) -> Result<Trigger> {
    let known = TRIGGERS.get(usize::from(code)).copied();
    known.ok_or_else(|| Error::corrupt(format!("trigger `{code}` is unknown")))
}

/// A row with a stored form.
pub trait Row: Sized {
    /// The first byte of its stored form.
    const TYPE: u8;
    /// What it is called in errors.
    const NAME: &'static str;
    #[doc(hidden)]
    fn put(&self, out: &mut Body);
    #[doc(hidden)]
    fn take(body: &mut Rest<'_>) -> Result<Self>;

    /// The stored form.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        let mut body = Body(vec![Self::TYPE, FORMAT]);
        self.put(&mut body);
        let crc = crc32c::crc32c(&body.0);
        body.0.extend_from_slice(&crc.to_le_bytes());
        body.0
    }

    /// The row whose stored form this is.
    ///
    /// # Errors
    /// `Corrupt` for anything else, however little it differs.
    fn decode(bytes: &[u8]) -> Result<Self> {
        read(bytes).map_err(|error| error.context(&format!("read {}", Self::NAME)))
    }
}

/// Bytes of a row being written.
#[doc(hidden)]
pub struct Body(Vec<u8>);

/// Bytes of a row being read.
#[doc(hidden)]
pub struct Rest<'a>(Cursor<'a>);

fn read<R: Row>(bytes: &[u8]) -> Result<R> {
    let crc_at = bytes.len().checked_sub(4).ok_or_else(|| Error::corrupt("it is cut short"))?;
    let (body, crc) = bytes.split_at(crc_at);
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(Error::corrupt("it disagrees with its checksum"));
    }
    let mut rest = Rest(Cursor::new(body));
    match (rest.0.u8()?, rest.0.u8()?) {
        (row, FORMAT) if row == R::TYPE => {}
        (row, FORMAT) => {
            return Err(Error::corrupt(format!("a row of type `{row}` where `{}` was", R::TYPE)));
        }
        (_, format) => return Err(Error::corrupt(format!("row format `{format}` needs a newer reader"))),
    }
    let row = R::take(&mut rest)?;
    rest.0.finish()?;
    Ok(row)
}

impl Body {
    fn text(&mut self, text: &str) {
        put_bytes(&mut self.0, text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        put_varint(&mut self.0, number);
    }

    fn signed(&mut self, number: i64) {
        put_zigzag(&mut self.0, number);
    }

    fn log(&mut self, key: &PartitionKey) {
        self.text(&key.topic);
        self.signed(i64::from(key.partition.0));
        self.number(u64::from(key.lineage.0));
    }
}

impl Rest<'_> {
    fn text(&mut self) -> Result<Arc<str>> {
        self.0.text().map(Arc::from)
    }

    fn u32(&mut self) -> Result<u32> {
        let number = self.0.varint()?;
        u32::try_from(number).map_err(|_| Error::corrupt(format!("`{number}` is out of range")))
    }

    fn i32(&mut self) -> Result<i32> {
        let number = self.0.zigzag()?;
        i32::try_from(number).map_err(|_| Error::corrupt(format!("`{number}` is out of range")))
    }

    fn offset(&mut self) -> Result<Offset> {
        self.0.zigzag().map(Offset)
    }

    fn time(&mut self) -> Result<Timestamp> {
        self.0.zigzag().map(Timestamp)
    }

    fn flags(&mut self, known: u8) -> Result<u8> {
        match self.0.u8()? {
            set if set & !known == 0 => Ok(set),
            set => Err(Error::corrupt(format!("row flags `{set:#04x}` need a newer reader"))),
        }
    }

    fn log(&mut self) -> Result<PartitionKey> {
        Ok(PartitionKey {
            topic: self.text()?,
            partition: PartitionNo(self.i32()?),
            lineage: Lineage(self.u32()?),
        })
    }
}

impl Row for SnapshotRow {
    const TYPE: u8 = 1;
    const NAME: &'static str = "snapshot row";

    fn put(&self, out: &mut Body) {
        let state = self.state_digest.zip(self.state_bytes);
        let flag = |flag, set: bool| if set { flag } else { 0 };
        let flags =
            flag(DELETED, self.deleted) | flag(QUARANTINED, self.quarantined) | flag(STATE, state.is_some());
        out.0.extend_from_slice(&[flags, kind_code(self.kind), trigger_code(self.trigger)]);
        out.0.extend_from_slice(&self.pack.0);
        out.text(&self.key.kind);
        out.text(&self.key.id);
        out.number(u64::from(self.lineage.0));
        out.number(self.version.0);
        out.number(self.from_version.0);
        out.signed(i64::from(self.partition.0));
        out.signed(self.first_offset.0);
        out.signed(self.last_offset.0);
        out.signed(i64::from(self.leader_epoch));
        out.signed(self.effective_time.0);
        out.signed(self.created_at.0);
        out.number(u64::from(self.creation_ms));
        out.text(&self.event_type);
        out.0.extend_from_slice(&self.chain.0);
        out.number(self.raw_bytes);
        out.number(self.stored_bytes);
        if let Some((digest, bytes)) = state {
            out.0.extend_from_slice(&digest.0);
            out.number(bytes);
        }
        put_bytes(&mut out.0, &self.locator);
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let flags = body.flags(DELETED | QUARANTINED | STATE)?;
        let kind = kind_from_code(body.0.u8()?)?;
        let trigger = trigger_from_code(body.0.u8()?)?;
        let pack = PackId(body.0.array()?);
        let mut row = Self {
            key: AggregateKey { kind: body.text()?, id: body.text()? },
            lineage: Lineage(body.u32()?),
            version: Version(body.0.varint()?),
            pack,
            kind,
            from_version: Version(body.0.varint()?),
            partition: PartitionNo(body.i32()?),
            first_offset: body.offset()?,
            last_offset: body.offset()?,
            leader_epoch: body.i32()?,
            effective_time: body.time()?,
            created_at: body.time()?,
            creation_ms: body.u32()?,
            trigger,
            event_type: body.0.text()?.into(),
            chain: Digest(body.0.array()?),
            raw_bytes: body.0.varint()?,
            stored_bytes: body.0.varint()?,
            state_digest: None,
            state_bytes: None,
            deleted: flags & DELETED != 0,
            quarantined: flags & QUARANTINED != 0,
            locator: Vec::new(),
        };
        if flags & STATE != 0 {
            row.state_digest = Some(Digest(body.0.array()?));
            row.state_bytes = Some(body.0.varint()?);
        }
        row.locator = body.0.bytes()?.into();
        Ok(row)
    }
}

impl Row for CheckpointRow {
    const TYPE: u8 = 2;
    const NAME: &'static str = "checkpoint row";

    fn put(&self, out: &mut Body) {
        out.0.extend_from_slice(&self.pack.0);
        out.log(&self.key);
        out.signed(self.first_offset.0);
        out.signed(self.end_offset.0);
        out.number(u64::from(self.entries));
        out.number(self.object_bytes);
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let pack = PackId(body.0.array()?);
        Ok(Self {
            key: body.log()?,
            pack,
            first_offset: body.offset()?,
            end_offset: body.offset()?,
            entries: body.u32()?,
            object_bytes: body.0.varint()?,
        })
    }
}

impl Row for WatermarkRow {
    const TYPE: u8 = 3;
    const NAME: &'static str = "low watermark";

    fn put(&self, out: &mut Body) {
        out.0.extend_from_slice(&self.topic_id.to_be_bytes());
        out.log(&self.key);
        out.signed(i64::from(self.leader_epoch));
        out.signed(self.low_watermark.0);
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let topic_id = u128::from_be_bytes(body.0.array()?);
        Ok(Self { key: body.log()?, topic_id, leader_epoch: body.i32()?, low_watermark: body.offset()? })
    }
}

const AGGREGATE: u8 = 1;

impl Row for DeadLetter {
    const TYPE: u8 = 4;
    const NAME: &'static str = "dead letter";

    fn put(&self, out: &mut Body) {
        out.0.push(if self.aggregate.is_some() { AGGREGATE } else { 0 });
        out.log(&self.key);
        out.signed(self.offset.0);
        if let Some(aggregate) = &self.aggregate {
            out.text(&aggregate.kind);
            out.text(&aggregate.id);
        }
        out.text(&self.code);
        out.text(&self.detail);
        let record = &self.record;
        out.signed(record.offset.0);
        out.signed(i64::from(record.leader_epoch));
        out.signed(record.record_time.0);
        put_optional(&mut out.0, record.key.as_deref());
        put_optional(&mut out.0, record.value.as_deref());
        out.number(record.headers.len() as u64);
        for (name, value) in &record.headers {
            out.text(name);
            put_optional(&mut out.0, value.as_deref());
        }
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let flags = body.flags(AGGREGATE)?;
        let (key, offset) = (body.log()?, body.offset()?);
        let aggregate = match flags & AGGREGATE {
            0 => None,
            _ => Some(AggregateKey { kind: body.text()?, id: body.text()? }),
        };
        let (code, detail) = (body.0.text()?.into(), body.0.text()?.to_owned());
        let mut record = RawRecord {
            offset: body.offset()?,
            leader_epoch: body.i32()?,
            record_time: body.time()?,
            key: body.0.optional()?.map(Arc::from),
            value: body.0.optional()?.map(Arc::from),
            headers: Vec::new(),
        };
        // A header takes at least two bytes.
        for _ in 0..body.0.count(2)? {
            let name = body.0.text()?.into();
            record.headers.push((name, body.0.optional()?.map(Arc::from)));
        }
        Ok(Self { key, offset, aggregate, code, detail, record })
    }
}

const LABEL: u8 = 1;
const REASON: u8 = 2;
const PIN: u8 = 4;
const PINNED: u8 = 8;

impl Row for NoteRow {
    const TYPE: u8 = 5;
    const NAME: &'static str = "note";

    fn put(&self, out: &mut Body) {
        let flag = |flag, set: bool| if set { flag } else { 0 };
        let pinned = flag(PIN, self.pinned.is_some()) | flag(PINNED, self.pinned == Some(true));
        out.0.push(flag(LABEL, self.label.is_some()) | flag(REASON, self.reason.is_some()) | pinned);
        out.0.extend_from_slice(&self.at.0);
        out.text(&self.key.kind);
        out.text(&self.key.id);
        out.number(u64::from(self.lineage.0));
        out.number(self.version.0);
        self.label.iter().chain(&self.reason).for_each(|text| out.text(text));
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let flags = body.flags(LABEL | REASON | PIN | PINNED)?;
        if flags & (PIN | PINNED) == PINNED {
            return Err(Error::corrupt("it pins and says nothing about a pin"));
        }
        let mut row = Self {
            at: LedgerId(body.0.array()?),
            key: AggregateKey { kind: body.text()?, id: body.text()? },
            lineage: Lineage(body.u32()?),
            version: Version(body.0.varint()?),
            label: None,
            pinned: (flags & PIN != 0).then_some(flags & PINNED != 0),
            reason: None,
        };
        if flags & LABEL != 0 {
            row.label = Some(body.0.text()?.into());
        }
        if flags & REASON != 0 {
            row.reason = Some(body.0.text()?.into());
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
