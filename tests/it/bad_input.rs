//! Input and stores that are not as they should be: dead letters, policies, the shapes of refusals, and packs
//! that are damaged on disk. Never a wrong answer.

use crate::kill::{Dice, noise, story};
use crate::ledger::{Expected, Ledger, OnPoison, Record, Selector, Taken};
use crate::process::{Api, Program, Reply, until};
use crate::site::{ORDERS, Sending, Site, orders_spec, settled};
use crate::truth::{Question, ask, ask_settled, encoded, questions, reason};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};

/// Good and bad events, each bad one of an aggregate of its own, and what comes after them.
fn mixed() -> Vec<Sending> {
    let one = |key: Option<&str>, value: Option<&[u8]>| Sending {
        partition: 0,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(<[u8]>::to_vec),
        time_ms: 1_000,
    };
    let good = br#"{"type":"ItemAdded","at":5000,"data":{"sku":"a","qty":1,"price":2.50}}"#;
    let bad: [(&str, &[u8]); 9] = [
        ("no-json", b"{\"type\":"),
        ("no-utf8", b"{\"type\":\"\xff\"}"),
        ("twice", br#"{"type":"Seen","type":"Seen","data":1}"#),
        ("no-type", br#"{"data":{"sku":"a"}}"#),
        ("type-is-list", br#"{"type":[1],"data":{}}"#),
        ("no-time", br#"{"type":"Seen","at":"yesterday","data":{}}"#),
        ("reducer", br#"{"type":"ItemAdded","at":5000,"data":{"sku":"a","qty":"many","price":1}}"#),
        ("surrogate", br#"{"type":"\ud800","data":1}"#),
        ("deep/er one", br#"{"type":"ItemAdded","at":5000,"data":[]}"#),
    ];
    let mut all = vec![one(Some("whole"), Some(good)), one(None, Some(good)), one(Some(""), Some(good))];
    for (key, value) in bad {
        // The first event, a later one, and what follows it.
        all.push(one(Some(&format!("{key}-first")), Some(value)));
        all.extend([one(Some(key), Some(good)), one(Some(key), Some(value)), one(Some(key), Some(good))]);
    }
    all.extend([one(Some("whole"), None), one(None, None), one(Some("whole"), Some(good))]);
    all
}

fn ledger_of(sendings: &[Sending], on_poison: OnPoison) -> (Ledger, Vec<Taken>) {
    let mut ledger = Ledger::new(orders_spec(on_poison));
    let push = |(offset, sending): (usize, &Sending)| {
        ledger.push(Record {
            partition: sending.partition,
            offset: i64::try_from(offset).unwrap(),
            record_time_ms: sending.time_ms,
            key: sending.key.clone(),
            value: sending.value.clone(),
            headers: Vec::new(),
        })
    };
    let taken = sendings.iter().enumerate().map(push).collect();
    (ledger, taken)
}

/// All dead letters of the API, page by page.
fn dead_letters(api: &Api) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = api.get(&format!("/v1/dead-letters?type=order&limit=7&payload=true{cursor}")).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        let body = reply.json();
        all.extend(body["items"].as_array().unwrap().iter().cloned());
        let Some(next) = body["nextCursor"].as_str() else { return all };
        cursor = format!("&cursor={}", encoded(next));
    }
}

/// Dead letters in the order of the log: the ledger's, and what was skipped, which is recorded as well.
fn letters(ledger: &Ledger, sendings: &[Sending]) -> Vec<(i64, Option<String>, String)> {
    let dead = ledger.dead_letters().iter();
    let mut all: Vec<_> =
        dead.map(|letter| (letter.offset, letter.aggregate_id.clone(), letter.code.to_owned())).collect();
    for id in ledger.aggregates() {
        for fact in ledger.versions(id).iter().filter(|fact| fact.skipped) {
            let key = String::from_utf8(fact.record.key.clone().unwrap()).unwrap();
            let code = match key.trim_end_matches("-first") {
                "no-type" | "type-is-list" => "bad-type",
                "no-time" => "bad-time",
                "reducer" | "deep/er one" => "reducer",
                _ => "undecodable",
            };
            all.push((fact.record.offset, Some(key), code.to_owned()));
        }
    }
    all.sort();
    assert!(all.len() < sendings.len());
    all
}

fn policy(name: &str, on_poison: OnPoison) {
    let streams = format!("{ORDERS}    onPoison: {name}\n");
    let site = Site::new(&streams, "checkpoint: { interval: 300ms }", "orders", 1);
    let sendings = mixed();
    let (ledger, taken) = ledger_of(&sendings, on_poison);
    site.send(&sendings);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, sendings.len() as u64, true);
    let check = |api: &Api, when: &str| {
        let ids: Vec<&str> = ledger.aggregates().collect();
        // Some have no good version at all; that is known of them.
        let mut keys: Vec<_> = sendings.iter().filter_map(|one| one.key.clone()).collect();
        keys.dedup();
        let keys = keys.into_iter().map(|key| String::from_utf8(key).unwrap());
        let bare: Vec<_> =
            keys.filter(|id| ledger.head(id) == 0 && ledger.quarantined(id).is_some()).collect();
        let bare = bare.iter().map(|id| Question::of(&ledger, id, Selector::Head));
        let all = questions(&ledger, &ids, 20).chain(bare);
        ask_settled(&api.url, "order", all).must_be_right(when);
        let found = dead_letters(api);
        let shown: Vec<_> = found
            .iter()
            .map(|letter| {
                assert!(!letter["detail"].as_str().unwrap().is_empty(), "{letter}");
                let offset = letter["position"]["offset"].as_i64().unwrap();
                let id = letter["aggregateId"].as_str().map(str::to_owned);
                (offset, id, reason(letter["code"].as_str().unwrap()).to_owned())
            })
            .collect();
        assert_eq!(shown, letters(&ledger, &sendings), "{when}");
        for letter in &found {
            let offset = usize::try_from(letter["position"]["offset"].as_i64().unwrap()).unwrap();
            let value =
                letter["value"].as_str().map(|text| data_encoding::BASE64.decode(text.as_bytes()).unwrap());
            assert_eq!(value, sendings[offset].value, "{when}: {letter}");
        }
    };
    check(&api, name);
    let count = |which: fn(&Taken) -> bool| taken.iter().filter(|taken| which(taken)).count() as f64;
    let skipped = count(|taken| matches!(taken, Taken::Skipped(_)));
    let quarantined = count(|taken| matches!(taken, Taken::Quarantined { .. }));
    assert_eq!(api.figure("snapfold_skipped_events_total"), skipped);
    assert_eq!(api.figure("snapfold_quarantined_aggregates_total"), quarantined);
    worker.stop();
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, sendings.len() as u64, true);
    check(&api, &format!("{name}, after a restart"));
}

#[test]
fn poison_is_skipped_where_the_policy_says_so() {
    policy("skip", OnPoison::Skip);
}

#[test]
fn poison_quarantines_its_aggregate_where_the_policy_says_so() {
    policy("quarantine", OnPoison::Quarantine);
}

#[test]
fn poison_halts_its_partition_where_the_policy_says_so() {
    let site = Site::new(&format!("{ORDERS}    onPoison: halt\n"), "", "orders", 2);
    let one = |key: &str, value: &str| Sending {
        partition: 0,
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        time_ms: 1_000,
    };
    let good = r#"{"type":"ItemAdded","at":5000,"data":{"sku":"a","qty":1,"price":2.50}}"#;
    // The second bad one is met as well, while aggregates are loaded; what counts is the first.
    let mut sendings =
        vec![one("a", good), one("b", good), one("b", "{\"type\":"), one("b", good), one("c", "[")];
    let elsewhere = Sending { partition: 1, ..one("elsewhere", good) };
    let (ledger, taken) = ledger_of(&sendings, OnPoison::Halt);
    let halt = taken.iter().position(|taken| *taken == Taken::Halt).unwrap();
    sendings.push(elsewhere);
    site.send(&sendings);
    for round in ["at first", "after a restart"] {
        let mut worker = site.worker();
        let api = Api::new(&worker.url());
        let mut body = Value::Null;
        until("the partition to halt", || {
            let reply = api.get("/readyz?verbose=true").unwrap();
            body = reply.json();
            let partitions = body["partitions"].as_array().cloned().unwrap_or_default();
            // Aggregates that are being loaded may meet a later one first; the first in the log counts.
            let stands = |one: &Value| one["code"].is_string() && one["offset"] == halt;
            reply.status == 503 && partitions.iter().any(stands)
        });
        let halted: Vec<Value> = body["partitions"].as_array().unwrap().clone();
        let halted: Vec<&Value> = halted.iter().filter(|one| one["code"].is_string()).collect();
        assert_eq!(halted.len(), 1, "{round}: {body}");
        assert_eq!(
            (&halted[0]["partition"], &halted[0]["offset"]),
            (&0.into(), &halt.into()),
            "{round}: {body}"
        );
        assert_eq!(api.figure("snapfold_partition_halted"), 1.0);
        assert_eq!(api.get("/livez").unwrap().status, 200);
        let ids: Vec<&str> = ledger.aggregates().collect();
        // What would come next is not caught up, rather than beyond the head.
        let known = questions(&ledger, &ids, 20).filter(|one| matches!(one.expected, Expected::State(_)));
        ask_settled(&api.url, "order", known).must_be_right(round);
        until("the other partition", || {
            api.get("/v1/aggregates/order/elsewhere").is_ok_and(|it| it.status == 200)
        });
        worker.stop();
    }
}

/// A refusal with everything that the contract promises.
fn refused(reply: &Reply, status: u16, code: &str) -> Value {
    let body = reply.json();
    assert_eq!((reply.status, body["code"].as_str()), (status, Some(code)), "{body}");
    for name in ["type", "title", "detail", "hint", "instance"] {
        assert!(body[name].as_str().is_some_and(|text| !text.is_empty()), "`{name}` of {body}");
    }
    assert_eq!(
        (body["status"].as_u64(), body["retryable"].as_bool()),
        (Some(status.into()), Some(status == 503))
    );
    body
}

#[test]
fn refusals_have_their_shapes() {
    let site = Site::new(ORDERS, "", "orders", 2);
    let (sendings, ledger) = story(9, 400, 2, 0);
    site.send(&sendings);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 400, false);
    let id = ledger.aggregates().max_by_key(|id| ledger.head(id)).unwrap();
    let (head, fact) = (ledger.head(id), &ledger.versions(id)[0]);
    let base = format!("/v1/aggregates/order/{}", encoded(id));
    let get = |path: &str| api.get(&format!("{base}{path}")).unwrap();
    let body = refused(&get(&format!("/state?version={}", head + 1)), 404, "version-beyond-head");
    assert_eq!(body["headVersion"], head);
    let body = refused(&get("/state?at=1970-01-01"), 404, "before-first-event");
    assert!(body["firstTime"].is_string(), "{body}");
    refused(&api.get("/v1/aggregates/order/nobody/state").unwrap(), 404, "unknown-aggregate");
    refused(&api.get("/v1/aggregates/nothing/a/state").unwrap(), 404, "unknown-aggregate");
    refused(&api.get("/v1/aggregates/order/o/1/state").unwrap(), 404, "unknown-route");
    refused(&get("/snapshots/99999"), 404, "no-snapshot");
    let other = 1 - fact.record.partition;
    for query in [
        "version=0",
        "version=1&at=2020-01-01",
        "version=1&version=1",
        "verion=1",
        "at=yesterday",
        "version=x",
        "minVersion=1&wait=31s",
        &format!("offset={other}:5"),
    ] {
        refused(&get(&format!("/state?{query}")), 422, "bad-selector");
    }
    refused(&get("/events?limit=1001"), 422, "bad-selector");
    refused(&get(&format!("/state?offset={}:99999", fact.record.partition)), 503, "not-caught-up");
    refused(&get(&format!("/state?minVersion={}&wait=100ms", head + 1)), 503, "not-caught-up");
    worker.stop();
}

/// A topic whose first events are gone before anybody folded them: the given versions show it.
#[test]
fn history_that_was_gone_before_the_start_is_told() {
    let streams = ORDERS.replace("eventId: /id", "eventId: /id, version: /version");
    let site = Site::new(&streams, "", "orders", 1);
    let mut dice = Dice(4);
    let mut event = |key: &str, version: u64| Sending {
        partition: 0,
        key: Some(key.as_bytes().to_vec()),
        value: Some(
            format!(
                r#"{{"type":"Shipped","version":{version},"data":{{"note":"xxxx{}"}}}}"#,
                noise(&mut dice, 30_000)
            )
            .into_bytes(),
        ),
        time_ms: 1_000,
    };
    let mut sendings = vec![event("old", 1)];
    sendings.extend((1..=600).map(|version| event("filler", version)));
    sendings.extend([event("old", 2), event("new", 1)]);
    site.send(&sendings);
    let mut worker = site.worker();
    let api = worker.ready();
    until("the newest event", || api.get("/v1/aggregates/order/new").is_ok_and(|reply| reply.status == 200));
    for path in ["old/state", "old/state?version=1", "old/state?version=2", "filler/state?version=3"] {
        let reply = api.get(&format!("/v1/aggregates/order/{path}")).unwrap();
        // No state, and the question for the head says why.
        assert!(!reply.body.contains("xxxx"), "{path}: {}", reply.status);
        assert!(path.contains('?') || reply.body.contains("history-incomplete"), "{path}: {reply:?}");
    }
    worker.stop();
}

/// Changes some bytes of every file.
fn damage(files: &[std::path::PathBuf], every: usize) {
    for file in files {
        let mut bytes = std::fs::read(file).unwrap();
        let start = 40.min(bytes.len() / 2);
        (start..bytes.len()).step_by(every).for_each(|at| bytes[at] ^= 0x41);
        std::fs::write(file, bytes).unwrap();
    }
}

/// The API of a worker that is ready, or whose partition stands still because the events of an unreadable
/// checkpoint are not in the log any more, and says so.
fn ready_or_standing(worker: &mut Program) -> Api {
    let api = Api::new(&worker.url());
    until("readiness, or the reason why not", || {
        let reply = api.get("/readyz?verbose=true").unwrap();
        reply.status == 200 || reply.json().to_string().contains("are needed, the log starts at")
    });
    api
}

/// What damaged packs may cost: time, or a refusal that says so; never a wrong answer.
fn damaged(is_log_whole: bool, every: usize) {
    // Scrubbing would mend what is to be found.
    let more = "checkpoint: { interval: 300ms }\ncache: { enabled: false }\nscrub: { interval: 0s }";
    let site = Site::new(ORDERS, more, "orders", 1);
    let padding = if is_log_whole { 0 } else { 24_000 };
    let (sendings, ledger) = story(21, 3_000, 1, padding);
    let mut worker = site.worker();
    let api = worker.ready();
    let mut count = 0;
    for chunk in sendings.chunks(600) {
        site.send(chunk);
        count += chunk.len() as u64;
        settled(&api, count, true);
    }
    worker.stop();
    let packs = site.packs();
    assert!(packs.len() > 3, "{:?}", site.blobs());
    damage(&packs, every);
    let mut worker = site.worker();
    let api = if is_log_whole { worker.ready() } else { ready_or_standing(&mut worker) };
    // Each answer may have to read the log from its start.
    let ids: Vec<&str> = ledger.aggregates().step_by(if is_log_whole { 12 } else { 40 }).collect();
    let (right, refusals) = (AtomicU64::new(0), AtomicU64::new(0));
    let outcome = ask(&api.url, "order", questions(&ledger, &ids, 3), |question, reply| {
        let reply = reply?;
        let judged = question.judge(&reply, true);
        if judged.is_ok() {
            right.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let code = if reply.status == 200 { Value::Null } else { reply.json()["code"].clone() };
        let is_told = ["corrupt", "history-gone"].iter().any(|told| code == *told) || reply.status == 503;
        refusals.fetch_add(u64::from(is_told), Ordering::Relaxed);
        if is_told { Ok(()) } else { judged }
    });
    println!(
        "damaged, log whole {is_log_whole}: {right:?} right, {refusals:?} refusals of {}",
        outcome.asked
    );
    outcome.must_be_right("over damaged packs");
    let mut problems = 0;
    // Where the log was folded again its rows lie in sound packs, too, and only whole packs tell of damage.
    let mode = if is_log_whole { "pack" } else { "checksum" };
    for id in &ids {
        let reply = api.post(&format!("/v1/aggregates/order/{}/verify?mode={mode}", encoded(id))).unwrap();
        problems += match reply.status {
            200 => reply.json()["problems"].as_array().unwrap().len(),
            // Where a footer and the log are gone, nobody can say what the checkpoint held.
            503 if !is_log_whole => 1,
            _ => usize::from(["corrupt", "history-gone"].iter().any(|code| reply.json()["code"] == *code)),
        };
    }
    assert!(right.load(Ordering::Relaxed) > 0, "nothing is answered");
    assert!(problems > 0, "verify finds nothing");
    assert!(api.figure("snapfold_damaged_records_total") > 0.0, "the metric counts nothing");
    assert_eq!(api.figure("snapfold_http_panics_total"), 0.0);
    assert!(!is_log_whole || refusals.load(Ordering::Relaxed) == 0, "the log holds everything");
    worker.kill();
}

#[test]
fn damaged_packs_give_way_to_the_log() {
    damaged(true, 500);
}

#[test]
fn damaged_packs_without_a_log_are_told_and_never_believed() {
    damaged(false, 3_000);
}

#[test]
fn a_damaged_lineage_stops_the_start() {
    let site = Site::new(ORDERS, "", "orders", 1);
    let (sendings, _) = story(2, 200, 1, 0);
    site.send(&sendings);
    let mut worker = site.worker();
    settled(&worker.ready(), 200, false);
    worker.stop();
    let packs = site.packs();
    let others: Vec<_> = site.blobs().into_iter().filter(|file| !packs.contains(file)).collect();
    assert!(!others.is_empty());
    for file in others {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x41;
        std::fs::write(&file, bytes).unwrap();
    }
    let ended = site.worker().end();
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.err.contains("panicked") && ended.err.lines().count() >= 1, "{ended:?}");
}
