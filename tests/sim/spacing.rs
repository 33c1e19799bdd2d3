//! Scenarios of a hot aggregate whose flushes are slow, fail or never end: what is stored keeps the promised
//! spacing all the same.

use crate::executor::ProcessId;
use crate::plan::{CallFaults, FaultPlan};
use crate::ports::Fate;
use crate::rng::Odds;
use crate::stage::Stage;
use crate::subject::Subject;
use snapfold::domain::ids::Version;
use snapfold::domain::partition::{CUTS_MAX, Strategy};
use snapfold::domain::row::{RecordKind, SnapshotRow, Trigger};
use snapfold::reconstruct::{AsOf, Found};

/// Longer than any flush of these scenarios.
const NEVER_MS: u64 = 1 << 40;

/// Version ranges of the increments and versions of the full records of `a`, each once.
fn stored(stage: &Stage) -> (Vec<(u64, u64)>, Vec<u64>) {
    let index = stage.world.index.union();
    let rows: Vec<&SnapshotRow> = index.all_snapshots().collect();
    let of = |kind: RecordKind| rows.iter().filter(move |row| row.kind == kind);
    let mut ranges: Vec<(u64, u64)> =
        of(RecordKind::Increment).map(|row| (row.from_version.0, row.version.0)).collect();
    let mut fulls: Vec<u64> = of(RecordKind::Full).map(|row| row.version.0).collect();
    ranges.sort_unstable();
    ranges.dedup();
    fulls.sort_unstable();
    fulls.dedup();
    (ranges, fulls)
}

/// Ranges of `step` versions each, up to `last`.
fn ranges(step: u64, last: u64) -> Vec<(u64, u64)> {
    (0..last / step).map(|nth| (nth * step, (nth + 1) * step)).collect()
}

fn slow_index(stage: &Stage) {
    let index = CallFaults { slow: Odds(10_000), ..CallFaults::default() };
    stage.world.gate.set_plan(FaultPlan { index, read_repair: false, ..FaultPlan::calm() });
}

fn worker(stage: &Stage) -> ProcessId {
    let worker = stage.worker("worker");
    // It owns the partition before events come.
    stage.world.idle(1_000);
    worker
}

/// Goal: increments of `eventThreshold` events however slow flushes are, and a full record with each of them,
/// because the state is small beside its events. Method: 2,000 events while each index write takes up to 3 s;
/// then the rows, and what a version costs.
#[test]
fn a_hot_aggregate_keeps_its_spacing_while_flushes_are_slow() {
    let stage = Stage::of(Subject::spaced(100, Strategy::Incremental { full_every: 8 }, NEVER_MS));
    worker(&stage);
    slow_index(&stage);
    stage.events(1..=2_000);
    stage.world.idle(200_000);
    let fulls = (1..=20).map(|nth| nth * 100).collect();
    assert_eq!(stored(&stage), (ranges(100, 2_000), fulls));
    let flights = stage
        .world
        .index
        .union()
        .all_snapshots()
        .map(|row| row.pack)
        .collect::<std::collections::BTreeSet<_>>();
    assert!(flights.len() <= 8, "{} packs: the flushes were not slow", flights.len());
    stage.forget();
    for version in [1, 37, 100, 101, 799, 800, 801, 1_234, 1_999] {
        let found = stage.at(AsOf::Version(Version(version)));
        let Some(Found::State(aggregate, provenance)) = found else { panic!("{version}: {found:?}") };
        assert_eq!(aggregate.version, Version(version));
        assert!(provenance.events < 100, "{version}: {} events folded", provenance.events);
    }
    assert_eq!(stage.world.finish().violations, Vec::<String>::new());
}

