//! Records of each format to events. CloudEvents after the examples of the Kafka binding (3.2.5, 3.3.3) and
//! of the JSON format, row changes and outbox events after Debezium's documentation; all written anew.

use super::*;
use crate::domain::ids::{Offset, Timestamp, Version};
use crate::domain::mapping::Places;
use crate::domain::moment;
use crate::domain::reducer::TOMBSTONE;

fn places(texts: &[&str]) -> Places {
    texts.iter().map(|text| Place::parse(text, "t").expect("a place")).collect()
}

/// What a stream that maps nothing itself has.
fn defaults(envelope: Envelope) -> Mapping {
    let of = |part| places(envelope.places(part));
    Mapping {
        aggregate_id: of("aggregateId"),
        event_type: of("eventType"),
        version: None,
        version_base: 1,
        event_id: of("eventId"),
        time: of("time"),
        data: None,
    }
}

fn record(key: Option<&str>, headers: &[(&str, &str)], value: Option<&str>) -> RawRecord {
    let header = |(name, value): &(&str, &str)| (Box::from(*name), Some(value.as_bytes().into()));
    RawRecord {
        offset: Offset(7),
        leader_epoch: 0,
        record_time: Timestamp(1000),
        key: key.map(|key| key.as_bytes().into()),
        value: value.map(|value| value.as_bytes().into()),
        headers: headers.iter().map(header).collect(),
    }
}

fn read(envelope: Envelope, mapping: Mapping, record: RawRecord) -> Decoded {
    EnvelopeDecoder::new(envelope, mapping, Limits::default(), None).decode(record)
}

fn event(envelope: Envelope, record: RawRecord) -> Event {
    read(envelope, defaults(envelope), record).content.expect("an event")
}

fn poison(envelope: Envelope, record: RawRecord) -> (&'static str, Option<String>) {
    let undecoded = read(envelope, defaults(envelope), record).content.expect_err("poison");
    (undecoded.poison.code, undecoded.id.map(|id| id.to_string()))
}

const TIME: &str = "2026-11-24T10:00:00Z";
const BINARY: [(&str, &str); 6] = [
    ("ce_specversion", "1.0"),
    ("ce_type", "shop.order.placed"),
    ("ce_source", "/shop"),
    ("ce_id", "e-1"),
    ("ce_time", TIME),
    ("ce_subject", "o-42"),
];

fn structured(more: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","type":"shop.order.placed","source":"/shop","id":"e-1","time":"{TIME}","subject":"o-42"{more}}}"#
    )
}

fn binary_with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut headers = BINARY.to_vec();
    headers.retain(|(header, _)| *header != name);
    headers.push((name, value));
    headers
}

