//! The archive: packs are moved to it while everything goes on, by movers that die half-way, and directed
//! scenarios of what a mover must not rely on.

use crate::stats::Count;
use crate::subject::{Fleet, Subject};
use crate::world::{Parts, Ports};
use snapfold::domain::archive::Policy;
use snapfold::store::packs::Packs;
use snapfold::upkeep::archive::{ArchiveSettings, Archiver, Mode};
use std::sync::Arc;

/// A mover over these ports, which takes packs of this age.
pub(crate) fn archiver(subject: &Subject, ports: &Ports, after_ms: u64) -> Archiver {
    let live = Arc::clone(ports.archived.live());
    let packs = Packs::new(Arc::clone(&ports.index), live, subject.compression, [0; 16]);
    let policy = Policy(ports.streams.iter().map(|stream| (stream.spec.kind.into(), after_ms)).collect());
    let settings = ArchiveSettings { packs_max: 20, pause_ms: 1, lease_ms: 1_000 };
    Archiver::new(Arc::clone(&ports.archived), packs, Arc::clone(&ports.clock), policy, settings)
}

/// One random live worker moves packs of a random age: also such as are just being written, since age is no
/// part of what keeps a mover harmless.
pub(crate) fn archive_once(world: &Parts, subject: &Subject, fleet: &Fleet) {
    let Some(process) = fleet.any_alive(world) else { return };
    let after_ms = world.sim.draw(|rng| *rng.pick(&[0, 1_000, 3_000]));
    let archiver = archiver(subject, &world.ports(process), after_ms);
    let sim = world.sim.clone();
    world.sim.count(Count::ArchivingAsked);
    world.sim.spawn(process, async move {
        // Whatever it comes to: what is left is judged.
        if let Ok(Some(report)) = archiver.pass(Mode::Move).await {
            sim.count_more(Count::PackArchived, report.moved);
        }
    });
}

#[cfg(not(feature = "runtime"))]
pub(crate) mod scenarios {
    use super::archiver;
    use crate::executor::lock;
    use crate::ports::{Fate, Op};
    use crate::rng::Odds;
    use crate::stage::Stage;
    use crate::world::Outcome;
    use snapfold::codec::pack::{Class, pack_name};
    use snapfold::domain::ids::Version;
    use snapfold::reconstruct::{AsOf, Found};
    use snapfold::store::blobs::pair;
    use snapfold::upkeep::archive::{Mode, Report};
    use std::sync::{Arc, Mutex};

    /// Versions 1 to 3 in snapshots, and a log that has forgotten their events: packs are all there is.
    fn history() -> Stage {
        let stage = Stage::new();
        let owner = stage.worker("owner");
        stage.events(1..=3);
        stage.snapshot(owner);
        stage.world.idle(1_500);
        stage.world.sim.kill(owner);
        stage.forget();
        stage
    }

