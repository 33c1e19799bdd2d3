//! Events that an owner refused which could not read what led up to them (docs/adr/0028).
//!
//! Where nothing of an aggregate can be read, its owner marks it at version 0, its events become dead
//! letters, and the low watermark goes on. What led up to them may be there all the same: a former owner had
//! it in memory and writes it late, or a record is repaired. Then the mark lies below a state, and what lies
//! between that state and the low watermark is in no row and no checkpoint: the letters have it.

use super::{Assembly, Piece};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::Epochs;
use crate::domain::row::{DeadLetter, SnapshotRow};
use crate::reconstruct::FEW_ROWS;
use crate::store::index::From;
use crate::store::unavailable;

/// Letters of the partition read in one go.
const PAGE: usize = 64;

impl Assembly<'_> {
    /// Folds the events before `to` and below the limit that were refused because of a mark that lies below
    /// the state.
    pub(super) async fn by_letters(&mut self, rows: &[SnapshotRow], to: Offset) -> Result<()> {
        let is_above = |piece: &Piece| piece.upto > self.aggregate.version;
        let stands_still = self.is_done() || self.aggregate.quarantine.is_some();
        // What a piece has that cannot be read comes first.
        if stands_still || self.unfolded.iter().any(is_above) || !self.is_beyond_a_mark(rows).await? {
            return Ok(());
        }
        let (mut from, to) = (self.aggregate.offset.next(), to.min(self.limit));
        loop {
            let page = self.reader.index.dead_letters(self.partition, from, PAGE).await;
            let page = page.map_err(|error| unavailable("read dead letters", &error))?;
            let is_last = page.len() < PAGE;
            for letter in page {
                if letter.offset >= to || self.is_done() || self.aggregate.quarantine.is_some() {
                    return Ok(());
                }
                from = letter.offset.next();
                self.by_letter(letter).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn by_letter(&mut self, letter: DeadLetter) -> Result<()> {
        let is_ours = letter.aggregate.as_ref().is_some_and(|key| key.id == self.key.id);
        // Others were refused for what they are.
        let stood_still = matches!(&*letter.code, "quarantined" | "unreadable");
        if !is_ours || !stood_still || letter.is_blank() || self.was_cut_off(&letter).await? {
            return Ok(());
        }
        let (offset, leader_epoch) = (letter.offset, letter.record.leader_epoch);
        let folded = match letter.is_cut() {
            // Too large for a row: only the log has it.
            true => self.scan(offset, offset.next()).await,
            false => self.refolded(letter).await,
        };
        match folded {
            // The log has forgotten it, or it would halt the partition, which one that stands still does not.
            Err(error) if error.kind == ErrorKind::Gone || error.code == "not-caught-up" => {
                self.stand_still_at(offset, leader_epoch);
                Ok(())
            }
            folded => folded,
        }
    }

    async fn refolded(&mut self, letter: DeadLetter) -> Result<()> {
        if let Some(preparing) = self.reader.decoder.prepare(&mut std::iter::once(&letter.record)) {
            preparing.await.map_err(|error| unavailable("fetch a schema", &error))?;
        }
        self.fold_record(letter.record)
    }

    /// Rule 12: another event has its offset by now.
    async fn was_cut_off(&self, letter: &DeadLetter) -> Result<bool> {
        let reached = Epochs::from([(letter.record.leader_epoch, letter.offset)]);
        match self.reader.check_epochs(self.partition, &reached).await {
            Err(error) if error.code == "lineage-changed" => Ok(true),
            Err(error) => Err(error),
            Ok(()) => Ok(false),
        }
    }

    /// Whether a mark tells of an event at or before the last one that was folded, and of an older version.
    async fn is_beyond_a_mark(&self, rows: &[SnapshotRow]) -> Result<bool> {
        let at = &self.aggregate;
        let is_below = |(version, offset): (Version, Offset)| version < at.version && offset <= at.offset;
        let of_row = |row: &SnapshotRow| row.quarantined && is_below((row.version, row.last_offset));
        if mutant(Mutant::RefusedEventsForgotten) {
            return Ok(false);
        }
        if self.marks.iter().copied().any(is_below) || rows.iter().any(of_row) {
            return Ok(true);
        }
        // Whoever could read nothing marked version 0, to which a walk down a long history does not get.
        if self.is_to_first {
            return Ok(false);
        }
        let lowest = From::AtOrBelow(Version(0));
        let lowest = self.reader.walk(self.key, self.partition, lowest, FEW_ROWS).rest().await?;
        Ok(lowest.iter().any(of_row))
    }
}
