//! Lists: the aggregates of the stream's type, and its dead letters.
//!
//! An aggregate is listed if it has rows, if a live checkpoint holds it, or if it is in its owner's memory;
//! what only the log holds is folded by an owner in a moment. *Order*: per partition the owner, then the
//! checkpoints, then rows: what is evicted, or superseded, meanwhile is found further on.

use super::{Asked, ListItem, Lookup, Refusal};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, Offset, PartitionNo, Version};
use crate::domain::partition::{Listing, LiveCheckpoint, Resident};
use crate::domain::record::RawRecord;
use crate::domain::row::{DeadLetter, PartitionKey};
use crate::reconstruct::View;
use crate::store::index::From;
use crate::store::unavailable;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) type Views = BTreeMap<PartitionNo, (PartitionKey, View<LiveCheckpoint>)>;

/// A page of ids.
pub(super) struct Gathered {
    pub(super) ids: Vec<Arc<str>>,
    /// Where the next page starts, if there may be one.
    pub(super) last: Option<Arc<str>>,
    pub(super) residents: BTreeMap<Arc<str>, Resident>,
    /// Where the ids were found that owners and checkpoints know.
    places: BTreeMap<Arc<str>, PartitionNo>,
    pub(super) views: Views,
}

/// Aggregates whose newest version is read at the same time.
const READS: usize = 8;

impl Lookup {
    /// Up to `limit` aggregates whose ids start with `prefix` and come after `after`, in id order.
    ///
    /// # Errors
    /// A fault.
    pub async fn aggregates(&self, prefix: &str, after: Option<&str>, limit: usize) -> Asked<Vec<ListItem>> {
        let mut listing = Listing { prefix: prefix.into(), after: after.map(Arc::from), limit };
        let mut items = Vec::new();
        while items.len() < limit {
            listing.limit = limit - items.len();
            let (page, last) = self.page(&listing).await?;
            items.extend(page);
            let Some(last) = last else { break };
            listing.after = Some(last);
        }
        Ok(items)
    }

