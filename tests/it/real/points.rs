//! The worker that folds is killed, or stopped and let go on as a zombie, at named points of the write order:
//! another one takes over, and every answer is the ledger's.
//!
//! Method: proxies before SeaweedFS and Cassandra hold the request that ends the point, so the worker is
//! surely there. What is held reaches the server after the other worker has taken over, as the late write of
//! a dead worker may. `SNAPFOLD_TEST_FULL=1` freezes at every point, not at every other.

use super::Topic;
use crate::cql_proxy::{Moment, Proxy as Statements};
use crate::kill::{story, while_asking};
use crate::process::{Api, Program, until};
use crate::proxy::{Fault, Proxy as Requests, When};
use crate::site::{ORDERS, Sending, Site, all_settled};
use crate::truth::{ask_settled, is_full, questions};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PARTITIONS: i32 = 3;
/// Events before the point and after it.
const CHUNK: usize = 200;
/// A session and the time to notice its end.
const SESSION: Duration = Duration::from_millis(2_500);

/// Where the worker is when it happens.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// A pack is durable, and no row names it.
    Pack,
    /// This table's row is on its way.
    BeforeRow(&'static str),
    /// This table's row is durable, and the worker has not heard of it.
    AfterRow(&'static str),
}

/// In the order of a write: pack, snapshot rows, checkpoint row, low watermark, and then the group's commit.
const WHILE_FOLDING: [Point; 6] = [
    Point::Pack,
    Point::BeforeRow("snapshots"),
    Point::AfterRow("snapshots"),
    Point::BeforeRow("checkpoints"),
    Point::AfterRow("checkpoints"),
    Point::AfterRow("partitions"),
];

/// Only a worker that is asked to let go of partitions writes these when checkpoints are an hour apart.
const WHILE_REVOKED: [Point; 3] =
    [Point::BeforeRow("checkpoints"), Point::BeforeRow("partitions"), Point::AfterRow("partitions")];

#[derive(Clone, Copy, Debug)]
enum Deed {
    Kill,
    Freeze,
}

/// What stands between workers and their stores.
struct Gates {
    _runtime: tokio::runtime::Runtime,
    statements: Statements,
    requests: Requests,
    holds_packs: Arc<AtomicBool>,
    packs: Arc<AtomicUsize>,
}

impl Gates {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (holds_packs, packs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (holds, count) = (Arc::clone(&holds_packs), Arc::clone(&packs));
        let (cassandra, seaweedfs) = (crate::servers::start("cassandra"), crate::servers::start("seaweedfs"));
        let (statements, requests) = runtime.block_on(async {
            let choose = move |request: &crate::proxy::Message| {
                let line = request.first_line();
                if !holds.load(Ordering::SeqCst) || !line.starts_with("PUT ") || !line.contains(".sfp") {
                    return Fault::Pass;
                }
                count.fetch_add(1, Ordering::SeqCst);
                Fault::Stall(When::After)
            };
            (Statements::start(cassandra).await, Requests::start(&seaweedfs, choose).await)
        });
        Self { _runtime: runtime, statements, requests, holds_packs, packs }
    }

    fn address(&self, server: &str) -> String {
        match server {
            "cassandra" => self.statements.address.clone(),
            "seaweedfs" => self.requests.url.clone(),
            other => crate::servers::start(other),
        }
    }

    fn hold(&self, point: Point) {
        match point {
            Point::Pack => {
                self.packs.store(0, Ordering::SeqCst);
                self.holds_packs.store(true, Ordering::SeqCst);
            }
            Point::BeforeRow(table) => self.statements.hold(table, Moment::Before),
            Point::AfterRow(table) => self.statements.hold(table, Moment::After),
        }
    }

    fn has_reached(&self, point: Point) -> bool {
        match point {
            Point::Pack => self.packs.load(Ordering::SeqCst) > 0,
            Point::BeforeRow(_) | Point::AfterRow(_) => self.statements.held() > 0,
        }
    }

    fn hold_no_more(&self) {
        self.holds_packs.store(false, Ordering::SeqCst);
        self.statements.hold_no_more();
    }
}

struct Scene<'a> {
    site: &'a Site,
    gates: &'a Gates,
    url: &'a Mutex<String>,
    sendings: std::slice::Chunks<'a, Sending>,
    sent: u64,
    /// Who folds.
    worker: Program,
}

