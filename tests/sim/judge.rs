//! The judge: says of every answer whether the ledger has the same, and of every error whether it may be.
//!
//! *What is allowed*: an answer that is right in everything it tells. `Unavailable` while the world fails.
//! "Gone" with strategy `full` between snapshots, once retention has passed the events that follow on the
//! newest acknowledged snapshot before the moment asked for. "Gone" below what a seed promises to keep, where
//! deletions have taken something (`promises`). In a seed whose stored packs are damaged: an
//! explicit error, or an aggregate that says it stands still as `unreadable`; but only where the log does not
//! reach back to the partition's first event. Never a wrong state.

use crate::ledger::{self, Answer, Expected, Ledger, Record, Selector, hex};
use crate::ports::broker::JournalEntry;
use crate::promises::{Forgotten, Kept};
use crate::rng::Rng;
use crate::stats::Count;
use crate::subject::{Active, Subject};
use crate::world::Parts;
use snapfold::domain::aggregate::Aggregate;
use snapfold::domain::error::{Error, ErrorKind};
use snapfold::domain::ids::{AggregateKey, Lineage, Offset, PartitionNo, Timestamp, Version};
use snapfold::domain::partition::Strategy;
use snapfold::domain::record::{Bytes, QuarantineMark};
use snapfold::domain::row::{PartitionKey, SnapshotRow};
use snapfold::domain::value::{Limits, Value};
use snapfold::reconstruct::{AsOf, Found};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The mark of an aggregate of which nothing that is there can be read.
const UNREADABLE: &str = "unreadable";

/// The ledger of the active lineage, kept up to the journal.
pub(crate) struct Judge {
    subject: Subject,
    kind: &'static str,
    topic: &'static str,
    ledger: Ledger,
    of: Active,
    /// Journal entries that the ledger has seen.
    seen: usize,
    /// Records that the log had lost to truncations when it was looked at last.
    cut: usize,
    /// The same when the lineage started.
    cut_before: usize,
    /// The log was cut and the ledger has not been made anew.
    stale: bool,
    /// Where each aggregate lives.
    places: BTreeMap<String, PartitionNo>,
    /// Whom somebody asked to erase: nothing is said of them from then on.
    erased: BTreeSet<String>,
    /// What deletions may have taken from the lineage.
    pub(crate) forgotten: Forgotten,
    /// What was worked out already.
    known: BTreeMap<String, BTreeMap<u64, Arc<Known>>>,
}

/// What the ledger says of one version, and the product's digest of the ledger's text.
struct Known {
    answer: Answer,
    digest: String,
}

/// What was true when a question was asked: an answer may come from later, never from before.
#[derive(Clone, Debug)]
pub(crate) struct Then {
    pub(crate) head: u64,
    pub(crate) quarantined: bool,
    /// Full snapshots whose rows were acknowledged.
    pub(crate) fulls: Vec<Arc<SnapshotRow>>,
}

/// One question and what was true when it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) as_of: AsOf,
    pub(crate) partition: PartitionNo,
    pub(crate) then: Then,
    /// The owner answers for its position, which may lie behind the log's end.
    pub(crate) of_owner: bool,
    /// Nothing fails any more: errors are no excuse.
    pub(crate) healed: bool,
}

impl Judge {
    pub(crate) fn new(subject: &Subject, world: &Parts, of: Active) -> Self {
        let spec = &world.setup.streams[0];
        Self {
            subject: subject.clone(),
            kind: spec.kind,
            topic: spec.topic,
            ledger: subject.ledger(spec.kind, of.lineage),
            of,
            seen: 0,
            cut: 0,
            cut_before: 0,
            stale: false,
            places: BTreeMap::new(),
            erased: BTreeSet::new(),
            forgotten: Forgotten::default(),
            known: BTreeMap::new(),
        }
    }

    /// Somebody asks to erase an aggregate.
    pub(crate) fn erase(&mut self, id: &str) {
        self.erased.insert(id.to_owned());
        self.places.remove(id);
    }

    /// Whether anybody was asked to be erased.
    pub(crate) fn is_any_erased(&self) -> bool {
        !self.erased.is_empty()
    }

    /// Whether somebody asked to erase this one.
    pub(crate) fn is_erased(&self, id: &str) -> bool {
        self.erased.contains(id)
    }

