//! What becomes of records: each case is one rule of API.md sections 2 and 4.1.

use super::*;
use crate::domain::ids::{Offset, Version};
use crate::domain::mapping::Place;
use crate::domain::moment;
use crate::domain::reducer::TOMBSTONE;

fn places(texts: &[&str]) -> Vec<Place> {
    texts.iter().map(|text| Place::parse(text, "orders").expect("a place")).collect()
}

fn mapping() -> Mapping {
    Mapping {
        aggregate_id: places(&["key", "/aggregateId"]),
        event_type: places(&["/type"]),
        version: Some(places(&["/version"])),
        version_base: 1,
        event_id: places(&["/id"]),
        time: places(&["/timestamp"]),
        data: Some(places(&["/data"])),
    }
}

fn record(key: Option<&str>, value: Option<&str>) -> RawRecord {
    RawRecord {
        offset: Offset(7),
        leader_epoch: 0,
        record_time: Timestamp(1000),
        key: key.map(|key| key.as_bytes().into()),
        value: value.map(|value| value.as_bytes().into()),
        headers: Vec::new(),
    }
}

fn decode(mapping: Mapping, record: RawRecord) -> Result<Event, Undecoded> {
    let decoder = JsonDecoder::new(mapping, Limits::default());
    let route = decoder.route(&record);
    let decoded = decoder.decode(record);
    assert_eq!(route, (decoded.id().cloned(), decoded.time()), "{decoded:?}");
    decoded.content
}

fn code(result: Result<Event, Undecoded>) -> (&'static str, Option<String>) {
    let undecoded = result.expect_err("poison");
    (undecoded.poison.code, undecoded.id.map(|id| id.to_string()))
}

#[test]
fn an_event_is_read_from_its_places() {
    let value = r#"{"id":"e1","type":"Placed","version":3,"timestamp":"2026-11-24T10:00:00+01:00","data":{"a":1.10}}"#;
    let event = decode(mapping(), record(Some("o-1"), Some(value))).expect("an event");
    assert_eq!((&*event.id, event.version), ("o-1", Some(Version(3))));
    assert_eq!((&*event.event_type, event.event_id.as_deref()), ("Placed", Some("e1")));
    assert_eq!(event.time, moment::parse("2026-11-24T09:00:00Z").expect("a time"));
    assert_eq!(event.data.to_json(), r#"{"a":1.10}"#);
}

#[test]
fn the_first_place_that_answers_counts() {
    let value = r#"{"aggregateId":17,"type":"T","version":"4","data":null}"#;
    let event = decode(mapping(), record(None, Some(value))).expect("an event");
    assert_eq!((&*event.id, event.version), ("17", Some(Version(4))));
    assert_eq!((event.time, event.data), (Timestamp(1000), Value::Null));
}

#[test]
fn a_source_that_counts_from_zero_is_shifted_by_one() {
    let mapping = Mapping { version_base: 0, ..mapping() };
    let event = decode(mapping, record(Some("a"), Some(r#"{"type":"T","version":0}"#))).expect("an event");
    assert_eq!(event.version, Some(Version(1)));
}

#[test]
fn bad_parts_are_poison_that_names_its_aggregate() {
    let named = Some("a".to_owned());
    let poison = |value: &str| code(decode(mapping(), record(Some("a"), Some(value))));
    assert_eq!(poison("{"), ("bad-json", named.clone()));
    assert_eq!(poison(r#"{"type":"T","type":"U","version":1}"#), ("bad-json", named.clone()));
    for version in ["0", "-1", "1.5", "\"x\"", "null", "1e400", "{}", "\"+1\""] {
        assert_eq!(
            poison(&format!(r#"{{"type":"T","version":{version}}}"#)),
            ("bad-version", named.clone()),
            "{version}"
        );
    }
    assert_eq!(poison(r#"{"version":1}"#), ("no-event-type", named.clone()));
    for time in ["\"yesterday\"", "1.5", "{}", "9e99", "999999999999999"] {
        let value = format!(r#"{{"type":"T","version":1,"timestamp":{time}}}"#);
        assert_eq!(poison(&value), ("bad-time", named.clone()), "{time}");
    }
}

#[test]
fn a_record_without_a_readable_id_is_poison_of_nobody() {
    let poison = |key: Option<&str>, value| code(decode(mapping(), record(key, value)));
    assert_eq!(poison(None, Some(r#"{"type":"T","version":1}"#)), ("no-aggregate-id", None));
    assert_eq!(poison(None, None), ("no-key-and-value", None));
    assert_eq!(poison(Some(""), Some(r#"{"type":"T","version":1}"#)), ("bad-aggregate-id", None));
    assert_eq!(poison(Some(&"x".repeat(1025)), Some("{}")), ("bad-aggregate-id", None));
}

#[test]
fn a_key_without_a_value_is_a_tombstone_if_the_id_needs_no_value() {
    let event = decode(mapping(), record(Some("a"), None)).expect("an event");
    assert_eq!((&*event.event_type, event.version, event.data), (TOMBSTONE, None, Value::Null));
    let by_value = Mapping { aggregate_id: places(&["/aggregateId"]), ..mapping() };
    assert_eq!(code(decode(by_value, record(Some("a"), None))), ("no-aggregate-id", None));
}

#[test]
fn keys_may_be_json_and_headers_may_answer() {
    let mapping = Mapping {
        aggregate_id: places(&["key:/id"]),
        event_type: places(&["header:type", "const:Changed"]),
        version: None,
        data: None,
        ..mapping()
    };
    let mut with_header = record(Some(r#"{"id":5}"#), Some("{}"));
    let event = decode(mapping.clone(), with_header.clone()).expect("an event");
    assert_eq!((&*event.id, &*event.event_type), ("5", "Changed"));
    with_header.headers =
        vec![("type".into(), Some((*b"Old").into())), ("type".into(), Some((*b"New").into()))];
    let plain =
        JsonDecoder::new(mapping.clone(), Limits::default()).decode(record(Some(r#"{"id":5}"#), Some("{}")));
    let decoded = JsonDecoder::new(mapping, Limits::default()).decode(with_header);
    assert_ne!(decoded.digest, plain.digest, "named headers are part of the digest");
    assert_eq!(&*decoded.content.expect("an event").event_type, "New");
}

/// API.md 4.1: invalid UTF-8 is poison. Another place would fold the event into another aggregate.
#[test]
fn bytes_that_are_no_text_are_an_answer_and_no_other_place_is_asked() {
    let value = r#"{"aggregateId":"other","type":"Placed","version":3,"data":1}"#;
    let mut bad_key = record(None, Some(value));
    bad_key.key = Some(b"o-\xff".as_slice().into());
    assert_eq!(code(decode(mapping(), bad_key)), ("no-aggregate-id", None));

    let by_header = Mapping { event_type: places(&["header:type", "/type"]), ..mapping() };
    let with = |name: &str, value_of: Option<&[u8]>| {
        let mut record = record(Some("o-1"), Some(value));
        record.headers = vec![(name.into(), value_of.map(Into::into))];
        decode(by_header.clone(), record)
    };
    assert_eq!(code(with("type", Some(b"\xed\xa0\x80"))), ("no-event-type", Some("o-1".to_owned())));
    for (name, value_of) in [("type", None), ("other", Some(b"\xff".as_slice()))] {
        assert_eq!(&*with(name, value_of).expect("an event").event_type, "Placed", "{name}");
    }
}
