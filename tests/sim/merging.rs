//! History that is merged while everything else goes on: of random aggregates, by whichever worker may own
//! them. What becomes of it is judged by all the questions that others ask.

use crate::executor::lock;
use crate::judge::Judge;
use crate::questions::able;
use crate::stats::Count;
use crate::subject::Fleet;
use crate::world::Parts;
use snapfold::domain::compaction::{Aim, Depth};
use snapfold::domain::error::ErrorKind;
use snapfold::upkeep::compaction::Wish;
use std::sync::{Arc, Mutex};

/// Asks one random live worker to compact a random aggregate.
pub(crate) fn compact_one(world: &Parts, fleet: &Fleet, judge: &Arc<Mutex<Judge>>) {
    let Some(workers) = able(world, fleet, judge) else { return };
    let (id, partition) = {
        let judge = lock(judge);
        let places = judge.places();
        if places.is_empty() {
            return;
        }
        let at = world.sim.draw(|rng| rng.index(places.len()));
        let (id, partition) = places.iter().nth(at).expect("it is among them");
        (id.clone(), *partition)
    };
    let wish = world.sim.draw(|rng| Wish {
        aim: if rng.percent(80) { Aim::Merge } else { Aim::Thin },
        depth: if rng.percent(85) { Depth::All } else { Depth::Full },
        keep_full: rng.index(3),
    });
    let (process, _, handle, _) = workers[world.sim.draw(|rng| rng.index(workers.len()))].clone();
    let Some(compactor) = lock(&fleet.compactors).get(&process).cloned() else { return };
    let world_too = world.clone();
    world.sim.spawn(process, async move {
        match compactor.compact(&handle, partition, &id, wish).await {
            Ok(Some(done)) => {
                world_too.sim.count(Count::Compaction);
                world_too.sim.count_more(Count::SegmentWritten, done.segments);
                world_too.sim.count_more(Count::RowSuperseded, done.deleted);
            }
            Ok(None) => {}
            // What is damaged stays as it is; everything else was not answered.
            Err(error) if error.code == "state-mismatch" => {
                world_too.sim.violation(format!("{id}: what is stored disagrees with the fold: {error}"));
            }
            Err(error) if error.kind == ErrorKind::Corrupt => {
                world_too.sim.count(Count::CompactionRefused);
            }
            Err(_) => {}
        }
    });
}
