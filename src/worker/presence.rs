//! Tells the index which partitions a worker folds and where it is asked. A hint, nothing more: no answer
//! depends on it being there or being right.
//!
//! *If it fails*: it is told again a moment later. *What may leak*: rows of workers that are gone, until the
//! next owner writes its own.

use super::Handle;
use crate::clock::Clock;
use crate::domain::ids::{Lineage, PartitionNo};
use crate::domain::row::{OwnerRow, PartitionKey};
use crate::store::index::Index;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Between two looks at what is folded.
const LOOK_MS: u64 = 250;
/// After which it is told again, although nothing has changed.
const AGAIN_MS: u64 = 10_000;

/// Tells it again and again, for ever.
pub async fn announce(
    handle: Handle,
    index: Arc<dyn Index>,
    clock: Arc<dyn Clock>,
    (topic, lineage): (Arc<str>, Lineage),
    address: Arc<str>,
) {
    let mut told: BTreeMap<PartitionNo, u64> = BTreeMap::new();
    loop {
        let folded: Vec<_> = {
            let statuses = handle.statuses.lock().expect("no panic while the map is held");
            let folded = statuses.iter().filter(|(_, status)| status.refused.is_none());
            folded.map(|(partition, status)| (*partition, status.position)).collect()
        };
        told.retain(|partition, _| folded.iter().any(|(one, _)| one == partition));
        for (partition, position) in folded {
            let now = clock.monotonic_ms();
            if told.get(&partition).is_some_and(|at| now.saturating_sub(*at) < AGAIN_MS) {
                continue;
            }
            let key = PartitionKey { topic: Arc::clone(&topic), partition, lineage };
            let row = OwnerRow { key, address: Arc::clone(&address), position, heartbeat: clock.now() };
            match index.put_owner(row).await {
                Ok(()) => {
                    told.insert(partition, now);
                }
                Err(error) => {
                    tracing::debug!(%error, partition = partition.0, "the owner's row is not written")
                }
            }
        }
        clock.sleep(LOOK_MS).await;
    }
}
