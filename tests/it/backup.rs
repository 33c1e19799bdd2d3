//! Losing everything but the objects, through the command line and HTTP: an index that is rebuilt, backups
//! that are restored, damage that is found before anybody relies on it.

use crate::process::{Api, Ended, Program};
use crate::site::{ORDERS, Sending, Site, settled};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const QUICK: &str = "checkpoint: { interval: 200ms }";
const AGGREGATES: u64 = 60;
/// (aggregate, version) pairs that are asked for.
const QUESTIONS: usize = 1_000;

fn added(id: &str, n: u64, partition: i32) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"{id}-{n}","at":"2026-01-01T00:{:02}:{:02}Z","data":{{"sku":"s{}","qty":1,"price":1.10}}}}"#,
        n / 60,
        n % 60,
        n % 7
    );
    let time_ms = 1_767_225_600_000 + i64::try_from(n).unwrap();
    Sending { partition, key: Some(id.into()), value: Some(value.into()), time_ms }
}

/// Events of many aggregates, some of them with many; each round goes on where the one before ended.
pub(crate) fn events(round: u64) -> Vec<Sending> {
    let mut all = Vec::new();
    for n in 0..40 {
        for aggregate in 0..AGGREGATES {
            if n < 1 + aggregate * 2 / 3 {
                let partition = i32::try_from(aggregate % 2).unwrap();
                all.push(added(&format!("o-{aggregate}"), round * 40 + n, partition));
            }
        }
    }
    let deleted = r#"{"type":"Deleted","id":"d","at":"2026-01-02T00:00:00Z","data":{}}"#;
    all.push(Sending { value: Some(deleted.into()), ..added("o-59", 1_000 + round, 1) });
    all
}

/// Sends events in a few goes, each of which makes a checkpoint of its own.
pub(crate) fn fold_all(site: &Site, api: &Api, events: &[Sending], before: usize) {
    let mut sent = before;
    for some in events.chunks(events.len().div_ceil(4)) {
        site.send(some);
        sent += some.len();
        settled(api, sent as u64, true);
    }
}

/// What an answer says, but for how it was come by.
fn said(mut answer: Value) -> Value {
    let by = ["reconstructionTimeMs", "fromSnapshot", "snapshotVersion", "eventsReplayed", "source", "basis"];
    if let Some(members) = answer.as_object_mut() {
        by.iter().for_each(|name| drop(members.remove(*name)));
    }
    answer
}

/// Every head, many versions, all snapshots.
pub(crate) fn answers(api: &Api) -> BTreeMap<String, Value> {
    let mut said_of = BTreeMap::new();
    let mut ask = |path: String| {
        let reply = api.get(&path).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let answer = said(reply.json());
        said_of.insert(path, answer.clone());
        answer
    };
    let mut heads = Vec::new();
    for aggregate in 0..AGGREGATES {
        let head = ask(format!("/v1/aggregates/order/o-{aggregate}/state"));
        heads.push(head["version"].as_u64().unwrap());
    }
    let mut draw = 1_u64;
    for _ in 0..QUESTIONS {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let aggregate = usize::try_from((draw >> 33) % AGGREGATES).unwrap();
        let version = 1 + (draw >> 12) % heads[aggregate];
        ask(format!("/v1/aggregates/order/o-{aggregate}/state?version={version}"));
    }
    said_of
}

/// Every answer is what it was.
pub(crate) fn compared(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) {
    for (path, answer) in before {
        assert_eq!(&after[path], answer, "{path}");
    }
}

/// The snapshots of all aggregates, but for how long each took.
fn snapshots(api: &Api) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for aggregate in 0..AGGREGATES {
        let path = format!("/v1/aggregates/order/o-{aggregate}/snapshots?limit=1000");
        let mut list = api.get(&path).unwrap().json();
        for item in list["items"].as_array_mut().unwrap() {
            item["metadata"].as_object_mut().unwrap().remove("creationTimeMs");
        }
        all.insert(path, list);
    }
    all
}

pub(crate) fn run(args: &[&str]) -> Ended {
    Program::start(args).end()
}

pub(crate) fn done(args: &[&str]) -> Ended {
    let ended = run(args);
    assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    ended
}

