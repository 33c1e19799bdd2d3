//! An index out of objects alone: footers of packs, ledger, dictionaries.
//!
//! *Order*: as whoever wrote them first wrote them. Dictionaries; then what the ledger says, deletions among
//!   it; then of each aggregate its listing, its increments' rows one after the other, its full rows; then
//!   rows of checkpoints; then low watermarks, so that an index without these is one that is not whole, and
//!   no worker starts on it.
//! *If it fails*: a write is repeated until it is acknowledged; what does not answer for a minute ends the
//!   rebuild, which may be started again: all it writes are facts, and the same each time. An object that
//!   cannot be read is told, and no low watermark is written unless the caller accepts the loss.
//! *If cancelled*: as if it failed. *What may leak*: nothing.
//!
//! Of a log that has rows and whose low watermark no pack tells it writes one of no topic, at the end:
//! it moves nobody's start, and keeps the next owner from taking itself for the first (docs/adr/0027).
//!
//! Beside live workers only facts are added: rows that are there stay as they are, a checkpoint's deletion
//! outlives its row (T1), of low watermarks the largest counts.
//!
//! What does not come back: lineages that were dropped, but for their low watermarks; dead letters (no pack
//! holds them), who owns what (workers say so again), how long a snapshot took to be written.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the order, the report |
//! | `ledger` | what the ledger says: notes, holds, schedules, deletions |
//! | `lost` | whether an index was lost |
//! | [`plan`] | what one aggregate's rows are |
//! | `survey` | which packs there are, and what their footers say of checkpoints and watermarks |
//! | `write` | writes until they are acknowledged |

mod ledger;
mod lost;
mod plan;
mod survey;
mod write;

pub use lost::is_lost;

use super::index::Index;
use super::lineages::Dropped;
use super::packs::Packs;
use crate::clock::Clock;
use crate::codec::pack::Footer;
use crate::codec::wire::from_hex;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, Offset, PackId};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow, WatermarkRow};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use ledger::Deleted;
use plan::{Draft, Found, Part, Pending, Planned, plan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use survey::{Known, Survey};

/// How a rebuild goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Footers and objects that are read at the same time.
    pub reads: usize,
    /// Aggregates whose rows are written at the same time.
    pub writes: usize,
    /// Entries that are held in memory at once; what is more is done in several passes over the footers.
    pub entries_max: usize,
    /// Nothing is written.
    pub dry_run: bool,
    /// Low watermarks are written though objects are missing or damaged.
    pub accept_losses: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reads: 32, writes: 1_024, entries_max: 400_000, dry_run: false, accept_losses: false }
    }
}

/// How far a rebuild has come, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Packs there are.
    pub packs: AtomicU64,
    /// Footers read.
    pub footers: AtomicU64,
    /// Records of snapshot packs there are.
    pub records: AtomicU64,
    /// Records dealt with.
    pub done: AtomicU64,
}

/// What a rebuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Packs whose footers were read: full, history, checkpoint.
    pub packs: [u64; 3],
    /// Aggregates listed.
    pub aggregates: u64,
    /// Snapshot rows written.
    pub rows: u64,
    /// Snapshot rows that were there already.
    pub there: u64,
    /// Rows of checkpoints that are still needed.
    pub checkpoints: u64,
    /// Checkpoints' parts of which rows hold everything: not listed again.
    pub superseded: u64,
    /// Notes.
    pub notes: u64,
    /// Rows of schedules, from the ledger: each change is one.
    pub schedules: u64,
    /// Holds, and ends of holds.
    pub holds: u64,
    /// Rows that were deleted: they stay so.
    pub deleted: u64,
    /// Dictionaries.
    pub dictionaries: u64,
    /// Low watermarks.
    pub watermarks: u64,
    /// Aggregates that were erased: nothing of them comes back.
    pub erased: u64,
    /// Aggregates of lineages that were dropped, of each lineage: nothing of them comes back.
    pub dropped: u64,
    /// Full records of flushes that were never acknowledged: not listed.
    pub lone: u64,
    /// What is missing or damaged, and what that costs.
    pub problems: Vec<String>,
}

