//! Erasures and the purge in the random runs, and directed scenarios of what a purge may move and take away.
//! Of whom the purge says that nothing is left, no object has a record, in the live store or in the archive;
//! that nothing of others is lost, all the other questions tell.

use crate::collection::{NO_DELAYS, collector};
use crate::executor::lock;
use crate::judge::Judge;
use crate::questions::able;
use crate::rng::Rng;
use crate::stats::Count;
use crate::subject::{Fleet, Subject};
use crate::world::{Parts, Ports, World};
use snapfold::codec::pack::{OpenTail, named_pack, open_tail};
use snapfold::compute::Inline;
use snapfold::domain::ids::LedgerId;
use snapfold::store::packs::Packs;
use snapfold::store::{SnapshotStore, purges};
use snapfold::upkeep::gc::{GcSettings, Mode as Collecting};
use snapfold::upkeep::purge::{Mode, Purge, PurgeSettings, Report};
use snapfold::worker::Handle;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// How often a worker looks who is erased.
const HEED_MS: u64 = 150;
/// How often somebody asks for an erasure that failed.
const TRIES: usize = 10;
/// Passes of both duties in the end.
const ROUNDS: usize = 12;

/// Whether aggregates of a seed are erased: then it has a generator of its own.
pub(crate) fn of_seed(seed: u64) -> bool {
    Rng::new(seed ^ 0x0e4a_5e0f).percent(40)
}

/// When somebody asks for that.
pub(crate) fn times(seed: u64, chaos_ms: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed ^ 0x71_3e5);
    (0..rng.between(1, 3)).map(|_| rng.between(chaos_ms / 4, chaos_ms)).collect()
}

/// A purge over these ports.
pub(crate) fn purge(subject: &Subject, ports: &Ports, settle_ms: u64) -> Purge {
    let packs = Packs::new(Arc::clone(&ports.index), Arc::clone(&ports.blobs), subject.compression, [0; 16]);
    let store = SnapshotStore {
        index: Arc::clone(&ports.index),
        packs: Arc::new(packs),
        clock: Arc::clone(&ports.clock),
        compute: Arc::new(Inline),
        limits: subject.limits,
        written: Arc::default(),
    };
    let topics = ports.streams.iter().map(|stream| (stream.spec.kind.into(), stream.spec.topic.into()));
    let settings = PurgeSettings { lease_ms: 2_000, pause_ms: 0, settle_ms };
    Purge::new(Arc::new(store), topics.collect(), BTreeSet::new(), settings)
}

/// What every worker does: it looks who is erased, and forgets them.
pub(crate) fn heed(ports: &Ports, handle: &Handle, packs: &Arc<Packs>) {
    let (clock, handle, packs) = (Arc::clone(&ports.clock), handle.clone(), Arc::clone(packs));
    let kind = ports.streams[0].spec.kind;
    ports.sim.spawn(ports.process, async move {
        let mut heeded = 0;
        loop {
            // What cannot be read now is read the next time.
            let _ = packs.erasures.refresh().await;
            let erased = packs.erasures.ids(kind);
            if erased.len() > heeded {
                heeded = erased.len();
                handle.heed(&erased);
            }
            clock.sleep(HEED_MS).await;
        }
    });
}

/// Asks one random live worker to erase a random aggregate, once and again.
pub(crate) fn erase_one(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let Some(workers) = able(world, fleet, judge) else { return };
    let places: Vec<String> = lock(judge).places().keys().cloned().collect();
    // Somebody is left to ask about.
    if places.len() < 3 {
        return;
    }
    let id = world.sim.draw(|rng| rng.pick(&places).clone());
    lock(judge).erase(&id);
    world.sim.count(Count::ErasureAsked);
    let (process, _, _, lookup) = workers[world.sim.draw(|rng| rng.index(workers.len()))].clone();
    let clock = world.ports(process).clock;
    world.sim.spawn(process, async move {
        for _ in 0..TRIES {
            if lookup.erase(&id, "random".into(), None).await.is_ok() {
                break;
            }
            clock.sleep(HEED_MS).await;
        }
    });
}

