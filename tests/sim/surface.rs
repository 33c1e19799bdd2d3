//! What lookups tell beside states: events, lists, snapshots, head versions, verification; and whether it is
//! right.
//!
//! *What is allowed*: an owner answers for its position, which is never below an acknowledged low watermark.
//! So what was below one when the question was asked must be in every answer; what is more must be in the
//! ledger.

use crate::judge::{Judge, Question, Then};
use crate::origins;
use crate::promises::earliest_fits;
use crate::stats::Count;
use crate::world::Parts;
use snapfold::domain::error::{Error, ErrorKind};
use snapfold::domain::ids::{Offset, Version};
use snapfold::domain::value::Pointer;
use snapfold::lookup::{
    Answer, Asked, Basis, Blame, Changed, EventView, FieldHistory, Freshness, ListItem, Lookup, Over,
    Refusal, Selector, SnapshotFilter, SnapshotMeta, Verified, VerifyMode, Which,
};
use snapfold::reconstruct::{AsOf, Found};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One question that is not for a state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// Events.
    Events { from: u64, to: Option<u64>, descending: bool, limit: usize },
    /// Who wrote each field, at a version or the head.
    Blame(Option<u64>),
    /// Changes of one of [`origins::PATHS`].
    History { path: usize, from: u64, descending: bool, limit: usize },
    /// What the events after a version did.
    Changes { after: u64 },
    /// The head as it was when only this version's event had been read.
    Within { version: u64 },
    /// Stored snapshots.
    Snapshots(SnapshotFilter),
    /// The newest snapshot.
    Latest,
    /// Aggregates, in pages of this size.
    Aggregates(usize),
    /// Verification; only for what nothing happens to meanwhile.
    Verify(VerifyMode),
}

/// What it got.
pub(crate) enum Got {
    Events(Asked<Vec<EventView>>),
    Blame(Asked<Box<Blame>>),
    History(Asked<FieldHistory>),
    Changes(Asked<Vec<Changed>>),
    Within(Asked<Box<Answer>>),
    Snapshots(Asked<Vec<SnapshotMeta>>),
    Latest(Asked<Box<(SnapshotMeta, Answer)>>),
    Aggregates(Asked<Vec<ListItem>>),
    Verify(Asked<Verified>),
}

/// A wish, about whom, and what was true when it was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) wish: Wish,
    pub(crate) asked: Question,
    /// Of every aggregate, the versions below an acknowledged low watermark.
    pub(crate) durable: Arc<BTreeMap<String, u64>>,
    /// Of the version that the wish is within.
    pub(crate) basis: Option<Basis>,
}

impl Told {
    pub(crate) fn new(world: &Parts, judge: &Judge, wish: Wish, asked: Question) -> Self {
        Self {
            basis: basis(judge, wish, &asked),
            wish,
            asked,
            durable: Arc::new(durable_heads(world, judge)),
        }
    }

    /// Another wish about the same.
    pub(crate) fn with(&self, judge: &Judge, wish: Wish) -> Self {
        Self { basis: basis(judge, wish, &self.asked), wish, ..self.clone() }
    }

    fn wish_is(&self, mode: VerifyMode) -> bool {
        matches!(self.wish, Wish::Verify(wished) if wished == mode)
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.get(&self.asked.id).copied().unwrap_or(0)
    }
}

/// What whoever has read up to the event of the wish's version has read.
fn basis(judge: &Judge, wish: Wish, asked: &Question) -> Option<Basis> {
    let Wish::Within { version } = wish else { return None };
    let fact = judge.facts(&asked.id).get(usize::try_from(version).ok()?.checked_sub(1)?)?;
    Some(Basis::of(judge.lineage(), asked.partition, Offset(fact.record.offset)))
}

/// The versions of every aggregate that lie below an acknowledged low watermark.
pub(crate) fn durable_heads(world: &Parts, judge: &Judge) -> BTreeMap<String, u64> {
    let mut heads = BTreeMap::new();
    for (id, partition) in judge.places() {
        let low = judge.acked_mark(world, *partition);
        let below = judge.facts(id).partition_point(|fact| fact.record.offset < low.0);
        heads.insert(id.clone(), below as u64);
    }
    heads
}