/// Rebuilds an index.
pub struct Rebuild {
    /// What is rebuilt.
    pub index: Arc<dyn Index>,
    /// What it is rebuilt from.
    pub packs: Arc<Packs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The topic of each aggregate type, for packs that do not name theirs.
    pub topics: BTreeMap<Arc<str>, Arc<str>>,
    /// How.
    pub settings: Settings,
    /// How far it is.
    pub progress: Arc<Progress>,
}

type Group = (AggregateKey, Part);

/// What was met on the way.
#[derive(Default)]
struct Seen {
    /// Checkpoints that are still needed.
    live: BTreeSet<(PackId, Part)>,
    /// Logs that have rows.
    parts: BTreeSet<Part>,
}

/// The lineages of each type's topic that were dropped.
#[derive(Default)]
struct Drops(BTreeMap<Arc<str>, Dropped>);

impl Drops {
    fn has(&self, part: &Part) -> bool {
        let is_dropped = self.0.get(&part.0).is_some_and(|dropped| dropped.has(part.2));
        is_dropped && !mutant(Mutant::RebuildRevivesDropped)
    }
}

impl Rebuild {
    /// Writes all rows that the objects tell of.
    ///
    /// # Errors
    /// `Unavailable` if a store does not answer: start again.
    pub async fn run(&self) -> Result<Rebuilt> {
        let mut report = Rebuilt::default();
        self.dictionaries(&mut report).await?;
        self.until_sound(|| self.packs.erasures.refresh()).await?;
        let deleted = self.ledger(&mut report).await?;
        let survey = self.survey(&mut report).await?;
        let dropped = self.dropped(&survey).await?;
        let is_fresh = self.is_fresh(&survey).await?;
        self.delete(&deleted, is_fresh).await?;
        let slices = survey.entries.div_ceil(self.settings.entries_max as u64).max(1);
        let mut seen = Seen::default();
        for slice in 0..slices {
            let found = self.slice(&survey, slice, slices).await?;
            let known = (&survey, &deleted, &dropped, is_fresh);
            self.rows(found, known, &mut seen, &mut report).await?;
        }
        if !mutant(Mutant::RebuildForgetsCheckpoints) {
            self.checkpoints(&survey, &seen.live, &mut report).await?;
        }
        if report.problems.is_empty() || self.settings.accept_losses {
            self.watermarks(&survey, &seen.parts, &mut report).await?;
        }
        Ok(report)
    }

