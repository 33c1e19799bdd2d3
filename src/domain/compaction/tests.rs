//! Plans against an oracle that knows one version at a time.

use super::*;
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Timestamp};
use crate::domain::record::SegmentBody;
use crate::domain::row::Trigger;
use proptest::prelude::*;

const VERSIONS: u64 = 40;

fn row(kind: RecordKind, from: u64, upto: u64, bytes: u64, pack: u8) -> SnapshotRow {
    SnapshotRow {
        key: AggregateKey { kind: "order".into(), id: "a".into() },
        lineage: Lineage(1),
        version: Version(upto),
        pack: PackId([pack; 16]),
        kind,
        from_version: Version(from),
        partition: PartitionNo(0),
        first_offset: Offset(from as i64 + 1),
        last_offset: Offset(upto as i64),
        leader_epoch: 0,
        effective_time: Timestamp(upto as i64),
        created_at: Timestamp(0),
        creation_ms: 0,
        trigger: Trigger::Events,
        event_type: "Placed".into(),
        chain: Digest([0; 32]),
        raw_bytes: bytes,
        stored_bytes: bytes / 4,
        state_digest: None,
        state_bytes: None,
        deleted: false,
        quarantined: false,
        locator: Vec::new(),
    }
}

fn increment(from: u64, upto: u64) -> SnapshotRow {
    row(RecordKind::Increment, from, upto, (upto - from) * 100, 1)
}

fn full(version: u64) -> SnapshotRow {
    row(RecordKind::Full, 0, version, 500, 2)
}

fn order(depth: Depth) -> Order {
    Order {
        aim: Aim::Merge,
        depth,
        events_max: SegmentBody::EVENTS_MAX,
        keep_full: 1,
        events_stay: true,
        pinned: BTreeSet::new(),
    }
}

fn planned(plan: &Plan) -> Vec<(u64, u64)> {
    plan.segments.iter().map(|planned| (planned.from.0, planned.upto.0)).collect()
}

fn superseded(plan: &Plan) -> Vec<(RecordKind, u64)> {
    plan.superseded.iter().map(|row| (row.kind, row.version.0)).collect()
}

/// What is there after a plan: its segments; with `deletes`, without what it supersedes.
fn after(rows: &[SnapshotRow], plan: &Plan, deletes: bool, pack: u8) -> Vec<SnapshotRow> {
    let segment = |planned: &PlannedSegment| {
        let bytes = (planned.upto.0 - planned.from.0) * 100 + 50;
        row(RecordKind::Segment, planned.from.0, planned.upto.0, bytes, pack)
    };
    let stays = |row: &&SnapshotRow| !deletes || !plan.superseded.contains(row);
    rows.iter().filter(stays).cloned().chain(plan.segments.iter().map(segment)).collect()
}

/// Versions whose state rows give, one after the other: of a full record, of a segment's base, or of the
/// version before and its event.
fn answerable(rows: &[SnapshotRow]) -> BTreeSet<u64> {
    let mut known = BTreeSet::from([0]);
    for version in 1..=VERSIONS * 300 {
        let is_state = |row: &SnapshotRow| match row.kind {
            RecordKind::Full => row.version.0 == version,
            RecordKind::Segment => row.from_version.0 == version,
            RecordKind::Increment => false,
        };
        let has_event = |row: &SnapshotRow| {
            row.kind != RecordKind::Full && row.from_version.0 < version && version <= row.version.0
        };
        if rows.iter().any(is_state) || (known.contains(&(version - 1)) && rows.iter().any(has_event)) {
            known.insert(version);
        }
        if version > rows.iter().map(|row| row.version.0).max().unwrap_or(0) {
            break;
        }
    }
    known
}

#[test]
fn increments_below_the_newest_full_record_are_merged_and_what_is_above_stays() {
    let rows: Vec<SnapshotRow> =
        (0..8).map(|n| increment(n * 10, n * 10 + 10)).chain([full(30), full(60)]).collect();
    let plan = plan(&rows, &order(Depth::All));
    assert_eq!(planned(&plan), [(0, 60)]);
    let merged = (1..=6).map(|n| (RecordKind::Increment, n * 10));
    let mut expected: Vec<_> = merged.chain([(RecordKind::Full, 30)]).collect();
    expected.sort_by_key(|(kind, version)| (*version, *kind));
    assert_eq!(superseded(&plan), expected);
    assert_eq!((plan.reads, plan.freed_bytes()), (6, 6 * 250 + 125));
    assert!(super::plan(&rows, &order(Depth::Full)).is_empty(), "it may grow");
}

#[test]
fn without_a_full_record_nothing_is_touched() {
    assert!(plan(&[increment(0, 10), increment(10, 20)], &order(Depth::All)).is_empty());
    assert!(plan(&[], &order(Depth::All)).is_empty());
}

#[test]
fn marks_and_pins_stay() {
    let marked = SnapshotRow { quarantined: true, ..increment(20, 30) };
    let rows = [increment(0, 10), increment(10, 20), marked, full(10), full(20), full(40)];
    let order = Order { pinned: BTreeSet::from([Version(10)]), ..order(Depth::All) };
    let plan = plan(&rows, &order);
    assert_eq!(planned(&plan), [(0, 20)]);
    let (increment, full) = (RecordKind::Increment, RecordKind::Full);
    assert_eq!(superseded(&plan), [(increment, 10), (increment, 20), (full, 20)]);
}

