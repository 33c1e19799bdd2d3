//! Workers that are killed at any moment while events flow: nothing they answer is ever wrong, and in the end
//! everything is as the ledger says. The test holds the broker; one worker at a time works on the folder.
//!
//! `SNAPFOLD_KILLS` is the number of kills; see `main.rs`.

use crate::ledger::{Expected, Ledger, OnPoison, Record, Selector};
use crate::process::{Api, Program, Reply, until};
use crate::site::{ORDERS, Sending, Site, all_settled, orders_spec};
use crate::truth::{Question, ask_settled, is_full, questions};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Events for each kill, and how many are sent at once: a kill takes some five seconds with its restart.
const EVENTS_A_KILL: usize = 600;
const CHUNK: usize = 60;
const AGGREGATES: u64 = 300;
const PARTITIONS: i32 = 4;

/// Numbers that look random and are the same in each run (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Text that cannot be compressed by more than half.
pub(crate) fn noise(dice: &mut Dice, bytes: usize) -> String {
    (0..bytes / 16).map(|_| format!("{:016x}", dice.below(u64::MAX))).collect()
}

/// One event of [`ORDERS`]; now and then one comes twice, one is late, one deletes.
pub(crate) fn event(dice: &mut Dice, nth: usize, padding: &str) -> String {
    let id = if nth > 100 && dice.below(40) == 0 { nth - 7 } else { nth };
    let at = 1_700_000_000_000 + nth as i64 * 1_000 - i64::try_from(dice.below(5_000)).unwrap();
    let (kind, data) = match dice.below(20) {
        0 => ("Deleted", "{}".to_owned()),
        1..=4 => ("Shipped", format!(r#"{{"note":"n{nth}{padding}"}}"#)),
        5 => ("Seen", "null".to_owned()),
        _ => {
            let (sku, qty, cents) = (dice.below(12), 1 + dice.below(4), dice.below(100));
            ("ItemAdded", format!(r#"{{"sku":"s{sku}","qty":{qty},"price":{}.{cents:02}}}"#, dice.below(90)))
        }
    };
    format!(r#"{{"type":"{kind}","id":"e{id}","at":{at},"data":{data}}}"#)
}

/// Records in the order in which they are sent, and what they amount to.
pub(crate) fn story(seed: u64, events: usize, partitions: i32, padding: usize) -> (Vec<Sending>, Ledger) {
    let (mut dice, mut ledger) = (Dice(seed), Ledger::new(orders_spec(OnPoison::Quarantine)));
    let mut offsets = vec![0; usize::try_from(partitions).unwrap()];
    let mut sendings = Vec::new();
    for nth in 0..events {
        // Few have long histories, many short ones.
        let (one, other) = (dice.below(AGGREGATES), dice.below(AGGREGATES));
        let aggregate = one.min(other);
        let partition = i32::try_from(aggregate).unwrap() % partitions;
        let key = format!("o/{aggregate}").into_bytes();
        let noise = noise(&mut dice, padding);
        let value = event(&mut dice, nth, &noise).into_bytes();
        let offset = &mut offsets[usize::try_from(partition).unwrap()];
        ledger.push(Record {
            partition,
            offset: *offset,
            record_time_ms: 5,
            key: Some(key.clone()),
            value: Some(value.clone()),
            headers: Vec::new(),
        });
        *offset += 1;
        sendings.push(Sending { partition, key: Some(key), value: Some(value), time_ms: 5 });
    }
    (sendings, ledger)
}

/// A state is that of the version it names, which is not later than the one asked for; everything else is a
/// refusal that says so.
fn judge_meanwhile(ledger: &Ledger, question: &Question, reply: &Reply) -> Result<bool, String> {
    if reply.status == 200 {
        let version = reply.json()["version"].as_u64().unwrap_or(0);
        let Expected::State(answer) = &question.expected else { return Err("a state".to_owned()) };
        if version > answer.version {
            return Err(format!("version {version}, which is later than {}", answer.version));
        }
        if matches!(question.selector, Selector::Version(_)) && version != answer.version {
            return Err(format!("version {version}"));
        }
        return Question::of(ledger, &question.id, Selector::Version(version))
            .judge(reply, true)
            .map(|()| true);
    }
    let code = reply.json()["code"].as_str().unwrap_or("").to_owned();
    let known = ["unknown-aggregate", "version-beyond-head", "before-first-event", "not-caught-up"];
    let retry = reply.status == 503;
    if retry || known.contains(&&*code) {
        Ok(false)
    } else {
        Err(format!("{}: {}", reply.status, reply.body))
    }
}

/// More right answers than so many make what was asked count.
const RIGHT_MIN: u64 = 100;
/// How long it is asked on at the most when all is over.
const ON: Duration = Duration::from_secs(20);

/// What was asked while something happened.
#[derive(Default, Debug)]
pub(crate) struct Meanwhile {
    pub(crate) right: u64,
    pub(crate) refused: u64,
    pub(crate) unreachable: u64,
    pub(crate) wrong: Vec<String>,
}

impl Meanwhile {
    /// No answer was wrong, and hardly nothing was answered.
    pub(crate) fn must_be_right(&self) {
        println!("meanwhile: {self:?}");
        assert!(self.wrong.is_empty(), "{:#?}", &self.wrong[..self.wrong.len().min(10)]);
        assert!(self.right > RIGHT_MIN, "hardly anything was answered: {self:?}");
    }
}

/// Ends the asking, also where something panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks about random versions and times until it is told to stop.
fn ask_meanwhile(ledger: &Ledger, url: &Mutex<String>, is_over: &AtomicBool) -> Meanwhile {
    let (mut dice, mut seen) = (Dice(77), Meanwhile::default());
    let ids: Vec<&str> = ledger.aggregates().collect();
    let (mut api, mut last) = (Api::new(""), None);
    // On a machine with much else to do most of the time something is down: then it is asked on for a while.
    while !is_over.load(Ordering::Relaxed)
        || (seen.right <= RIGHT_MIN && last.get_or_insert_with(Instant::now).elapsed() < ON)
    {
        let now = url.lock().unwrap().clone();
        if now.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        if now != api.url {
            api = Api::new(&now);
        }
        let id = ids[usize::try_from(dice.below(ids.len() as u64)).unwrap()];
        let times = ledger.boundary_times(id);
        let selector = match dice.below(4) {
            0 => Selector::Head,
            1 => Selector::At(times[usize::try_from(dice.below(times.len() as u64)).unwrap()]),
            _ => Selector::Version(1 + dice.below(ledger.head(id))),
        };
        let question = Question::of(ledger, id, selector);
        if !matches!(question.expected, Expected::State(_)) {
            continue;
        }
        match api.get(&question.path("order")) {
            Err(_) => seen.unreachable += 1,
            Ok(reply) => match judge_meanwhile(ledger, &question, &reply) {
                Ok(true) => seen.right += 1,
                Ok(false) => seen.refused += 1,
                Err(why) => seen.wrong.push(format!("{}: {why}", question.path("order"))),
            },
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    seen
}

/// What `deeds` returns, and what was asked while they lasted, at the address that they write down.
pub(crate) fn while_asking<T>(ledger: &Ledger, deeds: impl FnOnce(&Mutex<String>) -> T) -> (T, Meanwhile) {
    let (url, is_over) = (Mutex::new(String::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        let asking = scope.spawn(|| ask_meanwhile(ledger, &url, &is_over));
        let done = deeds(&url);
        drop(ends);
        (done, asking.join().unwrap())
    })
}

/// Events that flow while something happens to those who fold them: `chunk` at once, then a pause.
pub(crate) struct Flow<'a> {
    pub(crate) site: &'a Site,
    pub(crate) sendings: &'a [Sending],
    pub(crate) ledger: &'a Ledger,
    pub(crate) chunk: usize,
    pub(crate) pause_ms: u64,
}

impl Flow<'_> {
    /// Feeds the events and asks about them, whoever stands behind the address that `deeds` writes down,
    /// until the workers that `deeds` leaves behind have covered everything. What was asked meanwhile is
    /// right, and hardly nothing; the workers and what they answer at.
    pub(crate) fn through(
        &self,
        deeds: impl FnOnce(&Mutex<String>) -> Vec<Program>,
    ) -> (Vec<Program>, Vec<Api>) {
        let is_calm = AtomicBool::new(false);
        let (left, meanwhile) = while_asking(self.ledger, |url| {
            std::thread::scope(|scope| {
                let feeding = scope.spawn(|| {
                    for chunk in self.sendings.chunks(self.chunk) {
                        self.site.send(chunk);
                        if !is_calm.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(self.pause_ms));
                        }
                    }
                });
                let mut workers = deeds(url);
                is_calm.store(true, Ordering::Relaxed);
                feeding.join().unwrap();
                workers[0].url().clone_into(&mut url.lock().unwrap());
                let apis: Vec<Api> = workers.iter_mut().map(Program::ready).collect();
                all_settled(&apis, self.sendings.len() as u64, true);
                (workers, apis)
            })
        });
        meanwhile.must_be_right();
        left
    }
}

#[test]
fn workers_that_are_killed_lose_nothing_and_are_never_wrong() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 500ms }", "orders", PARTITIONS);
    let kills = std::env::var("SNAPFOLD_KILLS").map_or(12, |number| number.parse::<usize>().unwrap());
    let events = kills * EVENTS_A_KILL;
    let (sendings, ledger) = story(3, events, PARTITIONS, 0);
    let (mut dice, mut progress) = (Dice(11), Vec::new());
    let flow = Flow { site: &site, sendings: &sendings, ledger: &ledger, chunk: CHUNK, pause_ms: 500 };
    let (workers, apis) = flow.through(|url| {
        for kill in 0..kills {
            let mut worker = site.worker();
            // Some die before they say where they listen; the others while they fold.
            if kill % 4 != 3 {
                *url.lock().unwrap() = worker.url();
                let api = Api::new(&url.lock().unwrap());
                let position = || api.figure("snapfold_partition_position_offset");
                until("a partition", || position() > 0.0);
                std::thread::sleep(Duration::from_millis(dice.below(2_000)));
                progress.push(position());
            } else {
                std::thread::sleep(Duration::from_millis(dice.below(1_000)));
            }
            worker.kill();
            url.lock().unwrap().clear();
        }
        vec![site.worker()]
    });
    let ids: Vec<&str> = ledger.aggregates().step_by(if is_full() { 1 } else { 5 }).collect();
    ask_settled(&apis[0].url, "order", questions(&ledger, &ids, 4)).must_be_right("after all kills");
    println!("{} of {} aggregates asked about at every version", ids.len(), ledger.aggregates().count());
    workers.into_iter().for_each(|worker| {
        worker.stop();
    });
    println!("positions at the kills: {progress:?}");
    let half = |mark: &&f64| **mark > 0.0 && **mark < events as f64;
    assert!(progress.iter().filter(half).count() * 4 >= kills, "the kills missed the work: {progress:?}");
}
