//! The index is three replicas behind quorums, no kinder and no harsher than its contract.

use super::{call, calm, fated};
use crate::ports::Fate;
use crate::ports::replica::Cell;
use crate::rng::Odds;
use crate::stats::Count;
use crate::world::World;
use snapfold::domain::ids::{AggregateKey, Lineage, Offset, PartitionNo};
use snapfold::domain::outcome::PortError;
use snapfold::domain::row::{PartitionKey, WatermarkRow};
use std::sync::Arc;

fn mark(low_watermark: i64) -> WatermarkRow {
    let key = PartitionKey { topic: "orders".into(), partition: PartitionNo(0), lineage: Lineage(1) };
    WatermarkRow { key, topic_id: 1, leader_epoch: 0, low_watermark: Offset(low_watermark) }
}

fn holders(world: &World, low_watermark: i64) -> usize {
    world.index.holders(&Cell::Watermark(Arc::new(mark(low_watermark))))
}

fn put(world: &World, low_watermark: i64) -> Result<(), PortError> {
    let put =
        |ports: crate::world::Ports| async move { ports.index.put_watermark(mark(low_watermark)).await };
    call(world, 60_000, put).expect("a call ends within a minute")
}

fn largest_read(world: &World) -> Option<Offset> {
    let read = |ports: crate::world::Ports| async move {
        let rows = ports.index.watermarks(&mark(0).key).await.expect("reads do not fail here");
        rows.into_iter().map(|row| row.low_watermark).max()
    };
    call(world, 60_000, read).expect("a call ends within a minute")
}

/// Goal: what was acknowledged, two replicas have, and every read sees. Method: the third replica never gets
/// it; many reads, so that each pair is asked.
#[test]
fn an_acknowledged_write_is_read_by_every_quorum() {
    let world = calm(1);
    let mut plan = world.gate.plan(Clone::clone);
    (plan.replica_lost, plan.read_repair) = (Odds(10_000), false);
    world.gate.set_plan(plan);
    for low_watermark in 1..=20 {
        assert_eq!(put(&world, low_watermark), Ok(()));
        assert_eq!(holders(&world, low_watermark), 2);
        assert_eq!(largest_read(&world), Some(Offset(low_watermark)));
    }
    assert!(world.sim.stats().of(Count::RumourRead) > 0, "some pair had the replica that lacked it");
}

/// Goal: "unknown" means both. Method: one fate at a time; then time passes, for what comes late.
#[test]
fn each_fate_of_a_write_does_what_it_says() {
    for (fate, heard_unknown, most, least_ever) in [
        (Fate::Unheard, true, 3, 2),
        (Fate::Refused, false, 0, 0),
        (Fate::Lost, true, 0, 0),
        (Fate::Late, true, 3, 1),
        (Fate::Hung, true, 3, 1),
    ] {
        let world = calm(2);
        fated(&world, "put_watermark", fate);
        let (mut most_seen, mut came_later) = (0, false);
        for low_watermark in 1..=30 {
            let outcome = put(&world, low_watermark);
            assert_eq!(matches!(outcome, Err(PortError::Unknown(_))), heard_unknown, "{fate:?}: {outcome:?}");
            assert_eq!(
                matches!(outcome, Err(PortError::NotDone(_))),
                !heard_unknown,
                "{fate:?}: {outcome:?}"
            );
            let at_once = holders(&world, low_watermark);
            world.idle(10_000);
            let ever = holders(&world, low_watermark);
            came_later |= ever > at_once;
            most_seen = most_seen.max(ever);
        }
        assert!(most_seen <= most && most_seen >= least_ever, "{fate:?}: {most_seen} replicas");
        let late = matches!(fate, Fate::Late | Fate::Hung);
        assert_eq!(came_later, late, "{fate:?}: only late writes land behind their answer");
    }
}

/// Goal: a write that some replicas have is a rumour: some quorums see it, others do not. Method: late
/// writes, then reads until both were seen.
#[test]
fn a_partial_write_is_seen_by_some_reads_only() {
    let world = calm(3);
    let mut plan = world.gate.plan(Clone::clone);
    plan.read_repair = false;
    world.gate.set_plan(plan);
    fated(&world, "put_watermark", Fate::Late);
    let rumour = (1..=100).find(|low_watermark| {
        let unheard = put(&world, *low_watermark).is_err();
        world.idle(10_000);
        unheard && holders(&world, *low_watermark) == 1
    });
    let rumour = rumour.expect("a late write reaches one replica only, now and then");
    let seen: Vec<bool> = (0..40).map(|_| largest_read(&world) == Some(Offset(rumour))).collect();
    assert!(seen.contains(&true) && seen.contains(&false), "{seen:?}");
}

/// Goal: a killed caller's write happens all the same. Method: kill between sending and answer.
#[test]
fn a_kill_does_not_take_back_what_was_sent() {
    let world = calm(4);
    let ports = world.process("dying");
    let process = ports.process;
    let key = AggregateKey { kind: "order".into(), id: "a-1".into() };
    let cell = Cell::Aggregate(key.clone(), PartitionNo(0));
    world.sim.spawn(process, async move {
        let _ = ports.index.put_aggregate(&key, PartitionNo(0)).await;
    });
    assert!(world.sim.step_until(1_000), "the call is sent");
    world.sim.kill(process);
    world.idle(1_000);
    assert!(world.index.holders(&cell) >= 2);
}
