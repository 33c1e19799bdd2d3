//! The one writer of the embedded index: whatever is queued becomes one batch, and is acknowledged after its
//! fsync. With many flushes in flight one fsync serves them all, and with one it costs one.
//!
//! *Order*: writes take effect in the order in which they were queued. Being alone, the writer may read a
//! row and then replace it (watermarks, dead letters, deletions).
//! *If space runs out*: a batch is refused before it is written, and surely has not happened; once there is
//! space again, batches are written again.
//! *If it fails*: a failed batch has an unknown outcome and stops the index: after a failed fsync nobody
//! knows what the disk has, so everything later is refused until a restart reads the journal again.
//! *If cancelled*: a queued write happens all the same.

use super::keys::{self, Key};
use super::{Rows, damaged, guarded};
use crate::codec::row::Row;
use crate::domain::ids::{LedgerId, PackId, Timestamp};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::row::{CheckpointRow, DeadLetter, PartitionKey, WatermarkRow};
use crate::domain::schedule::{RunRow, ScheduleRow};
use crate::store::index::memory::outranks;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{info, warn};

/// Bytes of writes that may wait; whoever comes then waits before it queues.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes after which a batch takes no more writes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// What a waiting write costs besides its bytes.
const WRITE_OVERHEAD_BYTES: usize = 256;
/// How long a deletion is remembered, measured from one pack's minting to another's. A flush, and with it
/// every repetition of a write, ends ten minutes after its pack was minted.
const RETIRED_KEPT_MS: i64 = 24 * 60 * 60 * 1_000;
/// Outdated deletions forgotten per checkpoint written: more than come with it.
const FORGOTTEN_PER_WRITE: usize = 8;

/// Free space below which nothing is written: a batch, the journals and the files that are being merged must
/// still fit, because an engine that runs out of space in the middle has to be opened again.
const SPACE_MIN: u64 = 256 << 20;

/// Tells how many bytes are free where the index is.
pub type Space = Box<dyn Fn() -> std::io::Result<u64> + Send>;

/// A row with its key, and what finds it by its id.
type Snapshot = (Key, Vec<u8>, (Key, Vec<u8>));

/// One write of the port.
pub(super) enum Write {
    /// Rows that are the same whenever they are written.
    Facts(Vec<(Key, Vec<u8>)>),
    /// Snapshot rows, unless they were deleted, and what finds them by their ids.
    Snapshots(Vec<Snapshot>),
    DeleteSnapshot(Key, LedgerId),
    Checkpoint(CheckpointRow),
    Retire(PartitionKey, PackId),
    Watermark(WatermarkRow),
    DeadLetter(DeadLetter),
    Schedule(ScheduleRow),
    Run(RunRow),
}

impl Write {
    fn bytes(&self) -> usize {
        WRITE_OVERHEAD_BYTES
            + match self {
                Self::Facts(rows) => rows.iter().map(|(key, value)| key.0.len() + value.len()).sum(),
                Self::Snapshots(rows) => {
                    let bytes = |(key, row, (id, named)): &(Key, Vec<u8>, (Key, Vec<u8>))| {
                        key.0.len() + row.len() + id.0.len() + named.len()
                    };
                    rows.iter().map(bytes).sum()
                }
                Self::DeleteSnapshot(key, _) => 4 * key.0.len(),
                Self::Checkpoint(_) | Self::Retire(..) | Self::Watermark(_) => 0,
                Self::Schedule(_) | Self::Run(_) => 0,
                Self::DeadLetter(letter) => letter.record.bytes() + letter.detail.len(),
            }
    }
}

struct Request {
    write: Write,
    bytes: usize,
    done: oneshot::Sender<PortResult<()>>,
    _room: OwnedSemaphorePermit,
}

