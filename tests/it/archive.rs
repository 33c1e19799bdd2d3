//! Old packs in an archive: every answer as before, by hand and in the background, and everything that reads,
//! lists or deletes packs finds them there.

use crate::backup::{done, shown};
use crate::process::{Api, Program, until};
use crate::site::{ORDERS, Sending, Site, collect, settled};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const QUICK: &str = "checkpoint: { interval: 200ms }\ngc: { enabled: false }";
const EVENTS: u64 = 57;

/// [`ORDERS`], of which packs are old after this.
fn orders(after: &str) -> String {
    format!("{ORDERS}    retention: {{ archiveAfter: {after} }}\n")
}

/// The `n`-th event of an order.
fn added(n: u64) -> Sending {
    let value = format!(
        r#"{{"type":"ItemAdded","id":"a-{n}","at":"2026-01-01T00:{:02}:{:02}Z","data":{{"sku":"s{}","qty":1,"price":1.10}}}}"#,
        n / 60,
        n % 60,
        n % 7
    );
    Sending { partition: 0, key: Some("a".into()), value: Some(value.into()), time_ms: 1_767_225_600_000 }
}

fn archive_of(site: &Site) -> PathBuf {
    site.config().parent().unwrap().join("archive")
}

/// Gives the site's blob store an archive, which is looked after every so often.
fn with_archive(site: &Site, every: &str) {
    let text = std::fs::read_to_string(site.config()).unwrap();
    let archive = format!(
        "blobs: {{ archive: {{ directory: {{ path: \"{}\" }}, interval: {every} }},",
        shown(&archive_of(site))
    );
    std::fs::write(site.config(), text.replace("blobs: {", &archive)).unwrap();
}

/// Packs of the classes that are archived, below a folder.
fn packs(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if folder.exists() {
        collect(folder, &mut files);
    }
    files.retain(|file| {
        let name = file.to_string_lossy();
        name.ends_with(".sfp") && !name.contains("/checkpoint/")
    });
    files
}

fn live_packs(site: &Site) -> Vec<PathBuf> {
    packs(&site.config().parent().unwrap().join("blobs"))
}

/// Every version, the events and all snapshots, without what an answer cost.
fn answers(api: &Api) -> Vec<Value> {
    let mut asked: Vec<String> = (1..=EVENTS).map(|version| format!("state?version={version}")).collect();
    asked.extend(["events?limit=1000", "blame"].map(str::to_owned));
    let answer = |path: String| {
        let reply = api.get(&format!("/v1/aggregates/order/a/{path}")).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let mut body = reply.json();
        let costs =
            ["fromSnapshot", "snapshotVersion", "eventsReplayed", "reconstructionTimeMs", "source", "basis"];
        if let Some(object) = body.as_object_mut() {
            costs.iter().for_each(|cost| drop(object.remove(*cost)));
        }
        body
    };
    asked.into_iter().map(answer).collect()
}

/// What the snapshots of the aggregate say of where they are.
fn archived(api: &Api) -> Vec<bool> {
    let list = api.get("/v1/aggregates/order/a/snapshots?limit=1000").unwrap().json();
    let told = list["items"].as_array().unwrap().iter();
    told.map(|item| item["metadata"]["archived"].as_bool().unwrap()).collect()
}

fn figures(args: &[&str]) -> Value {
    let ended = done(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&ended.out).unwrap()
}

fn job(api: &Api, path: &str, body: &str) -> Value {
    crate::process::job(api, &api.send("POST", path, body))
}

