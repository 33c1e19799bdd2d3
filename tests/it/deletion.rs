//! Snapshots that are deleted through HTTP and the command line: what may go, what stays and why, holds, and
//! what can still be asked afterwards.

use crate::process::{Api, Program, Reply};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::{Value, json};

const QUICK: &str = "checkpoint: { interval: 300ms }";
const PATH: &str = "/v1/aggregates/order/a/snapshots";

/// The `n`-th event of an order.
fn added(n: u64) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"a-{n}","at":"2026-01-01T00:00:{:02}Z","data":{{"sku":"s{n}","qty":1,"price":1.10}}}}"#,
        n % 60
    );
    Sending { partition: 0, key: Some("a".into()), value: Some(value.into()), time_ms: 1_767_225_600_000 }
}

fn problem(reply: &Reply, status: u16, code: &str) -> Value {
    let body = reply.json();
    assert_eq!((reply.status, &body["code"]), (status, &json!(code)), "{}", reply.body);
    body
}

fn done(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

/// What a command prints, which ends well.
fn cli(api: &Api, args: &[&str]) -> String {
    let args: Vec<&str> = args.iter().copied().chain(["--server", &*api.url]).collect();
    let ended = Program::start(&args).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out
}

fn versions(api: &Api) -> Vec<u64> {
    let list = api.get(&format!("{PATH}?limit=1000")).unwrap().json();
    list["items"].as_array().unwrap().iter().map(|item| item["version"].as_u64().unwrap()).collect()
}

/// A worker whose `a` has snapshots of the events up to 5, 10 and 12 and of nothing else, and 13 events.
fn started(site: &Site) -> (Program, Api) {
    let mut worker = site.worker();
    let api = worker.ready();
    let mut sent = 0;
    for upto in [5, 10, 12] {
        site.send(&(sent + 1..=upto).map(added).collect::<Vec<_>>());
        sent = upto;
        settled(&api, sent, true);
        let made = api.send("POST", PATH, "");
        assert!(matches!(made.status, 200 | 201), "{}", made.body);
    }
    site.send(&[added(13)]);
    settled(&api, 13, true);
    (worker, api)
}

/// Snapshots that the statistics say were deleted.
fn counted(api: &Api) -> u64 {
    let stats = done(&api.get("/v1/aggregates/order/a/stats").unwrap());
    stats["days"].as_array().unwrap().iter().map(|day| day["snapshotsDeleted"].as_u64().unwrap()).sum()
}

fn every_version_is_told(api: &Api) {
    for version in 1..=13 {
        let state = done(&api.get(&format!("/v1/aggregates/order/a/state?version={version}")).unwrap());
        assert_eq!(state["state"]["eventCount"], version, "{state}");
    }
}

#[test]
fn what_newer_increments_need_goes_only_with_rebase_and_every_version_stays_answerable() {
    let spaced = ORDERS.replace("timeThreshold: 10s", "timeThreshold: 1h");
    let site = Site::new(&spaced, QUICK, "orders", 1);
    let (worker, api) = started(&site);
    let before = versions(&api);
    assert!([5, 10, 12].iter().all(|version| before.contains(version)), "{before:?}");

    problem(&api.send("DELETE", &format!("{PATH}/99"), ""), 404, "no-snapshot");
    problem(&api.send("DELETE", "/v1/aggregates/order/nobody/snapshots/1", ""), 404, "unknown-aggregate");
    problem(&api.send("DELETE", PATH, ""), 422, "bad-selector");
    let needed = problem(&api.send("DELETE", &format!("{PATH}/10"), ""), 409, "needed-by-increments");
    assert!(needed["hint"].as_str().unwrap().contains("rebase=true"), "{needed}");
    let would = done(&api.send("DELETE", &format!("{PATH}/10?rebase=true&dryRun=true"), ""));
    assert_eq!((&would["deleted"], &would["dryRun"]), (&json!([10]), &json!(true)));
    assert_eq!(versions(&api), before, "a dry run changes nothing");
    assert_eq!(counted(&api), 0);

    let gone = done(&api.send("DELETE", &format!("{PATH}/10?rebase=true"), ""));
    assert_eq!((&gone["deleted"], &gone["kept"]), (&json!([10]), &json!([])));
    assert!(gone["freedBytes"].as_u64().unwrap() > 0);
    assert!(counted(&api) > 0, "what went is counted");
    problem(&api.get(&format!("{PATH}/10")).unwrap(), 404, "no-snapshot");
    problem(&api.send("DELETE", &format!("{PATH}/10?rebase=true"), ""), 404, "no-snapshot");
    every_version_is_told(&api);

    let thinned = done(&api.send("DELETE", &format!("{PATH}?beforeVersion=12"), ""));
    let kept = thinned["kept"].as_array().unwrap();
    assert!(kept.iter().any(|item| *item == json!({ "version": 5, "reason": "history" })), "{thinned}");
    every_version_is_told(&api);
    let verified = done(&api.post("/v1/aggregates/order/a/verify?mode=replay").unwrap());
    assert_eq!(verified["ok"], true, "{verified}");

    worker.stop();
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 13, true);
    assert!(!versions(&api).contains(&10), "what was deleted stays so");
    every_version_is_told(&api);
    worker.stop();
}

