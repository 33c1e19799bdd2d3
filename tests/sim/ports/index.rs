//! The `Index` as three replicas: a write is acknowledged by two, a read asks a random two and merges them.
//!
//! *Order*: each replica gets a write at its own time. Acknowledged: two had it before the answer, the third
//!   gets it before, after or never. Not heard or late: none, one, two or three have it, now or later: a
//!   rumour. Refused: none has it (unless the plan says that refusals lie). Reads see each of their two
//!   replicas at its own moment.

use super::replica::{Cell, Query, Replica};
use super::schedules::Schedules;
use super::{Access, Course, Fate, Gate, Op, Port, outcome_code};
use crate::executor::{ProcessId, lock};
use crate::rng::Rng;
use crate::stats::Count;
use futures_util::future::BoxFuture;
use snapfold::domain::ids::{AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Version};
use snapfold::domain::ledger::{DeletedRow, deleted_at};
use snapfold::domain::outcome::PortResult;
use snapfold::domain::record::Bytes;
use snapfold::domain::row::{CheckpointRow, DeadLetter, PartitionKey, RecordKind, SnapshotRow, WatermarkRow};
use snapfold::domain::schedule::{RunRow, ScheduleRow};
use snapfold::store::index::{From, Index};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

const REPLICAS: usize = 3;

/// What the three replicas hold, and what was acknowledged.
#[derive(Default)]
pub(super) struct Cells {
    pub(super) replicas: [Replica; REPLICAS],
    pub(super) acked_marks: BTreeMap<(PartitionKey, u128), Offset>,
    /// The same, whatever index was lost meanwhile.
    pub(super) covered: BTreeMap<(PartitionKey, u128), Offset>,
    acked: Option<Vec<Cell>>,
    rows: BTreeMap<(AggregateKey, Lineage), Versions>,
    deleted: BTreeSet<DeletedRow>,
    checkpoints: BTreeMap<(PartitionKey, PackId), Retired>,
    letters: BTreeSet<(PartitionKey, Offset)>,
    spared: Option<usize>,
    /// Rows that somebody asked to delete, whatever came of it.
    condemned: BTreeSet<DeletedRow>,
}

type Versions = BTreeMap<(Version, PackId), Arc<SnapshotRow>>;
/// Whether the deletion of a checkpoint row was acknowledged as well.
type Retired = bool;

/// The index of the world; clones share it.
#[derive(Clone)]
pub(crate) struct Cluster {
    gate: Gate,
    pub(super) cluster: Arc<Mutex<Cells>>,
    /// Schedules and their runs.
    pub(crate) schedules: Schedules,
}

impl Cluster {
    /// Three empty replicas.
    pub(crate) fn new(gate: Gate) -> Self {
        Self { schedules: Schedules::new(gate.clone()), gate, cluster: Arc::default() }
    }

    /// The port, for one process.
    pub(crate) fn port(&self, process: ProcessId) -> SimIndex {
        SimIndex { world: self.clone(), process }
    }

    /// All that any replica holds, merged: for invariants. Rows in it may be rumours.
    pub(crate) fn union(&self) -> Replica {
        let cluster = lock(&self.cluster);
        let mut all = Replica::default();
        cluster.replicas.iter().for_each(|replica| all.absorb(replica));
        all
    }

    /// Keeps every acknowledged cell from now on, for [`Self::lost_cells`].
    pub(crate) fn remember_acked(&self) {
        lock(&self.cluster).acked = Some(Vec::new());
    }

    /// How many cells were acknowledged, and those of them that fewer than two replicas hold: always none.
    pub(crate) fn lost_cells(&self) -> (usize, Vec<Cell>) {
        let cluster = lock(&self.cluster);
        let acked = cluster.acked.iter().flatten();
        let holders = |cell: &Cell| cluster.replicas.iter().filter(|replica| replica.holds(cell)).count();
        (acked.clone().count(), acked.filter(|cell| holders(cell) < 2).cloned().collect())
    }

    /// From now on every read leaves out this replica, and so sees or does not see what is on the last one:
    /// for directed scenarios.
    pub(crate) fn spare(&self, replica: usize) {
        lock(&self.cluster).spared = Some(replica);
    }

