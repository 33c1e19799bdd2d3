//! Two real event streams through the ledger (`../shared/data` or `$SNAPFOLD_DATA`; skipped, saying so,
//! without).

use super::ledger::{Expected, Ledger, Record, Selector, Spec, Taken};
use super::{given, places};
use serde_json::Value;
use std::io::BufRead as _;

/// The RFC's merge of the crate and of the ledger agree on real data, order aside.
#[test]
fn real_fines_merge_to_the_facts() {
    let Some(lines) = real("fines.ndjson.zst") else { return };
    let (mut ledger, mut other) = (Ledger::new(real_spec("merge")), std::collections::BTreeMap::new());
    for (n, line) in lines.iter().enumerate() {
        let id = push_line(&mut ledger, n, line);
        let event: Value = serde_json::from_str(line).expect("it is JSON");
        json_patch::merge(other.entry(id).or_insert_with(|| serde_json::json!({})), &event["data"]);
    }
    assert_eq!((lines.len(), ledger.aggregates().count(), ledger.dead_letters().len()), (34_724, 10_000, 0));
    for (id, state) in &other {
        let Expected::State(answer) = ledger.expect(id, Selector::Head) else { panic!("{id} has no state") };
        assert_eq!(&serde_json::from_str::<Value>(&answer.state_text).expect("it is JSON"), state);
    }
    assert_eq!(ledger.aggregates().map(|id| ledger.head(id)).max(), Some(9));
}

#[test]
fn real_fines_add_up_by_rules() {
    let Some(lines) = real("fines.ndjson.zst") else { return };
    let reducer = r#"
init: { events: 0 }
on:
  FineCreated: [ { set: { amount: .amount } } ]
  Payment: [ { add: { paid: .paymentamount } } ]
  "*": [ { add: { events: 1 } }, { set: { "last[$event.type]": $event.version } } ]
"#;
    let mut ledger = Ledger::new(real_spec(reducer));
    lines.iter().enumerate().for_each(|(n, line)| drop(push_line(&mut ledger, n, line)));
    for id in ledger.aggregates() {
        let Expected::State(answer) = ledger.expect(id, Selector::Head) else { panic!("{id} has no state") };
        let state: Value = serde_json::from_str(&answer.state_text).expect("it is JSON");
        assert_eq!(state["events"].as_u64(), Some(answer.version));
    }
}

#[test]
fn real_documents_patch_to_the_facts_at_every_version() {
    let Some(lines) = real("compat.ndjson.zst") else { return };
    let mut ledger = Ledger::new(real_spec("json-patch"));
    lines.iter().enumerate().for_each(|(n, line)| drop(push_line(&mut ledger, n, line)));
    assert_eq!((lines.len(), ledger.aggregates().count(), ledger.dead_letters().len()), (22_661, 400, 0));
    assert_eq!(ledger.aggregates().map(|id| ledger.head(id)).max(), Some(534));
    // Independent end state: the crate applied by itself, members in any order.
    let id = "api/WebGL2RenderingContext";
    let mut state = Value::Null;
    for fact in ledger.versions(id) {
        let event: Value =
            serde_json::from_slice(fact.record.value.as_deref().expect("a value")).expect("JSON");
        let patch: json_patch::Patch = serde_json::from_value(event["data"].clone()).expect("a patch");
        json_patch::patch(&mut state, &patch).expect("it applies");
        assert_eq!(serde_json::from_str::<Value>(&fact.state_text()).expect("it is JSON"), state);
    }
}

fn real_spec(reducer: &str) -> Spec {
    let mut spec = given(reducer);
    spec.map.event_type = places(&["/type"]);
    spec.map.event_id = places(&["/id"]);
    spec.map.time = places(&["/timestamp"]);
    spec
}

/// The lines of one stream, or nothing (said aloud) where the folder is absent.
fn real(name: &str) -> Option<Vec<String>> {
    let folder = std::env::var("SNAPFOLD_DATA").unwrap_or_else(|_| "../shared/data".to_owned());
    let path = std::path::Path::new(&folder).join(name);
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: `{}` is not there (set SNAPFOLD_DATA)", path.display());
        return None;
    };
    let text = zstd::Decoder::new(file).expect("a zstd file");
    Some(std::io::BufReader::new(text).lines().collect::<Result<_, _>>().expect("UTF-8 lines"))
}

/// Takes one line as the next record (one partition) and returns its aggregate id.
fn push_line(ledger: &mut Ledger, n: usize, line: &str) -> String {
    let from = line.find("\"aggregateId\":\"").expect("every line has an id") + 15;
    let id = line[from..].split('"').next().expect("a split has a first part").to_owned();
    let (offset, value) = (i64::try_from(n).expect("it is small"), Some(line.as_bytes().to_vec()));
    let key = Some(id.clone().into_bytes());
    let taken =
        ledger.push(Record { partition: 0, offset, record_time_ms: offset, key, value, headers: Vec::new() });
    assert!(matches!(taken, Taken::Applied(_)), "line {n}: {taken:?}");
    id
}
