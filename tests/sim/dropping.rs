//! Lineages that another took over from: read as they were, or dropped, while workers of theirs may live on
//! as zombies. In the end nothing of a dropped one is there, and one that was not dropped answers every
//! version that it covered, as the ledger of its reducer says.

use crate::collection::collector;
use crate::executor::lock;
use crate::judge::{Judge, Question};
use crate::rebuild::at_once;
use crate::stats::Count;
use crate::subject::{Active, Fleet, Subject};
use crate::surface;
use crate::world::{Parts, Ports, World};
use snapfold::codec::pack::named_pack;
use snapfold::domain::ids::{Digest, Lineage, Offset, PackId, PartitionNo, Version};
use snapfold::domain::row::{PartitionKey, SnapshotRow};
use snapfold::lookup::{Freshness, Lookup, Refusal, Selector};
use snapfold::reconstruct::AsOf;
use snapfold::reconstruct::NoOwners;
use snapfold::store::blobs::{Blobs, MemoryBlobs};
use snapfold::store::lineages::{self, Dropped, Permission, Wish};
use snapfold::store::packs::Packs;
use snapfold::upkeep::dropping::Dropping;
use snapfold::upkeep::gc::{GcSettings, Mode};
use snapfold::upkeep::retention::History;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Percent of the cut-overs that are followed by a drop.
const DROPS_PERCENT: u32 = 60;
/// Tries of a drop.
const TRIES: u32 = 8;
/// Aggregates whose old versions are asked for.
const ASKED_MAX: usize = 6;

fn wish(active: Active) -> Wish {
    let fingerprint = Digest([u8::try_from(active.lineage.0).unwrap_or(u8::MAX); 32]);
    // The book has one name for all topics: what counts here is numbers.
    Wish { topic_id: 1, fingerprint, mapping: Digest([0; 32]), partitions: 4 }
}

/// Writes the operator's book into the log of lineages: all up to the active one have numbers, the one that
/// was active before it was, and it is.
async fn book(
    blobs: &dyn Blobs,
    topic: &str,
    old: Active,
    active: Active,
) -> snapfold::domain::error::Result<()> {
    let may = Permission { new_lineage: true, more_partitions: false };
    for number in 1..=active.lineage.0 {
        let of = Active { lineage: Lineage(number), topic_id: active.topic_id };
        lineages::prepare(blobs, topic, wish(of)).await?;
    }
    let history = lineages::history(blobs, topic).await?;
    if lineages::active(&history, 1).is_none() {
        lineages::activate(blobs, topic, wish(old), may).await?;
    }
    lineages::activate(blobs, topic, wish(active), may).await?;
    Ok(())
}

pub(crate) fn dropping(world: &Parts, ports: &Ports, lineage: Lineage, active: Lineage) -> Dropping {
    let spec = &world.setup.streams[0];
    let packs = Packs::new(Arc::clone(&ports.index), Arc::clone(&ports.blobs), Default::default(), [0; 16]);
    Dropping {
        index: Arc::clone(&ports.index),
        packs: Arc::new(packs),
        clock: Arc::clone(&ports.clock),
        kind: spec.kind.into(),
        topic: spec.topic.into(),
        lineage,
        partitions: u32::try_from(spec.partitions).unwrap_or(1),
        active: Some(active),
    }
}

/// After a cut-over: perhaps the lineage before is dropped, soon or later.
pub(crate) fn perhaps(world: &Parts, fleet: &Fleet, old: Active, active: Active) {
    lock(&fleet.old).insert(old.lineage, (old, false));
    if !world.sim.draw(|rng| rng.percent(DROPS_PERCENT)) {
        return;
    }
    let wait = world.sim.draw(|rng| rng.below(2_000));
    let (this, fleet) = (world.clone(), fleet.clone());
    world.sim.at(world.sim.now() + wait, move || attempt(this, fleet, (old, active), 0));
}

