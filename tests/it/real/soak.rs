//! `make soak`: for as long as asked, everything dies at random while events flow and questions are asked;
//! at the end, or at Ctrl-C, a table.
//!
//! Method: servers of its own, and rounds of at most five minutes, each with a topic, a keyspace, a bucket
//! and a ledger of its own, so that neither the ledger nor what is asked at the end of a round grows with
//! the soak. In a round, three workers fold what a producer writes; workers are killed, frozen for longer
//! than their session, and stopped; broker, index and blob store are killed and come back. Then all is left
//! alone, everything has to be covered, and every worker is asked.
//!
//! `SNAPFOLD_SOAK_MINUTES` says how long; without it, a sample of half a minute.

use super::Topic;
use crate::kill::{Dice, story, while_asking};
use crate::ledger::{Ledger, Selector};
use crate::process::{Api, Program, until};
use crate::servers::{self, Own};
use crate::site::{ORDERS, Sending, Site, all_settled};
use crate::truth::{Question, ask_settled, questions};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 6;
const WORKERS: usize = 3;
const ROUND: Duration = Duration::from_secs(300);
/// Events at once, and the pause after them.
const CHUNK: usize = 40;
const PAUSE: Duration = Duration::from_millis(250);
const SAMPLE_MINUTES: f64 = 0.5;

/// What the table says.
#[derive(Default)]
struct Tally {
    rounds: u64,
    deeds: BTreeMap<&'static str, u64>,
    right: u64,
    refused: u64,
    unreachable: u64,
    /// When all was left alone.
    asked: u64,
    wrong: Vec<String>,
    events: u64,
    behind_max: u64,
    settled_max: Duration,
    takeovers: u64,
    takeover_max: Duration,
}

impl Tally {
    fn print(&self, lasted: Duration) {
        println!("soak of {:.1} min in {} rounds", lasted.as_secs_f64() / 60.0, self.rounds);
        for (deed, count) in &self.deeds {
            println!("  {deed:<32} {count:>10}");
        }
        for (what, count) in [
            ("events", self.events),
            ("answers meanwhile: right", self.right),
            ("answers meanwhile: refused", self.refused),
            ("answers meanwhile: nobody there", self.unreachable),
            ("answers at the ends of rounds", self.asked),
            ("answers: wrong", self.wrong.len() as u64),
            ("low watermark behind, at most", self.behind_max),
            ("takeovers", self.takeovers),
        ] {
            println!("  {what:<32} {count:>10}");
        }
        println!("  {:<32} {:>9.1}s", "slowest takeover", self.takeover_max.as_secs_f64());
        println!("  {:<32} {:>9.1}s", "slowest end of a round", self.settled_max.as_secs_f64());
    }
}

/// Sums of what workers say of their partitions: how many, positions, low watermarks; nothing if one of them
/// is not ready.
fn shares(apis: &[Api]) -> Option<(usize, u64, u64)> {
    let mut sums = (0, 0, 0);
    for api in apis {
        let reply = api.get("/readyz?verbose=true").ok().filter(|reply| reply.status == 200)?;
        let body = reply.json();
        let partitions = body["partitions"].as_array()?;
        let sum = |name: &str| partitions.iter().map(|one| one[name].as_u64().unwrap_or(0)).sum::<u64>();
        sums = (sums.0 + partitions.len(), sums.1 + sum("position"), sums.2 + sum("lowWatermark"));
    }
    Some(sums)
}

/// One round while it lasts.
struct Round<'a> {
    own: &'a Own,
    site: &'a Site,
    url: &'a Mutex<String>,
    sent: &'a AtomicU64,
    dice: Dice,
    workers: Vec<Program>,
    tally: &'a mut Tally,
}

impl Round<'_> {
    fn count(&mut self, deed: &'static str) {
        *self.tally.deeds.entry(deed).or_default() += 1;
    }

    /// Something happens to one worker, or to one server.
    fn deed(&mut self) {
        let of = usize::try_from(self.dice.below(WORKERS as u64)).unwrap();
        *self.url.lock().unwrap() = self.workers[(of + 1) % WORKERS].url();
        std::thread::sleep(Duration::from_millis(1_000 + self.dice.below(4_000)));
        match self.dice.below(10) {
            0..4 => self.kill(of),
            4..6 => {
                self.count("workers frozen");
                self.workers[of].freeze();
                std::thread::sleep(Duration::from_millis(2_500 + self.dice.below(2_500)));
                self.workers[of].thaw();
            }
            6 => {
                self.count("workers stopped");
                self.workers[of].interrupt();
                self.workers[of] = self.site.worker_apart();
            }
            7 => self.kill_server("kafka", "broker killed"),
            8 => self.kill_server("cassandra", "index killed"),
            _ => self.kill_server("seaweedfs", "blob store killed"),
        }
    }

    fn kill(&mut self, of: usize) {
        self.count("workers killed");
        self.workers[of].kill();
        let since = Instant::now();
        let others: Vec<Api> =
            (1..WORKERS).map(|next| Api::new(&self.workers[(of + next) % WORKERS].url())).collect();
        until("a takeover", || {
            let Some((count, _, low_watermark)) = shares(&others) else { return false };
            let behind = self.sent.load(Ordering::Relaxed).saturating_sub(low_watermark);
            let is_over = count == PARTITIONS as usize;
            if is_over {
                self.tally.behind_max = self.tally.behind_max.max(behind);
            }
            is_over
        });
        self.tally.takeovers += 1;
        self.tally.takeover_max = self.tally.takeover_max.max(since.elapsed());
        self.workers[of] = self.site.worker_apart();
    }

    fn kill_server(&mut self, name: &str, deed: &'static str) {
        self.count(deed);
        self.own.kill(name);
        std::thread::sleep(Duration::from_millis(self.dice.below(4_000)));
        self.own.start(name);
    }
}

