//! Bodies against the shapes of the contract.

use super::*;
use crate::domain::aggregate::State;
use crate::domain::event::{Decoded, Event, Undecoded};
use crate::domain::ids::{AggregateKey, Lineage, PackId, Timestamp};
use crate::domain::poison::Poison;
use crate::domain::row::{Notes, PartitionKey, SnapshotRow};
use crate::lookup::{Diff, Finding, Provenance};
use std::sync::Arc;

const STATE: &str = r#"{"total":12.50,"big":123456789012345678901234567890.10,"status":"pläced"}"#;
const ABOUT: About<'_> = About { kind: "order", id: "o/42", topic: "orders" };

fn aggregate() -> Aggregate {
    let mut aggregate = Aggregate::genesis("order", "o/42");
    aggregate.version = Version(37);
    aggregate.offset = Offset(18_231);
    aggregate.effective_time = Timestamp(1_700_000_000_123);
    aggregate.first_time = Timestamp(0);
    aggregate.last_event_type = "ItemAdded".into();
    aggregate.last_event_id = Some("e-881".into());
    aggregate.state = State::Idle(STATE.as_bytes().into());
    aggregate
}

fn an_answer() -> Answer {
    Answer {
        aggregate: aggregate(),
        head_version: Some(Version(41)),
        partition: PartitionNo(4),
        lineage: Lineage(1),
        source: Source::Rest,
        provenance: Provenance { base: Version(20), events: 17, ..Provenance::default() },
        steps: Vec::new(),
    }
}

fn text(body: Vec<u8>) -> String {
    let text = String::from_utf8(body).expect("a body is UTF-8");
    serde_json::from_str::<serde_json::Value>(&text).expect("a body is JSON");
    text
}

fn json(text: &str) -> Value {
    Value::parse(text.as_bytes(), &Limits::default()).expect("JSON")
}