    /// Looks at the journal; false while the log is torn, when nothing can be judged: it was cut since the
    /// lineage started, so until the operator has seen it there are two truths.
    pub(crate) fn follow(&mut self, world: &Parts, active: Active) -> bool {
        let cut = world.broker.records_cut();
        if active != self.of {
            self.cut_before = cut;
            self.ledger = self.subject.ledger(self.kind, active.lineage);
            self.forgotten.clear();
        }
        self.stale |= active != self.of || cut != self.cut;
        (self.of, self.cut) = (active, cut);
        if cut != self.cut_before {
            return false;
        }
        self.catch_up(world);
        true
    }

    /// Reads on in the journal, from its start where the lineage is another or the log was cut.
    pub(crate) fn catch_up(&mut self, world: &Parts) {
        if std::mem::take(&mut self.stale) {
            self.ledger.restart();
            self.places.clear();
            self.known.clear();
            self.seen = 0;
        }
        world.broker.with_journal(|journal| {
            for entry in &journal[self.seen..] {
                if entry.topic_id != self.of.topic_id {
                    continue;
                }
                if let Some(id) = entry
                    .aggregate
                    .as_deref()
                    .filter(|id| !self.places.contains_key(*id) && !self.erased.contains(*id))
                {
                    self.places.insert(id.to_owned(), entry.partition);
                }
                if entry.truncated_at.is_none() {
                    self.ledger.push(record_of(entry));
                }
            }
            self.seen = journal.len();
        });
    }

    /// Everything that has had a record, with its partition.
    pub(crate) fn places(&self) -> &BTreeMap<String, PartitionNo> {
        &self.places
    }

    /// All that the ledger says of an aggregate, by version.
    pub(crate) fn facts(&self, id: &str) -> &[ledger::VersionFact] {
        self.ledger.versions(id)
    }

    /// The text of a state; none where there is no such version.
    pub(crate) fn state_text(&self, id: &str, version: u64) -> Option<String> {
        match self.ledger.expect(id, ledger::Selector::Version(version)) {
            ledger::Expected::State(answer) => Some(answer.state_text),
            _ => None,
        }
    }

    /// The lineage that is judged.
    pub(crate) fn lineage(&self) -> Lineage {
        self.of.lineage
    }

    /// The largest acknowledged low watermark of a partition under the lineage that is judged.
    pub(crate) fn acked_mark(&self, world: &Parts, partition: PartitionNo) -> Offset {
        let log = PartitionKey { topic: self.topic.into(), partition, lineage: self.of.lineage };
        world.index.acked_mark(&log, self.of.topic_id).unwrap_or_default()
    }

    /// How the seed stores snapshots.
    pub(crate) fn strategy(&self) -> Strategy {
        self.subject.strategy
    }

    /// Where the log of an aggregate's partition starts.
    pub(crate) fn log_start(&self, world: &Parts, asked: &Question) -> i64 {
        world.broker.bounds(self.topic, asked.partition).map_or(0, |bounds| bounds.start.0)
    }

    /// Versions of an aggregate.
    pub(crate) fn head(&self, id: &str) -> u64 {
        self.ledger.head(id)
    }

    /// What must be known of an aggregate from now on.
    pub(crate) fn now(&self, world: &Parts, id: &str) -> Then {
        let key = AggregateKey { kind: self.kind.into(), id: id.into() };
        Then {
            head: self.ledger.head(id),
            quarantined: self.ledger.quarantined(id).is_some(),
            fulls: world.index.acked_fulls(&key, self.of.lineage),
        }
    }

    /// As `questions`, but of versions, times and offsets only so many random ones.
    pub(crate) fn some_questions(&self, id: &str, most: [usize; 3], rng: &mut Rng) -> Vec<AsOf> {
        let kind = |as_of: &AsOf| match as_of {
            AsOf::Head => 3,
            AsOf::Version(_) => 0,
            AsOf::Time(_) => 1,
            AsOf::Offset(_) => 2,
        };
        let mut questions = self.questions(id);
        rng.shuffle(&mut questions);
        let mut taken = [0; 4];
        questions.retain(|as_of| {
            taken[kind(as_of)] += 1;
            most.get(kind(as_of)).is_none_or(|most| taken[kind(as_of)] <= *most)
        });
        questions
    }