/// Writes what it can until it is told to stop; what was written is in `sent`.
fn feed(site: &Site, sendings: &[Sending], is_calm: &AtomicBool, sent: &AtomicU64) {
    for chunk in sendings.chunks(CHUNK) {
        if is_calm.load(Ordering::Relaxed) {
            return;
        }
        site.send(chunk);
        sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}

fn round(own: &Own, nth: u64, time: Duration, is_over: &AtomicBool, tally: &mut Tally) {
    let start = |name: &str| own.start(name);
    let topic = Topic::on(&servers::addresses(&start("kafka")).0, PARTITIONS, &[]);
    let site = Site::cluster_of(&start, &topic.named(ORDERS), "checkpoint: { interval: 500ms }", &topic.name);
    let seed = 1_000 + nth;
    let events = usize::try_from(time.as_millis() / PAUSE.as_millis()).unwrap() * CHUNK;
    let (sendings, ledger) = story(seed, events, PARTITIONS, 0);
    let (is_calm, sent, end) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now() + time);
    let ((workers, apis), meanwhile) = while_asking(&ledger, |url| {
        std::thread::scope(|scope| {
            let feeding = scope.spawn(|| feed(&site, &sendings, &is_calm, &sent));
            let workers = (0..WORKERS).map(|_| site.worker_apart()).collect();
            let (dice, own, site, sent) = (Dice(seed), own, &site, &sent);
            let mut round = Round { own, site, url, sent, dice, workers, tally };
            round.workers.iter_mut().for_each(|worker| drop(worker.ready()));
            while Instant::now() < end && !is_over.load(Ordering::Relaxed) {
                round.deed();
            }
            is_calm.store(true, Ordering::Relaxed);
            feeding.join().unwrap();
            let since = Instant::now();
            let apis: Vec<Api> = round.workers.iter_mut().map(Program::ready).collect();
            all_settled(&apis, sent.load(Ordering::Relaxed), true);
            round.tally.settled_max = round.tally.settled_max.max(since.elapsed());
            (round.workers, apis)
        })
    });
    let sent = sent.load(Ordering::Relaxed);
    tally.rounds += 1;
    tally.events += sent;
    tally.right += meanwhile.right;
    tally.refused += meanwhile.refused;
    tally.unreachable += meanwhile.unreachable;
    tally.wrong.extend(meanwhile.wrong);
    // What was not sent any more never happened.
    let (_, ledger): (_, Ledger) = story(seed, usize::try_from(sent).unwrap(), PARTITIONS, 0);
    let ids: Vec<&str> = ledger.aggregates().step_by(30).collect();
    let heads = ledger.aggregates().map(|id| Question::of(&ledger, id, Selector::Head));
    let mut outcomes = vec![ask_settled(&apis[0].url, "order", heads)];
    outcomes.extend(apis.iter().map(|api| ask_settled(&api.url, "order", questions(&ledger, &ids, 2))));
    for outcome in outcomes {
        tally.asked += outcome.asked;
        tally.wrong.extend(outcome.wrong);
    }
    workers.into_iter().for_each(|worker| {
        worker.stop();
    });
}

/// Sets the flag at Ctrl-C. Workers do not hear of it: they are in groups of their own.
fn stop_at_interrupt(is_over: &'static AtomicBool) {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            println!("interrupted: the round comes to its end");
            is_over.store(true, Ordering::Relaxed);
        }
    });
}

#[test]
fn a_soak_finds_no_wrong_answer_and_loses_nothing() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    let asked = std::env::var("SNAPFOLD_SOAK_MINUTES").ok();
    let minutes = asked.as_ref().map_or(SAMPLE_MINUTES, |minutes| minutes.parse::<f64>().unwrap());
    if asked.is_some() {
        stop_at_interrupt(&IS_OVER);
    }
    let own = Own::new();
    let (began, mut tally) = (Instant::now(), Tally::default());
    let end = began + Duration::from_secs_f64(minutes * 60.0);
    while Instant::now() < end && !IS_OVER.load(Ordering::Relaxed) {
        let time = ROUND.min(end.saturating_duration_since(Instant::now()));
        if tally.rounds > 0 && time < Duration::from_secs(10) {
            break;
        }
        round(&own, tally.rounds, time, &IS_OVER, &mut tally);
        if asked.is_some() {
            tally.print(began.elapsed());
        }
    }
    tally.print(began.elapsed());
    assert!(tally.wrong.is_empty(), "{:#?}", &tally.wrong[..tally.wrong.len().min(10)]);
    assert!(tally.right > 20 && !tally.deeds.is_empty(), "hardly anything happened");
}