/// Drops a lineage, as a process that may die and is started again.
fn attempt(world: Parts, fleet: Fleet, (old, active): (Active, Active), number: u32) {
    if world.is_healed() || *lock(&fleet.active) != active {
        return;
    }
    let process = world.sim.process(&format!("drop-{number}"));
    if number + 1 < TRIES && world.sim.draw(|rng| rng.percent(50)) {
        let polls = world.sim.draw(|rng| rng.below(400));
        world.sim.kill_after(process, u32::try_from(polls).unwrap_or(0));
    }
    let (ports, topic) = (world.ports(process), world.setup.streams[0].topic);
    let dropping = dropping(&world, &ports, old.lineage, active.lineage);
    let (sim, noted) = (world.sim.clone(), fleet.clone());
    let done: Arc<std::sync::Mutex<bool>> = Arc::default();
    let slot = Arc::clone(&done);
    world.sim.count(Count::DropAsked);
    world.sim.spawn(process, async move {
        if book(&*ports.blobs, topic, old, active).await.is_err() {
            return;
        }
        let Ok(at) = dropping.note(true).await else { return };
        lock(&noted.old).insert(old.lineage, (old, true));
        sim.count(Count::DropNoted);
        if dropping.sweep(at).await.is_ok() {
            *lock(&slot) = true;
        }
    });
    let (this, sim) = (world.clone(), world.sim.clone());
    sim.at(sim.now() + 1_500, move || {
        if !*lock(&done) && number + 1 < TRIES {
            this.sim.kill(process);
            attempt(this.clone(), fleet, (old, active), number + 1);
        }
    });
}

/// What the log of lineages in the world's objects says.
pub(crate) fn dropped(world: &Parts) -> Dropped {
    let objects = MemoryBlobs::new();
    for (name, bytes) in world.bucket.objects().iter().filter(|(name, _)| name.starts_with("v1/lineages/")) {
        at_once(objects.put_new(name, bytes)).expect("each is there once");
    }
    let history = at_once(Box::pin(lineages::history(&objects, world.setup.streams[0].topic)));
    Dropped::of(&history.expect("memory answers"))
}

/// In the end: garbage is collected until nothing more goes; then of dropped lineages nothing is left, and
/// the others can still be read.
pub(crate) fn check(world: &World, subject: &Subject, fleet: &Fleet) {
    let gone = dropped(world);
    if !gone.is_empty() {
        collect(world, subject);
        if !world.bucket.is_damaged() {
            nothing_is_left(world, subject, &gone);
        }
    }
    let old: Vec<Active> = {
        let old = lock(&fleet.old);
        old.values().filter(|(of, _)| !gone.has(of.lineage)).map(|(of, _)| *of).collect()
    };
    let active = *lock(&fleet.active);
    let is_whole = world.broker.records_cut() == 0 && !world.bucket.is_damaged();
    if let Some(of) = old.last().filter(|of| of.topic_id == active.topic_id && is_whole) {
        old_versions(world, subject, *of, active);
    }
}

/// From one pass of the end to the next; longer than any flush.
fn pass_ms(subject: &Subject) -> u64 {
    subject.limits.deadline_ms.min(10_000) + 200
}

/// Passes with delays that are longer than any flush; while a worker has the lease there is none.
pub(crate) fn collect(world: &World, subject: &Subject) {
    let deadline_ms = subject.limits.deadline_ms.min(10_000);
    let mut passes = 0;
    for _ in 0..200 {
        world.idle(pass_ms(subject));
        let subject = subject.clone();
        let passed = world.ask(600_000, move |ports| async move {
            let delays =
                GcSettings { age_ms_min: deadline_ms, distance_ms: deadline_ms, ..GcSettings::default() };
            let settings = GcSettings { lease_ms: 500, pause_ms: 0, orphan_ms: 0, ..delays };
            collector(&subject, &ports, settings).pass(Mode::Forced).await
        });
        match passed {
            Some(Err(error)) => {
                return world.sim.violation(format!("garbage cannot be collected in the end: {error:?}"));
            }
            Some(Ok(Some(_))) => passes += 1,
            Some(Ok(None)) | None => {}
        }
        if passes == 4 {
            return;
        }
    }
    world.sim.violation("no pass of garbage collection gets the lease in the end".to_owned());
}

