//! States and heads: which source answers, what the head is, how long to wait for it.

use super::cache::{CacheKey, Flight, Joined};
use super::{Answer, Asked, Durable, Freshness, HeadView, Lookup, Refusal, Selector, Source};
use crate::domain::aggregate::Aggregate;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, Offset, PartitionNo, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{Pending, Residence};
use crate::domain::record::QuarantineMark;
use crate::domain::row::PartitionKey;
use crate::reconstruct::{AsOf, Ask, Found, Newest, Provenance, Read, Step, StepKind, Wanted};
use crate::store::unavailable;
use futures_util::future::join;
use std::sync::Arc;

/// Longest wait for freshness.
const WAIT_MS_MAX: u64 = 30_000;

/// What the owner of a partition says of an aggregate, with the position for which that is true.
pub(super) enum Owner {
    /// Its head.
    Here(Box<Aggregate>, Offset),
    /// All of it below the position is at rest; what it knows of that.
    Absent(Offset, Option<Pending>),
    /// Nothing that could be used.
    Silent,
}

/// The newest version, and the mark it carries.
pub(super) struct Head {
    pub(super) version: Version,
    pub(super) mark: Option<Box<QuarantineMark>>,
}

impl Lookup {
    /// An aggregate at a moment.
    ///
    /// # Errors
    /// Every `Refusal` but `NoSnapshot`.
    pub async fn state(&self, id: &str, selector: Selector, freshness: Freshness) -> Asked<Answer> {
        if selector == Selector::Version(Version(0)) {
            let detail = "versions start at 1";
            return Err(Refusal::Failed(Error::new(ErrorKind::Invalid, "bad-selector", detail)));
        }
        let clock = &self.0.parts.clock;
        let deadline = clock.monotonic_ms() + freshness.wait_ms.min(WAIT_MS_MAX);
        loop {
            let outcome = self.state_once(&self.key(id), selector, freshness).await;
            let Some(lacking) = lacking(&outcome, freshness) else { return outcome };
            let now = clock.monotonic_ms();
            if now >= deadline {
                return Err(lacking);
            }
            clock.sleep(self.0.parts.settings.poll_ms.clamp(1, deadline - now)).await;
        }
    }

    async fn state_once(
        &self,
        key: &AggregateKey,
        selector: Selector,
        freshness: Freshness,
    ) -> Asked<Answer> {
        if let Some((partition, offset)) = freshness.min_offset {
            let count = self.partition_count().await?;
            if u32::try_from(partition.0).map_or(true, |partition| partition >= count) {
                let detail = format!("the topic has {count} partitions, `minOffset` names {partition}");
                return Err(Refusal::Failed(Error::new(ErrorKind::Invalid, "bad-selector", detail)));
            }
            // What is in the log now is in every answer that is read from it later.
            let end = self.log_end(partition).await?;
            if offset >= end {
                return Err(Refusal::NotCaughtUp { head: None, position: Some((partition, end)) });
            }
        }
        let Some(partition) = self.locate(key).await? else { return Err(Refusal::UnknownAggregate) };
        let named = match selector {
            Selector::Offset(named, _) => Some(named),
            _ => freshness.min_offset.map(|(named, _)| named),
        };
        if named.is_some_and(|named| named != partition) {
            return Err(Refusal::WrongPartition { partition });
        }
        let log = self.log_of(partition);
        // Where the owner holds nothing, rest is read while O1 is looked at.
        let asking = async {
            let owner = if_fresh(self.ask_any_owner(&log, &key.id).await, freshness);
            let early = match &owner {
                Owner::Absent(..) => Some(self.state_from_rest(&log, key, selector, &owner, freshness).await),
                Owner::Here(..) | Owner::Silent => None,
            };
            (owner, early)
        };
        let (low_watermark, (owner, early)) = join(self.low_watermark(&log), asking).await;
        match (if_current(owner, low_watermark?), early) {
            (Owner::Here(head, position), _) if is_head(selector, &head, position) => {
                let (head_version, source) = (Some(head.version), Source::Memory);
                let lineage = log.lineage;
                let provenance = Provenance::default();
                let (aggregate, steps) = (*head, Vec::new());
                Ok(Answer { aggregate, head_version, partition, lineage, source, provenance, steps })
            }
            (Owner::Absent(..), Some(early)) => early,
            (owner, _) => self.state_from_rest(&log, key, selector, &owner, freshness).await,
        }
    }

