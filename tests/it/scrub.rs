//! Scrubbing and the tiers of `verify` on a running worker: a bit flips on disk, and what can be derived
//! is written anew; all that is stored is verified by a job.

use crate::process::{Api, Ended, command, until};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const QUICK: &str = "checkpoint: { interval: 300ms }";

fn added(id: &str, n: u64) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"{id}-{n}","at":"2026-01-01T00:00:00Z","data":{{"sku":"s{n}","qty":1,"price":1.10}}}}"#
    );
    Sending { partition: 0, key: Some(id.into()), value: Some(value.into()), time_ms: 1_767_225_600_000 }
}

/// Events of three aggregates, let out in parts, so that there are several packs.
fn feed(site: &Site, api: &Api) {
    for part in [1..=6, 7..=12, 13..=18, 19..=23_u64] {
        let last = *part.end();
        site.send(&part.flat_map(|n| ["a", "b", "c"].map(|id| added(id, n))).collect::<Vec<_>>());
        settled(api, 3 * last, true);
    }
}

/// The files of packs of a class.
fn packs(site: &Site, class: &str) -> Vec<PathBuf> {
    let of = format!("/{class}/");
    site.packs().into_iter().filter(|file| file.to_string_lossy().contains(&of)).collect()
}

/// Changes one byte in the middle of a file's records.
fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    // Behind the header; frames come next.
    let at = 160.min(bytes.len() / 3);
    bytes[at] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

fn verified(api: &Api, id: &str, mode: &str) -> Value {
    api.post(&format!("/v1/aggregates/order/{id}/verify?mode={mode}")).unwrap().json()
}

fn states(api: &Api) -> Vec<String> {
    let path = |id: &str, version: u64| format!("/v1/aggregates/order/{id}/state?version={version}");
    let state = |path: String| api.get(&path).unwrap().json()["state"].to_string();
    ["a", "b", "c"].iter().flat_map(|id| (1..=23).map(|version| state(path(id, version)))).collect()
}

/// What a job says at its end.
fn job(api: &Api, body: &Value) -> Value {
    let last = crate::process::job(api, &api.send("POST", "/v1/verify", &body.to_string()));
    assert_eq!(last["status"], "done", "{last}");
    last["result"].clone()
}