    /// How many replicas hold a cell.
    pub(crate) fn holders(&self, cell: &Cell) -> usize {
        lock(&self.cluster).replicas.iter().filter(|replica| replica.holds(cell)).count()
    }

    /// Full snapshots of an aggregate whose rows were acknowledged, and that nobody tried to delete.
    pub(crate) fn acked_fulls(&self, key: &AggregateKey, lineage: Lineage) -> Vec<Arc<SnapshotRow>> {
        let cluster = lock(&self.cluster);
        let rows = cluster.rows.get(&(key.clone(), lineage)).into_iter().flatten().map(|(_, row)| row);
        let stays = |row: &&Arc<SnapshotRow>| !cluster.condemned.contains(&DeletedRow::of(row));
        rows.filter(|row| row.kind == RecordKind::Full).filter(stays).cloned().collect()
    }

    /// Rows whose deletion was acknowledged and that a quorum may see all the same: always none.
    pub(crate) fn undead(&self) -> Vec<DeletedRow> {
        let cluster = lock(&self.cluster);
        let is_seen = |row: &&DeletedRow| {
            (0..REPLICAS).any(|spared| {
                let mut merged = Replica::default();
                let asked = (0..REPLICAS).filter(|replica| *replica != spared);
                let query = Query::Snapshots(row.key.clone(), row.lineage);
                asked.for_each(|replica| merged.absorb(&cluster.replicas[replica].only(&query)));
                merged.all_snapshots().any(|other| DeletedRow::of(other) == **row)
            })
        };
        cluster.deleted.iter().filter(is_seen).cloned().collect()
    }

    /// Version of the newest full snapshot row of an aggregate that any replica holds.
    pub(crate) fn newest_seen(&self, key: &AggregateKey, lineage: Lineage) -> Version {
        let cluster = lock(&self.cluster);
        let walks =
            cluster.replicas.iter().flat_map(|replica| replica.walk(key, lineage, From::Newest, usize::MAX));
        walks.filter(|row| row.kind == RecordKind::Full).map(|row| row.version).max().unwrap_or_default()
    }

    /// All replicas lose all but dead letters, and have these cells, as acknowledged; among them every row
    /// that was so before, but of lineages that are gone and of the erased. Of these no deletion comes back
    /// either: a row that was still under way to a replica is seen until a pass takes it, and what is left in
    /// the end is looked for then (seed 864).
    pub(crate) fn replace(&self, cells: &[Cell], is_gone: impl Fn(&AggregateKey, Lineage) -> bool) {
        let (mut cluster, mut all, mut violations) = (lock(&self.cluster), Replica::default(), Vec::new());
        cells.iter().for_each(|cell| violations.extend(all.apply(cell)));
        for rows in cluster.rows.values() {
            let back =
                |row: &SnapshotRow| all.has(row) || all.is_deleted(row) || is_gone(&row.key, row.lineage);
            let missing = rows.values().filter(|row| !back(row));
            violations.extend(missing.map(|row| format!("an acknowledged row did not come back: {row:?}")));
        }
        // The ledger named them, and whoever did that died before it told the index (seed 314, given).
        let named = cluster.rows.values().flat_map(BTreeMap::values).filter(|row| all.is_deleted(row));
        let named: Vec<DeletedRow> = named.map(|row| DeletedRow::of(row)).collect();
        cluster.condemned.extend(named);
        cluster.deleted.retain(|row| !is_gone(&row.key, row.lineage));
        cluster.replicas.iter_mut().for_each(|lost| *lost = all.clone().with_letters_of(lost));
        cluster.acked_marks.clear();
        drop(cluster);
        let marks = cells.iter().filter(|cell| matches!(cell, Cell::Watermark(_)));
        marks.for_each(|cell| self.acknowledge(cell));
        violations.into_iter().for_each(|what| self.gate.sim.violation(what));
    }

    /// All replicas lose what they hold, but for dead letters.
    #[cfg(not(feature = "runtime"))]
    pub(crate) fn lose(&self) {
        let cluster = &mut *lock(&self.cluster);
        cluster.replicas.iter_mut().for_each(|lost| *lost = Replica::default().with_letters_of(lost));
        cluster.acked_marks.clear();
    }

