//! The background duty of retention: now and then each worker looks at every aggregate of the partitions that
//! it folds, and deletes what `retention` does not keep.
//!
//! *Order*: aggregates by id; what goes of several that were planned within moments is one fact in the
//!   ledger, and right before it holds, pins and rows of each are read once more. *If it fails*: the next
//!   sweep begins anew, and finds what is left. *If cancelled*: the same.
//! COST: a few reads for each aggregate, as many of them in a second as the configuration allows, and one
//!   object for each batch of deletions.

use super::retention::{Keep, Planned, Refused, Retention};
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, PartitionNo};
use crate::domain::ledger::DeletedRow;
use crate::domain::retention::Wanted;
use crate::domain::row::SnapshotRow;
use crate::reconstruct::LiveSnapshots;
use crate::store::unavailable;
use std::sync::Arc;

/// Aggregates listed in one go.
const PAGE: usize = 256;
/// Aggregates whose deletions share a fact in the ledger, and how long the first of them waits for it.
const BATCH: usize = 16;
const BATCH_MS: u64 = 2_000;

/// Thins out one stream.
pub struct Thinning {
    /// What deletes.
    pub retention: Retention,
    /// What is kept.
    pub keep: Keep,
    /// The aggregate type.
    pub kind: Arc<str>,
    /// Aggregates looked at in a second, at the most.
    pub per_second: u64,
}

/// What a sweep came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Aggregates looked at.
    pub aggregates: u64,
    /// Rows deleted.
    pub rows: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Aggregates of which something would have gone, but for a hold.
    pub held: u64,
    /// The same, but for a record that cannot be read.
    pub unproved: u64,
}

/// What is to be deleted together.
#[derive(Default)]
struct Batch {
    planned: Vec<Planned>,
    since_ms: u64,
}

impl Thinning {
    /// Looks at every aggregate of the partitions that this process folds.
    ///
    /// # Errors
    /// `Unavailable`: what was not reached waits for the next sweep.
    pub async fn sweep(&self, own: &dyn LiveSnapshots) -> Result<Swept> {
        let (mut swept, mut batch) = (Swept::default(), Batch::default());
        if self.keep.policy(self.retention.now()).keeps_all() {
            return Ok(swept);
        }
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.retention.ledger.index.aggregates(&self.kind, after.as_deref(), PAGE).await;
            let page = page.map_err(|error| unavailable("list aggregates", &error))?;
            let Some((last, _)) = page.last() else { break };
            after = Some(Arc::clone(&last.id));
            for (key, _) in page.iter().filter(|(_, partition)| self.owns(own, *partition)) {
                self.look(key, &mut batch, &mut swept).await?;
                let waited_ms = self.retention.ledger.clock.monotonic_ms().saturating_sub(batch.since_ms);
                if batch.planned.len() >= BATCH || waited_ms >= BATCH_MS {
                    self.commit(std::mem::take(&mut batch), &mut swept).await?;
                }
                if let Some(pause_ms) = pause_ms(swept.aggregates, self.per_second) {
                    self.retention.ledger.clock.sleep(pause_ms).await;
                }
            }
        }
        self.commit(batch, &mut swept).await?;
        Ok(swept)
    }

    fn owns(&self, own: &dyn LiveSnapshots, partition: PartitionNo) -> bool {
        own.owns(partition)
    }

    async fn look(&self, key: &AggregateKey, batch: &mut Batch, swept: &mut Swept) -> Result<()> {
        let now = self.retention.now();
        let wanted = Wanted::Policy(self.keep.policy(now));
        let planned: Planned = self.retention.plan(key, wanted, self.keep.promise(now)).await?;
        swept.aggregates += 1;
        if planned.plan.go.is_empty() {
            return Ok(());
        }
        match self.retention.ready(&planned).await {
            Ok(_) => {
                if batch.planned.is_empty() {
                    batch.since_ms = self.retention.ledger.clock.monotonic_ms();
                }
                batch.planned.push(planned);
            }
            Err(refused) => note(refused, swept)?,
        }
        Ok(())
    }

    async fn commit(&self, batch: Batch, swept: &mut Swept) -> Result<()> {
        let mut rows: Vec<DeletedRow> = Vec::new();
        for planned in &batch.planned {
            match self.retention.recheck(planned).await {
                Ok(go) => {
                    let goes = |row: &&SnapshotRow| {
                        go.iter().any(|gone| (gone.version, gone.pack) == (row.version, row.pack))
                    };
                    swept.bytes +=
                        planned.plan.go.iter().filter(goes).map(|row| row.stored_bytes).sum::<u64>();
                    rows.extend(go);
                }
                Err(refused) => note(refused, swept)?,
            }
        }
        swept.rows += rows.len() as u64;
        self.retention.commit(rows, "retention").await
    }
}

/// What was refused is counted; a fault ends the sweep.
fn note(refused: Refused, swept: &mut Swept) -> Result<()> {
    match refused {
        Refused::Held(_) => swept.held += 1,
        Refused::Unproved(..) => swept.unproved += 1,
        // Somebody else deletes here: the next sweep plans anew.
        Refused::Changed(_) => {}
        Refused::Failed(error) => return Err(error),
    }
    Ok(())
}

/// How long to wait after the n-th aggregate, so that no more than `per_second` are looked at: clocks know no
/// parts of a millisecond, so the fast ones wait after several together.
fn pause_ms(nth: u64, per_second: u64) -> Option<u64> {
    let per_second = per_second.max(1);
    let together = per_second.div_ceil(50);
    nth.is_multiple_of(together).then(|| (together * 1_000).div_ceil(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_whether_slow_or_fast() {
        for per_second in [0_u64, 1, 3, 50, 200, 999, 1_000, 1_001, 1_500, 30_000, 100_000] {
            let wanted = per_second.max(1);
            let waited: u64 = (1..=wanted * 10).filter_map(|nth| pause_ms(nth, per_second)).sum();
            assert!((9_500..=11_000).contains(&waited), "{per_second}: {waited} ms for ten seconds' worth");
        }
    }
}
