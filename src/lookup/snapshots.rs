//! Stored snapshots of an aggregate: their metadata, their states, their raw bytes, their public ids.
//!
//! Rows of one version are one snapshot: copies in several packs, or an increment and a full record. A row of
//! version 0 only carries a quarantine mark and is none.

use super::{
    Answer, Asked, Freshness, Lookup, Refusal, Selector, SnapshotFilter, SnapshotMeta, StoredBlob, Streams,
    Which,
};
use crate::codec::pack::{Locator, pack_name};
use crate::domain::archive::is_older;
use crate::domain::chain::snapshot_id;
use crate::domain::ids::{AggregateKey, Lineage, PackId, Timestamp, Version};
use crate::domain::row::{Notes, RecordKind, SnapshotRow};
use crate::store::index::{From, Index, RowWalk};
use crate::store::unavailable;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows fetched in one go.
const PAGE: usize = 256;
/// Packs that are looked for in the archive at the same time.
const ARCHIVED_AT_ONCE: usize = 16;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Letters of a public id.
const ID_LETTERS: usize = 26;

/// A public id as text: base32 (RFC 4648, lower case, no padding).
#[must_use]
pub fn snapshot_id_text(id: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(id);
    let letter = |at: usize| {
        // 26 letters hold 130 bits: the last one ends with two zeros.
        let group = if at == ID_LETTERS - 1 { bits << 2 } else { bits >> (123 - 5 * at) };
        char::from(ALPHABET[(group & 31) as usize])
    };
    (0..ID_LETTERS).map(letter).collect()
}

/// The id in a text, if it is one.
#[must_use]
pub fn snapshot_id_bytes(text: &str) -> Option<[u8; 16]> {
    let values = text.bytes().map(|letter| ALPHABET.iter().position(|known| *known == letter));
    let values: Vec<u128> = values.map(|value| value.map(|value| value as u128)).collect::<Option<_>>()?;
    let (last, rest) =
        values.split_last().filter(|(last, rest)| rest.len() == ID_LETTERS - 1 && *last & 3 == 0)?;
    let bits = rest.iter().fold(0, |bits: u128, value| bits << 5 | value);
    Some((bits << 3 | last >> 2).to_be_bytes())
}

/// The snapshots of an aggregate, one version after the other.
pub(super) struct Versions<'a> {
    walk: RowWalk<'a>,
    ready: std::collections::VecDeque<SnapshotRow>,
}

impl Versions<'_> {
    /// The next version; of copies the one that tells most.
    pub(super) async fn next(&mut self) -> Asked<Option<SnapshotRow>> {
        while self.ready.is_empty() {
            let Some(rows) = self.walk.read().await? else { return Ok(None) };
            self.take(rows);
        }
        Ok(self.ready.pop_front())
    }

    fn take(&mut self, rows: Vec<SnapshotRow>) {
        for row in rows.into_iter().filter(|row| row.version > Version(0)) {
            match self.ready.back_mut().filter(|before| before.version == row.version) {
                Some(before) if rank(before) < rank(&row) => *before = row,
                Some(_) => {}
                None => self.ready.push_back(row),
            }
        }
    }
}

/// Which of the rows of one version tells of the snapshot: a full one, else a segment; the newest copy.
fn rank(row: &SnapshotRow) -> (bool, RecordKind, crate::domain::ids::PackId) {
    (row.kind == RecordKind::Full, row.kind, row.pack)
}

impl Lookup {
    pub(super) fn versions<'a>(&'a self, key: &'a AggregateKey, from: From) -> Versions<'a> {
        let walk = RowWalk::new(&*self.reader().index, key, self.0.parts.lineage, from, PAGE);
        Versions { walk, ready: std::collections::VecDeque::new() }
    }

    /// How many snapshots are stored, and the version of the newest.
    pub(super) async fn count_snapshots(&self, id: &str) -> Asked<(u64, Option<Version>)> {
        let key = self.key(id);
        let mut versions = self.versions(&key, From::Newest);
        let (mut count, mut newest) = (0, None);
        while let Some(row) = versions.next().await? {
            count += 1;
            newest = newest.max(Some(row.version));
        }
        Ok((count, newest))
    }

    /// Stored snapshots by version.
    ///
    /// # Errors
    /// `UnknownAggregate`, or a fault.
    pub async fn snapshots(&self, id: &str, filter: SnapshotFilter) -> Asked<Vec<SnapshotMeta>> {
        let key = self.key(id);
        let start = self.start_of(&key, filter).await?;
        let mut versions = self.versions(&key, start);
        let mut found = Vec::new();
        while found.len() < filter.limit {
            let Some(row) = versions.next().await? else { break };
            match place(&row, filter) {
                Place::Inside => found.push(row),
                Place::Before => {}
                Place::Past => break,
            }
        }
        if found.is_empty() && self.locate(&key).await?.is_none() {
            return Err(Refusal::UnknownAggregate);
        }
        let mut notes = self.notes(&key, &found).await?;
        let archived = self.archived(&found).await?;
        Ok(found.into_iter().map(|row| meta(&mut notes, &archived, row)).collect())
    }

