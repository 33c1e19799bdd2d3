//! Directed scenarios of checkpoints and logs that are lost. Where the log still has what checkpoints held,
//! it is folded and covered again, and they are let go of. Where it has not, their partition stands still,
//! and whatever does not depend on them is answered.

use crate::plan::FaultPlan;
use crate::ports::Fate;
use crate::rng::Odds;
use crate::stage::{HERE, Stage, TOPIC};
use crate::world::Outcome;
use snapfold::domain::error::ErrorKind;
use snapfold::domain::ids::{Offset, PackId, Version};
use snapfold::lookup::{Answer, Asked, Refusal, Selector};
use snapfold::reconstruct::Found;
use snapfold::worker;

/// Three events in a checkpoint whose owner is gone and whose pack is lost.
fn with_lost_checkpoint() -> (Stage, Vec<PackId>) {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.events(1..=3);
    stage.world.sim.kill(first);
    let lost = stage.listed();
    stage.lose("checkpoint");
    (stage, lost)
}

/// The log is whole: the next owner folds the events again, covers them, and only then retires the row. After
/// that neither the pack nor the log is missed.
pub(crate) fn lost_checkpoint_that_is_folded_again() -> Outcome {
    let (stage, lost) = with_lost_checkpoint();
    stage.worker("next");
    stage.world.idle(2_000);
    let listed = stage.listed();
    let is_done = !lost.is_empty() && !lost.iter().any(|pack| listed.contains(pack));
    if !is_done || stage.acked() != Some(Offset(3)) {
        stage.world.sim.violation(format!("{lost:?} were lost and {listed:?} are listed"));
    }
    stage.forget();
    let head = stage.head();
    if !matches!(&head, Some(Found::State(head, _)) if head.version == Version(3)) {
        stage.world.sim.violation(format!("the head was 3 and is {head:?}"));
    }
    stage.ask_all()
}

/// The same, but the next owner cannot cover what it folds: the row stays.
pub(crate) fn lost_checkpoint_before_it_is_covered() -> Outcome {
    let (stage, lost) = with_lost_checkpoint();
    let next = stage.worker("next");
    stage.always(next, "put_checkpoint", Fate::Lost);
    stage.world.idle(2_000);
    if stage.status(next).position != Offset(3) || stage.listed() != lost {
        let what = format!("{lost:?} are not covered, listed are {:?}", stage.listed());
        stage.world.sim.violation(what);
    }
    stage.ask_all()
}

/// What was lost is the first checkpoint alone. What later ones hold does not join before the log was read
/// again, and their tables are more than all the memory there is.
pub(crate) fn lost_checkpoint_before_large_tables() -> Outcome {
    let mut stage = Stage::new();
    let first = stage.worker("first");
    stage.events(1..=2);
    stage.lose("checkpoint");
    stage.events(3..=4);
    stage.world.sim.kill(first);
    stage.remember_at_most(1);
    let next = stage.worker("next");
    stage.world.idle(20_000);
    let status = stage.status(next);
    if status.low_watermark != Offset(4) {
        stage.world.sim.violation(format!("events of the log are not covered: {status:?}"));
    }
    stage.ask_all()
}

/// The log is gone. `a` is in a snapshot, and in a lost checkpoint with its last event; `b` in a snapshot and
/// in a later checkpoint, so it had no event between; `c` in the lost checkpoint alone.
pub(crate) fn lost_checkpoint_and_no_log() -> Outcome {
    let stage = Stage::new();
    let first = stage.worker("first");
    stage.append_to("b", 1, "s1");
    stage.append_to("b", 2, "s1");
    stage.events(1..=3);
    stage.snapshot_of(first, "b");
    stage.snapshot(first);
    stage.world.idle(1_000);
    stage.append_to("c", 1, "s1");
    stage.events(4..=4);
    stage.lose("checkpoint");
    stage.append_to("b", 3, "s1");
    stage.world.idle(1_500);
    stage.world.sim.kill(first);
    stage.forget();
    answers_what_it_can(&stage);
    let next = stage.worker("next");
    // It looks again several times before it believes that.
    stage.world.idle(10_000);
    if stage.status(next).refused.is_none() {
        stage.world.sim.violation("the partition is folded on although events are lost".to_owned());
    }
    answers_what_it_can(&stage);
    stage.world.finish()
}

fn answers_what_it_can(stage: &Stage) {
    let at = |version| Selector::Version(Version(version));
    let wrong = |what: &str, got: &dyn std::fmt::Debug| {
        stage.world.sim.violation(format!("{what} is {got:?}"));
    };
    let tells = |answer: &Asked<Answer>, version: u64, head: Option<u64>| {
        matches!(answer, Ok(answer) if answer.aggregate.version == Version(version)
            && answer.head_version == head.map(Version))
    };
    let is_told =
        |refusal: &Refusal| matches!(refusal, Refusal::Failed(error) if error.kind == ErrorKind::Corrupt);
    for version in [2, 3] {
        let (answer, events) = stage.asked("a", at(version), version);
        if !tells(&answer, version, None) || !matches!(&events, Ok(events) if events.len() as u64 == version)
        {
            wrong("`a` up to its snapshot", &(version, answer, events));
        }
    }
    for (id, selector) in
        [("a", Selector::Head), ("a", at(4)), ("c", Selector::Head), ("c", at(1)), ("d", at(1))]
    {
        let (answer, _) = stage.asked(id, selector, 1);
        if !answer.as_ref().is_err_and(is_told) {
            wrong("what only a lost checkpoint knows", &(id, selector, answer));
        }
    }
    for selector in [Selector::Head, at(3)] {
        let (answer, events) = stage.asked("b", selector, 3);
        if !tells(&answer, 3, Some(3)) || !matches!(&events, Ok(events) if events.len() == 3) {
            wrong("`b`, of which nothing is lost", &(answer, events));
        }
    }
}