#[test]
fn nothing_of_a_held_aggregate_goes_nor_what_is_pinned() {
    let spaced = "snapshot: { eventThreshold: 5, timeThreshold: 1h, strategy: full }\n    history: snapshots";
    let states = ORDERS.replace("snapshot: { eventThreshold: 5, fullEvery: 4, timeThreshold: 10s }", spaced);
    let site = Site::new(&states, QUICK, "orders", 1);
    let (worker, api) = started(&site);
    let hold = "/v1/aggregates/order/a/hold";
    assert_eq!(done(&api.get(hold).unwrap())["held"], false);
    problem(&api.send("PUT", "/v1/aggregates/order/nobody/hold", ""), 404, "unknown-aggregate");
    problem(&api.send("PUT", hold, r#"{"why":"x"}"#), 422, "bad-body");
    let held = done(&api.send("PUT", hold, r#"{"reason":"case 12"}"#));
    assert_eq!((&held["held"], &held["reason"]), (&json!(true), &json!("case 12")));
    for path in [format!("{PATH}/5"), format!("{PATH}/5?dryRun=true"), format!("{PATH}?beforeVersion=12")] {
        let refused = problem(&api.send("DELETE", &path, ""), 423, "legal-hold");
        assert!(refused["detail"].as_str().unwrap().contains("case 12"), "{refused}");
    }
    assert_eq!(done(&api.send("DELETE", hold, ""))["held"], false);
    assert_eq!(done(&api.send("DELETE", hold, ""))["held"], false, "twice is the same");

    assert_eq!(api.send("PATCH", &format!("{PATH}/5"), r#"{"pinned":true}"#).status, 200);
    let pinned = problem(&api.send("DELETE", &format!("{PATH}/5"), ""), 409, "conflict");
    assert!(pinned["detail"].as_str().unwrap().contains("pinned"), "{pinned}");
    let newest = *versions(&api).last().unwrap();
    let ls = cli(&api, &["snapshot", "rm", "order/a", "--before-version", "99", "--dry-run"]);
    assert!(ls.contains("would go: 10") && ls.contains("kept: 5  pinned"), "{ls}");
    let gone = done(&api.send("DELETE", &format!("{PATH}?beforeVersion=99"), ""));
    assert!(gone["deleted"].as_array().unwrap().contains(&json!(10)), "{gone}");
    assert_eq!(versions(&api), [5, newest]);
    let told = cli(&api, &["snapshot", "hold", "order/a", "--reason", "case 13"]);
    assert!(told.starts_with("held since "), "{told}");
    assert_eq!(done(&api.get(hold).unwrap())["reason"], "case 13");
    assert_eq!(cli(&api, &["snapshot", "release", "order/a"]).trim(), "not held");
    worker.stop();
}

/// One pass of garbage collection by hand, with delays for tests.
fn collect(site: &Site, more: &[&str]) -> Value {
    let config = site.config();
    let delays = ["--set", "gc.minAge=1ms", "--set", "gc.distance=1ms", "-o", "json"];
    let args = [&["gc", "--config", config.to_str().unwrap()], &delays[..], more].concat();
    let ended = Program::start(&args).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

#[test]
fn garbage_goes_in_two_passes_and_nothing_that_is_named() {
    let spaced = ORDERS.replace("timeThreshold: 10s", "timeThreshold: 1h");
    let site = Site::new(&spaced, QUICK, "orders", 1);
    let (worker, api) = started(&site);
    let asked = api.send("POST", PATH, r#"{"version":7}"#);
    assert_eq!(asked.status, 201, "a full record in a pack of its own: {}", asked.body);
    assert_eq!(done(&api.send("DELETE", &format!("{PATH}/7"), ""))["deleted"], json!([7]));
    worker.stop();
    let before = site.packs().len();

    let would = collect(&site, &["--dry-run"]);
    assert!(would["deadRecords"].as_u64().unwrap() >= 1, "{would}");
    assert_eq!(would["wouldDelete"], 0, "nothing was condemned yet: {would}");
    let first = collect(&site, &[]);
    let condemned = first["condemned"].as_u64().unwrap();
    assert!(condemned >= 1 && first["deleted"] == 0, "{first}");
    assert_eq!(site.packs().len(), before);
    let second = collect(&site, &[]);
    assert_eq!((second["deleted"].as_u64(), &second["unknown"]), (Some(condemned), &json!(0)), "{second}");
    assert_eq!(site.packs().len() as u64, before as u64 - condemned);
    let third = collect(&site, &[]);
    assert_eq!((&third["deleted"], &third["condemned"]), (&json!(0), &json!(0)), "{third}");

    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 13, true);
    every_version_is_told(&api);
    let verified = done(&api.post("/v1/aggregates/order/a/verify?mode=replay").unwrap());
    assert_eq!(verified["ok"], true, "{verified}");
    worker.stop();
}

/// Goal: what `retention` says happens by itself. Method: snapshots of 25 events, of which one is to be kept
/// whole; the metric, and every version afterwards.
#[test]
fn retention_thins_in_the_background_and_every_version_stays_answerable() {
    let kept = "snapshot: { eventThreshold: 5, fullEvery: 1, timeThreshold: 1h, maxWriteAmplification: 0 }\n    \
                retention: { maxSnapshots: 1, interval: 200ms }";
    let spaced = "snapshot: { eventThreshold: 5, fullEvery: 4, timeThreshold: 10s }";
    let site = Site::new(&ORDERS.replace(spaced, kept), QUICK, "orders", 1);
    site.send(&(1..=13).map(added).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 13, true);
    assert!(matches!(api.send("POST", PATH, "").status, 200 | 201));
    let fulls = || {
        let list = done(&api.get(&format!("{PATH}?limit=1000")).unwrap());
        let is_full = |item: &&Value| item["metadata"]["kind"] == "full";
        list["items"].as_array().unwrap().iter().filter(is_full).count()
    };
    crate::process::until("one full record is left", || fulls() == 1);
    assert!(api.figure("snapfold_retention_deleted_rows_total") >= 1.0);
    every_version_is_told(&api);
    worker.stop();
}
