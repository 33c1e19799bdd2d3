//! What the ledger says: notes, holds and schedules come back as rows, what was deleted stays deleted.

use super::{Rebuild, Rebuilt};
use crate::codec::row::Row;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, PackId, Version};
use crate::domain::ledger::{DeletedRow, Deletion, HoldRow};
use crate::domain::row::NoteRow;
use crate::domain::schedule::ScheduleRow;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;

/// No write of a row is repeated for so long.
const LATE_MS: i64 = 24 * 3_600_000;

/// Rows of one aggregate that were deleted, and by which deletion: of several the last.
pub(super) type Gone = BTreeMap<(Version, PackId), LedgerId>;

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
    /// Writes what the ledger says, and tells what was deleted.
    pub(super) async fn ledger(&self, report: &mut Rebuilt) -> Result<Deleted> {
        let names = self.names("v1/ledger/").await?;
        let read = |name: String| async move {
            let bytes = self.object(&name).await?;
            Ok::<_, Error>((name, Fact::decode(&bytes)))
        };
        let mut reads = stream::iter(names).map(read).buffer_unordered(self.settings.reads);
        let mut deleted = Deleted::default();
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
                    for row in deletion.rows {
                        let gone = deleted.0.entry((row.key, row.lineage)).or_default();
                        let at = gone.entry((row.version, row.pack)).or_default();
                        *at = deletion.at.max(*at);
                    }
                }
                Err(error) => report.problems.push(format!("`{name}`: {}", error.detail)),
            }
        }
        report.deleted = deleted.0.values().map(|gone| gone.len() as u64).sum();
        Ok(deleted)
    }

    /// Deletes what was deleted: before any row is written, so that none of these comes back, not for a
    /// moment. An index without aggregates holds none of them, and the plan leaves them out: only those of
    /// late may still be on their way from a worker that repeats a write.
    pub(super) async fn delete(&self, deleted: &Deleted, is_fresh: bool) -> Result<()> {
        let since = if is_fresh { self.clock.now().0.saturating_sub(LATE_MS) } else { i64::MIN };
        let delete = |(row, at): (DeletedRow, LedgerId)| async move {
            self.written("delete a snapshot row", || self.index.delete_snapshot(&row, at)).await
        };
        for ((key, lineage), gone) in &deleted.0 {
            let late = gone.iter().filter(|(_, at)| at.minted_at().0 >= since);
            let rows: Vec<(DeletedRow, LedgerId)> = late
                .map(|((version, pack), at)| {
                    let (key, lineage, version, pack) = (key.clone(), *lineage, *version, *pack);
                    (DeletedRow { key, lineage, version, pack }, *at)
                })
                .collect();
            let mut writes = stream::iter(rows).map(delete).buffer_unordered(self.settings.writes);
            while writes.try_next().await?.is_some() {}
        }
        Ok(())
    }
}

#[cfg(feature = "runtime")]
#[cfg(test)]
mod tests;
