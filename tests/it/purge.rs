//! An erasure erases bytes: of who was erased none is in any file, all others answer as before, and the
//! certificate says so.

use crate::process::{Api, Program, until};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::Value;

const PARTITIONS: i32 = 2;
const AGGREGATES: u64 = 12;
const VERSIONS: u64 = 9;
/// What only the erased aggregate says.
const MARKER: &str = "Marguerite-Yourcenar";
const QUICK: &str =
    "checkpoint: { interval: 200ms }\ngc: { interval: 400ms, minAge: 2s, distance: 1s, orphanAge: 1h }";

/// [`ORDERS`] as they are written, so that a file can be searched for what is in it.
fn orders() -> String {
    let orders = ORDERS.replace("timeThreshold: 10s", "timeThreshold: 1s");
    format!("{orders}    compression: {{ algorithm: none }}\n")
}

/// The `version`-th event of an aggregate.
fn event(aggregate: u64, version: u64) -> Sending {
    let sku = if aggregate == 1 { MARKER.to_owned() } else { format!("sku-{aggregate}-{}", version % 4) };
    let value = format!(
        r#"{{"type":"ItemAdded","id":"e-{aggregate}-{version}","at":"2026-01-01T00:00:{version:02}Z","data":{{"sku":"{sku}","qty":1,"price":1.10}}}}"#
    );
    let partition = i32::try_from(aggregate).unwrap() % PARTITIONS;
    let key = Some(format!("o-{aggregate}").into_bytes());
    Sending { partition, key, value: Some(value.into_bytes()), time_ms: 1_767_225_600_000 }
}

/// Events of all, in turn: their snapshots are taken together.
fn events(versions: std::ops::RangeInclusive<u64>) -> Vec<Sending> {
    versions.flat_map(|version| (1..=AGGREGATES).map(move |aggregate| event(aggregate, version))).collect()
}

/// Every version and all events of the others, without what an answer cost.
fn answers(api: &Api) -> Vec<Value> {
    let costs =
        ["fromSnapshot", "snapshotVersion", "eventsReplayed", "reconstructionTimeMs", "source", "basis"];
    let mut answers = Vec::new();
    for aggregate in 2..=AGGREGATES {
        let versions = (1..=VERSIONS).map(|version| format!("state?version={version}"));
        for path in versions.chain(["events?limit=1000".to_owned()]) {
            let reply = api.get(&format!("/v1/aggregates/order/o-{aggregate}/{path}")).unwrap();
            assert_eq!(reply.status, 200, "o-{aggregate} {path}: {}", reply.body);
            let mut body = reply.json();
            if let Some(object) = body.as_object_mut() {
                costs.iter().for_each(|cost| drop(object.remove(*cost)));
            }
            answers.push(body);
        }
    }
    answers
}

/// Files of the blob store in which the erased aggregate's words are.
fn telling(site: &Site) -> Vec<String> {
    let mut files = site.blobs();
    // Whatever was deleted since it was listed tells nothing.
    files.retain(|file| {
        std::fs::read(file)
            .is_ok_and(|bytes| bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes()))
    });
    files.iter().map(|file| file.display().to_string()).collect()
}

/// Goal: bytes of the erased are gone from packs that others share, and nothing else is. Method: one of many
/// aggregates, whose snapshots were taken together, says a word that nobody else says; it is looked for in
/// every file once the certificate is complete.
#[test]
fn the_bytes_of_an_erased_aggregate_go_and_all_others_stay() {
    let site = Site::new(&orders(), QUICK, "orders", PARTITIONS);
    let mut worker = site.worker();
    let api = worker.ready();
    site.send(&events(1..=VERSIONS));
    let all = AGGREGATES * VERSIONS;
    settled(&api, all, true);
    let before = answers(&api);
    until("snapshots are taken", || {
        let list = api.get("/v1/aggregates/order/o-1/snapshots").unwrap().json();
        list["items"].as_array().is_some_and(|items| !items.is_empty())
    });
    assert!(!telling(&site).is_empty(), "its words are in packs");

    let path = "/v1/aggregates/order/o-1";
    let erased = api.send("POST", &format!("{path}:erase"), r#"{"reason":"asked for"}"#).json();
    assert_eq!((&erased["complete"], &erased["completedAt"]), (&false.into(), &Value::Null), "{erased}");
    let certificate = || api.get(&format!("{path}/erasure")).unwrap().json();
    until("nothing is left", || certificate()["complete"] == true);
    assert_eq!(telling(&site), Vec::<String>::new());
    assert_eq!(answers(&api), before);
    let told = certificate();
    assert!(told["completedAt"].is_string(), "{told}");
    let rewritten = told["rewritten"].as_array().unwrap();
    assert!(!rewritten.is_empty(), "others were in its packs: {told}");
    assert!(rewritten.iter().all(|pack| pack["records"].as_u64().unwrap() > 0), "{told}");
    assert_eq!(
        (&told["dictionaries"], &told["exceptions"]),
        (&serde_json::json!([]), &serde_json::json!(["backups", "topic"]))
    );
    until("the scrape tells", || api.figure("snapfold_purge_rewritten_packs_total") > 0.0);
    let shown = Program::start(&["erase", "order/o-1", "--server", &api.url]).end();
    assert!(shown.code == Some(0) && shown.out.contains("complete since"), "{shown:?}");
    assert!(shown.out.contains("rewritten  v1/") && shown.out.contains("backups"), "{shown:?}");
    worker.stop();

    // Footers and ledger alone tell the same.
    std::fs::remove_dir_all(site.config().with_file_name("index")).unwrap();
    let config = site.config().display().to_string();
    let rebuilt = Program::start(&["rebuild-index", "--config", &config]).end();
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, all, true);
    assert_eq!(answers(&api), before);
    let certificate = api.get(&format!("{path}/erasure")).unwrap().json();
    assert_eq!(certificate["complete"], true, "{certificate}");
    assert_eq!(telling(&site), Vec::<String>::new());
    worker.stop();
    let verified = Program::start(&["verify", "--offline", "--config", &config]).end();
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