/// No pack and no row of a dropped lineage.
pub(crate) fn nothing_is_left(world: &World, subject: &Subject, gone: &Dropped) {
    // What was minted by a clock that is ahead is too young for a collector, and stays until then.
    let now = world.ask(60_000, |ports| async move {
        ports.blobs.put_new("v1/gc/now/check", b"now").await.expect("nothing fails");
        ports.blobs.modified("v1/gc/now/check").await.expect("nothing fails")
    });
    // To go in the last pass it was condemned in the one before, and old enough by then (seed 264, given).
    let due_ms = now.unwrap_or_default().0 - 3 * i64::try_from(pass_ms(subject)).unwrap_or(0);
    let is_due = move |pack: PackId| pack.minted_at().0 < due_ms;
    let union = world.index.union();
    let is_left = |row: &&SnapshotRow| gone.has(row.lineage) && !union.is_deleted(row) && is_due(row.pack);
    let rows = union.all_snapshots().filter(is_left).count();
    let held = gone.clone();
    let compression = subject.compression;
    let packs = world.ask(600_000, move |ports| async move {
        let packs = Packs::new(Arc::clone(&ports.index), Arc::clone(&ports.blobs), compression, [0; 16]);
        let mut left = Vec::new();
        for class in ["full", "history", "checkpoint"] {
            let names =
                ports.blobs.list(&format!("v1/{class}/"), None, usize::MAX).await.expect("nothing fails");
            let packs_of = names.iter().filter_map(|name| named_pack(name)).filter(|(_, pack)| is_due(*pack));
            for (class, pack) in packs_of {
                let Ok((footer, _)) = packs.footer_of(class, pack).await else { continue };
                let of = |at| footer.id(at).is_ok_and(|id| held.has(id.lineage));
                if (0..footer.len()).any(of) {
                    left.push((class, pack));
                }
            }
        }
        left
    });
    if packs.as_ref().is_none_or(|left| !left.is_empty()) || rows > 0 {
        world.sim.violation(format!("of a dropped lineage {rows} rows and these packs are left: {packs:?}"));
    }
    world.sim.count(Count::DropChecked);
}

/// An old lineage as nobody's worker reads it.
pub(crate) fn old_lookup(subject: &Subject, ports: &Ports, old: Active, active: Active) -> (Lookup, Lookup) {
    let reader = subject.reader(ports, active);
    let lookup = subject.lookup(ports, active, reader, Arc::new(NoOwners));
    let old = lookup.of_old(subject.old(ports, old));
    (lookup, old)
}

/// Every version that the old lineage had covered, asked after the same of the active one: what is kept of
/// answers must not mix.
pub(crate) fn old_versions(world: &World, subject: &Subject, old: Active, active: Active) {
    let mut judge = Judge::new(subject, world, old);
    if !judge.follow(world, old) {
        return;
    }
    let spec = &world.setup.streams[0];
    let (topic, partitions) = (spec.topic, spec.partitions);
    let covered_of = |partition| {
        let key = PartitionKey { topic: topic.into(), partition, lineage: old.lineage };
        world.index.covered(&key, old.topic_id).unwrap_or_default()
    };
    let marks: BTreeMap<PartitionNo, Offset> =
        (0..partitions).map(PartitionNo).map(|partition| (partition, covered_of(partition))).collect();
    // This judge has not seen who was asked to be erased.
    let is_erased = crate::rebuild::erased(world);
    let places = judge.places().iter().filter(|(id, _)| !is_erased(id)).take(ASKED_MAX);
    let places: Vec<(String, PartitionNo)> = places.map(|(id, at)| (id.clone(), *at)).collect();
    for (id, partition) in places {
        let covered = judge.facts(&id).iter().filter(|fact| fact.record.offset < marks[&partition].0);
        let versions: Vec<u64> = covered.map(|fact| fact.version).collect();
        let then = judge.now(world, &id);
        let history = subject.history;
        let (subject, asked, named) = (subject.clone(), versions.clone(), id.clone());
        let answers = world.ask(600_000, move |ports| async move {
            let (new, old) = old_lookup(&subject, &ports, old, active);
            let mut answers = Vec::new();
            for version in asked {
                let wanted = Selector::Version(Version(version));
                // Whatever it is.
                let _ = new.state(&named, wanted, Freshness::default()).await.is_ok();
                answers.push(old.state(&named, wanted, Freshness::default()).await);
            }
            answers
        });
        let Some(answers) = answers else {
            return world.sim.violation(format!("{id}: no answer of an old lineage in the end"));
        };
        for (version, answer) in versions.into_iter().zip(&answers) {
            let as_of = AsOf::Version(Version(version));
            let then = then.clone();
            let asked = Question { id: id.clone(), as_of, partition, then, of_owner: false, healed: true };
            world.sim.count(Count::OldVersionCompared);
            // What deletions took while it was the active one is not in this judge's books.
            let is_gone = matches!(answer, Err(Refusal::HistoryGone { .. }));
            if is_gone && history != History::Forever {
                continue;
            }
            if let Err(violation) = judge.judge(world, &asked, surface::found(answer).as_ref()) {
                return world.sim.violation(format!("of old lineage {}: {violation}", old.lineage));
            }
        }
    }
}

