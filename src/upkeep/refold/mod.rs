//! Refolding: a new reducer gets its lineage out of the stored events of the lineage before, while workers of
//! that one go on. Afterwards workers with the new reducer start where the old ones stood.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the order of it, for a group of partitions |
//! | `fold.rs` | one aggregate: events in, cuts and letters out; pure |
//! | `one.rs` | one aggregate: reading, folding, what of it has to be written |
//! | `notes.rs` | labels and pins, which the new lineage gets too |
//! | `letters.rs` | dead letters, some of which the new reducer may fold |
//!
//! *Order*: per partition the old lineage's low watermark, then its live checkpoints, then rows, as every
//!   reader; the end is that watermark, and what lies beyond is the log's. Of each aggregate its dead
//!   letters, then its increments one after the other, then full rows. When all of a partition is
//!   acknowledged, the new lineage's low watermark. When all partitions have one, and again where the log has
//!   forgotten meanwhile what lies beyond it, whoever called may activate the new lineage.
//! *If it fails*: the error goes to the caller, who may call again: what was written is found and left.
//! *If cancelled*: the same.
//! *What may leak*: rows and packs of a lineage that is never activated; nobody reads them.
//!
//! INVARIANT: nothing that was merely seen covers anything (rule 4): newest rows of an earlier try are
//! written again before the watermark may pass them. The order of writes says that all before them are
//! acknowledged.

/// What a store answers, asked again and again until it does.
macro_rules! patiently {
    ($refold:expr, $ask:expr) => {{
        let started = $refold.store.clock.monotonic_ms();
        loop {
            match $ask.await {
                Ok(answer) => break answer,
                Err(error) => $refold.pause(started, error).await?,
            }
        }
    }};
}

mod fold;
mod letters;
mod notes;
mod one;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Lineage, Offset, PartitionNo};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{EntryRef, LiveCheckpoint};
use crate::domain::row::{DeadLetter, PartitionKey, WatermarkRow};
use crate::kafka::LogBounds;
use crate::reconstruct::{Reconstructor, View};
use crate::store::SnapshotStore;
use crate::store::flush::Flush;
use crate::store::listing::{self, Page};
use crate::store::unavailable;
use futures_util::future::{BoxFuture, join, ready};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use letters::Letters;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub use fold::Cuts;

/// Aggregates that are folded at the same time, so that their reads overlap.
const READS_AT_ONCE: usize = 16;
/// Aggregates of one page of the listing.
const PAGE: usize = 1_000;
/// Of one batch of writes.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ITEMS: usize = 1_024;
/// How often an aggregate is read again from a fresh view where something that was listed is gone.
const VIEWS_MAX: usize = 4;
/// How often what the log forgets meanwhile is fetched.
const ROUNDS_MAX: usize = 16;
/// How long a write that fails is repeated.
const DEADLINE_MS: u64 = 600_000;

/// What was done so far, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Aggregates that are done.
    pub aggregates: AtomicU64,
    /// Of those, found as an earlier try had left them.
    pub kept: AtomicU64,
    /// Events that were folded.
    pub events: AtomicU64,
    /// Events that were dead letters and have a version now.
    pub revived: AtomicU64,
    /// Events that are dead letters of the new lineage.
    pub letters: AtomicU64,
    /// Snapshots whose labels and pins the new lineage has, too.
    pub notes: AtomicU64,
    /// Partitions that are done.
    pub partitions: AtomicU64,
    /// Rounds for what the log forgot meanwhile; what they go through again counts again.
    pub rounds: AtomicU64,
}

/// A refold of one stream.
#[derive(Clone)]
pub struct Refold {
    /// Reads the old lineage; its decoder and its fold are the new ones.
    pub reader: Reconstructor,
    /// Writes.
    pub store: Arc<SnapshotStore>,
    /// Topic.
    pub topic: Arc<str>,
    /// The lineage whose events are folded.
    pub from: Lineage,
    /// The lineage that is written.
    pub into: Lineage,
    /// Where records end.
    pub cuts: Cuts,
    /// An earlier try may have written something.
    pub resumes: bool,
    /// What was done.
    pub progress: Arc<Progress>,
}

/// One partition of the old lineage, as it was when its turn came.
struct Source {
    from: PartitionKey,
    into: PartitionKey,
    /// Where the refold ends: the old lineage's low watermark, with its leader epoch.
    end: WatermarkRow,
    view: View<LiveCheckpoint>,
    letters: Letters,
    met: Mutex<Met>,
}

