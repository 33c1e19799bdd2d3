//! Which states a new reducer would change: stored events folded again, beside the states that are stored.
//! Nothing is written.
//!
//! *Order*: that of every reader. *If it fails*: an aggregate whose events are not all stored is told as
//!   such; a port that fails ends the comparison. *If cancelled*: nothing was written. *What may leak*:
//!   nothing.
//!
//! COST: without the old reducer, states are compared where full snapshots are stored; with it, every
//! version.

use crate::domain::aggregate::{Aggregate, Folded, Rules, State, id_hash};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decoded;
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PartitionNo, Version};
use crate::domain::poison::Poison;
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::domain::value::{Limits, Value};
use crate::reconstruct::Reconstructor;
use crate::store::index::From;
use crate::store::unavailable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PAGE: usize = 256;

/// What came of one aggregate.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Events that were folded.
    pub events: u64,
    /// Versions at which both states were known.
    pub versions: u64,
    /// The first of them at which they differ.
    pub first: Option<Version>,
    /// The last of them.
    pub last: Version,
    /// The states at the last of them; null where it is deleted.
    pub states: Option<(Value, Value)>,
    /// The first event that the new reducer does not take, and how many there are.
    pub poison: Option<(Offset, Poison)>,
    /// How many there are.
    pub poisoned: u64,
    /// Why its history could not be folded, or not all of it.
    pub untold: Option<String>,
}

impl Compared {
    /// The states differ at the last version that is known of both.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.states.as_ref().is_some_and(|(before, after)| before != after)
    }
}

/// Folds the events of one aggregate below `until` with the reader's rules, which are the new ones, and
/// compares with `before`, or with full snapshots where that is not given.
///
/// # Errors
/// `Unavailable`.
pub async fn compare(
    reader: &Reconstructor,
    before: Option<&Rules>,
    partition: &PartitionKey,
    key: &AggregateKey,
    until: Offset,
) -> Result<Compared> {
    let view = reader.view_of(partition, key).await?;
    let held = view.checkpoints.into_iter().map(|held| held.entry).collect();
    let fulls = match before {
        Some(_) => BTreeMap::new(),
        None => fulls(reader, partition, key, until).await?,
    };
    let mut both = Both {
        rules: &reader.rules,
        old: before.map(|rules| (rules, Aggregate::genesis(&key.kind, &key.id))),
        new: Aggregate::genesis(&key.kind, &key.id),
        compared: Compared::default(),
    };
    let mut at_last = None;
    let mut history = reader.history(partition, key, held, until);
    loop {
        let stretch = match history.next().await {
            Ok(Some(stretch)) => stretch,
            Ok(None) => break,
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                both.compared.untold = Some(error.detail);
                break;
            }
        };
        reader.prepare(&stretch.events).await?;
        for event in stretch.events {
            let (version, skipped) = (event.version, event.skipped);
            both.fold(&reader.decoder.decode(event.record), version, skipped);
            if let Some(full) = fulls.get(&version) {
                both.note(version, digest(&both.new.state)? == full.state_digest);
                at_last = Some((full, both.new.cooled_copy()));
            }
        }
    }
    if let Some((full, new)) = at_last {
        let old = Aggregate::from_body(reader.packs.full(full).await?);
        both.compared.states = Some((tree(&old.state)?, tree(&new.state)?));
    } else if let Some((_, old)) = &both.old
        && both.compared.versions > 0
    {
        both.compared.states = Some((tree(&old.state)?, tree(&both.new.state)?));
    }
    Ok(both.compared)
}

/// An aggregate under both reducers, or under the new one alone.
struct Both<'a> {
    rules: &'a Rules,
    old: Option<(&'a Rules, Aggregate)>,
    new: Aggregate,
    compared: Compared,
}

impl Both<'_> {
    fn fold(&mut self, decoded: &Decoded, version: Version, skipped: bool) {
        self.compared.events += 1;
        match self.rules.fold(&mut self.new, decoded) {
            Folded::Applied | Folded::Duplicate => {}
            // It was poison before, too.
            Folded::Skipped(_) if skipped => {}
            Folded::Skipped(poison)
            | Folded::Quarantined(poison)
            | Folded::Refused(poison)
            | Folded::Halt(poison) => {
                self.compared.poisoned += 1;
                let offset = decoded.record.offset;
                self.compared.poison.get_or_insert((offset, poison));
            }
        }
        let Some((rules, old)) = &mut self.old else { return };
        if rules.refold(old, version, skipped, decoded).is_ok() {
            let same = match (&old.state, &self.new.state) {
                (State::Absent, State::Absent) => true,
                (State::Hot(old), State::Hot(new)) => old.value() == new.value(),
                _ => false,
            };
            self.note(version, same);
        }
    }

    fn note(&mut self, version: Version, same: bool) {
        self.compared.versions += 1;
        self.compared.last = version;
        if !same {
            self.compared.first.get_or_insert(version);
        }
    }
}

