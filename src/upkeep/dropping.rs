//! Dropping a lineage: the fact, and then all rows of it. Its packs are garbage from the fact on, and go
//! with the usual passes (`gc`), which also take rows that come late.
//!
//! *Order*: what stands against it is looked for; the fact is acknowledged; after a while in which workers
//!   of that lineage hear of it, snapshot rows go, then checkpoint rows. Low watermarks stay, a few rows
//!   for ever: whoever has not heard of it would take their absence for a log that starts anew, and count
//!   versions from there.
//! *If it fails*, or *is cancelled*: asking again goes on; every deletion may be repeated, and is named by
//!   the fact.
//! *What may leak*: rows, until a pass of garbage collection finds their packs.
//!
//! INVARIANT: nothing goes that is not named by a fact, and rows of no other lineage go.

use crate::clock::Clock;
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::ledger::{DeletedRow, in_force};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::{Notes, OwnerRow, PartitionKey, SnapshotRow};
use crate::store::erased;
use crate::store::index::{From, Index};
use crate::store::ledger::Ledger;
use crate::store::packs::Packs;
use crate::store::{lineages, listing, unavailable};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Aggregates that are looked at, at the same time.
const AT_ONCE: usize = 16;
/// Aggregates of one page of the listing.
const PAGE: usize = 1_000;
/// Rows of another lineage that are looked at for one offset.
const COPIES: usize = 16;
/// A worker that has said nothing for so long folds nothing any more.
const SILENT_MS: i64 = 60_000;
/// Obstacles that are told one by one.
const TOLD_MAX: usize = 20;

/// Drops one lineage of one stream.
#[derive(Clone)]
pub struct Dropping {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Packs, and the log of lineages.
    pub packs: Arc<Packs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Aggregate type of the stream.
    pub kind: Arc<str>,
    /// Its topic.
    pub topic: Arc<str>,
    /// The lineage.
    pub lineage: Lineage,
    /// Partitions that it has.
    pub partitions: u32,
    /// The active lineage, which may have its pins.
    pub active: Option<Lineage>,
}

/// What is stored of a lineage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Aggregates with rows.
    pub aggregates: u64,
    /// Snapshot rows.
    pub rows: u64,
    /// Checkpoint rows.
    pub checkpoints: u64,
    /// Packs that these rows name.
    pub packs: u64,
    /// Stored bytes of what they name.
    pub bytes: u64,
}

/// What stands against dropping a lineage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Aggregates that are held, the first of them.
    pub held: Vec<AggregateKey>,
    /// Pinned snapshots that the active lineage has no pin for, the first of them.
    pub pinned: Vec<(AggregateKey, Version)>,
    /// Workers that said not long ago that they fold it.
    pub owners: Vec<OwnerRow>,
    /// Checkpoints that cannot be read: whoever they hold events of may be held.
    pub unreadable: Vec<PackId>,
    /// How many there are.
    pub count: u64,
}

impl Obstacles {
    fn held(&mut self, held: Option<AggregateKey>) {
        self.count += u64::from(held.is_some());
        self.held.extend(held);
        self.held.truncate(TOLD_MAX);
    }
}

impl Dropping {
    fn log(&self, partition: PartitionNo) -> PartitionKey {
        PartitionKey { topic: Arc::clone(&self.topic), partition, lineage: self.lineage }
    }

    fn logs(&self) -> BTreeSet<PartitionKey> {
        let numbers = 0..i32::try_from(self.partitions.max(1)).unwrap_or(i32::MAX);
        numbers.map(|number| self.log(PartitionNo(number))).collect()
    }