/// One random live worker purges.
pub(crate) fn purge_once(world: &Parts, subject: &Subject, fleet: &Fleet) {
    let Some(process) = fleet.any_alive(world) else { return };
    let purge = purge(subject, &world.ports(process), subject.limits.deadline_ms);
    let sim = world.sim.clone();
    world.sim.spawn(process, async move {
        if let Ok(Some(report)) = purge.pass(Mode::Purge).await {
            count(&sim, &report);
        }
    });
}

fn count(sim: &crate::executor::Sim, report: &Report) {
    sim.count_more(Count::PackRewritten, report.rewritten);
    sim.count_more(Count::RecordMoved, report.moved);
    sim.count_more(Count::ErasureComplete, report.completed);
}

/// When all is quiet: both duties go on until nothing is left, if they can; then what they say is true.
pub(crate) fn finish(world: &World, subject: &Subject) {
    // Leases of the dead run out.
    world.idle(3_000);
    for _ in 0..ROUNDS {
        let subject_too = subject.clone();
        let deadline_ms = subject.limits.deadline_ms;
        let passed = world.ask(600_000, move |ports| async move {
            let settings = GcSettings { age_ms_min: deadline_ms, distance_ms: deadline_ms, ..NO_DELAYS };
            let collected = collector(&subject_too, &ports, settings).pass(Collecting::Forced).await;
            collected.and(purge(&subject_too, &ports, 0).pass(Mode::Purge).await)
        });
        match passed {
            Some(Ok(Some(report))) => {
                count(&world.sim, &report);
                if report.incomplete == 0 {
                    break;
                }
            }
            // Whoever had the lease has died with it.
            Some(Ok(None)) => {}
            other => return world.sim.violation(format!("the purge did not end: {other:?}")),
        }
        world.idle(2_000);
    }
    check(world);
}

/// Of whom nothing is left no object has a record.
pub(crate) fn check(world: &World) {
    let erased = world.ask(60_000, |ports| async move {
        let packs = Packs::new(ports.index, Arc::clone(&ports.blobs), Default::default(), [0; 16]);
        packs.erasures.refresh().await.expect("nothing fails");
        (packs.erasures.all(), purges::standing(&*ports.blobs).await.expect("nothing fails"))
    });
    let (erasures, standing) = erased.expect("it is answered");
    let is_complete = |at: &LedgerId| standing.get(at).is_some_and(|standing| standing.complete.is_some());
    let complete: BTreeMap<_, _> = erasures
        .iter()
        .filter(|erasure| is_complete(&erasure.at))
        .map(|erasure| (&erasure.key, erasure.at))
        .collect();
    let objects = world.bucket.objects().into_iter().chain(world.bucket.archived());
    for (name, bytes) in objects {
        let Some((_, pack)) = named_pack(&name) else { continue };
        let Ok(OpenTail::Ready(opened)) = open_tail(pack, &bytes, bytes.len() as u64) else { continue };
        for key in complete.keys().filter(|key| !opened.1.find(&key.kind, &key.id).is_empty()) {
            world
                .sim
                .violation(format!("nothing is left of `{key}`, it is said, and `{name}` has records of it"));
        }
    }
}

#[cfg(not(feature = "runtime"))]
pub(crate) mod scenarios {
    use super::{check, purge};
    use crate::collection::{NO_DELAYS, collector};
    use crate::erasing::erase_of;
    use crate::executor::{ProcessId, lock};
    use crate::ports::producer::VersionMode;
    use crate::ports::{Fate, Op};
    use crate::retention::retention;
    use crate::stage::{HERE, SEEING_RUMOURS, Stage, TOPIC};
    use crate::subject::Subject;
    use crate::world::Outcome;
    use futures_channel::oneshot;
    use snapfold::domain::ids::{AggregateKey, Offset, Version};
    use snapfold::domain::retention::{Policy, Promise, Wanted};
    use snapfold::domain::row::{RecordKind, SnapshotRow, Trigger};
    use snapfold::reconstruct::{AsOf, Found};
    use snapfold::store::index::From;
    use snapfold::upkeep::gc::Mode as Collecting;
    use snapfold::upkeep::purge::{Mode, Report};
    use snapfold::worker::Command;
    use std::sync::{Arc, Mutex};

