//! Directed scenarios of an erasure: whoever starts to fold, and whoever folds already, goes on without the
//! aggregate, and nothing of it is written again.

use crate::executor::ProcessId;
use crate::ports::Fate;
use crate::ports::producer::VersionMode;
use crate::stage::Stage;
use crate::subject::Subject;
use crate::world::{Outcome, Ports};
use snapfold::domain::erasure::ErasedIds;
use snapfold::domain::ids::{AggregateKey, Offset, Version};
use snapfold::domain::poison::Poison;
use snapfold::lookup::{Freshness, Selector};
use snapfold::reconstruct::NoOwners;
use snapfold::store::index::From;
use std::sync::Arc;

/// Erases `a`, as a process that owns nothing, and hears who is erased.
fn erase(stage: &Stage) -> ErasedIds {
    erase_of(stage, "a")
}

/// The same of any aggregate.
pub(crate) fn erase_of(stage: &Stage, id: &'static str) -> ErasedIds {
    stage.forget_about(id);
    let (subject, active) = stage.subject();
    let erased = stage.world.ask(60_000, move |ports| async move {
        let reader = subject.reader(&ports, active);
        let lookup = subject.lookup(&ports, active, reader, Arc::new(NoOwners));
        let erasure = lookup.erase(id, "asked for".into(), None).await.map_err(|why| format!("{why:?}"));
        let again = lookup.erase(id, "again".into(), None).await.map_err(|why| format!("{why:?}"));
        assert_eq!(erasure, again, "it is erased once");
        lookup.erased_ids()
    });
    erased.expect("it is answered")
}

/// No row and no listed checkpoint tells of an aggregate.
fn nothing_of(stage: &Stage, id: &str) -> bool {
    let (subject, active) = stage.subject();
    let (log, key) = (stage.partition(), AggregateKey { id: id.into(), ..stage.key() });
    let left = stage.world.ask(60_000, move |ports: Ports| async move {
        let rows = ports.index.snapshots(&key, log.lineage, From::Above(Version(0)), 99).await;
        let view = subject.reader(&ports, active).view_of(&log, &key).await;
        (rows.expect("nothing fails").len(), view.expect("nothing fails").checkpoints.len())
    });
    left.expect("it is answered") == (0, 0)
}

/// Events of `a` and of another come; one of them is erased, the other goes on.
fn goes_on_without_it(stage: Stage, owner: ProcessId) -> Outcome {
    stage.lift();
    stage.append_to("b", 3, "s1");
    stage.events(5..=6);
    stage.snapshot(owner);
    stage.snapshot_of(owner, "b");
    if !nothing_of(&stage, "a") {
        stage.world.sim.violation("something of an erased aggregate was written".to_owned());
    }
    if nothing_of(&stage, "b") {
        stage.world.sim.violation("nothing of another aggregate was written".to_owned());
    }
    let status = stage.status(owner);
    if status.residents != 1 {
        stage.world.sim.violation(format!("an erased aggregate is in memory: {status:?}"));
    }
    if status.counts.erased == 0 || status.low_watermark < status.position {
        stage.world.sim.violation(format!("the partition does not go on: {status:?}"));
    }
    stage.world.finish()
}

/// `a` is erased, and the owner, who has not heard of it, folds one more event of it. Nothing covers that:
/// the checkpoint of before, with an event of `b`, is still on its way.
fn folded() -> (Stage, ProcessId, ErasedIds) {
    let stage = Stage::new();
    let owner = stage.worker("owner");
    stage.append_to("b", 1, "s1");
    stage.events(1..=3);
    let erased = erase(&stage);
    stage.always(owner, "put_checkpoint", Fate::Lost);
    stage.append_to("b", 2, "s1");
    stage.until("a checkpoint is on its way", || stage.status(owner).flights == 1);
    stage.append(4, "s1");
    stage.until("one more event is folded", || stage.status(owner).position == Offset(6));
    (stage, owner, erased)
}

