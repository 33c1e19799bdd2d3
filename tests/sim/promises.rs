//! What a seed promises to keep (`history`), and which versions deletions may have taken: an account of its
//! own, kept from what was asked to be deleted, never from what readers say is left.
//!
//! *What must be answered*: every version from the first state on that is stored at or above all of which a
//! row was let go; with a duration also those in force at the latest moment that a deletion kept, and later;
//! and whatever a state is stored of.

use crate::rng::Rng;
use snapfold::domain::ids::{Timestamp, Version};
use snapfold::domain::retention::{Plan, Promise};
use snapfold::upkeep::retention::History;
use std::collections::{BTreeMap, BTreeSet};

/// Percent of the seeds in which history is promised for ever.
const FOREVER_PERCENT: u32 = 60;

/// `history` of a seed; where no events are kept, only snapshots can be promised.
pub(crate) fn of_seed(seed: u64, keeps_events: bool) -> History {
    // A generator of its own: what a seed means otherwise stays as it was.
    let mut rng = Rng::new(seed ^ 0x9157_04e5);
    let lasting_ms = rng.between(200, 4_000);
    let (is_forever, is_lasting) = (rng.percent(FOREVER_PERCENT), rng.percent(50));
    match (keeps_events, is_forever, is_lasting) {
        (true, true, _) => History::Forever,
        (true, false, true) => History::Ms(lasting_ms),
        _ => History::Snapshots,
    }
}

/// What deletions may have taken of each aggregate.
#[derive(Debug, Default)]
pub(crate) struct Forgotten(BTreeMap<String, Taken>);

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// The newest version of which a row was let go.
    upto: u64,
    /// The latest moment whose version was to be kept, in milliseconds; none where none was.
    since: Option<i64>,
}

/// From which version on all must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Of states.
    pub(crate) states: u64,
    /// Of events.
    pub(crate) events: u64,
}

impl Forgotten {
    /// A deletion is about to do this.
    pub(crate) fn note(&mut self, id: &str, promise: Promise, plan: &Plan) {
        let Some(newest) = plan.go.iter().map(|row| row.version.0).max() else { return };
        let since = match promise {
            // Nothing that is promised may go with it.
            Promise::Forever => return,
            Promise::Since(Timestamp(since)) => Some(since),
            Promise::Snapshots => None,
        };
        let taken = self.0.entry(id.to_owned()).or_insert(Taken { upto: 0, since });
        taken.upto = taken.upto.max(newest);
        taken.since = taken.since.zip(since).map(|(before, since)| before.max(since));
    }

    /// What must be there of an aggregate; `in_force` says which version was at a moment, `stored` of which
    /// versions there are states, `known` of which there were some when it was asked. Whoever asked before a
    /// state was stored may not have met it.
    pub(crate) fn kept(
        &self,
        id: &str,
        in_force: impl Fn(i64) -> u64,
        stored: &BTreeSet<u64>,
        known: &BTreeSet<u64>,
    ) -> Kept {
        let Some(taken) = self.0.get(id) else { return Kept { states: 1, events: 1 } };
        let mut bases = stored.range(taken.upto..).copied();
        let base = bases.find(|version| known.contains(version));
        let base = base.or_else(|| stored.last().copied()).unwrap_or(taken.upto + 1).max(1);
        let states = taken.since.map_or(base, |since| in_force(since).clamp(1, base));
        // The event of a version whose state is stored may go with those before it.
        Kept { states, events: states + 1 }
    }

    /// Nothing was deleted yet.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Whether "gone" names a version that can be had: above the one asked for, and none that must be there is
/// left out.
pub(crate) fn earliest_fits(wanted: u64, earliest: Option<Version>, kept: u64) -> Result<(), String> {
    match earliest {
        Some(Version(earliest)) if earliest > wanted && earliest <= kept.max(wanted + 1) => Ok(()),
        other => Err(format!(
            "version {wanted} is gone, the earliest told {other:?}, all from {kept} on must be there"
        )),
    }
}
