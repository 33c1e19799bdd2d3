//! Plans against a naive oracle: which versions can be had is found by trying every row again and again.

use super::*;
use crate::domain::compaction::{self, Aim, Depth, Order};
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PartitionNo};
use crate::domain::row::Trigger;
use proptest::prelude::*;

/// A row whose effective time is ten times its version, and its time of creation a hundred times.
fn row(kind: RecordKind, from: u64, version: u64, copy: u8) -> SnapshotRow {
    let n = i64::try_from(version).unwrap();
    let state = (kind == RecordKind::Full).then_some(Digest([1; 32]));
    SnapshotRow {
        key: AggregateKey { kind: "order".into(), id: "a".into() },
        lineage: Lineage(1),
        version: Version(version),
        pack: PackId::mint(Timestamp(n), [copy | (u8::from(kind == RecordKind::Full) << 4); 10]),
        kind,
        from_version: Version(from),
        partition: PartitionNo(0),
        first_offset: Offset(i64::try_from(from).unwrap()),
        last_offset: Offset(n - 1),
        leader_epoch: 0,
        effective_time: Timestamp(10 * n),
        created_at: Timestamp(100 * n),
        creation_ms: 1,
        trigger: Trigger::Events,
        event_type: "Changed".into(),
        chain: Digest([0; 32]),
        raw_bytes: 20,
        stored_bytes: 10,
        state_digest: state,
        state_bytes: state.map(|_| 5),
        deleted: false,
        quarantined: false,
        locator: Vec::new(),
    }
}

fn full(version: u64) -> SnapshotRow {
    row(RecordKind::Full, version.saturating_sub(1), version, 0)
}

fn events(from: u64, version: u64) -> SnapshotRow {
    row(RecordKind::Increment, from, version, 0)
}

/// Every version that can be had from rows alone.
fn oracle(rows: &[SnapshotRow]) -> BTreeSet<u64> {
    let mut had: BTreeSet<u64> = rows
        .iter()
        .filter(|row| row.kind == RecordKind::Full)
        .map(|row| row.version.0)
        .chain(Some(0))
        .collect();
    for row in rows.iter().filter(|row| row.kind == RecordKind::Segment) {
        had.extend(row.from_version.0..=row.version.0);
    }
    loop {
        let before = had.len();
        for row in rows.iter().filter(|row| row.kind == RecordKind::Increment) {
            let joined = had.range(row.from_version.0..row.version.0).next().copied();
            // From the first version within it that can be had, all later ones of it can.
            had.extend(joined.into_iter().flat_map(|at| at + 1..=row.version.0));
        }
        if had.len() == before {
            return had;
        }
    }
}

fn names(plan: &Plan) -> Vec<(RecordKind, u64)> {
    plan.go.iter().map(|row| (row.kind, row.version.0)).collect()
}

fn kept(plan: &Plan) -> Vec<(u64, Reason)> {
    plan.kept.iter().map(|(version, reason)| (version.0, *reason)).collect()
}

fn none() -> BTreeSet<Version> {
    BTreeSet::new()
}

fn newest(most: u32) -> Wanted {
    Wanted::Policy(Policy { snapshots_max: Some(most), taken_since: None })
}

#[test]
fn with_all_history_promised_only_states_are_thinned_and_events_stay() {
    let rows = [events(0, 5), full(5), events(5, 9), full(9), events(9, 12), full(12), events(12, 14)];
    let plan = plan(&rows, &none(), newest(1), Promise::Forever);
    assert_eq!(names(&plan), [(RecordKind::Full, 5), (RecordKind::Full, 9)]);
    assert_eq!(kept(&plan), [], "nothing else was wanted gone");
    assert_eq!(plan.deleted(), [Version(5), Version(9)]);
    assert_eq!(plan.freed_bytes(), 20);
    let relied: Vec<u64> = plan.relied.iter().map(|row| row.version.0).collect();
    assert_eq!(relied, [5, 9, 12, 12], "the events around them, and the base after them");
}

#[test]
fn a_state_that_newer_events_need_stays() {
    // Versions 6 to 8 were never kept as events: 8 alone leads on to 12.
    let rows = [events(0, 5), full(8), events(8, 12), full(12), events(12, 13)];
    let plan = plan(&rows, &none(), newest(1), Promise::Forever);
    assert_eq!((names(&plan), kept(&plan)), (vec![], vec![(8, Reason::NeededByIncrements)]));
}

