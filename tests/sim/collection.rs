//! Garbage collection in the random runs, and directed scenarios of what it may take, with writers and owners
//! that stop in the middle of what they do.

use crate::stats::Count;
use crate::subject::{Fleet, Subject};
use crate::world::{Parts, Ports};
use snapfold::store::packs::Packs;
use snapfold::upkeep::gc::{Collector, GcSettings, Mode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is found goes at once, and nothing is taken for an orphan.
pub(crate) const NO_DELAYS: GcSettings =
    GcSettings { age_ms_min: 0, distance_ms: 0, lease_ms: 1_000, pause_ms: 0, orphan_ms: 0 };

/// A collector over these ports.
pub(crate) fn collector(subject: &Subject, ports: &Ports, settings: GcSettings) -> Collector {
    let packs = Packs::new(Arc::clone(&ports.index), Arc::clone(&ports.blobs), subject.compression, [0; 16]);
    let topics = ports.streams.iter().map(|stream| (stream.spec.kind.into(), stream.spec.topic.into()));
    let topics: BTreeMap<_, _> = topics.collect();
    let thinned = topics.keys().filter(|_| !subject.strategy.keeps_events()).cloned().collect();
    Collector {
        index: Arc::clone(&ports.index),
        packs: Arc::new(packs),
        clock: Arc::clone(&ports.clock),
        topics,
        thinned,
        settings,
    }
}

/// One random live worker collects, with delays that are just longer than the deadline of a flush: the rule
/// that they must keep.
pub(crate) fn collect_once(world: &Parts, subject: &Subject, fleet: &Fleet) {
    let Some(process) = fleet.any_alive(world) else { return };
    let deadline_ms = subject.limits.deadline_ms;
    let orphan_ms = world.sim.draw(|rng| *rng.pick(&[0, 1 << 40]));
    let delays = GcSettings { age_ms_min: deadline_ms, distance_ms: deadline_ms, ..NO_DELAYS };
    let settings = GcSettings { lease_ms: 2_000, orphan_ms, ..delays };
    let collector = collector(subject, &world.ports(process), settings);
    let sim = world.sim.clone();
    world.sim.count(Count::CollectionAsked);
    world.sim.spawn(process, async move {
        // Whatever it comes to: what is left is judged.
        if let Ok(Some(report)) = collector.pass(Mode::Collect).await {
            (0..report.deleted).for_each(|_| sim.count(Count::PackCollected));
        }
    });
}

#[cfg(not(feature = "runtime"))]
pub(crate) mod scenarios {
    use super::{NO_DELAYS, collector};
    use crate::executor::ProcessId;
    use crate::merging::{ask_to_compact, increments};
    use crate::owners::stage_rumour_ahead;
    use crate::ports::Fate;
    use crate::stage::{HERE, SEEING_RUMOURS, Stage, TOPIC};
    use crate::world::Outcome;
    use snapfold::domain::ids::{Offset, Version};
    use snapfold::lookup::VerifyMode;
    use snapfold::reconstruct::Found;
    use snapfold::upkeep::gc::{GcSettings, Mode};

    fn pass(stage: &Stage, settings: GcSettings) {
        let (subject, _) = stage.subject();
        let passed = stage.world.ask(600_000, move |ports| async move {
            collector(&subject, &ports, settings).pass(Mode::Collect).await
        });
        assert!(matches!(passed, Some(Ok(Some(_)))), "{passed:?}");
    }

    fn head_is(stage: &Stage, version: u64) {
        let head = stage.head();
        if !matches!(&head, Some(Found::State(head, _)) if head.version == Version(version)) {
            stage.world.sim.violation(format!("the head was {version} and is {head:?}"));
        }
    }

    /// An owner that merges history: the pack of its segments is there, below the low watermark, and their
    /// rows are on their way until fates are lifted. Once they are acknowledged, the increments go.
    fn slow_rows() -> (Stage, ProcessId) {
        let (stage, owner) = increments();
        stage.always(owner, "put_snapshot", Fate::Lost);
        ask_to_compact(&stage, owner, 6);
        stage.world.idle(500);
        (stage, owner)
    }

    fn and_then_merged(stage: Stage, owner: ProcessId) -> Outcome {
        stage.lift();
        stage.world.idle(10_000);
        stage.world.sim.kill(owner);
        stage.worker("next");
        stage.world.idle(1_500);
        stage.forget();
        head_is(&stage, 24);
        stage.ask_all()
    }

    /// Packs that are old enough, but whose flush goes on: rows come between the first pass and the second.
    pub(crate) fn rows_that_come_between_two_passes() -> Outcome {
        let (stage, owner) = slow_rows();
        let settings = GcSettings { distance_ms: 3_000, ..NO_DELAYS };
        pass(&stage, settings);
        stage.lift();
        stage.world.idle(5_000);
        pass(&stage, settings);
        and_then_merged(stage, owner)
    }

    /// The same, but rows come while the collector is about to act on what it read.
    pub(crate) fn rows_that_come_within_a_pass() -> Outcome {
        let (stage, owner) = slow_rows();
        stage.sleep_before_deletion(10_000);
        pass(&stage, GcSettings { distance_ms: 3_000, ..NO_DELAYS });
        and_then_merged(stage, owner)
    }

    /// The same with no distance between passes, and packs that are young.
    pub(crate) fn young_packs() -> Outcome {
        let (stage, owner) = slow_rows();
        let settings = GcSettings { age_ms_min: 60_000, ..NO_DELAYS };
        stage.sleep_before_deletion(10_000);
        pass(&stage, settings);
        pass(&stage, settings);
        and_then_merged(stage, owner)
    }

    /// The index is lost, and its owner goes on: low watermarks are there again, rows of what was before are
    /// not. The collector comes before anybody has built it anew.
    pub(crate) fn index_that_is_lost_before_it_is_rebuilt() -> Outcome {
        let stage = Stage::new();
        let owner = stage.worker("owner");
        stage.events(1..=3);
        stage.snapshot(owner);
        stage.forget();
        stage.world.index.lose();
        stage.events(4..=6);
        stage.snapshot(owner);
        let settings = GcSettings { orphan_ms: 1 << 40, ..NO_DELAYS };
        pass(&stage, settings);
        pass(&stage, settings);
        crate::rebuild::lose_index(&stage.world);
        stage.ask_all()
    }

    /// The same long after its packs were written: that rows are missing is news all the same.
    pub(crate) fn index_that_is_lost_after_a_long_time() -> Outcome {
        let stage = Stage::new();
        let owner = stage.worker("owner");
        stage.events(1..=3);
        stage.snapshot(owner);
        stage.forget();
        stage.world.idle(120_000);
        stage.world.index.lose();
        stage.events(4..=6);
        stage.snapshot(owner);
        let settings = GcSettings { orphan_ms: 60_000, ..NO_DELAYS };
        pass(&stage, settings);
        pass(&stage, settings);
        crate::rebuild::lose_index(&stage.world);
        stage.ask_all()
    }

    /// Events that only a live checkpoint holds.
    pub(crate) fn live_checkpoint() -> Outcome {
        let stage = Stage::new();
        stage.worker("owner");
        stage.events(1..=3);
        pass(&stage, NO_DELAYS);
        pass(&stage, NO_DELAYS);
        stage.forget();
        head_is(&stage, 3);
        stage.ask_all()
    }

    /// A checkpoint whose retirement reached one replica: the collector sees it, others see the row. Its pack
    /// goes, and nobody misses it.
    pub(crate) fn checkpoint_whose_retirement_is_a_rumour() -> Outcome {
        let stage = Stage::new();
        let owner = stage.worker("owner");
        stage.events(1..=3);
        stage.rule(owner, "delete_checkpoint", Fate::Rumour, 1);
        stage.always(owner, "delete_checkpoint", Fate::Stuck);
        stage.snapshot(owner);
        stage.world.idle(2_000);
        stage.forget();
        stage.world.sim.kill(owner);
        stage.world.index.spare(SEEING_RUMOURS);
        pass(&stage, NO_DELAYS);
        pass(&stage, NO_DELAYS);
        stage.deaf_to_rumours();
        let next = stage.worker("next");
        stage.events(4..=4);
        if let Some(refused) = stage.status(next).refused {
            stage.world.sim.violation(format!("nobody can fold any more: {refused:?}"));
        }
        head_is(&stage, 4);
        stage.ask_all()
    }

    /// A dying owner's snapshot is on one replica, which the collector does not hear. Its pack goes, and who
    /// hears that replica later is not led to it.
    pub(crate) fn snapshot_whose_row_is_a_rumour() -> Outcome {
        let stage = Stage::new();
        stage_rumour_ahead(&stage);
        stage.deaf_to_rumours();
        let next = stage.worker("next");
        stage.events(4..=6);
        stage.snapshot(next);
        let is_passed = || stage.world.protected(TOPIC, HERE) == Offset(6);
        stage.until("the low watermark passes what the dead one wrote", is_passed);
        pass(&stage, NO_DELAYS);
        pass(&stage, NO_DELAYS);
        stage.world.index.spare(SEEING_RUMOURS);
        let (_, lookup) = stage.asked_of(next);
        let verified = stage.world.ask(600_000, move |_| async move {
            lookup.verify("a", None, VerifyMode::Checksum).await.map(|verified| verified.problems)
        });
        if !matches!(&verified, Some(Ok(problems)) if problems.is_empty()) {
            stage.world.sim.violation(format!("rows lead to a pack that is gone: {verified:?}"));
        }
        stage.ask_all()
    }

    /// A dying owner's snapshot beyond the low watermark is on one replica. The next owner sees it, loads it
    /// and writes it again, slowly; the collector does not see it meanwhile.
    pub(crate) fn row_that_an_owner_writes_again() -> Outcome {
        let stage = Stage::new();
        stage_rumour_ahead(&stage);
        let next = stage.worker("next");
        stage.always(next, "put_snapshot", Fate::Lost);
        stage.until("the next owner relies on the rumour", || stage.status(next).counts.replayed == 3);
        stage.deaf_to_rumours();
        pass(&stage, NO_DELAYS);
        pass(&stage, NO_DELAYS);
        stage.lift();
        let is_passed = || stage.world.protected(TOPIC, HERE) == Offset(3);
        stage.until("the low watermark passes what only the row covers", is_passed);
        stage.forget();
        head_is(&stage, 3);
        stage.ask_all()
    }
}
