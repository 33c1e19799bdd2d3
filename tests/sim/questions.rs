//! Who is asked what, and when: single questions to live workers during chaos, everything in the end.

use crate::executor::lock;
use crate::judge::{Judge, Question, family};
use crate::ports::broker::{JournalEntry, Note};
use crate::stats::Count;
use crate::subject::{Active, Fleet, Subject, topic_id};
use crate::world::{Parts, World};
use snapfold::domain::aggregate::OnPoison;
use snapfold::domain::ids::{AggregateKey, Offset, PartitionNo};
use snapfold::domain::row::PartitionKey;
use snapfold::lookup::Source;
use snapfold::reconstruct::AsOf;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Times, and offsets, that are asked of each aggregate in the end, besides every version: neighbours tell
/// much the same, and other seeds ask for others.
const MOMENTS: usize = 12;

fn keys(world: &Parts, active: Active, asked: &Question) -> (PartitionKey, AggregateKey) {
    let stream = &world.setup.streams[0];
    let lineage = active.lineage;
    let partition = PartitionKey { topic: stream.topic.into(), partition: asked.partition, lineage };
    (partition, AggregateKey { kind: stream.kind.into(), id: asked.id.as_str().into() })
}

/// One random question from one random live worker, judged when it is answered.
pub(crate) fn ask_one(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    fleet.gather(world);
    let active = *lock(&fleet.active);
    let workers = lock(&fleet.workers);
    let able: Vec<_> =
        workers.iter().filter(|(process, of, ..)| *of == active && world.sim.is_alive(*process)).collect();
    if able.is_empty() || !lock(judge).follow(world, active) {
        return;
    }
    let Some(asked) = drawn(world, &lock(judge)) else { return };
    let (process, _, _, lookup) = able[world.sim.draw(|rng| rng.index(able.len()))];
    let (partition, key) = keys(world, active, &asked);
    let (lookup, world_too, fleet, judge) = (lookup.clone(), world.clone(), fleet.clone(), Arc::clone(judge));
    world.sim.spawn(*process, async move {
        let answer = lookup.state(&partition, &key, asked.as_of).await;
        let now = *lock(&fleet.active);
        let mut judge = lock(&judge);
        if now != active || topic_id(&world_too) != active.topic_id || !judge.follow(&world_too, now) {
            return;
        }
        let of_owner = matches!(&answer, Ok(answer) if answer.source == Source::Memory);
        let asked = Question { of_owner, ..asked };
        let verdict = judge.judge(&world_too, &asked, answer.as_ref().map(|answer| &answer.found));
        if let Err(violation) = verdict {
            if std::env::var_os("SNAPFOLD_SIM_SEED").is_some() {
                tell(&world_too, &asked.id);
            }
            world_too.sim.violation(format!("an answer is wrong: {violation}"));
        }
    });
}

fn drawn(world: &Parts, judge: &Judge) -> Option<Question> {
    let places = judge.places();
    if places.is_empty() {
        return None;
    }
    let (at, draw, spread) = world.sim.draw(|rng| (rng.index(places.len()), rng.below(10), rng.below(1_000)));
    let (id, partition) = places.iter().nth(at)?;
    let as_of = if draw < 4 {
        AsOf::Head
    } else {
        let questions = judge.questions(id);
        questions[usize::try_from(spread).unwrap_or(0) % questions.len()]
    };
    let then = judge.now(world, id);
    let (id, partition) = (id.clone(), *partition);
    Some(Question { id, as_of, partition, then, of_owner: false, healed: false })
}

