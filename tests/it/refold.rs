//! A new reducer over stored history: what it would change, the new lineage, and workers that take over where
//! the old ones stood.

use crate::kill::story;
use crate::ledger::{Expected, Ledger, OnPoison, Record, Selector};
use crate::process::{Api, Ended, Program};
use crate::site::{ORDERS, Sending, Site, orders_spec, settled};
use crate::truth::{ask_settled, questions, reducer};
use std::path::{Path, PathBuf};

const PARTITIONS: i32 = 4;
const EVENTS: usize = 3_000;
/// Of these, what is written while no worker runs: only the topic has it.
const LATE: usize = 300;

/// The reducer of then, and the one of now.
const CHANGES: [(&str, &str); 2] = [
    (r#"- add: { total: ".qty * .price" }"#, r#"- add: { total: ".qty * .price * 2" }"#),
    ("set: { status: shipped, note: .note }", "set: { status: sent }"),
];

fn renewed(text: &str) -> String {
    CHANGES.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    })
}

/// The ledger of the new reducer.
fn new_ledger(sendings: &[Sending]) -> Ledger {
    let mut spec = orders_spec(OnPoison::Quarantine);
    spec.reducer_yaml = reducer(&renewed(ORDERS));
    let mut ledger = Ledger::new(spec);
    let mut offsets = [0; PARTITIONS as usize];
    for sending in sendings {
        let offset = &mut offsets[usize::try_from(sending.partition).unwrap()];
        ledger.push(Record {
            partition: sending.partition,
            offset: *offset,
            record_time_ms: sending.time_ms,
            key: sending.key.clone(),
            value: sending.value.clone(),
            headers: Vec::new(),
        });
        *offset += 1;
    }
    ledger
}

pub(crate) fn ended(words: &[&str], config: &Path) -> Ended {
    Program::start(&[words, &["--config", &config.display().to_string()]].concat()).end()
}

/// What a command says as JSON.
pub(crate) fn json(words: &[&str], config: &Path) -> serde_json::Value {
    let done = ended(&[words, &["-o", "json"]].concat(), config);
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// A configuration that differs in its reducer.
pub(crate) fn new_config(site: &Site) -> PathBuf {
    let path = site.config().with_file_name("new.yaml");
    std::fs::write(&path, renewed(&std::fs::read_to_string(site.config()).unwrap())).unwrap();
    path
}

/// The first version at which two reducers differ.
fn first_difference(old: &Ledger, new: &Ledger, id: &str, upto: u64) -> Option<u64> {
    (1..=upto).find(|version| {
        let state = |ledger: &Ledger| match ledger.expect(id, Selector::Version(*version)) {
            Expected::State(answer) => answer.state_text,
            other => panic!("{other:?}"),
        };
        state(old) != state(new)
    })
}

/// Goal: the new lineage is what the new reducer makes of the same events, at every version, and only the
/// events that nothing covered come from the topic. Method: fold, stop, more events, diff, refold, fold on;
/// then every question against a ledger of the new reducer.
#[test]
fn a_new_reducer_takes_over_from_stored_events() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", PARTITIONS);
    let (sendings, old) = story(5, EVENTS, PARTITIONS, 0);
    let new = new_ledger(&sendings);
    let covered = EVENTS - LATE;
    site.send(&sendings[..covered]);
    let mut worker = site.worker();
    settled(&worker.ready(), covered as u64, true);
    worker.stop();
    site.send(&sendings[covered..]);
    let config = new_config(&site);

    // What it would change: at every version with the old reducer at hand, else where states are stored.
    let before = site.config().display().to_string();
    let told =
        json(&["reducer", "diff", "--offline", "--all", "--limit", "1000", "--before", &before], &config);
    assert!(told["changed"].as_u64().unwrap() > 100, "{}", told["changed"]);
    assert_eq!((&told["poisoned"], &told["untold"]), (&0.into(), &0.into()));
    let items = told["items"].as_array().unwrap();
    for item in items {
        let (id, version) = (item["aggregateId"].as_str().unwrap(), item["version"].as_u64().unwrap());
        assert_eq!(item["firstVersion"].as_u64(), first_difference(&old, &new, id, version), "{item}");
    }
    let shorter = json(&["reducer", "diff", "--offline", "--sample", "10"], &config);
    assert_eq!(shorter["aggregates"], 10);
    let found = ended(&["reducer", "diff", "--offline", "--exit-code"], &config);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.out.contains("differs from version") && found.out.contains("/total"), "{}", found.out);
    let same = ended(&["reducer", "diff", "--offline", "--exit-code"], &site.config());
    assert_eq!(same.code, Some(0), "{same:?}");

    let refused = ended(&["run"], &config);
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.err.contains("snapfold refold"), "{}", refused.err);
    let planned = ended(&["refold", "--dry-run"], &config);
    assert!(planned.out.contains("4 partitions in lineage 1"), "{planned:?}");
    let refused = ended(&["run"], &config);
    assert_eq!(refused.code, Some(6), "a dry run changes nothing: {refused:?}");

    let told = json(&["refold"], &config);
    println!("{told}");
    assert_eq!((&told["from"], &told["into"], &told["active"]), (&1.into(), &2.into(), &true.into()));
    assert!(told["aggregates"].as_u64().unwrap() > 100);
    let again = ended(&["refold"], &config);
    assert!(again.code == Some(0) && again.err.contains("nothing to do"), "{again:?}");
    let old_one = ended(&["run"], &site.config());
    assert_eq!(old_one.code, Some(6), "the old reducer is not the active one: {old_one:?}");

    let mut worker = Program::start(&["run", "--config", &config.display().to_string()]);
    let api = worker.ready();
    settled(&api, EVENTS as u64, true);
    let folded = api.figure("snapfold_folded_events_total");
    assert!(folded <= LATE as f64, "{folded} events were folded from the topic");
    judge(&api, &new);
    worker.stop();
}

fn judge(api: &Api, ledger: &Ledger) {
    let ids: Vec<&str> = ledger.aggregates().collect();
    ask_settled(&api.url, "order", questions(ledger, &ids, 4)).must_be_right("after the refold");
    let head = api.get("/v1/aggregates/order/o%2F1").unwrap().json();
    assert_eq!(head["lineage"], 2, "{head}");
}

/// Goal: a server tells what a new reducer would change as well as its stores do.
#[test]
fn a_server_tells_what_a_new_reducer_would_change() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", PARTITIONS);
    let (sendings, old) = story(6, 600, PARTITIONS, 0);
    let new = new_ledger(&sendings);
    site.send(&sendings);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 600, true);
    let config = new_config(&site);
    let told = json(&["reducer", "diff", "--all", "--limit", "1000", "--server", &api.url], &config);
    let differing = |id: &&str| first_difference(&old, &new, id, old.head(id)).is_some();
    let count = old.aggregates().filter(differing).count();
    let told_count = told["changed"].as_u64().unwrap();
    assert!(told_count > 0 && told_count <= count as u64, "{told_count} of {count}");
    for item in told["items"].as_array().unwrap() {
        let (id, version) = (item["aggregateId"].as_str().unwrap(), item["version"].as_u64().unwrap());
        assert_eq!(version, old.head(id), "{item}");
        assert!(item["firstVersion"].as_u64() >= first_difference(&old, &new, id, version), "{item}");
    }
    worker.stop();
}