    /// Every question that has one answer: head, every version and one beyond, every boundary time, every
    /// offset.
    pub(crate) fn questions(&self, id: &str) -> Vec<AsOf> {
        let versions = self.ledger.versions(id);
        let mut questions = vec![AsOf::Head];
        questions.extend((1..=versions.len() as u64 + 1).map(|version| AsOf::Version(Version(version))));
        questions.extend(self.ledger.boundary_times(id).into_iter().map(|time| AsOf::Time(Timestamp(time))));
        questions.extend(versions.iter().map(|fact| AsOf::Offset(Offset(fact.record.offset))));
        questions
    }

    /// Dead letters that must be there: partition, offset, code.
    pub(crate) fn dead_letters(&self) -> &[ledger::DeadLetter] {
        self.ledger.dead_letters()
    }

    /// Whether this is an answer that the question may get.
    pub(crate) fn judge(
        &mut self,
        world: &Parts,
        asked: &Question,
        answer: Result<&Found, &Error>,
    ) -> Result<(), String> {
        // Also a state: an owner that has not heard of the erasure, or a row of its, may have versions of its
        // own.
        if self.is_erased(&asked.id) {
            return Ok(());
        }
        match answer {
            Ok(found) => self.judge_found(world, asked, found),
            Err(error) => self.judge_error(world, asked, error),
        }
        .map_err(|what| format!("{} {:?}: {what}", asked.id, asked.as_of))
    }

