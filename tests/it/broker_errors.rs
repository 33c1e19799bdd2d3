//! A worker whose brokers answer requests of every kind with every error that fits: it goes on by itself when
//! they stop, and until then its answers are right or say that something is missing.
//!
//! Method: one worker on the mock cluster, which answers the next requests of a kind with the codes that it
//! is given. Each row of the table names the kind, what makes the worker send such requests, and the codes.
//! The cluster counts what it is asked, so that a row in which nothing failed is a failure. With
//! `SNAPFOLD_TEST_FULL=1` each code comes alone, three times in a row; without it all codes of a row come
//! one after the other.

use crate::kill::{story, while_asking};
use crate::process::{Api, Program, until};
use crate::site::{ORDERS, Sending, Site, settled};
use crate::truth::{ask_settled, is_full, questions};
use snapfold::kafka::MockFailure as Failure;
use snapfold::kafka::MockRequest as Request;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;
/// Events that are sent at once.
const CHUNK: usize = 10;
/// A worker is itself again so long after its brokers are.
const AGAIN: Duration = Duration::from_secs(60);

/// What makes a worker send requests of a kind.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// They come by themselves.
    Work,
    /// A heartbeat is answered so.
    Heartbeat(Failure),
    /// All connections are cut.
    Connections,
    /// Partitions have a new leader epoch.
    Epoch,
    /// The worker is stopped and started again.
    Start,
}

type Row = (Request, Cause, &'static [Failure]);

use Failure::*;
const OF_PARTITIONS: &[Failure] = &[
    NotLeader,
    LeaderMissing,
    TimedOut,
    Disconnect,
    UnknownEpoch,
    FencedEpoch,
    Storage,
    TopicUnknown,
    Unknown,
];
const OF_COORDINATORS: &[Failure] =
    &[NotCoordinator, CoordinatorMissing, CoordinatorLoading, TimedOut, Disconnect];
const OF_GROUPS: &[Failure] = &[
    NotCoordinator,
    Rebalancing,
    IllegalGeneration,
    UnknownMember,
    TimedOut,
    Disconnect,
    GroupDenied,
    Unknown,
];

/// While it runs.
const RUNNING: [Row; 12] = [
    (Request::Fetch, Cause::Work, OF_PARTITIONS),
    (Request::Fetch, Cause::Work, &[OutOfRange, Corrupt, TopicDenied]),
    (Request::ListOffsets, Cause::Work, OF_PARTITIONS),
    (Request::OffsetForLeaderEpoch, Cause::Epoch, &[NotLeader, TimedOut, Disconnect, UnknownEpoch, Unknown]),
    (Request::OffsetCommit, Cause::Work, OF_GROUPS),
    (Request::OffsetCommit, Cause::Work, &[CoordinatorLoading, MetadataTooLarge, TopicDenied]),
    (Request::Heartbeat, Cause::Work, OF_GROUPS),
    (Request::FindCoordinator, Cause::Heartbeat(NotCoordinator), OF_COORDINATORS),
    (Request::JoinGroup, Cause::Heartbeat(UnknownMember), OF_COORDINATORS),
    (
        Request::JoinGroup,
        Cause::Heartbeat(IllegalGeneration),
        &[UnknownMember, OtherProtocol, GroupFull, GroupDenied, Unknown],
    ),
    (Request::SyncGroup, Cause::Heartbeat(Rebalancing), OF_GROUPS),
    (Request::ApiVersions, Cause::Connections, &[Disconnect, TimedOut, Unknown]),
];

/// While it starts or ends.
const STARTING: [Row; 7] = [
    (Request::ApiVersions, Cause::Start, &[Disconnect, TimedOut]),
    (Request::ListOffsets, Cause::Start, &[NotLeader, TimedOut, Disconnect]),
    (Request::FindCoordinator, Cause::Start, OF_COORDINATORS),
    (Request::JoinGroup, Cause::Start, OF_COORDINATORS),
    (Request::SyncGroup, Cause::Start, &[Rebalancing, NotCoordinator, Disconnect]),
    (Request::Fetch, Cause::Start, &[NotLeader, UnknownEpoch, Disconnect]),
    (Request::LeaveGroup, Cause::Start, &[NotCoordinator, UnknownMember, TimedOut, Disconnect]),
];

/// Answers to requests for metadata, which last as long as they are asked for.
const METADATA: [Failure; 4] = [LeaderMissing, TopicUnknown, TopicDenied, Unknown];

/// The worker, and what it has to fold.
struct Scene<'a> {
    site: &'a Site,
    url: &'a Mutex<String>,
    sendings: std::slice::Chunks<'a, Sending>,
    sent: u64,
    worker: Option<Program>,
    slowest: Duration,
}