/// Goal: answers from cuts are right, whatever the strategy. Method: the same, smaller; every question.
#[test]
fn what_cuts_hold_is_right() {
    for strategy in [Strategy::Full, Strategy::Incremental { full_every: 3 }] {
        let stage = Stage::of(Subject::spaced(5, strategy, NEVER_MS));
        worker(&stage);
        slow_index(&stage);
        stage.events(1..=113);
        stage.world.idle(60_000);
        let (increments, fulls) = stored(&stage);
        if strategy != Strategy::Full {
            assert_eq!(increments, ranges(5, 110));
            stage.forget();
        }
        assert!(fulls.windows(2).all(|pair| pair[1] - pair[0] <= 15), "{fulls:?}");
        assert_eq!(stage.ask_all().violations, Vec::<String>::new());
    }
}

/// Goal: cuts outlive a flush that is given up. Method: no row is acknowledged until several flushes were.
#[test]
fn cuts_wait_for_the_next_flush_when_one_is_given_up() {
    let stage = Stage::of(Subject::spaced(5, Strategy::Incremental { full_every: 4 }, 300));
    let worker = worker(&stage);
    stage.rule(worker, "put_snapshot", Fate::Refused, 100);
    stage.events(1..=100);
    stage.world.idle(10_000);
    assert_eq!(stored(&stage), (ranges(5, 100), vec![20, 40, 60, 80, 100]));
    stage.forget();
    assert_eq!(stage.ask_all().violations, Vec::<String>::new());
}

/// Goal: what waits is bounded, and the spacing holds all the same: records wait too. Method: more trips than
/// there may be cuts while nothing is acknowledged.
#[test]
fn records_wait_where_enough_cuts_do() {
    let stage = Stage::of(Subject::spaced(2, Strategy::Incremental { full_every: 4 }, NEVER_MS));
    let worker = worker(&stage);
    stage.rule(worker, "put_snapshot", Fate::Refused, 200);
    let all = CUTS_MAX as u64 * 3;
    stage.events(1..=all);
    stage.world.idle(20_000);
    assert_eq!(stored(&stage).0, ranges(2, all));
    stage.forget();
    assert_eq!(stage.ask_all().violations, Vec::<String>::new());
}

/// Goal: what live checkpoints hold of one aggregate is in few places. Method: an aggregate that no threshold
/// trips, with an event in each of many checkpoints.
#[test]
fn an_aggregate_in_many_checkpoints_becomes_a_snapshot() {
    let stage = Stage::of(Subject::spaced(1_000, Strategy::Incremental { full_every: 8 }, NEVER_MS));
    worker(&stage);
    (1..=32).for_each(|version| stage.events(version..=version));
    assert_eq!(stored(&stage), (vec![], vec![]));
    (33..=80).for_each(|version| stage.events(version..=version));
    let (increments, _) = stored(&stage);
    assert_eq!(increments, [(0, 33), (33, 66)]);
    let index = stage.world.index.union();
    assert!(index.all_snapshots().all(|row| row.trigger == Trigger::Debt));
    assert_eq!(stage.ask_all().violations, Vec::<String>::new());
}

/// Goal: a sweep takes every aggregate, and ends. Method: more aggregates than may be in flight, each with an
/// event in each of many checkpoints.
#[test]
fn checkpoints_of_many_aggregates_are_swept_together() {
    let stage = Stage::of(Subject::spaced(1_000, Strategy::Incremental { full_every: 8 }, NEVER_MS));
    worker(&stage);
    let ids: Vec<String> = (0..20).map(|nth| format!("a-{nth:02}")).collect();
    let mut most = 0;
    for version in 1..=100 {
        ids.iter().for_each(|id| stage.append_to(id, version, "x"));
        stage.world.idle(1_500);
        most = most.max(stage.listed().len());
    }
    assert!((32..=36).contains(&most), "{most} live checkpoints");
    let index = stage.world.index.union();
    let increments = || index.all_snapshots().filter(|row| row.kind == RecordKind::Increment);
    for id in &ids {
        let of_it = increments().filter(|row| *row.key.id == **id).count();
        assert!((2..=4).contains(&of_it), "{of_it} increments of {id}");
    }
    assert!(increments().all(|row| row.trigger == Trigger::Debt));
    assert_eq!(stage.ask_all().violations, Vec::<String>::new());
}
