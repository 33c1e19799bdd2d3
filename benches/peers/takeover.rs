//! How soon everything answers again after a worker was killed: events that go on coming at a steady rate,
//! and questions to a worker that is left.
//!
//! Aggregates are where Java's producers put them, and the first event of each is in the topic before anybody
//! starts. Then every aggregate gets one more in turn. What the broker has acknowledged is what a head must
//! have.

use super::answers::Server;
use super::{fail, topic};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use snapfold::clock::{Clock, SystemClock};
use snapfold::lookup::Partitioner;
use snapfold::telemetry::stopwatch::Stopwatch;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Between two portions of events.
const TICK_MS: u64 = 10;
/// Threads that ask for heads.
const HEADS: usize = 2;
/// From one aggregate to the next: prime, and no divisor of a round number of aggregates.
const STRIDE: usize = 7_919;
const PAD: &str =
    "a line of an order that is as long as lines of orders are, with some words for whoever packs it";

/// The newest acknowledged version of each aggregate.
#[derive(Clone)]
struct Acked(Arc<Vec<AtomicU32>>);

impl ClientContext for Acked {}

impl ProducerContext for Acked {
    type DeliveryOpaque = Box<(usize, u32)>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<(usize, u32)>) {
        match result {
            Ok(_) => self.0[sent.0].store(sent.1, Ordering::Release),
            Err((error, _)) => fail(&format!("a record is lost: {error}")),
        }
    }
}

/// Events of aggregates, to one topic.
struct Source {
    producer: BaseProducer<Acked>,
    acked: Acked,
    topic: String,
    partitions: usize,
}

impl Source {
    fn new(brokers: &str, topic: &str, aggregates: usize, partitions: usize, version: u32) -> Self {
        let acked = Acked(Arc::new((0..aggregates).map(|_| AtomicU32::new(version)).collect()));
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "1000000")
            .create_with_context(acked.clone())
            .expect("a producer can be made");
        Self { producer, acked, topic: topic.to_owned(), partitions }
    }

    fn send(&self, aggregate: usize, version: u32) {
        let (key, time) = (id(aggregate), format!("2026-11-24T10:{:02}:00Z", version % 60));
        let partition = partition_of(&key, self.partitions);
        let value = format!(
            r#"{{"id":"e-{aggregate}-{version}","type":"LineChanged","version":{version},"timestamp":"{time}","#
        ) + &format!(
            r#""data":{{"count":{version},"line{}":{{"sku":{aggregate},"text":"{PAD}"}}}}}}"#,
            version % 4
        );
        let mut next = BaseRecord::with_opaque_to(&self.topic, Box::new((aggregate, version)))
            .partition(partition)
            .key(key.as_str())
            .payload(value.as_str());
        while let Err((error, back)) = self.producer.send(next) {
            let is_full = error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::QueueFull);
            assert!(is_full, "write to `{}`: {error}", self.topic);
            self.producer.poll(Duration::from_millis(10));
            next = back;
        }
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(600)).expect("the broker takes all records");
    }
}

fn partition_of(id: &str, partitions: usize) -> i32 {
    let partitions = u32::try_from(partitions).expect("few partitions");
    Partitioner::Murmur2.partition(id.as_bytes(), partitions).expect("there are partitions").0
}

fn id(aggregate: usize) -> String {
    format!("order-{aggregate:08}")
}

/// Makes a topic with the first event of each aggregate.
pub(super) fn first(brokers: &str, name: &str, aggregates: usize, partitions: usize) {
    if !topic::create(brokers, name, partitions) {
        fail(&format!("topic `{name}` is there already"));
    }
    let source = Source::new(brokers, name, aggregates, partitions, 0);
    for aggregate in 0..aggregates {
        source.send(aggregate, 1);
        if aggregate % 1_000 == 0 {
            source.producer.poll(Duration::ZERO);
        }
    }
    source.flush();
}

