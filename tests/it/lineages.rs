//! Lineages that another took over from: what was answered before the refold is answered afterwards, until
//! the lineage is dropped; then nothing of it is left, and nothing brings it back.

use crate::kill::story;
use crate::ledger::Ledger;
use crate::process::{Api, Program, Reply};
use crate::refold::{ended, json, new_config};
use crate::site::{ORDERS, Site, settled};
use serde_json::Value;

const PARTITIONS: i32 = 4;
const EVENTS: usize = 500;
/// Of these, what comes after the refold: the old lineage has never heard of it.
const LATE: usize = 100;

fn path(id: &str) -> String {
    format!("/v1/aggregates/order/{}", id.replace('/', "%2F"))
}

fn ok(api: &Api, path: &str) -> Value {
    let reply = api.get(path).unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.json()
}

fn problem(reply: &Reply, status: u16, code: &str) -> Value {
    let body = reply.json();
    assert_eq!((reply.status, &body["code"]), (status, &code.into()), "{}", reply.body);
    body
}

/// What must be the same for ever.
fn lasting(state: &Value) -> Vec<Value> {
    let names = ["version", "state", "stateDigest", "chain", "timestamp", "position", "lineage", "deleted"];
    names.iter().map(|name| state[name].clone()).collect()
}

/// Of an aggregate one version: what of it must last, and a question with a basis and its bytes.
type Saved = (String, u64, Vec<Value>, (String, String));

/// Every version of every aggregate, as it is answered; and with its basis, as bytes.
fn all_versions(api: &Api, ledger: &Ledger) -> Vec<Saved> {
    let mut saved = Vec::new();
    for id in ledger.aggregates() {
        for version in 1..=ledger.head(id) {
            let state = ok(api, &format!("{}/state?version={version}", path(id)));
            let basis = state["basis"].as_str().unwrap().replace('@', "%40");
            let with = format!("{}/state?version={version}&basis={basis}", path(id));
            let body = api.get(&with).unwrap().body;
            saved.push((id.to_owned(), version, lasting(&state), (with, body)));
        }
    }
    saved
}

/// A site whose worker has folded all but the last events, with what it answered; a label and a pin in it.
fn folded(site: &Site) -> (Vec<Saved>, Ledger) {
    let (sendings, ledger) = story(11, EVENTS - LATE, PARTITIONS, 0);
    site.send(&sendings);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, (EVENTS - LATE) as u64, true);
    let made = api.send("POST", &format!("{}/snapshots", path("o/1")), "{\"label\":\"audited\"}");
    assert!(matches!(made.status, 200 | 201), "{}", made.body);
    let version = made.json()["version"].as_u64().unwrap();
    let noted = api.send("PATCH", &format!("{}/snapshots/{version}", path("o/1")), "{\"pinned\":true}");
    assert_eq!(noted.status, 200, "{}", noted.body);
    let saved = all_versions(&api, &ledger);
    assert!(saved.len() > 300, "{}", saved.len());
    worker.stop();
    (saved, ledger)
}

