//! A worker whose wall clock jumps: hours ahead and back, to another decade, before 1970. Time of events is
//! told by events, so no answer changes; and nothing stops, because nothing waits for the wall clock.
//!
//! Method: `tests/clock/jump.c`, compiled here and preloaded into the worker, adds to the clock what a file
//! says. This needs Linux and a C compiler.

use crate::kill::story;
use crate::process::{Api, Program, command};
use crate::real::Topic;
use crate::site::{ORDERS, Site, settled};
use crate::truth::{ask_settled, questions};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;
const CHUNK: usize = 150;

/// A worker's clock.
struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().unwrap() };
        let source = crate::truth::repository("tests/clock/jump.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(clock.path("jump.so")).arg(source);
        assert!(cc.status().unwrap().success(), "a C compiler");
        clock.is_wrong_by(0);
        clock
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Seconds, from now on.
    fn is_wrong_by(&self, seconds: i64) {
        // In place: the worker has the file mapped.
        let mut file = std::fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(false).open(self.path("jump")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &(seconds * 1_000_000_000).to_ne_bytes(), 0).unwrap();
    }

    fn worker(&self, config: &Path) -> Program {
        let mut command = command(&["run", "--config", &config.display().to_string()]);
        command.env("LD_PRELOAD", self.path("jump.so")).env("CLOCK_JUMP_FILE", self.path("jump"));
        Program::spawn(command)
    }
}

/// Jumps while events are folded, with a restart after every third. Everything has to be covered while the
/// clock is wrong, or once it is set right.
fn jumps(site: &Site, seed: u64, jumps: &[i64], is_set_right: bool) {
    let clock = Clock::new();
    let (sendings, ledger) = story(seed, CHUNK * jumps.len(), 2, 0);
    let ids: Vec<&str> = ledger.aggregates().step_by(3).collect();
    let mut worker = clock.worker(&site.config());
    let mut sent = 0;
    for (nth, (chunk, seconds)) in sendings.chunks(CHUNK).zip(jumps).enumerate() {
        let api = worker.ready();
        site.send(&chunk[..CHUNK / 2]);
        clock.is_wrong_by(*seconds);
        site.send(&chunk[CHUNK / 2..]);
        sent += CHUNK as u64;
        if is_set_right {
            std::thread::sleep(Duration::from_secs(3));
            clock.is_wrong_by(0);
        }
        settled(&api, sent, true);
        println!("{seconds} s: covered");
        let created =
            api.get(&format!("/v1/aggregates/order/{}/snapshots?limit=1", crate::truth::encoded(ids[0])));
        let is_told = created.as_ref().is_ok_and(|reply| matches!(reply.status, 200 | 404));
        assert!(is_told, "{seconds} s: {created:?}");
        if nth % 3 == 2 {
            worker.stop();
            worker = clock.worker(&site.config());
            settled(&worker.ready(), sent, true);
        }
    }
    let url = worker.ready().url;
    ask_settled(&url, "order", questions(&ledger, &ids, 1)).must_be_right("after all jumps");
    worker.stop();
    // A clock that is right again.
    let mut worker = site.worker();
    let url = worker.ready().url;
    ask_settled(&url, "order", questions(&ledger, &ids, 1)).must_be_right("after a restart");
    worker.stop();
}

#[test]
fn a_clock_that_jumps_changes_no_answer() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", 2);
    let all = [HOUR, -HOUR, 30 * 24 * HOUR, -10 * YEAR, 0, 100 * YEAR, -100 * YEAR, 60, -60];
    jumps(&site, 71, &all, false);
}

/// A store may refuse requests of who has another time. They are taken when the clock is right.
#[test]
fn a_clock_that_jumps_before_real_stores_costs_time_only() {
    let topic = Topic::new(2, &[]);
    let site = Site::cluster(&topic.named(ORDERS), "checkpoint: { interval: 300ms }", &topic.name);
    jumps(&site, 72, &[600, -600, HOUR, -HOUR, YEAR, -YEAR], true);
}

/// Threads of a runtime that have served nothing yet have not looked at the clock either.
#[test]
fn a_clock_before_1970_stops_no_thread_from_answering_but_a_process_from_starting() {
    let site = Site::new(ORDERS, "parallelism: { threads: 8 }", "orders", 2);
    let clock = Clock::new();
    let mut worker = clock.worker(&site.config());
    let url = worker.url();
    clock.is_wrong_by(-100 * YEAR);
    let asked: Vec<_> = (0..64)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || Api::new(&url).get("/livez"))
        })
        .collect();
    for answer in asked {
        let answer = answer.join().unwrap();
        assert!(answer.as_ref().is_ok_and(|reply| reply.status == 200), "{answer:?}");
    }
    worker.stop();
    let ended = clock.worker(&site.config()).end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("before 1970") && ended.err.contains("set the clock"), "{ended:?}");
}
