//! Where an assigned partition starts to fold, and why it may not start at all.
//!
//! The start is the low watermark of the index, not the group's committed offset: the index has it first,
//! with the topic id and the leader epoch it belongs to (`docs/adr/0002`). Nothing here guesses: what does
//! not fit stands still and says how to go on.

use super::Components;
use crate::domain::erasure::ErasedIds;
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{Offset, PackId, PartitionNo};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{Epochs, Partition};
use crate::domain::poison::Poison;
use crate::domain::row::{PartitionKey, WatermarkRow};
use crate::kafka::LogBounds;
use crate::store::unavailable;

/// Why a partition is not folded although it is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The topic was deleted and created again: its offsets mean other events.
    TopicRecreated,
    /// The partition was added after the lineage was activated: aggregates may have moved to it.
    PartitionAdded {
        /// Partitions that the lineage folds.
        known: u32,
    },
    /// The log was truncated: events that were folded are gone, others may have their offsets.
    Truncated {
        /// The position that the log no longer knows.
        position: Offset,
        /// Where the leader epoch of that position ended.
        end: Offset,
    },
    /// A live checkpoint cannot be read, and the log no longer has all that it may hold.
    CheckpointLost {
        /// Its pack.
        pack: PackId,
        /// Offset of the first event that it held.
        first: Offset,
        /// The log's start.
        start: Offset,
    },
    /// The log's start has passed the low watermark: events that nothing covers are gone.
    RetentionPassed {
        /// The low watermark.
        low_watermark: Offset,
        /// The log's start.
        start: Offset,
    },
}

impl Refusal {
    /// The code and sentence that a partition which stands still shows.
    #[must_use]
    pub fn poison(&self) -> Poison {
        match self {
            Self::TopicRecreated => Poison::new("topic-recreated", "the topic was deleted and created again"),
            Self::PartitionAdded { known } => Poison::new(
                "partitions-changed",
                format!("the topic had {known} partitions, now it has more"),
            ),
            Self::Truncated { position, end } => Poison::new(
                "log-truncated",
                format!("offset {position} was folded, the log was cut at {end}"),
            ),
            Self::CheckpointLost { pack, first, start } => Poison::new(
                "retention-passed",
                format!(
                    "checkpoint `{pack}` cannot be read: events from {first} on are needed, the log starts at {start}"
                ),
            ),
            Self::RetentionPassed { low_watermark, start } => Poison::new(
                "retention-passed",
                format!("events from {low_watermark} on are needed, the log starts at {start}"),
            ),
        }
    }
}

/// What an assigned partition starts as.
pub(super) enum Start {
    /// Fold from here; the log is like this now.
    Fold(Box<Partition>, LogBounds),
    /// Stand still.
    Refuse(Refusal),
}

/// Reads the low watermark and after it the live checkpoints, and checks them against the log.
pub(super) async fn start(components: &Components, partition: PartitionNo) -> Result<Start> {
    if u32::try_from(partition.0).is_ok_and(|number| number >= components.partitions) {
        return Ok(Start::Refuse(Refusal::PartitionAdded { known: components.partitions }));
    }
    let key = PartitionKey { topic: components.topic.clone(), partition, lineage: components.lineage };
    let bounds = components.log.bounds(partition).await;
    let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
    if bounds.topic_id != components.topic_id && !mutant(Mutant::TopicIdIgnored) {
        return Ok(Start::Refuse(Refusal::TopicRecreated));
    }
    let rows = components.store.index.watermarks(&key).await;
    let rows = rows.map_err(|error| unavailable("read the low watermark", &error))?;
    let newest =
        rows.iter().filter(|row| row.topic_id == bounds.topic_id).max_by_key(|row| row.low_watermark);
    let view = components.reader.view(&key).await?;
    let mut low_watermark = view.low_watermark;
    if mutant(Mutant::WatermarkRowIgnored) {
        let committed = components.log.committed(partition).await;
        let committed = committed.map_err(|error| unavailable("read the committed offset", &error))?;
        low_watermark = committed.unwrap_or(bounds.start);
    }
    if let Some(row) = newest.filter(|row| row.leader_epoch >= 0 && !mutant(Mutant::TruncationUnchecked)) {
        let end = components.log.epoch_end(partition, row.leader_epoch).await;
        let end = end.map_err(|error| unavailable("read the end of a leader epoch", &error))?;
        if end < row.low_watermark {
            return Ok(Start::Refuse(Refusal::Truncated { position: row.low_watermark, end }));
        }
    }
    // The low watermark was read after the bounds, and another owner may have moved both on since.
    let bounds = match low_watermark > bounds.end {
        // Ends of epochs were looked at under the first: an election since is still to be heard of.
        true => {
            let leader_epoch = bounds.leader_epoch;
            components.log.bounds(partition).await.map(|later| LogBounds { leader_epoch, ..later })
        }
        false => Ok(bounds),
    };
    let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
    if low_watermark > bounds.end && !mutant(Mutant::TruncationUnchecked) {
        return Ok(Start::Refuse(Refusal::Truncated { position: low_watermark, end: bounds.end }));
    }
    if let (Some(lost), Some(_)) =
        (view.unreadable.iter().min_by_key(|row| row.first_offset), view.lost_below)
    {
        let (pack, first, start) = (lost.pack, lost.first_offset, bounds.start);
        return Ok(Start::Refuse(Refusal::CheckpointLost { pack, first, start }));
    }
    if low_watermark < bounds.start {
        return Ok(Start::Refuse(Refusal::RetentionPassed { low_watermark, start: bounds.start }));
    }
    let is_unknown = rows.is_empty() || mutant(Mutant::FirstOwnerAssumed);
    let is_whole = low_watermark == bounds.start && bounds.start == Offset(0);
    let is_first = is_unknown && is_whole && view.checkpoints.is_empty() && view.unreadable.is_empty();
    if is_first && !mutant(Mutant::FirstWatermarkUnwritten) {
        write_first_watermark(components, &key, &bounds).await?;
    }
    let settings = components.settings.partition.clone();
    let rules = components.rules.clone();
    let unreadable = view.unreadable.iter().map(|row| (row.pack, row.end_offset)).collect();
    let partition = Partition::new(key, rules, settings, low_watermark, view.checkpoints);
    let partition = partition.beside_unreadable(unreadable).without(erased(components).await?);
    let partition = if is_first { partition.as_first_owner() } else { partition };
    Ok(Start::Fold(Box::new(partition), bounds))
}

