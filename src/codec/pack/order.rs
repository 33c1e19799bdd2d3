//! The order of a footer's entries: by type and id, then lineage, version, kind, base and partition.

use super::ids::Ids;
use crate::domain::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// The columns that entries are sorted by, after type and id.
pub(super) struct OrderColumns {
    pub(super) lineage: Vec<i64>,
    pub(super) upto: Vec<i64>,
    pub(super) kind: Vec<i64>,
    pub(super) span: Vec<i64>,
    pub(super) partition: Vec<i64>,
}

/// Lineage, version, kind, base and partition, as they are compared.
type Order = (u32, u64, u8, u64, i32);

impl OrderColumns {
    fn at(&self, at: usize) -> Result<Order> {
        let lineage = u32::try_from(self.lineage[at]);
        let kind = u8::try_from(self.kind[at]);
        let partition = i32::try_from(self.partition[at]);
        let (Ok(lineage), Ok(kind), Ok(partition)) = (lineage, kind, partition) else {
            return Err(Error::corrupt("a lineage, a kind or a partition is out of range"));
        };
        let (upto, span) = (self.upto[at] as u64, self.span[at] as u64);
        if span > upto {
            return Err(Error::corrupt(format!("a record of `{span}` versions up to `{upto}`")));
        }
        // D keeps its base as a distance; kinds of later versions define theirs.
        Ok((lineage, upto, kind, if kind == b'D' { upto - span } else { span }, partition))
    }
}

/// The ids of a footer. Fails unless the entries are strictly in order.
pub(super) fn read_ids(
    bytes: Vec<u8>,
    types: &[(Arc<str>, Range<usize>)],
    order: &OrderColumns,
) -> Result<Ids> {
    let mut groups = types.iter().map(|(_, range)| range.end);
    let mut group_end = 0;
    let mut last: Option<(String, Order)> = None;
    Ids::parse(bytes, order.upto.len(), |at, id| {
        if at == group_end {
            group_end = groups.next().unwrap_or(usize::MAX);
            last = None;
        }
        let rest = order.at(at)?;
        let is_after = last.as_ref().is_none_or(|(before, order)| (before.as_str(), *order) < (id, rest));
        if id.is_empty() || !is_after {
            return Err(Error::corrupt(format!("entry `{at}` is out of order")));
        }
        let mut text = last.take().map(|(text, _)| text).unwrap_or_default();
        text.clear();
        text.push_str(id);
        last = Some((text, rest));
        Ok(())
    })
}