#[test]
fn a_promise_for_some_time_lets_older_events_go_with_their_states() {
    let rows = [events(0, 5), full(5), events(5, 9), full(9), events(9, 12), events(12, 20), full(20)];
    let at = |time| plan(&rows, &none(), newest(1), Promise::Since(Timestamp(time)));
    // In force at 110 was version 9, 10 or 11: all of them must be had.
    let plan = at(110);
    assert_eq!(names(&plan), [(RecordKind::Increment, 5), (RecordKind::Full, 5), (RecordKind::Increment, 9)]);
    assert_eq!(kept(&plan)[0], (9, Reason::NeededByIncrements));
    assert_eq!(names(&at(49)), [(RecordKind::Full, 5), (RecordKind::Full, 9)], "nothing was in force then");
    assert_eq!(names(&at(i64::MAX)).len(), 5, "all below the newest state, which is promised");
}

#[test]
fn snapshots_alone_keep_the_newest_and_what_they_need() {
    let rows = [full(4), full(8), full(12), full(16)];
    let four = plan(&rows, &none(), newest(2), Promise::Snapshots);
    assert_eq!(names(&four), [(RecordKind::Full, 4), (RecordKind::Full, 8)]);
    let old = Policy { snapshots_max: None, taken_since: Some(Timestamp(1_200)) };
    let old = plan(&rows, &none(), Wanted::Policy(old), Promise::Snapshots);
    assert_eq!(old.deleted(), [Version(4), Version(8)]);
    let all = Policy { snapshots_max: Some(0), taken_since: Some(Timestamp(i64::MAX)) };
    let all = plan(&rows, &none(), Wanted::Policy(all), Promise::Snapshots);
    assert_eq!(kept(&all), [(16, Reason::Newest)]);
    // The newest snapshots are events here: the state that they go on from stays.
    let rows = [full(4), events(4, 8), events(8, 12), events(12, 16)];
    let some = plan(&rows, &none(), newest(2), Promise::Snapshots);
    assert_eq!((names(&some).len(), kept(&some).len()), (0, 2));
}

#[test]
fn pins_marks_and_the_newest_stay() {
    let mut marked = full(8);
    marked.quarantined = true;
    let rows = [events(0, 4), full(4), events(4, 8), marked, events(8, 12), full(12)];
    let pinned = BTreeSet::from([Version(4)]);
    let plan = plan(&rows, &pinned, Wanted::Below(Version(99)), Promise::Forever);
    let reasons = [(4, Reason::Pinned), (8, Reason::Quarantined), (12, Reason::Newest)];
    assert_eq!((names(&plan), kept(&plan)), (vec![], reasons.to_vec()));
}

#[test]
fn one_snapshot_goes_if_nothing_needs_it() {
    let rows = [events(0, 5), full(3), events(5, 9), full(9), events(9, 12)];
    let one = |version, promise| plan(&rows, &none(), Wanted::One(Version(version)), promise);
    assert_eq!(one(3, Promise::Forever).deleted(), [Version(3)], "its events are elsewhere");
    assert_eq!(kept(&one(5, Promise::Forever)), [(5, Reason::History)]);
    assert_eq!(kept(&one(9, Promise::Forever)), [(9, Reason::History)]);
    assert_eq!(one(9, Promise::Forever).deleted(), []);
    assert_eq!(one(5, Promise::Snapshots).deleted(), [Version(5)], "9 is whole");
    assert_eq!(kept(&one(9, Promise::Snapshots)), [(9, Reason::NeededByIncrements)]);
    assert_eq!(kept(&one(12, Promise::Snapshots)), [(12, Reason::Newest)]);
    assert_eq!(one(7, Promise::Snapshots), Plan::default());
}

#[test]
fn events_go_once_a_longer_stretch_holds_them() {
    let rows = [events(0, 5), full(5), events(5, 9), events(0, 9), events(9, 12)];
    let five = plan(&rows, &none(), Wanted::One(Version(5)), Promise::Forever);
    assert_eq!((five.deleted(), five.kept), (vec![Version(5)], vec![]));
    let mut relied: Vec<_> = five.relied.iter().map(|row| (row.from_version.0, row.version.0)).collect();
    relied.sort_unstable();
    assert_eq!(relied, [(0, 9), (5, 9), (9, 12)]);
    assert_eq!(
        kept(&plan(&rows, &none(), Wanted::One(Version(9)), Promise::Forever)),
        [(9, Reason::History)]
    );
}

