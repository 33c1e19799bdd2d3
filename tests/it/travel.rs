//! Time travel through the public surface: who wrote what, differences, histories, streams of changes,
//! answers by their basis, many at one instant, and history out of git. The truth is an independent walk over
//! states that were asked for one by one, on values of `serde_json`; of git, what `git show` says.

use crate::process::{Api, Program, command, job, until};
use crate::site::{ORDERS, Sending, Site, settled};
use crate::truth::{encoded, is_full, lines, repository};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

const SAMPLE: &str = "assets/browser-compat/compat-releases.ndjson.zst";

/// Numbers that look random and are the same in each run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's constants; the high bits are good enough.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn ok(api: &Api, path: &str) -> Value {
    let reply = api.get(path).unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.json()
}

/// All states of an aggregate; the first is that before its first event.
fn states(api: &Api, aggregate: &str) -> Vec<Value> {
    let head = ok(api, &format!("{aggregate}/state"))["version"].as_u64().unwrap();
    let state = |version| ok(api, &format!("{aggregate}/state?version={version}"))["state"].take();
    std::iter::once(Value::Null).chain((1..=head).map(state)).collect()
}

fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) if !members.is_empty() => {
            members
                .iter()
                .for_each(|(name, value)| leaves(value, &format!("{path}/{}", escaped(name)), found));
        }
        Value::Array(elements) if !elements.is_empty() => {
            let all = elements.iter().enumerate();
            all.for_each(|(nth, value)| leaves(value, &format!("{path}/{nth}"), found));
        }
        leaf => drop(found.insert(path.to_owned(), leaf.to_string())),
    }
}

fn leaves_of(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    leaves(value, "", &mut found);
    found
}

/// Last writers of the leaves at version `at`.
fn writers(states: &[Value], at: usize) -> BTreeMap<String, u64> {
    let mut writers = BTreeMap::new();
    let mut before = BTreeMap::new();
    for (version, state) in (1..).zip(&states[1..=at]) {
        let now = leaves_of(state);
        for (path, text) in &now {
            if before.get(path) != Some(text) {
                writers.insert(path.clone(), version);
            }
        }
        before = now;
    }
    writers.retain(|path, _| before.contains_key(path));
    writers
}