/// Aggregates whose turn has come: by their place in each live checkpoint, and those that have letters.
#[derive(Default)]
struct Met {
    entries: Vec<Vec<bool>>,
    letters: BTreeSet<Arc<str>>,
}

/// As many flushes as go out together; none after the last.
async fn next_batch(folded: &mut (impl Stream<Item = Result<Option<Flush>>> + Unpin)) -> Result<Vec<Flush>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES && batch.len() < BATCH_ITEMS {
        let Some(flush) = folded.try_next().await? else { break };
        bytes += flush.as_ref().map_or(0, |flush| flush.item.bytes());
        batch.extend(flush);
    }
    Ok(batch)
}

impl Refold {
    /// Refolds these partitions; answers for each where the new lineage starts, without those of which
    /// nothing is stored: there it starts where the log does.
    ///
    /// # Errors
    /// `Conflict` where the mapping is not the one of then; `Gone` where events are not stored; `Invalid`
    /// where the new reducer halts; `Unavailable`. Calling again goes on.
    pub async fn partitions(&self, numbers: &[PartitionNo]) -> Result<BTreeMap<PartitionNo, Offset>> {
        patiently!(self, self.reader.packs.erasures.refresh());
        let (mut sources, mut starts) = (BTreeMap::new(), BTreeMap::new());
        for number in numbers {
            if let Some(source) = self.source(*number).await? {
                starts.insert(*number, source.end.low_watermark);
                sources.insert(*number, source);
            }
        }
        if mutant(Mutant::RefoldWatermarkEarly) {
            self.put_watermarks(&sources).await?;
        }
        self.listed(&sources).await?;
        self.unlisted(&sources).await?;
        self.other_letters(&sources).await?;
        self.put_watermarks(&sources).await?;
        self.progress.partitions.fetch_add(numbers.len() as u64, Ordering::Relaxed);
        Ok(starts)
    }

    /// Fetches what the log has forgotten since the new lineage's low watermarks were written, and only the
    /// old one has: without it nobody could start. The last thing before the new lineage is activated, with
    /// all of its partitions.
    ///
    /// # Errors
    /// As `partitions`; `Gone` where the log forgets faster than this can fetch.
    pub async fn catch_up(&self, numbers: &[PartitionNo]) -> Result<()> {
        let round = Self { resumes: true, ..self.clone() };
        for _ in 0..ROUNDS_MAX {
            let overtaken = self.overtaken(numbers).await?;
            if overtaken.is_empty() {
                return Ok(());
            }
            self.progress.rounds.fetch_add(1, Ordering::Relaxed);
            round.partitions(&overtaken).await?;
        }
        let detail =
            "the topic forgets faster than it is refolded: let it keep records for longer, then go on";
        Err(Error::new(ErrorKind::Gone, "retention-passed", detail))
    }

    /// Partitions of which the log has forgotten what lies between the ends of both lineages, or of which
    /// nobody knows any more where the new one ends.
    async fn overtaken(&self, numbers: &[PartitionNo]) -> Result<Vec<PartitionNo>> {
        let mut overtaken = Vec::new();
        for number in numbers.iter().filter(|_| !mutant(Mutant::RefoldOvertaken)) {
            let start = patiently!(self, self.bounds(*number)).start;
            let new = patiently!(self, self.watermark(&self.log(*number, self.into)));
            let Some(new) = new else {
                // It was written, and is gone: the index was lost and rebuilt meanwhile (seed 6438, given).
                overtaken.push(*number);
                continue;
            };
            let old = patiently!(self, self.watermark(&self.log(*number, self.from)));
            if new.low_watermark < start && old.is_some_and(|old| old.low_watermark > new.low_watermark) {
                overtaken.push(*number);
            }
        }
        Ok(overtaken)
    }

    fn log(&self, partition: PartitionNo, lineage: Lineage) -> PartitionKey {
        PartitionKey { topic: Arc::clone(&self.topic), partition, lineage }
    }

