//! One consistent view of a partition at rest: the low watermark, and after it what was listed.
//!
//! *Order*: the low watermark before the list of checkpoints, or the list may lack what the watermark has
//!   passed (L1). A list that names a pack which is not there is stale, and all is read again (L2).

use super::Reconstructor;
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Offset, PackId};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{Epochs, LiveCheckpoint};
use crate::domain::row::{CheckpointRow, PartitionKey, WatermarkRow};
use crate::kafka::LogBounds;
use crate::store::checkpoints::Held;
use crate::store::unavailable;
use futures_util::future::{BoxFuture, FutureExt, join};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Listed checkpoints that are read at the same time. Each footer that is not kept is decoded for that.
const CHECKPOINTS_AT_ONCE: usize = 4;

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

    /// The log's bounds, and the rows of the low watermark that belong to them.
    async fn bounds_and_watermarks(
        &self,
        partition: &PartitionKey,
    ) -> Result<(LogBounds, Vec<WatermarkRow>)> {
        let (bounds, rows) = join(self.log.bounds(partition.partition), self.watermarks(partition)).await;
        let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
        self.check_topic(bounds.topic_id)?;
        let rows = rows?;
        // SUBTLE: the log may begin where a low watermark says that was written while both were read.
        let is_older = newest_mark(&rows, &bounds).is_none_or(|(low, _)| low < bounds.start);
        let rows = if is_older { self.watermarks(partition).await? } else { rows };
        Ok((bounds, rows))
    }

    /// The low watermarks of a partition, of all incarnations of the topic.
    pub(crate) async fn watermarks(&self, partition: &PartitionKey) -> Result<Vec<WatermarkRow>> {
        let rows = self.index.watermarks(partition).await;
        rows.map_err(|error| unavailable("read the low watermark", &error))
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
        let (bounds, rows) = self.bounds_and_watermarks(partition).await?;
        let (told, told_under) = newest_mark(&rows, &bounds).unwrap_or((bounds.start, -1));
        let mut seen = Seen { bounds, rows, are_rows_later: false, ends: Epochs::new() };
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
        let (mut reached, mut doubted, mut is_stale) = (told, BTreeSet::new(), false);
        let reading = listed.into_iter().map(|row| read(row.clone()).map(|held| (row, held)));
        let read: Vec<_> = stream::iter(reading).buffered(CHECKPOINTS_AT_ONCE).collect().await;
        for (row, held) in read {
            let mut end_offset = row.end_offset;
            match held {
                Ok(Some((checkpoint, epochs))) => {
                    let (cut, is_doubted) = self.cut(partition, &mut seen, &epochs).await?;
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
                    is_stale |= !mutant(Mutant::MissingPackIgnored);
                }
                Err(error) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    self.health.damaged_records.fetch_add(1, Ordering::Relaxed);
                    unreadable.push(row);
                }
                Err(error) => return Err(error),
            }
            reached = reached.max(end_offset);
        }
        if is_stale {
            return Ok(None);
        }
        let (low_watermark, lost_below) = self.limits((told, reached), &unreadable, seen.bounds.start);
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
    /// promised is gone: then all is left as it is, and `check_epochs` refuses it. Unless an owner went on
    /// behind the cut: it looked for such promises first, so what tells of one came later, to nobody.
    async fn cut(
        &self,
        partition: &PartitionKey,
        seen: &mut Seen,
        epochs: &Epochs,
    ) -> Result<(Option<Offset>, bool)> {
        for epoch in epochs.keys().filter(|epoch| **epoch < seen.bounds.leader_epoch) {
            if !seen.ends.contains_key(epoch) {
                seen.ends.insert(*epoch, self.epoch_end(partition, *epoch).await?);
            }
        }
        let (cut, is_doubted) = seen.cut(epochs);
        let is_refused = is_doubted && cut.is_none();
        if let Some(newest) = seen.newest_epoch().filter(|epoch| is_refused && !seen.ends.contains_key(epoch))
        {
            seen.ends.insert(newest, self.epoch_end(partition, newest).await?);
            return Ok(seen.cut(epochs));
        }
        if cut.is_none() || seen.are_rows_later {
            return Ok((cut, is_doubted));
        }
        // What passed the cut may have been written while the bounds were read.
        seen.rows = self.watermarks(partition).await?;
        seen.are_rows_later = true;
        Ok(seen.cut(epochs))
    }
}

/// What tells of one partition where its log was cut.
struct Seen {
    bounds: LogBounds,
    rows: Vec<WatermarkRow>,
    /// The rows were read after the bounds.
    are_rows_later: bool,
    /// Ends of leader epochs, as far as they were asked for.
    ends: Epochs,
}

impl Seen {
    fn cut(&self, epochs: &Epochs) -> (Option<Offset>, bool) {
        let (mut first_cut, mut is_doubted) = (None, false);
        for (epoch, last) in epochs.iter() {
            let Some(end) = self.ends.get(epoch).copied() else { continue };
            let has_passed = |row: &WatermarkRow| {
                row.topic_id == self.bounds.topic_id && row.leader_epoch <= *epoch && row.low_watermark > end
            };
            let is_lost = end <= *last;
            is_doubted |= is_lost && !mutant(Mutant::DoubtsUntold);
            let is_promised = self.rows.iter().any(has_passed) && !self.is_gone_on_behind(end);
            let is_cut = is_lost && !is_promised;
            if is_cut && !mutant(Mutant::CutEntriesKept) {
                first_cut = Some(first_cut.map_or(end, |first: Offset| first.min(end)));
            }
        }
        (first_cut, is_doubted)
    }

    /// The newest leader epoch that an owner of this log wrote a low watermark under.
    fn newest_epoch(&self) -> Option<i32> {
        let rows = self.rows.iter().filter(|row| row.topic_id == self.bounds.topic_id);
        rows.map(|row| row.leader_epoch).max()
    }

    /// Whether an owner wrote a low watermark under a leader epoch that has records behind this cut.
    fn is_gone_on_behind(&self, cut: Offset) -> bool {
        let end = self.newest_epoch().and_then(|epoch| self.ends.get(&epoch));
        end.is_some_and(|end| *end > cut) && !mutant(Mutant::LatePromiseCounts)
    }
}

/// The newest low watermark of this topic, with its leader epoch.
fn newest_mark(rows: &[WatermarkRow], bounds: &LogBounds) -> Option<(Offset, i32)> {
    let is_valid = |row: &&WatermarkRow| row.topic_id == bounds.topic_id || mutant(Mutant::TopicIdIgnored);
    rows.iter().filter(is_valid).map(|row| (row.low_watermark, row.leader_epoch)).max()
}
