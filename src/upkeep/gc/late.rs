//! What was written of erased aggregates by somebody who had not heard of it: a pass takes it away.
//!
//! *If it fails*: the next pass finds it. COST: a query for each erased aggregate, lineage and pass, and,
//! where any is erased, a walk over the dead letters.

use super::{Collector, Mode};
use crate::domain::error::Result;
use crate::domain::ids::AggregateKey;
use crate::store::erased;
use crate::store::ledger::Ledger;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;

const READS_AT_ONCE: usize = 8;

impl Collector {
    /// How many rows and dead letters went; in a dry run, would go.
    pub(super) async fn take_late(&self, mode: Mode) -> Result<u64> {
        let (index, blobs) = (&*self.index, &self.packs.blobs);
        let (ledger_index, clock) = (Arc::clone(&self.index), Arc::clone(&self.clock));
        let ledger = Ledger { index: ledger_index, blobs: Arc::clone(blobs), clock };
        let mut late = 0;
        for (kind, topic) in &self.topics {
            let ids = self.packs.erasures.ids(kind);
            if ids.is_empty() {
                continue;
            }
            let logs = erased::logs_of(&**blobs, topic).await?;
            let keys: Vec<AggregateKey> =
                ids.iter().map(|id| AggregateKey { kind: Arc::clone(kind), id: Arc::clone(id) }).collect();
            let reads =
                keys.iter().map(|key| -> BoxFuture<'_, _> { Box::pin(erased::rows_of(index, &logs, key)) });
            let reads: Vec<_> = reads.collect();
            let rows: Vec<_> = stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_concat().await?;
            let letters =
                erased::letters_of(index, &logs, |key| key.kind == *kind && ids.contains(&key.id)).await?;
            late += (rows.len() + letters.len()) as u64;
            if mode != Mode::DryRun {
                erased::delete_rows(&ledger, &rows).await?;
                erased::blank(index, letters).await?;
            }
        }
        Ok(late)
    }
}
