//! Who is asked what, and when: single questions to live workers during chaos, everything in the end.

use crate::executor::lock;
use crate::judge::{Judge, Question, family};
use crate::origins;
use crate::ports::broker::JournalEntry;
use crate::promises::earliest_fits;
use crate::stats::Count;
use crate::subject::{Active, Fleet, Running, Subject, topic_id};
use crate::surface::{self, Told, Wish};
use crate::world::{Parts, World};
use snapfold::domain::aggregate::OnPoison;
use snapfold::domain::ids::{Offset, PartitionNo, Version};
use snapfold::domain::row::{DeadLetter, PartitionKey};
use snapfold::lookup::{Answer, Asked, Refusal, SnapshotFilter, Source, VerifyMode};
use snapfold::reconstruct::AsOf;
use snapfold::reconstruct::NoOwners;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Moments of each aggregate that are asked for in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moments {
    /// Every version and every boundary time, and a few offsets.
    All,
    /// A few versions, times and offsets: neighbours tell much the same. That no version is missing, its
    /// events tell.
    Some,
}

impl Moments {
    /// All in every third seed; other seeds ask for others.
    pub(crate) fn of_seed(seed: u64) -> Self {
        if seed.is_multiple_of(3) { Self::All } else { Self::Some }
    }

    /// Versions, times and offsets at the most.
    fn most(self) -> [usize; 3] {
        match self {
            Self::All => [usize::MAX, usize::MAX, 5],
            Self::Some => [10, 5, 5],
        }
    }
}

/// Live workers of the active lineage; none if there are none, or if the ledger cannot follow.
pub(crate) fn able(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) -> Option<Vec<Running>> {
    fleet.gather(world);
    let active = *lock(&fleet.active);
    let workers = lock(&fleet.workers);
    let is_able = |(process, of, ..): &&Running| *of == active && world.sim.is_alive(*process);
    let able: Vec<Running> = workers.iter().filter(is_able).cloned().collect();
    drop(workers);
    (!able.is_empty() && lock(judge).follow(world, active)).then_some(able)
}

/// One random question from one random live worker, judged when it is answered.
pub(crate) fn ask_one(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let Some(able) = able(world, fleet, judge) else { return };
    let active = *lock(&fleet.active);
    let Some(asked) = drawn(world, &lock(judge)) else { return };
    let (process, _, _, lookup) = &able[world.sim.draw(|rng| rng.index(able.len()))];
    let told = Told::new(world, &lock(judge), wish(world, &asked), asked);
    let wants_state = world.sim.draw(|rng| rng.percent(65));
    let (lookup, world_too, fleet, judge) = (lookup.clone(), world.clone(), fleet.clone(), Arc::clone(judge));
    let waits = world.asks();
    world.sim.spawn(*process, async move {
        let _waits = waits;
        let outcome = match wants_state {
            true => Ok(surface::state(&lookup, &told.asked).await),
            false => Err(surface::ask(&lookup, &told).await),
        };
        let now = *lock(&fleet.active);
        let mut judge = lock(&judge);
        if now != active || topic_id(&world_too) != active.topic_id || !judge.follow(&world_too, now) {
            return;
        }
        let verdict = match outcome {
            Ok(answer) => judge_state(&mut judge, &world_too, &told, &answer),
            Err(got) => surface::judge(&mut judge, &world_too, &told, &got),
        };
        let asked = told.asked;
        if let Err(violation) = verdict {
            if std::env::var_os("SNAPFOLD_SIM_SEED").is_some() {
                tell(&world_too, &asked.id);
            }
            world_too.sim.violation(format!("an answer is wrong: {violation}"));
        }
    });
}

/// A state and the head version with it.
fn judge_state(judge: &mut Judge, world: &Parts, told: &Told, answer: &Asked<Answer>) -> Result<(), String> {
    let of_owner = matches!(&answer, Ok(answer) if answer.source == Source::Memory);
    let asked = Question { of_owner, ..told.asked.clone() };
    judge.judge(world, &asked, surface::found(answer).as_ref())?;
    if let (Err(Refusal::HistoryGone { earliest }), AsOf::Version(version)) = (answer, asked.as_of)
        && !judge.is_erased(&asked.id)
        && !judge.may_be_unreadable(world, &asked)
        && judge.strategy().keeps_events()
    {
        earliest_fits(version.0, *earliest, judge.kept(world, &asked).states)?;
    }
    let excused = judge.may_be_unreadable(world, &asked) || judge.is_erased(&asked.id);
    answer.as_ref().map_or(Ok(()), |answer| surface::judge_head(judge, told, answer, excused))
}

