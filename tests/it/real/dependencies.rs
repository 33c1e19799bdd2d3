//! Broker, index and blob store are killed and come back while two workers fold and questions are asked:
//! answers are right or say that something is down, and nothing is lost.
//!
//! `SNAPFOLD_DEPENDENCY_KILLS` is the number of kills: 3 without it, 30 in closing runs.

use super::Topic;
use crate::kill::{Dice, Ends, ask_meanwhile, story};
use crate::process::{Api, Program};
use crate::servers::{self, Own};
use crate::site::{ORDERS, Site, all_settled};
use crate::truth::{ask_settled, questions};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PARTITIONS: i32 = 4;
const EVENTS_A_KILL: usize = 800;
const CHUNK: usize = 40;
const DEPENDENCIES: [&str; 3] = ["cassandra", "seaweedfs", "kafka"];

#[test]
fn dependencies_that_die_and_come_back_lose_nothing() {
    let own = Own::new();
    let start = |name: &str| own.start(name);
    let topic = Topic::on(&servers::addresses(&start("kafka")).0, PARTITIONS, &[]);
    let site = Site::cluster_of(&start, &topic.named(ORDERS), "checkpoint: { interval: 500ms }", &topic.name);
    let kills =
        std::env::var("SNAPFOLD_DEPENDENCY_KILLS").map_or(3, |number| number.parse::<usize>().unwrap());
    let events = kills * EVENTS_A_KILL;
    let (sendings, ledger) = story(41, events, PARTITIONS, 0);
    let (url, is_over, is_calm) = (Mutex::new(String::new()), AtomicBool::new(false), AtomicBool::new(false));
    let mut dice = Dice(13);
    std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        let asking = scope.spawn(|| ask_meanwhile(&ledger, &url, &is_over));
        let feeding = scope.spawn(|| {
            for chunk in sendings.chunks(CHUNK) {
                site.send(chunk);
                if !is_calm.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
        });
        let mut workers: Vec<Program> = (0..2).map(|_| site.worker()).collect();
        let apis: Vec<Api> = workers.iter_mut().map(Program::ready).collect();
        for kill in 0..kills {
            url.lock().unwrap().clone_from(&apis[kill % 2].url);
            std::thread::sleep(Duration::from_millis(1_000 + dice.below(3_000)));
            let name = DEPENDENCIES[kill % DEPENDENCIES.len()];
            own.kill(name);
            std::thread::sleep(Duration::from_millis(dice.below(3_000)));
            own.start(name);
        }
        is_calm.store(true, Ordering::Relaxed);
        feeding.join().unwrap();
        all_settled(&apis, events as u64, true);
        drop(ends);
        let meanwhile = asking.join().unwrap();
        println!("meanwhile: {meanwhile:?}");
        assert!(meanwhile.wrong.is_empty(), "{:#?}", &meanwhile.wrong[..meanwhile.wrong.len().min(10)]);
        assert!(meanwhile.right > 20, "hardly anything was answered: {meanwhile:?}");
        let ids: Vec<&str> = ledger.aggregates().step_by(5).collect();
        for api in &apis {
            ask_settled(&api.url, "order", questions(&ledger, &ids, 2)).must_be_right("after all kills");
        }
        workers.into_iter().for_each(|worker| {
            worker.stop();
        });
    });
}