    fn together() -> Stage {
        Stage::of(Subject::staged(VersionMode::Given).writing_together())
    }

    /// Snapshots of `a` and `b` at their heads, in the same packs.
    fn both(stage: &Stage, owner: ProcessId) {
        let (handle, _) = stage.asked_of(owner);
        for id in ["a", "b"] {
            let (sender, _) = oneshot::channel();
            let command = Command::Snapshot(id.into(), None, Trigger::Manual, sender);
            assert!(handle.send(HERE, command), "it owns the partition");
        }
        stage.world.idle(1_500);
    }

    fn rows_of(stage: &Stage, id: &str) -> Vec<SnapshotRow> {
        let key = AggregateKey { id: id.into(), ..stage.key() };
        let lineage = stage.active().lineage;
        let rows = stage.world.ask(1_000, move |ports| async move {
            ports.index.snapshots(&key, lineage, From::Newest, 99).await
        });
        rows.expect("it is answered").expect("nothing fails")
    }

    /// Versions 1 to 3 of `a`, in the packs in which `b` is, who was erased; the log has forgotten them.
    fn shared() -> (Stage, ProcessId) {
        let stage = together();
        let owner = stage.worker("owner");
        stage.append_to("b", 1, "s1");
        stage.events(1..=3);
        both(&stage, owner);
        let (a, b) = (stage.rows(), rows_of(&stage, "b"));
        assert_eq!(a.len(), 2, "a state and its events");
        assert!(b.iter().all(|row| a.iter().any(|of_a| of_a.pack == row.pack)), "they share packs");
        let erased = erase_of(&stage, "b");
        stage.asked_of(owner).0.heed(&erased);
        stage.world.idle(1_500);
        let is_passed = || stage.world.protected(TOPIC, HERE) == Offset(4);
        stage.until("the low watermark passes all", is_passed);
        stage.forget();
        (stage, owner)
    }

    /// One pass by a process of this name; none if it did not end.
    fn pass_by(stage: &Stage, process: crate::world::Ports) -> Arc<Mutex<Option<Report>>> {
        let (subject, _) = stage.subject();
        let report: Arc<Mutex<Option<Report>>> = Arc::default();
        let slot = Arc::clone(&report);
        stage.world.sim.spawn(process.process, async move {
            if let Ok(Some(passed)) = purge(&subject, &process, 0).pass(Mode::Purge).await {
                *lock(&slot) = Some(passed);
            }
        });
        stage.world.idle(60_000);
        report
    }

    fn pass(stage: &Stage) -> Report {
        let report = pass_by(stage, stage.world.process("purge"));
        let passed = lock(&report).take();
        if passed.is_none() {
            stage.world.sim.violation("the purge did not end".to_owned());
        }
        check(&stage.world);
        passed.unwrap_or_default()
    }

    fn collect(stage: &Stage) {
        let (subject, _) = stage.subject();
        let passed = stage.world.ask(600_000, move |ports| async move {
            collector(&subject, &ports, NO_DELAYS).pass(Collecting::Collect).await
        });
        assert!(matches!(passed, Some(Ok(Some(_)))), "{passed:?}");
        check(&stage.world);
    }

    fn must_be_had(stage: &Stage, versions: std::ops::RangeInclusive<u64>) {
        for version in versions {
            let found = stage.at(AsOf::Version(Version(version)));
            if !matches!(&found, Some(Found::State(at, _)) if at.version == Version(version)) {
                stage.world.sim.violation(format!("version {version} was stored and is {found:?}"));
            }
        }
    }

    fn thin(stage: &Stage, ports: crate::world::Ports) {
        let ((subject, active), key) = (stage.subject(), stage.key());
        stage.world.sim.spawn(ports.process, async move {
            let retention = retention(&subject, &ports, active);
            let wanted = Wanted::Policy(Policy { snapshots_max: Some(1), taken_since: None });
            let planned = retention.plan(&key, wanted, Promise::Forever).await.expect("nothing fails");
            retention.act(&planned, "test").await.expect("nothing is refused");
        });
    }