    /// No row of any aggregate is there, so none has to be looked for.
    async fn is_fresh(&self, survey: &Survey) -> Result<bool> {
        for kind in survey.kinds.iter().chain(self.topics.keys()) {
            let known = self.until_read("list aggregates", || self.index.aggregates(kind, None, 1)).await?;
            if !known.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The topic of a type: the one that the configuration names, else the one that checkpoints do.
    fn topic_of<'t>(&'t self, survey: &'t Survey, kind: &Arc<str>) -> Option<&'t Arc<str>> {
        self.topics.get(kind).or_else(|| survey.topic_of(kind))
    }

    /// The lineages that were dropped.
    async fn dropped(&self, survey: &Survey) -> Result<Drops> {
        let mut drops = Drops::default();
        for kind in survey.kinds.iter().chain(self.topics.keys()) {
            let Some(topic) = self.topic_of(survey, kind) else { continue };
            let history = self.until_sound(|| super::lineages::history(&*self.packs.blobs, topic)).await?;
            drops.0.insert(Arc::clone(kind), Dropped::of(&history));
        }
        Ok(drops)
    }

    /// What the footers say of the aggregates of one slice.
    async fn slice(&self, survey: &Survey, slice: u64, slices: u64) -> Result<BTreeMap<Group, Found>> {
        let mut found: BTreeMap<Group, Found> = BTreeMap::new();
        let read = |at: usize| async move {
            let Known { class, pack, footer } = &survey.packs[at];
            let footer = match footer {
                Some(footer) => Arc::clone(footer),
                None => Arc::new(self.footer(*class, *pack).await?.0),
            };
            Ok::<_, Error>((at, footer))
        };
        let mut reads = stream::iter(0..survey.packs.len()).map(read).buffer_unordered(self.settings.reads);
        while let Some(read) = reads.next().await {
            let (at, footer) = read?;
            collect(&survey.packs[at], &footer, (slice, slices), &mut found)?;
        }
        Ok(found)
    }

    /// Plans and writes the rows of many aggregates; notes which checkpoints are still needed.
    async fn rows(
        &self,
        found: BTreeMap<Group, Found>,
        (survey, deleted, dropped, is_fresh): (&Survey, &Deleted, &Drops, bool),
        seen: &mut Seen,
        report: &mut Rebuilt,
    ) -> Result<()> {
        let all = found.len();
        let found: BTreeMap<Group, Found> =
            found.into_iter().filter(|((_, part), _)| !dropped.has(part)).collect();
        report.dropped += (all - found.len()) as u64;
        let all = found.len();
        let kept = found.into_iter().filter(|((key, _), _)| self.packs.erasures.of(key).is_none());
        let kept: Vec<(Group, Found)> = kept.collect();
        report.erased += (all - kept.len()) as u64;
        let planned = kept.into_iter().map(|((key, part), found)| {
            let planned = plan(found, survey.low(&part), deleted.of(&key, part.2));
            (key, part, planned)
        });
        let mut writes = stream::iter(planned)
            .map(|(key, part, planned)| async move {
                let written = self.aggregate(&key, &part, &planned, is_fresh).await?;
                Ok::<_, Error>((key, part, planned, written))
            })
            .buffer_unordered(self.settings.writes);
        while let Some((key, part, planned, written)) = writes.try_next().await? {
            let (rows, there, problems) = written;
            report.rows += rows;
            report.there += there;
            report.aggregates += u64::from(rows + there > 0);
            report.lone += planned.lone;
            let lost = planned.lost.iter();
            report.problems.extend(lost.map(|version| {
                format!("the events of `{key}` up to version {version} are in no pack: one is missing")
            }));
            report.problems.extend(problems);
            seen.live.extend(planned.live.iter().map(|pack| (*pack, part.clone())));
            seen.parts.extend((rows + there > 0).then_some(part));
        }
        Ok(())
    }

    /// The rows of one aggregate: how many were written, how many were there, what is wrong.
    async fn aggregate(
        &self,
        key: &AggregateKey,
        part: &Part,
        planned: &Planned,
        is_fresh: bool,
    ) -> Result<(u64, u64, Vec<String>)> {
        let all = (planned.increments.len() + planned.fulls.len()) as u64;
        if all == 0 {
            return Ok((0, 0, Vec::new()));
        }
        let there = match is_fresh {
            true => BTreeSet::new(),
            false => self.there(key, part.2).await?,
        };
        self.written("list an aggregate", || self.index.put_aggregate(key, part.1)).await?;
        let mut problems = Vec::new();
        let mut written = 0;
        for drafts in [&planned.increments, &planned.fulls] {
            let mut rows = Vec::new();
            for draft in drafts.iter().filter(|draft| !there.contains(&(draft.row.version, draft.row.pack))) {
                match self.whole(draft).await {
                    Ok(row) => rows.push(row),
                    Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                    Err(error) => {
                        let version = draft.row.version;
                        problems.push(format!("`{key}` at version {version}: {}", error.detail));
                        rows.push(draft.row.clone());
                    }
                }
            }
            written += rows.len() as u64;
            // A row that is seen means that all ahead of it are acknowledged.
            for rows in rows.chunks(self.index.rows_at_once()) {
                self.written("write snapshot rows", || self.index.put_snapshots(rows.to_vec())).await?;
            }
        }
        self.progress.done.fetch_add(all, Ordering::Relaxed);
        Ok((written, all - written, problems))
    }

    /// A row with what its footer does not say, from its record.
    async fn whole(&self, draft: &Draft) -> Result<SnapshotRow> {
        let mut row = draft.row.clone();
        if row.kind == RecordKind::Full && (draft.without_chain || draft.without_facts) {
            let body = self.until_sound(|| self.packs.full(&row)).await?;
            row.chain = body.chain;
            if draft.without_facts {
                row.event_type = body.last_event_type;
                let state = body.state.as_deref().map(super::encode::canonical).transpose()?;
                row.state_bytes = state.map(|bytes| bytes.len() as u64);
            }
        }
        Ok(row)
    }

    async fn checkpoints(
        &self,
        survey: &Survey,
        live: &BTreeSet<(PackId, Part)>,
        report: &mut Rebuilt,
    ) -> Result<()> {
        let mut rows = Vec::new();
        for ((pack, part), held) in &survey.checkpoints {
            if !live.contains(&(*pack, part.clone())) {
                report.superseded += 1;
                continue;
            }
            let Some(topic) = survey.topic(part).or_else(|| self.topics.get(&part.0)) else {
                let what = "names no topic, and no stream of the configuration has its type";
                report.problems.push(format!("checkpoint `{pack}` of type `{}` {what}", part.0));
                continue;
            };
            let key = PartitionKey { topic: Arc::clone(topic), partition: part.1, lineage: part.2 };
            rows.push(CheckpointRow {
                key,
                pack: *pack,
                first_offset: held.first_offset,
                end_offset: held.last_offset.next(),
                entries: held.entries,
                object_bytes: held.object_bytes,
            });
        }
        report.checkpoints = rows.len() as u64;
        let put = |row: CheckpointRow| async move {
            self.written("write a checkpoint row", || self.index.put_checkpoint(row.clone())).await
        };
        stream::iter(rows).map(put).buffer_unordered(self.settings.writes).try_collect().await
    }

    /// All low watermarks that are known. Of a log that has rows and whose low watermark no pack tells, it is
    /// said that somebody was here: its next owner is not the first one, and looks for these rows.
    async fn watermarks(&self, survey: &Survey, parts: &BTreeSet<Part>, report: &mut Rebuilt) -> Result<()> {
        let mut rows: Vec<WatermarkRow> = survey.watermarks().collect();
        report.watermarks = rows.len() as u64;
        let unknown = parts.iter().filter(|part| survey.low(part).is_none());
        let unknown = unknown.filter(|_| !mutant(Mutant::RebuiltOwnerIsFirst));
        rows.extend(unknown.filter_map(|part| {
            let topic = self.topic_of(survey, &part.0)?;
            let key = PartitionKey { topic: Arc::clone(topic), partition: part.1, lineage: part.2 };
            Some(WatermarkRow {
                key,
                topic_id: WatermarkRow::NO_TOPIC,
                leader_epoch: -1,
                low_watermark: Offset(0),
            })
        }));
        let put = |row: WatermarkRow| async move {
            self.written("write a low watermark", || self.index.put_watermark(row.clone())).await
        };
        stream::iter(rows).map(put).buffer_unordered(self.settings.writes).try_collect().await
    }

    async fn dictionaries(&self, report: &mut Rebuilt) -> Result<()> {
        for name in self.names("v1/dict/").await? {
            let id = name.rsplit('/').next().and_then(from_hex).map(Digest);
            let read = match id {
                Some(id) => {
                    self.until_sound(|| self.packs.dictionary_object(id)).await.map(|bytes| (id, bytes))
                }
                None => Err(Error::corrupt("it is not named like a dictionary")),
            };
            match read {
                Ok((id, bytes)) => {
                    self.written("write a dictionary", || self.index.put_dictionary(id, bytes.clone()))
                        .await?;
                    report.dictionaries += 1;
                }
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                Err(error) => report.problems.push(format!("`{name}`: {}", error.detail)),
            }
        }
        Ok(())
    }
}

/// Adds what one footer says of the aggregates of a slice.
fn collect(
    known: &Known,
    footer: &Footer,
    (slice, slices): (u64, u64),
    found: &mut BTreeMap<Group, Found>,
) -> Result<()> {
    let facts = footer.facts()?;
    for (at, facts) in facts.iter().enumerate() {
        let stretch = footer.stretch(at)?;
        let id = footer.id(at)?;
        if u64::from(crc32c::crc32c(id.key.id.as_bytes())) % slices != slice {
            continue;
        }
        let part = (Arc::clone(&id.key.kind), stretch.partition, stretch.lineage);
        let found = found.entry((id.key, part)).or_default();
        if known.is_checkpoint() {
            let (upto, marked) = (stretch.upto, stretch.is_quarantined);
            found.pending.push(Pending { pack: known.pack, upto, marked });
        } else {
            found.drafts.push(Draft::of(footer, at, facts.as_ref())?);
        }
    }
    Ok(())
}
