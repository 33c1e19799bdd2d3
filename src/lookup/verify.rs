//! Verifying an aggregate: every stored record up to a version against its checksums, the hash chain and the
//! fold; the packs that hold them, byte for byte; and against the topic as far back as it reaches.
//!
//! A finding never changes anything: reads heal by themselves, and whether they do is part of the finding.

use super::{Answer, Asked, Finding, Freshness, Lookup, Refusal, Selector, Verified, VerifyMode};
use crate::codec::pack::{Class, Locator};
use crate::domain::aggregate::{Aggregate, Folded, State};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decoded;
use crate::domain::ids::{AggregateKey, Digest, Offset, PackId, Version};
use crate::domain::outcome::PortError;
use crate::domain::partition::EntryRef;
use crate::domain::record::{Bytes, FullBody, IncrementBody, RawRecord, SegmentBody};
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::domain::value::Value;
use crate::reconstruct::{AsOf, Found};
use crate::store::index::From;
use crate::store::unavailable;
use std::collections::BTreeMap;

/// Rows fetched in one go.
const PAGE: usize = 256;

/// What a row's record holds.
enum Record {
    Increment(IncrementBody),
    Segment(SegmentBody),
    Full(Box<FullBody>),
}

/// One aggregate being verified up to a version.
struct Check<'a> {
    lookup: &'a Lookup,
    log: &'a PartitionKey,
    key: &'a AggregateKey,
    target: Version,
    checked: u64,
    findings: Vec<Finding>,
    /// What the stored events fold to, as far as they join.
    folded: Aggregate,
    /// Digests of the stored events.
    digests: BTreeMap<Version, Digest>,
    /// Dictionaries that records need, with the first version that needs each.
    dictionaries: BTreeMap<Digest, Version>,
    /// Packs that hold records, with the first version that is in each.
    packs: BTreeMap<PackId, (Class, Version)>,
}

impl Lookup {
    /// Verifies all that is stored of an aggregate up to a version, or up to its head.
    ///
    /// # Errors
    /// As for `state`: what cannot be answered at all cannot be verified.
    pub async fn verify(&self, id: &str, version: Option<Version>, mode: VerifyMode) -> Asked<Verified> {
        let selector = version.map_or(Selector::Head, Selector::Version);
        let answer = self.state(id, selector, Freshness::default()).await?;
        let (log, key) = (self.log_of(answer.partition), self.key(id));
        let folded = Aggregate::genesis(&key.kind, &key.id);
        let target = answer.aggregate.version;
        let mut check = Check {
            lookup: self,
            log: &log,
            key: &key,
            target,
            checked: 0,
            findings: Vec::new(),
            folded,
            digests: BTreeMap::new(),
            dictionaries: BTreeMap::new(),
            packs: BTreeMap::new(),
        };
        check.rows().await?;
        check.dictionaries().await?;
        check.entries().await?;
        if check.folded.version == target {
            let folded = check.folded.clone();
            check.compare(&folded, &answer.aggregate, "the stored events");
        }
        match mode {
            VerifyMode::Checksum => {}
            VerifyMode::Pack => check.packs().await?,
            VerifyMode::Replay => check.replay(&answer).await?,
        }
        let Check { checked, mut findings, .. } = check;
        findings.sort_by(|a, b| (a.version, a.code, &a.detail).cmp(&(b.version, b.code, &b.detail)));
        Ok(Verified { ok: findings.is_empty(), checked, problems: findings })
    }
}