/// Goal: an old lineage is readable until it is dropped, by everything that reads; then it is gone, its packs
/// too, and a rebuilt index does not have it. Method: every version of every aggregate before the refold, and
/// afterwards; then drop, garbage collection, a lost index.
#[test]
fn an_old_lineage_answers_as_it_did_until_it_is_dropped() {
    let site =
        Site::new(ORDERS, "checkpoint: { interval: 300ms }\ngc: { enabled: false }", "orders", PARTITIONS);
    let (saved, _) = folded(&site);
    let config = new_config(&site);
    let told = json(&["refold"], &config);
    assert_eq!((&told["into"], &told["notes"]), (&2.into(), &1.into()), "{told}");
    let (more, _) = story(12, LATE, PARTITIONS, 0);
    site.send(&more);
    let start = || Program::start(&["run", "--config", &config.display().to_string()]);
    let mut worker = start();
    let api = worker.ready();
    settled(&api, EVENTS as u64, true);
    let mut differ = 0;
    for (id, version, before, (with, body)) in &saved {
        let old = ok(&api, &format!("{}/state?lineage=1&version={version}", path(id)));
        assert_eq!(&lasting(&old), before, "{id} {version}");
        let new = ok(&api, &format!("{}/state?version={version}", path(id)));
        assert_eq!(new["lineage"], 2);
        differ += u32::from(new["state"] != old["state"]);
        assert_eq!(&api.get(with).unwrap().body, body, "a basis says its lineage itself: {with}");
    }
    assert!(differ > 50, "the reducers differ: {differ}");
    everything_reads(&api, &saved);
    the_label_came_along(&api);
    problem(&api.get(&format!("{}/state?lineage=7", path("o/1"))).unwrap(), 422, "bad-selector");
    let listed = ok(&api, "/v1/lineages?type=order");
    let standing = |listed: &Value, at: usize| listed["items"][at]["state"].clone();
    assert_eq!((standing(&listed, 0), standing(&listed, 1)), ("old".into(), "active".into()), "{listed}");
    assert_eq!(
        (&listed["items"][0]["readable"], &listed["items"][0]["droppedAt"]),
        (&true.into(), &Value::Null)
    );
    let cli = |args: &[&str]| Program::start(&[args, &["--server", &api.url]].concat()).end();
    let got = cli(&["get", "order/o/1", "--lineage", "1", "-o", "json"]);
    assert!(got.out.contains("\"lineage\":1"), "{got:?}");
    let lines = cli(&["lineages", "ls"]);
    assert!(lines.code == Some(0) && lines.out.contains("old") && lines.out.contains("active"), "{lines:?}");
    worker.stop();
    dropped(&site, &config, &saved);
}

/// All routes that take a lineage give that lineage.
fn everything_reads(api: &Api, saved: &[Saved]) {
    let (id, head) = saved.iter().map(|(id, version, ..)| (id, *version)).max_by_key(|(_, v)| *v).unwrap();
    let of = |rest: &str| ok(api, &format!("{}{rest}", path(id)));
    let newest = of("?lineage=1");
    assert_eq!((&newest["lineage"], &newest["version"]), (&1.into(), &head.into()), "{newest}");
    let events = of("/events?lineage=1&limit=1000");
    assert_eq!(events["items"].as_array().unwrap().len() as u64, head, "the old lineage ends there");
    assert_eq!(of("/events/1?lineage=1"), of("/events/1"), "an event is an event in both");
    let diff = of(&format!("/diff?from=1&to={head}&lineage=1"));
    assert!(diff["from"]["basis"].as_str().unwrap().starts_with("1@"), "{diff}");
    assert_eq!(of("/blame?lineage=1")["version"], head);
    assert!(!of("/history?path=/total&lineage=1")["items"].as_array().unwrap().is_empty());
    let snapshots = of("/snapshots?lineage=1");
    for item in snapshots["items"].as_array().unwrap() {
        assert_eq!(item["metadata"]["lineage"], 1, "{item}");
        let by_id = ok(api, &format!("/v1/snapshots/{}", item["id"].as_str().unwrap()));
        assert_eq!(by_id["metadata"]["lineage"], 1, "its id is of its lineage: {by_id}");
    }
    assert_eq!(of("/proof?lineage=1")["lineage"], 1);
    let verified = api.send("POST", &format!("{}/verify?lineage=1", path(id)), "").json();
    assert_eq!(verified["ok"], true, "{verified}");
    let watched = api.get(&format!("{}/watch?lineage=1", path(id))).unwrap();
    problem(&watched, 422, "bad-selector");
}

/// The snapshot of the same event has the label and the pin in the new lineage.
fn the_label_came_along(api: &Api) {
    let labelled = |lineage: u32| {
        let list = ok(api, &format!("{}/snapshots?lineage={lineage}&limit=1000", path("o/1")));
        let items = list["items"].as_array().unwrap().clone();
        let found = items.into_iter().find(|item| item["metadata"]["label"] == "audited");
        found.unwrap_or_else(|| panic!("no label in lineage {lineage}: {list}"))
    };
    let (old, new) = (labelled(1), labelled(2));
    assert_eq!(old["metadata"]["offset"], new["metadata"]["offset"]);
    assert_eq!(new["metadata"]["pinned"], true, "{new}");
}