/// Every version of every aggregate and a share of the moments between, asked of rest and log by nobody's
/// worker when all is quiet; and every dead letter.
pub(crate) fn final_check(world: &World, subject: &Subject, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    fleet.gather(world);
    let active = *lock(&fleet.active);
    // Never held while the world goes on: the questions of chaos are still being asked.
    lock(judge).follow(world, active);
    lock(judge).catch_up(world);
    let mut places = lock(judge).places().clone();
    places.insert("nobody".to_owned(), PartitionNo(0));
    for (id, partition) in places {
        let then = lock(judge).now(world, &id);
        let ask = |as_of| Question {
            id: id.clone(),
            as_of,
            partition,
            then: then.clone(),
            of_owner: false,
            healed: true,
        };
        let moments = world.sim.draw(|rng| lock(judge).some_questions(&id, MOMENTS, rng));
        let questions: Vec<Question> = moments.iter().copied().map(ask).collect();
        world.sim.count_more(Count::VersionCompared, then.head);
        let (log, key) = keys(world, active, &questions[0]);
        let subject = subject.clone();
        let answers = world.ask(600_000, move |ports| async move {
            let reader = subject.reader(&ports, active);
            let mut answers = Vec::new();
            for as_of in moments {
                answers.push(reader.state(&log, &key, as_of).await);
            }
            answers
        });
        let Some(answers) = answers else {
            return world.sim.violation(format!("{id}: no answer in the end"));
        };
        for (asked, answer) in questions.iter().zip(&answers) {
            let verdict = lock(judge).judge(world, asked, answer.as_ref());
            if let Err(violation) = verdict {
                return world.sim.violation(format!("in the end: {violation}"));
            }
        }
    }
    check_dead_letters(world, subject, active, judge);
}

/// Every event that became none is recorded (rule 9), with the ledger's reason. More may be there than the
/// ledger has: where poison is skipped, for the ledger keeps no letters then; and where a log that was cut,
/// or damage, made other history for a while.
fn check_dead_letters(world: &World, subject: &Subject, active: Active, judge: &Mutex<Judge>) {
    let stream = &world.setup.streams[0];
    let excused = world.broker.records_cut() > 0 || world.bucket.is_damaged();
    for partition in (0..stream.partitions).map(PartitionNo) {
        let key = PartitionKey { topic: stream.topic.into(), partition, lineage: active.lineage };
        let letters = world.ask(10_000, move |ports| async move {
            ports.index.dead_letters(&key, Offset(0), usize::MAX).await
        });
        let Some(Ok(letters)) = letters else {
            return world.sim.violation("the dead letters cannot be read in the end".to_owned());
        };
        // Conflicts are findings of whoever still has the first event in memory; the ledger has none.
        let findings = letters.iter().filter(|letter| &*letter.code != "conflict");
        let ours: BTreeSet<(i64, &str)> =
            findings.map(|letter| (letter.offset.0, family(&letter.code))).collect();
        let judge = lock(judge);
        let of_partition = judge.dead_letters().iter().filter(|letter| letter.partition == partition.0);
        let theirs: BTreeSet<(i64, &str)> =
            of_partition.map(|letter| (letter.offset, family(letter.code))).collect();
        // What would have been skipped anyway needs no letter, quarantined or not.
        let repeated = world.broker.with_journal(|journal| {
            let mine = journal.iter().filter(|entry| entry.partition == partition);
            let again = mine.filter(|entry| matches!(entry.note, Note::Duplicate | Note::Conflict));
            again.map(|entry| entry.record.offset.0).collect::<BTreeSet<i64>>()
        });
        let missing: Vec<_> = theirs
            .difference(&ours)
            .filter(|(offset, code)| !(*code == "quarantined" && repeated.contains(offset)))
            .collect();
        let surplus: Vec<_> = ours.difference(&theirs).collect();
        let skips = subject.on_poison == OnPoison::Skip;
        if !excused && !(missing.is_empty() && (surplus.is_empty() || skips)) {
            missing.iter().for_each(|(offset, _)| tell_record(world, partition, *offset));
            return world.sim.violation(format!(
                "dead letters of partition {partition}: missing {missing:?}, surplus {surplus:?}"
            ));
        }
    }
}

/// What the journal has of one offset, for people.
fn tell_record(world: &Parts, partition: PartitionNo, offset: i64) {
    world.sim.tell(|| {
        world.broker.with_journal(|journal| {
            let at = |entry: &&JournalEntry| (entry.partition, entry.record.offset.0) == (partition, offset);
            format!("{:?}", journal.iter().filter(at).collect::<Vec<_>>())
        })
    });
}

/// The journal of one aggregate, for people.
fn tell(world: &Parts, id: &str) {
    world.broker.with_journal(|journal| {
        for entry in journal.iter().filter(|entry| entry.aggregate.as_deref() == Some(id)) {
            let value = entry.record.value.as_deref().map(|v| String::from_utf8_lossy(v).into_owned());
            eprintln!(
                "{} {:?} v{:?} at {} cut {:?} topic {:x} {value:?}",
                entry.record.offset, entry.note, entry.version, entry.at, entry.truncated_at, entry.topic_id
            );
        }
    });
}