/// An increment that is merged already, beside its segments: whoever merges is about to delete it.
#[test]
fn a_segment_does_not_go_because_an_increment_holds_its_events() {
    let segment = |from, version| row(RecordKind::Segment, from, version, 1);
    let rows = [events(0, 19), full(19), segment(0, 3), segment(3, 15), segment(15, 19), full(40)];
    let merged = compaction::plan(&rows, &order());
    assert!(merged.superseded.contains(&rows[0]));
    let below = Wanted::Below(Version(16));
    assert_eq!(plan(&rows, &none(), below, Promise::Forever).go, []);
    // A larger one may stand in.
    let rows = [&rows[..], &[segment(0, 19)]].concat();
    assert_eq!(
        names(&plan(&rows, &none(), below, Promise::Forever)),
        [(RecordKind::Segment, 3), (RecordKind::Segment, 15)]
    );
}

fn order() -> Order {
    Order {
        aim: Aim::Merge,
        depth: Depth::All,
        events_max: 256,
        keep_full: 1,
        events_stay: true,
        pinned: none(),
    }
}

fn any_rows() -> impl Strategy<Value = Vec<SnapshotRow>> {
    let piece = (0u64..12, 1u64..6, 0u8..3, any::<bool>(), prop::bool::weighted(0.05));
    prop::collection::vec(piece, 1..14).prop_map(|pieces| {
        let mut rows = Vec::new();
        for (from, len, copy, is_full, marked) in pieces {
            let mut new = match is_full {
                true => row(RecordKind::Full, from, from + len, copy),
                false => row(RecordKind::Increment, from, from + len, copy),
            };
            new.quarantined = marked;
            let is_new = |kept: &SnapshotRow| (kept.version, kept.pack) != (new.version, new.pack);
            if rows.iter().all(is_new) {
                rows.push(new);
            }
        }
        rows
    })
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let policy = (prop::option::of(0u32..4), prop::option::of(0i64..1_800));
    prop_oneof![
        policy.prop_map(|(snapshots_max, since)| Wanted::Policy(Policy {
            snapshots_max,
            taken_since: since.map(Timestamp)
        })),
        (0u64..18).prop_map(|version| Wanted::Below(Version(version))),
        (0i64..180).prop_map(|time| Wanted::Before(Timestamp(time))),
        (0u64..18).prop_map(|version| Wanted::One(Version(version))),
    ]
}

