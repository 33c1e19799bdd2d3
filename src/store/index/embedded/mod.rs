//! The index in one folder of one process: an LSM tree (fjall, see docs/adr/0005) with the logical tables of
//! the CQL index in one ordered key space.
//!
//! | file | owns |
//! |---|---|
//! | [`keys`] | keys whose byte order is the order of the rows |
//! | [`snapshots`] | snapshot rows, found and walked; those that were deleted |
//! | [`writer`] | group commit: the only thread that writes |
//!
//! *Order*: a write is acknowledged after the fsync of its batch; a read then sees it. *If it fails*: damage
//! (a checksum of the tree, of a row, or a row under another's key) is `Permanent` and says so; it is never
//! "absent".
//! *If cancelled*: a queued write happens all the same. *What may leak*: nothing; a batch is whole or not
//! there.
//!
//! COST: reads run on the thread that asks, a few microseconds with a warm cache, one read of the disk
//! without. A walk by time or offset reads the rows above its start too, about two microseconds each.

mod keys;
mod snapshots;
mod writer;

use super::{From, Index};
use crate::codec::row::Row;
use crate::domain::chain::snapshot_id;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Version};
use crate::domain::ledger::{DeletedRow, HoldRow};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::Bytes;
use crate::domain::row::{CheckpointRow, DeadLetter, NoteRow, PartitionKey, SnapshotRow, WatermarkRow};
use crate::domain::schedule::{RunRow, ScheduleRow};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, UserValue};
use futures_util::future::BoxFuture;
use keys::{Key, Parts};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
pub use writer::Space;
use writer::{Write, Writer};

/// What the folder holds, with the number of the layout of keys and rows.
const FORMAT: &str = "snapfold index 1";
const FORMAT_PREFIX: &str = "snapfold index ";
/// The key space of the engine that holds all rows.
pub const KEYSPACE: &str = "rows";
/// Bytes of rows in memory before they are written as a sorted file. A few such buffers may exist at once.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Journals are kept until the buffers they cover are written; bounds the replay when the index is opened.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
const OPEN_FILES_MAX: usize = 256;

/// An index in a folder.
pub struct EmbeddedIndex {
    writer: Writer,
    rows: Rows,
}

/// The ordered key space.
#[derive(Clone)]
struct Rows {
    database: Database,
    rows: Keyspace,
}

impl EmbeddedIndex {
    /// Opens the index in a folder of this machine, creating it where there is none. `cache_bytes` bounds
    /// the cache of blocks; buffers of writes come on top, up to about 100 MiB.
    ///
    /// # Errors
    /// If another process uses the folder, if it is damaged, or if a newer version of snapfold wrote it.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let folder = path.to_owned();
        let space = move || {
            let disk = rustix::fs::statvfs(&folder)?;
            Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
        };
        Self::open_with(path, cache_bytes, Box::new(space))
    }

    fn open_with(path: &Path, cache_bytes: u64, space: Space) -> Result<Self> {
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_rows(path, cache_bytes, space)));
        let opened = opened.unwrap_or_else(|_| Err(Error::corrupt("the storage engine gave up on it")));
        opened.map_err(|error| error.context(&format!("open index `{}`", path.display())))
    }

    fn open_rows(path: &Path, cache_bytes: u64, space: Space) -> Result<Self> {
        let io = |error| opening(fjall::Error::Io(error));
        std::fs::create_dir_all(path).map_err(io)?;
        let database = Database::builder(path)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(2)
            .open()
            .map_err(opening)?;
        Self::over(database, space)
    }

    /// The index in an engine that is open already. `space` tells how many bytes are free where that is.
    ///
    /// # Errors
    /// If what the engine holds is damaged, or if a newer version of snapfold wrote it.
    pub fn over(database: Database, space: Space) -> Result<Self> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let rows = database.keyspace(KEYSPACE, options).map_err(opening)?;
        let rows = Rows { database, rows };
        rows.check_format()?;
        let writer = Writer::start(rows.clone(), space).map_err(|error| opening(fjall::Error::Io(error)))?;
        Ok(Self { writer, rows })
    }
}

fn opening(error: fjall::Error) -> Error {
    use std::io::ErrorKind as Io;
    match error {
        fjall::Error::Locked => Error::new(
            ErrorKind::Unavailable,
            "dependency-down",
            "another process uses it: stop that one, or give this one its own folder",
        ),
        fjall::Error::InvalidVersion(_) => Error::new(
            ErrorKind::Invalid,
            "dependency-down",
            "it was not written by this version of the storage engine: use the version of snapfold that wrote it",
        ),
        fjall::Error::Io(error)
            if matches!(error.kind(), Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory) =>
        {
            let detail = format!("{error}: the folder must be writable for the user that runs snapfold");
            Error::new(ErrorKind::Invalid, "dependency-down", detail)
        }
        fjall::Error::Io(error) if !is_cut(&error) => {
            let detail = format!("{error}: check the disk and its free space");
            Error::new(ErrorKind::Unavailable, "dependency-down", detail)
        }
        error => Error::corrupt(format!("{error:?}: {RESTORE}")),
    }
}

