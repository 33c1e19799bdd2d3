//! Records written anew: from an older snapshot and increments, from other copies, or from the topic,
//! as every answer is.
//!
//! INVARIANT: nothing is written but what the row of the damaged record vouches for: the chain at its
//! version, and of a state its digest. A row that was damaged itself vouches for nothing that could be
//! wrong: its own checksum would have failed.

use super::{Scrub, may_pass};
use crate::codec::pack::Locator;
use crate::domain::aggregate::Aggregate;
use crate::domain::error::Result;
use crate::domain::ids::Version;
use crate::domain::partition::{Cut, SnapshotItem, Taken};
use crate::domain::record::{SegmentBody, StoredEvent};
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow, Trigger};
use crate::domain::value::{Limits, Value};
use crate::reconstruct::{AsOf, Ask, FoldedEvent, Found, Read};
use crate::store::flush::Flush;
use crate::store::segments::NewSegment;
use futures_util::future::join_all;
use std::sync::Arc;

/// Events that one repair may read.
const EVENTS_MAX: u64 = 1_000_000;

/// A record that is to be written.
enum Derived {
    Snapshot(SnapshotItem),
    Segment(Box<NewSegment>),
}

impl Scrub {
    /// Writes records anew, together; how many of them. Those that cannot be derived are left.
    ///
    /// # Errors
    /// A store that does not answer.
    pub(super) async fn repair(&self, rows: &[SnapshotRow]) -> Result<u64> {
        let (mut snapshots, mut segments) = (Vec::new(), Vec::new());
        for row in rows {
            let log = PartitionKey {
                topic: Arc::clone(&self.topic),
                partition: row.partition,
                lineage: self.lineage,
            };
            let Some(derived) = self.derived(&log, row).await? else { continue };
            let id = Arc::clone(&row.key.id);
            match self.own.take(row.partition, id, Some(row.version), Trigger::Manual).await {
                Some(Ok(Taken::Durable { version, .. })) if version >= row.version => {}
                _ => continue,
            }
            match derived {
                Derived::Snapshot(item) => {
                    snapshots.push(Flush { partition: log, kind: Arc::clone(&row.key.kind), item });
                }
                Derived::Segment(segment) => segments.push(*segment),
            }
        }
        let mut repaired = 0;
        // They are on their way together, so that whoever writes them makes one object of them.
        for written in
            join_all(snapshots.into_iter().map(|flush| self.own.write(flush))).await.into_iter().flatten()
        {
            repaired += u64::from(is_written(written.map(drop))?);
        }
        let count = segments.len() as u64;
        if count > 0 && is_written(self.store.put_segments(segments).await.map(drop))? {
            repaired += count;
        }
        Ok(repaired)
    }

    /// The record of a row, as all that is left makes it; none if that is not what the row tells.
    async fn derived(&self, log: &PartitionKey, row: &SnapshotRow) -> Result<Option<Derived>> {
        let events_from = (row.kind != RecordKind::Full).then(|| row.from_version.next());
        let ask = Ask { events_from, work_max: Some(EVENTS_MAX), ..Ask::of(AsOf::Version(row.version)) };
        let read = match self.reader.read(log, &row.key, &ask).await {
            Ok(read) => read,
            Err(error) if may_pass(error.kind) => return Err(error),
            // What it was made of is gone or damaged as well.
            Err(_) => return Ok(None),
        };
        let Read { found: Found::State(mut aggregate, _), events, before_events, .. } = read else {
            return Ok(None);
        };
        if !vouches(row, &aggregate) {
            return Ok(None);
        }
        if !row.quarantined {
            aggregate.quarantine = None;
        }
        let versions = events.iter().map(|event| event.version.0);
        let is_whole = row.kind == RecordKind::Full || versions.eq(row.from_version.0 + 1..=row.version.0);
        Ok(match (row.kind, is_whole) {
            (_, false) => None,
            (RecordKind::Full, _) => Some(Derived::Snapshot(self.full(row, &aggregate))),
            (RecordKind::Increment, _) => Some(Derived::Snapshot(self.increment(row, &aggregate, events))),
            (RecordKind::Segment, _) => segment(log, row, *aggregate, before_events, events),
        })
    }

    fn full(&self, row: &SnapshotRow, aggregate: &Aggregate) -> SnapshotItem {
        let trail = Locator::decode(&row.locator).ok().and_then(|locator| locator.trail);
        let cut = Cut::of(aggregate, row.trigger, trail, true, self.clock.monotonic_ms());
        SnapshotItem {
            id: Arc::clone(&row.key.id),
            row: row.from_version,
            pending: Vec::new(),
            tail: Vec::new().into(),
            increment: false,
            cuts: vec![Arc::new(cut)],
            first_offset: Some(row.first_offset),
        }
    }

    fn increment(&self, row: &SnapshotRow, aggregate: &Aggregate, events: Vec<FoldedEvent>) -> SnapshotItem {
        let cut = Cut::of(aggregate, row.trigger, None, false, self.clock.monotonic_ms());
        SnapshotItem {
            id: Arc::clone(&row.key.id),
            row: row.from_version,
            pending: Vec::new(),
            tail: stored(events).into(),
            increment: true,
            cuts: vec![Arc::new(cut)],
            first_offset: Some(row.first_offset),
        }
    }
}

/// Whether a record was written; not if it cannot be.
fn is_written(written: Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if may_pass(error.kind) => Err(error),
        Err(_) => Ok(false),
    }
}

fn segment(
    log: &PartitionKey,
    row: &SnapshotRow,
    end: Aggregate,
    before: Option<Box<Aggregate>>,
    events: Vec<FoldedEvent>,
) -> Option<Derived> {
    let base = match (row.from_version, before) {
        (Version(0), _) => None,
        (from, Some(mut before)) if before.version == from => {
            before.quarantine = None;
            Some(before.to_body())
        }
        _ => return None,
    };
    Some(Derived::Segment(Box::new(NewSegment {
        partition: log.clone(),
        key: row.key.clone(),
        body: SegmentBody { base, events: stored(events) },
        end,
        trigger: row.trigger,
    })))
}

fn stored(events: Vec<FoldedEvent>) -> Vec<StoredEvent> {
    let of = |event: FoldedEvent| StoredEvent {
        version: event.version,
        skipped: event.skipped,
        record: event.event.record,
    };
    events.into_iter().map(of).collect()
}

/// Whether a row tells of this aggregate: version, chain, and of a full record the state.
fn vouches(row: &SnapshotRow, aggregate: &Aggregate) -> bool {
    let marks = match (&aggregate.quarantine, row.quarantined) {
        (Some(mark), true) => mark.offset == row.last_offset,
        (None, true) => false,
        (_, false) => true,
    };
    let is_it = aggregate.version == row.version && row.version > Version(0) && aggregate.chain == row.chain;
    let state = match row.kind {
        RecordKind::Increment => true,
        RecordKind::Full | RecordKind::Segment => {
            row.deleted == aggregate.is_deleted() && digest(aggregate) == Some(row.state_digest)
        }
    };
    is_it && marks && state
}

/// Digest of the state, if there is one; none where it cannot be read.
fn digest(aggregate: &Aggregate) -> Option<Option<crate::domain::ids::Digest>> {
    let Some(text) = aggregate.state.to_json() else { return Some(None) };
    let limits = Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    Value::parse(&text, &limits).ok().map(|value| Some(value.digest()))
}
