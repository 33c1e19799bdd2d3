//! `doctor` on the embedded set-up: what it says changes with the facts.

use crate::process::{Ended, command};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::Value;
use std::path::Path;

const QUICK: &str = "checkpoint: { interval: 300ms }";

/// What it says in JSON, and its exit code.
pub(crate) fn doctor(config: &Path) -> (Value, Option<i32>) {
    let Ended { code, out, err } = ended(&["doctor", "--config", config.to_str().unwrap(), "-o", "json"]);
    (serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")), code)
}

fn ended(args: &[&str]) -> Ended {
    let done = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

/// How one check came out.
pub(crate) fn came(told: &Value, check: &str) -> String {
    let found = told["checks"].as_array().unwrap().iter().find(|one| one["check"] == check);
    found.unwrap_or_else(|| panic!("no check {check}: {told}"))["status"].as_str().unwrap().to_owned()
}

fn added(id: &str, n: u64) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"{id}-{n}","at":"2026-01-01T00:00:00Z","data":{{"sku":"s{n}","qty":1,"price":1.10}}}}"#
    );
    Sending { partition: 0, key: Some(id.into()), value: Some(value.into()), time_ms: 1_767_225_600_000 }
}

#[test]
fn what_doctor_says_follows_the_facts() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    site.send(&(1..=23).map(|n| added("a", n)).collect::<Vec<_>>());
    let config = site.config();

    // Nothing was folded yet: folders and lineage are not there, and that is no fault.
    let (told, code) = doctor(&config);
    assert_eq!((told["ok"].as_bool(), code), (Some(true), Some(0)), "{told}");
    for check in ["config", "memory", "index", "blobs", "order.topic", "order.group", "order.lineage"] {
        assert_eq!(came(&told, check), "ok", "{check}: {told}");
    }
    // The mock broker does not tell settings.
    assert_eq!(came(&told, "order.settings"), "warn", "{told}");
    assert!(!site.config().parent().unwrap().join("index").exists(), "looking creates nothing");

    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 23, true);
    let (told, code) = doctor(&config);
    assert_eq!((came(&told, "index").as_str(), code), ("warn", Some(0)), "a worker uses it: {told}");
    worker.stop();
    let (told, code) = doctor(&config);
    assert_eq!(code, Some(0), "{told}");
    for check in ["index", "blobs", "order.lineage", "order.partitions", "order.coverage", "dictionaries"] {
        assert_eq!(came(&told, check), "ok", "{check}: {told}");
    }
    let left = site.blobs().iter().filter(|file| file.to_string_lossy().contains("doctor")).count();
    assert_eq!(left, 0, "it leaves nothing behind");

    // Another reducer than the one that was folded with.
    let text = std::fs::read_to_string(&config).unwrap();
    let other = config.with_file_name("other.yaml");
    std::fs::write(&other, text.replace("status: shipped", "status: sent")).unwrap();
    let (told, code) = doctor(&other);
    assert_eq!((came(&told, "order.lineage").as_str(), code), ("fail", Some(4)), "{told}");
    // More memory than any machine has, and brokers that are not there.
    std::fs::write(&other, format!("{text}\nmemory: {{ limit: 100000GiB }}\n")).unwrap();
    let (told, code) = doctor(&other);
    assert_eq!((came(&told, "memory").as_str(), code), ("fail", Some(4)), "{told}");
    let shown = ended(&["doctor", "--config", other.to_str().unwrap()]);
    assert_eq!(shown.code, Some(4));
    assert!(shown.out.contains("fail  memory: ") && shown.out.contains("\n      -> lower"), "{}", shown.out);
}

#[test]
fn versions_that_only_the_topic_can_give_are_told() {
    let full = ORDERS
        .replace("fullEvery: 4,", "strategy: full,")
        .replace("    snapshot:", "    history: snapshots\n    snapshot:");
    let site = Site::new(&full, QUICK, "orders", 1);
    site.send(&(1..=23).map(|n| added("a", n)).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 23, true);
    assert!(api.send("POST", "/v1/aggregates/order/a/snapshots", "").status < 300);
    worker.stop();
    let (told, code) = doctor(&site.config());
    assert_eq!((came(&told, "order.coverage").as_str(), code), ("warn", Some(0)), "{told}");
}