/// Hands writes to the writer's thread.
pub(super) struct Writer {
    queue: Option<mpsc::UnboundedSender<Request>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(rows: Rows, space: Space) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::unbounded_channel();
        let named = std::thread::Builder::new().name("index-writer".into());
        let thread = named.spawn(move || run(&rows, &space, requests))?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        Ok(Self { queue: Some(queue), room, thread: Some(thread) })
    }

    pub(super) async fn write(&self, write: Write) -> PortResult<()> {
        let bytes = write.bytes();
        // A write that is larger than the queue waits until it is alone.
        let room = u32::try_from(bytes.min(QUEUE_BYTES_MAX)).expect("the queue is smaller than 4 GiB");
        let room = Arc::clone(&self.room).acquire_many_owned(room).await;
        let room = room.expect("nobody closes the semaphore");
        let (done, outcome) = oneshot::channel();
        let request = Request { write, bytes, done, _room: room };
        let queue = self.queue.as_ref().expect("there until the writer is dropped");
        if queue.send(request).is_err() {
            return Err(stopped());
        }
        outcome.await.unwrap_or_else(|_| Err(PortError::Unknown("the index stopped while it wrote".into())))
    }
}

impl Drop for Writer {
    /// Waits for what is queued, so that the folder is free when this returns.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // Its panics are caught where they happen.
            let _ = thread.join();
        }
    }
}

fn stopped() -> PortError {
    PortError::Permanent(
        "the index stopped after a failed write: see the first error, make sure that its disk is healthy and has \
         space, then restart"
            .into(),
    )
}

/// Why nothing may be written now, if that is so. A system that does not tell its free space has some.
fn short_of_space(space: &Space) -> Option<PortError> {
    let free = space().ok().filter(|free| *free < SPACE_MIN)?;
    let (free, least) = (free >> 20, SPACE_MIN >> 20);
    let what = format!("the index's disk has {free} MiB left of the {least} that it needs: free some space");
    Some(PortError::NotDone(what))
}