/// A state's question, as a lookup takes it.
pub(crate) async fn state(lookup: &Lookup, asked: &Question) -> Asked<Answer> {
    let selector = match asked.as_of {
        AsOf::Head => Selector::Head,
        AsOf::Version(version) => Selector::Version(version),
        AsOf::Time(time) => Selector::Time(time),
        AsOf::Offset(offset) => Selector::Offset(asked.partition, offset),
    };
    lookup.state(&asked.id, selector, Freshness::default()).await
}

/// An outcome in the words of rest, which the judge speaks.
pub(crate) fn found(outcome: &Asked<Answer>) -> Result<Found, Error> {
    match outcome {
        Ok(answer) => Ok(Found::State(Box::new(answer.aggregate.clone()), answer.provenance)),
        Err(Refusal::UnknownAggregate) => Ok(Found::Unknown),
        Err(Refusal::VersionBeyondHead { head }) => Ok(Found::BeyondHead(*head)),
        Err(Refusal::BeforeFirstEvent { first_time }) => Ok(Found::BeforeFirst(*first_time)),
        Err(refusal) => Err(error_of(refusal)),
    }
}

fn error_of(refusal: &Refusal) -> Error {
    let of = |kind, code| Error::new(kind, code, format!("{refusal:?}"));
    match refusal {
        Refusal::Failed(error) => error.clone(),
        Refusal::HistoryGone { .. } => of(ErrorKind::Gone, "history-gone"),
        Refusal::NotCaughtUp { .. } => of(ErrorKind::Unavailable, "not-caught-up"),
        _ => of(ErrorKind::Internal, "corrupt"),
    }
}

/// Asks, whatever it is.
pub(crate) async fn ask(lookup: &Lookup, told: &Told) -> Got {
    let id = &*told.asked.id;
    match told.wish {
        Wish::Blame(version) => {
            let at = version.map_or(Selector::Head, |version| Selector::Version(Version(version)));
            Got::Blame(lookup.blame(id, at, None, &Pointer::default()).await.map(Box::new))
        }
        Wish::History { path, from, descending, limit } => {
            let path: Pointer = origins::PATHS[path].parse().expect("a pointer");
            let over = Over { from: Version(from), to: None, descending, limit, basis: None };
            Got::History(lookup.field_history(id, &path, over).await)
        }
        Wish::Changes { after } => Got::Changes(lookup.changes_after(id, Version(after), 5).await),
        Wish::Within { .. } => match &told.basis {
            Some(basis) => Got::Within(lookup.state_in(id, Selector::Head, Some(basis)).await.map(Box::new)),
            None => Got::Within(Err(Refusal::UnknownAggregate)),
        },
        Wish::Events { from, to, descending, limit } => {
            let (from, to) = (Version(from), to.map(Version));
            Got::Events(lookup.events(id, from, to, descending, limit).await)
        }
        Wish::Snapshots(filter) => Got::Snapshots(lookup.snapshots(id, filter).await),
        Wish::Latest => Got::Latest(lookup.snapshot(id, Which::Latest).await.map(Box::new)),
        Wish::Verify(mode) => Got::Verify(lookup.verify(id, None, mode).await),
        Wish::Aggregates(page) => {
            let mut all: Vec<ListItem> = Vec::new();
            loop {
                let after = all.last().map(|item| Arc::clone(&item.id));
                match lookup.aggregates("a", after.as_deref(), page).await {
                    Ok(items) => {
                        let is_last = items.len() < page;
                        all.extend(items);
                        if is_last {
                            return Got::Aggregates(Ok(all));
                        }
                    }
                    Err(refusal) => return Got::Aggregates(Err(refusal)),
                }
            }
        }
    }
}

/// The head version that an answer carries.
pub(crate) fn judge_head(judge: &Judge, told: &Told, answer: &Answer, excused: bool) -> Result<(), String> {
    let id = &told.asked.id;
    let Some(head) = answer.head_version else {
        return if excused { Ok(()) } else { Err(format!("{id}: the head is not known")) };
    };
    let least = if excused { 0 } else { told.durable() };
    let exact = told.asked.healed && !excused;
    let fits = head >= answer.aggregate.version
        && head.0 >= least
        && head.0 <= judge.head(id)
        && (!exact || head.0 == told.asked.then.head);
    if fits { Ok(()) } else { Err(format!("{id}: head version {head}, durable was {least}")) }
}

