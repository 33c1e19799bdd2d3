//! How snapshots are stored, and for `auto` which way costs fewer bytes, measured on what was stored.
//!
//! INVARIANT: a choice is about bytes alone. Whichever form a snapshot has, its version can be told from it;
//! versions between snapshots are the topic's where no events were stored with them, which `auto` is only
//! allowed where nothing else was promised (`history: snapshots`).

/// How snapshots of a stream are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The state; events stay in the topic.
    Full,
    /// The events, and the state too every `full_every` increments.
    Incremental {
        /// Increments between two full snapshots.
        full_every: u32,
    },
    /// Either of these: what costs fewer bytes, beginning with events.
    Auto {
        /// Increments between two full snapshots.
        full_every: u32,
        /// Snapshots between two choices.
        every: u32,
    },
}

impl Strategy {
    /// Every event is stored, so any version is known without the topic.
    #[must_use]
    pub fn keeps_events(self) -> bool {
        matches!(self, Self::Incremental { .. })
    }
}

/// One form is left for the other where it costs so many percent of that one's bytes at the most.
const CHEAPER_PERCENT: u128 = 90;

/// Numbers and bytes of one window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    snapshots: u64,
    event_bytes: u64,
    fulls: u64,
    full_bytes: u64,
}

/// What increments took while there were any.
#[derive(Clone, Copy, Debug)]
struct Increments {
    event_bytes: u64,
    stored_bytes: u64,
    /// Full records among so many snapshots.
    fulls: u64,
    snapshots: u64,
}

/// What became of one flush of one aggregate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landed {
    /// Snapshots, and full records among them.
    pub(super) snapshots: u64,
    pub(super) fulls: u64,
    /// Bytes of their events as the topic has them.
    pub(super) event_bytes: u64,
    /// Stored bytes of the increments; 0 if there were none.
    pub(super) increment_bytes: u64,
    /// Stored bytes of the newest full record.
    pub(super) full_bytes: Option<u64>,
}

/// The form that a partition's snapshots have, and what it was chosen by.
#[derive(Debug)]
pub(super) struct Form {
    strategy: Strategy,
    window: Window,
    increments: Option<Increments>,
    /// Of the window, what increments took.
    stored_bytes: u64,
    is_full: bool,
}

impl Form {
    pub(super) fn new(strategy: Strategy) -> Self {
        let is_full = strategy == Strategy::Full;
        Self { strategy, window: Window::default(), increments: None, stored_bytes: 0, is_full }
    }

    /// States alone are stored.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Offsets of events are kept for full records: there may be some without events.
    pub(super) fn keeps_trails(&self) -> bool {
        !self.strategy.keeps_events()
    }

    /// Increments between two full records where events are stored.
    pub(super) fn full_every(&self) -> u32 {
        match self.strategy {
            Strategy::Full => 1,
            Strategy::Incremental { full_every } | Strategy::Auto { full_every, .. } => full_every,
        }
    }

    /// Takes note of what was stored, and chooses anew once that was enough; true if the form is another now.
    pub(super) fn stored(&mut self, landed: Landed) -> bool {
        let Strategy::Auto { every, .. } = self.strategy else { return false };
        let window = &mut self.window;
        window.snapshots += landed.snapshots;
        window.event_bytes += landed.event_bytes;
        if let Some(bytes) = landed.full_bytes.filter(|_| landed.fulls > 0) {
            window.fulls += landed.fulls;
            // The others are about as large.
            window.full_bytes += bytes * landed.fulls;
        }
        self.stored_bytes += landed.increment_bytes;
        let is_enough = window.snapshots >= u64::from(every) && window.fulls > 0 && window.event_bytes > 0;
        is_enough && self.choose()
    }

    fn choose(&mut self) -> bool {
        let window = std::mem::take(&mut self.window);
        let stored_bytes = std::mem::take(&mut self.stored_bytes);
        if !self.is_full {
            let Window { snapshots, event_bytes, fulls, .. } = window;
            self.increments = Some(Increments { event_bytes, stored_bytes, fulls, snapshots });
        }
        let Some(increments) = self.increments else { return false };
        let wide = u128::from;
        // Per snapshot, times all denominators: full records alone, and events with some full records.
        let full = wide(window.full_bytes)
            * wide(increments.event_bytes)
            * wide(increments.snapshots)
            * wide(window.snapshots);
        let events = wide(increments.stored_bytes)
            * wide(window.event_bytes)
            * wide(increments.snapshots)
            * wide(window.fulls)
            + wide(window.full_bytes)
                * wide(increments.fulls)
                * wide(increments.event_bytes)
                * wide(window.snapshots);
        let (own, other) = if self.is_full { (full, events) } else { (events, full) };
        let is_left = other * 100 <= own * CHEAPER_PERCENT;
        self.is_full ^= is_left;
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto() -> Form {
        Form::new(Strategy::Auto { full_every: 4, every: 8 })
    }

    /// Snapshots of so many event bytes each, which are stored as half as much, and states of so many bytes.
    fn store(form: &mut Form, snapshots: u64, event_bytes: u64, state_bytes: u64) -> Vec<bool> {
        let one = |n| {
            let fulls = u64::from(form.is_full() || n % 4 == 0);
            form.stored(Landed {
                snapshots: 1,
                fulls,
                event_bytes,
                increment_bytes: if form.is_full() { 0 } else { event_bytes / 2 },
                full_bytes: (fulls > 0).then_some(state_bytes),
            });
            form.is_full()
        };
        (0..snapshots).map(one).collect()
    }

    #[test]
    fn small_states_beside_large_events_are_stored_alone_and_large_ones_are_not() {
        let mut small = auto();
        assert_eq!(store(&mut small, 9, 1_000, 100).iter().position(|is_full| *is_full), Some(7));
        assert!(store(&mut auto(), 64, 100, 1_000).iter().all(|is_full| !is_full));
    }

    #[test]
    fn a_choice_is_made_anew_when_what_is_stored_changes() {
        let mut form = auto();
        store(&mut form, 8, 1_000, 100);
        assert!(form.is_full());
        store(&mut form, 8, 1_000, 3_000);
        assert!(!form.is_full(), "states have grown");
        store(&mut form, 8, 1_000, 3_000);
        assert!(!form.is_full());
        store(&mut form, 8, 9_000, 3_000);
        assert!(form.is_full(), "events have grown");
    }

    #[test]
    fn what_costs_about_the_same_stays() {
        // 500 + state / 4 against the state: equal at 667.
        for state in [610, 640, 660] {
            let mut form = auto();
            store(&mut form, 64, 1_000, state);
            assert!(!form.is_full(), "{state}");
        }
    }

    #[test]
    fn other_strategies_choose_nothing() {
        let mut form = Form::new(Strategy::Incremental { full_every: 4 });
        store(&mut form, 64, 1_000, 10);
        assert!(!form.is_full() && !form.keeps_trails());
        let mut form = Form::new(Strategy::Full);
        store(&mut form, 64, 10, 1_000);
        assert!(form.is_full() && form.keeps_trails());
    }
}