/// The configuration of the site with other folders for index and blobs.
fn elsewhere(site: &Site, name: &str) -> (PathBuf, PathBuf) {
    let folder = site.config().parent().unwrap().to_owned();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let path = |of: &str| format!("{}\"", folder.join(of).display());
    let text = text.replace(&path("index"), &path(&format!("index-{name}")));
    let text = text.replace(&path("blobs"), &path(&format!("blobs-{name}")));
    let config = folder.join(format!("config-{name}.yaml"));
    std::fs::write(&config, text).unwrap();
    (config, folder.join(format!("blobs-{name}")))
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Flips one bit in the middle of a file.
fn damage(path: &Path) -> Vec<u8> {
    let sound = std::fs::read(path).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    sound
}

/// Goal: what a lost index knew comes back to the byte. Method: history, snapshots on demand and notes; the
/// folder of the index is deleted; a worker refuses to start; the index is rebuilt; every answer is compared.
#[test]
fn a_lost_index_comes_back_from_objects_alone() {
    let site = Site::new(ORDERS, QUICK, "orders", 2);
    let all = events(0);
    let mut worker = site.worker();
    let api = worker.ready();
    fold_all(&site, &api, &all, 0);
    let noted = r#"{"version":7,"label":"launch","reason":"before the sale"}"#;
    assert_eq!(api.send("POST", "/v1/aggregates/order/o-40/snapshots", noted).status, 201);
    assert_eq!(api.send("POST", "/v1/aggregates/order/o-3/snapshots", "").status, 201);
    // Time for another checkpoint, so that the last low watermark is in a pack.
    site.send(&[added("o-0", 2_000, 0), added("o-1", 2_000, 1)]);
    settled(&api, all.len() as u64 + 2, true);
    let (before, taken) = (answers(&api), snapshots(&api));
    worker.stop();

    let config = shown(&site.config());
    let offline = done(&["verify", "--offline", "--config", &config]);
    assert!(offline.out.contains("folded: 60 aggregates"), "{offline:?}");
    std::fs::remove_dir_all(site.config().parent().unwrap().join("index")).unwrap();
    let refused = run(&["run", "--config", &config]);
    assert_eq!(refused.code, Some(7), "{refused:?}");
    assert!(refused.err.contains("rebuild-index"), "{refused:?}");
    let dry = done(&["rebuild-index", "--config", &config, "--dry-run"]);
    assert!(dry.out.contains("would be written"), "{dry:?}");
    assert_eq!(run(&["run", "--config", &config]).code, Some(7), "a dry run writes nothing");
    let rebuilt = done(&["rebuild-index", "--config", &config]);
    println!("{}", rebuilt.out);
    let again = done(&["rebuild-index", "--config", &config]);
    assert!(again.out.contains("snapshots: 0 rows written"), "{again:?}");

    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, all.len() as u64 + 2, true);
    compared(&before, &answers(&api));
    assert_eq!(snapshots(&api), taken);
    let label = api.get("/v1/aggregates/order/o-40/snapshots/7").unwrap().json();
    assert_eq!(label["metadata"]["label"], "launch", "{label}");
    let more = events(1);
    site.send(&more);
    settled(&api, (all.len() + more.len()) as u64 + 2, true);
    let verified = api.post("/v1/aggregates/order/o-59/verify?mode=replay").unwrap().json();
    assert_eq!(verified["ok"], true, "{verified}");
    worker.stop();
    done(&["verify", "--offline", "--config", &config]);
}