/// Something else to ask of an aggregate.
fn wish(world: &Parts, asked: &Question) -> Wish {
    world.sim.draw(|rng| {
        let head = asked.then.head.max(1);
        let (low, high) = (rng.between(1, head), rng.between(1, head + 1));
        let (from, to) = (low.min(high), rng.percent(70).then_some(low.max(high)));
        let (descending, limit) = (rng.percent(40), rng.index(9) + 1);
        match rng.below(14) {
            10 => Wish::Blame(rng.percent(50).then_some(low)),
            11 => Wish::History { path: rng.index(origins::PATHS.len()), from: low, descending, limit },
            12 => Wish::Changes { after: low.min(head) - u64::from(rng.percent(50)) },
            13 => Wish::Within { version: low },
            0 => Wish::Latest,
            1 | 2 => Wish::Aggregates(rng.index(8) + 2),
            3 | 4 => Wish::Snapshots(SnapshotFilter {
                from_version: rng.percent(50).then_some(Version(from)),
                to_version: to.map(Version),
                after: rng.percent(30).then_some(Version(low)),
                descending,
                limit,
                ..SnapshotFilter::default()
            }),
            _ => Wish::Events { from, to, descending, limit },
        }
    })
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

/// The head and the moments of every aggregate, and all its events, asked of rest and log by nobody's worker
/// when all is quiet; and every dead letter.
pub(crate) fn final_check(
    world: &World,
    subject: &Subject,
    fleet: &Fleet,
    judge: &Arc<Mutex<Judge>>,
    moments: Moments,
) {
    world.sim.count_more(Count::AllCompared, u64::from(moments == Moments::All));
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
        let moments = world.sim.draw(|rng| lock(judge).some_questions(&id, moments.most(), rng));
        let questions: Vec<Question> = moments.iter().copied().map(ask).collect();
        for as_of in moments {
            match as_of {
                AsOf::Version(_) => world.sim.count(Count::VersionCompared),
                AsOf::Time(_) => world.sim.count(Count::TimeCompared),
                AsOf::Head | AsOf::Offset(_) => {}
            }
        }
        if let Err(violation) = everything(world, subject, active, judge, questions) {
            if std::env::var_os("SNAPFOLD_SIM_SEED").is_some() {
                tell(world, &id);
            }
            return world.sim.violation(format!("in the end: {violation}"));
        }
    }
    check_dead_letters(world, subject, active, judge);
}

/// One aggregate in the end: states, events, snapshots, verification.
fn everything(
    world: &World,
    subject: &Subject,
    active: Active,
    judge: &Mutex<Judge>,
    questions: Vec<Question>,
) -> Result<(), String> {
    let any = questions[0].clone();
    let all = usize::MAX;
    let mut wishes = vec![
        Wish::Events { from: 1, to: None, descending: false, limit: all },
        Wish::Snapshots(SnapshotFilter { limit: all, ..SnapshotFilter::default() }),
        Wish::Latest,
        Wish::Verify(VerifyMode::Checksum),
        Wish::Verify(VerifyMode::Replay),
        Wish::Aggregates(4),
    ];
    wishes.extend((0..3).map(|_| wish(world, &any)));
    let first = Told::new(world, &lock(judge), wishes[0], any.clone());
    let told: Vec<Told> = wishes.into_iter().map(|wish| first.with(&lock(judge), wish)).collect();
    let (subject, id, asked, wishes) = (subject.clone(), any.id, questions.clone(), told.clone());
    let answers = world.ask(600_000, move |ports| async move {
        let reader = subject.reader(&ports, active);
        let lookup = subject.lookup(&ports, active, reader, Arc::new(NoOwners));
        let (mut states, mut others) = (Vec::new(), Vec::new());
        for asked in &asked {
            states.push(surface::state(&lookup, asked).await);
        }
        for told in &wishes {
            others.push(surface::ask(&lookup, told).await);
        }
        (states, others)
    });
    let (states, others) = answers.ok_or_else(|| format!("{id}: no answer in the end"))?;
    let mut judge = lock(judge);
    for (asked, answer) in questions.into_iter().zip(&states) {
        judge_state(&mut judge, world, &Told { asked, ..told[0].clone() }, answer)?;
    }
    told.iter().zip(&others).try_for_each(|(told, got)| surface::judge(&mut judge, world, told, got))
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
        let is_erased = |letter: &&DeadLetter| {
            letter.aggregate.as_ref().is_some_and(|key| lock(judge).is_erased(&key.id))
        };
        let letters = letters.iter().filter(|letter| !is_erased(letter));
        let findings = letters.filter(|letter| &*letter.code != "conflict");
        let ours: BTreeSet<(i64, &str)> =
            findings.map(|letter| (letter.offset.0, family(&letter.code))).collect();
        let judge = lock(judge);
        let is_kept = |letter: &&crate::ledger::DeadLetter| {
            letter.partition == partition.0
                && !letter.aggregate_id.as_deref().is_some_and(|id| judge.is_erased(id))
        };
        let of_partition = judge.dead_letters().iter().filter(is_kept);
        let theirs: BTreeSet<(i64, &str)> =
            of_partition.map(|letter| (letter.offset, family(letter.code))).collect();
        let missing: Vec<_> = theirs.difference(&ours).collect();
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

/// The journal of one aggregate and its rows, for people.
fn tell(world: &Parts, id: &str) {
    for row in world.index.union().all_snapshots().filter(|row| &*row.key.id == id) {
        eprintln!(
            "row {:?} {}..{} offsets {}..{} {:?} in {:?} quarantined {}",
            row.kind,
            row.from_version,
            row.version,
            row.first_offset,
            row.last_offset,
            row.lineage,
            row.pack,
            row.quarantined
        );
    }
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
