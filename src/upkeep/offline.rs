//! Whether objects alone tell a history that is sound: no index, no worker, no topic.
//!
//! Every pack is read to its last byte; then the rows that a rebuild would write are made in memory, and each
//! aggregate's increments are folded from the first event on and compared with every state on the way: chain,
//! state digest, offset, effective time. What live checkpoints hold is folded on top. A history that was
//! folded with another mapping or reducer than the configuration's is checked as bytes only.
//!
//! *If it fails*: a store that does not answer ends it; what is damaged is a finding. *If cancelled*: nothing
//!   is lost, nothing is written. COST: all bytes are read once for their digests, and bodies once more; the
//!   rows of all snapshots are in memory.

use crate::clock::Clock;
use crate::codec::pack::Class;
use crate::domain::aggregate::{Aggregate, Rules, State};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decode;
use crate::domain::ids::{AggregateKey, Digest, Lineage, PackId, PartitionNo, Version};
use crate::domain::partition::EntryRef;
use crate::domain::record::{IncrementBody, RecordKind};
use crate::domain::row::{CheckpointRow, PartitionKey, SnapshotRow};
use crate::domain::value::{Limits, Value};
use crate::store::blobs::Blobs;
use crate::store::index::{From, Index, MemoryIndex};
use crate::store::lineages;
use crate::store::packs::{CompressionPlan, Packs};
use crate::store::rebuild::{self, Rebuild, Rebuilt};
use crate::store::unavailable;
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Packs and aggregates that are looked at, at the same time.
const AT_ONCE: usize = 8;
/// Rows and names in one answer.
const PAGE: usize = 1_000;

/// What a stream's history is folded with.
pub struct Folding {
    /// Topic of the stream.
    pub topic: Arc<str>,
    /// Its reducer and limits; names the aggregate type.
    pub rules: Rules,
    /// Its mapping.
    pub decoder: Arc<dyn Decode>,
    /// Of reducer and mapping.
    pub fingerprint: Digest,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What the packs hold.
    pub packs: Rebuilt,
    /// Aggregates whose history was folded.
    pub aggregates: u64,
    /// Events folded.
    pub events: u64,
    /// States compared with the fold.
    pub states: u64,
    /// Aggregates of lineages that the configuration does not fold: checked as bytes only.
    pub not_folded: u64,
    /// Everything that is wrong.
    pub problems: Vec<String>,
}

/// Verifies all that a blob store holds.
///
/// # Errors
/// `Unavailable` if the store does not answer.
pub async fn verify(
    blobs: Arc<dyn Blobs>,
    clock: Arc<dyn Clock>,
    streams: &[Folding],
    progress: Arc<rebuild::Progress>,
) -> Result<Verified> {
    let index: Arc<dyn Index> = Arc::new(MemoryIndex::new());
    let packs = Arc::new(Packs::new(Arc::clone(&index), blobs, CompressionPlan::default(), [0; 16]));
    let topics = streams.iter().map(|of| (Arc::clone(&of.rules.kind), Arc::clone(&of.topic))).collect();
    let (settings, parts) = (rebuild::Settings::default(), (Arc::clone(&index), Arc::clone(&packs)));
    let rebuild = Rebuild { index: parts.0, packs: parts.1, clock, topics, settings, progress };
    let mut verified = Verified { packs: rebuild.run().await?, ..Verified::default() };
    verified.problems.append(&mut verified.packs.problems);
    let listed = rebuild.listed().await?;
    let whole = |(class, pack): (Class, PackId)| {
        let packs = Arc::clone(&packs);
        async move { packs.faults(class, pack).await }
    };
    let mut faults = stream::iter(listed).map(whole).buffer_unordered(AT_ONCE);
    while let Some(found) = faults.next().await {
        verified.problems.extend(found?);
    }
    for folding in streams {
        let history = lineages::history(&*packs.blobs, &folding.topic).await?;
        for lineage in history.iter().map(|known| known.lineage).collect::<BTreeSet<Lineage>>() {
            let is_ours = history
                .iter()
                .any(|known| known.lineage == lineage && known.fingerprint == folding.fingerprint);
            let partitions = history.iter().filter(|known| known.lineage == lineage);
            let partitions = partitions.filter_map(|known| known.partitions).max().unwrap_or_default();
            let check = Check { index: &*index, packs: &packs, folding, lineage };
            check.list_pending(partitions, &mut verified).await?;
            check.all(is_ours, &mut verified).await?;
        }
    }
    verified.problems.sort();
    verified.problems.dedup();
    Ok(verified)
}

