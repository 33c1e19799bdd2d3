//! What an election of the partition's leader means for what was folded.
//!
//! INVARIANT: under the leader epoch that the task knows, the log has all that was folded, and all that an
//! owner before had promised when the task heard of it.

use super::Task;
use crate::domain::mutant::{Mutant, mutant};
use crate::worker::assignment::{Refusal, promises_broken, verify};

impl Task {
    /// Halts the partition if the log is no longer the one that was folded; false if the log did not say, or
    /// if what is read next may lie beyond the position.
    ///
    /// SUBTLE: reading comes further than the position where offsets hold no record. A log that was cut in
    /// between is the one that was folded, and goes on with events at offsets that were read past. So after
    /// an election records are read from the position again.
    pub(super) async fn verify(&mut self) -> bool {
        let (key, position, before) = (self.partition.key(), self.partition.position(), self.leader_epoch);
        let ahead = self.ahead.beyond(position);
        let epoch = match verify(&self.components, key.partition, position, before, ahead).await {
            Ok(Ok(epoch)) => epoch,
            Ok(Err(refusal)) => return self.refuse(&refusal),
            Err(_) => return false,
        };
        if epoch <= before {
            return true;
        }
        match promises_broken(&self.components, key, (before, epoch)).await {
            Ok(None) => {
                self.leader_epoch = epoch;
                mutant(Mutant::ReadOnAfterElection)
            }
            Ok(Some(refusal)) => self.refuse(&refusal),
            Err(_) => {
                self.components.clock.sleep(self.components.settings.retry_ms).await;
                false
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal) -> bool {
        self.partition.halt_from_outside(refusal.poison());
        self.publish();
        false
    }
}
