//! Proofs: what the server gives holds offline, by the program and by the recipe of `docs/AUDIT.md` alone;
//! where a fact is altered it does not.

use crate::process::{Ended, command, until};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const QUICK: &str = "checkpoint: { interval: 300ms }";

fn added(n: u64) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"e{n}","at":"2026-01-01T00:00:{:02}Z","data":{{"sku":"sé{n}","qty":1,"price":1.10}}}}"#,
        n % 60
    );
    Sending { partition: 0, key: Some(b"a".to_vec()), value: Some(value.into()), time_ms: 1_767_225_600_000 }
}

/// The recipe, as it stands in the documentation.
fn recipe(folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/AUDIT.md")).unwrap();
    let code = text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let path = folder.join("check.py");
    std::fs::write(&path, code).unwrap();
    path
}

/// By the recipe: whether it holds, and what it says.
fn by_hand(recipe: &Path, proof: &Path, records: Option<&Path>) -> (bool, String) {
    let done = Command::new("python3").arg(recipe).arg(proof).args(records).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(text).unwrap())
}

fn ended(args: &[&str]) -> Ended {
    let done = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

fn checked(proof: &Path, records: Option<&Path>) -> Ended {
    let mut args = vec!["proof", "--check", proof.to_str().unwrap()];
    if let Some(records) = records {
        args.extend(["--events", records.to_str().unwrap()]);
    }
    ended(&args)
}

/// Goal: a proof of every version holds, offline and by the recipe, and no fact in it can be altered.
#[test]
fn a_proof_holds_by_the_recipe_alone_and_fails_where_any_fact_is_altered() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    let events: Vec<Sending> = (1..=23).map(added).collect();
    site.send(&events);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 23, true);
    let made = api.send("POST", "/v1/aggregates/order/a/snapshots", r#"{"version":13}"#);
    assert!(made.status < 300, "{}", made.body);
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path());
    let (file, records) = (folder.path().join("proof.json"), folder.path().join("records.ndjson"));
    let line = |sent: &Sending| {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|it| String::from_utf8(it.clone()).unwrap());
        json!({ "ts": sent.time_ms, "key": text(&sent.key), "payload": text(&sent.value), "headers": [] })
            .to_string()
    };
    let write_records = |sent: &[Sending]| {
        std::fs::write(&records, sent.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    };
    write_records(&events);

    for version in [1, 4, 5, 13, 20, 23] {
        // The last events are in a checkpoint soon.
        until("a record that covers the version", || {
            let proof = api.get(&format!("/v1/aggregates/order/a/proof?version={version}")).unwrap();
            assert_eq!(proof.status, 200, "{}", proof.body);
            std::fs::write(&file, &proof.body).unwrap();
            !proof.json()["records"].as_array().unwrap().is_empty()
        });
        let (holds, said) = by_hand(&recipe, &file, Some(&records));
        assert!(holds && said.starts_with("it holds: sha256:"), "version {version}: {said}");
        let told = checked(&file, Some(&records));
        assert_eq!(told.code, Some(0), "version {version}: {}{}", told.out, told.err);
        assert!(told.out.contains("all "), "{}", told.out);
    }

    let proof = api.get("/v1/aggregates/order/a/proof?version=13").unwrap();
    let state = api.get("/v1/aggregates/order/a/state?version=13").unwrap().json();
    let text = proof.body.clone();
    let proof = proof.json();
    for name in ["stateDigest", "chain", "position", "state"] {
        assert_eq!(proof[name], state[name], "{name}");
    }
    assert_eq!(proof["events"].as_array().unwrap().len(), 13);
    assert!(proof["fingerprint"].is_string(), "{text}");
    let kinds: Vec<&str> =
        proof["records"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["F", "D"], "a full record of the version, and the increment with its event");
    alter(&text, &recipe, &file);

    // The fact changes: one event of the auditor's own copy is another one.
    std::fs::write(&file, &text).unwrap();
    let mut other = events.clone();
    let value = String::from_utf8(other[6].value.clone().unwrap()).unwrap();
    other[6].value = Some(value.replace("1.10", "1.1").into());
    write_records(&other);
    let (holds, said) = by_hand(&recipe, &file, Some(&records));
    assert!(!holds && said.contains("version 7 is not in the topic"), "{said}");
    let told = checked(&file, Some(&records));
    assert_eq!(told.code, Some(4), "{}", told.out);
    assert!(told.out.contains("fail  events") && told.out.contains("version 7"), "{}", told.out);

    // Links from a version on are taken on trust, and it is said so.
    let after = api.get("/v1/aggregates/order/a/proof?version=13&after=10").unwrap();
    assert_eq!(after.json()["events"].as_array().unwrap().len(), 3, "{}", after.body);
    std::fs::write(&file, &after.body).unwrap();
    assert!(by_hand(&recipe, &file, None).0);
    let told = checked(&file, None);
    assert!(told.code == Some(0) && told.out.contains("warn  base"), "{}", told.out);
    for (wrong, status) in [("version=24", 404), ("version=3&after=3", 422), ("version=0", 422)] {
        let refused = api.get(&format!("/v1/aggregates/order/a/proof?{wrong}")).unwrap();
        assert_eq!(refused.status, status, "{wrong}: {}", refused.body);
    }
    worker.stop();
}