const RESTORE: &str = "restore the folder from a backup, or empty it and rebuild the index from the packs";

/// Damage, as the port tells it: trying again cannot help.
fn damaged(what: &dyn std::fmt::Display) -> PortError {
    PortError::Permanent(format!("the index is damaged: {what}: {RESTORE}"))
}

fn is_cut(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Io;
    matches!(error.kind(), Io::UnexpectedEof | Io::InvalidData | Io::NotFound)
}

/// An error of the storage engine: the disk did not answer, or what it has is damaged.
fn failed(error: &fjall::Error) -> PortError {
    let io = match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error),
        _ => None,
    };
    match io {
        Some(error) if !is_cut(error) => {
            PortError::NotDone(format!("the index's disk: {error}: check it and its free space"))
        }
        _ => damaged(&format_args!("{error:?}")),
    }
}

/// SUBTLE: the storage engine checks its blocks by checksum, but not every length and invariant beyond;
/// where a damaged file makes it panic, that is damage too, and must not take the process down.
fn guarded<T>(work: impl FnOnce() -> PortResult<T>) -> PortResult<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(damaged(&"the storage engine gave up on it")))
}

impl Rows {
    fn get(&self, key: &Key) -> PortResult<Option<UserValue>> {
        self.rows.get(&key.0).map_err(|error| failed(&error))
    }

    /// Rows from `start` on, before `end`.
    fn range(
        &self,
        start: &Key,
        end: &Key,
    ) -> impl DoubleEndedIterator<Item = PortResult<(UserValue, UserValue)>> + use<> {
        let range = self.rows.range(start.0.clone()..end.0.clone());
        range.map(|entry| entry.into_inner().map_err(|error| failed(&error)))
    }

    fn commit(&self, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> PortResult<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        batch.commit().map_err(|error| failed(&error))
    }

    fn check_format(&self) -> Result<()> {
        let port = |error: PortError| Error::corrupt(error.to_string());
        if let Some(format) = self.get(&keys::format()).map_err(port)? {
            let format = String::from_utf8_lossy(&format);
            return match &*format {
                FORMAT => Ok(()),
                other if other.starts_with(FORMAT_PREFIX) => Err(Error::new(
                    ErrorKind::Invalid,
                    "dependency-down",
                    format!("it holds `{other}`, this version reads `{FORMAT}`: use the newer snapfold"),
                )),
                _ => Err(Error::corrupt(format!("what it holds is not named: {RESTORE}"))),
            };
        }
        if self.rows.first_key_value().is_some() {
            return Err(Error::corrupt(format!("rows without the name of their format: {RESTORE}")));
        }
        let format = (keys::format().0, Some(FORMAT.into()));
        self.commit([format].into()).map_err(port)
    }

    fn aggregates(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> PortResult<Vec<(AggregateKey, PartitionNo)>> {
        let all = keys::aggregates(kind);
        let start = after.map_or_else(|| all.clone(), |id| keys::aggregate_id(kind, id).after());
        let read = |entry: PortResult<(UserValue, UserValue)>| {
            let (stored, value) = entry?;
            let read = Parts::of(&stored).and_then(Parts::aggregate);
            let read = read.filter(|_| *value == crc32c::crc32c(&stored).to_le_bytes());
            read.ok_or_else(|| damaged(&"an aggregate's row disagrees with its checksum"))
        };
        self.range(&start, &all.after()).take(limit).map(read).collect()
    }

    fn list<R: Row>(
        &self,
        start: &Key,
        end: &Key,
        limit: usize,
        key: impl Fn(&R) -> Key,
    ) -> PortResult<Vec<R>> {
        let read = |entry: PortResult<(UserValue, UserValue)>| {
            let (stored, value) = entry?;
            read_row(&stored, &value, &key)
        };
        self.range(start, end).take(limit).map(read).collect()
    }
}

/// A row that is whole and stands under its own key.
fn read_row<R: Row>(stored: &[u8], value: &[u8], key: impl Fn(&R) -> Key) -> PortResult<R> {
    let row = R::decode(value).map_err(|error| damaged(&error))?;
    if key(&row).0 != stored {
        return Err(damaged(&format_args!("a {} stands under the key of another", R::NAME)));
    }
    Ok(row)
}

impl EmbeddedIndex {
    fn write(&self, write: Write) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(self.writer.write(write))
    }

    fn read<'a, T: Send + 'a>(
        &'a self,
        read: impl FnOnce(&Rows) -> PortResult<T> + Send + 'a,
    ) -> BoxFuture<'a, PortResult<T>> {
        Box::pin(async move { guarded(|| read(&self.rows)) })
    }
}

