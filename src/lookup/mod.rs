//! Questions about one aggregate: the owner's memory where it has the answer, rest and the log where it has
//! not.
//!
//! *If it fails*: an owner that does not answer, or answers from the past, costs time, never truth.

use crate::domain::aggregate::Aggregate;
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, Offset};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::PartitionKey;
use crate::reconstruct::{AsOf, Found, LiveHeads, Provenance, Reconstructor};
use crate::store::unavailable;
use std::sync::Arc;

/// Which source an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The owner's memory.
    Memory,
    /// Snapshots and events, from rest and from the log.
    Rest(Provenance),
}

/// An answer and where it came from.
#[derive(Debug)]
pub struct Answer {
    /// What was found.
    pub found: Found,
    /// Where.
    pub source: Source,
}

/// Answers questions about aggregates of one stream.
#[derive(Clone)]
pub struct Lookup {
    /// Rest and the log.
    pub reader: Reconstructor,
    /// The owners.
    pub owners: Arc<dyn LiveHeads>,
}

impl Lookup {
    /// The aggregate as of a moment.
    ///
    /// # Errors
    /// As `Reconstructor::state`.
    pub async fn state(&self, partition: &PartitionKey, key: &AggregateKey, as_of: AsOf) -> Result<Answer> {
        if as_of == AsOf::Head
            && let Some(head) = self.owners_head(partition, key).await?
        {
            let found = Found::State(head, Provenance::default());
            return Ok(Answer { found, source: Source::Memory });
        }
        let found = self.reader.state(partition, key, as_of).await?;
        let source = match &found {
            Found::State(_, provenance) => Source::Rest(*provenance),
            Found::Unknown | Found::BeyondHead(_) | Found::BeforeFirst(_) => {
                Source::Rest(Provenance::default())
            }
        };
        Ok(Answer { found, source })
    }

    /// O1: the low watermark first, then the owner; an answer from below it comes from an owner that is none
    /// any more.
    async fn owners_head(
        &self,
        partition: &PartitionKey,
        key: &AggregateKey,
    ) -> Result<Option<Box<Aggregate>>> {
        let rows = self.reader.index.watermarks(partition).await;
        let rows = rows.map_err(|error| unavailable("read the low watermark", &error))?;
        let low_watermark = rows.iter().map(|row| row.low_watermark).max().unwrap_or(Offset(0));
        let Some(answer) = self.owners.head(partition.partition, Arc::clone(&key.id)).await else {
            return Ok(None);
        };
        let stale = answer.position < low_watermark && !mutant(Mutant::StaleOwnerBelieved);
        Ok(answer.aggregate.filter(|_| !stale))
    }
}
