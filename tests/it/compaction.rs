//! Merged history through HTTP and the command line: what is merged answers like what it was merged of.

use crate::process::{Api, command, job};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::{Value, json};

/// What was asked before is read again.
const QUICK: &str = "checkpoint: { interval: 300ms }\ncache: { enabled: false }";
const EVENTS: u64 = 57;

/// The `n`-th event of an order.
fn added(id: &str, n: u64) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"{id}-{n}","at":"2026-01-01T00:{:02}:{:02}Z","data":{{"sku":"s{}","qty":1,"price":1.10}}}}"#,
        n / 60,
        n % 60,
        n % 7
    );
    Sending { partition: 0, key: Some(id.into()), value: Some(value.into()), time_ms: 1_767_225_600_000 }
}

/// Everything that can be asked of an aggregate, without what an answer cost.
fn answers(api: &Api, id: &str) -> Vec<Value> {
    let mut asked: Vec<String> = (1..=EVENTS).map(|version| format!("state?version={version}")).collect();
    asked.extend((0..EVENTS).step_by(3).map(|second| format!("state?at=2026-01-01T00:00:{second:02}Z")));
    asked.extend(["events?limit=1000", "blame", "history?path=/total&limit=1000"].map(str::to_owned));
    let answer = |path: String| {
        let mut body = api.get(&format!("/v1/aggregates/order/{id}/{path}")).unwrap().json();
        let costs =
            ["fromSnapshot", "snapshotVersion", "eventsReplayed", "reconstructionTimeMs", "source", "basis"];
        if let Some(object) = body.as_object_mut() {
            costs.iter().for_each(|cost| drop(object.remove(*cost)));
        }
        body
    };
    asked.into_iter().map(answer).collect()
}

fn kinds(api: &Api, id: &str) -> Vec<(u64, String)> {
    let list = api.get(&format!("/v1/aggregates/order/{id}/snapshots?limit=1000")).unwrap().json();
    let item = |item: &Value| {
        let kind = item["metadata"]["kind"].as_str().unwrap().to_owned();
        (item["version"].as_u64().unwrap(), kind)
    };
    list["items"].as_array().unwrap().iter().map(item).collect()
}

/// Goal: merging changes no answer. Method: every version, times, events, blame before and after, and by
/// another worker; then verification, which reads all that is stored.
#[test]
fn merged_history_answers_as_before_and_outlives_the_worker() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    site.send(&(1..=EVENTS).map(|n| added("a", n)).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(api.send("POST", "/v1/aggregates/order/a/snapshots", "").status, 201);
    let before = answers(&api, "a");
    let path = "/v1/aggregates/order/a/snapshots:compact";

    let dry = api.send("POST", path, r#"{"strategy":"merge","dryRun":true}"#);
    assert_eq!(dry.status, 200, "{}", dry.body);
    let dry = dry.json();
    assert_eq!((&dry["strategy"], &dry["writes"]), (&json!("merge"), &json!(1)), "{dry}");
    assert!(dry["reads"].as_u64() > Some(3) && dry["freedBytes"].as_u64() > Some(100), "{dry}");
    assert!(kinds(&api, "a").iter().all(|(_, kind)| kind != "segment"), "nothing was written");

    let done = job(&api, &api.send("POST", path, r#"{"strategy":"merge"}"#));
    assert_eq!((&done["status"], &done["kind"]), (&json!("done"), &json!("compaction")), "{done}");
    assert_eq!((&done["result"]["segments"], &done["result"]["events"]), (&json!(1), &json!(EVENTS)));
    assert_eq!(answers(&api, "a"), before);
    let again = job(&api, &api.send("POST", path, r#"{"strategy":"merge"}"#));
    assert_eq!(again["result"]["segments"], 0, "{again}");

    let explained = api.get("/v1/aggregates/order/a/state?version=30&explain=true").unwrap().json();
    assert!(explained["plan"].to_string().contains("segment"), "{explained}");
    let verified = api.post("/v1/aggregates/order/a/verify?mode=replay").unwrap().json();
    assert_eq!(verified["ok"], true, "{verified}");
    worker.stop();
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(answers(&api, "a"), before);
}

#[test]
fn a_full_snapshot_is_written_where_history_is_to_start_and_bad_requests_are_named() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    site.send(&(1..=EVENTS).map(|n| added("a", n)).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(api.send("POST", "/v1/aggregates/order/a/snapshots", "").status, 201);
    let path = "/v1/aggregates/order/a/snapshots:compact";
    let rebase = r#"{"strategy":"rebase","keep":{"fromVersion":33}}"#;
    let done = job(&api, &api.send("POST", path, rebase));
    assert_eq!((&done["status"], &done["result"]["version"]), (&json!("done"), &json!(33)), "{done}");
    assert_eq!(done["result"]["created"], true);
    assert!(kinds(&api, "a").contains(&(33, "full".to_owned())));
    let again = job(&api, &api.send("POST", path, rebase));
    assert_eq!(again["result"]["created"], false, "{again}");
    for wrong in [
        "{}",
        r#"{"strategy":"squash"}"#,
        r#"{"strategy":"merge","keep":{"snapshots":0}}"#,
        r#"{"strategy":"merge","keep":{"fromVersion":3}}"#,
        r#"{"strategy":"rebase","keep":{"snapshots":3}}"#,
        r#"{"strategy":"rebase","keep":{"fromVersion":0}}"#,
    ] {
        let reply = api.send("POST", path, wrong);
        assert_eq!((reply.status, &reply.json()["code"]), (422, &json!("bad-body")), "{wrong}");
    }
    let unknown =
        api.send("POST", "/v1/aggregates/order/nobody/snapshots:compact", r#"{"strategy":"merge"}"#);
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("unknown-aggregate")));

    let ran = |arguments: &[&str]| {
        let mut all = vec!["snapshot", "compact", "order/a", "--server", &api.url];
        all.extend(arguments);
        let output = command(&all).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = ran(&["--dry-run"]);
    assert!(code == Some(0) && told.starts_with("would read "), "{told}");
    let (code, told) = ran(&[]);
    assert!(code == Some(0) && told.starts_with(&format!("{EVENTS} events in 1 segments")), "{told}");
    let (code, told) = ran(&["--strategy", "rebase", "--from-version", "33"]);
    assert!(code == Some(0) && told.contains("version 33 is"), "{told}");
}