impl Check<'_> {
    fn found(&mut self, code: &'static str, version: Version, detail: impl Into<String>) {
        self.findings.push(Finding { code, version, detail: detail.into(), healed: false });
    }

    fn count(&mut self, events: usize) -> Asked<()> {
        self.checked += events as u64;
        let max = self.lookup.0.parts.settings.events_max;
        if self.checked > max { Err(self.lookup.too_much(self.checked)) } else { Ok(()) }
    }

    /// A record that cannot be read; do reads answer for its version all the same?
    async fn damaged(&mut self, version: Version, error: Error) -> Asked<()> {
        if !matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) {
            return Err(error.into());
        }
        let ask = self.lookup.ask(AsOf::Version(version.min(self.target)));
        let read = self.lookup.read_rest(self.log, self.key, &ask).await;
        let healed = matches!(&read, Ok(read) if matches!(read.found, Found::State(..)));
        self.findings.push(Finding { code: "corrupt", version, detail: error.detail, healed });
        Ok(())
    }

    async fn rows(&mut self) -> Asked<()> {
        let mut walk = self.lookup.reader().walk(self.key, self.log, From::Above(Version(0)), PAGE);
        while let Some(mut rows) = walk.read().await? {
            rows.sort_by_key(|row| (row.version, row.kind, row.pack));
            for row in &rows {
                if row.version > self.target
                    && (row.kind == RecordKind::Full || row.from_version >= self.target)
                {
                    continue;
                }
                if let Some(around) = self.around(row, &rows) {
                    self.fold_into(around, row.version).await?;
                }
                self.row(row, &rows).await?;
            }
            if rows.last().is_some_and(|row| row.version > self.target) {
                break;
            }
        }
        Ok(())
    }

    /// The increment or segment in the middle of which a full record lies that somebody asked for: its events
    /// up to there are what the record is compared with.
    fn around<'r>(&self, full: &SnapshotRow, rows: &'r [SnapshotRow]) -> Option<&'r SnapshotRow> {
        let is_around = |row: &&SnapshotRow| {
            row.kind != RecordKind::Full
                && row.from_version <= self.folded.version
                && row.version > full.version
        };
        let is_ahead = full.kind == RecordKind::Full && full.version > self.folded.version;
        rows.iter().filter(|_| is_ahead).find(is_around)
    }

    /// Folds the first events of an increment, which is looked at as a whole when its turn comes.
    async fn fold_into(&mut self, row: &SnapshotRow, upto: Version) -> Asked<()> {
        let turn = self.lookup.admit().await?;
        let body = self.lookup.reader().packs.events(row).await;
        drop(turn);
        let Ok(body) = body else { return Ok(()) };
        self.lookup.reader().prepare(&body.events).await?;
        for event in body.events {
            if event.version != self.folded.version.next() || event.version > upto {
                continue;
            }
            let decoded = self.lookup.reader().decoder.decode(event.record);
            let folded = &mut self.folded;
            if self.lookup.reader().rules.refold(folded, event.version, event.skipped, &decoded).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Copies of dictionaries that no reader misses yet.
    async fn dictionaries(&mut self) -> Asked<()> {
        for (dictionary, version) in std::mem::take(&mut self.dictionaries) {
            let turn = self.lookup.admit().await?;
            let fault = self.lookup.reader().packs.hidden_fault(dictionary).await?;
            drop(turn);
            let finding = |detail| Finding { code: "corrupt", version, detail, healed: true };
            self.findings.extend(fault.map(finding));
        }
        Ok(())
    }

    /// Whole packs: what is damaged in them without a record of this aggregate being unreadable, no answer
    /// about it needs.
    async fn packs(&mut self) -> Asked<()> {
        for (pack, (class, version)) in std::mem::take(&mut self.packs) {
            let turn = self.lookup.admit().await?;
            let faults = self.lookup.reader().packs.faults(class, pack).await?;
            drop(turn);
            let finding = |detail| Finding { code: "corrupt", version, detail, healed: true };
            self.findings.extend(faults.into_iter().map(finding));
        }
        Ok(())
    }

    async fn row(&mut self, row: &SnapshotRow, beside: &[SnapshotRow]) -> Asked<()> {
        let packs = &self.lookup.reader().packs;
        // Of one that cannot be read its record tells.
        if let Ok(locator) = Locator::decode(&row.locator) {
            if let Some(dictionary) = locator.dictionary {
                self.dictionaries.entry(dictionary).or_insert(row.version);
            }
            self.packs.entry(locator.pack).or_insert((locator.class, row.version));
        }
        let turn = self.lookup.admit().await?;
        let read = match row.kind {
            RecordKind::Increment => packs.increment(row).await.map(Record::Increment),
            RecordKind::Segment => packs.segment(row).await.map(Record::Segment),
            RecordKind::Full => packs.full(row).await.map(|body| Record::Full(Box::new(body))),
        };
        drop(turn);
        match read {
            Ok(Record::Increment(body)) => self.increment(body, row.from_version, row.version).await,
            Ok(Record::Segment(body)) => self.segment(body, row).await,
            Ok(Record::Full(body)) => self.full(*body, row),
            // Scrubbing writes what is damaged anew: then its copy says all that the record did.
            Err(_) if self.has_sound_copy(row, beside).await? => Ok(()),
            Err(error) => self.damaged(row.version, error).await,
        }
    }

    async fn has_sound_copy(&self, row: &SnapshotRow, beside: &[SnapshotRow]) -> Asked<bool> {
        let of = |row: &SnapshotRow| (row.version, row.kind, row.from_version, row.partition);
        for copy in beside.iter().filter(|copy| of(copy) == of(row) && copy.pack != row.pack) {
            let _turn = self.lookup.admit().await?;
            let packs = &self.lookup.reader().packs;
            let is_sound = match copy.kind {
                RecordKind::Increment => packs.increment(copy).await.is_ok(),
                RecordKind::Segment => packs.segment(copy).await.is_ok(),
                RecordKind::Full => packs.full(copy).await.is_ok(),
            };
            if is_sound {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What live checkpoints hold.
    async fn entries(&mut self) -> Asked<()> {
        let view = self.lookup.reader().view_of(self.log, self.key).await?;
        if !view.is_whole() {
            let detail =
                "a live checkpoint of the partition cannot be read: what it may hold is not verified";
            let (code, version, detail) = ("corrupt", self.target, detail.to_owned());
            let healed = view.lost_below.is_none();
            self.findings.push(Finding { code, version, detail, healed });
        }
        let mut entries: Vec<EntryRef> = view.checkpoints.into_iter().map(|held| held.entry).collect();
        entries.sort_by_key(|entry| (entry.from, entry.upto, entry.pack));
        // A mark stands alone where nothing was folded since.
        entries.retain(|entry| entry.from < self.target || (entry.marked && entry.from == self.target));
        for entry in &entries {
            self.packs.entry(entry.pack).or_insert((Class::Checkpoint, entry.upto));
            let turn = self.lookup.admit().await?;
            let body = self.lookup.reader().packs.entry(self.log, self.key, entry).await;
            drop(turn);
            match body {
                Ok(body) => self.increment(body, entry.from, entry.upto).await?,
                Err(error) => self.damaged(entry.upto, error).await?,
            }
        }
        Ok(())
    }

    /// Events that a record says are those of `from + 1 ..= upto`.
    async fn increment(&mut self, body: IncrementBody, from: Version, upto: Version) -> Asked<()> {
        self.count(body.events.len().max(1))?;
        if !body.events.iter().map(|event| event.version.0).eq(from.0 + 1..=upto.0) {
            self.found("corrupt", upto, "an increment does not hold the versions that its row names");
            return Ok(());
        }
        self.lookup.reader().prepare(&body.events).await?;
        for event in body.events {
            let (version, skipped) = (event.version, event.skipped);
            let decoded = self.lookup.reader().decoder.decode(event.record);
            match self.digests.insert(version, decoded.digest) {
                Some(before) if before != decoded.digest => {
                    self.found("conflict", version, "two stored events of one version have different bytes");
                }
                _ => {}
            }
            if version != self.folded.version.next() || version > self.target {
                continue;
            }
            let refolded = self.lookup.reader().rules.refold(&mut self.folded, version, skipped, &decoded);
            if let Err(error) = refolded {
                self.found("corrupt", version, error.detail);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Merged history: its base like a state, its events like an increment's, and what both fold to against
    /// its row.
    async fn segment(&mut self, body: SegmentBody, row: &SnapshotRow) -> Asked<()> {
        if let Some(base) = body.base {
            self.count(1)?;
            self.state(Aggregate::from_body(base));
        }
        let events = IncrementBody { events: body.events, quarantine: None };
        let joins = self.folded.version < row.version;
        self.increment(events, row.from_version, row.version).await?;
        if joins && self.folded.version == row.version {
            let digest = state_digest(&self.folded.state);
            if (self.folded.chain, digest.ok().flatten()) != (row.chain, row.state_digest) {
                self.found("state-mismatch", row.version, "a segment does not fold to what its row names");
            }
        }
        Ok(())
    }

    /// A state, against its row and against what the events before it fold to.
    fn full(&mut self, body: FullBody, row: &SnapshotRow) -> Asked<()> {
        self.count(1)?;
        let stored = Aggregate::from_body(body);
        match state_digest(&stored.state) {
            Ok(digest) if digest == row.state_digest => {}
            Ok(_) => {
                self.found("corrupt", row.version, "a state does not have the digest that its row names")
            }
            Err(error) => self.found("corrupt", row.version, error.detail),
        }
        self.state(stored);
        Ok(())
    }

    /// A stored state against what the events before it fold to.
    fn state(&mut self, stored: Aggregate) {
        if self.folded.version == stored.version {
            let folded = self.folded.clone();
            self.compare(&folded, &stored, "the stored events");
        }
        if self.folded.version < stored.version {
            // Nothing stored leads up to it: from here on it is what the next events follow on.
            self.folded = stored;
        }
    }

    fn compare(&mut self, folded: &Aggregate, told: &Aggregate, what: &str) {
        let version = told.version;
        if folded.chain != told.chain {
            self.found("state-mismatch", version, format!("{what} have another hash chain than the state"));
        }
        match (state_digest(&folded.state), state_digest(&told.state)) {
            (Ok(folded), Ok(told)) if folded == told => {}
            (Ok(_), Ok(_)) => self.found("state-mismatch", version, format!("{what} fold to another state")),
            (Err(error), _) | (_, Err(error)) => self.found("corrupt", version, error.detail),
        }
        if (folded.offset, folded.effective_time) != (told.offset, told.effective_time) {
            let detail = format!("{what} end at another offset or effective time");
            self.found("state-mismatch", version, detail);
        }
    }

    /// Folds the topic, from where it starts to the version, and compares events and state.
    async fn replay(&mut self, answer: &Answer) -> Asked<()> {
        let reader = self.lookup.reader();
        let bounds = reader.log.bounds(self.log.partition).await;
        let start = bounds.map_err(|error| unavailable("read the log's bounds", &error))?.start;
        let Some(mut replayed) = self.before(start).await? else { return Ok(()) };
        // By version: what the topic says, for duplicates that say something else.
        let mut known: BTreeMap<Version, (Option<Bytes>, Option<Bytes>)> = BTreeMap::new();
        let mut next = replayed.offset.next().max(start);
        let end = answer.aggregate.offset.next();
        while next < end {
            let records = match reader.log.read(self.log.partition, next, end).await {
                Ok(records) => records,
                Err(PortError::Missing) => {
                    let detail = format!("the topic no longer holds offset {next}");
                    self.found("history-gone", replayed.version.next(), detail);
                    return Ok(());
                }
                Err(error) => return Err(unavailable("read the log", &error).into()),
            };
            let Some(last) = records.last() else { break };
            next = last.offset.next();
            self.count(records.len())?;
            for record in records {
                let decoded = reader.decoder.decode(record);
                if decoded.id() == Some(&self.key.id) {
                    self.replay_one(&mut replayed, &mut known, &decoded);
                }
            }
        }
        if replayed.version == self.target {
            self.compare(&replayed, &answer.aggregate, "the topic's events");
        } else {
            let detail = format!("the topic leads to version {} only", replayed.version);
            self.found("state-mismatch", self.target, detail);
        }
        Ok(())
    }

    fn replay_one(
        &mut self,
        replayed: &mut Aggregate,
        known: &mut BTreeMap<Version, (Option<Bytes>, Option<Bytes>)>,
        decoded: &Decoded,
    ) {
        let said = |record: &RawRecord| (record.key.clone(), record.value.clone());
        match self.lookup.reader().rules.fold(replayed, decoded) {
            Folded::Applied | Folded::Skipped(_) => {
                let version = replayed.version;
                known.insert(version, said(&decoded.record));
                if self.digests.get(&version).is_some_and(|stored| *stored != decoded.digest) {
                    self.found("conflict", version, "the stored event is not the topic's");
                }
            }
            Folded::Duplicate => {
                let version = decoded.content.as_ref().ok().and_then(|event| event.version);
                let first = version.and_then(|version| Some((version, known.get(&version)?)));
                if let Some((version, _)) = first.filter(|(_, first)| **first != said(&decoded.record)) {
                    let offset = decoded.record.offset;
                    let detail = format!("offset {offset} has the same version with other bytes");
                    self.found("conflict", version, detail);
                }
            }
            Folded::Quarantined(_) | Folded::Refused(_) | Folded::Halt(_) => {}
        }
    }

    /// The aggregate before the log's start; none if that is gone, which is a finding.
    async fn before(&mut self, start: Offset) -> Asked<Option<Aggregate>> {
        let genesis = Aggregate::genesis(&self.key.kind, &self.key.id);
        if start <= Offset(0) {
            return Ok(Some(genesis));
        }
        let ask = self.lookup.ask(AsOf::Offset(Offset(start.0 - 1)));
        match self.lookup.read_rest(self.log, self.key, &ask).await {
            Ok(read) => match read.found {
                Found::State(aggregate, _) => Ok(Some(*aggregate)),
                Found::Unknown | Found::BeforeFirst(_) | Found::BeyondHead(_) => Ok(Some(genesis)),
                other @ Found::TooMuch(_) => Err(self.lookup.no_state(&other)),
            },
            Err(Refusal::HistoryGone { .. }) => {
                let detail = "what comes before the topic's start cannot be had";
                self.found("history-gone", Version(1), detail);
                Ok(None)
            }
            Err(Refusal::Failed(error)) if error.kind == ErrorKind::Corrupt => {
                self.found("corrupt", Version(1), error.detail);
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }
}

/// Digest of a state; none where there is none.
pub(super) fn state_digest(state: &State) -> Result<Option<Digest>> {
    let Some(text) = state.to_json() else { return Ok(None) };
    let limits = crate::domain::value::Limits {
        max_bytes: usize::MAX,
        max_depth: crate::domain::value::Limits::DEPTH_MAX,
        max_members: usize::MAX,
    };
    let value = Value::parse(&text, &limits);
    Ok(Some(value.map_err(|error| Error::corrupt(format!("read a state: {error}")))?.digest()))
}
