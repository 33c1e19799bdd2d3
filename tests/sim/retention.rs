//! Snapshots that are deleted while everything else goes on, by whoever comes by; and directed scenarios of
//! what a deletion may rely on. What is left is judged by all the questions that others ask.

use crate::executor::lock;
use crate::judge::Judge;
use crate::questions::able;
use crate::stats::Count;
use crate::subject::{Active, Fleet, Subject};
use crate::world::{Parts, Ports};
use snapfold::domain::ids::{AggregateKey, Timestamp, Version};
use snapfold::domain::retention::{Policy, Wanted};
use snapfold::store::ledger::Ledger;
use snapfold::upkeep::retention::{Keep, Retention};
use std::sync::{Arc, Mutex};

/// Retention over these ports.
pub(crate) fn retention(subject: &Subject, ports: &Ports, active: Active) -> Retention {
    let ledger = Ledger {
        index: Arc::clone(&ports.index),
        blobs: Arc::clone(&ports.blobs),
        clock: Arc::clone(&ports.clock),
    };
    let packs = subject.reader(ports, active).packs;
    Retention { packs, ledger: Arc::new(ledger), lineage: active.lineage }
}

/// One random live worker deletes snapshots of a random aggregate, of which the seed's history is promised.
pub(crate) fn delete_some(world: &Parts, subject: &Subject, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let Some(workers) = able(world, fleet, judge) else { return };
    let places: Vec<String> = lock(judge).places().keys().cloned().collect();
    if places.is_empty() {
        return;
    }
    let process = workers[world.sim.draw(|rng| rng.index(workers.len()))].0;
    let ports = world.ports(process);
    let now = ports.clock.now();
    let (id, wanted) = world.sim.draw(|rng| {
        let wanted = match rng.below(3) {
            0 => Wanted::Policy(Policy {
                snapshots_max: rng.percent(80).then(|| 1 + rng.below(3) as u32),
                taken_since: rng.percent(30).then(|| Timestamp(now.0 - rng.between(0, 3_000) as i64)),
            }),
            1 => Wanted::Below(Version(rng.between(1, 30))),
            _ => Wanted::One(Version(rng.between(1, 30))),
        };
        (rng.pick(&places).clone(), wanted)
    });
    let active = *lock(&fleet.active);
    let key = AggregateKey { kind: world.setup.streams[0].kind.into(), id: id.as_str().into() };
    let retention = retention(subject, &ports, active);
    let (promise, judge, fleet) =
        (Keep { history: subject.history, ..Keep::default() }.promise(now), Arc::clone(judge), fleet.clone());
    world.sim.count(Count::DeletionAsked);
    world.sim.spawn(process, async move {
        if let Ok(planned) = retention.plan(&key, wanted, promise).await {
            // Under another lineage everything begins anew.
            if *lock(&fleet.active) == active {
                lock(&judge).forgotten.note(&key.id, promise, &planned.plan);
            }
            // Whatever it comes to: what is left is judged.
            let _ = retention.act(&planned, "random").await;
        }
    });
}

#[cfg(not(feature = "runtime"))]
pub(crate) mod scenarios {
    use super::retention;
    use crate::executor::lock;
    use crate::ports::Fate;
    use crate::ports::producer::VersionMode;
    use crate::refold::on_stage;
    use crate::stage::{SEEING_RUMOURS, Stage};
    use crate::subject::Subject;
    use crate::world::{Outcome, Ports};
    use snapfold::codec::pack::{Class, Locator, pack_name};
    use snapfold::domain::ids::{LedgerId, Lineage, Offset, PackId, Timestamp, Version};
    use snapfold::domain::ledger::DeletedRow;
    use snapfold::domain::partition::Strategy;
    use snapfold::domain::retention::{Policy, Promise, Wanted};
    use snapfold::domain::row::{RecordKind, SnapshotRow};
    use snapfold::reconstruct::{AsOf, Found};
    use snapfold::store::index::From;
    use std::sync::{Arc, Mutex};

    /// Two states with the events up to each, and a log that has forgotten them.
    fn two_snapshots() -> (Stage, Vec<SnapshotRow>) {
        let stage = Stage::new();
        let worker = stage.worker("owner");
        stage.events(1..=3);
        stage.snapshot(worker);
        stage.events(4..=5);
        stage.snapshot(worker);
        stage.forget();
        let rows = stage.rows();
        (stage, rows)
    }

    fn is(row: &&SnapshotRow, kind: RecordKind, version: u64) -> bool {
        row.kind == kind && row.version == Version(version)
    }

    fn delete(stage: &Stage, row: &SnapshotRow) {
        let gone = DeletedRow::of(row);
        let deletion = LedgerId::mint(Timestamp(1), [1; 10]);
        let delete = |ports: Ports| async move { ports.index.delete_snapshot(&gone, deletion).await };
        stage.world.ask(1_000, delete).expect("it is answered").expect("nothing fails");
    }

    fn thin(stage: &Stage) {
        let ((subject, active), key) = (stage.subject(), stage.key());
        let thinned = stage.world.ask(60_000, move |ports| async move {
            let retention = retention(&subject, &ports, active);
            let wanted = Wanted::Policy(Policy { snapshots_max: Some(1), taken_since: None });
            let planned = retention.plan(&key, wanted, Promise::Forever).await.expect("nothing fails");
            retention.act(&planned, "test").await
        });
        assert_eq!(thinned, Some(Ok(())));
    }

