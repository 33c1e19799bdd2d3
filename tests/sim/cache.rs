//! States that readers of a simulated process keep, and directed scenarios of what is told beside them.

use crate::executor::lock;
use futures_util::future::BoxFuture;
use snapfold::domain::aggregate::Aggregate;
use snapfold::domain::ids::Version;
use snapfold::lookup::{Cache, CacheKey, CacheStats};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The twin of the full build's cache: the same promise, without clock and budget.
#[derive(Default)]
pub(crate) struct TinyCache(Mutex<BTreeMap<CacheKey, BTreeMap<Version, Arc<Aggregate>>>>);

impl Cache for TinyCache {
    fn newest<'a>(&'a self, key: &'a CacheKey, version: Version) -> BoxFuture<'a, Option<Arc<Aggregate>>> {
        let states = lock(&self.0);
        let newest = states.get(key).and_then(|states| states.range(..=version).next_back());
        Box::pin(std::future::ready(newest.map(|(_, at)| Arc::clone(at))))
    }

    fn keep(&self, key: CacheKey, aggregate: Arc<Aggregate>) -> BoxFuture<'_, ()> {
        let mut states = lock(&self.0);
        let states = states.entry(key).or_default();
        states.insert(aggregate.version, aggregate);
        if states.len() > 3 {
            states.pop_first();
        }
        Box::pin(std::future::ready(()))
    }

    fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

#[cfg(not(feature = "runtime"))]
pub(crate) mod scenarios {
    use crate::executor::ProcessId;
    use crate::ports::producer::VersionMode;
    use crate::stage::{HERE, Stage, TOPIC};
    use crate::subject::Subject;
    use crate::world::Outcome;
    use snapfold::domain::ids::{Offset, Version};
    use snapfold::lookup::{Freshness, Selector};

    /// `a` has two events in a snapshot, and a third that only a live checkpoint holds. Its owner holds none.
    fn third_version_in_a_checkpoint() -> (Stage, ProcessId) {
        let stage = Stage::of(Subject::staged(VersionMode::Given).with_cache());
        let owner = stage.worker("owner");
        stage.events(1..=2);
        stage.snapshot(owner);
        stage.events(3..=3);
        stage.until("all is covered", || stage.acked() == Some(Offset(3)));
        stage.world.sim.kill(owner);
        let next = stage.worker("next");
        stage.world.idle(1_000);
        (stage, next)
    }

    /// The newest version that the answer for version 2 tells of.
    fn head_told(stage: &Stage, worker: ProcessId) -> Option<Version> {
        let (_, lookup) = stage.asked_of(worker);
        let asked = stage.world.ask(600_000, move |_| async move {
            lookup.state("a", Selector::Version(Version(2)), Freshness::default()).await
        });
        asked.expect("it is answered").ok().and_then(|answer| answer.head_version)
    }

    /// The state is kept, and what the owner knows is all that tells of the third event.
    pub(crate) fn kept_state_and_an_entry() -> Outcome {
        let (stage, next) = third_version_in_a_checkpoint();
        let told = [head_told(&stage, next), head_told(&stage, next)];
        if told != [Some(Version(3)); 2] {
            stage.world.sim.violation(format!("the head is 3, and {told:?} was told"));
        }
        stage.ask_all()
    }

    /// The log loses the third event, which the owner has not heard.
    pub(crate) fn kept_state_and_an_entry_of_a_lost_event() -> Outcome {
        let (stage, next) = third_version_in_a_checkpoint();
        head_told(&stage, next);
        stage.world.broker.truncate(TOPIC, HERE, Offset(2));
        stage.append_to("b", 1, "s1");
        let told = head_told(&stage, next);
        if told == Some(Version(3)) {
            stage.world.sim.violation("an event that the log has lost is told of".to_owned());
        }
        stage.world.finish()
    }
}