/// Whether this is what may be told.
pub(crate) fn judge(judge: &mut Judge, world: &Parts, told: &Told, got: &Got) -> Result<(), String> {
    // Lists have who was erased until whoever answers has heard of it.
    let is_list = matches!(got, Got::Aggregates(_)) && judge.is_any_erased();
    if is_list || judge.is_erased(&told.asked.id) {
        return Ok(());
    }
    let excused = judge.may_be_unreadable(world, &told.asked);
    let verdict = match got {
        Got::Events(Ok(events)) => events_fit(judge, told, events, excused),
        Got::Blame(Ok(blame)) => origins::blame_fits(judge, world, told, blame),
        Got::History(Ok(history)) => origins::history_fits(judge, told, history, excused),
        Got::Changes(Ok(changes)) => origins::changes_fit(judge, told, changes, excused),
        Got::Within(Ok(answer)) => origins::within_fits(judge, world, told, answer),
        Got::Snapshots(Ok(snapshots)) => snapshots_fit(judge, world, told, snapshots),
        Got::Latest(Ok(latest)) => latest_fits(judge, world, told, &latest.0, &latest.1),
        Got::Aggregates(Ok(items)) => aggregates_fit(judge, told, items, world.bucket.is_damaged()),
        Got::Verify(Ok(verified)) => verified_fits(judge, world, told, verified),
        Got::Events(Err(refusal))
        | Got::Blame(Err(refusal))
        | Got::History(Err(refusal))
        | Got::Changes(Err(refusal))
        | Got::Within(Err(refusal))
        | Got::Snapshots(Err(refusal))
        | Got::Latest(Err(refusal))
        | Got::Aggregates(Err(refusal))
        | Got::Verify(Err(refusal)) => refusal_fits(judge, world, told, refusal, excused),
    };
    world.sim.count(Count::SurfaceAnswer);
    verdict.map_err(|what| format!("{} {:?}: {what}", told.asked.id, told.wish))
}

fn events_fit(judge: &Judge, told: &Told, events: &[EventView], excused: bool) -> Result<(), String> {
    let Wish::Events { from, to, descending, limit } = told.wish else {
        return Err("events were not asked for".to_owned());
    };
    let facts = judge.facts(&told.asked.id);
    let (from, to) = (from.max(1), to.unwrap_or(u64::MAX));
    let span = |head: u64| usize::try_from((to.min(head) + 1).saturating_sub(from)).unwrap_or(0).min(limit);
    let least = if excused { 0 } else { span(told.durable()) };
    if events.len() < least || events.len() > span(facts.len() as u64) {
        return Err(format!("{} events, at least {least}", events.len()));
    }
    let ascending: Vec<&EventView> =
        if descending { events.iter().rev().collect() } else { events.iter().collect() };
    let follow = ascending.windows(2).all(|pair| pair[0].version.next() == pair[1].version);
    let starts = descending || ascending.first().is_none_or(|event| event.version.0 == from);
    let ends = !descending || ascending.last().is_none_or(|event| event.version.0 <= to);
    if !(follow && starts && ends) {
        return Err("these are other versions".to_owned());
    }
    for event in ascending {
        let Some(fact) = usize::try_from(event.version.0 - 1).ok().and_then(|at| facts.get(at)) else {
            return Err(format!("version {} where there is none", event.version));
        };
        let record = &event.event.record;
        let ours = (record.offset.0, event.event.digest.0, event.effective_time.0, event.skipped);
        let theirs = (fact.record.offset, fact.event_digest, fact.effective_time_ms, fact.skipped);
        let same = record.value.as_deref() == fact.record.value.as_deref()
            && event.partition.0 == fact.record.partition;
        if ours != theirs || !same {
            return Err(format!(
                "the event of version {} is {ours:?}, the ledger has {theirs:?}",
                event.version
            ));
        }
    }
    Ok(())
}

