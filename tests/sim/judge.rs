//! The judge: compares every answer of the subject with the ledger.

use crate::executor::lock;
use crate::ledger::{Answer, Expected, Ledger, Record, Selector, hex};
use crate::subject::{Active, Fleet, Subject};
use crate::world::{Parts, World};
use snapfold::domain::aggregate::Aggregate;
use snapfold::domain::error::{Error, ErrorKind};
use snapfold::domain::ids::{AggregateKey, Offset, PartitionNo, Timestamp, Version};
use snapfold::domain::partition::Strategy;
use snapfold::domain::row::PartitionKey;
use snapfold::domain::value::{Limits, Value};
use snapfold::lookup::Source;
use snapfold::reconstruct::{AsOf, Found};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The ledger of the active lineage, kept up to the journal.
pub(crate) struct Judge {
    subject: Subject,
    kind: &'static str,
    ledger: Ledger,
    of: Active,
    /// Journal entries that the ledger has seen.
    seen: usize,
    /// Records that were in the journal when the log was cut last.
    cut: usize,
    /// The same when the lineage started.
    cut_before: usize,
    pub(crate) compared: u64,
}

impl Judge {
    pub(crate) fn new(subject: &Subject, world: &Parts, of: Active) -> Self {
        let kind = world.setup.streams[0].kind;
        Self {
            subject: subject.clone(),
            kind,
            ledger: subject.ledger(kind),
            of,
            seen: 0,
            cut: 0,
            cut_before: 0,
            compared: 0,
        }
    }

    /// Reads on in the journal; starts anew where the lineage is another or the log was cut.
    pub(crate) fn catch_up(&mut self, world: &Parts, active: Active) {
        let cut =
            world.broker.with_journal(|journal| journal.iter().filter(|e| e.truncated_at.is_some()).count());
        if active != self.of {
            self.cut_before = cut;
        }
        if active != self.of || cut != self.cut {
            self.ledger = self.subject.ledger(self.kind);
            (self.of, self.cut, self.seen) = (active, cut, 0);
        }
        world.broker.with_journal(|journal| {
            for entry in &journal[self.seen..] {
                if entry.topic_id == active.topic_id && entry.truncated_at.is_none() {
                    let record = &entry.record;
                    self.ledger.push(Record {
                        partition: entry.partition.0,
                        offset: record.offset.0,
                        record_time_ms: record.record_time.0,
                        key: record.key.as_ref().map(|key| key.to_vec()),
                        value: record.value.as_ref().map(|value| value.to_vec()),
                        headers: record
                            .headers
                            .iter()
                            .map(|(name, value)| {
                                (name.to_string(), value.as_ref().map(|value| value.to_vec()))
                            })
                            .collect(),
                    });
                }
            }
            self.seen = journal.len();
        });
    }

    pub(crate) fn head(&self, id: &str) -> u64 {
        self.ledger.head(id)
    }

    /// The log was cut since the lineage started: until the operator has seen it, there are two truths.
    pub(crate) fn is_torn(&self) -> bool {
        self.cut != self.cut_before
    }

    /// Whether an answer to `selector` is right; `head_then` is the head when it was asked.
    pub(crate) fn judge(
        &mut self,
        id: &str,
        as_of: AsOf,
        found: &Found,
        head_then: Option<u64>,
    ) -> Result<(), String> {
        self.compared += 1;
        let say = |what: String| Err(format!("{id} {as_of:?}: {what}"));
        match found {
            Found::State(aggregate, _) => {
                if aggregate.version == Version(0) {
                    return match self.ledger.expect(id, Selector::Head) {
                        Expected::NoGoodVersion(_) => Ok(()),
                        other => say(format!(
                            "a quarantine before version 1 where the ledger has {}",
                            brief(&other)
                        )),
                    };
                }
                let expected = self.ledger.expect(id, Selector::Version(aggregate.version.0));
                let Expected::State(answer) = expected else {
                    return say(format!(
                        "version {} where the ledger has {}",
                        aggregate.version,
                        brief(&expected)
                    ));
                };
                compare(aggregate, &answer).or_else(say)?;
                self.judge_choice(id, as_of, &answer, head_then).or_else(say)
            }
            Found::Unknown if head_then == Some(0) => Ok(()),
            Found::BeyondHead(head) if head_then.is_some_and(|then| head.0 >= then) => Ok(()),
            Found::BeforeFirst(first) => match self.ledger.versions(id).first() {
                Some(fact) if fact.effective_time_ms == first.0 => Ok(()),
                _ => say(format!("before the first event at {first}")),
            },
            other => say(format!("{other:?} where the head was {head_then:?}")),
        }
    }

