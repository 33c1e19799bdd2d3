//! Schemas to plans and bytes to values: the examples of the specification, the limits, the wire format.

use super::strategy::{chances, long, sized, types};
use super::*;
use crate::domain::ids::{Offset, Timestamp};
use crate::domain::value::{Limits, Value};
use proptest::collection::vec;
use proptest::prelude::*;

/// Schemas that can be read by.
pub(super) const SCHEMAS: &[&str] = &[
    r#""string""#,
    r#"{"type":"string"}"#,
    r#"{"type":{"type":"string"}}"#,
    "[]",
    r#"["null","long"]"#,
    r#"{"type":"record","name":"LongList","aliases":["LinkedLongs"],"fields":[{"name":"value","type":"long"},{"name":"next","type":["null","LongList"]}]}"#,
    r#"{"type":"enum","name":"Suit","symbols":["SPADES","HEARTS","DIAMONDS","CLUBS"],"default":"SPADES"}"#,
    r#"{"type":"record","name":"a.b.R","doc":"d","fields":[{"name":"f","type":{"type":"fixed","name":"F","size":2},"default":"xx"},
        {"name":"g","type":"F","order":"ignore"},{"name":"h","type":"a.b.F"}]}"#,
    r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"f","type":{"type":"enum","name":"m.E","symbols":["A"]}},{"name":"g","type":"m.E"}]}"#,
    // Logical types that do not fit are no logical types.
    r#"{"type":"string","logicalType":"date"}"#,
    r#"{"type":"bytes","logicalType":"unheard-of"}"#,
];

/// Texts that are none.
pub(super) const NO_SCHEMAS: &[&str] = &[
    "",
    "{",
    "7",
    r#""strin""#,
    "{}",
    r#"{"type":"array"}"#,
    r#"{"type":"map"}"#,
    r#"{"type":"fixed","name":"F"}"#,
    r#"{"type":"enum","name":"E"}"#,
    r#"{"type":"enum","name":"E","symbols":["A","A"]}"#,
    r#"{"type":"enum","name":"E","symbols":["a-b"]}"#,
    r#"{"type":"record","name":"R"}"#,
    r#"{"type":"record","fields":[]}"#,
    r#"{"type":"record","name":"1R","fields":[]}"#,
    r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#,
    r#"{"type":"record","name":"R","fields":[{"type":"int"}]}"#,
    r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
    r#"{"type":"record","name":"R","fields":[{"name":"a","type":"S"}]}"#,
    r#"["null",["int"]]"#,
];

fn plan(schema: &str) -> Plan {
    Plan::parse(schema, &[""; 0]).unwrap()
}

fn read(schema: &str, bytes: &[u8]) -> Result<String, AvroFault> {
    let datum = plan(schema).decode(bytes, &Limits::default());
    datum.map(|datum| datum.value.to_json()).map_err(|error| error.fault)
}

#[test]
fn schemas_are_told_from_what_is_none() {
    for schema in SCHEMAS {
        assert!(Plan::parse(schema, &[""; 0]).is_ok(), "{schema}");
    }
    for schema in NO_SCHEMAS {
        assert!(Plan::parse(schema, &[""; 0]).is_err(), "{schema}");
    }
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(300), "}".repeat(300));
    assert!(Plan::parse(&deep, &[""; 0]).is_err());
}

