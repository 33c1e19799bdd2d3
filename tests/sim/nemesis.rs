//! What goes wrong by itself: kills, pauses, clock jumps, damage, elections, truncation, re-creation,
//! retention. Each has its own timer, drawn anew each time, and ends when the world is healed.

use crate::ports::blobs::Damage;
use crate::ports::clock::wall;
use crate::rng::Rng;
use crate::stats::Count;
use crate::world::Parts;
use snapfold::domain::ids::{Offset, PartitionNo};
use std::sync::Arc;

type Deed = fn(&Parts);

/// Starts all that the plan has.
pub(crate) fn start(world: &Parts) {
    let deeds: [(u64, Deed); 8] = world.gate.plan(|plan| {
        [
            (plan.kill_every_ms, kill as Deed),
            (plan.pause_every_ms, pause),
            (plan.clock_jump_every_ms, jump_clock),
            (plan.damage_every_ms, damage),
            (plan.election_every_ms, elect),
            (plan.truncation_every_ms, truncate),
            (plan.recreation_every_ms, recreate),
            (plan.retention_every_ms, retain),
        ]
    });
    for (every_ms, deed) in deeds {
        if every_ms > 0 {
            arm(world.clone(), every_ms, deed);
        }
    }
}

fn arm(world: Parts, every_ms: u64, deed: Deed) {
    let wait = world.sim.draw(|rng| rng.between(1, 2 * every_ms));
    let sim = world.sim.clone();
    sim.at(sim.now() + wait, move || {
        if !world.is_healed() {
            deed(&world);
            arm(world, every_ms, deed);
        }
    });
}

fn kill(world: &Parts) {
    let workers = world.workers();
    if !workers.is_empty() {
        let (victim, polls) = world.sim.draw(|rng| (*rng.pick(&workers), rng.below(12)));
        world.sim.kill_after(victim, u32::try_from(polls).unwrap_or(0));
    }
}

fn pause(world: &Parts) {
    let workers = world.workers();
    if !workers.is_empty() {
        let longest = world.gate.plan(|plan| plan.pause_ms);
        let (victim, ms) = world.sim.draw(|rng| {
            let ms = if rng.percent(50) { rng.between(1, longest) } else { rng.between(1, 1 + longest / 8) };
            (*rng.pick(&workers), ms)
        });
        world.sim.count(Count::Pause);
        world.sim.pause(victim, world.sim.now() + ms);
    }
}

fn jump_clock(world: &Parts) {
    let workers = world.workers();
    if !workers.is_empty() {
        let (victim, ms) = world.sim.draw(|rng| (*rng.pick(&workers), rng.below(7_200_001)));
        world.sim.count(Count::ClockJump);
        world.skews.set(victim, i64::try_from(ms).unwrap_or(0) - 3_600_000);
        world.sim.tell(|| format!("the world's wall clock is {}", wall(world.sim.now())));
    }
}

fn damage(world: &Parts) {
    if world.setup.damageable.is_empty() {
        return;
    }
    let (prefix, flip) = world.sim.draw(|rng| (rng.pick(&world.setup.damageable).clone(), rng.percent(70)));
    world.bucket.damage(&prefix, if flip { Damage::Flip } else { Damage::Loss });
}

fn some_partition(world: &Parts, rng: &mut Rng) -> (Arc<str>, PartitionNo) {
    let topics = world.broker.topics();
    let (topic, partitions) = rng.pick(&topics).clone();
    let partition = rng.below(u64::from(partitions.unsigned_abs()));
    (topic, PartitionNo(i32::try_from(partition).unwrap_or(0)))
}

fn elect(world: &Parts) {
    let (topic, partition) = world.sim.draw(|rng| some_partition(world, rng));
    world.broker.elect(&topic, partition);
}

fn truncate(world: &Parts) {
    let (topic, partition) = world.sim.draw(|rng| some_partition(world, rng));
    let Ok(bounds) = world.broker.bounds(&topic, partition) else { return };
    let there = u64::try_from(bounds.end.0 - bounds.start.0).unwrap_or(0);
    if there == 0 {
        return;
    }
    let (length, keep_counting) = world.sim.draw(|rng| (rng.between(1, there.min(25)), rng.percent(50)));
    let cut = Offset(bounds.end.0 - i64::try_from(length).unwrap_or(0));
    let acked = world.index.acked_watermark(&topic, partition, bounds.topic_id);
    if acked.is_some_and(|acked| acked > cut) {
        world.sim.count(Count::TruncatedBelowWatermark);
    }
    let gone = world.broker.truncate(&topic, partition, cut);
    // Where poison is on anyway, some producers go on as if nothing had happened, which leaves version gaps.
    let gaps = world.gate.plan(|plan| plan.poison.0 > 0);
    if !(gaps && keep_counting) {
        world.producer.truncated(&topic, &gone);
    }
}

fn recreate(world: &Parts) {
    let (topic, _) = world.sim.draw(|rng| some_partition(world, rng));
    let topics = world.broker.topics();
    for (name, partitions) in topics.iter().filter(|(name, _)| *name == topic) {
        world.broker.create(name, *partitions);
        world.producer.recreated(name);
    }
}

fn retain(world: &Parts) {
    let (topic, partition) = world.sim.draw(|rng| some_partition(world, rng));
    let Ok(bounds) = world.broker.bounds(&topic, partition) else { return };
    let protected = world.protected(&topic, partition);
    let past = world.gate.plan(|plan| plan.retention_past_watermark);
    let limit = if past { bounds.end } else { protected };
    let room = u64::try_from(limit.0 - bounds.start.0).unwrap_or(0);
    if room == 0 {
        return;
    }
    let start =
        Offset(bounds.start.0 + i64::try_from(world.sim.draw(|rng| rng.between(1, room))).unwrap_or(0));
    if start > protected {
        world.sim.count(Count::RetentionPastWatermark);
    }
    world.broker.retain(&topic, partition, start);
}
