//! Merging a stretch of history: its events out of whatever holds them, folded again, and compared with every
//! row on the way. Compaction is verification.
//!
//! *If it fails*: an event that cannot be had, or a row that says something else than the fold, is an error,
//!   and nothing comes of the stretch: what is stored stays as it is.
//! *If cancelled*: nothing is lost, nothing was written.

use super::assemble::Assembly;
use super::piece::Piece;
use super::{AsOf, Ask, Reconstructor, epochs_of};
use crate::domain::aggregate::{Aggregate, State};
use crate::domain::chain;
use crate::domain::compaction::PlannedSegment;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, Offset, Timestamp, Version};
use crate::domain::record::{SegmentBody, StoredEvent};
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::domain::value::{Limits, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A stretch of history that was folded again and agrees with all rows.
#[derive(Debug)]
pub struct Merged {
    /// What a segment of it holds.
    pub body: SegmentBody,
    /// The aggregate after the last event.
    pub end: Aggregate,
}

/// What a row says of one version, where that can be compared.
struct Point {
    chain: Digest,
    offset: Offset,
    effective_time: Timestamp,
}

impl Reconstructor {
    /// The events of one planned segment, folded onto the state before them: `start`, if that is at hand.
    /// `rows` are those of the aggregate.
    ///
    /// # Errors
    /// `Corrupt` (`state-mismatch`) if a row disagrees with the fold; as for `load`.
    pub async fn merge(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
        rows: &[SnapshotRow],
        start: Option<Aggregate>,
        planned: PlannedSegment,
    ) -> Result<Merged> {
        let PlannedSegment { from, upto } = planned;
        let mut at = match start.filter(|start| start.version == from) {
            Some(start) => start,
            None => self.reach(partition, key, rows, Ask::of(AsOf::Version(from)), from).await?.0,
        };
        let base = (from > Version(0)).then(|| at.to_body());
        let here = |row: &&SnapshotRow| row.version > from && row.from_version < upto;
        let inside: Vec<SnapshotRow> = rows.iter().filter(here).cloned().collect();
        self.check_epochs(partition, &epochs_of(&inside)).await?;
        let fulls = inside.iter().filter(|row| row.kind == RecordKind::Full && row.version < upto);
        let mut stops: BTreeSet<Version> = fulls.map(|row| row.version).collect();
        stops.insert(upto);
        let mut points = BTreeMap::from([(from, Point::of(&at))]);
        let mut events = Vec::new();
        for stop in stops {
            let (chain_before, first) = (at.chain, at.version.next());
            let ask =
                Ask { base: Some(Arc::new(at)), events_from: Some(first), ..Ask::of(AsOf::Version(stop)) };
            let (reached, folded) = self.reach(partition, key, &inside, ask, stop).await?;
            at = reached;
            let mut link = chain_before;
            for event in folded {
                link = chain::link(link, event.version, event.event.digest);
                let (offset, effective_time) = (event.event.record.offset, event.effective_time);
                points.insert(event.version, Point { chain: link, offset, effective_time });
                let record = event.event.record;
                events.push(StoredEvent { version: event.version, skipped: event.skipped, record });
            }
            compare_states(&at, &inside)?;
        }
        compare(&points, &inside)?;
        let body = SegmentBody { base, events };
        Ok(Merged { body, end: at })
    }

    /// The aggregate at a version, out of these rows of it.
    ///
    /// # Errors
    /// As for `load`.
    pub async fn state_in(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
        rows: &[SnapshotRow],
        version: Version,
    ) -> Result<Aggregate> {
        self.check_epochs(partition, &epochs_of(rows)).await?;
        Ok(self.reach(partition, key, rows, Ask::of(AsOf::Version(version)), version).await?.0)
    }

    /// The aggregate at a version, out of these rows, and the events that were asked for.
    async fn reach(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
        rows: &[SnapshotRow],
        ask: Ask,
        version: Version,
    ) -> Result<(Aggregate, Vec<super::FoldedEvent>)> {
        if version == Version(0) {
            return Ok((Aggregate::genesis(&key.kind, &key.id), Vec::new()));
        }
        let mut assembly = Assembly::new(self, partition, key, ask, Offset(i64::MAX));
        assembly.run(rows, Piece::all(rows, &[])).await?;
        let assembled = assembly.finish();
        let reached = assembled.aggregate.version;
        if reached != version {
            let detail = format!("what is stored leads to version {reached}, not to {version}");
            return Err(Error::corrupt(detail));
        }
        Ok((assembled.aggregate, assembled.events))
    }
}

impl Point {
    fn of(at: &Aggregate) -> Self {
        Self { chain: at.chain, offset: at.offset, effective_time: at.effective_time }
    }
}

/// Every row tells of its version what the events come to.
fn compare(points: &BTreeMap<Version, Point>, rows: &[SnapshotRow]) -> Result<()> {
    // Where a row has a mark, it speaks of the event behind that.
    for row in rows.iter().filter(|row| !row.quarantined) {
        let Some(point) = points.get(&row.version) else { continue };
        let told = (row.chain, row.last_offset, row.effective_time);
        if told != (point.chain, point.offset, point.effective_time) {
            return Err(mismatch(row, "hash chain, offset or effective time"));
        }
    }
    Ok(())
}

/// Every row of this version that tells of its state tells of this one.
fn compare_states(at: &Aggregate, rows: &[SnapshotRow]) -> Result<()> {
    let mut rows = rows.iter().filter(|row| row.version == at.version && row.kind != RecordKind::Increment);
    let Some(first) = rows.next() else { return Ok(()) };
    let digest = digest(&at.state)?;
    match std::iter::once(first).chain(rows).find(|row| row.state_digest != digest) {
        Some(row) => Err(mismatch(row, "state")),
        None => Ok(()),
    }
}

fn digest(state: &State) -> Result<Option<Digest>> {
    const LIMITS: Limits =
        Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    let Some(text) = state.to_json() else { return Ok(None) };
    let value = Value::parse(&text, &LIMITS);
    Ok(Some(value.map_err(|error| Error::corrupt(format!("read a state: {error}")))?.digest()))
}

fn mismatch(row: &SnapshotRow, what: &str) -> Error {
    let kind = match row.kind {
        RecordKind::Full => "full record",
        RecordKind::Increment => "increment",
        RecordKind::Segment => "segment",
    };
    let detail = format!("the {kind} of version {} has another {what} than the events come to", row.version);
    Error::new(ErrorKind::Corrupt, "state-mismatch", detail)
}