    /// Up to `limit` ids of aggregates, deleted ones too, that start with `prefix` and come after `after`, in
    /// order; and the id to go on from if there may be more.
    ///
    /// # Errors
    /// A fault.
    pub async fn ids(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Asked<(Vec<Arc<str>>, Option<Arc<str>>)> {
        let listing = Listing { prefix: prefix.into(), after: after.map(Arc::from), limit };
        let Gathered { ids, last, places, .. } = self.gather(&listing).await?;
        // COST: whoever asks about these next would look for each of them in every partition.
        for id in &ids {
            if let Some(partition) = places.get(id) {
                self.0.memo.keep_new(id, *partition);
            }
        }
        Ok((ids, last))
    }

    /// One page, and the id it ends at if there may be more. It can be short: an aggregate that was
    /// quarantined before its first event has no version to be listed with.
    async fn page(&self, listing: &Listing) -> Asked<(Vec<ListItem>, Option<Arc<str>>)> {
        let Gathered { ids, last, mut residents, views, .. } = self.gather(listing).await?;
        let items = iter(ids).map(|id| {
            let (resident, views) = (residents.remove(&id), &views);
            async move {
                match resident {
                    Some(resident) => Ok(Some(item(resident))),
                    None => self.at_rest(views, &id).await,
                }
            }
        });
        let items: Vec<Option<ListItem>> = items.buffered(READS).try_collect().await?;
        Ok((items.into_iter().flatten().collect(), last))
    }

    /// Which ids are listed, and what is known of them.
    pub(super) async fn gather(&self, listing: &Listing) -> Asked<Gathered> {
        let (prefix, after) = (&*listing.prefix, listing.after.as_deref());
        let mut residents: BTreeMap<Arc<str>, Resident> = BTreeMap::new();
        let mut views = Views::new();
        let mut ids: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut places = BTreeMap::new();
        for partition in 0..i32::try_from(self.partition_count().await?).unwrap_or(i32::MAX) {
            let log = self.log_of(PartitionNo(partition));
            for resident in self.residents(&log, listing).await? {
                ids.insert(Arc::clone(&resident.id));
                places.insert(Arc::clone(&resident.id), log.partition);
                residents.insert(Arc::clone(&resident.id), resident);
            }
            let _turn = self.admit().await?;
            let view = self.reader().view(&log).await?;
            if !view.is_whole() {
                let detail = "a live checkpoint cannot be read, so the list would not be complete";
                return Err(Refusal::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", detail)));
            }
            for checkpoint in &view.checkpoints {
                let from = checkpoint.entries.from_id(after.unwrap_or_default().max(prefix));
                let wanted = from
                    .take_while(|entry| entry.id.starts_with(prefix))
                    .filter(|entry| after.is_none_or(|after| *entry.id > *after));
                for entry in wanted.take(listing.limit) {
                    let id = Arc::<str>::from(&*entry.id);
                    places.insert(Arc::clone(&id), log.partition);
                    ids.insert(id);
                }
            }
            views.insert(log.partition, (log, view));
        }
        self.listed_rows(listing, &mut ids).await?;
        // SUBTLE: taken out after the page was cut, so that a page with fewer ids is still known to go on.
        let erased = self.reader().packs.erasures.ids(&self.reader().rules.kind);
        let ids: Vec<Arc<str>> = ids.into_iter().take(listing.limit).collect();
        let last = ids.last().filter(|_| ids.len() == listing.limit).cloned();
        let ids = ids.into_iter().filter(|id| !erased.contains(id)).collect();
        Ok(Gathered { ids, last, residents, places, views })
    }

    /// What the owner holds. O1, as for heads: nothing from an owner that is none any more.
    async fn residents(&self, log: &PartitionKey, listing: &Listing) -> Asked<Vec<Resident>> {
        let rows = self.reader().index.watermarks(log).await;
        let rows = rows.map_err(|error| unavailable("read the low watermark", &error))?;
        let low_watermark = rows.iter().map(|row| row.low_watermark).max().unwrap_or(Offset(0));
        let listed = self.0.parts.owners.list(log.partition, listing.clone()).await;
        let listed = listed.filter(|listed| listed.position >= low_watermark);
        Ok(listed.map(|listed| listed.residents).unwrap_or_default())
    }

    /// Adds the ids that have rows.
    async fn listed_rows(&self, listing: &Listing, ids: &mut BTreeSet<Arc<str>>) -> Asked<()> {
        let (reader, prefix) = (self.reader(), &*listing.prefix);
        let after = listing.after.as_deref();
        // The walk starts after an id, so the prefix itself is looked at alone.
        if after.is_none_or(|after| after < prefix) && !prefix.is_empty() {
            let key = self.key(prefix);
            let rows = reader.index.snapshots(&key, self.0.parts.lineage, From::Newest, 1).await;
            if !rows.map_err(|error| unavailable("read snapshot rows", &error))?.is_empty() {
                ids.insert(key.id);
            }
        }
        let start =
            after.filter(|after| *after >= prefix).or(Some(prefix).filter(|prefix| !prefix.is_empty()));
        let known = reader.index.aggregates(&reader.rules.kind, start, listing.limit).await;
        let known = known.map_err(|error| unavailable("list aggregates", &error))?;
        ids.extend(known.into_iter().map(|(key, _)| key.id).filter(|id| id.starts_with(prefix)));
        Ok(())
    }

    /// The newest version at rest; none if there is no version.
    async fn at_rest(&self, views: &Views, id: &Arc<str>) -> Asked<Option<ListItem>> {
        let key = self.key(id);
        let holds =
            |view: &View<LiveCheckpoint>| view.checkpoints.iter().any(|live| live.entries.find(id).is_some());
        let in_checkpoints = views.values().find(|(_, view)| holds(view));
        let here = match in_checkpoints {
            Some(here) => Some(here),
            None => self.partition_in_rows(&key).await?.and_then(|partition| views.get(&partition)),
        };
        let Some((log, view)) = here else { return Ok(None) };
        let view = &view.of(id);
        let newest = self.reader().newest_in(view, log, &key).await?;
        let (version, timestamp, deleted) = match newest.deleted {
            Some(deleted) => (newest.version(), newest.effective_time, Some(deleted)),
            // A checkpoint's table does not tell: only the events do.
            None => {
                let _turn = self.admit().await?;
                match self.reader().at_rest(view, log, &key).await {
                    Ok(aggregate) => {
                        (aggregate.version, aggregate.effective_time, Some(aggregate.is_deleted()))
                    }
                    // One that cannot be read must not keep the others from being listed.
                    Err(error) if is_loss(&error) && newest.is_entry_sure => {
                        (newest.version(), newest.effective_time, None)
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        Ok((version > Version(0)).then(|| ListItem { id: Arc::clone(id), version, timestamp, deleted }))
    }

    async fn partition_in_rows(&self, key: &AggregateKey) -> Asked<Option<PartitionNo>> {
        let rows = self.reader().index.snapshots(key, self.0.parts.lineage, From::Newest, 1).await;
        let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
        Ok(rows.first().map(|row| row.partition))
    }

    /// Up to `limit` dead letters, by partition and offset.
    ///
    /// # Errors
    /// A fault.
    pub async fn dead_letters(
        &self,
        after: Option<(PartitionNo, Offset)>,
        limit: usize,
    ) -> Asked<Vec<DeadLetter>> {
        let count = i32::try_from(self.partition_count().await?).unwrap_or(i32::MAX);
        let (first, from) = after.map_or((PartitionNo(0), Offset(0)), |(at, offset)| (at, offset.next()));
        let mut letters = Vec::new();
        for partition in first.0.max(0)..count {
            if letters.len() >= limit {
                break;
            }
            let log = self.log_of(PartitionNo(partition));
            let from = if log.partition == first { from } else { Offset(0) };
            let page = self.reader().index.dead_letters(&log, from, limit - letters.len()).await;
            letters.extend(page.map_err(|error| unavailable("read dead letters", &error))?);
        }
        // What is left of them is told by nobody.
        for letter in &mut letters {
            if letter.aggregate.as_ref().is_some_and(|key| self.reader().packs.erasures.check(key).is_err()) {
                letter.record = RawRecord { offset: letter.offset, ..RawRecord::default() };
                letter.detail = "its aggregate was erased".to_owned();
            }
        }
        Ok(letters)
    }
}

/// Whether it says that records cannot be read, now and later.
fn is_loss(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Gone | ErrorKind::Corrupt | ErrorKind::NotFound) && error.code != "erased"
}

fn item(resident: Resident) -> ListItem {
    let Resident { id, version, effective_time, deleted } = resident;
    ListItem { id, version, timestamp: effective_time, deleted: Some(deleted) }
}