/// Blame at two versions, differences of random pairs in all formats, the history of random fields.
fn compare(api: &Api, kind: &str, id: &str, draws: &mut Draws) -> usize {
    let aggregate = format!("/v1/aggregates/{kind}/{}", encoded(id));
    let states = states(api, &aggregate);
    let head = states.len() - 1;
    for at in [head, 1 + draws.below(head)] {
        let blame = ok(api, &format!("{aggregate}/blame?version={at}"));
        let fields = blame["fields"].as_array().unwrap().iter();
        let told: BTreeMap<String, u64> = fields
            .map(|field| (field["path"].as_str().unwrap().to_owned(), field["version"].as_u64().unwrap()))
            .collect();
        assert_eq!(told, writers(&states, at), "blame of {id} at {at}");
    }
    let paths: Vec<String> = leaves_of(&states[head]).into_keys().collect();
    for _ in 0..3 {
        let path = &paths[draws.below(paths.len())];
        let history = ok(api, &format!("{aggregate}/history?limit=1000&path={}", encoded(path)));
        let told: Vec<(u64, Option<Value>)> = history["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["version"].as_u64().unwrap(), item.get("after").cloned()))
            .collect();
        let at = |version: usize| states[version].pointer(path).cloned();
        let changed = (1..=head).filter(|version| at(*version) != at(version - 1));
        let walked: Vec<(u64, Option<Value>)> =
            changed.map(|version| (version as u64, at(version))).collect();
        assert_eq!((told, &history["nextCursor"]), (walked, &Value::Null), "{path} of {id}");
    }
    let mut pairs = 0;
    for _ in 0..head.min(25) {
        let (from, to) = (1 + draws.below(head), 1 + draws.below(head));
        let diff =
            |format| api.get(&format!("{aggregate}/diff?from={from}&to={to}&format={format}")).unwrap();
        let patch: json_patch::Patch =
            serde_json::from_value(diff("json-patch").json()["patch"].take()).unwrap();
        let mut state = states[from].clone();
        json_patch::patch(&mut state, &patch).unwrap();
        assert_eq!(state, states[to], "{id}: {from} to {to}");
        let merge = diff("merge-patch");
        if merge.status == 200 {
            let mut state = states[from].clone();
            json_patch::merge(&mut state, &merge.json()["patch"]);
            assert_eq!(state, states[to], "{id}: {from} to {to} by a merge patch");
        }
        let tree = diff("tree").json();
        let told: BTreeSet<&str> =
            tree["patch"].as_array().unwrap().iter().map(|leaf| leaf["path"].as_str().unwrap()).collect();
        let (before, after) = (leaves_of(&states[from]), leaves_of(&states[to]));
        let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed: BTreeSet<&str> = all
            .into_iter()
            .filter(|path| before.get(*path) != after.get(*path))
            .map(String::as_str)
            .collect();
        assert_eq!(told, changed, "{id}: {from} to {to}, leaf by leaf");
        pairs += 1;
    }
    pairs
}

#[test]
fn blame_differences_and_histories_are_what_a_walk_over_all_versions_finds() {
    let mut dev = Program::start(&["dev", "--port", "0"]);
    let api = dev.ready();
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines(&repository(SAMPLE)) {
        *ids.entry(crate::truth::id_of(&line).to_owned()).or_default() += 1;
    }
    let mut draws = Draws(7);
    let mut longest: Vec<(usize, String)> = ids.into_iter().map(|(id, events)| (events, id)).collect();
    longest.sort();
    let (aggregates, pairs_min) = if is_full() { (longest.len(), 5_000) } else { (12, 100) };
    let chosen: Vec<String> =
        (0..aggregates).map(|_| longest.swap_remove(draws.below(longest.len())).1).collect();
    let pairs: usize = chosen.iter().map(|id| compare(&api, "compat", id, &mut draws)).sum();
    println!("{} aggregates, {pairs} pairs", chosen.len());
    assert!(pairs > pairs_min, "{pairs}");
    let many = chosen.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",");
    let body = format!("{{\"ids\":[{many},\"nobody\"],\"at\":\"2023-06-01\"}}");
    let batch = api.send("POST", "/v1/aggregates/compat:batchGet", &body);
    let batch = batch.json();
    for (id, item) in chosen.iter().zip(batch["items"].as_array().unwrap()) {
        let path = format!("/v1/aggregates/compat/{}/state?at=2023-06-01", encoded(id));
        let one = api.get(&path).unwrap();
        match one.status {
            200 => assert_eq!(item["state"], one.json()["state"], "{id}"),
            _ => assert_eq!(item["error"]["code"], one.json()["code"], "{id}"),
        }
    }
    assert_eq!(batch["items"][chosen.len()]["error"]["code"], "unknown-aggregate");
    dev.stop();
}

fn order(nth: usize) -> Sending {
    let (id, sku) = (nth % 50, nth % 7);
    let value = format!(
        r#"{{"id":"e-{nth}","type":"ItemAdded","at":"2024-01-{:02}T10:00:00Z","data":{{"sku":"s{sku}","qty":{},"price":1.10}}}}"#,
        1 + nth % 28,
        1 + nth % 3
    );
    let key = format!("o-{id}").into_bytes();
    Sending {
        partition: (id % 2) as i32,
        key: Some(key),
        value: Some(value.into_bytes()),
        time_ms: 1_704_067_200_000,
    }
}