#[cfg(not(feature = "runtime"))]
pub(crate) mod scenarios {
    use super::{book, collect, dropped, dropping, nothing_is_left, old_lookup, old_versions};
    use crate::executor::ProcessId;
    use crate::ports::Fate;
    use crate::ports::producer::VersionMode;
    use crate::rebuild::lose_index;
    use crate::refold::on_stage;
    use crate::stage::{Stage, TOPIC};
    use crate::subject::{Active, Subject};
    use crate::world::Outcome;
    use snapfold::domain::ids::{Lineage, Version};
    use snapfold::lookup::{Freshness, Selector};
    use std::sync::{Arc, Mutex};

    /// Five events that lineage 1 covers, and lineage 2 took over; the old worker lives on.
    fn refolded(subject: Subject) -> (Stage, Active, ProcessId) {
        let stage = Stage::of(subject);
        let old = stage.worker("old");
        stage.events(1..=3);
        stage.snapshot(old);
        stage.events(4..=5);
        let was = stage.active();
        let done = on_stage(&stage, Lineage(2), false, &[]);
        stage.take_over(Lineage(2), done);
        (stage, was, old)
    }

    /// Drops a lineage, as a process whose calls have these fates; whether all of it was done.
    fn drop_on(stage: &Stage, lineage: Lineage, was: Active, fates: &[(&'static str, Fate)]) -> bool {
        let active = stage.active();
        let booked = stage
            .world
            .ask(60_000, move |ports| async move { book(&*ports.blobs, TOPIC, was, active).await.is_ok() });
        assert_eq!(booked, Some(true), "nothing fails");
        let ports = stage.world.process("drop");
        for (what, fate) in fates {
            stage.always(ports.process, what, *fate);
        }
        let dropping = dropping(&stage.world, &ports, lineage, active.lineage);
        let told: Arc<Mutex<Option<bool>>> = Arc::default();
        let slot = Arc::clone(&told);
        stage.world.sim.spawn(ports.process, async move {
            let done = match dropping.note(true).await {
                Ok(at) => dropping.sweep(at).await.is_ok(),
                Err(_) => false,
            };
            *slot.lock().expect("nobody panics with it") = Some(done);
        });
        stage.world.idle(5_000);
        stage.world.sim.kill(ports.process);
        *told.lock().expect("nobody panics with it") == Some(true)
    }

    /// The fact is never kept, and the process dies: the lineage is there, and answers as it did.
    pub(crate) fn drop_whose_fact_is_refused() -> Outcome {
        let (stage, was, old) = refolded(Subject::staged(VersionMode::Given));
        stage.world.sim.kill(old);
        stage.forget();
        assert!(!drop_on(&stage, was.lineage, was, &[("put_new", Fate::Refused)]), "no fact was kept");
        let (subject, active) = stage.subject();
        old_versions(&stage.world, &subject, was, active);
        stage.ask_all()
    }

    /// Somebody wants the active lineage to go.
    pub(crate) fn drop_of_the_active_lineage() -> Outcome {
        let (stage, was, old) = refolded(Subject::staged(VersionMode::Given));
        stage.world.sim.kill(old);
        stage.forget();
        let active = stage.active();
        if drop_on(&stage, active.lineage, was, &[]) {
            stage.world.sim.violation("the active lineage was dropped".to_owned());
        }
        stage.ask_all()
    }

    /// A worker that has not heard of anything has a row on its way; it comes when all others are gone.
    pub(crate) fn row_of_a_dropped_lineage_that_comes_late() -> Outcome {
        let (stage, was, old) = refolded(Subject::staged(VersionMode::Given));
        stage.always(old, "put_snapshot", Fate::Lost);
        stage.snapshot(old);
        assert!(drop_on(&stage, was.lineage, was, &[]), "nothing fails");
        stage.lift();
        stage.world.idle(10_000);
        stage.world.sim.kill(old);
        let (subject, _) = stage.subject();
        collect(&stage.world, &subject);
        nothing_is_left(&stage.world, &subject, &dropped(&stage.world));
        stage.worker("new");
        stage.events(6..=6);
        stage.forget();
        stage.ask_all()
    }

    /// The index is lost while packs of the dropped lineage are still there.
    pub(crate) fn index_that_is_rebuilt_after_a_drop() -> Outcome {
        let (stage, was, old) = refolded(Subject::staged(VersionMode::Given));
        stage.world.sim.kill(old);
        assert!(drop_on(&stage, was.lineage, was, &[]), "nothing fails");
        lose_index(&stage.world);
        let union = stage.world.index.union();
        if union.all_snapshots().any(|row| row.lineage == was.lineage) {
            stage.world.sim.violation("rows of a dropped lineage are back".to_owned());
        }
        stage.worker("new");
        stage.events(6..=6);
        stage.forget();
        stage.ask_all()
    }

    /// Both lineages are asked about the same versions by a process that keeps states.
    pub(crate) fn two_lineages_and_one_cache() -> Outcome {
        let (stage, was, old) = refolded(Subject::staged(VersionMode::Given).with_cache());
        stage.world.sim.kill(old);
        let (subject, active) = stage.subject();
        old_versions(&stage.world, &subject, was, active);
        stage.ask_all()
    }

    /// The low watermark waits for a dead letter, and a checkpoint beyond it is written meanwhile, which
    /// names that low watermark. Once it has moved on the lineage ends, and the index is lost.
    pub(crate) fn old_lineage_and_an_index_that_is_rebuilt() -> Outcome {
        let stage = Stage::of(Subject::staged(VersionMode::Given));
        let old = stage.worker("old");
        stage.events(1..=3);
        stage.snapshot(old);
        stage.always(old, "put_dead_letter", Fate::Refused);
        stage.poison();
        stage.events(4..=5);
        stage.lift();
        stage.world.idle(1_000);
        let was = stage.active();
        let done = on_stage(&stage, Lineage(2), false, &[]);
        stage.take_over(Lineage(2), done);
        stage.world.sim.kill(old);
        lose_index(&stage.world);
        let (subject, active) = stage.subject();
        old_versions(&stage.world, &subject, was, active);
        stage.ask_all()
    }

    /// The topic goes on, and only the new lineage covers what comes.
    pub(crate) fn old_lineage_and_a_topic_that_goes_on() -> Outcome {
        let (stage, was, old) = refolded(Subject::staged(VersionMode::Given));
        stage.world.sim.kill(old);
        stage.worker("new");
        stage.events(6..=7);
        let (subject, active) = stage.subject();
        let head = stage.world.ask(60_000, move |ports| async move {
            let (_, old) = old_lookup(&subject, &ports, was, active);
            old.state("a", Selector::Head, Freshness::default()).await.map(|answer| answer.aggregate.version)
        });
        if !matches!(head, Some(Ok(Version(5)))) {
            stage.world.sim.violation(format!("the old lineage ended with version 5, and answers {head:?}"));
        }
        stage.ask_all()
    }
}