impl Scene<'_> {
    fn send(&mut self) {
        let chunk = self.sendings.next().unwrap_or_default();
        self.site.send_by_a_new_client(chunk);
        self.sent += chunk.len() as u64;
    }

    fn start(&mut self) {
        let mut worker = self.site.worker();
        worker.url().clone_into(&mut self.url.lock().unwrap());
        self.worker = Some(worker);
    }

    fn cause(&mut self, cause: Cause) {
        let broker = self.site.broker();
        match cause {
            Cause::Work => self.send(),
            Cause::Heartbeat(failure) => broker.fail(Request::Heartbeat, &[failure]).unwrap(),
            Cause::Connections => {
                broker.down().unwrap();
                broker.up().unwrap();
            }
            Cause::Epoch => (0..PARTITIONS).for_each(|it| broker.lead("orders", it, Some(1)).unwrap()),
            Cause::Start => {
                self.url.lock().unwrap().clear();
                if let Some(worker) = self.worker.take() {
                    worker.stop();
                }
                self.start();
            }
        }
    }

    /// Everything is folded and covered, without anybody's doing.
    fn recovers(&mut self, what: &str) {
        self.send();
        let since = Instant::now();
        let api = self.worker.as_mut().unwrap().ready();
        settled(&api, self.sent, true);
        let took = since.elapsed();
        println!("{what}: settled {:.1} s later", took.as_secs_f64());
        assert!(took < AGAIN, "{what}: {took:?}");
        self.slowest = self.slowest.max(took);
    }

    fn round(&mut self, request: Request, cause: Cause, failures: &[Failure]) {
        let what = format!("{request:?} after {cause:?} answered with {failures:?}");
        let broker = self.site.broker();
        let _ = broker.requests().unwrap();
        broker.fail(request, failures).unwrap();
        let (mut asked, begun) = (0, Instant::now());
        // A cause may bring one request only.
        while asked < failures.len() && begun.elapsed() < AGAIN {
            self.cause(cause);
            let (before, since) = (asked, Instant::now());
            while asked == before && since.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(50));
                let counts = broker.requests().unwrap();
                asked += counts.iter().find(|(kind, _)| *kind == request).unwrap().1;
            }
        }
        assert!(asked >= failures.len(), "{what}: only {asked} such requests came");
        broker.heal(request).unwrap();
        broker.heal(Request::Heartbeat).unwrap();
        self.recovers(&what);
    }

    fn metadata(&mut self, failure: Failure) {
        let broker = self.site.broker();
        broker.fail_topic("orders", Some(failure)).unwrap();
        // It asks every second.
        std::thread::sleep(Duration::from_secs(3));
        broker.fail_topic("orders", None).unwrap();
        // So does the producer.
        std::thread::sleep(Duration::from_secs(2));
        self.recovers(&format!("metadata answered with {failure:?}"));
    }

    fn slow_and_gone(&mut self) {
        let broker = self.site.broker();
        broker.delay(Duration::from_millis(700)).unwrap();
        self.send();
        std::thread::sleep(Duration::from_secs(3));
        broker.delay(Duration::ZERO).unwrap();
        self.recovers("answers that come late");
        broker.down().unwrap();
        std::thread::sleep(Duration::from_secs(4));
        broker.up().unwrap();
        self.recovers("no broker for longer than a session");
    }
}

/// What is pushed at once.
fn portions(failures: &'static [Failure]) -> Vec<Vec<Failure>> {
    if is_full() { failures.iter().map(|one| vec![*one; 3]).collect() } else { vec![failures.to_vec()] }
}

#[test]
fn a_worker_survives_every_error_of_every_request() {
    let quick = [("topic.metadata.refresh.interval.ms", "1000")];
    let more = "checkpoint: { interval: 300ms }";
    let site = Site::mocked(ORDERS, more, ("orders", PARTITIONS), &quick);
    let rounds: Vec<(Request, Cause, Vec<Failure>)> = RUNNING
        .iter()
        .chain(&STARTING)
        .flat_map(|(request, cause, failures)| {
            portions(failures).into_iter().map(|portion| (*request, *cause, portion))
        })
        .collect();
    // Some rounds need more than others; what is left is sent at the end.
    let chunks = 20 + rounds.iter().map(|(.., failures)| failures.len() + 2).sum::<usize>();
    let (sendings, ledger) = story(51, chunks * CHUNK, PARTITIONS, 0);
    let ((worker, slowest), meanwhile) = while_asking(&ledger, |url| {
        let sendings = sendings.chunks(CHUNK);
        let mut scene = Scene { site: &site, url, sendings, sent: 0, worker: None, slowest: Duration::ZERO };
        scene.start();
        scene.recovers("the start");
        site.broker().count_requests().unwrap();
        for (request, cause, failures) in &rounds {
            scene.round(*request, *cause, failures);
        }
        METADATA.into_iter().for_each(|failure| scene.metadata(failure));
        scene.slow_and_gone();
        while scene.sendings.len() > 0 {
            scene.send();
        }
        scene.recovers("the end");
        (scene.worker.take().unwrap(), scene.slowest)
    });
    println!("{} rounds, the slowest settled after {slowest:?}", rounds.len());
    meanwhile.must_be_right();
    let mut worker = worker;
    let ids: Vec<&str> = ledger.aggregates().step_by(5).collect();
    let api: Api = worker.ready();
    ask_settled(&api.url, "order", questions(&ledger, &ids, 1)).must_be_right("after all errors");
    worker.stop();
}

/// Only a new process helps a client that was fenced, so whoever looks after processes must hear of it.
#[test]
fn a_client_that_cannot_go_on_fails_its_liveness_and_the_next_process_goes_on() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", 2);
    let (sendings, ledger) = story(52, 100, 2, 0);
    site.send(&sendings[..50]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 50, true);
    site.broker().fail(Request::Heartbeat, &[FencedInstance]).unwrap();
    let mut said = String::new();
    until("liveness says no", || {
        let reply = api.get("/livez").unwrap();
        said = reply.body;
        reply.status == 503
    });
    assert!(said.contains("restart"), "{said}");
    assert_eq!(api.get("/readyz").unwrap().status, 503);
    worker.stop();
    site.send(&sendings[50..]);
    let mut next = site.worker();
    let api = next.ready();
    settled(&api, 100, true);
    let ids: Vec<&str> = ledger.aggregates().collect();
    ask_settled(&api.url, "order", questions(&ledger, &ids, 2)).must_be_right("the next process");
    next.stop();
}
