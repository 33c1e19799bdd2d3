//! What a footer says beyond what reading records needs, so that index rows can be made from it alone: two
//! optional sections, which older readers skip.
//!
//! *Facts* (section 0x80) are of entries: why a snapshot was taken, the type of its last event, the bytes of
//! its canonical state, whether the increment that ends at it was written beside it. *Marks* (section 0x81)
//! are of a checkpoint's partitions: the low watermark that holds once the pack is durable.

use super::column;
use super::section;
use crate::codec::row::{Row, trigger_code, trigger_from_code};
use crate::codec::wire::{Cursor, put_bytes, put_varint};
use crate::domain::error::{Error, Result};
use crate::domain::row::{Trigger, WatermarkRow};
use std::sync::Arc;

/// Version of the layout of facts; a reader that does not know it does as if there were none.
const FORMAT: u8 = 1;
/// The increment that ends at a full record was written in the same flush.
const WITH_EVENTS: i64 = 1;

/// What the index row of an entry says that nothing else in the footer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFacts {
    /// Why the snapshot was taken.
    pub trigger: Trigger,
    /// Type of its last event; empty before the first.
    pub event_type: Box<str>,
    /// Bytes of the canonical state, of a full record with one.
    pub state_bytes: Option<u64>,
    /// Of a full record: the increment up to its version was written beside it. Where that is missing, the
    /// flush was never acknowledged.
    pub with_events: bool,
}

/// The low watermark of a partition once a checkpoint pack is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Aggregate type of the stream.
    pub kind: Arc<str>,
    /// Everything below it is covered by this pack and by what was acknowledged before.
    pub row: WatermarkRow,
}

/// Columns of facts, entry by entry in footer order.
#[derive(Default)]
pub(super) struct Columns {
    event_types: Vec<Box<str>>,
    columns: [Vec<i64>; 4],
    is_any: bool,
}

impl Columns {
    /// Adds the facts of the entry that comes next.
    pub(super) fn push(&mut self, facts: Option<&EntryFacts>) {
        let row = facts.map_or([0; 4], |facts| {
            self.is_any = true;
            let known = self.event_types.iter().position(|known| *known == facts.event_type);
            let event_type = known.unwrap_or_else(|| {
                self.event_types.push(facts.event_type.clone());
                self.event_types.len() - 1
            });
            let state = facts.state_bytes.map_or(0, |bytes| bytes as i64 + 1);
            let flags = if facts.with_events { WITH_EVENTS } else { 0 };
            [i64::from(trigger_code(facts.trigger)) + 1, event_type as i64, state, flags]
        });
        self.columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }

    /// The section; none where no entry has facts.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        if !self.is_any {
            return None;
        }
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.event_types.len() as u64);
        self.event_types.iter().for_each(|name| put_bytes(&mut out, name.as_bytes()));
        self.columns.iter().for_each(|values| put_bytes(&mut out, &column::encode(values)));
        Some(out)
    }
}

/// The facts of `len` entries; none of any where the section is missing or of a later layout.
pub(super) fn decode(bytes: &[u8], len: usize) -> Result<Vec<Option<EntryFacts>>> {
    if bytes.first() != Some(&FORMAT) {
        return Ok(vec![None; len]);
    }
    let wrong = |what: &str| Error::corrupt(format!("{what} in section `{}`", section::FACTS));
    let mut cursor = Cursor::new(&bytes[1..]);
    let event_types: Vec<Box<str>> =
        (0..cursor.count(1)?).map(|_| Ok(cursor.text()?.into())).collect::<Result<_>>()?;
    let mut columns = Vec::with_capacity(4);
    for _ in 0..4 {
        columns.push(column::decode(cursor.bytes()?, len)?);
    }
    cursor.finish()?;
    let entry = |at: usize| {
        let Some(code) = columns[0][at].checked_sub(1).filter(|code| *code >= 0) else { return Ok(None) };
        let code = u8::try_from(code).map_err(|_| wrong("an unknown trigger"))?;
        let event_type = usize::try_from(columns[1][at]).ok().and_then(|nth| event_types.get(nth));
        Ok(Some(EntryFacts {
            trigger: trigger_from_code(code)?,
            event_type: event_type.ok_or_else(|| wrong("an unknown event type"))?.clone(),
            state_bytes: u64::try_from(columns[2][at]).map_err(|_| wrong("a length"))?.checked_sub(1),
            with_events: columns[3][at] & WITH_EVENTS != 0,
        }))
    };
    (0..len).map(entry).collect()
}

/// The section of a checkpoint's marks.
pub(super) fn encode_marks(marks: &[Mark]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, marks.len() as u64);
    for mark in marks {
        put_bytes(&mut out, mark.kind.as_bytes());
        put_bytes(&mut out, &mark.row.encode());
    }
    out
}

/// The marks of a checkpoint; none where the section is missing.
pub(super) fn decode_marks(bytes: &[u8]) -> Result<Vec<Mark>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut cursor = Cursor::new(bytes);
    let count = cursor.count(2)?;
    let mark = |cursor: &mut Cursor<'_>| {
        Ok(Mark { kind: cursor.text()?.into(), row: WatermarkRow::decode(cursor.bytes()?)? })
    };
    let marks = (0..count).map(|_| mark(&mut cursor)).collect::<Result<_>>()?;
    cursor.finish()?;
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Lineage, Offset, PartitionNo};
    use crate::domain::row::PartitionKey;

    fn facts(trigger: Trigger, event_type: &str, state_bytes: Option<u64>) -> EntryFacts {
        EntryFacts { trigger, event_type: event_type.into(), state_bytes, with_events: state_bytes.is_some() }
    }

    #[test]
    fn facts_come_back_entry_by_entry_and_every_cut_is_found() {
        let all = [
            Some(facts(Trigger::Events, "Placed", None)),
            None,
            Some(facts(Trigger::Adaptive, "", Some(0))),
            Some(facts(Trigger::Debt, "Placed", Some(1 << 40))),
        ];
        let mut columns = Columns::default();
        all.iter().for_each(|facts| columns.push(facts.as_ref()));
        let bytes = columns.encode().unwrap();
        assert_eq!(decode(&bytes, all.len()).unwrap(), all);
        (1..bytes.len()).for_each(|cut| assert!(decode(&bytes[..cut], all.len()).is_err(), "{cut}"));
        assert_eq!(decode(&[], 2).unwrap(), [None, None]);
        assert_eq!(decode(&[9, 9], 1).unwrap(), [None], "a later layout is as good as none");
        let mut none = Columns::default();
        none.push(None);
        assert_eq!(none.encode(), None);
    }

    #[test]
    fn marks_come_back() {
        let key = PartitionKey { topic: "orders".into(), partition: PartitionNo(3), lineage: Lineage(2) };
        let row = WatermarkRow { key, topic_id: 7, leader_epoch: 4, low_watermark: Offset(99) };
        let marks = [Mark { kind: "order".into(), row }];
        let bytes = encode_marks(&marks);
        assert_eq!(decode_marks(&bytes).unwrap(), marks);
        (1..bytes.len()).for_each(|cut| assert!(decode_marks(&bytes[..cut]).is_err(), "{cut}"));
        assert_eq!(decode_marks(&[]).unwrap(), []);
    }
}
