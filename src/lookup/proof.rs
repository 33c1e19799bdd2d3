//! The proof of one version: all that somebody who trusts nobody here needs to find that these events, in
//! this order, are what the state was folded from, and that the record of it is in a pack.
//!
//! *If it fails*: history that is gone is left out, and the links start at the earliest version that can be
//! had; a record that cannot be read gives way to another one that covers the version.
//! COST: the whole history is folded, and the packs that hold the records are read as a whole: work for an
//! audit.

use super::verify::state_digest;
use super::{Answer, Asked, Freshness, Lookup, Refusal, Selector, walk};
use crate::codec::pack::{Class, Inclusion, Locator};
use crate::domain::chain;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, Digest, Offset, PackId, Version};
use crate::domain::record::RecordId;
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::store::index::From;
use crate::store::inspect::record_of;
use crate::store::lineages;

/// Links of one proof; more are asked for in several.
const LINKS_MAX: u64 = 100_000;
/// Rows fetched in one go.
const PAGE: usize = 64;
/// Rows looked at for those that cover a version.
const ROWS_MAX: usize = 1_024;

/// One event of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its version.
    pub version: Version,
    /// Where in the partition it is.
    pub offset: Offset,
    /// Its digest.
    pub digest: Digest,
    /// It was poison and left the state as it was.
    pub skipped: bool,
}

/// A stored record that covers the version, and that its pack holds it.
#[derive(Clone, Debug)]
pub struct ProvenRecord {
    /// Class of the pack, which is part of its object's name.
    pub class: Class,
    /// The pack.
    pub pack: PackId,
    /// The record and its path.
    pub inclusion: Inclusion,
}

/// The proof of one version.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The state at the version.
    pub answer: Answer,
    /// Its digest; none where the aggregate is deleted.
    pub state_digest: Option<Digest>,
    /// Where the chain starts.
    pub genesis: Digest,
    /// The version after which the links start, and the chain there: genesis at 0.
    pub base: (Version, Digest),
    /// The events after it, up to the version.
    pub links: Vec<Link>,
    /// The headers whose values are part of an event's digest.
    pub digest_headers: Vec<Box<str>>,
    /// Of reducer and mapping; none where no activation tells.
    pub fingerprint: Option<Digest>,
    /// What an auditor signs or compares.
    pub statement: Digest,
    /// Records that cover the version; none where only the log holds it.
    pub records: Vec<ProvenRecord>,
}

impl Lookup {
    /// The proof of a version, or of the head; its links start after version `after`, or as early as history
    /// reaches.
    ///
    /// # Errors
    /// As for `state`; `TooMuchWork` where there are more links than one proof may have; `corrupt` where the
    /// stored events do not lead to the state.
    pub async fn proof(&self, id: &str, version: Option<Version>, after: Option<Version>) -> Asked<Proof> {
        let selector = version.map_or(Selector::Head, Selector::Version);
        let answer = self.state(id, selector, Freshness::default()).await?;
        let (log, key) = (self.log_of(answer.partition), self.key(id));
        let target = answer.aggregate.version;
        if target == Version(0) {
            return Err(Refusal::VersionBeyondHead { head: target });
        }
        if let Some(after) = after.filter(|after| *after >= target) {
            let detail = format!("the links start after version {after}, which is not before {target}");
            return Err(Refusal::Failed(Error::new(ErrorKind::Invalid, "bad-selector", detail)));
        }
        let (base, links) = match self.links(&log, &key, after.unwrap_or_default(), target).await {
            Err(Refusal::HistoryGone { earliest }) if after.is_none() => match earliest {
                // Events can be had from there on, and so can the state before them.
                Some(earliest) if earliest <= target => {
                    self.links(&log, &key, Version(earliest.0 - 1), target).await?
                }
                _ => ((target, answer.aggregate.chain), Vec::new()),
            },
            links => links?,
        };
        let led = links.iter().fold(base.1, |chain, link| chain::link(chain, link.version, link.digest));
        if led != answer.aggregate.chain {
            let detail = "the stored events do not lead to the chain of the state";
            return Err(Refusal::Failed(Error::corrupt(detail)));
        }
        let genesis = chain::genesis(&key.kind, &key.id);
        let state_digest = state_digest(&answer.aggregate.state)?;
        let reader = self.reader();
        let activations = lineages::history(&*reader.packs.blobs, &self.0.parts.topic).await?;
        let fingerprint = activations.iter().find(|known| known.lineage == answer.lineage);
        let fingerprint = fingerprint.map(|active| active.fingerprint);
        let records = self.proven_records(&log, &key, target).await?;
        Ok(Proof {
            state_digest,
            genesis,
            base,
            links,
            digest_headers: reader.decoder.digest_headers().to_vec(),
            fingerprint,
            statement: chain::statement(genesis, target, led, state_digest, fingerprint),
            records,
            answer,
        })
    }