fn snapshots_fit(
    judge: &Judge,
    world: &Parts,
    told: &Told,
    snapshots: &[SnapshotMeta],
) -> Result<(), String> {
    let Wish::Snapshots(filter) = told.wish else { return Err("snapshots were not asked for".to_owned()) };
    let versions: Vec<Version> = snapshots.iter().map(|meta| meta.row.version).collect();
    let ordered =
        versions.windows(2).all(|pair| if filter.descending { pair[0] > pair[1] } else { pair[0] < pair[1] });
    if !ordered || versions.len() > filter.limit {
        return Err(format!("{versions:?} are not in order, or too many"));
    }
    let inside = |version: Version| {
        filter.from_version.is_none_or(|from| version >= from)
            && filter.to_version.is_none_or(|to| version <= to)
            && filter
                .after
                .is_none_or(|after| if filter.descending { version < after } else { version > after })
    };
    for meta in snapshots {
        snapshot_fits(judge, told, meta)?;
        if !inside(meta.row.version) {
            return Err(format!("version {} was not asked for", meta.row.version));
        }
    }
    let full = versions.len() == filter.limit;
    // What somebody deletes while it is asked for may be told or not.
    let staying = judge.staying(world, &told.asked.id, &told.asked.then);
    let missing = staying.iter().map(|row| row.version).find(|version| {
        let past = versions
            .last()
            .is_some_and(|last| if filter.descending { version < last } else { version > last });
        inside(*version) && !versions.contains(version) && version.0 > 0 && !(full && past)
    });
    missing.map_or(Ok(()), |version| Err(format!("the snapshot of version {version} is missing")))
}

fn snapshot_fits(judge: &Judge, told: &Told, meta: &SnapshotMeta) -> Result<(), String> {
    let row = &meta.row;
    let fact = usize::try_from(row.version.0)
        .ok()
        .and_then(|at| judge.facts(&told.asked.id).get(at.checked_sub(1)?));
    let Some(fact) = fact else { return Err(format!("a snapshot of version {}", row.version)) };
    let ours = (row.effective_time.0, row.deleted, row.partition.0);
    let theirs = (fact.effective_time_ms, fact.deleted, fact.record.partition);
    let known = snapfold::lookup::snapshot_id_bytes(&meta.id);
    let id = snapfold::domain::chain::snapshot_id(&row.key, row.lineage, row.version);
    if ours != theirs || known != Some(id) {
        return Err(format!(
            "the snapshot of version {} is {ours:?}, the ledger has {theirs:?}",
            row.version
        ));
    }
    Ok(())
}

fn latest_fits(
    judge: &mut Judge,
    world: &Parts,
    told: &Told,
    snapshot: &SnapshotMeta,
    answer: &Answer,
) -> Result<(), String> {
    snapshot_fits(judge, told, snapshot)?;
    if snapshot.archived {
        world.sim.count(Count::ArchivedAnswer);
    }
    let newest = told.asked.then.fulls.iter().map(|row| row.version).max().unwrap_or_default();
    if snapshot.row.version < newest || answer.aggregate.version != snapshot.row.version {
        return Err(format!("the newest snapshot was {newest}, told was {}", snapshot.row.version));
    }
    let as_of = AsOf::Version(snapshot.row.version);
    let asked = Question { as_of, ..told.asked.clone() };
    judge.judge(world, &asked, found(&Ok(answer.clone())).as_ref())
}

fn aggregates_fit(judge: &Judge, told: &Told, items: &[ListItem], damaged: bool) -> Result<(), String> {
    if !items.windows(2).all(|pair| pair[0].id < pair[1].id) {
        return Err("the list is not in order".to_owned());
    }
    for item in items {
        let fact = usize::try_from(item.version.0 - 1).ok().and_then(|at| judge.facts(&item.id).get(at));
        let theirs = fact.map(|fact| (fact.effective_time_ms, fact.deleted));
        // Where its events cannot be read nobody knows.
        let deleted = item.deleted.or(theirs.filter(|_| damaged).map(|(_, deleted)| deleted));
        if theirs.map(|(time, deleted)| (time, Some(deleted))) != Some((item.timestamp.0, deleted)) {
            return Err(format!("{item:?} where the ledger has {theirs:?}"));
        }
    }
    let listed: BTreeMap<&str, u64> = items.iter().map(|item| (&*item.id, item.version.0)).collect();
    let short = told.durable.iter().find(|(id, durable)| {
        **durable > 0 && id.starts_with('a') && listed.get(id.as_str()).is_none_or(|listed| listed < durable)
    });
    match short {
        Some((id, durable)) if !damaged => {
            Err(format!("{id} was durable at {durable}, listed {:?}", listed.get(id.as_str())))
        }
        _ => Ok(()),
    }
}