fn ended(args: &[&str]) -> Ended {
    let done = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

/// Goal: a damaged record is written anew, and what is answered and verified is as it was before.
#[test]
fn a_bit_that_flips_on_disk_is_found_and_its_records_are_written_anew() {
    let slow = Site::new(ORDERS, &format!("{QUICK}\nscrub: {{ interval: 0s }}"), "orders", 1);
    let mut worker = slow.worker();
    let api = worker.ready();
    feed(&slow, &api);
    let right = states(&api);
    worker.stop();
    // One of increments, one of states, and one of increments that is gone.
    let (history, full) = (packs(&slow, "history"), packs(&slow, "full"));
    assert!(history.len() > 2 && !full.is_empty(), "{history:?} {full:?}");
    flip(&history[0]);
    flip(&full[0]);
    std::fs::remove_file(&history[2]).unwrap();

    let mut worker = slow.worker();
    let api = worker.ready();
    let damaged = ["a", "b", "c"].iter().filter(|id| verified(&api, id, "checksum")["ok"] == false).count();
    assert!(damaged > 0, "the damage is met");
    assert_eq!(states(&api), right, "reads heal by themselves");
    assert_eq!(api.figure("snapfold_scrubbed_rows_total{stream=\"order\"}") as u64, 0, "it is off");
    worker.stop();

    // The first pass waits until there is something to look at: the next one is a week away.
    let mut worker =
        slow.worker_with(&["--set", "scrub.interval=7d", "--set", "scrub.bytesPerSecond=100MiB"]);
    let api = worker.ready();
    until("the records to be written anew", || {
        ["a", "b", "c"].iter().all(|id| verified(&api, id, "checksum")["ok"] == true)
    });
    let figure = |api: &Api, name: &str| api.figure(&format!("{name}{{stream=\"order\"}}"));
    until("them to be counted", || figure(&api, "snapfold_scrub_repaired_records_total") >= 3.0);
    assert!(figure(&api, "snapfold_scrubbed_bytes_total") > 0.0);
    assert_eq!(states(&api), right);
    worker.stop();

    let mut worker =
        slow.worker_with(&["--set", "scrub.interval=1s", "--set", "scrub.bytesPerSecond=100MiB"]);
    let api = worker.ready();
    until("a pass", || figure(&api, "snapfold_scrubbed_rows_total") > 0.0);
    let rows = figure(&api, "snapfold_scrubbed_rows_total");
    until("more passes", || figure(&api, "snapfold_scrubbed_rows_total") > rows * 3.0);
    assert_eq!(figure(&api, "snapfold_scrub_repaired_records_total"), 0.0, "once is enough");
    assert!(figure(&api, "snapfold_scrub_age_seconds") < 60.0);
    for id in ["a", "b", "c"] {
        let path = format!("/v1/aggregates/order/{id}/snapshots?beforeVersion=99");
        let deleted = api.send("DELETE", &path, "");
        assert_eq!(deleted.status, 200, "the damaged copies stay and harm nobody: {}", deleted.body);
    }
    assert_eq!(states(&api), right);
    worker.stop();

    // What was written anew stands by itself: without the damaged packs.
    for file in [&history[0], &full[0]] {
        std::fs::remove_file(file).unwrap();
    }
    let mut worker = slow.worker_with(&["--set", "scrub.interval=0s"]);
    let api = worker.ready();
    assert_eq!(states(&api), right);
    worker.stop();
}

#[test]
fn all_that_is_stored_is_verified_by_a_job_and_the_command_says_what_is_wrong() {
    let site = Site::new(ORDERS, &format!("{QUICK}\nscrub: {{ interval: 0s }}"), "orders", 1);
    let mut worker = site.worker();
    let api = worker.ready();
    feed(&site, &api);
    for tier in ["structure", "sample", "full", "replay"] {
        let result = job(&api, &json!({ "tier": tier, "type": "order" }));
        assert_eq!((&result["ok"], &result["tier"]), (&json!(true), &json!(tier)), "{result}");
        assert_eq!(result["aggregates"], 3, "{result}");
        assert!(result["rows"].as_u64().unwrap() >= 12, "{result}");
    }
    let all = job(&api, &json!({ "tier": "full" }));
    let files = site.packs().len() as u64;
    assert!(all["ok"] == true && all["packs"].as_u64().unwrap() >= files.min(6), "{all}");
    assert!(
        job(&api, &json!({ "tier": "replay" }))["events"].as_u64() == Some(69),
        "every event is folded again"
    );
    let some = job(&api, &json!({ "tier": "structure", "type": "order", "prefix": "b" }));
    assert_eq!(some["aggregates"], 1, "{some}");
    for wrong in [json!({ "tier": "deep" }), json!({ "prefix": "b" }), json!({ "tier": "full", "sample": 3 })]
    {
        assert_eq!(api.send("POST", "/v1/verify", &wrong.to_string()).status, 422, "{wrong}");
    }
    let server = worker.url();
    let sound = ended(&["verify", "--tier", "full", "--server", &server]);
    assert_eq!(sound.code, Some(0), "{}{}", sound.out, sound.err);
    assert!(sound.err.contains("0 problems"), "{}", sound.err);
    worker.stop();

    flip(&packs(&site, "history")[0]);
    std::fs::remove_file(&packs(&site, "full")[0]).unwrap();
    let mut worker = site.worker();
    let (api, server) = (worker.ready(), worker.url());
    let structure = job(&api, &json!({ "tier": "structure" }));
    assert!(structure["ok"] == false && structure["findings"][0]["healed"] == true, "{structure}");
    let full = ended(&["verify", "--tier", "full", "--type", "order", "--server", &server]);
    assert_eq!(full.code, Some(4), "{}{}", full.out, full.err);
    assert!(full.out.contains("corrupt") && full.out.contains("is missing"), "{}", full.out);
    assert!(full.out.contains("(healed"), "{}", full.out);
    worker.stop();
}