    /// Both packs are written anew, then the old ones go; all that the other says stays, and when it is said
    /// that nothing is left nothing is.
    pub(crate) fn packs_of_an_erased_aggregate() -> Outcome {
        let (stage, _) = shared();
        let first = pass(&stage);
        if (first.rewritten, first.moved) != (2, 2) {
            stage.world.sim.violation(format!("both packs are to be rewritten: {first:?}"));
        }
        must_be_had(&stage, 1..=3);
        collect(&stage);
        collect(&stage);
        let last = pass(&stage);
        if (last.completed, last.incomplete, last.holding) != (1, 0, 0) {
            stage.world.sim.violation(format!("something is left: {last:?}"));
        }
        crate::rebuild::lose_index(&stage.world);
        must_be_had(&stage, 1..=3);
        let rows: Vec<_> = stage.rows().iter().map(|row| (row.version, row.kind)).collect();
        if rows.len() != 2 {
            stage.world.sim.violation(format!("other rows than before: {rows:?}"));
        }
        stage.ask_all()
    }

    /// A pass whose process dies as it is about to write an object of this folder.
    fn pass_that_dies(stage: &Stage, folder: &'static str) {
        let ports = stage.world.process("dying");
        let (process, sim) = (ports.process, stage.world.sim.clone());
        let is_it =
            move |op: &Op<'_>| op.process == process && op.what == "put_new" && op.target.starts_with(folder);
        stage.before_the(is_it, move |op| sim.kill_after(op.process, 0));
        pass_by(stage, ports);
    }

    /// The purge dies as it is about to write a pack.
    pub(crate) fn purge_that_dies_before_its_copies() -> Outcome {
        let (stage, _) = shared();
        // Its second pack, without which versions 1 and 2 are nowhere.
        pass_that_dies(&stage, "v1/history/");
        must_be_had(&stage, 1..=3);
        pass(&stage);
        must_be_had(&stage, 1..=3);
        stage.ask_all()
    }

    /// The purge dies once its copies' rows are there: the next one finds them, and makes no others.
    pub(crate) fn purge_that_dies_after_its_copies() -> Outcome {
        let (stage, _) = shared();
        pass_that_dies(&stage, "v1/ledger/");
        if stage.rows().len() != 3 {
            stage.world.sim.violation(format!("not staged: {:?}", stage.rows()));
        }
        stage.world.idle(5_000);
        pass(&stage);
        if stage.rows().len() != 2 {
            stage.world.sim.violation(format!("a record is there twice: {:?}", stage.rows()));
        }
        must_be_had(&stage, 1..=3);
        stage.ask_all()
    }