/// Each part of a proof with another value: neither the recipe nor the program lets it pass.
fn alter(text: &str, recipe: &Path, file: &Path) {
    let proof: Value = serde_json::from_str(text).unwrap();
    let digest = json!(format!("sha256:{}", "0".repeat(64)));
    let body = |nth: usize| {
        let body = proof["records"][nth]["body"].as_str().unwrap();
        let first = if body.starts_with('B') { "C" } else { "B" };
        json!(format!("{first}{}", &body[1..]))
    };
    let changes = [
        ("/aggregateId", json!("b")),
        ("/aggregateType", json!("orders")),
        ("/version", json!(14)),
        ("/lineage", json!(9)),
        ("/chain", digest.clone()),
        ("/base/chain", digest.clone()),
        ("/events/6/digest", digest.clone()),
        ("/events/6/version", json!(8)),
        ("/stateDigest", digest.clone()),
        ("/state/eventCount", json!(14)),
        ("/statement", digest.clone()),
        ("/fingerprint", digest.clone()),
        ("/records/0/root", digest.clone()),
        ("/records/0/version", json!(12)),
        ("/records/0/body", body(0)),
        ("/records/1/body", body(1)),
        ("/records/1/fromVersion", json!(3)),
    ];
    for (path, value) in changes {
        let mut other = proof.clone();
        let at = other.pointer_mut(path).unwrap();
        assert_ne!(*at, value, "{path}");
        *at = value;
        std::fs::write(file, other.to_string()).unwrap();
        assert!(!by_hand(recipe, file, None).0, "{path} by the recipe");
        let told = checked(file, None);
        assert_eq!(told.code, Some(4), "{path}: {}{}", told.out, told.err);
    }
    let mut fewer = proof.clone();
    fewer["events"].as_array_mut().unwrap().remove(3);
    std::fs::write(file, fewer.to_string()).unwrap();
    assert!(!by_hand(recipe, file, None).0);
    assert_eq!(checked(file, None).code, Some(4));
}

#[test]
fn the_command_prints_what_it_has_checked() {
    let site = Site::new(ORDERS, QUICK, "orders", 1);
    site.send(&(1..=6).map(added).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 6, true);
    let server = worker.url();
    let printed = ended(&["proof", "order/a@5", "--server", &server]);
    assert_eq!(printed.code, Some(0), "{}", printed.err);
    assert!(printed.err.contains("proof of version 5 · statement sha256:"), "{}", printed.err);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proof.json");
    std::fs::write(&file, &printed.out).unwrap();
    let file = file.to_str().unwrap();
    let told = ended(&["proof", "order/a@5", "--check", file, "-o", "json"]);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["ok"], true, "{told}");
    let other = ended(&["proof", "order/a@4", "--check", file]);
    assert_eq!(other.code, Some(4), "{}", other.err);
    assert!(other.err.contains("proof of `order/a@5`"), "{}", other.err);
    worker.stop();
}
