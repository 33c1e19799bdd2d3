//! When a snapshot is due after an event, and what waits while a partition is held back.
//!
//! INVARIANT: age, memory, debt and whoever asks by hand are never held back.

use super::slot::SlotId;
use super::{Effect, Partition};
use crate::domain::ids::Offset;
use crate::domain::row::Trigger;

/// A range grows while its partition is held back, but not beyond so many thresholds: it stays in the history
/// for good, and each version in it is folded from far away.
const GROWN_MAX: u64 = 16;
/// Snapshots that were put off and are looked at in one tick.
const PUT_OFF_STEP: usize = 256;

impl Partition {
    /// Why a snapshot of this aggregate is due after its last event, if it is.
    fn due(&self, slot: SlotId) -> Option<Trigger> {
        let live = self.slots.get(slot).live()?;
        let settings = &self.settings;
        let events = live.aggregate.version.0 - live.since.version.0;
        if events == 0 {
            return None;
        }
        let amplified = match self.form.is_full() {
            true => settings.write_amplification_permille * u64::from(live.full_row_bytes),
            false => 0,
        };
        let state_bytes = live.aggregate.state.bytes_bound() as u64;
        let since_full = events + u64::from(live.since.since_full);
        if events >= settings.events_max && live.bytes_since() * 1000 >= amplified {
            Some(Trigger::Events)
        } else if live.bytes_since() >= settings.bytes_max
            || state_bytes >= u64::from(live.since.state_bytes) + settings.bytes_max
        {
            Some(Trigger::Bytes)
        } else if settings.adaptive_us.is_some_and(|target| self.costs.is_due(since_full, target)) {
            Some(Trigger::Adaptive)
        } else {
            None
        }
    }

    /// The same, unless it has to wait.
    pub(super) fn due_now(&mut self, slot: SlotId) -> Option<Trigger> {
        let trigger = self.due(slot)?;
        if !self.is_held_back() {
            return Some(trigger);
        }
        let (events_max, bytes_max) = (self.settings.events_max, self.settings.bytes_max);
        let live = self.slots.get_mut(slot).live_mut()?;
        let events = live.aggregate.version.0 - live.since.version.0;
        if events >= events_max.saturating_mul(GROWN_MAX)
            || live.bytes_since() >= bytes_max.saturating_mul(GROWN_MAX)
        {
            return Some(trigger);
        }
        if !std::mem::replace(&mut live.grown, true) {
            self.counts.put_off += 1;
            self.put_off.push_back(slot);
        }
        None
    }

    /// Whether snapshots wait that nothing presses for.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.pressure.is_on(self.now_ms)
    }

    /// The log ends here.
    pub(super) fn note_log_end(&mut self, end: Offset, effects: &mut Vec<Effect>) {
        let reached = self.reached();
        self.pressure.note(end, reached, self.settings.back_off, self.now_ms);
        self.take_put_off(effects);
    }

    /// Takes snapshots that were put off, once nothing holds them back.
    fn take_put_off(&mut self, effects: &mut Vec<Effect>) {
        if self.is_held_back() || self.draining != super::Draining::No {
            return;
        }
        for _ in 0..PUT_OFF_STEP {
            let Some(slot) = self.put_off.pop_front() else { return };
            // Another aggregate may be there by now, and what is due of that is due as well.
            if self.slots.live_or_gone(slot).is_some()
                && let Some(trigger) = self.due(slot)
            {
                self.cut(slot, trigger, effects);
                self.touch(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests;
