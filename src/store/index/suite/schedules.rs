//! Schedules and their runs, as every index keeps them.

use crate::domain::ids::{AggregateKey, LedgerId, PartitionNo, Timestamp};
use crate::domain::schedule::{RUNS_KEPT, RunRow, Schedule, ScheduleRow, Target};
use crate::store::index::Index;

fn schedule(name: &str, n: u8) -> ScheduleRow {
    let target = match n % 2 {
        0 => Target::Aggregate(AggregateKey { kind: "order".into(), id: "a\0ä".into() }),
        _ => Target::Selector { kind: "order".into(), prefix: "".into() },
    };
    let plan = Schedule {
        target,
        cron: "0 2 * * *".into(),
        timezone: "Europe/Berlin".into(),
        enabled: n.is_multiple_of(3),
        jitter_ms: u64::from(n),
    };
    ScheduleRow {
        name: name.into(),
        at: LedgerId::mint(Timestamp(1_700_000_000_000 + i64::from(n)), [n; 10]),
        since: Timestamp(i64::from(n) - 3),
        run_at: n.is_multiple_of(4).then_some(Timestamp(7)),
        plan: (!n.is_multiple_of(5)).then_some(plan),
    }
}

pub(super) async fn come_back_and_of_two_the_later_counts(index: &dyn Index) {
    let ours = |rows: Vec<ScheduleRow>| -> Vec<ScheduleRow> {
        rows.into_iter().filter(|row| row.name.starts_with("suite-")).collect()
    };
    assert_eq!(index.schedule("suite-none").await, Ok(None));
    // Twice, backwards: neither repetition nor order matters, and a deletion is a row like others.
    for n in (1..=20).rev().chain(1..=20) {
        let row = schedule(if n <= 10 { "suite-a" } else { "suite-b" }, n);
        index.put_schedule(row.clone()).await.unwrap();
        let kept = index.schedule(&row.name).await.unwrap().unwrap();
        assert!(kept.at >= row.at, "an older row takes the place of a later one");
    }
    let kept = vec![schedule("suite-a", 10), schedule("suite-b", 20)];
    assert_eq!(ours(index.schedules().await.unwrap()), kept);
    assert_eq!(index.schedule("suite-b").await, Ok(Some(kept[1].clone())));
    let before = index.schedules_changed().await.unwrap();
    assert!(before.is_some());
    index.put_schedule(schedule("suite-b", 21)).await.unwrap();
    assert_ne!(index.schedules_changed().await.unwrap(), before, "whoever asks hears of the change");
    assert_eq!(ours(index.schedules().await.unwrap()), [schedule("suite-a", 10), schedule("suite-b", 21)]);
}

pub(super) async fn runs_take_the_places_of_older_ones(index: &dyn Index) {
    let run = |partition, number: u64| RunRow {
        schedule: "suite-runs".into(),
        topic: "orders".into(),
        partition: PartitionNo(partition),
        number,
        on_time: number / 2,
        due: Timestamp(i64::try_from(number).unwrap() * 60_000),
        started: Timestamp(5),
        finished: Timestamp(-6),
        created: number,
        exists: 0,
        failed: u64::MAX / 2,
    };
    assert_eq!(index.runs("suite-runs", "orders", PartitionNo(3)).await, Ok(vec![]));
    for number in 1..=40 {
        index.put_run(run(3, number)).await.unwrap();
    }
    index.put_run(run(4, 1)).await.unwrap();
    index.put_run(run(3, 40)).await.unwrap();
    // A former owner counts on from what it knew, and writes late.
    let late = RunRow { due: Timestamp(39 * 60_000), created: 7, ..run(3, 40) };
    index.put_run(late).await.unwrap();
    index.put_run(run(3, 40 - RUNS_KEPT)).await.unwrap();
    let kept: Vec<RunRow> = (41 - RUNS_KEPT..=40).map(|number| run(3, number)).collect();
    assert_eq!(index.runs("suite-runs", "orders", PartitionNo(3)).await, Ok(kept));
    assert_eq!(index.runs("suite-runs", "orders", PartitionNo(4)).await, Ok(vec![run(4, 1)]));
    assert_eq!(index.runs("suite-runs", "moons", PartitionNo(3)).await, Ok(vec![]));
    assert_eq!(index.runs("suite", "orders", PartitionNo(3)).await, Ok(vec![]));
}
