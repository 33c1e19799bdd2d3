//! What is due when, with times that are minutes after one moment.

use super::*;
use crate::domain::ids::{AggregateKey, LedgerId};

/// Midnight of some day.
const START: i64 = 1_767_225_600_000;

fn at(minutes: i64) -> Timestamp {
    Timestamp(START + minutes * 60_000)
}

fn row(name: &str, cron: &str) -> ScheduleRow {
    let target = Target::Selector { kind: "order".into(), prefix: "".into() };
    let plan = Schedule { target, cron: cron.into(), timezone: "UTC".into(), enabled: true, jitter_ms: 0 };
    ScheduleRow {
        name: name.into(),
        at: LedgerId([1; 16]),
        since: at(-1_000),
        run_at: None,
        plan: Some(plan),
    }
}

fn of(row: &ScheduleRow, change: impl FnOnce(&mut Schedule)) -> ScheduleRow {
    let mut row = row.clone();
    row.at.0[15] += 1;
    change(row.plan.as_mut().unwrap());
    row
}

fn run(start: &Start) -> RunRow {
    RunRow {
        schedule: Arc::clone(&start.name),
        topic: "orders".into(),
        partition: start.partition,
        number: start.number,
        on_time: start.on_time + 1,
        due: start.due,
        started: start.due,
        finished: start.due,
        created: 1,
        exists: 0,
        failed: 0,
    }
}

/// What is to be read, which is one thing.
fn unread(agenda: &mut Agenda, name: &str, partition: i32) -> Unread {
    let mut asked = agenda.to_read(9);
    assert_eq!(asked.len(), 1, "{asked:?}");
    let unread = asked.remove(0);
    assert_eq!((&*unread.name, unread.partition), (name, PartitionNo(partition)));
    unread
}

/// An agenda of these schedules and one partition, whose runs were read at `now`.
fn agenda(rows: &[ScheduleRow], runs: &[RunRow], now: Timestamp) -> Agenda {
    let mut agenda = Agenda::new(&"order".into());
    agenda.take(rows.to_vec(), now);
    agenda.own(&[PartitionNo(0)]);
    for unread in agenda.to_read(100) {
        agenda.read(&unread, Ok(runs), now);
    }
    agenda
}

fn due(agenda: &mut Agenda, now: Timestamp) -> Vec<(String, Timestamp)> {
    let starts = agenda.due(now, &|_| false, 100);
    starts.iter().for_each(|start| agenda.ended(&run(start), now));
    starts.into_iter().map(|start| (start.name.to_string(), start.due)).collect()
}

#[test]
fn each_due_time_runs_once_and_the_next_one_is_known() {
    let mut agenda = agenda(&[row("tens", "*/10 * * * *"), row("fives", "*/5 * * * *")], &[], at(1));
    assert_eq!(due(&mut agenda, at(1)).len(), 2, "what was due before the first owner is made up for");
    assert_eq!(agenda.next_at(), Some(at(5)));
    assert_eq!(due(&mut agenda, at(4)), []);
    assert_eq!(due(&mut agenda, at(5)), [("fives".into(), at(5))]);
    assert_eq!(due(&mut agenda, at(5)), []);
    let mut both = due(&mut agenda, at(10));
    both.sort();
    assert_eq!(both, [("fives".into(), at(10)), ("tens".into(), at(10))]);
    assert_eq!(agenda.next_at(), Some(at(15)));
}

#[test]
fn what_was_missed_is_made_up_for_once_and_what_has_run_is_not() {
    let tens = row("tens", "*/10 * * * *");
    let last = |minutes| RunRow { due: at(minutes), number: 7, on_time: 5, ..first(&tens) };
    let mut late = agenda(std::slice::from_ref(&tens), &[last(10)], at(47));
    assert_eq!(
        late.due(at(47), &|_| false, 9).first().map(|start| (start.due, start.number, start.on_time)),
        Some((at(40), 8, 5))
    );
    let mut timely = agenda(std::slice::from_ref(&tens), &[last(40)], at(47));
    assert_eq!(due(&mut timely, at(47)), []);
    assert_eq!(timely.next_at(), Some(at(50)));
    // Nothing from before it was made counts.
    let new = ScheduleRow { since: at(45), ..tens };
    let mut young = agenda(&[new], &[], at(47));
    assert_eq!(due(&mut young, at(47)), []);
}

fn first(row: &ScheduleRow) -> RunRow {
    run(&Start {
        name: Arc::clone(&row.name),
        partition: PartitionNo(0),
        target: row.plan.clone().unwrap().target,
        due: at(0),
        planned: at(0),
        number: 1,
        on_time: 0,
    })
}

#[test]
fn what_comes_due_during_a_run_is_one_run_afterwards() {
    let mut agenda = agenda(&[row("each", "* * * * *")], &[first(&row("each", ""))], at(1));
    let starts = agenda.due(at(1), &|_| false, 9);
    assert_eq!(starts.len(), 1);
    assert_eq!(agenda.due(at(4), &|_| false, 9), [], "it is running");
    agenda.ended(&run(&starts[0]), at(4));
    assert_eq!(due(&mut agenda, at(4)), [("each".into(), at(4))]);
    assert_eq!(agenda.next_at(), Some(at(5)));
}

