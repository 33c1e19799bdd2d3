//! Dead letters of the old lineage below the end: a new reducer may fold some of them, and the others are
//! letters of the new lineage, too. Offsets are kept, records are read again when their turn comes.

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Decoded;
use crate::domain::ids::Offset;
use crate::domain::row::{DeadLetter, PartitionKey};
use crate::reconstruct::Reconstructor;
use crate::store::unavailable;
use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 256;

/// Where the letters of a partition are.
#[derive(Debug, Default)]
pub(super) struct Letters {
    of: BTreeMap<Arc<str>, Vec<Offset>>,
    unplaced: Vec<Offset>,
}

impl Letters {
    /// Those below `end`, by whose they are as the decoder says today.
    pub(super) async fn read(reader: &Reconstructor, log: &PartitionKey, end: Offset) -> Result<Self> {
        let (mut letters, mut from, mut ends) = (Self::default(), Offset(0), BTreeMap::new());
        loop {
            let page = reader.index.dead_letters(log, from, PAGE).await;
            let page = page.map_err(|error| unavailable("read dead letters", &error))?;
            let Some(last) = page.last() else { return Ok(letters) };
            let (next, is_last) = (last.offset.next(), page.len() < PAGE);
            for letter in page {
                if letter.offset >= end {
                    return Ok(letters);
                }
                if !was_cut_off(reader, log, &letter, &mut ends).await? {
                    letters.place(reader, letter).await?;
                }
            }
            if is_last {
                return Ok(letters);
            }
            from = next;
        }
    }

    async fn place(&mut self, reader: &Reconstructor, letter: DeadLetter) -> Result<()> {
        let offset = letter.offset;
        match decoded(reader, &letter).await?.id() {
            Some(id) => self.of.entry(Arc::clone(id)).or_default().push(offset),
            None => self.unplaced.push(offset),
        }
        Ok(())
    }

    /// Aggregates that have letters.
    pub(super) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.of.keys()
    }

    /// The letters of an aggregate, in the order of the log.
    pub(super) fn of(&self, id: &str) -> &[Offset] {
        self.of.get(id).map_or(&[], Vec::as_slice)
    }

    /// The letters that nobody can be told to have sent.
    pub(super) fn unplaced(&self) -> impl Iterator<Item = Offset> {
        self.unplaced.iter().copied()
    }
}

/// Rule 12: an unclean election may have taken the event away before the low watermark reached it. Then
/// another event has its offset, and the letter tells of nothing.
async fn was_cut_off(
    reader: &Reconstructor,
    log: &PartitionKey,
    letter: &DeadLetter,
    ends: &mut BTreeMap<i32, Offset>,
) -> Result<bool> {
    let epoch = letter.record.leader_epoch;
    if epoch < 0 {
        return Ok(false);
    }
    let end = match ends.get(&epoch) {
        Some(end) => *end,
        None => {
            let end = reader.log.epoch_end(log.partition, epoch).await;
            let end = end.map_err(|error| unavailable("read the end of a leader epoch", &error))?;
            ends.insert(epoch, end);
            end
        }
    };
    Ok(end <= letter.offset)
}

/// The letter at an offset; none if it has gone meanwhile.
pub(super) async fn at(
    reader: &Reconstructor,
    log: &PartitionKey,
    offset: Offset,
) -> Result<Option<DeadLetter>> {
    let found = reader.index.dead_letters(log, offset, 1).await;
    let found = found.map_err(|error| unavailable("read a dead letter", &error))?;
    Ok(found.into_iter().next().filter(|letter| letter.offset == offset))
}

/// What the decoder makes of a letter's record.
pub(super) async fn decoded(reader: &Reconstructor, letter: &DeadLetter) -> Result<Decoded> {
    if letter.is_cut() {
        let detail = format!(
            "the record at {} is a dead letter that was too large to be kept whole: only the topic has it. Fold the \
             topic again with `--new-lineage`",
            letter.offset
        );
        return Err(Error::new(ErrorKind::Gone, "history-gone", detail));
    }
    if let Some(preparing) = reader.decoder.prepare(&mut std::iter::once(&letter.record)) {
        preparing.await.map_err(|error| unavailable("fetch a schema", &error))?;
    }
    Ok(reader.decoder.decode(letter.record.clone()))
}