    fn acknowledge(&self, cell: &Cell) {
        let mut cluster = lock(&self.cluster);
        let first = match cell {
            Cell::Watermark(row) => {
                let Cells { acked_marks, covered, .. } = &mut *cluster;
                for marks in [acked_marks, covered] {
                    let mark = marks.entry((row.key.clone(), row.topic_id)).or_default();
                    *mark = row.low_watermark.max(*mark);
                }
                None
            }
            Cell::Snapshot(row) => {
                if cluster.deleted.contains(&DeletedRow::of(row)) {
                    return;
                }
                let rows = cluster.rows.entry((row.key.clone(), row.lineage)).or_default();
                let first = rows.insert((row.version, row.pack), row.clone()).is_none();
                first.then_some(Count::SnapshotWritten)
            }
            Cell::Deleted(row, _) => {
                let of = (row.key.clone(), row.lineage);
                let was = cluster.rows.get_mut(&of).and_then(|rows| rows.remove(&(row.version, row.pack)));
                cluster.deleted.insert((**row).clone());
                was.map(|_| Count::SnapshotDeleted)
            }
            Cell::Checkpoint { key, pack, row: Some(_), .. } => {
                let known = cluster.checkpoints.len();
                cluster.checkpoints.entry(((**key).clone(), *pack)).or_default();
                (cluster.checkpoints.len() > known).then_some(Count::CheckpointWritten)
            }
            Cell::Checkpoint { key, pack, row: None, .. } => {
                let retired = cluster.checkpoints.entry(((**key).clone(), *pack)).or_default();
                (!std::mem::replace(retired, true)).then_some(Count::CheckpointRetired)
            }
            Cell::DeadLetter(letter) => {
                let first = cluster.letters.insert((letter.key.clone(), letter.offset));
                first.then_some(Count::DeadLettered)
            }
            Cell::Aggregate(..) | Cell::Dictionary(..) => None,
        };
        cluster.acked.iter_mut().for_each(|acked| acked.push(cell.clone()));
        drop(cluster);
        first.into_iter().for_each(|count| self.gate.sim.count(count));
    }

    /// When each replica gets a write: before the answer, later, or never.
    fn deliveries(&self, course: &Course) -> [Option<u64>; REPLICAS] {
        let (late, lost, lie) =
            self.gate.plan(|plan| (plan.replica_late, plan.replica_lost, plan.refusals_lie));
        let fate = if lie && course.fate == Fate::Refused { Fate::Late } else { course.fate };
        let sim = &self.gate.sim;
        let mut counts = Vec::new();
        let mut times = sim.draw(|rng| {
            let later = |rng: &mut Rng| {
                let most = *rng.pick(&[50, 500, 8_000]);
                course.answer + rng.between(0, most)
            };
            let mut times = [None; REPLICAS];
            for (replica, time) in times.iter_mut().enumerate() {
                let before = rng.between(course.sent, course.answer - 1);
                *time = match fate {
                    Fate::Refused | Fate::Lost | Fate::Stuck => None,
                    Fate::Rumour => (replica == REPLICAS - 1).then_some(before),
                    Fate::Hung | Fate::Late => match rng.below(3) {
                        0 => None,
                        1 => Some(later(rng)),
                        _ => Some(before),
                    },
                    Fate::Answered | Fate::Unheard | Fate::Tardy if replica < 2 => Some(before),
                    Fate::Answered | Fate::Unheard | Fate::Tardy if rng.hits(lost) => {
                        counts.push(Count::ReplicaLost);
                        None
                    }
                    Fate::Answered | Fate::Unheard | Fate::Tardy if rng.hits(late) => {
                        counts.push(Count::ReplicaLate);
                        Some(later(rng))
                    }
                    Fate::Answered | Fate::Unheard | Fate::Tardy => Some(before),
                };
            }
            times
        });
        let landed = times.iter().flatten().filter(|time| **time < course.answer).count();
        if course.fate != Fate::Answered && (landed == 1 || landed == 2) {
            counts.push(Count::PartialWrite);
        }
        counts.into_iter().for_each(|count| sim.count(count));
        if fate != Fate::Rumour {
            sim.draw(|rng| rng.shuffle(&mut times));
        }
        times
    }

