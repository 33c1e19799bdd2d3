//! What is handed over to be written: of one aggregate by a snapshot, and of one by a checkpoint.

use super::tail::Tail;
use super::{BodyAt, Cut, Entry, EntryRef};
use crate::domain::aggregate::Aggregate;
use crate::domain::ids::{Offset, Timestamp, Version};
use crate::domain::record::{QuarantineMark, StoredEvent};
use crate::domain::row::Trigger;
use std::sync::Arc;

/// What is written of one aggregate by one flush: at each cut an increment, a full record, or both.
#[derive(Debug)]
pub struct SnapshotItem {
    /// Whose.
    pub id: Arc<str>,
    /// Newest snapshot before this one: the first increment starts after it, each other one after the cut
    /// before.
    pub row: Version,
    /// Where live checkpoints hold the events from `row` up to the tail, and maybe beyond the last cut.
    pub pending: Vec<EntryRef>,
    /// The events up to the last cut that nothing durable covers.
    pub tail: Tail,
    /// Write the events as increments.
    pub increment: bool,
    /// In version order, at least one.
    pub cuts: Vec<Arc<Cut>>,
    /// Offset of the first event after `row`, exact or from below, where neither events nor a trail tell.
    pub first_offset: Option<Offset>,
}

impl SnapshotItem {
    /// A full record of a version whose events are kept already, by the row of version `row` and others that
    /// reach beyond it; `first_offset` lies at or before the first event after `row`.
    #[must_use]
    pub fn past(
        id: Arc<str>,
        row: Version,
        first_offset: Offset,
        aggregate: &Aggregate,
        now_ms: u64,
    ) -> Self {
        let cut = Cut::of(aggregate, Trigger::Manual, None, true, now_ms);
        Self {
            id,
            row,
            pending: Vec::new(),
            tail: Tail::NONE,
            increment: false,
            cuts: vec![Arc::new(cut)],
            first_offset: Some(first_offset),
        }
    }

    /// One increment with these events, which follow on version `from` and are kept already by others.
    #[must_use]
    pub fn merged(
        id: Arc<str>,
        from: Version,
        events: Vec<StoredEvent>,
        aggregate: &Aggregate,
        now_ms: u64,
    ) -> Self {
        let cut = Cut::of(aggregate, Trigger::Manual, None, false, now_ms);
        Self {
            id,
            row: from,
            pending: Vec::new(),
            tail: events.into(),
            increment: true,
            cuts: vec![Arc::new(cut)],
            first_offset: None,
        }
    }

    /// The last cut: what the snapshot covers.
    ///
    /// # Panics
    /// Without cuts: such an item is not made.
    #[must_use]
    pub fn last(&self) -> &Cut {
        self.cuts.last().expect("a snapshot has a cut")
    }

    /// Bytes of the events and states that are written.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pending = self.pending.iter().map(|entry| entry.body.len as usize);
        let tail = self.tail.iter().map(|event| event.record.bytes());
        let states = self.cuts.iter().map(|cut| cut.aggregate.state.bytes_bound());
        states.chain(pending.chain(tail).filter(|_| self.increment)).sum()
    }
}

/// What a checkpoint holds of one aggregate.
#[derive(Debug)]
pub struct CheckpointItem {
    /// Whose.
    pub id: Arc<str>,
    /// The version its events follow on.
    pub from: Version,
    /// The events that nothing durable covers, in version order.
    pub events: Tail,
    /// The quarantine mark, if nothing durable covers it.
    pub mark: Option<QuarantineMark>,
    /// The aggregate's effective time after them.
    pub effective_time: Timestamp,
}

impl CheckpointItem {
    /// What its checkpoint's table says of it, but for where its body is.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let mark = self.mark.as_ref().map(|mark| mark.offset);
        let first = self.events.first().map(|event| event.record.offset);
        let last = self.events.last().map(|event| event.record.offset);
        Entry {
            id: (*self.id).into(),
            from: self.from,
            upto: self.events.last().map_or(self.from, |event| event.version),
            first_offset: first.or(mark).unwrap_or_default(),
            last_offset: mark.max(last).unwrap_or_default(),
            effective_time: self.effective_time,
            marked: self.mark.is_some(),
            body: BodyAt::default(),
        }
    }
}
