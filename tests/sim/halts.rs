//! Directed scenarios of partitions that halt: at poison, and where the log is not the one that was folded.

use crate::ports::Fate;
use crate::ports::broker::Draft;
use crate::ports::producer::VersionMode;
use crate::stage::{HERE, Stage, TOPIC};
use crate::subject::Subject;
use crate::world::Outcome;
use snapfold::domain::aggregate::OnPoison;
use snapfold::domain::ids::{Offset, Version};

fn halting() -> Stage {
    let mut subject = Subject::staged(VersionMode::Given);
    subject.on_poison = OnPoison::Halt;
    Stage::of(subject)
}

/// `a` meets poison when it is loaded. What `b` waits with comes after that in the log, and is taken already:
/// it is not folded.
pub(crate) fn halt_while_another_loads() -> Outcome {
    let stage = halting();
    let worker = stage.worker("worker");
    stage.rule(worker, "snapshots", Fate::Answered, 1);
    stage.rule(worker, "snapshots", Fate::Lost, 40);
    stage.append(1, "s1");
    let poison =
        r#"{"id":"e-p","type":"Noted","aggregateId":"a","version":2,"timestamp":"yesterday","data":{}}"#;
    let poison = stage.world.broker.draft("a", poison);
    stage.world.broker.append(TOPIC, HERE, poison).expect("the topic is there");
    stage.append_to("b", 1, "s1");
    stage.world.idle(3_000);
    let status = stage.status(worker);
    let halted = status.halted.as_ref().map(|(offset, _)| *offset);
    let is_taken = status.position == Offset(3) && status.counts.loads == 2;
    let stands = (halted, status.counts.folded, status.low_watermark) == (Some(Offset(1)), 1, Offset(1));
    if !is_taken || !stands {
        stage.world.sim.violation(format!("the partition halts at 1, and is {status:?}"));
    }
    stage.world.finish()
}