    async fn write(&self, op: &Op<'_>, cell: Cell) -> PortResult<()> {
        let course = self.gate.course(op);
        for (replica, time) in self.deliveries(&course).into_iter().enumerate() {
            let Some(time) = time else { continue };
            let (world, cell) = (self.clone(), cell.clone());
            self.gate.sim.at(time, move || world.deliver(replica, &cell));
        }
        self.gate.sim.sleep_until(course.answer).await;
        if course.fate == Fate::Answered {
            self.acknowledge(&cell);
        }
        let outcome = course.heard(op.what, Some(Ok(())));
        self.gate.sim.note("answer", u64::from(op.process.0), outcome_code(&outcome));
        outcome
    }

    fn deliver(&self, replica: usize, cell: &Cell) {
        let changed = lock(&self.cluster).replicas[replica].apply(cell);
        self.gate.sim.note("replica", replica as u64, 0);
        changed.into_iter().for_each(|changed| self.gate.sim.violation(changed));
    }

    async fn read(&self, op: &Op<'_>, query: Query) -> PortResult<Replica> {
        let course = self.gate.course(op);
        let sim = &self.gate.sim;
        let drawn = sim.draw(|rng| rng.index(REPLICAS));
        let spared = lock(&self.cluster).spared.unwrap_or(drawn);
        let seen: Arc<Mutex<Vec<Replica>>> = Arc::default();
        let asked = (0..REPLICAS).filter(|replica| *replica != spared);
        if course.is_at_once() {
            let cells = lock(&self.cluster);
            lock(&seen).extend(asked.map(|replica| cells.replicas[replica].only(&query)));
        } else if course.fate == Fate::Answered {
            for replica in asked {
                let time = sim.draw(|rng| rng.between(course.sent, course.answer - 1));
                let (cluster, query, seen) = (self.cluster.clone(), query.clone(), seen.clone());
                sim.at(time, move || {
                    let cells = lock(&cluster).replicas[replica].only(&query);
                    lock(&seen).push(cells);
                });
            }
        }
        if !course.is_at_once() {
            sim.sleep_until(course.answer).await;
        }
        let mut seen = std::mem::take(&mut *lock(&seen));
        let other = seen.pop().unwrap_or_default();
        let mut merged = seen.pop().unwrap_or_default();
        if merged != other {
            for cell in other.collect(&query) {
                merged.apply(&cell).into_iter().for_each(|changed| sim.violation(changed));
            }
            sim.count(Count::RumourRead);
            self.repair(spared, &merged, &query);
        }
        let outcome = course.heard(op.what, Some(Ok(merged)));
        sim.note("answer", u64::from(op.process.0), outcome_code(&outcome) + 8 * spared as u64);
        outcome
    }

    /// Blocking read repair: both replicas have what was merged before the caller hears of it.
    fn repair(&self, spared: usize, merged: &Replica, query: &Query) {
        if !self.gate.plan(|plan| plan.read_repair) {
            return;
        }
        self.gate.sim.count(Count::ReadRepair);
        let cells = merged.collect(query);
        for replica in (0..REPLICAS).filter(|replica| *replica != spared) {
            cells.iter().for_each(|cell| self.deliver(replica, cell));
        }
    }
}

/// The `Index` port of one process.
pub(crate) struct SimIndex {
    world: Cluster,
    process: ProcessId,
}

impl SimIndex {
    fn op<'a>(&self, what: &'static str, access: Access, target: &'a str, at: Option<PartitionNo>) -> Op<'a> {
        Op { process: self.process, port: Port::Index, what, access, target, partition: at }
    }

    fn put<'a>(
        &'a self,
        what: &'static str,
        target: Arc<str>,
        partition: Option<PartitionNo>,
        cell: Cell,
    ) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            let op = self.op(what, Access::Write, &target, partition);
            self.world.write(&op, cell).await
        })
    }

    async fn ask(
        &self,
        what: &'static str,
        target: &str,
        at: Option<PartitionNo>,
        query: Query,
    ) -> PortResult<Replica> {
        self.world.read(&self.op(what, Access::Read, target, at), query).await
    }
}

