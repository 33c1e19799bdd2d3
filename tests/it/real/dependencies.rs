//! Broker, index and blob store are killed and come back while two workers fold and questions are asked:
//! answers are right or say that something is down, and nothing is lost.
//!
//! `SNAPFOLD_DEPENDENCY_KILLS` is the number of kills: 3 without it, 30 in closing runs.

use super::Topic;
use super::cluster::ask_each;
use crate::kill::{Dice, Flow, story};
use crate::process::Program;
use crate::servers::{self, Own};
use crate::site::{ORDERS, Site};
use crate::truth::questions;
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
    let mut dice = Dice(13);
    let flow = Flow { site: &site, sendings: &sendings, ledger: &ledger, chunk: CHUNK, pause_ms: 500 };
    let (workers, apis) = flow.through(|url| {
        let mut workers: Vec<Program> = (0..2).map(|_| site.worker()).collect();
        workers.iter_mut().for_each(|worker| drop(worker.ready()));
        for kill in 0..kills {
            *url.lock().unwrap() = workers[kill % 2].url();
            std::thread::sleep(Duration::from_millis(1_000 + dice.below(3_000)));
            let name = DEPENDENCIES[kill % DEPENDENCIES.len()];
            own.kill(name);
            std::thread::sleep(Duration::from_millis(dice.below(3_000)));
            own.start(name);
            // Some die while the workers still recover from the one before; the others while they answer.
            if kill % 4 != 3 {
                workers.iter_mut().for_each(|worker| drop(worker.ready()));
            }
        }
        workers
    });
    let ids: Vec<&str> = ledger.aggregates().step_by(5).collect();
    ask_each(&apis, || questions(&ledger, &ids, 2).collect(), "after all kills");
    workers.into_iter().for_each(|worker| {
        worker.stop();
    });
}