    /// Which packs of these rows are in the archive. Of those that are too young to be there nobody is asked;
    /// the store remembers what it found.
    async fn archived(&self, rows: &[SnapshotRow]) -> Asked<BTreeSet<PackId>> {
        let parts = &self.0.parts;
        let Some(after_ms) = parts.settings.archived_after_ms else { return Ok(BTreeSet::new()) };
        let now = parts.clock.now();
        let old = rows.iter().filter(|row| is_older(row.pack.minted_at(), now, after_ms));
        let places: BTreeMap<PackId, String> = old
            .filter_map(|row| Locator::decode(&row.locator).ok().filter(|locator| locator.pack == row.pack))
            .map(|locator| (locator.pack, pack_name(locator.class, locator.pack)))
            .collect();
        let blobs = &self.reader().packs.blobs;
        let asked = places.iter().map(|(pack, name)| -> BoxFuture<'_, Asked<Option<PackId>>> {
            Box::pin(async move {
                let archived = blobs.is_archived(name).await;
                let archived = archived.map_err(|error| unavailable("ask where a pack is", &error))?;
                Ok(archived.then_some(*pack))
            })
        });
        let asked: Vec<_> = asked.collect();
        let found: Vec<Option<PackId>> =
            stream::iter(asked).buffer_unordered(ARCHIVED_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// What is noted on the snapshots of these rows.
    async fn notes(&self, key: &AggregateKey, rows: &[SnapshotRow]) -> Asked<BTreeMap<Version, Notes>> {
        let versions = rows.iter().map(|row| row.version);
        let mut notes: BTreeMap<Version, Notes> = BTreeMap::new();
        let Some(within) = versions.clone().min().zip(versions.max()) else { return Ok(notes) };
        let noted = self.reader().index.notes(key, self.0.parts.lineage, within).await;
        let noted = noted.map_err(|error| unavailable("read the notes on snapshots", &error))?;
        noted.iter().for_each(|row| notes.entry(row.version).or_default().take(row));
        Ok(notes)
    }

    /// A stored snapshot without its state.
    ///
    /// # Errors
    /// `NoSnapshot` if there is none, or a fault.
    pub async fn snapshot_meta(&self, id: &str, which: Which) -> Asked<SnapshotMeta> {
        let row = self.row(id, which).await?;
        let mut notes = self.notes(&self.key(id), std::slice::from_ref(&row)).await?;
        let archived = self.archived(std::slice::from_ref(&row)).await?;
        Ok(meta(&mut notes, &archived, row))
    }

    /// Where the walk may start without missing anything. Times grow with versions.
    async fn start_of(&self, key: &AggregateKey, filter: SnapshotFilter) -> Asked<From> {
        if filter.descending {
            let before = filter.after.map(|after| Version(after.0.saturating_sub(1)));
            let top = filter.to_version.into_iter().chain(before).min();
            return Ok(match (top, filter.to_time) {
                (Some(top), _) => From::AtOrBelow(top),
                (None, Some(time)) => From::TimeAtOrBefore(time),
                (None, None) => From::Newest,
            });
        }
        let mut above = filter.from_version.map_or(Version(0), |from| Version(from.0.saturating_sub(1)));
        above = above.max(filter.after.unwrap_or_default());
        if let Some(Timestamp(time)) = filter.from_time.filter(|_| above == Version(0)) {
            let earlier = From::TimeAtOrBefore(Timestamp(time.saturating_sub(1)));
            let rows = self.reader().index.snapshots(key, self.0.parts.lineage, earlier, 1).await;
            let rows = rows.map_err(|error| unavailable("read snapshot rows", &error))?;
            above = rows.first().map_or(Version(0), |row| row.version);
        }
        Ok(From::Above(above))
    }

    async fn row(&self, id: &str, which: Which) -> Asked<SnapshotRow> {
        let key = self.key(id);
        let from = match which {
            Which::Latest => From::Newest,
            Which::Version(version) => From::AtOrBelow(version),
        };
        let row = self.versions(&key, from).next().await?;
        let is_it = |row: &SnapshotRow| match which {
            Which::Latest => true,
            Which::Version(version) => row.version == version,
        };
        match row.filter(is_it) {
            Some(row) => Ok(row),
            None if self.locate(&key).await?.is_none() => Err(Refusal::UnknownAggregate),
            None => Err(Refusal::NoSnapshot),
        }
    }

    /// One stored snapshot and the state at its version.
    ///
    /// # Errors
    /// `NoSnapshot` if there is none; as for `state`.
    pub async fn snapshot(&self, id: &str, which: Which) -> Asked<(SnapshotMeta, Answer)> {
        let meta = self.snapshot_meta(id, which).await?;
        let answer = self.state(id, Selector::Version(meta.row.version), Freshness::default()).await?;
        Ok((meta, answer))
    }

    /// The stored bytes of one snapshot's record, in which it was found sound.
    ///
    /// # Errors
    /// `NoSnapshot` if there is none; a fault if its object is gone or damaged.
    pub async fn blob(&self, id: &str, version: Version) -> Asked<StoredBlob> {
        let row = self.row(id, Which::Version(version)).await?;
        let _turn = self.admit().await?;
        let (locator, frame) = self.reader().packs.frame(&row).await?;
        let (object, range) = (pack_name(locator.class, locator.pack), locator.range());
        let start = u64::from(locator.body_start);
        Ok(StoredBlob {
            frame,
            algorithm: locator.algorithm,
            dictionary: locator.dictionary,
            raw_len: u64::from(locator.frame_raw_len),
            pack: locator.pack,
            object,
            range,
            body: start..start + u64::from(locator.body_len),
        })
    }
}

impl Streams {
    /// A stored snapshot by its public id, whatever its type.
    ///
    /// # Errors
    /// `NoSnapshot` if no stream has it under its active lineage; as for `snapshot`.
    pub async fn snapshot_by_id(&self, id: &str) -> Asked<(SnapshotMeta, Answer)> {
        let (key, lineage, version) = self.place_of_snapshot(id).await?;
        match self.by_type.get(&key.kind) {
            Some(lookup) if lookup.0.parts.lineage == lineage => {
                lookup.snapshot(&key.id, Which::Version(version)).await
            }
            _ => Err(Refusal::NoSnapshot),
        }
    }

