//! The ledger: what is no fold result and must survive the loss of the index. It alone writes notes, holds
//! and schedules, and it alone deletes snapshot rows.
//!
//! *Order*: the object in the blob store, then its row, or the deletion of those it names, so that an index
//!   can be rebuilt from objects alone.
//! *If it fails*: a write that may have happened is repeated, byte for byte, until it is acknowledged or ten
//!   seconds are over; then nothing is certain, and noting the same again is harmless.
//! *What may leak*: objects whose rows were never written; they count once the index is rebuilt.

use super::blobs::Blobs;
use super::index::Index;
use super::unavailable;
use crate::clock::Clock;
use crate::codec::pack::ledger_name;
use crate::codec::row::Row;
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, LedgerId, Timestamp};
use crate::domain::ledger::{DeletedRow, Deletion, HoldRow};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::row::{NoteRow, SnapshotRow};
use crate::domain::schedule::ScheduleRow;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// How long a note may take.
const DEADLINE_MS: u64 = 10_000;
/// Pause before a failed write is repeated.
const RETRY_MS: u64 = 100;
/// About what one object of deletions holds: whoever reads it has it in memory, and writes it until a
/// deadline.
const DELETION_BYTES: usize = 256 << 10;
/// What a row takes beside its key's words.
const ROW_BYTES: usize = 48;

/// Writes the ledger.
pub struct Ledger {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Objects.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Ledger {
    /// Keeps a note under a name of its own, later than those of all notes on the snapshot that were
    /// acknowledged before.
    ///
    /// # Errors
    /// `Unavailable`: whether it counts is unknown.
    pub async fn note(&self, note: NoteRow) -> Result<NoteRow> {
        let started = self.clock.monotonic_ms();
        let versions = (note.version, note.version);
        let notes = self.index.notes(&note.key, note.lineage, versions).await;
        let notes = notes.map_err(|error| unavailable("read the notes on a snapshot", &error))?;
        // Clocks of processes differ, and whoever notes later means it.
        let at = self.mint_after(notes.last().map(|row| row.at));
        let row = NoteRow { at, ..note };
        self.put_fact(started, at, &row).await?;
        let kept = self.until_acked(started, || self.index.put_note(row.clone())).await;
        kept.map_err(|error| unavailable("write a note", &error))?;
        Ok(row)
    }

    /// Holds an aggregate, or lets go of it, later than all that was acknowledged before.
    ///
    /// # Errors
    /// `Unavailable`: whether it counts is unknown.
    pub async fn hold(&self, key: &AggregateKey, held: bool, reason: Option<Box<str>>) -> Result<HoldRow> {
        let started = self.clock.monotonic_ms();
        let holds = self.index.holds(key).await;
        let holds = holds.map_err(|error| unavailable("read the holds of an aggregate", &error))?;
        let at = self.mint_after(holds.last().map(|row| row.at));
        let row = HoldRow { key: key.clone(), at, held, reason };
        self.put_fact(started, at, &row).await?;
        let kept = self.until_acked(started, || self.index.put_hold(row.clone())).await;
        kept.map_err(|error| unavailable("write a hold", &error))?;
        Ok(row)
    }

    /// Keeps the fact that these rows are deleted, as many objects as it takes. They are deleted by
    /// [`Self::delete_row`], after it.
    ///
    /// # Errors
    /// `Unavailable`: whether it is kept, or some of it, is unknown.
    pub async fn delete(&self, rows: Vec<DeletedRow>, reason: &str) -> Result<Vec<Deletion>> {
        let mut deletions = Vec::new();
        for rows in objects_of(rows) {
            let started = self.clock.monotonic_ms();
            let at = self.mint_after(deletions.last().map(|before: &Deletion| before.at));
            let deletion = Deletion { at, reason: reason.into(), rows };
            self.put_fact(started, at, &deletion).await?;
            deletions.push(deletion);
        }
        Ok(deletions)
    }

