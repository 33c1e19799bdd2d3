//! Schedules and their runs, as the index of the world keeps them: hints, of which the last one written
//! counts, so one place that is always whole will do. Calls fail like all others.

use super::{Access, Gate, Op, Port};
use crate::executor::{ProcessId, lock};
use crate::stats::Count;
use snapfold::domain::ids::{LedgerId, PartitionNo, Timestamp};
use snapfold::domain::outcome::PortResult;
use snapfold::domain::schedule::{RunRow, ScheduleRow};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type RunPlace = (Arc<str>, PartitionNo, u8);

#[derive(Default)]
struct Tables {
    rows: BTreeMap<Arc<str>, ScheduleRow>,
    changed: Option<LedgerId>,
    runs: BTreeMap<RunPlace, RunRow>,
    /// What each process ran last of a schedule in a partition: its number and due time.
    last: BTreeMap<(ProcessId, Arc<str>, PartitionNo), (u64, Timestamp)>,
}

/// The tables; clones share them.
#[derive(Clone)]
pub(crate) struct Schedules {
    gate: Gate,
    tables: Arc<Mutex<Tables>>,
}

impl Schedules {
    pub(crate) fn new(gate: Gate) -> Self {
        Self { gate, tables: Arc::default() }
    }

    fn op<'a>(process: ProcessId, what: &'static str, access: Access, target: &'a str) -> Op<'a> {
        Op { process, port: Port::Index, what, access, target, partition: None }
    }

    /// All rows that are there.
    pub(crate) fn rows(&self) -> Vec<ScheduleRow> {
        lock(&self.tables).rows.values().cloned().collect()
    }

    /// Due time of the last run in a partition, if there was one.
    pub(crate) fn last_due(&self, name: &str, partition: PartitionNo) -> Option<Timestamp> {
        let tables = lock(&self.tables);
        let runs = tables.runs.iter().filter(|((of, at, _), _)| **of == *name && *at == partition);
        runs.map(|(_, run)| run.due).max()
    }

    pub(super) async fn put(&self, process: ProcessId, row: ScheduleRow) -> PortResult<()> {
        let (name, tables) = (Arc::clone(&row.name), Arc::clone(&self.tables));
        let op = Self::op(process, "put_schedule", Access::Write, &name);
        let put = move || {
            let mut tables = lock(&tables);
            tables.changed = Some(row.at);
            let kept = tables.rows.entry(Arc::clone(&row.name)).or_insert_with(|| row.clone());
            if row.at > kept.at {
                *kept = row;
            }
            Ok(())
        };
        self.gate.perform(&op, put).await
    }

    pub(super) async fn get(&self, process: ProcessId, name: &str) -> PortResult<Option<ScheduleRow>> {
        let (wanted, tables) = (Arc::<str>::from(name), Arc::clone(&self.tables));
        let op = Self::op(process, "schedule", Access::Read, name);
        self.gate.perform(&op, move || Ok(lock(&tables).rows.get(&wanted).cloned())).await
    }

    pub(super) async fn all(&self, process: ProcessId) -> PortResult<Vec<ScheduleRow>> {
        let tables = Arc::clone(&self.tables);
        let op = Self::op(process, "schedules", Access::Read, "schedules");
        self.gate.perform(&op, move || Ok(lock(&tables).rows.values().cloned().collect())).await
    }

    pub(super) async fn changed(&self, process: ProcessId) -> PortResult<Option<LedgerId>> {
        let tables = Arc::clone(&self.tables);
        let op = Self::op(process, "schedules_changed", Access::Read, "schedules");
        self.gate.perform(&op, move || Ok(lock(&tables).changed)).await
    }

    pub(super) async fn put_run(&self, process: ProcessId, row: RunRow) -> PortResult<()> {
        let (name, this) = (Arc::clone(&row.schedule), self.clone());
        let op = Self::op(process, "put_run", Access::Write, &name);
        self.gate.perform(&op, move || this.take_run(process, row)).await
    }

    /// A process that has written that a due time has run does not run it again.
    fn take_run(&self, process: ProcessId, row: RunRow) -> PortResult<()> {
        let mut tables = lock(&self.tables);
        let of = (process, Arc::clone(&row.schedule), row.partition);
        let before = tables.last.insert(of, (row.number, row.due));
        let place = (Arc::clone(&row.schedule), row.partition, row.place());
        let kept = tables.runs.get(&place).is_some_and(|kept| !row.outranks(kept));
        let is_new = !kept && tables.runs.insert(place, row.clone()).as_ref() != Some(&row);
        drop(tables);
        if is_new {
            self.gate.sim.count(Count::ScheduleRun);
        }
        // Where calls fail, a run whose end was not heard of may come again: snapshots are facts.
        let fails = self.gate.plan(|plan| plan.kill_every_ms > 0 || plan.pause_every_ms > 0);
        if !fails && before.is_some_and(|(number, due)| number != row.number && due == row.due) {
            let RunRow { schedule, partition, due, .. } = row;
            self.gate.sim.violation(format!("{schedule} ran twice in {partition} for {due}"));
        }
        Ok(())
    }

    pub(super) async fn runs(
        &self,
        process: ProcessId,
        name: &str,
        partition: PartitionNo,
    ) -> PortResult<Vec<RunRow>> {
        let (wanted, tables) = (Arc::<str>::from(name), Arc::clone(&self.tables));
        let op = Self::op(process, "runs", Access::Read, name);
        let read = move || {
            let first = (Arc::clone(&wanted), partition, 0);
            let within = first..=(wanted, partition, u8::MAX);
            let mut runs: Vec<RunRow> =
                lock(&tables).runs.range(within).map(|(_, run)| run.clone()).collect();
            runs.sort_by_key(|run| run.number);
            Ok(runs)
        };
        self.gate.perform(&op, read).await
    }
}