impl Index for SimIndex {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        let (id, partition) = (row.key.id.clone(), Some(row.partition));
        self.put("put_snapshot", id, partition, Cell::Snapshot(Arc::new(row)))
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        Box::pin(async move {
            let query = Query::Snapshots(key.clone(), lineage);
            let merged = self.ask("snapshots", &key.id, None, query).await?;
            Ok(merged.walk(key, lineage, from, limit))
        })
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        Box::pin(async move {
            let merged = self.ask("snapshot_by_id", "snapshot", None, Query::SnapshotId(id)).await?;
            Ok(merged.named(id))
        })
    }

    fn delete_snapshot<'a>(
        &'a self,
        row: &'a DeletedRow,
        deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        let cell = Cell::Deleted(Arc::new(row.clone()), deleted_at(row.pack, deletion));
        lock(&self.world.cluster).condemned.insert(row.clone());
        self.put("delete_snapshot", row.key.id.clone(), None, cell)
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        let (topic, partition) = (row.key.topic.clone(), Some(row.key.partition));
        let cell = Cell::Checkpoint {
            key: Arc::new(row.key.clone()),
            pack: row.pack,
            time: row.pack.minted_at().0,
            row: Some(Arc::new(row)),
        };
        self.put("put_checkpoint", topic, partition, cell)
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        let time = pack.minted_at().0 + 1;
        let cell = Cell::Checkpoint { key: Arc::new(key.clone()), pack, time, row: None };
        self.put("delete_checkpoint", key.topic.clone(), Some(key.partition), cell)
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        Box::pin(async move {
            let query = Query::Checkpoints(key.clone());
            let merged = self.ask("checkpoints", &key.topic, Some(key.partition), query).await?;
            Ok(merged.live(key))
        })
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        let (topic, partition) = (row.key.topic.clone(), Some(row.key.partition));
        self.put("put_watermark", topic, partition, Cell::Watermark(Arc::new(row)))
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        Box::pin(async move {
            let query = Query::Watermarks(key.clone());
            let merged = self.ask("watermarks", &key.topic, Some(key.partition), query).await?;
            Ok(merged.marks(key))
        })
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        let cell = Cell::Aggregate(key.clone(), partition);
        self.put("put_aggregate", key.id.clone(), Some(partition), cell)
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        Box::pin(async move {
            let merged = self.ask("aggregates", kind, None, Query::Aggregates(kind.into())).await?;
            Ok(merged.known(kind, after, limit))
        })
    }

    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(self.world.schedules.put(self.process, row))
    }

    fn schedule<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Option<ScheduleRow>>> {
        Box::pin(self.world.schedules.get(self.process, name))
    }

    fn schedules(&self) -> BoxFuture<'_, PortResult<Vec<ScheduleRow>>> {
        Box::pin(self.world.schedules.all(self.process))
    }

    fn schedules_changed(&self) -> BoxFuture<'_, PortResult<Option<LedgerId>>> {
        Box::pin(self.world.schedules.changed(self.process))
    }

    fn put_run(&self, row: RunRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(self.world.schedules.put_run(self.process, row))
    }

    fn runs<'a>(
        &'a self,
        name: &'a str,
        _: &'a str,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<Vec<RunRow>>> {
        Box::pin(self.world.schedules.runs(self.process, name, partition))
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        let (topic, partition) = (letter.key.topic.clone(), Some(letter.key.partition));
        self.put("put_dead_letter", topic, partition, Cell::DeadLetter(Arc::new(letter)))
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        Box::pin(async move {
            let query = Query::DeadLetters(key.clone());
            let merged = self.ask("dead_letters", &key.topic, Some(key.partition), query).await?;
            Ok(merged.letters(key, from, limit))
        })
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        self.put("put_dictionary", "dictionary".into(), None, Cell::Dictionary(id, bytes))
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        Box::pin(async move {
            let merged = self.ask("dictionary", "dictionary", None, Query::Dictionary(id)).await?;
            Ok(merged.dictionary(id))
        })
    }
}