    /// Retention takes a state while the purge stands still before it writes the copy.
    pub(crate) fn state_that_is_thinned_while_it_is_moved() -> Outcome {
        let (stage, owner) = shared();
        stage.events(4..=5);
        stage.snapshot(owner);
        let (ports, other) = (stage.world.process("purge"), stage.world.process("retention"));
        let (process, sim) = (ports.process, stage.world.sim.clone());
        let is_it = move |op: &Op<'_>| {
            op.process == process && op.what == "put_new" && op.target.starts_with("v1/full/")
        };
        stage.before_the(is_it, move |op| sim.pause(op.process, sim.now() + 30_000));
        let report = {
            let (subject, _) = stage.subject();
            let report: Arc<Mutex<Option<Report>>> = Arc::default();
            let slot = Arc::clone(&report);
            stage.world.sim.spawn(process, async move {
                let passed = purge(&subject, &ports, 0).pass(Mode::Purge).await;
                *lock(&slot) = passed.ok().flatten();
            });
            stage.world.idle(5_000);
            thin(&stage, other);
            stage.world.idle(60_000);
            report
        };
        if lock(&report).is_none() {
            stage.world.sim.violation("the purge did not end".to_owned());
        }
        let states = stage.rows().into_iter().filter(|row| row.kind == RecordKind::Full);
        let states: Vec<Version> = states.map(|row| row.version).collect();
        if states != [Version(5)] {
            stage.world.sim.violation(format!("what was deleted is back, or more is gone: {states:?}"));
        }
        must_be_had(&stage, 1..=5);
        stage.ask_all()
    }

    /// A dying owner's rows of `a` and `b` are on one replica, and below the low watermark by now: the next
    /// owner has not seen them. The purge sees them first, and then does not; then what the next owner wrote
    /// is lost.
    pub(crate) fn row_that_is_seen_once() -> Outcome {
        let stage = together();
        let dying = stage.worker("dying");
        stage.always(dying, "put_checkpoint", Fate::Lost);
        stage.always(dying, "put_snapshot", Fate::Rumour);
        stage.append_to("b", 1, "s1");
        stage.events(1..=3);
        both(&stage, dying);
        stage.world.sim.kill(dying);
        stage.deaf_to_rumours();
        let next = stage.worker("next");
        stage.events(4..=4);
        stage.snapshot_of(next, "b");
        stage.snapshot(next);
        let erased = erase_of(&stage, "b");
        stage.asked_of(next).0.heed(&erased);
        stage.world.idle(3_000);
        let is_passed = || stage.world.protected(TOPIC, HERE) == Offset(5);
        stage.until("the low watermark passes all", is_passed);
        stage.world.index.spare(SEEING_RUMOURS);
        let ports = stage.world.process("purge");
        let (process, index) = (ports.process, stage.world.index.clone());
        let is_it = move |op: &Op<'_>| {
            op.process == process && op.what == "put_new" && op.target.starts_with("v1/history/")
        };
        stage.before_the(is_it, move |_| index.spare(crate::stage::DEAF_TO_RUMOURS));
        let report = pass_by(&stage, ports);
        if lock(&report).take().is_none_or(|report| report.rewritten == 0) {
            stage.world.sim.violation("not staged: nothing was rewritten".to_owned());
        }
        stage.deaf_to_rumours();
        stage.forget();
        stage.lose_newest("full");
        stage.lose_newest("history");
        must_be_had(&stage, 1..=3);
        stage.world.finish()
    }

    /// The same beyond the low watermark; then the log is cut below it, and goes on with other events.
    pub(crate) fn row_of_events_that_are_cut_off() -> Outcome {
        let stage = together();
        let dying = stage.worker("dying");
        stage.always(dying, "put_checkpoint", Fate::Lost);
        stage.always(dying, "put_snapshot", Fate::Rumour);
        stage.append_to("b", 1, "s1");
        stage.events(1..=3);
        both(&stage, dying);
        stage.world.sim.kill(dying);
        erase_of(&stage, "b");
        stage.world.index.spare(SEEING_RUMOURS);
        pass(&stage);
        stage.deaf_to_rumours();
        stage.world.broker.truncate(TOPIC, HERE, Offset(2));
        let next = stage.worker("next");
        for version in 2..=4 {
            stage.append(version, "s2");
        }
        stage.world.idle(5_000);
        let status = stage.status(next);
        if status.refused.is_some() || status.halted.is_some() {
            stage.world.sim.violation(format!("nobody can fold any more: {status:?}"));
        }
        let head = stage.head();
        if !matches!(&head, Some(Found::State(head, _)) if head.version == Version(4)) {
            stage.world.sim.violation(format!("the head was 4 and is {head:?}"));
        }
        stage.world.finish()
    }

    /// Goal: a purge that dies at any moment loses nothing, and the next one ends what it began. Method: one
    /// scenario for each moment that matters.
    #[test]
    fn purges_that_die_lose_nothing() {
        for play in [
            packs_of_an_erased_aggregate,
            purge_that_dies_before_its_copies,
            purge_that_dies_after_its_copies,
            state_that_is_thinned_while_it_is_moved,
            row_that_is_seen_once,
            row_of_events_that_are_cut_off,
        ] {
            let outcome = play();
            assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
        }
    }
}