    fn judge_error(&self, world: &Parts, asked: &Question, error: &Error) -> Result<(), String> {
        let passing = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Conflict);
        if passing && !asked.healed {
            return Ok(());
        }
        if error.kind == ErrorKind::Gone {
            world.sim.count(Count::GoneAnswer);
        }
        if error.kind == ErrorKind::Gone && self.may_be_gone(world, asked) {
            return Ok(());
        }
        if error.kind == ErrorKind::Gone && self.may_be_forgotten(world, asked) {
            world.sim.count(Count::ForgottenAnswer);
            return Ok(());
        }
        let damage = matches!(error.kind, ErrorKind::Gone | ErrorKind::Corrupt | ErrorKind::Unavailable);
        if damage && self.may_be_unreadable(world, asked) {
            world.sim.count(Count::DamageExcuse);
            return Ok(());
        }
        Err(format!("{error:?}"))
    }

    /// Where not every event is kept, the versions between snapshots are the topic's to keep. They are gone
    /// once the log starts beyond the event that follows on the snapshot before them, where nothing newer
    /// leads on.
    fn may_be_gone(&self, world: &Parts, asked: &Question) -> bool {
        if self.subject.strategy.keeps_events() || asked.as_of == AsOf::Head {
            return false;
        }
        let before = |row: &&Arc<SnapshotRow>| match asked.as_of {
            AsOf::Head => true,
            AsOf::Version(version) => row.version <= version,
            AsOf::Time(time) => row.effective_time <= time,
            AsOf::Offset(offset) => row.last_offset <= offset,
        };
        let base = asked.then.fulls.iter().filter(before).map(|row| row.version).max().unwrap_or_default();
        if asked.as_of == AsOf::Version(base) {
            return false;
        }
        let facts = self.ledger.versions(&asked.id);
        let from = facts.iter().find(|fact| fact.version == base.0).map_or(0, |fact| fact.record.offset + 1);
        let start = world.broker.bounds(self.topic, asked.partition).map_or(0, |bounds| bounds.start.0);
        let key = AggregateKey { kind: self.kind.into(), id: asked.id.as_str().into() };
        start > from && world.index.newest_seen(&key, self.of.lineage) > base
    }

    /// From which version of an aggregate on all must be there, whatever was deleted.
    pub(crate) fn kept(&self, world: &Parts, Question { id, then, .. }: &Question) -> Kept {
        let facts = self.ledger.versions(id);
        let in_force = |time| facts.partition_point(|fact| fact.effective_time_ms <= time) as u64;
        let stored = self.now(world, id).fulls.iter().map(|row| row.version.0).collect();
        let known = self.staying(world, id, then).iter().map(|row| row.version.0).collect();
        self.forgotten.kept(id, in_force, &stored, &known)
    }

    /// States that were stored when a question was asked and still are, maybe in another pack. What was
    /// deleted meanwhile may have been stored again: whoever looked between the two met nothing (seed 4074,
    /// counted).
    pub(crate) fn staying(&self, world: &Parts, id: &str, then: &Then) -> Vec<Arc<SnapshotRow>> {
        let now = self.now(world, id).fulls;
        let same = |a: &SnapshotRow, b: &SnapshotRow| (a.version, a.created_at) == (b.version, b.created_at);
        then.fulls.iter().filter(|row| now.iter().any(|other| same(row, other))).cloned().collect()
    }

    /// Whether what was deleted may have been all that led to the version that was asked for. What a state is
    /// stored of is there.
    fn may_be_forgotten(&self, world: &Parts, asked: &Question) -> bool {
        let facts = self.ledger.versions(&asked.id);
        let version = match asked.as_of {
            AsOf::Head => return false,
            AsOf::Version(version) => version.0,
            AsOf::Time(time) => facts.partition_point(|fact| fact.effective_time_ms <= time.0) as u64,
            AsOf::Offset(offset) => facts.partition_point(|fact| fact.record.offset <= offset.0) as u64,
        };
        let stays = || {
            let staying = self.staying(world, &asked.id, &asked.then);
            staying.iter().any(|row| row.version.0 == version)
        };
        // When the next version came nobody may know any more.
        let is_told = !matches!(asked.as_of, AsOf::Time(_));
        version < self.kept(world, asked).states && !(is_told && stays())
    }

    /// Whether damage to what is stored may have taken something away for good.
    pub(crate) fn may_be_unreadable(&self, world: &Parts, asked: &Question) -> bool {
        let start = world.broker.bounds(self.topic, asked.partition).map_or(0, |bounds| bounds.start.0);
        start > 0 && world.bucket.is_damaged()
    }

    fn judge_found(&mut self, world: &Parts, asked: &Question, found: &Found) -> Result<(), String> {
        world.sim.count(if asked.healed { Count::FinalAnswer } else { Count::ChaosAnswer });
        let head_then = (!asked.of_owner).then_some(asked.then.head);
        match found {
            Found::State(aggregate, _) => self.judge_state(world, asked, aggregate),
            Found::Unknown if asked.then.head == 0 && !asked.then.quarantined => Ok(()),
            Found::BeyondHead(head) if head_then.is_some_and(|then| head.0 >= then) => Ok(()),
            Found::BeforeFirst(first) => match self.ledger.versions(&asked.id).first() {
                Some(fact) if fact.effective_time_ms == first.0 => Ok(()),
                _ => Err(format!("before the first event at {first}")),
            },
            Found::BeyondHead(_) if self.may_be_unreadable(world, asked) => {
                world.sim.count(Count::DamageExcuse);
                Ok(())
            }
            other => Err(format!("{other:?} where it was {:?}", asked.then)),
        }
    }

    fn judge_state(&mut self, world: &Parts, asked: &Question, aggregate: &Aggregate) -> Result<(), String> {
        let mark = aggregate.quarantine.as_deref();
        let excused =
            mark.is_some_and(|mark| &*mark.code == UNREADABLE) && self.may_be_unreadable(world, asked);
        if excused {
            world.sim.count(Count::DamageExcuse);
        } else {
            self.judge_mark(asked, aggregate.version, mark)?;
        }
        if aggregate.version == Version(0) {
            let alone = excused || (mark.is_some() && self.ledger.head(&asked.id) == 0);
            return if alone { Ok(()) } else { Err("version 0 without a reason".to_owned()) };
        }
        let known = self.known(&asked.id, aggregate.version)?;
        compare(aggregate, &known)?;
        if excused { Ok(()) } else { self.judge_choice(asked, &known.answer) }
    }

    /// A mark must be the ledger's; at the head it must not be missing.
    fn judge_mark(&self, asked: &Question, at: Version, mark: Option<&QuarantineMark>) -> Result<(), String> {
        let theirs = self.ledger.quarantined(&asked.id);
        let equal = |ours: &QuarantineMark, theirs: &ledger::Quarantine| {
            (family(&ours.code), ours.version.0, ours.offset.0, ours.since.0)
                == (family(theirs.code), theirs.version, theirs.offset, theirs.since_ms)
                && at == ours.version
        };
        let due = asked.as_of == AsOf::Head && asked.then.quarantined && !asked.of_owner;
        match (mark, theirs) {
            (None, _) if !due => Ok(()),
            (Some(ours), Some(theirs)) if equal(ours, theirs) => Ok(()),
            _ => Err(format!("version {at}: the mark is {mark:?}, the ledger has {theirs:?}")),
        }
    }

    /// Whether this version is the one that was asked for.
    fn judge_choice(&self, asked: &Question, answer: &Answer) -> Result<(), String> {
        let next =
            usize::try_from(answer.version).ok().and_then(|at| self.ledger.versions(&asked.id).get(at));
        let head_then = (!asked.of_owner).then_some(asked.then.head);
        let next_existed = head_then.is_some_and(|head| answer.version < head);
        let wrong = match asked.as_of {
            AsOf::Head => next_existed,
            AsOf::Version(version) => version.0 != answer.version,
            AsOf::Time(time) => {
                answer.effective_time_ms > time.0
                    || (next_existed && next.is_some_and(|next| next.effective_time_ms <= time.0))
            }
            AsOf::Offset(offset) => {
                answer.offset > offset.0
                    || (next_existed && next.is_some_and(|next| next.record.offset <= offset.0))
            }
        };
        if wrong {
            return Err(format!("version {} is not the one; the head was {head_then:?}", answer.version));
        }
        Ok(())
    }

    fn known(&mut self, id: &str, version: Version) -> Result<Arc<Known>, String> {
        if let Some(known) = self.known.get(id).and_then(|versions| versions.get(&version.0)) {
            return Ok(Arc::clone(known));
        }
        let answer = match self.ledger.expect(id, Selector::Version(version.0)) {
            Expected::State(answer) => *answer,
            other => return Err(format!("version {version} where the ledger has {other:?}")),
        };
        let state = Value::parse(answer.state_text.as_bytes(), &Limits::default());
        let digest = state.map_err(|error| error.to_string())?.digest().to_string();
        let known = Arc::new(Known { answer, digest });
        self.known.entry(id.to_owned()).or_default().insert(version.0, Arc::clone(&known));
        Ok(known)
    }
}

