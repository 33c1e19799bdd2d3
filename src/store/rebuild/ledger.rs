//! What the ledger says: notes, holds and schedules come back as rows, what was deleted stays deleted.

use super::{Rebuild, Rebuilt};
use crate::codec::row::Row;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, PackId, Version};
use crate::domain::ledger::{DeletedRow, Deletion, HoldRow};
use crate::domain::row::NoteRow;
use crate::domain::schedule::ScheduleRow;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of one aggregate that were deleted.
pub(super) type Gone = BTreeSet<(Version, PackId)>;

/// The rows that were deleted, by aggregate.
#[derive(Default)]
pub(super) struct Deleted(BTreeMap<(AggregateKey, Lineage), Gone>);

impl Deleted {
    pub(super) fn of(&self, key: &AggregateKey, lineage: Lineage) -> Option<&Gone> {
        self.0.get(&(key.clone(), lineage))
    }
}

/// One object of the ledger.
enum Fact {
    Note(NoteRow),
    Hold(HoldRow),
    Deletion(Deletion),
    Schedule(ScheduleRow),
}

impl Fact {
    fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.first() {
            Some(&NoteRow::TYPE) => NoteRow::decode(bytes).map(Self::Note),
            Some(&HoldRow::TYPE) => HoldRow::decode(bytes).map(Self::Hold),
            Some(&Deletion::TYPE) => Deletion::decode(bytes).map(Self::Deletion),
            Some(&ScheduleRow::TYPE) => ScheduleRow::decode(bytes).map(Self::Schedule),
            _ => Err(Error::corrupt("it is damaged, or of a later version: use the newer snapfold")),
        }
    }
}

impl Rebuild {
    /// Writes what the ledger says, and tells what was deleted: before any row, so that none of these comes
    /// back, not for a moment.
    pub(super) async fn ledger(&self, report: &mut Rebuilt) -> Result<Deleted> {
        let names = self.names("v1/ledger/").await?;
        let read = |name: String| async move {
            let bytes = self.object(&name).await?;
            Ok::<_, Error>((name, Fact::decode(&bytes)))
        };
        let mut reads = stream::iter(names).map(read).buffer_unordered(self.settings.reads);
        let (mut deleted, mut deletions) = (Deleted::default(), Vec::new());
        while let Some((name, fact)) = reads.try_next().await? {
            match fact {
                Ok(Fact::Note(row)) => {
                    self.written("write a note", || self.index.put_note(row.clone())).await?;
                    report.notes += 1;
                }
                Ok(Fact::Hold(row)) => {
                    self.written("write a hold", || self.index.put_hold(row.clone())).await?;
                    report.holds += 1;
                }
                Ok(Fact::Schedule(row)) => {
                    // In whatever order: of two of one name the later counts.
                    self.written("write a schedule", || self.index.put_schedule(row.clone())).await?;
                    report.schedules += 1;
                }
                Ok(Fact::Deletion(deletion)) => {
                    let at = deletion.at;
                    for row in deletion.rows {
                        let gone = deleted.0.entry((row.key.clone(), row.lineage)).or_default();
                        gone.insert((row.version, row.pack));
                        deletions.push((row, at));
                    }
                }
                Err(error) => report.problems.push(format!("`{name}`: {}", error.detail)),
            }
        }
        drop(reads);
        report.deleted = deletions.len() as u64;
        let delete = |(row, at): (DeletedRow, LedgerId)| async move {
            self.written("delete a snapshot row", || self.index.delete_snapshot(&row, at)).await
        };
        let mut writes = stream::iter(deletions).map(delete).buffer_unordered(self.settings.writes);
        while writes.try_next().await?.is_some() {}
        drop(writes);
        Ok(deleted)
    }
}