    /// Which snapshot has this public id, of whatever lineage.
    ///
    /// # Errors
    /// `NoSnapshot` if none of a stream has; a fault.
    pub async fn place_of_snapshot(&self, id: &str) -> Asked<(AggregateKey, Lineage, Version)> {
        let Some(bytes) = snapshot_id_bytes(id) else { return Err(Refusal::NoSnapshot) };
        let mut asked: Vec<&Arc<dyn Index>> = Vec::new();
        for lookup in self.by_type.values() {
            let index = &lookup.reader().index;
            if asked.iter().any(|before| Arc::ptr_eq(before, index)) {
                continue;
            }
            asked.push(index);
            let found = index.snapshot_by_id(bytes).await;
            let found = found.map_err(|error| unavailable("find a snapshot by its id", &error))?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Refusal::NoSnapshot)
    }
}

fn meta(notes: &mut BTreeMap<Version, Notes>, archived: &BTreeSet<PackId>, row: SnapshotRow) -> SnapshotMeta {
    let id = snapshot_id_text(snapshot_id(&row.key, row.lineage, row.version));
    let notes = notes.remove(&row.version).unwrap_or_default();
    let archived = archived.contains(&row.pack);
    SnapshotMeta { id, created_from: row.from_version, row, notes, archived }
}

enum Place {
    Before,
    Inside,
    Past,
}

/// Where a row lies in relation to what is wanted, in the order of the walk.
fn place(row: &SnapshotRow, filter: SnapshotFilter) -> Place {
    let below = filter.from_version.is_some_and(|from| row.version < from)
        || filter.from_time.is_some_and(|from| row.effective_time < from);
    let above = filter.to_version.is_some_and(|to| row.version > to)
        || filter.to_time.is_some_and(|to| row.effective_time > to);
    let seen = filter.after.is_some_and(|after| match filter.descending {
        true => row.version >= after,
        false => row.version <= after,
    });
    let (before, past) = if filter.descending { (above, below) } else { (below, above) };
    match (before || seen, past) {
        (_, true) => Place::Past,
        (true, false) => Place::Before,
        (false, false) => Place::Inside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_base32_and_come_back() {
        assert_eq!(snapshot_id_text([0; 16]), "a".repeat(26));
        // RFC 4648: "foobar" is MZXW6YTBOI.
        let mut id = [0; 16];
        id[..6].copy_from_slice(b"foobar");
        assert_eq!(snapshot_id_text(id), "mzxw6ytboiaaaaaaaaaaaaaaaa");
        for id in [id, [0xff; 16], 0x0123_4567_89ab_cdef_u128.to_be_bytes()] {
            assert_eq!(snapshot_id_bytes(&snapshot_id_text(id)), Some(id));
        }
        for wrong in ["", "mzxw6ytboi", "MZXW6YTBOIAAAAAAAAAAAAAAAA", "mzxw6ytboiaaaaaaaaaaaaaaab"] {
            assert_eq!(snapshot_id_bytes(wrong), None, "{wrong}");
        }
    }
}
