//! Schedules: made, paused and asked to run by whichever worker, executed by owners that die. In the end
//! every run that somebody was told of has been, in every partition.

use crate::executor::{ProcessId, lock};
use crate::judge::Judge;
use crate::ports::clock::SimClock;
use crate::questions::able;
use crate::rng::Rng;
#[cfg(not(feature = "runtime"))]
use crate::stage::{HERE, TOPIC};
use crate::stats::Count;
use crate::subject::Fleet;
use crate::world::{Parts, Ports, World};
use futures_util::future::BoxFuture;
use snapfold::clock::Clock;
use snapfold::domain::error::{Error, ErrorKind, Result};
use snapfold::domain::ids::{PartitionNo, Timestamp};
#[cfg(not(feature = "runtime"))]
use snapfold::domain::schedule::{Agenda, RunRow};
use snapfold::domain::schedule::{Schedule, Target};
use snapfold::lookup::{Lookup, Made, Refusal};
use snapfold::upkeep::schedules::{Book, BookParts, Change, Duty, Page, Takes, Took};
use snapfold::worker::Handle;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The schedules of a world.
const NAMES: [&str; 2] = ["all", "one"];

/// Whether a seed has schedules: a quarter of them, so that what the others mean stays as it was.
pub(crate) fn of_seed(seed: u64) -> bool {
    seed % 4 == 1
}

/// The partitions of one worker, as whoever executes schedules sees them.
struct SimTakes {
    handle: Handle,
    lookup: Lookup,
}

fn fault(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Failed(error) => error,
        Refusal::NotCaughtUp { .. } => Error::new(ErrorKind::Unavailable, "not-caught-up", "not yet"),
        other => Error::new(ErrorKind::NotFound, "unknown-aggregate", format!("{other:?}")),
    }
}

impl Takes for SimTakes {
    fn owned(&self) -> Vec<PartitionNo> {
        self.handle.folding()
    }
    fn is_held_back(&self, partition: PartitionNo) -> bool {
        self.handle.is_held_back(partition)
    }
    fn place<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<PartitionNo>>> {
        Box::pin(async move { self.lookup.place(id).await.map_err(fault) })
    }
    fn ids<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move { self.lookup.ids(prefix, after, limit.min(4)).await.map_err(fault) })
    }
    fn take<'a>(&'a self, partition: PartitionNo, id: &'a str) -> BoxFuture<'a, Took> {
        Box::pin(async move {
            match self.lookup.create_due(&self.handle, partition, id).await {
                Ok(Some(Made { created: true, .. })) => Took::Created,
                Ok(Some(_)) => Took::Exists,
                Ok(None) => Took::Elsewhere,
                Err(refusal) => Took::Failed(fault(refusal)),
            }
        })
    }
}

/// Executes the schedules of one worker beside it.
pub(crate) fn start(ports: &Ports, handle: &Handle, lookup: &Lookup) {
    let spec = &ports.streams[0].spec;
    let duty = Duty {
        takes: Arc::new(SimTakes { handle: handle.clone(), lookup: lookup.clone() }),
        index: Arc::clone(&ports.index),
        clock: Arc::clone(&ports.clock),
        kind: spec.kind.into(),
        topic: spec.topic.into(),
        changes: Arc::default(),
        tallies: Arc::default(),
    };
    ports.sim.spawn(ports.process, duty.run());
}

/// The clock of a process.
fn clock(world: &Parts, process: ProcessId) -> SimClock {
    SimClock { sim: world.sim.clone(), process, skews: world.skews.clone() }
}

/// The book as a process writes it. Not over all of its ports: those of its group are the worker's.
fn book(world: &Parts, process: ProcessId) -> Book {
    let spec = &world.setup.streams[0];
    let count = u32::try_from(spec.partitions).unwrap_or(1);
    Book::new(BookParts {
        index: Arc::new(world.index.port(process)),
        blobs: Arc::new(world.bucket.port(process)),
        clock: Arc::new(clock(world, process)),
        topics: BTreeMap::from([(spec.kind.into(), (spec.topic.into(), count))]),
    })
}

/// The first schedule is never due by itself, so that runs that were asked for are not made up for by later
/// ones.
fn says(kind: &str, name: &str) -> Schedule {
    let target = Target::Selector { kind: kind.into(), prefix: "".into() };
    let cron = if name == NAMES[0] { "0 0 1 1 *" } else { "* * * * *" };
    Schedule { target, cron: cron.into(), timezone: "UTC".into(), enabled: true, jitter_ms: 500 }
}

