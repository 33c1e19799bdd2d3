//! An erased aggregate: nobody answers about it, nobody folds it on, and no restart, replay or lost index
//! brings it back.

use crate::kill::story;
use crate::process::{Api, Program, until};
use crate::site::{ORDERS, Site, settled};

const PARTITIONS: i32 = 4;
const ID: &str = "o%2F1";

fn routes() -> Vec<String> {
    let of = |rest: &str| format!("/v1/aggregates/order/{ID}{rest}");
    let mut routes: Vec<String> = [
        "",
        "/state",
        "/state?version=1",
        "/events",
        "/events/1",
        "/diff?from=1",
        "/blame",
        "/history?path=/total",
        "/snapshots",
        "/snapshots/latest",
        "/watch",
        "/proof",
    ]
    .iter()
    .map(|rest| of(rest))
    .collect();
    routes.push(of("/snapshots/5"));
    routes
}

fn must_be_gone(api: &Api) {
    for route in routes() {
        let reply = api.get(&route).unwrap();
        assert_eq!(
            (reply.status, reply.json()["code"].as_str()),
            (410, Some("erased")),
            "{route}: {}",
            reply.body
        );
    }
    let body = format!(r#"{{"ids":["{}","o/2"]}}"#, "o/1");
    let batch = api.send("POST", "/v1/aggregates/order:batchGet", &body).json();
    assert_eq!(batch["items"][0]["error"]["code"], "erased", "{batch}");
    assert_eq!(batch["items"][1]["status"], "found", "{batch}");
    let mut path = "/v1/aggregates?type=order&limit=50&deleted=true".to_owned();
    loop {
        let list = api.get(&path).unwrap().json();
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["aggregateId"] != "o/1"), "{list}");
        let Some(cursor) = list["nextCursor"].as_str() else { break };
        path = format!("/v1/aggregates?type=order&limit=50&deleted=true&cursor={cursor}");
    }
}

/// Goal: what was erased stays so, whatever is lost or folded again, and others are as they were. Method:
/// erase one, ask everything, send more of its events, restart, and at last without the index, so that the
/// whole topic is folded again.
#[test]
fn an_erased_aggregate_never_comes_back() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", PARTITIONS);
    let (sendings, ledger) = story(9, 1_500, PARTITIONS, 0);
    let (first, later) = sendings.split_at(1_000);
    site.send(first);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 1_000, true);
    let path = format!("/v1/aggregates/order/{ID}");
    let head = api.get(&path).unwrap().json();
    let unknown = api.send("POST", "/v1/aggregates/order/nobody:erase", r#"{"reason":"x"}"#);
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let refused = api.send("POST", &format!("{path}:erase"), "{}");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (422, Some("bad-body")), "{refused:?}");
    assert_eq!(api.get(&format!("{path}/erasure")).unwrap().status, 404);

    let words = ["erase", "order/o/1", "--server", &api.url, "-o", "json"];
    let unsure = Program::start(&[&words[..], &["--reason", "asked for"]].concat()).end();
    assert_eq!(unsure.code, Some(2), "{unsure:?}");
    let sure = ["--reason", "asked for", "--request-id", "R-1", "--yes"];
    let erased = Program::start(&[&words[..], &sure].concat()).end();
    assert_eq!(erased.code, Some(0), "{erased:?}");
    let told: serde_json::Value = serde_json::from_str(&erased.out).unwrap();
    assert_eq!((&told["reason"], &told["requestId"]), (&"asked for".into(), &"R-1".into()));
    assert_eq!(
        (&told["version"], &told["position"]["offset"]),
        (&head["version"], &head["position"]["offset"])
    );
    assert!(!told["packs"].as_array().unwrap().is_empty(), "{told}");
    must_be_gone(&api);
    assert_eq!(
        (&told["rowsLeft"], &told["deadLettersLeft"], &told["complete"]),
        (&0.into(), &0.into(), &false.into()),
        "packs are left to collect"
    );
    let again = api.send("POST", &format!("{path}:erase"), r#"{"reason":"another"}"#).json();
    assert_eq!(again["erasure"], told["erasure"], "it was erased once");

    // Checkpoints still hold some of it, and nothing that this follows on.
    let verified =
        Program::start(&["verify", "--offline", "--config", site.config().to_str().unwrap()]).end();
    assert_eq!(verified.code, Some(0), "{verified:?}");

    site.send(later);
    settled(&api, 1_500, true);
    must_be_gone(&api);
    until("its events are passed by", || api.figure("snapfold_erased_events_total") > 0.0);
    worker.stop();

    // An index that is made anew brings nothing of it back.
    std::fs::remove_dir_all(site.config().with_file_name("index")).unwrap();
    let rebuilt = Program::start(&["rebuild-index", "--config", site.config().to_str().unwrap()]).end();
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 1_500, true);
    must_be_gone(&api);
    let certificate = api.get(&format!("{path}/erasure")).unwrap().json();
    assert_eq!((&certificate["erasure"], &certificate["rowsLeft"]), (&told["erasure"], &0.into()));
    let other = api.get("/v1/aggregates/order/o%2F2").unwrap().json();
    assert_eq!(other["version"].as_u64(), Some(ledger.head("o/2")), "{other}");
    worker.stop();
}
