//! Any state from rest: which rows, packs and stretches of the log make it up, fetched and folded. Loads,
//! lookups and `verify` all come here, so a damaged record heals the same way everywhere.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Reconstructor`: the order of reads, the answer |
//! | `live.rs` | the port through which lookups see the owners of partitions |
//! | `assemble/` | one aggregate out of pieces: base, increments, segments, pending entries, log |
//! | `merge.rs` | a stretch of history folded again, for compaction |
//! | `piece.rs` | a stored stretch of events: an increment, a segment or a checkpoint's entry |
//! | `step.rs` | what was read for an answer |
//! | `history.rs` | the stored events of one aggregate, from its first on |
//! | `ended.rs` | a log that ends where a lineage did |
//! | `rest.rs` | a log that only tells what rest knows: for whoever asks without brokers |
//! | `read.rs` | what anyone may ask: states, events, the newest version at rest, where history starts |
//!
//! *Order* (write last, read first): low watermark, then the list of checkpoints, then snapshot rows, then
//!   the log from *that* low watermark. Any other order can end too early without noticing.
//! *If it fails*: an error of a port is `Unavailable` and is never read as "absent"; a record that cannot be
//!   read gives way to an older one and the log; where that is gone too, the answer is `Gone`, never a wrong
//!   state.
//! *If cancelled*: nothing is lost, nothing was written.

mod assemble;
mod ended;
mod history;
mod live;
mod merge;
mod piece;
mod read;
mod rest;
mod step;

pub use ended::{Ended, LogOfOld};
pub use history::{History, Stretch};
pub use live::{HeadAnswer, ListAnswer, LiveHeads, LiveSnapshots, NoOwners};
pub use merge::Merged;
pub use read::{Ask, FoldedEvent, Newest, Read, Wanted};
pub use rest::RestOnly;
pub use step::{Step, StepKind};

use crate::domain::aggregate::{Aggregate, Rules};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decode;
use crate::domain::ids::{AggregateKey, Offset, PackId, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{EntryRef, Epochs, LiveCheckpoint, Loaded, reach};
use crate::domain::record::StoredEvent;
use crate::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow, WatermarkRow};
use crate::kafka::{Log, LogBounds};
use crate::store::checkpoints::Held;
use crate::store::index::{From, Index, RowWalk};
use crate::store::packs::Packs;
use crate::store::unavailable;
use assemble::Assembly;
use futures_util::future::{BoxFuture, FutureExt};
use piece::Piece;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Rows fetched in one go on the walk down to a base.
const ROWS_PAGE: usize = 32;
/// Rows asked for where only those of one version matter: they are rarely more.
const FEW_ROWS: usize = 4;

/// Reads what is wanted of one live checkpoint, with the leader epochs of its entries.
type ReadCheckpoint<'a, C> =
    dyn Fn(CheckpointRow) -> BoxFuture<'a, Result<Option<(C, Epochs)>>> + Send + Sync + 'a;

/// What a view has of a checkpoint, whole or for one aggregate.
trait Listed: Sized + Send {
    /// The same where the log was cut at `end`; none if nothing of it is left.
    fn cut_at(self, end: Offset) -> Option<Self>;
}

impl Listed for LiveCheckpoint {
    fn cut_at(self, end: Offset) -> Option<Self> {
        Some(Self::cut_at(self, end))
    }
}

impl Listed for Held {
    fn cut_at(self, end: Offset) -> Option<Self> {
        Self::cut_at(self, end)
    }
}

/// Which moment is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The newest version.
    Head,
    /// This version.
    Version(Version),
    /// The last version with an effective time at or before this.
    Time(Timestamp),
    /// The last version with an offset at or below this.
    Offset(Offset),
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Version of the stored state that was the base, 0 for none.
    pub base: Version,
    /// Version of the state from an earlier answer that was the base, 0 for none.
    pub cached: Version,
    /// Events folded onto it.
    pub events: u64,
    /// Of those, events read from the log.
    pub log_events: u64,
    /// Records that could not be read and gave way to others.
    pub damaged: u64,
}