    /// The chain at `after`, and the links from there to `target`.
    async fn links(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        after: Version,
        target: Version,
    ) -> Asked<((Version, Digest), Vec<Link>)> {
        let count = target.0 - after.0;
        if count > LINKS_MAX {
            return Err(Refusal::TooMuchWork { events: count, max: LINKS_MAX });
        }
        let mut base = (after, chain::genesis(&key.kind, &key.id));
        let mut links: Vec<Link> = Vec::new();
        let mut next = after.next();
        while next <= target {
            let last = target.min(Version(next.0 + walk::STRETCH_MAX - 1));
            let stretch = self.stretch(log, key, next, last).await?;
            if links.is_empty() {
                base.1 = stretch.before_chain();
            }
            links.extend(stretch.into_events().into_iter().map(|event| Link {
                version: event.version,
                offset: event.event.record.offset,
                digest: event.event.digest,
                skipped: event.skipped,
            }));
            next = last.next();
        }
        Ok((base, links))
    }

    /// Records that cover a version: a full one of it, and one that holds its event.
    async fn proven_records(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        target: Version,
    ) -> Asked<Vec<ProvenRecord>> {
        let mut wanted = self.covering_rows(log, key, target).await?;
        let view = self.reader().view_of(log, key).await?;
        let entries = view.checkpoints.into_iter().map(|held| held.entry);
        wanted.extend(entries.filter(|entry| entry.from < target && target <= entry.upto).map(|entry| {
            let id = RecordId {
                key: key.clone(),
                lineage: log.lineage,
                upto_version: entry.upto,
                kind: RecordKind::Increment,
                from_version: entry.from,
            };
            (Class::Checkpoint, entry.pack, id)
        }));
        let (mut proven, mut damaged): (Vec<ProvenRecord>, _) = (Vec::new(), None);
        for (class, pack, id) in wanted {
            // One of each kind says all there is.
            if proven.iter().any(|known| known.inclusion.id.kind == id.kind) {
                continue;
            }
            let turn = self.admit().await?;
            let inclusion = self.reader().packs.inclusion(class, pack, &id, log.partition).await;
            drop(turn);
            match inclusion {
                Ok(inclusion) => proven.push(ProvenRecord { class, pack, inclusion }),
                Err(error) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    damaged = Some(Error::corrupt(error.detail));
                }
                Err(error) => return Err(error.into()),
            }
        }
        match damaged.filter(|_| proven.is_empty()) {
            Some(error) => Err(Refusal::Failed(error)),
            None => Ok(proven),
        }
    }

    async fn covering_rows(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        target: Version,
    ) -> Asked<Vec<(Class, PackId, RecordId)>> {
        let covers = |row: &SnapshotRow| match row.kind {
            RecordKind::Full => row.version == target,
            RecordKind::Increment | RecordKind::Segment => row.from_version < target && target <= row.version,
        };
        let (mut found, mut looked_at): (Vec<(Class, PackId, RecordId)>, _) = (Vec::new(), 0);
        let mut walk = self.reader().walk(key, log, From::Above(Version(target.0 - 1)), PAGE);
        while looked_at < ROWS_MAX
            && let Some(rows) = walk.read().await?
        {
            looked_at += rows.len();
            for row in rows.iter().filter(|row| covers(row)) {
                // A row that cannot be read names no record.
                let Ok(locator) = Locator::decode(&row.locator) else { continue };
                found.push((locator.class, locator.pack, record_of(row)));
            }
            if found.iter().any(|(.., id)| id.kind != RecordKind::Full) {
                break;
            }
        }
        // Full ones first: they tell of the state.
        found.sort_by_key(|(_, _, id)| id.kind != RecordKind::Full);
        Ok(found)
    }
}