#[test]
fn a_record_without_an_aggregate_is_a_dead_letter_under_halt_too() {
    let stage = halting();
    let worker = stage.worker("worker");
    stage.events(1..=2);
    let nobody =
        Draft { aggregate: None, key: None, ..stage.world.broker.draft("", r#"{"type":"Noted","data":{}}"#) };
    let at = stage.world.broker.append(TOPIC, HERE, nobody).expect("the topic is there");
    stage.events(3..=3);
    let status = stage.status(worker);
    assert_eq!((status.halted, status.low_watermark), (None, Offset(4)));
    assert_eq!(stage.world.index.union().letters(&stage.partition(), at, 1).len(), 1);
    let outcome = stage.ask_all();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
}

/// An owner is killed that has folded further than the low watermark tells. The next one loads the snapshot
/// that lies ahead, and before it has come so far the log is cut between the two and goes on with other
/// events (seed 1345, given).
pub(crate) fn log_cut_below_a_loaded_state() -> Outcome {
    let stage = Stage::of(Subject::staged(VersionMode::Given).reading_one_by_one());
    let first = stage.worker("first");
    stage.always(first, "put_checkpoint", Fate::Lost);
    stage.append_to("b", 1, "s1");
    stage.events(1..=5);
    stage.snapshot(first);
    stage.world.sim.kill(first);
    let next = stage.worker("next");
    stage.until("both are loaded", || stage.status(next).counts.loads == 2);
    stage.rule(next, "next", Fate::Refused, 100);
    stage.world.idle(1_000);
    // What was under way may have come: the version of `a` at each offset is the offset.
    let position = stage.status(next).position;
    assert!((2..5).contains(&position.0), "it stands at {position}, and the snapshot lies at 5");
    stage.world.broker.truncate(TOPIC, HERE, position.next());
    for version in position.next().0..=6 {
        stage.append(u64::try_from(version).expect("it is positive"), "s2");
    }
    stage.world.idle(10_000);
    if stage.status(next).halted.is_none() {
        stage.world.sim.violation("what was folded is not in the log, and it is folded on".to_owned());
    }
    stage.world.finish()
}

/// The first owner of a log is killed before its low watermark has moved, and the log is cut below a snapshot
/// that it wrote. Whoever comes next must look for what is at rest, or it folds other events into the same
/// versions.
pub(crate) fn log_cut_behind_a_first_owner() -> Outcome {
    let stage = Stage::untouched(Subject::staged(VersionMode::Given), 1);
    let first = stage.worker("first");
    stage.always(first, "put_checkpoint", Fate::Lost);
    stage.append_to("b", 1, "s1");
    stage.events(1..=5);
    assert_eq!(stage.status(first).counts.loads, 0, "it is the first owner");
    stage.snapshot(first);
    stage.world.sim.kill(first);
    stage.world.broker.truncate(TOPIC, HERE, Offset(3));
    (3..=6).for_each(|version| stage.append(version, "s2"));
    let next = stage.worker("next");
    stage.world.idle(10_000);
    if stage.status(next).halted.is_none() {
        stage.world.sim.violation("what is at rest is not in the log, and it is folded on".to_owned());
    }
    stage.world.finish()
}

/// The log is cut below the low watermark and grows beyond it again, and `a` has its one stored event before
/// the cut. Whoever reads on from the low watermark passes by what has come in between (seed 429).
pub(crate) fn log_cut_below_a_low_watermark() -> Outcome {
    let stage = Stage::new();
    let owner = stage.worker("owner");
    stage.events(1..=1);
    stage.snapshot(owner);
    for version in 1..=5 {
        stage.append_to("b", version, "s1");
    }
    stage.until("all is covered", || stage.acked() == Some(Offset(6)));
    stage.world.sim.kill(owner);
    stage.world.broker.truncate(TOPIC, HERE, Offset(2));
    (2..=8).for_each(|version| stage.append(version, "s2"));
    if let Some(found) = stage.head() {
        stage.world.sim.violation(format!("what was folded is not in the log, and {found:?} is answered"));
    }
    stage.world.finish()
}

/// The same, and all events of `a` are in a checkpoint: what it says of versions nobody may tell for the
/// truth without having read the events.
pub(crate) fn entry_of_events_that_the_log_lost() -> Outcome {
    let stage = Stage::new();
    let owner = stage.worker("owner");
    stage.events(1..=3);
    stage.until("all is covered", || stage.acked() == Some(Offset(3)));
    stage.world.sim.kill(owner);
    let newest = |stage: &Stage| {
        let ((subject, active), partition, key) = (stage.subject(), stage.partition(), stage.key());
        let asked = stage.world.ask(600_000, move |ports| async move {
            subject.reader(&ports, active).newest(&partition, &key).await
        });
        let newest = asked.expect("it is answered").expect("nothing fails");
        (newest.entry, newest.is_entry_sure)
    };
    let before = newest(&stage);
    if before != (Some(Version(3)), true) {
        stage.world.sim.violation(format!("not staged: {before:?}"));
    }
    stage.world.broker.truncate(TOPIC, HERE, Offset(1));
    (2..=4).for_each(|version| stage.append(version, "s2"));
    if newest(&stage).1 {
        stage
            .world
            .sim
            .violation("what a checkpoint says of events that are lost is taken for sure".to_owned());
    }
    stage.world.finish()
}

/// A checkpoint is written, the low watermark is not, and the log is cut below the checkpoint's end. The next
/// owner folds what came instead, beyond that end; then the first one's low watermark arrives. It promised
/// nothing to anybody: what was cut off is not read, and nobody is refused (seed 1035).
pub(crate) fn low_watermark_that_comes_after_a_cut() -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.always(first, "put_watermark", Fate::Stuck);
    stage.events(1..=1);
    stage.snapshot(first);
    stage.events(2..=3);
    stage.world.sim.kill(first);
    stage.world.broker.truncate(TOPIC, HERE, Offset(2));
    let second = stage.worker("second");
    stage.always(second, "delete_checkpoint", Fate::Lost);
    stage.world.idle(2_000);
    stage.snapshot(second);
    (3..=6).for_each(|version| stage.append_at("a", version, "s2", 20 + version));
    stage.world.idle(2_000);
    stage.snapshot(second);
    stage.until("all is covered", || stage.acked() == Some(Offset(6)));
    stage.watermark(3);
    stage.ask_all()
}

/// A low watermark is acknowledged after the next owner has started, and the log is cut below it before that
/// owner has come so far. What was promised is gone, and nobody folds on as if it were not.
pub(crate) fn log_cut_below_a_promise_of_another() -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.always(first, "put_watermark", Fate::Stuck);
    stage.events(1..=3);
    stage.world.sim.kill(first);
    promise_that_is_broken(stage, 3, 1)
}

/// The same, but a clean election lies between the promise and the one that breaks it: the next owner has
/// never folded under the leader epoch of the promise.
pub(crate) fn log_cut_below_a_promise_of_an_older_epoch() -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.always(first, "put_watermark", Fate::Stuck);
    stage.events(1..=6);
    stage.world.sim.kill(first);
    stage.world.broker.truncate(TOPIC, HERE, Offset(6));
    stage.append(7, "s1");
    promise_that_is_broken(stage, 6, 4)
}

/// The next owner starts and reads nothing; a low watermark of the one before arrives, and the log is cut
/// below it. The version of `a` at each offset is the next.
fn promise_that_is_broken(stage: Stage, promised: i64, cut: u64) -> Outcome {
    let next = stage.worker("next");
    stage.always(next, "next", Fate::Refused);
    stage.world.idle(1_000);
    assert_eq!(stage.status(next).position, Offset(0), "it has read nothing yet");
    stage.watermark(promised);
    stage.world.broker.truncate(TOPIC, HERE, Offset(cut.cast_signed()));
    stage.lift();
    (cut + 1..=cut + 5).for_each(|version| stage.append(version, "s2"));
    stage.world.idle(10_000);
    if stage.status(next).halted.is_none() {
        stage.world.sim.violation("what was promised is not in the log, and it is folded on".to_owned());
    }
    stage.world.finish()
}