/// The encoded record of the specification's section on binary encoding, and its other examples there.
#[test]
fn the_examples_of_the_specification_are_read() {
    let test = r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    assert_eq!(read(test, b"\x36\x06foo").unwrap(), r#"{"a":27,"b":"foo"}"#);
    for (bytes, number) in [(&b"\x00"[..], 0), (b"\x01", -1), (b"\x02", 1), (b"\x7f", -64), (b"\x80\x01", 64)]
    {
        assert_eq!(read(r#""long""#, bytes).unwrap(), number.to_string());
    }
    assert_eq!(read(r#"{"type":"array","items":"long"}"#, b"\x04\x06\x36\x00").unwrap(), "[3,27]");
    assert_eq!(read(r#"["null","string"]"#, b"\x00").unwrap(), "null");
    assert_eq!(read(r#"["null","string"]"#, b"\x02\x02a").unwrap(), r#""a""#);
    let suit = r#"{"type":"enum","name":"Suit","symbols":["SPADES","HEARTS"]}"#;
    assert_eq!(read(suit, b"\x02").unwrap(), r#""HEARTS""#);
}

#[test]
fn logical_types_have_their_known_texts() {
    let of = |kind: &str, logical: &str, number: i64| {
        read(&format!(r#"{{"type":"{kind}","logicalType":"{logical}"}}"#), &long(number)).unwrap()
    };
    assert_eq!(of("int", "date", 20_781), r#""2026-11-24""#);
    assert_eq!(of("int", "date", 3_000_000), "3000000");
    assert_eq!(of("int", "time-millis", 36_930_004), r#""10:15:30.004""#);
    assert_eq!(of("int", "time-millis", -1), "-1");
    assert_eq!(of("long", "time-micros", 86_399_999_999), r#""23:59:59.999999""#);
    assert_eq!(of("long", "time-micros", 86_400_000_000), "86400000000");
    assert_eq!(of("long", "timestamp-millis", -1), r#""1969-12-31T23:59:59.999Z""#);
    assert_eq!(of("long", "timestamp-micros", 1_700_000_000_123_456), r#""2023-11-14T22:13:20.123456Z""#);
    assert_eq!(of("long", "timestamp-nanos", i64::MAX), r#""2262-04-11T23:47:16.854775807Z""#);
    assert_eq!(of("long", "timestamp-millis", i64::MAX), i64::MAX.to_string());
    assert_eq!(of("long", "local-timestamp-millis", 0), r#""1970-01-01T00:00:00.000""#);
    let decimal = |scale: usize, bytes: &[u8]| {
        let schema = format!(r#"{{"type":"bytes","logicalType":"decimal","precision":9,"scale":{scale}}}"#);
        read(&schema, &sized(bytes))
    };
    assert_eq!(decimal(2, &[0x04, 0xd2]).unwrap(), "12.34");
    assert_eq!(decimal(2, &[0xff]).unwrap(), "-0.01");
    assert_eq!(decimal(0, &[0x80]).unwrap(), "-128");
    assert_eq!(decimal(3, &[]).unwrap(), "0.000");
    let mut long_one = vec![0; 256];
    long_one[0] = 0x80;
    assert_eq!(decimal(0, &long_one).unwrap().len(), 618);
    long_one.push(0);
    assert_eq!(decimal(0, &long_one), Err(AvroFault::LongDecimal));
}

#[test]
fn types_of_other_schemas_are_known_by_name() {
    let money =
        r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}"#;
    let line = r#"{"type":"record","name":"shop.Line","fields":[{"name":"price","type":"Money"}]}"#;
    let order = r#"{"type":"array","items":"shop.Line"}"#;
    let plan = Plan::parse(order, &[money, line]).unwrap();
    assert_eq!(
        plan.decode(b"\x02\x0a\x00", &Limits::default()).unwrap().value.to_json(),
        r#"[{"price":{"cents":5}}]"#
    );
    assert!(Plan::parse(order, &[line, money]).is_err());
}

#[test]
fn damaged_bytes_are_told_by_their_fault() {
    use AvroFault::*;
    let int = r#""int""#;
    let string = r#""string""#;
    let map = r#"{"type":"map","values":"int"}"#;
    for (schema, bytes, fault) in [
        (int, &b""[..], UnexpectedEnd),
        (int, b"\x80", UnexpectedEnd),
        (int, b"\x02\x02", TrailingBytes),
        (int, b"\x80\x80\x80\x80\x10", BadNumber),
        (r#""long""#, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", BadNumber),
        (r#""long""#, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", BadNumber),
        (r#""boolean""#, b"\x02", BadBoolean),
        (string, b"\x01", BadLength),
        (string, b"\xfe\xff\xff\xff\x0f", UnexpectedEnd),
        (string, b"\x02\xff", InvalidUtf8),
        (r#"["null"]"#, b"\x02", NoSuchBranch),
        (r#"["null"]"#, b"\x01", NoSuchBranch),
        ("[]", b"\x00", NoSuchBranch),
        (map, b"\x04\x02a\x02\x02a\x02\x00", DuplicateName),
        (
            r#"{"type":"array","items":"null"}"#,
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
            TooManyMembers,
        ),
        (
            r#"{"type":"array","items":"null"}"#,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
            TooManyMembers,
        ),
    ] {
        assert_eq!(read(schema, bytes), Err(fault), "{schema} {bytes:?}");
    }
}

/// Goal: a schema cannot make few bytes a large value. Method: types that take no bytes, again and again.
#[test]
fn what_takes_no_bytes_is_limited_all_the_same() {
    let limits = Limits { max_bytes: 10_000, max_depth: 20, max_members: 1_000 };
    let fault = |schema: &str, bytes: &[u8]| plan(schema).decode(bytes, &limits).map_err(|error| error.fault);
    let endless = r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#;
    assert_eq!(fault(endless, b""), Err(AvroFault::TooDeep));
    let twice = |level: usize| {
        format!(
            r#"{{"name":"R{level}","type":"record","fields":[{{"name":"a","type":"R{}"}},{{"name":"b","type":"R{}"}}]}}"#,
            level - 1,
            level - 1
        )
    };
    let mut doubling = vec![r#"{"name":"R0","type":"record","fields":[]}"#.to_owned()];
    doubling.extend((1..19).map(twice));
    let plan_of_doubling = Plan::parse(r#""R18""#, &doubling).unwrap();
    assert_eq!(
        plan_of_doubling.decode(b"", &limits).map_err(|error| error.fault),
        Err(AvroFault::TooManyMembers)
    );
    let nulls = r#"{"type":"array","items":"null"}"#;
    assert_eq!(fault(nulls, &[long(1_001), vec![0]].concat()), Err(AvroFault::TooManyMembers));
    assert!(fault(nulls, &[long(1_000), vec![0]].concat()).is_ok());
    let long_name = format!(
        r#"{{"type":"array","items":{{"type":"record","name":"R","fields":[{{"name":"{}","type":"null"}}]}}}}"#,
        "n".repeat(500)
    );
    assert_eq!(fault(&long_name, &[long(100), vec![0]].concat()), Err(AvroFault::TooLong));
    assert_eq!(fault(r#""bytes""#, &sized(&[0xff; 5_001])), Err(AvroFault::TooLong));
    assert_eq!(fault(r#""string""#, &[0; 10_001]), Err(AvroFault::TooLong));
}

#[test]
fn recursion_ends_at_the_limit_of_json() {
    let list = r#"{"type":"record","name":"L","fields":[{"name":"n","type":["null","L"]}]}"#;
    let limits = Limits { max_depth: usize::MAX, ..Limits::default() };
    let at = |depth: usize| plan(list).decode(&[&[2].repeat(depth - 1)[..], &[0]].concat(), &limits);
    assert_eq!(at(Limits::DEPTH_MAX).unwrap().value.depth(), Limits::DEPTH_MAX);
    assert_eq!(at(Limits::DEPTH_MAX + 1).unwrap_err().fault, AvroFault::TooDeep);
}

#[test]
fn the_wire_format_says_which_schema() {
    let record = |value: &[u8], header: Option<&[u8]>| RawRecord {
        offset: Offset(0),
        leader_epoch: 0,
        record_time: Timestamp(0),
        key: None,
        value: Some(value.into()),
        headers: header.map(|header| (VALUE_SCHEMA.into(), Some(header.into()))).into_iter().collect(),
    };
    let framed = |value: &[u8], header: Option<&[u8]>| {
        let record = record(value, header);
        let framed = framed_value(&record).map_err(|poison| poison.code)?;
        Ok(framed.map(|framed| (framed.id.to_string(), framed.body.to_vec())))
    };
    let found = |id: &str, body: &[u8]| Ok(Some((id.to_owned(), body.to_vec())));
    assert_eq!(framed(b"\0\0\0\x01\x02x", None), found("258", b"x"));
    assert_eq!(framed(b"\0\0\0\x01\x02", None), found("258", b""));
    assert_eq!(framed(b"\0\0\0\x01", None), Ok(None));
    assert_eq!(framed(b"{}", None), Ok(None));
    assert_eq!(framed(b"\0x", Some(b"\0\0\0\0\x07")), found("7", b"\0x"));
    let guid = b"\x01\x06\x7e\x61\x62\x3b\x6f\x4a\xe2\xa1\x71\x24\x70\xb6\x3d\xff\x00";
    assert_eq!(framed(b"x", Some(guid)), found("067e6162-3b6f-4ae2-a171-2470b63dff00", b"x"));
    for header in [&b""[..], b"\0", b"\0\0\0\0\0\0", b"\x01\0", b"\x02\0\0\0\0"] {
        assert_eq!(framed(b"x", Some(header)), Err("bad-avro"));
    }
}

proptest! {
    #[test]
    fn a_datum_is_read_as_the_value_it_was_written_from(of in types(), chance in chances()) {
        let (bytes, value) = of.datum(&mut chance.clone());
        let datum = plan(&of.schema()).decode(&bytes, &Limits::default()).unwrap();
        prop_assert_eq!(datum.json_len, value.to_json().len());
        prop_assert_eq!(datum.value, value);
        for end in 0..bytes.len() {
            prop_assert!(plan(&of.schema()).decode(&bytes[..end], &Limits::default()).is_err());
        }
    }

    #[test]
    fn garbage_is_an_error_or_a_value_within_the_limits(of in types(), bytes in vec(any::<u8>(), 0..80)) {
        let limits = Limits { max_bytes: 200, max_depth: 3, max_members: 20 };
        if let Ok(datum) = plan(&of.schema()).decode(&bytes, &limits) {
            let text = datum.value.to_json();
            prop_assert_eq!(text.len(), datum.json_len);
            prop_assert_eq!(Value::parse(text.as_bytes(), &limits), Ok(datum.value));
        }
    }
}