/// Nobody has written anything about this log yet: whoever comes later must not think so (docs/adr/0027). A
/// log that has lost its beginning was folded before, or cannot tell: an index that was rebuilt may have rows
/// and no low watermark.
async fn write_first_watermark(
    components: &Components,
    key: &PartitionKey,
    bounds: &LogBounds,
) -> Result<()> {
    let (key, topic_id, leader_epoch) = (key.clone(), bounds.topic_id, bounds.leader_epoch);
    let row = WatermarkRow { key, topic_id, leader_epoch, low_watermark: bounds.start };
    components.store.put_watermark(row).await
}

/// Who is erased by now: whoever was erased while another owned the partition must not be folded again.
async fn erased(components: &Components) -> Result<ErasedIds> {
    if mutant(Mutant::ErasedFoldedAgain) {
        return Ok(ErasedIds::default());
    }
    let erasures = &components.reader.packs.erasures;
    erasures.refresh().await?;
    Ok(erasures.ids(&components.rules.kind))
}

/// Whether the log is still the one that was folded up to `position`, last seen under `epoch`, and that
/// states in memory beyond it come from (`ahead`): if not, why not, else the epoch it is under now. Asked
/// after records were read and before they are folded, so that a log that was cut or created again in between
/// is never taken for the old one.
pub(super) async fn verify(
    components: &Components,
    partition: PartitionNo,
    position: Offset,
    epoch: i32,
    ahead: &Epochs,
) -> Result<std::result::Result<i32, Refusal>> {
    let bounds = components.log.bounds(partition).await;
    let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
    if bounds.topic_id != components.topic_id && !mutant(Mutant::TopicIdIgnored) {
        return Ok(Err(Refusal::TopicRecreated));
    }
    if mutant(Mutant::TruncationUnchecked) {
        return Ok(Ok(bounds.leader_epoch));
    }
    if position > bounds.end {
        return Ok(Err(Refusal::Truncated { position, end: bounds.end }));
    }
    if bounds.leader_epoch > epoch {
        let end = components.log.epoch_end(partition, epoch).await;
        let end = end.map_err(|error| unavailable("read the end of a leader epoch", &error))?;
        if end < position {
            return Ok(Err(Refusal::Truncated { position, end }));
        }
        let ended = ahead.iter().filter(|(epoch, _)| **epoch < bounds.leader_epoch);
        for (epoch, last) in ended.filter(|_| !mutant(Mutant::StatesAheadUnchecked)) {
            let end = components.log.epoch_end(partition, *epoch).await;
            let end = end.map_err(|error| unavailable("read the end of a leader epoch", &error))?;
            if end <= *last {
                return Ok(Err(Refusal::Truncated { position: last.next(), end }));
            }
        }
    }
    Ok(Ok(bounds.leader_epoch))
}

/// Whether the log was cut since leader epoch `before` below what another owner had promised: its low
/// watermark may have been written since this one started. Asked after the election and before anything is
/// folded behind it, so that what tells of a promise later was promised to nobody.
pub(super) async fn promises_broken(
    components: &Components,
    key: &PartitionKey,
    (before, epoch): (i32, i32),
) -> Result<Option<Refusal>> {
    if mutant(Mutant::PromisesUnheard) || mutant(Mutant::TruncationUnchecked) {
        return Ok(None);
    }
    let rows = components.store.index.watermarks(key).await;
    let rows = rows.map_err(|error| unavailable("read the low watermark", &error))?;
    let end_of = async |epoch: i32| {
        let end = components.log.epoch_end(key.partition, epoch).await;
        end.map_err(|error| unavailable("read the end of a leader epoch", &error))
    };
    let is_of_these =
        |row: &&WatermarkRow| row.topic_id == components.topic_id && (0..epoch).contains(&row.leader_epoch);
    for row in rows.iter().filter(is_of_these) {
        let (end, position) = (end_of(row.leader_epoch).await?, row.low_watermark);
        // A cut that was there under `before` has been heard of: epochs end where it is, or behind it.
        let is_news =
            row.leader_epoch >= before || end >= end_of(before).await? && !mutant(Mutant::OldPromisesUnheard);
        if end < position && is_news {
            return Ok(Some(Refusal::Truncated { position, end }));
        }
    }
    Ok(None)
}

/// How often a checkpoint must be found unreadable before its partition stands still for that: damage on the
/// way to us passes, and standing still does not.
const LOST_TRIES: u32 = 10;

/// As `start`, until the ports answer.
pub(super) async fn start_when_possible(components: &Components, partition: PartitionNo) -> Start {
    let mut lost = 0;
    loop {
        match start(components, partition).await {
            Ok(Start::Refuse(Refusal::CheckpointLost { .. })) if lost < LOST_TRIES => {
                lost += 1;
                components.clock.sleep(components.settings.retry_ms).await;
            }
            Ok(start) => return start,
            Err(error) => {
                debug_assert_ne!(error.kind, ErrorKind::Invalid, "{error}");
                components.clock.sleep(components.settings.retry_ms).await;
            }
        }
    }
}