fn run(rows: &Rows, space: &Space, mut requests: mpsc::UnboundedReceiver<Request>) {
    let mut is_short = false;
    while let Some(first) = requests.blocking_recv() {
        let mut batch = Batch { rows, staged: BTreeMap::new() };
        let (mut waiting, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(request) = next {
            bytes += request.bytes;
            match guarded(|| batch.stage(request.write)) {
                Ok(()) => waiting.push((request.done, request._room)),
                // Nothing of it is staged; the caller may have gone.
                Err(error) => drop(request.done.send(Err(error))),
            }
            next = if bytes < BATCH_BYTES_MAX { requests.try_recv().ok() } else { None };
        }
        let short = short_of_space(space);
        match &short {
            Some(why) if !is_short => warn!("{why}; until then nothing is written"),
            None if is_short => info!("the index's disk has space again"),
            _ => {}
        }
        is_short = short.is_some();
        if let Some(why) = short {
            for (done, _) in waiting {
                let _ = done.send(Err(why.clone()));
            }
            continue;
        }
        let outcome = guarded(|| batch.commit());
        let has_failed = outcome.is_err();
        let outcome = outcome.map_err(|error| PortError::Unknown(error.to_string()));
        for (done, _) in waiting {
            let _ = done.send(outcome.clone());
        }
        if has_failed {
            // What is queued behind it gets the same answer from its dropped channel; later writes are
            // refused.
            return;
        }
    }
}

/// What becomes durable together: a value to put or none to remove, by key.
struct Batch<'a> {
    rows: &'a Rows,
    staged: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch<'_> {
    /// What the key will hold after what is staged already.
    fn get(&self, key: &Key) -> PortResult<Option<Vec<u8>>> {
        match self.staged.get(&key.0) {
            Some(staged) => Ok(staged.clone()),
            None => self.rows.get(key).map(|value| value.map(|value| value.to_vec())),
        }
    }

    fn put(&mut self, key: Key, value: Vec<u8>) {
        self.staged.insert(key.0, Some(value));
    }

    fn stage(&mut self, write: Write) -> PortResult<()> {
        match write {
            Write::Facts(rows) => rows.into_iter().for_each(|(key, value)| self.put(key, value)),
            Write::Snapshots(rows) => {
                for (key, row, (id, named)) in rows {
                    if self.get(&keys::deleted(&key))?.is_none() {
                        self.put(key, row);
                    }
                    self.put(id, named);
                }
            }
            Write::DeleteSnapshot(key, deletion) => self.delete_snapshot(&key, deletion)?,
            Write::Checkpoint(row) => self.checkpoint(&row)?,
            Write::Retire(key, pack) => {
                self.staged.insert(keys::checkpoint(&key, pack).0, None);
                self.put(keys::retired(&key, pack), Vec::new());
            }
            Write::Watermark(row) => {
                let key = keys::watermark(&row);
                let kept: Option<WatermarkRow> = self.kept(&key)?;
                if kept.is_none_or(|kept| row.low_watermark > kept.low_watermark) {
                    self.put(key, row.encode());
                }
            }
            Write::DeadLetter(letter) => {
                let key = keys::dead_letter(&letter);
                let kept: Option<DeadLetter> = self.kept(&key)?;
                if kept.is_none_or(|kept| outranks(&letter, &kept)) {
                    self.put(key, letter.encode());
                }
            }
            Write::Run(row) => {
                let key = keys::run(&row);
                let kept: Option<RunRow> = self.kept(&key)?;
                if kept.is_none_or(|kept| row.outranks(&kept)) {
                    self.put(key, row.encode());
                }
            }
            Write::Schedule(row) => {
                self.put(keys::schedules_changed(), row.at.0.to_vec());
                let key = keys::schedule(&row.name);
                let kept: Option<ScheduleRow> = self.kept(&key)?;
                if kept.is_none_or(|kept| row.at > kept.at) {
                    self.put(key, row.encode());
                }
            }
        }
        Ok(())
    }

    fn kept<R: Row>(&self, key: &Key) -> PortResult<Option<R>> {
        let kept = self.get(key)?;
        kept.map(|value| R::decode(&value).map_err(|error| damaged(&error))).transpose()
    }

    /// A checkpoint's deletion is newer than every write of its row, whichever comes first.
    fn checkpoint(&mut self, row: &CheckpointRow) -> PortResult<()> {
        let horizon = row.pack.minted_at().0.saturating_sub(RETIRED_KEPT_MS);
        if let Ok(horizon) = u64::try_from(horizon) {
            let mut end = [0; 16];
            end[..6].copy_from_slice(&horizon.to_be_bytes()[2..]);
            let (start, end) = (keys::retired_all(&row.key), keys::retired(&row.key, PackId(end)));
            for entry in self.rows.range(&start, &end).take(FORGOTTEN_PER_WRITE) {
                let (key, _) = entry?;
                self.staged.insert(key.to_vec(), None);
            }
        }
        if self.get(&keys::retired(&row.key, row.pack))?.is_none() {
            self.put(keys::checkpoint(&row.key, row.pack), row.encode());
        }
        Ok(())
    }

    /// A deletion is newer than every write of its row for as long as one may be repeated: by a flush, which
    /// ends ten minutes after it began, or by an owner that has just read the row.
    fn delete_snapshot(&mut self, row: &Key, deletion: LedgerId) -> PortResult<()> {
        let horizon = Timestamp(deletion.minted_at().0.saturating_sub(RETIRED_KEPT_MS));
        let (start, end) = (keys::deleted_by_time(), keys::deleted_until(horizon));
        for entry in self.rows.range(&start, &end).take(FORGOTTEN_PER_WRITE) {
            let (key, named) = entry?;
            self.staged.insert(key.to_vec(), None);
            self.staged.insert(named.to_vec(), None);
        }
        self.staged.insert(row.0.clone(), None);
        let marker = keys::deleted(row);
        self.put(keys::deleted_at(deletion, row), marker.0.clone());
        self.put(marker, Vec::new());
        let (key, value) = keys::gone_with(row, deletion);
        self.put(key, value);
        Ok(())
    }

    fn commit(self) -> PortResult<()> {
        self.rows.commit(self.staged)
    }
}