    async fn state_from_rest(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        selector: Selector,
        owner: &Owner,
        freshness: Freshness,
    ) -> Asked<Answer> {
        let base = self.cached(key, selector).await;
        let kept = base.as_ref().filter(|kept| selector == Selector::Version(kept.version));
        let (mut steps, mut early_head) = (Vec::new(), None);
        let (mut aggregate, provenance, log_end, is_head, settled) = match kept {
            Some(kept) => {
                let provenance = Provenance { cached: kept.version, ..Provenance::default() };
                steps.push(Step::cached(kept));
                ((**kept).clone(), provenance, None, false, Some(Arc::clone(kept)))
            }
            None => {
                // Where the owner holds nothing, the head is in what is read for the moment. Where it is not
                // told there it is asked for below.
                let with_newest = matches!(owner, Owner::Absent(..)) && selector != Selector::Head;
                let (read, is_own) = self.read_moment(log, key, selector, base.clone(), with_newest).await?;
                // What others have read may be from before this question.
                early_head = read.newest.filter(|_| is_own).and_then(|newest| told_by(&newest, freshness));
                let Found::State(aggregate, provenance) = &read.found else {
                    return Err(self.no_state(&read.found));
                };
                let settled = read.is_settled.then(|| Arc::new(aggregate.cooled_copy()));
                if let Some(settled) = &settled {
                    self.0.parts.cache.keep(self.cache_key(key), Arc::clone(settled)).await;
                }
                let is_head = read.log_end.is_some() && !read.marked_later;
                steps.clone_from(&read.steps);
                ((**aggregate).clone(), *provenance, read.log_end, is_head, settled)
            }
        };
        if let (Selector::Offset(partition, offset), Some(end)) = (selector, log_end)
            && offset >= end
        {
            let head = Some(aggregate.version).filter(|version| *version > Version(0));
            return Err(Refusal::NotCaughtUp { head, position: Some((partition, end)) });
        }
        let head = match (is_head, early_head) {
            (true, _) => Some(Head { version: aggregate.version, mark: aggregate.quarantine.clone() }),
            (false, Some(head)) => Some(head),
            (false, None) => self.head_if_readable(log, key, owner, settled, freshness).await?,
        };
        if let Selector::Version(version) = selector
            && aggregate.version < version
        {
            return Err(Refusal::VersionBeyondHead { head: aggregate.version });
        }
        let head_version = head.as_ref().map(|head| head.version.max(aggregate.version));
        if let Some(head) = head
            && aggregate.version == head.version
            && aggregate.quarantine.is_none()
        {
            aggregate.quarantine = head.mark;
        }
        let source = if provenance.cached > Version(0) { Source::Cache } else { Source::Rest };
        let (partition, lineage) = (log.partition, log.lineage);
        Ok(Answer { aggregate, head_version, partition, lineage, source, provenance, steps })
    }