    /// What is stored, and what stands against dropping it.
    ///
    /// COST: all listed checkpoints are read, and the ids in them kept: those of aggregates with events that
    /// are in no snapshot.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn look(&self) -> Result<(Stored, Obstacles)> {
        let (mut stored, mut against) = (Stored::default(), Obstacles::default());
        let mut packs: BTreeSet<PackId> = BTreeSet::new();
        // Who has events in checkpoints, and perhaps nowhere else.
        let mut pending: BTreeSet<Arc<str>> = BTreeSet::new();
        let logs = self.logs();
        for log in &logs {
            self.look_at_log(log, (&mut stored, &mut against), &mut packs, &mut pending).await?;
        }
        against.count = (against.owners.len() + against.unreadable.len()) as u64;
        let mut after: Option<Arc<str>> = None;
        while let Some(keys) = self.page(&mut after).await? {
            let looks = keys.iter().map(|key| self.look_at(&logs, key));
            let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
            while let Some((key, rows, is_held, pinned)) = looks.try_next().await? {
                stored.aggregates += u64::from(!rows.is_empty());
                stored.rows += rows.len() as u64;
                stored.bytes += rows.iter().map(|row| row.stored_bytes).sum::<u64>();
                packs.extend(rows.iter().map(|row| row.pack));
                if !rows.is_empty() {
                    pending.remove(&key.id);
                    against.held(is_held.then(|| key.clone()));
                }
                against.count += pinned.len() as u64;
                against.pinned.extend(pinned.into_iter().map(|version| (key.clone(), version)));
                against.pinned.truncate(TOLD_MAX);
            }
        }
        let looks =
            pending.into_iter().map(|id| self.held(AggregateKey { kind: Arc::clone(&self.kind), id }));
        let mut looks = stream::iter(looks).buffered(AT_ONCE);
        while let Some(held) = looks.try_next().await? {
            against.held(held);
        }
        stored.packs = packs.len() as u64;
        Ok((stored, against))
    }

    /// One log: its checkpoints and who they are about, and who folds it.
    async fn look_at_log(
        &self,
        log: &PartitionKey,
        (stored, against): (&mut Stored, &mut Obstacles),
        packs: &mut BTreeSet<PackId>,
        pending: &mut BTreeSet<Arc<str>>,
    ) -> Result<()> {
        let rows = self.index.checkpoints(log).await;
        for row in rows.map_err(|error| unavailable("list checkpoints", &error))? {
            stored.checkpoints += 1;
            if packs.insert(row.pack) {
                stored.bytes += row.object_bytes;
            }
            match self.packs.table(&row).await {
                Ok(table) => pending.extend(table.entries.iter().map(|entry| Arc::from(&*entry.id))),
                // A row that outlived its pack: nothing is in it.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                Err(_) => against.unreadable.push(row.pack),
            }
        }
        let owner = self.index.owner(log).await;
        let owner = owner.map_err(|error| unavailable("ask who folds a partition", &error))?;
        let now = self.clock.now();
        against.owners.extend(owner.filter(|owner| is_fresh(owner.heartbeat, now)));
        Ok(())
    }

    /// Notes that the lineage is not there any more; see `lineages::drop_lineage`.
    ///
    /// # Errors
    /// As there.
    pub async fn note(&self, abandons: bool) -> Result<LedgerId> {
        let at = LedgerId::mint(self.clock.now(), self.clock.random());
        if mutant(Mutant::DroppedBeforeNoted) {
            self.sweep(at).await?;
        }
        lineages::drop_lineage(&*self.packs.blobs, &self.topic, self.lineage, at, abandons).await
    }

    /// Deletes all rows of it, by the fact of that name; how many went.
    ///
    /// # Errors
    /// `Unavailable`: some may be gone.
    pub async fn sweep(&self, at: LedgerId) -> Result<Stored> {
        let mut gone = Stored::default();
        let ledger = Ledger {
            index: Arc::clone(&self.index),
            blobs: Arc::clone(&self.packs.blobs),
            clock: Arc::clone(&self.clock),
        };
        let logs = self.logs();
        let mut after: Option<Arc<str>> = None;
        while let Some(keys) = self.page(&mut after).await? {
            let sweeps = keys.iter().map(|key| self.sweep_one(&ledger, &logs, key, at));
            let mut sweeps = stream::iter(sweeps.collect::<Vec<_>>()).buffered(AT_ONCE);
            while let Some(rows) = sweeps.try_next().await? {
                gone.aggregates += u64::from(rows > 0);
                gone.rows += rows;
            }
        }
        for log in &logs {
            let rows = self.index.checkpoints(log).await;
            for row in rows.map_err(|error| unavailable("list checkpoints", &error))? {
                let deleted = self.index.delete_checkpoint(log, row.pack).await;
                deleted.map_err(|error| unavailable("delete a checkpoint row", &error))?;
                gone.checkpoints += 1;
            }
        }
        Ok(gone)
    }

    async fn sweep_one(
        &self,
        ledger: &Ledger,
        logs: &BTreeSet<PartitionKey>,
        key: &AggregateKey,
        at: LedgerId,
    ) -> Result<u64> {
        let rows = erased::rows_of(&*self.index, logs, key).await?;
        for row in &rows {
            ledger.delete_row(&DeletedRow::of(row), at).await?;
        }
        Ok(rows.len() as u64)
    }

    /// The next aggregates of the type; none after the last.
    async fn page(&self, after: &mut Option<Arc<str>>) -> Result<Option<Vec<AggregateKey>>> {
        let page = listing::page(&*self.index, &self.kind, after.as_deref(), PAGE).await?;
        let mut keys: Vec<AggregateKey> = page.aggregates.into_iter().map(|(key, _)| key).collect();
        keys.dedup();
        let Some(last) = keys.last() else { return Ok(None) };
        *after = Some(Arc::clone(&last.id));
        Ok(Some(keys))
    }

    /// One aggregate: its rows, whether it is held, pins that would be lost.
    async fn look_at(
        &self,
        logs: &BTreeSet<PartitionKey>,
        key: &AggregateKey,
    ) -> Result<(AggregateKey, Vec<SnapshotRow>, bool, Vec<Version>)> {
        let rows = erased::rows_of(&*self.index, logs, key).await?;
        let is_held = self.held(key.clone()).await?.is_some();
        let mut lost = Vec::new();
        for version in self.pins(key, self.lineage).await? {
            let Some(row) = rows.iter().find(|row| row.version == version) else { continue };
            if !self.is_carried(key, row.last_offset).await? {
                lost.push(version);
            }
        }
        Ok((key.clone(), rows, is_held, lost))
    }

    /// The aggregate, if it is held.
    async fn held(&self, key: AggregateKey) -> Result<Option<AggregateKey>> {
        let holds = self.index.holds(&key).await;
        let holds = holds.map_err(|error| unavailable("read the holds of an aggregate", &error))?;
        Ok(in_force(&holds).map(|_| key))
    }

    /// Whether the active lineage has a pin at the same event.
    async fn is_carried(&self, key: &AggregateKey, offset: Offset) -> Result<bool> {
        let Some(active) = self.active else { return Ok(false) };
        let rows = self.index.snapshots(key, active, From::OffsetAtOrBelow(offset), COPIES).await;
        let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
        let there = rows.iter().find(|row| row.last_offset == offset).map(|row| row.version);
        let Some(version) = there else { return Ok(false) };
        Ok(self.pins(key, active).await?.contains(&version))
    }

    /// The pinned versions of an aggregate in a lineage.
    async fn pins(&self, key: &AggregateKey, lineage: Lineage) -> Result<BTreeSet<Version>> {
        let all = (Version(0), Version(u64::MAX));
        let notes = self.index.notes(key, lineage, all).await;
        let notes = notes.map_err(|error| unavailable("read the notes of an aggregate", &error))?;
        let mut by_version: BTreeMap<Version, Notes> = BTreeMap::new();
        for note in &notes {
            by_version.entry(note.version).or_default().take(note);
        }
        Ok(by_version.into_iter().filter(|(_, notes)| notes.pinned).map(|(version, _)| version).collect())
    }
}

