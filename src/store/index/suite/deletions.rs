//! Deletions of snapshots, and holds, as every index keeps them.

use super::{key, pack, snapshot, walked};
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, Timestamp, Version};
use crate::domain::ledger::{DeletedRow, HoldRow};
use crate::store::index::{From, Index};

fn deletion(ms: i64) -> LedgerId {
    LedgerId::mint(Timestamp(ms), [1; 10])
}

/// Goal: what was deleted stays so, and nothing else goes. Method: copies of two versions; one copy goes
/// before it comes, one after it came, each by a clock that is far behind its writer's; then all is written
/// again.
pub(super) async fn stay_whatever_is_repeated(index: &dyn Index) {
    let (here, other) = (key("deleted", "a"), key("deleted", "a\0"));
    let rows: Vec<_> =
        [(3, 1), (3, 2), (7, 1), (7, 2)].map(|(version, n)| snapshot(&here, 1, version, pack(n))).into();
    let next_door = [snapshot(&other, 1, 3, pack(1)), snapshot(&here, 2, 3, pack(1))];
    for row in next_door.iter().chain(&rows[1..]) {
        index.put_snapshot(row.clone()).await.unwrap();
    }
    for gone in [&rows[0], &rows[3]] {
        index.delete_snapshot(&DeletedRow::of(gone), deletion(5)).await.unwrap();
    }
    let left = vec![(7, pack(1)), (3, pack(2))];
    for _ in 0..2 {
        assert_eq!(walked(index, &here, From::Newest, 9).await, left);
        assert_eq!(walked(index, &here, From::Above(Version(0)), 9).await, [left[1], left[0]]);
        index.put_snapshots(rows.clone()).await.unwrap();
    }
    assert_eq!(walked(index, &other, From::Newest, 9).await, [(3, pack(1))]);
    // Again, by a later clock, and one that never was.
    index.delete_snapshot(&DeletedRow::of(&rows[0]), deletion(1_900_000_000_000)).await.unwrap();
    let never = snapshot(&here, 1, 9, pack(9));
    index.delete_snapshot(&DeletedRow::of(&never), deletion(6)).await.unwrap();
    index.put_snapshot(never).await.unwrap();
    assert_eq!(walked(index, &here, From::Newest, 9).await, left);
    let many: Vec<_> = (100..140).map(|version| snapshot(&here, 1, version, pack(3))).collect();
    index.put_snapshots(many.clone()).await.unwrap();
    for (n, row) in many.iter().enumerate() {
        let at = deletion(1_700_000_000_000 + n as i64);
        index.delete_snapshot(&DeletedRow::of(row), at).await.unwrap();
    }
    index.put_snapshots(many).await.unwrap();
    assert_eq!(walked(index, &here, From::Newest, 99).await, left);
}

/// Goal: whichever of a rebuilt row and the one that its flush wrote comes later, one of them is there as a
/// whole; and a deletion takes both. Method: many versions, so that checksums are the larger ones on either
/// side.
pub(super) async fn a_rebuilt_row_and_the_one_of_its_flush_never_mix(index: &dyn Index) {
    let here = key("rebuilt", "a");
    let flushed: Vec<_> = (1..=24).map(|version| snapshot(&here, 1, version, pack(1))).collect();
    let rebuilt = flushed.iter().map(|row| crate::domain::row::SnapshotRow { creation_ms: 0, ..row.clone() });
    let rebuilt: Vec<_> = rebuilt.collect();
    for (n, (flushed, rebuilt)) in flushed.iter().zip(&rebuilt).enumerate() {
        let both = [flushed, rebuilt];
        for row in [both[n % 2], both[1 - n % 2]] {
            index.put_snapshot(row.clone()).await.unwrap();
        }
    }
    let rows = index.snapshots(&here, flushed[0].lineage, From::Above(Version(0)), 99).await.unwrap();
    assert_eq!(rows.len(), 24);
    for (row, both) in rows.iter().zip(flushed.iter().zip(&rebuilt)) {
        assert!(row == both.0 || row == both.1, "{row:?}");
    }
    for row in &rows {
        index.delete_snapshot(&DeletedRow::of(row), deletion(5)).await.unwrap();
    }
    index.put_snapshots([flushed, rebuilt].concat()).await.unwrap();
    assert_eq!(walked(index, &here, From::Newest, 99).await, []);
}

/// Goal: each row that was deleted is counted once, with its deletion, and for the aggregate and lineage that
/// it was of. Method: rows of two aggregates and two lineages go, some of them twice.
pub(super) async fn are_counted_by_row(index: &dyn Index) {
    let (here, other) = (key("counted", "a"), key("counted", "a\0"));
    let gone = |of: &AggregateKey, lineage, version, n| DeletedRow {
        lineage: Lineage(lineage),
        ..DeletedRow::of(&snapshot(of, lineage, version, pack(n)))
    };
    assert_eq!(index.deletions(&here, Lineage(1)).await, Ok(vec![]));
    let rows = [gone(&here, 1, 9, 1), gone(&here, 1, 3, 1), gone(&here, 1, 3, 2), gone(&here, 2, 3, 1)];
    let deleted = [(0, 7), (1, 5), (1, 5), (2, 7), (3, 8)];
    for (n, at) in deleted {
        index.delete_snapshot(&rows[n], deletion(at)).await.unwrap();
    }
    index.delete_snapshot(&gone(&other, 1, 3, 1), deletion(9)).await.unwrap();
    let of = |at: &[i64]| Ok(at.iter().copied().map(deletion).collect::<Vec<_>>());
    assert_eq!(index.deletions(&here, Lineage(1)).await, of(&[5, 7, 7]));
    assert_eq!(index.deletions(&here, Lineage(2)).await, of(&[8]));
    assert_eq!(index.deletions(&other, Lineage(1)).await, of(&[9]));
    for (n, at) in deleted {
        assert_eq!(index.deletion(&rows[n]).await, Ok(Some(deletion(at))));
    }
    // Of another pack, version, lineage, aggregate: nobody deleted it.
    for row in [gone(&here, 1, 9, 2), gone(&here, 1, 8, 1), gone(&here, 3, 9, 1), gone(&other, 1, 9, 1)] {
        assert_eq!(index.deletion(&row).await, Ok(None));
    }
}

fn hold(of: &AggregateKey, n: u8, held: bool) -> HoldRow {
    let at = LedgerId::mint(Timestamp(1_700_000_000_000 + i64::from(n)), [n; 10]);
    HoldRow { key: of.clone(), at, held, reason: n.is_multiple_of(2).then(|| format!("case {n}").into()) }
}

pub(super) async fn holds_come_back_by_name(index: &dyn Index) {
    let (here, other) = (key("held", "a"), key("held", "a\0"));
    assert_eq!(index.holds(&here).await, Ok(vec![]));
    let holds: Vec<HoldRow> = (0..4).map(|n| hold(&here, n, n != 1)).collect();
    for row in holds.iter().rev().chain(&holds) {
        index.put_hold(row.clone()).await.unwrap();
    }
    index.put_hold(hold(&other, 9, true)).await.unwrap();
    assert_eq!(index.holds(&here).await, Ok(holds));
    assert_eq!(index.holds(&other).await, Ok(vec![hold(&other, 9, true)]));
}
