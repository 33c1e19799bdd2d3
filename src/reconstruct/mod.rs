//! Any state from rest: which rows, packs and stretches of the log make it up, fetched and folded. Loads,
//! lookups and `verify` all come here, so a damaged record heals the same way everywhere.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Reconstructor`: the order of reads, the answer |
//! | `view.rs` | the low watermark and what is listed, read together |
//! | `live.rs` | the port through which lookups see the owners of partitions |
//! | `assemble/` | one aggregate out of pieces: base, increments, segments, pending entries, log |
//! | `merge.rs` | a stretch of history folded again, for compaction |
//! | `piece.rs` | a stored stretch of events: an increment, a segment or a checkpoint's entry |
//! | `step.rs` | what was read for an answer |
//! | `history.rs` | the stored events of one aggregate, from its first on |
//! | `ended.rs` | a log that ends where a lineage did |
//! | `rest.rs` | a log that only tells what rest knows: for whoever asks without brokers |
//! | `read.rs` | what anyone may ask: states, events, the newest version at rest |
//! | `earliest.rs` | where history starts, where what was asked for is gone |
//!
//! *Order* (write last, read first): low watermark, then the list of checkpoints, then snapshot rows, then
//!   the log from *that* low watermark. Any other order can end too early without noticing.
//! *If it fails*: an error of a port is `Unavailable` and is never read as "absent"; a record that cannot be
//!   read gives way to an older one and the log; where that is gone too, the answer is `Gone`, never a wrong
//!   state.
//! *If cancelled*: nothing is lost, nothing was written.

mod assemble;
mod earliest;
mod ended;
mod history;
mod live;
mod merge;
mod piece;
mod read;
mod rest;
mod step;
mod view;

pub use earliest::Wanted;
pub use ended::{Ended, LogOfOld};
pub use history::{History, Stretch};
pub use live::{HeadAnswer, ListAnswer, LiveHeads, LiveSnapshots, NoOwners};
pub use merge::Merged;
pub use read::{Ask, FoldedEvent, Newest, Read};
pub use rest::RestOnly;
pub use step::{Step, StepKind};
pub use view::View;

use crate::domain::aggregate::{Aggregate, Rules};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decode;
use crate::domain::ids::{AggregateKey, Offset, Timestamp, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{EntryRef, Epochs, Loaded, reach};
use crate::domain::record::StoredEvent;
use crate::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow};
use crate::kafka::Log;
use crate::store::index::{From, Index, RowWalk};
use crate::store::packs::Packs;
use crate::store::unavailable;
use assemble::Assembly;
use piece::Piece;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Rows fetched in one go on the walk down to a base.
const ROWS_PAGE: usize = 32;
/// Rows of the first page around one version: a full row comes with every eighth increment by default.
const FIRST_ROWS: usize = 12;
/// Rows asked for where only those of one version matter: they are rarely more.
const FEW_ROWS: usize = 4;

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
        let (rows, is_to_first) = self.rows_down(key, partition, (From::Newest, ROWS_PAGE), oldest).await?;
        self.check_epochs(partition, &epochs_of(&rows)).await?;
        let pieces = Piece::all(&rows, pending);
        let mut assembly = Assembly::new(self, partition, key, Ask::of(AsOf::Head), limit);
        assembly.is_to_first = is_to_first;
        assembly.run(&rows, pieces).await?;
        assembly.reach_limit(&rows).await?;
        let trail = assembly.trail_after(rows.iter().map(|row| row.version).max().unwrap_or_default());
        let assembled = assembly.finish();
        self.check_epochs(partition, &assembled.entries_reached).await?;
        self.health.damaged_records.fetch_add(assembled.provenance.damaged, Ordering::Relaxed);
        Ok(Loaded { aggregate: assembled.aggregate, rows, trail })
    }

    /// Rows of one incarnation of a topic say nothing about another.
    pub(super) fn check_topic(&self, topic_id: u128) -> Result<()> {
        if topic_id == self.topic_id || mutant(Mutant::TopicIdIgnored) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "lineage-changed", "the topic was deleted and created again"))
    }

    async fn epoch_end(&self, partition: &PartitionKey, epoch: i32) -> Result<Offset> {
        let end = self.log.epoch_end(partition.partition, epoch).await;
        end.map_err(|error| unavailable("read the end of a leader epoch", &error))
    }

    /// Rule 12: what is stored may tell of events that an unclean election took away before the watermark
    /// reached them; others have their offsets now, and the watermark may have passed those. Then the log is
    /// not the one that was folded.
    pub(super) async fn check_epochs(&self, partition: &PartitionKey, reached: &Epochs) -> Result<()> {
        for (epoch, last) in reached.iter().filter(|_| !mutant(Mutant::TruncationUnchecked)) {
            let end = self.epoch_end(partition, *epoch).await?;
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
    /// assembly ask for more. Tells whether there is none below the last.
    async fn rows_down(
        &self,
        key: &AggregateKey,
        partition: &PartitionKey,
        (from, first_page): (From, usize),
        oldest: Option<Version>,
    ) -> Result<(Vec<SnapshotRow>, bool)> {
        let mut rows: Vec<SnapshotRow> = Vec::new();
        let mut walk = self.walk(key, partition, from, first_page).growing_to(ROWS_PAGE);
        while let Some(mut page) = walk.read().await? {
            rows.append(&mut page);
            let is_based = rows.iter().any(|row| row.kind != RecordKind::Increment);
            let is_down = || rows.last().is_some_and(|row| oldest.is_none_or(|oldest| row.version <= oldest));
            if is_based && is_down() {
                break;
            }
        }
        Ok((rows, walk.is_done()))
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
        let from = From::AtOrBelow(Version(below.0 - 1));
        Ok(self.rows_down(key, partition, (from, ROWS_PAGE), None).await?.0)
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
