//! The index in ScyllaDB or Apache Cassandra. The tables are in `schemas/`, `snapfold migrate` creates them.
//!
//! | file | owns |
//! |---|---|
//! | [`connect`] | the session: nodes, login, TLS, time-outs |
//! | [`statements`] | the statements, prepared once |
//! | [`outcome`] | errors of the driver, told as the port tells them |
//! | [`columns`] | snapshot rows as columns, checksums of rows |
//! | [`walk`] | walks over the snapshot rows of one aggregate |
//! | [`listing`] | aggregates in id order out of slots; dead letters out of buckets |
//! | [`schedules`] | schedules and their runs |
//! | [`migrate`] | keyspace and tables |
//!
//! *Order*: writes and reads wait for the local quorum, so a read sees every write that was acknowledged
//! before. Rows of one aggregate are written one after the other, never as a batch: of a batch that reached
//! one replica, somebody may see the last row and write it again at quorum, but not those ahead of it, which
//! may disappear with that replica. Which of two writes of one cell wins does not depend on when they arrive:
//! low watermarks, checkpoints and their deletions, and schedules carry write times of their own; runs of
//! schedules are hints, of which the last one written counts; all other rows are the same whenever they are
//! written.
//! *If it fails*: see [`outcome`]. Every write may be repeated. A row that disagrees with its checksum is
//! damage and is told; nothing that failed is ever told as absent.
//! *If cancelled*: a write that was sent happens or not; a read ends.
//! *What may leak*: a public id, a bucket of dead letters, without the row it names: both are written first,
//! so that no row is seen without them.

mod columns;
mod connect;
mod listing;
mod migrate;
mod outcome;
mod schedules;
mod statements;
mod walk;

use super::{From, Index};
use crate::codec::row::Row;
use crate::config;
use crate::domain::chain::snapshot_id;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{
    AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version,
};
use crate::domain::ledger::{DeletedRow, HoldRow, deleted_at, written_at};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::Bytes;
use crate::domain::row::{
    CheckpointRow, DeadLetter, NoteRow, OwnerRow, PartitionKey, SnapshotRow, WatermarkRow,
};
use crate::domain::schedule::{RunRow, ScheduleRow};
use columns::{NewSnapshot, Perhaps, crc, differs, number, proven, varint};
use connect::Timeouts;
use futures_util::future::{BoxFuture, try_join_all};
use listing::Buckets;
pub use migrate::{Change, Mode, migrate};
use outcome::{Doing, damaged};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::PagingState;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlTimestamp, CqlVarint};
use statements::Statements;
use std::fmt::Display;
use std::ops::ControlFlow;

const RESTORE: &str = "repair the keyspace or restore it from a backup, or rebuild the index from the packs";
/// Snapshot rows that are written with their public ids all at once, and themselves one after the other.
const ROWS_AT_ONCE: usize = 64;

/// An index in a cluster: one session for the whole process.
pub struct ScyllaIndex {
    session: Session,
    statements: Statements,
    buckets: Buckets,
}

impl ScyllaIndex {
    /// Connects to the cluster and checks that its schema is the one that this version needs.
    ///
    /// # Errors
    /// `Invalid` for what the configuration has to change, or where `snapfold migrate` has not run; else
    /// `Unavailable`.
    pub async fn open(settings: &config::Scylla) -> Result<Self> {
        Self::open_with(settings, Timeouts::USUAL).await
    }

    async fn open_with(settings: &config::Scylla, timeouts: Timeouts) -> Result<Self> {
        let (session, profiles) = connect::connect(settings, timeouts).await?;
        let keyspace = &settings.keyspace;
        let doing = format!("open the index in keyspace `{keyspace}`");
        let prepared = Statements::prepare(&session, keyspace, &profiles).await;
        let statements = prepared.map_err(|error| connect::fault(error).context(&doing))?;
        let index = Self { session, statements, buckets: Buckets::default() };
        let applied = index.has_schema(migrate::LATEST).await;
        if applied.map_err(|error| connect::fault(error).context(&doing))? {
            return Ok(index);
        }
        let detail = format!("its schema is older than version {}: run `snapfold migrate`", migrate::LATEST);
        Err(Error::new(ErrorKind::Invalid, "dependency-down", detail).context(&doing))
    }