/// Goal: objects that are damaged are named, and nobody starts on an index without what they held unless told
/// to. Method: one bit of a footer, and one of a body.
#[test]
fn a_damaged_pack_keeps_a_rebuilt_index_from_use() {
    let site = Site::new(ORDERS, QUICK, "orders", 2);
    let all = events(0);
    let mut worker = site.worker();
    fold_all(&site, &worker.ready(), &all, 0);
    worker.stop();
    let config = shown(&site.config());
    let index = site.config().parent().unwrap().join("index");
    let packs = site.packs();
    let history = packs.iter().find(|path| shown(path).contains("/history/")).unwrap();
    let sound = damage(history);
    let found = run(&["verify", "--offline", "--config", &config]);
    assert_eq!(found.code, Some(4), "{found:?}");
    let name = history.file_name().unwrap().to_str().unwrap();
    assert!(found.err.contains(name), "{found:?}");
    // The end of the footer, where the trailer is.
    let mut bytes = sound.clone();
    let last = bytes.len() - 60;
    bytes[last] ^= 1;
    std::fs::write(history, bytes).unwrap();
    std::fs::remove_dir_all(&index).unwrap();
    let told = run(&["rebuild-index", "--config", &config]);
    assert_eq!(told.code, Some(4), "{told:?}");
    assert!(told.err.contains(name) && told.out.contains("low watermarks: 0"), "{told:?}");
    assert_eq!(run(&["run", "--config", &config]).code, Some(7));
    std::fs::write(history, sound).unwrap();
    done(&["rebuild-index", "--config", &config]);
    let mut worker = site.worker();
    settled(&worker.ready(), all.len() as u64, true);
    worker.stop();
}

/// Goal: a backup beside a live worker can be restored elsewhere, and the second one copies only what is new.
#[test]
fn a_backup_beside_a_worker_is_restored_elsewhere() {
    let site = Site::new(ORDERS, QUICK, "orders", 2);
    let first = events(0);
    site.send(&first);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, first.len() as u64, true);
    let config = shown(&site.config());
    let target = site.config().parent().unwrap().join("backup");
    let full = done(&["backup", "--config", &config, &shown(&target)]);
    let second = events(1);
    site.send(&second);
    settled(&api, (first.len() + second.len()) as u64, true);
    let dry = done(&["backup", "--config", &config, &shown(&target), "--dry-run"]);
    let more = done(&["backup", "--config", &config, &shown(&target)]);
    let copied = |ended: &Ended| {
        let line = ended.out.lines().last().unwrap().to_owned();
        line.split_whitespace().find_map(|word| word.parse::<u64>().ok()).unwrap()
    };
    assert!(copied(&full) > 0 && copied(&more) > 0, "{full:?} {more:?}");
    assert!(dry.out.contains("would be copied"), "{dry:?}");
    let objects = site.blobs().len() as u64;
    assert!(copied(&full) + copied(&more) <= objects, "{} + {}: {objects}", copied(&full), copied(&more));
    let before = answers(&api);
    let itself =
        run(&["backup", "--config", &config, &shown(&site.config().parent().unwrap().join("blobs"))]);
    assert_eq!(itself.code, Some(2), "{itself:?}");
    worker.stop();

    let (elsewhere_config, blobs) = elsewhere(&site, "restored");
    let there = shown(&elsewhere_config);
    // A backup that is damaged is refused, and the object is named.
    let mut files = Vec::new();
    crate::site::collect(&target.join("v1").join("history"), &mut files);
    let sound = damage(&files[0]);
    let refused = run(&["restore", "--config", &there, &shown(&target)]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains(files[0].file_name().unwrap().to_str().unwrap()), "{refused:?}");
    std::fs::write(&files[0], sound).unwrap();
    // What was copied until then is not copied again.
    let restored = done(&["restore", "--config", &there, &shown(&target)]);
    assert!(restored.out.contains("rows written"), "{restored:?}");
    done(&["verify", "--offline", "--config", &there]);
    let mut worker = Program::start(&["run", "--config", &there]);
    let api = worker.ready();
    settled(&api, (first.len() + second.len()) as u64, true);
    compared(&before, &answers(&api));
    worker.stop();
    // The index that is in use may be later than the backup.
    let used = run(&["restore", "--config", &there, &shown(&target)]);
    assert_eq!((used.code, used.err.contains("an empty index")), (Some(7), true), "{used:?}");
    std::fs::remove_dir_all(blobs.with_file_name("index-restored")).unwrap();
    // Two histories never mix.
    std::fs::write(blobs.join("v1").join("dict").join("other"), b"x").unwrap_or_else(|_| {
        std::fs::create_dir_all(blobs.join("v1").join("dict")).unwrap();
        std::fs::write(blobs.join("v1").join("dict").join("other"), b"x").unwrap();
    });
    let mixed = run(&["restore", "--config", &there, &shown(&target)]);
    assert_eq!((mixed.code, mixed.err.contains("not of this backup")), (Some(7), true), "{mixed:?}");
}