    /// Whether this version is the one that was asked for.
    fn judge_choice(
        &self,
        id: &str,
        as_of: AsOf,
        answer: &Answer,
        head_then: Option<u64>,
    ) -> Result<(), String> {
        let next = self.ledger.versions(id).iter().find(|fact| fact.version == answer.version + 1);
        let next_existed = head_then.is_some_and(|head| answer.version < head);
        match as_of {
            AsOf::Head if head_then.is_some_and(|head| answer.version < head) => {
                Err(format!("head {} from the past, it was {head_then:?} already", answer.version))
            }
            AsOf::Version(version) if version.0 != answer.version => {
                Err(format!("version {}", answer.version))
            }
            AsOf::Time(time)
                if answer.effective_time_ms > time.0
                    || (next_existed && next.is_some_and(|next| next.effective_time_ms <= time.0)) =>
            {
                Err(format!("version {} is not the last one at that time", answer.version))
            }
            AsOf::Offset(offset)
                if answer.offset > offset.0
                    || (next_existed && next.is_some_and(|next| next.record.offset <= offset.0)) =>
            {
                Err(format!("version {} is not the last one at that offset", answer.version))
            }
            _ => Ok(()),
        }
    }

    /// With strategy `full` the versions between snapshots are the topic's to keep: gone with its retention.
    fn may_be_gone(&self, error: &Error, as_of: AsOf) -> bool {
        error.kind == ErrorKind::Gone && self.subject.strategy == Strategy::Full && as_of != AsOf::Head
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.ledger.aggregates().map(str::to_owned).collect()
    }

    /// Every question that has one answer: head, every version and one beyond, every boundary time, every
    /// offset.
    fn questions(&self, id: &str) -> Vec<AsOf> {
        let versions = self.ledger.versions(id);
        let mut questions = vec![AsOf::Head];
        questions.extend((1..=versions.len() as u64 + 1).map(|version| AsOf::Version(Version(version))));
        questions.extend(self.ledger.boundary_times(id).into_iter().map(|time| AsOf::Time(Timestamp(time))));
        questions.extend(versions.iter().map(|fact| AsOf::Offset(Offset(fact.record.offset))));
        questions
    }
}

fn brief(expected: &Expected) -> String {
    let mut text = format!("{expected:?}");
    text.truncate(120);
    text
}

fn compare(aggregate: &Aggregate, answer: &Answer) -> Result<(), String> {
    let json = aggregate.state.to_json();
    let text = json.as_deref().map_or("null", |json| std::str::from_utf8(json).unwrap_or("not UTF-8"));
    let state = Value::parse(text.as_bytes(), &Limits::default()).map_err(|error| error.to_string())?;
    let pairs = [
        ("state", text.to_owned(), answer.state_text.clone()),
        ("digest", state.digest().to_string(), answer.state_digest.clone()),
        ("chain", hex(&aggregate.chain.0), answer.chain.clone()),
        ("offset", aggregate.offset.to_string(), answer.offset.to_string()),
        ("effective time", aggregate.effective_time.to_string(), answer.effective_time_ms.to_string()),
        ("deleted", aggregate.is_deleted().to_string(), answer.deleted.to_string()),
    ];
    for (what, ours, theirs) in pairs {
        if ours != theirs {
            return Err(format!("version {}: {what} is {ours}, the ledger has {theirs}", answer.version));
        }
    }
    Ok(())
}

/// Where an aggregate lives, by the journal.
pub(crate) fn partitions(world: &Parts, topic_id: u128) -> BTreeMap<String, PartitionNo> {
    world.broker.with_journal(|journal| {
        let mine = journal.iter().filter(|entry| entry.topic_id == topic_id);
        mine.filter_map(|entry| Some((entry.aggregate.as_ref()?.to_string(), entry.partition))).collect()
    })
}