    fn must_be_had(stage: &Stage, version: u64) {
        let found = stage.at(AsOf::Version(Version(version)));
        if !matches!(&found, Some(Found::State(at, _)) if at.version == Version(version)) {
            stage.world.sim.violation(format!("version {version} was promised and is {found:?}"));
        }
    }

    /// The events before the first state are lost, so that only the state leads on to version 4: it stays.
    pub(crate) fn state_that_newer_events_need() -> Outcome {
        let (stage, rows) = two_snapshots();
        delete(&stage, rows.iter().find(|row| is(row, RecordKind::Increment, 3)).expect("it was written"));
        thin(&stage);
        must_be_had(&stage, 4);
        stage.world.finish()
    }

    /// The events before the first state are in a row that a dying owner wrote on one replica: whoever takes
    /// the state for needless sees to it that they stay.
    pub(crate) fn state_whose_events_are_a_rumour() -> Outcome {
        let (stage, rows) = two_snapshots();
        let row = rows.iter().find(|row| is(row, RecordKind::Increment, 3)).expect("it was written").clone();
        let mut locator = Locator::decode(&row.locator).expect("it is whole");
        let copy = PackId::mint(row.pack.minted_at(), [0xee; 10]);
        let bytes = stage.world.bucket.objects()[&pack_name(Class::History, row.pack)].clone();
        locator.pack = copy;
        let rumour = SnapshotRow { pack: copy, locator: locator.encode(), ..row.clone() };
        let dying = stage.world.process("dying");
        stage.always(dying.process, "put_snapshot", Fate::Rumour);
        let name = pack_name(Class::History, copy);
        stage.world.sim.spawn(dying.process, async move {
            let _ = dying.blobs.put_new(&name, &bytes).await;
            let _ = dying.index.put_snapshot(rumour).await;
        });
        stage.world.idle(500);
        delete(&stage, &row);
        stage.world.index.spare(SEEING_RUMOURS);
        thin(&stage);
        stage.deaf_to_rumours();
        must_be_had(&stage, 2);
        stage.world.finish()
    }

    /// A flush repeats the write of a row that was deleted meanwhile: it stays deleted.
    pub(crate) fn row_that_is_written_again() -> Outcome {
        let (stage, rows) = two_snapshots();
        thin(&stage);
        let gone = rows.iter().find(|row| is(row, RecordKind::Full, 3)).expect("it was written").clone();
        let again = |ports: Ports| async move { ports.index.put_snapshot(gone).await };
        stage.world.ask(1_000, again).expect("it is answered").expect("nothing fails");
        let undead = stage.world.index.undead();
        if !undead.is_empty() {
            stage.world.sim.violation(format!("what was deleted is back: {undead:?}"));
        }
        stage.ask_all()
    }

    /// The old lineage's low watermark stays behind its rows, and what led up to those is deleted. Events
    /// below the watermark may have been in there: nobody can fold them again.
    pub(crate) fn refold_of_what_was_deleted() -> Outcome {
        let stage = Stage::new();
        let old = stage.worker("old");
        stage.events(1..=2);
        stage.snapshot(old);
        stage.always(old, "put_watermark", Fate::Refused);
        stage.events(3..=5);
        stage.snapshot(old);
        stage.world.sim.kill(old);
        stage.rows().iter().filter(|row| row.version <= Version(2)).for_each(|row| delete(&stage, row));
        if on_stage(&stage, Lineage(2), false, &[]) {
            stage.take_over(Lineage(2), true);
        }
        stage.worker("new");
        stage.events(6..=6);
        must_be_had(&stage, 6);
        stage.world.finish()
    }

    /// A reader of a version meets nothing above it. Then a newer state is stored, because of which that of
    /// the version goes, and only then it looks at what is at or below.
    pub(crate) fn row_that_goes_beside_a_read() -> Outcome {
        let stage = Stage::of(Subject::staged(VersionMode::Counted).storing(Strategy::Full));
        let owner = stage.worker("owner");
        stage.events(1..=4);
        stage.snapshot(owner);
        stage.until("all is covered", || stage.acked() == Some(Offset(4)));
        let reader = stage.world.process("reader");
        stage.rule(reader.process, "snapshots", Fate::Tardy, 1);
        let ((subject, active), partition, key) = (stage.subject(), stage.partition(), stage.key());
        let (process, answer) = (reader.process, Arc::new(Mutex::new(None)));
        let slot = Arc::clone(&answer);
        stage.world.sim.spawn(process, async move {
            let found =
                subject.reader(&reader, active).state(&partition, &key, AsOf::Version(Version(4))).await;
            *lock(&slot) = Some(found);
        });
        stage.world.idle(100);
        stage.events(5..=8);
        stage.snapshot(owner);
        let rows = stage.rows();
        delete(&stage, rows.iter().find(|row| is(row, RecordKind::Full, 4)).expect("it was written"));
        stage.until("the reader is done", || lock(&answer).is_some());
        if let Some(Ok(found)) = &*lock(&answer)
            && !matches!(found, Found::State(at, _) if at.offset == Offset(3))
        {
            stage.world.sim.violation(format!("version 4 is that of offset 3 and was {found:?}"));
        }
        stage.world.finish()
    }

    impl Stage {
        /// All rows of `a`, the newest first.
        pub(crate) fn rows(&self) -> Vec<SnapshotRow> {
            let (key, lineage) = (self.key(), self.active().lineage);
            let rows =
                |ports: Ports| async move { ports.index.snapshots(&key, lineage, From::Newest, 99).await };
            self.world.ask(1_000, rows).expect("it is answered").expect("nothing fails")
        }
    }
}
