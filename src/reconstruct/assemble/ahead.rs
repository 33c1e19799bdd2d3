//! Pieces that are fetched while those before them are folded: a store that is far away answers several
//! questions at once.
//!
//! *Order*: bodies are handed out in the order of the pieces, whenever they came.
//! *If cancelled*: what is on its way is dropped.
//! COST: a few bodies are held at once, and one may be fetched that turns out not to be needed.

use super::{Assembly, Piece};
use crate::domain::error::Result;
use crate::domain::ids::AggregateKey;
use crate::domain::record::IncrementBody;
use crate::domain::row::PartitionKey;
use crate::reconstruct::Reconstructor;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::collections::VecDeque;

/// Pieces that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Fetches pieces in their order, some ahead of where they are asked for.
pub(super) struct Ahead<'a> {
    reader: &'a Reconstructor,
    partition: &'a PartitionKey,
    key: &'a AggregateKey,
    /// Pieces that will be asked for, by their number.
    wanted: VecDeque<(usize, Piece)>,
    /// Numbers of those that are being fetched.
    numbers: VecDeque<usize>,
    fetching: FuturesOrdered<BoxFuture<'a, Result<IncrementBody>>>,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(assembly: &Assembly<'a>, pieces: &[Piece]) -> Self {
        let is_copy = |nth: usize| {
            nth > 0 && (pieces[nth - 1].from, pieces[nth - 1].upto) == (pieces[nth].from, pieces[nth].upto)
        };
        let all = pieces.iter().enumerate();
        // Of copies the second is needed only where the first cannot be read.
        let wanted = all.filter(|(nth, piece)| assembly.will_need(piece) && !is_copy(*nth));
        Self {
            reader: assembly.reader,
            partition: assembly.partition,
            key: assembly.key,
            wanted: wanted.map(|(nth, piece)| (nth, piece.clone())).collect(),
            numbers: VecDeque::new(),
            fetching: FuturesOrdered::new(),
        }
    }

    /// The body of the piece of this number.
    pub(super) async fn read(&mut self, number: usize, piece: &Piece) -> Result<IncrementBody> {
        // What was passed over is not needed any more.
        self.wanted.retain(|(nth, _)| *nth >= number);
        loop {
            while self.numbers.len() < AT_ONCE
                && let Some((nth, piece)) = self.wanted.pop_front()
            {
                let (reader, partition, key) = (self.reader, self.partition, self.key);
                self.numbers.push_back(nth);
                self.fetching.push_back(async move { piece.read(reader, partition, key).await }.boxed());
            }
            match self.numbers.front() {
                Some(nth) if *nth <= number => {}
                _ => return piece.read(self.reader, self.partition, self.key).await,
            }
            let fetched = (self.numbers.pop_front(), self.fetching.next().await);
            if let (Some(nth), Some(body)) = fetched
                && nth == number
            {
                return body;
            }
        }
    }
}