/// Has one random live worker make a schedule, or change the one that is there.
pub(crate) fn change_one(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>, rng: &Mutex<Rng>) {
    let Some(workers) = able(world, fleet, judge) else { return };
    let (at, drawn, name) = {
        let mut rng = lock(rng);
        (rng.index(workers.len()), rng.below(10), *rng.pick(&NAMES))
    };
    let process = workers[at].0;
    let (book, kind, sim) = (book(world, process), world.setup.streams[0].kind, world.sim.clone());
    world.sim.spawn(process, async move {
        // Whatever it is told: what is kept is judged.
        let _ = match drawn {
            0..=1 => book.put(name, says(kind, name)).await.map(drop),
            2 => book.change(name, Change::Pause).await.map(drop),
            3 => book.change(name, Change::Resume).await.map(drop),
            4 => book.change(name, Change::Delete).await.map(drop),
            _ => {
                sim.count(Count::ScheduleAsked);
                book.change(name, Change::RunNow).await.map(drop)
            }
        };
    });
}

/// Runs that somebody asked for and that have not been; those that are not due by their owner's clock do not
/// count.
pub(crate) fn missing(world: &World) -> Vec<String> {
    let spec = &world.setup.streams[0];
    let mut missing = Vec::new();
    for row in world.index.schedules.rows().iter().filter(|row| row.plan.is_some()) {
        let Some(asked) = row.run_at else { continue };
        for partition in (0..spec.partitions).map(PartitionNo) {
            let owner = world.groups[spec.topic].owner(partition);
            let now = owner.map_or(Timestamp(i64::MIN), |owner| clock(world, owner).now());
            let last = world.index.schedules.last_due(&row.name, partition);
            if now > asked && last.is_none_or(|last| last < asked) {
                missing.push(format!("{} in {partition}: asked for {asked}, last {last:?}", row.name));
            }
        }
    }
    missing
}

/// Every run that was asked for is made up for, once all who asked something have their answers: a worker may
/// read for one at a time (seed 1137).
pub(crate) fn check(world: &World) {
    world.settle(120_000, &mut |world| !world.is_anyone_asking());
    if !world.settle(60_000, &mut |world| missing(world).is_empty()) {
        world.sim.violation(format!("runs of schedules were forgotten: {:?}", missing(world)));
    }
}

/// A run is asked for while nobody owns the partition: the next owner makes up for it.
#[cfg(not(feature = "runtime"))]
pub(crate) fn run_that_nobody_was_there_for() -> crate::world::Outcome {
    let stage = crate::stage::Stage::of(scheduled());
    let first = stage.worker("first");
    stage.events(1..=3);
    ask(&stage, |book| Box::pin(async move { book.put("all", says("order", "all")).await.map(drop) }));
    stage.world.idle(2_000);
    stage.world.sim.kill(first);
    ask(&stage, |book| Box::pin(async move { book.change("all", Change::RunNow).await.map(drop) }));
    stage.world.idle(100);
    stage.worker("next");
    stage.world.idle(5_000);
    finish(stage)
}

/// A run, and time in which it must not happen again.
#[cfg(not(feature = "runtime"))]
pub(crate) fn run_that_is_asked_for_once() -> crate::world::Outcome {
    let stage = crate::stage::Stage::of(scheduled());
    stage.worker("owner");
    stage.events(1..=3);
    ask(&stage, |book| Box::pin(async move { book.put("all", says("order", "all")).await.map(drop) }));
    ask(&stage, |book| Box::pin(async move { book.change("all", Change::RunNow).await.map(drop) }));
    stage.world.idle(8_000);
    finish(stage)
}

