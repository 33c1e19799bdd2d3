//! Schedules and their runs. Their forms are the rows: of two writes of one row, the one with the later write
//! time counts, and where both have the same, the larger form, whole.
//!
//! *Order*: the mark that something has changed is a cell of the same partition and the same write.

use super::columns::varint;
use super::outcome::damaged;
use super::{ScyllaIndex, first};
use crate::codec::row::Row;
use crate::domain::ids::{LedgerId, PartitionNo};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::schedule::{RunRow, ScheduleRow, Target};
use scylla::value::CqlTimestamp;

/// All schedules are in one partition.
const BUCKET: i32 = 0;

/// The write time of a schedule's row in microseconds.
fn written_at(row: &ScheduleRow) -> i64 {
    row.at.minted_at().0 * 1_000
}

/// That of a run's row: the order of ranks.
fn run_written_at(row: &RunRow) -> i64 {
    let (due, number) = row.rank();
    due.0.saturating_mul(1_000).saturating_add((number % 1_000) as i64)
}

fn read<R: Row>(form: &[u8], is_it: impl FnOnce(&R) -> bool) -> PortResult<R> {
    let row = R::decode(form).map_err(|error| damaged(&error))?;
    if is_it(&row) { Ok(row) } else { Err(damaged(&format_args!("a {} has the key of another", R::NAME))) }
}

impl ScyllaIndex {
    pub(super) async fn keep_schedule(&self, row: ScheduleRow) -> PortResult<()> {
        let says = row.plan.as_ref();
        let (id, prefix) = match says.map(|says| &says.target) {
            Some(Target::Aggregate(key)) => (Some(&*key.id), None),
            Some(Target::Selector { prefix, .. }) => (None, Some(&**prefix)),
            None => (None, None),
        };
        let kind = says.map(|says| &**says.target.kind());
        let (cron, zone) = (says.map(|says| &*says.cron), says.map(|says| &*says.timezone));
        let (enabled, jitter) = (
            says.map(|says| says.enabled),
            says.map(|says| i64::try_from(says.jitter_ms).unwrap_or(i64::MAX)),
        );
        let (change, form) = (&row.at.0[..], row.encode());
        let (name, at) = (&*row.name, written_at(&row));
        // What it no longer says is deleted from the columns: rows are few.
        let values = (BUCKET, name, change, &form[..], kind, id, prefix, cron, zone, enabled, jitter, at);
        self.write(&self.statements.put_schedule, values).await
    }

    pub(super) async fn all_schedules(&self) -> PortResult<Vec<ScheduleRow>> {
        let make = |(name, form): (String, Option<Vec<u8>>)| {
            let form = form.ok_or_else(|| damaged(&"a schedule has no form"))?;
            read(&form, |row: &ScheduleRow| *row.name == *name)
        };
        self.all(&self.statements.schedules, (BUCKET,), make).await
    }

    pub(super) async fn one_schedule(&self, name: &str) -> PortResult<Option<ScheduleRow>> {
        let page = self.row(&self.statements.schedule, (BUCKET, name)).await?;
        let found = first::<(&[u8],)>(&page)?;
        found.map(|(form,)| read(form, |row: &ScheduleRow| *row.name == *name)).transpose()
    }

    pub(super) async fn last_change(&self) -> PortResult<Option<LedgerId>> {
        let page = self.row(&self.statements.schedules_changed, (BUCKET,)).await?;
        let found = first::<(Option<&[u8]>,)>(&page)?.and_then(|(change,)| change);
        let id = found.map(|change| change.try_into().map(LedgerId));
        id.transpose().map_err(|_| -> PortError { damaged(&"the mark of changed schedules is no id") })
    }

    pub(super) async fn keep_run(&self, row: RunRow) -> PortResult<()> {
        let form = row.encode();
        let (number, on_time) = (varint(row.number), varint(row.on_time));
        let [due, started, finished] = [row.due, row.started, row.finished].map(|time| CqlTimestamp(time.0));
        let [created, exists, failed] = [row.created, row.exists, row.failed].map(varint);
        let (name, topic, place) = (&*row.schedule, &*row.topic, i32::from(row.place()));
        let (partition, form, at) = (row.partition.0, &form[..], run_written_at(&row));
        let values = (
            name, topic, partition, place, number, on_time, due, started, finished, created, exists, failed,
            form, at,
        );
        self.write(&self.statements.put_run, values).await
    }

    pub(super) async fn last_runs(
        &self,
        name: &str,
        topic: &str,
        partition: PartitionNo,
    ) -> PortResult<Vec<RunRow>> {
        let is_it =
            |row: &RunRow| *row.schedule == *name && *row.topic == *topic && row.partition == partition;
        let make = |(form,): (Option<Vec<u8>>,)| {
            let form = form.ok_or_else(|| damaged(&"a run has no form"))?;
            read(&form, is_it)
        };
        let mut runs = self.all(&self.statements.runs, (name, topic, partition.0), make).await?;
        runs.sort_by_key(|run| run.number);
        Ok(runs)
    }
}
