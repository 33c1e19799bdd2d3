//! One aggregate: its stored events and dead letters in the order of the log, folded, and written but for the
//! last part, which goes out together with those of others.

use super::fold::{Folding, Met};
use super::letters;
use super::notes::{self, Noted};
use super::{Refold, Source, VIEWS_MAX};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decoded;
use crate::domain::ids::{AggregateKey, Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{EntryRef, SnapshotItem};
use crate::domain::poison::Poison;
use crate::domain::row::{DeadLetter, PartitionKey, SnapshotRow};
use crate::reconstruct::Stretch;
use crate::store::flush::Flush;
use crate::store::index::From;
use crate::store::unavailable;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows looked at for whether an earlier try is done with an aggregate.
const ROWS_MAX: usize = 16;

impl Refold {
    /// Folds one aggregate, unless it is done where some are `found` so; answers what of it is left to be
    /// written.
    pub(super) async fn one(
        &self,
        key: &AggregateKey,
        source: &Source,
        found: bool,
    ) -> Result<Option<Flush>> {
        let mut held = source.meet(&key.id);
        if self.reader.packs.erasures.check(key).is_err() {
            return Ok(None);
        }
        let has_letters = !source.letters.of(&key.id).is_empty();
        let noted = patiently!(self, notes::read(self, key));
        if found && !has_letters && noted.is_empty() && patiently!(self, self.is_there(key, source, &held)) {
            self.progress.kept.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        let mut last = Error::corrupt("no view");
        for _ in 0..VIEWS_MAX {
            let error = match self.fold(key, source, held, &noted).await {
                Ok(last) => return Ok(last),
                Err(error) => error,
            };
            // An erasure may have come meanwhile, and have taken rows: then there is nothing to write.
            let erasures = &self.reader.packs.erasures;
            patiently!(self, erasures.refresh());
            if erasures.check(key).is_err() {
                return Ok(None);
            }
            match error.kind {
                // What was listed may have been superseded and collected since: whatever is listed now holds
                // the same events.
                ErrorKind::NotFound | ErrorKind::Corrupt => last = error,
                _ => return Err(about(key, error)),
            }
            let view = patiently!(self, self.reader.view_of(&source.from, key));
            held = view.checkpoints.into_iter().map(|held| held.entry).collect();
        }
        Err(about(key, last))
    }

    async fn fold(
        &self,
        key: &AggregateKey,
        source: &Source,
        held: Vec<EntryRef>,
        noted: &Noted,
    ) -> Result<Option<Flush>> {
        let until = source.end.low_watermark;
        let mut folding = Folding::new(&self.reader.rules, self.cuts, &key.id);
        let mut history = self.reader.history(&source.from, key, held, until);
        let mut waiting: VecDeque<Offset> = source.letters.of(&key.id).iter().copied().collect();
        // While true, versions are those of then.
        let mut in_step = true;
        let mut carried = Noted::new();
        while let Some(Stretch { events, chain }) = patiently!(self, history.next()) {
            patiently!(self, self.reader.prepare(&events));
            for event in events {
                let (offset, version) = (event.record.offset, event.version);
                while waiting.front().is_some_and(|letter| *letter < offset) {
                    let letter = waiting.pop_front().unwrap_or_default();
                    in_step &= !self.revive(key, source, &mut folding, letter).await?;
                }
                // A skipped event is stored and a letter.
                if waiting.front() == Some(&offset) {
                    waiting.pop_front();
                }
                let decoded = self.reader.decoder.decode(event.record);
                let met = folding.fold(decoded)?;
                in_step &= folding.aggregate.version == version;
                self.progress.events.fetch_add(1, Ordering::Relaxed);
                if let Met::Letter(decoded, poison) = met {
                    self.put_letter(letter_of(source, key, &decoded, poison)).await?;
                }
                if let Some(notes) = noted.get(&version)
                    && folding.aggregate.offset == offset
                {
                    folding.cut_here();
                    carried.insert(folding.aggregate.version, notes.clone());
                }
                if let Some(item) = folding.full() {
                    self.write_now(key, source, item).await?;
                }
            }
            folding.check_chain(chain.filter(|_| in_step))?;
        }
        for letter in waiting {
            self.revive(key, source, &mut folding, letter).await?;
        }
        notes::carry(self, key, carried).await?;
        let kind = Arc::clone(&key.kind);
        Ok(folding.finish().map(|item| Flush { partition: target(source), kind, item }))
    }

    async fn write_now(&self, key: &AggregateKey, source: &Source, item: SnapshotItem) -> Result<()> {
        let flush = Flush { partition: target(source), kind: Arc::clone(&key.kind), item };
        for stored in self.store.put_snapshots(vec![flush]).await {
            stored?;
        }
        Ok(())
    }

    /// Folds an event that was a dead letter; true if it has a version now.
    async fn revive(
        &self,
        key: &AggregateKey,
        source: &Source,
        folding: &mut Folding<'_>,
        offset: Offset,
    ) -> Result<bool> {
        let Some(letter) = patiently!(self, letters::at(&self.reader, &source.from, offset)) else {
            return Ok(false);
        };
        let decoded = patiently!(self, letters::decoded(&self.reader, &letter));
        match folding.fold(decoded)? {
            Met::Folded => {
                self.progress.revived.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Met::Letter(decoded, poison) => {
                let has_version = folding.aggregate.offset == offset;
                self.put_letter(letter_of(source, key, &decoded, poison)).await?;
                Ok(has_version)
            }
            // A finding about a version that is folded stays one.
            Met::Repeated => {
                self.put_letter(DeadLetter { key: source.into.clone(), ..letter }).await?;
                Ok(false)
            }
        }
    }

    /// Whether what is written already holds all that is stored below the end. Its newest rows are written
    /// again then: they were merely seen, and all before them are acknowledged.
    async fn is_there(&self, key: &AggregateKey, source: &Source, held: &[EntryRef]) -> Result<bool> {
        let until = source.end.low_watermark;
        let rows = |lineage, from, limit| self.reader.index.snapshots(key, lineage, from, limit);
        let failed = |error| unavailable("read snapshot rows", &error);
        let mine = |row: &SnapshotRow| row.partition == source.from.partition;
        let mut there = rows(self.into, From::Newest, ROWS_MAX).await.map_err(failed)?;
        there.retain(mine);
        let Some(newest) = there.first().map(|row| row.version) else { return Ok(false) };
        there.retain(|row| row.version == newest);
        let reached = there.iter().map(|row| row.last_offset).max().unwrap_or_default();
        let below = From::OffsetAtOrBelow(Offset(until.0 - 1));
        let mut stored = rows(self.from, below, ROWS_MAX).await.map_err(failed)?;
        stored.retain(mine);
        let top = stored.first().map_or(Version(0), |row| row.version);
        let mut above = rows(self.from, From::Above(top), ROWS_MAX).await.map_err(failed)?;
        above.retain(mine);
        let spans = above.iter().any(|row| row.first_offset < until)
            || held.iter().any(|entry| entry.first_offset < until && entry.last_offset >= until);
        let rows_end = stored.first().map(|row| row.last_offset);
        let held_end = held.iter().filter(|entry| entry.first_offset < until).map(|entry| entry.last_offset);
        let end = rows_end.into_iter().chain(held_end).max();
        if spans || end.is_none_or(|end| reached < end) {
            return Ok(false);
        }
        if !mutant(Mutant::RefoldRumourTrusted) {
            self.store.adopt(there).await;
        }
        Ok(true)
    }
}

/// The lineage that is written.
fn target(source: &Source) -> PartitionKey {
    if mutant(Mutant::LineagesMixed) { source.from.clone() } else { source.into.clone() }
}

fn letter_of(source: &Source, key: &AggregateKey, decoded: &Decoded, poison: Poison) -> DeadLetter {
    DeadLetter {
        key: source.into.clone(),
        offset: decoded.record.offset,
        aggregate: Some(key.clone()),
        code: poison.code.into(),
        detail: poison.detail,
        record: decoded.record.clone(),
    }
    .bounded()
}

/// The same error, saying whose events it is about.
fn about(key: &AggregateKey, error: Error) -> Error {
    error.context(&format!("refold `{}/{}`", key.kind, key.id))
}