    /// The same; none where damage, or a log that has forgotten too much, keeps anyone from knowing it. A
    /// moment before it is answered all the same.
    pub(super) async fn head_if_readable(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        owner: &Owner,
        base: Option<Arc<Aggregate>>,
        freshness: Freshness,
    ) -> Asked<Option<Head>> {
        match self.head_of(log, key, owner, base, freshness).await {
            Ok(head) => Ok(Some(head)),
            Err(Refusal::Failed(error)) if error.kind == ErrorKind::Corrupt => Ok(None),
            Err(Refusal::HistoryGone { .. }) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// The newest version: the owner's where it has one; where it holds nothing, the newest at rest; else
    /// what rest and log fold to, from `base` on.
    pub(super) async fn head_of(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        owner: &Owner,
        base: Option<Arc<Aggregate>>,
        freshness: Freshness,
    ) -> Asked<Head> {
        match owner {
            Owner::Here(head, _) => {
                return Ok(Head { version: head.version, mark: head.quarantine.clone() });
            }
            Owner::Absent(_, pending) => {
                if let Some(head) = self.head_at_rest(log, key, pending.as_ref(), freshness).await? {
                    return Ok(head);
                }
            }
            Owner::Silent => {}
        }
        let ask = Ask { base, ..self.ask(AsOf::Head) };
        let read = self.read_rest(log, key, &ask).await?;
        match &read.found {
            Found::State(head, _) => Ok(Head { version: head.version, mark: head.quarantine.clone() }),
            other => Err(self.no_state(other)),
        }
    }

    /// The newest version of an aggregate that its owner does not hold; none where neither rows nor
    /// checkpoints tell. What the owner knows of these was true before rows are read now, so what it has let
    /// go of since is in them.
    async fn head_at_rest(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        pending: Option<&Pending>,
        freshness: Freshness,
    ) -> Asked<Option<Head>> {
        let _turn = self.admit().await?;
        let Some(pending) = pending else {
            return Ok(told_by(&self.reader().newest(log, key).await?, freshness));
        };
        let newest = self.reader().newest_beside(log, key, pending).await?;
        let is_told = |version: &Version| {
            *version > Version(0) && freshness.min_version.is_none_or(|min| *version >= min)
        };
        Ok(newest.filter(is_told).map(|version| Head { version, mark: None }))
    }

    /// The owner, unless it is one no more.
    pub(super) async fn ask_owner(&self, log: &PartitionKey, id: &Arc<str>) -> Asked<Owner> {
        let (low_watermark, owner) = join(self.low_watermark(log), self.ask_any_owner(log, id)).await;
        Ok(if_current(owner, low_watermark?))
    }

    /// Whoever takes itself for the owner.
    async fn ask_any_owner(&self, log: &PartitionKey, id: &Arc<str>) -> Owner {
        let Some(answer) = self.0.parts.owners.head(log.partition, Arc::clone(id)).await else {
            return Owner::Silent;
        };
        match answer.residence {
            Residence::Here(head) => Owner::Here(head, answer.position),
            Residence::Absent(pending) => Owner::Absent(answer.position, pending),
            Residence::Unsure => Owner::Silent,
        }
    }

    async fn low_watermark(&self, log: &PartitionKey) -> Asked<Offset> {
        let rows = self.reader().watermarks(log).await?;
        Ok(rows.iter().map(|row| row.low_watermark).max().unwrap_or(Offset(0)))
    }

    fn cache_key(&self, key: &AggregateKey) -> CacheKey {
        let lineage = match mutant(Mutant::CacheMixesLineages) {
            true => Default::default(),
            false => self.0.parts.lineage,
        };
        CacheKey { lineage, key: key.clone() }
    }

    /// The newest kept state that a question can go on from.
    async fn cached(&self, key: &AggregateKey, selector: Selector) -> Option<Arc<Aggregate>> {
        let version = if let Selector::Version(version) = selector { version } else { Version(u64::MAX) };
        let kept = self.kept_below(key, version).await?;
        let is_before = match selector {
            Selector::Head | Selector::Version(_) => true,
            Selector::Time(time) => kept.effective_time <= time,
            Selector::Offset(_, offset) => kept.offset <= offset,
        };
        is_before.then_some(kept)
    }

    /// The newest kept state at or below a version.
    pub(super) async fn kept_below(&self, key: &AggregateKey, version: Version) -> Option<Arc<Aggregate>> {
        self.0.parts.cache.newest(&self.cache_key(key), version).await
    }

    /// One question to rest within the bounds of one.
    pub(super) fn ask(&self, as_of: AsOf) -> Ask {
        Ask { work_max: Some(self.0.parts.settings.events_max), ..Ask::of(as_of) }
    }

    /// Reads a moment; versions together with whoever else reads them now. Tells whether all of it was read
    /// for this question.
    async fn read_moment(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        selector: Selector,
        base: Option<Arc<Aggregate>>,
        with_newest: bool,
    ) -> Asked<(Arc<Read>, bool)> {
        let as_of = match selector {
            Selector::Head => AsOf::Head,
            Selector::Version(version) => AsOf::Version(version),
            Selector::Time(time) => AsOf::Time(time),
            Selector::Offset(_, offset) => AsOf::Offset(offset),
        };
        let ask = Ask { base, with_newest, ..self.ask(as_of) };
        if let Selector::Version(version) = selector {
            let start = || {
                let (lookup, log, key, ask) = (self.clone(), log.clone(), key.clone(), ask.clone());
                let read = async move { lookup.read_rest(&log, &key, &ask).await.map(Arc::new) };
                Box::pin(read) as Flight
            };
            let (flight, joined) = self.0.flights.join(&key.id, version, start);
            let landed = flight.await;
            let is_state = matches!(&landed, Ok(read) if matches!(read.found, Found::State(..)));
            // What others did not find may be there by now.
            if joined == Joined::Own || is_state {
                return landed.map(|read| (read, joined == Joined::Own));
            }
        }
        Ok((Arc::new(self.read_rest(log, key, &ask).await?), true))
    }

    /// Reads when it is its turn; history that is gone is told with the earliest version that is left.
    pub(super) async fn read_rest(&self, log: &PartitionKey, key: &AggregateKey, ask: &Ask) -> Asked<Read> {
        let _turn = self.admit().await?;
        match self.reader().read(log, key, ask).await {
            Err(error) if error.kind == ErrorKind::Gone => {
                let (from, wanted) = match (ask.as_of, ask.events_from) {
                    (_, Some(from)) => (Version(from.0.saturating_sub(1)), Wanted::Event),
                    (AsOf::Version(version), None) => (version, Wanted::State),
                    (AsOf::Head | AsOf::Time(_) | AsOf::Offset(_), None) => (Version(0), Wanted::State),
                };
                let earliest = self.reader().earliest(log, key, from, wanted).await?;
                Err(Refusal::HistoryGone { earliest })
            }
            other => {
                let read = other?;
                // Within its turn: nothing else bounds how many lists of objects are read at a time.
                self.heed_erasure(key, &read).await?;
                Ok(read)
            }
        }
    }

    /// The rows of whoever is erased go at once, and this process hears of it later. Of an aggregate of which
    /// there is nothing at rest but events in the middle of the log that may be why, and with versions
    /// counted nothing else would tell that these do not follow on each other (seed 5866, counted).
    async fn heed_erasure(&self, key: &AggregateKey, read: &Read) -> Asked<()> {
        let is_at_rest = |step: &Step| !matches!(step.kind, StepKind::Cache | StepKind::Log);
        let is_middle =
            |step: &Step| step.upto > step.from && step.offsets.is_some_and(|(first, _)| first > Offset(0));
        // Where versions are given it is a gap that tells of them.
        let is_marked = matches!(&read.found, Found::State(state, _) if state.quarantine.is_some());
        let is_doubted = is_marked || read.steps.iter().any(is_middle);
        let is_alone = is_doubted && !read.steps.iter().any(is_at_rest);
        if is_alone && !mutant(Mutant::ErasureHeardLate) {
            let erasures = &self.reader().packs.erasures;
            erasures.refresh().await?;
            erasures.check(key)?;
        }
        Ok(())
    }

    /// Why what was found is no state.
    pub(super) fn no_state(&self, found: &Found) -> Refusal {
        match found {
            Found::BeyondHead(head) => Refusal::VersionBeyondHead { head: *head },
            Found::BeforeFirst(first_time) => Refusal::BeforeFirstEvent { first_time: *first_time },
            Found::TooMuch(events) => self.too_much(*events),
            Found::Unknown | Found::State(..) => Refusal::UnknownAggregate,
        }
    }

    pub(super) async fn log_end(&self, partition: PartitionNo) -> Asked<Offset> {
        let bounds = self.reader().log.bounds(partition).await;
        Ok(bounds.map_err(|error| unavailable("read the log's bounds", &error))?.end)
    }

    /// The head of an aggregate and what is stored of it.
    ///
    /// # Errors
    /// As for `state`.
    pub async fn head(&self, id: &str) -> Asked<HeadView> {
        let answer = self.state(id, Selector::Head, Freshness::default()).await?;
        let (snapshots, latest_snapshot) = self.count_snapshots(id).await?;
        let head = answer.aggregate.version;
        let durable = if latest_snapshot.is_some_and(|latest| latest >= head) {
            Durable::Snapshot
        } else {
            let newest = self.reader().newest(&self.log_of(answer.partition), &self.key(id)).await?;
            if newest.row.is_some_and(|row| row >= head) {
                Durable::Snapshot
            } else if newest.entry.is_some_and(|entry| entry >= head) {
                Durable::Checkpoint
            } else {
                Durable::Log
            }
        };
        Ok(HeadView { answer, snapshots, latest_snapshot, durable })
    }
}

/// O1: an answer from below the low watermark comes from an owner that is none any more. One that is read
/// while the owner is asked may be later than the answer: then rest answers, which is as good.
fn if_current(owner: Owner, low_watermark: Offset) -> Owner {
    match owner {
        Owner::Here(_, position) | Owner::Absent(position, _)
            if position < low_watermark && !mutant(Mutant::StaleOwnerBelieved) =>
        {
            Owner::Silent
        }
        owner => owner,
    }
}

/// The owner, unless what it knows is older than the question allows.
fn if_fresh(owner: Owner, freshness: Freshness) -> Owner {
    let min_offset = freshness.min_offset.map_or(Offset(-1), |(_, offset)| offset);
    let is_fresh = match &owner {
        Owner::Here(head, position) => {
            *position > min_offset && freshness.min_version.is_none_or(|min| head.version >= min)
        }
        Owner::Absent(position, _) => *position > min_offset,
        Owner::Silent => true,
    };
    if is_fresh { owner } else { Owner::Silent }
}

/// Whether the owner's head is what was asked for: nothing newer can be, below its position.
fn is_head(selector: Selector, head: &Aggregate, position: Offset) -> bool {
    match selector {
        Selector::Head => true,
        Selector::Version(version) => version == head.version,
        Selector::Time(time) => head.effective_time <= time,
        Selector::Offset(_, offset) => head.offset <= offset && offset < position,
    }
}

/// The head, where the newest version at rest tells it.
fn told_by(newest: &Newest, freshness: Freshness) -> Option<Head> {
    let version = newest.version();
    let is_short = freshness.min_version.is_some_and(|min| version < min);
    // Rule 12: an entry may be of events that the log has lost; then only reading them would tell.
    let is_row = newest.row.is_some_and(|row| row == version);
    let is_sure = is_row || newest.is_entry_sure;
    let is_told = is_sure && version > Version(0) && newest.is_whole && !newest.marked && !is_short;
    is_told.then_some(Head { version, mark: None })
}

/// What an outcome lacks of the freshness asked for, as the refusal it becomes when time is up.
fn lacking(outcome: &Asked<Answer>, freshness: Freshness) -> Option<Refusal> {
    let is_short = |head: Version| freshness.min_version.is_some_and(|min| head < min);
    let known = |answer: &Answer| answer.head_version.unwrap_or(answer.aggregate.version);
    match outcome {
        Ok(answer) if is_short(known(answer)) => {
            Some(Refusal::NotCaughtUp { head: answer.head_version, position: None })
        }
        Err(Refusal::VersionBeyondHead { head }) if is_short(*head) => {
            Some(Refusal::NotCaughtUp { head: Some(*head), position: None })
        }
        Err(Refusal::UnknownAggregate) if is_short(Version(0)) => {
            Some(Refusal::NotCaughtUp { head: None, position: None })
        }
        Err(refusal @ Refusal::NotCaughtUp { .. }) => Some(refusal.clone()),
        _ => None,
    }
}
