//! Snapshots on demand through HTTP and the command line: one and many, labels and pins, jobs.

use crate::process::{Api, Ended, Program, Reply, job};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::{Value, json};
use std::time::Instant;

const QUICK: &str = "checkpoint: { interval: 300ms }";

/// No snapshot is taken by itself while a test runs.
fn late() -> String {
    ORDERS.replace("timeThreshold: 10s", "timeThreshold: 1h")
}

/// The `n`-th event of an order.
fn added(id: &str, n: u64) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"{id}-{n}","at":"2026-01-01T00:00:{:02}Z","data":{{"sku":"s{n}","qty":1,"price":1.10}}}}"#,
        n % 60
    );
    Sending { partition: 0, key: Some(id.into()), value: Some(value.into()), time_ms: 1_767_225_600_000 }
}

fn problem(reply: &Reply, status: u16, code: &str) -> Value {
    let body = reply.json();
    assert_eq!((reply.status, &body["code"]), (status, &json!(code)), "{}", reply.body);
    body
}

fn versions(api: &Api, id: &str) -> Vec<u64> {
    let list = api.get(&format!("/v1/aggregates/order/{id}/snapshots?limit=1000")).unwrap().json();
    list["items"].as_array().unwrap().iter().map(|item| item["version"].as_u64().unwrap()).collect()
}

