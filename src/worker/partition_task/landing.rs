//! Before a partition starts again without the erased, its checkpoint that is on its way ends. Whoever starts
//! while that has no row yet does not know of it: it would be listed, with what it holds of the erased, until
//! another owner comes, and its pack would stay as long.
//!
//! *If it fails*: a checkpoint that is given up is waited for no longer; should its row be there all the
//!   same, the next owner finds it.
//! *If cancelled*: as for a worker that dies.

use super::{Command, Task};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::partition::Input;
use futures_channel::mpsc;
use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use std::sync::Arc;

impl Task {
    /// Waits for that; false if the partition is given up meanwhile.
    pub(super) async fn land(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
        let is_flying = self.partition.low_after_checkpoint().is_some();
        let mut waits = self.is_restarting && is_flying && !mutant(Mutant::CheckpointOvertaken);
        let (clock, tick_ms) = (Arc::clone(&self.components.clock), self.components.settings.tick_ms);
        let mut tick = clock.sleep(tick_ms).fuse();
        while waits {
            self.turn();
            futures_util::select_biased! {
                input = self.io.select_next_some() => {
                    let ended = |input: &Input| {
                        matches!(input, Input::CheckpointStored(..) | Input::CheckpointAbandoned(_))
                    };
                    waits = !input.as_ref().is_some_and(ended);
                }
                command = commands.next() => match command {
                    Some(Command::Drain(done)) => {
                        let _ = done.send(());
                        return false;
                    }
                    Some(Command::Halt(poison)) => self.stands_for = Some(poison),
                    // Nothing is in memory here any more. The flusher asks for no checkpoint before this one
                    // has ended, and who else is erased is read at the start.
                    Some(_) => {}
                    None => return false,
                },
                () = tick => tick = clock.sleep(tick_ms).fuse(),
            }
        }
        true
    }
}
