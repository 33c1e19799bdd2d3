//! The stored events of one aggregate from its first on, in order, as increments and live checkpoints hold
//! them: for whoever folds history anew. States play no part in it.
//!
//! *Order*: whoever asks has read the low watermark and the list of checkpoints before; rows are read here.
//! *If it fails*: `Gone` where events below the end are known of and not stored (strategy `full`, retention);
//!   `Corrupt` or `NotFound` where all that holds them is unreadable: a fresh view may name other places.
//! *If cancelled*: nothing was written.

use super::piece::{Piece, Source};
use super::{Reconstructor, epochs_of};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, Offset, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::{EntryRef, Epochs, reach};
use crate::domain::record::StoredEvent;
use crate::domain::row::{PartitionKey, RecordKind, SnapshotRow};
use crate::store::index::{From, RowWalk};

/// Rows fetched in one go on the way up.
const PAGE: usize = 256;

/// A walk up the stored events of one aggregate.
pub struct History<'a> {
    reader: &'a Reconstructor,
    partition: &'a PartitionKey,
    key: &'a AggregateKey,
    held: Vec<EntryRef>,
    /// Events from here on are left to the log.
    until: Offset,
    at: Version,
    /// Rows above `at` that were read, upwards.
    rows: Vec<SnapshotRow>,
    walk: RowWalk<'a>,
    epochs: Epochs,
}

/// Events of contiguous versions.
#[derive(Debug)]
pub struct Stretch {
    /// At least one.
    pub events: Vec<StoredEvent>,
    /// The chain after the last of them, as the row of their record tells it; none where no row does.
    pub chain: Option<Digest>,
}

impl Reconstructor {
    /// The events of an aggregate below `until`, which must not lie above the low watermark that was read
    /// before; `held` is what the live checkpoints that were listed after it hold of the aggregate.
    #[must_use]
    pub fn history<'a>(
        &'a self,
        partition: &'a PartitionKey,
        key: &'a AggregateKey,
        held: Vec<EntryRef>,
        until: Offset,
    ) -> History<'a> {
        let walk = self.walk(key, partition, From::Above(Version(0)), PAGE);
        let (at, rows, epochs) = (Version(0), Vec::new(), Epochs::new());
        History { reader: self, partition, key, held, until, at, rows, walk, epochs }
    }
}

impl History<'_> {
    /// The next events; none at the end. After an error that passes it may be asked again.
    ///
    /// # Errors
    /// See the module.
    pub async fn next(&mut self) -> Result<Option<Stretch>> {
        loop {
            let pieces = self.covering();
            let begins_later = |piece: &Piece| piece.from == self.at && piece.first_offset >= self.until;
            if pieces.iter().any(begins_later) {
                return self.end().await;
            }
            let mut last = None;
            for piece in &pieces {
                match self.read(piece).await {
                    Ok(Some(stretch)) => return Ok(Some(stretch)),
                    Ok(None) => return self.end().await,
                    Err(error) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => {
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            if self.read_rows().await? {
                continue;
            }
            return match last {
                Some(error) => Err(error.context(&format!("read the events after version {}", self.at))),
                None => self.end_unless_missing().await,
            };
        }
    }

    /// Pieces that hold the next event, those that reach furthest first.
    fn covering(&self) -> Vec<Piece> {
        let held: &[EntryRef] = if mutant(Mutant::RefoldForgetsCheckpoints) { &[] } else { &self.held };
        let mut pieces = Piece::all(&self.rows, held);
        pieces.retain(|piece| piece.from <= self.at && piece.upto > self.at);
        pieces.sort_by_key(|piece| (std::cmp::Reverse(piece.upto), matches!(piece.source, Source::Entry(_))));
        pieces
    }

    /// The events of a piece after those that were met; none where the first of them lies beyond the end.
    async fn read(&mut self, piece: &Piece) -> Result<Option<Stretch>> {
        let body = piece.read(self.reader, self.partition, self.key).await?;
        let end = match &piece.source {
            Source::Entry(entry) => entry.ignore_from.map_or(self.until, |cut| cut.min(self.until)),
            Source::Row(_) => self.until,
        };
        let mut events = Vec::with_capacity(body.events.len());
        let mut next = self.at.next();
        for event in body.events {
            if event.version < next {
                continue;
            }
            if event.version != next {
                return Err(Error::corrupt(format!("version {} follows on {}", event.version, self.at)));
            }
            if event.record.offset >= end {
                break;
            }
            next = next.next();
            events.push(event);
        }
        let Some(last) = events.last() else { return Ok(None) };
        reach(&mut self.epochs, last.record.leader_epoch, last.record.offset);
        self.at = last.version;
        let chain = match &piece.source {
            Source::Row(row) if row.version == self.at => Some(row.chain),
            _ => None,
        };
        self.rows.retain(|row| row.version > last.version);
        Ok(Some(Stretch { events, chain }))
    }

    /// Reads on in the rows; false where all were read.
    async fn read_rows(&mut self) -> Result<bool> {
        let Some(page) = self.walk.read().await? else { return Ok(false) };
        self.rows.extend(page.into_iter().filter(|row| row.version >= self.at));
        Ok(true)
    }

    /// Nothing holds the next event: the end, unless something tells of events that lie further on.
    async fn end_unless_missing(&mut self) -> Result<Option<Stretch>> {
        let rows = self.rows.iter().filter(|row| row.version > self.at);
        let rows = rows.map(|row| (row.from_version, row.version, row.first_offset));
        let held = self.held.iter().filter(|held| held.upto > self.at);
        let above: Vec<_> = rows.chain(held.map(|held| (held.from, held.upto, held.first_offset))).collect();
        // What led up to the lowest was deleted, and nobody knows where in the log its events were: they may
        // be below the end.
        let is_led_up_to_by_nothing =
            above.iter().map(|(from, ..)| *from).min().is_some_and(|from| from > self.at)
                && !mutant(Mutant::RefoldSkipsDeleted);
        let is_missing = |first_offset: Offset| first_offset < self.until || is_led_up_to_by_nothing;
        let missing = above.iter().filter(|(_, _, first_offset)| is_missing(*first_offset));
        let further = missing.map(|(_, upto, _)| *upto).max();
        match further.filter(|_| !mutant(Mutant::RefoldForgetsCheckpoints)) {
            None => self.end().await,
            Some(version) => {
                let detail = format!(
                    "events after version {} are not stored, though a record of version {version} is: strategy `full` \
                     leaves them to the topic, and retention may have deleted them",
                    self.at
                );
                Err(Error::new(ErrorKind::Gone, "history-gone", detail))
            }
        }
    }

    /// All was met; it counts only if the log was not cut below it (rule 12).
    async fn end(&mut self) -> Result<Option<Stretch>> {
        let marks: Vec<SnapshotRow> = self
            .rows
            .iter()
            .filter(|row| {
                row.kind == RecordKind::Increment && row.quarantined && row.last_offset < self.until
            })
            .cloned()
            .collect();
        for (epoch, last) in epochs_of(&marks) {
            reach(&mut self.epochs, epoch, last);
        }
        self.reader.check_epochs(self.partition, &self.epochs).await?;
        Ok(None)
    }
}