/// Where nothing is damaged nothing is found, but what the producer did: other bytes under a version that is
/// there. And where the log was cut: a checkpoint may still hold an event that others have replaced.
fn verified_fits(judge: &Judge, world: &Parts, told: &Told, verified: &Verified) -> Result<(), String> {
    let was_cut = world.broker.records_cut() > 0;
    let is_forgotten = judge.kept(world, &told.asked).states > 1;
    let harmless = |code: &str| match code {
        "conflict" => was_cut || told.wish_is(VerifyMode::Replay),
        "history-gone" => told.wish_is(VerifyMode::Replay) || is_forgotten,
        _ => false,
    };
    match verified.problems.iter().find(|problem| !harmless(problem.code)) {
        Some(problem) if !world.bucket.is_damaged() => Err(format!("{problem:?}")),
        _ => Ok(()),
    }
}

/// The first version that a wish names, if it does.
fn first_wanted(told: &Told) -> Option<u64> {
    match told.wish {
        Wish::Events { from, .. } | Wish::History { from, .. } => Some(from),
        Wish::Changes { after } => Some(after),
        Wish::Blame(version) => version,
        _ => None,
    }
}

fn refusal_fits(
    judge: &Judge,
    world: &Parts,
    told: &Told,
    refusal: &Refusal,
    excused: bool,
) -> Result<(), String> {
    let Then { head, quarantined, fulls } = &told.asked.then;
    let fits = match refusal {
        Refusal::UnknownAggregate => *head == 0,
        Refusal::NoSnapshot => fulls.iter().all(|row| row.version == Version(0)),
        Refusal::VersionBeyondHead { head } => first_wanted(told).is_some_and(|first| {
            head.0 < first && (excused || head.0 >= told.durable()) && head.0 <= judge.head(&told.asked.id)
        }),
        // Of one aggregate it says nothing; what is damaged is no reason not to list the others.
        Refusal::HistoryGone { .. } if matches!(told.wish, Wish::Aggregates(_)) => {
            return Err(format!("{refusal:?}"));
        }
        Refusal::HistoryGone { earliest } => {
            // Without increments the events between snapshots are the topic's to keep.
            let fact = match told.wish {
                // Whoever wrote a field may be any version before.
                Wish::Blame(_) => 1,
                _ => first_wanted(told).unwrap_or(1).max(1),
            };
            let later = earliest
                .is_none_or(|earliest| earliest.0 >= fact && earliest.0 <= judge.head(&told.asked.id) + 1);
            let kept = judge.kept(world, &told.asked).events;
            if kept > fact && !excused && judge.strategy().keeps_events() {
                // Who asks for a moment names no version: any may be told.
                let is_named = matches!(told.wish, Wish::Blame(_)) || first_wanted(told).is_some();
                earliest_fits(if is_named { fact } else { 0 }, *earliest, kept)?;
            }
            let is_topics = !judge.strategy().keeps_events() && judge.log_start(world, &told.asked) > 0;
            later && (excused || is_topics || kept > fact)
        }
        Refusal::NotCaughtUp { .. } => !told.asked.healed,
        Refusal::Failed(error) => match error.kind {
            ErrorKind::Unavailable | ErrorKind::Conflict => !told.asked.healed,
            ErrorKind::Gone | ErrorKind::Corrupt | ErrorKind::NotFound => false,
            ErrorKind::Invalid | ErrorKind::Internal => false,
        },
        _ => false,
    };
    let damage = excused || world.bucket.is_damaged();
    if fits || (damage && !matches!(refusal, Refusal::TooMuchWork { .. } | Refusal::WrongPartition { .. })) {
        return Ok(());
    }
    Err(format!("{refusal:?} where it was head {head}, quarantined {quarantined}"))
}