fn any_promise() -> impl Strategy<Value = Promise> {
    let since = (0i64..200).prop_map(|time| Promise::Since(Timestamp(time)));
    prop_oneof![Just(Promise::Forever), since, Just(Promise::Snapshots)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Goal: no promise is broken and nothing is kept without a reason. Method: what the oracle has before
    /// and after; and each state that was kept because events need it, taken away after all.
    #[test]
    fn plans_keep_what_is_promised_and_no_more(
        rows in any_rows(),
        pins in prop::collection::btree_set((0u64..18).prop_map(Version), 0..2),
        wanted in any_wanted(),
        promise in any_promise(),
    ) {
        let plan = plan(&rows, &pins, wanted, promise);
        let goes = |row: &SnapshotRow| plan.go.contains(row);
        let left: Vec<SnapshotRow> = rows.iter().filter(|row| !goes(row)).cloned().collect();
        let (before, after) = (oracle(&rows), oracle(&left));
        let newest = rows.iter().map(|row| row.version).max().unwrap();
        for row in &plan.go {
            prop_assert!(row.version < newest && !row.quarantined && !pins.contains(&row.version));
        }
        // What must still be had: what was promised, and the snapshots that are still there.
        let until = |time| rows.iter().filter(move |row| row.effective_time <= time);
        let in_force = |time| until(time).map(|row| row.version.0).max();
        let first = match promise {
            Promise::Forever => 1,
            Promise::Since(time) => in_force(time).unwrap_or(1),
            Promise::Snapshots => newest.0,
        };
        for version in before.iter().filter(|version| **version >= first) {
            prop_assert!(after.contains(version), "version {} is lost: {:?}", version, names(&plan));
        }
        for row in &left {
            let had = before.contains(&row.version.0);
            prop_assert!(!had || after.contains(&row.version.0), "snapshot {} is stranded", row.version);
        }
        let needless = |version: Version| {
            let without: Vec<SnapshotRow> = left
                .iter()
                .filter(|row| !(row.version == version && row.kind == RecordKind::Full))
                .cloned()
                .collect();
            let without_it = oracle(&without);
            let promised = before.range(first.min(version.0)..).all(|had| without_it.contains(had));
            let there = |version: &u64| !before.contains(version) || without_it.contains(version);
            promised && left.iter().all(|row| there(&row.version.0))
        };
        for (version, reason) in &plan.kept {
            let is_there = |kind| left.iter().any(|row| row.version == *version && row.kind == kind);
            let (is_whole, has_events) = (is_there(RecordKind::Full), is_there(RecordKind::Increment));
            // With less promised, a base is chosen so that the events below it may go.
            let chosen = promise == Promise::Forever && *reason == Reason::NeededByIncrements;
            if chosen && is_whole && !has_events {
                prop_assert!(!needless(*version), "{} stays for nothing", version);
            }
        }
        // What is relied on stays, and with what lies beyond it carries what was promised.
        for row in &plan.relied {
            prop_assert!(!goes(row));
        }
    }

    /// Goal: whoever merges history at the same time, from the same rows, does not delete what this relies
    /// on, nor the other way round. Method: both plans of random rows, done at once.
    #[test]
    fn a_deletion_and_a_merge_of_the_same_rows_lose_nothing_together(
        rows in any_rows(),
        merged in prop::collection::vec((0u64..12, 1u64..6), 0..4),
        wanted in any_wanted(),
        promise in any_promise(),
        order in any_order(),
    ) {
        let mut rows = rows;
        let segments = merged.into_iter().map(|(from, len)| row(RecordKind::Segment, from, from + len, 3));
        rows.extend(segments);
        rows.sort_by_key(|row| (row.version, row.pack));
        rows.dedup_by_key(|row| (row.version, row.pack));
        let order = Order { events_stay: promise == Promise::Forever, ..order };
        let (deletion, merge) = (plan(&rows, &none(), wanted, promise), compaction::plan(&rows, &order));
        let goes = |row: &SnapshotRow| deletion.go.contains(row) || merge.superseded.contains(row);
        let mut left: Vec<SnapshotRow> = rows.iter().filter(|row| !goes(row)).cloned().collect();
        let written = merge.segments.iter();
        left.extend(written.map(|new| row(RecordKind::Segment, new.from.0, new.upto.0, 4)));
        let (before, after) = (oracle(&rows), oracle(&left));
        let newest = rows.iter().map(|row| row.version).max().unwrap();
        let first = match promise {
            Promise::Forever => 1,
            Promise::Since(time) => {
                let in_force = rows.iter().filter(|row| row.effective_time <= time);
                in_force.map(|row| row.version.0).max().unwrap_or(1)
            }
            Promise::Snapshots => newest.0,
        };
        // What was not promised and stays all the same is there as far as the deletion alone leaves it.
        let stays: Vec<SnapshotRow> =
            rows.iter().filter(|row| !deletion.go.contains(row)).cloned().collect();
        let alone = oracle(&stays);
        let kept = stays.iter().map(|row| row.version.0).filter(|version| alone.contains(version));
        for version in before.iter().copied().filter(|version| *version >= first).chain(kept) {
            let is_lost = before.contains(&version) && !after.contains(&version);
            prop_assert!(!is_lost, "version {} is lost: {:?}", version, (&deletion.go, &merge));
        }
    }
}

fn any_order() -> impl Strategy<Value = Order> {
    let aim = prop_oneof![Just(Aim::Merge), Just(Aim::Thin)];
    let depth = prop_oneof![Just(Depth::Full), Just(Depth::All)];
    (aim, depth, 1usize..6, 1usize..3).prop_map(|(aim, depth, events_max, keep_full)| Order {
        aim,
        depth,
        events_max,
        keep_full,
        ..order()
    })
}