/// One lineage of one stream.
struct Check<'a> {
    index: &'a dyn Index,
    packs: &'a Arc<Packs>,
    folding: &'a Folding,
    lineage: Lineage,
}

/// One aggregate that is folded.
struct Fold {
    key: AggregateKey,
    folded: Aggregate,
    events: u64,
    states: u64,
    problems: Vec<String>,
}

impl Check<'_> {
    /// Lists the aggregates that only checkpoints know.
    async fn list_pending(&self, partitions: u32, verified: &mut Verified) -> Result<()> {
        for number in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            let partition = PartitionNo(number);
            for row in self.checkpoints(partition).await? {
                match self.packs.table(&row).await {
                    Ok(live) => {
                        for entry in live.entries.iter() {
                            let kind = Arc::clone(&self.folding.rules.kind);
                            let key = AggregateKey { kind, id: (*entry.id).into() };
                            if self.packs.erasures.of(&key).is_some() {
                                // Its rows are gone, and what is left of it follows on nothing.
                                continue;
                            }
                            let listed = self.index.put_aggregate(&key, partition).await;
                            listed.map_err(|error| unavailable("list an aggregate", &error))?;
                        }
                    }
                    Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                    Err(error) => {
                        verified.problems.push(format!("checkpoint `{}`: {}", row.pack, error.detail))
                    }
                }
            }
        }
        Ok(())
    }

    async fn checkpoints(&self, partition: PartitionNo) -> Result<Vec<CheckpointRow>> {
        let log = self.log(partition);
        let rows = self.index.checkpoints(&log).await;
        rows.map_err(|error| unavailable("read checkpoint rows", &error))
    }

    fn log(&self, partition: PartitionNo) -> PartitionKey {
        PartitionKey { topic: Arc::clone(&self.folding.topic), partition, lineage: self.lineage }
    }

    async fn all(&self, is_ours: bool, verified: &mut Verified) -> Result<()> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.index.aggregates(&self.folding.rules.kind, after.as_deref(), PAGE).await;
            let page = page.map_err(|error| unavailable("list aggregates", &error))?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(Arc::clone(&last.id));
            let fold =
                |(key, partition): (AggregateKey, PartitionNo)| self.aggregate(key, partition, is_ours);
            let mut folds = stream::iter(page).map(fold).buffer_unordered(AT_ONCE);
            while let Some(fold) = folds.next().await {
                let Some(fold) = fold? else {
                    verified.not_folded += u64::from(!is_ours);
                    continue;
                };
                verified.aggregates += 1;
                verified.events += fold.events;
                verified.states += fold.states;
                verified.problems.extend(fold.problems);
            }
        }
    }

    async fn aggregate(
        &self,
        key: AggregateKey,
        partition: PartitionNo,
        is_ours: bool,
    ) -> Result<Option<Fold>> {
        if !is_ours {
            return Ok(None);
        }
        let mut rows = Vec::new();
        for from in [From::AtOrBelow(Version(0)), From::Above(Version(0))] {
            let read = self.index.snapshots(&key, self.lineage, from, usize::MAX).await;
            rows.extend(read.map_err(|error| unavailable("read snapshot rows", &error))?);
        }
        rows.retain(|row| row.partition == partition);
        rows.sort_by_key(|row| (row.version, row.kind, row.pack));
        let folded = Aggregate::genesis(&key.kind, &key.id);
        let mut fold = Fold { key, folded, events: 0, states: 0, problems: Vec::new() };
        for (at, row) in rows.iter().enumerate() {
            match row.kind {
                RecordKind::Full => {
                    // One that somebody asked for may lie inside an increment that comes after it.
                    let around = rows[at..].iter().find(|other| {
                        other.kind != RecordKind::Full
                            && other.from_version <= fold.folded.version
                            && other.version > row.version
                    });
                    if let Some(around) = around.filter(|_| row.version > fold.folded.version)
                        && let Ok(body) = self.packs.events(around).await
                    {
                        self.take(&mut fold, body, row.version).await?;
                    }
                    self.full(&mut fold, row).await?;
                }
                _ => self.increment(&mut fold, row).await?,
            }
        }
        self.pending(&mut fold, partition).await?;
        Ok(Some(fold))
    }

    async fn increment(&self, fold: &mut Fold, row: &SnapshotRow) -> Result<()> {
        let body = match self.packs.events(row).await {
            Ok(body) => body,
            Err(error) => return fold.failed(row.version, error),
        };
        if !body.events.iter().map(|event| event.version.0).eq(row.from_version.0 + 1..=row.version.0) {
            fold.found(row.version, "an increment does not hold the versions that its footer names");
            return Ok(());
        }
        self.take(fold, body, row.version).await?;
        if fold.folded.version == row.version && fold.folded.chain != row.chain {
            fold.found(row.version, "its events have another hash chain than its footer says");
        }
        Ok(())
    }

    /// Folds the events of a body that follow on, up to a version.
    async fn take(&self, fold: &mut Fold, body: IncrementBody, upto: Version) -> Result<()> {
        let Folding { rules, decoder, .. } = self.folding;
        let preparing = decoder.prepare(&mut body.events.iter().map(|event| &event.record));
        if let Some(preparing) = preparing {
            preparing.await.map_err(|error| unavailable("fetch a schema", &error))?;
        }
        for event in body.events {
            if event.version != fold.folded.version.next() || event.version > upto {
                continue;
            }
            let decoded = decoder.decode(event.record);
            if let Err(error) = rules.refold(&mut fold.folded, event.version, event.skipped, &decoded) {
                fold.found(event.version, &error.detail);
                return Ok(());
            }
            fold.events += 1;
        }
        Ok(())
    }

    async fn full(&self, fold: &mut Fold, row: &SnapshotRow) -> Result<()> {
        let stored = match self.packs.full(row).await {
            Ok(body) => Aggregate::from_body(body),
            Err(error) => return fold.failed(row.version, error),
        };
        fold.states += 1;
        if state_digest(&stored.state)? != row.state_digest {
            fold.found(row.version, "a state does not have the digest that its footer names");
        }
        if fold.folded.version == stored.version {
            fold.compare(&stored)?;
        }
        if fold.folded.version < stored.version {
            // No events lead up to it: it is what the next ones follow on.
            fold.folded = stored;
        }
        Ok(())
    }

    /// What live checkpoints hold beyond the rows.
    async fn pending(&self, fold: &mut Fold, partition: PartitionNo) -> Result<()> {
        let (log, rows) = (self.log(partition), self.checkpoints(partition).await?);
        let mut entries: Vec<EntryRef> = Vec::new();
        for row in rows {
            match self.packs.held(&row, &fold.key).await {
                Ok(held) => entries.extend(held.map(|(held, _)| held.entry)),
                Err(error) => fold.failed(fold.folded.version, error)?,
            }
        }
        entries.sort_by_key(|entry| (entry.from, entry.upto, entry.pack));
        for entry in entries {
            match self.packs.entry(&log, &fold.key, &entry).await {
                Ok(body) => self.take(fold, body, entry.upto).await?,
                Err(error) => fold.failed(entry.upto, error)?,
            }
            if entry.upto > fold.folded.version && !entry.marked {
                fold.found(entry.upto, "what a checkpoint holds does not follow on what is stored before it");
            }
        }
        Ok(())
    }
}

