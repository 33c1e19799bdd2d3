//! An index that is lost and rebuilt out of objects: all replicas at once are what the rebuild writes, and
//! whoever works goes on. Dead letters stay: nothing can bring them back.
//!
//! Seeds with stored damage have none of it: a rebuild without all objects does not end as one.

use crate::executor::lock;
use crate::ports::replica::Cell;
use crate::rng::Rng;
use crate::stats::Count;
use crate::world::Parts;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use snapfold::clock::Clock;
use snapfold::domain::ids::{
    AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version,
};
use snapfold::domain::ledger::{DeletedRow, deleted_at};
use snapfold::domain::outcome::PortResult;
use snapfold::domain::record::Bytes;
use snapfold::domain::row::{CheckpointRow, DeadLetter, PartitionKey, SnapshotRow, WatermarkRow};
use snapfold::domain::schedule::ScheduleRow;
use snapfold::domain::value::Value;
use snapfold::store::blobs::{Blobs, MemoryBlobs};
use snapfold::store::index::{From, Index, MemoryIndex};
use snapfold::store::packs::{CompressionPlan, Packs};
use snapfold::store::rebuild::{Rebuild, Rebuilt, Settings};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// When an index is lost, in virtual milliseconds of chaos; none in most seeds.
pub(crate) fn moments(seed: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed ^ 0x4eb_111d);
    match rng.below(100) {
        0..30 => (0..rng.between(1, 4)).map(|_| rng.between(500, 11_500)).collect(),
        _ => Vec::new(),
    }
}

/// Keeps what is written, and answers from it.
#[derive(Default)]
struct Recorder {
    rows: MemoryIndex,
    cells: Mutex<Vec<Cell>>,
}

impl Recorder {
    fn note(&self, cell: Cell) {
        lock(&self.cells).push(cell);
    }
}

impl Index for Recorder {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        self.note(Cell::Snapshot(Arc::new(row.clone())));
        self.rows.put_snapshot(row)
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        self.rows.snapshots(key, lineage, from, limit)
    }

    fn delete_snapshot<'a>(
        &'a self,
        row: &'a DeletedRow,
        deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.note(Cell::Deleted(Arc::new(row.clone()), deleted_at(row.pack, deletion)));
        self.rows.delete_snapshot(row, deletion)
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        self.rows.snapshot_by_id(id)
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        let (key, pack) = (Arc::new(row.key.clone()), row.pack);
        let time = pack.minted_at().0;
        self.note(Cell::Checkpoint { key, pack, time, row: Some(Arc::new(row.clone())) });
        self.rows.put_checkpoint(row)
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        self.rows.delete_checkpoint(key, pack)
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        self.rows.checkpoints(key)
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        self.note(Cell::Watermark(Arc::new(row.clone())));
        self.rows.put_watermark(row)
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        self.rows.watermarks(key)
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.note(Cell::Aggregate(key.clone(), partition));
        self.rows.put_aggregate(key, partition)
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        self.rows.aggregates(kind, after, limit)
    }

    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        self.rows.put_schedule(row)
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        self.rows.put_dead_letter(letter)
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        self.rows.dead_letters(key, from, limit)
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        self.note(Cell::Dictionary(id, bytes.clone()));
        self.rows.put_dictionary(id, bytes)
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        self.rows.dictionary(id)
    }
}

/// Nothing here waits.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn sleep(&self, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    fn random(&self) -> [u8; 10] {
        [0; 10]
    }
}

/// The result of a future all of whose ports answer at once.
pub(crate) fn at_once<T>(mut future: BoxFuture<'_, T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = future.poll_unpin(&mut context) {
            return done;
        }
    }
}

/// What a rebuild makes of the world's objects.
pub(crate) fn rebuilt(world: &Parts, settings: Settings) -> (Rebuilt, Vec<Cell>) {
    let (recorder, objects) = (Arc::new(Recorder::default()), Arc::new(MemoryBlobs::new()));
    for (name, bytes) in world.bucket.objects() {
        at_once(objects.put_new(&name, &bytes)).expect("names are plain, and each is there once");
    }
    let index = Arc::clone(&recorder) as Arc<dyn Index>;
    let packs = Packs::new(Arc::clone(&index), objects, CompressionPlan::default(), [0; 16]);
    let rebuild = Rebuild {
        index,
        packs: Arc::new(packs),
        clock: Arc::new(Still),
        topics: world.setup.streams.iter().map(|spec| (spec.kind.into(), spec.topic.into())).collect(),
        settings,
        progress: Arc::default(),
    };
    let report = at_once(Box::pin(rebuild.run())).expect("memory answers");
    let cells = std::mem::take(&mut *lock(&recorder.cells));
    (report, cells)
}