    /// None where nothing is covered, or where the new lineage is there already.
    async fn source(&self, number: PartitionNo) -> Result<Option<Source>> {
        let (from, into) = (self.log(number, self.from), self.log(number, self.into));
        // SUBTLE: read before the view, so that this watermark and its epoch belong together; the view's may
        // have moved on meanwhile, and covers no less.
        let mut end = match patiently!(self, self.watermark(&from)) {
            Some(end) => end,
            None => match self.begin(&from, &into).await? {
                Some(end) => end,
                None => return Ok(None),
            },
        };
        let there = patiently!(self, self.watermark(&into));
        if let Some(there) = there.filter(|there| there.low_watermark >= end.low_watermark) {
            // It was merely seen; that it was written says that all below it is acknowledged.
            patiently!(self, self.store.put_watermark(there.clone()));
            return Ok(None);
        }
        let view = patiently!(self, self.reader.view(&from));
        if view.lost_below.is_some() {
            let detail = format!(
                "a live checkpoint of partition {number} cannot be read, and the log no longer has what it held: \
                 restore its pack, or fold the topic again with `--new-lineage`"
            );
            return Err(Error::new(ErrorKind::Gone, "history-gone", detail));
        }
        end.low_watermark = end.low_watermark.min(view.low_watermark);
        let letters = patiently!(self, Letters::read(&self.reader, &from, end.low_watermark));
        let entries = view.checkpoints.iter().map(|live| vec![false; live.entries.len()]).collect();
        let met = Mutex::new(Met { entries, ..Met::default() });
        Ok(Some(Source { from, into, end, view, letters, met }))
    }

    /// Nothing is covered: the new lineage starts where the log does. That is written down, or what the old
    /// lineage covers from now on could leave the log before the new one is there, and nobody would miss it.
    /// Answers the old low watermark if there is one after all.
    async fn begin(&self, from: &PartitionKey, into: &PartitionKey) -> Result<Option<WatermarkRow>> {
        let bounds = patiently!(self, self.bounds(from.partition));
        // Read again: until now nobody was free to forget what lies at that start.
        let rows = patiently!(self, self.reader.watermarks(from));
        let has_rows = rows.iter().any(|row| row.topic_id == WatermarkRow::NO_TOPIC);
        if let Some(end) = self.newest_of(rows) {
            return Ok(Some(end));
        }
        if has_rows && bounds.start > Offset(0) {
            let detail = format!(
                "the index was rebuilt, and how far partition {} was covered is not known yet: let a worker of \
                 the active lineage fold an event of it, or fold the topic again with `--new-lineage`",
                from.partition
            );
            return Err(Error::new(ErrorKind::Gone, "history-gone", detail));
        }
        let start = WatermarkRow {
            key: into.clone(),
            topic_id: self.reader.topic_id,
            leader_epoch: bounds.leader_epoch,
            low_watermark: bounds.start,
        };
        // Where an earlier try began counts: what the log has forgotten since then is missing.
        let there = patiently!(self, self.watermark(into)).unwrap_or(start);
        if !mutant(Mutant::RefoldStartForgotten) {
            patiently!(self, self.store.put_watermark(there.clone()));
        }
        Ok(None)
    }

    async fn bounds(&self, partition: PartitionNo) -> Result<LogBounds> {
        let bounds = self.reader.log.bounds(partition).await;
        bounds.map_err(|error| unavailable("ask for the bounds of the log", &error))
    }

    async fn watermark(&self, key: &PartitionKey) -> Result<Option<WatermarkRow>> {
        Ok(self.newest_of(self.reader.watermarks(key).await?))
    }

    fn newest_of(&self, rows: Vec<WatermarkRow>) -> Option<WatermarkRow> {
        let ours = rows.into_iter().filter(|row| row.topic_id == self.reader.topic_id);
        ours.max_by_key(|row| row.low_watermark)
    }