    /// Deletes one row that a fact names.
    ///
    /// # Errors
    /// `Unavailable`: it may be gone or not.
    pub async fn delete_row(&self, row: &DeletedRow, deletion: LedgerId) -> Result<()> {
        let started = self.clock.monotonic_ms();
        let gone = self.until_acked(started, || self.index.delete_snapshot(row, deletion)).await;
        gone.map_err(|error| unavailable("delete a snapshot row", &error))
    }

    /// Writes rows of one aggregate again, so that they are acknowledged: what was merely read may be on one
    /// replica only. Those that were deleted stay so.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn confirm(&self, rows: &[SnapshotRow]) -> Result<()> {
        let started = self.clock.monotonic_ms();
        let kept = self.until_acked(started, || self.index.put_snapshots(rows.to_vec())).await;
        kept.map_err(|error| unavailable("write snapshot rows again", &error))
    }

    /// Keeps what `change` makes of the schedule of a name, which may not be there, under a name of its own,
    /// later than that of the row before; none where it changes nothing. It hears what time it is.
    ///
    /// # Errors
    /// What `change` says; `Unavailable`: whether it counts is unknown.
    pub async fn schedule(
        &self,
        name: &str,
        change: impl FnOnce(Option<&ScheduleRow>, Timestamp) -> Result<Option<ScheduleRow>> + Send,
    ) -> Result<Option<ScheduleRow>> {
        let started = self.clock.monotonic_ms();
        let before = self.index.schedule(name).await;
        let before = before.map_err(|error| unavailable("read a schedule", &error))?;
        let after = before.as_ref().map_or(Timestamp(0), |row| Timestamp(row.at.minted_at().0 + 1));
        let now = self.clock.now();
        let Some(changed) = change(before.as_ref(), now)? else { return Ok(before) };
        let at = LedgerId::mint(now.max(after), self.clock.random());
        let row = ScheduleRow { at, name: name.into(), ..changed };
        self.put_fact(started, at, &row).await?;
        let kept = self.until_acked(started, || self.index.put_schedule(row.clone())).await;
        kept.map_err(|error| unavailable("write a schedule", &error))?;
        Ok(Some(row))
    }

    fn mint_after(&self, before: Option<LedgerId>) -> LedgerId {
        let after = before.map_or(Timestamp(0), |at| Timestamp(at.minted_at().0 + 1));
        LedgerId::mint(self.clock.now().max(after), self.clock.random())
    }

    async fn put_fact(&self, started: u64, at: LedgerId, fact: &impl Row) -> Result<()> {
        let (name, bytes) = (ledger_name(at), fact.encode());
        let put = || -> BoxFuture<'_, _> { Box::pin(self.put_object(&name, &bytes)) };
        let kept = self.until_acked(started, put).await;
        kept.map_err(|error| unavailable("write to the ledger", &error))
    }

    async fn put_object(&self, name: &str, bytes: &[u8]) -> PortResult<()> {
        match self.blobs.put_new(name, bytes).await {
            Err(PortError::Exists) => {
                let there = self.blobs.get_range(name, 0, bytes.len() as u64 + 1).await?;
                if there == bytes {
                    return Ok(());
                }
                Err(PortError::Permanent(format!("`{name}` holds other bytes")))
            }
            other => other,
        }
    }

    /// Repeats a write until it is acknowledged, refused for good, or late.
    async fn until_acked<'a>(
        &'a self,
        started: u64,
        mut write: impl FnMut() -> BoxFuture<'a, PortResult<()>> + Send,
    ) -> PortResult<()> {
        loop {
            let outcome = write().await;
            let late = self.clock.monotonic_ms().saturating_sub(started) > DEADLINE_MS;
            match outcome {
                Ok(()) | Err(PortError::Permanent(_)) => return outcome,
                Err(_) if late => return outcome,
                Err(_) => self.clock.sleep(RETRY_MS).await,
            }
        }
    }
}