/// Another process, which owned the partition before, writes late how an earlier run ended. It counted on
/// from the same run, so its row has the place of the last one: that stays.
#[cfg(not(feature = "runtime"))]
pub(crate) fn run_that_is_written_late() -> crate::world::Outcome {
    let stage = crate::stage::Stage::of(scheduled());
    stage.worker("owner");
    stage.events(1..=3);
    ask(&stage, |book| Box::pin(async move { book.put("all", says("order", "all")).await.map(drop) }));
    ask(&stage, |book| Box::pin(async move { book.change("all", Change::RunNow).await.map(drop) }));
    stage.world.idle(4_000);
    let read = |ports: Ports| async move { ports.index.runs("all", TOPIC, HERE).await };
    let runs = stage.world.ask(10_000, read).expect("it is answered").expect("nothing fails");
    let last = runs.last().expect("it has run").clone();
    let late = RunRow { due: Timestamp(last.due.0 - 1_000), ..last };
    let put = |ports: Ports| async move { ports.index.put_run(late).await };
    stage.world.ask(10_000, put).expect("it is answered").expect("nothing fails");
    finish(stage)
}

/// A partition is lost and comes back while a run of it is not over: what the index tells of its runs until
/// then does not tell of that one.
#[cfg(not(feature = "runtime"))]
pub(crate) fn partition_that_comes_back_during_a_run() -> crate::world::Outcome {
    let stage = crate::stage::Stage::of(scheduled());
    ask(&stage, |book| Box::pin(async move { book.put("all", says("order", "all")).await.map(drop) }));
    ask(&stage, |book| Box::pin(async move { book.change("all", Change::RunNow).await.map(drop) }));
    let now = Timestamp(i64::MAX / 2);
    let mut agenda = Agenda::new(&"order".into());
    agenda.take(stage.world.index.schedules.rows(), now);
    let arm = |agenda: &mut Agenda| {
        agenda.own(&[HERE]);
        for unread in agenda.to_read(9) {
            agenda.read(&unread, Ok(&[]), now);
        }
        agenda.due(now, &|_| false, 9)
    };
    let starts = arm(&mut agenda);
    assert_eq!(starts.len(), 1, "it is due");
    agenda.own(&[]);
    let again = arm(&mut agenda);
    if !again.is_empty() {
        stage.world.sim.violation(format!("{starts:?} is not over when {again:?} begins"));
    }
    agenda.abandoned(&starts[0].name, HERE, now);
    if arm(&mut agenda) != starts {
        stage.world.sim.violation("what was given up does not come again".to_owned());
    }
    stage.world.finish()
}

/// The last runs of a partition are asked for, and it is lost before they are told. When it comes back
/// another owner has run what was due: the answer of before does not tell of that.
#[cfg(not(feature = "runtime"))]
pub(crate) fn answer_from_before_a_partition_was_lost() -> crate::world::Outcome {
    let stage = crate::stage::Stage::of(scheduled());
    ask(&stage, |book| Box::pin(async move { book.put("all", says("order", "all")).await.map(drop) }));
    ask(&stage, |book| Box::pin(async move { book.change("all", Change::RunNow).await.map(drop) }));
    let now = Timestamp(i64::MAX / 2);
    let mut agenda = Agenda::new(&"order".into());
    agenda.take(stage.world.index.schedules.rows(), now);
    agenda.own(&[HERE]);
    let before = agenda.to_read(9);
    agenda.own(&[]);
    agenda.own(&[HERE]);
    let after = agenda.to_read(9);
    agenda.read(&before[0], Ok(&[]), now);
    let early = agenda.due(now, &|_| false, 9);
    if !early.is_empty() {
        stage.world.sim.violation(format!("{early:?} begins by what was true before"));
    }
    agenda.read(&after[0], Ok(&[]), now);
    if agenda.due(now, &|_| false, 9).len() != 1 {
        stage.world.sim.violation("what is due does not come".to_owned());
    }
    stage.world.finish()
}

#[cfg(not(feature = "runtime"))]
fn scheduled() -> crate::subject::Subject {
    let versions = crate::ports::producer::VersionMode::Given;
    let mut subject = crate::subject::Subject::staged(versions);
    subject.schedules = true;
    subject
}

#[cfg(not(feature = "runtime"))]
fn ask(stage: &crate::stage::Stage, change: fn(Book) -> BoxFuture<'static, Result<()>>) {
    let world = (*stage.world).clone();
    let told = stage.world.ask(10_000, |ports| change(book(&world, ports.process)));
    assert!(matches!(told, Some(Ok(()))), "{told:?}");
}

#[cfg(not(feature = "runtime"))]
fn finish(stage: crate::stage::Stage) -> crate::world::Outcome {
    check(&stage.world);
    stage.ask_all()
}