/// The answer to a question about one aggregate.
#[derive(Clone, Debug)]
pub enum Found {
    /// It, at the moment asked for.
    State(Box<Aggregate>, Provenance),
    /// There is no such aggregate.
    Unknown,
    /// Its head is below the version asked for.
    BeyondHead(Version),
    /// Its first event is later than the time or offset asked for.
    BeforeFirst(Timestamp),
    /// At least so many events would have to be read, which is more than the question may.
    TooMuch(u64),
}

/// What was damaged, read by metrics.
#[derive(Debug, Default)]
pub struct Health {
    /// Records that could not be read and gave way to others.
    pub damaged_records: AtomicU64,
    /// Reads that started again because a listed checkpoint's pack was missing.
    pub stale_lists: AtomicU64,
    /// Lists that were read earlier, and how often they were used: only a mutant believes them.
    lists: Mutex<BTreeMap<PartitionKey, (u32, Vec<CheckpointRow>)>>,
}

impl Health {
    /// A cache that asks again at every fourth use.
    fn cached_list(&self, partition: &PartitionKey, fresh: Vec<CheckpointRow>) -> Vec<CheckpointRow> {
        let mut lists = self.lists.lock().expect("no panic while the lists are held");
        let (uses, list) = lists.entry(partition.clone()).or_default();
        if uses.is_multiple_of(4) {
            *list = fresh;
        }
        *uses += 1;
        list.clone()
    }
}

/// Reads aggregates of one stream from rest.
#[derive(Clone)]
pub struct Reconstructor {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Records.
    pub packs: Arc<Packs>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The stream's decoder.
    pub decoder: Arc<dyn Decode>,
    /// The stream's fold.
    pub rules: Rules,
    /// Kafka's id of the topic that the rows are about.
    pub topic_id: u128,
    /// Counters.
    pub health: Arc<Health>,
}

/// The low watermark and what was listed after it was read: one consistent view of a partition at rest.
#[derive(Clone, Debug)]
pub struct View<C> {
    /// Events below it are all in rows and checkpoints.
    pub low_watermark: Offset,
    /// The low watermark that was read: the same, but where a checkpoint is unreadable, or the log has ended.
    pub told: Offset,
    /// The leader epoch that it was written under; -1 if that is not known, or if there was none.
    pub told_under: i32,
    /// What was asked for of the live checkpoints: their tables, or what they hold of one aggregate.
    pub checkpoints: Vec<C>,
    /// Those that are listed too and cannot be read. What they held is left to the log as far as it reaches.
    pub unreadable: Vec<CheckpointRow>,
    /// Those that hold events which the log has lost, as far as leader epochs tell, and so all that were cut:
    /// what an entry says of its versions is not the whole truth then.
    pub doubted: BTreeSet<PackId>,
    /// One past the last offset of what they held and the log has forgotten in part: an aggregate that ends
    /// below may have had more events.
    pub lost_below: Option<Offset>,
}

impl<C> View<C> {
    /// Nothing that is listed is unreadable.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.unreadable.is_empty()
    }
}

impl View<LiveCheckpoint> {
    /// The same view of one aggregate.
    #[must_use]
    pub fn of(&self, id: &str) -> View<Held> {
        View {
            low_watermark: self.low_watermark,
            told: self.told,
            told_under: self.told_under,
            checkpoints: self.checkpoints.iter().filter_map(|live| Held::of(live, id)).collect(),
            unreadable: self.unreadable.clone(),
            doubted: self.doubted.clone(),
            lost_below: self.lost_below,
        }
    }
}