/// Goal: the mode makes no difference. Method: the same event both ways.
#[test]
fn an_event_is_the_same_in_binary_and_in_structured_mode() {
    let text = structured(r#","datacontenttype":"application/json","data":{"total":1.10}"#);
    let content_type = [("content-type", "application/cloudevents+json; charset=UTF-8")];
    let events = [
        event(Envelope::CloudEvents, record(Some("k"), &BINARY, Some(r#"{"total":1.10}"#))),
        event(Envelope::CloudEvents, record(Some("k"), &content_type, Some(&text))),
        event(Envelope::CloudEvents, record(Some("k"), &[], Some(&text))),
    ];
    for event in events {
        assert_eq!((&*event.id, &*event.event_type), ("o-42", "shop.order.placed"));
        assert_eq!((event.event_id.as_deref(), event.version), (Some("e-1"), None));
        assert_eq!(event.time, moment::parse(TIME).expect("a time"));
        assert_eq!(event.data.to_json(), r#"{"total":1.10}"#);
    }
}

#[test]
fn a_mapping_of_cloudevents_names_attributes_and_the_data_in_either_mode() {
    let mapping = Mapping {
        aggregate_id: places(&["/order"]),
        version: Some(places(&["header:ce_sequence"])),
        data: Some(places(&["/lines"])),
        ..defaults(Envelope::CloudEvents)
    };
    let data = r#"{"order":"o-7","lines":[1,2]}"#;
    let binary = binary_with("ce_sequence", "3");
    let text = structured(&format!(r#","sequence":"3","data":{data}"#));
    for record in [record(None, &binary, Some(data)), record(None, &[], Some(&text))] {
        let event = read(Envelope::CloudEvents, mapping.clone(), record).content.expect("an event");
        assert_eq!((&*event.id, event.version), ("o-7", Some(Version(3))));
        assert_eq!(event.data.to_json(), "[1,2]");
    }
}

#[test]
fn without_a_subject_the_key_says_whose_event_it_is_and_without_data_it_is_null() {
    let mut headers = BINARY.to_vec();
    headers.retain(|(name, _)| *name != "ce_subject");
    for value in [None, Some("")] {
        let event = event(Envelope::CloudEvents, record(Some("k-1"), &headers, value));
        assert_eq!((&*event.id, &*event.event_type, event.data), ("k-1", "shop.order.placed", Value::Null));
    }
    let tombstone = event(Envelope::CloudEvents, record(Some("k-1"), &[], None));
    assert_eq!((&*tombstone.id, &*tombstone.event_type, tombstone.is_echo), ("k-1", TOMBSTONE, false));
    assert_eq!(poison(Envelope::CloudEvents, record(None, &[], None)), ("no-key-and-value", None));
}

#[test]
fn data_of_cloudevents_is_json_or_text() {
    let as_type = |content_type, value| {
        let headers = binary_with("content-type", content_type);
        read(Envelope::CloudEvents, defaults(Envelope::CloudEvents), record(None, &headers, Some(value)))
            .content
            .map(|event| (event.data.to_json(), event.extra_bytes))
            .map_err(|undecoded| undecoded.poison.code)
    };
    assert_eq!(as_type("application/vnd.shop+json", "[1]"), Ok(("[1]".to_owned(), 0)));
    assert_eq!(as_type("text/plain", "a\"\n"), Ok((r#""a\"\n""#.to_owned(), 7)));
    assert_eq!(as_type("application/xml", "<a/>"), Err("bad-cloudevent"));
    assert_eq!(as_type("application/json", "<a/>"), Err("bad-json"));
    let text = structured(r#","data_base64":"AAE=""#);
    assert_eq!(event(Envelope::CloudEvents, record(None, &[], Some(&text))).data.to_json(), r#""AAE=""#);
}

#[test]
fn what_is_no_cloudevent_is_poison_with_a_name() {
    let of = |headers: &[(&str, &str)], value: &str| {
        poison(Envelope::CloudEvents, record(Some("k"), headers, Some(value)))
    };
    let batch = [("content-type", "application/cloudevents-batch+json")];
    assert_eq!(of(&batch, "[]").0, "cloudevents-batch");
    let of_structured = [("content-type", "application/cloudevents+json")];
    let bad = [
        of(&[("content-type", "application/cloudevents+avro")], "x").0,
        of(&[("content-type", "application/json")], r#"{"specversion":"1.0"}"#).0,
        of(&binary_with("ce_specversion", "2.0"), "{}").0,
        of(&of_structured, "[]").0,
        of(&of_structured, "{}").0,
        of(&[], r#"{"specversion":1}"#).0,
        of(&[], &structured(r#","data":1,"data_base64":"AA==""#)).0,
        of(&[], "[1]").0,
    ];
    assert_eq!(bad, ["bad-cloudevent"; 8]);
    assert_eq!(of(&of_structured, "{").0, "bad-json");
    let untyped: Vec<_> = BINARY.into_iter().filter(|(name, _)| *name != "ce_type").collect();
    assert_eq!(of(&untyped, "{}"), ("no-event-type", Some("o-42".to_owned())));
    // Of a value that cannot be read, headers still say whose it is.
    assert_eq!(of(&BINARY, "{"), ("bad-json", Some("o-42".to_owned())));
}

#[test]
fn headers_that_decide_what_a_cloudevent_means_are_part_of_its_digest() {
    let digest = |headers: &[(&str, &str)]| {
        read(Envelope::CloudEvents, defaults(Envelope::CloudEvents), record(None, headers, Some("{}"))).digest
    };
    let plain = digest(&BINARY);
    for name in ["ce_type", "ce_id", "ce_time", "ce_subject", "ce_specversion", "content-type"] {
        assert_ne!(digest(&binary_with(name, "2")), plain, "{name}");
    }
    assert_eq!(digest(&binary_with("traceparent", "2")), plain);
}

const CHANGE: &str = r#"{"before":null,"after":{"id":1004,"name":"Anne","balance":1.10},
    "source":{"connector":"postgresql","ts_ms":1700000000123,"table":"customers","lsn":24023128},
    "op":"c","ts_ms":1700000000456,"transaction":null}"#;

#[test]
fn a_row_change_belongs_to_its_row_with_and_without_the_envelope_of_connect() {
    let wrapped = format!(r#"{{"schema":{{"type":"struct"}},"payload":{CHANGE}}}"#);
    let keys =
        [r#"{"id":1004}"#, r#"{"schema":{"type":"struct"},"payload":{"id":1004}}"#, "1004", r#""1004""#];
    for key in keys {
        for value in [CHANGE, &wrapped] {
            let event = event(Envelope::Debezium, record(Some(key), &[], Some(value)));
            assert_eq!((&*event.id, &*event.event_type, event.version), ("1004", "c", None), "{key}");
            assert_eq!(event.time, Timestamp(1_700_000_000_123));
            let balance = event.data.pointer(&"/after/balance".parse().expect("a pointer"));
            assert_eq!(balance.map(Value::to_json).as_deref(), Some("1.10"));
        }
    }
}

#[test]
fn a_key_of_several_columns_has_one_text() {
    let id = |key: &str| match read(
        Envelope::Debezium,
        defaults(Envelope::Debezium),
        record(Some(key), &[], Some(CHANGE)),
    )
    .content
    {
        Ok(event) => event.id.to_string(),
        Err(undecoded) => undecoded.poison.code.to_owned(),
    };
    assert_eq!(id(r#"{"region":"eu","id":7}"#), "eu,7");
    assert_eq!(id(r#"{"a":"x,y","b":"\\"}"#), r"x\,y,\\");
    assert_eq!(id(r#"{"a":"","b":"x"}"#), ",x");
    assert_eq!(id(r#"{"a":true}"#), "true");
    for nothing in ["{}", r#"{"a":null}"#, r#"{"a":1,"b":null}"#, r#"{"a":{"b":1}}"#, "null", "[1]"] {
        assert_eq!(id(nothing), "no-aggregate-id", "{nothing}");
    }
    let mapping = Mapping { aggregate_id: places(&["key:/id"]), ..defaults(Envelope::Debezium) };
    let key = r#"{"schema":{},"payload":{"region":"eu","id":7}}"#;
    let event =
        read(Envelope::Debezium, mapping, record(Some(key), &[], Some(CHANGE))).content.expect("an event");
    assert_eq!(&*event.id, "7");
}

#[test]
fn what_is_about_no_row_is_poison_of_nobody_and_a_tombstone_is_an_echo() {
    let of = |value: &str| poison(Envelope::Debezium, record(Some(r#"{"id":1}"#), &[], Some(value)));
    assert_eq!(of(r#"{"op":"t","ts_ms":5}"#), ("debezium-no-row", None));
    assert_eq!(of(r#"{"op":"m"}"#), ("debezium-no-row", None));
    assert_eq!(of(r#"{"ddl":"create table x"}"#), ("bad-debezium", Some("1".to_owned())));
    assert_eq!(of("7").0, "bad-debezium");
    let tombstone = event(Envelope::Debezium, record(Some(r#"{"id":1}"#), &[], None));
    assert_eq!((&*tombstone.id, &*tombstone.event_type, tombstone.is_echo), ("1", TOMBSTONE, true));
}

#[test]
fn a_source_that_does_not_know_when_leaves_it_to_the_record() {
    let value = CHANGE.replace("1700000000123", "0");
    assert_eq!(event(Envelope::Debezium, record(Some("1"), &[], Some(&value))).time, Timestamp(1000));
    let value = CHANGE.replace(r#""ts_ms":1700000000123,"#, "");
    let of_connector = event(Envelope::Debezium, record(Some("1"), &[], Some(&value))).time;
    assert_eq!(of_connector, Timestamp(1_700_000_000_456));
}

#[test]
fn an_outbox_event_is_read_as_json_text_or_as_json() {
    let headers = [("id", "406c07f3-26f0-4eea-a50c-109940064b8f"), ("eventType", "OrderCreated")];
    let expanded = r#"{"orderId":1,"total":1.10}"#;
    let text = Value::from(expanded).to_json();
    let wrapped = format!(r#"{{"schema":{{"type":"string"}},"payload":{text}}}"#);
    for value in [expanded, &text, &wrapped] {
        for key in ["order-1", "\"order-1\"", r#"{"schema":{"type":"string"},"payload":"order-1"}"#] {
            let event = event(Envelope::DebeziumOutbox, record(Some(key), &headers, Some(value)));
            assert_eq!((&*event.id, &*event.event_type), ("order-1", "OrderCreated"));
            assert_eq!(event.event_id.as_deref(), Some(headers[0].1));
            assert_eq!((event.data.to_json().as_str(), event.time), (expanded, Timestamp(1000)));
        }
    }
    let in_envelope = format!(r#"{{"eventType":"Paid","payload":{text}}}"#);
    let mapping = Mapping {
        event_type: places(&["/eventType"]),
        data: Some(places(&["/payload"])),
        ..defaults(Envelope::DebeziumOutbox)
    };
    let record = record(Some("o"), &[], Some(&in_envelope));
    let event = read(Envelope::DebeziumOutbox, mapping, record).content.expect("an event");
    assert_eq!((&*event.event_type, event.data.to_json().as_str()), ("Paid", expanded));
}

#[test]
fn text_that_is_no_json_document_stays_text_and_an_untyped_outbox_event_is_poison() {
    let headers = [("id", "1"), ("type", "Said")];
    for text in [r#""hello""#, r#""{not json""#, r#""12""#] {
        let event = event(Envelope::DebeziumOutbox, record(Some("o"), &headers, Some(text)));
        assert_eq!(event.data.to_json(), text);
    }
    let untyped = record(Some("o"), &headers[..1], Some("{}"));
    assert_eq!(poison(Envelope::DebeziumOutbox, untyped), ("no-event-type", Some("o".to_owned())));
}

/// Goal: a delete is one version, not two. Method: the records of a row that is deleted and comes again.
#[test]
fn the_tombstone_after_a_delete_is_a_duplicate_and_one_without_deletes() {
    use crate::domain::aggregate::{Aggregate, Folded, OnPoison, Rules, Versions};
    use crate::domain::reducer::Preset;
    let rules = Rules {
        kind: "row".into(),
        reducer: Arc::new(Preset::Debezium),
        versions: Versions::Counted,
        on_poison: OnPoison::Quarantine,
        state_bytes_max: 1 << 20,
        limits: Limits::default(),
    };
    let mut row = Aggregate::genesis("row", "1");
    let change = |op: &str| CHANGE.replace(r#""op":"c""#, &format!(r#""op":"{op}""#));
    let mut offset = 0;
    let mut fold = |value: Option<&str>| {
        let mut record = record(Some("1"), &[], value);
        (record.offset, offset) = (Offset(offset), offset + 1);
        let decoded = read(Envelope::Debezium, defaults(Envelope::Debezium), record);
        (rules.fold(&mut row, &decoded), row.version.0, row.is_deleted())
    };
    assert_eq!(fold(Some(&change("c"))), (Folded::Applied, 1, false));
    assert_eq!(fold(Some(&change("d"))), (Folded::Applied, 2, true));
    assert_eq!(fold(None), (Folded::Duplicate, 2, true));
    assert_eq!(fold(Some(&change("r"))), (Folded::Applied, 3, false));
    assert_eq!(fold(None), (Folded::Applied, 4, true));
}