    async fn has_schema(&self, version: i32) -> PortResult<bool> {
        let found = self.row(&self.statements.schema_version, (version,)).await?;
        Ok(first::<(i32,)>(&found)?.is_some())
    }

    async fn write(&self, statement: &PreparedStatement, values: impl SerializeRow) -> PortResult<()> {
        let done = self.session.execute_unpaged(statement, values).await;
        done.map(drop).map_err(|error| outcome::failed(Doing::Writing, &error))
    }

    /// A read of one row by its key.
    async fn row(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> PortResult<QueryRowsResult> {
        let done = self.session.execute_unpaged(statement, values).await;
        let page = done.map_err(|error| outcome::failed(Doing::Reading, &error))?;
        page.into_rows_result().map_err(|error| unreadable(&error))
    }

    /// Hands the pages of a read to `each` until it breaks or there are no more.
    async fn pages(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        mut each: impl FnMut(&QueryRowsResult) -> PortResult<ControlFlow<()>>,
    ) -> PortResult<()> {
        let mut from = PagingState::start();
        loop {
            let done = self.session.execute_single_page(statement, &values, from).await;
            let (page, next) = done.map_err(|error| outcome::failed(Doing::Reading, &error))?;
            let page = page.into_rows_result().map_err(|error| unreadable(&error))?;
            if each(&page)?.is_break() {
                return Ok(());
            }
            match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => from = next,
                ControlFlow::Break(()) => return Ok(()),
            }
        }
    }

    /// All rows of a read, each made of its columns by `make`.
    async fn all<T, R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        make: impl Fn(T) -> PortResult<R>,
    ) -> PortResult<Vec<R>>
    where
        T: for<'page> DeserializeRow<'page, 'page>,
    {
        let mut found = Vec::new();
        self.pages(statement, values, |page| {
            for columns in typed(page)? {
                found.push(make(columns?)?);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(found)
    }

    async fn put_snapshot_id(&self, row: &SnapshotRow) -> PortResult<()> {
        let id = snapshot_id(&row.key, row.lineage, row.version);
        let version = varint(row.version.0);
        let values = (&id[..], &*row.key.kind, &*row.key.id, i64::from(row.lineage.0), version);
        self.write(&self.statements.put_snapshot_id, values).await
    }

    async fn snapshot_named(&self, id: [u8; 16]) -> PortResult<Option<(AggregateKey, Lineage, Version)>> {
        let page = self.row(&self.statements.snapshot_by_id, (&id[..],)).await?;
        let Some((kind, of, lineage, version)) = first::<(&str, &str, i64, CqlVarint)>(&page)? else {
            return Ok(None);
        };
        let key = AggregateKey { kind: kind.into(), id: of.into() };
        let numbers = u32::try_from(lineage).ok().zip(number(&version));
        let named = numbers.map(|(lineage, version)| (key, Lineage(lineage), Version(version)));
        // The id is a digest of what it names, so it is its own checksum.
        let named = named.filter(|(key, lineage, version)| snapshot_id(key, *lineage, *version) == id);
        named.map(Some).ok_or_else(|| damaged(&"a snapshot's public id names something else"))
    }
}

fn unreadable(error: &dyn Display) -> PortError {
    damaged(&format_args!("a row cannot be read: {error}"))
}

/// The rows of a page.
fn typed<'page, T: DeserializeRow<'page, 'page>>(
    page: &'page QueryRowsResult,
) -> PortResult<impl Iterator<Item = PortResult<T>>> {
    let rows = page.rows::<T>().map_err(|error| unreadable(&error))?;
    Ok(rows.map(|row| row.map_err(|error| unreadable(&error))))
}

fn first<'page, T: DeserializeRow<'page, 'page>>(page: &'page QueryRowsResult) -> PortResult<Option<T>> {
    page.maybe_first_row().map_err(|error| unreadable(&error))
}

/// The name of a deletion, of its column.
fn named_deletion((deletion,): (Option<Vec<u8>>,)) -> PortResult<LedgerId> {
    let deletion = deletion.and_then(|deletion| deletion.try_into().ok());
    deletion.map(LedgerId).ok_or_else(|| damaged(&"a deletion has no name"))
}

/// A partition of a log as its columns.
fn log(key: &PartitionKey) -> (&str, i32, i64) {
    (&key.topic, key.partition.0, key.lineage.0.into())
}

