//! What is stored: of one aggregate day by day, of a whole stream, in packs. All of it is counted from rows
//! and objects when somebody asks; nothing is kept for it.
//!
//! COST: a stream is counted by one walk over its aggregates, one read of rows for each; the sizes of packs
//! are asked once, because a pack never changes.

use super::{Asked, Lookup, Refusal};
use crate::codec::pack::Class;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::partition::Listing;
use crate::domain::row::{RecordKind, SnapshotRow};
use crate::store::index::{From, RowWalk};
use crate::store::unavailable;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Snapshots of one aggregate that one question counts.
const SNAPSHOTS_MAX: u64 = 200_000;
/// Ids, rows and names of one page.
const PAGE: usize = 1_000;
/// Aggregates and packs that are read at the same time.
const READS: usize = 16;
/// Dead letters of a stream that are counted; more count as so many.
const LETTERS_MAX: usize = 10_000;

/// The snapshots that were taken on one day, UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayStats {
    /// How many of those that are stored were taken.
    pub created: u64,
    /// How many were deleted.
    pub deleted: u64,
    /// Stored bytes of those that were taken.
    pub bytes: u64,
    /// Milliseconds that it took to write them, all together.
    pub creation_ms: u64,
    /// Those that were taken by trigger, in the order of its variants.
    pub by_trigger: [u64; 8],
}

/// The snapshots of one aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AggregateStats {
    /// How many are stored.
    pub snapshots: u64,
    /// Their bytes in packs.
    pub bytes: u64,
    /// Their bytes before compression.
    pub raw_bytes: u64,
    /// Day by day, by the number of the day since 1970.
    pub days: BTreeMap<i64, DayStats>,
}

impl AggregateStats {
    fn add(&mut self, row: &SnapshotRow, is_wanted: bool) {
        self.snapshots += 1;
        self.bytes += row.stored_bytes;
        self.raw_bytes += row.raw_bytes;
        if is_wanted {
            let day = self.days.entry(row.created_at.0.div_euclid(DAY_MS)).or_default();
            day.created += 1;
            day.bytes += row.stored_bytes;
            day.creation_ms += u64::from(row.creation_ms);
            day.by_trigger[row.trigger as usize] += 1;
        }
    }
}

/// Records of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Their bytes in packs.
    pub stored: u64,
    /// Their bytes before compression.
    pub raw: u64,
}

/// A whole stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Aggregates, deleted ones too.
    pub aggregates: u64,
    /// Their versions, all together.
    pub events: u64,
    /// Snapshots that are stored.
    pub snapshots: u64,
    /// Aggregates that stand still, as far as rows and checkpoints tell.
    pub quarantined: u64,
    /// Events that could not be folded, 10,000 at the most.
    pub dead_letters: u64,
    /// Full records.
    pub full: Sizes,
    /// Increments.
    pub increments: Sizes,
    /// Bytes of checkpoints that are live.
    pub live_checkpoint_bytes: u64,
}

/// Objects of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackTotal {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Bytes of each pack that was looked at, by name.
pub type KnownPacks = BTreeMap<String, u64>;

/// What one aggregate adds to a survey.
#[derive(Default)]
struct Share {
    version: Version,
    snapshots: u64,
    is_quarantined: bool,
    full: Sizes,
    increments: Sizes,
}