#[test]
fn a_run_that_is_given_up_is_due_again_and_one_that_is_held_back_waits() {
    let mut agenda = agenda(&[row("each", "* * * * *")], &[first(&row("each", ""))], at(1));
    assert_eq!(agenda.due(at(1), &|_| true, 9), [], "its partition is held back");
    assert_eq!(agenda.next_at(), Some(Timestamp(at(1).0 + AGAIN_MS)));
    let later = Timestamp(at(1).0 + AGAIN_MS);
    let starts = agenda.due(later, &|_| false, 9);
    assert_eq!(starts.first().map(|start| (start.due, start.number)), Some((at(1), 2)));
    agenda.abandoned(&starts[0].name, PartitionNo(0), later);
    let again = agenda.due(Timestamp(later.0 + AGAIN_MS), &|_| false, 9);
    assert_eq!(again.first().map(|start| (start.due, start.number)), Some((at(1), 2)), "the same run");
}

#[test]
fn a_clock_that_goes_back_puts_nothing_off() {
    let mut agenda = agenda(&[row("a", "* * * * *")], &[first(&row("a", "* * * * *"))], at(1));
    let ahead = at(90);
    assert_eq!(agenda.due(ahead, &|_| true, 9), [], "it is held back");
    assert_eq!(agenda.next_at(), Some(Timestamp(ahead.0 + AGAIN_MS)));
    assert_eq!(due(&mut agenda, at(3)), [("a".to_owned(), at(3))]);
    assert_eq!(agenda.next_at(), Some(at(4)));
}

#[test]
fn a_paused_schedule_runs_only_where_it_is_asked_and_resumes_with_the_next_due_time() {
    let each = row("each", "* * * * *");
    let mut agenda = agenda(std::slice::from_ref(&each), &[first(&each)], at(0));
    let paused = of(&each, |says| says.enabled = false);
    agenda.take(vec![paused.clone()], at(0));
    assert_eq!(due(&mut agenda, at(3)), []);
    let asked = ScheduleRow { run_at: Some(at(3)), ..of(&paused, |_| ()) };
    agenda.take(vec![asked.clone()], at(3));
    assert_eq!(due(&mut agenda, at(3)), [("each".into(), at(3))]);
    assert_eq!(due(&mut agenda, at(9)), [], "once");
    let resumed = ScheduleRow { since: at(9), ..of(&asked, |says| says.enabled = true) };
    agenda.take(vec![resumed], at(9));
    assert_eq!(due(&mut agenda, at(9)), []);
    assert_eq!(due(&mut agenda, at(10)), [("each".into(), at(10))]);
    agenda.take(vec![], at(10));
    assert_eq!((due(&mut agenda, at(60)), agenda.len()), (vec![], 0), "deleted");
}

#[test]
fn jitter_puts_a_run_off_and_it_is_planned_there() {
    let jittered = of(&row("each", "*/10 * * * *"), |says| says.jitter_ms = 50_000);
    let mut agenda = agenda(std::slice::from_ref(&jittered), &[first(&jittered)], at(1));
    let wait = jitter("each", at(10), 50_000);
    let planned = Timestamp(at(10).0 + i64::try_from(wait).unwrap());
    assert_eq!(agenda.next_at(), Some(planned));
    assert_eq!(due(&mut agenda, Timestamp(planned.0 - 1)), []);
    assert_eq!(agenda.due(planned, &|_| false, 9)[0].planned, planned);
}

#[test]
fn an_aggregate_s_schedule_runs_where_it_lives() {
    let key = AggregateKey { kind: "order".into(), id: "a".into() };
    let one = of(&row("one", "* * * * *"), |says| says.target = Target::Aggregate(key));
    let mut agenda = Agenda::new(&"order".into());
    agenda.take(
        vec![
            one,
            of(&row("other", "* * * * *"), |says| {
                says.target = Target::Selector { kind: "moon".into(), prefix: "".into() };
            }),
        ],
        at(0),
    );
    assert_eq!((agenda.len(), agenda.to_place(9)), (1, vec![]), "nothing is owned, so nothing runs");
    agenda.own(&[PartitionNo(1), PartitionNo(2)]);
    let asked = agenda.to_place(9);
    assert_eq!(asked, [("one".into(), "a".into())]);
    agenda.placed(&asked[0].0, Err(()));
    assert_eq!(agenda.to_place(9), asked, "asked again");
    agenda.placed(&asked[0].0, Ok(Some(PartitionNo(2))));
    let first = unread(&mut agenda, "one", 2);
    agenda.read(&first, Err(()), at(0));
    let second = unread(&mut agenda, "one", 2);
    agenda.read(&first, Ok(&[]), at(0));
    assert_eq!(agenda.due(at(1), &|_| false, 9), [], "an answer to the question before");
    agenda.read(&second, Ok(&[]), at(0));
    assert_eq!(agenda.due(at(1), &|_| false, 9)[0].partition, PartitionNo(2));
    agenda.own(&[PartitionNo(1)]);
    assert_eq!(agenda.due(at(9), &|_| false, 9), [], "another owner's");
}

#[test]
fn an_aggregate_that_nobody_knows_fails_in_one_place_and_is_looked_for_again() {
    let key = AggregateKey { kind: "order".into(), id: "a".into() };
    let one = of(&row("one", "* * * * *"), |says| says.target = Target::Aggregate(key));
    let mut agenda = Agenda::new(&"order".into());
    agenda.take(vec![one], at(0));
    agenda.own(&[PartitionNo(0), PartitionNo(1)]);
    let name = agenda.to_place(9)[0].0.clone();
    agenda.placed(&name, Ok(None));
    let first = unread(&mut agenda, "one", 0);
    agenda.read(&first, Ok(&[]), at(0));
    let start = agenda.due(at(1), &|_| false, 9).remove(0);
    agenda.ended(&RunRow { created: 0, failed: 1, ..run(&start) }, at(1));
    assert_eq!(agenda.to_place(9).len(), 1);
    agenda.placed(&name, Ok(Some(PartitionNo(1))));
    unread(&mut agenda, "one", 1);
}