impl Reconstructor {
    /// Fetches what decoding these events takes. Records of the log have been prepared by whoever reads it.
    ///
    /// # Errors
    /// `Unavailable` where that cannot be had now.
    pub fn prepare<'a>(
        &'a self,
        events: &[StoredEvent],
    ) -> impl Future<Output = Result<()>> + Send + use<'a> {
        let preparing = self.decoder.prepare(&mut events.iter().map(|event| &event.record));
        async move {
            match preparing {
                None => Ok(()),
                Some(preparing) => preparing.await.map_err(|error| unavailable("fetch a schema", &error)),
            }
        }
    }

    /// What rest holds of an aggregate, for its owner: folded as far as rows and `pending` reach, without the
    /// log from `limit` (the first event that its owner will fold) on.
    ///
    /// # Errors
    /// `Unavailable` if a port failed; `Conflict` if the log was cut below a snapshot; `Gone` or `Corrupt`
    /// if what is there cannot be read and the log has forgotten it.
    pub async fn load(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
        pending: &[EntryRef],
        limit: Offset,
    ) -> Result<Loaded> {
        let oldest = pending.iter().map(|entry| entry.from).min();
        let rows = self.rows_down(key, partition, From::Newest, oldest).await?;
        self.check_epochs(partition, &epochs_of(&rows)).await?;
        let pieces = Piece::all(&rows, pending);
        let mut assembly = Assembly::new(self, partition, key, Ask::of(AsOf::Head), limit);
        assembly.run(&rows, pieces).await?;
        assembly.reach_limit(&rows).await?;
        let trail = assembly.trail_after(rows.iter().map(|row| row.version).max().unwrap_or_default());
        let assembled = assembly.finish();
        self.check_epochs(partition, &assembled.entries_reached).await?;
        self.health.damaged_records.fetch_add(assembled.provenance.damaged, Ordering::Relaxed);
        Ok(Loaded { aggregate: assembled.aggregate, rows, trail })
    }

    /// The low watermark, and after it the tables of the live checkpoints.
    ///
    /// # Errors
    /// `Unavailable` if a port failed.
    pub async fn view(&self, partition: &PartitionKey) -> Result<View<LiveCheckpoint>> {
        let read = |row: CheckpointRow| {
            async move {
                let table = self.packs.table(&row).await?;
                let epochs = table.entries.epochs().clone();
                Ok(Some((table, epochs)))
            }
            .boxed()
        };
        self.view_with(partition, &read).await
    }

    /// The low watermark, and after it what the live checkpoints hold of one aggregate.
    ///
    /// # Errors
    /// `Unavailable` if a port failed.
    pub async fn view_of(&self, partition: &PartitionKey, key: &AggregateKey) -> Result<View<Held>> {
        self.view_with(partition, &|row| async move { self.packs.held(&row, key).await }.boxed()).await
    }

    async fn view_with<'a, C: Listed>(
        &'a self,
        partition: &PartitionKey,
        read: &ReadCheckpoint<'a, C>,
    ) -> Result<View<C>> {
        // L2: a list that names a pack which is not there is stale, start again. G1: a row's deletion is
        // acknowledged before its pack is deleted, so a list read *after* the pack was missed that still
        // names it tells of a loss; then no list will ever be better.
        let mut missed = BTreeSet::new();
        loop {
            if let Some(view) = self.view_unless_stale(partition, &mut missed, read).await? {
                return Ok(view);
            }
            self.health.stale_lists.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// None if the list was stale: `missed` has more packs than before.
    async fn view_unless_stale<'a, C: Listed>(
        &'a self,
        partition: &PartitionKey,
        missed: &mut BTreeSet<PackId>,
        read: &ReadCheckpoint<'a, C>,
    ) -> Result<Option<View<C>>> {
        let early_list = if mutant(Mutant::WatermarkAfterList) {
            Some(
                self.index
                    .checkpoints(partition)
                    .await
                    .map_err(|error| unavailable("list checkpoints", &error))?,
            )
        } else {
            None
        };
        let bounds = self.log.bounds(partition.partition).await;
        let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
        self.check_topic(bounds.topic_id)?;
        let rows = self.index.watermarks(partition).await;
        let rows = rows.map_err(|error| unavailable("read the low watermark", &error))?;
        let valid =
            rows.iter().filter(|row| row.topic_id == bounds.topic_id || mutant(Mutant::TopicIdIgnored));
        let told = valid.map(|row| (row.low_watermark, row.leader_epoch)).max();
        let (told, told_under) = told.unwrap_or((bounds.start, -1));
        let listed = match early_list {
            Some(listed) => listed,
            None => {
                let listed = self.index.checkpoints(partition).await;
                listed.map_err(|error| unavailable("list checkpoints", &error))?
            }
        };
        let listed = match mutant(Mutant::CachedListFreshWatermark) {
            true => self.health.cached_list(partition, listed),
            false => listed,
        };
        let (mut checkpoints, mut unreadable) = (Vec::new(), Vec::new());
        let (mut ends, mut reached, mut doubted) = (Epochs::new(), told, BTreeSet::new());
        for row in listed {
            let mut end_offset = row.end_offset;
            match read(row.clone()).await {
                Ok(Some((checkpoint, epochs))) => {
                    let seen = (&bounds, &rows[..]);
                    let (cut, is_doubted) = self.cut(partition, seen, &mut ends, &epochs).await?;
                    doubted.extend(is_doubted.then_some(row.pack));
                    match cut {
                        Some(end) => {
                            end_offset = end_offset.min(end);
                            checkpoints.extend(checkpoint.cut_at(end));
                        }
                        None => checkpoints.push(checkpoint),
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind == ErrorKind::NotFound && missed.insert(row.pack) => {
                    if !mutant(Mutant::MissingPackIgnored) {
                        return Ok(None);
                    }
                }
                Err(error) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    self.health.damaged_records.fetch_add(1, Ordering::Relaxed);
                    unreadable.push(row);
                }
                Err(error) => return Err(error),
            }
            reached = reached.max(end_offset);
        }
        let (low_watermark, lost_below) = self.limits((told, reached), &unreadable, bounds.start);
        Ok(Some(View { low_watermark, told, told_under, checkpoints, unreadable, doubted, lost_below }))
    }

    /// Up to where all events are in rows and checkpoints, and one past the last that may be lost. Of
    /// unreadable checkpoints entries are unknown, offsets are not: where the log has them all, it is as if
    /// the watermark had not passed them. No log goes on where one has ended.
    fn limits(
        &self,
        (told, reached): (Offset, Offset),
        unreadable: &[CheckpointRow],
        log_start: Offset,
    ) -> (Offset, Option<Offset>) {
        let has_ended = self.log.has_ended();
        let (mut low_watermark, mut lost_below) = (if has_ended { reached } else { told }, None);
        for row in unreadable {
            if row.first_offset >= log_start && !has_ended {
                low_watermark = low_watermark.min(row.first_offset);
            } else if !mutant(Mutant::LostCheckpointForgotten) {
                lost_below = lost_below.max(Some(row.end_offset));
            }
        }
        (low_watermark, lost_below)
    }

    /// Where a checkpoint with these leader epochs was cut, if it was; and whether the log has lost any of
    /// its events.
    ///
    /// Rule 12: a checkpoint may hold events that an unclean election took away before the low watermark had
    /// reached them. They were promised to nobody, and whoever moves the watermark on folds what came in
    /// their place. Where a watermark under their leader epoch or an older one has passed the cut, what was
    /// promised is gone: then all is left as it is, and `check_epochs` refuses it.
    async fn cut(
        &self,
        partition: &PartitionKey,
        (bounds, watermarks): (&LogBounds, &[WatermarkRow]),
        ends: &mut Epochs,
        epochs: &Epochs,
    ) -> Result<(Option<Offset>, bool)> {
        let (mut first_cut, mut is_doubted) = (None, false);
        for (epoch, last) in epochs.iter().filter(|(epoch, _)| **epoch < bounds.leader_epoch) {
            let end = match ends.get(epoch) {
                Some(end) => *end,
                None => {
                    let end = self.log.epoch_end(partition.partition, *epoch).await;
                    let end = end.map_err(|error| unavailable("read the end of a leader epoch", &error))?;
                    ends.insert(*epoch, end);
                    end
                }
            };
            let has_passed = |row: &WatermarkRow| {
                row.topic_id == bounds.topic_id && row.leader_epoch <= *epoch && row.low_watermark > end
            };
            let is_lost = end <= *last;
            is_doubted |= is_lost && !mutant(Mutant::DoubtsUntold);
            let is_cut = is_lost && !watermarks.iter().any(has_passed);
            if is_cut && !mutant(Mutant::CutEntriesKept) {
                first_cut = Some(first_cut.map_or(end, |first: Offset| first.min(end)));
            }
        }
        Ok((first_cut, is_doubted))
    }

    /// Rows of one incarnation of a topic say nothing about another.
    pub(super) fn check_topic(&self, topic_id: u128) -> Result<()> {
        if topic_id == self.topic_id || mutant(Mutant::TopicIdIgnored) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "lineage-changed", "the topic was deleted and created again"))
    }

    /// Rule 12: what is stored may tell of events that an unclean election took away before the watermark
    /// reached them; others have their offsets now, and the watermark may have passed those. Then the log is
    /// not the one that was folded.
    pub(super) async fn check_epochs(&self, partition: &PartitionKey, reached: &Epochs) -> Result<()> {
        for (epoch, last) in reached.iter().filter(|_| !mutant(Mutant::TruncationUnchecked)) {
            let end = self.log.epoch_end(partition.partition, *epoch).await;
            let end = end.map_err(|error| unavailable("read the end of a leader epoch", &error))?;
            if end <= *last {
                let detail =
                    format!("the log was cut at {end}, but the event at {last} was folded and stored");
                return Err(Error::new(ErrorKind::Conflict, "lineage-changed", detail));
            }
        }
        Ok(())
    }

    /// Rows from a start downwards to the newest that brings a state, or the first; further down to `oldest`
    /// if given. The walk goes on below such a row only as far as `oldest`: an unreadable base makes the
    /// assembly ask for more.
    async fn rows_down(
        &self,
        key: &AggregateKey,
        partition: &PartitionKey,
        from: From,
        oldest: Option<Version>,
    ) -> Result<Vec<SnapshotRow>> {
        let mut rows: Vec<SnapshotRow> = Vec::new();
        let mut walk = self.walk(key, partition, from, ROWS_PAGE);
        while let Some(mut page) = walk.read().await? {
            rows.append(&mut page);
            let is_based = rows.iter().any(|row| row.kind != RecordKind::Increment);
            let is_down = || rows.last().is_some_and(|row| oldest.is_none_or(|oldest| row.version <= oldest));
            if is_based && is_down() {
                break;
            }
        }
        Ok(rows)
    }

    /// The aggregate's rows from a start on.
    pub(crate) fn walk<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: &PartitionKey,
        from: From,
        page: usize,
    ) -> RowWalk<'a> {
        RowWalk::within(&*self.index, key, partition, from, page)
    }

    /// Rows below the oldest that was read, for an assembly whose bases were all unreadable.
    pub(super) async fn rows_below(
        &self,
        key: &AggregateKey,
        partition: &PartitionKey,
        below: Version,
    ) -> Result<Vec<SnapshotRow>> {
        if below == Version(0) {
            return Ok(Vec::new());
        }
        self.rows_down(key, partition, From::AtOrBelow(Version(below.0 - 1)), None).await
    }
}

/// Of rows; a marked one has offset and epoch of the event behind its mark.
fn epochs_of(rows: &[SnapshotRow]) -> Epochs {
    let mut epochs = Epochs::new();
    for row in rows.iter().filter(|row| !(row.quarantined && mutant(Mutant::MarkEpochUnchecked))) {
        reach(&mut epochs, row.leader_epoch, row.last_offset);
    }
    epochs
}