fn members(body: impl FnOnce(&mut Object<'_>)) -> String {
    text(json::object(body))
}

#[test]
fn a_state_has_the_shape_of_the_contract_and_its_numbers_as_folded() {
    let answer = an_answer();
    let state_shown = shown(&answer.aggregate).unwrap();
    let body = members(|body| state(body, &ABOUT, &answer, &state_shown, 1.8, StateView::default()));
    let digest = Value::parse(STATE.as_bytes(), &Limits::default()).unwrap().digest();
    let wanted = format!(
        concat!(
            r#"{{"aggregateType":"order","aggregateId":"o/42","version":37,"headVersion":41,"deleted":false,"#,
            r#""timestamp":"2023-11-14T22:13:20.123Z","position":{{"topic":"orders","partition":4,"offset":18231}},"#,
            r#""basis":"1@4:18231","fromSnapshot":true,"snapshotVersion":20,"eventsReplayed":17,"reconstructionTimeMs":1.800,"#,
            r#""source":"snapshot+events","lastEvent":{{"type":"ItemAdded","id":"e-881"}},"lineage":1,"#,
            r#""stateDigest":"sha256:{}","chain":"sha256:{}","state":{}}}"#
        ),
        digest, answer.aggregate.chain, STATE
    );
    assert_eq!(body, wanted);
}

#[test]
fn the_source_says_what_an_answer_was_made_of() {
    let from = |source, base, events| {
        let mut answer = an_answer();
        answer.source = source;
        answer.provenance = Provenance { base: Version(base), events, ..Provenance::default() };
        super::source(&answer)
    };
    assert_eq!(from(Source::Memory, 0, 0), "memory");
    assert_eq!(from(Source::Cache, 20, 3), "cache");
    assert_eq!(from(Source::Rest, 20, 0), "snapshot");
    assert_eq!(from(Source::Rest, 20, 3), "snapshot+events");
    assert_eq!(from(Source::Rest, 0, 3), "events");
}

#[test]
fn deleted_quarantined_and_not_yet_born_are_answers_too() {
    let mut answer = an_answer();
    answer.aggregate.state = State::Absent;
    let mark = QuarantineMark {
        code: "version-gap".into(),
        version: Version(37),
        offset: Offset(18_240),
        leader_epoch: 0,
        since: Timestamp(0),
    };
    answer.aggregate.quarantine = Some(Box::new(mark.clone()));
    let state_shown = shown(&answer.aggregate).unwrap();
    let body = members(|body| state(body, &ABOUT, &answer, &state_shown, 0.0, StateView::default()));
    for part in [
        r#""deleted":true"#,
        r#""stateDigest":null"#,
        r#""state":null"#,
        r#""quarantined":{"code":"version-gap","version":37,"offset":18240,"since":"1970-01-01T00:00:00.000Z"}"#,
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    answer.aggregate = Aggregate { quarantine: Some(Box::new(mark)), ..Aggregate::genesis("order", "o/42") };
    let view = HeadView { answer, snapshots: 0, latest_snapshot: None, durable: Durable::Log };
    let body = text(head(&ABOUT, &view));
    for part in [
        r#""version":0,"deleted":false,"timestamp":null,"firstTime":null"#,
        r#""offset":null"#,
        r#""lastEvent":null,"snapshots":{"count":0,"latestVersion":null},"durable":"log","quarantined""#,
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
}

fn record() -> RawRecord {
    let bytes = |bytes: &[u8]| Some(Bytes::from(bytes));
    RawRecord {
        offset: Offset(7),
        record_time: Timestamp(5),
        key: bytes(b"o-42"),
        value: bytes(b"\x00v"),
        headers: vec![
            ("trace".into(), bytes(b"old")),
            ("raw".into(), bytes(b"\xff\xfe")),
            ("none".into(), None),
            ("trace".into(), bytes(b"new")),
        ],
        ..RawRecord::default()
    }
}

fn view(content: Result<Event, Undecoded>, skipped: bool) -> EventView {
    EventView {
        version: Version(3),
        skipped,
        event: Decoded { record: record(), digest: Digest([1; 32]), content },
        effective_time: Timestamp(9),
        partition: PartitionNo(4),
    }
}

#[test]
fn an_event_shows_its_data_as_written_and_bytes_that_are_no_text_marked() {
    let data = Value::parse(br#"{"price":1.10}"#, &Limits::default()).unwrap();
    let content = Event {
        id: "o-42".into(),
        version: None,
        event_type: "Priced".into(),
        event_id: None,
        time: Timestamp(8),
        data,
        extra_bytes: 0,
        is_echo: false,
    };
    let body = members(|body| event(body, "orders", &view(Ok(content), false)));
    for part in [
        r#"{"version":3,"type":"Priced","id":null,"timestamp":"1970-01-01T00:00:00.008Z""#,
        r#""recordTime":"1970-01-01T00:00:00.005Z","position":{"topic":"orders","partition":4,"offset":7}"#,
        r#""key":"o-42","headers":{"raw":{"base64":"//4="},"none":null,"trace":"new"},"data":{"price":1.10}"#,
        r#""digest":"sha256:0101"#,
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(!body.contains("skipped"), "{body}");
}

#[test]
fn a_skipped_event_that_could_not_be_decoded_says_why() {
    let undecoded = Undecoded {
        id: None,
        version: None,
        time: Timestamp(8),
        event_type: None,
        event_id: None,
        poison: Poison::new("bad-json", "a value is expected at byte 0"),
    };
    let body = members(|body| event(body, "orders", &view(Err(undecoded), true)));
    for part in [r#""type":null"#, r#""data":null,"poison":{"code":"bad-json""#, r#""skipped":true"#] {
        assert!(body.contains(part), "{part}: {body}");
    }
}

fn meta() -> SnapshotMeta {
    let row = SnapshotRow {
        key: AggregateKey { kind: "order".into(), id: "o/42".into() },
        lineage: Lineage(1),
        version: Version(37),
        pack: PackId([7; 16]),
        kind: RecordKind::Increment,
        from_version: Version(20),
        partition: PartitionNo(4),
        first_offset: Offset(1),
        last_offset: Offset(18_231),
        leader_epoch: -1,
        effective_time: Timestamp(0),
        created_at: Timestamp(0),
        creation_ms: 3,
        trigger: Trigger::Events,
        event_type: "ItemAdded".into(),
        chain: Digest([2; 32]),
        raw_bytes: 900,
        stored_bytes: 412,
        state_digest: None,
        state_bytes: None,
        deleted: false,
        quarantined: false,
        locator: Vec::new(),
    };
    let notes = Notes { label: Some("launch".into()), pinned: true, reason: None };
    SnapshotMeta { row, id: "abc".into(), created_from: Version(20), notes, archived: true }
}

#[test]
fn a_snapshot_shows_digest_and_length_of_its_state_and_a_list_only_what_it_knows() {
    let (aggregate, meta) = (aggregate(), meta());
    let state_shown = shown(&aggregate).unwrap();
    let body = members(|body| snapshot(body, &meta, Some((&aggregate, &state_shown))));
    let mut canonical = Vec::new();
    Value::parse(STATE.as_bytes(), &Limits::default()).unwrap().canonical(&mut canonical);
    for part in [
        format!(r#""data":{STATE},"metadata":{{"eventType":"ItemAdded""#),
        format!(r#""size":412,"rawSize":{}"#, canonical.len()),
        format!(r#""checksum":"sha256:{}""#, state_shown.digest.unwrap()),
        r#""createdFromVersion":20,"kind":"incremental","algorithm":null,"trigger":"events""#.to_owned(),
        r#""label":"launch","pinned":true,"reason":null"#.to_owned(),
    ] {
        assert!(body.contains(&part), "{part}: {body}");
    }
    let listed = members(|body| snapshot(body, &meta, None));
    assert!(
        listed.contains(r#""rawSize":null,"checksum":null"#) && !listed.contains("\"data\":"),
        "{listed}"
    );
}

#[test]
fn differences_findings_and_dead_letters_have_their_shapes() {
    let (before, after) = (json(r#"{"n":0,"gone":[1],"list":[1]}"#), json(r#"{"n":1.0,"list":[1,{}]}"#));
    let between = Diff { from: an_answer(), to: an_answer(), before, after };
    let patch = br#"[{"op":"add","path":"/n","value":1.0}]"#;
    let body = text(diff(&between, "json-patch", patch, false));
    assert!(
        body.contains(r#""format":"json-patch","patch":[{"op":"add","path":"/n","value":1.0}]}"#),
        "{body}"
    );
    assert!(body.starts_with(r#"{"from":{"version":37,"timestamp":"2023"#), "{body}");
    let tree = String::from_utf8(leaf_changes(&between.before, &between.after)).unwrap();
    let wanted = concat!(
        r#"[{"path":"/n","before":0,"after":1.0},{"path":"/list/1","after":{}},"#,
        r#"{"path":"/gone/0","before":1}]"#
    );
    assert_eq!(tree, wanted);
    let finding =
        Finding { code: "corrupt", version: Version(3), detail: "a `b` failed".into(), healed: true };
    let body = text(verified("replay", &Verified { ok: false, checked: 9, problems: vec![finding] }));
    let wanted = concat!(
        r#"{"mode":"replay","ok":false,"checked":9,"problems":"#,
        r#"[{"code":"corrupt","version":3,"detail":"a `b` failed","healed":true}]}"#
    );
    assert_eq!(body, wanted);
    let key = PartitionKey { topic: "orders".into(), partition: PartitionNo(4), lineage: Lineage(1) };
    let letter = DeadLetter {
        key,
        offset: Offset(7),
        aggregate: Some(AggregateKey { kind: "order".into(), id: Arc::from("o-1") }),
        code: "bad-json".into(),
        detail: "a value is expected".into(),
        record: record(),
    };
    let body = members(|body| dead_letter(body, "order", &letter, false));
    assert!(body.starts_with(r#"{"id":"order.4.7","stream":"order","position":{"topic":"orders""#), "{body}");
    assert!(
        body.contains(r#""aggregateId":"o-1","code":"bad-json""#) && !body.contains("value\":\"AHY"),
        "{body}"
    );
    let body = members(|body| dead_letter(body, "order", &letter, true));
    assert!(body.ends_with(r#""value":"AHY="}"#), "{body}");
}