fn dropped(site: &Site, config: &std::path::Path, saved: &[Saved]) {
    let bytes = || -> u64 { site.packs().iter().map(|file| std::fs::metadata(file).unwrap().len()).sum() };
    let active = ended(&["lineages", "drop", "2", "--yes"], config);
    assert!(active.code == Some(7) && active.err.contains("active"), "{active:?}");
    let unknown = ended(&["lineages", "drop", "9", "--yes"], config);
    assert_eq!(unknown.code, Some(3), "{unknown:?}");
    let dry = json(&["lineages", "drop", "1"], config);
    assert_eq!(dry["dropped"], false);
    assert!(dry["snapshots"].as_u64().unwrap() > 10 && dry["packs"].as_u64().unwrap() > 0, "{dry}");
    let done = json(&["lineages", "drop", "1", "--yes"], config);
    assert_eq!((&done["dropped"], &done["snapshots"]), (&true.into(), &dry["snapshots"]), "{done}");
    let again = json(&["lineages", "drop", "1", "--yes"], config);
    assert_eq!((&again["dropped"], &again["snapshots"]), (&true.into(), &0.into()), "{again}");
    let (before, many) = (bytes(), site.packs().len());
    for _ in 0..3 {
        let gc = ["gc", "--set", "gc.minAge=1ms", "--set", "gc.distance=1ms"];
        json(&gc, config);
    }
    assert!(bytes() < before && site.packs().len() < many, "{before} bytes in {many} packs, now {}", bytes());
    refused(config, saved);
    std::fs::remove_dir_all(site.config().with_file_name("index")).unwrap();
    let rebuilt = ended(&["rebuild-index"], config);
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    refused(config, saved);
    let back = ended(&["refold"], &site.config());
    assert_eq!(back.code, Some(0), "{back:?}");
    assert!(back.out.contains("lineage 2 refolded into lineage 3"), "its number is nobody's: {back:?}");
}

/// The dropped lineage is refused, and the active one answers.
fn refused(config: &std::path::Path, saved: &[Saved]) {
    let mut worker = Program::start(&["run", "--config", &config.display().to_string()]);
    let api = worker.ready();
    settled(&api, EVENTS as u64, true);
    for (id, version, _, (with, _)) in saved.iter().step_by(50) {
        let reply = api.get(&format!("{}/state?version={version}&lineage=1", path(id))).unwrap();
        problem(&reply, 410, "lineage-dropped");
        problem(&api.get(with).unwrap(), 410, "lineage-dropped");
        assert_eq!(ok(&api, &format!("{}/state?version={version}", path(id)))["lineage"], 2);
    }
    let listed = ok(&api, "/v1/lineages");
    assert_eq!(listed["items"][0]["state"], "dropped", "{listed}");
    assert!(listed["items"][0]["droppedAt"].is_string(), "{listed}");
    worker.stop();
}

/// Goal: what must stay keeps its lineage, and `refold --drop-old` says so. Method: an aggregate is held.
#[test]
fn a_held_aggregate_keeps_its_lineage() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", PARTITIONS);
    let (sendings, ledger) = story(13, 120, PARTITIONS, 0);
    let id = ledger.aggregates().next().unwrap();
    site.send(&sendings);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 120, true);
    assert_eq!(api.send("POST", &format!("{}/snapshots", path(id)), "").status / 100, 2);
    assert_eq!(api.send("PUT", &format!("{}/hold", path(id)), "").status, 200);
    worker.stop();
    let config = new_config(&site);
    let held = ended(&["refold", "--drop-old"], &config);
    assert_eq!(held.code, Some(7), "{held:?}");
    assert!(held.out.contains("into lineage 2") && held.err.contains("is held"), "{held:?}");
    let mut worker = Program::start(&["run", "--config", &config.display().to_string()]);
    let api = worker.ready();
    settled(&api, 120, true);
    assert_eq!(ok(&api, &format!("{}?lineage=1", path(id)))["lineage"], 1);
    assert_eq!(api.send("DELETE", &format!("{}/hold", path(id)), "").status, 200);
    worker.stop();
    let done = json(&["lineages", "drop", "1", "--yes"], &config);
    assert_eq!(done["dropped"], true, "{done}");
}
