//! Several workers on Kafka, Cassandra and SeaweedFS: they come, go, crash and freeze while events flow and
//! questions are asked, and every answer is the ledger's.
//!
//! `SNAPFOLD_KILLS` is the number of kills and freezes; see `main.rs`.

use super::Topic;
use crate::kill::{Dice, Flow, story};
use crate::ledger::Selector;
use crate::process::{Api, Program, until};
use crate::site::{ORDERS, Site, all_settled};
use crate::truth::{Question, ask_settled, is_full, questions};
use std::time::Duration;

const PARTITIONS: i32 = 6;
const WORKERS: usize = 3;
const EVENTS_A_KILL: usize = 400;
const CHUNK: usize = 50;

/// Asks every worker, whoever owns the aggregate.
pub(super) fn ask_each(apis: &[Api], questions: impl Fn() -> Vec<Question>, what: &str) {
    for (nth, api) in apis.iter().enumerate() {
        ask_settled(&api.url, "order", questions().into_iter())
            .must_be_right(&format!("worker {nth}, {what}"));
    }
}

#[test]
fn any_worker_answers_any_question() {
    let topic = Topic::new(PARTITIONS, &[]);
    // No checkpoint comes by itself, so heads are in their owner's memory or in the log alone.
    let site = Site::cluster(&topic.named(ORDERS), "checkpoint: { interval: 1h }", &topic.name);
    let (sendings, ledger) = story(31, 1_500, PARTITIONS, 0);
    let mut workers: Vec<Program> = (0..WORKERS).map(|_| site.worker()).collect();
    let apis: Vec<Api> = workers.iter_mut().map(Program::ready).collect();
    until("each has a share", || {
        let share = |api: &Api| {
            let body = api.get("/readyz?verbose=true").unwrap().json();
            body["partitions"].as_array().map_or(0, Vec::len)
        };
        let shares: Vec<usize> = apis.iter().map(share).collect();
        shares.iter().all(|share| *share > 0) && shares.iter().sum::<usize>() == PARTITIONS as usize
    });
    site.send(&sendings);
    all_settled(&apis, 1_500, false);
    let ids: Vec<&str> = ledger.aggregates().collect();
    ask_each(&apis, || questions(&ledger, &ids, 1).collect(), "all alive");
    let from_others: f64 = apis.iter().map(|api| api.figure("snapfold_owner_answers_total")).sum();
    assert!(from_others > 100.0, "heads were not asked of their owners: {from_others}");

    // One dies; nobody has its partitions yet, and the heads are in the log.
    workers[0].kill();
    let heads = || ids.iter().map(|id| Question::of(&ledger, id, Selector::Head)).collect();
    ask_each(&apis[1..], heads, "right after a death");
    all_settled(&apis[1..], 1_500, false);
    ask_each(&apis[1..], || questions(&ledger, &ids, 2).collect(), "after a takeover");
    workers.drain(1..).for_each(|worker| {
        worker.stop();
    });
}

/// What happens to one worker.
enum Deed {
    Kill,
    Freeze,
    Stop,
}

#[test]
fn workers_that_crash_and_freeze_lose_nothing_and_are_never_wrong() {
    let topic = Topic::new(PARTITIONS, &[]);
    let site = Site::cluster(&topic.named(ORDERS), "checkpoint: { interval: 500ms }", &topic.name);
    let kills = std::env::var("SNAPFOLD_KILLS").map_or(15, |number| number.parse::<usize>().unwrap());
    let events = kills * EVENTS_A_KILL;
    let (sendings, ledger) = story(33, events, PARTITIONS, 0);
    let mut dice = Dice(12);
    let flow = Flow { site: &site, sendings: &sendings, ledger: &ledger, chunk: CHUNK, pause_ms: 300 };
    let (workers, apis) = flow.through(|url| {
        let mut workers: Vec<Program> = (0..WORKERS).map(|_| site.worker()).collect();
        for kill in 0..kills {
            let of = usize::try_from(dice.below(WORKERS as u64)).unwrap();
            // Whoever is asked lives at least until the next deed.
            let asked = (of + 1) % WORKERS;
            *url.lock().unwrap() = workers[asked].url();
            std::thread::sleep(Duration::from_millis(500 + dice.below(2_500)));
            match [Deed::Kill, Deed::Kill, Deed::Freeze, Deed::Stop][kill % 4] {
                Deed::Kill => workers[of].kill(),
                Deed::Freeze => {
                    // Longer than its session: it comes back as a zombie.
                    workers[of].freeze();
                    std::thread::sleep(Duration::from_millis(2_500 + dice.below(1_500)));
                    workers[of].thaw();
                    continue;
                }
                Deed::Stop => workers[of].interrupt(),
            }
            workers[of] = site.worker();
        }
        workers
    });
    let ids: Vec<&str> = ledger.aggregates().step_by(if is_full() { 1 } else { 5 }).collect();
    ask_each(&apis, || questions(&ledger, &ids, 2).collect(), "after all deeds");
    workers.into_iter().for_each(|worker| {
        worker.stop();
    });
}
