//! Pieces that are fetched while the base is, and while those before them are folded: a store that is far
//! away answers several questions at once.
//!
//! *Order*: bodies are handed out in the order of the pieces, whenever they came.
//! *If cancelled*: what is on its way is dropped.
//! COST: a few bodies are held at once, and one may be fetched that turns out not to be needed.

use super::{Assembly, Piece};
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, Version};
use crate::domain::record::IncrementBody;
use crate::domain::row::{PartitionKey, SnapshotRow};
use crate::reconstruct::Reconstructor;
use crate::reconstruct::piece::Source;
use futures_util::future::{BoxFuture, Either, FutureExt, select};
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::collections::VecDeque;
use std::pin::pin;

/// Pieces that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Fetches pieces in their order, some ahead of where they are asked for.
pub(super) struct Ahead<'a> {
    reader: &'a Reconstructor,
    partition: &'a PartitionKey,
    key: &'a AggregateKey,
    /// Pieces that will be asked for, by their number.
    wanted: VecDeque<(usize, Piece)>,
    /// Numbers of those that are being fetched, or came early.
    numbers: VecDeque<usize>,
    fetching: FuturesOrdered<BoxFuture<'a, Result<IncrementBody>>>,
    /// What came while something else was waited for.
    early: VecDeque<Result<IncrementBody>>,
}

impl<'a> Ahead<'a> {
    /// For an aggregate at a version, or one that a row will bring to it together with its own events.
    pub(super) fn new(
        assembly: &Assembly<'a>,
        pieces: &[Piece],
        (base, at): (Option<&SnapshotRow>, Version),
    ) -> Self {
        let is_copy = |nth: usize| {
            nth > 0 && (pieces[nth - 1].from, pieces[nth - 1].upto) == (pieces[nth].from, pieces[nth].upto)
        };
        let is_base = |piece: &Piece| match (&piece.source, base) {
            (Source::Row(row), Some(base)) => (row.pack, row.version) == (base.pack, base.version),
            _ => false,
        };
        let at = base.map_or(at, |row| row.version);
        let all = pieces.iter().enumerate();
        // Of copies the second is needed only where the first cannot be read.
        let wanted =
            all.filter(|(nth, piece)| assembly.will_need(piece, at) && !is_copy(*nth) && !is_base(piece));
        Self {
            reader: assembly.reader,
            partition: assembly.partition,
            key: assembly.key,
            wanted: wanted.map(|(nth, piece)| (nth, piece.clone())).collect(),
            numbers: VecDeque::new(),
            fetching: FuturesOrdered::new(),
            early: VecDeque::new(),
        }
    }

    /// Starts to fetch what comes next.
    fn start(&mut self) {
        while self.numbers.len() < AT_ONCE
            && let Some((nth, piece)) = self.wanted.pop_front()
        {
            let (reader, partition, key) = (self.reader, self.partition, self.key);
            self.numbers.push_back(nth);
            self.fetching.push_back(async move { piece.read(reader, partition, key).await }.boxed());
        }
    }

    /// Does something else, and fetches meanwhile.
    pub(super) async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        self.start();
        let mut other = pin!(other);
        while !self.fetching.is_empty() {
            match select(other.as_mut(), self.fetching.next()).await {
                Either::Left((done, _)) => return done,
                Either::Right((body, _)) => self.early.extend(body),
            }
        }
        other.await
    }

    /// The body of the piece of this number.
    pub(super) async fn read(&mut self, number: usize, piece: &Piece) -> Result<IncrementBody> {
        // What was passed over is not needed any more.
        self.wanted.retain(|(nth, _)| *nth >= number);
        loop {
            self.start();
            match self.numbers.front() {
                Some(nth) if *nth <= number => {}
                _ => return piece.read(self.reader, self.partition, self.key).await,
            }
            let body = match self.early.pop_front() {
                Some(body) => Some(body),
                None => self.fetching.next().await,
            };
            let fetched = (self.numbers.pop_front(), body);
            if let (Some(nth), Some(body)) = fetched
                && nth == number
            {
                return body;
            }
        }
    }
}