/// The owner dies; the next one has not heard of the erasure until it starts.
pub(crate) fn owner_that_starts_after_an_erasure() -> Outcome {
    let (stage, owner, _) = folded();
    stage.world.sim.kill(owner);
    let next = stage.worker("next");
    stage.world.idle(1_000);
    goes_on_without_it(stage, next)
}

/// The owner has its state in memory, and events of it that nothing covers.
pub(crate) fn owner_that_hears_of_an_erasure() -> Outcome {
    let (stage, owner, erased) = folded();
    stage.asked_of(owner).0.heed(&erased);
    stage.world.idle(1_000);
    goes_on_without_it(stage, owner)
}

/// A checkpoint with an event of it is on its way when the owner hears of the erasure; its row comes later.
pub(crate) fn checkpoint_on_its_way_at_an_erasure() -> Outcome {
    let stage = Stage::new();
    let owner = stage.worker("owner");
    stage.append_to("b", 1, "s1");
    stage.events(1..=3);
    let erased = erase(&stage);
    stage.always(owner, "put_checkpoint", Fate::Lost);
    stage.append_to("b", 2, "s1");
    stage.append(4, "s1");
    stage.until("both events are on their way", || {
        let status = stage.status(owner);
        (status.position, status.flights) == (Offset(6), 1)
    });
    stage.asked_of(owner).0.heed(&erased);
    stage.world.idle(1_000);
    goes_on_without_it(stage, owner)
}

/// A process that knows where an aggregate is, and asks after it was erased; versions are counted. The log
/// has two more events of it.
pub(crate) fn reader_that_has_not_heard_of_an_erasure() -> Outcome {
    let stage = Stage::of(Subject::staged(VersionMode::Counted));
    let owner = stage.worker("owner");
    stage.events(1..=4);
    stage.snapshot(owner);
    stage.until("all is covered", || stage.acked() == Some(Offset(4)));
    stage.world.sim.kill(owner);
    stage.events(5..=6);
    stage.forget_about("a");
    let (subject, active) = stage.subject();
    let asked = stage.world.ask(60_000, move |ports| async move {
        let [early, late] = [(), ()]
            .map(|()| subject.lookup(&ports, active, subject.reader(&ports, active), Arc::new(NoOwners)));
        early.events("a", Version(1), Some(Version(1)), false, 1).await.expect("it is found");
        late.erase("a", "asked for".into(), None).await.expect("nothing fails");
        early.state("a", Selector::Head, Freshness::default()).await.map(|answer| answer.aggregate.version)
    });
    if let Ok(version) = asked.expect("it is answered")
        && version != Version(6)
    {
        stage.world.sim.violation(format!("events from the middle of the log are told as version {version}"));
    }
    stage.world.finish()
}

/// Goal: a partition that waits for its checkpoint before it starts again can be revoked.
#[test]
fn a_partition_that_is_to_start_again_can_be_revoked() {
    let (stage, owner, erased) = folded();
    stage.asked_of(owner).0.heed(&erased);
    stage.world.idle(1_000);
    let mut done = stage.drain(owner);
    stage.world.idle(100);
    assert_eq!(done.try_recv(), Ok(Some(())), "it lets go of the partition");
}

/// Goal: who was told to stand still does so when it starts again without the erased.
#[test]
fn a_partition_that_stands_still_does_so_after_an_erasure_too() {
    let (stage, owner, erased) = folded();
    let handle = stage.asked_of(owner).0;
    handle.halt(&Poison::new("log-compacted", "a test"));
    stage.world.idle(200);
    handle.heed(&erased);
    stage.lift();
    stage.world.idle(1_000);
    stage.append_to("b", 3, "s1");
    stage.world.idle(1_000);
    let status = stage.status(owner);
    assert_eq!(status.halted.as_ref().map(|(_, poison)| poison.code), Some("log-compacted"), "{status:?}");
    assert_eq!(status.counts.records, 0, "it started again, and folds nothing: {status:?}");
}