impl Lookup {
    /// The snapshots of an aggregate, those taken within a stretch of time day by day.
    ///
    /// # Errors
    /// `UnknownAggregate`; `TooMuchWork` where there are too many to count; a fault.
    pub async fn day_stats(
        &self,
        id: &str,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Asked<AggregateStats> {
        let key = self.key(id);
        let is_wanted =
            |time: Timestamp| from.is_none_or(|from| time >= from) && to.is_none_or(|to| time <= to);
        let mut stats = AggregateStats::default();
        let mut versions = self.versions(&key, From::Newest);
        while let Some(row) = versions.next().await? {
            stats.add(&row, is_wanted(row.created_at));
            if stats.snapshots > SNAPSHOTS_MAX {
                return Err(Refusal::TooMuchWork { events: stats.snapshots, max: SNAPSHOTS_MAX });
            }
        }
        if stats.snapshots == 0 && self.locate(&key).await?.is_none() {
            return Err(Refusal::UnknownAggregate);
        }
        let deletions = self.reader().index.deletions(&key, self.0.parts.lineage).await;
        let deletions = deletions.map_err(|error| unavailable("read deletions", &error))?;
        let deletions = deletions.into_iter().filter(|deletion| !deletion.is_of_garbage());
        for at in deletions.map(|deletion| deletion.minted_at()).filter(|at| is_wanted(*at)) {
            stats.days.entry(at.0.div_euclid(DAY_MS)).or_default().deleted += 1;
        }
        Ok(stats)
    }

    /// Counts the whole stream.
    ///
    /// # Errors
    /// A fault.
    pub async fn counted(&self) -> Asked<Survey> {
        let mut survey = Survey::default();
        let mut listing = Listing { prefix: "".into(), after: None, limit: PAGE };
        loop {
            let gathered = self.gather(&listing).await?;
            let shares = iter(gathered.ids).map(|id| {
                let resident = gathered.residents.get(&id).map(|resident| resident.version);
                let entries = gathered.views.values().flat_map(|(_, view)| &view.checkpoints);
                let entries = entries.filter_map(|live| live.entries.find(&id)).map(|(_, entry)| entry);
                let (mut known, mut is_marked) = (resident.unwrap_or_default(), false);
                for entry in entries {
                    known = known.max(entry.upto);
                    is_marked |= entry.marked;
                }
                async move { self.share(&id, known, is_marked).await }
            });
            let shares: Vec<Share> = shares.buffer_unordered(READS).try_collect().await?;
            shares.iter().for_each(|share| survey.add(share));
            let Some(last) = gathered.last else { break };
            listing.after = Some(last);
        }
        let mut live: BTreeSet<(PackId, u64)> = BTreeSet::new();
        let mut letters = 0;
        for partition in 0..i32::try_from(self.partition_count().await?).unwrap_or(i32::MAX) {
            let log = self.log_of(PartitionNo(partition));
            let rows = self.reader().index.checkpoints(&log).await;
            let rows = rows.map_err(|error| unavailable("read checkpoints", &error))?;
            live.extend(rows.into_iter().map(|row| (row.pack, row.object_bytes)));
            letters += self.letters_of(&log, LETTERS_MAX - letters).await?;
        }
        survey.dead_letters = letters as u64;
        survey.live_checkpoint_bytes = live.into_iter().map(|(_, bytes)| bytes).sum();
        Ok(survey)
    }

    async fn share(&self, id: &Arc<str>, known: Version, is_marked: bool) -> Asked<Share> {
        let mut share = Share { version: known, is_quarantined: is_marked, ..Share::default() };
        let key = self.key(id);
        let mut last: Option<Version> = None;
        let mut walk = RowWalk::new(&*self.reader().index, &key, self.0.parts.lineage, From::Newest, PAGE);
        while let Some(rows) = walk.read().await? {
            for row in &rows {
                share.is_quarantined |= row.quarantined && row.version >= share.version;
                share.version = share.version.max(row.version);
                let sizes = match row.kind {
                    RecordKind::Full => &mut share.full,
                    RecordKind::Increment | RecordKind::Segment => &mut share.increments,
                };
                sizes.stored += row.stored_bytes;
                sizes.raw += row.raw_bytes;
                share.snapshots += u64::from(row.version > Version(0) && last != Some(row.version));
                last = Some(row.version);
            }
        }
        Ok(share)
    }

    async fn letters_of(&self, log: &crate::domain::row::PartitionKey, most: usize) -> Asked<usize> {
        let (mut count, mut from) = (0, Offset(0));
        while count < most {
            let letters = self.reader().index.dead_letters(log, from, PAGE.min(most - count)).await;
            let letters = letters.map_err(|error| unavailable("read dead letters", &error))?;
            let Some(last) = letters.last() else { break };
            from = last.offset.next();
            count += letters.len();
        }
        Ok(count)
    }

    /// All packs by class; `known` are those whose sizes were asked before, and is what there is now.
    ///
    /// # Errors
    /// A fault.
    pub async fn packs(&self, known: &mut KnownPacks) -> Asked<BTreeMap<Class, PackTotal>> {
        let blobs = &self.reader().packs.blobs;
        let mut totals = BTreeMap::new();
        let mut found = KnownPacks::new();
        for class in [Class::Full, Class::History, Class::Checkpoint] {
            let prefix = format!("v1/{}/", class.name());
            let (mut total, mut after) = (PackTotal::default(), None::<String>);
            loop {
                let names = blobs.list(&prefix, after.as_deref(), PAGE).await;
                let names = names.map_err(|error| unavailable("list packs", &error))?;
                let Some(last) = names.last().cloned() else { break };
                let sizes = iter(names).map(|name| {
                    let size = known.get(&name).copied();
                    async move {
                        let size = match size {
                            Some(size) => size,
                            // One that was deleted meanwhile has no bytes.
                            None => match blobs.get_tail(&name, 1).await {
                                Ok((_, whole)) => whole,
                                Err(crate::domain::outcome::PortError::Missing) => 0,
                                Err(error) => return Err(unavailable("ask for the size of a pack", &error)),
                            },
                        };
                        Ok::<_, Error>((name, size))
                    }
                });
                let sizes: Vec<(String, u64)> = sizes.buffer_unordered(READS).try_collect().await?;
                for (name, size) in sizes {
                    total.packs += 1;
                    total.bytes += size;
                    found.insert(name, size);
                }
                after = Some(last);
            }
            totals.insert(class, total);
        }
        *known = found;
        Ok(totals)
    }
}

impl Survey {
    fn add(&mut self, share: &Share) {
        if share.version == Version(0) && !share.is_quarantined {
            return;
        }
        self.aggregates += 1;
        self.events += share.version.0;
        self.snapshots += share.snapshots;
        self.quarantined += u64::from(share.is_quarantined);
        for (sum, of) in [(&mut self.full, share.full), (&mut self.increments, share.increments)] {
            sum.stored += of.stored;
            sum.raw += of.raw;
        }
    }
}

/// The answer where counting takes longer than anybody waits.
#[must_use]
pub fn still_counting() -> Refusal {
    let detail = "what is stored is still being counted";
    Refusal::Failed(Error::new(ErrorKind::Unavailable, "overloaded", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AggregateKey;
    use crate::domain::row::Trigger;
    use crate::store::index::suite;

    #[test]
    fn days_hold_what_was_taken_on_them() {
        let key = AggregateKey { kind: "order".into(), id: "a".into() };
        let row = |version, day: i64, trigger| SnapshotRow {
            created_at: Timestamp(day * DAY_MS + 5),
            creation_ms: 10 * u32::try_from(version).unwrap(),
            stored_bytes: 100,
            raw_bytes: 400,
            trigger,
            ..suite::snapshot(&key, 1, version, PackId::default())
        };
        let mut stats = AggregateStats::default();
        stats.add(&row(1, 3, Trigger::Events), true);
        stats.add(&row(2, 3, Trigger::Schedule), true);
        stats.add(&row(3, -1, Trigger::Manual), true);
        stats.add(&row(4, 9, Trigger::Manual), false);
        assert_eq!((stats.snapshots, stats.bytes, stats.raw_bytes), (4, 400, 1_600));
        assert_eq!(stats.days.keys().copied().collect::<Vec<_>>(), [-1, 3]);
        let third = &stats.days[&3];
        assert_eq!((third.created, third.bytes, third.creation_ms), (2, 200, 30));
        assert_eq!(third.by_trigger, [1, 0, 0, 0, 1, 0, 0, 0]);
    }
}
