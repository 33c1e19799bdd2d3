//! Snapshots on demand: the head's by its partition's machine, an older version's beside it.
//!
//! *Order*: an older version is written only once a snapshot at or above it is acknowledged. The next owner's
//!   increments start after the newest row that it sees: a row above all acknowledged ones would let it take
//!   events for covered that nothing holds.
//! *If it fails*: whether the snapshot was written is unknown; asking again is harmless, a second copy is the
//!   same fact.
//! *If cancelled*: the machine's snapshot is taken all the same.

use super::{Asked, Freshness, Lookup, Refusal, Selector, snapshot_id_text};
use crate::domain::chain::snapshot_id;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{Lineage, Offset, PartitionNo, Version};
use crate::domain::partition::{SnapshotItem, Taken};
use crate::domain::record::StoredEvent;
use crate::domain::row::{NoteRow, Trigger};
use crate::reconstruct::{AsOf, Ask, Found, LiveSnapshots};
use crate::store::flush::Flush;
use crate::store::index::From;
use crate::store::ledger::Ledger;
use crate::store::packs::Packs;
use crate::store::unavailable;
use std::sync::Arc;

/// A snapshot that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its version.
    pub version: Version,
    /// It was written for whoever asked; else it was there.
    pub created: bool,
}

impl Lookup {
    /// The partition of an aggregate; none if nobody knows it.
    ///
    /// # Errors
    /// A fault.
    pub async fn place(&self, id: &str) -> Asked<Option<PartitionNo>> {
        self.locate(&self.key(id)).await
    }

    /// The public id of the snapshot of a version, whether there is one or not.
    #[must_use]
    pub fn snapshot_name(&self, id: &str, version: Version) -> String {
        snapshot_id_text(snapshot_id(&self.key(id), self.0.parts.lineage, version))
    }

    /// Makes a version of an aggregate durable as a snapshot, or its head; none if this process does not own
    /// the partition.
    ///
    /// # Errors
    /// As for `state`.
    pub async fn create(
        &self,
        own: &dyn LiveSnapshots,
        partition: PartitionNo,
        id: &str,
        version: Option<Version>,
    ) -> Asked<Option<Made>> {
        self.create_for(own, partition, id, version, Trigger::Manual).await
    }

    /// The same of the head, for a schedule.
    ///
    /// # Errors
    /// As for `state`.
    pub async fn create_due(
        &self,
        own: &dyn LiveSnapshots,
        partition: PartitionNo,
        id: &str,
    ) -> Asked<Option<Made>> {
        self.create_for(own, partition, id, None, Trigger::Schedule).await
    }

    async fn create_for(
        &self,
        own: &dyn LiveSnapshots,
        partition: PartitionNo,
        id: &str,
        version: Option<Version>,
        trigger: Trigger,
    ) -> Asked<Option<Made>> {
        let Some(taken) = own.take(partition, id.into(), version, trigger).await else { return Ok(None) };
        match (taken, version) {
            (Err(detail), _) => {
                // What keeps it from being read tells more than the machine does.
                self.state(id, Selector::Head, Freshness::default()).await?;
                Err(Refusal::Failed(Error::corrupt(detail)))
            }
            (Ok(Taken::Durable { version: Version(0), .. } | Taken::Beyond { head: Version(0) }), _) => {
                let answer = self.state(id, Selector::Head, Freshness::default()).await?;
                let head = answer.aggregate.version;
                Err(match head {
                    Version(0) => Refusal::VersionBeyondHead { head },
                    _ => Refusal::NotCaughtUp { head: None, position: None },
                })
            }
            (Ok(Taken::Beyond { head }), version) => {
                // The log may have it; its owner has not folded it yet.
                let selector = version.map_or(Selector::Head, Selector::Version);
                self.state(id, selector, Freshness::default()).await?;
                Err(Refusal::NotCaughtUp { head: Some(head), position: None })
            }
            (Ok(Taken::Durable { version: durable, .. }), Some(wanted)) if durable != wanted => {
                self.create_past(own, partition, id, wanted).await
            }
            (Ok(Taken::Durable { version, created }), _) => Ok(Some(Made { version, created })),
        }
    }