/// Goal: what was answered by a basis is answered again, byte for byte, after many more events (late ones
/// among them: their times go round), after history was merged, and by another process. Method: saved answers
/// of all kinds. With `SNAPFOLD_TEST_FULL=1` more than a thousand of them, and a million events.
#[test]
fn an_answer_by_its_basis_is_the_same_for_ever() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", 2);
    let mut worker = site.worker();
    let api = worker.ready();
    site.send(&(0..2_000).map(order).collect::<Vec<_>>());
    settled(&api, 2_000, false);
    let mut draws = Draws(3);
    let mut saved: Vec<(String, String)> = Vec::new();
    let (questions, more) = if is_full() { (500, 1_000_000) } else { (150, 10_000) };
    for _ in 0..questions {
        let aggregate = format!("/v1/aggregates/order/o-{}", draws.below(50));
        let selector = match draws.below(3) {
            0 => String::new(),
            1 => format!("version={}&", 1 + draws.below(40)),
            _ => format!("at=2024-01-{:02}T12:00:00Z&", 1 + draws.below(28)),
        };
        let first = api.get(&format!("{aggregate}/state?{}", selector.trim_end_matches('&'))).unwrap();
        if first.status == 404 {
            assert_eq!(first.json()["code"], "before-first-event");
            continue;
        }
        let first = first.json();
        let basis = encoded(first["basis"].as_str().unwrap());
        for rest in [format!("state?{selector}"), format!("blame?{selector}"), "diff?from=1&".to_owned()] {
            let path = format!("{aggregate}/{rest}basis={basis}");
            let reply = api.get(&path).unwrap();
            assert_eq!(reply.status, 200, "{path}: {}", reply.body);
            if rest.starts_with("state") {
                assert_eq!(reply.json()["state"], first["state"], "{path}");
            }
            saved.push((path, reply.body));
        }
    }
    assert!(saved.len() > questions * 2, "{}", saved.len());
    let all: Vec<String> = (0..50).map(|id| format!("\"o-{id}\"")).collect();
    let ask = |basis: &str| format!("{{\"ids\":[{}],\"at\":\"2024-01-20\"{basis}}}", all.join(","));
    let first = api.send("POST", "/v1/aggregates/order:batchGet", &ask(""));
    let cut = ask(&format!(",\"basis\":{}", first.json()["basis"]));
    // The mock broker forgets what does not fit 5 MiB.
    for from in (2_000..2_000 + more).step_by(10_000) {
        site.send(&(from..from + 10_000).map(order).collect::<Vec<_>>());
        settled(&api, (from + 10_000) as u64, true);
    }
    for id in 0..50 {
        let path = format!("/v1/aggregates/order/o-{id}/snapshots");
        assert!(api.send("POST", &path, "").status < 300, "a state above what is merged");
        let merged = job(&api, &api.send("POST", &format!("{path}:compact"), r#"{"strategy":"merge"}"#));
        assert_eq!(merged["status"], "done", "{merged}");
    }
    worker.stop();
    let mut worker = site.worker();
    let api = worker.ready();
    for (path, body) in &saved {
        assert_eq!(&api.get(path).unwrap().body, body, "{path}");
    }
    let again = api.send("POST", "/v1/aggregates/order:batchGet", &cut);
    assert_eq!(again.body, first.body, "many at one instant");
    let foreign = api.get("/v1/aggregates/order/o-1/state?basis=9%400:1").unwrap();
    assert_eq!((foreign.status, &foreign.json()["code"]), (409, &Value::from("lineage-changed")));
    worker.stop();
}

#[test]
fn a_stream_of_changes_goes_on_where_it_was_and_leaves_nothing_out() {
    let site = Site::new(ORDERS, "", "orders", 2);
    let mut worker = site.worker();
    let api = worker.ready();
    // All of one aggregate.
    let events = |versions: std::ops::Range<usize>| versions.map(|nth| order(nth * 50)).collect::<Vec<_>>();
    site.send(&events(0..5));
    settled(&api, 5, false);
    let watch = |more: &[&str]| {
        let mut args = vec!["watch", "order/o-0", "--server", &api.url, "-o", "ndjson"];
        args.extend(more);
        Program::start(&args)
    };
    let early = watch(&["--from-version", "2", "-n", "8"]);
    let late = watch(&["-n", "4"]);
    until("both listen", || late.err().contains("from version 5 on") && early.out().lines().count() == 4);
    site.send(&events(5..9));
    let versions = |program: Program| {
        let ended = program.end();
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let version = |line: &str| serde_json::from_str::<Value>(line).unwrap()["version"].as_u64().unwrap();
        ended.out.lines().map(version).collect::<Vec<_>>()
    };
    assert_eq!(versions(early), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(versions(late), [6, 7, 8, 9]);
    let beyond = api.get("/v1/aggregates/order/o-0/watch?fromVersion=99").unwrap();
    assert_eq!((beyond.status, &beyond.json()["headVersion"]), (404, &Value::from(9)));
    worker.stop();
}

fn git(folder: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", "-C"])
        .arg(folder)
        .args(args)
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Imports a repository, folds it, and compares each version of each document with what git shows.
fn compare_git(folder: &Path, glob: &str) -> usize {
    let imported =
        command(&["import", "git", &folder.display().to_string(), "--glob", glob]).output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let config = repository("config/git.yaml").display().to_string();
    let mut dev = command(&["dev", "--port", "0", "--config", &config, "--events", "-", "--records"]);
    let mut dev = Program::spawn({
        dev.stdin(Stdio::piped());
        dev
    });
    dev.pour(&imported.stdout);
    let api = dev.ready();
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    for line in String::from_utf8(imported.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let path = record["key"].as_str().unwrap();
        let version = versions.entry(path.to_owned()).or_default();
        *version += 1;
        let answer = ok(&api, &format!("/v1/aggregates/file/{}/state?version={version}", encoded(path)));
        if record["headers"]["type"] == "Deleted" {
            assert_eq!((&answer["deleted"], &answer["state"]), (&Value::from(true), &Value::Null));
            continue;
        }
        let shown =
            git(folder, &["show", &format!("{}:{path}", record["headers"]["commit"].as_str().unwrap())]);
        assert_eq!(
            answer["state"],
            serde_json::from_str::<Value>(&shown).unwrap(),
            "{path} version {version}"
        );
    }
    let mut draws = Draws(5);
    for (path, version) in &versions {
        let state = ok(&api, &format!("/v1/aggregates/file/{}/state", encoded(path)));
        assert_eq!(state["version"], *version);
        compare(&api, "file", path, &mut draws);
    }
    dev.stop();
    usize::try_from(versions.values().sum::<u64>()).unwrap()
}

#[test]
fn documents_of_a_git_repository_have_the_versions_that_git_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    git(path, &["init", "-q", "-b", "main"]);
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
    let commit = |subject: &str| {
        git(path, &["add", "-A"]);
        git(path, &["commit", "-q", "-m", subject]);
    };
    write("a.json", r#"{"n":1.10,"list":[1,2],"text":"ü/~"}"#);
    write("no.json", "not JSON");
    commit("first\u{1f}with a separator");
    for nth in 0..20 {
        write("a.json", &format!(r#"{{"n":{nth}.50,"list":[{nth},2],"deep":{{"x":{{"y":{}}}}}}}"#, nth / 3));
        write("b c.json", &format!("[{nth}]"));
        commit(&format!("change {nth}"));
    }
    git(path, &["checkout", "-q", "-b", "side"]);
    write("a.json", "{\"merged\":true}");
    commit("beside");
    git(path, &["checkout", "-q", "main"]);
    std::fs::remove_file(path.join("b c.json")).unwrap();
    commit("away");
    git(path, &["merge", "-q", "--no-ff", "-m", "together", "side"]);
    std::fs::rename(path.join("a.json"), path.join("z.json")).unwrap();
    commit("renamed");
    // a: 1 + 20, merged, deleted; b c: 20, deleted; z: 1.
    assert_eq!(compare_git(path, "**/*.json"), 23 + 21 + 1);
    let own = repository("");
    if Command::new("git")
        .arg("-C")
        .arg(&own)
        .args(["rev-parse", "HEAD"])
        .output()
        .is_ok_and(|out| out.status.success())
    {
        let versions = compare_git(&own, "schemas/*.json");
        println!("{versions} versions of our own documents");
    }
}

#[test]
fn rows_of_a_table_are_events() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    std::fs::write(
        &file,
        "order,changed,total,note\no-1,2024-01-01,12.50,\"a, b\"\no-1,2024-01-02,13.00,\n,x,,\n",
    )
    .unwrap();
    let csv = command(&["import", "csv", &file.display().to_string(), "--id", "order", "--time", "changed"])
        .output()
        .unwrap();
    let said = String::from_utf8(csv.stderr).unwrap();
    assert!(said.contains("row 4: it has no `order`") && said.contains("2 events, 1 left out"), "{said}");
    let config = repository("config/rows.yaml").display().to_string();
    let mut dev = command(&["dev", "--port", "0", "--config", &config, "--events", "-", "--records"]);
    dev.stdin(Stdio::piped());
    let mut dev = Program::spawn(dev);
    dev.pour(&csv.stdout);
    let api = dev.ready();
    let state = |at: &str| api.get(&format!("/v1/aggregates/row/o-1/state?at={at}")).unwrap().body;
    assert!(
        state("2024-01-01")
            .ends_with(r#""state":{"order":"o-1","changed":"2024-01-01","total":12.50,"note":"a, b"}}"#)
    );
    assert!(
        state("2024-01-03").ends_with(r#""state":{"order":"o-1","changed":"2024-01-02","total":13.00}}"#)
    );
    dev.stop();
    let wrong = command(&["import", "csv", &file.display().to_string(), "--id", "nope"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there are order, changed, total, note"));
}