impl Index for EmbeddedIndex {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        self.put_snapshots(vec![row])
    }

    fn rows_at_once(&self) -> usize {
        usize::MAX
    }

    fn put_snapshots(&self, rows: Vec<SnapshotRow>) -> BoxFuture<'_, PortResult<()>> {
        let rows = rows.iter().map(|row| {
            let id = snapshot_id(&row.key, row.lineage, row.version);
            let named = keys::snapshot_version(&row.key, row.lineage, row.version);
            (keys::snapshot(row), row.encode(), (keys::snapshot_id(id), named.0))
        });
        self.write(Write::Snapshots(rows.collect()))
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        self.read(move |rows| rows.snapshots(key, lineage, from, limit))
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        self.read(move |rows| rows.snapshot_by_id(id))
    }

    fn delete_snapshot<'a>(
        &'a self,
        row: &'a DeletedRow,
        deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.write(Write::DeleteSnapshot(keys::named(row), deletion))
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::Checkpoint(row))
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        self.write(Write::Retire(key.clone(), pack))
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        let all = keys::checkpoints(key);
        let key = |row: &CheckpointRow| keys::checkpoint(&row.key, row.pack);
        self.read(move |rows| rows.list(&all, &all.clone().after(), usize::MAX, key))
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::Watermark(row))
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        let all = keys::watermarks(key);
        self.read(move |rows| rows.list(&all, &all.clone().after(), usize::MAX, keys::watermark))
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        let key = keys::aggregate(key, partition);
        let checksum = crc32c::crc32c(&key.0).to_le_bytes().into();
        self.write(Write::Facts(vec![(key, checksum)]))
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        self.read(move |rows| rows.aggregates(kind, after, limit))
    }

    fn put_note(&self, row: NoteRow) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::Facts(vec![(keys::note(&row), row.encode())]))
    }

    fn notes<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        versions: (Version, Version),
    ) -> BoxFuture<'a, PortResult<Vec<NoteRow>>> {
        let start = keys::notes(key, lineage, versions.0);
        let end = keys::notes(key, lineage, versions.1).after();
        self.read(move |rows| match versions.0 <= versions.1 {
            true => rows.list(&start, &end, usize::MAX, keys::note),
            false => Ok(Vec::new()),
        })
    }

    fn put_hold(&self, row: HoldRow) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::Facts(vec![(keys::hold(&row), row.encode())]))
    }

    fn holds<'a>(&'a self, key: &'a AggregateKey) -> BoxFuture<'a, PortResult<Vec<HoldRow>>> {
        let all = keys::holds(key);
        self.read(move |rows| rows.list(&all, &all.clone().after(), usize::MAX, keys::hold))
    }

    fn deletions<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
    ) -> BoxFuture<'a, PortResult<Vec<LedgerId>>> {
        self.read(move |rows| rows.deletions(key, lineage))
    }

    fn deletion<'a>(&'a self, row: &'a DeletedRow) -> BoxFuture<'a, PortResult<Option<LedgerId>>> {
        self.read(move |rows| rows.deletion(row))
    }

    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::Schedule(row))
    }

    fn schedule<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Option<ScheduleRow>>> {
        self.read(move |rows| {
            let key = keys::schedule(name);
            let found = rows.get(&key)?;
            found
                .map(|value| read_row(&key.0, &value, |row: &ScheduleRow| keys::schedule(&row.name)))
                .transpose()
        })
    }

    fn schedules(&self) -> BoxFuture<'_, PortResult<Vec<ScheduleRow>>> {
        let all = keys::schedules();
        let key = |row: &ScheduleRow| keys::schedule(&row.name);
        self.read(move |rows| rows.list(&all, &all.clone().after(), usize::MAX, key))
    }

    fn schedules_changed(&self) -> BoxFuture<'_, PortResult<Option<LedgerId>>> {
        self.read(|rows| {
            let found = rows.get(&keys::schedules_changed())?;
            let id = found.map(|change| <[u8; 16]>::try_from(&*change).map(LedgerId));
            id.transpose().map_err(|_| damaged(&"the mark of changed schedules is no id"))
        })
    }

    fn put_run(&self, row: RunRow) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::Run(row))
    }

    fn runs<'a>(
        &'a self,
        name: &'a str,
        topic: &'a str,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<Vec<RunRow>>> {
        let all = keys::runs(name, topic, partition);
        self.read(move |rows| {
            let mut runs = rows.list(&all, &all.clone().after(), usize::MAX, keys::run)?;
            runs.sort_by_key(|run| run.number);
            Ok(runs)
        })
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::DeadLetter(letter))
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        let (start, end) = (keys::dead_letters_from(key, from), keys::dead_letters(key).after());
        self.read(move |rows| rows.list(&start, &end, limit, keys::dead_letter))
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        self.write(Write::Facts(vec![(keys::dictionary(id), bytes.to_vec())]))
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        self.read(move |rows| Ok(rows.get(&keys::dictionary(id))?.map(|bytes| Arc::from(&*bytes))))
    }
}

#[cfg(test)]
mod tests;