/// The rows, parted into what goes into one object each.
fn objects_of(rows: Vec<DeletedRow>) -> Vec<Vec<DeletedRow>> {
    let (mut objects, mut bytes): (Vec<Vec<DeletedRow>>, usize) = (Vec::new(), 0);
    for row in rows {
        bytes += ROW_BYTES + row.key.kind.len() + row.key.id.len();
        match objects.last_mut() {
            Some(object) if bytes <= DELETION_BYTES => object.push(row),
            _ => {
                bytes = ROW_BYTES + row.key.kind.len() + row.key.id.len();
                objects.push(vec![row]);
            }
        }
    }
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Still;
    use crate::domain::ids::{AggregateKey, Lineage, PackId, Version};
    use crate::domain::row::Notes;
    use crate::store::blobs::MemoryBlobs;
    use crate::store::index::MemoryIndex;
    use futures_util::FutureExt;

    #[test]
    fn later_notes_count_and_each_is_an_object_that_says_the_same() {
        let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
        let ledger = Ledger { index: index.clone(), blobs: blobs.clone(), clock: Arc::new(Still) };
        let key = AggregateKey { kind: "order".into(), id: "a".into() };
        let note = |label: Option<&str>, pinned| NoteRow {
            key: key.clone(),
            lineage: Lineage(1),
            version: Version(3),
            at: LedgerId::default(),
            label: label.map(Into::into),
            pinned,
            reason: None,
        };
        let mut kept = Vec::new();
        for note in [note(Some("first"), None), note(None, Some(true)), note(Some("second"), None)] {
            kept.push(ledger.note(note).now_or_never().expect("memory answers at once").unwrap());
        }
        let versions = (Version(3), Version(3));
        let rows = index.notes(&key, Lineage(1), versions).now_or_never().unwrap().unwrap();
        assert_eq!(rows, kept);
        let mut notes = Notes::default();
        rows.iter().for_each(|row| notes.take(row));
        assert_eq!((notes.label.as_deref(), notes.pinned), (Some("second"), true));
        for row in &rows {
            let object = blobs.get_range(&ledger_name(row.at), 0, 1 << 20).now_or_never().unwrap().unwrap();
            assert_eq!(NoteRow::decode(&object).as_ref(), Ok(row));
        }
        ledger.note(note(Some(""), Some(false))).now_or_never().unwrap().unwrap();
        let rows = index.notes(&key, Lineage(1), versions).now_or_never().unwrap().unwrap();
        let mut notes = Notes::default();
        rows.iter().for_each(|row| notes.take(row));
        assert_eq!(notes, Notes::default(), "both were taken away");
    }

    #[test]
    fn a_long_deletion_is_many_objects_none_of_which_is_long() {
        let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
        let ledger = Ledger { index, blobs: blobs.clone(), clock: Arc::new(Still) };
        let row = |n: u64| DeletedRow {
            key: AggregateKey { kind: "order".into(), id: "i".repeat(200).into() },
            lineage: Lineage(1),
            version: Version(n),
            pack: PackId([7; 16]),
        };
        let rows: Vec<DeletedRow> = (0..5_000).map(row).collect();
        let named = ledger.delete(rows.clone(), "test").now_or_never().unwrap().unwrap();
        assert!(named.len() > 3, "{}", named.len());
        let mut read = Vec::new();
        for deletion in &named {
            let name = ledger_name(deletion.at);
            let (object, _) = blobs.get_tail(&name, u64::MAX).now_or_never().unwrap().unwrap();
            assert!(object.len() <= DELETION_BYTES, "{}", object.len());
            read.extend(Deletion::decode(&object).unwrap().rows);
        }
        assert_eq!(read, rows);
        assert_eq!(ledger.delete(Vec::new(), "test").now_or_never().unwrap().unwrap(), []);
    }
}
