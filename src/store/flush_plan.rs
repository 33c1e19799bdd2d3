//! What one flush writes: which records go into which pack, where an aggregate's events are divided, and in
//! which order rows are written.

use super::encode::NewEntry;
use super::flush::Flush;
use super::packs::Class;
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, Lineage, Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{Cut, SnapshotItem};
use crate::domain::record::{IncrementBody, StoredEvent};
use crate::domain::row::{RecordKind, SnapshotRow};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Flush {
    /// Whose.
    pub(super) fn key(&self) -> AggregateKey {
        AggregateKey { kind: Arc::clone(&self.kind), id: Arc::clone(&self.item.id) }
    }
}

/// What is known of a flush part that was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Bytes of the newest full record, if there is one.
    pub full_bytes: Option<u64>,
    /// Bytes of all increments.
    pub increment_bytes: u64,
}

impl Stored {
    /// One record of it took so many bytes.
    pub(super) fn take(&mut self, kind: RecordKind, bytes: u64) {
        match kind {
            RecordKind::Full => self.full_bytes = Some(bytes),
            RecordKind::Increment | RecordKind::Segment => self.increment_bytes += bytes,
        }
    }
}

/// What one flush writes: packs, and which part of the flush each entry is.
#[derive(Default)]
pub(super) struct FlushPlan {
    pub(super) packs: Vec<PlannedPack>,
    /// How many entries of this name there are.
    named: BTreeMap<(RecordKind, AggregateKey, Lineage, Version), usize>,
}

/// One pack of it.
pub(super) struct PlannedPack {
    pub(super) class: Class,
    pub(super) entries: Vec<NewEntry>,
    /// What each entry is.
    pub(super) parts: Vec<Part>,
}

/// What an entry is of a flush: which aggregate's, and at which of its cuts.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) of: usize,
    pub(super) cut: usize,
}

impl FlushPlan {
    /// Takes one aggregate's part of the flush: at each of its cuts an increment, a full record, or both.
    pub(super) fn add(&mut self, of: usize, flush: &Flush, events: Vec<StoredEvent>) -> Result<()> {
        let item = &flush.item;
        let mut events = events.into_iter().peekable();
        let mut from = item.row;
        for (at, cut) in item.cuts.iter().enumerate() {
            let part = Part { of, cut: at };
            let events: Vec<StoredEvent> =
                std::iter::from_fn(|| events.next_if(|event| event.version <= cut.version())).collect();
            let first = match events.first() {
                Some(event) => event.record.offset,
                None => first_offset(item, from, cut),
            };
            if item.increment {
                let body = IncrementBody { events, quarantine: cut.aggregate.quarantine.as_deref().cloned() };
                let entry = NewEntry::increment(flush, from, cut, first, body)?;
                self.place(Class::History, part, entry);
            }
            if cut.full {
                self.place(Class::Full, part, NewEntry::full(flush, from, cut, first)?);
            }
            from = cut.version();
        }
        Ok(())
    }

    /// SUBTLE: a row's key is aggregate, lineage, version and pack. An id that occurs in two partitions may
    /// have the same version in both, so their records go into different packs: in one, the second row would
    /// replace the first.
    fn place(&mut self, class: Class, part: Part, entry: NewEntry) {
        let id = &entry.meta.id;
        let name = (id.kind, id.key.clone(), id.lineage, id.upto_version);
        let named = self.named.entry(name).or_default();
        let pack = self.packs.iter_mut().filter(|pack| pack.class == class).nth(*named);
        *named += 1;
        if let Some(pack) = pack {
            pack.entries.push(entry);
            pack.parts.push(part);
        } else {
            self.packs.push(PlannedPack { class, entries: vec![entry], parts: vec![part] });
        }
    }
}

/// Offset of the first event after `from`, exact or from below, where the events are not at hand: pending
/// ones come before the tail, and an owner ignores what lies beyond its start, so the least offset counts.
fn first_offset(item: &SnapshotItem, from: Version, cut: &Cut) -> Offset {
    let trail = cut.trail.as_ref().and_then(|trail| trail.first().copied());
    let pending = item.pending.iter().filter(|entry| entry.upto > from).map(|entry| entry.first_offset);
    let tail = item.tail.iter().find(|event| event.version > from).map(|event| event.record.offset);
    trail.or_else(|| pending.chain(tail).min()).or(item.first_offset).unwrap_or(cut.aggregate.offset)
}

/// Rows in the order in which they are written: what is inside one list, one after the other; the lists of
/// one step beside each other. Increments come before full ones: a full row that is seen means that its
/// events' rows are acknowledged.
pub(super) fn in_order(rows: Vec<(usize, SnapshotRow)>) -> [Vec<Vec<SnapshotRow>>; 2] {
    let mut increments: BTreeMap<usize, Vec<SnapshotRow>> = BTreeMap::new();
    let mut fulls = Vec::new();
    for (of, row) in rows {
        match row.kind {
            RecordKind::Increment => increments.entry(of).or_default().push(row),
            // No flush has segments.
            RecordKind::Full | RecordKind::Segment => fulls.push(vec![row]),
        }
    }
    let mut increments: Vec<Vec<SnapshotRow>> = increments.into_values().collect();
    increments.iter_mut().for_each(|rows| rows.sort_by_key(|row| row.version));
    if mutant(Mutant::LaterIncrementFirst) {
        increments.iter_mut().for_each(|rows| rows.reverse());
    }
    if mutant(Mutant::FullRowBeforeIncrement) { [fulls, increments] } else { [increments, fulls] }
}