    /// Keeps a note on a snapshot that is there; its name is made here.
    ///
    /// # Errors
    /// A fault: whether the note counts is unknown, and to note the same again is harmless.
    pub async fn note(&self, note: NoteRow) -> Asked<NoteRow> {
        Ok(self.upkeep().0.note(note).await?)
    }

    /// What duties on the stream's snapshots need: its ledger, its packs, its lineage.
    #[must_use]
    pub fn upkeep(&self) -> (Ledger, Arc<Packs>, Lineage) {
        let reader = self.reader();
        let ledger = Ledger {
            index: Arc::clone(&reader.index),
            blobs: Arc::clone(&reader.packs.blobs),
            clock: Arc::clone(&self.0.parts.clock),
        };
        (ledger, Arc::clone(&reader.packs), self.0.parts.lineage)
    }

    /// Writes the events after version `from` up to `upto` as one increment, beside those that hold them
    /// already. A snapshot at or above `upto` must be acknowledged.
    ///
    /// # Errors
    /// As for `events`; a fault.
    pub async fn merge(
        &self,
        own: &dyn LiveSnapshots,
        partition: PartitionNo,
        id: &str,
        (from, upto): (Version, Version),
    ) -> Asked<()> {
        let (key, log) = (self.key(id), self.log_of(partition));
        let _room = self.0.past.turn().await;
        let ask = Ask { events_from: Some(from.next()), ..Ask::of(AsOf::Version(upto)) };
        let read = self.reader().read(&log, &key, &ask).await?;
        let Found::State(aggregate, _) = read.found else {
            return Err(Refusal::HistoryGone { earliest: None });
        };
        let mut aggregate = *aggregate;
        aggregate.quarantine = None;
        let events: Vec<StoredEvent> = read
            .events
            .into_iter()
            .map(|event| StoredEvent {
                version: event.version,
                skipped: event.skipped,
                record: event.event.record,
            })
            .collect();
        let is_whole = events.first().is_some_and(|event| event.version == from.next())
            && events.last().is_some_and(|event| event.version == upto);
        if !is_whole {
            return Err(Refusal::HistoryGone { earliest: None });
        }
        let now_ms = self.0.parts.clock.monotonic_ms();
        let item = SnapshotItem::merged(Arc::clone(&key.id), from, events, &aggregate, now_ms);
        self.write_beside(own, Flush { partition: log, kind: key.kind, item }).await
    }

    async fn write_beside(&self, own: &dyn LiveSnapshots, flush: Flush) -> Asked<()> {
        match own.write(flush).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => {
                let detail = "the worker stops, whether the snapshot was written is unknown";
                Err(Refusal::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", detail)))
            }
        }
    }

    /// Writes a version below one that is durable as a snapshot.
    async fn create_past(
        &self,
        own: &dyn LiveSnapshots,
        partition: PartitionNo,
        id: &str,
        version: Version,
    ) -> Asked<Option<Made>> {
        let (key, log) = (self.key(id), self.log_of(partition));
        let rows = self.reader().index.snapshots(&key, log.lineage, From::AtOrBelow(version), 1).await;
        let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
        let before = rows.first().filter(|row| row.version > Version(0));
        if before.is_some_and(|row| row.version == version) {
            return Ok(Some(Made { version, created: false }));
        }
        let _room = self.0.past.turn().await;
        let answer = self.state(id, Selector::Version(version), Freshness::default()).await?;
        let mut aggregate = answer.aggregate;
        // A later version is durable, so no mark can stand at this one.
        aggregate.quarantine = None;
        let (from, first) =
            before.map_or((Version(0), Offset(0)), |row| (row.version, row.last_offset.next()));
        let first = first.min(aggregate.offset);
        let now_ms = self.0.parts.clock.monotonic_ms();
        let item = SnapshotItem::past(Arc::clone(&key.id), from, first, &aggregate, now_ms);
        self.write_beside(own, Flush { partition: log, kind: key.kind, item }).await?;
        Ok(Some(Made { version, created: true }))
    }
}