/// One random question from one random live worker, judged when it is answered.
pub(crate) fn ask_one(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let active = *lock(&fleet.active);
    let workers = lock(&fleet.workers);
    let able: Vec<_> =
        workers.iter().filter(|(process, of, ..)| *of == active && world.sim.is_alive(*process)).collect();
    if able.is_empty() {
        return;
    }
    lock(judge).catch_up(world, active);
    let ids = lock(judge).ids();
    if ids.is_empty() {
        return;
    }
    let (worker, id, draw, spread) = world
        .sim
        .draw(|rng| (rng.index(able.len()), rng.pick(&ids).clone(), rng.below(10), rng.below(1_000)));
    let (process, _, _, lookup) = able[worker];
    let (head, facts) = {
        let judge = lock(judge);
        (judge.head(&id), judge.questions(&id))
    };
    let as_of = if draw < 4 { AsOf::Head } else { facts[usize::try_from(spread).unwrap_or(0) % facts.len()] };
    let Some(partition) = partitions(world, active.topic_id).get(&id).copied() else { return };
    let stream = &world.setup.streams[0];
    let partition = PartitionKey { topic: stream.topic.into(), partition, lineage: active.lineage };
    let key = AggregateKey { kind: stream.kind.into(), id: id.as_str().into() };
    let (lookup, world_too, fleet, judge) = (lookup.clone(), world.clone(), fleet.clone(), Arc::clone(judge));
    world.sim.spawn(*process, async move {
        let answer = lookup.state(&partition, &key, as_of).await;
        let now = *lock(&fleet.active);
        let mut judge = lock(&judge);
        judge.catch_up(&world_too, now);
        if now != active || judge.is_torn() || crate::subject::topic_id(&world_too) != active.topic_id {
            return;
        }
        let verdict = match answer {
            Ok(answer) => {
                // An owner answers for its position, which may lie behind the log's end.
                let then = if answer.source == Source::Memory { None } else { Some(head) };
                judge.judge(&id, as_of, &answer.found, then)
            }
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Conflict) => Ok(()),
            Err(error) if judge.may_be_gone(&error, as_of) => Ok(()),
            Err(error) => Err(format!("{id} {as_of:?}: {error}")),
        };
        if let Err(violation) = verdict {
            if std::env::var_os("SNAPFOLD_SIM_SEED").is_some() {
                tell(&world_too, &id);
            }
            world_too.sim.violation(format!("an answer is wrong: {violation}"));
        }
    });
}

/// Every question about every aggregate, asked of rest and log by nobody's worker when all is quiet.
pub(crate) fn final_check(world: &World, subject: &Subject, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let active = *lock(&fleet.active);
    lock(judge).catch_up(world, active);
    let places = partitions(world, active.topic_id);
    let ids = lock(judge).ids();
    for id in ids {
        let Some(partition) = places.get(&id).copied() else { continue };
        let stream = &world.setup.streams[0];
        let partition = PartitionKey { topic: stream.topic.into(), partition, lineage: active.lineage };
        let key = AggregateKey { kind: stream.kind.into(), id: id.as_str().into() };
        let (head, questions) = {
            let judge = lock(judge);
            (judge.head(&id), judge.questions(&id))
        };
        let subject = subject.clone();
        let asked = questions.clone();
        let answers = world.ask(600_000, move |ports| async move {
            let reader = subject.reader(&ports, active);
            let mut answers = Vec::new();
            for as_of in asked {
                answers.push(reader.state(&partition, &key, as_of).await);
            }
            answers
        });
        let Some(answers) = answers else {
            return world.sim.violation(format!("{id}: no answer in the end"));
        };
        for (as_of, answer) in questions.into_iter().zip(answers) {
            let verdict = match answer {
                Ok(found) => lock(judge).judge(&id, as_of, &found, Some(head)),
                Err(error) if lock(judge).may_be_gone(&error, as_of) => Ok(()),
                Err(error) => Err(format!("{id} {as_of:?}: {error}")),
            };
            if let Err(violation) = verdict {
                return world.sim.violation(format!("in the end: {violation}"));
            }
        }
    }
}
/// The journal of one aggregate, for people.
pub(crate) fn tell(world: &Parts, id: &str) {
    world.broker.with_journal(|journal| {
        for entry in journal.iter().filter(|entry| entry.aggregate.as_deref() == Some(id)) {
            let value = entry.record.value.as_deref().map(|v| String::from_utf8_lossy(v).into_owned());
            eprintln!(
                "{} {:?} v{:?} at {} cut {:?} topic {:x} {:?}",
                entry.record.offset,
                entry.note,
                entry.version,
                entry.at,
                entry.truncated_at,
                entry.topic_id,
                value
            );
        }
    });
}