/// What is to be done, and when.
pub(super) struct Plan<'a> {
    pub(super) aggregates: usize,
    pub(super) partitions: usize,
    /// Events a second.
    pub(super) rate: u64,
    /// Seconds until the kill, and after it.
    pub(super) seconds: (u64, u64),
    /// Who is killed.
    pub(super) pid: &'a str,
    /// The partitions it owned: their aggregates are asked for.
    pub(super) of: &'a [i32],
}

/// Goes on with the events of `first`, kills a process in between, and asks the worker at `url` all the time,
/// unless that is `-`: for heads, which must have what was acknowledged before, and for versions that were
/// folded a while ago. Prints `KIND BEGUN_MS TOOK_MS STATUS` for each question, from the kill on, and once
/// `killed UNIX_MS`.
pub(super) fn run(brokers: &str, name: &str, url: &str, plan: &Plan<'_>) {
    let source = Source::new(brokers, name, plan.aggregates, plan.partitions, 1);
    let (acked, is_over) = (source.acked.clone(), AtomicBool::new(false));
    let clock = Stopwatch::start();
    let kill_at = plan.seconds.0 as f64 * 1e3;
    thread::scope(|scope| {
        if url != "-" {
            for nth in 0..=HEADS {
                let (acked, is_over, clock) = (&acked, &is_over, &clock);
                let asker = Asker { server: Server::new(url), acked, plan, dice: nth as u64 + 1 };
                scope.spawn(move || asker.ask(nth == HEADS, is_over, clock, kill_at));
            }
        }
        let (mut at, mut tick, mut is_killed) = (0, 0, false);
        while tick * TICK_MS < (plan.seconds.0 + plan.seconds.1) * 1_000 {
            let due = (tick + 1) * plan.rate * TICK_MS / 1_000 - tick * plan.rate * TICK_MS / 1_000;
            for _ in 0..due {
                let aggregate = at * STRIDE % plan.aggregates;
                source.send(aggregate, u32::try_from(at / plan.aggregates).expect("few events") + 2);
                at += 1;
            }
            tick += 1;
            if !is_killed && clock.ms() >= kill_at {
                is_killed = true;
                kill(plan.pid);
            }
            loop {
                let left = (tick * TICK_MS) as f64 - clock.ms();
                source.producer.poll(Duration::from_secs_f64(left.max(0.0) / 1e3));
                if left <= 0.0 {
                    break;
                }
            }
        }
        is_over.store(true, Ordering::Release);
        source.flush();
    });
    eprintln!("{:.0} ms for events of {:.0}", clock.ms(), (plan.seconds.0 + plan.seconds.1) as f64 * 1e3);
}

fn kill(pid: &str) {
    println!("killed {}", SystemClock::start().now().0);
    let done = Command::new("kill").args(["-9", pid]).status();
    assert!(done.is_ok_and(|done| done.success()), "kill -9 {pid}");
}

struct Asker<'a> {
    server: Server<'a>,
    acked: &'a Acked,
    plan: &'a Plan<'a>,
    dice: u64,
}

impl Asker<'_> {
    fn roll(&mut self, below: usize) -> usize {
        self.dice = self.dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from(self.dice >> 33).expect("31 bits fit") % below
    }

    fn ask(mut self, is_for_versions: bool, is_over: &AtomicBool, clock: &Stopwatch, kill_at: f64) {
        let (plan, acked) = (self.plan, self.acked);
        while !is_over.load(Ordering::Acquire) {
            let aggregate = self.roll(plan.aggregates);
            if !plan.of.contains(&partition_of(&id(aggregate), plan.partitions)) {
                continue;
            }
            let version = acked.0[aggregate].load(Ordering::Acquire);
            // Of versions one that was not the newest: it was folded a while ago.
            let selector = match is_for_versions {
                true => format!("?version={}", 1 + self.roll((version as usize - 1).max(1))),
                false => format!("?minVersion={version}&wait=1s"),
            };
            let begun = clock.ms();
            let status = self.server.status(&id(aggregate), &selector);
            let kind = if is_for_versions { "version" } else { "head" };
            println!("{kind} {:.1} {:.1} {status}", begun - kill_at, clock.ms() - begun);
        }
    }
}