#[test]
fn a_row_too_large_for_a_segment_becomes_several_and_is_not_merged_again() {
    let mut rows = vec![increment(0, 1_000), full(1_000)];
    let plan = plan(&rows, &order(Depth::Full));
    assert_eq!(planned(&plan), [(0, 250), (250, 500), (500, 750), (750, 1_000)]);
    assert_eq!(superseded(&plan), [(RecordKind::Increment, 1_000)]);
    rows = after(&rows, &plan, false, 9);
    let again = super::plan(&rows, &order(Depth::Full));
    assert_eq!((planned(&again), superseded(&again)), (vec![], vec![(RecordKind::Increment, 1_000)]));
    let heavy = row(RecordKind::Increment, 0, 10, 3 * EVENT_BYTES_MAX, 1);
    let plan = super::plan(&[heavy, full(10)], &order(Depth::Full));
    assert_eq!(planned(&plan), [(0, 3), (3, 6), (6, 10)]);
}

#[test]
fn history_that_starts_without_a_state_is_merged_from_the_first_state_on() {
    let rows = [increment(12, 20), increment(20, 30), increment(30, 40), full(20), full(50)];
    assert_eq!(planned(&plan(&rows, &order(Depth::All))), [], "it starts with a row that nothing leads to");
    let rows = [increment(20, 30), increment(30, 40), full(20), full(50)];
    assert_eq!(planned(&plan(&rows, &order(Depth::All))), [(20, 40)]);
}

#[test]
fn thinning_takes_full_records_that_events_lead_to_and_writes_nothing() {
    let rows: Vec<SnapshotRow> =
        [increment(0, 10), increment(10, 20), full(10), full(20), full(30), full(40)].into();
    let order = |keep_full| Order { aim: Aim::Thin, keep_full, ..order(Depth::All) };
    assert_eq!(superseded(&plan(&rows, &order(1))), [(RecordKind::Full, 10), (RecordKind::Full, 20)]);
    assert_eq!(superseded(&plan(&rows, &order(3))), [(RecordKind::Full, 10)]);
    assert!(plan(&rows, &order(1)).segments.is_empty());
}

prop_compose! {
    fn any_row()(
        kind in 0..3_u8, from in 0..VERSIONS, len in 1..12_u64, wide in 1..40_u64, marked in 0..12_u8,
        pack in 1..9_u8,
    ) -> SnapshotRow {
        let kind = [RecordKind::Increment, RecordKind::Full, RecordKind::Segment][usize::from(kind)];
        // Versions far apart, so that rows are too large for a segment now and then.
        let upto = from * wide + len * wide;
        let from = if kind == RecordKind::Full { 0 } else { from * wide };
        let row = row(kind, from, upto, (upto - from) * 300, pack);
        let is_segment = kind == RecordKind::Segment;
        SnapshotRow { quarantined: marked == 0 && !is_segment, ..row }
    }
}

/// Rows as a worker writes them: increments one after the other, full records now and then, holes.
fn history() -> impl Strategy<Value = Vec<SnapshotRow>> {
    let steps = prop::collection::vec((1..60_u64, 0..10_u8), 1..30);
    steps.prop_map(|steps| {
        let mut at = 0;
        let mut rows = Vec::new();
        for (len, what) in steps {
            if what != 0 {
                rows.push(increment(at, at + len));
            }
            at += len;
            if what < 3 {
                rows.push(full(at));
            }
        }
        rows
    })
}

fn check(rows: &[SnapshotRow], order: &Order) -> Result<(), TestCaseError> {
    let before = answerable(rows);
    let plan = plan(rows, order);
    for planned in &plan.segments {
        let events = planned.upto.0 - planned.from.0;
        prop_assert!((1..=SegmentBody::EVENTS_MAX as u64).contains(&events), "{planned:?}");
        let is_known = (planned.from.0..=planned.upto.0).all(|version| before.contains(&version));
        prop_assert!(is_known, "{planned:?} cannot be folded");
    }
    let stays = after(rows, &plan, true, 99);
    let left: Vec<u64> = before.difference(&answerable(&stays)).copied().collect();
    prop_assert!(left.is_empty(), "{left:?} are gone");
    let newest =
        |rows: &[SnapshotRow]| rows.iter().map(|row| (row.version, row.kind == RecordKind::Full)).max();
    prop_assert_eq!(newest(rows), newest(&stays));
    Ok(())
}

proptest! {
    /// Goal: no version is lost, and what is planned can be folded. Method: any rows whatever.
    #[test]
    fn nothing_that_was_answerable_is_lost(
        rows in prop::collection::vec(any_row(), 0..20), all: bool, thin: bool, keep_full in 0..3_usize,
        events_max in 0..300_usize,
    ) {
        let aim = if thin { Aim::Thin } else { Aim::Merge };
        let depth = if all { Depth::All } else { Depth::Full };
        let pinned = BTreeSet::new();
        check(&rows, &Order { aim, depth, events_max, keep_full, events_stay: true, pinned })?;
    }

    /// Goal: history is written once. Method: real histories, compacted until nothing is planned, with and
    /// without a store that deletes.
    #[test]
    fn compaction_comes_to_an_end(rows in history(), all: bool, deletes: bool) {
        let order = order(if all { Depth::All } else { Depth::Full });
        let mut rows = rows;
        for round in 0.. {
            check(&rows, &order)?;
            let plan = plan(&rows, &order);
            if plan.segments.is_empty() {
                break;
            }
            prop_assert!(round < 3, "{:?} in round {round}", planned(&plan));
            rows = after(&rows, &plan, deletes, 10 + round);
        }
    }
}