    /// All aggregates that rows tell of. *Order*: an aggregate is listed before its first row, so whatever
    /// is not listed when its place in the order has passed was in a checkpoint when the view was read.
    async fn listed(&self, sources: &BTreeMap<PartitionNo, Source>) -> Result<()> {
        let kind = Arc::clone(&self.reader.rules.kind);
        let mut after: Option<Arc<str>> = None;
        while !sources.is_empty() {
            let list = || listing::page(&*self.reader.index, &kind, after.as_deref(), PAGE);
            let Page { aggregates, is_last } = patiently!(self, list());
            after = aggregates.last().map(|(key, _)| Arc::clone(&key.id)).or(after);
            let ours = aggregates.into_iter().filter_map(|(key, number)| Some((key, sources.get(&number)?)));
            self.aggregates(ours.collect()).await?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// All aggregates that only live checkpoints and letters know.
    async fn unlisted(&self, sources: &BTreeMap<PartitionNo, Source>) -> Result<()> {
        for source in sources.values() {
            let mut page = Vec::new();
            for key in source.left(&self.reader.rules.kind) {
                page.push((key, source));
                if page.len() == PAGE {
                    self.aggregates(std::mem::take(&mut page)).await?;
                }
            }
            self.aggregates(page).await?;
        }
        Ok(())
    }

    /// Folds aggregates and writes them, until all of them are acknowledged: where a store does not answer,
    /// what was written by then is found the next time.
    async fn aggregates(&self, keys: Vec<(AggregateKey, &Source)>) -> Result<()> {
        let started = self.store.clock.monotonic_ms();
        let mut found = self.resumes;
        while let Err(error) = self.try_aggregates(&keys, found).await {
            self.pause(started, error).await?;
            found = true;
        }
        self.progress.aggregates.fetch_add(keys.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Many in one go; `found` if some may be done already. While one batch is written, the next is folded.
    async fn try_aggregates(&self, keys: &[(AggregateKey, &Source)], found: bool) -> Result<()> {
        let folded =
            keys.iter().map(|(key, source)| -> BoxFuture<'_, _> { Box::pin(self.one(key, source, found)) });
        let mut folded = stream::iter(folded.collect::<Vec<_>>()).buffered(READS_AT_ONCE);
        let mut writing: BoxFuture<'_, Result<()>> = Box::pin(ready(Ok(())));
        loop {
            let (batch, written) = join(next_batch(&mut folded), writing).await;
            written?;
            let batch = batch?;
            if batch.is_empty() {
                return Ok(());
            }
            writing = Box::pin(self.write(batch));
        }
    }

    /// Writes; `Err` unless all of it is acknowledged, but for what is of aggregates that were erased
    /// meanwhile: of those nothing is to be written, and whatever was goes like all that is theirs.
    async fn write(&self, batch: Vec<Flush>) -> Result<()> {
        for stored in self.store.put_snapshots(batch).await {
            if let Err(error) = stored
                && error.code != "erased"
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Letters of no aggregate are letters of the new lineage as they are.
    async fn other_letters(&self, sources: &BTreeMap<PartitionNo, Source>) -> Result<()> {
        for source in sources.values() {
            for offset in source.letters.unplaced() {
                if let Some(letter) = patiently!(self, letters::at(&self.reader, &source.from, offset)) {
                    self.put_letter(DeadLetter { key: source.into.clone(), ..letter }).await?;
                }
            }
        }
        Ok(())
    }

    async fn put_letter(&self, letter: DeadLetter) -> Result<()> {
        let put = async || {
            let put = self.store.index.put_dead_letter(letter.clone()).await;
            put.map_err(|error| unavailable("record a dead letter", &error))
        };
        patiently!(self, put());
        self.progress.letters.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn put_watermarks(&self, sources: &BTreeMap<PartitionNo, Source>) -> Result<()> {
        for source in sources.values() {
            let row = WatermarkRow { key: source.into.clone(), ..source.end.clone() };
            patiently!(self, self.store.put_watermark(row.clone()));
        }
        Ok(())
    }

    /// Waits before something is repeated that a store did not answer; fails where it is something else, and
    /// once it was repeated for too long.
    async fn pause(&self, started: u64, error: Error) -> Result<()> {
        if error.kind != ErrorKind::Unavailable {
            return Err(error);
        }
        if self.store.clock.monotonic_ms().saturating_sub(started) > DEADLINE_MS {
            return Err(error);
        }
        self.store.clock.sleep(self.store.limits.retry_ms).await;
        Ok(())
    }
}

impl Source {
    /// Notes that an aggregate's turn has come; answers what live checkpoints hold of it.
    fn meet(&self, id: &str) -> Vec<EntryRef> {
        let mut met = self.met.lock().expect("no panic while it is held");
        if !self.letters.of(id).is_empty() {
            met.letters.insert(id.into());
        }
        let mut held = Vec::new();
        for (live, met) in self.view.checkpoints.iter().zip(&mut met.entries) {
            if let Some((at, entry)) = live.entries.find(id) {
                met[at] = true;
                held.push(live.entry_ref(&entry, None));
            }
        }
        held
    }

    /// Aggregates of checkpoints and letters whose turn has not come.
    fn left(&self, kind: &Arc<str>) -> impl Iterator<Item = AggregateKey> {
        let met = self.met.lock().expect("no panic while it is held");
        let lives = self.view.checkpoints.iter().zip(&met.entries);
        let lives = lives.filter(|_| !mutant(Mutant::RefoldForgetsCheckpoints));
        let mut ids: BTreeSet<Arc<str>> = BTreeSet::new();
        for (live, met) in lives {
            let left = live.entries.iter().zip(met).filter(|(_, met)| !**met);
            ids.extend(left.map(|(entry, _)| Arc::from(entry.id.to_string())));
        }
        ids.extend(self.letters.ids().filter(|id| !met.letters.contains(*id)).cloned());
        let kind = Arc::clone(kind);
        ids.into_iter().map(move |id| AggregateKey { kind: Arc::clone(&kind), id })
    }
}

#[cfg(test)]
mod tests;
