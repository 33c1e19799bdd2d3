//! Several workers on Kafka, Cassandra and SeaweedFS: they come, go, crash and freeze while events flow and
//! questions are asked, and every answer is the ledger's.
//!
//! `SNAPFOLD_KILLS` is the number of kills and freezes; see `main.rs`.

use super::Topic;
use crate::kill::{Dice, Flow, story};
use crate::ledger::Selector;
use crate::process::{Api, Program, until};
use crate::site::{ORDERS, Site, all_settled, settled};
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

#[test]
fn of_two_workers_with_different_reducers_the_second_is_refused() {
    let topic = Topic::new(2, &[]);
    let site = Site::cluster(&topic.named(ORDERS), "checkpoint: { interval: 300ms }", &topic.name);
    let config = std::fs::read_to_string(site.config()).unwrap();
    let other = site.config().with_file_name("other.yaml");
    assert!(config.contains(".qty * .price"));
    std::fs::write(&other, config.replace(".qty * .price", ".qty")).unwrap();
    let other = || Program::start(&["run", "--config", &other.display().to_string()]);
    let (sendings, ledger) = story(35, 400, 2, 0);
    site.send(&sendings[..200]);
    let mut worker = site.worker();
    settled(&worker.ready(), 200, true);
    let refused = || {
        let ended = other().end();
        assert_eq!(ended.code, Some(6), "{ended:?}");
        for told in ["lineage-changed", "reducer", "--new-lineage"] {
            assert!(ended.err.contains(told), "`{told}` in {ended:?}");
        }
    };
    refused();
    // The first has not noticed.
    site.send(&sendings[200..]);
    let api = worker.ready();
    settled(&api, 400, true);
    let ids: Vec<&str> = ledger.aggregates().collect();
    ask_settled(&api.url, "order", questions(&ledger, &ids, 2)).must_be_right("beside a refused one");
    worker.stop();
    // Nor does it matter whether anybody runs.
    refused();
}

#[test]
fn of_two_workers_with_different_reducers_that_start_at_once_one_folds() {
    let topic = Topic::new(2, &[]);
    let site = Site::cluster(&topic.named(ORDERS), "checkpoint: { interval: 300ms }", &topic.name);
    let config = std::fs::read_to_string(site.config()).unwrap();
    let other = site.config().with_file_name("other.yaml");
    std::fs::write(&other, config.replace("{ status: new,", "{ status: fresh,")).unwrap();
    let mut both = [site.worker(), Program::start(&["run", "--config", &other.display().to_string()])];
    until("one of them to end", || both.iter_mut().any(|one| one.has_ended()));
    let [first, second] = both;
    let (mut stays, ended, is_first) = {
        let mut first = first;
        if first.has_ended() { (second, first.end(), false) } else { (first, second.end(), true) }
    };
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.err.contains("lineage-changed"), "{ended:?}");
    let (sendings, ledger) = story(36, 200, 2, 0);
    site.send(&sendings);
    let api = stays.ready();
    settled(&api, 200, true);
    let ids: Vec<&str> = ledger.aggregates().collect();
    if is_first {
        ask_settled(&api.url, "order", questions(&ledger, &ids, 2)).must_be_right("the first stays");
    } else {
        let states = ids.iter().map(|id| Question::of(&ledger, id, Selector::Version(1)).path("order"));
        assert!(states.into_iter().any(|path| api.get(&path).unwrap().body.contains("fresh")));
    }
    stays.stop();
}