/// Full snapshots below `until`, by version.
async fn fulls(
    reader: &Reconstructor,
    partition: &PartitionKey,
    key: &AggregateKey,
    until: Offset,
) -> Result<BTreeMap<Version, SnapshotRow>> {
    let mut fulls = BTreeMap::new();
    let mut walk = reader.walk(key, partition, From::Above(Version(0)), PAGE);
    while let Some(page) = walk.read().await? {
        let is_it = |row: &SnapshotRow| row.kind == RecordKind::Full && row.last_offset < until;
        fulls.extend(page.into_iter().filter(is_it).map(|row| (row.version, row)));
    }
    Ok(fulls)
}

fn digest(state: &State) -> Result<Option<Digest>> {
    Ok(match state {
        State::Absent => None,
        State::Hot(tree) => Some(tree.value().digest()),
        State::Idle(_) => Some(tree(state)?.digest()),
    })
}

fn tree(state: &State) -> Result<Value> {
    match state {
        State::Absent => Ok(Value::Null),
        State::Hot(tree) => Ok(tree.value().clone()),
        State::Idle(text) => {
            let limits =
                Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
            let value = Value::parse(text, &limits);
            value.map_err(|error| Error::corrupt(format!("read a stored state: {error}")))
        }
    }
}

/// Where the events of a partition end that are stored, and its log.
pub type Ends = BTreeMap<PartitionNo, (PartitionKey, Offset)>;

/// The low watermarks of a lineage; without the partitions that have none.
///
/// # Errors
/// `Unavailable`.
pub async fn ends(
    reader: &Reconstructor,
    topic: &Arc<str>,
    lineage: Lineage,
    partitions: u32,
) -> Result<Ends> {
    reader.packs.erasures.refresh().await?;
    let mut ends = Ends::new();
    for number in 0..partitions {
        let partition = PartitionNo(i32::try_from(number).unwrap_or(i32::MAX));
        let key = PartitionKey { topic: Arc::clone(topic), partition, lineage };
        let rows = reader.index.watermarks(&key).await;
        let rows = rows.map_err(|error| unavailable("read the low watermark", &error))?;
        let ours = rows.into_iter().filter(|row| row.topic_id == reader.topic_id);
        if let Some(end) = ours.map(|row| row.low_watermark).max() {
            ends.insert(partition, (key, end));
        }
    }
    Ok(ends)
}

/// Aggregates of these partitions: all, or so many, the same ones each time.
///
/// # Errors
/// `Unavailable`.
pub async fn drawn(
    reader: &Reconstructor,
    ends: &Ends,
    sample: Option<usize>,
) -> Result<Vec<(AggregateKey, PartitionNo)>> {
    // COST: ids alone are kept, all of them only where all are asked for.
    let mut drawn = BTreeSet::new();
    let mut take = |key: AggregateKey, partition| {
        if reader.packs.erasures.check(&key).is_err() {
            return;
        }
        drawn.insert((id_hash(&key.id), key, partition));
        if sample.is_some_and(|sample| drawn.len() > sample) {
            drawn.pop_last();
        }
    };
    for (partition, (log, _)) in ends {
        for live in reader.view(log).await?.checkpoints {
            for entry in live.entries.iter() {
                let kind = Arc::clone(&reader.rules.kind);
                take(AggregateKey { kind, id: entry.id.to_string().as_str().into() }, *partition);
            }
        }
    }
    let mut after: Option<Arc<str>> = None;
    loop {
        let page = reader.index.aggregates(&reader.rules.kind, after.as_deref(), PAGE).await;
        let page = page.map_err(|error| unavailable("list aggregates", &error))?;
        let Some(last) = page.last().map(|(key, _)| Arc::clone(&key.id)) else { break };
        for (key, partition) in page {
            if ends.contains_key(&partition) {
                take(key, partition);
            }
        }
        after = Some(last);
    }
    Ok(drawn.into_iter().map(|(_, key, partition)| (key, partition)).collect())
}