impl Index for ScyllaIndex {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        self.put_snapshots(vec![row])
    }

    fn rows_at_once(&self) -> usize {
        ROWS_AT_ONCE
    }

    fn put_snapshots(&self, rows: Vec<SnapshotRow>) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            try_join_all(rows.iter().map(|row| self.put_snapshot_id(row))).await?;
            for row in &rows {
                self.write(&self.statements.put_snapshot, NewSnapshot::of(row)).await?;
            }
            Ok(())
        })
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        Box::pin(async move { self.walk(key, lineage, from, limit).await })
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        Box::pin(self.snapshot_named(id))
    }

    fn delete_snapshot<'a>(
        &'a self,
        row: &'a DeletedRow,
        deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            let (kind, id, lineage) = (&*row.key.kind, &*row.key.id, i64::from(row.lineage.0));
            let at = deleted_at(row.pack, deletion);
            let (version, pack) = (varint(row.version.0), &row.pack.0[..]);
            // Counted first: whoever sees the row gone can see why, and both are written again if one fails.
            let values = (kind, id, lineage, version.clone(), pack, &deletion.0[..]);
            self.write(&self.statements.put_deletion, values).await?;
            let values = (at, kind, id, lineage, version, pack);
            self.write(&self.statements.delete_snapshot, values).await
        })
    }

    fn deletions<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
    ) -> BoxFuture<'a, PortResult<Vec<LedgerId>>> {
        Box::pin(async move {
            let of = (&*key.kind, &*key.id, i64::from(lineage.0));
            let mut deletions = self.all(&self.statements.deletions, of, named_deletion).await?;
            deletions.sort_unstable();
            Ok(deletions)
        })
    }

    fn deletion<'a>(&'a self, row: &'a DeletedRow) -> BoxFuture<'a, PortResult<Option<LedgerId>>> {
        Box::pin(async move {
            let (key, lineage) = (&row.key, i64::from(row.lineage.0));
            let of = (&*key.kind, &*key.id, lineage, varint(row.version.0), &row.pack.0[..]);
            Ok(self.all(&self.statements.deletion, of, named_deletion).await?.pop())
        })
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            let (topic, partition, lineage) = log(&row.key);
            let (pack, bytes) = (&row.pack.0[..], varint(row.object_bytes));
            let (first, end, entries) = (row.first_offset.0, row.end_offset.0, i64::from(row.entries));
            let at = written_at(row.pack);
            let values = (topic, partition, lineage, pack, first, end, entries, bytes, crc(&row), at);
            self.write(&self.statements.put_checkpoint, values).await
        })
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            let (topic, partition, lineage) = log(key);
            let values = (written_at(pack) + 1, topic, partition, lineage, &pack.0[..]);
            self.write(&self.statements.delete_checkpoint, values).await
        })
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        type Columns = (Vec<u8>, i64, i64, i64, CqlVarint, i32);
        let make = |(pack, first, end, entries, bytes, crc): Columns| {
            let pack = pack.try_into().ok().map(PackId);
            let numbers = u32::try_from(entries).ok().zip(number(&bytes));
            let (pack, (entries, object_bytes)) =
                pack.zip(numbers).ok_or_else(|| differs(CheckpointRow::NAME))?;
            let (first_offset, end_offset) = (Offset(first), Offset(end));
            let key = key.clone();
            proven(CheckpointRow { key, pack, first_offset, end_offset, entries, object_bytes }, crc)
        };
        Box::pin(self.all(&self.statements.checkpoints, log(key), make))
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            let (topic, partition, lineage) = log(&row.key);
            let (topic_id, mark) = (row.topic_id.to_be_bytes(), row.low_watermark.0);
            // The write time is the low watermark: of two writes the larger wins, whichever comes last.
            let values = (topic, partition, lineage, &topic_id[..], row.leader_epoch, mark, crc(&row), mark);
            self.write(&self.statements.put_watermark, values).await
        })
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        let make = |(topic_id, leader_epoch, mark, crc): (Vec<u8>, i32, i64, i32)| {
            let topic_id = topic_id.try_into().map_err(|_| differs(WatermarkRow::NAME))?;
            let (topic_id, low_watermark) = (u128::from_be_bytes(topic_id), Offset(mark));
            proven(WatermarkRow { key: key.clone(), topic_id, leader_epoch, low_watermark }, crc)
        };
        Box::pin(self.all(&self.statements.watermarks, log(key), make))
    }

    fn put_owner(&self, row: OwnerRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            let (topic, partition, lineage) = log(&row.key);
            let (position, heartbeat) = (row.position.0, CqlTimestamp(row.heartbeat.0));
            let values = (topic, partition, lineage, &*row.address, position, heartbeat);
            self.write(&self.statements.put_owner, values).await
        })
    }

    fn owner<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Option<OwnerRow>>> {
        Box::pin(async move {
            let page = self.row(&self.statements.owner, log(key)).await?;
            let found = first::<(&str, i64, CqlTimestamp)>(&page)?;
            Ok(found.map(|(address, position, CqlTimestamp(heartbeat))| OwnerRow {
                key: key.clone(),
                address: address.into(),
                position: Offset(position),
                heartbeat: Timestamp(heartbeat),
            }))
        })
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(self.list_aggregate(key, partition))
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        Box::pin(self.listed(kind, after, limit))
    }

    fn put_note(&self, row: NoteRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            let (kind, id, lineage) = (&*row.key.kind, &*row.key.id, i64::from(row.lineage.0));
            let (version, note) = (varint(row.version.0), &row.at.0[..]);
            let (label, reason) = (Perhaps(row.label.as_deref()), Perhaps(row.reason.as_deref()));
            let pinned = Perhaps(row.pinned);
            let values = (kind, id, lineage, version, note, label, pinned, reason, crc(&row));
            self.write(&self.statements.put_note, values).await
        })
    }

    fn notes<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        versions: (Version, Version),
    ) -> BoxFuture<'a, PortResult<Vec<NoteRow>>> {
        type Columns = (CqlVarint, Vec<u8>, Option<String>, Option<bool>, Option<String>, i32);
        let make = move |(version, note, label, pinned, reason, crc): Columns| {
            let named = number(&version).zip(note.try_into().ok().map(LedgerId));
            let (version, at) = named.ok_or_else(|| differs(NoteRow::NAME))?;
            let (label, reason) = (label.map(Into::into), reason.map(Into::into));
            let (key, version) = (key.clone(), Version(version));
            proven(NoteRow { key, lineage, version, at, label, pinned, reason }, crc)
        };
        let (from, to) = (varint(versions.0.0), varint(versions.1.0));
        let values = (&*key.kind, &*key.id, i64::from(lineage.0), from, to);
        Box::pin(self.all(&self.statements.notes, values, make))
    }

    fn put_hold(&self, row: HoldRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            let (kind, id, hold) = (&*row.key.kind, &*row.key.id, &row.at.0[..]);
            let values = (kind, id, hold, row.held, Perhaps(row.reason.as_deref()), crc(&row));
            self.write(&self.statements.put_hold, values).await
        })
    }

    fn holds<'a>(&'a self, key: &'a AggregateKey) -> BoxFuture<'a, PortResult<Vec<HoldRow>>> {
        let make = move |(hold, held, reason, crc): (Vec<u8>, bool, Option<String>, i32)| {
            let at = hold.try_into().map(LedgerId).map_err(|_| differs(HoldRow::NAME))?;
            proven(HoldRow { key: key.clone(), at, held, reason: reason.map(Into::into) }, crc)
        };
        Box::pin(self.all(&self.statements.holds, (&*key.kind, &*key.id), make))
    }

    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(self.keep_schedule(row))
    }

    fn schedule<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Option<ScheduleRow>>> {
        Box::pin(self.one_schedule(name))
    }

    fn schedules(&self) -> BoxFuture<'_, PortResult<Vec<ScheduleRow>>> {
        Box::pin(self.all_schedules())
    }

    fn schedules_changed(&self) -> BoxFuture<'_, PortResult<Option<LedgerId>>> {
        Box::pin(self.last_change())
    }

    fn put_run(&self, row: RunRow) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(self.keep_run(row))
    }

    fn runs<'a>(
        &'a self,
        name: &'a str,
        topic: &'a str,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<Vec<RunRow>>> {
        Box::pin(self.last_runs(name, topic, partition))
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(self.keep_letter(letter))
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        Box::pin(self.letters(key, from, limit))
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move { self.write(&self.statements.put_dictionary, (&id.0[..], &bytes[..])).await })
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        Box::pin(async move {
            let page = self.row(&self.statements.dictionary, (&id.0[..],)).await?;
            Ok(first::<(&[u8],)>(&page)?.map(|(bytes,)| bytes.into()))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