#[test]
fn a_snapshot_is_taken_of_the_head_and_of_any_version_and_outlives_the_worker() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    let mut events: Vec<Sending> = (1..=13).map(|n| added("a", n)).collect();
    events.push(Sending { key: Some(b"gone".to_vec()), ..added("gone", 1) });
    let delete = r#"{"type":"Deleted","id":"d","at":"2026-01-01T00:01:00Z","data":{}}"#;
    events.push(Sending { value: Some(delete.into()), ..added("gone", 2) });
    site.send(&events);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 15, true);
    let path = "/v1/aggregates/order/a/snapshots";

    let head = api.send("POST", path, "");
    assert_eq!(head.status, 201, "{}", head.body);
    let head = head.json();
    assert_eq!((&head["version"], &head["metadata"]["kind"]), (&json!(13), &json!("full")));
    assert_eq!(head["metadata"]["trigger"], "manual");
    let again = api.send("POST", path, "{}");
    assert_eq!((again.status, again.json()), (200, head), "the same body as the first time");

    for version in [1, 2, 4, 7, 11, 12] {
        let made = api.send("POST", path, &format!(r#"{{"version":{version}}}"#));
        assert_eq!(made.status, 201, "{}", made.body);
        let read = api.get(&format!("{path}/{version}")).unwrap();
        assert_eq!((read.status, read.json()), (200, made.json()));
        let state = api.get(&format!("/v1/aggregates/order/a/state?version={version}")).unwrap().json();
        assert_eq!(made.json()["data"], state["state"]);
        assert_eq!(made.json()["metadata"]["checksum"], state["stateDigest"]);
        assert_eq!(made.json()["metadata"]["offset"], state["position"]["offset"]);
        assert_eq!(api.send("POST", path, &format!(r#"{{"version":{version}}}"#)).status, 200);
    }
    let taken = versions(&api, "a");
    assert!([1, 2, 4, 7, 11, 12, 13].iter().all(|version| taken.contains(version)), "{taken:?}");

    let beyond = problem(&api.send("POST", path, r#"{"version":14}"#), 404, "version-beyond-head");
    assert_eq!(beyond["headVersion"], 13);
    problem(&api.send("POST", "/v1/aggregates/order/nobody/snapshots", ""), 404, "unknown-aggregate");
    for wrong in ["[]", "{", r#"{"version":0}"#, r#"{"state":1,"lable":"x"}"#] {
        problem(&api.send("POST", path, wrong), 422, "bad-body");
    }
    let deleted = api.send("POST", "/v1/aggregates/order/gone/snapshots", r#"{"state":null}"#);
    assert_eq!((deleted.status, &deleted.json()["data"]), (201, &Value::Null), "{}", deleted.body);
    assert_eq!(deleted.json()["metadata"]["deleted"], true);

    let verified = api.post("/v1/aggregates/order/a/verify?mode=replay").unwrap().json();
    assert_eq!(verified["ok"], true, "{verified}");
    worker.stop();
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 15, true);
    assert_eq!(versions(&api, "a"), taken);
    for version in 1..=13 {
        let state = api.get(&format!("/v1/aggregates/order/a/state?version={version}")).unwrap().json();
        assert_eq!(state["state"]["eventCount"], version, "{state}");
    }
    worker.stop();
}

#[test]
fn a_state_that_is_given_must_be_the_fold_to_the_last_digit() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    site.send(&(1..=3).map(|n| added("a", n)).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 3, true);
    let path = "/v1/aggregates/order/a/snapshots";
    let text = api.get("/v1/aggregates/order/a/state?version=2").unwrap().body;
    let state = text.split_once("\"state\":").unwrap().1.strip_suffix('}').unwrap();
    assert!(state.contains("2.20"), "{state}");
    let other = state.replace("2.20", "2.2");
    let refused = api.send("POST", path, &format!(r#"{{"version":2,"state":{other}}}"#));
    let refused = problem(&refused, 409, "state-mismatch");
    assert_eq!(
        refused["difference"],
        json!([{ "op": "replace", "path": "/total", "value": json_number("2.2") }])
    );
    problem(&api.send("POST", path, &format!(r#"{{"state":{state}}}"#)), 409, "state-mismatch");
    assert!(!versions(&api, "a").contains(&2), "nothing is written for a state that differs");
    let agreed = api.send("POST", path, &format!(r#"{{"version":2,"state":{state}}}"#));
    assert_eq!(agreed.status, 201, "{}", agreed.body);
    worker.stop();
}

fn json_number(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn labels_and_pins_are_kept_with_the_snapshot_and_in_the_ledger() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    site.send(&(1..=7).map(|n| added("a", n)).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 7, true);
    let path = "/v1/aggregates/order/a/snapshots";
    let made = api.send("POST", path, r#"{"version":3,"label":"launch","reason":"before the sale"}"#);
    assert_eq!(made.status, 201, "{}", made.body);
    let noted = |reply: Value| {
        let meta = reply["metadata"].clone();
        (meta["label"].clone(), meta["pinned"].clone(), meta["reason"].clone())
    };
    assert_eq!(noted(made.json()), (json!("launch"), json!(false), json!("before the sale")));
    let pinned = api.send("PATCH", &format!("{path}/3"), r#"{"pinned":true}"#);
    assert_eq!(pinned.status, 200, "{}", pinned.body);
    assert_eq!(noted(pinned.json()), (json!("launch"), json!(true), json!("before the sale")));
    let renamed = api.send("PATCH", &format!("{path}/3"), r#"{"label":null}"#);
    assert_eq!(noted(renamed.json()).0, Value::Null);
    api.send("PATCH", &format!("{path}/3"), r#"{"label":"v3"}"#);
    problem(&api.send("PATCH", &format!("{path}/4"), r#"{"pinned":true}"#), 404, "no-snapshot");
    problem(&api.send("PATCH", &format!("{path}/3"), "{}"), 422, "bad-body");
    problem(&api.send("PATCH", &format!("{path}/3"), r#"{"label":""}"#), 422, "bad-body");
    let ledger = site.blobs().iter().filter(|file| file.to_string_lossy().contains("/ledger/")).count();
    assert_eq!(ledger, 4, "one object for each note");
    worker.stop();
    let mut worker = site.worker();
    let api = worker.ready();
    let one = api.get(&format!("{path}/3")).unwrap().json();
    assert_eq!(noted(one), (json!("v3"), json!(true), json!("before the sale")));
    let list = api.get(path).unwrap().json();
    let listed = list["items"].as_array().unwrap().iter().find(|item| item["version"] == 3).unwrap();
    assert_eq!(noted(listed.clone()), (json!("v3"), json!(true), json!("before the sale")));
    worker.stop();
}

#[test]
fn many_are_taken_at_once_or_by_a_job_that_can_be_cancelled() {
    let site = Site::new(&late(), QUICK, "orders", 1);
    let events: Vec<Sending> = (0..1_500).map(|n| added(&format!("o-{n:05}"), 1)).collect();
    site.send(&events);
    site.send(&[added("x", 1), added("x", 2)]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 1_502, true);
    let path = "/v1/snapshots:batch";
    let body = json!({ "targets": [
        { "type": "order", "id": "o-00001" },
        { "type": "order", "id": "nobody" },
        { "type": "order", "id": "x", "version": 1 },
        { "type": "order", "id": "x", "version": 9 },
        { "type": "moon", "id": "a" },
        { "type": "order", "id": "o-00001" },
    ] });
    let reply = api.send("POST", path, &body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.body);
    let items = reply.json()["items"].clone();
    let told = |at: usize| (items[at]["status"].clone(), items[at]["error"]["code"].clone());
    assert_eq!(items[0]["aggregateId"], "o-00001");
    assert!(["created", "exists"].iter().any(|status| items[0]["status"] == *status), "{items}");
    assert_eq!(told(1), (json!("failed"), json!("unknown-aggregate")));
    assert_eq!((told(2).0, &items[2]["version"]), (json!("created"), &json!(1)));
    assert_eq!(told(3).1, "version-beyond-head");
    assert_eq!(told(4).1, "unknown-aggregate");
    assert_eq!(items[5]["snapshotId"], items[0]["snapshotId"]);
    let by_id = api.get(&format!("/v1/snapshots/{}", items[2]["snapshotId"].as_str().unwrap())).unwrap();
    assert_eq!((by_id.status, &by_id.json()["version"]), (200, &json!(1)));

    let done = job(&api, &api.send("POST", path, r#"{"selector":{"type":"order","prefix":"o-"}}"#));
    assert_eq!(
        (&done["status"], &done["progress"]),
        (&json!("done"), &json!({ "done": 1500, "total": 1500 }))
    );
    let result = &done["result"];
    let sum = |name: &str| result[name].as_u64().unwrap();
    assert_eq!((sum("created") + sum("exists"), sum("failed")), (1_500, 0), "{done}");
    assert!(sum("created") >= 1_490, "{done}");
    let targets: Vec<Value> =
        (0..1_500).map(|n| json!({ "type": "order", "id": format!("o-{n:05}") })).collect();
    let done = job(&api, &api.send("POST", path, &json!({ "targets": targets }).to_string()));
    assert_eq!(done["result"]["exists"], 1_500, "{done}");

    for wrong in
        ["{}", r#"{"targets":[],"selector":{"type":"order"}}"#, r#"{"targets":[{"type":"order","id":""}]}"#]
    {
        problem(&api.send("POST", path, wrong), 422, "bad-body");
    }
    problem(&api.send("POST", path, r#"{"selector":{"type":"moon"}}"#), 404, "unknown-aggregate");
    problem(&api.get("/v1/jobs/0123").unwrap(), 404, "unknown-job");
    let begun = api.send("POST", path, r#"{"selector":{"type":"order"}}"#);
    let id = begun.json()["jobId"].as_str().unwrap().to_owned();
    let asked = Instant::now();
    let cancelled = api.send("DELETE", &format!("/v1/jobs/{id}"), "").json();
    assert!(asked.elapsed().as_millis() < 1_000, "{:?}", asked.elapsed());
    assert_ne!(cancelled["status"], "running", "{cancelled}");
    worker.stop();
}

fn cli(api: &Api, args: &[&str]) -> Ended {
    Program::start(&[args, &["--server", &api.url]].concat()).end()
}

#[test]
fn the_command_line_takes_labels_and_pins_snapshots() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    site.send(&(1..=3).map(|n| added("a", n)).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 3, true);
    let made = cli(&api, &["snapshot", "create", "order/a", "--version", "2", "--label", "two"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.out.starts_with("2  ") && made.out.trim_end().ends_with("two"), "{made:?}");
    let pinned = cli(&api, &["snapshot", "pin", "order/a@2"]);
    assert!(pinned.code == Some(0) && pinned.out.contains("pinned"), "{pinned:?}");
    let unpinned = cli(&api, &["snapshot", "unpin", "order/a@2", "-o", "json"]);
    assert!(unpinned.out.contains(r#""pinned":false"#), "{unpinned:?}");
    let labelled = cli(&api, &["snapshot", "label", "order/a@2"]);
    assert!(labelled.code == Some(0) && !labelled.out.contains("two"), "{labelled:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"status":"new"}"#).unwrap();
    let path = file.path().display().to_string();
    let differs = cli(&api, &["snapshot", "create", "order/a", "--state", &path]);
    assert!(differs.code == Some(7) && differs.err.contains("state-mismatch"), "{differs:?}");
    let all = cli(&api, &["snapshot", "create", "--type", "order", "--prefix", ""]);
    assert!(all.code == Some(0) && all.out.contains("failed 0"), "{all:?}");
    assert_eq!(cli(&api, &["snapshot", "create"]).code, Some(2));
    assert_eq!(cli(&api, &["snapshot", "pin", "order/a"]).code, Some(2));
    worker.stop();
}

/// Goal: a hundred thousand snapshots in one call at 5,000 a second, embedded. Method: a worker with
/// 100,000 aggregates, one job for all of them; how long that takes is printed.
#[test]
#[ignore = "a figure, on a machine that does nothing else: `--ignored --nocapture`"]
fn a_hundred_thousand_snapshots_in_one_call() {
    const COUNT: usize = 100_000;
    let site = Site::new(&late(), QUICK, "orders", 4);
    let mut worker = site.worker();
    let api = worker.ready();
    for from in (0..COUNT).step_by(10_000) {
        let part = from..from + 10_000;
        let events: Vec<Sending> =
            part.map(|n| Sending { partition: (n % 4) as i32, ..added(&format!("o-{n:06}"), 1) }).collect();
        site.send(&events);
        // The mock broker keeps only 5 MiB of each partition.
        settled(&api, (from + 10_000) as u64, true);
    }
    let begun = Instant::now();
    let done = job(&api, &api.send("POST", "/v1/snapshots:batch", r#"{"selector":{"type":"order"}}"#));
    let took = begun.elapsed();
    println!("{COUNT} snapshots in {took:.2?}: {:.0} a second; {done}", COUNT as f64 / took.as_secs_f64());
    assert_eq!(done["progress"]["done"], COUNT, "{done}");
    worker.stop();
}