fn is_fresh(heartbeat: Timestamp, now: Timestamp) -> bool {
    now.0.saturating_sub(heartbeat.0) < SILENT_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Still;
    use crate::domain::partition::CheckpointItem;
    use crate::domain::record::{RawRecord, StoredEvent};
    use crate::domain::row::{CheckpointRow, NoteRow};
    use crate::store::blobs::MemoryBlobs;
    use crate::store::flush::CheckpointPart;
    use crate::store::index::MemoryIndex;
    use crate::store::index::suite::snapshot;
    use crate::store::packs::CompressionPlan;
    use futures_util::FutureExt;
    use std::future::Future;

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory answers at once")
    }

    fn key(id: &str) -> AggregateKey {
        AggregateKey { kind: "order".into(), id: id.into() }
    }

    /// Two lineages of three aggregates with two snapshots each.
    fn site() -> (Arc<MemoryIndex>, Dropping) {
        let index = Arc::new(MemoryIndex::new());
        for id in ["a", "b", "c"] {
            now(index.put_aggregate(&key(id), PartitionNo(0))).unwrap();
            for (lineage, version) in [(1, 5), (1, 9), (2, 5), (2, 9)] {
                let pack = PackId([u8::try_from(lineage * 16 + version).unwrap(); 16]);
                let row = snapshot(&key(id), lineage, u64::from(version), pack);
                now(index.put_snapshot(row)).unwrap();
            }
        }
        let blobs = Arc::new(MemoryBlobs::new());
        let packs = Packs::new(index.clone(), blobs, CompressionPlan::default(), [0; 16]);
        let dropping = Dropping {
            index: index.clone(),
            packs: Arc::new(packs),
            clock: Arc::new(Still),
            kind: "order".into(),
            topic: "orders".into(),
            lineage: Lineage(1),
            partitions: 1,
            active: Some(Lineage(2)),
        };
        (index, dropping)
    }

    fn pin(index: &MemoryIndex, lineage: u32, pinned: bool) {
        let at = LedgerId::mint(Timestamp(i64::from(pinned)), [1; 10]);
        let note = NoteRow {
            key: key("b"),
            lineage: Lineage(lineage),
            version: Version(5),
            at,
            label: None,
            pinned: Some(pinned),
            reason: None,
        };
        now(index.put_note(note)).unwrap();
    }

    #[test]
    fn what_is_stored_is_told_and_goes_and_nothing_else_does() {
        let (index, dropping) = site();
        let (stored, against) = now(dropping.look()).unwrap();
        assert_eq!((stored.aggregates, stored.rows, stored.packs), (3, 6, 2));
        assert_eq!(against, Obstacles::default());
        let at = LedgerId::mint(Timestamp(9), [2; 10]);
        let gone = now(dropping.sweep(at)).unwrap();
        assert_eq!((gone.aggregates, gone.rows), (3, 6));
        assert_eq!(now(dropping.sweep(at)).unwrap(), Stored::default(), "once more");
        for id in ["a", "b", "c"] {
            let rows =
                |lineage| now(index.snapshots(&key(id), Lineage(lineage), From::Newest, 9)).unwrap().len();
            assert_eq!((rows(1), rows(2)), (0, 2), "{id}");
        }
        let late = snapshot(&key("a"), 1, 5, PackId([21; 16]));
        now(index.put_snapshot(late)).unwrap();
        assert!(now(index.snapshots(&key("a"), Lineage(1), From::Newest, 9)).unwrap().is_empty(), "for good");
    }

    #[test]
    fn holds_pins_and_workers_stand_against_it() {
        let (index, dropping) = site();
        pin(&index, 1, true);
        let (_, against) = now(dropping.look()).unwrap();
        assert_eq!((against.count, &against.pinned[..]), (1, &[(key("b"), Version(5))][..]));
        pin(&index, 2, true);
        assert_eq!(now(dropping.look()).unwrap().1.count, 0, "the active lineage has that pin");
        let hold = crate::domain::ledger::HoldRow {
            key: key("c"),
            at: LedgerId::mint(Timestamp(1), [1; 10]),
            held: true,
            reason: None,
        };
        now(index.put_hold(hold)).unwrap();
        let beat = |ms: i64| OwnerRow {
            key: dropping.log(PartitionNo(0)),
            address: "http://w".into(),
            position: Offset(1),
            heartbeat: Timestamp(Still.now().0 - ms),
        };
        now(index.put_owner(beat(SILENT_MS))).unwrap();
        assert_eq!(now(dropping.look()).unwrap().1.held, [key("c")]);
        assert_eq!(now(dropping.look()).unwrap().1.count, 1, "who was silent for so long folds nothing");
        now(index.put_owner(beat(SILENT_MS - 1))).unwrap();
        let (_, against) = now(dropping.look()).unwrap();
        assert_eq!((against.count, against.owners.len()), (2, 1));
    }

    /// A listed checkpoint with the first event of each of these aggregates.
    fn checkpoint(dropping: &Dropping, ids: &[&str]) -> String {
        let item = |(at, id): (usize, &&str)| CheckpointItem {
            id: (*id).into(),
            from: Version(0),
            events: vec![StoredEvent {
                version: Version(1),
                skipped: false,
                record: RawRecord { offset: Offset(at as i64), ..RawRecord::default() },
            }]
            .into(),
            mark: None,
            effective_time: Timestamp(0),
        };
        let items = ids.iter().enumerate().map(item).collect();
        let (partition, kind) = (dropping.log(PartitionNo(0)), Arc::clone(&dropping.kind));
        let part = CheckpointPart { partition, kind, items, mark: None };
        let packs = &dropping.packs;
        let encoded = packs.encode_checkpoint(PackId([9; 16]), Timestamp(0), vec![part]).unwrap();
        now(packs.blobs.put_new(&encoded.name, &encoded.bytes)).unwrap();
        let row = CheckpointRow {
            key: dropping.log(PartitionNo(0)),
            pack: PackId([9; 16]),
            first_offset: Offset(0),
            end_offset: Offset(ids.len() as i64),
            entries: ids.len() as u32,
            object_bytes: encoded.bytes.len() as u64,
        };
        now(dropping.index.put_checkpoint(row)).unwrap();
        encoded.name
    }

    /// Goal: a hold counts wherever the data is. Method: of two aggregates of a checkpoint one is known by
    /// rows of the other lineage only, one by nothing; both are held, and a third that is nowhere in it.
    #[test]
    fn who_has_events_in_a_checkpoint_only_may_be_held() {
        let (index, dropping) = site();
        let name = checkpoint(&dropping, &["d", "e"]);
        now(index.put_aggregate(&key("d"), PartitionNo(0))).unwrap();
        now(index.put_snapshot(snapshot(&key("d"), 2, 1, PackId([33; 16])))).unwrap();
        for id in ["d", "e", "f"] {
            let at = LedgerId::mint(Timestamp(1), [1; 10]);
            let hold = crate::domain::ledger::HoldRow { key: key(id), at, held: true, reason: None };
            now(index.put_hold(hold)).unwrap();
        }
        let (stored, against) = now(dropping.look()).unwrap();
        assert_eq!((stored.checkpoints, against.count), (1, 2));
        assert_eq!(against.held, [key("d"), key("e")]);
        // Of what cannot be read nobody knows.
        let whole = now(dropping.packs.blobs.get_range(&name, 0, 1 << 20)).unwrap();
        now(dropping.packs.blobs.delete(&name)).unwrap();
        let again = || Packs::new(index.clone(), dropping.packs.blobs.clone(), Default::default(), [0; 16]);
        let look = |packs| now(Dropping { packs: Arc::new(packs), ..dropping.clone() }.look()).unwrap().1;
        assert_eq!(look(again()), Obstacles::default(), "its pack is gone, and all that it held");
        now(dropping.packs.blobs.put_new(&name, &whole[..whole.len() - 9])).unwrap();
        assert_eq!(look(again()).unreadable, [PackId([9; 16])]);
    }
}