/// What product and ledger call by different names, or name by the first of several faults of one record.
pub(crate) fn family(code: &str) -> &str {
    match code {
        "no-key-and-value" | "no-aggregate-id" | "bad-aggregate-id" | "null-record" => "no-aggregate",
        "bad-json" | "event-too-large" => "undecodable",
        "no-event-type" | "bad-version" | "bad-time" | "bad-event-id" => "bad-type",
        _ if code.starts_with("reducer-") => "reducer",
        _ => code,
    }
}

fn record_of(entry: &JournalEntry) -> Record {
    let record = &entry.record;
    let header = |(name, value): &(Box<str>, Option<Bytes>)| {
        (name.to_string(), value.as_ref().map(|value| value.to_vec()))
    };
    Record {
        partition: entry.partition.0,
        offset: record.offset.0,
        record_time_ms: record.record_time.0,
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.as_ref().map(|value| value.to_vec()),
        headers: record.headers.iter().map(header).collect(),
    }
}

/// All that an answer tells, against the ledger. The digest is the product's own, of the same text.
fn compare(aggregate: &Aggregate, known: &Known) -> Result<(), String> {
    let answer = &known.answer;
    let json = aggregate.state.to_json();
    let text = json.as_deref().map_or("null", |json| std::str::from_utf8(json).unwrap_or("not UTF-8"));
    let differ = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        Err(format!("version {}: {what} is {ours:?}, the ledger has {theirs:?}", answer.version))
    };
    if text != answer.state_text {
        return differ("state", &text, &answer.state_text);
    }
    if known.digest != answer.state_digest {
        return differ("digest", &known.digest, &answer.state_digest);
    }
    let chain = hex(&aggregate.chain.0);
    if chain != answer.chain {
        return differ("chain", &chain, &answer.chain);
    }
    let ours = (aggregate.offset.0, aggregate.effective_time.0, aggregate.is_deleted());
    let theirs = (answer.offset, answer.effective_time_ms, answer.deleted);
    if ours != theirs {
        return differ("(offset, effective time, deleted)", &ours, &theirs);
    }
    let ours = (&*aggregate.last_event_type, aggregate.last_event_id.as_deref());
    let theirs = (answer.last_event_type.as_deref().unwrap_or_default(), answer.last_event_id.as_deref());
    if ours != theirs {
        return differ("last event", &ours, &theirs);
    }
    Ok(())
}
