//! What it costs to reconstruct an aggregate of this partition: a base (to find its rows and to read its
//! full record) and a share for each event since that record. Both are learnt from loads, smoothed, and say
//! when a snapshot would make reading faster.

/// What a load takes until the first one was measured, in microseconds and in nanoseconds.
const BASE_US: u64 = 1_000;
const EVENT_NS: u64 = 5_000;
/// From so many events on a load tells what an event costs; below, what its base does.
const EVENTS_MANY: u64 = 64;
/// Each measurement counts for so many parts of eight.
const PARTS: u64 = 1;
/// A measurement counts as at most so many times of what was known, and at least as that part.
const OUTLIER: u64 = 4;
/// Of the target, the events must take at least this part: else a snapshot wins nothing.
const EVENTS_PART: u64 = 4;

/// Costs as they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Microseconds of a load without events.
    pub base_us: u64,
    /// Nanoseconds of each event.
    pub event_ns: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { base_us: BASE_US, event_ns: EVENT_NS }
    }
}

fn smoothed(known: u64, measured: u64) -> u64 {
    let measured = measured.clamp(known / OUTLIER, known.saturating_mul(OUTLIER).max(1));
    (known * (8 - PARTS) + measured * PARTS).div_ceil(8)
}

impl Costs {
    /// A load of so many events took so long.
    pub(super) fn learn(&mut self, took_us: u64, events: u64) {
        if events >= EVENTS_MANY {
            let of_events_us = took_us.saturating_sub(self.base_us);
            self.event_ns = smoothed(self.event_ns, of_events_us.saturating_mul(1_000) / events);
        } else {
            self.base_us = smoothed(self.base_us, took_us.saturating_sub(events * self.event_ns / 1_000));
        }
    }

    /// What a load of so many events takes, in microseconds.
    #[must_use]
    pub fn predicted_us(&self, events: u64) -> u64 {
        self.base_us.saturating_add(self.events_us(events))
    }

    fn events_us(&self, events: u64) -> u64 {
        events.saturating_mul(self.event_ns) / 1_000
    }

    /// Whether a full record is due after so many events, to keep within the target. Where the base alone
    /// takes longer, more snapshots do not help: then the events may take their share all the same.
    pub(super) fn is_due(&self, events: u64, target_us: u64) -> bool {
        self.predicted_us(events) > target_us && self.events_us(events) >= target_us / EVENTS_PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_learnt_from_loads_and_outliers_move_them_little() {
        let mut costs = Costs::default();
        for _ in 0..60 {
            costs.learn(300, 0);
            costs.learn(300 + 20 * 1_000, 1_000);
        }
        assert!((290..=320).contains(&costs.base_us), "{costs:?}");
        assert!((19_000..=21_000).contains(&costs.event_ns), "{costs:?}");
        let before = costs;
        costs.learn(60_000_000, 3);
        assert!(costs.base_us <= before.base_us * 11 / 8 + 1, "{costs:?}");
        for _ in 0..200 {
            costs.learn(0, 0);
            costs.learn(0, 100);
        }
        costs.learn(100, 0);
        assert!(costs.base_us >= 1 || costs.event_ns >= 1, "it can grow again");
    }

    #[test]
    fn a_record_is_due_when_reading_would_take_longer_than_the_target() {
        let costs = Costs { base_us: 2_000, event_ns: 10_000 };
        assert_eq!(costs.predicted_us(100), 3_000);
        assert!(!costs.is_due(1_800, 20_000) && costs.is_due(1_801, 20_000));
        let slow = Costs { event_ns: 100_000, ..costs };
        assert!(slow.is_due(181, 20_000), "as events take longer, records come earlier");
        let far = Costs { base_us: 50_000, ..costs };
        assert!(
            !far.is_due(499, 20_000) && far.is_due(500, 20_000),
            "a slow store is no reason for each event"
        );
    }
}
