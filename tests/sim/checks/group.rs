//! The group and the log: who owns what, and what offsets mean.

use crate::plan::FaultPlan;
use crate::ports::producer::VersionMode;
use crate::stats::Count;
use crate::world::{Boot, Ports, Setup, World};
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::PortError;
use snapfold::kafka::GroupEvent;
use std::sync::Arc;

/// Members that only let go of what is asked back.
fn members(world: &World) {
    let boot: Boot = Arc::new(|ports: Ports| {
        Box::pin(async move {
            let group = &ports.streams[0].group;
            loop {
                if let GroupEvent::Revoked(partitions) = group.next().await {
                    group.released(&partitions);
                }
            }
        })
    });
    world.start_workers(boot);
}

fn partitions() -> impl Iterator<Item = PartitionNo> {
    (0..3).map(PartitionNo)
}

/// Runs, and counts the moments in which a partition had two believers.
fn moments_shared(world: &World, ms: u64) -> u64 {
    let mut shared = 0;
    world.run(ms, &mut |world| {
        let group = &world.groups["orders"];
        shared += partitions().filter(|partition| group.believers(*partition).len() > 1).count() as u64;
        Ok(())
    });
    shared
}

/// Goal: without faults of members, a partition has one owner at a time, however often it moves. Method:
/// kills and restless moves, looked at after every step.
#[test]
fn members_that_behave_never_share_a_partition() {
    for seed in 0..10 {
        let plan = FaultPlan { restless: true, ..FaultPlan::calm() };
        let world = World::planned(seed, Setup::orders(VersionMode::Given), plan);
        members(&world);
        let mut shared = 0;
        for _ in 0..10 {
            shared += moments_shared(&world, 1_000);
            world.sim.kill(world.workers()[0]);
        }
        shared += moments_shared(&world, 3_000);
        let stats = world.sim.stats();
        assert_eq!((shared, stats.of(Count::Overlap)), (0, 0), "seed {seed}");
        assert!(stats.of(Count::Revoke) > 0 && stats.of(Count::SessionTimeout) > 0, "seed {seed}: {stats:?}");
        assert!(partitions().all(|at| world.groups["orders"].owner(at).is_some()), "seed {seed}");
    }
}

/// Goal: a frozen member is a zombie, and every overlap is declared. Method: pauses beyond the session time.
#[test]
fn a_frozen_member_shares_its_partition_and_the_overlap_is_counted() {
    let mut shared = 0;
    let mut declared = 0;
    for seed in 0..10 {
        let world = World::planned(seed, Setup::orders(VersionMode::Given), FaultPlan::calm());
        members(&world);
        world.idle(1_000);
        world.sim.pause(world.workers()[0], world.sim.now() + 3_000);
        let moments = moments_shared(&world, 5_000);
        let overlaps = world.sim.stats().of(Count::Overlap);
        assert_eq!(moments > 0, overlaps > 0, "seed {seed}: {moments} moments, {overlaps} overlaps");
        shared += u64::from(moments > 0);
        declared += overlaps;
        assert_eq!(moments_shared(&world, 1_000), 0, "seed {seed}: the zombie has heard");
    }
    assert!(shared > 0 && declared >= shared, "{shared} seeds shared, {declared} overlaps");
}

/// Goal: offsets come again only under a later epoch, and what is forgotten is `Missing`, never empty.
#[test]
fn truncation_and_retention_are_visible() {
    let world = World::planned(1, Setup::orders(VersionMode::Given), FaultPlan::calm());
    let (broker, at) = (&world.broker, PartitionNo(0));
    for number in 0..6 {
        let draft = broker.draft("a-1", &number.to_string());
        assert_eq!(broker.append("orders", at, draft), Ok(Offset(number)));
    }
    assert_eq!(broker.truncate("orders", at, Offset(4)).len(), 2);
    assert_eq!(broker.records_cut(), 2);
    assert_eq!(broker.append("orders", at, broker.draft("a-1", "again")), Ok(Offset(4)));
    assert_eq!(broker.epoch_end("orders", at, 0), Ok(Offset(4)));
    let all = broker.fetch("orders", at, Offset(0), Offset(99), 99).expect("nothing is forgotten yet");
    let epochs: Vec<i32> = all.records.iter().map(|record| record.leader_epoch).collect();
    assert_eq!(epochs, [0, 0, 0, 0, 1]);
    broker.retain("orders", at, Offset(3));
    assert!(matches!(broker.fetch("orders", at, Offset(2), Offset(99), 99), Err(PortError::Missing)));
    let left = broker.fetch("orders", at, Offset(3), Offset(99), 99).expect("the log starts here");
    assert_eq!(left.records.len(), 2);
    broker.create(&"orders".into(), 3);
    let bounds = broker.bounds("orders", at).expect("it was made again");
    assert_eq!((bounds.start, bounds.end, bounds.leader_epoch), (Offset(0), Offset(0), 0));
}