/// Two owners for a while: the former one has covered three events when the new one, which starts before
/// them, cannot read yet; and the log forgets them before it can. What the new one needs is covered, so it
/// goes on from there (seed 863, given).
pub(crate) fn log_that_passes_an_owner() -> Outcome {
    let stage = Stage::new();
    let former = stage.worker("former");
    stage.always(former, "put_watermark", Fate::Lost);
    stage.events(1..=3);
    stage.world.sim.kill(former);
    let next = stage.worker("next");
    stage.rule(next, "next", Fate::Refused, 20);
    while stage.status(next).replay_until != Offset(3) {
        stage.world.idle(10);
    }
    stage.watermark(3);
    stage.world.broker.retain(TOPIC, HERE, Offset(3));
    stage.world.idle(1_500);
    stage.events(4..=5);
    let status = stage.status(next);
    if status.low_watermark != Offset(5) {
        stage.world.sim.violation(format!("the log has passed its owner, which stands still: {status:?}"));
    }
    stage.ask_all()
}

/// A log that ends in a marker forgets it: the owner has seen that nothing was there, and the next one need
/// not ask.
#[test]
fn log_that_forgets_a_marker() {
    let stage = Stage::new();
    let calm = stage.world.gate.plan(FaultPlan::clone);
    let owner = stage.worker("owner");
    stage.world.gate.set_plan(FaultPlan { offset_gap: Odds(10_000), ..calm.clone() });
    stage.events(1..=1);
    stage.world.gate.set_plan(calm);
    stage.world.idle(3_000);
    let status = stage.status(owner);
    assert_eq!((status.position, status.reached), (Offset(1), Offset(2)), "{status:?}");
    stage.world.broker.retain(TOPIC, HERE, Offset(2));
    stage.world.idle(5_000);
    let status = stage.status(owner);
    assert_eq!((status.position, status.low_watermark), (Offset(2), Offset(2)), "{status:?}");
    stage.world.sim.kill(owner);
    let next = stage.worker("next");
    stage.events(2..=4);
    assert_eq!(stage.status(next).refused, None);
    let outcome = stage.ask_all();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
}

/// The log forgets an event that its owner has not read: that is told, however long it takes to read.
pub(crate) fn log_that_forgets_an_unread_event() -> Outcome {
    let stage = Stage::new();
    let owner = stage.worker("owner");
    stage.events(1..=2);
    // What is being read now is answered before the event is there: else that read alone tells of the loss.
    stage.always(owner, "next", Fate::Stuck);
    stage.world.idle(100);
    stage.append(3, "s1");
    stage.world.broker.retain(TOPIC, HERE, Offset(3));
    stage.world.idle(30_000);
    stage.lift();
    stage.world.idle(5_000);
    let status = stage.status(owner);
    let lost = worker::Refusal::RetentionPassed { low_watermark: Offset(2), start: Offset(3) };
    if status.refused != Some(lost) {
        stage.world.sim.violation(format!("an event is lost, and nobody says so: {status:?}"));
    }
    stage.world.finish()
}

/// The same with one owner alone, which has folded more than it has covered: nobody else will cover that, so
/// it does before it stands still, and says from where on events are lost.
#[test]
fn log_that_passes_its_only_owner() {
    let stage = Stage::new();
    let owner = stage.worker("owner");
    stage.events(1..=1);
    stage.append(2, "s1");
    stage.append(3, "s1");
    while stage.status(owner).position != Offset(3) {
        stage.world.idle(1);
    }
    assert_eq!(stage.status(owner).low_watermark, Offset(1), "it has folded more than it has covered");
    stage.rule(owner, "next", Fate::Refused, 50);
    stage.append(4, "s1");
    stage.append(5, "s1");
    stage.world.broker.retain(TOPIC, HERE, Offset(4));
    stage.world.idle(5_000);
    let lost = worker::Refusal::RetentionPassed { low_watermark: Offset(3), start: Offset(4) };
    assert_eq!(stage.status(owner).refused, Some(lost));
}

/// The topic is deleted and created again, with another history under the same ids and offsets. A worker of
/// the old lineage must not go on with it, and a reader of the old lineage must not count it on.
pub(crate) fn topic_that_is_created_again() -> Outcome {
    let stage = Stage::new();
    let former = stage.worker("former");
    stage.events(1..=3);
    stage.world.sim.kill(former);
    stage.world.broker.create(&TOPIC.into(), 1);
    (1..=5).for_each(|version| stage.append(version, "another"));
    if let Some(found) = stage.head().filter(|found| !is_version(found, 3)) {
        stage.world.sim.violation(format!("the head of the old history was 3 and is {found:?}"));
    }
    let next = stage.worker("next");
    stage.world.idle(3_000);
    let status = stage.status(next);
    if status.refused != Some(worker::Refusal::TopicRecreated) || status.counts.folded > 0 {
        stage.world.sim.violation(format!("another topic was taken for the old one: {status:?}"));
    }
    stage.world.finish()
}

fn is_version(found: &Found, version: u64) -> bool {
    matches!(found, Found::State(head, _) if head.version == Version(version))
}