/// Folds all events, and has a snapshot of the head; what is answered then.
fn folded(site: &Site) -> Vec<Value> {
    site.send(&(1..=EVENTS).map(added).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(api.send("POST", "/v1/aggregates/order/a/snapshots", "").status, 201);
    assert!(archived(&api).iter().all(|archived| !archived));
    let before = answers(&api);
    worker.stop();
    before
}

/// Goal: nobody notices where packs are. Method: all are moved by hand; then every question, verification, an
/// index that is rebuilt, a backup, and garbage in the archive.
#[test]
fn packs_that_are_archived_by_hand_are_read_listed_and_collected_there() {
    let site = Site::new(&orders("1s"), QUICK, "orders", 1);
    with_archive(&site, "1h");
    let config = shown(&site.config());
    let before = folded(&site);
    let there = live_packs(&site).len();
    assert!(there > 3, "{there}");
    std::thread::sleep(std::time::Duration::from_millis(1_100));

    let dry = figures(&["archive", "--config", &config, "--dry-run"]);
    assert_eq!((&dry["wouldMove"], &dry["stay"]), (&json!(there), &json!(0)), "{dry}");
    assert_eq!(live_packs(&site).len(), there);
    let moved = figures(&["archive", "--config", &config]);
    assert_eq!((&moved["moved"], &moved["movedBytes"]), (&json!(there), &dry["movedBytes"]), "{moved}");
    assert_eq!((live_packs(&site).len(), packs(&archive_of(&site)).len()), (0, there));
    assert_eq!(figures(&["archive", "--config", &config])["packs"], 0, "there is nothing left to move");

    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(answers(&api), before);
    assert!(archived(&api).iter().all(|archived| *archived));
    let verified = api.post("/v1/aggregates/order/a/verify?mode=replay").unwrap().json();
    assert_eq!(verified["ok"], true, "{verified}");
    worker.stop();

    done(&["verify", "--offline", "--config", &config]);
    std::fs::remove_dir_all(site.config().parent().unwrap().join("index")).unwrap();
    done(&["rebuild-index", "--config", &config]);
    let backup = shown(&site.config().parent().unwrap().join("backup"));
    done(&["backup", "--config", &config, &backup]);
    assert_eq!(packs(Path::new(&backup)).len(), there);
    let doctor = Program::start(&["doctor", "--config", &config]).end();
    assert!(doctor.out.contains("blobs.archive"), "{doctor:?}");
    says_which_archive_it_is(&site);

    // History is merged; what it replaces is garbage in the archive.
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(answers(&api), before);
    let merged = job(&api, "/v1/aggregates/order/a/snapshots:compact", r#"{"strategy":"merge"}"#);
    assert_eq!(merged["result"]["segments"], 1, "{merged}");
    worker.stop();
    let gc = ["gc", "--config", &config, "--set", "gc.minAge=1ms", "--set", "gc.distance=1ms"];
    let deleted: u64 = (0..2).map(|_| figures(&gc)["deleted"].as_u64().unwrap()).sum();
    assert!(deleted > 0);
    let left = packs(&archive_of(&site)).len();
    assert!(left < there, "{left} of {there} are in the archive still");
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(answers(&api), before);
    worker.stop();
}

/// The doctor's word where the archive is missing, is another one, and is not named.
fn says_which_archive_it_is(site: &Site) {
    let told = |says: &str| {
        let ended = Program::start(&["doctor", "--config", &shown(&site.config())]).end();
        assert_eq!(ended.code, Some(4), "{ended:?}");
        let line = ended.out.lines().find(|line| line.contains("blobs.archive")).unwrap_or_default();
        assert!(line.contains(says), "{ended:?}");
    };
    let (archive, aside) = (archive_of(site), archive_of(site).with_extension("aside"));
    std::fs::rename(&archive, &aside).unwrap();
    told("packs of this blob store were moved to an archive");
    std::fs::create_dir(&archive).unwrap();
    told("is not the archive that packs were moved to");
    assert!(!archive.join("v1").exists(), "it is somebody else's, and is not written to");
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::rename(&aside, &archive).unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let unnamed: Vec<&str> = text.split("archive: {").collect();
    let rest = unnamed[1].split_once("}, interval: 1h },").unwrap().1;
    let unnamed = format!("{}{rest}", unnamed[0]).replace("retention: { archiveAfter: 1s }", "");
    std::fs::write(site.config(), unnamed).unwrap();
    told("packs of this blob store were moved to an archive");
    std::fs::write(site.config(), text).unwrap();
}

/// Goal: a worker archives by itself, beside everything else that it does.
#[test]
fn a_worker_archives_what_has_become_old() {
    let site = Site::new(&orders("1s"), QUICK, "orders", 1);
    with_archive(&site, "100ms");
    site.send(&(1..=EVENTS).map(added).collect::<Vec<_>>());
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(api.send("POST", "/v1/aggregates/order/a/snapshots", "").status, 201);
    let before = answers(&api);
    until("all packs are archived", || live_packs(&site).is_empty());
    let moved = packs(&archive_of(&site)).len();
    assert_eq!(answers(&api), before);
    until("the scrape tells", || api.figure("snapfold_archive_moved_packs_total").max(0.0) as usize == moved);
    assert!(api.figure("snapfold_archive_moved_bytes_total") > 0.0);
    assert!(archived(&api).iter().all(|archived| *archived));
    worker.stop();
}

/// Goal: the same in another bucket of a real store, with a storage class.
#[test]
fn packs_go_to_another_bucket_and_are_read_there() {
    let site = Site::new(&orders("1s"), QUICK, "orders", 1);
    let (bucket, endpoint) =
        (crate::servers::unique("it").replace('_', "-"), crate::servers::start("seaweedfs"));
    let text = std::fs::read_to_string(site.config()).unwrap();
    let (before, rest) = text.split_once("blobs: {").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    let keys = "accessKey: snapfold, secretKey: secretsecret";
    let blobs = format!(
        "blobs: {{ s3: {{ bucket: {bucket}, endpoint: \"{endpoint}\", pathStyle: true, {keys} }},\n\
         \x20 archive: {{ s3: {{ bucket: {bucket}-archive, storageClass: STANDARD_IA }}, interval: 1h }} }}"
    );
    std::fs::write(site.config(), format!("{before}{blobs}\n{after}")).unwrap();
    let config = shown(&site.config());
    let migrated = done(&["migrate", "--config", &config]);
    assert!(
        migrated.out.contains(&format!("blobs.archive: bucket `{bucket}-archive`: created")),
        "{migrated:?}"
    );
    let before = folded(&site);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let moved = figures(&["archive", "--config", &config]);
    assert!(moved["moved"].as_u64() > Some(3), "{moved}");
    assert_eq!(figures(&["archive", "--config", &config])["packs"], 0, "there is nothing left to move");
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(answers(&api), before);
    assert!(archived(&api).iter().all(|archived| *archived));
    worker.stop();
    done(&["verify", "--offline", "--config", &config]);
}

/// Goal: what lies in the archive under a pack's name is not taken for it.
#[test]
fn other_bytes_in_the_archive_keep_a_pack_where_it_is() {
    let site = Site::new(&orders("1s"), QUICK, "orders", 1);
    with_archive(&site, "1h");
    let before = folded(&site);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let live = site.config().parent().unwrap().join("blobs");
    let pack = live_packs(&site).remove(0);
    let other = archive_of(&site).join(pack.strip_prefix(&live).unwrap());
    std::fs::create_dir_all(other.parent().unwrap()).unwrap();
    std::fs::write(&other, "something else").unwrap();
    let ended = Program::start(&["archive", "--config", &shown(&site.config())]).end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("other bytes"), "{ended:?}");
    assert_eq!(live_packs(&site), [pack]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, EVENTS, true);
    assert_eq!(answers(&api), before);
    worker.stop();
}
