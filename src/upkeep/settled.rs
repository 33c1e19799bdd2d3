//! Which stretches of a log no owner will ever rely on a row of that it has not seen acknowledged: those
//! below the low watermark, without a live checkpoint over them (rule 4). It was read once; neither ever
//! becomes untrue, because the low watermark only grows and new checkpoints begin at it.
//!
//! *If it fails*: a read is repeated for some seconds. *What may leak*: nothing.

use crate::clock::Clock;
use crate::domain::error::Result;
use crate::domain::ids::{Offset, PackId};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::row::{CheckpointRow, PartitionKey};
use crate::store::index::Index;
use crate::store::unavailable;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Before a call that failed is repeated, and how often it is.
pub(super) const RETRY_MS: u64 = 200;
pub(super) const TRIES: usize = 20;

/// Repeats a call until it is answered, or cannot be.
pub(super) async fn repeated<'b, T>(
    clock: &dyn Clock,
    call: impl Fn() -> BoxFuture<'b, PortResult<T>> + Send,
) -> PortResult<T> {
    for _ in 1..TRIES {
        match call().await {
            Err(PortError::NotDone(_) | PortError::Unknown(_)) => clock.sleep(RETRY_MS).await,
            answered => return answered,
        }
    }
    call().await
}

/// What was read of a partition.
struct Seen {
    low_watermark: Offset,
    checkpoints: Vec<CheckpointRow>,
}

/// What was read in one pass.
#[derive(Default)]
pub(super) struct Settled(BTreeMap<PartitionKey, Seen>);

impl Settled {
    /// Whether these offsets, first and last, are settled.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn holds(
        &mut self,
        ports: (&dyn Index, &dyn Clock),
        key: &PartitionKey,
        (first, last): (Offset, Offset),
    ) -> Result<bool> {
        let seen = self.seen(ports, key).await?;
        let overlaps = |row: &CheckpointRow| row.first_offset <= last && row.end_offset > first;
        Ok(last < seen.low_watermark && !seen.checkpoints.iter().any(overlaps))
    }

    /// Whether a partition listed a checkpoint's pack when it was first asked about.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn lists(
        &mut self,
        ports: (&dyn Index, &dyn Clock),
        key: &PartitionKey,
        pack: PackId,
    ) -> Result<bool> {
        Ok(self.seen(ports, key).await?.checkpoints.iter().any(|row| row.pack == pack))
    }

    async fn seen(&mut self, (index, clock): (&dyn Index, &dyn Clock), key: &PartitionKey) -> Result<&Seen> {
        match self.0.entry(key.clone()) {
            Entry::Occupied(seen) => Ok(seen.into_mut()),
            Entry::Vacant(place) => {
                let marks = repeated(clock, || index.watermarks(key)).await;
                let marks = marks.map_err(|error| unavailable("read the low watermark", &error))?;
                let low_watermark = marks.iter().map(|row| row.low_watermark).max().unwrap_or(Offset(0));
                let checkpoints = repeated(clock, || index.checkpoints(key)).await;
                let checkpoints = checkpoints.map_err(|error| unavailable("list checkpoints", &error))?;
                Ok(place.insert(Seen { low_watermark, checkpoints }))
            }
        }
    }
}