impl Scene<'_> {
    fn send(&mut self) {
        let chunk = self.sendings.next().expect("as many chunks as are sent");
        self.site.send(chunk);
        self.sent += chunk.len() as u64;
    }

    /// Holds at the point, does the deed there, and lets another worker take over.
    fn at(&mut self, point: Point, deed: Deed, covered: bool, joins: Option<Program>) {
        self.gates.hold(point);
        // Where somebody joins, partitions are asked back; else events are what makes the worker write.
        if joins.is_none() {
            self.send();
        }
        until(&format!("{point:?}"), || self.gates.has_reached(point));
        self.url.lock().unwrap().clear();
        match deed {
            Deed::Kill => self.worker.kill(),
            Deed::Freeze => self.worker.freeze(),
        }
        self.gates.hold_no_more();
        let mut next = joins.unwrap_or_else(|| self.site.worker());
        next.url().clone_into(&mut self.url.lock().unwrap());
        self.send();
        std::thread::sleep(SESSION);
        let api = next.ready();
        all_settled(std::slice::from_ref(&api), self.sent, covered);
        // Late writes of a worker that is dead, or is not the owner any more.
        if matches!(deed, Deed::Freeze) {
            self.worker.thaw();
        }
        self.gates.statements.let_go();
        self.send();
        let mut former = std::mem::replace(&mut self.worker, next);
        let mut apis = vec![self.worker.ready()];
        if matches!(deed, Deed::Freeze) {
            apis.push(former.ready());
        }
        all_settled(&apis, self.sent, covered);
        if matches!(deed, Deed::Freeze) {
            former.stop();
            all_settled(&[self.worker.ready()], self.sent, covered);
        }
        println!("{point:?} {deed:?}: {} events", self.sent);
    }
}

/// Each deed at each point, with checkpoints as often as `interval` says.
fn points(seed: u64, points: &[Point], interval: &str, is_revoked: bool) {
    let gates = Gates::new();
    let topic = Topic::new(PARTITIONS, &[]);
    let more = format!("checkpoint: {{ interval: {interval} }}");
    let start = |name: &str| gates.address(name);
    let site = Site::cluster_of(&start, &topic.named(ORDERS), &more, &topic.name);
    // A zombie takes its time: of those, every other point is a sample.
    let both = points.iter().enumerate().flat_map(|(nth, point)| {
        let freeze = (is_full() || nth % 2 == 1).then_some((*point, Deed::Freeze));
        std::iter::once((*point, Deed::Kill)).chain(freeze)
    });
    let deeds: Vec<(Point, Deed)> = both.collect();
    let chunks = 1 + deeds.len() * 3;
    let (sendings, ledger) = story(seed, chunks * CHUNK, PARTITIONS, 0);
    let (worker, meanwhile) = while_asking(&ledger, |url| {
        let mut worker = site.worker();
        worker.url().clone_into(&mut url.lock().unwrap());
        let sendings = sendings.chunks(CHUNK);
        let mut scene = Scene { site: &site, gates: &gates, url, sendings, sent: 0, worker };
        scene.send();
        all_settled(&[scene.worker.ready()], scene.sent, !is_revoked);
        for (point, deed) in deeds {
            let joins = is_revoked.then(|| {
                scene.send();
                all_settled(&[scene.worker.ready()], scene.sent, false);
                site.worker()
            });
            scene.at(point, deed, !is_revoked, joins);
        }
        assert!(scene.sendings.next().is_none(), "some chunks were not sent");
        scene.worker
    });
    meanwhile.must_be_right();
    let mut worker = worker;
    let api: Api = worker.ready();
    let ids: Vec<&str> = ledger.aggregates().step_by(if is_full() { 1 } else { 3 }).collect();
    ask_settled(&api.url, "order", questions(&ledger, &ids, 2)).must_be_right("after all points");
    worker.stop();
}

#[test]
fn workers_that_die_between_two_writes_lose_nothing() {
    points(61, &WHILE_FOLDING, "500ms", false);
}

#[test]
fn workers_that_die_while_they_let_go_of_partitions_lose_nothing() {
    points(62, &WHILE_REVOKED, "1h", true);
}