/// All replicas lose what they hold and get what a rebuild writes.
pub(crate) fn lose_index(world: &Parts) {
    if world.is_healed() {
        return;
    }
    // Several passes, as over more entries than fit.
    let (report, cells) = rebuilt(world, Settings { entries_max: 40, ..Settings::default() });
    world.sim.tell(|| format!("the index is lost and rebuilt: {report:?}"));
    if !report.problems.is_empty() {
        world.sim.violation(format!("a rebuild from sound objects: {:?}", report.problems));
    }
    world.sim.count(Count::IndexRebuilt);
    world.sim.count_more(Count::LoneFull, report.lone);
    world.sim.note("rebuilt", report.rows, report.checkpoints);
    let dropped = crate::dropping::dropped(world);
    // Whoever is erased has rows until they are deleted, and none after a rebuild.
    let is_erased = erased(world);
    world.index.replace(&cells, |key, lineage| dropped.has(lineage) || is_erased(&key.id));
}

/// Who was erased, by the objects that say so.
pub(crate) fn erased(world: &Parts) -> impl Fn(&str) -> bool + use<> {
    let erasures = world.bucket.objects().into_iter().filter(|(name, _)| name.starts_with("v1/erasures/"));
    let erasures: Vec<String> =
        erasures.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect();
    move |id| {
        let member = format!(r#""aggregateId":{}"#, Value::from(id).to_json());
        erasures.iter().any(|erasure| erasure.contains(&member))
    }
}

/// Loses the index at these moments.
pub(crate) fn schedule(world: &Parts, moments: &[u64]) {
    for ms in moments {
        let (this, sim) = (world.clone(), world.sim.clone());
        sim.at(sim.now() + ms, move || lose_index(&this));
    }
}

/// Goal: how many passes a rebuild takes over the footers changes nothing. Method: one world, and as many
/// entries in memory as all, as a few, as one.
#[test]
fn a_rebuild_in_many_passes_writes_what_one_pass_writes() {
    use crate::ports::producer::VersionMode;
    use crate::subject::{Fleet, Subject};
    use crate::world::{Setup, World};

    let subject = Subject::drawn(5, VersionMode::Counted);
    let plan = crate::plan::FaultPlan { event_every_ms: 5, ..crate::plan::FaultPlan::calm() };
    let world = World::planned(5, Setup::orders(VersionMode::Counted), plan);
    let fleet = Fleet::new(&world);
    world.start_workers(subject.boot(&fleet));
    world.start_producer();
    world.idle(20_000);
    let sorted = |entries_max| {
        let (report, cells) = rebuilt(&world, Settings { entries_max, ..Settings::default() });
        let mut cells: Vec<String> = cells.iter().map(|cell| format!("{cell:?}")).collect();
        cells.sort();
        (report, cells)
    };
    let (report, cells) = sorted(usize::MAX);
    assert!(report.rows > 10 && report.watermarks > 0 && report.problems.is_empty(), "{report:?}");
    for entries_max in [100, 1] {
        let (again, same) = sorted(entries_max);
        assert!(again == report && same == cells, "{entries_max}: {again:?} is not {report:?}");
    }
    assert_eq!(world.finish().violations, Vec::<String>::new());
}

/// A flush dies between its two packs: the full record is stored, the increment beside it is not, and only a
/// checkpoint holds the events. Then the index is lost and rebuilt, and the log forgets what is covered.
#[cfg(not(feature = "runtime"))]
pub(crate) fn full_record_of_a_dead_flush() -> crate::world::Outcome {
    use crate::ports::Fate;
    use crate::subject::Subject;
    use snapfold::domain::partition::Strategy;

    let subject = Subject::spaced(u64::MAX, Strategy::Incremental { full_every: 1 }, 1 << 40);
    let stage = crate::stage::Stage::of(subject);
    let first = stage.worker("first");
    stage.events(1..=4);
    // The pack of increments comes first.
    stage.rule(first, "put_new", Fate::Refused, 1);
    stage.rule(first, "put_new", Fate::Answered, 1);
    stage.always(first, "put_new", Fate::Refused);
    stage.snapshot(first);
    stage.world.sim.kill(first);
    let classes = |class: &str| {
        let prefix = format!("v1/{class}/");
        stage.world.bucket.objects().keys().filter(|name| name.starts_with(&prefix)).count()
    };
    assert_eq!((classes("full"), classes("history")), (1, 0), "the flush died in between");
    lose_index(&stage.world);
    let next = stage.worker("next");
    stage.events(5..=5);
    stage.snapshot(next);
    stage.world.idle(1_500);
    stage.forget();
    stage.ask_all()
}

/// All that was folded is in snapshots, and the packs of retired checkpoints were collected. Then the index
/// is lost and rebuilt, and another worker folds the log.
#[cfg(not(feature = "runtime"))]
pub(crate) fn rows_without_a_low_watermark() -> crate::world::Outcome {
    let stage = crate::stage::Stage::new();
    let first = stage.worker("first");
    stage.events(1..=6);
    stage.snapshot(first);
    stage.world.sim.kill(first);
    assert_eq!(stage.full_rows(), 1, "a snapshot is there");
    stage.lose("checkpoint");
    lose_index(&stage.world);
    let next = stage.worker("next");
    stage.world.idle(1_500);
    if stage.status(next).counts.loads == 0 {
        stage.world.sim.violation("it folded from the start what has a snapshot".to_owned());
    }
    stage.ask_all()
}