impl Fold {
    fn found(&mut self, version: Version, what: &str) {
        self.problems.push(format!("`{}` at version {version}: {what}", self.key));
    }

    /// A record that cannot be read is a finding; a store that does not answer ends everything.
    fn failed(&mut self, version: Version, error: Error) -> Result<()> {
        if error.kind == ErrorKind::Unavailable {
            return Err(error);
        }
        self.found(version, &error.detail);
        Ok(())
    }

    fn compare(&mut self, stored: &Aggregate) -> Result<()> {
        let version = stored.version;
        if self.folded.chain != stored.chain {
            self.found(version, "the stored events have another hash chain than the state");
        }
        if state_digest(&self.folded.state)? != state_digest(&stored.state)? {
            self.found(version, "the stored events fold to another state");
        }
        let place = |of: &Aggregate| (of.offset, of.effective_time);
        if place(&self.folded) != place(stored) {
            self.found(version, "the stored events end at another offset or effective time");
        }
        Ok(())
    }
}

fn state_digest(state: &State) -> Result<Option<Digest>> {
    let Some(text) = state.to_json() else { return Ok(None) };
    let limits = Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    let value = Value::parse(&text, &limits);
    Ok(Some(value.map_err(|error| Error::corrupt(format!("read a state: {error}")))?.digest()))
}
