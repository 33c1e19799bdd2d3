//! Loaded states that lie beyond the position: another owner folded further, and its rows are read before
//! its events are. Until the position has passed them, only they tell that the log was cut in between: the
//! position is below the cut, and what comes in place of the lost events would count as folded already.
//!
//! INVARIANT: under the leader epoch that the task knows, each of them was found in the log.

use crate::domain::ids::Offset;
use crate::domain::partition::{Epochs, Input, Loaded, reach};

/// How far loaded states and rows come, by leader epoch.
#[derive(Debug, Default)]
pub(super) struct Ahead(Epochs);

impl Ahead {
    /// What a completion brings from beyond the low watermark.
    pub(super) fn of(input: &Input, low_watermark: Offset) -> Epochs {
        let mut epochs = Epochs::new();
        if let Input::Loaded(load) = input
            && let Ok(loaded) = &load.result
        {
            let Loaded { aggregate, rows, .. } = &**loaded;
            let ends = rows.iter().map(|row| (row.leader_epoch, row.last_offset));
            for (epoch, last) in ends.chain([(aggregate.leader_epoch, aggregate.offset)]) {
                if last >= low_watermark {
                    reach(&mut epochs, epoch, last);
                }
            }
        }
        epochs
    }

    /// Notes what was found in the log.
    pub(super) fn note(&mut self, reached: &Epochs) {
        reached.iter().for_each(|(epoch, last)| reach(&mut self.0, *epoch, *last));
    }

    /// All that the position has not passed.
    pub(super) fn beyond(&mut self, position: Offset) -> &Epochs {
        self.0.retain(|_, last| *last >= position);
        &self.0
    }
}