    /// One pass by somebody whose calls of `what` have this fate.
    fn pass(stage: &Stage, fates: &[(&'static str, Fate)]) -> Report {
        let ports = stage.world.process("mover");
        let process = ports.process;
        fates.iter().for_each(|(what, fate)| stage.always(process, what, *fate));
        let (subject, _) = stage.subject();
        let report: Arc<Mutex<Option<_>>> = Arc::default();
        let slot = Arc::clone(&report);
        stage.world.sim.spawn(process, async move {
            let passed = archiver(&subject, &ports, 0).pass(Mode::Move).await;
            *lock(&slot) = Some(passed);
        });
        stage.world.idle(60_000);
        let passed = lock(&report).take();
        match passed {
            Some(Ok(Some(report))) => report,
            other => {
                stage.world.sim.violation(format!("the mover did not end: {other:?}"));
                Report::default()
            }
        }
    }

    fn must_be_had(stage: &Stage) {
        for version in 1..=3 {
            let found = stage.at(AsOf::Version(Version(version)));
            if !matches!(&found, Some(Found::State(at, _)) if at.version == Version(version)) {
                stage.world.sim.violation(format!("version {version} was stored and is {found:?}"));
            }
        }
    }

    fn must_have_moved(stage: &Stage, report: &Report) {
        if report.moved == 0 || stage.world.bucket.archived().is_empty() {
            stage.world.sim.violation(format!("nothing was moved: {report:?}"));
        }
    }

    /// All packs are in the archive: every answer is as before.
    pub(crate) fn packs_that_have_moved() -> Outcome {
        let stage = history();
        let report = pass(&stage, &[]);
        must_have_moved(&stage, &report);
        must_be_had(&stage);
        stage.ask_all()
    }

    /// Then the index is lost, and rebuilt by whoever lists packs.
    pub(crate) fn index_that_is_lost_after_packs_have_moved() -> Outcome {
        let stage = history();
        let report = pass(&stage, &[]);
        must_have_moved(&stage, &report);
        let listed = stage.world.ask(10_000, |ports| async move { ports.blobs.list("v1/", None, 999).await });
        let listed = listed.expect("it is answered").expect("nothing fails");
        let mut lost: Vec<String> = stage.world.bucket.objects().into_keys().collect();
        // What ties the archive to the live store is nobody else's.
        lost.retain(|name| !listed.contains(name) && !name.starts_with("v1/archive-of/"));
        if !lost.is_empty() {
            stage.world.sim.violation(format!("objects that nobody finds again: {lost:?}"));
        }
        crate::rebuild::lose_index(&stage.world);
        stage.ask_all()
    }

    /// The archive takes nothing.
    pub(crate) fn archive_that_refuses() -> Outcome {
        let stage = history();
        let tie = |ports: crate::world::Ports| async move {
            pair::tie(&**ports.archived.live(), &**ports.archived.archive(), &*ports.clock).await
        };
        stage.world.ask(10_000, tie).expect("it is answered").expect("nothing fails");
        let report = pass(&stage, &[("archive.put_new", Fate::Refused)]);
        if report.failed == 0 {
            stage.world.sim.violation(format!("nothing was tried: {report:?}"));
        }
        must_be_had(&stage);
        stage.ask_all()
    }

    /// Somebody else's objects are in the archive, under the names of packs.
    pub(crate) fn archive_with_other_objects() -> Outcome {
        let stage = history();
        let packs: Vec<String> = stage.world.bucket.objects().into_keys().collect();
        let put = |ports: crate::world::Ports| async move {
            for name in packs.iter().filter(|name| name.ends_with(".sfp")) {
                let _ = ports.archived.archive().put_new(name, b"somebody else's").await;
            }
        };
        stage.world.ask(10_000, put).expect("it is answered");
        let report = pass(&stage, &[]);
        if report.refused == 0 {
            stage.world.sim.violation(format!("nothing was refused: {report:?}"));
        }
        must_be_had(&stage);
        stage.ask_all()
    }

    /// Every read is spoilt on its way, as often as the wire may spoil it.
    pub(crate) fn packs_that_are_spoilt_on_the_way() -> Outcome {
        let stage = history();
        let calm = stage.world.gate.plan(Clone::clone);
        let mut noisy = calm.clone();
        noisy.bit_flip = Odds(10_000);
        stage.world.gate.set_plan(noisy);
        // A reader that was spoilt less often than it tries comes through: what is read next is sound.
        let packs = stage.world.bucket.objects().into_iter().filter(|(name, _)| name.ends_with(".sfp"));
        let packs: Vec<_> = packs.collect();
        let report = pass(&stage, &[]);
        stage.world.gate.set_plan(calm);
        must_have_moved(&stage, &report);
        let now = stage.world.bucket.objects();
        for (name, bytes) in packs {
            if now.get(&name) != Some(&bytes) {
                stage.world.sim.violation(format!("`{name}` has other bytes, or none"));
            }
        }
        must_be_had(&stage);
        stage.ask_all()
    }

    /// A pack moves between the two looks of a reader.
    pub(crate) fn pack_that_moves_while_it_is_read() -> Outcome {
        let stage = history();
        let pack = stage.rows().into_iter().next().expect("a snapshot was written").pack;
        let names = [pack_name(Class::Full, pack), pack_name(Class::History, pack)];
        let name = names.into_iter().find(|name| stage.world.bucket.objects().contains_key(name));
        let name = name.expect("its pack is there");
        let reader = stage.world.process("reader");
        let process = reader.process;
        let (sim, asked) = (stage.world.sim.clone(), name.clone());
        let (mut looks, mover) = (0, stage.world.process("mover"));
        let (subject, _) = stage.subject();
        let is_it = move |op: &Op<'_>| {
            looks += usize::from(op.process == process && op.target == asked);
            looks == 1
        };
        // The reader stands still after its first look until the mover is done.
        let deed = move |op: &Op<'_>| {
            sim.pause(op.process, sim.now() + 30_000);
            sim.spawn(mover.process, async move {
                let _ = archiver(&subject, &mover, 0).pass(Mode::Move).await;
            });
        };
        stage.before_the(is_it, deed);
        let read: Arc<Mutex<Option<_>>> = Arc::default();
        let slot = Arc::clone(&read);
        // Its first look is an answer already, where the live store is asked first.
        stage.world.sim.spawn(process, async move {
            let first = reader.blobs.get_tail(&name, 8).await;
            let second = reader.blobs.get_tail(&name, 8).await;
            *lock(&slot) = Some((first, second));
        });
        stage.world.idle(90_000);
        let looks = lock(&read).take();
        match looks {
            Some((Ok(_), Ok(_))) => {}
            other => stage.world.sim.violation(format!("a pack that was always there: {other:?}")),
        }
        stage.ask_all()
    }
}
